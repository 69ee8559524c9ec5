//! The mapping backwards: what becomes of a resource when its row's values are put into it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod fields;
mod properties;

use engine::{
    key::ResourceType,
    mapping::{Form, Kind, Path, Refusal, ResourceMapping, Rule},
    row::{ChangeFields, Fields, Value},
};
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

fn zone() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn rule(paths: &[&str], kind: Kind) -> Rule {
    Rule::new("Field", paths.iter().map(|text| path(text)).collect(), kind)
}

fn named(field: &str, paths: &[&str], kind: Kind) -> Rule {
    Rule { field: field.into(), ..rule(paths, kind) }
}

fn of(r#type: &str, rules: Vec<Rule>) -> ResourceMapping {
    let mut mapping = ResourceMapping::new(ResourceType::new(r#type).unwrap(), "API_Test", "FhirId", rules, None, None);
    mapping.table.changes = Some(ChangeFields { uuid: "UUID".into(), modified: "ModifiedAt".into() });
    mapping
}

fn text(content: &str) -> Value {
    Value::Text(content.into())
}

fn number(content: &str) -> Value {
    Value::Number(content.into())
}

fn fields<const N: usize>(values: [(&str, Value); N]) -> Fields {
    values.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// What one rule makes of a resource of this type. Whatever it makes reads as it was written, and is not written again.
#[track_caller]
fn put(r#type: &str, rule: Rule, resource: &Json, value: Value) -> Result<Json, Refusal> {
    let mapping = of(r#type, vec![rule]);
    let mut typed = json!({"resourceType": r#type});
    typed.as_object_mut().unwrap().extend(resource.as_object().unwrap().clone());
    let applied = mapping.apply(&typed, &fields([("Field", value.clone())]), &zone());
    if let Some(refusal) = applied.refused.get("Field") {
        assert!(!applied.changed && applied.json == typed, "a refused field leaves everything as it was");
        return Err(*refusal);
    }
    let reads = mapping.extract(&applied.json, &zone());
    assert_eq!(reads.refused.len(), 0, "{:?}", reads.refused);
    let expected = match mapping.canonical("Field", value.clone()) {
        Value::Blank => None,
        value => Some(value),
    };
    assert_eq!(reads.fields["Field"], expected, "it reads as it was written: {}", applied.json);
    let again = mapping.apply(&applied.json, &fields([("Field", value)]), &zone());
    assert!(!again.changed, "nothing is written twice");
    assert_eq!(again.json.to_string(), applied.json.to_string());
    assert_eq!(applied.changed, applied.json != typed);
    let mut made = applied.json;
    made.as_object_mut().unwrap().shift_remove("resourceType");
    Ok(made)
}

#[track_caller]
fn patient(rule: Rule, resource: &Json, value: Value) -> Result<Json, Refusal> {
    put("Patient", rule, resource, value)
}

/// Equal, with every digit and in the same order.
#[track_caller]
fn assert_same(made: &Result<Json, Refusal>, expected: &Json) {
    assert_eq!(made.as_ref().map(ToString::to_string), Ok(expected.to_string()));
}

fn phone() -> Rule {
    let paths = [
        "telecom[system=phone][use=mobile][0].value",
        "telecom[system=phone][use=home][0].value",
        "telecom[system=phone][use=][0].value",
    ];
    Rule { form: Form::Phone, ..rule(&paths, Kind::Text) }
}
