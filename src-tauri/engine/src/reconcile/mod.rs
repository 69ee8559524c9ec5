//! One run of one link: read both sides, merge field by field, write only what differs.
//!
//! The run holds the link's lease and reads both sides *after* it was taken, so the newest state wins whatever hint began it. The
//! order of a write is: intents and audit entry on disk, lease still ours, the guarded write, its outcome on disk. FileMaker is
//! written before the chart. Reads may be cancelled when the lease is lost; a write that was sent is always awaited.
//!
//! `plan` decides what is to be written, `write` writes it, `deleted` deals with what one side no longer has, `outcome` says how a
//! run ends.

mod adopt;
mod deleted;
mod number;
mod outcome;
pub mod plan;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

pub use self::outcome::Outcome;
use self::plan::{Decision, Plan, Sides, newer, plan};
use crate::{
    chance::Chance,
    connection::{Connections, Side},
    error::{Class, Code, Fault},
    key::{FirmId, RecordKey, ResourceType},
    keys::{FieldHash, Hasher, Seal},
    lease::{HeldLease, Watch},
    ledger::{LedgerError, Record, Want},
    link::{Circling, Ended, LinkState, Sight, hashes},
    mapping::{Extracted, ResourceMapping, Skip, Standing, sign},
    ports::{AuditLog, Clock, Ledger, Read, Resource},
    retry::Budget,
    row::{Fields, Row, Value},
    settings::{Firm, Settings},
    snapshot::What,
};

/// Reads and merges again at most so often within one run, when versions keep moving under it.
const ROUNDS: usize = 4;

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

/// Why a run is made.
#[derive(Debug, Clone, Default)]
pub enum Wish {
    /// Something may have changed.
    #[default]
    Look,
    /// A person has looked at the record and wants it made equal, whatever stopped it before.
    Resync { person: Option<String> },
    /// A person has decided about one field.
    Settle(Settling),
}

/// A person's decision, and what it was made on.
#[derive(Debug, Clone)]
pub struct Settling {
    pub field: String,
    /// What both sides said when the person saw them, the chart first.
    pub seen: (FieldHash, FieldHash),
    pub decision: Decision,
    pub person: Option<String>,
}

impl Wish {
    fn person(&self) -> Option<String> {
        match self {
            Wish::Look => None,
            Wish::Resync { person } | Wish::Settle(Settling { person, .. }) => person.clone(),
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
    pub seal: Seal,
    pub settings: Settings,
    pub firms: BTreeMap<FirmId, Firm>,
    /// Firms that neither this station nor any other serves, as far as known here: what is wanted of them dies with that reason.
    pub unserved: Mutex<BTreeSet<FirmId>>,
    /// Tables whose unique key was proven, as far as known here.
    pub proven: Mutex<BTreeSet<RecordKey>>,
    /// Since when (elapsed time) this station has watched an intent stay open, by record, side and the intent's epoch.
    pub watched: Mutex<BTreeMap<(RecordKey, Side, u64), Duration>>,
    /// When (elapsed time) this station lately flagged records whose counterpart is gone, by type and the side that lost them.
    pub flagged: Mutex<BTreeMap<(FirmId, ResourceType, Side), VecDeque<Duration>>>,
    /// Held while a number is allotted: one run at a time within this station.
    pub numbers: tokio::sync::Mutex<()>,
    /// The leases of others, as far as known here.
    pub others: Arc<Watch>,
}

/// One run of one link.
struct Run<'a> {
    reconciler: &'a Reconciler,
    held: &'a HeldLease,
    record: &'a Record,
    firm: &'a Firm,
    mapping: &'a ResourceMapping,
    first_seen: Timestamp,
    wish: &'a Wish,
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

    fn after_write(side: Side, fault: Fault) -> Self {
        match fault.class {
            Class::Stale | Class::Unknown => Step::Again,
            _ => Step::Fails(SideFault(side, fault)),
        }
    }
}

/// Both sides as one round has read them.
struct Both {
    chart: Read,
    row: Option<Row>,
    /// What the chart says, where it is there.
    extracted: Option<Extracted>,
    chart_hashes: BTreeMap<String, FieldHash>,
    row_hashes: BTreeMap<String, FieldHash>,
}

impl Reconciler {
    /// Runs a link whose lease is held. `first_seen` is when its change was first noticed.
    pub async fn run(
        &self,
        held: &HeldLease,
        record: &Record,
        first_seen: Timestamp,
        wish: &Wish,
    ) -> Result<Outcome, Stop> {
        let key = &record.key;
        let mut state = LinkState::parse(&record.state, &self.hasher);
        let Some(firm) = self.firms.get(&key.firm) else {
            return Ok(self.dead(state, Code::UnknownFirm));
        };
        let Some(mapping) = firm.mapping.resources.get(&key.resource) else {
            return Ok(self.dead(state, Code::NotMapped));
        };
        if let Wish::Resync { .. } = wish {
            state.begin_anew();
        }
        let run = Run { reconciler: self, held, record, firm, mapping, first_seen, wish };
        for _ in 0..ROUNDS {
            match run.round(&mut state).await? {
                Step::Ends(outcome) => return Ok(*outcome),
                Step::Again => {}
                Step::Fails(fault) => return self.after_fault(record, state, fault).await,
            }
        }
        // Versions moved under every round, or every answer was lost: somebody is very busy here.
        let code = if state.intents.is_empty() { Code::RecordChanged } else { Code::OutcomeUnknown };
        let side = state.intents.last().map_or(Side::FileMaker, |intent| intent.side);
        self.after_fault(record, state, SideFault(side, Fault::new(Class::Retry, code))).await
    }

