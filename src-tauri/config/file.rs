//! The configuration as it is written: the types that the file is read into and that its published schema is made of.
//!
//! Descriptions are read by people in their editors, so they give units, ranges and consequences. `x-form` names a check of
//! [`super::form`]; `x-from` and `x-to` bound a time. Every field has a default here, so that what is right in a file can be
//! read although something else is wrong; what must be given is listed as `required`.

mod ehr;
mod mapping;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::ehr::{Classes, Ehr, EhrSignIn, Plan, Quota, Window};
pub use self::ehr::{DocumentsOf, EhrFlavour};
pub use self::mapping::Shipped;
pub(super) use self::mapping::{
    Absent, DayOnly, Direction, Field, Form, Kind, Mapping, OnDelete, OneOrMore, OtherCodes, Owner,
};
use super::{shared::Shared, time::Time};

fn seconds(seconds: u64) -> Time {
    Time(std::time::Duration::from_secs(seconds))
}

/// The configuration of Chart Relay. Times are written with their unit, such as "30s", "5min" or "2h". No secret stands in
/// this file: only the names under which `chart-relay secret set NAME` keeps them in the keychain.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["firm"]))]
pub(super) struct File {
    /// The published schema, for editors. The program does not read it.
    #[serde(rename = "$schema")]
    pub(super) schema: Option<String>,
    pub(super) station: Station,
    pub(super) desk: Desk,
    pub(super) engine: Engine,
    /// Several stations share the work through this queue and ledger in AWS. Left out, this station works by itself.
    pub(super) shared: Option<Shared>,
    /// What API keys allow, one `[[quota]]` for each key.
    pub(super) quota: Vec<Quota>,
    /// The clinics that are served, one `[[firm]]` each.
    #[schemars(length(min = 1))]
    pub(super) firm: Vec<Firm>,
}

/// This installation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Station {
    /// What this station is called among those that share the work: 1 to 32 of a-z, 0-9 and -. It must differ on each.
    #[schemars(extend("x-form" = "slug"))]
    pub(super) id: String,
    /// Where the database and the logs are kept; by default the platform's own place for programs' data. A path that is not
    /// absolute is taken from the folder of this file.
    #[schemars(extend("x-form" = "text"))]
    pub(super) data_directory: Option<String>,
    /// How much is logged. No level logs anything of a patient.
    pub(super) log_level: LogLevel,
    /// Days after which a log file is deleted, 1 to 365.
    #[schemars(range(min = 1, max = 365))]
    pub(super) log_days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl Default for Station {
    fn default() -> Self {
        Self { id: "station-1".into(), data_directory: None, log_level: LogLevel::Info, log_days: 30 }
    }
}

/// The desk at which this station stands: what the tray and the window do there. The program without a window reads none of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Desk {
    /// What the person at this desk does, and so what the window offers. A guard rail, not a wall: whoever may use the account can
    /// use the commands too.
    pub(super) role: Role,
    /// Names of patients are hidden from the start, and each is shown only when somebody asks for it.
    pub(super) privacy: bool,
    /// The window locks after so long without a key or a click; "0s": never.
    #[schemars(extend("x-from" = "0s", "x-to" = "8h"))]
    pub(super) lock_after: Time,
    /// When the clinic opens, by the clock on the wall: hours and minutes. Outside the opening hours nobody is notified of an outage.
    #[schemars(extend("x-form" = "clock"))]
    pub(super) opens: String,
    /// When it closes; a pause "until closing time" ends then. Not later than `opens` means: on the next day.
    #[schemars(extend("x-form" = "clock"))]
    pub(super) closes: String,
    /// Start when this account signs in to the PC.
    pub(super) autostart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// Syncs, pauses for an hour at most, tries again and sets aside up to ten records at once.
    FrontDesk,
    /// The same for any number of records, and pauses until closing time.
    Manager,
    /// Syncs and looks.
    Clinician,
    /// Everything, with the details.
    It,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            role: Role::FrontDesk,
            privacy: true,
            lock_after: seconds(5 * 60),
            opens: "08:00".into(),
            closes: "18:00".into(),
            autostart: true,
        }
    }
}

