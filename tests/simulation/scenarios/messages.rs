//! Messages of other producers, of other clinics, that cannot be read, and that SQS has put away.

use engine::{
    action::Action,
    error::{Class, Code},
    fakes::MemoryQueue,
    keys::{ClinicKey, Seal},
    ledger::{DeadLetter, Filter},
    ports::{Ledger, Message, Queue},
};
use serde_json::json;

use super::stage::{Reaction, Stage, VISIBILITY, fault, firm, measurement, patient, secs, snapshot};

/// A station that never polls and whose clinic's are all messages that name none.
async fn listening() -> Stage {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(1_000_000);
    stage.plan.sweep_every = secs(1_000_000);
    stage.settings = |settings| settings.default_firm = Some(firm("north"));
    stage
}

async fn letters(stage: &Stage) -> Vec<DeadLetter> {
    stage.ledger.dead_letters(99).await.unwrap()
}

/// What is kept of a message, as whoever has the clinic key can see it.
fn kept(letter: &DeadLetter) -> Option<String> {
    let seal = Seal::new(&ClinicKey::from_bytes([9; 32]));
    let plain = (!letter.sealed_body.is_empty()).then(|| seal.open(&letter.id, &letter.sealed_body).unwrap())?;
    Some(String::from_utf8(plain).unwrap())
}

#[tokio::test(start_paused = true)]
async fn messages_of_other_producers_are_read_and_one_that_cannot_be_stops_nothing() {
    let stage = listening().await;
    stage.put_patient("p1", "Testpatient-1");
    stage.put_patient("p2", "Testpatient-2");
    stage.put_patient("p3", "Testpatient-3");
    stage.put("Observation", "m1", measurement("m1", "p1", "1"));
    let whole = json!({ "resourceType": "Patient", "id": "p2", "text": "SYNTHETIC".repeat(50_000) });
    let broken = json!({ "resourceType": "Patient", "name": [{ "family": "SYNTHETIC" }] });
    for body in [
        broken.to_string(),
        json!({ "v": 1, "hints": [{ "resource": "Observation", "id": "m1" }] }).to_string(),
        "SYNTHETIC".to_owned(),
        json!({ "patientId": "p1" }).to_string(),
        json!({ "patientId": "p1", "name": "SYNTHETIC" }).to_string(),
        whole.to_string(),
        json!({ "TopicArn": "arn:synthetic", "Message": json!({ "resourceType": "Patient", "id": "p3" }).to_string() })
            .to_string(),
    ] {
        stage.send(body).await;
    }
    let engine = stage.boot("desk-0");
    stage.rest(secs(60)).await;
    for (name, family) in [("p1", "Testpatient-1"), ("p2", "Testpatient-2"), ("p3", "Testpatient-3")] {
        assert_eq!(stage.family(name).as_deref(), Some(family));
    }
    assert_eq!(stage.record("Observation", "m1").dead, None);
    let letters = letters(&stage).await;
    assert_eq!(letters.len(), 3);
    for letter in &letters {
        assert!(kept(letter).is_none() && !letter.reason.contains("SYNTHETIC"), "{}", letter.reason);
    }
    tokio::time::sleep(secs(2)).await;
    assert_eq!(snapshot(&engine).dead, 3, "each needs attention");
    stage.kill(engine).await;
}

