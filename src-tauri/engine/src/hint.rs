//! "This resource, or this row, may have changed": what travels in the queue. A hint is never a command to copy; whoever receives it reads
//! both sides. So a hint may be repeated, late or out of order without harm.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{FirmId, RecordKey, ResourceId, ResourceType, RowUuid};

/// Who noticed. For people and figures only: every hint is treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Poll,
    Push,
    Sweep,
    /// A person pressed a button.
    Person,
    /// A child waits for its parent's link.
    Child,
}

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A resource, and with it the row that is linked to it.
    Resource(ResourceId),
    /// A FileMaker row without a FHIR id.
    Row(RowUuid),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
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

/// A hint as it travels: with the resource's `id` or the row's `row`, and never with both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    firm: FirmId,
    resource: ResourceType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<ResourceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<RowUuid>,
    origin: Origin,
    at: Timestamp,
}

impl TryFrom<Line> for Hint {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        let subject = match (line.id, line.row) {
            (Some(id), None) => Subject::Resource(id),
            (None, Some(row)) => Subject::Row(row),
            _ => return Err("a hint names one resource or one row"),
        };
        Ok(Self { firm: line.firm, resource: line.resource, subject, origin: line.origin, at: line.at })
    }
}

impl From<Hint> for Line {
    fn from(hint: Hint) -> Self {
        let (id, row) = match hint.subject {
            Subject::Resource(id) => (Some(id), None),
            Subject::Row(row) => (None, Some(row)),
        };
        Self { firm: hint.firm, resource: hint.resource, id, row, origin: hint.origin, at: hint.at }
    }
}

/// The body of a queue message, version 1: `{"v":1,"hints":[{"firm":..,"resource":..,"id":..,"origin":..,"at":..}]}`, with `row` in
/// place of `id` for a row without a FHIR id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    v: u32,
    hints: Vec<Hint>,
}

/// A body is small by design; a larger one is somebody else's.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// Why a message is not hints. It never quotes the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the message has {0} bytes; {MAX_BODY_BYTES} at most are expected")]
    TooLarge(usize),
    #[error("the message is not a hint: not as expected at line {line}, column {column}")]
    NotAHint { line: usize, column: usize },
    #[error("the message has format version {0}; this program knows version 1")]
    Version(u32),
    #[error("the message holds no hint")]
    Empty,
}

pub fn encode(hints: Vec<Hint>) -> String {
    serde_json::to_string(&Body { v: 1, hints }).expect("a body of plain strings always has a JSON form")
}

pub fn decode(body: &str) -> Result<Vec<Hint>, Malformed> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Malformed::TooLarge(body.len()));
    }
    let body: Body = serde_json::from_str(body)
        .map_err(|error| Malformed::NotAHint { line: error.line(), column: error.column() })?;
    match body {
        Body { v: 1, hints } if hints.is_empty() => Err(Malformed::Empty),
        Body { v: 1, hints } => Ok(hints),
        Body { v, .. } => Err(Malformed::Version(v)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hints_of_this_version_are_read() {
        const HINT: &str =
            r#"{"firm":"north","resource":"Patient","id":"p1","origin":"push","at":"2026-03-02T08:00:00Z"}"#;
        let body = |version: u32, hints: &str| format!(r#"{{"v":{version},"hints":[{hints}]}}"#);
        let hints = decode(&body(1, HINT)).unwrap();
        assert_eq!(decode(&encode(hints.clone())), Ok(hints));
        let row = HINT.replace(r#""id":"p1""#, r#""row":"0A1B-2C""#);
        let hints = decode(&body(1, &row)).unwrap();
        assert_eq!(hints[0].key().to_string(), "north/row/Patient/0A1B-2C");
        assert_eq!(encode(hints), body(1, &row), "what is absent is not written");
        assert_eq!(decode(&body(1, "")), Err(Malformed::Empty));
        assert_eq!(decode(&body(2, HINT)), Err(Malformed::Version(2)));
        assert_eq!(decode(&" ".repeat(MAX_BODY_BYTES + 1)), Err(Malformed::TooLarge(MAX_BODY_BYTES + 1)));
        let more = HINT.replacen('{', r#"{"name":"SYNTHETIC","#, 1);
        let elsewhere = HINT.replace("p1", "../p1");
        let both = HINT.replace(r#""id":"p1""#, r#""id":"p1","row":"0A1B-2C""#);
        let neither = HINT.replace(r#""id":"p1","#, "");
        let odd = ["", "{", "null", "[]", "not a hint"].map(str::to_owned).into_iter();
        for odd in odd.chain([more.as_str(), &elsewhere, &both, &neither, "{}"].map(|hint| body(1, hint))) {
            let malformed = decode(&odd).unwrap_err();
            assert!(matches!(malformed, Malformed::NotAHint { .. }), "{odd}");
            assert!(!malformed.to_string().contains("SYNTHETIC"), "it quotes nothing");
        }
    }
}
