//! Which part of which FHIR resource goes into which FileMaker field, declared and not programmed.
//!
//! A mapping is read from the configuration; [`ResourceMapping::extract`] turns one resource into the values that its row
//! should have, in canonical form. What the clinic's row holds passes through [`ResourceMapping::canonical`], so that equal
//! meanings compare equal. Everything here is pure and total: a resource may be anything, and one field that cannot be carried
//! over never stops the others.

use std::{collections::BTreeMap, fmt};

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::{
    error::Code,
    key::{ResourceId, ResourceType},
    row::{FieldType, Row, Table, Value},
};

mod canonical;
mod element;
mod inverse;
mod matching;
mod path;
mod place;
mod shape;
mod writing;

pub use canonical::{Form, canonical};
pub use element::is_of_type;
pub use matching::{ROW_SYSTEM, row_identifier};
pub use path::{Path, PathError, Selector, Step};
pub use writing::{Applied, Direction, OneWay, TAG_SYSTEM, sign};

/// What an absent element means. An element that is there and says nothing (an item without an answer, white space) is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// Says nothing: the field is left as it is.
    #[default]
    Leave,
    /// The field is to be empty.
    Blank,
}

/// Which side's value wins where both have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    #[default]
    Fhir,
    FileMaker,
    /// The later change, by the clocks of the two sides.
    Newest,
    Person,
}

/// How a record is flagged whose counterpart was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inactive {
    pub field: String,
    pub value: Value,
}

/// How an element is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text as a person reads it.
    Text,
    Number(Unit),
    /// A calendar day. A year or a month alone is refused: nobody invents the day.
    Date,
    /// An instant, as the clinic's wall clock shows it, cut to the second. In the hour that is repeated when summer time ends,
    /// two instants one hour apart look the same; a change from one to the other is not seen.
    DateTime(DayOnly),
    Flag,
    /// The id of the resource referred to.
    Reference,
    /// The text in an attachment.
    Attachment,
}

impl Kind {
    pub fn field_type(&self) -> FieldType {
        match self {
            Kind::Text | Kind::Reference | Kind::Attachment => FieldType::Text,
            Kind::Number(_) => FieldType::Number,
            Kind::Date => FieldType::Date,
            Kind::DateTime(_) => FieldType::DateTime,
            Kind::Flag => FieldType::Flag,
        }
    }
}

/// The unit of a number. A number never loses its unit and is never converted: a value in another unit goes to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// One unit, in every spelling that is accepted for it, the UCUM code first. [`Unit::NONE`] stands for a number without one.
    OneOf(Vec<String>),
    /// Any unit, provided that this field of the same row says which. The two belong together, see [`ResourceMapping::together`].
    Beside(String),
}

impl Unit {
    /// UCUM's code for a number without a unit.
    pub const NONE: &str = "1";

    pub fn none() -> Self {
        Unit::OneOf(vec![Self::NONE.into()])
    }
}

/// What a day without a time of day means for a date-time field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DayOnly {
    #[default]
    Refuse,
    /// 00:00:00 on the clinic's wall clock.
    Midnight,
}

/// Codes and what the field has for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Codes {
    /// From a code, or `system|code`, to the field's text (`1` and `0` for a flag).
    pub map: BTreeMap<String, String>,
    /// A code that is not in the list: kept as it is, or (the default) refused.
    pub keep_others: bool,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub field: String,
    /// The first that leads to something counts.
    pub paths: Vec<Path>,
    pub kind: Kind,
    pub codes: Option<Codes>,
    /// What to put between several texts; without it, several different values are refused.
    pub join: Option<String>,
    pub form: Form,
    pub absent: Absent,
    pub owner: Owner,
    pub direction: Direction,
    /// Written to the chart only while its status is one of these; none: whatever it is.
    pub only_in: Vec<String>,
}

