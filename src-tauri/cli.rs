//! The commands.

pub mod key;
pub mod person;
pub mod secret;
