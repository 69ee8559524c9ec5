//! What a poller watches: one resource type of the chart system, or the table of the clinic's database that it is mapped to. Both
//! answer the same question: which records are there, in which version, stamped when.
//!
//! FileMaker stamps in the local time of its host, to the second. A stamp becomes an instant by the clinic's zone, and of the two
//! instants that it means when clocks go back, the later one if the host has come to it. The way back asks for the earliest stamp
//! that a change since then can carry.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::{Poller, Unfinished};
use crate::{
    connection::Side,
    error::Code,
    hint::Subject,
    key::{ResourceId, RowUuid},
    ports::{PageToken, RowChange},
    settings::Firm,
};

/// How far ahead of the host's clock a stamp may be. FileMaker's "modification timestamp" is of the clock of whoever's computer made
/// the change.
const AHEAD: SignedDuration = SignedDuration::from_secs(120);

/// One record that may have changed.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) subject: Subject,
    pub(super) version: String,
    /// When the source stamped it; none where it has no stamp that can be read.
    pub(super) at: Option<Timestamp>,
    /// FileMaker's own stamp.
    pub(super) stamp: Option<DateTime>,
}

impl Line {
    /// This version of this record.
    pub(super) fn name(&self) -> String {
        match &self.subject {
            Subject::Resource(id) => format!("{id} {}", self.version),
            Subject::Row(row) => format!("row {row} {}", self.version),
        }
    }

    /// The line that has this name.
    pub(super) fn named(name: &str, at: Timestamp) -> Option<Line> {
        let (subject, version) = name.rsplit_once(' ')?;
        let subject = match subject.strip_prefix("row ") {
            Some(row) => Subject::Row(RowUuid::new(row).ok()?),
            None => Subject::Resource(ResourceId::new(subject).ok()?),
        };
        Some(Line { subject, version: version.to_owned(), at: Some(at), stamp: None })
    }
}

#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) lines: Vec<Line>,
    /// FHIR ids of the rows listed.
    pub(super) keys: Vec<String>,
    pub(super) next: Option<PageToken>,
    /// The source's own clock when it answered.
    pub(super) time: Option<Timestamp>,
    /// A stamp is ahead of that clock.
    pub(super) ahead: bool,
    /// Rows that nothing can be called by.
    pub(super) nameless: u64,
}

