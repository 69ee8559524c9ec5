//! Signing in: OAuth2 client credentials (RFC 6749 section 4.4). One token serves everyone; it is renewed early, by one
//! caller at a time, while the others go on with the old one.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::{
    error::{Class, Code, Fault},
    ports::Clock,
};
use reqwest::header::HeaderValue;
use serde_json::Value as Json;
use url::{Url, form_urlencoded};

use super::outcome::{Answer, plain_code};
use crate::adapters::{
    secret::Secret,
    transport::{self, NoAnswer, Trust},
};

/// The life of a token whose answer does not name one.
const ASSUMED_LIFE: Duration = Duration::from_secs(300);
/// A token is renewed this long before its end, or at 80 % of its life if that is earlier, but not in its first half.
const MARGIN: Duration = Duration::from_secs(60);
/// After a renewal failed and while the old token still holds, how long until the next try.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How the relay signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// Not at all: servers on this machine only.
    Nobody,
    ClientCredentials {
        token_url: String,
        client_id: String,
        secret_in: SecretIn,
        scope: Option<String>,
    },
}

/// Where the client secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretIn {
    /// `Authorization: Basic`, each half form-encoded first (RFC 6749 section 2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body.
    Body,
}

/// What proves who signs in.
#[derive(Debug, Clone)]
pub enum Credentials {
    Nobody,
    ClientSecret(Secret),
}

/// An access token and its times, on the clock that runs through suspend.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// Counts the tokens, to tell whether one that was refused has been replaced already.
    number: u64,
    renew_at: Duration,
    ends_at: Duration,
}

/// Where tokens come from.
pub(super) struct Tokens {
    http: reqwest::Client,
    url: Url,
    client_id: String,
    secret: Secret,
    secret_in: SecretIn,
    scope: Option<String>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Token>>,
    requests: AtomicU64,
    turn: tokio::sync::Mutex<Turn>,
}

/// Whoever holds this may ask for a token.
#[derive(Default)]
struct Turn {
    /// Why the last request failed, for those who waited for it.
    failure: Option<Fault>,
    /// No request before this.
    not_before: Duration,
}

impl Tokens {
    /// # Errors
    /// `Stop`: `token_url` is not usable, or the CA file is not.
    pub(super) fn new(
        sign_in: &SignIn,
        credentials: Credentials,
        trust: &Trust,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, Fault> {
        let (SignIn::ClientCredentials { token_url, client_id, secret_in, scope }, Credentials::ClientSecret(secret)) =
            (sign_in, credentials)
        else {
            return match sign_in {
                SignIn::Nobody => Ok(None),
                SignIn::ClientCredentials { .. } => {
                    Err(Fault::new(Class::Stop, Code::SecretMissing).on("client_secret"))
                }
            };
        };
        let base = transport::base("token_url", token_url)?;
        let http = transport::build(transport::client(&base, trust)?.timeout(timeout))?;
        // `base` ends paths with a slash; a token address is used as it is written.
        let url = Url::parse(token_url).map_err(|_| Fault::new(Class::Stop, Code::Rejected).on("token_url"))?;
        Ok(Some(Self {
            http,
            url,
            client_id: client_id.clone(),
            secret,
            secret_in: *secret_in,
            scope: scope.clone(),
            clock,
            current: Mutex::default(),
            requests: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// The token to use now.
    pub(super) async fn token(&self) -> Result<Token, Fault> {
        let now = self.clock.elapsed();
        match self.current() {
            Some(token) if now < token.renew_at => Ok(token),
            Some(token) if now < token.ends_at => match self.turn.try_lock() {
                // A failure harms nobody yet, and the next caller after a pause tries again.
                Ok(turn) if now >= turn.not_before => Ok(self.request(turn).await.unwrap_or(token)),
                _ => Ok(token),
            },
            stale => self.renew(stale.map_or(0, |token| token.number)).await,
        }
    }

    /// A token newer than one that was refused.
    pub(super) async fn replace(&self, refused: &Token) -> Result<Token, Fault> {
        self.renew(refused.number).await
    }

    async fn renew(&self, number: u64) -> Result<Token, Fault> {
        let before = self.requests.load(Ordering::Acquire);
        let turn = self.turn.lock().await;
        if let Some(token) = self.current().filter(|token| token.number > number) {
            return Ok(token);
        }
        if let Some(failure) = turn.failure.clone() {
            // Somebody asked while we waited, and what they were told holds for us as well.
            if self.requests.load(Ordering::Acquire) != before {
                return Err(failure);
            }
            let left = turn.not_before.saturating_sub(self.clock.elapsed());
            if matches!(failure.class, Class::Wait(_)) && !left.is_zero() {
                return Err(Fault { class: Class::Wait(Some(left)), ..failure });
            }
        }
        self.request(turn).await
    }

    async fn request(&self, mut turn: tokio::sync::MutexGuard<'_, Turn>) -> Result<Token, Fault> {
        let asked_at = self.clock.elapsed();
        let answer = self.ask().await;
        self.requests.fetch_add(1, Ordering::AcqRel);
        match answer.and_then(|answer| self.grant(&answer, asked_at)) {
            Ok(token) => {
                *turn = Turn::default();
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                Ok(token)
            }
            Err(fault) => {
                let pause = if let Class::Wait(Some(wait)) = fault.class { wait } else { PAUSE_AFTER_FAILURE };
                *turn = Turn { failure: Some(fault.clone()), not_before: self.clock.elapsed() + pause };
                Err(fault)
            }
        }
    }

    async fn ask(&self) -> Result<Answer, Fault> {
        let mut form = vec![("grant_type", "client_credentials")];
        if let Some(scope) = &self.scope {
            form.push(("scope", scope));
        }
        let mut request = self.http.post(self.url.clone()).header("Accept", "application/json");
        match self.secret_in {
            SecretIn::Basic => {
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                request = request.basic_auth(encoded(&self.client_id), Some(encoded(self.secret.reveal())));
            }
            SecretIn::Body => {
                form.push(("client_id", &self.client_id));
                form.push(("client_secret", self.secret.reveal()));
            }
        }
        let failed = |error: reqwest::Error| NoAnswer::of(&error).fault().on("token_url");
        let answer = request.form(&form).send().await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(failed)?.to_vec();
        Ok(Answer { status, headers, body })
    }

    /// Reads the answer of RFC 6749 sections 5.1 and 5.2.
    fn grant(&self, answer: &Answer, asked_at: Duration) -> Result<Token, Fault> {
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
        let header = text.and_then(|text| HeaderValue::from_str(&format!("Bearer {text}")).ok());
        let Some(mut header) = header else {
            return Err(fault(Class::Away, Code::BadAnswer));
        };
        header.set_sensitive(true);
        let life = match &granted["expires_in"] {
            Json::Number(seconds) => seconds.as_u64(),
            Json::String(seconds) => seconds.parse().ok(),
            _ => None,
        };
        // A server that says 0 would have us ask for every call.
        let life =
            life.map_or(ASSUMED_LIFE, Duration::from_secs).clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        let fresh = (life * 4 / 5).min(life.saturating_sub(MARGIN)).max(life / 2);
        let number = self.current().map_or(1, |token| token.number + 1);
        Ok(Token { header, number, renew_at: asked_at + fresh, ends_at: asked_at + life })
    }

    fn current(&self) -> Option<Token> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}
