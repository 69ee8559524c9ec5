//! The doctor's walk, and the proof by writing.

use chart_relay::adapters::{
    doctor::{Step, Verdict},
    pin::Fingerprint,
    transport::Trust,
};
use simulators::{
    filemaker::{Fault as Mishap, Route, When},
    tls::Certificate,
};

use super::*;

fn verdict<'a>(steps: &'a [Step], name: &str) -> &'a Verdict {
    &steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no step {name}: {steps:?}")).verdict
}

#[track_caller]
fn failed_with(steps: &[Step], name: &str, expected: Code) -> String {
    match verdict(steps, name) {
        Verdict::Failed { fault, advice } if fault.code == expected => advice.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.name.as_str()).collect()
}

const ALL: [&str; 8] =
    ["name", "connection", "TLS", "Data API", "sign-in", "database", "layout API_Patient", "read API_Patient"];

#[tokio::test]
async fn a_healthy_connection_passes_every_step() {
    let bench = bench().await;
    let steps = bench.relay.diagnose(&[patients()]).await;
    assert_eq!(names(&steps), ALL);
    assert!(!steps.iter().any(Step::has_failed), "{steps:?}");
    assert!(matches!(verdict(&steps, "TLS"), Verdict::Skipped(_)), "plain HTTP on loopback");
    assert!(matches!(verdict(&steps, "Data API"), Verdict::Passed(version) if version.contains("21.1.4")));
    assert_eq!(bench.control.counts().of(Route::Create), 0);
}

