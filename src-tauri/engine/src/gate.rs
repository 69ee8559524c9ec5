//! The gate in front of whatever begins something new.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// What may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Paused: what runs is finished, nothing begins.
    Shut,
    /// For good.
    Closed,
}

/// Where the gate is moved.
///
/// Not a `tokio::sync::watch`: that wakes those who wait in an order of its own chance. Here it is the order in which they came, so
/// that a simulated world can be played again.
#[derive(Debug)]
pub struct Gatekeeper {
    now: Mutex<Gate>,
    moved: Notify,
}

impl Gatekeeper {
    pub fn open() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(Gate::Open), moved: Notify::new() })
    }

    pub fn now(&self) -> Gate {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves it if that is where it is.
    pub fn turn(&self, from: Gate, to: Gate) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == from {
            *now = to;
            self.moved.notify_waiters();
        }
    }

    pub fn close(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Gate::Closed;
        self.moved.notify_waiters();
    }

    pub fn watch(self: &Arc<Self>) -> Passage {
        Passage { keeper: self.clone(), seen: self.now() }
    }
}

/// A worker's view of the gate.
#[derive(Debug)]
pub struct Passage {
    keeper: Arc<Gatekeeper>,
    seen: Gate,
}

impl Passage {
    pub fn now(&self) -> Gate {
        self.keeper.now()
    }

    /// Resolves when the gate is no longer where this worker last saw it move to.
    pub async fn moved(&mut self) -> Gate {
        loop {
            let moved = self.keeper.moved.notified();
            tokio::pin!(moved);
            // Before the look, so that no move falls in between.
            moved.as_mut().enable();
            let now = self.keeper.now();
            if now != self.seen {
                self.seen = now;
                return now;
            }
            moved.await;
        }
    }

    pub async fn closed(&mut self) {
        while self.now() != Gate::Closed {
            self.moved().await;
        }
    }
}
