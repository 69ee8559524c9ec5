//! A watched clinic as stations tell each other of it: as it stands in the configuration of one of them, read and checked by the next
//! like a configuration of its own.

use std::{collections::BTreeMap, path::Path};

use engine::key::FirmId;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Mistakes, Trust, Watched, document::Document, file, resolve, schema};
use crate::secrets::SecretName;

/// What one station tells the others of a watched clinic.
#[derive(Debug, Clone)]
pub struct Definition {
    pub watched: Watched,
    /// The clinic's secrets, sealed and in base64, by their names; none where each station has its own.
    pub sealed: BTreeMap<SecretName, String>,
}

/// Its text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    name: String,
    time_zone: String,
    ehr: Json,
    quota: Option<Json>,
    /// In place of `ca-file`, which the other stations do not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<String, String>,
}

impl Definition {
    /// `authority`: what is in the clinic's `ca-file`, if it has one.
    pub fn write(&self, authority: Option<String>) -> String {
        let Watched { name, zone, written: (ehr, quota), .. } = &self.watched;
        let ehr = file::Ehr { ca_file: None, ..ehr.clone() };
        let text = Text {
            name: name.clone(),
            time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
            ehr: plain(json!(ehr)),
            quota: quota.as_ref().map(|quota| plain(json!(quota))),
            authority,
            sealed: self.sealed.iter().map(|(name, sealed)| (name.to_string(), sealed.clone())).collect(),
        };
        serde_json::to_string(&text).expect("texts and numbers have a JSON form")
    }

    /// `None`: a station of another version has written it, or it is none.
    pub fn read(firm: &FirmId, text: &str) -> Option<Self> {
        let Text { name, time_zone, ehr, quota, authority, sealed } = serde_json::from_str(text).ok()?;
        let firm = json!({ "id": firm, "name": name, "time-zone": time_zone, "ehr": ehr });
        // Whoever reads this shares the work.
        let tree = json!({ "shared": {}, "firm": [firm], "quota": quota.into_iter().collect::<Vec<_>>() });
        let mut document = Document::of(tree);
        let mut mistakes = Mistakes { text: "", list: Vec::new(), ways: Vec::new() };
        schema::check(&mut document, &mut mistakes);
        let file = serde_json::from_value::<file::File>(document.tree.clone()).ok()?;
        let config = resolve::resolve(file, Path::new(""), &document, &mut mistakes)?;
        let mut watched = config.watched.into_iter().next().filter(|_| mistakes.list.is_empty())?;
        if let Some(authority) = authority {
            watched.ehr.trust = Trust::Certificates(authority);
        }
        let sealed = sealed.into_iter().map(|(name, sealed)| Some((SecretName::parse(&name).ok()?, sealed)));
        Some(Self { watched, sealed: sealed.collect::<Option<_>>()? })
    }
}

/// Without what is not there: a configuration knows no null.
fn plain(json: Json) -> Json {
    match json {
        Json::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, plain(member)))
            .collect(),
        other => other,
    }
}
