//! How far the looks at one type of a firm have come: a record of the ledger, whose lease is kept for as long as the station looks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Station, Unfinished, board::Listed, board::Swept, lateness::Lateness};
use crate::{
    error::Fault,
    key::RecordKey,
    lease::HeldLease,
    ledger::{Claim, Commit, Finish, LedgerError, Take},
    pace::learner::Learner,
    settings::WatchPlan,
};

/// A look that found nothing is written down this often, so that a successor does not begin far behind.
const SAVED_EVERY: Duration = Duration::from_secs(30);

/// Documents on the list of what nobody reads. Older ones stay in the ledger.
const LISTED: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// All that the EHR stamped up to then has been taken in, but for what it shows later than was allowed for. Its own time.
    pub(super) watermark: Option<Timestamp>,
    /// What was stamped before was never asked for.
    pub(super) begun: Option<Timestamp>,
    /// The statement that is shown, and that sweeps verify.
    pub(super) complete: Option<Timestamp>,
    #[serde(default)]
    pub(super) lateness: Lateness,
    /// How often something is found, and what a look costs.
    #[serde(default)]
    pub(super) learned: Option<Learner>,
    /// When the last complete sweep began, by the EHR's clock.
    #[serde(default)]
    pub(super) swept: Option<Timestamp>,
    #[serde(default)]
    pub(super) sweep: Option<Swept>,
    /// Documents whose encounter is not there yet, and since when they have waited for it.
    #[serde(default)]
    pub(super) loose: Vec<(RecordKey, Timestamp)>,
    /// The newest last.
    #[serde(default)]
    pub(super) listed: VecDeque<Listed>,
}

impl Cursor {
    /// One that cannot be read begins again: that costs reads and loses nothing.
    pub(super) fn parse(state: &str) -> Self {
        serde_json::from_str(state).unwrap_or_default()
    }

    fn write(&self) -> String {
        serde_json::to_string(self).expect("ids, counts and times have a JSON form")
    }

    /// How far the watermark stays behind the EHR's clock.
    pub(super) fn settle(&self, plan: &WatchPlan) -> Duration {
        plan.settle.max(self.lateness.allowance())
    }

    /// From where the next look reads.
    pub(super) fn since(&self, plan: &WatchPlan) -> Option<Timestamp> {
        let overlap = plan.overlap.max(self.lateness.allowance());
        let since = earlier(self.watermark?, overlap);
        Some(self.begun.map_or(since, |begun| since.max(begun)))
    }

    pub(super) fn list(&mut self, listed: Listed) {
        self.listed.retain(|one| one.key != listed.key);
        self.listed.push_back(listed);
        let surplus = self.listed.len().saturating_sub(LISTED);
        self.listed.drain(..surplus);
    }

    pub(super) fn unlist(&mut self, key: &RecordKey) {
        self.listed.retain(|one| one.key != *key);
        self.loose.retain(|(one, _)| one != key);
    }
}

pub(super) fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The right to look at one type of a firm, and how far that has come.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) held: Arc<HeldLease>,
    cursor: Mutex<Cursor>,
    generation: u64,
    saved: Mutex<Saved>,
}

#[derive(Debug)]
struct Saved {
    /// Elapsed time; none: not yet since the seat was taken.
    at: Option<Duration>,
    state: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is changed in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Takes it, if nobody else has it.
    pub(super) async fn take(station: &Station, key: &RecordKey) -> Result<Self, Unfinished> {
        let asked = station.clock.elapsed();
        let claim = Claim {
            owner: station.settings.owner.clone(),
            term: station.settings.lease_term,
            overdue: station.watch.overdue(key, asked),
            now: station.clock.now(),
        };
        match station.ledger.take(key, &claim).await.map_err(Unfinished::Storage)? {
            Take::Taken(record, lease) => {
                station.watch.forget(key);
                Ok(Self {
                    held: station.keeper.hold(lease, asked),
                    cursor: Mutex::new(Cursor::parse(&record.state)),
                    generation: record.generation,
                    saved: Mutex::new(Saved { at: None, state: record.state }),
                })
            }
            Take::Busy(held) => {
                station.watch.observe(key, &held, station.clock.elapsed());
                Err(Unfinished::Busy)
            }
        }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Cursor) -> T) -> T {
        change(&mut lock(&self.cursor))
    }

    /// Writes it down if that was long ago, or `now`; conditional on the lease, so that no two stations ever move one cursor.
    pub(super) async fn save(&self, station: &Station, now: bool) -> Result<(), Unfinished> {
        let elapsed = station.clock.elapsed();
        if !now && lock(&self.saved).at.is_some_and(|at| elapsed.saturating_sub(at) < SAVED_EVERY) {
            return Ok(());
        }
        let state = lock(&self.cursor).write();
        if lock(&self.saved).state == state {
            return Ok(());
        }
        station.ledger.save(&self.held.lease, &state, station.clock.now()).await?;
        *lock(&self.saved) = Saved { at: Some(elapsed), state };
        Ok(())
    }

    /// Frees it for others.
    pub(super) async fn leave(self, station: &Station) -> Result<(), Fault> {
        station.keeper.let_go(&self.held);
        let now = station.clock.now();
        let commit = Commit {
            state: lock(&self.cursor).write(),
            finish: Finish::Done,
            notice: None,
            generation: self.generation,
            first_seen: now,
            now,
        };
        match station.ledger.commit(&self.held.lease, commit).await {
            Ok(_) | Err(LedgerError::Lost) => Ok(()),
            Err(LedgerError::Fault(fault)) => Err(fault),
        }
    }
}
