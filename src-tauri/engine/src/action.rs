//! All that a person may ask of the engine.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    key::{FirmId, RecordKey, ResourceType},
    keys::FieldHash,
    row::Shown,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// One full pass over all firms and all types, see [`crate::manual`]. While paused it is made all the same, and the pause stays.
    /// Refused while one is running.
    SyncNow,
    /// Begin nothing new until then. What runs is finished.
    Pause {
        until: Timestamp,
    },
    Resume,
    /// Run these again, dead or not.
    Retry {
        keys: Vec<RecordKey>,
    },
    /// Make these equal again, whatever stopped them before: a person has looked at what differs.
    Resync {
        keys: Vec<RecordKey>,
    },
    /// Decide what one field of a record is to be. Refused if either side has changed since `seen`.
    Settle {
        key: RecordKey,
        field: String,
        seen: Seen,
        choice: Choice,
    },
    /// The rows of this type that are missing in FileMaker were deleted on purpose.
    Deleted {
        firm: FirmId,
        resource: ResourceType,
    },
    /// Take these dead records out of "needs attention".
    SetAside {
        keys: Vec<RecordKey>,
        reason: AsideReason,
    },
    /// And put them back.
    PutBack {
        keys: Vec<RecordKey>,
    },
    /// Read these messages again, as the configuration and this program are now.
    RetryLetters {
        ids: Vec<String>,
    },
    /// Throw these unreadable messages away.
    DropLetters {
        ids: Vec<String>,
    },
}

/// What both sides of a field said when a person saw them, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub chart: FieldHash,
    pub row: FieldHash,
}

/// What a person chose for a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "value")]
pub enum Choice {
    Chart,
    Row,
    /// Neither: this, for both.
    Value(Shown),
}

impl Choice {
    /// For the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Choice::Chart => "chart",
            Choice::Row => "row",
            Choice::Value(_) => "typed",
        }
    }
}

/// Why a person sets something aside. A choice, so that no name is typed into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AsideReason {
    EnteredByHand,
    NotNeeded,
    Duplicate,
    AskedIt,
}

impl AsideReason {
    pub const ALL: [AsideReason; 4] =
        [AsideReason::EnteredByHand, AsideReason::NotNeeded, AsideReason::Duplicate, AsideReason::AskedIt];

    /// For the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            AsideReason::EnteredByHand => "entered-by-hand",
            AsideReason::NotNeeded => "not-needed",
            AsideReason::Duplicate => "duplicate",
            AsideReason::AskedIt => "asked-it",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// An action with its answer: done, or why not.
#[derive(Debug)]
pub struct Asked {
    pub action: Action,
    /// The signed-in OS user, for the audit log.
    pub person: Option<String>,
    pub answer: oneshot::Sender<Result<(), crate::error::Fault>>,
}

impl Action {
    /// For the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Action::SyncNow => "sync-now",
            Action::Pause { .. } => "pause",
            Action::Resume => "resume",
            Action::Retry { .. } => "retry",
            Action::Resync { .. } => "resync",
            Action::Settle { .. } => "settle",
            Action::Deleted { .. } => "deleted",
            Action::SetAside { .. } => "set-aside",
            Action::PutBack { .. } => "put-back",
            Action::RetryLetters { .. } => "retry-letters",
            Action::DropLetters { .. } => "drop-letters",
        }
    }

    /// Whether the answer waits for a run, which may take as long as two servers take.
    pub fn is_answered_by_a_run(&self) -> bool {
        matches!(self, Action::Resync { .. } | Action::Settle { .. })
    }

    /// Why, where a person has to say it.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Action::SetAside { reason, .. } => Some(reason.as_str()),
            _ => None,
        }
    }
}
