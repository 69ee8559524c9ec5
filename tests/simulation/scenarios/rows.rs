//! What people do in FileMaker: how it is found, what becomes of rows without a FHIR id, and of rows that are gone.

use engine::{
    action::Action,
    error::Code,
    fakes::MemoryClinic,
    key::{RecordKey, ResourceId, RowUuid},
    ledger::Record,
    row::{Fields, Numbered, Value},
    snapshot::{PollView, Snapshot, Verdict},
    supervisor::Engine,
};
use jiff::{SignedDuration, civil::date};
use serde_json::{Value as Json, json};

use super::stage::{Reaction, Stage, firm, secs, snapshot};
use crate::world::{MEASUREMENT, PATIENT, resource};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn named(name: &str) -> Fields {
    Fields::from([("LastName".to_owned(), text(name))])
}

fn born(name: &str, mrn: &str) -> Fields {
    let mut fields = named(name);
    fields.insert("BirthDate".to_owned(), Value::Date(date(1970, 1, 2)));
    if !mrn.is_empty() {
        fields.insert("MRN".to_owned(), text(mrn));
    }
    fields
}

fn somebody(name: &str, mrn: &str, birthday: &str) -> Json {
    json!({
        "resourceType": "Patient", "id": name, "active": true, "birthDate": birthday,
        "identifier": [{ "system": "urn:synthetic:mrn", "value": mrn }],
        "name": [{ "family": "Testpatient" }],
        "extension": [{ "url": "urn:synthetic:unmapped", "valueString": "stays" }],
    })
}

impl Stage {
    fn patients(&self) -> Vec<(ResourceId, Json)> {
        self.north().fhir.all(&resource("Patient"))
    }

    /// Key and family name of the rows.
    fn people(&self) -> Vec<(String, String)> {
        let rows = self.north().clinic.rows(PATIENT).into_iter();
        rows.map(|(key, fields)| (key, fields.get("LastName").map(Value::canonical).unwrap_or_default())).collect()
    }

    fn row_record(&self, row: &RowUuid) -> Option<Record> {
        let key = RecordKey::row(firm("north"), resource("Patient"), row);
        self.ledger.records().get(&key).cloned()
    }

    fn dead_row(&self, row: &RowUuid) -> Option<Code> {
        self.row_record(row)?.dead.map(|dead| dead.code)
    }
}

fn rows_of(snapshot: &Snapshot, of: &str) -> PollView {
    let poll = snapshot.polls.iter().rfind(|poll| poll.resource.as_str() == of);
    poll.cloned().unwrap()
}

