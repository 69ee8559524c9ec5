//! Starts the workers, restarts them, pauses them, and brings them to an end.
//!
//! Every worker's policy stands in one table ([`Worker::policy`]). A pause is a gate in front of whatever begins something new, not a
//! condition inside the workers. A drain has named phases ([`crate::snapshot::Phase`]). Whatever is killed at any point leaves
//! leases that lapse, messages that come again, and audit entries that the next start resolves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    action::{Action, Asked},
    audit::{Act, Begun, Outcome},
    chance::Chance,
    connection::{Connections, Health, Side},
    consumer::{Consumer, Order},
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey},
    keys::{Hasher, Seal},
    lease::{Keeper, Watch},
    ledger::Want,
    poll::Poller,
    ports::{AuditLog, Clock, Ledger, Notes, Queue},
    reconcile::{Reconciler, resources},
    retry::Budget,
    reveal::{Revealed, Revealer},
    settings::{Firm, Settings},
    snapshot::{ConnectionView, Pause, Phase, PollView, Snapshot},
    status::Status,
};

/// How long a snapshot waits for the figures of queue and ledger.
const FIGURES_WITHIN: Duration = Duration::from_secs(5);

/// What may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Paused: what runs is finished, nothing begins.
    Shut,
    /// For good.
    Closed,
}

/// The storage that all firms share.
#[derive(Debug, Clone)]
pub struct Shared {
    pub clock: Arc<dyn Clock>,
    pub queue: Arc<dyn Queue>,
    pub ledger: Arc<dyn Ledger>,
    pub audit: Arc<dyn AuditLog>,
    pub notes: Arc<dyn Notes>,
}

/// The note that holds a pause.
const PAUSE: &str = "pause";

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
            Worker::Poller(_) => (true, Duration::from_secs(5)),
            Worker::LeaseRenewal | Worker::DeliveryRenewal | Worker::LeaseWatch => (false, Duration::from_millis(200)),
            Worker::Prober(_) => (false, Duration::from_secs(5)),
            Worker::Publisher => (false, Duration::from_secs(1)),
        };
        Policy { finishes, restart_after }
    }
}

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
}

