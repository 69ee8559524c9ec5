//! The RESTful interactions: read, search, history, create, update, delete, batch, capabilities.
//!
//! Source: hl7.org/fhir/R4/http.html and FHIR fact sheet 1.3 to 1.9; where servers differ, [`Behaviour`] decides.
//!
//! [`Behaviour`]: super::Behaviour

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use serde_json::{Value, json};

use super::behaviour::{Revive, VersionIds};
use super::pages::{Items, Session};
use super::sockets::Announced;
use super::world::World;
use crate::rest::call::{Call, Line};
use crate::rest::fault::{Fault, Interaction, Lag, Struck};
use crate::rest::reply::{Reply, http_date};
use crate::rest::search::{HistoryQuery, Query, Reading, encoded, pairs, subset};
use crate::rest::store::{Method, Publication, Stamp, Version, each, instant};

/// Where and when a write is stamped and published.
#[derive(Default)]
pub(super) struct Timing {
    pub(super) at: Option<Timestamp>,
    pub(super) publication: Publication,
}

impl World {
    /// Carries out a call that may do so.
    pub(super) fn interact(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply {
        let done = match (call.interaction, call.kind.as_deref(), call.id.as_deref()) {
            (Interaction::Read, Some(kind), Some(id)) => self.read(call, kind, id),
            (Interaction::VRead, Some(kind), Some(id)) => self.vread(call, kind, id),
            (Interaction::Search, Some(kind), _) => self.search(call, kind, struck, now),
            (Interaction::NextPage, _, _) => Ok(self.next_page(call, struck, now)),
            (Interaction::InstanceHistory | Interaction::TypeHistory, Some(kind), id) => {
                self.history(call, kind, id, struck, now)
            }
            (Interaction::Create, Some(kind), _) => self.create(call, kind, struck, now),
            (Interaction::Update, Some(kind), id) => self.update(call, kind, id, struck, now),
            (Interaction::Delete, Some(kind), Some(id)) => self.remove(call, kind, id, struck, now),
            (Interaction::BindingToken, _, Some(id)) => self.binding_token(id, self.behaviour.token_life, now),
            (Interaction::Batch, _, _) => self.batch(call, now),
            _ => Err(Reply::outcome(404, "not-supported", "There is nothing at this address", None)),
        };
        done.unwrap_or_else(|refusal| refusal)
    }

    fn read(&self, call: &Call, kind: &str, id: &str) -> Result<Reply, Reply> {
        let version = self.store.readable(kind, id).ok_or_else(Reply::not_found)?;
        let Some(content) = &version.content else {
            return Err(self.deleted(version));
        };
        if call.header("if-none-match").is_some_and(|given| tag(given) == version.version_id) {
            let mut reply = Reply::empty(304);
            reply.header("etag", etag(version));
            return Ok(reply);
        }
        let text = match call.value("_elements") {
            Some(names) => subset(&content.value, &names.split(',').map(str::to_owned).collect()).to_string(),
            None => content.text.clone(),
        };
        Ok(about(Reply::fhir(200, text), version))
    }

    fn vread(&self, call: &Call, kind: &str, id: &str) -> Result<Reply, Reply> {
        let wanted = call.version.as_deref();
        let versions = self.store.versions(kind, id);
        let version = versions.iter().rev().find(|version| Some(version.version_id.as_str()) == wanted);
        let version = version.ok_or_else(Reply::not_found)?;
        match &version.content {
            Some(content) => Ok(about(Reply::fhir(200, content.text.clone()), version)),
            None => Err(self.deleted(version)),
        }
    }

    fn deleted(&self, version: &Version) -> Reply {
        if !self.behaviour.gone {
            return Reply::not_found();
        }
        about(Reply::outcome(410, "deleted", "Gone", None), version)
    }

    fn search(&mut self, call: &Call, kind: &str, struck: &Struck, now: Timestamp) -> Result<Reply, Reply> {
        let mut query = self.query(&call.query, now)?;
        query.strong = call.header("x-amz-fhir-history-consistency-level") == Some("strong");
        if !query.ignored.is_empty() && call.prefers("prefer", "handling=strict") {
            let names = query.ignored.join(", ");
            return Err(Reply::bad_request("not-supported", &format!("Search parameters not supported: {names}")));
        }
        let used = encoded(&query.used);
        let self_link = format!("{}/{kind}?{used}", self.base);
        let key = format!("{kind}?{used}");
        let cached = match (self.behaviour.search_cache, self.pages.cache.get(&key)) {
            (Some(life), Some((born, ids)))
                if now.duration_since(*born) < life && !call.prefers("cache-control", "no-cache") =>
            {
                Some(Arc::clone(ids))
            }
            _ => None,
        };
        let ids = cached.unwrap_or_else(|| query.find(&self.store, kind).into());
        if let Some(life) = self.behaviour.search_cache {
            self.pages.cache.retain(|_, (born, _)| now.duration_since(*born) < life);
            let born = self.pages.cache.get(&key).filter(|(_, held)| Arc::ptr_eq(held, &ids)).map(|(born, _)| *born);
            self.pages.cache.insert(key, (born.unwrap_or(now), Arc::clone(&ids)));
        }
        if query.count_only {
            return Ok(self.bundle("searchset", Some(ids.len()), &[("self", self_link)], &[], now));
        }
        let session = Session {
            kind: kind.to_owned(),
            items: Items::Matches(ids),
            size: self.page_size(query.count),
            elements: query.elements,
            total: query.total,
            strong: query.strong,
            born: now,
        };
        Ok(self.first_page(session, &self_link, struck, now))
    }

    fn history(
        &mut self,
        call: &Call,
        kind: &str,
        id: Option<&str>,
        struck: &Struck,
        now: Timestamp,
    ) -> Result<Reply, Reply> {
        if id.is_none() && !self.behaviour.type_history {
            return Err(Reply::not_found());
        }
        let query = HistoryQuery::read(&call.query)
            .map_err(|name| Reply::bad_request("value", &format!("The value of {name} cannot be read")))?;
        let mut versions = match id {
            None => self.store.log(kind, query.since),
            Some(id) => {
                let all = self.store.versions(kind, id);
                if all.is_empty() {
                    return Err(Reply::not_found());
                }
                all.iter().filter(|version| version.stamp >= query.since).cloned().collect()
            }
        };
        versions.reverse();
        let session = Session {
            kind: kind.to_owned(),
            items: Items::Versions(versions.into()),
            size: self.page_size(query.count),
            elements: None,
            total: true,
            strong: false,
            born: now,
        };
        let path = id.map_or_else(|| format!("{kind}/_history"), |id| format!("{kind}/{id}/_history"));
        let self_link = format!("{}/{path}?{}", self.base, encoded(&call.query));
        Ok(self.first_page(session, &self_link, struck, now))
    }

    fn create(&mut self, call: &Call, kind: &str, struck: &Struck, now: Timestamp) -> Result<Reply, Reply> {
        let resource = resource(&call.body, kind)?;
        if let Some(criteria) = call.header("if-none-exist") {
            let criteria = criteria.rsplit('?').next().unwrap_or(criteria);
            let found = self.conditional(kind, &pairs(criteria.as_bytes()), now)?;
            if let Some(id) = found
                && let Some(version) = self.store.indexed(kind, &id, false).cloned()
            {
                return Ok(self.written(call, kind, &version, 200));
            }
        }
        let id = self.front.uuid();
        let version = self.write(kind, &id, Some(resource), Method::Post, timing(struck, now), true);
        Ok(self.written(call, kind, &version, 201))
    }

    fn update(
        &mut self,
        call: &Call,
        kind: &str,
        id: Option<&str>,
        struck: &Struck,
        now: Timestamp,
    ) -> Result<Reply, Reply> {
        let resource = resource(&call.body, kind)?;
        let given = resource["id"].as_str();
        let id = match id {
            Some(id) if given == Some(id) => id.to_owned(),
            Some(_) => {
                return Err(Reply::bad_request("invalid", "The id in the resource is not the id in the address"));
            }
            None => match self.conditional(kind, &call.query, now)? {
                Some(id) if given.is_none_or(|given| given == id) => id,
                Some(_) => {
                    return Err(Reply::bad_request("invalid", "The criteria choose another id than the resource's"));
                }
                None if given.is_none() => {
                    let id = self.front.uuid();
                    let version = self.write(kind, &id, Some(resource), Method::Put, timing(struck, now), true);
                    return Ok(self.written(call, kind, &version, 201));
                }
                None => given.unwrap_or_default().to_owned(),
            },
        };
        let wanted = call.header("if-match").map(tag);
        let latest = self.store.latest(kind, &id).cloned();
        let status = match &latest {
            None if wanted.is_some() => return Err(self.stale()),
            None if self.behaviour.update_creates => 201,
            None => return Err(Reply::not_found()),
            Some(version) if version.content.is_none() => match self.behaviour.revive {
                Revive::Refuse => return Err(self.deleted(version)),
                Revive::NextVersion | Revive::Restart => 201,
            },
            Some(_) => 200,
        };
        match (&wanted, &latest) {
            (None, Some(version)) if self.behaviour.require_if_match && version.content.is_some() => {
                return Err(Reply::bad_request("required", "If-Match is required on this server"));
            }
            (Some(wanted), Some(version)) if *wanted != version.version_id => {
                return Err(self.stale());
            }
            _ => {}
        }
        if let Some(version) = &latest
            && !self.behaviour.noop_makes_version
            && version.content.as_ref().is_some_and(|held| same(&held.value, &resource))
        {
            return Ok(self.written(call, kind, version, 200));
        }
        let version = self.write(kind, &id, Some(resource), Method::Put, timing(struck, now), true);
        Ok(self.written(call, kind, &version, status))
    }

    fn remove(&mut self, call: &Call, kind: &str, id: &str, struck: &Struck, now: Timestamp) -> Result<Reply, Reply> {
        let Some(latest) = self.store.latest(kind, id).filter(|latest| latest.content.is_some()).cloned() else {
            return Ok(Reply::empty(204));
        };
        if call.header("if-match").is_some_and(|given| tag(given) != latest.version_id) {
            return Err(self.stale());
        }
        let version = self.write(kind, id, None, Method::Delete, timing(struck, now), true);
        let mut reply = Reply::empty(204);
        reply.header("etag", etag(&version));
        Ok(reply)
    }

    /// Each entry on its own; 200 whatever becomes of them.
    fn batch(&mut self, call: &Call, now: Timestamp) -> Result<Reply, Reply> {
        let bundle = resource(&call.body, "Bundle")?;
        if bundle["type"] != "batch" {
            return Err(Reply::bad_request("not-supported", "Only bundles of type batch are supported"));
        }
        let mut entries = Vec::new();
        for entry in each(&bundle["entry"]) {
            let request = &entry["request"];
            let address = request["url"].as_str().unwrap_or_default();
            let (path, query) = address.split_once('?').unwrap_or((address, ""));
            let line = Line {
                method: request["method"].as_str().unwrap_or_default().to_owned(),
                path: format!("{}/{}", self.path, path.trim_start_matches('/')),
                query: query.to_owned(),
            };
            let mut headers = HeaderMap::new();
            for (element, header) in
                [("ifMatch", "if-match"), ("ifNoneMatch", "if-none-match"), ("ifNoneExist", "if-none-exist")]
            {
                if let Some(value) = request[element].as_str().and_then(|value| HeaderValue::from_str(value).ok()) {
                    headers.insert(HeaderName::from_static(header), value);
                }
            }
            let body = if entry["resource"].is_null() { Bytes::new() } else { entry["resource"].to_string().into() };
            let one = self.call(line, headers, body);
            let struck = self.front.count(&one);
            let canned = struck.first(|fault| match fault {
                Fault::Answer(canned) => Some(Reply::canned(canned, now)),
                _ => None,
            });
            let reply = match canned {
                Some(reply) => reply,
                None if one.interaction == Interaction::Batch => Reply::bad_request("invalid", "A batch in a batch"),
                None => self.interact(&one, &struck, now),
            };
            entries.push(batch_entry(&reply));
        }
        Ok(self.bundle("batch-response", None, &[], &entries, now))
    }

    /// CapabilityStatement, or the SMART configuration. Both are given to anyone.
    pub(super) fn capabilities(&self, call: &Call, now: Timestamp) -> Reply {
        let token_url = self.token_url();
        if call.document.is_some() {
            let mut document = json!({
                "token_endpoint": token_url,
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "capabilities": ["client-confidential-symmetric"],
            });
            if self.auth.is_keyed() {
                document["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt"]);
                document["token_endpoint_auth_signing_alg_values_supported"] = json!(["RS384", "ES384"]);
                document["capabilities"] = json!(["client-confidential-asymmetric"]);
            }
            return Reply::raw(200, "application/json; charset=utf-8", document.to_string());
        }
        let mut kinds: Vec<&str> =
            vec!["DocumentReference", "Encounter", "Media", "Observation", "Patient", "QuestionnaireResponse"];
        kinds.extend(self.store.kinds());
        kinds.sort_unstable();
        kinds.dedup();
        let mut codes = vec!["read", "vread", "update", "delete", "history-instance", "create", "search-type"];
        if self.behaviour.type_history {
            codes.push("history-type");
        }
        let interactions: Vec<_> = codes.iter().map(|code| json!({"code": code})).collect();
        let parameters = [
            ("_id", "token"),
            ("_lastUpdated", "date"),
            ("identifier", "token"),
            ("subject", "reference"),
            ("patient", "reference"),
            ("encounter", "reference"),
            ("status", "token"),
            ("code", "token"),
            ("type", "token"),
            ("category", "token"),
            ("_tag", "token"),
            ("birthdate", "date"),
            ("family", "string"),
        ];
        let parameters: Vec<_> = parameters
            .iter()
            .filter(|(name, _)| !self.behaviour.unknown_parameters.contains(*name))
            .map(|(name, kind)| json!({"name": name, "type": kind}))
            .collect();
        let resources: Vec<_> = kinds
            .iter()
            .map(|kind| {
                json!({
                    "type": kind,
                    "interaction": interactions,
                    "versioning": "versioned-update",
                    "readHistory": true,
                    "updateCreate": self.behaviour.update_creates,
                    "conditionalCreate": true,
                    "conditionalRead": "not-match",
                    "conditionalUpdate": true,
                    "searchParam": parameters,
                })
            })
            .collect();
        let statement = json!({
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": instant(now, true),
            "kind": "instance",
            "software": {"name": "Chart Relay FHIR simulator"},
            "implementation": {"description": "Synthetic data only", "url": self.base},
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json"],
            "rest": [{
                "mode": "server",
                "security": {"extension": [{
                    "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                    "extension": [{"url": "token", "valueUri": token_url}],
                }]},
                "resource": resources,
                "interaction": [{"code": "batch"}],
            }],
        });
        Reply::fhir(200, statement.to_string())
    }

