//! A world of stations that share one key.

mod line;
mod refusals;
mod schedule;
mod shared;

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
    ports::{Clock, Ledger, Purpose, Said},
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

fn quota(allowance: Allowance, clock: Arc<dyn Clock>) -> Arc<Quota> {
    Quota::new(QuotaId::new("key").unwrap(), allowance, clock).unwrap()
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
    let quota = quota(allowance, clock);
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
