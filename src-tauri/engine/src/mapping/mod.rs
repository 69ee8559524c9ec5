//! Which part of which FHIR resource goes into which FileMaker field, declared and not programmed.
//!
//! A mapping is read from the configuration; [`ResourceMapping::extract`] turns one resource into the values that its row
//! should have, in canonical form.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::{
    error::Code,
    key::{ResourceId, ResourceType},
    row::{FieldType, Row, Table, Value},
};

/// What an absent element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// Says nothing: the field is left as it is.
    #[default]
    Leave,
    /// The field is to be empty.
    Blank,
}

/// Which side's value wins where both have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    #[default]
    Fhir,
    FileMaker,
    Person,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub path: String,
    pub field: String,
    pub r#type: FieldType,
    pub absent: Absent,
    pub owner: Owner,
}

/// A resource type and its table.
#[derive(Debug, Clone)]
pub struct ResourceMapping {
    pub table: Table,
    pub rules: Vec<Rule>,
}

/// All mappings of a firm.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    pub resources: BTreeMap<ResourceType, ResourceMapping>,
}

/// What a resource says about its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// Every mapped field; `None` where the resource says nothing and the field is to be left.
    pub fields: BTreeMap<String, Option<Value>>,
    /// The resource that must be linked first.
    pub parent: Option<(ResourceType, ResourceId)>,
    /// Whether the mapping's filter lets this resource in.
    pub applies: bool,
    /// Fields that cannot be carried over as the mapping asks, and why; they are left as they are.
    pub refused: BTreeMap<String, Code>,
    /// A lasting remark about the resource as a whole.
    pub notice: Option<Code>,
}

impl ResourceMapping {
    pub fn extract(&self, _resource: &Json, _zone: &TimeZone) -> Extracted {
        Extracted { fields: BTreeMap::new(), parent: None, applies: true, refused: BTreeMap::new(), notice: None }
    }

    /// A row's values in the canonical form that the mapping compares in.
    pub fn canonical_row(&self, row: Row) -> Row {
        row
    }
}
