use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp, Unit as Rounded, tz::TimeZone};
use tokio::time::Instant;

use super::lock;
use crate::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{
        Budget, Category, Clock, Document, DocumentStatus, Documents, Ehr, Encounter, EncounterStatus, Encounters,
        Manners, PageToken, Purpose, Reach, Said, Wish,
    },
    server_clock::{Heard, ServerClock},
};

/// What a server does to those who walk its lists.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walking {
    /// Rows that a page repeats of the one before.
    pub repeated: usize,
    /// How long a link to a next page is good.
    pub links_last: Option<Duration>,
}

/// A version of a row, which a search shows only from then on.
#[derive(Debug, Clone)]
struct Version<T> {
    row: T,
    visible: Instant,
}

/// An EHR without webhooks, in memory. Its searches have the rules that its manners tell of.
#[derive(Debug)]
pub struct MemoryEhr {
    clock: Arc<dyn Clock>,
    manners: Manners,
    walking: Walking,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    encounters: BTreeMap<ResourceId, Vec<Version<Encounter>>>,
    documents: BTreeMap<(ResourceType, ResourceId), Vec<Version<Document>>>,
    versions: u64,
}

/// One of the newest of its versions that can be seen.
fn shown<T>(versions: &[Version<T>]) -> Option<&Version<T>> {
    let now = Instant::now();
    versions.iter().rev().find(|version| version.visible <= now)
}

fn day(at: Timestamp) -> Timestamp {
    at.to_zoned(TimeZone::UTC).start_of_day().map_or(at, |day| day.timestamp())
}

impl MemoryEhr {
    pub fn new(clock: Arc<dyn Clock>, manners: Manners, walking: Walking) -> Arc<Self> {
        Arc::new(Self { clock, manners, walking, state: Mutex::default() })
    }

    fn stamp(&self) -> Timestamp {
        let now = self.clock.now();
        // Such servers stamp whole seconds.
        let whole = |at: Timestamp| {
            at.round(Rounded::Second).map_or(at, |whole| if whole > at { before(whole) } else { whole })
        };
        if self.manners.by_day { whole(now) } else { now }
    }

    /// A new version, stamped now and to be seen only so much later.
    pub fn put_encounter(
        &self,
        id: &ResourceId,
        status: EncounterStatus,
        patient: Option<ResourceId>,
        late: Duration,
    ) -> Encounter {
        let last_updated = self.stamp();
        let mut state = lock(&self.state);
        state.versions += 1;
        let version = format!("v{}", state.versions);
        let row = Encounter { id: id.clone(), version, last_updated, status, patient };
        let version = Version { row: row.clone(), visible: Instant::now() + late };
        state.encounters.entry(id.clone()).or_default().push(version);
        row
    }

    /// The same of a document; version and stamp are made here.
    pub fn put_document(&self, row: Document, late: Duration) -> Document {
        let stamp = self.stamp();
        let mut state = lock(&self.state);
        state.versions += 1;
        let row = Document { version: format!("v{}", state.versions), last_updated: Some(stamp), ..row };
        let key = (row.resource.clone(), row.id.clone());
        let version = Version { row: row.clone(), visible: Instant::now() + late };
        state.documents.entry(key).or_default().push(version);
        row
    }

    /// What can be seen now, and since when, for assertions.
    pub fn encounters_shown(&self) -> Vec<(Encounter, Instant)> {
        let state = lock(&self.state);
        let shown = state.encounters.values().filter_map(|versions| shown(versions));
        shown.map(|version| (version.row.clone(), version.visible)).collect()
    }

    pub fn documents_shown(&self) -> Vec<(Document, Instant)> {
        let state = lock(&self.state);
        let shown = state.documents.values().filter_map(|versions| shown(versions));
        shown.map(|version| (version.row.clone(), version.visible)).collect()
    }

    fn since(&self, since: Option<Timestamp>) -> Timestamp {
        since.map_or(Timestamp::MIN, |since| if self.manners.by_day { day(since) } else { since })
    }

    /// Where to go on, and since when the link is good.
    fn token(&self, place: &str) -> PageToken {
        PageToken(format!("{} {place}", self.clock.elapsed().as_millis()))
    }

