//! The records of one table: writes with their rules, indexes, locks, history.
//!
//! Facts: sheet sections 5, 5.4, 8.3, 9. recordId per table, modId counts commits and starts at 0 [DOC/CAP]; stale modId 306 and
//! nothing written [LIVE]; a lock held by a person 301 at once [DOC]; "always" rules hold in `entrymode` script, the others
//! only in `user` [DOC/LIVE]; 201 for calculations and prohibited fields unless `prohibitmode` is script [LIVE].
//! Ours [GEN]: rules are checked in the order 502, 511, 509, 503, 506, 507, 504 and only for fields that changed; an empty
//! value is never a duplicate; a PATCH with empty `fieldData` leaves the modId as it is, any other raises it.

use super::answer::Refused;
use super::model::{AutoEnter, Field, Table as Definition};
use super::value::{DateFormat, Key, ResultType, Value};
use jiff::Timestamp;
use jiff::civil::DateTime;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

/// How many accepted writes are remembered per record.
const HISTORY: usize = 64;

/// Who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A Data API call.
    Api,
    /// A Data API call that was carried out after its connection had been given up.
    LateApi,
    /// A person at the desk.
    Desktop,
    Script,
}

/// One accepted write, as the history of a record keeps it. Values are synthetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub at: Timestamp,
    pub by: By,
    /// The modId after the write; `None`: the record was deleted.
    pub mod_id: Option<u64>,
    /// What was asked for, as text with US dates.
    pub fields: BTreeMap<String, String>,
}

/// A record as tests see it: every field of the table as text, dates in US form. Values are synthetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub record_id: u64,
    pub mod_id: u64,
    pub fields: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) mod_id: u64,
    pub(super) values: Vec<Value>,
}

/// The moment of a write.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    pub(super) at: Timestamp,
    pub(super) local: DateTime,
    /// The clock of the computer it is done on.
    pub(super) desk: DateTime,
    pub(super) rng: &'a mut StdRng,
    pub(super) by: By,
}

/// Which rules a write is held to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// `entrymode` script: only rules that hold always.
    pub(super) only_always: bool,
    /// `prohibitmode` script: prohibited fields may be written.
    pub(super) prohibited_too: bool,
    /// Nothing is entered by itself: an import without "perform auto-enter options", a Replace of one field.
    pub(super) without_auto_enter: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) fields: Vec<Field>,
    by_name: HashMap<String, usize>,
    rows: BTreeMap<u64, Row>,
    next: u64,
    indexes: Vec<Option<BTreeMap<Key, BTreeSet<u64>>>>,
    /// Records open in somebody's window, and until when (`None`: until released).
    locks: BTreeMap<u64, Option<Timestamp>>,
    history: BTreeMap<u64, Vec<Write>>,
}

