//! The EHR simulator, asked over HTTP by a client that shares no code with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

mod caller;
mod day;
mod documents;
mod drafts;
mod encounters;
mod faults;
mod quota;
mod sign_in;
