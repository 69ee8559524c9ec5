//! One run of one key, from the lease to the commit.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::End;
use crate::{
    error::{Class, Code, Fault},
    key::{Kind, RecordKey},
    lease::{Keeper, Watch},
    ledger::{Claim, Commit, Finish, LedgerError, Take, Want},
    link::Wrote,
    reconcile::{Outcome, Reconciler, Stop, Wish, later},
    snapshot::What,
    status::Status,
};

/// What one run needs.
pub(super) struct Run {
    pub(super) reconciler: Arc<Reconciler>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) watch: Arc<Watch>,
    pub(super) status: Arc<Status>,
}

impl Run {
    /// Runs a key, and tells the person who asked for it what came of it. An answer that is dropped says that nothing did.
    pub(super) async fn once(
        &self,
        key: &RecordKey,
        first_seen: Timestamp,
        wish: Wish,
        answer: Option<oneshot::Sender<Result<(), Fault>>>,
    ) -> Result<End, Fault> {
        let mut obstacle = Some(Code::LeaseBusy);
        let end = self.one(key, first_seen, &wish, &mut obstacle).await;
        if let Some(answer) = answer {
            let refusal = match &end {
                Err(fault) | Ok(End::NotCovered(fault)) => Some(fault.clone()),
                Ok(End::Covered { .. } | End::Busy) => obstacle.map(|code| Fault::new(Class::Permanent, code)),
            };
            // Whoever asked may be gone.
            let _ = answer.send(refusal.map_or(Ok(()), Err));
        }
        end
    }

