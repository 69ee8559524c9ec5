use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::lock;
use crate::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{Change, Changes, Clock, Created, FhirServer, Identifier, Matching, PageToken, Read, Resource},
};

/// A FHIR server in memory. Versions count from 1 for each resource.
#[derive(Debug)]
pub struct MemoryFhir {
    clock: Arc<dyn Clock>,
    resources: Mutex<Resources>,
}

type Resources = BTreeMap<(ResourceType, ResourceId), Kept>;

#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    last_updated: Timestamp,
    /// None once deleted.
    json: Option<Json>,
    /// What earlier versions said, by their numbers.
    past: BTreeMap<u64, Json>,
}

impl MemoryFhir {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, resources: Mutex::default() })
    }

    /// Writes a version as the portal would; answers with its number.
    pub fn put(&self, resource: &ResourceType, id: &ResourceId, json: Option<Json>) -> u64 {
        self.write(&mut lock(&self.resources), resource, id, json)
    }

    fn write(&self, resources: &mut Resources, resource: &ResourceType, id: &ResourceId, json: Option<Json>) -> u64 {
        let kept = resources.entry((resource.clone(), id.clone())).or_insert_with(|| Kept {
            version: 0,
            last_updated: Timestamp::MIN,
            json: None,
            past: BTreeMap::new(),
        });
        if let Some(before) = kept.json.take() {
            kept.past.insert(kept.version, before);
        }
        kept.version += 1;
        kept.last_updated = self.clock.now();
        kept.json = json;
        kept.version
    }

    /// The resources of a type that are there now.
    pub fn all(&self, resource: &ResourceType) -> Vec<(ResourceId, Json)> {
        let resources = lock(&self.resources);
        let of_type = resources.iter().filter(|((of, _), _)| of == resource);
        of_type.filter_map(|((_, id), kept)| Some((id.clone(), kept.json.clone()?))).collect()
    }

    /// What is there now, with its version.
    pub fn current(&self, resource: &ResourceType, id: &ResourceId) -> Option<(u64, Json)> {
        let resources = lock(&self.resources);
        let kept = resources.get(&(resource.clone(), id.clone()))?;
        Some((kept.version, kept.json.clone()?))
    }
}

#[async_trait]
impl FhirServer for MemoryFhir {
    async fn read(&self, resource: &ResourceType, id: &ResourceId) -> Result<Read, Fault> {
        Ok(match lock(&self.resources).get(&(resource.clone(), id.clone())) {
            None => Read::Missing,
            Some(Kept { json: None, .. }) => Read::Gone,
            Some(Kept { version, last_updated, json: Some(json), .. }) => Read::Found(Resource {
                resource: resource.clone(),
                id: id.clone(),
                version: version.to_string(),
                last_updated: Some(*last_updated),
                json: json.clone(),
            }),
        })
    }

    async fn read_version(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        version: &str,
    ) -> Result<Option<Resource>, Fault> {
        let resources = lock(&self.resources);
        let kept = resources.get(&(resource.clone(), id.clone()));
        let json = kept.zip(version.parse().ok()).and_then(|(kept, version): (_, u64)| {
            if version == kept.version { kept.json.clone() } else { kept.past.get(&version).cloned() }
        });
        Ok(json.map(|json| Resource {
            resource: resource.clone(),
            id: id.clone(),
            version: version.to_owned(),
            last_updated: None,
            json,
        }))
    }

    async fn changes(
        &self,
        resource: &ResourceType,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
    ) -> Result<Changes, Fault> {
        const PAGE: usize = 20;
        let from: usize = page.and_then(|page| page.0.parse().ok()).unwrap_or_default();
        let mut all: Vec<_> = lock(&self.resources)
            .iter()
            .filter(|((of, _), kept)| of == resource && kept.json.is_some())
            .filter(|(_, kept)| since.is_none_or(|since| kept.last_updated >= since))
            .map(|((_, id), kept)| Change {
                id: id.clone(),
                version: kept.version.to_string(),
                last_updated: kept.last_updated,
            })
            .collect();
        all.sort_by(|a, b| (a.last_updated, &a.id).cmp(&(b.last_updated, &b.id)));
        let next = (all.len() > from + PAGE).then(|| PageToken((from + PAGE).to_string()));
        let changes = all.into_iter().skip(from).take(PAGE).collect();
        Ok(Changes { changes, next, server_time: Some(self.clock.now()) })
    }

    async fn update(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        let mut resources = lock(&self.resources);
        match resources.get(&(resource.clone(), id.clone())) {
            Some(Kept { version, json: Some(_), .. }) if version.to_string() == expected => {}
            _ => return Err(Fault::new(Class::Stale, Code::RecordChanged)),
        }
        Ok(self.write(&mut resources, resource, id, Some(json.clone())).to_string())
    }

    async fn create(&self, resource: &ResourceType, json: &Json, identifier: &Identifier) -> Result<Created, Fault> {
        let mut resources = lock(&self.resources);
        match found(&resources, resource, &Matching::Identifier(identifier.clone())).as_slice() {
            [] => {}
            [one] => return Ok(Created { id: one.id.clone(), version: one.version.clone(), existed: true }),
            _ => return Err(Fault::new(Class::Permanent, Code::SeveralMatches)),
        }
        let id = (1..).map(|number| ResourceId::new(format!("created-{number}")).expect("letters and digits"));
        let id = id.into_iter().find(|id| !resources.contains_key(&(resource.clone(), id.clone())));
        let id = id.expect("numbers do not end");
        let mut json = json.clone();
        json["id"] = json!(id.as_str());
        let version = self.write(&mut resources, resource, &id, Some(json)).to_string();
        Ok(Created { id, version, existed: false })
    }

    async fn matching(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        Ok(found(&lock(&self.resources), resource, by))
    }

    async fn probe(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// A call is over when it returns.
    fn write_horizon(&self) -> Duration {
        Duration::ZERO
    }
}

fn found(resources: &Resources, resource: &ResourceType, by: &Matching) -> Vec<Resource> {
    let of_type = resources.iter().filter(|((of, _), _)| of == resource);
    let found = of_type.filter_map(|((_, id), kept)| {
        let json = kept.json.as_ref().filter(|json| by.fits(json))?.clone();
        let (version, last_updated) = (kept.version.to_string(), Some(kept.last_updated));
        Some(Resource { resource: resource.clone(), id: id.clone(), version, last_updated, json })
    });
    found.collect()
}
