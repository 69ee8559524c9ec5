//! Watching two systems that announce nothing: the chart system, and the clinic's database.
//!
//! A poll asks for everything changed since the watermark less an overlap, sends a hint for each version not seen in that
//! overlap, and moves the watermark when every hint of the whole page set is durable. The watermark is the source's own time and
//! stays behind its clock by a settling time: a row may be stamped early and become visible late. A hint that cannot be sent is
//! marked in the ledger instead. Hints that were sent are under way until a poll has seen that the ledger knows what they told of;
//! one that was lost, by a purge of the queue, is marked then (`hints`). A sweep walks everything, compares versions with the ledger,
//! marks what the polls cannot have seen, and so bounds the damage of every gap nobody thought of; of the clinic's database it also
//! finds what was deleted (`missing`), which leaves no trace there.
//!
//! One poller watches one side of one resource type; what differs between the sides is in `source`.

mod cursor;
mod hints;
mod missing;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc};

pub use self::hints::Noted;
use self::{
    cursor::{Cursor, Elsewhere, Round, UnderWay},
    source::Line,
};
use crate::{
    connection::Side,
    consumer::Order,
    error::{Class, Code, Fault},
    gate::{Gate, Passage},
    hint::Subject,
    key::{FirmId, RecordKey, ResourceType},
    lease::{HeldLease, Keeper, Watch},
    ledger::{LedgerError, Record},
    link::LinkState,
    manual::Pass,
    ports::Queue,
    reconcile::Reconciler,
    settings::{Firm, PollPlan},
    status::{Polled, Status, Swept},
};

#[derive(Debug)]
pub struct Poller {
    pub reconciler: Arc<Reconciler>,
    pub queue: Arc<dyn Queue>,
    pub keeper: Arc<Keeper>,
    pub watch: Arc<Watch>,
    pub status: Arc<Status>,
    pub firm: FirmId,
    pub side: Side,
    pub resource: ResourceType,
    pub pass: Arc<Pass>,
    pub calls: Arc<Calls>,
    pub noted: Noted,
    /// For what a person has said.
    pub orders: mpsc::Sender<Order>,
}

/// What makes a poller poll before its time.
#[derive(Debug, Default)]
pub struct Calls {
    /// A person's pass: also while paused.
    pub pass: Notify,
    /// Its proof is gone: as soon as the gate is open.
    pub prove: Notify,
    /// A person says that what is missing was deleted on purpose: a sweep that takes it so begins at once.
    deleted: Mutex<Option<Deleted>>,
}

/// Who said so.
#[derive(Debug)]
struct Deleted {
    person: Option<String>,
}

