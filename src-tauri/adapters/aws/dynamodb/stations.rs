//! Who takes part: each station under its own name, all with one clinic key. Two computers under one name would take each other's
//! leases for their own, and hashes of two keys never agree; so both are asked at the start.

use engine::{
    error::{Class, Code, Fault},
    key::StationId,
    keys::KeyId,
};

use super::{DynamoLedger, item::text, update::Change};

impl DynamoLedger {
    /// Enters this station on the list. `installation` tells two computers apart that have the same name.
    ///
    /// # Errors
    /// `StationTaken`: another computer has this name. `DatabaseKey`: the others work with another clinic key.
    pub async fn join(&self, station: &StationId, installation: &str, key: &KeyId) -> Result<(), Fault> {
        let once = |name: &str, value: &str| {
            Change::new(&format!("SET #{name} = :mine"))
                .condition(format!("attribute_not_exists(#{name}) OR #{name} = :mine"))
                .value(":mine", text(value))
        };
        let table = &self.tables.station;
        let same = self.update(table, [("name", text("clinic key"))], once("key", &key.to_string())).await?;
        if same.is_err() {
            return Err(Fault::new(Class::Stop, Code::DatabaseKey).on("the shared ledger"));
        }
        let name = text(format!("station {station}"));
        let ours = self.update(table, [("name", name)], once("installation", installation)).await?;
        if ours.is_err() {
            return Err(Fault::new(Class::Stop, Code::StationTaken).on(station.to_string()));
        }
        Ok(())
    }
}
