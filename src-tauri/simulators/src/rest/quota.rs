//! Quotas: how many calls a key may make in a window, and what was really asked.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::fault::{Interaction, RetryAfter};

/// Two quotas over the same window, as on Medplum (FHIR fact sheet 2.3), for each key.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Calls in a window.
    pub requests: u64,
    /// Interaction points in a window: read 1, history 10, search 20, writes 100.
    pub points: Option<u64>,
    /// The window, on the server's clock.
    pub window: SignedDuration,
    /// When windows begin.
    pub counting: Counting,
    /// How the `RateLimit` header is sent.
    pub header: RateLimitHeader,
    /// The form of `Retry-After` on a 429; the figure inside is the true one, whatever is given here.
    pub retry_after: RetryAfter,
}

impl RateLimit {
    /// So many calls in each window of the server's clock (a minute, an hour), and no header that tells of it: what EHRs do
    /// (FHIR fact sheet 4.1).
    #[must_use]
    pub fn calendar(requests: u64, window: SignedDuration) -> Self {
        Self {
            requests,
            points: None,
            window,
            counting: Counting::Calendar,
            header: RateLimitHeader::Absent,
            retry_after: RetryAfter::Absent,
        }
    }

    /// So many calls in any window, wherever it is laid.
    #[must_use]
    pub fn sliding(requests: u64, window: SignedDuration) -> Self {
        Self { counting: Counting::Sliding, ..Self::calendar(requests, window) }
    }
}

/// When windows begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counting {
    /// With the first call after the last window.
    FromFirst,
    /// At whole multiples of their length on the server's clock.
    Calendar,
    /// Everywhere: no stretch of that length may hold more.
    Sliding,
}

/// How the `RateLimit` header is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateLimitHeader {
    /// Not at all.
    Absent,
    /// Once, with a comma.
    One,
    /// Once per quota.
    Several,
}

/// Points that an interaction costs on Medplum: read 1, history 10, search 20, writes 100.
fn points(interaction: Interaction) -> u64 {
    match interaction {
        Interaction::Read | Interaction::VRead => 1,
        Interaction::InstanceHistory | Interaction::TypeHistory => 10,
        Interaction::Search | Interaction::NextPage => 20,
        Interaction::Create | Interaction::Update | Interaction::Delete => 100,
        _ => 0,
    }
}

/// What each key has asked, and used up.
#[derive(Default)]
pub(crate) struct Meter {
    keys: BTreeMap<String, Used>,
}

#[derive(Default)]
struct Used {
    /// Every call that was charged, refused ones too.
    asked: Vec<Timestamp>,
    refused: u64,
    /// What counts against the quota, oldest first.
    counted: VecDeque<(Timestamp, u64)>,
    /// The beginning of the window where it is fixed.
    since: Option<Timestamp>,
}

/// What a quota says to one call.
#[derive(Default)]
pub(crate) struct Charge {
    /// The `RateLimit` headers of its answer.
    pub(crate) headers: Vec<String>,
    pub(crate) refusal: Option<Refusal>,
}

#[derive(Clone, Copy)]
pub struct Refusal {
    /// Until the next call may come.
    pub(crate) left: SignedDuration,
    pub(crate) consumed: u64,
    pub(crate) limit: u64,
    pub(crate) retry_after: RetryAfter,
}

