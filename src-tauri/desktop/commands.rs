//! All that the page may ask. Each command looks first whether the window is locked; what a role may do is asked in [`Client`].
//! `permissions/desk.toml` lists the same commands, and a test compares the two.

use std::sync::Arc;

use engine::action::AsideReason;
use tauri::{Emitter as _, Runtime, State, WebviewWindow, ipc::Invoke};

use super::{client::Client, outside, window};
use crate::view::{
    audit::{Audit, AuditQuery, Chain, Revealed},
    conflicts::{Chosen, Conflicts, Settled},
    desk::{Desk, Opening, PauseFor, Problem},
    history::{History, HistoryQuery},
    locks::Locks,
    overview::Day,
    queue::Queue,
    redrive::Redrive,
    sides::{FieldValues, Resyncing, Sides},
    watching::Watching,
};

type Here<'a> = State<'a, Arc<Client>>;

macro_rules! commands {
    ($($name:ident),* $(,)?) => {
        #[cfg(test)]
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        pub fn handler<R: Runtime>() -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
            tauri::generate_handler![$($name),*]
        }
    };
}

commands![
    active,
    audit,
    conflicts,
    day,
    desk,
    drop_letters,
    history,
    lock,
    locks,
    open_demo,
    open_logs,
    opening,
    pause,
    put_back,
    queue,
    redrive,
    redrive_plan,
    resume,
    resync,
    resyncing,
    retry,
    reveal,
    set_aside,
    set_privacy,
    settle,
    sides,
    summary,
    sync_now,
    unlock,
    values,
    verify_audit,
    watching,
];

#[tauri::command]
async fn opening(here: Here<'_>) -> Result<Opening, Problem> {
    Ok(here.opening().await)
}

#[tauri::command]
async fn desk(here: Here<'_>) -> Result<Option<Desk>, Problem> {
    here.unlocked()?;
    Ok(here.desk())
}

#[tauri::command]
async fn day(here: Here<'_>) -> Result<Day, Problem> {
    here.unlocked()?;
    here.day()
}

#[tauri::command]
async fn queue(here: Here<'_>) -> Result<Queue, Problem> {
    here.unlocked()?;
    here.queue().await
}

#[tauri::command]
async fn conflicts(here: Here<'_>) -> Result<Conflicts, Problem> {
    here.unlocked()?;
    here.conflicts().await
}

#[tauri::command]
async fn sides(here: Here<'_>, key: String) -> Result<Sides, Problem> {
    here.unlocked()?;
    here.sides(&key).await
}

#[tauri::command]
async fn settle(here: Here<'_>, key: String, chosen: Vec<Chosen>, token: String) -> Result<Vec<Settled>, Problem> {
    here.unlocked()?;
    here.settle(&key, chosen, token).await
}

#[tauri::command]
async fn values(here: Here<'_>, entry: u64) -> Result<Vec<FieldValues>, Problem> {
    here.unlocked()?;
    here.values(entry).await
}

#[tauri::command]
async fn resyncing(here: Here<'_>, key: String, whole: bool) -> Result<Vec<Resyncing>, Problem> {
    here.unlocked()?;
    here.resyncing(&key, whole).await
}

#[tauri::command]
async fn resync(here: Here<'_>, key: String, whole: bool, token: String) -> Result<(), Problem> {
    here.unlocked()?;
    here.resync(&key, whole, token).await
}

#[tauri::command]
async fn watching(here: Here<'_>) -> Result<Watching, Problem> {
    here.unlocked()?;
    here.watching().await
}

#[tauri::command]
async fn locks(here: Here<'_>) -> Result<Locks, Problem> {
    here.unlocked()?;
    here.locks().await
}

#[tauri::command]
async fn history(here: Here<'_>, query: HistoryQuery) -> Result<History, Problem> {
    here.unlocked()?;
    here.history(&query).await
}

#[tauri::command]
async fn audit(here: Here<'_>, query: AuditQuery) -> Result<Audit, Problem> {
    here.unlocked()?;
    here.audit(&query).await
}

#[tauri::command]
async fn verify_audit(here: Here<'_>) -> Result<Chain, Problem> {
    here.unlocked()?;
    here.verify_audit().await
}

#[tauri::command]
async fn sync_now(here: Here<'_>) -> Result<(), Problem> {
    here.unlocked()?;
    here.sync_now().await
}

#[tauri::command]
async fn pause(here: Here<'_>, length: PauseFor) -> Result<(), Problem> {
    here.unlocked()?;
    here.pause(length).await
}

#[tauri::command]
async fn resume(here: Here<'_>) -> Result<(), Problem> {
    here.unlocked()?;
    here.resume().await
}

#[tauri::command]
async fn retry(here: Here<'_>, keys: Vec<String>, token: String) -> Result<(), Problem> {
    here.unlocked()?;
    here.retry(&keys, token).await
}

#[tauri::command]
async fn set_aside(here: Here<'_>, keys: Vec<String>, reason: AsideReason) -> Result<(), Problem> {
    here.unlocked()?;
    here.set_aside(&keys, reason).await
}

#[tauri::command]
async fn put_back(here: Here<'_>, keys: Vec<String>) -> Result<(), Problem> {
    here.unlocked()?;
    here.put_back(&keys).await
}

#[tauri::command]
async fn redrive_plan(here: Here<'_>, reason: Option<String>) -> Result<Redrive, Problem> {
    here.unlocked()?;
    here.plan_redrive(reason.as_deref()).await
}

#[tauri::command]
async fn redrive(here: Here<'_>) -> Result<(), Problem> {
    here.unlocked()?;
    here.redrive().await
}

#[tauri::command]
async fn drop_letters(here: Here<'_>, keys: Vec<String>) -> Result<(), Problem> {
    here.unlocked()?;
    here.drop_letters(keys).await
}

#[tauri::command]
async fn reveal(here: Here<'_>, keys: Vec<String>) -> Result<Vec<Revealed>, Problem> {
    here.unlocked()?;
    here.reveal(&keys).await
}

#[tauri::command]
async fn set_privacy(here: Here<'_>, on: bool) -> Result<(), Problem> {
    here.unlocked()?;
    here.set_privacy(on).await
}

/// A key was pressed or the mouse moved.
#[tauri::command]
fn active(here: Here<'_>) {
    here.active();
}

#[tauri::command]
fn lock<R: Runtime>(window: WebviewWindow<R>, here: Here<'_>) {
    here.lock();
    // A page that is gone has nothing to hide.
    let _ = window.emit("locked", ());
}

#[tauri::command]
async fn unlock(here: Here<'_>, pin: String) -> Result<bool, Problem> {
    here.unlock(pin).await
}

#[tauri::command]
async fn summary(here: Here<'_>) -> Result<String, Problem> {
    here.unlocked()?;
    here.summary()
}

#[tauri::command]
async fn open_logs(here: Here<'_>) -> Result<(), Problem> {
    here.unlocked()?;
    let logs = here.logs().filter(|logs| outside::open_folder(logs));
    logs.map(drop)
        .ok_or_else(|| Problem::new("The folder of the logs could not be opened. docs/operations.md says where it is."))
}

#[tauri::command]
async fn open_demo(here: Here<'_>) -> Result<(), Problem> {
    here.unlocked()?;
    window::start_demo().map_err(|error| Problem::new(format!("The demo could not be started: {}.", error.kind())))
}
