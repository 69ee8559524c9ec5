//! The state of the server, and what happens to a call between its arrival and its answer.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::sync::broadcast;

use super::auth::{Auth, Standing, Usage};
use super::behaviour::Behaviour;
use super::fault::{Fault, Faults, Interaction, Struck};
use super::pages::Pages;
use super::reply::{Reply, http_date};
use super::search::pairs;
use super::sockets::Announced;
use super::store::Store;

/// Path of the FHIR base.
pub(super) const BASE_PATH: &str = "/fhir/R4";

/// The server's clock: the machine's, set off by a skew, or standing still.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Running(SignedDuration),
    Frozen(Timestamp),
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    pub(super) fn now(self) -> Timestamp {
        match self {
            Self::Running(skew) => Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX),
            Self::Frozen(at) => at,
        }
    }
}

/// One call, as the journal keeps it: no values, only what and how it went.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was answered, on the server's clock.
    pub at: Timestamp,
    /// What was asked.
    pub interaction: Interaction,
    /// About which type.
    pub resource_type: Option<String>,
    /// About which id.
    pub id: Option<String>,
    /// The answer's status; `None` where the connection was closed instead.
    pub status: Option<u16>,
    /// The faults that struck it.
    pub faults: Vec<&'static str>,
    /// Real time from its arrival to its answer.
    pub took: Duration,
}

/// How many calls there were.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Calls that came in, by what they asked. An entry of a batch counts too.
    pub calls: BTreeMap<Interaction, u64>,
    /// Answers, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls that came in and were neither answered nor hung up on yet.
    pub open: usize,
    /// The most calls there ever were at once.
    pub most_open: usize,
    /// Calls that wait for [`Control::release`](super::Control::release).
    pub held: usize,
    /// Subscriptions that sockets are bound to.
    pub bound: usize,
}

impl Tally {
    /// Calls of this kind that came in.
    #[must_use]
    pub fn of(&self, interaction: Interaction) -> u64 {
        self.calls.get(&interaction).copied().unwrap_or(0)
    }
}

/// Changes a resource as it is stored: a server that does not keep what it was sent.
pub(super) type Rewrite = Box<dyn Fn(&mut Value) + Send>;

pub(super) struct World {
    pub(super) base: String,
    pub(super) open: bool,
    pub(super) behaviour: Behaviour,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) faults: Faults,
    pub(super) auth: Auth,
    pub(super) usage: Usage,
    pub(super) pages: Pages,
    /// From a binding token to its subscription.
    pub(super) binding_tokens: BTreeMap<String, String>,
    pub(super) announcements: broadcast::Sender<Announced>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) tally: Tally,
    pub(super) journal: VecDeque<Entry>,
    pub(super) journal_length: usize,
    pub(super) chance: ChaCha8Rng,
}

