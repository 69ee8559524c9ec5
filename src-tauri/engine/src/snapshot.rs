//! What the engine shows of itself, and the verdict that the icon shows. Ids, counts, codes and times only.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    connection::{Health, Side},
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

/// The state in one word, in order of precedence (the first that applies).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Verdict {
    /// What this machine's clock says cannot be trusted: no time shown here is right, and no proof.
    WrongClock {
        clock: WrongClock,
    },
    NeedsAttention {
        items: u64,
    },
    CannotReach {
        firm: FirmId,
        side: Side,
        since: Timestamp,
        code: Code,
    },
    /// Queue or ledger do not answer.
    NoStorage {
        since: Timestamp,
        code: Code,
    },
    /// The shared queue and ledger have not answered since the start.
    CannotJoin {
        since: Timestamp,
        code: Code,
    },
    /// What this station held by itself is on its way to the shared ledger.
    Moving {
        left: u64,
    },
    NoNews {
        for_: Duration,
    },
    Paused {
        until: Timestamp,
        by: Option<String>,
    },
    Working {
        waiting: u64,
    },
    Starting,
    /// Proven at this time, and only then said.
    UpToDate {
        at: Timestamp,
    },
}

impl Verdict {
    pub fn state(&self) -> State {
        match self {
            Verdict::WrongClock { .. } | Verdict::NeedsAttention { .. } => State::NeedsAttention,
            Verdict::CannotReach { .. } | Verdict::NoStorage { .. } | Verdict::CannotJoin { .. } => State::CannotReach,
            Verdict::NoNews { .. } => State::NoNews,
            Verdict::Paused { .. } => State::Paused,
            Verdict::Moving { .. } | Verdict::Working { .. } => State::Working,
            Verdict::Starting => State::Starting,
            Verdict::UpToDate { .. } => State::UpToDate,
        }
    }
}

/// A verdict without its particulars, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    NeedsAttention,
    CannotReach,
    NoNews,
    Paused,
    Working,
    Starting,
    UpToDate,
}

