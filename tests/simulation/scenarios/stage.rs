//! A small world under full control: in-memory ports whose every call is logged and may be made to fail, hang, panic or lose its
//! answer by a rule that a test sets and changes as it goes.

#![allow(dead_code, reason = "a stage offers what some scenes need, and not all of them are written")]

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    audit::AuditId,
    error::{Class, Code, Fault},
    fakes::{FakeClock, MemoryAudit, MemoryClinic, MemoryFhir, MemoryLedger, MemoryNotes, MemoryQueue},
    hint::{self, Hint, Origin, Subject},
    key::{BootId, FirmId, RecordKey, ResourceId, ResourceType, RowUuid, StationId},
    keys::ClinicKey,
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Owner, Record, Survey, Take, Want},
    mapping::{self, Inactive, Kind, Mapping, ResourceMapping},
    ports::{
        Changes, ClinicDatabase, Clock, Created, Delivery, Depth, FhirServer, FirmPorts, Identifier, Ledger, Matching,
        Message, PageToken, Queue, Read, Receipt, Resource, RowChanges,
    },
    row::{ChangeFields, Fields, ModId, Row, RowId, Table, Value},
    settings::{Brake, Firm, PollPlan, Settings},
    snapshot::Snapshot,
    supervisor::{Engine, Shared},
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::world::{PATIENT, id, mapping, resource};

/// A call of the engine to the outside.
#[derive(Debug, Clone)]
pub struct Call {
    /// Since the stage was set.
    pub at: Duration,
    /// The station, and its firm where a side is called: `desk-0`, `desk-0/north`.
    pub place: String,
    /// Such as `clinic.edit`.
    pub op: &'static str,
    /// A record's key, `Type/id`, or a row's key.
    pub about: String,
}

pub enum Reaction {
    Answer,
    Fail(Fault),
    /// Carried out, and nothing ever comes back.
    CarryOutAndHang,
    Hang,
    Panic,
    /// Answers after this.
    After(Duration),
}

type Rule = Arc<dyn Fn(&Call) -> Reaction + Send + Sync>;

/// The rule in force and the log of all calls.
pub struct Hook {
    begun: Instant,
    rule: Mutex<Rule>,
    log: Mutex<Vec<Call>>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
struct Hooked<T> {
    hook: Arc<Hook>,
    place: String,
    inner: Arc<T>,
}

impl<T> Hooked<T> {
    async fn call<A, E: From<Fault>>(
        &self,
        op: &'static str,
        about: impl fmt::Display,
        call: impl Future<Output = Result<A, E>>,
    ) -> Result<A, E> {
        let hooked = Call { at: self.hook.begun.elapsed(), place: self.place.clone(), op, about: about.to_string() };
        self.hook.log.lock().unwrap().push(hooked.clone());
        let rule = self.hook.rule.lock().unwrap().clone();
        let reaction = rule(&hooked);
        if op.starts_with("fhir") || op.starts_with("clinic") {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        match reaction {
            Reaction::Answer => call.await,
            Reaction::Fail(fault) => Err(fault.into()),
            Reaction::CarryOutAndHang => {
                let _ = call.await;
                std::future::pending().await
            }
            Reaction::Hang => std::future::pending().await,
            // Without the report that `panic!` prints: it is meant to happen, and often.
            Reaction::Panic => std::panic::resume_unwind(Box::new("made to panic by the test")),
            Reaction::After(long) => {
                tokio::time::sleep(long).await;
                call.await
            }
        }
    }
}

#[async_trait]
impl Queue for Hooked<MemoryQueue> {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        self.call("queue.send", messages.len(), self.inner.send(messages)).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        self.call("queue.receive", max, self.inner.receive(max, wait)).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.call("queue.acknowledge", receipts.len(), self.inner.acknowledge(receipts)).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.call("queue.extend", receipts.len(), self.inner.extend(receipts)).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.call("queue.release", receipts.len(), self.inner.release(receipts)).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.call("queue.depth", "", self.inner.depth()).await
    }

