//! What a mapping makes of resources: the shapes that FHIR R4 allows, what real servers send, and anything else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::collections::BTreeMap;

use engine::{
    error::Code,
    key::ResourceType,
    mapping::{
        Absent, Codes, DayOnly, Extracted, Filter, Form, Kind, Parent, Path, Refusal, ResourceMapping, Rule, Skip,
        Standing, States, Unit, canonical,
    },
    row::{FieldType, Value},
};
use jiff::{civil::date, tz::TimeZone};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn zone() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn patient() -> ResourceType {
    ResourceType::new("Patient").unwrap()
}

fn rule(paths: &[&str], kind: Kind) -> Rule {
    Rule::new("Field", paths.iter().map(|text| path(text)).collect(), kind)
}

fn of(rules: Vec<Rule>) -> ResourceMapping {
    ResourceMapping::new(ResourceType::new("Observation").unwrap(), "API_Test", "FhirId", rules, None, None)
}

fn extract(mapping: &ResourceMapping, mut resource: Json) -> Extracted {
    resource["resourceType"] = json!(mapping.resource.as_str());
    mapping.extract(&resource, &zone())
}

/// What one rule makes of a resource.
fn one(rule: Rule, resource: Json) -> Result<Option<Value>, Refusal> {
    let extracted = extract(&of(vec![rule]), resource);
    match extracted.refused.get("Field") {
        Some(refusal) => {
            assert_eq!(extracted.fields["Field"], None, "a refused field is left");
            Err(*refusal)
        }
        None => Ok(extracted.fields["Field"].clone()),
    }
}

fn text(content: &str) -> Option<Value> {
    Some(Value::Text(content.into()))
}

fn number(content: &str) -> Option<Value> {
    Some(Value::Number(content.into()))
}

#[test]
fn text_is_what_a_person_reads() {
    for (value, expected) in [
        (json!(" SYNTHETIC\r\n"), Ok(text("SYNTHETIC"))),
        (json!(12.5), Ok(text("12.5"))),
        (json!({"text": "own words", "coding": [{"display": "listed"}]}), Ok(text("own words"))),
        (json!({"coding": [{"display": "first"}, {"display": "chosen", "userSelected": true}]}), Ok(text("chosen"))),
        (json!({"system": "urn:x", "code": "c1", "display": "Shown"}), Ok(text("Shown"))),
        (json!({"system": "urn:x", "code": "c1"}), Ok(text("c1"))),
        (json!({"value": 12, "unit": "kg", "code": "kg"}), Err(Refusal::WrongType)),
        (json!(true), Err(Refusal::WrongType)),
        (json!({"start": "2024-01-01"}), Err(Refusal::WrongType)),
        (json!("  "), Ok(None)),
        (json!(null), Ok(None)),
        (json!({}), Ok(None)),
    ] {
        assert_eq!(one(rule(&["note"], Kind::Text), json!({"note": value})), expected, "{value}");
    }
}

