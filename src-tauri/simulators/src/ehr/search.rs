//! Searches page by page, with totals of single pages and `next` links that never end; categories; capabilities.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::CATEGORY_SYSTEM;
use super::paths::{escaped, page};
use super::world::{World, error};
use crate::rest::call::Call;
use crate::rest::fault::{Fault, Struck};
use crate::rest::reply::Reply;
use crate::rest::search::{Query, Reading, encoded};
use crate::rest::store::{Id, Version};

/// Which searches there are: type, and the parameters it knows beside `_count` and `page`.
const SEARCHES: [(&str, &[&str]); 3] = [
    ("Encounter", &["_lastUpdated", "appointment", "date", "patient", "status"]),
    (
        "DocumentReference",
        &["patient", "category", "type", "description", "encounter", "identifier", "date", "requisition"],
    ),
    ("Patient", &["_lastUpdated", "birthdate", "family", "identifier"]),
];

impl World {
    pub(super) fn search(
        &mut self,
        call: &Call,
        firm: &str,
        kind: &str,
        struck: &Struck,
        now: Timestamp,
    ) -> Result<Reply, Reply> {
        let known = SEARCHES.iter().find(|(name, _)| *name == kind).map(|(_, known)| *known);
        let known = known.ok_or_else(|| error(404, "Not Found", call))?;
        let found = self.find(call, firm, kind, known, now)?;
        if struck.has(&Fault::PageExpired) {
            return Err(error(410, "Gone", call));
        }
        let page = page(call).max(1);
        let most =
            if kind == "DocumentReference" { self.behaviour.documents_page } else { self.behaviour.encounters_page };
        let size = call.value("_count").and_then(|count| count.parse().ok()).unwrap_or(most).clamp(1, most);
        let begin = (page - 1) * size;
        // As if a row had been put in front of the first page, or taken from it, since that page was fetched.
        let begin = match page {
            1 => 0,
            _ if struck.has(&Fault::PageOverlap) && begin <= found.len() => begin - 1,
            _ if struck.has(&Fault::PageSkip) => begin + 1,
            _ => begin,
        };
        let begin = begin.min(found.len());
        let end = (begin + size).min(found.len());
        let base = self.base(firm);
        let entries: Vec<Value> = found[begin..end]
            .iter()
            .map(|version| {
                let mut resource = self.shown(firm, version);
                if kind == "DocumentReference" {
                    subset(&mut resource);
                }
                json!({"fullUrl": format!("{base}/{kind}/{}", escaped(&version.id)), "resource": resource})
            })
            .collect();
        let exact = call.header("content-flag") == Some("Pagination_optimization_disabled");
        let more = if exact { end < found.len() } else { !entries.is_empty() || self.behaviour.next_after_end };
        let circle = struck.has(&Fault::NextInCircle);
        let elsewhere = struck.first(|fault| match fault {
            Fault::NextElsewhere(base) => Some(base.clone()),
            _ => None,
        });
        let address = |base: &str, page: usize| {
            let mut query: Vec<_> = call.query.iter().filter(|(name, _)| name != "page").cloned().collect();
            query.push(("page".into(), page.to_string()));
            format!("{base}/{kind}?{}", encoded(&query))
        };
        let mut links = vec![json!({"relation": "self", "url": address(&base, page)})];
        if more || circle {
            let next = if circle { 1 } else { page + 1 };
            links.push(json!({"relation": "next", "url": address(elsewhere.as_ref().unwrap_or(&base), next)}));
        }
        if exact {
            links.push(json!({"relation": "last", "url": address(&base, found.len().div_ceil(size).max(1))}));
        }
        let bundle = json!({
            "resourceType": "Bundle",
            "id": self.front.uuid(),
            "type": "searchset",
            "total": if exact { found.len() } else { entries.len() },
            "link": links,
            "entry": entries,
        });
        Ok(Reply::fhir(200, bundle.to_string()))
    }

