//! What records are called on the screen: the patient's pseudonym where the patient is known, else one of the record's own.
//!
//! Pseudonyms are keyed and the window has no key, so the relay is asked for them, once for each record.

use std::collections::{BTreeMap, BTreeSet};

use engine::key::{FirmId, Kind, RecordKey, StationId};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    desk::{Detail, RecordName, Right, Role},
    words,
};
use crate::{
    control::{About, Tag},
    stations::Seen,
};

/// The pseudonyms that are known so far.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<RecordKey, Tag>);

impl Names {
    /// Those of which the relay is to be asked. A record whose patient was not known is asked for again: by now it may be.
    pub fn missing<'a>(&self, keys: impl IntoIterator<Item = &'a RecordKey>) -> Vec<RecordKey> {
        let unknown = |key: &&RecordKey| self.0.get(*key).is_none_or(|tag| !tag.patient);
        let keys: BTreeSet<_> = keys.into_iter().filter(unknown).cloned().collect();
        keys.into_iter().collect()
    }

    pub fn learn(&mut self, tags: Vec<Tag>) {
        self.0.extend(tags.into_iter().map(|tag| (tag.key.clone(), tag)));
    }

    /// "Patient 4F2K7", or "Measurement 9C1F2" while its patient is not known.
    fn label(&self, key: &RecordKey) -> String {
        match self.0.get(key) {
            Some(tag) if tag.patient => format!("{} {}", words::resource("Patient"), tag.pseudonym),
            Some(tag) => format!("{} {}", what(key), tag.pseudonym),
            None => what(key).to_owned(),
        }
    }
}

fn what(key: &RecordKey) -> &str {
    match key.kind {
        Kind::Encounter => words::VISIT,
        // A photograph, a note: whatever an EHR files as one.
        Kind::Document => words::DOCUMENT,
        _ => words::resource(key.resource.as_str()),
    }
}

/// What every list needs to know beside the answers it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub about: &'a About,
    pub names: &'a Names,
    /// Who takes part, as the relay last said; this one included.
    pub stations: &'a [Seen],
    pub role: Role,
    pub now: Timestamp,
    pub zone: &'a TimeZone,
}

impl Context<'_> {
    pub fn record(&self, key: &RecordKey) -> RecordName {
        RecordName {
            key: key.to_string(),
            label: self.names.label(key),
            firm: self.firm(&key.firm),
            named: key.kind == Kind::Link,
        }
    }

    /// The clinic's name for the screen.
    pub fn firm(&self, firm: &FirmId) -> String {
        let known = self.about.firms.iter().find(|known| known.id == *firm);
        known.map_or_else(|| firm.to_string(), |known| known.name.clone())
    }

    /// Whether clinics have to be told apart.
    pub fn several(&self) -> bool {
        self.about.firms.len() > 1
    }

    pub fn here(&self, station: &StationId) -> bool {
        self.about.station == *station
    }

    /// What stands behind "Details for IT", for those who may see it.
    pub fn details<'d>(&self, details: impl IntoIterator<Item = (&'d str, Option<String>)>) -> Vec<Detail> {
        if !self.role.has(Right::Details) {
            return Vec::new();
        }
        let told = details.into_iter().filter_map(|(name, value)| Some((name, value?)));
        told.map(|(name, value)| Detail { name: name.to_owned(), value }).collect()
    }
}
