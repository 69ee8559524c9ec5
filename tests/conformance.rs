//! What the relay relies on in a FHIR R4 server: the same questions to our simulator and to any server whose base URL is in
//! `CONFORMANCE_FHIR_URL` (one that asks for no token and may be written to; `cargo xtask conformance` starts such a one).
//! Everything that is written is synthetic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::{collections::BTreeMap, time::Duration};

use chart_relay::adapters::{
    fhir::{Credentials, FhirClient, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::{Class, Code},
    fakes::FakeClock,
    key::ResourceType,
    ports::{Change, FhirServer as _, Identifier, Matching, Read},
};
use jiff::Timestamp;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use simulators::fhir::{Behaviour, FhirServer, Options};

struct Server {
    base_url: String,
    sign_in: SignIn,
    /// Kept alive for the test.
    _simulator: Option<FhirServer>,
}

impl Server {
    async fn start() -> Self {
        if let Ok(base_url) = std::env::var("CONFORMANCE_FHIR_URL") {
            return Self { base_url, sign_in: SignIn::Nobody, _simulator: None };
        }
        // The test chooses the ids, to know its own among what else a server holds.
        let behaviour = Behaviour { update_creates: true, ..Behaviour::default() };
        let options = Options { behaviour, ..Options::default() };
        let simulator = FhirServer::start(options).await.unwrap();
        let sign_in = SignIn::ClientCredentials {
            token_url: simulator.token_url().to_owned(),
            client_id: "chart-relay".into(),
            secret_in: SecretIn::Body,
            scope: None,
        };
        Self { base_url: simulator.base_url().to_owned(), sign_in, _simulator: Some(simulator) }
    }

    fn client(&self, page: u32) -> FhirClient {
        let credentials = match &self.sign_in {
            SignIn::Nobody => Credentials::Nobody,
            _ => Credentials::ClientSecret(Secret::new("synthetic-secret")),
        };
        let config = FhirConfig {
            base_url: self.base_url.clone(),
            flavour: &Flavour::GENERIC,
            sign_in: self.sign_in.clone(),
            trust: Trust::System,
            timeout: Duration::from_secs(30),
            page: Some(page),
            probe: patient(),
        };
        FhirClient::new(config, credentials, FakeClock::at(Timestamp::UNIX_EPOCH)).unwrap()
    }

    /// What another program does to the chart, without any code of the client.
    async fn hand(&self, method: Method, path: &str, if_match: Option<&str>, body: Option<&Value>) -> (u16, HeaderMap) {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut request = http.request(method, format!("{}/{path}", self.base_url));
        if let SignIn::ClientCredentials { token_url, client_id, .. } = &self.sign_in {
            let form =
                [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", "synthetic-secret")];
            let granted: Value = http.post(token_url).form(&form).send().await.unwrap().json().await.unwrap();
            request = request.bearer_auth(granted["access_token"].as_str().unwrap());
        }
        if let Some(version) = if_match {
            request = request.header("if-match", format!("W/\"{version}\""));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/fhir+json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone())
    }
}

fn patient() -> ResourceType {
    ResourceType::new("Patient").unwrap()
}

/// Which patients were listed how often since then, those of this test only.
async fn listed(client: &FhirClient, since: Option<Timestamp>, mark: &str) -> (BTreeMap<String, usize>, Vec<Change>) {
    let (mut counts, mut all, mut page) = (BTreeMap::new(), Vec::new(), None);
    for _ in 0..1000 {
        let changes = client.changes(&patient(), since, page.as_ref()).await.unwrap();
        for change in changes.changes.into_iter().filter(|change| change.id.as_str().starts_with(mark)) {
            *counts.entry(change.id.to_string()).or_default() += 1;
            all.push(change);
        }
        page = changes.next;
        if page.is_none() {
            return (counts, all);
        }
    }
    panic!("the walk does not end");
}

#[tokio::test]
async fn every_change_is_listed_once_and_read_as_it_was_listed() {
    let server = Server::start().await;
    let mark = format!("walk{}-", std::process::id());
    let mut expected = BTreeMap::new();
    for number in 0..45 {
        let id = format!("{mark}{number}");
        let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Testpatient"}]});
        assert_eq!(server.hand(Method::PUT, &format!("Patient/{id}"), None, Some(&body)).await.0, 201);
        expected.insert(id, 1);
    }
    for page in [7, 20, 200] {
        let client = server.client(page);
        let (counts, changes) = listed(&client, None, &mark).await;
        assert_eq!(counts, expected, "pages of {page}");
        assert!(changes.is_sorted_by_key(|change| change.last_updated));
        for change in &changes {
            let Read::Found(found) = client.read(&patient(), &change.id).await.unwrap() else { panic!("not found") };
            assert_eq!((found.version, &found.json["id"]), (change.version.clone(), &json!(change.id.as_str())));
        }
        let middle = changes[20].last_updated;
        let (later, _) = listed(&client, Some(middle), &mark).await;
        let since = changes.iter().filter(|change| change.last_updated >= middle);
        assert_eq!(later.keys().cloned().collect::<Vec<_>>(), {
            let mut ids: Vec<_> = since.map(|change| change.id.to_string()).collect();
            ids.sort();
            ids
        });
    }
}

#[tokio::test]
async fn a_version_guards_an_update_and_what_is_deleted_is_gone() {
    let server = Server::start().await;
    let client = server.client(20);
    let id = format!("guard{}", std::process::id());
    let path = format!("Patient/{id}");
    let key = engine::key::ResourceId::new(&id).unwrap();
    assert_eq!(client.read(&patient(), &key).await.unwrap(), Read::Missing);

    let mut body = json!({"resourceType": "Patient", "id": id, "active": true});
    assert_eq!(server.hand(Method::PUT, &path, None, Some(&body)).await.0, 201);
    let Read::Found(before) = client.read(&patient(), &key).await.unwrap() else { panic!("not found") };
    body["active"] = json!(false);
    assert_eq!(server.hand(Method::PUT, &path, Some(&before.version), Some(&body)).await.0, 200);
    assert_eq!(server.hand(Method::PUT, &path, Some(&before.version), Some(&body)).await.0, 412);
    let Read::Found(after) = client.read(&patient(), &key).await.unwrap() else { panic!("not found") };
    assert_ne!(after.version, before.version);
    assert_eq!(after.json["active"], json!(false));

    assert!(matches!(server.hand(Method::DELETE, &path, None, None).await.0, 200 | 204));
    assert_eq!(client.read(&patient(), &key).await.unwrap(), Read::Gone);
    assert!(listed(&client, None, &id).await.0.is_empty());
}

#[tokio::test]
async fn the_relays_own_writes_are_guarded_and_find_what_is_there() {
    let server = Server::start().await;
    let client = server.client(20);
    let row = Identifier { system: "urn:chart-relay:row".into(), value: format!("row{}", std::process::id()) };
    let newcomer = json!({
        "resourceType": "Patient",
        "identifier": [{"system": row.system, "value": row.value}],
        "name": [{"family": "Testpatient"}],
        "birthDate": "1950-03-01",
        "extension": [{"url": "http://example.org/weight", "valueDecimal": serde_json::from_str::<Value>("70.10").unwrap()}]
    });
    let made = client.create(&patient(), &newcomer, &row).await.unwrap();
    let again = client.create(&patient(), &newcomer, &row).await.unwrap();
    assert_eq!((made.existed, again.existed, &made.id), (false, true, &again.id));
    let Read::Found(found) = client.read(&patient(), &made.id).await.unwrap() else { panic!("not found") };
    assert_eq!(found.version, made.version);
    assert!(found.last_updated.is_some());
    let mut json = found.json;
    json["active"] = json!(true);
    let version = client.update(&patient(), &made.id, &made.version, &json).await.unwrap();
    let Read::Found(after) = client.read(&patient(), &made.id).await.unwrap() else { panic!("not found") };
    assert_eq!((after.version, &after.json["active"]), (version, &json!(true)));
    assert_eq!(after.json["extension"].to_string(), newcomer["extension"].to_string(), "with every digit");
    let stale = client.update(&patient(), &made.id, &made.version, &json).await.unwrap_err();
    assert_eq!((stale.class, stale.code), (Class::Stale, Code::RecordChanged));
    let by = Matching::Birth { day: jiff::civil::date(1950, 3, 1), family: "Testpatient".into() };
    let candidates = client.matching(&patient(), &by).await.unwrap();
    assert!(candidates.iter().any(|candidate| candidate.id == made.id));
}

#[tokio::test]
async fn the_check_up_finds_no_fault() {
    let server = Server::start().await;
    let steps = server.client(20).diagnose(&[patient(), ResourceType::new("Observation").unwrap()]).await;
    assert!(!steps.iter().any(|step| step.has_failed()), "{steps:#?}");
}