    /// Adds a version. `outside` marks what came over HTTP, which the server may alter.
    pub(super) fn write(
        &mut self,
        kind: &str,
        id: &str,
        resource: Option<Value>,
        method: Method,
        timing: Timing,
        outside: bool,
    ) -> Arc<Version> {
        let mut resource = resource;
        let before = self.store.latest(kind, id).cloned();
        if let Some(resource) = resource.as_mut().filter(|_| outside) {
            if let Some(before) = before.as_ref().filter(|_| self.behaviour.sticky_tags) {
                keep_tags(resource, before);
            }
            if let Some(rewrite) = &self.rewrite {
                rewrite(resource);
            }
            if let Some(author) = &self.behaviour.author {
                meta(resource)["author"] = json!({"reference": author});
            }
        }
        let version_id = match self.behaviour.version_ids {
            VersionIds::Opaque => self.front.uuid(),
            VersionIds::Counter => {
                let restarts = self.behaviour.revive == Revive::Restart;
                match before.map(|before| (before.content.is_none(), before.version_id.parse::<u64>())) {
                    Some((deleted, Ok(number))) if !(deleted && restarts) => (number + 1).to_string(),
                    Some((false, Err(_))) => self.front.uuid(),
                    _ => "1".to_owned(),
                }
            }
        };
        let mut publication = timing.publication;
        if let Some(lag) = self.behaviour.index_lag {
            let now = self.front.clock.now();
            let wait =
                self.front.chance.random_range(lag.least.as_millis()..=lag.most.as_millis().max(lag.least.as_millis()));
            let wait = SignedDuration::from_millis(i64::try_from(wait).unwrap_or(i64::MAX));
            publication.searches = publication.searches.max(Some(Lag::For(wait).due(now)));
            publication.hides = lag.hides;
        }
        let at = timing.at.unwrap_or_else(|| self.front.clock.now());
        let unit = if self.behaviour.fraction { 1 } else { 1000 };
        let at = Timestamp::from_millisecond(at.as_millisecond().div_euclid(unit) * unit).unwrap_or(at);
        let stamp = Stamp { at, version_id, method, publication, fraction: self.behaviour.fraction };
        let version = self.store.write(kind, id, resource.as_ref(), stamp);
        if let Some(content) = &version.content {
            // Whether anybody listens does not matter.
            let _ = self.announcements.send(Announced::Written(content.value.clone()));
        }
        version
    }

