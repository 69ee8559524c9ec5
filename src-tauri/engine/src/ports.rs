//! The doors to the outside. Each has two real adapters and an in-memory fake, and all pass one contract suite
//! (`tests/contract`). Vendor types stop behind them; every error is a [`Fault`].

mod ehr;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
};
use serde_json::Value as Json;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use crate::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::Fault,
    key::{FirmId, Kind, RecordKey, ResourceId, ResourceType, RowUuid},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Record, Survey, Take, Want},
    row::{Fields, ModId, Row, RowId, Table},
    server_clock::Heard,
};

pub use self::ehr::{
    Budget, Category, Coding, Document, DocumentStatus, Documents, Ehr, EhrFactory, Encounter, EncounterStatus,
    Encounters, Grant, Granted, Manners, Purpose, Reach, Said, SignIn, Unlimited, Vault, Wish,
};

/// Time is an input. Sleeping is tokio's, which tests pause.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall clock; may be wrong and may jump. Shown and stored, never used to decide who may write.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment, running on through suspend.
    fn elapsed(&self) -> Duration;
}

/// A message to be sent. `id` is unique per event.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    /// Messages of one group are about one entity; a FIFO queue keeps their order.
    pub group: String,
    pub body: String,
}

/// The right to acknowledge one receipt of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub String);

/// One receipt of a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: String,
    pub body: String,
    pub receipt: Receipt,
    pub first_sent: Timestamp,
    /// This receipt included.
    pub receives: u32,
}

/// The queue in figures; "about" where a vendor only estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub waiting: u64,
    pub in_flight: u64,
}

/// At-least-once, durable on return, unordered between groups.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Durable when it returns. Where it fails, some may have been sent: sending all again does no harm.
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault>;
    /// Up to `max` messages, waiting up to `wait` for the first. Each stays invisible for [`Queue::visibility`].
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault>;
    /// Deletes deliveries for good. Answers with those known not to be deleted (receipt no longer valid): they come again. SQS does
    /// not tell of all of them.
    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault>;
    /// Keeps deliveries invisible for another [`Queue::visibility`]. Answers with those that are no longer ours.
    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault>;
    /// Makes deliveries visible again at once.
    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault>;
    async fn depth(&self) -> Result<Depth, Fault>;
    /// What the server's clock said when it last answered, where it says so.
    fn server_clock(&self) -> Option<Heard> {
        None
    }
    /// Whether [`Queue::depth`] counts. Where it only estimates, nothing but an empty receive proves that nothing waits.
    fn counts_exactly(&self) -> bool {
        true
    }
    /// How many messages a request should carry, where each request has its price.
    fn batch(&self) -> usize {
        1
    }
    fn visibility(&self) -> Duration;
}

/// See [`crate::ledger`] for what a lease is.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Takes the lease, creating the record if there is none, and raises the epoch (beat 0). Succeeds if the lease is free, if it is
    /// this station's own (an earlier boot's, or one whose answer was lost: a station never runs a key twice at once), or if
    /// its stamp still is `claim.overdue`.
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault>;
    /// Raises the beat of each lease that is still the caller's; false where it no longer is.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault>;
    /// Writes the state and keeps the lease.
    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError>;
    /// Writes state and end of the run, and frees the lease, in one step. True if the record is wanted now (it was
    /// marked again since the run began, or the run ended with `Later`).
    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError>;
    /// Marks records wanted, without any lease, creating them where absent: generation + 1, the earlier of both `first_seen`, the
    /// earlier of both `not_before`. A dead record is wanted again. Durable when it returns.
    async fn want(&self, wants: &[Want]) -> Result<(), Fault>;
    /// A firm's wanted records of these kinds that are due, with their `first_seen`: `not_before <= now`, or further ahead than `horizon`, which
    /// only a wrong clock can have written. The latter come first, then the earliest `not_before`, so that one that keeps waiting
    /// does not keep others out. Whether they are leased makes no difference; dead ones are never due.
    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault>;
    /// Firms of which something that is run is wanted (or was), that are none of `ours`, and that no other station serves: nobody would ever run
    /// it.
    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault>;
    /// All leases held, for whoever watches for overdue ones. One that was never renewed may be missing where it costs a write
    /// to list it, unless this station has met it.
    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault>;
    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault>;
    /// Those of these records that are there, in this order.
    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(self.read(key).await?);
        }
        Ok(found)
    }
    /// Records in order of key, `after` excluded: of listed kinds, and what is wanted, dead or remarked of kinds that are run.
    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault>;
    /// How many records [`Ledger::page`] would list in all.
    async fn count(&self, filter: Filter) -> Result<u64, Fault>;
    async fn survey(&self) -> Result<Survey, Fault>;
    /// Puts dead records aside (or back). Records that are not dead stay as they are.
    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault>;
    /// Keeps that a message could not be read. The same id again changes nothing.
    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault>;
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault>;
    /// Forgets dead letters, because they were sent again or thrown away by a person.
    async fn unbury(&self, ids: &[String]) -> Result<(), Fault>;
}

