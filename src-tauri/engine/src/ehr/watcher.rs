//! One firm whose EHR is watched: what its posts share, and its health.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::try_join_all};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Station, Unfinished, Watching,
    board::{FirmBoard, Kind as KindBoard},
    cursor::{earlier, later},
    followed::Followed,
};
use crate::{
    connection::Health,
    error::{Class, Code, Fault},
    gate::Passage,
    key::{FirmId, Kind, RecordKey, ResourceType},
    ledger::{Claim, Commit, Finish, Record, Take},
    ports::{Manners, Reach},
    settings::EhrFirm,
};

/// So often in a row an EHR may answer nonsense, or fail in passing, before it counts as away.
const PASSES: u32 = 3;

/// Where a station cannot look at a firm, it says so when nobody else has for so long.
const NOBODY: Duration = Duration::from_secs(3 * 60);

/// Between looks at what only has to be counted or tidied up.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// What is looked at by one station at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Post {
    Encounters,
    /// Everything of the firm in one search.
    Documents(ResourceType),
    /// Encounters are asked about one by one, or some at once.
    Claims,
}

/// What makes a post look before its time.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// A person's pass: also while paused.
    pub(super) pass: Notify,
    /// What was proven counts no more.
    pub(super) prove: Notify,
}

#[derive(Debug)]
pub(super) struct FirmWatch {
    pub(super) station: Arc<Station>,
    pub(super) firm: FirmId,
    pub(super) serves: EhrFirm,
    pub(super) manners: Manners,
    pub(super) followed: Followed,
    pub(super) calls: BTreeMap<ResourceType, Call>,
    /// Encounters have come or changed.
    pub(super) news: Notify,
    /// The firm is no longer watched, or otherwise.
    retired: CancellationToken,
    health: Mutex<(Health, u32)>,
    /// What the EHR's clock last said, and the elapsed time of that.
    heard: Mutex<Option<(Timestamp, Duration)>>,
}

pub(super) fn encounter() -> ResourceType {
    ResourceType::new("Encounter").expect("a FHIR type")
}

impl FirmWatch {
    pub(super) fn new(station: Arc<Station>, firm: FirmId, serves: EhrFirm) -> Self {
        let manners = serves.ehr.manners();
        let mut watch = Self {
            station,
            firm,
            serves,
            manners,
            followed: Followed::default(),
            calls: BTreeMap::new(),
            news: Notify::new(),
            retired: CancellationToken::new(),
            health: Mutex::new((Health::Unproven, 0)),
            heard: Mutex::default(),
        };
        watch.calls = watch.posts().iter().map(|post| (watch.resource(post), Call::default())).collect();
        watch
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        let documents = match self.manners.reach {
            Reach::Firm => self.manners.documents.iter().cloned().map(Post::Documents).collect(),
            Reach::Encounters(_) | Reach::Patient if self.manners.documents.is_empty() => vec![],
            Reach::Encounters(_) | Reach::Patient => vec![Post::Claims],
        };
        std::iter::once(Post::Encounters).chain(documents).collect()
    }

    /// By which type a post is known.
    pub(super) fn resource(&self, post: &Post) -> ResourceType {
        match post {
            Post::Encounters => encounter(),
            Post::Documents(resource) => resource.clone(),
            Post::Claims => self.manners.documents.first().cloned().unwrap_or_else(encounter),
        }
    }

    pub(super) fn cursor_key(&self, post: &Post) -> RecordKey {
        RecordKey::cursor(self.firm.clone(), self.resource(post), "ehr")
    }