impl Calls {
    pub(crate) fn were_deleted(&self, person: Option<String>) {
        *self.deleted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Deleted { person });
        self.prove.notify_one();
    }

    fn is_said_to_be_deleted(&self) -> bool {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn said_to_be_deleted(&self) -> Option<Deleted> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a poll did not complete.
enum Unfinished {
    /// Another station is at it, with this epoch of the cursor's lease.
    Busy(u64),
    /// Another station took over.
    NotOurs,
    /// The clinic's table has no fields by which changes could be found.
    NotWatched,
    /// Of the side that is watched.
    Fault(Fault),
    /// Of queue or ledger: no reason to think ill of that side.
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

impl Poller {
    fn plan<'a>(&self, firm: &'a Firm) -> &'a PollPlan {
        firm.plan_of(self.side)
    }

    /// Polls and sweeps until the gate is closed; `Err` where our own storage is at fault.
    pub async fn work(&self, mut gate: Passage) -> Result<(), Fault> {
        let Some(firm) = self.reconciler.firms.get(&self.firm) else { return Ok(()) };
        let plan = self.plan(firm);
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
                gate = gate.moved() => {
                    if gate == Gate::Closed {
                        return Ok(());
                    }
                    continue;
                }
                () = tokio::time::sleep(wait) => false,
            };
            match gate.now() {
                Gate::Closed => return Ok(()),
                // One full pass was asked for; else nothing begins while paused.
                Gate::Shut if !asked => {
                    next_poll = clock.elapsed() + plan.every;
                    next_sweep = next_sweep.max(next_poll);
                    continue;
                }
                Gate::Shut | Gate::Open => {}
            }
            if let Some(code) = self.reconciler.connections.blocked_side(&self.firm, self.side) {
                if asked {
                    self.pass.polled(&self.firm, self.side, &self.resource, Some(code));
                }
                next_poll = clock.elapsed() + plan.every;
                next_sweep = next_sweep.max(next_poll);
                continue;
            }
            // A pass is about what changed; a sweep has its own time.
            let due = clock.elapsed();
            // What a poll can find is not left to a sweep.
            let sweeps = due >= next_sweep && due < next_poll || self.calls.is_said_to_be_deleted();
            let round = if sweeps && !asked { Round::Sweep } else { Round::Poll };
            let began = clock.elapsed();
            let result = match round {
                Round::Poll => self.poll(firm, asked).await,
                Round::Sweep => self.sweep(firm).await,
            };
            if asked {
                let obstacle = match &result {
                    Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => Some(fault.code),
                    Ok(()) | Err(Unfinished::Busy(_) | Unfinished::NotOurs | Unfinished::NotWatched) => None,
                };
                self.pass.polled(&self.firm, self.side, &self.resource, obstacle);
            }
            let ours = matches!(&result, Err(Unfinished::Storage(_)));
            match result {
                Ok(()) | Err(Unfinished::NotOurs | Unfinished::Busy(_)) => {
                    failures = 0;
                    if let Err(Unfinished::Busy(epoch)) = result
                        && elsewhere.moves_on(round, epoch)
                    {
                        match round {
                            Round::Sweep => self.swept(Swept::default()),
                            Round::Poll => self.polled(began, None),
                        }
                    }
                    // A little chance keeps many stations and types from asking in step.
                    let every = self.reconciler.chance.around(plan.every / 4) + plan.every * 3 / 4;
                    match round {
                        Round::Sweep => {
                            next_sweep = clock.elapsed() + plan.sweep_every;
                            sweep_due = next_sweep;
                        }
                        Round::Poll => next_poll = clock.elapsed() + every,
                    }
                }
                Err(Unfinished::NotWatched) => {
                    // Nothing is to be found there, which is as good as having looked. A consultant may add the fields.
                    failures = 0;
                    self.polled(began, Some(Polled { remark: Some(Code::NotWatched), ..Polled::default() }));
                    self.swept(Swept { remark: Some(Code::NotWatched), ..Swept::default() });
                    next_poll = clock.elapsed() + plan.every;
                    next_sweep = clock.elapsed() + plan.sweep_every;
                    sweep_due = next_sweep;
                }
                Err(Unfinished::Storage(fault)) if fault.class == Class::Fatal => return Err(fault),
                Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => {
                    let (side, resource) = (self.side, &self.resource);
                    tracing::warn!(firm = %self.firm, ?side, %resource, %fault, "poll not finished");
                    if !ours {
                        self.failed(firm, &fault).await?;
                    }
                    failures += 1;
                    let wait = self.reconciler.settings.backoff.after(failures, &self.reconciler.chance);
                    let least = match fault.class {
                        Class::Wait(least) => least.unwrap_or_default(),
                        _ => Duration::ZERO,
                    };
                    let again = clock.elapsed() + wait.min(plan.every * 3).max(least);
                    match round {
                        Round::Sweep => next_sweep = again,
                        Round::Poll => next_poll = again,
                    }
                }
            }
        }
    }

    fn polled(&self, began: Duration, came: Option<Polled>) {
        self.status.polled(&self.firm, self.side, &self.resource, began, came);
    }

    fn swept(&self, swept: Swept) {
        self.status.swept(&self.firm, self.side, &self.resource, swept);
    }

    async fn failed(&self, firm: &Firm, fault: &Fault) -> Result<(), Fault> {
        let connections = &self.reconciler.connections;
        match fault.class {
            Class::Fatal => return Err(fault.clone()),
            Class::Away => {
                let probe = match self.side {
                    Side::Fhir => firm.ports.fhir.probe().await,
                    Side::FileMaker => firm.ports.clinic.probe().await,
                };
                match probe {
                    Ok(()) => connections.answered(&self.firm, self.side),
                    Err(_) => connections.failed(&self.firm, self.side, fault),
                }
            }
            Class::Stop => connections.failed(&self.firm, self.side, fault),
            Class::Wait(Some(long)) if fault.code == Code::Throttled => {
                connections.quiet(&self.firm, self.side, long);
            }
            Class::Retry | Class::Wait(_) | Class::Stale | Class::Unknown | Class::Permanent => {}
        }
        Ok(())
    }

    /// Asks what changed since the watermark.
    async fn poll(&self, firm: &Firm, asked: bool) -> Result<(), Unfinished> {
        let began = self.reconciler.clock.elapsed();
        let (held, cursor, generation) = self.take(Round::Poll).await?;
        let mut polled = Polled::default();
        let result = self.poll_held(firm, cursor, asked, &mut polled).await;
        self.finish(&held, generation, result).await?;
        self.polled(began, Some(polled));
        Ok(())
    }

    async fn poll_held(
        &self,
        firm: &Firm,
        cursor: Cursor,
        asked: bool,
        polled: &mut Polled,
    ) -> Result<Cursor, Unfinished> {
        let plan = self.plan(firm);
        let since = cursor.watermark.map(|watermark| earlier(watermark, plan.overlap));
        let mut look = self.look(cursor.under_way);
        // Once more from where they began, to see that all of them arrived.
        let from = since.map(|since| look.as_ref().map_or(since, |look| since.min(look.since())));
        let heard = |time: Option<Timestamp>| time.unwrap_or_else(|| self.reconciler.clock.now());
        let mut next = cursor;
        let mut newest = next.watermark;
        let mut time = None;
        let mut page = None;
        let mut sent = None;
        loop {
            let list = self.page(firm, from, page.as_ref()).await?;
            // The clock of the *first* answer: what is committed while we walk is for the next poll.
            time = time.or(list.time);
            if list.ahead {
                polled.remark = Some(Code::DeskClock);
            }
            newest = newest.max(list.lines.iter().filter_map(|line| line.at).max());
            if let Some(look) = &mut look {
                look.listed(list.lines.iter().map(|line| self.key(&line.subject)));
            }
            let seen = &mut next.seen;
            let is_fresh = |line: &Line| {
                line.at.is_none_or(|at| since.is_none_or(|since| at >= since))
                    && seen.insert(line.name(), line.at.unwrap_or(Timestamp::MIN)).is_none()
            };
            let (mut fresh, hinted): (Vec<_>, Vec<_>) = list.lines.into_iter().partition(is_fresh);
            if let Some(look) = &mut look {
                self.look_at(look, hinted).await?;
            }
            if since.is_none() && self.side == Side::FileMaker {
                // Most of what is there has been written by us.
                self.leave_out_what_is_known(&mut fresh).await?;
            }
            let expected = || fresh.iter().filter(|_| asked).map(|line| self.key(&line.subject));
            self.pass.expect(expected());
            let hints = self.hint(&fresh).await;
            if hints.is_err() {
                self.pass.give_up(expected());
            }
            hints?;
            let (begun, stamps) = (heard(time), fresh.iter().filter_map(|line| line.at));
            sent = stamps.fold(sent, |sent, stamp| Some(UnderWay::of(stamp, begun).and(sent)));
            page = list.next;
            if page.is_none() {
                break;
            }
        }
        let looked = look.is_some();
        if let Some(mut look) = look {
            self.look_at_unlisted(&mut look, &next.seen).await?;
            next.under_way = look.rest();
        }
        next.under_way = sent.map(|sent| sent.and(next.under_way)).or(next.under_way);
        // All hints are durable: the mark may move, never back and never past what has settled. Where nothing has a stamp, it begins
        // at what has settled.
        let settled = time.or(newest).map(|time| earlier(time, plan.settle));
        next.watermark = next.watermark.max(newest.min(settled)).or(settled);
        if self.side == Side::FileMaker {
            // What changed last would be listed for ever, whole rows of it, and FileMaker counts what it sends.
            next.watermark = next.watermark.max(settled.map(|settled| earlier(settled, plan.overlap)));
        }
        if let Some(watermark) = next.watermark {
            // Longer than the overlap, or a version would be hinted at each poll until the mark passes it.
            let oldest = earlier(watermark, plan.overlap);
            next.seen.retain(|_, stamped| *stamped >= oldest);
        }
        polled.watermark = next.watermark;
        let now = heard(time);
        let age = |under_way: UnderWay| Duration::try_from(now.duration_since(under_way.begun)).unwrap_or_default();
        polled.under_way = next.under_way.map(age);
        self.note(next.under_way, now, looked);
        Ok(next)
    }

    /// Walks everything and marks what the ledger does not know in this version, or knows and is no longer there.
    async fn sweep(&self, firm: &Firm) -> Result<(), Unfinished> {
        let (held, cursor, generation) = self.take(Round::Sweep).await?;
        let result = self.sweep_held(firm, &held).await;
        let (result, swept) = match result {
            Ok(swept) => (Ok(cursor), swept),
            Err(unfinished) => (Err(unfinished), Swept::default()),
        };
        self.finish(&held, generation, result).await?;
        self.swept(swept);
        Ok(())
    }

    async fn sweep_held(&self, firm: &Firm, held: &HeldLease) -> Result<Swept, Unfinished> {
        let mut swept = Swept::default();
        let mut there: BTreeSet<String> = BTreeSet::new();
        let polls = self.polls().await?;
        let mut polled = None;
        let mut page = None;
        loop {
            let mut list = self.page(firm, None, page.as_ref()).await?;
            let polled = polled.get_or_insert_with(|| SeenByPolls::new(&polls, list.time, self.plan(firm)));
            swept.remark = swept.remark.or((list.nameless > 0).then_some(Code::RowsUnnamed));
            there.extend(list.keys);
            if self.leave_out_what_is_known(&mut list.lines).await? {
                swept.remark = Some(Code::DeskClock);
            }
            list.lines.retain(|line| !polled.sees(line));
            self.mark(&list.lines).await?;
            page = list.next;
            if page.is_none() {
                break;
            }
            if held.is_lost() {
                return Err(Unfinished::NotOurs);
            }
        }
        if self.side == Side::FileMaker {
            swept.missing = self.look_for_missing(firm, &there, held).await?;
        }
        Ok(swept)
    }

    /// True if one of those that are left was changed and its stamp was not.
    async fn leave_out_what_is_known(&self, lines: &mut Vec<Line>) -> Result<bool, Unfinished> {
        let keys: Vec<_> = lines.iter().map(|line| self.key(&line.subject)).collect();
        let records = self.reconciler.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let records: BTreeMap<_, _> = records.iter().map(|record| (&record.key, record)).collect();
        let mut unstamped = false;
        lines.retain(|line| {
            let Some(record) = records.get(&self.key(&line.subject)) else { return true };
            if self.is_known(record, &line.version) {
                return false;
            }
            unstamped |= self.is_stamped_no_later(record, line);
            true
        });
        Ok(unstamped)
    }

    fn key(&self, subject: &Subject) -> RecordKey {
        let (firm, resource) = (self.firm.clone(), self.resource.clone());
        match subject {
            Subject::Resource(id) => RecordKey::link(firm, resource, id.clone()),
            Subject::Row(row) => RecordKey::row(firm, resource, row),
        }
    }

    /// Whether the ledger has this version, or is on its way there.
    fn is_known(&self, record: &Record, version: &str) -> bool {
        let state = LinkState::parse(&record.state, &self.reconciler.hasher);
        let known = match self.side {
            Side::Fhir => state.has_seen(version) && !state.keeps_too_long(self.reconciler.clock.now()),
            Side::FileMaker => state.row.as_ref().is_some_and(|(_, mod_id)| mod_id.0 == version),
        };
        record.wanted.is_some() || record.dead.is_some() || known
    }

    /// A row that is another version than the one we read, and carries no later stamp than that one.
    fn is_stamped_no_later(&self, record: &Record, line: &Line) -> bool {
        let state = LinkState::parse(&record.state, &self.reconciler.hasher);
        state.modified.is_some() && line.stamp <= state.modified
    }
}

/// What a sweep may leave to the polls.
struct SeenByPolls {
    /// They look, or look again, at whatever was stamped since then.
    since: Option<Timestamp>,
}

impl SeenByPolls {
    fn new(polls: &Cursor, now: Option<Timestamp>, plan: &PollPlan) -> Self {
        let Some(watermark) = polls.watermark else { return Self { since: None } };
        let since = match &polls.under_way {
            // Of hints that have been under way so long nobody knows when they will be looked at: the queue may never be empty.
            Some(UnderWay { since, begun, .. }) if now.is_some_and(|now| earlier(now, plan.sweep_every) < *begun) => {
                *since
            }
            Some(_) | None => watermark,
        };
        Self { since: Some(since) }
    }

    fn sees(&self, line: &Line) -> bool {
        line.at.zip(self.since).is_some_and(|(at, since)| at >= since)
    }
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
