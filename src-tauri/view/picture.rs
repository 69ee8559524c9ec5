//! The window's picture, made of the engine's: the card with its causes, Sync now, the pause, the overview and the day.

use std::time::Duration;

use engine::{
    connection::Health,
    journal::{self, Journal},
    key::RecordKey,
    manual::{Manual, Stage},
    snapshot::{ConnectionView, Event, Pause, Phase, Snapshot, Totals, Verdict, What},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    desk::{Card, Cause, Desk, Go, Live, PauseNow, Right, Settings, State, Station, SyncNow},
    face::{Face, Input},
    names::Context,
    overview::{Bin, ConnectionLine, Day, Overview, RecentLine, StationLine},
    words,
};
use crate::stations::Seen;

/// The oldest change that waits should be younger than this.
pub const TARGET: Duration = Duration::from_secs(2 * 60);

/// So many lines of "recent" fit.
const RECENT: usize = 10;

/// Makes one picture after the other.
#[derive(Debug, Default)]
pub struct Picture {
    face: Face,
    revision: u64,
    lists: Option<Lists>,
}

/// What the lists depend on; the rest of a snapshot moves every second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lists {
    totals: Totals,
    counts: [u64; 8],
    running: Vec<RecordKey>,
    health: Vec<Health>,
    storage: Vec<Health>,
    newest: Option<Event>,
    pause: Option<Pause>,
    manual: Option<Manual>,
}

impl Lists {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            totals: snapshot.totals,
            counts: [
                snapshot.records,
                snapshot.wanted,
                snapshot.leases_held,
                snapshot.leases_overdue,
                snapshot.leases_endless,
                snapshot.dead,
                snapshot.differs,
                snapshot.conflicts,
            ],
            running: snapshot.running.clone(),
            health: snapshot.connections.iter().map(|connection| connection.health.clone()).collect(),
            storage: snapshot.storage.clone(),
            newest: snapshot.recent.front().cloned(),
            pause: snapshot.pause.clone(),
            manual: snapshot.manual.clone(),
        }
    }
}

impl Picture {
    /// The picture as it is now; none before the engine has shown itself. `elapsed` is a clock that never goes back.
    pub fn desk(
        &mut self,
        input: &Input<'_>,
        station: Station,
        context: &Context<'_>,
        elapsed: Duration,
    ) -> Option<Desk> {
        let look = self.face.look(input, elapsed);
        let snapshot = input.last()?;
        let lists = Lists::of(snapshot);
        if self.lists.as_ref() != Some(&lists) {
            self.lists = Some(lists);
            self.revision += 1;
        }
        Some(Desk {
            revision: self.revision,
            live: live(input),
            card: Card {
                state: look.state,
                sentence: look.sentence,
                at: words::instant(look.at),
                causes: causes(input, context),
            },
            sync: sync(input, snapshot),
            pause: snapshot.pause.as_ref().map(|pause| PauseNow {
                until: words::instant(pause.until),
                sentence: words::paused(pause, input.now, input.zone),
            }),
            overview: overview(input, snapshot, context),
            waiting: snapshot.wanted,
            attention: input.attention(),
            conflicts: snapshot.conflicts,
            watches: !snapshot.watching.is_empty(),
            station,
        })
    }
}

impl Station {
    /// Who sits here, and what they may do.
    pub fn new(settings: &Settings, name: String, person: String) -> Self {
        Self {
            name,
            person,
            role: settings.role,
            rights: settings.role.rights().to_vec(),
            pauses: settings.role.pauses().to_vec(),
            privacy: settings.privacy,
            lock_after_minutes: u32::try_from(settings.lock_after.as_secs().div_ceil(60)).unwrap_or(u32::MAX),
            pin: false,
            demo: false,
            tray: false,
        }
    }
}

fn live(input: &Input<'_>) -> Live {
    let Some(snapshot) = input.last() else { return Live::Live };
    let between = matches!(snapshot.phase, Phase::Joining | Phase::Draining);
    if input.live().is_some() || (input.silent().is_none() && between) {
        return Live::Live;
    }
    Live::Silent { since: words::instant(snapshot.at), sentence: words::NOT_LIVE.to_owned() }
}

fn sync(input: &Input<'_>, snapshot: &Snapshot) -> SyncNow {
    let running = input.live().and_then(|live| live.manual.as_ref()).and_then(words::running);
    SyncNow {
        can: input.live().is_some() && running.is_none() && input.settings.role.has(Right::SyncNow),
        running,
        last: match &snapshot.manual {
            Some(Manual { stage: Stage::Finished(finished), .. }) => Some(words::last_sync(finished, input.zone)),
            _ => None,
        },
    }
}

