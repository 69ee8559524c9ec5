//! From the embedded queue and ledger to those that stations share, at the first start with `[shared]`.
//!
//! What is put there is taken from here in the next step, so that whatever is still here is still to be moved: a start that was cut off
//! at any point is taken up by the next one, and what it put there twice is one record, or one more hint. A record that the shared
//! ledger has already, because another station brought it or works on it, is marked wanted there: its next run reads both sides.
//! Cursors go last. They vouch for everything before them.

use engine::{
    body::Reader,
    error::{Class, Code, Fault},
    hint,
    key::Kind,
    keys::{ClinicKey, Seal},
    ledger::{DeadLetter, Filter, Record, Want},
    ports::{Clock, Delivery, Ledger, Message, Queue},
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::{
    adapters::{aws::dynamodb::DynamoLedger, sqlite::Database},
    shared::Way,
};

/// Records taken at once, and of those under way at once.
const PAGE: usize = 50;
const AT_ONCE: usize = 16;

/// What is moved, and where to.
pub(crate) struct Move<'a> {
    pub(crate) from: &'a Database,
    pub(crate) queue: &'a dyn Queue,
    pub(crate) ledger: &'a DynamoLedger,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) key: &'a ClinicKey,
    /// Says how far it is.
    pub(crate) tell: &'a (dyn Fn(Way) + Sync),
}

/// What was still here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Left {
    records: u64,
    letters: u64,
    messages: u64,
}

impl Left {
    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Move<'_> {
    /// Moves all that is left. Whatever goes wrong, it can be called again.
    pub(crate) async fn all(&self) -> Result<(), Fault> {
        let left = self.left().await?;
        if left.is_nothing() {
            return Ok(());
        }
        let Left { records, letters, messages } = left;
        tracing::info!(records, letters, messages, "moving to the shared queue and ledger");
        (self.tell)(Way::Moving(records));
        self.records(|kind| kind != Kind::Cursor).await?;
        self.letters().await?;
        self.messages().await?;
        self.records(|_| true).await?;
        tracing::info!("everything is moved to the shared queue and ledger");
        Ok(())
    }

    async fn left(&self) -> Result<Left, Fault> {
        let ledger = self.from.ledger();
        let depth = self.from.queue().depth().await?;
        Ok(Left {
            records: ledger.count(Filter::All).await?,
            letters: ledger.dead_letters(usize::MAX >> 1).await?.len() as u64,
            messages: depth.waiting + depth.in_flight,
        })
    }

    async fn records(&self, which: impl Fn(Kind) -> bool) -> Result<(), Fault> {
        let ledger = self.from.ledger();
        let mut after = None;
        loop {
            let page = ledger.page(Filter::All, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let chosen: Vec<_> = page.into_iter().filter(|record| which(record.key.kind)).collect();
            let mut bringing = Vec::new();
            for record in &chosen {
                bringing.push(self.bring(record).boxed());
            }
            let brought: Vec<bool> = stream::iter(bringing).buffered(AT_ONCE).try_collect().await?;
            let there: Vec<_> = chosen.iter().zip(&brought).filter(|(_, brought)| !**brought).collect();
            let wants: Vec<_> = there
                .iter()
                .filter(|(record, _)| record.key.kind.is_run())
                .map(|(record, _)| self.want(record))
                .collect();
            self.ledger.want(&wants).await?;
            self.from.forget(chosen.into_iter().map(|record| record.key).collect()).await?;
            let left = ledger.count(Filter::All).await?;
            if left > 0 {
                (self.tell)(Way::Moving(left));
            }
        }
    }

    async fn bring(&self, record: &Record) -> Result<bool, Fault> {
        match self.ledger.bring(record).await {
            // It cannot be kept there as it is: like one of which nothing was known.
            Err(fault) if fault.class == Class::Permanent => {
                tracing::warn!(key = %record.key, %fault, "a record begins anew");
                Ok(false)
            }
            other => other,
        }
    }

    fn want(&self, record: &Record) -> Want {
        let now = self.clock.now();
        let first_seen = record.wanted.map_or(now, |wanted| wanted.first_seen);
        Want { key: record.key.clone(), first_seen, not_before: now, waits_for: None }
    }

    async fn letters(&self) -> Result<(), Fault> {
        let ledger = self.from.ledger();
        loop {
            let letters = ledger.dead_letters(PAGE).await?;
            if letters.is_empty() {
                return Ok(());
            }
            let ids: Vec<_> = letters.iter().map(|letter| letter.id.clone()).collect();
            for letter in letters {
                self.ledger.bury(letter).await?;
            }
            ledger.unbury(&ids).await?;
        }
    }

    async fn messages(&self) -> Result<(), Fault> {
        let queue = self.from.queue();
        loop {
            let deliveries = queue.receive(PAGE, std::time::Duration::ZERO).await?;
            if deliveries.is_empty() {
                return Ok(());
            }
            let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            if let Err(fault) = self.send(deliveries).await {
                // For the next try, which would not see them else.
                queue.release(&receipts).await?;
                return Err(fault);
            }
            queue.acknowledge(&receipts).await?;
        }
    }

    /// As hints, whatever else is in them; what nobody can read is sealed before it leaves this computer.
    async fn send(&self, deliveries: Vec<Delivery>) -> Result<(), Fault> {
        let mut messages = Vec::new();
        for delivery in deliveries {
            match Reader::default().read(&delivery.body, delivery.first_sent) {
                Ok(hints) => {
                    let group = hints.first().map(|hint| hint.key().to_string()).unwrap_or_default();
                    messages.push(Message { id: delivery.id, group, body: hint::encode(hints) });
                }
                Err(unread) => {
                    let seal = Seal::new(self.key);
                    let sealed = unread.keep.as_ref().map(|kept| seal.seal(&delivery.id, kept.as_bytes()));
                    let letter = DeadLetter {
                        sealed_body: sealed.unwrap_or_default(),
                        id: delivery.id,
                        code: Code::Malformed,
                        reason: unread.why.to_string(),
                        first_seen: delivery.first_sent,
                    };
                    self.ledger.bury(letter).await?;
                }
            }
        }
        self.queue.send(messages).await
    }
}
