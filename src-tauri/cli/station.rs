//! `chart-relay station`: who takes part, and how a new station comes by the clinic key.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use engine::{
    error::{Code, Fault},
    key::StationId,
    ports::Clock,
};
use jiff::tz::TimeZone;

use super::{
    complain, duration,
    key::{KeyEvent, note},
    person::{Console, Person},
    place::Place,
    start::asked_to_stop,
};
use crate::{
    account,
    adapters::{
        aws::dynamodb::{DynamoLedger, pairings::Pairing},
        clock::SystemClock,
    },
    clinic_key::{self, ClinicKeyError},
    config,
    control::{Answer, Request},
    pairing::PairingCode,
    secrets::Secrets,
    shared,
    socket::{self, SocketError},
    stations::Seen,
    view::words,
};

/// A code is good for so long at most.
const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// Between the signs that it still is.
const SIGN_EVERY: Duration = Duration::from_secs(2);
/// A new station that sees no sign for so long takes nothing.
const SIGN_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a code is asked for again.
const TRIES: usize = 3;
/// More than a code with everything that people put around it.
const MAX_CODE_BYTES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub struct StationArgs {
    #[command(subcommand)]
    command: StationCommand,
}

#[derive(Debug, Subcommand)]
enum StationCommand {
    /// Hand the clinic key to a new station: shows a code that is good once and for 10 minutes
    Pair {
        /// End sooner, such as 2min
        #[arg(long = "for", value_parser = duration, value_name = "TIME")]
        limit: Option<Duration>,
    },
    /// On the new station: take the clinic key with that code, asked for or read from standard input
    Join,
    /// Who takes part, and when each was last seen
    List,
    /// Free the name of a station that is gone for good
    Forget { name: String },
}

pub async fn run(args: StationArgs, place: &Place) -> ExitCode {
    let mut console = Console;
    let done = match (args.command, &place.config.shared) {
        (StationCommand::Pair { .. }, None) => Err(format!(
            "{} There is nothing to share yet. To bring the clinic key to another PC all the same, print its recovery sheet: \
             chart-relay key sheet",
            words::ALONE
        )),
        (_, None) => Err(words::ALONE.to_owned()),
        (StationCommand::Pair { limit }, Some(shared)) => pair(limit, shared, place, &mut console).await,
        (StationCommand::Join, Some(shared)) => join(shared, place, &mut console).await,
        (StationCommand::List, Some(shared)) => list(shared, place, &mut console).await,
        (StationCommand::Forget { name }, Some(_)) => forget(&name, place, &mut console).await,
    };
    done.map_or_else(|sentence| complain(&sentence), |()| ExitCode::SUCCESS)
}

fn say_fault(fault: Fault) -> String {
    format!("{} ({fault})", words::sentence(fault.code))
}

/// This station on the list of those that share: its secrets, the tables, and how it is told from other computers.
struct Here<'a> {
    place: &'a Place,
    secrets: Box<dyn Secrets>,
    tables: DynamoLedger,
    installation: String,
    clock: Arc<dyn Clock>,
}

impl<'a> Here<'a> {
    async fn find(shared: &config::Shared, place: &'a Place, attended: bool) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let secrets = place.secrets(attended).map_err(|error| error.to_string())?;
        let account = shared::account(shared, &*secrets).await.map_err(|error| error.to_string())?;
        let installation = shared::installation(&place.data)
            .map_err(|error| format!("The data directory cannot be read or written: {}.", error.kind()))?;
        Ok(Self { place, secrets, tables: shared::tables(shared, &account, &clock), installation, clock })
    }

    fn name(&self) -> &StationId {
        &self.place.config.station.id
    }

    async fn note(&self, event: KeyEvent) -> Result<(), String> {
        note(event, &*self.secrets, self.place).await
    }
}

