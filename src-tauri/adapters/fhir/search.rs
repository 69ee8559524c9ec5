//! A change list by `_lastUpdated`, page by page.
//!
//! The first page is asked for with `_lastUpdated=ge…`, `_sort=_lastUpdated` and `_count`; what follows is the server's own
//! next link, unchanged, as long as it stays on the configured server. Two servers' habits would lose rows silently:
//!
//! * **No next link although there is more.** (Medplum's router gives none; HAPI may stop after 10 000 hits.) A full page, one
//!   as long as the `self` link says pages are, or a `total` that says more, is taken for more. The walk goes on from the
//!   last time stamp seen, that stamp included, leaving out the rows already listed. If a whole page shares that one
//!   stamp, a larger page is asked for, and at the largest `_offset` is used where the server knows it; else the walk
//!   stops with a fault.
//! * **A page session that expires.** (400, 404 or 410 for a next link.) The walk goes on from the oldest stamp of the last
//!   page, leaving out the rows already listed.
//!
//! A parameter that was ignored is found by the `self` link together with the rows: rows before `since` stop the
//! connection, and so do rows out of order wherever the order is what keeps the walk complete.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{Change, Changes, PageToken},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use url::Url;

use super::{
    Asking, Call, FhirClient, content_version,
    flavour::{SearchBy, piped},
    outcome::{Answer, Asked},
    version,
};

/// How many pages in a row may bring nothing new, and how many sessions may end at one stamp, until the walk is given up.
const PATIENCE: u32 = 10;

/// What is listed.
pub(super) struct Question<'a> {
    pub(super) resource: &'a ResourceType,
    /// Changed at or after this time; all, if `None`.
    pub(super) since: Option<Timestamp>,
    /// What else they have in common.
    pub(super) of: Option<(&'static str, String)>,
    /// What rows are cut down to, where the server does that.
    pub(super) elements: &'static str,
    /// Rows per page.
    pub(super) count: u32,
    /// What stands in for a version that is missing; of the whole resource if `by_content`.
    pub(super) stand_in: fn(&Json) -> String,
    pub(super) by_content: bool,
    pub(super) asking: Asking,
}

/// A page of a list, without what earlier pages had.
pub(super) struct Walked {
    pub(super) rows: Vec<Row>,
    /// Rows that are no resource of the type, or have no id that could be asked for.
    pub(super) unusable: u64,
    pub(super) next: Option<PageToken>,
    pub(super) server_time: Option<Timestamp>,
}

/// Where a walk is; what a [`PageToken`] holds.
#[derive(Clone, Serialize, Deserialize)]
struct Place {
    /// The server's next link, if it gave one.
    link: Option<String>,
    /// Where to search from without it.
    since: Option<Timestamp>,
    count: u32,
    offset: u32,
    /// Rows at or after `since` that have been listed, as (id, version).
    listed: BTreeSet<(String, String)>,
    /// Pages in a row that brought nothing new.
    empty_pages: u32,
    /// Rows that came by the server's links since the last search.
    by_links: u32,
    /// Links followed in this walk, and the one met when that was last a power of two: whoever walks in a circle, however
    /// wide, meets it again.
    steps: u32,
    landmark: Option<String>,
    /// Where the last search began, and how many sessions in a row have ended there.
    searched: Option<Timestamp>,
    ended_sessions: u32,
}

/// One page as the server sent it.
struct Page {
    /// In the server's order.
    rows: Vec<Row>,
    /// Matches in it, with those that cannot be used.
    matches: usize,
    next: Option<String>,
    asked: Echo,
    total: Option<u64>,
    server_time: Option<Timestamp>,
}

pub(super) struct Row {
    pub(super) id: ResourceId,
    version: Option<String>,
    content: String,
    pub(super) stamp: Option<Timestamp>,
    pub(super) json: Json,
}

/// What the `self` link says that the server understood; nothing if it has no `self` link.
#[derive(Default)]
struct Echo {
    names: Option<BTreeSet<String>>,
    count: Option<u32>,
}

