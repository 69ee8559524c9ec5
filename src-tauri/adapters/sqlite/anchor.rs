//! The anchor: a small file beside the database that says how far the audit log had come, under a MAC of its own. Without it
//! nobody could tell a log whose end was cut off from one that ended there. It is written every 10 s while there is something
//! new, every 100 entries, and at the end. Whoever puts both files back to an older state together is not found out here; an
//! exported copy does that.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use engine::{error::Fault, keys::DerivedKey};
use hmac::Mac as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use tokio::time::Sleep;

use super::{
    audit::{Head, hex, keyed},
    fault, file, verify,
};

const EVERY: Duration = Duration::from_secs(10);
const ENTRIES: u64 = 100;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anchor {
    pub(super) last: u64,
    pub(super) mac: String,
    pub(super) at: Timestamp,
    /// HMAC-SHA-256 under the audit key over the above.
    seal: String,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Anchor(Anchor),
    Missing,
    /// Not ours: it does not carry our MAC.
    Altered,
}

impl Anchor {
    fn new(key: &DerivedKey, head: &Head, at: Timestamp) -> Self {
        let mut anchor = Self { last: head.id, mac: hex(&head.mac), at, seal: String::new() };
        anchor.seal = hex(&anchor.sealed(key).finalize().into_bytes());
        anchor
    }

    fn sealed(&self, key: &DerivedKey) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = keyed(key);
        // Begins with a text where the chain's input begins with a MAC, so that neither passes for the other.
        mac.update(format!("chart-relay audit anchor\n{}\n{}\n{}", self.last, self.mac, self.at).as_bytes());
        mac
    }

    fn genuine(&self, key: &DerivedKey) -> bool {
        hex(&self.sealed(key).finalize().into_bytes()) == self.seal
    }
}

pub(super) fn path_of(database: &Path) -> PathBuf {
    file::beside(database, ".anchor")
}

pub(super) fn read(path: &Path, key: &DerivedKey) -> io::Result<Found> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    Ok(match serde_json::from_slice::<Anchor>(&text) {
        Ok(anchor) if anchor.genuine(key) => Found::Anchor(anchor),
        _ => Found::Altered,
    })
}

/// Written whole beside it, synced and put in place: a power cut leaves the old one or the new one.
fn write(path: &Path, anchor: &Anchor) -> io::Result<()> {
    let new = file::beside(path, ".new");
    let mut file = file::open_private(&new, OpenOptions::new().create(true).truncate(true).write(true))?;
    file.write_all(super::json(anchor).as_bytes())?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&new, path)?;
    sync_folder(path)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => std::fs::File::open(".")?.sync_all(),
    }
}

/// NTFS keeps its own journal of names, and folders cannot be synced.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// When the next anchor is due.
pub(super) struct Anchors {
    path: PathBuf,
    key: DerivedKey,
    /// None until one was written that the log agrees with.
    written: Option<u64>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Anchors {
    /// Compares the log with its anchor before that is replaced. An anchor that the log contradicts is evidence: it is kept
    /// beside the new one, where [`verify`] finds it, and the program goes on, for the clinic needs it.
    pub(super) async fn open(
        database: &Path,
        key: DerivedKey,
        head: &Head,
        connection: &mut SqliteConnection,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let path = path_of(database);
        let found = read(&path, &key).map_err(|error| fault::of_io(&error))?;
        let findings = verify::against_anchor(&found, head, connection).await.map_err(|error| fault::of(&error))?;
        for finding in &findings {
            tracing::error!(%finding, "the audit log does not agree with its anchor");
        }
        if !findings.is_empty() && found != Found::Missing {
            let kept = kept(database).into_iter().last().map_or(1, |(number, _)| number + 1);
            let name = file::beside(&path, &format!(".{kept}"));
            std::fs::rename(&path, name).map_err(|error| fault::of_io(&error))?;
        }
        let written = match found {
            Found::Anchor(anchor) if findings.is_empty() => Some(anchor.last),
            _ => None,
        };
        let mut anchors = Self { path, key, written, timer: None };
        if written.is_none() {
            // From the first moment on: a missing anchor is a finding.
            anchors.write(head, now).await.map_err(|error| fault::of_io(&error))?;
        }
        anchors.note(head);
        Ok(anchors)
    }

    /// To be told of each commit.
    pub(super) fn note(&mut self, head: &Head) {
        if self.written != Some(head.id) && self.timer.is_none() {
            self.timer = Some(Box::pin(tokio::time::sleep(EVERY)));
        }
    }

    /// Ready when the time has come; never, if there is nothing new.
    pub(super) async fn due(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn pressing(&self, head: &Head) -> bool {
        head.id >= self.written.unwrap_or(0) + ENTRIES
    }

    pub(super) async fn write(&mut self, head: &Head, now: Timestamp) -> io::Result<()> {
        self.timer = None;
        if self.written == Some(head.id) {
            return Ok(());
        }
        let (path, anchor) = (self.path.clone(), Anchor::new(&self.key, head, now));
        tokio::task::spawn_blocking(move || write(&path, &anchor)).await.map_err(io::Error::other)??;
        self.written = Some(head.id);
        Ok(())
    }
}

/// Anchors that the log contradicted when the database was opened, by number.
pub(super) fn kept(database: &Path) -> Vec<(u32, PathBuf)> {
    let anchor = path_of(database);
    (1..)
        .map(|number| (number, file::beside(&anchor, &format!(".{number}"))))
        .take_while(|(_, path)| path.exists())
        .collect()
}
