//! Mappings: the shipped ones, what a file changes in them, and whether the parts fit together.

use std::collections::BTreeMap;

use engine::{
    key::ResourceType,
    mapping::{
        Absent, Codes, DayOnly, Direction, Filter, Form, Inactive, Kind, Mapping, Owner, Parent, Path, ResourceMapping,
        Rule, States, Unit, canonical, is_of_type,
    },
    row::{ChangeFields, FieldType, Numbered, Value},
};

use super::{
    file::{self, OneOrMore, Shipped},
    resolve::At,
    schema::nearest,
};

fn source(which: Shipped) -> &'static str {
    match which {
        Shipped::Patient => include_str!("mappings/patient.toml"),
        Shipped::IntakeForm => include_str!("mappings/intake-form.toml"),
        Shipped::Measurement => include_str!("mappings/measurement.toml"),
        Shipped::ProgressNote => include_str!("mappings/progress-note.toml"),
    }
}

fn shipped_file(which: Shipped) -> file::Mapping {
    toml::from_str(source(which)).expect("the shipped mappings are part of the program, and tests read each of them")
}

pub(super) fn shipped(which: Shipped) -> ResourceMapping {
    built(&shipped_file(which)).expect("the shipped mappings are part of the program, and tests build each of them")
}

/// The layout that a mapping writes to, its shipped part included.
pub(super) fn layout(mapping: &file::Mapping) -> Option<String> {
    mapping.layout.clone().or_else(|| shipped_file(mapping.shipped?).layout)
}

/// All mappings of a firm. What cannot be built is left out, with its mistakes noted.
pub(super) fn resolve(mappings: &[file::Mapping], bases: &[String], at: &mut At<'_, '_, '_>) -> Mapping {
    let mut resources: BTreeMap<ResourceType, (usize, ResourceMapping)> = BTreeMap::new();
    let mut layouts: BTreeMap<String, usize> = BTreeMap::new();
    let mut types: Vec<String> = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let mut at = at.inside(&["mapping", &index.to_string()]);
        let key = |given: bool, key: &'static str| if given { key } else { "use" };
        let whole = overlaid(mapping, &mut at);
        check(&whole, mapping, &mut at);
        if let Some(layout) = &whole.layout
            && let Some(other) = layouts.insert(layout.to_lowercase(), index)
        {
            at.key(
                key(mapping.layout.is_some(), "layout"),
                format!("a layout of its own; the mapping at place {} writes to it too", other + 1),
                "Two resource types on one table would overwrite each other's rows; give each its own layout",
            );
        }
        types.extend(whole.resource.clone());
        let Some(mut built) = built(&whole) else { continue };
        built.bases = bases.to_vec();
        if let Some((other, _)) = resources.insert(built.resource.clone(), (index, built)) {
            at.key(
                key(mapping.resource.is_some(), "resource"),
                format!("each resource type once; the mapping at place {} is for it too", other + 1),
                "Put both into one mapping, or take one out",
            );
        }
    }
    for (index, mapping) in &resources {
        let (index, mapping) = (mapping.0.to_string(), (index, &mapping.1));
        let Some(parent) = &mapping.1.parent else { continue };
        let own = mappings.iter().enumerate().find(|(place, _)| place.to_string() == index).map(|(_, own)| own);
        let is_own = own.is_some_and(|own| own.parent.is_some());
        let mut at = at.inside(&["mapping", &index]);
        if parent.resource == *mapping.0 {
            at.key(
                if is_own { "parent" } else { "use" },
                "a parent of another type",
                "A resource cannot wait for one of its own type; take the parent out",
            );
        } else if !types.iter().any(|name| name == parent.resource.as_str()) {
            at.key(
                if is_own { "parent" } else { "use" },
                format!("a mapping for {}, its parent", parent.resource),
                format!("Add one for {}, or its rows would wait for a parent that never comes", parent.resource),
            );
        } else if let Some((_, (_, grand))) = resources.iter().find(|(name, _)| **name == parent.resource)
            && grand.parent.as_ref().is_some_and(|grand| grand.resource == *mapping.0)
        {
            at.key(
                if is_own { "parent" } else { "use" },
                "parents in one direction",
                "These two wait for each other; take one of the parents out",
            );
        }
    }
    Mapping { resources: resources.into_iter().map(|(name, (_, mapping))| (name, mapping)).collect() }
}

