//! The signed statement by which a client proves itself that has a key in place of a secret (SMART App Launch,
//! client-confidential-asymmetric; RFC 7523): RS384 or ES384.

#![allow(clippy::disallowed_methods, reason = "a statement's id must never come twice")]

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use engine::error::{Class, Code, Fault};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::adapters::secret::Secret;

/// What `client_assertion_type` says.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long a statement counts. Five minutes are the most; a clock may be a little ahead.
const LIFE: SignedDuration = SignedDuration::from_mins(4);

/// A private key, and what the server knows it by.
pub(super) struct SigningKey {
    key: Key,
    id: Option<String>,
}

enum Key {
    Rsa(Box<rsa::KeyPair>),
    P384(EcdsaKeyPair),
}

impl SigningKey {
    /// Reads a key in PEM (PKCS#8, PKCS#1 or SEC1, also with its lines run together) or as a JWK.
    ///
    /// # Errors
    /// `Stop` on `client_secret`, without a word of the key.
    pub(super) fn read(key: &Secret, id: Option<String>) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::new(Class::Stop, Code::Rejected).on("client_secret").vendor(what);
        let text = key.reveal().trim();
        if text.starts_with('{') {
            let jwk: Json = serde_json::from_str(text).map_err(|_| wrong("the key is no JWK"))?;
            let of_its_own = jwk["kid"].as_str().map(str::to_owned);
            let key =
                from_jwk(&jwk).ok_or_else(|| wrong("a JWK that is neither RSA nor P-384, or has no private part"))?;
            return Ok(Self { key, id: id.or(of_its_own) });
        }
        let der = pem(text).ok_or_else(|| wrong("the key is neither PEM nor JWK"))?;
        let rsa = || rsa::KeyPair::from_pkcs8(&der).or_else(|_| rsa::KeyPair::from_der(&der)).ok();
        let p384 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, &der).ok();
        let key = rsa().map(|key| Key::Rsa(Box::new(key))).or_else(|| p384().map(Key::P384));
        Ok(Self { key: key.ok_or_else(|| wrong("a key that is neither RSA nor P-384, or is sealed"))?, id })
    }

    /// The JWT.
    pub(super) fn statement(
        &self,
        client_id: &str,
        token_url: &str,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, Fault> {
        let algorithm = if matches!(self.key, Key::Rsa(_)) { "RS384" } else { "ES384" };
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": token_url, "jti": format!("{:032x}", rand::random::<u128>()),
            "iat": now.as_second(), "exp": now.as_second() + LIFE.as_secs(),
        });
        let part = |json: Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let failed = |_| Fault::new(Class::Stop, Code::Rejected).on("client_secret").vendor("the key does not sign");
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA384, &random, signed.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
            Key::P384(key) => key.sign(&random, signed.as_bytes()).map_err(failed)?.as_ref().to_vec(),
        };
        Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// What is between the lines of a PEM.
fn pem(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    if !label.ends_with("PRIVATE KEY") || label.starts_with("ENCRYPTED") {
        return None;
    }
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

fn from_jwk(jwk: &Json) -> Option<Key> {
    let member =
        |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?.trim_end_matches('=')).ok().map(Zeroizing::new);
    match jwk["kty"].as_str()? {
        "RSA" => {
            let mut numbers = Zeroizing::new(integer(&[0]));
            for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
                numbers.extend(integer(&member(name)?));
            }
            let der = Zeroizing::new([[0x30].as_slice(), &length(numbers.len()), &numbers].concat());
            rsa::KeyPair::from_der(&der).ok().map(|key| Key::Rsa(Box::new(key)))
        }
        "EC" if jwk["crv"] == "P-384" => {
            let point = [[4].as_slice(), &member("x")?, &member("y")?].concat();
            let secret = member("d")?;
            let key = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P384_SHA384_FIXED_SIGNING, &secret, &point);
            key.ok().map(Key::P384)
        }
        _ => None,
    }
}

/// A number as DER has it: PKCS#1 is a list of them.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().position(|byte| *byte != 0).map_or(&[0][..], |first| &bytes[first..]);
    let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
    [[0x02].as_slice(), &length(sign.len() + digits.len()), sign, digits].concat()
}

fn length(length: usize) -> Vec<u8> {
    let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    match bytes.as_slice() {
        [] => vec![0],
        [short] if *short < 0x80 => vec![*short],
        long => [&[0x80 | u8::try_from(long.len()).unwrap_or(8)], long].concat(),
    }
}
