//! What tests and the demo do to this server from inside, beside what every server allows: resources of a firm that are put without
//! HTTP, settings, and the drafts that it was sent.

use std::ops::Bound::Unbounded;

use jiff::Timestamp;
use serde_json::Value;

use super::behaviour::Behaviour;
use super::paths::is_own_id;
use super::world::World;
use super::writes::Draft;
use crate::rest::call::is_type;
use crate::rest::fault::Lag;
use crate::rest::{self, NotAResource, Server as _, Written};

/// A handle on a running server; clones act on the same one.
pub type Control = rest::Control<World>;

impl Control {
    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Behaviour)) {
        self.inside.act(|world| change(&mut world.behaviour));
    }

    /// A handle on one firm.
    #[must_use]
    pub fn firm(&self, name: &str) -> FirmControl {
        FirmControl { control: self.clone(), name: name.to_owned() }
    }

    /// How often a file was asked for with a token or a key, which its server has no business to see.
    #[must_use]
    pub fn leaks(&self) -> u64 {
        self.inside.act(|world| world.leaks)
    }
}

/// A handle on one firm of a running server.
#[derive(Clone, Debug)]
pub struct FirmControl {
    control: Control,
    name: String,
}

impl FirmControl {
    /// The firm's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.control.now()
    }

    /// Creates the resource, with its own id or a new one, or adds a version to the one that has its id.
    ///
    /// # Errors
    /// [`NotAResource`], also where the server does not serve the firm.
    pub fn put(&self, resource: Value) -> Result<Written, NotAResource> {
        self.write(&resource, None, None)
    }

    /// Like [`FirmControl::put`], stamped with another time than now.
    ///
    /// # Errors
    /// As [`FirmControl::put`].
    pub fn put_stamped(&self, resource: Value, at: Timestamp) -> Result<Written, NotAResource> {
        self.write(&resource, Some(at), None)
    }

    /// Like [`FirmControl::put`], stamped now, and neither read nor found until it commits: a long transaction.
    ///
    /// # Errors
    /// As [`FirmControl::put`].
    pub fn put_late(&self, resource: Value, visible: Lag) -> Result<Written, NotAResource> {
        self.write(&resource, None, Some(visible))
    }

    fn write(&self, resource: &Value, at: Option<Timestamp>, visible: Option<Lag>) -> Result<Written, NotAResource> {
        let kind = resource["resourceType"].as_str().filter(|kind| is_type(kind)).ok_or(NotAResource)?;
        let given = match &resource["id"] {
            Value::Null => None,
            Value::String(id) if is_own_id(id) => Some(id.clone()),
            _ => return Err(NotAResource),
        };
        let written = self.control.inside.act(|world| {
            let id = given.unwrap_or_else(|| world.front().uuid());
            world.write(&self.name, kind, &id, resource, at, visible)
        });
        let written = written.ok_or(NotAResource)?;
        Ok(Written::of(kind.to_owned(), &written))
    }

    /// The newest version of a resource, whether callers see it yet or not, as it was put.
    #[must_use]
    pub fn get(&self, resource_type: &str, id: &str) -> Option<Value> {
        self.control.inside.act(|world| {
            let version = world.firms.get(&self.name)?.store.latest(resource_type, id)?;
            version.content.as_ref().map(|content| content.value.clone())
        })
    }

    /// The ids of a type that searches find, oldest change first.
    #[must_use]
    pub fn ids(&self, resource_type: &str) -> Vec<String> {
        let ids = self.control.inside.act(|world| {
            let branch = world.firms.get(&self.name)?;
            Some(branch.store.by_time(resource_type, Unbounded, Unbounded))
        });
        ids.unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    /// The drafts that were posted, oldest first.
    #[must_use]
    pub fn drafts(&self) -> Vec<Draft> {
        self.control
            .inside
            .act(|world| world.firms.get(&self.name).map(|branch| branch.drafts.clone()).unwrap_or_default())
    }

    /// The refresh token of the older grant that works now.
    #[must_use]
    pub fn refresh_token(&self) -> Option<String> {
        self.control.inside.act(|world| world.firms.get(&self.name)?.refresh.clone())
    }
}
