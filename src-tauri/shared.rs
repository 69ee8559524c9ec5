//! What stations share, where the configuration has `[shared]`: an account's queue and ledger in place of the embedded ones.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use engine::{
    error::{Class, Fault},
    keys::ClinicKey,
    ports::{Clock, Ledger, Queue},
};

use crate::{
    adapters::aws::{
        AccessKey, Account, Options,
        dynamodb::{self, DynamoLedger},
        provision::Wish,
        sqs::{self, SqsQueue},
    },
    config::{self, Config},
    secrets::{Secrets, SecretsError},
};

/// Depth and survey are asked once in this time: they are for people, and each costs.
const FIGURES_EVERY: Duration = Duration::from_secs(10);
/// Between tries at the start, while AWS does not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// Tells this installation from another computer's under the same name. Made once, in the data directory.
const INSTALLATION: &str = "installation";

/// The account that a configuration names.
pub async fn account(shared: &config::Shared, secrets: &dyn Secrets) -> Result<Account, SecretsError> {
    let access_key = match &shared.access_key {
        Some((id, secret)) => Some(AccessKey { id: id.clone(), secret: secrets.get(secret).await? }),
        None => None,
    };
    let endpoint = shared.endpoint.as_ref().map(ToString::to_string);
    Ok(Account::new(Options { region: shared.region.clone(), endpoint, access_key }).await)
}

/// What should be there.
pub fn wish(config: &Config, shared: &config::Shared) -> Wish {
    Wish { queue: shared.queue.clone(), prefix: shared.prefix.clone(), visibility: config.engine.visibility }
}

/// The shared queue and ledger, once this station is on their list. While AWS does not answer it waits.
pub(crate) async fn stores(
    config: &Config,
    shared: &config::Shared,
    account: &Account,
    data: &Path,
    key: &ClinicKey,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<dyn Queue>, Arc<dyn Ledger>), Fault> {
    let installation =
        installation(data).map_err(|_| Fault::new(Class::Fatal, engine::error::Code::DatabaseUnavailable))?;
    let options = dynamodb::Options { prefix: shared.prefix.clone(), figures_every: FIGURES_EVERY };
    let ledger = DynamoLedger::new(account, options, clock.clone());
    let mut told = false;
    let url = loop {
        let joined = async {
            let url = sqs::find(account, &shared.queue).await?;
            ledger.join(&config.station.id, &installation, &key.id()).await?;
            Ok(url)
        };
        match joined.await {
            Ok(url) => break url,
            Err(fault @ Fault { class: Class::Away | Class::Wait(_) | Class::Retry, .. }) => {
                if !told {
                    tracing::warn!(%fault, "the shared queue and ledger do not answer; waiting for them");
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(fault) => return Err(fault),
        }
    };
    let options = sqs::Options { url, visibility: config.engine.visibility, figures_every: FIGURES_EVERY };
    Ok((Arc::new(SqsQueue::new(account, options, clock.clone())), Arc::new(ledger)))
}

#[allow(clippy::disallowed_methods, reason = "a name that no other computer has")]
fn installation(data: &Path) -> io::Result<String> {
    let file = data.join(INSTALLATION);
    match fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = format!("{:032x}", rand::random::<u128>());
            let new = data.join("installation.new");
            fs::write(&new, &name)?;
            fs::rename(&new, &file)?;
            Ok(name)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_keeps_its_name() {
        let data = tempfile::tempdir().unwrap();
        let name = installation(data.path()).unwrap();
        assert_eq!(installation(data.path()).unwrap(), name);
        assert_ne!(installation(tempfile::tempdir().unwrap().path()).unwrap(), name);
        // A file that was emptied is no new name: that would be another computer's.
        fs::write(data.path().join(INSTALLATION), "").unwrap();
        assert!(installation(data.path()).is_err());
    }
}
