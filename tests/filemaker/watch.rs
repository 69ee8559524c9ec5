//! Whether the clinic's own changes can be found, as the doctor sees it, and what the client does where they cannot.

use chart_relay::adapters::doctor::Verdict;
use engine::{
    ports::ClinicDatabase as _,
    row::{ChangeFields, Row},
};
use jiff::{SignedDuration, tz::TimeZone};

use super::*;

fn watched() -> Table {
    let changes = ChangeFields { uuid: "UUID".to_owned(), modified: "ModifiedAt".to_owned() };
    Table { changes: Some(changes), ..patients() }
}

async fn note(bench: &Bench, table: Table) -> String {
    let steps = bench.relay.diagnose_changes(&[table], &TimeZone::UTC).await;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].name, "changes API_Patient");
    match &steps[0].verdict {
        Verdict::Warned(note) => note.clone(),
        other => panic!("{other:?}"),
    }
}

/// The host of a clinic whose file was changed so.
async fn bench_of(change: impl Fn(File) -> File) -> Bench {
    bench_with(Clinic::synthetic(ACCOUNT, PASSWORD).each_file(change), |_| {}).await
}

#[tokio::test]
async fn a_table_with_both_fields_can_be_watched() {
    let bench = bench().await;
    bench.control.desk_create("Patient", &[("LastName", "Testpatient")]).unwrap();
    let steps = bench.relay.diagnose_changes(&[watched(), patients()], &TimeZone::UTC).await;
    assert!(matches!(&steps[0].verdict, Verdict::Passed(note) if note == "UUID and ModifiedAt"), "{steps:?}");
    assert!(matches!(&steps[1].verdict, Verdict::Skipped(_)), "the mapping does not ask for it");
}

#[tokio::test]
async fn what_a_check_up_writes_and_deletes_again_is_no_change() {
    let bench = bench().await;
    for key in ["p1", "chart-relay-probe-0000000000000007"] {
        bench.control.desk_create("Patient", &[("FhirId", key)]).unwrap();
    }
    for since in [None, Some("2026-03-02T00:00:00".parse().unwrap())] {
        let listed = bench.relay.changed(&watched(), since, None).await.unwrap();
        assert_eq!(listed.changes.iter().map(|change| change.key.as_deref()).collect::<Vec<_>>(), [Some("p1")]);
    }
}

#[tokio::test]
async fn what_the_layout_lacks_is_named_with_how_to_add_it_and_the_rest_goes_on() {
    for (missing, named) in [
        (&["UUID", "ModifiedAt"][..], &["UUID", "Get ( UUID )", "ModifiedAt", "Get ( CurrentHostTimestamp )"][..]),
        (&["ModifiedAt"], &["ModifiedAt", "Get ( CurrentHostTimestamp )"]),
        (&["UUID"], &["UUID", "Get ( UUID )"]),
    ] {
        let bench = bench_of(|file| file.without("API_Patient", missing)).await;
        let note = note(&bench, watched()).await;
        assert!(named.iter().all(|part| note.contains(part)), "{note}");
        assert!(note.contains("does not go to the chart"), "{note}");

        // Written to as ever, and not watched.
        let (id, version) = bench.relay.create(&watched(), "p1", &super::named("Testpatient")).await.unwrap();
        bench.relay.edit(&watched(), &id, &version, &super::named("Renamed")).await.unwrap();
        let row: Row = bench.relay.find(&watched(), "p1").await.unwrap().unwrap();
        assert_eq!((row.uuid, row.modified), (None, None), "without {missing:?}");
        let since = "2026-03-02T08:00:00".parse().unwrap();
        let fault = refused(bench.relay.changed(&watched(), Some(since), None).await, Class::Stop, Code::FieldMissing);
        assert_eq!(fault.subject.as_deref(), Some("API_Patient::UUID or API_Patient::ModifiedAt"));
        refused(bench.relay.changed(&watched(), None, None).await, Class::Stop, Code::FieldMissing);
    }
}

#[tokio::test]
async fn fields_that_are_there_and_do_not_serve_are_told() {
    let typed = bench_of(|file| file.replacing("Patient", Field::text("UUID"))).await;
    typed.control.desk_create("Patient", &[("LastName", "Testpatient")]).unwrap();
    let note = note(&typed, watched()).await;
    assert!(note.contains("UUID is not entered by itself") && note.contains("1 rows have no UUID"), "{note}");
    let listed = typed.relay.changed(&watched(), None, None).await.unwrap();
    assert_eq!(listed.changes[0].uuid, None, "nobody can name it");

    for field in [Field::text("ModifiedAt"), Field::time_stamp("ModifiedAt").calculated(|_| String::new())] {
        let bench = bench_of(|file| file.replacing("Patient", field.clone())).await;
        let steps = bench.relay.diagnose_changes(&[watched()], &TimeZone::UTC).await;
        match &steps[0].verdict {
            Verdict::Failed { fault, advice } => {
                assert_eq!(fault.subject.as_deref(), Some("API_Patient::ModifiedAt"));
                assert!(advice.contains("Get ( CurrentHostTimestamp )"), "{advice}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn time_stamps_of_a_desks_clock_are_found_out_when_they_are_ahead() {
    let field = Field::time_stamp("ModifiedAt").auto_desk_modified().indexed();
    let bench = bench_of(|file| file.replacing("Patient", field.clone())).await;
    bench.control.set_desk_clocks(SignedDuration::from_mins(10));
    bench.control.desk_create("Patient", &[("LastName", "Testpatient")]).unwrap();
    let note = note(&bench, watched()).await;
    assert!(note.contains("ahead of the host's clock") && note.contains("hourly comparison"), "{note}");

    // A clock a little off is nobody's fault, and without the host's own time nothing can be said.
    let bench = bench_of(|file| file.replacing("Patient", field.clone())).await;
    bench.control.set_desk_clocks(SignedDuration::from_secs(30));
    bench.control.desk_create("Patient", &[("LastName", "Testpatient")]).unwrap();
    let steps = bench.relay.diagnose_changes(&[watched()], &TimeZone::UTC).await;
    assert!(matches!(&steps[0].verdict, Verdict::Passed(_)), "{steps:?}");
    bench.control.set_desk_clocks(SignedDuration::from_mins(10));
    bench.control.send_dates(false);
    let steps = bench.relay.diagnose_changes(&[watched()], &TimeZone::UTC).await;
    assert!(matches!(&steps[0].verdict, Verdict::Passed(_)), "{steps:?}");
    let listed = bench.relay.changed(&watched(), None, None).await.unwrap();
    assert_eq!((listed.changes.len(), listed.host_time), (1, None));
}
