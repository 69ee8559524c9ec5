//! The state of the host: files, sessions, faults, switches.
//!
//! Facts: sheet sections 3, 8.4, 14, 17. A session is one token, bound to one file, idle after 15 minutes [DOC]; tokens die with logout,
//! restart, closing of the file [DOC/ISS]; capacity 812 at login [ISS]; over the transmit limit 953 [DOC]; disk full 809 [DOC];
//! session ageing: latency grows with the writes of a session and is cured by a new one [ISS, two sources].

use super::answer::{Refused, Statuses};
use super::call::{Body, Call, Route};
use super::criterion::Literals;
use super::fault::{Fault, Pending};
use super::journal::Journal;
use super::model::{Account, Clinic, Clock, File, Layout, Script};
use super::table::{By, Moment, Table};
use super::value::{DateFormat, DateOrder};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A hosted file.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) open: bool,
    tables: BTreeMap<String, Table>,
    pub(super) layouts: Vec<Layout>,
    pub(super) scripts: Vec<Script>,
    pub(super) dates: DateOrder,
}

impl Hosted {
    fn new(file: File) -> Self {
        Self {
            open: true,
            tables: file.tables.into_iter().map(|table| (table.name.clone(), Table::new(table))).collect(),
            layouts: file.layouts,
            scripts: file.scripts,
            dates: file.dates,
        }
    }

    pub(super) fn table(&self, name: &str) -> Result<&Table, Refused> {
        self.tables.get(name).ok_or_else(|| 106.into())
    }

    pub(super) fn table_mut(&mut self, name: &str) -> Result<&mut Table, Refused> {
        self.tables.get_mut(name).ok_or_else(|| 106.into())
    }

    pub(super) fn tables_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.tables.values_mut()
    }

    pub(super) fn layout(&self, name: &str) -> Result<&Layout, Refused> {
        self.layouts.iter().find(|layout| layout.name == name).ok_or_else(|| 105.into())
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    file: String,
    last_used: Timestamp,
    writes: u32,
    /// Requests of one token wait for each other.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is not settled about the real server (sheet 17.2, 21); every field can be switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// A page past the end: 101 (`true`, default) or an empty list.
    pub past_end_is_101: bool,
    /// An empty table without `_offset`: an empty list (`true`, default) or 101.
    pub empty_range_is_empty: bool,
    /// A missing after-script: nothing is written (`true`, default) or the write stays although 104 is answered.
    pub missing_script_blocks: bool,
    /// `%2F` in a name reaches the engine; default `false`: the web server answers 404 before.
    pub slashes_in_names: bool,
    /// The code for a token whose file was closed: 952 (default), 802, 820 or 821.
    pub closed_file_code: u32,
    /// The code for an unreadable date or time among find criteria: 500 (default) or 508.
    pub bad_criterion_code: u32,
}

impl Default for Unsettled {
    fn default() -> Self {
        Self {
            past_end_is_101: true,
            empty_range_is_empty: true,
            missing_script_blocks: true,
            slashes_in_names: false,
            closed_file_code: 952,
            bad_criterion_code: 500,
        }
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) version: String,
    pub(super) zone: TimeZone,
    pub(super) clock: Clock,
    /// How far the clocks of the people's computers are ahead of the host's.
    pub(super) desks_ahead: SignedDuration,
    /// Answers carry the host's time.
    pub(super) dates: bool,
    pub(super) rng: StdRng,
    pub(super) files: BTreeMap<String, Hosted>,
    pub(super) accounts: Vec<Account>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) statuses: Statuses,
    pub(super) unsettled: Unsettled,
    pub(super) journal: Journal,
    pub(super) faults: Vec<Pending>,
    pub(super) next_fault: u64,
    idle: Duration,
    /// All tokens die after so many more calls.
    pub(super) expire_in: Option<u64>,
    pub(super) session_cap: Option<usize>,
    /// Bytes out after which every call is refused with 953.
    pub(super) transmit_limit: Option<u64>,
    pub(super) disk_full: bool,
    pub(super) accounts_refused: bool,
    pub(super) latency: Duration,
    pub(super) ageing: Duration,
    sessions_opened: u64,
}

