//! Faults, one by one.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::json;
use simulators::fhir::{Canned, Delay, Fault, Interaction, Lag, Matching, RetryAfter, Times};

use crate::caller::{Caller, nameless, patient};

async fn with_patients(count: usize) -> Caller {
    let caller = Caller::new().await;
    caller.fill(count);
    caller
}

async fn within_seconds(wait: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
}

#[tokio::test]
async fn a_fault_strikes_the_calls_it_names_and_as_often_as_it_says() {
    let caller = with_patients(2).await;
    let matching = Matching::only(Interaction::Read).resource_type("Patient").id("p0");
    let fault = caller.control.inject(Fault::unavailable(RetryAfter::Seconds(3)), matching, Times::Next(2));
    assert_eq!(caller.get("Patient/p1").await.status, 200);
    assert_eq!(caller.get("Patient?_id=p0").await.status, 200);
    assert_eq!(caller.control.waiting(fault), Some(2));
    let refused = caller.get("Patient/p0").await;
    assert_eq!((refused.status, refused.header("retry-after"), refused.issue()), (503, "3", "transient".into()));
    assert_eq!(caller.get("Patient/p0").await.status, 503);
    assert_eq!(caller.get("Patient/p0").await.status, 200);
    assert_eq!(caller.control.waiting(fault), None);
    let faults: Vec<_> = caller.control.journal().iter().map(|entry| entry.faults.clone()).collect();
    assert_eq!(faults, [vec![], vec![], vec!["answer"], vec!["answer"], vec![]]);

    let standing = caller.control.inject(Fault::not_found(), Matching::any(), Times::Always);
    assert_eq!(caller.get("Patient/p1").await.status, 404);
    assert_eq!(caller.get("Patient").await.status, 404);
    caller.control.clear(standing);
    assert_eq!(caller.get("Patient").await.status, 200);
    caller.control.inject(Fault::not_found(), Matching::any(), Times::Always);
    caller.control.clear_faults();
    assert_eq!(caller.get("Patient").await.status, 200);
}

#[tokio::test]
async fn refusals_of_every_kind() {
    let caller = with_patients(1).await;
    let cases = [
        (Fault::unauthorized(), 401, "login"),
        (Fault::not_found(), 404, "not-found"),
        (Fault::conflict(), 409, "conflict"),
        (Fault::gone(), 410, "deleted"),
        (Fault::precondition_failed(), 412, "processing"),
        (Fault::throttled(RetryAfter::Absent), 429, "throttled"),
        (Fault::outcome(422, "business-rule", RetryAfter::Absent), 422, "business-rule"),
    ];
    for (fault, status, code) in cases {
        caller.control.inject(fault, Matching::any(), Times::Next(1));
        let refused = caller.get("Patient/p0").await;
        assert_eq!((refused.status, refused.issue().as_str(), refused.header("retry-after")), (status, code, ""));
    }
    let proxy = Fault::html_bad_gateway();
    caller.control.inject(proxy, Matching::any(), Times::Next(1));
    let page = caller.get("Patient/p0").await;
    assert_eq!((page.status, page.header("content-type")), (502, "text/html"));
    assert!(page.text.starts_with("<html>"));
    caller.control.inject(Fault::throttled(RetryAfter::HttpDate(90)), Matching::any(), Times::Next(1));
    caller.control.freeze("2026-03-01T08:00:00Z".parse().unwrap());
    assert_eq!(caller.get("Patient/p0").await.header("retry-after"), "Sun, 01 Mar 2026 08:01:30 GMT");
}

#[tokio::test]
async fn an_answer_may_be_lost_after_the_work_is_done() {
    let caller = with_patients(1).await;
    let create = Matching::only(Interaction::Create);
    let lost = Canned::Outcome { status: 504, code: "timeout", retry_after: RetryAfter::Absent };
    caller.control.inject(Fault::AnswerAfter(lost), create.clone(), Times::Next(1));
    assert_eq!(caller.post("Patient", &nameless("Testpatient", "1")).await.status, 504);
    assert_eq!(caller.control.ids("Patient").len(), 2);
    caller.control.inject(Fault::HangUpAfter, create.clone(), Times::Next(1));
    let request = caller.request(Method::POST, "Patient").json(&nameless("Testpatient", "2"));
    assert!(request.send().await.is_err());
    assert_eq!(caller.control.ids("Patient").len(), 3);
    caller.control.inject(Fault::HangUpBefore, create, Times::Next(1));
    let request = caller.request(Method::POST, "Patient").json(&nameless("Testpatient", "3"));
    assert!(request.send().await.is_err());
    assert_eq!(caller.control.ids("Patient").len(), 3);
    assert_eq!(caller.get("Patient/p0").await.status, 200, "it goes on");
    let statuses: Vec<_> = caller.control.journal().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [Some(504), None, None, Some(200)]);
}

