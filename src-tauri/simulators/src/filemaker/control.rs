//! The handle by which tests, demo and benchmarks steer the host and look into it.

use super::answer::Refused;
use super::desk::Desk;
use super::fault::{Fault, Injected, Pending, When};
use super::host::{Unsettled, World};
use super::journal::{Counts, Entry};
use super::model::Clock;
use super::table::{By, Record, Write};
use crate::listen::Door;
use jiff::SignedDuration;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is shared between server and control.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
    /// No call goes on before this moment.
    pub(super) paused: watch::Sender<Option<Instant>>,
    /// Raised when late writes are to land.
    pub(super) landing: watch::Sender<u64>,
    pub(super) stopping: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self {
            world: Mutex::new(world),
            paused: watch::Sender::new(None),
            landing: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A panicking test closure leaves state behind that the others may still look at.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steers the host. Clones steer the same one. Tables are looked for in one file: the first, unless [`Control::file`] says another.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) file: String,
    pub(super) door: Door,
}

impl Control {
    /// The same host, with another file for records and desk.
    #[must_use]
    pub fn file(&self, name: &str) -> Self {
        Self { shared: self.shared.clone(), file: name.to_owned(), door: self.door.clone() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// The clock of the host; advance it to let sessions idle out.
    pub fn clock(&self) -> Clock {
        self.world().clock.clone()
    }

    /// Sets the clocks of the people's computers: so far ahead of the host's, or behind it.
    pub fn set_desk_clocks(&self, ahead: SignedDuration) {
        self.world().desks_ahead = ahead;
    }

    /// Whether the web server says what time it is.
    pub fn send_dates(&self, sent: bool) {
        self.world().dates = sent;
    }

    // --- faults of single calls ---

    /// Sets a fault for the calls that `when` describes. Of several that match, the first set strikes.
    pub fn inject(&self, fault: Fault, when: When) -> Injected {
        let mut world = self.world();
        let handle = Injected { id: world.next_fault, fired: Arc::new(AtomicU64::new(0)) };
        world.next_fault += 1;
        world.faults.push(Pending { fault, when, handle: handle.clone() });
        handle
    }

    pub fn clear(&self, injected: &Injected) {
        self.world().faults.retain(|pending| pending.handle.id != injected.id);
    }

    /// Back to a host without faults: injected ones, pause, caps, limits, locks, latency, closed files, cut cable.
    /// Late writes stay on their way; sessions that died stay dead; records stay as they are.
    pub async fn clear_all(&self) {
        self.plug_in().await;
        self.resume();
        let mut world = self.world();
        world.faults.clear();
        world.expire_in = None;
        world.session_cap = None;
        world.transmit_limit = None;
        world.disk_full = false;
        world.accounts_refused = false;
        world.latency = Duration::ZERO;
        world.ageing = Duration::ZERO;
        for file in world.files.values_mut() {
            file.open = true;
            file.tables_mut().for_each(super::table::Table::release_all);
        }
    }

    // --- standing states ---

    /// All tokens die now (engine restart, settings changed).
    pub fn expire_tokens(&self) {
        self.world().expire_all();
    }

    /// All tokens die after so many more calls with a token.
    pub fn expire_tokens_after(&self, calls: u64) {
        self.world().expire_in = Some(calls);
    }

    /// The file is closed: its tokens die, sign-in is 802.
    pub fn close_file(&self, name: &str) {
        self.world().close(name);
    }

    pub fn open_file(&self, name: &str) {
        if let Some(file) = self.world().files.get_mut(name) {
            file.open = true;
        }
    }

    /// Every call stalls for this time, as at the end of a backup.
    pub fn pause(&self, time: Duration) {
        self.shared.paused.send_replace(Some(Instant::now() + time));
    }

    pub fn resume(&self) {
        self.shared.paused.send_replace(None);
    }

    /// At most so many sessions; the next sign-in gets 812.
    pub fn cap_sessions(&self, cap: Option<usize>) {
        self.world().session_cap = cap;
    }

    /// Over so many bytes out (since the last reset of the counters) every call gets 953.
    pub fn limit_transmission(&self, bytes: Option<u64>) {
        self.world().transmit_limit = bytes;
    }

    /// Writes get 809.
    pub fn fill_disk(&self, full: bool) {
        self.world().disk_full = full;
    }

    /// Sign-in gets 212.
    pub fn refuse_accounts(&self, refused: bool) {
        self.world().accounts_refused = refused;
    }

    /// From now on the account has this password; open sessions go on.
    pub fn set_password(&self, account: &str, password: &str) {
        for known in self.world().accounts.iter_mut().filter(|known| known.name == account) {
            password.clone_into(&mut known.password);
        }
    }

    /// Every call takes so much longer, half before and half after its work; its session is busy meanwhile.
    pub fn latency(&self, added: Duration) {
        self.world().latency = added;
    }

    /// Every call takes so much longer per write that its session has seen.
    pub fn age_sessions(&self, per_write: Duration) {
        self.world().ageing = per_write;
    }

    /// The machine is off the network: connections break, new ones are refused. Returns once that is so.
    pub async fn unplug(&self) {
        self.door.shut().await;
    }

    /// Back on the network, at the same address.
    pub async fn plug_in(&self) {
        self.door.reopen().await;
    }

    /// Late writes that wait land now.
    pub fn land_late(&self) {
        self.shared.landing.send_modify(|generation| *generation += 1);
    }

    /// HTTP status to answer a FileMaker code with; the default is in the fact sheet's table.
    pub fn set_status(&self, code: u32, status: u16) {
        self.world().statuses.set(code, status);
    }

    /// Chooses where the facts leave a choice.
    pub fn unsettled(&self, change: impl FnOnce(&mut Unsettled)) {
        change(&mut self.world().unsettled);
    }

    // --- people at the desk ---

    /// Works on the file as a person at the desk, in one go: nothing else happens meanwhile.
    ///
    /// # Errors
    /// What `work` gives, or 100 if there is no such file.
    pub fn at_desk<T>(&self, work: impl FnOnce(&mut Desk<'_>) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut world = self.world();
        let (file, moment) = world.at_work(&self.file, By::Desktop)?;
        work(&mut Desk { file, moment })
    }

    /// A person makes a record. Gives its recordId.
    ///
    /// # Errors
    /// As [`Desk::create`].
    pub fn desk_create(&self, table: &str, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        self.at_desk(|desk| desk.create(table, fields))
    }

    /// A person edits a record. Gives its new modId.
    ///
    /// # Errors
    /// As [`Desk::edit`].
    pub fn desk_edit(&self, table: &str, record_id: u64, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        self.at_desk(|desk| desk.edit(table, record_id, fields))
    }

    /// An import changes a record: modId moves, nothing is auto-entered. Gives its new modId.
    ///
    /// # Errors
    /// As [`Desk::import`].
    pub fn desk_import(&self, table: &str, record_id: u64, fields: &[(&str, &str)]) -> Result<u64, Refused> {
        self.at_desk(|desk| desk.import(table, record_id, fields))
    }

    /// A person deletes a record.
    ///
    /// # Errors
    /// As [`Desk::delete`].
    pub fn desk_delete(&self, table: &str, record_id: u64) -> Result<(), Refused> {
        self.at_desk(|desk| desk.delete(table, record_id))
    }

    /// A person begins to edit a record: writes by the API get 301 until [`Control::release`].
    ///
    /// # Errors
    /// As [`Desk::open`].
    pub fn lock(&self, table: &str, record_id: u64) -> Result<(), Refused> {
        self.at_desk(|desk| desk.open(table, record_id, None))
    }

    /// As [`Control::lock`], until the host's clock has run on by `time`.
    ///
    /// # Errors
    /// As [`Desk::open`].
    pub fn lock_for(&self, table: &str, record_id: u64, time: Duration) -> Result<(), Refused> {
        let now = self.world().clock.now();
        let until = jiff::SignedDuration::try_from(time).ok().and_then(|time| now.checked_add(time).ok());
        self.at_desk(|desk| desk.open(table, record_id, until))
    }

    /// # Errors
    /// As [`Desk::release`].
    pub fn release(&self, table: &str, record_id: u64) -> Result<(), Refused> {
        self.at_desk(|desk| desk.release(table, record_id))
    }

    // --- looking in ---

    /// All records of a table in order of creation. Empty if there is no such table.
    pub fn records(&self, table: &str) -> Vec<Record> {
        let world = self.world();
        let table = world.files.get(&self.file).and_then(|file| file.table(table).ok());
        table.map(|table| table.ids().filter_map(|id| table.record(id)).collect()).unwrap_or_default()
    }

    pub fn record(&self, table: &str, record_id: u64) -> Option<Record> {
        self.world().files.get(&self.file)?.table(table).ok()?.record(record_id)
    }

    /// The first record that holds exactly this text in a field.
    pub fn record_with(&self, table: &str, field: &str, text: &str) -> Option<Record> {
        self.at_desk(|desk| desk.find(table, field, text)).ok().flatten()
    }

    pub fn count(&self, table: &str) -> usize {
        let world = self.world();
        world.files.get(&self.file).and_then(|file| file.table(table).ok()).map_or(0, super::table::Table::len)
    }

    /// The last accepted writes of a record, oldest first; also of one that was deleted.
    pub fn history(&self, table: &str, record_id: u64) -> Vec<Write> {
        let world = self.world();
        let table = world.files.get(&self.file).and_then(|file| file.table(table).ok());
        table.map(|table| table.history(record_id)).unwrap_or_default()
    }

    pub fn counts(&self) -> Counts {
        self.world().journal.counts.clone()
    }

    /// The last requests, oldest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.world().journal.entries()
    }

    pub fn reset_counts(&self) {
        self.world().journal.reset();
    }
}
