//! What was called, counted and listed without any field value.

use super::call::Route;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many requests the journal keeps.
const KEPT: usize = 10_000;

/// One request and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub route: Route,
    pub verb: String,
    pub file: String,
    pub layout: String,
    pub record_id: Option<u64>,
    /// Number of the session, counted from 1 by login.
    pub session: Option<u64>,
    /// `None`: the connection was cut instead.
    pub status: Option<u16>,
    pub code: Option<u32>,
    pub fault: Option<&'static str>,
    pub bytes_out: usize,
    pub took: Duration,
}

/// Counters since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived.
    pub requests: u64,
    pub by_route: BTreeMap<Route, u64>,
    /// Answers by FileMaker code (0 included).
    pub by_code: BTreeMap<u32, u64>,
    pub faults: BTreeMap<&'static str, u64>,
    pub cut: u64,
    /// Sessions opened.
    pub logins: u64,
    pub logouts: u64,
    pub open_sessions: usize,
    pub max_open_sessions: usize,
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub bytes_out: u64,
    /// Writes on their way that have not landed ([`super::Fault::Late`]).
    pub late: usize,
}

impl Counts {
    pub fn of(&self, route: Route) -> u64 {
        self.by_route.get(&route).copied().unwrap_or_default()
    }

    pub fn with_code(&self, code: u32) -> u64 {
        self.by_code.get(&code).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) counts: Counts,
    entries: VecDeque<Entry>,
}

impl Journal {
    pub(super) fn began(&mut self, route: Route) {
        let counts = &mut self.counts;
        counts.requests += 1;
        *counts.by_route.entry(route).or_default() += 1;
        counts.in_flight += 1;
        counts.max_in_flight = counts.max_in_flight.max(counts.in_flight);
    }

    pub(super) fn ended(&mut self, entry: Entry) {
        let counts = &mut self.counts;
        counts.in_flight = counts.in_flight.saturating_sub(1);
        counts.bytes_out += entry.bytes_out as u64;
        if let Some(code) = entry.code {
            *counts.by_code.entry(code).or_default() += 1;
        }
        if entry.status.is_none() {
            counts.cut += 1;
        }
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(super) fn sessions(&mut self, open: usize) {
        self.counts.open_sessions = open;
        self.counts.max_open_sessions = self.counts.max_open_sessions.max(open);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }

    /// Zero, but for what is going on.
    pub(super) fn reset(&mut self) {
        let Counts { open_sessions, in_flight, late, .. } = self.counts;
        self.entries.clear();
        self.counts = Counts {
            open_sessions,
            max_open_sessions: open_sessions,
            in_flight,
            max_in_flight: in_flight,
            late,
            ..Counts::default()
        };
    }
}
