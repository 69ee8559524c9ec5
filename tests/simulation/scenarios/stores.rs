//! Queue and ledger that are away, throttled, gone or emptied: it is said plainly, what does not need them goes on, and when they are
//! back everything is made up for by itself.

use std::time::Duration;

use engine::{
    connection::Health,
    error::{Class, Code, Fault},
    snapshot::Verdict,
    supervisor::Engine,
};

use super::stage::{Call, Reaction, Stage, secs, snapshot};
use crate::world::PATIENT;

fn is_green(engine: &Engine) -> bool {
    matches!(snapshot(engine).verdict, Verdict::UpToDate { .. })
}

fn of_stores(call: &Call) -> bool {
    call.op.starts_with("queue") || call.op.starts_with("ledger")
}

/// Nothing that fails in the stores is blamed on the chart system or on FileMaker.
fn sides_are_well(engine: &Engine) -> bool {
    snapshot(engine).connections.iter().all(|connection| connection.health == Health::Up)
}

async fn green() -> (Stage, Engine) {
    let stage = Stage::set().await;
    stage.put_patient("p0", "Testpatient");
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(120), || is_green(&engine)).await;
    (stage, engine)
}

async fn outage(fault: Fault, long: Duration, said: fn(&Verdict) -> bool) {
    let (stage, engine) = green().await;
    let failing = fault.clone();
    stage.rule(move |call| if of_stores(call) { Reaction::Fail(failing.clone()) } else { Reaction::Answer });
    let noticed = stage.until("it is said", secs(60), || said(&snapshot(&engine).verdict)).await;
    let step = long / 20;
    for number in 1..=20 {
        stage.put_patient(&format!("p{number}"), "Testpatient");
        tokio::time::sleep(step).await;
        assert!(said(&snapshot(&engine).verdict), "{:?}", snapshot(&engine).verdict);
        assert!(sides_are_well(&engine), "{:?}", snapshot(&engine).connections);
    }
    assert_eq!(stage.north().clinic.rows(PATIENT).len(), 1, "nothing is written without a lease");
    stage.all_well();
    let made_up = stage.until("all is there", secs(600), || stage.north().clinic.rows(PATIENT).len() == 21).await;
    let well = stage.until("up to date", secs(180), || is_green(&engine)).await;
    println!(
        "{} for {long:?}: said after {noticed:?}, 20 changes there after {made_up:?}, up to date after {well:?}",
        fault.code
    );
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_or_a_day_without_aws_all_is_made_up_for_without_a_restart() {
    let away = |verdict: &Verdict| matches!(verdict, Verdict::NoStorage { code: Code::Unreachable, .. });
    for long in [secs(60 * 60), secs(24 * 60 * 60)] {
        outage(Fault::new(Class::Away, Code::Unreachable), long, away).await;
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_for_long_it_says_so_and_goes_on() {
    let throttled = |verdict: &Verdict| matches!(verdict, Verdict::NoStorage { code: Code::Throttled, .. });
    outage(Fault::new(Class::Wait(None), Code::Throttled), secs(60 * 60), throttled).await;
}

#[tokio::test(start_paused = true)]
async fn what_only_a_person_can_mend_asks_for_one_and_needs_no_restart() {
    let person = |verdict: &Verdict| matches!(verdict, Verdict::NeedsAttention { .. });
    for code in [Code::TableMissing, Code::SignInRefused, Code::AccessDenied] {
        outage(Fault::new(Class::Stop, code), secs(60 * 60), person).await;
    }
}

/// Polls find what changed, and the ledger takes the marks that the queue cannot.
#[tokio::test(start_paused = true)]
async fn without_a_queue_the_changes_of_the_chart_go_on() {
    let (stage, engine) = green().await;
    let gone = Fault::new(Class::Stop, Code::QueueMissing);
    stage.rule(move |call| if call.op.starts_with("queue") { Reaction::Fail(gone.clone()) } else { Reaction::Answer });
    for number in 1..=20 {
        stage.put_patient(&format!("p{number}"), "Testpatient");
    }
    let took = stage.until("all is there", secs(60), || stage.north().clinic.rows(PATIENT).len() == 21).await;
    let said = snapshot(&engine);
    assert_eq!(said.verdict, Verdict::NeedsAttention { items: 1 }, "a person has to make the queue again");
    let gone = |trouble: &Health| matches!(trouble, Health::Stopped { code: Code::QueueMissing, .. });
    assert!(said.storage.iter().any(gone), "{:?}", said.storage);
    assert!(sides_are_well(&engine));
    println!("without a queue 20 changes are there after {took:?}");
    stage.all_well();
    stage.until("up to date", secs(180), || is_green(&engine)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_in_a_queue_that_somebody_emptied_arrives_all_the_same() {
    let (stage, engine) = green().await;
    // Nobody receives until it is too late.
    stage.rule(|call| if call.op == "queue.receive" { Reaction::Hang } else { Reaction::Answer });
    tokio::time::sleep(secs(30)).await;
    for number in 1..=20 {
        stage.put_patient(&format!("p{number}"), "Testpatient");
    }
    stage.until("the hints are sent", secs(30), || stage.queue.ids().len() >= 20).await;
    let purged = stage.queue.purge().len();
    stage.kill(engine).await;
    stage.all_well();
    let engine = stage.boot("desk-1");
    let took = stage.until("all is there", secs(120), || stage.north().clinic.rows(PATIENT).len() == 21).await;
    println!("{purged} messages were purged; all is there {took:?} after the start of another station");
    // The same to a station that goes on.
    let waits = |call: &Call| if call.op == "queue.receive" { Reaction::After(secs(15)) } else { Reaction::Answer };
    stage.rule(waits);
    tokio::time::sleep(secs(60)).await;
    for number in 21..=40 {
        stage.put_patient(&format!("p{number}"), "Testpatient");
    }
    stage.until("the hints are sent", secs(30), || !stage.queue.ids().is_empty()).await;
    stage.queue.purge();
    stage.all_well();
    let took = stage.until("all is there", secs(120), || stage.north().clinic.rows(PATIENT).len() == 41).await;
    println!("purged again; all is there {took:?} later");
    stage.until("up to date", secs(180), || is_green(&engine)).await;
    stage.kill(engine).await;
}
