//! Secrets on a server without a keychain: one file, sealed with XChaCha20-Poly1305 under a key that Argon2id makes of a
//! passphrase. The passphrase is never on the disk in the clear: the service manager hands it over when it starts the relay. It is
//! used only where the service manager hands a passphrase over; a keychain that is locked or away never leads here. See `docs/secrets.md`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::secrets::{Secret, SecretName, Secrets, SecretsError, Unavailable, check_length};

const FORMAT: &str = "chart-relay/sealed-secrets/1";
const NONCE_BYTES: usize = 24;
/// 64 MiB and 3 passes: the second recommended choice of RFC 9106 section 4, with one lane because it runs on one thread.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// What a file may ask for. Less would be a weakened file, more would stop the machine.
const ALLOWED_MEMORY_KIB: std::ops::RangeInclusive<u32> = 19 * 1024..=1024 * 1024;
const ALLOWED_PASSES: std::ops::RangeInclusive<u32> = 2..=16;
/// Characters. Meant for the random text of docs/secrets.md; a shorter one was typed by somebody in a hurry.
const SHORTEST_PASSPHRASE: usize = 16;

/// The service manager's credential, and the variable that names a file (or `/dev/fd/N` for an inherited descriptor).
const CREDENTIAL: &str = "chart-relay-passphrase";
const PASSPHRASE_FILE: &str = "CHART_RELAY_PASSPHRASE_FILE";

/// The passphrase that the service manager handed over: systemd's `$CREDENTIALS_DIRECTORY/chart-relay-passphrase`, else the file
/// named by `CHART_RELAY_PASSPHRASE_FILE`. `None` if it handed over nothing. There is deliberately no variable that holds the
/// passphrase itself: an environment is inherited, shown by tools and kept in crash dumps.
pub fn passphrase_from_service(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Secret>, SecretsError> {
    let credential = variable("CREDENTIALS_DIRECTORY")
        .map(|directory| Path::new(&directory).join(CREDENTIAL))
        .filter(|path| path.exists());
    let Some(path) = credential.or_else(|| variable(PASSPHRASE_FILE).map(PathBuf::from)) else { return Ok(None) };
    let unreadable =
        |error: io::Error| Unavailable::Other(format!("the passphrase's file cannot be read: {}", error.kind()));
    let mut text = Zeroizing::new(String::new());
    File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text)).map_err(unreadable)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Unavailable::NoPassphrase.into()),
        passphrase => Ok(Some(Secret::new(passphrase))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The file as it lies on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: String,
    argon2id: Cost,
    salt: String,
    sealed: String,
}

/// Name -> secret; erased with its map.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Contents(BTreeMap<String, String>);

impl Drop for Contents {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

/// A key, and the salt and cost it was made with: made once per process, because making it is meant to be slow.
struct Made {
    salt: String,
    cost: Cost,
    key: Zeroizing<[u8; 32]>,
}

pub struct SealedFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    passphrase: Secret,
    made: Mutex<Option<Made>>,
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile").finish_non_exhaustive()
    }
}

#[async_trait]
impl Secrets for SealedFile {
    async fn get(&self, name: &SecretName) -> Result<Secret, SecretsError> {
        let name = name.clone();
        self.run(move |inner| match inner.load()?.and_then(|(_, contents)| contents.0.get(name.as_str()).cloned()) {
            Some(text) => Ok(Secret::new(text)),
            None => Err(SecretsError::Missing(name)),
        })
        .await
    }

    async fn set(&self, name: &SecretName, secret: Secret) -> Result<(), SecretsError> {
        check_length(name, &secret)?;
        let name = name.clone();
        self.run(move |inner| {
            inner.change(|contents| contents.0.insert(name.to_string(), secret.reveal().to_owned()).is_some()).map(drop)
        })
        .await
    }

    async fn delete(&self, name: &SecretName) -> Result<bool, SecretsError> {
        let name = name.clone();
        self.run(move |inner| {
            inner.change(|contents| contents.0.remove(name.as_str()).map(|mut text| text.zeroize()).is_some())
        })
        .await
    }
}

impl SealedFile {
    /// The file is made by the first `set`.
    pub fn new(path: impl Into<PathBuf>, passphrase: Secret) -> Self {
        Self(Arc::new(Inner { path: path.into(), passphrase, made: Mutex::new(None) }))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SecretsError> + Send + 'static,
    ) -> Result<T, SecretsError> {
        let inner = self.0.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(_) => Err(Unavailable::Other("the relay is stopping".into()).into()),
        }
    }
}

