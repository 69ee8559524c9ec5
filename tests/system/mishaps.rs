//! What goes wrong at either end, and what is true after it: everything has arrived, nothing twice.

use std::time::Duration;

use chart_relay::compare::Comparison;
use engine::{
    connection::{Health, Side},
    error::Code,
    snapshot::Verdict,
};
use serde_json::json;
use simulators::{
    fhir::{self, Interaction, Matching, RetryAfter, Times},
    filemaker::{self, Route, When},
};

use crate::rig::{Chart, ChartSystem, PATIENCE, Running, SECRET, Station, until};

async fn clinic(patients: usize, seed: u64) -> (ChartSystem, Station) {
    let chart = ChartSystem::with(patients, seed).await;
    let station = Station::for_chart(&Chart::of(&chart.server)).await;
    (chart, station)
}

/// Everything is there, once; nothing was put aside for a person.
async fn ends_well(chart: &ChartSystem, running: Running) {
    let compared = running.all_arrived(|| chart.resources()).await;
    assert!(compared.expected > 0);
    assert_eq!(running.snapshot().dead, 0);
    running.stop().await;
}

/// Everything is there; what was lost on its way may still land.
async fn arrived_so_far(chart: &ChartSystem, running: &Running) {
    until("everything is there", async || {
        let compared = Comparison::of(&running.connected, chart.resources()).await;
        compared.is_ok_and(|compared| compared.all_arrived()).then_some(())
    })
    .await;
}

fn patients(chart: &ChartSystem) -> Vec<String> {
    chart.control().ids("Patient")
}

/// The recordId of the row of a patient.
fn row(station: &Station, id: &str) -> u64 {
    station.filemaker().record_with("Patient", "FhirId", id).unwrap().record_id
}

