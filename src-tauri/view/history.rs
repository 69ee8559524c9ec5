//! What was done, in sentences with a direction: made from the audit log, so that both always agree.

use engine::{
    audit::{Act, AuditId, Ended, Entry, Found, Outcome, Search},
    key::RecordKey,
    link::Wrote,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    desk::{Detail, Problem, RecordName},
    names::Context,
    words,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    ToFileMaker,
    ToChart,
    /// A person asked for something.
    Here,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum HistoryOutcome {
    Done,
    Refused,
    /// No answer came; the next look settles it.
    Unknown,
    Interrupted,
    /// Not finished yet.
    Open,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct HistoryQuery {
    /// Entries older than this one.
    pub before: Option<u64>,
    pub direction: Option<Direction>,
    pub outcome: Option<HistoryOutcome>,
    /// A record's key.
    pub record: Option<String>,
    /// RFC 3339.
    pub since: Option<String>,
    pub until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct History {
    /// What this list is of, where others take part.
    pub note: Option<String>,
    /// Newest first.
    pub rows: Vec<HistoryRow>,
    /// For the next page.
    pub next: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct HistoryRow {
    /// The entry of the audit log.
    pub entry: u64,
    /// RFC 3339.
    pub at: String,
    pub direction: Direction,
    /// "Sent to FileMaker".
    pub sentence: String,
    pub record: Option<RecordName>,
    /// "Patient", "Intake form"; empty where no record is concerned.
    pub what: String,
    pub outcome: HistoryOutcome,
    pub outcome_word: String,
    /// Names of the fields that were written; their values are not kept.
    pub fields: Vec<String>,
    pub person: Option<String>,
    /// "This PC", or the name that this station had.
    pub station: String,
    pub details: Vec<Detail>,
}

/// So many lines make a page.
pub const PAGE: usize = 100;

/// What the page asks, as the relay is asked. Looks and reveals are no history; the audit log lists them.
///
/// # Errors
/// A time or a record that is none.
pub fn search(query: &HistoryQuery) -> Result<Search, Problem> {
    let to_filemaker = [Act::CreateRow, Act::EditRow];
    let to_chart = [Act::CreateResource, Act::UpdateResource];
    let asked = [Act::Asked];
    Ok(Search {
        before: query.before.map(AuditId),
        acts: match query.direction {
            Some(Direction::ToFileMaker) => to_filemaker.to_vec(),
            Some(Direction::ToChart) => to_chart.to_vec(),
            Some(Direction::Here) => asked.to_vec(),
            None => [&to_filemaker[..], &to_chart[..], &asked[..]].concat(),
        },
        outcome: query.outcome.map(Ended::from),
        record: query.record.as_deref().map(record_key).transpose()?,
        since: time(query.since.as_deref())?,
        until: time(query.until.as_deref())?,
        ..Search::newest(PAGE)
    })
}

pub(super) fn time(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let time = |text: &str| text.parse().map_err(|_| Problem::new("This time cannot be read. Choose another one."));
    text.map(time).transpose()
}

fn record_key(text: &str) -> Result<RecordKey, Problem> {
    RecordKey::parse(text).ok_or_else(|| Problem::new("This record is not known here. Choose one of the list."))
}

impl From<HistoryOutcome> for Ended {
    fn from(outcome: HistoryOutcome) -> Self {
        match outcome {
            HistoryOutcome::Done => Ended::Done,
            HistoryOutcome::Refused => Ended::Refused,
            HistoryOutcome::Unknown => Ended::Unknown,
            HistoryOutcome::Interrupted => Ended::Interrupted,
            HistoryOutcome::Open => Ended::Open,
        }
    }
}

impl From<Ended> for HistoryOutcome {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done => HistoryOutcome::Done,
            Ended::Refused => HistoryOutcome::Refused,
            Ended::Unknown => HistoryOutcome::Unknown,
            Ended::Interrupted => HistoryOutcome::Interrupted,
            Ended::Open => HistoryOutcome::Open,
        }
    }
}

/// `wrote` is who last wrote the record that was asked about.
pub fn history(found: &Found, wrote: Option<&Wrote>, context: &Context<'_>) -> History {
    let last = wrote.map(|wrote| words::last_write(wrote, context.here(&wrote.station), context.now, context.zone));
    let note =
        context.about.shared.then(|| [Some(words::own_history(&context.about.station)), last].into_iter().flatten());
    History {
        note: note.map(|parts| parts.collect::<Vec<_>>().join(" ")),
        rows: found.entries.iter().map(|entry| row(entry, context)).collect(),
        next: found.next.map(|next| next.0),
    }
}

fn row(entry: &Entry, context: &Context<'_>) -> HistoryRow {
    let begun = &entry.begun;
    let direction = match begun.act {
        Act::CreateRow | Act::EditRow => Direction::ToFileMaker,
        Act::CreateResource | Act::UpdateResource => Direction::ToChart,
        Act::ProbeKey | Act::ClinicKey | Act::Asked | Act::Revealed => Direction::Here,
    };
    let outcome = HistoryOutcome::from(entry.ended());
    HistoryRow {
        entry: entry.id.0,
        at: words::instant(begun.at),
        direction,
        sentence: words::history(begun, outcome),
        record: begun.key.as_ref().map(|key| context.record(key)),
        what: begun.key.as_ref().map_or("", |key| words::resource(key.resource.as_str())).to_owned(),
        outcome,
        outcome_word: words::outcome(entry.outcome.as_ref()),
        fields: if direction == Direction::Here { Vec::new() } else { begun.fields.clone() },
        person: begun.person.clone(),
        station: words::holder(&begun.by.station, context.here(&begun.by.station)),
        details: details(entry, context),
    }
}

fn details(entry: &Entry, context: &Context<'_>) -> Vec<Detail> {
    let begun = &entry.begun;
    let (code, version) = match &entry.outcome {
        Some(Outcome::Done { version }) => (None, version.clone()),
        Some(Outcome::Refused { code } | Outcome::Unknown { code }) => (Some(code.to_string()), None),
        Some(Outcome::Interrupted) | None => (None, None),
    };
    context.details([
        ("Entry", Some(entry.id.0.to_string())),
        ("Code", code),
        ("Record", begun.key.as_ref().map(ToString::to_string)),
        ("Expected version", begun.expected.clone()),
        ("New version", version),
        ("Epoch", begun.key.as_ref().map(|_| begun.epoch.to_string())),
        ("Station", Some(begun.by.station.to_string())),
        ("Ended", entry.resolved.map(words::instant)),
    ])
}
