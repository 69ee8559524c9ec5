//! Tokens and certificates.

use std::time::Duration;

use chart_relay::adapters::{
    fhir::{Credentials, FhirClient, FhirConfig, Flavour, SecretIn, SignIn},
    pin::Fingerprint,
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::{Class, Code, Fault as RelayFault},
    ports::{FhirServer as _, Read},
};
use futures::future::join_all;
use jiff::SignedDuration;
use simulators::{
    fhir::{Behaviour, Canned, Delay, Fault, FhirServer, Interaction, Matching, Options, RetryAfter, Times},
    tls::Certificate,
};

use super::{
    SECRET, client, clock, config, credentials_of, fill, id, open_client, patient, resource,
    script::{Script, fhir, reply},
    server,
};

fn tokens(server: &FhirServer) -> u64 {
    server.control().tally().calls.get(&Interaction::Token).copied().unwrap_or_default()
}

async fn read(client: &FhirClient) -> Result<Read, RelayFault> {
    client.read(&patient(), &id("p0000")).await
}

#[tokio::test]
async fn many_cold_callers_ask_for_one_token() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = client(&server, &Flavour::GENERIC, 200, &clock());
    let control = server.control();
    control.inject(Fault::DelayBefore(Delay::UntilReleased), Matching::only(Interaction::Token), Times::Next(1));
    let callers = join_all((0..32).map(|_| read(&client)));
    let release = async {
        control.until(|tally| tally.held == 1).await;
        control.release();
    };
    let (results, ()) = tokio::join!(callers, release);
    assert!(results.iter().all(|result| matches!(result, Ok(Read::Found(_)))));
    assert_eq!(tokens(&server), 1);
}

#[tokio::test]
async fn a_wrong_secret_stops_everyone_after_one_request() {
    let server = server(Behaviour::default()).await;
    server.control().rotate_secret("another", false);
    let client = client(&server, &Flavour::MEDPLUM, 200, &clock());
    let control = server.control();
    control.inject(Fault::DelayBefore(Delay::UntilReleased), Matching::only(Interaction::Token), Times::Next(1));
    let callers = join_all((0..16).map(|_| read(&client)));
    let release = async {
        control.until(|tally| tally.held == 1).await;
        control.release();
    };
    let (results, ()) = tokio::join!(callers, release);
    for result in results {
        let fault = result.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Stop, Code::SignInRefused));
        assert_eq!(fault.vendor.as_deref(), Some("HTTP 400 invalid_request"));
    }
    assert_eq!(tokens(&server), 1);
    // And it is asked again when a person has mended it.
    server.control().rotate_secret(SECRET, false);
    fill(&server, 1);
    assert!(read(&client).await.is_ok());
}

#[tokio::test]
async fn a_token_that_ended_unseen_is_replaced_once_for_all() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let client = client(&server, &Flavour::GENERIC, 200, &clock());
    read(&client).await.unwrap();
    for round in 2..4 {
        server.control().expire_tokens();
        // All sixteen are at the server with the old token before the first is refused.
        server.control().inject(
            Fault::DelayBefore(Delay::UntilReleased),
            Matching::only(Interaction::Read),
            Times::Next(16),
        );
        let callers = join_all((0..16).map(|_| read(&client)));
        let release = async {
            server.control().until(|tally| tally.held == 16).await;
            server.control().release();
        };
        let (results, ()) = tokio::join!(callers, release);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(tokens(&server), round);
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_not_stormed() {
    let server = server(Behaviour::default()).await;
    server.control().inject(Fault::unauthorized(), Matching::only(Interaction::Read), Times::Always);
    let client = client(&server, &Flavour::GENERIC, 200, &clock());
    let fault = read(&client).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::SignInRefused));
    assert_eq!(fault.vendor.as_deref(), Some("HTTP 401 login"));
    let tally = server.control().tally();
    assert_eq!((tokens(&server), tally.calls[&Interaction::Read]), (2, 2));
}

#[tokio::test]
async fn a_token_is_renewed_early() {
    // (life, last second of the first token's use): 80 %, 60 s before the end, and never in the first half.
    for (life, fresh) in [(3600, 2880), (200, 140), (100, 50), (20, 10)] {
        let behaviour = Behaviour { token_life: SignedDuration::from_secs(life), ..Behaviour::default() };
        let server = server(behaviour).await;
        fill(&server, 1);
        let clock = clock();
        let client = client(&server, &Flavour::GENERIC, 200, &clock);
        read(&client).await.unwrap();
        clock.suspend(Duration::from_secs(fresh - 2));
        read(&client).await.unwrap();
        assert_eq!(tokens(&server), 1, "life {life}");
        clock.suspend(Duration::from_secs(2));
        read(&client).await.unwrap();
        assert_eq!(tokens(&server), 2, "life {life}");
        assert_eq!(server.control().tally().statuses.get(&401), None);
    }
}

