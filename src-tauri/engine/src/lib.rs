//! The engine of Chart Relay: what must be true, without any I/O.

pub mod action;
pub mod audit;
pub mod chance;
pub mod connection;
pub mod error;
pub mod hint;
pub mod key;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod mapping;
pub mod merge;
pub mod ports;
pub mod proof;
pub mod reconcile;
pub mod retry;
pub mod row;
pub mod settings;
pub mod snapshot;
