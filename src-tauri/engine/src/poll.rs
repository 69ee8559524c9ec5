//! Watching a FHIR server that announces nothing.
//!
//! A poll asks for everything changed since the watermark less an overlap, sends a hint for each version not seen in that
//! overlap, and moves the watermark when every hint of the whole page set is durable. The watermark is the server's own time and
//! stays behind its clock by a settling time: a row may be stamped early and become visible late. A hint that cannot be sent is
//! marked in the ledger instead, and so is one that was sent and never arrived: somebody may have emptied the queue. A sweep walks
//! everything, compares versions with the ledger, and so bounds the damage of every gap nobody thought of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::{
    connection::Side,
    error::{Class, Code, Fault},
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, RecordKey, ResourceType},
    lease::{HeldLease, Keeper, Watch},
    ledger::{Claim, Commit, Finish, LedgerError, Record, Take, Want},
    link::LinkState,
    manual::Pass,
    ports::{Change, Message, PageToken, Queue},
    reconcile::Reconciler,
    settings::Firm,
    status::Status,
    supervisor::Gate,
};

/// How far a poll has come; the state of its cursor record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    watermark: Option<Timestamp>,
    /// Versions hinted already, within the overlap: `id version` and when the server stamped them.
    seen: BTreeMap<String, Timestamp>,
}

#[derive(Debug)]
pub struct Poller {
    pub reconciler: Arc<Reconciler>,
    pub queue: Arc<dyn Queue>,
    pub keeper: Arc<Keeper>,
    pub watch: Arc<Watch>,
    pub status: Arc<Status>,
    pub firm: FirmId,
    pub resource: ResourceType,
    pub pass: Arc<Pass>,
    pub calls: Arc<Calls>,
    pub hinted: Hinted,
}

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

/// What makes a poller poll before its time.
#[derive(Debug, Default)]
pub struct Calls {
    /// A person's pass: also while paused.
    pub pass: Notify,
    /// Its proof is gone: as soon as the gate is open.
    pub prove: Notify,
}

/// Why a poll did not complete.
enum Unfinished {
    /// Another station is at it, with this epoch of the cursor's lease.
    Busy(u64),
    /// Another station took over.
    NotOurs,
    /// Of the chart system.
    Fault(Fault),
    /// Of queue or ledger: no reason to think ill of the chart system.
    Storage(Fault),
}

impl From<LedgerError> for Unfinished {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Lost => Unfinished::NotOurs,
            LedgerError::Fault(fault) => Unfinished::Storage(fault),
        }
    }
}

/// What is known of another station's polls: one that takes the cursor again and again is getting on; one that only keeps
/// its lease alive may hang, and proves nothing.
#[derive(Default)]
struct Elsewhere {
    poll: Option<u64>,
    sweep: Option<u64>,
}

impl Elsewhere {
    fn moves_on(&mut self, sweep: bool, epoch: u64) -> bool {
        let last = if sweep { &mut self.sweep } else { &mut self.poll };
        last.replace(epoch) != Some(epoch)
    }
}

/// Polls and sweeps, by their cursor's name.
const POLL: &str = "poll";
const SWEEP: &str = "sweep";

