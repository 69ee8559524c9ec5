//! Queue deliveries and due records become runs: one at a time for each key, never more than the station has permits for.
//!
//! All of the bookkeeping belongs to one task. A permit is free before anything is received. Hints for a key that is about to run
//! join that run; hints for one that is running lead to exactly one more. A delivery is acknowledged when every hint in it
//! is covered: its run was committed, or its record was marked wanted, or it was dead-lettered.

mod run;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use self::run::Run;
use crate::{
    error::{Class, Code, Fault},
    gate::{Gate, Passage},
    hint::Hint,
    key::{FirmId, Kind, RecordKey},
    lease::{Keeper, Watch},
    ledger::Want,
    letters::Letters,
    manual::Pass,
    ports::{Delivery, Queue, Receipt},
    reconcile::{Reconciler, Wish},
    status::Status,
};

/// Between questions which firms nobody serves.
const UNSERVED_EVERY: Duration = Duration::from_secs(60);
/// How long a receive waits that only asks whether there is more. SQS answers for all of its servers from a second on.
const SHORT: Duration = Duration::from_secs(1);

/// How long a request that could carry more waits for that, where requests have their price.
const LINGER: Duration = Duration::from_millis(500);

/// A wish of a person that some keys be run now.
#[derive(Debug)]
pub enum Order {
    Run(Vec<RecordKey>),
    /// Run this one for a person, who waits for the answer.
    Ask(RecordKey, Ask),
    /// Look for due records now. Also said when a pass begins or ends, since that opens or shuts the way in while paused.
    Look,
}

/// What a person wants of one record.
#[derive(Debug)]
pub struct Ask {
    pub wish: Wish,
    /// Done, or why not.
    pub answer: oneshot::Sender<Result<(), Fault>>,
}

#[derive(Debug)]
pub struct Consumer {
    pub reconciler: Arc<Reconciler>,
    pub queue: Arc<dyn Queue>,
    pub keeper: Arc<Keeper>,
    pub watch: Arc<Watch>,
    pub status: Arc<Status>,
    pub pass: Arc<Pass>,
    pub letters: Letters,
}

/// A key that is to run or runs.
#[derive(Debug)]
struct Active {
    /// Since when (elapsed).
    running: Option<Duration>,
    first_seen: Timestamp,
    /// Deliveries that this run covers.
    tickets: Vec<Receipt>,
    /// Deliveries that came while it ran: for one more run.
    later: Vec<Receipt>,
}

/// How a run of one key ended.
#[derive(Debug)]
enum End {
    /// Committed, or marked wanted; to be run again at once if `again`, or by us no sooner than after `pause`, whatever the wall
    /// clocks of others make of it.
    Covered { again: bool, pause: Duration },
    /// Somebody else holds the lease, and the record is marked wanted.
    Busy,
    /// Nothing was written down (our ledger is away): the delivery must come again.
    NotCovered(Fault),
}

/// The bookkeeping of one life of the consumer.
struct Desk {
    active: BTreeMap<RecordKey, Active>,
    ready: VecDeque<RecordKey>,
    /// Hints of each delivery that are not covered yet.
    open: BTreeMap<Receipt, usize>,
    done: Vec<Receipt>,
    /// What persons want of keys: each gets a run of its own.
    asks: BTreeMap<RecordKey, VecDeque<Ask>>,
    /// Keys not to be looked at again before this elapsed time: somebody else is at work on them.
    postponed: BTreeMap<RecordKey, Duration>,
    /// When (elapsed) it is asked again which firms nobody serves.
    ask_unserved: Duration,
    /// Those that nobody served when it was last asked.
    suspected: BTreeSet<FirmId>,
}

/// A receive's answer, with the elapsed time at which it was asked.
type Received = (Duration, Result<Vec<Delivery>, Fault>);

type Runs = JoinSet<(RecordKey, Result<End, Fault>)>;

