//! FHIR R4 data of a clinic that does not exist: patients, intake forms, device measurements, progress notes, and the
//! changes that happen to them.
//!
//! Nobody could take it for real: family names are `Testpatient-0007`, telephone numbers lie in the range kept free for
//! fiction (555-0100 to 555-0199), mail goes to example.org, and every resource is tagged `SYNTHETIC`. All chance comes
//! from the seed: the same seed gives the same clinic on every machine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp, ToSpan as _, civil};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// System of the patients' record numbers.
pub const MRN_SYSTEM: &str = "urn:chart-relay:synthetic:mrn";
/// System of the tag that every resource carries; its code is `SYNTHETIC`.
pub const TAG_SYSTEM: &str = "urn:chart-relay:synthetic";
/// Canonical address of the intake questionnaire. Its linkIds: `allergies`, `medications`, `reason` (valueString),
/// `smoker` (valueBoolean), `pain` (valueInteger, 0 to 10).
pub const INTAKE_QUESTIONNAIRE: &str = "http://example.org/fhir/Questionnaire/chart-relay-synthetic-intake|1";

const GIVEN: [&str; 12] =
    ["Alma", "Bruno", "Clara", "Dario", "Edda", "Felix", "Gerda", "Hugo", "Ines", "Jonas", "Klara", "Linus"];
const STREETS: [&str; 6] =
    ["Sample Street", "Example Road", "Mock Lane", "Fixture Avenue", "Pattern Way", "Placeholder Row"];
const TOWNS: [(&str, &str); 4] =
    [("Exampleton", "00001"), ("Sampleville", "00002"), ("Mockford", "00003"), ("Testbury", "00004")];
const ALLERGIES: [&str; 5] = ["None known", "Penicillin", "Latex", "Peanuts", "Adhesive tape; mild rash"];
const MEDICATIONS: [&str; 5] =
    ["None", "Ibuprofen 400 mg as needed", "Metformin 500 mg twice daily", "Lisinopril 10 mg daily", "Vitamin D"];
const REASONS: [&str; 6] =
    ["Annual check", "Rash on left forearm", "Follow-up visit", "Cough for two weeks", "Mole has changed", "Knee pain"];
const FINDINGS: [&str; 4] = [
    "Well appearing. No acute distress.",
    "Skin: two benign-looking lesions on the back, unchanged.",
    "Lungs clear. Heart regular.",
    "Mild erythema, no discharge.",
];
const PLANS: [&str; 4] =
    ["Return in 6 months.", "Continue present treatment.", "Photograph and compare in 3 months.", "No action needed."];

/// Makes synthetic resources, one after another. Each has an id of its own and can be put on a server as it is.
#[derive(Clone, Debug)]
pub struct Generator {
    chance: ChaCha8Rng,
    made: u32,
}

