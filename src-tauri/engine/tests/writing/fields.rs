//! Field by field, status by status.

use std::collections::BTreeMap;

use engine::{
    key::{ResourceId, ResourceType},
    mapping::{
        Applied, Codes, DayOnly, Direction, Filter, Kind, OneWay, Parent, Refusal, ResourceMapping, Rule, States, Unit,
        sign,
    },
    ports::Identifier,
    row::{Fields, Value},
};
use jiff::civil::date;
use serde_json::{Value as Json, json};

use super::{assert_same, fields, named, number, of, path, patient, phone, put, rule, text, zone};

#[test]
fn a_value_goes_where_it_is_read_from_and_a_new_one_where_the_first_path_says() {
    let others = json!([
        {"system": "email", "value": "synthetic@example.org", "rank": 1},
        {"system": "phone", "use": "work", "value": "555-010-0100"}
    ]);
    // There: in its place, whatever else stands in the entry.
    let resource = json!({"telecom": [
        others[0], {"system": "phone", "use": "home", "value": "(555) 010-0199", "rank": 2, "extension": [{"url": "urn:x", "valueDecimal": 1}]}, others[1]
    ]});
    let mut expected = resource.clone();
    expected["telecom"][1]["value"] = json!("555-010-0123");
    assert_same(&patient(phone(), &resource, text("5550100123")), &expected);
    // The same in another spelling is the same.
    assert_same(&patient(phone(), &resource, text("555.010.0199")), &resource);
    // Not there: a new entry behind the others, as the first path says.
    let made = patient(phone(), &json!({"telecom": others}), text("555-010-0123"));
    let new = json!({"system": "phone", "use": "mobile", "value": "555-010-0123"});
    assert_same(&made, &json!({"telecom": [others[0], others[1], new]}));
    assert_same(
        &patient(phone(), &json!({"active": true}), text("555-010-0123")),
        &json!({"active": true, "telecom": [new]}),
    );
    // An entry that lacks its value is filled.
    let empty = json!({"telecom": [{"system": "phone", "use": "mobile", "rank": 1}]});
    let filled = json!({"telecom": [{"system": "phone", "use": "mobile", "rank": 1, "value": "555-010-0123"}]});
    assert_same(&patient(phone(), &empty, text("555-010-0123")), &filled);
    // Of several of one use, the first.
    let two = json!({"telecom": [{"system": "phone", "use": "home", "value": "1"}, {"system": "phone", "use": "home", "value": "2"}]});
    assert_eq!(patient(phone(), &two, text("555-010-0123")).unwrap()["telecom"][1], two["telecom"][1]);
}

#[test]
fn blank_takes_away_the_value_and_what_held_nothing_else() {
    let resource =
        json!({"telecom": [{"system": "email", "value": "x"}, {"system": "phone", "use": "home", "value": "1"}]});
    assert_same(&patient(phone(), &resource, Value::Blank), &json!({"telecom": [{"system": "email", "value": "x"}]}));
    let alone = json!({"telecom": [{"system": "phone", "value": "1"}], "active": true});
    assert_same(&patient(phone(), &alone, Value::Blank), &json!({"active": true}));
    // What says anything else stays.
    let ranked = json!({"telecom": [{"system": "phone", "use": "home", "value": "1", "rank": 1}]});
    assert_same(
        &patient(phone(), &ranked, Value::Blank),
        &json!({"telecom": [{"system": "phone", "use": "home", "rank": 1}]}),
    );
    // Nothing to take away.
    assert_same(&patient(phone(), &json!({"active": true}), Value::Blank), &json!({"active": true}));
    // Another number would show, and nobody asked to take that away.
    let two = json!({"telecom": [{"system": "phone", "use": "mobile", "value": "1"}, {"system": "phone", "use": "home", "value": "2"}]});
    assert_eq!(patient(phone(), &two, Value::Blank), Err(Refusal::AnotherShows));
    // The id and extensions of the element are not its value.
    let born = json!({"birthDate": "1950-03-01", "_birthDate": {"extension": [{"url": "urn:t", "valueDateTime": "1950-03-01T14:35:45-05:00"}]}});
    assert_same(
        &patient(rule(&["birthDate"], Kind::Date), &born, Value::Blank),
        &json!({"_birthDate": born["_birthDate"]}),
    );
    let moved = patient(rule(&["birthDate"], Kind::Date), &born, Value::Date(date(1950, 3, 2))).unwrap();
    assert_eq!((&moved["birthDate"], &moved["_birthDate"]), (&json!("1950-03-02"), &born["_birthDate"]));
}