#[test]
fn a_number_never_loses_its_unit() {
    let ucum = "http://unitsofmeasure.org";
    let kilograms = || Kind::Number(Unit::OneOf(vec!["kg".into(), "kilogram".into()]));
    for (kind, element, value, expected) in [
        (
            kilograms(),
            "valueQuantity",
            json!({"value": 72.50, "unit": "kg", "system": ucum, "code": "kg"}),
            Ok(number("72.5")),
        ),
        (kilograms(), "valueQuantity", json!({"value": 72.5, "unit": "kilogram"}), Ok(number("72.5"))),
        (
            kilograms(),
            "valueQuantity",
            json!({"value": 160, "system": ucum, "code": "[lb_av]"}),
            Err(Refusal::UnitDiffers),
        ),
        // The name for people may say anything; the code decides.
        (
            kilograms(),
            "valueQuantity",
            json!({"value": 1, "unit": "kg", "system": ucum, "code": "g"}),
            Err(Refusal::UnitDiffers),
        ),
        (kilograms(), "valueQuantity", json!({"value": 72}), Err(Refusal::UnitDiffers)),
        (kilograms(), "valueDecimal", json!(72), Err(Refusal::UnitDiffers)),
        (
            kilograms(),
            "valueQuantity",
            json!({"value": 72, "comparator": "<", "system": ucum, "code": "kg"}),
            Err(Refusal::Comparator),
        ),
        (kilograms(), "valueQuantity", json!({"unit": "kg"}), Ok(None)),
        (Kind::Number(Unit::none()), "valueInteger", json!(3), Ok(number("3"))),
        (Kind::Number(Unit::none()), "valueString", json!(" 3 "), Ok(number("3"))),
        (Kind::Number(Unit::none()), "valueString", json!("about 3"), Err(Refusal::NotANumber)),
        (Kind::Number(Unit::none()), "valueBoolean", json!(true), Err(Refusal::WrongType)),
        (Kind::Number(Unit::none()), "valueQuantity", json!({"value": 3, "code": "kg"}), Err(Refusal::UnitDiffers)),
        (
            Kind::Number(Unit::none()),
            "valueQuantity",
            json!({"value": 3, "system": ucum, "code": "1"}),
            Ok(number("3")),
        ),
    ] {
        let resource: Json = [(element.to_owned(), value.clone())].into_iter().collect();
        assert_eq!(one(rule(&["value"], kind), resource), expected, "{value}");
    }
    let digits: Json = serde_json::from_str(r#"{"valueDecimal": 0.1000000000000000055511151231257827}"#).unwrap();
    assert_eq!(
        one(rule(&["value"], Kind::Number(Unit::none())), digits),
        Ok(number("0.1000000000000000055511151231257827"))
    );
}

#[test]
fn a_number_of_any_unit_needs_the_field_that_says_it() {
    let mapping = |unit_path: &str| {
        of(vec![
            Rule::new("Value", vec![path("value")], Kind::Number(Unit::Beside("Unit".into()))),
            Rule::new("Unit", vec![path(unit_path)], Kind::Text),
        ])
    };
    let weight = json!({"valueQuantity": {"value": 72.5, "unit": "kilogram", "code": "kg"}});
    for unit_path in ["value.code", "value.unit"] {
        let extracted = extract(&mapping(unit_path), weight.clone());
        assert_eq!(extracted.fields["Value"], number("72.5"));
        assert!(extracted.refused.is_empty());
    }
    let extracted = extract(&mapping("value.system"), weight);
    assert_eq!((extracted.fields["Value"].clone(), extracted.refused["Value"]), (None, Refusal::UnitLost));
    let extracted = extract(&mapping("value.code"), json!({"valueInteger": 3}));
    assert_eq!(extracted.fields["Value"], number("3"), "a plain number has no unit to lose");
    assert_eq!(mapping("value.code").together().collect::<Vec<_>>(), [("Value", "Unit")]);
}

#[test]
fn dates_are_never_completed_by_guessing() {
    let day = date(2024, 3, 10);
    for (value, expected) in [
        ("2024-03-10", Ok(Some(Value::Date(day)))),
        // Half past eleven at night in New York is the next day in UTC.
        ("2024-03-11T03:30:00Z", Ok(Some(Value::Date(day)))),
        ("2024", Err(Refusal::PartialDate)),
        ("2024-03", Err(Refusal::PartialDate)),
        ("2024-02-30", Err(Refusal::NotADate)),
        ("0000-01-01", Err(Refusal::NotADate)),
        ("03/10/2024", Err(Refusal::NotADate)),
        ("2024-3-1", Err(Refusal::NotADate)),
    ] {
        assert_eq!(one(rule(&["when"], Kind::Date), json!({"when": value})), expected, "{value}");
    }
    assert_eq!(
        one(rule(&["when"], Kind::Text), json!({"when": "2024-03"})),
        Ok(text("2024-03")),
        "as text it stays as it is"
    );
    assert_eq!(one(rule(&["when"], Kind::Date), json!({"when": 2024})), Err(Refusal::WrongType));
}

#[test]
fn an_instant_is_the_clinics_wall_clock_to_the_second() {
    for (value, day_only, expected) in [
        ("2024-01-15T15:04:05.987Z", DayOnly::Refuse, Ok(date(2024, 1, 15).at(10, 4, 5, 0))),
        ("2024-07-15T15:04:05Z", DayOnly::Refuse, Ok(date(2024, 7, 15).at(11, 4, 5, 0))),
        ("2024-07-15T15:04:05+02:00", DayOnly::Refuse, Ok(date(2024, 7, 15).at(9, 4, 5, 0))),
        // Clocks go forward: 02:30 does not exist and no instant shows it.
        ("2024-03-10T06:59:59Z", DayOnly::Refuse, Ok(date(2024, 3, 10).at(1, 59, 59, 0))),
        ("2024-03-10T07:00:00Z", DayOnly::Refuse, Ok(date(2024, 3, 10).at(3, 0, 0, 0))),
        // Clocks go back: two instants one hour apart look the same.
        ("2024-11-03T05:30:00Z", DayOnly::Refuse, Ok(date(2024, 11, 3).at(1, 30, 0, 0))),
        ("2024-11-03T06:30:00Z", DayOnly::Refuse, Ok(date(2024, 11, 3).at(1, 30, 0, 0))),
        ("2016-12-31T23:59:60Z", DayOnly::Refuse, Ok(date(2016, 12, 31).at(18, 59, 59, 0))),
        ("2024-01-15", DayOnly::Midnight, Ok(date(2024, 1, 15).at(0, 0, 0, 0))),
        ("2024-01-15", DayOnly::Refuse, Err(Refusal::PartialDate)),
        ("2024-01", DayOnly::Midnight, Err(Refusal::PartialDate)),
        ("2024-01-15T10:00:00", DayOnly::Midnight, Err(Refusal::NoZone)),
        ("2024-01-15T25:00:00Z", DayOnly::Refuse, Err(Refusal::NotADate)),
    ] {
        let got = one(rule(&["effective"], Kind::DateTime(day_only)), json!({"effectiveDateTime": value}));
        assert_eq!(got, expected.map(|time| Some(Value::DateTime(time))), "{value}");
    }
}

#[test]
fn codes_become_what_the_field_has_for_them() {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let sex = |keep_others| Rule {
        codes: Some(Codes { map: map(&[("male", "M"), ("urn:s|female", "F")]), keep_others }),
        ..rule(&["code"], Kind::Text)
    };
    for (keep, value, expected) in [
        (false, json!("male"), Ok(text("M"))),
        (false, json!({"coding": [{"code": "unlisted"}, {"system": "urn:s", "code": "female"}]}), Ok(text("F"))),
        (false, json!({"system": "urn:other", "code": "female"}), Err(Refusal::CodeUnknown)),
        (false, json!("unlisted"), Err(Refusal::CodeUnknown)),
        (true, json!("unlisted"), Ok(text("unlisted"))),
        (false, json!({"coding": [{"code": "male"}, {"system": "urn:s", "code": "female"}]}), Err(Refusal::Several)),
    ] {
        assert_eq!(one(sex(keep), json!({"code": value})), expected, "{value}");
    }
    let smoker = || Rule {
        codes: Some(Codes { map: map(&[("true", "1"), ("false", "0"), ("Y", "1"), ("N", "0")]), keep_others: false }),
        ..rule(&["value"], Kind::Flag)
    };
    for (value, flag) in [(json!({"valueBoolean": true}), true), (json!({"valueCoding": {"code": "N"}}), false)] {
        assert_eq!(one(smoker(), value), Ok(Some(Value::Flag(flag))));
    }
    assert_eq!(one(rule(&["value"], Kind::Flag), json!({"valueBoolean": false})), Ok(Some(Value::Flag(false))));
    assert_eq!(one(rule(&["value"], Kind::Flag), json!({"valueString": "1"})), Err(Refusal::WrongType));
}

#[test]
fn several_values_are_joined_or_left_to_a_person() {
    let names = json!({"given": ["Ada", "Synthetic"]});
    assert_eq!(one(rule(&["given"], Kind::Text), names.clone()), Err(Refusal::Several));
    assert_eq!(one(rule(&["given[0]"], Kind::Text), names.clone()), Ok(text("Ada")));
    assert_eq!(one(Rule { join: Some(" ".into()), ..rule(&["given"], Kind::Text) }, names), Ok(text("Ada Synthetic")));
    assert_eq!(one(rule(&["given"], Kind::Text), json!({"given": ["Ada", " Ada "]})), Ok(text("Ada")), "equal is one");
}

#[test]
fn absent_leaves_and_blanks_only_where_declared() {
    for resource in [
        json!({}),
        json!({"item": [{"linkId": "allergies"}]}),
        json!({"item": [{"linkId": "allergies", "answer": []}]}),
        json!({"item": [{"linkId": "allergies", "answer": [{}]}]}),
        json!({"item": [{"linkId": "allergies", "answer": [{"valueString": " \n"}]}]}),
    ] {
        let answer = || rule(&["item[linkId=allergies].answer.value"], Kind::Text);
        assert_eq!(one(answer(), resource.clone()), Ok(None), "{resource}");
        assert_eq!(
            one(Rule { absent: Absent::Blank, ..answer() }, resource.clone()),
            Ok(Some(Value::Blank)),
            "{resource}"
        );
    }
    let wrong = json!({"item": [{"linkId": "allergies", "answer": [{"valueBoolean": true}]}]});
    let blanking = Rule { absent: Absent::Blank, ..rule(&["item[linkId=allergies].answer.value"], Kind::Text) };
    assert_eq!(one(blanking, wrong), Err(Refusal::WrongType), "what cannot be carried over is not absent");
}

#[test]
fn the_first_path_that_says_something_counts() {
    let phone = || Rule {
        form: Form::Phone,
        ..rule(&["telecom[system=phone][use=mobile].value", "telecom[system=phone][use=].value"], Kind::Text)
    };
    let plain = json!({"telecom": [{"system": "phone", "value": "(555) 010-0100"}, {"system": "phone", "use": "mobile", "value": ""}]});
    assert_eq!(one(phone(), plain), Ok(text("555-010-0100")));
}

#[test]
fn references_keep_their_id_and_only_our_own_are_ours() {
    for (value, bases, expected) in [
        (json!({"reference": "Patient/p-1"}), &[][..], Ok(text("p-1"))),
        (json!({"reference": "Patient/p-1/_history/3"}), &[], Ok(text("p-1"))),
        (json!({"reference": "https://chart.example/fhir/R4/Patient/p-1"}), &[], Ok(text("p-1"))),
        (
            json!({"reference": "https://chart.example/fhir/R4/Patient/p-1/_history/2"}),
            &["https://chart.example/fhir/R4/"],
            Ok(text("p-1")),
        ),
        (
            json!({"reference": "https://elsewhere.example/Patient/p-1"}),
            &["https://chart.example/fhir/R4"],
            Err(Refusal::Elsewhere),
        ),
        (
            json!({"reference": "https://chart.example/fhir/R44/Patient/p-1"}),
            &["https://chart.example/fhir/R4"],
            Err(Refusal::Elsewhere),
        ),
        (
            json!({"reference": "urn:uuid:0a000000-0000-4000-8000-000000000001"}),
            &[],
            Ok(text("0a000000-0000-4000-8000-000000000001")),
        ),
        (json!({"reference": "#contained"}), &[], Err(Refusal::NoResource)),
        (json!({"reference": "Patient?identifier=1"}), &[], Err(Refusal::NoResource)),
        (json!({"reference": "p-1"}), &[], Err(Refusal::NoResource)),
        (json!({"identifier": {"value": "1"}}), &[], Err(Refusal::NoResource)),
        (json!({"type": "Patient"}), &[], Ok(None)),
        (json!("Patient/p-1"), &[], Ok(text("p-1"))),
    ] {
        let mut mapping = of(vec![rule(&["subject"], Kind::Reference)]);
        mapping.bases = bases.iter().map(|base| (*base).to_owned()).collect();
        let extracted = extract(&mapping, json!({"subject": value}));
        let got = extracted.refused.get("Field").map_or(Ok(extracted.fields["Field"].clone()), |refusal| Err(*refusal));
        assert_eq!(got, expected, "{value}");
    }
}

#[test]
fn attachments_are_read_in_their_own_character_set() {
    let content = |r#type: &str, data: &str| json!({"attachment": {"contentType": r#type, "data": data}});
    for (contents, expected) in [
        (json!([content("text/plain; charset=utf-8", "U1lOVEhFVElDIG5vdGUNCg==")]), Ok(text("SYNTHETIC note"))),
        (json!([content("text/plain", "U1lOVEhF\nVElDIG5vdGU")]), Ok(text("SYNTHETIC note"))),
        (json!([content("text/plain;charset=\"ISO-8859-1\"", "6Q==")]), Ok(text("é"))),
        (json!([content("text/plain; charset=windows-1252", "gA==")]), Ok(text("€"))),
        (json!([content("text/plain", "6Q==")]), Err(Refusal::NotText)),
        (json!([content("text/plain; charset=utf-16", "6Q==")]), Err(Refusal::NotText)),
        (json!([content("application/pdf", "JVBERg==")]), Err(Refusal::NotText)),
        (json!([content("application/pdf", "JVBERg=="), content("text/plain", "YQ==")]), Ok(text("a"))),
        (json!([content("text/plain", "YQ=="), content("text/plain", "Yg==")]), Err(Refusal::Several)),
        (json!([content("text/plain", "%%%")]), Err(Refusal::NotText)),
        (json!([{"attachment": {"contentType": "text/plain", "url": "Binary/1"}}]), Err(Refusal::Elsewhere)),
        (json!([{"attachment": {"contentType": "text/plain"}}]), Ok(None)),
    ] {
        assert_eq!(
            one(rule(&["content.attachment"], Kind::Attachment), json!({"content": contents})),
            expected,
            "{contents}"
        );
    }
}

fn child() -> ResourceMapping {
    let mut mapping = ResourceMapping::new(
        ResourceType::new("DocumentReference").unwrap(),
        "API_ProgressNote",
        "FhirId",
        vec![Rule { absent: Absent::Blank, ..Rule::new("Title", vec![path("description")], Kind::Text) }],
        Some(Parent { path: path("subject"), resource: patient(), field: "PatientFhirId".into() }),
        Some(States {
            paths: vec![path("status"), path("docStatus")],
            field: "Status".into(),
            wait: vec!["in-progress".into()],
            mark: vec!["entered-in-error".into(), "superseded".into()],
            amended: BTreeMap::new(),
            new: Vec::new(),
        }),
    );
    mapping.only = vec![Filter { path: path("type"), codes: vec!["http://loinc.org|11506-3".into()] }];
    mapping
}

fn note(status: &str, doc_status: &str) -> Json {
    json!({
        "status": status, "docStatus": doc_status, "subject": {"reference": "Patient/p-1"}, "description": "SYNTHETIC",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]}
    })
}

