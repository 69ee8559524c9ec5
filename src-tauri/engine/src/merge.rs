//! The three-way merge of one field, on hashes alone and symmetrical: neither side is "ours" here. What each outcome leads to is
//! the reconciler's to decide.

use crate::keys::FieldHash;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Both sides say the same.
    Agreed,
    /// Only the left side changed since both last agreed.
    TakeLeft,
    /// Only the right side changed.
    TakeRight,
    /// Both changed, and differently; or they differ and nothing is known of when they last agreed.
    Conflict,
}

pub fn merge(left: FieldHash, right: FieldHash, base: Option<FieldHash>) -> Merge {
    if left == right {
        Merge::Agreed
    } else if base == Some(right) {
        Merge::TakeLeft
    } else if base == Some(left) {
        Merge::TakeRight
    } else {
        Merge::Conflict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::RecordKey,
        keys::{ClinicKey, Hasher},
        row::Value,
    };

    #[test]
    fn every_case_of_three_hashes_and_its_mirror_image() {
        let hasher = Hasher::new(&ClinicKey::from_bytes([1; 32]));
        let record = RecordKey::parse("north/link/Patient/1").unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|text| hasher.hash(&record, "Field", &Value::Text(text.into())));
        let cases = [
            (a, a, Some(a), Merge::Agreed),
            (b, b, Some(a), Merge::Agreed),
            (a, a, None, Merge::Agreed),
            (b, a, Some(a), Merge::TakeLeft),
            (b, c, Some(a), Merge::Conflict),
            (a, b, None, Merge::Conflict),
        ];
        for (left, right, base, expected) in cases {
            assert_eq!(merge(left, right, base), expected);
            let mirrored = match expected {
                Merge::TakeLeft => Merge::TakeRight,
                other => other,
            };
            assert_eq!(merge(right, left, base), mirrored);
        }
    }
}
