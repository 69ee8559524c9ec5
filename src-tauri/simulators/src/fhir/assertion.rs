//! A client that proves itself by a signed assertion instead of a secret: SMART backend services (FHIR fact sheet 4.4).

use std::collections::BTreeSet;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What `client_assertion_type` must say.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion may end no later than this.
const LONGEST: SignedDuration = SignedDuration::from_mins(5);

/// A client's public key, as a JWK, and the assertions that it has used.
pub(super) struct ClientKey {
    jwk: Value,
    used: BTreeSet<String>,
}

impl ClientKey {
    pub(super) fn new(jwk: Value) -> Self {
        Self { jwk, used: BTreeSet::new() }
    }

    /// The client that the assertion names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn client(&mut self, assertion: &str, audience: &str, now: Timestamp) -> Result<String, &'static str> {
        let (signed, signature) = assertion.rsplit_once('.').ok_or("not a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
        let header = part(header).ok_or("the header is not JSON")?;
        let claims = part(claims).ok_or("the claims are not JSON")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature is not base64")?;
        if header["typ"] != "JWT" || header["kid"] != self.jwk["kid"] {
            return Err("typ or kid is wrong");
        }
        self.verify(&header["alg"], signed.as_bytes(), &signature).ok_or("the signature does not match")?;
        let (Some(issuer), Some(jti)) = (claims["iss"].as_str(), claims["jti"].as_str()) else {
            return Err("iss or jti is missing");
        };
        if claims["sub"] != issuer || claims["aud"] != audience {
            return Err("sub or aud is wrong");
        }
        let ends = claims["exp"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let left = ends.map(|ends| ends.duration_since(now));
        if left.is_none_or(|left| left <= SignedDuration::ZERO || left > LONGEST) {
            return Err("exp is past or more than five minutes ahead");
        }
        if !self.used.insert(jti.to_owned()) {
            return Err("jti was used before");
        }
        Ok(issuer.to_owned())
    }

    fn verify(&self, algorithm: &Value, signed: &[u8], signature: &[u8]) -> Option<()> {
        let number = |name: &str| URL_SAFE_NO_PAD.decode(self.jwk[name].as_str()?).ok();
        match (algorithm.as_str()?, self.jwk["kty"].as_str()?) {
            ("ES384", "EC") => {
                let point = [vec![4], number("x")?, number("y")?].concat();
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature).ok()
            }
            ("RS384", "RSA") => {
                let key = RsaPublicKeyComponents { n: number("n")?, e: number("e")? };
                key.verify(&RSA_PKCS1_2048_8192_SHA384, signed, signature).ok()
            }
            _ => None,
        }
    }
}

fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
