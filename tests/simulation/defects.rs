//! The defects of the bridge that this program replaces (fact sheet on reliability, section 1.1, by their numbers), put back one
//! at a time as wrappers around ports or as policies. A simulation that cannot find them proves nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    fakes::MemoryLedger,
    hint,
    key::{FirmId, RecordKey, ResourceId, ResourceType, RowUuid},
    ledger::{Claim, Commit, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Survey, Take, Want},
    mapping::{Absent, Mapping},
    ports::{
        AuditLog, Changes, ClinicDatabase, Created, Delivery, Depth, FhirServer, FirmPorts, Identifier, Ledger,
        Matching, Message, PageToken, Queue, Read, Receipt, Resource, RowChanges,
    },
    row::{Fields, ModId, Row, RowId, Table},
    settings::{PollPlan, Settings},
};
use jiff::{Timestamp, civil::DateTime};
use serde_json::Value as Json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// 1: lock busy, so the message is deleted and nothing is marked.
    BusyIsDone,
    /// 2: a lock without expiry.
    NoExpiry,
    /// 3: a conditional write retried after a lost reply sees its own lock and takes it for somebody else's.
    OwnLockIsForeign,
    /// 4, 5: whatever goes wrong, the lock is freed, whoever holds it.
    ReleaseOfAny,
    /// 6, 7: every run creates; nothing looks for the row, and no key is unique.
    AlwaysCreates,
    /// 8: a write that timed out is sent again without looking.
    BlindRetry,
    /// 8: a write that timed out is taken for one that did not happen.
    UnknownIsRefused,
    /// 9: nothing at the resource refuses a stale writer.
    NoFence,
    /// 11: a message that cannot be parsed is never put away.
    PoisonStays,
    /// 12: what can never succeed is tried for ever.
    NothingIsPermanent,
    /// 14, 24: the message is deleted when it is received.
    AckOnReceipt,
    /// 16: the lock, and so the work, is the patient's alone; the event's own resource is never run.
    PatientOnly,
    /// 18: what the resource does not say is written as blank.
    AbsentIsBlank,
    /// 19: a deleted resource is an error like any other.
    GoneIsAnError,
    /// 21: the source is read from a cache, and versions are never compared.
    StaleReads,
    /// P1: the watermark is the newest row seen, with neither overlap nor settling time, and no sweep ever looks behind it.
    WatermarkWithoutOverlap,
    /// Not of the article: intents are not written down before the write.
    NoIntent,
    /// Not of the article: a write without its audit entry.
    NoAudit,
}

impl Defect {
    pub const ALL: [Defect; 18] = [
        Defect::BusyIsDone,
        Defect::NoExpiry,
        Defect::OwnLockIsForeign,
        Defect::ReleaseOfAny,
        Defect::AlwaysCreates,
        Defect::BlindRetry,
        Defect::UnknownIsRefused,
        Defect::NoFence,
        Defect::PoisonStays,
        Defect::NothingIsPermanent,
        Defect::AckOnReceipt,
        Defect::PatientOnly,
        Defect::AbsentIsBlank,
        Defect::GoneIsAnError,
        Defect::StaleReads,
        Defect::WatermarkWithoutOverlap,
        Defect::NoIntent,
        Defect::NoAudit,
    ];

    pub fn breaks_the_clinic(self) -> bool {
        matches!(self, Defect::AlwaysCreates | Defect::BlindRetry | Defect::NoFence)
    }

    pub fn put_back(self, settings: &mut Settings, plan: &mut PollPlan, mapping: &mut Mapping) {
        match self {
            Defect::NothingIsPermanent | Defect::GoneIsAnError => settings.attempts = u32::MAX,
            Defect::AbsentIsBlank => {
                for resource in mapping.resources.values_mut() {
                    for rule in &mut resource.rules {
                        rule.absent = Absent::Blank;
                    }
                }
            }
            Defect::WatermarkWithoutOverlap => {
                plan.overlap = Duration::ZERO;
                plan.settle = Duration::ZERO;
                plan.sweep_every = Duration::from_secs(1_000_000);
            }
            _ => {}
        }
    }

    /// The ledger's defects lie behind the oracle, which hears in whose name a call was accepted.
    pub fn wrap_ledger(self, memory: &Arc<MemoryLedger>) -> Arc<dyn Ledger> {
        Arc::new(BrokenLedger(self, memory.clone()))
    }

    pub fn wrap_queue(self, queue: Arc<dyn Queue>) -> Arc<dyn Queue> {
        Arc::new(BrokenQueue(self, queue))
    }

    pub fn wrap_audit(self, audit: Arc<dyn AuditLog>) -> Arc<dyn AuditLog> {
        Arc::new(BrokenAudit(self, audit))
    }

    pub fn wrap_sides(self, ports: FirmPorts) -> FirmPorts {
        FirmPorts {
            fhir: Arc::new(BrokenFhir(self, ports.fhir, Mutex::default())),
            clinic: Arc::new(BrokenClinic(self, ports.clinic)),
        }
    }
}

#[derive(Debug)]
struct BrokenQueue(Defect, Arc<dyn Queue>);

#[async_trait]
impl Queue for BrokenQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        self.1.send(messages).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let mut deliveries = self.1.receive(max, wait).await?;
        if self.0 == Defect::AckOnReceipt {
            let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            let _ = self.1.acknowledge(&receipts).await;
        }
        if self.0 == Defect::PatientOnly {
            for delivery in &mut deliveries {
                let Ok(mut hints) = hint::decode(&delivery.body) else { continue };
                for hint in &mut hints {
                    hint.resource = crate::world::resource("Patient");
                }
                delivery.body = hint::encode(hints);
            }
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.1.acknowledge(receipts).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.1.extend(receipts).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.1.release(receipts).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.1.depth().await
    }

    fn visibility(&self) -> Duration {
        self.1.visibility()
    }
}

