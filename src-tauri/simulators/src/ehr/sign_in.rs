//! Tokens: client credentials at the single sign-on, and the older grant at the firm's own address.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::Rng as _;
use serde_json::{Value, json};

use super::behaviour::Refresh;
use super::world::World;
use crate::rest::call::Call;
use crate::rest::reply::Reply;
use crate::rest::search::pairs;

const SCOPE: &str = "acl/enc_s acl/enc_r acl/doc_s acl/doc_r acl/comp_c acl/pat_r acl/vs_r";

/// What an access token opens.
pub(super) struct Token {
    pub(super) firm: String,
    pub(super) until: Timestamp,
}

pub(super) fn bearer(call: &Call) -> Option<&str> {
    call.header("authorization")?.strip_prefix("Bearer ")
}

impl World {
    /// Id and secret of the client that asks for a token.
    pub(super) fn client(&self, call: &Call) -> Option<(String, String)> {
        if let Some(basic) = call.header("authorization").and_then(|value| value.strip_prefix("Basic ")) {
            let text = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
            let (id, secret) = text.split_once(':')?;
            return Some((id.to_owned(), secret.to_owned()));
        }
        let form: BTreeMap<String, String> = pairs(&call.body).into_iter().collect();
        Some((form.get("client_id")?.clone(), form.get("client_secret")?.clone()))
    }

    /// The firm that this client belongs to.
    pub(super) fn firm_of(&self, client: &str) -> Option<String> {
        let found = self.firms.values().find(|branch| branch.firm.client_id == client);
        found.map(|branch| branch.firm.name.clone())
    }

    /// Answers as Keycloak does.
    pub(super) fn single_sign_on(&mut self, call: &Call, now: Timestamp) -> Reply {
        let form: BTreeMap<String, String> = pairs(&call.body).into_iter().collect();
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return refusal(400, "unsupported_grant_type", "Unsupported grant_type");
        }
        let firm = self.client(call).and_then(|(id, secret)| {
            let firm = self.firm_of(&id)?;
            (self.firms[&firm].firm.client_secret == secret).then_some(firm)
        });
        let Some(firm) = firm else {
            return refusal(401, "unauthorized_client", "Invalid client or Invalid client credentials");
        };
        let (token, life) = self.token(&firm, "RS256", now);
        granted(&json!({
            "access_token": token,
            "expires_in": life,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": SCOPE,
        }))
    }

    /// The older grant: a password, then a refresh token.
    pub(super) fn grant(&mut self, call: &Call, firm: &str, now: Timestamp) -> Reply {
        let form: BTreeMap<String, String> = pairs(&call.body).into_iter().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let Some(branch) = self.firms.get(firm) else {
            return refusal(404, "invalid_request", "No such firm");
        };
        let proven = match field("grant_type") {
            "password" => field("username") == branch.firm.username && field("password") == branch.firm.password,
            "refresh_token" => branch.refresh.as_deref() == Some(field("refresh_token")),
            _ => return refusal(400, "unsupported_grant_type", "Unsupported grant_type"),
        };
        if !proven {
            return refusal(401, "invalid_grant", "Bad credentials");
        }
        let held = branch.refresh.clone().filter(|_| self.behaviour.refresh == Refresh::Stays);
        let refresh = held.unwrap_or_else(|| format!("refresh-{:032x}", self.front.chance.random::<u128>()));
        if let Some(branch) = self.firms.get_mut(firm) {
            branch.refresh = Some(refresh.clone());
        }
        let (token, life) = self.token(firm, "HS256", now);
        granted(&json!({
            "access_token": token,
            "refresh_token": refresh,
            "expires_in": life,
            "token_type": "bearer",
            "scope": firm,
        }))
    }

    /// A token in the form of a JWT. Its signature is made up: to a client it is a word like any other.
    fn token(&mut self, firm: &str, algorithm: &str, now: Timestamp) -> (String, i64) {
        let life = self.behaviour.token_life;
        let until = now.checked_add(life).unwrap_or(Timestamp::MAX);
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": "synthetic", "iat": now.as_second(), "exp": until.as_second(), "scope": SCOPE});
        let signature = URL_SAFE_NO_PAD.encode(self.front.chance.random::<[u8; 32]>());
        let token = format!("{}.{}.{signature}", part(json!({"alg": algorithm, "typ": "JWT"})), part(claims));
        self.tokens.insert(token.clone(), Token { firm: firm.to_owned(), until });
        (token, life.as_secs())
    }
}

fn granted(body: &Value) -> Reply {
    let mut reply = Reply::raw(200, "application/json", body.to_string());
    reply.header("cache-control", "no-store");
    reply
}

fn refusal(status: u16, error: &str, description: &str) -> Reply {
    Reply::raw(status, "application/json", json!({"error": error, "error_description": description}).to_string())
}
