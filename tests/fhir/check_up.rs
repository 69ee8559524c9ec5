//! `diagnose`: the first step that fails names the cause.

use chart_relay::adapters::{
    doctor::{Step, Verdict},
    fhir::{Credentials, FhirClient, FhirConfig, Flavour},
    secret::Secret,
};
use engine::error::Code;
use serde_json::json;
use simulators::fhir::{Behaviour, Fault, Interaction, Matching, RetryAfter, Times};

use super::{
    SECRET, client, clock, config, credentials_of, fill, kind, open_client, patient,
    script::{Script, fhir},
    server,
};

/// A letter per step: passed, warned, failed, skipped.
fn verdicts(steps: &[Step]) -> String {
    let letter = |step: &Step| match step.verdict {
        Verdict::Passed(_) => 'p',
        Verdict::Warned(_) => 'w',
        Verdict::Failed { .. } => 'f',
        Verdict::Skipped(_) => 's',
    };
    steps.iter().map(letter).collect()
}

#[track_caller]
fn failure(steps: &[Step]) -> (&str, Code) {
    let failed = steps.iter().find(|step| step.has_failed()).expect("a step that failed");
    match &failed.verdict {
        Verdict::Failed { fault, advice } => {
            assert!(advice.ends_with('.'), "{advice}");
            (&failed.name, fault.code)
        }
        _ => unreachable!(),
    }
}

#[tokio::test]
async fn a_sound_connection_passes_every_step() {
    let server = server(Behaviour::default()).await;
    fill(&server, 3);
    let steps = client(&server, &Flavour::GENERIC, 20, &clock()).diagnose(&[patient(), kind("Observation")]).await;
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    let expected = [
        "name",
        "TLS",
        "sign-in",
        "capability",
        "search Patient",
        "read Patient",
        "search Observation",
        "read Observation",
    ];
    assert_eq!(names, expected);
    // No Observation is there to be read.
    assert_eq!(verdicts(&steps), "ppppppps", "{steps:#?}");
    assert!(!format!("{steps:?}").contains("Testpatient"));
}

#[tokio::test]
async fn each_trouble_is_found_at_its_step() {
    let signed = |base: &str, token: &str, secret: &str| {
        let config = FhirConfig { sign_in: credentials_of(token), ..config(base, &Flavour::GENERIC) };
        FhirClient::new(config, Credentials::ClientSecret(Secret::new(secret)), clock()).unwrap()
    };
    let types = [patient()];
    let unknown = signed("https://fhir.invalid/r4", "https://fhir.invalid/token", SECRET).diagnose(&types).await;
    assert_eq!((failure(&unknown), verdicts(&unknown).as_str()), (("name", Code::Unreachable), "fsssss"));

    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let wrong = signed(server.base_url(), server.token_url(), "wrong").diagnose(&types).await;
    assert_eq!((failure(&wrong), verdicts(&wrong).as_str()), (("sign-in", Code::SignInRefused), "ppfsss"));

    let client = client(&server, &Flavour::GENERIC, 20, &clock());
    for (interaction, step, expected) in
        [(Interaction::Search, "sign-in", "ppfsss"), (Interaction::Read, "read Patient", "pppppf")]
    {
        let refuse = Fault::outcome(403, "forbidden", RetryAfter::Absent);
        let fault = server.control().inject(refuse, Matching::only(interaction), Times::Always);
        let steps = client.diagnose(&types).await;
        assert_eq!((failure(&steps), verdicts(&steps).as_str()), ((step, Code::AccessDenied), expected));
        server.control().clear(fault);
    }
    server.control().configure(|behaviour| {
        behaviour.unknown_parameters.insert("_lastUpdated".into());
    });
    let steps = client.diagnose(&types).await;
    assert_eq!((failure(&steps), verdicts(&steps).as_str()), (("search Patient", Code::Rejected), "pppwfp"));

    server.control().go_away().await;
    let steps = client.diagnose(&types).await;
    assert_eq!((failure(&steps), verdicts(&steps).as_str()), (("TLS", Code::Unreachable), "pfssss"));
}

#[tokio::test]
async fn the_capability_statement_is_read_with_a_grain_of_salt() {
    let statement = |version: &str, parameter: &str| {
        let resource = json!({"type": "Patient", "searchParam": [{"name": parameter, "type": "date"}]});
        json!({"resourceType": "CapabilityStatement", "fhirVersion": version, "rest": [{"mode": "server", "resource": [resource]}]})
    };
    for (statement, expected) in [
        (statement("4.0.1", "_lastUpdated"), "ppppps"),
        (statement("4.0.1", "birthdate"), "pppwps"),
        (statement("3.0.2", "_lastUpdated"), "pppfss"),
        (json!({"resourceType": "OperationOutcome"}), "pppwps"),
    ] {
        let script = Script::start(move |asked| match asked.path.as_str() {
            "/fhir/metadata" => fhir(200, &statement),
            _ => super::script::with(
                fhir(200, &json!({"resourceType": "Bundle", "type": "searchset"})),
                "date",
                "Mon, 02 Mar 2026 07:59:58 GMT",
            ),
        });
        let script = script.await;
        let steps = open_client(&script.base_url(), &Flavour::GENERIC).diagnose(&[patient()]).await;
        assert_eq!(verdicts(&steps), expected, "{steps:#?}");
        // No token is sent where none is needed, and nothing is written.
        assert!(script.asked().iter().all(|asked| asked.method == "GET"));
    }
}
