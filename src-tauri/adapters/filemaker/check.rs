//! The doctor's walk through a FileMaker connection, and the proof by writing that a layout guards what we write.

use std::collections::BTreeMap;

use engine::{
    error::{Class, Code, Fault},
    ports::ClinicDatabase,
    row::{FieldType, ModId, RowId, Table},
};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};
use tokio::net::lookup_host;

use super::{
    FileMaker,
    client::{Answer, Call, Failure},
    errors::{self, Kind},
    rows::id,
};
use crate::adapters::{
    doctor::Step,
    transport::{self, NoAnswer},
};

/// What [`FileMaker::write_probe`] found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub steps: Vec<Step>,
    /// A second record with the same key was refused (504): records may be created.
    pub unique: bool,
    /// An edit from an outdated version was refused (306): records may be edited.
    pub guarded: bool,
}

const EARLIER: &str = "an earlier step failed";

/// How the keys of records begin that a check-up makes and deletes again.
const PROBE: &str = "chart-relay-probe-";

pub(super) fn is_probe(key: &str) -> bool {
    key.starts_with(PROBE)
}

impl FileMaker {
    /// Walks the connection in the order in which it comes about: name, connection, TLS, Data API, sign-in, database, then
    /// every table's layout and a read from it. Changes nothing.
    pub async fn diagnose(&self, tables: &[Table]) -> Vec<Step> {
        let mut steps = self.reach().await;
        let mut names = vec!["sign-in".to_owned(), "database".to_owned()];
        for table in tables {
            names.extend([format!("layout {}", table.layout), format!("read {}", table.layout)]);
        }
        if !steps.iter().any(Step::has_failed) {
            let signed_in = match self.probe().await {
                Ok(()) => Step::passed("sign-in", "accepted"),
                Err(fault) => failed("sign-in", fault),
            };
            let stop = signed_in.has_failed();
            steps.push(signed_in);
            if !stop {
                let (step, layouts) = self.layouts().await;
                let stop = step.has_failed();
                steps.push(step);
                for table in tables.iter().filter(|_| !stop) {
                    let step = self.layout(table, &layouts).await;
                    let stop = step.has_failed();
                    steps.push(step);
                    if !stop {
                        steps.push(self.read_one(table).await);
                    }
                }
            }
        }
        let missing: Vec<Step> = names
            .into_iter()
            .filter(|name| !steps.iter().any(|step| step.name == *name))
            .map(|name| Step::skipped(name, EARLIER))
            .collect();
        steps.extend(missing);
        steps
    }

    async fn reach(&self) -> Vec<Step> {
        let base = self.pool.client.base();
        let (host, port) = (base.host_str().unwrap_or_default(), base.port_or_known_default().unwrap_or(443));
        let found = lookup_host((host.trim_matches(['[', ']']), port)).await.map(Iterator::count);
        let name = match found {
            Ok(count) if count > 0 => Step::passed("name", format!("{count} address(es)")),
            _ => {
                let fault = Fault::new(Class::Away, Code::Unreachable).on(host);
                let step = Step::failed(
                    "name",
                    fault,
                    "The host's name is not known here. Check it, and this computer's network.",
                );
                return vec![step, skipped("connection"), skipped("TLS"), skipped("Data API")];
            }
        };
        let tls = || {
            if transport::is_loopback(base) && base.scheme() == "http" {
                Step::skipped("TLS", "plain HTTP on this machine")
            } else {
                Step::passed("TLS", "certificate trusted")
            }
        };
        let connected = || Step::passed("connection", format!("port {port}"));
        match self.pool.client.product().await {
            Err(Failure::NoAnswer(NoAnswer::CertificateRefused)) => {
                let fault = NoAnswer::CertificateRefused.fault();
                vec![name, connected(), failed("TLS", fault), skipped("Data API")]
            }
            Err(Failure::NoAnswer(why @ (NoAnswer::Unreachable | NoAnswer::ConnectTimedOut))) => {
                vec![name, failed("connection", why.fault()), skipped("TLS"), skipped("Data API")]
            }
            sent => vec![name, connected(), tls(), self.data_api(sent)],
        }
    }

    fn data_api(&self, sent: Result<Answer, Failure>) -> Step {
        match errors::judge(Kind::Read, sent, &self.pool.client.database, None) {
            Ok(answer) => {
                let version = answer.response.pointer("/productInfo/version").and_then(Json::as_str);
                Step::passed("Data API", version.map_or_else(|| "version not told".into(), |v| format!("version {v}")))
            }
            // Servers before 18 do not know the question; a proxy may not let it through. Signing in will tell.
            Err(fault) if fault.vendor.as_deref() == Some("FileMaker 1700") => {
                Step::warned("Data API", "answers, but does not tell its version")
            }
            Err(fault) if fault.code == Code::NotAnswering => Step::failed(
                "Data API",
                fault,
                "A web server answers, FileMaker's Data API does not. Is it switched on (Admin Console, Connectors)?",
            ),
            Err(fault) => failed("Data API", fault),
        }
    }

