//! What a front desk relies on beside the sync itself: a pause that holds, the day's journal, honesty after sleep, the audit of what
//! people ask for, names only for those who ask.

use std::time::Duration;

use engine::{
    action::{Action, AsideReason},
    audit::{Act, Ended, Search},
    error::{Class, Code},
    fakes::MemoryAudit,
    key::{BootId, RecordKey, StationId},
    lease::ENDLESS,
    ledger::{Claim, Owner},
    ports::{AuditLog, Clock, Ledger},
    reveal::AT_MOST,
    snapshot::{Pause, Snapshot, State, Verdict},
    supervisor::Engine,
};
use jiff::SignedDuration;

use super::stage::{Reaction, Stage, fault, key, measurement, secs, snapshot};

fn is_green(engine: &Engine) -> bool {
    matches!(snapshot(engine).verdict, Verdict::UpToDate { .. })
}

fn maria() -> Option<String> {
    Some("maria".to_owned())
}

async fn first(stage: &Stage, engine: &Engine) -> Snapshot {
    stage.until("the first snapshot", secs(5), || snapshot(engine).revision > 0).await;
    snapshot(engine)
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_power_cut_with_its_end_and_who_asked_for_it() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    let until = stage.clock.now() + SignedDuration::from_mins(30);
    engine.handle.act(Action::Pause { until }, maria()).await.unwrap();
    // The answer is there, so it is on disk.
    stage.kill(engine).await;
    stage.clear_log();
    stage.put_patient("p1", "Testpatient");
    let engine = stage.boot("desk-0");
    let pause = Some(Pause { until, by: maria() });
    assert_eq!(first(&stage, &engine).await.pause, pause);
    tokio::time::sleep(secs(25 * 60)).await;
    assert!(stage.calls("fhir.changes").is_empty() && stage.calls("queue.receive").is_empty());
    stage.kill(engine).await;
    tokio::time::sleep(secs(6 * 60)).await;
    let engine = stage.boot("desk-0");
    assert_eq!(first(&stage, &engine).await.pause, None, "it is over");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    // One that was ended by hand does not come back.
    engine.handle.act(Action::Pause { until: until + SignedDuration::from_hours(8) }, None).await.unwrap();
    engine.handle.act(Action::Resume, None).await.unwrap();
    stage.kill(engine).await;
    let engine = stage.boot("desk-0");
    assert_eq!(first(&stage, &engine).await.pause, None);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_everything_is_asked_at_once_and_nothing_old_is_called_news() {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(600);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    let until = stage.clock.now() + SignedDuration::from_hours(48);
    engine.handle.act(Action::Pause { until }, None).await.unwrap();
    tokio::time::sleep(secs(4 * 3_600)).await;
    engine.handle.act(Action::Resume, None).await.unwrap();
    // The last sweep is four intervals old, so that is what it waits for.
    let mut seen = Vec::new();
    while !is_green(&engine) {
        let state = snapshot(&engine).verdict.state();
        assert!(state != State::UpToDate);
        seen.push(state);
        assert!(seen.len() < 300, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("up to date {} ms after the pause", seen.len() * 100);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn after_sleep_it_is_up_to_date_only_when_that_was_proven_again() {
    let mut stage = Stage::set().await;
    // Long enough that the age of the last poll alone would not be an alarm.
    stage.plan.every = secs(3_600);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    stage.rule(|call| if call.op == "fhir.changes" { Reaction::After(secs(20)) } else { Reaction::Answer });
    stage.clear_log();
    stage.clock.suspend(secs(20 * 60));
    stage.until("no longer up to date", secs(2), || !is_green(&engine)).await;
    stage.until("it asks at once", secs(10), || stage.calls("fhir.changes").len() == 2).await;
    assert!(!stage.calls("fhir.probe").is_empty() && !stage.calls("clinic.probe").is_empty());
    for _ in 0..10 {
        assert_eq!(snapshot(&engine).verdict, Verdict::Starting, "its polls are not through");
        tokio::time::sleep(secs(1)).await;
    }
    stage.until("up to date again", secs(30), || is_green(&engine)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_asked_before_the_sleep_proves_nothing_after_it() {
    let mut stage = Stage::set().await;
    stage.settings = |settings| settings.receive_wait = secs(1);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    stage.rule(|call| if call.op == "fhir.changes" { Reaction::After(secs(15)) } else { Reaction::Answer });
    stage.clear_log();
    stage.until("both types are being polled", secs(30), || stage.calls("fhir.changes").len() == 2).await;
    stage.clock.suspend(secs(20 * 60));
    stage.clear_log();
    stage.until("both are polled anew", secs(20), || stage.calls("fhir.changes").len() == 2).await;
    for _ in 0..10 {
        assert!(!is_green(&engine), "what answered is from before the sleep");
        tokio::time::sleep(secs(1)).await;
    }
    stage.until("up to date again", secs(60), || is_green(&engine)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_does_not_come_through_any_more_is_an_alarm() {
    let mut stage = Stage::set().await;
    stage.plan.sweep_every = secs(600);
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    stage.put_patient("p1", "Testpatient");
    stage.until("it knows a record", secs(60), || stage.family("p1").is_some() && is_green(&engine)).await;
    // Polls go on; what only a sweep asks does not answer.
    stage.rule(|call| match call.op {
        "ledger.read" if call.about.contains("link") => fault(Class::Retry, Code::BadAnswer),
        _ => Reaction::Answer,
    });
    stage.until("no news", secs(3 * 600 + 60), || matches!(snapshot(&engine).verdict, Verdict::NoNews { .. })).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_an_end_is_a_fault() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    let owner = Owner { station: StationId::new("other").unwrap(), boot: BootId::new("b").unwrap() };
    let claim = Claim { owner, term: ENDLESS, overdue: None, now: stage.clock.now() };
    stage.ledger.take(&key("Patient", "p1"), &claim).await.unwrap();
    let alarm = Verdict::NeedsAttention { items: 1 };
    stage.until("it is said", secs(30), || snapshot(&engine).verdict == alarm).await;
    assert_eq!(snapshot(&engine).leases_endless, 1);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_being_worked_on_is_shown_with_its_time() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(60), || is_green(&engine)).await;
    stage.rule(|call| if call.op == "clinic.create" { Reaction::After(secs(20)) } else { Reaction::Answer });
    stage.put_patient("p1", "Testpatient");
    stage.until("it is at its write", secs(30), || !stage.calls("clinic.create").is_empty()).await;
    let begun = stage.clock.now();
    tokio::time::sleep(secs(12)).await;
    let holdings = snapshot(&engine).holdings;
    let holding = holdings.iter().find(|holding| holding.key == key("Patient", "p1")).unwrap();
    assert!(holding.since.duration_since(begun).unsigned_abs() < secs(2), "{holding:?}, begun {begun}");
    stage.until("done", secs(30), || snapshot(&engine).holdings.is_empty() && is_green(&engine)).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn the_day_is_written_down_and_kept() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.put_patient("p1", "Testpatient");
    stage.rule(|call| match call.op {
        "clinic.create" if call.about == "refused" => fault(Class::Permanent, Code::ValueRefused),
        _ => Reaction::Answer,
    });
    stage.put_patient("refused", "Testpatient");
    stage.until("sent", secs(60), || stage.family("p1").is_some()).await;
    tokio::time::sleep(secs(20 * 60)).await;
    let journal = snapshot(&engine).journal;
    let [begun, last] = journal.bins.as_slice() else { panic!("{journal:?}") };
    assert_eq!((begun.sent, begun.failed, begun.latency.count()), (1, 1, 1));
    assert!(begun.latency.within(0.5).is_some_and(|took| took < secs(20)), "{begun:?}");
    assert_eq!(begun.dominant(), Some(State::NeedsAttention));
    let lived: Duration = State::ALL.into_iter().map(|state| begun.lasted(state)).sum();
    assert!(lived > secs(14 * 60) && lived <= secs(15 * 60), "{lived:?}");
    assert_eq!((last.sent, last.failed), (0, 0));
    let sent = journal.last_sent;
    assert!(sent.is_some());
    // A power cut costs what came after the last quarter, a stop nothing.
    stage.kill(engine).await;
    let engine = stage.boot("desk-0");
    assert_eq!(first(&stage, &engine).await.journal.bins[0], *begun);
    engine
        .handle
        .act(Action::SetAside { keys: vec![key("Patient", "refused")], reason: AsideReason::Duplicate }, None)
        .await
        .unwrap();
    tokio::time::sleep(secs(120)).await;
    engine.handle.stop();
    engine.ended().await.unwrap();
    let engine = stage.boot("desk-0");
    let journal = first(&stage, &engine).await.journal;
    assert!(journal.bins[1].lasted(State::UpToDate) > secs(60), "{:?}", journal.bins);
    assert_eq!(journal.last_sent, sent);
    // While the machine sleeps, it is in no state.
    stage.clock.suspend(secs(2 * 3_600));
    tokio::time::sleep(secs(5)).await;
    let journal = snapshot(&engine).journal;
    assert_eq!(journal.bins.len(), 3);
    let lived: Duration = State::ALL.into_iter().map(|state| journal.bins[2].lasted(state)).sum();
    assert!(lived <= secs(10), "{lived:?}");
    stage.kill(engine).await;
}

async fn about(audit: &MemoryAudit, key: &RecordKey, act: Act) -> Vec<(Vec<String>, Option<String>, Ended)> {
    let search = Search { record: Some(key.clone()), acts: vec![act], ..Search::newest(100) };
    let entries = audit.search(&search).await.unwrap().entries;
    entries
        .into_iter()
        .rev()
        .map(|entry| (entry.begun.fields.clone(), entry.begun.person.clone(), entry.ended()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_record_a_person_acts_on_has_its_own_entry_with_the_reason() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.rule(|call| match call.op {
        "clinic.create" if call.about.starts_with("refused") => fault(Class::Permanent, Code::ValueRefused),
        _ => Reaction::Answer,
    });
    for name in ["refused-1", "refused-2", "p1"] {
        stage.put_patient(name, "Testpatient");
    }
    stage.until("two are dead", secs(60), || snapshot(&engine).dead == 2 && stage.family("p1").is_some()).await;
    let keys = vec![key("Patient", "refused-1"), key("Patient", "refused-2"), key("Patient", "p1")];
    let aside = Action::SetAside { keys: keys.clone(), reason: AsideReason::EnteredByHand };
    engine.handle.act(aside, maria()).await.unwrap();
    assert_eq!(snapshot(&engine).dead, 0);
    engine.handle.act(Action::PutBack { keys: keys[..1].to_vec() }, None).await.unwrap();
    assert_eq!(snapshot(&engine).dead, 1);
    let set_aside = || vec!["set-aside".to_owned(), "entered-by-hand".to_owned()];
    let put_back = (vec!["put-back".to_owned()], None, Ended::Done);
    assert_eq!(about(&stage.audit, &keys[0], Act::Asked).await, [(set_aside(), maria(), Ended::Done), put_back]);
    assert_eq!(about(&stage.audit, &keys[1], Act::Asked).await, [(set_aside(), maria(), Ended::Done)]);
    // It was never dead: nothing was done to it, and its history says so.
    assert_eq!(about(&stage.audit, &keys[2], Act::Asked).await, [(set_aside(), maria(), Ended::Refused)]);
    let alone = Action::SetAside { keys: keys[2..].to_vec(), reason: AsideReason::NotNeeded };
    assert_eq!(engine.handle.act(alone, maria()).await.unwrap_err().code, Code::NoLonger);
    stage.all_well();
    engine.handle.act(Action::Retry { keys: keys[..2].to_vec() }, maria()).await.unwrap();
    stage
        .until("both are sent", secs(60), || stage.family("refused-1").is_some() && stage.family("refused-2").is_some())
        .await;
    assert_eq!(about(&stage.audit, &keys[1], Act::Asked).await.last().unwrap().0, ["retry"]);
    assert!(stage.open_entries().is_empty());
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_read_live_for_whoever_asks_and_entered_in_the_audit_log() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.put_patient("p1", "Testpatient");
    stage.put("Observation", "m1", measurement("m1", "p1", "7"));
    stage.until("up to date", secs(60), || is_green(&engine) && stage.family("p1").is_some()).await;
    let asked = vec![key("Observation", "m1"), key("Patient", "p1"), key("Patient", "nobody")];
    let names = |revealed: Vec<engine::reveal::Revealed>| {
        let one = |one: engine::reveal::Revealed| (one.name.map(|name| name.expose().to_owned()), one.why);
        revealed.into_iter().map(one).collect::<Vec<_>>()
    };
    let name = || (Some("Testpatient".to_owned()), None);
    let revealed = engine.handle.reveal(asked.clone(), maria()).await.unwrap();
    assert_eq!(names(revealed), [name(), name(), (None, Some(Code::NotFound))]);
    // As the chart has it now.
    stage.put_patient("p1", "Testpatient-2");
    let revealed = engine.handle.reveal(asked[..1].to_vec(), maria()).await.unwrap();
    assert_eq!(names(revealed), [(Some("Testpatient-2".to_owned()), None)]);
    let entry = |ended| (Vec::new(), maria(), ended);
    assert_eq!(about(&stage.audit, &asked[0], Act::Revealed).await, [entry(Ended::Done), entry(Ended::Done)]);
    assert_eq!(about(&stage.audit, &asked[2], Act::Revealed).await, [entry(Ended::Refused)]);
    let many = (0..=AT_MOST).map(|number| key("Patient", &format!("p{number}"))).collect();
    assert_eq!(engine.handle.reveal(many, maria()).await.unwrap_err().code, Code::TooMany);
    // A server that does not answer keeps nobody waiting for long.
    stage.rule(|call| if call.op == "fhir.read" { Reaction::Hang } else { Reaction::Answer });
    let begun = tokio::time::Instant::now();
    let revealed = engine.handle.reveal(asked[..2].to_vec(), maria()).await.unwrap();
    assert_eq!(names(revealed), [(None, Some(Code::TimedOut)), (None, Some(Code::TimedOut))]);
    assert!(begun.elapsed() <= secs(11));
    stage.rule(
        |call| {
            if call.op.starts_with("fhir") { fault(Class::Away, Code::Unreachable) } else { Reaction::Answer }
        },
    );
    stage
        .until("away", secs(60), || {
            snapshot(&engine).connections.iter().any(|of| of.health != engine::connection::Health::Up)
        })
        .await;
    stage.clear_log();
    let revealed = engine.handle.reveal(asked[1..2].to_vec(), maria()).await.unwrap();
    assert_eq!(names(revealed), [(None, Some(Code::Unreachable))]);
    assert!(stage.calls("fhir.read").is_empty(), "a side that is away is not asked");
    assert!(stage.open_entries().is_empty());
    stage.kill(engine).await;
}