#[tokio::test]
async fn a_body_may_end_too_early() {
    let caller = with_patients(1).await;
    caller.control.inject(Fault::Truncate, Matching::any(), Times::Next(1));
    let short = caller.get("Patient/p0").await;
    assert_eq!(short.status, 200);
    assert!(serde_json::from_str::<serde_json::Value>(&short.text).is_err());
    caller.control.inject(Fault::CutBody, Matching::any(), Times::Next(1));
    let cut = caller.request(Method::GET, "Patient/p0").send().await;
    let body = match cut {
        Ok(response) => response.text().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(body.is_err(), "the connection broke before the length that was announced");
}

#[tokio::test]
async fn a_write_may_time_out_and_land_later() {
    let caller = with_patients(1).await;
    caller.control.inject(
        Fault::DelayBefore(Delay::UntilReleased),
        Matching::only(Interaction::Update),
        Times::Next(1),
    );
    let request = caller.request(Method::PUT, "Patient/p0").timeout(Duration::from_millis(200)).json(&patient("p0"));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(caller.control.tally().held, 1);
    assert_eq!(caller.control.versions("Patient", "p0"), ["1"]);
    caller.control.release();
    within_seconds(caller.control.until(|tally| tally.held == 0 && tally.open == 0)).await;
    assert_eq!(caller.control.versions("Patient", "p0"), ["1", "2"]);
}

#[tokio::test]
async fn an_answer_may_be_late() {
    let caller = with_patients(1).await;
    let matching = Matching::only(Interaction::Update);
    caller.control.inject(Fault::DelayAfter(Delay::UntilReleased), matching, Times::Next(1));
    let held = async {
        within_seconds(caller.control.until(|tally| tally.held == 1)).await;
        assert_eq!(caller.control.versions("Patient", "p0"), ["1", "2"], "done already");
        caller.control.release();
    };
    let put = patient("p0");
    let (answer, ()) = tokio::join!(caller.put("Patient/p0", &put), held);
    assert_eq!(answer.status, 200);
    let slow = Fault::DelayBefore(Delay::For(Duration::from_millis(60)));
    caller.control.inject(slow, Matching::any(), Times::Next(1));
    let began = Instant::now();
    caller.get("Patient/p0").await;
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_row_may_commit_late_with_an_early_stamp() {
    let caller = Caller::new().await;
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    caller.control.freeze(noon);
    let late =
        Fault::LateCommit { stamped: SignedDuration::from_secs(90), visible: Lag::For(SignedDuration::from_secs(30)) };
    caller.control.inject(late, Matching::only(Interaction::Create), Times::Next(1));
    let created = caller.post("Patient", &nameless("Testpatient", "1")).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["meta"]["lastUpdated"], "2026-03-01T11:58:30.000Z");
    let id = created.json()["id"].as_str().unwrap().to_owned();
    caller.control.put(patient("other")).unwrap();
    assert_eq!(caller.get(&format!("Patient/{id}")).await.status, 404);
    assert_eq!(caller.get("Patient?_sort=_lastUpdated").await.ids(), ["other"]);
    caller.control.advance(SignedDuration::from_secs(30));
    assert_eq!(caller.get("Patient?_sort=_lastUpdated").await.ids(), [id.as_str(), "other"]);
    assert_eq!(caller.get(&format!("Patient/{id}")).await.status, 200);
    assert_eq!(caller.get("Patient/_history").await.ids().len(), 2);

    caller.control.put_late(patient("held"), Lag::UntilReleased).unwrap();
    assert_eq!(caller.get("Patient?_id=held").await.ids(), [""; 0]);
    assert!(caller.control.get("Patient", "held").is_some());
    caller.control.release();
    assert_eq!(caller.get("Patient?_id=held").await.ids(), ["held"]);
}

#[tokio::test]
async fn reads_may_lag_behind_writes() {
    let caller = with_patients(1).await;
    let lag = Fault::ReadLag(Lag::For(SignedDuration::from_secs(10)));
    caller.control.inject(lag, Matching::any(), Times::Next(2));
    let created = caller.post("Patient", &nameless("Testpatient", "1")).await;
    let path = format!("Patient/{}", created.json()["id"].as_str().unwrap());
    caller.put("Patient/p0", &patient("p0")).await;
    assert_eq!(caller.get(&path).await.status, 404);
    assert_eq!(caller.get("Patient/p0").await.header("etag"), "W/\"1\"", "the old version still");
    assert_eq!(caller.get("Patient?identifier=urn:test:mrn|1").await.ids().len(), 1, "found all the same");
    caller.control.advance(SignedDuration::from_secs(11));
    assert_eq!(caller.get(&path).await.status, 200);
    assert_eq!(caller.get("Patient/p0").await.header("etag"), "W/\"2\"");
}

#[tokio::test]
async fn searches_may_lag_behind_writes_and_then_conditional_creates_double() {
    let caller = Caller::new().await;
    let create = async || {
        let request = caller.request(Method::POST, "Patient").header("If-None-Exist", "identifier=urn:test:mrn|1");
        Caller::send(request.json(&nameless("Testpatient", "1"))).await.status
    };
    caller.control.inject(Fault::SearchLag(Lag::UntilReleased), Matching::any(), Times::Next(1));
    assert_eq!(create().await, 201);
    assert_eq!(caller.control.ids("Patient").len(), 0);
    assert_eq!(create().await, 201, "the index does not know the first one yet");
    caller.control.release();
    assert_eq!(create().await, 412);
    assert_eq!(caller.get("Patient?identifier=urn:test:mrn|1").await.ids().len(), 2);
}

#[tokio::test]
async fn clocks_differ_and_stamps_are_coarse() {
    let caller = Caller::new().await;
    caller.control.skew(SignedDuration::from_secs(-120));
    let before = Timestamp::now() - SignedDuration::from_secs(121);
    let written = caller.control.put(patient("p0")).unwrap();
    assert!(written.last_updated > before && written.last_updated < before + SignedDuration::from_secs(60));
    caller.control.freeze("2026-03-01T08:00:00.987Z".parse().unwrap());
    let burst: Vec<_> = (0..5).map(|_| caller.control.put(patient("p0")).unwrap().last_updated).collect();
    assert!(burst.windows(2).all(|pair| pair[0] == pair[1]), "one stamp for all");
    caller.control.configure(|behaviour| behaviour.fraction = false);
    let put = caller.put("Patient/p0", &patient("p0")).await;
    assert_eq!(put.json()["meta"]["lastUpdated"], "2026-03-01T08:00:00Z");
    assert_eq!(caller.get("Patient?_lastUpdated=ge2026-03-01T08:00:00.500Z").await.ids(), [""; 0], "cut off for real");
}

#[tokio::test]
async fn the_server_may_be_away_and_come_back_on_its_port() {
    let caller = with_patients(1).await;
    caller.control.inject(Fault::DelayBefore(Delay::UntilReleased), Matching::any(), Times::Next(1));
    let away = async {
        within_seconds(caller.control.until(|tally| tally.held == 1)).await;
        caller.control.go_away().await;
    };
    let (cut, ()) = tokio::join!(caller.request(Method::PUT, "Patient/p0").json(&patient("p0")).send(), away);
    assert!(!cut.unwrap_err().is_timeout(), "what was under way is cut off");
    let refused = caller.request(Method::GET, "Patient/p0").send().await.unwrap_err();
    assert!(refused.is_connect());
    caller.control.come_back().await;
    assert_eq!(caller.get("Patient/p0").await.status, 200);
    caller.control.release();
    within_seconds(caller.control.until(|tally| tally.open == 0)).await;
    assert_eq!(caller.control.versions("Patient", "p0"), ["1", "2"], "and is carried out all the same");
    caller.control.go_away_for(Duration::from_millis(50)).await;
    assert!(caller.request(Method::GET, "Patient/p0").send().await.is_err());
    let back = async {
        while caller.request(Method::GET, "Patient/p0").send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within_seconds(back).await;
    let address = caller.server.base_url().to_owned();
    caller.server.stop().await;
    assert!(reqwest::get(format!("{address}/metadata")).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_resource_may_be_huge() {
    let caller = Caller::new().await;
    let data = "A".repeat(20 << 20);
    let note = json!({"resourceType": "DocumentReference", "id": "huge", "content": [{"attachment": {"data": data}}]});
    caller.control.put(note).unwrap();
    assert!(caller.get("DocumentReference/huge").await.text.len() > 20 << 20);
    assert!(caller.get("DocumentReference").await.text.len() > 20 << 20);
}

#[tokio::test]
async fn a_fault_may_strike_one_entry_of_a_batch() {
    let caller = with_patients(2).await;
    let matching = Matching::only(Interaction::Read).id("p1");
    caller.control.inject(Fault::throttled(RetryAfter::Absent), matching, Times::Next(1));
    let entry = |id: &str| json!({"request": {"method": "GET", "url": format!("Patient/{id}")}});
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry("p0"), entry("p1"), entry("p1")]});
    let bundle = caller.post("", &batch).await.json();
    let statuses: Vec<_> = (0..3).map(|at| bundle["entry"][at]["response"]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["200", "429", "200"]);
}
