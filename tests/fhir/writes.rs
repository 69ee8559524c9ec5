//! Writes: what guards them, what a lost answer means, and how a creation finds what is there.

use std::time::Duration;

use chart_relay::adapters::{
    fhir::{Credentials, FhirClient, FhirConfig, Flavour},
    secret::Secret,
};
use engine::{
    error::{Class, Code, Fault as RelayFault},
    ports::{Created, FhirServer as _, Identifier, Matching as By, Read},
};
use jiff::civil::date;
use serde_json::{Value, json};
use simulators::fhir::{Behaviour, Canned, Delay, Fault, FhirServer, Interaction, Lag, Matching, RetryAfter, Times};

use super::{
    SECRET, at, client, clock, config, credentials_of, fill, id, open_client, patient,
    script::{Script, fhir, reply, with},
    server,
};

/// A client that waits a third of a second for an answer.
fn impatient(server: &FhirServer) -> FhirClient {
    let config = FhirConfig {
        sign_in: credentials_of(server.token_url()),
        timeout: Duration::from_millis(300),
        ..config(server.base_url(), &Flavour::GENERIC)
    };
    FhirClient::new(config, Credentials::ClientSecret(Secret::new(SECRET)), clock()).unwrap()
}

fn row(value: &str) -> Identifier {
    Identifier { system: "urn:chart-relay:row".into(), value: value.into() }
}

/// A synthetic patient with the row's identifier.
fn newcomer(value: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{"system": "urn:chart-relay:row", "value": value}],
        "name": [{"family": "Testpatient", "given": ["New"]}],
        "birthDate": "1950-03-01"
    })
}

async fn found(client: &FhirClient, name: &str) -> (String, Value) {
    match client.read(&patient(), &id(name)).await.unwrap() {
        Read::Found(found) => {
            assert!(found.last_updated.is_some());
            (found.version, found.json)
        }
        other => panic!("{other:?}"),
    }
}

fn class_and_code(fault: &RelayFault) -> (Class, Code) {
    (fault.class, fault.code)
}

const STALE: (Class, Code) = (Class::Stale, Code::RecordChanged);
const UNKNOWN: (Class, Code) = (Class::Unknown, Code::OutcomeUnknown);

#[tokio::test]
async fn an_update_counts_only_for_the_version_it_was_made_from() {
    for stale in [412, 409] {
        let server = server(Behaviour { stale_update_status: stale, ..Behaviour::default() }).await;
        fill(&server, 1);
        let client = client(&server, &Flavour::GENERIC, 200, &clock());
        let (first, mut json) = found(&client, "p0000").await;
        json["active"] = json!(true);
        let second = client.update(&patient(), &id("p0000"), &first, &json).await.unwrap();
        let (version, kept) = found(&client, "p0000").await;
        assert_eq!((&version, &kept["active"]), (&second, &json!(true)));

        json["active"] = json!(false);
        let fault = client.update(&patient(), &id("p0000"), &first, &json).await.unwrap_err();
        assert_eq!(class_and_code(&fault), STALE, "{stale}");
        assert_eq!(fault.subject.as_deref(), Some("Patient"));
        assert_eq!(found(&client, "p0000").await, (version, kept), "nothing was written");

        server.control().delete("Patient", "p0000");
        let fault = client.update(&patient(), &id("p0000"), &second, &json).await.unwrap_err();
        assert_eq!(class_and_code(&fault), STALE, "deleted meanwhile");
        json["id"] = json!("never");
        let fault = client.update(&patient(), &id("never"), "1", &json).await.unwrap_err();
        assert_eq!(class_and_code(&fault), STALE, "not there");
    }
}

#[tokio::test]
async fn an_update_is_the_whole_resource_with_every_digit_and_the_version_in_a_weak_tag() {
    let raw = r#"{"resourceType":"Patient","id":"p1","zeta":1,"extension":[{"url":"http://example.org/w","valueDecimal":70.10}],"_birthDate":{"id":"x"}}"#;
    let script = Script::start(|_| with(reply(200, "application/fhir+json", ""), "etag", "W/\"8\"")).await;
    let resource: Value = serde_json::from_str(raw).unwrap();
    let client = open_client(&script.base_url(), &Flavour::GENERIC);
    assert_eq!(client.update(&patient(), &id("p1"), "7", &resource).await.unwrap(), "8");
    let [asked] = &script.asked()[..] else { panic!("one call") };
    assert_eq!((asked.method.as_str(), asked.url.as_str()), ("PUT", "/fhir/Patient/p1"));
    assert_eq!(asked.body, raw);
    for (header, value) in
        [("if-match", "W/\"7\""), ("content-type", "application/fhir+json"), ("prefer", "return=minimal")]
    {
        assert_eq!(asked.headers[header], value);
    }
}

