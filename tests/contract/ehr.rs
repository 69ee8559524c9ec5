//! An EHR that announces nothing: what its lists promise, asked of each flavour's client over a simulated server. What only a wire can do
//! to a list is in `tests/fhir/ehr.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chart_relay::adapters::{
    aws::{self, AccessKey, Account},
    doctor::{Step, Verdict},
    fhir::{Credentials, EhrClient, EhrConfig, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::Fault as RelayFault,
    fakes::FakeClock,
    key::{ResourceId, ResourceType},
    ports::{Budget, Document, DocumentStatus, Ehr, Encounter, EncounterStatus, PageToken, Purpose, Reach, Said, Wish},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value as Json, json};
use simulators::{
    ehr::{EhrServer, FirmControl},
    fhir::{self, Behaviour, Canned, Fault, FhirServer, Interaction, Matching, Times, VersionIds},
};

use crate::at;

/// Counts what is asked for.
#[derive(Debug, Default)]
struct Meter {
    permits: AtomicU64,
    answers: AtomicU64,
}

#[async_trait]
impl Budget for Meter {
    async fn permit(&self, _purpose: Purpose) -> Result<(), RelayFault> {
        self.permits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn answered(&self, _said: Said) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

enum Server {
    R4(FhirServer),
    Ema(EhrServer, FirmControl),
}

struct World {
    server: Server,
    ehr: EhrClient,
    meter: Arc<Meter>,
}

impl World {
    fn new(server: Server, flavour: &'static Flavour, reach: Option<Reach>, base_url: String) -> Self {
        let credentials = Credentials::ClientSecret(Secret::new("synthetic-secret"));
        Self::signed_in(server, flavour, reach, base_url, None, credentials)
    }

    fn signed_in(
        server: Server,
        flavour: &'static Flavour,
        reach: Option<Reach>,
        base_url: String,
        sign_in: Option<SignIn>,
        credentials: Credentials,
    ) -> Self {
        let (token_url, client_id, secret, api_key) = match &server {
            Server::R4(server) => (server.token_url().to_owned(), "chart-relay", "synthetic-secret", None),
            Server::Ema(server, _) => {
                (server.token_url(), "relay-north", "synthetic-secret-north", Some(Secret::new("synthetic-key")))
            }
        };
        let sign_in = sign_in.unwrap_or(SignIn::ClientCredentials {
            token_url,
            client_id: client_id.into(),
            secret_in: SecretIn::Body,
            scope: None,
        });
        let credentials = match credentials {
            Credentials::ClientSecret(_) => Credentials::ClientSecret(Secret::new(secret)),
            other => other,
        };
        let config = EhrConfig {
            fhir: FhirConfig {
                base_url,
                flavour,
                sign_in,
                trust: Trust::System,
                timeout: Duration::from_secs(20),
                page: Some(10),
                probe: encounter(),
            },
            reach,
            categories: None,
            api_key,
            zone: TimeZone::UTC,
        };
        let meter = Arc::new(Meter::default());
        let ehr = EhrClient::new(config, credentials, meter.clone(), None, FakeClock::at(at(0))).unwrap();
        Self { server, ehr, meter }
    }

    async fn r4(flavour: &'static Flavour, reach: Option<Reach>, behaviour: Behaviour) -> Self {
        let options = fhir::Options { behaviour, ..fhir::Options::default() };
        let server = FhirServer::start(options).await.unwrap();
        let base_url = server.base_url().to_owned();
        Self::new(Server::R4(server), flavour, reach, base_url)
    }

    async fn generic() -> Self {
        Self::r4(&Flavour::GENERIC, None, Behaviour::default()).await
    }

    /// Without versions or order of its own, and with documents by encounters.
    async fn by_encounters() -> Self {
        let behaviour = Behaviour { totals: true, fraction: false, ..Behaviour::default() };
        Self::r4(&Flavour::GENERIC, Some(Reach::Encounters(20)), behaviour).await
    }

    async fn medplum() -> Self {
        let behaviour = Behaviour { version_ids: VersionIds::Opaque, ..Behaviour::default() };
        Self::r4(&Flavour::MEDPLUM, None, behaviour).await
    }

    /// Signed, and found a moment after it was written. That clock is years away from ours, so each world begins with a refusal.
    async fn healthlake() -> Self {
        let key = fhir::AwsKey::default();
        let server = FhirServer::start(fhir::Options::healthlake(key.clone())).await.unwrap();
        let access_key = AccessKey { id: key.id, secret: Secret::new(key.secret) };
        let options = aws::Options { access_key: Some(Arc::new(access_key)), ..aws::Options::default() };
        let account = Account::new(options).await;
        let base_url = server.base_url().to_owned();
        let sign_in = SignIn::Aws { region: key.region };
        let credentials = Credentials::Aws(Box::new(account));
        Self::signed_in(Server::R4(server), &Flavour::HEALTHLAKE, None, base_url, Some(sign_in), credentials)
    }

    async fn ema() -> Self {
        let server = EhrServer::start(simulators::ehr::Options::default()).await.unwrap();
        let (firm, base_url) = (server.control().firm("north"), server.base_url("north"));
        Self::new(Server::Ema(server, firm), &Flavour::EMA, None, base_url)
    }

    fn put(&self, resource: Json) {
        match &self.server {
            Server::R4(server) => drop(server.control().put(resource).unwrap()),
            Server::Ema(_, firm) => drop(firm.put(resource).unwrap()),
        }
    }

    fn put_stamped(&self, resource: Json, at: Timestamp) {
        match &self.server {
            Server::R4(server) => drop(server.control().put_stamped(resource, at).unwrap()),
            Server::Ema(_, firm) => drop(firm.put_stamped(resource, at).unwrap()),
        }
    }

    fn now(&self) -> Timestamp {
        match &self.server {
            Server::R4(server) => server.control().now(),
            Server::Ema(_, firm) => firm.now(),
        }
    }

    fn advance(&self, by: SignedDuration) {
        match &self.server {
            Server::R4(server) => server.control().advance(by),
            Server::Ema(server, _) => server.control().advance(by),
        }
    }

    /// All pages, each with one permit.
    async fn encounters(&self, since: Option<Timestamp>) -> Vec<Encounter> {
        self.settle();
        // Sign-ins at the EHR's own address count, too.
        self.ehr.probe().await.unwrap();
        let mut rows = Vec::new();
        let mut page: Option<PageToken> = None;
        loop {
            let before = self.meter.permits.load(Ordering::Relaxed);
            let list = self.ehr.encounters(since, page.as_ref(), Purpose::Poll).await.unwrap();
            assert_eq!(self.meter.permits.load(Ordering::Relaxed), before + 1, "one page is one request");
            assert_eq!(list.unusable + list.ahead, 0);
            assert!(list.server_time.is_some());
            rows.extend(list.rows);
            match list.next {
                Some(next) => page = Some(next),
                None => return rows,
            }
        }
    }

    /// Lets an index catch up that lags behind.
    fn settle(&self) {
        if self.ehr.manners().read_after {
            self.advance(SignedDuration::from_secs(4));
        }
    }

    async fn documents(&self, wish: &Wish) -> Vec<Document> {
        self.settle();
        let mut rows = Vec::new();
        for resource in self.ehr.manners().documents {
            let mut page: Option<PageToken> = None;
            loop {
                let list = self.ehr.documents(&resource, wish, page.as_ref(), Purpose::Poll).await.unwrap();
                assert_eq!(list.unusable + list.ahead, 0);
                rows.extend(list.rows);
                match list.next {
                    Some(next) => page = Some(next),
                    None => break,
                }
            }
        }
        rows
    }

    /// What is asked to find all documents of these encounters.
    fn wishes(&self, encounters: &[&str], patients: &[&str]) -> Vec<Wish> {
        match self.ehr.manners().reach {
            Reach::Firm => vec![Wish::Since(None)],
            Reach::Encounters(_) => vec![Wish::OfEncounters(encounters.iter().map(|name| id(name)).collect())],
            Reach::Patient => patients.iter().map(|name| Wish::OfPatient(id(name))).collect(),
        }
    }
}

macro_rules! flavours {
    ($($world:ident)* => $tests:tt) => { $(flavours!(@ $world $tests);)* };
    (@ $world:ident [$($test:ident)*]) => {
        mod $world {
            $(#[tokio::test]
            async fn $test() {
                Box::pin(super::$test(super::World::$world().await)).await;
            })*
        }
    };
}

flavours! { generic by_encounters medplum healthlake ema => [
    every_encounter_is_listed_once_and_what_changed_is_listed_again
    a_burst_in_one_second_is_listed_whole
    documents_are_found_with_what_sorts_them
    a_version_is_the_same_in_a_list_and_in_a_read_until_something_changes
    a_page_is_one_request_and_told_to_the_budget
    the_check_up_passes_and_says_what_is_amiss
] }

fn encounter() -> ResourceType {
    ResourceType::new("Encounter").unwrap()
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn visit(name: &str, status: &str) -> Json {
    json!({
        "resourceType": "Encounter", "id": name, "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": format!("Patient/p{name}"), "display": "SYNTHETIC"},
    })
}

fn photo(name: &str, encounter: &str, category: &str) -> Json {
    json!({
        "resourceType": "DocumentReference", "id": name, "status": "current",
        "category": [{"coding": [{"system": "http://example.org/categories", "code": category}], "text": "SYNTHETIC"}],
        "subject": {"reference": format!("Patient/p{encounter}")},
        "context": {"encounter": [{"reference": format!("Encounter/{encounter}")}]},
        "content": [{"attachment": {"contentType": "image/png", "url": format!("{name}.png"), "title": "SYNTHETIC"}}],
    })
}

async fn every_encounter_is_listed_once_and_what_changed_is_listed_again(world: World) {
    let statuses = [
        ("planned", EncounterStatus::Planned),
        ("triaged", EncounterStatus::Arrived),
        ("onleave", EncounterStatus::InProgress),
        ("finished", EncounterStatus::Finished),
        ("cancelled", EncounterStatus::Cancelled),
        ("entered-in-error", EncounterStatus::EnteredInError),
    ];
    for number in 0..37 {
        world.put(visit(&format!("e{number}"), statuses[number % statuses.len()].0));
        world.advance(SignedDuration::from_secs(1));
    }
    let listed = world.encounters(None).await;
    let names: BTreeSet<_> = listed.iter().map(|row| row.id.to_string()).collect();
    assert_eq!((listed.len(), names.len()), (37, 37));
    for row in &listed {
        let number: usize = row.id.as_str()[1..].parse().unwrap();
        assert_eq!(row.status, statuses[number % statuses.len()].1);
        assert_eq!(row.patient, Some(id(&format!("pe{number}"))));
    }
    // Two days later only what has changed since is listed, and with another version.
    world.advance(SignedDuration::from_hours(72));
    let since = world.now();
    world.advance(SignedDuration::from_secs(5));
    world.put(visit("e3", "in-progress"));
    world.put(visit("e99", "arrived"));
    let changed = world.encounters(Some(since)).await;
    let names: BTreeSet<_> = changed.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(names, ["e3", "e99"].into());
    let before: BTreeMap<_, _> = listed.iter().map(|row| (row.id.clone(), row)).collect();
    let row = changed.iter().find(|row| row.id.as_str() == "e3").unwrap();
    assert_ne!(row.version, before[&row.id].version);
    assert!(row.last_updated > before[&row.id].last_updated);
}

async fn a_burst_in_one_second_is_listed_whole(world: World) {
    let moment = world.now();
    for number in 0..45 {
        world.put_stamped(visit(&format!("e{number}"), "arrived"), moment);
    }
    world.advance(SignedDuration::from_secs(2));
    // A server that shows whole seconds shows this one before the moment.
    let listed = world.encounters(Some(moment - SignedDuration::from_secs(1))).await;
    let names: BTreeSet<_> = listed.iter().map(|row| &row.id).collect();
    assert_eq!((listed.len(), names.len()), (45, 45));
}

async fn documents_are_found_with_what_sorts_them(world: World) {
    for name in ["e1", "e2"] {
        world.put(visit(name, "in-progress"));
    }
    for number in 0..13 {
        world.put(photo(&format!("d{number}"), "e1", "lesion"));
    }
    world.put(photo("d20", "e2", "rash"));
    let mut withdrawn = photo("d21", "e2", "rash");
    withdrawn["status"] = json!("entered-in-error");
    world.put(withdrawn);
    let media = ResourceType::new("Media").unwrap();
    if world.ehr.manners().documents.contains(&media) {
        world.put(json!({
            "resourceType": "Media", "id": "m1", "status": "completed",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/media-type", "code": "image"}]},
            "modality": {"coding": [{"code": "photo"}]},
            "subject": {"reference": "Patient/pe2"}, "encounter": {"reference": "Encounter/e2"},
            "content": {"contentType": "image/jpeg", "url": "m1.jpg"},
        }));
    }
    let mut found = BTreeMap::new();
    for wish in world.wishes(&["e1", "e2"], &["pe1", "pe2"]) {
        for document in world.documents(&wish).await {
            let name = format!("{}/{}", document.resource, document.id);
            assert!(found.insert(name.clone(), document).is_none(), "{name} twice");
        }
    }
    let with_media = world.ehr.manners().documents.contains(&media);
    assert_eq!(found.len(), if with_media { 16 } else { 15 });
    let first = &found["DocumentReference/d0"];
    let codes = |document: &Document| document.categories.iter().map(|coding| coding.code.clone()).collect::<Vec<_>>();
    assert_eq!(codes(first), ["lesion"]);
    assert_eq!(first.categories[0].system, "http://example.org/categories");
    assert_eq!((first.encounters.clone(), first.patient.clone()), (vec![id("e1")], Some(id("pe1"))));
    assert_eq!(first.status, DocumentStatus::Current);
    assert!(first.last_updated.is_some());
    assert_eq!(found["DocumentReference/d21"].status, DocumentStatus::EnteredInError);
    if with_media {
        let media = &found["Media/m1"];
        assert_eq!(codes(media), ["image", "photo"]);
        assert_eq!((media.encounters.clone(), media.patient.clone()), (vec![id("e2")], Some(id("pe2"))));
        assert_eq!(media.content_type.as_deref(), Some("image/jpeg"));
    }
}

async fn a_version_is_the_same_in_a_list_and_in_a_read_until_something_changes(world: World) {
    let reference = ResourceType::new("DocumentReference").unwrap();
    world.put(visit("e1", "in-progress"));
    world.put(photo("d1", "e1", "lesion"));
    let wish = world.wishes(&["e1"], &["pe1"]).remove(0);
    let listed = async || world.documents(&wish).await.into_iter().find(|row| row.id.as_str() == "d1").unwrap();
    let read = async || world.ehr.document(&reference, &id("d1"), Purpose::Work).await.unwrap().unwrap();
    let first = listed().await;
    assert_eq!(first.version, listed().await.version);
    assert_eq!(first.version, read().await.version);
    assert_eq!(read().await.version, read().await.version);
    assert_eq!(read().await.content_type.as_deref(), Some("image/png"));
    world.advance(SignedDuration::from_secs(2));
    world.put(photo("d1", "e1", "rash"));
    let second = listed().await;
    assert_ne!(first.version, second.version);
    assert_eq!(second.version, read().await.version);
    assert_eq!(world.ehr.document(&reference, &id("nowhere"), Purpose::Work).await.unwrap(), None);
}

async fn a_page_is_one_request_and_told_to_the_budget(world: World) {
    world.ehr.probe().await.unwrap();
    world.ehr.encounters(None, None, Purpose::Person).await.unwrap();
    let permits = world.meter.permits.load(Ordering::Relaxed);
    assert_eq!(world.meter.answers.load(Ordering::Relaxed), permits);
    assert!(world.ehr.server_clock().is_some());
}

async fn the_check_up_passes_and_says_what_is_amiss(world: World) {
    let steps = world.ehr.diagnose().await;
    assert!(!steps.iter().any(Step::has_failed), "{steps:#?}");
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[..5], ["name", "TLS", "sign-in", "capability", "search Encounter"]);
    assert_eq!(names.len(), 5 + world.ehr.manners().documents.len());
    // Away: what rests on it is not tried.
    let page = Canned::Raw { status: 200, content_type: "text/html", body: "<html>SYNTHETIC</html>".into() };
    let (page, on, times) = (Fault::Answer(page), Matching::only(Interaction::Search), Times::Always);
    match &world.server {
        Server::R4(server) => drop(server.control().inject(page, on, times)),
        Server::Ema(server, _) => drop(server.control().inject(page, on, times)),
    }
    let steps = world.ehr.diagnose().await;
    let failed: Vec<_> = steps.iter().filter(|step| step.has_failed()).map(|step| step.name.as_str()).collect();
    assert_eq!(failed, ["sign-in"]);
    assert!(steps[3..].iter().all(|step| matches!(step.verdict, Verdict::Skipped(_))));
}

/// EMA's own: ids with bars, a firm's value set, and references to other firms.
#[tokio::test]
async fn ids_with_bars_are_read_and_foreign_references_are_not_taken_for_ours() {
    let world = World::ema().await;
    world.put(visit("7", "in-progress"));
    let mut file = photo("file|139977", "7", "100");
    file["context"]["encounter"] = json!([
        {"reference": "Encounter/7"}, {"reference": "http://elsewhere.example/ema-prod/firm/north/ema/fhir/v2/Encounter/8"},
    ]);
    world.put(file);
    // What stands for a bar cannot be an id of its own.
    world.put(photo("file.7C.1", "7", "100"));
    let list = world
        .ehr
        .documents(&ResourceType::new("DocumentReference").unwrap(), &Wish::OfPatient(id("p7")), None, Purpose::Poll)
        .await
        .unwrap();
    assert_eq!(list.unusable, 1);
    let [row] = list.rows.as_slice() else { panic!("{list:?}") };
    assert_eq!((row.id.as_str(), &row.encounters), ("file.7C.139977", &vec![id("7")]));
    let read = world.ehr.document(&row.resource, &row.id, Purpose::Work).await.unwrap().unwrap();
    assert_eq!((&read.id, &read.version), (&row.id, &row.version));
    let categories = world.ehr.categories(Purpose::Person).await.unwrap();
    let firm = simulators::ehr::Firm::synthetic("north", 0);
    let offered: Vec<_> = categories.iter().map(|one| (one.coding.code.clone(), one.display.clone())).collect();
    let expected: Vec<_> = firm.categories.into_iter().map(|(code, display)| (code, Some(display))).collect();
    assert_eq!(offered, expected);
    assert!(categories.iter().all(|one| !one.coding.system.is_empty()));
}