/// How the work is done. The defaults suit a clinic; nothing here must be given.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Engine {
    /// Records worked on at the same time on this station, 1 to 64. More than all FileMaker sessions together only wait.
    #[schemars(range(min = 1, max = 64))]
    pub(super) runs: usize,
    /// Messages taken from the queue at once, 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub(super) receive_batch: usize,
    /// How long the right to change a record lasts without renewal. It is renewed at a third of it; a station that
    /// vanishes holds its records up for this long.
    #[schemars(extend("x-from" = "10s", "x-to" = "10min"))]
    pub(super) lease_term: Time,
    /// How long a message that was taken stays hidden from others without renewal. It is renewed at a third of it.
    #[schemars(extend("x-from" = "10s", "x-to" = "12h"))]
    pub(super) visibility: Time,
    /// Failed attempts after which a record is put aside for a person, 1 to 100. Waiting (for a record that is open, a side
    /// that is away, a quota) is not an attempt.
    #[schemars(range(min = 1, max = 100))]
    pub(super) attempts: u32,
    /// The wait after the first failed attempt; it doubles with each, by chance shortened.
    #[schemars(extend("x-from" = "100ms", "x-to" = "5min"))]
    pub(super) backoff_first: Time,
    /// The longest wait between two attempts.
    #[schemars(extend("x-from" = "1s", "x-to" = "1h"))]
    pub(super) backoff_longest: Time,
    /// Between tries at a record that somebody has open in FileMaker.
    #[schemars(extend("x-from" = "5s", "x-to" = "30min"))]
    pub(super) record_open_retry: Time,
    /// How long a resource that was announced may stay invisible on the FHIR server before it counts as not there.
    #[schemars(extend("x-from" = "10s", "x-to" = "24h"))]
    pub(super) not_found_patience: Time,
    /// How long the program waits at its end for what is under way.
    #[schemars(extend("x-from" = "1s", "x-to" = "5min"))]
    pub(super) drain_grace: Time,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            runs: 16,
            receive_batch: 10,
            lease_term: seconds(30),
            visibility: seconds(60),
            attempts: 8,
            backoff_first: seconds(1),
            backoff_longest: seconds(5 * 60),
            record_open_retry: seconds(60),
            not_found_patience: seconds(10 * 60),
            drain_grace: seconds(20),
        }
    }
}

fn yes() -> bool {
    true
}

/// One clinic: with `fhir`, `filemaker` and `mapping` what is kept in step, with `ehr` what is watched, or both.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend(
    "required" = ["id", "time-zone"],
    "dependencies" = {"fhir": ["filemaker", "mapping"], "filemaker": ["fhir", "mapping"], "mapping": ["fhir", "filemaker"]}
))]
pub(super) struct Firm {
    /// What the clinic is called in records and logs: 1 to 32 of a-z, 0-9 and -. It must not change afterwards.
    #[schemars(extend("x-form" = "slug"), example = &"north")]
    pub(super) id: String,
    /// What it is called on the screen; the id if left out.
    #[schemars(extend("x-form" = "text"))]
    pub(super) name: Option<String>,
    /// The clinic's time zone by its IANA name. FileMaker keeps local times without a zone; this says which local time it is.
    #[schemars(extend("x-form" = "time-zone"), example = &"America/New_York")]
    pub(super) time_zone: String,
    /// Whether what the clinic changes in FileMaker goes to the chart, too, where a mapping names the fields that this takes
    /// (`changes`).
    #[serde(default = "yes")]
    pub(super) both_ways: bool,
    pub(super) fhir: Option<Fhir>,
    pub(super) filemaker: Option<FileMaker>,
    /// What is kept in step, one `[[firm.mapping]]` for each resource type; see docs/mapping.md.
    #[schemars(length(min = 1))]
    pub(super) mapping: Vec<Mapping>,
    pub(super) ehr: Option<Ehr>,
}

