//! Which part of which FHIR resource goes into which FileMaker field, declared and not programmed.
//!
//! A mapping is read from the configuration; [`ResourceMapping::extract`] turns one resource into the values that its row
//! should have, in canonical form.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::{
    key::{ResourceId, ResourceType},
    row::{FieldType, Table, Value},
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
}

impl ResourceMapping {
    pub fn extract(&self, _resource: &Json, _zone: &TimeZone) -> Extracted {
        Extracted { fields: BTreeMap::new(), parent: None }
    }
}
