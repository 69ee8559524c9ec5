//! The FHIR server: what its writes promise, asked of the fake and of the real client side by side. What only a wire can do to a
//! write is in `tests/fhir/writes.rs`.

use std::{sync::Arc, time::Duration};

use chart_relay::adapters::{
    fhir::{Credentials, FhirClient, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::{Class, Code},
    fakes::{FakeClock, MemoryFhir},
    key::{ResourceId, ResourceType},
    ports::{Created, FhirServer, Identifier, Matching, Read, Resource},
};
use jiff::civil::date;
use serde_json::{Value as Json, json};
use simulators::fhir::{FhirServer as Simulator, Options};

use crate::at;

/// A chart with somebody else at work on it.
trait Chart: Sized {
    async fn start() -> Self;
    fn server(&self) -> Arc<dyn FhirServer>;
    /// Somebody else writes a patient.
    fn put(&self, id: &str, resource: Json);
    fn delete(&self, id: &str);
}

struct Memory(Arc<MemoryFhir>);

impl Chart for Memory {
    async fn start() -> Self {
        Self(MemoryFhir::new(FakeClock::at(at(0))))
    }

    fn server(&self) -> Arc<dyn FhirServer> {
        self.0.clone()
    }

    fn put(&self, name: &str, resource: Json) {
        self.0.put(&patient(), &id(name), Some(resource));
    }

    fn delete(&self, name: &str) {
        self.0.put(&patient(), &id(name), None);
    }
}

struct Client(Simulator, Arc<FhirClient>);

impl Chart for Client {
    async fn start() -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let sign_in = SignIn::ClientCredentials {
            token_url: simulator.token_url().to_owned(),
            client_id: "chart-relay".into(),
            secret_in: SecretIn::Body,
            scope: None,
        };
        let config = FhirConfig {
            base_url: simulator.base_url().to_owned(),
            flavour: &Flavour::GENERIC,
            sign_in,
            trust: Trust::System,
            timeout: Duration::from_secs(20),
            page: None,
            probe: patient(),
        };
        let credentials = Credentials::ClientSecret(Secret::new("synthetic-secret"));
        let client = FhirClient::new(config, credentials, FakeClock::at(at(0))).unwrap();
        Self(simulator, Arc::new(client))
    }

    fn server(&self) -> Arc<dyn FhirServer> {
        self.1.clone()
    }

    fn put(&self, _name: &str, resource: Json) {
        self.0.control().put(resource).unwrap();
    }

    fn delete(&self, name: &str) {
        self.0.control().delete("Patient", name).unwrap();
    }
}

macro_rules! charts {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(<super::Memory as super::Chart>::start().await).await;
            })*
        }
        mod client {
            $(#[tokio::test]
            async fn $test() {
                super::$test(<super::Client as super::Chart>::start().await).await;
            })*
        }
    };
}

charts! {
    an_update_counts_for_one_version_and_keeps_every_digit
    what_was_before_can_be_read_where_it_is_kept
    what_is_not_there_is_not_made_by_an_update
    a_creation_makes_one_and_finds_it_again
    several_with_one_identifier_are_a_persons_to_judge
    candidates_share_birthday_and_name
}

fn patient() -> ResourceType {
    ResourceType::new("Patient").unwrap()
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn row(value: &str) -> Identifier {
    Identifier { system: "urn:chart-relay:row".into(), value: value.into() }
}

fn somebody(name: &str, value: &str) -> Json {
    json!({
        "resourceType": "Patient", "id": name, "name": [{"family": "T\u{e9}stpatient"}], "birthDate": "1950-03-01",
        "identifier": [{"system": "urn:other", "value": "r-1"}, {"system": "urn:chart-relay:row", "value": value}]
    })
}

async fn found(server: &dyn FhirServer, name: &ResourceId) -> Resource {
    match server.read(&patient(), name).await.unwrap() {
        Read::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

async fn an_update_counts_for_one_version_and_keeps_every_digit(chart: impl Chart) {
    let server = chart.server();
    chart.put("p-1", somebody("p-1", "r-1"));
    let first = found(&*server, &id("p-1")).await;
    assert!(first.last_updated.is_some());
    let mut json = first.json.clone();
    json["extension"] = serde_json::from_str(r#"[{"url":"urn:x","valueDecimal":70.10}]"#).unwrap();
    let second = server.update(&patient(), &id("p-1"), &first.version, &json).await.unwrap();
    let kept = found(&*server, &id("p-1")).await;
    assert_eq!((&kept.version, kept.json["extension"].to_string()), (&second, json["extension"].to_string()));
    for version in [&first.version, "never"] {
        let fault = server.update(&patient(), &id("p-1"), version, &first.json).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Stale, Code::RecordChanged));
    }
    chart.put("p-1", somebody("p-1", "r-1"));
    let fault = server.update(&patient(), &id("p-1"), &second, &json).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stale, Code::RecordChanged), "somebody was faster");
    assert_eq!(found(&*server, &id("p-1")).await.json["extension"], json!(null));
}

