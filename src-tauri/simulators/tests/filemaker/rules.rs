//! Validation, entry modes, calculations and scripts (fact sheet sections 5.4, 6, 8.3).

use crate::client::{ACCOUNT, Api, PASSWORD, basic, clinic, sent};
use reqwest::Method;
use serde_json::{Value, json};
use simulators::filemaker::{Field, File, Layout, ScriptEnd, Table};

/// A file whose fields each have one rule.
async fn ruled() -> Api {
    let table = Table::new("T")
        .field(Field::text("Key").unique().always())
        .field(Field::text("Entered").max_characters(3))
        .field(Field::text("Short").max_characters(3).always())
        .field(Field::text("Needed").auto_constant("x").not_empty().always())
        .field(Field::number("Pain").range("0", "10").always())
        .field(Field::number("Strict").numeric().always())
        .field(Field::number("Loose"))
        .field(Field::text("Sex").value_list("Sexes", &["male", "female"]).always())
        .field(Field::text("Even").tested(|text| text.len() % 2 == 0).always())
        .field(Field::text("Fixed").prohibit_modification())
        .field(Field::time("Took"))
        .field(Field::text("Shout").calculated(|field| field("Key").to_uppercase()));
    let file = File::new("Rules")
        .table(table)
        .layout(Layout::new("L", "T"))
        .script("Greet", |_, param| ScriptEnd { error: 0, result: format!("hello {param}") })
        .script("Fail", |_, _| ScriptEnd { error: 401, result: String::new() })
        .script("Stamp", |desk, key| match desk.create("T", &[("Key", key)]) {
            Ok(id) => ScriptEnd { error: 0, result: id.to_string() },
            Err(refused) => ScriptEnd { error: refused.code, result: String::new() },
        });
    let mut api = Api::with(clinic().file(file)).await;
    let login =
        api.request(Method::POST, "/databases/Rules/sessions").header("Authorization", basic(ACCOUNT, PASSWORD));
    let answer = sent(login.json(&json!({}))).await.expect("an answer").good();
    api.token = answer["token"].as_str().expect("a token").to_owned();
    api
}

async fn call(api: &Api, method: Method, path: &str, body: Option<Value>) -> crate::client::Answer {
    let mut request = api.request(method, &format!("/databases/Rules/layouts/L{path}")).bearer_auth(&api.token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    sent(request).await.expect("an answer")
}

async fn make(api: &Api, body: Value) -> crate::client::Answer {
    call(api, Method::POST, "/records", Some(body)).await
}

#[tokio::test]
async fn every_rule_has_its_code() {
    let api = ruled().await;
    make(&api, json!({"fieldData": {"Key": "one", "Pain": 10, "Sex": "male", "Even": "ab", "Loose": "ca. 5"}}))
        .await
        .good();
    for (field, value, code) in [
        ("Key", json!("ONE"), "504"),
        ("Entered", json!("long"), "511"),
        ("Short", json!("long"), "511"),
        ("Needed", json!(""), "509"),
        ("Pain", json!(11), "503"),
        ("Pain", json!("-1"), "503"),
        ("Strict", json!("many"), "502"),
        ("Sex", json!("other"), "506"),
        ("Even", json!("abc"), "507"),
        ("Fixed", json!("x"), "201"),
        ("Shout", json!("x"), "201"),
        ("Took", json!("soon"), "501"),
    ] {
        let made = make(&api, json!({"fieldData": {field: value}})).await;
        assert!(made.failed(500, code), "{field}: {made:?}");
        let edited = call(&api, Method::PATCH, "/records/1", Some(json!({"fieldData": {field: value}}))).await;
        // Its own key is no duplicate.
        assert!(if field == "Key" { edited.code == "0" } else { edited.failed(500, code) }, "{field}: {edited:?}");
    }
    assert_eq!(api.filemaker.control().file("Rules").count("T"), 1);
    let record = call(&api, Method::GET, "/records/1", None).await.good()["data"][0].clone();
    assert_eq!(record["modId"], "1");
    let fields = &record["fieldData"];
    assert_eq!((&fields["Loose"], &fields["Shout"], &fields["Needed"]), (&json!("ca. 5"), &json!("ONE"), &json!("x")));
    // Nothing asked, nothing changed.
    let same = call(&api, Method::PATCH, "/records/1", Some(json!({"fieldData": {}}))).await;
    assert_eq!(same.good(), json!({"modId": "1"}));
}

#[tokio::test]
async fn script_mode_skips_only_what_holds_during_data_entry() {
    let api = ruled().await;
    let by_script = |field: &str, value: &str| {
        let options = json!({"entrymode": "script", "prohibitmode": "script"});
        make(&api, json!({"fieldData": {field: value}, "options": options}))
    };
    by_script("Entered", "long").await.good();
    by_script("Fixed", "x").await.good();
    assert!(by_script("Short", "long").await.failed(500, "511"));
    assert!(by_script("Shout", "x").await.failed(500, "201"));
    let odd = make(&api, json!({"fieldData": {}, "options": {"entrymode": "sometimes"}})).await;
    assert!(odd.failed(400, "1708"));
    assert!(
        make(&api, json!({"fieldData": {}, "portalData": {"Orders": [{"Orders::Item": "x"}]}}))
            .await
            .failed(500, "102")
    );
    make(&api, json!({"fieldData": {}, "portalData": {}})).await.good();
    assert!(make(&api, json!({"fieldData": {}, "modID": "0"})).await.failed(400, "960"));
}

#[tokio::test]
async fn scripts_run_and_report() {
    let api = ruled().await;
    let run = call(&api, Method::GET, "/script/Greet?script.param=you%20there", None).await.good();
    assert_eq!(run, json!({"scriptResult": "hello you there", "scriptError": "0"}));
    assert!(call(&api, Method::GET, "/script/Nope", None).await.failed(500, "104"));
    let body = json!({"fieldData": {"Key": "a"}, "script.prerequest": "Stamp", "script.prerequest.param": "before",
        "script": "Fail"});
    let made = make(&api, body).await.good();
    assert_eq!(
        made,
        json!({"recordId": "2", "modId": "0", "scriptResult.prerequest": "1", "scriptError.prerequest": "0",
            "scriptResult": "", "scriptError": "401"})
    );
    let control = api.filemaker.control().file("Rules");
    assert!(make(&api, json!({"fieldData": {"Key": "b"}, "script": "Nope"})).await.failed(500, "104"));
    assert_eq!(control.count("T"), 2);
    control.unsettled(|unsettled| unsettled.missing_script_blocks = false);
    assert!(make(&api, json!({"fieldData": {"Key": "b"}, "script": "Nope"})).await.failed(500, "104"));
    assert_eq!(control.count("T"), 3);
    let found =
        call(&api, Method::POST, "/_find", Some(json!({"query": [{"Key": "==a"}], "script": "Greet"}))).await.good();
    assert_eq!((&found["scriptResult"], &found["dataInfo"]["foundCount"]), (&json!("hello "), &json!(1)));
}
