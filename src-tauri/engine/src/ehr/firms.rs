//! Which firms are watched: those that this station's configuration has, and those that other stations' have. Each station writes down
//! in the ledger how it has configured a firm, and all read that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Station, Unfinished, board::FirmBoard, watcher::FirmWatch};
use crate::{
    connection::Health,
    error::{Class, Code, Fault},
    gate::{Gate, Gatekeeper},
    key::{FirmId, RecordKey, ResourceType, StationId},
    ledger::{Finish, Record},
    ports::EhrFactory,
    settings::{Clinics, EhrFirm},
};

/// Between looks at what other stations have configured.
const DISCOVER_EVERY: Duration = Duration::from_secs(60);

/// After a panic in one firm's watcher.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// The state of `firm/definition/Definition/ehr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Definition {
    text: String,
    /// Those whose configuration has the firm. Where there are none any more, nobody watches it.
    stations: BTreeSet<StationId>,
}

/// The state of the record that names all firms with a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    firms: BTreeSet<FirmId>,
}

fn parse<T: Default + for<'de> Deserialize<'de>>(state: &str) -> T {
    serde_json::from_str(state).unwrap_or_default()
}

fn write<T: Serialize>(state: &T) -> String {
    serde_json::to_string(state).expect("names and texts have a JSON form")
}

/// All watchers of this station.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(crate) station: Arc<Station>,
    gate: Arc<Gatekeeper>,
    configured: BTreeMap<FirmId, EhrFirm>,
    others: Option<Arc<dyn EhrFactory>>,
    running: Mutex<BTreeMap<FirmId, Arc<FirmWatch>>>,
}

