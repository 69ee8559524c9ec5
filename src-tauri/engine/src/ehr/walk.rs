//! Walking the pages of a list, of which a server may say anything.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Unfinished, watcher::FirmWatch};
use crate::{
    error::{Class, Code, Fault},
    key::ResourceType,
    ports::{Document, Encounter, PageToken, Purpose, Wish},
};

/// A list with more pages has no end worth the name.
const PAGES: u64 = 20_000;

/// What is listed.
#[derive(Debug, Clone)]
pub(super) enum Of {
    Encounters(Option<Timestamp>),
    Documents(ResourceType, Wish),
}

/// One of both is empty.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) encounters: Vec<Encounter>,
    pub(super) documents: Vec<Document>,
}

#[derive(Debug)]
pub(super) struct Walk<'a> {
    watch: &'a FirmWatch,
    of: Of,
    purpose: Purpose,
    next: Option<PageToken>,
    met: BTreeSet<String>,
    over: bool,
    pub(super) requests: u64,
    pub(super) unusable: u64,
    /// Rows that were stamped later than the EHR's own clock.
    pub(super) ahead: u64,
    /// The EHR's clock at its *first* answer: what is stamped while we walk is for the next walk.
    pub(super) time: Option<Timestamp>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(watch: &'a FirmWatch, of: Of, purpose: Purpose) -> Self {
        let met = BTreeSet::new();
        Self { watch, of, purpose, next: None, met, over: false, requests: 0, unusable: 0, ahead: 0, time: None }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Page>, Unfinished> {
        if self.over {
            return Ok(None);
        }
        self.requests += 1;
        let page = self.next.take();
        let (page, (unusable, ahead), next, time) = match &self.of {
            Of::Encounters(since) => {
                let list = self.watch.serves.ehr.encounters(*since, page.as_ref(), self.purpose).await;
                let list = list.map_err(Unfinished::Fault)?;
                let page = Page { encounters: list.rows, ..Page::default() };
                (page, (list.unusable, list.ahead), list.next, list.server_time)
            }
            Of::Documents(resource, wish) => {
                let list = self.watch.serves.ehr.documents(resource, wish, page.as_ref(), self.purpose).await;
                let list = list.map_err(Unfinished::Fault)?;
                let page = Page { documents: list.rows, ..Page::default() };
                (page, (list.unusable, list.ahead), list.next, list.server_time)
            }
        };
        if let Some(time) = time {
            self.watch.hear(time);
        }
        self.time = self.time.or(time);
        self.unusable += unusable;
        self.ahead += ahead;
        let empty = page.encounters.is_empty() && page.documents.is_empty() && unusable == 0;
        match next {
            Some(_) if empty && self.watch.manners.trailing_page => self.over = true,
            Some(next) => {
                if !self.met.insert(next.0.clone()) || self.requests >= PAGES {
                    let fault = Fault::new(Class::Retry, Code::EndlessPages);
                    return Err(Unfinished::Fault(fault));
                }
                self.next = Some(next);
            }
            None => self.over = true,
        }
        Ok(Some(page))
    }
}
