//! Stations that share one key, with trouble on the way to the ledger, killed, asleep, and with clocks that go wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{
    error::{Class, Code, Fault},
    fakes::MemoryLedger,
    gate::Gatekeeper,
    key::{BootId, FirmId, Kind, QuotaId, RecordKey, StationId},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Owner, Record, Survey, Take, Want},
    ports::{Clock, Ledger, Purpose},
};

/// A clock that runs fast or slow, jumps, and runs on while the machine sleeps.
#[derive(Debug)]
struct OddClock {
    start: Instant,
    speed: f64,
    wall: Mutex<SignedDuration>,
    slept: Mutex<Duration>,
}

impl OddClock {
    fn new(speed: f64) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), speed, wall: Mutex::default(), slept: Mutex::default() })
    }
}

impl Clock for OddClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
        start + SignedDuration::try_from(self.elapsed()).unwrap() + *self.wall.lock().unwrap()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed().mul_f64(self.speed) + *self.slept.lock().unwrap()
    }
}

/// What happens to calls of the ledger.
#[derive(Debug)]
struct Trouble {
    chance: Mutex<StdRng>,
    /// Of a thousand calls, so many are lost on the way there, and as many on the way back.
    lost: u32,
    away: AtomicBool,
}

impl Trouble {
    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.chance.lock().unwrap())
    }

    async fn pass(&self) -> Result<(), Fault> {
        let (delay, lost) = self.draw(|rng| (rng.random_range(1..400), rng.random_range(0..1000) < self.lost));
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if lost || self.away.load(Ordering::Relaxed) {
            return Err(Fault::new(Class::Retry, Code::DatabaseUnavailable));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyLedger(Arc<MemoryLedger>, Arc<Trouble>);

#[async_trait]
impl Ledger for FaultyLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.1.pass().await?;
        let take = self.0.take(key, claim).await;
        self.1.pass().await?;
        take
    }
    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.1.pass().await?;
        let wanted = self.0.commit(lease, commit).await?;
        self.1.pass().await?;
        Ok(wanted)
    }
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.0.renew(leases).await
    }
    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.0.save(lease, state, now).await
    }
    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.0.want(wants).await
    }
    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.0.due(firm, kinds, now, horizon, limit).await
    }
    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.0.unserved(ours).await
    }
    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.0.held().await
    }
    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.0.read(key).await
    }
    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.0.page(filter, after, limit).await
    }
    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.0.count(filter).await
    }
    async fn survey(&self) -> Result<Survey, Fault> {
        self.0.survey().await
    }
    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.0.set_aside(keys, aside).await
    }
    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.0.bury(letter).await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.0.dead_letters(limit).await
    }
    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.0.unbury(ids).await
    }
}

/// A request that was let through.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    at: Duration,
    station: usize,
    firm: String,
    purpose: Purpose,
}

/// What all stations sent.
#[derive(Debug, Clone)]
struct Log {
    start: Instant,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Log {
    fn new() -> Self {
        Self { start: Instant::now(), sent: Arc::default() }
    }

    fn note(&self, station: usize, firm: &str, purpose: Purpose) {
        let at = self.start.elapsed();
        self.sent.lock().unwrap().push(Sent { at, station, firm: firm.to_owned(), purpose });
    }

    fn all(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// The most in any window, sliding or calendar; a calendar's windows are among the sliding ones.
    fn most(&self, window: Duration) -> usize {
        let at: Vec<_> = self.all().iter().map(|sent| sent.at).collect();
        let mut end = 0;
        let counts = at.iter().enumerate().map(|(start, first)| {
            while end < at.len() && at[end] < *first + window {
                end += 1;
            }
            end - start
        });
        counts.max().unwrap_or_default()
    }

    fn between(&self, from: u64, to: u64) -> Vec<Sent> {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        self.all().into_iter().filter(|sent| sent.at >= from && sent.at < to).collect()
    }
}

fn firm(name: &str) -> FirmId {
    FirmId::new(name).unwrap()
}

/// Sends as much as it is let.
fn backlogged(tasks: &mut JoinSet<()>, quota: &Arc<Quota>, log: &Log, station: usize, name: &str, purpose: Purpose) {
    let (budget, log, name) = (quota.share_of(&firm(name)), log.clone(), name.to_owned());
    tasks.spawn(async move {
        loop {
            match budget.permit(purpose).await {
                Ok(()) => log.note(station, &name, purpose),
                Err(fault) => {
                    let Class::Wait(Some(wait)) = fault.class else { panic!("{fault}") };
                    tokio::time::sleep(wait).await;
                }
            }
        }
    });
}

/// One boot of a station.
struct Station {
    /// They end with it.
    _tasks: JoinSet<()>,
    quota: Arc<Quota>,
    gate: Arc<Gatekeeper>,
}

static BOOTS: AtomicU64 = AtomicU64::new(0);

fn station(
    number: usize,
    allowance: Allowance,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    log: &Log,
    demand: &[(&str, Purpose)],
    weight: f64,
) -> Station {
    let quota = Quota::new(QuotaId::new("key").unwrap(), allowance, clock).unwrap();
    let boot = BootId::new(format!("b{}", BOOTS.fetch_add(1, Ordering::Relaxed))).unwrap();
    let owner = Owner { station: StationId::new(format!("s{number}")).unwrap(), boot };
    let mut keeper = ShareKeeper::new(quota.clone(), ledger, owner);
    let gate = Gatekeeper::open();
    let mut tasks = JoinSet::new();
    for (name, purpose) in demand {
        backlogged(&mut tasks, &quota, log, number, name, *purpose);
    }
    let (passage, quota_) = (gate.watch(), quota.clone());
    tasks.spawn(async move {
        let load = split::Load {
            rate: weight * weight,
            cost: 1.0,
            slowest: Duration::from_secs(300),
            fastest: Duration::from_secs(1),
        };
        let _unit = quota_.unit(load);
        keeper.work(passage).await.unwrap();
    });
    Station { _tasks: tasks, quota, gate }
}

fn paused<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run)
}

