//! The one place that sees both sides: configuration and secrets become ports, ports become a running engine.

#![allow(clippy::disallowed_methods, reason = "time and chance enter here")]

pub(crate) mod ehr;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use engine::{
    chance::Chance,
    error::{Class, Code, Fault},
    hint::{self, Hint, Origin, Subject},
    key::{BootId, FirmId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::Owner,
    ports::{Clock, FirmPorts, Message, Queue},
    settings::{Clinics, Firm, Settings},
    supervisor::{Engine, Handle, Shared},
};
use tokio::task::JoinSet;

use self::ehr::Ehrs;
use crate::{
    account,
    adapters::{
        fhir::{self, Credentials, FhirClient, FhirConfig, Flavour},
        filemaker::{FileMaker, FileMakerConfig},
        pin::Fingerprint,
        sqlite::{self, Database},
        transport::Trust,
        unavailable::Unavailable,
    },
    config::{self, Config},
    relay_lock::{LockError, RelayLock},
    secrets::{Secrets, SecretsError},
    shared::Stores,
    stations::Roster,
};

/// How long a receive from the embedded queue waits before it comes back empty.
const RECEIVE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Between looks for due records in a shared ledger, which are billed.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// The database's file in the data directory.
pub const DATABASE: &str = "relay.db";

#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    #[error("clinic {firm}: {source}")]
    Secret { firm: FirmId, source: SecretsError },
    #[error("clinic {firm}: {}: {fault}", crate::view::words::sentence(.fault.code))]
    Connection { firm: FirmId, fault: Fault },
    #[error("clinic {firm}: the certificate file {file} cannot be read: {kind}")]
    CertificateFile { firm: FirmId, file: String, kind: std::io::ErrorKind },
    #[error("clinic {firm}: a SHA-256 fingerprint has 64 hexadecimal digits")]
    Fingerprint { firm: FirmId },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{} ({fault})", crate::view::words::sentence(.fault.code))]
    Database { fault: Fault },
    #[error("{}", crate::view::words::refused_for_the_clock(*.ahead))]
    Clock { ahead: i64 },
    #[error("shared queue and ledger: {} ({fault})", crate::view::words::sentence(.fault.code))]
    Shared { fault: Fault },
}

impl WiringError {
    /// What there is to say of a firm that could not be set up.
    fn fault(self) -> Fault {
        match self {
            Self::Secret { source: SecretsError::Missing(name), .. } => {
                Fault::new(Class::Stop, Code::SecretMissing).on(name.to_string())
            }
            Self::Secret { source: SecretsError::Locked, .. } => Fault::new(Class::Stop, Code::KeychainLocked),
            Self::CertificateFile { file, .. } => Fault::new(Class::Stop, Code::CertificateRefused).on(file),
            Self::Connection { fault, .. } => fault,
            _ => unset(),
        }
    }
}

/// The clients of one firm, with what is configured for it.
#[derive(Debug, Clone)]
pub struct Connected {
    pub config: config::Firm,
    pub fhir: Arc<FhirClient>,
    pub filemaker: Arc<FileMaker>,
}

impl Connected {
    /// Makes the clients; nothing is sent yet.
    pub async fn new(firm: &config::Firm, secrets: &dyn Secrets, clock: &Arc<dyn Clock>) -> Result<Self, WiringError> {
        let secret = async |name| {
            secrets.get(name).await.map_err(|source| WiringError::Secret { firm: firm.id.clone(), source })
        };
        let refused = |fault| WiringError::Connection { firm: firm.id.clone(), fault };
        let (sign_in, credentials) = match &firm.fhir.sign_in {
            None => (fhir::SignIn::Nobody, Credentials::Nobody),
            Some(sign_in) => (
                fhir::SignIn::ClientCredentials {
                    token_url: sign_in.token_url.to_string(),
                    client_id: sign_in.client_id.clone(),
                    secret_in: match sign_in.secret_in {
                        config::SecretIn::Header => fhir::SecretIn::Basic,
                        config::SecretIn::Body => fhir::SecretIn::Body,
                    },
                    scope: sign_in.scope.clone(),
                },
                Credentials::ClientSecret(secret(&sign_in.secret).await?),
            ),
        };
        let probe = firm.mapping.resources.keys().next().cloned();
        let probe = probe.unwrap_or_else(|| ResourceType::new("Patient").expect("a FHIR resource type"));
        let fhir = FhirConfig {
            base_url: firm.fhir.base_url.to_string(),
            flavour: flavour(firm.fhir.flavour),
            sign_in,
            trust: trust(&firm.id, &firm.fhir.trust)?,
            timeout: firm.fhir.timeout,
            page: firm.fhir.page,
            probe,
        };
        let fhir = FhirClient::new(fhir, credentials, clock.clone()).map_err(refused)?;
        let filemaker = &firm.filemaker;
        let database = FileMakerConfig {
            url: filemaker.url.to_string(),
            database: filemaker.database.clone(),
            account: filemaker.account.clone(),
            sessions: filemaker.sessions,
            connect_timeout: filemaker.connect_timeout,
            read_timeout: filemaker.read_timeout,
            trust: trust(&firm.id, &filemaker.trust)?,
            http1_only: filemaker.http1_only,
            exchange_after_writes: filemaker.exchange_after_writes,
            exchange_after: filemaker.exchange_after,
        };
        let password = secret(&filemaker.password).await?;
        let filemaker = FileMaker::new(database, password, clock.clone()).map_err(refused)?;
        Ok(Self { config: firm.clone(), fhir: Arc::new(fhir), filemaker: Arc::new(filemaker) })
    }

