//! The commands that ask the running relay.

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use engine::{action::Action, key::RecordKey, ledger::Filter};
use jiff::{Timestamp, tz::TimeZone};

use super::{complain, duration, place::Place};
use crate::{
    control::{Answer, Line, Request, pause_until},
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
const PATIENCE: Duration = Duration::from_secs(20);

fn record_key(text: &str) -> Result<RecordKey, String> {
    RecordKey::parse(text).ok_or_else(|| "write it as it is listed, such as north/link/Patient/123".to_owned())
}

pub async fn run(command: RelayCommand, place: &Place) -> ExitCode {
    let person = person();
    let act = |action| Request::Act { action, person: person.clone() };
    let records = |filter| Request::Records { filter, limit: LISTED };
    let requests = match command {
        RelayCommand::Status => vec![Request::Snapshot],
        RelayCommand::Queue => vec![records(Filter::Wanted)],
        RelayCommand::Locks => vec![records(Filter::Held)],
        RelayCommand::Dead => vec![records(Filter::Dead), Request::DeadLetters { limit: LISTED }],
        RelayCommand::Remarks => vec![records(Filter::Noticed)],
        RelayCommand::SyncNow => vec![act(Action::SyncNow)],
        RelayCommand::Pause { long } => vec![act(Action::Pause { until: pause_until(Timestamp::now(), long) })],
        RelayCommand::Resume => vec![act(Action::Resume)],
        RelayCommand::Retry { keys } => vec![act(Action::Retry { keys })],
        RelayCommand::SetAside { keys } => vec![act(Action::SetAside { keys, aside: true })],
        RelayCommand::DropLetters { ids } => vec![act(Action::DropLetters { ids })],
        RelayCommand::Stop => vec![Request::Stop],
    };
    let mut lines = Vec::new();
    for request in requests {
        match socket::call(&place.data, &request, PATIENCE).await {
            Ok(Answer::Refused(why)) => return complain(&why),
            Ok(Answer::Lines(more)) => lines.push(more),
            Ok(answer) => print(&answer),
            Err(error) => return complain(&error),
        }
    }
    if !lines.is_empty() {
        list(&lines.into_iter().flatten().collect::<Vec<_>>());
    }
    ExitCode::SUCCESS
}

/// The account that the command runs under, as the system's session names it.
pub(super) fn person() -> Option<String> {
    std::env::var("USER").or_else(|_| std::env::var("USERNAME")).ok()
}

fn print(answer: &Answer) {
    match answer {
        Answer::Snapshot(snapshot) => {
            for line in words::summary(snapshot, &TimeZone::system()) {
                println!("{line}");
            }
        }
        Answer::Done => println!("Done."),
        Answer::Lines(_) | Answer::History(_) | Answer::Audit { .. } | Answer::Refused(_) => {}
    }
}

fn list(lines: &[Line]) {
    for line in lines {
        println!("{}  since {}  {}", line.key, line.since.strftime("%Y-%m-%d %H:%M:%SZ"), line.text);
    }
    match lines.len() {
        0 => println!("Nothing."),
        LISTED.. => println!("... and perhaps more: {LISTED} at most are listed."),
        _ => {}
    }
}
