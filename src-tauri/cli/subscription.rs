//! `chart-relay subscription`: the rest-hooks by which the chart system tells of changes are shown, made and mended.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use engine::ports::Clock;

use super::{
    complain,
    person::{Console, Person as _},
    place::Place,
};
use crate::{
    adapters::{
        clock::SystemClock,
        fhir::subscription::{Hook, Standing},
    },
    config::Firm,
    secrets::{Secrets, SecretsError},
    view::words,
    wiring::Connected,
};

#[derive(Debug, Args)]
pub struct SubscriptionArgs {
    /// Make what is missing, and mend or switch on again what is not as it should be
    #[arg(long)]
    create: bool,
    /// Of this clinic only
    #[arg(long, value_name = "CLINIC")]
    firm: Option<String>,
}

pub async fn run(args: SubscriptionArgs, place: &Place) -> ExitCode {
    match look(args, place).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error),
    }
}

/// The hook that is configured for a clinic, with its key.
pub(super) async fn hook(firm: &Firm, secrets: &dyn Secrets) -> Result<Option<Hook>, SecretsError> {
    let Some((endpoint, key)) = &firm.fhir.hook else { return Ok(None) };
    Ok(Some(Hook { endpoint: endpoint.clone(), key: secrets.get(key).await? }))
}

/// Whether every rest-hook stands as it should now.
async fn look(args: SubscriptionArgs, place: &Place) -> Result<bool, Box<dyn std::error::Error>> {
    let secrets = place.secrets(Console.can_answer())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let firms = place.config.firms.iter().filter(|firm| args.firm.as_ref().is_none_or(|only| only == firm.id.as_str()));
    let (mut seen, mut right) = (false, true);
    for firm in firms {
        let Some(hook) = hook(firm, &*secrets).await? else { continue };
        seen = true;
        println!("{} ({}), to {}", firm.name, firm.id, hook.endpoint);
        let connected = Connected::new(firm, &*secrets, &clock).await?;
        let types: Vec<_> = firm.mapping.resources.keys().cloned().collect();
        let stand = match args.create {
            true => connected.fhir.hook_up(&types, &hook).await,
            false => connected.fhir.hooks(&types, &hook).await,
        };
        match stand {
            Ok(stand) => {
                for (r#type, standing) in stand {
                    let is_right = matches!(standing, Standing::Active | Standing::Requested);
                    let done = if args.create && !is_right { "; made right" } else { "" };
                    println!("  {type}: {standing}{done}");
                    right &= is_right || args.create;
                }
            }
            Err(fault) => {
                println!("  FAILED: {} ({fault})", words::sentence(fault.code));
                right = false;
            }
        }
    }
    if !seen {
        return Err("No clinic has a [firm.fhir.hook] in the configuration: nobody is to be told of changes.".into());
    }
    if !right && !args.create {
        println!("Changes are found by looking all the same, only later. --create makes this right.");
    }
    Ok(right)
}
