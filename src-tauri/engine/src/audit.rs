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
}
