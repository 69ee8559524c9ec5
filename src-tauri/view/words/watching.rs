//! Words for the EHRs that are watched.

use std::time::Duration;

use engine::{
    ehr::{Class, QuotaShown, Watching},
    error::Code,
    key::StationId,
    ports::EncounterStatus,
};
use jiff::{Timestamp, tz::TimeZone};

use super::{clock, long, sentence};

pub const VISIT: &str = "Visit";
pub const DOCUMENT: &str = "Document";

pub const WATCHING: &str = "Watching";
pub const WATCH_STARTING: &str = "Looking for the first time";
pub const WATCH_PAUSED: &str = "Paused";
pub const WATCH_PAUSED_BY_CONFIGURATION: &str =
    "Watching is switched off for this clinic in the configuration. What arrives meanwhile is found afterwards.";
pub const WATCH_QUOTA: &str = "Waits for the quota";
pub const WATCH_TROUBLE: &str = "Needs IT";
pub const WATCH_AWAY: &str = "Can't be reached";

pub const VISIT_GOES_ON: &str = "The visit is going on, so it is looked at often.";
pub const VISIT_MAY_HAVE_MORE: &str =
    "The visit has not begun or is over. Something may still come, so it is looked at less often.";
pub const VISIT_MAY_COME: &str = "Its visit is not known yet. It is looked for again for some minutes.";

pub const AWAITS_MODEL: &str = "Waits for a model";
pub const LOOKS_FOR_VISIT: &str = "Looks for its visit";
pub const NO_VISIT: &str = "No open visit";
pub const NO_CATEGORY: &str = "No category";

pub fn watched_kind(resource: &str) -> &str {
    match resource {
        "Encounter" => "Visits",
        "DocumentReference" => "Photographs and notes",
        "Media" => "Pictures",
        other => other,
    }
}

/// An EHR in one line, for the terminal.
pub fn watched(ehr: &Watching, zone: &TimeZone) -> String {
    let health = if ehr.paused { "paused in the configuration".to_owned() } else { super::health(&ehr.health) };
    let count = |many: u64, one: &str, more: &str| format!("{many} {}", if many == 1 { one } else { more });
    let mut text = format!(
        "the EHR of {}: {health}; {} followed, {} for a model",
        ehr.firm,
        count(ehr.encounters, "visit", "visits"),
        count(ehr.documents, "document waits", "documents wait"),
    );
    for kind in &ehr.kinds {
        let complete = kind
            .complete
            .map_or_else(|| "not complete yet".to_owned(), |at| format!("complete up to {}", second(at, zone)));
        text = format!("{text}; {} {complete}", watched_kind(kind.resource.as_str()).to_lowercase());
    }
    text
}

fn second(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

pub fn watched_by(station: &StationId) -> String {
    format!("Watched by {station}")
}

/// Why an EHR is not being watched, and what that means; `since` where it will end by itself. The first sentence of a code says what
/// happened; what follows there is about changes that wait to be sent, and here nothing does.
pub fn not_watched(code: Code, since: Option<Timestamp>, zone: &TimeZone) -> String {
    let why = sentence(code).split_inclusive(". ").next().unwrap_or_default().trim_end();
    match since {
        Some(since) => format!("{why} Since {}. What arrives meanwhile is found afterwards.", clock(since, zone)),
        None => format!("{why} Only IT can fix this; what arrives meanwhile is found afterwards."),
    }
}

pub fn watch_silent(silent: Duration) -> String {
    format!("No look at this EHR has come to an end for {}. What arrives meanwhile is found afterwards.", long(silent))
}

/// What follows the number of requests that were made.
pub fn quota_of(quota: &QuotaShown) -> String {
    let shared = match quota.stations {
        0 | 1 => String::new(),
        2 => ", by this station and another".to_owned(),
        stations => format!(", by {stations} stations"),
    };
    format!("of {} requests in the last {}{shared}", quota.usable, long(quota.per))
}

pub fn quota_silent(until: Timestamp, zone: &TimeZone) -> String {
    format!("The EHR asked for silence until {}. It goes on by itself.", second(until, zone))
}

pub fn visit(status: EncounterStatus) -> &'static str {
    match status {
        EncounterStatus::Planned => "Planned",
        EncounterStatus::Arrived => "Arrived",
        EncounterStatus::InProgress => "In progress",
        EncounterStatus::Finished => "Finished",
        EncounterStatus::Cancelled => "Cancelled",
        EncounterStatus::EnteredInError => "Entered in error",
        EncounterStatus::Unknown => "Open",
    }
}

pub fn document(class: Class) -> &'static str {
    match class {
        Class::Solitary => "Photograph of one spot",
        Class::Widespread => "Photograph of a rash",
        Class::Note => "Note",
        Class::Ignored | Class::Unsorted => DOCUMENT,
    }
}
