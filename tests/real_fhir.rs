//! The FHIR client against a server that this project did not write: Medplum's own router, with the official R4 examples.
//! Needs `npm ci` in `tests/real/medplum`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

#[path = "real/medplum/ehr.rs"]
mod ehr;
#[path = "real/medplum/rig.rs"]
mod rig;
#[path = "real/medplum/writes.rs"]
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chart_relay::adapters::{
    doctor::Verdict,
    fhir::{Credentials, FhirClient, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::{Class, Code},
    fakes::FakeClock,
    key::ResourceType,
    ports::{Change, FhirServer as _, Read},
};
use jiff::Timestamp;
use reqwest::Method;
use rig::Medplum;
use serde_json::{Value, json};

const TYPES: [&str; 4] = ["Patient", "QuestionnaireResponse", "Observation", "DocumentReference"];

fn kind(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

fn client(server: &Medplum, flavour: &'static Flavour, page: u32, secret: &str) -> FhirClient {
    let config = FhirConfig {
        base_url: server.base_url.clone(),
        flavour,
        sign_in: SignIn::ClientCredentials {
            token_url: server.token_url.clone(),
            client_id: server.client_id.clone(),
            secret_in: SecretIn::Basic,
            scope: None,
        },
        trust: Trust::System,
        timeout: Duration::from_secs(30),
        page: Some(page),
        probe: kind("Patient"),
    };
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    FhirClient::new(config, Credentials::ClientSecret(Secret::new(secret)), clock).unwrap()
}

fn signed_in(server: &Medplum, flavour: &'static Flavour, page: u32) -> FhirClient {
    client(server, flavour, page, &server.client_secret)
}

async fn walk(client: &FhirClient, name: &str, since: Option<Timestamp>) -> Vec<Change> {
    let (mut all, mut page) = (Vec::new(), None);
    for _ in 0..2000 {
        let changes = client.changes(&kind(name), since, page.as_ref()).await.unwrap();
        assert!(changes.server_time.is_some());
        all.extend(changes.changes);
        page = changes.next;
        if page.is_none() {
            return all;
        }
    }
    panic!("the walk does not end");
}

/// Another hand on the same server, without any code of the client.
struct Hand {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Hand {
    async fn on(server: &Medplum) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &server.client_id),
            ("client_secret", &server.client_secret),
        ];
        let granted: Value = http.post(&server.token_url).form(&form).send().await.unwrap().json().await.unwrap();
        let token = granted["access_token"].as_str().unwrap().to_owned();
        Self { http, base: server.base_url.clone(), token }
    }

    async fn call(&self, method: Method, path: &str, if_match: Option<&str>, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token);
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Everything of a type, id and version: without `_count` this server gives all of it.
    async fn all(&self, name: &str) -> BTreeMap<String, String> {
        let (status, bundle) = self.call(Method::GET, name, None, None).await;
        assert_eq!(status, 200);
        let rows = bundle["entry"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.iter().map(|row| &row["resource"]).map(|row| (text(&row["id"]), text(&row["meta"]["versionId"]))).collect()
    }
}

#[track_caller]
fn assert_each_once(expected: &BTreeMap<String, String>, changes: &[Change]) {
    let listed: BTreeMap<String, String> =
        changes.iter().map(|change| (change.id.to_string(), change.version.clone())).collect();
    assert_eq!(&listed, expected);
    assert_eq!(changes.len(), expected.len(), "something was listed twice");
}

#[tokio::test]
async fn every_official_example_is_found_once_and_read() {
    let server = Medplum::start(&["--examples", "1000"]).await;
    let hand = Hand::on(&server).await;
    let mut read = 0;
    for name in TYPES {
        let expected = hand.all(name).await;
        for (flavour, page) in [(&Flavour::MEDPLUM, 200), (&Flavour::MEDPLUM, 7), (&Flavour::GENERIC, 20)] {
            let client = signed_in(&server, flavour, page);
            let changes = walk(&client, name, None).await;
            assert_each_once(&expected, &changes);
            for change in &changes {
                let Read::Found(found) = client.read(&kind(name), &change.id).await.unwrap() else {
                    panic!("not found")
                };
                assert_eq!(found.version, change.version);
                assert_eq!(found.json["id"], change.id.as_str());
                read += 1;
            }
        }
    }
    assert!(read > 3 * 80, "only {read} examples were read");
}

/// A Medplum that gives no more than 20 rows a page: past those only `_offset` helps.
static SMALL_PAGES: Flavour = Flavour { max_page: 20, ..Flavour::MEDPLUM };

#[tokio::test]
async fn hundreds_that_share_few_instants_are_all_found() {
    let server = Medplum::start(&["--examples", "30"]).await;
    let hand = Hand::on(&server).await;
    // One batch is written within a few milliseconds.
    for batch in 0..2 {
        let entries: Vec<_> = (0..400)
            .map(|number| {
                let name = json!([{"family": "Testpatient", "given": [format!("Synthetic {batch}-{number}")]}]);
                let resource = json!({"resourceType": "Patient", "name": name});
                json!({"resource": resource, "request": {"method": "POST", "url": "Patient"}})
            })
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
        assert_eq!(hand.call(Method::POST, "", None, Some(&bundle)).await.0, 200);
    }
    let expected = hand.all("Patient").await;
    assert!(expected.len() >= 820);
    for (flavour, page) in [
        (&Flavour::MEDPLUM, 200),
        (&Flavour::MEDPLUM, 13),
        (&Flavour::GENERIC, 20),
        (&SMALL_PAGES, 20),
        (&SMALL_PAGES, 3),
    ] {
        let changes = walk(&signed_in(&server, flavour, page), "Patient", None).await;
        assert_each_once(&expected, &changes);
        let stamps: BTreeSet<_> = changes.iter().map(|change| change.last_updated).collect();
        assert!(stamps.len() < expected.len() / 2, "{} instants are not few", stamps.len());
        // From the middle on.
        let middle = changes[changes.len() / 2].last_updated;
        let later = walk(&signed_in(&server, flavour, page), "Patient", Some(middle)).await;
        assert_eq!(as_set(&later), as_set(changes.iter().filter(|change| change.last_updated >= middle)));
    }
}

/// Changes as a set, whatever their order within one instant.
fn as_set<'a>(changes: impl IntoIterator<Item = &'a Change>) -> BTreeSet<(Timestamp, &'a str, &'a str)> {
    let row = |change: &'a Change| (change.last_updated, change.id.as_str(), change.version.as_str());
    changes.into_iter().map(row).collect()
}

