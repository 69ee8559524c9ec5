//! How a station comes by its clinic key: made at first start, kept as one keychain entry, restored from the recovery sheet.
//!
//! A key that is quietly made anew would turn everything sealed before into noise. So the data directory remembers which key belongs
//! to it (its id, which tells nothing about it), and no key is made where one has been.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use engine::keys::ClinicKey;
use zeroize::Zeroizing;

use crate::secrets::{Secret, SecretName, Secrets, SecretsError};

/// In the data directory: the id of the key that belongs to it.
const ID_FILE: &str = "clinic-key.id";
/// Before the key in the keychain, so that another form can be told apart one day.
const FORM: &str = "1:";

#[derive(Debug, thiserror::Error)]
pub enum ClinicKeyError {
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// There has been a key, and the keychain no longer has it.
    #[error("the keychain has lost clinic key {id}; restore it from its recovery sheet with `chart-relay key restore`")]
    Lost { id: String },
    #[error(
        "this station's data belong to clinic key {expected}, the keychain has {found}; restore the right one from its \
         recovery sheet with `chart-relay key restore --replace`"
    )]
    Another { expected: String, found: String },
    /// From [`restore`] only.
    #[error(
        "this station already has clinic key {existing}, the sheet is of {sheet}; data sealed under {existing} can then no \
         longer be read here. If that is wanted, say --replace"
    )]
    WouldReplace { existing: String, sheet: String },
    #[error("the keychain does not give back the clinic key that was just put in")]
    NotKept,
    #[error("the data directory cannot be read or written: {0}")]
    Directory(io::ErrorKind),
}

/// The clinic key, and whether it was made just now (then its recovery sheet is to be printed).
#[derive(Debug)]
pub struct Established {
    pub key: ClinicKey,
    pub made_now: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    Stored,
    /// The keychain had it already.
    AlreadyThere,
    Replaced {
        old: String,
    },
}

/// The clinic key of this station; makes one at the first start with this data directory.
pub async fn establish(secrets: &dyn Secrets, data: &Path) -> Result<Established, ClinicKeyError> {
    if let Some(key) = read(secrets, data).await? {
        return Ok(Established { key, made_now: false });
    }
    // Some keychains answer "no such entry" while they are closed. Writing opens them (or fails): only an entry that is
    // missing after that is truly missing.
    can_be_kept(secrets).await?;
    if let Some(key) = read(secrets, data).await? {
        return Ok(Established { key, made_now: false });
    }
    let key = ClinicKey::generate();
    store(secrets, data, &key).await?;
    Ok(Established { key, made_now: true })
}

/// Whether the keychain takes a key.
pub async fn can_be_kept(secrets: &dyn Secrets) -> Result<(), SecretsError> {
    let probe = SecretName::clinic_key_probe();
    secrets.set(&probe, Secret::new("probe")).await?;
    secrets.delete(&probe).await.map(drop)
}

/// The clinic key of this station; `None` if it never had one.
pub async fn read(secrets: &dyn Secrets, data: &Path) -> Result<Option<ClinicKey>, ClinicKeyError> {
    let expected = expected(data)?;
    match (stored(secrets).await?, expected) {
        (None, None) => Ok(None),
        (None, Some(id)) => Err(ClinicKeyError::Lost { id }),
        (Some(key), None) => {
            remember(data, &key)?;
            Ok(Some(key))
        }
        (Some(key), Some(expected)) => match key.id().to_string() {
            found if found == expected => Ok(Some(key)),
            found => Err(ClinicKeyError::Another { expected, found }),
        },
    }
}

/// Puts a key from a recovery sheet in. Another key is replaced only with `replace`.
pub async fn restore(
    secrets: &dyn Secrets,
    data: &Path,
    key: &ClinicKey,
    replace: bool,
) -> Result<Restored, ClinicKeyError> {
    let sheet = key.id().to_string();
    let in_keychain = match stored(secrets).await {
        // An entry that cannot be read is no key that could be lost by replacing it.
        Err(SecretsError::Damaged(_)) => None,
        found => found?.map(|key| key.id().to_string()),
    };
    let others = [in_keychain.clone(), expected(data)?];
    let other = others.into_iter().flatten().find(|id| *id != sheet);
    match other {
        Some(existing) if !replace => Err(ClinicKeyError::WouldReplace { existing, sheet }),
        None if in_keychain.is_some() => {
            remember(data, key)?;
            Ok(Restored::AlreadyThere)
        }
        other => {
            store(secrets, data, key).await?;
            Ok(other.map_or(Restored::Stored, |old| Restored::Replaced { old }))
        }
    }
}

async fn stored(secrets: &dyn Secrets) -> Result<Option<ClinicKey>, SecretsError> {
    let name = SecretName::clinic_key();
    match secrets.get(&name).await {
        Ok(secret) => decode(&secret).map(Some).ok_or(SecretsError::Damaged(name)),
        Err(SecretsError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keychain first, then the id: a crash in between leaves a key without an id, which is adopted.
async fn store(secrets: &dyn Secrets, data: &Path, key: &ClinicKey) -> Result<(), ClinicKeyError> {
    secrets.set(&SecretName::clinic_key(), encode(key)).await?;
    match stored(secrets).await? {
        Some(kept) if kept.id() == key.id() => remember(data, key),
        _ => Err(ClinicKeyError::NotKept),
    }
}

fn encode(key: &ClinicKey) -> Secret {
    let bytes = Zeroizing::new(STANDARD_NO_PAD.encode(key.expose()));
    Secret::new(format!("{FORM}{}", *bytes))
}

fn decode(secret: &Secret) -> Option<ClinicKey> {
    let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(secret.reveal().strip_prefix(FORM)?).ok()?);
    Some(ClinicKey::from_bytes(bytes.as_slice().try_into().ok()?))
}

fn expected(data: &Path) -> Result<Option<String>, ClinicKeyError> {
    match fs::read_to_string(data.join(ID_FILE)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClinicKeyError::Directory(error.kind())),
    }
}

fn remember(data: &Path, key: &ClinicKey) -> Result<(), ClinicKeyError> {
    let id = key.id().to_string();
    if expected(data)?.as_ref() == Some(&id) {
        return Ok(());
    }
    fs::create_dir_all(data)
        .and_then(|()| fs::write(data.join(ID_FILE), format!("{id}\n")))
        .map_err(|error| ClinicKeyError::Directory(error.kind()))
}
