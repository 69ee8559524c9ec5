//! Defects in front of the queue.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    body::Reader,
    error::Fault,
    hint,
    ports::{Delivery, Depth, Message, Queue, Receipt},
};

use super::{Beliefs, Defect};

#[derive(Debug)]
pub(super) struct BrokenQueue {
    defect: Defect,
    queue: Arc<dyn Queue>,
    beliefs: Beliefs,
    /// What it has handed out.
    out: Mutex<BTreeMap<String, Receipt>>,
}

impl BrokenQueue {
    pub(super) fn new(defect: Defect, queue: Arc<dyn Queue>, beliefs: Beliefs) -> Self {
        Self { defect, queue, beliefs, out: Mutex::default() }
    }
}

#[async_trait]
impl Queue for BrokenQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        self.queue.send(messages).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let mut deliveries = self.queue.receive(max, wait).await?;
        if self.defect == Defect::DeleteIsTrusted {
            let deleted = self.beliefs.deleted.lock().unwrap().clone();
            deliveries.retain(|delivery| !deleted.contains(&delivery.id));
        }
        if self.defect == Defect::LockedIsAnEcho {
            let locked = self.beliefs.locked.lock().unwrap().clone();
            let is_echo = |delivery: &Delivery| {
                let hints = Reader { firm: Some(crate::world::firm_id()) }.read(&delivery.body, delivery.first_sent);
                hints.is_ok_and(|hints| hints.iter().all(|hint| locked.contains(&hint.key())))
            };
            let echoes: Vec<_> = deliveries.iter().filter(|one| is_echo(one)).map(|one| one.receipt.clone()).collect();
            deliveries.retain(|delivery| !echoes.contains(&delivery.receipt));
            let _ = self.queue.acknowledge(&echoes).await;
        }
        if self.defect == Defect::DuplicateIsDeleted {
            let mut doubled = Vec::new();
            deliveries.retain(|delivery| {
                let known = self.out.lock().unwrap().insert(delivery.id.clone(), delivery.receipt.clone()).is_some();
                if known {
                    doubled.push(delivery.receipt.clone());
                }
                !known
            });
            let _ = self.queue.acknowledge(&doubled).await;
        }
        self.out.lock().unwrap().extend(deliveries.iter().map(|one| (one.id.clone(), one.receipt.clone())));
        if self.defect == Defect::AckOnReceipt {
            let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            let _ = self.queue.acknowledge(&receipts).await;
        }
        if self.defect == Defect::PatientOnly {
            for delivery in &mut deliveries {
                let Ok(mut hints) =
                    Reader { firm: Some(crate::world::firm_id()) }.read(&delivery.body, delivery.first_sent)
                else {
                    continue;
                };
                for hint in &mut hints {
                    hint.resource = crate::world::resource("Patient");
                }
                delivery.body = hint::encode(hints);
            }
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        let refused = self.queue.acknowledge(receipts).await?;
        let out = self.out.lock().unwrap().clone();
        let done = out.iter().filter(|(_, receipt)| receipts.contains(receipt) && !refused.contains(receipt));
        self.beliefs.deleted.lock().unwrap().extend(done.map(|(id, _)| id.clone()));
        self.out.lock().unwrap().retain(|_, receipt| !receipts.contains(receipt));
        Ok(refused)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.queue.extend(receipts).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.queue.release(receipts).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.queue.depth().await
    }

    fn visibility(&self) -> Duration {
        self.queue.visibility()
    }
}
