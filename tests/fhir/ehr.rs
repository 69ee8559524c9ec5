//! What a server may do to the lists of a watched EHR, and the ways to sign in there.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::AsDer as _,
    rsa,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chart_relay::adapters::{
    fhir::{
        Credentials, EhrClient, EhrConfig, FhirConfig, Flavour, SecretIn, SignIn,
        signer::{Scope, sign_request},
    },
    secret::Secret,
    transport::Trust,
};
use engine::{
    error::{Class, Code, Fault as RelayFault},
    key::ResourceType,
    ports::{Ehr as _, Grant, Purpose, SignIn as Ask, Unlimited, Vault},
};
use jiff::{SignedDuration, tz::TimeZone};
use serde_json::{Value as Json, json};
use simulators::{
    ehr::{EhrServer, Firm},
    fhir::{Behaviour, Canned, Fault, FhirServer, Interaction, Matching, Options, Times, Wrong},
};

use super::{
    SECRET, clock, config, credentials_of,
    script::{Script, fhir},
    server,
};

fn ehr(
    fhir: FhirConfig,
    credentials: Credentials,
    api_key: Option<Secret>,
    vault: Option<Arc<dyn Vault>>,
) -> Result<EhrClient, RelayFault> {
    let probe = ResourceType::new("Encounter").unwrap();
    let config =
        EhrConfig { fhir: FhirConfig { probe, ..fhir }, reach: None, categories: None, api_key, zone: TimeZone::UTC };
    EhrClient::new(config, credentials, Arc::new(Unlimited), vault, clock())
}

/// In pages that a walk takes several of.
fn paged(server: &FhirServer) -> FhirConfig {
    let sign_in = credentials_of(server.token_url());
    FhirConfig { sign_in, page: Some(20), ..config(server.base_url(), &Flavour::GENERIC) }
}

fn visit(name: &str) -> Json {
    json!({"resourceType": "Encounter", "id": name, "status": "in-progress", "class": {"code": "AMB"}})
}

async fn watched(count: usize) -> (FhirServer, EhrClient) {
    let server = server(Behaviour::default()).await;
    for number in 0..count {
        server.control().put(visit(&format!("e{number}"))).unwrap();
    }
    let credentials = Credentials::ClientSecret(Secret::new(SECRET));
    let client = ehr(paged(&server), credentials, None, None).unwrap();
    (server, client)
}

/// All pages, or what they ended with.
async fn walk(client: &EhrClient) -> Result<usize, RelayFault> {
    let (mut rows, mut page) = (0, None);
    loop {
        let list = client.encounters(None, page.as_ref(), Purpose::Poll).await?;
        rows += list.rows.len();
        match list.next {
            Some(next) => page = Some(next),
            None => return Ok(rows),
        }
    }
}

#[tokio::test]
async fn what_is_no_list_is_told_apart_and_never_taken_for_an_empty_one() {
    let (server, client) = watched(45).await;
    let control = server.control();
    let page = Canned::Raw { status: 200, content_type: "text/html", body: "<html>SYNTHETIC</html>".into() };
    for (fault, on, class, code) in [
        (Fault::Answer(page), Interaction::Search, Class::Away, Code::WebPage),
        (Fault::Truncate, Interaction::Search, Class::Retry, Code::BadAnswer),
        (Fault::Wrong(Wrong::Resource), Interaction::Search, Class::Retry, Code::BadAnswer),
        (Fault::Wrong(Wrong::Entry), Interaction::Search, Class::Retry, Code::BadAnswer),
        (Fault::NextInCircle, Interaction::NextPage, Class::Retry, Code::EndlessPages),
    ] {
        let said = format!("{fault:?}");
        let id = control.inject(fault, Matching::only(on), Times::Always);
        let refused = walk(&client).await.unwrap_err();
        assert_eq!((refused.class, refused.code), (class, code), "{said}");
        assert_eq!(refused.subject.as_deref(), Some("Encounter"), "{said}");
        control.clear(id);
        assert_eq!(walk(&client).await, Ok(45), "{said}");
    }
}

