//! What is asked of a token endpoint, and its answer (RFC 6749 sections 4.3, 4.4, 5 and 6).

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use engine::{
    error::{Class, Code, Fault},
    ports::{Budget, Clock, Granted, Purpose},
};
use reqwest::header::HeaderValue;
use serde_json::Value as Json;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{
    Credentials, Door, SecretIn, SignIn, TheirTime,
    statement::{ASSERTION_TYPE, SigningKey},
};
use crate::adapters::{
    fhir::{
        flavour::Flavour,
        outcome::{Answer, plain_code},
    },
    secret::Secret,
    transport::{self, NoAnswer},
};

/// The life of a token whose answer does not name one.
const ASSUMED_LIFE: Duration = Duration::from_secs(300);
/// No answer of a token endpoint is longer.
const LONGEST: usize = 1024 * 1024;
/// Where a server names its token endpoint (SMART App Launch, conformance).
const DISCOVERY: &str = ".well-known/smart-configuration";

/// One server's token endpoint, and who asks there.
pub(super) struct TokenEndpoint {
    http: reqwest::Client,
    /// Empty until it was discovered.
    url: OnceLock<Url>,
    base: Url,
    way: Way,
    scope: Option<String>,
    clock: Arc<dyn Clock>,
    time: TheirTime,
    /// Where sign-ins count.
    budget: Option<Arc<dyn Budget>>,
    api_key: Option<HeaderValue>,
}

/// Who asks, and what proves it.
enum Way {
    Client(Client),
    Statement { client_id: String, key: SigningKey },
    Refresh { client: Client, first: Secret },
    Password { account: String, password: Secret },
}

struct Client {
    id: String,
    /// A public client has none.
    secret: Option<Secret>,
    secret_in: SecretIn,
}

impl TokenEndpoint {
    pub(super) fn new(
        sign_in: &SignIn,
        credentials: Credentials,
        door: &Door<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let missing = || Fault::new(Class::Stop, Code::SecretMissing).on("client_secret");
        let client =
            |id: &String, secret, secret_in: &SecretIn| Client { id: id.clone(), secret, secret_in: *secret_in };
        let (token_url, scope, way) = match (sign_in, credentials) {
            (
                SignIn::ClientCredentials { token_url, client_id, secret_in, scope },
                Credentials::ClientSecret(secret),
            ) => (Some(token_url), scope.clone(), Way::Client(client(client_id, Some(secret), secret_in))),
            (SignIn::Statement { token_url, client_id, key_id, scope }, Credentials::Key(key)) => {
                let key = SigningKey::read(&key, key_id.clone())?;
                (token_url.as_ref(), scope.clone(), Way::Statement { client_id: client_id.clone(), key })
            }
            (
                SignIn::RefreshToken { token_url, client_id, secret_in, scope },
                Credentials::Refresh { secret, first },
            ) => {
                let client = client(client_id, secret, secret_in);
                (Some(token_url), scope.clone(), Way::Refresh { client, first })
            }
            (SignIn::Password { token_url, account }, Credentials::Password(password)) => {
                (Some(token_url), None, Way::Password { account: account.clone(), password })
            }
            _ => return Err(missing()),
        };
        let url = OnceLock::new();
        let http = match token_url {
            Some(token_url) => {
                let base = transport::base("token_url", token_url)?;
                // `base` ends paths with a slash; a token address is used as it is written.
                let exact = Url::parse(token_url);
                let _ = url.set(exact.map_err(|_| Fault::new(Class::Stop, Code::Rejected).on("token_url"))?);
                transport::client(&base, door.trust)?
            }
            None => transport::client(door.base, door.trust)?,
        };
        Ok(Self {
            http: transport::build(http.timeout(door.timeout))?,
            url,
            base: door.base.clone(),
            way,
            scope,
            time: TheirTime::new(clock.clone()),
            clock,
            budget: None,
            api_key: None,
        })
    }

    pub(super) fn count(&mut self, budget: &Arc<dyn Budget>, api_key: Option<&HeaderValue>) {
        if self.url.get().is_none_or(|url| url.origin() == self.base.origin()) {
            self.budget = Some(budget.clone());
            self.api_key = api_key.cloned();
        }
    }

    /// Asks for a token; `before` is what was granted last.
    pub(super) async fn sign_in(&self, before: Option<&Granted>) -> Result<Granted, Fault> {
        let url = self.url().await?;
        let Way::Refresh { first, .. } = &self.way else {
            let granted = self.ask(&url, None).await;
            // A statement counts only near its time.
            return match granted {
                Err((fault, true))
                    if matches!(self.way, Way::Statement { .. }) && fault.code == Code::SignInRefused =>
                {
                    self.ask(&url, None).await.map_err(|(fault, _)| fault)
                }
                granted => granted.map_err(|(fault, _)| fault),
            };
        };
        let newest = before.and_then(|before| before.refresh.as_ref()).map(|token| token.as_str());
        let token = newest.unwrap_or(first.reveal());
        match self.ask(&url, Some(token)).await {
            // A person may have put a fresh one in.
            Err((fault, _)) if fault.code == Code::SignInRefused && token != first.reveal() => {
                self.ask(&url, Some(first.reveal())).await.map_err(|_| fault)
            }
            granted => granted.map_err(|(fault, _)| fault),
        }
    }