impl Rule {
    /// A rule with every option at its default.
    pub fn new(field: impl Into<String>, paths: Vec<Path>, kind: Kind) -> Self {
        Self {
            field: field.into(),
            paths,
            kind,
            codes: None,
            join: None,
            form: Form::Plain,
            absent: Absent::Leave,
            owner: Owner::Fhir,
            direction: Direction::Both,
            only_in: Vec::new(),
        }
    }

    pub fn r#type(&self) -> FieldType {
        self.kind.field_type()
    }
}

/// The resource whose row must be there first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub path: Path,
    pub resource: ResourceType,
    /// The child's field that holds the parent's FHIR id.
    pub field: String,
}

/// Which resources a mapping is for: those where something at the path is one of the codes (`code` or `system|code`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub path: Path,
    pub codes: Vec<String>,
}

/// What a resource's status means for its row. A status that is in neither list is carried over as usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct States {
    /// Where the status stands; a document has two. The one with the strictest rule counts, of equals the last.
    pub paths: Vec<Path>,
    /// The field that shows it.
    pub field: String,
    /// Nothing is done until the status changes: a form that is still being filled in.
    pub wait: Vec<String>,
    /// A row that is there shows the status and keeps everything else; none is created: entered in error.
    pub mark: Vec<String>,
    /// What a status becomes when the clinic has changed a field: a `final` one is `amended`.
    pub amended: BTreeMap<String, String>,
    /// Where which status stands in a resource that is made for a row.
    pub new: Vec<(Path, String)>,
}

/// A resource type and its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceMapping {
    pub resource: ResourceType,
    /// Its fields are those of the rules, the parent and the states, see [`ResourceMapping::new`].
    pub table: Table,
    pub rules: Vec<Rule>,
    pub parent: Option<Parent>,
    pub states: Option<States>,
    /// How a record is flagged whose counterpart was deleted; `None`: it is left as it is.
    pub inactive: Option<Inactive>,
    /// All must hold.
    pub only: Vec<Filter>,
    /// The server's own addresses, for absolute references; if there are none, any address is taken for ours.
    pub bases: Vec<String>,
}

/// All mappings of a firm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    pub resources: BTreeMap<ResourceType, ResourceMapping>,
}

/// What is to be done with the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is to have the values, and is created if it is not there.
    Carry,
    /// It shows the status if it is there; none is created. Only the status has a value.
    MarkOnly,
    /// Nothing.
    Skip(Skip),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Not a resource of the mapping's type.
    OtherType,
    /// The mapping is for others of this type.
    Filtered,
    /// Its status says that it is not ready.
    Waiting,
}

/// Why a value was not carried over. A person has to look; the field keeps what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    WrongType,
    NotANumber,
    /// "Less than" and its kin are not a number.
    Comparator,
    UnitDiffers,
    /// The field that should say the unit says something else, or nothing.
    UnitLost,
    NotADate,
    PartialDate,
    NoZone,
    CodeUnknown,
    Several,
    /// A reference that names no resource of its own on the server (contained, by identifier only, conditional).
    NoResource,
    /// On another server, or not in the resource itself.
    Elsewhere,
    /// A reference to a resource of another type than the mapping says.
    OtherResource,
    NotText,

    // On the way to the chart
    /// The mapping does not write this field to the chart.
    OneWay,
    /// The record's status does not allow it.
    Closed,
    /// A code says it, and no other code is known for the new text.
    Coded,
    /// The field's value is not of the field's type.
    NotThatType,
    NoPlace,
    /// Another value would show instead of the one that is taken away.
    AnotherShows,
    /// The hour that summer time repeats or leaves out.
    NoSuchTime,
    /// A day for what the chart knows to the second.
    MorePrecise,
    /// It cannot be told how a text divides into several values.
    NotSplit,
    /// Something else would change with it.
    Entangled,
}

