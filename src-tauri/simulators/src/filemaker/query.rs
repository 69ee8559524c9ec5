//! Reading: parameters of `_find` and range calls, the found set, its order and page.
//!
//! Facts: sheet sections 5.1, 8.2, 10, 11. Underscored names in the query string, plain ones in the body, the wrong kind 960
//! naming them [DOC/ISS]; limit 100, offset 1 [DOC]; criteria of an object are AND, objects are OR, `"omit":"true"` takes away
//! from what precedes [DOC]; no match 500 with code 401 [DOC/SRC]; empty criteria 400 [DOC].
//! Ours [GEN]: an omit that comes first takes away from all records; without `sort` creation order; offset or limit 0 is 960.

use super::answer::Refused;
use super::criterion::{Criterion, Literals};
use super::host::Unsettled;
use super::table::Table;
use super::value::Key;
use serde_json::{Map, Value as Json};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Names and parameters of up to three scripts of one call.
#[derive(Debug, Default, Clone)]
pub(super) struct Scripts {
    pub(super) before: Option<(String, String)>,
    pub(super) presort: Option<(String, String)>,
    pub(super) after: Option<(String, String)>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Asked {
    pub(super) limit: Option<usize>,
    pub(super) offset: Option<usize>,
    pub(super) sort: Vec<(String, String)>,
    pub(super) dateformats: u8,
    pub(super) output: Option<String>,
    pub(super) scripts: Scripts,
}

/// Takes the parameters a call may have, and complains about all others at once.
pub(super) struct Parameters<'a> {
    given: Vec<(&'a str, Json)>,
}

impl<'a> Parameters<'a> {
    pub(super) fn of_query(query: &'a [(String, String)]) -> Self {
        Self { given: query.iter().map(|(name, value)| (name.as_str(), Json::String(value.clone()))).collect() }
    }

