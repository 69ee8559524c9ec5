//! Throwaway secrets for the demo and for tests: they touch no keychain and end with the process.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;

use crate::secrets::{Secret, SecretName, Secrets, SecretsError, check_length};

#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<SecretName, Secret>>);

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretName, Secret>> {
        // A panic elsewhere cannot leave the map half written: every change to it is one call.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Secrets for Memory {
    async fn get(&self, name: &SecretName) -> Result<Secret, SecretsError> {
        self.map().get(name).cloned().ok_or_else(|| SecretsError::Missing(name.clone()))
    }

    async fn set(&self, name: &SecretName, secret: Secret) -> Result<(), SecretsError> {
        check_length(name, &secret)?;
        self.map().insert(name.clone(), secret);
        Ok(())
    }

    async fn delete(&self, name: &SecretName) -> Result<bool, SecretsError> {
        Ok(self.map().remove(name).is_some())
    }
}
