//! An EHR that announces nothing, what its API key allows, and what a sign-in to it grants.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::PageToken;
use crate::{
    error::Fault,
    key::{FirmId, ResourceId, ResourceType},
    server_clock::Heard,
    settings::EhrFirm,
};

/// What an EHR's own search allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// What one search for documents can cover.
    pub reach: Reach,
    /// In which types documents come.
    pub documents: Vec<ResourceType>,
    /// `_lastUpdated` compares days only: every look reads all that changed since the day of `since` began.
    pub by_day: bool,
    /// Rows of a page.
    pub encounters_page: u32,
    pub documents_page: u32,
    /// The end of a list is a page without rows.
    pub trailing_page: bool,
    /// A search may show an older version than a read: what it lists is read by id before it is believed.
    pub read_after: bool,
}

/// What one search for documents can cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Everything of the firm since a time.
    Firm,
    /// Some encounters, so many at most.
    Encounters(u32),
    /// One patient.
    Patient,
}

/// FHIR's `Encounter.status`, as far as it matters (R4, encounter-definitions.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncounterStatus {
    Planned,
    /// Arrived or triaged.
    Arrived,
    /// In progress or on leave.
    InProgress,
    Finished,
    Cancelled,
    EnteredInError,
    Unknown,
}

/// An encounter as a list has it: ids and times, nothing about anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encounter {
    pub id: ResourceId,
    pub version: String,
    pub last_updated: Timestamp,
    pub status: EncounterStatus,
    pub patient: Option<ResourceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentStatus {
    Current,
    Superseded,
    EnteredInError,
}

/// A code of a category, `system` empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coding {
    pub system: String,
    pub code: String,
}

/// A category that a firm may choose, with what the server calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Category {
    pub coding: Coding,
    pub display: Option<String>,
}

/// A document as a list has it: ids, codes and times, and nothing of what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub resource: ResourceType,
    pub id: ResourceId,
    pub version: String,
    /// None where the list does not say.
    pub last_updated: Option<Timestamp>,
    pub status: DocumentStatus,
    /// Of `category`, `type` and (Media) `modality`.
    pub categories: Vec<Coding>,
    /// The attachment's MIME type, where the list says it.
    pub content_type: Option<String>,
    pub encounters: Vec<ResourceId>,
    pub patient: Option<ResourceId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encounters {
    pub rows: Vec<Encounter>,
    /// Rows that have no usable id, type or time.
    pub unusable: u64,
    /// Rows that were stamped later than the server's own clock: their time is that clock's here.
    pub ahead: u64,
    pub next: Option<PageToken>,
    /// The server's own clock when it answered.
    pub server_time: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    pub rows: Vec<Document>,
    pub unusable: u64,
    pub ahead: u64,
    pub next: Option<PageToken>,
    pub server_time: Option<Timestamp>,
}

/// Which documents are asked for. Only that which [`Manners::reach`] allows is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Of the firm, changed at or after this time (all, if `None`).
    Since(Option<Timestamp>),
    OfEncounters(Vec<ResourceId>),
    OfPatient(ResourceId),
}

/// An EHR that announces nothing. Each call is one page and so one request (beside a sign-in, or the same once more with a fresh token),
/// and asks the [`Budget`] before it is sent.
#[async_trait]
pub trait Ehr: Send + Sync + fmt::Debug {
    fn manners(&self) -> Manners;
    /// One page of the encounters that changed at or after `since` (all, if `None`). Where [`Manners::by_day`] holds, also of those
    /// that changed earlier on that day.
    async fn encounters(
        &self,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Encounters, Fault>;
    async fn documents(
        &self,
        resource: &ResourceType,
        wish: &Wish,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Documents, Fault>;
    /// The document as it is now; none where it is gone or not there.
    async fn document(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        purpose: Purpose,
    ) -> Result<Option<Document>, Fault>;
    /// The categories that the server offers for documents; none where it does not tell.
    async fn categories(&self, purpose: Purpose) -> Result<Vec<Category>, Fault>;
    /// The cheapest call that proves the connection and the sign-in.
    async fn probe(&self) -> Result<(), Fault>;
    fn server_clock(&self) -> Option<Heard> {
        None
    }
    /// Why this station cannot serve the firm at all, known from the start: its secret is not here, say.
    fn unavailable(&self) -> Option<Fault> {
        None
    }
}

/// Makes clients of firms that other stations have configured.
#[async_trait]
pub trait EhrFactory: Send + Sync + fmt::Debug {
    /// `definition` is what a station wrote about a firm. Nothing is sent yet.
    ///
    /// # Errors
    /// It cannot be read. Where the firm's secret is not here, its client says so ([`Ehr::unavailable`]).
    async fn connect(&self, firm: &FirmId, definition: &str) -> Result<EhrFirm, Fault>;
}

/// What a request is for, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A person waits for it: Sync now, the check-up.
    Person,
    /// A read or write of a run, a sign-in, a probe.
    Work,
    Poll,
    Sweep,
}

/// What an answer said of the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Nothing,
    /// So many requests are left until it is filled again, so long from now.
    Left {
        requests: u64,
        reset: Duration,
    },
    /// 429, with the time to wait where the server names one, and its clock where it told.
    Refused {
        after: Option<Duration>,
        server_time: Option<Timestamp>,
    },
}

/// The right to send requests under one API key, for one firm.
#[async_trait]
pub trait Budget: Send + Sync + fmt::Debug {
    /// Waits until one more request may be sent; it counts from then on, whatever becomes of it.
    ///
    /// # Errors
    /// `Wait` / `Throttled` where the server asks for a silence that is longer than anybody should wait in place.
    async fn permit(&self, purpose: Purpose) -> Result<(), Fault>;
    fn answered(&self, said: Said);
}

/// Where nothing limits the requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

#[async_trait]
impl Budget for Unlimited {
    async fn permit(&self, _purpose: Purpose) -> Result<(), Fault> {
        Ok(())
    }

    fn answered(&self, _said: Said) {}
}

/// What a sign-in granted. Secret: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    pub access: Zeroizing<String>,
    /// The refresh token that is valid from now on, where there is one.
    pub refresh: Option<Zeroizing<String>>,
    /// From the moment it was asked for.
    pub life: Duration,
}

/// A grant as the stations share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Rises with each.
    pub number: u64,
    pub granted: Granted,
    /// When it was asked for, by the clock of the station that did.
    pub at: Timestamp,
}

/// A sign-in: gets the grant that is there, if any, and makes a new one.
pub type SignIn<'a> = Box<dyn FnOnce(Option<Grant>) -> BoxFuture<'a, Result<Granted, Fault>> + Send + 'a>;

/// Where grants are kept for all stations, so that only one of them signs in, and a refresh token that changes with each use is not
/// lost.
#[async_trait]
pub trait Vault: Send + Sync + fmt::Debug {
    async fn read(&self) -> Result<Option<Grant>, Fault>;
    /// The grant after `than` (any, if `None`): somebody else's, or made by `sign_in` while nobody else signs in. On disk before it
    /// is answered. Not to be dropped on its way: what was granted meanwhile would be lost.
    async fn renew<'a>(&self, than: Option<u64>, sign_in: SignIn<'a>) -> Result<Grant, Fault>;
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("life", &self.life).finish_non_exhaustive()
    }
}
