//! What stations grant each other, in one record of the ledger.
//!
//! Each station has a share of the pool, and all shares together are never more than the whole. A station lowers its own share at once,
//! and only then says so; others take what is free after that. A share lasts for [`TERM`] by its holder's own clock, counted from
//! before it was committed; an entry whose beat has stood still for [`OVERDUE`] by an observer's own clock is dead, and its share is free. So no two
//! clocks are compared, and clocks may run 10 % fast or slow.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::key::StationId;

/// How long a share lasts without renewal.
pub(super) const TERM: Duration = Duration::from_secs(60);
/// When others take it. A fifth more is what clocks may differ by.
pub(super) const OVERDUE: Duration = Duration::from_secs(75);
/// A station that was silent for so long does not take part any more.
const GONE: Duration = Duration::from_secs(24 * 60 * 60);
/// The whole pool.
pub(super) const WHOLE: u32 = 1_000_000;
/// Part of the pool that is split evenly, so that a station that knows of nothing to do can find it.
const EVEN: f64 = 0.05;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Of the record's beats, the one at which this was written.
    pub(super) beat: u64,
    /// Of [`WHOLE`].
    pub(super) share: u32,
    /// The weight of all that it polls.
    pub(super) want: f64,
    /// What it sent in the last window.
    pub(super) used: u64,
}

/// The state of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Grants {
    /// Rises with each commit.
    beat: u64,
    pub(super) stations: BTreeMap<StationId, Entry>,
    /// How much of everything is used since the server refused: 1 is all.
    pub(super) factor: f64,
    /// Rises with each silence that the server asked for.
    pub(super) silence: u64,
    /// What was left of it when this was written.
    pub(super) silent_ms: u64,
}

impl Default for Grants {
    fn default() -> Self {
        Self { beat: 0, stations: BTreeMap::new(), factor: 1.0, silence: 0, silent_ms: 0 }
    }
}

/// Watches the beats of others.
#[derive(Debug, Default)]
pub(super) struct Observer(BTreeMap<StationId, (u64, Duration)>);

impl Observer {
    /// How long a station's beat has stood still, seen from here.
    fn still(&mut self, station: &StationId, beat: u64, elapsed: Duration) -> Duration {
        let seen = self.0.entry(station.clone()).or_insert((beat, elapsed));
        if seen.0 != beat {
            *seen = (beat, elapsed);
        }
        elapsed.saturating_sub(seen.1)
    }
}

/// What a station asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) station: &'a StationId,
    pub(super) want: f64,
    pub(super) used: u64,
    /// How many take part at most.
    pub(super) most: u32,
    pub(super) elapsed: Duration,
}

/// As many stations as may take part do so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Grants {
    pub(super) fn read(state: &str) -> Result<Self, serde_json::Error> {
        if state.is_empty() { Ok(Self::default()) } else { serde_json::from_str(state) }
    }

    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).expect("numbers and names")
    }

    /// The station needs its share no longer. Its slot is its own until it is overdue: it may have something to finish.
    pub(super) fn leave(&mut self, station: &StationId) {
        self.beat += 1;
        if let Some(entry) = self.stations.get_mut(station) {
            *entry = Entry { beat: self.beat, share: 0, want: 0.0, used: entry.used };
        }
    }

    /// Sees who is dead, and settles what `ask.station` has from now on. Answers with its share and how many are alive.
    pub(super) fn settle(&mut self, ask: Ask<'_>, observer: &mut Observer) -> Result<(u32, usize), Full> {
        observer.0.retain(|station, _| self.stations.contains_key(station));
        let (mut wants, mut alive, mut taken) = (0.0, 1, 0_u32);
        let mut gone = Vec::new();
        for (station, entry) in &mut self.stations {
            if station == ask.station {
                continue;
            }
            let still = observer.still(station, entry.beat, ask.elapsed);
            if still >= OVERDUE {
                entry.share = 0;
                if still >= GONE {
                    gone.push(station.clone());
                }
                continue;
            }
            alive += 1;
            wants += sane(entry.want);
            taken = taken.saturating_add(entry.share);
        }
        self.stations.retain(|station, _| !gone.contains(station));
        if alive > ask.most as usize {
            self.stations.remove(ask.station);
            return Err(Full);
        }
        let want = sane(ask.want);
        let part = if wants + want > 0.0 { want / (wants + want) } else { 1.0 / alive as f64 };
        let fair = f64::from(WHOLE) * (EVEN / alive as f64 + (1.0 - EVEN) * part);
        let share = (fair as u32).min(WHOLE.saturating_sub(taken));
        self.beat += 1;
        self.stations.insert(ask.station.clone(), Entry { beat: self.beat, share, want, used: ask.used });
        Ok((share, alive))
    }
}

fn sane(want: f64) -> f64 {
    if want.is_finite() { want.max(0.0) } else { 0.0 }
}
