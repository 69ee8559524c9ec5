//! What is asked of AWS, counted where it leaves: each attempt, as it is billed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use engine::server_clock::ServerClock;

use crate::adapters::transport;

/// How often each operation was sent.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<String, u64>>);

impl Requests {
    /// By the name of the permission that each needs, such as `dynamodb:UpdateItem`.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that went to one service (`sqs`, `dynamodb`).
    pub fn of(&self, service: &str) -> u64 {
        self.all().iter().filter(|(name, _)| name.split(':').next() == Some(service)).map(|(_, count)| count).sum()
    }

    fn count(&self, operation: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
    }
}

/// Sits in front of the wire.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) requests: Arc<Requests>,
    /// What AWS's clock says.
    pub(super) clock: Option<Arc<ServerClock>>,
}

/// No attempt takes longer, long polls included; an answer is dated at some moment of it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "request counter"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(metadata) = config.load::<Metadata>() {
            let service = metadata.service().to_lowercase();
            // A batch needs the permission of the single one.
            let operation = metadata.name().strip_suffix("Batch").unwrap_or(metadata.name());
            self.requests.count(format!("{service}:{operation}"));
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(transport::http_date);
        if let (Some(clock), Some(date)) = (&self.clock, date) {
            clock.answered(clock.asked().saturating_sub(LONGEST_ATTEMPT), date);
        }
        Ok(())
    }
}
