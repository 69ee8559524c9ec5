//! What the station remembers for itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use engine::{error::Fault, ports::Notes};

use super::{
    Database, fault, json,
    writer::{Operation, Store},
};

#[derive(Debug)]
pub(super) struct SqliteNotes(pub(super) Database);

#[async_trait]
impl Notes for SqliteNotes {
    async fn read(&self, name: &str) -> Result<Option<String>, Fault> {
        sqlx::query_scalar("SELECT text FROM note WHERE name = ?1")
            .bind(name)
            .fetch_optional(&self.0.0.readers)
            .await
            .map_err(|error| fault::of(&error))
    }

    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), Fault> {
        self.0.0.writer.call(Write { name: name.to_owned(), text: text.map(str::to_owned) }).await
    }
}

pub(super) struct Write {
    name: String,
    text: Option<String>,
}

impl Operation for Write {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        // Of several about one name, the last one asked for stays.
        let last: BTreeMap<&str, Option<&str>> =
            batch.iter().map(|write| (write.name.as_str(), write.text.as_deref())).collect();
        let names: Vec<_> = last.keys().collect();
        sqlx::query("DELETE FROM note WHERE name IN (SELECT value FROM json_each(?1))")
            .bind(json(&names))
            .execute(&mut store.connection)
            .await?;
        let texts: Vec<_> = last.iter().filter_map(|(name, text)| text.map(|text| (name, text))).collect();
        sqlx::query("INSERT INTO note (name, text) SELECT value ->> 0, value ->> 1 FROM json_each(?1)")
            .bind(json(&texts))
            .execute(&mut store.connection)
            .await?;
        Ok(vec![(); batch.len()])
    }
}
