//! The clinic key and what derives from it: keyed hashes of values, sealing, and the keys of the database and of the audit
//! chain. One key per clinic, in each station's keychain; whoever has the recovery sheet can make everything else again.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{key::RecordKey, row::Value};

/// 256 random bits. Never printed, never serialised except as a recovery sheet.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClinicKey([u8; 32]);

impl fmt::Debug for ClinicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClinicKey({})", self.id())
    }
}

/// Which clinic key made a hash: 32 bits that tell keys apart and nothing about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyId(String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key for one purpose.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DerivedKey([u8; 32]);

impl DerivedKey {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(..)")
    }
}

/// What a key derived from the clinic key is for. The text goes into the derivation: changing it changes the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Hashes,
    Sealing,
    /// Nonces of what is sealed alike each time.
    Alike,
    Database,
    AuditChain,
    Pseudonyms,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Purpose::Hashes => b"chart-relay/hashes/1",
            Purpose::Sealing => b"chart-relay/sealing/1",
            Purpose::Alike => b"chart-relay/alike/1",
            Purpose::Database => b"chart-relay/database/1",
            Purpose::AuditChain => b"chart-relay/audit-chain/1",
            Purpose::Pseudonyms => b"chart-relay/pseudonyms/1",
        }
    }
}

impl ClinicKey {
    #[allow(clippy::disallowed_methods, reason = "a key that could be made again from a seed would be none")]
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the keychain and the recovery sheet only.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest([b"chart-relay/key-id/1".as_slice(), &self.0].concat());
        KeyId(digest[..4].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// HKDF-SHA-256 (RFC 5869) without salt: the clinic key is uniformly random.
    pub fn derive(&self, purpose: Purpose) -> DerivedKey {
        let mut bytes = [0; 32];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.info(), &mut bytes)
            .expect("32 bytes are within HKDF's 255 blocks");
        DerivedKey(bytes)
    }
}

/// The version of [`Value`]'s canonical form. A hash of another version says nothing about today's values.
pub const CANONICAL_FORM: u16 = 1;

/// A value's keyed hash: HMAC-SHA-256 cut to 128 bits over (form version, record, field, canonical value). Equal values of
/// different records or fields do not look equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldHash([u8; 16]);

impl fmt::Debug for FieldHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode(self.0))
    }
}

impl Serialize for FieldHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for FieldHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(FieldHash)
            .ok_or_else(|| serde::de::Error::custom("expected 16 bytes in base64"))
    }
}

/// Makes the hashes of one clinic key.
#[derive(Debug, Clone)]
pub struct Hasher {
    key: DerivedKey,
    id: KeyId,
}

impl Hasher {
    pub fn new(key: &ClinicKey) -> Self {
        Self { key: key.derive(Purpose::Hashes), id: key.id() }
    }

    pub fn key_id(&self) -> &KeyId {
        &self.id
    }

    pub fn hash(&self, record: &RecordKey, field: &str, value: &Value) -> FieldHash {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.key.bytes()).expect("HMAC takes a key of any length");
        mac.update(&CANONICAL_FORM.to_be_bytes());
        // Each part behind its length, so that no two different inputs run together to the same bytes.
        for part in [record.to_string().as_str(), field, value.tag(), value.canonical().as_str()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        FieldHash(bytes)
    }
}

/// What records are called on a screen that others can see: five signs, the same for a record each time, which tell nothing
/// without the clinic key. Two records in 33 million share one, so they are for people; actions go by the record's key.
#[derive(Debug, Clone)]
pub struct Pseudonyms(DerivedKey);

/// Digits and letters that cannot be taken for each other (Crockford's base 32).
const SIGNS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Pseudonyms {
    pub fn new(key: &ClinicKey) -> Self {
        Self(key.derive(Purpose::Pseudonyms))
    }

    pub fn of(&self, record: &RecordKey) -> String {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.0.bytes()).expect("HMAC takes a key of any length");
        mac.update(record.to_string().as_bytes());
        let digest = mac.finalize().into_bytes();
        digest[..5].iter().map(|byte| char::from(SIGNS[usize::from(byte % 32)])).collect()
    }
}

/// Seals what must rest: XChaCha20-Poly1305 with a random nonce before the text. `about` is bound in, so that a sealed text
/// cannot be moved to another place.
#[derive(Clone)]
pub struct Seal {
    cipher: XChaCha20Poly1305,
    alike: DerivedKey,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed under another key, or altered")]
pub struct BrokenSeal;

const NONCE_BYTES: usize = 24;

impl Seal {
    pub fn new(key: &ClinicKey) -> Self {
        let cipher = XChaCha20Poly1305::new(key.derive(Purpose::Sealing).bytes().into());
        Self { cipher, alike: key.derive(Purpose::Alike) }
    }

    #[allow(clippy::disallowed_methods, reason = "a nonce must never come twice")]
    pub fn seal(&self, about: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        self.seal_by(nonce, about, plain)
    }