impl Refusal {
    /// How the outcome is recorded.
    pub fn code(self) -> Code {
        Code::ValueUnmappable
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::WrongType => "the chart holds another kind of value than the field takes",
            Refusal::NotANumber => "the chart's value is not a number of at most 400 digits",
            Refusal::Comparator => "the chart says \"less than\" or \"more than\", which a number cannot say",
            Refusal::UnitDiffers => "the chart's value has another unit than the field",
            Refusal::UnitLost => "the field beside it does not say the value's unit",
            Refusal::NotADate => "the chart's value is not a date",
            Refusal::PartialDate => "the chart knows only a part of the date",
            Refusal::NoZone => "the chart gives a time without its time zone",
            Refusal::CodeUnknown => "the mapping has nothing for the chart's code",
            Refusal::Several => "the chart holds several different values for one field",
            Refusal::NoResource => "the chart's reference names no record of its own",
            Refusal::Elsewhere => "the chart keeps it in another place",
            Refusal::OtherResource => "the chart refers to another kind of record than the mapping expects",
            Refusal::NotText => "the attachment is not a text that can be read",
            Refusal::OneWay => "the mapping does not write this field to the chart",
            Refusal::Closed => "the chart's record has a status in which this is not changed",
            Refusal::Coded => "the chart says it with a code, and none is known for the new text",
            Refusal::NotThatType => "FileMaker's value is not of the field's type",
            Refusal::NoPlace => "the mapping does not say where in the chart it would go",
            Refusal::AnotherShows => "another value of the chart would show in its place",
            Refusal::NoSuchTime => "the clocks were changed then, so that the time is there twice or not at all",
            Refusal::MorePrecise => "the chart knows the time of day too",
            Refusal::NotSplit => "it cannot be told how the text divides into the chart's values",
            Refusal::Entangled => "something else in the chart would change with it",
        })
    }
}

/// What a resource says about its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    pub standing: Standing,
    /// Every mapped field; `None` where the resource says nothing, or its value is refused, and the field is to be left.
    pub fields: BTreeMap<String, Option<Value>>,
    /// Why fields were refused, by name.
    pub refused: BTreeMap<String, Refusal>,
    /// The resource that must be linked first. `None` under [`Standing::Carry`] of a mapping with a parent means that the
    /// resource names none that can be used: no row can be made of it.
    pub parent: Option<(ResourceType, ResourceId)>,
    /// Something that a person should know.
    pub notice: Option<Code>,
}

