//! `chart-relay provision`: what stations share is made, or found to be there and right.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use engine::error::{Code, Fault};

use super::{
    complain,
    person::{Console, Person as _},
    place::Place,
};
use crate::{
    adapters::aws::{
        apigateway,
        provision::{State, policies, provision},
        roles::{self, Role},
        template,
    },
    shared,
    view::words,
};

#[derive(Debug, Args)]
pub struct ProvisionArgs {
    /// Only say what is missing or differs
    #[arg(long)]
    dry_run: bool,
    /// Ask nobody and change nothing: print it, for other tools to make
    #[arg(long, value_enum, conflicts_with = "dry_run", value_name = "WHAT")]
    print: Option<Print>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Print {
    /// A CloudFormation template of queues and tables
    Cloudformation,
    /// The least that each role must be allowed to do
    Policy,
    /// A CloudFormation template of an API that takes rest-hooks and puts their ids into the queue
    Apigateway,
}

pub async fn run(args: ProvisionArgs, place: &Place) -> ExitCode {
    match Box::pin(make(args, place)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error),
    }
}

/// Whether everything is there and right now.
async fn make(args: ProvisionArgs, place: &Place) -> Result<bool, Box<dyn std::error::Error>> {
    let Some(shared) = &place.config.shared else {
        return Err(
            "There is no [shared] in the configuration: this station works by itself, and nothing is to be made."
                .into(),
        );
    };
    let wish = shared::wish(&place.config, shared);
    match args.print {
        Some(Print::Cloudformation) => {
            println!("{}", serde_json::to_string_pretty(&template::cloudformation(&wish))?);
            return Ok(true);
        }
        Some(Print::Policy) => {
            let policies = Role::ALL.map(|role| (role.name().to_owned(), roles::policy(&wish, role)));
            println!("{}", serde_json::to_string_pretty(&serde_json::Map::from_iter(policies))?);
            return Ok(true);
        }
        Some(Print::Apigateway) => {
            let firms: Vec<_> = place.config.firms.iter().map(|firm| firm.id.clone()).collect();
            println!("{}", serde_json::to_string_pretty(&apigateway::template(&wish, &firms))?);
            return Ok(true);
        }
        None => {}
    }
    let secrets = place.secrets(Console.can_answer())?;
    let account = shared::without_role(shared, &*secrets).await?;
    let found = provision(&account, &wish, !args.dry_run).await;
    let mut found = found.map_err(said)?;
    let mut right = true;
    match policies(&account, &wish, !args.dry_run).await {
        Ok(more) => found.extend(more),
        Err(fault) => {
            right = false;
            let hint = "Policies are made with the rights of an administrator of IAM; --print policy prints them.";
            eprintln!("The policies of the roles were not made or checked. {} {hint}", said(fault));
        }
    }
    for one in &found {
        let said = match &one.state {
            State::Right => "there and right".to_owned(),
            State::Created => "made".to_owned(),
            State::Missing => "missing; it would be made".to_owned(),
            State::Differs { settings, mended: true } => format!("put right: {}", settings.join(", ")),
            State::Differs { settings, mended: false } if args.dry_run => format!("differs: {}", settings.join(", ")),
            State::Differs { settings, mended: false } => {
                format!("differs, and is left for a person to change: {}", settings.join(", "))
            }
        };
        right &= !matches!(one.state, State::Missing | State::Differs { mended: false, .. });
        println!("{:<40} {said}", one.what);
    }
    Ok(right)
}

/// A refused permission is named, with what does not work without it.
fn said(fault: Fault) -> String {
    let permission = fault.subject.as_deref().filter(|_| fault.code == Code::AccessDenied);
    let said = permission.map_or_else(|| words::sentence(fault.code).to_owned(), words::denied);
    format!("{said} ({fault})")
}