impl Poller {
    /// Polls and sweeps until the gate is closed; `Err` where our own storage is at fault.
    pub async fn work(&self, mut gate: watch::Receiver<Gate>) -> Result<(), Fault> {
        let Some(firm) = self.reconciler.firms.get(&self.firm) else { return Ok(()) };
        let clock = &self.reconciler.clock;
        let mut next_poll = clock.elapsed();
        let mut next_sweep = clock.elapsed();
        // Not moved by a pause or a blocked connection.
        let mut sweep_due = next_sweep;
        let mut failures = 0;
        let mut elsewhere = Elsewhere::default();
        loop {
            let wait = next_poll.min(next_sweep).saturating_sub(clock.elapsed());
            let asked = tokio::select! {
                biased;
                // Unless that pass is over meanwhile: a poll can take longer.
                () = self.calls.pass.notified() => self.pass.is_running(),
                () = self.calls.prove.notified() => {
                    next_poll = clock.elapsed();
                    next_sweep = sweep_due.max(next_poll);
                    false
                }
                changed = gate.changed() => {
                    if changed.is_err() || *gate.borrow() == Gate::Closed {
                        return Ok(());
                    }
                    continue;
                }
                () = tokio::time::sleep(wait) => false,
            };
            match *gate.borrow() {
                Gate::Closed => return Ok(()),
                // One full pass was asked for; else nothing begins while paused.
                Gate::Shut if !asked => {
                    next_poll = clock.elapsed() + firm.plan.every;
                    next_sweep = next_sweep.max(next_poll);
                    continue;
                }
                Gate::Shut | Gate::Open => {}
            }
            if let Some(code) = self.reconciler.connections.blocked_side(&self.firm, Side::Fhir) {
                if asked {
                    self.pass.polled(&self.firm, &self.resource, Some(code));
                }
                next_poll = clock.elapsed() + firm.plan.every;
                next_sweep = next_sweep.max(next_poll);
                continue;
            }
            // A pass is about what changed; a sweep has its own time.
            let sweeps = !asked && clock.elapsed() >= next_sweep;
            let began = clock.elapsed();
            let result = if sweeps { self.sweep(firm).await } else { self.poll(firm, asked).await };
            if asked {
                let obstacle = match &result {
                    Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => Some(fault.code),
                    Ok(()) | Err(Unfinished::Busy(_) | Unfinished::NotOurs) => None,
                };
                self.pass.polled(&self.firm, &self.resource, obstacle);
            }
            let ours = matches!(&result, Err(Unfinished::Storage(_)));
            match result {
                Ok(()) | Err(Unfinished::NotOurs | Unfinished::Busy(_)) => {
                    failures = 0;
                    if let Err(Unfinished::Busy(epoch)) = result
                        && elsewhere.moves_on(sweeps, epoch)
                    {
                        if sweeps {
                            self.status.swept(&self.firm, &self.resource);
                        } else {
                            self.status.polled(&self.firm, &self.resource, began, None);
                        }
                    }
                    // A little chance keeps many stations and types from asking in step.
                    let every = self.reconciler.chance.around(firm.plan.every / 4) + firm.plan.every * 3 / 4;
                    if sweeps {
                        next_sweep = clock.elapsed() + firm.plan.sweep_every;
                        sweep_due = next_sweep;
                    } else {
                        next_poll = clock.elapsed() + every;
                    }
                }
                Err(Unfinished::Storage(fault)) if fault.class == Class::Fatal => return Err(fault),
                Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => {
                    tracing::warn!(firm = %self.firm, resource = %self.resource, %fault, "poll not finished");
                    if !ours {
                        self.failed(firm, &fault).await?;
                    }
                    failures += 1;
                    let wait = self.reconciler.settings.backoff.after(failures, &self.reconciler.chance);
                    let least = match fault.class {
                        Class::Wait(least) => least.unwrap_or_default(),
                        _ => Duration::ZERO,
                    };
                    let again = clock.elapsed() + wait.min(firm.plan.every * 3).max(least);
                    if sweeps { next_sweep = again } else { next_poll = again }
                }
            }
            match self.mark_lost().await {
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => tracing::warn!(%fault, "it was not looked whether hints arrived"),
                Ok(()) => {}
            }
        }
    }

    async fn failed(&self, firm: &Firm, fault: &Fault) -> Result<(), Fault> {
        let connections = &self.reconciler.connections;
        match fault.class {
            Class::Fatal => return Err(fault.clone()),
            Class::Away => match firm.ports.fhir.probe().await {
                Ok(()) => connections.answered(&self.firm, Side::Fhir),
                Err(_) => connections.failed(&self.firm, Side::Fhir, fault),
            },
            Class::Stop => connections.failed(&self.firm, Side::Fhir, fault),
            Class::Wait(Some(long)) if fault.code == Code::Throttled => {
                connections.quiet(&self.firm, Side::Fhir, long);
            }
            Class::Retry | Class::Wait(_) | Class::Stale | Class::Unknown | Class::Permanent => {}
        }
        Ok(())
    }

