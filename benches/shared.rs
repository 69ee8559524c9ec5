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

mod clinic;
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
use clinic::{Clinic, FIRM, SECRET, one_at_a_time, until};
use engine::ports::Queue as _;
use proxy::{Proxy, Weather};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// There and back.
const DELAY: Duration = Duration::from_millis(80);
const ROUND_TRIPS: f64 = 2.0;
const SESSIONS: usize = 2;
const STATIONS: [usize; 3] = [1, 2, 4];
const EVENTS_PER_STATION: usize = 150;
const BASELINE_EVENTS: usize = 15;
/// Of what the sessions allow.
const TARGET_SHARE: f64 = 0.7;
const PASSPHRASE: &str = "synthetic passphrase";

struct Bench {
    clinic: Clinic,
    proxy: Proxy,
    name: String,
}

impl Bench {
    async fn start(patients: usize, name: &str) -> Self {
        let clinic = Clinic::start(patients).await;
        let proxy = Proxy::start(emulator::ministack()).await;
        Self { clinic, proxy, name: name.to_owned() }
    }

    fn delay(&self, delay: Duration) {
        self.clinic.delay(delay);
        let slow = Weather::Slow(delay.as_millis() as u64);
        self.proxy.weather(if delay.is_zero() { Weather::Fair } else { slow });
    }

    fn config(&self, station: &str) -> String {
        format!(
            r#"
            [station]
            id = "{station}"
            data-directory = "data"
            [shared]
            region = "us-east-1"
            endpoint = "{}"
            queue = "{name}"
            prefix = "{name}"
            access-key-id = "synthetic"
            secret = "aws"
            {}"#,
            self.proxy.address,
            self.clinic.config(SESSIONS),
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
    for name in [FIRM, "aws"] {
        first.run(&["secret", "set", name], &format!("{SECRET}\n")).await;
    }
    first.run(&["provision"], "").await;
    first.run(&["doctor", "--write-probe", "--yes"], "").await;
    let mut all = vec![first];
    for number in 2..=stations {
        all.push(Station::new(&bench, &format!("station-{number}"), Some(&all[0])));
    }
    let mut running: Vec<Child> = all.iter().map(Station::start).collect();
    // All rows are there and all sessions warm before anything is timed.
    until(|| bench.clinic.rows() >= events).await;
    let queue = bench.queue().await;
    queue.send(bench.clinic.hints()).await.unwrap();
    for station in &all {
        station.status("Up to date").await;
    }
    let before = bench.clinic.edits();
    bench.clinic.change_all();
    bench.delay(DELAY);
    bench.proxy.reset();
    let begun = Instant::now();
    queue.send(bench.clinic.hints()).await.unwrap();
    until(|| bench.clinic.edits() - before >= events as u64).await;
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

#[tokio::main]
async fn main() -> ExitCode {
    println!(
        "Benchmark 4: events synced per second by stations that share the work, 40 ms added each way to every call"
    );
    let baseline = one_at_a_time(BASELINE_EVENTS, DELAY).await;
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
