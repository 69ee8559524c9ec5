//! What a command or a window may ask of the running relay through the local socket, and the answers. Ids, counts, codes and times
//! only, with one exception: [`Request::Reveal`] answers with names, read live from the chart.

use std::time::Duration;

use engine::{
    action::Action,
    audit::{Act, Begun, Found, Outcome, Search},
    error::Code,
    key::{FirmId, Kind, RecordKey, StationId},
    ledger::{Filter, Record},
    link,
    ports::Clock as _,
    reveal::Revealed,
    snapshot::Snapshot,
    supervisor::Handle,
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    adapters::{clock::SystemClock, sqlite::Database},
    config::Config,
    socket::Reply,
    view::words,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Snapshot,
    /// The snapshot of now, and then each new one.
    Watch,
    /// Whose relay this is.
    About,
    /// In order of key, `after` excluded.
    Records {
        filter: Filter,
        after: Option<RecordKey>,
        limit: usize,
    },
    DeadLetters {
        limit: usize,
    },
    /// What these records are called on the screen.
    Names {
        keys: Vec<RecordKey>,
    },
    /// In the audit log.
    Search(Search),
    Act {
        action: Action,
        person: Option<String>,
    },
    /// The patients' names behind these records.
    Reveal {
        keys: Vec<RecordKey>,
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

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Snapshot(Box<Snapshot>),
    About(About),
    /// So many of `total` in all.
    Records {
        records: Vec<Record>,
        total: u64,
    },
    DeadLetters {
        letters: Vec<Letter>,
        /// There are others beside these.
        more: bool,
    },
    Names(Vec<Tag>),
    Found(Found),
    Revealed(Vec<Revealed>),
    Audit {
        entries: u64,
        findings: Vec<String>,
    },
    Done,
    Refused(Refusal),
}

/// What a record is called where others may look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub key: RecordKey,
    pub pseudonym: String,
    /// It is the pseudonym of the record's patient.
    pub patient: bool,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub sentence: String,
    pub code: Option<Code>,
}

impl Refusal {
    fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: None }
    }
}

impl From<engine::error::Fault> for Refusal {
    fn from(fault: engine::error::Fault) -> Self {
        Self { sentence: format!("{} ({fault})", words::sentence(fault.code)), code: Some(fault.code) }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Whose relay it is that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub station: StationId,
    pub version: String,
    /// A synthetic clinic: nothing there is real.
    pub demo: bool,
    pub firms: Vec<FirmName>,
    /// Failed attempts after which a record needs a person.
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmName {
    pub id: FirmId,
    /// For the screen.
    pub name: String,
}

impl About {
    pub fn of(config: &Config, demo: bool) -> Self {
        let firms = config.firms.iter().map(|firm| FirmName { id: firm.id.clone(), name: firm.name.clone() });
        Self {
            station: config.station.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            demo,
            firms: firms.collect(),
            attempts: config.engine.attempts,
        }
    }
}

/// A message that could not be read, without its body: that may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub id: String,
    pub code: Code,
    /// In words that quote nothing.
    pub reason: String,
    pub first_seen: Timestamp,
}

/// What the running relay answers requests from.
#[derive(Debug, Clone)]
pub struct Control {
    handle: Handle,
    database: Database,
    about: About,
}

impl Control {
    pub fn new(handle: Handle, database: Database, about: About) -> Self {
        Self { handle, database, about }
    }

    /// Serves the socket of a data directory until `stop`.
    pub async fn serve(self, server: crate::socket::Server, stop: tokio_util::sync::CancellationToken) {
        server.serve(stop, move |request: Request| self.clone().answer(request)).await;
    }

    async fn answer(self, request: Request) -> Reply<Answer> {
        match request {
            Request::Watch => {
                let mut snapshots = self.handle.snapshots();
                // What there is now is the first that comes.
                snapshots.mark_changed();
                let stream = stream::unfold(snapshots, |mut snapshots| async move {
                    snapshots.changed().await.ok()?;
                    let snapshot = snapshots.borrow_and_update().clone();
                    Some((Answer::Snapshot(Box::new(snapshot)), snapshots))
                });
                Reply::Many(stream.boxed())
            }
            other => Reply::One(self.one(other).await.unwrap_or_else(|fault| Answer::Refused(fault.into()))),
        }
    }

    async fn one(self, request: Request) -> Result<Answer, engine::error::Fault> {
        let Self { handle, database, about } = self;
        Ok(match request {
            Request::Snapshot | Request::Watch => Answer::Snapshot(Box::new(handle.snapshots().borrow().clone())),
            Request::About => Answer::About(about),
            Request::Records { filter, after, limit } => {
                let mut records = handle.ledger().page(filter, after.as_ref(), limit).await?;
                // Hashes, and nobody's business but the engine's.
                records.iter_mut().for_each(|record| record.state.clear());
                Answer::Records { records, total: handle.ledger().count(filter).await? }
            }
            Request::DeadLetters { limit } => {
                let letters = handle.ledger().dead_letters(limit.saturating_add(1)).await?;
                let more = letters.len() > limit;
                let letter = |letter: engine::ledger::DeadLetter| Letter {
                    id: letter.id,
                    code: letter.code,
                    reason: letter.reason,
                    first_seen: letter.first_seen,
                };
                Answer::DeadLetters { letters: letters.into_iter().take(limit).map(letter).collect(), more }
            }
            Request::Names { keys } => {
                let mut tags = Vec::with_capacity(keys.len());
                for key in keys {
                    let patient = patient_of(&key, &database).await?;
                    let pseudonym = handle.pseudonym(patient.as_ref().unwrap_or(&key));
                    tags.push(Tag { pseudonym, patient: patient.is_some(), key });
                }
                Answer::Names(tags)
            }
            Request::Search(search) => Answer::Found(database.audit().search(&search).await?),
            Request::Act { action, person } => match unknown(&action, &**handle.ledger()).await? {
                Some(name) => Answer::Refused(Refusal::new(format!("Nothing is known of {name}; nothing was done."))),
                None => {
                    handle.act(action, person).await?;
                    Answer::Done
                }
            },
            Request::Reveal { keys, person } => Answer::Revealed(handle.reveal(keys, person).await?),
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
}

/// The patient that a record belongs to, as far as the ledger knows.
async fn patient_of(key: &RecordKey, database: &Database) -> Result<Option<RecordKey>, engine::error::Fault> {
    let is_patient = |key: &RecordKey| key.kind == Kind::Link && key.resource.as_str() == "Patient";
    if is_patient(key) {
        return Ok(Some(key.clone()));
    }
    let record = database.ledger().read(key).await?;
    Ok(record.and_then(|record| link::parent(&record.state)).filter(is_patient))
}

/// What an action names and nobody knows: asking for it must not make it known.
async fn unknown(action: &Action, ledger: &dyn engine::ports::Ledger) -> Result<Option<String>, engine::error::Fault> {
    match action {
        Action::Retry { keys } | Action::SetAside { keys, .. } | Action::PutBack { keys } => {
            for key in keys {
                if !key.kind.is_run() || ledger.read(key).await?.is_none() {
                    return Ok(Some(key.to_string()));
                }
            }
        }
        Action::DropLetters { ids } => {
            let known = ledger.dead_letters(usize::MAX).await?;
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

/// When a pause of this length ends.
pub fn pause_until(now: Timestamp, long: Duration) -> Timestamp {
    let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
    now.saturating_add(long).unwrap_or(Timestamp::MAX)
}
