//! I20: whatever a dead station held is taken over in time, and its last write is recognised, whether or not it landed.

use std::time::Duration;

use super::stage::{Reaction, Stage, VISIBILITY, secs};
use crate::world::PATIENT;

/// The lease's term, a third of it until somebody looks, one look for due records, and the visibility of the delivery.
const TAKE_OVER: Duration = Duration::from_secs(30 + 10 + 1 + 60);

/// Cuts the power of a station in the middle of its write, for good, while another one lives.
async fn dies_in_the_middle_of(op: &'static str, lands: bool) {
    assert_eq!(VISIBILITY, secs(60));
    let stage = Stage::set().await;
    stage.put_patient("p1", "Testpatient-1");
    if op == "clinic.edit" {
        let first = stage.boot("desk-1");
        stage.until("the row is there", secs(60), || stage.family("p1").is_some() && stage.is_at_rest()).await;
        stage.kill(first).await;
        stage.put_patient("p1", "Testpatient-2");
    }
    let doomed = stage.boot("desk-0");
    stage.clear_log();
    stage.rule(move |call| match call {
        call if call.op == op && call.place.starts_with("desk-0") && lands => Reaction::CarryOutAndHang,
        call if call.op == op && call.place.starts_with("desk-0") => Reaction::Hang,
        _ => Reaction::Answer,
    });
    stage.hint("Patient", "p1").await;
    stage.until("the doomed station writes", secs(30), || !stage.calls(op).is_empty()).await;
    let heir = stage.boot("desk-1");
    tokio::time::sleep(secs(2)).await;
    stage.kill(doomed).await;
    let left = stage.record("Patient", "p1");
    assert!(left.held.is_some_and(|held| held.owner.station.as_str() == "desk-0"), "it died holding the lease");
    let expected = if op == "clinic.edit" { "Testpatient-2" } else { "Testpatient-1" };
    let took = stage
        .until("the heir has taken over and finished", TAKE_OVER, || {
            stage.record("Patient", "p1").held.is_none() && stage.family("p1").as_deref() == Some(expected)
        })
        .await;
    println!("I20: {op}, landed {lands}: finished {took:?} after the death, bound {TAKE_OVER:?}");
    // Longer than any lost write can take to land.
    stage.rest(secs(20 * 60)).await;
    assert_eq!(stage.north().clinic.rows(PATIENT).len(), 1, "nothing is doubled");
    assert_eq!(stage.family("p1").as_deref(), Some(expected));
    assert_eq!(stage.record("Patient", "p1").notice, None, "our own write was not taken for a person's");
    let writes = stage.calls(op).iter().filter(|call| call.place.starts_with("desk-1")).count();
    assert_eq!(writes, usize::from(!lands), "what landed is not written again");
    // A later edit of the portal is carried over: the base is what was written.
    stage.put_patient("p1", "Testpatient-3");
    stage.until("the next edit arrives", secs(30), || stage.family("p1").as_deref() == Some("Testpatient-3")).await;
    stage.kill(heir).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_landed_before_its_station_died_is_recognised() {
    dies_in_the_middle_of("clinic.edit", true).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_never_landed_is_made_by_the_heir() {
    dies_in_the_middle_of("clinic.edit", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_landed_before_its_station_died_is_recognised() {
    dies_in_the_middle_of("clinic.create", true).await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_never_landed_is_made_by_the_heir() {
    dies_in_the_middle_of("clinic.create", false).await;
}
