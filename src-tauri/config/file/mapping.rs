//! What stands in `[[firm.mapping]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One resource type and its FileMaker layout: a shipped mapping with changes, or one of your own. See docs/mapping.md.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::config) struct Mapping {
    /// A shipped mapping to start from. Whatever else is given here replaces its part of it.
    #[serde(rename = "use")]
    pub(in crate::config) shipped: Option<Shipped>,
    /// The FHIR resource type.
    #[schemars(extend("x-form" = "resource-type"))]
    pub(in crate::config) resource: Option<String>,
    /// The FileMaker layout, made for the relay: only fields that stand on it can be reached.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) layout: Option<String>,
    /// The text field that holds the FHIR id: unique, validated always.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) key: Option<String>,
    /// The two fields by which the clinic's own changes are found. Without them, or while the layout lacks them, nothing of this
    /// table goes to the chart.
    pub(in crate::config) changes: Option<Changes>,
    /// A number that the relay gives to each row that it makes.
    pub(in crate::config) number: Option<Number>,
    /// The fields by their FileMaker names.
    pub(in crate::config) fields: BTreeMap<String, Field>,
    /// Fields of the shipped mapping to leave out.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) drop: Vec<String>,
    pub(in crate::config) parent: Option<Parent>,
    pub(in crate::config) states: Option<States>,
    /// Which resources of the type are meant; all of these must hold. An empty list means every one.
    pub(in crate::config) only: Option<Vec<Filter>>,
    /// What a record shows when the other side has deleted its own.
    pub(in crate::config) inactive: Option<Inactive>,
    /// Whether it shows that (the default), or is left as it is and only remarked.
    pub(in crate::config) on_delete: Option<OnDelete>,
}

/// A field that says that a record is no longer in use.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["field", "value"]))]
pub(in crate::config) struct Inactive {
    /// One of the mapping's fields.
    #[schemars(extend("x-form" = "text"), example = &"Active")]
    pub(in crate::config) field: String,
    /// What it holds then, as text: "0" in a flag.
    #[schemars(extend("x-form" = "text"), example = &"0")]
    pub(in crate::config) value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum OnDelete {
    Flag,
    Keep,
}

/// By which the clinic's own changes are found. docs/mapping.md says how a consultant adds the fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["uuid", "modified"]))]
pub(in crate::config) struct Changes {
    /// The text field that names a row for good: auto-enter, Get ( UUID ).
    #[schemars(extend("x-form" = "text"), example = &"UUID")]
    pub(in crate::config) uuid: String,
    /// The timestamp field that says when the row was last changed, by the host's clock: auto-enter, Get ( CurrentHostTimestamp ).
    #[schemars(extend("x-form" = "text"), example = &"ModifiedAt")]
    pub(in crate::config) modified: String,
}

/// A number of the clinic's own for each row that the relay makes: the next one of a counter that all stations share.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["field", "from"]))]
pub(in crate::config) struct Number {
    /// The number field: unique, validated always.
    #[schemars(extend("x-form" = "text"), example = &"ChartNumber")]
    pub(in crate::config) field: String,
    /// The first number to give, above the highest that is in the file.
    #[schemars(range(min = 1, max = 900_000_000_000_000_u64), example = &100_000_u64)]
    pub(in crate::config) from: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shipped {
    Patient,
    IntakeForm,
    Measurement,
    ProgressNote,
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(in crate::config) fn texts(&self) -> &[String] {
        match self {
            OneOrMore::One(text) => std::slice::from_ref(text),
            OneOrMore::More(texts) => texts,
        }
    }
}

impl JsonSchema for OneOrMore {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OneOrMore".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
        })
    }
}

