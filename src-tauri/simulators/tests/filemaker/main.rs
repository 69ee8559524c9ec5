//! The FileMaker simulator over real HTTP: transcripts of the fact sheet, faults, and a public client that we did not write.

mod client;
mod faults;
mod public_client;
mod tls;
mod transcripts;
