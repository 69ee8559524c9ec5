//! One run of one link: read both sides, merge field by field, write only what differs.
//!
//! The run holds the link's lease and reads both sides *after* it was taken, so the newest state wins whatever hint began it. The
//! order of a write is: intent and audit entry on disk, lease still ours, the guarded write, its outcome on disk. Reads may be
//! cancelled when the lease is lost; a write that was sent is always awaited.
//!
//! Writes go towards the clinic's database only. Where the clinic has changed a mapped field itself, its value stays and the link
//! is noted as [`Code::Differs`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    audit::{Act, Begun, Outcome as Audited},
    chance::Chance,
    connection::{Connections, Side},
    error::{Class, Code, Fault},
    key::{FirmId, RecordKey, ResourceType},
    keys::{FieldHash, Hasher},
    lease::HeldLease,
    ledger::{Finish, LedgerError, Record, Want},
    link::{Ended, LinkState, hashes},
    mapping::{Extracted, ResourceMapping, Standing},
    merge::{Merge, merge},
    ports::{AuditLog, Clock, Ledger, Read, Resource},
    retry::Budget,
    row::{Fields, Row, Value},
    settings::{Firm, Settings},
    snapshot::What,
};

/// Reads and merges again at most so often within one run, when versions keep moving under it.
const ROUNDS: usize = 4;

/// What a run comes to. The caller commits it.
#[derive(Debug)]
pub struct Outcome {
    pub state: LinkState,
    pub finish: Finish,
    pub notice: Option<Code>,
    pub what: Option<What>,
}

/// Why a run has nothing to commit.
#[derive(Debug)]
pub enum Stop {
    LeaseLost,
    /// Our own storage failed.
    Storage(Fault),
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Lost => Stop::LeaseLost,
            LedgerError::Fault(fault) => Stop::Storage(fault),
        }
    }
}

/// A fault of one of the two sides.
struct SideFault(Side, Fault);

#[derive(Debug)]
pub struct Reconciler {
    pub clock: Arc<dyn Clock>,
    pub ledger: Arc<dyn Ledger>,
    pub audit: Arc<dyn AuditLog>,
    pub connections: Arc<Connections>,
    pub chance: Arc<Chance>,
    pub budget: Arc<Budget>,
    pub hasher: Hasher,
    pub settings: Settings,
    pub firms: BTreeMap<FirmId, Firm>,
    /// Tables whose unique key was proven, as far as known here.
    pub proven: Mutex<BTreeSet<RecordKey>>,
}

/// What a merge asks for.
struct Plan {
    write: Fields,
    differs: BTreeSet<String>,
    agreed: Vec<(String, FieldHash)>,
}

impl Reconciler {
    /// Runs a link whose lease is held. `first_seen` is when its change was first noticed.
    pub async fn run(&self, held: &HeldLease, record: &Record, first_seen: Timestamp) -> Result<Outcome, Stop> {
        let key = &record.key;
        let mut state = LinkState::parse(&record.state, &self.hasher);
        let Some(firm) = self.firms.get(&key.firm) else {
            return Ok(self.dead(state, Code::UnknownFirm));
        };
        let Some(mapping) = firm.mapping.resources.get(&key.resource) else {
            return Ok(self.dead(state, Code::NotMapped));
        };
        let mut written = None;
        for _ in 0..ROUNDS {
            let (resource, row) = match self.read_both(held, firm, mapping, key).await? {
                Ok(both) => both,
                Err(fault) => return self.after_fault(record, state, fault).await,
            };
            let row_hashes = row.as_ref().map(|row| hashes(&self.hasher, key, &row.fields)).unwrap_or_default();
            state.absorb(row.as_ref(), &row_hashes);
            let resource = match resource {
                Read::Found(resource) => resource,
                Read::Missing if state.version.is_none() => return Ok(self.not_there_yet(state, first_seen)),
                Read::Gone | Read::Missing => return Ok(self.ended(firm, state, Ended::Gone, None)),
            };
            let extracted = mapping.extract(&resource.json, &firm.zone);
            if matches!(extracted.standing, Standing::Skip(_))
                || (extracted.standing == Standing::MarkOnly && row.is_none())
            {
                return Ok(self.ended(firm, state, Ended::DoesNotApply, Some(resource.version)));
            }
            if let Some(outcome) = self.wait_for_parent(key, &mut state, &extracted).await? {
                return Ok(outcome);
            }
            let Some(row) = row else {
                if state.row.is_some() {
                    return Ok(self.ended(firm, state, Ended::RowDeleted, Some(resource.version)));
                }
                if !self.key_is_unique(key, mapping).await? {
                    return Ok(self.later(state, Code::UniquenessUnproven, self.settings.record_open_retry));
                }
                let fields = creation(&extracted);
                match self.create(held, firm, mapping, &mut state, fields).await? {
                    Ok(what) => {
                        written = Some(what);
                        return Ok(self.agreed(firm, state, &extracted, resource, BTreeSet::new(), written));
                    }
                    Err(fault) if look_again(&fault) => continue,
                    Err(fault) => return self.after_fault(record, state, SideFault(Side::FileMaker, fault)).await,
                }
            };
            state.row = Some((row.id.clone(), row.mod_id.clone()));
            let plan = self.plan(key, &state, &extracted, &row, &row_hashes);
            state.base.extend(plan.agreed.iter().cloned());
            if plan.write.is_empty() {
                return Ok(self.agreed(firm, state, &extracted, resource, plan.differs, written));
            }
            match self.edit(held, firm, mapping, &mut state, &row, plan.write).await? {
                Ok(what) => {
                    return Ok(self.agreed(firm, state, &extracted, resource, plan.differs, Some(what)));
                }
                Err(fault) if look_again(&fault) => {}
                Err(fault) => return self.after_fault(record, state, SideFault(Side::FileMaker, fault)).await,
            }
        }
        // Versions moved under every round, or every answer was lost: somebody is very busy here.
        let fault =
            Fault::new(Class::Retry, if state.intents.is_empty() { Code::RecordChanged } else { Code::OutcomeUnknown });
        self.after_fault(record, state, SideFault(Side::FileMaker, fault)).await
    }

