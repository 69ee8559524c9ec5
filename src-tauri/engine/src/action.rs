//! All that a person may ask of the engine.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::key::RecordKey;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// Poll everything now and try what waits. While paused it makes one full pass and stays paused.
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
    /// Take these dead records out of "needs attention", or put them back.
    SetAside {
        keys: Vec<RecordKey>,
        aside: bool,
    },
    /// Throw these unreadable messages away.
    DropLetters {
        ids: Vec<String>,
    },
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
            Action::SetAside { aside: true, .. } => "set-aside",
            Action::SetAside { aside: false, .. } => "put-back",
            Action::DropLetters { .. } => "drop-letters",
        }
    }
}
