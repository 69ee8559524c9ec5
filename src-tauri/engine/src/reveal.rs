//! A masked record's name, read live from the chart for a person who asks. It is never kept and never logged; that it was asked for
//! is in the audit log before it is answered.

use std::{fmt, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::{
    audit::{Act, Begun, Outcome},
    connection::Side,
    error::{Class, Code, Fault},
    key::{Kind, RecordKey, ResourceId, ResourceType},
    ports::Read,
    reconcile::Reconciler,
};

/// Names revealed at once: what fits a screen, and not a list of patients.
pub const AT_MOST: usize = 50;

/// How long a person is kept waiting; what has not been read by then has no name.
const WITHIN: Duration = Duration::from_secs(10);
/// Reads at once: a quota is shared with the sync.
const AT_ONCE: usize = 4;

/// A patient's name. It cannot be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The text, for the screen alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(..)")
    }
}

/// A record with its patient's name, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revealed {
    pub key: RecordKey,
    pub name: Option<Name>,
    pub why: Option<Code>,
}

#[derive(Debug, Clone)]
pub(crate) struct Revealer(pub(crate) Arc<Reconciler>);

impl Revealer {
    /// One answer for each key, in their order. Refused as a whole if there are too many, or the audit log cannot be written.
    pub(crate) async fn reveal(&self, keys: Vec<RecordKey>, person: Option<String>) -> Result<Vec<Revealed>, Fault> {
        if keys.len() > AT_MOST {
            return Err(Fault::new(Class::Permanent, Code::TooMany));
        }
        let deadline = Instant::now() + WITHIN;
        let one = |key: RecordKey| self.one(key, person.clone(), deadline);
        let answers: Vec<Result<Revealed, Fault>> = stream::iter(keys).map(one).buffered(AT_ONCE).collect().await;
        answers.into_iter().collect()
    }

    async fn one(&self, key: RecordKey, person: Option<String>, deadline: Instant) -> Result<Revealed, Fault> {
        let begun = Begun {
            at: self.0.clock.now(),
            by: self.0.settings.owner.clone(),
            person,
            act: Act::Revealed,
            key: Some(key.clone()),
            epoch: 0,
            expected: None,
            fields: Vec::new(),
        };
        let entry = self.0.audit.begin(begun).await?;
        let name = tokio::time::timeout_at(deadline, self.name(&key)).await.unwrap_or(Err(Code::TimedOut));
        let outcome = match &name {
            Ok(_) => Outcome::Done { version: None },
            Err(code) => Outcome::Refused { code: *code },
        };
        self.0.audit.complete(entry, outcome, self.0.clock.now()).await?;
        let (name, why) = match name {
            Ok(name) => (Some(name), None),
            Err(code) => (None, Some(code)),
        };
        Ok(Revealed { key, name, why })
    }

    async fn name(&self, key: &RecordKey) -> Result<Name, Code> {
        let firm = self.0.firms.get(&key.firm).ok_or(Code::UnknownFirm)?;
        let mapping = firm.mapping.resources.get(&key.resource).ok_or(Code::NotMapped)?;
        if key.kind != Kind::Link {
            return Err(Code::Nameless);
        }
        let resource = self.read(key, &key.resource, &key.id).await?;
        if key.resource.as_str() == "Patient" {
            return name_of(&resource).ok_or(Code::Nameless);
        }
        let parent = mapping.parent.as_ref().ok_or(Code::Nameless)?;
        let id = parent.of(&resource, &mapping.bases).ok().flatten().ok_or(Code::Nameless)?;
        if parent.resource.as_str() != "Patient" {
            return Err(Code::Nameless);
        }
        name_of(&self.read(key, &parent.resource, &id).await?).ok_or(Code::Nameless)
    }

    async fn read(&self, key: &RecordKey, resource: &ResourceType, id: &ResourceId) -> Result<Json, Code> {
        // A side that is known to be away is not waited for.
        if let Some(code) = self.0.connections.blocked_side(&key.firm, Side::Fhir) {
            return Err(code);
        }
        let firm = self.0.firms.get(&key.firm).ok_or(Code::UnknownFirm)?;
        match firm.ports.fhir.read(resource, id).await {
            Ok(Read::Found(found)) => Ok(found.json),
            Ok(Read::Gone) => Err(Code::Gone),
            Ok(Read::Missing) => Err(Code::NotFound),
            Err(fault) => Err(fault.code),
        }
    }
}

/// R4 HumanName: the one that is used officially, else the usual one, else one without a use; never an old one.
fn name_of(patient: &Json) -> Option<Name> {
    let names = patient.get("name")?.as_array()?;
    let rank = |name: &&Json| match name.get("use").and_then(Json::as_str) {
        Some("official") => 0,
        Some("usual") => 1,
        None => 2,
        Some("old" | "maiden") => 9,
        Some(_) => 3,
    };
    let best = names.iter().filter(|name| rank(name) < 9).min_by_key(rank)?;
    let text = best.get("text").and_then(Json::as_str).map(str::to_owned).unwrap_or_else(|| {
        let given = best.get("given").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let parts = given.iter().chain(best.get("family")).filter_map(Json::as_str);
        parts.collect::<Vec<_>>().join(" ")
    });
    // What is shown is one line of a screen.
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
    (!text.is_empty()).then_some(Name(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_official_name_is_shown_and_an_old_one_never() {
        let name = |names: Json| name_of(&json!({ "resourceType": "Patient", "name": names }));
        let says = |text: &str| Some(Name(text.to_owned()));
        let official = json!({ "use": "official", "given": ["Synthetic", "B."], "family": "Example" });
        let usual = json!({ "use": "usual", "text": "Syn  Example" });
        let old = json!({ "use": "old", "family": "Former" });
        assert_eq!(name(json!([old, usual, official])), says("Synthetic B. Example"));
        assert_eq!(name(json!([old, usual])), says("Syn Example"));
        assert_eq!(name(json!([old])), None);
        assert_eq!(name(json!([{ "family": "Plain" }, { "use": "nickname", "text": "Nick" }])), says("Plain"));
        assert_eq!(name(json!([{ "text": "  " }])), None);
        assert_eq!(name_of(&json!({ "resourceType": "Patient" })), None);
    }

    #[test]
    fn a_name_cannot_be_printed() {
        let revealed = Revealed {
            key: RecordKey::parse("north/link/Patient/p1").unwrap(),
            name: Some(Name("Synthetic Example".to_owned())),
            why: None,
        };
        assert!(!format!("{revealed:?}").contains("Synthetic"));
    }
}
