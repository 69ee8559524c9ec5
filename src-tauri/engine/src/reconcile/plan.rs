//! What a merge asks for, field by field. Pure: it decides on values that were read and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::{
    connection::Side,
    kept::Room,
    keys::FieldHash,
    link::LinkState,
    mapping::{Direction, Extracted, Owner, ResourceMapping},
    merge::{Base, Merge, merge},
    row::{Fields, Row, Value},
};

/// Two times closer than this tell nobody which edit was the later one: they are two machines' clocks.
pub const TOO_CLOSE: SignedDuration = SignedDuration::from_secs(2);

/// What both sides say, and how it may be merged.
#[derive(Debug)]
pub struct Sides<'a> {
    pub mapping: &'a ResourceMapping,
    pub extracted: &'a Extracted,
    pub row: &'a Row,
    pub chart_hashes: &'a BTreeMap<String, FieldHash>,
    pub row_hashes: &'a BTreeMap<String, FieldHash>,
    /// Nothing may be written to the chart, whatever the mapping says: the row is not watched.
    pub one_way: bool,
    /// The chart's record is closed to us: entered in error, or merged into another one.
    pub chart_closed: bool,
    /// Which side's version is the newer one, where that can be told.
    pub newer: Option<Side>,
    /// A person has decided about one field.
    pub settled: Option<(&'a str, &'a Decision)>,
}

/// What a person wants a field to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Take(Side),
    Set(Value),
}

/// What is to be done about one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The chart says nothing about it, or nothing that can be understood.
    Leave,
    Agreed,
    /// Different as they last were: one side keeps it in a form of its own.
    Reshaped,
    /// To be carried over to this side; `over` an edit that is lost there.
    Write {
        side: Side,
        over: bool,
    },
    /// Carried over to neither: each side keeps its own.
    Differs,
    /// A person decides.
    Conflict,
}

impl Verdict {
    fn write(side: Side) -> Self {
        Verdict::Write { side, over: false }
    }
}

/// What a merge asks for.
#[derive(Debug, Default)]
pub struct Plan {
    pub to_row: Fields,
    pub to_chart: Fields,
    pub agreed: Vec<(String, Base)>,
    pub reshaped: BTreeSet<String>,
    pub differs: BTreeSet<String>,
    pub conflicts: BTreeSet<String>,
    /// Edits that a policy writes over, by field: the side that loses, and its value.
    pub lost: Vec<(String, Side, Value)>,
}

impl Plan {
    pub fn writes_nothing(&self) -> bool {
        self.to_row.is_empty() && self.to_chart.is_empty()
    }
}

/// One field, as the merge sees it.
struct Field<'a> {
    direction: Direction,
    owner: Owner,
    /// The chart says nothing about it.
    silent: bool,
    left: &'a Value,
    right: &'a Value,
    merge: Merge,
    has_base: bool,
    unclear: bool,
    newer: Option<Side>,
}

impl Field<'_> {
    fn verdict(&self) -> Verdict {
        match self.merge {
            Merge::Agreed => return Verdict::Agreed,
            Merge::Reshaped => return Verdict::Reshaped,
            Merge::TakeLeft | Merge::TakeRight | Merge::Conflict => {}
        }
        match self.direction {
            Direction::ToFileMaker if self.silent => Verdict::Leave,
            Direction::ToFileMaker => match self.merge {
                Merge::TakeLeft => Verdict::write(Side::FileMaker),
                // Nothing is known of what both once agreed on, and filling a blank takes nothing from anybody.
                Merge::Conflict if !self.has_base && *self.right == Value::Blank => Verdict::write(Side::FileMaker),
                _ => Verdict::Differs,
            },
            Direction::ToFhir => match self.merge {
                Merge::TakeRight => Verdict::write(Side::Fhir),
                Merge::Conflict if !self.has_base && *self.left == Value::Blank => Verdict::write(Side::Fhir),
                _ => Verdict::Differs,
            },
            Direction::Both => match self.merge {
                // What the chart no longer says was not taken back by it.
                Merge::TakeLeft if self.silent => Verdict::Leave,
                Merge::TakeLeft => Verdict::write(Side::FileMaker),
                Merge::TakeRight => Verdict::write(Side::Fhir),
                // A blank never wins over a value where nothing is known of what both once agreed on.
                _ if !self.has_base && *self.right == Value::Blank => Verdict::write(Side::FileMaker),
                _ if !self.has_base && *self.left == Value::Blank => Verdict::write(Side::Fhir),
                _ if !self.has_base || self.unclear => Verdict::Conflict,
                _ if self.silent => Verdict::write(Side::Fhir),
                _ => match (self.owner, self.newer) {
                    (Owner::Fhir, _) | (Owner::Newest, Some(Side::Fhir)) => {
                        Verdict::Write { side: Side::FileMaker, over: true }
                    }
                    (Owner::FileMaker, _) | (Owner::Newest, Some(Side::FileMaker)) => {
                        Verdict::Write { side: Side::Fhir, over: true }
                    }
                    (Owner::Newest, None) | (Owner::Person, _) => Verdict::Conflict,
                },
            },
        }
    }
}

/// Which side's version is the newer, by the times that the sources themselves give.
pub fn newer(chart: Option<Timestamp>, row: Option<Timestamp>) -> Option<Side> {
    let (chart, row) = (chart?, row?);
    let ahead = chart.duration_since(row);
    (ahead.abs() > TOO_CLOSE).then_some(if ahead.is_positive() { Side::Fhir } else { Side::FileMaker })
}

