//! What the two sides of one record say, read live for a person who asks, with what the next run would do about it. Values are on
//! the screen alone: they are never logged and, but for those a policy wrote over, never kept. That a person looked is in the audit
//! log before it is answered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{
    action::Seen,
    audit::{Act, Begun, Outcome},
    connection::Side,
    error::{Class, Code, Fault},
    key::{Kind, RecordKey},
    link::{LinkState, Sight, hashes},
    mapping::{Direction, Extracted, Owner, ResourceMapping, Standing},
    ports::Read,
    reconcile::{
        Reconciler,
        plan::{Sides, newer, plan},
    },
    row::{Row, Shown, Value},
    settings::Firm,
};

/// How long a person is kept waiting.
const WITHIN: Duration = Duration::from_secs(10);
/// Earlier versions that are read at once: before and after a change.
const VERSIONS: usize = 2;

/// One record on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub key: RecordKey,
    /// In the mapping's order of names; every field that both sides may have.
    pub fields: Vec<FieldDifference>,
    pub chart: Origin,
    pub row: Origin,
    /// What policies wrote over, the newest first.
    pub kept: Vec<KeptValue>,
    /// What the chart said in those of the versions asked for that it still has, by version and field.
    pub past: BTreeMap<String, BTreeMap<String, Shown>>,
}

/// Where a side's values come from, as far as the side tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// It is there at all.
    pub there: bool,
    pub version: Option<String>,
    pub at: Option<Timestamp>,
    /// Who wrote this version, by the chart's own word.
    pub by: Option<Shown>,
    /// The version is one that this relay wrote.
    pub ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDifference {
    pub field: String,
    pub direction: Way,
    pub policy: Policy,
    pub is: Is,
    /// Open since then.
    pub conflict: Option<Timestamp>,
    /// None where it cannot be read as what the field should hold.
    pub chart: Option<Shown>,
    pub row: Option<Shown>,
    /// What a decision is made on; none where none can be made.
    pub seen: Option<Seen>,
}

/// [`Direction`] as it is told outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Both,
    ToFilemaker,
    ToChart,
}

/// [`Owner`] as it is told outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    Chart,
    Filemaker,
    Newest,
    Person,
}

/// How a field stands, and what the next run does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Is {
    Same,
    /// Would be written to FileMaker.
    ToFilemaker,
    /// Would be written to the chart.
    ToChart,
    /// Each side keeps its own, and nobody has to do anything.
    Kept,
    /// A person decides.
    Conflict,
    /// The chart says nothing about it, or nothing that can be understood.
    Silent,
}

/// A value that a policy wrote over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptValue {
    pub field: String,
    /// Whose it was.
    pub side: Side,
    pub at: Timestamp,
    /// None if it was sealed under another key.
    pub value: Option<Shown>,
}

#[derive(Debug, Clone)]
pub(crate) struct Looker(pub(crate) Arc<Reconciler>);

impl Looker {
    pub(crate) async fn look(
        &self,
        key: RecordKey,
        versions: Vec<String>,
        person: Option<String>,
    ) -> Result<Difference, Fault> {
        let begun = Begun {
            at: self.0.clock.now(),
            by: self.0.settings.owner.clone(),
            person,
            act: Act::Revealed,
            key: Some(key.clone()),
            epoch: 0,
            expected: None,
            fields: vec!["both-sides".to_owned()],
        };
        let entry = self.0.audit.begin(begun).await?;
        let timed_out = Err(Fault::new(Class::Retry, Code::TimedOut));
        let found = tokio::time::timeout(WITHIN, self.read(&key, &versions)).await.unwrap_or(timed_out);
        let outcome = match &found {
            Ok(_) => Outcome::Done { version: None },
            Err(fault) => Outcome::Refused { code: fault.code },
        };
        self.0.audit.complete(entry, outcome, self.0.clock.now()).await?;
        found
    }

