//! Starts the workers, restarts them, pauses them, and brings them to an end.
//!
//! Every worker's policy stands in one table ([`Worker::policy`]). A pause is a gate in front of whatever begins something new, not a
//! condition inside the workers. A drain has named phases ([`crate::snapshot::Phase`]). Whatever is killed at any point leaves
//! leases that lapse, messages that come again, and audit entries that the next start resolves.

mod prober;
mod publisher;
mod requests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use self::publisher::Chronicle;
use crate::{
    action::{Action, Asked},
    audit::Outcome,
    backstop::Backstop,
    body::Reader,
    chance::Chance,
    connection::{Connections, Side},
    consumer::{Consumer, Order},
    difference::{Difference, Looker},
    ehr::{self, Watchers},
    error::{Class, Code, Fault},
    gate::{Gate, Gatekeeper},
    key::{FirmId, RecordKey, ResourceType},
    keys::{Hasher, Pseudonyms, Seal},
    lease::{Keeper, Watch},
    letters::Letters,
    manual::Pass,
    pace::{Quota, ShareKeeper},
    poll::{Calls, Noted, Poller},
    ports::{AuditLog, Clock, Ledger, Notes, Queue},
    reconcile::{Reconciler, watched},
    retry::Budget,
    reveal::{Revealed, Revealer},
    server_clock::Steady,
    settings::{Clinics, Settings},
    snapshot::{Pause, Phase, Snapshot},
    status::Status,
    storage::{NotedLedger, NotedQueue, Storage},
};

/// The storage that all firms share.
#[derive(Debug, Clone)]
pub struct Shared {
    pub clock: Arc<dyn Clock>,
    pub queue: Arc<dyn Queue>,
    /// Where the queue's vendor puts what was received too often without a result.
    pub backstop: Option<Arc<dyn Queue>>,
    pub ledger: Arc<dyn Ledger>,
    pub audit: Arc<dyn AuditLog>,
    pub notes: Arc<dyn Notes>,
}

/// Everything that runs beside the actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worker {
    Consumer,
    LeaseRenewal,
    DeliveryRenewal,
    LeaseWatch,
    Poller(usize),
    Prober(usize),
    Publisher,
    Backstop,
    Watchers,
    /// Keeps this station's part of a quota.
    Share(usize),
}

/// What is done when a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    /// Ends by itself when the gate closes, and is waited for; others are stopped after those.
    finishes: bool,
    /// Started again after a panic, after this long.
    restart_after: Duration,
}

impl Worker {
    /// The policy table. A fault of our own storage ends the engine whoever meets it: nothing may be acknowledged that is not on
    /// disk.
    fn policy(self) -> Policy {
        let (finishes, restart_after) = match self {
            Worker::Consumer => (true, Duration::from_secs(1)),
            Worker::Poller(_) | Worker::Watchers | Worker::Share(_) => (true, Duration::from_secs(5)),
            Worker::LeaseRenewal | Worker::DeliveryRenewal | Worker::LeaseWatch => (false, Duration::from_millis(200)),
            Worker::Prober(_) | Worker::Backstop => (false, Duration::from_secs(5)),
            Worker::Publisher => (false, Duration::from_secs(1)),
        };
        Policy { finishes, restart_after }
    }
}

/// What persons may wait for at once, of what takes a run.
const ASKS: usize = 16;

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    pub handle: Handle,
    task: JoinHandle<Result<(), Fault>>,
}

/// The one way in (actions) and the one way out (snapshots).
#[derive(Debug, Clone)]
pub struct Handle {
    actions: mpsc::Sender<Asked>,
    snapshots: watch::Receiver<Snapshot>,
    stop: Arc<Notify>,
    revealer: Revealer,
    looker: Looker,
    pseudonyms: Pseudonyms,
    ledger: Arc<dyn Ledger>,
}