impl Poller {
    /// One page of what changed at or after `since`, or of everything.
    pub(super) async fn page(
        &self,
        firm: &Firm,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Page, Unfinished> {
        let list = match self.side {
            Side::Fhir => self.resources(firm, since, page).await,
            Side::FileMaker => self.rows(firm, since, page).await,
        }?;
        self.reconciler.connections.answered(&self.firm, self.side);
        Ok(list)
    }

    async fn resources(
        &self,
        firm: &Firm,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Page, Unfinished> {
        let changes = firm.ports.fhir.changes(&self.resource, since, page).await.map_err(Unfinished::Fault)?;
        let lines = changes.changes.into_iter().map(|change| Line {
            subject: Subject::Resource(change.id),
            version: change.version,
            at: Some(change.last_updated),
            stamp: None,
        });
        Ok(Page { lines: lines.collect(), next: changes.next, time: changes.server_time, ..Page::default() })
    }

    async fn rows(&self, firm: &Firm, since: Option<Timestamp>, page: Option<&PageToken>) -> Result<Page, Unfinished> {
        let Some(mapping) = firm.mapping.resources.get(&self.resource) else { return Ok(Page::default()) };
        let since = since.map(|since| earliest_stamp(since, &firm.zone));
        let changed = firm.ports.clinic.changed(&mapping.table, since, page).await;
        let changes = changed.map_err(|fault| match fault.code {
            // The layout lacks the fields: it is written to as before, and that stops nothing.
            Code::FieldMissing => Unfinished::NotWatched,
            _ => Unfinished::Fault(fault),
        })?;
        let time = changes.host_time;
        let mut list = Page { next: changes.next, time, ..Page::default() };
        for row in changes.changes {
            let at = row.modified.and_then(|stamp| instant(stamp, &firm.zone, time));
            list.ahead |= at.zip(time).is_some_and(|(at, time)| at.duration_since(time) > AHEAD);
            match subject(&row) {
                Some(subject) => {
                    let version = row.mod_id.0;
                    list.lines.push(Line { subject, version, at, stamp: row.modified });
                }
                None => list.nameless += 1,
            }
            list.keys.extend(row.key);
        }
        Ok(list)
    }
}

/// A row with a FHIR id is hinted as that resource. One whose FHIR id is none is looked at as if it had none, and found out then.
fn subject(row: &RowChange) -> Option<Subject> {
    match row.key.as_ref().and_then(|key| ResourceId::new(key.as_str()).ok()) {
        Some(id) => Some(Subject::Resource(id)),
        None => row.uuid.clone().map(Subject::Row),
    }
}

/// When a stamp was made, as far as can be told.
fn instant(stamp: DateTime, zone: &TimeZone, now: Option<Timestamp>) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(stamp);
    let later = ambiguous.later().ok()?;
    if now.is_some_and(|now| later <= now) { Some(later) } else { ambiguous.earlier().ok() }
}

/// The least stamp that a change at or after this instant can carry: earlier than its own where clocks go back soon after it.
fn earliest_stamp(since: Timestamp, zone: &TimeZone) -> DateTime {
    let day = since.saturating_add(SignedDuration::from_hours(25)).unwrap_or(Timestamp::MAX);
    let local = |at: Timestamp| zone.to_datetime(at);
    let back = zone.following(since).map(|change| change.timestamp()).take_while(|at| *at <= day).map(local);
    let least = back.chain([local(since)]).min().unwrap_or_else(|| local(since));
    least.with().subsec_nanosecond(0).build().unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> TimeZone {
        TimeZone::get("America/New_York").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stamp(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_stamp_of_the_hour_that_comes_twice_is_of_the_second_time_once_the_host_has_come_to_it() {
        // On 2026-11-01 at 06:00 UTC New York goes back from 02:00 to 01:00.
        let early = Some(at("2026-11-01T05:50:00Z"));
        assert_eq!(instant(stamp("2026-11-01T01:45:00"), &zone(), early), Some(at("2026-11-01T05:45:00Z")));
        let late = Some(at("2026-11-01T06:50:00Z"));
        assert_eq!(instant(stamp("2026-11-01T01:45:00"), &zone(), late), Some(at("2026-11-01T06:45:00Z")));
        assert_eq!(instant(stamp("2026-11-01T01:55:00"), &zone(), late), Some(at("2026-11-01T05:55:00Z")), "not yet");
        assert_eq!(instant(stamp("2026-11-01T01:45:00"), &zone(), None), Some(at("2026-11-01T05:45:00Z")));
        // In spring, 02:30 is never; a clock that says so is wrong by an hour at most.
        let gap = instant(stamp("2026-03-08T02:30:00"), &zone(), None).unwrap();
        assert!((at("2026-03-08T06:30:00Z")..=at("2026-03-08T07:30:00Z")).contains(&gap));
    }

    #[test]
    fn what_is_asked_for_reaches_back_over_the_hour_that_comes_twice() {
        let asked = |since: &str| earliest_stamp(at(since), &zone()).to_string();
        assert_eq!(asked("2026-11-01T04:30:00.25Z"), "2026-11-01T00:30:00", "before the hour that repeats");
        assert_eq!(asked("2026-11-01T05:50:00Z"), "2026-11-01T01:00:00", "01:50 is followed by 01:00");
        assert_eq!(asked("2026-11-01T06:10:00Z"), "2026-11-01T01:10:00");
        assert_eq!(asked("2026-11-01T07:10:00Z"), "2026-11-01T02:10:00");
        assert_eq!(asked("2026-03-08T06:55:00Z"), "2026-03-08T01:55:00");
        assert_eq!(asked("2026-07-01T12:00:00Z"), "2026-07-01T08:00:00");
    }
}
