//! Holding leases, and waiting for those of others.
//!
//! [`Keeper`] renews what this station holds, leases and queue deliveries alike, at a third of their length. A holder asks its
//! [`HeldLease`] before each write: time without renewal is measured on a clock that runs through suspend, so a station that
//! slept through its term finds out before it writes. [`Watch`] tells which foreign leases have stood still for their term.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    error::Class,
    key::RecordKey,
    ledger::{Held, Lease, Stamp},
    ports::{Clock, Ledger, Queue, Receipt},
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is changed in single steps; a panic in between leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lease with a term like this has no end worth the name: no station takes one, and nobody can wait for it.
pub const ENDLESS: Duration = Duration::from_secs(24 * 60 * 60);

/// A lease in use. Dropping it only ends its renewal; it is freed by the commit, or runs out.
#[derive(Debug)]
pub struct HeldLease {
    pub lease: Lease,
    /// Elapsed time when it was asked for.
    since: Duration,
    /// Elapsed time when the last successful take or renewal was *sent*.
    confirmed: Mutex<Duration>,
    lost: CancellationToken,
    clock: Arc<dyn Clock>,
}

impl HeldLease {
    /// Whether a write may begin: the lease is not lost, and at least a third of its term is left for the write and its commit.
    pub fn may_write(&self) -> bool {
        let held = self.clock.elapsed().saturating_sub(*lock(&self.confirmed));
        !self.lost.is_cancelled() && held + self.lease.term / 3 <= self.lease.term
    }

    /// Waits until the lease is known to be lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }
}

/// Renews leases and deliveries.
#[derive(Debug)]
pub struct Keeper {
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    queue: Arc<dyn Queue>,
    /// Weak, so that a run that is dropped on its way lets its lease run out.
    leases: Mutex<BTreeMap<RecordKey, Weak<HeldLease>>>,
    receipts: Mutex<BTreeSet<Receipt>>,
}

impl Keeper {
    pub fn new(clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>, queue: Arc<dyn Queue>) -> Self {
        Self { clock, ledger, queue, leases: Mutex::default(), receipts: Mutex::default() }
    }

    /// Begins to renew a lease that was asked for at `since` (elapsed time before the call that took it).
    pub fn hold(&self, lease: Lease, since: Duration) -> Arc<HeldLease> {
        let held = Arc::new(HeldLease {
            since,
            confirmed: Mutex::new(since),
            lost: CancellationToken::new(),
            clock: self.clock.clone(),
            lease,
        });
        lock(&self.leases).insert(held.lease.key.clone(), Arc::downgrade(&held));
        held
    }

    pub fn let_go(&self, held: &HeldLease) {
        let mut leases = lock(&self.leases);
        let current = leases.get(&held.lease.key).and_then(Weak::upgrade);
        if current.is_none_or(|current| current.lease.epoch == held.lease.epoch) {
            leases.remove(&held.lease.key);
        }
    }

    pub fn keep(&self, receipt: Receipt) {
        lock(&self.receipts).insert(receipt);
    }

    /// False if the delivery was lost meanwhile.
    pub fn release(&self, receipt: &Receipt) -> bool {
        lock(&self.receipts).remove(receipt)
    }

    /// No delivery is kept any longer.
    pub fn release_all(&self) {
        lock(&self.receipts).clear();
    }

    fn keeps(&self, key: &RecordKey) -> bool {
        lock(&self.leases).get(key).is_some_and(|held| held.strong_count() > 0)
    }

    /// What is held, and since when (elapsed).
    pub fn holdings(&self) -> Vec<(RecordKey, Duration)> {
        let leases = lock(&self.leases);
        leases.iter().filter_map(|(key, held)| Some((key.clone(), held.upgrade()?.since))).collect()
    }