    /// What a resource says about its row, in hashes: silence is a blank, and what cannot be understood is nothing.
    pub(crate) fn chart_hashes(&self, key: &RecordKey, extracted: &Extracted) -> BTreeMap<String, FieldHash> {
        let spoken = |said: &Option<Value>| said.is_some() || extracted.standing == Standing::Carry;
        let understood = extracted.fields.iter().filter(|(field, said)| {
            !matches!(extracted.standing, Standing::Skip(_)) && spoken(said) && !extracted.refused.contains_key(*field)
        });
        understood
            .map(|(field, said)| {
                let value = said.as_ref().unwrap_or(&Value::Blank);
                (field.clone(), self.hasher.hash(key, field, value))
            })
            .collect()
    }
}

impl Run<'_> {
    fn key(&self) -> &RecordKey {
        &self.record.key
    }

    /// Reads both sides and does what is to be done about them.
    async fn round(&self, state: &mut LinkState) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let both = match self.read_both().await? {
            Ok(both) => both,
            Err(fault) => return Ok(Step::Fails(fault)),
        };
        if let Some(outcome) = self.went_back(state, &both) {
            return Ok(Step::ends(outcome));
        }
        let chart_version = match &both.chart {
            Read::Found(resource) => Some(resource.version.as_str()),
            Read::Gone | Read::Missing => None,
        };
        if let Some(row) = &both.row {
            state.meet(row);
        }
        state.absorb(
            Sight { version: chart_version, hashes: &both.chart_hashes },
            Sight { version: both.row.as_ref().map(|row| row.mod_id.0.as_str()), hashes: &both.row_hashes },
        );
        state.forget_kept(reconciler.clock.now());
        let Both { chart, row, extracted, chart_hashes, row_hashes } = both;
        let (resource, extracted) = match (chart, extracted) {
            (Read::Found(resource), Some(extracted)) => (resource, extracted),
            (Read::Missing, _) if state.version.is_none() => {
                return Ok(Step::ends(reconciler.not_there_yet(state.clone(), self.first_seen)));
            }
            _ => return self.chart_is_gone(state, row.as_ref()).await,
        };
        if let Standing::Skip(skip) = extracted.standing {
            let ended = if skip == Skip::Waiting { Ended::NotReady } else { Ended::DoesNotApply };
            return Ok(Step::ends(reconciler.ended(firm, self.key(), state.clone(), ended, Some(resource.version))));
        }
        if let Some(outcome) = self.wait_for_parent(state, &extracted).await? {
            return Ok(Step::ends(outcome));
        }
        let Some(row) = row else { return self.make_row(state, resource, &extracted).await };
        let sides = Sides {
            mapping,
            extracted: &extracted,
            row: &row,
            chart_hashes: &chart_hashes,
            row_hashes: &row_hashes,
            one_way: row.uuid.is_none(),
            chart_closed: extracted.standing == Standing::MarkOnly || extracted.notice == Some(Code::PatientMerged),
            newer: newer(resource.last_updated, row.modified.and_then(|time| instant(time, firm))),
            settled: match self.wish {
                Wish::Settle(settling) => Some((&settling.field, &settling.decision)),
                Wish::Look | Wish::Resync { .. } => None,
            },
        };
        if let Some(code) = self.cannot_settle(&sides) {
            return Ok(Step::ends(reconciler.refused(state.clone(), self.record, code)));
        }
        self.change_both(state, resource, &sides).await
    }

    /// Reads both sides side by side; gives up as soon as the lease is lost.
    async fn read_both(&self) -> Result<Result<Both, SideFault>, Stop> {
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
        let (chart, row) = match (resource, row) {
            (Err(fault), _) => return Ok(Err(SideFault(Side::Fhir, fault))),
            (_, Err(fault)) => return Ok(Err(SideFault(Side::FileMaker, fault))),
            (Ok(chart), Ok(row)) => (chart, row.map(|row| self.mapping.canonical_row(row))),
        };
        let extracted = match &chart {
            Read::Found(resource) => Some(self.mapping.extract(&resource.json, &self.firm.zone)),
            Read::Gone | Read::Missing => None,
        };
        let chart_hashes = extracted.as_ref().map(|extracted| self.reconciler.chart_hashes(key, extracted));
        let row_hashes = row.as_ref().map(|row| hashes(&self.reconciler.hasher, key, &row.fields));
        Ok(Ok(Both {
            chart,
            row,
            extracted,
            chart_hashes: chart_hashes.unwrap_or_default(),
            row_hashes: row_hashes.unwrap_or_default(),
        }))
    }

    /// An answer that is older than what is known already is not the newest state: nothing is concluded from it.
    fn went_back(&self, state: &LinkState, both: &Both) -> Option<Outcome> {
        let Run { reconciler, .. } = self;
        if let Read::Found(resource) = &both.chart
            && state.is_past(&resource.version)
        {
            let age = reconciler.clock.now().duration_since(self.first_seen).unsigned_abs();
            if age > reconciler.settings.not_found_patience {
                return Some(reconciler.dead(state.clone(), Code::WentBack));
            }
            return Some(reconciler.later(
                state.clone(),
                Code::WentBack,
                (age / 2).max(reconciler.settings.backoff.base),
            ));
        }
        // A row counts its versions. Fewer than before: the file is a copy of an earlier day, and its values are no edits.
        let count = |version: &str| version.parse::<u64>().ok();
        if let (Some(row), Some((id, mod_id))) = (&both.row, &state.row)
            && row.id == *id
            && row.uuid.is_some()
            && count(&row.mod_id.0).zip(count(&mod_id.0)).is_some_and(|(now, before)| now < before)
            && !matches!(self.wish, Wish::Resync { .. })
        {
            return Some(reconciler.dead(state.clone(), Code::WentBack));
        }
        None
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
        let (known, dead, wanted) = record.map_or_else(Default::default, |record| {
            let known = LinkState::parse(&record.state, &reconciler.hasher);
            (known, record.dead.is_some(), record.wanted.is_some())
        });
        if known.row.is_some() {
            state.parent = Some(parent);
            return Ok(None);
        }
        if matches!(known.ended, Some(Ended::Gone | Ended::DoesNotApply)) && !wanted {
            // Nobody's chart, for now. The sweep asks again, since no version of this was carried over.
            let ended = reconciler.ended(self.firm, self.key(), state.clone(), Ended::DoesNotApply, None);
            return Ok(Some(ended));
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
            return self.row_is_gone(state, resource, extracted).await;
        }
        if extracted.standing == Standing::MarkOnly {
            let ended = reconciler.ended(firm, self.key(), state.clone(), Ended::DoesNotApply, Some(resource.version));
            return Ok(Step::ends(ended));
        }
        if mapping.parent.is_some() && extracted.parent.is_none() {
            // It names nobody's chart, so no row can be made of it.
            return Ok(Step::ends(reconciler.dead(state.clone(), Code::ParentMissing)));
        }
        if let Some(step) = self.comes_from_a_row(state, &resource).await? {
            return Ok(step);
        }
        if let Some(step) = self.has_an_unlinked_row(state, extracted).await? {
            return Ok(step);
        }
        if !reconciler.key_is_unique(self.key(), mapping).await? {
            let wait = reconciler.settings.record_open_retry;
            return Ok(Step::ends(reconciler.later(state.clone(), Code::UniquenessUnproven, wait)));
        }
        let mut fields = creation(extracted);
        if let Some(numbered) = &mapping.table.number {
            let Some(number) = self.number(state, numbered).await? else {
                let wait = reconciler.settings.backoff.base;
                return Ok(Step::ends(reconciler.later(state.clone(), Code::LeaseBusy, wait)));
            };
            fields.insert(numbered.field.clone(), Value::Number(number.to_string()));
        }
        let made = match self.create_row(state, &fields).await? {
            Ok(()) => What::Created { fields: fields.len() },
            Err(fault) => {
                // If it is not the key that is taken, it is the number: somebody entered it by hand.
                if fault.class == Class::Stale {
                    state.number = None;
                }
                return Ok(Step::after_write(Side::FileMaker, fault));
            }
        };
        let version = resource.version;
        Ok(Step::ends(self.agreed(state.clone(), extracted, version, Plan::default(), Some(made))))
    }

    /// There are both: what differs is merged field by field.
    async fn change_both(&self, state: &mut LinkState, resource: Resource, sides: &Sides<'_>) -> Result<Step, Stop> {
        let Run { reconciler, .. } = self;
        let Sides { row, extracted, .. } = *sides;
        state.row = Some((row.id.clone(), row.mod_id.clone()));
        state.uuid.clone_from(&row.uuid);
        state.modified = row.modified;
        let mut plan = plan(sides, state);
        let json = self.written_back(&mut plan, &resource, sides);
        if sides.settled.is_some_and(|(field, _)| plan.differs.contains(field)) {
            // The chart cannot hold it, and in the row alone it would be undone.
            return Ok(Step::ends(reconciler.refused(state.clone(), self.record, Code::ValueRefused)));
        }
        state.base.extend(std::mem::take(&mut plan.agreed));
        let now = reconciler.clock.now();
        match state.circling(plan.to_row.keys().chain(plan.to_chart.keys()), now) {
            None => {}
            Some(Circling::Pause(pause)) => {
                return Ok(Step::ends(reconciler.later(state.clone(), Code::Looping, pause)));
            }
            Some(Circling::Stop) => return Ok(Step::ends(reconciler.dead(state.clone(), Code::Looping))),
        }
        let version = match self.write_both(state, &resource, sides, &plan, json.as_ref()).await? {
            Ok(version) => version,
            Err(SideFault(side, fault)) => return Ok(Step::after_write(side, fault)),
        };
        let what = match (plan.to_row.len(), plan.to_chart.len()) {
            (0, 0) => None,
            (fields, 0) => Some(What::Edited { fields }),
            (0, fields) => Some(What::Updated { fields }),
            (to_row, to_chart) => Some(What::Merged { to_row, to_chart }),
        };
        Ok(Step::ends(self.agreed(state.clone(), extracted, version, plan, what)))
    }

    /// The resource with the clinic's edits in it. What cannot be written there stays different.
    fn written_back(&self, plan: &mut Plan, resource: &Resource, sides: &Sides<'_>) -> Option<serde_json::Value> {
        let Run { firm, mapping, held, .. } = self;
        if plan.to_chart.is_empty() {
            return None;
        }
        let applied = mapping.apply(&resource.json, &plan.to_chart, &firm.zone);
        plan.to_chart.retain(|field, _| !applied.refused.contains_key(field));
        plan.lost.retain(|(field, side, _)| *side != Side::Fhir || !applied.refused.contains_key(field));
        plan.differs.extend(applied.refused.into_keys());
        if !applied.changed || plan.to_chart.is_empty() {
            plan.differs.extend(std::mem::take(&mut plan.to_chart).into_keys());
            return None;
        }
        if let Some(states) = &mapping.states {
            // A status that this edit brings about is shown at once.
            let says = |extracted: &Extracted| extracted.fields.get(&states.field).and_then(Clone::clone);
            let after = says(&mapping.extract(&applied.json, &firm.zone));
            let shows = sides.row_hashes.contains_key(&states.field) && !plan.differs.contains(&states.field);
            if let Some(status) = after.filter(|after| shows && says(sides.extracted).as_ref() != Some(after)) {
                plan.agreed.retain(|(field, _)| *field != states.field);
                plan.to_row.insert(states.field.clone(), status);
            }
        }
        let mut json = applied.json;
        sign(&mut json, held.lease.owner.station.as_str());
        Some(json)
    }

    /// Why a person's decision cannot be carried out now, if it cannot.
    fn cannot_settle(&self, sides: &Sides<'_>) -> Option<Code> {
        let Wish::Settle(settling) = self.wish else { return None };
        let field = settling.field.as_str();
        let seen = sides.chart_hashes.get(field).zip(sides.row_hashes.get(field));
        if seen != Some((&settling.seen.0, &settling.seen.1)) {
            return Some(Code::MovedMeanwhile);
        }
        let both_ways = self.mapping.direction(field) == crate::mapping::Direction::Both;
        (!both_ways || sides.one_way || sides.chart_closed).then_some(Code::FieldReadOnly)
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

/// When it was by the clinic's wall clock; none in the hour that comes twice.
fn instant(time: jiff::civil::DateTime, firm: &Firm) -> Option<Timestamp> {
    firm.zone.to_ambiguous_timestamp(time).unambiguous().ok()
}

pub(crate) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// What is polled: each resource type of the chart system, and each table that is watched.
pub fn watched(firm: &Firm) -> impl Iterator<Item = (Side, &ResourceType)> {
    let tables = firm.mapping.resources.iter().filter(|(_, mapping)| mapping.table.changes.is_some());
    let chart = firm.mapping.resources.keys().map(|resource| (Side::Fhir, resource));
    chart.chain(tables.map(|(resource, _)| (Side::FileMaker, resource)))
}
