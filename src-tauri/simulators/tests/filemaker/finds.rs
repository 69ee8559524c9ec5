//! Finding, paging and date formats (fact sheet sections 5.1, 10, 11), and that many records stay fast.

use crate::client::{Answer, Api, clinic};
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Instant;

/// Keys of the records found, in order; the code if none.
fn keys(answer: Answer) -> Vec<String> {
    match answer.response["data"].as_array() {
        Some(data) => data.iter().map(|r| r["fieldData"]["FhirId"].as_str().expect("text").to_owned()).collect(),
        None => vec![answer.code],
    }
}

async fn stocked() -> Api {
    let api = Api::signed_in().await;
    let control = api.filemaker.control();
    for (key, last, email, born, zip) in [
        ("P1", "Testpatient Alpha", "ada@example.org", "01/31/1980", "01234"),
        ("P2", "Testpatient Beta", "bob@example.org", "02/01/1980", "1...5"),
        ("p3", "Gamma", "", "12/24/2001", ""),
        ("P4", "gamma", "ada@example.org", "", "3"),
    ] {
        let fields = [("FhirId", key), ("LastName", last), ("Email", email), ("BirthDate", born), ("PostalCode", zip)];
        control.desk_create("Patient", &fields).expect("fitting values");
    }
    api
}

#[tokio::test]
async fn operators_find_what_they_should() {
    let api = stocked().await;
    for (query, found) in [
        (json!([{"FhirId": "==p1"}]), vec!["P1"]),
        (json!([{"FhirId": "==P"}]), vec!["401"]),
        (json!([{"LastName": "test"}]), vec!["P1", "P2"]),
        (json!([{"LastName": "=test"}]), vec!["401"]),
        (json!([{"LastName": "==gamma"}]), vec!["p3", "P4"]),
        (json!([{"LastName": "!"}]), vec!["p3", "P4"]),
        (json!([{"LastName": "*eta"}]), vec!["P2"]),
        (json!([{"FhirId": "==P#"}]), vec!["P1", "P2", "p3", "P4"]),
        (json!([{"Email": "ada@example.org"}]), vec!["401"]),
        (json!([{"Email": r"ada\@example.org"}]), vec!["P1", "P4"]),
        (json!([{"Email": "="}]), vec!["p3"]),
        (json!([{"BirthDate": "*"}]), vec!["P1", "P2", "p3"]),
        (json!([{"BirthDate": ">01/31/1980"}]), vec!["P2", "p3"]),
        (json!([{"BirthDate": "01/01/1980...02/01/1980"}]), vec!["P1", "P2"]),
        (json!([{"PostalCode": "1...5"}]), vec!["P2", "P4"]),
        (json!([{"PostalCode": r"==1\...5"}]), vec!["P2"]),
        (json!([{"LastName": "gamma", "Email": "*"}]), vec!["P4"]),
        (json!([{"FhirId": "==P4"}, {"FhirId": "==P1"}]), vec!["P1", "P4"]),
        (json!([{"LastName": "*"}, {"Email": "*", "omit": "true"}]), vec!["p3"]),
        (json!([{"Email": "*", "omit": "true"}, {"FhirId": "==P1"}]), vec!["P1", "p3"]),
        (json!([{"ModifiedHost": ">=03/05/2024 09:30:00"}]), vec!["P1", "P2", "p3", "P4"]),
        (json!([{"ModifiedHost": ">03/05/2024 09:30:00"}]), vec!["401"]),
        (json!([{"ModifiedHost": "//"}]), vec!["P1", "P2", "p3", "P4"]),
        (json!([{"BirthDate": "1980-01-31"}]), vec!["500"]),
        (json!([{"FhirId": ""}]), vec!["400"]),
        (json!([{"FhirId": true}]), vec!["960"]),
    ] {
        assert_eq!(keys(api.find("API_Patient", query.clone()).await), found, "{query}");
    }
}

