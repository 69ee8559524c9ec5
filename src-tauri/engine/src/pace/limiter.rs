//! What this station may send now. Pure: it is told the time.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::{
    allowance::{Allowance, BURST, Parts, Window},
    bucket::Bucket,
    grants::{Grants, TERM, WHOLE},
    turns::Among,
};
use crate::ports::Said;

/// After a refusal no less than this is used.
const LEAST_FACTOR: f64 = 1.0 / 16.0;
/// What comes back of the whole in a second.
const RETURN: f64 = 0.05 / 60.0;
/// A refusal is weather where no more than this part of the last window was refused, ...
const WEATHER: f64 = 0.1;
/// ... and the server asks for no more than this part of a window. Else somebody uses the key beside us, or the quota is not what we think.
const SHORT: u32 = 4;
/// A server that refuses and does not say for how long is asked again after this at the latest.
const LONGEST_GUESS: Duration = Duration::from_secs(60 * 60);
/// Over what time the use by others than polls is averaged.
const MEMORY: f64 = 30.0;
/// Of how many parts a window is made when what was sent in it is counted.
const PARTS: u32 = 60;

/// How this station stands with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has a share, which others know of.
    Sharing,
    /// The ledger does not answer, or has not yet: it keeps to the slot that is its own.
    Alone,
    /// As many stations as may take part do so: this one sends nothing.
    Full,
}

#[derive(Debug)]
pub(super) struct Limiter {
    allowance: Allowance,
    parts: Parts,
    /// Of [`WHOLE`], until then.
    share: u32,
    ends: Duration,
    full: bool,
    /// Until the ledger has answered once, or until then, nothing is known of a silence that the server asked for.
    waits_until: Duration,
    /// How much is used of what is allowed, since the server refused.
    factor: f64,
    /// Since a refusal that was weather: half of everything, which returns in a sixth of a window.
    dip: Option<Duration>,
    /// Refusals that others do not know of yet.
    untold: u64,
    silence: u64,
    silent_until: Duration,
    /// The server said that so much of what is published is left, until then.
    left: Option<(u64, f64, Duration)>,
    granted: Bucket,
    slot: Bucket,
    /// To when both are filled.
    at: Duration,
    /// Requests a second of others than polls.
    aside: f64,
    sent: VecDeque<Sent>,
}

/// In one part of a window.
#[derive(Debug, Clone, Copy)]
struct Sent {
    part: u64,
    permits: u64,
    refused: u64,
}

