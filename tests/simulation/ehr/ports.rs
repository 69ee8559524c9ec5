//! One station's way to an EHR, with trouble in between.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    fakes::FakeEhr,
    key::{FirmId, ResourceId, ResourceType},
    ports::{
        Category, Document, DocumentStatus, Documents, Ehr, EhrFactory, Encounters, Manners, PageToken, Purpose, Wish,
    },
    server_clock::Heard,
    settings::EhrFirm,
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use tokio::time::Instant;

use super::defects::Defect;
use crate::{faults::Station, script::Mishap};

/// What is the matter with a firm's EHR, and until when.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<FirmId, (Instant, Instant, Fault)>>);

impl Troubles {
    pub fn begin(&self, firm: FirmId, long: Duration, fault: Fault) {
        self.0.lock().unwrap().insert(firm, (Instant::now(), Instant::now() + long, fault));
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().clear();
    }

    fn of(&self, firm: &FirmId) -> Result<(), Fault> {
        let all = self.0.lock().unwrap();
        let trouble = all.get(firm).filter(|(_, until, _)| *until > Instant::now());
        trouble.map_or(Ok(()), |(_, _, fault)| Err(fault.clone()))
    }

    /// For how long it has lasted; for how long there has been none.
    pub fn lasts(&self, firm: &FirmId) -> Option<Duration> {
        let all = self.0.lock().unwrap();
        all.get(firm).filter(|(_, until, _)| *until > Instant::now()).map(|(since, _, _)| since.elapsed())
    }

    pub fn over_for(&self, firm: &FirmId) -> Option<Duration> {
        let all = self.0.lock().unwrap();
        match all.get(firm) {
            Some((_, until, _)) => Instant::now().checked_duration_since(*until),
            None => Some(Duration::MAX),
        }
    }
}

#[derive(Debug)]
pub struct FaultyEhr {
    pub station: Station,
    pub ehr: FakeEhr,
    pub firm: FirmId,
    pub troubles: Arc<Troubles>,
    pub defect: Option<Defect>,
    /// The firm's secret is not at this station.
    pub bare: bool,
    pub newest: Mutex<Option<Timestamp>>,
    /// Whose documents the EHR refuses to list.
    pub poison: Option<ResourceId>,
}

impl FaultyEhr {
    async fn reach(&self) -> Result<(), Fault> {
        self.station.script.thaw(self.station.number).await;
        let latency = self.station.script.draw(|rng| rng.random_range(20..150));
        tokio::time::sleep(Duration::from_millis(latency)).await;
        if self.bare {
            self.station.oracle.fail("secrets", format!("{} was asked by a station without its secret", self.firm));
        }
        self.troubles.of(&self.firm)
    }

    async fn back<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        self.station.script.thaw(self.station.number).await;
        match self.station.script.on_the_way_back() {
            None => answer,
            Some(Mishap::Crash) => {
                self.station.crash.notify_one();
                std::future::pending().await
            }
            Some(_) => Err(Fault::new(Class::Retry, Code::ServerError).vendor("HTTP 502")),
        }
    }

    /// From where it is asked.
    fn since(&self, since: Option<Timestamp>) -> Option<Timestamp> {
        let later = |time: Timestamp, by| time.saturating_add(SignedDuration::from_secs(by)).ok();
        match self.defect {
            // What is asked for is the time of the last look less settling time and overlap; this asks for what came after it.
            Some(Defect::TimeOfPoll) => since.and_then(|since| later(since, 120 + 300)),
            // "After" the newest row, to the second.
            Some(Defect::AfterTheTie) => {
                let newest = *self.newest.lock().unwrap();
                newest.and_then(|newest| later(newest, 1)).or(since)
            }
            _ => since,
        }
    }

    fn listed(&self, stamps: impl Iterator<Item = Timestamp>) {
        let mut newest = self.newest.lock().unwrap();
        *newest = stamps.map(|stamp| Timestamp::from_second(stamp.as_second()).unwrap()).max().max(*newest);
    }
}

#[async_trait]
impl Ehr for FaultyEhr {
    fn manners(&self) -> Manners {
        self.ehr.manners()
    }

    async fn encounters(
        &self,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Encounters, Fault> {
        self.reach().await?;
        let since = if purpose == Purpose::Sweep { since } else { self.since(since) };
        let answer = self.ehr.encounters(since, page, purpose).await;
        if let Ok(list) = &answer {
            self.listed(list.rows.iter().map(|row| row.last_updated));
        }
        self.back(answer).await
    }

    async fn documents(
        &self,
        resource: &ResourceType,
        wish: &Wish,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Documents, Fault> {
        self.reach().await?;
        if matches!(wish, Wish::OfPatient(patient) if Some(patient) == self.poison.as_ref()) {
            return Err(Fault::new(Class::Permanent, Code::Rejected).vendor("HTTP 422"));
        }
        let wish = match wish {
            Wish::Since(since) if purpose != Purpose::Sweep => Wish::Since(self.since(*since)),
            wish => wish.clone(),
        };
        let mut answer = self.ehr.documents(resource, &wish, page, purpose).await;
        if let (Some(Defect::NothingIsWithdrawn), Ok(list)) = (self.defect, &mut answer) {
            list.rows.iter_mut().for_each(|row| row.status = DocumentStatus::Current);
        }
        self.back(answer).await
    }

    async fn document(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        purpose: Purpose,
    ) -> Result<Option<Document>, Fault> {
        self.reach().await?;
        let mut answer = self.ehr.document(resource, id, purpose).await;
        if let (Some(Defect::NothingIsWithdrawn), Ok(Some(row))) = (self.defect, &mut answer) {
            row.status = DocumentStatus::Current;
        }
        self.back(answer).await
    }

    async fn categories(&self, purpose: Purpose) -> Result<Vec<Category>, Fault> {
        self.ehr.categories(purpose).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.ehr.probe().await
    }

    fn server_clock(&self) -> Option<Heard> {
        self.ehr.server_clock()
    }

    fn unavailable(&self) -> Option<Fault> {
        self.bare.then(|| Fault::new(Class::Stop, Code::SecretMissing))
    }
}

/// Makes clients of firms that only other stations have configured.
#[derive(Debug)]
pub struct Others(pub BTreeMap<FirmId, EhrFirm>);

#[async_trait]
impl EhrFactory for Others {
    async fn connect(&self, firm: &FirmId, definition: &str) -> Result<EhrFirm, Fault> {
        let known = self.0.get(firm).filter(|known| known.definition.as_deref() == Some(definition));
        known.cloned().ok_or_else(|| Fault::new(Class::Stop, Code::NotSetUp))
    }
}
