//! What the server holds: every version of every resource, and the indexes that searches use.
//!
//! A version that was written is not at once what a caller sees. Reads and searches each see what was *published* to
//! them, so that a late commit, a read that lags behind its write and an index that lags behind the table (facts of
//! polling, FHIR fact sheet 1.2) are the same mechanism with different delays.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The id of a resource within its type.
pub(crate) type Id = Arc<str>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Post,
    Put,
    Delete,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

pub(crate) struct Content {
    pub(crate) value: Value,
    pub(crate) text: String,
}

pub(crate) struct Version {
    pub(crate) id: Id,
    pub(crate) version_id: String,
    pub(crate) stamp: Timestamp,
    pub(crate) method: Method,
    /// Order of writing over the whole server; breaks ties between equal stamps.
    pub(crate) sequence: u64,
    /// `None` for a deletion.
    pub(crate) content: Option<Content>,
}

/// When a version reaches the reads and the searches; `None` is at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Publication {
    pub(crate) reads: Option<Timestamp>,
    pub(crate) searches: Option<Timestamp>,
    /// Whether searches lose sight of the version before until this one reaches them.
    pub(crate) hides: bool,
}

/// What one write needs besides its resource.
pub(crate) struct Stamp {
    pub(crate) at: Timestamp,
    pub(crate) version_id: String,
    pub(crate) method: Method,
    pub(crate) publication: Publication,
    /// Whether `meta.lastUpdated` shows milliseconds.
    pub(crate) fraction: bool,
}

#[derive(Default)]
struct Row {
    versions: Vec<Arc<Version>>,
    /// How many of the versions reads can see.
    readable: usize,
    /// How many of the versions the search index has taken in.
    indexed: usize,
    /// Whether the index is being updated, so that searches find nothing of it.
    hidden: bool,
}

#[derive(Default)]
struct Kind {
    rows: BTreeMap<Id, Row>,
    by_time: BTreeSet<(Timestamp, u64, Id)>,
    by_identifier: BTreeMap<(String, String), BTreeSet<Id>>,
    by_reference: BTreeMap<String, BTreeSet<Id>>,
    log: BTreeMap<(Timestamp, u64), (Id, usize)>,
}

struct Pending {
    due: Timestamp,
    kind: String,
    id: Id,
    count: usize,
    search: bool,
}

#[derive(Default)]
pub(crate) struct Store {
    kinds: BTreeMap<String, Kind>,
    pending: Vec<Pending>,
    sequence: u64,
}

impl Store {
    /// Adds a version; `None` for the resource deletes it.
    pub(crate) fn write(&mut self, kind: &str, id: &str, resource: Option<&Value>, stamp: Stamp) -> Arc<Version> {
        self.sequence += 1;
        let id: Id = Arc::from(id);
        let content = resource.map(|resource| {
            let value = stamped(resource, kind, &id, &stamp);
            let text = value.to_string();
            Content { value, text }
        });
        let version = Arc::new(Version {
            id: Arc::clone(&id),
            version_id: stamp.version_id,
            stamp: stamp.at,
            method: stamp.method,
            sequence: self.sequence,
            content,
        });
        let shelf = self.kinds.entry(kind.to_owned()).or_default();
        let row = shelf.rows.entry(Arc::clone(&id)).or_default();
        row.versions.push(Arc::clone(&version));
        row.hidden |= stamp.publication.hides && stamp.publication.searches.is_some();
        let count = row.versions.len();
        shelf.log.insert((version.stamp, version.sequence), (Arc::clone(&id), count - 1));
        for (due, search) in [(stamp.publication.reads, false), (stamp.publication.searches, true)] {
            match due {
                None => self.publish(kind, &id, count, search),
                Some(due) => {
                    self.pending.push(Pending { due, kind: kind.to_owned(), id: Arc::clone(&id), count, search });
                }
            }
        }
        version
    }

