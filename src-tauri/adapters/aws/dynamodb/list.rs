//! Finding records: what is due, what is held, pages, figures.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity};
use engine::{
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey},
    ledger::{Filter, Record, Survey},
    ports::Ledger as _,
};
use jiff::{SignedDuration, Timestamp};

use super::{
    DynamoLedger,
    item::{self, Item, text},
    lock,
    tables::{DUE, MARKED},
    update::names,
};
use crate::adapters::aws::errors;

/// Items of one batch of reads.
const READS: usize = 100;
const TRIES: u32 = 6;

/// One partition of a table or of one of its indexes.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) table: &'a str,
    pub(super) index: Option<&'a str>,
    /// Name of the partition key, and its value.
    pub(super) partition: (&'a str, &'a str),
}

/// A bound on the sort key: attribute, comparison, value.
type Bound<'a> = (&'a str, &'a str, AttributeValue);

impl DynamoLedger {
    /// All items of a part within a bound, in order of the sort key, or the first `limit` of them.
    pub(super) async fn query(
        &self,
        part: Part<'_>,
        bound: Option<Bound<'_>>,
        limit: Option<usize>,
    ) -> Result<Vec<Item>, Fault> {
        let (name, value) = part.partition;
        let mut condition = format!("#{name} = :partition");
        let mut values = HashMap::from([(":partition".to_owned(), text(value))]);
        if let Some((name, comparison, value)) = bound {
            condition.push_str(&format!(" AND #{name} {comparison} :bound"));
            values.insert(":bound".to_owned(), value);
        }
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let left = limit.map(|limit| i32::try_from(limit - items.len()).unwrap_or(i32::MAX));
            if left == Some(0) {
                return Ok(items);
            }
            let call = self
                .client
                .query()
                .table_name(part.table)
                .set_index_name(part.index.map(ToOwned::to_owned))
                // An index cannot be read that way.
                .consistent_read(part.index.is_none())
                .key_condition_expression(&condition)
                .set_expression_attribute_names(Some(names(&[&condition])))
                .set_expression_attribute_values(Some(values.clone()))
                .set_limit(left)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .set_exclusive_start_key(after);
            let page = call.send().await.map_err(|error| errors::of(&error, "dynamodb:Query", part.table))?;
            items.extend(page.items.unwrap_or_default());
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    pub(super) async fn look_for_due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        let horizon = SignedDuration::try_from(horizon).unwrap_or(SignedDuration::MAX);
        let too_far = now.saturating_add(horizon).unwrap_or(Timestamp::MAX);
        let of = async |kind: Kind| {
            let part = Part { table: self.tables.of(kind), index: Some(DUE), partition: ("due", firm.as_str()) };
            let at = |comparison, time| Some(("not_before", comparison, item::time(time)));
            let mut items = self.query(part, at(">", too_far), Some(limit)).await?;
            items.extend(self.query(part, at("<=", now), Some(limit.saturating_sub(items.len()))).await?);
            let due = items.iter().map(|item| {
                let first_seen = item::moment(item, "first_seen")?.unwrap_or(now);
                let not_before = item::moment(item, "not_before")?.unwrap_or(now);
                let rank = if not_before > too_far { Timestamp::MIN } else { not_before };
                Ok((rank, item::key_of(kind, item)?, first_seen))
            });
            due.collect::<Result<Vec<_>, Fault>>()
        };
        let found = futures::future::try_join_all(kinds.iter().map(|kind| of(*kind))).await?;
        let mut due: Vec<_> = found.into_iter().flatten().collect();
        due.sort_by_key(|(rank, ..)| *rank);
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, key, first_seen)| (key, first_seen)).collect())
    }

    /// The firms on the list, in order, and how many links each has.
    async fn listed_firms(&self) -> Result<Vec<(FirmId, u64)>, Fault> {
        let links = |(firm, item): (FirmId, Item)| Ok((firm, item::count(&item, "links")?));
        let mut firms = self.firm_list().await?.into_iter().map(links).collect::<Result<Vec<_>, Fault>>()?;
        firms.sort();
        Ok(firms)
    }

    /// The firms on the list, and the names of the stations that serve each.
    pub(super) async fn serving(&self) -> Result<Vec<(FirmId, Vec<String>)>, Fault> {
        let stations =
            |item: &Item| item.get("stations").and_then(|names| names.as_ss().ok()).cloned().unwrap_or_default();
        Ok(self.firm_list().await?.into_iter().map(|(firm, item)| (firm, stations(&item))).collect())
    }

    async fn firm_list(&self) -> Result<Vec<(FirmId, Item)>, Fault> {
        let mut firms = Vec::new();
        let mut after = None;
        loop {
            let table = &self.tables.firm;
            let call = self.client.scan().table_name(table).consistent_read(true).set_exclusive_start_key(after);
            let page = call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
            let page = page.map_err(|error| self.list_is_gone(errors::of(&error, "dynamodb:Scan", table)))?;
            for item in page.items.unwrap_or_default() {
                let name = item::string(&item, "firm")?.ok_or_else(|| item::unreadable("firm"))?;
                let firm = FirmId::new(name.clone()).map_err(|_| item::unreadable("firm"))?;
                firms.push((firm, item));
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(firms);
            }
        }
    }

    /// Reads records by their keys, in this order; those that are not there are left out.
    pub(super) async fn read_batches(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        let mut found = HashMap::new();
        for keys in keys.chunks(READS) {
            let mut asked: HashMap<String, KeysAndAttributes> = HashMap::new();
            for kind in Kind::ALL {
                let of_kind: Vec<Item> = keys
                    .iter()
                    .filter(|key| key.kind == kind)
                    .map(|key| item::key(key).into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                    .collect();
                if !of_kind.is_empty() {
                    let of_kind = KeysAndAttributes::builder().set_keys(Some(of_kind)).consistent_read(true);
                    asked.insert(self.tables.of(kind).to_owned(), of_kind.build().expect("keys are given"));
                }
            }
            for attempt in 1.. {
                let call = self.client.batch_get_item().set_request_items(Some(asked));
                let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
                let answer = call
                    .send()
                    .await
                    .map_err(|error| errors::of(&error, "dynamodb:BatchGetItem", &self.tables.link))?;
                let mut answers = answer.responses.unwrap_or_default();
                for kind in Kind::ALL {
                    for item in answers.remove(self.tables.of(kind)).unwrap_or_default() {
                        let record = item::record(kind, &item)?;
                        found.insert(record.key.clone(), record);
                    }
                }
                // What was too much at once is handed back.
                asked = answer.unprocessed_keys.unwrap_or_default();
                if asked.is_empty() {
                    break;
                }
                if attempt == TRIES {
                    return Err(Fault::new(Class::Wait(None), Code::Throttled).on("dynamodb:BatchGetItem"));
                }
                tokio::time::sleep(Duration::from_millis(50) * 2_u32.pow(attempt)).await;
            }
        }
        Ok(keys.iter().filter_map(|key| found.remove(key)).collect())
    }

    /// Every record whose lease is held, in order of key: those of the index, and those met.
    pub(super) async fn all_held(&self) -> Result<Vec<Record>, Fault> {
        let mut keys: Vec<RecordKey> = lock(&self.met).iter().filter(|key| key.kind.is_listed()).cloned().collect();
        for (firm, _) in self.listed_firms().await? {
            for kind in listed_kinds(Filter::Held) {
                let marked = self.marked(&firm, kind, None).await?;
                let held = marked.iter().filter(|item| item.contains_key("station"));
                keys.extend(held.map(|item| item::key_of(kind, item)).collect::<Result<Vec<_>, _>>()?);
            }
        }
        keys.sort();
        keys.dedup();
        let mut held = self.read_batches(&keys).await?;
        held.retain(|record| record.held.is_some());
        lock(&self.met).retain(|key| held.iter().any(|record| record.key == *key));
        Ok(held)
    }

    async fn marked(&self, firm: &FirmId, kind: Kind, after: Option<String>) -> Result<Vec<Item>, Fault> {
        let part = Part { table: self.tables.of(kind), index: Some(MARKED), partition: ("marked", firm.as_str()) };
        self.query(part, after.map(|after| ("id", ">", text(after))), None).await
    }

    pub(super) async fn list(
        &self,
        filter: Filter,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<Record>, Fault> {
        if filter == Filter::Held {
            let mut held = self.all_held().await?;
            held.retain(|record| after.is_none_or(|after| record.key > *after));
            held.truncate(limit);
            return Ok(held);
        }
        let mut page = Vec::new();
        for (firm, _) in self.listed_firms().await? {
            for kind in listed_kinds(filter) {
                if page.len() >= limit {
                    return Ok(page);
                }
                // Where to begin in this table.
                let from = match after {
                    Some(after) if (&firm, kind) < (&after.firm, after.kind) => continue,
                    Some(after) if (&firm, kind) == (&after.firm, after.kind) => Some(item::sort_key(after)),
                    _ => None,
                };
                page.extend(self.list_part(filter, &firm, kind, from, limit - page.len()).await?);
            }
        }
        Ok(page)
    }

    async fn list_part(
        &self,
        filter: Filter,
        firm: &FirmId,
        kind: Kind,
        from: Option<String>,
        limit: usize,
    ) -> Result<Vec<Record>, Fault> {
        let table = self.tables.of(kind);
        let bound = from.clone().map(|from| ("id", ">", text(from)));
        let candidates = match filter {
            Filter::All => {
                let part = Part { table, index: None, partition: ("firm", firm.as_str()) };
                let items = self.query(part, bound, Some(limit)).await?;
                return items.iter().map(|item| item::record(kind, item)).collect();
            }
            // That index is in order of time, so all of it is looked at.
            Filter::Wanted => {
                let part = Part { table, index: Some(DUE), partition: ("due", firm.as_str()) };
                self.query(part, None, None).await?
            }
            Filter::Held | Filter::Dead | Filter::Noticed => self.marked(firm, kind, from.clone()).await?,
        };
        let keys = candidates.iter().filter(|item| is_listed(filter, item)).map(|item| item::key_of(kind, item));
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
        keys.sort();
        keys.retain(|key| from.as_ref().is_none_or(|from| item::sort_key(key) > *from));
        let mut page: Vec<Record> = Vec::new();
        for keys in keys.chunks(READS) {
            // The index may be a moment behind: the record itself decides.
            let records = self.read_batches(keys).await?;
            page.extend(records.into_iter().filter(|record| match filter {
                Filter::All => true,
                Filter::Wanted => record.wanted.is_some() && record.dead.is_none(),
                Filter::Held => record.held.is_some(),
                Filter::Dead => record.dead.is_some(),
                Filter::Noticed => record.notice.is_some(),
            }));
            if page.len() >= limit {
                break;
            }
        }
        page.truncate(limit);
        Ok(page)
    }

    /// As the indexes have it, which may be a moment ago.
    pub(super) async fn count_listed(&self, filter: Filter) -> Result<u64, Fault> {
        if filter == Filter::Held {
            return Ok(self.all_held().await?.len() as u64);
        }
        let mut count = 0;
        for (firm, _) in self.listed_firms().await? {
            for kind in listed_kinds(filter) {
                let (index, name) = match filter {
                    Filter::All => (None, "firm"),
                    Filter::Wanted => (Some(DUE), "due"),
                    Filter::Held | Filter::Dead | Filter::Noticed => (Some(MARKED), "marked"),
                };
                let part = Part { table: self.tables.of(kind), index, partition: (name, firm.as_str()) };
                let items = self.query(part, None, None).await?;
                count += items.iter().filter(|item| is_listed(filter, item)).count() as u64;
            }
        }
        Ok(count)
    }

    /// The figures, and how much work it was to get them, in pages of an index.
    pub(super) async fn count_all(&self) -> Result<(Survey, u32), Fault> {
        /// About what fits into the megabyte that one query reads.
        const PAGE: usize = 5_000;
        let mut survey = Survey { dead: self.count_letters().await?, ..Survey::default() };
        let left: Vec<RecordKey> = lock(&self.left).iter().cloned().collect();
        let mut items = 0;
        let mut indexed = BTreeSet::new();
        for (firm, links) in self.listed_firms().await? {
            survey.records += links;
            let (mut wanted, mut marked) = (Vec::new(), Vec::new());
            for kind in Kind::ALL.into_iter().filter(|kind| kind.is_run()) {
                let part = Part { table: self.tables.of(kind), index: Some(DUE), partition: ("due", firm.as_str()) };
                let (due, told) = (self.query(part, None, None).await?, self.marked(&firm, kind, None).await?);
                for item in due.iter().chain(&told) {
                    indexed.insert(item::key_of(kind, item)?);
                }
                wanted.extend(due);
                marked.extend(told);
            }
            items += wanted.len() + marked.len();
            survey.wanted += wanted.len() as u64;
            for item in &wanted {
                let first_seen = item::moment(item, "first_seen")?;
                survey.oldest_wanted = [survey.oldest_wanted, first_seen].into_iter().flatten().min();
            }
            let with = |name| marked.iter().filter(|item| item.contains_key(name)).count() as u64;
            survey.noticed += with("notice");
            let torn = |item: &&Item| matches!(item::code(item, "notice"), Ok(Some(Code::Conflict)));
            survey.conflicts += marked.iter().filter(torn).count() as u64;
            survey.dead +=
                marked.iter().filter(|item| item.contains_key("dead") && !item::is(item, "set_aside")).count() as u64;
        }
        // What we left ourselves counts, whether the indexes have it yet or not.
        let behind = left.iter().filter(|key| !indexed.contains(key)).cloned().collect::<Vec<_>>();
        let behind = self.read_all(&behind).await?;
        for Record { wanted, dead, .. } in &behind {
            survey.wanted += u64::from(wanted.is_some() && dead.is_none());
            survey.dead += u64::from(dead.is_some_and(|dead| !dead.set_aside));
            survey.oldest_wanted =
                [survey.oldest_wanted, wanted.map(|wanted| wanted.first_seen)].into_iter().flatten().min();
        }
        let still =
            |key: &RecordKey| behind.iter().any(|one| one.key == *key && (one.wanted.is_some() || one.dead.is_some()));
        lock(&self.left).retain(|key| !left.contains(key) || still(key));
        survey.held = self.all_held().await?.len() as u64;
        Ok((survey, u32::try_from(items / PAGE).unwrap_or(u32::MAX).saturating_add(1)))
    }
}

/// Of which kinds a filter lists records.
fn listed_kinds(filter: Filter) -> impl Iterator<Item = Kind> {
    let all = matches!(filter, Filter::All | Filter::Held);
    Kind::ALL.into_iter().filter(move |kind| kind.is_run() || all && kind.is_listed())
}

/// Whether an item, of the index that a filter looks into, is one that it lists.
fn is_listed(filter: Filter, item: &Item) -> bool {
    match filter {
        Filter::All | Filter::Wanted => true,
        Filter::Held => item.contains_key("station"),
        Filter::Dead => item.contains_key("dead"),
        Filter::Noticed => item.contains_key("notice"),
    }
}