impl FhirClient {
    pub(super) async fn page_of_changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        token: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        let question = Question {
            resource,
            since,
            of: None,
            elements: "id,meta",
            count: self.page,
            stand_in: content_version,
            by_content: true,
            asking: Asking::WORK,
        };
        let Walked { rows, unusable, next, server_time } = self.walk(&question, token).await?;
        // A row without a time of its own counts as changed now: better listed once too often than never.
        let now = server_time.unwrap_or_else(|| self.clock.now());
        let undated = rows.iter().filter(|row| row.stamp.is_none()).count();
        if undated > 0 || unusable > 0 {
            tracing::warn!(%resource, undated, unusable, "rows without meta.lastUpdated, or without a usable id");
        }
        let change = |row: Row| {
            let last_updated = row.stamp.unwrap_or(now);
            Change { version: row.version(), id: row.id, last_updated }
        };
        let mut changes: Vec<_> = rows.into_iter().map(change).collect();
        changes.sort_by(|a, b| (a.last_updated, &a.id).cmp(&(b.last_updated, &b.id)));
        Ok(Changes { changes, next, server_time })
    }

    /// The first page of a list, or the one that a token stands for.
    pub(super) async fn walk(&self, question: &Question<'_>, token: Option<&PageToken>) -> Result<Walked, Fault> {
        let mut place = match token {
            None => Place::start(question.since, question.count),
            Some(token) => Place::parse(token)?,
        };
        let (page, by_link) = match self.follow(question, &place).await? {
            Some(page) => (page, true),
            None => {
                if place.link.is_some() {
                    place.restart(self.flavour.max_page)?;
                }
                (self.first(question, &place).await?, false)
            }
        };
        if !self.flavour.by_day {
            page.check_filter(question.since)?;
        }
        let next = self.next(question, &place, &page, by_link)?;
        let unusable = (page.matches - page.rows.len()) as u64;
        let mut listed = place.listed;
        let rows = page.rows.into_iter().filter(|row| listed.insert(row.key())).collect();
        Ok(Walked { rows, unusable, next, server_time: page.server_time })
    }

    /// The page behind the server's own link; `None` if there is no link, or none that still leads anywhere.
    async fn follow(&self, question: &Question<'_>, place: &Place) -> Result<Option<Page>, Fault> {
        let Some(link) = &place.link else { return Ok(None) };
        let answer = self.call(&Call::Get(self.own(link)?), question.asking).await?;
        match answer.status {
            // Without an order there is no stamp to go on from: the walk begins anew.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE if self.flavour.sort => {
                let (resource, status) = (question.resource, answer.status.as_u16());
                tracing::info!(%resource, status, "a page session ended; going on from its last page");
                Ok(None)
            }
            _ => self.page(question, answer).map(Some),
        }
    }

    /// The first page from a place on.
    async fn first(&self, question: &Question<'_>, place: &Place) -> Result<Page, Fault> {
        let unversioned = question.by_content && self.unversioned.load(Ordering::Relaxed);
        let cut = self.flavour.elements && !unversioned;
        let page = self.page(question, self.search(question, place, cut).await?)?;
        if cut && question.by_content && page.rows.iter().any(|row| row.version.is_none()) {
            // Without versions the content has to tell, and that must be all of it.
            self.unversioned.store(true, Ordering::Relaxed);
            return self.page(question, self.search(question, place, false).await?);
        }
        Ok(page)
    }

    async fn search(&self, question: &Question<'_>, place: &Place, cut: bool) -> Result<Answer, Fault> {
        let mut parameters: Vec<_> = question.of.clone().into_iter().collect();
        if let Some(since) = place.since {
            let by_day = || format!("gt{}", self.day_before(since));
            let since = if self.flavour.by_day { by_day() } else { format!("ge{since:.3}") };
            parameters.push(("_lastUpdated", since));
        }
        if self.flavour.sort {
            parameters.push(("_sort", "_lastUpdated".to_owned()));
        }
        parameters.push(("_count", place.count.to_string()));
        if place.offset > 0 {
            parameters.push(("_offset", place.offset.to_string()));
        }
        if cut {
            parameters.push(("_elements", question.elements.to_owned()));
        }
        self.search_by(question.resource, parameters, question.asking).await
    }

    async fn search_by(
        &self,
        resource: &ResourceType,
        parameters: Vec<(&'static str, String)>,
        asking: Asking,
    ) -> Result<Answer, Fault> {
        let call = match self.flavour.search {
            SearchBy::Post => Call::Form(self.url(&format!("{resource}/_search"))?, parameters),
            SearchBy::Get => {
                let mut url = self.url(resource.as_str())?;
                url.query_pairs_mut().extend_pairs(parameters);
                Call::Get(url)
            }
        };
        self.call(&call, asking).await
    }

    /// Searches for any one id of a type. `None`: there is none yet.
    pub(super) async fn glance(&self, resource: &ResourceType) -> Result<Option<ResourceId>, Fault> {
        let mut parameters = vec![("_count", "1".to_owned())];
        if self.flavour.elements {
            parameters.push(("_elements", "id".to_owned()));
        }
        let answer = self.search_by(resource, parameters, Asking::WORK).await?;
        let (rows, _) = self.rows(resource, content_version, &mut bundle(&answer, self.clock.now())?);
        Ok(rows.into_iter().next().map(|row| row.id))
    }

    /// A next link, if it leads to the configured server. Otherwise neither token nor search goes there.
    pub(super) fn own(&self, link: &str) -> Result<Url, Fault> {
        let foreign = || Fault::new(Class::Stop, Code::ForeignPage).vendor("the next page is on another server");
        let url = self.base.join(link).map_err(|_| foreign())?;
        let own = url.origin() == self.base.origin() && url.username().is_empty() && url.password().is_none();
        if own { Ok(url) } else { Err(foreign()) }
    }

    fn page(&self, question: &Question<'_>, answer: Answer) -> Result<Page, Fault> {
        let mut bundle = bundle(&answer, self.clock.now())?;
        let (rows, matches) = self.rows(question.resource, question.stand_in, &mut bundle);
        let link = |relation: &str| {
            let links = bundle["link"].as_array()?;
            links.iter().find(|link| link["relation"] == relation)?["url"].as_str()
        };
        Ok(Page {
            rows,
            matches,
            next: link("next").map(str::to_owned),
            asked: link("self").map_or_else(Echo::default, |link| self.echo(link)),
            total: bundle["total"].as_u64(),
            server_time: answer.date().or_else(|| instant(&bundle["meta"]["lastUpdated"])),
        })
    }

    /// The rows of a list that can be used, and how many there are in all.
    fn rows(&self, resource: &ResourceType, stand_in: fn(&Json) -> String, bundle: &mut Json) -> (Vec<Row>, usize) {
        let (mut rows, mut matches) = (Vec::new(), 0);
        for entry in bundle["entry"].as_array_mut().into_iter().flatten() {
            // Includes and warnings about the search are no records.
            if entry["search"]["mode"].as_str().is_some_and(|mode| mode != "match") {
                continue;
            }
            matches += 1;
            rows.extend(Row::read(resource, self.flavour.pipes, stand_in, entry["resource"].take()));
        }
        (rows, matches)
    }

    fn echo(&self, link: &str) -> Echo {
        let Ok(url) = self.base.join(link) else { return Echo::default() };
        // A link without any parameter says nothing: after POST some servers name only the address.
        if url.query().is_none_or(str::is_empty) {
            return Echo::default();
        }
        let count = url.query_pairs().find(|(name, _)| name == "_count").and_then(|(_, count)| count.parse().ok());
        Echo { names: Some(url.query_pairs().map(|(name, _)| name.into_owned()).collect()), count }
    }

    fn next(
        &self,
        question: &Question<'_>,
        place: &Place,
        page: &Page,
        by_link: bool,
    ) -> Result<Option<PageToken>, Fault> {
        if self.flavour.trailing_page && page.matches == 0 {
            return Ok(None);
        }
        let brings_new = page.rows.iter().any(|row| !place.listed.contains(&row.key()));
        let empty_pages = if brings_new { 0 } else { place.empty_pages + 1 };
        let rows = u32::try_from(page.matches).unwrap_or(u32::MAX);
        let by_links = if by_link { place.by_links.saturating_add(rows) } else { rows };
        if let Some(link) = &page.next {
            self.own(link)?;
            if !by_link && self.flavour.sort && page.lacks("_sort") && !page.is_ordered() {
                return Err(ignored("_sort"));
            }
            if place.landmark.as_ref() == Some(link) || empty_pages > PATIENCE {
                return Err(Fault::new(Class::Retry, Code::EndlessPages).vendor("next links lead in a circle"));
            }
            let steps = place.steps.saturating_add(1);
            let landmark = if steps.is_power_of_two() { Some(link.clone()) } else { place.landmark.clone() };
            // Should the link expire: the oldest stamp, not the last, since a row that changes while the server
            // puts the page together may show a stamp that is ahead of its place.
            let oldest = page.rows.iter().filter_map(|row| row.stamp).min();
            let keys = page.rows.iter().map(Row::key);
            let next = match oldest {
                _ if !self.flavour.sort => {
                    Place { listed: place.listed.iter().cloned().chain(keys).collect(), ..place.clone() }
                }
                Some(oldest) => {
                    Place { since: Some(floor(oldest)), offset: 0, listed: keys.collect(), ..place.clone() }
                }
                None => place.clone(),
            };
            let next = Place { link: Some(link.clone()), empty_pages, by_links, steps, landmark, ..next };
            return Ok(Some(next.token()));
        }
        if by_link {
            let cut_off = self.flavour.link_limit.is_some_and(|limit| by_links >= limit);
            return if cut_off { self.go_on(question, place, page, place.count).map(Some) } else { Ok(None) };
        }
        let given = page.asked.count.map_or(place.count, |count| count.min(place.count)).max(1);
        // A total may count what we are not shown; it is believed only while it leads to anything.
        let total = page.total.filter(|_| !self.flavour.trailing_page);
        let total = total.map(|total| total.saturating_sub(u64::from(place.offset)));
        let more = match total {
            Some(total) if total <= u64::from(rows) => false,
            Some(_) if brings_new => true,
            _ => rows >= given,
        };
        if rows == 0 || !more {
            return Ok(None);
        }
        self.go_on(question, place, page, given).map(Some)
    }

    /// Where to search next on a server that gave no next link although there may be more.
    fn go_on(&self, question: &Question<'_>, place: &Place, page: &Page, given: u32) -> Result<PageToken, Fault> {
        if !self.flavour.sort || !page.is_ordered() {
            return Err(ignored("_sort"));
        }
        let stuck = |what: &str| Fault::new(Class::Stop, Code::Rejected).vendor(what);
        let Some(last) = page.rows.iter().filter_map(|row| row.stamp).next_back().map(floor) else {
            return Err(stuck("pages without next link and without meta.lastUpdated"));
        };
        let at_last = page.rows.iter().filter(|row| row.stamp.is_none_or(|stamp| stamp >= last)).map(Row::key);
        if place.since.is_none_or(|since| last > floor(since)) {
            let listed = at_last.collect();
            return Ok(Place { listed, ..Place::start(Some(last), question.count) }.token());
        }
        // The whole page shares one stamp.
        let listed = place.listed.iter().cloned().chain(at_last).collect();
        let here = Place { link: None, listed, ..place.clone() };
        if given >= place.count && place.count < self.flavour.max_page && place.offset == 0 {
            let count = place.count.saturating_mul(4).min(self.flavour.max_page);
            return Ok(Place { count, ..here }.token());
        }
        let offset = place.offset + u32::try_from(page.matches).unwrap_or(u32::MAX);
        match self.flavour.max_offset {
            Some(most) if offset <= most => Ok(Place { offset, ..here }.token()),
            _ => Err(stuck("more rows share one lastUpdated than a page can hold, and there is no next link")),
        }
    }
}

