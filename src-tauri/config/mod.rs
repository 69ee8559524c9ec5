//! The configuration: one TOML file, read as a whole. Either it is right, or every mistake in it is told at once, each with its
//! place, what was expected and the mend; nothing is started on half a configuration.
//!
//! `document` knows where everything stands, `schema` checks each part by itself, `resolve` and `mapping` check what parts mean
//! to each other and make the types that the rest of the program works with.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    key::{FirmId, StationId},
    mapping::Mapping,
    retry::Backoff,
    settings::{self, Brake, PollPlan},
};
use jiff::tz::TimeZone;
use url::Url;

mod definition;
mod document;
mod ehr;
mod file;
mod form;
mod mapping;
mod resolve;
mod schema;
mod shared;
mod time;

pub use definition::Definition;
pub use ehr::{DocumentsOf, Ehr, EhrFlavour, EhrSignIn, Quota, Watched};
pub use file::{Flavour, LogLevel, SecretIn, Shipped};

use crate::{secrets::SecretName, view::desk::Settings};
use document::{Document, Way, position};
use form::Wrong;

/// A configuration in which everything fits together.
#[derive(Debug, Clone)]
pub struct Config {
    pub station: Station,
    pub desk: Settings,
    pub engine: Engine,
    /// `None`: this station works by itself.
    pub shared: Option<Shared>,
    /// Those that are kept in step, each with its own id.
    pub firms: Vec<Firm>,
    /// Those whose EHR is watched; one may be in both lists.
    pub watched: Vec<Watched>,
    pub quotas: Vec<Quota>,
}

#[derive(Debug, Clone)]
pub struct Station {
    pub id: StationId,
    /// `None`: [`data_directory`].
    pub data_directory: Option<PathBuf>,
    pub log_level: LogLevel,
    pub log_days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine {
    pub runs: usize,
    pub receive_batch: usize,
    pub lease_term: Duration,
    /// At least the lease's term.
    pub visibility: Duration,
    pub attempts: u32,
    pub backoff: Backoff,
    pub record_open_retry: Duration,
    pub not_found_patience: Duration,
    pub drain_grace: Duration,
}

impl Engine {
    /// Puts what is configured into the engine's settings (visibility is the queue's).
    pub fn apply(&self, settings: &mut settings::Settings) {
        settings.runs = self.runs;
        settings.receive_batch = self.receive_batch;
        settings.lease_term = self.lease_term;
        settings.attempts = self.attempts;
        settings.backoff = self.backoff;
        settings.record_open_retry = self.record_open_retry;
        settings.not_found_patience = self.not_found_patience;
        settings.drain_grace = self.drain_grace;
    }
}

/// What stations share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// `None`: what the environment says.
    pub region: Option<String>,
    pub endpoint: Option<Url>,
    pub queue: String,
    pub prefix: String,
    /// Its id and the name of its secret; `None`: AWS's default chain.
    pub access_key: Option<(String, SecretName)>,
    /// Whose a message is that names no clinic.
    pub default_firm: Option<FirmId>,
    /// `None`: AWS's own keys.
    pub kms_key: Option<String>,
    pub roles: Roles,
}

/// ARNs of the roles that are taken on; `None`: the credentials as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    pub sync: Option<String>,
    pub viewer: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Firm {
    pub id: FirmId,
    /// For the screen.
    pub name: String,
    pub zone: TimeZone,
    pub plan: PollPlan,
    /// How the clinic's database is watched.
    pub rows: PollPlan,
    pub brake: Brake,
    pub fhir: Fhir,
    pub filemaker: FileMaker,
    /// At least one resource type.
    pub mapping: Mapping,
}

#[derive(Debug, Clone)]
pub struct Fhir {
    pub base_url: Url,
    pub flavour: Flavour,
    /// `None` only for a server on this machine.
    pub sign_in: Option<SignIn>,
    pub trust: Trust,
    pub timeout: Duration,
    pub page: Option<u32>,
    /// Whether to listen for what the server tells by itself.
    pub websocket: bool,
    /// Where its rest-hooks go, and the name of the key that lets them in.
    pub hook: Option<(Url, SecretName)>,
}

/// OAuth 2 client credentials.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub token_url: Url,
    pub client_id: String,
    pub secret: SecretName,
    pub secret_in: SecretIn,
    pub scope: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    System,
    /// A PEM file with an authority's certificates.
    Authority(PathBuf),
    /// What is in such a file, where another station has it.
    Certificates(String),
    /// A SHA-256 fingerprint, 64 hexadecimal digits with or without colons.
    Pin(String),
}

#[derive(Debug, Clone)]
pub struct FileMaker {
    pub url: Url,
    pub database: String,
    pub account: String,
    pub password: SecretName,
    pub sessions: usize,
    pub trust: Trust,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
    pub http1_only: bool,
    pub exchange_after_writes: u32,
    pub exchange_after: Duration,
}

