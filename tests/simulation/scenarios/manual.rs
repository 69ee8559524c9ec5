//! Sync now: one full pass, whatever the weather, that ends in one sentence.

use std::time::Duration;

use engine::{
    action::Action,
    audit::Outcome,
    connection::Side,
    error::{Class, Code, Fault},
    key::{BootId, StationId},
    ledger::{Claim, Owner, Take},
    manual::{Finished, LONGEST, Stage as Doing},
    ports::{Clock, Ledger},
    snapshot::Verdict,
    supervisor::Engine,
};
use jiff::SignedDuration;

use super::stage::{Reaction, Stage, fault, firm, key, measurement, patient, secs, snapshot};
use crate::world::{MEASUREMENT, PATIENT, id, resource};

/// A station that has proven everything and polls by itself only once an hour.
async fn settled(firms: &[&str]) -> (Stage, Engine) {
    let mut stage = Stage::with_firms(firms).await;
    stage.plan.every = secs(3_600);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. })).await;
    (stage, engine)
}

async fn press(engine: &Engine) -> Result<(), Fault> {
    engine.handle.act(Action::SyncNow, Some("maria".to_owned())).await
}

fn result(engine: &Engine) -> Option<Finished> {
    match snapshot(engine).manual?.stage {
        Doing::Finished(finished) => Some(finished),
        Doing::Checking { .. } | Doing::Sending => None,
    }
}

