//! Rows: the right one and no other, with their values as they were.

use engine::ports::ClinicDatabase as _;
use jiff::civil::date;
use simulators::filemaker::{Fault as Mishap, Route, When};

use super::*;

fn one_of_each() -> Fields {
    BTreeMap::from([
        ("Name".to_owned(), text("Ada\nTestpatient\n")),
        ("Amount".to_owned(), Value::Number("-12.5".into())),
        ("Day".to_owned(), Value::Date(date(1969, 7, 20))),
        ("At".to_owned(), Value::DateTime(date(1969, 7, 20).at(2, 56, 15, 0))),
        ("Yes".to_owned(), Value::Flag(true)),
    ])
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_written() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    let (id, version) = bench.relay.create(&loose(), "p1", &one_of_each()).await.unwrap();
    let row = bench.relay.find(&loose(), "p1").await.unwrap().unwrap();
    assert_eq!((&row.id, &row.mod_id), (&id, &version));
    assert!(row.fields == one_of_each());
    assert!(row.unreadable.is_empty());
    let raw = &bench.control.records("Loose")[0].fields;
    assert_eq!(raw["Name"], "Ada\rTestpatient\r", "FileMaker's paragraphs end with CR");
    assert_eq!(raw["Day"], "07/20/1969");
    assert_eq!(raw["At"], "07/20/1969 02:56:15");
    assert!(bench.relay.find(&loose(), "p2").await.unwrap().is_none());
}

#[tokio::test]
async fn an_edit_changes_what_it_names_and_blank_clears() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    let (id, version) = bench.relay.create(&loose(), "p1", &one_of_each()).await.unwrap();
    let changes = BTreeMap::from([
        ("Name".to_owned(), Value::Blank),
        ("Day".to_owned(), Value::Blank),
        ("Amount".to_owned(), Value::Number("7".into())),
    ]);
    let after = bench.relay.edit(&loose(), &id, &version, &changes).await.unwrap();
    let row = bench.relay.find(&loose(), "p1").await.unwrap().unwrap();
    assert_eq!(row.mod_id, after);
    let mut expected = one_of_each();
    expected.extend(changes);
    assert!(row.fields == expected);
}

#[tokio::test]
async fn operators_in_a_key_find_that_key_and_nothing_else() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    for (key, decoy) in [
        ("1...5", "3"),
        ("1..5", "3"),
        ("a@b", "axb"),
        ("a*b", "axxb"),
        ("a#b", "a1b"),
        (r"a\b", "ab"),
        ("\"quoted\"", "quoted"),
        ("=same", "same"),
        ("!", "twice"),
        ("<5", "4"),
        ("≤5", "4"),
        (">5", "6"),
        ("≥5", "6"),
        ("//", "03/02/2026"),
        ("?", "02/30/2026"),
        ("~relaxed", "relaxed"),
        ("a…z", "m"),
        ("two words", "words two"),
    ] {
        bench.control.desk_create("Loose", &[("FhirId", decoy)]).unwrap();
        assert!(bench.relay.find(&loose(), key).await.unwrap().is_none(), "{key} is not {decoy}");
        let (id, _) = bench.relay.create(&loose(), key, &Fields::new()).await.unwrap();
        let row = bench.relay.find(&loose(), key).await.unwrap();
        assert_eq!(row.map(|row| row.id), Some(id), "{key}");
    }
}

#[tokio::test]
async fn a_key_in_another_case_is_another_key() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    for key in ["ab-1", "Ab-1", "aB-1", "AB-1"] {
        bench.control.desk_create("Loose", &[("FhirId", key), ("Name", key)]).unwrap();
    }
    for key in ["ab-1", "Ab-1", "aB-1", "AB-1"] {
        let row = bench.relay.find(&loose(), key).await.unwrap().expect("hidden behind the others");
        assert!(row.fields["Name"] == text(key));
    }
    bench.control.desk_create("Loose", &[("FhirId", "zz")]).unwrap();
    assert!(bench.relay.find(&loose(), "ZZ").await.unwrap().is_none());
}

#[tokio::test]
async fn two_rows_with_one_key_are_nobodys() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    for _ in 0..2 {
        bench.control.desk_create("Loose", &[("FhirId", "p1")]).unwrap();
    }
    let fault = refused(bench.relay.find(&loose(), "p1").await, Class::Permanent, Code::DuplicateRows);
    assert_eq!(fault.subject.as_deref(), Some("API_Loose"));
}

#[tokio::test]
async fn a_key_that_cannot_be_asked_for_is_not_sent() {
    let bench = bench().await;
    for key in ["", "a\rb", "a\nb"] {
        refused(bench.relay.find(&patients(), key).await, Class::Permanent, Code::ValueUnmappable);
        refused(
            bench.relay.create(&patients(), key, &named("Testpatient")).await,
            Class::Permanent,
            Code::ValueUnmappable,
        );
    }
    assert_eq!(bench.control.counts().requests, 0);
}

