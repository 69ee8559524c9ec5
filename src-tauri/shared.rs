//! What stations share, where the configuration has `[shared]`: an account's queue and ledger in place of the embedded ones.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use engine::{
    error::{Class, Code, Fault},
    key::FirmId,
    keys::ClinicKey,
    ports::{Clock, Ledger, Queue},
};

use crate::{
    adapters::{
        aws::{
            AccessKey, Account, Keys, Options,
            dynamodb::{self, DynamoLedger},
            provision::{Wish, partition},
            sqs::{self, SqsQueue},
        },
        sqlite::Database,
    },
    clinic_key::{self, ClinicKeyError},
    config::{self, Config},
    moving::Move,
    secrets::{SecretName, Secrets, SecretsError},
    stations::Membership,
};

/// Depth and survey are asked once in this time: they are for people, and each costs.
const FIGURES_EVERY: Duration = Duration::from_secs(10);
/// Between tries at the start, while AWS does not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// Tells this installation from another computer's under the same name. Made once, in the data directory.
const INSTALLATION: &str = "installation";

/// The account that a configuration names, in the role of a station, with the credentials as they are now: for a command.
pub async fn account(shared: &config::Shared, secrets: &dyn Secrets) -> Result<Account, SecretsError> {
    Ok(without_role(shared, secrets).await?.in_role(shared.roles.sync.as_deref()))
}

/// The same with whatever its credentials may do.
pub async fn without_role(shared: &config::Shared, secrets: &dyn Secrets) -> Result<Account, SecretsError> {
    let keys: Option<Arc<dyn Keys>> = match &shared.access_key {
        Some((id, secret)) => Some(Arc::new(AccessKey { id: id.clone(), secret: secrets.get(secret).await? })),
        None => None,
    };
    Ok(reach(shared, keys).await)
}

/// The account of a relay, in the role of a station: a key that is renewed, in the configuration's file and in the store of secrets, is taken on while it runs.
pub async fn standing_account(
    shared: &config::Shared,
    file: &Path,
    secrets: Arc<dyn Secrets>,
) -> Result<Account, SecretsError> {
    // A secret that is missing at the start is told at the start.
    account(shared, &*secrets).await?;
    let keys: Option<Arc<dyn Keys>> = match shared.access_key.clone() {
        Some(key) => Some(Arc::new(Renewable { file: file.to_owned(), key, secrets })),
        None => None,
    };
    Ok(reach(shared, keys).await.in_role(shared.roles.sync.as_deref()))
}

async fn reach(shared: &config::Shared, access_key: Option<Arc<dyn Keys>>) -> Account {
    let endpoint = shared.endpoint.as_ref().map(ToString::to_string);
    Account::new(Options { region: shared.region.clone(), endpoint, access_key }).await
}

/// An access key that is read anew when it is asked for.
struct Renewable {
    file: PathBuf,
    /// As the configuration had it at the start: for when its file cannot be read just now.
    key: (String, SecretName),
    secrets: Arc<dyn Secrets>,
}

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewable").finish_non_exhaustive()
    }
}

#[async_trait]
impl Keys for Renewable {
    async fn key(&self) -> Option<AccessKey> {
        let now = Config::read(&self.file).ok().and_then(|config| config.shared?.access_key);
        let (id, secret) = now.unwrap_or_else(|| self.key.clone());
        Some(AccessKey { id, secret: self.secrets.get(&secret).await.ok()? })
    }
}

/// What should be there.
pub fn wish(config: &Config, shared: &config::Shared) -> Wish {
    Wish {
        queue: shared.queue.clone(),
        prefix: shared.prefix.clone(),
        visibility: config.engine.visibility,
        kms_key: shared.kms_key.clone(),
        partition: partition(shared.region.as_deref()),
    }
}

/// A station without the clinic key of those that it is to share the work with.
#[derive(Debug, thiserror::Error)]
pub enum KeyElsewhere {
    #[error(
        "the other stations have a clinic key ({0}) and this one has none: take it over with `chart-relay station join` and a code \
         from `chart-relay station pair` there, or with `chart-relay key restore` and the recovery sheet"
    )]
    NotHere(String),
    #[error("it is not known whether other stations have a clinic key already, and this one has none: {} ({fault})", crate::view::words::sentence(.fault.code))]
    Unknown { fault: Fault },
    #[error(transparent)]
    Key(#[from] ClinicKeyError),
}

