//! Sync now: one full pass over all firms and all their types, asked for by a person.
//!
//! A pass asks every side whether it is there, polls every type once, and is over when what those polls hinted, and what was due, has
//! been run by a run that began after it was found, or waits for something that has a name. It breaks no lease and retries nothing
//! that is dead. Workers report to [`Pass`]; none of them waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    connection::Side,
    error::{Class, Code, Fault},
    key::{FirmId, RecordKey, ResourceType},
    ports::Clock,
    snapshot::Totals,
};

/// A pass that takes longer is said not to be finished; what is left goes on by itself.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);

/// A run that is to be made again within this belongs to the pass: a child whose parent is just being made, say.
const SOON: Duration = Duration::from_secs(5);

/// What a pass is doing, or how the last one ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manual {
    pub began: Timestamp,
    /// The signed-in OS user who asked for it.
    pub by: Option<String>,
    pub stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stage {
    /// Asks this side whether it is there, or what changed.
    Checking {
        side: Side,
    },
    /// What was found is being run.
    Sending,
    Finished(Finished),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub at: Timestamp,
    /// Rows created or edited meanwhile.
    pub sent: u64,
    /// Records that came to need attention meanwhile.
    pub failed: u64,
    /// Records that still wait.
    pub waiting: u64,
    /// Everything was looked at, or has its obstacle below. If not, the pass took too long or the program ended; what is left
    /// goes on by itself.
    pub complete: bool,
    /// What was in its way, the chart systems first.
    pub obstacles: Vec<Obstacle>,
    /// And which EHRs could not be looked at.
    #[serde(default)]
    pub ehrs: Vec<Unwatched>,
}

/// An EHR that could not be looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwatched {
    pub firm: FirmId,
    pub code: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    pub firm: FirmId,
    pub side: Side,
    pub code: Code,
    /// How long a quota asked us to wait, as of the end.
    pub left: Option<Duration>,
}

impl Manual {
    pub fn is_running(&self) -> bool {
        !matches!(self.stage, Stage::Finished(_))
    }
}

/// Records that a pass keeps by name, so that its end does not wait for what comes later. Of more it is known that they have been run when
/// the queue is found empty.
const BY_NAME: usize = 20_000;

/// The pass that is running, if one is, and what is shown of the last one.
#[derive(Debug)]
pub struct Pass {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    shown: Option<Manual>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    began: Duration,
    totals: Totals,
    probes: BTreeSet<(FirmId, Side)>,
    polls: BTreeSet<(FirmId, Side, ResourceType)>,
    /// Of the EHRs that are watched.
    looks: BTreeSet<(FirmId, ResourceType)>,
    /// When the last poll was done.
    polled: Option<Duration>,
    /// Due records were looked for since then, and none was left.
    looked: bool,
    /// To be run by a run that begins at this elapsed time or later.
    expected: BTreeMap<RecordKey, Duration>,
    /// There are more than are kept by name.
    crowded: bool,
    /// What kept polls from being finished.
    obstacles: BTreeMap<(FirmId, Side), Code>,
    /// The same, of EHRs.
    ehrs: BTreeMap<FirmId, Code>,
}

/// What a pass came to, for its result.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) totals: Totals,
    pub(crate) complete: bool,
    pub(crate) obstacles: BTreeMap<(FirmId, Side), Code>,
    pub(crate) ehrs: BTreeMap<FirmId, Code>,
}

impl Pass {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is changed in single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the running pass something, if there is one.
    fn tell(&self, change: impl FnOnce(&mut Running, Duration)) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if let Some(running) = &mut state.running {
            change(running, now);
            let asked = running.probes.is_empty() && running.polls.is_empty() && running.looks.is_empty();
            if asked && running.polled.is_none() {
                running.polled = Some(now);
            }
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Begins one; refused while one is running.
    pub(crate) fn begin(
        &self,
        by: Option<String>,
        totals: Totals,
        probes: impl Iterator<Item = (FirmId, Side)>,
        polls: impl Iterator<Item = (FirmId, Side, ResourceType)>,
        looks: impl Iterator<Item = (FirmId, ResourceType)>,
    ) -> Result<(), Fault> {
        let mut state = self.state();
        if state.running.is_some() {
            return Err(Fault::new(Class::Permanent, Code::SyncRunning));
        }
        state.running = Some(Running {
            began: self.clock.elapsed(),
            totals,
            probes: probes.collect(),
            polls: polls.collect(),
            looks: looks.collect(),
            polled: None,
            looked: false,
            expected: BTreeMap::new(),
            crowded: false,
            obstacles: BTreeMap::new(),
            ehrs: BTreeMap::new(),
        });
        state.shown = Some(Manual { began: self.clock.now(), by, stage: Stage::Sending });
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state().running.is_some()
    }

    /// A side was asked whether it is there, and answered or not.
    pub(crate) fn probed(&self, firm: &FirmId, side: Side) {
        self.tell(|running, _| {
            running.probes.remove(&(firm.clone(), side));
        });
    }

    /// A poll that this pass asked for is over, or could not be made.
    pub(crate) fn polled(&self, firm: &FirmId, side: Side, resource: &ResourceType, obstacle: Option<Code>) {
        self.tell(|running, _| {
            running.polls.remove(&(firm.clone(), side, resource.clone()));
            running.obstacles.extend(obstacle.map(|code| ((firm.clone(), side), code)));
        });
    }

    /// A look at an EHR that this pass asked for is over, or could not be made.
    pub(crate) fn watched(&self, firm: &FirmId, resource: &ResourceType, obstacle: Option<Code>) {
        self.tell(|running, _| {
            running.looks.remove(&(firm.clone(), resource.clone()));
            running.ehrs.extend(obstacle.map(|code| (firm.clone(), code)));
        });
    }

    /// These are about to be hinted or run on its behalf.
    pub(crate) fn expect(&self, keys: impl Iterator<Item = RecordKey>) {
        self.tell(|running, now| {
            for key in keys {
                if running.expected.len() < BY_NAME {
                    running.expected.insert(key, now);
                } else {
                    running.crowded = true;
                }
            }
        });
    }

    /// They were not after all.
    pub(crate) fn give_up(&self, keys: impl Iterator<Item = RecordKey>) {
        self.tell(|running, _| {
            for key in keys {
                running.expected.remove(&key);
            }
        });
    }

    /// A run that began at `began` (elapsed) is over, or needs none; the next is due after `again`, if it is known that there is one.
    pub(crate) fn ended(&self, key: &RecordKey, began: Duration, again: Option<Duration>) {
        self.tell(|running, now| {
            let Some(expected) = running.expected.get_mut(key).filter(|since| **since <= began) else { return };
            match again {
                Some(wait) if wait <= SOON => *expected = now,
                _ => {
                    running.expected.remove(key);
                }
            }
        });
    }

    /// A look for due records that began at `asked` (elapsed) found none but those on the desk.
    pub(crate) fn nothing_due<'a>(&self, asked: Duration, desk: impl Iterator<Item = &'a RecordKey>) {
        self.tell(|running, _| {
            if running.polled.is_some_and(|polled| polled <= asked) && !running.looked {
                running.looked = true;
                for key in desk {
                    running.expected.entry(key.clone()).or_insert(Duration::ZERO);
                }
            }
        });
    }

