//! Who takes part: each station under its own name, all with one clinic key. Two computers under one name would take each other's
//! leases for their own, and hashes of two keys never agree; so both are asked at the start, and the name at each beat.

use aws_sdk_dynamodb::types::AttributeValue;
use engine::{
    error::{Class, Code, Fault},
    key::{FirmId, StationId},
    keys::KeyId,
};
use jiff::Timestamp;

use super::{
    DynamoLedger,
    item::{self, Item, number, text},
    update::{Change, names},
};
use crate::adapters::aws::errors;

/// Before the name of a station in the table's key.
const STATION: &str = "station ";

/// A station as it stands on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub station: StationId,
    /// Tells two computers apart that have the same name.
    pub installation: String,
    /// Rises as long as it runs.
    pub beat: u64,
    /// It ended properly since its last beat.
    pub left: bool,
    pub version: Option<String>,
    /// When it last wrote this, by its own clock.
    pub at: Option<Timestamp>,
    /// How far its clock is ahead of those of the servers, in seconds, where it found that to be too much.
    pub clock_ahead: Option<i64>,
}

/// What a station says of itself at each beat.
#[derive(Debug, Clone, Copy)]
pub struct Life<'a> {
    pub version: &'a str,
    pub at: Timestamp,
    pub clock_ahead: Option<i64>,
    pub left: bool,
}

fn key(station: &StationId) -> [(&'static str, AttributeValue); 1] {
    [("name", text(format!("{STATION}{station}")))]
}

fn taken(station: &StationId) -> Fault {
    Fault::new(Class::Stop, Code::StationTaken).on(station.to_string())
}

impl DynamoLedger {
    /// Enters this station on the list. `installation` tells two computers apart that have the same name.
    ///
    /// # Errors
    /// `StationTaken`: another computer has this name. `DatabaseKey`: the others work with another clinic key.
    pub async fn join(&self, station: &StationId, installation: &str, clinic_key: &KeyId) -> Result<(), Fault> {
        let once = |name: &str, value: &str| {
            Change::new(&format!("SET #{name} = :mine"))
                .condition(format!("attribute_not_exists(#{name}) OR #{name} = :mine"))
                .value(":mine", text(value))
        };
        let table = &self.tables.station;
        let same = self.update(table, [("name", text("clinic key"))], once("key", &clinic_key.to_string())).await?;
        if same.is_err() {
            return Err(Fault::new(Class::Stop, Code::DatabaseKey).on("the shared ledger"));
        }
        let ours = self.update(table, key(station), once("installation", installation)).await?;
        ours.map(drop).map_err(|_| taken(station))
    }

    /// A sign of life. A station that was forgotten meanwhile is on the list again.
    ///
    /// # Errors
    /// `StationTaken`: this station was forgotten, and another computer has its name now.
    pub async fn beat(&self, station: &StationId, installation: &str, life: Life<'_>) -> Result<(), Fault> {
        let change = Change::new("SET #installation = :mine, #version = :version, #at = :at ADD #beat :one")
            .condition("attribute_not_exists(#installation) OR #installation = :mine")
            .value(":mine", text(installation))
            .value(":version", text(life.version))
            .value(":at", item::time(life.at))
            .value(":one", number(1))
            .set_or_remove("ahead", life.clock_ahead.map(|ahead| AttributeValue::N(ahead.to_string())))
            .set_or_remove("left", life.left.then(|| item::yes(true)));
        let beaten = self.update(&self.tables.station, key(station), change).await?;
        beaten.map(drop).map_err(|_| taken(station))
    }

    /// All that are on the list, by name.
    pub async fn stations(&self) -> Result<Vec<Entry>, Fault> {
        let (table, filter) = (&self.tables.station, "begins_with(#name, :station)");
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let call = self.client.scan().table_name(table).consistent_read(true).filter_expression(filter);
            let call = call.set_expression_attribute_names(Some(names(&[filter])));
            let call = call.expression_attribute_values(":station", text(STATION)).set_exclusive_start_key(after);
            let page = call.send().await.map_err(|error| errors::of(&error, "dynamodb:Scan", table))?;
            for item in page.items() {
                all.extend(entry(item)?);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        all.sort_by(|one, other| one.station.cmp(&other.station));
        Ok(all)
    }

    /// Frees a name, if its station has given no sign of life since it was seen so. False: it has, or is gone.
    pub async fn forget(&self, seen: &Entry) -> Result<bool, Fault> {
        let table = &self.tables.station;
        let condition = "#installation = :seen AND (#beat = :beat OR attribute_not_exists(#beat))";
        let call = self.client.delete_item().table_name(table);
        let at = key(&seen.station).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let call = call.set_key(Some(at)).condition_expression(condition);
        let call = call.set_expression_attribute_names(Some(names(&[condition])));
        let call = call.expression_attribute_values(":seen", text(&seen.installation));
        match call.expression_attribute_values(":beat", number(seen.beat)).send().await {
            Ok(_) => {
                // It serves nobody any more.
                self.withdraw(&seen.station, &[]).await?;
                Ok(true)
            }
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(errors::of(&error, "dynamodb:DeleteItem", table)),
        }
    }

    /// Says on the list of firms which of them this station serves, and which it serves no more. Answers with the firms that only
    /// others serve.
    pub async fn serve(&self, station: &StationId, firms: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        *super::lock(&self.station) = Some(station.clone());
        for firm in firms {
            let add = Change::new("ADD #stations :us").value(":us", AttributeValue::Ss(vec![station.to_string()]));
            let _ = self.update(&self.tables.firm, [("firm", text(firm))], add).await?;
        }
        self.withdraw(station, firms).await
    }

    /// Takes a station off the list at all firms but these. Answers with the others that are served.
    async fn withdraw(&self, station: &StationId, but: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        let mut elsewhere = Vec::new();
        for (firm, mut stations) in self.serving().await? {
            if but.contains(&firm) {
                continue;
            }
            if stations.contains(&station.to_string()) {
                let us = AttributeValue::Ss(vec![station.to_string()]);
                let change = Change::new("DELETE #stations :us").value(":us", us);
                let _ = self.update(&self.tables.firm, [("firm", text(&firm))], change).await?;
                stations.retain(|one| one != station.as_str());
            }
            if !stations.is_empty() {
                elsewhere.push(firm);
            }
        }
        Ok(elsewhere)
    }
}

/// None: an entry of a version that writes them otherwise, which is nobody's to judge.
fn entry(item: &Item) -> Result<Option<Entry>, Fault> {
    let name = item::string(item, "name")?.and_then(|name| StationId::new(name.strip_prefix(STATION)?).ok());
    let (Some(station), Some(installation)) = (name, item::string(item, "installation")?.cloned()) else {
        return Ok(None);
    };
    Ok(Some(Entry {
        station,
        installation,
        beat: item::count(item, "beat")?,
        left: item::is(item, "left"),
        version: item::string(item, "version")?.cloned(),
        at: item::moment(item, "at")?,
        clock_ahead: item::integer(item, "ahead")?,
    }))
}
