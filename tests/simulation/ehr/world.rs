//! One such world: what its firms do all day, what goes wrong, and what is looked at while it lasts.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    action::Action,
    connection::Health,
    error::Class,
    fakes::{FakeClock, FakeEhr, MemoryAudit, MemoryEhr, MemoryLedger, MemoryNotes, MemoryQueue, Meter, Walking},
    key::{BootId, FirmId, QuotaId, StationId},
    keys::ClinicKey,
    ledger::Owner,
    pace::{Allowance, Quota, Window},
    ports::{Budget, Clock, EhrFactory, Ledger},
    settings::{Clinics, EhrFirm, Settings},
    snapshot::Verdict,
    supervisor::{Engine, Shared},
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use tokio::{sync::Notify, time::Instant};

use super::{
    days::{Act, seconds},
    defects::{BrokenLedger, Defect, NoBudget},
    judge::{Judge, Judged, Truth},
    ports::{FaultyEhr, Others, Troubles},
    shape::{Flavour, Mix, Shape, classes},
};
use crate::{
    faults::{FaultyLedger, Station},
    oracle::Oracle,
    script::{Script, Store, Tally},
};

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub defect: Option<Defect>,
}

#[derive(Debug, Default, Clone)]
pub struct Report {
    pub violation: Option<String>,
    pub simulated: Duration,
    pub requests: u64,
    pub beyond: u64,
    pub handed: u64,
    pub sweeps: u64,
    pub missed: u64,
    pub faults: Tally,
    pub checks: Tally,
    pub shapes: Tally,
    pub trace: u64,
}

struct Running {
    station: Station,
    audit: Arc<MemoryAudit>,
    notes: Arc<MemoryNotes>,
    engine: Option<Engine>,
    boots: u32,
    up_since: Instant,
    /// It was asked to do nothing, or could do nothing, until then.
    idle_until: Instant,
    back_at: Option<Instant>,
}

pub struct World {
    plan: Plan,
    pub(super) shape: Shape,
    pub(super) script: Arc<Script>,
    oracle: Arc<Oracle>,
    clock: Arc<FakeClock>,
    ledger: Arc<MemoryLedger>,
    kept: Arc<dyn Ledger>,
    queue: Arc<MemoryQueue>,
    judge: Arc<Judge>,
    meter: Arc<Meter>,
    troubles: Arc<Troubles>,
    stations: Vec<Running>,
    acts: BinaryHeap<Reverse<(Instant, u64)>>,
    what: BTreeMap<u64, Act>,
    number: u64,
    /// The last moment at which something kept all stations from looking.
    hindered: Instant,
    trace: Vec<String>,
}

fn firm_id(number: usize) -> FirmId {
    FirmId::new(format!("firm-{number:03}")).unwrap()
}

impl World {
    pub async fn run(plan: Plan) -> Report {
        let begun = Instant::now();
        let mut world = World::new(plan);
        world.plan_the_days();
        while let Some(Reverse((at, number))) = world.acts.pop() {
            world.live_until(at).await;
            if let Some(act) = world.what.remove(&number) {
                world.act(act);
            }
            if world.oracle.violation().is_some() {
                break;
            }
        }
        if world.oracle.violation().is_none() {
            world.come_to_rest().await;
        }
        world.report(begun.elapsed())
    }

    fn new(plan: Plan) -> Self {
        let shape = Shape::of(plan.seed);
        let script = Script::new(plan.seed, false);
        let oracle = Oracle::new();
        let start: Timestamp = "2026-03-02T07:00:00Z".parse().unwrap();
        let clock = FakeClock::at(start);
        let ledger = MemoryLedger::new();
        let walking = Walking {
            repeated: (plan.seed % 3) as usize,
            links_last: plan.seed.is_multiple_of(3).then_some(Duration::from_secs(120)),
        };
        let truth = |number: usize| {
            let manners = shape.manners();
            let ehr = MemoryEhr::new(clock.clone(), manners.clone(), walking);
            (firm_id(number), Truth { ehr, manners, plan: shape.plan })
        };
        let judge = Judge::new(oracle.clone(), clock.clone(), (0..shape.firms).map(truth).collect());
        let broken: Arc<dyn Ledger> = match plan.defect {
            Some(defect) => Arc::new(BrokenLedger::new(defect, ledger.clone())),
            None => ledger.clone(),
        };
        let mut world = Self {
            kept: Arc::new(Judged(broken, ledger.clone(), judge.clone())),
            queue: MemoryQueue::new(clock.clone(), Duration::from_secs(60)),
            meter: Meter::new(clock.clone(), shape.limit, Duration::from_secs(60), shape.calendar),
            troubles: Arc::default(),
            stations: Vec::new(),
            acts: BinaryHeap::new(),
            what: BTreeMap::new(),
            number: 0,
            hindered: Instant::now(),
            trace: Vec::new(),
            plan,
            shape,
            script,
            oracle,
            clock,
            ledger,
            judge,
        };
        for number in 0..world.shape.stations {
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
            world.stations.push(Running {
                station,
                audit: MemoryAudit::new(),
                notes: MemoryNotes::new(),
                engine: None,
                boots: 0,
                up_since: Instant::now(),
                idle_until: Instant::now(),
                back_at: None,
            });
            world.boot(number);
        }
        world
    }

