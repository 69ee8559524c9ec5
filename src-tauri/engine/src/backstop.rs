//! The queue into which SQS puts what was received too often without a result. Every attempt of ours is counted in the record, so
//! a message gets there only if for a long time nothing could be written down. It is emptied into the ledger: what a message
//! names is wanted, and one that cannot be read is a dead letter.
//!
//! It is asked rarely: a look is one request. Stations do not mind each other: a message that two of them take is covered twice.

use std::{sync::Arc, time::Duration};

use crate::{
    chance::Chance,
    error::{Class, Fault},
    gate::Passage,
    letters::Letters,
    ports::{Delivery, Queue},
};

/// Between looks, more or less: about a hundred requests a day.
pub const EVERY: Duration = Duration::from_secs(15 * 60);
const AT_ONCE: usize = 10;
/// Long enough for SQS to ask all of its servers.
const WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Backstop {
    pub queue: Arc<dyn Queue>,
    pub letters: Letters,
    pub chance: Arc<Chance>,
}

impl Backstop {
    /// Works until the gate is closed for good; `Err` where our own storage is at fault.
    pub async fn work(&self, mut gate: Passage) -> Result<(), Fault> {
        loop {
            // A pause is no reason to leave them: nothing is written outside.
            match self.empty().await {
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => tracing::warn!(%fault, "the dead-letter queue was not emptied; it is asked again later"),
                Ok(()) => {}
            }
            tokio::select! {
                biased;
                () = gate.closed() => return Ok(()),
                () = tokio::time::sleep(self.chance.around(EVERY)) => {}
            }
        }
    }

    async fn empty(&self) -> Result<(), Fault> {
        loop {
            let deliveries = self.queue.receive(AT_ONCE, WAIT).await?;
            if deliveries.is_empty() {
                return Ok(());
            }
            tracing::warn!(messages = deliveries.len(), "messages were in the dead-letter queue");
            for delivery in deliveries {
                self.settle(&delivery).await?;
                self.queue.acknowledge(&[delivery.receipt]).await?;
            }
        }
    }

    async fn settle(&self, delivery: &Delivery) -> Result<(), Fault> {
        match self.letters.reader.read(&delivery.body, delivery.first_sent) {
            Ok(hints) => self.letters.cover(&hints).await,
            Err(unread) => {
                let before = format!(
                    "moved by SQS, after it was received about {} times without a result: ",
                    delivery.receives.saturating_sub(1)
                );
                self.letters.bury(delivery.id.clone(), delivery.first_sent, &unread, &before).await
            }
        }
    }
}