#[tokio::test]
async fn the_new_version_is_told_by_tag_place_or_body_or_must_be_looked_up() {
    let resource = json!({"resourceType": "Patient", "id": "p1"});
    let body = json!({"resourceType": "Patient", "id": "p1", "meta": {"versionId": "c"}});
    for (answer, expected) in [
        (("etag", "\"a\"", json!(null)), Some("a")),
        (("location", "http://chart.example/fhir/Patient/p1/_history/b", json!(null)), Some("b")),
        (("x-other", "x", body), Some("c")),
        (("x-other", "x", json!(null)), None),
    ] {
        let script = Script::start(move |_| with(fhir(200, &answer.2), answer.0, answer.1)).await;
        let answered =
            open_client(&script.base_url(), &Flavour::GENERIC).update(&patient(), &id("p1"), "1", &resource).await;
        match expected {
            Some(version) => assert_eq!(answered.unwrap(), version),
            None => assert_eq!(class_and_code(&answered.unwrap_err()), UNKNOWN, "it was carried out all the same"),
        }
    }
}

#[tokio::test]
async fn nothing_is_written_without_a_version_or_from_a_part() {
    let script = Script::start(|_| fhir(200, &json!({"resourceType": "Patient", "id": "p1"}))).await;
    let client = open_client(&script.base_url(), &Flavour::GENERIC);
    let (version, json) = match client.read(&patient(), &id("p1")).await.unwrap() {
        Read::Found(found) => (found.version, found.json),
        other => panic!("{other:?}"),
    };
    let fault = client.update(&patient(), &id("p1"), &version, &json).await.unwrap_err();
    assert_eq!(class_and_code(&fault), (Class::Permanent, Code::Unguarded));
    let part = json!({"resourceType": "Patient", "id": "p1", "meta": {"tag": [{"code": "SUBSETTED"}]}});
    let fault = client.update(&patient(), &id("p1"), "1", &part).await.unwrap_err();
    assert_eq!(class_and_code(&fault), (Class::Permanent, Code::Rejected));
    assert_eq!(script.asked().len(), 1, "the read alone");
}

#[tokio::test]
async fn a_lost_answer_to_an_update_leaves_its_outcome_open() {
    let lost =
        |status, body: &str| Fault::AnswerAfter(Canned::Raw { status, content_type: "text/html", body: body.into() });
    for (fault, lands) in [
        (Fault::HangUpAfter, true),
        (Fault::HangUpBefore, false),
        (Fault::DelayAfter(Delay::UntilReleased), true),
        (lost(502, "<html>"), true),
        (lost(504, ""), true),
        (lost(500, ""), true),
        (lost(503, ""), true),
        (lost(408, ""), true),
    ] {
        let server = server(Behaviour::default()).await;
        fill(&server, 1);
        let client = impatient(&server);
        let (version, mut json) = found(&client, "p0000").await;
        json["active"] = json!(true);
        server.control().inject(fault.clone(), Matching::only(Interaction::Update), Times::Next(1));
        let answer = client.update(&patient(), &id("p0000"), &version, &json).await.unwrap_err();
        assert_eq!(class_and_code(&answer), UNKNOWN, "{fault:?}");
        server.control().release();
        assert_eq!(server.control().tally().of(Interaction::Update), 1, "nothing repeats a write: {fault:?}");
        assert_eq!(found(&client, "p0000").await.1["active"] == true, lands, "{fault:?}");
    }
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = impatient(&server);
    let (version, json) = found(&client, "p0000").await;
    server.control().go_away().await;
    let answer = client.update(&patient(), &id("p0000"), &version, &json).await.unwrap_err();
    assert_eq!(class_and_code(&answer), (Class::Away, Code::Unreachable), "it cannot have arrived");
}