/// Append-only and always local. If it cannot be written, nothing else may run: its faults are [`crate::error::Class::Fatal`].
#[async_trait]
pub trait AuditLog: Send + Sync + fmt::Debug {
    /// On disk when it returns.
    async fn begin(&self, entry: Begun) -> Result<AuditId, Fault>;
    /// Resolves a begun entry by a later one that refers to it. A second resolution of one entry is refused.
    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault>;
    /// Begun and never resolved.
    async fn open(&self) -> Result<Vec<Entry>, Fault>;
    /// The newest that fit, in full. A rare thing in a long log takes several searches: see [`Found::next`].
    async fn search(&self, search: &Search) -> Result<Found, Fault>;
}

/// What the station itself remembers across restarts: small texts under names. No patient data, and nothing that another station
/// must know.
#[async_trait]
pub trait Notes: Send + Sync + fmt::Debug {
    async fn read(&self, name: &str) -> Result<Option<String>, Fault>;
    /// Durable when it returns. `None` forgets.
    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), Fault>;
}

/// A FHIR resource of one version. Patient data: it cannot be printed.
#[derive(Clone, PartialEq)]
pub struct Resource {
    pub resource: ResourceType,
    pub id: ResourceId,
    pub version: String,
    /// When the server says that this version was made.
    pub last_updated: Option<Timestamp>,
    pub json: Json,
}

/// A business identifier. Patient data: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Identifier {
    pub system: String,
    pub value: String,
}

/// By what resources are looked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Matching {
    Identifier(Identifier),
    /// Patients born on this day under this family name, whatever its capitals and accents: candidates for a person to judge.
    Birth {
        day: Date,
        family: String,
    },
}

impl Matching {
    /// Whether a resource is one of those looked for.
    pub fn fits(&self, resource: &Json) -> bool {
        match self {
            Matching::Identifier(wanted) => {
                each(&resource["identifier"]).iter().chain(each(&resource["masterIdentifier"])).any(|identifier| {
                    identifier["system"].as_str().unwrap_or_default() == wanted.system
                        && identifier["value"].as_str() == Some(&wanted.value)
                })
            }
            Matching::Birth { day, family } => {
                let names = each(&resource["name"]).iter().filter_map(|name| name["family"].as_str());
                resource["birthDate"] == day.to_string()
                    && names.map(plain_letters).any(|name| name == plain_letters(family))
            }
        }
    }
}

/// A list's items, or the one that is not in a list.
fn each(element: &Json) -> &[Json] {
    match element {
        Json::Array(items) => items,
        Json::Null => &[],
        one => std::slice::from_ref(one),
    }
}

fn plain_letters(name: &str) -> String {
    name.trim().nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
}

/// A resource that is there now, made by this call or found with its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub id: ResourceId,
    pub version: String,
    /// It was there before.
    pub existed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    Found(Resource),
    /// Deleted (410).
    Gone,
    /// Not there (404): never was, or not yet visible.
    Missing,
}

/// One line of a change list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: ResourceId,
    pub version: String,
    pub last_updated: Timestamp,
}

/// Where to go on; opaque.
#[derive(Clone, PartialEq, Eq)]
pub struct PageToken(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub changes: Vec<Change>,
    pub next: Option<PageToken>,
    /// The server's own clock when it answered.
    pub server_time: Option<Timestamp>,
}

