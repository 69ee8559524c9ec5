//! What a command or a window may ask of the running relay through the local socket, and the answers. Ids, counts, codes and times
//! only, with two exceptions, both read live and entered in the audit log first: [`Request::Reveal`] answers with names, and
//! [`Request::Difference`] with what both sides of one record say.

use std::{sync::Arc, time::Duration};

use engine::{
    action::Action,
    audit::{Act, Begun, Found, Outcome, Search},
    difference::Difference,
    error::Code,
    key::{FirmId, Kind, RecordKey, StationId},
    ledger::{Filter, Record},
    link::{self, Wrote},
    ports::Clock as _,
    reveal::Revealed,
    snapshot::Snapshot,
    supervisor::Handle,
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    adapters::{
        aws::{Requests, cost::Spent},
        clock::SystemClock,
        sqlite::Database,
    },
    config::Config,
    socket::Reply,
    stations::{Roster, Seen},
    view::words,
    watched::{self, Watched},
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
    /// Records with fields about which a person has to decide, in order of key, `after` excluded.
    Conflicts {
        after: Option<RecordKey>,
        limit: usize,
    },
    /// What both sides of one record say now, what would be done about it, and what the chart said in these of its versions.
    Difference {
        key: RecordKey,
        versions: Vec<String>,
        person: Option<String>,
    },
    /// The records of the patient that a record belongs to, the patient's first.
    Chart {
        of: RecordKey,
        limit: usize,
    },
    /// The clinic key was shown, written or restored by the command line: for the audit log.
    NoteKey {
        event: String,
        person: Option<String>,
    },
    VerifyAudit,
    /// Encounters and documents of the EHRs, so many of each at most.
    Watched {
        limit: usize,
    },
    /// Which station last wrote for this record.
    LastWrite {
        key: RecordKey,
    },
    /// Who takes part beside this station; nobody where it works by itself.
    Stations,
    /// Free the name of a station that is gone for good.
    ForgetStation {
        station: StationId,
        person: Option<String>,
    },
    /// What AWS has billed for.
    Spent,
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
    Conflicts {
        conflicts: Vec<OpenConflict>,
        /// There are others behind these.
        more: bool,
    },
    /// Values of the record, for the screen alone.
    Difference(Box<Difference>),
    Chart(Vec<RecordKey>),
    Audit {
        entries: u64,
        findings: Vec<String>,
    },
    Watched(Vec<Watched>),
    LastWrite(Option<Wrote>),
    Stations(Vec<Seen>),
    /// `None`: nothing is shared.
    Spent(Option<Spending>),
    Done,
    Refused(Refusal),
}

/// What this station has asked of AWS since its start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spending {
    pub spent: Spent,
    pub fifo: bool,
    /// Messages that it received.
    pub events: u64,
}

impl Spending {
    pub fn lines(&self) -> Vec<String> {
        self.spent.lines(self.events, self.fifo)
    }
}

/// What a record is called where others may look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub key: RecordKey,
    pub pseudonym: String,
    /// It is the pseudonym of the record's patient.
    pub patient: bool,
}

