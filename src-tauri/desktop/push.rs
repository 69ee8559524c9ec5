//! What the page is told without asking: the picture, at most once a second (but for the answer to a click) and only when it changed, and
//! that the window has locked.

use std::{sync::Arc, time::Duration};

use tauri::{AppHandle, Emitter as _, Manager as _, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{client::Client, window::MAIN};
use crate::view::desk::Desk;

const EVERY: Duration = Duration::from_secs(1);

/// For as long as the window is there.
pub async fn push<R: Runtime>(app: AppHandle<R>, client: Arc<Client>) {
    let mut pushed: Option<Desk> = None;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = client.at_once() => {}
            // News is told at once if the last is a second old.
            () = client.changed() => if last.is_some_and(|last| last.elapsed() < EVERY) { continue },
        }
        if client.lock_if_idle() {
            let _ = app.emit_to(MAIN, "locked", ());
        }
        if client.unlocked().is_err() {
            pushed = None;
            continue;
        }
        // Nobody sees it, and nothing is drawn.
        let hidden = app.get_webview_window(MAIN).is_none_or(|window| window.is_minimized().unwrap_or(false));
        if hidden {
            continue;
        }
        let desk = client.desk();
        if desk.is_some() && desk != pushed {
            let _ = app.emit_to(MAIN, "desk", &desk);
            pushed = desk;
            last = Some(Instant::now());
        }
    }
}
