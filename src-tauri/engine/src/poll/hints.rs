//! Hints on their way, and what becomes of those that never arrive.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{Poller, Unfinished, source::Line};
use crate::{
    error::{Class, Fault},
    hint::{self, Hint, Origin},
    key::RecordKey,
    ledger::Want,
    ports::Message,
};

/// Hints that were sent and were not seen to arrive. Lost with the process, whose next start begins with a sweep.
#[derive(Debug, Default)]
pub struct Hinted(Mutex<BTreeMap<RecordKey, Sent>>);

#[derive(Debug, Clone)]
struct Sent {
    version: String,
    at: Timestamp,
    /// Elapsed time when it was on its way for certain.
    since: Duration,
}

impl Hinted {
    fn sent(&self) -> MutexGuard<'_, BTreeMap<RecordKey, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poller {
    /// Sends a hint of each line. While the queue takes none, the ledger takes the marks: they cover as well.
    pub(super) async fn hint(&self, lines: &[Line], origin: Origin) -> Result<(), Unfinished> {
        if lines.is_empty() {
            return Ok(());
        }
        let at = self.reconciler.clock.now();
        let message = |line: &Line| {
            let subject = line.subject.clone();
            let hint = Hint { firm: self.firm.clone(), resource: self.resource.clone(), subject, origin, at };
            let group = hint.key().to_string();
            Message { id: self.reconciler.chance.name(), group, body: hint::encode(vec![hint]) }
        };
        match self.queue.send(lines.iter().map(message).collect()).await {
            Ok(()) => {
                let since = self.reconciler.clock.elapsed();
                let sent = |line: &Line| (self.key(&line.subject), Sent { version: line.version.clone(), at, since });
                self.hinted.sent().extend(lines.iter().map(sent));
                Ok(())
            }
            Err(fault) if fault.class == Class::Fatal => Err(Unfinished::Storage(fault)),
            Err(fault) => {
                tracing::warn!(%fault, changes = lines.len(), "hints were not sent; their records are marked instead");
                let wants: Vec<_> = lines.iter().map(|line| Self::want(self.key(&line.subject), at)).collect();
                self.reconciler.ledger.want(&wants).await.map_err(Unfinished::Storage)
            }
        }
    }

    fn want(key: RecordKey, first_seen: Timestamp) -> Want {
        Want { key, first_seen, not_before: first_seen, waits_for: None }
    }

    /// Looks whether the hints sent have arrived: one that the queue no longer has and the ledger does not know of was lost on the
    /// way, and is marked.
    pub(super) async fn mark_lost(&self) -> Result<(), Fault> {
        let Some(emptied) = self.status.read().emptied else { return Ok(()) };
        let due: BTreeMap<RecordKey, Sent> = {
            let sent = self.hinted.sent();
            sent.iter()
                .filter(|(_, sent)| sent.since < emptied)
                .map(|(key, sent)| (key.clone(), sent.clone()))
                .collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = due.keys().cloned().collect();
        let records = self.reconciler.ledger.read_all(&keys).await?;
        let records: BTreeMap<_, _> = records.iter().map(|record| (&record.key, record)).collect();
        let mut lost = Vec::new();
        let mut settled = Vec::new();
        for (key, sent) in &due {
            match records.get(key) {
                Some(record) if self.is_known(record, &sent.version) => settled.push(key),
                // At work on it; looked at again.
                Some(record) if record.held.is_some() => {}
                Some(_) | None => lost.push(Self::want(key.clone(), sent.at)),
            }
        }
        if !lost.is_empty() {
            tracing::warn!(
                hints = lost.len(),
                "the queue is empty and these hints never arrived; their records are marked"
            );
            self.reconciler.ledger.want(&lost).await?;
        }
        let mut sent = self.hinted.sent();
        for key in settled.into_iter().chain(lost.iter().map(|want| &want.key)) {
            // Unless it was hinted again meanwhile.
            if sent.get(key).is_some_and(|now| now.since == due[key].since) {
                sent.remove(key);
            }
        }
        Ok(())
    }
}