/// A record about which a person has to decide. Names and dates; the values are read live by [`Request::Difference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConflict {
    pub key: RecordKey,
    /// The record it belongs to: a measurement's patient.
    pub parent: Option<RecordKey>,
    pub fields: Vec<OpenField>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenField {
    pub field: String,
    pub since: Timestamp,
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
    /// Other stations may take part.
    #[serde(default)]
    pub shared: bool,
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
        let synced = config.firms.iter().map(|firm| (&firm.id, &firm.name));
        let only_watched = config.watched.iter().filter(|firm| config.firms.iter().all(|other| other.id != firm.id));
        let firms = synced.chain(only_watched.map(|firm| (&firm.id, &firm.name)));
        let firms = firms.map(|(id, name)| FirmName { id: id.clone(), name: name.clone() });
        Self {
            station: config.station.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            demo,
            firms: firms.collect(),
            shared: config.shared.is_some(),
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
    /// The ids that it names are kept, so that it can be read again.
    pub kept: bool,
}

/// Records looked through at once.
const PAGE: usize = 500;

/// What the running relay answers requests from.
#[derive(Debug, Clone)]
pub struct Control {
    pub about: About,
    pub database: Database,
    pub snapshots: watch::Receiver<Snapshot>,
    /// `None` as long as it waits for what stations share.
    pub working: watch::Receiver<Option<AtWork>>,
    /// Tells it to end.
    pub stop: CancellationToken,
    /// What is counted of the calls to AWS, and whether the queue is FIFO; `None`: nothing is shared.
    pub requests: Option<(Arc<Requests>, bool)>,
}

/// A relay that has begun to work.
#[derive(Debug, Clone)]
pub struct AtWork {
    pub handle: Handle,
    /// Who takes part beside it, where the work is shared.
    pub roster: Option<Roster>,
}

impl Control {
    /// Of a relay that works already, by itself. Must be called inside a tokio runtime.
    pub fn new(handle: Handle, database: Database, about: About) -> Self {
        let stop = CancellationToken::new();
        let (told, to_stop) = (stop.clone(), handle.clone());
        tokio::spawn(async move {
            told.cancelled().await;
            to_stop.stop();
        });
        let snapshots = handle.snapshots();
        let (_, working) = watch::channel(Some(AtWork { handle, roster: None }));
        Self { about, database, snapshots, working, stop, requests: None }
    }

    /// Serves the socket of a data directory until `farewell`.
    pub async fn serve(self, server: crate::socket::Server, farewell: CancellationToken) {
        server.serve(farewell, move |request: Request| self.clone().answer(request)).await;
    }

    async fn answer(self, request: Request) -> Reply<Answer> {
        match request {
            Request::Watch => {
                let mut snapshots = self.snapshots;
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

    /// What is answered whether it works already or waits.
    async fn one(self, request: Request) -> Result<Answer, engine::error::Fault> {
        let Self { about, database, snapshots, working, stop, requests } = self;
        Ok(match request {
            Request::Snapshot | Request::Watch => Answer::Snapshot(Box::new(snapshots.borrow().clone())),
            Request::About => Answer::About(about),
            Request::Search(search) => Answer::Found(database.audit().search(&search).await?),
            Request::NoteKey { event, person } => {
                note_key(&database, event, person).await?;
                Answer::Done
            }
            Request::VerifyAudit => {
                let report = database.verify_audit().await?;
                let findings = report.findings.iter().map(ToString::to_string).collect();
                Answer::Audit { entries: report.entries, findings }
            }
            Request::Spent => Answer::Spent(requests.map(|(requests, fifo)| {
                let events = snapshots.borrow().totals.deliveries;
                Spending { spent: requests.spent(), fifo, events }
            })),
            Request::Stop => {
                stop.cancel();
                Answer::Done
            }
            other => {
                let working = working.borrow().clone();
                match working {
                    Some(working) => working.one(other, &database).await?,
                    None => Answer::Refused(Refusal::new(words::not_joined(&snapshots.borrow().verdict))),
                }
            }
        })
    }
}

impl AtWork {
    async fn one(self, request: Request, database: &Database) -> Result<Answer, engine::error::Fault> {
        let Self { handle, roster } = self;
        Ok(match request {
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
                    kept: !letter.sealed_body.is_empty(),
                };
                Answer::DeadLetters { letters: letters.into_iter().take(limit).map(letter).collect(), more }
            }
            Request::Names { keys } => {
                let mut tags = Vec::with_capacity(keys.len());
                for key in keys {
                    let patient = patient_of(&key, &**handle.ledger()).await?;
                    let pseudonym = handle.pseudonym(patient.as_ref().unwrap_or(&key));
                    tags.push(Tag { pseudonym, patient: patient.is_some(), key });
                }
                Answer::Names(tags)
            }
            Request::Act { action, person } => match unknown(&action, &**handle.ledger()).await? {
                Some(name) => Answer::Refused(Refusal::new(format!("Nothing is known of {name}; nothing was done."))),
                None => {
                    handle.act(action, person).await?;
                    Answer::Done
                }
            },
            Request::Watched { limit } => {
                let firms = handle.snapshots().borrow().watching.clone();
                let watched = watched::all(&firms, SystemClock::new().now(), limit, &**handle.ledger()).await?;
                Answer::Watched(watched)
            }
            Request::Reveal { keys, person } => Answer::Revealed(handle.reveal(keys, person).await?),
            Request::LastWrite { key } => {
                let record = handle.ledger().read(&key).await?;
                Answer::LastWrite(record.and_then(|record| link::last_write(&record.state)))
            }
            Request::Conflicts { after, limit } => {
                let (conflicts, more) = conflicts(after, limit, &**handle.ledger()).await?;
                Answer::Conflicts { conflicts, more }
            }
            Request::Difference { key, versions, person } => {
                Answer::Difference(Box::new(handle.difference(key, versions, person).await?))
            }
            Request::Chart { of, limit } => {
                let patient = patient_of(&of, &**handle.ledger()).await?;
                Answer::Chart(chart_of(patient.unwrap_or(of), limit, &**handle.ledger()).await?)
            }
            Request::Stations => Answer::Stations(match roster {
                Some(roster) => roster.all().await,
                None => Vec::new(),
            }),
            Request::ForgetStation { station, person } => match roster {
                Some(roster) => forget(&station, person, &roster, &handle, database).await?,
                None => Answer::Refused(Refusal::new(words::ALONE)),
            },
            // Answered before.
            Request::Snapshot
            | Request::Watch
            | Request::About
            | Request::Search(_)
            | Request::NoteKey { .. }
            | Request::VerifyAudit
            | Request::Spent
            | Request::Stop => Answer::Done,
        })
    }
}

/// Frees the name of a station that is gone for good.
async fn forget(
    name: &StationId,
    person: Option<String>,
    roster: &Roster,
    handle: &Handle,
    database: &Database,
) -> Result<Answer, engine::error::Fault> {
    let refused = |sentence: String| Ok(Answer::Refused(Refusal::new(sentence)));
    let Some(seen) = roster.all().await.into_iter().find(|seen| seen.station == *name) else {
        return refused(words::no_such_station(name));
    };
    let held = handle.ledger().held().await?;
    let holds = held.iter().filter(|(_, held)| held.owner.station == *name).count();
    if let Some(sentence) = words::not_forgotten(&seen, holds) {
        return refused(sentence);
    }
    let at = SystemClock::new().now();
    let begun = Begun {
        at,
        by: database.owner().clone(),
        person,
        act: Act::Asked,
        key: None,
        epoch: 0,
        expected: None,
        fields: vec!["forget-station".to_owned(), name.to_string()],
    };
    let entry = database.audit().begin(begun).await?;
    let forgotten = roster.forget(name).await;
    let outcome = match &forgotten {
        Ok(true) => Outcome::Done { version: None },
        Ok(false) => Outcome::Refused { code: Code::NoLonger },
        Err(fault) => Outcome::Refused { code: fault.code },
    };
    database.audit().complete(entry, outcome, SystemClock::new().now()).await?;
    if forgotten? { Ok(Answer::Done) } else { refused(words::seen_again(name)) }
}

/// The patient that a record belongs to, as far as the ledger knows.
async fn patient_of(
    key: &RecordKey,
    ledger: &dyn engine::ports::Ledger,
) -> Result<Option<RecordKey>, engine::error::Fault> {
    let is_patient = |key: &RecordKey| key.kind == Kind::Link && key.resource.as_str() == "Patient";
    if is_patient(key) {
        return Ok(Some(key.clone()));
    }
    let record = ledger.read(key).await?;
    Ok(record.and_then(|record| link::parent(&record.state)).filter(is_patient))
}

/// What an action names and nobody knows: asking for it must not make it known.
async fn unknown(action: &Action, ledger: &dyn engine::ports::Ledger) -> Result<Option<String>, engine::error::Fault> {
    match action {
        Action::Retry { keys } | Action::Resync { keys } | Action::SetAside { keys, .. } | Action::PutBack { keys } => {
            return first_unknown(keys, ledger).await;
        }
        Action::Settle { key, .. } => return first_unknown(std::slice::from_ref(key), ledger).await,
        Action::RetryLetters { ids } | Action::DropLetters { ids } => {
            let known = ledger.dead_letters(usize::MAX).await?;
            return Ok(ids.iter().find(|id| !known.iter().any(|letter| letter.id == **id)).cloned());
        }
        Action::SyncNow | Action::Pause { .. } | Action::Resume | Action::Deleted { .. } => {}
    }
    Ok(None)
}

async fn first_unknown(
    keys: &[RecordKey],
    ledger: &dyn engine::ports::Ledger,
) -> Result<Option<String>, engine::error::Fault> {
    for key in keys {
        if !key.kind.is_run() || ledger.read(key).await?.is_none() {
            return Ok(Some(key.to_string()));
        }
    }
    Ok(None)
}

/// Records with fields about which a person has to decide, in order of key, and whether there are others.
async fn conflicts(
    mut after: Option<RecordKey>,
    limit: usize,
    ledger: &dyn engine::ports::Ledger,
) -> Result<(Vec<OpenConflict>, bool), engine::error::Fault> {
    let mut found = Vec::new();
    loop {
        let page = ledger.page(Filter::Noticed, after.as_ref(), PAGE).await?;
        let last = page.len() < PAGE;
        after = page.last().map(|record| record.key.clone()).or(after);
        for record in page.into_iter().filter(|record| record.notice == Some(Code::Conflict)) {
            if found.len() == limit {
                return Ok((found, true));
            }
            let link::Look { parent, conflicts } = link::Look::at(&record.state);
            let fields = conflicts.into_iter().map(|(field, since)| OpenField { field, since }).collect();
            found.push(OpenConflict { key: record.key, parent, fields });
        }
        if last {
            return Ok((found, false));
        }
    }
}

/// A patient's record and those that belong to it, as far as the ledger knows; so many at most.
async fn chart_of(
    patient: RecordKey,
    limit: usize,
    ledger: &dyn engine::ports::Ledger,
) -> Result<Vec<RecordKey>, engine::error::Fault> {
    let (mut found, mut after) = (vec![patient.clone()], None);
    loop {
        let page = ledger.page(Filter::All, after.as_ref(), PAGE).await?;
        let last = page.len() < PAGE;
        after = page.last().map(|record| record.key.clone()).or(after);
        let of_patient = |record: &Record| link::parent(&record.state).as_ref() == Some(&patient);
        found.extend(page.into_iter().filter(of_patient).map(|record| record.key));
        if last || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
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
