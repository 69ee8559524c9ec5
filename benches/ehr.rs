//! Benchmark 7: how soon an EHR without webhooks is seen to have changed, beside a state machine that is triggered each minute, at the same
//! quota and on the same generated days.
//!
//! Time is simulated: three days, of which the first two are there to learn from. A *delay* is the time from a change in the EHR to its hint.
//! `D*` is the least mean delay that any schedule can have which knows all rates (docs/pace.md), under the plan's bounds of one look a
//! second at most and one in five minutes at least; `R` is the mean delay divided by that, and `Rmed` the median divided by the median of that best schedule, which is no bound.
//!
//! `cargo xtask bench --only ehr`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

#[path = "ehr/days.rs"]
mod days;
#[path = "ehr/minute.rs"]
mod minute;
#[path = "ehr/pace.rs"]
mod pace;
#[path = "ehr/watch.rs"]
mod watch;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use days::{Days, Outcome, Spread};
use engine::{pace::Allowance, ports::Manners};
use pace::Knows;

/// What one practice's app may send to eClinicalWorks, of which the relay uses 60 %.
const LIMIT: u64 = 250;

/// One line of the table.
struct Line {
    firms: usize,
    spread: Spread,
    what: &'static str,
    /// The most that `R` may be.
    target: Option<f64>,
    best: (f64, f64),
    outcome: Outcome,
}

impl Line {
    fn ratio(&self) -> f64 {
        self.outcome.encounters.and(&self.outcome.documents).mean() / self.best.0
    }

    fn met(&self) -> bool {
        self.target.is_none_or(|most| self.ratio() <= most)
            && (self.target.is_none() || self.outcome.most <= LIMIT as usize)
    }

    fn print(&self) {
        let Outcome { encounters, documents, requests, seconds, most, missed } = &self.outcome;
        let all = encounters.and(documents);
        let used = *requests as f64 / (LIMIT as f64 * seconds / 60.0) * 100.0;
        println!(
            "{:>5} {:<7} {:<16} {:>8.1} {:>8.1} {:>8.1} {:>9.1} {:>8.1} {:>8.1} {:>7.2} {:>6.2}{} {:>6.2} {:>8.1} {:>6.1}% {:>5} {:>6}",
            self.firms,
            format!("{:?}", self.spread),
            self.what,
            encounters.mean(),
            encounters.at(0.5),
            encounters.at(0.99),
            documents.mean(),
            documents.at(0.5),
            documents.at(0.99),
            self.best.0,
            self.ratio(),
            if self.met() { ' ' } else { '!' },
            all.at(0.5) / self.best.1,
            *requests as f64 / documents.len() as f64,
            used,
            most,
            missed,
        );
    }
}

enum Case {
    /// The pace alone, so that days of 200 firms take seconds.
    Pace(usize, Spread),
    /// The whole engine, for ten firms.
    Whole(Manners, &'static str),
}

impl Case {
    fn run(&self, allowance: Allowance) -> Vec<Line> {
        let budget = allowance.usable() as f64 / 60.0;
        match self {
            Case::Pace(firms, spread) => {
                let (firms, spread) = (*firms, *spread);
                let days = Arc::new(Days::generate(firms, spread));
                let best = days.best(budget);
                let line = |what, target, outcome| Line { firms, spread, what, target, best, outcome };
                vec![
                    line("known rates", Some(1.10), pace::run(&days, Knows::Rates, allowance)),
                    line("learned", Some(1.25), pace::run(&days, Knows::Learned, allowance)),
                    line("5 % refused", Some(1.50), pace::run(&days, Knows::Faulty, allowance)),
                    line("each minute", None, minute::run(&days, budget)),
                ]
            }
            Case::Whole(manners, what) => {
                let visits = watch::Visits::generate(10, 60.0);
                let best = (visits.best(manners, budget), f64::NAN);
                let outcome = watch::run(&visits, manners, allowance);
                vec![Line { firms: 10, spread: Spread::Zipf, what, target: None, best, outcome }]
            }
        }
    }
}

fn main() -> ExitCode {
    let began = Instant::now();
    let allowance = Allowance::alone(LIMIT, Duration::from_secs(60));
    println!(
        "Benchmark 7: an EHR without webhooks; {LIMIT} requests a minute are published, of which {} may be used; delays in seconds",
        allowance.usable()
    );
    let only = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    // One firm is spread over hours only.
    let told_apart = |firms: &usize, spread: &Spread| *firms > 1 || matches!(spread, Spread::Equal | Spread::Office);
    let matrix = [200, 50, 10, 1].into_iter().flat_map(|firms| Spread::ALL.map(|spread| (firms, spread)));
    let matrix = matrix.filter(|(firms, spread)| told_apart(firms, spread));
    let matrix = matrix.map(|(firms, spread)| Case::Pace(firms, spread));
    let mut cases: Vec<_> = [Case::Whole(watch::ema(), "engine, EMA"), Case::Whole(watch::plain(), "engine, plain R4")]
        .into_iter()
        .chain(matrix)
        .collect();
    if only.as_deref() == Some("engine") {
        cases.truncate(2);
    }
    let lines: Mutex<Vec<Line>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let new = case.run(allowance);
                    lines.lock().unwrap().extend(new);
                }
            });
        }
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort_by_key(|line| (line.firms, line.spread as u8));
    println!(
        "\n{:>5} {:<7} {:<16} {:^26} {:^27} {:>7} {:>7} {:>6} {:>8} {:>7} {:>5} {:>6}",
        "", "", "", "encounters", "documents", "", "", "", "requests", "quota", "most/", "not"
    );
    println!(
        "{:>5} {:<7} {:<16} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>7} {:>6}  {:>6} {:>8} {:>7} {:>5} {:>6}",
        "firms",
        "spread",
        "schedule",
        "mean",
        "median",
        "p99",
        "mean",
        "median",
        "p99",
        "D*",
        "R",
        "Rmed",
        "/document",
        "used",
        "min",
        "found"
    );
    for line in &lines {
        line.print();
    }
    let missed = lines.iter().filter(|line| !line.met()).count();
    println!("\n{} lines, {missed} of them miss a target (!), in {:.0} s", lines.len(), began.elapsed().as_secs_f64());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
