//! The clinic's database: FileMaker Server through its Data API (v2), as the engine's [`ClinicDatabase`].
//!
//! `errors` says what every answer means, `session` keeps the few sessions that a host has room for, `find` and `values`
//! speak FileMaker's languages, `check` is the doctor. Facts and their evidence are those of the Claris Data API guide
//! (help.claris.com/en/data-api-guide) and of public clients; nothing in here was tried on a licensed FileMaker Server.
//!
//! **Outcomes.** A write whose answer is lost is `Unknown`, and nothing here repeats it. The one exception is code 952, which
//! FileMaker says before it begins. A call in flight is never cut off by us: it runs in its own task to its end, at most
//! [`FileMakerConfig::read_timeout`], also if the caller's future is dropped; but then nobody hears the outcome.

mod check;
mod client;
mod errors;
mod find;
mod session;
mod values;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    ports::{ClinicDatabase, Clock},
    row::{Fields, ModId, Row, RowId, Table},
};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

pub use check::Proof;

use self::{
    client::{Call, Client},
    errors::Kind,
    session::{Limits, Pool},
};
use super::{secret::Secret, transport::Trust};

/// A connection to one FileMaker file.
#[derive(Clone)]
pub struct FileMakerConfig {
    /// `https://host[:port]`, plain http only on this machine. With a path, the API's base is that path instead of
    /// `/fmi/data/v2`.
    pub url: String,
    /// The file's name without `.fmp12`; its case matters.
    pub database: String,
    /// An account with the extended privilege `fmrest`.
    pub account: String,
    /// Sessions at a time, 1 to 32. Each takes room on the host, and works on one call at a time.
    pub sessions: usize,
    /// How long a connection may take to come about, up to 2 minutes.
    pub connect_timeout: Duration,
    /// How long a call may take with everything, up to 10 minutes. A host pauses at the end of a backup, so more than a
    /// minute is wise.
    pub read_timeout: Duration,
    pub trust: Trust,
    /// Not HTTP/2, which some web servers before FileMaker break off uncleanly.
    pub http1_only: bool,
    /// A session is exchanged after so many writes, at least 1.
    pub exchange_after_writes: u32,
    /// A session is exchanged after so long.
    pub exchange_after: Duration,
}