impl State {
    pub const ALL: [State; 7] = [
        State::NeedsAttention,
        State::CannotReach,
        State::NoNews,
        State::Paused,
        State::Working,
        State::Starting,
        State::UpToDate,
    ];
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

/// How old things may be before the verdict changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection that is away is said to be so after this and three failed probes.
    pub away: Duration,
    /// The queue must have answered within this.
    pub receive: Duration,
    /// The figures of queue and ledger must be younger than this.
    pub count: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { away: Duration::from_secs(60), receive: Duration::from_secs(90), count: Duration::from_secs(30) }
    }
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

    /// How many things need a person.
    pub fn attention(&self) -> u64 {
        let stopped = |connection: &&ConnectionView| matches!(connection.health, Health::Stopped { .. });
        let stopped = self.connections.iter().filter(stopped).count() as u64;
        let missing = self.polls.iter().filter(|poll| poll.missing.is_some()).count() as u64;
        let refused = self.storage.iter().filter(|trouble| matches!(trouble, Health::Stopped { .. })).count() as u64;
        self.dead
            + self.conflicts
            + self.leases_overdue
            + self.leases_endless
            + stopped
            + missing
            + refused
            + u64::from(self.fatal.is_some())
            + u64::from(self.wrong_clock().is_some())
    }

    /// The verdict on everything else in the snapshot. "Up to date" is what is left when every other answer is ruled out.
    pub fn judge(&self, limits: &Limits) -> Verdict {
        if let Some(clock) = self.wrong_clock() {
            return Verdict::WrongClock { clock: clock.clone() };
        }
        let attention = self.attention();
        if attention > 0 {
            return Verdict::NeedsAttention { items: attention };
        }
        for connection in &self.connections {
            if let Health::Away { since, code, failed_probes, .. } = &connection.health
                && *failed_probes >= 3
                && connection.silent_for.is_none_or(|silent| silent > limits.away)
            {
                return Verdict::CannotReach {
                    firm: connection.firm.clone(),
                    side: connection.side,
                    since: *since,
                    code: *code,
                };
            }
        }
        for trouble in &self.storage {
            if let Health::Away { since, code, .. } = trouble
                && self.at.duration_since(*since).unsigned_abs() > limits.count
            {
                return Verdict::NoStorage { since: *since, code: *code };
            }
        }
        let silence =
            self.polls
                .iter()
                .flat_map(|poll| {
                    let poll_silent = poll.polled.filter(|polled| *polled > poll.every * 3);
                    [poll_silent, poll.swept.filter(|swept| *swept > poll.sweep_every * 3)]
                })
                .flatten()
                .chain(self.connections.iter().filter_map(|connection| {
                    connection.silent_for.filter(|silent| *silent > connection.probe_every * 3)
                }))
                .chain(self.received.filter(|received| *received > limits.receive))
                .chain(self.counted.filter(|counted| *counted > limits.count))
                .max();
        match (&self.pause, silence) {
            (Some(Pause { until, by }), _) => return Verdict::Paused { until: *until, by: by.clone() },
            (None, Some(for_)) => return Verdict::NoNews { for_ },
            (None, None) => {}
        }
        let proven = self.received_empty.is_some()
            && self.counted.is_some()
            && self.storage.is_empty()
            && self.polls.iter().all(|poll| poll.polled.is_some() && poll.swept.is_some() && poll.hints_arrive())
            && self.connections.iter().all(|connection| connection.health == Health::Up);
        let busy = self.wanted > 0 || self.queue_waiting > 0 || !self.running.is_empty() || self.queue_in_flight > 0;
        if busy && self.received.is_some() {
            return Verdict::Working { waiting: self.wanted.max(self.queue_waiting + self.running.len() as u64) };
        }
        if !proven {
            return Verdict::Starting;
        }
        // As old as the oldest of the figures that it rests on.
        let age = SignedDuration::try_from(self.counted.unwrap_or_default()).unwrap_or_default();
        Verdict::UpToDate { at: self.at.saturating_sub(age).unwrap_or(self.at) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all_well() -> Snapshot {
        let mut well = Snapshot::empty(Timestamp::UNIX_EPOCH);
        let second = Some(Duration::from_secs(1));
        let firm = FirmId::new("north").unwrap();
        well.connections = Side::BOTH
            .map(|side| ConnectionView {
                firm: firm.clone(),
                side,
                health: Health::Up,
                silent_for: second,
                probe_every: Duration::from_secs(20),
            })
            .to_vec();
        well.polls = vec![PollView {
            firm,
            side: Side::Fhir,
            resource: ResourceType::new("Patient").unwrap(),
            every: Duration::from_secs(10),
            sweep_every: Duration::from_secs(3_600),
            polled: second,
            swept: second,
            watermark: None,
            under_way: None,
            remark: None,
            missing: None,
        }];
        (well.received, well.received_empty, well.counted) = (second, second, second);
        well
    }

    fn no_storage(snapshot: &Snapshot, seconds: i64) -> Health {
        let since = snapshot.at.saturating_sub(SignedDuration::from_secs(seconds)).unwrap();
        Health::Away { since, code: Code::Unreachable, vendor: None, failed_probes: 0 }
    }

    /// The troubles in order of precedence; each beats all that come after it, and any of them beats "up to date".
    #[test]
    fn up_to_date_is_said_only_when_everything_holds_and_the_worst_goes_first() {
        type Trouble = fn(&mut Snapshot);
        let long = Duration::from_secs(10_000);
        let word = |snapshot: &Snapshot| {
            let verdict = serde_json::to_value(snapshot.judge(&Limits::default())).unwrap();
            verdict["is"].as_str().unwrap().to_owned()
        };
        assert_eq!(word(&all_well()), "up-to-date");
        let troubles: [(&str, Trouble); 29] = [
            ("wrong-clock", |s| s.clocks = vec![WrongClock::Here { ahead: -10_800 }]),
            ("needs-attention", |s| s.dead = 1),
            ("needs-attention", |s| s.conflicts = 1),
            ("needs-attention", |s| s.polls[0].missing = Some(Missing { rows: 11, of: 20 })),
            ("needs-attention", |s| s.leases_overdue = 1),
            ("needs-attention", |s| s.leases_endless = 1),
            ("needs-attention", |s| s.fatal = Some(Code::DatabaseFull)),
            ("needs-attention", |s| {
                let since = Timestamp::UNIX_EPOCH;
                s.connections[0].health =
                    Health::Stopped { since, code: Code::SignInRefused, subject: None, vendor: None };
            }),
            ("needs-attention", |s| {
                let (since, subject) = (s.at, Some("sqs:ReceiveMessage on relay".to_owned()));
                s.storage = vec![Health::Stopped { since, code: Code::AccessDenied, subject, vendor: None }];
            }),
            ("cannot-reach", |s| {
                let since = Timestamp::UNIX_EPOCH;
                let code = Code::Unreachable;
                s.connections[1].health = Health::Away { since, code, vendor: None, failed_probes: 3 };
                s.connections[1].silent_for = None;
            }),
            ("no-storage", |s| s.storage = vec![no_storage(s, 31)]),
            ("no-news", |s| s.polls[0].polled = Some(Duration::from_secs(31))),
            ("no-news", |s| s.polls[0].swept = Some(Duration::from_secs(3 * 3_600 + 1))),
            ("no-news", |s| s.received = Some(Duration::from_secs(91))),
            ("no-news", |s| s.counted = Some(Duration::from_secs(31))),
            ("no-news", |s| s.connections[0].silent_for = Some(Duration::from_secs(61))),
            ("paused", |s| s.pause = Some(Pause { until: Timestamp::UNIX_EPOCH, by: None })),
            ("working", |s| s.wanted = 1),
            ("working", |s| s.queue_waiting = 1),
            ("working", |s| s.queue_in_flight = 1),
            ("starting", |s| s.storage = vec![no_storage(s, 3)]),
            ("starting", |s| s.received_empty = None),
            ("starting", |s| s.counted = None),
            ("starting", |s| s.polls[0].polled = None),
            ("starting", |s| s.polls[0].swept = None),
            ("starting", |s| s.polls[0].under_way = Some(Duration::from_secs(61))),
            ("starting", |s| s.connections[0].health = Health::Unproven),
            ("starting", |s| {
                let since = Timestamp::UNIX_EPOCH;
                let code = Code::Unreachable;
                s.connections[0].health = Health::Away { since, code, vendor: None, failed_probes: 1 };
            }),
            ("starting", |s| s.connections[1].health = Health::Unproven),
        ];
        for (place, (expected, trouble)) in troubles.iter().enumerate() {
            let mut one = all_well();
            trouble(&mut one);
            assert_eq!(word(&one), *expected, "trouble {place}");
            for (later, other) in troubles.iter().skip(place + 1) {
                // A pause hides silence: nothing is asked while it lasts.
                if (*expected, *later) == ("no-news", "paused") {
                    continue;
                }
                let mut both = all_well();
                other(&mut both);
                trouble(&mut both);
                assert_eq!(word(&both), *expected, "trouble {place} and then {later}");
            }
        }
        let mut old = all_well();
        old.connections[0].silent_for = Some(long);
        assert_eq!(word(&old), "no-news");
    }
}
