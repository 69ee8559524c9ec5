//! One conditional update of one item, put together from parts.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use engine::{
    error::{Code, Fault},
    key::FirmId,
    ledger::Wanted,
};
use jiff::Timestamp;

use super::{
    DynamoLedger,
    item::{Item, text, time, yes},
};
use crate::adapters::aws::errors;

/// What an update does and on what condition. Attributes are written `#name`, values `:name`.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// Begins with a SET, ADD or other clause; further assignments and removals are added to it.
    expression: String,
    set: Vec<String>,
    remove: Vec<String>,
    condition: Option<String>,
    values: BTreeMap<String, AttributeValue>,
}

impl Change {
    pub(super) fn new(expression: &str) -> Self {
        Self { expression: expression.to_owned(), ..Self::default() }
    }

    pub(super) fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    pub(super) fn condition(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    pub(super) fn remove(mut self, names: &str) -> Self {
        self.remove.push(names.to_owned());
        self
    }

    fn set(mut self, name: &str, value: AttributeValue) -> Self {
        self.set.push(format!("#{name} = :{name}"));
        self.value(&format!(":{name}"), value)
    }

    pub(super) fn set_or_remove(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self.remove(&format!("#{name}")),
        }
    }

    /// Sets or removes the mark, and with it the entry in the index of what is due.
    pub(super) fn wanted(self, firm: &FirmId, wanted: Option<&Wanted>) -> Self {
        self.set_or_remove("due", wanted.map(|_| text(firm)))
            .set_or_remove("first_seen", wanted.map(|wanted| time(wanted.first_seen)))
            .set_or_remove("not_before", wanted.map(|wanted| time(wanted.not_before)))
            .set_or_remove("waits_for", wanted.and_then(|wanted| wanted.waits_for).map(|code| text(code.as_str())))
    }

    pub(super) fn dead(self, code: Option<Code>, since: Timestamp) -> Self {
        self.set_or_remove("dead", code.map(|code| text(code.as_str())))
            .set_or_remove("dead_since", code.map(|_| time(since)))
            .set_or_remove("set_aside", code.map(|_| yes(false)))
    }

    pub(super) fn notice(self, code: Option<Code>) -> Self {
        self.set_or_remove("notice", code.map(|code| text(code.as_str())))
    }

    /// Where the state stands, if not in the record.
    pub(super) fn parts(self, parts: Option<String>) -> Self {
        self.set_or_remove("parts", parts.map(text))
    }

    /// The entry in the index of what a person may look for.
    pub(super) fn marked(self, firm: Option<&FirmId>) -> Self {
        self.set_or_remove("marked", firm.map(text))
    }

    /// Each clause may stand there once only.
    fn text(&self) -> String {
        let mut clauses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut clause = "SET";
        let mut words = Vec::new();
        let mut flush = |clause: &'static str, words: &mut Vec<&str>| {
            if !words.is_empty() {
                clauses.entry(clause).or_default().push(words.join(" "));
                words.clear();
            }
        };
        for word in self.expression.split_whitespace() {
            let next = match word {
                "SET" => "SET",
                "ADD" => "ADD",
                "REMOVE" => "REMOVE",
                "DELETE" => "DELETE",
                _ => {
                    words.push(word);
                    continue;
                }
            };
            flush(clause, &mut words);
            clause = next;
        }
        flush(clause, &mut words);
        clauses.entry("SET").or_default().extend(self.set.iter().cloned());
        clauses.entry("REMOVE").or_default().extend(self.remove.iter().cloned());
        let clauses = clauses.into_iter().filter(|(_, parts)| !parts.is_empty());
        clauses.map(|(clause, parts)| format!("{clause} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
    }
}

/// The attributes that expressions name: all by placeholders, since many plain words are reserved.
pub(super) fn names(expressions: &[&str]) -> HashMap<String, String> {
    let mut names = HashMap::new();
    for part in expressions.iter().flat_map(|expression| expression.split('#').skip(1)) {
        let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(part.len());
        names.insert(format!("#{}", &part[..end]), part[..end].to_owned());
    }
    names
}

impl DynamoLedger {
    /// The item after the change, or, where the condition is refused, as it is.
    pub(super) async fn update<const N: usize>(
        &self,
        table: &str,
        key: [(&str, AttributeValue); N],
        change: Change,
    ) -> Result<Result<Item, Option<Item>>, Fault> {
        let expression = change.text();
        let condition = change.condition.clone().unwrap_or_default();
        let call = self
            .client
            .update_item()
            .table_name(table)
            .set_key(Some(key.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
            .set_expression_attribute_names(Some(names(&[&expression, &condition])))
            .set_expression_attribute_values(
                Some(change.values.into_iter().collect()).filter(|all: &HashMap<_, _>| !all.is_empty()),
            )
            .set_condition_expression(change.condition)
            .update_expression(expression)
            .return_values(ReturnValue::AllNew)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match call.send().await {
            Ok(answer) => Ok(Ok(answer.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(
                    refused,
                )) => Ok(Err(refused.item.clone().filter(|item| !item.is_empty()))),
                _ => Err(errors::of(&error, "dynamodb:UpdateItem", table)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clause_stands_once() {
        let firm = FirmId::new("north").unwrap();
        let change =
            Change::new("SET #state = :state ADD #epoch :one").remove("#boot").marked(Some(&firm)).notice(None);
        assert_eq!(change.text(), "ADD #epoch :one REMOVE #boot, #notice SET #state = :state, #marked = :marked");
        assert_eq!(Change::new("DELETE #stations :us").text(), "DELETE #stations :us");
        let names = names(&[&change.text()]);
        assert_eq!(names.len(), 5);
        assert_eq!(names["#state"], "state");
    }
}
