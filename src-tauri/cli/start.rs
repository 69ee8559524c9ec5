//! How a relay comes to run on a data directory: for `run`, and for the tray program.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use engine::{
    error::{Code, Fault},
    keys::ClinicKey,
    ports::Clock,
    server_clock,
    snapshot::Snapshot,
};
use futures::FutureExt;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::{
    adapters::{aws::Account, sqlite::Database},
    clinic_key::{self, ClinicKeyError},
    config,
    control::{About, AtWork, Control},
    log,
    secrets::{Secrets, SecretsError},
    shared::{self, Stores, Way},
    socket::{Server, SocketError},
    view::words,
    wiring::{Base, Connected, Relay, WiringError},
};

/// A relay that waits shows itself as often as one that works.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

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
    #[error(transparent)]
    KeyElsewhere(#[from] shared::KeyElsewhere),
    #[error("no clinic can be served: {}", .0.join(" "))]
    NoClinic(Vec<String>),
    /// The attempt itself broke off; the log says where. (`run` breaks off with it.)
    #[cfg(feature = "desktop")]
    #[error("a part of the program failed; the log says where")]
    Failed,
}

/// A relay that answers on its socket. Where stations share the work it may still wait for AWS, and says so.
#[derive(Debug)]
pub(crate) struct Running {
    /// A clinic key was made just now: its sheet is to be printed.
    pub(crate) key_made: bool,
    /// Clinics that could not be set up, each with what is in the way; the others are served.
    pub(crate) not_set_up: Vec<String>,
    snapshots: watch::Receiver<Snapshot>,
    stop: CancellationToken,
    life: JoinHandle<Result<(), EndError>>,
}

/// Why a relay ended that nobody had told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    /// It never took part: it was turned away, or what stations share is not there.
    #[error(transparent)]
    NotJoined(WiringError),
    #[error("{} ({fault})", words::sentence(.fault.code))]
    Fault {
        #[from]
        fault: Fault,
    },
    #[error("a part of the program failed; the log says where")]
    Failed,
}

/// `attended`: a person sits here who can answer a keychain's question.
pub(crate) async fn start(place: &Place, attended: bool, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    // Whoever has the socket is the one relay of this data directory.
    let server = Server::bind(&place.data)?;
    let secrets: Arc<dyn Secrets> = place.secrets(attended)?.into();
    let account = match &place.config.shared {
        Some(shared) => {
            let account = shared::standing_account(shared, &place.file, secrets.clone()).await?;
            Some((shared.clone(), account.beside(clock.clone())))
        }
        None => None,
    };
    if let Some((shared, account)) = &account {
        shared::key_is_here(shared, account, &*secrets, &place.data, &clock).await?;
    }
    let established = clinic_key::establish(&*secrets, &place.data).await?;
    let (connected, failed) = Connected::each(&place.config, &*secrets, &clock).await;
    for (firm, error) in &failed {
        tracing::error!(%firm, %error, "not set up");
    }
    let not_set_up: Vec<_> = failed.iter().map(|(_, error)| error.to_string()).collect();
    if connected.is_empty() && place.config.watched.is_empty() {
        return Err(StartError::NoClinic(not_set_up));
    }
    let base = Base::lay(&place.config, &place.data, &established.key, secrets.clone(), clock.clone()).await?;
    let (tell, snapshots) = watch::channel(Snapshot::joining(clock.now(), clock.now(), None));
    let (at_work, working) = watch::channel(None);
    let stop = CancellationToken::new();
    let control = Control {
        about: About::of(&place.config, false),
        database: base.database.clone(),
        snapshots: snapshots.clone(),
        working,
        stop: stop.clone(),
        requests: account
            .as_ref()
            .map(|(shared, account)| (account.requests().clone(), shared.queue.ends_with(".fifo"))),
    };
    let front = Front { tell, at_work, stop: stop.clone() };
    let life = match account {
        None => front.work(Relay::start_on(base, &place.config, &connected, failed, None).await?).boxed(),
        Some((shared, account)) => {
            let place = place.clone();
            let joining = Joining { shared, account, key: established.key, clock };
            let life = async move {
                match joining.join(&place, &base.database, &front).await {
                    Some(Ok(stores)) => {
                        let relay = Relay::start_on(base, &place.config, &connected, failed, Some(stores)).await;
                        front.work(relay.map_err(EndError::NotJoined)?).await
                    }
                    Some(Err(fault)) => {
                        tracing::error!(%fault, "this station does not take part");
                        base.leave().await?;
                        Err(EndError::NotJoined(joining.why_not(fault)))
                    }
                    None => Ok(base.leave().await?),
                }
            };
            life.boxed()
        }
    };
    let farewell = CancellationToken::new();
    let serving = tokio::spawn(control.serve(server, farewell.clone()));
    let life = tokio::spawn(async move {
        let ended = life.await;
        // The socket answers until then.
        farewell.cancel();
        let _ = serving.await;
        ended
    });
    Ok(Running { key_made: established.made_now, not_set_up, snapshots, stop, life })
}

