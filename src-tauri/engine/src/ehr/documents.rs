//! Documents become records, and are handed on: exactly once for each version.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    Unfinished,
    board::Listed,
    classify::{Class as Kind, Content},
    cursor::{Seat, later},
    followed::Attached,
    records::{DocumentWatch, Fate},
    watcher::FirmWatch,
};
use crate::{
    error::{Class as Severity, Code},
    key::RecordKey,
    ledger::{Finish, Record},
    ports::{Document, DocumentStatus, Purpose},
};

/// So long a document waits for its encounter before it is listed.
const WAITS_FOR_ENCOUNTER: Duration = Duration::from_secs(10 * 60);

/// Between looks at those that wait, where nothing is heard of encounters.
const LOOSE_EVERY: Duration = Duration::from_secs(15);

/// How rows are taken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// What is older, and of nothing that is followed, is of no concern.
    pub(super) since: Option<Timestamp>,
    /// What is on the list of what nobody reads is judged again.
    pub(super) again: bool,
    pub(super) purpose: Purpose,
}

/// Versions that this station knows the ledger to have, so that they need not be looked up.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<RecordKey, String>);

impl Seen {
    /// More are not kept in memory.
    const MOST: usize = 50_000;

    fn has(&self, key: &RecordKey, version: &str) -> bool {
        self.0.get(key).is_some_and(|seen| seen == version)
    }

    /// Those that are not among them.
    pub(super) fn unknown(&self, watch: &FirmWatch, mut rows: Vec<Document>) -> Vec<Document> {
        rows.retain(|row| !self.has(&watch.document_key(row), &row.version));
        rows
    }

    pub(super) fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(key, version)| self.note(key, version));
    }

    fn note(&mut self, key: RecordKey, version: String) {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(key, version);
    }
}

/// What a row says, as a record has it. It is not judged yet.
fn watch_of(row: &Document, first_seen: Timestamp, classify: impl Fn(&Document) -> Kind) -> DocumentWatch {
    DocumentWatch {
        version: row.version.clone(),
        stamp: row.last_updated,
        status: row.status,
        categories: row.categories.clone(),
        class: classify(row),
        content: Content::of(row.content_type.as_deref()),
        encounters: row.encounters.clone(),
        patient: row.patient.clone(),
        first_seen,
        fate: Fate::Loose,
        handed: Vec::new(),
    }
}

impl FirmWatch {
    pub(super) fn document_key(&self, row: &Document) -> RecordKey {
        RecordKey::document(self.firm.clone(), row.resource.clone(), row.id.clone())
    }

    /// Takes these rows into the ledger and answers how many of them were news.
    pub(super) async fn take_in(
        &self,
        seat: &Seat,
        seen: &mut Seen,
        rows: Vec<Document>,
        terms: Terms,
    ) -> Result<u64, Unfinished> {
        let fresh = rows.into_iter().map(|row| (self.document_key(&row), row));
        let fresh: BTreeMap<_, _> = fresh.filter(|(key, row)| terms.again || !seen.has(key, &row.version)).collect();
        let keys: Vec<_> = fresh.keys().cloned().collect();
        let known = self.station.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let known: BTreeMap<_, _> = known.into_iter().map(|record| (record.key, record.state)).collect();
        let mut news = 0;
        for (key, row) in fresh {
            let state = known.get(&key).and_then(|state| DocumentWatch::parse(state));
            if let Some(state) = state.filter(|state| !is_news(state, &row, terms.again)) {
                self.remember(seat, &key, &state);
                seen.note(key, row.version);
                continue;
            }
            let version = row.version.clone();
            if !seat.held.may_write() {
                return Err(Unfinished::NotOurs);
            }
            news += u64::from(self.take_in_one(seat, &key, row, terms).await?);
            seen.note(key, version);
        }
        Ok(news)
    }

    async fn take_in_one(
        &self,
        seat: &Seat,
        key: &RecordKey,
        mut row: Document,
        terms: Terms,
    ) -> Result<bool, Unfinished> {
        if self.manners.read_after {
            let read = self.serves.ehr.document(&row.resource, &row.id, terms.purpose).await;
            match read {
                Ok(Some(now)) => row = now,
                // Listed still, and gone: whatever was made of it is withdrawn.
                Ok(None) => row.status = DocumentStatus::EnteredInError,
                // One that cannot be read by itself keeps nobody from the others: the list is believed.
                Err(fault) if fault.class == Severity::Permanent => {}
                Err(fault) => return Err(Unfinished::Fault(fault)),
            }
        }
        let watch = watch_of(&row, self.now_there(), |row| self.serves.classes.of(&row.categories));
        let attached = self.followed.attached(&self.station, &self.firm, &watch, terms.since).await?;
        if attached == Attached::Elsewhere {
            return Ok(false);
        }
        self.judge(seat, key, Some((watch, terms.again)), attached).await
    }

