//! The tray program's own door, beside the relay's socket: what another start of the program and the window may ask of the tray itself. Whoever
//! holds it is the one tray of this data directory, whether a relay runs there or not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    socket::{self, Server, SocketError},
    view::desk::Opening,
};

/// The tray answers at once, or it is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// An attempt to start may wait for a person before the keychain's window.
const START_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Bring the window to the front.
    Show,
    /// What is there to show? Answered when an attempt to start has ended.
    Opening,
    /// The same, after another attempt to start if nothing runs.
    StartAgain,
    /// Names are to be hidden from now on, or not.
    HideNames(bool),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    Done,
    Opening {
        opening: Opening,
        /// An icon shows the same.
        icon: bool,
    },
}

/// In the data directory: the door, and what the window remembers of itself.
pub fn folder(data: &Path) -> PathBuf {
    data.join("desk")
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`SocketError::AlreadyRunning`]: there is a tray already.
pub fn bind(data: &Path) -> Result<Server, SocketError> {
    Server::bind(&folder(data))
}

pub async fn call(data: &Path, ask: &Ask) -> Result<Told, SocketError> {
    let patience = if matches!(ask, Ask::Opening | Ask::StartAgain) { START_PATIENCE } else { PATIENCE };
    socket::call(&folder(data), ask, patience).await
}