/// The shipped mapping, if one is used, with this file's changes.
fn overlaid(mapping: &file::Mapping, at: &mut At<'_, '_, '_>) -> file::Mapping {
    let Some(which) = mapping.shipped else {
        if !mapping.drop.is_empty() {
            at.key("drop", "`drop` only beside `use`", "Leave the fields out instead of dropping them");
        }
        return mapping.clone();
    };
    let mut whole = shipped_file(which);
    for (place, field) in mapping.drop.iter().enumerate() {
        if whole.fields.remove(field).is_none() {
            let known: Vec<&str> = whole.fields.keys().map(String::as_str).collect();
            let mend = match nearest(field, &known) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("It has {}", known.join(", ")),
            };
            at.inside(&["drop"]).value(&place.to_string(), "a field of the shipped mapping", mend);
        } else if mapping.fields.contains_key(field) {
            at.inside(&["fields"]).key(
                field,
                "a field either dropped or changed",
                "Take it out of `drop`, or take this section out",
            );
        }
    }
    if let (Some(own), Some(shipped)) = (&mapping.resource, &whole.resource)
        && own != shipped
    {
        at.value(
            "resource",
            format!("{shipped}, which the shipped mapping is for"),
            "Leave the line out, or write a mapping of your own without `use`",
        );
    }
    whole.layout = mapping.layout.clone().or(whole.layout);
    whole.key = mapping.key.clone().or(whole.key);
    whole.changes = mapping.changes.clone().or(whole.changes);
    whole.inactive = mapping.inactive.clone().or(whole.inactive);
    whole.on_delete = mapping.on_delete.or(whole.on_delete);
    whole.number = mapping.number.clone().or(whole.number);
    whole.parent = mapping.parent.clone().or(whole.parent);
    whole.states = mapping.states.clone().or(whole.states);
    whole.only = mapping.only.clone().or(whole.only);
    for (name, own) in &mapping.fields {
        let field = whole.fields.entry(name.clone()).or_default();
        // A change of the unit's kind replaces the other kind.
        if own.unit.is_some() || own.unit_field.is_some() || own.kind.is_some() {
            field.unit = None;
            field.unit_field = None;
        }
        field.path = own.path.clone().or(field.path.take());
        field.kind = own.kind.or(field.kind);
        field.unit = own.unit.clone().or(field.unit.take());
        field.unit_field = own.unit_field.clone().or(field.unit_field.take());
        field.codes = own.codes.clone().or(field.codes.take());
        field.other_codes = own.other_codes.or(field.other_codes);
        field.join = own.join.clone().or(field.join.take());
        field.form = own.form.or(field.form);
        field.absent = own.absent.or(field.absent);
        field.owner = own.owner.or(field.owner);
        field.direction = own.direction.or(field.direction);
        field.only_in = own.only_in.clone().or(field.only_in.take());
        field.day_only = own.day_only.or(field.day_only);
    }
    whole
}

