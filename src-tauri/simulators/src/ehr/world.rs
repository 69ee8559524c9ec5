//! The state of the server, and what happens to a call between its arrival and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Firm;
use super::behaviour::Behaviour;
use super::files::Link;
use super::paths::{base, escaped};
use super::sign_in::{Token, bearer};
use super::writes::Draft;
use crate::rest::Server;
use crate::rest::call::{Call, Line};
use crate::rest::fault::{Interaction, Lag, Struck};
use crate::rest::front::Front;
use crate::rest::quota::{RateLimit, Refusal};
use crate::rest::reply::Reply;
use crate::rest::store::{Method, Publication, Stamp, Store, Version};

#[allow(missing_debug_implementations, reason = "sealed: it cannot be named outside")]
pub struct World {
    pub(super) front: Front,
    pub(super) origin: String,
    /// Origin of the door for files.
    pub(super) files: String,
    pub(super) behaviour: Behaviour,
    pub(super) firms: BTreeMap<String, Branch>,
    keys: BTreeSet<String>,
    pub(super) tokens: BTreeMap<String, Token>,
    /// Pre-signed addresses, by their signature.
    pub(super) links: BTreeMap<String, Link>,
    /// Files that were asked for with a token or a key, which are no business of theirs.
    pub(super) leaks: u64,
}

/// What the server keeps of one firm.
pub(super) struct Branch {
    pub(super) firm: Firm,
    pub(super) store: Store,
    pub(super) drafts: Vec<Draft>,
    /// The refresh token of the older grant.
    pub(super) refresh: Option<String>,
}

impl World {
    pub(super) fn new(front: Front, firms: Vec<Firm>, keys: Vec<String>, behaviour: Behaviour) -> Self {
        let branch = |firm: Firm| {
            let name = firm.name.clone();
            (name, Branch { firm, store: Store::default(), drafts: Vec::new(), refresh: None })
        };
        Self {
            front,
            origin: String::new(),
            files: String::new(),
            behaviour,
            firms: firms.into_iter().map(branch).collect(),
            keys: keys.into_iter().collect(),
            tokens: BTreeMap::new(),
            links: BTreeMap::new(),
            leaks: 0,
        }
    }

    /// Adds a version, stamped to the second, to one of a firm that there is.
    pub(super) fn write(
        &mut self,
        firm: &str,
        kind: &str,
        id: &str,
        resource: &Value,
        at: Option<Timestamp>,
        visible: Option<Lag>,
    ) -> Option<Arc<Version>> {
        let now = self.front.clock.now();
        let store = &mut self.firms.get_mut(firm)?.store;
        let before = store.latest(kind, id).and_then(|version| version.version_id.parse::<u64>().ok());
        let at = at.unwrap_or(now);
        let due = visible.map(|lag| lag.due(now));
        let stamp = Stamp {
            at: Timestamp::from_second(at.as_second()).unwrap_or(at),
            version_id: (before.unwrap_or(0) + 1).to_string(),
            method: if before.is_some() { Method::Put } else { Method::Post },
            publication: Publication { reads: due, searches: due, hides: false },
            fraction: false,
        };
        Some(store.write(kind, id, Some(resource), stamp))
    }

    pub(super) fn base(&self, firm: &str) -> String {
        format!("{}{}", self.origin, base(firm))
    }

    /// A resource as the API shows it: without versionId, with its own form of stamp, and with absolute references.
    pub(super) fn shown(&self, firm: &str, version: &Version) -> Value {
        let Some(content) = &version.content else { return Value::Null };
        let mut resource = content.value.clone();
        if let Some(meta) = resource["meta"].as_object_mut() {
            meta.shift_remove("versionId");
            meta.insert("lastUpdated".into(), json!(stamp(version.stamp)));
        }
        absolute(&mut resource, &self.base(firm));
        resource
    }