    /// The EHR's time, as its answers told. It goes on with elapsed time, so that a clock of ours that is set changes nothing.
    pub(super) fn there(&self) -> Option<Timestamp> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|(time, at)| later(time, self.station.clock.elapsed().saturating_sub(at)))
    }

    /// The same, or ours where the EHR has not told yet.
    pub(super) fn now_there(&self) -> Timestamp {
        self.there().unwrap_or_else(|| self.station.clock.now())
    }

    /// An answer told the EHR's time.
    pub(super) fn hear(&self, time: Timestamp) {
        let at = self.station.clock.elapsed();
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, at));
    }

    /// It is watched no longer, or by another.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Resolves when it is.
    pub(super) async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Watches until the gate is closed; `Err` where our own storage is at fault.
    pub(super) async fn work(&self, gate: impl Fn() -> Passage) -> Result<(), Fault> {
        self.enter();
        if self.serves.paused {
            let mut gate = gate();
            tokio::select! {
                () = gate.closed() => {}
                () = self.retired() => {}
            }
            return Ok(());
        }
        let posts = self.posts().into_iter().map(|post| {
            let gate = gate();
            async move { self.watch(&post, gate).await }.boxed()
        });
        let all = try_join_all(posts);
        tokio::select! {
            biased;
            done = all => done.map(drop),
            fault = self.tidy_up() => Err(fault),
        }
    }

    pub(super) fn enter(&self) {
        let plan = &self.serves.plan;
        let kind = |post: &Post| (self.resource(post), KindBoard { every: plan.slowest, ..KindBoard::default() });
        let board = FirmBoard {
            health: self.health().0.clone(),
            paused: self.serves.paused,
            quota: self.serves.quota.as_ref().map(|quota| quota.id().to_string()),
            sweep_every: plan.sweep_every,
            kinds: self.posts().iter().map(kind).collect(),
            encounters: 0,
            active: 0,
            documents: 0,
        };
        self.station.board.enter(self.firm.clone(), board);
    }

    fn health(&self) -> MutexGuard<'_, (Health, u32)> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_health(&self, health: Health) {
        self.station.board.of(&self.firm, |board| board.health = health);
    }

    pub(super) fn answered(&self) {
        let was_up = {
            let mut health = self.health();
            health.1 = 0;
            std::mem::replace(&mut health.0, Health::Up) == Health::Up
        };
        if !was_up {
            tracing::info!(firm = %self.firm, "the EHR answers");
        }
        self.show_health(Health::Up);
    }

    /// Notes what an answer of the EHR, or its absence, means for all of the firm.
    pub(super) fn failed(&self, fault: &Fault) {
        let now = self.station.clock.now();
        let next = {
            let mut health = self.health();
            health.1 = health.1.saturating_add(1);
            let failures = health.1;
            let since = match &health.0 {
                Health::Away { since, .. } | Health::Stopped { since, .. } => *since,
                Health::Up | Health::Unproven => now,
            };
            health.0 = match fault.class {
                // A quota is a wait, and no trouble.
                Class::Wait(_) => return,
                Class::Stop => stopped(since, fault),
                Class::Away => away(since, fault, failures),
                _ if failures >= PASSES => away(since, fault, failures),
                _ => return,
            };
            health.0.clone()
        };
        self.show_health(next);
    }

    /// Another station gets on with it: there is nothing wrong with the firm.
    pub(super) fn served_elsewhere(&self) {
        self.show_health(Health::Up);
    }

    /// Nobody has got on with it for so long, as far as can be seen from here.
    pub(super) fn not_served(&self, long: Duration) {
        let since = earlier(self.station.clock.now(), long);
        match self.serves.ehr.unavailable() {
            Some(fault) if long > NOBODY => self.show_health(stopped(since, &fault)),
            // How the EHR fails is told to whoever looks.
            None if long > self.serves.plan.slowest * 3 => {
                self.show_health(away(since, &Fault::new(Class::Away, Code::NotAnswering), 0));
            }
            _ => {}
        }
    }

    pub(super) async fn change(
        &self,
        key: &RecordKey,
        change: impl FnOnce(&Record) -> Option<(String, Finish, Option<Code>)>,
    ) -> Result<bool, Unfinished> {
        self::change(&self.station, key, change).await
    }

    /// Counts what is shown, and frees leases that somebody left behind in the middle of a step. Never ends but for our own storage.
    async fn tidy_up(&self) -> Fault {
        loop {
            let ever = Duration::from_secs(10 * 365 * 24 * 60 * 60);
            let limit = usize::try_from(Watching::MANY).unwrap_or(usize::MAX);
            let now = self.station.clock.now();
            let due = self.station.ledger.due(&self.firm, &[Kind::Document], later(now, ever), ever, limit).await;
            match due {
                Ok(due) => {
                    self.station.board.of(&self.firm, |board| board.documents = due.len() as u64);
                }
                Err(fault) if fault.class == Class::Fatal => return fault,
                Err(_) => {}
            }
            for key in self.station.watch.all_overdue(self.station.clock.elapsed()) {
                let ours = key.firm == self.firm && matches!(key.kind, Kind::Encounter | Kind::Document);
                if ours
                    && self.serves.ehr.unavailable().is_none()
                    && let Err(Unfinished::Storage(fault)) = self.change(&key, |_| None).await
                    && fault.class == Class::Fatal
                {
                    return fault;
                }
            }
            tokio::time::sleep(self.station.chance.around(TIDY_EVERY)).await;
        }
    }
}

/// Takes a record, changes it (or not), and frees it again.
pub(super) async fn change(
    station: &Station,
    key: &RecordKey,
    change: impl FnOnce(&Record) -> Option<(String, Finish, Option<Code>)>,
) -> Result<bool, Unfinished> {
    let now = station.clock.now();
    let claim = Claim {
        owner: station.settings.owner.clone(),
        term: station.settings.lease_term,
        overdue: station.watch.overdue(key, station.clock.elapsed()),
        now,
    };
    let (record, lease) = match station.ledger.take(key, &claim).await.map_err(Unfinished::Storage)? {
        Take::Taken(record, lease) => (record, lease),
        Take::Busy(held) => {
            station.watch.observe(key, &held, station.clock.elapsed());
            return Err(Unfinished::Busy);
        }
    };
    station.watch.forget(key);
    let changed = change(&record);
    let is_changed = changed.is_some();
    let (state, finish, notice) = changed.unwrap_or_else(|| as_it_was(&record));
    let first_seen = record.wanted.map_or(now, |wanted| wanted.first_seen);
    let commit = Commit { state, finish, notice, generation: record.generation, first_seen, now };
    station.ledger.commit(&lease, commit).await?;
    Ok(is_changed)
}

/// How a record is freed without being changed.
fn as_it_was(record: &Record) -> (String, Finish, Option<Code>) {
    let finish = record.wanted.map_or(Finish::Done, |wanted| Finish::Later {
        not_before: wanted.not_before,
        waits_for: wanted.waits_for,
        attempt: false,
    });
    (record.state.clone(), finish, record.notice)
}

fn stopped(since: Timestamp, fault: &Fault) -> Health {
    Health::Stopped { since, code: fault.code, subject: fault.subject.clone(), vendor: fault.vendor.clone() }
}

fn away(since: Timestamp, fault: &Fault, failed_probes: u32) -> Health {
    Health::Away { since, code: fault.code, vendor: fault.vendor.clone(), failed_probes }
}
