//! The door by which people and scripts work on a file: without API rules, with FileMaker's own.
//!
//! Facts: sheet section 9. Every commit by anybody raises the modId; a person who has begun to edit a record holds its lock
//! until commit or revert, API calls then get 301 [DOC].

use super::answer::Refused;
use super::host::Hosted;
use super::table::{Entry, Moment, Record};
use super::value::{DateFormat, Value};
use jiff::Timestamp;

/// Work on one file as a person at the desk (or a script) would do it.
#[derive(Debug)]
pub struct Desk<'a> {
    pub(super) file: &'a mut Hosted,
    pub(super) moment: Moment<'a>,
}

impl Desk<'_> {
    fn changes(&self, table: &str, fields: &[(&str, &str)]) -> Result<Vec<(usize, Value)>, Refused> {
        let table = self.file.table(table)?;
        let mut changes = Vec::with_capacity(fields.len());
        for (name, text) in fields {
            let at = table.field(name).ok_or(102)?;
            let result = table.fields[at].result;
            let value = Value::read(text, result, DateFormat::US).ok_or(result.literal_error())?;
            changes.push((at, value));
        }
        Ok(changes)
    }

    /// Makes a record; dates in US form. Gives its recordId.
    ///
    /// # Errors
    /// The code FileMaker would show: 106 no such table, 102 no such field, 201, 500-511 by the field's rules.
    pub fn create(&mut self, table: &str, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        let changes = self.changes(table, fields)?;
        let (id, _) = self.file.table_mut(table)?.create(changes, Entry::default(), &mut self.moment)?;
        Ok(id)
    }

    /// Changes fields and commits. Gives the new modId.
    ///
    /// # Errors
    /// As [`Desk::create`], and 101 if there is no such record; 301 for a script on a record that a person has open.
    pub fn edit(&mut self, table: &str, record_id: u64, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        let changes = self.changes(table, fields)?;
        let table = self.file.table_mut(table)?;
        table.admits(record_id, None, &self.moment)?;
        table.edit(record_id, changes, Entry::default(), &mut self.moment)
    }

    /// Changes fields, also such as nobody may type into, and enters nothing by itself: an import, or a Replace. Gives the new
    /// modId.
    ///
    /// # Errors
    /// As [`Desk::edit`].
    pub fn import(&mut self, table: &str, record_id: u64, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        let changes = self.changes(table, fields)?;
        let table = self.file.table_mut(table)?;
        table.admits(record_id, None, &self.moment)?;
        let entry = Entry { prohibited_too: true, without_auto_enter: true, ..Entry::default() };
        table.edit(record_id, changes, entry, &mut self.moment)
    }

    /// # Errors
    /// 101, 106; 301 for a script on a record that a person has open.
    pub fn delete(&mut self, table: &str, record_id: u64) -> Result<(), Refused> {
        let table = self.file.table_mut(table)?;
        table.admits(record_id, None, &self.moment)?;
        table.delete(record_id, &self.moment)
    }

    /// Begins to edit a record: API calls get 301 until `until`, or until it is released.
    ///
    /// # Errors
    /// 101, 106.
    pub fn open(&mut self, table: &str, record_id: u64, until: Option<Timestamp>) -> Result<(), Refused> {
        let table = self.file.table_mut(table)?;
        table.row(record_id).ok_or(101)?;
        table.lock(record_id, until);
        Ok(())
    }

    /// Leaves the record without a change.
    ///
    /// # Errors
    /// 106.
    pub fn release(&mut self, table: &str, record_id: u64) -> Result<(), Refused> {
        self.file.table_mut(table)?.release(record_id);
        Ok(())
    }

    /// The first record whose field holds exactly this text, or `None`.
    ///
    /// # Errors
    /// 102, 106.
    pub fn find(&self, table: &str, field: &str, text: &str) -> Result<Option<Record>, Refused> {
        let table = self.file.table(table)?;
        let at = table.field(field).ok_or(102)?;
        let holds = |id: &u64| table.row(*id).is_some_and(|row| table.value(row, at).text(DateFormat::US) == text);
        let key = Value::read(text, table.fields[at].result, DateFormat::US).unwrap_or(Value::Empty).key();
        let exactly = (std::ops::Bound::Included(key.clone()), std::ops::Bound::Included(key));
        let id = match table.indexed(at, exactly) {
            Some(ids) => ids.into_iter().find(holds),
            None => table.ids().find(holds),
        };
        Ok(id.and_then(|id| table.record(id)))
    }
}
