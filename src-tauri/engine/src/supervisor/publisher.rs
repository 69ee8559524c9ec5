//! What the engine shows of itself, once a second.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::Supervisor;
use crate::{
    connection::Side,
    ehr::QuotaShown,
    error::Fault,
    journal::{Journal, Latency, SLEPT, Since},
    server_clock::{self, Server, Steady, WrongClock},
    snapshot::{ConnectionView, Holding, PollView, Snapshot, Totals},
};

/// Overdue leases that a snapshot names.
const OVERDUE_SHOWN: usize = 50;

/// How long a snapshot waits for the figures of queue and ledger.
pub(super) const FIGURES_WITHIN: Duration = Duration::from_secs(5);

/// The note that holds the journal.
const JOURNAL: &str = "journal";

impl Supervisor {
    /// What was proven before the machine slept says nothing about now.
    pub(super) async fn publish(&self) -> Result<(), Fault> {
        let clock = &self.shared.clock;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = clock.elapsed();
        loop {
            tick.tick().await;
            let now = clock.elapsed();
            let slept = now.saturating_sub(before);
            if slept > SLEPT {
                tracing::info!(seconds = slept.as_secs(), "the machine slept; everything is asked again");
                self.prove_again();
            }
            before = now;
            self.publish_snapshot().await;
        }
    }

    /// Forgets what was proven, and asks at once.
    pub(super) fn prove_again(&self) {
        let firms = &self.reconciler.firms;
        self.status
            .prove_again(|firm, side| firms.get(firm).map(|firm| firm.plan_of(side).sweep_every).unwrap_or_default());
        self.reconciler.connections.prove_again();
        self.watchers.prove_again();
        self.poller_calls.iter().for_each(|poller| poller.prove.notify_one());
        self.prober_calls.iter().for_each(|prober| prober.notify_one());
    }

    pub(super) async fn publish_snapshot(&self) {
        // A storage that does not answer must not stand still in the picture as one that is well.
        let exact = self.shared.queue.counts_exactly();
        let asked = self.shared.clock.elapsed();
        let figures = async { Ok::<_, Fault>((self.shared.ledger.survey().await?, self.shared.queue.depth().await?)) };
        let figures = tokio::time::timeout(FIGURES_WITHIN, figures).await;
        let face = self.face();
        match &figures {
            Ok(Ok((survey, depth))) => {
                let empty = exact && depth.waiting == 0 && depth.in_flight == 0;
                self.status.counted(asked.saturating_sub(survey.age), empty);
            }
            Ok(Err(_)) => {}
            Err(_) => self.storage.silent(),
        }
        let board = self.status.read();
        let now = self.shared.clock.now();
        let elapsed = self.shared.clock.elapsed();
        let ago = |then: Option<Duration>| then.map(|then| elapsed.saturating_sub(then));
        let mut next = self.publish.borrow().clone();
        next.revision += 1;
        next.at = now;
        next.phase = face.phase;
        next.pause = face.pause;
        next.manual = self.pass.shown();
        next.fatal = face.fatal;
        next.connections = self
            .reconciler
            .connections
            .all()
            .into_iter()
            .map(|((firm, side), connection)| ConnectionView {
                health: connection.health,
                silent_for: ago(connection.answered),
                probe_every: self.reconciler.firms.get(&firm).map(|firm| firm.plan.probe_every).unwrap_or_default(),
                firm,
                side,
            })
            .collect();
        next.polls = self
            .pollers
            .iter()
            .map(|poller| {
                let (firm, side, resource) = poller;
                let poll = board.polls.get(poller).cloned().unwrap_or_default();
                let plan = self.reconciler.firms.get(firm).map(|firm| *firm.plan_of(*side)).unwrap_or_default();
                PollView {
                    firm: firm.clone(),
                    side: *side,
                    resource: resource.clone(),
                    every: plan.every,
                    sweep_every: plan.sweep_every,
                    polled: ago(poll.polled),
                    swept: ago(poll.swept),
                    watermark: poll.last.watermark,
                    under_way: poll.last.under_way,
                    remark: poll.remark(),
                    missing: poll.sweep.missing,
                }
            })
            .collect();
        next.watching = self.watchers.station.board.show(elapsed);
        next.quotas = self.quotas.iter().map(|quota| QuotaShown::of(&quota.view())).collect();
        // Figures that could not be read stay what they were; the verdict sees how old they are.
        if let Ok(Ok((survey, depth))) = figures {
            // Where the queue only estimates, there may be more as long as the last receive brought something.
            next.queue_waiting = depth.waiting.max(u64::from(!exact && board.more_received));
            next.queue_in_flight = depth.in_flight;
            next.records = survey.records;
            next.wanted = survey.wanted;
            next.oldest_wanted = survey.oldest_wanted.map(|oldest| now.duration_since(oldest).unsigned_abs());
            next.leases_held = survey.held;
            next.dead = survey.dead;
            next.differs = survey.noticed;
            next.conflicts = survey.conflicts;
        }
        next.storage = self.storage.troubles();
        next.received = ago(board.received);
        next.received_empty = ago(board.received_empty);
        next.counted = ago(board.counted);
        next.running = board.running;
        let since = |since: Duration| {
            let held_for = SignedDuration::try_from(elapsed.saturating_sub(since)).unwrap_or_default();
            now.saturating_sub(held_for).unwrap_or(now)
        };
        let holdings = self.keeper.holdings().into_iter();
        next.holdings = holdings.map(|(key, taken)| Holding { key, since: since(taken) }).collect();
        next.overdue = self.watch.all_overdue(elapsed);
        next.leases_overdue = next.overdue.len() as u64;
        next.overdue.truncate(OVERDUE_SHOWN);
        next.leases_endless = self.watch.endless() as u64;
        next.clocks = self.steady().now(self.wrong_clocks(), elapsed);
        next.totals = board.totals;
        next.recent = board.recent;
        next.verdict = next.judge(&self.reconciler.settings.limits);
        let (journal, quarter_began) = self.chronicle().note(now, elapsed, &next, self.status.take_latency());
        next.journal = journal;
        self.publish.send_replace(next);
        if quarter_began {
            self.keep_journal().await;
        }
    }

