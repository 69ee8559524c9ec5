//! The ledger: one leased record for everything the relay works on.
//!
//! A record is changed only under its lease. Taking the lease answers with the record and raises its epoch, the fencing
//! token; every later change is conditional on (owner, epoch). A lease carries its length and never a time of day: whoever waits
//! for one that nobody renews watches its [`Stamp`] stand still for that length on a clock of their own, and then takes it over
//! by naming the stamp they watched. No two hosts' clocks are ever compared.
//!
//! A record can be *wanted* without its lease: a mark that it must be run, with a generation that tells a run whether
//! something happened since it began.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Fault},
    key::{BootId, RecordKey, StationId},
};

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub station: StationId,
    pub boot: BootId,
}

/// A lease's sign of life: `epoch` rises by one at each take, `beat` at each renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: u64,
    pub beat: u64,
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub owner: Owner,
    pub stamp: Stamp,
    /// How long it lasts without renewal.
    pub term: Duration,
}

/// The mark that a record must be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub first_seen: Timestamp,
    /// Not due before this, by wall clock; see [`crate::ports::Ledger::due`] for wrong clocks.
    pub not_before: Timestamp,
    /// What it waits for, when it is not simply next.
    pub waits_for: Option<Code>,
}

/// A record that was given up on until a person or a new hint says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    pub code: Code,
    pub since: Timestamp,
    /// A person put it aside; it no longer counts as needing attention.
    pub set_aside: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub key: RecordKey,
    /// The engine's own state as JSON: ids, versions and keyed hashes, never values. Empty when the record is new.
    pub state: String,
    /// The last stamp; stays when the lease is free.
    pub stamp: Stamp,
    pub held: Option<Held>,
    /// Rises by one at each mark.
    pub generation: u64,
    pub wanted: Option<Wanted>,
    /// Failed attempts since the last success.
    pub attempts: u32,
    pub dead: Option<Dead>,
    /// A lasting remark that blocks nothing, such as [`Code::Differs`].
    pub notice: Option<Code>,
    pub updated: Timestamp,
}

/// The right to change one record. The engine keeps it; only `key`, `owner` and `epoch` decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub key: RecordKey,
    pub owner: Owner,
    pub epoch: u64,
    pub term: Duration,
}

/// A wish to take a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub owner: Owner,
    pub term: Duration,
    /// The stamp that the claimant has watched standing still for its whole term.
    pub overdue: Option<Stamp>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    Taken(Box<Record>, Lease),
    Busy(Held),
}

/// A wish that a record be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub key: RecordKey,
    pub first_seen: Timestamp,
    pub not_before: Timestamp,
    pub waits_for: Option<Code>,
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// All is agreed: attempts and dead mark are cleared, and the mark *wanted* if the generation has not moved.
    Done,
    /// To be run again: stays or becomes wanted, not before this (or before what a mark made since the run began asks, if that
    /// is earlier). `attempt` counts one more failure.
    Later { not_before: Timestamp, waits_for: Option<Code>, attempt: bool },
    /// Dead-lettered with its reason; no longer wanted unless the generation has moved.
    Dead { code: Code },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub state: String,
    pub finish: Finish,
    pub notice: Option<Code>,
    /// The generation the run was taken at.
    pub generation: u64,
    /// Since when the work has waited; kept where the run ends with [`Finish::Later`].
    pub first_seen: Timestamp,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The lease is somebody else's now, or nobody's. Nothing was changed.
    #[error("the lease was lost")]
    Lost,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// That a message could not be read, with its reason; see [`crate::letters`].
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id.
    pub id: String,
    pub code: Code,
    /// In words that quote nothing.
    pub reason: String,
    /// The ids that it names, sealed under the clinic key, where they may be read at another time. Else empty: nothing of a body
    /// that may be anything is kept.
    pub sealed_body: Vec<u8>,
    pub first_seen: Timestamp,
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter").field("id", &self.id).field("code", &self.code).finish_non_exhaustive()
    }
}

/// Which records a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    All,
    Wanted,
    Held,
    Dead,
    Noticed,
}

/// The ledger in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    pub records: u64,
    /// Wanted and not dead.
    pub wanted: u64,
    pub oldest_wanted: Option<Timestamp>,
    pub held: u64,
    /// Dead records and dead letters that nobody has set aside.
    pub dead: u64,
    pub noticed: u64,
    /// How long ago it was counted. What it says is proven for then.
    pub age: Duration,
    /// Among those: with a field about which a person has to decide.
    pub conflicts: u64,
}