/// Presses the button and waits for the result; answers how long that took.
async fn pass(stage: &Stage, engine: &Engine, patience: Duration) -> (Finished, Duration) {
    press(engine).await.unwrap();
    assert_eq!(result(engine), None, "it shows at once that it runs");
    let took = stage.until("a result", patience, || result(engine).is_some()).await;
    (result(engine).unwrap(), took)
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_do_it_says_so_within_seconds() {
    let (stage, engine) = settled(&["north"]).await;
    let polls = stage.calls("fhir.changes").len();
    press(&engine).await.unwrap();
    let shown = snapshot(&engine).manual.unwrap();
    assert_eq!((shown.by.as_deref(), shown.stage), (Some("maria"), Doing::Checking { side: Side::FileMaker }));
    assert_eq!(press(&engine).await.unwrap_err().code, Code::SyncRunning, "one at a time");
    let took = stage.until("a result", secs(30), || result(&engine).is_some()).await;
    println!("Sync now with nothing to do: {took:?}");
    let finished = result(&engine).unwrap();
    assert_eq!((finished.sent, finished.failed, finished.waiting), (0, 0, 0));
    assert!(finished.complete && finished.obstacles.is_empty(), "{finished:?}");
    assert_eq!(stage.calls("fhir.changes").len(), polls + 2, "each of the two types was asked for once");
    let entries = stage.audit.entries();
    let outcomes: Vec<_> = entries.iter().map(|entry| entry.outcome.clone().unwrap()).collect();
    assert_eq!(outcomes, [Outcome::Done { version: None }, Outcome::Refused { code: Code::SyncRunning }]);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn it_brings_what_nobody_announced_and_waits_for_a_child_whose_parent_is_just_made() {
    let (stage, engine) = settled(&["north", "south"]).await;
    let south = stage.firms[&firm("south")].clone();
    stage.put("Observation", "m1", measurement("m1", "p1", "7"));
    stage.put_patient("p1", "Testpatient");
    south.fhir.put(&resource("Patient"), &id("s1"), Some(patient("s1", "Testpatient")));
    let (finished, took) = pass(&stage, &engine, secs(60)).await;
    println!("Sync now with three to send: {took:?}");
    assert_eq!((finished.sent, finished.failed, finished.waiting, finished.complete), (3, 0, 0, true), "{finished:?}");
    assert!(stage.row(MEASUREMENT, "m1").is_some() && stage.family("p1").is_some());
    assert_eq!(south.clinic.rows(PATIENT).len(), 1);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn while_paused_it_makes_its_pass_to_the_end_and_the_pause_stays() {
    let (stage, engine) = settled(&["north"]).await;
    let until = stage.clock.now() + SignedDuration::from_hours(8);
    engine.handle.act(Action::Pause { until }, None).await.unwrap();
    for number in 0..40 {
        stage.put("Observation", &format!("m{number}"), measurement(&format!("m{number}"), "p1", "7"));
    }
    stage.put_patient("p1", "Testpatient");
    let (finished, _) = pass(&stage, &engine, secs(120)).await;
    assert_eq!((finished.sent, finished.waiting, finished.complete), (41, 0, true), "{finished:?}");
    assert_eq!(snapshot(&engine).verdict, Verdict::Paused { until, by: None });
    tokio::time::sleep(secs(5)).await;
    stage.put_patient("p2", "Testpatient");
    stage.hint("Patient", "p2").await;
    stage.clear_log();
    tokio::time::sleep(secs(3_600)).await;
    let begun = [stage.calls("fhir.read"), stage.calls("fhir.changes"), stage.calls("queue.receive")].concat();
    assert!(begun.is_empty(), "it stays paused: {begun:?}");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_side_that_is_away_is_the_reason_and_what_waits_is_counted() {
    let (stage, engine) = settled(&["north", "south"]).await;
    stage.rule(|call| match call.op {
        op if op.starts_with("clinic") && call.place.ends_with("north") => fault(Class::Away, Code::Unreachable),
        op if op.starts_with("fhir") && call.place.ends_with("south") => fault(Class::Away, Code::NotAnswering),
        _ => Reaction::Answer,
    });
    stage.put_patient("p1", "Testpatient");
    stage.put_patient("p2", "Testpatient");
    tokio::time::sleep(secs(10)).await;
    let (finished, took) = pass(&stage, &engine, secs(90)).await;
    println!("Sync now with two sides away: {took:?}");
    assert_eq!((finished.sent, finished.failed, finished.waiting, finished.complete), (0, 0, 2, true), "{finished:?}");
    let obstacles: Vec<_> = finished.obstacles.iter().map(|of| (of.firm.clone(), of.side, of.code)).collect();
    let expected =
        [(firm("south"), Side::Fhir, Code::NotAnswering), (firm("north"), Side::FileMaker, Code::Unreachable)];
    assert_eq!(obstacles, expected);
    // And it finds out at once that they are back.
    stage.all_well();
    let (finished, _) = pass(&stage, &engine, secs(90)).await;
    assert_eq!((finished.sent, finished.waiting, finished.obstacles.len()), (2, 0, 0), "{finished:?}");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_side_that_went_a_moment_after_its_last_answer_is_named_though_nothing_is_to_be_sent() {
    let (stage, engine) = settled(&["north"]).await;
    pass(&stage, &engine, secs(60)).await;
    stage.rule(|call| match call.op {
        op if op.starts_with("clinic") => fault(Class::Away, Code::Unreachable),
        _ => Reaction::Answer,
    });
    let (finished, _) = pass(&stage, &engine, secs(60)).await;
    let obstacles: Vec<_> = finished.obstacles.iter().map(|of| (of.side, of.code)).collect();
    assert_eq!(obstacles, [(Side::FileMaker, Code::Unreachable)], "{finished:?}");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_said_with_the_time_that_is_left() {
    let (stage, engine) = settled(&["north"]).await;
    let throttled = || Reaction::Fail(Fault::new(Class::Wait(Some(secs(22))), Code::Throttled));
    stage.rule(move |call| if call.op == "fhir.changes" { throttled() } else { Reaction::Answer });
    let (finished, _) = pass(&stage, &engine, secs(60)).await;
    let [obstacle] = finished.obstacles.as_slice() else { panic!("{finished:?}") };
    assert_eq!((obstacle.side, obstacle.code), (Side::Fhir, Code::Throttled));
    assert!(obstacle.left.is_some_and(|left| left > secs(10) && left <= secs(22)), "{obstacle:?}");
    assert!(finished.complete);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn what_never_answers_does_not_keep_the_button_for_ever() {
    let (stage, engine) = settled(&["north"]).await;
    stage.rule(|call| match call.op {
        "fhir.changes" if call.about == "Observation" => Reaction::Hang,
        _ => Reaction::Answer,
    });
    stage.put_patient("p1", "Testpatient");
    let (finished, took) = pass(&stage, &engine, LONGEST + secs(30)).await;
    assert!(took >= LONGEST - secs(1), "{took:?}");
    assert_eq!((finished.sent, finished.complete), (1, false), "{finished:?}");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn it_retries_nothing_dead_and_breaks_no_lease() {
    let (stage, engine) = settled(&["north"]).await;
    stage.rule(|call| match call.op {
        "clinic.create" if call.about == "refused" => fault(Class::Permanent, Code::ValueRefused),
        _ => Reaction::Answer,
    });
    stage.put_patient("refused", "Testpatient");
    let (finished, _) = pass(&stage, &engine, secs(60)).await;
    assert_eq!((finished.sent, finished.failed, finished.waiting), (0, 1, 0), "{finished:?}");
    stage.all_well();
    // Another station is at work on this one.
    stage.put_patient("held", "Testpatient");
    let owner = Owner { station: StationId::new("other").unwrap(), boot: BootId::new("b").unwrap() };
    let claim = Claim { owner, term: secs(3_600), overdue: None, now: stage.clock.now() };
    let Take::Taken(_, theirs) = stage.ledger.take(&key("Patient", "held"), &claim).await.unwrap() else {
        panic!("nobody had it")
    };
    let (finished, _) = pass(&stage, &engine, secs(60)).await;
    assert_eq!((finished.sent, finished.failed, finished.waiting), (0, 0, 1), "{finished:?}");
    assert!(stage.record("Patient", "refused").dead.is_some(), "a dead record is for a person");
    assert_eq!(stage.record("Patient", "held").stamp.epoch, theirs.epoch);
    assert_eq!(stage.ledger.renew(&[theirs]).await.unwrap(), [true], "the lease is still theirs");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_open_and_is_closed_now_is_sent_at_once() {
    let (stage, engine) = settled(&["north"]).await;
    stage.put_patient("p1", "Testpatient-1");
    pass(&stage, &engine, secs(60)).await;
    stage.north().clinic.open_by_hand(PATIENT, "p1", true);
    stage.put_patient("p1", "Testpatient-2");
    let (finished, _) = pass(&stage, &engine, secs(60)).await;
    assert_eq!((finished.sent, finished.waiting), (0, 1), "{finished:?}");
    stage.north().clinic.open_by_hand(PATIENT, "p1", false);
    let (finished, took) = pass(&stage, &engine, secs(60)).await;
    assert_eq!((finished.sent, finished.waiting), (1, 0), "{finished:?}");
    assert!(took < secs(20), "it did not wait for its time: {took:?}");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn while_changes_keep_coming_it_ends_all_the_same() {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(2);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. })).await;
    let arriving = async {
        for number in 0.. {
            stage.put_patient(&format!("p{}", number % 50), &format!("Testpatient-{number}"));
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let passing = async {
        tokio::time::sleep(secs(20)).await;
        pass(&stage, &engine, secs(60)).await
    };
    let (finished, took) = tokio::select! {
        biased;
        passed = passing => passed,
        () = arriving => unreachable!(),
    };
    println!("Sync now while seven changes come each second: {took:?}, {finished:?}");
    assert!(finished.complete && finished.sent > 0);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn its_result_is_kept_across_a_restart_also_when_it_was_cut_short() {
    let (stage, engine) = settled(&["north"]).await;
    stage.put_patient("p1", "Testpatient");
    pass(&stage, &engine, secs(60)).await;
    let shown = snapshot(&engine).manual;
    stage.kill(engine).await;
    let engine = stage.boot("desk-0");
    stage.until("the first snapshot", secs(5), || snapshot(&engine).revision > 0).await;
    assert_eq!(snapshot(&engine).manual, shown);
    stage.until("up to date", secs(60), || matches!(snapshot(&engine).verdict, Verdict::UpToDate { .. })).await;
    stage.rule(|call| if call.op == "fhir.changes" { Reaction::After(secs(10)) } else { Reaction::Answer });
    press(&engine).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    engine.handle.stop();
    engine.ended().await.unwrap();
    stage.all_well();
    let engine = stage.boot("desk-0");
    stage.until("the first snapshot", secs(5), || snapshot(&engine).revision > 0).await;
    assert!(result(&engine).is_some_and(|finished| !finished.complete), "{:?}", snapshot(&engine).manual);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_outlasts_its_pass_begins_no_other_while_paused() {
    let (stage, engine) = settled(&["north"]).await;
    let until = stage.clock.now() + SignedDuration::from_hours(8);
    engine.handle.act(Action::Pause { until }, None).await.unwrap();
    let long = 2 * LONGEST + secs(120);
    stage.rule(move |call| if call.op == "fhir.changes" { Reaction::After(long) } else { Reaction::Answer });
    pass(&stage, &engine, LONGEST + secs(30)).await;
    // The same polls are still under way when the next pass calls, and when that is over.
    pass(&stage, &engine, LONGEST + secs(30)).await;
    stage.all_well();
    stage.clear_log();
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!(stage.calls("fhir.changes").len(), 0);
    stage.kill(engine).await;
}
