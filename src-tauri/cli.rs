//! The commands. Each asks a running relay through the local socket where it can, and says so where it must.

#![allow(clippy::disallowed_methods, reason = "a command runs once, now: nothing in it is replayed")]

pub mod audit;
#[cfg(feature = "desktop")]
pub mod desk;
pub mod doctor;
pub mod key;
pub mod person;
pub(crate) mod place;
pub mod provision;
pub mod redrive;
pub mod relay;
pub mod run;
pub mod secret;
pub mod settle;
pub(crate) mod start;
pub mod station;
pub mod subscription;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

#[cfg(feature = "desktop")]
use crate::desktop;
use crate::{config, control::About, demo};
use person::{Console, Person as _};
use place::Place;

/// Keeps a clinic's FileMaker database and its FHIR server in step.
#[derive(Debug, Parser)]
#[command(name = "chart-relay", version)]
pub struct Cli {
    /// The configuration; by default `config.toml` in the platform's folder for settings
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Without one: the tray icon and the window (in a build that has them)
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run without a window, until it is told to stop
    Run(run::RunArgs),
    /// Show the program at work on a synthetic clinic on this machine
    Demo(demo::DemoArgs),
    /// Try every connection step by step, and say which step failed and why
    Doctor(doctor::DoctorArgs),
    /// Make the queue and tables that stations share, or see whether they are there and right
    Provision(provision::ProvisionArgs),
    /// The rest-hooks by which the chart system tells of changes: see how they stand, make or mend them
    Subscription(subscription::SubscriptionArgs),
    /// Put secrets into the keychain; they never come out again
    Secret(secret::SecretArgs),
    /// The clinic key: its recovery sheet, and restoring it
    Key(key::KeyArgs),
    /// The stations that share the work: who takes part, and handing the clinic key to a new one
    Station(station::StationArgs),
    /// The audit log: verify that nothing was altered, list what was done
    Audit(audit::AuditArgs),
    /// Check the configuration, or print its JSON Schema
    Config(ConfigArgs),
    /// This desk: the PIN of the window
    #[cfg(feature = "desktop")]
    Desk(desk::DeskArgs),
    /// The window, which the tray program starts as a process of its own
    #[cfg(feature = "desktop")]
    #[command(hide = true)]
    Window(desktop::WindowArgs),
    /// Try again everything that is dead: shows what that would be, and does it with --yes
    Redrive(redrive::RedriveArgs),
    #[command(flatten)]
    Relay(relay::RelayCommand),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// Print the JSON Schema of the configuration instead
    #[arg(long)]
    schema: bool,
}

impl Cli {
    /// What has a tray or a window gives its event loop the thread that this is called on, which must be the main thread.
    pub fn run(self) -> ExitCode {
        match self.command {
            #[cfg(feature = "desktop")]
            None => desktop::tray(self.config),
            #[cfg(not(feature = "desktop"))]
            None => usage(),
            #[cfg(feature = "desktop")]
            Some(Command::Window(args)) => desktop::window(self.config, args),
            #[cfg(feature = "desktop")]
            Some(Command::Demo(args)) if desktop::display::is_there() => desktop::demo(args),
            Some(command) => match runtime() {
                Ok(runtime) => runtime.block_on(command.run(self.config)),
                Err(error) => complain(&error),
            },
        }
    }
}

impl Command {
    async fn run(self, config: Option<PathBuf>) -> ExitCode {
        if let Command::Demo(args) = self {
            return demo::run(args).await;
        }
        if matches!(&self, Command::Config(ConfigArgs { schema: true })) {
            print!("{}", config::json_schema());
            return ExitCode::SUCCESS;
        }
        let mut console = Console;
        let place = match Place::find(config) {
            Ok(place) => place,
            Err(error) => {
                console.complain(&error.to_string());
                return ExitCode::FAILURE;
            }
        };
        match self {
            Command::Run(args) => run::run(args, &place).await,
            Command::Doctor(args) => doctor::run(args, &place).await,
            Command::Provision(args) => provision::run(args, &place).await,
            Command::Subscription(args) => subscription::run(args, &place).await,
            Command::Secret(args) => match place.secrets(console.can_answer()) {
                Ok(secrets) => secret::run(args, &*secrets, &place.secret_names(), &mut console).await,
                Err(error) => complain(&error),
            },
            Command::Key(args) => match place.secrets(console.can_answer()) {
                Ok(secrets) => {
                    let (code, event) = key::run(args, &*secrets, &place.data, &mut console).await;
                    match event {
                        Some(event) => {
                            let noted = key::note(event, &*secrets, &place).await;
                            noted.map_or_else(|error| complain(&error), |()| code)
                        }
                        None => code,
                    }
                }
                Err(error) => complain(&error),
            },
            Command::Station(args) => station::run(args, &place).await,
            Command::Audit(args) => audit::run(args, &place).await,
            Command::Config(_) => {
                println!(
                    "{} is right: {} clinic(s).",
                    place.file.display(),
                    About::of(&place.config, false).firms.len()
                );
                ExitCode::SUCCESS
            }
            Command::Redrive(args) => redrive::run(args, &place).await,
            Command::Relay(command) => relay::run(command, &place).await,
            #[cfg(feature = "desktop")]
            Command::Desk(args) => match place.secrets(console.can_answer()) {
                Ok(secrets) => desk::run(args, &*secrets, &place.data, &mut console).await,
                Err(error) => complain(&error),
            },
            Command::Demo(_) => ExitCode::FAILURE,
            #[cfg(feature = "desktop")]
            Command::Window(_) => ExitCode::FAILURE,
        }
    }
}

/// For everything that does not draw; beside the event loop for what does.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// This build draws nothing, so without a command there is nothing to do.
#[cfg(not(feature = "desktop"))]
fn usage() -> ExitCode {
    use clap::CommandFactory as _;
    // Nobody may be reading any more; that is no reason to fail differently.
    let _ = Cli::command().print_help();
    ExitCode::from(2)
}

pub(crate) fn complain(error: &dyn std::fmt::Display) -> ExitCode {
    Console.complain(&error.to_string());
    ExitCode::FAILURE
}

/// A time with its unit: `30s`, `5min`, `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        _ => return Err("write a time with its unit, such as 30s, 5min or 2h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write a whole number before the unit".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("5min"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "60", "s", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_commands_fit_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