fn signed(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Limiter {
    pub(super) fn new(allowance: Allowance, parts: Parts, now: Duration) -> Self {
        Self {
            allowance,
            parts,
            share: 0,
            ends: now,
            full: false,
            waits_until: now + TERM,
            factor: 1.0,
            dip: None,
            untold: 0,
            silence: 0,
            silent_until: now,
            left: None,
            granted: Bucket::empty(BURST as f64),
            slot: Bucket::empty(parts.slot_burst),
            at: now,
            aside: 0.0,
            sent: VecDeque::new(),
        }
    }

    /// Requests a second of the grant and of the slot, as things stand at that time.
    fn rates(&self, at: Duration) -> (f64, f64) {
        if self.full {
            return (0.0, 0.0);
        }
        let cap = match self.left {
            Some((_, rate, until)) if at < until => (rate / self.parts.limit).min(1.0),
            _ => 1.0,
        };
        let scale = self.factor * cap * self.dip(at);
        let share = if at < self.ends { f64::from(self.share) / f64::from(WHOLE) } else { 0.0 };
        (share * self.parts.pool * scale, self.parts.slot * scale)
    }

    /// What is left since the last refusal that was weather: 1 is all.
    fn dip(&self, at: Duration) -> f64 {
        let Some(since) = self.dip else { return 1.0 };
        let back = at.saturating_sub(since).as_secs_f64() / (self.allowance.per / 6).as_secs_f64().max(1e-3);
        (0.5 + back / 2.0).min(1.0)
    }

    /// Fills up to now. Whatever changes a rate is preceded by this.
    pub(super) fn advance(&mut self, now: Duration) {
        while self.at < now {
            let changes = [Some(self.ends), self.left.map(|(.., until)| until)];
            let next = changes.into_iter().flatten().filter(|change| *change > self.at).fold(now, Duration::min);
            let (granted, slot) = self.rates(self.at);
            let span = (next - self.at).as_secs_f64();
            let over = self.slot.pour(slot * span);
            // What the full slot cannot take is not lost to polls, where there is a grant at all.
            self.granted.pour(granted * span + if granted > 0.0 { over } else { 0.0 });
            self.aside *= (-span / MEMORY).exp();
            self.at = next;
        }
    }

    fn is_granted(&self) -> bool {
        self.at < self.ends && self.share > 0
    }

    pub(super) fn standing(&self) -> Standing {
        match () {
            () if self.full => Standing::Full,
            () if self.at < self.ends => Standing::Sharing,
            () => Standing::Alone,
        }
    }

    /// Who may use the slot.
    fn slot_is_for(&self) -> Among {
        if self.is_granted() { Among::Urgent } else { Among::All }
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.silent_until.saturating_sub(self.at)
    }

    /// How long until the one who is first in these lines may send, if nothing changes; zero takes it.
    pub(super) fn turn(&mut self, is_first: impl Fn(Among) -> bool, for_poll: bool) -> Turn {
        if self.full {
            return Turn::Full;
        }
        if !self.silent_for().is_zero() {
            return Turn::Silence(self.silent_for());
        }
        if self.at < self.waits_until {
            return Turn::Wait(Some(self.waits_until - self.at));
        }
        let (granted, slot) = self.rates(self.at);
        let mut wait = None;
        let all = is_first(Among::All);
        let by_slot = is_first(self.slot_is_for());
        if all && self.is_granted() {
            if self.granted.take() {
                self.count(for_poll);
                return Turn::Go(Among::All);
            }
            wait = Some(self.granted.wait(granted).min(self.ends - self.at));
        }
        if by_slot {
            if self.slot.take() {
                self.count(for_poll);
                return Turn::Go(self.slot_is_for());
            }
            wait = Some(wait.unwrap_or(Duration::MAX).min(self.slot.wait(slot)));
        }
        Turn::Wait(wait)
    }

    fn count(&mut self, for_poll: bool) {
        if !for_poll {
            self.aside += 1.0 / MEMORY;
        }
        self.note().permits += 1;
    }

    /// Where what happens now is noted.
    fn note(&mut self) -> &mut Sent {
        let part = self.part(self.at);
        while self.sent.front().is_some_and(|first| first.part + u64::from(PARTS) <= part) {
            self.sent.pop_front();
        }
        if self.sent.back().is_none_or(|last| last.part != part) {
            self.sent.push_back(Sent { part, permits: 0, refused: 0 });
        }
        let last = self.sent.len() - 1;
        &mut self.sent[last]
    }

    fn part(&self, at: Duration) -> u64 {
        let length = (self.allowance.per / PARTS).as_millis().max(1);
        u64::try_from(at.as_millis() / length).unwrap_or(u64::MAX)
    }

    fn last_window(&self) -> impl Iterator<Item = &Sent> {
        let now = self.part(self.at);
        self.sent.iter().filter(move |sent| sent.part + u64::from(PARTS) > now)
    }

    /// Sent within the last window.
    pub(super) fn used(&self) -> u64 {
        self.last_window().map(|sent| sent.permits).sum()
    }

    /// Whether a refusal that asks for a silence of `wait` may be a passing one.
    fn is_weather(&self, wait: Duration) -> bool {
        let refused: u64 = self.last_window().map(|sent| sent.refused).sum();
        let few = refused as f64 <= (self.used() as f64 * WEATHER).max(1.0);
        few && wait <= self.allowance.per / SHORT
    }

    /// What polls may use of it, in requests a second, whatever the server is silent for.
    pub(super) fn poll_rate(&self) -> f64 {
        let (granted, slot) = self.rates(self.at);
        (granted + slot - self.aside).max((granted + slot) / 8.0)
    }

    pub(super) fn rate(&self) -> f64 {
        let (granted, slot) = self.rates(self.at);
        granted + slot
    }

    pub(super) fn factor(&self) -> f64 {
        self.factor * self.dip(self.at)
    }

    /// What the server said is left, if that still holds.
    pub(super) fn left(&self) -> Option<u64> {
        self.left.filter(|(.., until)| self.at < *until).map(|(left, ..)| left)
    }

    /// True where others are to be told.
    pub(super) fn answered(&mut self, said: Said) -> bool {
        match said {
            Said::Nothing => false,
            Said::Left { requests, reset } => {
                let rate = requests as f64 / reset.as_secs_f64().max(1e-3);
                self.left = Some((requests, rate, self.at + reset));
                if requests == 0 {
                    self.silent_until = self.silent_until.max(self.at + reset);
                }
                false
            }
            Said::Refused { after, server_time } => {
                let wait = after.unwrap_or_else(|| self.guess(server_time));
                self.note().refused += 1;
                // What was under way when the first refusal came is refused for the same reason.
                if self.silent_for().is_zero() {
                    if self.is_weather(wait) {
                        self.dip = self.dip.filter(|_| self.dip(self.at) < 1.0).or(Some(self.at + wait));
                    } else {
                        self.factor = (self.factor / 2.0).max(LEAST_FACTOR);
                    }
                }
                let until = self.at + wait;
                self.untold += u64::from(until > self.silent_until);
                self.silent_until = self.silent_until.max(until);
                self.untold > 0
            }
        }
    }

    /// When a window that is used up is over.
    fn guess(&self, server_time: Option<Timestamp>) -> Duration {
        let per = self.allowance.per;
        let rest = match (self.allowance.window, server_time) {
            (Window::Calendar, Some(time)) => {
                let length = signed(per).max(1);
                let rest = length - time.as_millisecond().rem_euclid(length);
                // Its clock was told in whole seconds, and may be one further.
                Duration::from_millis(rest.unsigned_abs())
            }
            _ => per,
        };
        rest.min(LONGEST_GUESS)
    }

    /// Reads what others have said of the server, and writes what this station knows; `since` is when it last did so. What is bad news
    /// holds at once, the rest once it is [`Limiter::told`].
    pub(super) fn exchange(&mut self, grants: &mut Grants, alive: usize, since: Option<Duration>) -> Told {
        if grants.silence > self.silence {
            let until = self.at + Duration::from_millis(grants.silent_ms);
            self.silent_until = self.silent_until.max(until);
        }
        let known = if self.untold > 0 { self.factor.min(grants.factor) } else { grants.factor };
        let known = known.clamp(LEAST_FACTOR, 1.0);
        self.factor = self.factor.min(known);
        // Each of those alive adds its part of what comes back.
        let since = since.filter(|_| self.silent_for().is_zero()).unwrap_or(self.at);
        let back = self.at.saturating_sub(since).as_secs_f64() * RETURN / alive.max(1) as f64;
        grants.factor = (known + back).min(1.0);
        grants.silence += u64::from(self.untold > 0);
        grants.silent_ms = u64::try_from(self.silent_for().as_millis()).unwrap_or(u64::MAX);
        Told { untold: self.untold, silence: grants.silence, factor: grants.factor }
    }

    /// The others know what this station knew.
    pub(super) fn told(&mut self, told: Told) {
        self.untold -= told.untold;
        self.silence = told.silence;
        if self.untold == 0 {
            self.factor = told.factor;
        }
    }

    /// Never more than this from now on.
    pub(super) fn lower(&mut self, share: u32) {
        self.share = self.share.min(share);
    }

    /// The ledger holds that this station has this share, since `asked` at the earliest.
    pub(super) fn grant(&mut self, share: u32, asked: Duration) {
        self.full = false;
        self.waits_until = self.at;
        self.share = share;
        self.ends = asked + TERM;
    }

    pub(super) fn shut_out(&mut self) {
        self.share = 0;
        self.ends = self.at;
        self.full = true;
    }
}

/// What an exchange wrote of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    untold: u64,
    silence: u64,
    factor: f64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is taken.
    Go(Among),
    /// Not before so long; without a time, not before those ahead are served.
    Wait(Option<Duration>),
    Silence(Duration),
    Full,
}
