//! The FileMaker simulator over real HTTP: transcripts of the fact sheet, faults, and a public client that we did not write.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that panics has failed; how long an answer takes is measured from outside"
)]

mod client;
mod faults;
mod public_client;
mod tls;
mod transcripts;