#[derive(Debug)]
struct BrokenLedger(Defect, Arc<MemoryLedger>);

#[async_trait]
impl Ledger for BrokenLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        let mut claim = claim.clone();
        match self.0 {
            Defect::NoExpiry => claim.overdue = None,
            Defect::OwnLockIsForeign => {
                let held = self.1.records().get(key).and_then(|record| record.held.clone());
                if let Some(held) = held.filter(|held| held.owner.station == claim.owner.station) {
                    return Ok(Take::Busy(held));
                }
            }
            _ => {}
        }
        let take = self.1.take(key, &claim).await?;
        if let (Defect::ReleaseOfAny, Take::Busy(held)) = (self.0, &take) {
            // The error path frees the lock, whoever holds it.
            let record = self.1.records().remove(key);
            let theirs =
                Lease { key: key.clone(), owner: held.owner.clone(), epoch: held.stamp.epoch, term: held.term };
            let commit = Commit {
                state: record.as_ref().map(|record| record.state.clone()).unwrap_or_default(),
                finish: Finish::Later { not_before: claim.now, waits_for: None, attempt: false },
                notice: None,
                generation: record.map(|record| record.generation).unwrap_or_default(),
                first_seen: claim.now,
                now: claim.now,
            };
            let _ = self.1.commit(&theirs, commit).await;
        }
        Ok(take)
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.1.renew(leases).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        if self.0 == Defect::NoIntent { Ok(()) } else { self.1.save(lease, state, now).await }
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.1.commit(lease, commit).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        if self.0 == Defect::BusyIsDone {
            let wants: Vec<_> = wants.iter().filter(|want| want.waits_for != Some(Code::LeaseBusy)).cloned().collect();
            return self.1.want(&wants).await;
        }
        self.1.want(wants).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.1.due(firm, now, horizon, limit).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.1.held().await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.1.read(key).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.1.page(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.1.count(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        self.1.survey().await
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.1.set_aside(keys, aside).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        if self.0 == Defect::PoisonStays {
            return Err(Fault::new(Class::Retry, Code::Malformed));
        }
        self.1.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.1.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.1.unbury(ids).await
    }
}

#[derive(Debug)]
struct BrokenAudit(Defect, Arc<dyn AuditLog>);

#[async_trait]
impl AuditLog for BrokenAudit {
    async fn begin(&self, entry: Begun) -> Result<AuditId, Fault> {
        if self.0 == Defect::NoAudit { Ok(AuditId(0)) } else { self.1.begin(entry).await }
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        if self.0 == Defect::NoAudit { Ok(()) } else { self.1.complete(id, outcome, now).await }
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        self.1.open().await
    }

    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        self.1.search(search).await
    }
}

type Cache = Mutex<BTreeMap<(ResourceType, ResourceId), (u32, Read)>>;

#[derive(Debug)]
struct BrokenFhir(Defect, Arc<dyn FhirServer>, Cache);

#[async_trait]
impl FhirServer for BrokenFhir {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        let read = self.1.read(resource, id).await?;
        match self.0 {
            Defect::GoneIsAnError if read == Read::Gone => Err(Fault::new(Class::Retry, Code::Gone)),
            Defect::StaleReads => {
                // Every third read is answered from what the first of the three saw.
                let mut cache = self.2.lock().unwrap();
                let kept = cache.entry((resource.clone(), id.clone())).or_insert_with(|| (0, read.clone()));
                kept.0 += 1;
                match kept.0 % 3 {
                    0 => Ok(kept.1.clone()),
                    1 => {
                        kept.1 = read.clone();
                        Ok(read)
                    }
                    _ => Ok(read),
                }
            }
            _ => Ok(read),
        }
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.1.changes(resource, since, page).await
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        self.1.update(resource, id, expected, json).await
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        self.1.create(resource, json, identifier).await
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.1.matching(resource, by).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.1.probe().await
    }

    fn write_horizon(&self) -> Duration {
        self.1.write_horizon()
    }
}

#[derive(Debug)]
struct BrokenClinic(Defect, Arc<dyn ClinicDatabase>);

impl BrokenClinic {
    fn refused<T>(&self, written: Result<T, Fault>) -> Result<T, Fault> {
        match written {
            Err(fault) if self.0 == Defect::UnknownIsRefused && fault.class == Class::Unknown => {
                Err(Fault::new(Class::Retry, fault.code))
            }
            // What the server refuses for good is tried again.
            Err(fault) if self.0 == Defect::NothingIsPermanent && fault.class == Class::Permanent => {
                Err(Fault::new(Class::Retry, fault.code))
            }
            other => other,
        }
    }
}

#[async_trait]
impl ClinicDatabase for BrokenClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        let row = self.1.find(table, key).await;
        if self.0 == Defect::AlwaysCreates {
            return row.map(|_| None).or(Ok(None));
        }
        self.refused(row)
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.1.find_row(table, uuid).await
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.1.changed(table, since, page).await
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        self.refused(self.1.adopt(table, row, expected, key).await)
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let mut created = self.1.create(table, key, fields).await;
        for _ in 0..3 {
            if self.0 == Defect::BlindRetry && created.as_ref().is_err_and(|fault| fault.class == Class::Unknown) {
                created = self.1.create(table, key, fields).await;
            }
        }
        self.refused(created)
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        self.refused(self.1.edit(table, row, expected, fields).await)
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.1.probe().await
    }

    fn write_horizon(&self) -> Duration {
        self.1.write_horizon()
    }
}