    fn place(&self, page: Option<&PageToken>) -> Result<Option<String>, Fault> {
        let Some(page) = page else { return Ok(None) };
        let (made, place) = page.0.split_once(' ').ok_or_else(|| Fault::new(Class::Retry, Code::BadAnswer))?;
        let made = Duration::from_millis(made.parse().unwrap_or_default());
        let old = self.clock.elapsed().saturating_sub(made);
        if self.walking.links_last.is_some_and(|last| old > last) {
            return Err(Fault::new(Class::Retry, Code::Gone).vendor("the page's link is too old"));
        }
        Ok(Some(place.to_owned()))
    }

    /// One page of rows in their order, going on after a place that names the last row.
    fn page<T: Clone>(
        &self,
        mut rows: Vec<(String, T)>,
        page: Option<&PageToken>,
        size: u32,
    ) -> Result<(Vec<T>, Option<PageToken>), Fault> {
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        let after = self.place(page)?;
        let begin = after.map_or(0, |after| {
            let begin = rows.partition_point(|(order, _)| *order <= after);
            begin.saturating_sub(if begin < rows.len() { self.walking.repeated } else { 0 })
        });
        let size = usize::try_from(size).unwrap_or(usize::MAX).max(self.walking.repeated + 1);
        let end = (begin + size).min(rows.len());
        let more = end < rows.len() || self.manners.trailing_page && begin < end;
        let next = rows.get(end.wrapping_sub(1)).filter(|_| more).map(|(order, _)| self.token(order));
        Ok((rows.drain(begin..end).map(|(_, row)| row).collect(), next))
    }
}

fn before(at: Timestamp) -> Timestamp {
    at.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(at)
}

/// In the order of their stamps; such as know only days give no order but that of ids.
fn order(by_day: bool, stamp: Timestamp, id: &str) -> String {
    if by_day { id.to_owned() } else { format!("{:020} {id}", stamp.as_microsecond()) }
}

impl MemoryEhr {
    fn list_encounters(&self, since: Option<Timestamp>, page: Option<&PageToken>) -> Result<Encounters, Fault> {
        let since = self.since(since);
        let rows: Vec<_> = self.encounters_shown().into_iter().filter(|(row, _)| row.last_updated >= since).collect();
        let by_day = self.manners.by_day;
        let rows = rows.into_iter().map(|(row, _)| (order(by_day, row.last_updated, row.id.as_str()), row)).collect();
        let (rows, next) = self.page(rows, page, self.manners.encounters_page)?;
        Ok(Encounters { rows, unusable: 0, ahead: 0, next, server_time: Some(self.clock.now()) })
    }

    fn list_documents(
        &self,
        resource: &ResourceType,
        wish: &Wish,
        page: Option<&PageToken>,
    ) -> Result<Documents, Fault> {
        let wished = |row: &Document| match (wish, self.manners.reach) {
            (Wish::Since(since), Reach::Firm) => {
                row.last_updated.is_none_or(|at| since.is_none_or(|since| at >= self.since(Some(since))))
            }
            (Wish::OfEncounters(ids), Reach::Encounters(most)) => {
                ids.len() <= most as usize && row.encounters.iter().any(|id| ids.contains(id))
            }
            (Wish::OfPatient(patient), Reach::Patient) => row.patient.as_ref() == Some(patient),
            _ => false,
        };
        let rows = self.documents_shown().into_iter().map(|(row, _)| row);
        let rows = rows
            .filter(|row| row.resource == *resource && wished(row))
            .map(|row| (order(self.manners.by_day, row.last_updated.unwrap_or(Timestamp::MIN), row.id.as_str()), row));
        let (rows, next) = self.page(rows.collect(), page, self.manners.documents_page)?;
        Ok(Documents { rows, unusable: 0, ahead: 0, next, server_time: Some(self.clock.now()) })
    }

    /// As it is, whatever searches show.
    fn read(&self, resource: &ResourceType, id: &ResourceId) -> Option<Document> {
        let state = lock(&self.state);
        let versions = state.documents.get(&(resource.clone(), id.clone()))?;
        versions.last().map(|version| version.row.clone())
    }
}

/// What a server counts of the requests under one key, by its own clock, and how it refuses those beyond.
#[derive(Debug)]
pub struct Meter {
    clock: Arc<dyn Clock>,
    limit: u64,
    per: Duration,
    calendar: bool,
    sent: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// Of the last window.
    times: VecDeque<Duration>,
    all: u64,
    beyond: u64,
    /// A silence that is asked of whoever sends, and who has been told until when.
    silent: Duration,
    told: BTreeMap<String, Duration>,
    broken: u64,
}