#[test]
fn every_status_has_its_rule() {
    for (status, doc_status, standing, shown) in [
        ("current", "final", Standing::Carry, text("final")),
        ("current", "preliminary", Standing::Carry, text("preliminary")),
        ("current", "", Standing::Carry, text("current")),
        ("superseded", "final", Standing::MarkOnly, text("superseded")),
        ("entered-in-error", "preliminary", Standing::MarkOnly, text("entered-in-error")),
        ("current", "entered-in-error", Standing::MarkOnly, text("entered-in-error")),
        ("in-progress", "", Standing::Skip(Skip::Waiting), None),
    ] {
        let extracted = extract(&child(), note(status, doc_status));
        assert_eq!(extracted.standing, standing, "{status} {doc_status}");
        assert_eq!(extracted.fields["Status"], shown, "{status} {doc_status}");
        // What only marks, or waits, touches no other field, not even one that absence would blank.
        let carried = standing == Standing::Carry;
        assert_eq!(extracted.fields["Title"], carried.then(|| text("SYNTHETIC")).flatten());
        assert_eq!(extracted.fields["PatientFhirId"], carried.then(|| text("p-1")).flatten());
    }
}

#[test]
fn what_the_mapping_is_not_for_is_skipped_and_says_so() {
    let mut other = note("current", "final");
    other["type"] = json!({"coding": [{"system": "http://loinc.org", "code": "18842-5"}]});
    assert_eq!(extract(&child(), other.clone()).standing, Standing::Skip(Skip::Filtered));
    assert!(!child().applies(&other));
    assert_eq!(child().extract(&json!({"resourceType": "Patient"}), &zone()).standing, Standing::Skip(Skip::OtherType));
    assert_eq!(child().extract(&json!([1]), &zone()).standing, Standing::Skip(Skip::OtherType));
}

