use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{
    lock,
    oddity::{Oddities, Oddity},
};
use crate::{
    error::{Class, Code, Fault},
    ports::{Clock, Delivery, Depth, Message, Queue, Receipt},
};

/// A queue in memory. Given oddities, it is as odd as SQS.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    visibility: Duration,
    oddities: Option<Arc<dyn Oddities>>,
    messages: Mutex<Messages>,
    sent: Notify,
}

#[derive(Debug, Default)]
struct Messages {
    next: u64,
    receipts: u64,
    all: BTreeMap<u64, Stored>,
    /// What was last told of the depth.
    told: Depth,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    first_sent: Timestamp,
    receives: u32,
    taken: Option<(Receipt, Duration)>,
    /// Of the last receive.
    receipt: Option<Receipt>,
    /// Deleted, and on its way back from a copy that was not.
    deleted: bool,
}

impl MemoryQueue {
    pub fn new(clock: Arc<dyn Clock>, visibility: Duration) -> Arc<Self> {
        Self::with(clock, visibility, None)
    }

    /// As SQS does it.
    pub fn shared(clock: Arc<dyn Clock>, visibility: Duration, oddities: Arc<dyn Oddities>) -> Arc<Self> {
        Self::with(clock, visibility, Some(oddities))
    }

    fn with(clock: Arc<dyn Clock>, visibility: Duration, oddities: Option<Arc<dyn Oddities>>) -> Arc<Self> {
        Arc::new(Self { clock, visibility, oddities, messages: Mutex::default(), sent: Notify::new() })
    }

    /// The ids of all messages that are not deleted.
    pub fn ids(&self) -> Vec<String> {
        let messages = lock(&self.messages);
        messages.all.values().filter(|stored| !stored.deleted).map(|stored| stored.message.id.clone()).collect()
    }

    /// Whether nothing can come any more, not even what was deleted.
    pub fn is_empty(&self) -> bool {
        lock(&self.messages).all.is_empty()
    }

    /// Somebody empties the queue. Answers with the ids of what was in it.
    pub fn purge(&self) -> Vec<String> {
        let ids = self.ids();
        lock(&self.messages).all.clear();
        ids
    }

    fn odd(&self, oddity: Oddity) -> bool {
        self.oddities.as_ref().is_some_and(|oddities| oddities.happens(oddity))
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        let Messages { receipts, all, .. } = &mut *messages;
        all.values_mut()
            .filter(|stored| stored.taken.as_ref().is_none_or(|(_, until)| *until <= now))
            .take(max)
            .map(|stored| {
                *receipts += 1;
                let receipt = Receipt(receipts.to_string());
                stored.receives += 1;
                stored.receipt = Some(receipt.clone());
                stored.taken = (!self.odd(Oddity::HandedOutTwice)).then(|| (receipt.clone(), now + self.visibility));
                Delivery {
                    id: stored.message.id.clone(),
                    body: stored.message.body.clone(),
                    receipt,
                    first_sent: stored.first_sent,
                    receives: stored.receives,
                }
            })
            .collect()
    }

    /// Deletes as SQS does: the receipt of the last receive deletes, in time or not; that of an earlier one is answered the same and
    /// deletes nothing; and what was deleted may come once more. Answers with the entries that failed.
    fn delete_oddly(&self, receipts: &[Receipt]) -> Vec<Receipt> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        let mut failed = Vec::new();
        for receipt in receipts {
            if self.odd(Oddity::EntryFails) {
                failed.push(receipt.clone());
                continue;
            }
            let ours = receipt.0.parse().is_ok_and(|number: u64| (1..=messages.receipts).contains(&number));
            let found = messages.all.iter_mut().find(|(_, stored)| stored.receipt.as_ref() == Some(receipt));
            let Some((number, stored)) = found else {
                if ours {
                    self.odd(Oddity::StaleDelete);
                } else {
                    failed.push(receipt.clone());
                }
                continue;
            };
            let number = *number;
            if !stored.deleted && self.odd(Oddity::ComesAgain) {
                stored.deleted = true;
                stored.taken = Some((receipt.clone(), now + self.visibility));
                stored.receipt = None;
            } else {
                messages.all.remove(&number);
            }
        }
        failed
    }

    /// When the next message becomes visible by itself.
    fn next_visible(&self) -> Option<Duration> {
        lock(&self.messages).all.values().filter_map(|stored| stored.taken.as_ref().map(|(_, until)| *until)).min()
    }

    /// Changes the deliveries that still are the holder's; answers with the others.
    fn for_ours(&self, receipts: &[Receipt], mut change: impl FnMut(&mut Messages, u64)) -> Vec<Receipt> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        let mut lost = Vec::new();
        for receipt in receipts {
            let found = messages.all.iter().find(|(_, stored)| {
                stored.taken.as_ref().is_some_and(|(taken, until)| taken == receipt && *until > now)
            });
            match found.map(|(number, _)| *number) {
                Some(number) => change(&mut messages, number),
                None => lost.push(receipt.clone()),
            }
        }
        lost
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, new: Vec<Message>) -> Result<(), Fault> {
        let first_sent = self.clock.now();
        let half = if new.len() > 1 && self.odd(Oddity::SentInPart) { new.len() / 2 } else { new.len() };
        let whole = half == new.len();
        let mut messages = lock(&self.messages);
        for message in new.into_iter().take(half) {
            let number = messages.next;
            messages.next += 1;
            let new = Stored { message, first_sent, receives: 0, taken: None, receipt: None, deleted: false };
            messages.all.insert(number, new);
        }
        self.sent.notify_waiters();
        if whole { Ok(()) } else { Err(Fault::new(Class::Wait(None), Code::Throttled)) }
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            // Registered before looking, or a message sent in between would not wake us.
            let sent = self.sent.notified();
            let taken = self.take(max);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let until = self.next_visible().map(|at| Instant::now() + at.saturating_sub(self.clock.elapsed()));
            tokio::select! {
                biased;
                () = sent => {}
                () = tokio::time::sleep_until(until.unwrap_or(deadline).min(deadline)) => {
                    if Instant::now() >= deadline {
                        return Ok(self.take(max));
                    }
                }
            }
        }
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        if self.oddities.is_some() {
            return Ok(self.delete_oddly(receipts));
        }
        Ok(self.for_ours(receipts, |messages, number| {
            messages.all.remove(&number);
        }))
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        let until = self.clock.elapsed() + self.visibility;
        Ok(self.for_ours(receipts, |messages, number| {
            if let Some((_, taken)) = messages.all.get_mut(&number).and_then(|stored| stored.taken.as_mut()) {
                *taken = until;
            }
        }))
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.for_ours(receipts, |messages, number| {
            if let Some(stored) = messages.all.get_mut(&number) {
                stored.taken = None;
            }
        });
        self.sent.notify_waiters();
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let now = self.clock.elapsed();
        let mut messages = lock(&self.messages);
        if self.odd(Oddity::OldCount) {
            return Ok(messages.told);
        }
        let in_flight =
            messages.all.values().filter(|stored| stored.taken.as_ref().is_some_and(|(_, until)| *until > now)).count()
                as u64;
        messages.told = Depth { waiting: messages.all.len() as u64 - in_flight, in_flight };
        Ok(messages.told)
    }

    fn batch(&self) -> usize {
        if self.oddities.is_some() { 10 } else { 1 }
    }

    fn visibility(&self) -> Duration {
        self.visibility
    }
}
