//! Every fault of the fact sheet, sections 8.4, 13, 14 and 17, as a client meets it.

use crate::client::{ACCOUNT, Answer, Api, PASSWORD, clinic, sent};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use simulators::filemaker::{By, Control, Counts, Fault, Route, When};
use std::time::{Duration, Instant};

const PATIENTS: &str = "/API_Patient/records";

/// Waits until the counters say so; they follow the server, not the answer.
async fn until(control: &Control, what: impl Fn(&Counts) -> bool) {
    for _ in 0..500 {
        if what(&control.counts()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not reached: {:?}", control.counts());
}

fn named(key: &str) -> serde_json::Value {
    json!({"fieldData": {"FhirId": key}})
}

fn keys(control: &Control) -> Vec<String> {
    control.records("Patient").into_iter().map(|record| record.fields["FhirId"].clone()).collect()
}

#[tokio::test]
async fn tokens_die_at_once_or_in_mid_batch() {
    let mut api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.expire_tokens();
    assert!(api.get("").await.failed(401, "952"));
    api.token = api.sign_in().await;
    control.expire_tokens_after(2);
    let mut codes = Vec::new();
    for key in ["A", "B", "C"] {
        codes.push(api.post(PATIENTS, named(key)).await.code);
    }
    assert_eq!(codes, ["0", "0", "952"]);
    assert_eq!(keys(&control), ["A", "B"]);
    api.token = api.sign_in().await;
    api.post(PATIENTS, named("C")).await.good();
}

#[tokio::test]
async fn sessions_idle_out_by_the_hosts_clock() {
    let api = Api::signed_in().await;
    let clock = api.filemaker.control().clock();
    clock.advance(Duration::from_secs(14 * 60));
    api.get("").await.good();
    clock.advance(Duration::from_secs(14 * 60));
    api.get("").await.good();
    clock.advance(Duration::from_secs(15 * 60));
    assert!(api.get("").await.failed(401, "952"));
    assert_eq!(api.filemaker.control().counts().open_sessions, 0);
}

#[tokio::test]
async fn a_closed_file_ends_its_sessions_and_refuses_new_ones() {
    let mut api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.close_file("Clinic");
    assert!(api.get("").await.failed(401, "952"));
    control.unsettled(|unsettled| unsettled.closed_file_code = 820);
    assert!(api.get("").await.failed(500, "820"));
    assert!(api.try_sign_in(ACCOUNT, PASSWORD).await.failed(500, "802"));
    control.open_file("Clinic");
    api.token = api.sign_in().await;
    api.get("").await.good();
}

#[tokio::test]
async fn a_pause_stalls_every_call_and_loses_none() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.pause(Duration::from_millis(300));
    let began = Instant::now();
    api.post(PATIENTS, named("A")).await.good();
    assert!(began.elapsed() >= Duration::from_millis(290));
    control.pause(Duration::from_secs(600));
    let (answer, ()) = futures::join!(api.post(PATIENTS, named("B")), async {
        until(&control, |counts| counts.in_flight == 1).await;
        control.resume();
    });
    answer.good();
    assert_eq!(keys(&control), ["A", "B"]);
}

#[tokio::test]
async fn the_session_cap_is_met_at_sign_in() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.cap_sessions(Some(2));
    api.try_sign_in(ACCOUNT, PASSWORD).await.good();
    assert!(api.try_sign_in(ACCOUNT, PASSWORD).await.failed(500, "812"));
    let path = format!("/databases/Clinic/sessions/{}", api.token);
    sent(api.request(Method::DELETE, &path)).await.expect("an answer").good();
    api.try_sign_in(ACCOUNT, PASSWORD).await.good();
    assert_eq!(control.counts().max_open_sessions, 2);
}

