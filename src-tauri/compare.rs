//! Whether what the chart system holds is in FileMaker: read from both, whatever the relay believes. The demo ends with it, and
//! the tests of the whole program judge by it.

use std::collections::BTreeMap;

use engine::{
    error::{Code, Fault},
    mapping::{Extracted, ResourceMapping, Standing},
    ports::ClinicDatabase as _,
    row::Row,
};
use serde_json::Value as Json;

use crate::wiring::Connected;

/// What was compared, and how. Names resources and fields, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Resources that there must be a row of.
    pub expected: usize,
    /// `Type/id` and what is wrong with its row.
    pub missing: Vec<String>,
    /// `Type/id` of which FileMaker has several rows.
    pub doubled: Vec<String>,
    /// `Type/id` with fields that the mapping refuses to carry; a person is to be told of each.
    pub refused: BTreeMap<String, Vec<String>>,
}

impl Comparison {
    /// Compares resources (whole, with type and id) with their rows, one after the other. Those that the mapping does not carry
    /// are passed over.
    ///
    /// # Errors
    /// FileMaker could not be read.
    pub async fn of(connected: &Connected, resources: impl IntoIterator<Item = Json>) -> Result<Self, Fault> {
        let mut comparison = Self::default();
        for resource in resources {
            comparison.add(connected, &resource).await?;
        }
        Ok(comparison)
    }

    pub fn all_arrived(&self) -> bool {
        self.missing.is_empty() && self.doubled.is_empty()
    }

    async fn add(&mut self, connected: &Connected, resource: &Json) -> Result<(), Fault> {
        let text = |name: &str| resource.get(name).and_then(Json::as_str).unwrap_or_default();
        let (of, id) = (text("resourceType"), text("id"));
        let mapping = connected.config.mapping.resources.iter().find(|(kind, _)| kind.as_str() == of);
        let Some((_, mapping)) = mapping else { return Ok(()) };
        let extracted = mapping.extract(resource, &connected.config.zone);
        if matches!(extracted.standing, Standing::Skip(_)) {
            return Ok(());
        }
        let name = format!("{of}/{id}");
        let carried = extracted.standing == Standing::Carry;
        self.expected += usize::from(carried);
        if carried && !extracted.refused.is_empty() {
            self.refused.insert(name.clone(), extracted.refused.keys().cloned().collect());
        }
        match connected.filemaker.find(&mapping.table, id).await {
            // One that was withdrawn before it had a row gets none.
            Ok(None) if !carried => {}
            Ok(None) => self.missing.push(format!("{name}: no row")),
            Ok(Some(row)) => {
                let wrong = differing(mapping, &extracted, row);
                self.missing.extend(wrong.map(|field| format!("{name}: field {field}")));
            }
            Err(fault) if fault.code == Code::DuplicateRows => self.doubled.push(name),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}

/// The first field of the row that is not what the resource says.
fn differing(mapping: &ResourceMapping, extracted: &Extracted, row: Row) -> Option<String> {
    let row = mapping.canonical_row(row);
    let mut fields = extracted.fields.iter();
    fields
        .find(|(field, value)| value.is_some() && row.fields.get(*field) != value.as_ref())
        .map(|(field, _)| field.clone())
}