#[tokio::test]
async fn a_page_on_another_server_is_not_fetched() {
    let elsewhere = Script::start(|_| fhir(200, &json!({"resourceType": "Bundle"}))).await;
    let (server, client) = watched(45).await;
    let fault = Fault::NextElsewhere(format!("{}/R4", elsewhere.base_url()));
    server.control().inject(fault, Matching::only(Interaction::Search), Times::Always);
    let refused = walk(&client).await.unwrap_err();
    assert_eq!((refused.class, refused.code), (Class::Stop, Code::ForeignPage));
    assert!(elsewhere.asked().is_empty(), "a token went to another server");
}

#[tokio::test]
async fn a_list_that_is_too_large_is_asked_for_in_smaller_pieces() {
    let (server, client) = watched(45).await;
    let control = server.control();
    control.inject(Fault::Bulk(50 << 20), Matching::only(Interaction::Search), Times::Next(1));
    let before = client.manners().encounters_page;
    let refused = walk(&client).await.unwrap_err();
    assert_eq!((refused.class, refused.code), (Class::Retry, Code::TooLarge));
    assert!(client.manners().encounters_page < before);
    assert_eq!(walk(&client).await, Ok(45));
    // Where a single row is too large, only a person can help.
    control.inject(Fault::Bulk(50 << 20), Matching::only(Interaction::Search), Times::Always);
    let mut last = None;
    for _ in 0..8 {
        last = Some(walk(&client).await.unwrap_err());
    }
    assert_eq!(last.map(|fault| (fault.class, fault.code)), Some((Class::Stop, Code::TooLarge)));
}

#[tokio::test]
async fn rows_that_cannot_be_used_are_counted_and_the_others_are_listed() {
    let (server, client) = watched(3).await;
    let control = server.control();
    for wrong in [Wrong::Id, Wrong::Stamp, Wrong::StampWord] {
        let id = control.inject(Fault::Wrong(wrong), Matching::only(Interaction::Search), Times::Always);
        let list = client.encounters(None, None, Purpose::Poll).await.unwrap();
        assert_eq!((list.rows.len(), list.unusable), (0, 3), "{wrong:?}");
        control.clear(id);
    }
    for wrong in [Wrong::Status, Wrong::References] {
        let id = control.inject(Fault::Wrong(wrong), Matching::only(Interaction::Search), Times::Always);
        let list = client.encounters(None, None, Purpose::Poll).await.unwrap();
        assert_eq!((list.rows.len(), list.unusable), (3, 0), "{wrong:?}");
        control.clear(id);
    }
    // Stamped in the future: listed, and no later than the server's clock.
    let ahead = control.now() + SignedDuration::from_hours(1);
    control.put_stamped(visit("ahead"), ahead).unwrap();
    let list = client.encounters(None, None, Purpose::Poll).await.unwrap();
    assert_eq!((list.rows.len(), list.ahead), (4, 1));
    let latest = list.server_time.unwrap() + SignedDuration::from_secs(1);
    assert!(list.rows.iter().all(|row| row.last_updated <= latest));
}

/// One for all who ask, as the ledger's is.
#[derive(Debug, Default)]
struct Shelf(Mutex<Option<Grant>>, tokio::sync::Mutex<()>);

#[async_trait]
impl Vault for Shelf {
    async fn read(&self) -> Result<Option<Grant>, RelayFault> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn renew<'a>(&self, than: Option<u64>, sign_in: Ask<'a>) -> Result<Grant, RelayFault> {
        let _turn = self.1.lock().await;
        let there = self.0.lock().unwrap().clone();
        if let Some(grant) = there.clone().filter(|grant| than.is_none_or(|than| grant.number > than)) {
            return Ok(grant);
        }
        let number = there.as_ref().map_or(1, |grant| grant.number + 1);
        let granted = sign_in(there).await?;
        let grant = Grant { number, granted, at: clock_now() };
        *self.0.lock().unwrap() = Some(grant.clone());
        Ok(grant)
    }
}

fn clock_now() -> jiff::Timestamp {
    use engine::ports::Clock as _;
    clock().now()
}

