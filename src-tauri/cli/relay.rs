//! The commands that ask the running relay.

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use engine::{
    action::{Action, AsideReason},
    key::{FirmId, RecordKey, ResourceType},
    ledger::{Filter, Record},
};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    complain, duration,
    person::Console,
    place::Place,
    settle::{self, SettleArgs},
};
use crate::{
    account,
    control::{Answer, Letter, OpenConflict, Request, pause_until},
    socket,
    view::words,
};

#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// The verdict, the connections and the figures of the running relay
    Status,
    /// What waits to be synced
    Queue,
    /// Which records are held, by which station
    Locks,
    /// What needs a person: dead letters with their reason
    Dead,
    /// Records with a kept difference or another remark
    Remarks,
    /// Records of which both sides changed the same field: which fields, since when
    Conflicts,
    /// Decide one of them
    Settle(SettleArgs),
    /// Read these records on both sides and write what differs, whatever stopped them
    Resync {
        #[arg(required = true, value_parser = record_key)]
        keys: Vec<RecordKey>,
    },
    /// Poll everything and try what waits, now
    SyncNow,
    /// Begin nothing new for a while
    Pause {
        /// Such as 15min
        #[arg(value_parser = duration)]
        long: Duration,
    },
    /// End a pause
    Resume,
    /// Run these records again
    Retry {
        /// As `queue` and `dead` list them: firm/link/Patient/123
        #[arg(required = true, value_parser = record_key)]
        keys: Vec<RecordKey>,
    },
    /// Take these dead records out of "needs attention"
    SetAside {
        #[arg(required = true, value_parser = record_key)]
        keys: Vec<RecordKey>,
        /// entered-by-hand, not-needed, duplicate or asked-it
        #[arg(long, default_value = "not-needed", value_parser = aside_reason)]
        reason: AsideReason,
    },
    /// Put records that were set aside back under "needs attention"
    PutBack {
        #[arg(required = true, value_parser = record_key)]
        keys: Vec<RecordKey>,
    },
    /// Say that the FileMaker records that `status` misses were deleted on purpose
    Deleted {
        /// The clinic's id, such as north
        #[arg(value_parser = firm_id)]
        firm: FirmId,
        /// The FHIR resource type, such as Patient
        #[arg(value_parser = resource_type)]
        resource: ResourceType,
    },
    /// Throw these unreadable messages away
    DropLetters {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Tell the running relay to finish and end
    Stop,
}

const LISTED: usize = 200;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn record_key(text: &str) -> Result<RecordKey, String> {
    RecordKey::parse(text).ok_or_else(|| "write it as it is listed, such as north/link/Patient/123".to_owned())
}

fn firm_id(text: &str) -> Result<FirmId, String> {
    FirmId::new(text).map_err(|why| why.to_string())
}

fn resource_type(text: &str) -> Result<ResourceType, String> {
    ResourceType::new(text).map_err(|why| why.to_string())
}

fn aside_reason(text: &str) -> Result<AsideReason, String> {
    AsideReason::parse(text).ok_or_else(|| {
        let reasons: Vec<_> = AsideReason::ALL.map(AsideReason::as_str).to_vec();
        format!("one of {}", reasons.join(", "))
    })
}