#[tokio::test]
async fn a_person_holds_a_record_edits_it_and_deletes_it() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    let path = format!("{PATIENTS}/{}", api.patient("P1").await);
    let edit = json!({"fieldData": {"City": "Sampletown"}, "modId": "0"});
    control.lock("Patient", 1).expect("it is there");
    assert!(api.patch(&path, edit.clone()).await.failed(500, "301"));
    assert!(api.delete(&path).await.failed(500, "301"));
    api.get(&path).await.good();
    assert_eq!(control.desk_edit("Patient", 1, &[("City", "Elsewhere")]), Ok(1));
    control.release("Patient", 1).expect("it is there");
    assert!(api.patch(&path, edit).await.failed(500, "306"));

    control.lock_for("Patient", 1, Duration::from_secs(60)).expect("it is there");
    let later = json!({"fieldData": {"City": "Sampletown"}, "modId": "1"});
    assert!(api.patch(&path, later.clone()).await.failed(500, "301"));
    control.clock().advance(Duration::from_secs(60));
    assert_eq!(api.patch(&path, later).await.good(), json!({"modId": "2"}));

    control.desk_delete("Patient", 1).expect("it is there");
    assert!(api.get(&path).await.failed(500, "101"));
    let wrote: Vec<(By, Option<u64>)> =
        control.history("Patient", 1).iter().map(|write| (write.by, write.mod_id)).collect();
    assert_eq!(wrote, [(By::Api, Some(0)), (By::Desktop, Some(1)), (By::Api, Some(2)), (By::Desktop, None)]);
    assert_eq!(control.desk_create("Patient", &[("FhirId", "P2"), ("BirthDate", "02/03/1990")]), Ok(2));
}

#[tokio::test]
async fn limits_of_the_host_are_codes() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.fill_disk(true);
    assert!(api.post(PATIENTS, named("A")).await.failed(500, "809"));
    control.fill_disk(false);
    control.reset_counts();
    control.limit_transmission(Some(100));
    api.get("").await.good();
    assert!(api.get("").await.failed(500, "953"));
    control.limit_transmission(None);
    control.refuse_accounts(true);
    assert!(api.try_sign_in(ACCOUNT, PASSWORD).await.failed(401, "212"));
    api.get("").await.good();
    control.refuse_accounts(false);
    control.set_password(ACCOUNT, "another");
    assert!(api.try_sign_in(ACCOUNT, PASSWORD).await.failed(401, "212"));
    api.try_sign_in(ACCOUNT, "another").await.good();
}

#[tokio::test]
async fn an_engine_that_is_down_answers_html_or_nothing() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    let down = control.inject(Fault::Html502, When::always());
    let response = api.request(Method::GET, "/productInfo").send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (502, &"text/html".parse().expect("ASCII"))
    );
    assert!(response.text().await.expect("text").contains("Bad Gateway"));
    assert_eq!(api.post(PATIENTS, named("A")).await.status, 502);
    control.clear(&down);
    assert_eq!(down.fired(), 2);
    control.inject(Fault::Empty503, When::next());
    let response = api.request(Method::GET, "/productInfo").send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.bytes().await.expect("a body").len()), (503, 0));
    assert_eq!(control.count("Patient"), 0);
    control.inject(Fault::DoneButHtml502, When::next());
    assert_eq!(api.post(PATIENTS, named("A")).await.status, 502);
    assert_eq!(keys(&control), ["A"]);
}

#[tokio::test]
async fn codes_come_before_or_after_the_work() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.inject(Fault::Code(112), When::next().writes());
    assert!(api.post(PATIENTS, named("A")).await.failed(500, "112"));
    control.inject(Fault::DoneButCode(951), When::next().writes());
    assert!(api.post(PATIENTS, named("B")).await.failed(500, "951"));
    assert_eq!(keys(&control), ["B"]);
    control.set_status(951, 503);
    control.inject(Fault::Code(951), When::next());
    assert!(api.get("").await.failed(503, "951"));
}

