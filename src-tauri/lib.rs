//! Chart Relay keeps a clinic's FileMaker database and its FHIR server in step.

pub mod adapters;
pub mod cli;
pub mod clinic_key;
pub mod config;
pub mod control;
pub mod demo;
pub mod log;
pub mod recovery_sheet;
pub mod secrets;
pub mod socket;
pub mod view;
pub mod wiring;