/// Everything that is not well, in the order of precedence of the states.
fn causes(input: &Input<'_>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut add = |state, sentence: String, go, details| causes.push(Cause { state, sentence, go, details });
    if let Some(trouble) = input.trouble {
        add(State::NeedsAttention, trouble.to_owned(), Some(Go::Summary), Vec::new());
    }
    let Some(snapshot) = input.last() else { return causes };
    if snapshot.phase == Phase::Stopped || snapshot.fatal.is_some() {
        let details = context.details([("Code", snapshot.fatal.map(|code| code.to_string()))]);
        add(State::NeedsAttention, words::ended(snapshot.fatal), Some(Go::Summary), details);
    }
    for clock in &snapshot.clocks {
        let place = words::clock_of(clock).filter(|_| context.several());
        let place = place.map(|firm| format!(" ({})", context.firm(firm))).unwrap_or_default();
        let state = if clock.concerns_here() { State::NeedsAttention } else { State::UpToDate };
        add(state, words::wrong_clock(clock, &place), Some(Go::Summary), Vec::new());
    }
    if snapshot.dead > 0 {
        let sentence = words::needs_attention(snapshot.dead);
        add(State::NeedsAttention, sentence, Some(Go::QueueAttention), Vec::new());
    }
    if snapshot.conflicts > 0 {
        let sentence = words::both_changed(snapshot.conflicts);
        add(State::NeedsAttention, sentence, Some(Go::Conflicts), Vec::new());
    }
    if snapshot.leases_overdue > 0 {
        add(State::NeedsAttention, words::overdue(snapshot.leases_overdue), Some(Go::LocksOverdue), Vec::new());
    }
    if snapshot.leases_endless > 0 {
        add(State::NeedsAttention, words::endless(snapshot.leases_endless), Some(Go::LocksOverdue), Vec::new());
    }
    for poll in &snapshot.polls {
        let Some(missing) = poll.missing else { continue };
        let of = words::resource(poll.resource.as_str());
        let of = if context.several() { format!("{of}, {}", context.firm(&poll.firm)) } else { of.to_owned() };
        add(State::NeedsAttention, words::missing(&of, missing), Some(Go::Summary), Vec::new());
    }
    for trouble in &snapshot.storage {
        let (state, go) = match trouble {
            Health::Stopped { .. } => (State::NeedsAttention, Go::Summary),
            _ => (State::CannotReach, Go::QueueWaiting),
        };
        add(
            state,
            words::storage(trouble, snapshot.at, input.zone),
            Some(go),
            context.details(health_details(trouble)),
        );
    }
    let mut connections: Vec<_> = snapshot.connections.iter().collect();
    connections.sort_by_key(|connection| match connection.health {
        Health::Stopped { .. } => 0,
        Health::Away { .. } => 1,
        Health::Unproven => 2,
        Health::Up => 3,
    });
    for connection in &connections {
        let go = match connection.health {
            Health::Stopped { .. } => (State::NeedsAttention, Go::Summary),
            Health::Away { .. } => (State::CannotReach, Go::QueueWaiting),
            Health::Unproven | Health::Up => continue,
        };
        let sentence = words::connection_down(connection, &place(connection, context), snapshot.at, input.zone);
        add(go.0, sentence, Some(go.1), details(connection, context));
    }
    if let Verdict::CannotJoin { since, code } = snapshot.verdict {
        let sentence = words::waiting_for_aws(since, code, snapshot.at, input.zone);
        add(State::CannotReach, sentence, Some(Go::Summary), context.details([("Code", Some(code.to_string()))]));
    }
    if let Some(silent) = input.silent() {
        add(State::NoNews, words::no_news(silent), Some(Go::Summary), Vec::new());
    } else if snapshot.pause.is_none() && input.live().is_some() {
        for poll in &snapshot.polls {
            if let Some(silent) = poll.polled.filter(|polled| *polled > poll.every * 3) {
                let sentence = words::not_polled(poll.side, poll.resource.as_str(), silent);
                add(State::NoNews, sentence, Some(Go::Summary), Vec::new());
            }
        }
    }
    if let Some(pause) = &snapshot.pause {
        let sentence = words::paused(pause, input.now, input.zone);
        let resume = input.live().is_some() && input.settings.role.has(Right::Pause);
        add(State::Paused, sentence, resume.then_some(Go::Resume), Vec::new());
    }
    for connection in connections.iter().filter(|connection| connection.health == Health::Unproven) {
        add(State::Starting, words::not_heard_from(connection.side, &place(connection, context)), None, Vec::new());
    }
    causes.sort_by_key(|cause| cause.state);
    causes
}

