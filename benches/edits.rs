//! Benchmark 5: what an edit costs the two servers: calls and writes for each edit of a person, for each echo of our own write, and for
//! each hint that comes again, beside the one-way loop that writes whatever it is hinted, in the same run.
//!
//! Counted by the servers. Finding an edit (polls, hooks) is not in it: each edit, echo and duplicate is hinted by the benchmark.
//!
//! `cargo bench --bench edits`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

#[allow(dead_code, reason = "the benchmarks of throughput use the rest")]
mod clinic;
#[path = "clinic/relay.rs"]
mod relay;

use std::process::ExitCode;

use clinic::{Clinic, Hand, until};
use relay::Running;
use reqwest::Method;
use serde_json::json;
use simulators::{fhir::Interaction, filemaker::Route};

const PATIENTS: usize = 100;
/// How often the same hint comes.
const AGAIN: usize = 3;

/// What both servers were asked, for each patient.
#[derive(Clone, Copy)]
struct Asked {
    reads: f64,
    writes: f64,
}

impl Asked {
    /// Since they were last asked for this.
    fn of(clinic: &Clinic) -> Self {
        let (chart, filemaker) = (clinic.fhir.control(), clinic.filemaker.control());
        let (tally, counts) = (chart.tally(), filemaker.counts());
        chart.reset_tally();
        filemaker.reset_counts();
        let each = |calls: u64| calls as f64 / PATIENTS as f64;
        Self {
            reads: each(tally.of(Interaction::Read) + counts.of(Route::Find)),
            writes: each(tally.of(Interaction::Update) + counts.of(Route::Edit)),
        }
    }
}

/// Whether nothing more was written than should be. `times` it was hinted.
fn line(what: &str, relay: Asked, beside: Asked, times: usize, most: f64) -> bool {
    let Asked { reads, writes } = beside;
    println!(
        "{what:<26} {:>5.2} reads {:>5.2} writes   the loop {:>5.2} reads {:>5.2} writes",
        relay.reads,
        relay.writes,
        reads * times as f64,
        writes * times as f64
    );
    relay.writes <= most
}

/// The one-way loop: for each hint it reads the resource, finds the row, and writes it.
async fn always_writes(clinic: &Clinic) -> Asked {
    let hand = Hand::on(clinic).await;
    let session = hand.sign_in().await;
    Asked::of(clinic);
    for patient in &clinic.patients {
        let read = hand.read(patient["id"].as_str().unwrap()).await;
        let query = json!({ "query": [{ "FhirId": format!("=={}", patient["id"].as_str().unwrap()) }] });
        let found = hand.filemaker(&session, Method::POST, "_find", &query).await;
        let record = found["response"]["data"][0]["recordId"].as_str().unwrap();
        hand.filemaker(&session, Method::PATCH, &format!("records/{record}"), &clinic::row(&read)).await;
    }
    Asked::of(clinic)
}

#[tokio::main]
async fn main() -> ExitCode {
    println!("Benchmark 5: calls for each edit, echo and duplicate hint, {PATIENTS} of each");
    let clinic = Clinic::start(PATIENTS).await;
    let both_ways = clinic.config(2).replace("[[firm]]", "[[firm]]\nboth-ways = true");
    let config = format!("[station]\nid = \"bench\"\n{both_ways}");
    let running = Running::start(&clinic, &config).await;
    let beside = always_writes(&clinic).await;
    running.hint(&clinic).await;
    running.at_rest().await;
    Asked::of(&clinic);
    let mut met = true;

    clinic.change_all();
    running.hint(&clinic).await;
    until(|| clinic.filemaker.control().records("Patient").iter().all(|row| row.fields["City"] == "Synthetic Falls"))
        .await;
    running.at_rest().await;
    met &= line("an edit in the chart", Asked::of(&clinic), beside, 1, 1.0);
    running.hint(&clinic).await;
    running.at_rest().await;
    met &= line("its echo from FileMaker", Asked::of(&clinic), beside, 1, 0.0);

    for row in clinic.filemaker.control().records("Patient") {
        clinic.filemaker.control().desk_edit("Patient", row.record_id, &[("City", "Synthetic Springs")]).unwrap();
    }
    let arrived = |patient: &serde_json::Value| {
        let chart = clinic.fhir.control().get("Patient", patient["id"].as_str().unwrap()).unwrap();
        chart["address"][0]["city"] == json!("Synthetic Springs")
    };
    running.hint(&clinic).await;
    until(|| clinic.patients.iter().all(arrived)).await;
    running.at_rest().await;
    met &= line("an edit in FileMaker", Asked::of(&clinic), beside, 1, 1.0);
    running.hint(&clinic).await;
    running.at_rest().await;
    met &= line("its echo from the chart", Asked::of(&clinic), beside, 1, 0.0);

    for _ in 0..AGAIN {
        running.hint(&clinic).await;
    }
    running.at_rest().await;
    met &= line(&format!("the same hint {AGAIN} times"), Asked::of(&clinic), beside, AGAIN, 0.0);
    running.stop().await;
    println!(
        "targets: one write for each edit, none for an echo or a duplicate: {}",
        if met { "met" } else { "MISSED" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
