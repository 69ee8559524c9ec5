use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{MemoryLedger, lock};
use crate::{
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Record, Survey, Take, Want},
    ports::Ledger,
};

/// What happens to calls that change the ledger.
#[derive(Debug)]
pub struct Trouble {
    chance: Mutex<StdRng>,
    /// Of a thousand calls, so many are lost on the way there, and as many on the way back.
    lost: u32,
    away: AtomicBool,
    mute: AtomicBool,
}

impl Trouble {
    pub fn new(seed: u64, lost: u32) -> Arc<Self> {
        Arc::new(Self {
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            lost,
            away: AtomicBool::new(false),
            mute: AtomicBool::new(false),
        })
    }

    /// Nothing reaches the ledger, or everything does again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Commits reach the ledger, and no answer comes back.
    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    fn answer(&self) -> Result<(), Fault> {
        if self.mute.load(Ordering::Relaxed) {
            return Err(Fault::new(Class::Retry, Code::DatabaseUnavailable));
        }
        Ok(())
    }

    async fn pass(&self) -> Result<(), Fault> {
        let (delay, lost) = {
            let mut chance = lock(&self.chance);
            (chance.random_range(1..400), chance.random_range(0..1000) < self.lost)
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if lost || self.away.load(Ordering::Relaxed) {
            return Err(Fault::new(Class::Retry, Code::DatabaseUnavailable));
        }
        Ok(())
    }
}

/// A ledger in memory, with trouble on the way there and back where leases are taken and committed.
#[derive(Debug)]
pub struct FaultyLedger(pub Arc<MemoryLedger>, pub Arc<Trouble>);

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
        self.1.answer()?;
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
