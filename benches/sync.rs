//! Benchmark 2: events synced per second, end to end over real HTTP with 40 ms added to every call, at 1, 2, 8 and 16 FileMaker
//! sessions and at the shipped default, beside a worker of the old kind in the same run: one message at a time, seven serial calls.
//!
//! An event is a change of a patient's resource, hinted in the queue; it is synced when FileMaker has accepted the edit. A sync of
//! one takes two round trips to FileMaker (find, guarded edit), which its sessions bound: `sessions / (2 x 40 ms)`; the read of the
//! resource runs beside the find.
//!
//! `cargo bench --bench sync`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use chart_relay::{
    adapters::{clock::SystemClock, secrets::Memory},
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    wiring::{Connected, Relay},
};
use engine::{
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, RecordKey, ResourceId, ResourceType},
    keys::ClinicKey,
    ports::{Clock, Message},
    proof,
};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use simulators::{
    fhir::{self, FhirServer},
    filemaker::{Clinic, FileMaker, Route},
    synthetic::Generator,
};

const DELAY: Duration = Duration::from_millis(40);
/// Round trips to FileMaker for one event.
const ROUND_TRIPS: f64 = 2.0;
const SESSIONS: [usize; 4] = [1, 2, 8, 16];
const SHIPPED_SESSIONS: usize = 2;
const SHIPPED_RUNS: usize = 8;
/// Events for each session: some ten seconds of work.
const EVENTS_PER_SESSION: usize = 100;
const BASELINE_EVENTS: usize = 20;
/// Of what the sessions allow.
const TARGET_SHARE: f64 = 0.8;
/// At 16 sessions, of the baseline.
const TARGET_TIMES: f64 = 50.0;

struct Bench {
    fhir: FhirServer,
    filemaker: FileMaker,
    patients: Vec<Json>,
}

impl Bench {
    async fn start(patients: usize) -> Self {
        let options = fhir::Options { client_secret: "synthetic".into(), ..fhir::Options::default() };
        let fhir = FhirServer::start(options).await.unwrap();
        let filemaker = FileMaker::start(Clinic::synthetic("relay", "synthetic")).await.unwrap();
        let mut generator = Generator::new(7);
        let patients: Vec<_> = (0..patients).map(|_| generator.patient()).collect();
        for patient in &patients {
            fhir.control().put(patient.clone()).unwrap();
        }
        Self { fhir, filemaker, patients }
    }

    fn delay(&self, delay: Duration) {
        self.filemaker.control().latency(delay);
        self.fhir.control().configure(|behaviour| behaviour.latency = delay);
    }

    fn edits(&self) -> u64 {
        self.filemaker.control().counts().of(Route::Edit)
    }

    /// Every patient moves house.
    fn change_all(&self) {
        for patient in &self.patients {
            let mut changed = patient.clone();
            changed["address"][0]["city"] = json!("Synthetic Falls");
            self.fhir.control().put(changed).unwrap();
        }
    }
}

fn config(bench: &Bench, sessions: usize, runs: usize) -> Config {
    let text = format!(
        r#"
        [station]
        id = "bench"
        [engine]
        runs = {runs}
        [[firm]]
        id = "bench"
        name = "Synthetic benchmark"
        time-zone = "UTC"
        [firm.fhir]
        base-url = "{}"
        token-url = "{}"
        client-id = "chart-relay"
        secret = "bench"
        poll-every = "4min"
        [firm.filemaker]
        url = "{}"
        database = "Clinic"
        account = "relay"
        password = "bench"
        sessions = {sessions}
        [[firm.mapping]]
        use = "patient"
        "#,
        bench.fhir.base_url(),
        bench.fhir.token_url(),
        bench.filemaker.base_url()
    );
    Config::parse(&text, Path::new("")).expect("the configuration above is right")
}

