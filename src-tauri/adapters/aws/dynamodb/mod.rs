//! The shared ledger: DynamoDB, a table for each kind of record, so that a role can be held to its own.
//!
//! A record is one item, `firm` its partition key and `Type id` its sort key. Taking the lease and reading the record is one
//! conditional update, and so is committing a run and freeing its lease. A refused condition comes back with the item as it is,
//! which tells our own update whose answer was lost from somebody else's lease, without another read.
//!
//! Two sparse indexes find records: `due` holds what is wanted, by the time it becomes due; `marked` holds what is dead, carries a
//! remark, or is held. A lease enters `marked` at its first renewal only: an entry at each take, and its removal at each commit,
//! would double what a run costs. A lease that nobody ever renewed stays findable, because whoever meets it remembers its key.
//! Both indexes lag a little behind their table; whatever is found through them is read from the table before it is told.

mod bring;
mod item;
mod letters;
mod list;
pub mod pairings;
mod parts;
pub mod stations;
pub mod tables;
mod update;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::ReturnConsumedCapacity};
use engine::{
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey, StationId},
    ledger::{Claim, Commit, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Record, Survey, Take, Want, Wanted},
    ports::{Clock, Ledger},
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use self::{
    item::{Item, number, text},
    tables::Tables,
    update::Change,
};
use super::Account;

/// Updates of one call under way at once.
const AT_ONCE: usize = 16;
/// No survey is told any longer than this, however much work it was.
const OLDEST_FIGURES: Duration = Duration::from_secs(20);
/// So many links that we left wanted or dead are remembered. Where there are more, the indexes hold some of them by then.
const LEFT: usize = 100;
/// How often an update starts over because others were quicker.
const ROUNDS: u32 = 30;

#[derive(Debug, Clone)]
pub struct Options {
    /// What the names of all tables begin with.
    pub prefix: String,
    /// Within this time the figures of a survey are not asked again. What costs more to count is counted less often.
    pub figures_every: Duration,
}

pub struct DynamoLedger {
    client: Client,
    tables: Tables,
    figures_every: Duration,
    clock: Arc<dyn Clock>,
    /// Who we are, once that was said.
    station: Mutex<Option<StationId>>,
    /// Firms that are on the list of firms for certain.
    firms: Mutex<BTreeSet<FirmId>>,
    /// Leases of others that we met, which the index may not hold.
    met: Mutex<BTreeSet<RecordKey>>,
    surveyed: Mutex<Option<Surveyed>>,
    /// Records that we left wanted or dead, which the indexes may not hold yet.
    left: Mutex<BTreeSet<RecordKey>>,
    /// Cursors whose state was found in parts.
    in_parts: Mutex<BTreeSet<RecordKey>>,
    /// Tells our saves and commits apart, and in which order they were.
    writes: AtomicU64,
}

/// The last survey.
struct Surveyed {
    asked: Duration,
    until: Duration,
    survey: Survey,
    /// Since then we left a record wanted or dead.
    left_work: bool,
}

impl fmt::Debug for DynamoLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoLedger").field("tables", &self.tables).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lease of this owner and epoch.
const OURS: &str = "#station = :station AND #boot = :boot AND #epoch = :epoch";

