use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use super::lock;
use crate::{
    error::{Class, Code, Fault},
    ports::ClinicDatabase,
    row::{Fields, ModId, Row, RowId, Table, Value},
};

/// A clinic's database in memory: rows with versions and a unique key.
#[derive(Default)]
pub struct MemoryClinic {
    sheets: Mutex<BTreeMap<String, Sheet>>,
    /// A database whose key is not unique and whose edits ask for no version: for tests that must find that out.
    unguarded: bool,
}

impl fmt::Debug for MemoryClinic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryClinic")
    }
}

#[derive(Default)]
struct Sheet {
    next: u64,
    rows: BTreeMap<u64, Line>,
    locked: BTreeSet<String>,
}

#[derive(Clone)]
struct Line {
    key: String,
    mod_id: u64,
    fields: Fields,
}

impl MemoryClinic {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn without_guards() -> Arc<Self> {
        Arc::new(Self { unguarded: true, ..Self::default() })
    }

    /// Keys and fields of a layout's rows.
    pub fn rows(&self, layout: &str) -> Vec<(String, Fields)> {
        let sheets = lock(&self.sheets);
        let rows = sheets.get(layout).map(|sheet| sheet.rows.values());
        rows.into_iter().flatten().map(|line| (line.key.clone(), line.fields.clone())).collect()
    }

    /// Key and fields of one row.
    pub fn row(&self, layout: &str, row: &RowId) -> Option<(String, Fields)> {
        let sheets = lock(&self.sheets);
        let line = sheets.get(layout)?.rows.get(&row.0.parse().ok()?)?;
        Some((line.key.clone(), line.fields.clone()))
    }

    /// A person at the desk changes a field. False if there is no such row.
    pub fn edit_by_hand(&self, layout: &str, key: &str, field: &str, value: Value) -> bool {
        let mut sheets = lock(&self.sheets);
        let line = sheets.get_mut(layout).and_then(|sheet| sheet.rows.values_mut().find(|line| line.key == key));
        line.is_some_and(|line| {
            line.mod_id += 1;
            line.fields.insert(field.to_owned(), value);
            true
        })
    }

    pub fn delete_by_hand(&self, layout: &str, key: &str) {
        if let Some(sheet) = lock(&self.sheets).get_mut(layout) {
            sheet.rows.retain(|_, line| line.key != key);
        }
    }

    /// A person has the record open, or closes it.
    pub fn open_by_hand(&self, layout: &str, key: &str, open: bool) {
        let mut sheets = lock(&self.sheets);
        let locked = &mut sheets.entry(layout.to_owned()).or_default().locked;
        if open {
            locked.insert(key.to_owned());
        } else {
            locked.remove(key);
        }
    }
}

#[async_trait]
impl ClinicDatabase for MemoryClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        let mut found = sheet.rows.iter().filter(|(_, line)| line.key == key);
        let Some((id, line)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(Fault::new(Class::Permanent, Code::DuplicateRows));
        }
        let fields =
            table.fields.keys().map(|field| (field.clone(), line.fields.get(field).cloned().unwrap_or(Value::Blank)));
        Ok(Some(Row {
            id: RowId(id.to_string()),
            mod_id: ModId(line.mod_id.to_string()),
            fields: fields.collect(),
            unreadable: Vec::new(),
        }))
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        if !self.unguarded && sheet.rows.values().any(|line| line.key == key) {
            return Err(Fault::new(Class::Stale, Code::RecordChanged));
        }
        sheet.next += 1;
        let id = sheet.next;
        sheet.rows.insert(id, Line { key: key.to_owned(), mod_id: 0, fields: fields.clone() });
        Ok((RowId(id.to_string()), ModId("0".to_owned())))
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        let stale = || Fault::new(Class::Stale, Code::RecordChanged);
        let id: u64 = row.0.parse().map_err(|_| stale())?;
        let line = sheet.rows.get_mut(&id).ok_or_else(stale)?;
        if sheet.locked.contains(&line.key) {
            return Err(Fault::new(Class::Wait(None), Code::RecordOpen));
        }
        if !self.unguarded && line.mod_id.to_string() != expected.0 {
            return Err(stale());
        }
        line.mod_id += 1;
        line.fields.extend(fields.clone());
        Ok(ModId(line.mod_id.to_string()))
    }

    async fn probe(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn write_horizon(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }
}