#[test]
fn one_field_of_an_entry_leaves_the_others_of_it() {
    let city = |value| {
        let mapping = of(
            "Patient",
            vec![
                named("City", &["address[use=home][0].city"], Kind::Text),
                named("State", &["address[use=home][0].state"], Kind::Text),
            ],
        );
        let resource = json!({"resourceType": "Patient", "address": [{"use": "home", "city": "Exampletown", "state": "NY", "period": {"start": "2020"}}]});
        mapping.apply(&resource, &fields([("City", value)]), &zone()).json
    };
    let rest = json!([{"use": "home", "state": "NY", "period": {"start": "2020"}}]);
    assert_eq!(city(Value::Blank)["address"], rest);
    assert_eq!(city(text("Sampleville"))["address"][0]["city"], "Sampleville");
    // An entry keeps its number among its like, if another field depends on it.
    let mapping = of(
        "Patient",
        vec![
            named("First", &["telecom[system=phone][0].value"], Kind::Text),
            named("Second", &["telecom[system=phone][1].value"], Kind::Text),
        ],
    );
    let two = json!({"resourceType": "Patient", "telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2"}]});
    let applied = mapping.apply(&two, &fields([("First", Value::Blank)]), &zone());
    assert_eq!(applied.json["telecom"], json!([{"system": "phone"}, {"system": "phone", "value": "2"}]));
}

#[test]
fn a_joined_text_is_taken_apart_as_far_as_it_can_be_told() {
    let names = || Rule { join: Some(" ".into()), ..rule(&["name[use=official].given"], Kind::Text) };
    let given = |items: Json| json!({"name": [{"use": "maiden", "given": ["Other"]}, {"use": "official", "family": "Testpatient", "given": items}]});
    for (items, value, expected) in [
        (json!(["Ada", "Synthetic"]), "Ada Sample", Some(json!(["Ada", "Sample"]))),
        (json!(["Ada", "Synthetic"]), "Ada", Some(json!(["Ada"]))),
        (json!(["Ada", "Synthetic"]), "Synthetic", Some(json!(["Synthetic"]))),
        (json!(["Ada"]), "Ada B. Sample", Some(json!(["Ada", "B.", "Sample"]))),
        (json!(["Ada", "Sample"]), "Eva Ada Sample", Some(json!(["Eva", "Ada", "Sample"]))),
        // Two words in one: they stay one where they are not touched, or where they alone are.
        (json!(["Mary Ann", "Lee"]), "Mary Ann Leigh", Some(json!(["Mary Ann", "Leigh"]))),
        (json!(["Mary Ann", "Lee"]), "Mary Jane Lee", Some(json!(["Mary Jane", "Lee"]))),
        (json!(["Mary Ann", "Lee"]), "Jane Doe", None),
    ] {
        let made = patient(names(), &given(items.clone()), text(value));
        match expected {
            Some(expected) => assert_same(&made, &given(expected)),
            None => assert_eq!(made, Err(Refusal::NotSplit), "{items} {value}"),
        }
    }
    let mut nameless = given(json!([]));
    nameless["name"][1].as_object_mut().unwrap().shift_remove("given");
    assert_same(&patient(names(), &nameless, text("Ada Sample")), &given(json!(["Ada", "Sample"])));
    assert_same(&patient(names(), &given(json!(["Ada", "Sample"])), Value::Blank), &nameless);
    // Each keeps its own extensions.
    let mut twins = given(json!(["Ada", "Synthetic"]));
    twins["name"][1]["_given"] = json!([null, {"id": "second"}]);
    let made = patient(names(), &twins, text("Eva Ada Synthetic")).unwrap();
    assert_eq!(made["name"][1]["_given"], json!([null, null, {"id": "second"}]));
    let made = patient(names(), &twins, text("Ada")).unwrap();
    assert_eq!(
        (&made["name"][1]["given"], &made["name"][1]["_given"]),
        (&json!(["Ada", null]), &twins["name"][1]["_given"])
    );
}

