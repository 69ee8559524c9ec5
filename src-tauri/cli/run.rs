//! `chart-relay run`: the relay without a window, on a server or before the tray is there.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use engine::{ports::Clock, snapshot::Verdict};
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::{complain, duration, person::Console, place::Place};
use crate::{
    adapters::clock::SystemClock,
    clinic_key, config,
    control::{About, Control},
    log,
    socket::Server,
    view::words,
    wiring::{Connected, Relay},
};

pub(super) const KEY_MADE: &str =
    "A clinic key was made. Print its recovery sheet now and lock it away: chart-relay key sheet";

#[derive(Debug, Args)]
pub struct RunArgs {
    /// End after this long, such as 60s
    #[arg(long = "for", value_parser = duration, value_name = "TIME")]
    limit: Option<Duration>,
}

pub async fn run(args: RunArgs, place: &Place) -> ExitCode {
    match relay(args, place).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

async fn relay(args: RunArgs, place: &Place) -> Result<(), Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let level = match place.config.station.log_level {
        config::LogLevel::Error => "error",
        config::LogLevel::Warn => "warn",
        config::LogLevel::Info => "info",
        config::LogLevel::Debug => "debug",
    };
    let options = log::Options {
        directory: Some(place.data.join("log")),
        level: std::env::var(log::VARIABLE).unwrap_or_else(|_| level.to_owned()),
        files: usize::try_from(place.config.station.log_days)?,
        ..log::Options::default()
    };
    let _log = log::start(&options, clock.clone())?;
    // Whoever has the socket is the one relay of this data directory.
    let server = Server::bind(&place.data)?;
    let secrets = place.secrets(&mut Console)?;
    let established = clinic_key::establish(&*secrets, &place.data).await?;
    if established.made_now {
        println!("{KEY_MADE}");
    }
    let (connected, failed) = Connected::each(&place.config, &*secrets, &clock).await;
    for (firm, error) in &failed {
        tracing::error!(%firm, %error, "not set up");
        eprintln!("{error}\nIt is not served until that is put right and the relay started again; the others are.");
    }
    if connected.is_empty() {
        return Err("No clinic can be served.".into());
    }
    let relay = Relay::start(&place.config, &place.data, &established.key, &connected, clock).await?;
    let handle = relay.handle();
    let stop = CancellationToken::new();
    let control = Control::new(relay.handle(), relay.database.clone(), About::of(&place.config, false));
    let serving = tokio::spawn(control.serve(server, stop.clone()));
    let telling = tokio::spawn(tell(relay.handle()));
    let until = async {
        match args.limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut ended = std::pin::pin!(relay.ended());
    let result = tokio::select! {
        ended = &mut ended => ended,
        () = asked_to_stop() => {
            println!("Stopping: what runs is finished, everything else waits for the next start.");
            handle.stop();
            ended.await
        }
        () = until => {
            handle.stop();
            ended.await
        }
    };
    telling.abort();
    stop.cancel();
    let _ = serving.await;
    result.map_err(|fault| format!("{} ({fault})", words::sentence(fault.code)).into())
}

/// Says the verdict whenever it changes.
async fn tell(handle: engine::supervisor::Handle) {
    let zone = TimeZone::system();
    let mut snapshots = handle.snapshots();
    let mut said: Option<Verdict> = None;
    while snapshots.changed().await.is_ok() {
        let verdict = snapshots.borrow_and_update().verdict.clone();
        let same = said.as_ref().is_some_and(|said| std::mem::discriminant(said) == std::mem::discriminant(&verdict));
        if !same {
            println!("{}", words::verdict(&verdict, &zone));
            said = Some(verdict);
        }
    }
}

/// Ctrl-C, or the service manager's request.
async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
