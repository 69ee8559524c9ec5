//! Pausing, draining, and workers that die.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use engine::{
    action::Action,
    ports::{Clock, Queue},
    snapshot::{Pause, Phase, Verdict},
};
use jiff::SignedDuration;

use super::stage::{Reaction, Stage, VISIBILITY, patient, secs, snapshot};
use crate::world::PATIENT;

/// A station that never polls, so that only hints begin anything.
async fn without_polls() -> Stage {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(1_000_000);
    stage.plan.sweep_every = secs(1_000_000);
    stage
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_dies_leaves_no_delivery_and_no_lease_behind() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    stage.until("the first receive", secs(5), || !stage.calls("queue.receive").is_empty()).await;
    stage.rule(|call| if call.op == "fhir.read" { Reaction::Hang } else { Reaction::Answer });
    stage.put_patient("p1", "Testpatient");
    stage.hint("Patient", "p1").await;
    stage.until("the run hangs", secs(30), || !stage.calls("fhir.read").is_empty()).await;
    let receives = Arc::new(AtomicUsize::new(0));
    stage.rule(move |call| match call.op {
        "queue.receive" if receives.fetch_add(1, Ordering::SeqCst) == 0 => Reaction::Panic,
        _ => Reaction::Answer,
    });
    stage.put_patient("p2", "Testpatient");
    // The receive that is under way brings it, and the next one kills the consumer.
    stage.hint("Patient", "p2").await;
    let both = || stage.family("p1").is_some() && stage.family("p2").is_some();
    stage.until("they come again", VISIBILITY + secs(60), both).await;
    stage.rest(secs(60)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn while_paused_nothing_begins_and_what_runs_is_finished() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    stage.rule(|call| if call.op == "clinic.create" { Reaction::After(secs(5)) } else { Reaction::Answer });
    stage.put_patient("p1", "Testpatient");
    stage.hint("Patient", "p1").await;
    stage.until("a run is at its write", secs(10), || !stage.calls("clinic.create").is_empty()).await;
    let until = stage.clock.now() + SignedDuration::from_mins(30);
    engine.handle.act(Action::Pause { until }, None).await.unwrap();
    stage.put_patient("p2", "Testpatient");
    stage.hint("Patient", "p2").await;
    stage.until("what ran is finished", secs(10), || stage.family("p1").is_some()).await;
    stage.clear_log();
    tokio::time::sleep(secs(20 * 60)).await;
    let begun = [stage.calls("fhir.read"), stage.calls("ledger.take")].concat();
    assert!(begun.is_empty(), "nothing begins: {begun:?}");
    assert_eq!(snapshot(&engine).verdict, Verdict::Paused { until, by: None });
    let left = stage.until("it ends by itself", secs(11 * 60), || stage.family("p2").is_some()).await;
    assert!(left > secs(9 * 60), "it ended {left:?} after twenty minutes: too early");
    assert_eq!(snapshot(&engine).pause, None);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_by_the_wall_clock_also_when_that_jumps() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    let until = stage.clock.now() + SignedDuration::from_hours(8);
    engine.handle.act(Action::Pause { until }, None).await.unwrap();
    stage.put_patient("p1", "Testpatient");
    stage.hint("Patient", "p1").await;
    tokio::time::sleep(secs(60)).await;
    stage.clock.jump(SignedDuration::from_hours(-2));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(stage.family("p1"), None);
    stage.clock.jump(SignedDuration::from_hours(11));
    stage.until("the pause is over", secs(30), || stage.family("p1").is_some()).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn sync_now_while_paused_makes_one_full_pass_and_stays_paused() {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(60);
    let until = stage.clock.now() + SignedDuration::from_hours(8);
    let first = stage.boot("desk-0");
    let person = Some("maria".to_owned());
    first.handle.act(Action::Pause { until }, person.clone()).await.unwrap();
    stage.kill(first).await;
    stage.clear_log();
    let engine = stage.boot("desk-0");
    stage.put_patient("p1", "Testpatient-1");
    tokio::time::sleep(secs(300)).await;
    assert!(stage.calls("fhir.changes").is_empty(), "a pause outlives the start");
    engine.handle.act(Action::SyncNow, None).await.unwrap();
    stage.until("one full pass", secs(30), || stage.family("p1").is_some()).await;
    assert_eq!(snapshot(&engine).pause, Some(Pause { until, by: person }));
    tokio::time::sleep(secs(60)).await;
    stage.put_patient("p1", "Testpatient-2");
    stage.hint("Patient", "p1").await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!(stage.family("p1").as_deref(), Some("Testpatient-1"), "it stays paused");
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_runs_in_named_phases() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    stage.rule(|call| if call.op == "clinic.create" { Reaction::After(secs(5)) } else { Reaction::Answer });
    stage.put_patient("p1", "Testpatient");
    stage.hint("Patient", "p1").await;
    stage.until("a run is at its write", secs(10), || !stage.calls("clinic.create").is_empty()).await;
    let mut snapshots = engine.handle.snapshots();
    let handle = engine.handle.clone();
    let phases = tokio::spawn(async move {
        let mut phases = vec![snapshots.borrow_and_update().phase];
        while snapshots.changed().await.is_ok() {
            let phase = snapshots.borrow_and_update().phase;
            if phases.last() != Some(&phase) {
                phases.push(phase);
            }
        }
        phases
    });
    handle.stop();
    tokio::time::sleep(secs(1)).await;
    stage.put_patient("p2", "Testpatient");
    stage.hint("Patient", "p2").await;
    let begun = tokio::time::Instant::now();
    engine.ended().await.unwrap();
    assert!(begun.elapsed() < secs(20), "within the grace");
    drop(handle);
    assert_eq!(phases.await.unwrap(), [Phase::Running, Phase::Draining, Phase::Stopped]);
    assert!(stage.family("p1").is_some() && stage.family("p2").is_none(), "what ran is finished, nothing begins");
    let record = stage.record("Patient", "p1");
    assert!(record.held.is_none() && record.wanted.is_none());
    assert_eq!(stage.queue.ids().len(), 1, "what ran is acknowledged, the other waits");
    assert!(stage.open_entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_a_run_that_hangs_to_the_next_start() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    stage.rule(|call| if call.op == "clinic.create" { Reaction::Hang } else { Reaction::Answer });
    stage.put_patient("p1", "Testpatient");
    stage.hint("Patient", "p1").await;
    stage.until("a run is at its write", secs(10), || !stage.calls("clinic.create").is_empty()).await;
    let begun = tokio::time::Instant::now();
    engine.handle.stop();
    engine.ended().await.unwrap();
    let took = begun.elapsed();
    assert!((secs(20)..secs(22)).contains(&took), "the grace is 20 s, it took {took:?}");
    assert_eq!(stage.open_entries().len(), 1, "the write it was at is on record");
    stage.all_well();
    let next = stage.boot("desk-0");
    stage.until("the next start finishes it", VISIBILITY + secs(30), || stage.family("p1").is_some()).await;
    // Until the lost create can no longer land.
    stage.rest(secs(15 * 60)).await;
    assert!(stage.open_entries().is_empty(), "the interrupted write is resolved");
    assert_eq!(stage.north().clinic.rows(PATIENT).len(), 1);
    stage.kill(next).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_in_a_drain_because_a_person_asks() {
    let stage = without_polls().await;
    let engine = stage.boot("desk-0");
    stage.rule(|call| if call.op == "clinic.create" { Reaction::After(secs(10)) } else { Reaction::Answer });
    stage.put("Patient", "p1", patient("p1", "Testpatient"));
    stage.hint("Patient", "p1").await;
    stage.until("a run is at its write", secs(10), || !stage.calls("clinic.create").is_empty()).await;
    engine.handle.stop();
    tokio::time::sleep(secs(1)).await;
    let keys = vec![super::stage::key("Patient", "p2")];
    engine.handle.act(Action::Retry { keys }, None).await.unwrap();
    engine.ended().await.unwrap();
    assert!(stage.calls("fhir.read").iter().all(|call| call.about == "Patient/p1"), "it is wanted, and waits");
    assert!(stage.record("Patient", "p2").wanted.is_some());
    assert_eq!(stage.queue.depth().await.unwrap().waiting, 0);
}
