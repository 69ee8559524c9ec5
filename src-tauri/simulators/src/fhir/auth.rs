//! Sign-in as Medplum does it (FHIR fact sheet 2.1, 2.2): client credentials at `/oauth2/token`, bearer tokens that expire on the
//! server's clock.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::assertion::{ASSERTION_TYPE, ClientKey};
use super::behaviour::Refresh;
use crate::rest::reply::Reply;
use crate::rest::search::pairs;

/// Who may sign in, and the tokens that were given out.
#[derive(Default)]
pub(super) struct Auth {
    client_id: String,
    /// The newest first; more than one while an old secret is retiring.
    secrets: Vec<String>,
    tokens: BTreeMap<String, Timestamp>,
    /// The refresh token that works.
    refresh: Option<String>,
    /// How often one was used that had been spent.
    spent: u64,
    /// The key of a client that has no secret.
    key: Option<ClientKey>,
}

/// What a request for a token is answered by, beside who asks.
pub(super) struct Terms {
    /// Where tokens are asked for.
    pub(super) url: String,
    pub(super) life: SignedDuration,
    pub(super) refresh: Refresh,
    pub(super) now: Timestamp,
}

/// What a bearer token is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Valid,
    Missing,
    Expired,
}

impl Auth {
    pub(super) fn new(client_id: String, client_secret: String, refresh: Option<String>, jwk: Option<Value>) -> Self {
        Self { client_id, secrets: vec![client_secret], refresh, key: jwk.map(ClientKey::new), ..Self::default() }
    }

    /// Whether the client has a key instead of a secret.
    pub(super) fn is_keyed(&self) -> bool {
        self.key.is_some()
    }

    /// The refresh token that works now, and how often a spent one was tried.
    pub(super) fn refresh(&self) -> (Option<String>, u64) {
        (self.refresh.clone(), self.spent)
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn rotate(&mut self, secret: String, keep_old: bool) {
        self.secrets.truncate(usize::from(keep_old));
        self.secrets.insert(0, secret);
    }

    /// Every token is at its end, as if its time had run out.
    pub(super) fn expire_all(&mut self) {
        self.tokens.values_mut().for_each(|end| *end = Timestamp::MIN);
    }

    pub(super) fn standing(&self, authorization: Option<&str>, now: Timestamp) -> Standing {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        match token.and_then(|token| self.tokens.get(token)) {
            None => Standing::Missing,
            Some(end) if *end <= now => Standing::Expired,
            Some(_) => Standing::Valid,
        }
    }

    /// The client that asks, once it has proven who it is.
    fn identified(
        &mut self,
        authorization: Option<&str>,
        form: &BTreeMap<String, String>,
        terms: &Terms,
    ) -> Result<String, Reply> {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        if let Some(key) = &mut self.key {
            if field("client_assertion_type") != ASSERTION_TYPE {
                return Err(refusal("invalid_client", "Wrong client_assertion_type"));
            }
            let named = key.client(&field("client_assertion"), &terms.url, terms.now);
            return match named {
                Ok(client) if client == self.client_id => Ok(client),
                Ok(_) => Err(refusal("invalid_client", "Invalid client")),
                Err(reason) => Err(refusal("invalid_client", reason)),
            };
        }
        let (id, secret) = match authorization.and_then(basic) {
            Some(pair) => pair,
            None if authorization.is_some() => {
                return Err(refusal("invalid_request", "Invalid authorization header"));
            }
            None => (field("client_id"), field("client_secret")),
        };
        if id.is_empty() {
            return Err(refusal("invalid_request", "Missing client_id"));
        }
        if secret.is_empty() {
            return Err(refusal("invalid_request", "Missing client_secret"));
        }
        if id != self.client_id {
            return Err(refusal("invalid_request", "Invalid client"));
        }
        if !self.secrets.contains(&secret) {
            return Err(refusal("invalid_request", "Invalid secret"));
        }
        Ok(id)
    }

    /// Answers `POST /oauth2/token`.
    pub(super) fn token(
        &mut self,
        content_type: &str,
        authorization: Option<&str>,
        body: &[u8],
        terms: &Terms,
        chance: &mut ChaCha8Rng,
    ) -> Reply {
        if content_type.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
            return Reply::raw(400, "text/plain; charset=utf-8", "Unsupported content type");
        }
        let form: BTreeMap<String, String> = pairs(body).into_iter().collect();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let grant = field("grant_type");
        if grant != "client_credentials" && !(grant == "refresh_token" && self.refresh.is_some()) {
            return refusal("invalid_request", "Unsupported grant_type");
        }
        let id = match self.identified(authorization, &form, terms) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        if grant == "refresh_token" {
            if self.refresh.as_deref() != Some(&field("refresh_token")) {
                self.spent += 1;
                return refusal("invalid_grant", "Invalid refresh token");
            }
            if terms.refresh == Refresh::Rotates {
                self.refresh = Some(format!("refresh-{:032x}", chance.random::<u128>()));
            }
        }
        let token = format!("simulated-{:032x}", chance.random::<u128>());
        let end = terms.now.checked_add(terms.life).unwrap_or(Timestamp::MAX);
        self.tokens.insert(token.clone(), end);
        let mut granted = json!({
            "token_type": "Bearer",
            "expires_in": terms.life.as_secs(),
            "scope": "openid",
            "access_token": token,
            "project": {"reference": "Project/simulated"},
            "profile": {"reference": format!("ClientApplication/{id}")},
        });
        if grant == "refresh_token" {
            granted["refresh_token"] = json!(self.refresh);
        }
        let mut reply = Reply::raw(200, "application/json; charset=utf-8", granted.to_string());
        reply.header("cache-control", "no-store");
        reply
    }
}

fn refusal(error: &str, description: &str) -> Reply {
    let body = json!({"error": error, "error_description": description});
    Reply::raw(400, "application/json; charset=utf-8", body.to_string())
}

fn basic(authorization: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}
