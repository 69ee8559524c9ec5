//! The verdict that the icon shows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ConnectionView, Pause, Snapshot};
use crate::{
    connection::{Health, Side},
    ehr::Watching,
    error::Code,
    key::FirmId,
    server_clock::WrongClock,
};

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
    /// This firm's EHR does not answer.
    CannotWatch {
        firm: FirmId,
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
            Verdict::CannotReach { .. }
            | Verdict::CannotWatch { .. }
            | Verdict::NoStorage { .. }
            | Verdict::CannotJoin { .. } => State::CannotReach,
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
    /// How many things need a person.
    pub fn attention(&self) -> u64 {
        let stopped = |connection: &&ConnectionView| matches!(connection.health, Health::Stopped { .. });
        let stopped = self.connections.iter().filter(stopped).count() as u64;
        let missing = self.polls.iter().filter(|poll| poll.missing.is_some()).count() as u64;
        let refused = self.storage.iter().filter(|trouble| matches!(trouble, Health::Stopped { .. })).count() as u64;
        let unwatched = self.watching.iter().filter(|ehr| matches!(ehr.health, Health::Stopped { .. })).count() as u64;
        self.dead
            + self.conflicts
            + self.leases_overdue
            + self.leases_endless
            + stopped
            + unwatched
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
        for ehr in &self.watching {
            if let Health::Away { since, code, .. } = &ehr.health
                && self.at.duration_since(*since).unsigned_abs() > limits.away
            {
                return Verdict::CannotWatch { firm: ehr.firm.clone(), since: *since, code: *code };
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
                .chain(self.watching.iter().filter_map(Watching::silent_for))
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
            && self.watching.iter().all(Watching::is_proven)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ehr::KindWatched, key::ResourceType, snapshot::PollView, status::Missing};

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
        well.watching = vec![Watching {
            firm: FirmId::new("south").unwrap(),
            health: Health::Up,
            paused: false,
            quota: None,
            kinds: vec![KindWatched {
                resource: ResourceType::new("Encounter").unwrap(),
                station: None,
                every: Duration::from_secs(30),
                looked: second,
                next: None,
                waits_for: None,
                complete: None,
                unusable: 0,
                ahead: 0,
                lateness: Duration::ZERO,
                sweep_every: Duration::from_secs(3_600),
                swept: second,
                sweep: None,
                remark: None,
            }],
            encounters: 0,
            active: 0,
            documents: 0,
            listed: vec![],
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
        let troubles: [(&str, Trouble); 36] = [
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
                let since = Timestamp::UNIX_EPOCH;
                s.watching[0].health =
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
            ("cannot-watch", |s| {
                let since = s.at.saturating_sub(SignedDuration::from_secs(61)).unwrap();
                s.watching[0].health = Health::Away { since, code: Code::Unreachable, vendor: None, failed_probes: 1 };
            }),
            ("no-storage", |s| s.storage = vec![no_storage(s, 31)]),
            ("no-news", |s| s.polls[0].polled = Some(Duration::from_secs(31))),
            ("no-news", |s| s.polls[0].swept = Some(Duration::from_secs(3 * 3_600 + 1))),
            ("no-news", |s| s.watching[0].kinds[0].looked = Some(Duration::from_secs(91))),
            ("no-news", |s| s.watching[0].kinds[0].swept = Some(Duration::from_secs(3 * 3_600 + 1))),
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
            ("starting", |s| s.watching[0].kinds[0].looked = None),
            ("starting", |s| s.watching[0].kinds[0].swept = None),
            ("starting", |s| s.watching[0].health = Health::Unproven),
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
        let mut paused = all_well();
        (paused.watching[0].paused, paused.watching[0].kinds[0].looked) = (true, Some(long));
        assert_eq!(word(&paused), "up-to-date", "nothing is asked of it on purpose");
        let mut old = all_well();
        old.connections[0].silent_for = Some(long);
        assert_eq!(word(&old), "no-news");
    }
}