async fn what_was_before_can_be_read_where_it_is_kept(chart: impl Chart) {
    let server = chart.server();
    chart.put("p-1", somebody("p-1", "r-1"));
    let first = found(&*server, &id("p-1")).await;
    let mut json = first.json.clone();
    json["birthDate"] = json!("1951-04-02");
    let second = server.update(&patient(), &id("p-1"), &first.version, &json).await.unwrap();
    let born = async |version: &str| {
        let then = server.read_version(&patient(), &id("p-1"), version).await.unwrap();
        then.map(|then| then.json["birthDate"].as_str().unwrap().to_owned())
    };
    assert_eq!(born(&first.version).await.as_deref(), Some("1950-03-01"));
    assert_eq!(born(&second).await.as_deref(), Some("1951-04-02"));
    for version in ["99", "never", "../../Patient"] {
        assert_eq!(born(version).await, None, "{version}");
    }
    chart.delete("p-1");
    assert_eq!(born(&first.version).await.as_deref(), Some("1950-03-01"), "deleting takes back nothing that was");
}

async fn what_is_not_there_is_not_made_by_an_update(chart: impl Chart) {
    let server = chart.server();
    let json = somebody("p-1", "r-1");
    let stale = async |version: &str| {
        let fault = server.update(&patient(), &id("p-1"), version, &json).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Stale, Code::RecordChanged));
    };
    stale("1").await;
    assert_eq!(server.read(&patient(), &id("p-1")).await.unwrap(), Read::Missing);
    chart.put("p-1", json.clone());
    let version = found(&*server, &id("p-1")).await.version;
    chart.delete("p-1");
    stale(&version).await;
    assert_eq!(server.read(&patient(), &id("p-1")).await.unwrap(), Read::Gone);
}

async fn a_creation_makes_one_and_finds_it_again(chart: impl Chart) {
    let server = chart.server();
    let mut newcomer = somebody("", "r-1");
    newcomer.as_object_mut().unwrap().shift_remove("id");
    let made = server.create(&patient(), &newcomer, &row("r-1")).await.unwrap();
    assert!(!made.existed);
    let kept = found(&*server, &made.id).await;
    assert_eq!((&kept.version, &kept.json["id"]), (&made.version, &json!(made.id.as_str())));
    let again = server.create(&patient(), &newcomer, &row("r-1")).await.unwrap();
    assert_eq!(again, Created { existed: true, ..made.clone() });
    // The same value under another system is another identifier.
    let by = Matching::Identifier(Identifier { system: "urn:other".into(), value: "r-1".into() });
    assert_eq!(server.matching(&patient(), &by).await.unwrap().len(), 1);
    let other = server.create(&patient(), &somebody("x", "r-2"), &row("r-2")).await.unwrap();
    assert!(!other.existed && other.id != made.id);
}

async fn several_with_one_identifier_are_a_persons_to_judge(chart: impl Chart) {
    let server = chart.server();
    for name in ["p-1", "p-2"] {
        chart.put(name, somebody(name, "r-1"));
    }
    let fault = server.create(&patient(), &somebody("x", "r-1"), &row("r-1")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Permanent, Code::SeveralMatches));
    chart.delete("p-2");
    assert_eq!(server.create(&patient(), &somebody("x", "r-1"), &row("r-1")).await.unwrap().id, id("p-1"));
}

async fn candidates_share_birthday_and_name(chart: impl Chart) {
    let server = chart.server();
    let mut other_day = somebody("p-2", "r-2");
    other_day["birthDate"] = json!("1950-03-02");
    let mut other_name = somebody("p-3", "r-3");
    other_name["name"] = json!([{"family": "T\u{e9}stpatients"}]);
    for (name, resource) in [("p-1", somebody("p-1", "r-1")), ("p-2", other_day), ("p-3", other_name)] {
        chart.put(name, resource);
    }
    let by = Matching::Birth { day: date(1950, 3, 1), family: "T\u{c9}STPATIENT".into() };
    let found = server.matching(&patient(), &by).await.unwrap();
    assert_eq!(found.iter().map(|found| found.id.as_str()).collect::<Vec<_>>(), ["p-1"]);
    assert!(!found[0].version.is_empty() && found[0].json["birthDate"] == "1950-03-01");
}
