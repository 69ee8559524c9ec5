//! What a watcher of EHRs got wrong that was built before: each is put back, and must be found.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    error::Fault,
    fakes::MemoryLedger,
    key::{FirmId, Kind, RecordKey},
    ledger::{Claim, Commit, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Survey, Take, Want},
    ports::{Budget, Ledger, Purpose, Said},
};
use jiff::Timestamp;
use serde_json::Value as Json;

/// The weaknesses of the schedule that asked once a minute, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// P1: the mark is the time of the poll.
    TimeOfPoll,
    /// P2: what is stamped like the newest row is taken as seen.
    AfterTheTie,
    /// P4: leases are not renewed while a batch is worked off.
    NoRenewal,
    /// P5: the watch rows carry no fence.
    NoFence,
    /// P6: several take the same rows.
    SameRows,
    /// P9: two polls at once write one mark, and the last wins.
    LastMarkWins,
    /// P10: an encounter is over when its time is up, whatever becomes of it.
    TimeToLive,
    /// P11: every insert sets off a run.
    InsertIsATrigger,
    /// P15: nothing is ever withdrawn.
    NothingIsWithdrawn,
    /// P16: fixed waits in place of a budget.
    FixedWaits,
}

impl Defect {
    pub const ALL: [Defect; 10] = [
        Defect::TimeOfPoll,
        Defect::AfterTheTie,
        Defect::NoRenewal,
        Defect::NoFence,
        Defect::SameRows,
        Defect::LastMarkWins,
        Defect::TimeToLive,
        Defect::InsertIsATrigger,
        Defect::NothingIsWithdrawn,
        Defect::FixedWaits,
    ];
}

/// P16: whoever wants to send sends.
#[derive(Debug)]
pub struct NoBudget;

#[async_trait]
impl Budget for NoBudget {
    async fn permit(&self, _purpose: Purpose) -> Result<(), Fault> {
        Ok(())
    }

    fn answered(&self, _said: Said) {}
}

#[derive(Debug)]
pub struct BrokenLedger {
    pub defect: Defect,
    pub ledger: Arc<MemoryLedger>,
    /// Encounters that were followed once.
    over: Mutex<BTreeMap<RecordKey, ()>>,
}

impl BrokenLedger {
    pub fn new(defect: Defect, ledger: Arc<MemoryLedger>) -> Self {
        Self { defect, ledger, over: Mutex::default() }
    }

    /// Whoever writes has the lease, whatever the ledger says.
    fn pretend(&self, lease: &Lease) -> Lease {
        let unfenced = match self.defect {
            Defect::NoFence => matches!(lease.key.kind, Kind::Encounter | Kind::Document),
            Defect::LastMarkWins => lease.key.kind == Kind::Cursor,
            _ => false,
        };
        let held = self.ledger.look(|records| records.get(&lease.key).and_then(|record| record.held.clone()));
        match held.filter(|_| unfenced) {
            Some(held) => Lease { owner: held.owner, epoch: held.stamp.epoch, ..lease.clone() },
            None => lease.clone(),
        }
    }
}

#[async_trait]
impl Ledger for BrokenLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        let mut claim = claim.clone();
        let held = self.ledger.look(|records| records.get(key).and_then(|record| record.held.clone()));
        let everybody = match self.defect {
            Defect::SameRows => matches!(key.kind, Kind::Encounter | Kind::Document),
            Defect::LastMarkWins => key.kind == Kind::Cursor && key.id.as_str() == "ehr",
            _ => false,
        };
        if everybody {
            claim.overdue = held.map(|held| held.stamp);
        }
        let mut take = self.ledger.take(key, &claim).await?;
        if let (Defect::InsertIsATrigger, Kind::Document, Take::Taken(record, _)) = (self.defect, key.kind, &mut take) {
            record.state.clear();
        }
        Ok(take)
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        if self.defect == Defect::NoRenewal {
            return Ok(vec![true; leases.len()]);
        }
        self.ledger.renew(leases).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.ledger.save(&self.pretend(lease), state, now).await
    }

    async fn commit(&self, lease: &Lease, mut commit: Commit) -> Result<bool, LedgerError> {
        if self.defect == Defect::TimeToLive && lease.key.kind == Kind::Encounter {
            let ended =
                |state: &str| serde_json::from_str::<Json>(state).is_ok_and(|state| state["life"]["why"] == "quiet");
            let mut over = self.over.lock().unwrap();
            if over.contains_key(&lease.key) {
                // The row is gone, and its new version is one of yesterday's.
                let before = self.ledger.look(|records| records.get(&lease.key).map(|record| record.state.clone()));
                commit.state = before.unwrap_or_default();
                commit.finish = Finish::Done;
            } else if ended(&commit.state) {
                over.insert(lease.key.clone(), ());
            }
        }
        self.ledger.commit(&self.pretend(lease), commit).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.ledger.want(wants).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.ledger.due(firm, kinds, now, horizon, limit).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.ledger.unserved(ours).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.ledger.held().await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.ledger.read(key).await
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        if self.defect == Defect::InsertIsATrigger {
            return Ok(Vec::new());
        }
        self.ledger.read_all(keys).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.ledger.page(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.ledger.count(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        self.ledger.survey().await
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.ledger.set_aside(keys, aside).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.ledger.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.ledger.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.ledger.unbury(ids).await
    }
}