    /// Decides what becomes of a document: of the version that was found, or of the one that is known.
    async fn judge(
        &self,
        seat: &Seat,
        key: &RecordKey,
        found: Option<(DocumentWatch, bool)>,
        attached: Attached,
    ) -> Result<bool, Unfinished> {
        let mut after = None;
        let change = |record: &Record| {
            let old = DocumentWatch::parse(&record.state);
            let mut watch = match (found, old) {
                (Some((new, again)), Some(old)) => {
                    if !is_later(&old, &new.version, new.stamp, again) {
                        after = Some(old);
                        return None;
                    }
                    let first_seen = if new.version == old.version { old.first_seen } else { new.first_seen };
                    DocumentWatch { handed: old.handed, first_seen, ..new }
                }
                (Some((new, _)), None) => new,
                (None, Some(old)) => old,
                (None, None) => return None,
            };
            let (finish, notice) = self.decide(&mut watch, attached);
            let written = (watch.write(), finish, notice);
            after = Some(watch);
            Some(written)
        };
        let changed = self.change(key, change).await?;
        if let Some(watch) = after {
            self.remember(seat, key, &watch);
        }
        Ok(changed)
    }

    fn decide(&self, watch: &mut DocumentWatch, attached: Attached) -> (Finish, Option<Code>) {
        // What is remembered is of the EHR's time, what is due of ours.
        let (there, now) = (self.now_there(), self.station.clock.now());
        let wait = |not_before, code| Finish::Later { not_before, waits_for: Some(code), attempt: false };
        let patience = later(watch.first_seen, WAITS_FOR_ENCOUNTER);
        let (fate, finish, notice) = match (watch.status, watch.class, attached) {
            (DocumentStatus::EnteredInError | DocumentStatus::Superseded, _, _) => {
                (Fate::Withdrawn { at: there }, Finish::Done, None)
            }
            (DocumentStatus::Current, Kind::Ignored, _) => (Fate::Ignored, Finish::Done, None),
            (DocumentStatus::Current, Kind::Unsorted, _) => (Fate::Unsorted, Finish::Done, Some(Code::Unsorted)),
            (DocumentStatus::Current, _, Attached::Yes) => {
                if !watch.was_handed(&watch.version) {
                    watch.hand(there);
                }
                (Fate::Waits, wait(now, Code::AwaitsModel), None)
            }
            (DocumentStatus::Current, _, _) if there < patience => {
                (Fate::Loose, wait(later(now, WAITS_FOR_ENCOUNTER), Code::Unattached), None)
            }
            (DocumentStatus::Current, _, _) => (Fate::Unattached, Finish::Done, Some(Code::Unattached)),
        };
        watch.fate = fate;
        (finish, notice)
    }

    /// Keeps the cursor's lists of those that wait and those that nobody reads.
    fn remember(&self, seat: &Seat, key: &RecordKey, watch: &DocumentWatch) {
        let since = watch.first_seen;
        seat.with(|cursor| match watch.fate {
            Fate::Loose => {
                if !cursor.loose.iter().any(|(loose, _)| loose == key) {
                    cursor.loose.push((key.clone(), since));
                }
            }
            Fate::Unattached | Fate::Unsorted => {
                let code = if watch.fate == Fate::Unsorted { Code::Unsorted } else { Code::Unattached };
                let known = cursor.listed.iter().any(|listed| listed.key == *key && listed.code == code);
                cursor.loose.retain(|(loose, _)| loose != key);
                if !known {
                    cursor.list(Listed { key: key.clone(), code, since });
                }
            }
            Fate::Waits | Fate::Ignored | Fate::Withdrawn { .. } => cursor.unlist(key),
        });
    }

    /// Looks again at documents whose encounter was not there, until they are listed. Ends with what was in the way.
    pub(super) async fn attach(&self, seat: &Seat) -> Unfinished {
        loop {
            if let Err(unfinished) = self.attach_once(seat).await
                && !matches!(unfinished, Unfinished::Busy)
            {
                return unfinished;
            }
            tokio::select! {
                biased;
                () = self.news.notified() => {}
                () = tokio::time::sleep(LOOSE_EVERY) => {}
            }
        }
    }

    async fn attach_once(&self, seat: &Seat) -> Result<(), Unfinished> {
        // Before the EHR has told its time nobody knows how long they have waited.
        let Some(there) = self.there() else { return Ok(()) };
        let loose = seat.with(|cursor| cursor.loose.clone());
        for (key, since) in loose {
            let record = self.station.ledger.read(&key).await.map_err(Unfinished::Storage)?;
            let Some(watch) = record.and_then(|record| DocumentWatch::parse(&record.state)) else {
                seat.with(|cursor| cursor.unlist(&key));
                continue;
            };
            let attached = self.followed.attached(&self.station, &self.firm, &watch, None).await?;
            if attached == Attached::Yes || there >= later(since, WAITS_FOR_ENCOUNTER) {
                self.judge(seat, &key, None, attached).await?;
            }
        }
        Ok(())
    }
}

/// Whether the row is to be taken in, of what is known.
pub(super) fn is_news(known: &DocumentWatch, row: &Document, again: bool) -> bool {
    is_later(known, &row.version, row.last_updated, again)
}

/// Lists may be behind: what is older than what is known, or was handed on before, is no news.
fn is_later(known: &DocumentWatch, version: &str, stamp: Option<Timestamp>, again: bool) -> bool {
    if known.version == version {
        return again && known.fate.is_listed();
    }
    let older = stamp.zip(known.stamp).is_some_and(|(stamp, known)| stamp < known);
    !older && !known.was_handed(version)
}
