//! Reading rows: the one of a key or UUID, and lists of what changed.
//!
//! There is no cursor (fact sheet 5.1): a page is a new find. Pages of what changed go on from the last time stamp listed, leaving
//! out the rows that carry it and were listed; so a row that is changed meanwhile moves to the end and takes no other out of the list,
//! unless more rows than a page carry one second. A whole table is listed by offset.

use std::collections::BTreeMap;

use engine::{
    error::{Class, Code, Fault},
    key::RowUuid,
    ports::{PageToken, RowChange, RowChanges},
    row::{ChangeFields, FieldType, Fields, ModId, Row, RowId, Table, Value},
};
use jiff::civil::DateTime;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{
    FileMaker,
    client::{Answer, Call},
    errors::{self, Kind},
    find, values,
};

/// Rows asked for: one, and another that must not be.
const FEW: usize = 2;
/// Asked for when the few may have hidden the right one: `==` ignores case, a name does not.
const MANY: usize = 500;
/// Rows that look like one that is asked about: more than anybody would compare.
const LIKE: usize = 50;
/// Rows of one page of a list. A row comes with all fields of its layout.
const PAGE: usize = 200;

/// How a row is called.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    /// By its FHIR id.
    Key(&'a str),
    Uuid(&'a RowUuid),
}

impl<'a> Name<'a> {
    fn text(self) -> &'a str {
        match self {
            Name::Key(key) => key,
            Name::Uuid(uuid) => uuid.as_str(),
        }
    }

    fn field(self, table: &Table) -> Result<&str, Fault> {
        match self {
            Name::Key(_) => Ok(&table.key_field),
            Name::Uuid(_) => Ok(&watched(table)?.uuid),
        }
    }
}

