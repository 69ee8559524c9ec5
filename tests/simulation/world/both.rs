//! Worlds that go both ways: people at the portal and at the desk edit the same records, one after the other and at once, and what
//! they typed must be on both sides in the end, or typed over by somebody, or kept, or a person is asked.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    action::{Action, Choice},
    connection::Side,
    difference::Is,
    error::Code,
    fakes::MemoryFhir,
    key::{RecordKey, ResourceId, ResourceType},
    keys::{ClinicKey, Hasher, Seal},
    ledger::Record,
    link::LinkState,
    mapping::{Inactive, Kind, Mapping, Owner, Path, Rule},
    row::{ChangeFields, Fields, Shown, Value},
};
use rand::{Rng, seq::IndexedRandom};
use serde_json::{Value as Json, json};

use super::{
    World,
    portal::{firm_id, id, layout, resource},
};
use crate::people::fold;

/// Each field with the policy for where both sides changed it.
const FIELDS: [(&str, &str, &str, Owner); 6] = [
    ("Patient", "LastName", "name[0].family", Owner::Fhir),
    ("Patient", "City", "address[0].city", Owner::FileMaker),
    ("Patient", "Phone", "telecom[system=phone].value", Owner::Newest),
    ("Patient", "Email", "telecom[system=email].value", Owner::Person),
    ("Observation", "Value", "valueString", Owner::Person),
    ("Observation", "Label", "code.text", Owner::Fhir),
];

/// What nobody can mend but by typing something else.
const STAYS_DEAD: [Code; 2] = [Code::ValueRefused, Code::ParentMissing];