    /// Publishes what has come due.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        if self.pending.iter().all(|pending| pending.due > now) {
            return;
        }
        let (due, later) = std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.due <= now);
        self.pending = later;
        for pending in Vec::<Pending>::from_iter(due) {
            self.publish(&pending.kind, &pending.id, pending.count, pending.search);
        }
    }

    fn publish(&mut self, kind: &str, id: &Id, count: usize, search: bool) {
        let Some(shelf) = self.kinds.get_mut(kind) else {
            return;
        };
        let Some(row) = shelf.rows.get_mut(id) else {
            return;
        };
        if !search {
            row.readable = row.readable.max(count);
            return;
        }
        if row.indexed >= count {
            return;
        }
        let before = row.indexed.checked_sub(1).map(|at| Arc::clone(&row.versions[at]));
        let after = Arc::clone(&row.versions[count - 1]);
        row.indexed = count;
        row.hidden &= count < row.versions.len();
        if let Some(before) = before {
            shelf.index(&before, false);
        }
        shelf.index(&after, true);
    }

    /// The newest version written, published or not.
    pub(crate) fn latest(&self, kind: &str, id: &str) -> Option<&Arc<Version>> {
        self.row(kind, id)?.versions.last()
    }

    /// The version that a read shows.
    pub(crate) fn readable(&self, kind: &str, id: &str) -> Option<&Arc<Version>> {
        let row = self.row(kind, id)?;
        row.readable.checked_sub(1).map(|at| &row.versions[at])
    }

    /// The version that a search shows, unless that is a deletion; `strong` shows the version before while the index is updated.
    pub(crate) fn indexed(&self, kind: &str, id: &str, strong: bool) -> Option<&Arc<Version>> {
        let row = self.row(kind, id).filter(|row| strong || !row.hidden)?;
        let version = row.indexed.checked_sub(1).map(|at| &row.versions[at])?;
        version.content.as_ref().map(|_| version)
    }

    /// Every version that reads can see, oldest first.
    pub(crate) fn versions(&self, kind: &str, id: &str) -> &[Arc<Version>] {
        self.row(kind, id).map_or(&[], |row| &row.versions[..row.readable])
    }

    /// Every version of a type from `since` on that reads can see, oldest first.
    pub(crate) fn log(&self, kind: &str, since: Timestamp) -> Vec<Arc<Version>> {
        let Some(shelf) = self.kinds.get(kind) else {
            return Vec::new();
        };
        let written = shelf.log.range((since, 0)..).filter_map(|(_, (id, at))| {
            let row = shelf.rows.get(id)?;
            (*at < row.readable).then(|| Arc::clone(&row.versions[*at]))
        });
        written.collect()
    }

    /// The types that hold anything, in alphabetical order.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// The ids of a type that a search can find, oldest change first.
    pub(crate) fn by_time(&self, kind: &str, from: Bound<Timestamp>, to: Bound<Timestamp>) -> Vec<Id> {
        let Some(shelf) = self.kinds.get(kind) else {
            return Vec::new();
        };
        let lowest: Id = Arc::from("");
        let from = match from {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(at) => Bound::Included((at, 0, lowest)),
            Bound::Excluded(at) => Bound::Excluded((at, u64::MAX, lowest)),
        };
        let inside = |at: Timestamp| match to {
            Bound::Unbounded => true,
            Bound::Included(to) => at <= to,
            Bound::Excluded(to) => at < to,
        };
        let found = shelf.by_time.range((from, Bound::Unbounded)).take_while(|(at, _, _)| inside(*at));
        found.map(|(_, _, id)| Arc::clone(id)).collect()
    }

    /// The ids whose resource carries this identifier.
    pub(crate) fn by_identifier(&self, kind: &str, system: &str, value: &str) -> Vec<Id> {
        let key = (system.to_owned(), value.to_owned());
        let found = self.kinds.get(kind).and_then(|shelf| shelf.by_identifier.get(&key));
        found.into_iter().flatten().cloned().collect()
    }

    /// The ids whose subject, patient or encounter is this relative reference.
    pub(crate) fn by_reference(&self, kind: &str, reference: &str) -> Vec<Id> {
        let found = self.kinds.get(kind).and_then(|shelf| shelf.by_reference.get(reference));
        found.into_iter().flatten().cloned().collect()
    }

    fn row(&self, kind: &str, id: &str) -> Option<&Row> {
        self.kinds.get(kind)?.rows.get(id)
    }
}