#[test]
fn a_child_names_its_parent_or_says_why_not() {
    let of = |subject: Json| {
        let mut resource = note("current", "final");
        resource["subject"] = subject;
        extract(&child(), resource)
    };
    let found = of(json!({"reference": "Patient/p-1"}));
    assert_eq!(found.parent.map(|(r#type, id)| format!("{type}/{id}")).as_deref(), Some("Patient/p-1"));
    let other = of(json!({"reference": "Group/g-1"}));
    assert_eq!((other.parent, other.refused["PatientFhirId"]), (None, Refusal::OtherResource));
    let none = of(json!(null));
    assert_eq!((none.parent, none.refused), (None, BTreeMap::new()));
}

#[test]
fn one_bad_field_stops_no_other() {
    let mapping = of(vec![
        Rule::new("Bad", vec![path("birthDate")], Kind::Date),
        Rule::new("Good", vec![path("note")], Kind::Text),
    ]);
    let extracted = extract(&mapping, json!({"birthDate": "1970", "note": "SYNTHETIC"}));
    assert_eq!(extracted.refused, BTreeMap::from([("Bad".to_owned(), Refusal::PartialDate)]));
    assert_eq!(extracted.fields["Good"], text("SYNTHETIC"));
    assert!(!format!("{extracted:?}").contains("SYNTHETIC"), "patient data cannot be printed");
}

#[test]
fn a_merged_patient_is_noticed() {
    let mapping = ResourceMapping::new(patient(), "API_Patient", "FhirId", vec![], None, None);
    let of = |r#type: &str| {
        extract(&mapping, json!({"link": [{"other": {"reference": "Patient/2"}, "type": r#type}]})).notice
    };
    assert_eq!(of("replaced-by"), Some(Code::PatientMerged));
    assert_eq!(of("replaces"), None);
}

fn any_json() -> impl Strategy<Value = Json> {
    let name = prop::sample::select(vec![
        "value",
        "valueQuantity",
        "valueString",
        "code",
        "coding",
        "system",
        "unit",
        "text",
        "item",
        "answer",
        "linkId",
        "reference",
        "attachment",
        "data",
        "contentType",
        "status",
        "link",
        "type",
        "subject",
        "display",
        "comparator",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop::sample::select(vec![
            "",
            " ",
            "x",
            "2024",
            "2024-02-30",
            "2024-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "Patient/1",
            "urn:uuid:",
            "://",
            "/",
            "#",
            "1e999",
            "text/plain; charset",
            "é\u{301}\r",
            "====",
            "kg",
        ])
        .prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Blank),
        any::<String>().prop_map(Value::Text),
        "[-+]?[0-9]{0,8}\\.?[0-9]{0,8}([eE][-+]?[0-9]{1,3})?".prop_map(Value::Text),
        "[ \u{301}\r\n\u{b}a-zA-Z\u{0}\u{2000}\u{130}\u{df}]{0,8}".prop_map(Value::Text),
        "[-+ ()./0-9]{0,16}".prop_map(Value::Text),
        any::<String>().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Flag),
        (1i16..=9999, 1i8..=12, 1i8..=28, 0i8..24, 0i32..1_000_000_000)
            .prop_map(|(y, m, d, h, n)| Value::DateTime(date(y, m, d).at(h, 1, 2, n))),
        (1i16..=9999, 1i8..=12, 1i8..=28).prop_map(|(y, m, d)| Value::Date(date(y, m, d))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_form_is_reached_at_once(value in any_value()) {
        for r#type in [FieldType::Text, FieldType::Number, FieldType::Date, FieldType::DateTime, FieldType::Flag] {
            for form in [Form::Plain, Form::Phone, Form::Email, Form::PostalCode] {
                let once = canonical(r#type, form, value.clone());
                prop_assert!(canonical(r#type, form, once.clone()) == once, "{type:?} {form:?} {:?}", once.canonical());
            }
        }
    }

    #[test]
    fn any_resource_is_survived(mut resource in any_json()) {
        let paths = ["value", "item[linkId=x].answer.value", "code[system=x]", "subject", "code", "link[0].type", "text[use=]"];
        let kinds = [
            Kind::Text, Kind::Number(Unit::none()), Kind::Number(Unit::Beside("f0-0".into())), Kind::Date,
            Kind::DateTime(DayOnly::Midnight), Kind::Flag, Kind::Reference, Kind::Attachment,
        ];
        let mut rules = Vec::new();
        for (p, text) in paths.iter().enumerate() {
            for (k, kind) in kinds.iter().enumerate() {
                let codes = (p % 2 == 0).then(|| Codes { map: BTreeMap::from([("x".into(), "1".into())]), keep_others: true });
                let join = (*kind == Kind::Text).then(|| ", ".to_owned());
                rules.push(Rule { codes, join, ..Rule::new(format!("f{p}-{k}"), vec![path(text)], kind.clone()) });
            }
        }
        let mut mapping = child();
        mapping.table = ResourceMapping::new(patient(), "L", "K", rules.clone(), mapping.parent.clone(), mapping.states.clone()).table;
        mapping.rules = rules;
        mapping.only.clear();
        if let Json::Object(members) = &mut resource {
            members.insert("resourceType".into(), json!("DocumentReference"));
        }
        let extracted = mapping.extract(&resource, &zone());
        prop_assert!(extracted.fields.keys().eq(mapping.table.fields.keys()), "every mapped field is there, and no other");
        for (field, value) in &extracted.fields {
            prop_assert!(!extracted.refused.contains_key(field) || value.is_none(), "a refused field is left: {field}");
            if let Some(value) = value {
                prop_assert!(mapping.canonical(field, value.clone()) == *value, "in canonical form: {field}");
            }
        }
    }

    #[test]
    fn any_path_is_read_or_refused_within_itself(text in "[a-cA-C.\\[\\]=0-9 |'\u{e9}]{0,24}") {
        match text.parse::<Path>() {
            Ok(path) => prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path)),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.position)),
        }
    }
}
