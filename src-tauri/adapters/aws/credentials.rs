//! Who we are for AWS: credentials from the default chain or from the store of secrets, as they are or exchanged for those of a role.
//!
//! They are asked for anew before they expire, and after AWS has refused them: whoever renews a key, in the keychain or in AWS's
//! own files, need not start the relay again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_config::{SdkConfig, default_provider::credentials::DefaultCredentialsChain, sts::AssumeRoleProvider};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_sqs::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef},
    error::BoxError,
};
use tokio::sync::Mutex;

use super::errors;
use crate::adapters::secret::Secret;

/// Asked for anew so long before they expire.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// Refused ones are not asked for again sooner: neither a keychain nor STS is to be asked once for each call.
const PAUSE: Duration = Duration::from_secs(5);

/// An access key of an AWS account.
#[derive(Debug, Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
}

/// Where an access key is kept.
#[async_trait]
pub trait Keys: Send + Sync + fmt::Debug {
    /// As it is now; `None` where it is not there.
    async fn key(&self) -> Option<AccessKey>;
}

/// One that stays as it is.
#[async_trait]
impl Keys for AccessKey {
    async fn key(&self) -> Option<AccessKey> {
        Some(self.clone())
    }
}

/// The credentials of one account, or of one role that it takes on.
#[derive(Clone)]
pub(super) struct Source(Arc<Inner>);

struct Inner {
    /// `None`: the default chain.
    keys: Option<Arc<dyn Keys>>,
    /// The role, and what STS is reached with.
    role: Option<(Source, String, SdkConfig)>,
    kept: Mutex<Kept>,
    /// Rises when AWS refuses what it was given.
    refusals: AtomicU64,
}

#[derive(Default)]
struct Kept {
    credentials: Option<Credentials>,
    /// In the words of whoever was asked.
    failed: Option<String>,
    asked: Option<tokio::time::Instant>,
    /// So many refusals were known then.
    refusals: u64,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("role", &self.0.role.as_ref().map(|role| &role.1)).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(keys: Option<Arc<dyn Keys>>) -> Self {
        Self::of(keys, None)
    }

    /// The credentials of a role; `sdk` is how STS is reached.
    pub(super) fn role(&self, arn: &str, sdk: &SdkConfig) -> Self {
        Self::of(None, Some((self.clone(), arn.to_owned(), sdk.clone())))
    }

    fn of(keys: Option<Arc<dyn Keys>>, role: Option<(Source, String, SdkConfig)>) -> Self {
        Self(Arc::new(Inner { keys, role, kept: Mutex::default(), refusals: AtomicU64::default() }))
    }

    pub(super) fn refused(&self) {
        self.0.refusals.fetch_add(1, Ordering::Relaxed);
        if let Some((whose, ..)) = &self.0.role {
            whose.refused();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "AWS says by the time of day when credentials end")]
    pub(super) async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let mut kept = self.0.kept.lock().await;
        let refusals = self.0.refusals.load(Ordering::Relaxed);
        let rested = kept.asked.is_none_or(|asked| asked.elapsed() >= PAUSE);
        if let Some(credentials) = &kept.credentials {
            let lasts = credentials.expiry().is_none_or(|end| SystemTime::now() + EARLY < end);
            if (lasts && refusals == kept.refusals) || !rested {
                return Ok(credentials.clone());
            }
        } else if let Some(failed) = kept.failed.clone().filter(|_| !rested) {
            return Err(CredentialsError::provider_error(failed));
        }
        let fresh = self.ask().await;
        let failed = fresh.as_ref().err().map(errors::words);
        if let Some(failed) = &failed
            && errors::names_refused_credentials(failed)
            && let Some((whose, ..)) = &self.0.role
        {
            whose.refused();
        }
        let credentials = fresh.as_ref().ok().cloned();
        *kept = Kept { credentials, failed, asked: Some(tokio::time::Instant::now()), refusals };
        fresh
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        if let Some((whose, arn, sdk)) = &self.0.role {
            let role = AssumeRoleProvider::builder(arn).session_name("chart-relay").configure(sdk);
            return role.build_from_provider(whose.clone()).await.provide_credentials().await;
        }
        match &self.0.keys {
            Some(keys) => {
                let missing = || CredentialsError::not_loaded("the store of secrets does not have the key");
                let AccessKey { id, secret } = keys.key().await.ok_or_else(missing)?;
                Ok(Credentials::new(id, secret.reveal(), None, None, "configuration"))
            }
            // Made anew each time: it reads AWS's files once only.
            None => DefaultCredentialsChain::builder().build().await.provide_credentials().await,
        }
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(Box::pin(self.credentials()))
    }
}

/// Hears when AWS refuses what it was given.
#[derive(Debug)]
pub(super) struct Ear(pub(super) Source);

impl Intercept for Ear {
    fn name(&self) -> &'static str {
        "refused credentials"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if !answer.status().is_success()
            && answer
                .body()
                .bytes()
                .is_some_and(|body| errors::names_refused_credentials(&String::from_utf8_lossy(body)))
        {
            self.0.refused();
        }
        Ok(())
    }
}
