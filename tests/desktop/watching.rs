//! An EHR that announces nothing, with the real window open: a visit opens, a photograph arrives in it and is found; one of no category
//! is listed; an EHR that goes away is told as that.

use std::{fs, time::Instant};

use serde_json::{Value as Json, json};
use simulators::fhir::{FhirServer, Options};

use crate::{desk::Desk, installation::Installation};

fn watch(installation: &Installation, ehr: &FhirServer) {
    let base_url = ehr.base_url();
    let file = installation.folder.path().join("config.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    text += &format!(
        r#"
        [firm.ehr]
        base-url = "{base_url}"
        quota = "synthetic"
        timeout = "5s"
        [firm.ehr.plan]
        fastest = "1s"
        slowest = "5s"
        settle = "1s"
        overlap = "10s"
        [firm.ehr.classes]
        solitary = ["lesion"]
        [[quota]]
        id = "synthetic"
        requests = 1200
        per = "1min"
        "#
    );
    fs::write(file, text).unwrap();
}

fn encounter(status: &str) -> Json {
    json!({
        "resourceType": "Encounter",
        "id": "visit-1",
        "status": status,
        "class": { "code": "AMB" },
        "subject": { "reference": "Patient/synthetic-patient-0001" },
    })
}

fn document(id: &str, category: &str) -> Json {
    json!({
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "category": [{ "coding": [{ "system": "urn:synthetic", "code": category }] }],
        "subject": { "reference": "Patient/synthetic-patient-0001" },
        "context": { "encounter": [{ "reference": "Encounter/visit-1" }] },
        "content": [{ "attachment": { "contentType": "image/jpeg", "title": "SYNTHETIC photograph" } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photograph_in_an_open_visit_is_found_and_stands_in_the_window() {
    let installation = Installation::ready(1, 68, "").await;
    let ehr = FhirServer::start(Options { open: true, ..Options::default() }).await.unwrap();
    watch(&installation, &ehr);
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    window.go("watching").await;
    window.sees("complete up to").await;
    window.sees("No visit is open").await;

    let ehr = ehr.control();
    ehr.put(encounter("in-progress")).unwrap();
    window.sees("In progress").await;
    let begun = Instant::now();
    ehr.put(document("photograph-1", "lesion")).unwrap();
    window.sees("Photograph of one spot").await;
    println!("from a photograph in the EHR to the window: {:?}", begun.elapsed());
    window.sees("Waits for a model").await;
    ehr.put(document("photograph-2", "never-chosen")).unwrap();
    window.sees("No category").await;
    window.picture("watching").await;
    assert_eq!(window.axe().await, Vec::<String>::new());
    assert!(!window.text().await.contains("SYNTHETIC"), "nothing of the chart is shown");

    // What is found waits for a model, and holds nothing up.
    tray.item.shows("up-to-date").await;
    assert!(tray.quit().await.success());
}
