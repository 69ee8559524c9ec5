use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, civil::DateTime, tz::TimeZone};

use super::lock;
use crate::{
    error::{Class, Code, Fault},
    key::RowUuid,
    ports::{ClinicDatabase, Clock, PageToken, RowChange, RowChanges},
    row::{Fields, ModId, Row, RowId, Table, Value},
};

/// Lines of one page.
const PAGE: usize = 3;

/// A clinic's database in memory: rows with versions and a unique key.
#[derive(Default)]
pub struct MemoryClinic {
    sheets: Mutex<BTreeMap<String, Sheet>>,
    /// Whose clock the time stamps are of. Without it the file has no fields for changes.
    host: Option<(Arc<dyn Clock>, TimeZone)>,
    /// How far the clocks at the desk are ahead, where they and not the host's stamp what people do.
    desks_ahead: Mutex<SignedDuration>,
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
    hidden: bool,
}

#[derive(Clone)]
struct Line {
    /// Empty: the row has no FHIR id.
    key: String,
    uuid: RowUuid,
    modified: Option<DateTime>,
    mod_id: u64,
    fields: Fields,
}

impl MemoryClinic {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A file whose tables have a UUID and the host's time stamp.
    pub fn on_host(clock: Arc<dyn Clock>, zone: TimeZone) -> Arc<Self> {
        Arc::new(Self { host: Some((clock, zone)), ..Self::default() })
    }

    pub fn without_guards() -> Arc<Self> {
        Arc::new(Self { unguarded: true, ..Self::default() })
    }

