//! What must hold of watched EHRs, checked against what the EHRs themselves hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    ehr::{Class, DocumentWatch, EncounterWatch, Fate, Life},
    error::Fault,
    fakes::{MemoryEhr, MemoryLedger},
    key::{FirmId, Kind, RecordKey, ResourceId, ResourceType},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Record, Survey, Take, Want},
    ports::{Clock, Document, DocumentStatus, Encounter, EncounterStatus, Ledger, Manners, Reach},
    settings::WatchPlan,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::shape::classes;
use crate::{oracle::Oracle, script::Tally};

/// The truth of one firm.
#[derive(Debug)]
pub struct Truth {
    pub ehr: Arc<MemoryEhr>,
    pub manners: Manners,
    pub plan: WatchPlan,
}

#[derive(Debug)]
pub struct Judge {
    pub oracle: Arc<Oracle>,
    pub clock: Arc<dyn Clock>,
    pub started: Timestamp,
    pub began: Instant,
    firms: BTreeMap<FirmId, Truth>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When each version of a document was handed on.
    handed: BTreeMap<(RecordKey, String), Timestamp>,
    /// The watermark of each cursor, when it last moved, and the last sweep.
    marks: BTreeMap<RecordKey, Timestamp>,
    sweeps: BTreeMap<RecordKey, (Timestamp, u64)>,
    figures: Tally,
}

fn duration(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap()
}

fn time(json: &Json, name: &str) -> Option<Timestamp> {
    json.get(name)?.as_str()?.parse().ok()
}

