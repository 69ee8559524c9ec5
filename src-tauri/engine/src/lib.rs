//! The engine of Chart Relay: what must be true, without any I/O.

pub mod action;
pub mod audit;
pub mod chance;
pub mod connection;
pub mod consumer;
pub mod error;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod hint;
pub mod key;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod mapping;
pub mod merge;
pub mod poll;
pub mod ports;
pub mod proof;
pub mod reconcile;
pub mod retry;
pub mod row;
pub mod settings;
pub mod snapshot;
pub mod status;
pub mod supervisor;
