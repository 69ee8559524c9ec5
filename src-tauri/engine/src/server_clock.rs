//! What the clocks of the servers say beside this machine's. Nothing is decided by that: leases count on elapsed time, and versions
//! are the servers' own. But times on the screen, and a proof with its time, are only as good as the clock that they are of.
//!
//! What is kept of an answer is its time less *elapsed* time, so that a clock of ours that is set meanwhile is seen at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{connection::Side, key::FirmId, ports::Clock};

/// Clocks that differ by more are not in step.
pub const IN_STEP: SignedDuration = SignedDuration::from_secs(60);
/// What was heard longer ago says nothing about now.
const STALE: Duration = Duration::from_secs(10 * 60);
/// A clock is said to be wrong once it has been so for this long: a machine that wakes up sets its own.
const LASTS: Duration = Duration::from_secs(15);

/// A server's clock, as its answers tell.
#[derive(Debug)]
pub struct ServerClock {
    clock: Arc<dyn Clock>,
    heard: Mutex<Option<Heard>>,
}

/// Server time less elapsed time lies between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    low: SignedDuration,
    high: SignedDuration,
    /// Elapsed time when it was heard.
    at: Duration,
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

impl ServerClock {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, heard: Mutex::default() }
    }

    /// Elapsed time, to be taken before a request is sent.
    pub fn asked(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The answer to what was asked then was dated so, in whole seconds, at some moment in between.
    pub fn answered(&self, asked: Duration, date: Timestamp) {
        let at = self.clock.elapsed();
        let date = date.duration_since(Timestamp::UNIX_EPOCH);
        let low = date.saturating_sub(signed(at));
        let high = date.saturating_add(SignedDuration::from_secs(1)).saturating_sub(signed(asked));
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Heard { low, high, at });
    }

    pub fn heard(&self) -> Option<Heard> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// How far the server's clock is ahead of ours; `None` if that is not known any more.
    pub fn ahead(&self, clock: &dyn Clock) -> Option<SignedDuration> {
        let elapsed = clock.elapsed();
        if elapsed.saturating_sub(self.at) > STALE {
            return None;
        }
        let ours = clock.now().duration_since(Timestamp::UNIX_EPOCH).saturating_sub(signed(elapsed));
        Some(match ours {
            _ if ours < self.low => self.low.saturating_sub(ours),
            _ if ours > self.high => self.high.saturating_sub(ours),
            _ => SignedDuration::ZERO,
        })
    }
}

/// Whose clock it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// The queue that stations share.
    Shared,
    Of(FirmId, Side),
}

/// A clock that is not in step with the others, and by how many seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum WrongClock {
    /// This machine's, ahead of the servers'.
    Here { ahead: i64 },
    /// This server's, ahead of ours and of the others'.
    There { server: Server, ahead: i64 },
    /// This server's, ahead of ours, and there is nobody to tell which of both is right.
    Either { server: Server, ahead: i64 },
}

impl WrongClock {
    /// Whether times that this machine tells may be wrong.
    pub fn concerns_here(&self) -> bool {
        matches!(self, Self::Here { .. } | Self::Either { .. })
    }
}

fn in_step(one: SignedDuration, other: SignedDuration) -> bool {
    one.saturating_sub(other).abs() <= IN_STEP
}

/// Which clocks are wrong. `measured` is how far each server's is ahead of ours; most decide, and where there are as many on
/// both sides, the one that everybody shares.
pub fn judge(measured: &[(Server, SignedDuration)]) -> Vec<WrongClock> {
    let (with_us, off): (Vec<_>, Vec<_>) =
        measured.iter().partition(|(_, ahead)| in_step(*ahead, SignedDuration::ZERO));
    let group = |of: SignedDuration| off.iter().filter(move |(_, ahead)| in_step(*ahead, of));
    let Some(most) = off.iter().map(|(_, ahead)| *ahead).max_by_key(|ahead| group(*ahead).count()) else {
        return Vec::new();
    };
    let (against_us, shared) = (group(most).count(), group(most).any(|(server, _)| *server == Server::Shared));
    let there = |(server, ahead): &&(Server, SignedDuration)| WrongClock::There {
        server: server.clone(),
        ahead: ahead.as_secs(),
    };
    if against_us > with_us.len() && (against_us > 1 || shared) || (against_us == with_us.len() && shared) {
        return vec![WrongClock::Here { ahead: -most.as_secs() }];
    }
    match off.first() {
        Some((server, ahead)) if with_us.is_empty() => {
            vec![WrongClock::Either { server: server.clone(), ahead: ahead.as_secs() }]
        }
        _ => off.iter().map(there).collect(),
    }
}

