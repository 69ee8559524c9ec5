//! The pool of sessions.
//!
//! FileMaker works on the requests of one session one after the other, and a host has room for few of them (fact sheet 3.1).
//! So a session is leased to one call at a time, there are at most as many as configured, and opening one is done by one
//! caller at a time: whoever waited for it takes a session that has come free meanwhile, or shares the refusal, so that
//! neither a cold start nor a wrong password ends in a storm. A session that died (952, 112) is replaced by whoever finds it
//! dead, once. Long sessions have been seen to slow down (fact sheet 14.1): they are exchanged after so many writes, so much
//! time, or when calls take twice as long as they did at first.
//!
//! **Cancelling.** A call runs in a task of its own from the moment its session is leased. Dropping the caller's future
//! before that means that nothing was sent. Dropped later, the call goes on to its end, nobody hears its outcome, and its
//! session goes back into the pool: so whoever sends a write should await it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::{
    error::{Code, Fault},
    ports::Clock,
};
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    client::{Answer, Call, Client, Failure},
    errors,
};
use crate::adapters::{secret::Secret, transport::NoAnswer};

/// A session dies after 15 minutes without a call (Data API guide); one that is near it is not used again.
const IDLE: Duration = Duration::from_secs(14 * 60);

/// How long the pool stays smaller after the host said that it is full.
const SHRUNK: Duration = Duration::from_secs(60);

/// When sessions are exchanged, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) sessions: usize,
    pub(super) writes: u32,
    pub(super) age: Duration,
}

pub(super) struct Pool {
    pub(super) client: Client,
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// The right to have a session and a call under way. Sessions at rest and permits out never exceed the limit together.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Held while signing in; the last refusal.
    door: tokio::sync::Mutex<Option<Fault>>,
    refusals: AtomicU64,
}

#[derive(Default)]
struct State {
    /// At rest, the one used last on top: those that are not needed grow old at the bottom.
    idle: Vec<Session>,
    /// At rest or at work.
    alive: usize,
    /// Permits taken out because the host is full, and until when.
    shrunk: usize,
    restore: Duration,
    closed: bool,
}

struct Session {
    token: Secret,
    opened: Duration,
    used: Duration,
    writes: u32,
    pace: Pace,
}

/// How long calls take now, and how long they took at first.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    calls: u32,
    first: f64,
    now: f64,
}

impl Pace {
    /// Calls that make up "at first", and again before it is judged.
    const SAMPLE: u32 = 32;
    /// Below this (seconds), twice as long means nothing.
    const FLOOR: f64 = 0.020;

    fn note(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.calls = self.calls.saturating_add(1);
        if self.calls <= Self::SAMPLE {
            self.first += (took - self.first) / f64::from(self.calls);
            self.now = self.first;
        } else {
            self.now += (took - self.now) / f64::from(Self::SAMPLE);
        }
    }

    fn has_doubled(&self) -> bool {
        self.calls >= 2 * Self::SAMPLE && self.now > Self::FLOOR && self.now > 2.0 * self.first
    }
}

