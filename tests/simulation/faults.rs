//! The ports of one station, with trouble in between. Each wrapper asks the fault script before and after the real call, and tells
//! the oracle what was accepted.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    fakes::{FakeClock, MemoryAudit, MemoryClinic, MemoryFhir, MemoryLedger, MemoryQueue},
    key::{FirmId, Kind, RecordKey, ResourceId, ResourceType, RowUuid},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Record, Survey, Take, Want},
    ports::{
        AuditLog, Changes, ClinicDatabase, Created, Delivery, Depth, FhirServer, Identifier, Ledger, Matching, Message,
        PageToken, Queue, Read, Receipt, Resource, RowChanges,
    },
    row::{Fields, ModId, Row, RowId, Table, Value},
};
use jiff::{Timestamp, civil::DateTime};
use serde_json::Value as Json;
use tokio::sync::Notify;

use crate::{
    oracle::Oracle,
    script::{Mishap, Script, Store},
    world::{capitals, capitals_in_row, fields, layout, says, unmapped},
};

/// One station's way to the world.
#[derive(Clone)]
pub struct Station {
    pub number: usize,
    pub script: Arc<Script>,
    pub oracle: Arc<Oracle>,
    pub clock: Arc<FakeClock>,
    pub crash: Arc<Notify>,
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Station({})", self.number)
    }
}

impl Station {
    /// The station's power is cut at this await; it never comes back to it.
    async fn crash<T>(&self) -> T {
        self.crash.notify_one();
        std::future::pending().await
    }

    /// Trouble on the way there.
    async fn before(&self, fault: Fault) -> Result<(), Fault> {
        self.script.thaw(self.number).await;
        tokio::time::sleep(self.script.latency()).await;
        match self.script.on_the_way_there() {
            None => Ok(()),
            Some(Mishap::Crash) => self.crash().await,
            Some(_) => Err(fault),
        }
    }

    /// Trouble on the way to a store.
    async fn reach(&self, store: Store) -> Result<(), Fault> {
        self.before(storage()).await?;
        self.script.reaches(self.number, store).await
    }

    /// Trouble on the way back: the call was carried out.
    async fn after<T>(&self, answer: T, lost: impl FnOnce() -> T) -> T {
        self.script.thaw(self.number).await;
        match self.script.on_the_way_back() {
            None => answer,
            Some(Mishap::Crash) => self.crash().await,
            Some(_) => lost(),
        }
    }
}

fn storage() -> Fault {
    Fault::new(Class::Retry, Code::DatabaseUnavailable)
}

#[derive(Debug)]
pub struct FaultyQueue(pub Station, pub Arc<MemoryQueue>, pub Arc<MemoryLedger>);

#[async_trait]
impl Queue for FaultyQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        self.0.reach(Store::Queue).await?;
        self.0.oracle.sent(&messages);
        if let Err(fault) = self.1.send(messages.clone()).await {
            self.0.oracle.not_sent(&messages, &self.1);
            return Err(fault);
        }
        self.0.after(Ok(()), || Err(storage())).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        self.0.reach(Store::Queue).await?;
        let mut deliveries = self.1.receive(max, wait).await?;
        self.0.script.reorder(&mut deliveries);
        self.0.oracle.received(&deliveries);
        self.0.after(Ok(deliveries), || Err(storage())).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.0.reach(Store::Queue).await?;
        let refused = self.1.acknowledge(receipts).await?;
        self.0.oracle.acknowledged(receipts, &refused, &self.2);
        self.0.after(Ok(refused), || Err(storage())).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.0.reach(Store::Queue).await?;
        let lost = self.1.extend(receipts).await?;
        self.0.after(Ok(lost), || Err(storage())).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.0.script.reaches(self.0.number, Store::Queue).await?;
        self.1.release(receipts).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.0.script.reaches(self.0.number, Store::Queue).await?;
        self.1.depth().await
    }

    fn visibility(&self) -> Duration {
        self.1.visibility()
    }
}

#[derive(Debug)]
pub struct FaultyLedger(pub Station, pub Arc<dyn Ledger>);

