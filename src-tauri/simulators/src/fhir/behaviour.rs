//! What kind of server this is: everything on which real FHIR servers differ, as settings that can change at any time.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use crate::rest::quota::RateLimit;

/// The settings. [`Behaviour::default`] is a careful R4 server; each field says what other servers do.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Added to every call, in real time, before it is carried out.
    pub latency: Duration,
    /// Life of an access token on the server's clock, shown as `expires_in`. Medplum's is one hour.
    pub token_life: SignedDuration,
    /// Quotas of each key, or none.
    pub rate_limit: Option<RateLimit>,
    /// Status for an `If-Match` that does not match: 412 (R4), or 409 (STU3 text, HAPI).
    pub stale_update_status: u16,
    /// Whether an update without `If-Match` is refused with 400.
    pub require_if_match: bool,
    /// Whether a PUT to an id that was never used creates it. Medplum refuses normal clients (404).
    pub update_creates: bool,
    /// Whether a PUT that changes nothing makes a version.
    pub noop_makes_version: bool,
    /// Whether a PUT keeps the tags of the version before.
    pub sticky_tags: bool,
    /// `meta.author` for what comes over HTTP, as Medplum adds it; a reference such as `ClientApplication/x`.
    pub author: Option<String>,
    /// What versionIds look like.
    pub version_ids: VersionIds,
    /// What a PUT to a deleted id does.
    pub revive: Revive,
    /// Whether a deleted resource reads as 410; otherwise as 404.
    pub gone: bool,
    /// Whether `lastUpdated` has milliseconds; otherwise whole seconds, cut off.
    pub fraction: bool,
    /// Whether `GET Type/_history` exists. It does not on Medplum (404).
    pub type_history: bool,
    /// Search parameters that this server ignores without a word, although the standard has them.
    pub unknown_parameters: BTreeSet<String>,
    /// Zone, in whole hours from UTC, of a search time that names none.
    pub local_offset_hours: i8,
    /// How long the result of an identical search is used again (HAPI: 60 s), unless `Cache-Control: no-cache`.
    pub search_cache: Option<SignedDuration>,
    /// How long `next` links live on the server's clock.
    pub page_life: SignedDuration,
    /// Entries of a page where `_count` says nothing, and at most.
    pub page_size: PageSize,
    /// Whether `total` is told unasked.
    pub totals: bool,
    /// What `next` links begin with instead of the base: a server behind another name.
    pub next_base: Option<String>,
    /// How long searches lag behind every write, whoever makes it, while reads see it at once; `None` is not at all. HealthLake's do.
    pub index_lag: Option<IndexLag>,
    /// What becomes of a refresh token that was used.
    pub refresh: Refresh,
    /// Whether the first page of a search carries a warning as an entry with `search.mode` `outcome`.
    pub search_warning: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            token_life: SignedDuration::from_hours(1),
            rate_limit: None,
            stale_update_status: 412,
            require_if_match: false,
            update_creates: false,
            noop_makes_version: true,
            sticky_tags: false,
            author: None,
            version_ids: VersionIds::Counter,
            revive: Revive::NextVersion,
            gone: true,
            fraction: true,
            type_history: true,
            unknown_parameters: BTreeSet::new(),
            local_offset_hours: 0,
            search_cache: None,
            page_life: SignedDuration::from_hours(1),
            page_size: PageSize { usual: 20, most: 1000 },
            totals: false,
            next_base: None,
            index_lag: None,
            refresh: Refresh::Rotates,
            search_warning: false,
        }
    }
}

impl Behaviour {
    /// As HealthLake (FHIR fact sheet 3.4): what was just written is gone from the results for up to three seconds, reads see it at
    /// once; pages of at most 100.
    #[must_use]
    pub fn healthlake() -> Self {
        let lag = IndexLag { least: SignedDuration::ZERO, most: SignedDuration::from_secs(3), hides: true };
        Self {
            index_lag: Some(lag),
            page_size: PageSize { usual: 50, most: 100 },
            type_history: false,
            ..Self::default()
        }
    }
}

/// How long an index takes to take a write in: each some time between these two, so that writes may turn up in another order than they
/// were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexLag {
    /// At least.
    pub least: SignedDuration,
    /// At most.
    pub most: SignedDuration,
    /// Whether the version before is hidden meanwhile; otherwise searches go on showing it.
    pub hides: bool,
}

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// It is spent, and the answer brings the next one.
    Rotates,
    /// It goes on working.
    Stays,
}

/// Entries of a page. Medplum: 20, at most 1000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// Where the call names none.
    pub usual: usize,
    /// The most it may name.
    pub most: usize,
}

/// What versionIds look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionIds {
    /// 1, 2, 3 (HAPI).
    Counter,
    /// UUIDs without an order (Medplum).
    Opaque,
}

/// What a PUT to a deleted id does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revive {
    /// Brings it back under the next version number.
    NextVersion,
    /// Brings it back and counts from 1 again, so that (type, id, versionId) names two different contents.
    Restart,
    /// Answers 410.
    Refuse,
}