const MINUTE: Duration = Duration::from_secs(60);

fn minute(requests: u64, used: u8, stations: u32) -> Allowance {
    Allowance { requests, per: MINUTE, window: Window::Sliding, used, reserve: 10, stations }
}

#[test]
fn one_station_uses_nearly_all_that_it_may_and_never_more() {
    paused(async {
        let log = Log::new();
        let allowance = minute(250, 60, 1);
        let polls = [("north", Purpose::Poll), ("south", Purpose::Poll)];
        let station = station(0, allowance, OddClock::new(1.0), MemoryLedger::new(), &log, &polls, 1.0);
        tokio::time::sleep(20 * MINUTE).await;
        assert!(log.most(MINUTE) <= 150, "{}", log.most(MINUTE));
        let sent = log.between(120, 1080).len();
        assert!(sent >= 16 * 140, "{sent}");
        let view = station.quota.view();
        assert_eq!((view.standing, view.factor, view.stations.len()), (Standing::Sharing, 1.0, 1));
        assert!((140..=150).contains(&view.used), "{view:?}");
    });
}

#[test]
fn no_window_ever_holds_more_than_is_published() {
    let mut used = 0.0;
    for seed in 0..40 {
        used += paused(troubled(seed));
    }
    // With all of that trouble, most of the quota is still used.
    assert!(used / 40.0 > 0.5, "{used}");
}

/// Answers with the part of the limit that was used.
async fn troubled(seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(1..=5);
    // A clock that is 10 % fast sends 10 % more: that much must be left.
    let drift = seed.is_multiple_of(2);
    let limit = rng.random_range(120..1500);
    let allowance = minute(limit, if drift { 90 } else { 100 }, 5);
    let trouble = Arc::new(Trouble {
        chance: Mutex::new(StdRng::seed_from_u64(seed + 1)),
        lost: rng.random_range(0..200),
        away: AtomicBool::new(false),
    });
    let memory = MemoryLedger::new();
    let log = Log::new();
    let clocks: Vec<_> =
        (0..count).map(|_| OddClock::new(if drift { rng.random_range(0.9..=1.1) } else { 1.0 })).collect();
    let demand =
        [("north", Purpose::Poll), ("south", Purpose::Poll), ("south", Purpose::Work), ("north", Purpose::Sweep)];
    let start = |number: usize, rng: &mut StdRng| {
        let ledger: Arc<dyn Ledger> = Arc::new(FaultyLedger(memory.clone(), trouble.clone()));
        let weight = rng.random_range(0.0..3.0);
        station(number, allowance, clocks[number].clone(), ledger, &log, &demand, weight)
    };
    let mut stations: BTreeMap<usize, Station> = (0..count).map(|number| (number, start(number, &mut rng))).collect();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(rng.random_range(1..60))).await;
        let number = rng.random_range(0..count);
        match rng.random_range(0..6) {
            // Killed, and started again at once or later.
            0 => drop(stations.remove(&number)),
            1 => {
                stations.remove(&number);
                stations.insert(number, start(number, &mut rng));
            }
            2 => *clocks[number].wall.lock().unwrap() += SignedDuration::from_hours(rng.random_range(-24..24)),
            3 => trouble.away.store(rng.random(), Ordering::Relaxed),
            // Ends in peace.
            4 => {
                if let Some(station) = stations.get(&number) {
                    station.gate.close();
                }
            }
            _ => {
                stations.entry(number).or_insert_with(|| start(number, &mut rng));
            }
        }
    }
    let most = log.most(MINUTE);
    assert!(most <= limit as usize, "seed {seed}: {most} of {limit} by {count} stations");
    most as f64 / limit as f64
}
