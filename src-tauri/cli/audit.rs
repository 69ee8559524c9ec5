//! `chart-relay audit`: proof that the log is unaltered, and what it says.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use engine::audit::Search;

use super::{
    complain,
    person::{Console, Person as _},
    place::Place,
};
use crate::{
    adapters::sqlite::verify,
    control::{Answer, Request},
    socket::{self, SocketError},
    view::words,
    wiring::DATABASE,
};

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Find entries that were altered, removed, moved or cut off; ends with an error if there are any
    Verify,
    /// The newest entries
    List {
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// A long log takes a while.
const PATIENCE: Duration = Duration::from_secs(600);

pub async fn run(args: AuditArgs, place: &Place) -> ExitCode {
    match args.command {
        AuditCommand::Verify => verify_log(place).await,
        AuditCommand::List { limit } => list(place, limit).await,
    }
}

async fn verify_log(place: &Place) -> ExitCode {
    let (entries, findings) = match socket::call(&place.data, &Request::VerifyAudit, PATIENCE).await {
        Ok(Answer::Audit { entries, findings }) => (entries, findings),
        Ok(Answer::Refused(why)) => return complain(&why),
        Ok(_) => return complain(&SocketError::NotUnderstood),
        // Nobody runs: the log can be read from its file.
        Err(SocketError::NobodyListens) => {
            let key = match place.secrets(Console.can_answer()) {
                Ok(secrets) => place.key(&*secrets).await,
                Err(error) => return complain(&error),
            };
            let key = match key {
                Ok(Some(key)) => key,
                Ok(None) => return complain(&"There is no clinic key yet, so there is no audit log either."),
                Err(error) => return complain(&error),
            };
            match verify::verify(&place.data.join(DATABASE), &key).await {
                Ok(report) => (report.entries, report.findings.iter().map(ToString::to_string).collect()),
                Err(fault) => return complain(&format!("{} ({fault})", words::sentence(fault.code))),
            }
        }
        Err(error) => return complain(&error),
    };
    if findings.is_empty() {
        println!("The audit log is unaltered: {entries} entries, each in its place.");
        return ExitCode::SUCCESS;
    }
    for finding in &findings {
        println!("{finding}");
    }
    complain(&format!(
        "The audit log is NOT intact: {} finding(s) in {entries} entries. Keep the file as it is.",
        findings.len()
    ))
}

async fn list(place: &Place, limit: usize) -> ExitCode {
    match socket::call(&place.data, &Request::Search(Search::newest(limit)), PATIENCE).await {
        Ok(Answer::Found(found)) => {
            for entry in found.entries {
                let outcome = entry.outcome.map_or("open".to_owned(), |outcome| format!("{outcome:?}"));
                let key = entry.begun.key.map(|key| key.to_string()).unwrap_or_default();
                let person = entry.begun.person.map(|person| format!(" by {person}")).unwrap_or_default();
                let fields = entry.begun.fields.join(", ");
                println!(
                    "{}  {}  {:?} {key}{person}  [{fields}]  {outcome}",
                    entry.id.0, entry.begun.at, entry.begun.act
                );
            }
            ExitCode::SUCCESS
        }
        Ok(Answer::Refused(why)) => complain(&why),
        Ok(_) => complain(&SocketError::NotUnderstood),
        Err(error) => complain(&error),
    }
}
