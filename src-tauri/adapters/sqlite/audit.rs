//! The audit log: rows that are only ever appended, each with a MAC over itself and the MAC before it.
//!
//! `mac(n) = HMAC-SHA-256(audit key, mac(n-1) ‖ id ‖ resolves ‖ entry)`, ids as 64-bit big-endian numbers, `resolves` 0 for a
//! begun entry, `mac(0)` 32 zero bytes. A begun entry and its outcome are rows of their own; the second refers to the first.

use async_trait::async_trait;
use engine::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    keys::DerivedKey,
    ports::AuditLog,
};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    Database, fault, json,
    writer::{Operation, Store},
};

pub(super) type MacBytes = [u8; 32];

/// The last entry and its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) mac: MacBytes,
}

impl Head {
    pub(super) const EMPTY: Head = Head { id: 0, mac: [0; 32] };

    /// What comes after it.
    pub(super) fn next(&self, key: &DerivedKey, resolves: Option<u64>, entry: &str) -> Head {
        let id = self.id + 1;
        Head { id, mac: link(key, &self.mac, id, resolves, entry) }
    }
}

pub(super) fn link(key: &DerivedKey, before: &MacBytes, id: u64, resolves: Option<u64>, entry: &str) -> MacBytes {
    let mut mac = keyed(key);
    mac.update(before);
    mac.update(&id.to_be_bytes());
    mac.update(&resolves.unwrap_or(0).to_be_bytes());
    mac.update(entry.as_bytes());
    mac.finalize().into_bytes().into()
}

pub(super) fn keyed(key: &DerivedKey) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, sqlx::Error> {
    let last: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT id, mac FROM audit ORDER BY id DESC LIMIT 1").fetch_optional(connection).await?;
    last.map_or(Ok(Head::EMPTY), |(id, mac)| {
        let mac = mac.try_into().map_err(|_| fault::unreadable("an audit entry's MAC"))?;
        Ok(Head { id: id.unsigned_abs(), mac })
    })
}

/// What an outcome's row holds.
#[derive(Serialize, Deserialize)]
struct Resolution {
    at: Timestamp,
    outcome: Outcome,
}

/// Entries read at once in a search, and in all: so many take a fraction of a second.
const CHUNK: i64 = 2_000;
const SCAN: i64 = 100_000;

#[derive(Debug)]
pub(super) struct SqliteAudit(pub(super) Database);

/// An entry must be on disk before what it announces is done, so no failure to write one is harmless.
fn fatal(mut fault: Fault) -> Fault {
    fault.class = Class::Fatal;
    fault
}

fn entry_of(row: &SqliteRow) -> Result<Entry, sqlx::Error> {
    let broken = |_| fault::unreadable("an audit entry");
    let resolution: Option<&str> = row.try_get(2)?;
    let resolution: Option<Resolution> = resolution.map(serde_json::from_str).transpose().map_err(broken)?;
    let (outcome, resolved) = resolution.map(|resolution| (resolution.outcome, resolution.at)).unzip();
    Ok(Entry {
        id: AuditId(row.try_get::<i64, _>(0)?.unsigned_abs()),
        begun: serde_json::from_str(row.try_get(1)?).map_err(broken)?,
        outcome,
        resolved,
    })
}

