//! A cursor's state that is larger than an item: thousands of changes within one overlap. It stands in parts beside its record, in a
//! partition of their own, which are written first; the record then names them in its commit.
//!
//! Parts carry the epoch of the lease that they were written under. Once a commit has named others, or none, those of earlier epochs are
//! nobody's and are deleted; what an heir of the lease has written meanwhile is of a later one.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use engine::{
    error::{Class, Code, Fault},
    key::{Kind, RecordKey},
    ledger::{Lease, Record},
};

use super::{
    DynamoLedger,
    item::{self, Item, number, text},
    list::Part,
    update::{Change, names},
};
use crate::adapters::aws::errors;

/// An item has room for 400 KB; this leaves some for all but the state.
pub(super) const LARGEST: usize = 380 * 1024;

/// How a state is written into its record: as it is, or as the name of its parts.
pub(super) struct Stored<'s> {
    pub(super) state: &'s str,
    pub(super) parts: Option<String>,
}

fn partition(key: &RecordKey) -> String {
    // No firm's id can hold a space.
    format!("{} parts", key.firm)
}

fn sort(key: &RecordKey, set: &str, number: usize) -> String {
    format!("{} {set} {number:05}", item::sort_key(key))
}

/// Pieces of a text, none of which ends within a character.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(LARGEST.min(text.len())));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

impl DynamoLedger {
    /// Writes the parts, if the state needs any. `mark` is this write's alone.
    pub(super) async fn store<'s>(&self, lease: &Lease, state: &'s str, mark: &str) -> Result<Stored<'s>, Fault> {
        if state.len() <= LARGEST {
            return Ok(Stored { state, parts: None });
        }
        if lease.key.kind != Kind::Cursor {
            return Err(Fault::new(Class::Permanent, Code::Rejected).on("the size of a record"));
        }
        let set = mark.replace(' ', "-");
        let pieces = pieces(state);
        for (place, piece) in pieces.iter().enumerate() {
            let at = [("firm", text(partition(&lease.key))), ("id", text(sort(&lease.key, &set, place)))];
            let change = Change::new("SET #piece = :piece, #epoch = :epoch");
            let change = change.value(":piece", text(piece)).value(":epoch", number(lease.epoch));
            let _ = self.update(self.tables.of(lease.key.kind), at, change).await?;
        }
        Ok(Stored { state: "", parts: Some(format!("{set} {}", pieces.len())) })
    }

    /// Puts the state together where it is in parts. If one is missing there is none: a cursor then begins from the start, which costs
    /// reads and loses nothing.
    pub(super) async fn assemble(&self, item: &Item, record: &mut Record) -> Result<(), Fault> {
        let Some((set, count)) = named(item)? else { return Ok(()) };
        super::lock(&self.in_parts).insert(record.key.clone());
        let (table, mut state) = (self.tables.of(record.key.kind), String::new());
        for place in 0..count {
            let at = [("firm", text(partition(&record.key))), ("id", text(sort(&record.key, &set, place)))];
            let at = at.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let call = self.client.get_item().table_name(table).consistent_read(true).set_key(Some(at));
            let answer = call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
            let answer = answer.map_err(|error| errors::of(&error, "dynamodb:GetItem", table))?;
            match answer.item.as_ref().map(|item| item::string(item, "piece")).transpose()?.flatten() {
                Some(piece) => state.push_str(piece),
                None => {
                    tracing::warn!(key = %record.key, "a part of the state is gone");
                    return Ok(());
                }
            }
        }
        record.state = state;
        Ok(())
    }

    /// Deletes parts of earlier epochs, after a commit. `more`: that commit has written new ones.
    pub(super) async fn tidy_parts(&self, lease: &Lease, more: bool) {
        if !more && !super::lock(&self.in_parts).contains(&lease.key) {
            return;
        }
        match self.delete_parts(lease).await {
            Ok(()) if !more => drop(super::lock(&self.in_parts).remove(&lease.key)),
            Ok(()) => {}
            Err(fault) => tracing::warn!(%fault, "old parts of a state are left for the next commit"),
        }
    }

    async fn delete_parts(&self, lease: &Lease) -> Result<(), Fault> {
        let (table, of) = (self.tables.of(lease.key.kind), partition(&lease.key));
        let begins = format!("{} ", item::sort_key(&lease.key));
        let part = Part { table, index: None, partition: ("firm", &of) };
        for entry in self.query(part, Some(("id", ">", text(&begins))), None).await? {
            let id = item::string(&entry, "id")?.cloned().unwrap_or_default();
            if !id.starts_with(&begins) {
                break;
            }
            let condition = "#epoch < :epoch";
            let call = self.client.delete_item().table_name(table).condition_expression(condition);
            let call = call.key("firm", text(&of)).key("id", AttributeValue::S(id));
            let call = call.set_expression_attribute_names(Some(names(&[condition])));
            let call = call.expression_attribute_values(":epoch", number(lease.epoch));
            if let Err(error) = call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await
                && !error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception())
            {
                return Err(errors::of(&error, "dynamodb:DeleteItem", table));
            }
        }
        Ok(())
    }
}

/// The set of parts that a record names, and how many there are.
fn named(item: &Item) -> Result<Option<(String, usize)>, Fault> {
    let Some(parts) = item::string(item, "parts")? else { return Ok(None) };
    let (set, count) = parts.split_once(' ').ok_or_else(|| item::unreadable("parts"))?;
    Ok(Some((set.to_owned(), count.parse().map_err(|_| item::unreadable("parts"))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_characters_and_lose_none() {
        let text = "ä€𝄞x".repeat(100_000);
        let pieces = pieces(&text);
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= LARGEST));
        assert_eq!(pieces.concat(), text);
    }
}
