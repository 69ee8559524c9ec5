//! The embedded queue: a table in order of sending. A message that was received is hidden for a while by the time that has
//! elapsed in this boot; a receipt names the message and which receipt of it this was, so an older one is worth nothing.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use engine::{
    error::Fault,
    ports::{Delivery, Depth, Message, Queue, Receipt},
};
use sqlx::Row as _;
use tokio::sync::mpsc;

use super::{
    Database, duration_micros, fault, json, micros, timestamp,
    writer::{Op, Operation, Store, hand_back},
};

/// Between two looks of a waiting receiver, at least: what is due at once was just looked for.
const MIN_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct SqliteQueue(pub(super) Database);

/// A message and which receipt of it.
type Ticket = (i64, u32);

/// Both are counted on for ever, over restarts too: no two receives give out the same.
fn receipt((seq, receives): Ticket) -> Receipt {
    Receipt(format!("{seq}.{receives}"))
}

/// `None` for a receipt of another queue: it deletes nothing.
fn ticket(receipt: &Receipt) -> Option<Ticket> {
    let (seq, receives) = receipt.0.split_once('.')?;
    Some((seq.parse().ok()?, receives.parse().ok()?))
}

impl SqliteQueue {
    /// Does something to deliveries and answers with the receipts that were no longer valid.
    async fn with_tickets<O>(&self, receipts: &[Receipt], operation: fn(Tickets) -> O) -> Result<Vec<Receipt>, Fault>
    where
        O: Operation<Answer = Vec<usize>>,
        Op: From<super::writer::Call<O>>,
    {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let tickets = Tickets(receipts.iter().map(ticket).collect());
        let stale = self.0.0.writer.call(operation(tickets)).await?;
        Ok(stale.into_iter().map(|index| receipts[index].clone()).collect())
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        if messages.is_empty() {
            return Ok(());
        }
        self.0.0.writer.call(Send { messages }).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let writer = &self.0.0.writer;
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        loop {
            // Listening begins before looking, so that nothing arrives in between unheard.
            let arrival = writer.arrivals().notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let handout = writer.call(Receive { max }).await?;
            let pause = handout.next_visible.unwrap_or(Duration::MAX).min(self.0.0.visibility).max(MIN_PAUSE);
            let deliveries = handout.claim();
            if !deliveries.is_empty() || wait.is_zero() {
                return Ok(deliveries);
            }
            tokio::select! {
                () = &mut end => return Ok(Vec::new()),
                () = arrival => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.with_tickets(receipts, Acknowledge).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.with_tickets(receipts, Extend).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.with_tickets(receipts, Release).await.map(|_| ())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let now = duration_micros(self.0.0.clock.elapsed());
        let in_flight: i64 =
            sqlx::query_scalar("SELECT count(*) FROM message INDEXED BY message_hidden WHERE hidden_until > ?1")
                .bind(now)
                .fetch_one(&self.0.0.readers)
                .await
                .map_err(|error| fault::of(&error))?;
        let in_flight = in_flight.unsigned_abs();
        Ok(Depth { waiting: self.0.0.writer.messages().saturating_sub(in_flight), in_flight })
    }

    fn visibility(&self) -> Duration {
        self.0.0.visibility
    }
}

pub(super) struct Send {
    messages: Vec<Message>,
}

impl Operation for Send {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        let messages: Vec<&Message> = batch.iter().flat_map(|send| &send.messages).collect();
        let now = micros(store.clock.now());
        let rows: Vec<_> = messages.iter().map(|message| (&message.id, &message.body)).collect();
        sqlx::query(
            "INSERT INTO message (id, body, first_sent)
             SELECT value ->> 0, value ->> 1, ?2 FROM json_each(?1) ORDER BY key",
        )
        .bind(json(&rows))
        .bind(now)
        .execute(&mut store.connection)
        .await?;
        store.state.messages += messages.len() as u64;
        Ok(vec![(); batch.len()])
    }
}

pub(super) struct Receive {
    max: usize,
}

/// Deliveries on their way to a receiver. If it is gone they become visible again at once, not after their time.
pub(super) struct Handout {
    deliveries: Vec<Delivery>,
    tickets: Vec<Ticket>,
    next_visible: Option<Duration>,
    back: Option<mpsc::WeakUnboundedSender<Op>>,
}

impl fmt::Debug for Handout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handout").field("deliveries", &self.deliveries.len()).finish_non_exhaustive()
    }
}

impl Handout {
    fn claim(mut self) -> Vec<Delivery> {
        self.tickets.clear();
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        if let (false, Some(back)) = (self.tickets.is_empty(), &self.back) {
            let tickets = std::mem::take(&mut self.tickets);
            hand_back(back, Release(Tickets(tickets.into_iter().map(Some).collect())));
        }
    }
}

