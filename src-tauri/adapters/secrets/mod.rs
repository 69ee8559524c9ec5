//! The stores behind [`crate::secrets::Secrets`].

mod keychain;
mod memory;
mod sealed_file;

pub use keychain::Keychain;
pub use memory::Memory;
pub use sealed_file::{SealedFile, passphrase_from_service};
