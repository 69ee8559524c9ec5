//! Stand-ins for servers that cannot be had on a developer's machine: real HTTP servers on loopback, with faults that
//! can be switched on. For tests and the demo only; everything they hold is synthetic.

#![allow(rustdoc::broken_intra_doc_links, reason = "[DOC], [LIVE], [GEN] and the like name the class of evidence")]

pub mod ehr;
pub mod fhir;
pub mod filemaker;
pub mod listen;
#[allow(missing_debug_implementations, reason = "sealed: what is public here cannot be named outside")]
mod rest;
pub mod synthetic;
pub mod tls;
