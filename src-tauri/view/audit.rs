//! The audit log as it stands, and the proof that it is unaltered.

use serde::{Deserialize, Serialize};

use super::{desk::RecordName, history::HistoryOutcome};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AuditQuery {
    pub before: Option<u64>,
    pub person: Option<String>,
    /// As `AuditRow::act`.
    pub act: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Audit {
    /// Newest first.
    pub rows: Vec<AuditRow>,
    pub next: Option<u64>,
    pub chain: Option<Chain>,
    /// What can be chosen as `AuditQuery::act`, each with its word.
    pub acts: Vec<ActWord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ActWord {
    pub act: String,
    pub word: String,
}

/// The last verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Chain {
    pub at: String,
    pub entries: u64,
    pub intact: bool,
    /// "Verified at 10:40: 18 204 entries, each in its place."
    pub sentence: String,
    /// Each finding; empty when intact.
    pub findings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AuditRow {
    pub entry: u64,
    pub at: String,
    /// The account of the operating system, or "Chart Relay".
    pub who: String,
    pub act: String,
    /// "Row created", "Name revealed".
    pub word: String,
    pub record: Option<RecordName>,
    pub outcome: HistoryOutcome,
    pub outcome_word: String,
    /// Field names, or what was asked.
    pub about: Vec<String>,
    /// The station.
    pub station: String,
}

/// What a reveal answers with; shown for ten seconds and never kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Revealed {
    pub key: String,
    /// The patient's name as the chart has it now; none: the chart has none, or does not answer.
    pub name: Option<String>,
    /// Why there is none.
    pub sentence: Option<String>,
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revealed(..)")
    }
}
