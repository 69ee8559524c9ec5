//! The tray and the window, and the only module that knows tauri.
//!
//! ```text
//! chart-relay            the tray program: relay, control socket, icon, menu, notifications; no web view
//!   └ chart-relay window   one window, a pure client of the control socket; ends when it is closed
//! ```
//!
//! `session` is what the tray program does, `tray` and `outside` what it does it with, `line` what it hears of a relay, `door` how others
//! reach it, `child` how it holds the window. `window`, `client`, `commands` and `push` are the window's process, `lock` and `pin` its lock.

mod child;
mod client;
mod commands;
pub mod display;
mod door;
mod icon;
mod line;
pub mod lock;
mod outside;
pub mod pin;
mod push;
mod session;
#[cfg(test)]
mod tests;
mod tray;
mod whereabouts;
mod window;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use engine::ports::Clock;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    adapters::clock::SystemClock,
    cli::{complain, place::PlaceError, runtime, start},
    demo::{DemoArgs, Desk},
    log,
    socket::{Server, SocketError},
    view::{
        desk::Settings,
        tray::{Face, Input},
    },
};
use door::Ask;
use outside::Outside;
use session::{Kind, Order, Session};
use tray::Icon;
use whereabouts::Whereabouts;
pub use window::{WindowArgs, run as window};

/// Of the window and of notifications. No name of a patient or a record is ever put beside it.
const TITLE: &str = "Chart Relay";
/// Set where the tray program has switched OpenGL off for itself.
const PLAIN: &str = "CHART_RELAY_PLAIN_TRAY";
/// For a program without a console of its own.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// Orders that wait for the session.
const ORDERS: usize = 32;