impl FileMaker {
    /// The row that is called exactly so.
    pub(super) async fn one(&self, table: &Table, name: Name<'_>) -> Result<Option<Row>, Fault> {
        if !find::askable(name.text()) {
            return Err(Fault::new(Class::Permanent, Code::ValueUnmappable).on(on(table, name.field(table)?)));
        }
        let (mut rows, seen) = self.look(table, name, FEW).await?;
        if rows.len() < 2 && seen >= 2 {
            let (all, seen) = self.look(table, name, MANY).await?;
            if seen >= MANY {
                return Err(Fault::new(Class::Permanent, Code::DuplicateRows).on(&table.layout));
            }
            rows = all;
        }
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            _ => Err(Fault::new(Class::Permanent, Code::DuplicateRows).on(&table.layout)),
        }
    }

    /// Rows whose fields hold these values, as far as a find tells. What cannot be asked for finds nothing.
    pub(super) async fn like(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        let mut criterion = Map::new();
        for (field, value) in fields {
            let wanted = match value {
                Value::Text(text) if find::askable(text) => find::exactly(text),
                Value::Number(digits) => format!("=={digits}"),
                Value::Date(day) => values::us_date(*day),
                Value::Text(_) | Value::Blank | Value::DateTime(_) | Value::Flag(_) => return Ok(Vec::new()),
            };
            criterion.insert(field.clone(), Json::from(wanted));
        }
        if criterion.is_empty() {
            return Ok(Vec::new());
        }
        let body = json!({ "query": [criterion], "limit": LIKE.to_string() });
        let call = self.call(Kind::Find, Method::POST, &table.layout, &["_find"], Some(body));
        let found = records(self.pool.call(call).await?)?;
        found.iter().map(|record| row(table, record, field_values(record)?)).collect()
    }

    /// Every row that has this key, as far as a find tells.
    pub(super) async fn all_of(&self, table: &Table, key: &str) -> Result<Vec<Row>, Fault> {
        Ok(self.look(table, Name::Key(key), MANY).await?.0)
    }

    /// Rows whose name is exactly this, and how many the find gave.
    async fn look(&self, table: &Table, name: Name<'_>, limit: usize) -> Result<(Vec<Row>, usize), Fault> {
        let field = name.field(table)?;
        let criterion = Map::from_iter([(field.to_owned(), Json::from(find::exactly(name.text())))]);
        let body = json!({ "query": [criterion], "limit": limit.to_string() });
        let call = self.call(Kind::Find, Method::POST, &table.layout, &["_find"], Some(body));
        let data = records(self.pool.call(call).await.map_err(|fault| named(fault, table, name))?)?;
        let mut rows = Vec::new();
        for record in &data {
            let fields = field_values(record)?;
            let held = fields.get(field).ok_or_else(|| not_placed(table, field))?;
            if text(held).as_deref() == Some(name.text()) {
                rows.push(row(table, record, fields)?);
            }
        }
        Ok((rows, data.len()))
    }

    /// A page of the rows stamped at `since` or later.
    pub(super) async fn list_since(
        &self,
        table: &Table,
        since: DateTime,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        let fields = watched(table)?;
        let (since, listed) = match page {
            None => (since, 0),
            Some(page) => went_on(page).ok_or_else(|| errors::bad_answer(Kind::Find))?,
        };
        let criterion =
            Map::from_iter([(fields.modified.clone(), Json::from(format!(">={}", values::us_date_time(since))))]);
        let sort = [&fields.modified, &fields.uuid].map(|field| json!({ "fieldName": field, "sortOrder": "ascend" }));
        let mut body = json!({ "query": [criterion], "sort": sort, "limit": PAGE.to_string() });
        if listed > 0 {
            body["offset"] = Json::from((listed + 1).to_string());
        }
        let call = self.call(Kind::Find, Method::POST, &table.layout, &["_find"], Some(body));
        let mut list = self.list(table, fields, call).await?;
        if list.changes.len() == PAGE {
            let last = list.changes.last().and_then(|change| change.modified);
            let last = last.ok_or_else(|| errors::bad_answer(Kind::Find))?;
            let at_last = list.changes.iter().filter(|change| change.modified == Some(last)).count();
            let listed = if last == since { listed + at_last } else { at_last };
            list.next = Some(PageToken(format!("{last} {listed}")));
        }
        Ok(list)
    }

    /// A page of all rows there are.
    pub(super) async fn list_all(&self, table: &Table, page: Option<&PageToken>) -> Result<RowChanges, Fault> {
        let fields = watched(table)?;
        let offset = match page {
            None => 1,
            Some(page) => page.0.parse::<usize>().map_err(|_| errors::bad_answer(Kind::Find))?,
        };
        let sort = json!([{ "fieldName": fields.uuid, "sortOrder": "ascend" }]);
        let mut call = self.call(Kind::Find, Method::GET, &table.layout, &["records"], None);
        call.query = vec![("_limit", PAGE.to_string()), ("_sort", sort.to_string())];
        // The first page says none: with an offset, an empty table is an error to some servers.
        call.query.extend((offset > 1).then(|| ("_offset", offset.to_string())));
        let mut list = self.list(table, fields, call).await?;
        list.next = (list.changes.len() == PAGE).then(|| PageToken((offset + PAGE).to_string()));
        Ok(list)
    }

    async fn list(&self, table: &Table, fields: &ChangeFields, call: Call) -> Result<RowChanges, Fault> {
        let answer = self.pool.call(call).await.map_err(|fault| lacking(fault, table, fields))?;
        let host_time = answer.host_time;
        let data = records(answer)?;
        let changes = data.iter().map(|record| {
            let values = field_values(record)?;
            let of = |field: &str| values.get(field).ok_or_else(|| not_placed(table, field));
            let mod_id = id(record, "modId").ok_or_else(|| errors::bad_answer(Kind::Find))?;
            Ok(RowChange {
                uuid: uuid(of(&fields.uuid)?),
                key: text(of(&table.key_field)?),
                mod_id: ModId(mod_id),
                modified: moment(of(&fields.modified)?),
            })
        });
        Ok(RowChanges { changes: changes.collect::<Result<_, Fault>>()?, next: None, host_time })
    }
}

