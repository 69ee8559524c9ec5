//! The firm's rule by which a row is known to be somebody in the chart: first by a business identifier, which the mapping has a
//! path with a fixed system for; else by what a person must look at.

use jiff::civil::Date;

use super::{Path, ResourceMapping, Selector};
use crate::{
    key::RowUuid,
    ports::Identifier,
    row::{Fields, Value},
};

/// The system of the identifier that a resource made of a row carries: by it a lost answer, or another station, finds what the first
/// one made.
pub const ROW_SYSTEM: &str = "urn:chart-relay:row";

/// The identifier of what is made of a row.
pub fn row_identifier(row: &RowUuid) -> Identifier {
    Identifier { system: ROW_SYSTEM.to_owned(), value: row.to_string() }
}

impl ResourceMapping {
    /// The business identifiers that a row names.
    pub fn identifiers(&self, fields: &Fields) -> Vec<Identifier> {
        let of = |rule: &super::Rule| {
            let Some(Value::Text(value) | Value::Number(value)) = fields.get(&rule.field) else { return None };
            let system = rule.paths.iter().find_map(Path::identifier_system)?;
            Some(Identifier { system: system.to_owned(), value: value.clone() })
        };
        self.rules.iter().filter_map(of).collect()
    }

    /// The fields in which a row has a business identifier.
    pub fn identifying(&self) -> impl Iterator<Item = &str> {
        let identifying = |rule: &&super::Rule| rule.paths.iter().any(|path| path.identifier_system().is_some());
        self.rules.iter().filter(identifying).map(|rule| rule.field.as_str())
    }

    /// The fields of the day of birth and of the family name, if the mapping is for patients.
    pub fn birth_fields(&self) -> Option<(&str, &str)> {
        let of = |path: &str| {
            let rule = self.rules.iter().find(|rule| rule.paths.iter().any(|one| one.elements() == path))?;
            Some(rule.field.as_str())
        };
        if self.resource.as_str() == "Patient" { of("birthDate").zip(of("name.family")) } else { None }
    }

    /// The day of birth and the family name that a row names, if the mapping is for patients and the row names both.
    pub fn birth(&self, fields: &Fields) -> Option<(Date, String)> {
        let (day, family) = self.birth_fields()?;
        match (fields.get(day)?, fields.get(family)?) {
            (Value::Date(day), Value::Text(family)) => Some((*day, family.clone())),
            _ => None,
        }
    }
}

impl Path {
    /// The system, where this is the value of an identifier of one fixed system.
    fn identifier_system(&self) -> Option<&str> {
        let [identifier, value] = self.steps() else { return None };
        let [Selector { element, is: Some(system) }] = identifier.selectors.as_slice() else { return None };
        let is_it = identifier.element == "identifier" && value.element == "value" && value.selectors.is_empty();
        (is_it && element == "system").then_some(system)
    }

    /// Its elements without what selects among them.
    fn elements(&self) -> String {
        self.steps().iter().map(|step| step.element.as_str()).collect::<Vec<_>>().join(".")
    }
}