    fn visibility(&self) -> Duration {
        self.inner.visibility()
    }
}

#[async_trait]
impl Ledger for Hooked<MemoryLedger> {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.call("ledger.take", key, self.inner.take(key, claim)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.call("ledger.renew", leases.len(), self.inner.renew(leases)).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.call("ledger.save", &lease.key, self.inner.save(lease, state, now)).await
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.call("ledger.commit", &lease.key, self.inner.commit(lease, commit)).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.call("ledger.want", wants.len(), self.inner.want(wants)).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[engine::key::Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.call("ledger.due", firm, self.inner.due(firm, kinds, now, horizon, limit)).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.call("ledger.unserved", ours.len(), self.inner.unserved(ours)).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.call("ledger.held", "", self.inner.held()).await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.call("ledger.read", key, self.inner.read(key)).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.call("ledger.page", "", self.inner.page(filter, after, limit)).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.call("ledger.count", "", self.inner.count(filter)).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        self.call("ledger.survey", "", self.inner.survey()).await
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.call("ledger.set_aside", keys.len(), self.inner.set_aside(keys, aside)).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.call("ledger.bury", letter.id.clone(), self.inner.bury(letter)).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.call("ledger.dead_letters", "", self.inner.dead_letters(limit)).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.call("ledger.unbury", ids.len(), self.inner.unbury(ids)).await
    }
}

#[async_trait]
impl FhirServer for Hooked<MemoryFhir> {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        self.call("fhir.read", format!("{resource}/{id}"), self.inner.read(resource, id)).await
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.call("fhir.changes", resource, self.inner.changes(resource, since, page)).await
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        let about = format!("{resource}/{id}");
        self.call("fhir.update", about, self.inner.update(resource, id, expected, json)).await
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        self.call("fhir.create", resource, self.inner.create(resource, json, identifier)).await
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.call("fhir.matching", resource, self.inner.matching(resource, by)).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.call("fhir.probe", "", self.inner.probe()).await
    }

    fn write_horizon(&self) -> Duration {
        self.inner.write_horizon()
    }
}

/// Writes are carried out by the server whether or not anybody still waits for the answer.
#[async_trait]
impl ClinicDatabase for Hooked<MemoryClinic> {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        self.call("clinic.find", key, self.inner.find(table, key)).await
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.call("clinic.find_row", uuid, self.inner.find_row(table, uuid)).await
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.call("clinic.changed", &table.layout, self.inner.changed(table, since, page)).await
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        self.call("clinic.adopt", key, self.inner.adopt(table, row, expected, key)).await
    }

    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        self.call("clinic.alike", &table.layout, self.inner.alike(table, fields)).await
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        self.call("clinic.create", key, self.inner.create(table, key, fields)).await
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        let key = self.inner.row(&table.layout, row).map(|(key, _)| key).unwrap_or_default();
        self.call("clinic.edit", key, self.inner.edit(table, row, expected, fields)).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.call("clinic.probe", "", self.inner.probe()).await
    }

    fn write_horizon(&self) -> Duration {
        self.inner.write_horizon()
    }
}

/// One firm's two sides.
#[derive(Debug, Clone)]
pub struct Sides {
    pub fhir: Arc<MemoryFhir>,
    pub clinic: Arc<MemoryClinic>,
}

pub struct Stage {
    pub clock: Arc<FakeClock>,
    pub queue: Arc<MemoryQueue>,
    /// A dead-letter queue of SQS, for stations that boot from now on.
    pub backstop: Option<Arc<MemoryQueue>>,
    pub ledger: Arc<MemoryLedger>,
    pub audit: Arc<MemoryAudit>,
    pub firms: BTreeMap<FirmId, Sides>,
    pub mapping: Mapping,
    pub plan: PollPlan,
    /// A change to the settings that every station boots with.
    pub settings: fn(&mut Settings),
    pub notes: Arc<MemoryNotes>,
    hook: Arc<Hook>,
    messages: Mutex<u64>,
    boots: Mutex<u64>,
}

pub const VISIBILITY: Duration = Duration::from_secs(60);

pub fn firm(name: &str) -> FirmId {
    FirmId::new(name).unwrap()
}