/// Checks a whole mapping; `own` is what stands in the file.
fn check(whole: &file::Mapping, own: &file::Mapping, at: &mut At<'_, '_, '_>) {
    for (key, is_given, example) in [
        ("resource", whole.resource.is_some(), "resource = \"Patient\""),
        ("layout", whole.layout.is_some(), "layout = \"API_Patient\""),
        ("key", whole.key.is_some(), "key = \"FhirId\""),
    ] {
        if !is_given && !at.is_known("use") {
            at.key(
                key,
                format!("`{key}`, which a mapping without `use` needs"),
                format!("Add a line such as {example}"),
            );
        }
    }
    if whole.fields.is_empty() && !at.is_known("fields") && !at.is_known("use") {
        at.key("fields", "at least one field", "Add a section [firm.mapping.fields.NAME] with path and type");
    }
    used_once(whole, own, at);
    if let Some(states) = &own.states {
        for path in states.new.keys() {
            if let Err(error) = path.parse::<Path>() {
                at.inside(&["states", "new"]).key(path, "a path", error.to_string());
            }
        }
        for (place, status) in states.mark.iter().enumerate().filter(|(_, status)| states.wait.contains(status)) {
            let _ = status;
            at.inside(&["states", "mark"]).value(
                &place.to_string(),
                "each status in one list",
                "Take it out of `wait` or out of `mark`",
            );
        }
    }
    if let Some(inactive) = &own.inactive {
        let kind = whole.fields.get(&inactive.field).and_then(|field| Some(rule_kind(field, field.kind?)));
        match kind {
            None => at.inside(&["inactive"]).value(
                "field",
                "the name of a field of this mapping",
                "Name the field that says whether a record is in use",
            ),
            Some(kind) if !is_of_type(&inactive.value, kind.field_type()) => at.inside(&["inactive"]).value(
                "value",
                "a value of the field's type",
                "Write what the field holds when a record is no longer in use",
            ),
            Some(_) => {}
        }
    }
    for name in own.fields.keys() {
        if let Some(field) = whole.fields.get(name) {
            check_field(field, whole, &mut at.inside(&["fields", name]));
        }
    }
}

/// No two parts of a mapping may write to one field.
fn used_once(whole: &file::Mapping, own: &file::Mapping, at: &mut At<'_, '_, '_>) {
    let mut used: Vec<(&str, &str)> = Vec::new();
    used.extend(whole.key.as_deref().map(|field| (field, "the key")));
    let changes = whole.changes.as_ref();
    for (field, what, part, key, is_own) in [
        (changes.map(|changes| &changes.uuid), "the UUID", "changes", "uuid", own.changes.is_some()),
        (changes.map(|changes| &changes.modified), "the time stamp", "changes", "modified", own.changes.is_some()),
        (whole.number.as_ref().map(|number| &number.field), "the number", "number", "field", own.number.is_some()),
        (whole.parent.as_ref().map(|parent| &parent.field), "the parent", "parent", "field", own.parent.is_some()),
        (whole.states.as_ref().map(|states| &states.field), "the status", "states", "field", own.states.is_some()),
    ] {
        let Some(field) = field.filter(|field| !field.is_empty()) else { continue };
        if let Some((_, other)) = used.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)) {
            let (part, key) = if is_own { (part, key) } else { ("key", "") };
            at.inside(&[part]).value(
                key,
                format!("a field of its own; {other} has this one"),
                "Name another field of the layout",
            );
        }
        used.push((field, what));
    }
    let mut names: Vec<&String> = Vec::new();
    for name in whole.fields.keys() {
        let other = used.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, what)| (*what).to_owned());
        // FileMaker does not tell names apart by their capitals.
        let twin =
            names.iter().find(|other| other.eq_ignore_ascii_case(name)).map(|other| format!("the section for {other}"));
        names.push(name);
        let Some(other) = other.or(twin) else { continue };
        let twin_is_own = own.fields.contains_key(name);
        let key = if twin_is_own { "fields" } else { "use" };
        let keys: Vec<&str> = if twin_is_own { vec![name.as_str()] } else { Vec::new() };
        match keys.first() {
            Some(name) => {
                at.inside(&[key]).key(name, format!("each field once; {other} uses it too"), "Take one of them out")
            }
            None => at.key(
                key,
                format!("each field once; {other} uses {name} too"),
                "Take one of them out, or add it to `drop`",
            ),
        }
    }
}

