//! A front desk: a display, a session bus with a panel on it, a home, and the programs that are started there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use crate::{
    display::Server,
    installation::Installation,
    panel::{Item, Panel},
    rig::{PATIENCE, until},
    window::Window,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_chart-relay");

pub(crate) struct Desk {
    pub(crate) panel: Panel,
    pub(crate) home: TempDir,
    display: Server,
    bus: Server,
    /// Where a window listens for its driver.
    inspector: u16,
    /// Whether it does.
    pub(crate) driven: bool,
    /// The configuration that the programs are told of, and the passphrase of their secrets.
    config: Option<(PathBuf, PathBuf)>,
}

impl Desk {
    /// A desk on a PC on which nothing is set up.
    pub(crate) async fn bare() -> Self {
        let (display, bus) = (Server::display().await, Server::bus().await);
        let panel = Panel::on(&bus.address).await;
        let home = tempfile::tempdir().unwrap();
        // Where the session keeps sockets: nobody else's.
        let run = home.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { panel, home, display, bus, inspector: free_port().await, driven: true, config: None }
    }

    pub(crate) async fn at(installation: &Installation) -> Self {
        let folder = installation.folder.path();
        Self { config: Some((folder.join("config.toml"), folder.join("passphrase"))), ..Self::bare().await }
    }

    /// The program at this desk, and of this test's environment only what every program needs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear();
        for name in ["PATH", "LANG", "TZ", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .env("DISPLAY", &self.display.address)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .env("NO_AT_BRIDGE", "1")
            .env("RUST_BACKTRACE", "1");
        if self.driven {
            command
                .env("TAURI_WEBVIEW_AUTOMATION", "true")
                .env("WEBKIT_INSPECTOR_SERVER", format!("127.0.0.1:{}", self.inspector));
        }
        if let Some((config, passphrase)) = &self.config {
            command.arg("--config").arg(config).env("CHART_RELAY_PASSPHRASE_FILE", passphrase);
        }
        let said = File::options().create(true).append(true).open(self.home.path().join("said")).unwrap();
        command.args(arguments).stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).kill_on_drop(true);
        command
    }

    /// Starts the tray program and waits for its icon.
    pub(crate) async fn tray(&self) -> Tray {
        self.tray_with(&[]).await
    }

    pub(crate) async fn tray_with(&self, arguments: &[&str]) -> Tray {
        let child = self.command(arguments).spawn().unwrap();
        let before = self.panel.items();
        until(&format!("an icon appears; it said: {}", self.said()), async || {
            (self.panel.items() > before).then_some(())
        })
        .await;
        Tray { item: self.panel.item().await, child }
    }

    /// What the programs wrote to their terminal.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("said")).unwrap_or_default()
    }

    /// The window, when it is there.
    pub(crate) async fn window(&self) -> Window {
        Window::attach(self.inspector).await
    }

    /// What stands in the title bars of our windows on this display, and where they are.
    pub(crate) async fn titles(&self) -> Vec<(u32, String)> {
        let output = Command::new("xwininfo")
            .args(["-root", "-tree", "-display", &self.display.address])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let window = |line: &str| {
            let line = line.trim().strip_prefix("0x")?;
            let (id, rest) = line.split_once(" \"")?;
            let (title, rest) = rest.split_once("\": (")?;
            // Those of ten pixels are the toolkit's own, and never shown.
            let shown = !rest.contains("  10x10+") && !rest.contains("  1x1+");
            shown.then(|| (u32::from_str_radix(id, 16).unwrap(), title.to_owned()))
        };
        text.lines().filter_map(window).collect()
    }

    /// Closes the window as the cross in its title bar does.
    pub(crate) async fn close_window(&self) {
        let window = until("there is a window to close", async || {
            self.titles().await.into_iter().find(|(_, title)| title == "Chart Relay")
        })
        .await;
        crate::x11::ask_to_close(&self.display.address, window.0).await.unwrap();
    }

    /// Waits until no window is there.
    pub(crate) async fn no_window(&self, tray: &Tray) {
        until("the window's process has ended", async || tray.windows().is_empty().then_some(())).await;
    }
}

async fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port()
}

/// The tray program at work.
pub(crate) struct Tray {
    pub(crate) item: Item,
    pub(crate) child: Child,
}

impl Tray {
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the tray program runs")
    }

    /// Processes of windows that this tray program has started.
    pub(crate) fn windows(&self) -> Vec<u32> {
        children(self.id()).into_iter().filter(|id| arguments(*id).iter().any(|word| word == "window")).collect()
    }

    /// Quits by the menu.
    pub(crate) async fn quit(&mut self) -> ExitStatus {
        self.item.choose("Quit").await;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the tray program ends").unwrap()
    }
}

/// Processes whose parent this one is.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let stat = |id: u32| fs::read_to_string(format!("/proc/{id}/stat")).ok();
    let is_child = |id: &u32| {
        stat(*id).is_some_and(|stat| {
            // "id (name) state parent ...", and a name may hold anything.
            let mut rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            let (state, of) = (rest.next(), rest.next());
            state != Some("Z") && of.and_then(|of| of.parse().ok()) == Some(parent)
        })
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn arguments(id: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Where pictures of the window are kept for people to look at.
pub(crate) fn screens() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens/webkit");
    fs::create_dir_all(&folder).unwrap();
    folder
}