/// The clinic's FHIR R4 server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["base-url"]))]
pub(super) struct Fhir {
    /// Its base address: https, or http on this machine only.
    #[schemars(extend("x-form" = "url"), example = &"https://chart.example/fhir/R4")]
    pub(super) base_url: String,
    /// Other base addresses under which it names its own resources in absolute references.
    #[schemars(extend("x-form" = "url"))]
    pub(super) also_known_as: Vec<String>,
    /// Which server it is.
    pub(super) flavour: Flavour,
    /// Where access tokens are fetched (OAuth 2 client credentials). With `client-id` and `secret`, or none of the three: a
    /// server on this machine may need no sign-in.
    #[schemars(extend("x-form" = "url"))]
    pub(super) token_url: Option<String>,
    /// The client id that the server gave the relay.
    #[schemars(extend("x-form" = "text"))]
    pub(super) client_id: Option<String>,
    /// The name of the client secret in the keychain; `chart-relay secret set NAME` puts it there.
    #[schemars(extend("x-form" = "secret-name"))]
    pub(super) secret: Option<String>,
    /// How the client secret is sent: in the `Authorization` header or in the body of the request.
    pub(super) secret_in: SecretIn,
    /// The scopes to ask for, separated by spaces; those that the server grants by itself if left out.
    #[schemars(extend("x-form" = "text"))]
    pub(super) scope: Option<String>,
    /// A file with the certificates (PEM) of the authority that the server's certificate is from; the operating system's if left
    /// out. A path that is not absolute is taken from the folder of this file.
    #[schemars(extend("x-form" = "text"))]
    pub(super) ca_file: Option<String>,
    /// The SHA-256 fingerprint of the one certificate to trust, 64 hexadecimal digits.
    #[schemars(extend("x-form" = "fingerprint"))]
    pub(super) fingerprint: Option<String>,
    /// How long one call may take, answer included.
    #[schemars(extend("x-from" = "1s", "x-to" = "10min"))]
    pub(super) timeout: Time,
    /// Rows per page of a list of changes, 1 to 1000; the flavour's own figure if left out.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) page: Option<u32>,
    /// Between two looks for changes.
    #[schemars(extend("x-from" = "1s", "x-to" = "1h"))]
    pub(super) poll_every: Time,
    /// How far back each look goes over what was seen already: longer than the server's longest transaction, for a change becomes
    /// visible only when its transaction ends.
    #[schemars(extend("x-from" = "10s", "x-to" = "24h"))]
    pub(super) overlap: Time,
    /// How far the looks stay behind the server's clock.
    #[schemars(extend("x-from" = "0s", "x-to" = "1h"))]
    pub(super) settle: Time,
    /// Between two full comparisons, which find what no look has seen.
    #[schemars(extend("x-from" = "1min", "x-to" = "7d"))]
    pub(super) sweep_every: Time,
    /// Between two probes of a connection that nothing else has used.
    #[schemars(extend("x-from" = "5s", "x-to" = "10min"))]
    pub(super) probe_every: Time,
    /// Listen at a WebSocket for what the server tells by itself, where it can (Medplum). The looks for changes go on beside it.
    pub(super) websocket: bool,
    /// Rest-hooks, for `chart-relay subscription`.
    pub(super) hook: Option<Hook>,
}

/// Where the server is to send its rest-hooks: an address outside this machine that puts hints into the shared queue, see
/// docs/messages.md.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["endpoint", "secret"]))]
pub(super) struct Hook {
    /// The address, such as that of the API that `chart-relay provision --print apigateway` describes.
    #[schemars(extend("x-form" = "url"), example = &"https://abc.execute-api.us-east-1.amazonaws.com/v1/hook/north")]
    pub(super) endpoint: String,
    /// The name of the key in the keychain that lets a hook in; it is sent as `x-api-key`.
    #[schemars(extend("x-form" = "secret-name"), example = &"north-hook")]
    pub(super) secret: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    Generic,
    Medplum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretIn {
    Header,
    Body,
}

impl Default for Fhir {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            also_known_as: Vec::new(),
            flavour: Flavour::Generic,
            token_url: None,
            client_id: None,
            secret: None,
            secret_in: SecretIn::Header,
            scope: None,
            ca_file: None,
            fingerprint: None,
            timeout: seconds(60),
            page: None,
            poll_every: seconds(10),
            overlap: seconds(5 * 60),
            settle: seconds(2 * 60),
            sweep_every: seconds(60 * 60),
            probe_every: seconds(20),
            websocket: false,
            hook: None,
        }
    }
}

