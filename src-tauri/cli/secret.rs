//! `chart-relay secret`: puts secrets in, says which are there, deletes them. There is no command that gets one out.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::person::Person;
use crate::secrets::{MAX_SECRET_BYTES, Secret, SecretName, Secrets};

#[derive(Debug, Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Put a secret in: asked for without showing it, or read from standard input
    Set {
        /// The name that the configuration uses
        name: SecretName,
    },
    /// Say which secrets the configuration uses, and whether each is set
    List,
    /// Forget a secret
    Delete { name: SecretName },
}

/// `configured` are the names that the configuration uses.
pub async fn run(
    args: SecretArgs,
    secrets: &dyn Secrets,
    configured: &[SecretName],
    person: &mut dyn Person,
) -> ExitCode {
    let done = match args.command {
        SecretCommand::Set { name } => set(&name, secrets, configured, person).await,
        SecretCommand::List => list(secrets, configured, person).await,
        SecretCommand::Delete { name } => delete(&name, secrets, person).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            person.complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

async fn set(
    name: &SecretName,
    secrets: &dyn Secrets,
    configured: &[SecretName],
    person: &mut dyn Person,
) -> Result<(), String> {
    let typed = if person.can_answer() {
        person.hidden(&format!("{name} (not shown): "))
    } else {
        // One byte more for the line end that is cut off, two on Windows.
        person.handed_in(MAX_SECRET_BYTES + 2)
    };
    let typed = typed.map_err(|error| format!("\"{name}\" could not be read, nothing was changed: {error}"))?;
    let secret = without_line_end(&typed);
    if secret.reveal().is_empty() {
        return Err(format!("\"{name}\" was empty; nothing was changed"));
    }
    secrets.set(name, secret).await.map_err(|error| error.to_string())?;
    person.say(&format!("\"{name}\" is set."));
    if !configured.contains(name) {
        person.complain(&format!("Note: no setting of the configuration uses \"{name}\"."));
    }
    Ok(())
}

/// `echo` and editors end a text with a line end that is no part of it. Only the last one goes: a key file has several.
fn without_line_end(typed: &Secret) -> Secret {
    let text = typed.reveal();
    let text = text.strip_suffix('\n').unwrap_or(text);
    Secret::new(text.strip_suffix('\r').unwrap_or(text))
}

async fn list(secrets: &dyn Secrets, configured: &[SecretName], person: &mut dyn Person) -> Result<(), String> {
    if configured.is_empty() {
        person.say("The configuration uses no secrets.");
    }
    for name in configured {
        let state = if secrets.has(name).await.map_err(|error| error.to_string())? { "set" } else { "not set" };
        person.say(&format!("{state:<8} {name}"));
    }
    Ok(())
}

async fn delete(name: &SecretName, secrets: &dyn Secrets, person: &mut dyn Person) -> Result<(), String> {
    let was_there = secrets.delete(name).await.map_err(|error| error.to_string())?;
    person.say(&if was_there { format!("\"{name}\" is deleted.") } else { format!("\"{name}\" was not set.") });
    Ok(())
}
