//! EHRs that are watched: their clients, the quotas of their API keys, and what other stations are told of them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{
    error::{Class, Code, Fault},
    gate::Gatekeeper,
    key::{FirmId, QuotaId, RecordKey, ResourceType},
    keys::{ClinicKey, Seal},
    ledger::Owner,
    pace::{Quota, ShareKeeper},
    ports::{Budget, Clock, Ehr, EhrFactory, Ledger, Reach, Unlimited, Vault},
    settings::{Clinics, EhrFirm},
    vault::LedgerVault,
};
use tokio::task::JoinSet;

use super::{WiringError, trust};
use crate::{
    adapters::{
        aws::{AccessKey, Account, Keys, Options},
        fhir::{Credentials, EhrClient, EhrConfig, FhirConfig, Flavour, SecretIn, SignIn},
        unavailable::Unavailable,
    },
    config::{self, Definition, DocumentsOf, EhrFlavour, EhrSignIn, Watched},
    secrets::{Secret, SecretName, Secrets, SecretsError},
};

/// The name of an EHR's sign-in among those of its clinic.
const SIGN_IN: &str = "ehr";
/// Encounters in one search, where several are allowed.
const ENCOUNTERS: u32 = 20;

/// What clients of watched EHRs are made with.
pub(super) struct Ehrs {
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) owner: Owner,
    pub(super) key: ClinicKey,
    /// By the configuration of this station, and later by others'.
    pub(super) quotas: Mutex<BTreeMap<QuotaId, Arc<Quota>>>,
    pub(super) shares: Mutex<Shares>,
}

/// Those who keep this station's part of quotas that only other stations have configured.
pub(super) struct Shares {
    gate: Arc<Gatekeeper>,
    keepers: JoinSet<()>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { gate: Gatekeeper::open(), keepers: JoinSet::new() }
    }
}

impl Ehrs {
    /// The clinics that this station's configuration has, and a factory for those of others where stations share the work.
    pub(super) async fn configured(self: &Arc<Self>, config: &config::Config) -> Clinics {
        for quota in &config.quotas {
            match Quota::new(quota.id.clone(), quota.allowance, self.clock.clone()) {
                Ok(made) => drop(self.known().insert(quota.id.clone(), made)),
                // The configuration was checked.
                Err(error) => tracing::error!(quota = %quota.id, %error, "a quota that cannot be kept"),
            }
        }
        let mut clinics = Clinics { quotas: self.known().values().cloned().collect(), ..Clinics::default() };
        for watched in &config.watched {
            let mut firm = self.firm(watched, &BTreeMap::new()).await;
            if config.shared.is_some() {
                firm.definition = self.definition(watched).await;
            }
            clinics.watched.insert(watched.id.clone(), firm);
        }
        if config.shared.is_some() {
            clinics.others = Some(self.clone());
        }
        clinics
    }