impl World {
    pub(super) fn new(open: bool, auth: Auth, behaviour: Behaviour, seed: u64, journal_length: usize) -> Self {
        Self {
            base: String::new(),
            open,
            behaviour,
            clock: Clock::Running(SignedDuration::ZERO),
            store: Store::default(),
            faults: Faults::default(),
            auth,
            usage: Usage::default(),
            pages: Pages::default(),
            binding_tokens: BTreeMap::new(),
            announcements: broadcast::Sender::new(1024),
            rewrite: None,
            tally: Tally::default(),
            journal: VecDeque::new(),
            journal_length,
            chance: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Takes note of a call and finds what strikes it.
    pub(super) fn arrive(&mut self, call: &Call) -> Struck {
        *self.tally.calls.entry(call.interaction).or_default() += 1;
        self.tally.open += 1;
        self.tally.most_open = self.tally.most_open.max(self.tally.open);
        self.strike(call)
    }

    pub(super) fn strike(&mut self, call: &Call) -> Struck {
        self.faults.strike(call.interaction, call.kind.as_deref(), call.id.as_deref())
    }

    /// Takes note of the call's end.
    pub(super) fn leave(&mut self, call: &Call, status: Option<u16>, faults: Vec<&'static str>, took: Duration) {
        self.tally.open -= 1;
        if let Some(status) = status {
            *self.tally.statuses.entry(status).or_default() += 1;
        }
        if self.journal.len() == self.journal_length {
            self.journal.pop_front();
        }
        if self.journal_length > 0 {
            self.journal.push_back(Entry {
                at: self.clock.now(),
                interaction: call.interaction,
                resource_type: call.kind.clone(),
                id: call.id.clone(),
                status,
                faults,
                took,
            });
        }
    }

    /// Carries the call out, unless a fault or a quota answers for it.
    pub(super) fn answer(&mut self, call: &Call, struck: &Struck) -> Reply {
        let now = self.clock.now();
        self.store.settle(now);
        if struck.has(&Fault::ExpireTokens) {
            self.auth.expire_all();
        }
        let (limits, refusal) = match &self.behaviour.rate_limit {
            Some(limit) => self.usage.charge(limit, call.interaction, now),
            None => (Vec::new(), None),
        };
        let canned = struck.first(|fault| match fault {
            Fault::Answer(canned) => Some(Reply::canned(canned, now)),
            _ => None,
        });
        let mut reply = match refusal.or(canned) {
            Some(reply) => reply,
            None => self.carry_out(call, struck, now),
        };
        for limit in limits {
            reply.header("ratelimit", limit);
        }
        reply.header("date", http_date(now));
        reply
    }

    fn carry_out(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply {
        match call.interaction {
            Interaction::Token => self.auth.token(
                call.header("content-type").unwrap_or_default(),
                call.header("authorization"),
                &call.body,
                self.behaviour.token_life,
                now,
                &mut self.chance,
            ),
            Interaction::Capabilities => self.capabilities(call, now),
            _ => {
                let standing =
                    if self.open { Standing::Valid } else { self.auth.standing(call.header("authorization"), now) };
                match standing {
                    Standing::Valid => self.interact(call, struck, now),
                    Standing::Missing => Reply::unauthorized(false),
                    Standing::Expired => Reply::unauthorized(true),
                }
            }
        }
    }

    /// A UUID (version 4 in form) from the server's own chance.
    pub(super) fn uuid(&mut self) -> String {
        let bits: u128 = self.chance.random();
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        let mut uuid = String::with_capacity(36);
        for (at, digit) in digits.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            // Writing to a String does not fail.
            let _ = uuid.write_char(digit);
        }
        uuid
    }
}

/// A call, taken apart.
pub(super) struct Call {
    pub(super) interaction: Interaction,
    pub(super) kind: Option<String>,
    pub(super) id: Option<String>,
    pub(super) version: Option<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The last part of the path where two documents share an interaction.
    pub(super) document: Option<&'static str>,
}

impl Call {
    pub(super) fn of(parts: &Parts, body: Bytes) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self::new(parts.method.as_str(), parts.uri.path(), query, parts.headers.clone(), body)
    }

    /// A call on an absolute path, over HTTP or as an entry of a batch.
    pub(super) fn new(method: &str, path: &str, query: &str, headers: HeaderMap, body: Bytes) -> Self {
        let mut call = Self {
            interaction: Interaction::Unknown,
            kind: None,
            id: None,
            version: None,
            query: pairs(query.as_bytes()),
            headers,
            body,
            document: None,
        };
        if path == "/oauth2/token" {
            if method == "POST" {
                call.interaction = Interaction::Token;
            }
            return call;
        }
        let Some(rest) = path.strip_prefix(BASE_PATH) else {
            return call;
        };
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        if let Some(kind) = segments.first().filter(|kind| is_type(kind)) {
            call.kind = Some((*kind).to_owned());
        }
        if let Some(id) = segments.get(1).filter(|id| call.kind.is_some() && is_id(id)) {
            call.id = Some((*id).to_owned());
        }
        let kind = call.kind.is_some();
        let id = call.id.is_some();
        call.interaction = match (method, segments.as_slice()) {
            ("GET", ["metadata"]) => Interaction::Capabilities,
            ("GET", [".well-known", "smart-configuration"]) => {
                call.document = Some("smart-configuration");
                Interaction::Capabilities
            }
            ("GET", []) if call.query.iter().any(|(name, _)| name == "_getpages") => Interaction::NextPage,
            ("POST", []) => Interaction::Batch,
            ("GET", [_]) if kind => Interaction::Search,
            ("POST", [_, "_search"]) if kind => {
                call.query.extend(pairs(&call.body));
                Interaction::Search
            }
            ("GET", [_, "_history"]) if kind => Interaction::TypeHistory,
            ("GET", [_, _]) if id => Interaction::Read,
            ("GET", [_, _, "_history"]) if id => Interaction::InstanceHistory,
            ("GET", ["Subscription", _, "$get-ws-binding-token"]) if id => Interaction::BindingToken,
            ("GET", [_, _, "_history", version]) if id => {
                call.version = Some((*version).to_owned());
                Interaction::VRead
            }
            ("POST", [_]) if kind => Interaction::Create,
            ("PUT", [_]) if kind => Interaction::Update,
            ("PUT", [_, _]) if id => Interaction::Update,
            ("DELETE", [_, _]) if id => Interaction::Delete,
            _ => Interaction::Unknown,
        };
        call
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a header that lists words, such as `Prefer`, has this one.
    pub(super) fn prefers(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| value.split([',', ';']).any(|part| part.trim() == word))
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

/// Any name that looks like a resource type: the server knows no list of them.
pub(super) fn is_type(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// hl7.org/fhir/R4/datatypes.html#id: letters, digits, `-` and `.`, 1 to 64 of them.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.'))
}

/// Shared between the connections and the control handles.
pub(super) type Shared = Arc<super::Inside>;
