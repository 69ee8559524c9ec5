//! When to look again: by what the quota allows, split by what was learned of each firm.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    pace::{Unit, learner::Learner, split::Load},
    settings::EhrFirm,
};

/// Changes a second of a firm of which nothing is known yet: one in ten minutes.
const EXPECTED: f64 = 1.0 / 600.0;

/// Between looks at a firm for which nothing limits them, and while things keep happening there.
const QUIET: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(2);

/// In seconds.
const SOON: f64 = 10.0;

/// Whatever happened makes more of it likely for so long.
const STAYS_BUSY: Duration = Duration::from_secs(3 * 60);

/// What a look came to, for what is learned of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// The EHR's time.
    pub(super) now: Timestamp,
    pub(super) found: u64,
    /// Of a look at everything.
    pub(super) requests: u64,
}

/// The pace of one thing that is looked at by itself.
#[derive(Debug)]
pub(super) struct Tempo {
    fastest: Duration,
    slowest: Duration,
    unit: Option<Unit>,
    learner: Learner,
    /// The EHR's time of the last look.
    before: Option<Timestamp>,
    /// Elapsed time at which something was last found.
    hit: Option<Duration>,
}

impl Tempo {
    pub(super) fn new(serves: &EhrFirm, learned: Option<Learner>, before: Option<Timestamp>) -> Self {
        let plan = &serves.plan;
        let learner = learned.unwrap_or_else(|| Learner::expecting(EXPECTED));
        let load = Load { rate: EXPECTED, cost: learner.cost(), slowest: plan.slowest, fastest: plan.fastest };
        let unit = serves.quota.as_ref().map(|quota| quota.unit(load));
        Self { fastest: plan.fastest, slowest: plan.slowest, unit, learner, before, hit: None }
    }

    pub(super) fn learned(&self) -> &Learner {
        &self.learner
    }

    pub(super) fn looked(&mut self, elapsed: Duration, heard: Heard) {
        let Heard { now, found, requests } = heard;
        if found > 0 {
            self.hit = Some(elapsed);
        }
        if let Some(before) = self.before {
            self.learner.looked(before, now, found, requests);
        }
        self.before = Some(now);
        if let Some(unit) = &self.unit {
            unit.expects(self.learner.rate(now), self.learner.cost());
        }
    }

    /// How many requests may be sent soon.
    pub(super) fn soon(&self) -> usize {
        self.unit.as_ref().map_or(usize::MAX, |unit| (unit.rate() * SOON) as usize)
    }

    /// From the beginning of one look to that of the next.
    pub(super) fn interval(&self, elapsed: Duration) -> Duration {
        let busy = self.hit.is_some_and(|hit| elapsed.saturating_sub(hit) < STAYS_BUSY);
        let pace = match &self.unit {
            Some(unit) => unit.interval(),
            None if busy => BUSY,
            None => QUIET,
        };
        pace.min(self.slowest).max(self.fastest)
    }
}
