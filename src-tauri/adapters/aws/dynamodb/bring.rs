//! Records that come from an embedded ledger.

use engine::{
    error::{Class, Code, Fault},
    ledger::Record,
};

use super::{
    DynamoLedger,
    item::{self, number, text},
    parts::LARGEST,
    update::Change,
};

impl DynamoLedger {
    /// Puts a record as it is, but for its lease, if there is none of its key. False if there is one: another station's, or our own,
    /// brought by a request whose answer was lost.
    pub async fn bring(&self, record: &Record) -> Result<bool, Fault> {
        if record.state.len() > LARGEST {
            return Err(Fault::new(Class::Permanent, Code::Rejected).on("the size of a record"));
        }
        let key = &record.key;
        self.list_firm(&key.firm).await?;
        // The epoch goes on: what was fenced off there stays fenced off here.
        let mut change = Change::new(
            "SET #state = :state, #updated = :updated, #generation = :generation, #attempts = :attempts,
                #epoch = :epoch, #beat = :beat",
        )
        .condition("attribute_not_exists(#firm)")
        .value(":state", text(&record.state))
        .value(":updated", item::time(record.updated))
        .value(":generation", number(record.generation))
        .value(":attempts", number(u64::from(record.attempts)))
        .value(":epoch", number(record.stamp.epoch))
        .value(":beat", number(record.stamp.beat))
        .wanted(&key.firm, record.wanted.as_ref())
        .notice(record.notice)
        .marked((record.dead.is_some() || record.notice.is_some()).then_some(&key.firm));
        if let Some(dead) = record.dead {
            change = change.dead(Some(dead.code), dead.since).value(":set_aside", item::yes(dead.set_aside));
        }
        let brought = self.change(key, change).await?.is_ok();
        if brought {
            self.created(key).await;
        }
        Ok(brought)
    }
}
