//! The fault script: everything that goes wrong in a simulated world, drawn from one seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    error::{Class, Code, Fault},
    fakes::{Oddities, Oddity},
    key::{ResourceId, ResourceType},
    ports::Delivery,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    Crash,
    Fails,
    ReplyLost,
}

/// How often each kind of fault happened.
#[derive(Debug, Default, Clone)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub fn add(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Tally) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }
}

/// A station does not reach a store.
#[derive(Debug, Clone, Copy)]
struct Cut {
    since: Instant,
    until: Instant,
    /// No answer comes, not even a refusal.
    silent: bool,
}

/// What stations share, and can be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Queue,
    Ledger,
}

#[derive(Debug)]
pub struct Script(Mutex<State>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    tally: Tally,
    /// No more faults: the world heals.
    healed: bool,
    frozen: BTreeMap<usize, Instant>,
    fhir_away: Option<Instant>,
    clinic_away: Option<Instant>,
    clinic_stopped: Option<Instant>,
    quiet: Option<Instant>,
    hidden: BTreeMap<(ResourceType, ResourceId), Instant>,
    /// Stations that cannot reach a store.
    cut: BTreeMap<(usize, Store), Cut>,
    throttled: Option<Instant>,
    /// While they last, the queue tells the depth of then, and indexes show the records of then.
    old: BTreeMap<Oddity, Instant>,
    odd: bool,
    crashes_left: u32,
}