/// What is shown and heard of a relay, from before its engine begins.
struct Front {
    tell: watch::Sender<Snapshot>,
    at_work: watch::Sender<Option<AtWork>>,
    stop: CancellationToken,
}

impl Front {
    async fn work(self, relay: Relay) -> Result<(), EndError> {
        let handle = relay.handle();
        let mut snapshots = handle.snapshots();
        self.at_work.send_replace(Some(AtWork { handle: handle.clone(), roster: relay.roster() }));
        let mut told = false;
        let mut ended = std::pin::pin!(relay.ended());
        let ended = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                Ok(()) = snapshots.changed() => {
                    self.tell.send_replace(snapshots.borrow_and_update().clone());
                }
                () = self.stop.cancelled(), if !told => {
                    told = true;
                    handle.stop();
                }
            }
        };
        self.tell.send_replace(snapshots.borrow().clone());
        Ok(ended?)
    }
}

/// A station on its way to the others.
struct Joining {
    shared: config::Shared,
    account: Account,
    key: ClinicKey,
    clock: Arc<dyn Clock>,
}

impl Joining {
    /// `None`: it was told to stop while it waited.
    async fn join(&self, place: &Place, database: &Database, front: &Front) -> Option<Result<Stores, Fault>> {
        let Self { shared, account, key, clock } = self;
        let since = clock.now();
        let last = Mutex::new(None);
        let tell = |way: Way| *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
        let joined = async {
            let stores = shared::stores(&place.config, shared, account, &place.data, key, clock, &tell).await?;
            shared::moved(database, &stores, key, &**clock, &tell).await?;
            Ok(stores)
        };
        let mut joined = std::pin::pin!(joined);
        loop {
            tokio::select! {
                joined = &mut joined => break Some(joined),
                () = front.stop.cancelled() => break None,
                () = tokio::time::sleep(SHOWN_EVERY) => {
                    let way = *last.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut next = match way {
                        None => Snapshot::joining(clock.now(), since, None),
                        Some(Way::Failed(code)) => Snapshot::joining(clock.now(), since, Some(code)),
                        Some(Way::Moving(left)) => Snapshot::moving(clock.now(), left),
                    };
                    front.tell.send_modify(|shown| {
                        next.revision = shown.revision + 1;
                        *shown = next;
                    });
                }
            }
        }
    }
}

impl Joining {
    /// A sign-in that is refused where the clocks differ is refused for that.
    fn why_not(&self, fault: Fault) -> WiringError {
        let ahead = self.account.server_clock().and_then(|heard| heard.ahead(&*self.clock));
        match ahead.filter(|ahead| fault.code == Code::SignInRefused && ahead.abs() > server_clock::IN_STEP) {
            // AWS is ahead of us by what we are behind.
            Some(ahead) => WiringError::Clock { ahead: -ahead.as_secs() },
            None => WiringError::Shared { fault },
        }
    }
}

impl Running {
    /// The newest picture of it, and the ones to come.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }

    /// Begins its end: what runs is finished first.
    pub(crate) fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until it has ended and let go of everything. The socket answers until then.
    pub(crate) async fn ended(self) -> Result<(), EndError> {
        self.life.await.unwrap_or(Err(EndError::Failed))
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
