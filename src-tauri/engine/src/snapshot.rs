//! What the engine shows of itself, and the verdict that the icon shows. Ids, counts, codes and times only.

mod verdict;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::verdict::{Limits, State, Verdict};
use crate::{
    connection::{Health, Side},
    ehr::{QuotaShown, Watching},
    error::Code,
    journal::Journal,
    key::{FirmId, RecordKey, ResourceType},
    manual::Manual,
    server_clock::WrongClock,
    status::Missing,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for the queue and ledger that stations share; nothing has begun.
    Joining,
    Running,
    /// Nothing new begins; what runs is finished.
    Draining,
    Stopped,
}

/// Nothing new begins until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub until: Timestamp,
    /// The signed-in OS user who asked for it.
    pub by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    pub firm: FirmId,
    pub side: Side,
    pub health: Health,
    /// Time since the last answer.
    pub silent_for: Option<Duration>,
    /// It is asked at least so often whether it is there.
    pub probe_every: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollView {
    pub firm: FirmId,
    pub side: Side,
    pub resource: ResourceType,
    pub every: Duration,
    pub sweep_every: Duration,
    /// Time since the last complete poll, the last complete sweep.
    pub polled: Option<Duration>,
    pub swept: Option<Duration>,
    pub watermark: Option<Timestamp>,
    /// How long hints had been on their way, at the last poll, that are not known to have arrived.
    #[serde(default)]
    pub under_way: Option<Duration>,
    /// What a person should know of how changes are found there.
    pub remark: Option<Code>,
    /// Rows that are gone, so many that a person has to say what follows.
    pub missing: Option<Missing>,
}

impl PollView {
    /// Or no hint has been lost, as far as the polls have looked.
    fn hints_arrive(&self) -> bool {
        self.under_way.is_none_or(|under_way| under_way <= (self.every * 3).max(UNDER_WAY))
    }
}

/// So long a hint may be on its way where polls are frequent.
const UNDER_WAY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub runs: u64,
    pub rows_created: u64,
    pub rows_edited: u64,
    /// Resources of the chart that were made, and changed.
    #[serde(default)]
    pub resources_created: u64,
    #[serde(default)]
    pub resources_updated: u64,
    /// Runs that found nothing to write.
    pub unchanged: u64,
    pub retries: u64,
    /// Records that came to need attention.
    pub failed: u64,
    pub hints: u64,
    pub deliveries: u64,
    pub acknowledged: u64,
    pub coalesced: u64,
}

impl Totals {
    /// Changes that were sent to either side.
    pub fn sent(&self) -> u64 {
        self.rows_created + self.rows_edited + self.resources_created + self.resources_updated
    }
}

/// A lease that this station holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub key: RecordKey,
    pub since: Timestamp,
}

/// A line of "last events".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub key: RecordKey,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum What {
    Created {
        fields: usize,
    },
    Edited {
        fields: usize,
    },
    /// In the chart.
    Updated {
        fields: usize,
    },
    /// A row's resource was made in the chart.
    Entered {
        fields: usize,
    },
    /// A row was found to be about a resource of the chart.
    Linked,
    /// On both sides.
    Merged {
        to_row: usize,
        to_chart: usize,
    },
    Waits {
        code: Code,
    },
    Retries {
        code: Code,
        attempt: u32,
    },
    NeedsAttention {
        code: Code,
    },
    Kept {
        code: Code,
    },
}

