//! The words of tray, card, Sync now and pause.

use std::time::Duration;

use engine::{
    connection::{Health, Side},
    error::Code,
    manual::{Finished, Manual, Obstacle, Stage, Unwatched},
    snapshot::{ConnectionView, Pause, Snapshot, Verdict},
};
use jiff::{Timestamp, tz::TimeZone};

use super::{clock, long, sentence, side};
use crate::view::desk::PauseFor;

pub const STARTING: &str = "Starting...";
pub const FINISHING: &str = "Finishing what runs; then syncing stops";

/// `1 change`, `3 changes`.
pub fn many(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

pub fn needs_attention(items: u64) -> String {
    if items == 1 { "1 item needs attention".to_owned() } else { format!("{items} items need attention") }
}

/// Open conflicts.
pub fn both_changed(records: u64) -> String {
    format!("Both sides changed {}. Please choose.", many(records, "record"))
}

pub fn no_news(silent: Duration) -> String {
    format!("No news from the sync for {}", long(silent))
}

/// An engine that ended: by a fault of our own storage, or because it was told to.
pub fn ended(fatal: Option<Code>) -> String {
    match fatal {
        Some(code) => format!("Syncing has stopped. {}", sentence(code)),
        None => "Syncing has stopped. Start Chart Relay again to go on.".to_owned(),
    }
}

/// `14:30`, or with the day where that is not today.
pub fn until(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (time, today) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()).date());
    let form = if time.date() == today { "%H:%M" } else { "%A %d %B, %H:%M" };
    time.strftime(form).to_string()
}

pub fn paused(pause: &Pause, now: Timestamp, zone: &TimeZone) -> String {
    let by = pause.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
    format!("Paused until {}{by}", until(pause.until, now, zone))
}

/// The state in one line.
pub fn status(snapshot: &Snapshot, zone: &TimeZone) -> String {
    match &snapshot.verdict {
        Verdict::WrongClock { clock } => super::wrong_clock(clock, ""),
        Verdict::NeedsAttention { items } if *items == snapshot.conflicts => both_changed(*items),
        Verdict::NeedsAttention { items } => needs_attention(*items),
        Verdict::CannotReach { side: which, since, .. } => {
            format!("Can't reach {} since {}. Changes are kept.", side(*which), until(*since, snapshot.at, zone))
        }
        Verdict::CannotWatch { since, .. } => super::cannot_watch(&until(*since, snapshot.at, zone)),
        Verdict::CannotJoin { since, code } => super::waiting_for_aws(*since, *code, snapshot.at, zone),
        Verdict::NoStorage { since, code } => super::no_storage(*code, &until(*since, snapshot.at, zone)),
        Verdict::Moving { left } => super::moving(*left),
        Verdict::NoNews { for_ } => no_news(*for_),
        Verdict::Paused { until, by } => paused(&Pause { until: *until, by: by.clone() }, snapshot.at, zone),
        Verdict::Working { waiting } => format!("Syncing {}", many((*waiting).max(1), "change")),
        Verdict::Starting => STARTING.to_owned(),
        Verdict::UpToDate { at } => format!("Up to date, checked at {}", clock(*at, zone)),
    }
}

/// What a pass that was asked for does now; none once it has ended.
pub fn running(manual: &Manual) -> Option<String> {
    Some(match &manual.stage {
        Stage::Checking { side: which } => format!("Checking {}...", side(*which)),
        Stage::Sending => "Sending what was found...".to_owned(),
        Stage::Finished(_) => return None,
    })
}

/// How the last pass ended: "Manual sync 10:42: 3 sent, 0 failed."
pub fn last_sync(finished: &Finished, zone: &TimeZone) -> String {
    let Finished { at, sent, failed, waiting, complete, obstacles, ehrs } = finished;
    let waiting = if *waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
    let mut text = format!("Manual sync {}: {sent} sent, {failed} failed{waiting}.", clock(*at, zone));
    for obstacle in obstacles {
        text = format!("{text} {}", self::obstacle(obstacle));
    }
    for Unwatched { code, .. } in ehrs {
        text = format!("{text} {}", in_the_way("The EHR", *code, None));
    }
    if !complete {
        text.push_str(" It did not come to its end; the rest goes on by itself.");
    }
    text
}