#[tokio::test]
async fn pages_are_sorted_and_end_with_101() {
    let api = stocked().await;
    let sort = json!([{"fieldName": "BirthDate", "sortOrder": "descend"}]);
    let body =
        json!({"query": [{"FhirId": "*"}], "sort": sort, "limit": "2", "offset": 2, "portal": [], "limit.P": "1"});
    assert_eq!(keys(api.post("/API_Patient/_find", body).await), ["P2", "P1"]);
    let list = async |query: &str| keys(api.get(&format!("/API_Patient/records{query}")).await);
    assert_eq!(list("").await, ["P1", "P2", "p3", "P4"]);
    assert_eq!(list("?_limit=2&_offset=3").await, ["p3", "P4"]);
    assert_eq!(list("?_offset=5").await, ["101"]);
    assert_eq!(list("?_offset=0").await, ["960"]);
    assert_eq!(list("?limit=2").await, ["960"]);
    let sorted = "?_sort=%5B%7B%22fieldName%22%3A%22LastName%22%7D%5D&_limit=2&portal=%5B%5D&_limit.P=1";
    assert_eq!(list(sorted).await, ["p3", "P4"]);
    assert_eq!(list("?_sort=%5B%7B%22fieldName%22%3A%22Nope%22%7D%5D").await, ["102"]);

    let empty = async |query: &str| api.get(&format!("/API_Measurement/records{query}")).await;
    assert_eq!(empty("").await.good()["data"], json!([]));
    assert!(empty("?_offset=1").await.failed(500, "101"));
    let control = api.filemaker.control();
    control.unsettled(|unsettled| {
        unsettled.past_end_is_101 = false;
        unsettled.bad_criterion_code = 508;
    });
    assert_eq!(list("?_offset=5").await, Vec::<String>::new());
    assert!(api.find("API_Patient", json!([{"BirthDate": "x"}])).await.failed(500, "508"));
}

#[tokio::test]
async fn date_formats_hold_for_reading_writing_and_criteria() {
    let api = Api::with(clinic()).await;
    let note = "/API_ProgressNote";
    let write = async |stamp: &str, formats: u8| {
        let body = json!({"fieldData": {"NoteDate": stamp}, "dateformats": formats});
        api.post(&format!("{note}/records"), body).await
    };
    write("3/5/2024 7:08:09", 0).await.good();
    write("2024-03-05 07:08:09", 2).await.good();
    assert!(write("2024-03-05T07:08:09", 2).await.failed(500, "500"));
    assert!(write("2024-03-05 07:08:09", 0).await.failed(500, "500"));
    assert!(write("03/05/2024 07:08:09", 2).await.failed(500, "500"));
    assert!(write("13/05/2024 07:08:09", 0).await.failed(500, "500"));
    let read = async |query: &str| {
        let answer = api.get(&format!("{note}/records{query}")).await.good();
        let stamps = answer["data"].as_array().expect("records").iter().map(|r| r["fieldData"]["NoteDate"].clone());
        stamps.collect::<Vec<Value>>()
    };
    assert_eq!(read("").await, ["03/05/2024 07:08:09", "03/05/2024 07:08:09"]);
    assert_eq!(read("?dateformats=2").await[0], "2024-03-05T07:08:09");
    let iso = json!({"query": [{"NoteDate": "2024-03-05"}], "dateformats": 2});
    assert_eq!(api.post(&format!("{note}/_find"), iso).await.good()["dataInfo"]["foundCount"], 2);
}

#[tokio::test]
async fn ten_thousand_records_stay_fast() {
    let mut api = Api::signed_in().await;
    let control = api.filemaker.control();
    for n in 0..10_000 {
        control.desk_create("Patient", &[("FhirId", &format!("K-{n}"))]).expect("a new key");
    }
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(api.sign_in().await);
    }
    api.token = tokens[0].clone();
    let api = &api;
    let began = Instant::now();
    let lanes = tokens.iter().enumerate().map(|(lane, token)| async move {
        for n in 0..150 {
            let key = format!("K-{}", lane * 2500 + n);
            let url = api.url("/databases/Clinic/layouts/API_Patient/_find");
            let request =
                api.http.post(url).bearer_auth(token).json(&json!({"query": [{"FhirId": format!("=={key}")}]}));
            assert_eq!(keys(crate::client::sent(request).await.expect("an answer")), [key]);
        }
    });
    join_all(lanes).await;
    let rate = 600.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} exact finds per second among 10 000 records, 4 sessions, debug build");
    // A scan of all records would be some twenty times slower than this.
    assert!(rate > 100.0, "{rate}");
}
