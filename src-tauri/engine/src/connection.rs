//! Whether each side of each firm answers. A connection that is away or stopped blocks its firm's runs before they begin: what
//! it serves stays wanted, no attempt is counted, and a probe outside the retry budget finds out when it is back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    error::{Class, Code, Fault},
    key::FirmId,
    ports::Clock,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Fhir,
    FileMaker,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Fhir, Side::FileMaker];

    pub fn other(self) -> Self {
        match self {
            Side::Fhir => Side::FileMaker,
            Side::FileMaker => Side::Fhir,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Side::Fhir => "fhir",
            Side::FileMaker => "filemaker",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Health {
    /// Nothing has answered since the start.
    Unproven,
    Up,
    /// Does not answer; probed until it does.
    Away {
        since: Timestamp,
        code: Code,
        vendor: Option<String>,
        failed_probes: u32,
    },
    /// Answers with an error that only a person can mend; probed, slowly.
    Stopped {
        since: Timestamp,
        code: Code,
        subject: Option<String>,
        vendor: Option<String>,
    },
}

#[derive(Debug, Clone)]
pub struct Connection {
    pub health: Health,
    /// Elapsed time of the last answer.
    pub answered: Option<Duration>,
    /// A quota asks for silence until this elapsed time.
    pub quiet_until: Option<Duration>,
    /// Elapsed time at which it was last found to be stopped.
    stopped: Option<Duration>,
}

/// How long a stopped connection stays so although its probe passes: the probe may not touch what is missing, a layout say.
const STAYS_STOPPED: Duration = Duration::from_secs(60);

/// All connections of this station.
#[derive(Debug)]
pub struct Connections {
    clock: Arc<dyn Clock>,
    all: Mutex<BTreeMap<(FirmId, Side), Connection>>,
    changed: Notify,
}

impl Connections {
    pub fn new<'a>(clock: Arc<dyn Clock>, firms: impl Iterator<Item = &'a FirmId>) -> Self {
        let unproven = Connection { health: Health::Unproven, answered: None, quiet_until: None, stopped: None };
        let all = firms
            .flat_map(|firm| Side::BOTH.map(|side| ((firm.clone(), side), unproven.clone())))
            .collect::<BTreeMap<_, _>>();
        Self { clock, all: Mutex::new(all), changed: Notify::new() }
    }

    fn with<T>(&self, firm: &FirmId, side: Side, change: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&(firm.clone(), side)).map(change)
    }

    pub fn all(&self) -> BTreeMap<(FirmId, Side), Connection> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an answer, whatever it said, as long as it was one.
    pub fn answered(&self, firm: &FirmId, side: Side) {
        let now = self.clock.elapsed();
        let was_down = self.with(firm, side, |connection| {
            connection.answered = Some(now);
            !matches!(std::mem::replace(&mut connection.health, Health::Up), Health::Up)
        });
        if was_down == Some(true) {
            tracing::info!(%firm, side = side.as_str(), "connected");
            self.changed.notify_waiters();
        }
    }

    /// Notes that a probe passed. That lifts a stop only after a while.
    pub fn probe_passed(&self, firm: &FirmId, side: Side) {
        let now = self.clock.elapsed();
        let stays = self.with(firm, side, |connection| {
            let stays = matches!(connection.health, Health::Stopped { .. })
                && connection.stopped.is_some_and(|since| now.saturating_sub(since) < STAYS_STOPPED);
            if stays {
                connection.answered = Some(now);
            }
            stays
        });
        if stays == Some(false) {
            self.answered(firm, side);
        }
    }

    /// Notes a fault that is the connection's own; others change nothing here.
    pub fn failed(&self, firm: &FirmId, side: Side, fault: &Fault) {
        let since = self.clock.now();
        let elapsed = self.clock.elapsed();
        let changed = self.with(firm, side, |connection| {
            if fault.class == Class::Stop && !matches!(connection.health, Health::Stopped { .. }) {
                connection.stopped = Some(elapsed);
            }
            let next = match (&fault.class, &connection.health) {
                (Class::Away, Health::Away { since, failed_probes, .. }) => Health::Away {
                    since: *since,
                    code: fault.code,
                    vendor: fault.vendor.clone(),
                    failed_probes: failed_probes.saturating_add(1),
                },
                (Class::Away, _) => {
                    Health::Away { since, code: fault.code, vendor: fault.vendor.clone(), failed_probes: 1 }
                }
                (Class::Stop, Health::Stopped { code, .. }) if *code == fault.code => return false,
                (Class::Stop, _) => Health::Stopped {
                    since,
                    code: fault.code,
                    subject: fault.subject.clone(),
                    vendor: fault.vendor.clone(),
                },
                _ => return false,
            };
            let first = std::mem::discriminant(&next) != std::mem::discriminant(&connection.health);
            connection.health = next;
            first
        });
        if changed == Some(true) {
            tracing::warn!(%firm, side = side.as_str(), %fault, "connection lost");
            self.changed.notify_waiters();
        }
    }

    /// What answered so far proves nothing any more: those that were up must answer again.
    pub fn prove_again(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in all.values_mut() {
            if connection.health == Health::Up {
                connection.health = Health::Unproven;
                connection.answered = None;
            }
        }
    }

    /// A quota asks for silence.
    pub fn quiet(&self, firm: &FirmId, side: Side, long: Duration) {
        let until = self.clock.elapsed() + long;
        self.with(firm, side, |connection| {
            connection.quiet_until = Some(connection.quiet_until.map_or(until, |already| already.max(until)));
        });
    }

    /// Why one side cannot be used just now, if it cannot. Nothing proven yet is worth a try.
    pub fn blocked_side(&self, firm: &FirmId, side: Side) -> Option<Code> {
        let now = self.clock.elapsed();
        self.with(firm, side, |connection| match &connection.health {
            Health::Away { code, .. } | Health::Stopped { code, .. } => Some(*code),
            Health::Up | Health::Unproven => {
                connection.quiet_until.is_some_and(|until| until > now).then_some(Code::Throttled)
            }
        })
        .flatten()
    }

    /// How long a quota still asks for silence, if one does.
    pub fn quiet_for(&self, firm: &FirmId, side: Side) -> Option<Duration> {
        let now = self.clock.elapsed();
        self.with(firm, side, |connection| connection.quiet_until?.checked_sub(now).filter(|left| !left.is_zero()))
            .flatten()
    }

    /// Why this firm's runs cannot begin just now, if they cannot.
    pub fn blocked(&self, firm: &FirmId) -> Option<Code> {
        Side::BOTH.into_iter().find_map(|side| self.blocked_side(firm, side))
    }

    /// Resolves at the next change of any connection.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(all(test, feature = "fakes"))]
mod tests {
    use super::*;
    use crate::fakes::FakeClock;

    #[tokio::test(start_paused = true)]
    async fn a_passing_probe_lifts_a_stop_only_after_a_while() {
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
        let firm = FirmId::new("north").unwrap();
        let connections = Connections::new(clock, [&firm].into_iter());
        let side = Side::FileMaker;
        connections.answered(&firm, side);
        let missing = Fault::new(Class::Stop, Code::LayoutMissing).on("API_Patient");
        connections.failed(&firm, side, &missing);

        tokio::time::advance(STAYS_STOPPED - Duration::from_secs(1)).await;
        connections.probe_passed(&firm, side);
        assert_eq!(connections.blocked(&firm), Some(Code::LayoutMissing));

        // The same again does not begin the while anew.
        connections.failed(&firm, side, &missing);
        tokio::time::advance(Duration::from_secs(1)).await;
        connections.probe_passed(&firm, side);
        assert_eq!(connections.blocked(&firm), None);

        // What is still missing stops it for as long again.
        connections.failed(&firm, side, &missing);
        connections.probe_passed(&firm, side);
        assert_eq!(connections.blocked(&firm), Some(Code::LayoutMissing));
    }
}
