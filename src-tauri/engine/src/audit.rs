//! What an audit entry says. An entry is begun before each outside write and completed after it; what the log promises about
//! order and tampering is the adapter's ([`crate::ports::AuditLog`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{error::Code, key::RecordKey, ledger::Owner};

/// The place of an entry in the log, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    CreateRow,
    EditRow,
    /// In the chart.
    CreateResource,
    UpdateResource,
    /// A marked row is made, tried and deleted, to see whether the key is unique.
    ProbeKey,
    /// The recovery sheet of the clinic key was shown or written, or the key restored from it.
    ClinicKey,
    /// A person asked the engine for something.
    Asked,
    /// A person looked at something that was masked.
    Revealed,
}

/// What is about to be done. Names fields, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub at: Timestamp,
    pub by: Owner,
    /// The signed-in OS user where a person acts.
    pub person: Option<String>,
    pub act: Act,
    pub key: Option<RecordKey>,
    pub epoch: u64,
    /// The version the write is guarded with.
    pub expected: Option<String>,
    pub fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    Done {
        version: Option<String>,
    },
    /// Nothing was changed.
    Refused {
        code: Code,
    },
    /// It may or may not have happened; the run that looks next decides what follows.
    Unknown {
        code: Code,
    },
    /// The station ended in between; said by a later boot.
    Interrupted,
}

/// One entry as it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: AuditId,
    pub begun: Begun,
    pub outcome: Option<Outcome>,
    /// When the outcome was written.
    pub resolved: Option<Timestamp>,
}

/// Which entries are looked for: those that fit everything that is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Older than this one.
    pub before: Option<AuditId>,
    pub limit: usize,
    /// One of these; empty: any.
    #[serde(default)]
    pub acts: Vec<Act>,
    #[serde(default)]
    pub person: Option<String>,
    #[serde(default)]
    pub outcome: Option<Ended>,
    #[serde(default)]
    pub record: Option<RecordKey>,
    /// Begun at this time or later.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Begun before this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// An outcome without its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Done,
    Refused,
    Unknown,
    Interrupted,
    /// Not ended yet.
    Open,
}

/// What a search found, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Look on from here: there are more, or the search was broken off after a long stretch of log. `None`: that was all.
    pub next: Option<AuditId>,
}

impl Search {
    /// The newest, whatever they are.
    pub fn newest(limit: usize) -> Self {
        Self {
            before: None,
            limit,
            acts: Vec::new(),
            person: None,
            outcome: None,
            record: None,
            since: None,
            until: None,
        }
    }

    /// Whether an entry is one of those looked for; its place in the log aside.
    pub fn fits(&self, entry: &Entry) -> bool {
        let begun = &entry.begun;
        (self.acts.is_empty() || self.acts.contains(&begun.act))
            && (self.person.is_none() || self.person == begun.person)
            && self.outcome.is_none_or(|outcome| outcome == entry.ended())
            && (self.record.is_none() || self.record == begun.key)
            && self.since.is_none_or(|since| begun.at >= since)
            && self.until.is_none_or(|until| begun.at < until)
    }
}

impl Entry {
    pub fn ended(&self) -> Ended {
        match self.outcome {
            Some(Outcome::Done { .. }) => Ended::Done,
            Some(Outcome::Refused { .. }) => Ended::Refused,
            Some(Outcome::Unknown { .. }) => Ended::Unknown,
            Some(Outcome::Interrupted) => Ended::Interrupted,
            None => Ended::Open,
        }
    }
}
