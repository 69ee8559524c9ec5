//! Sync now: one full pass over all firms and all their types, asked for by a person.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{connection::Side, error::Code, key::FirmId};

/// What a pass is doing, or how the last one ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manual {
    pub began: Timestamp,
    /// The signed-in OS user who asked for it.
    pub by: Option<String>,
    pub stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stage {
    /// Asks this side whether it is there, or what changed.
    Checking {
        side: Side,
    },
    /// What was found is being run.
    Sending,
    Finished(Finished),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub at: Timestamp,
    /// Rows created or edited meanwhile.
    pub sent: u64,
    /// Records that came to need attention meanwhile.
    pub failed: u64,
    /// Records that still wait.
    pub waiting: u64,
    /// Everything was looked at, or has its obstacle below. If not, the pass took too long or the program ended; what is left
    /// goes on by itself.
    pub complete: bool,
    /// What was in its way, the chart systems first.
    pub obstacles: Vec<Obstacle>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    pub firm: FirmId,
    pub side: Side,
    pub code: Code,
    /// How long a quota asked us to wait, as of the end.
    pub left: Option<Duration>,
}

impl Manual {
    pub fn is_running(&self) -> bool {
        !matches!(self.stage, Stage::Finished(_))
    }
}
