//! Documents: found by patient and without content, read by ids of two parts, fetched behind an address that ends.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use simulators::ehr::{Interaction, Lag};

use crate::caller::{Answer, Caller, KEY, document};

#[tokio::test]
async fn documents_are_found_by_patient_ten_at_a_time_and_without_content() {
    let caller = Caller::new().await;
    for number in 0..23 {
        let patient = if number < 22 { "1" } else { "2" };
        caller.north().put(document(&format!("file|{number}"), patient, "9")).unwrap();
    }
    assert_eq!(caller.get("DocumentReference").await.status, 400, "a patient must be named");
    assert_eq!(caller.get("DocumentReference?encounter=9").await.status, 400);
    let pages = caller.walk("DocumentReference?patient=1&_count=50").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 2]);
    assert_eq!(pages[0][..3], ["file|0", "file|1", "file|2"]);
    let hit = caller.get("DocumentReference?patient=2").await.json()["entry"][0].clone();
    assert!(hit["fullUrl"].as_str().unwrap().ends_with("/DocumentReference/file%7C22"));
    assert!(hit["resource"]["content"].is_null());
    assert_eq!(hit["resource"]["meta"]["tag"][0]["code"], "SUBSETTED");
    assert!(hit["resource"]["meta"]["lastUpdated"].is_string());
    let base = caller.server.base_url("north");
    assert_eq!(hit["resource"]["context"]["encounter"][0]["reference"], format!("{base}/Encounter/9"));
    let since = caller.get("DocumentReference?patient=2&_lastUpdated=gt2036-01-01").await;
    assert_eq!(since.ids(), ["file|22"], "there is no such parameter, and nobody says so");
    for (query, expected) in [
        (format!("patient={base}/Patient/2"), 1),
        ("patient=1&encounter=9&category=100".into(), 10),
        ("patient=1&encounter=8".into(), 0),
        ("patient=1&category=101".into(), 0),
        ("patient=1&identifier=filename%7Cfile%7C3.png".into(), 1),
        ("patient=1&date=eq2026-03-01".into(), 10),
        ("patient=1&date=gt2026-03-01".into(), 0),
    ] {
        assert_eq!(caller.get(&format!("DocumentReference?{query}")).await.total(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_file_is_fetched_without_credentials_while_its_address_works() {
    let caller = Caller::new().await;
    caller.north().put(document("file|139977", "1", "9")).unwrap();
    let url = async || {
        let read = caller.get("DocumentReference/file%7C139977").await.json();
        let attachment = &read["content"][0]["attachment"];
        assert!(attachment["data"].is_null());
        attachment["url"].as_str().unwrap().to_owned()
    };
    let address = url().await;
    assert!(!address.starts_with(caller.server.base_url("north").split("/ema-prod").next().unwrap()), "another port");
    assert!(address.contains("X-Amz-Expires=300&"));
    assert_ne!(address, url().await, "each reading signs anew");
    let fetch = async |address: &str| Answer::of(caller.http.get(address).send().await.unwrap()).await;
    let file = fetch(&address).await;
    assert_eq!((file.status, file.header("content-type"), file.text.as_str()), (200, "image/png", "SYNTHETIC"));
    assert_eq!(fetch(&address.replace("file%7C139977", "file%7C139978")).await.status, 403);
    assert_eq!(fetch(&address.replace("Signature=", "Signature=0")).await.status, 403);
    assert_eq!(caller.control.leaks(), 0);
    let with_token = Caller::send(caller.http.get(&address).bearer_auth("any")).await;
    assert_eq!(with_token.status, 400);
    assert!(with_token.text.contains("Only one auth mechanism allowed"));
    assert_eq!(Caller::send(caller.http.get(&address).header("x-api-key", KEY)).await.status, 200);
    assert_eq!(caller.control.leaks(), 2);
    caller.control.advance(SignedDuration::from_secs(299));
    assert_eq!(fetch(&address).await.status, 200);
    caller.control.advance(SignedDuration::from_secs(2));
    let late = fetch(&address).await;
    assert_eq!((late.status, late.text.contains("Request has expired")), (403, true));
    assert_eq!(caller.control.tally().of(Interaction::Download), 7);
    caller.server.shut_files().await;
    assert!(caller.http.get(&address).send().await.unwrap_err().is_connect());
    assert_eq!(caller.get("DocumentReference/file%7C139977").await.status, 200, "only the files are away");
    caller.server.open_files().await;
    assert_eq!(fetch(&url().await).await.status, 200);
}

#[tokio::test]
async fn withdrawn_and_late_documents() {
    let caller = Caller::new().await;
    let mut withdrawn = document("note|1", "1", "9");
    caller.north().put(withdrawn.clone()).unwrap();
    withdrawn["status"] = json!("entered-in-error");
    caller.north().put(withdrawn).unwrap();
    let found = caller.get("DocumentReference?patient=1").await.json();
    assert_eq!(found["entry"][0]["resource"]["status"], "entered-in-error");
    let late = Lag::For(SignedDuration::from_secs(30));
    let stamp = caller.north().put_late(document("file|2", "1", "9"), late).unwrap().last_updated;
    assert_eq!(caller.get("DocumentReference/file%7C2").await.status, 404);
    assert_eq!(caller.get("DocumentReference?patient=1").await.ids(), ["note|1"]);
    caller.control.advance(SignedDuration::from_secs(31));
    assert_eq!(caller.get("DocumentReference?patient=1").await.ids(), ["note|1", "file|2"]);
    let shown = caller.get("DocumentReference/file%7C2").await.json()["meta"]["lastUpdated"].clone();
    assert_eq!(shown.as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), stamp, "stamped before it was seen");
    assert!(caller.control.now() >= stamp + SignedDuration::from_secs(30));
}

#[tokio::test]
async fn each_firm_has_its_own_categories() {
    let caller = Caller::new().await;
    let set = caller.get("ValueSet/document-category").await.json();
    let codes = |concepts: &Value| -> Vec<String> {
        let concepts = concepts.as_array().unwrap();
        concepts.iter().map(|concept| concept["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(codes(&set["compose"]["include"][0]["concept"]), ["100", "101", "102", "103", "104", "105"]);
    let south = Caller::send(caller.request(Method::GET, "south", "ValueSet/document-category")).await.json();
    assert_eq!(codes(&south["compose"]["include"][0]["concept"])[0], "200");
    caller.control.configure(|behaviour| behaviour.expanded = true);
    let set = caller.get("ValueSet/document-category").await.json();
    assert_eq!(codes(&set["expansion"]["contains"]).len(), 6);
    assert_eq!(set["expansion"]["contains"][0]["display"], "Clinical photograph");
}
