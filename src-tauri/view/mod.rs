//! What people see, made from snapshots and answers alone: no I/O in here, and no patient data to begin with.

pub mod audit;
#[cfg(test)]
mod bindings;
pub mod desk;
pub mod history;
pub mod locks;
pub mod overview;
pub mod queue;
pub mod roles;
pub mod terminal;
pub mod words;
