//! What becomes of single charts: children, parents, and the clinic's own hand.

use engine::{error::Code, row::Value};

use super::stage::{Stage, measurement, secs};
use crate::world::{MEASUREMENT, PATIENT};

#[tokio::test(start_paused = true)]
async fn a_child_waits_for_its_parent_and_one_whose_parent_never_comes_stops_nothing() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.put("Observation", "m1", measurement("m1", "p1", "SYNTHETIC 1"));
    stage.put("Observation", "orphan", measurement("orphan", "nobody", "SYNTHETIC 2"));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(stage.north().clinic.rows(MEASUREMENT).len(), 0, "no row without its parent's");
    stage.put_patient("p1", "Testpatient");
    let arrived = || stage.row(MEASUREMENT, "m1").is_some();
    stage.until("the child follows its parent", secs(120), arrived).await;
    let told = || stage.record("Observation", "orphan").dead.map(|dead| dead.code) == Some(Code::ParentMissing);
    stage.until("the orphan is shown to a person", secs(60 * 60), told).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_clinics_own_edit_is_kept_over_many_edits_of_the_portal() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.put_patient("p1", "Testpatient");
    stage.until("the row is there", secs(60), || stage.family("p1").is_some() && stage.is_at_rest()).await;
    stage.north().clinic.edit_by_hand(PATIENT, "p1", "LastName", Value::Text("Testpatient-Clinic".into()));
    for number in 0..20 {
        stage.put_patient("p1", &format!("Testpatient-{number}"));
        tokio::time::sleep(secs(30)).await;
        assert_eq!(stage.family("p1").as_deref(), Some("Testpatient-Clinic"));
    }
    assert_eq!(stage.record("Patient", "p1").notice, Some(Code::Differs));
    // Once both say the same, it is over.
    stage.put_patient("p1", "Testpatient-Clinic");
    stage.until("agreed", secs(60), || stage.record("Patient", "p1").notice.is_none()).await;
    stage.put_patient("p1", "Testpatient-after");
    stage.until("carried", secs(60), || stage.family("p1").as_deref() == Some("Testpatient-after")).await;
    stage.kill(engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_the_clinic_deleted_is_not_made_again() {
    let stage = Stage::set().await;
    let engine = stage.boot("desk-0");
    stage.put_patient("p1", "Testpatient");
    stage.until("the row is there", secs(60), || stage.family("p1").is_some() && stage.is_at_rest()).await;
    stage.north().clinic.delete_by_hand(PATIENT, "p1");
    for number in 0..5 {
        stage.put_patient("p1", &format!("Testpatient-{number}"));
        tokio::time::sleep(secs(60)).await;
    }
    assert_eq!(stage.family("p1"), None);
    assert_eq!(stage.record("Patient", "p1").notice, Some(Code::RowDeleted));
    stage.kill(engine).await;
}
