//! An EHR without webhooks, over real HTTP, after ModMed's proprietary API for EMA (FHIR fact sheet 4.2): several firms behind one
//! address, an API key in a header with a quota that no header tells of, searches by whole days, totals of single pages, documents
//! only by patient and without content, files behind pre-signed addresses at another door, and drafts that can be posted and never read.
//!
//! What the fact sheet leaves open is a setting ([`Behaviour`]); where one reading is harsher for a caller, it is the default. What goes
//! wrong with a call is a fault, as with the [FHIR server](crate::fhir).
//!
//! Left out: tasks, appointments, charges, uploads, and conditions and their kin, which the relay does not ask for.
//!
//! Everything it holds is synthetic.

mod behaviour;
mod control;
pub mod day;
mod files;
mod paths;
mod search;
mod sign_in;
mod world;
mod writes;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use self::behaviour::{Behaviour, Refresh};
pub use self::control::{Control, FirmControl};
pub use self::writes::{Draft, Place};
pub use crate::rest::fault::{Canned, Delay, Fault, FaultId, Interaction, Lag, Matching, RetryAfter, Times, Wrong};
pub use crate::rest::front::{Entry, Tally};
pub use crate::rest::quota::{Counting, RateLimit, RateLimitHeader};
pub use crate::rest::{NotAResource, Written};

use self::world::World;
use crate::listen::Door;
use crate::rest::front::Front;
use crate::rest::{self, Inside};

/// System of the codes by which a firm sorts its documents.
pub const CATEGORY_SYSTEM: &str = "http://example.org/fhir/CodeSystem/synthetic-document-category";

/// How a server starts.
pub struct Options {
    /// The firms it serves.
    pub firms: Vec<Firm>,
    /// The API keys that it knows.
    pub keys: Vec<String>,
    /// Seed of the ids, tokens and signatures that it makes up.
    pub seed: u64,
    /// What the fact sheet leaves open.
    pub behaviour: Behaviour,
    /// How many calls the journal keeps.
    pub journal: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            firms: vec![Firm::synthetic("north", 0)],
            keys: vec!["synthetic-key".into()],
            seed: 1,
            behaviour: Behaviour::default(),
            journal: 1000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("firms", &self.firms.len()).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A firm, and who may sign in to it.
#[derive(Clone)]
pub struct Firm {
    /// Its part of the path: EMA's `firm_url_prefix`.
    pub name: String,
    /// For client credentials.
    pub client_id: String,
    /// For client credentials.
    pub client_secret: String,
    /// For the older password grant.
    pub username: String,
    /// For the older password grant.
    pub password: String,
    /// By which it sorts its documents: code and display.
    pub categories: Vec<(String, String)>,
}

impl Firm {
    /// A firm whose secrets follow from its name, and whose category codes from its number.
    #[must_use]
    pub fn synthetic(name: &str, number: usize) -> Self {
        Self {
            name: name.to_owned(),
            client_id: format!("relay-{name}"),
            client_secret: format!("synthetic-secret-{name}"),
            username: format!("fhir_{name}"),
            password: format!("synthetic-password-{name}"),
            categories: day::categories(number)
                .into_iter()
                .map(|category| (category.code, category.display.to_owned()))
                .collect(),
        }
    }
}

impl fmt::Debug for Firm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firm").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct EhrServer {
    control: Control,
    files: Door,
    origin: String,
}

impl EhrServer {
    /// Starts on 127.0.0.1, on two ports that the system chooses: one for the API, one for files.
    ///
    /// # Errors
    /// The system's error where no port can be had.
    pub async fn start(options: Options) -> io::Result<Self> {
        let front = Front::new(options.seed, options.journal);
        let inside = Arc::new(Inside::new(World::new(front, options.firms, options.keys, options.behaviour)));
        let door = rest::open(&inside, None).await?;
        let files = rest::open(&inside, None).await?;
        let origin = format!("http://{}", door.address());
        inside.act(|world| {
            world.origin.clone_from(&origin);
            world.files = format!("http://{}", files.address());
        });
        Ok(Self { control: Control { inside, door }, files, origin })
    }

    /// The FHIR base of a firm, without a slash at its end.
    #[must_use]
    pub fn base_url(&self, firm: &str) -> String {
        format!("{}{}", self.origin, paths::base(firm))
    }

    /// Where tokens are asked for with client credentials.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}{}", self.origin, paths::SINGLE_SIGN_ON)
    }

    /// Where tokens are asked for with a password or a refresh token: the older way.
    #[must_use]
    pub fn grant_url(&self, firm: &str) -> String {
        format!("{}{}", self.origin, paths::grant(firm))
    }

    /// A handle to act on it from inside.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Refuses connections at the door for files, until [`EhrServer::open_files`].
    pub async fn shut_files(&self) {
        self.files.shut().await;
    }

    /// Takes connections at the door for files again, on the same port.
    pub async fn open_files(&self) {
        self.files.reopen().await;
    }

    /// Ends it: once this returns, connections are refused.
    pub async fn stop(self) {
        self.control.door.close().await;
        self.files.close().await;
    }
}

impl Drop for EhrServer {
    fn drop(&mut self) {
        self.control.door.abandon();
        self.files.abandon();
    }
}
