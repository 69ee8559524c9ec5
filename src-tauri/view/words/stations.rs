//! The words of stations that share the work.

use engine::{error::Code, key::StationId, snapshot::Verdict};
use jiff::{Timestamp, tz::TimeZone};

use super::{long, many, until};
use crate::stations::{GONE, Last, Seen};

pub const ALONE: &str = "This station works by itself: the configuration has no [shared], so there are no others.";

/// The shared queue and ledger have not answered since the start.
pub fn waiting_for_aws(since: Timestamp, code: Code, now: Timestamp, zone: &TimeZone) -> String {
    format!("Waiting for AWS since {}: {}. Changes are kept.", until(since, now, zone), aws(code))
}

fn aws(code: Code) -> &'static str {
    match code {
        Code::Unreachable | Code::TimedOut | Code::NotAnswering => "it cannot be reached",
        Code::Throttled => "it asks us to slow down",
        _ => "it answers with an error",
    }
}

/// Why a relay that has not joined the others cannot answer that.
pub fn not_joined(verdict: &Verdict) -> String {
    match verdict {
        Verdict::CannotJoin { since, code } => {
            let zone = TimeZone::system();
            let waiting = waiting_for_aws(*since, *code, *since, &zone);
            format!("{waiting} Until it answers this station does not know what waits, and begins nothing.")
        }
        _ => "This station is just starting. Ask again in a moment.".to_owned(),
    }
}

/// When it was last seen, as the end of a sentence.
pub fn last_seen(seen: &Seen, now: Timestamp, zone: &TimeZone) -> String {
    let said = seen.said.map(|said| format!(" (by its own clock at {})", until(said, now, zone))).unwrap_or_default();
    match seen.last {
        _ if seen.here => "this station".to_owned(),
        Last::Ago(ago) => format!("seen {} ago", long(ago)),
        Last::NotFor(long_) => format!("no sign of life for {}, as long as this station looks{said}", long(long_)),
        Last::Left => format!("ended{said}"),
        Last::Unwatched => format!("no relay runs here that could have watched it{said}"),
    }
}

/// A clock that is too far off: "its clock is 3 h behind".
pub fn its_clock(ahead: i64) -> String {
    format!("its clock is {}", off(ahead))
}

/// `3 h behind`, `2 min ahead`.
pub fn off(ahead: i64) -> String {
    let far = long(std::time::Duration::from_secs(ahead.unsigned_abs()));
    if ahead < 0 { format!("{far} behind") } else { format!("{far} ahead") }
}

/// A line of `chart-relay station list`.
pub fn station(seen: &Seen, now: Timestamp, zone: &TimeZone) -> String {
    let version = seen.version.as_ref().map_or("version not known".to_owned(), |version| format!("version {version}"));
    let clock = seen.clock_ahead.map_or(String::new(), |ahead| format!("; {}", its_clock(ahead)));
    format!("{:<32} {}  {version}; {}{clock}", seen.station, seen.id, last_seen(seen, now, zone))
}

pub fn no_such_station(name: &StationId) -> String {
    format!(
        "There is no station {name} on the list; nothing was done. (A station that has just joined is seen within a minute.)"
    )
}

/// Why a station is not forgotten; `None` if it may be.
pub fn not_forgotten(seen: &Seen, holds: usize) -> Option<String> {
    let name = &seen.station;
    let gone = long(GONE);
    match seen.last {
        _ if seen.here => Some("This is this station. A station is forgotten from another one.".to_owned()),
        Last::Ago(ago) if seen.last.lives() => Some(format!(
            "Station {name} was seen {} ago, so it runs. Stop it there first; nothing was done.",
            long(ago)
        )),
        Last::NotFor(time) if !seen.last.is_gone() => Some(format!(
            "Whether station {name} still runs is not known yet: this station has looked for {} only. Ask again in {gone}.",
            long(time)
        )),
        Last::Unwatched => Some(format!(
            "Whether station {name} still runs is not known: no relay runs here that could have watched it. Start this one, and \
             ask again in {gone}."
        )),
        _ if holds > 0 => Some(format!(
            "Station {name} still holds {}. The stations that run take them over within minutes; ask again then.",
            many(holds as u64, "record")
        )),
        _ => None,
    }
}

pub fn seen_again(name: &StationId) -> String {
    format!("Station {name} has given a sign of life just now, or is off the list already; nothing was done.")
}

pub fn forgotten(name: &StationId) -> String {
    format!("Station {name} is forgotten. Its name is free for another computer.")
}
