//! The PIN that opens the window after it locked. It keeps passers-by out of a window that somebody left open; it is no protection from
//! whoever may use the account. Only a slow hash of it is kept, in the store of secrets. That there is one is remembered in the data
//! directory as well, so that no keychain is asked where none is set, and a keychain that does not open leaves the window locked.

use std::{fs, io, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::door;
use crate::secrets::{Secret, SecretName, Secrets, SecretsError};

/// Before salt and hash, so that another form can be told apart one day.
const FORM: &str = "1:";
const SALT: usize = 16;
const HASH: usize = 32;
/// In the desk's folder: a PIN is set.
const MARK: &str = "pin-is-set";

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error("the data directory cannot be written: {0}")]
    Directory(io::ErrorKind),
}

impl From<io::Error> for PinError {
    fn from(error: io::Error) -> Self {
        Self::Directory(error.kind())
    }
}

/// What is kept of a PIN.
#[derive(Clone)]
pub struct Kept {
    salt: [u8; SALT],
    hash: [u8; HASH],
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(..)")
    }
}

/// Four digits are enough where wrong ones are slowed down; more than twelve nobody types at a desk.
pub fn is_pin(text: &str) -> bool {
    (4..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Kept {
    #[allow(clippy::disallowed_methods, reason = "a salt is from the operating system's generator")]
    pub fn of(pin: &str) -> Self {
        let salt = rand::random();
        Self { salt, hash: hash(pin, &salt) }
    }

    pub fn fits(&self, pin: &str) -> bool {
        let other = hash(pin, &self.salt);
        // All of it is looked at, however early it differs.
        self.hash.iter().zip(other).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(text.strip_prefix(FORM)?).ok()?;
        let (salt, hash) = bytes.split_at_checked(SALT)?;
        Some(Self { salt: salt.try_into().ok()?, hash: hash.try_into().ok()? })
    }

    fn text(&self) -> String {
        format!("{FORM}{}", STANDARD_NO_PAD.encode([self.salt.as_slice(), &self.hash].concat()))
    }
}

/// Argon2id with 19 MiB and two passes, what OWASP's password storage cheat sheet asks at least.
fn hash(pin: &str, salt: &[u8]) -> [u8; HASH] {
    let params = Params::new(19 * 1024, 2, 1, Some(HASH)).expect("within Argon2's bounds");
    let mut hash = [0; HASH];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(pin.as_bytes(), salt, &mut hash)
        .expect("a salt and a hash of lengths that Argon2 takes");
    hash
}

/// Whether one is asked for at this desk.
pub fn is_set(data: &Path) -> bool {
    door::folder(data).join(MARK).exists()
}

/// What is kept in the store; `None` if nothing is.
pub async fn read(secrets: &dyn Secrets) -> Result<Option<Kept>, SecretsError> {
    let name = SecretName::desk_pin();
    match secrets.get(&name).await {
        Ok(text) => Kept::parse(text.reveal()).map(Some).ok_or(SecretsError::Damaged(name)),
        Err(SecretsError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub async fn set(secrets: &dyn Secrets, data: &Path, pin: &str) -> Result<(), PinError> {
    secrets.set(&SecretName::desk_pin(), Secret::new(Kept::of(pin).text())).await?;
    fs::create_dir_all(door::folder(data))?;
    Ok(fs::write(door::folder(data).join(MARK), "")?)
}

/// False if there was none.
pub async fn remove(secrets: &dyn Secrets, data: &Path) -> Result<bool, PinError> {
    let was_there = secrets.delete(&SecretName::desk_pin()).await?;
    match fs::remove_file(door::folder(data).join(MARK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(was_there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::secrets::Memory;

    #[tokio::test]
    async fn a_pin_is_kept_as_a_hash_and_opens_only_by_itself() {
        let (secrets, data) = (Memory::new(), tempfile::tempdir().unwrap());
        let data = data.path();
        assert!(read(&secrets).await.unwrap().is_none() && !is_set(data));
        set(&secrets, data, "8421").await.unwrap();
        assert!(is_set(data));
        let kept = read(&secrets).await.unwrap().unwrap();
        assert!(kept.fits("8421"));
        for wrong in ["", "842", "84210", "8420", "1248"] {
            assert!(!kept.fits(wrong), "{wrong}");
        }
        let text = secrets.get(&SecretName::desk_pin()).await.unwrap();
        assert!(!text.reveal().contains("8421"));
        assert_ne!(text.reveal(), Kept::of("8421").text(), "salted");
        assert!(remove(&secrets, data).await.unwrap() && !is_set(data));
        assert!(!remove(&secrets, data).await.unwrap());
        secrets.set(&SecretName::desk_pin(), Secret::new("1:AAAA")).await.unwrap();
        assert!(matches!(read(&secrets).await, Err(SecretsError::Damaged(_))), "never taken for no PIN");
    }

    #[test]
    fn a_pin_is_digits() {
        assert!(is_pin("0000") && is_pin("123456789012"));
        for wrong in ["", "123", "1234567890123", "12a4", "12 4", "\u{0661}\u{0662}\u{0663}\u{0664}"] {
            assert!(!is_pin(wrong), "{wrong}");
        }
    }

    #[test]
    fn nobody_can_reach_it_as_a_secret_of_the_configuration() {
        assert!(SecretName::parse(SecretName::desk_pin().as_str()).is_err());
    }
}
