//! What people see, made from snapshots alone: no I/O in here, and no patient data to begin with.

pub mod terminal;
pub mod words;
