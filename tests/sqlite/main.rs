//! What is special about the embedded database: what it does when storage fails, what it finds when the audit log was tampered
//! with, and what is left after a power cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that panics has failed; how long an answer takes is measured from outside"
)]

mod faults;
mod power;
mod tamper;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chart_relay::adapters::{
    clock::SystemClock,
    sqlite::{Database, Options},
};
use engine::{
    audit::{Act, Begun},
    error::Fault,
    key::{BootId, RecordKey, StationId},
    keys::{ClinicKey, Purpose},
    ledger::{Owner, Want},
    ports::Message,
};
use jiff::Timestamp;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

pub(crate) fn key() -> ClinicKey {
    ClinicKey::from_bytes([7; 32])
}

pub(crate) fn owner() -> Owner {
    Owner { station: StationId::new("front-desk").unwrap(), boot: BootId::new("boot-1").unwrap() }
}

pub(crate) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.db");
    (folder, path)
}

pub(crate) async fn open(path: &Path) -> Result<Database, Fault> {
    open_with(path, Options::default()).await
}

pub(crate) async fn open_with(path: &Path, options: Options) -> Result<Database, Fault> {
    Database::open_with(path, &key(), owner(), Arc::new(SystemClock::new()), options).await
}

/// As somebody who has the key opens it, past everything of ours.
pub(crate) async fn raw(path: &Path, key: &ClinicKey) -> SqliteConnection {
    let hex: String = key.derive(Purpose::Database).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .pragma("key", format!("\"x'{hex}'\""))
        .connect()
        .await
        .unwrap()
}

pub(crate) async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

pub(crate) fn message(number: usize) -> Message {
    Message { id: format!("m-{number}"), group: "g".into(), body: format!("{{\"synthetic\":{number}}}") }
}

pub(crate) fn patient(number: usize) -> RecordKey {
    RecordKey::parse(&format!("north/link/Patient/{number}")).unwrap()
}

pub(crate) fn want(number: usize) -> Want {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    Want { key: patient(number), first_seen: now, not_before: now, waits_for: None }
}

pub(crate) fn begun(number: usize) -> Begun {
    Begun {
        at: Timestamp::from_second(1_800_000_000).unwrap(),
        by: owner(),
        person: None,
        act: Act::EditRow,
        key: Some(patient(number)),
        epoch: 1,
        expected: None,
        fields: vec!["LastName".into()],
    }
}