    pub(super) fn of_body(body: &'a Map<String, Json>) -> Self {
        Self { given: body.iter().map(|(name, value)| (name.as_str(), value.clone())).collect() }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.given.iter().position(|(given, _)| *given == name)?;
        Some(self.given.remove(at).1)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(Json::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(invalid(name)),
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<usize>, Refused> {
        self.text(name)?
            .map(|text| text.parse().ok().filter(|count| *count > 0).ok_or_else(|| invalid(name)))
            .transpose()
    }

    fn script(&mut self, name: &str) -> Result<Option<(String, String)>, Refused> {
        let script = self.text(name)?;
        let param = self.text(&format!("{name}.param"))?;
        Ok(script.map(|script| (script, param.unwrap_or_default())))
    }

    pub(super) fn scripts(&mut self) -> Result<Scripts, Refused> {
        Ok(Scripts {
            before: self.script("script.prerequest")?,
            presort: self.script("script.presort")?,
            after: self.script("script")?,
        })
    }

    pub(super) fn dateformats(&mut self) -> Result<u8, Refused> {
        match self.text("dateformats")?.as_deref() {
            None | Some("0") => Ok(0),
            Some("1") => Ok(1),
            Some("2") => Ok(2),
            Some(_) => Err(invalid("dateformats")),
        }
    }

    /// What reading calls take; `mark` is `_` in a query string and nothing in a body.
    pub(super) fn reading(mut self, mark: &str, paged: bool) -> Result<Asked, Refused> {
        let mut asked = Asked {
            dateformats: self.dateformats()?,
            output: self.text("layout.response")?,
            scripts: self.scripts()?,
            ..Asked::default()
        };
        if paged {
            asked.limit = self.count(&format!("{mark}limit"))?;
            asked.offset = self.count(&format!("{mark}offset"))?;
            if let Some(sort) = self.take(&format!("{mark}sort")) {
                asked.sort = sorts(sort).ok_or_else(|| invalid("sort"))?;
            }
        }
        // Layouts here have no portals: which of them to send is read and has no effect.
        self.take("portal");
        let portals = [format!("{mark}limit."), format!("{mark}offset.")];
        self.given.retain(|(name, _)| !portals.iter().any(|portal| name.starts_with(portal.as_str())));
        self.nothing_left()?;
        Ok(asked)
    }

    pub(super) fn nothing_left(self) -> Result<(), Refused> {
        if self.given.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.given.iter().map(|(name, _)| *name).collect();
        Err(Refused::with(960, format!("Unknown parameter(s): {}", names.join(", "))))
    }
}

fn invalid(name: &str) -> Refused {
    Refused::with(960, format!("Parameter is invalid: {name}"))
}

fn sorts(json: Json) -> Option<Vec<(String, String)>> {
    // In a query string the array comes as text.
    let json = match json {
        Json::String(text) => serde_json::from_str(&text).ok()?,
        other => other,
    };
    json.as_array()?
        .iter()
        .map(|entry| {
            let order = entry.get("sortOrder").map_or(Some("ascend"), Json::as_str)?;
            Some((entry.get("fieldName")?.as_str()?.to_owned(), order.to_owned()))
        })
        .collect()
}

/// Evaluates the `query` of a `_find`; `visible` are the fields placed on the layout.
pub(super) fn find(
    table: &Table,
    visible: &[usize],
    query: Option<&Json>,
    literals: Literals,
) -> Result<BTreeSet<u64>, Refused> {
    let query = query.ok_or_else(|| Refused::from(958))?.as_array().ok_or_else(|| invalid("query"))?;
    let mut found: Option<BTreeSet<u64>> = None;
    if query.is_empty() {
        return Err(400.into());
    }
    for request in query {
        let request = request.as_object().ok_or_else(|| invalid("query"))?;
        let mut omit = false;
        let mut criteria = Vec::new();
        for (name, value) in request {
            let text = match value {
                Json::String(text) => text.clone(),
                Json::Number(number) => number.to_string(),
                _ => return Err(invalid("query")),
            };
            if name == "omit" {
                omit = match text.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(invalid("omit")),
                };
                continue;
            }
            let at = table.field(name).filter(|at| visible.contains(at)).ok_or(102)?;
            if !text.is_empty() {
                criteria.push((at, Criterion::read(&text, table.fields[at].result, literals)?));
            }
        }
        if criteria.is_empty() {
            return Err(400.into());
        }
        let hits = matching(table, &criteria);
        found = Some(match (found, omit) {
            (None, false) => hits,
            (None, true) => table.ids().filter(|id| !hits.contains(id)).collect(),
            (Some(mut found), false) => {
                found.extend(hits);
                found
            }
            (Some(mut found), true) => {
                found.retain(|id| !hits.contains(id));
                found
            }
        });
    }
    match found {
        Some(found) if !found.is_empty() => Ok(found),
        _ => Err(401.into()),
    }
}

fn matching(table: &Table, criteria: &[(usize, Criterion)]) -> BTreeSet<u64> {
    let met = |id: &u64| {
        table.row(*id).is_some_and(|row| {
            criteria.iter().all(|(at, criterion)| {
                let value = table.value(row, *at);
                criterion.met_by(&value, || table.held_twice(*at, *id, &value))
            })
        })
    };
    let candidates = criteria
        .iter()
        .filter_map(|(at, criterion)| table.indexed(*at, criterion.stretch()?))
        .min_by_key(BTreeSet::len);
    match candidates {
        Some(ids) => ids.into_iter().filter(met).collect(),
        None => table.ids().filter(met).collect(),
    }
}

/// Sorts and cuts the page.
pub(super) fn page(
    table: &Table,
    visible: &[usize],
    found: BTreeSet<u64>,
    asked: &Asked,
    unsettled: &Unsettled,
) -> Result<Vec<u64>, Refused> {
    let mut orders = Vec::new();
    for (name, order) in &asked.sort {
        let at = table.field(name).filter(|at| visible.contains(at)).ok_or(102)?;
        let list = match order.as_str() {
            "ascend" | "descend" => None,
            name => match &table.fields[at].value_list {
                Some((list, values)) if list == name => Some(values),
                _ => return Err(404.into()),
            },
        };
        orders.push((at, order == "descend", list));
    }
    let total = found.len();
    let first = asked.offset.unwrap_or(1) - 1;
    let past_end = if total == 0 { asked.offset.is_some() || !unsettled.empty_range_is_empty } else { first >= total };
    if past_end && unsettled.past_end_is_101 {
        return Err(101.into());
    }
    let limit = asked.limit.unwrap_or(100);
    if orders.is_empty() {
        return Ok(found.into_iter().skip(first).take(limit).collect());
    }
    let keys = |id: u64| -> Vec<(usize, Key)> {
        let Some(row) = table.row(id) else { return Vec::new() };
        orders
            .iter()
            .map(|(at, _, list)| {
                let value = table.value(row, *at);
                let text = || value.text(super::value::DateFormat::US);
                let rank = list.map_or(0, |list| list.iter().position(|entry| *entry == text()).unwrap_or(list.len()));
                (rank, value.key())
            })
            .collect()
    };
    let mut keyed: Vec<(Vec<(usize, Key)>, u64)> = found.into_iter().map(|id| (keys(id), id)).collect();
    keyed.sort_by(|(a, a_id), (b, b_id)| {
        let by_fields =
            a.iter().zip(b).zip(&orders).map(|((a, b), (_, descend, _))| if *descend { b.cmp(a) } else { a.cmp(b) });
        by_fields.fold(Ordering::Equal, Ordering::then).then(a_id.cmp(b_id))
    });
    Ok(keyed.into_iter().skip(first).take(limit).map(|(_, id)| id).collect())
}
