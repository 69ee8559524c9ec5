//! The shared queue: SQS, standard or FIFO.
//!
//! Each call carries up to ten messages, and each answer tells of each of the ten by itself. What SQS documents and a caller
//! must live with: a message may come twice, and again after it was deleted; deleting with the receipt of an earlier receive
//! is answered as done and deletes nothing; depths are estimates.

use std::{fmt, sync::Mutex, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    config::timeout::TimeoutConfig,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        Message as Received, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::{
    error::{Class, Code, Fault},
    ports::{Clock, Delivery, Depth, Message, Queue, Receipt},
};
use futures::future::try_join_all;
use jiff::Timestamp;
use std::sync::Arc;

use super::{ATTEMPT, Account, errors};

/// Entries of a batch, and messages of a receive.
const BATCH: usize = 10;
/// All bodies of a batch together. SQS takes 1 MiB today, and compatible services what it took before.
const BATCH_BYTES: usize = 250_000;
/// How often entries of a batch that SQS could not take are tried, the first time included.
const TRIES: u32 = 3;
/// SQS holds a receive open for no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Our own id of a message: SQS gives it another.
const ID: &str = "id";
/// Set to `base64` where SQS does not take the body as it is.
const ENCODING: &str = "encoding";
const BASE64: &str = "base64";
/// In front of an encoded body, which would be empty where the body is.
const MARK: char = '.';

#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    /// How long a received message stays invisible, unless extended; whole seconds.
    pub visibility: Duration,
    /// Within this time the depth is not asked again: it is an estimate, and asking is billed.
    pub figures_every: Duration,
}

pub struct SqsQueue {
    client: Client,
    options: Options,
    account: Account,
    clock: Arc<dyn Clock>,
    depth: Mutex<Option<(Duration, Depth)>>,
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqsQueue").field(&self.name()).finish()
    }
}

impl SqsQueue {
    pub fn new(account: &Account, options: Options, clock: Arc<dyn Clock>) -> Self {
        Self { client: account.sqs(), account: account.clone(), options, clock, depth: Mutex::default() }
    }

    /// The last part of the address.
    fn name(&self) -> &str {
        name(&self.options.url)
    }

    fn is_fifo(&self) -> bool {
        self.options.url.ends_with(".fifo")
    }