/// Options fit the field's type, and what it refers to is there.
fn check_field(field: &file::Field, whole: &file::Mapping, at: &mut At<'_, '_, '_>) {
    for (key, is_given, example) in
        [("path", field.path.is_some(), "path = \"birthDate\""), ("type", field.kind.is_some(), "type = \"text\"")]
    {
        if !is_given {
            at.key(key, format!("`{key}`, which every field needs"), format!("Add a line such as {example}"));
        }
    }
    let Some(kind) = field.kind else { return };
    let text = matches!(kind, file::Kind::Text | file::Kind::Attachment);
    let number = kind == file::Kind::Number;
    let coded = matches!(kind, file::Kind::Text | file::Kind::Number | file::Kind::Flag);
    for (key, is_given, fits, whose) in [
        ("unit", field.unit.is_some(), number, "numbers"),
        ("unit-field", field.unit_field.is_some(), number, "numbers"),
        ("join", field.join.is_some(), text, "texts and attachments"),
        ("form", field.form.is_some(), kind == file::Kind::Text, "texts"),
        ("codes", field.codes.is_some(), coded, "texts, numbers and flags"),
        ("other-codes", field.other_codes.is_some(), coded, "texts, numbers and flags"),
        ("day-only", field.day_only.is_some(), kind == file::Kind::DateTime, "date-times"),
    ] {
        if is_given && !fits {
            at.key(key, format!("`{key}` only for {whose}"), "Take the line out, or correct the type");
        }
    }
    if field.unit.is_some() && field.unit_field.is_some() {
        at.key(
            "unit-field",
            "either unit or unit-field",
            "Keep `unit` for one fixed unit, or `unit-field` where a field beside it says the unit",
        );
    }
    if field.other_codes.is_some() && field.codes.is_none() {
        at.key("other-codes", "`other-codes` only beside `codes`", "Add `codes`, or take the line out");
    }
    if let Some(beside) = &field.unit_field
        && whole.fields.get(beside).is_none_or(|beside| beside.kind != Some(file::Kind::Text))
    {
        let texts: Vec<&str> = whole
            .fields
            .iter()
            .filter(|(_, field)| field.kind == Some(file::Kind::Text))
            .map(|(name, _)| name.as_str())
            .collect();
        let mend = match nearest(beside, &texts) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => "Add that field with type = \"text\" and the unit's path".into(),
        };
        at.value("unit-field", "the name of a text field of this mapping", mend);
    }
    if field.only_in.is_some() && whole.states.is_none() {
        at.key(
            "only-in",
            "`only-in` only where the mapping has `states`",
            "Take the line out, or add [firm.mapping.states]",
        );
    }
    if matches!(field.direction, Some(file::Direction::Both | file::Direction::ToFhir)) {
        let one_way = rule("", field).and_then(|rule| rule.one_way());
        if let Some(reason) = one_way {
            at.value("direction", "\"to-filemaker\"", format!("The field cannot be written to the chart: {reason}"));
        }
    }
    let r#type = rule_kind(field, kind).field_type();
    for (code, text) in field.codes.iter().flatten() {
        if !is_of_type(text, r#type) {
            let expected = if r#type == FieldType::Flag { "\"1\" or \"0\"" } else { "a number" };
            at.inside(&["codes"]).value(code, expected, "Write what the field is to hold for this code");
        }
    }
}

fn paths(paths: Option<&OneOrMore>) -> Option<Vec<Path>> {
    paths?.texts().iter().map(|text| text.parse().ok()).collect()
}

fn rule_kind(field: &file::Field, kind: file::Kind) -> Kind {
    match kind {
        file::Kind::Text => Kind::Text,
        file::Kind::Number => Kind::Number(match (&field.unit, &field.unit_field) {
            (_, Some(beside)) => Unit::Beside(beside.clone()),
            (Some(units), None) => Unit::OneOf(units.texts().to_vec()),
            (None, None) => Unit::none(),
        }),
        file::Kind::Date => Kind::Date,
        file::Kind::DateTime => Kind::DateTime(match field.day_only {
            Some(file::DayOnly::Midnight) => DayOnly::Midnight,
            Some(file::DayOnly::Refuse) | None => DayOnly::Refuse,
        }),
        file::Kind::Flag => Kind::Flag,
        file::Kind::Reference => Kind::Reference,
        file::Kind::Attachment => Kind::Attachment,
    }
}

