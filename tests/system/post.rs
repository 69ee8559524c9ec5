//! Another computer of a clinic whose stations share the work.

use std::{
    fs::{self, File},
    process::{Output, Stdio},
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::installation::{Installation, assert_said, finished, finished_with_input};

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

/// The first station of those that share, ready to start.
pub(crate) async fn sharing(name: &str, patients: usize, seed: u64, address: &str) -> Installation {
    let installation = Installation::with(patients, seed, &shared(address, name)).await;
    installation.set_secrets().await;
    assert_said(&installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await, "is set");
    assert_said(&installation.run(&["provision"]).await, "made");
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    installation
}
