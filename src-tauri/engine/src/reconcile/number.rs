//! Numbers that the clinic's file wants for its rows: chart numbers, of the time before UUIDs. The relay allots them from a counter in
//! the ledger, under a lease, so that no two stations give the same. A number is never given twice; one that was allotted and not
//! used, because the power went or the file had it already, leaves a gap.

use serde::{Deserialize, Serialize};

use super::{Run, Stop};
use crate::{
    key::RecordKey,
    ledger::{Claim, Commit, Finish, Take},
    link::LinkState,
    row::Numbered,
};

/// The state of the counter's record.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    next: u64,
}

impl Run<'_> {
    /// The number of this row: the one it was given before, if a first attempt to make it came to nothing.
    pub(super) async fn number(&self, state: &mut LinkState, numbered: &Numbered) -> Result<Option<u64>, Stop> {
        if state.number.is_none() {
            state.number = self.allot(numbered).await?;
        }
        Ok(state.number)
    }

    /// The next number; `None` while another station is taking one.
    async fn allot(&self, numbered: &Numbered) -> Result<Option<u64>, Stop> {
        let reconciler = self.reconciler;
        let counter = RecordKey::cursor(self.key().firm.clone(), self.key().resource.clone(), "number");
        // A station's own lease is free to it, so its runs wait for each other here.
        let _turn = reconciler.numbers.lock().await;
        let (now, asked) = (reconciler.clock.now(), reconciler.clock.elapsed());
        let claim = Claim {
            owner: reconciler.settings.owner.clone(),
            term: reconciler.settings.lease_term,
            overdue: reconciler.others.overdue(&counter, asked),
            now,
        };
        let (record, lease) = match reconciler.ledger.take(&counter, &claim).await.map_err(Stop::Storage)? {
            Take::Taken(record, lease) => (record, lease),
            Take::Busy(held) => {
                reconciler.others.observe(&counter, &held, reconciler.clock.elapsed());
                return Ok(None);
            }
        };
        reconciler.others.forget(&counter);
        let given: Counter = serde_json::from_str(&record.state).unwrap_or_default();
        let number = given.next.max(numbered.from);
        let state = serde_json::to_string(&Counter { next: number + 1 }).expect("a number has a JSON form");
        let commit =
            Commit { state, finish: Finish::Done, notice: None, generation: record.generation, first_seen: now, now };
        // On disk before anybody uses it.
        reconciler.ledger.commit(&lease, commit).await?;
        Ok(Some(number))
    }
}