impl Watchers {
    pub(crate) fn new(station: Station, gate: Arc<Gatekeeper>, clinics: Clinics) -> Self {
        let station = Arc::new(station);
        let start = |(id, firm): (&FirmId, &EhrFirm)| {
            let watch = Arc::new(FirmWatch::new(station.clone(), id.clone(), firm.clone()));
            watch.enter();
            (id.clone(), watch)
        };
        let running = Mutex::new(clinics.watched.iter().map(start).collect());
        Self { gate, configured: clinics.watched, others: clinics.others, running, station }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.configured.is_empty() && self.others.is_none()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<FirmId, Arc<FirmWatch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person's pass looks at.
    pub(crate) fn posts(&self) -> Vec<(FirmId, ResourceType)> {
        let running = self.running();
        let watched = running.iter().filter(|(_, watch)| !watch.serves.paused);
        watched.flat_map(|(firm, watch)| watch.calls.keys().map(|resource| (firm.clone(), resource.clone()))).collect()
    }

    pub(crate) fn call_for_pass(&self) {
        let running = self.running();
        running.values().flat_map(|watch| watch.calls.values()).for_each(|call| call.pass.notify_one());
    }

    /// Forgets what was proven, and asks at once.
    pub(crate) fn prove_again(&self) {
        self.station.board.prove_again();
        let running = self.running();
        running.values().flat_map(|watch| watch.calls.values()).for_each(|call| call.prove.notify_one());
    }

    /// Watches until the gate is closed; `Err` where our own storage is at fault.
    pub(crate) async fn work(&self) -> Result<(), Fault> {
        let mut tasks: JoinSet<(FirmId, Arc<FirmWatch>, Result<(), Fault>)> = JoinSet::new();
        for (firm, watch) in self.running().iter() {
            self.employ(&mut tasks, firm.clone(), watch.clone(), Duration::ZERO);
        }
        let mut gate = self.gate.watch();
        let mut discover = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    let Ok((firm, watch, result)) = ended else { continue };
                    match result {
                        Err(fault) if fault.class == Class::Fatal => return Err(fault),
                        Err(fault) => {
                            tracing::error!(%firm, %fault, "the watcher of a firm ended; it is started again");
                            self.employ(&mut tasks, firm, watch, RESTART_AFTER);
                        }
                        Ok(()) => {}
                    }
                    if tasks.is_empty() && self.gate.now() == Gate::Closed {
                        return Ok(());
                    }
                }
                _ = gate.moved() => {
                    if self.gate.now() == Gate::Closed && tasks.is_empty() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(discover) => {
                    discover = self.station.chance.around(DISCOVER_EVERY);
                    if self.gate.now() == Gate::Closed {
                        continue;
                    }
                    match self.discover(&mut tasks).await {
                        Err(Unfinished::Storage(fault)) if fault.class == Class::Fatal => return Err(fault),
                        Err(unfinished) => tracing::info!(?unfinished, "what other stations watch was not looked up"),
                        Ok(()) => {}
                    }
                }
            }
        }
    }

    fn employ(
        &self,
        tasks: &mut JoinSet<(FirmId, Arc<FirmWatch>, Result<(), Fault>)>,
        firm: FirmId,
        watch: Arc<FirmWatch>,
        after: Duration,
    ) {
        let gate = self.gate.clone();
        tasks.spawn(async move {
            tokio::time::sleep(after).await;
            let work = std::panic::AssertUnwindSafe(watch.work(|| gate.watch())).catch_unwind().await;
            let result = work.unwrap_or_else(|_| Err(Fault::new(Class::Retry, Code::Unexpected)));
            (firm, watch, result)
        });
    }

    /// Writes down what this station has configured, and takes up what others have.
    async fn discover(
        &self,
        tasks: &mut JoinSet<(FirmId, Arc<FirmWatch>, Result<(), Fault>)>,
    ) -> Result<(), Unfinished> {
        let directory = self.directory().await?;
        self.publish(&directory).await?;
        let Some(factory) = &self.others else { return Ok(()) };
        let firms: Vec<_> = directory.firms.into_iter().filter(|firm| !self.configured.contains_key(firm)).collect();
        let keys: Vec<_> = firms.iter().cloned().map(RecordKey::definition).collect();
        let records = self.station.ledger.read_all(&keys).await.map_err(Unfinished::Storage)?;
        let me = &self.station.settings.owner.station;
        for record in records {
            let firm = record.key.firm.clone();
            let mut definition: Definition = parse(&record.state);
            if definition.stations.contains(me) {
                // This station's configuration had it once.
                let key = record.key.clone();
                let taken_out = |record: &Record| {
                    definition = parse(&record.state);
                    definition.stations.remove(me);
                    Some((write(&definition), Finish::Done, None))
                };
                super::watcher::change(&self.station, &key, taken_out).await?;
            }
            let known = self.running().get(&firm).cloned();
            let text = Some(definition.text.as_str());
            match known {
                Some(watch) if definition.stations.is_empty() => {
                    watch.retire();
                    self.running().remove(&firm);
                    self.station.board.leave(&firm);
                }
                Some(watch) if watch.serves.definition.as_deref() == text => {}
                known => {
                    if definition.stations.is_empty() {
                        continue;
                    }
                    match factory.connect(&firm, &definition.text).await {
                        Ok(mut serves) => {
                            if let Some(known) = known {
                                known.retire();
                            }
                            serves.definition = Some(definition.text);
                            let watch = Arc::new(FirmWatch::new(self.station.clone(), firm.clone(), serves));
                            self.running().insert(firm.clone(), watch.clone());
                            self.employ(tasks, firm, watch, Duration::ZERO);
                        }
                        Err(fault) => self.cannot(firm, &fault),
                    }
                }
            }
        }
        Ok(())
    }

    /// A firm of another station's whose definition this one cannot read.
    fn cannot(&self, firm: FirmId, fault: &Fault) {
        let since = self.station.clock.now();
        let health =
            Health::Stopped { since, code: fault.code, subject: fault.subject.clone(), vendor: fault.vendor.clone() };
        self.station.board.enter(firm, FirmBoard::stopped(health));
    }

    async fn directory(&self) -> Result<Directory, Unfinished> {
        let record = self.station.ledger.read(&RecordKey::directory()).await.map_err(Unfinished::Storage)?;
        Ok(record.map(|record| parse(&record.state)).unwrap_or_default())
    }

    async fn publish(&self, directory: &Directory) -> Result<(), Unfinished> {
        let me = &self.station.settings.owner.station;
        let mut missing = BTreeSet::new();
        for (firm, serves) in &self.configured {
            let Some(text) = &serves.definition else { continue };
            let key = RecordKey::definition(firm.clone());
            let record = self.station.ledger.read(&key).await.map_err(Unfinished::Storage)?;
            let known: Definition = record.map(|record| parse(&record.state)).unwrap_or_default();
            if known.text != *text || !known.stations.contains(me) {
                let put_in = |record: &Record| {
                    let mut definition: Definition = parse(&record.state);
                    text.clone_into(&mut definition.text);
                    definition.stations.insert(me.clone());
                    Some((write(&definition), Finish::Done, None))
                };
                super::watcher::change(&self.station, &key, put_in).await?;
            }
            if !directory.firms.contains(firm) {
                missing.insert(firm.clone());
            }
        }
        if !missing.is_empty() {
            let put_in = |record: &Record| {
                let mut directory: Directory = parse(&record.state);
                directory.firms.extend(missing);
                Some((write(&directory), Finish::Done, None))
            };
            super::watcher::change(&self.station, &RecordKey::directory(), put_in).await?;
        }
        Ok(())
    }
}
