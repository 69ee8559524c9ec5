//! Values that a policy overwrote: sealed, for thirty days, in the state of their link. What finds no room here is not overwritten; a
//! person decides instead.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use crate::{
    connection::Side,
    key::RecordKey,
    keys::{FieldHash, Seal},
    row::Value,
};

/// How long.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How many for one link.
pub const AT_MOST: usize = 40;
/// All of a link's together, sealed: a ledger's record has room for a few hundred thousand bytes.
pub const BYTES: usize = 120_000;

/// A value that was overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub field: String,
    /// The side that had it.
    pub side: Side,
    pub at: Timestamp,
    /// Tells a repetition of one overwriting from another one.
    hash: FieldHash,
    sealed: String,
}

impl Kept {
    pub fn new(
        key: &RecordKey,
        field: &str,
        side: Side,
        value: &Value,
        hash: FieldHash,
        seal: &Seal,
        at: Timestamp,
    ) -> Self {
        let plain = format!("{}\n{}", value.tag(), value.canonical());
        let sealed = STANDARD_NO_PAD.encode(seal.seal(&about(key, field), plain.as_bytes()));
        Self { field: field.to_owned(), side, at, hash, sealed }
    }

    /// The value; none if it was sealed under another key.
    pub fn open(&self, key: &RecordKey, seal: &Seal) -> Option<Value> {
        let sealed = STANDARD_NO_PAD.decode(&self.sealed).ok()?;
        let plain = String::from_utf8(seal.open(&about(key, &self.field), &sealed).ok()?).ok()?;
        let (tag, text) = plain.split_once('\n')?;
        Some(match tag {
            "blank" => Value::Blank,
            "number" => Value::Number(text.to_owned()),
            "date" => Value::Date(text.parse::<civil::Date>().ok()?),
            "date-time" => Value::DateTime(text.parse::<civil::DateTime>().ok()?),
            "flag" => Value::Flag(text == "1"),
            _ => Value::Text(text.to_owned()),
        })
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) > KEPT_FOR
    }

    fn is_repetition_of(&self, other: &Kept) -> bool {
        (&self.field, self.side, self.hash) == (&other.field, other.side, other.hash)
    }
}

fn about(key: &RecordKey, field: &str) -> String {
    format!("kept/{key}/{field}")
}

/// Adds one. The same value of the same field again takes the place of the earlier one.
pub fn add(all: &mut Vec<Kept>, one: Kept) {
    all.retain(|other| !one.is_repetition_of(other));
    all.push(one);
}

/// What room is left beside these.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    places: usize,
    bytes: usize,
}

impl Room {
    pub fn beside(all: &[Kept]) -> Self {
        let used: usize = all.iter().map(|kept| kept.sealed.len()).sum();
        Self { places: AT_MOST.saturating_sub(all.len()), bytes: BYTES.saturating_sub(used) }
    }

    /// Takes what this value needs; false, and nothing taken, where there is too little.
    pub fn take(&mut self, value: &Value) -> bool {
        // Nonce, tag and the type's name, in base64.
        let needs = (value.canonical().len() + 60) * 4 / 3 + 4;
        let fits = self.places > 0 && needs <= self.bytes;
        if fits {
            self.places -= 1;
            self.bytes -= needs;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{ClinicKey, Hasher};

    fn kept(value: &Value, at: &str) -> Kept {
        let key = RecordKey::parse("north/link/Patient/1").unwrap();
        let clinic = ClinicKey::from_bytes([1; 32]);
        let hash = Hasher::new(&clinic).hash(&key, "City", value);
        Kept::new(&key, "City", Side::FileMaker, value, hash, &Seal::new(&clinic), at.parse().unwrap())
    }

    #[test]
    fn a_kept_value_opens_as_what_it_was_in_its_place_alone() {
        let seal = Seal::new(&ClinicKey::from_bytes([1; 32]));
        let [key, other] = ["1", "2"].map(|id| RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap());
        for value in [
            Value::Blank,
            Value::Text("SYNTHETIC\nof two lines".into()),
            Value::Number("1.5".into()),
            Value::Date("2024-02-29".parse().unwrap()),
            Value::DateTime("2024-02-29T08:30:00".parse().unwrap()),
            Value::Flag(false),
        ] {
            let kept = kept(&value, "2026-03-02T08:00:00Z");
            assert_eq!(kept.open(&key, &seal), Some(value));
            assert_eq!(kept.open(&other, &seal), None);
            assert_eq!(kept.open(&key, &Seal::new(&ClinicKey::from_bytes([2; 32]))), None);
            assert!(!serde_json::to_string(&kept).unwrap().contains("SYNTHETIC"));
        }
    }

    #[test]
    fn thirty_days_and_a_bounded_room() {
        let one = kept(&Value::Text("SYNTHETIC".into()), "2026-03-02T08:00:00Z");
        assert!(!one.is_over("2026-04-01T08:00:00Z".parse().unwrap()));
        assert!(one.is_over("2026-04-01T08:00:01Z".parse().unwrap()));

        let mut all = Vec::new();
        add(&mut all, one.clone());
        add(&mut all, kept(&Value::Text("SYNTHETIC".into()), "2026-03-03T08:00:00Z"));
        assert_eq!(all.len(), 1, "a repetition");
        let mut room = Room::beside(&all);
        let long = Value::Text("x".repeat(50_000));
        assert!(room.take(&long), "one note");
        assert!(!room.take(&long), "and no second one");
        assert!(room.take(&Value::Blank));
        // What was taken is what is used.
        add(&mut all, kept(&long, "2026-03-02T08:00:00Z"));
        assert!(all.iter().map(|kept| kept.sealed.len()).sum::<usize>() <= BYTES);
        let full: Vec<_> = (0..AT_MOST).map(|_| one.clone()).collect();
        assert!(!Room::beside(&full).take(&Value::Blank));
    }
}