#[tokio::test]
async fn a_refresh_token_that_changes_is_spent_once_however_many_stations_use_it() {
    let options = Options { refresh_token: Some("synthetic-first".into()), ..Options::default() };
    let server = FhirServer::start(options).await.unwrap();
    server.control().put(visit("e1")).unwrap();
    let vault: Arc<dyn Vault> = Arc::new(Shelf::default());
    let station = || {
        let sign_in = SignIn::RefreshToken {
            token_url: server.token_url().to_owned(),
            client_id: "chart-relay".into(),
            secret_in: SecretIn::Basic,
            scope: None,
        };
        let fhir = FhirConfig { sign_in, ..paged(&server) };
        let credentials =
            Credentials::Refresh { secret: Some(Secret::new(SECRET)), first: Secret::new("synthetic-first") };
        ehr(fhir, credentials, None, Some(vault.clone())).unwrap()
    };
    let stations = [station(), station(), station()];
    for round in 1..4 {
        let all = stations.iter().map(walk);
        for walked in futures::future::join_all(all).await {
            assert_eq!(walked, Ok(1));
        }
        let tokens = server.control().tally().of(Interaction::Token);
        assert_eq!(tokens, round, "one sign-in for all");
        server.control().expire_tokens();
    }
    // A station that starts anew goes on with what the others have.
    assert_eq!(walk(&station()).await, Ok(1));
    assert_eq!(server.control().spent_refresh_tokens(), 0);
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn a_client_with_a_key_proves_itself_by_a_signed_statement() {
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    // RSAPublicKey in DER: a list of the modulus, here of 256 bytes, and the exponent, here 65537.
    let n = base64(&rsa.public_key().as_ref()[9..265]);
    let rsa_jwk = json!({"kty": "RSA", "kid": "synthetic", "n": n, "e": "AQAB"});
    let rsa_der = rsa.as_der().unwrap();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = p384.public_key().as_ref();
    let (x, y) = (base64(&point[1..49]), base64(&point[49..]));
    let p384_jwk = json!({"kty": "EC", "crv": "P-384", "kid": "synthetic", "x": x, "y": y});
    let secret = p384.private_key();
    let d: aws_lc_rs::encoding::EcPrivateKeyBin<'_> = aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&secret).unwrap();
    let mut p384_private = p384_jwk.clone();
    p384_private["d"] = json!(base64(d.as_ref()));
    let p384_der = p384.to_pkcs8v1().unwrap();
    let run_together = pem("PRIVATE KEY", rsa_der.as_ref()).replace('\n', " ");
    for (key, key_id, jwk) in [
        (pem("PRIVATE KEY", rsa_der.as_ref()), Some("synthetic"), &rsa_jwk),
        (run_together, Some("synthetic"), &rsa_jwk),
        (pem("PRIVATE KEY", p384_der.as_ref()), Some("synthetic"), &p384_jwk),
        (p384_private.to_string(), None, &p384_jwk),
    ] {
        let options = Options { client_key: Some(jwk.clone()), ..Options::default() };
        let server = FhirServer::start(options).await.unwrap();
        server.control().put(visit("e1")).unwrap();
        let sign_in = SignIn::Statement {
            // The server names it.
            token_url: None,
            client_id: "chart-relay".into(),
            key_id: key_id.map(str::to_owned),
            scope: Some("system/Encounter.rs".into()),
        };
        let fhir = FhirConfig { sign_in, ..paged(&server) };
        let client = ehr(fhir, Credentials::Key(Secret::new(key)), None, None).unwrap();
        // Our clock and the server's are far apart: the first statement is refused, the next is made by the server's.
        assert_eq!(walk(&client).await, Ok(1));
        server.control().expire_tokens();
        assert_eq!(walk(&client).await, Ok(1));
        // Another key is refused, and that is said.
        let stranger = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let stranger = Credentials::Key(Secret::new(pem("PRIVATE KEY", stranger.to_pkcs8v1().unwrap().as_ref())));
        let sign_in = SignIn::Statement {
            token_url: Some(server.token_url().to_owned()),
            client_id: "chart-relay".into(),
            key_id: Some("synthetic".into()),
            scope: None,
        };
        let fhir = FhirConfig { sign_in, ..paged(&server) };
        let refused = walk(&ehr(fhir, stranger, None, None).unwrap()).await.unwrap_err();
        assert_eq!((refused.class, refused.code), (Class::Stop, Code::SignInRefused));
    }
    let server = server(Behaviour::default()).await;
    for none in ["", "synthetic", "{}", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
        let sign_in = SignIn::Statement { token_url: None, client_id: "chart-relay".into(), key_id: None, scope: None };
        let fhir = FhirConfig { sign_in, ..paged(&server) };
        let refused = ehr(fhir, Credentials::Key(Secret::new(none)), None, None).unwrap_err();
        assert_eq!((refused.class, refused.subject.as_deref()), (Class::Stop, Some("client_secret")));
    }
}

#[tokio::test]
async fn emas_older_grant_and_its_key_open_one_firm_only() {
    let firms = vec![Firm::synthetic("north", 0), Firm::synthetic("south", 1)];
    let options = simulators::ehr::Options { firms, ..simulators::ehr::Options::default() };
    let server = EhrServer::start(options).await.unwrap();
    server.control().firm("north").put(visit("e1")).unwrap();
    let client = |base: &str, key: &str| {
        let fhir = FhirConfig {
            base_url: server.base_url(base),
            flavour: &Flavour::EMA,
            sign_in: SignIn::Password { token_url: server.grant_url("north"), account: "fhir_north".into() },
            trust: Trust::System,
            timeout: Duration::from_secs(20),
            page: None,
            probe: ResourceType::new("Encounter").unwrap(),
        };
        let password = Credentials::Password(Secret::new("synthetic-password-north"));
        ehr(fhir, password, Some(Secret::new(key)), None).unwrap()
    };
    assert_eq!(walk(&client("north", "synthetic-key")).await, Ok(1));
    assert!(walk(&client("south", "synthetic-key")).await.is_err(), "another firm's");
    assert!(walk(&client("nowhere", "synthetic-key")).await.is_err());
    let refused = walk(&client("north", "another-key")).await.unwrap_err();
    assert_eq!(refused.class, Class::Stop);
    assert_eq!(server.control().leaks(), 0);
}

/// Cases of AWS's signature test suite (github.com/awslabs/aws-c-auth, tests/aws-signing-test-suite/v4, v0.9.0): method, path and
/// query, body, session token, and the signature that is published.
const PUBLISHED: &[(&str, &str, &str, Option<&str>, &str)] = &[
    // get-vanilla
    ("GET", "/", "", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    // get-vanilla-query-order-key-case
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        "",
        None,
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    // post-vanilla-query
    ("POST", "/?Param1=value1", "", None, "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    // get-vanilla-with-session-token
    (
        "GET",
        "/",
        "",
        Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    // post-x-www-form-urlencoded
    ("POST", "/", "Param1=value1", None, "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"),
];

#[test]
fn requests_are_signed_as_aws_publishes_it() {
    // The suite's own key; it opens nothing.
    let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    for (method, path, body, token, signature) in PUBLISHED {
        let token = token.map(str::to_owned);
        let credentials = aws_credential_types::Credentials::new(id, secret, token, None, "test suite");
        let mut request = reqwest::Request::new(
            method.parse().unwrap(),
            format!("https://example.amazonaws.com{path}").parse().unwrap(),
        );
        if !body.is_empty() {
            let headers = request.headers_mut();
            headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
            headers.insert("content-length", body.len().to_string().parse().unwrap());
            *request.body_mut() = Some((*body).into());
        }
        let scope = Scope { region: "us-east-1".into(), service: "service", hash: !body.is_empty() };
        sign_request(&mut request, credentials, &scope, "2015-08-30T12:36:00Z".parse().unwrap()).unwrap();
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(authorization.ends_with(&format!("Signature={signature}")), "{method} {path}: {authorization}");
    }
}
