//! Hints on their way, and what becomes of those that never arrive.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{Poller, Unfinished, cursor::Cursor, source::Line};
use crate::{
    error::Class,
    hint::{self, Hint, Origin},
    ledger::Want,
    ports::Message,
};

/// What had been sent at one time. It is remembered until a queue that has nothing to give shows that all of it was received, or lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The latest stamp.
    pub(super) until: Timestamp,
    /// By the source's clock.
    pub(super) time: Timestamp,
    /// Elapsed.
    at: Duration,
}

#[derive(Debug, Default)]
pub struct Noted(Mutex<Option<Mark>>);

impl Noted {
    fn mark(&self) -> MutexGuard<'_, Option<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poller {
    /// Sends a hint of each line. While the queue takes none, the ledger takes the marks: they cover as well.
    pub(super) async fn hint(&self, lines: &[Line]) -> Result<(), Unfinished> {
        if lines.is_empty() {
            return Ok(());
        }
        let at = self.reconciler.clock.now();
        let message = |line: &Line| {
            let subject = line.subject.clone();
            let hint =
                Hint { firm: self.firm.clone(), resource: self.resource.clone(), subject, origin: Origin::Poll, at };
            let group = hint.key().to_string();
            Message { id: self.reconciler.chance.name(), group, body: hint::encode(vec![hint]) }
        };
        match self.queue.send(lines.iter().map(message).collect()).await {
            Ok(()) => Ok(()),
            Err(fault) if fault.class == Class::Fatal => Err(Unfinished::Storage(fault)),
            Err(fault) => {
                tracing::warn!(%fault, changes = lines.len(), "hints were not sent; their records are marked instead");
                self.mark(lines).await
            }
        }
    }

    /// Marks the record of each line in the ledger, where nothing can lose it on the way.
    pub(super) async fn mark(&self, lines: &[Line]) -> Result<(), Unfinished> {
        if lines.is_empty() {
            return Ok(());
        }
        let at = self.reconciler.clock.now();
        let want = |line: &Line| Want { key: self.key(&line.subject), first_seen: at, not_before: at, waits_for: None };
        let wants: Vec<_> = lines.iter().map(want).collect();
        self.reconciler.ledger.want(&wants).await.map_err(Unfinished::Storage)
    }

    /// What must have arrived by now.
    pub(super) fn must_have_arrived(&self) -> Option<Mark> {
        let emptied = self.status.read().emptied?;
        self.noted.mark().filter(|mark| mark.at < emptied)
    }

    /// What is under way has been sent by now. `looked`: whether what was noted last has arrived.
    pub(super) fn note(&self, cursor: &Cursor, time: Option<Timestamp>, looked: bool) {
        let mut mark = self.noted.mark();
        if looked {
            *mark = None;
        }
        *mark = cursor.under_way.as_ref().map(|under_way| {
            let clock = &self.reconciler.clock;
            let time = time.unwrap_or_else(|| clock.now());
            mark.unwrap_or(Mark { until: under_way.until, time, at: clock.elapsed() })
        });
    }

    /// Of hints that must have arrived: one that the ledger does not know of was lost, and its record is marked. True if somebody
    /// is at work on one of them, so that it has to be looked at again.
    pub(super) async fn mark_lost(&self, lines: Vec<Line>) -> Result<bool, Unfinished> {
        let keys: Vec<_> = lines.iter().map(|line| self.key(&line.subject)).collect();
        let records = self.reconciler.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let records: BTreeMap<_, _> = records.iter().map(|record| (&record.key, record)).collect();
        let mut at_work = false;
        let mut lost = lines;
        lost.retain(|line| match records.get(&self.key(&line.subject)) {
            Some(record) if self.is_known(record, &line.version) => false,
            Some(record) if record.held.is_some() => {
                at_work = true;
                false
            }
            Some(_) | None => true,
        });
        if !lost.is_empty() {
            tracing::warn!(hints = lost.len(), "hints never arrived; their records are marked");
            self.mark(&lost).await?;
        }
        Ok(at_work)
    }
}
