//! What the ledger remembers of one link: ids, versions, keyed hashes and names of fields. No value of the chart is in here but
//! those that a policy overwrote, and they are sealed ([`crate::kept`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};

use crate::{
    connection::Side,
    kept::{self, Kept},
    key::{RecordKey, ResourceId, RowUuid, StationId},
    keys::{CANONICAL_FORM, FieldHash, Hasher, KeyId},
    merge::Base,
    row::{Fields, ModId, Row, RowId},
};

/// What a run is about to write, so that whoever comes next knows our hand from a person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    #[serde(default = "to_filemaker")]
    pub side: Side,
    /// What both sides say of each field once this has landed: different things where the value goes on to the other side.
    pub fields: BTreeMap<String, Base>,
    /// The version an edit is guarded with; none for a new row, which the unique key guards.
    pub expected: Option<String>,
    pub epoch: u64,
}

/// States of earlier versions of this program know no other.
fn to_filemaker() -> Side {
    Side::FileMaker
}

impl Intent {
    /// Whether the write could still happen: an edit while its guard holds, a new row whenever it is, or should be, gone.
    fn can_land(&self, version: Option<&str>) -> bool {
        self.expected.as_deref().is_none_or(|expected| version == Some(expected))
    }

    /// What both sides agree on where this side of a field is as it was meant: what the other side said.
    fn landed(&self, side: Side, field: &str, now: FieldHash) -> Option<Base> {
        let meant = self.fields.get(field).filter(|meant| self.side == side && meant.of(side) == now)?;
        Some(Base::both(meant.of(side.other())))
    }
}

/// Our last write to one side: which version it made, and the fields whose form there was not looked at since. A server may keep
/// what it is sent in a form of its own, also what stood there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    version: String,
    fields: BTreeSet<String>,
}

/// Which station wrote for a link last, and when by its clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    pub station: StationId,
    pub at: Timestamp,
}

/// Why a link has come to its end, for now: a new version begins it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The resource was deleted; the row stays.
    Gone,
    /// The clinic deleted the row; it is not made again.
    RowDeleted,
    /// The mapping leaves this resource out, by its filter or because it was entered in error before it had a row.
    DoesNotApply,
    /// Its status says that it is not ready: nothing is done until that changes.
    NotReady,
}

/// Versions of the chart that are over, remembered so that a late answer is not taken for a new edit.
const PAST_VERSIONS: usize = 8;

/// A field that we wrote so often within so long may go round in a circle: its next write waits until it is seldom again.
pub const HOPS: usize = 20;
pub const HOPS_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// What goes on like that for so long is no person at work: nothing is written until somebody has looked.
pub const HOPS_FOR: SignedDuration = SignedDuration::from_mins(30);

/// How often we wrote one field lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hops {
    /// Since when it was never left alone for [`HOPS_WITHIN`].
    since: Timestamp,
    times: VecDeque<Timestamp>,
    /// It went on for too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
}

/// What becomes of a write to a field that we have written very often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circling {
    /// It may be written again after this.
    Pause(Duration),
    /// Something answers us: a person has to look.
    Stop,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Which key and which canonical form the hashes are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(default)]
    form: u16,
    /// The FHIR version that the last complete run has seen or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Those before it, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    past: VecDeque<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<(RowId, ModId)>,
    /// The row's own name. Without one, nothing of this row goes to the chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<RowUuid>,
    /// The row's time stamp, when it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<DateTime>,
    /// The clinic's own number, allotted for this row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What a row that had no FHIR id became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<ResourceId>,
    /// The values both sides last agreed on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub base: BTreeMap<String, Base>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    made: BTreeMap<Side, Made>,
    /// What each side said when it was last read. For the run that reads; not kept.
    #[serde(skip)]
    said: BTreeMap<Side, BTreeMap<String, FieldHash>>,
    /// Fields where one side's own edit is kept and not carried over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub differs: BTreeSet<String>,
    /// Fields about which a person has to decide, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflicts: BTreeMap<String, Timestamp>,
    /// Fields that changed where a write of ours may have landed before, or landed and was never looked at: whether somebody edited
    /// them, and whether on ours or beside it, cannot be told, so no policy decides about them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unclear: BTreeSet<String>,
    /// Fields that the mapping could not carry over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    hops: BTreeMap<String, Hops>,
    /// The parent whose row was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RecordKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The side that is left was flagged for this end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flagged: bool,
    /// The last write that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<Wrote>,
}

/// What a read of one side tells; no version where it is not there.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    pub version: Option<&'a str>,
    pub hashes: &'a BTreeMap<String, FieldHash>,
}

