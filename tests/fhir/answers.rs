//! Reads, and what an answer other than the one hoped for means.

use std::time::Duration;

use chart_relay::adapters::fhir::{Credentials, FhirClient, FhirConfig, Flavour};
use engine::{
    error::{Class, Code, Fault as RelayFault},
    ports::{FhirServer as _, Read},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use simulators::fhir::{
    Behaviour, Canned, Counting, Delay, Fault, Interaction, Matching, RateLimit, RateLimitHeader, RetryAfter, Times,
};

use super::{
    client, clock, config, fill, id, open_client, patient, resource,
    script::{Script, fhir, reply, with},
    server, walk,
};

#[tokio::test]
async fn a_resource_comes_with_its_version_and_every_digit_in_place() {
    let raw = r#"{"resourceType":"Patient","id":"p1","meta":{"versionId":"7","lastUpdated":"2026-03-01T10:00:00Z"},"extension":[{"url":"http://example.org/weight","valueQuantity":{"value":70.10,"unit":"kg","code":"kg"}},{"valueDecimal":1.00000000000000000001}],"active":true}"#;
    let script = Script::start(move |_| reply(200, "application/fhir+json", raw)).await;
    let Read::Found(found) =
        open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap()
    else {
        panic!("not found")
    };
    assert_eq!(found.version, "7");
    assert_eq!(found.json.to_string(), raw);
    assert_eq!(script.asked()[0].url, "/fhir/Patient/p1");
    assert!(!format!("{found:?}").contains("70.10"));
}

#[tokio::test]
async fn a_version_comes_from_meta_or_the_etag_or_the_content() {
    async fn version(body: Value, etag: Option<&'static str>) -> String {
        let script = Script::start(move |_| match etag {
            Some(etag) => with(fhir(200, &body), "etag", etag),
            None => fhir(200, &body),
        });
        let script = script.await;
        match open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap() {
            Read::Found(found) => found.version,
            other => panic!("{other:?}"),
        }
    }
    let plain = resource("p1");
    let mut versioned = plain.clone();
    versioned["meta"] = json!({"versionId": "a"});
    let mut changed = plain.clone();
    changed["active"] = json!(true);
    assert_eq!(version(versioned, Some("W/\"b\"")).await, "a");
    assert_eq!(version(plain.clone(), Some("W/\"b\"")).await, "b");
    assert_eq!(version(plain.clone(), Some("\"c\"")).await, "c");
    let content = version(plain.clone(), None).await;
    assert!(content.starts_with("content-") && !content.contains("Testpatient"));
    assert_eq!(content, version(plain, None).await);
    assert_ne!(content, version(changed, None).await);
}

#[tokio::test]
async fn absence_is_told_from_deletion_and_from_a_wrong_address() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = client(&server, &Flavour::GENERIC, 200, &clock());
    assert!(matches!(client.read(&patient(), &id("p0000")).await, Ok(Read::Found(_))));
    assert_eq!(client.read(&patient(), &id("never")).await, Ok(Read::Missing));
    server.control().delete("Patient", "p0000");
    assert_eq!(client.read(&patient(), &id("p0000")).await, Ok(Read::Gone));

    let page = Script::start(|_| reply(404, "text/html", "<html>no such page</html>")).await;
    let fault = open_client(&page.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Away, Code::WebPage));
    let not_served =
        json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-supported"}]});
    let not_served = Script::start(move |_| fhir(404, &not_served)).await;
    let fault = open_client(&not_served.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::Rejected));
}

#[tokio::test]
async fn another_resource_is_never_taken_for_the_one_asked_for() {
    for wrong in [resource("p2"), json!({"resourceType": "Observation", "id": "p1"}), json!({"id": "p1"}), json!([])] {
        let script = Script::start(move |_| fhir(200, &wrong)).await;
        let fault = open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Retry, Code::BadAnswer));
    }
}