    fn written(&self, call: &Call, kind: &str, version: &Version, status: u16) -> Reply {
        let text = match &version.content {
            Some(content) if !call.prefers("prefer", "return=minimal") => content.text.clone(),
            _ => String::new(),
        };
        let mut reply = about(Reply::fhir(status, text), version);
        reply.header("location", format!("{}/{kind}/{}/_history/{}", self.base, version.id, version.version_id));
        reply
    }

    fn stale(&self) -> Reply {
        match self.behaviour.stale_update_status {
            409 => Reply::outcome(409, "conflict", "This is not the current version", None),
            status => Reply::outcome(status, "processing", "Precondition Failed", None),
        }
    }

    /// The one resource that the criteria choose in the search index, which may lag behind.
    fn conditional(&self, kind: &str, criteria: &[(String, String)], now: Timestamp) -> Result<Option<String>, Reply> {
        let query = self.query(criteria, now)?;
        if !query.chooses() {
            return Err(Reply::bad_request("invalid", "The criteria choose nothing"));
        }
        match query.find(&self.store, kind).as_slice() {
            [] => Ok(None),
            [id] => Ok(Some(id.to_string())),
            _ => Err(Reply::outcome(412, "multiple-matches", "Multiple resources match", None)),
        }
    }

    fn query(&self, given: &[(String, String)], now: Timestamp) -> Result<Query, Reply> {
        let hours = self.behaviour.local_offset_hours.clamp(-24, 24);
        let reading = Reading { now, offset: jiff::tz::offset(hours), unknown: &self.behaviour.unknown_parameters };
        Query::read(given, &reading)
            .map_err(|name| Reply::bad_request("value", &format!("The value of {name} cannot be read")))
    }