#[tokio::test]
async fn a_write_that_lands_after_we_gave_up_still_meets_its_guard() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = impatient(&server);
    assert!(client.write_horizon() > Duration::from_millis(300));
    let (version, mut json) = found(&client, "p0000").await;
    json["active"] = json!(true);
    server.control().inject(
        Fault::DelayBefore(Delay::UntilReleased),
        Matching::only(Interaction::Update),
        Times::Next(1),
    );
    let answer = client.update(&patient(), &id("p0000"), &version, &json).await.unwrap_err();
    assert_eq!(class_and_code(&answer), UNKNOWN);
    json["active"] = json!(false);
    client.update(&patient(), &id("p0000"), &version, &json).await.unwrap();
    server.control().release();
    server.control().until(|tally| tally.open == 0).await;
    assert_eq!(found(&client, "p0000").await.1["active"], json!(false), "the late one is refused");
}

#[tokio::test]
async fn a_refused_write_says_whose_trouble_it_is() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = impatient(&server);
    let (version, json) = found(&client, "p0000").await;
    let answer = |status, code| Fault::outcome(status, code, RetryAfter::Absent);
    for (fault, expected) in [
        (answer(400, "invalid"), (Class::Permanent, Code::Rejected)),
        (answer(422, "business-rule"), (Class::Permanent, Code::Rejected)),
        (answer(403, "forbidden"), (Class::Permanent, Code::AccessDenied)),
        (answer(405, "not-supported"), (Class::Permanent, Code::Rejected)),
        (answer(401, "login"), (Class::Stop, Code::SignInRefused)),
        (answer(429, "throttled"), (Class::Wait(None), Code::Throttled)),
        (answer(501, "not-supported"), (Class::Stop, Code::Rejected)),
        (Fault::html_bad_gateway(), UNKNOWN),
    ] {
        let injected = server.control().inject(fault.clone(), Matching::only(Interaction::Update), Times::Always);
        let got = client.update(&patient(), &id("p0000"), &version, &json).await.unwrap_err();
        assert_eq!(class_and_code(&got), expected, "{fault:?}");
        server.control().clear(injected);
    }
    // A token that has ended is replaced, and the write goes out once more: the first was not carried out.
    server.control().expire_tokens();
    client.update(&patient(), &id("p0000"), &version, &json).await.unwrap();
}

