//! The whole program over real HTTP: from a FHIR server through configuration, clients, queue, ledger and audit log into FileMaker.
//! `medplum` needs `npm ci` in `tests/real/medplum`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]
#![allow(clippy::disallowed_methods, reason = "the whole program runs on the machine's own clock and chance")]

mod canary;
#[path = "../canary/mod.rs"]
mod canary_kit;
mod clocks;
#[path = "../real/aws/console.rs"]
mod console;
mod demo;
mod ehr;
#[path = "../real/aws/rig.rs"]
mod emulator;
mod frontdesk;
mod gateway;
mod holding;
mod installation;
mod medplum;
#[path = "../real/medplum/rig.rs"]
mod medplum_rig;
mod mishaps;
mod moving;
mod post;
mod process;
#[path = "../contract/proxy.rs"]
mod proxy;
mod refusals;
mod rig;
mod shared;
mod stations;
mod stores;
mod tidings;
