use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use super::lock;
use crate::{
    audit::{AuditId, Begun, Entry, Found, Outcome, Search},
    error::{Class, Code, Fault},
    ports::AuditLog,
};

/// An audit log in memory.
#[derive(Debug, Default)]
pub struct MemoryAudit(Mutex<Vec<Entry>>);

impl MemoryAudit {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl AuditLog for MemoryAudit {
    async fn begin(&self, begun: Begun) -> Result<AuditId, Fault> {
        let mut entries = lock(&self.0);
        let id = AuditId(entries.len() as u64 + 1);
        entries.push(Entry { id, begun, outcome: None, resolved: None });
        Ok(id)
    }

    async fn complete(&self, id: AuditId, outcome: Outcome, now: Timestamp) -> Result<(), Fault> {
        let mut entries = lock(&self.0);
        let entry = entries.iter_mut().find(|entry| entry.id == id && entry.outcome.is_none());
        let entry = entry.ok_or_else(|| Fault::new(Class::Permanent, Code::Unexpected))?;
        entry.outcome = Some(outcome);
        entry.resolved = Some(now);
        Ok(())
    }

    async fn open(&self) -> Result<Vec<Entry>, Fault> {
        Ok(lock(&self.0).iter().filter(|entry| entry.outcome.is_none()).cloned().collect())
    }

    async fn search(&self, search: &Search) -> Result<Found, Fault> {
        let log = lock(&self.0);
        let older = log.iter().rev().filter(|entry| search.before.is_none_or(|before| entry.id < before));
        let mut fitting = older.filter(|entry| search.fits(entry)).cloned();
        let entries: Vec<_> = fitting.by_ref().take(search.limit).collect();
        let next = fitting.next().and(entries.last()).map(|last| last.id);
        Ok(Found { entries, next })
    }
}
