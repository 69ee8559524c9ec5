//! The worker that keeps a station's share: it exchanges what stations grant each other through the ledger.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    grants::{Ask, Full, Grants, Observer},
    quota::Quota,
};
use crate::{
    error::{Class, Code, Fault},
    gate::Passage,
    key::RecordKey,
    lease::Watch,
    ledger::{Claim, Commit, Finish, Lease, LedgerError, Owner, Record, Take},
    ports::Ledger,
};

/// How often a station says that it lives.
const BEAT: Duration = Duration::from_secs(15);
/// An exchange takes two calls; one that died in between keeps others out for this long.
const LEASE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);
/// No call of the ledger is waited for longer.
const CALL: Duration = Duration::from_secs(5);

/// Keeps one quota's share.
#[derive(Debug)]
pub struct ShareKeeper {
    quota: Arc<Quota>,
    ledger: Arc<dyn Ledger>,
    owner: Owner,
    key: RecordKey,
    watch: Watch,
    observer: Observer,
    /// Elapsed time of the last exchange.
    last: Option<Duration>,
}

impl ShareKeeper {
    pub fn new(quota: Arc<Quota>, ledger: Arc<dyn Ledger>, owner: Owner) -> Self {
        let key = RecordKey::quota(&quota.id);
        Self { quota, ledger, owner, key, watch: Watch::default(), observer: Observer::default(), last: None }
    }

    /// Until the gate is closed, also while it is shut: others must know that this station lives. `Err` where our own storage is at
    /// fault.
    pub async fn work(&mut self, mut gate: Passage) -> Result<(), Fault> {
        loop {
            let worked = self.exchange(false).await?;
            let wait = if worked { BEAT } else { RETRY };
            tokio::select! {
                biased;
                () = gate.closed() => break,
                () = self.quota.news.notified(), if worked => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // So that others need not wait for it to be overdue.
        self.quota.now().limiter.lower(0);
        self.exchange(true).await.map(|_| ())
    }

    /// False where somebody else was at it, or the ledger did not answer: the share that is there lasts until its end.
    async fn exchange(&mut self, leave: bool) -> Result<bool, Fault> {
        let clock = self.quota.clock.clone();
        let claim = Claim {
            owner: self.owner.clone(),
            term: LEASE,
            overdue: self.watch.overdue(&self.key, clock.elapsed()),
            now: clock.now(),
        };
        let (record, lease) = match self.call(self.ledger.take(&self.key, &claim)).await {
            Ok(Take::Taken(record, lease)) => (record, lease),
            Ok(Take::Busy(held)) => {
                self.watch.observe(&self.key, &held, clock.elapsed());
                return Ok(false);
            }
            Err(fault) if fault.class == Class::Fatal => return Err(fault),
            Err(fault) => {
                tracing::debug!(quota = %self.quota.id, %fault, "the share was not renewed");
                return Ok(false);
            }
        };
        self.watch.forget(&self.key);
        match self.settle(&record, &lease, leave).await {
            Ok(()) => Ok(true),
            Err(LedgerError::Fault(fault)) if fault.class == Class::Fatal => Err(fault),
            Err(error) => {
                tracing::debug!(quota = %self.quota.id, %error, "the share was not renewed");
                Ok(false)
            }
        }
    }

    async fn settle(&mut self, record: &Record, lease: &Lease, leave: bool) -> Result<(), LedgerError> {
        let Ok(mut grants) = Grants::read(&record.state) else {
            // Written by a version that knows more: keep to what is ours alone.
            return Err(Fault::new(Class::Retry, Code::Unexpected).into());
        };
        let asked = self.quota.clock.elapsed();
        let settled = {
            let mut state = self.quota.now();
            let (want, used) = (state.units.weight(), state.limiter.used());
            let ask =
                Ask { station: &self.owner.station, want, used, most: self.quota.allowance.stations, elapsed: asked };
            let share = if leave {
                grants.leave(ask.station);
                Ok((0, 1))
            } else {
                grants.settle(ask, &mut self.observer)
            };
            share.map(|(share, alive)| {
                // At once, and before others can know.
                state.limiter.lower(share);
                (share, state.limiter.exchange(&mut grants, alive, self.last))
            })
        };
        let now = self.quota.clock.now();
        let commit = Commit {
            state: grants.write(),
            finish: Finish::Done,
            notice: None,
            generation: record.generation,
            first_seen: now,
            now,
        };
        timeout(CALL, self.ledger.commit(lease, commit)).await.unwrap_or_else(|_| Err(silent().into()))?;
        self.last = Some(asked);
        {
            let mut state = self.quota.now();
            match settled {
                Ok((share, told)) => {
                    state.limiter.told(told);
                    state.limiter.grant(share, asked);
                }
                Err(Full) => {
                    tracing::warn!(quota = %self.quota.id, "as many stations as may take part do so: this one sends nothing");
                    state.limiter.shut_out();
                }
            }
            state.seen = grants;
        }
        self.quota.call();
        Ok(())
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(CALL, call).await.unwrap_or_else(|_| Err(silent()))
    }
}

fn silent() -> Fault {
    Fault::new(Class::Away, Code::TimedOut)
}
