//! How a budget is split over what is polled.
//!
//! A unit that changes `rate` times a second and is looked at `f` times a second is found out after `1 / (2 f)` on average, so the mean
//! delay of a change is the sum of `rate / (2 f)` over the sum of rates. With `cost` requests for each look and `budget` requests a second in
//! all, that is least where `f` goes with `sqrt(rate / cost)` (Cauchy and Schwarz), within a slowest and a fastest pace.

use std::time::Duration;

/// One thing that is polled by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Changes a second.
    pub rate: f64,
    /// Requests that a look takes.
    pub cost: f64,
    /// Looked at no more seldom, if the budget allows that for all.
    pub slowest: Duration,
    /// Looked at no more often.
    pub fastest: Duration,
}

impl Load {
    /// Its part in the whole: what it gets of the budget goes with this.
    pub fn weight(&self) -> f64 {
        (self.rate * self.cost).sqrt()
    }

    fn ideal(&self) -> f64 {
        (self.rate / self.cost).sqrt()
    }

    fn bounds(&self) -> (f64, f64) {
        let most = 1.0 / self.fastest.as_secs_f64().max(1e-3);
        ((1.0 / self.slowest.as_secs_f64().max(1e-3)).min(most), most)
    }
}

/// Looks a second for each.
pub fn split(budget: f64, loads: &[Load]) -> Vec<f64> {
    struct One {
        ideal: f64,
        least: f64,
        most: f64,
        cost: f64,
    }
    let all: Vec<_> = loads
        .iter()
        .map(|load| {
            let (least, most) = load.bounds();
            One { ideal: load.ideal(), least, most, cost: load.cost }
        })
        .collect();
    let looks = |one: &One, scale: f64| (one.ideal * scale).clamp(one.least, one.most);
    let cost = |scale: f64| all.iter().map(|one| looks(one, scale) * one.cost).sum::<f64>();
    let floor = cost(0.0);
    if floor >= budget {
        // Not even the slowest pace can be kept: everybody is as much too late.
        let part = if floor > 0.0 { budget / floor } else { 0.0 };
        return all.iter().map(|one| one.least * part).collect();
    }
    let (mut low, mut high) = (0.0, 1.0);
    while cost(high) < budget && high < 1e12 {
        (low, high) = (high, high * 4.0);
    }
    for _ in 0..48 {
        let middle = f64::midpoint(low, high);
        if cost(middle) < budget { low = middle } else { high = middle }
    }
    all.iter().map(|one| looks(one, low)).collect()
}

/// The least mean delay in seconds that any schedule can have with this budget, if changes come at random (Poisson) at these rates
/// and looks are spaced evenly: `(sum sqrt(rate cost))^2 / (2 budget sum rate)`.
pub fn least_mean_delay(budget: f64, loads: &[Load]) -> f64 {
    let weights: f64 = loads.iter().map(Load::weight).sum();
    let rates: f64 = loads.iter().map(|load| load.rate).sum();
    weights * weights / (2.0 * budget * rates)
}
