//! Comparing what the EHR lists with the ledger: what "complete up to" says is so, or is found out here.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    DocumentWatch, EncounterWatch, Unfinished,
    board::Swept,
    cursor::{Seat, earlier, later},
    documents::{self, Seen, Terms},
    encounters,
    walk::{Of, Walk},
    watcher::{FirmWatch, Post},
};
use crate::{
    error::{Class, Code},
    key::{RecordKey, ResourceId},
    ports::{Document, Encounter, Purpose, Reach, Wish},
};

/// How far back a sweep looks.
const BACK: Duration = Duration::from_secs(48 * 60 * 60);

/// How far back it looks for encounters whose documents are asked for one by one: one may be signed long after its day.
const BACK_FOR_DOCUMENTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Between looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After one that could not be finished.
const AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);

impl FirmWatch {
    /// Sweeps when it is time. Ends with what ends the stint.
    pub(super) async fn sweeps(&self, post: &Post, seat: &Seat) -> Unfinished {
        loop {
            tokio::time::sleep(self.station.chance.around(LOOK_EVERY)).await;
            let (complete, swept) = seat.with(|cursor| (cursor.complete, cursor.swept));
            let Some(now) = self.there() else { continue };
            let due = swept.is_none_or(|swept| later(swept, self.serves.plan.sweep_every) <= now || swept > now);
            let Some(statement) = complete.filter(|_| due) else { continue };
            match self.sweep(post, seat, statement).await {
                Ok(found) => {
                    seat.with(|cursor| (cursor.swept, cursor.sweep) = (Some(now), Some(found)));
                    let elapsed = self.station.clock.elapsed();
                    self.station.board.kind(&self.firm, &self.resource(post), |kind| {
                        (kind.swept, kind.sweep) = (Some(elapsed), Some(found));
                        if found.missed > 0 {
                            kind.remark = Some(Code::LateRows);
                        }
                    });
                    if found.missed > 0 {
                        tracing::warn!(firm = %self.firm, ?found, "the EHR showed rows later than was allowed for");
                    }
                    match seat.save(&self.station, true).await {
                        Ok(()) => {}
                        Err(unfinished) => return unfinished,
                    }
                }
                Err(Unfinished::NotOurs) => return Unfinished::NotOurs,
                Err(Unfinished::Storage(fault)) if fault.class == Class::Fatal => return Unfinished::Storage(fault),
                Err(Unfinished::Busy) => {}
                Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => {
                    tracing::info!(firm = %self.firm, %fault, "a sweep was not finished; it is made again");
                    tokio::time::sleep(self.station.chance.around(AGAIN_AFTER)).await;
                }
            }
        }
    }

    async fn sweep(&self, post: &Post, seat: &Seat, statement: Timestamp) -> Result<Swept, Unfinished> {
        let begun = seat.with(|cursor| cursor.begun).unwrap_or(Timestamp::MIN);
        let from = earlier(self.now_there(), BACK).max(begun);
        let mut sweep = Sweep { seat, begun, statement, swept: Swept::default(), seen: Seen::default() };
        match post {
            Post::Encounters => {
                let mut walk = Walk::new(self, Of::Encounters(Some(from)), Purpose::Sweep);
                while let Some(page) = walk.next().await? {
                    let time = walk.time.unwrap_or_else(|| self.now_there());
                    self.compare_encounters(&mut sweep, &page.encounters, time).await?;
                }
            }
            Post::Documents(resource) => {
                let of = Of::Documents(resource.clone(), Wish::Since(Some(from)));
                self.sweep_documents(&mut sweep, of, None).await?;
            }
            Post::Claims => {
                let back = earlier(self.now_there(), BACK_FOR_DOCUMENTS).max(begun);
                let wishes = self.wishes(back).await?;
                for resource in &self.manners.documents {
                    for wish in &wishes {
                        let of = Of::Documents(resource.clone(), wish.clone());
                        self.sweep_documents(&mut sweep, of, Some(earlier(back, self.serves.plan.life))).await?;
                    }
                }
            }
        }
        Ok(sweep.swept)
    }