/// Whether this station may make a clinic key if it has none: only the first one makes one.
pub async fn key_is_here(
    shared: &config::Shared,
    account: &Account,
    secrets: &dyn Secrets,
    data: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<(), KeyElsewhere> {
    if clinic_key::read(secrets, data).await?.is_some() {
        return Ok(());
    }
    match tables(shared, account, clock).clinic_key().await {
        Ok(None) => Ok(()),
        Ok(Some(id)) => Err(KeyElsewhere::NotHere(id)),
        Err(fault) => Err(KeyElsewhere::Unknown { fault }),
    }
}

/// What a station works with once it is on the list.
#[derive(Debug)]
pub struct Stores {
    pub queue: Arc<dyn Queue>,
    /// SQS's own dead-letter queue.
    pub backstop: Arc<dyn Queue>,
    pub ledger: Arc<dyn Ledger>,
    pub membership: Membership,
    /// Clinics that only other stations serve.
    pub elsewhere: Vec<FirmId>,
}

/// The tables of what stations share.
pub fn tables(shared: &config::Shared, account: &Account, clock: &Arc<dyn Clock>) -> DynamoLedger {
    let options = dynamodb::Options { prefix: shared.prefix.clone(), figures_every: FIGURES_EVERY };
    DynamoLedger::new(account, options, clock.clone())
}

/// What happens to a station on its way to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// AWS did not answer, or asked for patience; it is tried again.
    Failed(Code),
    /// So many records are still to be moved.
    Moving(u64),
}

/// The shared queues and ledger, once this station is on their list. While AWS does not answer it waits, and tells of each try.
pub(crate) async fn stores(
    config: &Config,
    shared: &config::Shared,
    account: &Account,
    data: &Path,
    key: &ClinicKey,
    clock: &Arc<dyn Clock>,
    tell: &(dyn Fn(Way) + Sync),
) -> Result<Stores, Fault> {
    let ledger = Arc::new(tables(shared, account, clock));
    let membership = Membership {
        tables: ledger.clone(),
        station: config.station.id.clone(),
        installation: installation(data).map_err(|_| Fault::new(Class::Fatal, Code::DatabaseUnavailable))?,
    };
    let firms: Vec<_> = config.firms.iter().map(|firm| firm.id.clone()).collect();
    let dead = wish(config, shared).dead_letter_queue();
    let (url, dead, elsewhere) = loop {
        let joined = async {
            let url = sqs::find(account, &shared.queue).await?;
            let dead = sqs::find(account, &dead).await?;
            ledger.join(&membership.station, &membership.installation, &key.id()).await?;
            let elsewhere = ledger.serve(&membership.station, &firms).await?;
            Ok((url, dead, elsewhere))
        };
        match joined.await {
            Ok(found) => break found,
            Err(fault) => wait_for(fault, tell).await?,
        }
    };
    let queue = |url| -> Arc<dyn Queue> {
        let options = sqs::Options { url, visibility: config.engine.visibility, figures_every: FIGURES_EVERY };
        Arc::new(SqsQueue::new(account, options, clock.clone()))
    };
    Ok(Stores { queue: queue(url), backstop: queue(dead), ledger, membership, elsewhere })
}

/// Moves to the shared ones what this station's embedded queue and ledger hold. While AWS does not answer it waits.
pub(crate) async fn moved(
    from: &Database,
    to: &Stores,
    key: &ClinicKey,
    clock: &dyn Clock,
    tell: &(dyn Fn(Way) + Sync),
) -> Result<(), Fault> {
    let moving = Move { from, queue: &*to.queue, ledger: &to.membership.tables, clock, key, tell };
    loop {
        match moving.all().await {
            Ok(()) => return Ok(()),
            Err(fault) => wait_for(fault, tell).await?,
        }
    }
}

/// Waits a moment, unless only a person can help.
async fn wait_for(fault: Fault, tell: &(dyn Fn(Way) + Sync)) -> Result<(), Fault> {
    if !matches!(fault.class, Class::Away | Class::Wait(_) | Class::Retry) {
        return Err(fault);
    }
    tracing::warn!(%fault, "the shared queue and ledger do not answer; waiting for them");
    tell(Way::Failed(fault.code));
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a name that no other computer has")]
pub(crate) fn installation(data: &Path) -> io::Result<String> {
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
