//! What a command may ask of the running relay through the local socket, and the answers. Ids, counts, codes and times only.

use std::{sync::Arc, time::Duration};

use engine::{
    action::Action,
    audit::{Act, Begun, Entry, Outcome},
    key::Kind,
    ledger::Filter,
    ports::Clock as _,
    snapshot::Snapshot,
    supervisor::Handle,
};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    adapters::{clock::SystemClock, sqlite::Database},
    socket::Reply,
    view::words,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Snapshot,
    /// Snapshots as they come.
    Watch,
    Records {
        filter: Filter,
        limit: usize,
    },
    DeadLetters {
        limit: usize,
    },
    History {
        limit: usize,
    },
    Act {
        action: Action,
        person: Option<String>,
    },
    /// The clinic key was shown, written or restored by the command line: for the audit log.
    NoteKey {
        event: String,
        person: Option<String>,
    },
    VerifyAudit,
    Stop,
}

/// A record as the command line lists it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub key: String,
    pub text: String,
    pub since: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Snapshot(Box<Snapshot>),
    Lines(Vec<Line>),
    History(Vec<Entry>),
    Audit { entries: u64, findings: Vec<String> },
    Done,
    Refused(String),
}

/// Answers one request.
pub async fn answer(request: Request, handle: Handle, database: Database) -> Reply<Answer> {
    match request {
        Request::Watch => {
            let stream = futures::stream::unfold(handle.snapshots(), |mut snapshots| async move {
                snapshots.changed().await.ok()?;
                let snapshot = snapshots.borrow_and_update().clone();
                Some((Answer::Snapshot(Box::new(snapshot)), snapshots))
            });
            Reply::Many(stream.boxed())
        }
        other => Reply::One(
            one(other, handle, database)
                .await
                .unwrap_or_else(|fault| Answer::Refused(format!("{} ({fault})", words::sentence(fault.code)))),
        ),
    }
}

async fn one(request: Request, handle: Handle, database: Database) -> Result<Answer, engine::error::Fault> {
    Ok(match request {
        Request::Snapshot | Request::Watch => Answer::Snapshot(Box::new(handle.snapshots().borrow().clone())),
        Request::Records { filter, limit } => {
            let records = database.ledger().page(filter, None, limit).await?;
            Answer::Lines(records.iter().map(line).collect())
        }
        Request::DeadLetters { limit } => {
            let letters = database.ledger().dead_letters(limit).await?;
            let line = |letter: &engine::ledger::DeadLetter| Line {
                key: letter.id.clone(),
                text: letter.reason.clone(),
                since: letter.first_seen,
            };
            Answer::Lines(letters.iter().map(line).collect())
        }
        Request::History { limit } => Answer::History(database.audit().page(None, limit).await?),
        Request::Act { action, person } => match unknown(&action, &database).await? {
            Some(name) => Answer::Refused(format!("Nothing is known of {name}; nothing was done.")),
            None => {
                handle.act(action, person).await?;
                Answer::Done
            }
        },
        Request::NoteKey { event, person } => {
            note_key(&database, event, person).await?;
            Answer::Done
        }
        Request::VerifyAudit => {
            let report = database.verify_audit().await?;
            let findings = report.findings.iter().map(ToString::to_string).collect();
            Answer::Audit { entries: report.entries, findings }
        }
        Request::Stop => {
            handle.stop();
            Answer::Done
        }
    })
}

/// What an action names and nobody knows: asking for it must not make it known.
async fn unknown(action: &Action, database: &Database) -> Result<Option<String>, engine::error::Fault> {
    match action {
        Action::Retry { keys } | Action::SetAside { keys, .. } => {
            for key in keys {
                if key.kind != Kind::Link || database.ledger().read(key).await?.is_none() {
                    return Ok(Some(key.to_string()));
                }
            }
        }
        Action::DropLetters { ids } => {
            let known = database.ledger().dead_letters(usize::MAX).await?;
            return Ok(ids.iter().find(|id| !known.iter().any(|letter| letter.id == **id)).cloned());
        }
        Action::SyncNow | Action::Pause { .. } | Action::Resume => {}
    }
    Ok(None)
}

/// Enters what was done with the clinic key into the audit log.
pub async fn note_key(database: &Database, event: String, person: Option<String>) -> Result<(), engine::error::Fault> {
    let at = SystemClock::new().now();
    let begun = Begun {
        at,
        by: database.owner().clone(),
        person,
        act: Act::ClinicKey,
        key: None,
        epoch: 0,
        expected: None,
        fields: vec![event],
    };
    let entry = database.audit().begin(begun).await?;
    database.audit().complete(entry, Outcome::Done { version: None }, at).await
}

fn line(record: &engine::ledger::Record) -> Line {
    let held = record.held.as_ref().map(|held| format!("held by {} (epoch {})", held.owner.station, held.stamp.epoch));
    let dead = record.dead.map(|dead| words::sentence(dead.code).to_owned());
    let wanted = record.wanted.map(|wanted| match wanted.waits_for {
        Some(code) => format!("waiting: {}", words::sentence(code)),
        None => "waiting".to_owned(),
    });
    let notice = record.notice.map(|code| words::sentence(code).to_owned());
    let text: Vec<_> = [dead, held, wanted, notice].into_iter().flatten().collect();
    let since = record.dead.map(|dead| dead.since).or(record.wanted.map(|wanted| wanted.first_seen));
    Line { key: record.key.to_string(), text: text.join("; "), since: since.unwrap_or(record.updated) }
}

/// When a pause of this length ends.
pub fn pause_until(now: Timestamp, long: Duration) -> Timestamp {
    let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
    now.saturating_add(long).unwrap_or(Timestamp::MAX)
}

/// Serves the socket of a data directory until `stop`.
pub async fn serve(
    server: crate::socket::Server,
    handle: Handle,
    database: Database,
    stop: tokio_util::sync::CancellationToken,
) {
    let shared = Arc::new((handle, database));
    server
        .serve(stop, move |request: Request| {
            let (handle, database) = (*shared).clone();
            answer(request, handle, database)
        })
        .await;
}