impl Judge {
    pub fn new(oracle: Arc<Oracle>, clock: Arc<dyn Clock>, firms: BTreeMap<FirmId, Truth>) -> Arc<Self> {
        let started = clock.now();
        Arc::new(Self { oracle, clock, started, began: Instant::now(), firms, seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn firms(&self) -> &BTreeMap<FirmId, Truth> {
        &self.firms
    }

    pub fn figures(&self) -> Tally {
        self.seen().figures.clone()
    }

    pub fn handed(&self) -> u64 {
        self.seen().handed.len() as u64
    }

    /// How far each firm's encounters are said to have been seen, by the EHR's clock.
    pub fn mark(&self, firm: &FirmId) -> Option<Timestamp> {
        let encounter = ResourceType::new("Encounter").unwrap();
        self.seen().marks.get(&RecordKey::cursor(firm.clone(), encounter, "ehr")).copied()
    }

    /// Rows that sweeps found and that were said to have been seen.
    pub fn missed(&self) -> u64 {
        self.seen().sweeps.values().map(|(_, missed)| missed).sum()
    }

    pub fn sweeps(&self) -> u64 {
        self.seen().figures.0.get("sweeps").copied().unwrap_or_default()
    }

    /// The time of the EHRs, of a moment of the simulation.
    fn there(&self, at: Instant) -> Timestamp {
        self.started.saturating_add(duration(at.saturating_duration_since(self.began))).unwrap()
    }

    /// A record has this state now.
    fn written(&self, ledger: &MemoryLedger, key: &RecordKey, state: &str) {
        match key.kind {
            Kind::Document => {
                let Some(watch) = DocumentWatch::parse(state) else { return };
                let mut seen = self.seen();
                self.oracle.checked("handed once");
                for handed in watch.handed {
                    let known = seen.handed.entry((key.clone(), handed.version.clone())).or_insert(handed.at);
                    if *known != handed.at {
                        self.oracle.fail("handed once", format!("{key} {} was handed on twice", handed.version));
                    }
                }
            }
            Kind::Cursor if key.id.as_str() == "ehr" => {
                let Ok(cursor) = serde_json::from_str::<Json>(state) else { return };
                if let Some(swept) = time(&cursor, "swept") {
                    let missed = cursor["sweep"]["missed"].as_u64().unwrap_or_default();
                    let mut seen = self.seen();
                    if seen.sweeps.insert(key.clone(), (swept, missed)).is_none_or(|(before, _)| before != swept) {
                        seen.figures.add("sweeps");
                    }
                }
                let Some(mark) = time(&cursor, "watermark") else { return };
                self.seen().marks.insert(key.clone(), mark);
                let begun = time(&cursor, "begun").unwrap_or(Timestamp::MIN);
                self.moved(ledger, key, mark, begun);
            }
            _ => {}
        }
    }

    /// I11: whatever could be seen when the look began, and is stamped up to the mark, is in the ledger.
    fn moved(&self, ledger: &MemoryLedger, key: &RecordKey, mark: Timestamp, begun: Timestamp) {
        let Some(truth) = self.firms.get(&key.firm) else { return };
        self.oracle.checked("I11");
        let plan = &truth.plan;
        let covered = |stamp: Timestamp, visible: Instant| {
            let visible = self.there(visible);
            let late = visible.duration_since(stamp);
            (begun..=mark).contains(&stamp)
                && visible <= mark.saturating_add(duration(plan.settle)).unwrap()
                && late <= duration(plan.settle + plan.overlap)
        };
        ledger.look(|records| self.moved_past(records, key, truth, &covered, mark));
    }

    fn moved_past(
        &self,
        records: &BTreeMap<RecordKey, Record>,
        key: &RecordKey,
        truth: &Truth,
        covered: &dyn Fn(Timestamp, Instant) -> bool,
        mark: Timestamp,
    ) {
        if key.resource.as_str() == "Encounter" {
            for (row, visible) in truth.ehr.encounters_shown() {
                if covered(row.last_updated, visible) && !knows_encounter(records, &key.firm, &row) {
                    self.oracle.fail("I11", format!("{key} moved to {mark}, past {} of {}", row.id, row.last_updated));
                }
            }
            return;
        }
        for (row, visible) in truth.ehr.documents_shown() {
            let stamp = row.last_updated.unwrap();
            let by_itself = truth.manners.reach == Reach::Firm;
            let concerns = if by_itself { row.resource == key.resource } else { is_followed(records, &key.firm, &row) };
            if concerns && covered(stamp, visible) && !knows_document(records, &key.firm, &row) {
                self.oracle.fail("I11", format!("{key} moved to {mark}, past {} of {stamp}", row.id));
            }
        }
    }

    /// I24 and what follows from it: at rest, everything that can be seen is in the ledger, in its newest version, and as it should be.
    pub fn at_rest(&self, ledger: &MemoryLedger) {
        let records = ledger.records();
        for (firm, truth) in &self.firms {
            let now = self.clock.now();
            let old = now.saturating_sub(duration(truth.plan.life)).unwrap();
            for (row, _) in truth.ehr.encounters_shown() {
                self.oracle.checked("I24");
                if row.last_updated >= old.max(self.started) {
                    self.encounter_at_rest(&records, firm, &row, now, truth);
                }
            }
            for (row, visible) in truth.ehr.documents_shown() {
                self.oracle.checked("I24");
                let ended = truth.manners.reach != Reach::Firm && !is_followed(&records, firm, &row);
                // What came after its encounter's life is for the sweeps, which are not that often.
                if ended && visible.elapsed() < truth.plan.sweep_every * 2 {
                    continue;
                }
                self.document_at_rest(&records, firm, &row);
            }
        }
    }

    fn encounter_at_rest(
        &self,
        records: &BTreeMap<RecordKey, Record>,
        firm: &FirmId,
        row: &Encounter,
        now: Timestamp,
        truth: &Truth,
    ) {
        let key = RecordKey::encounter(firm.clone(), row.id.clone());
        let Some(record) = records.get(&key) else {
            return self.oracle.fail("I24", format!("{key} of {} was never seen", row.last_updated));
        };
        let Some(watch) = EncounterWatch::parse(&record.state).filter(|watch| watch.version == row.version) else {
            return self.oracle.fail("I24", format!("{key} {} was never seen: {}", row.version, record.state));
        };
        let left =
            truth.plan.life.saturating_sub(Duration::try_from(now.duration_since(watch.changed)).unwrap_or_default());
        let follows = matches!(row.status, EncounterStatus::Arrived | EncounterStatus::InProgress);
        if follows && left > Duration::from_secs(30 * 60) && watch.life != Life::Active {
            self.oracle.fail("I24", format!("{key} is going on, and is not followed: {:?}", watch.life));
        }
        if !watch.life.is_over() && record.wanted.is_none() {
            self.oracle.fail("I24", format!("{key} is followed, and nobody will ever look at it"));
        }
    }

    fn document_at_rest(&self, records: &BTreeMap<RecordKey, Record>, firm: &FirmId, row: &Document) {
        let key = RecordKey::document(firm.clone(), row.resource.clone(), row.id.clone());
        let fail =
            |what: &str| self.oracle.fail("I24", format!("{key} {} of {:?}: {what}", row.version, row.last_updated));
        let Some(record) = records.get(&key) else { return fail("was never seen") };
        let Some(watch) = DocumentWatch::parse(&record.state).filter(|watch| watch.version == row.version) else {
            return fail("is not the version that is known");
        };
        let wanted = record.wanted.is_some();
        let class = classes().of(&row.categories);
        let known =
            row.encounters.iter().any(|id| records.contains_key(&RecordKey::encounter(firm.clone(), id.clone())));
        match (row.status, class, watch.fate) {
            (DocumentStatus::Current, Class::Unsorted, Fate::Unsorted)
            | (DocumentStatus::Current, Class::Ignored, Fate::Ignored)
                if !wanted => {}
            (DocumentStatus::Current, _, Fate::Waits) if wanted && watch.was_handed(&row.version) => {
                self.seen().figures.add("documents handed on");
            }
            (DocumentStatus::Current, _, Fate::Unattached) if !known && !wanted => {
                self.seen().figures.add("documents unattached");
            }
            (DocumentStatus::EnteredInError | DocumentStatus::Superseded, _, Fate::Withdrawn { .. }) if !wanted => {
                self.seen().figures.add("documents withdrawn");
            }
            (status, class, fate) => {
                self.oracle
                    .fail("I24", format!("{key} is {status:?} and {class:?}, and became {fate:?}, wanted: {wanted}"));
            }
        }
    }

    /// I20: whatever a dead station held is held by a living one, or free.
    pub fn leases_at_rest(&self, ledger: &MemoryLedger, alive: &BTreeSet<(String, String)>) {
        for (key, record) in ledger.records() {
            self.oracle.checked("I20");
            let Some(held) = record.held else { continue };
            let owner = (held.owner.station.to_string(), held.owner.boot.to_string());
            if !alive.contains(&owner) {
                self.oracle.fail("I20", format!("{key} is held by {owner:?}, which is dead"));
            }
        }
    }
}

fn knows_encounter(records: &BTreeMap<RecordKey, Record>, firm: &FirmId, row: &Encounter) -> bool {
    let record = records.get(&RecordKey::encounter(firm.clone(), row.id.clone()));
    let watch = record.and_then(|record| EncounterWatch::parse(&record.state));
    watch.is_some_and(|watch| watch.version == row.version || watch.stamp >= row.last_updated)
}

fn knows_document(records: &BTreeMap<RecordKey, Record>, firm: &FirmId, row: &Document) -> bool {
    let record = records.get(&RecordKey::document(firm.clone(), row.resource.clone(), row.id.clone()));
    let watch = record.and_then(|record| DocumentWatch::parse(&record.state));
    watch.is_some_and(|watch| watch.version == row.version || watch.stamp >= row.last_updated)
}

/// Whether it is of an encounter that is followed, since before the document was made.
fn is_followed(records: &BTreeMap<RecordKey, Record>, firm: &FirmId, row: &Document) -> bool {
    row.encounters.iter().any(|id: &ResourceId| {
        let record = records.get(&RecordKey::encounter(firm.clone(), id.clone()));
        let watch = record.and_then(|record| EncounterWatch::parse(&record.state));
        watch.is_some_and(|watch| !watch.life.is_over() && Some(watch.first_seen) <= row.last_updated)
    })
}

/// The ledger, and what is written to it.
#[derive(Debug)]
pub struct Judged(pub Arc<dyn Ledger>, pub Arc<MemoryLedger>, pub Arc<Judge>);

#[async_trait]
impl Ledger for Judged {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.0.take(key, claim).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.0.renew(leases).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.0.save(lease, state, now).await?;
        self.2.written(&self.1, &lease.key, state);
        Ok(())
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        let state = commit.state.clone();
        let wanted = self.0.commit(lease, commit).await?;
        self.2.written(&self.1, &lease.key, &state);
        Ok(wanted)
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.0.want(wants).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.0.due(firm, kinds, now, horizon, limit).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.0.unserved(ours).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.0.held().await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.0.read(key).await
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        self.0.read_all(keys).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.0.page(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.0.count(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        self.0.survey().await
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.0.set_aside(keys, aside).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.0.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.0.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.0.unbury(ids).await
    }
}