    /// What a search finds, in the order in which it was first entered.
    fn find(
        &self,
        call: &Call,
        firm: &str,
        kind: &str,
        known: &[&str],
        now: Timestamp,
    ) -> Result<Vec<Arc<Version>>, Reply> {
        let bad = || error(400, "Bad Request", call);
        if kind == "DocumentReference" && call.value("patient").is_none() {
            return Err(bad());
        }
        let mut asked = Vec::new();
        let mut days = Vec::new();
        for (name, value) in call.query.iter().filter(|(name, _)| !matches!(name.as_str(), "_count" | "page")) {
            match name.as_str() {
                name if !known.contains(&name) => {
                    if self.behaviour.strict_parameters {
                        return Err(bad());
                    }
                }
                "_lastUpdated" => {
                    let (prefix, _) = day(value).ok_or_else(bad)?;
                    let value = if prefix == "gt" && self.behaviour.gt_includes_day {
                        value.replacen("gt", "ge", 1)
                    } else {
                        value.clone()
                    };
                    asked.push((name.clone(), value));
                }
                "date" => days.push(day(value).ok_or_else(bad)?),
                _ => asked.push((name.clone(), value.clone())),
            }
        }
        let offset = jiff::tz::offset(self.behaviour.local_offset_hours.clamp(-24, 24));
        let reading = Reading { now, offset, unknown: &std::collections::BTreeSet::new() };
        let query = Query::read(&asked, &reading).map_err(|_| bad())?;
        let Some(branch) = self.firms.get(firm) else { return Err(bad()) };
        let of_day = |version: &&Arc<Version>| {
            let date = version.content.as_ref().and_then(|content| {
                let resource = &content.value;
                let date = resource["date"].as_str().or(resource["period"]["start"].as_str())?;
                date.get(..10)?.parse::<Date>().ok()
            });
            days.iter().all(|(prefix, wanted)| match *prefix {
                "gt" => date.is_some_and(|date| date > *wanted),
                "le" => date.is_some_and(|date| date <= *wanted),
                _ => date == Some(*wanted),
            })
        };
        let mut ids: Vec<Id> = query.find(&branch.store, kind);
        ids.sort_by_key(|id| (number(id), Arc::clone(id)));
        let found = ids.iter().filter_map(|id| branch.store.indexed(kind, id, false)).filter(of_day);
        Ok(found.cloned().collect())
    }

    pub(super) fn categories(&self, firm: &str) -> Reply {
        let held = self.firms.get(firm).map(|branch| branch.firm.categories.clone()).unwrap_or_default();
        let mut set = json!({
            "resourceType": "ValueSet",
            "id": "document-category",
            "status": "active",
            "description": "Synthetic",
        });
        if self.behaviour.expanded {
            let codes: Vec<Value> = held
                .iter()
                .map(|(code, display)| json!({"system": CATEGORY_SYSTEM, "code": code, "display": display}))
                .collect();
            set["expansion"] = json!({"total": codes.len(), "contains": codes});
        } else {
            let codes: Vec<Value> =
                held.iter().map(|(code, display)| json!({"code": code, "display": display})).collect();
            set["compose"] = json!({"include": [{"system": CATEGORY_SYSTEM, "concept": codes}]});
        }
        Reply::fhir(200, set.to_string())
    }

    pub(super) fn capabilities(&self, firm: &str) -> Reply {
        let resource = |kind: &str, codes: &[&str], known: &[&str]| {
            json!({
                "type": kind,
                "interaction": codes.iter().map(|code| json!({"code": code})).collect::<Vec<_>>(),
                "versioning": "no-version",
                "searchParam": known.iter().map(|name| json!({"name": name, "type": parameter(name)})).collect::<Vec<_>>(),
            })
        };
        let mut resources: Vec<Value> =
            SEARCHES.iter().map(|(kind, known)| resource(kind, &["read", "search-type"], known)).collect();
        resources.push(resource("Composition", &["create"], &[]));
        resources.push(resource("ValueSet", &["read"], &[]));
        let statement = json!({
            "resourceType": "CapabilityStatement",
            "status": "active",
            "kind": "instance",
            "software": {"name": "Chart Relay EHR simulator, after EMA"},
            "implementation": {"description": "Synthetic data only", "url": self.base(firm)},
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json"],
            "rest": [{"mode": "server", "resource": resources}],
        });
        Reply::fhir(200, statement.to_string())
    }
}

/// Prefix and day of a date parameter: `gt`, `eq` or `le` and a date, and nothing else.
fn day(value: &str) -> Option<(&'static str, Date)> {
    let prefix = ["gt", "eq", "le"].into_iter().find(|prefix| value.starts_with(prefix))?;
    let date = &value[2..];
    (date.len() == 10).then(|| date.parse().ok().map(|date| (prefix, date)))?
}

fn parameter(name: &str) -> &'static str {
    match name {
        "_lastUpdated" | "birthdate" | "date" => "date",
        "appointment" | "encounter" | "patient" => "reference",
        "description" | "family" => "string",
        _ => "token",
    }
}

/// A hit of a search for documents: no content, and marked as cut.
fn subset(resource: &mut Value) {
    if let Some(fields) = resource.as_object_mut() {
        fields.shift_remove("content");
    }
    let mark = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"});
    match resource["meta"]["tag"].as_array_mut() {
        Some(tags) => tags.push(mark),
        None => resource["meta"]["tag"] = json!([mark]),
    }
}

/// The number in an id, by which rows are ordered.
fn number(id: &str) -> u64 {
    id.rsplit(['|', '-']).next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}