    /// Lets the others have this station's part of quotas.
    pub(super) async fn leave(&self) {
        let shares = std::mem::take(&mut *self.shares.lock().unwrap_or_else(PoisonError::into_inner));
        let Shares { gate, mut keepers } = shares;
        gate.close();
        while keepers.join_next().await.is_some() {}
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<QuotaId, Arc<Quota>>> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A quota by its id: as this station has it configured, or else as another does.
    fn quota(&self, wanted: &config::Quota) -> Option<Arc<Quota>> {
        if let Some(quota) = self.known().get(&wanted.id) {
            return Some(quota.clone());
        }
        let quota = Quota::new(wanted.id.clone(), wanted.allowance, self.clock.clone()).ok()?;
        self.known().insert(wanted.id.clone(), quota.clone());
        let mut keeper = ShareKeeper::new(quota.clone(), self.ledger.clone(), self.owner.clone());
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let passage = shares.gate.watch();
        shares.keepers.spawn(async move {
            if let Err(fault) = keeper.work(passage).await {
                tracing::error!(%fault, "a quota is kept to its reserve from now on");
            }
        });
        Some(quota)
    }

    async fn firm(&self, watched: &Watched, sealed: &BTreeMap<SecretName, String>) -> EhrFirm {
        let quota = watched.ehr.quota.as_ref().and_then(|quota| self.quota(quota));
        let ehr: Arc<dyn Ehr> = match self.connect(watched, sealed, quota.as_ref()).await {
            Ok(client) => Arc::new(client),
            Err(error) => {
                tracing::error!(firm = %watched.id, %error, "an EHR that cannot be watched from here");
                Arc::new(Unavailable::new(error.fault()))
            }
        };
        let (plan, classes) = (watched.ehr.plan, watched.ehr.classes.clone());
        EhrFirm { ehr, plan, classes, quota, paused: watched.ehr.paused, definition: None }
    }

    async fn connect(
        &self,
        watched: &Watched,
        sealed: &BTreeMap<SecretName, String>,
        quota: Option<&Arc<Quota>>,
    ) -> Result<EhrClient, WiringError> {
        let budget = quota.map_or_else(|| Arc::new(Unlimited) as Arc<dyn Budget>, |quota| quota.share_of(&watched.id));
        let key = RecordKey::token(watched.id.clone(), SIGN_IN);
        let seal = Seal::new(&self.key);
        let vault = LedgerVault::new(self.ledger.clone(), self.clock.clone(), self.owner.clone(), seal, key);
        let mut secrets = BTreeMap::new();
        for name in watched.ehr.secrets() {
            let found = match self.secrets.get(name).await {
                Err(SecretsError::Missing(name)) => {
                    self.opened(&watched.id, &name, sealed).ok_or(SecretsError::Missing(name))
                }
                found => found,
            };
            let missing = |source| WiringError::Secret { firm: watched.id.clone(), source };
            secrets.insert(name.clone(), found.map_err(missing)?);
        }
        client(watched, &secrets, budget, Some(Arc::new(vault)), self.clock.clone()).await
    }

    fn opened(&self, firm: &FirmId, name: &SecretName, sealed: &BTreeMap<SecretName, String>) -> Option<Secret> {
        let sealed = STANDARD.decode(sealed.get(name)?).ok()?;
        let plain = Seal::new(&self.key).open(&about(firm, name), &sealed).ok()?;
        String::from_utf8(plain).ok().map(Secret::new)
    }

    /// What the other stations are told.
    async fn definition(&self, watched: &Watched) -> Option<String> {
        let mut sealed = BTreeMap::new();
        if watched.ehr.share_secret {
            let seal = Seal::new(&self.key);
            for name in watched.ehr.secrets() {
                // A station that has not all of them must not make those of another be forgotten.
                let secret = self.secrets.get(name).await.ok()?;
                // Alike each time: two stations that are configured alike write the same.
                let text = seal.seal_alike(&about(&watched.id, name), secret.reveal().as_bytes());
                sealed.insert(name.clone(), STANDARD.encode(text));
            }
        }
        let authority = match &watched.ehr.trust {
            config::Trust::Authority(file) => Some(std::fs::read_to_string(file).ok()?),
            _ => None,
        };
        Some(Definition { watched: watched.clone(), sealed }.write(authority))
    }
}

fn about(firm: &FirmId, name: &SecretName) -> String {
    format!("{firm}/secret/{name}")
}

#[async_trait]
impl EhrFactory for Ehrs {
    async fn connect(&self, firm: &FirmId, definition: &str) -> Result<EhrFirm, Fault> {
        let unreadable = || Fault::new(Class::Stop, Code::Malformed).on("what another station says of this clinic");
        let Definition { watched, sealed } = Definition::read(firm, definition).ok_or_else(unreadable)?;
        Ok(self.firm(&watched, &sealed).await)
    }
}

/// Makes a client with the secrets that its clinic names; nothing is sent yet.
pub(crate) async fn client(
    watched: &Watched,
    secrets: &BTreeMap<SecretName, Secret>,
    budget: Arc<dyn Budget>,
    vault: Option<Arc<dyn Vault>>,
    clock: Arc<dyn Clock>,
) -> Result<EhrClient, WiringError> {
    let (firm, ehr) = (&watched.id, &watched.ehr);
    let secret = |name: &SecretName| {
        let missing = || WiringError::Secret { firm: firm.clone(), source: SecretsError::Missing(name.clone()) };
        secrets.get(name).cloned().ok_or_else(missing)
    };
    let secret_in = |place| match place {
        config::SecretIn::Header => SecretIn::Basic,
        config::SecretIn::Body => SecretIn::Body,
    };
    let (sign_in, credentials) = match &ehr.sign_in {
        EhrSignIn::Nobody => (SignIn::Nobody, Credentials::Nobody),
        EhrSignIn::ClientSecret(by) => (
            SignIn::ClientCredentials {
                token_url: by.token_url.to_string(),
                client_id: by.client_id.clone(),
                secret_in: secret_in(by.secret_in),
                scope: by.scope.clone(),
            },
            Credentials::ClientSecret(secret(&by.secret)?),
        ),
        EhrSignIn::PrivateKeyJwt { token_url, client_id, key, key_id, scope } => (
            SignIn::Statement {
                token_url: token_url.as_ref().map(ToString::to_string),
                client_id: client_id.clone(),
                key_id: key_id.clone(),
                scope: scope.clone(),
            },
            Credentials::Key(secret(key)?),
        ),
        EhrSignIn::RefreshToken { token_url, client_id, secret: own, secret_in: place, first, scope } => (
            SignIn::RefreshToken {
                token_url: token_url.to_string(),
                client_id: client_id.clone(),
                secret_in: secret_in(*place),
                scope: scope.clone(),
            },
            Credentials::Refresh {
                secret: match own {
                    Some(own) => Some(secret(own)?),
                    None => None,
                },
                first: secret(first)?,
            },
        ),
        EhrSignIn::Password { token_url, account, password } => (
            SignIn::Password { token_url: token_url.to_string(), account: account.clone() },
            Credentials::Password(secret(password)?),
        ),
        EhrSignIn::Aws { region, access_key } => {
            let access_key: Option<Arc<dyn Keys>> = match access_key {
                Some((id, name)) => {
                    let secret = secret(name)?;
                    Some(Arc::new(AccessKey { id: id.clone(), secret }))
                }
                None => None,
            };
            let account = Account::new(Options { region: Some(region.clone()), endpoint: None, access_key }).await;
            (SignIn::Aws { region: region.clone() }, Credentials::Aws(Box::new(account)))
        }
    };
    let api_key = match &ehr.api_key {
        Some(name) => Some(secret(name)?),
        None => None,
    };
    let config = EhrConfig {
        fhir: FhirConfig {
            base_url: ehr.base_url.to_string(),
            flavour: match ehr.flavour {
                EhrFlavour::Generic => &Flavour::GENERIC,
                EhrFlavour::Medplum => &Flavour::MEDPLUM,
                EhrFlavour::Healthlake => &Flavour::HEALTHLAKE,
                EhrFlavour::Ema => &Flavour::EMA,
            },
            sign_in,
            trust: trust(firm, &ehr.trust)?,
            timeout: ehr.timeout,
            page: ehr.page,
            probe: ResourceType::new("Encounter").expect("a FHIR resource type"),
        },
        reach: ehr.documents.map(|of| match of {
            DocumentsOf::Firm => Reach::Firm,
            DocumentsOf::Encounters => Reach::Encounters(ENCOUNTERS),
            DocumentsOf::Patient => Reach::Patient,
        }),
        categories: ehr.categories.clone(),
        api_key,
        zone: watched.zone.clone(),
    };
    EhrClient::new(config, credentials, budget, vault, clock)
        .map_err(|fault| WiringError::Connection { firm: firm.clone(), fault })
}

impl fmt::Debug for Ehrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ehrs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use engine::fakes::{FakeClock, MemoryLedger};
    use engine::key::{BootId, StationId};