    async fn url(&self) -> Result<Url, Fault> {
        if let Some(url) = self.url.get() {
            return Ok(url.clone());
        }
        let fault = |class, code| Fault::new(class, code).on("token_url");
        let place = self.base.join(DISCOVERY).map_err(|_| fault(Class::Stop, Code::Rejected))?;
        let answer = self.send(self.http.get(place).header("Accept", "application/json")).await?;
        if !answer.status.is_success() {
            let what = format!("HTTP {} for {DISCOVERY}", answer.status.as_u16());
            let class = if answer.status.is_server_error() { Class::Away } else { Class::Stop };
            return Err(fault(class, Code::Rejected).vendor(what));
        }
        let said = answer.json().map_err(|fault| fault.on("token_url"))?;
        let named = said["token_endpoint"].as_str().unwrap_or_default();
        // What is sent there proves who we are: only over https, or on this machine.
        transport::base("token_url", named)?;
        let url = Url::parse(named).map_err(|_| fault(Class::Stop, Code::Rejected))?;
        Ok(self.url.get_or_init(|| url).clone())
    }

    /// Also tells whether the clock had been wrong.
    async fn ask(&self, url: &Url, refresh: Option<&str>) -> Result<Granted, (Fault, bool)> {
        let answer = self.send(self.form(url, refresh).map_err(|fault| (fault, false))?).await;
        let answer = answer.map_err(|fault| (fault, false))?;
        let wrong_clock = self.time.was_wrong(&answer);
        self.read(&answer, refresh).map_err(|fault| (fault, wrong_clock))
    }

    fn form(&self, url: &Url, refresh: Option<&str>) -> Result<reqwest::RequestBuilder, Fault> {
        let mut request = self.http.post(url.clone()).header("Accept", "application/json");
        if let Some(key) = &self.api_key {
            request = request.header("x-api-key", key.clone());
        }
        let mut form: Vec<(&str, Zeroizing<String>)> = Vec::new();
        let mut add = |name, text: &str| form.push((name, Zeroizing::new(text.to_owned())));
        if let Some(scope) = &self.scope {
            add("scope", scope);
        }
        let client = match &self.way {
            Way::Client(client) => {
                add("grant_type", "client_credentials");
                Some(client)
            }
            Way::Refresh { client, .. } => {
                add("grant_type", "refresh_token");
                add("refresh_token", refresh.unwrap_or_default());
                Some(client)
            }
            Way::Statement { client_id, key } => {
                add("grant_type", "client_credentials");
                add("client_assertion_type", ASSERTION_TYPE);
                add("client_assertion", &key.statement(client_id, url.as_str(), self.time.now())?);
                None
            }
            Way::Password { account, password } => {
                add("grant_type", "password");
                add("username", account);
                add("password", password.reveal());
                None
            }
        };
        if let Some(client) = client {
            match (&client.secret, client.secret_in) {
                (Some(secret), SecretIn::Basic) => {
                    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                    request = request.basic_auth(encoded(&client.id), Some(encoded(secret.reveal())));
                }
                (secret, _) => {
                    add("client_id", &client.id);
                    if let Some(secret) = secret {
                        add("client_secret", secret.reveal());
                    }
                }
            }
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(name, text)| (*name, text.as_str())).collect();
        Ok(request.form(&form))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, Fault> {
        if let Some(budget) = &self.budget {
            budget.permit(Purpose::Work).await?;
        }
        let failed = |error: reqwest::Error| NoAnswer::of(&error).fault().on("token_url");
        let mut answer = request.send().await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(Fault::new(Class::Away, Code::TooLarge).on("token_url"));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer { status, headers, body };
        if let Some(budget) = &self.budget {
            budget.answered(answer.said(&Flavour::GENERIC, self.clock.now()));
        }
        Ok(answer)
    }

    /// Reads the answer of RFC 6749 sections 5.1 and 5.2.
    fn read(&self, answer: &Answer, refresh: Option<&str>) -> Result<Granted, Fault> {
        let status = answer.status.as_u16();
        let fault = |class, code| Fault::new(class, code).on("token_url").vendor(format!("HTTP {status}"));
        if !answer.status.is_success() {
            return Err(match status {
                429 => fault(Class::Wait(answer.wait(self.clock.now())), Code::Throttled),
                408 | 500..600 => fault(Class::Away, Code::ServerError),
                _ if answer.is_html() => fault(Class::Away, Code::WebPage),
                // Any other 4xx is a refusal: Medplum answers a wrong secret with 400 `invalid_request`, others with 401.
                _ => {
                    let error: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
                    let code = error["error"].as_str().and_then(plain_code).map(|code| format!(" {code}"));
                    fault(Class::Stop, Code::SignInRefused).vendor(format!("HTTP {status}{}", code.unwrap_or_default()))
                }
            });
        }
        let granted = answer.json().map_err(|fault| Fault { class: Class::Away, ..fault }.on("token_url"))?;
        let is_bearer = granted["token_type"].as_str().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let text = granted["access_token"].as_str().filter(|text| is_bearer && !text.is_empty());
        let Some(access) = text.filter(|text| HeaderValue::from_str(text).is_ok()) else {
            return Err(fault(Class::Away, Code::BadAnswer));
        };
        let life = match &granted["expires_in"] {
            Json::Number(seconds) => seconds.as_u64(),
            Json::String(seconds) => seconds.parse().ok(),
            _ => None,
        };
        // A server that says 0 would have us ask for every call.
        let life =
            life.map_or(ASSUMED_LIFE, Duration::from_secs).clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        let kept = |text: &str| Zeroizing::new(text.to_owned());
        // One that brings no other goes on.
        let refresh = refresh.map(|used| kept(granted["refresh_token"].as_str().unwrap_or(used)));
        Ok(Granted { access: kept(access), refresh, life })
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.get().and_then(Url::host_str);
        f.debug_struct("TokenEndpoint").field("host", &host).finish_non_exhaustive()
    }
}
