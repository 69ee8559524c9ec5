//! The wire transcripts of the fact sheet, section 17.1, and the rest of its routes.

use crate::client::{ACCOUNT, Api, PASSWORD, basic, clinic, sent};
use reqwest::Method;
use serde_json::{Value, json};
use simulators::filemaker::{Account, File, Layout, Route};

#[tokio::test]
async fn signing_in_gives_the_token_in_header_and_body() {
    let api = Api::signed_in().await;
    let response = api
        .request(Method::POST, "/databases/Clinic/sessions")
        .header("Authorization", basic(ACCOUNT, PASSWORD))
        .json(&json!({}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 200);
    let header = response.headers()["X-FM-Data-Access-Token"].to_str().expect("ASCII").to_owned();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body, json!({"response": {"token": header}, "messages": [{"code": "0", "message": "OK"}]}));
    assert_ne!(header, api.token);
    let counts = api.filemaker.control().counts();
    assert_eq!((counts.logins, counts.open_sessions, counts.of(Route::Login)), (2, 2, 2));
}

#[tokio::test]
async fn a_record_is_made_found_edited_and_deleted() {
    let api = Api::signed_in().await;
    let made = api
        .post(
            "/API_Patient/records",
            json!({"fieldData": {"FhirId": "P1", "LastName": "Ada\rTestpatient", "Active": "01"}}),
        )
        .await
        .good();
    assert_eq!(made, json!({"recordId": "1", "modId": "0"}));

    let found = api.post("/API_Patient/_find", json!({"query": [{"FhirId": "==P1"}], "limit": "2"})).await.good();
    assert_eq!(
        found["dataInfo"],
        json!({"database": "Clinic", "layout": "API_Patient", "table": "Patient",
            "totalRecordCount": 1, "foundCount": 1, "returnedCount": 1})
    );
    let record = &found["data"][0];
    assert_eq!((&record["recordId"], &record["modId"], &record["portalData"]), (&json!("1"), &json!("0"), &json!({})));
    assert_eq!(record["fieldData"]["LastName"], "Ada\rTestpatient");
    assert_eq!(record["fieldData"]["Active"], 1);
    assert_eq!(record["fieldData"]["BirthDate"], "");
    assert_eq!(record["fieldData"]["ModifiedAt"], "03/05/2024 09:30:00");
    assert_eq!(record["fieldData"]["UUID"].as_str().expect("text").len(), 36);

    assert!(api.find("API_Patient", json!([{"FhirId": "==P2"}])).await.failed(500, "401"));
    let path = "/API_Patient/records/1";
    let edited = api.patch(path, json!({"fieldData": {"LastName": "Ada"}, "modId": "0"})).await.good();
    assert_eq!(edited, json!({"modId": "1"}));
    let stale = api.patch(path, json!({"fieldData": {"LastName": "Eve"}, "modId": "0"})).await;
    assert!(stale.failed(500, "306"), "{stale:?}");
    assert_eq!(stale.message, "Record modification ID does not match");
    assert_eq!(api.get(path).await.good()["data"][0]["fieldData"]["LastName"], "Ada");

    let copy = api.post(path, json!({})).await;
    assert!(copy.failed(500, "504"), "a copy of a unique key");
    assert_eq!(api.delete(path).await.good(), json!({}));
    assert!(api.get("/API_Patient/records/1").await.failed(500, "101"));
    assert!(api.delete(path).await.failed(500, "101"));
    assert_eq!(api.filemaker.control().history("Patient", 1).len(), 3);
}

#[tokio::test]
async fn refusals_come_as_in_the_transcripts() {
    let api = Api::signed_in().await;
    let id = api.patient("P1").await;
    let path = format!("/API_Patient/records/{id}");
    assert!(api.get("/Nope/records").await.failed(500, "105"));
    let unknown = api.post("/API_Patient/_find", json!({"query": [{"FhirId": "==P1"}], "_limit.Orders": "1"})).await;
    assert!(unknown.failed(400, "960"));
    assert_eq!(unknown.message, "Unknown parameter(s): _limit.Orders");
    assert!(api.find("API_Patient", json!([{}])).await.failed(500, "400"));
    assert!(api.find("API_Patient", json!([{"Nope": "1"}])).await.failed(500, "102"));
    assert!(api.patch(&path, json!({"fieldData": {"Nope": "1"}})).await.failed(500, "102"));
    assert!(api.patch(&path, json!({"fieldData": {"LastName": null}})).await.failed(400, "1708"));
    assert!(api.patch(&path, json!({"modId": "0"})).await.failed(400, "1707"));

    let bare = sent(api.request(Method::GET, "/databases/Clinic/layouts")).await.expect("an answer");
    assert!(bare.failed(401, "10"));
    assert_eq!(bare.message, "HTTP Authorization header or OAuth headers are missing.");
    let odd = sent(api.request(Method::GET, "/databases/Clinic/layouts").header("Authorization", "Token x"));
    assert!(odd.await.expect("an answer").failed(401, "1702"));
    for (database, token) in [("Clinic", "dead"), ("clinic", api.token.as_str())] {
        let dead = api.request(Method::GET, &format!("/databases/{database}/layouts")).bearer_auth(token);
        let dead = sent(dead).await.expect("an answer");
        assert!(dead.failed(401, "952"), "{dead:?}");
        assert_eq!(dead.message, "Invalid FileMaker Data API token (*)");
    }
    assert!(api.try_sign_in(ACCOUNT, "wrong").await.failed(401, "212"));

    let untyped = api.request(Method::POST, "/databases/Clinic/layouts/API_Patient/_find").bearer_auth(&api.token);
    assert_eq!(sent(untyped.body("{}")).await.expect("an answer").status, 415);
    let broken = api.request(Method::POST, "/databases/Clinic/layouts/API_Patient/_find").bearer_auth(&api.token);
    let broken = broken.header("Content-Type", "application/json").body("{\"query\":");
    assert!(sent(broken).await.expect("an answer").failed(400, "1710"));
    assert!(api.delete("/API_Patient/records").await.failed(405, "1704"));
}

