//! The sides of a firm whose clients could not be made: a secret is missing, a certificate file cannot be read. Each call
//! answers with that fault, so that the firm shows as stopped, keeps what it is told as wanted, and stops no other firm.

use std::time::Duration;

use async_trait::async_trait;
use engine::{
    error::{Class, Fault},
    key::{ResourceId, ResourceType, RowUuid},
    ports::{
        Category, Changes, ClinicDatabase, Created, Document, Documents, Ehr, Encounters, FhirServer, Identifier,
        Manners, Matching, PageToken, Purpose, Reach, Read, Resource, RowChanges, Wish,
    },
    row::{Fields, ModId, Row, RowId, Table},
};
use jiff::{Timestamp, civil::DateTime};
use serde_json::Value as Json;

#[derive(Debug)]
pub struct Unavailable(Fault);

impl Unavailable {
    /// The fault as one of the connection, whatever it was before.
    pub fn new(fault: Fault) -> Self {
        Self(Fault { class: Class::Stop, ..fault })
    }

    fn answer<T>(&self) -> Result<T, Fault> {
        Err(self.0.clone())
    }
}

#[async_trait]
impl FhirServer for Unavailable {
    async fn read(&self, _resource: &ResourceType, _id: &ResourceId) -> Result<Read, Fault> {
        self.answer()
    }

    async fn changes(
        &self,
        _resource: &ResourceType,
        _since: Option<Timestamp>,
        _page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        self.answer()
    }

    async fn update(
        &self,
        _resource: &ResourceType,
        _id: &ResourceId,
        _expected: &str,
        _json: &Json,
    ) -> Result<String, Fault> {
        self.answer()
    }

    async fn create(&self, _resource: &ResourceType, _json: &Json, _identifier: &Identifier) -> Result<Created, Fault> {
        self.answer()
    }

    async fn matching(&self, _resource: &ResourceType, _by: &Matching) -> Result<Vec<Resource>, Fault> {
        self.answer()
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.answer()
    }

    /// Nothing was ever sent.
    fn write_horizon(&self) -> Duration {
        Duration::ZERO
    }

    fn unavailable(&self) -> Option<Fault> {
        Some(self.0.clone())
    }
}

#[async_trait]
impl ClinicDatabase for Unavailable {
    async fn find(&self, _table: &Table, _key: &str) -> Result<Option<Row>, Fault> {
        self.answer()
    }

    async fn find_row(&self, _table: &Table, _uuid: &RowUuid) -> Result<Option<Row>, Fault> {
        self.answer()
    }

    async fn changed(
        &self,
        _table: &Table,
        _since: Option<DateTime>,
        _page: Option<&PageToken>,
    ) -> Result<RowChanges, Fault> {
        self.answer()
    }

    async fn adopt(&self, _table: &Table, _row: &RowId, _expected: &ModId, _key: &str) -> Result<ModId, Fault> {
        self.answer()
    }

    async fn alike(&self, _table: &Table, _fields: &Fields) -> Result<Vec<Row>, Fault> {
        self.answer()
    }

    async fn create(&self, _table: &Table, _key: &str, _fields: &Fields) -> Result<(RowId, ModId), Fault> {
        self.answer()
    }

    async fn edit(&self, _table: &Table, _row: &RowId, _expected: &ModId, _fields: &Fields) -> Result<ModId, Fault> {
        self.answer()
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.answer()
    }

    /// Nothing was ever sent.
    fn write_horizon(&self) -> Duration {
        Duration::ZERO
    }
}

#[async_trait]
impl Ehr for Unavailable {
    fn manners(&self) -> Manners {
        Manners {
            reach: Reach::Firm,
            documents: Vec::new(),
            by_day: false,
            encounters_page: 1,
            documents_page: 1,
            trailing_page: false,
            read_after: false,
        }
    }

    async fn encounters(
        &self,
        _since: Option<Timestamp>,
        _page: Option<&PageToken>,
        _purpose: Purpose,
    ) -> Result<Encounters, Fault> {
        self.answer()
    }

    async fn documents(
        &self,
        _resource: &ResourceType,
        _wish: &Wish,
        _page: Option<&PageToken>,
        _purpose: Purpose,
    ) -> Result<Documents, Fault> {
        self.answer()
    }

    async fn document(
        &self,
        _resource: &ResourceType,
        _id: &ResourceId,
        _purpose: Purpose,
    ) -> Result<Option<Document>, Fault> {
        self.answer()
    }

    async fn categories(&self, _purpose: Purpose) -> Result<Vec<Category>, Fault> {
        self.answer()
    }

    async fn probe(&self) -> Result<(), Fault> {
        self.answer()
    }

    fn unavailable(&self) -> Option<Fault> {
        Some(self.0.clone())
    }
}