async fn act(engine: &Engine, action: Action) {
    engine.handle.act(action, Some("SYNTHETIC person".into())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_patient_that_the_front_desk_enters_is_in_the_chart_and_edited_from_both_sides() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    stage.north().clinic.enter_by_hand(PATIENT, born("Testpatient", "SYNTHETIC-1"));
    let linked = || stage.people().iter().all(|(key, _)| !key.is_empty()) && !stage.patients().is_empty();
    let took = stage.until("the row is linked", secs(60), linked).await;
    assert!(took < secs(15), "a poll, and the run: {took:?}");
    stage.rest(secs(60)).await;
    let patients = stage.patients();
    let (id, json) = &patients[0];
    assert_eq!(patients.len(), 1);
    assert_eq!(stage.people(), [(id.to_string(), "Testpatient".to_owned())]);
    assert_eq!(json["name"][0]["family"], "Testpatient");
    assert_eq!(json["birthDate"], "1970-01-02");
    assert!(json["identifier"].as_array().unwrap().iter().any(|one| one["value"] == "SYNTHETIC-1"));

    stage.north().clinic.edit_by_hand(PATIENT, id.as_str(), "City", text("Pleasantville"));
    let in_chart = || stage.patients()[0].1["address"][0]["city"] == "Pleasantville";
    stage.until("the clinic's edit is in the chart", secs(60), in_chart).await;
    let mut changed = stage.patients()[0].1.clone();
    changed["name"][0]["family"] = json!("Testpatient-Renamed");
    stage.north().fhir.put(&resource("Patient"), id, Some(changed));
    stage.until("the portal's is in FileMaker", secs(60), || stage.people()[0].1 == "Testpatient-Renamed").await;
    stage.rest(secs(60)).await;
    assert_eq!((stage.patients().len(), stage.people().len()), (1, 1));
    let quiet = stage.calls("clinic.edit").len() + stage.calls("fhir.update").len();
    tokio::time::sleep(secs(2 * 60 * 60)).await;
    let later = stage.calls("clinic.edit").len() + stage.calls("fhir.update").len();
    assert_eq!(quiet, later, "nothing comes back as an echo, by poll or by sweep");
    assert!(matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. }), "{:?}", snapshot(&engine).verdict);
    assert_eq!(stage.open_entries(), []);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_answer_is_lost_on_the_way_there_is_one_patient_and_one_row() {
    let calls = ["fhir.create", "clinic.adopt", "fhir.matching", "clinic.find_row"];
    // With a number of its own, and without: then only the row's UUID says what is whose.
    for (lost, mrn) in calls.into_iter().flat_map(|lost| [(lost, "SYNTHETIC-1"), (lost, "")]) {
        let stage = Stage::watched().await;
        let engine = stage.boot("desk-0");
        stage.rule(move |call| if call.op == lost { Reaction::CarryOutAndHang } else { Reaction::Answer });
        let row = stage.north().clinic.enter_by_hand(PATIENT, born("Testpatient", mrn));
        stage.until(lost, secs(60), || !stage.calls(lost).is_empty()).await;
        tokio::time::sleep(secs(1)).await;
        stage.kill(engine).await;
        stage.all_well();
        // Another station finds what the first one left behind.
        let engine = stage.boot("desk-1");
        let done = || stage.people().iter().all(|(key, _)| !key.is_empty());
        stage.until("linked", secs(10 * 60), done).await;
        stage.rest(secs(10 * 60)).await;
        tokio::time::sleep(secs(60)).await;
        assert_eq!((stage.patients().len(), stage.people().len()), (1, 1), "{lost}");
        assert_eq!(stage.dead_row(&row), None);
        stage.kill(engine).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_is_known_by_its_identifier_whoever_is_seen_first() {
    let stage = Stage::watched().await;
    stage.north().fhir.put(
        &resource("Patient"),
        &ResourceId::new("p1").unwrap(),
        Some(somebody("p1", "SYNTHETIC-1", "1970-01-02")),
    );
    stage.north().clinic.enter_by_hand(PATIENT, born("Testpatient", "SYNTHETIC-1"));
    let engine = stage.boot("desk-0");
    let linked = || stage.people() == [("p1".to_owned(), "Testpatient".to_owned())];
    stage.until("linked, and no second row", secs(120), linked).await;
    stage.rest(secs(120)).await;
    tokio::time::sleep(secs(60)).await;
    assert!(linked());
    assert_eq!(stage.patients().len(), 1);
    assert_eq!(stage.patients()[0].1["extension"][0]["valueString"], "stays");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_probable_double_goes_to_a_person_and_is_made_only_if_that_person_says_so() {
    // Same name and birthday without a number; same number and another birthday.
    for (theirs, ours, resolvable) in [("SYNTHETIC-2", "", true), ("SYNTHETIC-1", "SYNTHETIC-1", false)] {
        let stage = Stage::watched().await;
        let birthday = if resolvable { "1970-01-02" } else { "1980-01-02" };
        stage.put("Patient", "p1", somebody("p1", theirs, birthday));
        let engine = stage.boot("desk-0");
        stage.until("p1 has its row", secs(60), || stage.people().len() == 1 && stage.is_at_rest()).await;
        let row = stage.north().clinic.enter_by_hand(PATIENT, born("Testpatient", ours));
        let told = || stage.dead_row(&row) == Some(Code::ProbableDouble);
        stage.until("a person is asked", secs(60), told).await;
        tokio::time::sleep(secs(2 * 60 * 60)).await;
        assert_eq!(stage.patients().len(), 1, "nothing was made");
        assert!(matches!(snapshot(&engine).verdict, Verdict::NeedsAttention { items: 1 }));
        if resolvable {
            let key = RecordKey::row(firm("north"), resource("Patient"), &row);
            act(&engine, Action::Resync { keys: vec![key] }).await;
            stage.until("somebody else", secs(60), || stage.patients().len() == 2 && stage.is_at_rest()).await;
        } else {
            // The number was mistyped.
            stage.north().clinic.edit_by_hand(PATIENT, row.as_str(), "MRN", text("SYNTHETIC-9"));
            stage.until("corrected", secs(60), || stage.patients().len() == 2 && stage.is_at_rest()).await;
        }
        assert_eq!(stage.dead_row(&row), None);
        stage.kill(engine).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_identifier_and_two_birthdays_are_nobodys_match() {
    let stage = Stage::watched().await;
    stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1", "1980-01-02"));
    let row = stage.north().clinic.enter_by_hand(PATIENT, born("Testpatient", "SYNTHETIC-1"));
    let engine = stage.boot("desk-0");
    let told = || {
        let link = stage.ledger.records().get(&super::stage::key("Patient", "p1")).and_then(|record| record.dead);
        stage.dead_row(&row) == Some(Code::ProbableDouble) && link.map(|dead| dead.code) == Some(Code::ProbableDouble)
    };
    stage.until("a person is asked about both", secs(120), told).await;
    assert_eq!((stage.patients().len(), stage.people()), (1, vec![(String::new(), "Testpatient".to_owned())]));
    // The birthday was mistyped in FileMaker.
    let day = Value::Date(date(1980, 1, 2));
    stage.north().clinic.edit_by_hand(PATIENT, row.as_str(), "BirthDate", day);
    let linked = || stage.people() == [("p1".to_owned(), "Testpatient".to_owned())];
    stage.until("corrected and linked", secs(120), linked).await;
    stage.rest(secs(120)).await;
    assert_eq!(stage.patients().len(), 1);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_with_nothing_in_it_waits_and_one_whose_key_is_none_is_told() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    let row = stage.north().clinic.enter_by_hand(PATIENT, Fields::new());
    tokio::time::sleep(secs(120)).await;
    assert_eq!(stage.patients().len(), 0, "somebody has only just begun");
    stage.north().clinic.edit_by_hand(PATIENT, row.as_str(), "LastName", text("Testpatient"));
    stage.until("it is made once it says something", secs(60), || stage.patients().len() == 1).await;
    stage.rest(secs(60)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_measurement_that_the_clinic_enters_waits_for_its_patient() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    let patient = stage.north().clinic.enter_by_hand(PATIENT, named("Testpatient"));
    let child = stage.north().clinic.enter_by_hand(
        MEASUREMENT,
        Fields::from([("Value".to_owned(), text("SYNTHETIC 1")), ("Label".to_owned(), text("SYNTHETIC"))]),
    );
    stage.until("the patient is linked", secs(60), || !stage.people()[0].0.is_empty()).await;
    assert_eq!(stage.north().fhir.all(&resource("Observation")), []);
    // The file fills the patient's id in.
    let id = stage.people()[0].0.clone();
    stage.north().clinic.edit_by_hand(MEASUREMENT, child.as_str(), "PatientFhirId", text(&id));
    let made = || stage.north().fhir.all(&resource("Observation")).len() == 1;
    stage.until("the child follows", secs(5 * 60), made).await;
    stage.rest(secs(120)).await;
    let (_, json) = &stage.north().fhir.all(&resource("Observation"))[0];
    assert_eq!(json["subject"]["reference"], format!("Patient/{id}"));
    assert_eq!(json["valueString"], "SYNTHETIC 1");
    assert!(stage.row_record(&patient).is_some());
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_measurement_whose_making_was_interrupted_gets_no_second_row() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1", "1970-01-02"));
    stage.until("the patient is there", secs(60), || stage.people().len() == 1 && stage.is_at_rest()).await;
    stage.rule(|call| if call.op == "fhir.create" { Reaction::CarryOutAndHang } else { Reaction::Answer });
    let fields = [("PatientFhirId", "p1"), ("Value", "SYNTHETIC 1"), ("Label", "SYNTHETIC")];
    let fields = fields.map(|(field, value)| (field.to_owned(), text(value)));
    stage.north().clinic.enter_by_hand(MEASUREMENT, Fields::from(fields));
    stage.until("made", secs(60), || !stage.calls("fhir.create").is_empty()).await;
    tokio::time::sleep(secs(1)).await;
    stage.kill(engine).await;
    stage.all_well();
    // The chart system tells of it before the row has its id.
    let made = stage.north().fhir.all(&resource("Observation"));
    assert_eq!(made.len(), 1);
    stage.hint("Observation", made[0].0.as_str()).await;
    let engine = stage.boot("desk-1");
    let linked = || stage.north().clinic.rows(MEASUREMENT).iter().any(|(key, _)| *key == made[0].0.to_string());
    stage.until("linked", secs(10 * 60), linked).await;
    stage.rest(secs(10 * 60)).await;
    assert_eq!(stage.north().clinic.rows(MEASUREMENT).len(), 1);
    assert_eq!(stage.north().fhir.all(&resource("Observation")).len(), 1);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_bulk_change_is_listed_for_some_minutes_and_not_for_ever() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    for number in 0..20 {
        stage.north().clinic.enter_by_hand(PATIENT, named(&format!("Testpatient-{number}")));
    }
    stage.until("all linked", secs(120), || stage.patients().len() == 20 && stage.is_at_rest()).await;
    tokio::time::sleep(secs(20 * 60)).await;
    stage.clear_log();
    tokio::time::sleep(secs(5 * 60)).await;
    // Pages of the fake have three rows: one call for each look means that nothing is listed.
    let looks = stage.calls("clinic.changed").iter().filter(|call| call.about == PATIENT).count();
    assert!((20..45).contains(&looks), "{looks} calls in five minutes");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_clinic_deletes_are_found_by_the_sweep_and_never_made_again() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    for number in 0..5 {
        let name = format!("p{number}");
        stage.put("Patient", &name, somebody(&name, &format!("SYNTHETIC-{number}"), "1970-01-02"));
    }
    stage.until("all are there", secs(60), || stage.people().len() == 5 && stage.is_at_rest()).await;
    stage.north().clinic.delete_by_hand(PATIENT, "p3");
    let noticed = || stage.record("Patient", "p3").notice == Some(Code::RowDeleted);
    stage.until("the sweep has found it", secs(2 * 60 * 60), noticed).await;
    stage.rest(secs(60)).await;
    assert_eq!(
        stage.north().fhir.current(&resource("Patient"), &ResourceId::new("p3").unwrap()).unwrap().1["active"],
        false
    );
    // A late older version is no reason to make it again.
    stage.hint("Patient", "p3").await;
    tokio::time::sleep(secs(3 * 60 * 60)).await;
    assert_eq!(stage.people().len(), 4);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn many_rows_gone_at_once_are_nobodys_decision_until_a_person_says_so() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    for number in 0..30 {
        let name = format!("p{number}");
        stage.put("Patient", &name, somebody(&name, &format!("SYNTHETIC-{number}"), "1970-01-02"));
    }
    stage.until("all are there", secs(120), || stage.people().len() == 30 && stage.is_at_rest()).await;
    let gone: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    gone.iter().for_each(|key| stage.north().clinic.delete_by_hand(PATIENT, key));
    let stopped =
        || rows_of(&snapshot(&engine), "Patient").missing.map(|missing| (missing.rows, missing.of)) == Some((12, 30));
    stage.until("it stops", secs(2 * 60 * 60), stopped).await;
    assert!(
        matches!(snapshot(&engine).verdict, Verdict::NeedsAttention { items: 1 }),
        "{:?}",
        snapshot(&engine).verdict
    );
    tokio::time::sleep(secs(2 * 60 * 60)).await;
    assert!(gone.iter().all(|key| stage.record("Patient", key).notice.is_none()), "nothing follows from it");
    assert_eq!(stage.calls("fhir.update").len(), 0);

    act(&engine, Action::Deleted { firm: firm("north"), resource: resource("Patient") }).await;
    let done = || gone.iter().all(|key| stage.record("Patient", key).notice == Some(Code::RowDeleted));
    stage.until("a person has said so", secs(120), done).await;
    let well = || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. });
    stage.until("and all is well", secs(120), well).await;
    let refused = engine.handle.act(Action::Deleted { firm: firm("north"), resource: resource("Patient") }, None).await;
    assert_eq!(refused.unwrap_err().code, Code::NoLonger);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_back_heal_the_brake_by_themselves() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    for number in 0..12 {
        let name = format!("p{number}");
        stage.put("Patient", &name, somebody(&name, &format!("SYNTHETIC-{number}"), "1970-01-02"));
    }
    stage.until("all are there", secs(120), || stage.people().len() == 12 && stage.is_at_rest()).await;
    stage.north().clinic.hide_by_hand(PATIENT, true);
    let stopped = || rows_of(&snapshot(&engine), "Patient").missing.is_some();
    stage.until("an account that sees less is no deletion", secs(2 * 60 * 60), stopped).await;
    stage.north().clinic.hide_by_hand(PATIENT, false);
    let well = || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. });
    stage.until("healed", secs(2 * 60 * 60), well).await;
    assert_eq!(stage.people().len(), 12);
    assert!((0..12).all(|number| stage.record("Patient", &format!("p{number}")).notice.is_none()));
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_no_stamp_tells_of_are_found_by_the_sweep_and_the_reason_is_told() {
    let stage = Stage::watched().await;
    let engine = stage.boot("desk-0");
    stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1", "1970-01-02"));
    stage.until("there", secs(60), || stage.people().len() == 1 && stage.is_at_rest()).await;
    // Whatever changes later moves the watermark past it.
    tokio::time::sleep(secs(30 * 60)).await;
    stage.put("Patient", "p2", somebody("p2", "SYNTHETIC-2", "1971-01-02"));
    stage.until("another one", secs(60), || stage.people().len() == 2 && stage.is_at_rest()).await;
    tokio::time::sleep(secs(30)).await;
    stage.north().clinic.import_by_hand(PATIENT, "p1", "City", text("Imported"));
    let city = || stage.patients()[0].1["address"][0]["city"].clone();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(city(), Json::Null, "no poll can see it");
    stage.until("the sweep sees the version", secs(2 * 60 * 60), || city() == "Imported").await;
    let told = || rows_of(&snapshot(&engine), "Patient").remark == Some(Code::DeskClock);
    stage.until("it is told", secs(10), told).await;
    // The next sweep finds nothing of the kind.
    let mended = || rows_of(&snapshot(&engine), "Patient").remark.is_none();
    stage.until("mended", secs(2 * 60 * 60), mended).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn clocks_at_the_desk_that_are_wrong_lose_nothing() {
    for (ahead, patience, told) in [
        // Before the watermark by less than the overlap: found at once.
        (SignedDuration::from_secs(-200), secs(60), None),
        // Ahead of the host: found at once, and told.
        (SignedDuration::from_mins(15), secs(60), Some(Code::DeskClock)),
        // Far behind: not by a poll.
        (SignedDuration::from_hours(-3), secs(2 * 60 * 60), Some(Code::DeskClock)),
    ] {
        let stage = Stage::watched().await;
        let engine = stage.boot("desk-0");
        stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1", "1970-01-02"));
        stage.until("there", secs(60), || stage.people().len() == 1 && stage.is_at_rest()).await;
        tokio::time::sleep(secs(10 * 60)).await;
        // What another one changes moves the watermark on.
        stage.put("Patient", "p2", somebody("p2", "SYNTHETIC-2", "1971-01-02"));
        stage.until("another", secs(60), || stage.people().len() == 2 && stage.is_at_rest()).await;
        tokio::time::sleep(secs(150)).await;
        stage.north().clinic.set_desk_clocks(ahead);
        stage.north().clinic.edit_by_hand(PATIENT, "p1", "City", text("Pleasantville"));
        let arrived = || stage.patients()[0].1["address"][0]["city"] == "Pleasantville";
        stage.until("it arrives", patience, arrived).await;
        let remark = || rows_of(&snapshot(&engine), "Patient").remark;
        if told.is_some() {
            stage.until("it is told", secs(60), || remark() == told).await;
        }
        // One wrong clock does not keep the others' changes from being found.
        stage.north().clinic.set_desk_clocks(SignedDuration::ZERO);
        tokio::time::sleep(secs(60)).await;
        stage.north().clinic.edit_by_hand(PATIENT, "p1", "City", text("Elsewhere"));
        let second = || stage.patients()[0].1["address"][0]["city"] == "Elsewhere";
        stage.until("the next one arrives at once", secs(60), second).await;
        stage.kill(engine).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_without_the_fields_is_written_to_and_nothing_waits_for_it() {
    let mut stage = Stage::watched().await;
    stage.firms.get_mut(&firm("north")).unwrap().clinic = MemoryClinic::new();
    let engine = stage.boot("desk-0");
    stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1", "1970-01-02"));
    stage.until("written", secs(60), || stage.people().len() == 1 && stage.is_at_rest()).await;
    let well = || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. });
    stage.until("and up to date", secs(60), well).await;
    assert_eq!(rows_of(&snapshot(&engine), "Patient").remark, Some(Code::NotWatched));
    stage.north().clinic.edit_by_hand(PATIENT, "p1", "LastName", text("Testpatient-Clinic"));
    stage.put("Patient", "p1", somebody("p1", "SYNTHETIC-1b", "1970-01-02"));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(stage.calls("fhir.update").len(), 0, "nothing goes to the chart");
    assert_eq!(stage.people()[0].1, "Testpatient-Clinic");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn numbers_are_given_once_by_however_many_stations() {
    let mut stage = Stage::watched().await;
    let mapping = stage.mapping.resources.get_mut(&resource("Patient")).unwrap();
    mapping.table.number = Some(Numbered { field: "ChartNumber".to_owned(), from: 100 });
    let engines = [stage.boot("desk-0"), stage.boot("desk-1"), stage.boot("desk-2")];
    for number in 0..30 {
        let name = format!("p{number}");
        stage.put("Patient", &name, somebody(&name, &format!("SYNTHETIC-{number}"), "1970-01-02"));
    }
    tokio::time::sleep(secs(12)).await;
    // The power goes at one of them in the middle of it.
    let [first, second, third] = engines;
    stage.kill(second).await;
    let again = stage.boot("desk-1");
    stage.until("all are there", secs(10 * 60), || stage.people().len() == 30 && stage.is_at_rest()).await;
    let numbers =
        stage.north().clinic.rows(PATIENT).into_iter().map(|(_, mut fields)| match fields.remove("ChartNumber") {
            Some(Value::Number(digits)) => digits.parse::<u64>().unwrap(),
            _ => panic!("a row without its number"),
        });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let least = numbers[0];
    numbers.dedup();
    assert_eq!((numbers.len(), least), (30, 100), "each once, from the first on");
    for engine in [first, again, third] {
        stage.kill(engine).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sync_now_asks_filemaker_too() {
    let mut stage = Stage::watched().await;
    stage.plan.every = secs(60 * 60);
    stage.plan.overlap = secs(2 * 60 * 60);
    stage.plan.sweep_every = secs(24 * 60 * 60);
    let engine = stage.boot("desk-0");
    stage.rest(secs(60)).await;
    tokio::time::sleep(secs(60)).await;
    stage.north().clinic.enter_by_hand(PATIENT, named("Testpatient"));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(stage.patients().len(), 0);
    act(&engine, Action::SyncNow).await;
    stage.until("the pass has found it", secs(30), || stage.patients().len() == 1).await;
    let over = || snapshot(&engine).manual.is_some_and(|manual| !manual.is_running());
    stage.until("and it is over", secs(60), over).await;
    stage.kill(engine).await;
}
