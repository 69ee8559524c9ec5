//! In-memory ports for tests: they keep the contracts of [`crate::ports`] exactly and fail never. Whoever wants faults wraps
//! them. Time is tokio's, which tests pause.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use tokio::{sync::Notify, time::Instant};

use crate::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey, ResourceId, ResourceType},
    ledger::{
        Claim, Commit, Dead, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Stamp, Survey, Take, Want,
        Wanted,
    },
    ports::{
        AuditLog, Change, Changes, ClinicDatabase, Clock, Delivery, Depth, FhirServer, Ledger, Message, Notes,
        PageToken, Queue, Read, Receipt, Resource,
    },
    row::{Fields, ModId, Row, RowId, Table, Value},
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that tests set: wall time may be wrong and jump, elapsed time may run on while tasks sleep.
#[derive(Debug)]
pub struct FakeClock {
    start: Instant,
    wall: Mutex<(Timestamp, SignedDuration)>,
    suspended: Mutex<Duration>,
}

impl FakeClock {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            wall: Mutex::new((start, SignedDuration::ZERO)),
            suspended: Mutex::default(),
        })
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, by: SignedDuration) {
        lock(&self.wall).1 += by;
    }

    /// The machine slept: time went on, and no timer ran.
    pub fn suspend(&self, long: Duration) {
        *lock(&self.suspended) += long;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let (start, offset) = *lock(&self.wall);
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::ZERO);
        start.saturating_add(elapsed).and_then(|now| now.saturating_add(offset)).unwrap_or(start)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed() + *lock(&self.suspended)
    }
}

/// A queue in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    visibility: Duration,
    messages: Mutex<Messages>,
    sent: Notify,
}

#[derive(Debug, Default)]
struct Messages {
    next: u64,
    receipts: u64,
    all: BTreeMap<u64, Stored>,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    first_sent: Timestamp,
    receives: u32,
    taken: Option<(Receipt, Duration)>,
}

impl MemoryQueue {
    pub fn new(clock: Arc<dyn Clock>, visibility: Duration) -> Arc<Self> {
        Arc::new(Self { clock, visibility, messages: Mutex::default(), sent: Notify::new() })
    }

    /// The ids of all messages that are not deleted.
    pub fn ids(&self) -> Vec<String> {
        lock(&self.messages).all.values().map(|stored| stored.message.id.clone()).collect()
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        let Messages { receipts, all, .. } = &mut *messages;
        all.values_mut()
            .filter(|stored| stored.taken.as_ref().is_none_or(|(_, until)| *until <= now))
            .take(max)
            .map(|stored| {
                *receipts += 1;
                let receipt = Receipt(receipts.to_string());
                stored.receives += 1;
                stored.taken = Some((receipt.clone(), now + self.visibility));
                Delivery {
                    id: stored.message.id.clone(),
                    body: stored.message.body.clone(),
                    receipt,
                    first_sent: stored.first_sent,
                    receives: stored.receives,
                }
            })
            .collect()
    }

    /// When the next message becomes visible by itself.
    fn next_visible(&self) -> Option<Duration> {
        lock(&self.messages).all.values().filter_map(|stored| stored.taken.as_ref().map(|(_, until)| *until)).min()
    }

