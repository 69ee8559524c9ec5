//! What the workers tell of themselves while they work; the supervisor makes snapshots of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
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
    pub counted: Option<Duration>,
    pub polls: BTreeMap<(FirmId, ResourceType), Poll>,
}

#[derive(Debug, Default, Clone)]
pub struct Poll {
    pub polled: Option<Duration>,
    pub swept: Option<Duration>,
    pub watermark: Option<Timestamp>,
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

    /// A receive came back with so many deliveries.
    pub fn received(&self, deliveries: usize) {
        let now = self.clock.elapsed();
        let mut board = self.board();
        board.received = Some(now);
        board.totals.deliveries += deliveries as u64;
        if deliveries == 0 {
            board.received_empty = Some(now);
        }
    }

    /// Queue and ledger said how they stand.
    pub fn counted(&self) {
        self.board().counted = Some(self.clock.elapsed());
    }

    pub fn poll(&self, firm: &FirmId, resource: &ResourceType, change: impl FnOnce(&mut Poll, Duration)) {
        let now = self.clock.elapsed();
        change(self.board().polls.entry((firm.clone(), resource.clone())).or_default(), now);
    }

    pub fn event(&self, key: &RecordKey, what: What) {
        tracing::info!(%key, ?what, "run");
        let event = Event { at: self.clock.now(), key: key.clone(), what };
        let mut board = self.board();
        board.recent.push_front(event);
        board.recent.truncate(RECENT);
    }
}
