//! Watching EHRs that announce nothing: which encounters are open, and which documents arrive in them.
//!
//! A station that watches one type of a firm keeps the lease of its cursor (`cursor`) for as long as it does. Where the EHR can be asked
//! for everything of the firm that changed, that is one search for all (`rounds`); else encounters are claimed in batches and each is
//! asked about (`claims`). What is found becomes a record of the ledger: an encounter that is followed until its life is over
//! (`encounters`), a document that is handed on exactly once for each version (`documents`). Sweeps compare what the EHR lists with the
//! ledger, and so verify what is shown as "complete up to" (`sweep`).
//!
//! Each firm is a task of its own ([`Watchers`]): one that is away, paused or refused delays no other.

pub(crate) mod board;
mod claims;
mod classify;
mod cursor;
mod documents;
mod encounters;
mod firms;
mod followed;
mod lateness;
mod records;
mod rounds;
mod sweep;
mod tempo;
mod walk;
mod watcher;

use std::sync::Arc;

pub(crate) use self::firms::Watchers;
pub use self::{
    board::{KindWatched, Listed, QuotaShown, Swept, Watching},
    classify::{Chosen, Class, Classes, Content},
    records::{DocumentWatch, EncounterWatch, Fate, Handed, Life, Why},
};
use crate::{
    chance::Chance,
    error::Fault,
    lease::{Keeper, Watch},
    ledger::LedgerError,
    manual::Pass,
    ports::{Clock, Ledger},
    settings::Settings,
};

/// What all watchers of a station work with.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) chance: Arc<Chance>,
    pub(crate) settings: Settings,
    pub(crate) board: board::Board,
    pub(crate) pass: Arc<Pass>,
}

/// Why a look was not complete.
#[derive(Debug)]
enum Unfinished {
    /// Another station has the lease of something that had to be changed.
    Busy,
    /// Another station took over.
    NotOurs,
    /// Of the EHR.
    Fault(Fault),
    /// Of the ledger: no reason to think ill of the EHR.
    Storage(Fault),
}

impl From<LedgerError> for Unfinished {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Lost => Unfinished::NotOurs,
            LedgerError::Fault(fault) => Unfinished::Storage(fault),
        }
    }
}
