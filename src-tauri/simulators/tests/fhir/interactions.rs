//! Reading, writing, histories, batches: with the settings on which servers differ.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::json;
use simulators::fhir::{Interaction, Revive, VersionIds};

use crate::caller::{Caller, nameless, observation, patient};

#[tokio::test]
async fn create_then_read_with_versions_and_dates() {
    let caller = Caller::new().await;
    let at = "2026-03-01T08:00:00.120Z";
    caller.control.freeze(at.parse().unwrap());
    let created = caller.post("Patient", &nameless("Testpatient", "1")).await;
    assert_eq!(created.status, 201);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(created.header("location"), format!("{}/Patient/{id}/_history/1", caller.server.base_url()));
    assert_eq!(created.header("etag"), "W/\"1\"");
    let read = caller.get(&format!("Patient/{id}")).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json()["meta"], json!({"versionId": "1", "lastUpdated": at}));
    assert_eq!(read.header("last-modified"), "Sun, 01 Mar 2026 08:00:00 GMT");
    assert_eq!(read.header("date"), "Sun, 01 Mar 2026 08:00:00 GMT");
    assert_eq!(read.header("content-type"), "application/fhir+json; charset=utf-8");
    let again = caller.request(Method::GET, &format!("Patient/{id}")).header("If-None-Match", "W/\"1\"");
    let again = Caller::send(again).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    let minimal =
        caller.request(Method::POST, "Patient").header("Prefer", "return=minimal").json(&nameless("Testpatient", "2"));
    let minimal = Caller::send(minimal).await;
    assert_eq!((minimal.status, minimal.text.as_str()), (201, ""));
}

