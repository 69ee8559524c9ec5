//! A simulated world: one portal, one clinic, and stations whose engines are the real one. They are two to five on a queue and a
//! ledger as odd as those of AWS, or one alone on its own.

mod both;
mod events;
mod portal;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use engine::{
    fakes::{FakeClock, MemoryAudit, MemoryClinic, MemoryFhir, MemoryLedger, MemoryNotes, MemoryQueue},
    key::{BootId, RecordKey, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::{Owner, Record},
    mapping::Mapping,
    ports::{AuditLog, Clock, FirmPorts, Ledger, Queue},
    settings::{Brake, Firm, PollPlan, Settings},
    supervisor::{Engine, Shared},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rand::Rng;
use serde_json::Value as Json;
use tokio::{sync::Notify, time::Instant};

pub use self::{
    both::{both_ways, capitals, capitals_in_row, fields, says, unmapped},
    portal::{MEASUREMENT, PATIENT, firm_id, id, layout, mapping, resource},
};
use crate::{
    defects::{Beliefs, Defect},
    faults::{FaultyAudit, FaultyClinic, FaultyFhir, FaultyLedger, FaultyQueue, Station},
    oracle::Oracle,
    people::Place,
    script::{Script, Tally},
};

/// What is asked of one simulated world.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub events: usize,
    pub stores: Stores,
    pub ways: Ways,
    pub defect: Option<Defect>,
}

/// What the stations of a world work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// One station, on its own.
    Embedded,
    /// Two to five, on those of AWS.
    Shared,
    /// The same, where AWS would do only what nobody is surprised at.
    SharedWithoutOddities,
}

/// Which way edits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    ToFileMaker,
    Both,
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
    beliefs: Beliefs,
    /// In worlds that go both ways: what the portal took back, and what it says beside the mapping.
    removed: BTreeSet<Place>,
    unmapped: BTreeMap<(ResourceType, ResourceId), Json>,
}