#[async_trait]
pub trait FhirServer: Send + Sync + fmt::Debug {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault>;
    /// The resource as it was in this version; none where the server keeps no history, or not of that.
    async fn read_version(
        &self,
        _resource: &ResourceType,
        _id: &ResourceId,
        _version: &str,
    ) -> Result<Option<Resource>, Fault> {
        Ok(None)
    }
    /// One page of what changed at or after `since` (everything if `None`), in ascending order of `last_updated`.
    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault>;
    /// Replaces a resource by `json`, the whole of it, if it still has the version `expected`: else `Stale` / `RecordChanged`.
    /// Answers with its new version. What the server keeps may differ from what it was sent.
    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault>;
    /// Creates a resource that carries `identifier`, unless one with it is there: then it answers with that. More than one is
    /// `Permanent` / `SeveralMatches`. After a lost answer the same call again does no harm.
    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault>;
    /// Whole resources, 50 at most. A search may know less than a read.
    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault>;
    /// The cheapest call that proves the connection and the sign-in.
    async fn probe(&self) -> Result<(), Fault>;
    /// How long after a write was given up on it may still land. Past that, an unknown outcome is settled by looking once.
    fn write_horizon(&self) -> Duration;
    /// What the server's clock said when it last answered, where it says so.
    fn server_clock(&self) -> Option<Heard> {
        None
    }
    /// Why this station cannot serve the firm at all, known from the start.
    fn unavailable(&self) -> Option<Fault> {
        None
    }
}

/// One line of a list of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// As in [`Row`].
    pub uuid: Option<RowUuid>,
    /// As in [`Row`].
    pub key: Option<String>,
    pub mod_id: ModId,
    /// As in [`Row`].
    pub modified: Option<DateTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChanges {
    pub changes: Vec<RowChange>,
    pub next: Option<PageToken>,
    /// The host's own clock when it answered.
    pub host_time: Option<Timestamp>,
}

#[async_trait]
pub trait ClinicDatabase: Send + Sync + fmt::Debug {
    /// The one row whose key field equals `key` byte for byte; more than one is [`crate::error::Code::DuplicateRows`].
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault>;
    /// The one row of this UUID, byte for byte; more than one is [`crate::error::Code::DuplicateRows`]. A table without
    /// [`Table::changes`], or whose layout lacks them, is `Stop` / `FieldMissing`.
    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault>;
    /// One page of the rows that carry a time stamp of `since` or later, in ascending order of it; every row of the table, in any
    /// order, if `None`. A row that is changed or deleted meanwhile may make another one be left out of this walk: what follows
    /// from a row's absence is decided by looking for it. Faults as [`ClinicDatabase::find_row`].
    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault>;
    /// Rows, 50 at most, in which all these fields hold what is named here. A find may give more than that: whoever asks
    /// compares.
    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault>;
    /// Creates a row. The database's unique key guards it: a second one is `Stale` / `RecordChanged`.
    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault>;
    /// Changes only these fields, and only if the row still has this version: else `Stale` / `RecordChanged`.
    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault>;
    /// Writes the FHIR id into a row that has none, guarded as [`ClinicDatabase::edit`] and by the unique key: another row that has
    /// it is `Stale` / `RecordChanged` too.
    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault>;
    async fn probe(&self) -> Result<(), Fault>;
    /// How long after a write was given up on it may still land. Past that, an unknown outcome is settled by looking once.
    fn write_horizon(&self) -> Duration;
    /// What the server's clock said when it last answered, where it says so.
    fn server_clock(&self) -> Option<Heard> {
        None
    }
}

macro_rules! redacted {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    )*};
}

redacted! {
    Message { id }
    Delivery { id, receives }
    Resource { resource, id, version }
    Identifier { system }
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Matching::Identifier(_) => "Identifier(..)",
            Matching::Birth { .. } => "Birth(..)",
        })
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageToken(..)")
    }
}

/// What serves one firm.
#[derive(Debug, Clone)]
pub struct FirmPorts {
    pub fhir: Arc<dyn FhirServer>,
    pub clinic: Arc<dyn ClinicDatabase>,
}
