use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    lock,
    oddity::{Oddities, Oddity},
};
use crate::{
    error::{Code, Fault},
    key::{FirmId, Kind, RecordKey},
    ledger::{
        Claim, Commit, Dead, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Stamp, Survey, Take, Want,
        Wanted,
    },
    ports::Ledger,
};

type Records = BTreeMap<RecordKey, Record>;

/// A ledger in memory. Given oddities, it is as odd as one in DynamoDB.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    records: Mutex<Records>,
    served: Mutex<BTreeSet<FirmId>>,
    letters: Mutex<BTreeMap<String, DeadLetter>>,
    oddities: Option<Arc<dyn Oddities>>,
    /// What the indexes have of the records.
    index: Mutex<Records>,
    /// Leases that somebody met.
    met: Mutex<BTreeSet<RecordKey>>,
}

impl MemoryLedger {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// As it is in DynamoDB.
    pub fn shared(oddities: Arc<dyn Oddities>) -> Arc<Self> {
        Arc::new(Self { oddities: Some(oddities), ..Self::default() })
    }

    fn odd(&self, oddity: Oddity) -> bool {
        self.oddities.as_ref().is_some_and(|oddities| oddities.happens(oddity))
    }

    /// The records as an index has them, which may be behind.
    fn index(&self) -> MutexGuard<'_, Records> {
        if self.oddities.is_none() {
            return lock(&self.records);
        }
        let old = self.odd(Oddity::OldIndex);
        let mut index = lock(&self.index);
        if !old {
            index.clone_from(&lock(&self.records));
        }
        index
    }

    /// A record as an index has it, which may be behind.
    pub fn indexed(&self, key: &RecordKey) -> Option<Record> {
        self.index().get(key).cloned()
    }

    /// All records, for assertions.
    pub fn records(&self) -> BTreeMap<RecordKey, Record> {
        lock(&self.records).clone()
    }

    /// The same without a copy of them.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<RecordKey, Record>) -> T) -> T {
        look(&lock(&self.records))
    }

    /// Some other station serves this firm.
    pub fn serve(&self, firm: FirmId) {
        lock(&self.served).insert(firm);
    }

    fn under<T>(&self, lease: &Lease, change: impl FnOnce(&mut Record) -> T) -> Result<T, LedgerError> {
        let mut records = lock(&self.records);
        let record = records.get_mut(&lease.key).ok_or(LedgerError::Lost)?;
        let ours =
            record.held.as_ref().is_some_and(|held| held.owner == lease.owner && held.stamp.epoch == lease.epoch);
        if ours { Ok(change(record)) } else { Err(LedgerError::Lost) }
    }
}

fn new_record(key: &RecordKey, now: Timestamp) -> Record {
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
        updated: now,
    }
}