pub fn key(of: &str, name: &str) -> RecordKey {
    RecordKey::link(firm("north"), resource(of), id(name))
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn fault(class: Class, code: Code) -> Reaction {
    Reaction::Fail(Fault::new(class, code))
}

impl Stage {
    /// One firm, `north`; keys proven unique.
    pub async fn set() -> Self {
        Self::with_firms(&["north"]).await
    }

    pub async fn with_firms(firms: &[&str]) -> Self {
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
        let hook = Hook {
            begun: Instant::now(),
            rule: Mutex::new(Arc::new(|_: &Call| Reaction::Answer)),
            log: Mutex::default(),
        };
        let sides =
            |name: &&str| (firm(name), Sides { fhir: MemoryFhir::new(clock.clone()), clinic: MemoryClinic::new() });
        let stage = Self {
            queue: MemoryQueue::new(clock.clone(), VISIBILITY),
            backstop: None,
            ledger: MemoryLedger::new(),
            audit: MemoryAudit::new(),
            firms: firms.iter().map(sides).collect(),
            mapping: mapping(),
            plan: PollPlan::default(),
            settings: |_| {},
            notes: MemoryNotes::new(),
            hook: Arc::new(hook),
            messages: Mutex::default(),
            boots: Mutex::default(),
            clock,
        };
        stage.prove_keys().await;
        stage
    }

    /// One firm whose tables are watched, with a mapping that knows people by a number and by their birthday.
    pub async fn watched() -> Self {
        let mut stage = Self::with_firms(&[]).await;
        stage.firms = [(
            firm("north"),
            Sides {
                fhir: MemoryFhir::new(stage.clock.clone()),
                clinic: MemoryClinic::on_host(stage.clock.clone(), TimeZone::UTC),
            },
        )]
        .into();
        let text = |field: &str, path: &str| mapping::Rule::new(field, vec![path.parse().unwrap()], Kind::Text);
        let mut patient = ResourceMapping::new(
            resource("Patient"),
            PATIENT,
            "FhirId",
            vec![
                text("LastName", "name[0].family"),
                text("City", "address[0].city"),
                text("MRN", "identifier[system=urn:synthetic:mrn].value"),
                mapping::Rule::new("BirthDate", vec!["birthDate".parse().unwrap()], Kind::Date),
                mapping::Rule::new("Active", vec!["active".parse().unwrap()], Kind::Flag),
            ],
            None,
            None,
        );
        patient.inactive = Some(Inactive { field: "Active".to_owned(), value: Value::Flag(false) });
        stage.mapping.resources.insert(resource("Patient"), patient);
        for mapping in stage.mapping.resources.values_mut() {
            mapping.table.changes = Some(ChangeFields { uuid: "UUID".to_owned(), modified: "ModifiedAt".to_owned() });
        }
        stage.prove_keys().await;
        stage
    }

    pub async fn prove_keys(&self) {
        let owner = Owner { station: StationId::new("doctor").unwrap(), boot: BootId::new("b").unwrap() };
        for firm in self.firms.keys() {
            for (resource, mapping) in &self.mapping.resources {
                let key = RecordKey::proof(firm.clone(), resource.clone());
                let now = self.clock.now();
                engine::proof::note(&*self.ledger, &key, &mapping.table, owner.clone(), secs(30), now).await.unwrap();
            }
        }
    }

    pub fn boot(&self, station: &str) -> Engine {
        let boot = {
            let mut boots = self.boots.lock().unwrap();
            *boots += 1;
            *boots
        };
        let owner =
            Owner { station: StationId::new(station).unwrap(), boot: BootId::new(format!("boot-{boot}")).unwrap() };
        let mut settings = Settings::new(owner, ClinicKey::from_bytes([9; 32]), boot);
        (self.settings)(&mut settings);
        let firms = self.firms.iter().map(|(name, sides)| {
            let ports = FirmPorts {
                fhir: Arc::new(self.hooked(format!("{station}/{name}"), &sides.fhir)),
                clinic: Arc::new(self.hooked(format!("{station}/{name}"), &sides.clinic)),
            };
            (
                name.clone(),
                Firm {
                    ports,
                    mapping: self.mapping.clone(),
                    zone: TimeZone::UTC,
                    plan: self.plan,
                    rows: self.plan,
                    brake: Brake::default(),
                },
            )
        });
        let shared = Shared {
            clock: self.clock.clone(),
            queue: Arc::new(self.hooked(station.to_owned(), &self.queue)),
            backstop: self
                .backstop
                .as_ref()
                .map(|backstop| -> Arc<dyn Queue> { Arc::new(self.hooked(format!("{station}/backstop"), backstop)) }),
            ledger: Arc::new(self.hooked(station.to_owned(), &self.ledger)),
            audit: self.audit.clone(),
            notes: self.notes.clone(),
        };
        Engine::start(shared, firms.collect::<BTreeMap<_, _>>(), settings)
    }

    fn hooked<T>(&self, place: String, inner: &Arc<T>) -> Hooked<T> {
        Hooked { hook: self.hook.clone(), place, inner: inner.clone() }
    }

    /// From now on calls are answered like this.
    pub fn rule(&self, rule: impl Fn(&Call) -> Reaction + Send + Sync + 'static) {
        *self.hook.rule.lock().unwrap() = Arc::new(rule);
    }

    pub fn all_well(&self) {
        self.rule(|_| Reaction::Answer);
    }

    /// The calls since the log was last cleared.
    pub fn calls(&self, op: &str) -> Vec<Call> {
        self.hook.log.lock().unwrap().iter().filter(|call| call.op == op).cloned().collect()
    }

    pub fn clear_log(&self) {
        self.hook.log.lock().unwrap().clear();
    }

    /// Waits until something is so; answers how long that took.
    pub async fn until(&self, what: &str, patience: Duration, mut so: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !so() {
            assert!(begun.elapsed() < patience, "after {patience:?} not yet: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        begun.elapsed()
    }

    /// Nothing waits in the queue or the ledger and no lease is held.
    pub fn is_at_rest(&self) -> bool {
        let idle = |record: &Record| record.wanted.is_none() && record.held.is_none();
        self.queue.ids().is_empty() && self.ledger.records().values().all(idle)
    }

    /// Engines are killed as a power cut would.
    pub async fn kill(&self, engine: Engine) {
        engine.kill();
        let _ = engine.ended().await;
    }

    pub async fn rest(&self, patience: Duration) -> Duration {
        self.until("at rest", patience, || self.is_at_rest()).await
    }

    pub fn record(&self, of: &str, name: &str) -> Record {
        self.ledger.records().get(&key(of, name)).cloned().unwrap_or_else(|| panic!("no record of {of}/{name}"))
    }

    pub fn north(&self) -> &Sides {
        &self.firms[&firm("north")]
    }

    /// The portal writes a resource and announces nothing.
    pub fn put(&self, of: &str, name: &str, json: Json) {
        self.north().fhir.put(&resource(of), &id(name), Some(json));
    }

    pub fn put_patient(&self, name: &str, family: &str) {
        self.put("Patient", name, patient(name, family));
    }

    pub async fn hint(&self, of: &str, name: &str) {
        self.hint_firm("north", of, name).await;
    }

    pub async fn hint_firm(&self, of_firm: &str, of: &str, name: &str) {
        let (firm, resource, id) = (firm(of_firm), resource(of), id(name));
        let at = self.clock.now();
        self.send(hint::encode(vec![Hint {
            firm,
            resource,
            subject: Subject::Resource(id),
            origin: Origin::Push,
            at,
        }]))
        .await;
    }

    pub async fn send(&self, body: String) {
        let number = {
            let mut messages = self.messages.lock().unwrap();
            *messages += 1;
            *messages
        };
        let message = Message { id: format!("message-{number}"), group: "g".into(), body };
        self.queue.send(vec![message]).await.unwrap();
    }

    pub fn row(&self, layout: &str, key: &str) -> Option<Fields> {
        self.north().clinic.rows(layout).into_iter().find(|(name, _)| name == key).map(|(_, fields)| fields)
    }

    pub fn family(&self, name: &str) -> Option<String> {
        match self.row(PATIENT, name)?.remove("LastName")? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether every audit entry is closed.
    pub fn open_entries(&self) -> Vec<AuditId> {
        self.audit.entries().into_iter().filter(|entry| entry.outcome.is_none()).map(|entry| entry.id).collect()
    }
}

pub fn patient(name: &str, family: &str) -> Json {
    json!({
        "resourceType": "Patient", "id": name,
        "name": [{ "family": family }],
        "address": [{ "city": format!("City of {name}") }],
    })
}

pub fn measurement(name: &str, patient: &str, value: &str) -> Json {
    json!({
        "resourceType": "Observation", "id": name,
        "subject": { "reference": format!("Patient/{patient}") },
        "code": { "text": "SYNTHETIC" },
        "valueString": value,
    })
}

pub fn snapshot(engine: &Engine) -> Snapshot {
    engine.handle.snapshots().borrow().clone()
}
