//! What a run costs in ledger writes, and how hints become runs.

use engine::audit::Outcome;

use super::stage::{Reaction, Stage, key, secs};

async fn linked() -> Stage {
    let mut stage = Stage::set().await;
    stage.plan.every = secs(1_000_000);
    stage.plan.sweep_every = secs(1_000_000);
    stage
}

/// Writes of the record `Patient/p1` since the log was cleared: takes, saves, commits, and marks of any record.
fn ledger_writes(stage: &Stage) -> [usize; 4] {
    let about = key("Patient", "p1").to_string();
    let of = |op: &str| stage.calls(op).iter().filter(|call| call.about == about).count();
    [of("ledger.take"), of("ledger.save"), of("ledger.commit"), stage.calls("ledger.want").len()]
}

#[tokio::test(start_paused = true)]
async fn a_run_that_finds_nothing_is_two_ledger_writes_and_one_that_writes_is_three() {
    let stage = linked().await;
    let engine = stage.boot("desk-0");
    tokio::time::sleep(secs(5)).await;
    for (family, expected) in [("one", [1, 1, 1, 0]), ("one", [1, 0, 1, 0]), ("two", [1, 1, 1, 0])] {
        stage.put_patient("p1", family);
        stage.clear_log();
        stage.hint("Patient", "p1").await;
        stage.until("written", secs(30), || !stage.calls("ledger.commit").is_empty()).await;
        stage.rest(secs(5)).await;
        assert_eq!(ledger_writes(&stage), expected, "take, save, commit, want for {family}");
    }
    // Each write is in the audit log with the version it made.
    let versions: Vec<_> = stage.audit.entries().into_iter().map(|entry| entry.outcome).collect();
    let done = |version: &str| Some(Outcome::Done { version: Some(version.to_owned()) });
    assert_eq!(versions, [done("0"), done("1")]);
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn hints_that_come_during_a_run_cost_one_more_run() {
    let stage = linked().await;
    let engine = stage.boot("desk-0");
    tokio::time::sleep(secs(5)).await;
    stage.put_patient("p1", "Testpatient");
    stage.rule(|call| if call.op == "clinic.create" { Reaction::After(secs(10)) } else { Reaction::Answer });
    stage.clear_log();
    stage.hint("Patient", "p1").await;
    stage.until("it writes", secs(5), || !stage.calls("clinic.create").is_empty()).await;
    for _ in 0..50 {
        stage.hint("Patient", "p1").await;
    }
    stage.until("all are acknowledged", secs(60), || stage.queue.ids().is_empty()).await;
    stage.rest(secs(5)).await;
    assert_eq!(ledger_writes(&stage), [2, 1, 2, 0], "one that writes and one that finds nothing, for 51 hints");
    stage.kill(engine).await;
}
