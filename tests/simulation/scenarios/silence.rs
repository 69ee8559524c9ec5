//! I25: silence is an alarm. Whatever stops answering, "up to date" is not said for long.

use std::time::Duration;

use engine::{
    error::{Class, Code, Fault},
    snapshot::Verdict,
    supervisor::Engine,
};

use super::stage::{Call, Reaction, Stage, fault, secs, snapshot};

fn is_green(engine: &Engine) -> bool {
    matches!(snapshot(engine).verdict, Verdict::UpToDate { .. })
}

async fn green() -> (Stage, Engine) {
    let stage = Stage::set().await;
    stage.put_patient("p1", "Testpatient");
    let engine = stage.boot("desk-0");
    stage.until("up to date", secs(120), || is_green(&engine)).await;
    (stage, engine)
}

/// From the moment of the trouble until the verdict is another one for good.
async fn leaves_green(trouble: impl Fn(&Call) -> Reaction + Send + Sync + 'static, within: Duration) {
    let (stage, engine) = green().await;
    stage.rule(trouble);
    let took = stage.until("no longer up to date", within, || !is_green(&engine)).await;
    println!("I25: {:?} after {took:?}, bound {within:?}", snapshot(&engine).verdict);
    // It may look well again for a moment, but not for longer than the silence that is allowed.
    let mut greens = 0;
    for _ in 0..600 {
        tokio::time::sleep(secs(1)).await;
        greens += u32::from(is_green(&engine));
    }
    assert!(greens < 10, "up to date was said for {greens} of 600 s");
    // And it is well again when the trouble is over.
    stage.all_well();
    stage.kill(engine).await;
    let engine = stage.boot("desk-0");
    stage.until("up to date again", secs(180), || is_green(&engine)).await;
    stage.kill(engine).await;
}

/// Three intervals of 10 s (polls) or 20 s (probes) or 30 s (receives), one more, and the second that a snapshot may be old.
fn bound(interval: u64) -> Duration {
    secs(interval * 4 + 1)
}

#[tokio::test(start_paused = true)]
async fn a_change_list_that_hangs_is_noticed() {
    leaves_green(|call| if call.op == "fhir.changes" { Reaction::Hang } else { Reaction::Answer }, bound(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_list_that_fails_is_noticed() {
    let trouble = |call: &Call| match call.op {
        "fhir.changes" => fault(Class::Retry, Code::BadAnswer),
        _ => Reaction::Answer,
    };
    leaves_green(trouble, bound(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_answers_nothing_is_noticed() {
    leaves_green(|call| if call.op.starts_with("fhir") { Reaction::Hang } else { Reaction::Answer }, bound(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_never_comes_back_is_noticed() {
    leaves_green(|call| if call.op == "queue.receive" { Reaction::Hang } else { Reaction::Answer }, bound(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_dies_each_time_is_noticed() {
    leaves_green(|call| if call.op == "queue.receive" { Reaction::Panic } else { Reaction::Answer }, bound(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_clinic_that_fails_its_probe_is_noticed() {
    let trouble = |call: &Call| match call.op {
        "clinic.probe" => fault(Class::Away, Code::NotAnswering),
        _ => Reaction::Answer,
    };
    leaves_green(trouble, bound(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_clinic_whose_probe_hangs_is_noticed() {
    leaves_green(|call| if call.op == "clinic.probe" { Reaction::Hang } else { Reaction::Answer }, bound(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_say_how_it_stands_is_noticed() {
    leaves_green(|call| if call.op == "ledger.survey" { Reaction::Hang } else { Reaction::Answer }, bound(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_at_another_station_is_noticed_here_too() {
    let stage = Stage::set().await;
    stage.put_patient("p1", "Testpatient");
    let other = stage.boot("desk-0");
    let engine = stage.boot("desk-1");
    stage.until("up to date", secs(120), || is_green(&engine) && is_green(&other)).await;
    // The other one keeps renewing its leases, and its polls hang.
    stage.rule(|call| match call.op {
        "fhir.changes" if call.place.starts_with("desk-0") => Reaction::Hang,
        _ => Reaction::Answer,
    });
    let within = bound(10) + secs(20);
    stage.until("no longer up to date", within, || !is_green(&engine)).await;
    stage.kill(engine).await;
    stage.kill(other).await;
}

/// A queue that counts needs no lull to prove that nothing waits.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_never_quiet_is_up_to_date_between_two_changes() {
    let stage = Stage::set().await;
    stage.put_patient("p1", "Testpatient");
    let engine = stage.boot("desk-0");
    let mut greens = 0;
    for _ in 0..300 {
        // Sooner than any receive comes back empty, and not in step with the snapshots of each second.
        stage.hint("Patient", "p1").await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(325)).await;
            greens += u32::from(is_green(&engine));
        }
    }
    assert!(greens > 100, "{greens} of 1200 looks");
    stage.kill(engine).await;
}

/// Where stations share queue and ledger, these may refuse what only a person can give.
#[tokio::test(start_paused = true)]
async fn storage_that_refuses_needs_a_person_and_is_well_again_by_itself() {
    for op in ["queue.receive", "ledger.due", "ledger.survey", "queue.depth"] {
        let (stage, engine) = green().await;
        stage.rule(move |call| match call.op {
            asked if asked == op => {
                let fault = Fault::new(Class::Stop, Code::AccessDenied);
                Reaction::Fail(fault.on("sqs:ReceiveMessage on synthetic"))
            }
            _ => Reaction::Answer,
        });
        stage
            .until("it needs attention", secs(60), || snapshot(&engine).verdict == Verdict::NeedsAttention { items: 1 })
            .await;
        stage.all_well();
        stage.until("up to date again", secs(60), || is_green(&engine)).await;
        stage.kill(engine).await;
    }
}

#[tokio::test(start_paused = true)]
async fn storage_that_cannot_be_reached_is_said_so_and_no_side_is_blamed() {
    let (stage, engine) = green().await;
    stage.rule(|call| match call.op {
        op if op.starts_with("queue") || op.starts_with("ledger") => fault(Class::Away, Code::Unreachable),
        _ => Reaction::Answer,
    });
    stage.until("no longer up to date", secs(3), || !is_green(&engine)).await;
    let said = || matches!(snapshot(&engine).verdict, Verdict::NoStorage { code: Code::Unreachable, .. });
    stage.until("it is said", secs(60), said).await;
    for _ in 0..600 {
        tokio::time::sleep(secs(1)).await;
        assert!(said(), "{:?}", snapshot(&engine).verdict);
    }
    stage.all_well();
    stage.until("up to date again", secs(60), || is_green(&engine)).await;
    stage.kill(engine).await;
}
