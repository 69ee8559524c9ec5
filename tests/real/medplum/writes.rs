//! Writing to a server that this project did not write, and round trips of the official example patients through FileMaker.

use std::{collections::BTreeMap, sync::Arc};

use chart_relay::{
    adapters::{
        fhir::{
            FhirClient, Flavour,
            subscription::{Hook, Standing},
        },
        filemaker::{FileMaker, FileMakerConfig},
        secret::Secret,
    },
    config::{Shipped, shipped},
};
use engine::{
    error::{Class, Code},
    fakes::FakeClock,
    key::ResourceId,
    mapping::{ResourceMapping, sign},
    ports::{ClinicDatabase as _, Created, FhirServer as _, Identifier, Matching, Read, Resource},
    row::{ChangeFields, Fields, Value},
};
use jiff::{civil::date, tz::TimeZone};
use serde_json::{Value as Json, json};
use simulators::filemaker::{self as sim, Clinic};

use super::{Hand, kind, rig::Medplum, signed_in, walk};

async fn found(client: &FhirClient, name: &str, id: &ResourceId) -> Resource {
    match client.read(&kind(name), id).await.unwrap() {
        Read::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn newcomer(row: &str) -> Json {
    json!({
        "resourceType": "Patient",
        "identifier": [{"system": "urn:chart-relay:row", "value": row}],
        "name": [{"use": "official", "family": "T\u{e9}stpatient", "given": ["New"]}],
        "birthDate": "1950-03-01"
    })
}

#[tokio::test]
async fn writes_are_guarded_and_creations_find_what_is_there() {
    let server = Medplum::start(&["--examples", "3"]).await;
    let patient = kind("Patient");
    for flavour in [&Flavour::MEDPLUM, &Flavour::GENERIC] {
        let client = signed_in(&server, flavour, 200);
        let row = Identifier { system: "urn:chart-relay:row".into(), value: format!("r-{}", flavour.name) };
        let made = client.create(&patient, &newcomer(&row.value), &row).await.unwrap();
        assert!(!made.existed);
        let again = client.create(&patient, &newcomer(&row.value), &row).await.unwrap();
        assert_eq!(again, Created { existed: true, ..made.clone() });

        let mut json = found(&client, "Patient", &made.id).await.json;
        json["active"] = json!(true);
        let version = client.update(&patient, &made.id, &made.version, &json).await.unwrap();
        let kept = found(&client, "Patient", &made.id).await;
        assert_eq!((&kept.version, &kept.json["active"]), (&version, &json!(true)));
        assert!(kept.last_updated.is_some());
        let before = client.read_version(&patient, &made.id, &made.version).await.unwrap().unwrap();
        assert_eq!((&before.version, before.json.get("active")), (&made.version, None));
        assert_eq!(client.read_version(&patient, &made.id, "never").await.unwrap(), None);
        let fault = client.update(&patient, &made.id, &made.version, &json).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Stale, Code::RecordChanged));

        let by = Matching::Birth { day: date(1950, 3, 1), family: "Testpatient".into() };
        let candidates = client.matching(&patient, &by).await.unwrap();
        assert!(candidates.iter().all(|candidate| candidate.json["birthDate"] == "1950-03-01"));
        let by = Matching::Identifier(row.clone());
        let same = client.matching(&patient, &by).await.unwrap();
        assert_eq!(same.iter().map(|one| &one.id).collect::<Vec<_>>(), [&made.id]);

        // A second one with the identifier, made by another hand without a condition.
        let hand = Hand::on(&server).await;
        assert_eq!(hand.call(reqwest::Method::POST, "Patient", None, Some(&newcomer(&row.value))).await.0, 201);
        let fault = client.create(&patient, &newcomer(&row.value), &row).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Permanent, Code::SeveralMatches));

        hand.call(reqwest::Method::DELETE, &format!("Patient/{}", made.id), None, None).await;
        let fault = client.update(&patient, &made.id, &version, &json).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Stale, Code::RecordChanged), "deleted meanwhile");
        // What is no FHIR is refused, and it is that record's trouble.
        let wrong =
            json!({"resourceType": "Patient", "name": "no list", "identifier": newcomer("r-wrong")["identifier"]});
        let wrong_row = Identifier { system: "urn:chart-relay:row".into(), value: "r-wrong".into() };
        let fault = client.create(&patient, &wrong, &wrong_row).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Permanent, Code::Rejected));
    }
}

