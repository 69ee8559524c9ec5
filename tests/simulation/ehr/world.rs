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
    ehr::{Chosen, Classes},
    error::{Class, Code, Fault},
    fakes::{
        FakeClock, FakeEhr, MemoryAudit, MemoryEhr, MemoryLedger, MemoryNotes, MemoryQueue, Meter, Walking, document,
    },
    key::{BootId, FirmId, QuotaId, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::Owner,
    pace::{Allowance, Quota, Window},
    ports::{Budget, Clock, Document, DocumentStatus, EhrFactory, EncounterStatus, Ledger, Manners, Reach},
    settings::{Clinics, EhrFirm, Settings, WatchPlan},
    snapshot::Verdict,
    supervisor::{Engine, Shared},
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use tokio::{sync::Notify, time::Instant};

use super::{
    defects::{BrokenLedger, Defect, NoBudget},
    judge::{Judge, Judged, Truth},
    ports::{FaultyEhr, Others, Troubles},
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

/// How much happens at which firm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mix {
    Equal,
    Zipf,
    MostIdle,
    OfficeHours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Plain,
    ByIdAfter,
    ByDay,
    SomeEncounters,
}

#[derive(Debug, Clone)]
struct Shape {
    firms: usize,
    mix: Mix,
    flavour: Flavour,
    stations: usize,
    long: Duration,
    visits: usize,
    limit: u64,
    calendar: bool,
    plan: WatchPlan,
    /// Rows are later than anybody allows for.
    wild: bool,
    /// Only the first station has the firms in its configuration.
    discovered: bool,
    /// The last station has no secrets.
    bare: bool,
}

impl Shape {
    fn of(seed: u64) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let (firms, long, visits, limit) = match seed % 8 {
            0 => (200, minutes(100), 160, 1_250),
            1 | 5 => (50, minutes(5 * 60), 120, 300),
            2 | 6 => (1, minutes(40 * 60), 40, 250),
            _ => (10, minutes(12 * 60), 90, 120),
        };
        let flavour = match seed % 7 {
            1 | 5 => Flavour::ByDay,
            2 => Flavour::ByIdAfter,
            3 => Flavour::SomeEncounters,
            _ => Flavour::Plain,
        };
        let mix = [Mix::Equal, Mix::Zipf, Mix::MostIdle, Mix::OfficeHours][(seed / 2 % 4) as usize];
        let stations = 1 + (seed % 3) as usize;
        let life = if long > minutes(24 * 60) { minutes(24 * 60) } else { minutes(150).min(long / 2) };
        // One firm alone could be asked each second for days.
        let fastest = Duration::from_secs(if firms == 1 { 4 } else { 1 });
        let plan = WatchPlan { life, fastest, sweep_every: (long / 4).max(minutes(40)), ..WatchPlan::default() };
        Self {
            firms,
            mix,
            flavour,
            stations,
            long,
            visits,
            limit,
            calendar: seed.is_multiple_of(2),
            plan,
            wild: seed.is_multiple_of(9),
            discovered: stations > 1 && seed.is_multiple_of(5),
            bare: stations > 1 && seed.is_multiple_of(4),
        }
    }

    fn manners(&self) -> Manners {
        let types = |names: &[&str]| names.iter().map(|name| ResourceType::new(*name).unwrap()).collect();
        let plain = Manners {
            reach: Reach::Firm,
            documents: types(&["DocumentReference", "Media"]),
            by_day: false,
            encounters_page: 20,
            documents_page: 20,
            trailing_page: false,
            read_after: false,
        };
        match self.flavour {
            Flavour::Plain => plain,
            Flavour::ByIdAfter => Manners { read_after: true, documents: types(&["DocumentReference"]), ..plain },
            Flavour::ByDay => Manners {
                reach: Reach::Patient,
                documents: types(&["DocumentReference"]),
                by_day: true,
                encounters_page: 50,
                documents_page: 10,
                trailing_page: true,
                ..plain
            },
            Flavour::SomeEncounters => Manners { reach: Reach::Encounters(8), ..plain },
        }
    }
}

pub fn classes() -> Classes {
    let chosen = |text: &str| Chosen::parse(text).into_iter().collect();
    Classes { solitary: chosen("lesion"), widespread: chosen("rash"), note: chosen("note"), ignore: chosen("results") }
}

#[derive(Debug, Clone)]
enum Act {
    Encounter { firm: usize, id: ResourceId, patient: ResourceId, status: EncounterStatus, late: bool },
    Document { firm: usize, row: Box<Document>, late: bool },
    Away { firm: usize, long: Duration, fault: Fault },
    Silence(Duration),
    Suspend(usize, Duration),
    CutOff(usize, Duration),
    Pause(usize, Duration),
    SyncNow(usize),
    Look,
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
    shape: Shape,
    script: Arc<Script>,
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

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
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

    fn at(&mut self, after: Duration, act: Act) {
        self.number += 1;
        self.acts.push(Reverse((Instant::now() + after, self.number)));
        self.what.insert(self.number, act);
    }