    /// Reads both sides side by side; gives up as soon as the lease is lost.
    async fn read_both(
        &self,
        held: &HeldLease,
        firm: &Firm,
        mapping: &ResourceMapping,
        key: &RecordKey,
    ) -> Result<Result<(Read, Option<Row>), SideFault>, Stop> {
        let both = async {
            tokio::join!(
                firm.ports.fhir.read(&key.resource, &key.id),
                firm.ports.clinic.find(&mapping.table, key.id.as_str()),
            )
        };
        let (resource, row) = tokio::select! {
            biased;
            () = held.lost() => return Err(Stop::LeaseLost),
            both = both => both,
        };
        self.note(&key.firm, Side::Fhir, resource.as_ref().err());
        self.note(&key.firm, Side::FileMaker, row.as_ref().err());
        Ok(match (resource, row) {
            (Err(fault), _) => Err(SideFault(Side::Fhir, fault)),
            (_, Err(fault)) => Err(SideFault(Side::FileMaker, fault)),
            (Ok(resource), Ok(row)) => Ok((resource, row.map(|row| mapping.canonical_row(row)))),
        })
    }

    /// Keeps the connection's picture up to date: an error of the record's own is an answer too.
    fn note(&self, firm: &FirmId, side: Side, fault: Option<&Fault>) {
        match fault.map(|fault| fault.class) {
            None | Some(Class::Stale | Class::Permanent) => self.connections.answered(firm, side),
            Some(Class::Wait(Some(long))) if fault.is_some_and(|fault| fault.code == Code::Throttled) => {
                self.connections.quiet(firm, side, long);
            }
            Some(_) => {}
        }
    }

    /// A child's row needs its parent's: without it the parent is hinted and the child waits.
    async fn wait_for_parent(
        &self,
        key: &RecordKey,
        state: &mut LinkState,
        extracted: &Extracted,
    ) -> Result<Option<Outcome>, Stop> {
        let Some((resource, id)) = &extracted.parent else {
            return Ok(None);
        };
        let parent = RecordKey::link(key.firm.clone(), resource.clone(), id.clone());
        if state.parent.as_ref() == Some(&parent) {
            return Ok(None);
        }
        let record = self.ledger.read(&parent).await.map_err(Stop::Storage)?;
        let (linked, dead) = record.map_or((false, false), |record| {
            (LinkState::parse(&record.state, &self.hasher).row.is_some(), record.dead.is_some())
        });
        if linked {
            state.parent = Some(parent);
            return Ok(None);
        }
        if dead {
            return Ok(Some(self.dead(state.clone(), Code::ParentMissing)));
        }
        let now = self.clock.now();
        let want = Want { key: parent, first_seen: now, not_before: now, waits_for: None };
        self.ledger.want(&[want]).await.map_err(Stop::Storage)?;
        Ok(Some(self.later(state.clone(), Code::ParentMissing, self.settings.backoff.base * 2)))
    }

