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
    mapping::{Extracted, ResourceMapping, Skip, Standing},
    merge::{Merge, merge},
    ports::{AuditLog, Clock, Ledger, Read, Resource},
    retry::Budget,
    row::{Fields, ModId, Row, RowId, Value},
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
    /// Since when (elapsed time) this station has watched an intent stay open, by record and the intent's epoch.
    pub watched: Mutex<BTreeMap<(RecordKey, u64), Duration>>,
}

/// One run of one link.
struct Run<'a> {
    reconciler: &'a Reconciler,
    held: &'a HeldLease,
    record: &'a Record,
    firm: &'a Firm,
    mapping: &'a ResourceMapping,
    first_seen: Timestamp,
}

/// How a round of a run ends.
enum Step {
    Ends(Box<Outcome>),
    /// A version moved, or an answer was lost: read both sides again.
    Again,
    Fails(SideFault),
}

impl Step {
    fn ends(outcome: Outcome) -> Self {
        Step::Ends(Box::new(outcome))
    }

    fn after_write(fault: Fault) -> Self {
        match fault.class {
            Class::Stale | Class::Unknown => Step::Again,
            _ => Step::Fails(SideFault(Side::FileMaker, fault)),
        }
    }
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
        let run = Run { reconciler: self, held, record, firm, mapping, first_seen };
        for _ in 0..ROUNDS {
            match run.round(&mut state).await? {
                Step::Ends(outcome) => return Ok(*outcome),
                Step::Again => {}
                Step::Fails(fault) => return self.after_fault(record, state, fault).await,
            }
        }
        // Versions moved under every round, or every answer was lost: somebody is very busy here.
        let code = if state.intents.is_empty() { Code::RecordChanged } else { Code::OutcomeUnknown };
        self.after_fault(record, state, SideFault(Side::FileMaker, Fault::new(Class::Retry, code))).await
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

    /// Both sides agree as far as they can.
    #[allow(clippy::too_many_arguments, reason = "what a run has in hand at its end")]
    fn agreed(
        &self,
        firm: &Firm,
        key: &RecordKey,
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
        let finish = self.settled(firm, key, &mut state);
        Outcome { state, finish, notice, what: written.or(news) }
    }

    /// The link has come to an end, for now.
    fn ended(
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
        state.version = version.or(state.version);
        let notice = match ended {
            Ended::Gone => state.row.is_some().then_some(Code::Gone),
            Ended::RowDeleted => Some(Code::RowDeleted),
            Ended::DoesNotApply | Ended::NotReady => None,
        };
        let finish = self.settled(firm, key, &mut state);
        Outcome { state, finish, notice, what: notice.filter(|_| news).map(|code| What::Kept { code }) }
    }

    /// Done, unless a lost write may still land: then the row is looked at again later. An intent that this station has watched
    /// for longer than a lost write can take is dropped; that is judged like a lease, on our own clock alone.
    fn settled(&self, firm: &Firm, key: &RecordKey, state: &mut LinkState) -> Finish {
        let now = self.clock.now();
        let elapsed = self.clock.elapsed();
        let horizon = firm.ports.clinic.write_horizon();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(of, epoch), _| of != key || state.intents.iter().any(|intent| intent.epoch == *epoch));
        state.intents.retain(|intent| {
            let since = *watched.entry((key.clone(), intent.epoch)).or_insert(elapsed);
            elapsed.saturating_sub(since) <= horizon
        });
        if state.intents.is_empty() {
            watched.retain(|(of, _), _| of != key);
            return Finish::Done;
        }
        Finish::Later { not_before: later(now, horizon / 2), waits_for: Some(Code::OutcomeUnknown), attempt: false }
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

impl Run<'_> {
    fn key(&self) -> &RecordKey {
        &self.record.key
    }

