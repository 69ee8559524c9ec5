//! The first view: is all well, and how was the day.

use serde::{Deserialize, Serialize};

use super::desk::{Detail, RecordName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Overview {
    pub connections: Vec<ConnectionLine>,
    /// False until what stations share has answered: then no figure here means anything.
    pub known: bool,
    pub waiting: u64,
    /// Age of the oldest thing wanted, in seconds.
    pub oldest_seconds: Option<u64>,
    /// The oldest should be younger than this.
    pub target_seconds: u64,
    /// Rows created or edited since midnight, by the clock on this wall.
    pub sent_today: u64,
    pub attention: u64,
    pub recent: Vec<RecentLine>,
    /// The others that share the work, this one included; empty where it works by itself.
    pub stations: Vec<StationLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct StationLine {
    /// "This PC (front-desk)", "desk-2".
    pub name: String,
    /// It was seen to live not long ago.
    pub good: bool,
    /// "seen 40 s ago"
    pub sentence: String,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ConnectionLine {
    pub firm: String,
    /// "FileMaker", "Chart system".
    pub name: String,
    pub good: bool,
    /// "answered 4 s ago", "away since 10:14: ...".
    pub sentence: String,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RecentLine {
    /// RFC 3339.
    pub at: String,
    /// "Sent to FileMaker: 3 fields".
    pub sentence: String,
    pub record: RecordName,
}

/// The last 24 hours, in 96 bins of 15 minutes; asked for when the Overview is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Day {
    /// RFC 3339; the first bin begins here.
    pub from: String,
    pub bins: Vec<Bin>,
    pub target_seconds: u64,
    /// When the last change was sent, if nothing was today (RFC 3339).
    pub last_sent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Bin {
    /// RFC 3339.
    pub from: String,
    /// The state that lasted longest; none: the program did not run.
    #[cfg_attr(test, ts(type = "State | null"))]
    pub state: Option<super::desk::State>,
    pub sent: u64,
    /// Records that came to need attention.
    pub failed: u64,
    /// Milliseconds from first seen to sent: median and 95th percentile.
    pub p50_ms: Option<u64>,
    pub p95_ms: Option<u64>,
}