impl Place {
    fn start(since: Option<Timestamp>, count: u32) -> Self {
        let since = since.map(floor);
        Self {
            link: None,
            since,
            count,
            offset: 0,
            listed: BTreeSet::new(),
            empty_pages: 0,
            by_links: 0,
            steps: 0,
            landmark: None,
            searched: since,
            ended_sessions: 0,
        }
    }

    /// Leaves a link that leads nowhere. If the walk has not got past the stamp at which it began, it needs larger pages.
    fn restart(&mut self, max_page: u32) -> Result<(), Fault> {
        self.link = None;
        if self.since != self.searched {
            self.searched = self.since;
            self.ended_sessions = 0;
            return Ok(());
        }
        self.ended_sessions += 1;
        self.count = self.count.saturating_mul(4).min(max_page);
        if self.ended_sessions > PATIENCE {
            return Err(Fault::new(Class::Retry, Code::EndlessPages).vendor("next links that lead nowhere"));
        }
        Ok(())
    }

    fn token(&self) -> PageToken {
        PageToken(
            serde_json::to_string(self).expect("a place is plain text and numbers, which always have a JSON form"),
        )
    }

    fn parse(token: &PageToken) -> Result<Self, Fault> {
        serde_json::from_str(&token.0).map_err(|_| Fault::new(Class::Retry, Code::Unexpected).vendor("page token"))
    }
}