const VISIBILITY: Duration = Duration::from_secs(60);
impl World {
    pub async fn run(plan: Plan) -> Report {
        let begun = Instant::now();
        let mut world = World::new(plan).await;
        for event in 0..plan.events {
            let pause = world.script.draw(|rng| rng.random_range(0.0_f64..1.0).powi(3) * 12.0);
            world.live(Duration::from_secs_f64(pause)).await;
            match plan.ways {
                Ways::ToFileMaker => world.event(),
                Ways::Both => world.event_of_both(),
            }
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
        let script = Script::new(plan.seed, plan.stores == Stores::Shared);
        let start: Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
        let server_clock = FakeClock::at(start);
        let unguarded = plan.defect.is_some_and(Defect::breaks_the_clinic);
        let clinic = match plan.ways {
            Ways::ToFileMaker if unguarded => MemoryClinic::without_guards(),
            Ways::ToFileMaker => MemoryClinic::new(),
            Ways::Both if unguarded => MemoryClinic::on_host_without_guards(server_clock.clone(), TimeZone::UTC),
            Ways::Both => MemoryClinic::on_host(server_clock.clone(), TimeZone::UTC),
        };
        let (queue, ledger) = if plan.stores == Stores::Embedded {
            (MemoryQueue::new(server_clock.clone(), VISIBILITY), MemoryLedger::new())
        } else {
            let queue = MemoryQueue::shared(server_clock.clone(), VISIBILITY, script.clone());
            (queue, MemoryLedger::shared(script.clone()))
        };
        let mut world = Self {
            queue,
            ledger,
            fhir: MemoryFhir::new(server_clock.clone()),
            clinic,
            oracle: if plan.ways == Ways::Both { Oracle::of_both() } else { Oracle::new() },
            stations: Vec::new(),
            portal: BTreeMap::new(),
            edits: 0,
            opened: Vec::new(),
            green_checks: 0,
            stale: 0,
            beliefs: Beliefs::default(),
            removed: BTreeSet::new(),
            unmapped: BTreeMap::new(),
            server_clock,
            script,
            plan,
        };
        world.prove_keys().await;
        let stations = match plan.stores {
            Stores::Embedded => 1,
            Stores::Shared | Stores::SharedWithoutOddities => world.script.draw(|rng| rng.random_range(2..=5)),
        };
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
        for (resource, mapping) in self.mapping().resources {
            let key = RecordKey::proof(firm_id(), resource);
            let (ledger, table) = (&*self.ledger, &mapping.table);
            let now = self.server_clock.now();
            engine::proof::note(ledger, &key, table, owner.clone(), Duration::from_secs(30), now).await.unwrap();
        }
    }

    fn mapping(&self) -> Mapping {
        match self.plan.ways {
            Ways::ToFileMaker => mapping(),
            Ways::Both => both_ways(mapping()),
        }
    }

    fn boot(&mut self, number: usize) {
        let defect = self.plan.defect;
        let mut mapping = self.mapping();
        // In some worlds a server, or a file, keeps what it is sent in a form of its own.
        let normalises = |of: u64| self.plan.ways == Ways::Both && self.plan.seed % 3 == of;
        let (chart_normalises, file_normalises) = (normalises(0), normalises(1));
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
        settings.default_firm = Some(firm_id());
        let mut plan = PollPlan::default();
        let mut queue: Arc<dyn Queue> = Arc::new(FaultyQueue(station.clone(), self.queue.clone(), self.ledger.clone()));
        let kept: Arc<dyn Ledger> = match defect {
            Some(defect) => defect.wrap_ledger(&self.ledger, &self.beliefs),
            None => self.ledger.clone(),
        };
        let ledger = Arc::new(FaultyLedger(station.clone(), kept));
        let mut audit: Arc<dyn AuditLog> = Arc::new(FaultyAudit(station.clone(), running.audit.clone()));
        let mut ports = FirmPorts {
            fhir: Arc::new(FaultyFhir(station.clone(), self.fhir.clone(), chart_normalises)),
            clinic: Arc::new(FaultyClinic(station.clone(), self.clinic.clone(), file_normalises)),
        };
        if let Some(defect) = defect {
            defect.put_back(&mut settings, &mut plan, &mut mapping);
            queue = defect.wrap_queue(queue, &self.beliefs);
            audit = defect.wrap_audit(audit);
            ports = defect.wrap_sides(ports);
        }
        let firm = Firm { ports, mapping, zone: TimeZone::UTC, plan, rows: plan, brake: Brake::default() };
        let notes = running.notes.clone();
        let shared = Shared { clock: station.clock.clone(), queue, backstop: None, ledger, audit, notes };
        running.engine = Some(Engine::start(shared, BTreeMap::from([(firm_id(), firm)]), settings));
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

    fn report(self, simulated: Duration) -> Report {
        let (writes, echoes, doubled) = self.oracle.figures();
        let mut trace = std::hash::DefaultHasher::new();
        use std::hash::{Hash, Hasher};
        let records: Vec<_> = self.ledger.records().into_values().map(without_seals).collect();
        format!("{records:?} {:?}", self.clinic.rows(PATIENT)).hash(&mut trace);
        let known: Vec<_> = self.portal.keys().cloned().collect();
        both::picture(&self.fhir, &known).hash(&mut trace);
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

/// A record without what is sealed in it: a seal is another one each time.
fn without_seals(mut record: Record) -> Record {
    if let Ok(mut state) = serde_json::from_str::<Json>(&record.state)
        && let Some(kept) = state.get_mut("kept").and_then(Json::as_array_mut)
    {
        kept.iter_mut().filter_map(Json::as_object_mut).for_each(|one| drop(one.shift_remove("sealed")));
        record.state = state.to_string();
    }
    record
}

/// The first of these to be notified.
async fn futures_any(all: &[Arc<Notify>]) -> usize {
    let waiting = all.iter().map(|notify| Box::pin(notify.notified()));
    futures::future::select_all(waiting).await.1
}
