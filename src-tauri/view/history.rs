//! What was done, in sentences with a direction: made from the audit log, so that both always agree.

use serde::{Deserialize, Serialize};

use super::desk::{Detail, RecordName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    ToFileMaker,
    /// A person asked for something.
    Here,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum HistoryOutcome {
    Done,
    Refused,
    /// No answer came; the next look settles it.
    Unknown,
    Interrupted,
    /// Not finished yet.
    Open,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct HistoryQuery {
    /// Entries older than this one.
    pub before: Option<u64>,
    pub direction: Option<Direction>,
    pub outcome: Option<HistoryOutcome>,
    /// A record's key.
    pub record: Option<String>,
    /// RFC 3339.
    pub since: Option<String>,
    pub until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct History {
    /// Newest first.
    pub rows: Vec<HistoryRow>,
    /// For the next page.
    pub next: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct HistoryRow {
    /// The entry of the audit log.
    pub entry: u64,
    /// RFC 3339.
    pub at: String,
    pub direction: Direction,
    /// "Sent to FileMaker".
    pub sentence: String,
    pub record: Option<RecordName>,
    /// "Patient", "Intake form"; empty where no record is concerned.
    pub what: String,
    pub outcome: HistoryOutcome,
    pub outcome_word: String,
    /// Names of the fields that were written; their values are not kept.
    pub fields: Vec<String>,
    pub person: Option<String>,
    pub details: Vec<Detail>,
}
