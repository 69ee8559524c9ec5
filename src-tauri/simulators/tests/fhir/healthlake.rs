//! The data store of HealthLake: signed calls, and a search that lags behind what was written.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use jiff::SignedDuration;
use simulators::fhir::{AwsKey, Behaviour, Control, FhirServer, IndexLag, Options};

use crate::caller::{Answer, patient};

/// Calls the server with AWS's own signer.
struct Signer {
    server: FhirServer,
    control: Control,
    key: AwsKey,
    /// What is signed is this much older than now.
    age: Duration,
}

impl Signer {
    async fn new(key: AwsKey) -> Self {
        let server = FhirServer::start(Options::healthlake(key.clone())).await.unwrap();
        let control = server.control();
        Self { server, control, key, age: Duration::ZERO }
    }

    async fn get(&self, path: &str, headers: &[(&'static str, &'static str)]) -> Answer {
        let address =
            if path.starts_with("http") { path.to_owned() } else { format!("{}/{path}", self.server.base_url()) };
        let credentials =
            Credentials::from_keys(self.key.id.clone(), self.key.secret.clone(), self.key.session_token.clone());
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.key.region)
            .name(&self.key.service)
            .time(SystemTime::now() - self.age)
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let uri = reqwest::Url::parse(&address).unwrap();
        let signable =
            SignableRequest::new("GET", uri.as_str(), headers.iter().copied(), SignableBody::Bytes(b"")).unwrap();
        let (instructions, _) = sign(signable, &params.into()).unwrap().into_parts();
        let mut request = reqwest::Client::new().get(uri);
        let (signed, _) = instructions.into_parts();
        for header in &signed {
            request = request.header(header.name(), header.value());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }
}

#[tokio::test]
async fn takes_what_awss_own_signer_signed() {
    let signer =
        Signer::new(AwsKey { session_token: Some("synthetic+session/token==".into()), ..AwsKey::default() }).await;
    signer.control.put(patient("p0")).unwrap();
    signer.control.advance(SignedDuration::from_secs(4));
    assert!(signer.server.base_url().ends_with("/datastore/0123456789abcdef0123456789abcdef/r4"));
    assert_eq!(signer.get("Patient/p0", &[]).await.status, 200);
    assert_eq!(signer.get("metadata", &[]).await.json()["fhirVersion"], "4.0.1");
    let paths = [
        "Patient?_lastUpdated=ge2026-01-01T00:00:00%2B02:00&_sort=_lastUpdated",
        "Patient?identifier=urn:test:mrn|mrn-p0",
        "Patient?identifier=urn:test:mrn%7Cmrn-p0&_id=p0,p1&_count=5",
    ];
    for path in paths {
        let found = signer.get(path, &[]).await;
        assert_eq!((found.status, found.ids()), (200, vec!["p0".to_owned()]), "{path}: {}", found.text);
    }
    assert_eq!(signer.get("Patient/a%7Cb", &[]).await.status, 404, "a path that is encoded once more");
}

#[tokio::test]
async fn refuses_what_was_signed_wrongly_late_or_not_at_all() {
    let mut signer = Signer::new(AwsKey::default()).await;
    let refused = async |signer: &Signer| {
        let answer = signer.get("Patient", &[]).await;
        assert_eq!(answer.status, 403);
        assert_ne!(answer.header("date"), "");
        answer.header("x-amzn-errortype").to_owned()
    };
    let plain = Answer::of(reqwest::get(format!("{}/Patient", signer.server.base_url())).await.unwrap()).await;
    assert_eq!((plain.status, plain.json()["message"].as_str()), (403, Some("Missing Authentication Token")));
    let right = signer.key.clone();
    signer.key.secret = "another".into();
    assert_eq!(refused(&signer).await, "InvalidSignatureException");
    signer.key = AwsKey { service: "execute-api".into(), ..right.clone() };
    assert_eq!(refused(&signer).await, "InvalidSignatureException");
    signer.key = AwsKey { region: "eu-west-1".into(), ..right.clone() };
    assert_eq!(refused(&signer).await, "InvalidSignatureException");
    signer.key = AwsKey { id: "SYNTHETICKEY00000002".into(), ..right.clone() };
    assert_eq!(refused(&signer).await, "UnrecognizedClientException");
    signer.key = right;
    signer.age = Duration::from_secs(290);
    assert_eq!(signer.get("Patient", &[]).await.status, 200);
    signer.age = Duration::from_secs(310);
    assert_eq!(refused(&signer).await, "InvalidSignatureException");
}

#[tokio::test]
async fn what_was_just_updated_vanishes_from_searches_for_a_moment() {
    let signer = Signer::new(AwsKey::default()).await;
    let lag = |seconds, hides| {
        let wait = SignedDuration::from_secs(seconds);
        move |behaviour: &mut Behaviour| behaviour.index_lag = Some(IndexLag { least: wait, most: wait, hides })
    };
    signer.control.configure(lag(3, true));
    signer.control.put(patient("p0")).unwrap();
    assert_eq!(signer.get("Patient", &[]).await.ids(), [""; 0], "a new one is not there yet");
    signer.control.advance(SignedDuration::from_secs(4));
    assert_eq!(signer.get("Patient", &[]).await.ids(), ["p0"]);
    signer.control.put(patient("p0")).unwrap();
    let strong = &[("x-amz-fhir-history-consistency-level", "strong")];
    let before = signer.get("Patient", strong).await;
    assert_eq!(before.json()["entry"][0]["resource"]["meta"]["versionId"], "1", "the version before");
    assert_eq!(signer.get("Patient", &[]).await.ids(), [""; 0]);
    assert_eq!(signer.get("Patient/p0", &[]).await.header("etag"), "W/\"2\"", "reads see it at once");
    signer.control.advance(SignedDuration::from_secs(4));
    let after = signer.get("Patient", &[]).await;
    assert_eq!(after.json()["entry"][0]["resource"]["meta"]["versionId"], "2");
    signer.control.configure(lag(3, false));
    signer.control.put(patient("p0")).unwrap();
    let stale = signer.get("Patient", &[]).await;
    assert_eq!(stale.json()["entry"][0]["resource"]["meta"]["versionId"], "2", "without hiding, the old one stays");
}

#[tokio::test]
async fn writes_turn_up_in_another_order_than_they_were_made() {
    let signer = Signer::new(AwsKey::default()).await;
    for number in 0..20 {
        signer.control.put(patient(&format!("p{number:02}"))).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..35 {
        signer.control.advance(SignedDuration::from_millis(100));
        let ids = signer.control.ids("Patient");
        seen.extend(ids.into_iter().filter(|id| !seen.contains(id)).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 20);
    assert!(!seen.is_sorted(), "{seen:?}");
}
