//! What may differ between firms' servers, or is not written down anywhere, as settings that can change at any time.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

pub use crate::fhir::Refresh;
use crate::rest::quota::RateLimit;

/// The settings. [`Behaviour::default`] is the fact sheet's EMA.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Added to every call, in real time, before it is carried out.
    pub latency: Duration,
    /// Quota of each key, or none. EMA: 1 250 in a calendar minute, and no header tells of it.
    pub rate_limit: Option<RateLimit>,
    /// Life of an access token on the server's clock. EMA: 900 s.
    pub token_life: SignedDuration,
    /// What becomes of a refresh token of the older grant that was used. EMA: it stays.
    pub refresh: Refresh,
    /// Most encounters of a page. EMA: 50.
    pub encounters_page: usize,
    /// Most documents of a page. EMA: 10.
    pub documents_page: usize,
    /// Whether `_lastUpdated=gtDATE` means the day itself too. Nothing says so.
    pub gt_includes_day: bool,
    /// Zone, in whole hours from UTC, in which days begin. Nothing says which.
    pub local_offset_hours: i8,
    /// Whether a page without hits has a `next` link as well.
    pub next_after_end: bool,
    /// Whether a parameter that a search does not have is refused with 400; otherwise it is ignored without a word.
    pub strict_parameters: bool,
    /// Whether there is a CapabilityStatement.
    pub metadata: bool,
    /// Whether the value set of categories is expanded; otherwise it is composed.
    pub expanded: bool,
    /// Types for which the client lacks the right (403).
    pub denied: BTreeSet<String>,
    /// How long pre-signed addresses work, on the server's clock. EMA's example: 300 s.
    pub link_life: SignedDuration,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            rate_limit: Some(RateLimit::calendar(1250, SignedDuration::from_mins(1))),
            token_life: SignedDuration::from_secs(900),
            refresh: Refresh::Stays,
            encounters_page: 50,
            documents_page: 10,
            gt_includes_day: false,
            local_offset_hours: 0,
            next_after_end: true,
            strict_parameters: false,
            metadata: true,
            expanded: false,
            denied: BTreeSet::new(),
            link_life: SignedDuration::from_secs(300),
        }
    }
}
