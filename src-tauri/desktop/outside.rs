//! What the session can do to the desktop: the icon, a notification, the clipboard, a folder, the start at sign-in.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use tauri::AppHandle;
use tauri_plugin_autostart::ManagerExt as _;
use tauri_plugin_notification::NotificationExt as _;

use super::tray::Icon;
use crate::view::tray::Tray;

#[derive(Clone)]
pub struct Outside {
    app: AppHandle,
    /// None where no icon can be shown.
    icon: Option<Arc<Mutex<Icon>>>,
    /// The demo starts nothing at sign-in.
    demo: bool,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("tray", &self.icon.is_some()).finish_non_exhaustive()
    }
}

impl Outside {
    pub fn new(app: AppHandle, icon: Option<Icon>, demo: bool) -> Self {
        Self { app, icon: icon.map(|icon| Arc::new(Mutex::new(icon))), demo }
    }

    pub fn has_tray(&self) -> bool {
        self.icon.is_some()
    }

    pub fn show(&self, tray: &Tray) {
        let Some(icon) = self.icon.clone() else { return };
        let (app, tray) = (self.app.clone(), tray.clone());
        let shown = self.app.run_on_main_thread(move || {
            let mut icon = icon.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = icon.show(&app, &tray) {
                tracing::warn!(%error, "the tray could not be changed");
            }
        });
        if let Err(error) = shown {
            tracing::warn!(%error, "the tray could not be reached");
        }
    }

    /// A text without anything of a patient. That nobody shows it is not told to us.
    pub fn notify(&self, text: &str, silent: bool) {
        let notification = self.app.notification().builder().title(super::TITLE).body(text);
        let notification = if silent { notification.silent() } else { notification };
        if let Err(error) = notification.show() {
            tracing::warn!(%error, "a notification could not be shown");
        }
    }

    /// Puts a text into the clipboard.
    pub fn copy(&self, text: &str) {
        let text = text.to_owned();
        let copied = self.app.run_on_main_thread(move || copy(&text));
        if let Err(error) = copied {
            tracing::warn!(%error, "nothing was copied");
        }
    }

    pub fn open(&self, folder: &Path) {
        if !open_folder(folder) {
            self.notify(&format!("The folder could not be opened. It is {}.", folder.display()), false);
        }
    }

    /// Starts at sign-in, or no longer; what the system says afterwards is what counts.
    pub fn autostart(&self, wanted: bool) {
        if self.demo {
            return;
        }
        let manager = self.app.autolaunch();
        // Also where it is on already: the program may have moved.
        let done = if wanted { manager.enable() } else { manager.disable() };
        match (done, manager.is_enabled()) {
            (Ok(()), Ok(is)) if is == wanted => {}
            (done, is) => {
                let (error, is) = (done.err().map(|error| error.to_string()), is.ok());
                tracing::warn!(wanted, is, error, "the start at sign-in is not as the configuration wants it");
                let how = if wanted { "does not start by itself when you sign in" } else { "still starts at sign-in" };
                self.notify(&format!("Chart Relay {how}. Please tell IT."), false);
            }
        }
    }

    /// Ends the event loop, and with it the process.
    pub fn exit(&self) {
        self.app.exit(0);
    }
}

/// The system's own program for folders shows it.
pub fn open_folder(folder: &Path) -> bool {
    let program = if cfg!(windows) {
        "explorer"
    } else if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    // Before the first line is logged there is none.
    let _ = std::fs::create_dir_all(folder);
    let opened =
        Command::new(program).arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match opened {
        Ok(mut child) => {
            // Waited for, so that nothing of it is left behind.
            std::thread::spawn(move || child.wait());
            true
        }
        Err(error) => {
            tracing::warn!(kind = %error.kind(), program, "a folder could not be opened");
            false
        }
    }
}

#[cfg(target_os = "linux")]
fn copy(text: &str) {
    let clipboard = gtk::Clipboard::get(&gtk::gdk::SELECTION_CLIPBOARD);
    clipboard.set_text(text);
    clipboard.store();
}

/// The system's own program takes it from its standard input.
#[cfg(not(target_os = "linux"))]
fn copy(text: &str) {
    use std::io::Write as _;

    let program = if cfg!(windows) { "clip" } else { "pbcopy" };
    let mut command = Command::new(program);
    command.stdin(Stdio::piped());
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(&mut command, super::CREATE_NO_WINDOW);
    let copied = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        child.wait()
    });
    if let Err(error) = copied {
        tracing::warn!(kind = %error.kind(), program, "nothing was copied");
    }
}
