//! The only I/O of the program: one file or folder per outside system, each behind a port of the engine.

pub mod aws;
pub mod clock;
pub mod doctor;
pub mod fhir;
pub mod filemaker;
pub mod pin;
pub mod secret;
pub mod secrets;
pub mod sqlite;
pub mod transport;
pub mod unavailable;