    fn is_bare(&self, number: usize) -> bool {
        self.shape.bare && number + 1 == self.shape.stations
    }

    fn boot(&mut self, number: usize) {
        let bare = self.is_bare(number);
        if bare {
            self.script.count("no secret");
        }
        let running = &mut self.stations[number];
        running.boots += 1;
        running.back_at = None;
        running.up_since = Instant::now();
        let station = running.station.clone();
        let owner = Owner {
            station: StationId::new(format!("desk-{number}")).unwrap(),
            boot: BootId::new(format!("boot-{}", running.boots)).unwrap(),
        };
        let seed = self.plan.seed.wrapping_mul(31).wrapping_add(u64::from(running.boots) * 7 + number as u64);
        let settings = Settings::new(owner, ClinicKey::from_bytes([9; 32]), seed);
        let allowance = Allowance {
            requests: self.shape.limit,
            per: Duration::from_secs(60),
            window: if self.shape.calendar { Window::Calendar } else { Window::Sliding },
            used: 60,
            reserve: 10,
            stations: 4,
        };
        let quota = Quota::new(QuotaId::new("key").unwrap(), allowance, station.clock.clone()).unwrap();
        let firm = |firm: &FirmId| {
            let truth = &self.judge.firms()[firm];
            let budget: Arc<dyn Budget> = match self.plan.defect {
                Some(Defect::FixedWaits) => Arc::new(NoBudget),
                _ => quota.share_of(firm),
            };
            let name = format!("desk-{number}");
            let ehr = FakeEhr::new(truth.ehr.clone(), &name, budget, self.meter.clone(), station.clock.clone());
            let ehr = FaultyEhr {
                station: station.clone(),
                ehr,
                firm: firm.clone(),
                troubles: self.troubles.clone(),
                defect: self.plan.defect,
                bare,
                newest: Mutex::default(),
                poison: None,
            };
            let watched = EhrFirm {
                ehr: Arc::new(ehr),
                plan: self.shape.plan,
                classes: classes(),
                // With fixed waits nothing is split.
                quota: (self.plan.defect != Some(Defect::FixedWaits)).then(|| quota.clone()),
                paused: false,
                definition: self.shape.discovered.then(|| format!("as configured: {firm}")),
            };
            (firm.clone(), watched)
        };
        let all: BTreeMap<FirmId, EhrFirm> = self.judge.firms().keys().map(firm).collect();
        let (watched, others) = if self.shape.discovered && number > 0 {
            let others: Arc<dyn EhrFactory> = Arc::new(Others(all));
            (BTreeMap::new(), Some(others))
        } else {
            (all, None)
        };
        let clinics = Clinics { watched, others, quotas: vec![quota.clone()], ..Clinics::default() };
        let shared = Shared {
            clock: station.clock.clone(),
            queue: self.queue.clone(),
            backstop: None,
            ledger: Arc::new(FaultyLedger(station.clone(), self.kept.clone())),
            audit: running.audit.clone(),
            notes: running.notes.clone(),
        };
        running.engine = Some(Engine::start(shared, clinics, settings));
    }

    pub(super) fn at(&mut self, after: Duration, act: Act) {
        self.number += 1;
        self.acts.push(Reverse((Instant::now() + after, self.number)));
        self.what.insert(self.number, act);
    }

    fn late(&self, late: bool) -> Duration {
        let lag = match self.shape.flavour {
            // An index that is behind.
            Flavour::ByIdAfter => self.script.draw(|rng| rng.random_range(0.0..20.0)),
            _ => 0.0,
        };
        if !late {
            return seconds(lag);
        }
        self.script.count("late row");
        let most = if self.shape.wild { 400.0 } else { 95.0 };
        seconds(lag + self.script.draw(|rng| rng.random_range(1.0..most)))
    }

