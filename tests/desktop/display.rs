//! A display and a session bus that belong to one test.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};

/// How long a server may take to say where it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ended with the test.
#[derive(Debug)]
pub(crate) struct Server {
    _child: Child,
    pub(crate) address: String,
}

impl Server {
    async fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = first_line(child.stdout.take().unwrap()).await;
        Self { _child: child, address }
    }

    /// `:99`
    pub(crate) async fn display() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-ac", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
        let mut server = Self::start(command).await;
        server.address.insert(0, ':');
        server
    }

    pub(crate) async fn bus() -> Self {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address=1"]);
        Self::start(command).await
    }
}

async fn first_line(output: impl AsyncRead + Unpin) -> String {
    let mut lines = BufReader::new(output).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it says where it is");
    line.unwrap().expect("it stays")
}