    async fn read(&self, key: &RecordKey, versions: &[String]) -> Result<Difference, Fault> {
        let no = |code| Fault::new(Class::Permanent, code);
        let firm = self.0.firms.get(&key.firm).ok_or_else(|| no(Code::UnknownFirm))?;
        let mapping = firm.mapping.resources.get(&key.resource).ok_or_else(|| no(Code::NotMapped))?;
        if key.kind != Kind::Link {
            return Err(no(Code::NotFound));
        }
        if let Some(code) = self.0.connections.blocked(&key.firm) {
            return Err(no(code));
        }
        let record = self.0.ledger.read(key).await?.ok_or_else(|| no(Code::NotFound))?;
        let mut state = LinkState::parse(&record.state, &self.0.hasher);
        let (chart, row) = tokio::join!(
            firm.ports.fhir.read(&key.resource, &key.id),
            firm.ports.clinic.find(&mapping.table, key.id.as_str()),
        );
        let (chart, row) = (chart?, row?.map(|row| mapping.canonical_row(row)));
        let resource = match chart {
            Read::Found(resource) => Some(resource),
            Read::Gone | Read::Missing => None,
        };
        let extracted = resource.as_ref().map(|resource| mapping.extract(&resource.json, &firm.zone));
        let chart_hashes = extracted.as_ref().map(|extracted| self.0.chart_hashes(key, extracted)).unwrap_or_default();
        let row_hashes = row.as_ref().map(|row| hashes(&self.0.hasher, key, &row.fields)).unwrap_or_default();
        if let Some(row) = &row {
            state.meet(row);
        }
        state.absorb(
            Sight { version: resource.as_ref().map(|resource| resource.version.as_str()), hashes: &chart_hashes },
            Sight { version: row.as_ref().map(|row| row.mod_id.0.as_str()), hashes: &row_hashes },
        );
        let row_time = row.as_ref().and_then(|row| row.modified);
        let origins = (
            Origin {
                there: resource.is_some(),
                version: resource.as_ref().map(|resource| resource.version.clone()),
                at: resource.as_ref().and_then(|resource| resource.last_updated),
                by: resource.as_ref().and_then(|resource| author(&resource.json)),
                ours: resource.as_ref().is_some_and(|resource| state.wrote_version(Side::Fhir, &resource.version)),
            },
            Origin {
                there: row.is_some(),
                version: row.as_ref().map(|row| row.mod_id.0.clone()),
                at: row_time.and_then(|time| instant(time, firm)),
                by: None,
                ours: row.as_ref().is_some_and(|row| state.wrote_version(Side::FileMaker, &row.mod_id.0)),
            },
        );
        let fields = match (&extracted, &row) {
            (Some(extracted), Some(row)) => {
                let sides = Sides {
                    mapping,
                    extracted,
                    row,
                    chart_hashes: &chart_hashes,
                    row_hashes: &row_hashes,
                    one_way: row.uuid.is_none(),
                    chart_closed: extracted.standing == Standing::MarkOnly
                        || extracted.notice == Some(Code::PatientMerged),
                    newer: newer(origins.0.at, origins.1.at),
                    settled: None,
                };
                compare(&sides, &state)
            }
            (extracted, row) => one_sided(mapping.table.fields.keys(), extracted.as_ref(), row.as_ref()),
        };
        let opened = |kept: &crate::kept::Kept| KeptValue {
            field: kept.field.clone(),
            side: kept.side,
            at: kept.at,
            value: kept.open(key, &self.0.seal).map(|value| shown(&value)),
        };
        let kept = state.kept.iter().rev().filter(|kept| !kept.is_over(self.0.clock.now())).map(opened).collect();
        let past = self.past(key, versions, firm, mapping).await;
        Ok(Difference { key: key.clone(), fields, chart: origins.0, row: origins.1, kept, past })
    }