impl Page {
    /// Whether the `self` link shows that a parameter was not understood.
    fn lacks(&self, name: &str) -> bool {
        self.asked.names.as_ref().is_some_and(|names| !names.contains(name))
    }

    fn is_ordered(&self) -> bool {
        self.rows.iter().filter_map(|row| row.stamp).is_sorted()
    }

    /// Rows from before `since` mean that `_lastUpdated` was ignored, so that every poll would read everything. Less than a
    /// day may be a server that compares days, unless it says itself that it left the parameter out.
    fn check_filter(&self, since: Option<Timestamp>) -> Result<(), Fault> {
        let Some(since) = since.map(floor) else { return Ok(()) };
        let Some(oldest) = self.rows.iter().filter_map(|row| row.stamp).min() else { return Ok(()) };
        // A stamp shown to the second may stand for any moment in it.
        let early = since.duration_since(oldest);
        let tolerated = SignedDuration::from_secs(if self.lacks("_lastUpdated") { 1 } else { 86_400 });
        if early >= tolerated { Err(ignored("_lastUpdated")) } else { Ok(()) }
    }
}

impl Row {
    /// `None` for what is not a resource of the type, or has no id that could be asked for.
    fn read(resource: &ResourceType, pipes: bool, stand_in: fn(&Json) -> String, json: Json) -> Option<Self> {
        if json["resourceType"] != resource.as_str() {
            return None;
        }
        let id = piped::read(json["id"].as_str()?, pipes)?;
        let version = version(&json);
        let content = if version.is_some() { String::new() } else { stand_in(&json) };
        Some(Self { id, version, content, stamp: instant(&json["meta"]["lastUpdated"]), json })
    }

