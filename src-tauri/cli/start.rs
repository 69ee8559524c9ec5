//! How a relay comes to run on a data directory: for `run`, and for the tray program.

use std::{path::Path, sync::Arc};

use engine::{error::Fault, ports::Clock, supervisor::Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::{
    clinic_key::{self, ClinicKeyError},
    config,
    control::{About, Control},
    log,
    secrets::SecretsError,
    shared,
    socket::{Server, SocketError},
    wiring::{Connected, Relay, WiringError},
};

pub(crate) const KEY_MADE: &str =
    "A clinic key was made. Print its recovery sheet now and lock it away: chart-relay key sheet";

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Key(#[from] ClinicKeyError),
    #[error(transparent)]
    Wiring(#[from] WiringError),
    #[error("no clinic can be served: {}", .0.join(" "))]
    NoClinic(Vec<String>),
    /// The attempt itself broke off; the log says where. (`run` breaks off with it.)
    #[cfg(feature = "desktop")]
    #[error("a part of the program failed; the log says where")]
    Failed,
}

/// A relay that runs and answers on its socket.
#[derive(Debug)]
pub(crate) struct Running {
    relay: Relay,
    /// A clinic key was made just now: its sheet is to be printed.
    pub(crate) key_made: bool,
    /// Clinics that could not be set up, each with what is in the way; the others are served.
    pub(crate) not_set_up: Vec<String>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// `attended`: a person sits here who can answer a keychain's question.
pub(crate) async fn start(place: &Place, attended: bool, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    // Whoever has the socket is the one relay of this data directory.
    let server = Server::bind(&place.data)?;
    let secrets = place.secrets(attended)?;
    let established = clinic_key::establish(&*secrets, &place.data).await?;
    let (connected, failed) = Connected::each(&place.config, &*secrets, &clock).await;
    for (firm, error) in &failed {
        tracing::error!(%firm, %error, "not set up");
    }
    let not_set_up: Vec<_> = failed.iter().map(|(_, error)| error.to_string()).collect();
    if connected.is_empty() {
        return Err(StartError::NoClinic(not_set_up));
    }
    let account = match &place.config.shared {
        Some(shared) => Some(shared::account(shared, &*secrets).await?),
        None => None,
    };
    let key = &established.key;
    let relay = Relay::start_with(&place.config, &place.data, key, &connected, clock, account.as_ref()).await?;
    let stop = CancellationToken::new();
    let control = Control::new(relay.handle(), relay.database.clone(), About::of(&place.config, false));
    let serving = tokio::spawn(control.serve(server, stop.clone()));
    Ok(Running { relay, key_made: established.made_now, not_set_up, stop, serving })
}

impl Running {
    pub(crate) fn handle(&self) -> Handle {
        self.relay.handle()
    }

    /// Waits until the engine has ended, then lets go of everything. The socket answers until then.
    pub(crate) async fn ended(self) -> Result<(), Fault> {
        let result = self.relay.ended().await;
        self.stop.cancel();
        let _ = self.serving.await;
        result
    }
}

/// Where and how a program of this configuration logs.
pub(crate) fn log_options(config: Option<&config::Config>, directory: &Path) -> log::Options {
    let level = config.map_or("info", |config| match config.station.log_level {
        config::LogLevel::Error => "error",
        config::LogLevel::Warn => "warn",
        config::LogLevel::Info => "info",
        config::LogLevel::Debug => "debug",
    });
    let usual = log::Options::default();
    log::Options {
        directory: Some(directory.to_owned()),
        level: std::env::var(log::VARIABLE).unwrap_or_else(|_| level.to_owned()),
        files: config.and_then(|config| usize::try_from(config.station.log_days).ok()).unwrap_or(usual.files),
        ..usual
    }
}

/// Ctrl-C, the terminal closed, the service manager's or the session's request to end.
pub(crate) async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    #[cfg(windows)]
    {
        use tokio::signal::windows::{ctrl_break, ctrl_close, ctrl_logoff, ctrl_shutdown};
        if let (Ok(mut broken), Ok(mut closed), Ok(mut logoff), Ok(mut shutdown)) =
            (ctrl_break(), ctrl_close(), ctrl_logoff(), ctrl_shutdown())
        {
            tokio::select! {
                _ = broken.recv() => {}
                _ = closed.recv() => {}
                _ = logoff.recv() => {}
                _ = shutdown.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