/// What a canned answer means for a read and for a search.
async fn means(canned: Canned) -> [(Class, Code); 2] {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let fault = Fault::Answer(canned);
    server.control().inject(fault.clone(), Matching::only(Interaction::Read), Times::Always);
    let read = client(&server, &Flavour::GENERIC, 200, &clock()).read(&patient(), &id("p0000")).await.unwrap_err();
    server.control().inject(fault, Matching::only(Interaction::Search), Times::Always);
    let search = walk(&client(&server, &Flavour::GENERIC, 200, &clock()), &patient(), None).await.unwrap_err();
    [(read.class, read.code), (search.class, search.code)]
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let outcome = |status, code| Canned::Outcome { status, code, retry_after: RetryAfter::Absent };
    let raw = |status, kind, body: &str| Canned::Raw { status, content_type: kind, body: body.into() };
    let both = |class, code| [(class, code), (class, code)];
    let one_or_all = |code| [(Class::Permanent, code), (Class::Stop, code)];
    let html = "<html><body>Bad Gateway</body></html>";
    for (answer, expected) in [
        (outcome(400, "invalid"), one_or_all(Code::Rejected)),
        (outcome(400, "throttled"), both(Class::Wait(None), Code::Throttled)),
        (outcome(403, "forbidden"), one_or_all(Code::AccessDenied)),
        (outcome(405, "not-supported"), one_or_all(Code::Rejected)),
        (outcome(408, "timeout"), both(Class::Retry, Code::TimedOut)),
        (outcome(409, "lock-error"), both(Class::Retry, Code::ServerError)),
        (outcome(422, "business-rule"), one_or_all(Code::Rejected)),
        (outcome(423, "lock-error"), both(Class::Wait(None), Code::Throttled)),
        (outcome(429, "throttled"), both(Class::Wait(None), Code::Throttled)),
        (outcome(500, "exception"), both(Class::Retry, Code::ServerError)),
        (outcome(501, "not-supported"), both(Class::Stop, Code::Rejected)),
        (outcome(503, "transient"), both(Class::Away, Code::ServerError)),
        (raw(502, "text/html", html), both(Class::Away, Code::ServerError)),
        (raw(504, "text/plain", "upstream"), both(Class::Away, Code::ServerError)),
        (raw(200, "text/html", html), both(Class::Away, Code::WebPage)),
        (raw(200, "application/fhir+json", "{\"resourceType\":\"Pat"), both(Class::Retry, Code::BadAnswer)),
        (raw(200, "application/fhir+json", "{}"), both(Class::Retry, Code::BadAnswer)),
        (raw(302, "text/plain", ""), both(Class::Stop, Code::Rejected)),
    ] {
        assert_eq!(means(answer.clone()).await, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn a_type_that_may_not_be_seen_blames_no_single_record() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let refuse = Fault::outcome(403, "forbidden", RetryAfter::Absent);
    server.control().inject(refuse, Matching::any().resource_type("Patient"), Times::Always);
    let fault = client(&server, &Flavour::GENERIC, 200, &clock()).read(&patient(), &id("p0000")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::AccessDenied));
    assert_eq!(fault.subject.as_deref(), Some("Patient"));
}

#[tokio::test]
async fn an_outcome_tells_its_code_and_nothing_of_a_patient() {
    for (code, vendor) in [("business-rule", "HTTP 422 business-rule"), ("Testpatient born 1970", "HTTP 422")] {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "warning", "code": "informational", "details": {"text": "Testpatient"}},
            {"severity": "error", "code": code, "details": {"text": "Testpatient"}, "diagnostics": "Testpatient, 1970-01-01"},
        ]});
        let script = Script::start(move |_| fhir(422, &outcome)).await;
        let fault = open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap_err();
        assert_eq!(fault.vendor.as_deref(), Some(vendor));
        assert!(!format!("{fault} {fault:?}").contains("Testpatient"));
    }
}

#[tokio::test]
async fn no_answer_is_told_apart_by_where_it_broke_off() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = {
        let config = FhirConfig {
            sign_in: super::credentials_of(server.token_url()),
            timeout: Duration::from_millis(300),
            ..config(server.base_url(), &Flavour::GENERIC)
        };
        let secret = chart_relay::adapters::secret::Secret::new(super::SECRET);
        FhirClient::new(config, Credentials::ClientSecret(secret), clock()).unwrap()
    };
    for (fault, expected) in [
        (Fault::HangUpBefore, (Class::Retry, Code::NotAnswering)),
        (Fault::HangUpAfter, (Class::Retry, Code::NotAnswering)),
        (Fault::CutBody, (Class::Retry, Code::NotAnswering)),
        (Fault::Truncate, (Class::Retry, Code::BadAnswer)),
        (Fault::DelayBefore(Delay::UntilReleased), (Class::Retry, Code::TimedOut)),
    ] {
        // Twice: a connection that was kept open and turns out to be dead may be replaced by a new one unasked.
        server.control().inject(fault.clone(), Matching::only(Interaction::Read), Times::Next(2));
        let got = client.read(&patient(), &id("p0000")).await.unwrap_err();
        assert_eq!((got.class, got.code), expected, "{fault:?}");
        server.control().clear_faults();
        server.control().release();
    }
    server.control().go_away().await;
    let got = client.read(&patient(), &id("p0000")).await.unwrap_err();
    assert_eq!((got.class, got.code), (Class::Away, Code::Unreachable));
    server.control().come_back().await;
    assert!(client.read(&patient(), &id("p0000")).await.is_ok());
}