pub fn fields(of: &ResourceType) -> impl Iterator<Item = &'static str> {
    let of = of.to_string();
    FIELDS.into_iter().filter(move |(r#type, ..)| *r#type == of).map(|(_, field, ..)| field)
}

/// The mapping of a world, made to go both ways.
pub fn both_ways(mut mapping: Mapping) -> Mapping {
    for (name, resource) in &mut mapping.resources {
        resource.rules.clear();
        for (_, field, path, owner) in FIELDS.iter().filter(|(of, ..)| *of == name.as_str()) {
            let rule = Rule::new(*field, vec![path.parse().unwrap()], Kind::Text);
            resource.rules.push(Rule { owner: *owner, ..rule });
        }
        if name.as_str() == "Patient" {
            resource.rules.push(Rule::new("Active", vec!["active".parse().unwrap()], Kind::Flag));
            resource.inactive = Some(Inactive { field: "Active".into(), value: Value::Flag(false) });
        }
        resource.table.fields.retain(|field, _| field == "PatientFhirId");
        resource.table.fields.extend(resource.rules.iter().map(|rule| (rule.field.clone(), rule.r#type())));
        resource.table.changes = Some(ChangeFields { uuid: "UUID".into(), modified: "ModifiedAt".into() });
    }
    mapping
}

/// What a resource says of a field; nothing is an empty text.
pub fn says(json: &Json, field: &str) -> String {
    let Some((_, _, path, _)) = FIELDS.iter().find(|(_, name, ..)| *name == field) else { return String::new() };
    let path: Path = path.parse().unwrap();
    path.read(json).first().and_then(|element| element.as_str()).unwrap_or_default().to_owned()
}

/// A person at the portal types a value, or takes it away.
fn say(json: &mut Json, field: &str, value: &str) {
    let entry = |json: &mut Json, system: &str| {
        let telecom =
            json.as_object_mut().unwrap().entry("telecom").or_insert_with(|| json!([])).as_array_mut().unwrap();
        telecom.retain(|entry| entry["system"] != system);
        if !value.is_empty() {
            telecom.push(json!({ "system": system, "value": value }));
        }
    };
    match field {
        "LastName" => json["name"][0]["family"] = json!(value),
        "City" => json["address"][0]["city"] = json!(value),
        "Phone" => entry(json, "phone"),
        "Email" => entry(json, "email"),
        "Value" => json["valueString"] = json!(value),
        _ => json["code"]["text"] = json!(value),
    }
}

/// A resource without what the mapping is about.
pub fn unmapped(json: &Json) -> Json {
    let mut rest = json.clone();
    for (pointer, member) in [
        ("", "meta"),
        ("", "active"),
        ("", "valueString"),
        ("/name/0", "family"),
        ("/address/0", "city"),
        ("/code", "text"),
    ] {
        if let Some(holder) = rest.pointer_mut(pointer).and_then(Json::as_object_mut) {
            holder.shift_remove(member);
        }
    }
    if let Some(telecom) = rest.get_mut("telecom").and_then(Json::as_array_mut) {
        telecom.retain(|entry| entry["system"] != "phone" && entry["system"] != "email");
    }
    rest
}

/// What a server that normalises makes of what it is sent.
pub fn capitals(json: &mut Json) {
    if let Some(family) = json.pointer_mut("/name/0/family")
        && let Some(text) = family.as_str()
    {
        *family = json!(text.to_uppercase());
    }
}

/// And what a file does whose field changes what is entered.
pub fn capitals_in_row(fields: &mut Fields) {
    if let Some(Value::Text(city)) = fields.get_mut("City") {
        *city = city.to_uppercase();
    }
}

impl World {
    fn place(&self, of: &ResourceType, id: &ResourceId, field: &str) -> crate::people::Place {
        (layout(of).to_owned(), id.to_string(), field.to_owned())
    }

    fn known(&self) -> Vec<(ResourceType, ResourceId)> {
        self.portal.keys().cloned().collect()
    }

    fn chart(&self, of: &ResourceType, id: &ResourceId) -> Option<Json> {
        self.fhir.current(of, id).map(|(_, json)| json)
    }

    fn row_of(&self, of: &ResourceType, id: &ResourceId) -> Option<Fields> {
        self.clinic.rows(layout(of)).into_iter().find(|(key, _)| key == id.as_str()).map(|(_, fields)| fields)
    }

    pub(super) fn event_of_both(&mut self) {
        let roll: f64 = self.script.draw(|rng| rng.random());
        match roll {
            _ if roll < 0.13 || self.portal.is_empty() => self.portal_enters(None),
            _ if roll < 0.21 => {
                let patients: Vec<_> = self.known().into_iter().filter(|(of, _)| of.as_str() == "Patient").collect();
                let patient = self.script.draw(|rng| patients.choose(rng).cloned());
                self.portal_enters(patient.map(|(_, id)| id));
            }
            _ if roll < 0.40 => self.someone_edits(true, false),
            _ if roll < 0.58 => self.someone_edits(false, true),
            _ if roll < 0.68 => self.someone_edits(true, true),
            _ if roll < 0.71 => self.open_record(),
            _ if roll < 0.78 => self.hints(),
            _ if roll < 0.80 => self.poison(),
            _ if roll < 0.815 => self.portal_deletes(),
            _ if roll < 0.83 => self.desk_deletes(),
            _ if roll < 0.84 => self.portal_edits_what_is_not_mapped(),
            _ if roll < 0.87 => self.someone_decides(),
            _ if roll < 0.885 => self.person(),
            _ => self.trouble(),
        }
    }

    /// A new patient, or a measurement of one.
    fn portal_enters(&mut self, patient: Option<ResourceId>) {
        let number = self.portal.len() + 1;
        let (of, id, mut json) = match patient {
            None => {
                let id = id(&format!("p{}-{}", number, self.edits));
                let json = json!({
                    "resourceType": "Patient", "id": id.as_str(), "active": true,
                    "extension": [{ "url": "urn:synthetic:weight", "valueDecimal": 1.50 }],
                    "name": [{ "use": "official", "family": "", "given": ["Synthetic", "B."] }, { "use": "old", "family": "Former" }],
                    "telecom": [{ "system": "url", "value": "urn:unmapped" }],
                    "address": [{ "use": "home", "city": "", "line": ["1 Synthetic Way"] }],
                });
                (resource("Patient"), id, json)
            }
            Some(patient) => {
                let id = id(&format!("m{}-{}", number, self.edits));
                let json = json!({
                    "resourceType": "Observation", "id": id.as_str(),
                    "subject": { "reference": format!("Patient/{patient}") },
                    "code": { "coding": [{ "system": "urn:synthetic", "code": "1" }], "text": "" },
                    "note": [{ "text": "unmapped" }],
                });
                (resource("Observation"), id, json)
            }
        };
        for field in fields(&of) {
            let value = self.next_value();
            say(&mut json, field, &value);
            self.oracle.typed(self.place(&of, &id, field), Side::Fhir, &value, "");
        }
        self.put(&of, &id, Some(json));
        self.maybe_hide(&of, &id);
    }

    /// One field of one record, at the portal, at the desk, or at both at once: then differently, or the same by chance.
    fn someone_edits(&mut self, portal: bool, desk: bool) {
        let Some((of, id)) = self.pick() else { return };
        let names: Vec<_> = fields(&of).collect();
        let Some(field) = self.script.draw(|rng| names.choose(rng).copied()) else { return };
        let same = self.script.draw(|rng| rng.random_bool(0.2)).then(|| self.next_value());
        let is_same = same.is_some();
        let roll: f64 = self.script.draw(|rng| rng.random());
        if portal && let Some(mut json) = self.chart(&of, &id) {
            let before = says(&json, field);
            let value = match &same {
                Some(same) => same.clone(),
                None if roll < 0.03 => {
                    self.script.count("value refused");
                    format!("bad{}", self.next_value())
                }
                // The portal no longer says anything here.
                None if roll < 0.08 && field == "Phone" => String::new(),
                None => self.next_value(),
            };
            say(&mut json, field, &value);
            if value.is_empty() {
                self.removed.insert(self.place(&of, &id, field));
            } else {
                self.removed.remove(&self.place(&of, &id, field));
            }
            self.oracle.typed(self.place(&of, &id, field), Side::Fhir, &value, &before);
            self.put(&of, &id, Some(json));
        }
        if desk && let Some(row) = self.row_of(&of, &id) {
            let before = row.get(field).map(Value::canonical).unwrap_or_default();
            let value = match same {
                Some(same) => same,
                // Somebody empties it.
                None if roll > 0.97 && field == "Email" => String::new(),
                None => {
                    self.edits += 1;
                    format!("h{}", self.edits)
                }
            };
            let kept = if value.is_empty() { Value::Blank } else { Value::Text(value.clone()) };
            if self.clinic.edit_by_hand(layout(&of), id.as_str(), field, kept) {
                self.removed.remove(&self.place(&of, &id, field));
                self.oracle.typed(self.place(&of, &id, field), Side::FileMaker, &value, &before);
                self.script.count("edit by hand");
                if portal && is_same {
                    self.oracle.typed_by_two(&self.place(&of, &id, field), &value);
                }
                if portal {
                    self.script.count("both edit one field");
                }
                if self.script.draw(|rng| rng.random_bool(0.7)) {
                    self.hint(&of, &id, 1);
                }
            }
        }
    }

    fn portal_edits_what_is_not_mapped(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let Some(mut json) = self.chart(&of, &id) else { return };
        self.edits += 1;
        let value = json!({ "url": "urn:synthetic:other", "valueInteger": self.edits });
        json["extension"] = json!([value]);
        self.unmapped.insert((of.clone(), id.clone()), unmapped(&json));
        self.put(&of, &id, Some(json));
        self.script.count("edit beside the mapping");
    }

    fn portal_deletes(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        self.fhir.put(&of, &id, None);
        self.hint(&of, &id, 1);
        self.script.count("resource deleted");
    }

    fn desk_deletes(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        if self.row_of(&of, &id).is_some() {
            self.clinic.delete_by_hand(layout(&of), id.as_str());
            let record = self.ledger.records().remove(&RecordKey::link(firm_id(), of.clone(), id.clone()));
            let hasher = Hasher::new(&ClinicKey::from_bytes([9; 32]));
            let known = record.is_some_and(|record| LinkState::parse(&record.state, &hasher).row.is_some());
            self.oracle.deleted_by_hand(layout(&of), id.as_str(), known);
            self.script.count("row deleted by hand");
            self.hint(&of, &id, 1);
        }
    }

    fn conflicts(&self) -> Vec<RecordKey> {
        let noticed = |record: &Record| record.notice == Some(Code::Conflict);
        self.ledger.records().into_values().filter(noticed).map(|record| record.key).collect()
    }

    /// A person opens a conflict and decides it.
    fn someone_decides(&mut self) {
        let conflicts = self.conflicts();
        let Some(key) = self.script.draw(|rng| conflicts.choose(rng).cloned()) else { return };
        let number = self.script.draw(|rng| rng.random_range(0..self.stations.len()));
        let typed = self.next_value();
        let Some(engine) = &self.stations[number].engine else { return };
        let which = self.script.draw(|rng| rng.random_range(0..3));
        let (handle, oracle, script) = (engine.handle.clone(), self.oracle.clone(), self.script.clone());
        let layout = layout(&key.resource).to_owned();
        tokio::spawn(async move {
            let person = || Some("maria".to_owned());
            let Ok(difference) = handle.difference(key.clone(), Vec::new(), person()).await else { return };
            let Some(open) = difference.fields.into_iter().find(|field| field.is == Is::Conflict) else { return };
            let (Some(seen), Some(chart), Some(row)) = (open.seen, open.chart, open.row) else { return };
            let (chart, row) = (chart.expose().to_owned(), row.expose().to_owned());
            let place = (layout, key.id.to_string(), open.field.clone());
            let (choice, value) = match which {
                0 => (Choice::Chart, chart.clone()),
                1 => (Choice::Row, row.clone()),
                _ => (Choice::Value(Shown::new(typed.clone())), typed),
            };
            // It may be carried out although nobody hears that it was.
            oracle.decided(&place, &value, &chart, &row, false);
            let action = Action::Settle { key, field: open.field, seen, choice };
            if handle.act(action, person()).await.is_ok() {
                oracle.decided(&place, &value, &chart, &row, true);
                script.count("conflict decided");
            }
        });
    }

    /// What a person looks at by hand when the faults are over: what was given up on, and at first also what is remarked on.
    pub(super) fn resync_what_needs_a_person(&self, at_first: bool) -> bool {
        let needs = |record: &&Record| match record.dead {
            Some(dead) => !STAYS_DEAD.contains(&dead.code),
            None => at_first && record.notice.is_some(),
        };
        let keys: Vec<_> = self.ledger.records().values().filter(needs).map(|record| record.key.clone()).collect();
        let engine = self.stations.iter().find_map(|running| running.engine.as_ref());
        let (Some(engine), false) = (engine, keys.is_empty()) else { return false };
        self.script.count("resync");
        super::events::press(engine, Action::Resync { keys: keys.into_iter().take(50).collect() });
        true
    }

    /// A measurement of a patient who was deleted before anybody saw a row: there is nobody whose it could be.
    fn is_nobodys(&self, chart: Option<&Json>) -> bool {
        let subject = chart.and_then(|json| json.pointer("/subject/reference")).and_then(Json::as_str);
        subject.and_then(|subject| subject.strip_prefix("Patient/")).is_some_and(|patient| {
            let (of, patient) = (resource("Patient"), id(patient));
            self.chart(&of, &patient).is_none() && self.row_of(&of, &patient).is_none()
        })
    }

    /// When all is quiet: the first thing that is not as it should be.
    pub(super) fn is_merged(&self) -> Result<(), (&'static str, String)> {
        let records = self.ledger.records();
        let clinic = ClinicKey::from_bytes([9; 32]);
        let (hasher, seal) = (Hasher::new(&clinic), Seal::new(&clinic));
        for (of, id) in self.known() {
            let name = format!("{of}/{id}");
            let key = RecordKey::link(firm_id(), of.clone(), id.clone());
            let record = records.get(&key);
            let state = LinkState::parse(record.map_or("", |record| &record.state), &hasher);
            let dead = record.and_then(|record| record.dead).map(|dead| dead.code);
            if dead.is_some_and(|code| !STAYS_DEAD.contains(&code)) {
                return Err(("I19", format!("{name} is dead: {dead:?}")));
            }
            let (chart, row) = (self.chart(&of, &id), self.row_of(&of, &id));
            let kept: BTreeSet<(String, String)> = state
                .kept
                .iter()
                .filter_map(|kept| Some((kept.field.clone(), fold(&kept.open(&key, &seal)?.canonical()))))
                .collect();
            let shows = |field: &str| -> BTreeMap<&str, String> {
                let chart = chart.as_ref().map(|json| ("chart", fold(&says(json, field))));
                let row = row.as_ref().and_then(|row| row.get(field)).map(|value| ("row", fold(&value.canonical())));
                chart.into_iter().chain(row).collect()
            };
            if chart.is_some() && row.is_some() && dead.is_none() {
                let told = record.and_then(|record| record.notice) == Some(Code::Conflict);
                if told == state.conflicts.is_empty() {
                    return Err(("I8", format!("{name} has conflicts {:?} and says {told}", state.conflicts)));
                }
                for field in fields(&of).filter(|field| !state.conflicts.contains_key(*field)) {
                    let shown = shows(field);
                    let silent = shown["chart"].is_empty() && self.removed.contains(&self.place(&of, &id, field));
                    let alike = shown.get("row").map_or("", String::as_str) == shown["chart"];
                    if !alike && !silent {
                        return Err(("I19", format!("{name} {field} differs: {shown:?}, {:?}", state.differs)));
                    }
                }
            }
            let gone = chart.is_none() || row.is_none();
            if chart.is_some()
                && row.is_none()
                && dead.is_none()
                && !self.oracle.has_deleted_row(layout(&of), id.as_str())
                && !self.is_nobodys(chart.as_ref())
            {
                return Err(("I19", format!("{name} has no row")));
            }
            if let (Some(chart), None, true, None) = (&chart, &row, state.row.is_some(), dead)
                && of.as_str() == "Patient"
                && chart["active"] != json!(false)
            {
                return Err(("I19", format!("{name} lost its row and is not flagged")));
            }
            if let (None, Some(row), None) = (&chart, &row, dead)
                && of.as_str() == "Patient"
                && row.get("Active") != Some(&Value::Flag(false))
            {
                return Err(("I19", format!("{name} is gone from the chart and its row is not flagged")));
            }
            if let Some(wanted) = self.unmapped.get(&(of.clone(), id.clone()))
                && chart.as_ref().is_some_and(|chart| unmapped(chart) != *wanted)
            {
                return Err(("I8", format!("{name} lost what is not mapped")));
            }
            let there = |field: &str, value: &str| {
                shows(field).values().any(|shown| shown == value)
                    || kept.contains(&(field.to_owned(), value.to_owned()))
            };
            // Who deletes a record deletes what only it says.
            if !gone && let Some(lost) = self.oracle.lost(layout(&of), id.as_str(), there) {
                return Err(("I8", lost));
            }
        }
        Ok(())
    }
}

/// What both sides look like, for the trace.
pub fn picture(fhir: &MemoryFhir, known: &[(ResourceType, ResourceId)]) -> String {
    known.iter().map(|(of, id)| format!("{:?}", fhir.current(of, id))).collect()
}
