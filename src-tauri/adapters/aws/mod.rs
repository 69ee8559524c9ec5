//! The shared queue and ledger: SQS and DynamoDB, for several stations that share the work.
//!
//! Several stations, and requests whose answers are lost and are sent again by the SDK: every write here either may be repeated
//! or carries the mark by which its own repetition is recognised. Nothing in AWS is compared with a clock of AWS's or ours.

pub mod apigateway;
mod check;
pub mod cost;
mod credentials;
pub mod dynamodb;
mod errors;
pub mod provision;
mod requests;
pub mod roles;
pub mod sqs;
pub mod template;

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, identity::IdentityCache, retry::RetryConfig, timeout::TimeoutConfig,
};
use engine::{
    ports::Clock,
    server_clock::{Heard, ServerClock},
};

use engine::error::{Class, Code, Fault};

pub use self::{
    credentials::{AccessKey, Keys},
    requests::Requests,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use credentials::{Ear, Source};

/// An attempt that takes longer is given up; the SDK then tries again.
const ATTEMPT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(4);
/// The SDK tries this often, with full jitter between and a budget of its own, before a call fails. Whoever called tries again
/// much later.
const ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `None`: what the environment or the profile says.
    pub region: Option<String>,
    /// Another address than AWS's own.
    pub endpoint: Option<String>,
    /// `None`: the default chain (environment, profile, the machine's role).
    pub access_key: Option<Arc<dyn Keys>>,
}

/// How to reach AWS, and what was asked of it.
#[derive(Debug, Clone)]
pub struct Account {
    sdk: SdkConfig,
    source: Source,
    requests: Arc<Requests>,
    server_clock: Option<Arc<ServerClock>>,
}

impl Account {
    /// Nothing is sent yet, except that the default chain may look for a region.
    pub async fn new(options: Options) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Some(region) = options.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let source = Source::new(options.access_key);
        // They are kept by their source, which hears of refusals.
        let sdk = loader.credentials_provider(source.clone()).identity_cache(IdentityCache::no_cache()).load().await;
        Self { sdk, source, requests: Arc::default(), server_clock: None }
    }

    /// The same account in a role, given by its ARN; what is sent in it is counted by itself. `None`: the credentials as they are.
    #[must_use]
    pub fn in_role(&self, role: Option<&str>) -> Self {
        let Some(arn) = role else { return self.clone() };
        let source = self.source.role(arn, &self.sdk);
        let credentials = SharedCredentialsProvider::new(source.clone());
        let sdk = self.sdk.clone().into_builder().credentials_provider(credentials).build();
        Self { sdk, source, requests: Arc::default(), server_clock: self.server_clock.clone() }
    }

    /// Whether there are credentials to sign with.
    pub(super) async fn identified(&self) -> Result<(), Fault> {
        self.credentials().await.map(drop)
    }

    /// Credentials to sign with.
    ///
    /// # Errors
    /// `CredentialsMissing`, or why they could not be had.
    pub async fn credentials(&self) -> Result<aws_credential_types::Credentials, Fault> {
        self.source.credentials().await.map_err(|error| {
            errors::of_credentials(&error).unwrap_or_else(|| Fault::new(Class::Stop, Code::CredentialsMissing))
        })
    }

    /// AWS does not take them: they are asked for anew.
    pub fn refused(&self) {
        self.source.refused();
    }

    /// Notes what AWS's clock says beside this one.
    #[must_use]
    pub fn beside(self, clock: Arc<dyn Clock>) -> Self {
        Self { server_clock: Some(Arc::new(ServerClock::new(clock))), ..self }
    }

    /// What AWS's clock said when it last answered.
    pub fn server_clock(&self) -> Option<Heard> {
        self.server_clock.as_ref()?.heard()
    }

    fn counter(&self) -> requests::Counter {
        requests::Counter { requests: self.requests.clone(), clock: self.server_clock.clone() }
    }

    /// The region, where one is known.
    pub fn region(&self) -> Option<&str> {
        self.sdk.region().map(AsRef::as_ref)
    }

    /// What was sent so far through this account's clients.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    pub(super) fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::config::Builder::from(&self.sdk);
        let config = config.interceptor(Ear(self.source.clone()));
        aws_sdk_sqs::Client::from_conf(config.interceptor(self.counter()).build())
    }

    pub(super) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.sdk);
        let config = config.interceptor(Ear(self.source.clone()));
        aws_sdk_dynamodb::Client::from_conf(config.interceptor(self.counter()).build())
    }
}