    /// What the chart said in these versions. What it does not give is as good as not kept.
    async fn past(
        &self,
        key: &RecordKey,
        versions: &[String],
        firm: &Firm,
        mapping: &ResourceMapping,
    ) -> BTreeMap<String, BTreeMap<String, Shown>> {
        let mut past = BTreeMap::new();
        for version in versions.iter().take(VERSIONS) {
            if let Ok(Some(then)) = firm.ports.fhir.read_version(&key.resource, &key.id, version).await {
                let said = mapping.extract(&then.json, &firm.zone);
                let fields = said.fields.keys().filter_map(|field| Some((field.clone(), says(&said, field)?)));
                past.insert(version.clone(), fields.collect());
            }
        }
        past
    }
}

/// Each field, with what a run would do.
fn compare(sides: &Sides<'_>, state: &LinkState) -> Vec<FieldDifference> {
    let plan = plan(sides, state);
    let Sides { mapping, extracted, row, .. } = sides;
    let one = |field: &String| {
        let is = match () {
            () if plan.conflicts.contains(field) => Is::Conflict,
            () if plan.to_row.contains_key(field) => Is::ToFilemaker,
            () if plan.to_chart.contains_key(field) => Is::ToChart,
            () if plan.agreed.iter().any(|(agreed, _)| agreed == field) => Is::Same,
            () if plan.differs.contains(field) || plan.reshaped.contains(field) => Is::Kept,
            () => Is::Silent,
        };
        let direction = mapping.direction(field);
        let both = sides.chart_hashes.get(field).zip(sides.row_hashes.get(field));
        let seen = both.map(|(chart, row)| Seen { chart: *chart, row: *row });
        FieldDifference {
            field: field.clone(),
            direction: match direction {
                Direction::Both if !sides.one_way => Way::Both,
                Direction::ToFhir if !sides.one_way => Way::ToChart,
                Direction::Both | Direction::ToFhir | Direction::ToFileMaker => Way::ToFilemaker,
            },
            policy: match mapping.owner(field) {
                Owner::Fhir => Policy::Chart,
                Owner::FileMaker => Policy::Filemaker,
                Owner::Newest => Policy::Newest,
                Owner::Person => Policy::Person,
            },
            is,
            conflict: state.conflicts.get(field).copied().filter(|_| is == Is::Conflict),
            chart: says(extracted, field),
            row: row.fields.get(field).map(shown),
            seen: seen.filter(|_| direction == Direction::Both && !sides.one_way && !sides.chart_closed),
        }
    };
    extracted.fields.keys().map(one).collect()
}

/// Where one side is not there: what the other one says.
fn one_sided<'a>(
    fields: impl Iterator<Item = &'a String>,
    extracted: Option<&Extracted>,
    row: Option<&Row>,
) -> Vec<FieldDifference> {
    let one = |field: &String| FieldDifference {
        field: field.clone(),
        direction: Way::ToFilemaker,
        policy: Policy::Person,
        is: Is::Kept,
        conflict: None,
        chart: extracted.and_then(|extracted| says(extracted, field)),
        row: row.and_then(|row| row.fields.get(field)).map(shown),
        seen: None,
    };
    fields.map(one).collect()
}

fn says(extracted: &Extracted, field: &str) -> Option<Shown> {
    if extracted.refused.contains_key(field) {
        return None;
    }
    let said = extracted.fields.get(field).and_then(Option::as_ref);
    Some(shown(said.unwrap_or(&Value::Blank)))
}

fn shown(value: &Value) -> Shown {
    Shown::new(value.canonical())
}

fn instant(time: DateTime, firm: &Firm) -> Option<Timestamp> {
    firm.zone.to_ambiguous_timestamp(time).unambiguous().ok()
}

/// Who wrote this version, where the chart says so (Medplum's `meta.author`).
fn author(resource: &Json) -> Option<Shown> {
    let author = resource.get("meta")?.get("author")?;
    let name = author.get("display").or_else(|| author.get("reference"))?.as_str()?;
    Some(Shown::new(name.chars().take(120).collect::<String>()))
}