    /// The same text sealed is the same each time, so that whoever compares need not open it. That much of it shows.
    pub fn seal_alike(&self, about: &str, plain: &[u8]) -> Vec<u8> {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(self.alike.bytes()).expect("HMAC takes a key of any length");
        mac.update(&(about.len() as u64).to_be_bytes());
        mac.update(about.as_bytes());
        mac.update(plain);
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&mac.finalize().into_bytes()[..NONCE_BYTES]);
        self.seal_by(nonce, about, plain)
    }

    fn seal_by(&self, nonce: [u8; NONCE_BYTES], about: &str, plain: &[u8]) -> Vec<u8> {
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: about.as_bytes() })
            .expect("what we seal is far below the cipher's 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, about: &str, sealed: &[u8]) -> Result<Vec<u8>, BrokenSeal> {
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(BrokenSeal)?;
        self.cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: about.as_bytes() })
            .map_err(|_| BrokenSeal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClinicKey {
        ClinicKey::from_bytes([7; 32])
    }

    fn record(id: &str) -> RecordKey {
        RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap()
    }

    #[test]
    fn equal_values_of_different_records_or_fields_look_different() {
        let hasher = Hasher::new(&key());
        let value = Value::Text("Testpatient".into());
        let hash = hasher.hash(&record("1"), "LastName", &value);
        assert_eq!(hash, hasher.hash(&record("1"), "LastName", &value));
        assert_ne!(hash, hasher.hash(&record("2"), "LastName", &value));
        assert_ne!(hash, hasher.hash(&record("1"), "FirstName", &value));
        assert_ne!(hash, Hasher::new(&ClinicKey::from_bytes([8; 32])).hash(&record("1"), "LastName", &value));
        // "12" the text is not 12 the number.
        assert_ne!(
            hasher.hash(&record("1"), "F", &Value::Text("12".into())),
            hasher.hash(&record("1"), "F", &Value::Number("12".into()))
        );
    }

    #[test]
    fn a_seal_opens_only_whole_in_its_place_and_under_its_key() {
        let seal = Seal::new(&key());
        let sealed = seal.seal("letter/1", b"SYNTHETIC");
        assert_eq!(seal.open("letter/1", &sealed).as_deref(), Ok(b"SYNTHETIC".as_slice()));
        assert_eq!(seal.open("letter/2", &sealed), Err(BrokenSeal));
        assert_eq!(Seal::new(&ClinicKey::from_bytes([8; 32])).open("letter/1", &sealed), Err(BrokenSeal));
        let mut altered = sealed.clone();
        altered[30] ^= 1;
        assert_eq!(seal.open("letter/1", &altered), Err(BrokenSeal));
        assert_eq!(seal.open("letter/1", &sealed[..10]), Err(BrokenSeal));
        assert_ne!(sealed, seal.seal("letter/1", b"SYNTHETIC"));
    }

    #[test]
    fn what_is_sealed_alike_is_the_same_each_time_and_opens_as_the_rest() {
        let seal = Seal::new(&key());
        let sealed = seal.seal_alike("letter/1", b"SYNTHETIC");
        assert_eq!(sealed, Seal::new(&key()).seal_alike("letter/1", b"SYNTHETIC"));
        assert_eq!(seal.open("letter/1", &sealed).as_deref(), Ok(b"SYNTHETIC".as_slice()));
        let nonce = |about: &str, plain: &[u8]| seal.seal_alike(about, plain)[..NONCE_BYTES].to_vec();
        assert_ne!(nonce("letter/1", b"SYNTHETIC"), nonce("letter/2", b"SYNTHETIC"));
        assert_ne!(nonce("letter/1", b"SYNTHETIC"), nonce("letter/1", b"synthetic"));
        assert_ne!(nonce("a", b"bc"), nonce("ab", b"c"));
    }

    #[test]
    fn a_pseudonym_is_the_same_each_time_and_another_for_each_record_and_key() {
        let pseudonyms = Pseudonyms::new(&key());
        let all: std::collections::BTreeSet<_> = (0..500).map(|id| pseudonyms.of(&record(&id.to_string()))).collect();
        assert_eq!(all.len(), 500);
        assert!(all.iter().all(|tag| tag.len() == 5 && tag.bytes().all(|sign| SIGNS.contains(&sign))));
        assert_eq!(pseudonyms.of(&record("1")), Pseudonyms::new(&key()).of(&record("1")));
        assert_ne!(pseudonyms.of(&record("1")), Pseudonyms::new(&ClinicKey::from_bytes([8; 32])).of(&record("1")));
    }

    #[test]
    fn nothing_prints_a_key() {
        let printed = format!("{:?} {:?} {:?}", key(), key().derive(Purpose::Database), Hasher::new(&key()));
        let printed = format!("{printed} {:?}", Pseudonyms::new(&key()));
        assert!(!printed.contains("7, 7"), "{printed}");
    }
}
