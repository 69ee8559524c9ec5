//! The three-way merge of one field, on hashes alone and symmetrical: neither side is "ours" here. Left is the chart, right the
//! clinic's row. What each outcome leads to is the plan's to decide ([`crate::reconcile`]).

use serde::{Deserialize, Serialize};

use crate::{connection::Side, keys::FieldHash};

/// What both sides said when they last agreed. Two hashes, since a server may keep what we wrote in a form of its own, and that
/// is nobody's edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Base {
    pub left: FieldHash,
    pub right: FieldHash,
}

impl Base {
    pub fn both(hash: FieldHash) -> Self {
        Self { left: hash, right: hash }
    }

    pub fn of(&self, side: Side) -> FieldHash {
        match side {
            Side::Fhir => self.left,
            Side::FileMaker => self.right,
        }
    }

    pub fn of_mut(&mut self, side: Side) -> &mut FieldHash {
        match side {
            Side::Fhir => &mut self.left,
            Side::FileMaker => &mut self.right,
        }
    }
}

/// One hash where both are the same, which is nearly always.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Both(FieldHash),
    Each(FieldHash, FieldHash),
}

impl From<Written> for Base {
    fn from(written: Written) -> Self {
        match written {
            Written::Both(hash) => Base::both(hash),
            Written::Each(left, right) => Base { left, right },
        }
    }
}

impl From<Base> for Written {
    fn from(base: Base) -> Self {
        if base.left == base.right { Written::Both(base.left) } else { Written::Each(base.left, base.right) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Both sides say the same.
    Agreed,
    /// They differ, as they did when they last agreed: one of them keeps the value in a form of its own.
    Reshaped,
    /// Only the left side changed since both last agreed.
    TakeLeft,
    /// Only the right side changed.
    TakeRight,
    /// Both changed, and differently; or they differ and nothing is known of when they last agreed.
    Conflict,
}

pub fn merge(left: FieldHash, right: FieldHash, base: Option<Base>) -> Merge {
    if left == right {
        return Merge::Agreed;
    }
    match base.map(|base| (left == base.left, right == base.right)) {
        Some((true, true)) => Merge::Reshaped,
        Some((false, true)) => Merge::TakeLeft,
        Some((true, false)) => Merge::TakeRight,
        Some((false, false)) | None => Merge::Conflict,
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

    fn hash(text: &str) -> FieldHash {
        let record = RecordKey::parse("north/link/Patient/1").unwrap();
        Hasher::new(&ClinicKey::from_bytes([1; 32])).hash(&record, "Field", &Value::Text(text.into()))
    }

    #[test]
    fn every_case_of_three_hashes_and_its_mirror_image() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(hash);
        let both = |hash| Some(Base::both(hash));
        let each = |left, right| Some(Base { left, right });
        let cases = [
            (a, a, both(a), Merge::Agreed),
            (b, b, both(a), Merge::Agreed),
            (a, a, None, Merge::Agreed),
            (b, a, both(a), Merge::TakeLeft),
            (b, c, both(a), Merge::Conflict),
            (a, b, None, Merge::Conflict),
            (a, b, each(a, b), Merge::Reshaped),
            (b, a, each(a, b), Merge::Conflict),
            (c, b, each(a, b), Merge::TakeLeft),
            (b, b, each(a, b), Merge::Agreed),
            (c, d, each(a, b), Merge::Conflict),
        ];
        for (left, right, base, expected) in cases {
            assert_eq!(merge(left, right, base), expected);
            let mirrored = match expected {
                Merge::TakeLeft => Merge::TakeRight,
                other => other,
            };
            let base = base.map(|base| Base { left: base.right, right: base.left });
            assert_eq!(merge(right, left, base), mirrored);
        }
    }

    #[test]
    fn a_base_of_one_hash_is_written_as_before() {
        let [a, b] = ["a", "b"].map(hash);
        let one = serde_json::to_string(&Base::both(a)).unwrap();
        assert_eq!(one, serde_json::to_string(&a).unwrap());
        for base in [Base::both(a), Base { left: a, right: b }] {
            let text = serde_json::to_string(&base).unwrap();
            assert_eq!(serde_json::from_str::<Base>(&text).unwrap(), base);
        }
    }
}