    /// What happens where is drawn before anything does.
    fn plan_the_days(&mut self) {
        let shape = self.shape.clone();
        let weights: Vec<f64> = (0..shape.firms)
            .map(|firm| match shape.mix {
                Mix::Equal | Mix::OfficeHours => 1.0,
                Mix::Zipf => 1.0 / (firm + 1) as f64,
                Mix::MostIdle => f64::from(u8::from(firm % 5 == 0)),
            })
            .collect();
        let all: f64 = weights.iter().sum();
        let long = shape.long.as_secs_f64();
        for visit in 0..shape.visits {
            let mut pick = self.script.draw(|rng| rng.random_range(0.0..all));
            let firm = weights.iter().position(|weight| {
                pick -= weight;
                pick < 0.0
            });
            let at = match shape.mix {
                // Most of it in a third of the time.
                Mix::OfficeHours if self.script.draw(|rng| rng.random_bool(0.95)) => {
                    self.script.draw(|rng| rng.random_range(0.1..0.4)) * long
                }
                _ => self.script.draw(|rng| rng.random_range(0.0..0.9)) * long,
            };
            self.plan_visit(visit, firm.unwrap_or(0), at);
        }
        let trouble = (long / 3600.0 * 1.5).ceil() as usize + 2;
        for _ in 0..trouble {
            let at = seconds(self.script.draw(|rng| rng.random_range(0.02..0.95)) * long);
            let (firm, station) =
                self.script.draw(|rng| (rng.random_range(0..shape.firms), rng.random_range(0..shape.stations)));
            let some = |most: f64| seconds(self.script.draw(|rng| rng.random_range(0.1..1.0)) * most);
            let away = Fault::new(Class::Away, Code::Unreachable);
            let refused = Fault::new(Class::Stop, Code::SignInRefused);
            let broken = Fault::new(Class::Retry, Code::ServerError).vendor("HTTP 500");
            let act = match self.script.draw(|rng| rng.random_range(0..10)) {
                0 | 1 => Act::Away { firm, long: some(2_400.0), fault: away },
                2 => Act::Away { firm, long: some(1_800.0), fault: refused },
                3 => Act::Away { firm, long: some(600.0), fault: broken },
                4 => Act::Silence(some(150.0)),
                5 => Act::Suspend(station, some(400.0)),
                6 => Act::CutOff(station, some(300.0)),
                7 => Act::Pause(station, some(900.0)),
                _ => Act::SyncNow(station),
            };
            self.at(at, act);
        }
        let looks = (long / 60.0) as u64;
        (1..=looks).for_each(|minute| self.at(Duration::from_secs(minute * 60), Act::Look));
    }

    fn plan_visit(&mut self, visit: usize, firm: usize, at: f64) {
        let draw = |from: f64, to: f64| self.script.draw(|rng| rng.random_range(from..to));
        let chance = |likely: f64| self.script.draw(|rng| rng.random_bool(likely));
        let encounter = id(&format!("e{visit}"));
        let patient = id(&format!("p{}", if chance(0.2) { visit / 2 } else { visit }));
        let mut plan: Vec<(f64, Act)> = Vec::new();
        let late = chance(0.1);
        let status = |at: f64, status: EncounterStatus, late: bool| {
            let (id, patient) = (encounter.clone(), patient.clone());
            (at, Act::Encounter { firm, id, patient, status, late })
        };
        if chance(0.3) {
            plan.push(status(at - draw(600.0, 3_000.0), EncounterStatus::Planned, false));
        }
        plan.push(status(at, EncounterStatus::Arrived, late));
        let fate = draw(0.0, 1.0);
        if fate < 0.08 {
            plan.push(status(at + draw(60.0, 900.0), EncounterStatus::Cancelled, false));
        } else {
            plan.push(status(at + draw(60.0, 600.0), EncounterStatus::InProgress, false));
            plan.push(status(at + draw(1_500.0, 3_600.0), EncounterStatus::Finished, chance(0.1)));
        }
        let life = self.shape.plan.life.as_secs_f64();
        let long = self.shape.long.as_secs_f64();
        let mut documents: Vec<f64> = Vec::new();
        let some = self.script.draw(|rng| rng.random_range(0..5));
        if chance(0.2) {
            self.script.count("burst");
            let burst = at + draw(300.0, 1_200.0);
            documents.extend(std::iter::repeat_n(burst, some));
        } else {
            documents.extend((0..some).map(|_| at + draw(120.0, 2_400.0)));
        }
        if chance(0.1) {
            documents.push(at + draw(3_600.0, 9_000.0).min(life * 0.8));
        }
        if at + life * 1.1 < long * 0.9 && fate >= 0.08 && chance(0.5) {
            // Signed after its day, with a document.
            self.script.count("signed after its day");
            let signed = at + 3_600.0 + life * 1.05;
            plan.push(status(signed, EncounterStatus::Finished, false));
            documents.push(signed + draw(1.0, 60.0));
        }
        if chance(0.05) {
            self.script.count("before its encounter");
            documents.push(at - draw(1.0, 120.0));
        }
        for (number, made) in documents.into_iter().enumerate() {
            let kinds = &self.shape.manners().documents;
            let kind = kinds[usize::from(kinds.len() > 1 && chance(0.3))].clone();
            let category = match draw(0.0, 1.0) {
                0.0..0.6 => "lesion",
                0.6..0.8 => "rash",
                0.8..0.9 => "note",
                0.9..0.95 => "results",
                _ => "other",
            };
            let mut of = encounter.clone();
            if self.shape.manners().reach == Reach::Firm && chance(0.03) {
                of = id(&format!("nobody{visit}"));
            }
            let mut row = document(&kind, &id(&format!("d{visit}.{number}")), category, &of);
            row.patient = Some(patient.clone());
            plan.push((made, Act::Document { firm, row: Box::new(row.clone()), late: chance(0.1) }));
            if chance(0.08) {
                let row = Box::new(row.clone());
                plan.push((made + draw(30.0, 1_800.0), Act::Document { firm, row, late: false }));
            }
            if chance(0.08) {
                self.script.count("withdrawn");
                row.status = DocumentStatus::EnteredInError;
                plan.push((made + draw(1_800.0, 5_400.0), Act::Document { firm, row: Box::new(row), late: false }));
            }
        }
        for (at, act) in plan {
            if (0.0..long * 0.97).contains(&at) {
                self.at(seconds(at), act);
            }
        }
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