#[tokio::test]
async fn a_connection_breaks_before_or_after_the_commit() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.inject(Fault::DropBefore, When::next());
    api.try_post(PATIENTS, named("A")).await.expect_err("no answer");
    assert_eq!(control.count("Patient"), 0);
    control.inject(Fault::DropAfter, When::next());
    api.try_post(PATIENTS, named("B")).await.expect_err("no answer");
    assert_eq!(keys(&control), ["B"]);
    let journal = control.journal();
    let lost = journal.last().expect("an entry");
    assert_eq!((lost.route, lost.status, lost.code, lost.fault), (Route::Create, None, Some(0), Some("drop after")));
    control.inject(Fault::Truncated, When::next());
    let cut = api.post(PATIENTS, named("C")).await;
    assert_eq!((cut.status, cut.code.as_str()), (200, ""));
    assert_eq!(keys(&control), ["B", "C"]);
}

#[tokio::test]
async fn a_late_write_lands_under_the_rules_of_then() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    let impatient = reqwest::Client::builder().timeout(Duration::from_millis(50)).build().expect("a client");
    let send = |method: Method, path: String, body: serde_json::Value| {
        let request = impatient.request(method, api.url(&format!("/databases/Clinic/layouts{path}")));
        sent(request.bearer_auth(&api.token).json(&body))
    };
    api.patient("P1").await;
    let path = format!("{PATIENTS}/1");

    control.inject(Fault::Late(None), When::next().key("P1"));
    let given_up = send(Method::PATCH, path.clone(), json!({"fieldData": {"City": "Late"}, "modId": "0"})).await;
    assert!(given_up.expect_err("no answer").is_timeout());
    // The session is free meanwhile.
    assert_eq!(api.get(&path).await.good()["data"][0]["fieldData"]["City"], "");
    assert_eq!(control.counts().late, 1);
    control.land_late();
    until(&control, |counts| counts.late == 0 && counts.in_flight == 0).await;
    let record = control.record("Patient", 1).expect("it is there");
    assert_eq!((record.mod_id, record.fields["City"].as_str()), (1, "Late"));
    assert_eq!(control.history("Patient", 1)[1].by, By::LateApi);

    // What moved on meanwhile makes it void.
    control.inject(Fault::Late(None), When::always().writes().times(2));
    send(Method::PATCH, path.clone(), json!({"fieldData": {"City": "Later"}, "modId": "1"}))
        .await
        .expect_err("no answer");
    send(Method::POST, PATIENTS.into(), named("P2")).await.expect_err("no answer");
    control.desk_edit("Patient", 1, &[("City", "Desk")]).expect("it is there");
    control.desk_create("Patient", &[("FhirId", "P2")]).expect("a new key");
    control.expire_tokens();
    control.land_late();
    until(&control, |counts| counts.late == 0 && counts.in_flight == 0).await;
    assert_eq!(control.record("Patient", 1).expect("it is there").fields["City"], "Desk");
    assert_eq!(control.count("Patient"), 2);
    let mut codes: Vec<_> = control.journal().iter().rev().take(2).map(|entry| entry.code).collect();
    codes.sort();
    assert_eq!(codes, [Some(306), Some(504)]);
}

#[tokio::test]
async fn a_late_write_lands_after_its_time() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.inject(Fault::Late(Some(Duration::from_millis(80))), When::next());
    api.try_post(PATIENTS, named("A")).await.expect_err("no answer");
    until(&control, |counts| counts.late == 0).await;
    assert_eq!(keys(&control), ["A"]);
}

