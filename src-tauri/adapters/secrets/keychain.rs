//! The operating system's keychain: Secret Service on Linux, Credential Manager on Windows, the login keychain on macOS.
//!
//! All calls run on one thread of their own, one after another. A locked keychain may show a window and block the call until
//! somebody answers it, which may be never; the caller waits only so long and then hears [`SecretsError::Locked`]. A call that
//! nobody waits for any more is not begun; one that already stands before such a window is carried out if the window is
//! answered after all. (The stores also must not be called from a tokio worker: keyring-rs issue 132.)

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use keyring_core::{CredentialStore, Entry, Error};
use tokio::sync::oneshot;
use zeroize::{Zeroize, Zeroizing};

use crate::secrets::{Secret, SecretName, Secrets, SecretsError, Unavailable, check_length};

/// How the entries' service is called. A profile other than the default one is appended behind a hyphen, so that a second relay
/// on one account (a training clinic) has its own entries.
const SERVICE: &str = "chart-relay";

pub struct Keychain {
    service: String,
    patience: Duration,
    worker: Mutex<Option<mpsc::Sender<Job>>>,
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("service", &self.service).finish_non_exhaustive()
    }
}

enum Ask {
    Get,
    Set(Secret),
    Delete,
}

struct Job {
    name: SecretName,
    ask: Ask,
    answer: oneshot::Sender<Result<Option<Secret>, SecretsError>>,
}

impl Keychain {
    /// `patience` is how long a call may wait for the keychain: seconds for a relay that runs by itself, a minute or two for a
    /// command behind which a person sits who can answer the keychain's window.
    pub fn new(profile: Option<&str>, patience: Duration) -> Self {
        let service = match profile {
            Some(profile) => format!("{SERVICE}-{profile}"),
            None => SERVICE.to_owned(),
        };
        Self { service, patience, worker: Mutex::new(None) }
    }

    /// Hands the job to the worker, starting one if there is none or the last one died.
    fn send(&self, mut job: Job) -> Result<(), SecretsError> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = worker.as_ref() {
            match sender.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(returned)) => job = returned,
            }
        }
        let (sender, jobs) = mpsc::channel();
        let service = self.service.clone();
        thread::Builder::new()
            .name("keychain".into())
            .spawn(move || work(&service, &jobs))
            .map_err(|error| SecretsError::Unavailable(Unavailable::Other(error.kind().to_string())))?;
        // The new worker has not had the time to end: it waits for its first job.
        let _ = sender.send(job);
        *worker = Some(sender);
        Ok(())
    }

    async fn ask(&self, name: &SecretName, ask: Ask) -> Result<Option<Secret>, SecretsError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job { name: name.clone(), ask, answer })?;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Unavailable::Other("the keychain's own code failed".into()).into()),
            Err(_) => Err(SecretsError::Locked),
        }
    }
}

#[async_trait]
impl Secrets for Keychain {
    async fn get(&self, name: &SecretName) -> Result<Secret, SecretsError> {
        self.ask(name, Ask::Get).await?.ok_or_else(|| SecretsError::Missing(name.clone()))
    }

    async fn set(&self, name: &SecretName, secret: Secret) -> Result<(), SecretsError> {
        check_length(name, &secret)?;
        self.ask(name, Ask::Set(secret)).await.map(drop)
    }

