//! Generated days of clinics, and what the best possible schedule would make of them.

use std::time::Duration;

use engine::pace::split::{Load, split};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub const DAY: f64 = 86_400.0;
/// Two days to learn from, and one that counts.
pub const LEARNED: f64 = 2.0 * DAY;
pub const SPAN: f64 = 3.0 * DAY;
pub const FASTEST: Duration = Duration::from_secs(1);
pub const SLOWEST: Duration = Duration::from_secs(300);

/// How work is spread over firms and hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    Equal,
    /// The second has half of what the first has, the third a third.
    Zipf,
    /// Four of five do next to nothing.
    Idle,
    /// As many each, 95 % of it between 8 and 18.
    Office,
}

impl Spread {
    pub const ALL: [Spread; 4] = [Spread::Equal, Spread::Zipf, Spread::Idle, Spread::Office];

    fn weight(self, firm: usize) -> f64 {
        match self {
            Spread::Equal | Spread::Office => 1.0,
            Spread::Zipf => 1.0 / (firm + 1) as f64,
            Spread::Idle if firm.is_multiple_of(5) => 1.0,
            Spread::Idle => 0.002,
        }
    }

    /// The part of a day's work that is done in a second at that time.
    fn now(self, at: f64) -> f64 {
        match self {
            Spread::Office if (8.0..18.0).contains(&(at / 3600.0 % 24.0)) => 0.95 / 36_000.0,
            Spread::Office => 0.05 / (DAY - 36_000.0),
            _ => 1.0 / DAY,
        }
    }
}

/// One firm's days. Changes of encounters and of documents are each a Poisson process.
#[derive(Debug)]
pub struct Firm {
    /// A day.
    pub visits: f64,
    pub opened: Vec<f64>,
    pub closed: Vec<f64>,
    /// With the number of the encounter that it belongs to, one of the last 24 hours; none where there was none.
    pub documents: Vec<(f64, Option<usize>)>,
}

#[derive(Debug)]
pub struct Days {
    pub spread: Spread,
    pub firms: Vec<Firm>,
}

/// Encounters and documents of a firm are looked at by themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Encounters,
    Documents,
}

impl Days {
    pub fn generate(firms: usize, spread: Spread) -> Self {
        let weights: f64 = (0..firms).map(|firm| spread.weight(firm)).sum();
        let firms = (0..firms).map(|number| {
            let mut rng = StdRng::seed_from_u64(number as u64);
            let visits = 60.0 * firms as f64 * spread.weight(number) / weights;
            let opened = poisson(&mut rng, visits, spread);
            let closed = poisson(&mut rng, visits, spread);
            let documents = poisson(&mut rng, visits, spread).into_iter().map(|at| {
                let (from, to) =
                    (opened.partition_point(|open| *open < at - DAY), opened.partition_point(|open| *open < at));
                (at, (from < to).then(|| rng.random_range(from..to)))
            });
            Firm { visits, documents: documents.collect(), opened, closed }
        });
        Self { spread, firms: firms.collect() }
    }

    /// Changes a second, as they truly are.
    pub fn rate(&self, firm: usize, kind: Kind, at: f64) -> f64 {
        let times = if kind == Kind::Encounters { 2.0 } else { 1.0 };
        self.firms[firm].visits * times * self.spread.now(at)
    }

    pub fn changes(&self, firm: usize, kind: Kind) -> Vec<f64> {
        let firm = &self.firms[firm];
        match kind {
            Kind::Encounters => {
                let mut all: Vec<_> = firm.opened.iter().chain(&firm.closed).copied().collect();
                all.sort_by(f64::total_cmp);
                all
            }
            Kind::Documents => firm.documents.iter().map(|(at, _)| *at).collect(),
        }
    }

    /// The least mean delay that any schedule can have that knows all rates and keeps to the plan's fastest and slowest pace, and the median that
    /// this schedule has.
    pub fn best(&self, budget: f64) -> (f64, f64) {
        // Each period, and the changes that fall into it.
        let mut periods = Vec::new();
        for hour in 0..24 {
            let at = f64::from(hour) * 3600.0;
            let loads: Vec<_> = (0..self.firms.len())
                .flat_map(|firm| [Kind::Encounters, Kind::Documents].map(|kind| self.rate(firm, kind, at)))
                .map(|rate| Load { rate, cost: 1.0, slowest: SLOWEST, fastest: FASTEST })
                .collect();
            let looks = split(budget, &loads);
            periods.extend(looks.iter().zip(&loads).map(|(looks, load)| (1.0 / looks, load.rate)));
        }
        let all: f64 = periods.iter().map(|(_, rate)| rate).sum();
        let mean = periods.iter().map(|(period, rate)| period / 2.0 * rate).sum::<f64>() / all;
        let found_in = |time: f64| periods.iter().map(|(period, rate)| rate * (time / period).min(1.0)).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if found_in(middle) < all / 2.0 { low = middle } else { high = middle }
        }
        (mean, low)
    }
}

/// Thinned from the busiest hour's rate.
fn poisson(rng: &mut StdRng, a_day: f64, spread: Spread) -> Vec<f64> {
    let peak = spread.now(12.0 * 3600.0);
    let (mut at, mut all) = (0.0, Vec::new());
    loop {
        at -= (1.0 - rng.random::<f64>()).ln() / (a_day * peak);
        if at > SPAN {
            return all;
        }
        if rng.random::<f64>() < spread.now(at) / peak {
            all.push(at);
        }
    }
}

/// Delays from a change to its hint, in seconds.
#[derive(Debug, Default, Clone)]
pub struct Delays(Vec<f64>);

impl Delays {
    /// Only what happened on the day that counts.
    pub fn note(&mut self, changed: f64, found: f64) {
        if changed >= LEARNED {
            self.0.push(found - changed);
        }
    }

    pub fn add(&mut self, delay: f64) {
        self.0.push(delay);
    }

    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).copied().collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub fn at(&self, part: f64) -> f64 {
        let mut all = self.0.clone();
        all.sort_by(f64::total_cmp);
        all.get((all.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }
}

/// What came of a day.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub encounters: Delays,
    pub documents: Delays,
    /// Of the time that counts, and how long that is.
    pub requests: u64,
    pub seconds: f64,
    /// The most in any window.
    pub most: usize,
    /// Documents that nobody found until the end of the day.
    pub missed: usize,
}