    /// A receive that began at `asked` (elapsed) came back empty: what is not on the desk is not in the queue either.
    pub(crate) fn queue_empty(&self, asked: Duration, on_desk: impl Fn(&RecordKey) -> bool) {
        self.tell(|running, _| {
            if running.polled.is_some_and(|polled| polled <= asked) {
                running.crowded = false;
                // What is to run again soon is not in the queue, but in the ledger.
                running.expected.retain(|key, since| on_desk(key) || running.polled < Some(*since));
            }
        });
    }

    /// Resolves when the running pass is over or has taken too long; never while there is none.
    pub(crate) async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            let left = self.state().running.as_ref().map(|running| {
                if running.is_over() {
                    Duration::ZERO
                } else {
                    (running.began + LONGEST).saturating_sub(self.clock.elapsed())
                }
            });
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => {
                    let _ = tokio::time::timeout(left, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Ends the running pass, however far it has come. Its result is for the caller to make, and to [`Pass::show`].
    pub(crate) fn end(&self) -> Option<Over> {
        let running = self.state().running.take()?;
        let complete = running.is_over();
        Some(Over { totals: running.totals, complete, obstacles: running.obstacles, ehrs: running.ehrs })
    }

    /// What the last pass came to.
    pub(crate) fn show(&self, finished: Finished) -> Option<Manual> {
        let mut state = self.state();
        if let Some(shown) = &mut state.shown {
            shown.stage = Stage::Finished(finished);
        }
        state.shown.clone()
    }

    /// What an earlier boot had shown.
    pub(crate) fn remember(&self, manual: Manual) {
        self.state().shown = Some(manual);
    }

    pub(crate) fn shown(&self) -> Option<Manual> {
        let mut state = self.state();
        let stage = state.running.as_ref().map(Running::stage);
        if let (Some(shown), Some(stage)) = (&mut state.shown, stage) {
            shown.stage = stage;
        }
        state.shown.clone()
    }
}

impl Running {
    fn is_over(&self) -> bool {
        self.polled.is_some() && self.looked && !self.crowded && self.expected.is_empty()
    }

    fn stage(&self) -> Stage {
        if self.probes.iter().any(|(_, side)| *side == Side::FileMaker) {
            Stage::Checking { side: Side::FileMaker }
        } else if self.polled.is_none() {
            let side = self.polls.iter().map(|(_, side, _)| *side).min().unwrap_or(Side::Fhir);
            Stage::Checking { side }
        } else {
            Stage::Sending
        }
    }
}

#[cfg(all(test, feature = "fakes"))]
mod tests {
    use super::*;
    use crate::fakes::FakeClock;

    #[tokio::test(start_paused = true)]
    async fn more_than_is_kept_by_name_is_over_when_the_queue_is_empty() {
        let clock = FakeClock::at(Timestamp::UNIX_EPOCH);
        let pass = Pass::new(clock.clone());
        let firm = FirmId::new("north").unwrap();
        let patient = ResourceType::new("Patient").unwrap();
        let keys: Vec<_> =
            (0..=BY_NAME).filter_map(|number| RecordKey::parse(&format!("north/link/Patient/{number}"))).collect();
        pass.begin(
            None,
            Totals::default(),
            std::iter::empty(),
            [(firm.clone(), Side::Fhir, patient.clone())].into_iter(),
            std::iter::empty(),
        )
        .unwrap();
        pass.expect(keys.iter().cloned());
        pass.polled(&firm, Side::Fhir, &patient, None);
        pass.nothing_due(clock.elapsed(), std::iter::empty());
        let over = || tokio::time::timeout(Duration::from_secs(1), pass.over());
        for key in &keys {
            pass.ended(key, clock.elapsed(), None);
        }
        assert!(over().await.is_err(), "one more is not known by name");
        pass.queue_empty(clock.elapsed(), |_| false);
        over().await.unwrap();
        assert!(pass.end().unwrap().complete);
    }
}
