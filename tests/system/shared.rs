//! Several stations as they are installed, each a process of its own, on one queue and one ledger.

use std::{
    fs::{self, File},
    process::{Output, Stdio},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::installation::{Installation, assert_refused, assert_said, finished, finished_with_input, said};

mod ministack {
    use crate::emulator;

    #[tokio::test(flavor = "multi_thread")]
    async fn stations_that_are_killed_again_and_again_lose_and_double_nothing() {
        super::killed_again_and_again(emulator::ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_missing_is_named_and_made() {
        super::missing(emulator::ministack()).await;
    }
}

pub(crate) fn shared(address: &str, name: &str) -> String {
    format!(
        r#"
        [shared]
        region = "us-east-1"
        endpoint = "{address}"
        queue = "{name}"
        prefix = "{name}"
        access-key-id = "synthetic"
        secret = "aws""#
    )
}

/// Another computer of the clinic: the same secrets and clinic key, a name and a database of its own.
pub(crate) struct Post {
    pub(crate) folder: TempDir,
}

impl Post {
    /// Just unpacked: the same configuration with a name of its own, and no secret.
    pub(crate) fn new(first: &Installation, id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(first.folder.path().join("config.toml")).unwrap();
        fs::write(folder.path().join("config.toml"), config.replace("system-test", id)).unwrap();
        fs::copy(first.folder.path().join("passphrase"), folder.path().join("passphrase")).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    pub(crate) fn beside(first: &Installation, id: &str) -> Self {
        let Self { folder } = Self::new(first, id);
        for entry in fs::read_dir(first.data()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let own = name.starts_with("relay.") || name == "installation";
            if !own && entry.path().is_file() {
                fs::copy(entry.path(), folder.path().join("data").join(name)).unwrap();
            }
        }
        Self { folder }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chart-relay"));
        command
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .args(arguments)
            .env("CHART_RELAY_PASSPHRASE_FILE", self.folder.path().join("passphrase"))
            .env_remove("CREDENTIALS_DIRECTORY")
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

    pub(crate) fn start(&self) -> Child {
        let said = File::options().create(true).append(true).open(self.folder.path().join("said")).unwrap();
        self.command(&["run"]).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

async fn killed_again_and_again(address: &str) {
    const KILLS: u32 = 12;
    let mut installation = Installation::with(8, 31, &shared(address, "killed")).await;
    installation.set_secrets().await;
    assert_said(&installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await, "is set");
    assert_said(&installation.run(&["provision"]).await, "made");
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    let first = installation.start();
    let posts = ["station-2", "station-3", "station-4", "station-5"].map(|id| Post::beside(&installation, id));
    let mut running: Vec<Child> = posts.iter().map(Post::start).collect();
    installation.filemaker().latency(Duration::from_millis(20));
    let mut chance = StdRng::seed_from_u64(31);
    let (mut changes, mut in_mid_call) = (0, 0);
    for _ in 0..KILLS {
        for _ in 0..10 {
            let ids = installation.chart.control().ids("Patient");
            installation.chart.change("Patient", &ids[chance.random_range(0..ids.len())]);
            changes += 1;
            tokio::time::sleep(Duration::from_millis(chance.random_range(20..150))).await;
        }
        let new = installation.chart.generator.patient();
        let form = installation.chart.generator.form(&new, jiff::Timestamp::now());
        installation.chart.control().put(form).unwrap();
        installation.chart.control().put(new).unwrap();
        changes += 2;
        let one = chance.random_range(0..posts.len());
        in_mid_call += u32::from(installation.filemaker().counts().in_flight > 0);
        running[one].kill().await.unwrap();
        running[one] = posts[one].start();
    }
    installation.filemaker().latency(Duration::ZERO);
    let compared = installation.all_arrived().await;
    println!(
        "checks: 5 stations, {KILLS} killed ({in_mid_call} while FileMaker was at work), {changes} changes, {} records: \
         lost 0, doubled 0, stale 0",
        compared.expected
    );
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    // Each did some of the work.
    assert!(posts.iter().all(|post| !post.said().contains("station's name")), "a name was refused");
    for one in &mut running {
        one.kill().await.unwrap();
    }
    installation.stop(first).await;
}

async fn missing(address: &str) {
    let installation = Installation::with(2, 32, &shared(address, "missing")).await;
    installation.set_secrets().await;
    assert_refused(&installation.run(&["doctor"]).await, "aws");
    installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await;
    assert_refused(&installation.run(&["doctor"]).await, "`chart-relay provision` creates it");
    let output = installation.run(&["provision", "--dry-run"]).await;
    assert_refused(&output, "table missing-link");
    assert_refused(&output, "missing; it would be made");
    assert_refused(&installation.run(&["run"]).await, "A table of the shared ledger is not there");
    assert_said(&installation.run(&["provision"]).await, "made");
    assert_said(&installation.run(&["provision"]).await, "there and right");
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    for what in ["cloudformation", "policy"] {
        let printed = installation.run(&["provision", "--print", what]).await;
        let printed: serde_json::Value = serde_json::from_str(&said(&printed)).unwrap();
        assert!(printed.to_string().contains("missing-link"), "{printed}");
    }
    // Another computer under the same name is turned away.
    let relay = installation.start();
    installation.all_arrived().await;
    let double = Post::beside(&installation, "system-test");
    let ended = double.start().wait().await.unwrap();
    assert!(!ended.success());
    assert!(double.said().contains("Another computer has this station's name"), "{}", double.said());
    installation.stop(relay).await;
}