impl Kind {
    fn index(&mut self, version: &Version, insert: bool) {
        let Some(content) = &version.content else {
            return;
        };
        let id = &version.id;
        let time = (version.stamp, version.sequence, Arc::clone(id));
        if insert {
            self.by_time.insert(time);
        } else {
            self.by_time.remove(&time);
        }
        for key in identifiers(&content.value) {
            mark(&mut self.by_identifier, key, id, insert);
        }
        for key in references(&content.value) {
            mark(&mut self.by_reference, key, id, insert);
        }
    }
}

fn mark<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Id>>, key: K, id: &Id, insert: bool) {
    if insert {
        index.entry(key).or_default().insert(Arc::clone(id));
    } else if let Some(ids) = index.get_mut(&key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}

/// The (system, value) pairs of `identifier` (a list, or one in QuestionnaireResponse) and `masterIdentifier`.
pub(crate) fn identifiers(resource: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for element in ["identifier", "masterIdentifier"] {
        for identifier in each(&resource[element]) {
            if let Some(value) = identifier["value"].as_str() {
                found.push((identifier["system"].as_str().unwrap_or_default().to_owned(), value.to_owned()));
            }
        }
    }
    found
}

/// The relative references of `subject` and `patient`, and those to encounters.
fn references(resource: &Value) -> Vec<String> {
    let mut found = encounters(resource);
    for element in ["subject", "patient"] {
        for reference in each(&resource[element]) {
            found.extend(reference["reference"].as_str().map(relative));
        }
    }
    found
}

/// The relative references to encounters: `encounter`, or `context.encounter` of a DocumentReference.
pub(crate) fn encounters(resource: &Value) -> Vec<String> {
    let held = each(&resource["encounter"]).iter().chain(each(&resource["context"]["encounter"]));
    held.filter_map(|reference| reference["reference"].as_str().map(relative)).collect()
}

/// `Type/id` of a reference that may be absolute or name a version.
pub(crate) fn relative(reference: &str) -> String {
    let plain = reference.split("/_history/").next().unwrap_or(reference);
    let mut parts = plain.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some(id), Some(kind)) => format!("{kind}/{id}"),
        _ => plain.to_owned(),
    }
}

/// The items of a list, the one value that is not a list, or nothing.
pub(crate) fn each(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// The resource as the server keeps it: its own id, versionId and lastUpdated in place of the caller's.
fn stamped(resource: &Value, kind: &str, id: &str, stamp: &Stamp) -> Value {
    let mut meta = Map::new();
    meta.insert("versionId".into(), json!(stamp.version_id));
    meta.insert("lastUpdated".into(), json!(instant(stamp.at, stamp.fraction)));
    if let Some(given) = resource["meta"].as_object() {
        for (name, value) in given {
            if name != "versionId" && name != "lastUpdated" {
                meta.insert(name.clone(), value.clone());
            }
        }
    }
    let mut kept = Map::new();
    kept.insert("resourceType".into(), json!(kind));
    kept.insert("id".into(), json!(id));
    kept.insert("meta".into(), Value::Object(meta));
    for (name, value) in resource.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "resourceType" | "id" | "meta") {
            kept.insert(name.clone(), value.clone());
        }
    }
    Value::Object(kept)
}

/// An `instant` in UTC, with milliseconds or with whole seconds.
pub(crate) fn instant(at: Timestamp, fraction: bool) -> String {
    if fraction { format!("{at:.3}") } else { format!("{at:.0}") }
}