fn obstacle(obstacle: &Obstacle) -> String {
    let who = match obstacle.side {
        Side::Fhir => "The chart system",
        Side::FileMaker => "FileMaker",
    };
    in_the_way(who, obstacle.code, obstacle.left)
}

fn in_the_way(who: &str, code: Code, left: Option<Duration>) -> String {
    match (code, left) {
        (Code::Throttled, Some(left)) => format!("{who} asks us to wait {}.", long(left)),
        (Code::Throttled, None) => format!("{who} asks us to slow down."),
        (Code::Unreachable | Code::NotAnswering | Code::TimedOut, _) => {
            format!("{who} could not be reached; nothing is lost.")
        }
        (code, _) => format!("{who}: {}", sentence(code)),
    }
}

pub const OPEN: &str = "Open Chart Relay";
pub const SYNC_NOW: &str = "Sync now";
pub const SYNC_NOW_PAUSED: &str = "Sync now (once; it stays paused)";
pub const SYNC_NOW_AWAY: &str = "Sync now (not possible: the sync does not answer)";
pub const PAUSE: &str = "Pause";
pub const RESUME: &str = "Resume";
pub const HIDE_NAMES: &str = "Hide patient names";
pub const HELP: &str = "Help";
pub const COPY_SUMMARY: &str = "Copy diagnostic summary (no patient data)";
pub const OPEN_LOGS: &str = "Open log folder";

/// "Sync now" while it runs.
pub fn syncing_now(manual: &Manual) -> Option<String> {
    running(manual).map(|running| format!("Sync now: {running}"))
}

pub fn attention_entry(items: u64) -> String {
    format!("Needs attention ({items})")
}

/// The lengths of a pause. `closing` is when the clinic closes, by the clock on the wall.
pub fn pause_for(length: PauseFor, closing: &str) -> String {
    match length {
        PauseFor::QuarterHour => "15 minutes".to_owned(),
        PauseFor::Hour => "1 hour".to_owned(),
        PauseFor::Closing => format!("Until closing time ({closing})"),
    }
}

/// The menu's last entry.
pub fn quit_entry(attached: bool, running: bool, waiting: u64) -> String {
    match (attached, running, waiting) {
        (true, _, _) => "Quit (the sync goes on)".to_owned(),
        (false, true, 0) => "Quit and stop syncing".to_owned(),
        (false, true, 1) => "Quit and stop syncing (1 change waits)".to_owned(),
        (false, true, many) => format!("Quit and stop syncing ({many} changes wait)"),
        (false, false, _) => "Quit".to_owned(),
    }
}

/// What quitting means: what stops, and what waits.
pub fn quit(attached: bool, running: bool, waiting: u64) -> String {
    match (attached, running) {
        (true, true) => "The sync goes on without this icon.".to_owned(),
        (true, false) => {
            "This icon goes. It does not start or stop the sync, which does not answer just now.".to_owned()
        }
        (false, true) => {
            let waits = match waiting {
                0 => "Nothing waits.".to_owned(),
                1 => "1 change waits.".to_owned(),
                many => format!("{many} changes wait."),
            };
            format!("Syncing stops until you start the app again. {waits}")
        }
        (false, false) => "Syncing does not run. It goes on when the app is started again.".to_owned(),
    }
}

pub const SIGN_IN_NEEDED: &str = "A sign-in for syncing needs renewing.";

pub fn attention_notice(items: u64) -> String {
    match items {
        1 => "1 item needs attention. Open the app to see it.".to_owned(),
        many => format!("{many} items need attention. Open the app to see them."),
    }
}

/// A side that cannot be reached, or the sync that says nothing.
pub fn outage_notice(what: Option<Side>) -> String {
    match what {
        Some(Side::FileMaker) => "Can't reach FileMaker. Nothing is lost; changes wait here.".to_owned(),
        Some(Side::Fhir) => "Can't reach the chart system. Nothing is lost; changes wait there.".to_owned(),
        None => "No news from the sync. Open the app to see since when.".to_owned(),
    }
}

