//! How the last 24 hours went, in 96 quarters of an hour: for the strip and the curves of the window. Times and counts only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::snapshot::State;

/// Quarters are those of UTC; every zone's hours begin with one of them.
pub const BIN: Duration = Duration::from_secs(15 * 60);
pub const BINS: usize = 96;

/// A longer time between two looks at the clock was slept through: it was not lived in any state.
pub(crate) const SLEPT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// In order of time; a quarter in which the program did not run is missing.
    pub bins: Vec<Bin>,
    /// When a change was last sent, however long ago.
    pub last_sent: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    pub from: Timestamp,
    /// Milliseconds in each state, as [`State::ALL`] orders them.
    pub lasted: [u64; State::ALL.len()],
    /// Rows created or edited.
    pub sent: u64,
    /// Records that came to need attention.
    pub failed: u64,
    pub latency: Latency,
}

/// How long changes took from being first seen to being sent, counted in steps that grow by half of their double.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency([u32; STEPS]);

const STEPS: usize = 32;
/// The upper end of the first step. Each next one is the square root of two wider; the last holds everything above.
const FIRST: f64 = 0.05;

impl Latency {
    pub fn note(&mut self, took: Duration) {
        let step = (took.as_secs_f64() / FIRST).log2() * 2.0;
        // Out of range at either end: the first or the last.
        let step = (step.ceil().max(0.0) as usize).min(STEPS - 1);
        self.0[step] = self.0[step].saturating_add(1);
    }

    pub fn add(&mut self, other: &Latency) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The time within which this part of all changes was sent, such as 0.5 or 0.95; none without changes. Exact to a step.
    pub fn within(&self, part: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * part;
        let mut so_far = 0.0;
        for (step, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if so_far + count >= wanted {
                let top = FIRST * 2_f64.powf(step as f64 / 2.0);
                let bottom = if step == 0 { 0.0 } else { top / std::f64::consts::SQRT_2 };
                let share = ((wanted - so_far) / count).clamp(0.0, 1.0);
                return Some(Duration::from_secs_f64(bottom + (top - bottom) * share));
            }
            so_far += count;
        }
        None
    }
}

impl Bin {
    fn new(from: Timestamp) -> Self {
        Self { from, lasted: [0; State::ALL.len()], sent: 0, failed: 0, latency: Latency::default() }
    }

    pub fn lasted(&self, state: State) -> Duration {
        let place = State::ALL.iter().position(|one| *one == state);
        Duration::from_millis(place.map_or(0, |place| self.lasted[place]))
    }

    /// The state that lasted longest, the worse of equals; none where the program slept all the time.
    pub fn dominant(&self) -> Option<State> {
        // Of equals the last one wins, so the worst has to come last.
        let lived = State::ALL.into_iter().rev().filter(|state| !self.lasted(*state).is_zero());
        lived.max_by_key(|state| self.lasted(*state))
    }
}

/// What happened since the last note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    pub passed: Duration,
    pub sent: u64,
    pub failed: u64,
    pub latency: Latency,
}

impl Journal {
    /// Adds what happened until `now` while this was the state. True if a new quarter began.
    pub fn note(&mut self, now: Timestamp, state: State, since: &Since) -> bool {
        let from = quarter(now);
        let before = self.bins.len();
        let place = self.bins.partition_point(|bin| bin.from < from);
        if self.bins.get(place).is_none_or(|bin| bin.from != from) {
            self.bins.insert(place, Bin::new(from));
        }
        let bin = &mut self.bins[place];
        if since.passed <= SLEPT {
            let place = State::ALL.iter().position(|one| *one == state).unwrap_or_default();
            bin.lasted[place] += u64::try_from(since.passed.as_millis()).unwrap_or(u64::MAX);
        }
        bin.sent += since.sent;
        bin.failed += since.failed;
        bin.latency.add(&since.latency);
        if since.sent > 0 {
            self.last_sent = Some(now);
        }
        let began = self.bins.len() > before;
        // Also those that a wrong clock put into the future.
        let oldest = from.saturating_sub(SignedDuration::from_secs(15 * 60 * (BINS as i64 - 1))).unwrap_or(from);
        self.bins.retain(|bin| bin.from >= oldest && bin.from <= from);
        began
    }
}

fn quarter(time: Timestamp) -> Timestamp {
    let seconds = time.as_second().div_euclid(15 * 60) * 15 * 60;
    Timestamp::from_second(seconds).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn second(sent: u64) -> Since {
        Since { passed: Duration::from_secs(1), sent, ..Since::default() }
    }

    #[test]
    fn a_day_is_kept_in_quarters_and_no_more() {
        let mut journal = Journal::default();
        let begun = at("2026-03-02T08:07:30Z");
        for minute in 0..2 * 24 * 60 {
            let now = begun + SignedDuration::from_mins(minute);
            let began = journal.note(now, State::UpToDate, &second(1));
            assert_eq!(began, minute == 0 || (minute * 60 + 7 * 60 + 30) % 900 < 60, "minute {minute}");
        }
        assert_eq!(journal.bins.len(), BINS);
        assert_eq!(journal.bins[0].from, at("2026-03-03T08:15:00Z"));
        assert_eq!(journal.bins[5].sent, 15);
        assert_eq!(journal.bins[5].lasted(State::UpToDate), Duration::from_secs(15));
        assert_eq!(journal.last_sent, Some(begun + SignedDuration::from_mins(2 * 24 * 60 - 1)));
    }

    #[test]
    fn the_longest_state_speaks_for_its_quarter_and_sleep_for_none() {
        let mut journal = Journal::default();
        let now = at("2026-03-02T08:00:00Z");
        journal.note(now, State::UpToDate, &Since { passed: Duration::from_secs(3_600), ..Since::default() });
        assert_eq!(journal.bins[0].dominant(), None, "slept");
        journal.note(now, State::UpToDate, &second(0));
        journal.note(now, State::CannotReach, &second(0));
        assert_eq!(journal.bins[0].dominant(), Some(State::CannotReach), "the worse of equals");
        journal.note(now, State::UpToDate, &second(0));
        assert_eq!(journal.bins[0].dominant(), Some(State::UpToDate));
    }

    #[test]
    fn what_a_wrong_clock_put_into_the_future_is_forgotten_when_it_is_put_right() {
        let mut journal = Journal::default();
        journal.note(at("2026-03-02T08:00:00Z"), State::UpToDate, &second(1));
        journal.note(at("2027-03-02T08:00:00Z"), State::UpToDate, &second(1));
        assert_eq!(journal.bins.len(), 1);
        journal.note(at("2026-03-02T08:20:00Z"), State::UpToDate, &second(1));
        assert_eq!(journal.bins.iter().map(|bin| bin.from).collect::<Vec<_>>(), [at("2026-03-02T08:15:00Z")]);
    }

    #[test]
    fn a_part_of_all_changes_is_known_to_a_step() {
        let mut latency = Latency::default();
        assert_eq!(latency.within(0.5), None);
        for millis in 1..=1_000_u64 {
            latency.note(Duration::from_millis(millis * 10));
        }
        let median = latency.within(0.5).unwrap().as_secs_f64();
        let most = latency.within(0.95).unwrap().as_secs_f64();
        assert!((4.0..6.0).contains(&median), "{median}");
        assert!((8.5..11.5).contains(&most), "{most}");
        // Nothing is too quick or too slow to be counted.
        for odd in [Duration::ZERO, Duration::MAX] {
            latency.note(odd);
        }
        assert_eq!(latency.count(), 1_002);
    }
}
