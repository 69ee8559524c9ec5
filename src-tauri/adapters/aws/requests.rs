//! What is asked of AWS, counted where it leaves: each attempt, what it concerned, and what AWS bills for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef,
            BeforeTransmitInterceptorContextRef,
        },
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use engine::server_clock::ServerClock;
use serde_json::Value as Json;

use super::cost::{Billed, Spent};
use crate::adapters::transport;

/// SQS bills a request for each begun piece of what it carries.
const SQS_PIECE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Requests(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: BTreeMap<String, u64>,
    touched: BTreeSet<(String, String)>,
    spent: Spent,
}

impl Requests {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each operation was sent, by the name of the permission that it needs, such as `dynamodb:UpdateItem`.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.counts().sent.clone()
    }

    /// All that went to one service (`sqs`, `dynamodb`).
    pub fn of(&self, service: &str) -> u64 {
        self.all().iter().filter(|(name, _)| name.split(':').next() == Some(service)).map(|(_, count)| count).sum()
    }

    /// Each permission that was used, with the name of the queue or table it was used on.
    pub fn touched(&self) -> BTreeSet<(String, String)> {
        self.counts().touched.clone()
    }

    /// What is billed for it.
    pub fn spent(&self) -> Spent {
        self.counts().spent
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
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = operation(config) else { return Ok(()) };
        let mut counts = self.requests.counts();
        for name in context.request().body().bytes().map(concerned).unwrap_or_default() {
            counts.touched.insert((operation.clone(), name));
        }
        let asked = context.request().body().bytes().map_or(0, <[u8]>::len);
        if operation.starts_with("sqs:") && asked > SQS_PIECE {
            // The first piece is counted with the answer.
            let more = pieces(asked) - 1;
            counts.spent.add(&operation, Billed { sqs_requests: more, ..Billed::default() });
        }
        *counts.sent.entry(operation).or_default() += 1;
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

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = operation(config) else { return Ok(()) };
        let answer = context.response().body().bytes().unwrap_or_default();
        self.requests.counts().spent.add(&operation, billed(&operation, answer));
        Ok(())
    }
}

/// A batch needs the permission of the single one.
fn operation(config: &ConfigBag) -> Option<String> {
    let metadata = config.load::<Metadata>()?;
    let name = metadata.name().strip_suffix("Batch").unwrap_or(metadata.name());
    Some(format!("{}:{name}", metadata.service().to_lowercase()))
}

/// The names of the queue or tables in a request.
fn concerned(body: &[u8]) -> Vec<String> {
    let Ok(request) = serde_json::from_slice::<Json>(body) else { return Vec::new() };
    let one = request["TableName"].as_str().or_else(|| request["QueueName"].as_str());
    let one = one.or_else(|| request["QueueUrl"].as_str().map(super::sqs::name));
    let many = request["RequestItems"].as_object().into_iter().flatten().map(|(table, _)| table.clone());
    one.map(ToOwned::to_owned).into_iter().chain(many).collect()
}

fn pieces(bytes: usize) -> u64 {
    bytes.div_ceil(SQS_PIECE).max(1) as u64
}

fn billed(operation: &str, answer: &[u8]) -> Billed {
    if operation.starts_with("sqs:") {
        let looking = operation == "sqs:ReceiveMessage" && !contains(answer, b"\"Messages\"");
        return Billed { sqs_requests: pieces(answer.len()), looking, ..Billed::default() };
    }
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    // One for each table of a batch.
    let consumed = match &answer["ConsumedCapacity"] {
        Json::Array(all) => all.iter().filter_map(|one| one["CapacityUnits"].as_f64()).sum(),
        one => one["CapacityUnits"].as_f64().unwrap_or_else(|| {
            // A condition that is refused is billed as a write, and AWS does not say how much.
            let refused =
                answer["__type"].as_str().is_some_and(|name| name.ends_with("ConditionalCheckFailedException"));
            f64::from(u8::from(refused))
        }),
    };
    match operation {
        "dynamodb:UpdateItem" | "dynamodb:DeleteItem" | "dynamodb:PutItem" => {
            // How far polls have come and who takes part is written down whether there are events or not.
            let table = answer["ConsumedCapacity"]["TableName"].as_str().unwrap_or_default();
            let looking = table.ends_with("-cursor") || table.ends_with("-station");
            Billed { write_units: consumed, looking, ..Billed::default() }
        }
        _ => Billed { read_units: consumed, ..Billed::default() },
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_billed_is_read_from_the_answer() {
        let write = |table: &str| {
            let answer = json!({ "ConsumedCapacity": { "TableName": table, "CapacityUnits": 4.0 } }).to_string();
            billed("dynamodb:UpdateItem", answer.as_bytes())
        };
        assert_eq!(write("relay-link"), Billed { write_units: 4.0, ..Billed::default() });
        assert_eq!(write("relay-cursor"), Billed { write_units: 4.0, looking: true, ..Billed::default() });
        let refused = br#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}"#;
        assert_eq!(billed("dynamodb:UpdateItem", refused).write_units, 1.0);
        let batch = br#"{"ConsumedCapacity":[{"CapacityUnits":1.0},{"CapacityUnits":0.5}]}"#;
        assert_eq!(billed("dynamodb:BatchGetItem", batch).read_units, 1.5);
        assert_eq!(pieces(65_537), 2);
        assert!(billed("sqs:ReceiveMessage", b"{}").looking);
        assert!(!billed("sqs:ReceiveMessage", br#"{"Messages":[{}]}"#).looking);
        assert_eq!(concerned(br#"{"QueueUrl":"http://127.0.0.1:1/000000000000/relay"}"#), ["relay"]);
        assert_eq!(concerned(br#"{"RequestItems":{"relay-link":{}}}"#), ["relay-link"]);
    }
}
