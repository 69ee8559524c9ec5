//! Hints on their way, and what becomes of those that never arrive.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{Poller, Unfinished, cursor::UnderWay, source::Line};
use crate::{
    error::Class,
    hint::{self, Hint, Origin},
    key::RecordKey,
    ledger::Want,
    ports::Message,
};

/// What had been sent at one time. It is remembered until a queue that has nothing to give shows that all of it was received, or lost.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The latest stamp.
    until: Timestamp,
    /// By the source's clock.
    time: Timestamp,
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

    /// A look whether what is under way has arrived, if all that was noted of it must have by now.
    pub(super) fn look(&self, under_way: Option<UnderWay>) -> Option<Look> {
        let emptied = self.status.read().emptied?;
        let mark = self.noted.mark().filter(|mark| mark.at < emptied)?;
        Some(Look { mark, under_way: under_way?, listed: BTreeSet::new(), at_work: false })
    }

    /// What is under way has been sent by now. `looked`: what was noted before was looked at.
    pub(super) fn note(&self, under_way: Option<UnderWay>, time: Timestamp, looked: bool) {
        let mut mark = self.noted.mark();
        let before = mark.filter(|_| !looked);
        let now = self.reconciler.clock.elapsed();
        *mark = under_way.map(|under_way| before.unwrap_or(Mark { until: under_way.until, time, at: now }));
    }

    /// Looks at lines of which hints were sent.
    pub(super) async fn look_at(&self, look: &mut Look, mut lines: Vec<Line>) -> Result<(), Unfinished> {
        lines.retain(|line| look.concerns(line.at));
        look.at_work |= self.mark_lost(lines).await?;
        Ok(())
    }

    /// Looks at those that were not listed: a list may lag behind, so that it no longer shows, or not again yet, what it has shown.
    pub(super) async fn look_at_unlisted(
        &self,
        look: &mut Look,
        seen: &BTreeMap<String, Timestamp>,
    ) -> Result<(), Unfinished> {
        let sent = seen.iter().filter(|(_, at)| look.concerns(Some(**at)));
        let mut latest: BTreeMap<RecordKey, Line> = BTreeMap::new();
        for line in sent.filter_map(|(name, at)| Line::named(name, *at)) {
            let key = self.key(&line.subject);
            let is_later = latest.get(&key).is_none_or(|other| other.at <= line.at);
            if is_later && !look.listed.contains(&key) {
                latest.insert(key, line);
            }
        }
        look.at_work |= self.mark_lost(latest.into_values().collect()).await?;
        Ok(())
    }

    /// Of hints that must have arrived: one that the ledger does not know of was lost, and its record is marked. True if somebody
    /// is at work on one of them, so that it has to be looked at again.
    async fn mark_lost(&self, mut lines: Vec<Line>) -> Result<bool, Unfinished> {
        let keys: Vec<_> = lines.iter().map(|line| self.key(&line.subject)).collect();
        let records = self.reconciler.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let records: BTreeMap<_, _> = records.iter().map(|record| (&record.key, record)).collect();
        let mut at_work = false;
        lines.retain(|line| match records.get(&self.key(&line.subject)) {
            Some(record) if self.is_known(record, &line.version) => false,
            Some(record) if record.held.is_some() => {
                at_work = true;
                false
            }
            Some(_) | None => true,
        });
        if !lines.is_empty() {
            tracing::warn!(hints = lines.len(), "hints never arrived; their records are marked");
            self.mark(&lines).await?;
        }
        Ok(at_work)
    }
}

/// A look whether hints have arrived.
pub(super) struct Look {
    mark: Mark,
    under_way: UnderWay,
    listed: BTreeSet<RecordKey>,
    /// Somebody is at work on one of them.
    at_work: bool,
}

impl Look {
    pub(super) fn since(&self) -> Timestamp {
        self.under_way.since
    }

    pub(super) fn listed(&mut self, keys: impl Iterator<Item = RecordKey>) {
        self.listed.extend(keys);
    }

    fn concerns(&self, at: Option<Timestamp>) -> bool {
        at.is_some_and(|at| at > self.under_way.since && at <= self.mark.until)
    }

    /// What is still under way when all of it was looked at.
    pub(super) fn rest(self) -> Option<UnderWay> {
        let Self { mark, under_way, at_work, .. } = self;
        if at_work {
            return Some(under_way);
        }
        let since = under_way.since.max(mark.until);
        (under_way.until > mark.until).then_some(UnderWay { since, begun: mark.time, ..under_way })
    }
}