fn keeps(filter: Filter, record: &Record) -> bool {
    match filter {
        _ if !record.key.kind.is_listed() => false,
        Filter::All => true,
        Filter::Held => record.held.is_some(),
        _ if !record.key.kind.is_run() => false,
        Filter::Wanted => record.wanted.is_some() && record.dead.is_none(),
        Filter::Dead => record.dead.is_some(),
        Filter::Noticed => record.notice.is_some(),
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        let mut records = lock(&self.records);
        let record = records.entry(key.clone()).or_insert_with(|| new_record(key, claim.now));
        if let Some(held) = &record.held
            && held.owner.station != claim.owner.station
            && Some(held.stamp) != claim.overdue
        {
            lock(&self.met).insert(key.clone());
            return Ok(Take::Busy(held.clone()));
        }
        // Sent twice, the second finds the station's own lease, and takes it once more.
        let times = 1 + u64::from(self.odd(Oddity::OwnRow));
        record.stamp = Stamp { epoch: record.stamp.epoch + times, beat: 0 };
        record.held = Some(Held { owner: claim.owner.clone(), stamp: record.stamp, term: claim.term });
        let lease = Lease { key: key.clone(), owner: claim.owner.clone(), epoch: record.stamp.epoch, term: claim.term };
        Ok(Take::Taken(Box::new(record.clone()), lease))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        Ok(leases
            .iter()
            .map(|lease| {
                self.under(lease, |record| {
                    record.stamp.beat += 1;
                    if let Some(held) = &mut record.held {
                        held.stamp = record.stamp;
                    }
                })
                .is_ok()
            })
            .collect())
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.under(lease, |record| {
            state.clone_into(&mut record.state);
            record.updated = now;
        })
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.under(lease, |record| {
            let moved = record.generation != commit.generation;
            record.held = None;
            record.state = commit.state;
            record.notice = commit.notice;
            record.updated = commit.now;
            match commit.finish {
                Finish::Done => {
                    record.attempts = 0;
                    record.dead = None;
                    if !moved {
                        record.wanted = None;
                    }
                }
                Finish::Later { not_before, waits_for, attempt } => {
                    record.attempts += u32::from(attempt);
                    record.dead = None;
                    let first_seen =
                        record.wanted.map_or(commit.first_seen, |wanted| wanted.first_seen.min(commit.first_seen));
                    // What was marked since the run began keeps its own time.
                    let not_before = match record.wanted {
                        Some(wanted) if moved => wanted.not_before.min(not_before),
                        _ => not_before,
                    };
                    record.wanted = Some(Wanted { first_seen, not_before, waits_for });
                }
                Finish::Dead { code } => {
                    record.attempts = 0;
                    if moved {
                        record.dead = None;
                    } else {
                        record.wanted = None;
                        record.dead = Some(Dead { code, since: commit.now, set_aside: false });
                    }
                }
            }
            record.wanted.is_some()
        })
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        let mut records = lock(&self.records);
        for want in wants {
            let record = records.entry(want.key.clone()).or_insert_with(|| new_record(&want.key, want.first_seen));
            record.generation += 1 + u64::from(self.odd(Oddity::OwnRow));
            record.dead = None;
            record.wanted = Some(match record.wanted {
                Some(already) => Wanted {
                    first_seen: already.first_seen.min(want.first_seen),
                    not_before: already.not_before.min(want.not_before),
                    waits_for: want.waits_for,
                },
                None => Wanted { first_seen: want.first_seen, not_before: want.not_before, waits_for: want.waits_for },
            });
        }
        Ok(())
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        let too_far = now.saturating_add(SignedDuration::try_from(horizon).unwrap_or(SignedDuration::MAX));
        let too_far = too_far.unwrap_or(Timestamp::MAX);
        let mut due: Vec<_> = self
            .index()
            .values()
            .filter(|record| kinds.contains(&record.key.kind) && record.key.firm == *firm && record.dead.is_none())
            .filter_map(|record| record.wanted.map(|wanted| (record.key.clone(), wanted)))
            .filter(|(_, wanted)| wanted.not_before <= now || wanted.not_before > too_far)
            .collect();
        due.sort_by_key(|(_, wanted)| if wanted.not_before > too_far { Timestamp::MIN } else { wanted.not_before });
        Ok(due.into_iter().take(limit).map(|(key, wanted)| (key, wanted.first_seen)).collect())
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        let served = lock(&self.served);
        let firms: BTreeSet<_> =
            lock(&self.records).keys().filter(|key| key.kind.is_run()).map(|key| key.firm.clone()).collect();
        Ok(firms.into_iter().filter(|firm| !ours.contains(firm) && !served.contains(firm)).collect())
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        let met = lock(&self.met).clone();
        let records = lock(&self.records);
        let listed = |record: &&Record| {
            let missing = record.held.is_some() && record.stamp.beat == 0 && !met.contains(&record.key);
            record.key.kind.is_listed() && !(missing && self.odd(Oddity::NotListed))
        };
        let held = records.values().filter(listed);
        Ok(held.filter_map(|record| Some((record.key.clone(), record.held.clone()?))).collect())
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        Ok(lock(&self.records).get(key).cloned())
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        let found: Vec<_> = {
            let index = self.index();
            let rest = index.values().filter(|record| after.is_none_or(|after| record.key > *after));
            rest.filter(|record| keeps(filter, record)).map(|record| record.key.clone()).collect()
        };
        // What an index finds is read before it is told.
        let records = lock(&self.records);
        let found = found.iter().filter_map(|key| records.get(key));
        Ok(found.filter(|record| keeps(filter, record)).take(limit).cloned().collect())
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        Ok(self.index().values().filter(|record| keeps(filter, record)).count() as u64)
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        let records = self.index();
        let links = records.values().filter(|record| record.key.kind == Kind::Link);
        let run = || records.values().filter(|record| record.key.kind.is_run());
        let wanted = || run().filter(|record| record.dead.is_none()).filter_map(|record| record.wanted);
        let dead = run().filter_map(|record| record.dead).filter(|dead| !dead.set_aside).count();
        Ok(Survey {
            records: links.count() as u64,
            wanted: wanted().count() as u64,
            oldest_wanted: wanted().map(|wanted| wanted.first_seen).min(),
            held: records.values().filter(|record| keeps(Filter::Held, record)).count() as u64,
            dead: (dead + lock(&self.letters).len()) as u64,
            noticed: run().filter(|record| record.notice.is_some()).count() as u64,
            age: Duration::ZERO,
            conflicts: run().filter(|record| record.notice == Some(Code::Conflict)).count() as u64,
        })
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        let mut records = lock(&self.records);
        for key in keys {
            if let Some(dead) = records.get_mut(key).and_then(|record| record.dead.as_mut()) {
                dead.set_aside = aside;
            }
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        lock(&self.letters).entry(letter.id.clone()).or_insert(letter);
        Ok(())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        Ok(lock(&self.letters).values().take(limit).cloned().collect())
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        lock(&self.letters).retain(|id, _| !ids.contains(id));
        Ok(())
    }
}
