//! What the ledger remembers of one link: ids, versions and keyed hashes. No value of the chart is in here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    key::{RecordKey, StationId},
    keys::{CANONICAL_FORM, FieldHash, Hasher, KeyId},
    row::{Fields, ModId, Row, RowId},
};

/// What a run is about to write, so that whoever comes next knows our hand from a person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub fields: BTreeMap<String, FieldHash>,
    /// The row version an edit is guarded with; none for a create, which the unique key guards.
    pub expected: Option<ModId>,
    pub epoch: u64,
}

impl Intent {
    /// Whether the write could still happen: an edit while its guard holds, a create whenever the row is, or should be, gone.
    fn can_land(&self, row: Option<&Row>) -> bool {
        match (&self.expected, row) {
            (Some(expected), Some(row)) => *expected == row.mod_id,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// Which station wrote for a link last, and when by its clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    pub station: StationId,
    pub at: Timestamp,
}

/// Why a link has come to its end, for now: a new version begins it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The resource was deleted; the row stays as it is.
    Gone,
    /// The clinic deleted the row; it is not made again.
    RowDeleted,
    /// The mapping leaves this resource out, by its filter or because it was entered in error before it had a row.
    DoesNotApply,
    /// Its status says that it is not ready: nothing is done until that changes.
    NotReady,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Which key and which canonical form the hashes are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(default)]
    form: u16,
    /// The FHIR version that the last complete run has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<(RowId, ModId)>,
    /// The values both sides last agreed on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub base: BTreeMap<String, FieldHash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    /// Fields where a clinic's own edit is kept.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub differs: BTreeSet<String>,
    /// Fields that the mapping could not carry over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<String>,
    /// The parent whose row was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RecordKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The last write that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<Wrote>,
}

impl LinkState {
    /// Reads a record's state. Hashes of another key or form are left out: they say nothing about today's values. A state that
    /// cannot be read counts as none, which costs a comparison and never a value.
    pub fn parse(text: &str, hasher: &Hasher) -> Self {
        let mut state: LinkState = serde_json::from_str(text).unwrap_or_default();
        if state.key.as_ref() != Some(hasher.key_id()) || state.form != CANONICAL_FORM {
            state.base.clear();
            for intent in &mut state.intents {
                intent.fields.clear();
            }
        }
        state.key = Some(hasher.key_id().clone());
        state.form = CANONICAL_FORM;
        state
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a link state of plain texts always has a JSON form")
    }

    /// Takes in what a read of the row tells about our own writes. A field that holds what we meant to write was written by us,
    /// so it is the base now; an intent that has landed, or whose guard no longer holds, is forgotten.
    pub fn absorb(&mut self, row: Option<&Row>, hashes: &BTreeMap<String, FieldHash>) {
        for (field, hash) in hashes {
            if self.intents.iter().any(|intent| intent.fields.get(field) == Some(hash)) {
                self.base.insert(field.clone(), *hash);
            }
        }
        self.intents.retain(|intent| intent.can_land(row));
        if row.is_some() && self.row.is_none() {
            // One of the creates is this row. Any other can land only if somebody deletes it.
            if let Some(landed) = self.intents.iter().position(|intent| intent.expected.is_none()) {
                self.intents.remove(landed);
            }
        }
    }

    pub fn intend(&mut self, fields: BTreeMap<String, FieldHash>, expected: Option<ModId>, epoch: u64) {
        self.intents.push(Intent { fields, expected, epoch });
    }

    /// The write just answered: it happened, or it certainly did not. Either way its intent is settled.
    pub fn settle_last(&mut self) {
        self.intents.pop();
    }
}

/// Which station wrote last, as a record's state has it.
pub fn last_write(state: &str) -> Option<Wrote> {
    serde_json::from_str::<LinkState>(state).ok()?.wrote
}

/// The parent that a record's state names.
pub fn parent(state: &str) -> Option<RecordKey> {
    serde_json::from_str::<LinkState>(state).ok()?.parent
}

/// The hashes of a row's fields.
pub fn hashes(hasher: &Hasher, key: &RecordKey, fields: &Fields) -> BTreeMap<String, FieldHash> {
    fields.iter().map(|(field, value)| (field.clone(), hasher.hash(key, field, value))).collect()
}
