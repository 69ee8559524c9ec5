//! Whether a request was signed as AWS wants it (Signature Version 4; FHIR fact sheet 3.2).
//!
//! Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. As for every service but S3, the path
//! is percent-encoded once more as it was sent.

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::call::Call;
use super::reply::Reply;
use super::search::pairs;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Farther from the server's clock a signature does not count.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The key that requests must be signed with. Made up: it opens nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Goes with temporary keys, as `X-Amz-Security-Token`.
    pub session_token: Option<String>,
    /// The region in the signature's scope.
    pub region: String,
    /// The service in the signature's scope.
    pub service: String,
}

impl Default for AwsKey {
    fn default() -> Self {
        Self {
            id: "SYNTHETICKEY00000001".into(),
            secret: "synthetic-secret-of-no-account".into(),
            session_token: None,
            region: "us-east-1".into(),
            service: "healthlake".into(),
        }
    }
}

/// Why a request is refused: the error's type and its message.
type Refused = (&'static str, String);

impl AwsKey {
    /// # Errors
    /// The answer, 403 with the reason.
    pub(crate) fn check(&self, call: &Call, now: Timestamp) -> Result<(), Reply> {
        self.verify(call, now).map_err(|(kind, message)| {
            let mut reply = Reply::raw(403, "application/json", json!({"message": message}).to_string());
            reply.header("x-amzn-errortype", kind);
            reply
        })
    }

    fn verify(&self, call: &Call, now: Timestamp) -> Result<(), Refused> {
        let missing = || ("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned());
        let incomplete =
            |what: &str| ("IncompleteSignatureException", format!("Authorization header requires '{what}'."));
        let header = call.header("authorization").ok_or_else(missing)?;
        let parts = header.strip_prefix(ALGORITHM).ok_or_else(missing)?;
        let part = |name: &str| {
            let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| incomplete(name))
        };
        let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        let date = call.header("x-amz-date").ok_or_else(|| incomplete("X-Amz-Date"))?;
        let at =
            Timestamp::strptime("%Y%m%dT%H%M%S%z", date.replace('Z', "+0000")).map_err(|_| incomplete("X-Amz-Date"))?;
        let (day, scope) = (date.get(..8).unwrap_or_default(), credential.split_once('/').map(|(_, scope)| scope));
        let expected = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        if credential.split('/').next() != Some(self.id.as_str())
            || call.header("x-amz-security-token") != self.session_token.as_deref()
        {
            let message = "The security token included in the request is invalid.";
            return Err(("UnrecognizedClientException", message.to_owned()));
        }
        if scope != Some(&expected) {
            return Err(("InvalidSignatureException", format!("Credential should be scoped to {expected}.")));
        }
        if now.duration_since(at).abs() > SKEW {
            return Err(("InvalidSignatureException", format!("Signature expired: {date} is too far from {now:.0}")));
        }
        let names: Vec<&str> = signed.split(';').collect();
        let token = self.session_token.as_ref().map(|_| "x-amz-security-token");
        for name in ["host", "x-amz-date"].into_iter().chain(token) {
            if !names.contains(&name) {
                return Err(("InvalidSignatureException", format!("'{name}' must be a signed header.")));
            }
        }
        let body = hex(&Sha256::digest(&call.body));
        if call.header("x-amz-content-sha256").is_some_and(|told| told != body) {
            return Err(("InvalidSignatureException", "The body is not the one that was signed.".to_owned()));
        }
        let request = hex(&Sha256::digest(canonical(call, &names, &body)));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for word in [day, &self.region, &self.service, "aws4_request"] {
            key = keyed(&key, word.as_bytes());
        }
        let wanted = hex(&keyed(&key, format!("{ALGORITHM}\n{date}\n{expected}\n{request}").as_bytes()));
        if signature != wanted {
            let message = "The request signature we calculated does not match the signature you provided.";
            return Err(("InvalidSignatureException", message.to_owned()));
        }
        Ok(())
    }
}

fn canonical(call: &Call, names: &[&str], body: &str) -> String {
    let mut query: Vec<(String, String)> = pairs(call.line.query.as_bytes())
        .into_iter()
        .map(|(name, value)| (encoded(&name, false), encoded(&value, false)))
        .collect();
    query.sort();
    let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in names {
        let values = call.headers.get_all(*name).iter().filter_map(|value| value.to_str().ok());
        let values: Vec<String> = values.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        // Writing to a String does not fail.
        let _ = writeln!(headers, "{name}:{}", values.join(","));
    }
    let path = encoded(&call.line.path, true);
    format!("{}\n{path}\n{}\n{headers}\n{}\n{body}", call.line.method, query.join("&"), names.join(";"))
}

/// Percent-encoded, all but the unreserved characters of RFC 3986 and, in a path, the slash.
fn encoded(text: &str, path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (path && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn keyed(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Any length will do for a key.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
