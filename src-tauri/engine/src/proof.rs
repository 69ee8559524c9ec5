//! The proof, kept in the ledger, that a table's key is unique: found by trying, by consent, before the first row is created.
//! It names what was tried; a mapping to another layout or key field needs its own.

use jiff::Timestamp;

use crate::{
    error::Fault,
    key::RecordKey,
    ledger::{Claim, Commit, Finish, LedgerError, Owner, Take},
    ports::Ledger,
    row::Table,
};

pub(crate) fn text(table: &Table) -> String {
    serde_json::json!({ "layout": table.layout, "key": table.key_field }).to_string()
}

/// Whether the proof for this table is there.
pub async fn is_there(ledger: &dyn Ledger, key: &RecordKey, table: &Table) -> Result<bool, Fault> {
    Ok(ledger.read(key).await?.is_some_and(|record| record.state == text(table)))
}

/// Notes that the table's key was seen to be unique.
pub async fn note(
    ledger: &dyn Ledger,
    key: &RecordKey,
    table: &Table,
    owner: Owner,
    term: std::time::Duration,
    now: Timestamp,
) -> Result<(), LedgerError> {
    match ledger.take(key, &Claim { owner, term, overdue: None, now }).await? {
        Take::Busy(_) => Err(LedgerError::Lost),
        Take::Taken(record, lease) => {
            let generation = record.generation;
            let commit =
                Commit { state: text(table), finish: Finish::Done, notice: None, generation, first_seen: now, now };
            ledger.commit(&lease, commit).await.map(|_| ())
        }
    }
}