    async fn delete(&self, name: &SecretName) -> Result<bool, SecretsError> {
        match self.ask(name, Ask::Delete).await {
            Ok(_) => Ok(true),
            Err(SecretsError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn work(service: &str, jobs: &mpsc::Receiver<Job>) {
    let mut store = None;
    while let Ok(job) = jobs.recv() {
        // Whoever asked has given up (the keychain's window stood open too long): do not write behind their back.
        if job.answer.is_closed() {
            continue;
        }
        let result = attempt(&mut store, service, &job);
        let _ = job.answer.send(result);
    }
}

/// One call. A store that worked before and is away now may only have lost its connection (the keychain was restarted): it is
/// opened anew, once, unless nobody waits for the answer any more.
fn attempt(store: &mut Option<Arc<CredentialStore>>, service: &str, job: &Job) -> Result<Option<Secret>, SecretsError> {
    loop {
        let reused = store.is_some();
        let opened = match store.take() {
            Some(store) => Ok(store),
            None => platform::open(),
        };
        let result = opened.and_then(|opened| call(store.insert(opened), service, job));
        let error = match result {
            Ok(done) => return Ok(done),
            Err(error) => classify(&job.name, error),
        };
        let away = matches!(error, SecretsError::Unavailable(_));
        if away {
            *store = None;
        }
        if !(away && reused) || job.answer.is_closed() {
            return Err(error);
        }
    }
}

fn call(store: &Arc<CredentialStore>, service: &str, job: &Job) -> keyring_core::Result<Option<Secret>> {
    let label = format!("Chart Relay: {}", job.name);
    let entry: Entry = store.build(service, job.name.as_str(), Some(&platform::modifiers(&label)))?;
    match &job.ask {
        Ask::Get => {
            let bytes = Zeroizing::new(entry.get_secret()?);
            match std::str::from_utf8(&bytes) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(_) => Err(Error::BadEncoding(Vec::new())),
            }
        }
        Ask::Set(secret) => entry.set_secret(secret.reveal().as_bytes()).map(|()| None),
        Ask::Delete => entry.delete_credential().map(|()| None),
    }
}

fn classify(name: &SecretName, error: Error) -> SecretsError {
    match error {
        Error::NoEntry => SecretsError::Missing(name.clone()),
        Error::BadEncoding(mut bytes) | Error::BadDataFormat(mut bytes, _) => {
            bytes.zeroize();
            SecretsError::Damaged(name.clone())
        }
        Error::Ambiguous(_) => SecretsError::Damaged(name.clone()),
        Error::NoStorageAccess(cause) | Error::PlatformFailure(cause) => platform::classify(cause.as_ref()),
        Error::TooLong(attribute, _) | Error::Invalid(attribute, _) => {
            Unavailable::Other(format!("refused: {attribute}")).into()
        }
        // Not one of the cases that know the secret; the rest describe the store.
        _ => Unavailable::Other("the keychain's format is not understood".into()).into(),
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use super::{Arc, CredentialStore, HashMap, SecretsError, Unavailable};
    use dbus_secret_service::Error as ServiceError;

    pub(super) fn open() -> keyring_core::Result<Arc<CredentialStore>> {
        Ok(dbus_secret_service_keyring_store::Store::new()?)
    }

    pub(super) fn modifiers(label: &str) -> HashMap<&'static str, &str> {
        HashMap::from([("label", label)])
    }

    pub(super) fn classify(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> SecretsError {
        match cause.downcast_ref::<ServiceError>() {
            // `Prompt`: there was nobody, or no display, to answer the window; or it was dismissed.
            Some(ServiceError::Locked | ServiceError::Prompt) => SecretsError::Locked,
            Some(ServiceError::NoResult) => Unavailable::NoKeyring.into(),
            Some(ServiceError::Unavailable) => Unavailable::NoService.into(),
            Some(ServiceError::Dbus(error)) => match error.name() {
                // D-Bus specification, "Message Bus Names"; dbus-protocol.h.
                Some(
                    "org.freedesktop.DBus.Error.ServiceUnknown"
                    | "org.freedesktop.DBus.Error.NameHasNoOwner"
                    | "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
                ) => Unavailable::NoService.into(),
                Some(
                    "org.freedesktop.DBus.Error.NoServer"
                    | "org.freedesktop.DBus.Error.NotSupported"
                    | "org.freedesktop.DBus.Error.FileNotFound"
                    | "org.freedesktop.DBus.Error.BadAddress"
                    | "org.freedesktop.DBus.Error.Spawn.ExecFailed"
                    | "org.freedesktop.DBus.Error.Disconnected",
                ) => Unavailable::NoBus.into(),
                // Also when it does not answer within libdbus's own limit: it is there, and something holds it up.
                Some(
                    "org.freedesktop.Secret.Error.IsLocked"
                    | "org.freedesktop.DBus.Error.NoReply"
                    | "org.freedesktop.DBus.Error.Timeout"
                    | "org.freedesktop.DBus.Error.TimedOut",
                ) => SecretsError::Locked,
                name => Unavailable::Other(name.unwrap_or("D-Bus error without a name").to_owned()).into(),
            },
            _ => Unavailable::Other("Secret Service".into()).into(),
        }
    }
}

#[cfg(windows)]
mod platform {
    use super::{Arc, CredentialStore, HashMap, SecretsError, Unavailable};

    pub(super) fn open() -> keyring_core::Result<Arc<CredentialStore>> {
        Ok(windows_native_keyring_store::Store::new()?)
    }

    /// `Local`: on this PC only. The store's default would roam with the account through the domain.
    pub(super) fn modifiers(_label: &str) -> HashMap<&'static str, &str> {
        HashMap::from([("persistence", "Local")])
    }

    /// The store names Windows' error in its text, such as `ERROR_NO_SUCH_LOGON_SESSION` (an account without a session).
    pub(super) fn classify(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> SecretsError {
        Unavailable::Other(cause.to_string()).into()
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use super::{Arc, CredentialStore, HashMap, SecretsError, Unavailable};

    pub(super) fn open() -> keyring_core::Result<Arc<CredentialStore>> {
        Ok(apple_native_keyring_store::keychain::Store::new()?)
    }

    pub(super) fn modifiers(_label: &str) -> HashMap<&'static str, &str> {
        HashMap::new()
    }

    pub(super) fn classify(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> SecretsError {
        // SecBase.h: errSecAuthFailed, errSecInteractionNotAllowed, errSecInteractionRequired, userCanceledErr.
        match cause.downcast_ref::<security_framework::base::Error>().map(|error| error.code()) {
            Some(-25293 | -25308 | -25315 | -128) => SecretsError::Locked,
            Some(code) => Unavailable::Other(format!("OSStatus {code}")).into(),
            None => Unavailable::Other("keychain".into()).into(),
        }
    }
}
