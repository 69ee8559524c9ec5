//! Stations that share one key, with trouble on the way to the ledger, killed, asleep, and with clocks that go wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{
    error::Class,
    fakes::{FakeClock, FaultyLedger, MemoryLedger, Trouble},
    gate::Gatekeeper,
    key::{BootId, FirmId, QuotaId, StationId},
    ledger::Owner,
    ports::{Clock, Ledger, Purpose},
};

fn clock(speed: f64) -> Arc<FakeClock> {
    FakeClock::drifting("2026-03-02T08:00:00Z".parse().unwrap(), speed)
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
        let station = station(0, allowance, clock(1.0), MemoryLedger::new(), &log, &polls, 1.0);
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
    let trouble = Trouble::new(seed, rng.random_range(0..200));
    let memory = MemoryLedger::new();
    let log = Log::new();
    let clocks: Vec<_> = (0..count).map(|_| clock(if drift { rng.random_range(0.9..=1.1) } else { 1.0 })).collect();
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
        match rng.random_range(0..7) {
            // Killed, and started again at once or later.
            0 => drop(stations.remove(&number)),
            1 => {
                stations.remove(&number);
                stations.insert(number, start(number, &mut rng));
            }
            2 => clocks[number].jump(SignedDuration::from_hours(rng.random_range(-24..24))),
            3 => trouble.set_away(rng.random()),
            4 => clocks[number].suspend(Duration::from_secs(rng.random_range(1..200))),
            // Ends in peace.
            5 => {
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