fn entries(rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<Entry>, Fault> {
    rows.and_then(|rows| rows.iter().map(entry_of).collect()).map_err(|error| fatal(fault::of(&error)))
}

fn row_id(id: AuditId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

#[async_trait]
impl AuditLog for SqliteAudit {
    async fn begin(&self, entry: Begun) -> Result<AuditId, Fault> {
        let entry = json(&entry);
        self.0.0.writer.call(Begin { entry }).await.map_err(fatal)
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        let entry = json(&Resolution { at: now, outcome });
        if self.0.0.writer.call(Complete { id, entry }).await.map_err(fatal)? {
            Ok(())
        } else {
            let subject = format!("audit entry {}: not begun, or already resolved", id.0);
            Err(Fault::new(Class::Permanent, Code::Unexpected).on(subject))
        }
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        entries(
            sqlx::query("SELECT id, entry, NULL FROM audit WHERE id IN (SELECT id FROM audit_open) ORDER BY id")
                .fetch_all(&self.0.0.readers)
                .await,
        )
    }

    /// Walks back through the log. The conditions are judged here, where the entry is understood; SQL only leaves out most of
    /// what cannot fit, so that a long log is read at the speed of reading.
    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        let mut found = Found::default();
        let mut before = search.before.map_or(i64::MAX, row_id);
        let mut left = SCAN;
        // One more than asked for tells whether there are more.
        while found.entries.len() <= search.limit {
            let rows = sqlx::query(
                "SELECT begun.id, begun.entry, outcome.entry,
                    (?3 IS NULL OR instr(begun.entry, ?3)) AND (?4 IS NULL OR instr(begun.entry, ?4))
                 FROM audit AS begun LEFT JOIN audit AS outcome ON outcome.resolves = begun.id
                 WHERE begun.resolves IS NULL AND begun.id < ?1 ORDER BY begun.id DESC LIMIT ?2",
            )
            .bind(before)
            .bind(CHUNK)
            .bind(search.record.as_ref().map(|key| json(key.id.as_str())))
            .bind(search.person.as_ref().map(json))
            .fetch_all(&self.0.0.readers)
            .await
            .map_err(|error| fatal(fault::of(&error)))?;
            let more = rows.len() as i64 == CHUNK;
            for row in rows {
                before = row.try_get(0).map_err(|error| fatal(fault::of(&error)))?;
                if row.try_get(3).map_err(|error| fatal(fault::of(&error)))? {
                    let entry = entry_of(&row).map_err(|error| fatal(fault::of(&error)))?;
                    found.entries.extend(Some(entry).filter(|entry| search.fits(entry)));
                }
            }
            left -= CHUNK;
            if !more {
                break;
            }
            if left <= 0 {
                found.next = Some(AuditId(before.unsigned_abs()));
                break;
            }
        }
        if found.entries.len() > search.limit {
            found.entries.truncate(search.limit);
            found.next = found.entries.last().map(|last| last.id);
        }
        Ok(found)
    }
}

/// Appends entries and moves the head on.
async fn append<'a>(
    store: &mut Store,
    entries: impl Iterator<Item = (Option<u64>, &'a str)>,
) -> Result<Vec<u64>, sqlx::Error> {
    let mut head = store.state.head.clone();
    let mut rows = Vec::new();
    for (resolves, entry) in entries {
        head = head.next(&store.audit_key, resolves, entry);
        rows.push((head.id, resolves, entry, hex(&head.mac)));
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query(
        "INSERT INTO audit (id, resolves, entry, mac)
         SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3) FROM json_each(?1) ORDER BY key",
    )
    .bind(json(&rows))
    .execute(&mut store.connection)
    .await?;
    let ids = rows.iter().map(|row| row.0).collect();
    store.state.head = head;
    Ok(ids)
}

pub(super) struct Begin {
    entry: String,
}

impl Operation for Begin {
    type Answer = AuditId;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<AuditId>, sqlx::Error> {
        let ids = append(store, batch.iter().map(|begin| (None, begin.entry.as_str()))).await?;
        sqlx::query("INSERT INTO audit_open (id) SELECT value FROM json_each(?1)")
            .bind(json(&ids))
            .execute(&mut store.connection)
            .await?;
        Ok(ids.into_iter().map(AuditId).collect())
    }
}

pub(super) struct Complete {
    id: AuditId,
    entry: String,
}

impl Operation for Complete {
    /// False if the entry is not open.
    type Answer = bool;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<bool>, sqlx::Error> {
        let ids: Vec<_> = batch.iter().map(|complete| row_id(complete.id)).collect();
        // What is resolved here is no longer open, so of two that name one entry the second comes too late.
        let mut open: Vec<i64> =
            sqlx::query_scalar("DELETE FROM audit_open WHERE id IN (SELECT value FROM json_each(?1)) RETURNING id")
                .bind(json(&ids))
                .fetch_all(&mut store.connection)
                .await?;
        let accepted: Vec<bool> = ids
            .iter()
            .map(|id| open.iter().position(|open| open == id).map(|at| open.swap_remove(at)).is_some())
            .collect();
        let resolved = batch.iter().zip(&accepted).filter(|(_, accepted)| **accepted);
        append(store, resolved.map(|(complete, _)| (Some(complete.id.0), complete.entry.as_str()))).await?;
        Ok(accepted)
    }
}
