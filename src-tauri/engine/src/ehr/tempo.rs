//! When to look again.

use std::time::Duration;

use crate::settings::WatchPlan;

/// Between looks at a firm for which nothing limits them, and while things keep happening there.
const QUIET: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(2);

/// Whatever happened makes more of it likely for so long.
const STAYS_BUSY: Duration = Duration::from_secs(3 * 60);

/// The pace of one thing that is looked at by itself.
#[derive(Debug)]
pub(super) struct Tempo {
    plan: WatchPlan,
    /// Elapsed time at which something was last found.
    hit: Option<Duration>,
}

impl Tempo {
    pub(super) fn new(plan: WatchPlan) -> Self {
        Self { plan, hit: None }
    }

    /// A look is over that found so much, in so many requests.
    pub(super) fn looked(&mut self, elapsed: Duration, found: u64, _requests: u64) {
        if found > 0 {
            self.hit = Some(elapsed);
        }
    }

    /// From the beginning of one look to that of the next.
    pub(super) fn interval(&self, elapsed: Duration) -> Duration {
        let busy = self.hit.is_some_and(|hit| elapsed.saturating_sub(hit) < STAYS_BUSY);
        let pace = if busy { BUSY } else { QUIET };
        pace.max(self.plan.fastest).min(self.plan.slowest)
    }
}
