//! What people typed on both sides of a world, and what must have become of it. Every value is typed once, so that each can be
//! followed; a server may keep it in capitals.

use std::collections::{BTreeMap, BTreeSet};

use engine::connection::Side;

/// Layout, key and field.
pub type Place = (String, String, String);

#[derive(Debug, Default)]
pub struct People {
    edits: BTreeMap<Place, Vec<Edit>>,
    /// How often we wrote which value where.
    writes: BTreeMap<(Place, Side, String), u32>,
    /// What writes of ours put somewhere long after they were given up.
    landed: BTreeSet<(Place, Side, String)>,
    /// How often a person chose a value, of what both sides said: it is written once more for each time.
    chosen: BTreeMap<(Place, String), u32>,
    /// Values that two people typed on both sides, so that what came of one did not come of the other.
    twice: BTreeSet<(Place, String)>,
    /// Rows that a person deleted, and whether the ledger knew of them.
    deleted: BTreeMap<(String, String), bool>,
}

#[derive(Debug, Clone)]
struct Edit {
    value: String,
    side: Side,
    /// What the person saw in its place.
    replaced: String,
    /// It was certainly entered.
    sure: bool,
}

pub fn fold(value: &str) -> String {
    value.to_lowercase()
}

type Broken = Result<(), (&'static str, String)>;

impl People {
    /// A person puts a value in the place of another one.
    pub fn typed(&mut self, place: Place, side: Side, value: &str, replaced: &str, sure: bool) {
        let edit = Edit { value: value.to_owned(), side, replaced: fold(replaced), sure };
        self.edits.entry(place).or_default().push(edit);
    }

    pub fn typed_by_two(&mut self, place: &Place, value: &str) {
        self.twice.insert((place.clone(), fold(value)));
    }

    pub fn chose(&mut self, place: &Place, value: &str) {
        *self.chosen.entry((place.clone(), value.to_owned())).or_default() += 1;
    }

    /// With a row goes what only it said.
    pub fn deleted_row(&mut self, layout: &str, key: &str, known: bool) {
        *self.deleted.entry((layout.to_owned(), key.to_owned())).or_default() |= known;
        let here = self.edits.iter_mut().filter(|((of, name, _), _)| of == layout && name == key);
        for edit in here.flat_map(|(_, edits)| edits).filter(|edit| edit.side == Side::FileMaker) {
            edit.sure = false;
        }
        self.writes.retain(|((of, name, _), side, _), _| of != layout || name != key || *side != Side::FileMaker);
    }

    pub fn has_deleted_row(&self, layout: &str, key: &str) -> bool {
        self.deleted.contains_key(&(layout.to_owned(), key.to_owned()))
    }

    /// Whether the ledger knew of the row that a person deleted. A row that was made and deleted before any answer about it was on
    /// disk cannot be told from one that was never made.
    pub fn has_deleted_known_row(&self, layout: &str, key: &str) -> bool {
        self.deleted.get(&(layout.to_owned(), key.to_owned())).copied().unwrap_or(false)
    }

    /// Whether a person, seeing `older` or what came of it, typed `newer`.
    fn came_of(&self, edits: &[Edit], newer: &str, older: &str) -> bool {
        let (mut look, mut seen) = (vec![fold(newer)], BTreeSet::new());
        while let Some(value) = look.pop() {
            for edit in edits.iter().filter(|edit| edit.sure && fold(&edit.value) == value && !edit.replaced.is_empty())
            {
                if edit.replaced == fold(older) {
                    return true;
                }
                if seen.insert(edit.replaced.clone()) {
                    look.push(edit.replaced.clone());
                }
            }
        }
        false
    }

    /// A write of ours to one side was accepted.
    pub fn written(&mut self, place: &Place, side: Side, value: &str, before: &str, late: bool) -> Broken {
        let (layout, key, field) = place;
        let told =
            |invariant, what: &str| Err((invariant, format!("{layout}/{key} {field} {what} ({})", side.as_str())));
        let edits = self.edits.get(place).map_or(&[][..], Vec::as_slice);
        let by: Vec<&Edit> = edits.iter().filter(|edit| fold(&edit.value) == fold(value)).collect();
        let wanted = self.chosen.get(&(place.clone(), value.to_owned())).copied().unwrap_or_default();
        // That the portal no longer says anything empties no row.
        let silence = value.is_empty() && side == Side::FileMaker && by.iter().all(|edit| edit.side == Side::Fhir);
        if by.is_empty() || (silence && wanted == 0) {
            return told("I8", if value.is_empty() { "was blanked" } else { "got a value that nobody typed" });
        }
        if late {
            self.landed.insert((place.clone(), side, fold(value)));
        }
        // What landed late is undone by the next merge; the end state tells whether it was.
        if value.is_empty() || self.landed.contains(&(place.clone(), side, fold(before))) {
            return Ok(());
        }
        // I9: what was typed here, and only here, does not come back here.
        if by.iter().all(|edit| edit.side == side && edit.value == value) {
            return told("I9", "got back what was typed there");
        }
        // I4: nobody's edit is undone by what it was made on.
        let chosen = by.iter().any(|edit| edit.replaced == fold(before));
        let twice = self.twice.contains(&(place.clone(), fold(value)));
        if !before.is_empty() && !chosen && !twice && self.came_of(edits, before, value) {
            return told("I4", "went back to an older value");
        }
        let times = self.writes.entry((place.clone(), side, value.to_owned())).or_default();
        *times += 1;
        if *times > 1 + wanted && !late {
            return told("I9", "got the same value twice");
        }
        Ok(())
    }

    /// I8: the first value of a record that somebody typed and that is nowhere: on neither side, not kept, and typed over by nobody.
    pub fn lost(&self, layout: &str, key: &str, is_there: impl Fn(&str, &str) -> bool) -> Option<String> {
        let here = self.edits.iter().filter(|((of, name, _), _)| of == layout && name == key);
        for ((_, _, field), edits) in here {
            for edit in edits.iter().filter(|edit| edit.sure && !edit.value.is_empty()) {
                let value = fold(&edit.value);
                let typed_over = edits.iter().any(|other| other.replaced == value);
                if !typed_over && !is_there(field, &value) {
                    return Some(format!("{layout}/{key} {field}: {value}, typed in {}, is lost", edit.side.as_str()));
                }
            }
        }
        None
    }
}
