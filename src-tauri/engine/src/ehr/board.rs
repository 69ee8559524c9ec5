//! What the watchers of EHRs show of themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    connection::Health,
    error::Code,
    key::{FirmId, RecordKey, ResourceType, StationId},
    pace::QuotaView,
};

/// How a firm's EHR is being watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    pub firm: FirmId,
    pub health: Health,
    /// By the configuration: nothing is asked.
    pub paused: bool,
    /// Under which API key's quota it falls.
    pub quota: Option<String>,
    pub kinds: Vec<KindWatched>,
    /// Encounters that are followed, and how many of them are going on.
    pub encounters: u64,
    pub active: u64,
    /// Documents that wait to be read by models, [`Watching::MANY`] at most.
    pub documents: u64,
    /// Documents on the list of what nobody reads: unattached, unsorted. The newest first, 200 at most.
    pub listed: Vec<Listed>,
}

impl Watching {
    /// So many are counted.
    pub const MANY: u64 = 500;

    /// Looks that are so close together are given this much before their silence is told.
    const AT_LEAST: Duration = Duration::from_secs(60);

    /// For how long nothing has come of looking, where that is too long: three intervals, or a minute.
    pub fn silent_for(&self) -> Option<Duration> {
        let looks = self.kinds.iter().flat_map(|kind| {
            let looked = kind.looked.filter(|looked| *looked > (kind.every * 3).max(Self::AT_LEAST));
            [looked, kind.swept.filter(|swept| *swept > kind.sweep_every * 3)]
        });
        looks.flatten().max().filter(|_| !self.paused)
    }

    /// Whether the EHR answers, and everything in it has been looked at since it last had to be.
    pub fn is_proven(&self) -> bool {
        let looked = |kind: &KindWatched| kind.looked.is_some() && kind.swept.is_some();
        self.paused || self.health == Health::Up && self.kinds.iter().all(looked)
    }
}

/// What an API key allows, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaShown {
    pub id: String,
    /// Requests that the key allows in so much time, and how many of them the relay may use.
    pub requests: u64,
    pub per: Duration,
    pub usable: u64,
    /// Requests of this station in the last window, and of all that take part, as of their last exchange.
    pub used: u64,
    pub used_by_all: u64,
    pub stations: u64,
    /// Requests a minute that this station may send now.
    pub a_minute: u64,
    /// What the server said is left, if it did and that still holds.
    pub left: Option<u64>,
    /// Nothing is sent for so long, because the server asked for that.
    pub silent_for: Duration,
    /// How much is used of what is allowed since the server last refused; 100 is all.
    pub percent: u8,
}

impl QuotaShown {
    pub(crate) fn of(view: &QuotaView) -> Self {
        let others: u64 = view.stations.values().map(|station| station.used).sum();
        Self {
            id: view.id.to_string(),
            requests: view.allowance.requests,
            per: view.allowance.per,
            usable: view.allowance.usable(),
            used: view.used,
            used_by_all: others.max(view.used),
            stations: view.stations.len() as u64,
            a_minute: (view.rate * 60.0).round() as u64,
            left: view.left,
            silent_for: view.silent_for,
            percent: (view.factor * 100.0).round() as u8,
        }
    }
}

/// A document that nobody reads, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub key: RecordKey,
    pub code: Code,
    pub since: Timestamp,
}

/// How one type of resource is being watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindWatched {
    pub resource: ResourceType,
    /// Who does it; none: nobody just now.
    pub station: Option<StationId>,
    /// So long a look may be apart from the next just now.
    pub every: Duration,
    /// Since the last complete look.
    pub looked: Option<Duration>,
    /// Until the next.
    pub next: Option<Duration>,
    /// What the next waits for, where it is not simply its time.
    pub waits_for: Option<Code>,
    /// Everything that the EHR stamped up to then has been seen.
    pub complete: Option<Timestamp>,
    /// Rows of the last look that could not be used.
    pub unusable: u64,
    /// Rows of the last look that were stamped later than the EHR's own clock.
    #[serde(default)]
    pub ahead: u64,
    /// How late the EHR has shown rows, as far as it was seen: what the looks allow for.
    pub lateness: Duration,
    pub sweep_every: Duration,
    /// Since the last complete sweep.
    pub swept: Option<Duration>,
    pub sweep: Option<Swept>,
    /// What a person should know of how it is watched.
    pub remark: Option<Code>,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Rows compared with the ledger.
    pub rows: u64,
    /// Of those, such as the looks had said they had seen, and the ledger did not know. They are known now.
    pub missed: u64,
}

