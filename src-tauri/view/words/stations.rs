//! The words of stations that share the work.

use engine::{
    error::Code,
    key::{FirmId, StationId},
    link::Wrote,
    server_clock::{Server, WrongClock},
    snapshot::Verdict,
};
use jiff::{Timestamp, tz::TimeZone};

use super::{long, many, until};
use crate::stations::{GONE, Last, Seen};

pub const ALONE: &str = "This station works by itself: the configuration has no [shared], so there are no others.";

/// The shared queue and ledger have not answered since the start.
pub fn waiting_for_aws(since: Timestamp, code: Code, now: Timestamp, zone: &TimeZone) -> String {
    format!("Waiting for AWS since {}: {}. Changes are kept.", until(since, now, zone), aws(code))
}

/// What a station held by itself goes to the shared ledger.
pub fn moving(left: u64) -> String {
    format!("Moving {} to the shared ledger; syncing begins when that is done", many(left, "record"))
}

fn aws(code: Code) -> &'static str {
    match code {
        Code::Unreachable | Code::TimedOut | Code::NotAnswering => "it cannot be reached",
        Code::Throttled => "it asks us to slow down",
        _ => "it answers with an error",
    }
}

/// AWS takes no request whose time is off by more than some minutes.
pub fn refused_for_the_clock(ahead: i64) -> String {
    format!(
        "The clock of this PC is {}, and AWS refuses what it signs. Set it right, then it goes on. Nothing is lost.",
        off(ahead)
    )
}

/// Why a relay that has not joined the others cannot answer that.
pub fn not_joined(verdict: &Verdict) -> String {
    match verdict {
        Verdict::CannotJoin { since, code } => {
            let zone = TimeZone::system();
            let waiting = waiting_for_aws(*since, *code, *since, &zone);
            format!("{waiting} Until it answers this station does not know what waits, and begins nothing.")
        }
        Verdict::Moving { left } => format!("{}.", moving(*left)),
        _ => "This station is just starting. Ask again in a moment.".to_owned(),
    }
}

/// Above what was done.
pub fn own_history(station: &StationId) -> String {
    format!("What was done at this PC (station {station}). Each station keeps its own list.")
}

pub fn last_write(wrote: &Wrote, here: bool, now: Timestamp, zone: &TimeZone) -> String {
    let station = if here { "this PC".to_owned() } else { format!("station {}", wrote.station) };
    format!("This record was last written by {station}, at {} by its clock.", until(wrote.at, now, zone))
}

/// When it was last seen, as the end of a sentence.
pub fn last_seen(seen: &Seen, now: Timestamp, zone: &TimeZone) -> String {
    let said = seen.said.map(|said| format!(" (by its own clock at {})", until(said, now, zone))).unwrap_or_default();
    match seen.last {
        _ if seen.here => "this station".to_owned(),
        Last::Ago(ago) => format!("seen {} ago", long(ago)),
        Last::NotFor(time) if seen.last.is_gone() => {
            format!("no sign of life for {}, as long as this station looks{said}", long(time))
        }
        Last::NotFor(time) => format!("watched for {} so far{said}", long(time)),
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
    let far = far(ahead);
    if ahead < 0 { format!("{far} behind") } else { format!("{far} ahead") }
}

/// To the nearest unit: three hours less a second are 3 h.
fn far(seconds: i64) -> String {
    match seconds.unsigned_abs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5_999 => format!("{} min", (seconds + 30) / 60),
        seconds @ 6_000..=172_799 => format!("{} h", (seconds + 1_800) / 3_600),
        seconds => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

fn server(server: &Server) -> &'static str {
    match server {
        Server::Shared => "AWS",
        Server::Of(_, side) => super::side(*side),
    }
}

/// A clock that is not in step with the others. `place` tells clinics apart.
pub fn wrong_clock(clock: &WrongClock, place: &str) -> String {
    match clock {
        WrongClock::Here { ahead } => {
            format!("The clock of this PC is {}. Nothing is lost; set it right.", off(*ahead))
        }
        WrongClock::There { server: of, ahead } => format!(
            "The clock of {}{place} is {} {} this PC's, which others agree with. Nothing is lost; IT can set it right.",
            server(of),
            far(*ahead),
            if *ahead < 0 { "behind" } else { "ahead of" }
        ),
        WrongClock::Either { server: of, ahead } => format!(
            "The clocks of this PC and of {}{place} differ by {}. Nothing is lost; IT can see which is wrong.",
            server(of),
            far(*ahead)
        ),
    }
}

/// Which clinic's server it is, if one's.
pub fn clock_of(clock: &WrongClock) -> Option<&FirmId> {
    match clock {
        WrongClock::There { server: Server::Of(firm, _), .. }
        | WrongClock::Either { server: Server::Of(firm, _), .. } => Some(firm),
        _ => None,
    }
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