    /// All firms of a configuration; the first that cannot be set up is an error.
    pub async fn all(config: &Config, secrets: &dyn Secrets, clock: &Arc<dyn Clock>) -> Result<Vec<Self>, WiringError> {
        let mut all = Vec::new();
        for firm in &config.firms {
            all.push(Self::new(firm, secrets, clock).await?);
        }
        Ok(all)
    }

    /// Those firms of a configuration that can be set up; the others with what is in their way.
    pub async fn each(
        config: &Config,
        secrets: &dyn Secrets,
        clock: &Arc<dyn Clock>,
    ) -> (Vec<Self>, Vec<(FirmId, WiringError)>) {
        let (mut connected, mut failed) = (Vec::new(), Vec::new());
        for firm in &config.firms {
            match Self::new(firm, secrets, clock).await {
                Ok(one) => connected.push(one),
                Err(error) => failed.push((firm.id.clone(), error)),
            }
        }
        (connected, failed)
    }

    fn ports(&self) -> FirmPorts {
        FirmPorts { fhir: self.fhir.clone(), clinic: self.filemaker.clone() }
    }

    /// Makes hints of what the FHIR server tells by itself. What is lost here, the poll finds.
    async fn listen(self, queue: Arc<dyn Queue>, clock: Arc<dyn Clock>) {
        let chance = Arc::new(Chance::from_seed(rand::random()));
        let types = self.config.mapping.resources.keys().cloned().collect();
        let hint = |resource, id| {
            let firm = self.config.id.clone();
            let hint = Hint { firm, resource, subject: Subject::Resource(id), origin: Origin::Push, at: clock.now() };
            let group = hint.key().to_string();
            let message = Message { id: chance.name(), group, body: hint::encode(vec![hint]) };
            let queue = queue.clone();
            async move {
                if let Err(fault) = queue.send(vec![message]).await {
                    tracing::warn!(%fault, "a change that the chart system announced could not be queued; the poll finds it");
                }
            }
        };
        fhir::listen::listen(self.fhir.clone(), types, chance.clone(), hint).await;
    }
}

/// What a relay stands on, before the engine: the one relay of its data directory, with its database open.
#[derive(Debug)]
pub struct Base {
    pub database: Database,
    lock: RelayLock,
    owner: Owner,
    key: ClinicKey,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
}