fn rule(name: &str, field: &file::Field) -> Option<Rule> {
    let codes = field
        .codes
        .as_ref()
        .map(|codes| Codes { map: codes.clone(), keep_others: field.other_codes == Some(file::OtherCodes::Keep) });
    Some(Rule {
        codes,
        join: field.join.clone(),
        form: match field.form {
            Some(file::Form::Phone) => Form::Phone,
            Some(file::Form::Email) => Form::Email,
            Some(file::Form::PostalCode) => Form::PostalCode,
            Some(file::Form::Plain) | None => Form::Plain,
        },
        absent: match field.absent {
            Some(file::Absent::Blank) => Absent::Blank,
            Some(file::Absent::Leave) | None => Absent::Leave,
        },
        owner: match field.owner {
            Some(file::Owner::Filemaker) => Owner::FileMaker,
            Some(file::Owner::Newest) => Owner::Newest,
            Some(file::Owner::Person) => Owner::Person,
            Some(file::Owner::Fhir) | None => Owner::Fhir,
        },
        direction: match field.direction {
            Some(file::Direction::ToFilemaker) => Direction::ToFileMaker,
            Some(file::Direction::ToFhir) => Direction::ToFhir,
            Some(file::Direction::Both) | None => Direction::Both,
        },
        only_in: field.only_in.clone().unwrap_or_default(),
        ..Rule::new(name, paths(field.path.as_ref())?, rule_kind(field, field.kind?))
    })
}

/// The engine's form of a whole mapping; `None` where a part is missing, which has been noted.
fn built(whole: &file::Mapping) -> Option<ResourceMapping> {
    let rules = whole.fields.iter().map(|(name, field)| rule(name, field)).collect::<Option<_>>()?;
    let parent = match &whole.parent {
        Some(parent) => Some(Parent {
            path: parent.path.parse().ok()?,
            resource: ResourceType::new(parent.resource.clone()).ok()?,
            field: parent.field.clone(),
        }),
        None => None,
    };
    let states = match &whole.states {
        Some(states) => Some(States {
            paths: paths(states.path.as_ref())?,
            field: states.field.clone(),
            wait: states.wait.clone(),
            mark: states.mark.clone(),
            amended: states.amended.clone(),
            new: states
                .new
                .iter()
                .map(|(path, status)| Some((path.parse().ok()?, status.clone())))
                .collect::<Option<_>>()?,
        }),
        None => None,
    };
    let resource = ResourceType::new(whole.resource.clone()?).ok()?;
    let mut built = ResourceMapping::new(resource, whole.layout.clone()?, whole.key.clone()?, rules, parent, states);
    built.table.changes = whole
        .changes
        .as_ref()
        .map(|changes| ChangeFields { uuid: changes.uuid.clone(), modified: changes.modified.clone() });
    built.table.number =
        whole.number.as_ref().map(|number| Numbered { field: number.field.clone(), from: number.from });
    if let Some(inactive) = whole.inactive.as_ref().filter(|_| whole.on_delete != Some(file::OnDelete::Keep)) {
        // A field that was dropped flags nothing.
        let rule = built.rules.iter().find(|rule| rule.field == inactive.field);
        built.inactive = rule.map(|rule| Inactive {
            field: rule.field.clone(),
            value: canonical(rule.r#type(), rule.form, Value::Text(inactive.value.clone())),
        });
    }
    for filter in whole.only.iter().flatten() {
        built.only.push(Filter { path: filter.path.parse().ok()?, codes: filter.codes.clone() });
    }
    Some(built)
}
