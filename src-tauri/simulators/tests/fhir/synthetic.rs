//! The synthetic clinic, and that the simulator takes it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use simulators::synthetic::{Generator, INTAKE_QUESTIONNAIRE, MRN_SYSTEM, TAG_SYSTEM};

use crate::caller::Caller;

fn now() -> Timestamp {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

fn clinic(seed: u64) -> Vec<Value> {
    Generator::new(seed).clinic(40, now())
}

fn of<'a>(resources: &'a [Value], kind: &str) -> Vec<&'a Value> {
    resources.iter().filter(|resource| resource["resourceType"] == kind).collect()
}

#[test]
fn a_seed_makes_one_clinic_and_another_seed_another() {
    assert_eq!(clinic(1), clinic(1));
    assert_ne!(clinic(1), clinic(2));
}

#[test]
fn everything_is_marked_and_belongs_to_a_patient_that_comes_before_it() {
    let resources = clinic(3);
    assert_eq!(resources.len(), 200);
    let mut patients = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for resource in &resources {
        assert_eq!(resource["meta"]["tag"][0]["system"], TAG_SYSTEM);
        assert_eq!(resource["meta"]["tag"][0]["code"], "SYNTHETIC");
        assert!(ids.insert(resource["id"].as_str().unwrap()));
        if resource["resourceType"] == "Patient" {
            patients.insert(format!("Patient/{}", resource["id"].as_str().unwrap()));
            assert!(resource["name"][0]["family"].as_str().unwrap().starts_with("Testpatient-"));
            assert_eq!(resource["identifier"][0]["system"], MRN_SYSTEM);
            assert!(resource["telecom"][0]["value"].as_str().unwrap().contains("-555-01"));
            assert!(resource["telecom"][1]["value"].as_str().unwrap().ends_with("@example.org"));
        } else {
            assert!(patients.contains(resource["subject"]["reference"].as_str().unwrap()));
        }
    }
    assert_eq!(patients.len(), 40);
}

#[test]
fn forms_measurements_and_notes_have_the_shapes_that_mappings_expect() {
    let resources = clinic(4);
    let forms = of(&resources, "QuestionnaireResponse");
    assert!(forms.iter().all(|form| form["questionnaire"] == INTAKE_QUESTIONNAIRE));
    for form in forms {
        let links: Vec<_> =
            form["item"].as_array().unwrap().iter().map(|item| item["linkId"].as_str().unwrap()).collect();
        match form["status"].as_str().unwrap() {
            "completed" => assert_eq!(links, ["allergies", "medications", "reason", "smoker", "pain"]),
            status => assert_eq!((status, links), ("in-progress", vec!["allergies", "medications"])),
        }
    }
    let mut seen = BTreeSet::new();
    for measurement in of(&resources, "Observation") {
        let code = measurement["code"]["coding"][0]["code"].as_str().unwrap();
        seen.insert(code.to_owned());
        let (quantity, unit) = match code {
            "85354-9" => (&measurement["component"][1]["valueQuantity"], "mm[Hg]"),
            "8867-4" => (&measurement["valueQuantity"], "/min"),
            "29463-7" => (&measurement["valueQuantity"], "kg"),
            _ => (&measurement["valueQuantity"], "Cel"),
        };
        assert_eq!(quantity["code"], unit);
        assert!(quantity["value"].is_number());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["29463-7", "8310-5", "85354-9", "8867-4"]);
    for note in of(&resources, "DocumentReference") {
        assert_eq!(note["type"]["coding"][0]["code"], "11506-3");
        let data = note["content"][0]["attachment"]["data"].as_str().unwrap();
        assert!(STANDARD.decode(data).unwrap().starts_with(b"SYNTHETIC NOTE"));
    }
}

#[test]
fn a_change_keeps_the_identity_and_always_changes_something() {
    let mut generator = Generator::new(5);
    let mut resources = generator.clinic(20, now());
    let mut statuses = BTreeSet::new();
    for _ in 0..10 {
        for resource in &mut resources {
            let changed = generator.change(resource, now());
            assert_ne!(changed, *resource);
            for kept in ["resourceType", "id", "subject", "identifier", "meta"] {
                assert_eq!(changed[kept], resource[kept]);
            }
            let step = (resource["status"].as_str(), changed["status"].as_str());
            if let (Some(from), Some(to)) = step {
                statuses.insert(format!("{from} > {to}"));
            }
            if step == (Some("in-progress"), Some("completed")) {
                assert_eq!(changed["item"].as_array().unwrap().len(), 5);
            }
            *resource = changed;
        }
    }
    for step in ["in-progress > completed", "completed > amended", "final > amended", "amended > entered-in-error"] {
        assert!(statuses.contains(step), "{step} not among {statuses:?}");
    }
}

#[tokio::test]
async fn the_simulator_holds_a_clinic_and_finds_what_belongs_to_a_patient() {
    let caller = Caller::new().await;
    for resource in clinic(6) {
        caller.control.put(resource).unwrap();
    }
    let patient = caller.control.ids("Patient")[0].clone();
    let measurements = caller.get(&format!("Observation?patient={patient}")).await;
    assert_eq!(measurements.ids().len(), 2);
    let mut generator = Generator::new(7);
    let huge = generator.huge_note(&generator.clone().patient(), now(), 1 << 20);
    caller.control.put(huge).unwrap();
    assert_eq!(caller.control.ids("DocumentReference").len(), 41);
}