impl Table {
    pub(super) fn new(definition: Definition) -> Self {
        let fields = definition.fields;
        Self {
            by_name: fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect(),
            indexes: fields.iter().map(|field| field.indexed.then(BTreeMap::new)).collect(),
            fields,
            rows: BTreeMap::new(),
            next: 1,
            locks: BTreeMap::new(),
            history: BTreeMap::new(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.keys().copied()
    }

    pub(super) fn row(&self, id: u64) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// The value a reader sees: calculations are worked out.
    pub(super) fn value(&self, row: &Row, at: usize) -> Value {
        let field = &self.fields[at];
        let Some(calculate) = field.calculation else { return row.values[at].clone() };
        let text = calculate(&|name| {
            self.field(name).map_or_else(String::new, |other| row.values[other].text(DateFormat::US))
        });
        Value::read(&text, field.result, DateFormat::US).unwrap_or(Value::Empty)
    }

    pub(super) fn record(&self, id: u64) -> Option<Record> {
        let row = self.rows.get(&id)?;
        let fields = (0..self.fields.len())
            .map(|at| (self.fields[at].name.clone(), self.value(row, at).text(DateFormat::US)))
            .collect();
        Some(Record { record_id: id, mod_id: row.mod_id, fields })
    }

    pub(super) fn history(&self, id: u64) -> Vec<Write> {
        self.history.get(&id).cloned().unwrap_or_default()
    }

    /// Records an index gives for a stretch of keys; `None` if the field has no index.
    pub(super) fn indexed(&self, at: usize, (from, to): (Bound<Key>, Bound<Key>)) -> Option<BTreeSet<u64>> {
        let index = self.indexes[at].as_ref()?;
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) = (&from, &to)
            && (a > b || (a == b && !(matches!(from, Bound::Included(_)) && matches!(to, Bound::Included(_)))))
        {
            return Some(BTreeSet::new());
        }
        Some(index.range((from, to)).flat_map(|(_, ids)| ids.iter().copied()).collect())
    }

    /// Whether another record holds the same value.
    pub(super) fn held_twice(&self, at: usize, id: u64, value: &Value) -> bool {
        let key = value.key();
        match &self.indexes[at] {
            Some(index) => index.get(&key).is_some_and(|ids| ids.iter().any(|other| *other != id)),
            None => self.rows.iter().any(|(other, row)| *other != id && row.values[at].key() == key),
        }
    }

    pub(super) fn lock(&mut self, id: u64, until: Option<Timestamp>) {
        self.locks.insert(id, until);
    }

    pub(super) fn release(&mut self, id: u64) {
        self.locks.remove(&id);
    }

    pub(super) fn release_all(&mut self) {
        self.locks.clear();
    }

    fn locked(&self, id: u64, at: Timestamp) -> bool {
        self.locks.get(&id).is_some_and(|until| until.is_none_or(|until| at < until))
    }

    /// What an edit or delete must pass before anything else: the record is there, not open elsewhere, not moved on.
    pub(super) fn admits(&self, id: u64, mod_id: Option<u64>, moment: &Moment<'_>) -> Result<(), Refused> {
        let row = self.rows.get(&id).ok_or(101)?;
        if moment.by != By::Desktop && self.locked(id, moment.at) {
            return Err(301.into());
        }
        match mod_id {
            Some(expected) if expected != row.mod_id => Err(306.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn create(
        &mut self,
        changes: Vec<(usize, Value)>,
        entry: Entry,
        moment: &mut Moment<'_>,
    ) -> Result<(u64, u64), Refused> {
        let mut row = Row { mod_id: 0, values: vec![Value::Empty; self.fields.len()] };
        for (value, field) in row.values.iter_mut().zip(&self.fields) {
            match &field.auto {
                AutoEnter::Uuid => *value = Value::Text(uuid(moment.rng)),
                AutoEnter::Constant(text) => {
                    *value = Value::read(text, field.result, DateFormat::US).unwrap_or(Value::Empty);
                }
                AutoEnter::Nothing | AutoEnter::HostModified | AutoEnter::DeskModified => {}
            }
        }
        let all = (0..self.fields.len()).collect();
        let id = self.next;
        self.commit(id, row, changes, all, entry, moment)?;
        self.next += 1;
        Ok((id, 0))
    }

    pub(super) fn edit(
        &mut self,
        id: u64,
        changes: Vec<(usize, Value)>,
        entry: Entry,
        moment: &mut Moment<'_>,
    ) -> Result<u64, Refused> {
        let mut row = self.rows.get(&id).ok_or(101)?.clone();
        if changes.is_empty() {
            return Ok(row.mod_id);
        }
        row.mod_id += 1;
        let mod_id = row.mod_id;
        let changed = changes.iter().map(|(at, _)| *at).collect();
        self.commit(id, row, changes, changed, entry, moment)?;
        Ok(mod_id)
    }

    pub(super) fn delete(&mut self, id: u64, moment: &Moment<'_>) -> Result<(), Refused> {
        let row = self.rows.remove(&id).ok_or(101)?;
        for (index, value) in self.indexes.iter_mut().zip(&row.values) {
            if let Some(index) = index {
                unlist(index, &value.key(), id);
            }
        }
        self.locks.remove(&id);
        self.remember(id, moment, None, BTreeMap::new());
        Ok(())
    }

    pub(super) fn duplicate(&mut self, id: u64, moment: &mut Moment<'_>) -> Result<(u64, u64), Refused> {
        let row = self.rows.get(&id).ok_or(101)?;
        let copied = self
            .fields
            .iter()
            .zip(&row.values)
            .enumerate()
            .filter(|(_, (field, _))| field.calculation.is_none() && field.auto == AutoEnter::Nothing)
            .map(|(at, (_, value))| (at, value.clone()))
            .collect();
        self.create(copied, Entry { prohibited_too: true, ..Entry::default() }, moment)
    }

    fn commit(
        &mut self,
        id: u64,
        mut row: Row,
        changes: Vec<(usize, Value)>,
        checked: BTreeSet<usize>,
        entry: Entry,
        moment: &Moment<'_>,
    ) -> Result<(), Refused> {
        let mut asked = BTreeMap::new();
        for (at, value) in changes {
            let field = &self.fields[at];
            if field.calculation.is_some() || (field.prohibited && !entry.prohibited_too) {
                return Err(201.into());
            }
            asked.insert(field.name.clone(), value.text(DateFormat::US));
            row.values[at] = value;
        }
        for at in checked {
            if self.fields[at].always || !entry.only_always {
                self.check(id, at, &row.values[at])?;
            }
        }
        for (value, field) in row.values.iter_mut().zip(&self.fields).filter(|_| !entry.without_auto_enter) {
            match field.auto {
                AutoEnter::HostModified => *value = Value::Stamp(moment.local),
                AutoEnter::DeskModified => *value = Value::Stamp(moment.desk),
                AutoEnter::Nothing | AutoEnter::Uuid | AutoEnter::Constant(_) => {}
            }
        }
        let before = self.rows.get(&id);
        for (at, index) in self.indexes.iter_mut().enumerate() {
            let Some(index) = index else { continue };
            let key = row.values[at].key();
            let old = before.map(|row| row.values[at].key());
            if old.as_ref() == Some(&key) {
                continue;
            }
            if let Some(old) = old {
                unlist(index, &old, id);
            }
            index.entry(key).or_default().insert(id);
        }
        let mod_id = row.mod_id;
        self.rows.insert(id, row);
        self.remember(id, moment, Some(mod_id), asked);
        Ok(())
    }

    fn check(&self, id: u64, at: usize, value: &Value) -> Result<(), Refused> {
        let field = &self.fields[at];
        if field.numeric && field.result == ResultType::Number && matches!(value, Value::Text(_)) {
            return Err(502.into());
        }
        if field.not_empty && value.is_empty() {
            return Err(509.into());
        }
        if value.is_empty() {
            return Ok(());
        }
        let text = value.text(DateFormat::US);
        if field.max_characters > 0 && text.chars().count() > field.max_characters {
            return Err(511.into());
        }
        if let Some((from, to)) = &field.range {
            let end = |text: &str| Value::read(text, field.result, DateFormat::US).map(|value| value.key());
            let key = value.key();
            if end(from).is_some_and(|from| key < from) || end(to).is_some_and(|to| key > to) {
                return Err(503.into());
            }
        }
        if field.value_list.as_ref().is_some_and(|(_, values)| !values.contains(&text)) {
            return Err(506.into());
        }
        if field.test.is_some_and(|passes| !passes(&text)) {
            return Err(507.into());
        }
        if field.unique && self.held_twice(at, id, value) {
            return Err(504.into());
        }
        Ok(())
    }

    fn remember(&mut self, id: u64, moment: &Moment<'_>, mod_id: Option<u64>, fields: BTreeMap<String, String>) {
        let history = self.history.entry(id).or_default();
        if history.len() == HISTORY {
            history.remove(0);
        }
        history.push(Write { at: moment.at, by: moment.by, mod_id, fields });
    }
}

fn unlist(index: &mut BTreeMap<Key, BTreeSet<u64>>, key: &Key, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// A version 4 UUID in capitals, as `Get(UUID)` gives it.
fn uuid(rng: &mut StdRng) -> String {
    let bits = (rng.random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032X}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