    /// Which clocks are not in step just now, as far as servers say what time it is.
    fn wrong_clocks(&self) -> Vec<WrongClock> {
        let clock = &self.shared.clock;
        let of_firms = self.reconciler.firms.iter().flat_map(|(firm, serves)| {
            let of = |side| Server::Of(firm.clone(), side);
            let ports = &serves.ports;
            [(of(Side::Fhir), ports.fhir.server_clock()), (of(Side::FileMaker), ports.clinic.server_clock())]
        });
        let all = of_firms.chain([(Server::Shared, self.shared.queue.server_clock())]);
        let measured: Vec<_> = all.filter_map(|(server, heard)| Some((server, heard?.ahead(&**clock)?))).collect();
        server_clock::judge(&measured)
    }

    fn steady(&self) -> MutexGuard<'_, Steady> {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chronicle(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn remember_journal(&self) -> Result<(), Fault> {
        let text = self.shared.notes.read(JOURNAL).await?;
        if let Some(journal) = text.and_then(|text| serde_json::from_str(&text).ok()) {
            self.chronicle().journal = Arc::new(journal);
        }
        Ok(())
    }

    /// The journal is for looking at: nothing stops because it could not be kept.
    pub(super) async fn keep_journal(&self) {
        let journal = self.chronicle().journal.clone();
        let text = serde_json::to_string(&*journal).expect("times and counts have a JSON form");
        let kept = tokio::time::timeout(FIGURES_WITHIN, self.shared.notes.write(JOURNAL, Some(&text))).await;
        if !matches!(kept, Ok(Ok(()))) {
            tracing::warn!("how the day went was not noted");
        }
    }
}

/// The journal, and up to where it is written.
#[derive(Debug)]
pub(super) struct Chronicle {
    journal: Arc<Journal>,
    at: Duration,
    totals: Totals,
}

impl Chronicle {
    pub(super) fn new(at: Duration) -> Self {
        Self { journal: Arc::default(), at, totals: Totals::default() }
    }

    /// Writes on; true if a new quarter began.
    fn note(&mut self, now: Timestamp, elapsed: Duration, shown: &Snapshot, latency: Latency) -> (Arc<Journal>, bool) {
        let since = Since {
            passed: elapsed.saturating_sub(self.at),
            sent: shown.totals.sent().saturating_sub(self.totals.sent()),
            failed: shown.totals.failed.saturating_sub(self.totals.failed),
            latency,
        };
        self.at = self.at.max(elapsed);
        self.totals = shown.totals;
        let began = Arc::make_mut(&mut self.journal).note(now, shown.verdict.state(), &since);
        (self.journal.clone(), began)
    }
}
