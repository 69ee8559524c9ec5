//! The words of queue, locks, history and audit log. One thing has one word in all of them.

use std::time::Duration;

use engine::{
    action::AsideReason,
    audit::{Act, Begun, Outcome},
    error::Code,
    key::StationId,
};
use jiff::{Timestamp, tz::TimeZone};

use super::{clock, long, many, sentence};
use crate::view::{history::HistoryOutcome, queue::QueueState};

/// For the page, which makes a time on the wall of it: to the millisecond, in UTC.
pub fn instant(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What a person calls a resource; a type that nobody has a word for keeps its own.
pub fn resource(name: &str) -> &str {
    match name {
        "QuestionnaireResponse" => "Intake form",
        "Observation" => "Measurement",
        "DocumentReference" => "Progress note",
        other => other,
    }
}

pub fn to_filemaker(name: &str) -> String {
    format!("{} to FileMaker", resource(name))
}

pub fn to_chart(name: &str) -> String {
    format!("{} to the chart system", resource(name))
}

pub const UNREADABLE: &str = "Unreadable message";
pub const WAITS_IS_KEPT: &str = "What waits is kept.";

pub fn queue_state(state: QueueState) -> &'static str {
    match state {
        QueueState::NeedsAttention => "Needs attention",
        QueueState::WaitingForRecord => "Waiting for record",
        QueueState::TryingAgain => "Trying again",
        QueueState::InProgress => "In progress",
        QueueState::Waiting => "Waiting",
        QueueState::SetAside => "Set aside",
    }
}

/// "Trying again (3 of 8)": the try that comes next, of as many as there will be.
pub fn queue_word(state: QueueState, failed: u32, tries: u32) -> String {
    match state {
        QueueState::TryingAgain => format!("{} ({} of {tries})", queue_state(state), (failed + 1).min(tries)),
        QueueState::WaitingForRecord => format!("{} (open in FileMaker)", queue_state(state)),
        other => queue_state(other).to_owned(),
    }
}

pub fn throttled_until(until: Timestamp, zone: &TimeZone) -> String {
    format!("The chart system asked us to slow down. Continues at {}.", clock(until, zone))
}

// Locks

pub const BEHIND: &str = "A change waits behind it.";
pub const SOMEONE: &str = "Someone in FileMaker";
pub const LOCK_ENDLESS: &str = "It has no end, which is a fault. Nothing is lost; only IT can free it.";
pub const LOCK_OVERDUE: &str =
    "Nobody has renewed it for its whole term. It is taken over by itself; if it stays here, tell IT.";

pub fn holder(station: &StationId, here: bool) -> String {
    if here { "This PC".to_owned() } else { format!("Station {station}") }
}

pub fn reads_chart(resource: &str) -> String {
    format!("Reads the chart system ({})", self::resource(resource))
}

pub fn tries_key(resource: &str) -> String {
    format!("Tries whether FileMaker keeps keys unique ({})", self::resource(resource))
}

pub const SHARES_QUOTA: &str = "Shares out the EHR's quota";
pub const SIGNS_IN: &str = "Signs in to the EHR";
pub const KEEPS_DEFINITION: &str = "Tells other stations of a clinic";

pub fn lock_active(term: Duration) -> String {
    format!("Is being worked on. Without a sign of life it is free after {}.", long(term))
}

pub fn lock_in_filemaker(next: Option<Timestamp>, zone: &TimeZone) -> String {
    let next =
        next.map_or_else(|| "We try again now.".to_owned(), |next| format!("We try again at {}.", clock(next, zone)));
    format!("Someone has this record open in FileMaker. {next}")
}

// History and audit log

pub const PROGRAM: &str = "Chart Relay";

/// What was done, with its direction.
pub fn history(begun: &Begun, outcome: HistoryOutcome) -> String {
    let fields = many(begun.fields.len() as u64, "field");
    let new = format!("new record with {fields}");
    let (sent, to) = match begun.act {
        Act::CreateRow => (new, "FileMaker"),
        Act::EditRow => (fields, "FileMaker"),
        Act::CreateResource => (new, "the chart"),
        Act::UpdateResource => (fields, "the chart"),
        Act::ProbeKey | Act::ClinicKey | Act::Asked | Act::Revealed => return act_of(begun),
    };
    match outcome {
        HistoryOutcome::Done => format!("Sent to {to}: {sent}"),
        HistoryOutcome::Refused => format!("Not sent to {to}: {sent}"),
        HistoryOutcome::Unknown | HistoryOutcome::Interrupted => format!("Perhaps sent to {to}: {sent}"),
        HistoryOutcome::Open => format!("Is being sent to {to}: {sent}"),
    }
}

