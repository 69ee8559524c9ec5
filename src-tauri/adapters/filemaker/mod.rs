//! The clinic's database: FileMaker Server through its Data API (v2), as the engine's [`ClinicDatabase`].
//!
//! `errors` says what every answer means, `session` keeps the few sessions that a host has room for, `find` and `values`
//! speak FileMaker's languages, `rows` reads and lists rows, `check` and `watch` are the doctor. Facts and their evidence are those of the Claris Data API guide
//! (help.claris.com/en/data-api-guide) and of public clients; nothing in here was tried on a licensed FileMaker Server.
//!
//! **Outcomes.** A write whose answer is lost is `Unknown`, and nothing here repeats it. The one exception is code 952, which
//! FileMaker says before it begins. A call in flight is never cut off by us: it runs in its own task to its end, at most
//! [`FileMakerConfig::read_timeout`], also if the caller's future is dropped; but then nobody hears the outcome.

mod check;
mod client;
mod errors;
mod find;
mod rows;
mod session;
mod values;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    key::RowUuid,
    ports::{ClinicDatabase, Clock, PageToken, RowChanges},
    row::{Fields, ModId, Row, RowId, Table},
    server_clock::Heard,
};
use jiff::civil::DateTime;
use reqwest::Method;
use serde_json::{Value as Json, json};

pub use check::Proof;

use self::{
    client::{Call, Client},
    errors::Kind,
    rows::{Name, field_data, id},
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

impl FileMaker {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// `Stop` / `Rejected` on a setting that cannot work, `Stop` / `CertificateRefused` if certificates cannot be loaded.
    pub fn new(config: FileMakerConfig, password: Secret, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        config.check()?;
        let limits =
            Limits { sessions: config.sessions, writes: config.exchange_after_writes, age: config.exchange_after };
        let client = Client::new(&config, &password, clock.clone())?;
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

    /// Changes these fields, if the row still has this version.
    async fn change(&self, table: &Table, row: &RowId, expected: &ModId, fields: Json) -> Result<ModId, Fault> {
        let body = json!({ "fieldData": fields, "modId": expected.0 });
        let rest = ["records", row.0.as_str()];
        let answer = self.pool.call(self.call(Kind::Edit, Method::PATCH, &table.layout, &rest, Some(body))).await?;
        id(&answer.response, "modId").map(ModId).ok_or_else(|| errors::bad_answer(Kind::Edit))
    }
}

#[async_trait]
impl ClinicDatabase for FileMaker {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        self.one(table, Name::Key(key)).await
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.one(table, Name::Uuid(uuid)).await
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        let mut list = match since {
            Some(since) => self.list_since(table, since, page).await?,
            None => self.list_all(table, page).await?,
        };
        // A check-up may be at work beside us.
        list.changes.retain(|change| !change.key.as_deref().is_some_and(check::is_probe));
        Ok(list)
    }

    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        self.like(table, fields).await
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
        self.change(table, row, expected, field_data(fields).into()).await
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        if !find::askable(key) {
            return Err(Fault::new(Class::Permanent, Code::ValueUnmappable).on(key_name(table)));
        }
        self.change(table, row, expected, json!({ &table.key_field: key })).await
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

    fn server_clock(&self) -> Option<Heard> {
        self.pool.client.clock.heard()
    }
}

fn key_name(table: &Table) -> String {
    format!("{}::{}", table.layout, table.key_field)
}