#[derive(Debug, thiserror::Error)]
enum DeskError {
    #[error("{}", display::MISSING)]
    NoDisplay,
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("The tray's own socket cannot be used: {0}.")]
    Door(SocketError),
    #[error("Chart Relay runs here already and does not answer ({0}). Wait a moment, or sign out and in again.")]
    Other(SocketError),
    #[error(transparent)]
    Log(#[from] log::LogError),
    #[error("the system does not start what the program needs: {0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Demo(String),
    #[error("The desktop cannot be used: {0}")]
    Desktop(#[from] tauri::Error),
}

/// The tray program. Whoever starts it again is shown the window of the first.
pub fn tray(named: Option<PathBuf>) -> ExitCode {
    match tray_program(named) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn tray_program(named: Option<PathBuf>) -> Result<(), DeskError> {
    if !display::is_there() {
        return Err(DeskError::NoDisplay);
    }
    if in_another_process()? {
        return Ok(());
    }
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let whereabouts = Whereabouts::find(named.as_deref())?;
    let server = match door::bind(&whereabouts.data) {
        Ok(server) => server,
        Err(SocketError::AlreadyRunning) => {
            let shown = runtime.block_on(door::call(&whereabouts.data, &Ask::Show));
            return shown.map(drop).map_err(DeskError::Other);
        }
        Err(error) => return Err(DeskError::Door(error)),
    };
    let config = whereabouts.place.as_ref().ok().map(|place| &place.config);
    let options = start::log_options(config, &whereabouts.data.join("log"));
    let _log = log::start(&options, clock())?;
    sit(&runtime, Kind::Desk, named, whereabouts, server, mpsc::channel(ORDERS))
}

/// The synthetic clinic with a tray and a window. They show it as any other relay that runs already: through its socket.
pub fn demo(args: DemoArgs) -> ExitCode {
    match demo_program(args) {
        Ok(code) => code,
        Err(error) => complain(&error),
    }
}

fn demo_program(args: DemoArgs) -> Result<ExitCode, DeskError> {
    // Under Windows it stays in its terminal, where it says how it went.
    if cfg!(target_os = "linux") {
        in_another_process()?;
    }
    let folder = crate::demo::folder().map_err(DeskError::Demo)?;
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let (ready, is_ready) = oneshot::channel();
    let orders = mpsc::channel(ORDERS);
    let ends = CancellationToken::new();
    let (desk, handle, over) = (Desk { ready, ends: ends.clone() }, runtime.handle().clone(), orders.0.clone());
    let place = folder.path().to_owned();
    let playing = std::thread::Builder::new().name("demo".to_owned()).spawn(move || {
        let code = handle.block_on(crate::demo::run_in(&place, args, Some(desk)));
        // The session may have ended already.
        let _ = over.blocking_send(Order::End);
        code
    })?;
    // Without a configuration it has said already why it stopped.
    if let Ok(file) = runtime.block_on(is_ready) {
        let whereabouts = Whereabouts::find(Some(&file))?;
        let server = door::bind(&whereabouts.data).map_err(DeskError::Door)?;
        sit(&runtime, Kind::Demo(ends.clone()), Some(file), whereabouts, server, orders)?;
    }
    ends.cancel();
    Ok(playing.join().unwrap_or(ExitCode::FAILURE))
}

/// The event loop, on the main thread, with the session beside it, until the session ends.
fn sit(
    runtime: &Runtime,
    kind: Kind,
    named: Option<PathBuf>,
    whereabouts: Whereabouts,
    server: Server,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
) -> Result<(), DeskError> {
    tauri::async_runtime::set(runtime.handle().clone());
    let demo = matches!(kind, Kind::Demo(_));
    let autostart = tauri_plugin_autostart::Builder::new().app_name("chart-relay");
    let autostart = match &named {
        Some(config) => autostart.args(["--config".to_owned(), std::path::absolute(config)?.display().to_string()]),
        None => autostart,
    };
    let (say_ended, ended) = tokio::sync::oneshot::channel();
    let folder = door::folder(&whereabouts.data).join("icon");
    let app = tauri::Builder::default()
        .plugin(tauri_plugin_notification::init())
        .plugin(autostart.build())
        .setup(move |app| {
            #[cfg(target_os = "macos")]
            app.set_activation_policy(tauri::ActivationPolicy::Accessory);
            let icon = icon(app.handle(), &folder, &orders.0);
            let outside = Outside::new(app.handle().clone(), icon, demo);
            tauri::async_runtime::spawn(async move {
                Session::new(outside, kind, named, whereabouts, server, orders).run().await;
                let _ = say_ended.send(());
            });
            Ok(())
        })
        .build(context())?;
    app.run_return(|_, event| {
        // Without a window there is nothing to hold the program but this.
        if let tauri::RunEvent::ExitRequested { code: None, api, .. } = event {
            api.prevent_exit();
        }
    });
    // It has ended, or the desktop has gone and it is about to.
    let _ = runtime.block_on(tokio::time::timeout(Duration::from_secs(1), ended));
    Ok(())
}

fn icon(app: &tauri::AppHandle, folder: &Path, orders: &mpsc::Sender<Order>) -> Option<Icon> {
    if !display::tray_is_there() {
        tracing::warn!("no tray icon: libayatana-appindicator3 is not installed; the window shows everything too");
        return None;
    }
    let input = Input {
        snapshot: None,
        trouble: None,
        settings: &Settings::default(),
        privacy: true,
        attached: false,
        now: clock().now(),
        zone: &jiff::tz::TimeZone::system(),
    };
    let first = Face::default().next(&input, Duration::ZERO);
    match Icon::new(app, first, folder, orders.clone()) {
        Ok(icon) => Some(icon),
        Err(error) => {
            tracing::warn!(%error, "no tray icon; the window shows everything too");
            None
        }
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// The pages, the configuration and the capabilities, as they were at build time.
#[allow(clippy::exit, clippy::disallowed_methods, reason = "of the macro: it ends a process whose context fails")]
fn context<R: tauri::Runtime>() -> tauri::Context<R> {
    tauri::generate_context!()
}

/// Linux: the tray draws no window, and GTK's OpenGL takes some 50 MB only by being there. It is switched off by a variable that must
/// be set before the process begins, so the program begins anew in the same process. The window gets it back (`child`).
#[cfg(target_os = "linux")]
fn in_another_process() -> std::io::Result<bool> {
    use std::os::unix::process::CommandExt as _;

    if std::env::var_os("GDK_GL").is_some() {
        return Ok(false);
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).env("GDK_GL", "disable").env(PLAIN, "1").exec())
}

/// Windows: a program with a console keeps one on the screen, so the tray goes on without. Not run on Windows so far.
#[cfg(windows)]
fn in_another_process() -> std::io::Result<bool> {
    use std::os::windows::process::CommandExt as _;

    const DETACHED_PROCESS: u32 = 0x0000_0008;
    if std::env::var_os(PLAIN).is_some() {
        return Ok(false);
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(PLAIN, "1").creation_flags(DETACHED_PROCESS).spawn()?;
    Ok(true)
}

#[cfg(not(any(target_os = "linux", windows)))]
fn in_another_process() -> std::io::Result<bool> {
    Ok(false)
}