#[tokio::test]
async fn one_token_is_served_in_turn_and_two_side_by_side() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    let other = api.sign_in().await;
    let call = |token: &str| sent(api.request(Method::GET, "/databases/Clinic/layouts").bearer_auth(token));
    control.latency(Duration::from_millis(100));
    let began = Instant::now();
    let answers = join_all([call(&api.token), call(&api.token), call(&api.token)]).await;
    assert!(answers.into_iter().all(|answer| answer.expect("an answer").code == "0"));
    let in_turn = began.elapsed();
    assert!(in_turn >= Duration::from_millis(300), "{in_turn:?}");
    control.latency(Duration::ZERO);
    control.inject(Fault::Slow(Duration::from_secs(8)), When::next());
    tokio::select! {
        _ = call(&api.token) => panic!("the slow one came first"),
        () = async {
            until(&control, |counts| counts.faults.contains_key("slow")).await;
            call(&other).await.expect("an answer").good();
        } => {}
    }
    assert_eq!((control.counts().max_open_sessions, control.counts().in_flight), (2, 1));
}

#[tokio::test]
async fn sessions_age_with_their_writes() {
    let mut api = Api::signed_in().await;
    let control = api.filemaker.control();
    for key in 0..5 {
        api.patient(&format!("P{key}")).await;
    }
    control.age_sessions(Duration::from_millis(100));
    let timed = async |api: &Api| {
        let began = Instant::now();
        api.get("").await.good();
        began.elapsed()
    };
    assert!(timed(&api).await >= Duration::from_millis(500));
    api.token = api.sign_in().await;
    assert!(timed(&api).await < Duration::from_millis(400));
    let slow = control.inject(Fault::Slow(Duration::from_millis(150)), When::next());
    assert!(timed(&api).await >= Duration::from_millis(150));
    assert_eq!(slow.fired(), 1);
}

#[tokio::test]
async fn faults_hit_the_calls_they_are_meant_for() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    api.patient("P1").await;
    let code = |answer: Answer| answer.code;
    control.inject(Fault::Code(16), When::next().layout("API_Measurement").route(Route::Create));
    control.inject(Fault::Code(307), When::next().after(1).verb("PATCH"));
    control.inject(Fault::Code(300), When::next().key(r"a\b@c"));
    assert_eq!(code(api.patch("/API_Patient/records/1", json!({"fieldData": {}})).await), "0");
    assert_eq!(code(api.patch("/API_Patient/records/1", json!({"fieldData": {}})).await), "307");
    assert_eq!(code(api.patch("/API_Patient/records/1", json!({"fieldData": {}})).await), "0");
    assert_eq!(code(api.find("API_Patient", json!([{"FhirId": "==x"}])).await), "401");
    assert_eq!(code(api.find("API_Patient", json!([{"FhirId": r"==a\\b\@c"}])).await), "300");
    assert_eq!(code(api.post("/API_Measurement/records", named("M1")).await), "16");
    assert_eq!(code(api.post("/API_Measurement/records", named("M1")).await), "0");
    let seldom = control.inject(Fault::Code(16), When::always().chance(0.5).route(Route::Layouts));
    for _ in 0..40 {
        api.get("").await;
    }
    assert!((5..=35).contains(&seldom.fired()), "{}", seldom.fired());
    control.clear_all().await;
    api.get("").await.good();
    assert_eq!(control.counts().faults["code"], 3 + seldom.fired());
}

#[tokio::test]
async fn an_unplugged_host_refuses_and_comes_back() {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    control.unplug().await;
    api.try_post(PATIENTS, named("A")).await.expect_err("no answer");
    control.plug_in().await;
    api.post(PATIENTS, named("A")).await.good();
    let url = api.url("/productInfo");
    api.filemaker.stop().await;
    api.http.get(url).send().await.expect_err("nobody there");
}

#[tokio::test]
async fn what_a_client_gave_up_on_is_still_carried_out() {
    let api = Api::with(clinic()).await;
    let control = api.filemaker.control();
    control.latency(Duration::from_millis(200));
    let request = api.request(Method::POST, "/databases/Clinic/layouts/API_Patient/records").bearer_auth(&api.token);
    let given_up = request.json(&named("A")).timeout(Duration::from_millis(40)).send().await;
    assert!(given_up.expect_err("no answer").is_timeout());
    until(&control, |counts| counts.in_flight == 0).await;
    assert_eq!(keys(&control), ["A"]);
}