impl ResourceMapping {
    /// A mapping whose table is made of its rules.
    pub fn new(
        resource: ResourceType,
        layout: impl Into<String>,
        key_field: impl Into<String>,
        rules: Vec<Rule>,
        parent: Option<Parent>,
        states: Option<States>,
    ) -> Self {
        let extra = parent.iter().map(|parent| &parent.field).chain(states.iter().map(|states| &states.field));
        let fields = extra
            .map(|field| (field.clone(), FieldType::Text))
            .chain(rules.iter().map(|rule| (rule.field.clone(), rule.r#type())))
            .collect();
        let table = Table { layout: layout.into(), key_field: key_field.into(), changes: None, number: None, fields };
        Self { resource, table, rules, parent, states, inactive: None, only: Vec::new(), bases: Vec::new() }
    }

    /// Whether the mapping is for this resource, whatever its status.
    pub fn applies(&self, resource: &Json) -> bool {
        self.is_of_type(resource) && self.only.iter().all(|filter| filter.passes(resource))
    }

    fn is_of_type(&self, resource: &Json) -> bool {
        resource.get("resourceType").and_then(Json::as_str) == Some(self.resource.as_str())
    }

    /// The owner of a field: the rule's; keys of parents and states are the chart's.
    pub fn owner(&self, field: &str) -> Owner {
        self.rules.iter().find(|rule| rule.field == field).map_or(Owner::Fhir, |rule| rule.owner)
    }

    /// Whether the clinic's own changes of this table are found.
    pub fn is_watched(&self) -> bool {
        self.table.changes.is_some()
    }

    /// Fields that must be written, or kept, as one: a number and the field that says its unit.
    pub fn together(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().filter_map(|rule| match &rule.kind {
            Kind::Number(Unit::Beside(unit)) => Some((rule.field.as_str(), unit.as_str())),
            _ => None,
        })
    }

    /// The clinic's row in the form in which it is compared.
    pub fn canonical_row(&self, row: Row) -> Row {
        let fields = row.fields.into_iter().map(|(field, value)| {
            let value = self.canonical(&field, value);
            (field, value)
        });
        Row { fields: fields.collect(), ..row }
    }

    /// A value of the clinic's row in the form in which it is compared.
    pub fn canonical(&self, field: &str, value: Value) -> Value {
        let rule = self.rules.iter().find(|rule| rule.field == field);
        let r#type = rule.map_or(FieldType::Text, Rule::r#type);
        canonical(r#type, rule.map_or(Form::Plain, |rule| rule.form), value)
    }

    /// What the row of this resource should hold. `zone` is the clinic's.
    pub fn extract(&self, resource: &Json, zone: &TimeZone) -> Extracted {
        let mut extracted = Extracted {
            standing: Standing::Carry,
            fields: self.table.fields.keys().map(|field| (field.clone(), None)).collect(),
            refused: BTreeMap::new(),
            parent: None,
            notice: None,
        };
        if !self.is_of_type(resource) {
            extracted.standing = Standing::Skip(Skip::OtherType);
            return extracted;
        }
        if !self.applies(resource) {
            extracted.standing = Standing::Skip(Skip::Filtered);
            return extracted;
        }
        if let Some(parent) = &self.parent {
            match parent.of(resource, &self.bases) {
                Ok(None) => {}
                Ok(Some(id)) => {
                    extracted.fields.insert(parent.field.clone(), Some(Value::Text(id.to_string())));
                    extracted.parent = Some((parent.resource.clone(), id));
                }
                Err(refusal) => {
                    extracted.refused.insert(parent.field.clone(), refusal);
                }
            }
        }
        if let Some(states) = &self.states {
            let (standing, status) = states.of(resource);
            extracted.standing = standing;
            if matches!(standing, Standing::Skip(_)) {
                extracted.fields.values_mut().for_each(|value| *value = None);
                extracted.refused.clear();
                extracted.parent = None;
                return extracted;
            }
            if let Some(status) = status {
                extracted.fields.insert(states.field.clone(), Some(self.canonical(&states.field, Value::Text(status))));
            }
            if standing == Standing::MarkOnly {
                // A row that is there has had its parent; none is waited for.
                if let Some(parent) = &self.parent {
                    extracted.fields.insert(parent.field.clone(), None);
                    extracted.refused.clear();
                    extracted.parent = None;
                }
                return extracted;
            }
        }
        if is_merged_away(resource) {
            extracted.notice = Some(Code::PatientMerged);
        }
        self.extract_fields(resource, zone, &mut extracted);
        extracted
    }

    fn extract_fields(&self, resource: &Json, zone: &TimeZone, extracted: &mut Extracted) {
        let mut units = BTreeMap::new();
        for rule in &self.rules {
            match rule.value(resource, zone, &self.bases) {
                Ok(said) => {
                    let absent = match rule.absent {
                        Absent::Leave => None,
                        Absent::Blank => Some(Value::Blank),
                    };
                    units.insert(&rule.field, said.units);
                    extracted.fields.insert(rule.field.clone(), said.value.or(absent));
                }
                Err(refusal) => {
                    extracted.refused.insert(rule.field.clone(), refusal);
                }
            }
        }
        for (number, beside) in self.together() {
            let Some(units) = units.get(&number.to_owned()).filter(|units| !units.is_empty()) else { continue };
            let said = extracted.fields.get(beside).and_then(Option::as_ref);
            let mut same = units.iter().map(|unit| self.canonical(beside, Value::Text(unit.clone())));
            if !same.any(|unit| said == Some(&unit)) {
                extracted.fields.insert(number.to_owned(), None);
                extracted.refused.insert(number.to_owned(), Refusal::UnitLost);
            }
        }
    }
}

impl Rule {
    fn reader<'a>(&'a self, zone: &'a TimeZone, bases: &'a [String]) -> element::Reader<'a> {
        element::Reader { kind: &self.kind, codes: self.codes.as_ref(), form: self.form, zone, bases }
    }

    /// What one of the elements says that the rule leads to.
    fn value_of(&self, element: &Json, zone: &TimeZone) -> Result<Value, Refusal> {
        Ok(self.reader(zone, &[]).read(element)?.value.unwrap_or(Value::Blank))
    }

    fn value(&self, resource: &Json, zone: &TimeZone, bases: &[String]) -> Result<element::Said, Refusal> {
        let mut elements =
            self.paths.iter().map(|path| path.read(resource)).find(|found| !found.is_empty()).unwrap_or_default();
        // A document may come in several formats; one of them is enough.
        if self.kind == Kind::Attachment && elements.iter().any(|element| element::is_text(element)) {
            elements.retain(|element| element::is_text(element));
        }
        let reader = self.reader(zone, bases);
        let said: Vec<element::Said> =
            elements.into_iter().map(|element| reader.read(element)).collect::<Result<_, _>>()?;
        let mut said = said.into_iter().filter(|said| said.value.is_some());
        let Some(first) = said.next() else { return Ok(element::Said::default()) };
        if let Some(join) = &self.join {
            let texts: Vec<String> = std::iter::once(first)
                .chain(said)
                .filter_map(|said| said.value)
                .map(|value| value.canonical())
                .collect();
            let value = canonical(self.r#type(), self.form, Value::Text(texts.join(join)));
            return Ok(element::Said { value: Some(value), units: Vec::new() });
        }
        if said.all(|other| other.value == first.value && other.units == first.units) {
            Ok(first)
        } else {
            Err(Refusal::Several)
        }
    }
}

impl Parent {
    /// The parent that a resource names; `bases` as in [`ResourceMapping`].
    pub(crate) fn of(&self, resource: &Json, bases: &[String]) -> Result<Option<ResourceId>, Refusal> {
        let mut ids = Vec::new();
        for element in self.path.read(resource) {
            match element::reference(element, bases)? {
                Some((Some(r#type), _)) if r#type != self.resource => return Err(Refusal::OtherResource),
                Some((_, id)) => ids.push(id),
                None => {}
            }
        }
        ids.dedup();
        match ids.len() {
            0 | 1 => Ok(ids.pop()),
            _ => Err(Refusal::Several),
        }
    }
}

impl Filter {
    fn passes(&self, resource: &Json) -> bool {
        let found = self.path.read(resource);
        self.codes.iter().any(|code| found.iter().any(|element| path::says(element, code)))
    }
}

impl States {
    fn of(&self, resource: &Json) -> (Standing, Option<String>) {
        let mut strictest = (0, Standing::Carry, None);
        for status in self.paths.iter().flat_map(|path| path.read(resource)).filter_map(Json::as_str) {
            let is_in = |list: &[String]| list.iter().any(|item| item == status);
            let (strictness, standing) = if is_in(&self.mark) {
                (2, Standing::MarkOnly)
            } else if is_in(&self.wait) {
                (1, Standing::Skip(Skip::Waiting))
            } else {
                (0, Standing::Carry)
            };
            if strictness >= strictest.0 {
                strictest = (strictness, standing, Some(status.to_owned()));
            }
        }
        (strictest.1, strictest.2)
    }
}

/// R4 Patient, `link.type` `replaced-by`: the chart goes on under another patient.
fn is_merged_away(resource: &Json) -> bool {
    let is_patient = resource.get("resourceType").and_then(Json::as_str) == Some("Patient");
    let links = resource.get("link").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    is_patient && links.iter().any(|link| link.get("type").and_then(Json::as_str) == Some("replaced-by"))
}
