//! Worlds in which EHRs are watched: firms, stations and a key with a quota, and everything that goes wrong with them.
//!
//! `SIMULATION_SEEDS` and `SIMULATION_SEED` as elsewhere (default 24 worlds).

mod days;
mod defects;
mod judge;
mod ports;
mod scenarios;
mod shape;
mod world;

use std::thread;

use self::{
    defects::Defect,
    world::{Plan, Report, World},
};
use crate::{line, script::Tally, setting};

fn play(plan: Plan) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::run(plan))
}

fn play_all(plans: &[Plan]) -> Vec<(u64, Report)> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let mut reports: Vec<_> = thread::scope(|scope| {
        let share = |share: usize| {
            let mine = plans.iter().skip(share).step_by(threads).copied();
            mine.map(|plan| (plan.seed, play(plan))).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || share(number))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    reports
}

#[test]
fn an_ehr_is_watched_without_a_gap_a_double_or_a_request_too_many_in_any_world() {
    let plan = |seed| Plan { seed, defect: None };
    if let Some(seed) = setting("SIMULATION_SEED") {
        let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
        let report = play(plan(seed));
        println!("seed {seed}: {report:#?}");
        assert_eq!(report.violation, None, "seed {seed}");
        return;
    }
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(24).min(2_000);
    let reports = play_all(&(1..=seeds).map(plan).collect::<Vec<_>>());
    let mut total = Report::default();
    let mut broken = Vec::new();
    for (seed, report) in reports {
        total.simulated += report.simulated;
        total.requests += report.requests;
        total.beyond += report.beyond;
        total.handed += report.handed;
        total.sweeps += report.sweeps;
        total.missed += report.missed;
        total.faults.merge(&report.faults);
        total.checks.merge(&report.checks);
        total.shapes.merge(&report.shapes);
        broken.extend(report.violation.map(|violation| (seed, violation)));
    }
    for (seed, violation) in broken.iter().take(20) {
        println!("seed {seed}: {violation}");
    }
    println!(
        "watched: seeds {seeds}, simulated {:.1} days, requests {}, over a quota {}, documents handed on {}, sweeps {}, missed {}, violations {}",
        total.simulated.as_secs_f64() / 86_400.0,
        total.requests,
        total.beyond,
        total.handed,
        total.sweeps,
        total.missed,
        broken.len(),
    );
    println!("worlds: {}", line(&total.shapes.0));
    println!("faults: {}", line(&total.faults.0));
    println!("checks: {}", line(&total.checks.0));
    assert!(broken.is_empty(), "{} of {seeds} worlds broke an invariant; replay with SIMULATION_SEED=N", broken.len());
    if seeds < 24 {
        return;
    }
    let happened = |all: &Tally, name: &str| assert!(all.0.contains_key(name), "\"{name}\" never happened");
    for fault in [
        "crash",
        "call failed",
        "reply lost",
        "delay",
        "suspend",
        "cut off from the ledger",
        "clock off",
        "ehr away",
        "sign-in refused",
        "server error",
        "quota refused",
        "late row",
        "burst",
        "withdrawn",
        "before its encounter",
        "signed after its day",
        "pause",
        "sync now",
        "no secret",
    ] {
        happened(&total.faults, fault);
    }
    for check in ["I11", "I14", "I20", "I22", "I24", "I25", "I5", "I6", "I16", "handed once", "sweeps"] {
        happened(&total.checks, check);
    }
}

/// I26: a seed is a world.
#[test]
fn the_same_seed_gives_the_same_ehr_world_twice() {
    for seed in [3, 4] {
        let plan = Plan { seed, defect: None };
        assert_eq!(play(plan).trace, play(plan).trace, "seed {seed}");
    }
}

/// I27: each defect, put back, is found.
#[test]
fn every_defect_of_an_ehr_watcher_put_back_is_found() {
    const AT_MOST: u64 = 40;
    let mut missed = Vec::new();
    let only = std::env::var("SIMULATION_DEFECT").ok();
    for defect in Defect::ALL {
        if only.as_ref().is_some_and(|only| *only != format!("{defect:?}")) {
            continue;
        }
        let found = (1..=AT_MOST).find_map(|seed| Some((seed, play(Plan { seed, defect: Some(defect) }).violation?)));
        match found {
            Some((seeds, violation)) => println!("{defect:?}: found after {seeds} seed(s): {violation}"),
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "not found within {AT_MOST} seeds: {missed:?}");
}
