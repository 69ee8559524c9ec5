//! Watching a FHIR server that announces nothing.
//!
//! A poll asks for everything changed since the watermark less an overlap, sends a hint for each version not seen in that
//! overlap, and moves the watermark when every hint of the whole page set is durable. The watermark is the server's own time and
//! stays behind its clock by a settling time: a row may be stamped early and become visible late. A sweep walks everything,
//! compares versions with the ledger, and so bounds the damage of every gap nobody thought of.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::{
    connection::Side,
    error::{Class, Code, Fault},
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, RecordKey, ResourceType},
    lease::{HeldLease, Keeper, Watch},
    ledger::{Claim, Commit, Finish, LedgerError, Take},
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
    Fault(Fault),
}

impl From<LedgerError> for Unfinished {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Lost => Unfinished::NotOurs,
            LedgerError::Fault(fault) => Unfinished::Fault(fault),
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
                    Err(Unfinished::Fault(fault)) => Some(fault.code),
                    Ok(()) | Err(Unfinished::Busy(_) | Unfinished::NotOurs) => None,
                };
                self.pass.polled(&self.firm, &self.resource, obstacle);
            }
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
                Err(Unfinished::Fault(fault)) => {
                    self.failed(firm, &fault).await?;
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
        }
    }

    async fn failed(&self, firm: &Firm, fault: &Fault) -> Result<(), Fault> {
        tracing::warn!(firm = %self.firm, resource = %self.resource, %fault, "poll not finished");
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
            let hinted = self.hint(fresh.iter().map(|change| &change.id), Origin::Poll).await;
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
            let mut unknown = Vec::new();
            for change in &changes.changes {
                if !self.is_known(change).await.map_err(Unfinished::Fault)? {
                    unknown.push(&change.id);
                }
            }
            self.hint(unknown.into_iter(), Origin::Sweep).await?;
            page = changes.next;
            if page.is_none() {
                return Ok(());
            }
            if held.is_lost() {
                return Err(Unfinished::NotOurs);
            }
        }
    }

    /// Whether the ledger has this version, or is on its way there.
    async fn is_known(&self, change: &Change) -> Result<bool, Fault> {
        let key = RecordKey::link(self.firm.clone(), self.resource.clone(), change.id.clone());
        let Some(record) = self.reconciler.ledger.read(&key).await? else {
            return Ok(false);
        };
        let state = LinkState::parse(&record.state, &self.reconciler.hasher);
        Ok(record.wanted.is_some() || record.dead.is_some() || state.version.as_ref() == Some(&change.version))
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

    async fn hint(&self, ids: impl Iterator<Item = &crate::key::ResourceId>, origin: Origin) -> Result<(), Unfinished> {
        let at = self.reconciler.clock.now();
        let messages: Vec<_> = ids
            .map(|id| {
                let subject = Subject::Resource(id.clone());
                let hint = Hint { firm: self.firm.clone(), resource: self.resource.clone(), subject, origin, at };
                let group = hint.key().to_string();
                Message { id: self.reconciler.chance.name(), group, body: hint::encode(vec![hint]) }
            })
            .collect();
        if messages.is_empty() {
            return Ok(());
        }
        self.queue.send(messages).await.map_err(Unfinished::Fault)
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
        match self.reconciler.ledger.take(&key, &claim).await.map_err(Unfinished::Fault)? {
            Take::Taken(record, lease) => {
                self.watch.forget(&key);
                // A cursor that cannot be read begins again from the start: that costs reads and loses nothing.
                let cursor = serde_json::from_str(&record.state).unwrap_or_default();
                Ok((self.keeper.hold(lease, asked), cursor, record.generation))
            }
            Take::Busy(held) => {
                self.watch.observe(&key, &held, asked);
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