pub async fn run(command: RelayCommand, place: &Place) -> ExitCode {
    let status = matches!(command, RelayCommand::Status);
    let person = account::name();
    let act = |action| Request::Act { action, person: person.clone() };
    let records = |filter| Request::Records { filter, after: None, limit: LISTED };
    let requests = match command {
        RelayCommand::Status => vec![Request::Snapshot, Request::Spent],
        RelayCommand::Queue => vec![records(Filter::Wanted)],
        RelayCommand::Locks => vec![records(Filter::Held)],
        RelayCommand::Dead => vec![records(Filter::Dead), Request::DeadLetters { limit: LISTED }],
        RelayCommand::Remarks => vec![records(Filter::Noticed)],
        RelayCommand::Conflicts => vec![Request::Conflicts { after: None, limit: LISTED }],
        RelayCommand::Settle(args) => return settle::run(args, place, &mut Console).await,
        RelayCommand::Resync { keys } => vec![act(Action::Resync { keys })],
        RelayCommand::SyncNow => vec![act(Action::SyncNow)],
        RelayCommand::Pause { long } => vec![act(Action::Pause { until: pause_until(Timestamp::now(), long) })],
        RelayCommand::Resume => vec![act(Action::Resume)],
        RelayCommand::Retry { keys } => vec![act(Action::Retry { keys })],
        RelayCommand::SetAside { keys, reason } => vec![act(Action::SetAside { keys, reason })],
        RelayCommand::PutBack { keys } => vec![act(Action::PutBack { keys })],
        RelayCommand::DropLetters { ids } => vec![act(Action::DropLetters { ids })],
        RelayCommand::Deleted { firm, resource } => vec![act(Action::Deleted { firm, resource })],
        RelayCommand::Stop => vec![Request::Stop],
    };
    let mut lines: Option<Vec<Line>> = None;
    let mut more = false;
    for request in requests {
        let waits_for_a_run = matches!(&request, Request::Act { action, .. } if action.is_answered_by_a_run());
        let patience = if waits_for_a_run { settle::PATIENCE } else { PATIENCE };
        let (listed, cut) = match socket::call(&place.data, &request, patience).await {
            Ok(Answer::Refused(why)) => return complain(&why),
            Ok(Answer::Records { records, total }) => {
                let cut = total > records.len() as u64;
                (records.iter().map(record_line).collect::<Vec<_>>(), cut)
            }
            Ok(Answer::Conflicts { conflicts, more }) => (conflicts.into_iter().map(conflict_line).collect(), more),
            Ok(Answer::DeadLetters { letters, more }) => (letters.into_iter().map(letter_line).collect(), more),
            Ok(answer) => {
                print(&answer);
                continue;
            }
            Err(error) => return complain(&error),
        };
        lines.get_or_insert_default().extend(listed);
        more |= cut;
    }
    if let Some(lines) = lines {
        list(&lines, more);
    }
    if status && place.config.shared.is_some() {
        others(place).await;
    }
    ExitCode::SUCCESS
}

/// Who else takes part; where that is not known, the status has said why.
async fn others(place: &Place) {
    if let Ok(Answer::Stations(stations)) = socket::call(&place.data, &Request::Stations, PATIENCE).await {
        let (now, zone) = (Timestamp::now(), TimeZone::system());
        for seen in stations.iter().filter(|seen| !seen.here) {
            println!("  station {}: {}", seen.station, words::last_seen(seen, now, &zone));
        }
    }
}

fn print(answer: &Answer) {
    match answer {
        Answer::Snapshot(snapshot) => {
            for line in words::summary(snapshot, &TimeZone::system()) {
                println!("{line}");
            }
        }
        Answer::Spent(Some(spending)) => spending.lines().iter().for_each(|line| println!("  {line}")),
        Answer::Done => println!("Done."),
        _ => {}
    }
}

/// A record or a message as it is listed.
struct Line {
    key: String,
    text: String,
    since: Timestamp,
}

fn record_line(record: &Record) -> Line {
    let held = record.held.as_ref().map(|held| format!("held by {} (epoch {})", held.owner.station, held.stamp.epoch));
    let dead = record.dead.map(|dead| {
        let aside = if dead.set_aside { "set aside: " } else { "" };
        format!("{aside}{}", words::sentence(dead.code))
    });
    let wanted = record.wanted.map(|wanted| match wanted.waits_for {
        Some(code) => format!("waiting: {}", words::sentence(code)),
        None => "waiting".to_owned(),
    });
    let notice = record.notice.map(|code| words::sentence(code).to_owned());
    let text: Vec<_> = [dead, held, wanted, notice].into_iter().flatten().collect();
    let since = record.dead.map(|dead| dead.since).or(record.wanted.map(|wanted| wanted.first_seen));
    Line { key: record.key.to_string(), text: text.join("; "), since: since.unwrap_or(record.updated) }
}

fn conflict_line(open: OpenConflict) -> Line {
    let since = open.fields.iter().map(|open| open.since).min().unwrap_or(Timestamp::MIN);
    let fields: Vec<_> = open.fields.into_iter().map(|open| open.field).collect();
    Line { key: open.key.to_string(), text: fields.join(", "), since }
}

fn letter_line(letter: Letter) -> Line {
    Line { key: letter.id, text: letter.reason, since: letter.first_seen }
}

fn list(lines: &[Line], more: bool) {
    for line in lines {
        println!("{}  since {}  {}", line.key, line.since.strftime("%Y-%m-%d %H:%M:%SZ"), line.text);
    }
    if lines.is_empty() {
        println!("Nothing.");
    }
    if more {
        println!("... and more: {LISTED} of each at most are listed.");
    }
}
