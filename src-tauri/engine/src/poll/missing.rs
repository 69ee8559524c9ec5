//! Rows that were deleted. FileMaker keeps no trace of them, so the links are compared with the keys that are there.
//!
//! So many at once are more likely a wrong file, a wrong layout, a restored copy or an account that sees less than so many
//! decisions: then nothing follows from it until a person says so, or until the rows are back.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::{Deleted, Poller, Unfinished, source::Line};
use crate::{
    consumer::{Ask, Order},
    hint::Subject,
    key::{Kind, RecordKey, ResourceId},
    lease::HeldLease,
    ledger::Filter,
    link::{Ended, LinkState},
    reconcile::Wish,
    settings::Firm,
    status::Missing,
};

/// Links of one page of the ledger.
const PAGE: usize = 500;

impl Poller {
    /// Marks every link whose row is not among the keys that are `there`. `Some`: there were too many, and none was.
    pub(super) async fn look_for_missing(
        &self,
        firm: &Firm,
        there: &BTreeSet<String>,
        held: &HeldLease,
    ) -> Result<Option<Missing>, Unfinished> {
        let mut missing: Vec<ResourceId> = Vec::new();
        let mut links = 0_u64;
        // The least id there can be.
        let first = ResourceId::new("-").expect("a hyphen is an id");
        let mut after = RecordKey::link(self.firm.clone(), self.resource.clone(), first);
        loop {
            let page = self.reconciler.ledger.page(Filter::All, Some(&after), PAGE).await;
            let page = page.map_err(Unfinished::Storage)?;
            let ours =
                |key: &RecordKey| key.firm == self.firm && key.kind == Kind::Link && key.resource == self.resource;
            let full = page.len() == PAGE && page.last().is_some_and(|record| ours(&record.key));
            for record in page.iter().filter(|record| ours(&record.key)) {
                let state = LinkState::parse(&record.state, &self.reconciler.hasher);
                if state.row.is_none() || state.ended == Some(Ended::RowDeleted) {
                    continue;
                }
                links += 1;
                let settled = record.wanted.is_none() && record.dead.is_none();
                if settled && !there.contains(record.key.id.as_str()) {
                    missing.push(record.key.id.clone());
                }
            }
            if let Some(last) = page.last() {
                after = last.key.clone();
            }
            if !full {
                break;
            }
            if held.is_lost() {
                return Err(Unfinished::NotOurs);
            }
        }
        let count = missing.len() as u64;
        let said = self.calls.said_to_be_deleted();
        if said.is_none() && firm.brake.holds(count, links) {
            tracing::warn!(firm = %self.firm, resource = %self.resource, count, links, "too many rows are missing at once");
            return Ok(Some(Missing { rows: count, of: links }));
        }
        if let Some(Deleted { person }) = said {
            for id in missing {
                // Nobody waits for the answer.
                let (answer, _) = oneshot::channel();
                let ask = Ask { wish: Wish::Resync { person: person.clone() }, answer };
                let _ = self.orders.send(Order::Ask(self.key(&Subject::Resource(id)), ask)).await;
            }
            return Ok(None);
        }
        let line =
            |id: ResourceId| Line { subject: Subject::Resource(id), version: String::new(), at: None, stamp: None };
        let lines: Vec<Line> = missing.into_iter().map(line).collect();
        self.mark(&lines).await?;
        Ok(None)
    }
}
