//! Chart Relay keeps a clinic's FileMaker database and its FHIR server in step. This page is the architecture in short;
//! `docs/architecture.md` has all of it.
//!
//! ```text
//! FHIR poll ─┐
//! sweep ─────┼─> hint ─> queue ─> consumer ─> lease ─> read both ─> merge ─> guarded write ─> commit ─> acknowledge
//!            │                      ^ due records        └ audit: begun ......... completed
//! person ─ Action ─> supervisor ────┘                             Snapshot ─> view ─> terminal, commands
//! ```
//!
//! **Ideas.** A hint says that something may differ and is never a command to copy: a run takes the record's lease, reads both
//! sides after that, and writes only what differs from what both last agreed on. A message is acknowledged when its run was
//! committed, its record was marked wanted, or it was put among the dead letters. A write is announced as an intent, audited, and
//! guarded at the resource by `modId` or the unique key; one without an answer is looked for, never repeated blindly. What is
//! remembered of values is keyed hashes. "Up to date" is said only when it was proven.
//!
//! **Parts.** The crate [`engine`] decides and does no I/O. Everything outside is one of its ports, and [`adapters`] are the only
//! code that reaches out: one encrypted SQLite file (queue, ledger, audit log), SQS and DynamoDB where stations share the work, FHIR, FileMaker, secrets, the clock. [`config`] makes
//! one checked value of the file; [`wiring`] is the one place that sees both sides and starts an engine. The engine is asked through
//! [`engine::action::Action`] and shows itself in [`engine::snapshot::Snapshot`]; [`view`] makes sentences of that. [`cli`] has the
//! commands; those that concern a running relay go through [`socket`] to [`control`]; [`redrive`] is one in two steps. [`secrets`], [`clinic_key`] and [`recovery_sheet`] keep
//! what must not be seen, [`log`] what may. [`demo`] is a synthetic clinic on the crate `simulators`. `desktop` (a feature) is the tray
//! program, which holds a relay and no web view, and the window, a process of its own that asks the relay through the socket.
//!
//! **Imports** go `view -> engine <- adapters`. The engine knows nobody.
//!
//! **Laws.** Time and chance are injected (`adapters/clock.rs` asks the clock). Types that hold patient data or secrets cannot be
//! printed. Every fault is a class (what to do) and a code (what to say) by the time it leaves an adapter.

pub mod account;
pub mod adapters;
pub mod cli;
pub mod clinic_key;
pub mod compare;
pub mod config;
pub mod control;
pub mod demo;
#[cfg(feature = "desktop")]
pub mod desktop;
pub mod log;
mod moving;
pub mod pairing;
pub mod recovery_sheet;
pub mod redrive;
pub mod relay_lock;
pub mod secrets;
pub mod shared;
pub mod socket;
pub mod stations;
pub mod view;
pub mod watched;
pub mod wiring;