    /// Asks what changed since the watermark.
    async fn poll(&self, firm: &Firm, asked: bool) -> Result<(), Unfinished> {
        let began = self.reconciler.clock.elapsed();
        let (held, cursor, generation) = self.take(POLL).await?;
        let result = self.poll_held(firm, cursor, asked).await;
        let cursor = self.finish(&held, generation, result).await?;
        self.status.polled(&self.firm, &self.resource, began, cursor.watermark);
        Ok(())
    }

    async fn poll_held(&self, firm: &Firm, cursor: Cursor, asked: bool) -> Result<Cursor, Unfinished> {
        let plan = &firm.plan;
        let since = cursor.watermark.map(|watermark| earlier(watermark, plan.overlap));
        let mut next = cursor;
        let mut newest = next.watermark;
        let mut server_time = None;
        let mut page = None;
        loop {
            let changes = self.page(firm, since, page.as_ref()).await?;
            // The clock of the *first* answer: what is committed while we walk is for the next poll.
            server_time = server_time.or(changes.server_time);
            let fresh: Vec<_> = changes
                .changes
                .into_iter()
                .filter(|change| next.seen.insert(name(change), change.last_updated).is_none())
                .collect();
            newest = newest.max(fresh.iter().map(|change| change.last_updated).max());
            let expected = || {
                let ids = fresh.iter().filter(|_| asked).map(|change| change.id.clone());
                ids.map(|id| RecordKey::link(self.firm.clone(), self.resource.clone(), id))
            };
            self.pass.expect(expected());
            let hinted = self.hint(&fresh, Origin::Poll).await;
            if hinted.is_err() {
                self.pass.give_up(expected());
            }
            hinted?;
            page = changes.next;
            if page.is_none() {
                break;
            }
        }
        // All hints are durable: the mark may move, never back and never past what has settled.
        let settled = server_time.or(newest).map(|time| earlier(time, plan.settle));
        next.watermark = next.watermark.max(newest.min(settled));
        if let Some(watermark) = next.watermark {
            // Longer than the overlap, or a version would be hinted at each poll until the mark passes it.
            let oldest = earlier(watermark, plan.overlap);
            next.seen.retain(|_, stamped| *stamped >= oldest);
        }
        Ok(next)
    }

    /// Walks everything and hints what the ledger does not know in this version.
    async fn sweep(&self, firm: &Firm) -> Result<(), Unfinished> {
        let (held, cursor, generation) = self.take(SWEEP).await?;
        let result = self.sweep_held(firm, &held).await.map(|()| cursor);
        self.finish(&held, generation, result).await?;
        self.status.swept(&self.firm, &self.resource);
        Ok(())
    }

    async fn sweep_held(&self, firm: &Firm, held: &HeldLease) -> Result<(), Unfinished> {
        let mut page = None;
        loop {
            let changes = self.page(firm, None, page.as_ref()).await?;
            let keys: Vec<_> = changes.changes.iter().map(|change| self.key(change)).collect();
            let records = self.reconciler.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
            let records: BTreeMap<_, _> = records.iter().map(|record| (&record.key, record)).collect();
            let mut unknown = changes.changes;
            unknown.retain(|change| {
                records.get(&self.key(change)).is_none_or(|record| !self.is_known(record, &change.version))
            });
            self.hint(&unknown, Origin::Sweep).await?;
            page = changes.next;
            if page.is_none() {
                return Ok(());
            }
            if held.is_lost() {
                return Err(Unfinished::NotOurs);
            }
        }
    }

    fn key(&self, change: &Change) -> RecordKey {
        RecordKey::link(self.firm.clone(), self.resource.clone(), change.id.clone())
    }

    /// Whether the ledger has this version, or is on its way there.
    fn is_known(&self, record: &Record, version: &str) -> bool {
        let state = LinkState::parse(&record.state, &self.reconciler.hasher);
        record.wanted.is_some() || record.dead.is_some() || state.version.as_deref() == Some(version)
    }

