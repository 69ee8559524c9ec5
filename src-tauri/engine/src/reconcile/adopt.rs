//! A row that somebody entered in FileMaker becomes a link: the resource that it is about is found in the chart, or made there, and its
//! id is written into the row. From then on it is a link like any other.
//!
//! A patient is known by a business identifier. By birthday and name alone nobody is taken for anybody: such candidates, and whatever
//! does not fit together, are for a person. What is made carries the row's UUID as an identifier and is made only if there is
//! nothing with it, so a lost answer or a second station finds what the first one made.

use std::time::Duration;

use serde_json::Value as Json;

use super::{Outcome, Reconciler, Run, SideFault, Step, Stop, Wish};
use crate::{
    audit::Act,
    connection::Side,
    error::{Class, Code, Fault},
    key::{RecordKey, ResourceId, RowUuid},
    lease::HeldLease,
    ledger::{Finish, Record, Want},
    link::{Ended, LinkState},
    mapping::{Extracted, ROW_SYSTEM, row_identifier, sign},
    ports::{Matching, Resource},
    row::{Fields, Row, Value},
    snapshot::What,
};

/// Rounds of one run, while the row changes under it.
const ROUNDS: usize = 4;

impl Reconciler {
    /// Runs a row whose lease is held.
    pub async fn run_row(
        &self,
        held: &HeldLease,
        record: &Record,
        first_seen: jiff::Timestamp,
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
        let run = Run { reconciler: self, held, record, firm, mapping, first_seen, wish };
        for _ in 0..ROUNDS {
            match run.row_round(&mut state).await? {
                Step::Ends(outcome) => return Ok(*outcome),
                Step::Again => {}
                Step::Fails(fault) => return self.after_fault(record, state, fault).await,
            }
        }
        let fault = SideFault(Side::FileMaker, Fault::new(Class::Retry, Code::RecordChanged));
        self.after_fault(record, state, fault).await
    }
}

/// Whom a row is about.
enum Known {
    /// This one, who has no row.
    As(ResourceId),
    Nobody,
    /// A person has to look.
    Unclear(Code),
}

