//! The engine of Chart Relay: what must be true, without any I/O.

pub mod audit;
pub mod error;
pub mod hint;
pub mod key;
pub mod keys;
pub mod ledger;
pub mod mapping;
pub mod ports;
pub mod row;