impl DynamoLedger {
    pub fn new(account: &Account, options: Options, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: account.dynamodb(),
            tables: Tables::new(&options.prefix),
            figures_every: options.figures_every,
            clock,
            station: Mutex::default(),
            firms: Mutex::default(),
            met: Mutex::default(),
            surveyed: Mutex::default(),
            left: Mutex::default(),
            in_parts: Mutex::default(),
            writes: AtomicU64::default(),
        }
    }

    fn next(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts the firm on the list by which records are paged, once in a life of this process, before its first record is written.
    async fn list_firm(&self, firm: &FirmId) -> Result<(), Fault> {
        if lock(&self.firms).contains(firm) {
            return Ok(());
        }
        self.count_links(firm, 0).await?;
        lock(&self.firms).insert(firm.clone());
        Ok(())
    }

    /// The list is made anew where its table was deleted: firms have to be put on it again.
    fn list_is_gone(&self, fault: Fault) -> Fault {
        if fault.code == Code::TableMissing {
            lock(&self.firms).clear();
        }
        fault
    }

    /// The number of links is for people: it is kept beside the links, not in one step with them.
    async fn count_links(&self, firm: &FirmId, new: u64) -> Result<(), Fault> {
        let change = Change::new("ADD #links :new").value(":new", number(new));
        self.update(&self.tables.firm, [("firm", text(firm))], change).await?.map(|_| ()).or(Ok(()))
    }

    async fn created(&self, key: &RecordKey) {
        if key.kind == Kind::Link
            && let Err(fault) = self.count_links(&key.firm, 1).await
        {
            tracing::warn!(%fault, "a new link was not counted");
        }
    }

    /// Changes a record's item. The inner `Err` is a refused condition, with the item as it is (`None`: there is none).
    async fn change(&self, key: &RecordKey, change: Change) -> Result<Result<Item, Option<Item>>, Fault> {
        self.update(self.tables.of(key.kind), item::key(key), change).await
    }

    fn under(lease: &Lease, change: Change) -> Change {
        change
            .value(":station", text(&lease.owner.station))
            .value(":boot", text(&lease.owner.boot))
            .value(":epoch", number(lease.epoch))
    }

    async fn renew_one(&self, lease: &Lease) -> Result<bool, Fault> {
        // Sent twice, it raises the beat by two, which is a sign of life as well.
        let change = Change::new("SET #marked = :firm ADD #beat :one").condition(OURS);
        let change = change.value(":firm", text(&lease.key.firm)).value(":one", number(1));
        Ok(self.change(&lease.key, Self::under(lease, change)).await?.is_ok())
    }

    async fn want_one(&self, wants: &[&Want]) -> Result<(), Fault> {
        let Some(last) = wants.last() else { return Ok(()) };
        let key = &last.key;
        self.list_firm(&key.firm).await?;
        let first_seen = wants.iter().map(|want| want.first_seen).min().unwrap_or(last.first_seen);
        let not_before = wants.iter().map(|want| want.not_before).min().unwrap_or(last.not_before);
        let mark = Wanted { first_seen, not_before, waits_for: last.waits_for };
        // DynamoDB cannot take the earlier of two times: the update says which mark it joins, and none for a start.
        let mut joins: Option<Wanted> = None;
        for _ in 0..ROUNDS {
            let joined = joins.map_or(mark, |already| Wanted {
                first_seen: already.first_seen.min(mark.first_seen),
                not_before: already.not_before.min(mark.not_before),
                ..mark
            });
            let change = Change::new(
                "SET #updated = if_not_exists(#updated, :seen), #attempts = if_not_exists(#attempts, :zero)
                 REMOVE #dead, #dead_since, #set_aside
                 ADD #generation :count",
            )
            .value(":seen", item::time(mark.first_seen))
            .value(":zero", number(0))
            .value(":count", number(wants.len() as u64))
            .wanted(&key.firm, Some(&joined));
            let change = match joins {
                None => change.condition("attribute_not_exists(#first_seen)"),
                Some(already) => change
                    .condition("#first_seen = :old_first_seen AND #not_before = :old_not_before")
                    .value(":old_first_seen", item::time(already.first_seen))
                    .value(":old_not_before", item::time(already.not_before)),
            };
            match self.change(key, change).await? {
                Ok(now) => {
                    let record = item::record(key.kind, &now)?;
                    self.leaves_work(key);
                    if record.stamp.epoch == 0 && record.generation == wants.len() as u64 {
                        self.created(key).await;
                    }
                    return Ok(());
                }
                Err(now) => joins = now.map(|now| item::record(key.kind, &now)).transpose()?.and_then(|now| now.wanted),
            }
        }
        Err(Fault::new(Class::Retry, Code::ServerError).on(key.to_string()))
    }

    fn leaves_work(&self, key: &RecordKey) {
        if !key.kind.is_run() {
            return;
        }
        if let Some(known) = lock(&self.surveyed).as_mut() {
            known.left_work = true;
        }
        let mut left = lock(&self.left);
        if left.len() < LEFT {
            left.insert(key.clone());
        }
    }

    fn held_by_another(&self, key: &RecordKey, held: Held) -> Take {
        lock(&self.met).insert(key.clone());
        Take::Busy(held)
    }
}

fn is_ours(held: Option<&Held>, lease: &Lease) -> bool {
    held.is_some_and(|held| held.owner == lease.owner && held.stamp.epoch == lease.epoch)
}

/// What a commit makes of a record, given what it is known to be: the same as every ledger does.
struct End {
    wanted: Option<Wanted>,
    dead: Option<Code>,
    attempt: Option<bool>,
}

