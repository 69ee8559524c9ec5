//! `chart-relay run`: the relay without a window, on a server or before the tray is there.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use engine::{
    ports::Clock,
    snapshot::{Snapshot, Verdict},
};
use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::{
    complain, duration,
    person::{Console, Person as _},
    place::Place,
    start::{self, KEY_MADE, asked_to_stop},
};
use crate::{adapters::clock::SystemClock, log, view::words};

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
    let _log = log::start(&start::log_options(Some(&place.config), &place.data.join("log")), clock.clone())?;
    if place.config.shared.is_some() {
        println!("Joining the other stations; this waits until the shared queue and ledger answer.");
    }
    let running = start::start(place, Console.can_answer(), clock).await?;
    if running.key_made {
        println!("{KEY_MADE}");
    }
    for sentence in &running.not_set_up {
        eprintln!("{sentence}\nIt is not served until that is put right and the relay started again; the others are.");
    }
    let stop = running.stopper();
    let telling = tokio::spawn(tell(running.snapshots()));
    let until = async {
        match args.limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut ended = std::pin::pin!(running.ended());
    let result = tokio::select! {
        ended = &mut ended => ended,
        () = asked_to_stop() => {
            println!("Stopping: what runs is finished, everything else waits for the next start.");
            stop.cancel();
            ended.await
        }
        () = until => {
            stop.cancel();
            ended.await
        }
    };
    telling.abort();
    Ok(result?)
}

/// Says the verdict whenever it changes.
async fn tell(mut snapshots: watch::Receiver<Snapshot>) {
    let zone = TimeZone::system();
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