    fn page_size(&self, asked: Option<usize>) -> usize {
        let size = self.behaviour.page_size;
        asked.unwrap_or(size.usual).min(size.most).max(1)
    }

    /// Where tokens are asked for.
    pub(super) fn token_url(&self) -> String {
        format!("{}/oauth2/token", self.origin())
    }

    /// Where the server is, without the path of its base.
    pub(super) fn origin(&self) -> &str {
        self.base.strip_suffix(self.path.as_str()).unwrap_or(&self.base)
    }
}

fn timing(struck: &Struck, now: Timestamp) -> Timing {
    let late = struck.first(|fault| match fault {
        Fault::LateCommit { stamped, visible } => Some((*stamped, visible.due(now))),
        _ => None,
    });
    let reads = struck.first(|fault| match fault {
        Fault::ReadLag(lag) => Some(lag.due(now)),
        _ => None,
    });
    let searches = struck.first(|fault| match fault {
        Fault::SearchLag(lag) => Some(lag.due(now)),
        _ => None,
    });
    let commit = late.map(|(_, due)| due);
    Timing {
        at: late.and_then(|(earlier, _): (SignedDuration, _)| now.checked_sub(earlier).ok()),
        publication: Publication { reads: reads.max(commit), searches: searches.max(commit), hides: false },
    }
}