    /// Changes the deliveries that still are the holder's; answers with the others.
    fn for_ours(&self, receipts: &[Receipt], mut change: impl FnMut(&mut Messages, u64)) -> Vec<Receipt> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        let mut lost = Vec::new();
        for receipt in receipts {
            let found = messages.all.iter().find(|(_, stored)| {
                stored.taken.as_ref().is_some_and(|(taken, until)| taken == receipt && *until > now)
            });
            match found.map(|(number, _)| *number) {
                Some(number) => change(&mut messages, number),
                None => lost.push(receipt.clone()),
            }
        }
        lost
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, new: Vec<Message>) -> Result<(), Fault> {
        let first_sent = self.clock.now();
        let mut messages = lock(&self.messages);
        for message in new {
            let number = messages.next;
            messages.next += 1;
            messages.all.insert(number, Stored { message, first_sent, receives: 0, taken: None });
        }
        self.sent.notify_waiters();
        Ok(())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            // Registered before looking, or a message sent in between would not wake us.
            let sent = self.sent.notified();
            let taken = self.take(max);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let until = self.next_visible().map(|at| Instant::now() + at.saturating_sub(self.clock.elapsed()));
            tokio::select! {
                biased;
                () = sent => {}
                () = tokio::time::sleep_until(until.unwrap_or(deadline).min(deadline)) => {
                    if Instant::now() >= deadline {
                        return Ok(self.take(max));
                    }
                }
            }
        }
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        Ok(self.for_ours(receipts, |messages, number| {
            messages.all.remove(&number);
        }))
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        let until = self.clock.elapsed() + self.visibility;
        Ok(self.for_ours(receipts, |messages, number| {
            if let Some((_, taken)) = messages.all.get_mut(&number).and_then(|stored| stored.taken.as_mut()) {
                *taken = until;
            }
        }))
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.for_ours(receipts, |messages, number| {
            if let Some(stored) = messages.all.get_mut(&number) {
                stored.taken = None;
            }
        });
        self.sent.notify_waiters();
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let now = self.clock.elapsed();
        let messages = lock(&self.messages);
        let in_flight =
            messages.all.values().filter(|stored| stored.taken.as_ref().is_some_and(|(_, until)| *until > now)).count()
                as u64;
        Ok(Depth { waiting: messages.all.len() as u64 - in_flight, in_flight })
    }

    fn visibility(&self) -> Duration {
        self.visibility
    }
}

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    records: Mutex<BTreeMap<RecordKey, Record>>,
    letters: Mutex<BTreeMap<String, DeadLetter>>,
}

impl MemoryLedger {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All records, for assertions.
    pub fn records(&self) -> BTreeMap<RecordKey, Record> {
        lock(&self.records).clone()
    }

    fn under<T>(&self, lease: &Lease, change: impl FnOnce(&mut Record) -> T) -> Result<T, LedgerError> {
        let mut records = lock(&self.records);
        let record = records.get_mut(&lease.key).ok_or(LedgerError::Lost)?;
        let ours =
            record.held.as_ref().is_some_and(|held| held.owner == lease.owner && held.stamp.epoch == lease.epoch);
        if ours { Ok(change(record)) } else { Err(LedgerError::Lost) }
    }
}

fn new_record(key: &RecordKey, now: Timestamp) -> Record {
    Record {
        key: key.clone(),
        state: String::new(),
        stamp: Stamp { epoch: 0, beat: 0 },
        held: None,
        generation: 0,
        wanted: None,
        attempts: 0,
        dead: None,
        notice: None,
        updated: now,
    }
}