    fn get(&self, layout: Option<&str>, path: &[&str], query: Vec<(&'static str, String)>) -> Call {
        let path =
            ["databases", &self.pool.client.database, "layouts"].into_iter().chain(layout).chain(path.iter().copied());
        Call {
            kind: Kind::Read,
            method: Method::GET,
            layout: layout.map(str::to_owned),
            path: path.map(str::to_owned).collect(),
            query,
            body: None,
        }
    }

    async fn layouts(&self) -> (Step, Vec<String>) {
        match self.pool.call(self.get(None, &[], Vec::new())).await {
            Ok(answer) => {
                let mut names = Vec::new();
                collect(answer.response.get("layouts"), &mut names);
                (Step::passed("database", format!("{} layouts", names.len())), names)
            }
            Err(fault) => (failed("database", fault), Vec::new()),
        }
    }

    async fn layout(&self, table: &Table, known: &[String]) -> Step {
        let name = format!("layout {}", table.layout);
        let answer = match self.pool.call(self.get(Some(&table.layout), &[], Vec::new())).await {
            Ok(answer) => answer,
            Err(fault) if fault.code == Code::LayoutMissing => {
                let alike = known.iter().find(|known| known.eq_ignore_ascii_case(&table.layout));
                let hint =
                    alike.map_or_else(String::new, |alike| format!(" There is one called {alike}; case matters."));
                return Step::failed(name, fault, format!("The file shows this account no layout of this name.{hint}"));
            }
            Err(fault) => return failed(&name, fault),
        };
        let placed = placed(&answer.response);
        let mut wanted = table.fields.clone();
        wanted.insert(table.key_field.clone(), FieldType::Text);
        let on_layout = |field: &str| format!("{}::{field}", table.layout);

        let missing: Vec<&str> =
            wanted.keys().filter(|field| !placed.contains_key(*field)).map(String::as_str).collect();
        if let Some(first) = missing.first() {
            let fault = Fault::new(Class::Stop, Code::FieldMissing).on(on_layout(first));
            return Step::failed(name, fault, format!("Place these fields on the layout: {}.", missing.join(", ")));
        }
        let of = |wrong: fn(FieldType, &Placed) -> bool| -> Vec<&str> {
            let fields =
                wanted.iter().filter(|(field, kind)| placed.get(*field).is_some_and(|as_is| wrong(**kind, as_is)));
            fields.map(|(field, _)| field.as_str()).collect()
        };
        let unfit = of(|kind, placed| !fits(kind, &placed.result) && placed.result != "text");
        if let Some(first) = unfit.first() {
            let fault = Fault::new(Class::Stop, Code::ValueUnmappable).on(on_layout(first));
            let advice = format!("The mapping and the file disagree on the type of: {}.", unfit.join(", "));
            return Step::failed(name, fault, advice);
        }
        if placed.get(&table.key_field).is_some_and(|key| key.computed) {
            let fault = Fault::new(Class::Stop, Code::FieldReadOnly).on(on_layout(&table.key_field));
            return Step::failed(name, fault, "The key is calculated; it must be a field that can be written.");
        }
        let mut remarks = Vec::new();
        for (fields, remark) in [
            (of(|_, placed| placed.computed), "calculated, can only be read"),
            (
                of(|kind, placed| !fits(kind, &placed.result)),
                "kept in text fields, so FileMaker does not check or sort them",
            ),
        ] {
            if !fields.is_empty() {
                remarks.push(format!("{}: {remark}", fields.join(", ")));
            }
        }
        if remarks.is_empty() {
            Step::passed(name, format!("{} fields", wanted.len()))
        } else {
            Step::warned(name, remarks.join("; "))
        }
    }

    async fn read_one(&self, table: &Table) -> Step {
        let name = format!("read {}", table.layout);
        match self.pool.call(self.get(Some(&table.layout), &["records"], vec![("_limit", "1".to_owned())])).await {
            Ok(answer) => {
                let rows = answer.response.pointer("/dataInfo/totalRecordCount").map(Json::to_string);
                Step::passed(
                    name,
                    rows.map_or_else(|| "works".into(), |rows| format!("{} rows", rows.trim_matches('"'))),
                )
            }
            // "Record is missing": how some servers say that a table is empty.
            Err(fault) if fault.vendor.as_deref() == Some("FileMaker 101") => Step::passed(name, "no rows yet"),
            Err(fault) => failed(&name, fault),
        }
    }

    /// Writes, by a person's consent: creates a record with the key `chart-relay-probe-` and `nonce`, tries to create its
    /// twin (504 is right), edits it from an outdated version (306 is right), and deletes what it made. Fields that must not
    /// be empty are filled with their first listed value or `SYNTHETIC`.
    pub async fn write_probe(&self, table: &Table, nonce: u64) -> Proof {
        let table = Table { fields: BTreeMap::new(), ..table.clone() };
        let key = format!("{PROBE}{nonce:016x}");
        let mut proof = Proof { steps: Vec::new(), unique: false, guarded: false };
        let mut data = match self.pool.call(self.get(Some(&table.layout), &[], Vec::new())).await {
            Ok(answer) => required(&answer.response),
            Err(fault) => {
                proof.steps =
                    vec![failed("create", fault), skipped("unique key"), skipped("version guard"), skipped("delete")];
                return proof;
            }
        };
        data.insert(table.key_field.clone(), Json::from(key.as_str()));

        match self.probe_create(&table, &data).await {
            Ok((row, version)) => {
                proof.steps.push(Step::passed("create", key.as_str()));
                let unique = self.probe_twin(&table, &data).await;
                let guarded = self.probe_guard(&table, &key, &row, &version).await;
                proof.unique = !unique.has_failed();
                proof.guarded = !guarded.has_failed();
                proof.steps.extend([unique, guarded]);
            }
            Err(fault) => {
                proof.steps.extend([failed("create", fault), skipped("unique key"), skipped("version guard")])
            }
        }
        // Even if nothing seems to have been created: an answer may have been lost.
        proof.steps.push(match self.sweep(&table, &key).await {
            Ok(count) => Step::passed("delete", format!("{count} record(s)")),
            Err(fault) => {
                let advice = format!("{} Then delete the record with the key {key} by hand.", advice(&fault));
                Step::failed("delete", fault, advice)
            }
        });
        proof
    }

    async fn probe_create(&self, table: &Table, data: &Map<String, Json>) -> Result<(RowId, ModId), Fault> {
        let body = json!({ "fieldData": data });
        let call = self.call(Kind::Create, Method::POST, &table.layout, &["records"], Some(body));
        let response = self.pool.call(call).await?.response;
        let ids = id(&response, "recordId").zip(id(&response, "modId"));
        ids.map(|(row, version)| (RowId(row), ModId(version))).ok_or_else(|| errors::bad_answer(Kind::Create))
    }

    async fn probe_twin(&self, table: &Table, data: &Map<String, Json>) -> Step {
        match self.probe_create(table, data).await {
            Err(fault) if fault.vendor.as_deref() == Some("FileMaker 504") => {
                Step::passed("unique key", "a second record was refused (504)")
            }
            Err(fault) => failed("unique key", fault),
            Ok(_) => Step::failed(
                "unique key",
                Fault::new(Class::Stop, Code::UniquenessUnproven).on(super::key_name(table)),
                "A second record with the same key was accepted. Give the key field the validation \"Unique value\", \
                 \"Always\", without override.",
            ),
        }
    }

    async fn probe_guard(&self, table: &Table, key: &str, row: &RowId, version: &ModId) -> Step {
        let name = "version guard";
        let fields = BTreeMap::from([(table.key_field.clone(), engine::row::Value::Text(key.to_owned()))]);
        let unguarded = |advice: &str| {
            Step::failed(name, Fault::new(Class::Stop, Code::BadAnswer).on(table.layout.as_str()), advice)
        };
        match self.edit(table, row, version, &fields).await {
            Err(fault) => return failed(name, fault),
            Ok(now) if now == *version => return unguarded("An edit did not change the record's modId."),
            Ok(_) => {}
        }
        match self.edit(table, row, version, &fields).await {
            Err(fault) if fault.vendor.as_deref() == Some("FileMaker 306") => {
                Step::passed(name, "an outdated version was refused (306)")
            }
            Err(fault) => failed(name, fault),
            Ok(_) => unguarded("An edit from an outdated version was accepted: this server does not check modId."),
        }
    }

    /// Deletes every record with this key and looks whether they are gone.
    async fn sweep(&self, table: &Table, key: &str) -> Result<usize, Fault> {
        let rows = self.all_of(table, key).await?;
        for row in &rows {
            let rest = ["records", row.id.0.as_str()];
            let deleted = self.pool.call(self.call(Kind::Delete, Method::DELETE, &table.layout, &rest, None)).await;
            // 101: it is gone already.
            deleted.map(drop).or_else(|fault| if fault.class == Class::Stale { Ok(()) } else { Err(fault) })?;
        }
        if self.all_of(table, key).await?.is_empty() {
            Ok(rows.len())
        } else {
            Err(Fault::new(Class::Stop, Code::BadAnswer).on(table.layout.as_str()))
        }
    }
}

/// A field as the layout has it.
pub(super) struct Placed {
    /// text, number, date, time, timeStamp or container.
    pub(super) result: String,
    /// A calculation or summary.
    pub(super) computed: bool,
    /// Something enters it by itself.
    pub(super) auto_enter: bool,
}

pub(super) fn placed(metadata: &Json) -> BTreeMap<String, Placed> {
    let text = |field: &Json, name: &str| field.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let fields = metadata.get("fieldMetaData").and_then(Json::as_array).into_iter().flatten();
    fields
        .map(|field| {
            let computed = !matches!(text(field, "type").as_str(), "normal" | "");
            let auto_enter = field.get("autoEnter").and_then(Json::as_bool) == Some(true);
            (text(field, "name"), Placed { result: text(field, "result"), computed, auto_enter })
        })
        .collect()
}

/// Whether a field of this type is what FileMaker has for ours.
pub(super) fn fits(kind: FieldType, result: &str) -> bool {
    match kind {
        FieldType::Text => result == "text",
        FieldType::Number => result == "number",
        FieldType::Flag => matches!(result, "number" | "text"),
        FieldType::Date => result == "date",
        FieldType::DateTime => result == "timeStamp",
    }
}

/// A value for every field that must not be empty.
fn required(metadata: &Json) -> Map<String, Json> {
    let lists = metadata.get("valueLists").and_then(Json::as_array);
    let listed = |field: &Json| {
        let list = field.get("valueList").and_then(Json::as_str)?;
        let list = lists?.iter().find(|known| known.get("name").and_then(Json::as_str) == Some(list))?;
        list.pointer("/values/0/value").cloned()
    };
    let fields = metadata.get("fieldMetaData").and_then(Json::as_array).into_iter().flatten();
    fields
        .filter(|field| field.get("notEmpty").and_then(Json::as_bool) == Some(true))
        .filter_map(|field| {
            let name = field.get("name").and_then(Json::as_str).filter(|name| !name.contains("::"))?;
            let value = listed(field).unwrap_or_else(|| {
                Json::from(match field.get("result").and_then(Json::as_str) {
                    Some("number") => "0",
                    Some("date") => "01/01/2000",
                    Some("time") => "00:00:00",
                    Some("timeStamp") => "01/01/2000 00:00:00",
                    _ => "SYNTHETIC",
                })
            });
            Some((name.to_owned(), value))
        })
        .collect()
}

/// Layouts, those in folders too.
fn collect(layouts: Option<&Json>, names: &mut Vec<String>) {
    for layout in layouts.and_then(Json::as_array).into_iter().flatten() {
        match layout.get("folderLayoutNames") {
            Some(inner) => collect(Some(inner), names),
            None => names.extend(layout.get("name").and_then(Json::as_str).map(str::to_owned)),
        }
    }
}

fn skipped(name: &str) -> Step {
    Step::skipped(name, EARLIER)
}

pub(super) fn failed(name: &str, fault: Fault) -> Step {
    let advice = advice(&fault);
    Step::failed(name, fault, advice)
}

/// What a person who looks after the FileMaker server can do.
fn advice(fault: &Fault) -> &'static str {
    match fault.code {
        Code::Unreachable => "Nothing answers there. Check address and port, that the server is on, and the firewall.",
        Code::CertificateRefused => {
            "The certificate is not trusted. Give the server one of a known authority, name the clinic's own authority, or \
             pin the certificate by its SHA-256 fingerprint."
        }
        Code::SignInRefused => {
            "Check account and password, and that the account's privilege set has \"Access via FileMaker Data API\" \
             (fmrest): FileMaker answers the same to both."
        }
        Code::AccessDenied => "The account may not do this. Check its privilege set for records, layouts and fields.",
        Code::FileClosed => "The file is closed or not hosted under this name. Open it in the Admin Console.",
        Code::LayoutMissing => "The file shows this account no layout of this name.",
        Code::FieldMissing => "A field of the mapping is not placed on the layout.",
        Code::FieldReadOnly => "A field that must be written is calculated or locked against changes.",
        Code::ValueRefused => "The file's validation refuses a value. Check the rules of the table's fields.",
        Code::HostFull => "The host has no room for another session. Wait, or use fewer sessions.",
        Code::LimitReached => "The server's yearly limit for data sent out is reached. See the Admin Console.",
        Code::LicenceExpired => "The server's licence has expired.",
        Code::Maintenance => "The host or the file is being worked on. Try again later.",
        Code::DiskFull => "The server's disk is full.",
        Code::FileDamaged => "The file is damaged. Close it and restore a backup.",
        Code::RecordOpen => "Somebody has the record open. Try again later.",
        Code::TimedOut | Code::NotAnswering => {
            "The server does not answer in time. Try again; if it stays so, look at its load."
        }
        Code::OutcomeUnknown => "The answer was lost on the way. Try again in some minutes.",
        _ => "This was not expected. The code tells FileMaker's support more.",
    }
}