impl LinkState {
    /// Reads a record's state. Hashes of another key or form are left out: they say nothing about today's values. A state that
    /// cannot be read counts as none, which costs a comparison and never a value.
    pub fn parse(text: &str, hasher: &Hasher) -> Self {
        let mut state: LinkState = serde_json::from_str(text).unwrap_or_default();
        if state.key.as_ref() != Some(hasher.key_id()) || state.form != CANONICAL_FORM {
            state.base.clear();
            for intent in &mut state.intents {
                intent.fields.clear();
            }
        }
        state.key = Some(hasher.key_id().clone());
        state.form = CANONICAL_FORM;
        state
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a link state of plain texts always has a JSON form")
    }

    /// The row that was found. Where it is another one than before, because that one was deleted and a create that was given up landed
    /// late, or somebody entered it again, what was known of the old one says nothing about it: nothing is agreed but what our own
    /// creates made it, and it was never flagged.
    pub fn meet(&mut self, row: &Row) {
        let same = match (&self.uuid, &row.uuid) {
            (Some(known), Some(now)) => known == now,
            _ => self.row.as_ref().is_none_or(|(known, _)| *known == row.id),
        };
        if same {
            return;
        }
        self.base.clear();
        self.flagged = false;
        for edit in self.intents.iter_mut().filter(|intent| intent.expected.is_some()) {
            edit.fields.clear();
        }
    }

    /// Takes in what a read of both sides tells about our own writes. A field that holds what we meant to write was written by us,
    /// so it is the base now, as far as the other side said it too; an intent that has landed, or whose guard no longer holds, is
    /// forgotten. A side that still has the version of our own write shows what became of it there, and that is nobody's edit either.
    /// Where that version is over already, what became of it cannot be told from an edit.
    pub fn absorb(&mut self, chart: Sight<'_>, row: Sight<'_>) {
        for (side, sight) in [(Side::Fhir, chart), (Side::FileMaker, row)] {
            for (field, hash) in sight.hashes {
                let landed = self.intents.iter().rev().find_map(|intent| intent.landed(side, field, *hash));
                self.base.extend(landed.map(|base| (field.clone(), base)));
            }
            if let (Some(made), Some(version)) = (self.made.get_mut(&side), sight.version) {
                let is_ours = made.version == version;
                for field in std::mem::take(&mut made.fields) {
                    let (Some(base), Some(hash)) = (self.base.get_mut(&field), sight.hashes.get(&field)) else {
                        continue;
                    };
                    if is_ours {
                        *base.of_mut(side) = *hash;
                    } else if base.of(side) != *hash {
                        self.unclear.insert(field);
                    }
                }
            }
            if self.intents.iter().any(|intent| intent.side == side && !intent.can_land(sight.version)) {
                for (field, now) in sight.hashes {
                    if self.base.get(field).is_some_and(|base| base.of(side) != *now) {
                        self.unclear.insert(field.clone());
                    }
                }
            }
            self.intents.retain(|intent| intent.side != side || intent.can_land(sight.version));
            self.said.insert(side, sight.hashes.clone());
        }
        if row.version.is_some() && self.row.is_none() {
            // One of the creates is this row: the one that says the same, unless somebody has changed it since. Any other can land
            // only if somebody deletes it.
            let create = |intent: &Intent| intent.side == Side::FileMaker && intent.expected.is_none();
            let says = |field: &str, meant: &Base| row.hashes.get(field) == Some(&meant.right);
            let same = |intent: &Intent| intent.fields.iter().all(|(field, meant)| says(field, meant));
            let mut intents = self.intents.iter();
            let landed = intents.position(|intent| create(intent) && same(intent));
            if let Some(landed) = landed.or_else(|| self.intents.iter().position(create)) {
                self.intents.remove(landed);
            }
        }
    }

    pub fn intend(&mut self, side: Side, fields: BTreeMap<String, Base>, expected: Option<String>, epoch: u64) {
        self.intents.push(Intent { side, fields, expected, epoch });
    }

    /// The write to this side, the last that was intended there, just answered: it happened, or it certainly did not, or it was
    /// never sent. Any way its intent is settled.
    pub fn settle_last(&mut self, side: Side) {
        if let Some(last) = self.intents.iter().rposition(|intent| intent.side == side) {
            self.intents.remove(last);
        }
    }

    /// A write was done: both sides agree on these fields now, and no older edit of that side can land any more.
    pub fn written(&mut self, side: Side, fields: &BTreeMap<String, Base>, version: &str, now: Timestamp) {
        self.base.extend(fields.iter().map(|(field, meant)| (field.clone(), Base::both(meant.of(side)))));
        let stood = self.said.get(&side).into_iter().flatten();
        let stood = stood.filter(|(field, said)| self.base.get(*field).is_some_and(|base| base.of(side) == **said));
        let fields_there = fields.keys().chain(stood.map(|(field, _)| field)).cloned().collect();
        let made = Made { version: version.to_owned(), fields: fields_there };
        self.made.insert(side, made);
        self.intents.retain(|intent| intent.side != side || intent.expected.is_none());
        for field in fields.keys() {
            let fresh = Hops { since: now, times: VecDeque::new(), stopped: false };
            self.hops.entry(field.clone()).or_insert(fresh).times.push_back(now);
        }
    }

