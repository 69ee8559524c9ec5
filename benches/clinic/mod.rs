//! What the benchmarks of throughput work on: a chart system and a FileMaker with one patient for each event, and the worker of the old
//! kind that they are compared with.

use std::time::{Duration, Instant};

use engine::{
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, ResourceId, ResourceType},
    ports::Message,
};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};
use simulators::{
    fhir::{self, FhirServer},
    filemaker::{self, FileMaker, Route},
    synthetic::Generator,
};

/// The id of the firm, and the name of its secrets.
pub const FIRM: &str = "bench";
pub const SECRET: &str = "synthetic";

/// An event is a change of one patient.
pub struct Clinic {
    pub fhir: FhirServer,
    pub filemaker: FileMaker,
    pub patients: Vec<Json>,
}

impl Clinic {
    pub async fn start(patients: usize) -> Self {
        let options = fhir::Options { client_secret: SECRET.into(), ..fhir::Options::default() };
        let fhir = FhirServer::start(options).await.unwrap();
        let filemaker = FileMaker::start(filemaker::Clinic::synthetic("relay", SECRET)).await.unwrap();
        let mut generator = Generator::new(7);
        let patients: Vec<_> = (0..patients).map(|_| generator.patient()).collect();
        for patient in &patients {
            fhir.control().put(patient.clone()).unwrap();
        }
        Self { fhir, filemaker, patients }
    }

    /// To every call to one of the two.
    pub fn delay(&self, delay: Duration) {
        self.filemaker.control().latency(delay);
        self.fhir.control().configure(|behaviour| behaviour.latency = delay);
    }

    pub fn rows(&self) -> usize {
        self.filemaker.control().count("Patient")
    }

    pub fn edits(&self) -> u64 {
        self.filemaker.control().counts().of(Route::Edit)
    }

    /// Every patient moves house.
    pub fn change_all(&self) {
        for patient in &self.patients {
            let mut changed = patient.clone();
            changed["address"][0]["city"] = json!("Synthetic Falls");
            self.fhir.control().put(changed).unwrap();
        }
    }

    /// One for each patient.
    pub fn hints(&self) -> Vec<Message> {
        let hint = |patient: &Json| Hint {
            firm: FirmId::new(FIRM).unwrap(),
            resource: ResourceType::new("Patient").unwrap(),
            subject: Subject::Resource(ResourceId::new(patient["id"].as_str().unwrap()).unwrap()),
            origin: Origin::Push,
            at: Timestamp::now(),
        };
        let message = |hint: Hint| Message {
            id: format!("{:032x}", rand::random::<u128>()),
            group: hint.key().to_string(),
            body: hint::encode(vec![hint]),
        };
        self.patients.iter().map(hint).map(message).collect()
    }

    /// The firm's part of a configuration.
    pub fn config(&self, sessions: usize) -> String {
        format!(
            r#"
            [[firm]]
            id = "{FIRM}"
            name = "Synthetic benchmark"
            time-zone = "UTC"
            [firm.fhir]
            base-url = "{}"
            token-url = "{}"
            client-id = "chart-relay"
            secret = "{FIRM}"
            poll-every = "4min"
            [firm.filemaker]
            url = "{}"
            database = "Clinic"
            account = "relay"
            password = "{FIRM}"
            sessions = {sessions}
            [[firm.mapping]]
            use = "patient"
            "#,
            self.fhir.base_url(),
            self.fhir.token_url(),
            self.filemaker.base_url()
        )
    }
}

/// A program of the old kind: one call after the other.
pub struct Hand<'a> {
    clinic: &'a Clinic,
    http: reqwest::Client,
    token: String,
    root: String,
}

impl<'a> Hand<'a> {
    pub async fn on(clinic: &'a Clinic) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let form = [("grant_type", "client_credentials"), ("client_id", "chart-relay"), ("client_secret", SECRET)];
        let token: Json = http.post(clinic.fhir.token_url()).form(&form).send().await.unwrap().json().await.unwrap();
        let token = token["access_token"].as_str().unwrap().to_owned();
        let root = format!("{}/fmi/data/v2/databases/Clinic", clinic.filemaker.base_url().trim_end_matches('/'));
        Self { clinic, http, token, root }
    }

    pub async fn read(&self, id: &str) -> Json {
        let url = format!("{}/Patient/{id}", self.clinic.fhir.base_url());
        self.http.get(url).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap()
    }

    /// A session of FileMaker.
    pub async fn sign_in(&self) -> String {
        let session = self.http.post(format!("{}/sessions", self.root)).basic_auth("relay", Some(SECRET));
        let session = session.json(&json!({})).send().await.unwrap();
        session.headers()["X-FM-Data-Access-Token"].to_str().unwrap().to_owned()
    }

    pub async fn filemaker(&self, session: &str, method: Method, path: &str, body: &Json) -> Json {
        let url = format!("{}/layouts/API_Patient/{path}", self.root);
        let answer = self.http.request(method, url).bearer_auth(session).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }
}

/// What it writes of a resource.
pub fn row(resource: &Json) -> Json {
    json!({ "fieldData": { "FhirId": resource["id"], "LastName": resource["name"][0]["family"] } })
}

/// Events per second of a worker that takes one message at a time: receive, lock, read, sign in, create, unlock, delete. The calls to the
/// chart system and to FileMaker are real; those to queue and lock table are the time that is added to every call.
pub async fn one_at_a_time(events: usize, delay: Duration) -> f64 {
    let clinic = Clinic::start(events).await;
    clinic.delay(delay);
    let hand = Hand::on(&clinic).await;
    let begun = Instant::now();
    for patient in &clinic.patients {
        tokio::time::sleep(delay).await; // receive
        tokio::time::sleep(delay).await; // lock
        let read = hand.read(patient["id"].as_str().unwrap()).await;
        let session = hand.sign_in().await;
        hand.filemaker(&session, Method::POST, "records", &row(&read)).await;
        tokio::time::sleep(delay).await; // unlock
        tokio::time::sleep(delay).await; // delete
    }
    events as f64 / begun.elapsed().as_secs_f64()
}

/// Polls a counter of the simulators; the answer is at most 2 ms late.
pub async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing more arrives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
