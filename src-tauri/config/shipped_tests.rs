//! The shipped mappings on resources of the kind that real servers send, all synthetic.

use engine::{
    error::Code,
    key::ResourceId,
    mapping::{Extracted, OneWay, Refusal, ResourceMapping, Skip, Standing},
    ports::Identifier,
    row::{ChangeFields, Fields, Value},
};
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::{Shipped, shipped};

fn extract(which: Shipped, resource: &Json) -> Extracted {
    shipped(which).extract(resource, &TimeZone::get("America/New_York").unwrap())
}

/// What the row is to hold, as text; fields that are left do not appear.
fn fields(extracted: &Extracted) -> Vec<(&str, String)> {
    let said = extracted.fields.iter().filter_map(|(field, value)| Some((field.as_str(), value.as_ref()?)));
    said.map(|(field, value)| (field, format!("{} {}", value.tag(), value.canonical()))).collect()
}

fn expected<'a>(pairs: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    pairs.iter().map(|(field, value)| (*field, (*value).to_owned())).collect()
}

#[test]
fn a_patient() {
    let resource = json!({
        "resourceType": "Patient", "id": "p-1", "active": true, "gender": "female", "birthDate": "1974-12-25",
        "identifier": [
            {"use": "usual", "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
             "system": "urn:chart-relay:synthetic:mrn", "value": "0012345"},
            {"system": "urn:other", "value": "99"}
        ],
        "name": [
            {"use": "old", "family": "Windsor-Testpatient", "given": ["Petra"], "period": {"end": "2002"}},
            {"use": "official", "family": "Testpatient", "given": ["Petra", "Synthetic"]},
            {"use": "usual", "given": ["Pet"]}
        ],
        "telecom": [
            {"use": "home"},
            {"system": "phone", "value": "(555) 010-6473", "use": "work", "rank": 1},
            {"system": "phone", "value": "+1 555 010 5613", "use": "mobile", "rank": 2},
            {"system": "phone", "value": "555 010 8834", "use": "old"},
            {"system": "email", "value": "Petra@Example.ORG"}
        ],
        "address": [{"use": "home", "line": ["534 Synthetic St", "Apt 2"], "city": "Pleasantville", "state": "NY", "postalCode": "105700001"}]
    });
    let extracted = extract(Shipped::Patient, &resource);
    assert_eq!(
        fields(&extracted),
        expected(&[
            ("Active", "flag 1"),
            ("BirthDate", "date 1974-12-25"),
            ("City", "text Pleasantville"),
            ("Email", "text petra@example.org"),
            ("FirstName", "text Petra Synthetic"),
            ("LastName", "text Testpatient"),
            ("MRN", "text 0012345"),
            ("Phone", "text 555-010-5613"),
            ("PostalCode", "text 10570-0001"),
            ("Sex", "text F"),
            ("State", "text NY"),
            ("Street", "text 534 Synthetic St, Apt 2"),
        ])
    );
    assert!(extracted.refused.is_empty() && extracted.notice.is_none() && extracted.parent.is_none());
}

#[test]
fn a_patient_that_says_little_or_says_it_badly() {
    let resource = json!({
        "resourceType": "Patient", "birthDate": "1974", "gender": "unlisted",
        "name": [{"use": "maiden", "family": "Neverthis"}, {"family": "Testpatient"}],
        "link": [{"other": {"reference": "Patient/p-2"}, "type": "replaced-by"}]
    });
    let extracted = extract(Shipped::Patient, &resource);
    assert_eq!(fields(&extracted), expected(&[("LastName", "text Testpatient")]));
    let refused: Vec<_> = extracted.refused.iter().map(|(field, why)| (field.as_str(), *why)).collect();
    assert_eq!(refused, [("BirthDate", Refusal::PartialDate), ("Sex", Refusal::CodeUnknown)]);
    assert_eq!((extracted.standing, extracted.notice), (Standing::Carry, Some(Code::PatientMerged)));
}

