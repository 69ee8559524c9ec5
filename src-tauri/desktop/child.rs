//! The window as a process of its own: its memory is given back when it is closed, and a web view that crashes takes nothing along.
//!
//! The tray keeps the window's standard input: a line `show` brings it to the front, `go VIEW` does the same at a view, `hide-names on`
//! or `off` passes on what was chosen in the menu, `quit` ends it. That the input ends means only that the tray is gone: the window
//! stays, and shows the last truth with its time.

use std::{io, path::PathBuf, process::Stdio};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
};

/// Set for the tray alone, and taken out again for the window: see [`mod@super::tray`].
pub const TRAY_ONLY: [&str; 2] = ["GDK_GL", super::PLAIN];

#[derive(Debug)]
pub struct Window {
    /// The configuration that was named.
    config: Option<PathBuf>,
    running: Option<(Child, ChildStdin)>,
}

impl Window {
    pub fn new(config: Option<PathBuf>) -> Self {
        Self { config, running: None }
    }

    /// Opens it, or brings it to the front.
    pub async fn show(&mut self, view: Option<&str>, hide_names: bool) -> io::Result<()> {
        let line = view.map_or_else(|| "show".to_owned(), |view| format!("go {view}"));
        if self.say(&line).await {
            return Ok(());
        }
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(["window", "--hide-names", if hide_names { "on" } else { "off" }]);
        if let Some(view) = view {
            command.args(["--go", view]);
        }
        if std::env::var_os(super::PLAIN).is_some() {
            for name in TRAY_ONLY {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        #[cfg(windows)]
        command.creation_flags(super::CREATE_NO_WINDOW);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.running = Some((child, stdin));
        Ok(())
    }

    /// False if there is no window to hear it.
    pub async fn say(&mut self, line: &str) -> bool {
        let Some((_, stdin)) = &mut self.running else { return false };
        let said = async {
            stdin.write_all(format!("{line}\n").as_bytes()).await?;
            stdin.flush().await
        };
        let heard = said.await.is_ok();
        if !heard {
            // It is about to end, or has: the next one is new.
            self.running = None;
        }
        heard
    }

    /// Waits until the window has been closed; for ever if there is none.
    pub async fn closed(&mut self) {
        match &mut self.running {
            None => std::future::pending().await,
            Some((child, _)) => {
                match child.wait().await {
                    Ok(status) if status.success() => {}
                    Ok(status) => tracing::warn!(code = status.code(), "the window ended by a fault"),
                    Err(error) => tracing::warn!(kind = %error.kind(), "the window's end was not heard"),
                }
                self.running = None;
            }
        }
    }

    /// Tells it to close, and gives it a moment.
    pub async fn quit(&mut self) {
        if self.say("quit").await {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(3), self.closed()).await;
        }
    }
}
