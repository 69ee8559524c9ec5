//! The program as it is installed: its commands, a process that is killed again and again, an audit log that was tampered with.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use chart_relay::{
    adapters::{
        clock::SystemClock,
        secrets::{Memory, SealedFile},
    },
    clinic_key,
    compare::Comparison,
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    wiring::{Connected, DATABASE},
};
use engine::{
    keys::{ClinicKey, Purpose},
    ports::Clock,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use simulators::filemaker::{self, FileMaker};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::rig::{ACCOUNT, Chart, ChartSystem, PATIENCE, SECRET, doubled, until, writes};

const PASSPHRASE: &str = "synthetic passphrase of a test";

/// An installation: a chart system, FileMaker, a folder with the configuration, the passphrase and the data.
pub(crate) struct Installation {
    pub(crate) chart: ChartSystem,
    pub(crate) server: FileMaker,
    pub(crate) folder: TempDir,
}

impl Installation {
    pub(crate) async fn with(patients: usize, seed: u64, station: &str) -> Self {
        let chart = ChartSystem::with(patients, seed).await;
        let server = FileMaker::start(filemaker::Clinic::synthetic(ACCOUNT, SECRET)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let station = format!("data-directory = \"data\"\n{station}");
        let text = Chart::of(&chart.server).config(&server.base_url(), &station);
        fs::write(folder.path().join("config.toml"), text).unwrap();
        fs::write(folder.path().join("passphrase"), PASSPHRASE).unwrap();
        Self { chart, server, folder }
    }

    /// With its secrets set and its keys proven.
    pub(crate) async fn ready(patients: usize, seed: u64, station: &str) -> Self {
        let this = Self::with(patients, seed, station).await;
        this.set_secrets().await;
        assert_said(&this.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
        this
    }

    async fn set_secrets(&self) {
        for name in ["north-fhir", "north-filemaker"] {
            let output = self.run_with_input(&["secret", "set", name], &format!("{SECRET}\n")).await;
            assert_said(&output, &format!("\"{name}\" is set."));
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn filemaker(&self) -> filemaker::Control {
        self.server.control()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chart-relay"));
        command
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .args(arguments)
            .env("CHART_RELAY_PASSPHRASE_FILE", self.folder.path().join("passphrase"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("CHART_RELAY_LOG")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        finished(self.command(arguments)).await
    }

    async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut command = self.command(arguments);
        command.stdin(file);
        finished(command).await
    }

    /// `run` in the background; what it says goes into a file.
    pub(crate) fn start(&self) -> Child {
        let said = File::options().create(true).append(true).open(self.folder.path().join("said")).unwrap();
        let mut command = self.command(&["run"]);
        command.stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap()
    }

    /// Waits until the running relay says so.
    pub(crate) async fn status(&self, words: &str) {
        until(&format!("the status says \"{words}\""), async || {
            said(&self.run(&["status"]).await).contains(words).then_some(())
        })
        .await;
    }

    /// Reads both sides by itself and waits until all is there, once, and the relay says so.
    pub(crate) async fn all_arrived(&self) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let secrets = Memory::new();
        for name in ["north-fhir", "north-filemaker"] {
            secrets.set(&SecretName::parse(name).unwrap(), Secret::new(SECRET)).await.unwrap();
        }
        let config = Config::read(&self.folder.path().join("config.toml")).unwrap();
        let connected = Connected::all(&config, &secrets, &clock).await.unwrap().remove(0);
        until("everything has arrived", async || {
            let compared = Comparison::of(&connected, self.chart.resources()).await;
            compared.is_ok_and(|compared| compared.all_arrived() && compared.expected > 0).then_some(())
        })
        .await;
        self.status("Up to date").await;
        // What was on its way has come to rest: it still is so.
        let compared = Comparison::of(&connected, self.chart.resources()).await.unwrap();
        assert!(compared.all_arrived(), "{compared:?}");
        assert_eq!(doubled(&self.filemaker()), Vec::<String>::new());
        connected.filemaker.close().await;
    }

    pub(crate) async fn stop(&self, mut relay: Child) {
        assert_said(&self.run(&["stop"]).await, "Done.");
        let ended = tokio::time::timeout(PATIENCE, relay.wait()).await.expect("the relay ends when told to");
        assert!(ended.unwrap().success());
    }

    pub(crate) async fn key(&self) -> ClinicKey {
        let sealed = SealedFile::new(self.data().join("secrets.sealed"), Secret::new(PASSPHRASE));
        clinic_key::read(&sealed, &self.data()).await.unwrap().unwrap()
    }
}

async fn finished(mut command: Command) -> Output {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("it does not end: {command:?}")).unwrap()
}

/// Both streams.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn assert_said(output: &Output, words: &str) {
    assert!(output.status.success() && said(output).contains(words), "not \"{words}\" but: {}", said(output));
}

/// Failed with an exit code (not a signal, not a panic), and said why.
#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let said = said(output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {said}", output.status);
    assert!(said.contains(words), "not \"{words}\" but: {said}");
    assert!(!said.contains("panicked") && !said.contains("a part of the program failed"), "{said}");
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(listing(&path));
        }
        names.push(path.display().to_string());
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_whole_and_starts_nothing() {
    let installation = Installation::with(1, 20, "").await;
    let file = installation.folder.path().join("config.toml");
    let right = fs::read_to_string(&file).unwrap();
    let wrong = right
        .replace("sessions = 4", "sessions = 4000")
        .replace("lease-term = \"10s\"", "lease-term = \"ten\"")
        .replace("use = \"progress-note\"", "use = \"progess-note\"")
        .replace("America/New_York", "America/Nowhere");
    fs::write(&file, wrong).unwrap();
    let before = listing(installation.folder.path());
    for command in [&["run"][..], &["status"], &["doctor"], &["secret", "list"], &["audit", "verify"], &["config"]] {
        let output = installation.run(command).await;
        assert_refused(&output, "There are 4 things to put right");
        for setting in ["firm.filemaker.sessions", "engine.lease-term", "firm.mapping.use", "firm.time-zone"] {
            assert!(said(&output).contains(setting), "{setting}: {}", said(&output));
        }
    }
    fs::remove_file(&file).unwrap();
    assert_refused(&installation.run(&["run"]).await, "There is no configuration at");
    let after = listing(installation.folder.path());
    assert_eq!(after, before.into_iter().filter(|name| !name.ends_with("config.toml")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_what_they_say() {
    let mut installation = Installation::with(4, 21, "").await;
    let filemaker = installation.filemaker();

    // Before anything is set up.
    assert_refused(&installation.run(&["status"]).await, "no relay is running");
    assert_refused(&installation.run(&["run"]).await, "north-fhir");
    assert!(!installation.data().join(DATABASE).exists(), "a relay without secrets has begun");
    assert_refused(&installation.run_with_input(&["secret", "set", "north-fhir"], "").await, "was empty");
    installation.set_secrets().await;
    let sealed = fs::read(installation.data().join("secrets.sealed")).unwrap();
    assert_said(&installation.run(&["secret", "list"]).await, "set      north-filemaker");

    // A wrong passphrase opens nothing and spoils nothing.
    let passphrase = installation.folder.path().join("passphrase");
    fs::write(&passphrase, "another synthetic passphrase").unwrap();
    for command in [&["run"][..], &["secret", "list"], &["doctor"], &["secret", "delete", "north-fhir"]] {
        assert_refused(&installation.run(command).await, "passphrase");
    }
    fs::write(&passphrase, PASSPHRASE).unwrap();
    assert_eq!(fs::read(installation.data().join("secrets.sealed")).unwrap(), sealed);
    assert!(!installation.data().join(DATABASE).exists());

    // Looking writes nothing; trying writes by consent and leaves nothing behind.
    assert_said(&installation.run(&["doctor"]).await, "Everything works.");
    assert_eq!(writes(&filemaker), 0);
    assert_refused(&installation.run(&["doctor", "--write-probe"]).await, "consent");
    assert_eq!(writes(&filemaker), 0);
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    assert!(writes(&filemaker) > 0);
    assert!(crate::rig::TABLES.iter().all(|table| filemaker.count(table) == 0), "a probe was left behind");

    let relay = installation.start();
    installation.all_arrived().await;
    for command in ["queue", "dead", "remarks"] {
        assert_said(&installation.run(&[command]).await, "Nothing.");
    }
    // The change lists are walked under a lease now and then.
    assert_said(&installation.run(&["locks"]).await, "");
    assert_refused(&installation.run(&["run"]).await, "a relay is running on this data directory already");
    installation.status("Up to date").await;

    // Keys that nobody knows are not made known by asking for them.
    for key in ["synthetic-north/link/Patient/nobody", "elsewhere/link/Patient/synthetic-patient-0001"] {
        assert_refused(&installation.run(&["retry", key]).await, key);
        assert_refused(&installation.run(&["set-aside", key]).await, key);
    }
    assert_refused(&installation.run(&["retry", "nonsense"]).await, "north/link/Patient/123");
    assert_refused(&installation.run(&["drop-letters", "nothing"]).await, "nothing");
    assert_said(&installation.run(&["retry", "synthetic-north/link/Patient/synthetic-patient-0001"]).await, "Done.");
    assert_said(&installation.run(&["dead"]).await, "Nothing.");

    // A pause holds everything back but what a person asks for.
    assert_said(&installation.run(&["pause", "15min"]).await, "Done.");
    installation.status("Paused until").await;
    filemaker.reset_counts();
    let id = installation.chart.control().ids("Patient").remove(0);
    installation.chart.change("Patient", &id);
    installation.status("Paused until").await;
    assert_eq!(writes(&filemaker), 0, "a paused relay wrote");
    assert_said(&installation.run(&["sync-now"]).await, "Done.");
    until("one pass was made", async || (writes(&filemaker) == 1).then_some(())).await;
    installation.status("Paused until").await;
    installation.chart.change("Patient", &id);
    assert_said(&installation.run(&["resume"]).await, "Done.");
    installation.all_arrived().await;

    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
    let audit = said(&installation.run(&["audit", "list", "--limit", "500"]).await);
    for asked in ["[pause]", "[sync-now]", "[resume]", "[retry]", "CreateRow", "EditRow"] {
        assert!(audit.contains(asked), "{asked} is not in:\n{audit}");
    }
    installation.stop(relay).await;
    assert_refused(&installation.run(&["status"]).await, "no relay is running");
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_audit_entry_is_named() {
    let installation = Installation::ready(2, 22, "").await;
    let relay = installation.start();
    installation.all_arrived().await;
    installation.stop(relay).await;
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");

    let database = installation.data().join(DATABASE);
    let key = installation.key().await.derive(Purpose::Database);
    let hex: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let options = SqliteConnectOptions::new().filename(&database).pragma("key", format!("\"x'{hex}'\""));
    let mut connection = options.connect().await.unwrap();
    let id: i64 = sqlx::query_scalar("SELECT min(id) FROM audit WHERE entry LIKE '%create-row%' AND id > 2")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql("DROP TRIGGER audit_not_changed").execute(&mut connection).await.unwrap();
    let altered = sqlx::query("UPDATE audit SET entry = replace(entry, 'create-row', 'edit-row') WHERE id = ?1");
    assert_eq!(altered.bind(id).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();

    let output = installation.run(&["audit", "verify"]).await;
    assert_refused(&output, &format!("entry {id} does not follow from the one before it"));
    assert_refused(&output, "The audit log is NOT intact");
    assert_eq!(output.status.code(), Some(1));
    // The running relay finds it too.
    let relay = installation.start();
    installation.status("Up to date").await;
    assert_refused(&installation.run(&["audit", "verify"]).await, &format!("entry {id} does not follow"));
    installation.stop(relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const KILLS: u64 = 15;
    let mut installation = Installation::ready(6, 23, "").await;
    let filemaker = installation.filemaker();
    // Writes take long enough to be interrupted.
    filemaker.latency(Duration::from_millis(40));
    let mut chance = StdRng::seed_from_u64(23);
    let (mut killed_in_mid_write, mut begun) = (0, 0);
    for kill in 0..KILLS {
        let before = writes(&filemaker);
        let mut relay = installation.start();
        for _ in 0..3 {
            let ids = installation.chart.control().ids("Patient");
            installation.chart.change("Patient", &ids[chance.random_range(0..ids.len())]);
        }
        let new = installation.chart.generator.patient();
        let form = installation.chart.generator.form(&new, jiff::Timestamp::now());
        installation.chart.control().put(form).unwrap();
        installation.chart.control().put(new).unwrap();
        // Every third one dies at any moment of its start, the others once they have begun to write.
        let moment = Duration::from_millis(if kill % 3 == 0 {
            chance.random_range(0..1_500)
        } else {
            until("it writes again", async || (writes(&filemaker) > before).then_some(())).await;
            begun += 1;
            chance.random_range(0..150)
        });
        tokio::time::sleep(moment).await;
        killed_in_mid_write += u32::from(filemaker.counts().in_flight > 0);
        relay.kill().await.unwrap();
    }
    filemaker.latency(Duration::ZERO);
    let relay = installation.start();
    installation.all_arrived().await;
    let audit = said(&installation.run(&["audit", "list", "--limit", "10000"]).await);
    let interrupted = audit.lines().filter(|line| line.ends_with("Interrupted")).count();
    let open = audit.lines().filter(|line| line.ends_with("open")).count();
    println!(
        "{KILLS} kills, {begun} while it wrote, {killed_in_mid_write} in mid call, {interrupted} entries interrupted"
    );
    assert!(interrupted > 0, "no write was interrupted: the test proves little");
    assert_eq!(open, 0, "{audit}");
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    installation.stop(relay).await;
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chart-relay"));
    command.args(["demo", "--for", "20s", "--patients", "6"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(160), command.output()).await.expect("it ends").unwrap();
    assert_said(&output, "records arrived as entered, 0 doubled, 0 need a person");
    assert_said(&output, "audit log: unaltered, verified");
}