/// The body as a resource of this type.
fn resource(body: &[u8], kind: &str) -> Result<Value, Reply> {
    let resource: Value =
        serde_json::from_slice(body).map_err(|_| Reply::bad_request("structure", "The body is not JSON"))?;
    if resource["resourceType"] != kind {
        return Err(Reply::bad_request("invalid", "The body is not a resource of the type in the address"));
    }
    Ok(resource)
}

fn meta(resource: &mut Value) -> &mut Value {
    if !resource["meta"].is_object() {
        resource["meta"] = json!({});
    }
    &mut resource["meta"]
}

fn keep_tags(resource: &mut Value, before: &Version) {
    let Some(held) = before.content.as_ref().and_then(|content| content.value["meta"]["tag"].as_array()) else {
        return;
    };
    let given = each(&resource["meta"]["tag"]).to_vec();
    let kept = held.iter().filter(|tag| !given.contains(tag)).cloned();
    let tags: Vec<Value> = given.iter().cloned().chain(kept).collect();
    meta(resource)["tag"] = Value::Array(tags);
}

/// Whether two resources differ in nothing but what the server sets.
fn same(held: &Value, given: &Value) -> bool {
    let plain = |resource: &Value| {
        let mut resource = resource.clone();
        let meta = meta(&mut resource);
        for name in ["versionId", "lastUpdated", "author"] {
            meta.as_object_mut().and_then(|meta| meta.remove(name));
        }
        resource
    };
    plain(held) == plain(given)
}

/// The versionId inside an ETag, weak or not.
fn tag(given: &str) -> String {
    given.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

fn etag(version: &Version) -> String {
    format!("W/\"{}\"", version.version_id)
}

fn about(mut reply: Reply, version: &Version) -> Reply {
    reply.header("etag", etag(version));
    reply.header("last-modified", http_date(version.stamp));
    reply
}

fn batch_entry(reply: &Reply) -> String {
    let mut response = json!({"status": reply.status.to_string()});
    for (element, header) in [("etag", "etag"), ("location", "location")] {
        if let Some(value) = reply.header_value(header) {
            response[element] = json!(value);
        }
    }
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let mut entry = json!({});
    match body {
        Some(body) if reply.status >= 400 => response["outcome"] = body,
        Some(body) => entry["resource"] = body,
        None => {}
    }
    entry["response"] = response;
    entry.to_string()
}