impl Meter {
    pub fn new(clock: Arc<dyn Clock>, limit: u64, per: Duration, calendar: bool) -> Arc<Self> {
        Arc::new(Self { clock, limit, per, calendar, sent: Mutex::default() })
    }

    /// Counts a request of this station. `Err`: it is one too many, and how long the server asks it to wait, where it says so.
    fn count(&self, station: &str) -> Result<(), Option<Duration>> {
        let now = self.clock.elapsed();
        let begin = if self.calendar {
            let per = self.per.as_nanos().max(1);
            let wall = self.clock.now().as_nanosecond().unsigned_abs();
            now.saturating_sub(Duration::from_nanos(u64::try_from(wall % per).unwrap_or_default()))
        } else {
            (now + Duration::from_nanos(1)).saturating_sub(self.per)
        };
        let mut sent = lock(&self.sent);
        while sent.times.front().is_some_and(|at| *at < begin) {
            sent.times.pop_front();
        }
        sent.times.push_back(now);
        sent.all += 1;
        if sent.told.get(station).is_some_and(|until| now < *until) {
            sent.broken += 1;
        }
        if sent.times.len() as u64 > self.limit {
            sent.beyond += 1;
            return Err(None);
        }
        if now < sent.silent {
            let (left, until) = (sent.silent - now, sent.silent);
            sent.told.insert(station.to_owned(), until);
            return Err(Some(left));
        }
        Ok(())
    }

    /// From now on everybody who asks is told to wait until so much later.
    pub fn silence(&self, long: Duration) {
        let until = self.clock.elapsed() + long;
        lock(&self.sent).silent = until;
    }

    /// Requests in all, those beyond the limit, and those that broke a silence that their station had been told of.
    pub fn figures(&self) -> (u64, u64, u64) {
        let sent = lock(&self.sent);
        (sent.all, sent.beyond, sent.broken)
    }
}

/// One station's way to an EHR.
#[derive(Debug)]
pub struct FakeEhr {
    server: Arc<MemoryEhr>,
    station: String,
    budget: Arc<dyn Budget>,
    meter: Arc<Meter>,
    heard: ServerClock,
}

impl FakeEhr {
    pub fn new(
        server: Arc<MemoryEhr>,
        station: &str,
        budget: Arc<dyn Budget>,
        meter: Arc<Meter>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { server, station: station.to_owned(), budget, meter, heard: ServerClock::new(clock) }
    }

    async fn ask<T>(&self, purpose: Purpose, answer: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.budget.permit(purpose).await?;
        let asked = self.heard.asked();
        if let Err(after) = self.meter.count(&self.station) {
            let now = self.server.clock.now();
            self.budget.answered(Said::Refused { after, server_time: Some(now) });
            return Err(Fault::new(Class::Wait(after), Code::Throttled).vendor("HTTP 429"));
        }
        let answer = answer()?;
        self.budget.answered(Said::Nothing);
        self.heard.answered(asked, self.server.clock.now());
        Ok(answer)
    }
}

#[async_trait]
impl Ehr for FakeEhr {
    fn manners(&self) -> Manners {
        self.server.manners.clone()
    }

    async fn encounters(
        &self,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Encounters, Fault> {
        self.ask(purpose, || self.server.list_encounters(since, page)).await
    }

    async fn documents(
        &self,
        resource: &ResourceType,
        wish: &Wish,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Documents, Fault> {
        self.ask(purpose, || self.server.list_documents(resource, wish, page)).await
    }

    async fn document(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        purpose: Purpose,
    ) -> Result<Option<Document>, Fault> {
        self.ask(purpose, || Ok(self.server.read(resource, id))).await
    }

    async fn categories(&self, purpose: Purpose) -> Result<Vec<Category>, Fault> {
        self.ask(purpose, || Ok(Vec::new())).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.ask(Purpose::Work, || Ok(())).await
    }

    fn server_clock(&self) -> Option<Heard> {
        self.heard.heard()
    }
}

/// A document as tests make them.
pub fn document(resource: &ResourceType, id: &ResourceId, category: &str, encounter: &ResourceId) -> Document {
    Document {
        resource: resource.clone(),
        id: id.clone(),
        version: String::new(),
        last_updated: None,
        status: DocumentStatus::Current,
        categories: vec![crate::ports::Coding { system: String::new(), code: category.to_owned() }],
        content_type: Some("image/jpeg".to_owned()),
        encounters: vec![encounter.clone()],
        patient: None,
    }
}
