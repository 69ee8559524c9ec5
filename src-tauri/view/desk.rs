//! What the window shows around and above every view: the verdict, who sits here and what they may do, Sync now and the pause.

use std::time::Duration;

/// The seven states of the icon are the engine's verdicts.
pub use engine::snapshot::State;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::overview::Overview;

/// What is set for the desk that this station stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub role: Role,
    /// Names are masked from the start.
    pub privacy: bool,
    /// The window locks after so long without a key or a click; zero: never.
    pub lock_after: Duration,
    /// Opening hours by the clock on the wall. Where `closes` is not after `opens`, they go on past midnight.
    pub opens: civil::Time,
    pub closes: civil::Time,
    /// Start when somebody signs in to this PC.
    pub autostart: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::FrontDesk,
            privacy: true,
            lock_after: Duration::from_secs(5 * 60),
            opens: civil::time(8, 0, 0, 0),
            closes: civil::time(18, 0, 0, 0),
            autostart: true,
        }
    }
}

impl Settings {
    /// Whether the clinic is open.
    pub fn open(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let time = now.to_zoned(zone.clone()).time();
        if self.opens < self.closes {
            (self.opens..self.closes).contains(&time)
        } else {
            time >= self.opens || time < self.closes
        }
    }

    /// When the clinic closes next; none while it is closed, since what "until closing time" means then is anyone's guess.
    pub fn closing(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.open(now, zone) {
            return None;
        }
        let today = now.to_zoned(zone.clone()).date();
        [Some(today), today.tomorrow().ok()].into_iter().flatten().find_map(|date| {
            let closing = date.to_datetime(self.closes).to_zoned(zone.clone()).ok()?.timestamp();
            (closing > now).then_some(closing)
        })
    }
}

/// What the person at this station does; a setting of the station. A guard rail, not a wall: whoever may use the account can use the
/// command line too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    #[default]
    FrontDesk,
    Manager,
    Clinician,
    It,
}

/// What a role may do, for the window to show or hide; asked again before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    SyncNow,
    Pause,
    /// Try again and set aside, up to ten at once.
    Mend,
    /// The same for more than ten at once.
    MendMany,
    /// Throw unreadable messages away.
    Drop,
    Reveal,
    /// Codes, keys, epochs behind "Details for IT".
    Details,
    VerifyAudit,
}

/// One thing behind "Details for IT".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Detail {
    pub name: String,
    pub value: String,
}

/// A record as people see it: a pseudonym until its name is revealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RecordName {
    /// What actions name it by; not for the screen.
    pub key: String,
    /// "Patient 4F2", the same each time and telling nothing.
    pub label: String,
    /// The clinic's name for the screen.
    pub firm: String,
    /// There is a name behind it; a message, a poll or a proof has none.
    pub named: bool,
}

/// A reason, with the button that leads on, if one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Cause {
    #[cfg_attr(test, ts(type = "State"))]
    pub state: State,
    /// "Can't reach FileMaker since 10:14. Changes are kept."
    pub sentence: String,
    pub go: Option<Go>,
    pub details: Vec<Detail>,
}

/// Where a button leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Go {
    QueueAttention,
    Conflicts,
    QueueWaiting,
    LocksOverdue,
    Resume,
    /// Copies the diagnostic summary: this is for IT.
    Summary,
}

/// The state in one sentence, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Card {
    #[cfg_attr(test, ts(type = "State"))]
    pub state: State,
    /// The same as the tray's first line.
    pub sentence: String,
    /// When the picture was made (RFC 3339); for `UpToDate` the time of the proof.
    pub at: String,
    /// Everything that is not well, the worst first; empty when all is.
    pub causes: Vec<Cause>,
}

/// Sync now: whether it can be pressed, what it is doing, how it last ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SyncNow {
    pub can: bool,
    /// "Checking FileMaker..." while it runs.
    pub running: Option<String>,
    /// "Manual sync 10:42: 3 sent, 0 failed."
    pub last: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PauseNow {
    /// RFC 3339.
    pub until: String,
    /// "Paused until 14:30 (maria)".
    pub sentence: String,
}

/// The lengths of pause that this role may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum PauseFor {
    QuarterHour,
    Hour,
    /// Until this station's closing time.
    Closing,
}

/// Is the picture fresh?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Live {
    Live,
    /// The sync no longer answers; everything shown is from then (RFC 3339).
    Silent {
        since: String,
        sentence: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Station {
    pub name: String,
    /// The signed-in account of the operating system.
    pub person: String,
    pub role: Role,
    pub rights: Vec<Right>,
    pub pauses: Vec<PauseFor>,
    /// Names are masked until each is revealed.
    pub privacy: bool,
    /// Minutes without a key or a click until the window locks; 0: never.
    pub lock_after_minutes: u32,
    /// A PIN is set, so that unlocking asks for it.
    pub pin: bool,
    /// A synthetic clinic: nothing here is real.
    pub demo: bool,
    /// An icon shows the same. False: this PC can show none, or the program that shows it is gone.
    pub tray: bool,
}

/// The whole of what is pushed to the window, at most once a second and only when it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Desk {
    /// Rises with everything that may have changed a list.
    pub revision: u64,
    pub live: Live,
    pub station: Station,
    pub card: Card,
    pub sync: SyncNow,
    pub pause: Option<PauseNow>,
    pub overview: Overview,
    /// For the navigation's badges.
    pub waiting: u64,
    /// All that needs a person, the conflicts among it.
    pub attention: u64,
    pub conflicts: u64,
    /// An EHR is watched, so there is something to show of that.
    pub watches: bool,
}

/// What the window shows when there is nothing to show yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Opening {
    /// The relay answers.
    Ready,
    /// No configuration: where it is looked for.
    Welcome { file: String },
    /// The configuration has mistakes, each with its place and its mend.
    Mistakes { file: String, mistakes: Vec<String> },
    /// The relay cannot start, or is not running; the sentence says why and what to do.
    NotRunning { sentence: String },
    /// The window is locked: no command but `unlock` does anything until it is opened.
    Locked {
        /// A PIN is asked for.
        pin: bool,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Problem {
    pub sentence: String,
    pub code: Option<String>,
}

impl Problem {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: None }
    }
}
