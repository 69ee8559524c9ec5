//! Benchmark 4: events synced per second by 1, 2 and 4 stations that share the work, each a process of its own, with 40 ms added each
//! way to every call to the chart system, to FileMaker and to AWS, beside a worker of the old kind in the same run: one message at a
//! time, seven serial calls. And what that costs: requests to AWS for each event, counted at the wire by a proxy and by the adapter.
//!
//! AWS is the emulator MiniStack, which answers on one core; the added time is AWS's distance. An event is a change of a patient's
//! resource, hinted in the queue; it is synced when FileMaker has accepted the edit. Each station has its own two FileMaker sessions,
//! which bound it: `sessions / (2 x 80 ms)`.
//!
//! `cargo xtask bench --only shared`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

#[path = "../tests/real/aws/rig.rs"]
mod emulator;
#[path = "../tests/contract/proxy.rs"]
mod proxy;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    process::{ExitCode, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use chart_relay::adapters::{
    aws::{
        AccessKey, Account, Options,
        sqs::{self, SqsQueue},
    },
    clock::SystemClock,
    secret::Secret,
};
use engine::{
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, ResourceId, ResourceType},
    ports::{Message, Queue as _},
};
use jiff::Timestamp;
use proxy::{Proxy, Weather};
use serde_json::{Value as Json, json};
use simulators::{
    fhir::{self, FhirServer},
    filemaker::{Clinic, FileMaker, Route},
    synthetic::Generator,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// There and back.
const DELAY: Duration = Duration::from_millis(80);
const ROUND_TRIPS: f64 = 2.0;
const SESSIONS: usize = 2;
const RUNS: usize = 8;
const STATIONS: [usize; 3] = [1, 2, 4];
const EVENTS_PER_STATION: usize = 150;
const BASELINE_EVENTS: usize = 15;
/// Of what the sessions allow.
const TARGET_SHARE: f64 = 0.7;
const PASSPHRASE: &str = "synthetic passphrase";

struct Bench {
    fhir: FhirServer,
    filemaker: FileMaker,
    patients: Vec<Json>,
    proxy: Proxy,
    name: String,
}

impl Bench {
    async fn start(patients: usize, name: &str) -> Self {
        let options = fhir::Options { client_secret: "synthetic".into(), ..fhir::Options::default() };
        let fhir = FhirServer::start(options).await.unwrap();
        let filemaker = FileMaker::start(Clinic::synthetic("relay", "synthetic")).await.unwrap();
        let mut generator = Generator::new(7);
        let patients: Vec<_> = (0..patients).map(|_| generator.patient()).collect();
        for patient in &patients {
            fhir.control().put(patient.clone()).unwrap();
        }
        let proxy = Proxy::start(emulator::ministack()).await;
        Self { fhir, filemaker, patients, proxy, name: name.to_owned() }
    }

    fn delay(&self, delay: Duration) {
        self.filemaker.control().latency(delay);
        self.fhir.control().configure(|behaviour| behaviour.latency = delay);
        let slow = Weather::Slow(delay.as_millis() as u64);
        self.proxy.weather(if delay.is_zero() { Weather::Fair } else { slow });
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

    fn config(&self, station: &str) -> String {
        format!(
            r#"
            [station]
            id = "{station}"
            data-directory = "data"
            [engine]
            runs = {RUNS}
            [shared]
            region = "us-east-1"
            endpoint = "{}"
            queue = "{name}"
            prefix = "{name}"
            access-key-id = "synthetic"
            secret = "aws"
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
            sessions = {SESSIONS}
            [[firm.mapping]]
            use = "patient"
            "#,
            self.proxy.address,
            self.fhir.base_url(),
            self.fhir.token_url(),
            self.filemaker.base_url(),
            name = self.name,
        )
    }

    async fn queue(&self) -> SqsQueue {
        let access_key = AccessKey { id: "synthetic".into(), secret: Secret::new("synthetic") };
        let (region, endpoint) = (Some("us-east-1".to_owned()), Some(self.proxy.address.clone()));
        let account = Account::new(Options { region, endpoint, access_key: Some(Arc::new(access_key)) }).await;
        let url = sqs::find(&account, &self.name).await.unwrap();
        let visibility = Duration::from_secs(60);
        let options = sqs::Options { url, visibility, figures_every: Duration::ZERO };
        SqsQueue::new(&account, options, Arc::new(SystemClock::new()))
    }

    fn hints(&self) -> Vec<Message> {
        self.patients
            .iter()
            .map(|resource| {
                let hint = Hint {
                    firm: FirmId::new("bench").unwrap(),
                    resource: ResourceType::new("Patient").unwrap(),
                    subject: Subject::Resource(ResourceId::new(resource["id"].as_str().unwrap()).unwrap()),
                    origin: Origin::Push,
                    at: Timestamp::now(),
                };
                let id = format!("{:032x}", rand::random::<u128>());
                Message { id, group: hint.key().to_string(), body: hint::encode(vec![hint]) }
            })
            .collect()
    }
}

/// A station as it is installed.
struct Station(TempDir);

impl Station {
    fn new(bench: &Bench, id: &str, first: Option<&Station>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), bench.config(id)).unwrap();
        fs::write(folder.path().join("passphrase"), PASSPHRASE).unwrap();
        if let Some(first) = first {
            // The clinic key and the secrets; not the other computer's database and name.
            fs::create_dir(folder.path().join("data")).unwrap();
            for entry in fs::read_dir(first.0.path().join("data")).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if !name.starts_with("relay.") && name != "installation" && entry.path().is_file() {
                    fs::copy(entry.path(), folder.path().join("data").join(name)).unwrap();
                }
            }
        }
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chart-relay"));
        command
            .arg("--config")
            .arg(self.0.path().join("config.toml"))
            .args(arguments)
            .env("CHART_RELAY_PASSPHRASE_FILE", self.0.path().join("passphrase"))
            .env("CHART_RELAY_LOG", "warn")
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str], input: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let output: Output = self.command(arguments).stdin(file).output().await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn start(&self) -> Child {
        let said = File::create(self.0.path().join("said")).unwrap();
        self.command(&["run"]).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap()
    }

    /// Waits until the relay says so.
    async fn status(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let output = self.command(&["status"]).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.contains(words) {
                return said;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "it does not say \"{words}\" but: {said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

struct Measured {
    rate: f64,
    /// For each event, at the wire.
    requests: BTreeMap<String, f64>,
    /// What the adapters of the stations counted, in their own words.
    counted: Vec<String>,
}

async fn shared(stations: usize) -> Measured {
    let events = stations * EVENTS_PER_STATION;
    let bench = Bench::start(events, &format!("bench-{stations}")).await;
    let first = Station::new(&bench, "station-1", None);
    for (name, value) in [("bench", "synthetic\n"), ("aws", "synthetic\n")] {
        first.run(&["secret", "set", name], value).await;
    }
    first.run(&["provision"], "").await;
    first.run(&["doctor", "--write-probe", "--yes"], "").await;
    let mut all = vec![first];
    for number in 2..=stations {
        all.push(Station::new(&bench, &format!("station-{number}"), Some(&all[0])));
    }
    let mut running: Vec<Child> = all.iter().map(Station::start).collect();
    // All rows are there and all sessions warm before anything is timed.
    until(|| bench.filemaker.control().count("Patient") >= events).await;
    let queue = bench.queue().await;
    queue.send(bench.hints()).await.unwrap();
    for station in &all {
        station.status("Up to date").await;
    }
    let before = bench.edits();
    bench.change_all();
    bench.delay(DELAY);
    bench.proxy.reset();
    let begun = Instant::now();
    queue.send(bench.hints()).await.unwrap();
    until(|| bench.edits() - before >= events as u64).await;
    let took = begun.elapsed();
    bench.delay(Duration::ZERO);
    // What was done for these events and is not acknowledged yet.
    let mut counted = Vec::new();
    for station in &all {
        let said = station.status("Up to date").await;
        counted.extend(said.lines().filter(|line| line.contains("AWS for each")).map(|line| line.trim().to_owned()));
    }
    let requests = bench.proxy.requests();
    for one in &mut running {
        one.kill().await.unwrap();
    }
    let each = |count: &u32| f64::from(*count) / events as f64;
    Measured {
        rate: events as f64 / took.as_secs_f64(),
        requests: requests.iter().map(|(name, count)| (name.clone(), each(count))).collect(),
        counted,
    }
}

/// One message at a time: receive, lock, read, sign in, create, unlock, delete. The calls to the chart system and to FileMaker are
/// real; those to queue and lock table are the time that is added to every call.
async fn baseline() -> f64 {
    let bench = Bench::start(BASELINE_EVENTS, "baseline").await;
    bench.delay(DELAY);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let form = [("grant_type", "client_credentials"), ("client_id", "chart-relay"), ("client_secret", "synthetic")];
    let token: Json = http.post(bench.fhir.token_url()).form(&form).send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap().to_owned();
    let root = format!("{}/fmi/data/v2/databases/Clinic", bench.filemaker.base_url().trim_end_matches('/'));
    let begun = Instant::now();
    for patient in &bench.patients {
        tokio::time::sleep(DELAY).await; // receive
        tokio::time::sleep(DELAY).await; // lock
        let url = format!("{}/Patient/{}", bench.fhir.base_url(), patient["id"].as_str().unwrap());
        let read: Json = http.get(url).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
        let session = http.post(format!("{root}/sessions")).basic_auth("relay", Some("synthetic")).json(&json!({}));
        let session = session.send().await.unwrap();
        let session = session.headers()["X-FM-Data-Access-Token"].to_str().unwrap().to_owned();
        let body = json!({ "fieldData": { "FhirId": read["id"], "LastName": read["name"][0]["family"] } });
        let create = http.post(format!("{root}/layouts/API_Patient/records")).bearer_auth(session).json(&body);
        assert!(create.send().await.unwrap().status().is_success());
        tokio::time::sleep(DELAY).await; // unlock
        tokio::time::sleep(DELAY).await; // delete
    }
    BASELINE_EVENTS as f64 / begun.elapsed().as_secs_f64()
}

async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing more arrives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    println!(
        "Benchmark 4: events synced per second by stations that share the work, 40 ms added each way to every call"
    );
    let baseline = baseline().await;
    println!("baseline, one message at a time with seven serial calls   {baseline:>7.2} /s");
    let mut missed = false;
    for stations in STATIONS {
        let measured = shared(stations).await;
        let bound = (stations * SESSIONS) as f64 / (ROUND_TRIPS * DELAY.as_secs_f64());
        let share = measured.rate / bound;
        missed |= share < TARGET_SHARE;
        println!(
            "{stations} stations   {:>7.2} /s   {share:.2} of the bound {bound:.1} /s   {:>5.1} x the baseline",
            measured.rate,
            measured.rate / baseline
        );
        let requests: Vec<_> = measured.requests.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
        println!("           at the wire, for each event: {}", requests.join(", "));
        for line in measured.counted {
            println!("           {line}");
        }
    }
    println!("target: {TARGET_SHARE} of the bound at each: {}", if missed { "MISSED" } else { "met" });
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
