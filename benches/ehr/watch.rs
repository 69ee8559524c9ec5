//! The whole engine at work: its watchers, its ledger and all, on an EHR in memory, for the rules of a plain R4 server and for those of ModMed's
//! EMA.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{
    ehr::{Chosen, Classes, DocumentWatch, EncounterWatch},
    fakes::{
        FakeClock, FakeEhr, MemoryAudit, MemoryEhr, MemoryLedger, MemoryNotes, MemoryQueue, Meter, Walking, document,
    },
    key::{BootId, FirmId, Kind, QuotaId, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::Owner,
    pace::{Allowance, Quota},
    ports::{EncounterStatus, Manners, Reach},
    settings::{Clinics, EhrFirm, Settings, WatchPlan},
    supervisor::{Engine, Shared},
};
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::days::{DAY, Outcome};

/// A visit goes on for so long, and most documents come meanwhile; the others come within so long after it.
const VISIT: f64 = 40.0 * 60.0;
const AFTER: f64 = 8.0 * 3600.0;
const MEANWHILE: f64 = 0.7;
/// Two days to learn from, and half of one that counts.
const BEGIN: f64 = 2.0 * DAY;
const END: f64 = 2.5 * DAY;

pub struct Visit {
    opened: f64,
    documents: Vec<f64>,
}

/// One list of visits for each firm, after Zipf, at any hour.
pub struct Visits(Vec<Vec<Visit>>);

impl Visits {
    pub fn generate(firms: usize, each: f64) -> Self {
        let weights: f64 = (1..=firms).map(|rank| 1.0 / rank as f64).sum();
        let firm = |rank: usize| {
            let mut rng = StdRng::seed_from_u64(rank as u64);
            let a_day = each * firms as f64 / rank as f64 / weights;
            let (mut at, mut visits) = (0.0, Vec::new());
            loop {
                at -= (1.0 - rng.random::<f64>()).ln() * DAY / a_day;
                if at > END {
                    return visits;
                }
                let mut documents: Vec<_> = (0..[0, 1, 1, 2][rng.random_range(0..4)])
                    .map(|_| {
                        let later = if rng.random::<f64>() < MEANWHILE {
                            rng.random::<f64>() * VISIT
                        } else {
                            VISIT + rng.random::<f64>() * AFTER
                        };
                        at + later
                    })
                    .collect();
                documents.sort_by(f64::total_cmp);
                visits.push(Visit { opened: at, documents });
            }
        };
        Self((1..=firms).map(firm).collect())
    }

    /// The least mean delay of any schedule that knows all rates and asks as this server allows: `(sum sqrt(rate cost))^2 / (2 budget sum
    /// rate)`, averaged over the changes of the day that counts. What is asked for by itself is a firm's list of encounters and, where
    /// documents are not listed by firm, each patient.
    pub fn best(&self, manners: &Manners, budget: f64) -> f64 {
        let (mut delays, mut changes) = (0.0, 0.0);
        let mut at = BEGIN + 300.0;
        while at < END {
            let (mut weights, mut rates) = (0.0, 0.0);
            for visits in &self.0 {
                // Each is opened and closed once, and has one document on average.
                let opened = visits.len() as f64 / END;
                let found = opened;
                let today = visits.iter().filter(|visit| visit.opened >= (at / DAY).floor() * DAY && visit.opened < at);
                let rows = 2.0 * today.count() as f64;
                let pages = |rows: f64, page: u32| {
                    let trailing = f64::from(u8::from(manners.trailing_page && rows > 0.0));
                    (rows / f64::from(page)).ceil().max(1.0) + trailing
                };
                let list = if manners.by_day { pages(rows, manners.encounters_page) } else { 1.0 };
                rates += 2.0 * opened;
                weights += (2.0 * opened * list).sqrt();
                if manners.reach == Reach::Firm {
                    rates += found;
                    weights += found.sqrt();
                    continue;
                }
                for visit in visits.iter().filter(|visit| visit.opened < at) {
                    let rate = match at - visit.opened {
                        age if age < VISIT => MEANWHILE / VISIT,
                        age if age < VISIT + AFTER => (1.0 - MEANWHILE) / AFTER,
                        _ => continue,
                    };
                    let there = visit.documents.iter().filter(|document| **document < at).count() as f64;
                    rates += rate;
                    weights += (rate * pages(there, manners.documents_page)).sqrt();
                }
            }
            delays += weights * weights / (2.0 * budget);
            changes += rates;
            at += 600.0;
        }
        delays / changes
    }
}

/// One search for a firm, as R4 has it.
pub fn plain() -> Manners {
    Manners {
        reach: Reach::Firm,
        documents: vec![reference()],
        by_day: false,
        encounters_page: 50,
        documents_page: 50,
        trailing_page: false,
        read_after: false,
    }
}

/// Whole days only, documents by patient, small pages, and a last one without rows.
pub fn ema() -> Manners {
    let documents_page = 10;
    Manners { reach: Reach::Patient, by_day: true, documents_page, trailing_page: true, ..plain() }
}

fn reference() -> ResourceType {
    ResourceType::new("DocumentReference").unwrap()
}