/// Of one kind, as its watcher tells it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kind {
    pub(super) station: Option<StationId>,
    pub(super) every: Duration,
    /// Elapsed times.
    pub(super) looked: Option<Duration>,
    pub(super) next: Option<Duration>,
    pub(super) waits_for: Option<Code>,
    pub(super) complete: Option<Timestamp>,
    pub(super) unusable: u64,
    pub(super) ahead: u64,
    pub(super) lateness: Duration,
    pub(super) swept: Option<Duration>,
    pub(super) sweep: Option<Swept>,
    pub(super) remark: Option<Code>,
    pub(super) listed: Vec<Listed>,
}

/// Of one firm.
#[derive(Debug, Clone)]
pub(super) struct FirmBoard {
    pub(super) health: Health,
    pub(super) paused: bool,
    pub(super) quota: Option<String>,
    pub(super) sweep_every: Duration,
    pub(super) kinds: BTreeMap<ResourceType, Kind>,
    pub(super) encounters: u64,
    pub(super) active: u64,
    pub(super) documents: u64,
}

impl FirmBoard {
    /// Of a firm that cannot even be asked.
    pub(super) fn stopped(health: Health) -> Self {
        Self {
            health,
            paused: false,
            quota: None,
            sweep_every: Duration::ZERO,
            kinds: BTreeMap::new(),
            encounters: 0,
            active: 0,
            documents: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<FirmId, FirmBoard>>);

impl Board {
    fn all(&self) -> MutexGuard<'_, BTreeMap<FirmId, FirmBoard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, firm: FirmId, board: FirmBoard) {
        self.all().insert(firm, board);
    }

    pub(super) fn leave(&self, firm: &FirmId) {
        self.all().remove(firm);
    }

    pub(super) fn of<T>(&self, firm: &FirmId, change: impl FnOnce(&mut FirmBoard) -> T) -> Option<T> {
        self.all().get_mut(firm).map(change)
    }

    pub(super) fn kind<T>(
        &self,
        firm: &FirmId,
        resource: &ResourceType,
        change: impl FnOnce(&mut Kind) -> T,
    ) -> Option<T> {
        self.of(firm, |board| change(board.kinds.entry(resource.clone()).or_default()))
    }

    /// All proof is gone: what was seen before counts no more.
    pub(crate) fn prove_again(&self) {
        for board in self.all().values_mut() {
            board.kinds.values_mut().for_each(|kind| kind.looked = None);
        }
    }

    /// What is shown at this elapsed time.
    pub(crate) fn show(&self, elapsed: Duration) -> Vec<Watching> {
        let ago = |then: Option<Duration>| then.map(|then| elapsed.saturating_sub(then));
        let shown = |(firm, board): (&FirmId, &FirmBoard)| {
            let kinds = board.kinds.iter().map(|(resource, kind)| KindWatched {
                resource: resource.clone(),
                station: kind.station.clone(),
                every: kind.every,
                looked: ago(kind.looked),
                next: kind.next.map(|next| next.saturating_sub(elapsed)),
                waits_for: kind.waits_for,
                complete: kind.complete,
                unusable: kind.unusable,
                ahead: kind.ahead,
                lateness: kind.lateness,
                sweep_every: board.sweep_every,
                swept: ago(kind.swept),
                sweep: kind.sweep,
                remark: kind.remark,
            });
            let mut listed: Vec<_> = board.kinds.values().flat_map(|kind| kind.listed.iter().cloned()).collect();
            listed.sort_by_key(|listed| std::cmp::Reverse(listed.since));
            Watching {
                firm: firm.clone(),
                health: board.health.clone(),
                paused: board.paused,
                quota: board.quota.clone(),
                kinds: kinds.collect(),
                encounters: board.encounters,
                active: board.active,
                documents: board.documents,
                listed,
            }
        };
        self.all().iter().map(shown).collect()
    }
}
