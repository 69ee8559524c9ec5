//! What people do in FileMaker, on its way into the chart: over real HTTP, with FileMaker's own ways of failing.

use engine::{error::Code, snapshot::Verdict};
use serde_json::Value as Json;
use simulators::filemaker::{self, Route, When};

use crate::rig::{Chart, ChartSystem, Running, Station, clinic, link, until};

async fn station(patients: usize, seed: u64) -> (ChartSystem, Station) {
    let chart = ChartSystem::with(patients, seed).await;
    let station = Station::for_chart(&Chart::of(&chart.server)).await;
    (chart, station)
}

const NEW: [(&str, &str); 5] = [
    ("LastName", "Testpatient-Frontdesk"),
    ("FirstName", "Ada"),
    ("BirthDate", "01/02/1970"),
    ("MRN", "SYNTHETIC-77"),
    ("Phone", "(555) 010-0177"),
];

/// The patient of the chart that has this family name.
fn named(chart: &ChartSystem, family: &str) -> Option<(String, Json)> {
    let all = chart.control().ids("Patient").into_iter();
    let mut found = all.filter_map(|id| Some((id.clone(), chart.control().get("Patient", &id)?)));
    found.find(|(_, json)| json["name"].as_array().into_iter().flatten().any(|name| name["family"] == family))
}

async fn up_to_date(running: &Running) {
    running.shows("up to date", |snapshot| matches!(snapshot.verdict, Verdict::UpToDate { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_entered_edited_and_deleted_at_the_front_desk() {
    let (chart, station) = station(3, 41).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    let before = chart.control().ids("Patient").len();

    // The answer to the first attempt is lost, and somebody has the record open for a moment.
    let row = station.filemaker().desk_create("Patient", &NEW).unwrap();
    station.filemaker().inject(filemaker::Fault::DropAfter, When::next().route(Route::Edit));
    let id = until("the row has its FHIR id", async || {
        station.filemaker().record("Patient", row).map(|row| row.fields["FhirId"].clone()).filter(|id| !id.is_empty())
    })
    .await;
    up_to_date(&running).await;
    assert_eq!(chart.control().ids("Patient").len(), before + 1);
    let (found, json) = named(&chart, "Testpatient-Frontdesk").unwrap();
    assert_eq!(found, id);
    assert_eq!(json["birthDate"], "1970-01-02");
    assert_eq!(json["name"][0]["given"], serde_json::json!(["Ada"]));
    assert!(json.to_string().contains("SYNTHETIC-77"));

    station.filemaker().desk_edit("Patient", row, &[("City", "Pleasantville")]).unwrap();
    until("the edit is in the chart", async || {
        let json = chart.control().get("Patient", &id)?;
        (json["address"][0]["city"] == "Pleasantville").then_some(())
    })
    .await;
    up_to_date(&running).await;
    let versions = chart.control().versions("Patient", &id).len();
    running.all_arrived(|| chart.resources()).await;
    assert_eq!(chart.control().versions("Patient", &id).len(), versions, "no echo");
    running.stop().await;

    // FileMaker says nothing of what is gone; the sweep at the start finds it.
    station.filemaker().desk_delete("Patient", row).unwrap();
    let running = station.start().await;
    until("it is noticed", async || {
        let record = running.relay.database.ledger().read(&link("Patient", &id)).await.unwrap()?;
        (record.notice == Some(Code::RowDeleted)).then_some(())
    })
    .await;
    up_to_date(&running).await;
    assert!(chart.control().get("Patient", &id).is_some(), "nothing is deleted in the chart");
    assert!(station.filemaker().record_with("Patient", "FhirId", &id).is_none(), "and not made again");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_the_fields_works_one_way_and_the_doctor_says_what_is_missing() {
    let chart = ChartSystem::with(3, 42).await;
    let layouts = ["API_Patient", "API_IntakeForm", "API_Measurement", "API_ProgressNote"];
    let bare = clinic()
        .each_file(|file| layouts.iter().fold(file, |file, layout| file.without(layout, &["UUID", "ModifiedAt"])));
    let station = Station::with_clinic(&Chart::of(&chart.server), bare).await;
    let running = station.start_proven().await;
    running.all_arrived(|| chart.resources()).await;
    let snapshot = running.snapshot();
    let remarks: Vec<_> = snapshot.polls.iter().filter_map(|poll| poll.remark).collect();
    assert_eq!(remarks, [Code::NotWatched; 4]);
    let tables: Vec<_> =
        running.connected.config.mapping.resources.values().map(|mapping| mapping.table.clone()).collect();
    let steps = running.connected.filemaker.diagnose_changes(&tables, &running.connected.config.zone).await;
    assert_eq!(steps.len(), 4);
    assert!(steps.iter().all(|step| format!("{step:?}").contains("Get ( UUID )")), "{steps:?}");

    let id = chart.control().ids("Patient")[0].clone();
    let versions = chart.control().versions("Patient", &id).len();
    let row = station.filemaker().record_with("Patient", "FhirId", &id).unwrap().record_id;
    station.filemaker().desk_edit("Patient", row, &[("City", "Clinicville")]).unwrap();
    station.filemaker().desk_create("Patient", &NEW).unwrap();
    running.stop().await;
    let running = station.start().await;
    up_to_date(&running).await;
    assert_eq!(chart.control().versions("Patient", &id).len(), versions, "nothing goes to the chart");
    assert!(named(&chart, "Testpatient-Frontdesk").is_none());
    running.stop().await;
}
