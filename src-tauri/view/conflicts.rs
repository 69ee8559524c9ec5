//! Records of which both sides changed the same field: which fields, since when, and what a person chose. Names and dates; the values
//! are in [`super::sides`], and only while a person looks at them.

use engine::{
    action::{Action, Choice, Seen},
    key::RecordKey,
    row::Shown,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    desk::{Problem, RecordName},
    names::Context,
    words,
};
use crate::control::OpenConflict;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Conflicts {
    /// The oldest first.
    pub rows: Vec<ConflictRow>,
    /// There are others that are not listed.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ConflictRow {
    pub record: RecordName,
    /// "Patient", "Measurement".
    pub what: String,
    /// Names of the fields.
    pub fields: Vec<String>,
    /// The oldest of them (RFC 3339).
    pub since: String,
}

/// What a person chose for one field.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Chosen {
    pub field: String,
    /// As `FieldSides::seen`: what the person saw.
    pub seen: String,
    pub take: Take,
    /// What was typed, where it is neither side's.
    pub typed: Option<String>,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chosen(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    Chart,
    FileMaker,
    Typed,
}

/// What came of one choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Settled {
    pub field: String,
    /// Why it was not done; none: both sides hold it.
    pub problem: Option<Problem>,
    /// A side has changed since the person saw it: nothing was done, and it is to be looked at again.
    pub moved: bool,
}

pub fn conflicts(open: &[OpenConflict], more: bool, context: &Context<'_>) -> Conflicts {
    let mut open: Vec<_> = open.iter().map(|open| (oldest(open, context.now), open)).collect();
    open.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.key.cmp(&other.key)));
    let row = |(since, open): (Timestamp, &OpenConflict)| ConflictRow {
        record: context.record(&open.key),
        what: words::resource(open.key.resource.as_str()).to_owned(),
        fields: open.fields.iter().map(|open| open.field.clone()).collect(),
        since: words::instant(since),
    };
    Conflicts { rows: open.into_iter().map(row).collect(), more }
}

fn oldest(open: &OpenConflict, now: Timestamp) -> Timestamp {
    open.fields.iter().map(|open| open.since).min().unwrap_or(now)
}

impl Chosen {
    /// What the relay is asked to do.
    ///
    /// # Errors
    /// The page did not say what the person saw, or what was typed.
    pub fn action(self, key: RecordKey) -> Result<Action, Problem> {
        let unclear = || Problem::new("This choice is not complete. Nothing was done; choose again.");
        let seen: Seen = serde_json::from_str(&self.seen).map_err(|_| unclear())?;
        let choice = match (self.take, self.typed) {
            (Take::Chart, None) => Choice::Chart,
            (Take::FileMaker, None) => Choice::Row,
            (Take::Typed, Some(typed)) => Choice::Value(Shown::new(typed)),
            _ => return Err(unclear()),
        };
        Ok(Action::Settle { key, field: self.field, seen, choice })
    }
}
