//! `chart-relay key`: the clinic key's recovery sheet, out once by consent and back in.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{person::Person, place::Place};
use crate::{
    adapters::{clock::SystemClock, sqlite::Database},
    clinic_key::{self, Restored},
    control::{self, Answer, Request},
    recovery_sheet,
    secrets::{Secret, Secrets},
    socket::{self, SocketError},
    view::words,
    wiring::{DATABASE, command_owner},
};

/// A whole sheet with what people write on it.
const MAX_SHEET_BYTES: usize = 16 * 1024;
/// How often a line is asked for again before it is better to look at the sheet in peace.
const TRIES: usize = 3;

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Show the recovery sheet of the clinic key, to be printed and locked away
    Sheet {
        /// Write it to this new file (readable by you alone) and not to the terminal
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Consent without being asked: the sheet opens everything that the clinic's relays have sealed
        #[arg(long)]
        yes: bool,
    },
    /// Put the clinic key back in from its recovery sheet: asked for line by line, or read from standard input
    Restore {
        /// Replace another clinic key that this station has
        #[arg(long)]
        replace: bool,
    },
}

/// What the caller enters into the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEvent {
    SheetShown,
    SheetWritten,
    Restored,
    Replaced,
    /// To a new station, by a code.
    HandedOver,
    /// From another station, by a code.
    TakenOver,
}

/// Enters the event into the audit log: through the running relay, else into the database itself.
pub(super) async fn note(event: KeyEvent, secrets: &dyn Secrets, place: &Place) -> Result<(), String> {
    let (event, person) = (format!("{event:?}"), crate::account::name());
    let request = Request::NoteKey { event: event.clone(), person: person.clone() };
    match socket::call(&place.data, &request, Duration::from_secs(10)).await {
        Ok(Answer::Done) => return Ok(()),
        Err(SocketError::NobodyListens) => {}
        Ok(_) => return Err("The running relay did not enter this into its audit log.".to_owned()),
        Err(error) => return Err(format!("This could not be entered into the audit log: {error}")),
    }
    let Some(key) = place.key(secrets).await.map_err(|error| error.to_string())? else { return Ok(()) };
    let owner = command_owner(&place.config.station.id);
    let noted = async {
        let database = Database::open(&place.data.join(DATABASE), &key, owner, Arc::new(SystemClock::new())).await?;
        control::note_key(&database, event, person).await?;
        database.close().await
    };
    noted.await.map_err(|fault| {
        format!("{} This could not be entered into the audit log. ({fault})", words::sentence(fault.code))
    })
}

/// `data` is the station's data directory. The event, if any, happened whatever the exit code says.
pub async fn run(
    args: KeyArgs,
    secrets: &dyn Secrets,
    data: &Path,
    person: &mut dyn Person,
) -> (ExitCode, Option<KeyEvent>) {
    let done = match args.command {
        KeyCommand::Sheet { to, yes } => sheet(to.as_deref(), yes, secrets, data, person).await,
        KeyCommand::Restore { replace } => restore(replace, secrets, data, person).await,
    };
    match done {
        Ok(event) => (ExitCode::SUCCESS, event),
        Err(sentence) => {
            person.complain(&sentence);
            (ExitCode::FAILURE, None)
        }
    }
}

async fn sheet(
    to: Option<&Path>,
    yes: bool,
    secrets: &dyn Secrets,
    data: &Path,
    person: &mut dyn Person,
) -> Result<Option<KeyEvent>, String> {
    if to.is_none() && !person.alone_reads() {
        return Err("the sheet is shown on a terminal only; to have it in a file, name the file with --to".into());
    }
    let key = clinic_key::read(secrets, data)
        .await
        .map_err(|error| error.to_string())?
        .ok_or("this station has no clinic key yet; it is made when the relay first runs")?;
    if !yes {
        if !person.can_answer() {
            return Err("the sheet opens everything the relay has sealed; consent with --yes".into());
        }
        let answer = person
            .ask("The sheet opens everything that this clinic's relays have sealed. Is nobody looking? Type yes: ")
            .map_err(|error| error.to_string())?;
        if !answer.eq_ignore_ascii_case("yes") {
            person.say("Nothing was shown.");
            return Ok(None);
        }
    }
    let sheet = recovery_sheet::print(&key);
    match to {
        None => {
            person.say(sheet.reveal());
            Ok(Some(KeyEvent::SheetShown))
        }
        Some(path) => {
            write_new(path, &sheet).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => "there is a file of that name already; it was left as it is".to_owned(),
                kind => format!("the sheet could not be written: {kind}"),
            })?;
            person.say("The sheet is written. Print it, lock it away, and delete the file.");
            Ok(Some(KeyEvent::SheetWritten))
        }
    }
}

fn write_new(path: &Path, sheet: &Secret) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(sheet.reveal().as_bytes())?;
    file.sync_all()
}

async fn restore(
    replace: bool,
    secrets: &dyn Secrets,
    data: &Path,
    person: &mut dyn Person,
) -> Result<Option<KeyEvent>, String> {
    let typed = if person.can_answer() {
        typed_in(person)?
    } else {
        person.handed_in(MAX_SHEET_BYTES).map_err(|error| format!("the sheet could not be read: {error}"))?
    };
    let key = recovery_sheet::read(typed.reveal()).map_err(|error| error.to_string())?;
    let restored = clinic_key::restore(secrets, data, &key, replace).await.map_err(|error| error.to_string())?;
    let id = key.id();
    Ok(match restored {
        Restored::AlreadyThere => {
            person.say(&format!("This station already has clinic key {id}; nothing was changed."));
            None
        }
        Restored::Stored => {
            person.say(&format!("Clinic key {id} is restored."));
            Some(KeyEvent::Restored)
        }
        Restored::Replaced { old } => {
            person.say(&format!("Clinic key {id} has replaced {old}."));
            Some(KeyEvent::Replaced)
        }
    })
}

fn typed_in(person: &mut dyn Person) -> Result<Secret, String> {
    let id = person.ask("Key id: ").map_err(|error| error.to_string())?;
    let mut text = Zeroizing::new(format!("Key id: {id}\n"));
    for number in recovery_sheet::lines() {
        let mut tries = 0;
        let line = loop {
            let line = person.hidden(&format!("Line {number} (not shown): ")).map_err(|error| error.to_string())?;
            match recovery_sheet::check_line(number, line.reveal()) {
                Ok(()) => break line,
                Err(error) => person.complain(&error.to_string()),
            }
            tries += 1;
            if tries == TRIES {
                return Err(format!("line {number} was wrong {TRIES} times; nothing was changed"));
            }
        };
        let numbered = line.reveal().trim();
        let prefix = format!("{number} ");
        let letters = numbered.strip_prefix(&prefix).unwrap_or(numbered);
        text.push_str(&prefix);
        text.push_str(letters);
        text.push('\n');
    }
    Ok(Secret::new(text.as_str()))
}