#[tokio::test]
async fn a_large_resource_is_read_and_an_endless_one_is_not() {
    for (megabytes, passes) in [(20, true), (65, false)] {
        let script = Script::start(move |_| {
            let filler = "x".repeat(megabytes << 20);
            reply(200, "application/fhir+json", format!(r#"{{"resourceType":"Patient","id":"p1","x":"{filler}"}}"#))
        });
        let script = script.await;
        let read = open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await;
        match read {
            Ok(Read::Found(_)) => assert!(passes),
            Err(RelayFault { class: Class::Permanent, code: Code::TooLarge, .. }) => assert!(!passes),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Script::start(|_| fhir(200, &resource("p1"))).await;
    let target = format!("{}/Patient/p1", elsewhere.base_url());
    let script = Script::start(move |_| with(reply(302, "text/plain", ""), "location", &target)).await;
    let fault = open_client(&script.base_url(), &Flavour::GENERIC).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::Rejected));
    assert!(elsewhere.asked().is_empty());
}

/// How long a 429 is said to last; the clock of the server is two minutes off.
async fn wait_of(retry_after: RetryAfter) -> Option<Duration> {
    let server = server(Behaviour::default()).await;
    server.control().skew(SignedDuration::from_secs(-120));
    server.control().inject(Fault::throttled(retry_after), Matching::only(Interaction::Read), Times::Always);
    let fault = client(&server, &Flavour::GENERIC, 200, &clock()).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!(fault.code, Code::Throttled);
    let Class::Wait(wait) = fault.class else { panic!("{fault:?}") };
    wait
}

#[tokio::test]
async fn a_throttled_call_waits_as_long_as_it_is_told() {
    assert_eq!(wait_of(RetryAfter::Seconds(7)).await, Some(Duration::from_secs(7)));
    assert_eq!(wait_of(RetryAfter::HttpDate(30)).await, Some(Duration::from_secs(30)));
    assert_eq!(wait_of(RetryAfter::Absent).await, None);
    // Nonsense has a bound on both sides.
    assert_eq!(wait_of(RetryAfter::Seconds(0)).await, Some(Duration::from_secs(1)));
    assert_eq!(wait_of(RetryAfter::Seconds(4_000_000)).await, Some(Duration::from_secs(3600)));

    let outcome = |diagnostics: &str| {
        let issue = json!({"severity": "error", "code": "throttled", "diagnostics": diagnostics});
        fhir(429, &json!({"resourceType": "OperationOutcome", "issue": [issue]}))
    };
    let medplum = Script::start(move |_| outcome(r#"{"remainingPoints":0,"msBeforeNext":2500}"#)).await;
    let fault = open_client(&medplum.base_url(), &Flavour::MEDPLUM).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!(fault.class, Class::Wait(Some(Duration::from_millis(2500))));
    let header = Script::start(move |_| {
        with(
            with(outcome("full"), "ratelimit", r#""requests";r=9;t=50"#),
            "ratelimit",
            r#""fhirInteractions";r=0;t=22"#,
        )
    });
    let header = header.await;
    let fault = open_client(&header.base_url(), &Flavour::MEDPLUM).read(&patient(), &id("p1")).await.unwrap_err();
    assert_eq!(fault.class, Class::Wait(Some(Duration::from_secs(22))));
}

#[tokio::test]
async fn nothing_is_sent_until_the_wait_is_over() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    server.control().inject(
        Fault::throttled(RetryAfter::Seconds(30)),
        Matching::only(Interaction::Read),
        Times::Next(1),
    );
    let clock = clock();
    let client = client(&server, &Flavour::GENERIC, 200, &clock);
    let reads = || server.control().tally().calls[&Interaction::Read];
    client.read(&patient(), &id("p0000")).await.unwrap_err();
    clock.suspend(Duration::from_secs(20));
    let fault = client.read(&patient(), &id("p0000")).await.unwrap_err();
    let Class::Wait(Some(left)) = fault.class else { panic!("{fault:?}") };
    assert!(left <= Duration::from_secs(10) && left > Duration::from_secs(8));
    assert_eq!(reads(), 1);
    clock.suspend(Duration::from_secs(10));
    assert!(client.read(&patient(), &id("p0000")).await.is_ok());
    assert_eq!(reads(), 2);
}

#[tokio::test]
async fn a_quota_is_left_alone_before_it_is_overdrawn() {
    for header in [RateLimitHeader::One, RateLimitHeader::Several] {
        let limit = RateLimit {
            requests: 1000,
            points: Some(70),
            window: SignedDuration::from_secs(60),
            counting: Counting::FromFirst,
            header,
            retry_after: RetryAfter::Absent,
        };
        let server = server(Behaviour { rate_limit: Some(limit), ..Behaviour::default() }).await;
        fill(&server, 1);
        let clock = clock();
        let client = client(&server, &Flavour::MEDPLUM, 200, &clock);
        for _ in 0..3 {
            walk(&client, &patient(), None).await.unwrap();
        }
        // 10 of 70 points are left and a search takes 20.
        let fault = walk(&client, &patient(), None).await.unwrap_err();
        assert!(matches!(fault.class, Class::Wait(Some(left)) if left > Duration::from_secs(50)), "{fault:?}");
        assert_eq!(fault.code, Code::Throttled);
        let tally = server.control().tally();
        assert_eq!((tally.calls[&Interaction::Search], tally.statuses.get(&429)), (3, None));
        clock.suspend(Duration::from_secs(61));
        server.control().advance(SignedDuration::from_secs(61));
        walk(&client, &patient(), None).await.unwrap();
    }
}
