//! The engine of Chart Relay: what must be true, without any I/O. It is driven alone, on paused time and from a seed, by
//! `tests/simulation`.
//!
//! **The way in and out.** [`supervisor::Engine::start`] takes storage, clinics and settings, and starts the workers. People ask through
//! [`supervisor::Handle::act`]; what is going on comes out as [`snapshot::Snapshot`], whose verdict says "up to date" only as a proof.
//!
//! **The way of a change.** [`poll`] finds what changed and sends a [`hint`] into the queue, as others may ([`body`](mod@body)). [`consumer`] makes runs of
//! deliveries and due records, one at a time for each key. [`reconcile`] is one run: under a [`lease`] it reads both sides, lets [`mapping`] say
//! what the resource means for the row, merges field by field ([`merge`](mod@merge)) on keyed hashes ([`keys`]), and writes what differs, announced
//! by an intent ([`link`]) and an [`audit`] entry. Creating rows needs a [`proof`] that their key is unique.
//!
//! **Pace.** An EHR that announces nothing is asked as often as its API key allows: [`pace`] shares a quota between firms and stations, and
//! splits it by what was learned of each.
//!
//! **What it stands on.** [`ports`] are the doors to the outside: queue, ledger, audit log, the two servers, the clock. [`ledger`] says what
//! records, leases and marks are; [`error`](mod@error) what can go wrong and what follows; [`connection`] whether a side answers, [`storage`] whether our own storage does; [`retry`] how
//! often one may try. `fakes` (a feature) are in-memory ports for tests.
//!
//! Promises of a run: it writes only under its own epoch, only with a guard, only after its intent and audit entry are on disk, and
//! never over a value that somebody else has changed. What it cannot finish stays wanted or is dead with its reason.

pub mod action;
pub mod audit;
pub mod backstop;
pub mod body;
pub mod chance;
pub mod connection;
pub mod consumer;
pub mod difference;
pub mod ehr;
pub mod error;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod gate;
pub mod hint;
pub mod journal;
pub mod kept;
pub mod key;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod letters;
pub mod link;
pub mod manual;
pub mod mapping;
pub mod merge;
pub mod pace;
pub mod poll;
pub mod ports;
pub mod proof;
pub mod reconcile;
pub mod retry;
pub mod reveal;
pub mod row;
pub mod server_clock;
pub mod settings;
pub mod snapshot;
pub mod status;
pub mod storage;
pub mod supervisor;
pub mod vault;
