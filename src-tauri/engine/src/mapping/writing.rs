//! The mapping backwards: values of the clinic's row into the resource, and nothing else changed.
//!
//! * A value goes to the place that it is read from; where the resource says nothing, to the first of the rule's paths, made as
//!   its selectors say. (Also where only a code says it, and words are looked for first.) What is equal in canonical form is left in its own spelling.
//! * Blank takes the element away, and what held nothing but it. If another of the rule's paths then showed its value, nothing is
//!   taken away: that other value is somebody's too.
//! * After each field the resource is read again. If the field does not read as written, or any other field reads differently,
//!   the field is refused and the resource stays as it was.

use std::{collections::BTreeMap, fmt};

use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::{
    Kind, Parent, Path, Refusal, ResourceMapping, Rule, Skip, Standing, States, Unit, element,
    inverse::{self, Target},
    place::put_in,
    shape,
};
use crate::{
    key::ResourceId,
    ports::Identifier,
    row::{Fields, Value},
};

/// Which way a field's changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    #[default]
    Both,
    ToFileMaker,
    ToFhir,
}

/// Why a field cannot be written to the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneWay {
    /// The mapping says so.
    Declared,
    /// Two codes of one kind stand for the same text.
    Codes,
    /// Several values are put together with nothing between them, or are attachments.
    Join,
    /// The path chooses by the element that it leads to.
    Selector,
    /// The key, the parent's id and the status are the chart's.
    Chart,
    /// The table has no fields by which the clinic's changes are found.
    Unwatched,
}

impl fmt::Display for OneWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OneWay::Declared => "the mapping sends it to FileMaker only",
            OneWay::Codes => "two codes of one kind become the same text, so the text does not lead back to one",
            OneWay::Join => "several values are put together in a way that cannot be taken apart again",
            OneWay::Selector => "its path chooses by the very element that it leads to",
            OneWay::Chart => "the chart alone sets it",
            OneWay::Unwatched => "the mapping names no fields by which the clinic's changes are found (`changes`)",
        })
    }
}

/// A resource with a row's values in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    pub json: Json,
    /// Whether anything differs from what it was made of.
    pub changed: bool,
    /// Fields that keep what the chart has, and why; none of them is half written.
    pub refused: BTreeMap<String, Refusal>,
}

/// What marks a version as ours. A hint only: on many servers a tag stays through the edits of others.
pub const TAG_SYSTEM: &str = "urn:chart-relay";

/// Marks a resource as written by this station, in place of the mark of any other.
pub fn sign(resource: &mut Json, station: &str) {
    let tag = json!({"system": TAG_SYSTEM, "code": station});
    let Some(resource) = resource.as_object_mut() else { return };
    let Some(meta) = resource.entry("meta").or_insert_with(|| json!({})).as_object_mut() else { return };
    let Some(tags) = meta.entry("tag").or_insert_with(|| json!([])).as_array_mut() else { return };
    match tags.iter_mut().find(|tag| tag["system"] == TAG_SYSTEM) {
        Some(ours) => *ours = tag,
        None => tags.push(tag),
    }
}

impl ResourceMapping {
    /// Whether a change of this field in the clinic's database can go to the chart.
    pub fn writable(&self, field: &str) -> bool {
        self.one_way(field).is_none()
    }

    /// Which way a field's changes go.
    pub fn direction(&self, field: &str) -> Direction {
        match self.rule(field).map(|rule| rule.direction) {
            Some(Direction::ToFhir) if self.writable(field) => Direction::ToFhir,
            _ if self.writable(field) => Direction::Both,
            _ => Direction::ToFileMaker,
        }
    }

    /// Why a field is not written to the chart; `None` if it is.
    pub fn one_way(&self, field: &str) -> Option<OneWay> {
        let Some(rule) = self.rule(field) else { return Some(OneWay::Chart) };
        if rule.direction == Direction::ToFileMaker {
            return Some(OneWay::Declared);
        }
        rule.one_way().or_else(|| self.table.changes.is_none().then_some(OneWay::Unwatched))
    }