#[tokio::test]
async fn a_creation_finds_what_is_there() {
    let server = server(Behaviour::default()).await;
    let client = impatient(&server);
    let made = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap();
    assert!(!made.existed);
    assert_eq!(found(&client, made.id.as_str()).await.0, made.version);
    let again = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap();
    assert_eq!(again, Created { existed: true, ..made.clone() });
    assert_eq!(server.control().tally().of(Interaction::Create), 1);
    // Another row is another patient, whatever the name.
    let other = client.create(&patient(), &newcomer("r-2"), &row("r-2")).await.unwrap();
    assert!(!other.existed && other.id != made.id);
    // A second one with the identifier: nobody guesses which.
    server.control().put(newcomer("r-1")).unwrap();
    let fault = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap_err();
    assert_eq!(class_and_code(&fault), (Class::Permanent, Code::SeveralMatches));
    assert_eq!(server.control().ids("Patient").len(), 3);
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_looked_for() {
    let lost = |status| Fault::AnswerAfter(Canned::Raw { status, content_type: "text/html", body: "<html>".into() });
    for fault in [Fault::HangUpAfter, Fault::DelayAfter(Delay::UntilReleased), lost(502), lost(500)] {
        let server = server(Behaviour::default()).await;
        let client = impatient(&server);
        server.control().inject(fault.clone(), Matching::only(Interaction::Create), Times::Next(1));
        let made = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap();
        assert!(made.existed, "{fault:?}");
        server.control().release();
        assert_eq!(server.control().ids("Patient"), [made.id.to_string()], "{fault:?}");
    }
}

#[tokio::test]
async fn a_creation_that_lands_late_is_found_by_the_next_one() {
    let server = server(Behaviour::default()).await;
    let client = impatient(&server);
    server.control().inject(
        Fault::DelayBefore(Delay::UntilReleased),
        Matching::only(Interaction::Create),
        Times::Next(1),
    );
    let fault = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap_err();
    assert_eq!(class_and_code(&fault), UNKNOWN);
    assert!(server.control().ids("Patient").is_empty());
    server.control().release();
    server.control().until(|tally| tally.open == 0).await;
    assert!(client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap().existed);
    assert_eq!(server.control().ids("Patient").len(), 1);
}

#[tokio::test]
async fn the_server_guards_what_lies_between_the_look_and_the_creation() {
    // Another station created it after our look: the look of the first call is answered with nothing.
    let existing = json!({"resourceType": "Patient", "id": "theirs", "meta": {"versionId": "4"}});
    let script = Script::start(move |asked| match asked.method.as_str() {
        "POST" if asked.path.ends_with("_search") => fhir(200, &json!({"resourceType": "Bundle", "type": "searchset"})),
        _ => with(fhir(200, &existing), "location", "Patient/theirs/_history/4"),
    });
    let script = script.await;
    let client = open_client(&script.base_url(), &Flavour::GENERIC);
    let made = client.create(&patient(), &newcomer("r,1"), &row("r,1")).await.unwrap();
    assert_eq!(made, Created { id: id("theirs"), version: "4".into(), existed: true });
    let asked = script.asked();
    assert_eq!(asked[1].headers["if-none-exist"], "identifier=urn%3Achart-relay%3Arow%7Cr%5C%2C1");
    assert_eq!(asked[1].url, "/fhir/Patient");
}

#[tokio::test]
async fn an_index_that_lags_makes_two_and_a_person_is_asked() {
    let server = server(Behaviour::default()).await;
    let client = impatient(&server);
    server.control().inject(Fault::SearchLag(Lag::UntilReleased), Matching::only(Interaction::Create), Times::Next(1));
    client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap();
    client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap();
    server.control().release();
    let fault = client.create(&patient(), &newcomer("r-1"), &row("r-1")).await.unwrap_err();
    assert_eq!(class_and_code(&fault), (Class::Permanent, Code::SeveralMatches));
}

#[tokio::test]
async fn candidates_are_found_and_no_url_tells_of_them() {
    let server = server(Behaviour::default()).await;
    let client = impatient(&server);
    for (name, family, born) in [
        ("same", "TESTPATIENT", "1950-03-01"),
        ("longer", "Testpatients", "1950-03-01"),
        ("other-day", "Testpatient", "1950-03-02"),
        ("part", "Testpatient", "1950-03"),
    ] {
        let resource = json!({"resourceType": "Patient", "id": name, "name": [{"family": family}], "birthDate": born});
        server.control().put_stamped(resource, at("2026-03-01T10:00:00Z")).unwrap();
    }
    let by = By::Birth { day: date(1950, 3, 1), family: "Testpatient".into() };
    let found = client.matching(&patient(), &by).await.unwrap();
    assert_eq!(found.iter().map(|found| found.id.as_str()).collect::<Vec<_>>(), ["same"]);
    assert_eq!((found[0].version.as_str(), found[0].last_updated), ("1", Some(at("2026-03-01T10:00:00Z"))));
    assert!(!format!("{by:?} {found:?}").contains("estpatient"));

    server.control().configure(|behaviour| {
        behaviour.unknown_parameters.insert("birthdate".into());
        behaviour.unknown_parameters.insert("identifier".into());
    });
    for by in [by.clone(), By::Identifier(row("r-1"))] {
        for flavour in Flavour::ALL {
            let client = super::client(&server, flavour, 20, &clock());
            let fault = client.matching(&patient(), &by).await.unwrap_err();
            assert_eq!(
                class_and_code(&fault),
                (Class::Stop, Code::Rejected),
                "what ignores a parameter proves nothing"
            );
        }
    }

    let script = Script::start(|_| fhir(200, &json!({"resourceType": "Bundle", "type": "searchset"}))).await;
    for flavour in Flavour::ALL {
        for by in [by.clone(), By::Identifier(row("MRN-1"))] {
            assert_eq!(open_client(&script.base_url(), flavour).matching(&patient(), &by).await, Ok(Vec::new()));
        }
    }
    for asked in script.asked() {
        assert_eq!((asked.method.as_str(), asked.url.as_str()), ("POST", "/fhir/Patient/_search"));
    }
}
