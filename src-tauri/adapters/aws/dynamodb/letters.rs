//! Dead letters. A body may be larger than an item, so it stands beside its letter in parts, which are written first.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use engine::{error::Fault, ledger::DeadLetter};

use super::{
    DynamoLedger,
    item::{self, Item, number, text},
    update::Change,
};
use crate::adapters::aws::errors;

/// The partitions of the table.
const LETTERS: &str = "letter";
const PARTS: &str = "part";
const PART_BYTES: usize = 350 * 1024;

fn key(shelf: &str, id: impl ToString) -> [(&'static str, AttributeValue); 2] {
    [("shelf", text(shelf)), ("id", text(id))]
}

fn part(id: &str, number: usize) -> String {
    format!("{id} {number:04}")
}

impl DynamoLedger {
    pub(super) async fn bury_letter(&self, letter: DeadLetter) -> Result<(), Fault> {
        let table = &self.tables.letter;
        let parts: Vec<&[u8]> = letter.sealed_body.chunks(PART_BYTES).collect();
        for (number, bytes) in parts.iter().enumerate() {
            let body = AttributeValue::B(Blob::new(*bytes));
            // The first one of an id counts, here as for the letter itself.
            let change = Change::new("SET #body = if_not_exists(#body, :body)").value(":body", body);
            let _ = self.update(table, key(PARTS, part(&letter.id, number)), change).await?;
        }
        let change = Change::new("SET #code = :code, #reason = :reason, #first_seen = :first_seen, #parts = :parts")
            .value(":code", text(letter.code.as_str()))
            .value(":reason", text(&letter.reason))
            .value(":first_seen", item::time(letter.first_seen))
            .value(":parts", number(parts.len() as u64))
            .condition("attribute_not_exists(#code)");
        // Refused where it is buried already, by another delivery of it or by ourselves.
        let _ = self.update(table, key(LETTERS, &letter.id), change).await?;
        Ok(())
    }

    pub(super) async fn letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let mut letters = Vec::new();
        let mut after = None;
        while letters.len() < limit {
            let left = i32::try_from(limit - letters.len()).unwrap_or(i32::MAX);
            let call = self.client.query().table_name(&self.tables.letter).consistent_read(true).limit(left.min(1000));
            let call = call.key_condition_expression("#shelf = :shelf").expression_attribute_names("#shelf", "shelf");
            let call = call.expression_attribute_values(":shelf", text(LETTERS)).set_exclusive_start_key(after);
            let page = call.send().await;
            let page = page.map_err(|error| errors::of(&error, "dynamodb:Query", &self.tables.letter))?;
            for item in page.items() {
                letters.push(self.letter(item).await?);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        Ok(letters)
    }

    async fn letter(&self, item: &Item) -> Result<DeadLetter, Fault> {
        let id = item::string(item, "id")?.ok_or_else(|| item::unreadable("id"))?.clone();
        let mut sealed_body = Vec::new();
        for number in 0..usize::try_from(item::count(item, "parts")?).unwrap_or(0) {
            let table = &self.tables.letter;
            let at = key(PARTS, part(&id, number)).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let call = self.client.get_item().table_name(table).consistent_read(true).set_key(Some(at));
            let answer = call.send().await.map_err(|error| errors::of(&error, "dynamodb:GetItem", table))?;
            let body = answer.item.as_ref().and_then(|item| item.get("body")?.as_b().ok());
            sealed_body.extend_from_slice(body.ok_or_else(|| item::unreadable("body"))?.as_ref());
        }
        Ok(DeadLetter {
            id,
            code: item::code(item, "code")?.ok_or_else(|| item::unreadable("code"))?,
            reason: item::string(item, "reason")?.cloned().unwrap_or_default(),
            sealed_body,
            first_seen: item::moment(item, "first_seen")?.ok_or_else(|| item::unreadable("first_seen"))?,
        })
    }

    /// How many there are, counted over small items: the bodies stand elsewhere.
    pub(super) async fn count_letters(&self) -> Result<u64, Fault> {
        let of = super::list::Part { table: &self.tables.letter, index: None, partition: ("shelf", LETTERS) };
        Ok(self.query(of, None, None).await?.len() as u64)
    }

    pub(super) async fn forget_letter(&self, id: &str) -> Result<(), Fault> {
        let table = &self.tables.letter;
        let delete = |shelf, id: String| {
            let at = key(shelf, id).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            self.client.delete_item().table_name(table).set_key(Some(at))
        };
        let call = delete(LETTERS, id.to_owned()).return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld);
        let gone = call.send().await.map_err(|error| errors::of(&error, "dynamodb:DeleteItem", table))?;
        let parts = gone.attributes.as_ref().map(|item| item::count(item, "parts")).transpose()?.unwrap_or(0);
        for number in 0..usize::try_from(parts).unwrap_or(0) {
            let call = delete(PARTS, part(id, number)).send().await;
            call.map_err(|error| errors::of(&error, "dynamodb:DeleteItem", table))?;
        }
        Ok(())
    }
}
