//! The FHIR simulator, asked over HTTP by a client that shares no code with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that panics has failed; how long an answer takes is measured from outside"
)]

mod caller;
mod faults;
mod healthlake;
mod interactions;
mod quotas;
mod search;
mod sign_in;
mod synthetic;