impl Run<'_> {
    fn uuid(&self) -> RowUuid {
        RowUuid::new(self.key().id.as_str()).expect("a row's record is named by its UUID")
    }

    async fn row_round(&self, state: &mut LinkState) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let key = self.key();
        let uuid = self.uuid();
        let read = firm.ports.clinic.find_row(&mapping.table, &uuid);
        let row = tokio::select! {
            biased;
            () = self.held.lost() => return Err(Stop::LeaseLost),
            row = read => row,
        };
        reconciler.note(&key.firm, Side::FileMaker, row.as_ref().err());
        let row = match row {
            // The fields for changes were taken off the layout: once they are back, the row is found again.
            Err(fault) if fault.code == Code::FieldMissing => return Ok(self.done(state, None)),
            Err(fault) => return Ok(Step::Fails(SideFault(Side::FileMaker, fault))),
            Ok(Some(row)) => mapping.canonical_row(row),
            Ok(None) => {
                // Deleted before it was linked. What was made of it learns that from its own run.
                self.hand_on(state).await?;
                return Ok(self.done(state, None));
            }
        };
        state.row = Some((row.id.clone(), row.mod_id.clone()));
        state.uuid.clone_from(&row.uuid);
        state.modified = row.modified;
        if let Some(linked) = &row.key {
            let Ok(id) = ResourceId::new(linked.as_str()) else {
                return Ok(Step::ends(reconciler.dead(state.clone(), Code::KeyUnusable)));
            };
            state.became = Some(id);
            self.hand_on(state).await?;
            return Ok(self.done(state, None));
        }
        let says = |field: &String| row.fields.get(field).is_some_and(|value| *value != Value::Blank);
        if !mapping.rules.iter().any(|rule| says(&rule.field)) {
            // Somebody has only just begun.
            return Ok(self.done(state, None));
        }
        let parent = match self.parent_of(&row).await? {
            Ok(parent) => parent,
            Err((code, wait)) => return Ok(Step::ends(reconciler.later(state.clone(), code, wait))),
        };
        let made = match state.became.clone() {
            Some(id) => (id, None),
            None => match self.known(&row).await {
                Err(fault) => return Ok(Step::Fails(SideFault(Side::Fhir, fault))),
                Ok(Known::Unclear(code)) => return Ok(Step::ends(reconciler.dead(state.clone(), code))),
                Ok(Known::As(id)) => (id, Some(What::Linked)),
                Ok(Known::Nobody) => match self.make_resource(state, &row, parent.as_ref()).await? {
                    Ok((id, fields)) => (id, Some(What::Entered { fields })),
                    Err(fault) => return Ok(Step::Fails(SideFault(Side::Fhir, fault))),
                },
            },
        };
        let (id, what) = made;
        state.became = Some(id.clone());
        if let Err(fault) = self.take_over(state, &row, &id).await? {
            return Ok(match fault.class {
                Class::Stale if self.has_another_row(&id).await => {
                    Step::ends(reconciler.dead(state.clone(), Code::ProbableDouble))
                }
                _ => Step::after_write(Side::FileMaker, fault),
            });
        }
        self.hand_on(state).await?;
        Ok(self.done(state, what))
    }

    fn done(&self, state: &LinkState, what: Option<What>) -> Step {
        self.reconciler.budget.success();
        Step::ends(Outcome::new(state.clone(), Finish::Done, None, what))
    }

    /// What the row became is run as a link.
    async fn hand_on(&self, state: &LinkState) -> Result<(), Stop> {
        let Some(id) = &state.became else { return Ok(()) };
        self.want(RecordKey::link(self.key().firm.clone(), self.key().resource.clone(), id.clone())).await
    }

    /// Soon at first, then ever more seldom.
    fn patience(&self) -> Duration {
        let age = self.reconciler.clock.now().duration_since(self.first_seen).unsigned_abs();
        (age / 2).max(self.reconciler.settings.backoff.base * 2)
    }

    async fn want(&self, key: RecordKey) -> Result<(), Stop> {
        let now = self.reconciler.clock.now();
        let want = Want { key, first_seen: self.first_seen, not_before: now, waits_for: None };
        self.reconciler.ledger.want(&[want]).await.map_err(Stop::Storage)
    }

    /// The parent that a row names, once that is linked. `Err`: it has to wait.
    async fn parent_of(&self, row: &Row) -> Result<Result<Option<ResourceId>, (Code, Duration)>, Stop> {
        let Run { reconciler, mapping, .. } = self;
        let Some(parent) = &mapping.parent else { return Ok(Ok(None)) };
        let wait = self.patience();
        let Some(Value::Text(id)) = row.fields.get(&parent.field) else {
            // The file fills it in once the patient has an id.
            return Ok(Err((Code::ParentMissing, wait)));
        };
        let Ok(id) = ResourceId::new(id.as_str()) else { return Ok(Err((Code::ParentMissing, wait))) };
        let key = RecordKey::link(self.key().firm.clone(), parent.resource.clone(), id.clone());
        let record = reconciler.ledger.read(&key).await.map_err(Stop::Storage)?;
        let linked = record.is_some_and(|record| LinkState::parse(&record.state, &reconciler.hasher).row.is_some());
        if !linked {
            self.want(key).await?;
            return Ok(Err((Code::ParentMissing, wait.min(Duration::from_secs(60)))));
        }
        Ok(Ok(Some(id)))
    }

    /// Looks for the row's patient, or whatever it is about, in the chart.
    async fn known(&self, row: &Row) -> Result<Known, Fault> {
        let Run { firm, mapping, .. } = self;
        let resource = &self.key().resource;
        let ours = Matching::Identifier(row_identifier(&self.uuid()));
        for identifier in mapping.identifiers(&row.fields) {
            let mut found = firm.ports.fhir.matching(resource, &Matching::Identifier(identifier)).await?;
            if found.len() > 1 {
                return Ok(Known::Unclear(Code::SeveralMatches));
            }
            let Some(found) = found.pop() else { continue };
            if ours.fits(&found.json) {
                return Ok(Known::Nobody);
            }
            if self.contradicts(row, &found) || self.has_another_row(&found.id).await {
                return Ok(Known::Unclear(Code::ProbableDouble));
            }
            return Ok(Known::As(found.id));
        }
        // A person who has looked and asks again says that it is nobody who is there.
        if let Some((day, family)) = mapping.birth(&row.fields)
            && !matches!(self.wish, Wish::Resync { .. })
        {
            let found = firm.ports.fhir.matching(resource, &Matching::Birth { day, family }).await?;
            if found.iter().any(|found| ours.fits(&found.json)) {
                return Ok(Known::Nobody);
            }
            if !found.is_empty() {
                return Ok(Known::Unclear(Code::ProbableDouble));
            }
        }
        Ok(Known::Nobody)
    }

    /// One identifier and two birthdays: one of them was mistyped, or it is somebody else. And nobody is linked to a patient that
    /// goes on under another.
    fn contradicts(&self, row: &Row, found: &Resource) -> bool {
        let extracted = self.mapping.extract(&found.json, &self.firm.zone);
        let dates = extracted.fields.iter().filter_map(|(field, value)| match (value, row.fields.get(field)) {
            (Some(Value::Date(there)), Some(Value::Date(here))) => Some((there, here)),
            _ => None,
        });
        extracted.notice == Some(Code::PatientMerged) || dates.into_iter().any(|(there, here)| there != here)
    }

    /// Whether another row has this id. Where it cannot be asked, the unique key still guards it.
    async fn has_another_row(&self, id: &ResourceId) -> bool {
        matches!(self.firm.ports.clinic.find(&self.mapping.table, id.as_str()).await, Ok(Some(_)))
    }

    /// Makes the resource. Answers with its id and how many fields it has of the row.
    async fn make_resource(
        &self,
        state: &mut LinkState,
        row: &Row,
        parent: Option<&ResourceId>,
    ) -> Result<Result<(ResourceId, usize), Fault>, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let identifier = row_identifier(&self.uuid());
        let fields: Fields = row
            .fields
            .iter()
            .filter(|(_, value)| **value != Value::Blank)
            .map(|(f, v)| (f.clone(), v.clone()))
            .collect();
        let applied = mapping.new_resource(&fields, parent, &identifier, &firm.zone);
        let mut json = applied.json;
        sign(&mut json, reconciler.settings.owner.station.as_str());
        let write = self.write_of(Side::Fhir, Act::CreateResource, &fields, None);
        let entry = self.announce(state, &[&write]).await?;
        let create = firm.ports.fhir.create(&self.key().resource, &json, &identifier);
        let made = self.send(state, &write, entry, create, |made| made.version.clone()).await?;
        Ok(made.map(|made| (made.id, write.fields.len())))
    }

    /// Writes the id into the row.
    async fn take_over(&self, state: &mut LinkState, row: &Row, id: &ResourceId) -> Result<Result<(), Fault>, Stop> {
        let Run { firm, mapping, .. } = self;
        let table = &mapping.table;
        let written = Fields::from([(table.key_field.clone(), Value::Text(id.to_string()))]);
        let write = self.write_of(Side::FileMaker, Act::EditRow, &written, Some(row.mod_id.0.clone()));
        let entry = self.announce(state, &[&write]).await?;
        let adopt = firm.ports.clinic.adopt(table, &row.id, &row.mod_id, id.as_str());
        let version = self.send(state, &write, entry, adopt, |mod_id| mod_id.0.clone()).await?;
        Ok(version.map(|mod_id| state.row = Some((row.id.clone(), mod_id))))
    }

    /// A resource without a row may be about one that somebody entered, and that has no id yet.
    pub(super) async fn has_an_unlinked_row(
        &self,
        state: &LinkState,
        extracted: &Extracted,
    ) -> Result<Option<Step>, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        if mapping.table.changes.is_none() || matches!(self.wish, Wish::Resync { .. }) {
            return Ok(None);
        }
        let says = |field: &str| {
            let value = extracted.fields.get(field).and_then(Clone::clone)?;
            (value != Value::Blank).then(|| (field.to_owned(), value))
        };
        let identified = mapping.identifying().filter_map(says).map(|one| (true, Fields::from([one])));
        let born = mapping.birth_fields().and_then(|(day, family)| Some(Fields::from([says(day)?, says(family)?])));
        let questions: Vec<_> = identified.chain(born.map(|fields| (false, fields))).collect();
        for (identified, fields) in questions {
            let rows = firm.ports.clinic.alike(&mapping.table, &fields).await;
            reconciler.note(&self.key().firm, Side::FileMaker, rows.as_ref().err());
            let rows = match rows {
                Ok(rows) => rows.into_iter().map(|row| mapping.canonical_row(row)),
                Err(fault) => return Ok(Some(Step::Fails(SideFault(Side::FileMaker, fault)))),
            };
            let same = |row: &Row| fields.iter().all(|(field, value)| row.fields.get(field) == Some(value));
            let mut unlinked: Vec<Row> =
                rows.filter(|row| row.key.is_none() && row.uuid.is_some() && same(row)).collect();
            let Some(row) = unlinked.pop() else { continue };
            let dates = |field: &String| match (extracted.fields.get(field), row.fields.get(field)) {
                (Some(Some(Value::Date(there))), Some(Value::Date(here))) => there != here,
                _ => false,
            };
            if !identified || !unlinked.is_empty() || row.fields.keys().any(dates) {
                return Ok(Some(Step::ends(reconciler.dead(state.clone(), Code::ProbableDouble))));
            }
            // The row's own run finds this resource by the same identifier.
            let Some(uuid) = &row.uuid else { continue };
            self.want(RecordKey::row(self.key().firm.clone(), self.key().resource.clone(), uuid)).await?;
            let wait = self.patience();
            return Ok(Some(Step::ends(reconciler.later(state.clone(), Code::RowUnlinked, wait))));
        }
        Ok(None)
    }

    /// A resource without a row may have been made of one that does not have its id yet, or was deleted before it got it.
    pub(super) async fn comes_from_a_row(
        &self,
        state: &mut LinkState,
        resource: &Resource,
    ) -> Result<Option<Step>, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let Some(uuid) = made_of(&resource.json).filter(|_| mapping.table.changes.is_some()) else { return Ok(None) };
        let row = firm.ports.clinic.find_row(&mapping.table, &uuid).await;
        reconciler.note(&self.key().firm, Side::FileMaker, row.as_ref().err());
        Ok(Some(match row {
            Err(fault) if fault.code == Code::FieldMissing => return Ok(None),
            Err(fault) => Step::Fails(SideFault(Side::FileMaker, fault)),
            Ok(Some(row)) if row.key.is_none() => {
                let own = RecordKey::row(self.key().firm.clone(), self.key().resource.clone(), &uuid);
                self.want(own).await?;
                let wait = self.patience();
                Step::ends(reconciler.later(state.clone(), Code::RowUnlinked, wait))
            }
            Ok(Some(row)) if row.key.as_deref() == Some(self.key().id.as_str()) => Step::Again,
            // Its row belongs to another resource: this one was made twice.
            Ok(Some(_)) => Step::ends(reconciler.dead(state.clone(), Code::ProbableDouble)),
            Ok(None) => {
                // Ours and deleted, or of another clinic that shares the chart system.
                let own = RecordKey::row(self.key().firm.clone(), self.key().resource.clone(), &uuid);
                if reconciler.ledger.read(&own).await.map_err(Stop::Storage)?.is_none() {
                    return Ok(None);
                }
                let (ended, version) = (Ended::RowDeleted, Some(resource.version.clone()));
                Step::ends(reconciler.ended(firm, self.key(), state.clone(), ended, version))
            }
        }))
    }
}

/// The row that a resource says it was made of.
fn made_of(resource: &Json) -> Option<RowUuid> {
    let identifiers = match &resource["identifier"] {
        Json::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let ours = identifiers.iter().find(|identifier| identifier["system"] == ROW_SYSTEM)?;
    RowUuid::new(ours["value"].as_str()?).ok()
}
