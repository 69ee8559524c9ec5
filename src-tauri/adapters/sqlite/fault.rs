//! What SQLite says, as a [`Fault`]. Messages of SQLite are left out: they may quote values.

use std::io;

use engine::error::{Class, Code, Fault};

/// Primary result codes (sqlite.org/rescode.html).
mod result {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const PROTOCOL: i32 = 15;
    pub(super) const NOTADB: i32 = 26;
}

/// Storage that cannot be trusted or reached stops the engine; a statement that merely failed stops only who asked for it.
pub(super) fn of(error: &sqlx::Error) -> Fault {
    let sqlx::Error::Database(database) = error else {
        return match error {
            // The readers are all taken: ask again. The writer has no pool.
            sqlx::Error::PoolTimedOut => Fault::new(Class::Retry, Code::DatabaseBusy),
            sqlx::Error::Io(error) => of_io(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => corrupt("a row that cannot be read"),
            _ => Fault::new(Class::Fatal, Code::DatabaseUnavailable),
        };
    };
    let extended: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    let code = match extended & 0xff {
        result::BUSY | result::LOCKED | result::PROTOCOL => Code::DatabaseBusy,
        result::FULL => Code::DatabaseFull,
        result::READONLY | result::PERM => Code::DatabaseReadOnly,
        result::CORRUPT => Code::DatabaseCorrupt,
        // The first page does not open: nobody can tell another key from damage there.
        result::NOTADB => Code::DatabaseKey,
        result::IOERR | result::CANTOPEN | result::NOMEM => Code::DatabaseUnavailable,
        _ => return Fault::new(Class::Permanent, Code::Unexpected).vendor(format!("SQLite {extended}")),
    };
    Fault::new(Class::Fatal, code).vendor(format!("SQLite {extended}"))
}

pub(super) fn of_io(error: &io::Error) -> Fault {
    Fault::new(
        Class::Fatal,
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::DatabaseReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DatabaseFull,
            _ => Code::DatabaseUnavailable,
        },
    )
    .vendor(format!("{:?}", error.kind()))
}

pub(super) fn corrupt(what: &str) -> Fault {
    Fault::new(Class::Fatal, Code::DatabaseCorrupt).on(what)
}

/// Something that a row should not hold.
pub(super) fn unreadable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
