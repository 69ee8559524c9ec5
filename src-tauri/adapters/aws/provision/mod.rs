//! Creating what stations share, or finding that it is there and right. Asked again it changes nothing.

mod policies;
mod tables;

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName;
use engine::error::{Code, Fault};
use serde_json::{Value as Json, json};

pub use self::policies::policies;
use super::{Account, dynamodb::tables::Tables, errors};

/// What is to be there.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The queue's name; one that ends in `.fifo` is a FIFO queue.
    pub queue: String,
    /// What the tables' names begin with.
    pub prefix: String,
    pub visibility: Duration,
    /// A key of the clinic's own in KMS; `None`: AWS's.
    pub kms_key: Option<String>,
    /// Which of AWS's worlds names the ARNs: `aws`, or that of China or of the US government.
    pub partition: &'static str,
}

/// By the name of a region.
pub fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Longer than any outage that nobody notices, and less than the dead-letter queue's: a message keeps its age when it is moved.
pub const RETENTION: Duration = Duration::from_secs(10 * 86_400);
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 86_400);
/// A backstop only: attempts are counted in the records.
pub const RECEIVES: u32 = 1000;
/// TTL tidies by this attribute, seconds since 1970: only what may go once its time is over, and nothing depends on whether it has.
pub const EXPIRES: &str = "expires";

/// One thing that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `queue relay`, `table relay-link`.
    pub what: String,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Right,
    Created,
    /// It is missing, and nothing was to be changed.
    Missing,
    /// Settings that were put right, or (where nothing was to be changed, or they cannot be changed) are to be.
    Differs {
        settings: Vec<String>,
        mended: bool,
    },
}

impl Wish {
    pub fn is_fifo(&self) -> bool {
        self.queue.ends_with(".fifo")
    }

    pub fn dead_letter_queue(&self) -> String {
        match self.queue.strip_suffix(".fifo") {
            Some(name) => format!("{name}-dead.fifo"),
            None => format!("{}-dead", self.queue),
        }
    }

    /// The settings of the queue, all but those that name other things' ARNs.
    pub fn queue_settings(&self) -> Vec<(QueueAttributeName, String)> {
        let mut settings = vec![
            (QueueAttributeName::MessageRetentionPeriod, RETENTION.as_secs().to_string()),
            (QueueAttributeName::VisibilityTimeout, self.visibility.as_secs().to_string()),
            (QueueAttributeName::ReceiveMessageWaitTimeSeconds, "20".to_owned()),
            self.encryption(),
        ];
        if self.is_fifo() {
            // By content, two hints about one record within five minutes would be one, and the second edit lost.
            settings.push((QueueAttributeName::ContentBasedDeduplication, "false".to_owned()));
        }
        settings
    }

    pub fn dead_letter_settings(&self) -> Vec<(QueueAttributeName, String)> {
        vec![
            (QueueAttributeName::MessageRetentionPeriod, DEAD_LETTER_RETENTION.as_secs().to_string()),
            self.encryption(),
        ]
    }

    /// SQS's own key, or the clinic's.
    fn encryption(&self) -> (QueueAttributeName, String) {
        match &self.kms_key {
            Some(key) => (QueueAttributeName::KmsMasterKeyId, key.clone()),
            None => (QueueAttributeName::SqsManagedSseEnabled, "true".to_owned()),
        }
    }
}

/// Goes through everything; with `change` what is missing is made and what differs is put right.
///
/// # Errors
/// The first call that failed; what was made until then stays, and the next time it is found.
pub async fn provision(account: &Account, wish: &Wish, change: bool) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    let dead = queue(account, &wish.dead_letter_queue(), wish.dead_letter_settings(), change, &mut found).await?;
    let mut settings = wish.queue_settings();
    if let Some((_, arn)) = &dead {
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES.to_string() });
        settings.push((QueueAttributeName::RedrivePolicy, policy.to_string()));
    }
    let main = queue(account, &wish.queue, settings, change, &mut found).await?;
    for (address, arn) in [&dead, &main].into_iter().flatten() {
        tls_only(account, address, arn, change, &mut found).await?;
    }
    for shape in Tables::new(&wish.prefix).shapes() {
        tables::table(account, wish, &shape, change, &mut found).await?;
    }
    Ok(found)
}