    fn act(&mut self, act: Act) {
        self.trace.push(format!("{:?} {}", self.clock.elapsed().as_millis(), self.judge.handed()));
        match act {
            Act::Encounter { firm, id, patient, status, late } => {
                let late = self.late(late);
                self.judge.firms()[&firm_id(firm)].ehr.put_encounter(&id, status, Some(patient), late);
            }
            Act::Document { firm, row, late } => {
                let late = self.late(late);
                self.judge.firms()[&firm_id(firm)].ehr.put_document(*row, late);
            }
            Act::Away { firm, long, fault } => {
                self.script.count(match fault.class {
                    Class::Away => "ehr away",
                    Class::Stop => "sign-in refused",
                    _ => "server error",
                });
                self.troubles.begin(firm_id(firm), long, fault);
            }
            Act::Silence(long) => {
                self.script.count("quota refused");
                self.meter.silence(long);
                self.hindered = self.hindered.max(Instant::now() + long);
            }
            Act::Suspend(number, long) => {
                self.script.freeze(number, long);
                self.idle(number, long);
            }
            Act::CutOff(number, long) => {
                self.script.cut_off(number, Store::Ledger, long);
                self.idle(number, long);
            }
            Act::Pause(number, long) => {
                let until = self.stations[number].station.clock.now().saturating_add(long).unwrap();
                self.ask(number, Action::Pause { until }, "pause");
                self.idle(number, long);
            }
            Act::SyncNow(number) => self.ask(number, Action::SyncNow, "sync now"),
            Act::Look => self.look(),
        }
    }

    fn idle(&mut self, number: usize, long: Duration) {
        let until = Instant::now() + long;
        let running = &mut self.stations[number];
        running.idle_until = running.idle_until.max(until);
    }

    fn ask(&self, number: usize, action: Action, name: &'static str) {
        if let Some(engine) = &self.stations[number].engine {
            self.script.count(name);
            let handle = engine.handle.clone();
            tokio::spawn(async move { drop(handle.act(action, None).await) });
        }
    }

    /// How long a firm may go unseen at most, where nothing is wrong: its slowest pace, with what a take-over and a retry cost.
    fn bound(&self) -> Duration {
        self.shape.plan.slowest * 2 + Duration::from_secs(5 * 60)
    }

    fn look(&mut self) {
        let bound = self.bound();
        let (_, beyond, broken) = self.meter.figures();
        self.oracle.checked("I14");
        if beyond > 0 {
            self.oracle.fail("I14", format!("{beyond} requests were beyond the limit of {}", self.shape.limit));
        }
        if broken > 0 {
            self.oracle.fail("I14", format!("{broken} requests were sent into a silence that was asked for"));
        }
        if self.shape.wild {
            return;
        }
        let now = self.clock.now();
        let unseen = |firm: &FirmId| {
            let mark = self.judge.mark(firm)?;
            Some(Duration::try_from(now.duration_since(mark)).unwrap_or_default())
        };
        let settle = self.shape.plan.settle * 2;
        let can_look = |running: &Running, for_: Duration| {
            running.engine.is_some() && running.up_since.elapsed() > for_ && running.idle_until + for_ < Instant::now()
        };
        let somebody =
            self.stations.iter().enumerate().any(|(number, running)| !self.is_bare(number) && can_look(running, bound));
        for firm in self.judge.firms().keys() {
            // I22: nobody waits longer than the bound, whatever the others do.
            let quiet = self.hindered + bound < Instant::now() && somebody;
            let healthy = self.troubles.over_for(firm).is_some_and(|over| over > bound);
            if quiet && healthy {
                self.oracle.checked("I22");
                if unseen(firm).is_none_or(|unseen| unseen > settle + bound + Duration::from_secs(60)) {
                    let said = unseen(firm);
                    self.oracle.fail("I22", format!("{firm} has not been looked at for {said:?}"));
                }
            }
        }
        for running in &self.stations {
            let Some(engine) = &running.engine else { continue };
            let snapshot = engine.handle.snapshots().borrow().clone();
            // I25: "up to date" is not said of what nobody has seen for long, and an EHR that is away is told.
            self.oracle.checked("I25");
            if matches!(snapshot.verdict, Verdict::UpToDate { .. }) {
                let old = |firm: &&FirmId| unseen(firm).is_none_or(|unseen| unseen > settle + bound + bound);
                if !self.shape.discovered
                    && let Some(firm) = self.judge.firms().keys().find(old)
                {
                    let said = unseen(firm);
                    self.oracle
                        .fail("I25", format!("{firm} has not been seen for {said:?}, and all is said to be well"));
                }
            }
            for watching in &snapshot.watching {
                let lasts = self.troubles.lasts(&watching.firm).filter(|lasts| *lasts > bound + bound);
                let said = !matches!(watching.health, Health::Up) || watching.silent_for().is_some();
                if lasts.is_some() && can_look(running, bound + bound) && !said {
                    self.oracle.fail("I25", format!("{} is away, and nobody is told", watching.firm));
                }
            }
        }
    }