    /// The three-way merge of every mapped field.
    fn plan(
        &self,
        key: &RecordKey,
        state: &LinkState,
        extracted: &Extracted,
        row: &Row,
        row_hashes: &BTreeMap<String, FieldHash>,
    ) -> Plan {
        let mut plan = Plan { write: Fields::new(), differs: BTreeSet::new(), agreed: Vec::new() };
        for (field, value) in &extracted.fields {
            // The resource says nothing about this field: it is left as it is.
            let Some(value) = value else { continue };
            // What stands there is not of the field's type, so no program wrote it.
            let Some(right) = row_hashes.get(field) else {
                plan.differs.insert(field.clone());
                continue;
            };
            let left = self.hasher.hash(key, field, value);
            let blank = row.fields.get(field) == Some(&Value::Blank);
            match merge(left, *right, state.base.get(field).copied()) {
                Merge::Agreed => plan.agreed.push((field.clone(), left)),
                Merge::TakeLeft => {
                    plan.write.insert(field.clone(), value.clone());
                }
                // Nothing is known of what both once agreed on, and filling a blank takes nothing from anybody.
                Merge::Conflict if blank && !state.base.contains_key(field) => {
                    plan.write.insert(field.clone(), value.clone());
                }
                Merge::TakeRight | Merge::Conflict => {
                    plan.differs.insert(field.clone());
                }
            }
        }
        plan
    }

