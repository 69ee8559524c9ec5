//! The handle by which tests and the demo act on the server from inside: its clock, settings, faults, and resources that
//! are put and deleted without HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::behaviour::Behaviour;
use super::fault::{Fault, FaultId, Lag, Matching, Times};
use super::interactions::Timing;
use super::sockets::Announced;
use super::store::{Method, Publication, Version};
use super::world::{Clock, Entry, Shared, Tally, World, is_id, is_type};
use crate::listen::Door;

/// A handle on a running server; clones act on the same one.
#[derive(Clone)]
pub struct Control {
    pub(super) inside: Shared,
    pub(super) door: Door,
}

impl fmt::Debug for Control {
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

impl Control {
    // --- resources

    /// Creates the resource, with its own id or a new one, or adds a version to the one that has its id. Settings
    /// that alter what comes over HTTP, and faults, do not touch it.
    ///
    /// # Errors
    /// [`NotAResource`].
    pub fn put(&self, resource: Value) -> Result<Written, NotAResource> {
        self.write(resource, Timing::default())
    }

    /// Like [`Control::put`], stamped with another time than now.
    ///
    /// # Errors
    /// [`NotAResource`].
    pub fn put_stamped(&self, resource: Value, at: Timestamp) -> Result<Written, NotAResource> {
        self.write(resource, Timing { at: Some(at), ..Timing::default() })
    }

    /// Like [`Control::put`], stamped now, and neither read nor found until it commits: a long transaction.
    ///
    /// # Errors
    /// [`NotAResource`].
    pub fn put_late(&self, resource: Value, visible: Lag) -> Result<Written, NotAResource> {
        let due = Some(World::due(visible, self.now()));
        self.write(resource, Timing { at: None, publication: Publication { reads: due, searches: due } })
    }

    fn write(&self, mut resource: Value, timing: Timing) -> Result<Written, NotAResource> {
        let kind = resource["resourceType"].as_str().filter(|kind| is_type(kind)).ok_or(NotAResource)?.to_owned();
        let given = match &resource["id"] {
            Value::Null => None,
            Value::String(id) if is_id(id) => Some(id.clone()),
            _ => return Err(NotAResource),
        };
        let written = self.inside.act(|world| {
            let id = given.unwrap_or_else(|| world.uuid());
            let method = if world.store.latest(&kind, &id).is_some() { Method::Put } else { Method::Post };
            world.write(&kind, &id, Some(resource.take()), method, timing, false)
        });
        Ok(written_as(kind, &written))
    }

    /// Deletes a resource; `None` where there is none.
    pub fn delete(&self, resource_type: &str, id: &str) -> Option<Written> {
        let version = self.inside.act(|world| {
            world.store.latest(resource_type, id)?.content.as_ref()?;
            Some(world.write(resource_type, id, None, Method::Delete, Timing::default(), false))
        });
        version.map(|version| written_as(resource_type.to_owned(), &version))
    }

    /// The newest version of a resource, whether callers see it yet or not.
    #[must_use]
    pub fn get(&self, resource_type: &str, id: &str) -> Option<Value> {
        self.inside.act(|world| {
            let version = world.store.latest(resource_type, id)?;
            version.content.as_ref().map(|content| content.value.clone())
        })
    }

    /// The ids of a type that searches find, oldest change first.
    #[must_use]
    pub fn ids(&self, resource_type: &str) -> Vec<String> {
        use std::ops::Bound::Unbounded;
        let ids = self.inside.act(|world| world.store.by_time(resource_type, Unbounded, Unbounded));
        ids.iter().map(ToString::to_string).collect()
    }

    /// The versionIds of a resource that callers can see, oldest first; a deletion has one too.
    #[must_use]
    pub fn versions(&self, resource_type: &str, id: &str) -> Vec<String> {
        self.inside.act(|world| {
            world.store.versions(resource_type, id).iter().map(|version| version.version_id.clone()).collect()
        })
    }

    // --- time

    /// The server's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inside.act(|world| world.clock.now())
    }

