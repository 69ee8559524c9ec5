//! What the tray hears of its relay: of its own, or through the socket of one that runs without a tray.

use std::{path::PathBuf, time::Duration};

use engine::snapshot::Snapshot;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::start::{EndError, Running},
    control::{Answer, Request},
    socket,
};

/// Before a relay that went away is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum News {
    Snapshot(Box<Snapshot>),
    /// Our own relay has ended: because it was asked to, or by a fault.
    Ended(Result<(), EndError>),
}

#[derive(Debug)]
pub struct Line {
    /// Ours, which ends with us.
    own: Option<CancellationToken>,
    news: mpsc::Receiver<News>,
    /// Follows a relay of others.
    following: Option<JoinHandle<()>>,
}

impl Line {
    pub fn own(running: Running) -> Self {
        let (say, news) = mpsc::channel(1);
        let stop = running.stopper();
        let mut snapshots = running.snapshots();
        // What there is now is the first that is told.
        snapshots.mark_changed();
        tokio::spawn(async move {
            let mut ended = std::pin::pin!(running.ended());
            let result = loop {
                tokio::select! {
                    result = &mut ended => break result,
                    Ok(()) = snapshots.changed() => {
                        let snapshot = snapshots.borrow_and_update().clone();
                        // Nobody listens any more; the relay is ended properly all the same.
                        let _ = say.send(News::Snapshot(Box::new(snapshot))).await;
                    }
                }
            };
            let _ = say.send(News::Ended(result)).await;
        });
        Self { own: Some(stop), news, following: None }
    }

    /// A relay that another process runs; it may go and come back.
    pub fn attached(data: PathBuf) -> Self {
        let (say, news) = mpsc::channel(1);
        let following = tokio::spawn(async move {
            loop {
                if let Ok(mut watch) = socket::watch(&data, &Request::Watch).await {
                    while let Some(Ok(Answer::Snapshot(snapshot))) = watch.next().await {
                        if say.send(News::Snapshot(snapshot)).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { own: None, news, following: Some(following) }
    }

    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Begins the drain of our own relay; [`News::Ended`] comes at its end.
    pub fn stop(&self) {
        if let Some(stop) = &self.own {
            stop.cancel();
        }
    }

    /// May be dropped while waiting without losing anything.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}