impl End {
    fn of(commit: &Commit, moved: bool, already: Option<Wanted>) -> Self {
        match &commit.finish {
            Finish::Done => Self { wanted: already.filter(|_| moved), dead: None, attempt: None },
            Finish::Later { not_before, waits_for, attempt } => {
                let first_seen = already.map_or(commit.first_seen, |wanted| wanted.first_seen.min(commit.first_seen));
                let not_before = match already {
                    // What was marked since the run began keeps its own time.
                    Some(wanted) if moved => wanted.not_before.min(*not_before),
                    _ => *not_before,
                };
                let wanted = Wanted { first_seen, not_before, waits_for: *waits_for };
                Self { wanted: Some(wanted), dead: None, attempt: Some(*attempt) }
            }
            Finish::Dead { code } => {
                Self { wanted: already.filter(|_| moved), dead: (!moved).then_some(*code), attempt: None }
            }
        }
    }
}

#[async_trait]
impl Ledger for DynamoLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.list_firm(&key.firm).await?;
        // The answer to our own take may be lost and the take sent again: the station finds its own lease and takes it once more.
        let free = "attribute_not_exists(#station) OR #station = :station";
        let change = Change::new(
            "SET #station = :station, #boot = :boot, #term = :term, #beat = :zero,
                #updated = if_not_exists(#updated, :now), #generation = if_not_exists(#generation, :zero),
                #attempts = if_not_exists(#attempts, :zero)
             REMOVE #saved ADD #epoch :one",
        )
        .value(":station", text(&claim.owner.station))
        .value(":boot", text(&claim.owner.boot))
        .value(":term", item::duration(claim.term))
        .value(":now", item::time(claim.now))
        .value(":zero", number(0))
        .value(":one", number(1));
        let change = match claim.overdue {
            None => change.condition(free),
            Some(stamp) => change
                .condition(format!("{free} OR (#epoch = :old_epoch AND #beat = :old_beat)"))
                .value(":old_epoch", number(stamp.epoch))
                .value(":old_beat", number(stamp.beat)),
        };
        for _ in 0..ROUNDS {
            match self.change(key, change.clone()).await? {
                Ok(now) => {
                    lock(&self.met).remove(key);
                    let mut record = item::record(key.kind, &now)?;
                    self.assemble(&now, &mut record).await?;
                    if record.stamp.epoch == 1 && record.generation == 0 {
                        self.created(key).await;
                    }
                    let lease = Lease {
                        key: key.clone(),
                        owner: claim.owner.clone(),
                        epoch: record.stamp.epoch,
                        term: claim.term,
                    };
                    return Ok(Take::Taken(Box::new(record), lease));
                }
                Err(now) => {
                    let record = match now {
                        Some(now) => Some(item::record(key.kind, &now)?),
                        // A service that does not hand the item back.
                        None => self.read(key).await?,
                    };
                    if let Some(held) = record.and_then(|record| record.held) {
                        return Ok(self.held_by_another(key, held));
                    }
                    // Freed in between.
                }
            }
        }
        Err(Fault::new(Class::Retry, Code::ServerError).on(key.to_string()))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        let mut renewals = Vec::new();
        for lease in leases {
            renewals.push(self.renew_one(lease).boxed());
        }
        stream::iter(renewals).buffered(AT_ONCE).try_collect().await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        // An earlier save of this run, given up on and sent again, must not land after this one.
        let place = self.next();
        let condition = format!("{OURS} AND (attribute_not_exists(#saved) OR #saved < :saved)");
        let stored = self.store(lease, state, &format!("{} {place}", lease.owner.boot)).await?;
        let change = Change::new("SET #state = :state, #updated = :now, #saved = :saved")
            .condition(condition)
            .value(":state", text(stored.state))
            .parts(stored.parts)
            .value(":now", item::time(now))
            .value(":saved", number(place));
        match self.change(&lease.key, Self::under(lease, change)).await? {
            Ok(_) => Ok(()),
            // Ours, whose answer was lost.
            Err(Some(now)) if is_ours(item::record(lease.key.kind, &now)?.held.as_ref(), lease) => {
                if item::count(&now, "saved")? == place { Ok(()) } else { Err(LedgerError::Lost) }
            }
            Err(_) => Err(LedgerError::Lost),
        }
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        let key = &lease.key;
        let mark = format!("{} {}", lease.owner.boot, self.next());
        let stored = self.store(lease, &commit.state, &mark).await?;
        // First as the run believes the record to be, then as it is.
        let mut known: Option<Record> = None;
        for _ in 0..ROUNDS {
            let generation = known.as_ref().map_or(commit.generation, |record| record.generation);
            let moved = generation != commit.generation;
            let end = End::of(&commit, moved, known.as_ref().and_then(|record| record.wanted));
            let mut change = Change::new(match end.attempt {
                Some(_) => "SET #state = :state, #updated = :now, #commit = :commit, #attempts = #attempts + :attempt",
                None => "SET #state = :state, #updated = :now, #commit = :commit, #attempts = :attempt",
            })
            .value(":attempt", number(u64::from(end.attempt.unwrap_or(false))))
            .value(":state", text(stored.state))
            .parts(stored.parts.clone())
            .value(":now", item::time(commit.now))
            .value(":commit", text(&mark))
            .remove("#station, #boot, #term, #saved")
            .wanted(&key.firm, end.wanted.as_ref())
            .dead(end.dead, commit.now)
            .notice(commit.notice)
            .marked((end.dead.is_some() || commit.notice.is_some()).then_some(&key.firm));
            let mut condition = format!("{OURS} AND #generation = :generation");
            if known.is_none() && matches!(commit.finish, Finish::Later { .. }) {
                condition.push_str(" AND (attribute_not_exists(#first_seen) OR #first_seen >= :first_seen)");
            }
            change = change.condition(condition).value(":generation", number(generation));
            match self.change(key, Self::under(lease, change)).await? {
                Ok(_) => {
                    if end.wanted.is_some() || end.dead.is_some() {
                        self.leaves_work(key);
                    }
                    self.tidy_parts(lease, stored.parts.is_some()).await;
                    return Ok(end.wanted.is_some());
                }
                Err(None) => {
                    // Nothing there, or a service that does not hand the item back.
                    known = self.read(key).await?;
                }
                Err(Some(now)) => {
                    let record = item::record(key.kind, &now)?;
                    if item::commit_of(&now) == Some(&mark) {
                        // Ours, whose answer was lost. Nobody but the lease's holder can have made it.
                        return Ok(record.wanted.is_some());
                    }
                    known = Some(record);
                }
            }
            let ours = known.as_ref().and_then(|record| record.held.as_ref());
            if !is_ours(ours, lease) {
                return Err(LedgerError::Lost);
            }
        }
        Err(Fault::new(Class::Retry, Code::ServerError).on(key.to_string()).into())
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        let mut by_key: BTreeMap<&RecordKey, Vec<&Want>> = BTreeMap::new();
        for want in wants {
            by_key.entry(&want.key).or_default().push(want);
        }
        let mut marks = Vec::new();
        for wants in by_key.values() {
            marks.push(self.want_one(wants).boxed());
        }
        stream::iter(marks).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.look_for_due(firm, kinds, now, horizon, limit).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        // Said again, where the list was deleted and made anew.
        let us = lock(&self.station).clone();
        let alone =
            |(firm, stations): (FirmId, Vec<String>)| (stations.is_empty() && !ours.contains(&firm)).then_some(firm);
        let serving = self.serving().await?;
        if let Some(us) = us {
            let listed = |firm: &&FirmId| {
                serving.iter().any(|(known, stations)| known == *firm && stations.contains(&us.to_string()))
            };
            if !ours.iter().all(|firm| listed(&firm)) {
                self.serve(&us, ours).await?;
            }
        }
        Ok(serving.into_iter().filter_map(alone).collect())
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        let mut held = Vec::new();
        for record in self.all_held().await? {
            held.extend(record.held.map(|held| (record.key, held)));
        }
        Ok(held)
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        let table = self.tables.of(key.kind);
        let call = self.client.get_item().table_name(table).consistent_read(true);
        let call =
            call.set_key(Some(item::key(key).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
        let answer = call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let answer = answer.map_err(|error| super::errors::of(&error, "dynamodb:GetItem", table))?;
        let Some(item) = answer.item else { return Ok(None) };
        let mut record = item::record(key.kind, &item)?;
        self.assemble(&item, &mut record).await?;
        Ok(Some(record))
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        self.read_batches(keys).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.list(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.count_listed(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        let now = self.clock.elapsed();
        if let Some(known) = lock(&self.surveyed).as_ref().filter(|known| now < known.until) {
            let mut survey = Survey { age: now.saturating_sub(known.asked), ..known.survey.clone() };
            // What we left ourselves is there, whatever was counted before.
            survey.wanted = survey.wanted.max(u64::from(known.left_work));
            return Ok(survey);
        }
        let (survey, pages) = self.count_all().await?;
        let until = now + (self.figures_every * pages).min(OLDEST_FIGURES);
        *lock(&self.surveyed) = Some(Surveyed { asked: now, until, survey: survey.clone(), left_work: false });
        Ok(survey)
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        for key in keys {
            let change = Change::new("SET #set_aside = :aside").condition("attribute_exists(#dead)");
            // One that is not dead stays as it is.
            let _ = self.change(key, change.value(":aside", item::yes(aside))).await?;
        }
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.bury_letter(letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        for id in ids {
            self.forget_letter(id).await?;
        }
        Ok(())
    }
}
