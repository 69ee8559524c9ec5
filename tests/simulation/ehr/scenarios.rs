//! What is promised of watched EHRs, one thing at a time, where nothing else goes wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    action::Action,
    connection::Health,
    ehr::{Class as Kind, Classes, DocumentWatch, EncounterWatch, Fate, Life, Watching, Why},
    error::{Class, Code, Fault},
    fakes::{
        FakeClock, FakeEhr, MemoryAudit, MemoryEhr, MemoryLedger, MemoryNotes, MemoryQueue, Meter, Walking, document,
    },
    key::{BootId, FirmId, RecordKey, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::{Owner, Record},
    manual::Stage as Pass,
    ports::{Clock, Document, DocumentStatus, EncounterStatus, Manners, Reach, Unlimited},
    settings::{Clinics, EhrFirm, Settings, WatchPlan},
    snapshot::Verdict,
    supervisor::{Engine, Shared},
};
use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    ports::{FaultyEhr, Troubles},
    shape::classes,
};
use crate::{faults::Station, oracle::Oracle, script::Script};

fn firm(name: &str) -> FirmId {
    FirmId::new(name).unwrap()
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn photograph() -> ResourceType {
    ResourceType::new("DocumentReference").unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Two firms, and stations on one ledger.
struct Stage {
    clock: Arc<FakeClock>,
    ledger: Arc<MemoryLedger>,
    queue: Arc<MemoryQueue>,
    script: Arc<Script>,
    ehrs: BTreeMap<FirmId, Arc<MemoryEhr>>,
    troubles: Arc<Troubles>,
    plan: WatchPlan,
    classes: Classes,
    poison: Option<ResourceId>,
}

impl Stage {
    fn new(reach: Reach) -> Self {
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse::<Timestamp>().unwrap());
        let manners = Manners {
            reach,
            documents: vec![photograph()],
            by_day: false,
            encounters_page: 20,
            documents_page: 10,
            trailing_page: false,
            read_after: false,
        };
        let ehr = |name| (firm(name), MemoryEhr::new(clock.clone(), manners.clone(), Walking::default()));
        let script = Script::new(1, false);
        script.heal();
        Self {
            ledger: MemoryLedger::new(),
            queue: MemoryQueue::new(clock.clone(), Duration::from_secs(60)),
            script,
            ehrs: ["north", "south"].map(ehr).into(),
            troubles: Arc::default(),
            plan: WatchPlan { sweep_every: minutes(20), ..WatchPlan::default() },
            classes: classes(),
            poison: None,
            clock,
        }
    }

    fn north(&self) -> &MemoryEhr {
        &self.ehrs[&firm("north")]
    }

    fn start(&self, number: usize, bare: bool) -> Engine {
        let station = Station {
            number,
            script: self.script.clone(),
            oracle: Oracle::new(),
            clock: FakeClock::at(self.clock.now()),
            crash: Arc::new(Notify::new()),
        };
        let owner =
            Owner { station: StationId::new(format!("desk-{number}")).unwrap(), boot: BootId::new("boot").unwrap() };
        let meter = Meter::new(self.clock.clone(), u64::MAX, Duration::from_secs(60), false);
        let watched = self.ehrs.iter().map(|(firm, ehr)| {
            let way = FakeEhr::new(ehr.clone(), "desk", Arc::new(Unlimited), meter.clone(), station.clock.clone());
            let way = FaultyEhr {
                station: station.clone(),
                ehr: way,
                firm: firm.clone(),
                troubles: self.troubles.clone(),
                defect: None,
                bare,
                newest: Mutex::default(),
                poison: self.poison.clone(),
            };
            let (plan, classes) = (self.plan, self.classes.clone());
            let one = EhrFirm { ehr: Arc::new(way), plan, classes, quota: None, paused: false, definition: None };
            (firm.clone(), one)
        });
        let clinics = Clinics { watched: watched.collect(), ..Clinics::default() };
        let shared = Shared {
            clock: station.clock.clone(),
            queue: self.queue.clone(),
            backstop: None,
            ledger: self.ledger.clone(),
            audit: MemoryAudit::new(),
            notes: MemoryNotes::new(),
        };
        Engine::start(shared, clinics, Settings::new(owner, ClinicKey::from_bytes([9; 32]), 7))
    }

    fn see(&self, encounter: &str, status: EncounterStatus) {
        let patient = id(&format!("of-{encounter}"));
        self.north().put_encounter(&id(encounter), status, Some(patient), Duration::ZERO);
    }

    fn file(&self, name: &str, category: &str, encounter: &str) -> Document {
        let mut row = document(&photograph(), &id(name), category, &id(encounter));
        row.patient = Some(id(&format!("of-{encounter}")));
        self.north().put_document(row, Duration::ZERO)
    }

    fn record(&self, key: &RecordKey) -> Option<Record> {
        self.ledger.look(|records| records.get(key).cloned())
    }

    fn document(&self, name: &str) -> Option<DocumentWatch> {
        let record = self.record(&RecordKey::document(firm("north"), photograph(), id(name)))?;
        DocumentWatch::parse(&record.state)
    }

    fn fate(&self, name: &str) -> Option<Fate> {
        self.document(name).map(|watch| watch.fate)
    }

    fn life(&self, encounter: &str) -> Option<Life> {
        let record = self.record(&RecordKey::encounter(firm("north"), id(encounter)))?;
        EncounterWatch::parse(&record.state).map(|watch| watch.life)
    }
}

/// Waits for a condition, for so long at most.
async fn within(long: Duration, what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    assert!(tokio::time::timeout(long, waited).await.is_ok(), "not within {long:?}: {what}");
}

fn watching(engine: &Engine, name: &str) -> Watching {
    let snapshot = engine.handle.snapshots().borrow().clone();
    snapshot.watching.into_iter().find(|watching| watching.firm == firm(name)).unwrap()
}

/// Whether the window shows this of a firm. It shows nothing before the first snapshot.
fn shows(engine: &Engine, name: &str, condition: impl Fn(&Watching) -> bool) -> bool {
    let snapshot = engine.handle.snapshots().borrow().clone();
    snapshot.watching.iter().any(|watching| watching.firm == firm(name) && condition(watching))
}

fn verdict(engine: &Engine) -> Verdict {
    engine.handle.snapshots().borrow().verdict.clone()
}

#[tokio::test(start_paused = true)]
async fn a_chart_that_is_signed_after_25_hours_is_seen_with_what_was_filed_then() {
    for reach in [Reach::Firm, Reach::Patient] {
        let mut stage = Stage::new(reach);
        stage.plan.fastest = minutes(1);
        let engine = stage.start(1, false);
        within(minutes(5), "up to date", || matches!(verdict(&engine), Verdict::UpToDate { .. })).await;
        stage.see("e1", EncounterStatus::InProgress);
        stage.file("d1", "lesion", "e1");
        within(minutes(3), "handed on", || stage.fate("d1") == Some(Fate::Waits)).await;
        stage.see("e1", EncounterStatus::Finished);
        tokio::time::sleep(minutes(24 * 60 + 10)).await;
        assert!(matches!(stage.life("e1"), Some(Life::Ended { why: Why::Quiet, .. })), "{:?}", stage.life("e1"));
        tokio::time::sleep(minutes(50)).await;
        stage.see("e1", EncounterStatus::Finished);
        stage.file("d2", "note", "e1");
        within(minutes(3), "the late one", || stage.fate("d2") == Some(Fate::Waits)).await;
        within(minutes(3), "followed again", || stage.life("e1") == Some(Life::After)).await;
        assert_eq!(stage.document("d1").unwrap().handed.len(), 1, "{reach:?}");
        assert_eq!(stage.document("d2").unwrap().class, Kind::Note);
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_of_no_chosen_category_is_listed_and_handed_on_once_it_is_chosen() {
    let mut stage = Stage::new(Reach::Firm);
    stage.classes = Classes::default();
    let engine = stage.start(1, false);
    stage.see("e1", EncounterStatus::InProgress);
    stage.file("d1", "lesion", "e1");
    within(minutes(1), "listed", || {
        shows(&engine, "north", |north| north.listed.iter().any(|one| one.code == Code::Unsorted))
    })
    .await;
    assert_eq!(stage.fate("d1"), Some(Fate::Unsorted));
    engine.handle.stop();
    engine.ended().await.unwrap();
    stage.classes = classes();
    let engine = stage.start(1, false);
    within(minutes(30), "the next sweep", || stage.fate("d1") == Some(Fate::Waits)).await;
    within(minutes(1), "no longer listed", || shows(&engine, "north", |north| north.listed.is_empty())).await;
    within(minutes(2), "waits to be read", || shows(&engine, "north", |north| north.documents == 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_document_waits_for_its_encounter_and_is_listed_where_none_comes() {
    let stage = Stage::new(Reach::Firm);
    let engine = stage.start(1, false);
    stage.file("d1", "lesion", "e1");
    stage.file("d2", "lesion", "e2");
    within(minutes(1), "looked at again", || stage.fate("d1") == Some(Fate::Loose)).await;
    tokio::time::sleep(minutes(3)).await;
    stage.see("e1", EncounterStatus::Arrived);
    within(minutes(1), "its encounter is there", || stage.fate("d1") == Some(Fate::Waits)).await;
    within(minutes(10), "listed", || stage.fate("d2") == Some(Fate::Unattached)).await;
    within(minutes(1), "shown", || {
        shows(&engine, "north", |north| north.listed.iter().any(|one| one.code == Code::Unattached))
    })
    .await;
    stage.see("e2", EncounterStatus::Arrived);
    within(minutes(30), "a sweep finds its encounter", || stage.fate("d2") == Some(Fate::Waits)).await;
    assert_eq!(
        watching(&engine, "north").kinds.iter().filter_map(|kind| kind.sweep).map(|found| found.missed).sum::<u64>(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_document_is_wanted_no_more_and_a_new_version_is_handed_on_once() {
    let stage = Stage::new(Reach::Encounters(8));
    let _engine = stage.start(1, false);
    stage.see("e1", EncounterStatus::InProgress);
    stage.file("d1", "lesion", "e1");
    within(minutes(1), "handed on", || stage.fate("d1") == Some(Fate::Waits)).await;
    stage.file("d1", "rash", "e1");
    within(minutes(1), "handed on again", || stage.document("d1").unwrap().handed.len() == 2).await;
    assert_eq!(stage.document("d1").unwrap().class, Kind::Widespread);
    let mut row = document(&photograph(), &id("d1"), "rash", &id("e1"));
    row.status = DocumentStatus::EnteredInError;
    stage.north().put_document(row, Duration::ZERO);
    within(minutes(1), "withdrawn", || matches!(stage.fate("d1"), Some(Fate::Withdrawn { .. }))).await;
    let record = stage.record(&RecordKey::document(firm("north"), photograph(), id("d1"))).unwrap();
    assert_eq!(record.wanted, None);
}

#[tokio::test(start_paused = true)]
async fn an_ehr_that_is_away_or_talks_nonsense_is_told_and_delays_no_other() {
    for (fault, stops) in [
        (Fault::new(Class::Away, Code::Unreachable), false),
        (Fault::new(Class::Retry, Code::WebPage), false),
        (Fault::new(Class::Stop, Code::SignInRefused), true),
    ] {
        let stage = Stage::new(Reach::Firm);
        let engine = stage.start(1, false);
        within(minutes(5), "up to date", || matches!(verdict(&engine), Verdict::UpToDate { .. })).await;
        let code = fault.code;
        stage.troubles.begin(firm("south"), minutes(60), fault);
        let told = |engine: &Engine| match watching(engine, "south").health {
            Health::Away { code: said, .. } | Health::Stopped { code: said, .. } => said == code,
            Health::Up | Health::Unproven => false,
        };
        within(minutes(5), "told", || told(&engine)).await;
        within(minutes(5), "the verdict", || match verdict(&engine) {
            Verdict::CannotWatch { firm: who, code: said, .. } => !stops && who == firm("south") && said == code,
            Verdict::NeedsAttention { items } => stops && items == 1,
            _ => false,
        })
        .await;
        assert_eq!(watching(&engine, "north").health, Health::Up);
        stage.see("e1", EncounterStatus::InProgress);
        stage.file("d1", "lesion", "e1");
        within(Duration::from_secs(20), "the other goes on", || stage.fate("d1") == Some(Fate::Waits)).await;
        stage.troubles.heal();
        within(minutes(10), "it is back", || watching(&engine, "south").health == Health::Up).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_without_the_secret_takes_no_lease_and_shows_how_far_another_has_come() {
    let stage = Stage::new(Reach::Firm);
    let bare = stage.start(1, true);
    tokio::time::sleep(minutes(2)).await;
    let leases = stage.ledger.look(|records| records.values().filter(|record| record.held.is_some()).count());
    assert_eq!(leases, 0);
    within(minutes(5), "told", || matches!(watching(&bare, "north").health, Health::Stopped { .. })).await;
    let _other = stage.start(2, false);
    within(minutes(5), "served elsewhere", || watching(&bare, "north").health == Health::Up).await;
    let shown = watching(&bare, "north");
    let desk = StationId::new("desk-2").unwrap();
    assert!(
        shown.kinds.iter().all(|kind| kind.station.as_ref() == Some(&desk) && kind.complete.is_some()),
        "{shown:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn when_a_station_is_gone_another_goes_on_where_it_was() {
    let stage = Stage::new(Reach::Patient);
    let first = stage.start(1, false);
    stage.see("e1", EncounterStatus::InProgress);
    within(minutes(1), "followed", || stage.life("e1") == Some(Life::Active)).await;
    let second = stage.start(2, false);
    tokio::time::sleep(minutes(1)).await;
    first.kill();
    stage.file("d1", "lesion", "e1");
    // The lease's term, and a look whether it stands still.
    within(minutes(2), "found by the other", || stage.fate("d1") == Some(Fate::Waits)).await;
    assert_eq!(stage.document("d1").unwrap().handed.len(), 1);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn sync_now_looks_at_once() {
    let mut stage = Stage::new(Reach::Patient);
    stage.plan.fastest = minutes(5);
    let engine = stage.start(1, false);
    within(minutes(10), "up to date", || matches!(verdict(&engine), Verdict::UpToDate { .. })).await;
    stage.see("e1", EncounterStatus::InProgress);
    engine.handle.act(Action::SyncNow, None).await.unwrap();
    within(Duration::from_secs(10), "followed", || stage.life("e1") == Some(Life::Active)).await;
    let finished = || matches!(engine.handle.snapshots().borrow().manual.as_ref().map(|manual| &manual.stage), Some(Pass::Finished(finished)) if finished.complete);
    within(minutes(1), "finished", finished).await;
}

#[tokio::test(start_paused = true)]
async fn a_patient_who_cannot_be_asked_about_keeps_nobody_from_the_others() {
    let mut stage = Stage::new(Reach::Patient);
    stage.poison = Some(id("of-e1"));
    let engine = stage.start(1, false);
    stage.see("e1", EncounterStatus::InProgress);
    stage.see("e2", EncounterStatus::InProgress);
    stage.file("d2", "lesion", "e2");
    within(minutes(1), "the other", || stage.fate("d2") == Some(Fate::Waits)).await;
    let counted = |north: &Watching| north.health == Health::Up && north.kinds.iter().any(|kind| kind.unusable > 0);
    within(minutes(1), "counted", || shows(&engine, "north", counted)).await;
}