/// Says only what lasts.
#[derive(Debug, Default)]
pub struct Steady(Option<Duration>);

impl Steady {
    pub fn now(&mut self, wrong: Vec<WrongClock>, elapsed: Duration) -> Vec<WrongClock> {
        if wrong.is_empty() {
            self.0 = None;
            return wrong;
        }
        let since = *self.0.get_or_insert(elapsed);
        if elapsed.saturating_sub(since) < LASTS { Vec::new() } else { wrong }
    }
}

#[cfg(all(test, feature = "fakes"))]
mod tests {
    use super::*;
    use crate::fakes::FakeClock;

    fn of(side: Side) -> Server {
        Server::Of(FirmId::new("north").expect("a firm"), side)
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    #[test]
    fn most_decide_and_two_servers_that_disagree_are_not_held_against_this_machine() {
        let (fhir, filemaker) = (of(Side::Fhir), of(Side::FileMaker));
        let none = SignedDuration::ZERO;
        let here = |ahead: i64| vec![WrongClock::Here { ahead: ahead * 3600 }];
        let there =
            |server: &Server, ahead: i64| vec![WrongClock::There { server: server.clone(), ahead: ahead * 3600 }];
        let measured = |all: &[(&Server, SignedDuration)]| {
            judge(&all.iter().map(|(server, ahead)| ((*server).clone(), *ahead)).collect::<Vec<_>>())
        };
        assert_eq!(measured(&[]), vec![]);
        assert_eq!(measured(&[(&fhir, none), (&filemaker, SignedDuration::from_secs(60))]), vec![]);
        assert_eq!(measured(&[(&fhir, hours(3)), (&filemaker, hours(3))]), here(-3));
        assert_eq!(measured(&[(&fhir, none), (&filemaker, hours(3))]), there(&filemaker, 3));
        assert_eq!(measured(&[(&fhir, hours(-3)), (&filemaker, none)]), there(&fhir, -3));
        // FileMaker on this machine has this machine's clock: what everybody shares decides.
        assert_eq!(measured(&[(&Server::Shared, hours(3)), (&filemaker, none)]), here(-3));
        assert_eq!(measured(&[(&Server::Shared, hours(3)), (&fhir, hours(3)), (&filemaker, none)]), here(-3));
        assert_eq!(measured(&[(&Server::Shared, hours(3))]), here(-3));
        assert_eq!(measured(&[(&Server::Shared, none), (&fhir, none), (&filemaker, hours(1))]), there(&filemaker, 1));
        let either = vec![WrongClock::Either { server: fhir.clone(), ahead: 10_800 }];
        assert_eq!(measured(&[(&fhir, hours(3))]), either);
        assert_eq!(measured(&[(&fhir, hours(3)), (&filemaker, hours(-5))]), either);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_no_wrong_clock_and_one_that_is_set_is_seen_at_once() {
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
        let server = ServerClock::new(clock.clone());
        let asked = server.asked();
        tokio::time::advance(Duration::from_secs(100)).await;
        // Dated when it was asked for, and heard 100 s later.
        server.answered(asked, "2026-03-02T08:00:00Z".parse().unwrap());
        let ahead = |heard: Option<Heard>| heard.unwrap().ahead(&*clock);
        assert_eq!(ahead(server.heard()), Some(SignedDuration::ZERO));
        // Ours is set back by three hours; nobody has to answer for that to be seen.
        clock.jump(hours(-3));
        let off = ahead(server.heard()).unwrap();
        assert!((off - hours(3)).abs() <= SignedDuration::from_secs(101), "{off:?}");
        clock.jump(hours(3));
        tokio::time::advance(STALE + Duration::from_secs(1)).await;
        assert_eq!(ahead(server.heard()), None);
    }

    #[test]
    fn what_passes_is_not_said() {
        let wrong = || vec![WrongClock::Here { ahead: 3600 }];
        let mut steady = Steady::default();
        let second = Duration::from_secs;
        assert_eq!(steady.now(wrong(), second(0)), vec![]);
        assert_eq!(steady.now(vec![], second(10)), vec![]);
        assert_eq!(steady.now(wrong(), second(20)), vec![]);
        assert_eq!(steady.now(wrong(), second(20) + LASTS), wrong());
        assert_eq!(steady.now(vec![], second(60)), vec![]);
    }
}
