//! Defects in front of the chart system and of the clinic's database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType, RowUuid},
    ports::{
        Changes, ClinicDatabase, Created, FhirServer, Identifier, Matching, PageToken, Read, Resource, RowChanges,
    },
    row::{Fields, ModId, Row, RowId, Table},
};
use jiff::{Timestamp, civil::DateTime};
use serde_json::Value as Json;

use super::Defect;

pub(super) type Cache = Mutex<BTreeMap<(ResourceType, ResourceId), (u32, Read)>>;

#[derive(Debug)]
pub(super) struct BrokenFhir(pub(super) Defect, pub(super) Arc<dyn FhirServer>, pub(super) Cache);

#[async_trait]
impl FhirServer for BrokenFhir {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        let read = self.1.read(resource, id).await?;
        match self.0 {
            Defect::GoneIsAnError if read == Read::Gone => Err(Fault::new(Class::Retry, Code::Gone)),
            Defect::StaleReads => {
                // Every third read is answered from what the first of the three saw.
                let mut cache = self.2.lock().unwrap();
                let kept = cache.entry((resource.clone(), id.clone())).or_insert_with(|| (0, read.clone()));
                kept.0 += 1;
                match kept.0 % 3 {
                    0 => Ok(kept.1.clone()),
                    1 => {
                        kept.1 = read.clone();
                        Ok(read)
                    }
                    _ => Ok(read),
                }
            }
            _ => Ok(read),
        }
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.1.changes(resource, since, page).await
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        self.1.update(resource, id, expected, json).await
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        self.1.create(resource, json, identifier).await
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.1.matching(resource, by).await
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.1.probe().await
    }

    fn write_horizon(&self) -> Duration {
        self.1.write_horizon()
    }
}

#[derive(Debug)]
pub(super) struct BrokenClinic(pub(super) Defect, pub(super) Arc<dyn ClinicDatabase>);

impl BrokenClinic {
    fn refused<T>(&self, written: Result<T, Fault>) -> Result<T, Fault> {
        match written {
            Err(fault) if self.0 == Defect::UnknownIsRefused && fault.class == Class::Unknown => {
                Err(Fault::new(Class::Retry, fault.code))
            }
            // What the server refuses for good is tried again.
            Err(fault) if self.0 == Defect::NothingIsPermanent && fault.class == Class::Permanent => {
                Err(Fault::new(Class::Retry, fault.code))
            }
            other => other,
        }
    }
}

#[async_trait]
impl ClinicDatabase for BrokenClinic {
    async fn find(&self, table: &Table, key: &str) -> Result<Option<Row>, Fault> {
        let row = self.1.find(table, key).await;
        if self.0 == Defect::AlwaysCreates {
            return row.map(|_| None).or(Ok(None));
        }
        self.refused(row)
    }

    async fn find_row(&self, table: &Table, uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.1.find_row(table, uuid).await
    }

    async fn changed(
        &self,
        table: &Table,
        since: Option<DateTime>,
        page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.1.changed(table, since, page).await
    }

    async fn adopt(&self, table: &Table, row: &RowId, expected: &ModId, key: &str) -> Result<ModId, Fault> {
        self.refused(self.1.adopt(table, row, expected, key).await)
    }

    async fn alike(&self, table: &Table, fields: &Fields) -> Result<Vec<Row>, Fault> {
        self.1.alike(table, fields).await
    }

    async fn create(&self, table: &Table, key: &str, fields: &Fields) -> Result<(RowId, ModId), Fault> {
        let mut created = self.1.create(table, key, fields).await;
        for _ in 0..3 {
            if self.0 == Defect::BlindRetry && created.as_ref().is_err_and(|fault| fault.class == Class::Unknown) {
                created = self.1.create(table, key, fields).await;
            }
        }
        self.refused(created)
    }

    async fn edit(&self, table: &Table, row: &RowId, expected: &ModId, fields: &Fields) -> Result<ModId, Fault> {
        self.refused(self.1.edit(table, row, expected, fields).await)
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.1.probe().await
    }

    fn write_horizon(&self) -> Duration {
        self.1.write_horizon()
    }
}
