//! Tokens and quotas.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use reqwest::Client;
use serde_json::{Value, json};
use simulators::fhir::{
    Counting, Fault, FhirServer, Interaction, Matching, Options, RateLimit, RateLimitHeader, Refresh, RetryAfter, Times,
};
use simulators::tls::Certificate;

use crate::caller::{Answer, Caller, patient};

#[tokio::test]
async fn gives_a_token_for_credentials_in_the_body_or_in_basic() {
    let server = FhirServer::start(Options::default()).await.unwrap();
    let http = Client::new();
    let form =
        [("grant_type", "client_credentials"), ("client_id", "chart-relay"), ("client_secret", "synthetic-secret")];
    let by_body = Answer::of(http.post(server.token_url()).form(&form).send().await.unwrap()).await;
    assert_eq!(by_body.status, 200);
    assert_eq!(by_body.json()["token_type"], "Bearer");
    assert_eq!(by_body.json()["expires_in"], 3600);
    let basic = http.post(server.token_url()).basic_auth("chart-relay", Some("synthetic-secret")).form(&form[..1]);
    let by_basic = Answer::of(basic.send().await.unwrap()).await;
    assert_eq!(by_basic.status, 200);
    assert_ne!(by_basic.json()["access_token"], by_body.json()["access_token"]);
    let json = http.post(server.token_url()).json(&json!({"grant_type": "client_credentials"}));
    let as_json = Answer::of(json.send().await.unwrap()).await;
    assert_eq!((as_json.status, as_json.text.as_str()), (400, "Unsupported content type"));
}

#[tokio::test]
async fn refuses_a_wrong_secret_as_medplum_does() {
    let server = FhirServer::start(Options::default()).await.unwrap();
    let ask = async |id: &str, secret: &str, grant: &str| {
        let form = [("grant_type", grant), ("client_id", id), ("client_secret", secret)];
        Answer::of(Client::new().post(server.token_url()).form(&form).send().await.unwrap()).await
    };
    let wrong = ask("chart-relay", "guess", "client_credentials").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json(), json!({"error": "invalid_request", "error_description": "Invalid secret"}));
    assert_eq!(ask("nobody", "guess", "client_credentials").await.status, 400);
    assert_eq!(ask("chart-relay", "synthetic-secret", "password").await.status, 400);
    server.control().rotate_secret("newer", true);
    assert_eq!(ask("chart-relay", "synthetic-secret", "client_credentials").await.status, 200);
    server.control().rotate_secret("newest", false);
    assert_eq!(ask("chart-relay", "newer", "client_credentials").await.status, 400);
    assert_eq!(ask("chart-relay", "newest", "client_credentials").await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_works_once_unless_it_stays() {
    let options = Options { refresh_token: Some("from-the-browser".into()), ..Options::default() };
    let server = FhirServer::start(options).await.unwrap();
    let control = server.control();
    let ask = async |refresh: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("client_id", "chart-relay"),
            ("client_secret", "synthetic-secret"),
        ];
        Answer::of(Client::new().post(server.token_url()).form(&form).send().await.unwrap()).await
    };
    let first = ask("from-the-browser").await;
    let next = first.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(control.refresh_token().as_deref(), Some(next.as_str()));
    let spent = ask("from-the-browser").await;
    assert_eq!((spent.status, spent.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(control.spent_refresh_tokens(), 1);
    control.configure(|behaviour| behaviour.refresh = Refresh::Stays);
    assert_eq!(ask(&next).await.json()["refresh_token"], next);
    let token = ask(&next).await.json()["access_token"].as_str().unwrap().to_owned();
    let address = format!("{}/Patient", server.base_url());
    let read = Client::new().get(address).bearer_auth(token);
    assert_eq!(Answer::of(read.send().await.unwrap()).await.status, 200);
}

/// A client's own key, and the assertions it makes with it.
struct Signing {
    key: EcdsaKeyPair,
    jwk: Value,
}

impl Signing {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        // The point, uncompressed: 4, then x and y of 48 bytes each.
        let point = key.public_key().as_ref().to_vec();
        let [x, y] = [&point[1..49], &point[49..]].map(|number| URL_SAFE_NO_PAD.encode(number));
        Self { key, jwk: json!({"kty": "EC", "crv": "P-384", "kid": "synthetic", "x": x, "y": y}) }
    }

    fn assertion(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES384", "kid": "synthetic", "typ": "JWT"});
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn a_client_may_sign_an_assertion_instead() {
    let signing = Signing::new();
    let options = Options { client_key: Some(signing.jwk.clone()), ..Options::default() };
    let server = FhirServer::start(options).await.unwrap();
    let ask = async |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        Answer::of(Client::new().post(server.token_url()).form(&form).send().await.unwrap()).await
    };
    let now = server.control().now().as_second();
    let right =
        json!({"iss": "chart-relay", "sub": "chart-relay", "aud": server.token_url(), "exp": now + 290, "jti": "1"});
    let assertion = signing.assertion(&right);
    assert!(ask(&assertion).await.json()["access_token"].is_string());
    let again = ask(&assertion).await;
    assert_eq!((again.status, again.json()["error_description"].as_str()), (400, Some("jti was used before")));
    let with = |name: &str, value: Value| {
        let mut claims = right.clone();
        claims["jti"] = json!(format!("{name} {value}"));
        claims[name] = value;
        claims
    };
    let wrong = [
        with("iss", json!("somebody")),
        with("sub", json!("somebody")),
        with("aud", json!(server.base_url())),
        with("exp", json!(now - 1)),
        with("exp", json!(now + 310)),
    ];
    for claims in wrong {
        assert_eq!(ask(&signing.assertion(&claims)).await.json()["error"], "invalid_client", "{claims}");
    }
    let other = Signing::new().assertion(&with("jti", json!("2")));
    assert_eq!(ask(&other).await.json()["error_description"], "the signature does not match");
    let document = format!("{}/.well-known/smart-configuration", server.base_url());
    let document = Answer::of(reqwest::get(document).await.unwrap()).await.json();
    assert_eq!(document["token_endpoint_auth_methods_supported"], json!(["private_key_jwt"]));
}

#[tokio::test]
async fn tokens_end_with_the_servers_clock() {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.freeze("2026-03-01T08:00:00Z".parse().unwrap());
    caller.control.skew(SignedDuration::ZERO);
    assert_eq!(caller.get("Patient/p0").await.status, 200);
    caller.control.advance(SignedDuration::from_mins(61));
    let late = caller.get("Patient/p0").await;
    assert_eq!(late.status, 401);
    assert_eq!(late.issue(), "login");
    assert_eq!(late.json()["issue"][1]["code"], "expired");
    let nobody =
        Answer::of(Client::new().get(format!("{}/Patient/p0", caller.server.base_url())).send().await.unwrap()).await;
    assert_eq!(nobody.status, 401);
    assert_eq!(nobody.json()["issue"].as_array().unwrap().len(), 1);
    let open =
        Answer::of(Client::new().get(format!("{}/metadata", caller.server.base_url())).send().await.unwrap()).await;
    assert_eq!(open.json()["fhirVersion"], "4.0.1");
    let token = open.json()["rest"][0]["security"]["extension"][0]["extension"][0]["valueUri"].clone();
    assert_eq!(token, caller.server.token_url());
}

#[tokio::test]
async fn a_token_can_die_between_two_pages() {
    let caller = Caller::new().await;
    caller.fill(3);
    caller.control.inject(Fault::ExpireTokens, Matching::only(Interaction::NextPage), Times::Next(1));
    let first = caller.get("Patient?_count=2").await;
    assert_eq!(first.status, 200);
    assert_eq!(caller.get(&first.link("next").unwrap()).await.status, 401);
}

#[tokio::test]
async fn quotas_are_told_and_kept() {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.freeze("2026-03-01T08:00:00Z".parse().unwrap());
    let limit = RateLimit {
        requests: 2,
        points: Some(101),
        window: SignedDuration::from_secs(60),
        counting: Counting::FromFirst,
        header: RateLimitHeader::One,
        retry_after: RetryAfter::Absent,
    };
    caller.control.configure(|behaviour| behaviour.rate_limit = Some(limit));
    let read = caller.get("Patient/p0").await;
    assert_eq!(read.header("ratelimit"), r#""requests";r=1;t=60, "fhirInteractions";r=100;t=60"#);
    caller.control.advance(SignedDuration::from_secs(20));
    assert_eq!(caller.get("Patient/p0").await.status, 200);
    let refused = caller.get("Patient/p0").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.issue(), "throttled");
    assert_eq!(refused.header("retry-after"), "");
    let detail: serde_json::Value =
        serde_json::from_str(refused.json()["issue"][0]["diagnostics"].as_str().unwrap()).unwrap();
    assert_eq!(detail["msBeforeNext"], 40_000);

    let with = async |form: RetryAfter| {
        caller.control.configure(|behaviour| behaviour.rate_limit.as_mut().unwrap().retry_after = form);
        caller.get("Patient/p0").await.header("retry-after").to_owned()
    };
    assert_eq!(with(RetryAfter::Seconds(0)).await, "40");
    assert_eq!(with(RetryAfter::HttpDate(0)).await, "Sun, 01 Mar 2026 08:01:00 GMT");

    caller.control.advance(SignedDuration::from_secs(40));
    caller.control.configure(|behaviour| {
        let limit = behaviour.rate_limit.as_mut().unwrap();
        limit.requests = 100;
        limit.header = RateLimitHeader::Several;
    });
    let created = caller.post("Patient", &patient("ignored")).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.headers.get_all("ratelimit").iter().count(), 2);
    assert_eq!(caller.post("Patient", &patient("ignored")).await.status, 429, "100 points each, 101 in all");
}

