//! What each route does once it is its turn.
//!
//! Facts: sheet sections 3-6. Login by Basic, token in header and body [DOC]; wrong account 212, no header 10 [DOC/CAP]; closed or
//! missing file 802 [ISS]; Content-Type required on bodies, 415 [DOC]; ids as strings, `dataInfo` numbers [CAP];
//! script order prerequest, action, presort, sort, script; missing script 104 [DOC/LIVE].
//! `@proofkit/fmdapi` signs in with an empty body where the sheet asks for `{}`, and sends modId, limit and offset as numbers where
//! the documentation has strings: both are accepted. It puts portal limits of a `_find` into the URL: a query string on
//! writing and finding calls is ignored.
//! Ours [GEN]: `null`, `true`, `false` and structures as field values are refused with 1708; portal rows for a layout
//! without portals are 102; the layout of `layout.response` must show the same table.

use super::answer::{Refused, Reply};
use super::call::{Body, Call, Route};
use super::criterion::Literals;
use super::desk::Desk;
use super::host::{Hosted, World};
use super::model::{Field, Layout, ScriptEnd};
use super::query::{self, Asked, Parameters, Scripts};
use super::table::{By, Entry, Table};
use super::value::{DateFormat, ResultType, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

impl World {
    /// Carries out a call that has been admitted.
    pub(super) fn perform(&mut self, call: &Call, by: By) -> Reply {
        match call.route {
            Route::Unknown => return Reply::html(404, "Not Found"),
            Route::WrongVerb => return Reply::of(Err(1704.into()), &self.statuses),
            _ => {}
        }
        if matches!(call.verb.as_str(), "POST" | "PATCH") && !call.json_type {
            let refused = Refused::with(960, "Content-Type must be application/json");
            return Reply::of(Err(refused), &self.statuses).with_status(415);
        }
        if self.transmit_limit.is_some_and(|limit| self.journal.counts.bytes_out >= limit) {
            return Reply::of(Err(953.into()), &self.statuses);
        }
        if call.route == Route::Login {
            let result = self.sign_in(call);
            let mut reply = Reply::of(result.clone().map(|token| json!({"token": token})), &self.statuses);
            reply.token = result.ok();
            return reply;
        }
        let result = self.answer(call, by);
        Reply::of(result, &self.statuses)
    }

    fn sign_in(&mut self, call: &Call) -> Result<String, Refused> {
        let header = call.authorization.as_ref().ok_or(10)?;
        let basic = header.strip_prefix("Basic ").ok_or(1702)?;
        let decoded = STANDARD.decode(basic.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(1702)?;
        let (name, password) = decoded.split_once(':').ok_or(1702)?;
        // An empty body is no JSON error here: a public client signs in without one.
        if matches!(call.body, Body::Broken) {
            return Err(1710.into());
        }
        if !self.files.get(&call.file).is_some_and(|file| file.open) {
            return Err(802.into());
        }
        let known =
            self.accounts.iter().any(|account| account.name == name && account.password == password && account.fmrest);
        if !known || self.accounts_refused {
            return Err(212.into());
        }
        self.log_in(&call.file)
    }

    fn answer(&mut self, call: &Call, by: By) -> Result<Json, Refused> {
        match call.route {
            Route::ProductInfo => Ok(json!({"productInfo": {
                "name": "FileMaker Data API Engine", "buildDate": "06/13/2024", "version": self.version,
                "dateFormat": "MM/dd/yyyy", "timeFormat": "HH:mm:ss", "timeStampFormat": "MM/dd/yyyy HH:mm:ss"}})),
            Route::Databases => {
                let open = self.files.iter().filter(|(_, file)| file.open);
                Ok(json!({"databases": open.map(|(name, _)| json!({"name": name})).collect::<Vec<_>>()}))
            }
            Route::Logout => self.log_out(&call.file, &call.tail).map(|()| json!({})),
            Route::ValidateSession => Ok(json!({"isSessionInUse": false})),
            Route::Layouts => {
                let layouts = self.file(call)?.layouts.iter();
                let listed: Vec<Json> =
                    layouts.map(|layout| json!({"name": layout.name, "table": layout.table})).collect();
                Ok(json!({"layouts": listed}))
            }
            Route::Scripts => {
                let scripts = self.file(call)?.scripts.iter();
                let listed: Vec<Json> = scripts.map(|script| json!({"name": script.name, "isFolder": false})).collect();
                Ok(json!({"scripts": listed}))
            }
            Route::LayoutMetadata => self.metadata(call),
            Route::Globals => object(call)?.get("globalFields").map(|_| json!({})).ok_or_else(|| 1707.into()),
            Route::RunScript => {
                self.file(call)?.layout(&call.layout)?;
                let param = call.query.iter().find(|(name, _)| name == "script.param").map_or("", |(_, value)| value);
                let end = self.run(call, &call.tail, param)?;
                Ok(json!({"scriptResult": end.result, "scriptError": end.error.to_string()}))
            }
            Route::Get | Route::Range | Route::Find => self.read(call),
            Route::Create | Route::Edit => self.write(call, by),
            Route::Duplicate | Route::Delete => self.copy_or_delete(call, by),
            Route::Login | Route::WrongVerb | Route::Unknown => Err(1700.into()),
        }
    }

    fn file(&self, call: &Call) -> Result<&Hosted, Refused> {
        self.files.get(&call.file).ok_or_else(|| 100.into())
    }

    fn date_format(&self, call: &Call, dateformats: u8) -> DateFormat {
        match dateformats {
            2 => DateFormat::Iso,
            1 => DateFormat::Slashes(self.files.get(&call.file).map(|file| file.dates).unwrap_or_default()),
            _ => DateFormat::US,
        }
    }

    fn metadata(&self, call: &Call) -> Result<Json, Refused> {
        let file = self.file(call)?;
        let layout = file.layout(&call.layout)?;
        let table = file.table(&layout.table)?;
        let shown = visible(table, layout);
        let mut lists: Vec<Json> = Vec::new();
        for field in shown.iter().map(|at| &table.fields[*at]) {
            if let Some((name, values)) = &field.value_list {
                let values: Vec<Json> = values.iter().map(|v| json!({"value": v, "displayValue": v})).collect();
                lists.push(json!({"name": name, "type": "customList", "values": values}));
            }
        }
        let fields: Vec<Json> = shown.iter().map(|at| field_metadata(&table.fields[*at])).collect();
        let mut answer = json!({"fieldMetaData": fields, "portalMetaData": {}});
        if !lists.is_empty() {
            answer["valueLists"] = Json::Array(lists);
        }
        Ok(answer)
    }

    fn run(&mut self, call: &Call, name: &str, param: &str) -> Result<ScriptEnd, Refused> {
        let (file, moment) = self.at_work(&call.file, By::Script)?;
        let script = file.scripts.iter().find(|script| script.name == name).ok_or(104)?;
        let run = script.run.clone();
        Ok(run(&mut Desk { file, moment }, param))
    }

    /// Runs one of a call's scripts and notes its end in the answer.
    fn run_into(
        &mut self,
        call: &Call,
        script: Option<&(String, String)>,
        suffix: &str,
        notes: &mut Map<String, Json>,
    ) -> Result<(), Refused> {
        if let Some((name, param)) = script {
            let end = self.run(call, name, param)?;
            notes.insert(format!("scriptResult{suffix}"), Json::String(end.result));
            notes.insert(format!("scriptError{suffix}"), Json::String(end.error.to_string()));
        }
        Ok(())
    }

    fn scripts_exist(&self, call: &Call, scripts: &Scripts) -> Result<(), Refused> {
        let file = self.file(call)?;
        let named = [&scripts.before, &scripts.presort, &scripts.after];
        let missing =
            named.into_iter().flatten().any(|(name, _)| file.scripts.iter().all(|script| script.name != *name));
        if missing && self.unsettled.missing_script_blocks { Err(104.into()) } else { Ok(()) }
    }

    fn read(&mut self, call: &Call) -> Result<Json, Refused> {
        let asked = match call.route {
            Route::Find => {
                let body = object(call)?;
                let mut parameters = Parameters::of_body(body);
                parameters.take("query");
                parameters.reading("", true)?
            }
            route => Parameters::of_query(&call.query).reading("_", route == Route::Range)?,
        };
        self.file(call)?.layout(&call.layout)?;
        self.scripts_exist(call, &asked.scripts)?;
        let mut notes = Map::new();
        self.run_into(call, asked.scripts.before.as_ref(), ".prerequest", &mut notes)?;
        let format = self.date_format(call, asked.dateformats);
        let literals = self.literals(format);
        let found = self.found(call, literals)?;
        self.run_into(call, asked.scripts.presort.as_ref(), ".presort", &mut notes)?;
        self.run_into(call, asked.scripts.after.as_ref(), "", &mut notes)?;
        let mut answer = self.found_page(call, &asked, found, format)?;
        answer.extend(notes);
        Ok(Json::Object(answer))
    }

    fn found(&self, call: &Call, literals: Literals) -> Result<BTreeSet<u64>, Refused> {
        let file = self.file(call)?;
        let layout = file.layout(&call.layout)?;
        let table = file.table(&layout.table)?;
        match call.route {
            Route::Get => {
                let id = call.record_id().filter(|id| table.row(*id).is_some()).ok_or(101)?;
                Ok(BTreeSet::from([id]))
            }
            Route::Find => query::find(table, &visible(table, layout), object(call)?.get("query"), literals),
            _ => Ok(table.ids().collect()),
        }
    }

    fn found_page(
        &self,
        call: &Call,
        asked: &Asked,
        found: BTreeSet<u64>,
        format: DateFormat,
    ) -> Result<Map<String, Json>, Refused> {
        let file = self.file(call)?;
        let layout = file.layout(&call.layout)?;
        let table = file.table(&layout.table)?;
        let output = match &asked.output {
            Some(name) => file.layout(name)?,
            None => layout,
        };
        if output.table != layout.table {
            return Err(105.into());
        }
        let found_count = found.len();
        let page = query::page(table, &visible(table, layout), found, asked, &self.unsettled)?;
        let shown = visible(table, output);
        let data: Vec<Json> = page.iter().filter_map(|id| record(table, &shown, *id, format)).collect();
        let info = json!({"database": call.file, "layout": output.name, "table": layout.table,
            "totalRecordCount": table.len(), "foundCount": found_count, "returnedCount": data.len()});
        let mut answer = Map::new();
        answer.insert("dataInfo".into(), info);
        answer.insert("data".into(), Json::Array(data));
        Ok(answer)
    }

    fn write(&mut self, call: &Call, by: By) -> Result<Json, Refused> {
        let body = object(call)?;
        let mut parameters = Parameters::of_body(body);
        let fields = parameters.take("fieldData");
        let portals = parameters.take("portalData");
        let options = parameters.take("options");
        let mod_id = if call.route == Route::Edit { parameters.take("modId") } else { None };
        let dateformats = parameters.dateformats()?;
        let scripts = parameters.scripts()?;
        parameters.nothing_left()?;
        let mod_id = mod_id.map(number).transpose()?;
        let entry = entry(options.as_ref())?;
        let fields = match fields {
            Some(Json::Object(fields)) => fields,
            Some(_) => return Err(1708.into()),
            // Portal rows alone may go without field data.
            None if portals.is_some() => Map::new(),
            None => return Err(1707.into()),
        };
        self.file(call)?.layout(&call.layout)?;
        self.scripts_exist(call, &scripts)?;
        let mut notes = Map::new();
        self.run_into(call, scripts.before.as_ref(), ".prerequest", &mut notes)?;
        let format = self.date_format(call, dateformats);
        let disk_full = self.disk_full;
        let (file, mut moment) = self.at_work(&call.file, by)?;
        let layout = file.layout(&call.layout)?.clone();
        let table = file.table_mut(&layout.table)?;
        let target = match call.route {
            Route::Create => None,
            _ => Some(call.record_id().ok_or(101)?),
        };
        if let Some(id) = target {
            table.admits(id, mod_id, &moment)?;
        }
        if portals.is_some_and(|portals| portals.as_object().is_none_or(|portals| !portals.is_empty())) {
            return Err(102.into());
        }
        let changes = changes(table, &visible(table, &layout), fields, format)?;
        if disk_full {
            return Err(809.into());
        }
        let mut answer = Map::new();
        let mod_id = match target {
            None => {
                let (id, mod_id) = table.create(changes, entry, &mut moment)?;
                answer.insert("recordId".into(), Json::String(id.to_string()));
                mod_id
            }
            Some(id) => table.edit(id, changes, entry, &mut moment)?,
        };
        answer.insert("modId".into(), Json::String(mod_id.to_string()));
        self.run_into(call, scripts.presort.as_ref(), ".presort", &mut notes)?;
        self.run_into(call, scripts.after.as_ref(), "", &mut notes)?;
        answer.extend(notes);
        Ok(Json::Object(answer))
    }

    fn copy_or_delete(&mut self, call: &Call, by: By) -> Result<Json, Refused> {
        let mut parameters = match (&call.body, call.route) {
            (Body::Nothing, Route::Duplicate) => Parameters::of_query(&[]),
            (_, Route::Duplicate) => Parameters::of_body(object(call)?),
            _ => Parameters::of_query(&call.query),
        };
        let scripts = parameters.scripts()?;
        parameters.nothing_left()?;
        self.file(call)?.layout(&call.layout)?;
        self.scripts_exist(call, &scripts)?;
        let mut notes = Map::new();
        self.run_into(call, scripts.before.as_ref(), ".prerequest", &mut notes)?;
        let disk_full = self.disk_full;
        let (file, mut moment) = self.at_work(&call.file, by)?;
        let name = file.layout(&call.layout)?.table.clone();
        let table = file.table_mut(&name)?;
        let id = call.record_id().ok_or(101)?;
        let mut answer = Map::new();
        if disk_full {
            return Err(809.into());
        }
        if call.route == Route::Delete {
            table.admits(id, None, &moment)?;
            table.delete(id, &moment)?;
        } else {
            let (id, mod_id) = table.duplicate(id, &mut moment)?;
            answer.insert("recordId".into(), Json::String(id.to_string()));
            answer.insert("modId".into(), Json::String(mod_id.to_string()));
        }
        self.run_into(call, scripts.presort.as_ref(), ".presort", &mut notes)?;
        self.run_into(call, scripts.after.as_ref(), "", &mut notes)?;
        answer.extend(notes);
        Ok(Json::Object(answer))
    }
}

fn object(call: &Call) -> Result<&Map<String, Json>, Refused> {
    match &call.body {
        Body::Json(Json::Object(body)) => Ok(body),
        _ => Err(1710.into()),
    }
}

fn visible(table: &Table, layout: &Layout) -> Vec<usize> {
    match &layout.shown {
        None => (0..table.fields.len()).collect(),
        Some(names) => names.iter().filter_map(|name| table.field(name)).collect(),
    }
}

fn record(table: &Table, shown: &[usize], id: u64, format: DateFormat) -> Option<Json> {
    let row = table.row(id)?;
    let fields: Map<String, Json> =
        shown.iter().map(|at| (table.fields[*at].name.clone(), table.value(row, *at).json(format))).collect();
    Some(json!({"fieldData": fields, "portalData": {}, "recordId": id.to_string(), "modId": row.mod_id.to_string()}))
}

fn changes(
    table: &Table,
    shown: &[usize],
    fields: Map<String, Json>,
    format: DateFormat,
) -> Result<Vec<(usize, Value)>, Refused> {
    let mut changes = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        // Every field has one repetition: `Name(1)` is `Name`, others do not exist.
        let bare = name.strip_suffix("(1)").unwrap_or(&name);
        let at = table.field(bare).filter(|at| shown.contains(at)).ok_or(102)?;
        let result = table.fields[at].result;
        let text = match value {
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            _ => return Err(1708.into()),
        };
        changes.push((at, Value::read(&text, result, format).ok_or(result.literal_error())?));
    }
    Ok(changes)
}

fn number(json: Json) -> Result<u64, Refused> {
    let text = match json {
        Json::String(text) => text,
        Json::Number(number) => number.to_string(),
        _ => return Err(1708.into()),
    };
    text.parse().map_err(|_| Refused::from(1708))
}

fn entry(options: Option<&Json>) -> Result<Entry, Refused> {
    let Some(options) = options else { return Ok(Entry::default()) };
    let by_script = |name: &str| match options.get(name).map(Json::as_str) {
        None | Some(Some("user")) => Ok(false),
        Some(Some("script")) => Ok(true),
        Some(_) => Err(Refused::from(1708)),
    };
    Ok(Entry { only_always: by_script("entrymode")?, prohibited_too: by_script("prohibitmode")?, ..Entry::default() })
}

fn field_metadata(field: &Field) -> Json {
    let mut meta = json!({
        "name": field.name,
        "type": if field.calculation.is_some() { "calculation" } else { "normal" },
        "displayType": "editText",
        "result": field.result.name(),
        "global": false,
        "autoEnter": field.auto != super::model::AutoEnter::Nothing,
        "fourDigitYear": false,
        "maxRepeat": 1,
        "maxCharacters": field.max_characters,
        "notEmpty": field.not_empty,
        "numeric": field.numeric && field.result == ResultType::Number,
        // False even for time fields on a live server.
        "timeOfDay": false,
        "repetitionStart": 1,
        "repetitionEnd": 1,
    });
    if let Some((name, _)) = &field.value_list {
        meta["displayType"] = json!("popupList");
        meta["valueList"] = json!(name);
    }
    meta
}
