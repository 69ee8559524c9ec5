//! A FHIR R4 server over real HTTP, for what a real one lacks or cannot be made to do: every way in which servers
//! differ is a setting ([`Behaviour`]), and everything that can go wrong with a call is a fault ([`Fault`]).
//!
//! It speaks JSON, takes any resource type, and asks for a bearer token that `/oauth2/token` gives for client
//! credentials (a secret, or a signed assertion) or a refresh token; or, as HealthLake, for signed calls. It checks no profiles and no references: what it is given, it keeps.
//!
//! Subscriptions by WebSocket are Medplum's; rest-hooks it keeps and does not send.
//!
//! Evidence: hl7.org/fhir/R4/http.html and search.html for the interactions; Medplum's server for tokens, quotas and
//! error ids; HealthLake's guide for its search. `PATCH`, conditional delete, transactions, includes and system-wide history are missing.
//!
//! Everything it holds is synthetic, so that it may be shown in tests; the journal keeps no values all the same.

mod assertion;
mod auth;
mod behaviour;
mod control;
mod interactions;
mod pages;
mod paths;
mod sockets;
mod world;

use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::Value;

pub use self::behaviour::{Behaviour, IndexLag, PageSize, Refresh, Revive, VersionIds};
pub use self::control::Control;
pub use crate::rest::fault::{Canned, Delay, Fault, FaultId, Interaction, Lag, Matching, RetryAfter, Times, Wrong};
pub use crate::rest::front::{Entry, Tally};
pub use crate::rest::quota::{Counting, RateLimit, RateLimitHeader};
pub use crate::rest::sigv4::AwsKey;
pub use crate::rest::{NotAResource, Written};

use self::auth::Auth;
use self::world::{Admission, World};
use crate::rest::front::Front;
use crate::rest::{self, Inside};

/// How a server starts.
pub struct Options {
    /// The client that may sign in.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The client's public key as a JWK (EC of P-384, or RSA), for one that signs assertions instead of telling a secret.
    pub client_key: Option<Value>,
    /// A refresh token that the client has from a sign-in in a browser, to begin with.
    pub refresh_token: Option<String>,
    /// Whether calls need no token.
    pub open: bool,
    /// The key that every call must be signed with, instead of a token: HealthLake.
    pub aws: Option<AwsKey>,
    /// Path of the FHIR base.
    pub path: String,
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
            client_key: None,
            refresh_token: None,
            open: false,
            aws: None,
            path: "/fhir/R4".into(),
            seed: 1,
            behaviour: Behaviour::default(),
            resources: Vec::new(),
            journal: 1000,
        }
    }
}

impl Options {
    /// A data store of HealthLake (FHIR fact sheet 3): its paths, signed calls, and [`Behaviour::healthlake`].
    #[must_use]
    pub fn healthlake(key: AwsKey) -> Self {
        Self {
            aws: Some(key),
            path: "/datastore/0123456789abcdef0123456789abcdef/r4".into(),
            behaviour: Behaviour::healthlake(),
            ..Self::default()
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
        let auth = Auth::new(options.client_id, options.client_secret, options.refresh_token, options.client_key);
        let front = Front::new(options.seed, options.journal);
        let admission = match options.aws {
            Some(key) => Admission::Signed(key),
            None if options.open => Admission::Anybody,
            None => Admission::Token,
        };
        let path = options.path.clone();
        let world = World::new(front, options.path, admission, auth, options.behaviour);
        let inside = Arc::new(Inside::new(world));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let door = rest::open(&inside, tls).await?;
        let origin = format!("{scheme}://{}", door.address());
        let base_url = format!("{origin}{path}");
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
