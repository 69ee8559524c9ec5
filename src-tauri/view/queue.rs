//! What waits, what is being worked on, what needs a person.

use serde::{Deserialize, Serialize};

use super::desk::{Detail, RecordName};

/// The same words in icon, table, filter and audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    NeedsAttention,
    WaitingForRecord,
    TryingAgain,
    InProgress,
    Waiting,
    SetAside,
}

/// Why a person sets something aside. A choice, so that no name is typed into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum AsideReason {
    EnteredByHand,
    NotNeeded,
    Duplicate,
    AskedIt,
}

impl From<AsideReason> for engine::action::AsideReason {
    fn from(reason: AsideReason) -> Self {
        match reason {
            AsideReason::EnteredByHand => Self::EnteredByHand,
            AsideReason::NotNeeded => Self::NotNeeded,
            AsideReason::Duplicate => Self::Duplicate,
            AsideReason::AskedIt => Self::AskedIt,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Queue {
    /// Those that need attention first, then by age, the oldest first.
    pub rows: Vec<QueueRow>,
    pub counts: Vec<QueueCount>,
    /// There are so many more than are listed.
    pub more: u64,
    /// "Paused until 14:30 (maria). What waits is kept."
    pub banner: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct QueueCount {
    pub state: QueueState,
    pub word: String,
    /// Among the listed rows.
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct QueueRow {
    /// A message that could not be read has no record: its label says so.
    pub record: RecordName,
    /// True for a message that could not be read: it can only be dropped.
    pub letter: bool,
    pub state: QueueState,
    /// "Needs attention", "Trying again (3 of 8)".
    pub word: String,
    /// "Intake form to FileMaker".
    pub what: String,
    /// First seen, RFC 3339.
    pub since: String,
    pub tries: u32,
    /// Next try, RFC 3339.
    pub next: Option<String>,
    /// What happened, what it means, what to do.
    pub reason: Option<String>,
    /// Rows of one reason are grouped by this.
    pub code: Option<String>,
    pub can_retry: bool,
    pub can_set_aside: bool,
    pub can_put_back: bool,
    pub can_drop: bool,
    pub details: Vec<Detail>,
}
