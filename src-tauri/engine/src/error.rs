//! What can go wrong outside, in the only two terms that the engine and the window need: what to do about it ([`Class`]) and
//! what to say about it ([`Code`]). Adapters translate HTTP statuses, FileMaker codes and SQLite results into a [`Fault`];
//! nothing past an adapter looks at those again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What the engine does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passing trouble: try again with full jitter; counts as an attempt and spends the retry budget.
    Retry,
    /// Not our turn (record open in a window, quota, lease busy): try again no sooner than this; counts no attempt.
    Wait(Option<Duration>),
    /// The side does not answer: its connection waits and is probed; counts no attempt.
    Away,
    /// Connection or configuration at fault: the connection stops with a sentence until a probe passes; counts no attempt.
    Stop,
    /// The version we computed from has moved: read both sides and merge again.
    Stale,
    /// A write was sent and its outcome is not known: look before doing anything else.
    Unknown,
    /// This record will not pass without a person or a new version: dead-letter it at once.
    Permanent,
    /// Our own storage is at fault: stop the engine; nothing may be acknowledged.
    Fatal,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What to say about a fault; each has its sentence in `view`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            pub fn parse(text: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    // The message
    /// A queue message that is not a hint.
    Malformed = "malformed",
    /// The hint names a firm that is not configured here.
    UnknownFirm = "unknown-firm",
    /// The hint names a resource type without a mapping.
    NotMapped = "not-mapped",

    // The record
    RecordOpen = "record-open",
    RecordChanged = "record-changed",
    /// More than one row carries the key.
    DuplicateRows = "duplicate-rows",
    ValueRefused = "value-refused",
    FieldReadOnly = "field-read-only",
    /// A value cannot be carried over as the mapping asks (wrong type, wrong unit).
    ValueUnmappable = "value-unmappable",
    NotFound = "not-found",
    Gone = "gone",
    /// More than one resource carries an identifier that only one should have.
    SeveralMatches = "several-matches",
    /// The server gives no versions: a write to it could not be guarded.
    Unguarded = "unguarded",
    /// The row that we wrote is no longer there: the clinic deleted it.
    RowDeleted = "row-deleted",
    ParentMissing = "parent-missing",
    /// A clinic's own edit of a mapped field is kept.
    Differs = "differs",
    /// Both sides changed a field, and a person has to choose.
    Conflict = "conflict",
    /// One side keeps a value in a form of its own.
    Reshaped = "reshaped",
    /// One field was written again and again: something answers our writes.
    Looping = "looping",
    /// A side shows an older version than before.
    WentBack = "went-back",
    /// So many records are gone at once that nothing follows from it without a person.
    ManyDeleted = "many-deleted",
    /// A row may be about somebody who is in the chart already, and a person has to look.
    ProbableDouble = "probable-double",
    /// The row's FHIR id is none.
    KeyUnusable = "key-unusable",
    /// The row that a resource was made of does not have its id yet.
    RowUnlinked = "row-unlinked",
    /// The chart goes on under another patient.
    PatientMerged = "patient-merged",

    // The connection
    SignInRefused = "sign-in-refused",
    AccessDenied = "access-denied",
    FileClosed = "file-closed",
    LayoutMissing = "layout-missing",
    FieldMissing = "field-missing",
    ScriptMissing = "script-missing",
    LimitReached = "limit-reached",
    LicenceExpired = "licence-expired",
    HostFull = "host-full",
    Maintenance = "maintenance",
    DiskFull = "disk-full",
    FileDamaged = "file-damaged",
    Unreachable = "unreachable",
    CertificateRefused = "certificate-refused",
    NotAnswering = "not-answering",
    TimedOut = "timed-out",
    Throttled = "throttled",
    BadAnswer = "bad-answer",
    /// A web page in place of an answer: some box on the way has sent it.
    WebPage = "web-page",
    /// An answer that is longer than is read.
    TooLarge = "too-large",
    /// Pages of a list that lead in a circle, or nowhere.
    EndlessPages = "endless-pages",
    /// The next page of a list is said to be on another server.
    ForeignPage = "foreign-page",
    ServerError = "server-error",
    Rejected = "rejected",
    OutcomeUnknown = "outcome-unknown",
    UniquenessUnproven = "uniqueness-unproven",
    /// The layout lacks the fields by which changes are found.
    NotWatched = "not-watched",
    /// Time stamps are not of the host's clock.
    DeskClock = "desk-clock",
    /// Rows without a UUID.
    RowsUnnamed = "rows-unnamed",

    // The EHR
    /// A document that waits to be read by models.
    AwaitsModel = "awaits-model",
    /// A document of no encounter that is being followed.
    Unattached = "unattached",
    /// A document of no category that the firm has chosen.
    Unsorted = "unsorted",
    /// The EHR's own list lags behind what it holds, more than was allowed for.
    LateRows = "late-rows",

    // What stations share
    QueueMissing = "queue-missing",
    TableMissing = "table-missing",
    CredentialsMissing = "credentials-missing",
    /// Another computer takes part under this station's name.
    StationTaken = "station-taken",

    // The station
    LeaseBusy = "lease-busy",
    LeaseLost = "lease-lost",
    RetryBudgetSpent = "retry-budget-spent",
    Unexpected = "unexpected",
    DatabaseBusy = "database-busy",
    DatabaseFull = "database-full",
    DatabaseReadOnly = "database-read-only",
    DatabaseForeign = "database-foreign",
    DatabaseCorrupt = "database-corrupt",
    DatabaseKey = "database-key",
    DatabaseUnavailable = "database-unavailable",
    KeychainLocked = "keychain-locked",
    KeychainUnavailable = "keychain-unavailable",
    SecretMissing = "secret-missing",
    /// A firm whose clients could not be made at the start.
    NotSetUp = "not-set-up",

    // The person
    /// Sync now, while one is running.
    SyncRunning = "sync-running",
    /// The program is ending: nothing new begins.
    Stopping = "stopping",
    /// More records at once than a person may ask about.
    TooMany = "too-many",
    /// What was shown has changed meanwhile: there is nothing left to do about it.
    NoLonger = "no-longer",
    /// A side has changed since a person saw it: the decision was made on something else.
    MovedMeanwhile = "moved-meanwhile",
    /// There is no patient's name to show.
    Nameless = "nameless",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that went wrong outside. Holds no patient data: adapters put only codes and names from the configuration in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}{}{}", Suffix(" on ", .subject), Suffix(": ", .vendor))]
pub struct Fault {
    pub class: Class,
    pub code: Code,
    /// The layout, field or setting concerned, by its name in the configuration.
    pub subject: Option<String>,
    /// The vendor's own number for "Details for IT", such as `FileMaker 301` or `HTTP 503`.
    pub vendor: Option<String>,
}

struct Suffix<'a>(&'static str, &'a Option<String>);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(text) => write!(f, "{}{text}", self.0),
            None => Ok(()),
        }
    }
}

impl Fault {
    pub fn new(class: Class, code: Code) -> Self {
        Self { class, code, subject: None, vendor: None }
    }

    #[must_use]
    pub fn on(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    #[must_use]
    pub fn vendor(mut self, vendor: impl Into<String>) -> Self {
        self.vendor = Some(vendor.into());
        self
    }
}