#[tokio::test]
async fn rest_hooks_are_set_up_and_switched_on_again() {
    let server = Medplum::start(&["--examples", "1"]).await;
    let (client, hand) = (signed_in(&server, &Flavour::MEDPLUM, 200), Hand::on(&server).await);
    let hook = Hook {
        endpoint: "https://hooks.example/v1/hook/north".parse().unwrap(),
        key: Secret::new("SYNTHETIC-hook-key"),
    };
    let types = [kind("Patient"), kind("Observation")];
    let standings = async || {
        let hooks = client.hooks(&types, &hook).await.unwrap();
        hooks.into_iter().map(|(_, standing)| standing).collect::<Vec<_>>()
    };
    assert_eq!(standings().await, [Standing::Missing, Standing::Missing]);
    client.hook_up(&types, &hook).await.unwrap();
    assert_eq!(standings().await, [Standing::Active, Standing::Active]);
    let (_, bundle) = hand.call(reqwest::Method::GET, "Subscription?criteria=Patient", None, None).await;
    let mut one = bundle["entry"][0]["resource"].clone();
    (one["status"], one["error"]) = (json!("off"), json!("SYNTHETIC reason"));
    let path = format!("Subscription/{}", one["id"].as_str().unwrap());
    assert_eq!(hand.call(reqwest::Method::PUT, &path, None, Some(&one)).await.0, 200);
    assert_eq!(standings().await, [Standing::Off(Some("SYNTHETIC reason".into())), Standing::Active]);
    client.hook_up(&types, &hook).await.unwrap();
    assert_eq!(standings().await, [Standing::Active, Standing::Active]);
    let (_, bundle) = hand.call(reqwest::Method::GET, "Subscription", None, None).await;
    assert_eq!(bundle["entry"].as_array().unwrap().len(), 2, "none is made twice");
}

/// A FileMaker that this project simulates, and the relay's own client of it.
async fn clinic() -> (sim::FileMaker, FileMaker) {
    let password = "SYNTHETIC-open-sesame";
    let host = sim::FileMaker::start(Clinic::synthetic("relay", password)).await.unwrap();
    let config = FileMakerConfig::new(host.base_url(), "Clinic", "relay");
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    (host, FileMaker::new(config, Secret::new(password), clock).unwrap())
}

fn mapping() -> ResourceMapping {
    let mut mapping = shipped(Shipped::Patient);
    mapping.table.changes.get_or_insert(ChangeFields { uuid: "Uuid".into(), modified: "ModifiedHost".into() });
    mapping
}

