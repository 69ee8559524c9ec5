//! What holds for any patient and any edit.

use std::collections::BTreeMap;

use engine::{
    mapping::{Codes, Form, Kind, ResourceMapping, Rule},
    row::{Fields, Value},
};
use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{fields, named, of, phone, text, zone};

/// A patient as portals have them: several names and telecoms, extensions on elements and on primitives, long decimals.
fn any_patient() -> impl Strategy<Value = Json> {
    let word = || {
        prop::sample::select(vec![
            "Ada",
            "Testpatient",
            "Mary Ann",
            "de la Cruz",
            "\u{c9}va",
            "x",
            "Exampletown",
            "12 Sample St",
        ])
    };
    let telecom = (
        prop::sample::select(vec!["phone", "email", "fax"]),
        prop::option::of(prop::sample::select(vec!["home", "work", "mobile"])),
        prop::option::of(prop::sample::select(vec!["555-010-0100", "(555) 010-0101", "Synthetic@Example.org", " "])),
        any::<bool>(),
    )
        .prop_map(|(system, r#use, value, extended)| {
            let mut entry = json!({"system": system});
            if let Some(r#use) = r#use {
                entry["use"] = json!(r#use);
            }
            if let Some(value) = value {
                entry["value"] = json!(value);
            }
            if extended {
                entry["extension"] =
                    serde_json::from_str(r#"[{"url":"urn:x","valueDecimal":1.00000000000000000010}]"#).unwrap();
            }
            entry
        });
    let name = (
        prop::option::of(prop::sample::select(vec!["official", "usual", "maiden", "old"])),
        prop::option::of(word()),
        prop::collection::vec(word(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(r#use, family, given, extended)| {
            let mut entry = json!({"period": {"start": "2020"}});
            if let Some(r#use) = r#use {
                entry["use"] = json!(r#use);
            }
            if let Some(family) = family {
                entry["family"] = json!(family);
                entry["_family"] = json!({"extension": [{"url": "urn:own-name", "valueString": family}]});
            }
            if !given.is_empty() {
                if extended {
                    let twins: Vec<Json> = given
                        .iter()
                        .enumerate()
                        .map(|(n, _)| if n == 0 { json!(null) } else { json!({"id": n.to_string()}) })
                        .collect();
                    entry["_given"] = json!(twins);
                }
                entry["given"] = json!(given);
            }
            entry
        });
    let address = (prop::option::of(Just("home")), prop::option::of(word()), prop::collection::vec(word(), 0..3))
        .prop_map(|(r#use, city, line)| {
            let mut entry = json!({"country": "XX"});
            if let Some(r#use) = r#use {
                entry["use"] = json!(r#use);
            }
            if let Some(city) = city {
                entry["city"] = json!(city);
            }
            if !line.is_empty() {
                entry["line"] = json!(line);
            }
            entry
        });
    (
        prop::collection::vec(name, 0..4),
        prop::collection::vec(telecom, 0..5),
        prop::collection::vec(address, 0..3),
        prop::option::of(prop::sample::select(vec!["1950-03-01", "1950-03", "1950"])),
        prop::option::of(prop::sample::select(vec!["male", "female", "other"])),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|(names, telecoms, addresses, born, gender, active)| {
            let mut patient = json!({"resourceType": "Patient", "id": "p-1", "text": {"status": "generated"}});
            for (name, list) in [("name", names), ("telecom", telecoms), ("address", addresses)] {
                if !list.is_empty() {
                    patient[name] = json!(list);
                }
            }
            patient["identifier"] = json!([{"system": "urn:other", "value": "1"}, {"system": "urn:mrn", "value": "2", "period": {"start": "2020"}}]);
            if let Some(born) = born {
                patient["birthDate"] = json!(born);
                patient["_birthDate"] = json!({"extension": [{"url": "urn:time", "valueDateTime": "1950-03-01T14:35:45-05:00"}]});
            }
            if let Some(gender) = gender {
                patient["gender"] = json!(gender);
            }
            if let Some(active) = active {
                patient["active"] = json!(active);
            }
            patient["extension"] = serde_json::from_str(r#"[{"url":"urn:y","valueDecimal":70.10}]"#).unwrap();
            patient
        })
}

fn demographics() -> ResourceMapping {
    let text = |field: &str, paths: &[&str]| named(field, paths, Kind::Text);
    let codes = [("male", "M"), ("female", "F"), ("other", "O")].map(|(code, text)| (code.to_owned(), text.to_owned()));
    of(
        "Patient",
        vec![
            text("LastName", &["name[use=official].family", "name[use=usual].family", "name[use=].family"]),
            Rule {
                join: Some(" ".into()),
                ..text("FirstName", &["name[use=official].given", "name[use=usual].given", "name[use=].given"])
            },
            named("BirthDate", &["birthDate"], Kind::Date),
            Rule { codes: Some(Codes { map: codes.into(), keep_others: false }), ..text("Sex", &["gender"]) },
            Rule { field: "Phone".into(), ..phone() },
            Rule {
                form: Form::Email,
                ..text("Email", &["telecom[system=email][use=home][0].value", "telecom[system=email][use=][0].value"])
            },
            Rule { join: Some(", ".into()), ..text("Street", &["address[use=home][0].line", "address[use=][0].line"]) },
            text("City", &["address[use=home][0].city", "address[use=][0].city"]),
            text("MRN", &["identifier[system=urn:mrn].value"]),
            named("Active", &["active"], Kind::Flag),
        ],
    )
}

fn any_edit() -> impl Strategy<Value = (&'static str, Value)> {
    let words = || {
        prop_oneof![
            Just(Value::Blank),
            prop::sample::select(vec![
                "Eva",
                "Eva Sample",
                "Ada Testpatient",
                "1 New St, Apt 2",
                "x y z",
                "5550100123",
                "New@Example.org"
            ])
            .prop_map(|words| Value::Text(words.to_owned())),
        ]
    };
    let field = prop::sample::select(vec!["LastName", "FirstName", "Phone", "Email", "Street", "City", "MRN"]);
    prop_oneof![
        4 => (field, words()),
        1 => prop::sample::select(vec![Value::Blank, Value::Date(date(1951, 4, 2))]).prop_map(|value| ("BirthDate", value)),
        1 => prop::sample::select(vec![Value::Blank, text("M"), text("F"), text("X")]).prop_map(|value| ("Sex", value)),
        1 => prop::sample::select(vec![Value::Blank, Value::Flag(true), Value::Flag(false)]).prop_map(|value| ("Active", value)),
    ]
}

/// Every value of a resource, with the names on the way to it but not its places in lists: what an edit must leave alone.
fn leaves(json: &Json, name: &str, found: &mut BTreeMap<(String, String), usize>) {
    match json {
        Json::Object(members) => {
            members.iter().for_each(|(member, json)| leaves(json, &format!("{name}/{member}"), found))
        }
        Json::Array(items) => items.iter().for_each(|item| leaves(item, name, found)),
        Json::Null => {}
        leaf => *found.entry((name.to_owned(), leaf.to_string())).or_default() += 1,
    }
}

/// The elements that an edit of a field may touch: its own, and the selectors of an entry that comes or goes with it.
fn elements_of(field: &str) -> &'static [&'static str] {
    match field {
        "LastName" => &["/name/family", "/name/use"],
        "FirstName" => &["/name/given", "/name/use"],
        "BirthDate" => &["/birthDate"],
        "Sex" => &["/gender"],
        "Phone" | "Email" => &["/telecom/value", "/telecom/system", "/telecom/use"],
        "Street" => &["/address/line", "/address/use"],
        "City" => &["/address/city", "/address/use"],
        "MRN" => &["/identifier/value", "/identifier/system"],
        _ => &["/active"],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_arrives_whole_or_not_at_all_and_touches_nothing_else(patient in any_patient(), (field, value) in any_edit()) {
        let mapping = demographics();
        let before = mapping.extract(&patient, &zone());
        let applied = mapping.apply(&patient, &fields([(field, value.clone())]), &zone());
        let after = mapping.extract(&applied.json, &zone());
        if applied.refused.is_empty() {
            let expected = Some(mapping.canonical(field, value.clone())).filter(|value| *value != Value::Blank);
            prop_assert!(after.fields[field] == expected, "{field} reads as written: {}", applied.json);
            let again = mapping.apply(&applied.json, &fields([(field, value)]), &zone());
            prop_assert_eq!((again.changed, again.json.to_string()), (false, applied.json.to_string()), "nothing is written twice");
        } else {
            prop_assert_eq!((applied.changed, applied.json.to_string()), (false, patient.to_string()));
        }
        for (other, value) in before.fields.iter().filter(|(other, _)| *other != field) {
            prop_assert!(after.fields[other] == *value, "{other} changed with {field}");
        }
        // Everything outside of the field's own elements is there as before, digit by digit.
        let (mut were, mut are) = (BTreeMap::new(), BTreeMap::new());
        leaves(&patient, "", &mut were);
        leaves(&applied.json, "", &mut are);
        let own = |(name, _): &(String, String)| elements_of(field).contains(&name.as_str());
        were.retain(|leaf, _| !own(leaf));
        are.retain(|leaf, _| !own(leaf));
        prop_assert_eq!(were, are);
    }

    #[test]
    fn a_resources_own_values_change_nothing(patient in any_patient()) {
        let mapping = demographics();
        let extracted = mapping.extract(&patient, &zone());
        let own: Fields = extracted.fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        let applied = mapping.apply(&patient, &own, &zone());
        prop_assert!(!applied.changed && applied.refused.is_empty());
        prop_assert_eq!(applied.json.to_string(), patient.to_string());
    }

    #[test]
    fn a_server_that_normalises_what_it_keeps_starts_nothing(patient in any_patient(), (field, value) in any_edit()) {
        let mapping = demographics();
        let applied = mapping.apply(&patient, &fields([(field, value)]), &zone());
        let mut kept = applied.json.clone();
        normalise(&mut kept);
        let (sent, read) = (mapping.extract(&applied.json, &zone()), mapping.extract(&kept, &zone()));
        prop_assert!(sent.fields == read.fields, "{} {}", applied.json, kept);
        let own: Fields = read.fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        prop_assert!(!mapping.apply(&kept, &own, &zone()).changed);
    }
}

/// As a server may keep it: phones and mail addresses in another spelling, white space levelled, members in another order.
fn normalise(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(normalise),
        Json::Object(members) => {
            let system = members.get("system").cloned();
            for (name, member) in members.iter_mut() {
                match (name.as_str(), member) {
                    ("value", Json::String(value)) => {
                        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
                        if system == Some(json!("phone")) && digits.len() == 10 {
                            *value = format!("+1 ({}) {}-{}", &digits[..3], &digits[3..6], &digits[6..]);
                        } else if system == Some(json!("email")) {
                            *value = value.to_uppercase();
                        }
                    }
                    ("family" | "city", Json::String(text)) => *text = format!(" {}\r\n", text.trim()),
                    ("given" | "line", Json::Array(texts)) => texts
                        .iter_mut()
                        .filter(|text| text.is_string())
                        .for_each(|text| *text = json!(format!("{} ", text.as_str().unwrap_or_default().trim()))),
                    (_, member) => normalise(member),
                }
            }
            let mut sorted: Vec<_> = std::mem::take(members).into_iter().collect();
            sorted.sort_by(|a, b| b.0.cmp(&a.0));
            members.extend(sorted);
        }
        _ => {}
    }
}
