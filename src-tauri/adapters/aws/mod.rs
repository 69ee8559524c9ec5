//! The shared queue and ledger: SQS and DynamoDB, for several stations that share the work.
//!
//! Several stations, and requests whose answers are lost and are sent again by the SDK: every write here either may be repeated
//! or carries the mark by which its own repetition is recognised. Nothing in AWS is compared with a clock of AWS's or ours.

pub mod apigateway;
mod check;
pub mod dynamodb;
mod errors;
pub mod provision;
mod requests;
pub mod sqs;
pub mod template;

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::config::Credentials;
use engine::{
    ports::Clock,
    server_clock::{Heard, ServerClock},
};

pub use self::requests::Requests;
use super::secret::Secret;

/// An attempt that takes longer is given up; the SDK then tries again.
const ATTEMPT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(4);
/// The SDK tries this often, with full jitter between and a budget of its own, before a call fails. Whoever called tries again
/// much later.
const ATTEMPTS: u32 = 3;

/// An access key of an AWS account.
#[derive(Debug, Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `None`: what the environment or the profile says.
    pub region: Option<String>,
    /// Another address than AWS's own.
    pub endpoint: Option<String>,
    /// `None`: the default chain (environment, profile, the machine's role).
    pub access_key: Option<AccessKey>,
}

/// How to reach AWS, and what was asked of it.
#[derive(Debug, Clone)]
pub struct Account {
    sdk: SdkConfig,
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
        if let Some(AccessKey { id, secret }) = options.access_key {
            loader = loader.credentials_provider(Credentials::new(id, secret.reveal(), None, None, "configuration"));
        }
        Self { sdk: loader.load().await, requests: Arc::default(), server_clock: None }
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
        aws_sdk_sqs::Client::from_conf(config.interceptor(self.counter()).build())
    }

    pub(super) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.sdk);
        aws_sdk_dynamodb::Client::from_conf(config.interceptor(self.counter()).build())
    }
}