    /// Reads both sides and does what is to be done about them.
    async fn round(&self, state: &mut LinkState) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let (resource, row) = match self.read_both().await? {
            Ok(both) => both,
            Err(fault) => return Ok(Step::Fails(fault)),
        };
        let row_hashes =
            row.as_ref().map(|row| hashes(&reconciler.hasher, self.key(), &row.fields)).unwrap_or_default();
        state.absorb(row.as_ref(), &row_hashes);
        let resource = match resource {
            Read::Found(resource) => resource,
            Read::Missing if state.version.is_none() => {
                return Ok(Step::ends(reconciler.not_there_yet(state.clone(), self.first_seen)));
            }
            Read::Gone | Read::Missing => {
                return Ok(Step::ends(reconciler.ended(firm, self.key(), state.clone(), Ended::Gone, None)));
            }
        };
        let extracted = mapping.extract(&resource.json, &firm.zone);
        if let Standing::Skip(skip) = extracted.standing {
            let ended = if skip == Skip::Waiting { Ended::NotReady } else { Ended::DoesNotApply };
            return Ok(Step::ends(reconciler.ended(firm, self.key(), state.clone(), ended, Some(resource.version))));
        }
        if let Some(outcome) = self.wait_for_parent(state, &extracted).await? {
            return Ok(Step::ends(outcome));
        }
        match row {
            Some(row) => self.change_row(state, resource, &extracted, &row, &row_hashes).await,
            None => self.make_row(state, resource, &extracted).await,
        }
    }

    /// Reads both sides side by side; gives up as soon as the lease is lost.
    async fn read_both(&self) -> Result<Result<(Read, Option<Row>), SideFault>, Stop> {
        let key = self.key();
        let both = async {
            tokio::join!(
                self.firm.ports.fhir.read(&key.resource, &key.id),
                self.firm.ports.clinic.find(&self.mapping.table, key.id.as_str()),
            )
        };
        let (resource, row) = tokio::select! {
            biased;
            () = self.held.lost() => return Err(Stop::LeaseLost),
            both = both => both,
        };
        self.reconciler.note(&key.firm, Side::Fhir, resource.as_ref().err());
        self.reconciler.note(&key.firm, Side::FileMaker, row.as_ref().err());
        Ok(match (resource, row) {
            (Err(fault), _) => Err(SideFault(Side::Fhir, fault)),
            (_, Err(fault)) => Err(SideFault(Side::FileMaker, fault)),
            (Ok(resource), Ok(row)) => Ok((resource, row.map(|row| self.mapping.canonical_row(row)))),
        })
    }

    /// A child's row needs its parent's: without it the parent is hinted and the child waits.
    async fn wait_for_parent(&self, state: &mut LinkState, extracted: &Extracted) -> Result<Option<Outcome>, Stop> {
        let Some((resource, id)) = &extracted.parent else {
            return Ok(None);
        };
        let Run { reconciler, .. } = self;
        let parent = RecordKey::link(self.key().firm.clone(), resource.clone(), id.clone());
        if state.parent.as_ref() == Some(&parent) {
            return Ok(None);
        }
        let record = reconciler.ledger.read(&parent).await.map_err(Stop::Storage)?;
        let (linked, dead) = record.map_or((false, false), |record| {
            (LinkState::parse(&record.state, &reconciler.hasher).row.is_some(), record.dead.is_some())
        });
        if linked {
            state.parent = Some(parent);
            return Ok(None);
        }
        if dead {
            return Ok(Some(reconciler.dead(state.clone(), Code::ParentMissing)));
        }
        let now = reconciler.clock.now();
        let want = Want { key: parent, first_seen: now, not_before: now, waits_for: None };
        reconciler.ledger.want(&[want]).await.map_err(Stop::Storage)?;
        // Soon at first; a parent that does not come is asked for ever more seldom.
        let age = now.duration_since(self.first_seen).unsigned_abs();
        let wait = (age / 2).clamp(reconciler.settings.backoff.base * 2, Duration::from_secs(60));
        Ok(Some(reconciler.later(state.clone(), Code::ParentMissing, wait)))
    }

    /// There is no row: it is made, unless there was one, or there should be none.
    async fn make_row(&self, state: &mut LinkState, resource: Resource, extracted: &Extracted) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        if state.row.is_some() {
            let ended = reconciler.ended(firm, self.key(), state.clone(), Ended::RowDeleted, Some(resource.version));
            return Ok(Step::ends(ended));
        }
        if extracted.standing == Standing::MarkOnly {
            let ended = reconciler.ended(firm, self.key(), state.clone(), Ended::DoesNotApply, Some(resource.version));
            return Ok(Step::ends(ended));
        }
        if mapping.parent.is_some() && extracted.parent.is_none() {
            // It names nobody's chart, so no row can be made of it.
            return Ok(Step::ends(reconciler.dead(state.clone(), Code::ParentMissing)));
        }
        if !reconciler.key_is_unique(self.key(), mapping).await? {
            let wait = reconciler.settings.record_open_retry;
            return Ok(Step::ends(reconciler.later(state.clone(), Code::UniquenessUnproven, wait)));
        }
        let fields = creation(extracted);
        let create = firm.ports.clinic.create(&mapping.table, self.key().id.as_str(), &fields);
        Ok(match self.write(state, Act::CreateRow, &fields, None, create).await? {
            Ok(row) => {
                state.row = Some(row);
                state.base.extend(hashes(&reconciler.hasher, self.key(), &fields));
                let what = What::Created { fields: fields.len() };
                Step::ends(reconciler.agreed(
                    firm,
                    self.key(),
                    state.clone(),
                    extracted,
                    resource,
                    BTreeSet::new(),
                    Some(what),
                ))
            }
            Err(fault) => Step::after_write(fault),
        })
    }

    /// There is a row: what differs is merged field by field.
    async fn change_row(
        &self,
        state: &mut LinkState,
        resource: Resource,
        extracted: &Extracted,
        row: &Row,
        row_hashes: &BTreeMap<String, FieldHash>,
    ) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        state.row = Some((row.id.clone(), row.mod_id.clone()));
        let Plan { write, differs, agreed } = self.plan(state, extracted, row, row_hashes);
        state.base.extend(agreed);
        if write.is_empty() {
            return Ok(Step::ends(reconciler.agreed(
                firm,
                self.key(),
                state.clone(),
                extracted,
                resource,
                differs,
                None,
            )));
        }
        let edit = async {
            let mod_id = firm.ports.clinic.edit(&mapping.table, &row.id, &row.mod_id, &write).await?;
            Ok((row.id.clone(), mod_id))
        };
        Ok(match self.write(state, Act::EditRow, &write, Some(row), edit).await? {
            Ok(written) => {
                state.row = Some(written);
                state.base.extend(hashes(&reconciler.hasher, self.key(), &write));
                // The version moved on: no older edit can land any more.
                state.intents.retain(|intent| intent.expected.is_none());
                let what = What::Edited { fields: write.len() };
                Step::ends(reconciler.agreed(firm, self.key(), state.clone(), extracted, resource, differs, Some(what)))
            }
            Err(fault) => Step::after_write(fault),
        })
    }

    /// The three-way merge of every mapped field.
    fn plan(
        &self,
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
            let left = self.reconciler.hasher.hash(self.key(), field, value);
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
        // A number never loses its unit: where one of the two is kept, so is the other.
        for (number, unit) in self.mapping.together() {
            if plan.differs.contains(number) || plan.differs.contains(unit) {
                for field in [number, unit] {
                    if plan.write.remove(field).is_some() {
                        plan.differs.insert(field.to_owned());
                    }
                }
            }
        }
        plan
    }

    /// A guarded write with everything around it. `Err` inside is the side's fault, its intent kept only if it may still land.
    async fn write(
        &self,
        state: &mut LinkState,
        act: Act,
        fields: &Fields,
        row: Option<&Row>,
        write: impl Future<Output = Result<(RowId, ModId), Fault>>,
    ) -> Result<Result<(RowId, ModId), Fault>, Stop> {
        let Run { reconciler, held, .. } = self;
        if !held.may_write() {
            return Err(Stop::LeaseLost);
        }
        let now = reconciler.clock.now();
        let expected = row.map(|row| row.mod_id.clone());
        state.intend(hashes(&reconciler.hasher, self.key(), fields), expected.clone(), held.lease.epoch);
        let begun = Begun {
            at: now,
            by: held.lease.owner.clone(),
            person: None,
            act,
            key: Some(self.key().clone()),
            epoch: held.lease.epoch,
            expected: expected.map(|mod_id| mod_id.0),
            fields: fields.keys().cloned().collect(),
        };
        let text = state.text();
        let (saved, audited) =
            tokio::join!(reconciler.ledger.save(&held.lease, &text, now), reconciler.audit.begin(begun));
        let entry = audited.map_err(Stop::Storage)?;
        let close = async |outcome: Audited| {
            reconciler.audit.complete(entry, outcome, reconciler.clock.now()).await.map_err(Stop::Storage)
        };
        if saved.is_err() || !held.may_write() {
            close(Audited::Refused { code: Code::LeaseLost }).await?;
            return Err(saved.err().map_or(Stop::LeaseLost, Stop::from));
        }
        let written = write.await;
        reconciler.note(&self.key().firm, Side::FileMaker, written.as_ref().err());
        match &written {
            Ok((_, mod_id)) => {
                state.settle_last();
                close(Audited::Done { version: Some(mod_id.0.clone()) }).await?;
            }
            Err(fault) if fault.class == Class::Unknown => close(Audited::Unknown { code: fault.code }).await?,
            Err(fault) => {
                state.settle_last();
                close(Audited::Refused { code: fault.code }).await?;
            }
        }
        Ok(written)
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

pub(crate) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// The resource types of a mapping, for pollers.
pub fn resources(firm: &Firm) -> impl Iterator<Item = &ResourceType> {
    firm.mapping.resources.keys()
}
