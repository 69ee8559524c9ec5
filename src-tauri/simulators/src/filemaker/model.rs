//! What is on the host: files, tables with their fields and rules, layouts, accounts, scripts, clock.
//!
//! Facts: sheet sections 3-5. A layout shows only the fields placed on it, the others do not exist for the API [DOC];
//! validation is either "always" or "only during data entry" [DOC]; calculations and fields with "prohibit modification"
//! refuse writes [DOC/LIVE]; the account needs the extended privilege `fmrest` [DOC].

use super::desk::Desk;
use super::value::{DateOrder, ResultType};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A host with everything it serves; hand it to [`super::FileMaker::start`].
#[derive(Debug, Clone)]
pub struct Clinic {
    pub(super) files: Vec<File>,
    pub(super) accounts: Vec<Account>,
    pub(super) clock: Clock,
    pub(super) zone: TimeZone,
    pub(super) seed: u64,
    pub(super) idle: Duration,
    pub(super) version: String,
}

impl Clinic {
    /// A host without files, with one account that may use the Data API.
    pub fn new(account: &str, password: &str) -> Self {
        Self {
            files: Vec::new(),
            accounts: Vec::new(),
            clock: Clock::system(),
            zone: TimeZone::UTC,
            seed: 1,
            idle: Duration::from_secs(15 * 60),
            version: "21.1.4.400".into(),
        }
        .account(Account::new(account, password))
    }

    #[must_use]
    pub fn file(mut self, file: File) -> Self {
        self.files.push(file);
        self
    }

    /// Changes the files there are.
    #[must_use]
    pub fn each_file(mut self, change: impl Fn(File) -> File) -> Self {
        self.files = self.files.into_iter().map(change).collect();
        self
    }

    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.accounts.push(account);
        self
    }

    /// The clock that host time stamps, idle expiry and timed locks follow.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The zone the host writes its local time stamps in (they carry none). UTC unless told.
    #[must_use]
    pub fn zone(mut self, zone: TimeZone) -> Self {
        self.zone = zone;
        self
    }

    /// Seed of tokens and record UUIDs.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long a session may be idle. 15 minutes unless told [DOC].
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// What `productInfo` gives as version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }
}

/// Who may sign in, to every file.
#[derive(Clone)]
pub struct Account {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) fmrest: bool,
}

impl Account {
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), fmrest: true }
    }

    /// Lacks "Access via FileMaker Data API": sign-in fails like a wrong password.
    #[must_use]
    pub fn without_fmrest(mut self) -> Self {
        self.fmrest = false;
        self
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("fmrest", &self.fmrest).finish_non_exhaustive()
    }
}

/// One hosted file (a "database" of the API).
#[derive(Debug, Clone)]
pub struct File {
    pub(super) name: String,
    pub(super) tables: Vec<Table>,
    pub(super) layouts: Vec<Layout>,
    pub(super) scripts: Vec<Script>,
    pub(super) dates: DateOrder,
}

impl File {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tables: Vec::new(),
            layouts: Vec::new(),
            scripts: Vec::new(),
            dates: DateOrder::default(),
        }
    }

    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }

    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layouts.push(layout);
        self
    }

    /// Takes fields off a layout, or leaves them there.
    #[must_use]
    pub fn without(mut self, layout: &str, fields: &[&str]) -> Self {
        for shown in self.layouts.iter_mut().filter(|known| known.name == layout) {
            let table = self.tables.iter().find(|table| table.name == shown.table);
            let all = || table.into_iter().flat_map(|table| &table.fields).map(|field| field.name.clone()).collect();
            let names: Vec<String> = shown.shown.take().unwrap_or_else(all);
            shown.shown = Some(names.into_iter().filter(|name| !fields.contains(&name.as_str())).collect());
        }
        self
    }

    /// Puts another field in the place of one of its name.
    #[must_use]
    pub fn replacing(mut self, table: &str, field: Field) -> Self {
        let tables = self.tables.iter_mut().filter(|known| known.name == table);
        for known in tables.flat_map(|table| &mut table.fields).filter(|known| known.name == field.name) {
            *known = field.clone();
        }
        self
    }

    /// A script: it works through the same door as a person at the desk and ends with an error number and a result.
    #[must_use]
    pub fn script<F>(mut self, name: &str, run: F) -> Self
    where
        F: Fn(&mut Desk<'_>, &str) -> ScriptEnd + Send + Sync + 'static,
    {
        self.scripts.push(Script { name: name.to_owned(), run: Arc::new(run) });
        self
    }

    /// The order of dates in the file's own locale (`dateformats` 1).
    #[must_use]
    pub fn dates(mut self, dates: DateOrder) -> Self {
        self.dates = dates;
        self
    }
}

type Run = dyn Fn(&mut Desk<'_>, &str) -> ScriptEnd + Send + Sync;

#[derive(Clone)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) run: Arc<Run>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a script ended.
#[derive(Debug, Clone, Default)]
pub struct ScriptEnd {
    /// 0: no error.
    pub error: u32,
    pub result: String,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

impl Table {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), fields: Vec::new() }
    }

    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }
}

/// A layout shows a table, or some of its fields.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) shown: Option<Vec<String>>,
}

impl Layout {
    /// A layout with every field of the table.
    pub fn new(name: &str, table: &str) -> Self {
        Self { name: name.to_owned(), table: table.to_owned(), shown: None }
    }