    async fn live_until(&mut self, until: Instant) {
        loop {
            for number in 0..self.stations.len() {
                if self.stations[number].back_at.is_some_and(|at| at <= Instant::now()) {
                    self.boot(number);
                }
            }
            let back = self.stations.iter().filter_map(|running| running.back_at).min();
            let next = back.unwrap_or(until).min(until);
            let crashes: Vec<_> = self.stations.iter().map(|running| running.station.crash.clone()).collect();
            let crashed = futures::future::select_all(crashes.iter().map(|notify| Box::pin(notify.notified())));
            tokio::select! {
                biased;
                ((), number, _) = crashed => self.crash(number).await,
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= until {
                        return;
                    }
                }
            }
        }
    }

    async fn crash(&mut self, number: usize) {
        let running = &mut self.stations[number];
        if let Some(engine) = running.engine.take() {
            engine.kill();
            let _ = engine.ended().await;
        }
        let away = self.script.draw(|rng| rng.random_range(1..240));
        running.back_at = Some(Instant::now() + Duration::from_secs(away));
    }

    async fn come_to_rest(&mut self) {
        self.script.heal();
        self.troubles.heal();
        self.meter.silence(Duration::ZERO);
        for number in 0..self.stations.len() {
            if let Some(engine) = &self.stations[number].engine {
                let handle = engine.handle.clone();
                tokio::spawn(async move { drop(handle.act(Action::Resume, None).await) });
            }
        }
        self.live_until(Instant::now() + self.bound() * 2).await;
        self.look();
        self.judge.at_rest(&self.ledger);
        let alive: BTreeSet<_> = self
            .stations
            .iter()
            .enumerate()
            .filter(|(_, running)| running.engine.is_some())
            .map(|(number, running)| (format!("desk-{number}"), format!("boot-{}", running.boots)))
            .collect();
        self.judge.leases_at_rest(&self.ledger, &alive);
        self.oracle.checked("sweeps");
        if self.judge.sweeps() == 0 {
            self.oracle.fail("sweeps", "nothing was ever swept".to_owned());
        }
        if self.judge.missed() > 0 && !self.shape.wild {
            self.oracle
                .fail("sweeps", format!("{} rows were said to have been seen, and were not", self.judge.missed()));
        }
    }

    fn report(self, simulated: Duration) -> Report {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut trace = DefaultHasher::new();
        format!("{:?} {:?}", self.ledger.records(), self.trace).hash(&mut trace);
        (simulated.as_millis(), self.meter.figures()).hash(&mut trace);
        for running in &self.stations {
            if let Some(engine) = &running.engine {
                engine.kill();
            }
        }
        let (requests, beyond, _) = self.meter.figures();
        let mut shapes = self.judge.figures();
        shapes.add(match self.shape.firms {
            1 => "1 firm",
            10 => "10 firms",
            50 => "50 firms",
            _ => "200 firms",
        });
        shapes.add(match self.shape.mix {
            Mix::Equal => "equal",
            Mix::Zipf => "Zipf",
            Mix::MostIdle => "80 % idle",
            Mix::OfficeHours => "office hours",
        });
        shapes.add(match self.shape.flavour {
            Flavour::Plain => "plain",
            Flavour::ByIdAfter => "read by id after",
            Flavour::ByDay => "by day and patient",
            Flavour::SomeEncounters => "some encounters",
        });
        if self.shape.wild {
            shapes.add("later than allowed for");
        }
        if self.shape.discovered {
            shapes.add("firms from the ledger");
        }
        Report {
            violation: self.oracle.violation(),
            simulated,
            requests,
            beyond,
            handed: self.judge.handed(),
            sweeps: self.judge.sweeps(),
            missed: self.judge.missed(),
            faults: self.script.tally(),
            checks: self.oracle.checks(),
            shapes,
            trace: trace.finish(),
        }
    }
}
