//! `chart-relay desk`: what is set for the window at this desk and has no place in a file.

use std::{path::Path, process::ExitCode};

use clap::{Args, Subcommand};

use super::person::Person;
use crate::{
    desktop::pin::{self, is_pin},
    secrets::Secrets,
};

#[derive(Debug, Args)]
pub struct DeskArgs {
    #[command(subcommand)]
    command: DeskCommand,
}

#[derive(Debug, Subcommand)]
enum DeskCommand {
    /// Set the PIN that opens the window after it locked (asked for, not shown)
    Pin {
        /// Open it without a PIN again
        #[arg(long)]
        remove: bool,
    },
}

pub async fn run(args: DeskArgs, secrets: &dyn Secrets, data: &Path, person: &mut dyn Person) -> ExitCode {
    let DeskCommand::Pin { remove } = args.command;
    let done = if remove { without(secrets, data, person).await } else { set(secrets, data, person).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            person.complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

async fn set(secrets: &dyn Secrets, data: &Path, person: &mut dyn Person) -> Result<(), String> {
    let unread = |error| format!("The PIN could not be read, nothing was changed: {error}");
    let typed = if person.can_answer() {
        let typed = person.hidden("New PIN (not shown): ").map_err(unread)?;
        let again = person.hidden("The same again: ").map_err(unread)?;
        if typed.reveal() != again.reveal() {
            return Err("The two differ; nothing was changed.".to_owned());
        }
        typed
    } else {
        // Twelve digits and a line end.
        person.handed_in(14).map_err(unread)?
    };
    let pin = typed.reveal().trim_end_matches(['\r', '\n']);
    if !is_pin(pin) {
        return Err("A PIN has 4 to 12 digits; nothing was changed.".to_owned());
    }
    pin::set(secrets, data, pin).await.map_err(|error| format!("The PIN was not set: {error}"))?;
    person.say("The PIN is set. The window asks for it when it opens and after it locked.");
    Ok(())
}

async fn without(secrets: &dyn Secrets, data: &Path, person: &mut dyn Person) -> Result<(), String> {
    let was_there = pin::remove(secrets, data).await.map_err(|error| format!("The PIN was not removed: {error}"))?;
    person.say(if was_there { "The PIN is removed." } else { "There was no PIN." });
    Ok(())
}
