//! "Records being worked on now".

use serde::{Deserialize, Serialize};

use super::desk::{Detail, RecordName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum LockGroup {
    /// Nobody renews it, or it has no end: a fault.
    Overdue,
    Active,
    /// Held by a person: the record is open in FileMaker.
    InFileMaker,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Lock {
    pub record: RecordName,
    pub group: LockGroup,
    /// "This PC", "Station desk-2", "Someone in FileMaker".
    pub holder: String,
    /// RFC 3339.
    pub since: Option<String>,
    /// Without renewal it is free after this many seconds.
    pub term_seconds: Option<u64>,
    /// "Patient to FileMaker", "Reads the chart system".
    pub what: String,
    /// "Another change waits behind it."
    pub behind: Option<String>,
    /// What happens next.
    pub sentence: String,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Locks {
    pub rows: Vec<Lock>,
    pub more: u64,
}