#[tokio::test]
async fn unknown_routes_are_html_from_the_web_server() {
    let api = Api::signed_in().await;
    for path in ["/databases/Clinic/nonsense", "/databases/Clinic/layouts/API%2FPatient/records"] {
        let response = api.request(Method::GET, path).bearer_auth(&api.token).send().await.expect("an answer");
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "text/html");
        assert!(response.text().await.expect("text").starts_with("<html>"));
    }
}

#[tokio::test]
async fn metadata_names_fields_and_layouts() {
    let api = Api::signed_in().await;
    let info = sent(api.request(Method::GET, "/productInfo")).await.expect("an answer").good();
    assert_eq!(info["productInfo"]["dateFormat"], "MM/dd/yyyy");
    let databases = sent(api.request(Method::GET, "/databases")).await.expect("an answer").good();
    assert_eq!(databases, json!({"databases": [{"name": "Clinic"}]}));
    let layouts = api.get("").await.good();
    assert_eq!(layouts["layouts"][0], json!({"name": "API_Patient", "table": "Patient"}));
    let patient = api.get("/API_Patient").await.good();
    let fields = patient["fieldMetaData"].as_array().expect("fields");
    assert_eq!(fields.len(), 15);
    assert_eq!(
        (&fields[0]["name"], &fields[0]["result"], &fields[0]["autoEnter"]),
        (&json!("UUID"), &json!("text"), &json!(true))
    );
    assert_eq!((&fields[2]["name"], &fields[2]["result"]), (&json!("ModifiedAt"), &json!("timeStamp")));
    let valid = sent(api.request(Method::GET, "/validateSession").bearer_auth(&api.token)).await.expect("an answer");
    assert_eq!(valid.good(), json!({"isSessionInUse": false}));
}

#[tokio::test]
async fn logging_out_ends_the_session() {
    let api = Api::signed_in().await;
    let path = format!("/databases/Clinic/sessions/{}", api.token);
    assert_eq!(sent(api.request(Method::DELETE, &path)).await.expect("an answer").good(), json!({}));
    assert!(api.get("").await.failed(401, "952"));
    assert!(sent(api.request(Method::DELETE, &path)).await.expect("an answer").failed(401, "952"));
    assert_eq!(api.filemaker.control().counts().open_sessions, 0);
}

#[tokio::test]
async fn files_and_accounts_are_apart() {
    let clinic = clinic().account(Account::new("guest", PASSWORD).without_fmrest()).file(File::new("Other"));
    let api = Api::with(clinic).await;
    assert!(api.try_sign_in("guest", PASSWORD).await.failed(401, "212"));
    let other = api.request(Method::GET, "/databases/Other/layouts").bearer_auth(&api.token);
    assert!(sent(other).await.expect("an answer").failed(401, "952"));
    let missing =
        api.request(Method::POST, "/databases/Missing/sessions").header("Authorization", basic(ACCOUNT, PASSWORD));
    assert!(sent(missing.json(&json!({}))).await.expect("an answer").failed(500, "802"));
}

#[tokio::test]
async fn a_layout_hides_what_is_not_placed_on_it() {
    let clinic = clinic().file(
        File::new("Small")
            .table(
                simulators::filemaker::Table::new("T")
                    .field(simulators::filemaker::Field::text("Shown"))
                    .field(simulators::filemaker::Field::text("Hidden")),
            )
            .layout(Layout::new("L", "T").showing(&["Shown"])),
    );
    let mut api = Api::with(clinic).await;
    let login =
        api.request(Method::POST, "/databases/Small/sessions").header("Authorization", basic(ACCOUNT, PASSWORD));
    let answer = sent(login.json(&json!({}))).await.expect("an answer").good();
    api.token = answer["token"].as_str().expect("a token").to_owned();
    let records = "/databases/Small/layouts/L/records";
    let make =
        |fields: Value| api.request(Method::POST, records).bearer_auth(&api.token).json(&json!({"fieldData": fields}));
    assert!(sent(make(json!({"Hidden": "x"}))).await.expect("an answer").failed(500, "102"));
    sent(make(json!({"Shown": "x"}))).await.expect("an answer").good();
    let listed = sent(api.request(Method::GET, records).bearer_auth(&api.token)).await.expect("an answer").good();
    assert_eq!(listed["data"][0]["fieldData"], json!({"Shown": "x"}));
}
