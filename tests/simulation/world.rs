//! A simulated world: one portal, one clinic, shared storage, and one to three stations whose engines are the real one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{
    action::Action,
    connection::Side,
    fakes::{FakeClock, MemoryAudit, MemoryClinic, MemoryFhir, MemoryLedger, MemoryNotes, MemoryQueue},
    key::{BootId, FirmId, RecordKey, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::Owner,
    mapping::{Kind, Mapping, Parent, ResourceMapping, Rule},
    ports::{AuditLog, Clock, FirmPorts, Ledger, Message, Queue},
    row::Value,
    settings::{Firm, PollPlan, Settings},
    snapshot::Verdict,
    supervisor::{Engine, Shared},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rand::{Rng, seq::IndexedRandom};
use serde_json::{Value as Json, json};
use tokio::{sync::Notify, time::Instant};

use crate::{
    defects::Defect,
    faults::{FaultyAudit, FaultyClinic, FaultyFhir, FaultyLedger, FaultyQueue, Station},
    oracle::{Oracle, held},
    script::{Script, Tally},
};

pub const PATIENT: &str = "API_Patient";
pub const MEASUREMENT: &str = "API_Measurement";

pub fn firm_id() -> FirmId {
    FirmId::new("north").unwrap()
}

pub fn resource(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

pub fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub fn mapping() -> Mapping {
    let text = |field: &str, path: &str| Rule::new(field, vec![path.parse().unwrap()], Kind::Text);
    let patient = ResourceMapping::new(
        resource("Patient"),
        PATIENT,
        "FhirId",
        vec![text("LastName", "name[0].family"), text("City", "address[0].city"), text("Phone", "telecom[0].value")],
        None,
        None,
    );
    let parent =
        Parent { path: "subject".parse().unwrap(), resource: resource("Patient"), field: "PatientFhirId".to_owned() };
    let measurement = ResourceMapping::new(
        resource("Observation"),
        MEASUREMENT,
        "FhirId",
        vec![text("Value", "valueString"), text("Label", "code.text")],
        Some(parent),
        None,
    );
    let resources = [(resource("Patient"), patient), (resource("Observation"), measurement)];
    Mapping { resources: resources.into_iter().collect() }
}

/// What is asked of one simulated world.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub events: usize,
    pub defect: Option<Defect>,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub violation: Option<String>,
    pub simulated: Duration,
    pub events: u64,
    pub faults: Tally,
    pub checks: Tally,
    pub writes: u64,
    pub echoes: u64,
    pub doubled: u64,
    pub stale: u64,
    /// A number made of everything that happened: two runs of one seed agree on it.
    pub trace: u64,
}

struct Running {
    station: Station,
    audit: Arc<MemoryAudit>,
    notes: Arc<MemoryNotes>,
    engine: Option<Engine>,
    boots: u32,
    back_at: Option<Instant>,
    /// Never comes back: its leases must be taken over.
    gone: bool,
}

fn press(engine: &Engine, action: Action) {
    let handle = engine.handle.clone();
    tokio::spawn(async move { handle.act(action, Some("maria".to_owned())).await });
}

pub struct World {
    plan: Plan,
    script: Arc<Script>,
    oracle: Arc<Oracle>,
    server_clock: Arc<FakeClock>,
    queue: Arc<MemoryQueue>,
    ledger: Arc<MemoryLedger>,
    fhir: Arc<MemoryFhir>,
    clinic: Arc<MemoryClinic>,
    stations: Vec<Running>,
    /// What the portal holds, and when each field was last edited.
    portal: BTreeMap<(ResourceType, ResourceId), (Json, Instant)>,
    edits: u64,
    opened: Vec<(&'static str, String, Instant)>,
    green_checks: u64,
    stale: u64,
}

const VISIBILITY: Duration = Duration::from_secs(60);
/// How old an edit of the portal may be while the icon says "up to date".
const GREEN: Duration = Duration::from_secs(180);

impl World {
    pub async fn run(plan: Plan) -> Report {
        let begun = Instant::now();
        let mut world = World::new(plan).await;
        for event in 0..plan.events {
            let pause = world.script.draw(|rng| rng.random_range(0.0_f64..1.0).powi(3) * 12.0);
            world.live(Duration::from_secs_f64(pause)).await;
            world.event();
            world.look(event);
            if world.oracle.violation().is_some() {
                break;
            }
        }
        if world.oracle.violation().is_none() {
            world.come_to_rest().await;
        }
        world.report(begun.elapsed())
    }

    async fn new(plan: Plan) -> Self {
        let script = Script::new(plan.seed);
        let start: Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
        let server_clock = FakeClock::at(start);
        let clinic = match plan.defect {
            Some(defect) if defect.breaks_the_clinic() => MemoryClinic::without_guards(),
            _ => MemoryClinic::new(),
        };
        let mut world = Self {
            queue: MemoryQueue::new(server_clock.clone(), VISIBILITY),
            ledger: MemoryLedger::new(),
            fhir: MemoryFhir::new(server_clock.clone()),
            clinic,
            oracle: Oracle::new(),
            stations: Vec::new(),
            portal: BTreeMap::new(),
            edits: 0,
            opened: Vec::new(),
            green_checks: 0,
            stale: 0,
            server_clock,
            script,
            plan,
        };
        world.prove_keys().await;
        let stations = world.script.draw(|rng| rng.random_range(1..=3));
        for number in 0..stations {
            // Each host has its own idea of the time, up to a day off.
            let clock = FakeClock::at(start);
            if world.script.draw(|rng| rng.random_bool(0.3)) {
                let off = world.script.draw(|rng| rng.random_range(-86_400..86_400));
                clock.jump(SignedDuration::from_secs(off));
                world.script.count("clock off");
            }
            let station = Station {
                number,
                script: world.script.clone(),
                oracle: world.oracle.clone(),
                clock,
                crash: Arc::new(Notify::new()),
            };
            let audit = MemoryAudit::new();
            let notes = MemoryNotes::new();
            world.stations.push(Running { station, audit, notes, engine: None, boots: 0, back_at: None, gone: false });
            world.boot(number);
        }
        world
    }

    /// The tables' keys are unique: `doctor` has tried.
    async fn prove_keys(&self) {
        let owner = Owner { station: StationId::new("doctor").unwrap(), boot: BootId::new("b").unwrap() };
        for (resource, mapping) in mapping().resources {
            let key = RecordKey::proof(firm_id(), resource);
            let (ledger, table) = (&*self.ledger, &mapping.table);
            let now = self.server_clock.now();
            engine::proof::note(ledger, &key, table, owner.clone(), Duration::from_secs(30), now).await.unwrap();
        }
    }

    fn boot(&mut self, number: usize) {
        let defect = self.plan.defect;
        let running = &mut self.stations[number];
        running.boots += 1;
        running.back_at = None;
        let station = running.station.clone();
        let owner = Owner {
            station: StationId::new(format!("desk-{number}")).unwrap(),
            boot: BootId::new(format!("boot-{}", running.boots)).unwrap(),
        };
        let seed = self.plan.seed.wrapping_mul(31).wrapping_add(u64::from(running.boots) * 7 + number as u64);
        let mut settings = Settings::new(owner, ClinicKey::from_bytes([9; 32]), seed);
        settings.runs = 4;
        let mut plan = PollPlan::default();
        let mut mapping = mapping();
        let mut queue: Arc<dyn Queue> = Arc::new(FaultyQueue(station.clone(), self.queue.clone(), self.ledger.clone()));
        let kept: Arc<dyn Ledger> = match defect {
            Some(defect) => defect.wrap_ledger(&self.ledger),
            None => self.ledger.clone(),
        };
        let ledger = Arc::new(FaultyLedger(station.clone(), kept));
        let mut audit: Arc<dyn AuditLog> = Arc::new(FaultyAudit(station.clone(), running.audit.clone()));
        let mut ports = FirmPorts {
            fhir: Arc::new(FaultyFhir(station.clone(), self.fhir.clone())),
            clinic: Arc::new(FaultyClinic(station.clone(), self.clinic.clone())),
        };
        if let Some(defect) = defect {
            defect.put_back(&mut settings, &mut plan, &mut mapping);
            queue = defect.wrap_queue(queue);
            audit = defect.wrap_audit(audit);
            ports = defect.wrap_sides(ports);
        }
        let firm = Firm { ports, mapping, zone: TimeZone::UTC, plan };
        let notes = running.notes.clone();
        let shared = Shared { clock: station.clock.clone(), queue, ledger, audit, notes };
        running.engine = Some(Engine::start(shared, [(firm_id(), firm)].into(), settings));
    }

    /// Lets time pass, and stations crash and come back.
    async fn live(&mut self, long: Duration) {
        let until = Instant::now() + long;
        loop {
            for number in 0..self.stations.len() {
                let due = self.stations[number].back_at.is_some_and(|at| at <= Instant::now());
                if due {
                    self.boot(number);
                }
            }
            let back = self.stations.iter().filter_map(|running| running.back_at).min();
            let next = back.unwrap_or(until).min(until);
            let crashes = self.stations.iter().map(|running| running.station.crash.clone()).collect::<Vec<_>>();
            let crashed = futures_any(&crashes);
            tokio::select! {
                biased;
                number = crashed => self.crash(number).await,
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= until {
                        return;
                    }
                }
            }
        }
    }

    async fn crash(&mut self, number: usize) {
        let others = self.stations.iter().filter(|running| !running.gone).count() > 1;
        let running = &mut self.stations[number];
        if let Some(engine) = running.engine.take() {
            engine.kill();
            let _ = engine.ended().await;
        }
        if others && self.script.draw(|rng| rng.random_bool(0.05)) {
            running.gone = true;
            self.script.count("station gone for good");
            return;
        }
        let away = self.script.draw(|rng| rng.random_range(1..90));
        running.back_at = Some(Instant::now() + Duration::from_secs(away));
    }

    fn next_value(&mut self) -> String {
        self.edits += 1;
        format!("s{}", self.edits)
    }

    fn put(&mut self, of: &ResourceType, id: &ResourceId, json: Option<Json>) {
        self.fhir.put(of, id, json.clone());
        match json {
            Some(json) => {
                self.portal.insert((of.clone(), id.clone()), (json, Instant::now()));
            }
            None => {
                self.portal.remove(&(of.clone(), id.clone()));
            }
        }
    }

    fn pick(&self) -> Option<(ResourceType, ResourceId)> {
        let keys: Vec<_> = self.portal.keys().cloned().collect();
        self.script.draw(|rng| keys.choose(rng).cloned())
    }

    /// One thing happens.
    fn event(&mut self) {
        let roll: f64 = self.script.draw(|rng| rng.random());
        match roll {
            _ if roll < 0.18 || self.portal.is_empty() => self.new_patient(),
            _ if roll < 0.30 => self.new_measurement(),
            _ if roll < 0.58 => self.portal_edit(),
            _ if roll < 0.66 => self.hand_edit(),
            _ if roll < 0.70 => self.open_record(),
            _ if roll < 0.78 => self.hints(),
            _ if roll < 0.81 => self.poison(),
            _ if roll < 0.83 => {
                if let Some((of, id)) = self.pick().filter(|(of, _)| of.as_str() == "Observation") {
                    self.put(&of, &id, None);
                    self.script.count("resource deleted");
                }
            }
            _ if roll < 0.845 => {
                if let Some((of, id)) = self.pick() {
                    let layout = layout(&of);
                    self.clinic.delete_by_hand(layout, id.as_str());
                    self.oracle.deleted_by_hand(layout, id.as_str());
                    self.script.count("row deleted by hand");
                }
            }
            _ if roll < 0.865 => self.person(),
            _ => self.trouble(),
        }
    }

    fn trouble(&mut self) {
        let long = |script: &Script, most: u64| Duration::from_secs(script.draw(|rng| rng.random_range(2..most)));
        let number = self.script.draw(|rng| rng.random_range(0..self.stations.len()));
        match self.script.draw(|rng| rng.random_range(0..7)) {
            0 => self.script.fhir_goes_away(long(&self.script, 120)),
            1 => self.script.clinic_goes_away(long(&self.script, 120)),
            2 => self.script.clinic_stops(long(&self.script, 60)),
            3 => self.script.quota(long(&self.script, 60)),
            4 => self.script.freeze(number, long(&self.script, 150)),
            5 => {
                let by = self.script.draw(|rng| rng.random_range(-86_400..86_400));
                self.stations[number].station.clock.jump(SignedDuration::from_secs(by));
                self.script.count("clock jump");
            }
            _ => {
                self.script.count("crash");
                self.stations[number].station.crash.notify_one();
            }
        }
    }

    /// Somebody at a station presses a button. Who presses while it starts or ends may get no answer.
    fn person(&mut self) {
        let number = self.script.draw(|rng| rng.random_range(0..self.stations.len()));
        let running = &self.stations[number];
        let Some(engine) = &running.engine else { return };
        let (button, action) = match self.script.draw(|rng| rng.random_range(0..10)) {
            0..6 => ("sync now", Action::SyncNow),
            6..9 => {
                let long = self.script.draw(|rng| rng.random_range(5..90));
                let until = running.station.clock.now() + SignedDuration::from_secs(long);
                ("pause", Action::Pause { until })
            }
            _ => ("resume", Action::Resume),
        };
        self.script.count(button);
        press(engine, action);
    }

    fn new_patient(&mut self) {
        let number = self.portal.len() + 1;
        let patient = id(&format!("p{}-{}", number, self.edits));
        let json = json!({
            "resourceType": "Patient", "id": patient.as_str(),
            "name": [{ "family": self.next_value() }],
            "address": [{ "city": self.next_value() }],
            "telecom": [{ "value": self.next_value() }],
        });
        self.put(&resource("Patient"), &patient, Some(json));
        self.maybe_hide(&resource("Patient"), &patient);
    }

    fn new_measurement(&mut self) {
        let patients: Vec<_> = self.portal.keys().filter(|(of, _)| of.as_str() == "Patient").cloned().collect();
        let Some((_, patient)) = self.script.draw(|rng| patients.choose(rng).cloned()) else { return };
        let measurement = id(&format!("m{}-{}", self.portal.len() + 1, self.edits));
        let json = json!({
            "resourceType": "Observation", "id": measurement.as_str(),
            "subject": { "reference": format!("Patient/{patient}") },
            "code": { "text": self.next_value() },
            "valueString": self.next_value(),
        });
        self.put(&resource("Observation"), &measurement, Some(json));
        self.maybe_hide(&resource("Observation"), &measurement);
    }

    fn maybe_hide(&self, of: &ResourceType, id: &ResourceId) {
        if self.script.draw(|rng| rng.random_bool(0.05)) {
            let long = self.script.draw(|rng| rng.random_range(5..90));
            self.script.hide(of, id, Duration::from_secs(long));
        }
    }

    fn portal_edit(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let Some((mut json, _)) = self.portal.get(&(of.clone(), id.clone())).cloned() else { return };
        let pointers: &[&str] = match of.as_str() {
            "Patient" => &["/name/0/family", "/address/0/city", "/telecom/0/value"],
            _ => &["/valueString", "/code/text"],
        };
        let pointer = self.script.draw(|rng| pointers.choose(rng).copied()).unwrap_or(pointers[0]);
        let value = self.next_value();
        if self.script.draw(|rng| rng.random_bool(0.05)) {
            if let Some(place) = json.pointer_mut(pointer) {
                *place = json!(format!("bad{}", self.edits));
                self.script.count("value refused");
            }
        } else if self.script.draw(|rng| rng.random_bool(0.1)) && of.as_str() == "Patient" {
            // The portal no longer says anything here.
            json.as_object_mut().map(|patient| patient.shift_remove("telecom"));
        } else if let Some(place) = json.pointer_mut(pointer) {
            *place = json!(value);
        }
        self.put(&of, &id, Some(json));
    }

    fn hand_edit(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let fields: &[&str] =
            if of.as_str() == "Patient" { &["LastName", "City", "Phone"] } else { &["Value", "Label"] };
        let field = self.script.draw(|rng| fields.choose(rng).copied()).unwrap_or(fields[0]);
        self.edits += 1;
        let value = Value::Text(format!("h{}", self.edits));
        if self.clinic.edit_by_hand(layout(&of), id.as_str(), field, value.clone()) {
            self.oracle.edited_by_hand(layout(&of), id.as_str(), field, &value);
            self.script.count("edit by hand");
        }
    }

    fn open_record(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let long = self.script.draw(|rng| rng.random_range(5..240));
        self.clinic.open_by_hand(layout(&of), id.as_str(), true);
        self.opened.push((layout(&of), id.to_string(), Instant::now() + Duration::from_secs(long)));
        self.script.count("record open");
    }

    /// The same hint, once to three times.
    fn hints(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let times = self.script.draw(|rng| rng.random_range(1..=3));
        if times > 1 {
            self.script.count("duplicate hint");
        }
        self.hint(&of, &id, times);
    }

    fn hint(&mut self, of: &ResourceType, id: &ResourceId, times: u32) {
        let messages: Vec<_> = (0..times)
            .map(|time| {
                let body = json!({"v": 1, "hints": [{
                    "firm": firm_id(), "resource": of, "id": id, "origin": "push", "at": self.server_clock.now(),
                }]});
                Message { id: format!("push-{}-{time}", self.edits), group: of.to_string(), body: body.to_string() }
            })
            .collect();
        self.edits += 1;
        self.send(messages);
    }

    fn poison(&mut self) {
        self.edits += 1;
        let body = self.script.draw(|rng| ["", "{", "not json", r#"{"v":9,"hints":[]}"#].choose(rng).copied());
        let body = body.unwrap_or_default().to_owned();
        self.script.count("poison message");
        self.send(vec![Message { id: format!("poison-{}", self.edits), group: "poison".into(), body }]);
    }

    fn send(&self, messages: Vec<Message>) {
        self.oracle.sent(&messages);
        let sent = futures::FutureExt::now_or_never(self.queue.send(messages));
        assert_eq!(sent, Some(Ok(())), "a memory queue never waits");
    }

    /// Looks at the world after an event.
    fn look(&mut self, event: usize) {
        let now = Instant::now();
        let clinic = self.clinic.clone();
        self.opened.retain(|(layout, key, until)| {
            let over = *until <= now;
            if over {
                clinic.open_by_hand(layout, key, false);
            }
            !over
        });
        for layout in [PATIENT, MEASUREMENT] {
            self.oracle.count_rows(layout, self.clinic.rows(layout).into_iter().map(|(key, _)| key));
        }
        self.oracle.leases(&self.ledger);
        if event.is_multiple_of(10) {
            self.oracle.conserve(&self.queue);
        }
        self.is_green_true();
    }

    /// I25 and idea 6: while a station says "up to date", whatever the portal said three minutes ago has arrived.
    fn is_green_true(&mut self) {
        for number in 0..self.stations.len() {
            let Some(engine) = &self.stations[number].engine else { continue };
            let verdict = engine.handle.snapshots().borrow().verdict.clone();
            if !matches!(verdict, Verdict::UpToDate { .. }) {
                continue;
            }
            self.green_checks += 1;
            self.oracle.checked("I25");
            if let Some(stale) = self.stale(GREEN) {
                self.oracle.fail("I25", format!("a station says up to date and {stale}"));
            }
        }
    }

    /// The first thing the portal said longer ago than this that has not arrived, and why it should have.
    fn stale(&self, older: Duration) -> Option<String> {
        let records = self.ledger.records();
        for ((of, id), (json, edited)) in &self.portal {
            if edited.elapsed() < older || !self.script.is_visible(of, id) {
                continue;
            }
            let record = records.get(&RecordKey::link(firm_id(), of.clone(), id.clone()));
            // Kept, and shown as such: a person's edit, a row deleted by the clinic, a dead letter with its reason.
            let dead = record.is_some_and(|record| record.dead.is_some());
            let notice = record.and_then(|record| record.notice);
            let rows = self.clinic.rows(layout(of));
            let Some((_, row)) = rows.iter().find(|(key, _)| key == id.as_str()) else {
                let told = notice == Some(engine::error::Code::RowDeleted);
                if dead || told || (!older.is_zero() && self.oracle.is_touched_by_hand(layout(of), id.as_str())) {
                    continue;
                }
                return Some(format!("{of}/{id} has no row"));
            };
            let wanted: &[(&str, &str)] = match of.as_str() {
                "Patient" => {
                    &[("LastName", "/name/0/family"), ("City", "/address/0/city"), ("Phone", "/telecom/0/value")]
                }
                _ => &[("Value", "/valueString"), ("Label", "/code/text")],
            };
            for (field, pointer) in wanted {
                let Some(value) = json.pointer(pointer).and_then(Json::as_str) else { continue };
                let by_hand = self.oracle.is_by_hand(layout(of), id.as_str(), field);
                let same = row.get(*field) == Some(&Value::Text(value.to_owned()));
                if by_hand && older.is_zero() {
                    self.oracle.checked("I8");
                }
                if !same && by_hand && notice.is_none() && !dead && older.is_zero() {
                    return Some(format!("{of}/{id} {field} differs and nobody is told"));
                }
                if !same && !by_hand && !dead {
                    return Some(format!("{of}/{id} {field} is stale"));
                }
            }
        }
        None
    }

    /// The faults end; within a bounded time everything has arrived and nothing is left over.
    async fn come_to_rest(&mut self) {
        self.script.heal();
        for (layout, key, _) in std::mem::take(&mut self.opened) {
            self.clinic.open_by_hand(layout, &key, false);
        }
        // What only the clinic knows of is found by looking: the clinic's side is not polled yet.
        let all: Vec<_> = self.portal.keys().cloned().collect();
        for (of, id) in all {
            if self.oracle.is_touched_by_hand(layout(&of), id.as_str()) {
                self.hint(&of, &id, 1);
            }
        }
        let patience = Instant::now() + Duration::from_secs(3 * 60 * 60);
        // Polls that failed last are back by then, so that the portal's last word was heard.
        self.live(Duration::from_secs(120)).await;
        loop {
            self.live(Duration::from_secs(20)).await;
            // A clock that was set back may have made a day of a minute.
            for engine in self.stations.iter().filter_map(|running| running.engine.as_ref()) {
                if engine.handle.snapshots().borrow().pause.is_some() {
                    press(engine, Action::Resume);
                }
            }
            self.look(0);
            if self.oracle.violation().is_some() || self.is_at_rest() {
                break;
            }
            if Instant::now() > patience {
                self.oracle.fail("I19", format!("not at rest three hours after the last fault: {}", self.restless()));
                return;
            }
        }
        self.oracle.checked("I19");
        self.oracle.checked("I16");
        self.oracle.conserve(&self.queue);
        if let Some(stale) = self.stale(Duration::ZERO) {
            self.stale += 1;
            self.oracle.fail("I19", stale);
        }
        self.oracle.checked("I20");
        if let Some(key) = held(&self.ledger).first() {
            self.oracle.fail("I20", format!("the lease of {key} was never freed"));
        }
        for running in self.stations.iter().filter(|running| !running.gone) {
            let open = running.audit.entries().iter().filter(|entry| entry.outcome.is_none()).count();
            self.oracle.audit_at_rest(open);
        }
    }

    fn is_at_rest(&self) -> bool {
        self.restless().is_empty()
    }

    fn restless(&self) -> String {
        let records = self.ledger.records();
        let mut why = Vec::new();
        if !self.queue.ids().is_empty() {
            why.push(format!("{} messages", self.queue.ids().len()));
        }
        if let Some(record) = records.values().find(|record| record.wanted.is_some() || record.held.is_some()) {
            why.push(format!("{} waits for {:?}", record.key, record.wanted.and_then(|wanted| wanted.waits_for)));
        }
        let alive = self.stations.iter().filter(|running| !running.gone);
        let green = |running: &Running| {
            let engine = running.engine.as_ref()?;
            let snapshot = engine.handle.snapshots().borrow().clone();
            let up = Side::BOTH.len() <= snapshot.connections.len();
            let passes = snapshot.pause.is_some() || snapshot.manual.is_some_and(|manual| manual.is_running());
            (up && snapshot.running.is_empty() && !passes).then_some(())
        };
        if alive.clone().count() == 0 || alive.clone().any(|running| green(running).is_none()) {
            why.push("a station is busy".to_owned());
        }
        why.join(", ")
    }

    fn report(self, simulated: Duration) -> Report {
        let (writes, echoes, doubled) = self.oracle.figures();
        let mut trace = std::hash::DefaultHasher::new();
        use std::hash::{Hash, Hasher};
        format!("{:?} {:?}", self.ledger.records(), self.clinic.rows(PATIENT)).hash(&mut trace);
        (writes, simulated.as_millis(), self.script.tally().0).hash(&mut trace);
        for running in &self.stations {
            if let Some(engine) = &running.engine {
                engine.kill();
            }
        }
        Report {
            violation: self.oracle.violation(),
            simulated,
            events: self.plan.events as u64,
            faults: self.script.tally(),
            checks: self.oracle.checks(),
            writes,
            echoes,
            doubled,
            stale: self.stale,
            trace: trace.finish(),
        }
    }
}

pub fn layout(of: &ResourceType) -> &'static str {
    if of.as_str() == "Patient" { PATIENT } else { MEASUREMENT }
}

/// The first of these to be notified.
async fn futures_any(all: &[Arc<Notify>]) -> usize {
    let waiting = all.iter().map(|notify| Box::pin(notify.notified()));
    futures::future::select_all(waiting).await.1
}
