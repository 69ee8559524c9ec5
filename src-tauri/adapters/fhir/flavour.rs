//! How servers differ: one value per vendor, so that the client has no ifs by name.

use engine::ports::Reach;

/// What a FHIR server can do and what it charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavour {
    /// By which the configuration names it.
    pub name: &'static str,
    pub search: SearchBy,
    /// Whether it cuts results down to `_elements=id,meta`. Where it ignores that, nothing but traffic is lost.
    pub elements: bool,
    /// Whether it may be sent `Prefer: handling=strict`, which makes it refuse a parameter instead of ignoring it.
    pub strict: bool,
    /// Rows asked for per page.
    pub page: u32,
    /// Rows that it gives per page at most.
    pub max_page: u32,
    /// How far `_offset` may go, where it knows that parameter (it is not of the standard).
    pub max_offset: Option<u32>,
    /// Rows after which it gives no next link although there are more.
    pub link_limit: Option<u32>,
    /// What one search takes from the quotas that its `RateLimit` header names; 1 from any other.
    pub search_points: &'static [(&'static str, u64)],
    /// With which status a subscription is asked for: the standard's `requested`, which the server makes `active`, or at once.
    pub subscription_status: &'static str,
    /// The extension that says how often a hook is tried, and how often.
    pub subscription_attempts: Option<(&'static str, u32)>,
    /// Whether lists can be had in the order of `_lastUpdated`.
    pub sort: bool,
    /// `_lastUpdated` takes days only.
    pub by_day: bool,
    /// There is always a next link, the end of a list is a page without rows, and `total` counts those of the page.
    pub trailing_page: bool,
    /// Ids may hold `|`, which the engine's cannot: see [`piped`].
    pub pipes: bool,
    /// What one search for documents can cover, in which types they come, and how many rows a page of them has.
    pub documents: Reach,
    pub document_types: &'static [&'static str],
    pub documents_page: u32,
    /// A search may show an older version than a read.
    pub read_after: bool,
    /// Where the value set of document categories is.
    pub categories: Option<&'static str>,
}

/// How a search is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchBy {
    Get,
    /// `POST [type]/_search`: parameters stay out of the logs on the way.
    Post,
}

impl Flavour {
    /// Any R4 server. Searches go by GET, which every server knows; nothing of a patient is in them.
    pub const GENERIC: Flavour = Flavour {
        name: "generic",
        search: SearchBy::Get,
        elements: true,
        strict: true,
        page: 200,
        max_page: 1000,
        max_offset: None,
        link_limit: None,
        search_points: &[],
        subscription_status: "requested",
        subscription_attempts: None,
        sort: true,
        by_day: false,
        trailing_page: false,
        pipes: false,
        documents: Reach::Firm,
        document_types: &["DocumentReference", "Media"],
        documents_page: 200,
        read_after: false,
        categories: None,
    };

    /// Medplum: pages of 1000 at most, `_offset` up to 10 000, a cursor in the next link only for an ascending sort on
    /// `_lastUpdated` and `_count` >= 20 (its paginated-search.mdx); a search takes 20 points (its fhirquota.ts).
    pub const MEDPLUM: Flavour = Flavour {
        name: "medplum",
        search: SearchBy::Post,
        elements: true,
        strict: false,
        page: 200,
        max_page: 1000,
        max_offset: Some(10_000),
        link_limit: None,
        search_points: &[("fhirInteractions", 20)],
        // It loads active ones only, and without the extension gives up after some seconds (its workers/subscription.ts).
        subscription_status: "active",
        subscription_attempts: Some(("https://medplum.com/fhir/StructureDefinition/subscription-max-attempts", 18)),
        ..Flavour::GENERIC
    };

    /// HAPI JPA: pages of 200 as its starter sets them; past 10 000 hits it may give no next link (hapi-fhir issue 3599).
    pub const HAPI: Flavour =
        Flavour { name: "hapi", search: SearchBy::Post, max_page: 200, link_limit: Some(10_000), ..Flavour::GENERIC };

    /// AWS HealthLake: 100 rows a page; its search shows what changed a moment later, and an older version until then
    /// (its guide, searching-fhir-consistency-levels).
    pub const HEALTHLAKE: Flavour = Flavour {
        name: "healthlake",
        search: SearchBy::Post,
        elements: false,
        strict: false,
        page: 100,
        max_page: 100,
        documents_page: 100,
        read_after: true,
        ..Flavour::GENERIC
    };

    /// ModMed EMA's proprietary API (its OpenAPI 3.4.3): `_lastUpdated` by days and for encounters only, 50 encounters or 10
    /// documents a page, documents by patient only.
    pub const EMA: Flavour = Flavour {
        name: "ema",
        search: SearchBy::Get,
        elements: false,
        strict: false,
        page: 50,
        max_page: 50,
        sort: false,
        by_day: true,
        trailing_page: true,
        pipes: true,
        documents: Reach::Patient,
        document_types: &["DocumentReference"],
        documents_page: 10,
        categories: Some("ValueSet/document-category"),
        ..Flavour::GENERIC
    };

    pub const ALL: [&'static Flavour; 5] = [&Self::GENERIC, &Self::MEDPLUM, &Self::HAPI, &Self::HEALTHLAKE, &Self::EMA];

    pub fn named(name: &str) -> Option<&'static Flavour> {
        Self::ALL.into_iter().find(|flavour| flavour.name == name)
    }

    /// What is left of a quota when there is no search left in it.
    pub(super) fn spent(&self, quota: &str, left: u64) -> bool {
        left < self.points(quota)
    }

    /// What a search takes from a quota.
    pub(super) fn points(&self, quota: &str) -> u64 {
        self.search_points.iter().find(|(name, _)| *name == quota).map_or(1, |(_, points)| *points)
    }
}

/// Ids with `|`, such as EMA's `file|139977`: `.7C.` stands for it in ours. An id that holds `.7C.` itself cannot be used.
pub(super) mod piped {
    use engine::key::ResourceId;

    const BAR: &str = ".7C.";

    /// The engine's id for a server's.
    pub(in super::super) fn read(id: &str, pipes: bool) -> Option<ResourceId> {
        if !pipes {
            return ResourceId::new(id).ok();
        }
        if id.contains(BAR) { None } else { ResourceId::new(id.replace('|', BAR)).ok() }
    }

    /// The server's id for the engine's.
    pub(in super::super) fn written(id: &ResourceId, pipes: bool) -> String {
        if pipes { id.as_str().replace(BAR, "|") } else { id.to_string() }
    }
}