fn file_trouble(error: io::Error) -> SecretsError {
    Unavailable::Other(format!("the sealed file cannot be read or written: {}", error.kind())).into()
}

fn not_ours(what: &str) -> SecretsError {
    Unavailable::Other(format!("the sealed file is damaged or not ours ({what}); it was left as it is")).into()
}

impl Inner {
    /// The key for this salt and cost.
    fn key(&self, salt: &str, cost: Cost) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| made.salt == salt && made.cost == cost) {
            return Ok(made.key.clone());
        }
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|_| not_ours("cost"))?;
        let mut key = Zeroizing::new([0; 32]);
        let bytes = STANDARD_NO_PAD.decode(salt).map_err(|_| not_ours("salt"))?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(self.passphrase.reveal().as_bytes(), &bytes, &mut *key)
            .map_err(|_| not_ours("salt"))?;
        *made = Some(Made { salt: salt.to_owned(), cost, key: key.clone() });
        Ok(key)
    }

    /// `None` if there is no file yet.
    fn load(&self) -> Result<Option<(Sealed, Contents)>, SecretsError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_trouble(error)),
        };
        let file: Sealed = serde_json::from_str(&text).map_err(|_| not_ours("form"))?;
        if file.format != FORMAT {
            return Err(not_ours("format"));
        }
        let cost = file.argon2id;
        if !(ALLOWED_MEMORY_KIB.contains(&cost.memory_kib) && ALLOWED_PASSES.contains(&cost.passes) && cost.lanes == 1)
        {
            return Err(not_ours("cost"));
        }
        let sealed = STANDARD_NO_PAD.decode(&file.sealed).map_err(|_| not_ours("sealed text"))?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(|| not_ours("sealed text"))?;
        let key = self.key(&file.salt, cost)?;
        let plain = XChaCha20Poly1305::new(key.as_slice().into())
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: about(&file.salt, cost).as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| SecretsError::WrongPassphrase)?;
        let contents = serde_json::from_slice(&plain).map_err(|_| not_ours("contents"))?;
        Ok(Some((file, contents)))
    }

    /// Reads, changes and writes while no other process does.
    #[allow(clippy::disallowed_methods, reason = "neither salt nor nonce may ever come twice")]
    fn change(&self, change: impl FnOnce(&mut Contents) -> bool) -> Result<bool, SecretsError> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(file_trouble)?;
        }
        let lock = private().create(true).write(true).open(beside(&self.path, "lock")).map_err(file_trouble)?;
        lock.lock().map_err(file_trouble)?;
        let (salt, cost, mut contents) = match self.load()? {
            Some((file, contents)) => (file.salt, file.argon2id, contents),
            None if self.passphrase.reveal().chars().count() < SHORTEST_PASSPHRASE => {
                return Err(Unavailable::Other(format!(
                    "the passphrase is too short: at least {SHORTEST_PASSPHRASE} characters"
                ))
                .into());
            }
            None => {
                let mut salt = [0; 16];
                rand::rng().fill_bytes(&mut salt);
                (STANDARD_NO_PAD.encode(salt), COST, Contents::default())
            }
        };
        let result = change(&mut contents);
        let plain = Zeroizing::new(serde_json::to_vec(&contents).map_err(|_| not_ours("contents"))?);
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = XChaCha20Poly1305::new(self.key(&salt, cost)?.as_slice().into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: about(&salt, cost).as_bytes() })
            .map_err(|_| not_ours("size"))?;
        let sealed = STANDARD_NO_PAD.encode([nonce.as_slice(), &sealed].concat());
        let file = Sealed { format: FORMAT.to_owned(), argon2id: cost, salt, sealed };
        let text = serde_json::to_vec_pretty(&file).map_err(|_| not_ours("form"))?;
        replace(&self.path, &text).map_err(file_trouble)?;
        Ok(result)
    }
}

/// Bound into the seal, so that cost and salt cannot be altered.
fn about(salt: &str, cost: Cost) -> String {
    format!("{FORMAT}/{}/{}/{}/{salt}", cost.memory_kib, cost.passes, cost.lanes)
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

/// A file that only its owner can read. On Windows the directory's access list says so.
fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "the mode exists on Unix only")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whole old file or whole new one, whatever happens in between.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = beside(path, "new");
    let mut file = private().create(true).truncate(true).write(true).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)?;
    #[cfg(unix)]
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
