//! The check-up of a clinic's watched EHR. Its few requests are not taken from the quota that the running relay keeps to; what that leaves
//! unused is for such.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use engine::{
    ports::{Category, Clock, Ehr as _, Purpose, Unlimited},
    server_clock::Heard,
};

use super::print;
use crate::{
    adapters::{clock::SystemClock, fhir::EhrClient},
    cli::{
        person::{Console, Person as _},
        place::Place,
    },
    config::{EhrSignIn, Watched},
    secrets::{Secrets, SecretsError},
    wiring::{self, WiringError},
};

/// How many steps failed, and what the EHR's clock said.
pub(super) async fn examine(
    watched: &Watched,
    secrets: &dyn Secrets,
    clock: &Arc<dyn Clock>,
) -> (usize, Option<Heard>) {
    println!("\n{} ({})", watched.name, watched.id);
    println!(" The EHR, {}, watched", watched.ehr.base_url);
    if matches!(watched.ehr.sign_in, EhrSignIn::RefreshToken { .. }) {
        // Trying it would spend the one that the relay has.
        println!(
            "  -       sign-in: not tried, a refresh token may be good for one use only; `status` says how the relay fares"
        );
        return (0, None);
    }
    match client(watched, secrets, clock).await {
        Ok(client) => {
            let steps = client.diagnose().await;
            if watched.ehr.quota.is_none() {
                println!("  notice  quota: none is named, so nothing but the EHR's own answers limits what is asked");
            }
            (print(&steps), client.server_clock())
        }
        Err(error) => {
            println!("  FAILED  set up: {error}");
            (1, None)
        }
    }
}

/// Prints what a clinic may choose from.
pub(super) async fn categories(firm: &str, place: &Place) -> Result<(), Box<dyn Error>> {
    let watched = place.config.watched.iter().find(|watched| watched.id.as_str() == firm);
    let watched = watched.ok_or_else(|| format!("No clinic {firm} has a [firm.ehr] in the configuration."))?;
    let secrets = place.secrets(Console.can_answer())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let found = client(watched, &*secrets, &clock).await?.categories(Purpose::Person).await;
    let found = found.map_err(|fault| format!("{} ({fault})", crate::view::words::sentence(fault.code)))?;
    if found.is_empty() {
        return Err(
            "The EHR offers no list of categories, or none is named: `categories` in [firm.ehr] says where it is."
                .into(),
        );
    }
    println!("Codes for [firm.ehr.classes] of {firm}; where one code is in several systems, write system|code:");
    for category in found {
        let system = if category.coding.system.is_empty() { "" } else { ", of " };
        let Category { coding, display } = category;
        println!("  {:<24} {}{system}{}", coding.code, display.unwrap_or_default(), coding.system);
    }
    Ok(())
}

async fn client(watched: &Watched, secrets: &dyn Secrets, clock: &Arc<dyn Clock>) -> Result<EhrClient, WiringError> {
    let mut known = BTreeMap::new();
    for name in watched.ehr.secrets() {
        match secrets.get(name).await {
            Ok(secret) => drop(known.insert(name.clone(), secret)),
            Err(SecretsError::Missing(_)) => {}
            Err(source) => return Err(WiringError::Secret { firm: watched.id.clone(), source }),
        }
    }
    wiring::ehr::client(watched, &known, Arc::new(Unlimited), None, clock.clone()).await
}
