//! The schema: made of the types of [`super::file`], published as `docs/config.schema.json`, and what a file is checked against.
//! One source, so that what an editor accepts is what the program accepts.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value as Json};

use super::{
    Mistakes,
    document::{Document, Way},
    file::File,
    form::{self, Wrong, wrong},
    time::Time,
};

/// The schema as published (JSON Schema draft 7, which editors of TOML know), without references.
pub(super) fn schema() -> &'static Json {
    static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
        let settings =
            SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).with_transform(tidy);
        settings.into_generator().into_root_schema_for::<File>().to_value()
    });
    &SCHEMA
}

/// Descriptions are one line each and name the bounds of times. TOML has no null; defaults of tables are those of their members; what is required has no default.
fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    if let Some(Json::String(description)) = schema.get("description") {
        let mut description = description.replace('\n', " ");
        if let (Some(Json::String(from)), Some(Json::String(to))) = (schema.get("x-from"), schema.get("x-to")) {
            description.push_str(&format!(" From {from} to {to}."));
        }
        schema.insert("description".into(), description.into());
    }
    let required = schema.get("required").cloned().unwrap_or_default();
    if let Some(Json::Object(properties)) = schema.get_mut("properties") {
        for (name, property) in properties {
            let Json::Object(property) = property else { continue };
            let empty = match property.get("default") {
                Some(Json::Null | Json::Object(_)) => true,
                Some(Json::Array(items)) => items.is_empty(),
                _ => required.as_array().is_some_and(|required| required.iter().any(|key| key == name)),
            };
            if empty {
                property.remove("default");
            }
        }
    }
    if let Some(Json::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    for keyword in ["anyOf", "enum"] {
        if let Some(Json::Array(items)) = schema.get_mut(keyword) {
            items.retain(|item| !item.is_null() && item.get("type").is_none_or(|name| name != "null"));
        }
    }
    if let Some(Json::Array(choices)) = schema.get("anyOf")
        && let [Json::Object(only)] = choices.as_slice()
    {
        let only = only.clone();
        schema.remove("anyOf");
        for (keyword, value) in only {
            schema.ensure_object().entry(keyword).or_insert(value);
        }
    }
    // Rust's widths of numbers mean nothing to an editor.
    if schema.get("format").and_then(Json::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
}

/// Checks a document, notes every mistake, and takes the mistaken parts out of it.
pub(super) fn check(document: &mut Document, mistakes: &mut Mistakes<'_>) {
    let mut checker = Checker { way: Vec::new(), found: Vec::new() };
    checker.part(&document.tree, schema());
    for Found { way, wrong, at_key, .. } in &checker.found {
        let offset = if *at_key { document.key_offset(way) } else { document.offset(way) };
        mistakes.add(offset, way, wrong.clone());
    }
    // From the end, so that places in arrays stay what they are.
    for found in checker.found.iter().rev().filter(|found| found.take_out) {
        document.take_out(&found.way);
    }
}

struct Found {
    way: Way,
    wrong: Wrong,
    /// The key is at fault and not its value.
    at_key: bool,
    take_out: bool,
}

struct Checker {
    way: Way,
    found: Vec<Found>,
}

impl Checker {
    fn note(&mut self, wrong: Wrong) {
        self.found.push(Found { way: self.way.clone(), wrong, at_key: false, take_out: true });
    }

    fn part(&mut self, value: &Json, schema: &Json) {
        if let Some(Json::Array(choices)) = schema.get("anyOf") {
            let form = schema.get("x-form").and_then(Json::as_str).unwrap_or_default();
            match choices.iter().find(|choice| is_of(value, choice)) {
                Some(_) if value.is_string() => self.text(value.as_str().unwrap_or_default(), form),
                Some(Json::Object(choice)) => {
                    let mut choice = choice.clone();
                    choice.insert("x-form".into(), form.into());
                    self.part(value, &Json::Object(choice));
                }
                _ => self.note(wrong("a text, or a list of texts", "Put it in quotation marks")),
            }
            return;
        }
        if !is_of(value, schema) {
            self.note(wrong(expected(schema), mend(schema)));
            return;
        }
        match value {
            Json::Object(members) => self.members(members, schema),
            Json::Array(items) => {
                let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
                if (items.len() as u64) < least {
                    self.note(wrong("at least one entry", "Add one, or leave the line out if it need not be given"));
                }
                let Some(item_schema) = schema.get("items") else { return };
                // The form of a list is that of its texts.
                let form = schema.get("x-form").and_then(Json::as_str);
                for (index, item) in items.iter().enumerate() {
                    self.way.push(index.to_string());
                    match (form, item) {
                        (Some(form), Json::String(text)) => self.text(text, form),
                        _ => self.part(item, item_schema),
                    }
                    self.way.pop();
                }
            }
            Json::String(text) => {
                let choices = choices(schema);
                if !choices.is_empty() {
                    if !choices.contains(&text.as_str()) {
                        self.note(wrong(expected(schema), closest(text, &choices)));
                    }
                    return;
                }
                let form = schema.get("x-form").and_then(Json::as_str).unwrap_or_default();
                let bound =
                    |name: &str| schema.get(name).and_then(Json::as_str).and_then(|text| text.parse::<Time>().ok());
                match (form, bound("x-from"), bound("x-to")) {
                    ("time", Some(from), Some(to)) => {
                        form::time(text, &(from..=to)).unwrap_or_else(|wrong| self.note(wrong))
                    }
                    _ => self.text(text, form),
                }
            }
            Json::Number(number) => {
                let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
                let number = number.as_f64().unwrap_or(f64::NAN);
                if bound("minimum").is_some_and(|least| number < least)
                    || bound("maximum").is_some_and(|most| number > most)
                {
                    self.note(wrong(expected(schema), mend(schema)));
                }
            }
            Json::Bool(_) | Json::Null => {}
        }
    }

    fn text(&mut self, text: &str, form: &str) {
        form::check(form, text).unwrap_or_else(|wrong| self.note(wrong));
    }

    fn members(&mut self, members: &Map<String, Json>, schema: &Json) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        for (key, value) in members {
            self.way.push(key.clone());
            match (properties.get(key), schema.get("additionalProperties")) {
                (Some(property), _) => self.part(value, property),
                (None, Some(any @ Json::Object(_))) => self.part(value, any),
                (None, _) => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    let wrong = unknown(key, &known);
                    self.found.push(Found { way: self.way.clone(), wrong, at_key: true, take_out: true });
                }
            }
            self.way.pop();
        }
        for required in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if !members.contains_key(required) {
                let property = &properties[required];
                let wrong = wrong(format!("`{required}`, which is missing"), missing(required, property));
                self.found.push(Found { way: self.way.clone(), wrong, at_key: true, take_out: false });
            }
        }
    }
}