fn keeps(filter: Filter, record: &Record) -> bool {
    match filter {
        Filter::All => true,
        Filter::Wanted => record.wanted.is_some() && record.dead.is_none(),
        Filter::Held => record.held.is_some(),
        Filter::Dead => record.dead.is_some(),
        Filter::Noticed => record.notice.is_some(),
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        let mut records = lock(&self.records);
        let record = records.entry(key.clone()).or_insert_with(|| new_record(key, claim.now));
        if let Some(held) = &record.held
            && held.owner.station != claim.owner.station
            && Some(held.stamp) != claim.overdue
        {
            return Ok(Take::Busy(held.clone()));
        }
        record.stamp = Stamp { epoch: record.stamp.epoch + 1, beat: 0 };
        record.held = Some(Held { owner: claim.owner.clone(), stamp: record.stamp, term: claim.term });
        let lease = Lease { key: key.clone(), owner: claim.owner.clone(), epoch: record.stamp.epoch, term: claim.term };
        Ok(Take::Taken(Box::new(record.clone()), lease))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        Ok(leases
            .iter()
            .map(|lease| {
                self.under(lease, |record| {
                    record.stamp.beat += 1;
                    if let Some(held) = &mut record.held {
                        held.stamp = record.stamp;
                    }
                })
                .is_ok()
            })
            .collect())
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.under(lease, |record| {
            state.clone_into(&mut record.state);
            record.updated = now;
        })
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.under(lease, |record| {
            let moved = record.generation != commit.generation;
            record.held = None;
            record.state = commit.state;
            record.notice = commit.notice;
            record.updated = commit.now;
            match commit.finish {
                Finish::Done => {
                    record.attempts = 0;
                    record.dead = None;
                    if !moved {
                        record.wanted = None;
                    }
                }
                Finish::Later { not_before, waits_for, attempt } => {
                    record.attempts += u32::from(attempt);
                    record.dead = None;
                    let first_seen =
                        record.wanted.map_or(commit.first_seen, |wanted| wanted.first_seen.min(commit.first_seen));
                    // What was marked since the run began keeps its own time.
                    let not_before = match record.wanted {
                        Some(wanted) if moved => wanted.not_before.min(not_before),
                        _ => not_before,
                    };
                    record.wanted = Some(Wanted { first_seen, not_before, waits_for });
                }
                Finish::Dead { code } => {
                    record.attempts = 0;
                    if moved {
                        record.dead = None;
                    } else {
                        record.wanted = None;
                        record.dead = Some(Dead { code, since: commit.now, set_aside: false });
                    }
                }
            }
            record.wanted.is_some()
        })
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        let mut records = lock(&self.records);
        for want in wants {
            let record = records.entry(want.key.clone()).or_insert_with(|| new_record(&want.key, want.first_seen));
            record.generation += 1;
            record.dead = None;
            record.wanted = Some(match record.wanted {
                Some(already) => Wanted {
                    first_seen: already.first_seen.min(want.first_seen),
                    not_before: already.not_before.min(want.not_before),
                    waits_for: want.waits_for,
                },
                None => Wanted { first_seen: want.first_seen, not_before: want.not_before, waits_for: want.waits_for },
            });
        }
        Ok(())
    }

    async fn due(
        &self,
        firm: &FirmId,
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        let too_far = now.saturating_add(SignedDuration::try_from(horizon).unwrap_or(SignedDuration::MAX));
        let too_far = too_far.unwrap_or(Timestamp::MAX);
        let mut due: Vec<_> = lock(&self.records)
            .values()
            .filter(|record| record.key.kind == Kind::Link && record.key.firm == *firm && record.dead.is_none())
            .filter_map(|record| record.wanted.map(|wanted| (record.key.clone(), wanted)))
            .filter(|(_, wanted)| wanted.not_before <= now || wanted.not_before > too_far)
            .collect();
        due.sort_by_key(|(_, wanted)| if wanted.not_before > too_far { Timestamp::MIN } else { wanted.not_before });
        Ok(due.into_iter().take(limit).map(|(key, wanted)| (key, wanted.first_seen)).collect())
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        let records = lock(&self.records);
        Ok(records.values().filter_map(|record| Some((record.key.clone(), record.held.clone()?))).collect())
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        Ok(lock(&self.records).get(key).cloned())
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        let records = lock(&self.records);
        let rest = records.values().filter(|record| after.is_none_or(|after| record.key > *after));
        Ok(rest.filter(|record| keeps(filter, record)).take(limit).cloned().collect())
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        Ok(lock(&self.records).values().filter(|record| keeps(filter, record)).count() as u64)
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        let records = lock(&self.records);
        let links = || records.values().filter(|record| record.key.kind == Kind::Link);
        let wanted = || links().filter(|record| record.dead.is_none()).filter_map(|record| record.wanted);
        let dead = links().filter_map(|record| record.dead).filter(|dead| !dead.set_aside).count();
        Ok(Survey {
            records: links().count() as u64,
            wanted: wanted().count() as u64,
            oldest_wanted: wanted().map(|wanted| wanted.first_seen).min(),
            held: records.values().filter(|record| record.held.is_some()).count() as u64,
            dead: (dead + lock(&self.letters).len()) as u64,
            noticed: links().filter(|record| record.notice.is_some()).count() as u64,
        })
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        let mut records = lock(&self.records);
        for key in keys {
            if let Some(dead) = records.get_mut(key).and_then(|record| record.dead.as_mut()) {
                dead.set_aside = aside;
            }
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        lock(&self.letters).entry(letter.id.clone()).or_insert(letter);
        Ok(())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        Ok(lock(&self.letters).values().take(limit).cloned().collect())
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        lock(&self.letters).retain(|id, _| !ids.contains(id));
        Ok(())
    }
}

/// An audit log in memory.
#[derive(Debug, Default)]
pub struct MemoryAudit(Mutex<Vec<Entry>>);

impl MemoryAudit {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl AuditLog for MemoryAudit {
    async fn begin(&self, begun: Begun) -> Result<AuditId, Fault> {
        let mut entries = lock(&self.0);
        let id = AuditId(entries.len() as u64 + 1);
        entries.push(Entry { id, begun, outcome: None, resolved: None });
        Ok(id)
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        let mut entries = lock(&self.0);
        let entry = entries.iter_mut().find(|entry| entry.id == id && entry.outcome.is_none());
        let entry = entry.ok_or_else(|| Fault::new(Class::Permanent, Code::Unexpected))?;
        entry.outcome = Some(outcome);
        entry.resolved = Some(now);
        Ok(())
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        Ok(lock(&self.0).iter().filter(|entry| entry.outcome.is_none()).cloned().collect())
    }

    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        let log = lock(&self.0);
        let older = log.iter().rev().filter(|entry| search.before.is_none_or(|before| entry.id < before));
        let mut fitting = older.filter(|entry| search.fits(entry)).cloned();
        let entries: Vec<_> = fitting.by_ref().take(search.limit).collect();
        let next = fitting.next().and(entries.last()).map(|last| last.id);
        Ok(Found { entries, next })
    }
}

/// Notes in memory; they outlive an engine, as files do.
#[derive(Debug, Default)]
pub struct MemoryNotes(Mutex<BTreeMap<String, String>>);

impl MemoryNotes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

#[async_trait]
impl Notes for MemoryNotes {
    async fn read(&self, name: &str) -> Result<Option<String>, Fault> {
        Ok(lock(&self.0).get(name).cloned())
    }

    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), Fault> {
        let mut notes = lock(&self.0);
        match text {
            Some(text) => notes.insert(name.to_owned(), text.to_owned()),
            None => notes.remove(name),
        };
        Ok(())
    }
}