    /// `obstacle` is why nothing came of it, as long as nothing has.
    async fn one(
        &self,
        key: &RecordKey,
        first_seen: Timestamp,
        wish: &Wish,
        obstacle: &mut Option<Code>,
    ) -> Result<End, Fault> {
        let reconciler = &self.reconciler;
        if !key.kind.is_run() {
            return Ok(End::Covered { again: false, pause: Duration::ZERO });
        }
        if let Some(code) = reconciler.blocked(&key.firm) {
            *obstacle = Some(code);
            return self
                .want(key, first_seen, Some(code), Duration::ZERO, End::Covered { again: false, pause: Duration::ZERO })
                .await;
        }
        let asked = reconciler.clock.elapsed();
        let claim = Claim {
            owner: reconciler.settings.owner.clone(),
            term: reconciler.settings.lease_term,
            overdue: self.watch.overdue(key, asked),
            now: reconciler.clock.now(),
        };
        let (record, lease) = match reconciler.ledger.take(key, &claim).await {
            Ok(Take::Taken(record, lease)) => (record, lease),
            Ok(Take::Busy(held)) => {
                // From now on: the answer may have been long on its way.
                self.watch.observe(key, &held, reconciler.clock.elapsed());
                return self.want(key, first_seen, Some(Code::LeaseBusy), Duration::ZERO, End::Busy).await;
            }
            Err(fault) => return self.storage(fault),
        };
        self.watch.forget(key);
        let held = self.keeper.hold(lease, asked);
        let first_seen = record.wanted.map_or(first_seen, |wanted| wanted.first_seen.min(first_seen));
        let ran = match key.kind {
            Kind::Row => reconciler.run_row(&held, &record, first_seen, wish).await,
            _ => reconciler.run(&held, &record, first_seen, wish).await,
        };
        self.keeper.let_go(&held);
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(Stop::LeaseLost) => {
                let wait = reconciler.settings.lease_term / 3;
                return self.want(key, first_seen, Some(Code::LeaseLost), wait, End::Busy).await;
            }
            Err(Stop::Storage(fault)) => return self.storage(fault),
        };
        self.tell(key, &outcome, first_seen, record.dead.is_some());
        let done = outcome.finish == Finish::Done;
        let came_of_it = outcome.obstacle();
        let now = reconciler.clock.now();
        let pause = match &outcome.finish {
            Finish::Later { not_before, .. } => not_before.duration_since(now).try_into().unwrap_or_default(),
            Finish::Done | Finish::Dead { .. } => Duration::ZERO,
        };
        let mut state = outcome.state;
        if outcome.what.as_ref().is_some_and(What::was_sent) {
            state.wrote = Some(Wrote { station: reconciler.settings.owner.station.clone(), at: now });
        }
        let commit = Commit {
            state: state.text(),
            finish: outcome.finish,
            notice: outcome.notice,
            generation: record.generation,
            first_seen,
            now,
        };
        match reconciler.ledger.commit(&held.lease, commit).await {
            Ok(wanted) => {
                *obstacle = came_of_it;
                Ok(End::Covered { again: wanted && done, pause })
            }
            Err(LedgerError::Lost) => {
                let wait = reconciler.settings.lease_term / 3;
                self.want(key, first_seen, Some(Code::LeaseLost), wait, End::Busy).await
            }
            Err(LedgerError::Fault(fault)) => self.storage(fault),
        }
    }

    /// Our own fault or not: a panic counts as a failed attempt, so that a record that always panics ends as a dead letter.
    pub(super) async fn panicked(&self, key: &RecordKey, first_seen: Timestamp) -> Result<End, Fault> {
        tracing::error!(%key, "a run panicked");
        let reconciler = &self.reconciler;
        let claim = Claim {
            owner: reconciler.settings.owner.clone(),
            term: reconciler.settings.lease_term,
            overdue: None,
            now: reconciler.clock.now(),
        };
        let (record, lease) = match reconciler.ledger.take(key, &claim).await {
            Ok(Take::Taken(record, lease)) => (record, lease),
            Ok(Take::Busy(_)) => {
                return self.want(key, first_seen, Some(Code::Unexpected), Duration::ZERO, End::Busy).await;
            }
            Err(fault) => return self.storage(fault),
        };
        let now = reconciler.clock.now();
        let finish = if record.attempts + 1 >= reconciler.settings.attempts {
            self.status.count(|totals| totals.failed += 1);
            self.status.event(key, What::NeedsAttention { code: Code::Unexpected });
            Finish::Dead { code: Code::Unexpected }
        } else {
            let wait = reconciler.settings.backoff.after(record.attempts, &reconciler.chance);
            Finish::Later { not_before: later(now, wait), waits_for: Some(Code::Unexpected), attempt: true }
        };
        let commit = Commit {
            state: record.state,
            finish,
            notice: record.notice,
            generation: record.generation,
            first_seen,
            now,
        };
        match reconciler.ledger.commit(&lease, commit).await {
            Ok(_) => Ok(End::Covered { again: false, pause: Duration::ZERO }),
            Err(LedgerError::Lost) => self.want(key, first_seen, None, Duration::ZERO, End::Busy).await,
            Err(LedgerError::Fault(fault)) => self.storage(fault),
        }
    }

    async fn want(
        &self,
        key: &RecordKey,
        first_seen: Timestamp,
        waits_for: Option<Code>,
        wait: Duration,
        end: End,
    ) -> Result<End, Fault> {
        let not_before = later(self.reconciler.clock.now(), wait);
        let want = Want { key: key.clone(), first_seen, not_before, waits_for };
        match self.reconciler.ledger.want(&[want]).await {
            Ok(()) => Ok(end),
            Err(fault) => self.storage(fault),
        }
    }

    fn storage(&self, fault: Fault) -> Result<End, Fault> {
        if fault.class == Class::Fatal { Err(fault) } else { Ok(End::NotCovered(fault)) }
    }

    fn tell(&self, key: &RecordKey, outcome: &Outcome, first_seen: Timestamp, was_dead: bool) {
        self.status.count(|totals| match &outcome.what {
            Some(What::Created { .. }) => totals.rows_created += 1,
            Some(What::Edited { .. }) => totals.rows_edited += 1,
            Some(What::Updated { .. }) => totals.resources_updated += 1,
            Some(What::Entered { .. }) => {
                totals.rows_edited += 1;
                totals.resources_created += 1;
            }
            Some(What::Linked) => totals.rows_edited += 1,
            Some(What::Merged { .. }) => {
                totals.rows_edited += 1;
                totals.resources_updated += 1;
            }
            Some(What::Retries { .. }) => totals.retries += 1,
            // One that is still dead after another hint needs no more attention than before.
            Some(What::NeedsAttention { .. }) => totals.failed += u64::from(!was_dead),
            _ if outcome.finish == Finish::Done => totals.unchanged += 1,
            _ => {}
        });
        if outcome.what.as_ref().is_some_and(What::was_sent) {
            let took = self.reconciler.clock.now().duration_since(first_seen);
            // A clock that was set back meanwhile says nothing.
            self.status.sent_after(took.try_into().unwrap_or_default());
        }
        if let Some(what) = &outcome.what {
            self.status.event(key, what.clone());
        }
    }
}
