//! The program as it is installed, between the two servers that it works with.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
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
    wiring::Connected,
};
use engine::{keys::ClinicKey, ports::Clock};
use simulators::filemaker::{self, FileMaker};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::rig::{Chart, ChartSystem, PATIENCE, SECRET, clinic, doubled, seen, until};

pub(crate) const PASSPHRASE: &str = "synthetic passphrase of a test";

/// An installation: a chart system, FileMaker, a folder with the configuration, the passphrase and the data.
pub(crate) struct Installation {
    pub(crate) chart: ChartSystem,
    pub(crate) server: FileMaker,
    pub(crate) folder: TempDir,
}

impl Installation {
    pub(crate) async fn with(patients: usize, seed: u64, station: &str) -> Self {
        let chart = ChartSystem::with(patients, seed).await;
        let server = FileMaker::start(clinic()).await.unwrap();
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

    pub(crate) async fn set_secrets(&self) {
        for name in ["north-fhir", "north-filemaker"] {
            let output = self.run_with_input(&["secret", "set", name], &format!("{SECRET}\n")).await;
            assert_said(&output, &format!("\"{name}\" is set."));
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn filemaker(&self) -> filemaker::Control {
        self.server.control()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
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

    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        finished_with_input(self.command(arguments), input).await
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

    /// Reads both sides by itself and waits until all is there, once, whatever the relay says.
    pub(crate) async fn both_sides_equal(&self) -> Comparison {
        let connected = self.connected().await;
        let compare = async || Comparison::of(&connected, self.chart.resources()).await.ok();
        let arrived = async || compare().await.filter(|compared| compared.all_arrived() && compared.expected > 0);
        let Some(compared) = seen(arrived).await else {
            let mut why = format!("waited in vain until everything has arrived: {:?}", compare().await);
            for listing in ["status", "queue", "dead", "remarks"] {
                why += &format!("\n{listing}: {}", said(&self.run(&[listing]).await));
            }
            panic!("{why}");
        };
        assert_eq!(doubled(&self.filemaker()), Vec::<String>::new());
        connected.filemaker.close().await;
        compared
    }

    async fn connected(&self) -> Connected {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let secrets = Memory::new();
        for name in ["north-fhir", "north-filemaker"] {
            secrets.set(&SecretName::parse(name).unwrap(), Secret::new(SECRET)).await.unwrap();
        }
        let config = Config::read(&self.folder.path().join("config.toml")).unwrap();
        Connected::all(&config, &secrets, &clock).await.unwrap().remove(0)
    }

    /// The same, and until the relay says so.
    pub(crate) async fn all_arrived(&self) -> Comparison {
        self.both_sides_equal().await;
        self.status("Up to date").await;
        // What was on its way has come to rest: it still is so.
        let connected = self.connected().await;
        let compared = Comparison::of(&connected, self.chart.resources()).await.unwrap();
        assert!(compared.all_arrived(), "{compared:?}");
        assert_eq!(doubled(&self.filemaker()), Vec::<String>::new());
        connected.filemaker.close().await;
        compared
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

pub(crate) async fn finished(mut command: Command) -> Output {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("it does not end: {command:?}")).unwrap()
}

pub(crate) async fn finished_with_input(mut command: Command, input: &str) -> Output {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    command.stdin(file);
    finished(command).await
}

/// Both streams.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
pub(crate) fn assert_said(output: &Output, words: &str) {
    assert!(output.status.success() && said(output).contains(words), "not \"{words}\" but: {}", said(output));
}

/// Failed with an exit code (not a signal, not a panic), and said why.
#[track_caller]
pub(crate) fn assert_refused(output: &Output, words: &str) {
    let said = said(output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {said}", output.status);
    assert!(said.contains(words), "not \"{words}\" but: {said}");
    assert!(!said.contains("panicked") && !said.contains("a part of the program failed"), "{said}");
}
