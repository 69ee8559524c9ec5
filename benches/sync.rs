//! Benchmark 2: events synced per second, end to end over real HTTP with 40 ms added to every call, at 1, 2, 8 and 16 FileMaker
//! sessions and at the shipped default, beside a worker of the old kind in the same run: one message at a time, seven serial calls.
//!
//! An event is a change of a patient's resource, hinted in the queue; it is synced when FileMaker has accepted the edit. A sync of
//! one takes two round trips to FileMaker (find, guarded edit), which its sessions bound: `sessions / (2 x 40 ms)`; the read of the
//! resource runs beside the find.
//!
//! `cargo bench --bench sync`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

mod clinic;
#[path = "clinic/relay.rs"]
mod relay;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clinic::{Clinic, one_at_a_time, until};
use relay::Running;

const DELAY: Duration = Duration::from_millis(40);
/// Round trips to FileMaker for one event.
const ROUND_TRIPS: f64 = 2.0;
const SESSIONS: [usize; 4] = [1, 2, 8, 16];
const SHIPPED_SESSIONS: usize = 2;
const SHIPPED_RUNS: usize = 16;
/// Events for each session: some ten seconds of work.
const EVENTS_PER_SESSION: usize = 100;
const BASELINE_EVENTS: usize = 20;
/// Of what the sessions allow.
const TARGET_SHARE: f64 = 0.8;
/// At 16 sessions, of the baseline.
const TARGET_TIMES: f64 = 50.0;

async fn relay_rate(sessions: usize, runs: usize) -> f64 {
    let events = sessions * EVENTS_PER_SESSION;
    let clinic = Clinic::start(events).await;
    let config = format!("[station]\nid = \"bench\"\n[engine]\nruns = {runs}\n{}", clinic.config(sessions));
    // All rows are there and all sessions warm before anything is timed.
    let running = Running::start(&clinic, &config).await;
    let before = clinic.edits();
    clinic.change_all();
    clinic.delay(DELAY);
    let begun = Instant::now();
    running.hint(&clinic).await;
    until(|| clinic.edits() - before >= events as u64).await;
    let took = begun.elapsed();
    clinic.delay(Duration::ZERO);
    running.stop().await;
    events as f64 / took.as_secs_f64()
}

#[tokio::main]
async fn main() -> ExitCode {
    println!("Benchmark 2: events synced per second, 40 ms added to every call");
    let baseline = one_at_a_time(BASELINE_EVENTS, DELAY).await;
    println!("baseline, one message at a time with seven serial calls   {baseline:>7.2} /s");
    let mut missed = false;
    let mut at_16 = 0.0;
    for sessions in SESSIONS {
        let rate = relay_rate(sessions, (sessions * 4).max(SHIPPED_RUNS)).await;
        let bound = sessions as f64 / (ROUND_TRIPS * DELAY.as_secs_f64());
        let share = rate / bound;
        let times = rate / baseline;
        missed |= share < TARGET_SHARE;
        at_16 = times;
        println!(
            "{sessions:>2} sessions   {rate:>7.2} /s   {share:.2} of the bound {bound:.1} /s   {times:>5.1} x the baseline"
        );
    }
    let rate = relay_rate(SHIPPED_SESSIONS, SHIPPED_RUNS).await;
    println!(
        "shipped default ({SHIPPED_SESSIONS} sessions, {SHIPPED_RUNS} runs)   {rate:>7.2} /s   {:.1} x the baseline",
        rate / baseline
    );
    missed |= at_16 < TARGET_TIMES;
    println!(
        "targets: {TARGET_SHARE} of the bound at each, {TARGET_TIMES} x the baseline at 16: {}",
        if missed { "MISSED" } else { "met" }
    );
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