fn is_of(value: &Json, schema: &Json) -> bool {
    let name = match schema.get("type").and_then(Json::as_str) {
        Some(name) => name,
        // A choice whose values carry descriptions.
        None if schema.get("oneOf").is_some() => "string",
        None => return true,
    };
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_i64().is_some(),
        "number" => value.is_number(),
        _ => true,
    }
}

/// The values of a choice.
fn choices(schema: &Json) -> Vec<&str> {
    let list = schema.get("enum").or(schema.get("oneOf")).and_then(Json::as_array);
    list.into_iter().flatten().filter_map(|item| item.get("const").unwrap_or(item).as_str()).collect()
}

fn expected(schema: &Json) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return format!("one of {}", quoted(&choices));
    }
    let bound = |name: &str| schema.get(name).and_then(Json::as_i64);
    match schema.get("type").and_then(Json::as_str).unwrap_or_default() {
        "string" => match (schema.get("x-from").and_then(Json::as_str), schema.get("x-to").and_then(Json::as_str)) {
            (Some(from), Some(to)) => format!("a time from {from} to {to}"),
            _ => "a text".into(),
        },
        "integer" => match (bound("minimum"), bound("maximum")) {
            (Some(from), Some(to)) => format!("a whole number from {from} to {to}"),
            _ => "a whole number".into(),
        },
        "boolean" => "true or false".into(),
        "array" => "a list".into(),
        "object" => "a table with entries of its own".into(),
        _ => "another kind of value".into(),
    }
}

fn mend(schema: &Json) -> String {
    match (schema.get("default"), schema.get("type").and_then(Json::as_str)) {
        (Some(default), _) => format!("Write for example {default}, which is also what it is when left out"),
        (None, Some("string")) => "Put it in quotation marks".into(),
        (None, Some("array")) => {
            "Put it in square brackets; a list of tables begins each with its name in [[ ]]".into()
        }
        (None, Some("object")) => "Begin it with its name in [ ] and write its entries on lines below".into(),
        (None, Some("boolean")) => "Write true or false without quotation marks".into(),
        _ => "Choose one within these bounds, or leave the line out".into(),
    }
}

fn missing(key: &str, property: &Json) -> String {
    let example = property.get("examples").and_then(|examples| examples.get(0));
    match (example, property.get("type").and_then(Json::as_str)) {
        (Some(example), _) => format!("Add a line such as {key} = {example}"),
        (None, Some("object")) => format!("Add a section [... .{key}] with its entries").replace("... .", "firm."),
        (None, Some("array")) => match key {
            "firm" => "Add a section [[firm]] for the clinic".into(),
            "mapping" => "Add a section [[firm.mapping]], with `use = \"patient\"` for a start".into(),
            _ => format!("Add a line {key} = [...]"),
        },
        _ => format!("Add a line {key} = ..."),
    }
}

fn unknown(key: &str, known: &[&str]) -> Wrong {
    let near = nearest(key, known);
    let secret = ["secret", "password", "token", "key"].iter().any(|word| key.contains(word));
    let mend = match near {
        Some(near) => format!("Did you mean `{near}`?"),
        None if secret => {
            "Take it out: secrets have no place in this file; `chart-relay secret set NAME` keeps them".into()
        }
        None => format!("Take it out. Known here: {}", known.join(", ")),
    };
    wrong("a setting that exists here", mend)
}

fn closest(text: &str, choices: &[&str]) -> String {
    match nearest(text, choices) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Write {}", quoted(&choices[..1])),
    }
}

/// The known name that a person most likely meant, if one is near enough.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let levelled = text.to_lowercase().replace(['_', ' '], "-");
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&levelled, &name.to_lowercase()), *name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .map(|(_, name)| name)
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}
