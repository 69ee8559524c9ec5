//! The recovery sheet: the clinic key as text that a person can print, keep in a safe and type in again. Four lines of 8 bytes of
//! the key, each with 2 bytes of check of its own, so that a typing error is found and its line named; and the key's id, which
//! is wrong if the lines are of two sheets.
//!
//! The letters are Crockford's base32 (no I, L, O, U; <https://www.crockford.com/base32.html>): read back in any case, with O
//! for 0 and I or L for 1.

use std::fmt::Write as _;

use engine::keys::ClinicKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secrets::Secret;

const VERSION: u32 = 1;
const LINES: usize = 4;
const KEY_BYTES: usize = 8;
const CHECK_BYTES: usize = 2;
/// Each letter carries 5 bits, so that 10 bytes fill 16 letters.
const LETTERS: usize = 16;
pub(crate) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What is wrong with a sheet as it was typed. Never holds what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    #[error("line {0} has a typing error: its check does not fit")]
    Check(usize),
    #[error("line {0} must have 16 letters and digits in four groups")]
    Length(usize),
    #[error("line {0} has a character that no sheet has (sheets use digits and capital letters without I, L, O and U)")]
    Letter(usize),
    #[error("line {0} is missing")]
    Missing(usize),
    #[error("line {0} is there twice")]
    Twice(usize),
    #[error("the key id is missing (eight digits and letters a to f, behind \"Key id:\")")]
    NoKeyId,
    #[error(
        "each line is right, but together they are not the key of this id: the id has a typing error, or a line is of another sheet"
    )]
    KeyId,
    #[error("this sheet is of version {0}; this program reads version {VERSION}: use a newer program")]
    Version(u32),
}

/// The sheet, to be shown once.
pub fn print(key: &ClinicKey) -> Secret {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("CHART RELAY  RECOVERY SHEET");
    line(&format!("Version: {VERSION}"));
    line(&format!("Key id:  {}", key.id()));
    line("");
    for (index, part) in key.expose().chunks_exact(KEY_BYTES).enumerate() {
        let letters = Zeroizing::new(encode(index + 1, part));
        let mut groups = Zeroizing::new(format!("  {} ", index + 1));
        for group in letters.as_bytes().chunks_exact(4) {
            let _ = write!(groups, " {}", String::from_utf8_lossy(group));
        }
        line(&groups);
    }
    line("");
    line("Clinic: ____________________________   Printed on: ______________   By: ______________");
    line("");
    line("Whoever holds this sheet can read everything that this clinic's relays have sealed. Keep it on");
    line("paper, in a safe, and nowhere else. Without it, a lost keychain means a lost database.");
    line("To restore: chart-relay key restore");
    Secret::new(text.as_str())
}

/// How many numbered lines a sheet has, from 1.
pub const fn lines() -> std::ops::RangeInclusive<usize> {
    1..=LINES
}

/// Whether one line is right by itself, so that it can be asked for again at once. With or without its number in front.
pub fn check_line(number: usize, line: &str) -> Result<(), SheetError> {
    let letters = match numbered(line.trim()) {
        Some((given, letters)) if given == number => letters,
        _ => line,
    };
    decode(number, letters).map(drop)
}

/// Reads a sheet back: the whole text, or only its key id and its four numbered lines, in any order.
pub fn read(text: &str) -> Result<ClinicKey, SheetError> {
    let mut parts: [Option<Zeroizing<[u8; KEY_BYTES]>>; LINES] = Default::default();
    let mut id = None;
    for line in text.lines().map(str::trim) {
        if let Some(version) = after(line, "version") {
            match version.parse() {
                Ok(VERSION) | Err(_) => {}
                Ok(other) => return Err(SheetError::Version(other)),
            }
        } else if let Some(text) = after(line, "key id") {
            id = Some(text.to_ascii_lowercase().replace('o', "0"));
        } else if let Some((number, letters)) = numbered(line) {
            let part = parts.get_mut(number - 1).ok_or(SheetError::Length(number))?;
            if part.is_some() {
                return Err(SheetError::Twice(number));
            }
            *part = Some(decode(number, letters)?);
        }
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES * LINES]);
    for (index, (target, part)) in bytes.chunks_exact_mut(KEY_BYTES).zip(&parts).enumerate() {
        target.copy_from_slice(part.as_ref().ok_or(SheetError::Missing(index + 1))?.as_slice());
    }
    let key = ClinicKey::from_bytes(*bytes);
    match id {
        None => Err(SheetError::NoKeyId),
        Some(id) if id == key.id().to_string() => Ok(key),
        Some(_) => Err(SheetError::KeyId),
    }
}

fn after<'a>(line: &'a str, title: &str) -> Option<&'a str> {
    let (name, value) = line.split_once(':')?;
    name.trim().eq_ignore_ascii_case(title).then(|| value.trim())
}

/// "2  ABCD EFGH JKMN PQRS" -> (2, letters). A line's number is one digit before a space, a full stop, a colon or a bracket.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let number = line.chars().next()?.to_digit(10)?;
    let rest = line.get(1..)?;
    let known = (1..=LINES).contains(&(number as usize));
    (known && rest.starts_with([' ', '\t', '.', ':', ')'])).then(|| (number as usize, &rest[1..]))
}

fn check(line: usize, part: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new()
        .chain_update(b"chart-relay/recovery-sheet/1")
        .chain_update((line as u64).to_be_bytes())
        .chain_update(part)
        .finalize();
    [digest[0], digest[1]]
}

fn encode(line: usize, part: &[u8]) -> String {
    let bits = part.iter().chain(&check(line, part)).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    (0..LETTERS).rev().map(|place| char::from(ALPHABET[(bits >> (5 * place)) as usize & 31])).collect()
}

fn decode(line: usize, letters: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, SheetError> {
    let mut bits = Zeroizing::new(0u128);
    let mut count = 0;
    for letter in letters.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
        let letter = match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let value = ALPHABET.iter().position(|known| char::from(*known) == letter).ok_or(SheetError::Letter(line))?;
        count += 1;
        if count > LETTERS {
            return Err(SheetError::Length(line));
        }
        *bits = *bits << 5 | value as u128;
    }
    if count != LETTERS {
        return Err(SheetError::Length(line));
    }
    let bytes = Zeroizing::new(bits.to_be_bytes());
    let (part, given) = bytes[16 - KEY_BYTES - CHECK_BYTES..].split_at(KEY_BYTES);
    if given != check(line, part) {
        return Err(SheetError::Check(line));
    }
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    out.copy_from_slice(part);
    Ok(out)
}
