//! How a run ends, and what follows a fault.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use jiff::Timestamp;

use super::{Reconciler, Run, SideFault, Stop, later, plan::Plan};
use crate::{
    connection::Side,
    error::{Class, Code, Fault},
    key::{FirmId, RecordKey},
    ledger::{Finish, Record},
    link::{Ended, LinkState},
    mapping::{Extracted, ResourceMapping},
    settings::Firm,
    snapshot::What,
};

/// What a run comes to. The caller commits it.
#[derive(Debug)]
pub struct Outcome {
    pub state: LinkState,
    pub finish: Finish,
    pub notice: Option<Code>,
    pub what: Option<What>,
    /// Why a person's decision was not carried out, where it was not.
    pub refused: Option<Code>,
}

impl Outcome {
    pub(super) fn new(state: LinkState, finish: Finish, notice: Option<Code>, what: Option<What>) -> Self {
        Self { state, finish, notice, what, refused: None }
    }

    /// Why what a person asked for is not done, if it is not.
    pub fn obstacle(&self) -> Option<Code> {
        if self.what.as_ref().is_some_and(What::was_sent) {
            return None;
        }
        self.refused.or(match &self.finish {
            Finish::Done => None,
            Finish::Later { waits_for, .. } => Some(waits_for.unwrap_or(Code::RecordChanged)),
            Finish::Dead { code } => Some(*code),
        })
    }
}

impl Run<'_> {
    /// Both sides agree as far as they can. `version` is the chart's.
    pub(super) fn agreed(
        &self,
        mut state: LinkState,
        extracted: &Extracted,
        version: String,
        plan: Plan,
        written: Option<What>,
    ) -> Outcome {
        let Run { reconciler, firm, .. } = self;
        reconciler.budget.success();
        let Plan { differs, conflicts, reshaped, .. } = plan;
        state.saw_version(version);
        state.ended = None;
        state.flagged = false;
        state.refused = extracted.refused.keys().cloned().collect();
        let notice = [
            (!conflicts.is_empty()).then_some(Code::Conflict),
            (!state.refused.is_empty()).then_some(Code::ValueUnmappable),
            (!differs.is_empty()).then_some(Code::Differs),
            extracted.notice,
            (!reshaped.is_empty()).then_some(Code::Reshaped),
        ];
        let notice = notice.into_iter().flatten().next();
        let open: BTreeSet<String> = state.conflicts.keys().cloned().collect();
        let news = match () {
            () if conflicts.difference(&open).next().is_some() => Some(What::Kept { code: Code::Conflict }),
            () if differs != state.differs && !differs.is_empty() => Some(What::Kept { code: Code::Differs }),
            () => None,
        };
        state.differs = differs;
        state.note_conflicts(conflicts, reconciler.clock.now());
        let finish = reconciler.settled(firm, self.key(), &mut state);
        Outcome::new(state, finish, notice, written.or(news))
    }
}

impl Reconciler {
    /// Why nothing of this firm can be run here now. One that only another station serves waits for that station.
    pub fn blocked(&self, firm: &FirmId) -> Option<Code> {
        let elsewhere = || !self.unserved.lock().unwrap_or_else(PoisonError::into_inner).contains(firm);
        if !self.firms.contains_key(firm) {
            return elsewhere().then_some(Code::UnknownFirm);
        }
        self.connections.blocked(firm)
    }

    /// Keeps the connection's picture up to date: an error of the record's own is an answer too.
    pub(super) fn note(&self, firm: &FirmId, side: Side, fault: Option<&Fault>) {
        match fault.map(|fault| fault.class) {
            None | Some(Class::Stale | Class::Permanent) => self.connections.answered(firm, side),
            Some(Class::Wait(Some(long))) if fault.is_some_and(|fault| fault.code == Code::Throttled) => {
                self.connections.quiet(firm, side, long);
            }
            Some(_) => {}
        }
    }