impl Handle {
    /// The ledger that the engine works with, for whoever lists what is in it.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Asks for something and waits until it is done or refused.
    pub async fn act(&self, action: Action, person: Option<String>) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        let gone = || Fault::new(Class::Fatal, Code::Unexpected);
        self.actions.send(Asked { action, person, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The names behind masked records, read live; at most [`crate::reveal::AT_MOST`] at once.
    pub async fn reveal(&self, keys: Vec<RecordKey>, person: Option<String>) -> Result<Vec<Revealed>, Fault> {
        self.revealer.reveal(keys, person).await
    }

    /// What both sides of a record say, read live, and what the chart said in these of its versions.
    pub async fn difference(
        &self,
        key: RecordKey,
        versions: Vec<String>,
        person: Option<String>,
    ) -> Result<Difference, Fault> {
        self.looker.look(key, versions, person).await
    }

    /// What a record is called where others may look.
    pub fn pseudonym(&self, record: &RecordKey) -> String {
        self.pseudonyms.of(record)
    }

    /// The newest snapshot, and the ones to come.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }

    /// Begins the drain.
    pub fn stop(&self) {
        self.stop.notify_one();
    }
}

impl Engine {
    /// Starts on a tokio runtime. A pause that outlived the last run goes on.
    pub fn start(mut shared: Shared, clinics: impl Into<Clinics>, settings: Settings) -> Self {
        let clinics = clinics.into();
        let (actions, asked) = mpsc::channel(64);
        let (publish, snapshots) = watch::channel(Snapshot::empty(shared.clock.now()));
        let stop = Arc::new(Notify::new());
        let pseudonyms = Pseudonyms::new(&settings.clinic_key);
        let ledger = shared.ledger.clone();
        let storage = Storage::new(shared.clock.clone());
        shared.queue = Arc::new(NotedQueue { queue: shared.queue, storage: storage.clone() });
        shared.ledger = Arc::new(NotedLedger { ledger: shared.ledger, storage: storage.clone() });
        let supervisor = Supervisor::new(shared, storage, clinics, settings, publish);
        let revealer = Revealer(supervisor.reconciler.clone());
        let looker = Looker(supervisor.reconciler.clone());
        let handle = Handle { actions, snapshots, stop: stop.clone(), revealer, looker, pseudonyms, ledger };
        let task = tokio::spawn(async move { supervisor.run(asked, &stop).await });
        Self { handle, task }
    }

    /// Waits until the engine has drained or had to stop; `Err` says what was wrong with our own storage.
    pub async fn ended(self) -> Result<(), Fault> {
        match self.task.await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(Class::Fatal, Code::Unexpected)),
        }
    }

    /// Ends everything at once, as a power cut would.
    pub fn kill(&self) {
        self.task.abort();
    }
}

struct Supervisor {
    shared: Shared,
    /// What queue and ledger refuse.
    storage: Arc<Storage>,
    reconciler: Arc<Reconciler>,
    keeper: Arc<Keeper>,
    watch: Arc<Watch>,
    status: Arc<Status>,
    /// Firm, side and type of each poller; firm and side of each prober.
    pollers: Vec<(FirmId, Side, ResourceType)>,
    probers: Vec<(FirmId, Side)>,
    poller_calls: Vec<Arc<Calls>>,
    /// Asks a prober to probe now.
    prober_calls: Vec<Arc<Notify>>,
    pass: Arc<Pass>,
    watchers: Watchers,
    quotas: Vec<Arc<Quota>>,
    letters: Letters,
    orders: mpsc::Sender<Order>,
    taken_orders: Arc<tokio::sync::Mutex<mpsc::Receiver<Order>>>,
    gate: Arc<Gatekeeper>,
    publish: watch::Sender<Snapshot>,
    face: Mutex<Face>,
    chronicle: Mutex<Chronicle>,
    steady: Mutex<Steady>,
}

/// What the snapshot shows of the supervisor itself.
#[derive(Debug, Clone)]
struct Face {
    phase: Phase,
    pause: Option<Pause>,
    fatal: Option<Code>,
}

