//! "This resource, or this row, may have changed": what travels in the queue. A hint is never a command to copy; whoever receives it reads
//! both sides. So a hint may be repeated, late or out of order without harm. [`crate::body`] reads what others write.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{FirmId, RecordKey, ResourceId, ResourceType, RowUuid};

/// Who noticed. For people and figures only: every hint is treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Poll,
    Push,
}

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A resource, and with it the row that is linked to it.
    Resource(ResourceId),
    /// A FileMaker row without a FHIR id.
    Row(RowUuid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub firm: FirmId,
    pub resource: ResourceType,
    pub subject: Subject,
    pub origin: Origin,
    /// When the change was first noticed, by the noticing station's clock; shown as age, never compared to decide.
    pub at: Timestamp,
}

impl Hint {
    pub fn key(&self) -> RecordKey {
        let (firm, resource) = (self.firm.clone(), self.resource.clone());
        match &self.subject {
            Subject::Resource(id) => RecordKey::link(firm, resource, id.clone()),
            Subject::Row(row) => RecordKey::row(firm, resource, row),
        }
    }
}

/// The version of the format that is written and read; `docs/hint.schema.json` describes it.
pub const VERSION: u32 = 1;

/// The body of a queue message: `{"v":1,"hints":[{"firm":..,"resource":..,"id":..,"origin":..,"at":..}]}`, with `row` in place of `id`
/// for a row without a FHIR id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    pub(crate) v: u32,
    pub(crate) hints: Vec<Line>,
}

/// A hint as it travels: with the resource's `id` or the row's `row`, and never with both. A producer may leave out what it cannot
/// know; we never do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) firm: Option<FirmId>,
    pub(crate) resource: ResourceType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<ResourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<RowUuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Timestamp>,
}

impl From<Hint> for Line {
    fn from(hint: Hint) -> Self {
        let (id, row) = match hint.subject {
            Subject::Resource(id) => (Some(id), None),
            Subject::Row(row) => (None, Some(row)),
        };
        Self { firm: Some(hint.firm), resource: hint.resource, id, row, origin: Some(hint.origin), at: Some(hint.at) }
    }
}

pub fn encode(hints: Vec<Hint>) -> String {
    let body = Body { v: VERSION, hints: hints.into_iter().map(Line::from).collect() };
    serde_json::to_string(&body).expect("a body of plain strings always has a JSON form")
}