    pub fn on_host_without_guards(clock: Arc<dyn Clock>, zone: TimeZone) -> Arc<Self> {
        Arc::new(Self { host: Some((clock, zone)), unguarded: true, ..Self::default() })
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

    /// A person at the desk enters a row. Gives its UUID, by which it can be named as it can by its key once it has one.
    pub fn enter_by_hand(&self, layout: &str, fields: Fields) -> RowUuid {
        let now = self.desk_time();
        lock(&self.sheets).entry(layout.to_owned()).or_default().add("", fields, now).1
    }

    /// Somebody changes a field in a way that enters no time stamp: an import. False if there is no such row.
    pub fn import_by_hand(&self, layout: &str, key: &str, field: &str, value: Value) -> bool {
        let mut sheets = lock(&self.sheets);
        let line = sheets.get_mut(layout).and_then(|sheet| sheet.rows.values_mut().find(|line| line.is(key)));
        line.is_some_and(|line| {
            line.touch(line.modified);
            line.fields.insert(field.to_owned(), value);
            true
        })
    }

    /// The account sees none of a layout's rows any more, or sees them again.
    pub fn hide_by_hand(&self, layout: &str, hidden: bool) {
        lock(&self.sheets).entry(layout.to_owned()).or_default().hidden = hidden;
    }

    /// From now on what people do is stamped by the clocks at their desks, which are so far ahead of the host's, or behind it.
    pub fn set_desk_clocks(&self, ahead: SignedDuration) {
        *lock(&self.desks_ahead) = ahead;
    }

    fn desk_time(&self) -> Option<DateTime> {
        self.host_time()?.checked_add(*lock(&self.desks_ahead)).ok()
    }

    /// What the host's clock stamps a row with.
    fn host_time(&self) -> Option<DateTime> {
        let (clock, zone) = self.host.as_ref()?;
        let now = clock.now().to_zoned(zone.clone()).datetime();
        now.with().subsec_nanosecond(0).build().ok()
    }

    fn changes_fields(&self, table: &Table) -> Result<(), Fault> {
        if self.host.is_some() && table.changes.is_some() {
            return Ok(());
        }
        Err(Fault::new(Class::Stop, Code::FieldMissing))
    }

    /// The row as the table shows it.
    fn show(&self, table: &Table, id: u64, line: &Line) -> Row {
        let fields =
            table.fields.keys().map(|field| (field.clone(), line.fields.get(field).cloned().unwrap_or(Value::Blank)));
        let watched = self.changes_fields(table).is_ok();
        Row {
            id: RowId(id.to_string()),
            mod_id: ModId(line.mod_id.to_string()),
            key: Some(line.key.clone()).filter(|key| !key.is_empty()),
            uuid: watched.then(|| line.uuid.clone()),
            modified: line.modified.filter(|_| watched),
            fields: fields.collect(),
            unreadable: Vec::new(),
        }
    }

    fn one(&self, table: &Table, is: impl Fn(&Line) -> bool) -> Result<Option<Row>, Fault> {
        let sheets = lock(&self.sheets);
        let Some(sheet) = sheets.get(&table.layout) else { return Ok(None) };
        let mut found = sheet.rows.iter().filter(|(_, line)| is(line));
        let Some((id, line)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(Fault::new(Class::Permanent, Code::DuplicateRows));
        }
        Ok(Some(self.show(table, *id, line)))
    }

    /// A guarded change of one row.
    fn change(
        &self,
        table: &Table,
        row: &RowId,
        expected: &ModId,
        key: Option<&str>,
        fields: &Fields,
    ) -> Result<ModId, Fault> {
        let now = self.host_time();
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        let id: u64 = row.0.parse().map_err(|_| stale())?;
        let taken = key.is_some_and(|key| sheet.rows.iter().any(|(other, line)| *other != id && line.key == key));
        let line = sheet.rows.get_mut(&id).ok_or_else(stale)?;
        if sheet.locked.contains(&line.key) || sheet.locked.contains(line.uuid.as_str()) {
            return Err(Fault::new(Class::Wait(None), Code::RecordOpen));
        }
        if !self.unguarded && (taken || line.mod_id.to_string() != expected.0) {
            return Err(stale());
        }
        line.touch(now);
        line.fields.extend(fields.clone());
        if let Some(key) = key {
            key.clone_into(&mut line.key);
        }
        Ok(ModId(line.mod_id.to_string()))
    }

    /// Which version a row has.
    pub fn version(&self, layout: &str, row: &RowId) -> Option<ModId> {
        let sheets = lock(&self.sheets);
        let line = sheets.get(layout)?.rows.get(&row.0.parse().ok()?)?;
        Some(ModId(line.mod_id.to_string()))
    }

    /// A person at the desk changes a field. False if there is no such row.
    pub fn edit_by_hand(&self, layout: &str, key: &str, field: &str, value: Value) -> bool {
        let now = self.desk_time();
        let mut sheets = lock(&self.sheets);
        let line = sheets.get_mut(layout).and_then(|sheet| sheet.rows.values_mut().find(|line| line.is(key)));
        line.is_some_and(|line| {
            line.touch(now);
            line.fields.insert(field.to_owned(), value);
            true
        })
    }

    pub fn delete_by_hand(&self, layout: &str, key: &str) {
        if let Some(sheet) = lock(&self.sheets).get_mut(layout) {
            sheet.rows.retain(|_, line| !line.is(key));
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

impl Sheet {
    fn add(&mut self, key: &str, fields: Fields, now: Option<DateTime>) -> (u64, RowUuid) {
        self.next += 1;
        let uuid = RowUuid::new(format!("ROW-{:06}", self.next)).expect("letters, digits and a hyphen");
        let line = Line { key: key.to_owned(), uuid: uuid.clone(), modified: now, mod_id: 0, fields };
        self.rows.insert(self.next, line);
        (self.next, uuid)
    }
}

impl Line {
    fn is(&self, name: &str) -> bool {
        (!name.is_empty() && self.key == name) || self.uuid.as_str() == name
    }

    fn touch(&mut self, now: Option<DateTime>) {
        self.mod_id += 1;
        self.modified = now;
    }
}

fn stale() -> Fault {
    Fault::new(Class::Stale, Code::RecordChanged)
}

#[async_trait]
impl ClinicDatabase for MemoryClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        self.one(table, |line| line.key == key)
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.changes_fields(table)?;
        self.one(table, |line| line.uuid == *uuid)
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.changes_fields(table)?;
        let sheets = lock(&self.sheets);
        let rows = sheets.get(&table.layout).filter(|sheet| !sheet.hidden);
        let rows = rows.map(|sheet| sheet.rows.values()).into_iter().flatten();
        let mut changed: Vec<_> = rows.filter(|line| since.is_none() || line.modified >= since).collect();
        changed.sort_by_key(|line| (line.modified, &line.uuid));
        let from: usize = page.and_then(|page| page.0.parse().ok()).unwrap_or(0);
        let next = (changed.len() > from + PAGE).then(|| PageToken((from + PAGE).to_string()));
        let changes = changed.into_iter().skip(from).take(PAGE).map(|line| RowChange {
            uuid: Some(line.uuid.clone()),
            key: Some(line.key.clone()).filter(|key| !key.is_empty()),
            mod_id: ModId(line.mod_id.to_string()),
            modified: line.modified,
        });
        let host_time = self.host.as_ref().map(|(clock, _)| clock.now());
        Ok(RowChanges { changes: changes.collect(), next, host_time })
    }

    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        let sheets = lock(&self.sheets);
        let rows = sheets.get(&table.layout).map(|sheet| sheet.rows.iter()).into_iter().flatten();
        let holds = |line: &Line| fields.iter().all(|(field, value)| line.fields.get(field) == Some(value));
        let alike = rows.filter(|(_, line)| !fields.is_empty() && holds(line));
        Ok(alike.take(50).map(|(id, line)| self.show(table, *id, line)).collect())
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let now = self.host_time();
        let mut sheets = lock(&self.sheets);
        let sheet = sheets.entry(table.layout.clone()).or_default();
        if !self.unguarded && sheet.rows.values().any(|line| line.key == key) {
            return Err(stale());
        }
        let (id, _) = sheet.add(key, fields.clone(), now);
        Ok((RowId(id.to_string()), ModId("0".to_owned())))
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        self.change(table, row, expected, None, fields)
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        self.change(table, row, expected, Some(key), &Fields::new())
    }

    async fn probe(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn write_horizon(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }
}
