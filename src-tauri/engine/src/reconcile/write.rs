//! Guarded writes with everything around them: intents and audit entry first, the lease still ours, the outcome on disk.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{
    Run, SideFault, Stop,
    plan::{Plan, Sides},
};
use crate::{
    audit::{Act, AuditId, Begun, Outcome as Audited},
    connection::Side,
    error::{Class, Code, Fault},
    kept::Kept,
    link::{LinkState, hashes},
    merge::Base,
    ports::Resource,
    row::{Fields, ModId, Row},
};

/// A write that is about to be made.
pub(super) struct Write {
    pub side: Side,
    pub act: Act,
    /// What both sides say after it.
    pub fields: BTreeMap<String, Base>,
    /// The version it is guarded with.
    pub expected: Option<String>,
}

impl Run<'_> {
    pub(super) fn write_of(&self, side: Side, act: Act, fields: &Fields, expected: Option<String>) -> Write {
        let hashes = hashes(&self.reconciler.hasher, self.key(), fields);
        let fields = hashes.into_iter().map(|(field, hash)| (field, Base::both(hash))).collect();
        Write { side, act, fields, expected }
    }

    /// What goes into the row. A value of a person's own goes on to the chart, which keeps its own until then.
    fn row_write(&self, plan: &Plan, sides: &Sides<'_>) -> Option<Write> {
        let version = Some(sides.row.mod_id.0.clone());
        let mut write = self.write_of(Side::FileMaker, Act::EditRow, &plan.to_row, version);
        for (field, after) in write.fields.iter_mut().filter(|(field, _)| plan.to_chart.contains_key(*field)) {
            after.left = sides.chart_hashes.get(field).copied().unwrap_or(after.left);
        }
        (!write.fields.is_empty()).then_some(write)
    }

    /// Makes the row.
    pub(super) async fn create_row(&self, state: &mut LinkState, fields: &Fields) -> Result<Result<(), Fault>, Stop> {
        let write = self.write_of(Side::FileMaker, Act::CreateRow, fields, None);
        let entry = self.announce(state, &[&write]).await?;
        let table = &self.mapping.table;
        let create = self.firm.ports.clinic.create(table, self.key().id.as_str(), fields);
        let (id, mod_id) = match self.send(state, &write, entry, create, |(_, mod_id)| mod_id.0.clone()).await? {
            Ok(row) => row,
            Err(fault) => return Ok(Err(fault)),
        };
        state.written(Side::FileMaker, &write.fields, &mod_id.0, self.reconciler.clock.now());
        state.row = Some((id, mod_id));
        Ok(Ok(()))
    }

    /// Writes what a merge asks for, FileMaker first, all announced in one step. Answers with the chart's version after that.
    pub(super) async fn write_both(
        &self,
        state: &mut LinkState,
        resource: &Resource,
        sides: &Sides<'_>,
        plan: &Plan,
        json: Option<&Json>,
    ) -> Result<Result<String, SideFault>, Stop> {
        let to_row = self.row_write(plan, sides);
        let to_chart = json.map(|json| {
            let version = Some(resource.version.clone());
            (self.write_of(Side::Fhir, Act::UpdateResource, &plan.to_chart, version), json)
        });
        let writes: Vec<&Write> = to_row.iter().chain(to_chart.iter().map(|(write, _)| write)).collect();
        if writes.is_empty() {
            return Ok(Ok(resource.version.clone()));
        }
        let kept = state.kept.clone();
        self.keep_what_is_lost(state, plan);
        let mut entry = Some(self.announce(state, &writes).await?);
        if let Some(write) = &to_row {
            let begun = entry.take().expect("one was begun for the first write");
            if let Err(fault) = self.edit_row(state, write, begun, sides.row, &plan.to_row).await? {
                if fault.class != Class::Unknown {
                    give_back(state, Side::FileMaker, &kept);
                }
                // The chart's is never sent.
                give_back(state, Side::Fhir, &kept);
                if to_chart.is_some() {
                    state.settle_last(Side::Fhir);
                }
                return Ok(Err(SideFault(Side::FileMaker, fault)));
            }
        }
        let Some((write, json)) = to_chart else { return Ok(Ok(resource.version.clone())) };
        let begun = match entry {
            Some(begun) => begun,
            None => self.begin(&write).await?,
        };
        let updated = self.update_resource(state, &write, begun, resource, json).await?;
        Ok(updated.map_err(|fault| {
            if fault.class != Class::Unknown {
                give_back(state, Side::Fhir, &kept);
            }
            if let Some(write) = &to_row {
                state.written_by_half(&write.fields);
            }
            SideFault(Side::Fhir, fault)
        }))
    }

    /// Writes into a resource whose row is gone.
    pub(super) async fn flag_resource(
        &self,
        state: &mut LinkState,
        resource: &Resource,
        fields: &Fields,
        json: &Json,
    ) -> Result<Result<String, Fault>, Stop> {
        let write = self.write_of(Side::Fhir, Act::UpdateResource, fields, Some(resource.version.clone()));
        let entry = self.announce(state, &[&write]).await?;
        self.update_resource(state, &write, entry, resource, json).await
    }

    /// Writes into a row whose resource is gone.
    pub(super) async fn flag_row(
        &self,
        state: &mut LinkState,
        row: &Row,
        fields: &Fields,
    ) -> Result<Result<(), Fault>, Stop> {
        let write = self.write_of(Side::FileMaker, Act::EditRow, fields, Some(row.mod_id.0.clone()));
        let entry = self.announce(state, &[&write]).await?;
        self.edit_row(state, &write, entry, row, fields).await
    }

    fn keep_what_is_lost(&self, state: &mut LinkState, plan: &Plan) {
        let now = self.reconciler.clock.now();
        for (field, side, value) in &plan.lost {
            let hash = self.reconciler.hasher.hash(self.key(), field, value);
            state.keep(Kept::new(self.key(), field, *side, value, hash, &self.reconciler.seal, now));
        }
    }

    pub(super) async fn edit_row(
        &self,
        state: &mut LinkState,
        write: &Write,
        entry: AuditId,
        row: &Row,
        fields: &Fields,
    ) -> Result<Result<(), Fault>, Stop> {
        let edit = self.firm.ports.clinic.edit(&self.mapping.table, &row.id, &row.mod_id, fields);
        let mod_id = match self.send(state, write, entry, edit, |mod_id: &ModId| mod_id.0.clone()).await? {
            Ok(mod_id) => mod_id,
            Err(fault) => return Ok(Err(fault)),
        };
        state.written(Side::FileMaker, &write.fields, &mod_id.0, self.reconciler.clock.now());
        state.row = Some((row.id.clone(), mod_id));
        Ok(Ok(()))
    }

    pub(super) async fn update_resource(
        &self,
        state: &mut LinkState,
        write: &Write,
        entry: AuditId,
        resource: &Resource,
        json: &Json,
    ) -> Result<Result<String, Fault>, Stop> {
        let key = self.key();
        let update = self.firm.ports.fhir.update(&key.resource, &key.id, &resource.version, json);
        let version = match self.send(state, write, entry, update, String::clone).await? {
            Ok(version) => version,
            Err(fault) => return Ok(Err(fault)),
        };
        state.written(Side::Fhir, &write.fields, &version, self.reconciler.clock.now());
        state.saw_version(resource.version.clone());
        state.saw_version(version.clone());
        Ok(Ok(version))
    }

    /// Everything that is about to be written, on disk in one step, with the audit entry of the first write.
    pub(super) async fn announce(&self, state: &mut LinkState, writes: &[&Write]) -> Result<AuditId, Stop> {
        let Run { reconciler, held, .. } = self;
        let first = writes.first().expect("something is to be written");
        if !held.may_write() {
            return Err(Stop::LeaseLost);
        }
        for write in writes {
            state.intend(write.side, write.fields.clone(), write.expected.clone(), held.lease.epoch);
        }
        let text = state.text();
        let now = reconciler.clock.now();
        let (saved, entry) = tokio::join!(reconciler.ledger.save(&held.lease, &text, now), self.begin(first));
        let entry = entry?;
        if saved.is_err() || !held.may_write() {
            self.close(entry, Audited::Refused { code: Code::LeaseLost }).await?;
            return Err(saved.err().map_or(Stop::LeaseLost, Stop::from));
        }
        Ok(entry)
    }

    /// The audit entry of one write.
    async fn begin(&self, write: &Write) -> Result<AuditId, Stop> {
        let Run { reconciler, held, .. } = self;
        let begun = Begun {
            at: reconciler.clock.now(),
            by: held.lease.owner.clone(),
            person: self.wish.person(),
            act: write.act,
            key: Some(self.key().clone()),
            epoch: held.lease.epoch,
            expected: write.expected.clone(),
            fields: write.fields.keys().cloned().collect(),
        };
        reconciler.audit.begin(begun).await.map_err(Stop::Storage)
    }

    async fn close(&self, entry: AuditId, outcome: Audited) -> Result<(), Stop> {
        let now = self.reconciler.clock.now();
        self.reconciler.audit.complete(entry, outcome, now).await.map_err(Stop::Storage)
    }

    /// Sends one announced write. `Err` inside is the side's fault; its intent is kept only if it may still land.
    pub(super) async fn send<T>(
        &self,
        state: &mut LinkState,
        write: &Write,
        entry: AuditId,
        request: impl Future<Output = Result<T, Fault>>,
        version: impl Fn(&T) -> String,
    ) -> Result<Result<T, Fault>, Stop> {
        if !self.held.may_write() {
            self.close(entry, Audited::Refused { code: Code::LeaseLost }).await?;
            return Err(Stop::LeaseLost);
        }
        let written = request.await;
        self.reconciler.note(&self.key().firm, write.side, written.as_ref().err());
        match &written {
            Ok(done) => {
                state.settle_last(write.side);
                self.close(entry, Audited::Done { version: Some(version(done)) }).await?;
            }
            Err(fault) if fault.class == Class::Unknown => {
                self.close(entry, Audited::Unknown { code: fault.code }).await?;
            }
            Err(fault) => {
                state.settle_last(write.side);
                self.close(entry, Audited::Refused { code: fault.code }).await?;
            }
        }
        Ok(written)
    }
}

/// What was certainly not written over on this side is kept as it was before. That may be the same value: an earlier write, whose
/// answer was lost, can still land on it.
fn give_back(state: &mut LinkState, side: Side, before: &[Kept]) {
    state.kept.retain(|one| one.side != side);
    state.kept.extend(before.iter().filter(|one| one.side == side).cloned());
}