impl Supervisor {
    fn new(
        shared: Shared,
        storage: Arc<Storage>,
        mut clinics: Clinics,
        settings: Settings,
        publish: watch::Sender<Snapshot>,
    ) -> Self {
        let firms = std::mem::take(&mut clinics.synced);
        let quotas = std::mem::take(&mut clinics.quotas);
        let connections = Arc::new(Connections::new(shared.clock.clone(), firms.keys()));
        for (id, firm) in &firms {
            if let Some(fault) = firm.ports.fhir.unavailable() {
                // Before anything begins: no lease of a firm is taken by a station that cannot serve it.
                Side::BOTH.into_iter().for_each(|side| connections.failed(id, side, &fault));
            }
        }
        let pollers: Vec<_> = firms
            .iter()
            .flat_map(|(id, firm)| watched(firm).map(|(side, resource)| (id.clone(), side, resource.clone())))
            .collect();
        let probers: Vec<_> = firms.keys().flat_map(|id| Side::BOTH.map(|side| (id.clone(), side))).collect();
        let (orders, taken_orders) = mpsc::channel(64);
        let watch = Arc::new(Watch::default());
        let letters = Letters {
            reader: Reader { firm: settings.default_firm.clone() },
            seal: Seal::new(&settings.clinic_key),
            ledger: shared.ledger.clone(),
            clock: shared.clock.clone(),
        };
        let keeper = Arc::new(Keeper::new(shared.clock.clone(), shared.ledger.clone(), shared.queue.clone()));
        let pass = Arc::new(Pass::new(shared.clock.clone()));
        let gate = Gatekeeper::open();
        let station = ehr::Station {
            clock: shared.clock.clone(),
            ledger: shared.ledger.clone(),
            keeper: keeper.clone(),
            watch: watch.clone(),
            chance: Arc::new(Chance::from_seed(settings.seed.rotate_left(32))),
            settings: settings.clone(),
            board: ehr::board::Board::default(),
            pass: pass.clone(),
        };
        Self {
            letters,
            keeper,
            quotas,
            watchers: Watchers::new(station, gate.clone(), clinics),
            watch: watch.clone(),
            status: Arc::new(Status::new(shared.clock.clone())),
            poller_calls: pollers.iter().map(|_| Arc::default()).collect(),
            prober_calls: probers.iter().map(|_| Arc::default()).collect(),
            pass,
            pollers,
            probers,
            orders,
            taken_orders: Arc::new(tokio::sync::Mutex::new(taken_orders)),
            gate,
            publish,
            face: Mutex::new(Face { phase: Phase::Running, pause: None, fatal: None }),
            chronicle: Mutex::new(Chronicle::new(shared.clock.elapsed())),
            steady: Mutex::default(),
            reconciler: Arc::new(Reconciler {
                clock: shared.clock.clone(),
                ledger: shared.ledger.clone(),
                audit: shared.audit.clone(),
                connections,
                chance: Arc::new(Chance::from_seed(settings.seed)),
                budget: Arc::new(Budget::default()),
                hasher: Hasher::new(&settings.clinic_key),
                seal: Seal::new(&settings.clinic_key),
                settings,
                firms,
                unserved: Mutex::default(),
                proven: Mutex::default(),
                watched: Mutex::default(),
                flagged: Mutex::default(),
                numbers: tokio::sync::Mutex::default(),
                others: watch.clone(),
            }),
            shared,
            storage,
        }
    }

