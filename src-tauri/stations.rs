//! Who takes part beside this station. Each gives a sign of life now and then and looks at those of the others; when one was last
//! seen is judged by the clock of whoever looks, by when its beat last moved. No clocks of two machines are compared.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::{
    error::{Code, Fault},
    key::StationId,
    ports::Clock,
    server_clock::WrongClock,
    supervisor::Handle,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::adapters::aws::dynamodb::{
    DynamoLedger,
    stations::{Entry, Life},
};

/// Between signs of life, and between looks at the others: 1 440 writes and as many reads a day, for each station.
pub const BEAT: Duration = Duration::from_secs(60);
/// A station that gave no sign for so long does not run, or cannot reach AWS.
pub const GONE: Duration = Duration::from_secs(3 * 60);
/// Whoever asks is told of a look no older than this.
const FRESH: Duration = Duration::from_secs(5);
/// The last word is not waited for longer than this.
const FAREWELL: Duration = Duration::from_secs(5);

/// A station's place on the list.
#[derive(Debug, Clone)]
pub struct Membership {
    pub tables: Arc<DynamoLedger>,
    pub station: StationId,
    pub installation: String,
}

/// A station as it is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub station: StationId,
    /// The first signs of the name of its installation.
    pub id: String,
    /// This one.
    pub here: bool,
    pub version: Option<String>,
    pub last: Last,
    /// When it last wrote so, by its own clock, which may be wrong.
    pub said: Option<Timestamp>,
    /// How far its clock is ahead of those of the servers, in seconds, where it found that to be too much.
    pub clock_ahead: Option<i64>,
}

/// When it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "time")]
pub enum Last {
    /// Its beat moved so long ago.
    Ago(Duration),
    /// Its beat has not moved since this station looks, which is so long.
    NotFor(Duration),
    /// It ended properly, and was not started since.
    Left,
    /// Nobody has looked twice.
    Unwatched,
}

impl Last {
    /// It was seen to live not long ago.
    pub fn lives(self) -> bool {
        matches!(self, Last::Ago(ago) if ago < GONE)
    }

    /// It is known to give no sign of life.
    pub fn is_gone(self) -> bool {
        match self {
            Last::Ago(long) | Last::NotFor(long) => long >= GONE,
            Last::Left => true,
            Last::Unwatched => false,
        }
    }
}

impl Seen {
    /// As it stands on the list, without having looked before.
    pub fn at_first(entry: Entry, here: bool) -> Self {
        Self {
            id: entry.installation.chars().take(8).collect(),
            here,
            last: if entry.left { Last::Left } else { Last::Unwatched },
            said: entry.at,
            version: entry.version,
            clock_ahead: entry.clock_ahead,
            station: entry.station,
        }
    }
}

/// Watches beats move.
#[derive(Debug, Default)]
pub struct Watched {
    stations: BTreeMap<StationId, Sight>,
    looked: bool,
}

#[derive(Debug)]
struct Sight {
    entry: Entry,
    /// Elapsed time when it was first seen so.
    since: Duration,
    /// It was seen to move.
    moved: bool,
}

impl Watched {
    /// Notes how the list is at `elapsed`.
    pub fn look(&mut self, list: Vec<Entry>, elapsed: Duration) {
        let mut before = std::mem::take(&mut self.stations);
        // Who was not there before has just come.
        let moved = std::mem::replace(&mut self.looked, true);
        for entry in list {
            let sight = match before.remove(&entry.station) {
                Some(sight) if (&sight.entry.installation, sight.entry.beat) == (&entry.installation, entry.beat) => {
                    Sight { entry, ..sight }
                }
                Some(_) => Sight { entry, since: elapsed, moved: true },
                None => Sight { entry, since: elapsed, moved },
            };
            self.stations.insert(sight.entry.station.clone(), sight);
        }
    }

    /// All of them at `elapsed`, by name.
    pub fn all(&self, here: &StationId, elapsed: Duration) -> Vec<Seen> {
        let seen = |sight: &Sight| {
            let long = elapsed.saturating_sub(sight.since);
            let last = match sight {
                _ if sight.entry.left => Last::Left,
                Sight { moved: true, .. } => Last::Ago(long),
                Sight { moved: false, .. } => Last::NotFor(long),
            };
            Seen { last, ..Seen::at_first(sight.entry.clone(), sight.entry.station == *here) }
        };
        self.stations.values().map(seen).collect()
    }

    pub fn entry(&self, station: &StationId) -> Option<&Entry> {
        self.stations.get(station).map(|sight| &sight.entry)
    }
}