/// Of the two hints of a plain message one is wanted later than the other: the message is not acknowledged before.
#[tokio::test(start_paused = true)]
async fn a_message_of_two_hints_is_acknowledged_when_both_are_covered() {
    let stage = listening().await;
    stage.put_patient("p1", "Testpatient");
    stage.rule(|call| match call.op {
        "ledger.take" | "ledger.want" if call.about.contains("QuestionnaireResponse") => {
            fault(Class::Retry, Code::DatabaseUnavailable)
        }
        _ => Reaction::Answer,
    });
    stage.send(json!({ "patientId": "p1", "intakeFormId": "f1" }).to_string()).await;
    let engine = stage.boot("desk-0");
    stage.until("the patient is done", secs(30), || stage.family("p1").is_some()).await;
    tokio::time::sleep(secs(30)).await;
    assert_eq!(stage.queue.ids(), ["message-1"]);
    stage.all_well();
    stage.until("it is covered", secs(300), || stage.queue.ids().is_empty()).await;
    // No mapping is for forms here: that is said of the record.
    assert_eq!(stage.record("QuestionnaireResponse", "f1").dead.map(|dead| dead.code), Some(Code::NotMapped));
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_hint_for_another_stations_clinic_waits_for_that_station_and_dies_when_nobody_serves_it() {
    let mut both = Stage::with_firms(&["north", "south"]).await;
    both.plan.every = secs(1_000_000);
    both.plan.sweep_every = secs(1_000_000);
    let south = both.firms.remove(&firm("south")).unwrap();
    south.fhir.put(&crate::world::resource("Patient"), &crate::world::id("s1"), Some(patient("s1", "Testpatient")));
    // Some station serves the south; this one does not.
    both.ledger.serve(firm("south"));
    let engine = both.boot("desk-0");
    both.hint_firm("south", "Patient", "s1").await;
    both.hint_firm("west", "Patient", "w1").await;
    let of = |name: &str| {
        both.ledger.records().into_iter().find(|(key, _)| key.firm == firm(name)).map(|(_, record)| record)
    };
    both.until("both are covered", secs(30), || both.queue.ids().is_empty()).await;
    both.until("nobody serves the west", secs(180), || of("west").is_some_and(|record| record.dead.is_some())).await;
    assert_eq!(of("west").unwrap().dead.unwrap().code, Code::UnknownFirm);
    // Half a day without its station, and it still waits.
    tokio::time::sleep(secs(12 * 3_600)).await;
    let waits = of("south").unwrap();
    assert_eq!((waits.dead, waits.wanted.unwrap().waits_for), (None, Some(Code::UnknownFirm)));
    assert_eq!(waits.stamp.epoch, 0, "nobody took its lease");
    both.firms.insert(firm("south"), south);
    let other = both.boot("desk-1");
    both.until("its own station does it", secs(60), || of("south").unwrap().wanted.is_none()).await;
    assert_eq!(both.firms[&firm("south")].clinic.rows(crate::world::PATIENT).len(), 1);
    both.kill(engine).await;
    both.kill(other).await;
}

#[tokio::test(start_paused = true)]
async fn letters_whose_ids_are_kept_are_read_again_and_a_crash_in_between_does_no_harm() {
    let mut stage = listening().await;
    stage.settings = |_| {};
    stage.put_patient("p1", "Testpatient-1");
    stage.put_patient("p2", "Testpatient-2");
    stage.send(json!({ "resourceType": "Patient", "id": "p1", "name": "SYNTHETIC" }).to_string()).await;
    stage.send(json!({ "patientId": "p2" }).to_string()).await;
    stage.send("SYNTHETIC".into()).await;
    let engine = stage.boot("desk-0");
    stage.until("three letters", secs(30), || stage.queue.ids().is_empty()).await;
    let bodies: Vec<_> = letters(&stage).await.iter().map(kept).collect();
    let of = |id: &str| Some(json!({ "v": 1, "hints": [{ "resource": "Patient", "id": id }] }).to_string());
    assert_eq!(bodies, [of("p1"), of("p2"), None]);
    let all: Vec<_> = letters(&stage).await.into_iter().map(|letter| letter.id).collect();
    let again = |ids: &[String]| Action::RetryLetters { ids: ids.to_vec() };
    // Nobody has said yet whose they are.
    let refused = engine.handle.act(again(&all), None).await.unwrap_err();
    assert_eq!((refused.code, letters(&stage).await.len()), (Code::Malformed, 3));
    stage.kill(engine).await;

    stage.settings = |settings| settings.default_firm = Some(firm("north"));
    let engine = stage.boot("desk-0");
    // The power goes after the records were marked and before the letters were forgotten.
    stage.rule(|call| if call.op == "ledger.unbury" { Reaction::Hang } else { Reaction::Answer });
    let asked = tokio::time::timeout(secs(10), engine.handle.act(again(&all), None)).await;
    assert!(asked.is_err());
    assert_eq!(letters(&stage).await.len(), 3);
    stage.kill(engine).await;
    stage.all_well();
    let engine = stage.boot("desk-0");
    engine.handle.act(again(&all), Some("maria".into())).await.unwrap();
    stage.rest(secs(60)).await;
    assert!(stage.family("p1").is_some() && stage.family("p2").is_some());
    assert_eq!(stage.north().clinic.rows(crate::world::PATIENT).len(), 2, "nothing is doubled");
    assert_eq!(letters(&stage).await.iter().map(|letter| &letter.id).collect::<Vec<_>>(), [&all[2]]);
    // One entry for each message, and the one that stays was refused.
    let entries = stage.audit.entries();
    let by_maria = || entries.iter().filter(|entry| entry.begun.person.as_deref() == Some("maria"));
    assert_eq!(by_maria().count(), 3);
    let done = by_maria().filter(|entry| format!("{:?}", entry.outcome).contains("Done")).count();
    assert_eq!(done, 2);
    // Once more there is nothing to do.
    assert_eq!(engine.handle.act(again(&all[..2]), None).await.unwrap_err().code, Code::NoLonger);
    assert_eq!(stage.ledger.count(Filter::Dead).await.unwrap(), 0);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn what_sqs_has_put_away_is_covered_or_a_dead_letter_and_looking_is_rare() {
    let mut stage = listening().await;
    let backstop = MemoryQueue::new(stage.clock.clone(), VISIBILITY);
    stage.backstop = Some(backstop.clone());
    stage.put_patient("p1", "Testpatient");
    let put_away = |id: &str, body: &str| Message { id: id.into(), group: "g".into(), body: body.into() };
    let whole = json!({ "resourceType": "Patient", "id": "p1", "name": "SYNTHETIC" }).to_string();
    backstop.send(vec![put_away("a", &whole), put_away("b", "SYNTHETIC")]).await.unwrap();
    // Two stations look at once.
    let engines = [stage.boot("desk-0"), stage.boot("desk-1")];
    stage.until("it is emptied", secs(60), || backstop.ids().is_empty()).await;
    stage.rest(secs(60)).await;
    assert_eq!(stage.family("p1").as_deref(), Some("Testpatient"));
    let letters = letters(&stage).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.starts_with("moved by SQS"), "{}", letters[0].reason);
    assert_eq!(kept(&letters[0]), None);
    // One that is put away later is found as well, and the ledger being away loses nothing.
    stage.rule(|call| {
        if call.op == "ledger.want" { fault(Class::Retry, Code::DatabaseUnavailable) } else { Reaction::Answer }
    });
    stage.put_patient("p2", "Testpatient");
    backstop.send(vec![put_away("c", r#"{"patientId":"p2"}"#)]).await.unwrap();
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!(backstop.ids(), ["c"]);
    stage.all_well();
    stage.until("it is covered", secs(3_600), || stage.family("p2").is_some()).await;
    stage.rest(secs(3_600)).await;
    // What a day of looking costs each of the two.
    stage.clear_log();
    tokio::time::sleep(secs(86_400)).await;
    let looks = stage.calls("queue.receive").into_iter().filter(|call| call.place.ends_with("backstop")).count();
    println!("the dead-letter queue is asked {looks} times a day by two stations");
    assert!((100..300).contains(&looks), "{looks}");
    for engine in engines {
        stage.kill(engine).await;
    }
}