#[tokio::test(flavor = "multi_thread")]
async fn filemaker_is_away_and_comes_back() {
    let (mut chart, station) = clinic(8, 1).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    station.filemaker().unplug().await;
    for id in patients(&chart) {
        chart.change("Patient", &id);
    }
    let new = chart.generator.patient();
    chart.control().put(new).unwrap();
    running
        .shows("FileMaker is seen to be away", |snapshot| {
            matches!(crate::rig::health(snapshot, Side::FileMaker), Health::Away { .. }) && snapshot.wanted > 0
        })
        .await;
    station.filemaker().plug_in().await;
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_expires_in_mid_batch() {
    let (mut chart, station) = clinic(8, 2).await;
    let running = station.start_proven().await;
    let logins = station.filemaker().counts().logins;
    station.filemaker().expire_tokens_after(20);
    chart.control().inject(fhir::Fault::ExpireTokens, Matching::only(Interaction::Read), Times::Next(2));
    running.all_arrived(|| chart.resources()).await;
    assert!(station.filemaker().counts().with_code(952) > 0, "no token was seen to be at its end");
    assert!(chart.control().tally().statuses.contains_key(&401));
    station.filemaker().expire_tokens_after(3);
    chart.control().expire_tokens();
    for id in patients(&chart) {
        chart.change("Patient", &id);
    }
    running.all_arrived(|| chart.resources()).await;
    assert!(station.filemaker().counts().logins > logins);
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_open_in_a_window_is_waited_for() {
    let (mut chart, station) = clinic(3, 3).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    let id = patients(&chart).remove(0);
    station.filemaker().lock("Patient", row(&station, &id)).unwrap();
    chart.change("Patient", &id);
    let waits = until("the record is waited for", async || {
        running.record("Patient", &id).await?.wanted?.waits_for.filter(|code| *code == Code::RecordOpen)
    });
    waits.await;
    assert_eq!(running.record("Patient", &id).await.unwrap().attempts, 0);
    station.filemaker().release("Patient", row(&station, &id)).unwrap();
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_whose_answers_are_lost_are_found_again() {
    let (mut chart, station) = clinic(4, 4).await;
    // One round of proofs first, which creates as well; what has arrived meanwhile does not matter.
    let running = station.start_proven().await;
    let filemaker = station.filemaker();
    let lost = [
        filemaker.inject(filemaker::Fault::DropAfter, When::next().times(2).route(Route::Create)),
        filemaker.inject(filemaker::Fault::DoneButHtml502, When::next().route(Route::Create)),
        filemaker.inject(filemaker::Fault::Truncated, When::next().route(Route::Create)),
    ];
    for _ in 0..3 {
        let new = chart.generator.patient();
        chart.control().put(new).unwrap();
    }
    arrived_so_far(&chart, &running).await;
    assert_eq!(lost.iter().map(filemaker::Injected::fired).sum::<u64>(), 4);
    let edits = [
        filemaker.inject(filemaker::Fault::DropAfter, When::next().route(Route::Edit)),
        filemaker.inject(filemaker::Fault::Truncated, When::next().route(Route::Edit)),
    ];
    for id in patients(&chart) {
        chart.change("Patient", &id);
    }
    arrived_so_far(&chart, &running).await;
    assert_eq!(edits.iter().map(filemaker::Injected::fired).sum::<u64>(), 2);
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lands_late_is_put_right() {
    let (mut chart, station) = clinic(2, 5).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    let filemaker = station.filemaker();
    let id = patients(&chart).remove(0);
    // An edit hangs at FileMaker; the relay looks, tries again with the same version, and only then the first one lands.
    let late_edit = filemaker.inject(filemaker::Fault::Late(None), When::next().route(Route::Edit));
    chart.change("Patient", &id);
    until("the edit hangs", async || (late_edit.fired() == 1).then_some(())).await;
    chart.change("Patient", &id);
    // A create hangs as well, and another one wins.
    let late_create = filemaker.inject(filemaker::Fault::Late(None), When::next().route(Route::Create));
    let new = chart.generator.patient();
    chart.control().put(new).unwrap();
    until("the create hangs", async || (late_create.fired() == 1).then_some(())).await;
    arrived_so_far(&chart, &running).await;
    filemaker.land_late();
    until("both have landed", async || (filemaker.counts().late == 0).then_some(())).await;
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_system_that_asks_to_slow_down_is_left_alone() {
    let (chart, station) = clinic(5, 6).await;
    chart.control().inject(
        fhir::Fault::Answer(fhir::Canned::Outcome {
            status: 429,
            code: "throttled",
            retry_after: RetryAfter::Seconds(3),
        }),
        Matching::only(Interaction::Read),
        Times::Next(1),
    );
    let running = station.start_proven().await;
    until("it is asked to slow down", async || chart.control().tally().statuses.contains_key(&429).then_some(())).await;
    ends_well(&chart, running).await;
    let journal = chart.control().journal();
    let refused = journal.iter().position(|call| call.status == Some(429)).unwrap();
    let asked = journal[refused].at;
    // What was on its way already may still arrive.
    let early = journal[refused + 1..].iter().filter(|call| {
        let after = call.at.duration_since(asked);
        call.interaction == Interaction::Read && after.as_millis() > 500 && after.as_millis() < 2_900
    });
    assert_eq!(early.count(), 0, "it was called before its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_until_keys_are_proven_unique() {
    let (chart, station) = clinic(3, 7).await;
    let running = station.start().await;
    let patients = patients(&chart);
    for id in &patients {
        until("the patient waits for the proof", async || {
            let waits = running.record("Patient", id).await?.wanted?.waits_for;
            waits.filter(|code| *code == Code::UniquenessUnproven)
        })
        .await;
    }
    assert_eq!(station.filemaker().counts().of(Route::Create), 0);
    assert_eq!(running.snapshot().dead, 0);
    running.prove_keys().await;
    ends_well(&chart, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_stops_the_connection_and_loses_nothing() {
    let (mut chart, station) = clinic(3, 8).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    running.stop().await;
    station.set_secret("north-filemaker", "wrong-synthetic-password").await;
    for id in patients(&chart) {
        chart.change("Patient", &id);
    }
    let running = station.start().await;
    let stopped = running.shows("the connection is stopped", |snapshot| {
        let health = crate::rig::health(snapshot, Side::FileMaker);
        matches!(health, Health::Stopped { code: Code::SignInRefused, .. }) && snapshot.wanted >= 3
    });
    let snapshot = stopped.await;
    assert_eq!(snapshot.dead, 0);
    assert_eq!(running.health(Side::Fhir), Health::Up);
    assert_eq!(snapshot.verdict, Verdict::NeedsAttention { items: 1 });
    // Probes are slow, so that no account is locked by them.
    let tries = station.filemaker().counts().of(Route::Login);
    assert!(tries < 12, "{tries} sign-ins with a wrong password");
    // IT gives the account the password that the relay has.
    station.filemaker().set_password(crate::rig::ACCOUNT, "wrong-synthetic-password");
    ends_well(&chart, running).await;
    station.set_secret("north-filemaker", SECRET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clinics_own_edit_is_kept_and_shown() {
    let (chart, station) = clinic(2, 9).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    let id = patients(&chart).remove(0);
    let record = row(&station, &id);
    station.filemaker().desk_edit("Patient", record, &[("City", "SYNTHETIC Clinicville")]).unwrap();
    let mut changed = chart.control().get("Patient", &id).unwrap();
    changed["address"][0]["city"] = json!("Portalton");
    changed["name"][0]["given"] = json!(["Synthetic"]);
    chart.control().put(changed).unwrap();
    // Both have changed the city, and the shipped mapping leaves that to a person.
    until("the conflict is shown", async || {
        running.record("Patient", &id).await?.notice.filter(|code| *code == Code::Conflict)
    })
    .await;
    let kept = station.filemaker().record("Patient", record).unwrap();
    assert_eq!(kept.fields["City"], "SYNTHETIC Clinicville");
    assert_eq!(kept.fields["FirstName"], "Synthetic", "the other fields go on");
    assert_eq!(
        chart.control().get("Patient", &id).unwrap()["address"][0]["city"],
        "Portalton",
        "and so is the chart's"
    );
    let shown = running.shows("the remark is counted", |snapshot| snapshot.differs == 1);
    assert_eq!(tokio::time::timeout(PATIENCE, shown).await.unwrap().dead, 0);
    // The chart comes round to the clinic's value: the remark goes.
    let mut agreed = chart.control().get("Patient", &id).unwrap();
    agreed["address"][0]["city"] = json!("SYNTHETIC Clinicville");
    chart.control().put(agreed).unwrap();
    let snapshot = running.shows("the remark is gone", |snapshot| snapshot.differs == 0).await;
    assert_eq!(snapshot.dead, 0);
    ends_well(&chart, running).await;
}

/// The relay does not run ahead of what it was told: a day in which everything goes wrong at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_mishaps_at_once_end_well() {
    let (mut chart, station) = clinic(10, 10).await;
    let running = station.start_proven().await;
    let filemaker = station.filemaker();
    for fault in [
        filemaker::Fault::DropAfter,
        filemaker::Fault::DropBefore,
        filemaker::Fault::Html502,
        filemaker::Fault::Truncated,
        filemaker::Fault::DoneButCode(951),
        filemaker::Fault::Slow(Duration::from_millis(700)),
    ] {
        filemaker.inject(fault, When::always().times(6).chance(0.1));
    }
    for fault in
        [fhir::Fault::HangUpAfter, fhir::Fault::Truncate, fhir::Fault::CutBody, fhir::Fault::html_bad_gateway()]
    {
        chart.control().inject(fault, Matching::any(), Times::Next(2));
    }
    for turn in 0..3 {
        for (number, id) in patients(&chart).into_iter().enumerate() {
            if number % 3 == turn {
                chart.change("Patient", &id);
            }
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    ends_well(&chart, running).await;
}
