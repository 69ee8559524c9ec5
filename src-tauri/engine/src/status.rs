//! What the workers tell of themselves while they work; the supervisor makes snapshots of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    connection::Side,
    error::Code,
    journal::Latency,
    key::{FirmId, RecordKey, ResourceType},
    ports::Clock,
    snapshot::{Event, Totals, What},
};

/// Events kept for "last events".
const RECENT: usize = 50;

#[derive(Debug)]
pub struct Status {
    clock: Arc<dyn Clock>,
    board: Mutex<Board>,
}

#[derive(Debug, Default, Clone)]
pub struct Board {
    pub totals: Totals,
    pub running: Vec<RecordKey>,
    pub recent: VecDeque<Event>,
    pub received: Option<Duration>,
    pub received_empty: Option<Duration>,
    /// When the last receive that came back empty was asked: what was sent before and is not in anybody's hands is gone.
    pub emptied: Option<Duration>,
    /// The last receive brought something: there may be more.
    pub more_received: bool,
    pub counted: Option<Duration>,
    pub polls: BTreeMap<(FirmId, Side, ResourceType), Poll>,
    /// What was asked before this elapsed time proves nothing: the machine slept since then, or nothing was asked for long.
    awake_since: Duration,
    /// Since it was last taken.
    latency: Latency,
}

#[derive(Debug, Default, Clone)]
pub struct Poll {
    pub polled: Option<Duration>,
    pub swept: Option<Duration>,
    pub last: Polled,
    pub sweep: Swept,
}

impl Poll {
    /// What a person should know of how changes are found, by the last poll and by the last sweep.
    pub fn remark(&self) -> Option<Code> {
        self.sweep.remark.or(self.last.remark)
    }
}

/// What a complete poll came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Polled {
    pub watermark: Option<Timestamp>,
    pub remark: Option<Code>,
    /// How long hints have been on their way that are not known to have arrived.
    pub under_way: Option<Duration>,
}

/// What a complete sweep came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    pub remark: Option<Code>,
    /// So many rows are gone at once that a person has to say what follows.
    pub missing: Option<Missing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub rows: u64,
    /// Of so many that are linked.
    pub of: u64,
}

impl Status {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, board: Mutex::default() }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self) -> Board {
        self.board().clone()
    }

    pub fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.board().totals);
    }

    pub fn running<'a>(&self, keys: impl Iterator<Item = &'a RecordKey>) {
        let mut board = self.board();
        board.running.clear();
        board.running.extend(keys.cloned());
    }

    /// A receive that began at `asked` (elapsed) came back with so many deliveries.
    pub fn received(&self, deliveries: usize, asked: Duration) {
        let now = self.clock.elapsed();
        let mut board = self.board();
        board.totals.deliveries += deliveries as u64;
        if asked < board.awake_since {
            return;
        }
        board.received = Some(now);
        board.more_received = deliveries > 0;
        if deliveries == 0 {
            board.emptied = Some(asked);
            board.received_empty = Some(now);
        }
    }

    /// Queue and ledger said at `asked` (elapsed) how they stand. `empty`: the queue was counted, and nothing is in it.
    pub fn counted(&self, asked: Duration, empty: bool) {
        let mut board = self.board();
        if asked < board.awake_since {
            return;
        }
        board.counted = Some(asked);
        if empty && board.received.is_some() {
            board.emptied = board.emptied.max(Some(asked));
            board.received_empty = Some(asked);
            board.more_received = false;
        }
    }

    /// A poll that began at `asked` (elapsed) is complete: here, and has come so far, or at another station.
    pub fn polled(&self, firm: &FirmId, side: Side, resource: &ResourceType, asked: Duration, came: Option<Polled>) {
        let now = self.clock.elapsed();
        let mut board = self.board();
        if asked >= board.awake_since {
            let poll = board.polls.entry((firm.clone(), side, resource.clone())).or_default();
            poll.polled = Some(now);
            poll.last = came.unwrap_or(Polled { remark: None, ..poll.last });
        }
    }

    /// A sweep is complete, here or at another station. It may have begun long ago.
    pub fn swept(&self, firm: &FirmId, side: Side, resource: &ResourceType, sweep: Swept) {
        let now = self.clock.elapsed();
        let mut board = self.board();
        let poll = board.polls.entry((firm.clone(), side, resource.clone())).or_default();
        poll.swept = Some(now);
        poll.sweep = sweep;
    }

    /// All proof of being up to date is gone, but for sweeps that are not due again yet.
    pub fn prove_again(&self, sweep_every: impl Fn(&FirmId, Side) -> Duration) {
        let now = self.clock.elapsed();
        let mut board = self.board();
        board.awake_since = now;
        (board.received, board.received_empty, board.counted) = (None, None, None);
        for ((firm, side, _), poll) in &mut board.polls {
            poll.polled = None;
            poll.swept = poll.swept.filter(|swept| now.saturating_sub(*swept) <= sweep_every(firm, *side));
        }
    }

    /// A change was sent so long after it was first seen.
    pub fn sent_after(&self, took: Duration) {
        self.board().latency.note(took);
    }

    pub fn take_latency(&self) -> Latency {
        std::mem::take(&mut self.board().latency)
    }

    pub fn event(&self, key: &RecordKey, what: What) {
        tracing::info!(%key, ?what, "run");
        let event = Event { at: self.clock.now(), key: key.clone(), what };
        let mut board = self.board();
        board.recent.push_front(event);
        board.recent.truncate(RECENT);
    }
}
