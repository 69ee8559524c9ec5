//! "This resource may have changed": what travels in the queue. A hint is never a command to copy; whoever receives it reads
//! both sides. So a hint may be repeated, late or out of order without harm.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{FirmId, RecordKey, ResourceId, ResourceType};

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    pub firm: FirmId,
    pub resource: ResourceType,
    pub id: ResourceId,
    pub origin: Origin,
    /// When the change was first noticed, by the noticing station's clock; shown as age, never compared to decide.
    pub at: Timestamp,
}

impl Hint {
    pub fn key(&self) -> RecordKey {
        RecordKey::link(self.firm.clone(), self.resource.clone(), self.id.clone())
    }
}

/// The body of a queue message, version 1: `{"v":1,"hints":[{"firm":..,"resource":..,"id":..,"origin":..,"at":..}]}`.
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
        assert_eq!(decode(&body(1, "")), Err(Malformed::Empty));
        assert_eq!(decode(&body(2, HINT)), Err(Malformed::Version(2)));
        assert_eq!(decode(&" ".repeat(MAX_BODY_BYTES + 1)), Err(Malformed::TooLarge(MAX_BODY_BYTES + 1)));
        let more = HINT.replacen('{', r#"{"name":"SYNTHETIC","#, 1);
        let elsewhere = HINT.replace("p1", "../p1");
        for odd in ["", "{", "null", "[]", "not a hint", &body(1, &more), &body(1, &elsewhere), &body(1, "{}")] {
            let malformed = decode(odd).unwrap_err();
            assert!(matches!(malformed, Malformed::NotAHint { .. }), "{odd}");
            assert!(!malformed.to_string().contains("SYNTHETIC"), "it quotes nothing");
        }
    }
}