    async fn page(
        &self,
        firm: &Firm,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<crate::ports::Changes, Unfinished> {
        let changes = firm.ports.fhir.changes(&self.resource, since, page).await.map_err(Unfinished::Fault)?;
        self.reconciler.connections.answered(&self.firm, Side::Fhir);
        Ok(changes)
    }

    /// Sends a hint of each change. While the queue takes none, the ledger takes the marks: they cover as well.
    async fn hint(&self, changes: &[Change], origin: Origin) -> Result<(), Unfinished> {
        if changes.is_empty() {
            return Ok(());
        }
        let at = self.reconciler.clock.now();
        let message = |change: &Change| {
            let subject = Subject::Resource(change.id.clone());
            let hint = Hint { firm: self.firm.clone(), resource: self.resource.clone(), subject, origin, at };
            let group = hint.key().to_string();
            Message { id: self.reconciler.chance.name(), group, body: hint::encode(vec![hint]) }
        };
        match self.queue.send(changes.iter().map(message).collect()).await {
            Ok(()) => {
                let since = self.reconciler.clock.elapsed();
                let sent = |change: &Change| (self.key(change), Sent { version: change.version.clone(), at, since });
                self.hinted.sent().extend(changes.iter().map(sent));
                Ok(())
            }
            Err(fault) if fault.class == Class::Fatal => Err(Unfinished::Storage(fault)),
            Err(fault) => {
                tracing::warn!(%fault, changes = changes.len(), "hints were not sent; their records are marked instead");
                let wants: Vec<_> = changes.iter().map(|change| Self::want(self.key(change), at)).collect();
                self.reconciler.ledger.want(&wants).await.map_err(Unfinished::Storage)
            }
        }
    }

    fn want(key: RecordKey, first_seen: Timestamp) -> Want {
        Want { key, first_seen, not_before: first_seen, waits_for: None }
    }

    /// Looks whether the hints sent have arrived: one that the queue no longer has and the ledger does not know of was lost on the
    /// way, and is marked.
    async fn mark_lost(&self) -> Result<(), Fault> {
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

    async fn take(&self, poll: &'static str) -> Result<(Arc<HeldLease>, Cursor, u64), Unfinished> {
        let key = RecordKey::cursor(self.firm.clone(), self.resource.clone(), poll);
        let asked = self.reconciler.clock.elapsed();
        let claim = Claim {
            owner: self.reconciler.settings.owner.clone(),
            term: self.reconciler.settings.lease_term,
            overdue: self.watch.overdue(&key, asked),
            now: self.reconciler.clock.now(),
        };
        match self.reconciler.ledger.take(&key, &claim).await.map_err(Unfinished::Storage)? {
            Take::Taken(record, lease) => {
                self.watch.forget(&key);
                // A cursor that cannot be read begins again from the start: that costs reads and loses nothing.
                let cursor = serde_json::from_str(&record.state).unwrap_or_default();
                Ok((self.keeper.hold(lease, asked), cursor, record.generation))
            }
            Take::Busy(held) => {
                self.watch.observe(&key, &held, self.reconciler.clock.elapsed());
                Err(Unfinished::Busy(held.stamp.epoch))
            }
        }
    }

    /// Frees the lease, with the new state where there is one.
    async fn finish(
        &self,
        held: &HeldLease,
        generation: u64,
        result: Result<Cursor, Unfinished>,
    ) -> Result<Cursor, Unfinished> {
        self.keeper.let_go(held);
        let now = self.reconciler.clock.now();
        let commit = |state| Commit { state, finish: Finish::Done, notice: None, generation, first_seen: now, now };
        match result {
            Ok(cursor) => {
                let state = serde_json::to_string(&cursor).expect("a cursor of times and texts has a JSON form");
                self.reconciler.ledger.commit(&held.lease, commit(state)).await?;
                Ok(cursor)
            }
            Err(unfinished) => {
                // The mark stays where it was.
                let key = &held.lease.key;
                if let Ok(Some(record)) = self.reconciler.ledger.read(key).await {
                    let _ = self.reconciler.ledger.commit(&held.lease, commit(record.state)).await;
                }
                Err(unfinished)
            }
        }
    }
}

fn name(change: &Change) -> String {
    format!("{} {}", change.id, change.version)
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