    /// The row was written and the chart was not: what was to go on to it is an edit of the row now, made on what the chart says.
    pub fn written_by_half(&mut self, row: &BTreeMap<String, Base>) {
        for (field, meant) in row.iter().filter(|(_, meant)| meant.left != meant.right) {
            self.base.insert(field.clone(), Base::both(meant.left));
            if let Some(made) = self.made.get_mut(&Side::FileMaker) {
                made.fields.remove(field);
            }
        }
    }

    /// Whether this version of a side is our own last write there.
    pub fn wrote_version(&self, side: Side, version: &str) -> bool {
        self.made.get(&side).is_some_and(|made| made.version == version)
    }

    /// The chart is at this version: the one before is over.
    pub fn saw_version(&mut self, version: String) {
        if let Some(before) = self.version.replace(version).filter(|before| Some(before) != self.version.as_ref()) {
            self.past.push_back(before);
            if self.past.len() > PAST_VERSIONS {
                self.past.pop_front();
            }
        }
    }

    /// Whether a complete run knew of this version of the chart, or of a later one.
    pub fn has_seen(&self, version: &str) -> bool {
        self.version.as_deref() == Some(version) || self.past.iter().any(|past| past == version)
    }

    /// Whether this version of the chart is known to be over.
    pub fn is_past(&self, version: &str) -> bool {
        self.version.as_deref() != Some(version) && self.past.iter().any(|past| past == version)
    }

    /// A person has looked: what the chart says now counts, whatever was before, and the writes are counted anew.
    pub fn begin_anew(&mut self) {
        self.past.clear();
        self.hops.clear();
    }

    /// Whether one of these fields was written so often lately that something may be answering us.
    pub fn circling<'a>(&mut self, fields: impl Iterator<Item = &'a String>, now: Timestamp) -> Option<Circling> {
        self.hops.retain(|_, hops| {
            hops.times.retain(|time| now.duration_since(*time).abs() <= HOPS_WITHIN);
            hops.stopped || !hops.times.is_empty()
        });
        let mut pause = None;
        for field in fields {
            let Some(hops) = self.hops.get_mut(field) else { continue };
            let often = hops.times.len() >= HOPS;
            hops.stopped |= often && now.duration_since(hops.since) >= HOPS_FOR;
            if hops.stopped {
                return Some(Circling::Stop);
            }
            if let Some(oldest) = hops.times.front().filter(|_| often) {
                pause = pause.max(Some((HOPS_WITHIN - now.duration_since(*oldest)).unsigned_abs()));
            }
        }
        pause.map(Circling::Pause)
    }

    /// Keeps the open conflicts as they are found: an old one keeps its date.
    pub fn note_conflicts(&mut self, fields: BTreeSet<String>, now: Timestamp) {
        let before = std::mem::take(&mut self.conflicts);
        self.conflicts = fields
            .into_iter()
            .map(|field| {
                let since = before.get(&field).copied().unwrap_or(now);
                (field, since)
            })
            .collect();
        self.unclear.retain(|field| self.conflicts.contains_key(field));
    }

    pub fn keep(&mut self, one: Kept) {
        kept::add(&mut self.kept, one);
    }

    /// Whether something is kept that was kept long enough.
    pub fn keeps_too_long(&self, now: Timestamp) -> bool {
        self.kept.iter().any(|kept| kept.is_over(now))
    }

    /// Forgets what was kept long enough.
    pub fn forget_kept(&mut self, now: Timestamp) {
        self.kept.retain(|kept| !kept.is_over(now));
    }
}

/// What a listing shows of a record's state: names and dates, no hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    pub parent: Option<RecordKey>,
    pub conflicts: BTreeMap<String, Timestamp>,
}

impl Look {
    pub fn at(state: &str) -> Self {
        let state: LinkState = serde_json::from_str(state).unwrap_or_default();
        Self { parent: state.parent, conflicts: state.conflicts }
    }
}

/// Which station wrote last, as a record's state has it.
pub fn last_write(state: &str) -> Option<Wrote> {
    serde_json::from_str::<LinkState>(state).ok()?.wrote
}

/// The parent that a record's state names.
pub fn parent(state: &str) -> Option<RecordKey> {
    Look::at(state).parent
}

/// The hashes of a row's fields.
pub fn hashes(hasher: &Hasher, key: &RecordKey, fields: &Fields) -> BTreeMap<String, FieldHash> {
    fields.iter().map(|(field, value)| (field.clone(), hasher.hash(key, field, value))).collect()
}
