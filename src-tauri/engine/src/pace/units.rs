use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    quota::Quota,
    split::{Load, split},
};

/// How long a split is good for.
const FRESH: Duration = Duration::from_secs(1);

/// Something that is polled by itself, such as one resource type of one firm. Dropped, it takes no part any more.
#[derive(Debug)]
pub struct Unit {
    pub(super) quota: Arc<Quota>,
    pub(super) number: u64,
}

impl Unit {
    /// Changes that are expected in a second, and the requests that a look takes.
    pub fn expects(&self, rate: f64, cost: f64) {
        self.quota.expects(self.number, rate, cost);
    }

    /// Requests a second that all polls of this station may use now.
    pub fn rate(&self) -> f64 {
        self.quota.poll_rate()
    }

    /// From the beginning of one look, when it got its first permit, to that of the next, as things stand. [`Duration::MAX`] where nothing may be sent.
    pub fn interval(&self) -> Duration {
        self.quota.interval(self.number)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.quota.forget(self.number);
    }
}

/// All that this station polls under one key.
#[derive(Debug, Default)]
pub(super) struct Units {
    loads: BTreeMap<u64, Load>,
    looks: BTreeMap<u64, f64>,
    numbers: u64,
    /// When and for what budget the last split was made.
    made: Option<(Duration, f64)>,
}

impl Units {
    pub(super) fn add(&mut self, load: Load) -> u64 {
        self.numbers += 1;
        self.loads.insert(self.numbers, load);
        self.made = None;
        self.numbers
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.loads.remove(&number);
        self.made = None;
    }

    pub(super) fn expects(&mut self, number: u64, rate: f64, cost: f64) {
        if let Some(load) = self.loads.get_mut(&number) {
            load.rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
            load.cost = if cost.is_finite() { cost.max(1.0) } else { 1.0 };
        }
    }

    pub(super) fn weight(&self) -> f64 {
        self.loads.values().map(Load::weight).sum()
    }

    pub(super) fn interval(&mut self, number: u64, budget: f64, now: Duration) -> Duration {
        let fresh = self.made.is_some_and(|(at, made_for)| {
            now.saturating_sub(at) < FRESH && (made_for - budget).abs() <= budget / 100.0
        });
        if !fresh {
            let loads: Vec<_> = self.loads.values().copied().collect();
            self.looks = self.loads.keys().copied().zip(split(budget, &loads)).collect();
            self.made = Some((now, budget));
        }
        let looks = self.looks.get(&number).copied().unwrap_or_default();
        Duration::try_from_secs_f64(1.0 / looks).unwrap_or(Duration::MAX)
    }
}