#[async_trait]
impl Ledger for FaultyLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.0.reach(Store::Ledger).await?;
        let take = self.1.take(key, claim).await?;
        if let Take::Taken(_, lease) = &take {
            self.0.oracle.taken(lease);
        }
        self.0.after(Ok(take), || Err(storage())).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.0.reach(Store::Ledger).await?;
        let renewed = self.1.renew(leases).await?;
        for (lease, renewed) in leases.iter().zip(&renewed) {
            if *renewed {
                self.0.oracle.renewed(lease);
            }
        }
        self.0.after(Ok(renewed), || Err(storage())).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.0.reach(Store::Ledger).await?;
        self.1.save(lease, state, now).await?;
        self.0.oracle.used(lease);
        self.0.after(Ok(()), || Err(storage().into())).await
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.0.reach(Store::Ledger).await?;
        let wanted = self.1.commit(lease, commit.clone()).await?;
        self.0.oracle.committed(self.0.number, lease, &commit);
        self.0.after(Ok(wanted), || Err(storage().into())).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.0.reach(Store::Ledger).await?;
        self.1.want(wants).await?;
        self.0.after(Ok(()), || Err(storage())).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.0.reach(Store::Ledger).await?;
        self.1.due(firm, kinds, now, horizon, limit).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.1.unserved(ours).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.0.reach(Store::Ledger).await?;
        self.1.held().await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.0.reach(Store::Ledger).await?;
        self.1.read(key).await
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        self.0.reach(Store::Ledger).await?;
        self.1.read_all(keys).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.page(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.count(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.survey().await
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.set_aside(keys, aside).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.0.reach(Store::Ledger).await?;
        self.0.oracle.buried(&letter.id);
        self.1.bury(letter).await?;
        self.0.after(Ok(()), || Err(storage())).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.0.script.reaches(self.0.number, Store::Ledger).await?;
        self.1.unbury(ids).await
    }
}

/// The audit log is always local: it fails only with the station.
#[derive(Debug)]
pub struct FaultyAudit(pub Station, pub Arc<MemoryAudit>);

#[async_trait]
impl AuditLog for FaultyAudit {
    async fn begin(&self, entry: Begun) -> Result<AuditId, Fault> {
        self.0.script.thaw(self.0.number).await;
        let key = entry.key.clone();
        let id = self.1.begin(entry).await?;
        self.0.oracle.audit_begun(self.0.number, id, key);
        let crash = self.0.script.crash_only();
        if crash { self.0.crash().await } else { Ok(id) }
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        self.0.script.thaw(self.0.number).await;
        if self.0.script.crash_only() {
            return self.0.crash().await;
        }
        self.0.oracle.audit_completed(self.0.number, id);
        self.1.complete(id, outcome, now).await
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        self.1.open().await
    }

    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        self.1.search(search).await
    }
}

fn away() -> Fault {
    Fault::new(Class::Away, Code::Unreachable)
}

fn unknown() -> Fault {
    Fault::new(Class::Unknown, Code::OutcomeUnknown)
}

/// A chart, and whether its server keeps names in capitals.
#[derive(Debug)]
pub struct FaultyFhir(pub Station, pub Arc<MemoryFhir>, pub bool);

#[async_trait]
impl FhirServer for FaultyFhir {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        self.0.before(away()).await?;
        self.0.script.fhir_side()?;
        let read = self.1.read(resource, id).await?;
        self.0.oracle.source_read(self.0.number, resource, id);
        self.0.after(Ok(read), || Err(Fault::new(Class::Retry, Code::TimedOut))).await
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.0.before(away()).await?;
        self.0.script.fhir_side()?;
        let mut changes = self.1.changes(resource, since, page).await?;
        changes.changes.retain(|change| self.0.script.is_visible(resource, &change.id));
        self.0.after(Ok(changes), || Err(Fault::new(Class::Retry, Code::BadAnswer))).await
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        self.0.before(away()).await?;
        self.0.script.fhir_side()?;
        let (fhir, oracle, normalises) = (self.1.clone(), self.0.oracle.clone(), self.2);
        let (resource, id, expected, mut json) = (resource.clone(), id.clone(), expected.to_owned(), json.clone());
        self.0
            .send(async move {
                let before = fhir.current(&resource, &id).map(|(_, json)| json).unwrap_or_default();
                let sent = json.clone();
                if normalises {
                    capitals(&mut json);
                }
                let version = fhir.update(&resource, &id, &expected, &json).await?;
                let flags = ("Active", sent["active"].to_string(), before["active"].to_string());
                let texts = fields(&resource).map(|field| (field, says(&sent, field), says(&before, field)));
                let values: Vec<_> = texts.chain([flags]).collect();
                let rest_is_same = unmapped(&sent) == unmapped(&before);
                oracle.chart_written(layout(&resource), id.as_str(), &values, rest_is_same);
                Ok(version)
            })
            .await
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        self.0.before(away()).await?;
        self.0.script.fhir_side()?;
        let answer = self.1.create(resource, json, identifier).await;
        self.0.after(answer, || Err(unknown())).await
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.0.before(away()).await?;
        self.0.script.fhir_side()?;
        let found = self.1.matching(resource, by).await?;
        self.0.after(Ok(found), || Err(Fault::new(Class::Retry, Code::BadAnswer))).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.0.script.thaw(self.0.number).await;
        self.0.script.fhir_side()
    }

    fn write_horizon(&self) -> Duration {
        LATEST
    }
}

