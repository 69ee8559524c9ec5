//! What the ledger keeps of an encounter and of a document: ids, codes, versions and times.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::classify::{Class, Content};
use crate::{
    key::ResourceId,
    ports::{Coding, DocumentStatus, EncounterStatus},
};

/// Versions of a document that are remembered as handed on: a list may show an older one for a while.
const VERSIONS: usize = 8;

/// How far an encounter has come, for whoever looks for its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Life {
    /// It is going on.
    Active,
    /// It is not (yet, or any more), and documents may still come.
    After,
    Ended {
        why: Why,
        at: Timestamp,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Nothing about it has changed for as long as encounters are followed.
    Quiet,
    Cancelled,
    EnteredInError,
}

impl Life {
    /// What its status makes of it when it has just changed.
    pub fn of(status: EncounterStatus, now: Timestamp) -> Self {
        match status {
            EncounterStatus::Arrived | EncounterStatus::InProgress => Life::Active,
            EncounterStatus::Planned | EncounterStatus::Finished | EncounterStatus::Unknown => Life::After,
            EncounterStatus::Cancelled => Life::Ended { why: Why::Cancelled, at: now },
            EncounterStatus::EnteredInError => Life::Ended { why: Why::EnteredInError, at: now },
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, Life::Ended { .. })
    }
}

/// The state of `firm/encounter/Encounter/ID`. An encounter that is no longer followed keeps its record, and a new version of it opens
/// it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncounterWatch {
    pub version: String,
    /// When the EHR made this version.
    pub stamp: Timestamp,
    pub status: EncounterStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<ResourceId>,
    pub first_seen: Timestamp,
    /// When this version was found, by the EHR's clock. It is followed for so long from then.
    pub changed: Timestamp,
    pub life: Life,
    /// When the last complete look for its documents began, by the EHR's clock; only where each encounter is asked about by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// When a document of it was last found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Timestamp>,
}

impl EncounterWatch {
    /// None: the record is new, or of a form that nobody knows any more; what the EHR says makes it anew.
    pub fn parse(state: &str) -> Option<Self> {
        serde_json::from_str(state).ok()
    }

    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("ids, codes and times have a JSON form")
    }
}

/// A version of a document that was handed on, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    pub version: String,
    pub at: Timestamp,
}

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Fate {
    /// Handed on: it waits to be read by models.
    Waits,
    /// Of no encounter that is followed; looked at again until it has been so for some minutes.
    Loose,
    /// The same, for good, until a sweep finds its encounter. Listed.
    Unattached,
    /// Of no category that the firm has chosen. Listed.
    Unsorted,
    Ignored,
    /// Entered in error, replaced by another, or gone: whatever is made of it is withdrawn.
    Withdrawn {
        at: Timestamp,
    },
}

impl Fate {
    /// Whether a person finds it on the list of what nobody reads.
    pub fn is_listed(self) -> bool {
        matches!(self, Fate::Unattached | Fate::Unsorted)
    }
}

/// The state of `firm/document/DocumentReference|Media/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentWatch {
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Timestamp>,
    pub status: DocumentStatus,
    pub categories: Vec<Coding>,
    pub class: Class,
    pub content: Content,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encounters: Vec<ResourceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<ResourceId>,
    pub first_seen: Timestamp,
    pub fate: Fate,
    /// The newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed: Vec<Handed>,
}

impl DocumentWatch {
    pub fn parse(state: &str) -> Option<Self> {
        serde_json::from_str(state).ok()
    }

    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("ids, codes and times have a JSON form")
    }

    pub fn was_handed(&self, version: &str) -> bool {
        self.handed.iter().any(|handed| handed.version == version)
    }

    pub(super) fn hand(&mut self, at: Timestamp) {
        self.handed.push(Handed { version: self.version.clone(), at });
        let surplus = self.handed.len().saturating_sub(VERSIONS);
        self.handed.drain(..surplus);
    }
}
