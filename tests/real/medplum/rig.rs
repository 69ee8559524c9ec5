//! Starts the server of this folder and ends it with the test.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

pub(crate) struct Medplum {
    pub(crate) base_url: String,
    pub(crate) token_url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// Ends when its standard input does, and is killed when this is dropped.
    _process: Child,
}

impl Medplum {
    /// With these options of `server.mjs`.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/medplum");
        assert!(
            folder.join("node_modules").is_dir(),
            "the packages of the Medplum rig are not installed: run `npm ci` in tests/real/medplum"
        );
        let mut process = Command::new("node")
            .arg("server.mjs")
            .arg("--with-parent")
            .args(options)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts: it must be installed, 20.19 or newer");
        let output = process.stdout.take().expect("standard output is piped");
        let line = BufReader::new(output).lines().next_line().await.expect("the rig writes text");
        let ready: Value =
            serde_json::from_str(&line.expect("the rig gets ready; its error is above")).expect("a line of JSON");
        let text = |name: &str| ready[name].as_str().expect("the rig names where it is").to_owned();
        Self {
            base_url: text("baseUrl"),
            token_url: text("tokenUrl"),
            client_id: text("clientId"),
            client_secret: text("clientSecret"),
            _process: process,
        }
    }
}
