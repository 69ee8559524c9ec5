//! A FHIR R4 server as the engine's [`FhirServer`]: reads, and change lists by `_lastUpdated`.
//!
//! * [`flavour`]: how vendors differ, one value each.
//! * `auth`: signing in.
//! * `search`: a change list, page by page, so that nothing is missed.
//! * `outcome`: what an answer other than success means.
//! * `diagnose`: the check-up.
//!
//! URLs that are made here hold types, ids, times and result parameters: nothing of a patient.

mod auth;
mod diagnose;
pub mod flavour;
mod outcome;
mod search;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{Changes, Clock, FhirServer, PageToken, Read, Resource},
};
use jiff::Timestamp;
use reqwest::{
    RequestBuilder, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, ETAG},
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use url::Url;

use auth::Tokens;
pub use auth::{Credentials, SecretIn, SignIn};
pub use flavour::Flavour;
use outcome::{Answer, Asked};

use super::transport::{self, NoAnswer, Trust};

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

/// The client. All calls share one pool of connections, one token and one view of the server's quota.
pub struct FhirClient {
    http: reqwest::Client,
    base: Url,
    flavour: &'static Flavour,
    page: u32,
    probe: ResourceType,
    tokens: Option<Tokens>,
    clock: Arc<dyn Clock>,
    /// Until when nothing is sent, because the quota is used up: a server that is hammered meanwhile only starts over.
    held_until: Mutex<Duration>,
    /// Set once rows came without `meta.versionId`: `_elements` would cut off what tells two versions apart.
    unversioned: AtomicBool,
}

/// One call, so that it can be sent a second time with another token.
enum Call {
    Get(Url),
    Form(Url, Vec<(&'static str, String)>),
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
        let tokens = Tokens::new(&config.sign_in, credentials, &config.trust, config.timeout, Arc::clone(&clock))?;
        Ok(Self {
            http,
            base,
            flavour: config.flavour,
            page: config.page.unwrap_or(config.flavour.page).clamp(1, config.flavour.max_page),
            probe: config.probe,
            tokens,
            clock,
            held_until: Mutex::default(),
            unversioned: AtomicBool::new(false),
        })
    }

    /// Sends a call with the token of the day; a token that is refused is replaced once.
    async fn call(&self, call: &Call) -> Result<Answer, Fault> {
        self.check_hold()?;
        let Some(tokens) = &self.tokens else {
            return self.send(self.request(call)).await;
        };
        let token = tokens.token().await?;
        let answer = self.send(self.request(call).header(AUTHORIZATION, token.header.clone())).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = tokens.replace(&token).await?;
        self.send(self.request(call).header(AUTHORIZATION, token.header)).await
    }

    fn request(&self, call: &Call) -> RequestBuilder {
        let request = match call {
            Call::Get(url) => self.http.get(url.clone()),
            Call::Form(url, form) => self.http.post(url.clone()).form(form),
        };
        // Without no-cache HAPI answers a repeated search from a result up to 60 s old.
        let request = request.header(ACCEPT, "application/fhir+json").header(CACHE_CONTROL, "no-cache");
        if self.flavour.strict { request.header("prefer", "handling=strict") } else { request }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Fault> {
        // The error itself is dropped: it holds the URL.
        let failed = |error: reqwest::Error| NoAnswer::of(&error).fault();
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                let what = format!("HTTP {}, more than {} MiB", status.as_u16(), LONGEST_ANSWER >> 20);
                return Err(Fault::new(Class::Permanent, Code::BadAnswer).vendor(what));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer { status, headers, body };
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
        let etag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).and_then(entity_tag);
        let version = version(&json).or(etag).unwrap_or_else(|| content_version(&json));
        Ok(Read::Found(Resource { resource: resource.clone(), id: id.clone(), version, json }))
    }
}

#[async_trait]
impl FhirServer for FhirClient {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        let on = |fault| concerning(fault, resource);
        let answer = self.call(&Call::Get(self.url(&format!("{resource}/{id}"))?)).await.map_err(on)?;
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

    /// A search for one id: unlike `metadata`, no server gives that without a sign-in.
    async fn probe(&self) -> Result<(), Fault> {
        self.glance(&self.probe).await.map(drop).map_err(|fault| concerning(fault, &self.probe))
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

/// The version inside `W/"3"` or `"3"`.
fn entity_tag(tag: &str) -> Option<String> {
    let inner = tag.trim().trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"')?;
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// What stands in for the version on a server that gives none: half of the SHA-256 over the resource as it came. Two
/// versions that are equal in every byte count as one, which is harmless: there is nothing to copy between them.
fn content_version(resource: &Json) -> String {
    let digest = Sha256::digest(resource.to_string());
    let half: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("content-{half}")
}

impl fmt::Debug for FhirClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FhirClient")
            .field("base", &self.base.as_str())
            .field("flavour", &self.flavour.name)
            .finish_non_exhaustive()
    }
}