async fn pair(
    limit: Option<Duration>,
    shared: &config::Shared,
    place: &Place,
    person: &mut dyn Person,
) -> Result<(), String> {
    let good_for = limit.unwrap_or(GOOD_FOR);
    if good_for > GOOD_FOR {
        return Err(format!("A code is good for {} at most.", words::long(GOOD_FOR)));
    }
    let here = Here::find(shared, place, person.can_answer()).await?;
    let key = clinic_key::read(&*here.secrets, &place.data).await.map_err(|error| error.to_string())?;
    let key = key.ok_or(
        "This station has no clinic key that it could hand over. It is made when the relay of the first station first runs.",
    )?;
    here.tables.join(here.name(), &here.installation, &key.id()).await.map_err(say_fault)?;
    here.tables.close_left(here.name()).await.map_err(say_fault)?;
    let code = PairingCode::make();
    let lock = code.lock();
    // Looked for from here on: a code is never shown that Ctrl-C would leave behind.
    let mut told_to_stop = std::pin::pin!(asked_to_stop());
    let _ = futures::poll!(told_to_stop.as_mut());
    here.tables.offer(&lock.place, &lock.seal(&key), here.name(), here.clock.now()).await.map_err(say_fault)?;
    let began = here.clock.elapsed();
    person.say(&format!("On the new station: chart-relay station join\nThe code: {}", code.text().reveal()));
    let mut said = None;
    let ended = loop {
        let left = good_for.saturating_sub(here.clock.elapsed().saturating_sub(began));
        if left.is_zero() {
            break here.tables.close(&lock.place).await;
        }
        let shown = left.as_secs().div_ceil(60);
        if said.replace(shown) != Some(shown) {
            let long = if left < Duration::from_secs(60) { words::long(left) } else { format!("{shown} min") };
            person.say(&format!(
                "It is good once, for another {long}, and as long as this command runs (Ctrl-C ends it)."
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(SIGN_EVERY.min(left)) => match here.tables.keep_open(&lock.place).await {
                Ok(Pairing::Open { .. }) => {}
                // Whoever sees no sign takes nothing; the next one may get through.
                Err(fault) => person.complain(&format!("The code cannot be used just now: {}", say_fault(fault))),
                ended => break ended,
            },
            () = &mut told_to_stop => break here.tables.close(&lock.place).await,
        }
    };
    match ended {
        Ok(Pairing::Used { by }) => {
            person.say(&format!("Station {by} has the clinic key {} now.", key.id()));
            here.note(KeyEvent::HandedOver).await
        }
        Ok(Pairing::Open { .. } | Pairing::Ended) => {
            Err("The code is worth nothing any more; nobody has used it. For another one: chart-relay station pair"
                .into())
        }
        Err(fault) => Err(format!(
            "{} Nobody can use the code without this command, but what is sealed under it could not be deleted; the next \
             `station pair` does that.",
            say_fault(fault)
        )),
    }
}

async fn join(shared: &config::Shared, place: &Place, person: &mut dyn Person) -> Result<(), String> {
    let here = Here::find(shared, place, person.can_answer()).await?;
    let theirs = here.tables.clinic_key().await.map_err(say_fault)?;
    let theirs =
        theirs.ok_or("No station takes part so far, so nobody can hand the clinic key over. Start the first one.")?;
    match clinic_key::read(&*here.secrets, &place.data).await {
        Ok(Some(key)) if key.id().to_string() == theirs => {
            return Err(format!("This station has the clinic key {theirs} already; there is nothing to take over."));
        }
        Ok(Some(key)) => return Err(another_key(&key.id().to_string(), &theirs)),
        Err(ClinicKeyError::Lost { id }) if id == theirs => {}
        Err(ClinicKeyError::Lost { id }) => return Err(another_key(&id, &theirs)),
        Err(error) => return Err(error.to_string()),
        Ok(None) => {}
    }
    clinic_key::can_be_kept(&*here.secrets).await.map_err(|error| error.to_string())?;
    let lock = typed(person)?.lock();
    let sealed = wait_for_a_sign(&here, &lock.place).await?;
    let key = lock.open(&sealed).map_err(|_| WRONG.to_owned())?;
    here.tables.join(here.name(), &here.installation, &key.id()).await.map_err(|fault| match fault.code {
        Code::DatabaseKey => {
            "The key under this code is not the one that the stations work with. Nothing was taken.".into()
        }
        _ => say_fault(fault),
    })?;
    if !here.tables.use_up(&lock.place, here.name()).await.map_err(say_fault)? {
        return Err(USED.to_owned());
    }
    clinic_key::restore(&*here.secrets, &place.data, &key, false).await.map_err(|error| {
        format!("The clinic key could not be kept: {error}. The code is used up; get another one with: chart-relay station pair")
    })?;
    here.note(KeyEvent::TakenOver).await?;
    person.say(&format!("Station {} has the clinic key {} now. What is left to do here:", here.name(), key.id()));
    for name in place.secret_names() {
        if !here.secrets.has(&name).await.map_err(|error| error.to_string())? {
            person.say(&format!("  chart-relay secret set {name}"));
        }
    }
    person.say("  chart-relay doctor\n  chart-relay run    (or start the tray program)");
    Ok(())
}

const WRONG: &str =
    "There is no pairing with this code. Look at it again; it may also be of another clinic, or more than a day old.";
const USED: &str = "This code was used already; it is good once. For another one, on a station that has the key: chart-relay station pair";
const EXPIRED: &str = "This code has expired: its time was over, or the command that showed it was ended. For another one, on a \
                       station that has the key: chart-relay station pair";

fn another_key(ours: &str, theirs: &str) -> String {
    format!(
        "This station has another clinic key ({ours}) than the stations that share the work ({theirs}). Nothing was changed. If \
         what is sealed under {ours} may be lost, take the recovery sheet of {theirs}, move this station's data directory \
         away, and say: chart-relay key restore --replace"
    )
}

/// Asked for, and asked for again at a typing error; never an argument, which would stay in the shell's history.
fn typed(person: &mut dyn Person) -> Result<PairingCode, String> {
    if !person.can_answer() {
        let handed_in =
            person.handed_in(MAX_CODE_BYTES).map_err(|error| format!("The code could not be read: {error}."))?;
        return PairingCode::read(handed_in.reveal()).map_err(|error| error.to_string());
    }
    for _ in 0..TRIES {
        let line = person
            .hidden("The code that `station pair` shows (not shown here): ")
            .map_err(|error| error.to_string())?;
        match PairingCode::read(line.reveal()) {
            Ok(code) => return Ok(code),
            Err(error) => person.complain(&error.to_string()),
        }
    }
    Err(format!("The code was wrong {TRIES} times; nothing was changed."))
}

/// The sealed key, once whoever hands it over was seen to be there: a code without that has expired, however young it is.
async fn wait_for_a_sign(here: &Here<'_>, place: &str) -> Result<Vec<u8>, String> {
    let began = here.clock.elapsed();
    let mut first = None;
    loop {
        match here.tables.pairing(place).await.map_err(say_fault)? {
            None => return Err(WRONG.to_owned()),
            Some(Pairing::Used { .. }) => return Err(USED.to_owned()),
            Some(Pairing::Ended) => return Err(EXPIRED.to_owned()),
            Some(Pairing::Open { sealed, beat, .. }) => {
                if *first.get_or_insert(beat) != beat {
                    return Ok(sealed);
                }
            }
        }
        if here.clock.elapsed().saturating_sub(began) > SIGN_WITHIN {
            return Err(EXPIRED.to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn list(shared: &config::Shared, place: &Place, person: &mut dyn Person) -> Result<(), String> {
    let (now, zone) = (SystemClock::new().now(), TimeZone::system());
    let seen: Vec<Seen> = match socket::call(&place.data, &Request::Stations, PATIENCE).await {
        Ok(Answer::Stations(seen)) => seen,
        Ok(Answer::Refused(why)) => return Err(why.to_string()),
        Err(SocketError::NobodyListens) => {
            let here = Here::find(shared, place, person.can_answer()).await?;
            let entries = here.tables.stations().await.map_err(say_fault)?;
            entries.into_iter().map(|entry| Seen::at_first(entry, false)).collect()
        }
        Ok(_) => return Err("The running relay's answer is not understood.".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    if seen.is_empty() {
        person.say("No station is on the list yet.");
    }
    for station in &seen {
        person.say(&words::station(station, now, &zone));
    }
    Ok(())
}

async fn forget(name: &str, place: &Place, person: &mut dyn Person) -> Result<(), String> {
    let station = StationId::new(name).map_err(|error| format!("That is no station's name: {error}."))?;
    let request = Request::ForgetStation { station: station.clone(), person: account::name() };
    match socket::call(&place.data, &request, PATIENCE).await {
        Ok(Answer::Done) => {
            person.say(&words::forgotten(&station));
            Ok(())
        }
        Ok(Answer::Refused(why)) => Err(why.to_string()),
        Err(SocketError::NobodyListens) => Err(
            "No relay runs here, so nobody here has watched whether that station still lives. Start this one, and ask again in \
             3 min."
                .to_owned(),
        ),
        Ok(_) => Err("The running relay's answer is not understood.".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
