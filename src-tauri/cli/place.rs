//! Where a command works: the configuration, the data directory, and the store of secrets.

use std::{collections::BTreeSet, fs, io, path::PathBuf, time::Duration};

use engine::keys::ClinicKey;

use crate::{
    adapters::secrets::{Keychain, SealedFile, passphrase_from_service},
    clinic_key::{self, ClinicKeyError},
    config::{self, Config, ConfigError},
    secrets::{SecretName, Secrets, SecretsError},
};

/// How long a keychain may take to answer when nobody can be asked, and when somebody sits there.
const UNATTENDED: Duration = Duration::from_secs(10);
const ATTENDED: Duration = Duration::from_secs(90);
/// The sealed secrets of a server without a keychain, in the data directory.
const SEALED_FILE: &str = "secrets.sealed";

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "This account has no home directory. Name the configuration with --config FILE and its data-directory in it."
    )]
    Homeless,
    #[error("The data directory {} cannot be made: {}. Make it, or name another one in the configuration.", .0.display(), .1)]
    Data(PathBuf, io::ErrorKind),
    #[error(
        "The data directory {} belongs to another account of this computer. Sign in as that account, or name a data-directory of your own in the configuration.",
        .0.display()
    )]
    OtherAccount(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Place {
    pub file: PathBuf,
    pub config: Config,
    pub data: PathBuf,
}

impl Place {
    pub fn find(file: Option<PathBuf>) -> Result<Self, PlaceError> {
        let file = file.or_else(Config::usual_place).ok_or(PlaceError::Homeless)?;
        let config = Config::read(&file)?;
        let data = config.station.data_directory.clone().or_else(config::data_directory).ok_or(PlaceError::Homeless)?;
        fs::create_dir_all(&data).map_err(|error| PlaceError::Data(data.clone(), error.kind()))?;
        private(&data).map_err(|error| match error.kind() {
            // It is there, and only its owner may say who gets in.
            io::ErrorKind::PermissionDenied => PlaceError::OtherAccount(data.clone()),
            kind => PlaceError::Data(data.clone(), kind),
        })?;
        Ok(Self { file, config, data })
    }

    /// The keychain; on a server whose service manager hands over a passphrase, the sealed file.
    /// `attended`: somebody sits here who can answer a question of the keychain's.
    pub fn secrets(&self, attended: bool) -> Result<Box<dyn Secrets>, SecretsError> {
        if let Some(passphrase) = passphrase_from_service(&|name| std::env::var_os(name))? {
            return Ok(Box::new(SealedFile::new(self.data.join(SEALED_FILE), passphrase)));
        }
        let patience = if attended { ATTENDED } else { UNATTENDED };
        Ok(Box::new(Keychain::new(None, patience)))
    }

    /// The secrets that the configuration names.
    pub fn secret_names(&self) -> Vec<SecretName> {
        let firms = self.config.firms.iter();
        let names = firms.flat_map(|firm| {
            let fhir = firm.fhir.sign_in.as_ref().map(|sign_in| sign_in.secret.clone());
            let hook = firm.fhir.hook.as_ref().map(|(_, key)| key.clone());
            fhir.into_iter().chain([firm.filemaker.password.clone()]).chain(hook)
        });
        let shared = self.config.shared.iter().filter_map(|shared| shared.access_key.clone());
        let watched = self.config.watched.iter().flat_map(|firm| firm.ehr.secrets()).cloned();
        let mut all: Vec<_> = names.chain(watched).chain(shared.map(|(_, secret)| secret)).collect();
        // Clinics may share an API key.
        let mut seen = BTreeSet::new();
        all.retain(|name| seen.insert(name.clone()));
        all
    }

    /// The clinic key, which must be there already.
    pub async fn key(&self, secrets: &dyn Secrets) -> Result<Option<ClinicKey>, ClinicKeyError> {
        clinic_key::read(secrets, &self.data).await
    }
}

#[cfg(unix)]
fn private(data: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))
}

/// On Windows the account's own folder for programs' data is private already.
#[cfg(not(unix))]
fn private(_data: &std::path::Path) -> io::Result<()> {
    Ok(())
}
