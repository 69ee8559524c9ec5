//! What tests and the demo do to this server from inside, beside what every server allows: resources that are put and deleted without
//! HTTP, settings, sockets.

use std::ops::Bound::Unbounded;

use jiff::Timestamp;
use serde_json::Value;

use super::behaviour::Behaviour;
use super::interactions::Timing;
use super::sockets::Announced;
use super::world::World;
use crate::rest::call::{is_id, is_type};
use crate::rest::fault::Lag;
use crate::rest::store::{Method, Publication};
use crate::rest::{self, NotAResource, Server as _, Written};

/// A handle on a running server; clones act on the same one.
pub type Control = rest::Control<World>;

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
        let due = Some(visible.due(self.now()));
        self.write(resource, Timing { at: None, publication: Publication { reads: due, searches: due, hides: false } })
    }

    fn write(&self, mut resource: Value, timing: Timing) -> Result<Written, NotAResource> {
        let kind = resource["resourceType"].as_str().filter(|kind| is_type(kind)).ok_or(NotAResource)?.to_owned();
        let given = match &resource["id"] {
            Value::Null => None,
            Value::String(id) if is_id(id) => Some(id.clone()),
            _ => return Err(NotAResource),
        };
        let written = self.inside.act(|world| {
            let id = given.unwrap_or_else(|| world.front().uuid());
            let method = if world.store.latest(&kind, &id).is_some() { Method::Put } else { Method::Post };
            world.write(&kind, &id, Some(resource.take()), method, timing, false)
        });
        Ok(Written::of(kind, &written))
    }

    /// Deletes a resource; `None` where there is none.
    pub fn delete(&self, resource_type: &str, id: &str) -> Option<Written> {
        let version = self.inside.act(|world| {
            world.store.latest(resource_type, id)?.content.as_ref()?;
            Some(world.write(resource_type, id, None, Method::Delete, Timing::default(), false))
        });
        version.map(|version| Written::of(resource_type.to_owned(), &version))
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

    // --- settings

    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Behaviour)) {
        self.inside.act(|world| change(&mut world.behaviour));
    }

    /// Alters every resource that is written over HTTP from now on, before it is stored.
    pub fn rewrite(&self, rewrite: impl Fn(&mut Value) + Send + 'static) {
        self.inside.act(|world| world.rewrite = Some(Box::new(rewrite)));
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

    /// Gives the client another secret; with `keep_old`, the old one goes on working (Medplum's `retiringSecret`).
    pub fn rotate_secret(&self, secret: &str, keep_old: bool) {
        self.inside.act(|world| world.auth.rotate(secret.to_owned(), keep_old));
    }

    /// The refresh token that works now.
    #[must_use]
    pub fn refresh_token(&self) -> Option<String> {
        self.inside.act(|world| world.auth.refresh().0)
    }

    /// How often a refresh token was used that had been spent.
    #[must_use]
    pub fn spent_refresh_tokens(&self) -> u64 {
        self.inside.act(|world| world.auth.refresh().1)
    }
}
