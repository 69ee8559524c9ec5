//! What one side no longer has. The other side's record stays and is flagged, once; nothing is deleted, and nothing that was deleted
//! is made again.

use std::{collections::VecDeque, sync::PoisonError, time::Duration};

use super::{Run, Step, Stop, Wish};
use crate::{
    connection::Side,
    error::Code,
    link::{Ended, LinkState},
    mapping::{Direction, Extracted, Inactive, Standing},
    ports::Resource,
    row::{Fields, Row},
};

/// One station flags no more records of one type than this within the time below by itself: so many at once are more likely a wrong
/// folder, a wrong layout or a restored copy than so many decisions.
const AT_ONCE: usize = 10;
const WITHIN: Duration = Duration::from_secs(60 * 60);

impl Run<'_> {
    /// How the other side's record is flagged, if it is to be and was not yet.
    fn flag(&self, state: &LinkState) -> Option<&Inactive> {
        self.mapping.inactive.as_ref().filter(|_| !state.flagged && self.mapping.is_watched())
    }

    /// The chart deleted its record.
    pub(super) async fn chart_is_gone(&self, state: &mut LinkState, row: Option<&Row>) -> Result<Step, Stop> {
        let Run { reconciler, firm, .. } = self;
        if let Some(row) = row {
            state.row = Some((row.id.clone(), row.mod_id.clone()));
            state.uuid.clone_from(&row.uuid);
            if let Some(inactive) = self.flag(state) {
                let fields: Fields = [(inactive.field.clone(), inactive.value.clone())].into();
                if row.fields.get(&inactive.field) != Some(&inactive.value) {
                    if !self.may_flag(Side::Fhir) {
                        return Ok(Step::ends(reconciler.dead(state.clone(), Code::ManyDeleted)));
                    }
                    if let Err(fault) = self.flag_row(state, row, &fields).await? {
                        return Ok(Step::after_write(Side::FileMaker, fault));
                    }
                }
                state.flagged = true;
            }
        }
        Ok(Step::ends(reconciler.ended(firm, self.key(), state.clone(), Ended::Gone, None)))
    }

    /// The clinic deleted the row.
    pub(super) async fn row_is_gone(
        &self,
        state: &mut LinkState,
        resource: Resource,
        extracted: &Extracted,
    ) -> Result<Step, Stop> {
        let Run { reconciler, firm, mapping, .. } = self;
        let mut version = resource.version.clone();
        let open = extracted.standing == Standing::Carry && extracted.notice != Some(Code::PatientMerged);
        if let Some(inactive) = self.flag(state).filter(|_| open)
            && mapping.direction(&inactive.field) != Direction::ToFileMaker
        {
            let says = extracted.fields.get(&inactive.field).and_then(Option::as_ref);
            if says != Some(&inactive.value) {
                if !self.may_flag(Side::FileMaker) {
                    return Ok(Step::ends(reconciler.dead(state.clone(), Code::ManyDeleted)));
                }
                let fields: Fields = [(inactive.field.clone(), inactive.value.clone())].into();
                let applied = mapping.apply(&resource.json, &fields, &firm.zone);
                if applied.refused.is_empty() {
                    match self.flag_resource(state, &resource, &fields, &applied.json).await? {
                        Ok(made) => version = made,
                        Err(fault) => return Ok(Step::after_write(Side::Fhir, fault)),
                    }
                }
            }
            state.flagged = true;
        }
        Ok(Step::ends(reconciler.ended(firm, self.key(), state.clone(), Ended::RowDeleted, Some(version))))
    }

    /// Whether one more may be flagged without a person: a person who has looked may always.
    fn may_flag(&self, lost_by: Side) -> bool {
        if let Wish::Resync { .. } = self.wish {
            return true;
        }
        let key = self.key();
        let elapsed = self.reconciler.clock.elapsed();
        let mut all = self.reconciler.flagged.lock().unwrap_or_else(PoisonError::into_inner);
        let lately: &mut VecDeque<Duration> = all.entry((key.firm.clone(), key.resource.clone(), lost_by)).or_default();
        lately.retain(|at| elapsed.saturating_sub(*at) <= WITHIN);
        let may = lately.len() < AT_ONCE;
        if may {
            lately.push_back(elapsed);
        }
        may
    }
}