#[tokio::test]
async fn while_the_old_token_holds_a_failed_renewal_harms_nobody() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let clock = clock();
    let client = client(&server, &Flavour::GENERIC, 200, &clock);
    read(&client).await.unwrap();
    clock.suspend(Duration::from_secs(3000));
    server.control().inject(Fault::html_bad_gateway(), Matching::only(Interaction::Token), Times::Always);
    for _ in 0..10 {
        read(&client).await.unwrap();
    }
    assert_eq!(tokens(&server), 2, "a failing token endpoint was hammered");
    // And nobody waits for a renewal that hangs.
    server.control().clear_faults();
    clock.suspend(Duration::from_secs(20));
    let held = Fault::DelayBefore(Delay::UntilReleased);
    server.control().inject(held, Matching::only(Interaction::Token), Times::Next(1));
    let others = async {
        server.control().until(|tally| tally.held == 1).await;
        for _ in 0..5 {
            read(&client).await.unwrap();
        }
        server.control().release();
    };
    let (renewing, ()) = tokio::join!(read(&client), others);
    renewing.unwrap();
    assert_eq!(tokens(&server), 3);
    // At its end the old token is of no use to anyone.
    clock.suspend(Duration::from_secs(3600));
    server.control().inject(Fault::html_bad_gateway(), Matching::only(Interaction::Token), Times::Always);
    let fault = read(&client).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Away, Code::ServerError));
    assert_eq!(fault.subject.as_deref(), Some("token_url"));
}

