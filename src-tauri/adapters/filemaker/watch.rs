//! The doctor's look at whether the clinic's own changes can be found: two fields of each table, what enters them, and what they hold.
//! A table that cannot be watched is still written to, so nothing in here is worse than a notice, except fields of a wrong kind.

use engine::{
    error::{Class, Code, Fault},
    row::{ChangeFields, FieldType, Table},
};
use jiff::{SignedDuration, civil::DateTime, tz::TimeZone};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{
    FileMaker,
    check::{failed, fits, placed},
    client::Answer,
    errors::Kind,
    rows::moment,
};
use crate::adapters::doctor::Step;

/// How far a time stamp may be ahead of the host's clock: an answer travels, and its time is cut to the second.
pub(super) const AHEAD: SignedDuration = SignedDuration::from_secs(120);

impl FileMaker {
    /// One step for each table that the configuration wants watched, after [`FileMaker::diagnose`] found nothing wrong. `zone` is
    /// the clinic's.
    pub async fn diagnose_changes(&self, tables: &[Table], zone: &TimeZone) -> Vec<Step> {
        let mut steps = Vec::new();
        for table in tables {
            let name = format!("changes {}", table.layout);
            steps.push(match &table.changes {
                None => {
                    Step::skipped(name, "the mapping names no fields for changes, so nothing of it goes to the chart")
                }
                Some(fields) => match self.watchable(&name, table, fields, zone).await {
                    Ok(step) => step,
                    Err(fault) => failed(&name, fault),
                },
            });
        }
        steps
    }

    async fn watchable(
        &self,
        name: &str,
        table: &Table,
        fields: &ChangeFields,
        zone: &TimeZone,
    ) -> Result<Step, Fault> {
        let metadata = self.pool.call(self.call(Kind::Read, Method::GET, &table.layout, &[], None)).await?.response;
        let placed = placed(&metadata);
        let missing: Vec<String> = [(&fields.uuid, UUID), (&fields.modified, MODIFIED)]
            .into_iter()
            .filter(|(field, _)| !placed.contains_key(*field))
            .map(|(field, how)| format!("{field} ({how})"))
            .collect();
        if !missing.is_empty() {
            let note = format!(
                "Until the layout has {}, what the clinic changes here does not go to the chart. docs/mapping.md shows each step.",
                missing.join(" and ")
            );
            return Ok(Step::warned(name, note));
        }
        for (field, kind, how) in
            [(&fields.uuid, FieldType::Text, UUID), (&fields.modified, FieldType::DateTime, MODIFIED)]
        {
            let Some(as_is) = placed.get(field).filter(|as_is| !fits(kind, &as_is.result) || as_is.computed) else {
                continue;
            };
            let what = if as_is.computed { "is calculated" } else { "is of another type" };
            let fault = Fault::new(Class::Stop, Code::ValueUnmappable).on(format!("{}::{field}", table.layout));
            return Ok(Step::failed(name, fault, format!("{field} {what}. It must be: {how}.")));
        }
        let mut remarks = Vec::new();
        for (field, how) in [(&fields.uuid, UUID), (&fields.modified, MODIFIED)] {
            if placed.get(field).is_some_and(|as_is| !as_is.auto_enter) {
                remarks.push(format!("{field} is not entered by itself. It must be: {how}."));
            }
        }
        let nameless = self.some(table, json!({ &fields.uuid: "=" }), None).await?.response;
        let nameless = nameless.pointer("/dataInfo/foundCount").map(|count| count.to_string());
        if let Some(count) = nameless.as_deref().map(|count| count.trim_matches('"')).filter(|count| *count != "0") {
            remarks.push(format!(
                "{count} rows have no {}, so their changes are not found. Find them, then Replace Field Contents with Get ( UUID ).",
                fields.uuid
            ));
        }
        let newest = self.some(table, json!({ &fields.modified: "*" }), Some(&fields.modified)).await?;
        if let Some(ahead) = ahead(&newest, &fields.modified, zone) {
            remarks.push(format!(
                "The newest {} is {} s ahead of the host's clock: it is entered by the clock of a computer at a desk, or time-zone is not \
                 the host's. Changes are found late then, at the hourly comparison. It must be: {MODIFIED}.",
                fields.modified,
                ahead.as_secs()
            ));
        }
        Ok(if remarks.is_empty() {
            Step::passed(name, format!("{} and {}", fields.uuid, fields.modified))
        } else {
            Step::warned(name, remarks.join(" "))
        })
    }

    /// One of the rows that a criterion finds, the last by this field.
    async fn some(&self, table: &Table, criterion: Json, last_by: Option<&str>) -> Result<Answer, Fault> {
        let mut body = json!({ "query": [criterion], "limit": "1" });
        if let Some(field) = last_by {
            body["sort"] = json!([{ "fieldName": field, "sortOrder": "descend" }]);
        }
        self.pool.call(self.call(Kind::Find, Method::POST, &table.layout, &["_find"], Some(body))).await
    }
}

const UUID: &str = "a Text field, Auto-Enter Calculated value Get ( UUID ), indexed";
const MODIFIED: &str = "a Timestamp field, Auto-Enter Calculated value Let ( t = the modification timestamp ; Get ( \
    CurrentHostTimestamp ) ), without \"Do not replace existing value\", indexed";

/// By how much the newest time stamp is ahead of the host's clock, if that is too much.
fn ahead(newest: &Answer, field: &str, zone: &TimeZone) -> Option<SignedDuration> {
    let values: &Map<String, Json> = newest.response.pointer("/data/0/fieldData")?.as_object()?;
    let stamp: DateTime = moment(values.get(field)?)?;
    // Of two instants that look alike when clocks go back, the earlier.
    let stamp = zone.to_ambiguous_timestamp(stamp).earlier().ok()?;
    let ahead = stamp.duration_since(newest.host_time?);
    (ahead > AHEAD).then_some(ahead)
}
