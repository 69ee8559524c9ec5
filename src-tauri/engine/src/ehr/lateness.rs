//! How late an EHR shows what it has stamped: a row is stamped when its transaction begins and is seen when that ends, or when an index
//! has caught up.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// Nothing later is allowed for: what is, a sweep finds.
const MOST: Duration = Duration::from_secs(6 * 60 * 60);

/// A histogram in steps of the square root of two, from one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lateness(BTreeMap<u8, u64>);

fn step(late: Duration) -> u8 {
    (0..=u8::MAX).find(|step| bound(*step) >= late).unwrap_or(u8::MAX)
}

fn bound(step: u8) -> Duration {
    Duration::from_secs_f64(f64::from(step).min(60.0).div_euclid(2.0).exp2() * if step % 2 == 1 { 1.5 } else { 1.0 })
}

impl Lateness {
    pub(super) fn note(&mut self, late: Duration) {
        *self.0.entry(step(late.min(MOST))).or_default() += 1;
    }

    /// What 9 999 of 10 000 late rows were within, and a quarter more; nothing where none was late.
    pub(super) fn allowance(&self) -> Duration {
        let all: u64 = self.0.values().sum();
        let mut so_far = 0;
        let within = self.0.iter().find(|(_, count)| {
            so_far += **count;
            so_far * 10_000 >= all * 9_999
        });
        within.map_or(Duration::ZERO, |(step, _)| bound(*step).mul_f64(1.25).min(MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_for_covers_what_was_seen_and_not_one_in_ten_thousand() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.allowance(), Duration::ZERO);
        lateness.note(Duration::from_secs(90));
        let allowed = lateness.allowance();
        assert!(allowed >= Duration::from_secs(110) && allowed <= Duration::from_secs(200), "{allowed:?}");
        (0..20_000).for_each(|_| lateness.note(Duration::from_secs(2)));
        assert!(lateness.allowance() < Duration::from_secs(10));
        lateness.note(Duration::MAX);
        lateness.note(Duration::MAX);
        lateness.note(Duration::MAX);
        assert_eq!(lateness.allowance(), MOST);
    }
}