fn form(status: &str) -> Json {
    json!({
        "resourceType": "QuestionnaireResponse", "status": status, "authored": "2024-07-15T14:03:21.5-04:00",
        "subject": {"reference": "Patient/p-1"},
        "item": [
            {"linkId": "history", "text": "History", "item": [
                {"linkId": "allergies", "answer": [{"valueString": "SYNTHETIC pollen"}, {"valueCoding": {"code": "x", "display": "SYNTHETIC nuts"}}]},
                {"linkId": "medications"},
                {"linkId": "smoker", "answer": [{"valueCoding": {"system": "http://snomed.info/sct", "code": "373067005", "display": "No"}}]}
            ]},
            {"linkId": "reason", "answer": [{"valueString": "SYNTHETIC check\r\nsecond line "}]},
            {"linkId": "pain", "answer": [{"valueInteger": 3}]}
        ]
    })
}

#[test]
fn an_intake_form() {
    let extracted = extract(Shipped::IntakeForm, &form("completed"));
    assert_eq!(
        fields(&extracted),
        expected(&[
            ("Allergies", "text SYNTHETIC pollen; SYNTHETIC nuts"),
            ("Authored", "date-time 2024-07-15T14:03:21"),
            ("PainScore", "number 3"),
            ("PatientFhirId", "text p-1"),
            ("ReasonForVisit", "text SYNTHETIC check\nsecond line"),
            ("SmokerYesNo", "flag 0"),
            ("Status", "text completed"),
        ])
    );
    assert_eq!(extracted.fields["Medications"], None, "an item without an answer is left");
    let waiting = extract(Shipped::IntakeForm, &form("in-progress"));
    assert_eq!((waiting.standing, fields(&waiting)), (Standing::Skip(Skip::Waiting), vec![]));
    let mistaken = extract(Shipped::IntakeForm, &form("entered-in-error"));
    assert_eq!(
        (mistaken.standing, fields(&mistaken)),
        (Standing::MarkOnly, expected(&[("Status", "text entered-in-error")]))
    );
}

fn observation(rest: Json) -> Json {
    let mut resource = json!({
        "resourceType": "Observation", "status": "final", "effectiveDateTime": "2024-01-15T15:00:00Z",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "subject": {"reference": "Patient/p-1"}
    });
    if let (Json::Object(resource), Json::Object(rest)) = (&mut resource, rest) {
        resource.extend(rest);
    }
    resource
}

#[test]
fn a_measurement_with_its_unit() {
    let weight = observation(json!({
        "code": {"coding": [{"system": "urn:local", "code": "W"}, {"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}], "text": "Weight"},
        "valueQuantity": {"value": 72.50, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
    }));
    let extracted = extract(Shipped::Measurement, &weight);
    assert_eq!(
        fields(&extracted),
        expected(&[
            ("Code", "text 29463-7"),
            ("Label", "text Weight"),
            ("MeasuredAt", "date-time 2024-01-15T10:00:00"),
            ("PatientFhirId", "text p-1"),
            ("Status", "text final"),
            ("Unit", "text kg"),
            ("Value", "number 72.5"),
        ])
    );
}

#[test]
fn a_blood_pressure_with_its_two_parts() {
    let part = |code: &str, value: u32, unit: &str| {
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
               "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": unit}})
    };
    let pressure = observation(json!({
        "status": "preliminary", "effectiveDateTime": "2012-09-17",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}], "text": "Blood pressure"},
        "component": [part("8480-6", 107, "mm[Hg]"), part("8462-4", 60, "kPa")]
    }));
    let extracted = extract(Shipped::Measurement, &pressure);
    assert_eq!(extracted.fields["Systolic"], Some(Value::Number("107".into())));
    assert_eq!((extracted.fields["Diastolic"].clone(), extracted.refused["Diastolic"]), (None, Refusal::UnitDiffers));
    assert_eq!(extracted.fields["Status"], Some(Value::Text("preliminary".into())));
    assert!(fields(&extracted).contains(&("MeasuredAt", "date-time 2012-09-17T00:00:00".into())));
    assert_eq!(extracted.refused.len(), 1);
}

#[test]
fn what_is_no_measurement_is_left_out() {
    let laboratory = observation(json!({"category": [{"coding": [{"code": "laboratory"}]}]}));
    assert_eq!(extract(Shipped::Measurement, &laboratory).standing, Standing::Skip(Skip::Filtered));
}