impl Base {
    /// `secrets` are those of EHRs that are watched.
    pub async fn lay(
        config: &Config,
        data: &Path,
        key: &ClinicKey,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WiringError> {
        let lock = RelayLock::take(data, account::name().as_deref())?;
        let owner = Owner { station: config.station.id.clone(), boot: boot() };
        let options = sqlite::Options { visibility: config.engine.visibility, ..sqlite::Options::default() };
        let database = Database::open_with(&data.join(DATABASE), key, owner.clone(), clock.clone(), options)
            .await
            .map_err(|fault| WiringError::Database { fault })?;
        Ok(Self { database, lock, owner, key: key.clone(), secrets, clock })
    }

    /// Lets go of it again, where nothing came of it.
    pub async fn leave(self) -> Result<(), Fault> {
        self.database.close().await
    }
}

/// A running relay: the engine and what it runs on.
#[derive(Debug)]
pub struct Relay {
    pub database: Database,
    engine: Engine,
    clinics: Vec<Arc<FileMaker>>,
    /// Those who listen for what servers tell by themselves.
    listeners: JoinSet<()>,
    roster: Option<Roster>,
    ehrs: Arc<Ehrs>,
    lock: RelayLock,
}

impl Relay {
    /// A station that works by itself. A firm of the configuration that is not among `connected` is there all the same, as
    /// stopped: it must not be missing from the picture that says "up to date".
    pub async fn start(
        config: &Config,
        data: &Path,
        key: &ClinicKey,
        connected: &[Connected],
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WiringError> {
        let base = Base::lay(config, data, key, secrets, clock).await?;
        Self::start_on(base, config, connected, Vec::new(), None).await
    }

    /// With what the configuration's `[shared]` names, once this station is on its list. `failed` are the firms that could not
    /// be set up.
    pub async fn start_on(
        base: Base,
        config: &Config,
        connected: &[Connected],
        failed: Vec<(FirmId, WiringError)>,
        stores: Option<Stores>,
    ) -> Result<Self, WiringError> {
        let Base { database, lock, owner, key, secrets, clock } = base;
        let mut settings = Settings::new(owner.clone(), key.clone(), rand::random());
        config.engine.apply(&mut settings);
        // Where there is only one clinic, every message is about it.
        let only = config.firms.first().filter(|_| config.firms.len() == 1).map(|firm| firm.id.clone());
        settings.default_firm = only.clone();
        let (queue, backstop, ledger, roster): (_, Option<Arc<dyn Queue>>, _, _) = match (&config.shared, stores) {
            (None, _) => {
                // The embedded queue wakes whoever waits at once, and asking it costs nothing: an empty answer is the proof that
                // nothing is left in it.
                settings.receive_wait = RECEIVE_WAIT;
                (database.queue(), None, database.ledger(), None)
            }
            // It must not work by itself beside the others.
            (Some(_), None) => {
                let fault = Fault::new(Class::Stop, Code::NotSetUp).on("the account of [shared]");
                return Err(WiringError::Shared { fault });
            }
            (Some(shared), Some(stores)) => {
                settings.due_every = LOOK_EVERY;
                settings.default_firm = shared.default_firm.clone().or(only.filter(|_| stores.elsewhere.is_empty()));
                (stores.queue, Some(stores.backstop), stores.ledger, Some(stores.membership))
            }
        };
        let shared =
            Shared { clock: clock.clone(), queue, backstop, ledger, audit: database.audit(), notes: database.notes() };
        let mut failed: BTreeMap<_, _> = failed.into_iter().collect();
        let synced: BTreeMap<_, _> = config
            .firms
            .iter()
            .map(|firm| {
                let connected = connected.iter().find(|connected| connected.config.id == firm.id);
                let ports = connected.map_or_else(|| not_set_up(failed.remove(&firm.id)), Connected::ports);
                let (mapping, zone, plan) = (firm.mapping.clone(), firm.zone.clone(), firm.plan);
                let (rows, brake) = (firm.rows, firm.brake);
                (firm.id.clone(), Firm { ports, mapping, zone, plan, rows, brake })
            })
            .collect();
        let clinics = connected.iter().map(|connected| connected.filemaker.clone()).collect();
        let mut listeners = JoinSet::new();
        for connected in connected.iter().filter(|connected| connected.config.fhir.websocket) {
            listeners.spawn(connected.clone().listen(shared.queue.clone(), clock.clone()));
        }
        let (quotas, shares) = (Mutex::default(), Mutex::default());
        let ledger = shared.ledger.clone();
        let ehrs = Arc::new(Ehrs { secrets, clock: clock.clone(), ledger, owner, key, quotas, shares });
        let watched = Box::pin(ehrs.configured(config)).await;
        let engine = Engine::start(shared, Clinics { synced, ..watched }, settings);
        let roster = roster.map(|membership| Roster::keep(membership, engine.handle.clone(), clock));
        Ok(Self { engine, database, clinics, listeners, roster, ehrs, lock })
    }

    pub fn handle(&self) -> Handle {
        self.engine.handle.clone()
    }

    /// Who takes part beside this station, where the work is shared.
    pub fn roster(&self) -> Option<Roster> {
        self.roster.clone()
    }

    /// Waits until the engine has ended, by a drain or by a fault of our own storage; then signs out and closes the database.
    pub async fn ended(self) -> Result<(), Fault> {
        let ended = self.engine.ended().await;
        drop(self.listeners);
        self.ehrs.leave().await;
        let mut turned_away = Ok(());
        if let Some(roster) = &self.roster {
            roster.leave().await;
            turned_away = roster.turned_away().map_or(Ok(()), Err);
        }
        for clinic in &self.clinics {
            clinic.close().await;
        }
        let closed = self.database.close().await;
        drop(self.lock);
        ended.and(turned_away).and(closed)
    }
}

fn not_set_up(why: Option<WiringError>) -> FirmPorts {
    let unavailable = Arc::new(Unavailable::new(why.map_or_else(unset, WiringError::fault)));
    FirmPorts { fhir: unavailable.clone(), clinic: unavailable }
}

fn unset() -> Fault {
    Fault::new(Class::Stop, Code::NotSetUp)
}

/// A name for this run of the process.
pub fn boot() -> BootId {
    BootId::new(format!("{:016x}", rand::random::<u64>())).expect("sixteen hexadecimal digits")
}

/// The name under which a command that is not a relay works on the ledger.
pub fn command_owner(station: &StationId) -> Owner {
    Owner { station: station.clone(), boot: boot() }
}

fn flavour(flavour: config::Flavour) -> &'static Flavour {
    match flavour {
        config::Flavour::Generic => &Flavour::GENERIC,
        config::Flavour::Medplum => &Flavour::MEDPLUM,
    }
}

fn trust(firm: &FirmId, trust: &config::Trust) -> Result<Trust, WiringError> {
    Ok(match trust {
        config::Trust::System => Trust::System,
        config::Trust::Authority(file) => Trust::Authority(std::fs::read(file).map_err(|error| {
            WiringError::CertificateFile { firm: firm.clone(), file: file.display().to_string(), kind: error.kind() }
        })?),
        config::Trust::Certificates(pem) => Trust::Authority(pem.clone().into_bytes()),
        config::Trust::Pin(text) => {
            Trust::Pin(Fingerprint::parse(text).ok_or_else(|| WiringError::Fingerprint { firm: firm.clone() })?)
        }
    })
}
