//! Checks the audit log against its chain and its anchor, without changing anything.

use std::{fmt, path::Path};

use engine::{
    error::Fault,
    keys::{ClinicKey, DerivedKey, Purpose},
};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::{
    anchor::{self, Found},
    audit::{Head, MacBytes, hex, link},
    fault, file,
};

/// Something that an append-only log cannot have come to by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// This entry does not continue the chain: it, or the one before it, was altered, moved or put in.
    Broken {
        id: u64,
    },
    /// These entries are missing in between.
    Missing {
        from: u64,
        to: u64,
    },
    /// The log ends before the place that the anchor saw it at.
    CutOff {
        from: u64,
        to: u64,
    },
    /// The anchor saw another entry at this place.
    Replaced {
        id: u64,
    },
    AnchorMissing,
    /// The anchor does not carry our MAC.
    AnchorAltered,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Broken { id } => {
                write!(f, "entry {id} does not follow from the one before it: one of them was altered or moved")
            }
            Finding::Missing { from, to } => write!(f, "entries {from} to {to} were removed"),
            Finding::CutOff { from, to } => write!(f, "entries {from} to {to} were cut off the end"),
            Finding::Replaced { id } => write!(f, "entry {id} is not the one that the anchor was made at"),
            Finding::AnchorMissing => f.write_str("the anchor file is missing, so a cut at the end cannot be found"),
            Finding::AnchorAltered => f.write_str("the anchor file was altered"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rows read; begun entries and outcomes are one each.
    pub entries: u64,
    /// Up to where, and when, a cut at the end would have been found.
    pub anchored: Option<(u64, Timestamp)>,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks the log of the database at `path`, whether or not a station has it open.
///
/// # Errors
/// As [`super::Database::open`]; it needs no lock.
pub async fn verify(path: &Path, key: &ClinicKey) -> Result<Report, Fault> {
    let storage = |error: sqlx::Error| fault::of(&error);
    let mut connection = file::reader(path, key).connect().await.map_err(storage)?;
    let report = check(&mut connection, path, &key.derive(Purpose::AuditChain)).await;
    connection.close().await.map_err(storage)?;
    report
}

pub(super) async fn check(connection: &mut SqliteConnection, path: &Path, key: &DerivedKey) -> Result<Report, Fault> {
    // The anchors are read before the log: meanwhile that only grows.
    let io = |error: std::io::Error| fault::of_io(&error);
    let current = anchor::read(&anchor::path_of(path), key).map_err(io)?;
    let mut kept = Vec::new();
    for (_, path) in anchor::kept(path) {
        kept.push(anchor::read(&path, key).map_err(io)?);
    }
    let storage = |error: sqlx::Error| fault::of(&error);
    let (entries, head, mut findings) = chain(connection, key).await.map_err(storage)?;
    for found in kept.iter().chain([&current]) {
        findings.extend(against_anchor(found, &head, connection).await.map_err(storage)?);
    }
    let anchored = match current {
        Found::Anchor(anchor) => Some((anchor.last, anchor.at)),
        Found::Missing | Found::Altered => None,
    };
    Ok(Report { entries, anchored, findings })
}

async fn chain(connection: &mut SqliteConnection, key: &DerivedKey) -> Result<(u64, Head, Vec<Finding>), sqlx::Error> {
    let mut findings = Vec::new();
    let mut entries = 0;
    let mut head = Head::EMPTY;
    let mut rows = sqlx::query_as::<_, (i64, Option<i64>, String, Vec<u8>)>(
        "SELECT id, resolves, entry, mac FROM audit ORDER BY id",
    )
    .fetch(connection);
    while let Some((id, resolves, entry, mac)) = rows.try_next().await? {
        entries += 1;
        let id = id.unsigned_abs();
        // One that is no MAC at all is as wrong as any.
        let mac: MacBytes = mac.try_into().unwrap_or([0; 32]);
        if id != head.id + 1 {
            // What follows a gap cannot be checked against what is gone; it is believed, so that one gap is one finding.
            findings.push(Finding::Missing { from: head.id + 1, to: id.saturating_sub(1) });
        } else if link(key, &head.mac, id, resolves.map(i64::unsigned_abs), &entry) != mac {
            findings.push(Finding::Broken { id });
        }
        head = Head { id, mac };
    }
    Ok((entries, head, findings))
}

pub(super) async fn against_anchor(
    found: &Found,
    head: &Head,
    connection: &mut SqliteConnection,
) -> Result<Vec<Finding>, sqlx::Error> {
    let anchor = match found {
        Found::Missing if head.id == 0 => return Ok(Vec::new()),
        Found::Missing => return Ok(vec![Finding::AnchorMissing]),
        Found::Altered => return Ok(vec![Finding::AnchorAltered]),
        Found::Anchor(anchor) => anchor,
    };
    if anchor.last > head.id {
        return Ok(vec![Finding::CutOff { from: head.id + 1, to: anchor.last }]);
    }
    let mac: Option<Vec<u8>> = sqlx::query_scalar("SELECT mac FROM audit WHERE id = ?1")
        .bind(i64::try_from(anchor.last).unwrap_or(i64::MAX))
        .fetch_optional(connection)
        .await?;
    Ok(match mac {
        // A gap, which the chain tells of.
        None => Vec::new(),
        Some(mac) if hex(&mac) == anchor.mac => Vec::new(),
        Some(_) => vec![Finding::Replaced { id: anchor.last }],
    })
}