    fn admitted(&self, call: &Call, now: Timestamp) -> Result<(), Reply> {
        let firm = call.firm.as_deref().unwrap_or_default();
        if !self.firms.contains_key(firm) {
            return Err(error(404, "Not Found", call));
        }
        if call.interaction == Interaction::Token {
            return Ok(());
        }
        let token = bearer(call).and_then(|token| self.tokens.get(token));
        if token.is_none_or(|token| token.firm != firm || token.until <= now) {
            return Err(error(401, "Unauthorized", call));
        }
        if call.kind.as_ref().is_some_and(|kind| self.behaviour.denied.contains(kind)) {
            return Err(error(403, "Forbidden", call));
        }
        Ok(())
    }

    fn has_known_key(&self, call: &Call) -> bool {
        call.header("x-api-key").is_some_and(|key| self.keys.contains(key))
    }
}

impl Server for World {
    fn front(&mut self) -> &mut Front {
        &mut self.front
    }

    fn understand(&self, line: Line, headers: HeaderMap, body: Bytes) -> Call {
        self.call(line, headers, body)
    }

    fn latency(&self) -> Duration {
        self.behaviour.latency
    }

    /// The gateway counts what comes with a key that it knows. Single sign-on and files are other servers.
    fn quota(&self, call: &Call) -> Option<(String, Option<RateLimit>)> {
        let elsewhere = call.interaction == Interaction::Token && call.document.is_none();
        if elsewhere || call.interaction == Interaction::Download || !self.has_known_key(call) {
            return None;
        }
        Some((call.header("x-api-key")?.to_owned(), self.behaviour.rate_limit.clone()))
    }

    fn settle(&mut self, now: Timestamp) {
        for branch in self.firms.values_mut() {
            branch.store.settle(now);
        }
    }

    fn expire_tokens(&mut self) {
        self.tokens.values_mut().for_each(|token| token.until = Timestamp::MIN);
    }

    fn carry_out(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply {
        match call.interaction {
            Interaction::Download => return self.download(call, now),
            Interaction::Token if call.document.is_none() => return self.single_sign_on(call, now),
            _ => {}
        }
        if !self.has_known_key(call) {
            return Reply::raw(403, "application/json", json!({"message": "Forbidden"}).to_string());
        }
        if let Err(refusal) = self.admitted(call, now) {
            return refusal;
        }
        let firm = call.firm.clone().unwrap_or_default();
        let done = match (call.interaction, call.kind.as_deref(), call.id.as_deref()) {
            (Interaction::Token, ..) => Ok(self.grant(call, &firm, now)),
            (Interaction::Capabilities, ..) if self.behaviour.metadata => Ok(self.capabilities(&firm)),
            (Interaction::Search | Interaction::NextPage, Some(kind), _) => self.search(call, &firm, kind, struck, now),
            (Interaction::Read, Some("ValueSet"), Some("document-category")) => Ok(self.categories(&firm)),
            (Interaction::Read, Some(kind), Some(id)) => self.read(call, &firm, kind, id, now),
            (Interaction::Create, Some("Composition"), _) => self.compose(call, &firm),
            (Interaction::Create | Interaction::Update | Interaction::Delete, ..) => {
                Err(error(405, "Method Not Allowed", call))
            }
            _ => Err(error(404, "Not Found", call)),
        };
        done.unwrap_or_else(|refusal| refusal)
    }

    /// As a gateway refuses: no OperationOutcome, and no word of when.
    fn refuse(&self, _refusal: &Refusal) -> Reply {
        Reply::raw(429, "application/json", json!({"message": "Too Many Requests"}).to_string())
    }
}

/// A refusal. What its body looks like is not written down: this one says little, and is no resource.
pub(super) fn error(status: u16, words: &str, call: &Call) -> Reply {
    let body = json!({"status": status, "error": words, "path": call.line.path});
    Reply::raw(status, "application/json", body.to_string())
}

/// Second precision that looks like milliseconds.
fn stamp(at: Timestamp) -> String {
    format!("{}.000+00:00", at.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// Makes every relative reference below this value absolute.
fn absolute(value: &mut Value, base: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "reference" => {
                        if let Some((kind, id)) = text.split_once('/').filter(|_| !text.contains("://")) {
                            *text = format!("{base}/{kind}/{}", escaped(id));
                        }
                    }
                    _ => absolute(value, base),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| absolute(item, base)),
        _ => {}
    }
}
