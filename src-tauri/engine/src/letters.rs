//! Messages that could not be read: dead letters. They stop nothing and need a person.
//!
//! Of a letter's body only ids are kept, sealed, and only where it may be read at another time; see [`crate::body`]. Reading it
//! again marks wanted what it names, and then forgets the letter: whatever ends in between leaves both, which does no harm.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use crate::{
    body::{Reader, Unread},
    error::{Class, Code, Fault},
    hint::Hint,
    keys::Seal,
    ledger::{DeadLetter, Want},
    ports::{Clock, Ledger},
};

#[derive(Clone)]
pub struct Letters {
    pub reader: Reader,
    pub seal: Seal,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Letters {
    /// Keeps the message's id and the reason, and of its body what may be read at another time. `before` goes in front of the reason.
    pub async fn bury(&self, id: String, sent: Timestamp, unread: &Unread, before: &str) -> Result<(), Fault> {
        tracing::warn!(message = id, why = %unread.why, "a message could not be read");
        let letter = DeadLetter {
            sealed_body: unread.keep.as_ref().map(|kept| self.seal.seal(&id, kept.as_bytes())).unwrap_or_default(),
            id,
            code: Code::Malformed,
            reason: format!("{before}{}", unread.why),
            first_seen: sent,
        };
        self.ledger.bury(letter).await
    }

    /// Marks wanted what a message names, which covers it.
    pub async fn cover(&self, hints: &[Hint]) -> Result<(), Fault> {
        let now = self.clock.now();
        let want = |hint: &Hint| Want { key: hint.key(), first_seen: hint.at, not_before: now, waits_for: None };
        self.ledger.want(&hints.iter().map(want).collect::<Vec<_>>()).await
    }

    /// Reads letters once more. Those that name records now are forgotten; the ids of the others, which stay, are put into `stay`.
    ///
    /// # Errors
    /// `NoLonger`: none of them is there. `Malformed`: none of them can be read.
    pub async fn read_again(&self, ids: &[String], stay: &mut BTreeSet<String>) -> Result<(), Fault> {
        let letters = self.ledger.dead_letters(usize::MAX).await?;
        let mut read = Vec::new();
        for id in ids {
            let letter = letters.iter().find(|letter| letter.id == *id);
            match letter.and_then(|letter| self.open(letter)) {
                Some(hints) => {
                    self.cover(&hints).await?;
                    read.push(id.clone());
                }
                None => {
                    stay.insert(id.clone());
                }
            }
        }
        self.ledger.unbury(&read).await?;
        if !read.is_empty() || ids.is_empty() {
            return Ok(());
        }
        let there = letters.iter().any(|letter| ids.contains(&letter.id));
        Err(Fault::new(Class::Permanent, if there { Code::Malformed } else { Code::NoLonger }))
    }

    fn open(&self, letter: &DeadLetter) -> Option<Vec<Hint>> {
        let body = self.seal.open(&letter.id, &letter.sealed_body).ok()?;
        self.reader.read(std::str::from_utf8(&body).ok()?, letter.first_seen).ok()
    }
}