    /// Lets the clock run with the machine's, ahead of it (or, negative, behind).
    pub fn skew(&self, by: SignedDuration) {
        self.inside.act(|world| world.clock = Clock::Running(by));
    }

    /// Stops the clock: everything written from now on carries the same stamp. [`Control::skew`] lets it run again.
    pub fn freeze(&self, at: Timestamp) {
        self.inside.act(|world| world.clock = Clock::Frozen(at));
    }

    /// Moves the clock, running or not: tokens, page sessions, quotas and lags follow it.
    pub fn advance(&self, by: SignedDuration) {
        self.inside.act(|world| {
            world.clock = match world.clock {
                Clock::Running(skew) => Clock::Running(skew.saturating_add(by)),
                Clock::Frozen(at) => Clock::Frozen(at.checked_add(by).unwrap_or(at)),
            };
            world.store.settle(world.clock.now());
        });
    }

    // --- settings and faults

    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Behaviour)) {
        self.inside.act(|world| change(&mut world.behaviour));
    }

    /// Alters every resource that is written over HTTP from now on, before it is stored.
    pub fn rewrite(&self, rewrite: impl Fn(&mut Value) + Send + 'static) {
        self.inside.act(|world| world.rewrite = Some(Box::new(rewrite)));
    }

    /// Lets a fault strike the calls that match.
    pub fn inject(&self, fault: Fault, matching: Matching, times: Times) -> FaultId {
        self.inside.act(|world| world.faults.inject(fault, matching, times))
    }

    /// How many more calls a one-shot fault waits for; `None` once it is spent or cleared, and for a standing one.
    #[must_use]
    pub fn waiting(&self, fault: FaultId) -> Option<u32> {
        self.inside.act(|world| world.faults.left(fault))
    }

    /// Takes a fault back.
    pub fn clear(&self, fault: FaultId) {
        self.inside.act(|world| world.faults.clear(fault));
    }

    /// Takes every fault back. What they hold already stays held until [`Control::release`].
    pub fn clear_faults(&self) {
        self.inside.act(|world| world.faults.clear_all());
    }

    /// Lets every call go that is held, and publishes every write that waits, whatever its time.
    pub fn release(&self) {
        self.inside.act(|world| world.store.release());
        self.inside.releases.send_modify(|count| *count += 1);
    }

    /// Says this to every socket that is open.
    pub fn announce(&self, words: &str) {
        self.inside.act(|world| drop(world.announcements.send(Announced::Words(words.to_owned()))));
    }

    /// Breaks off every socket.
    pub fn cut_sockets(&self) {
        self.inside.act(|world| drop(world.announcements.send(Announced::Cut)));
    }

    /// Ends every page session and forgets cached searches, as a restart would.
    pub fn forget_pages(&self) {
        self.inside.act(|world| world.pages.forget());
    }

    /// Every token is at its end.
    pub fn expire_tokens(&self) {
        self.inside.act(|world| world.auth.expire_all());
    }

    /// Gives the client another secret; with `keep_old`, the old one goes on working (Medplum's `retiringSecret`).
    pub fn rotate_secret(&self, secret: &str, keep_old: bool) {
        self.inside.act(|world| world.auth.rotate(secret.to_owned(), keep_old));
    }

    /// Refuses connections, and cuts those there are, until [`Control::come_back`].
    pub async fn go_away(&self) {
        self.cut_sockets();
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
        self.inside.act(|world| world.tally.clone())
    }

    /// Sets the counts to zero and empties the journal. Calls that are open stay counted as open.
    pub fn reset_tally(&self) {
        self.inside.act(|world| {
            let (open, held, bound) = (world.tally.open, world.tally.held, world.tally.bound);
            world.tally = Tally { open, held, bound, most_open: open, ..Tally::default() };
            world.journal.clear();
        });
    }

    /// The last calls, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.inside.act(|world| world.journal.iter().cloned().collect())
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

fn written_as(resource_type: String, version: &Arc<Version>) -> Written {
    Written {
        resource_type,
        id: version.id.to_string(),
        version_id: version.version_id.clone(),
        last_updated: version.stamp,
    }
}