async fn relay_rate(sessions: usize, runs: usize) -> f64 {
    let events = sessions * EVENTS_PER_SESSION;
    let bench = Bench::start(events).await;
    let config = config(&bench, sessions, runs);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let secrets = Memory::new();
    secrets.set(&SecretName::parse("bench").unwrap(), Secret::new("synthetic")).await.unwrap();
    let connected = Connected::all(&config, &secrets, &clock).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let key = ClinicKey::generate();
    let relay = Relay::start(&config, data.path(), &key, &connected, clock).await.unwrap();
    let firm = FirmId::new("bench").unwrap();
    let patient = ResourceType::new("Patient").unwrap();
    let table = &connected[0].config.mapping.resources[&patient].table;
    let owner = chart_relay::wiring::command_owner(&config.station.id);
    let proven = RecordKey::proof(firm.clone(), patient.clone());
    let term = Duration::from_secs(30);
    proof::note(&*relay.database.ledger(), &proven, table, owner, term, Timestamp::now()).await.unwrap();
    // All rows are there and all sessions warm before anything is timed.
    let hints = |_: ()| -> Vec<Message> {
        bench
            .patients
            .iter()
            .map(|resource| {
                let id = ResourceId::new(resource["id"].as_str().unwrap()).unwrap();
                let hint = Hint {
                    firm: firm.clone(),
                    resource: patient.clone(),
                    subject: Subject::Resource(id),
                    origin: Origin::Push,
                    at: Timestamp::now(),
                };
                let id = format!("{:032x}", rand::random::<u128>());
                Message { id, group: hint.key().to_string(), body: hint::encode(vec![hint]) }
            })
            .collect()
    };
    relay.database.queue().send(hints(())).await.unwrap();
    until(|| bench.filemaker.control().count("Patient") == events).await;
    // What the first poll hinted as well is over: it would edit rows before anything is counted.
    let mut snapshots = relay.handle().snapshots();
    loop {
        snapshots.changed().await.unwrap();
        let snapshot = snapshots.borrow_and_update();
        if snapshot.queue_waiting + snapshot.queue_in_flight + snapshot.wanted == 0 && snapshot.running.is_empty() {
            break;
        }
    }
    let before = bench.edits();
    bench.change_all();
    bench.delay(DELAY);
    let begun = Instant::now();
    relay.database.queue().send(hints(())).await.unwrap();
    until(|| bench.edits() - before >= events as u64).await;
    let took = begun.elapsed();
    bench.delay(Duration::ZERO);
    relay.handle().stop();
    relay.ended().await.unwrap();
    events as f64 / took.as_secs_f64()
}

/// One message at a time: receive, lock, read, sign in, create, unlock, delete. The calls to the chart system and to FileMaker are
/// real; those to queue and lock table are their 40 ms.
async fn baseline_rate() -> f64 {
    let bench = Bench::start(BASELINE_EVENTS).await;
    bench.delay(DELAY);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let token: Json = http
        .post(bench.fhir.token_url())
        .form(&[("grant_type", "client_credentials"), ("client_id", "chart-relay"), ("client_secret", "synthetic")])
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = token["access_token"].as_str().unwrap().to_owned();
    let root = format!("{}/fmi/data/v2/databases/Clinic", bench.filemaker.base_url().trim_end_matches('/'));
    let begun = Instant::now();
    for patient in &bench.patients {
        tokio::time::sleep(DELAY).await; // receive
        tokio::time::sleep(DELAY).await; // lock
        let url = format!("{}/Patient/{}", bench.fhir.base_url(), patient["id"].as_str().unwrap());
        let read: Json = http.get(url).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
        let session = http
            .post(format!("{root}/sessions"))
            .basic_auth("relay", Some("synthetic"))
            .json(&json!({}))
            .send()
            .await
            .unwrap();
        let session = session.headers()["X-FM-Data-Access-Token"].to_str().unwrap().to_owned();
        let body = json!({ "fieldData": { "FhirId": read["id"], "LastName": read["name"][0]["family"] } });
        let created = http
            .post(format!("{root}/layouts/API_Patient/records"))
            .bearer_auth(session)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(created.status().is_success());
        tokio::time::sleep(DELAY).await; // unlock
        tokio::time::sleep(DELAY).await; // delete
    }
    BASELINE_EVENTS as f64 / begun.elapsed().as_secs_f64()
}

/// Polls a counter of the simulator; the answer is at most 2 ms late.
async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing more arrives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    println!("Benchmark 2: events synced per second, 40 ms added to every call");
    let baseline = baseline_rate().await;
    println!("baseline, one message at a time with seven serial calls   {baseline:>7.2} /s");
    let mut missed = false;
    let mut at_16 = 0.0;
    for sessions in SESSIONS {
        let rate = relay_rate(sessions, (sessions * 4).max(SHIPPED_RUNS)).await;
        let bound = sessions as f64 / (ROUND_TRIPS * DELAY.as_secs_f64());
        let share = rate / bound;
        let times = rate / baseline;
        missed |= share < TARGET_SHARE;
        at_16 = times;
        println!(
            "{sessions:>2} sessions   {rate:>7.2} /s   {share:.2} of the bound {bound:.1} /s   {times:>5.1} x the baseline"
        );
    }
    let rate = relay_rate(SHIPPED_SESSIONS, SHIPPED_RUNS).await;
    println!(
        "shipped default ({SHIPPED_SESSIONS} sessions, {SHIPPED_RUNS} runs)   {rate:>7.2} /s   {:.1} x the baseline",
        rate / baseline
    );
    missed |= at_16 < TARGET_TIMES;
    println!(
        "targets: {TARGET_SHARE} of the bound at each, {TARGET_TIMES} x the baseline at 16: {}",
        if missed { "MISSED" } else { "met" }
    );
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
