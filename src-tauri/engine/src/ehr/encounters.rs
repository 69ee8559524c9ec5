//! Encounters become records that are followed until their life is over.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    Unfinished,
    claims::AFTER,
    cursor::later,
    records::{EncounterWatch, Life, Why},
    watcher::FirmWatch,
};
use crate::{
    key::{Kind, RecordKey},
    ledger::{Finish, Record},
    ports::{Encounter, Reach},
};

/// Lives that are looked through at once for those that are over.
const CLOSED_AT_ONCE: usize = 200;

impl FirmWatch {
    /// Takes these rows into the ledger and answers how many of them were news. `time` is the EHR's.
    pub(super) async fn follow(&self, rows: &[Encounter], time: Timestamp) -> Result<u64, Unfinished> {
        let fresh = rows.iter().filter(|row| self.followed.version_of(&row.id).as_ref() != Some(&row.version));
        let fresh: BTreeMap<_, _> = fresh.map(|row| (self.encounter_key(row), row)).collect();
        let keys: Vec<_> = fresh.keys().cloned().collect();
        let known = self.station.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let known: BTreeMap<_, _> = known.into_iter().map(|record| (record.key, record.state)).collect();
        let mut news = 0;
        let mut busy = false;
        for (key, row) in fresh {
            let state = known.get(&key).and_then(|state| EncounterWatch::parse(state));
            if let Some(state) = state.filter(|state| !is_news(state, row)) {
                self.followed.note(row.id.clone(), state);
                continue;
            }
            let mut new = None;
            let change = |record: &Record| {
                let old = EncounterWatch::parse(&record.state);
                if old.as_ref().is_some_and(|old| !is_news(old, row)) {
                    return None;
                }
                let watch = self.begin(row, old, time);
                let written = (watch.write(), self.next_look(&watch, time), None);
                new = Some(watch);
                Some(written)
            };
            match self.change(&key, change).await {
                Ok(true) => {
                    news += 1;
                    if let Some(watch) = new {
                        self.followed.note(row.id.clone(), watch);
                    }
                }
                Ok(false) => {}
                // The others are taken in all the same; this one is tried again.
                Err(Unfinished::Busy | Unfinished::NotOurs) => busy = true,
                Err(unfinished) => return Err(unfinished),
            }
        }
        if news > 0 {
            self.news.notify_waiters();
        }
        if busy { Err(Unfinished::Busy) } else { Ok(news) }
    }

    pub(super) fn encounter_key(&self, row: &Encounter) -> RecordKey {
        RecordKey::encounter(self.firm.clone(), row.id.clone())
    }

    fn begin(&self, row: &Encounter, old: Option<EncounterWatch>, time: Timestamp) -> EncounterWatch {
        let changed = row.last_updated.min(time);
        let life = match Life::of(row.status, time) {
            Life::Active | Life::After if later(changed, self.serves.plan.life) <= time => {
                Life::Ended { why: Why::Quiet, at: time }
            }
            life => life,
        };
        EncounterWatch {
            version: row.version.clone(),
            stamp: row.last_updated,
            status: row.status,
            patient: row.patient.clone().or(old.as_ref().and_then(|old| old.patient.clone())),
            first_seen: old.as_ref().map_or(time, |old| old.first_seen),
            changed,
            life,
            checked: old.as_ref().and_then(|old| old.checked),
            found: old.and_then(|old| old.found),
        }
    }

    /// When somebody has to do something about it: its documents, or the end of its life.
    fn next_look(&self, watch: &EncounterWatch, time: Timestamp) -> Finish {
        if watch.life.is_over() {
            return Finish::Done;
        }
        let not_before = match self.manners.reach {
            Reach::Firm => later(self.station.clock.now(), self.left(watch, time)),
            Reach::Encounters(_) | Reach::Patient => self.station.clock.now(),
        };
        Finish::Later { not_before, waits_for: None, attempt: false }
    }

    /// How long it will be followed still.
    pub(super) fn left(&self, watch: &EncounterWatch, time: Timestamp) -> Duration {
        let end = later(watch.changed, self.serves.plan.life);
        Duration::try_from(end.duration_since(time)).unwrap_or_default()
    }

    /// No record of an encounter is due further ahead, unless a wrong clock wrote it.
    pub(super) fn horizon(&self) -> Duration {
        let plan = &self.serves.plan;
        match self.manners.reach {
            Reach::Firm => plan.life.saturating_mul(2) + Duration::from_secs(60 * 60),
            Reach::Encounters(_) | Reach::Patient => plan.slowest.saturating_mul(2 * AFTER) + Duration::from_secs(60),
        }
    }

    /// Ends the lives that are over.
    pub(super) async fn close(&self, time: Timestamp) -> Result<(), Unfinished> {
        let station = &self.station;
        let now = station.clock.now();
        let due = station.ledger.due(&self.firm, &[Kind::Encounter], now, self.horizon(), CLOSED_AT_ONCE).await;
        for (key, _) in due.map_err(Unfinished::Storage)? {
            let mut state = None;
            let change = |record: &Record| {
                let Some(mut watch) = EncounterWatch::parse(&record.state) else {
                    return Some((record.state.clone(), Finish::Done, None));
                };
                if !watch.life.is_over() && self.left(&watch, time).is_zero() {
                    watch.life = Life::Ended { why: Why::Quiet, at: time };
                }
                let written = (watch.write(), self.next_look(&watch, time), None);
                state = Some(watch);
                Some(written)
            };
            match self.change(&key, change).await {
                Ok(_) => {
                    if let Some(watch) = state {
                        self.followed.note(key.id, watch);
                    }
                }
                Err(Unfinished::Busy | Unfinished::NotOurs) => {}
                Err(unfinished) => return Err(unfinished),
            }
        }
        Ok(())
    }
}

/// Whether the row is a later version than the one that is known. Lists may be behind.
pub(super) fn is_news(known: &EncounterWatch, row: &Encounter) -> bool {
    known.version != row.version && row.last_updated >= known.stamp
}