#[tokio::test]
async fn counts_calls_and_the_most_at_once() {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.configure(|behaviour| behaviour.latency = Duration::from_millis(30));
    let calls = (0..5).map(|_| caller.get("Patient/p0"));
    futures::future::join_all(calls).await;
    caller.get("Patient/p0").await;
    let tally = caller.control.tally();
    assert_eq!(tally.of(Interaction::Read), 6);
    assert_eq!(tally.statuses[&200], 6);
    assert_eq!((tally.open, tally.most_open), (0, 5));
    let journal = caller.control.journal();
    assert_eq!(journal.len(), 6);
    assert!(journal.iter().all(|entry| entry.took >= Duration::from_millis(30) && entry.id.as_deref() == Some("p0")));
}

#[tokio::test]
async fn over_tls_its_addresses_say_so() {
    let certificate = Certificate::by_own_authority().unwrap();
    let server = FhirServer::start_tls(Options::default(), certificate.server_config().unwrap()).await.unwrap();
    assert!(server.base_url().starts_with("https://127.0.0.1:"));
    let address = format!("{}/metadata", server.base_url());
    let authority = reqwest::Certificate::from_pem(certificate.authority_pem().unwrap().as_bytes()).unwrap();
    let trusting = Client::builder().tls_certs_only([authority]).build().unwrap();
    let statement = Answer::of(trusting.get(&address).send().await.unwrap()).await.json();
    assert_eq!(statement["implementation"]["url"], server.base_url());
    assert!(Client::new().get(&address).send().await.is_err(), "an authority that nobody knows");
}