#[test]
fn a_progress_note() {
    let note = |status: &str, r#type: &str| {
        json!({
            "resourceType": "DocumentReference", "status": status, "docStatus": "final", "date": "2024-02-01T22:15:00-05:00",
            "type": {"coding": [{"system": "http://loinc.org", "code": r#type, "display": "Progress note"}]},
            "subject": {"reference": "https://chart.example/fhir/Patient/p-1", "type": "Patient"},
            "content": [
                {"attachment": {"contentType": "application/pdf", "url": "Binary/1"}},
                {"attachment": {"contentType": "text/plain; charset=utf-8", "data": "U1lOVEhFVElDIG5vdGUNCmxpbmUgMg==", "title": "Visit"}}
            ]
        })
    };
    let extracted = extract(Shipped::ProgressNote, &note("current", "11506-3"));
    assert_eq!(
        fields(&extracted),
        expected(&[
            ("NoteDate", "date-time 2024-02-01T22:15:00"),
            ("NoteText", "text SYNTHETIC note\nline 2"),
            ("PatientFhirId", "text p-1"),
            ("Status", "text final"),
            ("Title", "text Progress note"),
        ])
    );
    assert_eq!(extract(Shipped::ProgressNote, &note("current", "18842-5")).standing, Standing::Skip(Skip::Filtered));
    let superseded = extract(Shipped::ProgressNote, &note("superseded", "11506-3"));
    assert_eq!(
        (superseded.standing, fields(&superseded)),
        (Standing::MarkOnly, expected(&[("Status", "text superseded")]))
    );
}

#[test]
fn everything_that_happens_in_the_synthetic_clinic_is_carried_over() {
    let now = "2024-05-01T12:00:00Z".parse().unwrap();
    let mut generator = simulators::synthetic::Generator::new(7);
    let mut resources = generator.clinic(40, now);
    for resource in resources.clone() {
        resources.push(generator.change(&resource, now));
    }
    let mut empty: Vec<(Shipped, String)> = Vec::new();
    for which in [Shipped::Patient, Shipped::IntakeForm, Shipped::Measurement, Shipped::ProgressNote] {
        let mapping = shipped(which);
        let extracted: Vec<_> = resources
            .iter()
            .filter(|resource| resource["resourceType"] == mapping.resource.as_str())
            .map(|resource| extract(which, resource))
            .collect();
        assert!(extracted.len() >= 80);
        for one in &extracted {
            assert!(one.refused.is_empty(), "{which:?}: {:?}", one.refused);
            assert_ne!(one.standing, Standing::Skip(Skip::Filtered));
            assert!(one.standing != Standing::Carry || one.parent.is_some() == mapping.parent.is_some());
        }
        let never = |field: &&String| extracted.iter().all(|one| one.fields[*field].is_none());
        empty.extend(mapping.table.fields.keys().filter(never).map(|field| (which, field.clone())));
    }
    assert_eq!(empty, [(Shipped::Patient, "State".to_owned())], "the synthetic addresses have no state");
}

/// A shipped mapping whose table is watched, and which of its fields do not go to the chart.
fn both_ways(which: Shipped) -> (ResourceMapping, Vec<(String, OneWay)>) {
    let mut mapping = shipped(which);
    mapping.table.changes = Some(ChangeFields { uuid: "UUID".into(), modified: "ModifiedAt".into() });
    let one_way =
        mapping.table.fields.keys().filter_map(|field| Some((field.clone(), mapping.one_way(field)?))).collect();
    (mapping, one_way)
}

#[test]
fn what_is_deleted_on_one_side_is_inactive_on_the_other() {
    let flags = |which| shipped(which).inactive.map(|inactive| (inactive.field, inactive.value));
    assert_eq!(flags(Shipped::Patient), Some(("Active".into(), Value::Flag(false))));
    assert_eq!(flags(Shipped::IntakeForm), None);
}

#[test]
fn every_shipped_mapping_goes_both_ways() {
    let text = |text: &str| Value::Text(text.into());
    let number = |digits: &str| Value::Number(digits.into());
    let noon = || Value::DateTime(jiff::civil::date(2026, 3, 2).at(12, 0, 0, 0));
    let patient = vec![
        ("LastName", text("Testpatient")),
        ("FirstName", text("Petra Synthetic")),
        ("BirthDate", Value::Date(jiff::civil::date(1974, 12, 25))),
        ("Sex", text("F")),
        ("Phone", text("555-010-5613")),
        ("Email", text("petra@example.org")),
        ("Street", text("534 Synthetic St, Apt 2")),
        ("City", text("Pleasantville")),
        ("State", text("NY")),
        ("PostalCode", text("10570-0001")),
        ("MRN", text("0012345")),
        ("Active", Value::Flag(true)),
    ];
    let form = vec![
        ("Allergies", text("Latex; Pollen")),
        ("Medications", text("SYNTHETIC")),
        ("ReasonForVisit", text("SYNTHETIC rash")),
        ("SmokerYesNo", Value::Flag(false)),
        ("PainScore", number("3")),
    ];
    let measurement = vec![
        ("Code", text("29463-7")),
        ("Value", number("72.5")),
        ("Unit", text("kg")),
        ("MeasuredAt", noon()),
        ("Systolic", number("120")),
        ("Diastolic", number("80")),
    ];
    let note = vec![("Title", text("SYNTHETIC note")), ("NoteDate", noon()), ("NoteText", text("SYNTHETIC\ntext"))];
    let chart = |field: &str| (field.to_owned(), OneWay::Chart);
    let declared = |field: &str| (field.to_owned(), OneWay::Declared);
    for (which, values, expected) in [
        (Shipped::Patient, patient, vec![]),
        (Shipped::IntakeForm, form, vec![declared("Authored"), chart("PatientFhirId"), chart("Status")]),
        (Shipped::Measurement, measurement, vec![declared("Label"), chart("PatientFhirId"), chart("Status")]),
        (Shipped::ProgressNote, note, vec![chart("PatientFhirId"), chart("Status")]),
    ] {
        let (mapping, one_way) = both_ways(which);
        assert_eq!(one_way, expected, "{which:?}");
        // Every field that goes to the chart is in the row, arrives in a new resource, and comes back as it was.
        let row: Fields = values.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        let writable = mapping.table.fields.keys().filter(|field| mapping.writable(field));
        assert!(writable.eq(row.keys()), "{which:?}");
        let identifier = Identifier { system: "urn:chart-relay:row".into(), value: "r-1".into() };
        let zone = TimeZone::get("America/New_York").unwrap();
        let made = mapping.new_resource(&row, ResourceId::new("p-1").ok().as_ref(), &identifier, &zone);
        assert!(made.refused.is_empty(), "{which:?}: {:?}", made.refused);
        assert!(mapping.applies(&made.json), "{which:?}");
        let back = mapping.extract(&made.json, &zone);
        assert_eq!((back.standing, back.refused.len()), (Standing::Carry, 0), "{which:?}");
        for (field, value) in &row {
            assert_eq!(back.fields[field].as_ref(), Some(value), "{which:?} {field}: {}", made.json);
        }
        // An edit of each of them does too, or is refused for a reason that was meant.
        for (field, value) in &row {
            let edited = match value {
                Value::Text(_) if field == "Sex" => text("M"),
                Value::Text(_) if field == "Phone" => text("555-010-0199"),
                Value::Text(_) if field == "PostalCode" => text("10571"),
                Value::Text(content) => text(&format!("{content} x").to_lowercase()),
                Value::Number(_) => number("4"),
                Value::Date(_) => Value::Date(jiff::civil::date(1975, 1, 1)),
                Value::DateTime(_) => Value::DateTime(jiff::civil::date(2026, 7, 2).at(12, 30, 0, 0)),
                Value::Flag(flag) => Value::Flag(!flag),
                Value::Blank => unreachable!(),
            };
            let applied = mapping.apply(&made.json, &Fields::from([(field.clone(), edited.clone())]), &zone);
            match applied.refused.get(field) {
                None => {
                    assert_eq!(mapping.extract(&applied.json, &zone).fields[field], Some(edited), "{which:?} {field}");
                }
                Some(refusal) => {
                    let meant = [("Code", Refusal::Coded), ("Unit", Refusal::UnitDiffers)];
                    assert!(meant.contains(&(field.as_str(), *refusal)), "{which:?} {field} {refusal:?}");
                }
            }
        }
    }
}
