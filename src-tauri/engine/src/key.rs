//! The names of things: firms, stations, resources and ledger records. Ids are types, so that one cannot be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not the id it claims to be. It never quotes the text: that may be anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct NotAnId {
    pub expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, NotAnId> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(NotAnId { expected: $expected }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;
            fn try_from(text: String) -> Result<Self, NotAnId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn slug(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

id!(
    /// One clinic (tenant).
    FirmId,
    "1 to 32 of a-z, 0-9 and -",
    slug
);
id!(
    /// One installed relay; survives restarts.
    StationId,
    "1 to 32 of a-z, 0-9 and -",
    slug
);
id!(
    /// One run of a station's process; a restart makes a new one.
    BootId,
    "1 to 32 of a-z, 0-9 and -",
    slug
);
id!(
    /// One API key, and the quota that goes with it.
    QuotaId,
    "1 to 32 of a-z, 0-9 and -",
    slug
);
id!(
    /// A FHIR resource type, such as `Patient`.
    ResourceType,
    "a FHIR resource type: a capital letter and then letters, 64 at most",
    |text| {
        (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b.is_ascii_alphabetic())
    }
);
id!(
    /// A FHIR logical id (R4 datatypes, `id`: `[A-Za-z0-9\-\.]{1,64}`).
    ResourceId,
    "a FHIR id: 1 to 64 of A-Z, a-z, 0-9, - and .",
    |text| {
        (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    }
);

id!(
    /// What the clinic's file calls one row, for good: its UUID field.
    RowUuid,
    "a row's UUID: 1 to 64 of A-Z, a-z, 0-9, - and .",
    |text| ResourceId::new(text).is_ok()
);

/// What a ledger record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One FHIR resource and its FileMaker row.
    Link,
    /// How far a poll has come.
    Cursor,
    /// That a table's key was seen to be unique, by trying.
    Proof,
    /// A FileMaker row without a FHIR id, on its way to become a link.
    Row,
    /// An encounter of an EHR that is being followed; wanted where it is looked at by itself, at its next check.
    Encounter,
    /// A photograph or note of an EHR; wanted while it waits to be read by models.
    Document,
    /// What stations make of one API key's quota.
    Quota,
    /// What a sign-in granted, sealed.
    Token,
    /// A firm as another station has configured it.
    Definition,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Link,
        Kind::Cursor,
        Kind::Proof,
        Kind::Row,
        Kind::Encounter,
        Kind::Document,
        Kind::Quota,
        Kind::Token,
        Kind::Definition,
    ];
    /// Those that are run when they are wanted; the others are taken by whoever they belong to.
    pub const RUN: [Kind; 2] = [Kind::Link, Kind::Row];

    pub fn is_run(self) -> bool {
        Self::RUN.contains(&self)
    }

    /// Whether records of this kind are ever listed; what a sign-in granted is not, though it is sealed.
    pub fn is_listed(self) -> bool {
        self != Kind::Token
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Link => "link",
            Kind::Cursor => "cursor",
            Kind::Proof => "proof",
            Kind::Row => "row",
            Kind::Encounter => "encounter",
            Kind::Document => "document",
            Kind::Quota => "quota",
            Kind::Token => "token",
            Kind::Definition => "definition",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The key of a ledger record. For a link, `resource` and `id` name the FHIR resource; for a row, the type it is mapped to and its
/// [`RowUuid`]; for a cursor, the polled type and the name of the poll; for a quota, `firm` is the quota's own name, since it is no
/// one firm's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    pub firm: FirmId,
    pub kind: Kind,
    pub resource: ResourceType,
    pub id: ResourceId,
}

impl RecordKey {
    pub fn link(firm: FirmId, resource: ResourceType, id: ResourceId) -> Self {
        Self { firm, kind: Kind::Link, resource, id }
    }

    pub fn row(firm: FirmId, resource: ResourceType, row: &RowUuid) -> Self {
        let id = ResourceId::new(row.as_str()).expect("a row's UUID is made of the same characters");
        Self { firm, kind: Kind::Row, resource, id }
    }

    /// The cursor of a named poll of one resource type.
    pub fn cursor(firm: FirmId, resource: ResourceType, poll: &'static str) -> Self {
        let id = ResourceId::new(poll).expect("polls are named in this crate, by plain words");
        Self { firm, kind: Kind::Cursor, resource, id }
    }

    /// The proof that the key of a resource type's table is unique.
    pub fn proof(firm: FirmId, resource: ResourceType) -> Self {
        let id = ResourceId::new("unique-key").expect("a plain word");
        Self { firm, kind: Kind::Proof, resource, id }
    }

    pub fn encounter(firm: FirmId, id: ResourceId) -> Self {
        Self { firm, kind: Kind::Encounter, resource: plain("Encounter"), id }
    }

    pub fn document(firm: FirmId, resource: ResourceType, id: ResourceId) -> Self {
        Self { firm, kind: Kind::Document, resource, id }
    }

    pub fn quota(quota: &QuotaId) -> Self {
        let firm = FirmId::new(quota.as_str()).expect("both are slugs");
        let id = ResourceId::new("budget").expect("a plain word");
        Self { firm, kind: Kind::Quota, resource: plain("Quota"), id }
    }

    /// What a firm's sign-in of this name granted.
    pub fn token(firm: FirmId, sign_in: &'static str) -> Self {
        let id = ResourceId::new(sign_in).expect("sign-ins are named in this program, by plain words");
        Self { firm, kind: Kind::Token, resource: plain("Token"), id }
    }

    pub fn definition(firm: FirmId) -> Self {
        let id = ResourceId::new("ehr").expect("a plain word");
        Self { firm, kind: Kind::Definition, resource: plain("Definition"), id }
    }

    /// The record that names all firms with a definition. It is no one firm's.
    pub fn directory() -> Self {
        let firm = FirmId::new("all-firms").expect("a slug");
        let id = ResourceId::new("directory").expect("a plain word");
        Self { firm, kind: Kind::Definition, resource: plain("Definition"), id }
    }

    /// `firm/kind/Type/id`, which parses back: no part can hold a slash.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let key = Self {
            firm: FirmId::new(parts.next()?).ok()?,
            kind: Kind::parse(parts.next()?)?,
            resource: ResourceType::new(parts.next()?).ok()?,
            id: ResourceId::new(parts.next()?).ok()?,
        };
        parts.next().is_none().then_some(key)
    }
}

fn plain(word: &str) -> ResourceType {
    ResourceType::new(word).expect("a plain word")
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.firm, self.kind.as_str(), self.resource, self.id)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
