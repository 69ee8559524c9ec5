//! What waits, what is being worked on, what needs a person.

use std::collections::BTreeSet;

use engine::{
    error::Code,
    key::RecordKey,
    ledger::{Record, Wanted},
    snapshot::Snapshot,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    desk::{Detail, RecordName, Right, State},
    names::Context,
    words,
};
use crate::control::Letter;

/// The same words in icon, table, filter and audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    NeedsAttention,
    WaitingForRecord,
    TryingAgain,
    InProgress,
    Waiting,
    SetAside,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Queue {
    /// Those that need attention first, then by age, the oldest first.
    pub rows: Vec<QueueRow>,
    pub counts: Vec<QueueCount>,
    /// There are so many more than are listed.
    pub more: u64,
    /// "Paused until 14:30 (maria). What waits is kept."
    pub banner: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct QueueCount {
    pub state: QueueState,
    pub word: String,
    /// Among the listed rows.
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct QueueRow {
    /// A message that could not be read has no record: its label says so.
    pub record: RecordName,
    /// True for a message that could not be read: it can only be dropped.
    pub letter: bool,
    pub state: QueueState,
    /// "Needs attention", "Trying again (3 of 8)".
    pub word: String,
    /// "Intake form to FileMaker".
    pub what: String,
    /// First seen, RFC 3339.
    pub since: String,
    pub tries: u32,
    /// Next try, RFC 3339.
    pub next: Option<String>,
    /// What happened, what it means, what to do.
    pub reason: Option<String>,
    /// Rows of one reason are grouped by this.
    pub code: Option<String>,
    pub can_retry: bool,
    pub can_set_aside: bool,
    pub can_put_back: bool,
    pub can_drop: bool,
    pub details: Vec<Detail>,
}

impl QueueState {
    pub const ALL: [QueueState; 6] = [
        QueueState::NeedsAttention,
        QueueState::WaitingForRecord,
        QueueState::TryingAgain,
        QueueState::InProgress,
        QueueState::Waiting,
        QueueState::SetAside,
    ];
}

/// What the relay answered: records that are wanted, records that died, messages that could not be read.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    pub wanted: Vec<Record>,
    pub dead: Vec<Record>,
    pub letters: Vec<Letter>,
    /// There are so many more than were asked for.
    pub more: u64,
}

/// The queue as it is shown. Without a snapshot nothing can be asked for.
pub fn queue(listed: &Listed, snapshot: Option<&Snapshot>, context: &Context<'_>) -> Queue {
    let running = snapshot.map_or(&[][..], |snapshot| &snapshot.running);
    // A record may come to its end between two questions: the later answer holds.
    let records = listed.dead.iter().chain(&listed.wanted).filter(|record| record.key.kind.is_run());
    let mut seen = BTreeSet::new();
    let mut rows: Vec<_> = records
        .filter(|record| seen.insert(&record.key))
        .filter_map(|record| row(record, running, context))
        .chain(listed.letters.iter().map(|letter| (letter.first_seen, letter_row(letter, context))))
        .collect();
    rows.sort_by(|(since, one), (other_since, other)| {
        let of = |since: &Timestamp, row: &QueueRow| (rank(row.state), *since, row.record.key.clone());
        of(since, one).cmp(&of(other_since, other))
    });
    let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    if snapshot.is_none() {
        for row in &mut rows {
            (row.can_retry, row.can_set_aside, row.can_put_back, row.can_drop) = (false, false, false, false);
        }
    }
    let counts = QueueState::ALL.map(|state| QueueCount {
        state,
        word: words::queue_state(state).to_owned(),
        count: rows.iter().filter(|row| row.state == state).count() as u64,
    });
    Queue { counts: counts.to_vec(), more: listed.more, banner: banner(listed, snapshot, context), rows }
}

/// What needs a person stands first, what was set aside last; everything else by age.
fn rank(state: QueueState) -> u8 {
    match state {
        QueueState::NeedsAttention => 0,
        QueueState::SetAside => 2,
        _ => 1,
    }
}

fn row(record: &Record, running: &[RecordKey], context: &Context<'_>) -> Option<(Timestamp, QueueRow)> {
    let (state, since, code, next) = match (&record.dead, &record.wanted) {
        (Some(dead), _) if dead.set_aside => (QueueState::SetAside, dead.since, Some(dead.code), None),
        (Some(dead), _) => (QueueState::NeedsAttention, dead.since, Some(dead.code), None),
        (None, Some(wanted)) => {
            let at_work = record.held.is_some() || running.contains(&record.key);
            let next = (wanted.not_before > context.now && !at_work).then_some(wanted.not_before);
            (waiting(record, wanted, at_work), wanted.first_seen, wanted.waits_for, next)
        }
        (None, None) => return None,
    };
    let code = code.filter(|_| state != QueueState::InProgress);
    let may = context.role.has(Right::Mend);
    let retry = !matches!(state, QueueState::InProgress | QueueState::SetAside);
    let row = QueueRow {
        record: context.record(&record.key),
        letter: false,
        state,
        word: words::queue_word(state, record.attempts, context.about.attempts),
        what: words::to_filemaker(record.key.resource.as_str()),
        since: words::instant(since),
        tries: record.attempts,
        next: next.map(words::instant),
        reason: code.map(|code| words::sentence(code).to_owned()),
        code: code.map(|code| code.to_string()),
        can_retry: may && retry,
        can_set_aside: may && state == QueueState::NeedsAttention,
        can_put_back: may && state == QueueState::SetAside,
        can_drop: false,
        details: context.details([
            ("Code", code.map(|code| code.to_string())),
            ("Record", Some(record.key.to_string())),
            ("Failed attempts", Some(record.attempts.to_string())),
            ("Generation", Some(record.generation.to_string())),
            ("Epoch", Some(record.stamp.epoch.to_string())),
            ("Held by", record.held.as_ref().map(|held| held.owner.station.to_string())),
        ]),
    };
    Some((since, row))
}

fn waiting(record: &Record, wanted: &Wanted, at_work: bool) -> QueueState {
    match wanted.waits_for {
        _ if at_work => QueueState::InProgress,
        Some(Code::RecordOpen) => QueueState::WaitingForRecord,
        _ if record.attempts > 0 => QueueState::TryingAgain,
        _ => QueueState::Waiting,
    }
}

fn letter_row(letter: &Letter, context: &Context<'_>) -> QueueRow {
    QueueRow {
        record: RecordName {
            key: letter.id.clone(),
            label: words::UNREADABLE.to_owned(),
            firm: String::new(),
            named: false,
        },
        letter: true,
        state: QueueState::NeedsAttention,
        word: words::queue_state(QueueState::NeedsAttention).to_owned(),
        what: words::UNREADABLE.to_owned(),
        since: words::instant(letter.first_seen),
        tries: 0,
        next: None,
        reason: Some(words::sentence(letter.code).to_owned()),
        code: Some(letter.code.to_string()),
        can_retry: false,
        can_set_aside: false,
        can_put_back: false,
        can_drop: context.role.has(Right::Drop),
        details: context.details([
            ("Code", Some(letter.code.to_string())),
            ("Message", Some(letter.id.clone())),
            ("Reason", Some(letter.reason.clone())),
        ]),
    }
}

/// What holds everything up, if something does.
fn banner(listed: &Listed, snapshot: Option<&Snapshot>, context: &Context<'_>) -> Option<String> {
    let snapshot = snapshot?;
    if let Some(pause) = &snapshot.pause {
        return Some(format!("{}. {}", words::paused(pause, context.now, context.zone), words::WAITS_IS_KEPT));
    }
    if snapshot.verdict.state() == State::CannotReach {
        return Some(words::status(snapshot, context.zone));
    }
    let throttled = listed.wanted.iter().filter_map(|record| record.wanted);
    let throttled = throttled.filter(|wanted| wanted.waits_for == Some(Code::Throttled));
    let until = throttled.map(|wanted| wanted.not_before).filter(|until| *until > context.now).min()?;
    Some(words::throttled_until(until, context.zone))
}