#[tokio::test]
async fn numbers_keep_their_digits_and_objects_their_order() {
    let caller = Caller::new().await;
    let text = r#"{"resourceType":"Observation","zeta":1,"alpha":2,"valueQuantity":{"value":37.10}}"#;
    let request =
        caller.request(Method::POST, "Observation").header("Content-Type", "application/fhir+json").body(text);
    let created = Caller::send(request).await;
    assert!(created.text.ends_with(r#""zeta":1,"alpha":2,"valueQuantity":{"value":37.10}}"#), "{}", created.text);
}

#[tokio::test]
async fn what_is_no_resource_is_refused() {
    let caller = Caller::new().await;
    let request = caller.request(Method::POST, "Patient").body("{\"resourceType\":");
    assert_eq!(Caller::send(request).await.issue(), "structure");
    assert_eq!(caller.post("Patient", &observation("o", "p")).await.status, 400);
    caller.fill(1);
    assert_eq!(caller.put("Patient/p0", &patient("p1")).await.status, 400);
    assert_eq!(caller.get("nothing/here").await.status, 404);
    assert!(caller.control.put(json!({"id": "x"})).is_err());
    assert!(caller.control.put(json!({"resourceType": "Patient", "id": "no/id"})).is_err());
}

#[tokio::test]
async fn unknown_is_404_and_deleted_is_410_or_404() {
    let caller = Caller::new().await;
    caller.fill(1);
    let unknown = caller.get("Patient/nobody").await;
    assert_eq!((unknown.status, unknown.issue()), (404, "not-found".into()));
    assert_eq!(caller.delete("Patient/p0").await.status, 204);
    assert_eq!(caller.delete("Patient/p0").await.status, 204);
    assert_eq!(caller.delete("Patient/nobody").await.status, 204);
    let gone = caller.get("Patient/p0").await;
    assert_eq!((gone.status, gone.issue()), (410, "deleted".into()));
    assert_eq!(gone.header("etag"), "W/\"2\"");
    assert_eq!(caller.get("Patient?_id=p0").await.ids(), [""; 0]);
    assert_eq!(caller.get("Patient/p0/_history/1").await.status, 200);
    assert_eq!(caller.get("Patient/p0/_history/2").await.status, 410);
    assert_eq!(caller.get("Patient/p0/_history/3").await.status, 404);
    caller.control.configure(|behaviour| behaviour.gone = false);
    assert_eq!(caller.get("Patient/p0").await.status, 404);
}

#[tokio::test]
async fn a_deleted_resource_can_come_back() {
    let caller = Caller::new().await;
    caller.fill(3);
    for id in ["p0", "p1", "p2"] {
        caller.control.delete("Patient", id).unwrap();
    }
    assert!(caller.control.delete("Patient", "p0").is_none());
    assert_eq!(caller.put("Patient/p0", &patient("p0")).await.status, 201);
    assert_eq!(caller.control.versions("Patient", "p0"), ["1", "2", "3"]);
    caller.control.configure(|behaviour| behaviour.revive = Revive::Restart);
    assert_eq!(caller.put("Patient/p1", &patient("p1")).await.header("etag"), "W/\"1\"");
    assert_eq!(caller.put("Patient/p1", &patient("p1")).await.header("etag"), "W/\"2\"");
    caller.control.configure(|behaviour| behaviour.revive = Revive::Refuse);
    assert_eq!(caller.put("Patient/p2", &patient("p2")).await.status, 410);
    assert_eq!(caller.get("Patient?_sort=_lastUpdated").await.ids(), ["p0", "p1"]);
}

#[tokio::test]
async fn an_update_with_an_old_version_is_refused() {
    let caller = Caller::new().await;
    caller.fill(1);
    assert_eq!(caller.put_if("Patient/p0", "W/\"1\"", &patient("p0")).await.status, 200);
    let stale = caller.put_if("Patient/p0", "W/\"1\"", &patient("p0")).await;
    assert_eq!((stale.status, stale.issue()), (412, "processing".into()));
    caller.control.configure(|behaviour| behaviour.stale_update_status = 409);
    assert_eq!(caller.put_if("Patient/p0", "\"1\"", &patient("p0")).await.status, 409);
    let delete = caller.request(Method::DELETE, "Patient/p0").header("If-Match", "W/\"1\"");
    assert_eq!(Caller::send(delete).await.status, 409);
    assert_eq!(caller.put("Patient/p0", &patient("p0")).await.status, 200, "nothing asked, nothing checked");
    caller.control.configure(|behaviour| behaviour.require_if_match = true);
    assert_eq!(caller.put("Patient/p0", &patient("p0")).await.status, 400);
    assert_eq!(caller.control.versions("Patient", "p0").len(), 3);
}

#[tokio::test]
async fn an_update_creates_only_where_the_server_lets_it() {
    let caller = Caller::new().await;
    assert_eq!(caller.put("Patient/mine", &patient("mine")).await.status, 404);
    assert_eq!(caller.put_if("Patient/mine", "W/\"1\"", &patient("mine")).await.status, 412);
    caller.control.configure(|behaviour| behaviour.update_creates = true);
    assert_eq!(caller.put("Patient/mine", &patient("mine")).await.status, 201);
}

#[tokio::test]
async fn a_conditional_create_finds_what_is_there() {
    let caller = Caller::new().await;
    let create = async |criteria: &str| {
        let request = caller.request(Method::POST, "Patient").header("If-None-Exist", criteria);
        Caller::send(request.json(&nameless("Testpatient", "7"))).await
    };
    let first = create("identifier=urn%3Atest%3Amrn%7C7").await;
    assert_eq!(first.status, 201);
    let second = create("identifier=urn:test:mrn|7").await;
    assert_eq!(second.status, 200);
    assert_eq!(second.json()["id"], first.json()["id"]);
    assert_eq!(create("unknown=1").await.status, 400, "criteria that choose nothing would choose everything");
    caller.control.put(nameless("Testpatient", "7")).unwrap();
    let third = create("identifier=urn:test:mrn|7").await;
    assert_eq!((third.status, third.issue()), (412, "multiple-matches".into()));
    assert_eq!(caller.control.ids("Patient").len(), 2);
}

#[tokio::test]
async fn a_conditional_update_creates_updates_or_refuses() {
    let caller = Caller::new().await;
    let update = async |body: &serde_json::Value| caller.put("Patient?identifier=urn:test:mrn|7", body).await;
    let first = update(&nameless("Testpatient", "7")).await;
    assert_eq!(first.status, 201);
    let second = update(&nameless("Testpatient-changed", "7")).await;
    assert_eq!((second.status, second.header("etag")), (200, "W/\"2\""));
    assert_eq!(update(&patient("another")).await.status, 400);
    caller.control.put(nameless("Testpatient", "7")).unwrap();
    assert_eq!(update(&nameless("Testpatient", "7")).await.status, 412);
}

#[tokio::test]
async fn the_server_may_keep_something_else_than_it_was_sent() {
    let caller = Caller::new().await;
    caller.control.configure(|behaviour| {
        behaviour.version_ids = VersionIds::Opaque;
        behaviour.author = Some("ClientApplication/x".into());
        behaviour.sticky_tags = true;
        behaviour.noop_makes_version = false;
    });
    caller.control.rewrite(|resource| resource["gender"] = json!("unknown"));
    let mut tagged = nameless("Testpatient", "7");
    tagged["meta"] = json!({"tag": [{"system": "urn:test", "code": "ours"}], "versionId": "99"});
    let created = caller.post("Patient", &tagged).await.json();
    assert_eq!(created["gender"], "unknown");
    assert_eq!(created["meta"]["author"]["reference"], "ClientApplication/x");
    let version = created["meta"]["versionId"].as_str().unwrap().to_owned();
    assert_eq!(version.len(), 36);
    let path = format!("Patient/{}", created["id"].as_str().unwrap());
    let same = caller.put(&path, &created).await.json();
    assert_eq!(same["meta"]["versionId"], version, "nothing changed, no version");
    let mut bare = created.clone();
    bare["meta"] = json!({});
    bare["birthDate"] = json!("1950-01-01");
    let changed = caller.put(&path, &bare).await.json();
    assert_ne!(changed["meta"]["versionId"], version);
    assert_eq!(changed["meta"]["tag"][0]["code"], "ours", "tags stick");
}

#[tokio::test]
async fn histories_tell_every_version_and_deletion() {
    let caller = Caller::new().await;
    caller.control.freeze("2026-03-01T08:00:00Z".parse().unwrap());
    caller.fill(2);
    caller.control.advance(SignedDuration::from_secs(10));
    caller.put("Patient/p0", &patient("p0")).await;
    caller.control.advance(SignedDuration::from_secs(10));
    caller.control.delete("Patient", "p0").unwrap();
    let one = caller.get("Patient/p0/_history").await.json();
    assert_eq!(one["type"], "history");
    let methods: Vec<_> = one["entry"].as_array().unwrap().iter().map(|entry| &entry["request"]["method"]).collect();
    assert_eq!(methods, ["DELETE", "PUT", "POST"]);
    assert_eq!(one["entry"][0]["resource"], json!(null));
    assert_eq!(one["entry"][0]["response"]["lastModified"], "2026-03-01T08:00:20.000Z");
    assert_eq!(one["entry"][1]["response"]["etag"], "W/\"2\"");
    let all = caller.walk("Patient/_history?_count=3").await;
    assert_eq!(all, [vec!["-", "p0", "p1"], vec!["p0"]]);
    let since = caller.get("Patient/_history?_since=2026-03-01T08:00:10Z").await;
    assert_eq!(since.ids(), ["-", "p0"], "at or after");
    assert_eq!(caller.get("Patient/nobody/_history").await.status, 404);
    assert_eq!(caller.get("Patient/_history?_since=yesterday").await.status, 400);
    caller.control.configure(|behaviour| behaviour.type_history = false);
    assert_eq!(caller.get("Patient/_history").await.status, 404);
}

#[tokio::test]
async fn a_batch_is_200_whatever_becomes_of_its_entries() {
    let caller = Caller::new().await;
    caller.fill(1);
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Patient/p0"}},
        {"request": {"method": "GET", "url": "Patient/nobody"}},
        {"request": {"method": "PUT", "url": "Patient/p0", "ifMatch": "W/\"9\""}, "resource": patient("p0")},
        {"request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:test:mrn|8"},
         "resource": nameless("Testpatient", "8")},
    ]});
    let answer = caller.post("", &batch).await;
    assert_eq!(answer.status, 200);
    let bundle = answer.json();
    let entries = bundle["entry"].as_array().unwrap();
    let statuses: Vec<_> = entries.iter().map(|entry| entry["response"]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["200", "404", "412", "201"]);
    assert_eq!(entries[0]["resource"]["id"], "p0");
    assert_eq!(entries[1]["response"]["outcome"]["issue"][0]["code"], "not-found");
    assert_eq!(caller.control.tally().of(Interaction::Read), 2);
    let mut transaction = batch;
    transaction["type"] = json!("transaction");
    assert_eq!(caller.post("", &transaction).await.status, 400);
}