/// No write lands later than this.
const LATEST: Duration = Duration::from_secs(5 * 60);

impl Station {
    /// Once sent, a request lives on its own: the server carries it out whether or not anybody still waits for the answer, and
    /// sometimes minutes after the client gave up.
    async fn send<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let delay = self.script.late_landing();
        let (script, oracle) = (self.script.clone(), self.oracle.clone());
        let sent = tokio::spawn(async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
                script.landed();
                oracle.late(true);
            }
            let answer = request.await;
            oracle.late(false);
            answer
        });
        if delay.is_some() {
            tokio::time::sleep(Duration::from_secs(10)).await;
            return Err(unknown());
        }
        let answer = sent.await.map_err(|_| unknown())?;
        self.after(answer, || Err(unknown())).await
    }
}

/// A clinic, and whether its file changes what is entered.
#[derive(Debug)]
pub struct FaultyClinic(pub Station, pub Arc<MemoryClinic>, pub bool);

impl FaultyClinic {
    async fn write<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.0.before(away()).await?;
        self.0.script.clinic_side()?;
        self.0.send(request).await
    }

    /// What the file makes of what is entered.
    fn kept(&self, fields: &Fields) -> Fields {
        let mut fields = fields.clone();
        if self.2 {
            capitals_in_row(&mut fields);
        }
        fields
    }
}

/// The clinic's database validates: `bad17` is not a value it takes.
fn accepts(fields: &Fields) -> Result<(), Fault> {
    let bad = |value: &Value| matches!(value, Value::Text(text) if text.starts_with("bad"));
    if fields.values().any(bad) { Err(Fault::new(Class::Permanent, Code::ValueRefused)) } else { Ok(()) }
}

#[async_trait]
impl ClinicDatabase for FaultyClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        self.0.before(away()).await?;
        self.0.script.clinic_side()?;
        let row = self.1.find(table, key).await?;
        self.0.after(Ok(row), || Err(Fault::new(Class::Retry, Code::TimedOut))).await
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.0.before(away()).await?;
        self.0.script.clinic_side()?;
        let row = self.1.find_row(table, uuid).await?;
        self.0.after(Ok(row), || Err(Fault::new(Class::Retry, Code::TimedOut))).await
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.0.before(away()).await?;
        self.0.script.clinic_side()?;
        let changes = self.1.changed(table, since, page).await?;
        self.0.after(Ok(changes), || Err(Fault::new(Class::Retry, Code::TimedOut))).await
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        let clinic = self.1.clone();
        let (table, row, expected, key) = (table.clone(), row.clone(), expected.clone(), key.to_owned());
        self.write(async move { clinic.adopt(&table, &row, &expected, &key).await }).await
    }

    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        self.0.before(away()).await?;
        self.0.script.clinic_side()?;
        let rows = self.1.alike(table, fields).await?;
        self.0.after(Ok(rows), || Err(Fault::new(Class::Retry, Code::TimedOut))).await
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let (clinic, oracle) = (self.1.clone(), self.0.oracle.clone());
        let (table, key, fields, kept) = (table.clone(), key.to_owned(), fields.clone(), self.kept(fields));
        self.write(async move {
            accepts(&fields)?;
            let created = clinic.create(&table, &key, &kept).await?;
            oracle.written(&table.layout, &key, &fields, None);
            Ok(created)
        })
        .await
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        let (clinic, oracle) = (self.1.clone(), self.0.oracle.clone());
        let (table, row, expected) = (table.clone(), row.clone(), expected.clone());
        let (fields, kept) = (fields.clone(), self.kept(fields));
        self.write(async move {
            accepts(&fields)?;
            let before = clinic.row(&table.layout, &row);
            let version = clinic.version(&table.layout, &row);
            let mod_id = clinic.edit(&table, &row, &expected, &kept).await?;
            oracle.guarded(&table.layout, version.as_ref() == Some(&expected));
            if let Some((key, before)) = before {
                oracle.written(&table.layout, &key, &fields, Some(&before));
            }
            Ok(mod_id)
        })
        .await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.0.script.thaw(self.0.number).await;
        self.0.script.clinic_side()
    }

    fn write_horizon(&self) -> Duration {
        self.1.write_horizon()
    }
}
