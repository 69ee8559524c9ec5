//! Chart Relay keeps a clinic's FileMaker database and its FHIR server in step.

pub mod adapters;
