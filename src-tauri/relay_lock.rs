//! One relay on a data directory, whichever account starts it.
//!
//! The local socket belongs to one account (see [`crate::socket`]); this lock is the operating system's and holds for all. The system
//! frees it when its process ends, however it ends. Beside `relay.lock` stands `relay.account`, which says who has it: on Windows
//! nobody can read a file that is locked.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

const LOCK: &str = "relay.lock";
const ACCOUNT: &str = "relay.account";
/// Of an account's name; what is longer is not one.
const LONGEST: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    #[error(
        "a relay is running on this data directory already{}. Use that one, or end it first: chart-relay stop, as the same account.",
        .by.as_ref().map(|by| format!(", started by the account {by}")).unwrap_or_default()
    )]
    Held {
        /// The account that has it, where that can be read.
        by: Option<String>,
    },
    #[error(
        "the file relay.lock in the data directory cannot be used: {0}. The account that runs Chart Relay must be able to write there."
    )]
    System(io::ErrorKind),
}

/// Held as long as the relay lives.
#[derive(Debug)]
pub struct RelayLock {
    _file: File,
}

impl RelayLock {
    /// Takes it for this account.
    pub fn take(data: &Path, account: Option<&str>) -> Result<Self, LockError> {
        let system = |error: io::Error| LockError::System(error.kind());
        let path = data.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = match file {
            // Another account made it. To lock it, reading is enough.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path),
            other => other,
        };
        let file = file.map_err(system)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { by: holder(data) }),
            Err(TryLockError::Error(error)) => return Err(system(error)),
        }
        // For the sentence above only: without it the lock is as good.
        let _ = std::fs::write(data.join(ACCOUNT), account.unwrap_or_default());
        Ok(Self { _file: file })
    }
}

fn holder(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join(ACCOUNT)).ok()?;
    let name = text.trim();
    let plausible = !name.is_empty() && name.len() <= LONGEST && !name.chars().any(char::is_control);
    plausible.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_learns_who_has_it_and_the_next_one_gets_it() {
        let data = tempfile::tempdir().unwrap();
        let first = RelayLock::take(data.path(), Some("front-desk")).unwrap();
        let error = RelayLock::take(data.path(), Some("manager")).unwrap_err();
        assert_eq!(error, LockError::Held { by: Some("front-desk".to_owned()) });
        assert!(error.to_string().contains("started by the account front-desk"), "{error}");
        drop(first);
        let next = RelayLock::take(data.path(), None).unwrap();
        let error = RelayLock::take(data.path(), Some("manager")).unwrap_err();
        assert_eq!(error, LockError::Held { by: None });
        drop(next);
        std::fs::remove_dir_all(data.path()).unwrap();
        let gone = RelayLock::take(data.path(), None).unwrap_err();
        assert_eq!(gone, LockError::System(io::ErrorKind::NotFound));
    }
}