#[tokio::test]
async fn the_first_step_that_fails_names_the_cause_and_the_rest_is_skipped() {
    let bench = bench().await;
    bench.control.set_password(ACCOUNT, "another");
    let steps = bench.relay.diagnose(&[patients()]).await;
    assert_eq!(names(&steps), ALL);
    let advice = failed_with(&steps, "sign-in", Code::SignInRefused);
    assert!(advice.contains("fmrest"), "both reasons are named: {advice}");
    assert!(matches!(verdict(&steps, "read API_Patient"), Verdict::Skipped(_)));

    bench.control.inject(Mishap::Html502, When::always());
    failed_with(&bench.relay.diagnose(&[]).await, "Data API", Code::NotAnswering);

    bench.control.unplug().await;
    failed_with(&bench.relay.diagnose(&[]).await, "connection", Code::Unreachable);
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_the_tls_step() {
    let own = Certificate::self_signed().unwrap();
    let clinic = Clinic::synthetic(ACCOUNT, PASSWORD);
    let host = sim::FileMaker::start_tls(clinic, own.server_config().unwrap()).await.unwrap();
    for (trust, passes) in
        [(Trust::Pin(Fingerprint::of(own.der())), true), (Trust::Pin(Fingerprint::of(b"another")), false)]
    {
        let mut config = config(&host.base_url());
        config.trust = trust;
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
        let steps = FileMaker::new(config, Secret::new(PASSWORD), clock).unwrap().diagnose(&[]).await;
        assert!(matches!(verdict(&steps, "connection"), Verdict::Passed(_)));
        if passes {
            assert!(matches!(verdict(&steps, "TLS"), Verdict::Passed(_)));
        } else {
            failed_with(&steps, "TLS", Code::CertificateRefused);
        }
    }
}

#[tokio::test]
async fn a_layout_that_does_not_fit_the_mapping_is_named_with_its_fields() {
    let table = sim::Table::new("Odd")
        .field(Field::text("FhirId").unique().always())
        .field(Field::number("LastName"))
        .field(Field::text("BirthDate"))
        .field(Field::text("Hidden"))
        .field(Field::text("Full").calculated(|_| String::new()));
    let shown = ["FhirId", "LastName", "BirthDate", "Full"];
    let file = File::new("Clinic").table(table).layout(Layout::new("API_Odd", "Odd").showing(&shown));
    let bench = bench_with(Clinic::new(ACCOUNT, PASSWORD).file(file), |_| {}).await;
    let odd = |layout: &str, fields: &[(&str, FieldType)]| super::table(layout, fields);

    let tables = [odd("API_odd", &[]), odd("API_Odd", &[("Hidden", FieldType::Text), ("Nickname", FieldType::Text)])];
    let steps = bench.relay.diagnose(&tables).await;
    let advice = failed_with(&steps, "layout API_odd", Code::LayoutMissing);
    assert!(advice.contains("API_Odd"), "{advice}");
    let advice = failed_with(&steps, "layout API_Odd", Code::FieldMissing);
    assert!(advice.contains("Hidden, Nickname"), "{advice}");
    assert!(matches!(verdict(&steps, "read API_Odd"), Verdict::Skipped(_)));

    let steps = bench.relay.diagnose(&[odd("API_Odd", &[("LastName", FieldType::Text)])]).await;
    let advice = failed_with(&steps, "layout API_Odd", Code::ValueUnmappable);
    assert!(advice.contains("LastName"), "{advice}");

    let fields = [("BirthDate", FieldType::Date), ("Full", FieldType::Text)];
    let steps = bench.relay.diagnose(&[odd("API_Odd", &fields)]).await;
    match verdict(&steps, "layout API_Odd") {
        Verdict::Warned(note) => assert!(note.contains("BirthDate") && note.contains("Full"), "{note}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(verdict(&steps, "read API_Odd"), Verdict::Passed(_)));
}

#[tokio::test]
async fn writing_proves_the_key_and_the_version_and_leaves_nothing() {
    let bench = bench().await;
    let proof = bench.relay.write_probe(&patients(), 7).await;
    assert!(proof.unique && proof.guarded, "{:?}", proof.steps);
    assert_eq!(names(&proof.steps), ["create", "unique key", "version guard", "delete"]);
    assert!(
        matches!(verdict(&proof.steps, "create"), Verdict::Passed(key) if key == "chart-relay-probe-0000000000000007")
    );
    assert_eq!(bench.control.count("Patient"), 0);
    assert_eq!((bench.control.counts().with_code(504), bench.control.counts().with_code(306)), (1, 1));
}

#[tokio::test]
async fn a_key_that_is_not_unique_is_found_out_and_the_twin_deleted_as_well() {
    let bench = bench_with(loose_clinic(), |_| {}).await;
    bench.control.desk_create("Loose", &[("FhirId", "p1")]).unwrap();
    let proof = bench.relay.write_probe(&loose(), 7).await;
    assert!(!proof.unique && proof.guarded);
    failed_with(&proof.steps, "unique key", Code::UniquenessUnproven);
    assert_eq!(bench.control.count("Loose"), 1, "what was there before");
}

#[tokio::test]
async fn only_the_right_refusals_are_a_proof() {
    let bench = bench().await;
    bench.control.inject(Mishap::Code(509), When::next().after(1).route(Route::Create));
    bench.control.inject(Mishap::Code(301), When::next().after(1).route(Route::Edit));
    let proof = bench.relay.write_probe(&patients(), 7).await;
    assert!(!proof.unique && !proof.guarded, "{:?}", proof.steps);
    failed_with(&proof.steps, "unique key", Code::ValueRefused);
    failed_with(&proof.steps, "version guard", Code::RecordOpen);
    assert_eq!(bench.control.count("Patient"), 0);
}

#[tokio::test]
async fn fields_that_must_not_be_empty_are_filled() {
    let table = sim::Table::new("Strict")
        .field(Field::text("FhirId").unique().always())
        .field(Field::text("Sex").value_list("Sexes", &["female", "male"]).always().not_empty())
        .field(Field::date("Day").always().not_empty())
        .field(Field::number("Amount").always().not_empty());
    let file = File::new("Clinic").table(table).layout(Layout::new("API_Strict", "Strict"));
    let bench = bench_with(Clinic::new(ACCOUNT, PASSWORD).file(file), |_| {}).await;
    let proof = bench.relay.write_probe(&super::table("API_Strict", &[]), 7).await;
    assert!(proof.unique && proof.guarded, "{:?}", proof.steps);
    assert_eq!(bench.control.count("Strict"), 0);
}

#[tokio::test]
async fn a_probe_whose_answers_are_lost_still_cleans_up() {
    let bench = bench().await;
    bench.control.inject(Mishap::DropAfter, When::next().route(Route::Create));
    let proof = bench.relay.write_probe(&patients(), 7).await;
    failed_with(&proof.steps, "create", Code::OutcomeUnknown);
    assert!(!proof.unique && !proof.guarded);
    assert_eq!(bench.control.count("Patient"), 0);

    bench.control.inject(Mishap::Code(200), When::always().route(Route::Delete));
    let proof = bench.relay.write_probe(&patients(), 8).await;
    let advice = failed_with(&proof.steps, "delete", Code::AccessDenied);
    assert!(advice.contains("chart-relay-probe-0000000000000008"), "{advice}");
    assert!(proof.unique && proof.guarded, "that much was shown");
}