impl World {
    pub(super) fn new(clinic: Clinic) -> Self {
        Self {
            version: clinic.version,
            zone: clinic.zone,
            clock: clinic.clock,
            desks_ahead: SignedDuration::ZERO,
            dates: true,
            rng: StdRng::seed_from_u64(clinic.seed),
            files: clinic.files.into_iter().map(|file| (file.name.clone(), Hosted::new(file))).collect(),
            accounts: clinic.accounts,
            sessions: BTreeMap::new(),
            statuses: Statuses::default(),
            unsettled: Unsettled::default(),
            journal: Journal::default(),
            faults: Vec::new(),
            next_fault: 1,
            idle: clinic.idle,
            expire_in: None,
            session_cap: None,
            transmit_limit: None,
            disk_full: false,
            accounts_refused: false,
            latency: Duration::ZERO,
            ageing: Duration::ZERO,
            sessions_opened: 0,
        }
    }

    /// A file and the moment to work on it.
    pub(super) fn at_work(&mut self, file: &str, by: By) -> Result<(&mut Hosted, Moment<'_>), Refused> {
        let at = self.clock.now();
        // What the API and scripts on the server do, happens on the host.
        let ahead = if by == By::Desktop { self.desks_ahead } else { SignedDuration::ZERO };
        let desk = local(at.saturating_add(ahead).unwrap_or(at), &self.zone);
        let moment = Moment { at, local: local(at, &self.zone), desk, rng: &mut self.rng, by };
        Ok((self.files.get_mut(file).ok_or(100)?, moment))
    }

    pub(super) fn literals(&self, format: DateFormat) -> Literals {
        let today = self.clock.now().to_zoned(self.zone.clone()).date();
        Literals { format, today, refuse_with: self.unsettled.bad_criterion_code }
    }

    fn drop_idle(&mut self) {
        let now = self.clock.now();
        let idle = SignedDuration::try_from(self.idle).unwrap_or(SignedDuration::MAX);
        self.sessions.retain(|_, session| now.duration_since(session.last_used) < idle);
        self.journal.sessions(self.sessions.len());
    }

    pub(super) fn expire_all(&mut self) {
        self.sessions.clear();
        self.journal.sessions(0);
    }

    pub(super) fn close(&mut self, file: &str) {
        if let Some(hosted) = self.files.get_mut(file) {
            hosted.open = false;
        }
        self.sessions.retain(|_, session| session.file != file);
        self.journal.sessions(self.sessions.len());
    }

    pub(super) fn log_in(&mut self, file: &str) -> Result<String, Refused> {
        self.drop_idle();
        if self.session_cap.is_some_and(|cap| self.sessions.len() >= cap) {
            return Err(812.into());
        }
        let token = format!("{:032x}{:016x}", self.rng.random::<u128>(), self.rng.random::<u64>());
        self.sessions_opened += 1;
        let session = Session {
            number: self.sessions_opened,
            file: file.to_owned(),
            last_used: self.clock.now(),
            writes: 0,
            turn: Arc::default(),
        };
        self.sessions.insert(token.clone(), session);
        self.journal.counts.logins += 1;
        self.journal.sessions(self.sessions.len());
        Ok(token)
    }

    pub(super) fn log_out(&mut self, file: &str, token: &str) -> Result<(), Refused> {
        self.drop_idle();
        match self.sessions.get(token) {
            Some(session) if session.file == file => {
                self.sessions.remove(token);
                self.journal.counts.logouts += 1;
                self.journal.sessions(self.sessions.len());
                Ok(())
            }
            _ => Err(952.into()),
        }
    }

    /// The turn a call has to wait for, if its token lives.
    pub(super) fn turn(&self, call: &Call) -> Option<Arc<tokio::sync::Mutex<()>>> {
        call.bearer().and_then(|token| self.sessions.get(token)).map(|session| session.turn.clone())
    }