impl What {
    /// Whether something was written.
    pub fn was_sent(&self) -> bool {
        matches!(
            self,
            What::Created { .. }
                | What::Edited { .. }
                | What::Updated { .. }
                | What::Merged { .. }
                | What::Entered { .. }
                | What::Linked
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Rises with each.
    pub revision: u64,
    pub at: Timestamp,
    pub phase: Phase,
    pub pause: Option<Pause>,
    /// Sync now: what it is doing, or how it last ended.
    pub manual: Option<Manual>,
    pub connections: Vec<ConnectionView>,
    pub polls: Vec<PollView>,
    /// The EHRs that are watched.
    #[serde(default)]
    pub watching: Vec<Watching>,
    /// The API keys under which they are asked.
    #[serde(default)]
    pub quotas: Vec<QuotaShown>,
    /// In the queue, about.
    pub queue_waiting: u64,
    pub queue_in_flight: u64,
    /// What queue and ledger refuse, where stations share them; see [`crate::storage`].
    pub storage: Vec<Health>,
    /// Time since a receive last came back, and since the queue was last seen to be empty.
    pub received: Option<Duration>,
    pub received_empty: Option<Duration>,
    /// Time since the figures of the queue and of the ledger were last read.
    pub counted: Option<Duration>,
    pub records: u64,
    pub wanted: u64,
    pub oldest_wanted: Option<Duration>,
    pub running: Vec<RecordKey>,
    pub holdings: Vec<Holding>,
    /// By anybody.
    pub leases_held: u64,
    pub leases_overdue: u64,
    /// The first of them.
    pub overdue: Vec<RecordKey>,
    /// Held without an end, by others: a fault.
    pub leases_endless: u64,
    pub dead: u64,
    pub differs: u64,
    /// Clocks that are not in step.
    #[serde(default)]
    pub clocks: Vec<WrongClock>,
    /// Records with a field about which a person has to decide.
    #[serde(default)]
    pub conflicts: u64,
    pub totals: Totals,
    pub recent: VecDeque<Event>,
    /// The last 24 hours.
    #[serde(with = "shared")]
    pub journal: Arc<Journal>,
    /// Why the engine stopped itself.
    pub fatal: Option<Code>,
    pub verdict: Verdict,
}

impl Snapshot {
    pub fn empty(at: Timestamp) -> Self {
        Self {
            revision: 0,
            at,
            phase: Phase::Running,
            pause: None,
            manual: None,
            connections: Vec::new(),
            polls: Vec::new(),
            watching: Vec::new(),
            quotas: Vec::new(),
            queue_waiting: 0,
            queue_in_flight: 0,
            storage: Vec::new(),
            received: None,
            received_empty: None,
            counted: None,
            records: 0,
            wanted: 0,
            oldest_wanted: None,
            running: Vec::new(),
            holdings: Vec::new(),
            leases_held: 0,
            leases_overdue: 0,
            overdue: Vec::new(),
            leases_endless: 0,
            dead: 0,
            differs: 0,
            clocks: Vec::new(),
            conflicts: 0,
            totals: Totals::default(),
            recent: VecDeque::new(),
            journal: Arc::default(),
            fatal: None,
            verdict: Verdict::Starting,
        }
    }

    /// Of a relay that waits for the shared queue and ledger since then, and how they last failed.
    pub fn joining(at: Timestamp, since: Timestamp, failed: Option<Code>) -> Self {
        let verdict = failed.map_or(Verdict::Starting, |code| Verdict::CannotJoin { since, code });
        Self { phase: Phase::Joining, verdict, ..Self::empty(at) }
    }

    /// Of a relay that moves what it held by itself to the shared ledger before it begins.
    pub fn moving(at: Timestamp, left: u64) -> Self {
        Self { verdict: Verdict::Moving { left }, ..Self::joining(at, at, None) }
    }

    /// The clock that makes times of this machine doubtful, if one does.
    pub fn wrong_clock(&self) -> Option<&WrongClock> {
        self.clocks.iter().find(|clock| clock.concerns_here())
    }
}

/// The journal is shared by all snapshots in one process, and written out where a snapshot leaves it.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Journal;

    pub(super) fn serialize<S: Serializer>(journal: &Arc<Journal>, to: S) -> Result<S::Ok, S::Error> {
        journal.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Journal>, D::Error> {
        Journal::deserialize(from).map(Arc::new)
    }
}