/// Every value of a resource under the names on the way to it. Numbers as numbers: this server keeps no trailing zeros.
fn leaves(json: &Json, name: &str, found: &mut BTreeMap<(String, String), usize>) {
    match json {
        Json::Object(members) => {
            for (member, json) in members.iter().filter(|(member, _)| !(name.is_empty() && *member == "meta")) {
                leaves(json, &format!("{name}/{member}"), found);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| leaves(item, name, found)),
        Json::Null => {}
        Json::Number(number) => {
            *found.entry((name.to_owned(), format!("{:?}", number.as_f64()))).or_default() += 1;
        }
        leaf => *found.entry((name.to_owned(), leaf.to_string())).or_default() += 1,
    }
}

/// What a person types into the field, and the elements that this may change.
const EDITS: [(&str, &str, &[&str]); 12] = [
    ("LastName", "Sample-Testpatient", &["/name/family", "/name/use"]),
    ("FirstName", "Synthetic Edit", &["/name/given", "/name/use"]),
    ("BirthDate", "04/02/1951", &["/birthDate"]),
    ("Sex", "U", &["/gender"]),
    ("Phone", "(555) 010-0142", &["/telecom/value", "/telecom/system", "/telecom/use"]),
    ("Email", "Synthetic.Edit@example.org", &["/telecom/value", "/telecom/system", "/telecom/use"]),
    ("Street", "1 Synthetic St, Apt 9", &["/address/line", "/address/use"]),
    ("City", "Exampletown", &["/address/city", "/address/use"]),
    ("State", "NY", &["/address/state", "/address/use"]),
    ("PostalCode", "105700002", &["/address/postalCode", "/address/use"]),
    ("MRN", "0042", &["/identifier/value", "/identifier/system"]),
    ("Active", "0", &["/active"]),
];

#[tokio::test]
async fn a_round_trip_of_the_official_patients_changes_only_what_was_edited() {
    let server = Medplum::start(&["--examples", "1000"]).await;
    let client = signed_in(&server, &Flavour::MEDPLUM, 200);
    let (host, filemaker) = clinic().await;
    let (mapping, zone) = (mapping(), TimeZone::get("America/New_York").unwrap());
    let (mut edits, mut refusals, mut untouched) = (0, BTreeMap::new(), 0);
    let patients = walk(&client, "Patient", None).await;
    for patient in &patients {
        // Into FileMaker.
        let first = found(&client, "Patient", &patient.id).await;
        let extracted = mapping.extract(&first.json, &zone);
        let row: Fields = extracted.fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        let (id, _) = filemaker.create(&mapping.table, patient.id.as_str(), &row).await.unwrap();
        let record = id.0.parse().unwrap();
        for (field, typed, own) in EDITS.into_iter().chain(EDITS.map(|(field, _, own)| (field, "", own))) {
            let before = found(&client, "Patient", &patient.id).await;
            // A person at the desk, and what the relay sees of it.
            host.control().desk_edit("Patient", record, &[(field, typed)]).unwrap();
            let row = filemaker.find(&mapping.table, patient.id.as_str()).await.unwrap().unwrap();
            let row = mapping.canonical_row(row);
            let chart = mapping.extract(&before.json, &zone);
            let differs: Fields = row
                .fields
                .iter()
                .filter(|(field, value)| chart.fields[*field].as_ref().unwrap_or(&Value::Blank) != *value)
                .map(|(field, value)| (field.clone(), value.clone()))
                .filter(|(name, _)| name == field)
                .collect();
            let mut applied = mapping.apply(&before.json, &differs, &zone);
            if let Some(refusal) = applied.refused.get(field) {
                assert_eq!(applied.json.to_string(), before.json.to_string());
                *refusals.entry(format!("{field} {refusal:?}")).or_insert(0) += 1;
                continue;
            }
            if !applied.changed {
                untouched += 1;
                continue;
            }
            sign(&mut applied.json, "system-test");
            let version = client.update(&kind("Patient"), &patient.id, &before.version, &applied.json).await.unwrap();
            // What the server keeps differs in the edited element and in nothing else.
            let after = found(&client, "Patient", &patient.id).await;
            assert_eq!(after.version, version);
            let (mut were, mut are) = (BTreeMap::new(), BTreeMap::new());
            leaves(&before.json, "", &mut were);
            leaves(&after.json, "", &mut are);
            assert_ne!(were, are);
            were.retain(|(name, _), _| !own.contains(&name.as_str()));
            are.retain(|(name, _), _| !own.contains(&name.as_str()));
            assert_eq!(were, are, "{} {field}", patient.id);
            let chart = mapping.extract(&after.json, &zone);
            assert!(chart.fields[field].as_ref().unwrap_or(&Value::Blank) == &row.fields[field], "{field} came back");
            assert!(!mapping.apply(&after.json, &differs, &zone).changed, "and is not written again");
            edits += 1;
        }
    }
    println!("{} patients, {edits} edits written, {untouched} said nothing new, refused: {refusals:?}", patients.len());
    assert!(patients.len() >= 20 && edits >= patients.len() * 12, "{edits} edits of {} patients", patients.len());
    Arc::new(filemaker).close().await;
}