#[test]
fn answers_go_to_their_question_wherever_it_stands() {
    let answer = |kind| rule(&["item[linkId=q].answer.value"], kind);
    let form = |item: Json| json!({"status": "completed", "item": [{"linkId": "group", "text": "SYNTHETIC", "item": [{"linkId": "other", "answer": [{"valueBoolean": true}]}, item]}]});
    let smoker = || Rule {
        codes: Some(Codes {
            map: [("true", "1"), ("false", "0"), ("Y", "1"), ("N", "0"), ("urn:s|y", "1"), ("urn:s|n", "0")]
                .map(|(code, text)| (code.to_owned(), text.to_owned()))
                .into(),
            keep_others: false,
        }),
        ..answer(Kind::Flag)
    };
    for (before, after) in [
        (json!({"valueBoolean": true}), json!({"valueBoolean": false})),
        (
            json!({"valueCoding": {"system": "urn:0136", "code": "Y", "display": "Yes"}}),
            json!({"valueCoding": {"system": "urn:0136", "code": "N"}}),
        ),
        (
            json!({"valueCoding": {"system": "urn:s", "code": "y", "extension": []}}),
            json!({"valueCoding": {"system": "urn:s", "code": "n", "extension": []}}),
        ),
    ] {
        let question = |answer: &Json| form(json!({"linkId": "q", "text": "SYNTHETIC", "answer": [answer]}));
        assert_same(&put("QuestionnaireResponse", smoker(), &question(&before), Value::Flag(false)), &question(&after));
    }
    // Not answered yet: the type is the field's.
    let unanswered = form(json!({"linkId": "q", "text": "SYNTHETIC"}));
    for (rule, value, answer) in [
        (smoker(), Value::Flag(false), json!({"valueBoolean": false})),
        (answer(Kind::Text), text("SYNTHETIC"), json!({"valueString": "SYNTHETIC"})),
        (answer(Kind::Number(Unit::none())), number("3"), json!({"valueInteger": 3})),
        (answer(Kind::Number(Unit::none())), number("3.5"), json!({"valueDecimal": 3.5})),
        (answer(Kind::Date), Value::Date(date(2024, 3, 1)), json!({"valueDate": "2024-03-01"})),
        (
            answer(Kind::Attachment),
            text("a"),
            json!({"valueAttachment": {"contentType": "text/plain; charset=utf-8", "data": "YQ=="}}),
        ),
    ] {
        let expected = form(json!({"linkId": "q", "text": "SYNTHETIC", "answer": [answer]}));
        assert_same(&put("QuestionnaireResponse", rule.clone(), &unanswered, value), &expected);
        assert_same(&put("QuestionnaireResponse", rule, &expected, Value::Blank), &unanswered);
    }
    // Not there at all: a new question at the end, or in the groups that the path names.
    let new = json!({"linkId": "q", "answer": [{"valueString": "SYNTHETIC"}]});
    let other = form(json!({"linkId": "third"}));
    let mut behind = other.clone();
    behind["item"].as_array_mut().unwrap().push(new.clone());
    assert_same(&put("QuestionnaireResponse", answer(Kind::Text), &other, text("SYNTHETIC")), &behind);
    let mut inside = other.clone();
    inside["item"][0]["item"].as_array_mut().unwrap().push(new);
    let grouped = rule(&["item[linkId=group].item[linkId=q].answer.value"], Kind::Text);
    assert_same(&put("QuestionnaireResponse", grouped, &other, text("SYNTHETIC")), &inside);
    // Several answers, some of them codes: those that stay, stay codes; no text becomes one.
    let list = || Rule { join: Some("; ".into()), ..answer(Kind::Text) };
    let nuts = json!({"valueCoding": {"system": "urn:a", "code": "1", "display": "Nuts"}});
    let question = |answers: Json| form(json!({"linkId": "q", "answer": answers}));
    let both = question(json!([nuts, {"valueString": "Latex"}]));
    let write = |value: &str| put("QuestionnaireResponse", list(), &both, text(value));
    assert_same(&write("Nuts; Pollen"), &question(json!([nuts, {"valueString": "Pollen"}])));
    assert_same(
        &write("Nuts; Latex; Pollen"),
        &question(json!([nuts, {"valueString": "Latex"}, {"valueString": "Pollen"}])),
    );
    assert_same(&write("Latex"), &question(json!([{"valueString": "Latex"}])));
    assert_eq!(write("Peanuts; Latex"), Err(Refusal::Coded));
}

