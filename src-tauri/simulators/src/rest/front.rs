//! What every server has in front: a clock, the faults that wait for calls, the quotas, and the record of what was asked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::call::Call;
use super::fault::{Faults, Interaction, Struck};
use super::quota::Meter;

/// The server's clock: the machine's, set off by a skew, or standing still.
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Running(SignedDuration),
    Frozen(Timestamp),
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::Running(skew) => Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX),
            Self::Frozen(at) => at,
        }
    }
}

/// One call, as the journal keeps it: no values, only what and how it went.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was answered, on the server's clock.
    pub at: Timestamp,
    /// What was asked.
    pub interaction: Interaction,
    /// Whose part of the server it was about, where it serves several firms.
    pub firm: Option<String>,
    /// About which type.
    pub resource_type: Option<String>,
    /// About which id.
    pub id: Option<String>,
    /// The answer's status; `None` where the connection was closed instead.
    pub status: Option<u16>,
    /// The faults that struck it.
    pub faults: Vec<&'static str>,
    /// Real time from its arrival to its answer.
    pub took: Duration,
}

/// How many calls there were.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Calls that came in, by what they asked. An entry of a batch counts too.
    pub calls: BTreeMap<Interaction, u64>,
    /// Answers, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls that came in and were neither answered nor hung up on yet.
    pub open: usize,
    /// The most calls there ever were at once.
    pub most_open: usize,
    /// Calls that wait for `release` of the control.
    pub held: usize,
    /// Subscriptions that sockets are bound to.
    pub bound: usize,
}

impl Tally {
    /// Calls of this kind that came in.
    #[must_use]
    pub fn of(&self, interaction: Interaction) -> u64 {
        self.calls.get(&interaction).copied().unwrap_or(0)
    }
}

pub struct Front {
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) meter: Meter,
    pub(crate) tally: Tally,
    pub(crate) journal: VecDeque<Entry>,
    journal_length: usize,
    pub(crate) chance: ChaCha8Rng,
}

impl Front {
    pub(crate) fn new(seed: u64, journal_length: usize) -> Self {
        Self {
            clock: Clock::Running(SignedDuration::ZERO),
            faults: Faults::default(),
            meter: Meter::default(),
            tally: Tally::default(),
            journal: VecDeque::new(),
            journal_length,
            chance: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Takes note of a call and finds what strikes it.
    pub(crate) fn arrive(&mut self, call: &Call) -> Struck {
        self.tally.open += 1;
        self.tally.most_open = self.tally.most_open.max(self.tally.open);
        self.count(call)
    }

    /// As [`Front::arrive`], for what came inside another call.
    pub(crate) fn count(&mut self, call: &Call) -> Struck {
        *self.tally.calls.entry(call.interaction).or_default() += 1;
        self.faults.strike(call.interaction, call.firm.as_deref(), call.kind.as_deref(), call.id.as_deref())
    }

    /// Takes note of the call's end.
    pub(crate) fn leave(&mut self, call: &Call, status: Option<u16>, faults: Vec<&'static str>, took: Duration) {
        self.tally.open -= 1;
        if let Some(status) = status {
            *self.tally.statuses.entry(status).or_default() += 1;
        }
        if self.journal.len() == self.journal_length {
            self.journal.pop_front();
        }
        if self.journal_length > 0 {
            self.journal.push_back(Entry {
                at: self.clock.now(),
                interaction: call.interaction,
                firm: call.firm.clone(),
                resource_type: call.kind.clone(),
                id: call.id.clone(),
                status,
                faults,
                took,
            });
        }
    }

    /// A UUID (version 4 in form) from the server's own chance.
    pub(crate) fn uuid(&mut self) -> String {
        let bits: u128 = self.chance.random();
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        let mut uuid = String::with_capacity(36);
        for (at, digit) in digits.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            // Writing to a String does not fail.
            let _ = uuid.write_char(digit);
        }
        uuid
    }
}
