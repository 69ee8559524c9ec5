//! The synthetic day, in either server.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use simulators::ehr::day::{Chart, Class, Day, Manner, Plan, What, categories};
use simulators::fhir::{FhirServer, Options};

use crate::caller::Caller;

const HOUR: Duration = Duration::from_secs(3600);

fn plan(manner: Manner) -> Plan {
    Plan { length: 8 * HOUR, late_share: 10, ..Plan::usual(60, manner) }
}

/// Runs a day to its end, minute by minute.
fn run(day: &mut Day, chart: &impl Chart) -> Vec<(Duration, What, String)> {
    let mut told = Vec::new();
    let mut elapsed = Duration::ZERO;
    while day.next().is_some() {
        elapsed += Duration::from_secs(60);
        let happened = day.until(elapsed, chart).unwrap();
        told.extend(happened.into_iter().map(|one| (one.after, one.what, one.encounter)));
    }
    told
}

#[tokio::test]
async fn a_seed_makes_one_day_and_visits_go_their_way() {
    let server = FhirServer::start(Options::default()).await.unwrap();
    let control = server.control();
    let mut day = Day::new(7, plan(Manner::R4));
    let told = run(&mut day, &control);
    assert!(told.is_sorted_by_key(|(after, _, _)| *after));
    let other = FhirServer::start(Options::default()).await.unwrap();
    assert_eq!(run(&mut Day::new(7, plan(Manner::R4)), &other.control()), told);
    assert_ne!(run(&mut Day::new(8, plan(Manner::R4)), &other.control()), told);
    let mut steps: BTreeMap<&str, Vec<What>> = BTreeMap::new();
    for (_, what, encounter) in &told {
        if matches!(what, What::Opened | What::Began | What::Finished) {
            steps.entry(encounter).or_default().push(*what);
        }
    }
    assert_eq!(steps.len(), 60);
    assert!(steps.values().all(|steps| *steps == [What::Opened, What::Began, What::Finished]));
    let classes = [Class::Solitary, Class::Widespread, Class::Note, Class::Ignored, Class::Unsorted];
    for class in classes {
        assert!(told.iter().any(|(_, what, _)| *what == What::Entered(class)), "{class:?}");
    }
    assert!(told.iter().any(|(_, what, _)| matches!(what, What::Withdrawn(_))));
    assert!(told.iter().any(|(_, what, _)| matches!(what, What::Amended(_))));
}

#[tokio::test]
async fn what_it_remembers_is_what_the_fhir_server_holds() {
    let server = FhirServer::start(Options::default()).await.unwrap();
    let control = server.control();
    let mut day = Day::new(3, plan(Manner::R4));
    run(&mut day, &control);
    let late = control.ids("DocumentReference").len() + control.ids("Media").len();
    assert!(late < day.documents().len(), "some are not visible yet");
    control.advance(SignedDuration::from_secs(21));
    assert_eq!(control.ids("DocumentReference").len() + control.ids("Media").len(), day.documents().len());
    assert!(control.ids("Media").len() > 5);
    assert_eq!(control.ids("Encounter").len(), 60);
    for document in day.documents() {
        let versions: Vec<_> = document.versions.iter().map(|written| written.version_id.clone()).collect();
        assert_eq!(control.versions(document.resource_type, &document.id), versions);
        let held = control.get(document.resource_type, &document.id).unwrap();
        assert_eq!(held["status"] == "entered-in-error", document.withdrawn);
        let category = if document.resource_type == "Media" { &held["modality"] } else { &held["category"][0] };
        let code = category["coding"][0]["code"].as_str().unwrap();
        let category = categories(0).into_iter().find(|category| category.code == code).unwrap();
        assert_eq!(category.class, document.class);
    }
    assert!(day.visits().iter().all(|visit| visit.versions.len() == 3));
}

#[tokio::test]
async fn in_the_ehr_its_ids_say_what_it_is() {
    let caller = Caller::new().await;
    let mut day = Day::new(3, Plan { late_share: 0, ..plan(Manner::Ema) });
    run(&mut day, &caller.north());
    let encounters = caller.walk("Encounter").await.concat();
    assert_eq!(encounters.len(), 60);
    let mut found = 0;
    for visit in day.visits() {
        let ids = caller.walk(&format!("DocumentReference?patient={}", visit.patient)).await.concat();
        let mut entered: Vec<_> = day
            .documents()
            .iter()
            .filter(|document| document.encounter == visit.id)
            .map(|document| document.id.clone())
            .collect();
        found += ids.len();
        let mut ids = ids;
        ids.sort();
        entered.sort();
        assert_eq!(ids, entered);
    }
    assert_eq!(found, day.documents().len());
    for document in day.documents() {
        assert_eq!(document.id.starts_with("note|"), document.class == Class::Note);
    }
    let burst = day.documents().iter().filter(|document| document.class != Class::Note);
    let mut seconds: BTreeMap<_, usize> = BTreeMap::new();
    burst.for_each(|document| *seconds.entry(document.versions[0].last_updated).or_default() += 1);
    assert!(seconds.values().any(|count| *count > 3), "several in one second");
}
