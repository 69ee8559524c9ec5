//! A FHIR R4 server over real HTTP, for what a real one lacks or cannot be made to do: every way in which servers
//! differ is a setting ([`Behaviour`]), and everything that can go wrong with a call is a fault ([`Fault`]).
//!
//! It speaks JSON, takes any resource type, and asks for a bearer token that `/oauth2/token` gives for client
//! credentials. It checks no profiles and no references: what it is given, it keeps.
//!
//! Subscriptions by WebSocket are Medplum's; rest-hooks it keeps and does not send.
//!
//! Evidence: hl7.org/fhir/R4/http.html and search.html for the interactions; Medplum's server for tokens, quotas and
//! error ids. `PATCH`, conditional delete, transactions, includes and system-wide history are missing.
//!
//! Everything it holds is synthetic, so that it may be shown in tests; the journal keeps no values all the same.

mod auth;
mod behaviour;
mod control;
mod fault;
mod interactions;
mod pages;
mod reply;
mod search;
mod sockets;
mod store;
mod world;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::Value;
use tokio::sync::watch;

pub use self::behaviour::{Behaviour, PageSize, RateLimit, RateLimitHeader, Revive, VersionIds};
pub use self::control::{Control, NotAResource, Written};
pub use self::fault::{Canned, Delay, Fault, FaultId, Interaction, Lag, Matching, RetryAfter, Times};
pub use self::world::{Entry, Tally};

use self::auth::Auth;
use self::fault::Struck;
use self::reply::Reply;
use self::world::{BASE_PATH, Call, World};
use crate::listen::{Door, Outcome};

/// The longest body it takes, in bytes.
const LONGEST_BODY: usize = 64 << 20;

/// How a server starts.
pub struct Options {
    /// The client that may sign in.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Whether calls need no token.
    pub open: bool,
    /// Seed of the ids, tokens and links that it makes up.
    pub seed: u64,
    /// What kind of server it is.
    pub behaviour: Behaviour,
    /// What it holds from the start.
    pub resources: Vec<Value>,
    /// How many calls the journal keeps.
    pub journal: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "chart-relay".into(),
            client_secret: "synthetic-secret".into(),
            open: false,
            seed: 1,
            behaviour: Behaviour::default(),
            resources: Vec::new(),
            journal: 1000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("client_id", &self.client_id)
            .field("open", &self.open)
            .field("seed", &self.seed)
            .field("resources", &self.resources.len())
            .finish_non_exhaustive()
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct FhirServer {
    control: Control,
    base_url: String,
    token_url: String,
}

impl FhirServer {
    /// Starts on 127.0.0.1, on a port that the system chooses.
    ///
    /// # Errors
    /// The system's error where no port can be had; `InvalidInput` where one of the resources is none.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::begin(options, None).await
    }

    /// Like [`FhirServer::start`], over HTTPS, for example with [`crate::tls::Certificate::server_config`].
    ///
    /// # Errors
    /// As [`FhirServer::start`].
    pub async fn start_tls(options: Options, config: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        Self::begin(options, Some(config)).await
    }

    async fn begin(options: Options, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        let auth = Auth::new(options.client_id, options.client_secret);
        let world = World::new(options.open, auth, options.behaviour, options.seed, options.journal);
        let inside = Arc::new(Inside {
            world: Mutex::new(world),
            changes: watch::Sender::new(0),
            releases: watch::Sender::new(0),
        });
        let for_calls = Arc::clone(&inside);
        let handler = move |request| handle(Arc::clone(&for_calls), request);
        let (scheme, door) = match tls {
            None => ("http", Door::open(handler).await?),
            Some(config) => ("https", Door::open_tls(handler, config).await?),
        };
        let origin = format!("{scheme}://{}", door.address());
        let base_url = format!("{origin}{BASE_PATH}");
        inside.act(|world| world.base.clone_from(&base_url));
        let server = Self { control: Control { inside, door }, base_url, token_url: format!("{origin}/oauth2/token") };
        for resource in options.resources {
            server.control.put(resource).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        Ok(server)
    }

    /// The FHIR base, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where tokens are asked for.
    #[must_use]
    pub fn token_url(&self) -> &str {
        &self.token_url
    }

    /// A handle to act on it from inside.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Ends it: once this returns, connections are refused.
    pub async fn stop(self) {
        self.control.door.close().await;
    }
}

impl Drop for FhirServer {
    fn drop(&mut self) {
        self.control.door.abandon();
    }
}

/// What connections and handles share.
struct Inside {
    world: Mutex<World>,
    /// Grows with every call that comes or goes.
    changes: watch::Sender<u64>,
    /// Grows with every [`Control::release`].
    releases: watch::Sender<u64>,
}

impl Inside {
    fn act<T>(&self, action: impl FnOnce(&mut World) -> T) -> T {
        // A test that panicked while it held the lock has failed already; the others may go on.
        action(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count<T>(&self, action: impl FnOnce(&mut World) -> T) -> T {
        let done = self.act(action);
        self.changes.send_modify(|count| *count += 1);
        done
    }

    async fn wait(&self, delay: Delay) {
        match delay {
            Delay::For(time) => tokio::time::sleep(time).await,
            Delay::UntilReleased => {
                // Listening begins before the count goes up, so that whoever saw the count may release.
                let mut releases = self.releases.subscribe();
                self.count(|world| world.tally.held += 1);
                // The sender lives in `self`.
                let _ = releases.changed().await;
                self.count(|world| world.tally.held -= 1);
            }
        }
    }
}

async fn handle(inside: Arc<Inside>, request: Request<Body>) -> Outcome {
    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    let began = Instant::now();
    if sockets::is_one(&request) {
        return sockets::open(inside, request);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else {
        return Outcome::HangUp;
    };
    let call = Call::of(&parts, body);
    let (struck, latency) = inside.count(|world| (world.arrive(&call), world.behaviour.latency));
    let reply = respond(&inside, &call, &struck, latency).await;
    let status = reply.as_ref().map(|reply| reply.status);
    inside.count(|world| world.leave(&call, status, struck.names(), began.elapsed()));
    match reply {
        Some(reply) => Outcome::Reply(reply.into_response(struck.has(&Fault::CutBody))),
        None => Outcome::HangUp,
    }
}

/// `None` closes the connection.
async fn respond(inside: &Inside, call: &Call, struck: &Struck, latency: std::time::Duration) -> Option<Reply> {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let before = struck.first(|fault| match fault {
        Fault::DelayBefore(delay) => Some(*delay),
        _ => None,
    });
    if let Some(delay) = before {
        inside.wait(delay).await;
    }
    if struck.has(&Fault::HangUpBefore) {
        return None;
    }
    let mut reply = inside.act(|world| world.answer(call, struck));
    let after = struck.first(|fault| match fault {
        Fault::DelayAfter(delay) => Some(*delay),
        _ => None,
    });
    if let Some(delay) = after {
        inside.wait(delay).await;
    }
    if struck.has(&Fault::HangUpAfter) {
        return None;
    }
    let lost = struck.first(|fault| match fault {
        Fault::AnswerAfter(canned) => Some(canned.clone()),
        _ => None,
    });
    if let Some(canned) = lost {
        let now = inside.act(|world| world.clock.now());
        reply = Reply::canned(&canned, now);
    }
    if struck.has(&Fault::Truncate) {
        reply.truncate();
    }
    Some(reply)
}