pub fn recovered_notice(sent: u64) -> String {
    match sent {
        0 => "Back online. Nothing had to be sent.".to_owned(),
        1 => "Back online. 1 waiting change was sent.".to_owned(),
        many => format!("Back online. {many} waiting changes were sent."),
    }
}

// The card's causes

/// The window says the time of what it shows next to this.
pub const NOT_LIVE: &str = "Not live: the sync does not answer.";

pub fn overdue(leases: u64) -> String {
    match leases {
        1 => "1 record is held by a station that gives no sign of life. Nothing is lost.".to_owned(),
        many => format!("{many} records are held by a station that gives no sign of life. Nothing is lost."),
    }
}

pub fn endless(leases: u64) -> String {
    match leases {
        1 => "1 record is locked without an end, which is a fault. Nothing is lost; tell IT.".to_owned(),
        many => format!("{many} records are locked without an end, which is a fault. Nothing is lost; tell IT."),
    }
}

pub fn side_name(side: Side) -> &'static str {
    match side {
        Side::Fhir => "Chart system",
        Side::FileMaker => "FileMaker",
    }
}

/// A side that is away or stopped, as a cause. `place` tells clinics apart.
pub fn connection_down(connection: &ConnectionView, place: &str, now: Timestamp, zone: &TimeZone) -> String {
    match &connection.health {
        Health::Away { since, .. } => {
            format!(
                "Can't reach {}{place} since {}. Changes are kept.",
                side(connection.side),
                until(*since, now, zone)
            )
        }
        Health::Stopped { code, .. } => format!("{}{place}: {}", side_name(connection.side), sentence(*code)),
        Health::Unproven | Health::Up => String::new(),
    }
}

pub fn not_heard_from(side: Side, place: &str) -> String {
    format!("{}{place} has not answered since the start. It is being asked.", side_name(side))
}

pub fn not_polled(side: Side, resource: &str, silent: Duration) -> String {
    let side = match side {
        Side::Fhir => "The chart system",
        Side::FileMaker => "FileMaker",
    };
    format!("{side} has not said for {} what changed ({}).", long(silent), super::resource(resource))
}

/// A line of its own for each connection.
pub fn connection(connection: &ConnectionView, now: Timestamp, zone: &TimeZone) -> String {
    let late = connection.silent_for.filter(|silent| *silent > connection.probe_every * 3);
    match (&connection.health, late) {
        (Health::Up, None) => "answers".to_owned(),
        (Health::Up, Some(silent)) => format!("has said nothing for {}", long(silent)),
        (Health::Unproven, _) => "has not answered since the start".to_owned(),
        (Health::Away { since, code, .. }, _) => {
            format!("away since {}: {}", until(*since, now, zone), sentence(*code))
        }
        (Health::Stopped { since, code, subject, .. }, _) => {
            let at = subject.as_ref().map(|subject| format!(" at {subject}")).unwrap_or_default();
            format!("stopped{at} since {}: {}", until(*since, now, zone), sentence(*code))
        }
    }
}

/// For IT: words of the program's own.
pub fn in_short(connection: &ConnectionView) -> String {
    let heard = connection.silent_for.map_or("never heard".to_owned(), |silent| format!("heard {} ago", long(silent)));
    let vendor = |vendor: &Option<String>| vendor.as_ref().map(|vendor| format!(", {vendor}")).unwrap_or_default();
    match &connection.health {
        Health::Unproven => format!("unproven, {heard}"),
        Health::Up => format!("up, {heard}"),
        Health::Away { code, vendor: answer, failed_probes, .. } => {
            format!("away ({code}{}), {failed_probes} failed probes, {heard}", vendor(answer))
        }
        Health::Stopped { code, subject, vendor: answer, .. } => {
            let at = subject.as_ref().map(|subject| format!(" at {subject}")).unwrap_or_default();
            format!("stopped ({code}{at}{}), {heard}", vendor(answer))
        }
    }
}

pub fn sent_new(fields: u64) -> String {
    format!("Sent to FileMaker: new record with {}", many(fields, "field"))
}

pub fn sent(fields: u64) -> String {
    format!("Sent to FileMaker: {}", many(fields, "field"))
}

pub fn sent_to_chart(fields: u64) -> String {
    format!("Sent to the chart: {}", many(fields, "field"))
}

/// A sentence that began as a part of one.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
