//! The embedded queue, ledger, audit log and notes: one encrypted SQLite file, one writer.
//!
//! Whatever changes the file goes through one task that owns the one connection that may write ([`writer`]). It takes all
//! that waits, puts it into one transaction, and answers each caller only after the commit is on disk: callers share the
//! price of a sync, and nobody is told of a change that a power cut could undo. Reads go to a small pool of connections that
//! cannot write. Beside `relay.db` stand `relay.db.lock`, held while a process has it open, and `relay.db.anchor`, which
//! tells how far the audit log had come ([`anchor`]).

mod anchor;
mod audit;
mod fault;
mod file;
mod ledger;
mod notes;
mod queue;
pub mod verify;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine::{
    error::{Class, Fault},
    key::RecordKey,
    keys::{ClinicKey, DerivedKey, Purpose},
    ledger::Owner,
    ports::{AuditLog, Clock, Ledger, Notes, Queue},
};
use jiff::Timestamp;
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

use self::writer::Writer;

/// Connections for reading; each costs a thread and up to 1 MB of cache while in use.
const READERS: u32 = 3;
const READER_IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Options {
    /// How long a received message stays invisible, unless extended.
    pub visibility: Duration,
    /// The most that the file may grow to, in pages of 4096 bytes; past it, writes fail as on a full disk.
    pub max_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { visibility: Duration::from_secs(60), max_pages: None }
    }
}

/// An open database. Clones are handles of the same one.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    path: PathBuf,
    audit_key: DerivedKey,
    writer: Writer,
    clock: Arc<dyn Clock>,
    readers: SqlitePool,
    visibility: Duration,
    owner: Owner,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.0.path).finish()
    }
}

impl Database {
    /// Opens or creates it, for this station and boot. What an earlier boot had received is visible again.
    ///
    /// # Errors
    /// All of class Fatal: `DatabaseBusy` (another process has it), `DatabaseKey` (another key, or the first page is damaged),
    /// `DatabaseForeign` (another program's, or a newer version's), `DatabaseCorrupt`, `DatabaseReadOnly`, `DatabaseFull`,
    /// `DatabaseUnavailable` (the folder is missing, the disk fails).
    pub async fn open(path: &Path, key: &ClinicKey, owner: Owner, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        Self::open_with(path, key, owner, clock, Options::default()).await
    }

    /// As [`Database::open`], with other options than the default.
    pub async fn open_with(
        path: &Path,
        key: &ClinicKey,
        owner: Owner,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, Fault> {
        // Whatever goes wrong here, there is nothing to go on with.
        Self::try_open(path, key, owner, clock, options).await.map_err(|fault| Fault { class: Class::Fatal, ..fault })
    }

    async fn try_open(
        path: &Path,
        key: &ClinicKey,
        owner: Owner,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, Fault> {
        let lock = file::lock(path)?;
        let connection = file::open_writer(path, key, options.max_pages).await?;
        let audit_key = key.derive(Purpose::AuditChain);
        let store = writer::Store::new(connection, clock.clone(), &options, audit_key.clone(), path).await?;
        let writer = Writer::start(store, lock);
        let readers = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(READERS)
            .idle_timeout(READER_IDLE)
            // A connection to a local file does not go stale.
            .test_before_acquire(false)
            .connect_lazy_with(file::reader(path, key));
        let database = Self(Arc::new(Shared {
            path: path.to_owned(),
            audit_key,
            writer,
            clock,
            readers,
            visibility: options.visibility,
            owner,
        }));
        database.announce().await?;
        Ok(database)
    }

    /// States which library keeps the data. Versions before 3.51.3 can damage a file when two connections write or checkpoint
    /// at once (sqlite.org/wal.html, "the WAL reset bug"); here only one ever does.
    async fn announce(&self) -> Result<(), Fault> {
        let storage = |error: sqlx::Error| fault::of(&error);
        let mut connection = self.0.readers.acquire().await.map_err(storage)?;
        let sqlite: String =
            sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await.map_err(storage)?;
        let cipher: String =
            sqlx::query_scalar("PRAGMA cipher_version").fetch_one(&mut *connection).await.map_err(storage)?;
        let Owner { station, boot } = &self.0.owner;
        tracing::info!(%station, %boot, sqlite, cipher, "database open");
        Ok(())
    }

    /// The station and boot that it was opened for.
    pub fn owner(&self) -> &Owner {
        &self.0.owner
    }

    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(queue::SqliteQueue(self.clone()))
    }

    pub fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(ledger::SqliteLedger(self.clone()))
    }

    pub fn audit(&self) -> Arc<dyn AuditLog> {
        Arc::new(audit::SqliteAudit(self.clone()))
    }

    pub fn notes(&self) -> Arc<dyn Notes> {
        Arc::new(notes::SqliteNotes(self.clone()))
    }

    /// Removes records that are kept elsewhere from now on.
    pub async fn forget(&self, keys: Vec<RecordKey>) -> Result<(), Fault> {
        self.0.writer.call(ledger::Forget(keys)).await
    }

    /// Checks the audit log while it is in use.
    pub async fn verify_audit(&self) -> Result<verify::Report, Fault> {
        let mut connection = self.0.readers.acquire().await.map_err(|error| fault::of(&error))?;
        verify::check(&mut connection, &self.0.path, &self.0.audit_key).await
    }

    /// Finishes what was asked for, writes the anchor, moves the log into the file and closes it. Later calls through any handle
    /// fail with `DatabaseUnavailable`. Without it nothing is lost; only the next start takes longer.
    pub async fn close(&self) -> Result<(), Fault> {
        // A reader that is still at it would keep the log from being emptied.
        self.0.readers.close().await;
        self.0.writer.close().await
    }
}

/// Microseconds since 1970, all that is kept of a time stamp.
fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

fn timestamp(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|_| fault::unreadable("a time out of range"))
}

/// Longer than any duration that is meant: 292 000 years.
fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Rows as one parameter, for `json_each`.
fn json<T: serde::Serialize + ?Sized>(rows: &T) -> String {
    serde_json::to_string(rows).expect("numbers and plain strings always have a JSON form")
}