impl Consumer {
    /// Works until the gate is closed for good and what runs is finished; `Err` where our own storage is at fault.
    pub async fn work(&self, mut gate: Passage, orders: &mut mpsc::Receiver<Order>) -> Result<(), Fault> {
        let settings = &self.reconciler.settings;
        // What an earlier life had on its desk is nobody's now: it must become visible again.
        self.keeper.release_all();
        let mut desk = Desk {
            active: BTreeMap::new(),
            ready: VecDeque::new(),
            open: BTreeMap::new(),
            done: Vec::new(),
            asks: BTreeMap::new(),
            postponed: BTreeMap::new(),
            ask_unserved: Duration::ZERO,
            suspected: BTreeSet::new(),
        };
        let mut runs: Runs = JoinSet::new();
        let mut receiving: Option<BoxFuture<'_, Received>> = None;
        let mut acknowledging: Option<BoxFuture<'_, Result<(), Fault>>> = None;
        let batch = self.queue.batch();
        // Half of the places stay at work meanwhile.
        let full = batch.min(settings.runs.div_ceil(2));
        // Until when (elapsed) a small request waits.
        let mut lingers: Option<Duration> = None;
        // Before the next receive, after one that failed.
        let mut pause = Duration::ZERO;
        // The last look found more records due than there was room for.
        let mut more = false;
        let mut due = tokio::time::interval(settings.due_every);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = gate.now();
            let open = now == Gate::Open || (now == Gate::Shut && self.pass.is_running());
            if !open {
                // What it may have taken already becomes visible again by itself.
                receiving = None;
            }
            if now == Gate::Closed && desk.active.is_empty() && desk.done.is_empty() && acknowledging.is_none() {
                return Ok(());
            }
            // What is on the desk is finished even while the gate is shut: nothing may be left half done.
            while runs.len() < settings.runs
                && let Some(key) = desk.ready.pop_front()
            {
                self.start(&mut desk, &mut runs, key);
            }
            // Deliveries and due records each have as many places as there are runs, so that neither keeps the other out.
            let delivered = desk.active.values().filter(|active| !active.tickets.is_empty()).count();
            let free = settings.runs.saturating_sub(delivered);
            let room = settings.runs.saturating_sub(desk.active.len() - delivered);
            let elapsed = self.reconciler.clock.elapsed();
            let waited = now == Gate::Closed || lingers.is_some_and(|until| until <= elapsed);
            if receiving.is_none() && open && free > 0 && (free >= full || waited) {
                let max = free.min(settings.receive_batch);
                let pause = std::mem::take(&mut pause);
                // After something came, a short one: as long as none comes back empty, nobody knows that all is done.
                let certain = self.queue.counts_exactly() || !self.status.read().more_received;
                let wait = if certain { settings.receive_wait } else { settings.receive_wait.min(SHORT) };
                let receive = async move {
                    tokio::time::sleep(pause).await;
                    let asked = self.reconciler.clock.elapsed();
                    (asked, self.queue.receive(max, wait).await)
                };
                receiving = Some(receive.boxed());
            }
            if acknowledging.is_none() && !desk.done.is_empty() && (desk.done.len() >= batch || waited) {
                acknowledging = Some(self.acknowledge(std::mem::take(&mut desk.done)).boxed());
            }
            let small = (receiving.is_none() && open && free > 0) || (acknowledging.is_none() && !desk.done.is_empty());
            lingers = small.then(|| lingers.filter(|_| !waited).unwrap_or(elapsed + LINGER));
            self.status.running(desk.active.iter().filter(|(_, active)| active.running.is_some()).map(|(key, _)| key));
            tokio::select! {
                biased;
                Some(ended) = runs.join_next() => self.ended(&mut desk, ended)?,
                acknowledged = wait(&mut acknowledging) => {
                    acknowledging = None;
                    acknowledged?;
                }
                // Before what was received: once a pause is acknowledged, nothing more is taken.
                _ = gate.moved() => {}
                (asked, received) = wait(&mut receiving) => {
                    receiving = None;
                    match received {
                        Ok(deliveries) => {
                            self.status.received(deliveries.len(), asked);
                            if deliveries.is_empty() {
                                self.pass.queue_empty(asked, |key| desk.active.contains_key(key));
                            }
                            self.received(&mut desk, deliveries).await?;
                        }
                        Err(fault) if fault.class == Class::Fatal => return Err(fault),
                        Err(fault) => {
                            tracing::warn!(%fault, "the queue did not answer");
                            pause = self.reconciler.chance.around(Duration::from_secs(2));
                        }
                    }
                }
                Some(order) = orders.recv(), if now != Gate::Closed => match order {
                    Order::Run(keys) => {
                        let seen = self.reconciler.clock.now();
                        for key in keys {
                            desk.add(key, seen, None);
                        }
                    }
                    Order::Ask(key, ask) => {
                        desk.asks.entry(key.clone()).or_default().push_back(ask);
                        desk.add(key, self.reconciler.clock.now(), None);
                    }
                    Order::Look => due.reset_immediately(),
                },
                _ = due.tick(), if open && room > 0 => more = self.look_for_due(&mut desk, room).await?,
                () = tokio::time::sleep(lingers.unwrap_or_default().saturating_sub(elapsed)), if lingers.is_some() => {}
                () = std::future::ready(()), if more && open && room > settings.runs / 2 => {
                    more = self.look_for_due(&mut desk, room).await?;
                }
            }
        }
    }

    /// Takes a delivery apart and puts its hints on the desk.
    async fn received(&self, desk: &mut Desk, deliveries: Vec<Delivery>) -> Result<(), Fault> {
        let mut blocked: Vec<(Receipt, Vec<Want>)> = Vec::new();
        for delivery in deliveries {
            self.keeper.keep(delivery.receipt.clone());
            match self.letters.reader.read(&delivery.body, delivery.first_sent) {
                Ok(hints) => {
                    self.status.count(|totals| totals.hints += hints.len() as u64);
                    if let Some(wants) = self.all_blocked(&hints) {
                        blocked.push((delivery.receipt, wants));
                        continue;
                    }
                    desk.open.insert(delivery.receipt.clone(), hints.len());
                    for hint in hints {
                        if desk.add(hint.key(), hint.at, Some(delivery.receipt.clone())) {
                            self.status.count(|totals| totals.coalesced += 1);
                        }
                    }
                }
                Err(unread) => {
                    let buried = self.letters.bury(delivery.id, delivery.first_sent, &unread, "").await;
                    match buried {
                        Ok(()) => desk.done.push(delivery.receipt),
                        Err(fault) => self.not_covered([delivery.receipt].into_iter(), fault)?,
                    }
                }
            }
        }
        if !blocked.is_empty() {
            let wants: Vec<_> = blocked.iter().flat_map(|(_, wants)| wants.clone()).collect();
            match self.reconciler.ledger.want(&wants).await {
                Ok(()) => {
                    let now = self.reconciler.clock.elapsed();
                    wants.iter().for_each(|want| self.pass.ended(&want.key, now, None));
                    desk.done.extend(blocked.into_iter().map(|(receipt, _)| receipt));
                }
                Err(fault) => self.not_covered(blocked.into_iter().map(|(receipt, _)| receipt), fault)?,
            }
        }
        Ok(())
    }

    /// Where every hint's firm is blocked, its records are marked wanted instead of run.
    fn all_blocked(&self, hints: &[Hint]) -> Option<Vec<Want>> {
        let now = self.reconciler.clock.now();
        hints
            .iter()
            .map(|hint| {
                let code = self.reconciler.blocked(&hint.firm)?;
                Some(Want { key: hint.key(), first_seen: hint.at, not_before: now, waits_for: Some(code) })
            })
            .collect()
    }

    /// These deliveries come again by themselves.
    fn not_covered(&self, receipts: impl Iterator<Item = Receipt>, fault: Fault) -> Result<(), Fault> {
        for receipt in receipts {
            self.keeper.release(&receipt);
        }
        if fault.class == Class::Fatal {
            return Err(fault);
        }
        tracing::warn!(%fault, "deliveries are left to come again");
        Ok(())
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<(), Fault> {
        for receipt in &receipts {
            self.keeper.release(receipt);
        }
        match self.queue.acknowledge(&receipts).await {
            Ok(refused) => {
                // They come again and find nothing to do.
                self.status.count(|totals| totals.acknowledged += (receipts.len() - refused.len()) as u64);
                Ok(())
            }
            Err(fault) if fault.class == Class::Fatal => Err(fault),
            Err(fault) => {
                tracing::warn!(%fault, deliveries = receipts.len(), "deliveries were not acknowledged; they come again");
                Ok(())
            }
        }
    }

    /// Finds records whose time has come, firm by firm, so that one firm's backlog does not hide another's.
    /// True if there may be more.
    async fn look_for_due(&self, desk: &mut Desk, room: usize) -> Result<bool, Fault> {
        let reconciler = &self.reconciler;
        let elapsed = reconciler.clock.elapsed();
        reconciler.budget.tick(elapsed);
        desk.postponed.retain(|_, until| *until > elapsed);
        if desk.ask_unserved <= elapsed && self.ask_unserved(&mut desk.suspected).await? {
            desk.ask_unserved = elapsed + UNSERVED_EVERY;
        }
        let mut firms: Vec<FirmId> =
            reconciler.unserved.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        firms.extend(reconciler.firms.keys().filter(|firm| reconciler.blocked(firm).is_none()).cloned());
        let share = room.div_ceil(firms.len().max(1));
        let (mut more, mut none) = (false, true);
        for firm in firms {
            let limit = share + desk.postponed.len() + desk.active.len();
            let now = reconciler.clock.now();
            match reconciler.ledger.due(&firm, &Kind::RUN, now, reconciler.settings.longest_wait, limit).await {
                Ok(due) => {
                    let fresh = due
                        .into_iter()
                        .filter(|(key, _)| !desk.postponed.contains_key(key) && !desk.active.contains_key(key))
                        .take(share)
                        .collect::<Vec<_>>();
                    more |= fresh.len() == share;
                    none &= fresh.is_empty();
                    for (key, first_seen) in fresh {
                        desk.add(key, first_seen, None);
                    }
                }
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => {
                    none = false;
                    tracing::warn!(%fault, "the ledger was not asked for due records");
                }
            }
        }
        if none {
            self.pass.nothing_due(elapsed, desk.active.keys());
        }
        Ok(more)
    }

    /// Finds out which firms nobody serves: those of which that is so twice in a row, since a station says again and again what it
    /// serves. False where the ledger did not answer.
    async fn ask_unserved(&self, suspected: &mut BTreeSet<FirmId>) -> Result<bool, Fault> {
        let ours: Vec<_> = self.reconciler.firms.keys().cloned().collect();
        match self.reconciler.ledger.unserved(&ours).await {
            Ok(firms) => {
                let firms: BTreeSet<_> = firms.into_iter().collect();
                *self.reconciler.unserved.lock().unwrap_or_else(PoisonError::into_inner) =
                    firms.intersection(suspected).cloned().collect();
                *suspected = firms;
                Ok(true)
            }
            Err(fault) if fault.class == Class::Fatal => Err(fault),
            Err(fault) => {
                tracing::warn!(%fault, "the ledger was not asked for clinics that nobody serves");
                Ok(false)
            }
        }
    }

    fn start(&self, desk: &mut Desk, runs: &mut Runs, key: RecordKey) {
        let Some(active) = desk.active.get_mut(&key) else { return };
        active.running = Some(self.reconciler.clock.elapsed());
        let first_seen = active.first_seen;
        let ask = desk.asks.get_mut(&key).and_then(VecDeque::pop_front);
        let run = Run {
            reconciler: self.reconciler.clone(),
            keeper: self.keeper.clone(),
            watch: self.watch.clone(),
            status: self.status.clone(),
        };
        runs.spawn(async move {
            let (wish, answer) = ask.map_or((Wish::Look, None), |ask| (ask.wish, Some(ask.answer)));
            // A panic in a run is that run's failure, not the consumer's.
            let end = std::panic::AssertUnwindSafe(run.once(&key, first_seen, wish, answer)).catch_unwind().await;
            let end = match end {
                Ok(end) => end,
                // Should even noting that panic, the key must not stay on the desk for ever.
                Err(_) => std::panic::AssertUnwindSafe(run.panicked(&key, first_seen))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Ok(End::NotCovered(Fault::new(Class::Retry, Code::Unexpected)))),
            };
            (key, end)
        });
    }

    fn ended(
        &self,
        desk: &mut Desk,
        ended: Result<(RecordKey, Result<End, Fault>), tokio::task::JoinError>,
    ) -> Result<(), Fault> {
        // Runs are neither aborted nor do their panics get here.
        let Ok((key, end)) = ended else { return Ok(()) };
        let end = end?;
        self.status.count(|totals| totals.runs += 1);
        let Some(active) = desk.active.remove(&key) else { return Ok(()) };
        let mut again = false;
        let began = active.running.unwrap_or_default();
        match end {
            End::Covered { again: wanted, pause } => {
                desk.cover(active.tickets);
                again = wanted;
                self.pass.ended(&key, began, (again || !pause.is_zero()).then_some(pause));
                if !pause.is_zero() {
                    desk.postponed.insert(key.clone(), self.reconciler.clock.elapsed() + pause);
                }
            }
            End::Busy => {
                desk.cover(active.tickets);
                self.pass.ended(&key, began, None);
                let pause = self.reconciler.settings.lease_term / 3;
                desk.postponed.insert(key.clone(), self.reconciler.clock.elapsed() + pause);
            }
            End::NotCovered(fault) => {
                for receipt in &active.tickets {
                    desk.open.remove(receipt);
                }
                self.not_covered(active.tickets.into_iter(), fault)?;
                // If it was found as due it would be found again at once, and as fast as our storage can refuse it.
                let pause = self.reconciler.settings.backoff.base;
                desk.postponed.insert(key.clone(), self.reconciler.clock.elapsed() + pause);
            }
        }
        let asked = desk.asks.get(&key).is_some_and(|asks| !asks.is_empty());
        if !asked {
            desk.asks.remove(&key);
        }
        if again || asked || !active.later.is_empty() {
            desk.again(key, active.first_seen, active.later);
        }
        Ok(())
    }
}

impl Desk {
    /// Puts a key on the desk. True if it joined what was there already.
    fn add(&mut self, key: RecordKey, first_seen: Timestamp, ticket: Option<Receipt>) -> bool {
        if let Some(active) = self.active.get_mut(&key) {
            let tickets = if active.running.is_some() { &mut active.later } else { &mut active.tickets };
            tickets.extend(ticket);
            return true;
        }
        self.postponed.remove(&key);
        self.again(key, first_seen, ticket.into_iter().collect());
        false
    }

    fn again(&mut self, key: RecordKey, first_seen: Timestamp, tickets: Vec<Receipt>) {
        self.ready.push_back(key.clone());
        self.active.insert(key, Active { running: None, first_seen, tickets, later: Vec::new() });
    }

    /// One hint of each of these deliveries is covered.
    fn cover(&mut self, tickets: Vec<Receipt>) {
        for receipt in tickets {
            let Some(left) = self.open.get_mut(&receipt) else { continue };
            *left -= 1;
            if *left == 0 {
                self.open.remove(&receipt);
                self.done.push(receipt);
            }
        }
    }
}

async fn wait<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