    pub(super) fn version(&self) -> String {
        self.version.clone().unwrap_or_else(|| self.content.clone())
    }

    fn key(&self) -> (String, String) {
        (self.id.to_string(), self.version())
    }
}

/// The list in an answer.
fn bundle(answer: &Answer, now: Timestamp) -> Result<Json, Fault> {
    if answer.status != StatusCode::OK {
        return Err(answer.fault(Asked::Search, now));
    }
    let bundle = answer.json()?;
    let garbled = |what: &str| Err(Fault::new(Class::Retry, Code::BadAnswer).vendor(what));
    if bundle["resourceType"] != "Bundle" {
        return garbled("HTTP 200, no Bundle");
    }
    // No list at all is an empty one; anything else must not be taken for one.
    let is_list = |name: &str| bundle[name].is_null() || bundle[name].is_array();
    if is_list("entry") && is_list("link") {
        Ok(bundle)
    } else {
        garbled("HTTP 200, a Bundle whose parts are of wrong types")
    }
}

fn ignored(parameter: &str) -> Fault {
    Fault::new(Class::Stop, Code::Rejected).vendor(format!("the server ignores {parameter}"))
}

pub(super) fn instant(json: &Json) -> Option<Timestamp> {
    json.as_str()?.parse().ok()
}

/// Down to the millisecond, which is what goes into a search: a stamp that was rounded up would leave out its own row.
fn floor(at: Timestamp) -> Timestamp {
    let milliseconds = at.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(milliseconds).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(at)
}