pub fn outcome(outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::Done { .. }) => "Done".to_owned(),
        Some(Outcome::Refused { code }) => format!("Refused: {}", sentence(*code)),
        Some(Outcome::Unknown { code: Code::OutcomeUnknown }) => sentence(Code::OutcomeUnknown).to_owned(),
        Some(Outcome::Unknown { code }) => format!("Not known: {}", sentence(*code)),
        Some(Outcome::Interrupted) => "The program ended in between; the next look settles it.".to_owned(),
        None => "Not finished yet".to_owned(),
    }
}

/// The kind of an entry.
pub fn act(act: Act) -> &'static str {
    match act {
        Act::CreateRow => "Row created",
        Act::EditRow => "Row changed",
        Act::CreateResource => "Chart record created",
        Act::UpdateResource => "Chart record changed",
        Act::ProbeKey => "Key tried",
        Act::ClinicKey => "Clinic key used",
        Act::Asked => "Asked by a person",
        Act::Revealed => "Name revealed",
    }
}

// Both sides of a record

pub const NOT_THERE: &str = "There is no such record any more.";
pub const BY_US: &str = "Last written by Chart Relay, which leaves open fields alone.";
pub const BY_NOBODY_KNOWN: &str = "It does not say by whom.";
pub const NOT_IN_CHART: &str = "It is not in the chart system any more.";
pub const NOT_IN_FILEMAKER: &str = "It is not in FileMaker.";
pub const NOTHING_DIFFERS: &str = "Nothing would be written.";

/// What the entry says was done.
pub fn act_of(begun: &Begun) -> String {
    if begun.act == Act::Revealed && !begun.fields.is_empty() {
        return "Both sides looked at".to_owned();
    }
    let asked = begun.fields.first().filter(|_| begun.act == Act::Asked);
    match asked.map(String::as_str) {
        None => act(begun.act).to_owned(),
        Some("sync-now") => "Sync now".to_owned(),
        Some("pause") => "Paused".to_owned(),
        Some("resume") => "Resumed".to_owned(),
        Some("resync") => "Synced again by hand".to_owned(),
        Some("settle") => "Conflict decided".to_owned(),
        Some("deleted") => "Missing records said to be deleted".to_owned(),
        Some("retry") => "Tried again".to_owned(),
        Some("set-aside") => "Set aside".to_owned(),
        Some("put-back") => "Put back".to_owned(),
        Some("retry-letters") => "Message read again".to_owned(),
        Some("drop-letters") => "Message thrown away".to_owned(),
        // A newer station's word.
        Some(other) => other.to_owned(),
    }
}

/// What the entry names beside record and person: fields, the reason, what was asked.
pub fn about(begun: &Begun) -> Vec<String> {
    let named: &[String] = if matches!(begun.act, Act::Asked | Act::Revealed) {
        begun.fields.get(1..).unwrap_or_default()
    } else {
        &begun.fields
    };
    named
        .iter()
        .map(|text| AsideReason::parse(text).map_or_else(|| text.clone(), |reason| aside(reason).to_owned()))
        .collect()
}

pub fn items(count: u64) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

pub fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

/// Why something was set aside.
pub fn aside(reason: AsideReason) -> &'static str {
    match reason {
        AsideReason::EnteredByHand => "Entered by hand",
        AsideReason::NotNeeded => "Not needed",
        AsideReason::Duplicate => "Duplicate",
        AsideReason::AskedIt => "IT was asked",
    }
}

/// "Verified at 10:40: 18 204 entries, each in its place."
pub fn chain(entries: u64, findings: usize, now: Timestamp, zone: &TimeZone) -> String {
    let (at, entries) = (clock(now, zone), thousands(entries));
    match findings {
        0 => format!("Verified at {at}: {entries} entries, each in its place."),
        1 => format!("Verified at {at}: {entries} entries, and 1 is not as it was written. Tell IT."),
        many => format!("Verified at {at}: {entries} entries, and {many} are not as they were written. Tell IT."),
    }
}

/// `18 204`, with a narrow space that does not break.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join("\u{202f}")
}