/// Merges every mapped field.
pub fn plan(sides: &Sides<'_>, state: &LinkState) -> Plan {
    let mut verdicts: BTreeMap<&str, Verdict> = BTreeMap::new();
    let mut room = Room::beside(&state.kept);
    for (field, said) in &sides.extracted.fields {
        let verdict = verdict(sides, state, field, said.as_ref(), &mut room);
        verdicts.insert(field, verdict);
    }
    keep_together(sides, &mut verdicts);
    let mut plan = Plan::default();
    for (field, verdict) in verdicts {
        let name = field.to_owned();
        match verdict {
            Verdict::Leave => {}
            Verdict::Agreed => {
                if let Some(hash) = sides.row_hashes.get(field) {
                    plan.agreed.push((name, Base::both(*hash)));
                }
            }
            Verdict::Reshaped => drop(plan.reshaped.insert(name)),
            Verdict::Differs => drop(plan.differs.insert(name)),
            Verdict::Conflict => drop(plan.conflicts.insert(name)),
            Verdict::Write { side, over } => {
                let (from, to) = match side {
                    Side::FileMaker => (left(sides, field), &mut plan.to_row),
                    Side::Fhir => (right(sides, field), &mut plan.to_chart),
                };
                to.insert(name.clone(), from.clone());
                if over {
                    let lost = if side == Side::FileMaker { right(sides, field) } else { left(sides, field) };
                    plan.lost.push((name, side, lost.clone()));
                }
            }
        }
    }
    decided(sides, &mut plan);
    plan
}

const BLANK: &Value = &Value::Blank;

fn left<'a>(sides: &Sides<'a>, field: &str) -> &'a Value {
    sides.extracted.fields.get(field).and_then(Option::as_ref).unwrap_or(BLANK)
}

fn right<'a>(sides: &Sides<'a>, field: &str) -> &'a Value {
    sides.row.fields.get(field).unwrap_or(BLANK)
}

fn verdict(sides: &Sides<'_>, state: &LinkState, field: &str, said: Option<&Value>, room: &mut Room) -> Verdict {
    let direction = match sides.mapping.direction(field) {
        Direction::Both | Direction::ToFhir if sides.one_way => Direction::ToFileMaker,
        direction => direction,
    };
    if sides.extracted.refused.contains_key(field) || (said.is_none() && direction == Direction::ToFileMaker) {
        return Verdict::Leave;
    }
    // What stands there is not of the field's type, so no program wrote it.
    let (Some(right_hash), Some(left_hash)) = (sides.row_hashes.get(field), sides.chart_hashes.get(field)) else {
        return Verdict::Differs;
    };
    let base = state.base.get(field).copied();
    let verdict = Field {
        direction,
        owner: sides.mapping.owner(field),
        silent: said.is_none(),
        left: said.unwrap_or(BLANK),
        right: right(sides, field),
        merge: merge(*left_hash, *right_hash, base),
        has_base: base.is_some(),
        unclear: state.unclear.contains(field),
        newer: sides.newer,
    }
    .verdict();
    match verdict {
        Verdict::Write { side: Side::Fhir, .. } if sides.chart_closed => Verdict::Differs,
        Verdict::Write { side, over: true } => {
            let lost = if side == Side::FileMaker { right(sides, field) } else { left(sides, field) };
            // What cannot be kept is not written over.
            if room.take(lost) { verdict } else { Verdict::Conflict }
        }
        verdict => verdict,
    }
}

/// A number never loses its unit: where one of the two stays, or they go different ways, so does the other.
fn keep_together(sides: &Sides<'_>, verdicts: &mut BTreeMap<&str, Verdict>) {
    for (number, unit) in sides.mapping.together() {
        let pair = [number, unit].map(|field| verdicts.get(field).copied().unwrap_or(Verdict::Leave));
        let stays = |verdict: &Verdict| matches!(verdict, Verdict::Differs | Verdict::Conflict);
        let side = |verdict: &Verdict| match verdict {
            Verdict::Write { side, .. } => Some(*side),
            _ => None,
        };
        let apart = matches!((side(&pair[0]), side(&pair[1])), (Some(one), Some(other)) if one != other);
        if !apart && !pair.iter().any(stays) {
            continue;
        }
        let instead = if apart || pair.contains(&Verdict::Conflict) { Verdict::Conflict } else { Verdict::Differs };
        for (field, verdict) in [number, unit].into_iter().zip(pair) {
            if side(&verdict).is_some()
                && let Some(known) = verdicts.get_mut(field)
            {
                *known = instead;
            }
        }
    }
}

/// A person's decision about one field goes before everything that was found out about it.
fn decided(sides: &Sides<'_>, plan: &mut Plan) {
    let Some((field, decision)) = sides.settled else { return };
    let value = match decision {
        Decision::Take(Side::Fhir) => left(sides, field).clone(),
        Decision::Take(Side::FileMaker) => right(sides, field).clone(),
        Decision::Set(value) => value.clone(),
    };
    for set in [&mut plan.reshaped, &mut plan.differs, &mut plan.conflicts] {
        set.remove(field);
    }
    plan.agreed.retain(|(name, _)| name != field);
    plan.lost.retain(|(name, _, _)| name != field);
    for (to, stands) in [(&mut plan.to_row, right(sides, field)), (&mut plan.to_chart, left(sides, field))] {
        if *stands == value {
            to.remove(field);
        } else {
            to.insert(field.to_owned(), value.clone());
        }
    }
}
