//! A clinic key on its way to a new station: sealed under a code that AWS never sees, in a place that only the code leads to.
//!
//! It can be taken once. Whoever hands it over raises its beat as long as the code is good, and the new station takes it only
//! while it sees the beat move: no clocks are compared, and one whose station died is worth nothing.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use engine::{error::Fault, key::StationId};
use jiff::Timestamp;

use super::{
    DynamoLedger,
    item::{self, Item, number, text},
    update::{Change, names},
};
use crate::adapters::aws::{errors, provision::EXPIRES};

/// Before the name of the place in the table's key.
const PAIRING: &str = "pairing ";
/// What is left of a pairing is tidied away after this; it decides nothing.
const TIDIED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pairing {
    /// The sealed key, and how often whoever hands it over gave a sign since.
    Open {
        sealed: Vec<u8>,
        beat: u64,
        from: String,
    },
    Used {
        by: String,
    },
    /// Its time was over, or whoever handed it over gave up.
    Ended,
}

fn key(place: &str) -> [(&'static str, AttributeValue); 1] {
    [("name", text(format!("{PAIRING}{place}")))]
}

fn pairing(item: &Item) -> Result<Pairing, Fault> {
    Ok(match item::string(item, "state")?.map(String::as_str) {
        Some("open") => Pairing::Open {
            sealed: item
                .get("sealed")
                .and_then(|sealed| sealed.as_b().ok())
                .map(|sealed| sealed.as_ref().to_vec())
                .ok_or_else(|| item::unreadable("sealed"))?,
            beat: item::count(item, "beat")?,
            from: item::string(item, "by")?.cloned().unwrap_or_default(),
        },
        Some("used") => Pairing::Used { by: item::string(item, "used_by")?.cloned().unwrap_or_default() },
        _ => Pairing::Ended,
    })
}

impl DynamoLedger {
    pub async fn offer(&self, place: &str, sealed: &[u8], by: &StationId, now: Timestamp) -> Result<(), Fault> {
        let tidied = now.saturating_add(TIDIED_AFTER).unwrap_or(now).as_second().unsigned_abs();
        let change = Change::new(&format!(
            "SET #state = :open, #sealed = :sealed, #by = :by, #{EXPIRES} = :tidied, #beat = if_not_exists(#beat, :zero)"
        ))
        // Sent twice it finds its own.
        .condition("attribute_not_exists(#state) OR #by = :by")
        .value(":open", text("open"))
        .value(":sealed", AttributeValue::B(Blob::new(sealed)))
        .value(":by", text(by))
        .value(":tidied", number(tidied))
        .value(":zero", number(0));
        let _ = self.update(&self.tables.station, key(place), change).await?;
        Ok(())
    }

    pub async fn pairing(&self, place: &str) -> Result<Option<Pairing>, Fault> {
        let table = &self.tables.station;
        let at = key(place).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let call = self.client.get_item().table_name(table).consistent_read(true).set_key(Some(at));
        let answer = call.send().await.map_err(|error| errors::of(&error, "dynamodb:GetItem", table))?;
        answer.item.as_ref().map(pairing).transpose()
    }

    /// The sign that the code is still good. Answers how the pairing is now.
    pub async fn keep_open(&self, place: &str) -> Result<Pairing, Fault> {
        self.turn(place, Change::new("ADD #beat :one").value(":one", number(1))).await
    }

    /// Takes it, which can be done once. True: it is ours.
    pub async fn use_up(&self, place: &str, by: &StationId) -> Result<bool, Fault> {
        let change = Change::new("SET #state = :used, #used_by = :by REMOVE #sealed");
        let change = change.value(":used", text("used")).value(":by", text(by));
        Ok(self.turn(place, change).await? == Pairing::Used { by: by.to_string() })
    }

    /// The code is worth nothing from now on, unless it was used already.
    pub async fn close(&self, place: &str) -> Result<Pairing, Fault> {
        self.turn(place, Change::new("SET #state = :ended REMOVE #sealed").value(":ended", text("ended"))).await
    }

    /// Changes an open pairing, and answers how it is then.
    async fn turn(&self, place: &str, change: Change) -> Result<Pairing, Fault> {
        let change = change.condition("#state = :is_open").value(":is_open", text("open"));
        match self.update(&self.tables.station, key(place), change).await? {
            Ok(now) | Err(Some(now)) => pairing(&now),
            // A service that does not hand the item back, or one that was tidied away.
            Err(None) => Ok(self.pairing(place).await?.unwrap_or(Pairing::Ended)),
        }
    }

    /// Closes what an earlier process of this station left open.
    pub async fn close_left(&self, by: &StationId) -> Result<(), Fault> {
        let (table, filter) = (&self.tables.station, "begins_with(#name, :pairing) AND #state = :open AND #by = :by");
        let mut after = None;
        loop {
            let call = self.client.scan().table_name(table).consistent_read(true).filter_expression(filter);
            let call = call.set_expression_attribute_names(Some(names(&[filter])));
            let call = call.expression_attribute_values(":pairing", text(PAIRING));
            let call = call.expression_attribute_values(":open", text("open"));
            let call = call.expression_attribute_values(":by", text(by)).set_exclusive_start_key(after);
            let page = call.send().await.map_err(|error| errors::of(&error, "dynamodb:Scan", table))?;
            for item in page.items() {
                if let Some(place) = item::string(item, "name")?.and_then(|name| name.strip_prefix(PAIRING)) {
                    self.close(place).await?;
                }
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The clinic key that the stations work with, where one has joined.
    pub async fn clinic_key(&self) -> Result<Option<String>, Fault> {
        let table = &self.tables.station;
        let call = self.client.get_item().table_name(table).consistent_read(true).key("name", text("clinic key"));
        let answer = call.send().await.map_err(|error| errors::of(&error, "dynamodb:GetItem", table))?;
        answer
            .item
            .as_ref()
            .map(|item| item::string(item, "key").map(|key| key.cloned()))
            .transpose()
            .map(Option::flatten)
    }
}
