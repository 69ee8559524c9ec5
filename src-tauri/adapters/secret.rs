//! The clients' name for the type of the secrets port.

pub use crate::secrets::Secret;