/// Where the page before this one ended: the last time stamp, and how many rows with it were listed.
fn went_on(page: &PageToken) -> Option<(DateTime, usize)> {
    let (last, listed) = page.0.split_once(' ')?;
    Some((last.parse().ok()?, listed.parse().ok()?))
}

fn watched(table: &Table) -> Result<&ChangeFields, Fault> {
    table.changes.as_ref().ok_or_else(|| Fault::new(Class::Stop, Code::FieldMissing).on(&table.layout))
}

fn on(table: &Table, field: &str) -> String {
    format!("{}::{field}", table.layout)
}

/// "Field is missing" does not say which.
fn named(fault: Fault, table: &Table, name: Name<'_>) -> Fault {
    match (fault.code, name.field(table)) {
        (Code::FieldMissing, Ok(field)) => fault.on(on(table, field)),
        _ => fault,
    }
}

fn lacking(fault: Fault, table: &Table, fields: &ChangeFields) -> Fault {
    if fault.code != Code::FieldMissing {
        return fault;
    }
    fault.on(format!("{} or {}", on(table, &fields.uuid), on(table, &fields.modified)))
}

/// A field that the answer does not have is not on the layout; to take it for blank would be to overwrite it.
fn not_placed(table: &Table, field: &str) -> Fault {
    Fault::new(Class::Stop, Code::FieldMissing).on(on(table, field))
}

fn records(mut answer: Answer) -> Result<Vec<Json>, Fault> {
    match answer.response.get_mut("data").map(Json::take) {
        Some(Json::Array(data)) => Ok(data),
        // "No records match", whose response is empty.
        _ if answer.code != 0 => Ok(Vec::new()),
        _ => Err(errors::bad_answer(Kind::Find)),
    }
}

fn field_values(record: &Json) -> Result<&Map<String, Json>, Fault> {
    record.get("fieldData").and_then(Json::as_object).ok_or_else(|| errors::bad_answer(Kind::Find))
}

/// What a field of ids holds. A number is taken as well.
fn text(held: &Json) -> Option<String> {
    match held {
        Json::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn uuid(held: &Json) -> Option<RowUuid> {
    RowUuid::new(text(held)?).ok()
}

pub(super) fn moment(held: &Json) -> Option<DateTime> {
    match values::from_json(FieldType::DateTime, held)? {
        Value::DateTime(at) => Some(at),
        _ => None,
    }
}

pub(super) fn field_data(fields: &Fields) -> Map<String, Json> {
    fields.iter().map(|(name, value)| (name.clone(), values::to_json(value))).collect()
}

/// Ids are texts; a number is taken as well.
pub(super) fn id(object: &Json, name: &str) -> Option<String> {
    text(object.get(name)?)
}

fn row(table: &Table, record: &Json, data: &Map<String, Json>) -> Result<Row, Fault> {
    let mut fields = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (name, kind) in &table.fields {
        match values::from_json(*kind, data.get(name).ok_or_else(|| not_placed(table, name))?) {
            Some(value) => {
                fields.insert(name.clone(), value);
            }
            None => unreadable.push(name.clone()),
        }
    }
    let ids = id(record, "recordId").zip(id(record, "modId"));
    let (row, version) = ids.ok_or_else(|| errors::bad_answer(Kind::Find))?;
    // A layout that lacks one of the two is one that is not watched.
    let changes = table.changes.as_ref().and_then(|fields| data.get(&fields.uuid).zip(data.get(&fields.modified)));
    Ok(Row {
        id: RowId(row),
        mod_id: ModId(version),
        key: data.get(&table.key_field).and_then(text),
        uuid: changes.and_then(|(held, _)| uuid(held)),
        modified: changes.and_then(|(_, held)| moment(held)),
        fields,
        unreadable,
    })
}
