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

/// Retries may be a tenth of successes, and a few in advance: steady trouble adds a tenth to the load and never doubles it.
#[derive(Debug)]
pub struct Budget(Mutex<f64>);

const PER_SUCCESS: f64 = 0.1;
const MOST: f64 = 50.0;

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(MOST / 5.0))
    }
}

impl Budget {
    fn with<T>(&self, change: impl FnOnce(&mut f64) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn success(&self) {
        self.with(|left| *left = (*left + PER_SUCCESS).min(MOST));
    }

    /// A little comes back with time alone, so that a station whose every record fails still tries now and then.
    pub fn tick(&self) {
        self.with(|left| *left = left.max(1.0));
    }

    /// Takes one retry out, if there is one.
    pub fn take(&self) -> bool {
        self.with(|left| {
            let may = *left >= 1.0;
            if may {
                *left -= 1.0;
            }
            may
        })
    }
}
