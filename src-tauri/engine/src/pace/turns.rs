//! Whose turn it is among those who wait for a permit.
//!
//! Purposes go before each other, firms of one purpose take turns: deficit round robin, where the deficit is always zero because every
//! request costs one. One turn in [`SHARED`] goes to the purpose that has gone without for the longest time, so that nobody starves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::{key::FirmId, ports::Purpose};

const SHARED: u64 = 8;
const PURPOSES: [Purpose; 4] = [Purpose::Person, Purpose::Work, Purpose::Poll, Purpose::Sweep];

/// A place in the line.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    number: u64,
    pub(super) purpose: Purpose,
    pub(super) firm: FirmId,
    /// Told when it may be its turn.
    pub(super) called: Arc<Notify>,
}

/// Who may use what is to be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    All,
    /// [`Purpose::Person`] and [`Purpose::Work`].
    Urgent,
}

#[derive(Debug, Default)]
struct Line {
    firms: VecDeque<FirmId>,
    waiting: BTreeMap<FirmId, VecDeque<Seat>>,
    /// The turn at which it was last served, or began to wait.
    last: u64,
}

impl Line {
    fn first(&self) -> Option<&Seat> {
        self.waiting.get(self.firms.front()?)?.front()
    }
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: [Line; 4],
    seats: u64,
    turn: u64,
}

impl Turns {
    pub(super) fn join(&mut self, firm: &FirmId, purpose: Purpose) -> Seat {
        self.seats += 1;
        let seat = Seat { number: self.seats, purpose, firm: firm.clone(), called: Arc::default() };
        let line = &mut self.lines[purpose as usize];
        if line.firms.is_empty() {
            line.last = self.turn;
        }
        if !line.waiting.contains_key(firm) {
            line.firms.push_back(firm.clone());
        }
        line.waiting.entry(firm.clone()).or_default().push_back(seat.clone());
        seat
    }

    pub(super) fn leave(&mut self, seat: &Seat) {
        let line = &mut self.lines[seat.purpose as usize];
        let Some(queue) = line.waiting.get_mut(&seat.firm) else { return };
        queue.retain(|other| other.number != seat.number);
        if queue.is_empty() {
            line.waiting.remove(&seat.firm);
            line.firms.retain(|firm| *firm != seat.firm);
        }
    }

    pub(super) fn first(&self, among: Among) -> Option<&Seat> {
        let mut lines = PURPOSES.iter().map(|purpose| &self.lines[*purpose as usize]);
        match among {
            Among::Urgent => lines.take(2).find_map(Line::first),
            Among::All if (self.turn + 1).is_multiple_of(SHARED) => {
                lines.filter(|line| line.first().is_some()).min_by_key(|line| line.last)?.first()
            }
            Among::All => lines.find_map(Line::first),
        }
    }

    pub(super) fn is_first(&self, seat: &Seat, among: Among) -> bool {
        self.first(among).is_some_and(|first| first.number == seat.number)
    }

    /// It got its turn: it leaves, and its firm is the last of its line.
    pub(super) fn served(&mut self, seat: &Seat, among: Among) {
        if among == Among::All {
            self.turn += 1;
        }
        let line = &mut self.lines[seat.purpose as usize];
        line.last = self.turn;
        if let Some(place) = line.firms.iter().position(|firm| *firm == seat.firm)
            && let Some(firm) = line.firms.remove(place)
        {
            line.firms.push_back(firm);
        }
        self.leave(seat);
    }

    /// Tells those whose turn it may be.
    pub(super) fn call(&self) {
        for among in [Among::Urgent, Among::All] {
            if let Some(seat) = self.first(among) {
                seat.called.notify_one();
            }
        }
    }
}