/// Gives this station's signs of life and watches those of the others, as long as its relay runs.
#[derive(Debug, Clone)]
pub struct Roster {
    inner: Arc<Inner>,
    keeping: Arc<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    membership: Membership,
    relay: Handle,
    clock: Arc<dyn Clock>,
    watched: Mutex<Watched>,
    /// Elapsed time of the last look.
    looked: Mutex<Option<Duration>>,
    turned_away: Mutex<Option<Fault>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Roster {
    pub fn keep(membership: Membership, relay: Handle, clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::new(Inner {
            membership,
            relay,
            clock,
            watched: Mutex::default(),
            looked: Mutex::default(),
            turned_away: Mutex::default(),
        });
        let keeping = inner.clone();
        let keeping = tokio::spawn(async move {
            // A code whose command was killed is worth nothing; what was sealed under it is not left lying about.
            if let Err(fault) = keeping.membership.tables.close_left(&keeping.membership.station).await {
                tracing::warn!(%fault, "what an earlier pairing left was not looked for");
            }
            loop {
                keeping.round().await;
                tokio::time::sleep(BEAT).await;
            }
        });
        Self { inner, keeping: Arc::new(keeping) }
    }

    /// All on the list, as they were last seen from here. Where AWS does not answer they are as they were.
    pub async fn all(&self) -> Vec<Seen> {
        let looked = *lock(&self.inner.looked);
        let fresh = looked.is_some_and(|looked| self.inner.clock.elapsed().saturating_sub(looked) < FRESH);
        if !fresh && let Err(fault) = self.inner.look().await {
            tracing::warn!(%fault, "the other stations were not looked at");
        }
        lock(&self.inner.watched).all(&self.inner.membership.station, self.inner.clock.elapsed())
    }

    /// Why this station may take part no longer, if so: then its relay was told to end.
    pub fn turned_away(&self) -> Option<Fault> {
        lock(&self.inner.turned_away).clone()
    }

    /// Frees the name of a station that is gone. False: it has moved since it was looked at.
    pub async fn forget(&self, station: &StationId) -> Result<bool, Fault> {
        let Some(entry) = lock(&self.inner.watched).entry(station).cloned() else { return Ok(false) };
        let forgotten = self.inner.membership.tables.forget(&entry).await?;
        self.inner.look().await?;
        Ok(forgotten)
    }

    /// The last word: it ended properly.
    pub async fn leave(&self) {
        self.keeping.abort();
        if self.turned_away().is_none() {
            let left = tokio::time::timeout(FAREWELL, self.inner.beat(true)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!("the other stations were not told that this one ends");
            }
        }
    }
}

impl Inner {
    async fn beat(&self, left: bool) -> Result<(), Fault> {
        let Membership { tables, station, installation } = &self.membership;
        // As the relay shows it; what it only suspects is not told.
        let clock_ahead = self.relay.snapshots().borrow().clocks.iter().find_map(|clock| match clock {
            WrongClock::Here { ahead } => Some(*ahead),
            _ => None,
        });
        let life = Life { version: env!("CARGO_PKG_VERSION"), at: self.clock.now(), clock_ahead, left };
        tables.beat(station, installation, life).await
    }

    async fn look(&self) -> Result<(), Fault> {
        let list = self.membership.tables.stations().await?;
        let elapsed = self.clock.elapsed();
        lock(&self.watched).look(list, elapsed);
        *lock(&self.looked) = Some(elapsed);
        Ok(())
    }

    async fn round(&self) {
        if let Err(fault) = self.beat(false).await {
            tracing::warn!(%fault, "no sign of life was given to the other stations");
            if fault.code == Code::StationTaken {
                *lock(&self.turned_away) = Some(fault);
                self.relay.stop();
                return;
            }
        }
        if let Err(fault) = self.look().await {
            tracing::warn!(%fault, "the other stations were not looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, beat: u64) -> Entry {
        Entry {
            station: StationId::new(name).unwrap(),
            installation: format!("{name}-installation"),
            beat,
            left: false,
            version: None,
            at: None,
            clock_ahead: None,
        }
    }

    #[test]
    fn a_station_was_seen_when_its_beat_moved_whatever_its_clock_says() {
        let second = Duration::from_secs;
        let here = StationId::new("here").unwrap();
        let mut watched = Watched::default();
        let last = |watched: &Watched, at| watched.all(&here, second(at)).remove(0).last;
        watched.look(vec![entry("desk-2", 7)], second(100));
        assert_eq!(last(&watched, 130), Last::NotFor(second(30)));
        assert!(!last(&watched, 130).is_gone() && !last(&watched, 130).lives());
        // The same beat again is no sign.
        watched.look(vec![entry("desk-2", 7)], second(160));
        assert_eq!(last(&watched, 160), Last::NotFor(second(60)));
        watched.look(vec![entry("desk-2", 8)], second(200));
        assert_eq!(last(&watched, 210), Last::Ago(second(10)));
        assert!(last(&watched, 210).lives());
        assert!(last(&watched, 200 + GONE.as_secs()).is_gone());
        watched.look(vec![Entry { left: true, ..entry("desk-2", 9) }], second(220));
        assert_eq!(last(&watched, 230), Last::Left);
        watched.look(vec![entry("desk-2", 9), entry("desk-3", 1)], second(240));
        let new = watched.all(&here, second(241)).remove(1);
        assert_eq!((new.station.as_str(), new.last), ("desk-3", Last::Ago(second(1))), "it has come while we looked");
        // Another computer under the name is another station.
        watched.look(vec![Entry { installation: "another".into(), ..entry("desk-2", 1) }], second(300));
        assert_eq!(last(&watched, 301), Last::Ago(second(1)));
        watched.look(vec![], second(400));
        assert_eq!(watched.all(&here, second(400)), vec![]);
    }
}