impl Handle {
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
    pub fn start(shared: Shared, firms: BTreeMap<FirmId, Firm>, settings: Settings) -> Self {
        let (actions, asked) = mpsc::channel(64);
        let (publish, snapshots) = watch::channel(Snapshot::empty(shared.clock.now()));
        let stop = Arc::new(Notify::new());
        let supervisor = Supervisor::new(shared, firms, settings, publish);
        let revealer = Revealer(supervisor.reconciler.clone());
        let handle = Handle { actions, snapshots, stop: stop.clone(), revealer };
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
    reconciler: Arc<Reconciler>,
    keeper: Arc<Keeper>,
    watch: Arc<Watch>,
    status: Arc<Status>,
    /// Firm and type of each poller; firm and side of each prober.
    pollers: Vec<(FirmId, crate::key::ResourceType)>,
    probers: Vec<(FirmId, Side)>,
    sync_now: Vec<Arc<Notify>>,
    orders: mpsc::Sender<Order>,
    taken_orders: Arc<tokio::sync::Mutex<mpsc::Receiver<Order>>>,
    gate: watch::Sender<Gate>,
    publish: watch::Sender<Snapshot>,
    face: Mutex<Face>,
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
        firms: BTreeMap<FirmId, Firm>,
        settings: Settings,
        publish: watch::Sender<Snapshot>,
    ) -> Self {
        let connections = Arc::new(Connections::new(shared.clock.clone(), firms.keys()));
        let pollers: Vec<_> = firms
            .iter()
            .flat_map(|(id, firm)| resources(firm).map(|resource| (id.clone(), resource.clone())))
            .collect();
        let probers = firms.keys().flat_map(|id| Side::BOTH.map(|side| (id.clone(), side))).collect();
        let (orders, taken_orders) = mpsc::channel(64);
        Self {
            keeper: Arc::new(Keeper::new(shared.clock.clone(), shared.ledger.clone(), shared.queue.clone())),
            watch: Arc::new(Watch::default()),
            status: Arc::new(Status::new(shared.clock.clone())),
            sync_now: pollers.iter().map(|_| Arc::new(Notify::new())).collect(),
            pollers,
            probers,
            orders,
            taken_orders: Arc::new(tokio::sync::Mutex::new(taken_orders)),
            gate: watch::channel(Gate::Open).0,
            publish,
            face: Mutex::new(Face { phase: Phase::Running, pause: None, fatal: None }),
            reconciler: Arc::new(Reconciler {
                clock: shared.clock.clone(),
                ledger: shared.ledger.clone(),
                audit: shared.audit.clone(),
                connections,
                chance: Arc::new(Chance::from_seed(settings.seed)),
                budget: Arc::new(Budget::default()),
                hasher: Hasher::new(&settings.clinic_key),
                settings,
                firms,
                proven: Mutex::default(),
                watched: Mutex::default(),
            }),
            shared,
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
        this.remember_pause().await?;
        let mut workers: JoinSet<(Worker, Result<(), Fault>)> = JoinSet::new();
        let all =
            [Worker::Consumer, Worker::LeaseRenewal, Worker::DeliveryRenewal, Worker::LeaseWatch, Worker::Publisher]
                .into_iter()
                .chain((0..this.pollers.len()).map(Worker::Poller))
                .chain((0..this.probers.len()).map(Worker::Prober));
        let mut finishing = 0_usize;
        for worker in all {
            finishing += usize::from(worker.policy().finishes);
            this.clone().employ(&mut workers, worker, Duration::ZERO);
        }
        let mut deadline: Option<BoxFuture<'static, ()>> = None;
        let result = loop {
            let pause_ends = this.pause_ends();
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
                Some(asked) = asked.recv() => {
                    let done = this.act(asked.action, asked.person).await;
                    let fatal = done.as_ref().err().filter(|fault| fault.class == Class::Fatal).cloned();
                    // Whoever asked may have gone.
                    let _ = asked.answer.send(done);
                    if let Some(fault) = fatal {
                        break Err(fault);
                    }
                }
                () = stop.notified(), if deadline.is_none() => {
                    this.show(|face| face.phase = Phase::Draining);
                    // At once: a drain may be over before the next snapshot is due.
                    this.publish.send_modify(|snapshot| {
                        snapshot.revision += 1;
                        snapshot.phase = Phase::Draining;
                    });
                    this.gate.send_replace(Gate::Closed);
                    deadline = Some(tokio::time::sleep(this.reconciler.settings.drain_grace).boxed());
                }
                () = async { match &mut deadline { Some(deadline) => deadline.await, None => std::future::pending().await } } => {
                    tracing::warn!("what ran did not finish in time; it is left to the next start");
                    break Ok(());
                }
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
        this.publish_snapshot().await;
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
                    seal: Seal::new(&self.reconciler.settings.clinic_key),
                };
                consumer.work(self.gate.subscribe(), &mut *self.taken_orders.lock().await).await
            }
            Worker::Poller(index) => {
                let (firm, resource) = self.pollers[index].clone();
                let poller = Poller {
                    reconciler: self.reconciler.clone(),
                    queue: self.shared.queue.clone(),
                    keeper: self.keeper.clone(),
                    watch: self.watch.clone(),
                    status: self.status.clone(),
                    now: self.sync_now[index].clone(),
                    firm,
                    resource,
                };
                poller.work(self.gate.subscribe()).await
            }
            Worker::LeaseRenewal => self.keeper.renew_leases(self.reconciler.settings.lease_term).await,
            Worker::DeliveryRenewal => self.keeper.extend_deliveries().await,
            Worker::LeaseWatch => self.watch_leases().await,
            Worker::Prober(index) => {
                let (firm, side) = self.probers[index].clone();
                self.probe(&firm, side).await;
                Ok(())
            }
            Worker::Publisher => {
                let mut tick = tokio::time::interval(Duration::from_secs(1));
                loop {
                    tick.tick().await;
                    self.publish_snapshot().await;
                }
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

    /// Goes on with a pause that outlived the last run.
    async fn remember_pause(&self) -> Result<(), Fault> {
        let Some(text) = self.shared.notes.read(PAUSE).await? else { return Ok(()) };
        match serde_json::from_str::<Pause>(&text) {
            Ok(pause) if pause.until > self.shared.clock.now() => {
                self.shut(pause);
                Ok(())
            }
            Ok(_) | Err(_) => self.shared.notes.write(PAUSE, None).await,
        }
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
                    let links: Vec<_> = overdue.into_iter().filter(|key| key.kind == Kind::Link).collect();
                    if !links.is_empty() && *self.gate.borrow() == Gate::Open {
                        let _ = self.orders.try_send(Order::Run(links));
                    }
                }
                Err(fault) if fault.class == Class::Fatal => return Err(fault),
                Err(fault) => tracing::warn!(%fault, "leases were not looked at"),
            }
        }
    }

    /// Asks a side that nothing was heard from whether it is there. Outside the retry budget: it is one cheap call at a time.
    async fn probe(&self, firm: &FirmId, side: Side) {
        let Some(serves) = self.reconciler.firms.get(firm) else { return };
        let connections = &self.reconciler.connections;
        let chance = &self.reconciler.chance;
        let mut failures = 0;
        loop {
            let Some(connection) = connections.all().remove(&(firm.clone(), side)) else { return };
            let silent = connection.answered.map(|answered| self.shared.clock.elapsed().saturating_sub(answered));
            let quiet = connections.blocked_side(firm, side) == Some(Code::Throttled);
            let fresh =
                connection.health == Health::Up && silent.is_some_and(|silent| silent < serves.plan.probe_every);
            if !fresh && !quiet {
                let probe = match side {
                    Side::Fhir => serves.ports.fhir.probe(),
                    Side::FileMaker => serves.ports.clinic.probe(),
                };
                let probe = tokio::time::timeout(serves.plan.probe_every, probe).await;
                match probe.unwrap_or_else(|_| Err(Fault::new(Class::Away, Code::TimedOut))) {
                    Ok(()) => {
                        failures = 0;
                        connections.probe_passed(firm, side);
                        // Whatever waited for this connection is due now.
                        let _ = self.orders.try_send(Order::Look);
                    }
                    Err(fault) => {
                        failures += 1;
                        match fault.class {
                            Class::Away | Class::Stop => connections.failed(firm, side, &fault),
                            Class::Wait(Some(long)) => connections.quiet(firm, side, long),
                            _ => {}
                        }
                    }
                }
            }
            let wait = match connections.all().remove(&(firm.clone(), side)).map(|connection| connection.health) {
                Some(Health::Up) => serves.plan.probe_every / 2,
                _ => Duration::from_secs(2)
                    .saturating_mul(2_u32.saturating_pow(u32::min(failures, 5)))
                    .min(serves.plan.probe_every * 2),
            };
            tokio::select! {
                biased;
                () = connections.changed() => tokio::time::sleep(chance.around(Duration::from_secs(1))).await,
                () = tokio::time::sleep(chance.around(wait)) => {}
            }
        }
    }

    async fn act(&self, action: Action, person: Option<String>) -> Result<(), Fault> {
        let entry = Begun {
            at: self.shared.clock.now(),
            by: self.reconciler.settings.owner.clone(),
            person: person.clone(),
            act: Act::Asked,
            key: None,
            epoch: 0,
            expected: None,
            fields: vec![action.name().to_owned()],
        };
        let entry = self.shared.audit.begin(entry).await?;
        let done = self.perform(action, person).await;
        let outcome = match &done {
            Ok(()) => Outcome::Done { version: None },
            Err(fault) => Outcome::Refused { code: fault.code },
        };
        self.shared.audit.complete(entry, outcome, self.shared.clock.now()).await?;
        self.publish_snapshot().await;
        done
    }

    async fn perform(&self, action: Action, person: Option<String>) -> Result<(), Fault> {
        match action {
            Action::SyncNow => {
                for poller in &self.sync_now {
                    poller.notify_one();
                }
                let _ = self.orders.try_send(Order::Pass);
            }
            Action::Pause { until } => {
                let pause = Pause { until, by: person };
                // First on disk: whoever is told of a pause can rely on it.
                let text = serde_json::to_string(&pause).expect("a time and a name have a JSON form");
                self.shared.notes.write(PAUSE, Some(&text)).await?;
                self.shut(pause);
            }
            Action::Resume => self.resume().await?,
            Action::Retry { keys } => {
                let now = self.shared.clock.now();
                let want =
                    |key: &RecordKey| Want { key: key.clone(), first_seen: now, not_before: now, waits_for: None };
                self.shared.ledger.want(&keys.iter().map(want).collect::<Vec<_>>()).await?;
                let _ = self.orders.try_send(Order::Run(keys));
            }
            Action::SetAside { keys, reason: _ } => self.shared.ledger.set_aside(&keys, true).await?,
            Action::PutBack { keys } => self.shared.ledger.set_aside(&keys, false).await?,
            Action::DropLetters { ids } => self.shared.ledger.unbury(&ids).await?,
        }
        Ok(())
    }

    fn shut(&self, pause: Pause) {
        self.show(|face| face.pause = Some(pause));
        self.gate.send_if_modified(|gate| {
            let open = *gate == Gate::Open;
            if open {
                *gate = Gate::Shut;
            }
            open
        });
    }

    async fn resume(&self) -> Result<(), Fault> {
        self.shared.notes.write(PAUSE, None).await?;
        self.show(|face| face.pause = None);
        self.gate.send_if_modified(|gate| {
            let shut = *gate == Gate::Shut;
            if shut {
                *gate = Gate::Open;
            }
            shut
        });
        Ok(())
    }

    /// Resolves when the pause is over. Asked again now and then, since the wall clock may be set while we sleep.
    fn pause_ends(&self) -> BoxFuture<'static, ()> {
        let Some(Pause { until, .. }) = self.face().pause else {
            return std::future::pending().boxed();
        };
        let clock = self.shared.clock.clone();
        async move {
            while clock.now() < until {
                let left = until.duration_since(clock.now()).unsigned_abs();
                tokio::time::sleep(left.min(Duration::from_secs(5))).await;
            }
        }
        .boxed()
    }

    async fn publish_snapshot(&self) {
        // A storage that does not answer must not stand still in the picture as one that is well.
        let figures = async { Ok((self.shared.ledger.survey().await?, self.shared.queue.depth().await?)) };
        let figures = tokio::time::timeout(FIGURES_WITHIN, figures).await;
        let figures = figures.unwrap_or_else(|_| Err(Fault::new(Class::Away, Code::TimedOut)));
        let face = self.face();
        if figures.is_ok() {
            self.status.counted();
        }
        let board = self.status.read();
        let now = self.shared.clock.now();
        let elapsed = self.shared.clock.elapsed();
        let ago = |then: Option<Duration>| then.map(|then| elapsed.saturating_sub(then));
        let mut next = self.publish.borrow().clone();
        next.revision += 1;
        next.at = now;
        next.phase = face.phase;
        next.pause = face.pause;
        next.fatal = face.fatal;
        next.connections = self
            .reconciler
            .connections
            .all()
            .into_iter()
            .map(|((firm, side), connection)| ConnectionView {
                health: connection.health,
                silent_for: ago(connection.answered),
                probe_every: self.reconciler.firms.get(&firm).map(|firm| firm.plan.probe_every).unwrap_or_default(),
                firm,
                side,
            })
            .collect();
        next.polls = self
            .pollers
            .iter()
            .map(|(firm, resource)| {
                let poll = board.polls.get(&(firm.clone(), resource.clone())).cloned().unwrap_or_default();
                PollView {
                    firm: firm.clone(),
                    resource: resource.clone(),
                    every: self.reconciler.firms.get(firm).map(|firm| firm.plan.every).unwrap_or_default(),
                    sweep_every: self.reconciler.firms.get(firm).map(|firm| firm.plan.sweep_every).unwrap_or_default(),
                    polled: ago(poll.polled),
                    swept: ago(poll.swept),
                    watermark: poll.watermark,
                }
            })
            .collect();
        // Figures that could not be read stay what they were; the verdict sees how old they are.
        if let Ok((survey, depth)) = figures {
            next.queue_waiting = depth.waiting;
            next.queue_in_flight = depth.in_flight;
            next.records = survey.records;
            next.wanted = survey.wanted;
            next.oldest_wanted = survey.oldest_wanted.map(|oldest| now.duration_since(oldest).unsigned_abs());
            next.leases_held = survey.held;
            next.dead = survey.dead;
            next.differs = survey.noticed;
        }
        next.received = ago(board.received);
        next.received_empty = ago(board.received_empty);
        next.counted = ago(board.counted);
        next.running = board.running;
        next.leases_overdue = self.watch.all_overdue(elapsed).len() as u64;
        next.totals = board.totals;
        next.recent = board.recent;
        next.verdict = next.judge(&self.reconciler.settings.limits);
        self.publish.send_replace(next);
    }
}