impl Meter {
    /// Notes a call, and charges it where there is a limit. A call that is refused uses nothing up.
    pub(crate) fn charge(
        &mut self,
        key: &str,
        limit: Option<&RateLimit>,
        interaction: Interaction,
        now: Timestamp,
    ) -> Charge {
        let used = self.keys.entry(key.to_owned()).or_default();
        used.asked.push(now);
        let Some(limit) = limit else { return Charge::default() };
        let charge = used.charge(limit, points(interaction), now);
        used.refused += u64::from(charge.refusal.is_some());
        charge
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    pub(crate) fn asked(&self, key: &str) -> Vec<Timestamp> {
        self.keys.get(key).map(|used| used.asked.clone()).unwrap_or_default()
    }

    pub(crate) fn refused(&self, key: &str) -> u64 {
        self.keys.get(key).map_or(0, |used| used.refused)
    }

    /// Forgets what was asked; what counts against the quotas stays.
    pub(crate) fn forget_asked(&mut self) {
        for used in self.keys.values_mut() {
            used.asked.clear();
            used.refused = 0;
        }
    }
}

impl Used {
    fn charge(&mut self, limit: &RateLimit, cost: u64, now: Timestamp) -> Charge {
        self.turn(limit, now);
        let requests = self.counted.len() as u64;
        let spent: u64 = self.counted.iter().map(|(_, cost)| cost).sum();
        let full = requests + 1 > limit.requests;
        let too_many = full || limit.points.is_some_and(|most| spent + cost > most);
        let (requests, spent) = if too_many { (requests, spent) } else { (requests + 1, spent + cost) };
        if !too_many {
            self.counted.push_back((now, cost));
        }
        let begin = match limit.counting {
            Counting::FromFirst | Counting::Calendar => self.since,
            Counting::Sliding => self.counted.front().map(|(at, _)| *at),
        };
        let left = limit.window - now.duration_since(begin.unwrap_or(now));
        let seconds = whole_seconds(left);
        let mut parts = vec![format!("\"requests\";r={};t={seconds}", limit.requests.saturating_sub(requests))];
        if let Some(most) = limit.points {
            parts.push(format!("\"fhirInteractions\";r={};t={seconds}", most.saturating_sub(spent)));
        }
        Charge {
            headers: match limit.header {
                RateLimitHeader::Absent => Vec::new(),
                RateLimitHeader::One => vec![parts.join(", ")],
                RateLimitHeader::Several => parts,
            },
            refusal: too_many.then_some(Refusal {
                left,
                consumed: requests + 1,
                limit: limit.requests,
                retry_after: limit.retry_after,
            }),
        }
    }

    /// Lets go what no window that holds `now` holds.
    fn turn(&mut self, limit: &RateLimit, now: Timestamp) {
        match limit.counting {
            Counting::Sliding => {
                // A clock that was set back counts nothing twice: what lies ahead of it goes too.
                self.counted.retain(|(at, _)| now.duration_since(*at) < limit.window && *at <= now);
            }
            Counting::FromFirst => {
                let since = *self.since.get_or_insert(now);
                if now.duration_since(since) >= limit.window || now < since {
                    self.counted.clear();
                    self.since = Some(now);
                }
            }
            Counting::Calendar => {
                let begin = window_of(now, limit.window);
                if self.since != Some(begin) {
                    self.counted.clear();
                    self.since = Some(begin);
                }
            }
        }
    }
}

impl Refusal {
    /// Whole seconds to wait, rounded up.
    pub(crate) fn seconds(&self) -> u32 {
        u32::try_from(whole_seconds(self.left)).unwrap_or(u32::MAX)
    }
}

fn whole_seconds(time: SignedDuration) -> i128 {
    (time.as_millis() + 999) / 1000
}

/// The beginning of the window of the server's clock that holds this moment.
fn window_of(at: Timestamp, window: SignedDuration) -> Timestamp {
    let length = window.as_nanos().max(1);
    Timestamp::from_nanosecond(at.as_nanosecond().div_euclid(length) * length).unwrap_or(at)
}

/// The most of these moments (in order) that one window holds.
pub(crate) fn most_in(asked: &[Timestamp], window: SignedDuration, counting: Counting) -> usize {
    let mut first = 0;
    let mut begin = None;
    let mut most = 0;
    for (at, moment) in asked.iter().enumerate() {
        match counting {
            Counting::Sliding => {
                while moment.duration_since(asked[first]) >= window {
                    first += 1;
                }
            }
            Counting::FromFirst => {
                if begin.is_none_or(|begin| moment.duration_since(begin) >= window) {
                    (first, begin) = (at, Some(*moment));
                }
            }
            Counting::Calendar => {
                let own = window_of(*moment, window);
                if begin != Some(own) {
                    (first, begin) = (at, Some(own));
                }
            }
        }
        most = most.max(at + 1 - first);
    }
    most
}