/// The address and ARN of a queue, unless it is missing and stays so.
async fn queue(
    account: &Account,
    name: &str,
    settings: Vec<(QueueAttributeName, String)>,
    change: bool,
    found: &mut Vec<Found>,
) -> Result<Option<(String, String)>, Fault> {
    let client = account.sqs();
    let what = format!("queue {name}");
    let mut created = false;
    let address = match client.get_queue_url().queue_name(name).send().await {
        Ok(answer) => answer.queue_url,
        Err(error) => match errors::of(&error, "sqs:GetQueueUrl", name) {
            missing if missing.code == Code::QueueMissing && !change => {
                found.push(Found { what, state: State::Missing });
                return Ok(None);
            }
            missing if missing.code == Code::QueueMissing => {
                let mut attributes: HashMap<_, _> = settings.iter().cloned().collect();
                if name.ends_with(".fifo") {
                    attributes.insert(QueueAttributeName::FifoQueue, "true".to_owned());
                }
                let call = client.create_queue().queue_name(name).set_attributes(Some(attributes));
                created = true;
                call.send().await.map_err(|error| errors::of(&error, "sqs:CreateQueue", name))?.queue_url
            }
            fault => return Err(fault),
        },
    };
    let address = address.unwrap_or_default();
    let call = client.get_queue_attributes().queue_url(&address).attribute_names(QueueAttributeName::All);
    let answer = call.send().await.map_err(|error| errors::of(&error, "sqs:GetQueueAttributes", name))?;
    let actual = answer.attributes.unwrap_or_default();
    let arn = actual.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default();
    let wrong: Vec<_> = settings.into_iter().filter(|(name, value)| !agrees(name, actual.get(name), value)).collect();
    let names: Vec<String> = wrong.iter().map(|(name, _)| name.to_string()).collect();
    if !wrong.is_empty() && change {
        let call = client.set_queue_attributes().queue_url(&address).set_attributes(Some(wrong.into_iter().collect()));
        call.send().await.map_err(|error| errors::of(&error, "sqs:SetQueueAttributes", name))?;
    }
    let state = match (created, names.is_empty()) {
        (true, _) => State::Created,
        (false, true) => State::Right,
        (false, false) => State::Differs { settings: names, mended: change },
    };
    found.push(Found { what, state });
    Ok(Some((address, arn)))
}

fn agrees(name: &QueueAttributeName, actual: Option<&String>, wished: &str) -> bool {
    match (name, actual) {
        (QueueAttributeName::RedrivePolicy, Some(actual)) => {
            // Numbers come back as numbers or as texts.
            let plain = |text: &str| {
                let policy: Json = serde_json::from_str(text).ok()?;
                let count = &policy["maxReceiveCount"];
                let count = count.as_str().map_or_else(|| count.to_string(), ToOwned::to_owned);
                Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), count))
            };
            plain(actual) == plain(wished)
        }
        (QueueAttributeName::ContentBasedDeduplication, None) => wished == "false",
        (_, actual) => actual.is_some_and(|actual| actual == wished),
    }
}

/// Refuses everybody who comes without TLS.
fn tls_policy(arn: &str) -> Json {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn,
            "Condition": { "Bool": { "aws:SecureTransport": "false" } }
        }]
    })
}

async fn tls_only(
    account: &Account,
    address: &str,
    arn: &str,
    change: bool,
    found: &mut Vec<Found>,
) -> Result<(), Fault> {
    let client = account.sqs();
    let name = super::sqs::name(address);
    let what = format!("policy of queue {name}");
    let call = client.get_queue_attributes().queue_url(address).attribute_names(QueueAttributeName::Policy);
    let answer = call.send().await.map_err(|error| errors::of(&error, "sqs:GetQueueAttributes", name))?;
    let actual = answer.attributes.and_then(|mut all| all.remove(&QueueAttributeName::Policy));
    let state = match actual {
        // One of somebody else's making is left alone, as long as it refuses plain HTTP.
        Some(policy) if policy.contains("aws:SecureTransport") => State::Right,
        Some(_) => State::Differs { settings: vec!["aws:SecureTransport".to_owned()], mended: false },
        None if !change => State::Missing,
        None => {
            let call = client.set_queue_attributes().queue_url(address);
            let call = call.attributes(QueueAttributeName::Policy, tls_policy(arn).to_string());
            call.send().await.map_err(|error| errors::of(&error, "sqs:SetQueueAttributes", name))?;
            State::Created
        }
    };
    found.push(Found { what, state });
    Ok(())
}
