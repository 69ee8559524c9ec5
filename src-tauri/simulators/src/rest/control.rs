//! The handle by which tests and the demo act on the server from inside: its clock, settings, faults, and what was asked of it.
//! Settings, and resources that are put without HTTP, are each server's own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fault::{Fault, FaultId, Matching, Times};
use super::front::{Clock, Entry, Tally};
use super::quota::{Counting, most_in};
use super::store::Version;
use super::{Inside, Server};
use crate::listen::Door;

/// A handle on a running server; clones act on the same one.
pub struct Control<S> {
    pub(crate) inside: Arc<Inside<S>>,
    pub(crate) door: Door,
}

// Derived, it would ask the same of the server.
impl<S> Clone for Control<S> {
    fn clone(&self) -> Self {
        Self { inside: Arc::clone(&self.inside), door: self.door.clone() }
    }
}

impl<S> fmt::Debug for Control<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("address", &self.door.address()).finish_non_exhaustive()
    }
}

/// What was written through the direct door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Type of the resource.
    pub resource_type: String,
    /// Its id.
    pub id: String,
    /// The version this made.
    pub version_id: String,
    /// The stamp it carries.
    pub last_updated: Timestamp,
}

/// A value that is no resource: it lacks `resourceType`, or its id is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAResource;

impl fmt::Display for NotAResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value has no resourceType, or an id that FHIR does not allow")
    }
}

impl std::error::Error for NotAResource {}

impl<S: Server> Control<S> {
    // --- time

    /// The server's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inside.act(|server| server.front().clock.now())
    }

    /// Lets the clock run with the machine's, ahead of it (or, negative, behind).
    pub fn skew(&self, by: SignedDuration) {
        self.inside.act(|server| server.front().clock = Clock::Running(by));
    }

    /// Stops the clock: everything written from now on carries the same stamp. [`Control::skew`] lets it run again.
    pub fn freeze(&self, at: Timestamp) {
        self.inside.act(|server| server.front().clock = Clock::Frozen(at));
    }

    /// Moves the clock, running or not: tokens, page sessions, quotas and lags follow it.
    pub fn advance(&self, by: SignedDuration) {
        self.inside.act(|server| {
            server.front().clock = match server.front().clock {
                Clock::Running(skew) => Clock::Running(skew.saturating_add(by)),
                Clock::Frozen(at) => Clock::Frozen(at.checked_add(by).unwrap_or(at)),
            };
            let now = server.front().clock.now();
            server.settle(now);
        });
    }

    // --- settings and faults

    /// Lets a fault strike the calls that match.
    pub fn inject(&self, fault: Fault, matching: Matching, times: Times) -> FaultId {
        self.inside.act(|server| server.front().faults.inject(fault, matching, times))
    }

    /// How many more calls a one-shot fault waits for; `None` once it is spent or cleared, and for a standing one.
    #[must_use]
    pub fn waiting(&self, fault: FaultId) -> Option<u32> {
        self.inside.act(|server| server.front().faults.left(fault))
    }

    /// Takes a fault back.
    pub fn clear(&self, fault: FaultId) {
        self.inside.act(|server| server.front().faults.clear(fault));
    }

    /// Takes every fault back. What they hold already stays held until [`Control::release`].
    pub fn clear_faults(&self) {
        self.inside.act(|server| server.front().faults.clear_all());
    }

    /// Lets every call go that is held, and publishes every write that waits, whatever its time.
    pub fn release(&self) {
        self.inside.act(|server| server.settle(Timestamp::MAX));
        self.inside.releases.send_modify(|count| *count += 1);
    }

    /// Every token is at its end.
    pub fn expire_tokens(&self) {
        self.inside.act(Server::expire_tokens);
    }

    /// Refuses connections, and cuts those there are, until [`Control::come_back`].
    pub async fn go_away(&self) {
        self.inside.act(Server::cut_sockets);
        self.door.shut().await;
    }

    /// Listens again, on the same port.
    pub async fn come_back(&self) {
        self.door.reopen().await;
    }

    /// Refuses connections for so long, in real time, and comes back by itself. Returns once it is away.
    pub async fn go_away_for(&self, time: Duration) {
        self.door.shut().await;
        let door = self.door.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            door.reopen().await;
        });
    }

    // --- what happened

    /// The counts so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inside.act(|server| server.front().tally.clone())
    }

    /// Sets the counts to zero and empties the journal and the lists of what was asked. Calls that are open stay counted as open.
    pub fn reset_tally(&self) {
        self.inside.act(|server| {
            let front = server.front();
            let (open, held, bound) = (front.tally.open, front.tally.held, front.tally.bound);
            front.tally = Tally { open, held, bound, most_open: open, ..Tally::default() };
            front.journal.clear();
            front.meter.forget_asked();
        });
    }

    /// The last calls, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.inside.act(|server| server.front().journal.iter().cloned().collect())
    }

    /// The keys that calls came with.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.inside.act(|server| server.front().meter.keys())
    }

    /// When each call under this key came in, by the server's clock, in order: refused ones too, and not those that no quota counts.
    #[must_use]
    pub fn asked(&self, key: &str) -> Vec<Timestamp> {
        self.inside.act(|server| server.front().meter.asked(key))
    }

    /// How many calls under this key were refused for its quota.
    #[must_use]
    pub fn refused(&self, key: &str) -> u64 {
        self.inside.act(|server| server.front().meter.refused(key))
    }

    /// The most calls under this key that came in in one window of this length.
    #[must_use]
    pub fn most_asked(&self, key: &str, window: SignedDuration, counting: Counting) -> usize {
        most_in(&self.asked(key), window, counting)
    }

    /// Waits until the counts are as wanted. There is no time limit: put one around it.
    pub async fn until(&self, wanted: impl Fn(&Tally) -> bool) {
        let mut changes = self.inside.changes.subscribe();
        while !wanted(&self.tally()) {
            // The sender lives in what `self` holds.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Written {
    pub(crate) fn of(resource_type: String, version: &Version) -> Self {
        Self {
            resource_type,
            id: version.id.to_string(),
            version_id: version.version_id.clone(),
            last_updated: version.stamp,
        }
    }
}