impl Operation for Receive {
    type Answer = Handout;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Handout>, sqlx::Error> {
        let now = duration_micros(store.clock.elapsed());
        let wanted = batch.iter().fold(0_usize, |sum, receive| sum.saturating_add(receive.max));
        let mut rows = sqlx::query(
            "UPDATE message SET receives = receives + 1, hidden_until = ?2
             WHERE seq IN (SELECT seq FROM message WHERE hidden_until IS NULL OR hidden_until <= ?1 ORDER BY seq LIMIT ?3)
             RETURNING seq, id, body, first_sent, receives",
        )
        .bind(now)
        .bind(now.saturating_add(store.hidden_for))
        .bind(i64::try_from(wanted).unwrap_or(i64::MAX))
        .fetch_all(&mut store.connection)
        .await?
        .into_iter()
        .map(|row| Ok((row.try_get::<i64, _>(0)?, row)))
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
        // RETURNING promises no order.
        rows.sort_unstable_by_key(|(seq, _)| *seq);
        let next_visible = if rows.is_empty() {
            let next: Option<i64> =
                sqlx::query_scalar("SELECT min(hidden_until) FROM message WHERE hidden_until IS NOT NULL")
                    .fetch_one(&mut store.connection)
                    .await?;
            next.map(|next| Duration::from_micros(next.saturating_sub(now).unsigned_abs()))
        } else {
            None
        };
        let mut rows = rows.into_iter();
        batch
            .iter()
            .map(|receive| {
                let mut handout =
                    Handout { deliveries: Vec::new(), tickets: Vec::new(), next_visible, back: store.back.clone() };
                for (seq, row) in rows.by_ref().take(receive.max) {
                    let receives = row.try_get(4)?;
                    handout.deliveries.push(Delivery {
                        id: row.try_get(1)?,
                        body: row.try_get(2)?,
                        receipt: receipt((seq, receives)),
                        first_sent: timestamp(row.try_get(3)?)?,
                        receives,
                    });
                    handout.tickets.push((seq, receives));
                }
                Ok(handout)
            })
            .collect()
    }
}

/// What receipts name; `None` where a receipt is not one of ours.
pub(super) struct Tickets(Vec<Option<Ticket>>);

/// The tickets of a batch, and for each of its members which of them are stale.
async fn sort_out(batch: &[&Tickets], store: &mut Store) -> Result<(Vec<i64>, Vec<Vec<usize>>), sqlx::Error> {
    // Message 0 does not exist.
    let all: Vec<Ticket> = batch.iter().flat_map(|tickets| &tickets.0).map(|ticket| ticket.unwrap_or((0, 0))).collect();
    let stale: Vec<i64> = sqlx::query_scalar(
        "SELECT given.key FROM json_each(?1) AS given
         LEFT JOIN message ON message.seq = given.value ->> 0
            AND message.receives = given.value ->> 1 AND message.hidden_until IS NOT NULL
         WHERE message.seq IS NULL",
    )
    .bind(json(&all))
    .fetch_all(&mut store.connection)
    .await?;
    let mut valid = vec![true; all.len()];
    for index in stale {
        if let Some(valid) = usize::try_from(index).ok().and_then(|index| valid.get_mut(index)) {
            *valid = false;
        }
    }
    let seqs = all.iter().zip(&valid).filter(|(_, valid)| **valid).map(|((seq, _), _)| *seq).collect();
    let mut valid = valid.into_iter();
    let stale = batch
        .iter()
        .map(|tickets| {
            valid.by_ref().take(tickets.0.len()).enumerate().filter(|(_, valid)| !valid).map(|(at, _)| at).collect()
        })
        .collect();
    Ok((seqs, stale))
}

pub(super) struct Acknowledge(Tickets);

impl Operation for Acknowledge {
    type Answer = Vec<usize>;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Vec<usize>>, sqlx::Error> {
        let tickets: Vec<_> = batch.iter().map(|acknowledge| &acknowledge.0).collect();
        let (seqs, stale) = sort_out(&tickets, store).await?;
        let deleted = sqlx::query("DELETE FROM message WHERE seq IN (SELECT value FROM json_each(?1))")
            .bind(json(&seqs))
            .execute(&mut store.connection)
            .await?;
        store.state.messages = store.state.messages.saturating_sub(deleted.rows_affected());
        Ok(stale)
    }
}

pub(super) struct Extend(Tickets);

impl Operation for Extend {
    type Answer = Vec<usize>;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Vec<usize>>, sqlx::Error> {
        let tickets: Vec<_> = batch.iter().map(|extend| &extend.0).collect();
        let (seqs, stale) = sort_out(&tickets, store).await?;
        let until = duration_micros(store.clock.elapsed()).saturating_add(store.hidden_for);
        sqlx::query("UPDATE message SET hidden_until = ?2 WHERE seq IN (SELECT value FROM json_each(?1))")
            .bind(json(&seqs))
            .bind(until)
            .execute(&mut store.connection)
            .await?;
        Ok(stale)
    }
}

pub(super) struct Release(Tickets);

impl Operation for Release {
    type Answer = Vec<usize>;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Vec<usize>>, sqlx::Error> {
        let tickets: Vec<_> = batch.iter().map(|release| &release.0).collect();
        let (seqs, stale) = sort_out(&tickets, store).await?;
        sqlx::query("UPDATE message SET hidden_until = NULL WHERE seq IN (SELECT value FROM json_each(?1))")
            .bind(json(&seqs))
            .execute(&mut store.connection)
            .await?;
        Ok(stale)
    }
}