#[tokio::test]
async fn versions_follow_updates_and_deletion_is_absence() {
    let server = Medplum::start(&["--examples", "5"]).await;
    let hand = Hand::on(&server).await;
    let client = signed_in(&server, &Flavour::MEDPLUM, 200);
    let patient = kind("Patient");
    let before = walk(&client, "Patient", None).await;
    let mark = before.last().unwrap().last_updated;
    let Read::Found(found) = client.read(&patient, &before[0].id).await.unwrap() else { panic!("not found") };

    // The version that the client tells is the one that guards an update.
    let mut changed = found.json.clone();
    changed["active"] = json!(false);
    let path = format!("Patient/{}", found.id);
    let tag = format!("W/\"{}\"", found.version);
    assert_eq!(hand.call(Method::PUT, &path, Some(&tag), Some(&changed)).await.0, 200);
    assert_eq!(hand.call(Method::PUT, &path, Some(&tag), Some(&changed)).await.0, 412);
    let Read::Found(after) = client.read(&patient, &found.id).await.unwrap() else { panic!("not found") };
    assert_ne!(after.version, found.version);
    assert_eq!(after.json["active"], json!(false));
    let since = walk(&client, "Patient", Some(mark)).await;
    assert!(since.iter().any(|change| change.id == found.id && change.version == after.version));
    assert!(since.iter().all(|change| change.last_updated >= mark));

    assert_eq!(hand.call(Method::DELETE, &path, None, None).await.0, 200);
    // This server forgets what it deleted: no 410.
    assert_eq!(client.read(&patient, &found.id).await.unwrap(), Read::Missing);
    assert_each_once(&hand.all("Patient").await, &walk(&client, "Patient", None).await);
}

#[tokio::test]
async fn a_token_that_ends_is_replaced_and_a_wrong_secret_is_named() {
    let server = Medplum::start(&["--examples", "2", "--token-life", "1"]).await;
    let client = signed_in(&server, &Flavour::MEDPLUM, 200);
    client.probe().await.unwrap();
    // Granted after the client's: once this one has ended, so has the client's, whose own clock knows nothing of it.
    let later = Hand::on(&server).await;
    while later.call(Method::GET, "Patient?_count=1", None, None).await.0 != 401 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.probe().await.unwrap();

    let fault = self::client(&server, &Flavour::MEDPLUM, 200, "wrong").probe().await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::SignInRefused));
    assert_eq!(fault.vendor.as_deref(), Some("HTTP 400 invalid_request"));
}

#[tokio::test]
async fn the_check_up_passes_and_names_what_is_missing() {
    let server = Medplum::start(&["--examples", "2"]).await;
    let steps = signed_in(&server, &Flavour::MEDPLUM, 200).diagnose(&[kind("Patient"), kind("Observation")]).await;
    assert!(!steps.iter().any(|step| step.has_failed()), "{steps:#?}");
    let warned: Vec<_> = steps.iter().filter(|step| matches!(step.verdict, Verdict::Warned(_))).collect();
    assert_eq!(warned.len(), 1);
    assert_eq!(warned[0].name, "capability");
}
