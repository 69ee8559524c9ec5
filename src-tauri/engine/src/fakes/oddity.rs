//! What SQS and DynamoDB document and a caller must live with. A fake that is given [`Oddities`] is as odd as they are, whenever
//! those say so.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// At least once: a message that was just handed out is handed out again.
    HandedOutTwice,
    /// Deleting with the receipt of an earlier receive is answered as done, and nothing is deleted.
    StaleDelete,
    /// A message that was deleted comes once more, from a copy that did not hear of it.
    ComesAgain,
    /// One entry of a batch is refused, and is as it was.
    EntryFails,
    /// A batch was sent in part.
    SentInPart,
    /// A depth is approximate: it is that of a while ago.
    OldCount,
    /// The answer to a conditional update was lost, and the SDK's second try meets the row that the first one wrote.
    OwnRow,
    /// An index is behind its table.
    OldIndex,
    /// A lease that was never renewed is not in the index of those that are held.
    NotListed,
}

impl Oddity {
    pub const ALL: [Oddity; 9] = [
        Oddity::HandedOutTwice,
        Oddity::StaleDelete,
        Oddity::ComesAgain,
        Oddity::EntryFails,
        Oddity::SentInPart,
        Oddity::OldCount,
        Oddity::OwnRow,
        Oddity::OldIndex,
        Oddity::NotListed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Oddity::HandedOutTwice => "handed out twice",
            Oddity::StaleDelete => "stale receipt deleted",
            Oddity::ComesAgain => "deleted and back",
            Oddity::EntryFails => "entry of a batch fails",
            Oddity::SentInPart => "batch sent in part",
            Oddity::OldCount => "old count",
            Oddity::OwnRow => "retry meets its own row",
            Oddity::OldIndex => "index behind",
            Oddity::NotListed => "lease not listed",
        }
    }
}

pub trait Oddities: Send + Sync + fmt::Debug {
    /// Whether it happens here and now, where it could.
    fn happens(&self, oddity: Oddity) -> bool;
}
