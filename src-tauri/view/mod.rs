//! What people see, made from snapshots and answers alone: no I/O in here, and no patient data to begin with.

pub mod audit;
#[cfg(test)]
mod bindings;
pub mod conflicts;
pub mod desk;
pub mod face;
pub mod history;
pub mod locks;
pub mod names;
pub mod notices;
pub mod overview;
pub mod picture;
pub mod queue;
pub mod redrive;
pub mod roles;
pub mod sides;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod tray;
pub mod watching;
pub mod words;