/// The right to one call, and mostly the session for it. Gives both back when dropped, whatever happens in between.
struct Lease {
    pool: Arc<Pool>,
    session: Option<Session>,
    /// The session was opened for this lease.
    fresh: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.state().idle.push(session);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Pool").field("alive", &state.alive).field("idle", &state.idle.len()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self {
            client,
            clock,
            limits,
            permits: Arc::new(Semaphore::new(limits.sessions)),
            state: Mutex::default(),
            door: tokio::sync::Mutex::default(),
            refusals: AtomicU64::new(0),
        }
    }

    /// Carries a call out in some session.
    pub(super) async fn call(self: &Arc<Self>, call: Call) -> Result<Answer, Fault> {
        let kind = call.kind;
        let lease = self.lease().await?;
        // A task that panicked may have sent its write.
        tokio::spawn(lease.carry(call)).await.unwrap_or_else(|_| Err(errors::broken(kind)))
    }

    /// The cheapest proof of connection and sign-in: a new session if there is none, else a word with the one there is.
    pub(super) async fn prove(self: &Arc<Self>, question: Call) -> Result<(), Fault> {
        let lease = self.lease().await?;
        if lease.fresh {
            return Ok(());
        }
        tokio::spawn(lease.carry(question)).await.unwrap_or_else(|_| Err(errors::broken(errors::Kind::Read))).map(drop)
    }

    /// Waits for calls under way, signs all sessions out and refuses further calls. Takes at most one read time-out and the
    /// few seconds of signing out.
    pub(super) async fn close(&self) {
        self.state().closed = true;
        self.restore(true);
        let all = u32::try_from(self.limits.sessions).unwrap_or(u32::MAX);
        let _permits = self.permits.acquire_many(all).await;
        let idle = std::mem::take(&mut self.state().idle);
        let count = idle.len();
        join_all(idle.into_iter().map(|session| self.client.sign_out(session.token))).await;
        self.state().alive -= count;
        self.permits.close();
    }

    async fn lease(self: &Arc<Self>) -> Result<Lease, Fault> {
        let refusals = self.refusals.load(Ordering::Acquire);
        loop {
            self.restore(false);
            let permit = self.permits.clone().acquire_owned().await.map_err(|_| errors::closed())?;
            if self.state().closed {
                return Err(errors::closed());
            }
            let mut lease = Lease { pool: self.clone(), session: self.rested(), fresh: false, permit: Some(permit) };
            if lease.session.is_none() {
                // In a task, so that a caller who gives up does not leave a session behind that nobody knows.
                lease = match tokio::spawn(lease.open(refusals, true)).await {
                    Ok(Ok(lease)) => lease,
                    Ok(Err(Some(fault))) => return Err(fault),
                    Ok(Err(None)) => continue,
                    Err(_) => return Err(errors::broken(errors::Kind::Read)),
                };
            }
            return Ok(lease);
        }
    }

    /// A session at rest that is still good. The others are forgotten: they die within a minute.
    fn rested(&self) -> Option<Session> {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let before = state.idle.len();
        state.idle.retain(|session| now.saturating_sub(session.used) < IDLE);
        state.alive -= before - state.idle.len();
        state.idle.pop()
    }

    /// Gives the pool its full size back, when it is time.
    fn restore(&self, at_once: bool) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if state.shrunk > 0 && (at_once || now >= state.restore) {
            self.permits.add_permits(state.shrunk);
            state.shrunk = 0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of it can stop half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Opens a session, one caller at a time; with `share`, one that came to rest meanwhile is as good. `Err(None)`: the host
    /// is full, this lease was taken out of the pool, and the caller may wait for one of the sessions that there are.
    async fn open(mut self, refusals: u64, share: bool) -> Result<Self, Option<Fault>> {
        let pool = self.pool.clone();
        let mut last = pool.door.lock().await;
        if share && let Some(session) = pool.rested() {
            self.session = Some(session);
            return Ok(self);
        }
        if pool.refusals.load(Ordering::Acquire) != refusals
            && let Some(fault) = last.clone()
        {
            return Err(Some(fault));
        }
        match pool.client.sign_in().await {
            Ok(token) => {
                let now = pool.clock.elapsed();
                pool.state().alive += 1;
                self.fresh = true;
                self.session = Some(Session { token, opened: now, used: now, writes: 0, pace: Pace::default() });
                Ok(self)
            }
            Err(fault) => {
                tracing::debug!(code = %fault.code, vendor = fault.vendor.as_deref(), "no session");
                if share && fault.code == Code::HostFull && self.shrink() {
                    return Err(None);
                }
                *last = Some(fault.clone());
                pool.refusals.fetch_add(1, Ordering::AcqRel);
                Err(Some(fault))
            }
        }
    }

    /// Takes this lease's permit out of the pool for a while, if there is another session to wait for.
    fn shrink(&mut self) -> bool {
        let restore = self.pool.clock.elapsed() + SHRUNK;
        let mut state = self.pool.state();
        if state.alive == 0 || state.closed {
            return false;
        }
        if let Some(permit) = self.permit.take() {
            permit.forget();
            state.shrunk += 1;
            state.restore = restore;
        }
        true
    }

    /// See the module's page for what becomes of it when nobody waits any more.
    async fn carry(mut self, call: Call) -> Result<Answer, Fault> {
        let mut sent = self.send(&call).await;
        if let Some(code) = lost(&sent) {
            self.forget();
            // 952 says that nothing was begun. After 112, nobody knows what became of a write.
            if code == TOKEN_INVALID || !call.kind.writes() {
                let refusals = self.pool.refusals.load(Ordering::Acquire);
                self = self.open(refusals, false).await.map_err(|fault| fault.unwrap_or_else(errors::closed))?;
                sent = self.send(&call).await;
                if lost(&sent).is_some() {
                    self.forget();
                }
            }
        }
        if sent.is_ok() {
            self.exchange_if_due().await;
        }
        errors::judge(call.kind, sent, &self.pool.client.database, call.layout.as_deref())
    }

    async fn send(&mut self, call: &Call) -> Result<Answer, Failure> {
        let Some(session) = &mut self.session else { return Err(Failure::NoAnswer(NoAnswer::Unreachable)) };
        let began = self.pool.clock.elapsed();
        let sent = self.pool.client.send(&session.token, call).await;
        session.used = self.pool.clock.elapsed();
        session.writes += u32::from(call.kind.writes());
        if sent.is_ok() {
            session.pace.note(session.used.saturating_sub(began));
        }
        sent
    }

    /// For a session that is no more.
    fn forget(&mut self) {
        if self.session.take().is_some() {
            self.pool.state().alive -= 1;
        }
    }

    async fn exchange_if_due(&mut self) {
        let limits = self.pool.limits;
        let due = |session: &mut Session| {
            session.writes >= limits.writes
                || session.used.saturating_sub(session.opened) >= limits.age
                || session.pace.has_doubled()
        };
        // While the permit is still held, so that the host never sees more sessions than it should.
        if let Some(session) = self.session.take_if(due) {
            tracing::debug!(writes = session.writes, calls = session.pace.calls, "exchanging a session");
            self.pool.client.sign_out(session.token).await;
            self.pool.state().alive -= 1;
        }
    }
}

const TOKEN_INVALID: i64 = 952;
const WINDOW_MISSING: i64 = 112;

/// The code with which a session was lost: asked again in a new one, the same call may pass.
fn lost(sent: &Result<Answer, Failure>) -> Option<i64> {
    let code = sent.as_ref().ok()?.code;
    matches!(code, TOKEN_INVALID | WINDOW_MISSING).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_takes_twice_as_long_is_slow_and_a_fast_one_never() {
        let mut pace = Pace::default();
        let mut note = |count: u32, millis: u64| {
            for _ in 0..count {
                pace.note(Duration::from_millis(millis));
            }
            pace.has_doubled()
        };
        assert!(!note(64, 30));
        assert!(!note(200, 50));
        assert!(note(200, 70));
        let mut pace = Pace::default();
        for millis in [1; 64].into_iter().chain([15; 500]) {
            pace.note(Duration::from_millis(millis));
        }
        assert!(!pace.has_doubled(), "15 ms is fast, whatever it was before");
    }
}