fn id(text: String) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub fn run(visits: &Visits, manners: &Manners, allowance: Allowance) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let clock = FakeClock::at(start);
        let ledger = MemoryLedger::new();
        let meter = Meter::new(clock.clone(), allowance.requests, allowance.per, false);
        let quota = Quota::new(QuotaId::new("key").unwrap(), allowance, clock.clone()).unwrap();
        let mut clinics = Clinics { quotas: vec![quota.clone()], ..Clinics::default() };
        let mut tasks = JoinSet::new();
        for (number, visits) in visits.0.iter().enumerate() {
            let firm = FirmId::new(format!("f{number}")).unwrap();
            let server = MemoryEhr::new(clock.clone(), manners.clone(), Walking::default());
            let ehr = FakeEhr::new(server.clone(), "a", quota.share_of(&firm), meter.clone(), clock.clone());
            let classes = Classes { solitary: vec![Chosen::parse("photo").unwrap()], ..Classes::default() };
            let watched = EhrFirm {
                ehr: Arc::new(ehr),
                plan: WatchPlan::default(),
                classes,
                quota: Some(quota.clone()),
                paused: false,
                definition: None,
            };
            clinics.watched.insert(firm, watched);
            let happens = happenings(visits);
            tasks.spawn(async move {
                let begun = tokio::time::Instant::now();
                for (at, visit, what) in happens {
                    tokio::time::sleep_until(begun + Duration::from_secs_f64(at)).await;
                    let encounter = id(format!("v{visit}"));
                    let patient = Some(id(format!("p{visit}")));
                    match what {
                        What::Document(document_number) => {
                            let row =
                                document(&reference(), &id(format!("d{visit}-{document_number}")), "photo", &encounter);
                            server.put_document(engine::ports::Document { patient, ..row }, Duration::ZERO);
                        }
                        What::Status(status) => {
                            server.put_encounter(&encounter, status, patient, Duration::ZERO);
                        }
                    }
                }
            });
        }
        let owner = Owner { station: StationId::new("a").unwrap(), boot: BootId::new("b").unwrap() };
        let settings = Settings::new(owner, ClinicKey::from_bytes([7; 32]), 1);
        let shared = Shared {
            clock: clock.clone(),
            queue: MemoryQueue::new(clock.clone(), Duration::from_secs(60)),
            backstop: None,
            ledger: ledger.clone(),
            audit: MemoryAudit::new(),
            notes: MemoryNotes::new(),
        };
        let engine = Engine::start(shared, clinics, settings);
        tokio::time::sleep(Duration::from_secs_f64(BEGIN)).await;
        let (before, ..) = meter.figures();
        // Those that are under way at the end count as well.
        tokio::time::sleep(Duration::from_secs_f64(END - BEGIN)).await;
        let (after, beyond, _) = meter.figures();
        assert_eq!(beyond, 0, "requests beyond the quota");
        engine.kill();
        tasks.shutdown().await;
        let mut outcome = found(visits, &ledger, start);
        outcome.requests = after - before;
        outcome.seconds = END - BEGIN;
        outcome
    })
}

#[derive(Clone, Copy)]
enum What {
    Status(EncounterStatus),
    Document(usize),
}

fn happenings(visits: &[Visit]) -> Vec<(f64, usize, What)> {
    let of = |(number, visit): (usize, &Visit)| {
        let documents: Vec<_> =
            visit.documents.iter().enumerate().map(|(n, at)| (*at, number, What::Document(n))).collect();
        let status = [
            (visit.opened, number, What::Status(EncounterStatus::InProgress)),
            (visit.opened + VISIT, number, What::Status(EncounterStatus::Finished)),
        ];
        status.into_iter().chain(documents)
    };
    let mut all: Vec<_> = visits.iter().enumerate().flat_map(of).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}

/// What the ledger says when each was found and handed on.
fn found(visits: &Visits, ledger: &MemoryLedger, start: Timestamp) -> Outcome {
    let mut outcome = Outcome::default();
    let since = |at: Timestamp| at.duration_since(start).as_secs_f64();
    let mut handed: BTreeMap<(String, String), f64> = BTreeMap::new();
    for (key, record) in ledger.records() {
        let name = (key.firm.to_string(), key.id.to_string());
        match key.kind {
            Kind::Encounter => {
                if let Some(watch) = EncounterWatch::parse(&record.state) {
                    handed.insert(name, since(watch.first_seen));
                }
            }
            Kind::Document => {
                if let Some(first) = DocumentWatch::parse(&record.state).and_then(|watch| watch.handed.first().cloned())
                {
                    handed.insert(name, since(first.at));
                }
            }
            _ => {}
        }
    }
    for (firm, visits) in visits.0.iter().enumerate() {
        let at = |id: String| handed.get(&(format!("f{firm}"), id)).copied();
        for (number, visit) in visits.iter().enumerate() {
            if visit.opened >= BEGIN
                && let Some(found) = at(format!("v{number}"))
            {
                // For its end as well, which is found in the same list.
                outcome.encounters.add(found - visit.opened);
                outcome.encounters.add(found - visit.opened);
            }
            for (document, made) in visit.documents.iter().enumerate().filter(|(_, made)| (BEGIN..END).contains(*made))
            {
                match at(format!("d{number}-{document}")) {
                    Some(found) => outcome.documents.add(found - made),
                    None => outcome.missed += 1,
                }
            }
        }
    }
    outcome
}
