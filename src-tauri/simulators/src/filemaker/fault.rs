//! Faults that hit single calls, and which calls they hit. Standing states of the host (paused, file closed, session
//! cap, ...) are switches of [`super::Control`].
//!
//! Facts: sheet sections 8.4, 14, 17: every entry of the list of switches and of the list of unknown outcomes.

use super::call::Route;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this FileMaker code, nothing done.
    Code(u32),
    /// Done, then answered with this code: 112 and 951 as unknown outcomes.
    DoneButCode(u32),
    /// The engine behind the web server is down: HTML, 502, nothing done.
    Html502,
    /// HTTP 503 without a body, nothing done.
    Empty503,
    /// Done, then HTML 502: the proxy gave up first.
    DoneButHtml502,
    /// Done, but only half of the JSON arrives.
    Truncated,
    /// The connection breaks before the work.
    DropBefore,
    /// The connection breaks after the commit: the reply is lost.
    DropAfter,
    /// Takes this much longer; the session is busy meanwhile.
    Slow(Duration),
    /// Nothing is answered; the work is done after this time, or (`None`) when [`super::Control::land_late`] says so, under
    /// the modId and uniqueness that hold then, whatever has become of the session. Then the connection is closed.
    Late(Option<Duration>),
}

impl Fault {
    /// Hits before sign-in is looked at.
    pub(super) fn at_the_gate(&self) -> bool {
        matches!(self, Self::Html502 | Self::Empty503 | Self::DropBefore)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Code(_) => "code",
            Self::DoneButCode(_) => "done but code",
            Self::Html502 => "html 502",
            Self::Empty503 => "empty 503",
            Self::DoneButHtml502 => "done but html 502",
            Self::Truncated => "truncated",
            Self::DropBefore => "drop before",
            Self::DropAfter => "drop after",
            Self::Slow(_) => "slow",
            Self::Late(_) => "late",
        }
    }
}

/// Which calls a fault hits. Empty: every call, until it is cleared.
#[derive(Debug, Clone, Default)]
pub struct When {
    pub(super) verb: Option<String>,
    pub(super) route: Option<Route>,
    pub(super) writes: bool,
    pub(super) layout: Option<String>,
    pub(super) key: Option<String>,
    pub(super) skip: u64,
    pub(super) times: Option<u64>,
    pub(super) chance: Option<f64>,
}

impl When {
    /// Every call.
    pub fn always() -> Self {
        Self::default()
    }

    /// The next call that matches.
    pub fn next() -> Self {
        Self::default().times(1)
    }

    /// So many matching calls.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets so many matching calls pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// HTTP verb in capitals.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_owned());
        self
    }

    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Create, edit, duplicate, delete.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    #[must_use]
    pub fn layout(mut self, layout: &str) -> Self {
        self.layout = Some(layout.to_owned());
        self
    }

    /// Calls about one record: its recordId is in the path, the record holds this text in a unique field, or the body
    /// names it as a field's value or a criterion (`==` and escapes aside).
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Each matching call is hit with this probability (0 to 1), by the host's seed.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = Some(chance.clamp(0.0, 1.0));
        self
    }
}

/// A fault that has been set; tells how often it struck.
#[derive(Debug, Clone)]
pub struct Injected {
    pub(super) id: u64,
    pub(super) fired: Arc<AtomicU64>,
}

impl Injected {
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) fault: Fault,
    pub(super) when: When,
    pub(super) handle: Injected,
}