    /// Renews leases until dropped; `Err` only where our own storage is at fault.
    pub async fn renew_leases(&self, term: Duration) -> Result<(), crate::error::Fault> {
        loop {
            tokio::time::sleep(term / 3).await;
            let held: Vec<Arc<HeldLease>> = {
                let mut leases = lock(&self.leases);
                leases.retain(|_, held| held.strong_count() > 0);
                leases.values().filter_map(Weak::upgrade).collect()
            };
            if held.is_empty() {
                continue;
            }
            let leases: Vec<_> = held.iter().map(|held| held.lease.clone()).collect();
            let asked = self.clock.elapsed();
            match self.ledger.renew(&leases).await {
                Ok(renewed) => {
                    for (held, renewed) in held.iter().zip(renewed) {
                        if renewed {
                            *lock(&held.confirmed) = asked;
                        } else {
                            tracing::warn!(key = %held.lease.key, epoch = held.lease.epoch, "lease lost");
                            held.lost.cancel();
                            self.let_go(held);
                        }
                    }
                }
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                // Not a reason to give up: each holder sees for itself how long ago the last renewal was.
                Err(fault) => tracing::warn!(%fault, leases = held.len(), "leases were not renewed"),
            }
        }
    }

    /// Keeps deliveries invisible until dropped; `Err` only where our own storage is at fault.
    pub async fn extend_deliveries(&self) -> Result<(), crate::error::Fault> {
        loop {
            tokio::time::sleep(self.queue.visibility() / 3).await;
            let receipts: Vec<_> = lock(&self.receipts).iter().cloned().collect();
            if receipts.is_empty() {
                continue;
            }
            match self.queue.extend(&receipts).await {
                Ok(lost) => {
                    // They come again; their hints are run all the same.
                    let mut kept = lock(&self.receipts);
                    for receipt in &lost {
                        kept.remove(receipt);
                    }
                }
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => tracing::warn!(%fault, deliveries = receipts.len(), "deliveries were not extended"),
            }
        }
    }
}

/// Watches foreign leases stand still.
#[derive(Debug, Default)]
pub struct Watch(Mutex<BTreeMap<RecordKey, Seen>>);

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    term: Duration,
    since: Duration,
}

impl Watch {
    /// Notes that a lease was seen with this stamp at `elapsed`.
    pub fn observe(&self, key: &RecordKey, held: &Held, elapsed: Duration) {
        let mut seen = lock(&self.0);
        match seen.get_mut(key) {
            Some(seen) if seen.stamp == held.stamp => {}
            _ => {
                seen.insert(key.clone(), Seen { stamp: held.stamp, term: held.term, since: elapsed });
            }
        }
    }

    /// Replaces the whole picture by what was read at `elapsed`, leaving out the leases that `keeper` keeps. One that an earlier
    /// boot of ours left, or whose answer was lost, is nobody's like any other.
    pub fn observe_all(&self, all: &[(RecordKey, Held)], keeper: &Keeper, elapsed: Duration) {
        let left: BTreeMap<_, _> = all.iter().filter(|(key, _)| !keeper.keeps(key)).cloned().collect();
        lock(&self.0).retain(|key, _| left.contains_key(key));
        for (key, held) in &left {
            self.observe(key, held, elapsed);
        }
    }

    /// The stamp to take the lease over with, if it has stood still for its whole term.
    pub fn overdue(&self, key: &RecordKey, elapsed: Duration) -> Option<Stamp> {
        let seen = lock(&self.0);
        let seen = seen.get(key)?;
        (elapsed.saturating_sub(seen.since) >= seen.term).then_some(seen.stamp)
    }

    /// Whether somebody else holds it, as far as is known, and has not let it stand still for its whole term.
    pub fn stands(&self, key: &RecordKey, elapsed: Duration) -> bool {
        lock(&self.0).get(key).is_some_and(|seen| elapsed.saturating_sub(seen.since) < seen.term)
    }

    /// All that are overdue.
    pub fn all_overdue(&self, elapsed: Duration) -> Vec<RecordKey> {
        lock(&self.0)
            .iter()
            .filter(|(_, seen)| elapsed.saturating_sub(seen.since) >= seen.term)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// How many have no end.
    pub fn endless(&self) -> usize {
        lock(&self.0).values().filter(|seen| seen.term >= ENDLESS).count()
    }

    pub fn forget(&self, key: &RecordKey) {
        lock(&self.0).remove(key);
    }
}
