//! The sentences. Each says what happened, what it means for the data, and what to do; the code itself is for "Details for IT".

use std::time::Duration;

use engine::{
    connection::{Health, Side},
    manual::{Manual, Stage},
    snapshot::{Phase, Snapshot, Verdict, What},
    status::Missing,
};
use jiff::{Timestamp, tz::TimeZone};

mod codes;
mod desk;
mod lists;
mod stations;
mod storage;
mod watching;

pub use codes::sentence;
pub use desk::*;
pub use lists::*;
pub use stations::*;
pub use storage::*;
pub use watching::*;

pub fn side(side: Side) -> &'static str {
    match side {
        Side::Fhir => "the chart system",
        Side::FileMaker => "FileMaker",
    }
}

/// `4 s`, `3 min`, `2 h`.
pub fn long(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5_999 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// That an EHR does not answer.
pub(crate) fn cannot_watch(since: &str) -> String {
    format!("Can't reach the EHR since {since}. What changes there is found when it answers again.")
}

/// `14:30`, by the clock on this wall.
pub fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// The first line of everything: tray, window, terminal.
pub fn verdict(verdict: &Verdict, zone: &TimeZone) -> String {
    match verdict {
        Verdict::WrongClock { clock } => wrong_clock(clock, ""),
        Verdict::NeedsAttention { items: 1 } => "1 item needs attention".to_owned(),
        Verdict::NeedsAttention { items } => format!("{items} items need attention"),
        Verdict::CannotReach { side: which, since, .. } => {
            format!("Can't reach {} since {}. Changes are kept.", side(*which), clock(*since, zone))
        }
        Verdict::CannotWatch { since, .. } => cannot_watch(&clock(*since, zone)),
        Verdict::CannotJoin { since, code } => waiting_for_aws(*since, *code, *since, zone),
        Verdict::NoStorage { since, code } => no_storage(*code, &clock(*since, zone)),
        Verdict::Moving { left } => moving(*left),
        Verdict::NoNews { for_ } => format!("No news from the sync for {}", long(*for_)),
        Verdict::Paused { until, by: None } => format!("Paused until {}", clock(*until, zone)),
        Verdict::Paused { until, by: Some(by) } => format!("Paused until {} ({by})", clock(*until, zone)),
        Verdict::Working { waiting: 0 | 1 } => "Syncing 1 change".to_owned(),
        Verdict::Working { waiting } => format!("Syncing {waiting} changes"),
        Verdict::Starting => "Starting...".to_owned(),
        Verdict::UpToDate { at } => format!("Up to date, proven at {}", at.to_zoned(zone.clone()).strftime("%H:%M:%S")),
    }
}

pub fn event(what: &What) -> String {
    match what {
        What::Created { fields } => format!("created with {fields} fields"),
        What::Edited { fields: 1 } => "1 field changed".to_owned(),
        What::Edited { fields } => format!("{fields} fields changed"),
        What::Updated { fields: 1 } => "1 field of the chart changed".to_owned(),
        What::Updated { fields } => format!("{fields} fields of the chart changed"),
        What::Entered { fields } => format!("entered into the chart with {fields} fields"),
        What::Linked => "linked to its record in the chart".to_owned(),
        What::Merged { to_row, to_chart } => format!("{to_row} to FileMaker and {to_chart} to the chart"),
        What::Waits { code } => format!("waits: {}", sentence(*code)),
        What::Retries { code, attempt } => format!("trying again after attempt {attempt}: {}", sentence(*code)),
        What::NeedsAttention { code } => format!("needs attention: {}", sentence(*code)),
        What::Kept { code } => sentence(*code).to_owned(),
    }
}

pub fn health(health: &Health) -> String {
    match health {
        Health::Unproven => "not heard from yet".to_owned(),
        Health::Up => "answers".to_owned(),
        Health::Away { code, .. } => format!("away: {}", sentence(*code)),
        Health::Stopped { code, subject: None, .. } => format!("stopped: {}", sentence(*code)),
        Health::Stopped { code, subject: Some(subject), .. } => format!("stopped at {subject}: {}", sentence(*code)),
    }
}

/// Rows that are gone in FileMaker, so many that a person has to say what follows.
pub fn missing(of: &str, missing: Missing) -> String {
    let Missing { rows, of: all } = missing;
    format!(
        "{rows} of {all} FileMaker records are gone at once ({of}). Nothing was done about it. If the file is right and they were \
         deleted on purpose, somebody must say so; if they come back, it goes on by itself."
    )
}

/// The whole of it in a few lines, for `chart-relay status` and the end of a demo.
pub fn summary(snapshot: &Snapshot, zone: &TimeZone) -> Vec<String> {
    let totals = &snapshot.totals;
    let mut lines = vec![verdict(&snapshot.verdict, zone)];
    if snapshot.phase == Phase::Joining {
        lines.push("  what waits is not known until the shared queue and ledger answer".to_owned());
        return lines;
    }
    for connection in &snapshot.connections {
        let name = format!("{} of {}", side(connection.side), connection.firm);
        lines.push(format!("  {name}: {}", health(&connection.health)));
    }
    lines.extend(snapshot.watching.iter().map(|ehr| format!("  {}", watched(ehr, zone))));
    for clock in snapshot.clocks.iter().filter(|clock| !clock.concerns_here()) {
        let place = clock_of(clock).map(|firm| format!(" of {firm}")).unwrap_or_default();
        lines.push(format!("  {}", wrong_clock(clock, &place)));
    }
    for poll in &snapshot.polls {
        let of = format!("{} of {}", resource(poll.resource.as_str()), poll.firm);
        lines.extend(poll.missing.map(|gone| format!("  {}", missing(&of, gone))));
        lines.extend(poll.remark.map(|code| format!("  {of}: {}", sentence(code))));
    }
    lines.extend(snapshot.storage.iter().map(|trouble| format!("  {}", storage(trouble, snapshot.at, zone))));
    if let Some(Manual { stage: Stage::Finished(finished), .. }) = &snapshot.manual {
        lines.push(format!("  {}", last_sync(finished, zone)));
    }
    lines.push(format!(
        "  {} links known, {} waiting, {} need attention, {} changed on both sides, {} with a kept difference or remark",
        snapshot.records, snapshot.wanted, snapshot.dead, snapshot.conflicts, snapshot.differs
    ));
    lines.push(format!(
        "  since the start: {} rows created, {} edited, {} changes to the chart, {} runs found nothing to do, {} hints joined another run, {} tried again",
        totals.rows_created,
        totals.rows_edited,
        totals.resources_updated,
        totals.unchanged, totals.coalesced, totals.retries
    ));
    lines
}