/// The clinic's FileMaker Server, through its Data API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["url", "database", "account", "password"]))]
pub(super) struct FileMaker {
    /// The server's address: https, or http on this machine only.
    #[schemars(extend("x-form" = "url"), example = &"https://filemaker.clinic.example")]
    pub(super) url: String,
    /// The file's name without `.fmp12`; capitals count.
    #[schemars(extend("x-form" = "text"), example = &"Clinic")]
    pub(super) database: String,
    /// An account with the extended privilege `fmrest`: printable ASCII without a colon.
    #[schemars(extend("x-form" = "account"), example = &"relay")]
    pub(super) account: String,
    /// The name of the account's password in the keychain; `chart-relay secret set NAME` puts it there.
    #[schemars(extend("x-form" = "secret-name"), example = &"north-filemaker")]
    pub(super) password: String,
    /// Sessions at the same time, 1 to 32. Each takes room on the host and works on one call at a time.
    #[schemars(range(min = 1, max = 32))]
    pub(super) sessions: usize,
    /// A file with the certificates (PEM) of the authority that the server's certificate is from; the operating system's if left
    /// out. A path that is not absolute is taken from the folder of this file.
    #[schemars(extend("x-form" = "text"))]
    pub(super) ca_file: Option<String>,
    /// The SHA-256 fingerprint of the one certificate to trust, 64 hexadecimal digits: for a server whose certificate is its own.
    #[schemars(extend("x-form" = "fingerprint"))]
    pub(super) fingerprint: Option<String>,
    /// How long a connection may take to come about.
    #[schemars(extend("x-from" = "1s", "x-to" = "2min"))]
    pub(super) connect_timeout: Time,
    /// How long a call may take with everything. A host pauses at the end of a backup, so more than a minute is wise.
    #[schemars(extend("x-from" = "1s", "x-to" = "10min"))]
    pub(super) read_timeout: Time,
    /// Speak HTTP/1.1 only: some web servers before FileMaker break HTTP/2 off uncleanly.
    pub(super) http1_only: bool,
    /// A session is exchanged for a new one after so many writes, 1 to 100000: FileMaker's sessions grow slow with age.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) exchange_after_writes: u32,
    /// A session is exchanged for a new one after so long.
    #[schemars(extend("x-from" = "1min", "x-to" = "24h"))]
    pub(super) exchange_after: Time,
    /// Between two looks for what the clinic changed.
    #[schemars(extend("x-from" = "1s", "x-to" = "1h"))]
    pub(super) poll_every: Time,
    /// How far back each look goes over what was seen already: longer than anybody keeps a record open, for its time stamp may be
    /// older than its commit.
    #[schemars(extend("x-from" = "10s", "x-to" = "24h"))]
    pub(super) overlap: Time,
    /// How far the looks stay behind the host's clock.
    #[schemars(extend("x-from" = "0s", "x-to" = "1h"))]
    pub(super) settle: Time,
    /// Between two full comparisons, which find what was deleted and what no look has seen.
    #[schemars(extend("x-from" = "1min", "x-to" = "7d"))]
    pub(super) sweep_every: Time,
    /// When more rows than this are missing at once, nothing follows from it until a person says so: 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) delete_brake_rows: u64,
    /// The same for a share of all linked rows, and at least 3 of them: 1 to 100 per cent.
    #[schemars(range(min = 1, max = 100))]
    pub(super) delete_brake_percent: u64,
}

impl Default for FileMaker {
    fn default() -> Self {
        Self {
            url: String::new(),
            database: String::new(),
            account: String::new(),
            password: String::new(),
            sessions: 2,
            ca_file: None,
            fingerprint: None,
            connect_timeout: seconds(10),
            read_timeout: seconds(90),
            http1_only: false,
            exchange_after_writes: 500,
            exchange_after: seconds(60 * 60),
            poll_every: seconds(10),
            overlap: seconds(5 * 60),
            settle: seconds(2 * 60),
            sweep_every: seconds(60 * 60),
            delete_brake_rows: 10,
            delete_brake_percent: 2,
        }
    }
}