#[tokio::test]
async fn digits_are_neither_lost_nor_rounded() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    let long = "123456789012345678901234567890.0625";
    let fields =
        BTreeMap::from([("Amount".to_owned(), Value::Number(long.into())), ("Name".to_owned(), text("000123"))]);
    bench.relay.create(&loose(), "p1", &fields).await.unwrap();
    let row = bench.relay.find(&loose(), "p1").await.unwrap().unwrap();
    assert!(row.fields["Amount"] == Value::Number(long.into()));
    assert!(row.fields["Name"] == text("000123"));
}

#[tokio::test]
async fn content_of_another_type_is_listed_and_nothing_else_suffers() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    let id = bench.control.desk_create("Loose", &[("FhirId", "p1"), ("Amount", "some"), ("Name", "Ada")]);
    id.expect("a number field takes text from the desk");
    // The layout calls the number field Yes and the mapping a date: what is in it cannot be read as one.
    bench.control.desk_create("Loose", &[("FhirId", "p2"), ("Yes", "7")]).unwrap();
    let row = bench.relay.find(&loose(), "p1").await.unwrap().unwrap();
    assert_eq!(row.unreadable, ["Amount"]);
    assert!(!row.fields.contains_key("Amount"));
    assert!(row.fields["Name"] == text("Ada"));
    assert!(row.fields["Day"] == Value::Blank);
    let row = bench.relay.find(&loose(), "p2").await.unwrap().unwrap();
    assert_eq!(row.unreadable, ["Yes"], "7 is no flag");
}

#[tokio::test]
async fn only_the_tables_fields_are_read_and_one_that_is_not_placed_is_no_blank() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    bench.control.desk_create("Loose", &[("FhirId", "p1"), ("Other", "secret")]).unwrap();
    let row = bench.relay.find(&loose(), "p1").await.unwrap().unwrap();
    assert!(row.fields.keys().eq(loose().fields.keys()));

    let wrong = table("API_Loose", &[("Nickname", FieldType::Text)]);
    let fault = refused(bench.relay.find(&wrong, "p1").await, Class::Stop, Code::FieldMissing);
    assert_eq!(fault.subject.as_deref(), Some("API_Loose::Nickname"));
    let fields = BTreeMap::from([("Nickname".to_owned(), text("x"))]);
    refused(bench.relay.create(&wrong, "p2", &fields).await, Class::Stop, Code::FieldMissing);
}

#[tokio::test]
async fn a_second_row_with_the_key_and_an_edit_from_an_old_version_are_stale() {
    let bench = bench().await;
    let (id, first) = bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    let fault = refused(bench.relay.create(&patients(), "p1", &named("Twin")).await, Class::Stale, Code::RecordChanged);
    assert_eq!(fault.vendor.as_deref(), Some("FileMaker 504"));
    assert_eq!(bench.control.count("Patient"), 1);

    let number: u64 = id.0.parse().unwrap();
    bench.control.desk_edit("Patient", number, &[("Phone", "555-0100")]).unwrap();
    let edit = bench.relay.edit(&patients(), &id, &first, &named("Overwritten")).await;
    let fault = refused(edit, Class::Stale, Code::RecordChanged);
    assert_eq!(fault.vendor.as_deref(), Some("FileMaker 306"));
    assert_eq!(bench.control.record("Patient", number).unwrap().fields["LastName"], "Testpatient");

    bench.control.desk_delete("Patient", number).unwrap();
    let edit = bench.relay.edit(&patients(), &id, &first, &named("Ghost")).await;
    refused(edit, Class::Stale, Code::RecordChanged);
}

#[tokio::test]
async fn a_record_open_at_the_desk_is_waited_for() {
    let bench = bench().await;
    let (id, version) = bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    let number: u64 = id.0.parse().unwrap();
    bench.control.lock("Patient", number).unwrap();
    let edit = bench.relay.edit(&patients(), &id, &version, &named("Later")).await;
    let fault = refused(edit, Class::Wait(None), Code::RecordOpen);
    assert_eq!(fault.vendor.as_deref(), Some("FileMaker 301"));
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_some(), "reading is not barred");
    bench.control.release("Patient", number).unwrap();
    bench.relay.edit(&patients(), &id, &version, &named("Later")).await.unwrap();
}

#[tokio::test]
async fn no_match_is_known_by_its_code_at_any_status() {
    let bench = bench().await;
    for status in [200, 400, 401, 404, 500] {
        bench.control.set_status(401, status);
        assert!(bench.relay.find(&patients(), "nobody").await.unwrap().is_none(), "HTTP {status}");
    }
    // So some servers speak of a table without a row.
    bench.control.inject(Mishap::Code(101), When::next().route(Route::Find));
    assert!(bench.relay.find(&patients(), "nobody").await.unwrap().is_none());
    // HTTP's own 401 is not that: a token that died is replaced, not taken for an empty answer.
    bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    bench.control.expire_tokens();
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_some());
}