#[test]
fn a_number_keeps_its_unit_and_its_place_in_the_quantity() {
    let ucum = "http://unitsofmeasure.org";
    let pressure = || {
        rule(
            &["component[code=http://loinc.org|8480-6].valueQuantity"],
            Kind::Number(Unit::OneOf(vec!["mm[Hg]".into(), "mmHg".into()])),
        )
    };
    let component = |quantity: Json| json!({"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}], "text": "SYNTHETIC"}, "valueQuantity": quantity});
    let raw = r#"{"value":120.50,"unit":"mm Hg","system":"http://unitsofmeasure.org","code":"mm[Hg]","extension":[{"url":"urn:x","valueDecimal":1.10}]}"#;
    let quantity: Json = serde_json::from_str(raw).unwrap();
    let other = json!({"code": {"text": "SYNTHETIC"}, "valueQuantity": {"value": 1}});
    let resource = json!({"component": [other, component(quantity.clone())]});
    // Equal in value is equal: the chart keeps its digits.
    assert_same(&put("Observation", pressure(), &resource, number("120.5")), &resource);
    let made = put("Observation", pressure(), &resource, number("131.25")).unwrap();
    assert_eq!(made["component"][1]["valueQuantity"].to_string(), raw.replace("120.50", "131.25"));
    assert_eq!(made["component"][0], other);
    // A new one says the unit by code and by name.
    let made = put("Observation", pressure(), &json!({"component": [other]}), number("120")).unwrap();
    let new = json!({"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": 120, "unit": "mmHg", "system": ucum, "code": "mm[Hg]"}});
    assert_eq!(made["component"], json!([other, new]));
    assert_eq!(put("Observation", pressure(), &made, Value::Blank).unwrap(), json!({"component": [other]}));
    // A whole number stays one, and a text a text.
    let score = |kind: Kind| rule(&["value"], kind);
    let plain = || Kind::Number(Unit::none());
    for (before, value, expected) in [
        (json!({"valueInteger": 3}), "4", Ok(json!({"valueInteger": 4}))),
        (json!({"valueInteger": 3}), "4.5", Err(Refusal::WrongType)),
        (json!({"valueDecimal": 3}), "4.5", Ok(json!({"valueDecimal": 4.5}))),
        (json!({"valueString": "3"}), "4.5", Ok(json!({"valueString": "4.5"}))),
        (
            json!({"valueQuantity": {"value": 3, "system": ucum, "code": "1"}}),
            "4",
            Ok(json!({"valueQuantity": {"value": 4, "system": ucum, "code": "1"}})),
        ),
    ] {
        assert_eq!(put("Observation", score(plain()), &before, number(value)), expected, "{before}");
    }
    // What cannot be read is not written over.
    let pounds = json!({"valueQuantity": {"value": 160, "system": ucum, "code": "[lb_av]"}});
    let weight = score(Kind::Number(Unit::OneOf(vec!["kg".into()])));
    assert_eq!(put("Observation", weight, &pounds, number("72")), Err(Refusal::UnitDiffers));
}

fn measured() -> ResourceMapping {
    of(
        "Observation",
        vec![
            named("Unit", &["valueQuantity.code", "valueQuantity.unit"], Kind::Text),
            named("Value", &["valueQuantity", "valueInteger"], Kind::Number(Unit::Beside("Unit".into()))),
        ],
    )
}

#[test]
fn a_number_and_the_field_that_says_its_unit_go_together() {
    let apply = |resource: &Json, values: Fields| {
        let applied = measured().apply(resource, &values, &zone());
        let same = !applied.changed && applied.json == *resource;
        assert_eq!(same, applied.json == *resource);
        applied
    };
    let observation = |quantity: Json| json!({"resourceType": "Observation", "valueQuantity": quantity});
    let ucum = "http://unitsofmeasure.org";
    let weight = observation(json!({"value": 72.50, "unit": "kilogram", "system": ucum, "code": "kg"}));
    let heavier = observation(json!({"value": 73, "unit": "kilogram", "system": ucum, "code": "kg"}));
    assert_eq!(apply(&weight, fields([("Value", number("73"))])).json, heavier);
    assert_eq!(apply(&weight, fields([("Value", number("73")), ("Unit", text("kg"))])).json, heavier);
    for other in [fields([("Value", number("160")), ("Unit", text("[lb_av]"))]), fields([("Unit", text("[lb_av]"))])] {
        let refused = apply(&weight, other);
        assert!(!refused.changed && refused.refused.values().all(|refusal| *refusal == Refusal::UnitDiffers));
        assert!(refused.refused.contains_key("Unit"));
    }
    let none = json!({"resourceType": "Observation"});
    let both = |unit: &str| fields([("Value", number("72.5")), ("Unit", text(unit))]);
    let known = json!({"value": 72.5, "unit": "kg", "system": ucum, "code": "kg"});
    assert_eq!(apply(&none, both("kg")).json, observation(known));
    assert_eq!(
        apply(&none, both("stone")).json,
        observation(json!({"value": 72.5, "unit": "stone"})),
        "no code is made up"
    );
    assert_eq!(apply(&none, fields([("Value", number("3"))])).json, observation(json!({"value": 3})), "nor is a unit");
    assert_eq!(apply(&weight, fields([("Value", Value::Blank), ("Unit", Value::Blank)])).json, none);
}

#[test]
fn times_are_the_clinics_wall_clock_in_the_charts_own_style() {
    let at = |day_only| rule(&["effective"], Kind::DateTime(day_only));
    let summer = Value::DateTime(date(2024, 7, 15).at(9, 30, 0, 0));
    for (before, day_only, value, expected) in [
        (json!("2024-07-15T15:04:05.987Z"), DayOnly::Refuse, summer.clone(), Ok("2024-07-15T13:30:00Z")),
        (json!("2024-07-15T15:04:05+02:00"), DayOnly::Refuse, summer.clone(), Ok("2024-07-15T09:30:00-04:00")),
        (json!("2024-01-15"), DayOnly::Midnight, summer.clone(), Ok("2024-07-15T09:30:00-04:00")),
        (json!("2024-01-15"), DayOnly::Midnight, Value::DateTime(date(2024, 1, 16).at(0, 0, 0, 0)), Ok("2024-01-16")),
        // Twice, and not at all.
        (
            json!("2024-01-15T15:00:00Z"),
            DayOnly::Refuse,
            Value::DateTime(date(2024, 11, 3).at(1, 30, 0, 0)),
            Err(Refusal::NoSuchTime),
        ),
        (
            json!("2024-01-15T15:00:00Z"),
            DayOnly::Refuse,
            Value::DateTime(date(2024, 3, 10).at(2, 30, 0, 0)),
            Err(Refusal::NoSuchTime),
        ),
        // Fractions of a second are the chart's own.
        (json!("2024-07-15T13:30:00.987Z"), DayOnly::Refuse, summer.clone(), Ok("2024-07-15T13:30:00.987Z")),
    ] {
        let made = put("Observation", at(day_only), &json!({"effectiveDateTime": before}), value);
        assert_eq!(made, expected.map(|text| json!({"effectiveDateTime": text})), "{before}");
    }
    let made = put("Observation", at(DayOnly::Refuse), &json!({}), summer).unwrap();
    assert_eq!(made, json!({"effectiveDateTime": "2024-07-15T09:30:00-04:00"}));
    let day = || rule(&["effective"], Kind::Date);
    let midday = json!({"effectiveDateTime": "2024-07-15T15:00:00Z"});
    assert_eq!(put("Observation", day(), &midday, Value::Date(date(2024, 7, 16))), Err(Refusal::MorePrecise));
}

#[test]
fn a_text_in_words_never_replaces_a_code() {
    let label = || rule(&["code"], Kind::Text);
    for concept in
        [json!({"coding": [{"system": "urn:x", "code": "1", "display": "Listed"}]}), json!({"text": "Own words"})]
    {
        assert_eq!(put("Observation", label(), &json!({"code": concept}), text("Other")), Err(Refusal::Coded));
    }
    let code = || rule(&["code.coding[system=http://loinc.org][0].code", "code.coding[0].code"], Kind::Text);
    let coded =
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]}});
    assert_eq!(put("Observation", code(), &coded, text("8302-2")), Err(Refusal::Coded));
    let made = put("Observation", code(), &json!({}), text("29463-7")).unwrap();
    assert_eq!(made, json!({"code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}}));
    let sex = || Rule {
        codes: Some(Codes {
            map: [("male".into(), "M".into()), ("female".into(), "F".into())].into(),
            keep_others: false,
        }),
        ..rule(&["gender"], Kind::Text)
    };
    assert_eq!(patient(sex(), &json!({"gender": "male"}), text("F")), Ok(json!({"gender": "female"})));
    assert_eq!(patient(sex(), &json!({}), text("F")), Ok(json!({"gender": "female"})));
    assert_eq!(patient(sex(), &json!({"gender": "male"}), text("X")), Err(Refusal::CodeUnknown));
    assert_eq!(
        patient(sex(), &json!({"gender": "other"}), text("F")),
        Err(Refusal::CodeUnknown),
        "unread, so not written over"
    );
}

#[test]
fn references_change_their_target_and_attachments_their_text() {
    let subject = || rule(&["subject"], Kind::Reference);
    let was = json!({"subject": {"reference": "Patient/p-1", "display": "Testpatient, Ada"}});
    assert_eq!(put("Observation", subject(), &was, text("p-2")), Ok(json!({"subject": {"reference": "Patient/p-2"}})));
    assert_eq!(put("Observation", subject(), &json!({}), text("p-2")), Err(Refusal::NoPlace), "of what type?");
    let note = || rule(&["content.attachment"], Kind::Attachment);
    let pdf = json!({"attachment": {"contentType": "application/pdf", "data": "JVBERg=="}});
    let plain = json!({"format": {"code": "x"}, "attachment": {"contentType": "text/markdown; charset=iso-8859-1", "language": "en", "data": "6Q==", "size": 1, "hash": "x"}});
    let made = put("DocumentReference", note(), &json!({"content": [pdf, plain]}), text("naïve")).unwrap();
    assert_eq!(made["content"][0], pdf);
    assert_eq!(
        made["content"][1],
        json!({"format": {"code": "x"}, "attachment": {"contentType": "text/markdown; charset=utf-8", "language": "en", "data": "bmHDr3Zl"}})
    );
}

fn notes() -> ResourceMapping {
    let mut mapping = of(
        "DocumentReference",
        vec![
            named("Title", &["description", "type"], Kind::Text),
            Rule {
                only_in: vec!["preliminary".into()],
                ..named("NoteText", &["content.attachment"], Kind::Attachment)
            },
        ],
    );
    let parent = Parent {
        path: path("subject"),
        resource: ResourceType::new("Patient").unwrap(),
        field: "PatientFhirId".into(),
    };
    let states = States {
        paths: vec![path("status"), path("docStatus")],
        field: "Status".into(),
        wait: vec!["in-progress".into()],
        mark: vec!["entered-in-error".into(), "superseded".into()],
        amended: BTreeMap::from([("final".into(), "amended".into())]),
        new: vec![(path("status"), "current".into()), (path("docStatus"), "preliminary".into())],
    };
    mapping.parent = Some(parent);
    mapping.states = Some(states);
    mapping.only = vec![Filter { path: path("type"), codes: vec!["http://loinc.org|11506-3".into()] }];
    mapping
}

fn note(status: &str, doc_status: &str) -> Json {
    json!({
        "resourceType": "DocumentReference", "status": status, "docStatus": doc_status, "description": "SYNTHETIC",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "content": [{"attachment": {"contentType": "text/plain", "data": "YQ=="}}]
    })
}

#[test]
fn every_status_has_its_rule() {
    let title = fields([("Title", text("SYNTHETIC correction"))]);
    let body = fields([("NoteText", text("b"))]);
    for (status, doc_status, values, expected) in [
        ("current", "final", &title, Ok("amended")),
        ("current", "amended", &title, Ok("amended")),
        ("current", "preliminary", &title, Ok("preliminary")),
        ("current", "preliminary", &body, Ok("preliminary")),
        ("current", "final", &body, Err(Refusal::Closed)),
        ("superseded", "final", &title, Err(Refusal::Closed)),
        ("current", "entered-in-error", &title, Err(Refusal::Closed)),
        ("in-progress", "", &title, Err(Refusal::Closed)),
    ] {
        let resource = note(status, doc_status);
        let applied = notes().apply(&resource, values, &zone());
        let field = values.keys().next().unwrap();
        match expected {
            Ok(after) => {
                assert_eq!((&applied.json["status"], &applied.json["docStatus"]), (&json!(status), &json!(after)));
                assert!(applied.changed && applied.refused.is_empty(), "{status} {doc_status}");
            }
            Err(refusal) => {
                assert_eq!(
                    (applied.refused[field], applied.json == resource),
                    (refusal, true),
                    "{status} {doc_status}"
                );
            }
        }
    }
    // Nothing changed, nothing amended; and the status itself is the chart's.
    let same = notes().apply(&note("current", "final"), &fields([("Title", text("SYNTHETIC"))]), &zone());
    assert_eq!((same.changed, &same.json["docStatus"]), (false, &json!("final")));
    let status = notes().apply(&note("current", "final"), &fields([("Status", text("superseded"))]), &zone());
    assert_eq!((status.changed, status.refused["Status"]), (false, Refusal::OneWay));
}

#[test]
fn a_new_resource_is_one_that_the_mapping_is_for() {
    let identifier = Identifier { system: "urn:chart-relay:row".into(), value: "r-1".into() };
    let parent = ResourceId::new("p-1").unwrap();
    let values = fields([
        ("Title", text("SYNTHETIC")),
        ("NoteText", text("a")),
        ("Status", text("final")),
        ("PatientFhirId", text("p-1")),
    ]);
    let made = notes().new_resource(&values, Some(&parent), &identifier, &zone());
    assert!(made.refused.is_empty(), "{:?}", made.refused);
    assert_eq!(
        made.json,
        json!({
            "resourceType": "DocumentReference",
            "identifier": [{"system": "urn:chart-relay:row", "value": "r-1"}],
            "status": "current", "docStatus": "preliminary",
            "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
            "subject": {"reference": "Patient/p-1"},
            "description": "SYNTHETIC",
            "content": [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": "YQ=="}}]
        })
    );
    let read = notes().extract(&made.json, &zone());
    assert!(notes().applies(&made.json) && read.refused.is_empty());
    assert_eq!(read.fields["Title"], Some(text("SYNTHETIC")));
    // A form has one identifier, and a blank field is no element.
    let form = of("QuestionnaireResponse", vec![rule(&["item[linkId=q].answer.value"], Kind::Text)]);
    let made = form.new_resource(&fields([("Field", Value::Blank)]), None, &identifier, &zone()).json;
    assert_eq!(
        made,
        json!({"resourceType": "QuestionnaireResponse", "identifier": {"system": "urn:chart-relay:row", "value": "r-1"}})
    );
}

#[test]
fn a_field_that_cannot_lead_back_says_why() {
    let codes = |pairs: &[(&str, &str)]| {
        Some(Codes { map: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(), keep_others: true })
    };
    for (rule, expected) in [
        (rule(&["birthDate"], Kind::Date), None),
        (Rule { direction: Direction::ToFileMaker, ..rule(&["birthDate"], Kind::Date) }, Some(OneWay::Declared)),
        (Rule { codes: codes(&[("male", "M"), ("other", "M")]), ..rule(&["gender"], Kind::Text) }, Some(OneWay::Codes)),
        (Rule { codes: codes(&[("true", "1"), ("Y", "1")]), ..rule(&["active"], Kind::Flag) }, None),
        (Rule { join: Some(String::new()), ..rule(&["name.given"], Kind::Text) }, Some(OneWay::Join)),
        (Rule { join: Some(" ".into()), ..rule(&["photo"], Kind::Attachment) }, Some(OneWay::Join)),
        (rule(&["name[family=X].family"], Kind::Text), Some(OneWay::Selector)),
    ] {
        let mapping = of("Patient", vec![rule]);
        assert_eq!((mapping.one_way("Field"), mapping.writable("Field")), (expected, expected.is_none()));
    }
    let mut unwatched = of("Patient", vec![rule(&["birthDate"], Kind::Date)]);
    unwatched.table.changes = None;
    assert_eq!(unwatched.one_way("Field"), Some(OneWay::Unwatched));
    assert_eq!(unwatched.direction("Field"), Direction::ToFileMaker);
    assert_eq!(notes().one_way("Status"), Some(OneWay::Chart));
    let Applied { changed, refused, .. } = unwatched.apply(
        &json!({"resourceType": "Patient"}),
        &fields([("Field", Value::Date(date(1950, 1, 1)))]),
        &zone(),
    );
    assert_eq!((changed, refused["Field"]), (false, Refusal::OneWay));
}

#[test]
fn our_mark_takes_the_place_of_our_mark_alone() {
    let mut resource = json!({"meta": {"profile": ["urn:p"], "tag": [{"system": "urn:other", "code": "x"}]}});
    sign(&mut resource, "desk-1");
    sign(&mut resource, "desk-2");
    let expected = json!([{"system": "urn:other", "code": "x"}, {"system": "urn:chart-relay", "code": "desk-2"}]);
    assert_eq!(resource["meta"], json!({"profile": ["urn:p"], "tag": expected}));
}
