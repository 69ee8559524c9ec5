//! A FHIR R4 server as the engine's [`FhirServer`]: reads, change lists by `_lastUpdated`, and guarded writes.
//!
//! * [`flavour`]: how vendors differ, one value each.
//! * `auth`: signing in.
//! * `search`: a list of what changed, page by page, so that nothing is missed.
//! * [`ehr`]: encounters and documents of an EHR that is watched.
//! * `write`: updates and creations, each guarded, and what becomes of one whose answer is lost.
//! * [`subscription`], [`listen`]: having the server tell of changes by itself, by rest-hooks and by a WebSocket.
//! * `outcome`: what an answer other than success means.
//! * `diagnose`, `ehr_check`: the check-ups.
//!
//! URLs that are made here hold types, ids, times and result parameters: nothing that says who a patient is. A search by name,
//! birthday or number goes by POST, whatever the flavour.

mod auth;
mod diagnose;
pub mod ehr;
mod ehr_check;
pub mod flavour;
pub mod listen;
mod outcome;
mod search;
pub mod subscription;
mod write;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{
        Budget, Changes, Clock, Created, FhirServer, Identifier, Matching, PageToken, Purpose, Read, Resource,
        Unlimited,
    },
    server_clock::{Heard, ServerClock},
};
use jiff::{Timestamp, tz::TimeZone};
use reqwest::{
    Method, Request, RequestBuilder, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use url::Url;

pub use auth::{Credentials, SecretIn, SignIn, signer};
use auth::{Door, Token, Tokens, signer::Signer};
pub use ehr::{EhrClient, EhrConfig};
pub use flavour::Flavour;
use outcome::{Answer, Asked};

use super::{
    secret::Secret,
    transport::{self, NoAnswer, Trust},
};

/// The longest answer that is read, in bytes. A resource with an image inside may have tens of megabytes.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How to reach a FHIR server.
#[derive(Debug, Clone)]
pub struct FhirConfig {
    /// Base address (`[base]` of the standard): https, or http on this machine.
    pub base_url: String,
    pub flavour: &'static Flavour,
    pub sign_in: SignIn,
    pub trust: Trust,
    /// For one call, answer included. Some 60 s are usual.
    pub timeout: Duration,
    /// Rows per page of a change list; `None` is the flavour's own figure.
    pub page: Option<u32>,
    /// The type that [`FhirServer::probe`] searches: one that the relay may read.
    pub probe: ResourceType,
}

/// Why something is asked, and how long an answer is read to the end.
#[derive(Debug, Clone, Copy)]
struct Asking {
    purpose: Purpose,
    longest: usize,
}

impl Asking {
    const WORK: Self = Self { purpose: Purpose::Work, longest: LONGEST_ANSWER };
}

/// The client. All calls share one pool of connections, one token and one view of the server's quota.
pub struct FhirClient {
    http: reqwest::Client,
    base: Url,
    flavour: &'static Flavour,
    page: u32,
    probe: ResourceType,
    access: Access,
    server_clock: ServerClock,
    clock: Arc<dyn Clock>,
    trust: Trust,
    timeout: Duration,
    /// Until when nothing is sent, because the quota is used up: a server that is hammered meanwhile only starts over.
    held_until: Mutex<Duration>,
    /// Set once rows came without `meta.versionId`: `_elements` would cut off what tells two versions apart.
    unversioned: AtomicBool,
    budget: Arc<dyn Budget>,
    /// Goes with every request, as `x-api-key`.
    api_key: Option<HeaderValue>,
    zone: TimeZone,
}

/// What lets a request in.
enum Access {
    Anybody,
    Bearer(Tokens),
    Signed(Signer),
}

/// One call, so that it can be sent a second time with another token.
enum Call {
    Get(Url),
    Form(Url, Vec<(&'static str, String)>),
    Write(Write),
}

/// A call that changes something.
struct Write {
    method: Method,
    url: Url,
    /// `None` only for subscriptions of our own, of which two do no harm.
    guard: Option<(HeaderName, HeaderValue)>,
    body: String,
}

impl FhirClient {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// `Stop` with the setting as its subject: `base_url`, `token_url`, `sign_in`, `client_secret`, or a CA file that
    /// cannot be read (`CertificateRefused`).
    pub fn new(config: FhirConfig, credentials: Credentials, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let base = transport::base("base_url", &config.base_url)?;
        if config.sign_in == SignIn::Nobody && !transport::is_loopback(&base) {
            let what = "a server elsewhere needs a sign-in";
            return Err(Fault::new(Class::Stop, Code::Rejected).on("sign_in").vendor(what));
        }
        let http = transport::build(transport::client(&base, &config.trust)?.timeout(config.timeout))?;
        let access = match (&config.sign_in, credentials) {
            (SignIn::Nobody, _) => Access::Anybody,
            (SignIn::Aws { region }, Credentials::Aws(account)) => {
                Access::Signed(Signer::new(*account, region, clock.clone()))
            }
            (sign_in, credentials) => {
                let door = Door { base: &base, trust: &config.trust, timeout: config.timeout };
                Access::Bearer(Tokens::new(sign_in, credentials, &door, clock.clone())?)
            }
        };
        Ok(Self {
            http,
            base,
            flavour: config.flavour,
            page: config.page.unwrap_or(config.flavour.page).clamp(1, config.flavour.max_page),
            probe: config.probe,
            access,
            server_clock: ServerClock::new(clock.clone()),
            clock,
            trust: config.trust,
            timeout: config.timeout,
            held_until: Mutex::default(),
            unversioned: AtomicBool::new(false),
            budget: Arc::new(Unlimited),
            api_key: None,
            zone: TimeZone::UTC,
        })
    }

    /// With an API key in the header of every request.
    ///
    /// # Errors
    /// `Stop` on `api_key`: it holds what no header can.
    fn with_api_key(self, key: &Secret) -> Result<Self, Fault> {
        let refused =
            |_| Fault::new(Class::Stop, Code::Rejected).on("api_key").vendor("characters that a header cannot hold");
        let mut key = HeaderValue::from_str(key.reveal()).map_err(refused)?;
        key.set_sensitive(true);
        Ok(Self { api_key: Some(key), ..self })
    }

    /// Sends a call with the token of the day; a token that is refused is replaced once.
    async fn call(&self, call: &Call, asking: Asking) -> Result<Answer, Fault> {
        self.check_hold()?;
        let tokens = match &self.access {
            Access::Anybody => {
                self.budget.permit(asking.purpose).await?;
                return self.send(call, None, asking).await;
            }
            Access::Signed(signer) => {
                self.budget.permit(asking.purpose).await?;
                let answer = self.send(call, None, asking).await?;
                if !signer.was_early_or_late(&answer) {
                    return Ok(answer);
                }
                self.budget.permit(asking.purpose).await?;
                return self.send(call, None, asking).await;
            }
            Access::Bearer(tokens) => tokens,
        };
        // A sign-in takes its time, and a permit is for now; while it is waited for, a token may come to its end.
        tokens.token().await?;
        self.budget.permit(asking.purpose).await?;
        let token = tokens.token().await?;
        let answer = self.send(call, Some(&token), asking).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = tokens.replace(&token).await?;
        self.budget.permit(asking.purpose).await?;
        self.send(call, Some(&token), asking).await
    }

    /// With its token or its signature.
    async fn ready(&self, call: &Call, token: Option<&Token>) -> Result<Request, Fault> {
        let mut request = self.request(call);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        let mut request = request.build().map_err(|_| Fault::new(Class::Stop, Code::Rejected).on("base_url"))?;
        if let Access::Signed(signer) = &self.access {
            Box::pin(signer.sign(&mut request)).await?;
        }
        Ok(request)
    }

    fn request(&self, call: &Call) -> RequestBuilder {
        let request = match call {
            Call::Get(url) => self.http.get(url.clone()),
            Call::Form(url, form) => self.http.post(url.clone()).form(form),
            Call::Write(Write { method, url, guard, body }) => {
                let request = self.http.request(method.clone(), url.clone()).headers(guard.iter().cloned().collect());
                // What the server kept is read when it is needed; its version comes in a header.
                let request = request.header(CONTENT_TYPE, "application/fhir+json").header("prefer", "return=minimal");
                return request.header(ACCEPT, "application/fhir+json").body(body.clone());
            }
        };
        // Without no-cache HAPI answers a repeated search from a result up to 60 s old.
        let request = request.header(ACCEPT, "application/fhir+json").header(CACHE_CONTROL, "no-cache");
        let request = match &self.api_key {
            Some(key) => request.header("x-api-key", key.clone()),
            None => request,
        };
        if self.flavour.strict { request.header("prefer", "handling=strict") } else { request }
    }

    async fn send(&self, call: &Call, token: Option<&Token>, asking: Asking) -> Result<Answer, Fault> {
        let request = self.ready(call, token).await?;
        let writes = matches!(call, Call::Write(_));
        // The error itself is dropped: it holds the URL.
        let failed = |error: reqwest::Error| match NoAnswer::of(&error) {
            lost if writes && lost.may_have_arrived() => write::unknown("no answer"),
            lost => lost.fault(),
        };
        let asked = self.server_clock.asked();
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > asking.longest {
                let what = format!("HTTP {}, more than {} MiB", status.as_u16(), asking.longest >> 20);
                if writes {
                    return Err(write::unknown(what));
                }
                return Err(Fault::new(Class::Permanent, Code::TooLarge).vendor(what));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer { status, headers, body };
        if let Some(date) = answer.date() {
            self.server_clock.answered(asked, date);
        }
        self.budget.answered(answer.said(self.flavour, self.clock.now()));
        let hold = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => answer.wait(self.clock.now()),
            _ => answer.hold_back(self.flavour),
        };
        if let Some(hold) = hold {
            let until = self.clock.elapsed() + hold;
            let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
            *held_until = until.max(*held_until);
        }
        Ok(answer)
    }

    fn check_hold(&self) -> Result<(), Fault> {
        let until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_sub(self.clock.elapsed());
        if left.is_zero() { Ok(()) } else { Err(Fault::new(Class::Wait(Some(left)), Code::Throttled)) }
    }

    fn url(&self, path: &str) -> Result<Url, Fault> {
        self.base.join(path).map_err(|_| Fault::new(Class::Stop, Code::Rejected).on("base_url"))
    }

    fn found(&self, resource: &ResourceType, id: &ResourceId, answer: &Answer) -> Result<Read, Fault> {
        let json = answer.json()?;
        if json["resourceType"] != resource.as_str() || json["id"] != id.as_str() {
            // Never taken for the one asked for, whoever mixed them up.
            return Err(Fault::new(Class::Retry, Code::BadAnswer).vendor("HTTP 200, another resource"));
        }
        let version = version(&json).or_else(|| answer.entity_tag()).unwrap_or_else(|| content_version(&json));
        let last_updated = search::instant(&json["meta"]["lastUpdated"]);
        Ok(Read::Found(Resource { resource: resource.clone(), id: id.clone(), version, last_updated, json }))
    }
}

#[async_trait]
impl FhirServer for FhirClient {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        let on = |fault| concerning(fault, resource);
        let answer = self.call(&Call::Get(self.url(&format!("{resource}/{id}"))?), Asking::WORK).await.map_err(on)?;
        match answer.status {
            StatusCode::OK => self.found(resource, id, &answer).map_err(on),
            StatusCode::GONE => Ok(Read::Gone),
            StatusCode::NOT_FOUND => match answer.fault(Asked::Search, self.clock.now()) {
                fault if fault.code == Code::Rejected && !answer.says("not-supported") => Ok(Read::Missing),
                // The type is not served at all, or a box on the way answered: that says nothing about this one.
                fault => Err(on(fault)),
            },
            StatusCode::FORBIDDEN => {
                let fault = answer.fault(Asked::Read, self.clock.now());
                // One resource that we may not see is that record's trouble. If we may not see the type, the next thousand
                // reads would end the same way, and none of those records is to blame.
                match self.glance(resource).await {
                    Err(all) if all.code == Code::AccessDenied => Err(on(all)),
                    _ => Err(on(fault)),
                }
            }
            _ => Err(on(answer.fault(Asked::Read, self.clock.now()))),
        }
    }

    async fn read_version(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        version: &str,
    ) -> Result<Option<Resource>, Fault> {
        let on = |fault| concerning(fault, resource);
        // What is no FHIR id is a version of our own making, for a server that gives none.
        if ResourceId::new(version).is_err() {
            return Ok(None);
        }
        let url = self.url(&format!("{resource}/{id}/_history/{version}"))?;
        let answer = self.call(&Call::Get(url), Asking::WORK).await.map_err(on)?;
        match answer.status {
            StatusCode::OK => match self.found(resource, id, &answer).map_err(on)? {
                Read::Found(found) if found.version == version => Ok(Some(found)),
                _ => Ok(None),
            },
            // It was deleted then, was never there, or is not kept (FHIR R4, http.html#vread).
            StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(None),
            _ => Err(on(answer.fault(Asked::Read, self.clock.now()))),
        }
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.page_of_changes(resource, since, page).await.map_err(|fault| match fault.class {
            // There is no one record to blame.
            Class::Permanent => concerning(Fault { class: Class::Stop, ..fault }, resource),
            _ => concerning(fault, resource),
        })
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        self.put(resource, id, expected, json).await.map_err(|fault| concerning(fault, resource))
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        self.post(resource, json, identifier).await.map_err(|fault| concerning(fault, resource))
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.look_for(resource, by).await.map_err(|fault| concerning(fault, resource))
    }

    /// A search for one id: unlike `metadata`, no server gives that without a sign-in.
    async fn probe(&self) -> Result<(), Fault> {
        self.glance(&self.probe).await.map(drop).map_err(|fault| concerning(fault, &self.probe))
    }

    fn server_clock(&self) -> Option<Heard> {
        self.server_clock.heard()
    }

    /// The time-out and half a minute: what a server was still working on when we gave up is committed or dropped by then (no
    /// server documents it). A write that lands later still meets its guard.
    fn write_horizon(&self) -> Duration {
        self.timeout + Duration::from_secs(30)
    }
}

/// Names the type that was asked for, unless the fault is elsewhere, such as at the token endpoint.
fn concerning(fault: Fault, resource: &ResourceType) -> Fault {
    if fault.subject.is_some() { fault } else { fault.on(resource.as_str()) }
}

/// `meta.versionId`.
fn version(resource: &Json) -> Option<String> {
    resource["meta"]["versionId"].as_str().filter(|version| !version.is_empty()).map(str::to_owned)
}

/// What marks a version that stands in for one, see [`content_version`]: no write can be guarded with it.
const STAND_IN: &str = "content-";

/// What stands in for the version on a server that gives none: half of the SHA-256 over the resource as it came. Two
/// versions that are equal in every byte count as one, which is harmless: there is nothing to copy between them.
fn content_version(resource: &Json) -> String {
    let digest = Sha256::digest(resource.to_string());
    let half: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{STAND_IN}{half}")
}

impl fmt::Debug for FhirClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FhirClient")
            .field("base", &self.base.as_str())
            .field("flavour", &self.flavour.name)
            .finish_non_exhaustive()
    }
}
