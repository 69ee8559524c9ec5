//! The window's process: one window with the page that the program carries, nothing from outside, nothing stored.

use std::{
    io::{self, BufRead as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tauri::{
    AppHandle, Emitter as _, Manager, Runtime, Url, WebviewUrl, WebviewWindow, WebviewWindowBuilder, WindowEvent,
    webview::{NewWindowResponse, PermissionResponse},
};

use super::{
    DeskError, TITLE, client::Client, clock, commands, context, display, door, push, whereabouts::Whereabouts,
};
use crate::{
    cli::{complain, runtime, start},
    log,
};

pub const MAIN: &str = "main";
const SIZE: (f64, f64) = (960.0, 640.0);
const LEAST: (f64, f64) = (880.0, 560.0);

#[derive(Debug, Args)]
pub struct WindowArgs {
    /// What was chosen in the tray's menu
    #[arg(long, value_parser = on_or_off, value_name = "on|off")]
    hide_names: Option<bool>,
    /// The view that it opens at
    #[arg(long, value_name = "VIEW")]
    go: Option<String>,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

pub fn run(named: Option<PathBuf>, args: WindowArgs) -> ExitCode {
    match program(named, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn program(named: Option<PathBuf>, args: WindowArgs) -> Result<(), DeskError> {
    if !display::is_there() {
        return Err(DeskError::NoDisplay);
    }
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let whereabouts = Whereabouts::find(named.as_deref())?;
    let config = whereabouts.place.as_ref().ok().map(|place| &place.config);
    // Files of its own: two processes would turn each other's.
    let options = start::log_options(config, &whereabouts.data.join("log").join("window"));
    let _log = log::start(&options, clock())?;
    tauri::async_runtime::set(runtime.handle().clone());
    let client = Arc::new(Client::new(named, args.hide_names));
    client.lock_at_first();
    let folder = door::folder(&whereabouts.data);
    let app = build(tauri::Builder::default(), client.clone(), context())?;
    open(app.handle(), &folder, args.go.as_deref())?;
    listen(app.handle().clone(), client.clone());
    let following = client.clone();
    runtime.spawn(async move { following.follow().await });
    runtime.spawn(push::push(app.handle().clone(), client));
    app.run_return(|_, _| {});
    Ok(())
}

/// The program without its window, for tests too.
pub fn build<R: Runtime>(
    builder: tauri::Builder<R>,
    client: Arc<Client>,
    context: tauri::Context<R>,
) -> tauri::Result<tauri::App<R>> {
    builder.manage(client).invoke_handler(commands::handler()).build(context)
}

fn open<R: Runtime>(app: &AppHandle<R>, folder: &Path, view: Option<&str>) -> tauri::Result<WebviewWindow<R>> {
    let size = Size::read(folder);
    let page = view.map_or_else(|| "index.html".to_owned(), |view| format!("index.html#/{}", address(view)));
    // A WebDriver drives no web view that forgets; what it stores is in a folder that a test can look into.
    let driven = std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some();
    let window = WebviewWindowBuilder::new(app, MAIN, WebviewUrl::App(page.into()))
        .incognito(!driven)
        // There is a folder either way; nothing of the page comes into it.
        .data_directory(folder.join("web"))
        .title(TITLE)
        .inner_size(size.width, size.height)
        .min_inner_size(LEAST.0, LEAST.1)
        .maximized(size.maximized)
        .on_navigation(is_ours)
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .on_download(|_, _| false)
        .on_permission_request(|_, _| PermissionResponse::Deny)
        .disable_drag_drop_handler()
        .devtools(cfg!(debug_assertions))
        .build()?;
    let (remembered, folder) = (window.clone(), folder.to_owned());
    window.on_window_event(move |event| {
        if matches!(event, WindowEvent::CloseRequested { .. }) {
            Size::of(&remembered).unwrap_or(size).write(&folder);
        }
    });
    Ok(window)
}

/// Only the pages that the program carries.
fn is_ours(url: &Url) -> bool {
    match url.scheme() {
        "tauri" => url.host_str() == Some("localhost"),
        // Windows.
        "http" | "https" => url.host_str() == Some("tauri.localhost") && url.port().is_none(),
        "about" => url.as_str() == "about:blank",
        _ => false,
    }
}

/// What the page calls a place: `queue-attention` is the queue with what needs attention.
fn address(place: &str) -> String {
    match place {
        "queue-attention" => "queue?state=needs-attention".to_owned(),
        view => view.chars().filter(char::is_ascii_lowercase).collect(),
    }
}

/// Does what the tray says (see [`super::child`]). That the tray falls silent ends nothing.
fn listen<R: Runtime>(app: AppHandle<R>, client: Arc<Client>) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let window = app.get_webview_window(MAIN);
            match (word, window) {
                ("show", Some(window)) => show(&window),
                ("go", Some(window)) => {
                    show(&window);
                    let _ = window.emit("go", rest);
                }
                ("hide-names", _) => client.hide_names(rest != "off"),
                ("quit", Some(window)) => {
                    let _ = window.close();
                }
                ("quit", None) => app.exit(0),
                _ => tracing::warn!("the tray said something that this window does not know"),
            }
        }
    });
}

fn show<R: Runtime>(window: &WebviewWindow<R>) {
    // Where the desktop refuses one of them, the others still help.
    let _ = window.unminimize();
    let _ = window.show();
    let _ = window.set_focus();
}

/// The demo as a program of its own, with its own throwaway data.
pub fn start_demo() -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("demo").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(&mut command, super::CREATE_NO_WINDOW);
    let mut child = command.spawn()?;
    // Waited for, so that nothing of it is left behind.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// What the window remembers of itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Size {
    width: f64,
    height: f64,
    maximized: bool,
}

impl Size {
    const FILE: &str = "window.json";

    fn read(folder: &Path) -> Self {
        let read = std::fs::read(folder.join(Self::FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let Self { width, height, maximized } =
            read.unwrap_or(Self { width: SIZE.0, height: SIZE.1, maximized: false });
        // A screen that is gone, or a file that was written by hand.
        let within =
            |size: f64, least: f64, usual: f64| if size.is_finite() { size.clamp(least, 10_000.0) } else { usual };
        Self { width: within(width, LEAST.0, SIZE.0), height: within(height, LEAST.1, SIZE.1), maximized }
    }

    fn of<R: Runtime>(window: &WebviewWindow<R>) -> tauri::Result<Self> {
        let size = window.inner_size()?.to_logical::<f64>(window.scale_factor()?);
        Ok(Self { width: size.width, height: size.height, maximized: window.is_maximized()? })
    }

    /// Without it the window opens in its usual size.
    fn write(self, folder: &Path) {
        let written = serde_json::to_vec(&self).map_err(io::Error::from).and_then(|text| {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join(Self::FILE), text)
        });
        if let Err(error) = written {
            tracing::info!(kind = %error.kind(), "the window's size is not remembered");
        }
    }
}
