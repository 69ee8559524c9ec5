//! The database file: who may open it, how, and whether it is ours.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{File, OpenOptions, TryLockError},
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    error::{Class, Code, Fault},
    keys::{ClinicKey, Purpose},
};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::SqliteConnectOptions,
};
use zeroize::Zeroizing;

use super::fault;

static MIGRATIONS: Migrator = sqlx::migrate!("src-tauri/adapters/sqlite/migrations");

/// Marks a database as Chart Relay's (sqlite.org/pragma.html#pragma_application_id): "ChRe" in ASCII.
const APPLICATION_ID: i64 = 0x4368_5265;

/// How long to wait for another process that has the file locked, such as a backup.
const BUSY: Duration = Duration::from_secs(5);

/// A file that stands beside the database: `relay.db` has `relay.db.lock`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates what is missing and leaves only the owner in. On Windows the folder's own rights decide.
pub(super) fn open_private(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(mode & 0o700))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Held as long as the database is open. SQLite's own locks let a second process in between two transactions.
pub(super) fn lock(path: &Path) -> Result<File, Fault> {
    let file =
        open_private(&beside(path, ".lock"), OpenOptions::new().create(true).truncate(false).read(true).write(true))
            .map_err(|error| fault::of_io(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::new(Class::Fatal, Code::DatabaseBusy)),
        Err(TryLockError::Error(error)) => Err(fault::of_io(&error)),
    }
}

/// What every connection has in common. Statements are not logged: the one that sets the key is among them.
pub(super) fn options(path: &Path, key: &ClinicKey) -> SqliteConnectOptions {
    let derived = key.derive(Purpose::Database);
    let mut pragma = Zeroizing::new(String::with_capacity(2 * derived.bytes().len() + 5));
    pragma.push_str("\"x'");
    for byte in derived.bytes() {
        write!(pragma, "{byte:02x}").expect("writing to a String cannot fail");
    }
    pragma.push_str("'\"");
    SqliteConnectOptions::new()
        .filename(path)
        .pragma("key", pragma.to_string())
        // SQLCipher would write to standard error; what goes wrong is ours to say.
        .pragma("cipher_log_level", "NONE")
        // Temporary tables and sorts would be files in the clear.
        .pragma("temp_store", "MEMORY")
        .pragma("mmap_size", "0")
        .pragma("trusted_schema", "OFF")
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// Reads without being able to write, checkpoint or repair anything.
pub(super) fn reader(path: &Path, key: &ClinicKey) -> SqliteConnectOptions {
    options(path, key).read_only(true).pragma("query_only", "ON").pragma("cache_size", "-1000")
}

/// Opens the one connection that writes, makes sure that the database is ours and brings its tables up to date.
pub(super) async fn open_writer(
    path: &Path,
    key: &ClinicKey,
    max_pages: Option<u32>,
) -> Result<SqliteConnection, Fault> {
    // Read first, write if allowed: SQLite itself says best what is wrong with a read-only file.
    if !path.exists() {
        open_private(path, OpenOptions::new().create(true).truncate(false).write(true))
            .map_err(|error| fault::of_io(&error))?;
    } else {
        open_private(path, OpenOptions::new().read(true)).map_err(|error| fault::of_io(&error))?;
    }
    let mut connection = options(path, key).connect().await.map_err(|error| explain(path, &error))?;
    let limit = max_pages.map(|pages| format!("PRAGMA max_page_count = {pages};")).unwrap_or_default();
    // Not among the options: those would come before the log level. Each commit is to be on disk before it is answered; on
    // macOS only F_FULLFSYNC goes past the drive's cache.
    let settings = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
         PRAGMA cache_size = -4000; PRAGMA journal_size_limit = 67108864; {limit}"
    );
    if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(&mut connection).await {
        let fault = explain(path, &error);
        let _ = connection.close().await;
        return Err(fault);
    }
    match prepare(&mut connection).await {
        Ok(()) => Ok(connection),
        Err(fault) => {
            let _ = connection.close().await;
            Err(fault)
        }
    }
}

/// A database in the clear has SQLite's own header: it is somebody else's, whatever the key.
fn explain(path: &Path, error: &sqlx::Error) -> Fault {
    let fault = fault::of(error);
    let mut header = [0; 16];
    let clear = fault.code == Code::DatabaseKey
        && File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok()
        && &header == b"SQLite format 3\0";
    if clear { foreign("a database without encryption") } else { fault }
}

fn foreign(what: &str) -> Fault {
    Fault::new(Class::Fatal, Code::DatabaseForeign).on(what)
}

async fn prepare(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let storage = |error: sqlx::Error| fault::of(&error);
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(storage)?;
    if application != APPLICATION_ID {
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&mut *connection)
            .await
            .map_err(storage)?;
        if application != 0 || tables != 0 {
            return Err(foreign("a database of another program"));
        }
        sqlx::query("PRAGMA application_id = 0x43685265").execute(&mut *connection).await.map_err(storage)?;
    }
    let latest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(storage)?;
    if version > latest {
        return Err(foreign("a database of a newer version of this program"));
    }
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fault::of(&error),
        MigrateError::VersionMissing(_) => foreign("a database of a newer version of this program"),
        _ => foreign("a database whose tables are not this program's"),
    })?;
    if version < latest {
        // Migrations are few and counted from 1; a PRAGMA takes no parameter.
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {latest}")))
            .execute(&mut *connection)
            .await
            .map_err(storage)?;
    }
    Ok(())
}