/// " (North Clinic)" where there are several clinics.
fn place(connection: &ConnectionView, context: &Context<'_>) -> String {
    if context.several() { format!(" ({})", context.firm(&connection.firm)) } else { String::new() }
}

fn details(connection: &ConnectionView, context: &Context<'_>) -> Vec<super::desk::Detail> {
    let own = [
        ("Clinic", Some(connection.firm.to_string())),
        ("Last answer", connection.silent_for.map(|silent| format!("{} ago", words::long(silent)))),
    ];
    context.details(health_details(&connection.health).into_iter().chain(own))
}

fn health_details(health: &Health) -> [(&'static str, Option<String>); 3] {
    let (code, subject, vendor) = match health {
        Health::Stopped { code, subject, vendor, .. } => (Some(code.to_string()), subject.clone(), vendor.clone()),
        Health::Away { code, vendor, .. } => (Some(code.to_string()), None, vendor.clone()),
        Health::Unproven | Health::Up => (None, None, None),
    };
    [("Code", code), ("Concerns", subject), ("Answer", vendor)]
}

fn overview(input: &Input<'_>, snapshot: &Snapshot, context: &Context<'_>) -> Overview {
    Overview {
        connections: snapshot
            .connections
            .iter()
            .map(|connection| ConnectionLine {
                firm: context.firm(&connection.firm),
                name: words::side_name(connection.side).to_owned(),
                good: connection.health == Health::Up,
                sentence: [words::connection(connection, snapshot.at, input.zone)]
                    .into_iter()
                    .chain(remarks(snapshot, connection))
                    .collect::<Vec<_>>()
                    .join(". "),
                details: details(connection, context),
            })
            .collect(),
        known: snapshot.phase != Phase::Joining,
        waiting: snapshot.wanted,
        oldest_seconds: snapshot.oldest_wanted.map(|oldest| oldest.as_secs()),
        target_seconds: TARGET.as_secs(),
        sent_today: sent_today(&snapshot.journal, input.now, input.zone),
        attention: input.attention(),
        recent: snapshot.recent.iter().take(RECENT).map(|event| recent(event, context)).collect(),
        stations: context.stations.iter().map(|seen| station(seen, input, context)).collect(),
    }
}

fn station(seen: &Seen, input: &Input<'_>, context: &Context<'_>) -> StationLine {
    let clock = seen.clock_ahead.map(|ahead| format!("; {}", words::its_clock(ahead))).unwrap_or_default();
    StationLine {
        name: if seen.here { format!("This PC ({})", seen.station) } else { seen.station.to_string() },
        good: seen.here || seen.last.lives(),
        sentence: if seen.here {
            format!("takes part{clock}")
        } else {
            format!("{}{clock}", words::last_seen(seen, input.now, input.zone))
        },
        details: context.details([
            ("Station", Some(seen.station.to_string())),
            ("Installation", Some(seen.id.clone())),
            ("Version", seen.version.clone()),
            ("Wrote last, by its own clock", seen.said.map(words::instant)),
        ]),
    }
}

/// What a person should know of how changes are found at a side, each once.
fn remarks(snapshot: &Snapshot, connection: &ConnectionView) -> Vec<String> {
    let polls = snapshot.polls.iter().filter(|poll| poll.firm == connection.firm && poll.side == connection.side);
    let mut codes: Vec<_> = polls.filter_map(|poll| poll.remark).collect();
    codes.sort();
    codes.dedup();
    codes.into_iter().map(|code| words::sentence(code).trim_end_matches('.').to_owned()).collect()
}

fn recent(event: &Event, context: &Context<'_>) -> RecentLine {
    RecentLine {
        at: words::instant(event.at),
        sentence: match &event.what {
            What::Created { fields } => words::sent_new(*fields as u64),
            What::Edited { fields } => words::sent(*fields as u64),
            What::Updated { fields } => words::sent_to_chart(*fields as u64),
            other => words::capital(&words::event(other)),
        },
        record: context.record(&event.key),
    }
}

/// The first moment of today, by the clock on the wall.
fn midnight(now: Timestamp, zone: &TimeZone) -> Timestamp {
    now.to_zoned(zone.clone()).start_of_day().map_or(now, |start| start.timestamp())
}

fn sent_today(journal: &Journal, now: Timestamp, zone: &TimeZone) -> u64 {
    let midnight = midnight(now, zone);
    journal.bins.iter().filter(|bin| bin.from >= midnight).map(|bin| bin.sent).sum()
}

/// The last 24 hours, a bin for each quarter of an hour whether the program ran or not.
pub fn day(journal: &Journal, now: Timestamp, zone: &TimeZone) -> Day {
    let quarter = journal::BIN.as_secs().cast_signed();
    let newest = now.as_second().div_euclid(quarter) * quarter;
    let bins = (0..journal::BINS as i64).rev().map(|back| {
        let from = Timestamp::from_second(newest - back * quarter).unwrap_or(now);
        let bin = journal.bins.iter().find(|bin| bin.from == from);
        let within = |part| bin.and_then(|bin| bin.latency.within(part)).map(|time| time.as_millis() as u64);
        Bin {
            from: words::instant(from),
            state: bin.and_then(|bin| bin.dominant()),
            sent: bin.map_or(0, |bin| bin.sent),
            failed: bin.map_or(0, |bin| bin.failed),
            p50_ms: within(0.5),
            p95_ms: within(0.95),
        }
    });
    let bins: Vec<_> = bins.collect();
    let quiet = sent_today(journal, now, zone) == 0;
    Day {
        from: bins.first().map_or_else(|| words::instant(now), |bin| bin.from.clone()),
        bins,
        target_seconds: TARGET.as_secs(),
        last_sent: journal.last_sent.filter(|_| quiet).map(words::instant),
    }
}

/// What IT is sent: how things stand, without patients, records, persons or names of clinics.
pub fn summary(input: &Input<'_>, version: &str) -> String {
    let mut lines = vec![
        format!("Chart Relay {version} on {} ({})", std::env::consts::OS, std::env::consts::ARCH),
        format!("At {}", input.now.to_zoned(input.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z")),
    ];
    lines.extend(input.trouble.map(|trouble| format!("Does not run: {trouble}")));
    let Some(snapshot) = input.last() else {
        lines.push("Nothing was heard from the sync yet.".to_owned());
        return lines.join("\n");
    };
    let age = SignedDuration::try_from(input.silent().unwrap_or_default()).unwrap_or_default();
    if !age.is_zero() {
        lines.push(format!("{}; everything below is from then.", words::no_news(age.unsigned_abs())));
    }
    lines.push(format!("State: {:?} ({:?})", snapshot.verdict.state(), snapshot.phase));
    lines.extend(snapshot.fatal.map(|code| format!("Ended by: {code}")));
    lines.extend(snapshot.clocks.iter().map(|clock| words::wrong_clock(clock, "")));
    if let Verdict::CannotJoin { code, .. } = snapshot.verdict {
        lines.push(format!("Waits for AWS: {code}"));
    }
    lines.extend(snapshot.pause.as_ref().map(|pause| format!("Paused until {}", words::instant(pause.until))));
    let mut clinics: Vec<_> = snapshot.connections.iter().map(|connection| &connection.firm).collect();
    clinics.dedup();
    for connection in &snapshot.connections {
        let clinic = clinics.iter().position(|firm| **firm == connection.firm).unwrap_or_default() + 1;
        lines.push(format!("Clinic {clinic}, {}: {}", words::side_name(connection.side), words::in_short(connection)));
    }
    lines.extend(snapshot.storage.iter().map(|trouble| words::storage(trouble, snapshot.at, input.zone)));
    let ago = |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("{} ago", words::long(time)));
    for poll in &snapshot.polls {
        let clinic = clinics.iter().position(|firm| **firm == poll.firm).unwrap_or_default() + 1;
        lines.push(format!(
            "Clinic {clinic}, {} in {}: polled {}, swept {}{}",
            poll.resource,
            words::side_name(poll.side),
            ago(poll.polled),
            ago(poll.swept),
            poll.remark.map(|code| format!(" ({code})")).unwrap_or_default()
        ));
    }
    let oldest = snapshot.oldest_wanted.map(|oldest| format!(", oldest {}", words::long(oldest))).unwrap_or_default();
    lines.push(format!("Waiting: {}{oldest}; in the queue: {}", snapshot.wanted, snapshot.queue_waiting));
    lines.push(format!(
        "Needs attention: {}; conflicts: {}; locks: {} held, {} overdue, {} without end; remarks: {}",
        snapshot.dead,
        snapshot.conflicts,
        snapshot.leases_held,
        snapshot.leases_overdue,
        snapshot.leases_endless,
        snapshot.differs
    ));
    let totals = &snapshot.totals;
    lines.push(format!(
        "Since the start: {} created, {} changed, {} sent to the chart, {} unchanged, {} retries, {} failed",
        totals.rows_created,
        totals.rows_edited,
        totals.resources_updated,
        totals.unchanged,
        totals.retries,
        totals.failed
    ));
    if let Some(Manual { stage: Stage::Finished(finished), .. }) = &snapshot.manual {
        lines.push(words::last_sync(finished, input.zone));
    }
    lines.join("\n")
}