/// One mistake in the file. It never repeats a value: a person may have put a secret there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Which setting, such as `firm.filemaker.sessions`; empty for the file as a whole.
    pub setting: String,
    pub expected: String,
    pub mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        write!(f, "expected {}. {}", self.expected, self.mend)?;
        if self.mend.ends_with(['.', '?', '!']) { Ok(()) } else { f.write_str(".") }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("There is no configuration at {}. docs/example.toml shows one; name another place with --config FILE.", .0.display())]
    Missing(PathBuf),
    #[error("The configuration at {} cannot be read: {}. Make it readable for the account that the program runs under.", .0.display(), .1)]
    Unreadable(PathBuf, io::ErrorKind),
    #[error("The configuration at {} is not UTF-8 text. Save it as UTF-8 in your editor.", .0.display())]
    NotText(PathBuf),
    #[error("{}", Listed(.file, .mistakes))]
    Mistaken {
        file: PathBuf,
        /// In order of place, at least one.
        mistakes: Vec<Mistake>,
    },
}

struct Listed<'a>(&'a PathBuf, &'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.1.len();
        let what = if count == 1 { "is one thing".to_owned() } else { format!("are {count} things") };
        write!(f, "There {what} to put right in {}; nothing was started.", self.0.display())?;
        self.1.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or holds mistakes: then all of them.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing(file.into()),
            kind => ConfigError::Unreadable(file.into(), kind),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText(file.into()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        // Editors on Windows may put a mark of the byte order first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Self::parse(text, folder).map_err(|mistakes| ConfigError::Mistaken { file: file.into(), mistakes })
    }

    /// Reads a configuration; paths in it are taken from `folder`. Looks at no other file.
    ///
    /// # Errors
    /// All mistakes, in order of place.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let (mut document, errors) = Document::read(text);
        let mut mistakes = Mistakes { text, list: Vec::new(), ways: Vec::new() };
        for error in &errors {
            let mend = "Text in quotation marks, one setting a line, each name once, sections in [ ]";
            mistakes.add(error.offset, &[], form::wrong(format!("TOML: {}", error.message), mend));
        }
        // What is not TOML may have swallowed what stands behind it; to call that missing would only lead astray.
        if !errors.is_empty() {
            return Err(mistakes.sorted());
        }
        schema::check(&mut document, &mut mistakes);
        let config = match serde_json::from_value::<file::File>(document.tree.clone()) {
            Ok(file) => resolve::resolve(file, folder, &document, &mut mistakes),
            Err(error) => {
                // The schema is made of the same types, so this is a fault of ours; it is told all the same.
                let wrong = form::wrong(format!("another form: {error}"), "Compare with docs/example.toml");
                mistakes.add(0, &[], wrong);
                None
            }
        };
        match config {
            Some(config) if mistakes.list.is_empty() => Ok(config),
            _ => Err(mistakes.sorted()),
        }
    }

    /// Where the configuration is looked for if no place is named: `config.toml` in the platform's folder for settings.
    /// `None` for an account without a home.
    pub fn usual_place() -> Option<PathBuf> {
        Some(places()?.config_dir().join("config.toml"))
    }
}

/// Where the database and the logs are kept if nothing else is configured. `None` for an account without a home.
pub fn data_directory() -> Option<PathBuf> {
    Some(places()?.data_local_dir().to_owned())
}

fn places() -> Option<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "chart-relay")
}

/// A shipped mapping in the form that the engine works with, for `use`, for demos and for tests.
pub fn shipped(which: Shipped) -> engine::mapping::ResourceMapping {
    mapping::shipped(which)
}

/// The published JSON Schema.
pub fn json_schema() -> String {
    format!("{:#}\n", schema::schema())
}

/// Collects mistakes.
struct Mistakes<'a> {
    text: &'a str,
    list: Vec<Mistake>,
    ways: Vec<Way>,
}

impl Mistakes<'_> {
    fn add(&mut self, offset: usize, way: &[String], wrong: Wrong) {
        let (line, column) = position(self.text, offset);
        let setting: Vec<&str> =
            way.iter().filter(|key| !key.bytes().all(|b| b.is_ascii_digit())).map(String::as_str).collect();
        let Wrong { expected, mend } = wrong;
        self.list.push(Mistake { line, column, setting: setting.join("."), expected, mend });
        self.ways.push(way.to_vec());
    }

    /// Whether something was found at this part or inside it: what follows from that needs no mistake of its own.
    fn known(&self, way: &[String]) -> bool {
        self.ways.iter().any(|known| known.starts_with(way))
    }

    fn sorted(mut self) -> Vec<Mistake> {
        self.list.sort_by_key(|mistake| (mistake.line, mistake.column));
        let mut seen = BTreeSet::new();
        self.list.retain(|mistake| seen.insert(mistake.to_string()));
        self.list
    }
}

#[cfg(test)]
mod shipped_tests;
#[cfg(test)]
mod tests;
