//! What a redrive would try again, as it is shown before it is done.

use engine::{error::Code, key::RecordKey};
use serde::{Deserialize, Serialize};

use super::{desk::RecordName, names::Context, words};
use crate::redrive::Plan;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Redrive {
    /// Records and messages.
    pub items: u64,
    /// The most frequent first.
    pub reasons: Vec<RedriveReason>,
    /// RFC 3339.
    pub oldest: Option<String>,
    /// The first few records.
    pub records: Vec<RecordName>,
    /// Messages that can be read again, and others that stay where they are.
    pub messages: u64,
    pub stay: u64,
    /// This role may not ask for so many at once.
    pub too_many: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RedriveReason {
    pub code: String,
    pub sentence: String,
    pub count: u64,
}

/// Records that are named.
pub const NAMED: usize = 5;

/// The reasons, the most frequent first.
pub fn reasons(plan: &Plan) -> Vec<(Code, u64)> {
    let mut reasons: Vec<_> = plan.reasons.iter().map(|(code, count)| (*code, *count)).collect();
    reasons.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    reasons
}

/// The records of a plan that are named.
pub fn named(plan: &Plan) -> impl Iterator<Item = &RecordKey> {
    plan.keys.iter().take(NAMED)
}

pub fn redrive(plan: &Plan, too_many: bool, context: &Context<'_>) -> Redrive {
    Redrive {
        items: plan.items() as u64,
        reasons: reasons(plan)
            .into_iter()
            .map(|(code, count)| RedriveReason {
                code: code.to_string(),
                sentence: words::sentence(code).to_owned(),
                count,
            })
            .collect(),
        oldest: plan.oldest.map(words::instant),
        records: named(plan).map(|key| context.record(key)).collect(),
        messages: plan.letters.len() as u64,
        stay: plan.stay,
        too_many,
    }
}
