//! The one-time code by which a station hands the clinic key to a new one, and what is sealed under it.
//!
//! Seven groups of four letters and digits. In each, three carry 15 random bits and the fourth is a check of the group and its
//! place, so that a typing error is found and its group named. 105 bits cannot be tried out; Argon2id makes of them the key of
//! the seal and the name of the place where the sealed key waits, so that neither tells anything about the code.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use engine::keys::ClinicKey;
use rand::RngCore;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{recovery_sheet::ALPHABET, secrets::Secret};

const GROUPS: usize = 7;
/// Letters of a group that carry something; one more is its check.
const LETTERS: usize = 3;
const NONCE_BYTES: usize = 24;
const PURPOSE: &[u8] = b"chart-relay/pairing/1";
/// As for the sealed file of secrets: 64 MiB and 3 passes (RFC 9106 section 4).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// The code itself: the values of its letters without the checks.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PairingCode([u8; GROUPS * LETTERS]);

impl std::fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairingCode(..)")
    }
}

/// What is wrong with a code as it was typed. Never holds what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("The code has 7 groups of 4 letters and digits. Type all of it, with or without the hyphens.")]
    Length,
    #[error("Group {0} of the code has a sign that no code has (digits and letters without U).")]
    Letter(usize),
    #[error("Group {0} of the code has a typing error. Look at it again.")]
    Check(usize),
}

/// The seal does not open: it was made under another code, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed under another code, or altered")]
pub struct BrokenSeal;

/// What the code opens.
pub struct Lock {
    /// The name of the place where the sealed key waits.
    pub place: String,
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock(..)")
    }
}

impl PairingCode {
    #[allow(clippy::disallowed_methods, reason = "a code that could be made again from a seed would be none")]
    pub fn make() -> Self {
        let mut letters = [0; GROUPS * LETTERS];
        rand::rng().fill_bytes(&mut letters);
        // 256 is a multiple of 32: each letter is as likely as any other.
        letters.iter_mut().for_each(|letter| *letter %= 32);
        Self(letters)
    }

    /// To be shown once: `ABCD-EFGH-...`
    pub fn text(&self) -> Secret {
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (LETTERS + 2)));
        for (group, letters) in self.0.chunks_exact(LETTERS).enumerate() {
            if group > 0 {
                text.push('-');
            }
            let all = letters.iter().copied().chain([check(group, letters)]);
            text.extend(all.map(|value| char::from(ALPHABET[usize::from(value)])));
        }
        Secret::new(text.as_str())
    }

    /// Reads what was typed: in any case, with O for 0 and I or L for 1, with hyphens, spaces or neither.
    ///
    /// # Errors
    /// The first group that is wrong.
    pub fn read(text: &str) -> Result<Self, CodeError> {
        let mut values = Zeroizing::new(Vec::with_capacity(GROUPS * (LETTERS + 1)));
        for letter in text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let group = values.len() / (LETTERS + 1) + 1;
            if group > GROUPS {
                return Err(CodeError::Length);
            }
            let value =
                ALPHABET.iter().position(|known| char::from(*known) == letter).ok_or(CodeError::Letter(group))?;
            values.push(value as u8);
        }
        if values.len() != GROUPS * (LETTERS + 1) {
            return Err(CodeError::Length);
        }
        let mut code = Self([0; GROUPS * LETTERS]);
        for (group, (target, typed)) in
            code.0.chunks_exact_mut(LETTERS).zip(values.chunks_exact(LETTERS + 1)).enumerate()
        {
            let (letters, given) = typed.split_at(LETTERS);
            if given != [check(group, letters)] {
                return Err(CodeError::Check(group + 1));
            }
            target.copy_from_slice(letters);
        }
        Ok(code)
    }

    /// Takes some tenths of a second.
    pub fn lock(&self) -> Lock {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(48)).expect("a cost that RFC 9106 recommends");
        let mut made = Zeroizing::new([0; 48]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&self.0, PURPOSE, &mut *made)
            .expect("the code and the salt have lengths that Argon2 takes");
        let (key, place) = made.split_at(32);
        Lock {
            place: place.iter().map(|byte| format!("{byte:02x}")).collect(),
            cipher: XChaCha20Poly1305::new_from_slice(key).expect("32 bytes"),
        }
    }
}

impl Lock {
    #[allow(clippy::disallowed_methods, reason = "a nonce must never come twice")]
    pub fn seal(&self, key: &ClinicKey) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let plain = Payload { msg: key.expose(), aad: PURPOSE };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), plain).expect("32 bytes can be sealed");
        [nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, sealed: &[u8]) -> Result<ClinicKey, BrokenSeal> {
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(BrokenSeal)?;
        let plain = self.cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: PURPOSE });
        let plain = Zeroizing::new(plain.map_err(|_| BrokenSeal)?);
        Ok(ClinicKey::from_bytes(plain.as_slice().try_into().map_err(|_| BrokenSeal)?))
    }
}

fn check(group: usize, letters: &[u8]) -> u8 {
    let digest = Sha256::new()
        .chain_update(b"chart-relay/pairing-code/1")
        .chain_update((group as u64).to_be_bytes())
        .chain_update(letters)
        .finalize();
    digest[0] % 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        let code = PairingCode::make();
        let text = code.text();
        assert_eq!(text.reveal().len(), 34);
        for typed in [text.reveal().to_owned(), text.reveal().to_lowercase(), text.reveal().replace('-', "")] {
            let typed = typed.replace('0', "O").replace('1', "l");
            assert_eq!(PairingCode::read(&typed).unwrap().0, code.0);
        }
    }

    #[test]
    fn a_typing_error_is_found_in_its_group() {
        let text = PairingCode::make().text();
        let groups: Vec<&str> = text.reveal().split('-').collect();
        let mut found = 0;
        for place in 0..text.reveal().len() {
            let mut typed: Vec<char> = text.reveal().chars().collect();
            if typed[place] == '-' {
                continue;
            }
            typed[place] = if typed[place] == 'Z' { 'Y' } else { 'Z' };
            let typed: String = typed.into_iter().collect();
            match PairingCode::read(&typed) {
                Err(error) => {
                    assert_eq!(error, CodeError::Check(place / 5 + 1));
                    found += 1;
                }
                // One check in 32 fits by chance; the seal finds those.
                Ok(other) => assert_ne!(other.text().reveal(), text.reveal()),
            }
        }
        assert!(found >= 20, "{found} of 28 were found");
        assert_eq!(PairingCode::read(&groups[..6].join("-")).unwrap_err(), CodeError::Length);
        assert_eq!(PairingCode::read(&format!("{}A", text.reveal())).unwrap_err(), CodeError::Length);
        assert_eq!(PairingCode::read(&text.reveal().replacen(groups[2], "UUUU", 1)).unwrap_err(), CodeError::Letter(3));
    }

    #[test]
    fn only_its_code_opens_the_seal_and_finds_its_place() {
        let (code, key) = (PairingCode::make(), ClinicKey::from_bytes([7; 32]));
        let (lock, other) = (code.lock(), PairingCode::make().lock());
        let sealed = lock.seal(&key);
        assert_eq!(lock.open(&sealed).unwrap().id(), key.id());
        assert_eq!(PairingCode::read(code.text().reveal()).unwrap().lock().place, lock.place);
        assert_ne!(other.place, lock.place);
        assert_eq!(other.open(&sealed).unwrap_err(), BrokenSeal);
        assert!(!sealed.windows(4).any(|bytes| bytes == [7; 4]), "not in the clear");
        assert!(!format!("{code:?}{lock:?}").contains(code.text().reveal()));
    }
}