    fn rule(&self, field: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.field == field)
    }

    /// The resource with these values of its row. `zone` is the clinic's.
    pub fn apply(&self, resource: &Json, fields: &Fields, zone: &TimeZone) -> Applied {
        let mut applied = Applied { json: resource.clone(), changed: false, refused: BTreeMap::new() };
        let status = match &self.states {
            Some(states) => match states.of(resource) {
                (Standing::Carry, status) => status,
                (Standing::MarkOnly | Standing::Skip(Skip::Waiting | Skip::Filtered | Skip::OtherType), _) => {
                    applied.refused = fields.keys().map(|field| (field.clone(), Refusal::Closed)).collect();
                    return applied;
                }
            },
            None => None,
        };
        self.write(&mut applied, fields, status.as_deref(), zone);
        if applied.changed
            && let Some(states) = &self.states
            && let Some(after) = status.and_then(|status| states.amended.get(&status))
        {
            states.set(&mut applied.json, after);
        }
        applied
    }

    /// A resource of its own for a row that has none. It carries `identifier`, by which it is found should it be there already.
    pub fn new_resource(
        &self,
        fields: &Fields,
        parent: Option<&ResourceId>,
        identifier: &Identifier,
        zone: &TimeZone,
    ) -> Applied {
        let r#type = self.resource.as_str();
        let identifier = json!({"system": identifier.system, "value": identifier.value});
        let identifier = if shape::has_many_identifiers(r#type) { json!([identifier]) } else { identifier };
        let mut json = json!({"resourceType": r#type, "identifier": identifier});
        let mut put = |path: &Path, value: Json| {
            if let Some(made) = path.make(&mut json, r#type, "").and_then(|place| json.pointer_mut(&place)) {
                *made = value;
            }
        };
        for (path, status) in self.states.iter().flat_map(|states| &states.new) {
            put(path, json!(status));
        }
        for filter in &self.only {
            let Some(code) = filter.codes.first() else { continue };
            let code = match code.rsplit_once('|') {
                Some((system, code)) => json!({"coding": [{"system": system, "code": code}]}),
                None => json!(code),
            };
            put(&filter.path, code);
        }
        if let (Some(Parent { path, resource, .. }), Some(id)) = (&self.parent, parent) {
            put(path, json!({"reference": format!("{resource}/{id}")}));
        }
        let mut applied = Applied { json, changed: true, refused: BTreeMap::new() };
        let fields: Fields =
            fields.iter().filter(|(_, value)| **value != Value::Blank).map(|(f, v)| (f.clone(), v.clone())).collect();
        self.write(&mut applied, &fields, None, zone);
        applied.refused.retain(|_, refusal| *refusal != Refusal::OneWay);
        applied
    }

    fn write(&self, applied: &mut Applied, fields: &Fields, status: Option<&str>, zone: &TimeZone) {
        let units: Vec<(&str, &str)> = self.together().collect();
        for (field, value) in fields {
            if units.iter().any(|(number, unit)| unit == field && fields.contains_key(*number)) {
                continue;
            }
            let Some(rule) = self.rule(field) else {
                applied.refused.insert(field.clone(), Refusal::OneWay);
                continue;
            };
            let beside = units.iter().find(|(number, _)| number == field).map(|(_, unit)| *unit);
            let value = self.canonical(field, value.clone());
            let unit = beside.and_then(|unit| Some((unit, self.canonical(unit, fields.get(unit)?.clone()))));
            let is_unit = units.iter().any(|(_, unit)| unit == field);
            match self.written(&applied.json, rule, &value, unit.as_ref(), is_unit, status, zone) {
                Ok(None) => {}
                Ok(Some(json)) => {
                    applied.json = json;
                    applied.changed = true;
                }
                Err(refusal) => {
                    applied.refused.insert(field.clone(), refusal);
                    if let Some((unit, _)) = unit {
                        applied.refused.insert(unit.to_owned(), refusal);
                    }
                }
            }
        }
    }

    /// The resource with one value in it; `None` where it says so already.
    #[allow(clippy::too_many_arguments, reason = "what one field needs to be written")]
    fn written(
        &self,
        resource: &Json,
        rule: &Rule,
        value: &Value,
        unit: Option<&(&str, Value)>,
        is_unit: bool,
        status: Option<&str>,
        zone: &TimeZone,
    ) -> Result<Option<Json>, Refusal> {
        let said = |rule: &Rule, resource: &Json| {
            rule.value(resource, zone, &self.bases).map(|said| said.value.unwrap_or(Value::Blank))
        };
        let was = said(rule, resource)?;
        if let Some((field, unit)) = unit
            && was != Value::Blank
            && *value != Value::Blank
            && self.rule(field).map(|rule| said(rule, resource)).is_some_and(|was| was.as_ref() != Ok(unit))
        {
            // A number in another unit is another measurement.
            return Err(Refusal::UnitDiffers);
        }
        if was == *value {
            return Ok(None);
        }
        if !self.writable(&rule.field) {
            return Err(Refusal::OneWay);
        }
        if is_unit {
            return Err(Refusal::UnitDiffers);
        }
        if !rule.only_in.is_empty() && status.is_some_and(|status| !rule.only_in.iter().any(|only| only == status)) {
            return Err(Refusal::Closed);
        }
        let unit = unit.map(|(_, unit)| unit.canonical()).filter(|unit| !unit.is_empty());
        let mut refusal = Refusal::Entangled;
        // Without pruning, an entry keeps its number among its like.
        for prune in [true, false] {
            let mut draft = resource.clone();
            let write = Write { rule, r#type: self.resource.as_str(), unit: unit.as_deref(), zone, prune };
            write.put(&mut draft, value)?;
            let reads = said(rule, &draft);
            let beside = unit.is_some();
            let others_read_the_same = || {
                self.rules.iter().filter(|other| other.field != rule.field).all(|other| {
                    let is_beside = matches!(&rule.kind, Kind::Number(Unit::Beside(unit)) if *unit == other.field);
                    if is_beside && (beside || *value == Value::Blank) {
                        return true;
                    }
                    let was = said(other, resource);
                    // What the chart alone says may be another view of the same element, which had nothing to show.
                    let shows_it_too = was == Ok(Value::Blank) && !self.writable(&other.field);
                    shows_it_too || said(other, &draft) == was
                })
            };
            if reads.as_ref() == Ok(value) && others_read_the_same() {
                return Ok(Some(draft));
            }
            if *value == Value::Blank && reads != Ok(Value::Blank) {
                refusal = Refusal::AnotherShows;
            }
        }
        Err(refusal)
    }
}

impl Rule {
    /// What stands in the way of the inverse, whatever the resource.
    pub fn one_way(&self) -> Option<OneWay> {
        let chooses_by_itself = |path: &Path| {
            path.steps().windows(2).any(|pair| {
                pair[0].selectors.iter().any(|selector| selector.element == pair[1].element && selector.is.is_some())
            })
        };
        if self.codes.as_ref().is_some_and(|codes| !codes.lead_back()) {
            Some(OneWay::Codes)
        } else if self.join.as_ref().is_some_and(|join| join.is_empty() || self.kind == Kind::Attachment) {
            Some(OneWay::Join)
        } else if self.paths.iter().any(chooses_by_itself) {
            Some(OneWay::Selector)
        } else {
            None
        }
    }
}

impl States {
    /// Sets the status where it is read from.
    fn set(&self, resource: &mut Json, status: &str) {
        let (_, Some(was)) = self.of(resource) else { return };
        let places = self.paths.iter().rev().flat_map(|path| path.places(resource));
        let place = places.into_iter().find(|(_, element)| element.as_str() == Some(&was)).map(|(place, _)| place);
        if let Some(element) = place.and_then(|place| resource.pointer_mut(&place)) {
            *element = json!(status);
        }
    }
}

/// One value on its way into a resource.
struct Write<'a> {
    rule: &'a Rule,
    r#type: &'a str,
    unit: Option<&'a str>,
    zone: &'a TimeZone,
    prune: bool,
}

impl Write<'_> {
    fn put(&self, resource: &mut Json, value: &Value) -> Result<(), Refusal> {
        let found =
            self.rule.paths.iter().map(|path| (path, path.places(resource))).find(|(_, found)| !found.is_empty());
        let Some((path, mut found)) = found else {
            return match (self.rule.paths.first(), value) {
                (_, Value::Blank) => Ok(()),
                (Some(path), _) => self.make(resource, path, value),
                (None, _) => Err(Refusal::NoPlace),
            };
        };
        if self.rule.kind == Kind::Attachment && found.iter().any(|(_, element)| element::is_text(element)) {
            found.retain(|(_, element)| element::is_text(element));
        }
        let places: Vec<String> = found.into_iter().map(|(place, _)| place).collect();
        match (&self.rule.join, places.as_slice()) {
            (Some(join), _) => self.divide(resource, path, &places, join, value),
            (None, [place]) => match (self.set(resource, path, place, value), self.rule.paths.first()) {
                // A code says it for want of words: the words go where they are looked for first.
                (Err(Refusal::Coded), Some(first)) if first != path && *value != Value::Blank => {
                    self.make(resource, first, value)
                }
                (done, _) => done,
            },
            (None, _) => Err(Refusal::Several),
        }
    }

    fn set(&self, resource: &mut Json, path: &Path, place: &str, value: &Value) -> Result<(), Refusal> {
        let Some(element) = resource.pointer(place) else { return Err(Refusal::NoPlace) };
        if *value == Value::Blank {
            let is_answer = shape::is_choice(path.steps());
            match inverse::without_value(self.rule, element, is_answer)? {
                None => path.remove(resource, place, self.prune),
                Some(rest) => *resource.pointer_mut(place).ok_or(Refusal::NoPlace)? = rest,
            }
            return Ok(());
        }
        let is_coding =
            matches!(path.steps(), [.., coding, code] if coding.element == "coding" && code.element == "code");
        if is_coding && !element.is_null() {
            // What is called so beside it would be left saying the old.
            return Err(Refusal::Coded);
        }
        let new = self.element(Some(element), place, value)?;
        *resource.pointer_mut(place).ok_or(Refusal::NoPlace)? = new;
        Ok(())
    }

    fn element(&self, was: Option<&Json>, place: &str, value: &Value) -> Result<Json, Refusal> {
        let name = place.rsplit('/').find(|name| !name.bytes().all(|b| b.is_ascii_digit())).unwrap_or_default();
        inverse::element(self.rule, value, &Target { element: was, name, unit: self.unit, zone: self.zone })
    }

    fn make(&self, resource: &mut Json, path: &Path, value: &Value) -> Result<(), Refusal> {
        let pieces = match (&self.rule.join, value) {
            (Some(join), Value::Text(text)) => {
                text.split(join.as_str()).map(|piece| Value::Text(piece.into())).collect()
            }
            _ => vec![value.clone()],
        };
        let first = pieces.first().ok_or(Refusal::NotSplit)?;
        let choice = inverse::choice(self.rule, first);
        let place = path.make(resource, self.r#type, choice).ok_or(Refusal::NoPlace)?;
        let was = resource.pointer(&place).filter(|was| !was.is_null()).cloned();
        let new = self.element(was.as_ref(), &place, first)?;
        *resource.pointer_mut(&place).ok_or(Refusal::NoPlace)? = new;
        match (&self.rule.join, pieces.len()) {
            (Some(join), 2..) => self.divide(resource, path, &[place], join, value),
            _ => Ok(()),
        }
    }

    /// Takes a joined text apart into the several elements that it is read from. Items that the text still has stay where and as
    /// they are; those between are replaced.
    fn divide(
        &self,
        resource: &mut Json,
        path: &Path,
        places: &[String],
        join: &str,
        value: &Value,
    ) -> Result<(), Refusal> {
        if *value == Value::Blank {
            places.iter().rev().for_each(|place| path.remove(resource, place, self.prune));
            return Ok(());
        }
        let Value::Text(text) = value else { return Err(Refusal::WrongType) };
        let items: Vec<String> = places
            .iter()
            .map(|place| match self.rule.value_of(resource.pointer(place)?, self.zone).ok()? {
                Value::Text(item) => Some(item),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or(Refusal::NotSplit)?;
        let (kept, pieces, last) = divided(&items, text, join).ok_or(Refusal::NotSplit)?;
        let replaced = &places[kept..last];
        for (place, piece) in replaced.iter().zip(&pieces) {
            if !resource.pointer(place).is_some_and(Json::is_string) {
                return Err(Refusal::Coded);
            }
            *resource.pointer_mut(place).ok_or(Refusal::NoPlace)? = json!(piece);
        }
        for place in replaced.iter().skip(pieces.len()).rev() {
            path.remove(resource, place, self.prune);
        }
        let more = &pieces[pieces.len().min(replaced.len())..];
        if more.is_empty() {
            return Ok(());
        }
        // Behind the last that was kept or replaced.
        let before = places[..kept + replaced.len()].last().or(places.first()).ok_or(Refusal::NotSplit)?;
        let Item { list, number, name } = item(before).ok_or(Refusal::NotSplit)?;
        let at = if kept + replaced.len() == 0 { number } else { number + 1 };
        for (place, piece) in more.iter().enumerate() {
            match name {
                None => put_in(resource, list, at + place, json!(piece)),
                Some(name) if name.ends_with("String") => {
                    let items = resource.pointer_mut(list).and_then(Json::as_array_mut).ok_or(Refusal::NotSplit)?;
                    items.insert((at + place).min(items.len()), json!({name: piece}));
                }
                Some(_) => return Err(Refusal::Coded),
            }
        }
        Ok(())
    }
}

/// A place that is an item of a list, or the one element inside such an item.
struct Item<'a> {
    list: &'a str,
    number: usize,
    name: Option<&'a str>,
}

fn item(place: &str) -> Option<Item<'_>> {
    let (above, last) = place.rsplit_once('/')?;
    if let Ok(number) = last.parse() {
        return Some(Item { list: above, number, name: None });
    }
    let (list, number) = above.rsplit_once('/')?;
    Some(Item { list, number: number.parse().ok()?, name: Some(last) })
}

/// How many items stay at the front, what comes after them, and where those begin that stay at the end. `None` where an item
/// that is to be replaced has the separator in itself, so that nobody can tell where it ends.
fn divided(items: &[String], text: &str, join: &str) -> Option<(usize, Vec<String>, usize)> {
    let (mut rest, mut kept) = (Some(text), 0);
    while let (Some(text), Some(item)) = (rest, items.get(kept)) {
        match text.strip_prefix(item.as_str()) {
            Some("") => rest = None,
            Some(after) => match after.strip_prefix(join) {
                Some(after) => rest = Some(after),
                None => break,
            },
            None => break,
        }
        kept += 1;
    }
    let mut last = items.len();
    while let Some(text) = rest.filter(|_| last > kept) {
        match text.strip_suffix(items[last - 1].as_str()) {
            Some("") => rest = None,
            Some(before) => match before.strip_suffix(join) {
                Some(before) => rest = Some(before),
                None => break,
            },
            None => break,
        }
        last -= 1;
    }
    let replaced = &items[kept..last];
    let Some(rest) = rest else { return Some((kept, Vec::new(), last)) };
    let pieces: Vec<String> = match replaced {
        [one] if one.contains(join) => vec![rest.to_owned()],
        _ if replaced.iter().any(|item| item.contains(join)) => return None,
        _ => rest.split(join).map(str::to_owned).collect(),
    };
    pieces.iter().all(|piece| !piece.trim().is_empty()).then_some((kept, pieces, last))
}