impl Generator {
    /// A generator whose whole output follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { chance: ChaCha8Rng::seed_from_u64(seed), made: 0 }
    }

    /// So many patients, each with a form, two measurements and a note from the day before `now`.
    pub fn clinic(&mut self, patients: usize, now: Timestamp) -> Vec<Value> {
        let mut resources = Vec::with_capacity(patients * 5);
        for _ in 0..patients {
            let patient = self.patient();
            let mut at =
                || now.checked_sub(SignedDuration::from_secs(self.chance.random_range(60..86_400))).unwrap_or(now);
            let times = [at(), at(), at(), at()];
            resources.push(self.form(&patient, times[0]));
            resources.push(self.measurement(&patient, times[1]));
            resources.push(self.measurement(&patient, times[2]));
            resources.push(self.note(&patient, times[3]));
            resources.push(patient);
        }
        // Patients first, so that references resolve on a server that checks them.
        resources.sort_by_key(|resource| resource["resourceType"] != "Patient");
        resources
    }

    /// A Patient with record number, name, gender, birth date, telephone, mail and a home address.
    pub fn patient(&mut self) -> Value {
        let number = self.number();
        let gender = self.pick(&["female", "male", "other", "unknown"]);
        let born = civil::date(1930, 1, 1).saturating_add(self.chance.random_range(0..33_000).days());
        json!({
            "resourceType": "Patient",
            "id": format!("synthetic-patient-{number:04}"),
            "meta": marked(),
            "identifier": [{
                "use": "usual",
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
                "system": MRN_SYSTEM,
                "value": format!("SYN-{number:06}"),
            }],
            "active": true,
            "name": [{"use": "official", "family": format!("Testpatient-{number:04}"), "given": [self.pick(&GIVEN)]}],
            "telecom": [
                {"system": "phone", "value": self.telephone(), "use": "home"},
                {"system": "email", "value": format!("testpatient-{number:04}@example.org")},
            ],
            "gender": gender,
            "birthDate": born.to_string(),
            "address": [self.address()],
        })
    }

    /// A QuestionnaireResponse to the intake questionnaire. One in four is still in progress and lacks answers.
    pub fn form(&mut self, patient: &Value, authored: Timestamp) -> Value {
        let number = self.number();
        let complete = self.chance.random_ratio(3, 4);
        let mut items = self.answers();
        if !complete {
            items.truncate(2);
        }
        json!({
            "resourceType": "QuestionnaireResponse",
            "id": format!("synthetic-form-{number:04}"),
            "meta": marked(),
            "questionnaire": INTAKE_QUESTIONNAIRE,
            "status": if complete { "completed" } else { "in-progress" },
            "subject": reference_to(patient),
            "authored": seconds(authored),
            "item": items,
        })
    }

    /// An Observation from a device, final: blood pressure, heart rate, body weight or temperature, in UCUM units.
    pub fn measurement(&mut self, patient: &Value, effective: Timestamp) -> Value {
        let number = self.number();
        let (code, display, value) = match self.chance.random_range(0..4) {
            0 => ("85354-9", "Blood pressure panel with all children optional", None),
            1 => ("8867-4", "Heart rate", Some(self.heart_rate())),
            2 => ("29463-7", "Body weight", Some(self.weight())),
            _ => ("8310-5", "Body temperature", Some(self.temperature())),
        };
        let mut observation = json!({
            "resourceType": "Observation",
            "id": format!("synthetic-measurement-{number:04}"),
            "meta": marked(),
            "status": "final",
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
            "code": loinc(code, display),
            "subject": reference_to(patient),
            "effectiveDateTime": seconds(effective),
            "device": {"display": "SYNTHETIC monitor"},
        });
        match value {
            Some(value) => observation["valueQuantity"] = value,
            None => observation["component"] = self.pressures(),
        }
        observation
    }

    /// A DocumentReference with a progress note in plain text.
    pub fn note(&mut self, patient: &Value, date: Timestamp) -> Value {
        let number = self.number();
        let reason = self.pick(&REASONS);
        let text = format!(
            "SYNTHETIC NOTE\nReason: {reason}\nFindings: {}\nPlan: {}\n",
            self.pick(&FINDINGS),
            self.pick(&PLANS)
        );
        json!({
            "resourceType": "DocumentReference",
            "id": format!("synthetic-note-{number:04}"),
            "meta": marked(),
            "status": "current",
            "docStatus": "final",
            "type": loinc("11506-3", "Progress note"),
            "subject": reference_to(patient),
            "date": seconds(date),
            "description": format!("Progress note: {reason}"),
            "content": [{"attachment": {
                "contentType": "text/plain; charset=utf-8", "data": STANDARD.encode(text), "creation": seconds(date)}}],
        })
    }

    /// A progress note whose attachment has so many bytes (before base64).
    pub fn huge_note(&mut self, patient: &Value, date: Timestamp, bytes: usize) -> Value {
        let mut note = self.note(patient, date);
        note["content"][0]["attachment"]["data"] =
            json!(STANDARD.encode("SYNTHETIC ".repeat(bytes.div_ceil(10)).get(..bytes).unwrap_or_default()));
        note
    }

    /// The resource after something that happens to such a one: a patient's address, telephone or mail is corrected; a
    /// form in progress is completed, a completed one amended; a measurement is amended, or (one in ten) entered in
    /// error; a note gets an addendum. It always differs from what it was. Other types come back as they are.
    pub fn change(&mut self, resource: &Value, now: Timestamp) -> Value {
        let mut changed = resource.clone();
        match resource["resourceType"].as_str() {
            Some("Patient") => self.change_patient(&mut changed),
            Some("QuestionnaireResponse") => self.change_form(&mut changed, now),
            Some("Observation") => self.change_measurement(&mut changed),
            Some("DocumentReference") => self.change_note(&mut changed, now),
            _ => {}
        }
        changed
    }

    fn change_patient(&mut self, patient: &mut Value) {
        let (place, new): (_, fn(&mut Self) -> Value) = match self.chance.random_range(0..3) {
            0 => ("/telecom/0/value", |generator| json!(generator.telephone())),
            1 => ("/telecom/1/value", |generator| {
                json!(format!("testpatient-{}@example.org", generator.chance.random_range(10_000..99_999)))
            }),
            _ => ("/address/0", Self::address),
        };
        let Some(held) = patient.pointer_mut(place) else { return };
        *held = self.other_than(held, new);
    }

    fn change_form(&mut self, form: &mut Value, now: Timestamp) {
        form["authored"] = json!(seconds(now));
        if form["status"] == "in-progress" {
            form["status"] = json!("completed");
            let given = form["item"].as_array().map_or(0, Vec::len);
            let rest = self.answers().split_off(given.min(5));
            if let Some(items) = form["item"].as_array_mut() {
                items.extend(rest);
            }
            return;
        }
        form["status"] = json!("amended");
        let Some(items) = form["item"].as_array_mut().filter(|items| !items.is_empty()) else { return };
        let at = self.chance.random_range(0..items.len());
        let link = items[at]["linkId"].clone();
        items[at] = self.other_than(&items[at].clone(), |generator| {
            generator.answers().into_iter().find(|item| item["linkId"] == link).unwrap_or_default()
        });
    }

    fn change_measurement(&mut self, observation: &mut Value) {
        if observation["status"] != "entered-in-error" && self.chance.random_ratio(1, 10) {
            observation["status"] = json!("entered-in-error");
            return;
        }
        observation["status"] = json!("amended");
        let code = observation["code"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned();
        let (element, new): (_, fn(&mut Self) -> Value) = match code.as_str() {
            "85354-9" => ("component", Self::pressures),
            "8867-4" => ("valueQuantity", Self::heart_rate),
            "29463-7" => ("valueQuantity", Self::weight),
            _ => ("valueQuantity", Self::temperature),
        };
        observation[element] = self.other_than(&observation[element].clone(), new);
    }

    fn change_note(&mut self, note: &mut Value, now: Timestamp) {
        let attachment = &mut note["content"][0]["attachment"];
        let held = attachment["data"].as_str().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default();
        let addendum = format!("Addendum {}: {}\n", seconds(now), self.pick(&FINDINGS));
        attachment["data"] = json!(STANDARD.encode([held, addendum.into_bytes()].concat()));
        note["docStatus"] = json!("amended");
    }

    fn answers(&mut self) -> Vec<Value> {
        vec![
            answer("allergies", "Allergies", json!({"valueString": self.pick(&ALLERGIES)})),
            answer("medications", "Medications", json!({"valueString": self.pick(&MEDICATIONS)})),
            answer("reason", "Reason for the visit", json!({"valueString": self.pick(&REASONS)})),
            answer("smoker", "Do you smoke?", json!({"valueBoolean": self.chance.random_ratio(1, 5)})),
            answer("pain", "Pain from 0 to 10", json!({"valueInteger": self.chance.random_range(0..=10)})),
        ]
    }

    fn pressures(&mut self) -> Value {
        let systolic = quantity(self.chance.random_range(95..165).into(), "mmHg", "mm[Hg]");
        let diastolic = quantity(self.chance.random_range(55..95).into(), "mmHg", "mm[Hg]");
        json!([
            {"code": loinc("8480-6", "Systolic blood pressure"), "valueQuantity": systolic},
            {"code": loinc("8462-4", "Diastolic blood pressure"), "valueQuantity": diastolic},
        ])
    }

    fn heart_rate(&mut self) -> Value {
        quantity(self.chance.random_range(48..120).into(), "beats/minute", "/min")
    }

    fn weight(&mut self) -> Value {
        quantity(f64::from(self.chance.random_range(420..1400)) / 10.0, "kg", "kg")
    }

    fn temperature(&mut self) -> Value {
        quantity(f64::from(self.chance.random_range(355..398)) / 10.0, "°C", "Cel")
    }

    fn telephone(&mut self) -> String {
        format!("+1-555-555-01{:02}", self.chance.random_range(0..100))
    }

    fn address(&mut self) -> Value {
        let (town, code) = self.pick(&TOWNS);
        let street = format!("{} {}", self.chance.random_range(1..200), self.pick(&STREETS));
        json!({"use": "home", "line": [street], "city": town, "postalCode": code, "country": "US"})
    }

    /// Draws until something differs from what is held.
    fn other_than(&mut self, held: &Value, mut draw: impl FnMut(&mut Self) -> Value) -> Value {
        loop {
            let drawn = draw(self);
            if drawn != *held {
                return drawn;
            }
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.chance.random_range(0..from.len())]
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }
}

fn marked() -> Value {
    json!({"tag": [{"system": TAG_SYSTEM, "code": "SYNTHETIC", "display": "Synthetic, no real person"}]})
}

fn reference_to(patient: &Value) -> Value {
    json!({"reference": format!("Patient/{}", patient["id"].as_str().unwrap_or_default())})
}

fn loinc(code: &str, display: &str) -> Value {
    json!({"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display})
}

fn quantity(value: f64, unit: &str, code: &str) -> Value {
    // Whole numbers stay whole, as a monitor shows them; one decimal otherwise.
    #[allow(clippy::cast_possible_truncation)]
    let value = if value.fract() == 0.0 { json!(value as i64) } else { json!(value) };
    json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code})
}

fn answer(link: &str, text: &str, value: Value) -> Value {
    json!({"linkId": link, "text": text, "answer": [value]})
}

fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}