    pub(super) async fn key_is_unique(&self, key: &RecordKey, mapping: &ResourceMapping) -> Result<bool, Stop> {
        let proof = RecordKey::proof(key.firm.clone(), key.resource.clone());
        let known = || self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&proof) {
            return Ok(true);
        }
        let record = self.ledger.read(&proof).await.map_err(Stop::Storage)?;
        let proven = record.is_some_and(|record| record.state == crate::proof::text(&mapping.table));
        if proven {
            known().insert(proof);
        }
        Ok(proven)
    }

    /// The link has come to an end, for now.
    pub(super) fn ended(
        &self,
        firm: &Firm,
        key: &RecordKey,
        mut state: LinkState,
        ended: Ended,
        version: Option<String>,
    ) -> Outcome {
        self.budget.success();
        let news = state.ended != Some(ended);
        state.ended = Some(ended);
        if let Some(version) = version {
            state.saw_version(version);
        }
        let notice = match ended {
            Ended::Gone => state.row.is_some().then_some(Code::Gone),
            Ended::RowDeleted => Some(Code::RowDeleted),
            Ended::DoesNotApply | Ended::NotReady => None,
        };
        let finish = self.settled(firm, key, &mut state);
        let what = notice.filter(|_| news).map(|code| What::Kept { code });
        Outcome::new(state, finish, notice, what)
    }

    /// Done, unless a lost write may still land: then both sides are looked at again later. An intent that this station has watched
    /// for longer than a lost write can take is dropped; that is judged like a lease, on our own clock alone.
    pub(super) fn settled(&self, firm: &Firm, key: &RecordKey, state: &mut LinkState) -> Finish {
        let now = self.clock.now();
        let elapsed = self.clock.elapsed();
        let horizon = |side: Side| match side {
            Side::Fhir => firm.ports.fhir.write_horizon(),
            Side::FileMaker => firm.ports.clinic.write_horizon(),
        };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = |state: &LinkState, side: Side, epoch: u64| {
            state.intents.iter().any(|intent| intent.side == side && intent.epoch == epoch)
        };
        watched.retain(|(of, side, epoch), _| of != key || is_open(state, *side, *epoch));
        state.intents.retain(|intent| {
            let since = *watched.entry((key.clone(), intent.side, intent.epoch)).or_insert(elapsed);
            elapsed.saturating_sub(since) <= horizon(intent.side)
        });
        let Some(longest) = state.intents.iter().map(|intent| horizon(intent.side)).max() else {
            watched.retain(|(of, _, _), _| of != key);
            return Finish::Done;
        };
        Finish::Later { not_before: later(now, longest / 2), waits_for: Some(Code::OutcomeUnknown), attempt: false }
    }

    pub(super) fn later(&self, state: LinkState, code: Code, wait: Duration) -> Outcome {
        let not_before = later(self.clock.now(), self.chance.around(wait).min(self.settings.longest_wait));
        let finish = Finish::Later { not_before, waits_for: Some(code), attempt: false };
        Outcome::new(state, finish, None, Some(What::Waits { code }))
    }

    pub(super) fn dead(&self, state: LinkState, code: Code) -> Outcome {
        Outcome::new(state, Finish::Dead { code }, None, Some(What::NeedsAttention { code }))
    }

    /// What a person asked for is not done, and the record stays as it was: it is looked at once more as it would have been anyway.
    pub(super) fn refused(&self, state: LinkState, record: &Record, code: Code) -> Outcome {
        let finish = match record.dead {
            Some(dead) => Finish::Dead { code: dead.code },
            None => Finish::Later { not_before: self.clock.now(), waits_for: None, attempt: false },
        };
        Outcome { refused: Some(code), ..Outcome::new(state, finish, record.notice, None) }
    }

    /// Announced, and not visible: its server may be slow to show it.
    pub(super) fn not_there_yet(&self, state: LinkState, first_seen: Timestamp) -> Outcome {
        let age = self.clock.now().duration_since(first_seen).unsigned_abs();
        if age > self.settings.not_found_patience {
            return self.dead(state, Code::NotFound);
        }
        self.later(state, Code::NotFound, (age / 2).max(self.settings.backoff.base))
    }

    /// What follows a fault of one side.
    pub(super) async fn after_fault(
        &self,
        record: &Record,
        state: LinkState,
        fault: SideFault,
    ) -> Result<Outcome, Stop> {
        let SideFault(side, fault) = fault;
        let firm = &record.key.firm;
        let outcome = match fault.class {
            Class::Fatal => return Err(Stop::Storage(fault)),
            Class::Permanent => self.dead(state, fault.code),
            Class::Wait(least) => {
                let wait =
                    if fault.code == Code::RecordOpen { self.settings.record_open_retry } else { Duration::ZERO };
                self.later(state, fault.code, wait.max(least.unwrap_or(self.settings.backoff.base)))
            }
            Class::Stop => {
                self.connections.failed(firm, side, &fault);
                self.later(state, fault.code, Duration::ZERO)
            }
            // Is it the side, or is it this record? A record that alone upsets its server must not stop the others.
            Class::Away if self.answers(firm, side, &fault).await => self.failed(record, state, &fault),
            Class::Away => self.later(state, fault.code, Duration::ZERO),
            Class::Retry | Class::Stale | Class::Unknown => self.failed(record, state, &fault),
        };
        Ok(outcome)
    }

    /// Asks a side that seems away whether it is, and keeps the connection's picture.
    async fn answers(&self, firm: &FirmId, side: Side, fault: &Fault) -> bool {
        if self.connections.blocked_side(firm, side).is_some() {
            return false;
        }
        let probe = match self.firms.get(firm) {
            Some(firm) if side == Side::Fhir => firm.ports.fhir.probe().await,
            Some(firm) => firm.ports.clinic.probe().await,
            None => return false,
        };
        match probe {
            Ok(()) => {
                self.connections.answered(firm, side);
                true
            }
            Err(probe) if matches!(probe.class, Class::Away | Class::Stop) => {
                self.connections.failed(firm, side, &probe);
                false
            }
            Err(_) => {
                self.connections.failed(firm, side, fault);
                false
            }
        }
    }

    /// One more failed attempt: again later, or the dead-letter list.
    fn failed(&self, record: &Record, state: LinkState, fault: &Fault) -> Outcome {
        let attempt = record.attempts + 1;
        if attempt >= self.settings.attempts && state.intents.is_empty() {
            return self.dead(state, fault.code);
        }
        if !self.budget.take() {
            return self.later(state, Code::RetryBudgetSpent, self.settings.backoff.most);
        }
        let wait = self.settings.backoff.after(record.attempts, &self.chance);
        let not_before = later(self.clock.now(), wait);
        let finish = Finish::Later { not_before, waits_for: Some(fault.code), attempt: true };
        Outcome::new(state, finish, None, Some(What::Retries { code: fault.code, attempt }))
    }
}
