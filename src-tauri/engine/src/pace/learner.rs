//! How often something changes, learned from looking at it.
//!
//! The rate is a product: so many changes a second at this hour of the day, times how much of that this day of the week has. Both are
//! Gamma-Poisson estimates, each with what is known more broadly as its prior: the hour begins with the rate of all hours, that with what the
//! firm's plan expects, and a day of the week with an ordinary day. Old times weigh less and less. On top comes a boost after each change
//! that was found, which lasts some minutes, as large as changes were seen to come in bursts: each is put down to the hour and to those before
//! it in the proportion in which both were to be expected.
//!
//! Hours and days are UTC: what matters is that they come round.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// So many changes seen in so much time (in seconds, or in changes expected).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Seen(f32, f32);

impl Seen {
    fn add(&mut self, found: f64, exposure: f64, keep: f64) {
        self.0 = (f64::from(self.0) * keep + found) as f32;
        self.1 = (f64::from(self.1) * keep + exposure) as f32;
    }

    /// The mean of the posterior, where the prior has `mean` and weighs as much as `events` changes.
    fn mean(self, mean: f64, events: f64) -> f64 {
        (f64::from(self.0) + events) / (f64::from(self.1) + events / mean)
    }
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// What is expected weighs as much as so many changes: of the plan, ...
const PLAN: f64 = 3.0;
/// ... of all hours for one, ...
const HOURS: f64 = 0.5;
/// ... of an ordinary day for one of the week.
const DAYS: f64 = 10.0;
/// In what time spent what was seen is worth 1/e: overall, ...
const MEMORY: f64 = 21.0 * DAY;
/// ... in one hour of the day, ...
const HOUR_MEMORY: f64 = 21.0 * HOUR;
/// ... in one day of the week.
const DAY_MEMORY: f64 = 6.0 * DAY;
/// How long a change echoes.
const ECHO: f64 = 120.0;
/// Before anything is known, so many follow on each change, ...
const ECHOES: f64 = 0.1;
/// ... as if so many changes had shown that.
const ECHOES_PRIOR: f64 = 5.0;
const MOST_ECHOES: f64 = 0.9;
/// Nothing is learned at once from a longer time than this: it is taken hour by hour, and what is older than a day is left out.
const PIECE: f64 = HOUR / 4.0;
/// No rate is below this: a change in 30 years.
const LEAST: f64 = 1e-9;
/// How fast the cost of a look is learned.
const COST: f64 = 0.05;

/// What was learned of one thing that is polled. It is kept with the poll's cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    /// What the plan expects, in changes a second.
    plan: f32,
    all: Seen,
    hours: [Seen; 24],
    days: [Seen; 7],
    /// Changes that followed on others, as far as that can be told, and changes that they may have followed on.
    echoes: Seen,
    /// Changes that still echo, ...
    echoing: f32,
    /// ... as of then.
    at: Option<Timestamp>,
    /// Requests of a look.
    cost: f32,
}

fn place(at: Timestamp) -> (usize, usize) {
    let at = at.to_zoned(TimeZone::UTC);
    (usize::from(at.hour().unsigned_abs()), usize::from(at.weekday().to_monday_zero_offset().unsigned_abs()))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

impl Learner {
    /// Nothing is known but what the plan expects, in changes a second.
    pub fn expecting(rate: f64) -> Self {
        Self {
            plan: rate.max(LEAST) as f32,
            all: Seen::default(),
            hours: [Seen::default(); 24],
            days: [Seen::default(); 7],
            echoes: Seen::default(),
            echoing: 0.0,
            at: None,
            cost: 1.0,
        }
    }

    fn all(&self) -> f64 {
        self.all.mean(f64::from(self.plan).max(LEAST), PLAN)
    }

    fn hour(&self, hour: usize) -> f64 {
        self.hours[hour].mean(self.all(), HOURS)
    }

    fn day(&self, day: usize) -> f64 {
        self.days[day].mean(1.0, DAYS)
    }

    /// Without echoes.
    fn base(&self, at: Timestamp) -> f64 {
        let (hour, day) = place(at);
        self.hour(hour) * self.day(day)
    }

    fn echoes(&self) -> f64 {
        let (found, could) = (f64::from(self.echoes.0), f64::from(self.echoes.1));
        ((found + ECHOES * ECHOES_PRIOR) / (could + ECHOES_PRIOR)).clamp(0.0, MOST_ECHOES)
    }

    fn echoing(&self, at: Timestamp) -> f64 {
        let passed = self.at.map_or(0.0, |then| seconds(then, at).max(0.0));
        f64::from(self.echoing) * (-passed / ECHO).exp()
    }

    /// Changes to be expected in a second, now.
    pub fn rate(&self, now: Timestamp) -> f64 {
        (self.base(now) + self.echoes() * self.echoing(now) / ECHO).max(LEAST)
    }

    /// Requests to be expected of a look.
    pub fn cost(&self) -> f64 {
        f64::from(self.cost).max(1.0)
    }

    /// A look at `now` found so many changes made since `since`, and took so many requests.
    pub fn looked(&mut self, since: Timestamp, now: Timestamp, found: u64, requests: u64) {
        self.cost += COST as f32 * (requests as f32 - self.cost);
        let since = since.max(now.checked_sub(SignedDuration::from_secs(DAY as i64)).unwrap_or(since));
        let span = seconds(since, now);
        if span <= 0.0 {
            return;
        }
        let pieces = (span / PIECE).ceil();
        let step = span / pieces;
        // As far as is known before this look.
        let parts: Vec<_> = (0..pieces as u64)
            .filter_map(|piece| since.checked_add(Duration::from_secs_f64(step * piece as f64)).ok())
            .map(|start| (start, self.base(start) * step))
            .collect();
        let expected: f64 = parts.iter().map(|(_, expected)| expected).sum();
        let before = self.echoing(since);
        let could = before * (1.0 - (-span / ECHO).exp());
        let of_base = expected / (expected + self.echoes() * could).max(LEAST);
        for (start, part) in parts {
            let (hour, day) = place(start);
            let (rate, relative) = (self.hour(hour), self.day(day));
            // What was found is spread as it was to be expected.
            let found = found as f64 * of_base * part / expected.max(LEAST);
            // What is not yet known of the hour says nothing of the day.
            let known = f64::from(self.hours[hour].1);
            let known = known / (known + HOUR);
            self.days[day].add(found * known, rate * step * known, (-step / DAY_MEMORY).exp());
            self.hours[hour].add(found, relative * step, (-step / HOUR_MEMORY).exp());
            self.all.add(found, step, (-step / MEMORY).exp());
        }
        self.echoes.add(found as f64 * (1.0 - of_base), could, (-span / MEMORY).exp());
        // What was found was made at any time since the last look.
        let faded = (1.0 - (-span / ECHO).exp()) * ECHO / span;
        self.echoing = (before * (-span / ECHO).exp() + found as f64 * faded) as f32;
        self.at = Some(now);
    }
}
