//! Where the socket is, who may have it and who may use it: what differs between platforms.
//!
//! In the data directory, `control/` belongs to the account alone (0700). Whoever holds the lock on `control/lock` is the one relay
//! of this data directory; the system frees the lock when its process ends, however it ends. So a socket that is found by the holder
//! of the lock is a dead one's and may go.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use interprocess::local_socket::{
    ListenerOptions, Name,
    tokio::{Listener, Stream},
};

use super::SocketError;

const DIRECTORY: &str = "control";

/// The right to listen on a data directory.
#[derive(Debug)]
pub(super) struct Place {
    #[cfg(windows)]
    address: PathBuf,
    _lock: File,
}

impl Place {
    pub(super) fn take(data: &Path) -> Result<(Self, Listener), SocketError> {
        let directory = data.join(DIRECTORY);
        let foreign = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => SocketError::OtherAccount,
            _ => error.into(),
        };
        own_directory(&directory).map_err(foreign)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"));
        let lock = lock.map_err(foreign)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::AlreadyRunning),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        platform::listen(&directory, lock)
    }
}

/// Where the relay of this data directory listens, if one does.
pub(super) fn find(data: &Path) -> Result<Name<'static>, SocketError> {
    platform::find(&data.join(DIRECTORY))
}

/// What an error of connecting means.
pub(super) fn connecting(error: io::Error) -> SocketError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SocketError::NobodyListens,
        io::ErrorKind::PermissionDenied => SocketError::Refused(
            "the relay's socket belongs to another account; run this command as that account".to_owned(),
        ),
        io::ErrorKind::InvalidInput => SocketError::PathTooLong,
        kind => SocketError::System(kind),
    }
}

#[cfg(unix)]
fn own_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // It may have been there before, or made by a copy that lost the mode.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

/// Under the account's profile, whose access list it inherits.
#[cfg(windows)]
fn own_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Whether the other side is the account that runs this process. Besides the modes of directory and socket, because those can be
/// changed by hand.
#[cfg(unix)]
pub(super) fn same_account(stream: &Stream) -> bool {
    use interprocess::local_socket::traits::StreamCommon;
    stream.peer_creds().is_ok_and(|peer| peer.euid() == Some(rustix::process::geteuid().as_raw()))
}

/// The pipe's own access list has seen to it.
#[cfg(windows)]
pub(super) fn same_account(_stream: &Stream) -> bool {
    true
}

#[cfg(unix)]
mod platform {
    use interprocess::local_socket::{GenericFilePath, ToFsName};

    use super::{File, Listener, ListenerOptions, Name, Path, PathBuf, Place, SocketError, connecting, fs, io};

    fn socket(directory: &Path) -> PathBuf {
        directory.join("socket")
    }

    pub(super) fn listen(directory: &Path, lock: File) -> Result<(Place, Listener), SocketError> {
        use std::os::unix::fs::PermissionsExt;
        let path = socket(directory);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let name = path.as_path().to_fs_name::<GenericFilePath>()?;
        let listener = ListenerOptions::new().name(name).create_tokio().map_err(connecting)?;
        // The directory keeps others out from the first moment; this is the second door.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok((Place { _lock: lock }, listener))
    }

    pub(super) fn find(directory: &Path) -> Result<Name<'static>, SocketError> {
        Ok(socket(directory).to_fs_name::<GenericFilePath>()?)
    }
}

#[cfg(windows)]
mod platform {
    use interprocess::{
        local_socket::{GenericNamespaced, ToNsName},
        os::windows::{local_socket::ListenerOptionsExt, security_descriptor::SecurityDescriptor},
    };
    use widestring::u16cstr;

    use super::{File, Listener, ListenerOptions, Name, Path, PathBuf, Place, SocketError, fs, io};

    /// Pipes have one name space for the whole PC, in which any account could take a name that it can guess. So the name is random,
    /// new at each start, and written where only this account can read it.
    fn address(directory: &Path) -> PathBuf {
        directory.join("pipe")
    }

    pub(super) fn listen(directory: &Path, lock: File) -> Result<(Place, Listener), SocketError> {
        let pipe = format!("chart-relay-{:032x}", rand::random::<u128>());
        // Protected from inheritance; all rights to the owner, none to anybody else (SDDL, "OW" is OWNER RIGHTS). Unverified on
        // Windows so far.
        let owner_only = SecurityDescriptor::deserialize(u16cstr!("D:P(A;;GA;;;OW)"))?;
        let listener = ListenerOptions::new()
            .name(pipe.as_str().to_ns_name::<GenericNamespaced>()?)
            .security_descriptor(owner_only)
            .create_tokio()?;
        let address = address(directory);
        fs::write(&address, &pipe)?;
        Ok((Place { address, _lock: lock }, listener))
    }

    pub(super) fn find(directory: &Path) -> Result<Name<'static>, SocketError> {
        let pipe = fs::read_to_string(address(directory)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SocketError::NobodyListens,
            kind => SocketError::System(kind),
        })?;
        Ok(pipe.to_ns_name::<GenericNamespaced>()?)
    }

    impl Drop for Place {
        fn drop(&mut self) {
            // What stays behind leads to a pipe that is gone: also "nobody listens".
            let _ = fs::remove_file(&self.address);
        }
    }
}