impl Script {
    pub fn new(seed: u64, odd: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            tally: Tally::default(),
            healed: false,
            frozen: BTreeMap::new(),
            fhir_away: None,
            clinic_away: None,
            clinic_stopped: None,
            quiet: None,
            hidden: BTreeMap::new(),
            cut: BTreeMap::new(),
            throttled: None,
            old: BTreeMap::new(),
            odd,
            crashes_left: 12,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.state().rng)
    }

    pub fn count(&self, name: &'static str) {
        self.state().tally.add(name);
    }

    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.healed = true;
        state.frozen.clear();
        state.fhir_away = None;
        state.clinic_away = None;
        state.clinic_stopped = None;
        state.quiet = None;
        state.hidden.clear();
        state.cut.clear();
        state.throttled = None;
        state.old.clear();
    }

    /// The station cannot reach a store; the others can.
    pub fn cut_off(&self, station: usize, store: Store, long: Duration) {
        let mut state = self.state();
        state.tally.add(if store == Store::Queue { "cut off from the queue" } else { "cut off from the ledger" });
        let silent = state.rng.random_bool(0.3);
        if silent {
            state.tally.add("no answer from a store");
        }
        state.cut.insert((station, store), Cut { since: Instant::now(), until: Instant::now() + long, silent });
    }

    pub fn throttle(&self, long: Duration) {
        let mut state = self.state();
        state.tally.add("stores throttled");
        state.throttled = Some(Instant::now() + long);
    }

    /// For how long the station has not reached one of the stores: one that refuses, or one that says nothing at all.
    pub fn cut_for(&self, station: usize, silent: bool) -> Duration {
        let state = self.state();
        let cuts = [Store::Queue, Store::Ledger].map(|store| state.cut.get(&(station, store)));
        let cuts = cuts.into_iter().flatten().filter(|cut| cut.until > Instant::now() && cut.silent == silent);
        cuts.map(|cut| cut.since.elapsed()).max().unwrap_or_default()
    }

    fn cut(&self, station: usize, store: Store) -> Option<Cut> {
        self.state().cut.get(&(station, store)).filter(|cut| cut.until > Instant::now()).copied()
    }

    pub async fn reaches(&self, station: usize, store: Store) -> Result<(), Fault> {
        while let Some(cut) = self.cut(station, store) {
            if !cut.silent {
                return Err(Fault::new(Class::Away, Code::Unreachable));
            }
            // In steps: healing ends every silence.
            tokio::time::sleep_until(cut.until.min(Instant::now() + Duration::from_secs(5))).await;
        }
        let mut state = self.state();
        let now = Instant::now();
        if state.throttled.is_some_and(|until| until > now) && state.rng.random_bool(0.7) {
            return Err(Fault::new(Class::Wait(None), Code::Throttled));
        }
        Ok(())
    }

    pub fn latency(&self) -> Duration {
        let mut state = self.state();
        if state.rng.random_bool(0.02) && !state.healed {
            state.tally.add("delay");
            return Duration::from_millis(state.rng.random_range(1_000..45_000));
        }
        Duration::from_millis(state.rng.random_range(1..40))
    }

    fn roll(&self, fails: &'static str, mishap: Mishap) -> Option<Mishap> {
        let mut state = self.state();
        if state.healed {
            return None;
        }
        let roll: f64 = state.rng.random();
        if roll < 0.0008 && state.crashes_left > 0 {
            state.crashes_left -= 1;
            state.tally.add("crash");
            Some(Mishap::Crash)
        } else if roll < 0.012 {
            state.tally.add(fails);
            Some(mishap)
        } else {
            None
        }
    }

    pub fn on_the_way_there(&self) -> Option<Mishap> {
        self.roll("call failed", Mishap::Fails)
    }

    pub fn on_the_way_back(&self) -> Option<Mishap> {
        self.roll("reply lost", Mishap::ReplyLost)
    }

    pub fn crash_only(&self) -> bool {
        let mut state = self.state();
        let crash = !state.healed && state.crashes_left > 0 && state.rng.random_bool(0.003);
        if crash {
            state.crashes_left -= 1;
            state.tally.add("crash");
        }
        crash
    }

    /// The station sleeps: nothing in it goes on until then.
    pub fn freeze(&self, station: usize, long: Duration) {
        let mut state = self.state();
        state.tally.add("suspend");
        state.frozen.insert(station, Instant::now() + long);
    }

    pub async fn thaw(&self, station: usize) {
        loop {
            let until = self.state().frozen.get(&station).copied();
            match until.filter(|until| *until > Instant::now()) {
                // In steps: healing ends every sleep.
                Some(until) => tokio::time::sleep_until(until.min(Instant::now() + Duration::from_secs(5))).await,
                None => return,
            }
        }
    }

    pub fn reorder(&self, deliveries: &mut [Delivery]) {
        let mut state = self.state();
        if deliveries.len() > 1 && state.rng.random_bool(0.5) {
            state.tally.add("reorder");
            deliveries.shuffle(&mut state.rng);
        }
    }

    /// When a write that the client gives up on will land.
    pub fn late_landing(&self) -> Option<Duration> {
        let mut state = self.state();
        let late = !state.healed && state.rng.random_bool(0.03);
        late.then(|| {
            state.tally.add("timed-out write");
            Duration::from_secs(state.rng.random_range(11..280))
        })
    }

    pub fn landed(&self) {
        self.count("late landing");
    }

    pub fn fhir_goes_away(&self, long: Duration) {
        let mut state = self.state();
        state.tally.add("fhir away");
        state.fhir_away = Some(Instant::now() + long);
    }

    pub fn clinic_goes_away(&self, long: Duration) {
        let mut state = self.state();
        state.tally.add("clinic away");
        state.clinic_away = Some(Instant::now() + long);
    }

    pub fn clinic_stops(&self, long: Duration) {
        let mut state = self.state();
        state.tally.add("sign-in refused");
        state.clinic_stopped = Some(Instant::now() + long);
    }

    pub fn quota(&self, long: Duration) {
        let mut state = self.state();
        state.tally.add("quota");
        state.quiet = Some(Instant::now() + long);
    }

    /// Stamped now, visible to searches only then.
    pub fn hide(&self, resource: &ResourceType, id: &ResourceId, long: Duration) {
        let mut state = self.state();
        state.tally.add("late visibility");
        state.hidden.insert((resource.clone(), id.clone()), Instant::now() + long);
    }

    pub fn is_visible(&self, resource: &ResourceType, id: &ResourceId) -> bool {
        let state = self.state();
        state.hidden.get(&(resource.clone(), id.clone())).is_none_or(|until| *until <= Instant::now())
    }

    pub fn fhir_side(&self) -> Result<(), Fault> {
        let state = self.state();
        let now = Instant::now();
        if state.fhir_away.is_some_and(|until| until > now) {
            return Err(Fault::new(Class::Away, Code::Unreachable));
        }
        if let Some(until) = state.quiet.filter(|until| *until > now) {
            return Err(Fault::new(Class::Wait(Some(until - now)), Code::Throttled));
        }
        Ok(())
    }

    pub fn clinic_side(&self) -> Result<(), Fault> {
        let state = self.state();
        let now = Instant::now();
        if state.clinic_away.is_some_and(|until| until > now) {
            return Err(Fault::new(Class::Away, Code::NotAnswering));
        }
        if state.clinic_stopped.is_some_and(|until| until > now) {
            return Err(Fault::new(Class::Stop, Code::SignInRefused));
        }
        Ok(())
    }
}

impl State {
    /// 1 while it lasts.
    fn behind(&mut self, oddity: Oddity, begins: f64, seconds: u64) -> f64 {
        let now = Instant::now();
        if self.old.get(&oddity).is_none_or(|until| *until <= now) && self.rng.random_bool(begins) {
            let long = Duration::from_secs(self.rng.random_range(1..seconds));
            self.old.insert(oddity, now + long);
        }
        f64::from(u8::from(self.old.get(&oddity).is_some_and(|until| *until > now)))
    }
}

impl Oddities for Script {
    fn happens(&self, oddity: Oddity) -> bool {
        let mut state = self.state();
        let likely = match oddity {
            _ if !state.odd => 0.0,
            // Whenever it can.
            Oddity::StaleDelete => 1.0,
            _ if state.healed => 0.0,
            Oddity::HandedOutTwice | Oddity::ComesAgain | Oddity::OwnRow => 0.03,
            Oddity::EntryFails => 0.02,
            Oddity::SentInPart => 0.05,
            // SQS promises no time after which a count is right while messages keep coming.
            Oddity::OldCount => state.behind(oddity, 0.003, 300),
            Oddity::OldIndex => state.behind(oddity, 0.03, 10),
            Oddity::NotListed => 0.9,
        };
        let happens = state.rng.random_bool(likely);
        if happens {
            state.tally.add(oddity.as_str());
        }
        happens
    }
}
