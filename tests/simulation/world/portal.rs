//! What the portal holds, and how it is mapped to the clinic's tables.

use std::time::Duration;

use engine::{
    key::{FirmId, ResourceId, ResourceType},
    mapping::{Kind, Mapping, Parent, ResourceMapping, Rule},
};
use rand::{Rng, seq::IndexedRandom};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::World;

pub const PATIENT: &str = "API_Patient";
pub const MEASUREMENT: &str = "API_Measurement";

pub fn firm_id() -> FirmId {
    FirmId::new("north").unwrap()
}

pub fn resource(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

pub fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub fn mapping() -> Mapping {
    let text = |field: &str, path: &str| Rule::new(field, vec![path.parse().unwrap()], Kind::Text);
    let patient = ResourceMapping::new(
        resource("Patient"),
        PATIENT,
        "FhirId",
        vec![text("LastName", "name[0].family"), text("City", "address[0].city"), text("Phone", "telecom[0].value")],
        None,
        None,
    );
    let parent =
        Parent { path: "subject".parse().unwrap(), resource: resource("Patient"), field: "PatientFhirId".to_owned() };
    let measurement = ResourceMapping::new(
        resource("Observation"),
        MEASUREMENT,
        "FhirId",
        vec![text("Value", "valueString"), text("Label", "code.text")],
        Some(parent),
        None,
    );
    let resources = [(resource("Patient"), patient), (resource("Observation"), measurement)];
    Mapping { resources: resources.into_iter().collect() }
}

pub fn layout(of: &ResourceType) -> &'static str {
    if of.as_str() == "Patient" { PATIENT } else { MEASUREMENT }
}

impl World {
    pub(super) fn next_value(&mut self) -> String {
        self.edits += 1;
        format!("s{}", self.edits)
    }

    pub(super) fn put(&mut self, of: &ResourceType, id: &ResourceId, json: Option<Json>) {
        self.fhir.put(of, id, json.clone());
        match json {
            Some(json) => {
                self.portal.insert((of.clone(), id.clone()), (json, Instant::now()));
            }
            None => {
                self.portal.remove(&(of.clone(), id.clone()));
            }
        }
    }

    pub(super) fn pick(&self) -> Option<(ResourceType, ResourceId)> {
        let keys: Vec<_> = self.portal.keys().cloned().collect();
        self.script.draw(|rng| keys.choose(rng).cloned())
    }

    pub(super) fn new_patient(&mut self) {
        let number = self.portal.len() + 1;
        let patient = id(&format!("p{}-{}", number, self.edits));
        let json = json!({
            "resourceType": "Patient", "id": patient.as_str(),
            "name": [{ "family": self.next_value() }],
            "address": [{ "city": self.next_value() }],
            "telecom": [{ "value": self.next_value() }],
        });
        self.put(&resource("Patient"), &patient, Some(json));
        self.maybe_hide(&resource("Patient"), &patient);
    }

    pub(super) fn new_measurement(&mut self) {
        let patients: Vec<_> = self.portal.keys().filter(|(of, _)| of.as_str() == "Patient").cloned().collect();
        let Some((_, patient)) = self.script.draw(|rng| patients.choose(rng).cloned()) else { return };
        let measurement = id(&format!("m{}-{}", self.portal.len() + 1, self.edits));
        let json = json!({
            "resourceType": "Observation", "id": measurement.as_str(),
            "subject": { "reference": format!("Patient/{patient}") },
            "code": { "text": self.next_value() },
            "valueString": self.next_value(),
        });
        self.put(&resource("Observation"), &measurement, Some(json));
        self.maybe_hide(&resource("Observation"), &measurement);
    }

    pub(super) fn maybe_hide(&self, of: &ResourceType, id: &ResourceId) {
        if self.script.draw(|rng| rng.random_bool(0.05)) {
            let long = self.script.draw(|rng| rng.random_range(5..90));
            self.script.hide(of, id, Duration::from_secs(long));
        }
    }

    pub(super) fn portal_edit(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let Some((mut json, _)) = self.portal.get(&(of.clone(), id.clone())).cloned() else { return };
        let pointers: &[&str] = match of.as_str() {
            "Patient" => &["/name/0/family", "/address/0/city", "/telecom/0/value"],
            _ => &["/valueString", "/code/text"],
        };
        let pointer = self.script.draw(|rng| pointers.choose(rng).copied()).unwrap_or(pointers[0]);
        let value = self.next_value();
        if self.script.draw(|rng| rng.random_bool(0.05)) {
            if let Some(place) = json.pointer_mut(pointer) {
                *place = json!(format!("bad{}", self.edits));
                self.script.count("value refused");
            }
        } else if self.script.draw(|rng| rng.random_bool(0.1)) && of.as_str() == "Patient" {
            // The portal no longer says anything here.
            json.as_object_mut().map(|patient| patient.shift_remove("telecom"));
        } else if let Some(place) = json.pointer_mut(pointer) {
            *place = json!(value);
        }
        self.put(&of, &id, Some(json));
    }
}