    /// Everything that can be asked about the encounters of so long.
    async fn wishes(&self, back: Timestamp) -> Result<Vec<Wish>, Unfinished> {
        let mut of: BTreeMap<ResourceId, Option<ResourceId>> = BTreeMap::new();
        let mut walk = Walk::new(self, Of::Encounters(Some(back)), Purpose::Sweep);
        while let Some(page) = walk.next().await? {
            of.extend(page.encounters.into_iter().map(|row| (row.id, row.patient)));
        }
        Ok(match self.manners.reach {
            Reach::Encounters(most) => {
                let ids: Vec<_> = of.into_keys().collect();
                let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
                ids.chunks(most).map(|some| Wish::OfEncounters(some.to_vec())).collect()
            }
            Reach::Firm | Reach::Patient => {
                let patients: std::collections::BTreeSet<_> = of.into_values().flatten().collect();
                patients.into_iter().map(Wish::OfPatient).collect()
            }
        })
    }

    async fn compare_encounters(
        &self,
        sweep: &mut Sweep<'_>,
        rows: &[Encounter],
        time: Timestamp,
    ) -> Result<(), Unfinished> {
        let keys: Vec<_> = rows.iter().map(|row| self.encounter_key(row)).collect();
        let known = self.known(&keys).await?;
        for (row, key) in rows.iter().zip(&keys) {
            let state = known.get(key).and_then(|state| EncounterWatch::parse(state));
            let is_known = state.is_some_and(|state| !encounters::is_news(&state, row));
            sweep.compared(is_known, Some(row.last_updated), time);
        }
        sweep.may_write()?;
        self.follow(rows, time).await.map(drop)
    }

    async fn sweep_documents(&self, sweep: &mut Sweep<'_>, of: Of, since: Option<Timestamp>) -> Result<(), Unfinished> {
        let mut walk = Walk::new(self, of, Purpose::Sweep);
        while let Some(page) = walk.next().await? {
            let time = walk.time.unwrap_or_else(|| self.now_there());
            let keys: Vec<_> = page.documents.iter().map(|row| self.document_key(row)).collect();
            let known = self.known(&keys).await?;
            for (row, key) in page.documents.iter().zip(&keys) {
                let state = known.get(key).and_then(|state| DocumentWatch::parse(state));
                let is_known = state.is_some_and(|state| !documents::is_news(&state, row, false));
                // Where encounters are asked one by one, the statement is about those that are followed.
                let covered = since.is_none() || self.is_followed(row);
                sweep.compared(is_known || !covered, row.last_updated, time);
            }
            sweep.may_write()?;
            let terms = Terms { since, again: true, purpose: Purpose::Sweep };
            self.take_in(sweep.seat, &mut sweep.seen, page.documents, terms).await?;
        }
        Ok(())
    }

    fn is_followed(&self, row: &Document) -> bool {
        row.encounters.iter().any(|id| self.followed.version_of(id).is_some())
    }

    async fn known(&self, keys: &[RecordKey]) -> Result<BTreeMap<RecordKey, String>, Unfinished> {
        let records = self.station.ledger.read_all(keys).await.map_err(Unfinished::Storage)?;
        Ok(records.into_iter().map(|record| (record.key, record.state)).collect())
    }
}

struct Sweep<'a> {
    seat: &'a Seat,
    begun: Timestamp,
    statement: Timestamp,
    swept: Swept,
    seen: Seen,
}

impl Sweep<'_> {
    fn compared(&mut self, is_known: bool, stamp: Option<Timestamp>, time: Timestamp) {
        self.swept.rows += 1;
        let Some(stamp) = stamp.filter(|stamp| !is_known && (self.begun..=self.statement).contains(stamp)) else {
            return;
        };
        self.swept.missed += 1;
        let late = Duration::try_from(time.duration_since(stamp)).unwrap_or_default();
        self.seat.with(|cursor| cursor.lateness.note(late));
    }

    fn may_write(&self) -> Result<(), Unfinished> {
        if self.seat.held.may_write() { Ok(()) } else { Err(Unfinished::NotOurs) }
    }
}