#[tokio::test]
async fn what_the_token_endpoint_says_has_its_meaning() {
    let raw = |status, kind, body: &str| Canned::Raw { status, content_type: kind, body: body.into() };
    let throttled = Canned::Outcome { status: 429, code: "throttled", retry_after: RetryAfter::Seconds(5) };
    let json = "application/json";
    for (canned, class, code) in [
        (raw(400, "text/plain", "Unsupported content type"), Class::Stop, Code::SignInRefused),
        (raw(401, json, r#"{"error":"invalid_client"}"#), Class::Stop, Code::SignInRefused),
        (raw(404, "text/html", "<html>"), Class::Away, Code::WebPage),
        (raw(200, "text/html", "<html>"), Class::Away, Code::WebPage),
        (raw(200, json, "{}"), Class::Away, Code::BadAnswer),
        (raw(200, json, r#"{"access_token":"a","token_type":"mac"}"#), Class::Away, Code::BadAnswer),
        (raw(200, json, r#"{"access_token":"a\nb","token_type":"Bearer"}"#), Class::Away, Code::BadAnswer),
        (raw(500, json, "{}"), Class::Away, Code::ServerError),
        (throttled, Class::Wait(Some(Duration::from_secs(5))), Code::Throttled),
    ] {
        let server = server(Behaviour::default()).await;
        server.control().inject(Fault::Answer(canned.clone()), Matching::only(Interaction::Token), Times::Always);
        let fault = read(&client(&server, &Flavour::GENERIC, 200, &clock())).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (class, code), "{canned:?}");
    }
}

#[tokio::test]
async fn a_throttled_token_endpoint_is_left_alone() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    let throttled = Fault::throttled(RetryAfter::Seconds(30));
    server.control().inject(throttled, Matching::only(Interaction::Token), Times::Next(1));
    let clock = clock();
    let client = client(&server, &Flavour::GENERIC, 200, &clock);
    for _ in 0..5 {
        let fault = read(&client).await.unwrap_err();
        assert!(matches!(fault.class, Class::Wait(Some(left)) if left > Duration::from_secs(25)), "{fault:?}");
    }
    assert_eq!(tokens(&server), 1);
    clock.suspend(Duration::from_secs(31));
    read(&client).await.unwrap();
}

#[tokio::test]
async fn the_secret_goes_where_it_is_configured_to_go_and_nowhere_else() {
    for secret_in in [SecretIn::Basic, SecretIn::Body] {
        let script = Script::start(|asked| match asked.path.as_str() {
            "/token" => {
                reply(200, "application/json", r#"{"access_token":"granted","token_type":"bearer","expires_in":"60"}"#)
            }
            _ => fhir(200, &resource("p0000")),
        });
        let script = script.await;
        let config = FhirConfig {
            sign_in: SignIn::ClientCredentials {
                token_url: format!("http://{}/token", script.address()),
                client_id: "a client".into(),
                secret_in,
                scope: Some("system/*.read".into()),
            },
            ..config(&script.base_url(), &Flavour::GENERIC)
        };
        let secret = Secret::new("s:e/c&ret");
        let client = FhirClient::new(config, Credentials::ClientSecret(secret.clone()), clock()).unwrap();
        read(&client).await.unwrap();
        let asked = script.asked();
        assert_eq!(asked[0].parameters["grant_type"], "client_credentials");
        assert_eq!(asked[0].parameters["scope"], "system/*.read");
        match secret_in {
            SecretIn::Body => {
                assert_eq!(asked[0].parameters["client_id"], "a client");
                assert_eq!(asked[0].parameters["client_secret"], "s:e/c&ret");
                assert!(!asked[0].headers.contains_key("authorization"));
            }
            SecretIn::Basic => {
                // base64 of `a+client:s%3Ae%2Fc%26ret`.
                assert_eq!(asked[0].headers["authorization"], "Basic YStjbGllbnQ6cyUzQWUlMkZjJTI2cmV0");
                assert!(!asked[0].parameters.contains_key("client_secret"));
            }
        }
        assert_eq!(asked[1].headers["authorization"], "Bearer granted");
        assert!(!format!("{client:?} {secret:?}").contains("c&ret"));
        assert!(!format!("{client:?}").contains("granted"));
    }
}

#[tokio::test]
async fn settings_that_would_betray_a_secret_are_refused() {
    let new = |base: &str, sign_in, credentials| {
        let config = FhirConfig { sign_in, ..config(base, &Flavour::GENERIC) };
        FhirClient::new(config, credentials, clock()).map(drop).unwrap_err()
    };
    let secret = || Credentials::ClientSecret(Secret::new(SECRET));
    let token = || credentials_of("https://fhir.example.org/token");
    for (fault, subject) in [
        (new("http://fhir.example.org/r4", token(), secret()), "base_url"),
        (new("https://user:pass@fhir.example.org/r4", token(), secret()), "base_url"),
        (new("fhir.example.org", token(), secret()), "base_url"),
        (new("https://fhir.example.org/r4?x=1", token(), secret()), "base_url"),
        (new("https://fhir.example.org/r4", credentials_of("http://fhir.example.org/token"), secret()), "token_url"),
        (new("https://fhir.example.org/r4", SignIn::Nobody, Credentials::Nobody), "sign_in"),
        (new("https://fhir.example.org/r4", token(), Credentials::Nobody), "client_secret"),
    ] {
        assert_eq!((fault.class, fault.subject.as_deref()), (Class::Stop, Some(subject)));
    }
}

#[tokio::test]
async fn only_a_trusted_certificate_is_spoken_to() {
    let pem = |certificate: &Certificate| Trust::Authority(certificate.authority_pem().unwrap().into());
    let good = Certificate::by_own_authority().unwrap();
    let other = Certificate::by_own_authority().unwrap();
    let expired = Certificate::expired().unwrap();
    for (certificate, trust, believed) in [
        (&good, pem(&good), true),
        (&good, Trust::Pin(Fingerprint::of(good.der())), true),
        (&good, pem(&other), false),
        (&good, Trust::System, false),
        (&good, Trust::Pin(Fingerprint::of(other.der())), false),
        (&expired, Trust::Authority(expired.pem().into()), false),
    ] {
        let server = FhirServer::start_tls(Options::default(), certificate.server_config().unwrap()).await.unwrap();
        fill(&server, 1);
        let config = FhirConfig {
            sign_in: credentials_of(server.token_url()),
            trust: trust.clone(),
            ..config(server.base_url(), &Flavour::GENERIC)
        };
        let client = FhirClient::new(config, Credentials::ClientSecret(Secret::new(SECRET)), clock()).unwrap();
        match read(&client).await {
            Ok(_) => assert!(believed, "{trust:?}"),
            Err(fault) => {
                assert!(!believed, "{fault:?}");
                assert_eq!((fault.class, fault.code), (Class::Stop, Code::CertificateRefused), "{trust:?}");
                assert!(server.control().tally().calls.is_empty(), "a secret went to a stranger");
                let steps = client.diagnose(&[patient()]).await;
                assert!(steps[0].name == "name" && !steps[0].has_failed());
                assert!(steps[1].name == "TLS" && steps[1].has_failed());
            }
        }
    }

    let config = FhirConfig {
        trust: Trust::Authority(b"no certificate".to_vec()),
        ..config("https://127.0.0.1/fhir", &Flavour::GENERIC)
    };
    let fault = FhirClient::new(config, Credentials::Nobody, clock()).map(drop).unwrap_err();
    assert_eq!(fault.code, Code::CertificateRefused);
    // Plain HTTP where TLS is expected is no certificate's fault.
    let plain = server(Behaviour::default()).await;
    let client = open_client(&plain.base_url().replace("http:", "https:"), &Flavour::GENERIC);
    assert_eq!(read(&client).await.unwrap_err().code, Code::Unreachable);
}
