//! Defects in front of the ledger and of the audit log.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    fakes::MemoryLedger,
    key::{FirmId, Kind, RecordKey},
    ledger::{
        Claim, Commit, Dead, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Stamp, Survey, Take, Want,
    },
    ports::{AuditLog, Ledger},
};
use jiff::{SignedDuration, Timestamp};

use super::{Beliefs, Defect};

#[derive(Debug)]
pub(super) struct BrokenLedger {
    defect: Defect,
    ledger: Arc<MemoryLedger>,
    beliefs: Beliefs,
}

impl BrokenLedger {
    pub(super) fn new(defect: Defect, ledger: Arc<MemoryLedger>, beliefs: Beliefs) -> Self {
        Self { defect, ledger, beliefs }
    }
}

#[async_trait]
impl Ledger for BrokenLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        let mut claim = claim.clone();
        match self.defect {
            Defect::NoExpiry => claim.overdue = None,
            Defect::OwnLockIsForeign => {
                let held = self.ledger.records().get(key).and_then(|record| record.held.clone());
                if let Some(held) = held.filter(|held| held.owner.station == claim.owner.station) {
                    return Ok(Take::Busy(held));
                }
            }
            Defect::ExpiryByWallClock => {
                let held = self.ledger.records().get(key).and_then(|record| record.held.clone());
                let since = self.beliefs.taken.lock().unwrap().get(key).copied();
                let term = |held: &Held| SignedDuration::try_from(held.term).unwrap_or_default();
                claim.overdue = held
                    .filter(|held| since.is_some_and(|since| claim.now.duration_since(since) > term(held)))
                    .map(|held| held.stamp);
            }
            _ => {}
        }
        let indexed = self.ledger.indexed(key);
        let mut take = self.ledger.take(key, &claim).await?;
        match (self.defect, &mut take) {
            (Defect::LockedIsAnEcho, Take::Taken(..)) => {
                self.beliefs.locked.lock().unwrap().insert(key.clone());
            }
            (Defect::ExpiryByWallClock, Take::Taken(..)) => {
                self.beliefs.taken.lock().unwrap().insert(key.clone(), claim.now);
            }
            (Defect::IndexIsTrusted, Take::Taken(record, _)) => {
                if let Some(indexed) = indexed {
                    record.state = indexed.state;
                }
            }
            // It never stands still for whoever meets it: only the list tells.
            (Defect::OnlyTheListIsWatched, Take::Busy(held)) => {
                held.stamp.beat = claim.now.as_microsecond().unsigned_abs();
            }
            _ => {}
        }
        if let (Defect::ReleaseOfAny, Take::Busy(held)) = (self.defect, &take) {
            // The error path frees the lock, whoever holds it.
            let record = self.ledger.records().remove(key);
            let theirs =
                Lease { key: key.clone(), owner: held.owner.clone(), epoch: held.stamp.epoch, term: held.term };
            let commit = Commit {
                state: record.as_ref().map(|record| record.state.clone()).unwrap_or_default(),
                finish: Finish::Later { not_before: claim.now, waits_for: None, attempt: false },
                notice: None,
                generation: record.map(|record| record.generation).unwrap_or_default(),
                first_seen: claim.now,
                now: claim.now,
            };
            let _ = self.ledger.commit(&theirs, commit).await;
        }
        Ok(take)
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.ledger.renew(leases).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        if self.defect == Defect::NoIntent { Ok(()) } else { self.ledger.save(lease, state, now).await }
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.beliefs.locked.lock().unwrap().remove(&lease.key);
        self.ledger.commit(lease, commit).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        if self.defect == Defect::MarkIsSkipped {
            let waits = |want: &&Want| {
                let indexed = self.ledger.indexed(&want.key);
                indexed.is_some_and(|record| record.wanted.is_some() && record.held.is_none())
            };
            let wants: Vec<_> = wants.iter().filter(|want| !waits(want)).cloned().collect();
            return self.ledger.want(&wants).await;
        }
        if self.defect == Defect::BusyIsDone {
            let wants: Vec<_> = wants.iter().filter(|want| want.waits_for != Some(Code::LeaseBusy)).cloned().collect();
            return self.ledger.want(&wants).await;
        }
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
        let mut held = self.ledger.held().await?;
        if self.defect == Defect::OnlyTheListIsWatched {
            held.retain(|(_, held)| held.stamp.beat > 0);
        }
        Ok(held)
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.ledger.read(key).await
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        let mut records = self.ledger.read_all(keys).await?;
        if self.defect == Defect::HintsAlwaysArrive {
            // Nobody looks: whatever was sent or seen once counts as on its way.
            let mut all = Vec::new();
            for key in keys {
                let known = records.iter().find(|record| record.key == *key).cloned();
                let mut record = known.unwrap_or_else(|| unknown(key));
                record.dead = Some(Dead { code: Code::Unexpected, since: Timestamp::UNIX_EPOCH, set_aside: false });
                all.push(record);
            }
            records = all;
        }
        Ok(records)
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
        if self.defect == Defect::PoisonStays {
            return Err(Fault::new(Class::Retry, Code::Malformed));
        }
        self.ledger.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.ledger.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.ledger.unbury(ids).await
    }
}

fn unknown(key: &RecordKey) -> Record {
    Record {
        key: key.clone(),
        state: String::new(),
        stamp: Stamp { epoch: 0, beat: 0 },
        held: None,
        generation: 0,
        wanted: None,
        attempts: 0,
        dead: None,
        notice: None,
        updated: Timestamp::UNIX_EPOCH,
    }
}

#[derive(Debug)]
pub(super) struct BrokenAudit(pub(super) Defect, pub(super) Arc<dyn AuditLog>);

#[async_trait]
impl AuditLog for BrokenAudit {
    async fn begin(&self, entry: Begun) -> Result<AuditId, Fault> {
        if self.0 == Defect::NoAudit { Ok(AuditId(0)) } else { self.1.begin(entry).await }
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        if self.0 == Defect::NoAudit { Ok(()) } else { self.1.complete(id, outcome, now).await }
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        self.1.open().await
    }

    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        self.1.search(search).await
    }
}
