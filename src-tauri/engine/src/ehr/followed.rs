//! The firm's encounters that are being followed, as this station knows them: a copy of what is in the ledger, by which documents find
//! theirs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Station, Unfinished,
    cursor::later,
    records::{DocumentWatch, EncounterWatch, Life, Why},
};
use crate::key::{FirmId, Kind, RecordKey, ResourceId};

/// So many are followed at once, in one firm.
const MOST: usize = 20_000;

/// Everything that is wanted at all is due by then.
const EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[derive(Debug, Default)]
pub(super) struct Followed {
    known: Mutex<BTreeMap<ResourceId, EncounterWatch>>,
    read: Mutex<Option<Duration>>,
}

/// Whether a document is of an encounter that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    Yes,
    /// Its encounter is not known (yet).
    No,
    /// It is of something older than what is followed.
    Elsewhere,
}

impl Followed {
    fn known(&self) -> MutexGuard<'_, BTreeMap<ResourceId, EncounterWatch>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, id: ResourceId, watch: EncounterWatch) {
        let mut known = self.known();
        if watch.life.is_over() {
            known.remove(&id);
        } else {
            known.insert(id, watch);
        }
    }

    pub(super) fn version_of(&self, id: &ResourceId) -> Option<String> {
        self.known().get(id).map(|watch| watch.version.clone())
    }

    pub(super) fn all(&self) -> BTreeMap<ResourceId, EncounterWatch> {
        self.known().clone()
    }

    /// How many, and how many of them are going on.
    pub(super) fn count(&self) -> (u64, u64) {
        let known = self.known();
        (known.len() as u64, known.values().filter(|watch| watch.life == Life::Active).count() as u64)
    }

    /// Reads all of them again where that was longer ago than `age`.
    pub(super) async fn refresh(&self, station: &Station, firm: &FirmId, age: Duration) -> Result<(), Unfinished> {
        let now = station.clock.elapsed();
        let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_some_and(|read| now.saturating_sub(read) < age) {
            return Ok(());
        }
        let ever = later(station.clock.now(), EVER);
        let due = station.ledger.due(firm, &[Kind::Encounter], ever, EVER, MOST);
        let keys: Vec<_> = due.await.map_err(Unfinished::Storage)?.into_iter().map(|(key, _)| key).collect();
        let mut fresh = BTreeMap::new();
        for some in keys.chunks(100) {
            for record in station.ledger.read_all(some).await.map_err(Unfinished::Storage)? {
                if let Some(watch) = EncounterWatch::parse(&record.state).filter(|watch| !watch.life.is_over()) {
                    fresh.insert(record.key.id, watch);
                }
            }
        }
        *self.known() = fresh;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    /// Whether this document is of an encounter that is followed, or was. `since`: what is older and of nothing that is known is of no
    /// concern here.
    pub(super) async fn attached(
        &self,
        station: &Station,
        firm: &FirmId,
        document: &DocumentWatch,
        since: Option<Timestamp>,
    ) -> Result<Attached, Unfinished> {
        let is_known = |id: &ResourceId| self.known().contains_key(id);
        if document.encounters.iter().any(is_known) {
            return Ok(Attached::Yes);
        }
        if document.encounters.is_empty() {
            let patient = document.patient.as_ref();
            let here = patient.is_some() && self.known().values().any(|watch| watch.patient.as_ref() == patient);
            let old = document.stamp.zip(since).is_some_and(|(at, since)| at < since);
            return Ok(match (here, old) {
                (_, true) => Attached::Elsewhere,
                (true, false) => Attached::Yes,
                (false, false) => Attached::No,
            });
        }
        // One that has ended counts as well, but not one that never was.
        for id in &document.encounters {
            let key = RecordKey::encounter(firm.clone(), id.clone());
            let record = station.ledger.read(&key).await.map_err(Unfinished::Storage)?;
            let watch = record.and_then(|record| EncounterWatch::parse(&record.state));
            let void = |watch: &EncounterWatch| matches!(watch.life, Life::Ended { why: Why::EnteredInError, .. });
            if watch.is_some_and(|watch| !void(&watch)) {
                return Ok(Attached::Yes);
            }
        }
        let old = document.stamp.is_none_or(|at| since.is_some_and(|since| at < since));
        Ok(if old && since.is_some() { Attached::Elsewhere } else { Attached::No })
    }
}
