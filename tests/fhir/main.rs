//! The FHIR client over real HTTP: against the simulator, and against scripted servers for what no simulator should do.
//! Everything in here is synthetic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod answers;
mod change_list;
mod check_up;
mod ehr;
mod script;
mod sign_in;
mod sparse;
mod subscriptions;
mod writes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chart_relay::adapters::{
    fhir::{Credentials, FhirClient, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::Fault,
    fakes::FakeClock,
    key::{ResourceId, ResourceType},
    ports::{Change, FhirServer as _},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use simulators::fhir::{Behaviour, FhirServer, Options};

const SECRET: &str = "synthetic-secret";

fn kind(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

fn patient() -> ResourceType {
    kind("Patient")
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Arc<FakeClock> {
    FakeClock::at(at("2026-03-02T08:00:00Z"))
}

/// Everything but how it signs in.
fn config(base_url: &str, flavour: &'static Flavour) -> FhirConfig {
    FhirConfig {
        base_url: base_url.to_owned(),
        flavour,
        sign_in: SignIn::Nobody,
        trust: Trust::System,
        timeout: Duration::from_secs(10),
        page: None,
        probe: patient(),
    }
}

/// A client of a server that asks for no token.
fn open_client(base_url: &str, flavour: &'static Flavour) -> FhirClient {
    FhirClient::new(config(base_url, flavour), Credentials::Nobody, clock()).unwrap()
}

fn credentials_of(token_url: &str) -> SignIn {
    SignIn::ClientCredentials {
        token_url: token_url.to_owned(),
        client_id: "chart-relay".into(),
        secret_in: SecretIn::Body,
        scope: None,
    }
}

/// A client of the simulator that signs in, with pages of so many rows.
fn client(server: &FhirServer, flavour: &'static Flavour, page: u32, clock: &Arc<FakeClock>) -> FhirClient {
    let config = FhirConfig {
        sign_in: credentials_of(server.token_url()),
        page: Some(page),
        ..config(server.base_url(), flavour)
    };
    FhirClient::new(config, Credentials::ClientSecret(Secret::new(SECRET)), clock.clone()).unwrap()
}

async fn server(behaviour: Behaviour) -> FhirServer {
    FhirServer::start(Options { behaviour, ..Options::default() }).await.unwrap()
}

fn resource(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": "Testpatient"}]})
}

/// Puts so many patients, `p0000` and on, each a second after the one before.
fn fill(server: &FhirServer, count: usize) {
    let first = at("2026-03-01T10:00:00.250Z");
    for number in 0..count {
        let stamp = first + jiff::SignedDuration::from_secs(i64::try_from(number).unwrap());
        server.control().put_stamped(resource(&format!("p{number:04}")), stamp).unwrap();
    }
}

/// Walks a change list to its end.
async fn walk(client: &FhirClient, resource: &ResourceType, since: Option<Timestamp>) -> Result<Vec<Change>, Fault> {
    let mut all = Vec::new();
    let mut page = None;
    for _ in 0..500 {
        let changes = client.changes(resource, since, page.as_ref()).await?;
        assert!(changes.changes.is_sorted_by_key(|change| change.last_updated), "a page is out of order");
        all.extend(changes.changes);
        page = changes.next;
        if page.is_none() {
            return Ok(all);
        }
    }
    panic!("the walk does not end");
}

/// How often each id was listed.
fn counts(changes: &[Change]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for change in changes {
        *counts.entry(change.id.to_string()).or_default() += 1;
    }
    counts
}

/// Every id of the simulator, listed exactly once.
#[track_caller]
fn assert_complete(server: &FhirServer, changes: &[Change]) {
    let expected: BTreeMap<String, usize> = server.control().ids("Patient").into_iter().map(|id| (id, 1)).collect();
    assert!(!expected.is_empty());
    assert_eq!(counts(changes), expected);
}
