//! The FHIR simulator, asked over HTTP by a client that shares no code with it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod caller;
mod faults;
mod interactions;
mod search;
mod sign_in;
mod synthetic;