    fn fault<E>(&self, error: &aws_sdk_sqs::error::SdkError<E>, action: &str) -> Fault
    where
        E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        errors::of(error, action, self.name())
    }

    /// Whole seconds, rounded up: never invisible for less than the engine counts on.
    fn seconds(&self) -> i32 {
        i32::try_from(self.options.visibility.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
    }

    async fn send_batch(&self, messages: &[Message]) -> Result<(), Fault> {
        let mut left: Vec<&Message> = messages.iter().collect();
        for attempt in 1.. {
            let entries = left.iter().enumerate().map(|(index, message)| self.entry(index, message)).collect();
            let call = self.client.send_message_batch().queue_url(&self.options.url).set_entries(Some(entries));
            let sent = call.send().await.map_err(|error| self.fault(&error, "sqs:SendMessage"))?;
            // A message that is mentioned neither way was not promised to be kept.
            let done: Vec<usize> = sent.successful().iter().filter_map(|entry| entry.id().parse().ok()).collect();
            if let Some(refused) = sent.failed().iter().find(|failed| is_final(failed)) {
                return Err(errors::of_name(refused.code(), 400, "sqs:SendMessage", self.name()));
            }
            left =
                left.into_iter().enumerate().filter(|(index, _)| !done.contains(index)).map(|(_, one)| one).collect();
            if left.is_empty() {
                return Ok(());
            }
            if attempt == TRIES {
                let code = sent.failed().first().map_or("", BatchResultErrorEntry::code);
                return Err(errors::of_name(code, 500, "sqs:SendMessage", self.name()));
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Ok(())
    }

    fn entry(&self, index: usize, message: &Message) -> SendMessageBatchRequestEntry {
        let text = |value: &str| {
            MessageAttributeValue::builder().data_type("String").string_value(value).build().expect("a type is given")
        };
        let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
        entry = if takes(&message.body) {
            entry.message_body(&message.body)
        } else {
            entry
                .message_body(format!("{MARK}{}", BASE64_STANDARD.encode(&message.body)))
                .message_attributes(ENCODING, text(BASE64))
        };
        if self.is_fifo() {
            // Unique for each event. By content, two edits of one record within five minutes would be one.
            entry = entry.message_group_id(&message.group).message_deduplication_id(&message.id);
        }
        entry.message_attributes(ID, text(&message.id)).build().expect("id and body are given")
    }

    /// Deletes, or sets how long deliveries stay invisible. Answers with those that SQS no longer knows as ours.
    async fn change(&self, receipts: &[Receipt], change: Change) -> Result<Vec<Receipt>, Fault> {
        let batches = receipts.chunks(BATCH).map(|batch| self.change_batch(batch, change));
        // Each batch is sent, whatever becomes of the others.
        let lost = futures::future::join_all(batches).await;
        Ok(lost.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    async fn change_batch(&self, receipts: &[Receipt], change: Change) -> Result<Vec<Receipt>, Fault> {
        let mut left: Vec<&Receipt> = receipts.iter().collect();
        let mut lost = Vec::new();
        for attempt in 1.. {
            let (done, failed) = self.change_once(&left, change).await?;
            let mut again = Vec::new();
            for (index, receipt) in left.into_iter().enumerate() {
                let refused = failed.iter().find(|entry| entry.id() == index.to_string());
                match refused {
                    _ if done.contains(&index) => {}
                    Some(refused) if is_final(refused) => lost.push(receipt.clone()),
                    _ => again.push(receipt),
                }
            }
            left = again;
            if left.is_empty() || attempt == TRIES {
                break;
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        // What could not be changed comes again by itself.
        lost.extend(left.into_iter().cloned());
        Ok(lost)
    }

    async fn change_once(
        &self,
        receipts: &[&Receipt],
        change: Change,
    ) -> Result<(Vec<usize>, Vec<BatchResultErrorEntry>), Fault> {
        const COMPLETE: &str = "id and receipt are given";
        let numbered = || receipts.iter().enumerate().map(|(index, receipt)| (index.to_string(), &receipt.0));
        let url = &self.options.url;
        let number = |id: &str| id.parse().ok();
        match change {
            Change::Delete => {
                let one = |(id, receipt)| {
                    DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(receipt).build().expect(COMPLETE)
                };
                let call = self.client.delete_message_batch().queue_url(url);
                let call = call.set_entries(Some(numbered().map(one).collect()));
                let answer = call.send().await.map_err(|error| self.fault(&error, "sqs:DeleteMessage"))?;
                Ok((answer.successful.iter().filter_map(|entry| number(entry.id())).collect(), answer.failed))
            }
            Change::Visibility(seconds) => {
                let one = |(id, receipt)| {
                    let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(receipt);
                    entry.visibility_timeout(seconds).build().expect(COMPLETE)
                };
                let call = self.client.change_message_visibility_batch().queue_url(url);
                let call = call.set_entries(Some(numbered().map(one).collect()));
                let answer = call.send().await.map_err(|error| self.fault(&error, "sqs:ChangeMessageVisibility"))?;
                Ok((answer.successful.iter().filter_map(|entry| number(entry.id())).collect(), answer.failed))
            }
        }
    }

    fn delivery(&self, received: Received) -> Option<Delivery> {
        let system = |name| received.attributes.as_ref().and_then(|all| all.get(&name));
        let own = |name| {
            let attribute = received.message_attributes.as_ref()?.get(name)?;
            attribute.string_value().map(ToOwned::to_owned)
        };
        let first_sent = system(MessageSystemAttributeName::SentTimestamp)
            .and_then(|millis| Timestamp::from_millisecond(millis.parse().ok()?).ok());
        let receives = system(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|count| count.parse().ok());
        // The attribute is ours. Whoever else sets one of that name may have put anything into it.
        let id = own(ID).filter(|id| is_id(id)).or_else(|| received.message_id.clone()).unwrap_or_default();
        let encoded = own(ENCODING).as_deref() == Some(BASE64);
        // Without a receipt it could never be acknowledged; it comes again.
        let receipt = Receipt(received.receipt_handle?);
        let mut body = received.body.unwrap_or_default();
        if encoded && let Some(plain) = decoded(&body) {
            body = plain;
        }
        let first_sent = first_sent.unwrap_or_else(|| self.clock.now());
        Some(Delivery { id, body, receipt, first_sent, receives: receives.unwrap_or(1) })
    }
}

#[derive(Clone, Copy)]
enum Change {
    Delete,
    Visibility(i32),
}

/// The last part of a queue's address is its name.
pub(super) fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Whether SQS refuses an entry for good: asking again would be answered the same.
fn is_final(failed: &BatchResultErrorEntry) -> bool {
    failed.sender_fault() || failed.code().ends_with("ReceiptHandleIsInvalid") || failed.code().ends_with("NotInflight")
}

/// SQS takes texts of one character at least, and only the characters that XML 1.0 has.
fn takes(body: &str) -> bool {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    // Some services end lines in their own way.
    !body.is_empty() && body.chars().all(|c| allowed(c) && c != '\r')
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn decoded(body: &str) -> Option<String> {
    String::from_utf8(BASE64_STANDARD.decode(body.strip_prefix(MARK)?).ok()?).ok()
}

fn pause(attempt: u32) -> Duration {
    Duration::from_millis(100) * 2_u32.pow(attempt.min(5))
}

/// At most ten, and not too many bytes.
fn batches(messages: &[Message]) -> Vec<&[Message]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        // Base64 needs a third more.
        let size = message.body.len() * 4 / 3 + 500;
        if index > start && (index - start == BATCH || bytes + size > BATCH_BYTES) {
            batches.push(&messages[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < messages.len() {
        batches.push(&messages[start..]);
    }
    batches
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        if self.is_fifo() {
            // One after another: the order within a group is the order of sending.
            for batch in batches(&messages) {
                self.send_batch(batch).await?;
            }
            return Ok(());
        }
        try_join_all(batches(&messages).into_iter().map(|batch| self.send_batch(batch))).await.map(|_| ())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let wait = wait.min(LONGEST_WAIT);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(wait + ATTEMPT).build();
        let call = self
            .client
            .receive_message()
            .queue_url(&self.options.url)
            .max_number_of_messages(max.min(BATCH) as i32)
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
            .visibility_timeout(self.seconds())
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_attribute_names(ID)
            .message_attribute_names(ENCODING)
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(timeouts));
        let answer = call.send().await.map_err(|error| self.fault(&error, "sqs:ReceiveMessage"))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(|message| self.delivery(message)).collect())
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.change(receipts, Change::Delete).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.change(receipts, Change::Visibility(self.seconds())).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.change(receipts, Change::Visibility(0)).await.map(|_| ())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let now = self.clock.elapsed();
        let known = *self.depth.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((asked, depth)) = known
            && now.saturating_sub(asked) < self.options.figures_every
        {
            return Ok(depth);
        }
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = self.client.get_queue_attributes().queue_url(&self.options.url);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
        let answer = answer.map_err(|error| self.fault(&error, "sqs:GetQueueAttributes"))?;
        let figure = |name| {
            let text = answer.attributes.as_ref().and_then(|all| all.get(&name));
            text.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
                Fault::new(Class::Retry, Code::BadAnswer).on(format!("sqs:GetQueueAttributes on {}", self.name()))
            })
        };
        let [visible, delayed, hidden] = names;
        let depth = Depth { waiting: figure(visible)? + figure(delayed).unwrap_or(0), in_flight: figure(hidden)? };
        *self.depth.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((now, depth));
        Ok(depth)
    }

    fn server_clock(&self) -> Option<engine::server_clock::Heard> {
        self.account.server_clock()
    }

    fn counts_exactly(&self) -> bool {
        false
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn visibility(&self) -> Duration {
        self.options.visibility
    }
}

/// The address of a queue of this account, by its name.
pub async fn find(account: &Account, name: &str) -> Result<String, Fault> {
    let answer = account.sqs().get_queue_url().queue_name(name).send().await;
    let address = answer.map_err(|error| errors::of(&error, "sqs:GetQueueUrl", name))?.queue_url;
    address.ok_or_else(|| Fault::new(Class::Retry, Code::BadAnswer).on(format!("sqs:GetQueueUrl on {name}")))
}

/// About how many messages a queue of this account holds, by its name.
pub(super) async fn depth(account: &Account, name: &str) -> Result<u64, Fault> {
    let names =
        [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
    let url = find(account, name).await?;
    let answer = account.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
    let answer = answer.send().await.map_err(|error| errors::of(&error, "sqs:GetQueueAttributes", name))?;
    let all = answer.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| all.get(name)?.parse::<u64>().ok()).sum())
}