/// A FHIR server in memory. Versions count from 1 for each resource.
#[derive(Debug)]
pub struct MemoryFhir {
    clock: Arc<dyn Clock>,
    resources: Mutex<BTreeMap<(ResourceType, ResourceId), Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    last_updated: Timestamp,
    /// None once deleted.
    json: Option<Json>,
}

impl MemoryFhir {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, resources: Mutex::default() })
    }

    /// Writes a version as the portal would; answers with its number.
    pub fn put(&self, resource: &ResourceType, id: &ResourceId, json: Option<Json>) -> u64 {
        let mut resources = lock(&self.resources);
        let kept = resources.entry((resource.clone(), id.clone())).or_insert_with(|| Kept {
            version: 0,
            last_updated: Timestamp::MIN,
            json: None,
        });
        kept.version += 1;
        kept.last_updated = self.clock.now();
        kept.json = json;
        kept.version
    }

    /// What is there now, with its version.
    pub fn current(&self, resource: &ResourceType, id: &ResourceId) -> Option<(u64, Json)> {
        let resources = lock(&self.resources);
        let kept = resources.get(&(resource.clone(), id.clone()))?;
        Some((kept.version, kept.json.clone()?))
    }
}

#[async_trait]
impl FhirServer for MemoryFhir {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        Ok(match lock(&self.resources).get(&(resource.clone(), id.clone())) {
            None => Read::Missing,
            Some(Kept { json: None, .. }) => Read::Gone,
            Some(Kept { version, json: Some(json), .. }) => Read::Found(Resource {
                resource: resource.clone(),
                id: id.clone(),
                version: version.to_string(),
                json: json.clone(),
            }),
        })
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        const PAGE: usize = 20;
        let from: usize = page.and_then(|page| page.0.parse().ok()).unwrap_or_default();
        let mut all: Vec<_> = lock(&self.resources)
            .iter()
            .filter(|((of, _), kept)| of == resource && kept.json.is_some())
            .filter(|(_, kept)| since.is_none_or(|since| kept.last_updated >= since))
            .map(|((_, id), kept)| Change {
                id: id.clone(),
                version: kept.version.to_string(),
                last_updated: kept.last_updated,
            })
            .collect();
        all.sort_by(|a, b| (a.last_updated, &a.id).cmp(&(b.last_updated, &b.id)));
        let next = (all.len() > from + PAGE).then(|| PageToken((from + PAGE).to_string()));
        let changes = all.into_iter().skip(from).take(PAGE).collect();
        Ok(Changes { changes, next, server_time: Some(self.clock.now()) })
    }

    async fn probe(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// A clinic's database in memory: rows with versions and a unique key.
#[derive(Default)]
pub struct MemoryClinic {
    sheets: Mutex<BTreeMap<String, Sheet>>,
    /// A database whose key is not unique and whose edits ask for no version: for tests that must find that out.
    unguarded: bool,
}

impl fmt::Debug for MemoryClinic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryClinic")
    }
}