    async fn key_is_unique(&self, key: &RecordKey, mapping: &ResourceMapping) -> Result<bool, Stop> {
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

    async fn create(
        &self,
        held: &HeldLease,
        firm: &Firm,
        mapping: &ResourceMapping,
        state: &mut LinkState,
        fields: Fields,
    ) -> Result<Result<What, Fault>, Stop> {
        let key = &held.lease.key;
        let count = fields.len();
        let write = firm.ports.clinic.create(&mapping.table, key.id.as_str(), &fields);
        let written = self.write(held, state, Act::CreateRow, &fields, None, write).await?;
        Ok(written.map(|(row, mod_id)| {
            state.row = Some((row, mod_id));
            state.base.extend(hashes(&self.hasher, key, &fields));
            What::Created { fields: count }
        }))
    }

    async fn edit(
        &self,
        held: &HeldLease,
        firm: &Firm,
        mapping: &ResourceMapping,
        state: &mut LinkState,
        row: &Row,
        fields: Fields,
    ) -> Result<Result<What, Fault>, Stop> {
        let key = &held.lease.key;
        let count = fields.len();
        let write = firm.ports.clinic.edit(&mapping.table, &row.id, &row.mod_id, &fields);
        let written = self.write(held, state, Act::EditRow, &fields, Some(row), write).await?;
        Ok(written.map(|mod_id| {
            state.row = Some((row.id.clone(), mod_id));
            state.base.extend(hashes(&self.hasher, key, &fields));
            // The version moved on: no older write can land any more.
            state.intents.clear();
            What::Edited { fields: count }
        }))
    }

    /// A guarded write with everything around it. `Err` inside is the side's fault, its intent kept only if it may still land.
    async fn write<T>(
        &self,
        held: &HeldLease,
        state: &mut LinkState,
        act: Act,
        fields: &Fields,
        row: Option<&Row>,
        write: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Stop> {
        let key = &held.lease.key;
        let now = self.clock.now();
        let expected = row.map(|row| row.mod_id.clone());
        state.intend(hashes(&self.hasher, key, fields), expected.clone(), held.lease.epoch, now);
        if !held.may_write() {
            return Err(Stop::LeaseLost);
        }
        let begun = Begun {
            at: now,
            by: held.lease.owner.clone(),
            person: None,
            act,
            key: Some(key.clone()),
            epoch: held.lease.epoch,
            expected: expected.map(|mod_id| mod_id.0),
            fields: fields.keys().cloned().collect(),
        };
        let text = state.text();
        let (saved, audited) = tokio::join!(self.ledger.save(&held.lease, &text, now), self.audit.begin(begun));
        let entry = audited.map_err(Stop::Storage)?;
        let close =
            async |outcome: Audited| self.audit.complete(entry, outcome, self.clock.now()).await.map_err(Stop::Storage);
        if let Err(error) = saved {
            close(Audited::Refused { code: Code::LeaseLost }).await?;
            return Err(error.into());
        }
        if !held.may_write() {
            close(Audited::Refused { code: Code::LeaseLost }).await?;
            return Err(Stop::LeaseLost);
        }
        let written = write.await;
        self.note(&key.firm, Side::FileMaker, written.as_ref().err());
        match &written {
            Ok(_) => {
                state.settle_last();
                close(Audited::Done { version: None }).await?;
            }
            Err(fault) if fault.class == Class::Unknown => close(Audited::Unknown { code: fault.code }).await?,
            Err(fault) => {
                state.settle_last();
                close(Audited::Refused { code: fault.code }).await?;
            }
        }
        Ok(written)
    }

    /// Both sides agree as far as they can.
    fn agreed(
        &self,
        firm: &Firm,
        mut state: LinkState,
        extracted: &Extracted,
        resource: Resource,
        differs: BTreeSet<String>,
        written: Option<What>,
    ) -> Outcome {
        self.budget.success();
        state.version = Some(resource.version);
        state.ended = None;
        state.refused = extracted.refused.keys().cloned().collect();
        let notice = if !state.refused.is_empty() {
            Some(Code::ValueUnmappable)
        } else if !differs.is_empty() {
            Some(Code::Differs)
        } else {
            extracted.notice
        };
        let news = (differs != state.differs && !differs.is_empty()).then_some(What::Kept { code: Code::Differs });
        state.differs = differs;
        let finish = self.settled(firm, &mut state);
        Outcome { state, finish, notice, what: written.or(news) }
    }

    /// The link has come to an end, for now.
    fn ended(&self, firm: &Firm, mut state: LinkState, ended: Ended, version: Option<String>) -> Outcome {
        self.budget.success();
        let news = state.ended != Some(ended);
        state.ended = Some(ended);
        state.version = version.or(state.version);
        let notice = match ended {
            Ended::Gone => state.row.is_some().then_some(Code::Gone),
            Ended::RowDeleted => Some(Code::RowDeleted),
            Ended::DoesNotApply => None,
        };
        let finish = self.settled(firm, &mut state);
        Outcome { state, finish, notice, what: notice.filter(|_| news).map(|code| What::Kept { code }) }
    }

    /// Done, unless a lost write may still land: then the row is looked at again later.
    fn settled(&self, firm: &Firm, state: &mut LinkState) -> Finish {
        let now = self.clock.now();
        match state.look_again(now, firm.ports.clinic.write_horizon()) {
            None => Finish::Done,
            Some(wait) => {
                Finish::Later { not_before: later(now, wait), waits_for: Some(Code::OutcomeUnknown), attempt: false }
            }
        }
    }

    fn later(&self, state: LinkState, code: Code, wait: Duration) -> Outcome {
        let not_before = later(self.clock.now(), self.chance.around(wait).min(self.settings.longest_wait));
        let finish = Finish::Later { not_before, waits_for: Some(code), attempt: false };
        Outcome { state, finish, notice: None, what: Some(What::Waits { code }) }
    }

    fn dead(&self, state: LinkState, code: Code) -> Outcome {
        Outcome { state, finish: Finish::Dead { code }, notice: None, what: Some(What::NeedsAttention { code }) }
    }

    /// Announced, and not visible: its server may be slow to show it.
    fn not_there_yet(&self, state: LinkState, first_seen: Timestamp) -> Outcome {
        let age = self.clock.now().duration_since(first_seen).unsigned_abs();
        if age > self.settings.not_found_patience {
            return self.dead(state, Code::NotFound);
        }
        self.later(state, Code::NotFound, (age / 2).max(self.settings.backoff.base))
    }

    /// What follows a fault of one side.
    async fn after_fault(&self, record: &Record, state: LinkState, fault: SideFault) -> Result<Outcome, Stop> {
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
        Outcome {
            state,
            finish: Finish::Later { not_before, waits_for: Some(fault.code), attempt: true },
            notice: None,
            what: Some(What::Retries { code: fault.code, attempt }),
        }
    }
}

/// What a new row starts with: what the resource says, blanks left out.
fn creation(extracted: &Extracted) -> Fields {
    extracted
        .fields
        .iter()
        .filter_map(|(field, value)| {
            value.clone().filter(|value| *value != Value::Blank).map(|value| (field.clone(), value))
        })
        .collect()
}

/// Faults after which both sides are read again within the run.
fn look_again(fault: &Fault) -> bool {
    matches!(fault.class, Class::Stale | Class::Unknown)
}

pub(crate) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// The resource types of a mapping, for pollers.
pub fn resources(firm: &Firm) -> impl Iterator<Item = &ResourceType> {
    firm.mapping.resources.keys()
}