    /// Checks the token and marks its session as used. Gives the session's number.
    pub(super) fn admit(&mut self, call: &Call) -> Result<Option<u64>, Refused> {
        if !call.route.needs_token() {
            return Ok(None);
        }
        let header = call.authorization.as_ref().ok_or(10)?;
        if !header.starts_with("Bearer ") {
            return Err(1702.into());
        }
        match &mut self.expire_in {
            Some(0) => {
                self.expire_in = None;
                self.expire_all();
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.drop_idle();
        let now = self.clock.now();
        let closed = self.files.get(&call.file).is_some_and(|file| !file.open);
        let dead = if closed { self.unsettled.closed_file_code } else { 952 };
        let session = call.bearer().and_then(|token| self.sessions.get_mut(token)).ok_or(dead)?;
        // Names are case-sensitive: the same file in another case is another file.
        if call.route != Route::ValidateSession && session.file != call.file {
            return Err(952.into());
        }
        session.last_used = now;
        if call.route.writes() {
            session.writes += 1;
        }
        Ok(Some(session.number))
    }

    /// Added time of a call: the host's latency and the age of the session.
    pub(super) fn delay(&self, call: &Call) -> Duration {
        let writes = call.bearer().and_then(|token| self.sessions.get(token)).map_or(0, |session| session.writes);
        self.latency + self.ageing.saturating_mul(writes)
    }

    /// The first fault that hits this call, at the gate or at the work.
    pub(super) fn fault(&mut self, call: &Call, at_the_gate: bool) -> Option<Fault> {
        let mut found = None;
        for at in 0..self.faults.len() {
            let pending = &self.faults[at];
            if pending.fault.at_the_gate() != at_the_gate || !self.matches(pending, call) {
                continue;
            }
            let when = &mut self.faults[at].when;
            if when.skip > 0 {
                when.skip -= 1;
                continue;
            }
            if when.times == Some(0) || when.chance.is_some_and(|chance| self.rng.random::<f64>() >= chance) {
                continue;
            }
            if let Some(left) = &mut when.times {
                *left -= 1;
            }
            let pending = &self.faults[at];
            pending.handle.fired.fetch_add(1, Ordering::SeqCst);
            *self.journal.counts.faults.entry(pending.fault.name()).or_default() += 1;
            found = Some(pending.fault.clone());
            break;
        }
        self.faults.retain(|pending| pending.when.times != Some(0));
        found
    }

    fn matches(&self, pending: &Pending, call: &Call) -> bool {
        let when = &pending.when;
        when.verb.as_ref().is_none_or(|verb| *verb == call.verb)
            && when.route.is_none_or(|route| route == call.route)
            && (!when.writes || call.route.writes())
            && when.layout.as_ref().is_none_or(|layout| *layout == call.layout)
            && when.key.as_ref().is_none_or(|key| self.concerns(call, key))
    }

    fn concerns(&self, call: &Call, key: &str) -> bool {
        if call.record.as_deref() == Some(key) {
            return true;
        }
        let held = || {
            let file = self.files.get(&call.file)?;
            let table = file.table(&file.layout(&call.layout).ok()?.table).ok()?;
            let row = table.row(call.record_id()?)?;
            let mut unique = table.fields.iter().zip(&row.values).filter(|(field, _)| field.unique);
            Some(unique.any(|(_, value)| value.text(DateFormat::US) == key))
        };
        if held().unwrap_or(false) {
            return true;
        }
        let Body::Json(body) = &call.body else { return false };
        let named = |value: &Json| value.as_str().is_some_and(|text| plain(text) == key);
        let fields = body.get("fieldData").and_then(Json::as_object);
        let criteria = body.get("query").and_then(Json::as_array);
        fields.is_some_and(|fields| fields.values().any(named))
            || criteria.is_some_and(|all| {
                all.iter().filter_map(Json::as_object).any(|criterion| criterion.values().any(named))
            })
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> jiff::civil::DateTime {
    let local = at.to_zoned(zone.clone()).datetime();
    local.with().subsec_nanosecond(0).build().unwrap_or(local)
}

/// A criterion without its leading `=` and escapes.
fn plain(criterion: &str) -> String {
    let mut out = String::new();
    let mut chars = criterion.trim_start_matches('=').chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}
