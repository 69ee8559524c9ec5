//! What both sides of one record say, beside each other, and what was before a change: values of patients, for a person who asked,
//! on the screen alone. None of these types can be printed.

use std::fmt;

use engine::{
    audit::{Act, Entry, Outcome},
    connection::Side,
    difference::{Difference, FieldDifference, Is, KeptValue, Origin},
    key::RecordKey,
    row::Shown,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{
    desk::{Problem, RecordName},
    names::Context,
    words,
};

/// A value that a policy wrote over is kept a moment before the write is entered.
const JUST_BEFORE: SignedDuration = SignedDuration::from_secs(30);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Sides {
    pub record: RecordName,
    /// "Patient", "Measurement".
    pub what: String,
    pub chart: SideOrigin,
    pub filemaker: SideOrigin,
    /// Those about which a person has to decide first.
    pub fields: Vec<FieldSides>,
}

/// Who made a side what it is, and when, as far as it tells.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SideOrigin {
    /// "Chart system".
    pub name: String,
    /// RFC 3339.
    pub at: Option<String>,
    /// Who, by the side's own word.
    pub by: Option<String>,
    /// "Last written by Chart Relay, ...", "It does not say by whom", "There is no such record any more".
    pub sentence: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct FieldSides {
    pub field: String,
    /// A person has to decide.
    pub open: bool,
    /// Since when (RFC 3339).
    pub since: Option<String>,
    /// None: it cannot be read as a value.
    pub chart: Option<String>,
    pub filemaker: Option<String>,
    /// What the choice is bound to; none: this field cannot be decided here. Not for the screen.
    pub seen: Option<String>,
}

/// What a change did to its fields, as far as that is kept anywhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct FieldValues {
    pub field: String,
    /// None: not kept.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What syncing one record again would do: names of fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Resyncing {
    pub record: RecordName,
    pub what: String,
    pub to_filemaker: Vec<String>,
    pub to_chart: Vec<String>,
    /// Those a person has to decide.
    pub open: Vec<String>,
    /// What there is to say where no field can be named: a side is away, a record is gone, nothing differs.
    pub sentence: Option<String>,
}

macro_rules! unprintable {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
unprintable!(Sides, SideOrigin, FieldSides, FieldValues);

pub fn sides(difference: &Difference, context: &Context<'_>) -> Sides {
    let mut fields: Vec<_> = difference.fields.iter().map(field).collect();
    fields.sort_by_key(|field| !field.open);
    Sides {
        record: context.record(&difference.key),
        what: words::resource(difference.key.resource.as_str()).to_owned(),
        chart: origin(Side::Fhir, &difference.chart),
        filemaker: origin(Side::FileMaker, &difference.row),
        fields,
    }
}

fn field(difference: &FieldDifference) -> FieldSides {
    FieldSides {
        field: difference.field.clone(),
        open: difference.is == Is::Conflict,
        since: difference.conflict.map(words::instant),
        chart: difference.chart.as_ref().map(text),
        filemaker: difference.row.as_ref().map(text),
        seen: difference.seen.and_then(|seen| serde_json::to_string(&seen).ok()),
    }
}

fn text(shown: &Shown) -> String {
    shown.expose().to_owned()
}

fn origin(side: Side, origin: &Origin) -> SideOrigin {
    let sentence = match (origin.there, origin.ours, &origin.by) {
        (false, ..) => words::NOT_THERE,
        (true, true, _) => words::BY_US,
        (true, false, Some(_)) => "",
        (true, false, None) => words::BY_NOBODY_KNOWN,
    };
    SideOrigin {
        name: words::side_name(side).to_owned(),
        at: origin.at.map(words::instant),
        // What our own account is called there tells nobody anything.
        by: origin.by.as_ref().filter(|_| !origin.ours).map(text),
        sentence: sentence.to_owned(),
    }
}

/// The chart's versions before and after an entry of the audit log, where that wrote to the chart.
pub fn versions(entry: &Entry) -> Vec<String> {
    match entry.begun.act {
        Act::CreateResource | Act::UpdateResource => entry.begun.expected.iter().chain(made(entry)).cloned().collect(),
        _ => Vec::new(),
    }
}

/// The version that a write made.
fn made(entry: &Entry) -> Option<&String> {
    match &entry.outcome {
        Some(Outcome::Done { version }) => version.as_ref(),
        _ => None,
    }
}

/// What one entry of the audit log changed, from what both sides say now, from the chart's own history and from what was sealed.
pub fn values(entry: &Entry, now: &Difference) -> Vec<FieldValues> {
    let begun = &entry.begun;
    let (side, there) = match begun.act {
        Act::CreateRow | Act::EditRow => (Side::FileMaker, &now.row),
        Act::CreateResource | Act::UpdateResource => (Side::Fhir, &now.chart),
        Act::ProbeKey | Act::ClinicKey | Act::Asked | Act::Revealed => return Vec::new(),
    };
    let is_new = matches!(begun.act, Act::CreateRow | Act::CreateResource);
    // Only where nothing was written since, what is there is what was written.
    let stands = made(entry).is_some_and(|version| there.version.as_ref() == Some(version));
    let value = |field: &String| {
        let now = now.fields.iter().find(|now| now.field == *field);
        match side {
            Side::Fhir => now?.chart.as_ref().map(text),
            Side::FileMaker => now?.row.as_ref().map(text),
        }
    };
    let overwritten = |kept: &&KeptValue| {
        let before = begun.at.duration_since(kept.at);
        kept.side == side && !before.is_negative() && before <= JUST_BEFORE
    };
    let then = |version: Option<&String>, field: &String| match side {
        Side::Fhir => now.past.get(version?)?.get(field).map(text),
        Side::FileMaker => None,
    };
    let one = |field: &String| {
        let mut kept = now.kept.iter().filter(overwritten).filter(|kept| kept.field == *field);
        FieldValues {
            field: field.clone(),
            before: if is_new {
                Some(String::new())
            } else {
                let kept = kept.next().and_then(|kept| kept.value.as_ref().map(text));
                kept.or_else(|| then(begun.expected.as_ref(), field))
            },
            after: if stands { value(field) } else { then(made(entry), field) },
        }
    };
    begun.fields.iter().map(one).collect()
}

/// What syncing a record again would do.
pub fn resyncing(key: &RecordKey, looked: Result<&Difference, &Problem>, context: &Context<'_>) -> Resyncing {
    let named = |is: Is| match looked {
        Ok(now) => now.fields.iter().filter(|field| field.is == is).map(|field| field.field.clone()).collect(),
        Err(_) => Vec::new(),
    };
    let (to_filemaker, to_chart, open) = (named(Is::ToFilemaker), named(Is::ToChart), named(Is::Conflict));
    let sentence = match looked {
        Err(problem) => Some(problem.sentence.clone()),
        Ok(now) if !now.chart.there => Some(words::NOT_IN_CHART.to_owned()),
        Ok(now) if !now.row.there => Some(words::NOT_IN_FILEMAKER.to_owned()),
        Ok(_) if to_filemaker.is_empty() && to_chart.is_empty() && open.is_empty() => {
            Some(words::NOTHING_DIFFERS.to_owned())
        }
        Ok(_) => None,
    };
    Resyncing {
        record: context.record(key),
        what: words::resource(key.resource.as_str()).to_owned(),
        to_filemaker,
        to_chart,
        open,
        sentence,
    }
}
