//! Rows of the clinic's database as the engine sees them: typed values under field names. A vendor's way of writing a date or
//! a line end stays in its adapter.

use std::{collections::BTreeMap, fmt};

use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};

use crate::key::RowUuid;

/// What a field holds, as the mapping declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldType {
    Text,
    /// Decimal digits, kept as they are written.
    Number,
    Date,
    /// Clinic-local date and time to the second, without a zone: that is what FileMaker keeps.
    DateTime,
    /// 1 or 0.
    Flag,
}

/// A value in its canonical form: equal meaning, equal value. Patient data: it cannot be printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Blank,
    Text(String),
    /// Plain decimal notation without superfluous zeros or sign.
    Number(String),
    Date(Date),
    DateTime(DateTime),
    Flag(bool),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Blank => "Blank",
            Value::Text(_) => "Text(..)",
            Value::Number(_) => "Number(..)",
            Value::Date(_) => "Date(..)",
            Value::DateTime(_) => "DateTime(..)",
            Value::Flag(_) => "Flag(..)",
        })
    }
}

/// A value as a person reads and types it. Patient data: it cannot be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(String);

impl Shown {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the screen alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

pub type Fields = BTreeMap<String, Value>;

/// A table of the clinic's database, reached through a layout made for the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub layout: String,
    /// Holds the FHIR id; unique, validated always.
    pub key_field: String,
    /// By which the clinic's own changes are found. Without them, or while the layout lacks them, the table is written to and
    /// never watched.
    pub changes: Option<ChangeFields>,
    /// A number that the relay gives to each row that it makes.
    pub number: Option<Numbered>,
    /// Every field that is read or written, the key field not among them.
    pub fields: BTreeMap<String, FieldType>,
}

/// The fields of a table by which changes are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFields {
    /// Names a row for good (auto-enter, `Get ( UUID )`).
    pub uuid: String,
    /// When a row was last changed, by the clock of FileMaker's host (auto-enter, `Get ( CurrentHostTimestamp )`).
    pub modified: String,
}

/// A number field of the clinic's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    pub field: String,
    /// The first to give.
    pub from: u64,
}

/// FileMaker's internal record id; not portable, never a sync key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowId(pub String);

/// The version of a row that an edit is guarded with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModId(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: RowId,
    pub mod_id: ModId,
    /// The FHIR id, as the key field has it; `None` if that is empty.
    pub key: Option<String>,
    /// `None`: the layout lacks [`Table::changes`], or this row's is empty. The clinic's changes of such a row are not announced, so
    /// nothing of it goes to the chart.
    pub uuid: Option<RowUuid>,
    /// By the host's clock, on the clinic's wall.
    pub modified: Option<DateTime>,
    /// Fields of the table as asked; one whose content is not of its type is absent here and listed in `unreadable`.
    pub fields: Fields,
    pub unreadable: Vec<String>,
}

impl Value {
    /// What a person typed for a field of this type; none if it is not of the type. Days are `2026-03-31`, times
    /// `2026-03-31T08:30:00`, flags `1` and `0`.
    pub fn typed(r#type: FieldType, text: &str) -> Option<Value> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Value::Blank);
        }
        Some(match r#type {
            FieldType::Text => Value::Text(text.to_owned()),
            FieldType::Number => Value::Number(text.to_owned()),
            FieldType::Date => Value::Date(text.parse().ok()?),
            FieldType::DateTime => Value::DateTime(text.parse().ok()?),
            FieldType::Flag => Value::Flag(match text {
                "1" => true,
                "0" => false,
                _ => return None,
            }),
        })
    }

    /// The canonical text that hashes are made of.
    pub fn canonical(&self) -> String {
        match self {
            Value::Blank => String::new(),
            Value::Text(text) | Value::Number(text) => text.clone(),
            Value::Date(date) => date.to_string(),
            Value::DateTime(time) => time.to_string(),
            Value::Flag(flag) => u8::from(*flag).to_string(),
        }
    }

    /// Tells apart values of different types with the same text.
    pub fn tag(&self) -> &'static str {
        match self {
            Value::Blank => "blank",
            Value::Text(_) => "text",
            Value::Number(_) => "number",
            Value::Date(_) => "date",
            Value::DateTime(_) => "date-time",
            Value::Flag(_) => "flag",
        }
    }
}
