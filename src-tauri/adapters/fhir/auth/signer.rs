//! Signing each request as AWS asks (Signature Version 4), for HealthLake.
//!
//! A signature counts for some minutes around the server's clock. Where it was refused and the answer shows that ours is wrong, the
//! request is signed once more by the server's.

use std::{fmt, sync::Arc, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use engine::{
    error::{Class, Code, Fault},
    ports::Clock,
};
use jiff::Timestamp;
use reqwest::{
    Request, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use url::Url;

use super::TheirTime;
use crate::adapters::{aws::Account, fhir::outcome::Answer};

/// Signs the requests of one account.
pub(in crate::adapters::fhir) struct Signer {
    account: Account,
    scope: Scope,
    time: TheirTime,
}

/// For what a signature counts.
#[derive(Debug, Clone)]
pub struct Scope {
    pub region: String,
    pub service: &'static str,
    /// Whether the hash of the body goes along as a header of its own.
    pub hash: bool,
}

impl Signer {
    pub(in crate::adapters::fhir) fn new(account: Account, region: &str, clock: Arc<dyn Clock>) -> Self {
        let scope = Scope { region: region.to_owned(), service: "healthlake", hash: true };
        Self { account, scope, time: TheirTime::new(clock) }
    }

    pub(in crate::adapters::fhir) async fn sign(&self, request: &mut Request) -> Result<(), Fault> {
        let credentials = self.account.credentials().await?;
        sign_request(request, credentials, &self.scope, self.time.now())
    }

    /// Whether to sign once more and try again.
    pub(in crate::adapters::fhir) fn was_early_or_late(&self, answer: &Answer) -> bool {
        if !matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) {
            return false;
        }
        let wrong = self.time.was_wrong(answer);
        if !wrong && answer.refuses_signature() {
            // Whoever renewed a key in AWS's files or in the keychain need not start the relay again.
            self.account.refused();
        }
        wrong
    }
}

/// Adds what AWS wants to see: the time, the hash of the body, the session's token and the signature.
///
/// # Errors
/// `Stop`: there is something in the request that cannot be signed.
pub fn sign_request(
    request: &mut Request,
    credentials: Credentials,
    scope: &Scope,
    at: Timestamp,
) -> Result<(), Fault> {
    let unsigned = || Fault::new(Class::Stop, Code::Rejected).vendor("a request that cannot be signed");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    if scope.hash {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&scope.region)
        .name(scope.service)
        .time(SystemTime::from(at))
        .settings(settings)
        .build()
        .map_err(|_| unsigned())?
        .into();
    let host = host(request.url());
    let headers = request.headers();
    let signed = [HOST, CONTENT_TYPE, CONTENT_LENGTH].into_iter().filter_map(|name| {
        let value = if name == HOST { host.as_str() } else { headers.get(&name)?.to_str().ok()? };
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let signed: Vec<_> = signed.collect();
    let body = request.body().map_or(Some(&[][..]), reqwest::Body::as_bytes).ok_or_else(unsigned)?;
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.url().as_str(),
        signed.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(body),
    );
    let signature = sign(signable.map_err(|_| unsigned())?, &parameters).map_err(|_| unsigned())?;
    let (instructions, _) = signature.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| unsigned())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unsigned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("scope", &self.scope).finish_non_exhaustive()
    }
}