impl FileMakerConfig {
    /// With the defaults: 2 sessions, 10 s to connect, 90 s for a call, the system's certificates, sessions exchanged after
    /// 500 writes or an hour.
    pub fn new(url: impl Into<String>, database: impl Into<String>, account: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: database.into(),
            account: account.into(),
            sessions: 2,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(90),
            trust: Trust::System,
            http1_only: false,
            exchange_after_writes: 500,
            exchange_after: Duration::from_secs(60 * 60),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let within = |time: Duration, most: u64| !time.is_zero() && time <= Duration::from_secs(most);
        // Basic authentication ends the name at the first colon, and FileMaker takes printable ASCII in it.
        let nameable =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':');
        for (holds, setting, what) in [
            (!self.database.is_empty(), "database", "must not be empty"),
            (nameable(&self.account), "account", "must be printable ASCII without a colon"),
            ((1..=32).contains(&self.sessions), "sessions", "must be 1 to 32"),
            (within(self.connect_timeout, 120), "connect_timeout", "must be up to 2 minutes"),
            (within(self.read_timeout, 600), "read_timeout", "must be up to 10 minutes"),
            (self.exchange_after_writes > 0, "exchange_after_writes", "must be 1 or more"),
            (!self.exchange_after.is_zero(), "exchange_after", "must be more than nothing"),
        ] {
            if !holds {
                return Err(errors::setting(setting, what));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FileMakerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileMakerConfig")
            .field("database", &self.database)
            .field("sessions", &self.sessions)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct FileMaker {
    pool: Arc<Pool>,
    read_timeout: Duration,
}

/// Rows asked for: one, and another that must not be.
const FEW: &str = "2";
/// Asked for when the few may have hidden the right one: `==` ignores case, a key does not.
const MANY: &str = "500";
const MANY_ROWS: usize = 500;

impl FileMaker {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// `Stop` / `Rejected` on a setting that cannot work, `Stop` / `CertificateRefused` if certificates cannot be loaded.
    pub fn new(config: FileMakerConfig, password: Secret, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        config.check()?;
        let limits =
            Limits { sessions: config.sessions, writes: config.exchange_after_writes, age: config.exchange_after };
        let client = Client::new(&config, &password)?;
        Ok(Self { pool: Arc::new(Pool::new(client, clock, limits)), read_timeout: config.read_timeout })
    }

    /// Waits for calls under way, at most one read time-out, and signs out. Calls after it are refused. Without it, sessions
    /// stay on the host until they have been idle for 15 minutes.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn call(&self, kind: Kind, method: Method, layout: &str, rest: &[&str], body: Option<Json>) -> Call {
        let path = ["databases", &self.pool.client.database, "layouts", layout];
        Call {
            kind,
            method,
            layout: Some(layout.to_owned()),
            path: path.iter().chain(rest).map(|part| (*part).to_owned()).collect(),
            query: Vec::new(),
            body,
        }
    }

    /// Rows whose key is exactly `key`, and whether there were as many as asked for.
    async fn look(&self, table: &Table, key: &str, limit: &str) -> Result<(Vec<Row>, usize), Fault> {
        let criterion = Map::from_iter([(table.key_field.clone(), Json::from(find::exactly(key)))]);
        let body = json!({ "query": [criterion], "limit": limit });
        let call = self.call(Kind::Find, Method::POST, &table.layout, &["_find"], Some(body));
        let mut answer = self.pool.call(call).await?;
        let data = match answer.response.get_mut("data").map(Json::take) {
            Some(Json::Array(data)) => data,
            // "No records match", whose response is empty.
            _ if answer.code != 0 => return Ok((Vec::new(), 0)),
            _ => return Err(errors::bad_answer(Kind::Find)),
        };
        let mut rows = Vec::new();
        for record in &data {
            let fields =
                record.get("fieldData").and_then(Json::as_object).ok_or_else(|| errors::bad_answer(Kind::Find))?;
            let held = fields.get(&table.key_field).ok_or_else(|| not_placed(table, &table.key_field))?;
            if held.as_str() == Some(key) || matches!(held, Json::Number(number) if number.as_str() == key) {
                rows.push(row(table, record, fields)?);
            }
        }
        Ok((rows, data.len()))
    }
}

#[async_trait]
impl ClinicDatabase for FileMaker {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        if !find::askable(key) {
            return Err(Fault::new(Class::Permanent, Code::ValueUnmappable).on(key_name(table)));
        }
        let (mut rows, seen) = self.look(table, key, FEW).await?;
        if rows.len() < 2 && seen >= 2 {
            let (all, seen) = self.look(table, key, MANY).await?;
            if seen >= MANY_ROWS {
                return Err(Fault::new(Class::Permanent, Code::DuplicateRows).on(&table.layout));
            }
            rows = all;
        }
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            _ => Err(Fault::new(Class::Permanent, Code::DuplicateRows).on(&table.layout)),
        }
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        if !find::askable(key) {
            return Err(Fault::new(Class::Permanent, Code::ValueUnmappable).on(key_name(table)));
        }
        let mut data = field_data(fields);
        data.insert(table.key_field.clone(), Json::from(key));
        let body = json!({ "fieldData": data });
        let answer =
            self.pool.call(self.call(Kind::Create, Method::POST, &table.layout, &["records"], Some(body))).await?;
        let ids = id(&answer.response, "recordId").zip(id(&answer.response, "modId"));
        ids.map(|(row, version)| (RowId(row), ModId(version))).ok_or_else(|| errors::bad_answer(Kind::Create))
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        let body = json!({ "fieldData": field_data(fields), "modId": expected.0 });
        let rest = ["records", row.0.as_str()];
        let answer = self.pool.call(self.call(Kind::Edit, Method::PATCH, &table.layout, &rest, Some(body))).await?;
        id(&answer.response, "modId").map(ModId).ok_or_else(|| errors::bad_answer(Kind::Edit))
    }

    async fn probe(&self) -> Result<(), Fault> {
        let question = Call {
            kind: Kind::Read,
            method: Method::GET,
            layout: None,
            path: vec!["validateSession".to_owned()],
            query: Vec::new(),
            body: None,
        };
        self.pool.prove(question).await
    }

    /// The read time-out and half a minute. A request that we gave up on may still lie in a host that is pausing (a backup's
    /// end) and be worked on when it resumes. No limit is documented; we take it that a pause lasts no longer than we were
    /// ready to wait for it, counted from when we gave up, and allow half a minute for the work itself (\[GEN\], unverified). A
    /// write that lands later still meets its guard: the unique key, or a `modId` that has moved.
    fn write_horizon(&self) -> Duration {
        self.read_timeout + Duration::from_secs(30)
    }
}

fn key_name(table: &Table) -> String {
    format!("{}::{}", table.layout, table.key_field)
}

/// A field that the answer does not have is not on the layout; to take it for blank would be to overwrite it.
fn not_placed(table: &Table, field: &str) -> Fault {
    Fault::new(Class::Stop, Code::FieldMissing).on(format!("{}::{field}", table.layout))
}

fn field_data(fields: &Fields) -> Map<String, Json> {
    fields.iter().map(|(name, value)| (name.clone(), values::to_json(value))).collect()
}

/// Ids are texts; a number is taken as well.
fn id(object: &Json, name: &str) -> Option<String> {
    match object.get(name)? {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
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
    Ok(Row { id: RowId(row), mod_id: ModId(version), fields, unreadable })
}
