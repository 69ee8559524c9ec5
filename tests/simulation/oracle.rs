//! What must be true, checked while the world turns. The oracle sees what the stations' ports accepted and what the people did; it
//! knows nothing of the engine's insides. Invariants are those of the fact sheet on reliability, by their numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use engine::{
    audit::AuditId,
    body::Reader,
    connection::Side,
    fakes::{MemoryLedger, MemoryQueue},
    hint::Hint,
    key::{RecordKey, ResourceId, ResourceType, StationId},
    ledger::{Commit, Finish, Lease, Owner},
    ports::{Delivery, Message, Receipt},
    row::{Fields, Value},
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    people::{People, Place},
    script::Tally,
    world::layout,
};

#[derive(Debug, Default)]
pub struct Oracle(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Counts everything that happens, so that "before" and "after" can be told.
    step: u64,
    violation: Option<String>,
    checks: Tally,
    sent: BTreeMap<String, (u64, Vec<RecordKey>)>,
    receipts: BTreeMap<Receipt, String>,
    acknowledged: BTreeSet<String>,
    /// Emptied out by somebody.
    purged: BTreeSet<String>,
    buried: BTreeSet<String>,
    /// When a committed run last read the source of a key.
    covered: BTreeMap<RecordKey, u64>,
    read: BTreeMap<(usize, String), u64>,
    /// Who holds which lease, by accepted calls alone.
    holders: BTreeMap<RecordKey, (Owner, u64)>,
    /// Those of them that were not freed by a commit.
    holding: BTreeMap<RecordKey, u64>,
    /// When they last gave a sign of life, by no host's clock.
    alive: BTreeMap<RecordKey, (StationId, Instant, Duration)>,
    /// Who wrote a field last: the newest source value by us, or a person.
    fields: BTreeMap<(String, String, String), Hand>,
    touched: BTreeSet<(String, String)>,
    late: bool,
    creates: BTreeMap<(String, String), u64>,
    /// Rows that were made, and of which no commit has told the ledger yet: no base is known for what they say.
    baseless: BTreeSet<(String, String)>,
    open_audits: BTreeMap<(usize, AuditId), Option<RecordKey>>,
    /// In worlds that go both ways: who typed what.
    people: Option<People>,
    audits: u64,
    writes: u64,
    echoes: u64,
    doubled: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum Hand {
    Ours(u64),
    Person(Value),
}

/// Fields that no person types in these worlds.
const OURS: [&str; 2] = ["Active", "PatientFhirId"];

/// Values carry the order in which their source was edited: `s17`.
pub fn order(value: &Value) -> Option<u64> {
    match value {
        Value::Text(text) => text.strip_prefix('s')?.parse().ok(),
        _ => None,
    }
}

impl Seen {
    fn break_at(&mut self, invariant: &str, what: String) {
        self.violation.get_or_insert_with(|| format!("{invariant}: {what}"));
    }

    /// I4, I8 and I9 of a write in a world of people: field, value, and what stood there before.
    fn merged(&mut self, layout: &str, key: &str, side: Side, values: &[(&str, String, String)]) {
        let late = self.late;
        for (field, value, before) in values.iter().filter(|(field, ..)| !OURS.contains(field)) {
            let place = (layout.to_owned(), key.to_owned(), (*field).to_owned());
            for invariant in ["I4", "I8", "I9", "I10"] {
                self.checks.add(invariant);
            }
            let written = self.people.as_mut().map(|people| people.written(&place, side, value, before, late));
            if let Some(Err((invariant, what))) = written {
                self.break_at(invariant, what);
            }
        }
    }
}

impl Oracle {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// For a world in which both sides are edited and written.
    pub fn of_both() -> Arc<Self> {
        let oracle = Self::default();
        oracle.seen().people = Some(People::default());
        Arc::new(oracle)
    }

    fn people<T>(&self, tell: impl FnOnce(&mut People) -> T) -> Option<T> {
        self.seen().people.as_mut().map(tell)
    }

    pub fn typed(&self, place: Place, side: Side, value: &str, replaced: &str) {
        let mut seen = self.seen();
        let baseless = side == Side::FileMaker && seen.baseless.contains(&(place.0.clone(), place.1.clone()));
        let Some(people) = &mut seen.people else { return };
        if value.is_empty() && baseless {
            // A blank never wins where there is no base: it is filled again.
            people.chose(&place, replaced);
        }
        people.typed(place, side, value, replaced, true);
    }

    /// Two people typed the same on both sides.
    pub fn typed_by_two(&self, place: &Place, value: &str) {
        self.people(|people| people.typed_by_two(place, value));
    }

    /// A person made this of what both sides said, or wanted to (and is then told of again, when it is sure).
    pub fn decided(&self, place: &Place, value: &str, chart: &str, row: &str, sure: bool) {
        self.people(|people| {
            if !sure {
                people.chose(place, value);
            }
            if value != row {
                people.typed(place.clone(), Side::Fhir, value, row, sure);
            }
            if value != chart {
                people.typed(place.clone(), Side::FileMaker, value, chart, sure);
            }
        });
    }

    pub fn lost(&self, layout: &str, key: &str, is_there: impl Fn(&str, &str) -> bool) -> Option<String> {
        self.checked("I8");
        self.people(|people| people.lost(layout, key, is_there)).flatten()
    }

    pub fn has_deleted_row(&self, layout: &str, key: &str) -> bool {
        self.people(|people| people.has_deleted_row(layout, key)).unwrap_or(false)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.0.lock().unwrap();
        seen.step += 1;
        seen
    }

    pub fn violation(&self) -> Option<String> {
        self.0.lock().unwrap().violation.clone()
    }

    pub fn fail(&self, invariant: &str, what: String) {
        self.seen().break_at(invariant, what);
    }

    pub fn checked(&self, invariant: &'static str) {
        self.seen().checks.add(invariant);
    }

    pub fn checks(&self) -> Tally {
        self.0.lock().unwrap().checks.clone()
    }

    /// Echoes and doubled rows.
    pub fn figures(&self) -> (u64, u64, u64) {
        let seen = self.0.lock().unwrap();
        (seen.writes, seen.echoes, seen.doubled)
    }

    pub fn sent(&self, messages: &[Message]) {
        let mut seen = self.seen();
        let step = seen.step;
        for message in messages {
            let keys = Reader { firm: Some(crate::world::firm_id()) }
                .read(&message.body, Timestamp::UNIX_EPOCH)
                .map(|hints| hints.iter().map(Hint::key).collect());
            seen.sent.insert(message.id.clone(), (step, keys.unwrap_or_default()));
        }
    }

    pub fn received(&self, deliveries: &[Delivery]) {
        let mut seen = self.seen();
        for delivery in deliveries {
            seen.receipts.insert(delivery.receipt.clone(), delivery.id.clone());
        }
    }

    /// I1: an acknowledged message is covered: each of its records was read after it was sent, by a run that was committed, or is
    /// wanted, or dead; or the message itself is kept as a dead letter.
    pub fn acknowledged(&self, receipts: &[Receipt], refused: &[Receipt], ledger: &MemoryLedger) {
        let records = ledger.records();
        let mut seen = self.seen();
        for receipt in receipts.iter().filter(|receipt| !refused.contains(receipt)) {
            seen.checks.add("I1");
            let Some(id) = seen.receipts.get(receipt).cloned() else { continue };
            seen.acknowledged.insert(id.clone());
            let Some((sent, keys)) = seen.sent.get(&id).cloned() else { continue };
            if keys.is_empty() && !seen.buried.contains(&id) {
                seen.break_at("I1", "an unreadable message was acknowledged and not kept".to_owned());
            }
            for key in keys {
                let covered = seen.covered.get(&key).is_some_and(|read| *read > sent);
                let marked = records.get(&key).is_some_and(|record| record.wanted.is_some() || record.dead.is_some());
                if !covered && !marked {
                    seen.break_at("I1", format!("a message about {key} was acknowledged and nothing covers it"));
                }
            }
        }
    }

    pub fn buried(&self, id: &str) {
        self.seen().buried.insert(id.to_owned());
    }

    pub fn source_read(&self, station: usize, resource: &ResourceType, id: &ResourceId) {
        let mut seen = self.seen();
        let step = seen.step;
        seen.read.insert((station, format!("{resource}/{id}")), step);
    }

    pub fn taken(&self, lease: &Lease) {
        let mut seen = self.seen();
        seen.checks.add("I6");
        seen.checks.add("I5");
        if let Some((_, epoch)) = seen.holders.get(&lease.key)
            && lease.epoch <= *epoch
        {
            seen.break_at("I5", format!("the epoch of {} did not rise", lease.key));
        }
        if seen.holding.contains_key(&lease.key)
            && let Some((station, beat, term)) = seen.alive.get(&lease.key).cloned()
            && station != lease.owner.station
        {
            // I16 and I20: no clock of a host decides, only the time that has passed.
            seen.checks.add("I16");
            let stood = beat.elapsed();
            if stood < term {
                seen.break_at("I16", format!("{} was taken over {stood:?} after a sign of life", lease.key));
            }
        }
        seen.holders.insert(lease.key.clone(), (lease.owner.clone(), lease.epoch));
        seen.holding.insert(lease.key.clone(), lease.epoch);
        seen.alive.insert(lease.key.clone(), (lease.owner.station.clone(), Instant::now(), lease.term));
    }

    pub fn renewed(&self, lease: &Lease) {
        self.used(lease);
        let alive = (lease.owner.station.clone(), Instant::now(), lease.term);
        self.seen().alive.insert(lease.key.clone(), alive);
    }

    /// I7: what was accepted carries the version that the row had.
    pub fn guarded(&self, layout: &str, current: bool) {
        let mut seen = self.seen();
        seen.checks.add("I7");
        if !current {
            seen.break_at("I7", format!("an edit of {layout} was accepted that was made from another version"));
        }
    }

    /// I6 at rest: no lease is gone that its holder has not freed.
    pub fn leases(&self, ledger: &MemoryLedger) {
        let records = ledger.records();
        let mut seen = self.seen();
        seen.checks.add("I6");
        let gone = seen.holding.iter().find(|(key, epoch)| {
            let held = records.get(*key).and_then(|record| record.held.as_ref());
            held.is_none_or(|held| held.stamp.epoch != **epoch)
        });
        if let Some(key) = gone.map(|(key, _)| key.clone()) {
            seen.break_at("I6", format!("the lease of {key} was freed by somebody else"));
        }
    }

    /// I6: only its holder renews, uses or frees a lease.
    pub fn used(&self, lease: &Lease) {
        let mut seen = self.seen();
        seen.checks.add("I6");
        let holder = seen.holders.get(&lease.key).cloned();
        if holder != Some((lease.owner.clone(), lease.epoch)) {
            seen.break_at("I6", format!("{} was changed under a lease of somebody else", lease.key));
        }
    }

    pub fn committed(&self, station: usize, lease: &Lease, commit: &Commit) {
        self.used(lease);
        let mut seen = self.seen();
        seen.holding.remove(&lease.key);
        seen.baseless.remove(&(layout(&lease.key.resource).to_owned(), lease.key.id.to_string()));
        if commit.finish == Finish::Done {
            let key = (station, format!("{}/{}", lease.key.resource, lease.key.id));
            if let Some(read) = seen.read.get(&key).copied() {
                seen.covered.insert(lease.key.clone(), read);
            }
        }
    }

    /// From here on, accepted writes are of a client that has given up on them.
    pub fn late(&self, late: bool) {
        self.seen().late = late;
    }

    /// A write of ours was accepted. `before` is the row as it was.
    pub fn written(&self, layout: &str, key: &str, fields: &Fields, before: Option<&Fields>) {
        let mut seen = self.seen();
        seen.writes += 1;
        let late = seen.late;
        let audited = seen.open_audits.values().any(|open| open.as_ref().is_some_and(|open| open.id.as_str() == key));
        seen.checks.add("I17");
        if !audited && !late {
            seen.break_at("I17", format!("{layout}/{key} was written without an open audit entry"));
        }
        if before.is_none() {
            let count = seen.creates.entry((layout.to_owned(), key.to_owned())).or_default();
            *count += 1;
            seen.baseless.insert((layout.to_owned(), key.to_owned()));
        }
        seen.checks.add("I9");
        if before.is_some_and(|before| fields.iter().all(|(field, value)| before.get(field) == Some(value))) {
            seen.echoes += 1;
            seen.break_at("I9", format!("a write to {layout}/{key} changed nothing: an echo"));
        }
        if seen.people.is_some() {
            if before.is_none()
                && !late
                && seen.people.as_ref().is_some_and(|people| people.has_deleted_known_row(layout, key))
            {
                seen.break_at("I10", format!("{layout}/{key} was deleted and made again"));
            }
            let said = |fields: &Fields, field: &str| fields.get(field).map(Value::canonical).unwrap_or_default();
            let values: Vec<_> = fields
                .keys()
                .map(|field| {
                    (field.as_str(), said(fields, field), before.map(|before| said(before, field)).unwrap_or_default())
                })
                .collect();
            return seen.merged(layout, key, Side::FileMaker, &values);
        }
        for (field, value) in fields {
            let place = (layout.to_owned(), key.to_owned(), field.clone());
            if *value == Value::Blank {
                seen.break_at("I8", format!("{layout}/{key} {field} was blanked"));
            }
            match seen.fields.get(&place).cloned() {
                Some(Hand::Person(_)) if before.is_some() => {
                    seen.checks.add("I8");
                    seen.break_at("I8", format!("a person's value in {layout}/{key} {field} was overwritten"));
                }
                Some(Hand::Ours(newest)) => {
                    seen.checks.add("I4");
                    // What lands late is undone by the next merge; the end state tells whether it was.
                    if order(value).is_some_and(|order| order < newest) && !late {
                        seen.break_at("I4", format!("{layout}/{key} {field} went back to an older value"));
                    }
                }
                Some(Hand::Person(_)) | None => {}
            }
            // Field order alone cannot tell an old value from an edit back to it, and there are no edits back.
            if let Some(order) = order(value) {
                seen.fields.insert(place, Hand::Ours(order));
            }
        }
    }

    /// A write of ours to the chart was accepted: what each field said before and says now, and whether all else is as it was.
    pub fn chart_written(&self, layout: &str, key: &str, values: &[(&str, String, String)], rest_is_same: bool) {
        let mut seen = self.seen();
        seen.writes += 1;
        let audited = seen.open_audits.values().any(|open| open.as_ref().is_some_and(|open| open.id.as_str() == key));
        seen.checks.add("I17");
        if !audited && !seen.late {
            seen.break_at("I17", format!("the chart's {layout}/{key} was written without an open audit entry"));
        }
        if !rest_is_same {
            seen.break_at("I8", format!("the chart's {layout}/{key} was changed beside the mapping"));
        }
        let changed: Vec<_> = values.iter().filter(|(_, now, before)| now != before).cloned().collect();
        seen.checks.add("I9");
        if changed.is_empty() {
            seen.echoes += 1;
            seen.break_at("I9", format!("a write to the chart's {layout}/{key} changed nothing: an echo"));
        }
        seen.merged(layout, key, Side::Fhir, &changed);
    }

    /// A person changed a field at the desk.
    pub fn edited_by_hand(&self, layout: &str, key: &str, field: &str, value: &Value) {
        let place = (layout.to_owned(), key.to_owned(), field.to_owned());
        let mut seen = self.seen();
        seen.touched.insert((layout.to_owned(), key.to_owned()));
        seen.fields.insert(place, Hand::Person(value.clone()));
    }

    /// Whether a person's value stands in a field.
    pub fn is_by_hand(&self, layout: &str, key: &str, field: &str) -> bool {
        let place = (layout.to_owned(), key.to_owned(), field.to_owned());
        matches!(self.0.lock().unwrap().fields.get(&place), Some(Hand::Person(_)))
    }

    /// Whether a person has changed or deleted the row.
    pub fn is_touched_by_hand(&self, layout: &str, key: &str) -> bool {
        self.0.lock().unwrap().touched.contains(&(layout.to_owned(), key.to_owned()))
    }

    /// `known`: the ledger knew of the row.
    pub fn deleted_by_hand(&self, layout: &str, key: &str, known: bool) {
        self.people(|people| people.deleted_row(layout, key, known));
        self.seen().touched.insert((layout.to_owned(), key.to_owned()));
        self.seen().creates.remove(&(layout.to_owned(), key.to_owned()));
        self.seen().fields.retain(|(l, k, _), _| l != layout || k != key);
    }

    /// I3: one row for each key.
    pub fn count_rows(&self, layout: &str, keys: impl Iterator<Item = String>) {
        let mut count: BTreeMap<String, u64> = BTreeMap::new();
        for key in keys {
            *count.entry(key).or_default() += 1;
        }
        let mut seen = self.seen();
        seen.checks.add("I3");
        for (key, count) in count.into_iter().filter(|(_, count)| *count > 1) {
            seen.doubled += 1;
            seen.break_at("I3", format!("{layout}/{key} has {count} rows"));
        }
    }

    pub fn audit_begun(&self, station: usize, id: AuditId, key: Option<RecordKey>) {
        let mut seen = self.seen();
        seen.audits += 1;
        seen.open_audits.insert((station, id), key);
    }

    pub fn audit_completed(&self, station: usize, id: AuditId) {
        self.seen().open_audits.remove(&(station, id));
    }

    /// Somebody emptied the queue: what was in it is nobody's to account for, and what it was about must arrive all the same.
    pub fn purged(&self, ids: Vec<String>) {
        self.seen().purged.extend(ids);
    }

    /// A call that sent only a part kept the rest for another try.
    pub fn not_sent(&self, messages: &[Message], queue: &MemoryQueue) {
        let there: BTreeSet<_> = queue.ids().into_iter().collect();
        let mut seen = self.seen();
        for message in messages.iter().filter(|message| !there.contains(&message.id)) {
            seen.sent.remove(&message.id);
        }
    }

    /// I2: every message sent is acknowledged and covered, or still there, or somebody emptied the queue. None is both where a
    /// receipt is good for one deletion.
    pub fn conserve(&self, queue: &MemoryQueue, shared: bool) {
        let there: BTreeSet<_> = queue.ids().into_iter().collect();
        let mut seen = self.seen();
        seen.checks.add("I2");
        let odd = seen.sent.keys().find(|id| match (there.contains(*id), seen.acknowledged.contains(*id)) {
            (false, false) => !seen.purged.contains(*id),
            (true, true) => !shared,
            _ => false,
        });
        if let Some(id) = odd.cloned() {
            seen.break_at("I2", format!("message {id} is neither waiting nor acknowledged, or both"));
        }
    }

    /// I21: whatever nobody can read was put away, and held up nothing.
    pub fn poison_at_rest(&self, ledger: &[String]) {
        let mut seen = self.seen();
        seen.checks.add("I21");
        let kept = |id: &String| ledger.contains(id) || seen.purged.contains(id);
        let lost = seen.sent.iter().find(|(id, (_, keys))| keys.is_empty() && !kept(id)).map(|(id, _)| id.clone());
        if let Some(id) = lost {
            seen.break_at("I21", format!("the unreadable message {id} was not put away"));
        }
    }

    /// I17 at rest: every entry is resolved.
    pub fn audit_at_rest(&self, open: usize) {
        let mut seen = self.seen();
        seen.checks.add("I17");
        if open > 0 {
            seen.break_at("I17", format!("{open} audit entries were never resolved"));
        }
    }
}

/// Keys of a ledger's records that are still held, for I20 at rest.
pub fn held(ledger: &MemoryLedger) -> Vec<RecordKey> {
    ledger.records().into_values().filter(|record| record.held.is_some()).map(|record| record.key).collect()
}
