//! How long to wait before trying again, and how often one may.

use std::{sync::Mutex, time::Duration};

use crate::chance::Chance;

/// Exponential with full jitter: anywhere up to `base * 2^attempts`, `most` at the longest. Of the known schedules it costs the
/// fewest calls under contention, and a restart of a server is not greeted by everybody at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub most: Duration,
}

impl Backoff {
    pub fn after(&self, attempts: u32, chance: &Chance) -> Duration {
        let ceiling = self.base.saturating_mul(2u32.saturating_pow(attempts.min(20))).min(self.most);
        // Never at once: a failed call needs a moment whatever the dice say.
        self.base / 4 + chance.up_to(ceiling)
    }
}

/// Retries may be a tenth of successes ([`Budget::PER_SUCCESS`]), [`Budget::AT_FIRST`] in advance, [`Budget::MOST`] saved up, and
/// one each [`Budget::TRICKLE`] where nothing succeeds: steady trouble adds a tenth to the load and never doubles it.
#[derive(Debug)]
pub struct Budget(Mutex<Left>);

#[derive(Debug)]
struct Left {
    retries: f64,
    /// Elapsed time of the last one that time alone gave back.
    trickled: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(Left { retries: Self::AT_FIRST, trickled: Duration::ZERO }))
    }
}

impl Budget {
    pub const PER_SUCCESS: f64 = 0.1;
    pub const AT_FIRST: f64 = 10.0;
    pub const MOST: f64 = 50.0;
    pub const TRICKLE: Duration = Duration::from_secs(10);

    fn with<T>(&self, change: impl FnOnce(&mut Left) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn success(&self) {
        self.with(|left| left.retries = (left.retries + Self::PER_SUCCESS).min(Self::MOST));
    }

    /// A little comes back with time alone, so that a station whose every record fails still tries now and then. However often
    /// this is called, it is one for each [`Budget::TRICKLE`] of elapsed time.
    pub fn tick(&self, elapsed: Duration) {
        self.with(|left| {
            if left.retries < 1.0 && elapsed.saturating_sub(left.trickled) >= Self::TRICKLE {
                left.retries = 1.0;
                left.trickled = elapsed;
            }
        });
    }

    /// Takes one retry out, if there is one.
    pub fn take(&self) -> bool {
        self.with(|left| {
            let may = left.retries >= 1.0;
            if may {
                left.retries -= 1.0;
            }
            may
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_most_and_is_never_nothing() {
        let backoff = Backoff { base: Duration::from_secs(1), most: Duration::from_secs(60) };
        let chance = Chance::from_seed(1);
        for (attempts, ceiling) in [(0, 1), (1, 2), (5, 32), (6, 60), (40, 60), (u32::MAX, 60)] {
            let waits: Vec<_> = (0..1_000).map(|_| backoff.after(attempts, &chance)).collect();
            let (least, most) = (backoff.base / 4, backoff.base / 4 + Duration::from_secs(ceiling));
            assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{attempts}");
            // Full jitter: the whole range is used.
            assert!(waits.iter().any(|wait| *wait < least + Duration::from_secs(ceiling).mul_f64(0.1)));
            assert!(waits.iter().any(|wait| *wait > least + Duration::from_secs(ceiling).mul_f64(0.9)));
        }
    }

    #[test]
    fn retries_are_a_tenth_of_successes_and_a_trickle() {
        let budget = Budget::default();
        let spend = || (0..1_000).filter(|_| budget.take()).count();
        assert_eq!(spend(), 10, "in advance");
        (0..200).for_each(|_| budget.success());
        assert!((19..=20).contains(&spend()), "a tenth of 200");
        (0..10_000).for_each(|_| budget.success());
        assert_eq!(spend(), 50, "no more is saved up");
        let mut trickled = 0;
        for tenths in 0..6_000 {
            budget.tick(Duration::from_millis(tenths * 100));
            trickled += spend();
        }
        assert!((58..=60).contains(&trickled), "one each ten seconds, in ten minutes {trickled}");
    }
}
