//! The audit log as it stands, and the proof that it is unaltered.

use engine::{
    audit::{Act, AuditId, Entry, Found, Search},
    reveal,
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Problem, RecordName},
    history::{HistoryOutcome, PAGE, time},
    names::Context,
    words,
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AuditQuery {
    pub before: Option<u64>,
    pub person: Option<String>,
    /// As `AuditRow::act`.
    pub act: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Audit {
    /// Newest first.
    pub rows: Vec<AuditRow>,
    pub next: Option<u64>,
    pub chain: Option<Chain>,
    /// What can be chosen as `AuditQuery::act`, each with its word.
    pub acts: Vec<ActWord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ActWord {
    pub act: String,
    pub word: String,
}

/// The last verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Chain {
    pub at: String,
    pub entries: u64,
    pub intact: bool,
    /// "Verified at 10:40: 18 204 entries, each in its place."
    pub sentence: String,
    /// Each finding; empty when intact.
    pub findings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AuditRow {
    pub entry: u64,
    pub at: String,
    /// The account of the operating system, or "Chart Relay".
    pub who: String,
    pub act: String,
    /// "Row created", "Name revealed".
    pub word: String,
    pub record: Option<RecordName>,
    pub outcome: HistoryOutcome,
    pub outcome_word: String,
    /// Field names, or what was asked.
    pub about: Vec<String>,
    /// The station.
    pub station: String,
}

/// What a reveal answers with; shown for ten seconds and never kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Revealed {
    pub key: String,
    /// The patient's name as the chart has it now; none: the chart has none, or does not answer.
    pub name: Option<String>,
    /// Why there is none.
    pub sentence: Option<String>,
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revealed(..)")
    }
}

/// Every act with the name that the page asks for it by.
const ACTS: [(&str, Act); 8] = [
    ("create-row", Act::CreateRow),
    ("edit-row", Act::EditRow),
    ("create-resource", Act::CreateResource),
    ("update-resource", Act::UpdateResource),
    ("asked", Act::Asked),
    ("revealed", Act::Revealed),
    ("clinic-key", Act::ClinicKey),
    ("probe-key", Act::ProbeKey),
];

fn name(act: Act) -> &'static str {
    ACTS.iter().find(|(_, known)| *known == act).map_or("", |(name, _)| name)
}

/// What the page asks, as the relay is asked.
///
/// # Errors
/// A time or an act that is none.
pub fn search(query: &AuditQuery) -> Result<Search, Problem> {
    let act = |text: &str| {
        let known = ACTS.iter().find(|(name, _)| *name == text).map(|(_, act)| *act);
        known.ok_or_else(|| Problem::new("Nothing of that kind is in the audit log. Choose one of the list."))
    };
    Ok(Search {
        before: query.before.map(AuditId),
        acts: query.act.as_deref().map(act).transpose()?.into_iter().collect(),
        person: query.person.clone().filter(|person| !person.trim().is_empty()),
        since: time(query.since.as_deref())?,
        until: time(query.until.as_deref())?,
        ..Search::newest(PAGE)
    })
}

pub fn audit(found: &Found, chain: Option<Chain>, context: &Context<'_>) -> Audit {
    let acts = ACTS.iter().map(|(name, act)| ActWord { act: (*name).to_owned(), word: words::act(*act).to_owned() });
    Audit {
        rows: found.entries.iter().map(|entry| row(entry, context)).collect(),
        next: found.next.map(|next| next.0),
        chain,
        acts: acts.collect(),
    }
}

fn row(entry: &Entry, context: &Context<'_>) -> AuditRow {
    let begun = &entry.begun;
    AuditRow {
        entry: entry.id.0,
        at: words::instant(begun.at),
        who: begun.person.clone().unwrap_or_else(|| words::PROGRAM.to_owned()),
        act: name(begun.act).to_owned(),
        word: words::act_of(begun),
        record: begun.key.as_ref().map(|key| context.record(key)),
        outcome: entry.ended().into(),
        outcome_word: words::outcome(entry.outcome.as_ref()),
        about: words::about(begun),
        station: begun.by.station.to_string(),
    }
}

/// The answer to a verification that was made now.
pub fn chain(entries: u64, findings: Vec<String>, now: Timestamp, zone: &TimeZone) -> Chain {
    Chain {
        at: words::instant(now),
        entries,
        intact: findings.is_empty(),
        sentence: words::chain(entries, findings.len(), now, zone),
        findings,
    }
}

/// A name for ten seconds, or why there is none.
pub fn revealed(answer: reveal::Revealed) -> Revealed {
    Revealed {
        key: answer.key.to_string(),
        sentence: answer.why.map(|code| words::sentence(code).to_owned()),
        name: answer.name.map(|name| name.expose().to_owned()),
    }
}
