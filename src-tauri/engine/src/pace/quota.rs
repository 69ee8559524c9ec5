use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    allowance::{Allowance, TooSmall},
    grants::Grants,
    limiter::{Limiter, Standing, Turn},
    split::Load,
    turns::{Seat, Turns},
    units::{Unit, Units},
};
use crate::{
    error::{Class, Code, Fault},
    key::{FirmId, QuotaId, StationId},
    ports::{Budget, Clock, Purpose, Said},
};

/// Nobody waits in place for longer than this while the server asks for silence.
const PATIENCE: Duration = Duration::from_secs(60);
/// When one that takes no part is told to ask again.
const SHUT_OUT: Duration = Duration::from_secs(60);
/// Looks are scheduled for a little more than polls may use. So one is always waiting, nothing of the quota is lost between two, and those
/// that came due at once are spread by the line they wait in.
const SCHEDULED: f64 = 1.06;

/// One API key, and what this station may use of it.
#[derive(Debug)]
pub struct Quota {
    pub(super) id: QuotaId,
    pub(super) allowance: Allowance,
    pub(super) clock: Arc<dyn Clock>,
    /// There is something that other stations should know at once.
    pub(super) news: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) limiter: Limiter,
    turns: Turns,
    pub(super) units: Units,
    /// What the record said when it was last read.
    pub(super) seen: Grants,
}

/// A quota as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaView {
    pub id: QuotaId,
    pub allowance: Allowance,
    pub standing: Standing,
    /// Requests of this station in the last window.
    pub used: u64,
    /// Requests a second that this station may send now.
    pub rate: f64,
    /// What the server said is left, if it did and that still holds.
    pub left: Option<u64>,
    /// Nothing is sent for so long, because the server asked for that.
    pub silent_for: Duration,
    /// How much is used of what is allowed since the server last refused: 1 is all.
    pub factor: f64,
    /// All that take part, this one among them, as of the last exchange.
    pub stations: BTreeMap<StationId, StationView>,
}

/// A station's part in a quota.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StationView {
    /// Of the pool, 0 to 1.
    pub share: f64,
    /// Requests in its last window.
    pub used: u64,
}

impl Quota {
    /// # Errors
    /// See [`Allowance::check`].
    pub fn new(id: QuotaId, allowance: Allowance, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TooSmall> {
        let limiter = Limiter::new(allowance, allowance.parts()?, clock.elapsed());
        let state = State { limiter, turns: Turns::default(), units: Units::default(), seen: Grants::default() };
        Ok(Arc::new(Self { id, allowance, clock, news: Notify::new(), state: Mutex::new(state) }))
    }

    pub fn id(&self) -> &QuotaId {
        &self.id
    }

    /// The right of one firm to send requests under this key.
    pub fn share_of(self: &Arc<Self>, firm: &FirmId) -> Arc<dyn Budget> {
        Arc::new(FirmBudget { quota: self.clone(), firm: firm.clone() })
    }

    /// Something that is polled from now on. What all of them expect decides how much of the quota this station asks for.
    pub fn unit(self: &Arc<Self>, load: Load) -> Unit {
        let number = self.now().units.add(load);
        Unit { quota: self.clone(), number }
    }

    /// Requests a second that polls of this station may use now.
    pub fn poll_rate(&self) -> f64 {
        self.now().limiter.poll_rate()
    }

    pub fn view(&self) -> QuotaView {
        let state = self.now();
        let share = |share: u32| f64::from(share) / f64::from(super::grants::WHOLE);
        let stations = state.seen.stations.iter();
        QuotaView {
            id: self.id.clone(),
            allowance: self.allowance,
            standing: state.limiter.standing(),
            used: state.limiter.used(),
            rate: state.limiter.rate(),
            left: state.limiter.left(),
            silent_for: state.limiter.silent_for(),
            factor: state.limiter.factor(),
            stations: stations
                .map(|(station, entry)| (station.clone(), StationView { share: share(entry.share), used: entry.used }))
                .collect(),
        }
    }

    /// The state as of now.
    pub(super) fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.limiter.advance(self.clock.elapsed());
        state
    }

    /// Tells those who wait that things have changed.
    pub(super) fn call(&self) {
        self.now().turns.call();
    }

    pub(super) fn expects(&self, unit: u64, rate: f64, cost: f64) {
        self.now().units.expects(unit, rate, cost);
    }

    pub(super) fn interval(&self, unit: u64) -> Duration {
        let mut state = self.now();
        let budget = state.limiter.poll_rate() * SCHEDULED;
        let now = self.clock.elapsed();
        state.units.interval(unit, budget, now)
    }

    pub(super) fn forget(&self, unit: u64) {
        self.now().units.remove(unit);
    }

    /// Takes the turn, if it is this seat's.
    fn turn(&self, seat: &Seat) -> Turn {
        let mut state = self.now();
        let State { limiter, turns, .. } = &mut *state;
        let turn = limiter.turn(|among| turns.is_first(seat, among), seat.purpose == Purpose::Poll);
        if let Turn::Go(among) = turn {
            turns.served(seat, among);
            turns.call();
        }
        turn
    }
}

/// One firm's right under a key.
#[derive(Debug)]
struct FirmBudget {
    quota: Arc<Quota>,
    firm: FirmId,
}

/// A place in the line that is given up when nobody waits in it any more.
struct Waiting<'a> {
    quota: &'a Quota,
    seat: Seat,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.now();
        state.turns.leave(&self.seat);
        // It may have been its turn.
        state.turns.call();
    }
}

#[async_trait]
impl Budget for FirmBudget {
    async fn permit(&self, purpose: Purpose) -> Result<(), Fault> {
        let seat = self.quota.now().turns.join(&self.firm, purpose);
        let waiting = Waiting { quota: &self.quota, seat };
        loop {
            let wait = match self.quota.turn(&waiting.seat) {
                Turn::Go(_) => return Ok(()),
                Turn::Silence(left) if left > PATIENCE => return Err(self.fault(left)),
                Turn::Full => return Err(self.fault(SHUT_OUT)),
                Turn::Silence(left) => Some(left),
                Turn::Wait(wait) => wait,
            };
            let called = waiting.seat.called.notified();
            match wait {
                // A timer ends early or late by a millisecond, and by more where the machine slept: the turn is asked for again.
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, called).await;
                }
                None => called.await,
            }
        }
    }

    fn answered(&self, said: Said) {
        let mut state = self.quota.now();
        if state.limiter.answered(said) {
            self.quota.news.notify_one();
        }
        if said != Said::Nothing {
            state.turns.call();
        }
    }
}

impl FirmBudget {
    fn fault(&self, wait: Duration) -> Fault {
        Fault::new(Class::Wait(Some(wait)), Code::Throttled).on(self.quota.id.as_str())
    }
}
