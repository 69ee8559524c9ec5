//! Deciding a conflict from the terminal. Values are read from both sides and perhaps typed; none is printed, and none is an argument,
//! which a shell would remember.

use std::{process::ExitCode, time::Duration};

use engine::{
    action::{Action, Choice},
    key::RecordKey,
    row::Shown,
};

use super::{complain, person::Person, place::Place, relay::record_key};
use crate::{
    account,
    control::{Answer, Request},
    socket,
};

/// The answer comes when both sides were written to.
pub const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Debug, clap::Args)]
pub struct SettleArgs {
    /// As `conflicts` lists it: firm/link/Patient/123
    #[arg(value_parser = record_key)]
    key: RecordKey,
    /// One of the fields that `conflicts` lists
    field: String,
    #[command(flatten)]
    take: Take,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Take {
    /// What the chart system says now
    #[arg(long, visible_alias = "left")]
    chart: bool,
    /// What FileMaker says now
    #[arg(long, visible_alias = "right")]
    filemaker: bool,
    /// Neither: a value that is asked for on the terminal
    #[arg(long)]
    value: bool,
}

pub async fn run(args: SettleArgs, place: &Place, person: &mut dyn Person) -> ExitCode {
    let SettleArgs { key, field, take } = args;
    let ask = |request: Request| async move {
        match socket::call(&place.data, &request, PATIENCE).await {
            Ok(Answer::Refused(why)) => Err(why.to_string()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(error.to_string()),
        }
    };
    let looked =
        match ask(Request::Difference { key: key.clone(), versions: Vec::new(), person: account::name() }).await {
            Ok(Answer::Difference(difference)) => difference,
            Ok(_) => return complain(&"the running relay is of another version"),
            Err(why) => return complain(&why),
        };
    let Some(seen) = looked.fields.iter().find(|known| known.field == field).and_then(|known| known.seen) else {
        return complain(&format!("{field} of this record cannot be decided here; nothing was done"));
    };
    let choice = match take {
        Take { chart: true, .. } => Choice::Chart,
        Take { filemaker: true, .. } => Choice::Row,
        Take { .. } => match person.ask(&format!("{field} (empty: no value): ")) {
            Ok(typed) => Choice::Value(Shown::new(typed)),
            Err(error) => return complain(&error),
        },
    };
    match ask(Request::Act { action: Action::Settle { key, field, seen, choice }, person: account::name() }).await {
        Ok(_) => {
            person.say("Done: both sides hold it.");
            ExitCode::SUCCESS
        }
        Err(why) => complain(&why),
    }
}
