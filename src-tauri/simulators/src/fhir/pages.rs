//! Bundles of searches and histories, page by page. A `next` link names a session that the server keeps for a while:
//! the ids of a search (their content is that of the moment the page is fetched), or the versions of a history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::world::World;
use crate::rest::call::Call;
use crate::rest::fault::{Fault, Struck};
use crate::rest::reply::Reply;
use crate::rest::search::subset;
use crate::rest::store::{Id, Method, Version, instant};

/// So many sessions are kept; the oldest goes first.
const SESSIONS: usize = 512;

#[derive(Clone)]
pub(super) enum Items {
    Matches(Arc<[Id]>),
    Versions(Arc<[Arc<Version>]>),
}

impl Items {
    fn len(&self) -> usize {
        match self {
            Self::Matches(ids) => ids.len(),
            Self::Versions(versions) => versions.len(),
        }
    }
}

/// A result that is being paged through.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) kind: String,
    pub(super) items: Items,
    pub(super) size: usize,
    pub(super) elements: Option<BTreeSet<String>>,
    pub(super) total: bool,
    pub(super) strong: bool,
    pub(super) born: Timestamp,
}

#[derive(Default)]
pub(super) struct Pages {
    sessions: BTreeMap<String, Session>,
    order: VecDeque<String>,
    /// Results of earlier searches, by type and parameters.
    pub(super) cache: BTreeMap<String, (Timestamp, Arc<[Id]>)>,
}

impl Pages {
    fn keep(&mut self, token: String, session: Session) {
        if self.order.len() == SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
        self.order.push_back(token.clone());
        self.sessions.insert(token, session);
    }

    /// Ends every session, as a restart of the server would.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl World {
    /// The first page.
    pub(super) fn first_page(&mut self, session: Session, self_link: &str, struck: &Struck, now: Timestamp) -> Reply {
        let token = (session.items.len() > session.size).then(|| {
            let token = self.front.uuid();
            self.pages.keep(token.clone(), session.clone());
            token
        });
        self.page(&session, 0, token.as_deref(), self_link, struck, now)
    }

    /// Any further page, from its link.
    pub(super) fn next_page(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply {
        let token = call.value("_getpages").unwrap_or_default().to_owned();
        let offset = call.value("_getpagesoffset").and_then(|value| value.parse::<usize>().ok());
        let alive = |session: &&Session| {
            now.duration_since(session.born) < self.behaviour.page_life && !struck.has(&Fault::PageExpired)
        };
        let (Some(session), Some(offset)) = (self.pages.sessions.get(&token).filter(alive).cloned(), offset) else {
            // HAPI answers so. A caller that takes every 410 for a deletion has a surprise coming.
            return Reply::outcome(410, "not-found", "The search is not known or has expired; start it again", None);
        };
        let from = if struck.has(&Fault::PageOverlap) {
            offset.saturating_sub(1)
        } else if struck.has(&Fault::PageSkip) {
            offset + 1
        } else {
            offset
        };
        let link = format!("{}?{}", self.base, page_query(&token, offset));
        self.page(&session, from, Some(&token), &link, struck, now)
    }

    fn page(
        &mut self,
        session: &Session,
        from: usize,
        token: Option<&str>,
        self_link: &str,
        struck: &Struck,
        now: Timestamp,
    ) -> Reply {
        let length = session.items.len();
        let from = from.min(length);
        let to = (from + session.size).min(length);
        let mut entries = Vec::new();
        if from == 0 && self.behaviour.search_warning && matches!(session.items, Items::Matches(_)) {
            let warning = json!({
                "resource": {"resourceType": "OperationOutcome", "issue": [{
                    "severity": "warning", "code": "informational", "details": {"text": "Injected by the simulator"}}]},
                "search": {"mode": "outcome"},
            });
            entries.push(warning.to_string());
        }
        match &session.items {
            Items::Matches(ids) => {
                // What was deleted since the search began is left out.
                let found = ids[from..to].iter().filter_map(|id| self.store.indexed(&session.kind, id, session.strong));
                entries
                    .extend(found.map(|version| self.match_entry(&session.kind, version, session.elements.as_ref())));
            }
            Items::Versions(versions) => {
                entries.extend(versions[from..to].iter().map(|version| self.version_entry(&session.kind, version)));
            }
        }
        let mut links = vec![("self", self_link.to_owned())];
        let circle = struck.has(&Fault::NextInCircle);
        if let Some(token) = token.filter(|_| to < length || circle) {
            let to = if circle { 0 } else { to };
            let elsewhere = struck.first(|fault| match fault {
                Fault::NextElsewhere(base) => Some(base.clone()),
                _ => None,
            });
            let base = elsewhere.or_else(|| self.behaviour.next_base.clone()).unwrap_or_else(|| self.base.clone());
            links.push(("next", format!("{base}?{}", page_query(token, to))));
        }
        let total = (session.total || self.behaviour.totals).then_some(length);
        let kind = match session.items {
            Items::Matches(_) => "searchset",
            Items::Versions(_) => "history",
        };
        self.bundle(kind, total, &links, &entries, now)
    }

    pub(super) fn bundle(
        &mut self,
        kind: &str,
        total: Option<usize>,
        links: &[(&str, String)],
        entries: &[String],
        now: Timestamp,
    ) -> Reply {
        let mut text = format!(
            r#"{{"resourceType":"Bundle","id":"{}","meta":{{"lastUpdated":"{}"}},"type":"{kind}""#,
            self.front.uuid(),
            instant(now, self.behaviour.fraction),
        );
        if let Some(total) = total {
            // Writing to a String does not fail, here and below.
            let _ = write!(text, r#","total":{total}"#);
        }
        if !links.is_empty() {
            let links: Vec<_> = links.iter().map(|(name, url)| json!({"relation": name, "url": url})).collect();
            let _ = write!(text, r#","link":{}"#, serde_json::Value::Array(links));
        }
        if !entries.is_empty() {
            let _ = write!(text, r#","entry":[{}]"#, entries.join(","));
        }
        text.push('}');
        Reply::fhir(200, text)
    }

    fn match_entry(&self, kind: &str, version: &Version, elements: Option<&BTreeSet<String>>) -> String {
        let url = format!("{}/{kind}/{}", self.base, version.id);
        let resource = match (&version.content, elements) {
            (Some(content), None) => &content.text,
            (Some(content), Some(elements)) => &subset(&content.value, elements).to_string(),
            (None, _) => "null",
        };
        format!(r#"{{"fullUrl":"{url}","resource":{resource},"search":{{"mode":"match"}}}}"#)
    }

    fn version_entry(&self, kind: &str, version: &Version) -> String {
        let url = format!("{}/{kind}/{}", self.base, version.id);
        let resource = match &version.content {
            Some(content) => format!(r#""resource":{},"#, content.text),
            None => String::new(),
        };
        let (path, status) = match version.method {
            Method::Post => (kind.to_owned(), "201"),
            Method::Put => (format!("{kind}/{}", version.id), "200"),
            Method::Delete => (format!("{kind}/{}", version.id), "204"),
        };
        let request = json!({"method": version.method.as_str(), "url": path});
        let response = json!({
            "status": status,
            "etag": format!("W/\"{}\"", version.version_id),
            "lastModified": instant(version.stamp, self.behaviour.fraction),
        });
        format!(r#"{{"fullUrl":"{url}",{resource}"request":{request},"response":{response}}}"#)
    }
}

fn page_query(token: &str, offset: usize) -> String {
    format!("_getpages={token}&_getpagesoffset={offset}")
}
