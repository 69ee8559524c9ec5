//! How far a poll has come: a leased record of the ledger, so that one station polls at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Poller, Unfinished, earlier};
use crate::{
    connection::Side,
    key::RecordKey,
    lease::HeldLease,
    ledger::{Claim, Commit, Finish, Take},
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) watermark: Option<Timestamp>,
    /// Versions hinted already, within the overlap, and when the source stamped them.
    pub(super) seen: BTreeMap<String, Timestamp>,
    /// None: every hint is known to have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) under_way: Option<UnderWay>,
}

/// Hints that polls have sent and that are not known to have arrived: whoever takes the cursor next can find out, also where their
/// sender has died and the queue was purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnderWay {
    /// What is stamped up to here has arrived.
    pub(super) since: Timestamp,
    /// The latest stamp of what they tell of.
    pub(super) until: Timestamp,
    /// The first of them was sent then or later, by the source's clock.
    pub(super) begun: Timestamp,
}

impl UnderWay {
    /// One hint, of what is stamped so.
    pub(super) fn of(stamp: Timestamp, begun: Timestamp) -> Self {
        Self { since: earlier(stamp, Duration::from_nanos(1)), until: stamp, begun }
    }

    pub(super) fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            since: self.since.min(other.since),
            until: self.until.max(other.until),
            begun: self.begun.min(other.begun),
        }
    }
}

/// Polls and full comparisons have cursors of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Poll,
    Sweep,
}

impl Round {
    fn cursor(self, side: Side) -> &'static str {
        match (self, side) {
            (Round::Poll, Side::Fhir) => "poll",
            (Round::Sweep, Side::Fhir) => "sweep",
            (Round::Poll, Side::FileMaker) => "row-poll",
            (Round::Sweep, Side::FileMaker) => "row-sweep",
        }
    }
}

/// What is known of another station's polls: one that takes the cursor again and again is getting on; one that only keeps
/// its lease alive may hang, and proves nothing.
#[derive(Default)]
pub(super) struct Elsewhere {
    poll: Option<u64>,
    sweep: Option<u64>,
}

impl Elsewhere {
    pub(super) fn moves_on(&mut self, round: Round, epoch: u64) -> bool {
        let last = match round {
            Round::Poll => &mut self.poll,
            Round::Sweep => &mut self.sweep,
        };
        last.replace(epoch) != Some(epoch)
    }
}

/// A cursor that cannot be read begins again from the start: that costs reads and loses nothing.
fn parse(state: &str) -> Cursor {
    serde_json::from_str(state).unwrap_or_default()
}

impl Poller {
    fn cursor_key(&self, round: Round) -> RecordKey {
        RecordKey::cursor(self.firm.clone(), self.resource.clone(), round.cursor(self.side))
    }

    /// How far the polls have come, without taking part in them.
    pub(super) async fn polls(&self) -> Result<Cursor, Unfinished> {
        let record = self.reconciler.ledger.read(&self.cursor_key(Round::Poll)).await.map_err(Unfinished::Storage)?;
        Ok(record.map(|record| parse(&record.state)).unwrap_or_default())
    }

    pub(super) async fn take(&self, round: Round) -> Result<(Arc<HeldLease>, Cursor, u64), Unfinished> {
        let key = self.cursor_key(round);
        let asked = self.reconciler.clock.elapsed();
        let claim = Claim {
            owner: self.reconciler.settings.owner.clone(),
            term: self.reconciler.settings.lease_term,
            overdue: self.watch.overdue(&key, asked),
            now: self.reconciler.clock.now(),
        };
        match self.reconciler.ledger.take(&key, &claim).await.map_err(Unfinished::Storage)? {
            Take::Taken(record, lease) => {
                self.watch.forget(&key);
                Ok((self.keeper.hold(lease, asked), parse(&record.state), record.generation))
            }
            Take::Busy(held) => {
                self.watch.observe(&key, &held, self.reconciler.clock.elapsed());
                Err(Unfinished::Busy(held.stamp.epoch))
            }
        }
    }

    /// Frees the lease, with the new state where there is one.
    pub(super) async fn finish(
        &self,
        held: &HeldLease,
        generation: u64,
        result: Result<Cursor, Unfinished>,
    ) -> Result<Cursor, Unfinished> {
        self.keeper.let_go(held);
        let now = self.reconciler.clock.now();
        let commit = |state| Commit { state, finish: Finish::Done, notice: None, generation, first_seen: now, now };
        match result {
            Ok(cursor) => {
                let state = serde_json::to_string(&cursor).expect("a cursor of times and texts has a JSON form");
                self.reconciler.ledger.commit(&held.lease, commit(state)).await?;
                Ok(cursor)
            }
            Err(unfinished) => {
                // The mark stays where it was.
                let key = &held.lease.key;
                if let Ok(Some(record)) = self.reconciler.ledger.read(key).await {
                    let _ = self.reconciler.ledger.commit(&held.lease, commit(record.state)).await;
                }
                Err(unfinished)
            }
        }
    }
}
