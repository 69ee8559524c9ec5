use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::lock;
use crate::{
    error::Fault,
    ports::{Clock, Delivery, Depth, Message, Queue, Receipt},
};

/// A queue in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    visibility: Duration,
    messages: Mutex<Messages>,
    sent: Notify,
}

#[derive(Debug, Default)]
struct Messages {
    next: u64,
    receipts: u64,
    all: BTreeMap<u64, Stored>,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    first_sent: Timestamp,
    receives: u32,
    taken: Option<(Receipt, Duration)>,
}

impl MemoryQueue {
    pub fn new(clock: Arc<dyn Clock>, visibility: Duration) -> Arc<Self> {
        Arc::new(Self { clock, visibility, messages: Mutex::default(), sent: Notify::new() })
    }

    /// The ids of all messages that are not deleted.
    pub fn ids(&self) -> Vec<String> {
        lock(&self.messages).all.values().map(|stored| stored.message.id.clone()).collect()
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
                stored.taken = Some((receipt.clone(), now + self.visibility));
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
        let mut messages = lock(&self.messages);
        for message in new {
            let number = messages.next;
            messages.next += 1;
            messages.all.insert(number, Stored { message, first_sent, receives: 0, taken: None });
        }
        self.sent.notify_waiters();
        Ok(())
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
        let messages = lock(&self.messages);
        let in_flight =
            messages.all.values().filter(|stored| stored.taken.as_ref().is_some_and(|(_, until)| *until > now)).count()
                as u64;
        Ok(Depth { waiting: messages.all.len() as u64 - in_flight, in_flight })
    }

    fn visibility(&self) -> Duration {
        self.visibility
    }
}
