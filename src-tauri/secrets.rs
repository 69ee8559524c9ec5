//! Secrets: what signs the relay in to its servers, and the clinic key. The port, and the types that keep a secret from being
//! printed. A secret goes in by a person's hand and never comes out again to a person, a log or a web view: only adapters
//! and [`crate::clinic_key`] call [`Secret::reveal`].

use std::fmt;

use async_trait::async_trait;
use engine::error::{Class, Code, Fault};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The most bytes one secret may have, on every platform: what Windows holds in one credential
/// (`CRED_MAX_CREDENTIAL_BLOB_SIZE`, 5 * 512 bytes, wincred.h). A configuration that works on one PC must work on the next.
pub const MAX_SECRET_BYTES: usize = 2560;

/// The name under which the clinic key is kept. Not for [`SecretName::parse`]: a person cannot set, list or delete it.
const CLINIC_KEY: &str = "clinic-key";

/// A text that must not be seen. Erased from memory when dropped; no `Display`, no serialisation, `Debug` says nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For adapters, at the moment of use.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a secret is called in the configuration and in the keychain: 1 to 64 characters of `a-z 0-9 . _ -`, starting with a letter
/// or digit. A name is not a secret and may be logged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error(
        "a secret's name has 1 to 64 characters of a-z, 0-9, \".\", \"_\" and \"-\" and starts with a letter or digit"
    )]
    Form,
    #[error("\"{CLINIC_KEY}\" is the clinic key's own name: see `chart-relay key`")]
    Reserved,
}

impl SecretName {
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match text.as_bytes() {
            [first, rest @ ..]
                if allowed(*first) && rest.len() < 64 && rest.iter().all(|b| allowed(*b) || b"._-".contains(b)) => {}
            _ => return Err(BadName::Form),
        }
        if text == CLINIC_KEY {
            return Err(BadName::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn clinic_key() -> Self {
        Self(CLINIC_KEY.to_owned())
    }

    /// Written and deleted again before a clinic key is made: see [`crate::clinic_key::establish`].
    pub(crate) fn clinic_key_probe() -> Self {
        Self(format!("{CLINIC_KEY}.probe"))
    }

    /// What is kept of the window's PIN. No name that a person can enter begins so.
    #[cfg(feature = "desktop")]
    pub(crate) fn desk_pin() -> Self {
        Self(".desk-pin".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for SecretName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

/// Why a store of secrets cannot be used. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The store answers and has no secret of this name.
    #[error("the secret \"{0}\" is not set; set it with `chart-relay secret set {0}`")]
    Missing(SecretName),
    /// The store is there and will not open without a person, or waits for one. Trying again later is right.
    #[error(
        "the keychain is locked or waits for its password; unlock it (or answer the window that asks), it is tried again"
    )]
    Locked,
    /// The sealed file does not open with the passphrase at hand.
    #[error("the passphrase does not open the sealed secrets: it is another one, or the file was altered")]
    WrongPassphrase,
    #[error("{0}")]
    Unavailable(Unavailable),
    #[error("the secret \"{name}\" has {bytes} bytes; a keychain entry holds at most {MAX_SECRET_BYTES}")]
    TooLong { name: SecretName, bytes: usize },
    /// There is an entry of this name, and it is not what this program writes.
    #[error("the entry \"{0}\" in the keychain is damaged or not ours; delete it and set it again")]
    Damaged(SecretName),
}

/// Why there is no store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// Linux: no session bus (a service, a bare terminal, a container).
    NoBus,
    /// Linux: a session bus on which nobody is a Secret Service.
    NoService,
    /// Linux: a Secret Service that has no keyring yet.
    NoKeyring,
    /// The sealed file is configured and there is nothing to open it with.
    NoPassphrase,
    /// The vendor's own name or number for what went wrong.
    Other(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus => f.write_str(
                "no keychain can be reached: there is no session bus here. Start the relay from a desktop session, or see \
                 docs/secrets.md for servers",
            ),
            Self::NoService => f.write_str(
                "no keychain answers: nothing on the session bus is a Secret Service. Install and start gnome-keyring or \
                 KWallet, or see docs/secrets.md for servers",
            ),
            Self::NoKeyring => f.write_str(
                "the keychain has no keyring yet: sign in to the desktop once, or create one in its password program",
            ),
            Self::NoPassphrase => f.write_str(
                "there is no passphrase for the sealed secrets: give the service the credential \
                 \"chart-relay-passphrase\", or name a file in CHART_RELAY_PASSPHRASE_FILE (docs/secrets.md)",
            ),
            Self::Other(detail) => write!(f, "the store of secrets cannot be used ({detail})"),
        }
    }
}

impl From<Unavailable> for SecretsError {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl From<SecretsError> for Fault {
    /// All of them stop the connection that wanted the secret and count no attempt.
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Missing(name) | SecretsError::Damaged(name) | SecretsError::TooLong { name, .. } => {
                Fault::new(Class::Stop, Code::SecretMissing).on(name.to_string())
            }
            SecretsError::Locked | SecretsError::WrongPassphrase => Fault::new(Class::Stop, Code::KeychainLocked),
            SecretsError::Unavailable(_) => Fault::new(Class::Stop, Code::KeychainUnavailable),
        }
    }
}

/// Where secrets are kept: the OS keychain, a sealed file on servers without one, memory in the demo and in tests.
#[async_trait]
pub trait Secrets: Send + Sync + fmt::Debug {
    async fn get(&self, name: &SecretName) -> Result<Secret, SecretsError>;

    /// Puts it in, replacing what was there. Durable when it returns.
    async fn set(&self, name: &SecretName, secret: Secret) -> Result<(), SecretsError>;

    /// False if there was none.
    async fn delete(&self, name: &SecretName) -> Result<bool, SecretsError>;

    async fn has(&self, name: &SecretName) -> Result<bool, SecretsError> {
        match self.get(name).await {
            Ok(_) => Ok(true),
            Err(SecretsError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// For adapters, before they store anything.
pub(crate) fn check_length(name: &SecretName, secret: &Secret) -> Result<(), SecretsError> {
    match secret.reveal().len() {
        bytes if bytes > MAX_SECRET_BYTES => Err(SecretsError::TooLong { name: name.clone(), bytes }),
        _ => Ok(()),
    }
}