    /// Only these fields are placed on the layout.
    #[must_use]
    pub fn showing(mut self, fields: &[&str]) -> Self {
        self.shown = Some(fields.iter().map(|field| (*field).to_owned()).collect());
        self
    }
}

/// What FileMaker enters by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AutoEnter {
    Nothing,
    Uuid,
    HostModified,
    DeskModified,
    Constant(String),
}

/// Works a value out of the record's other fields (their texts, US dates).
pub type Calculation = fn(&dyn Fn(&str) -> String) -> String;
/// Whether a value passes a "validated by calculation" rule.
pub type Test = fn(&str) -> bool;

#[derive(Debug, Clone)]
pub struct Field {
    pub(super) name: String,
    pub(super) result: ResultType,
    pub(super) calculation: Option<Calculation>,
    pub(super) auto: AutoEnter,
    pub(super) prohibited: bool,
    pub(super) indexed: bool,
    pub(super) always: bool,
    pub(super) unique: bool,
    pub(super) not_empty: bool,
    pub(super) numeric: bool,
    pub(super) max_characters: usize,
    pub(super) range: Option<(String, String)>,
    pub(super) value_list: Option<(String, Vec<String>)>,
    pub(super) test: Option<Test>,
}

impl Field {
    pub fn new(name: &str, result: ResultType) -> Self {
        Self {
            name: name.to_owned(),
            result,
            calculation: None,
            auto: AutoEnter::Nothing,
            prohibited: false,
            indexed: false,
            always: false,
            unique: false,
            not_empty: false,
            numeric: false,
            max_characters: 0,
            range: None,
            value_list: None,
            test: None,
        }
    }

    pub fn text(name: &str) -> Self {
        Self::new(name, ResultType::Text)
    }

    pub fn number(name: &str) -> Self {
        Self::new(name, ResultType::Number)
    }

    pub fn date(name: &str) -> Self {
        Self::new(name, ResultType::Date)
    }

    pub fn time(name: &str) -> Self {
        Self::new(name, ResultType::Time)
    }

    pub fn time_stamp(name: &str) -> Self {
        Self::new(name, ResultType::TimeStamp)
    }

    /// A calculation: writes are refused with 201.
    #[must_use]
    pub fn calculated(mut self, calculation: Calculation) -> Self {
        self.calculation = Some(calculation);
        self
    }

    /// Auto-enters a new UUID when a record is made.
    #[must_use]
    pub fn auto_uuid(mut self) -> Self {
        self.auto = AutoEnter::Uuid;
        self
    }

    /// Auto-enters the host's local time at every commit and cannot be modified.
    #[must_use]
    pub fn auto_host_modified(mut self) -> Self {
        self.auto = AutoEnter::HostModified;
        self.prohibited = true;
        self
    }

    /// Auto-enters the time of whoever's computer made the commit, as FileMaker's own "Modification timestamp" does.
    #[must_use]
    pub fn auto_desk_modified(mut self) -> Self {
        self.auto = AutoEnter::DeskModified;
        self.prohibited = true;
        self
    }

    /// Auto-enters a fixed text when a record is made.
    #[must_use]
    pub fn auto_constant(mut self, text: &str) -> Self {
        self.auto = AutoEnter::Constant(text.to_owned());
        self
    }

    /// "Prohibit modification of value during data entry": 201 unless `prohibitmode` is `script`.
    #[must_use]
    pub fn prohibit_modification(mut self) -> Self {
        self.prohibited = true;
        self
    }

    /// Indexed fields answer `==` and ranges without looking at every record.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.indexed = true;
        self
    }

    /// The rules of this field hold always, not "only during data entry".
    #[must_use]
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// Two records may not hold the same value (case is ignored; empty is allowed): 504.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self.indexed = true;
        self
    }

    /// 509 when empty.
    #[must_use]
    pub fn not_empty(mut self) -> Self {
        self.not_empty = true;
        self
    }

    /// Strict data type: a number field refuses other text with 502.
    #[must_use]
    pub fn numeric(mut self) -> Self {
        self.numeric = true;
        self
    }

    /// 511 above this many characters.
    #[must_use]
    pub fn max_characters(mut self, characters: usize) -> Self {
        self.max_characters = characters;
        self
    }

    /// 503 outside of this range, ends included; dates in US form.
    #[must_use]
    pub fn range(mut self, from: &str, to: &str) -> Self {
        self.range = Some((from.to_owned(), to.to_owned()));
        self
    }

    /// 506 for what is not on the list.
    #[must_use]
    pub fn value_list(mut self, name: &str, values: &[&str]) -> Self {
        self.value_list = Some((name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
        self
    }

    /// 507 when the test says no.
    #[must_use]
    pub fn tested(mut self, test: Test) -> Self {
        self.test = Some(test);
        self
    }
}

/// The host's clock. Clones share one time.
#[derive(Debug, Clone)]
pub struct Clock {
    /// `None`: the system's clock.
    fixed: Option<Timestamp>,
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Runs with the system, plus whatever it is advanced by.
    pub fn system() -> Self {
        Self { fixed: None, ahead_ms: Arc::default() }
    }

    /// Stands still at `at` until it is advanced.
    pub fn standing(at: Timestamp) -> Self {
        Self { fixed: Some(at), ahead_ms: Arc::default() }
    }

    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    pub fn now(&self) -> Timestamp {
        let base = self.fixed.unwrap_or_else(Timestamp::now);
        let ahead = SignedDuration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        base.saturating_add(ahead).unwrap_or(base)
    }
}