#[derive(Default)]
struct Sheet {
    next: u64,
    rows: BTreeMap<u64, Line>,
    locked: BTreeSet<String>,
}

#[derive(Clone)]
struct Line {
    key: String,
    mod_id: u64,
    fields: Fields,
}

impl MemoryClinic {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn without_guards() -> Arc<Self> {
        Arc::new(Self { unguarded: true, ..Self::default() })
    }

    /// Keys and fields of a layout's rows.
    pub fn rows(&self, layout: &str) -> Vec<(String, Fields)> {
        let sheets = lock(&self.sheets);
        let rows = sheets.get(layout).map(|sheet| sheet.rows.values());
        rows.into_iter().flatten().map(|line| (line.key.clone(), line.fields.clone())).collect()
    }

    /// Key and fields of one row.
    pub fn row(&self, layout: &str, row: &RowId) -> Option<(String, Fields)> {
        let sheets = lock(&self.sheets);
        let line = sheets.get(layout)?.rows.get(&row.0.parse().ok()?)?;
        Some((line.key.clone(), line.fields.clone()))
    }

    /// A person at the desk changes a field. False if there is no such row.
    pub fn edit_by_hand(&self, layout: &str, key: &str, field: &str, value: Value) -> bool {
        let mut sheets = lock(&self.sheets);
        let line = sheets.get_mut(layout).and_then(|sheet| sheet.rows.values_mut().find(|line| line.key == key));
        line.is_some_and(|line| {
            line.mod_id += 1;
            line.fields.insert(field.to_owned(), value);
            true
        })
    }

    pub fn delete_by_hand(&self, layout: &str, key: &str) {
        if let Some(sheet) = lock(&self.sheets).get_mut(layout) {
            sheet.rows.retain(|_, line| line.key != key);
        }
    }

    /// A person has the record open, or closes it.
    pub fn open_by_hand(&self, layout: &str, key: &str, open: bool) {
        let mut sheets = lock(&self.sheets);
        let locked = &mut sheets.entry(layout.to_owned()).or_default().locked;
        if open {
            locked.insert(key.to_owned());
        } else {
            locked.remove(key);
        }
    }
}

#[async_trait]
impl ClinicDatabase for MemoryClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        let mut found = sheet.rows.iter().filter(|(_, line)| line.key == key);
        let Some((id, line)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(Fault::new(Class::Permanent, Code::DuplicateRows));
        }
        let fields =
            table.fields.keys().map(|field| (field.clone(), line.fields.get(field).cloned().unwrap_or(Value::Blank)));
        Ok(Some(Row {
            id: RowId(id.to_string()),
            mod_id: ModId(line.mod_id.to_string()),
            fields: fields.collect(),
            unreadable: Vec::new(),
        }))
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        if !self.unguarded && sheet.rows.values().any(|line| line.key == key) {
            return Err(Fault::new(Class::Stale, Code::RecordChanged));
        }
        sheet.next += 1;
        let id = sheet.next;
        sheet.rows.insert(id, Line { key: key.to_owned(), mod_id: 0, fields: fields.clone() });
        Ok((RowId(id.to_string()), ModId("0".to_owned())))
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        let stale = || Fault::new(Class::Stale, Code::RecordChanged);
        let id: u64 = row.0.parse().map_err(|_| stale())?;
        let line = sheet.rows.get_mut(&id).ok_or_else(stale)?;
        if sheet.locked.contains(&line.key) {
            return Err(Fault::new(Class::Wait(None), Code::RecordOpen));
        }
        if !self.unguarded && line.mod_id.to_string() != expected.0 {
            return Err(stale());
        }
        line.mod_id += 1;
        line.fields.extend(fields.clone());
        Ok(ModId(line.mod_id.to_string()))
    }

    async fn probe(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn write_horizon(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }
}