/// One FileMaker field.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::config) struct Field {
    /// Where in the resource the value stands; of several paths the first that leads to something counts.
    #[schemars(extend("x-form" = "path"))]
    pub(in crate::config) path: Option<OneOrMore>,
    /// What the field holds.
    #[serde(rename = "type")]
    pub(in crate::config) kind: Option<Kind>,
    /// Numbers: the unit that the value must have, as UCUM code; further spellings of the same unit may follow. "1" is no unit, and the
    /// default.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) unit: Option<OneOrMore>,
    /// Numbers: any unit, provided that this field of the same row says which.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) unit_field: Option<String>,
    /// What the field has for a code (`code` or `system|code`); "1" and "0" for a flag.
    pub(in crate::config) codes: Option<BTreeMap<String, String>>,
    /// A code that is not in the list: refused, so that a person looks, or kept as it is.
    pub(in crate::config) other_codes: Option<OtherCodes>,
    /// Texts: what to put between several. Without it, several different values are refused.
    pub(in crate::config) join: Option<String>,
    /// Texts: whose spelling is levelled, so that equal ones compare equal.
    pub(in crate::config) form: Option<Form>,
    /// What it means that the resource says nothing: leave the field as it is (the default), or blank it.
    pub(in crate::config) absent: Option<Absent>,
    /// Which side's value wins where both have changed.
    pub(in crate::config) owner: Option<Owner>,
    /// Which way its changes go; both ways if left out, where the path can be walked back.
    pub(in crate::config) direction: Option<Direction>,
    /// Written to the chart only while the record's status is one of these.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) only_in: Option<Vec<String>>,
    /// Date-times: a day without a time of day is refused (the default), or taken as its midnight.
    pub(in crate::config) day_only: Option<DayOnly>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Kind {
    Text,
    Number,
    Date,
    DateTime,
    Flag,
    Reference,
    Attachment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum OtherCodes {
    Refuse,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Form {
    Plain,
    Phone,
    Email,
    PostalCode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Absent {
    Leave,
    Blank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Owner {
    Fhir,
    Filemaker,
    /// The later change, by the time stamps of the two sides.
    Newest,
    Person,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Direction {
    Both,
    ToFilemaker,
    ToFhir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum DayOnly {
    Refuse,
    Midnight,
}

/// The resource whose row must be there first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["path", "resource", "field"]))]
pub(in crate::config) struct Parent {
    /// Where the reference to it stands.
    #[schemars(extend("x-form" = "path"), example = &"subject")]
    pub(in crate::config) path: String,
    /// Its resource type, which must be mapped too.
    #[schemars(extend("x-form" = "resource-type"), example = &"Patient")]
    pub(in crate::config) resource: String,
    /// The text field of this layout that holds the parent's FHIR id.
    #[schemars(extend("x-form" = "text"), example = &"PatientFhirId")]
    pub(in crate::config) field: String,
}

/// What a resource's status means for its row. A status that is in neither list is carried over like any other.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["path", "field"]))]
pub(in crate::config) struct States {
    /// Where the status stands; with several, the strictest rule counts.
    #[schemars(extend("x-form" = "path"), example = &"status")]
    pub(in crate::config) path: Option<OneOrMore>,
    /// The text field that shows it.
    #[schemars(extend("x-form" = "text"), example = &"Status")]
    pub(in crate::config) field: String,
    /// With these, nothing is done until the status changes.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) wait: Vec<String>,
    /// With these, a row that is there shows the status and keeps everything else; none is created.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) mark: Vec<String>,
    /// What a status becomes in the chart when the clinic has changed a field: `final = "amended"`.
    pub(in crate::config) amended: BTreeMap<String, String>,
    /// The status of a record that is made for a new row, by its path.
    pub(in crate::config) new: BTreeMap<String, String>,
}

/// Something at the path must be one of the codes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["path", "codes"]))]
pub(in crate::config) struct Filter {
    #[schemars(extend("x-form" = "path"), example = &"category")]
    pub(in crate::config) path: String,
    /// Each `code` or `system|code`.
    #[schemars(length(min = 1), extend("x-form" = "text"))]
    pub(in crate::config) codes: Vec<String>,
}