    fn face(&self) -> Face {
        self.face.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, change: impl FnOnce(&mut Face)) {
        change(&mut self.face.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn run(self, mut asked: mpsc::Receiver<Asked>, stop: &Notify) -> Result<(), Fault> {
        let this = Arc::new(self);
        this.resolve_interrupted().await?;
        this.remember().await?;
        let mut workers: JoinSet<(Worker, Result<(), Fault>)> = JoinSet::new();
        let all =
            [Worker::Consumer, Worker::LeaseRenewal, Worker::DeliveryRenewal, Worker::LeaseWatch, Worker::Publisher]
                .into_iter()
                .chain(this.shared.backstop.is_some().then_some(Worker::Backstop))
                .chain((0..this.quotas.len()).map(Worker::Share))
                .chain((!this.watchers.is_idle()).then_some(Worker::Watchers))
                .chain((0..this.pollers.len()).map(Worker::Poller))
                .chain((0..this.probers.len()).map(Worker::Prober));
        let mut finishing = 0_usize;
        for worker in all {
            finishing += usize::from(worker.policy().finishes);
            this.clone().employ(&mut workers, worker, Duration::ZERO);
        }
        let mut asks: JoinSet<()> = JoinSet::new();
        let mut deadline: Option<BoxFuture<'static, ()>> = None;
        let result = loop {
            let pause_ends = this.pause_ends();
            let pass_over = this.pass.over();
            tokio::select! {
                biased;
                Some(ended) = workers.join_next() => match ended {
                    Ok((worker, Ok(()))) => {
                        if worker.policy().finishes && deadline.is_some() {
                            finishing -= 1;
                            if finishing == 0 {
                                break Ok(());
                            }
                        }
                    }
                    Ok((_, Err(fault))) if fault.class == Class::Fatal => break Err(fault),
                    // Panicked (told by the wrapper) or met a fault that passes: again, after a moment.
                    Ok((worker, Err(fault))) => {
                        tracing::error!(?worker, %fault, "worker ended; starting it again");
                        this.clone().employ(&mut workers, worker, worker.policy().restart_after);
                    }
                    Err(_) => break Err(Fault::new(Class::Fatal, Code::Unexpected)),
                },
                Some(Asked { action, person, answer }) = asked.recv(), if asks.len() < ASKS => {
                    if action.is_answered_by_a_run() {
                        let this = this.clone();
                        asks.spawn(async move { drop(answer.send(this.act(action, person).await)) });
                        continue;
                    }
                    let done = this.act(action, person).await;
                    let fatal = done.as_ref().err().filter(|fault| fault.class == Class::Fatal).cloned();
                    // Whoever asked may have gone.
                    let _ = answer.send(done);
                    if let Some(fault) = fatal {
                        break Err(fault);
                    }
                }
                Some(_) = asks.join_next() => {}
                () = stop.notified(), if deadline.is_none() => {
                    this.show(|face| face.phase = Phase::Draining);
                    // At once: a drain may be over before the next snapshot is due.
                    this.publish.send_modify(|snapshot| {
                        snapshot.revision += 1;
                        snapshot.phase = Phase::Draining;
                    });
                    this.gate.close();
                    deadline = Some(tokio::time::sleep(this.reconciler.settings.drain_grace).boxed());
                }
                () = async { match &mut deadline { Some(deadline) => deadline.await, None => std::future::pending().await } } => {
                    tracing::warn!("what ran did not finish in time; it is left to the next start");
                    break Ok(());
                }
                () = pass_over => if let Err(fault) = this.finish_pass().await {
                    break Err(fault);
                },
                () = pause_ends => if let Err(fault) = this.resume().await {
                    break Err(fault);
                },
            }
        };
        workers.shutdown().await;
        if let Err(fault) = &result {
            tracing::error!(%fault, "the engine stops: its own storage failed");
            this.show(|face| face.fatal = Some(fault.code));
        }
        this.show(|face| face.phase = Phase::Stopped);
        if result.is_ok() {
            // What a pass has done is kept although it did not come to its end.
            let _ = this.finish_pass().await;
        }
        this.publish_snapshot().await;
        this.keep_journal().await;
        result
    }

    /// Starts a worker. A panic in it comes back as a passing fault.
    fn employ(self: Arc<Self>, workers: &mut JoinSet<(Worker, Result<(), Fault>)>, worker: Worker, after: Duration) {
        workers.spawn(async move {
            tokio::time::sleep(after).await;
            let work = std::panic::AssertUnwindSafe(self.work(worker)).catch_unwind().await;
            let result = work.unwrap_or_else(|_| Err(Fault::new(Class::Retry, Code::Unexpected)));
            (worker, result)
        });
    }

    async fn work(&self, worker: Worker) -> Result<(), Fault> {
        match worker {
            Worker::Consumer => {
                let consumer = Consumer {
                    reconciler: self.reconciler.clone(),
                    queue: self.shared.queue.clone(),
                    keeper: self.keeper.clone(),
                    watch: self.watch.clone(),
                    status: self.status.clone(),
                    pass: self.pass.clone(),
                    letters: self.letters.clone(),
                };
                consumer.work(self.gate.watch(), &mut *self.taken_orders.lock().await).await
            }
            Worker::Poller(index) => {
                let (firm, side, resource) = self.pollers[index].clone();
                let poller = Poller {
                    reconciler: self.reconciler.clone(),
                    queue: self.shared.queue.clone(),
                    keeper: self.keeper.clone(),
                    watch: self.watch.clone(),
                    status: self.status.clone(),
                    pass: self.pass.clone(),
                    calls: self.poller_calls[index].clone(),
                    noted: Noted::default(),
                    orders: self.orders.clone(),
                    firm,
                    side,
                    resource,
                };
                poller.work(self.gate.watch()).await
            }
            Worker::LeaseRenewal => self.keeper.renew_leases(self.reconciler.settings.lease_term).await,
            Worker::DeliveryRenewal => self.keeper.extend_deliveries().await,
            Worker::LeaseWatch => self.watch_leases().await,
            Worker::Prober(index) => {
                self.probe(index).await;
                Ok(())
            }
            Worker::Watchers => self.watchers.work().await,
            Worker::Share(index) => {
                let quota = self.quotas[index].clone();
                let owner = self.reconciler.settings.owner.clone();
                ShareKeeper::new(quota, self.shared.ledger.clone(), owner).work(self.gate.watch()).await
            }
            Worker::Publisher => self.publish().await,
            Worker::Backstop => {
                let Some(queue) = self.shared.backstop.clone() else { return Ok(()) };
                let chance = self.reconciler.chance.clone();
                Backstop { queue, letters: self.letters.clone(), chance }.work(self.gate.watch()).await
            }
        }
    }

    /// Writes that an earlier boot began and never closed.
    async fn resolve_interrupted(&self) -> Result<(), Fault> {
        let open = self.shared.audit.open().await?;
        for entry in &open {
            if entry.begun.by != self.reconciler.settings.owner {
                self.shared.audit.complete(entry.id, Outcome::Interrupted, self.shared.clock.now()).await?;
            }
        }
        if !open.is_empty() {
            tracing::info!(entries = open.len(), "the last run ended in the middle of writes; each is looked at again");
        }
        Ok(())
    }

    /// Looks at the leases of others, so that the wait for one that died has usually begun when it is needed.
    async fn watch_leases(&self) -> Result<(), Fault> {
        loop {
            tokio::time::sleep(self.reconciler.settings.lease_term / 3).await;
            match self.shared.ledger.held().await {
                Ok(held) => {
                    let elapsed = self.shared.clock.elapsed();
                    self.watch.observe_all(&held, &self.keeper, elapsed);
                    // Whatever its holder left undone is done now, and if that is nothing, the lease is freed. Cursors are
                    // taken over by their pollers.
                    let overdue = self.watch.all_overdue(elapsed);
                    let links: Vec<_> = overdue.into_iter().filter(|key| key.kind.is_run()).collect();
                    if !links.is_empty() && self.gate.now() == Gate::Open {
                        let _ = self.orders.try_send(Order::Run(links));
                    }
                }
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => tracing::warn!(%fault, "leases were not looked at"),
            }
        }
    }
}
