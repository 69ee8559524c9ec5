use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::lock;
use crate::{error::Fault, ports::Notes};

/// Notes in memory; they outlive an engine, as files do.
#[derive(Debug, Default)]
pub struct MemoryNotes(Mutex<BTreeMap<String, String>>);

impl MemoryNotes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

#[async_trait]
impl Notes for MemoryNotes {
    async fn read(&self, name: &str) -> Result<Option<String>, Fault> {
        Ok(lock(&self.0).get(name).cloned())
    }

    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), Fault> {
        let mut notes = lock(&self.0);
        match text {
            Some(text) => notes.insert(name.to_owned(), text.to_owned()),
            None => notes.remove(name),
        };
        Ok(())
    }
}