    use super::*;
    use crate::{adapters::secrets::Memory, config::Config};

    const CONFIG: &str = r#"
        [station]
        id = "one"
        [shared]
        [[quota]]
        id = "key"
        requests = 1000
        per = "1min"
        [[firm]]
        id = "north"
        time-zone = "UTC"
        [firm.ehr]
        base-url = "http://127.0.0.1:1/fhir"
        token-url = "http://127.0.0.1:1/token"
        client-id = "relay"
        secret = "north"
        quota = "key"
        share-secret = true
    "#;

    fn station(name: &str, ledger: &Arc<MemoryLedger>, clock: &Arc<FakeClock>) -> (Arc<Ehrs>, Arc<Memory>) {
        let secrets = Arc::new(Memory::new());
        let owner = Owner { station: StationId::new(name).unwrap(), boot: BootId::new("boot").unwrap() };
        let ehrs = Ehrs {
            secrets: secrets.clone(),
            clock: clock.clone(),
            ledger: ledger.clone(),
            owner,
            key: ClinicKey::from_bytes([7; 32]),
            quotas: Mutex::default(),
            shares: Mutex::default(),
        };
        (Arc::new(ehrs), secrets)
    }

    #[tokio::test(start_paused = true)]
    async fn a_station_without_the_secret_takes_it_sealed_from_the_definition_or_does_without() {
        let clock = FakeClock::at(jiff::Timestamp::from_second(1_800_000_000).unwrap());
        let ledger = MemoryLedger::new();
        let firm = FirmId::new("north").unwrap();
        let told = async |config: &str| {
            let config = Config::parse(config, std::path::Path::new("")).unwrap();
            let (one, secrets) = station("one", &ledger, &clock);
            secrets.set(&"north".parse().unwrap(), Secret::new("synthetic-secret")).await.unwrap();
            let mut clinics = one.configured(&config).await;
            let configured = clinics.watched.remove(&firm).unwrap();
            assert!(configured.ehr.unavailable().is_none() && configured.quota.is_some());
            configured.definition.unwrap()
        };
        let shared = told(CONFIG).await;
        assert!(!shared.contains("synthetic-secret"));
        assert_eq!(shared, told(CONFIG).await, "alike each time");
        // The second station has neither the clinic nor its quota in its configuration, and no secret.
        let (two, _) = station("two", &ledger, &clock);
        let taken = EhrFactory::connect(&*two, &firm, &shared).await.unwrap();
        assert!(taken.ehr.unavailable().is_none());
        assert_eq!(taken.quota.map(|quota| quota.id().to_string()).as_deref(), Some("key"));
        let unshared = told(&CONFIG.replace("share-secret = true", "")).await;
        let without = EhrFactory::connect(&*two, &firm, &unshared).await.unwrap();
        assert_eq!(without.ehr.unavailable().map(|fault| fault.code), Some(Code::SecretMissing));
        let refused = EhrFactory::connect(&*two, &firm, "{}").await.unwrap_err();
        assert_eq!((refused.class, refused.code), (Class::Stop, Code::Malformed));
        two.leave().await;
    }
}
