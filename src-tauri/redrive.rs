//! Trying again everything that is dead: first what it would be, then that and nothing else. Command line and window do it by the
//! same two steps, through the socket.
//!
//! It is `retry` of many records, and reading again of the messages whose ids are kept. Each item has its own audit entry. What
//! was asked for is wanted, and no longer dead; so whoever is interrupted and asks again goes on with the rest.

use std::collections::BTreeMap;

use engine::{
    action::Action,
    error::Code,
    key::RecordKey,
    ledger::{Filter, Record},
};
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{
    account,
    control::{Answer, Letter, Request},
};

/// Items of one question or order.
const AT_ONCE: usize = 200;

/// What would be tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub keys: Vec<RecordKey>,
    /// Messages that may be readable now.
    pub letters: Vec<String>,
    /// Messages of which nothing is kept: they stay.
    pub stay: u64,
    pub reasons: BTreeMap<Code, u64>,
    pub oldest: Option<Timestamp>,
}

impl Plan {
    /// Everything that is dead and that nobody has set aside, or what died for one reason.
    pub fn of(records: &[Record], letters: &[Letter], reason: Option<Code>) -> Self {
        let mut plan = Self::default();
        let asked = |code: Code| reason.is_none_or(|reason| reason == code);
        for record in records.iter().filter(|record| record.key.kind.is_run()) {
            let Some(dead) = record.dead.filter(|dead| !dead.set_aside && asked(dead.code)) else { continue };
            plan.keys.push(record.key.clone());
            plan.count(dead.code, dead.since);
        }
        for letter in letters.iter().filter(|letter| asked(letter.code)) {
            if letter.kept {
                plan.letters.push(letter.id.clone());
                plan.count(letter.code, letter.first_seen);
            } else {
                plan.stay += 1;
            }
        }
        plan
    }

    fn count(&mut self, code: Code, since: Timestamp) {
        *self.reasons.entry(code).or_default() += 1;
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
    }

    pub fn items(&self) -> usize {
        self.keys.len() + self.letters.len()
    }

    /// Asks the relay what is dead.
    pub async fn ask<'a, E>(
        relay: impl Fn(Request) -> BoxFuture<'a, Result<Answer, E>>,
        reason: Option<Code>,
    ) -> Result<Result<Self, Answer>, E> {
        let mut dead: Vec<Record> = Vec::new();
        loop {
            let after = dead.last().map(|record| record.key.clone());
            match relay(Request::Records { filter: Filter::Dead, after, limit: AT_ONCE }).await? {
                Answer::Records { records, .. } if records.is_empty() => break,
                Answer::Records { records, .. } => dead.extend(records),
                other => return Ok(Err(other)),
            }
        }
        match relay(Request::DeadLetters { limit: LETTERS }).await? {
            Answer::DeadLetters { letters, .. } => Ok(Ok(Self::of(&dead, &letters, reason))),
            other => Ok(Err(other)),
        }
    }

    /// Has the relay do it, and says what it answered where that was not "done".
    pub async fn carry_out<'a, E>(
        &self,
        relay: impl Fn(Request) -> BoxFuture<'a, Result<Answer, E>>,
    ) -> Result<Result<(), Answer>, E> {
        let records = self.keys.chunks(AT_ONCE).map(|keys| Action::Retry { keys: keys.to_vec() });
        let letters = self.letters.chunks(AT_ONCE).map(|ids| Action::RetryLetters { ids: ids.to_vec() });
        for action in records.chain(letters) {
            match relay(Request::Act { action, person: account::name() }).await? {
                Answer::Done => {}
                other => return Ok(Err(other)),
            }
        }
        Ok(Ok(()))
    }
}

/// More messages than this at once would be a flood; the rest is found the next time.
const LETTERS: usize = 1_000;
