//! An EHR that announces nothing, as the engine's [`Ehr`]: lists of encounters and documents, cut down to ids, codes and times.
//!
//! Nothing that a document shows is fetched here, and no address of an attachment is followed or kept: EMA's are signed for
//! whoever holds them. What a server gives no version for is known by the elements that a list and a read both show.
//!
//! A stamp that is later than the server's own clock (a second is granted, since that clock is told to the second) would
//! carry the watermark past what is yet to come: such a row is listed, with the clock's time as its own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{
        Budget, Category, Clock, Coding, Document, DocumentStatus, Documents, Ehr, Encounter, EncounterStatus,
        Encounters, FhirServer, Manners, PageToken, Purpose, Reach, Vault, Wish,
    },
    server_clock::Heard,
};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use reqwest::StatusCode;
use serde_json::{Value as Json, json};

use super::{
    Access, Asking, Call, Credentials, FhirClient, FhirConfig, concerning, content_version,
    flavour::piped,
    outcome::Asked,
    search::{Question, Row, Walked, instant},
    version,
};
use crate::adapters::secret::Secret;

/// The longest list that is read, in bytes.
const LONGEST_LIST: usize = 16 * 1024 * 1024;
/// The longest document that is read: an image may be inside.
const LONGEST_DOCUMENT: usize = 64 * 1024 * 1024;

/// What rows are cut down to, where the server does that.
const OF_ENCOUNTER: &str = "id,meta,status,subject";
const OF_DOCUMENT: &str = "id,meta,status,docStatus,category,type,subject,context,content";
const OF_MEDIA: &str = "id,meta,status,type,modality,subject,encounter,content";

/// How to watch an EHR.
#[derive(Debug, Clone)]
pub struct EhrConfig {
    pub fhir: FhirConfig,
    /// What one search for documents covers; `None`: what the flavour allows.
    pub reach: Option<Reach>,
    /// Where the value set of document categories is; `None`: where the flavour has it.
    pub categories: Option<String>,
    /// Sent with every request.
    pub api_key: Option<Secret>,
    /// The clinic's: for servers that compare days, which may be days there.
    pub zone: TimeZone,
}

/// The client of a watched EHR.
pub struct EhrClient {
    pub(super) client: FhirClient,
    pub(super) reach: Reach,
    categories: Option<String>,
    /// Rows per page that were not too large so far.
    encounters_page: AtomicU32,
    documents_page: AtomicU32,
}

impl EhrClient {
    /// Nothing is sent yet. Each request asks `budget` first; what a sign-in grants is kept in `vault` for all stations.
    ///
    /// # Errors
    /// As [`FhirClient::new`], and `Stop` on `api_key`.
    pub fn new(
        config: EhrConfig,
        credentials: Credentials,
        budget: Arc<dyn Budget>,
        vault: Option<Arc<dyn Vault>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let EhrConfig { fhir, reach, categories, api_key, zone } = config;
        let flavour = fhir.flavour;
        let documents_page = fhir.page.unwrap_or(flavour.documents_page).min(flavour.max_page);
        let mut client = FhirClient::new(fhir, credentials, clock)?;
        if let Some(key) = &api_key {
            client = client.with_api_key(key)?;
        }
        if let Access::Bearer(tokens) = client.access {
            client.access = Access::Bearer(tokens.shared(vault).counted(&budget, client.api_key.as_ref()));
        }
        let client = FhirClient { budget, zone, ..client };
        Ok(Self {
            encounters_page: client.page.into(),
            // EMA gives fewer documents than encounters a page.
            documents_page: if flavour.trailing_page {
                documents_page.min(flavour.documents_page)
            } else {
                documents_page
            }
            .into(),
            client,
            reach: reach.unwrap_or(flavour.documents),
            categories: categories.or_else(|| flavour.categories.map(str::to_owned)),
        })
    }

    async fn list(
        &self,
        resource: &ResourceType,
        of: Option<(&'static str, String)>,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Walked, Fault> {
        let (count, elements) = match resource.as_str() {
            "Encounter" => (&self.encounters_page, OF_ENCOUNTER),
            "Media" => (&self.documents_page, OF_MEDIA),
            _ => (&self.documents_page, OF_DOCUMENT),
        };
        let question = Question {
            resource,
            since,
            of,
            elements,
            count: count.load(Ordering::Relaxed),
            stand_in,
            by_content: false,
            asking: Asking { purpose, longest: LONGEST_LIST },
        };
        self.client.walk(&question, page).await.map_err(|fault| {
            let fault = match (fault.code, fault.class) {
                // Attachments inside, it seems: the next walk asks for fewer rows at a time.
                (Code::TooLarge, _) if question.count > 1 => {
                    count.fetch_min(question.count.div_ceil(4), Ordering::Relaxed);
                    Fault { class: Class::Retry, ..fault }
                }
                // There is no one record to blame.
                (_, Class::Permanent) => Fault { class: Class::Stop, ..fault },
                _ => fault,
            };
            concerning(fault, resource)
        })
    }

    /// The id of one resource in a reference to one of these types on this server; none in any other.
    fn referred(&self, reference: &Json, types: &[&str]) -> Option<ResourceId> {
        let reference = reference["reference"].as_str()?;
        let relative = match reference.strip_prefix(self.client.base.as_str()) {
            Some(relative) => relative,
            None if reference.contains("://") => return None,
            None => reference,
        };
        let relative = relative.split("/_history/").next()?;
        let (resource, id) = relative.split_once('/')?;
        let id = id.replace("%7C", "|").replace("%7c", "|");
        types.contains(&resource).then(|| piped::read(&id, self.client.flavour.pipes))?
    }

    fn encounter(&self, row: Row, latest: Option<Timestamp>, ahead: &mut u64) -> Option<Encounter> {
        let last_updated = kept_back(row.stamp?, latest, ahead);
        Some(Encounter {
            version: row.version(),
            last_updated,
            status: encounter_status(&row.json["status"]),
            patient: self.referred(&row.json["subject"], &["Patient"]),
            id: row.id,
        })
    }

    fn seen(&self, resource: &ResourceType, id: ResourceId, version: String, json: &Json) -> Document {
        let (category, content) = match resource.as_str() {
            "Media" => (["type", "modality"], &json["content"]),
            _ => (["category", "type"], &json["content"][0]["attachment"]),
        };
        let encounters = match resource.as_str() {
            "Media" => &json["encounter"],
            _ => &json["context"]["encounter"],
        };
        let mut categories: Vec<Coding> = category
            .into_iter()
            .flat_map(|name| each(&json[name]))
            .flat_map(|concept| each(&concept["coding"]))
            .filter_map(coding)
            .collect();
        categories.dedup();
        Document {
            resource: resource.clone(),
            id,
            version,
            last_updated: instant(&json["meta"]["lastUpdated"]),
            status: document_status(json),
            categories,
            content_type: content["contentType"].as_str().map(str::to_owned),
            encounters: each(encounters).iter().filter_map(|one| self.referred(one, &["Encounter"])).collect(),
            patient: self.referred(&json["subject"], &["Patient"]),
        }
    }

    /// The value set of document categories, as it is or expanded.
    async fn value_set(&self, path: &str, purpose: Purpose) -> Result<Vec<Category>, Fault> {
        let url = self.client.own(path)?;
        let asking = Asking { purpose, longest: LONGEST_LIST };
        let answer = self.client.call(&Call::Get(url), asking).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.fault(Asked::Search, self.client.clock.now()));
        }
        Ok(categories(&answer.json()?))
    }
}

#[async_trait]
impl Ehr for EhrClient {
    fn manners(&self) -> Manners {
        let flavour = self.client.flavour;
        let resource = |name: &&str| ResourceType::new(*name).expect("flavours name FHIR's own types");
        Manners {
            reach: self.reach,
            documents: flavour.document_types.iter().map(resource).collect(),
            by_day: flavour.by_day,
            encounters_page: self.encounters_page.load(Ordering::Relaxed),
            documents_page: self.documents_page.load(Ordering::Relaxed),
            trailing_page: flavour.trailing_page,
            read_after: flavour.read_after,
        }
    }

    async fn encounters(
        &self,
        since: Option<Timestamp>,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Encounters, Fault> {
        let resource = ResourceType::new("Encounter").expect("a FHIR resource type");
        let Walked { rows, mut unusable, next, server_time } = self.list(&resource, None, since, page, purpose).await?;
        let latest = server_time.map(granted);
        let mut ahead = 0;
        let all = rows.len();
        let rows: Vec<_> = rows.into_iter().filter_map(|row| self.encounter(row, latest, &mut ahead)).collect();
        unusable += (all - rows.len()) as u64;
        Ok(Encounters { rows, unusable, ahead, next, server_time })
    }

    async fn documents(
        &self,
        resource: &ResourceType,
        wish: &Wish,
        page: Option<&PageToken>,
        purpose: Purpose,
    ) -> Result<Documents, Fault> {
        let pipes = self.client.flavour.pipes;
        let (of, since) = match wish {
            Wish::Since(since) => (None, *since),
            Wish::OfEncounters(ids) => {
                let ids: Vec<_> = ids.iter().map(|id| format!("Encounter/{}", piped::written(id, pipes))).collect();
                (Some(("encounter", ids.join(","))), None)
            }
            Wish::OfPatient(id) => (Some(("patient", piped::written(id, pipes))), None),
        };
        let Walked { rows, unusable, next, server_time } = self.list(resource, of, since, page, purpose).await?;
        let latest = server_time.map(granted);
        let mut ahead = 0;
        let document = |row: Row| {
            let mut document = self.seen(resource, row.id.clone(), row.version(), &row.json);
            document.last_updated = document.last_updated.map(|stamp| kept_back(stamp, latest, &mut ahead));
            document
        };
        let rows = rows.into_iter().map(document).collect();
        Ok(Documents { rows, unusable, ahead, next, server_time })
    }

    async fn document(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        purpose: Purpose,
    ) -> Result<Option<Document>, Fault> {
        let on = |fault| concerning(fault, resource);
        let pipes = self.client.flavour.pipes;
        let name = piped::written(id, pipes);
        let url = self.client.url(&format!("{resource}/{}", name.replace('|', "%7C")))?;
        let asking = Asking { purpose, longest: LONGEST_DOCUMENT };
        let answer = self.client.call(&Call::Get(url), asking).await.map_err(on)?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::GONE => return Ok(None),
            StatusCode::NOT_FOUND if !answer.is_html() && !answer.says("not-supported") => return Ok(None),
            _ => return Err(on(answer.fault(Asked::Read, self.client.clock.now()))),
        }
        let json = answer.json().map_err(on)?;
        if json["resourceType"] != resource.as_str() || json["id"] != name.as_str() {
            // Never taken for the one asked for, whoever mixed them up.
            return Err(on(Fault::new(Class::Retry, Code::BadAnswer).vendor("HTTP 200, another resource")));
        }
        let version = version(&json).or_else(|| answer.entity_tag()).unwrap_or_else(|| stand_in(&json));
        Ok(Some(self.seen(resource, id.clone(), version, &json)))
    }

    async fn categories(&self, purpose: Purpose) -> Result<Vec<Category>, Fault> {
        let Some(path) = &self.categories else { return Ok(Vec::new()) };
        let on = |fault: Fault| fault.on("categories");
        let found = match self.value_set(path, purpose).await {
            // Defined by reference to something else: the server can put it together.
            Ok(found) if found.is_empty() => self.value_set(&format!("{path}/$expand"), purpose).await,
            found => found,
        };
        found.map_err(on)
    }

    async fn probe(&self) -> Result<(), Fault> {
        FhirServer::probe(&self.client).await
    }

    fn server_clock(&self) -> Option<Heard> {
        self.client.server_clock.heard()
    }
}

impl FhirClient {
    /// The last day before `since` in every zone that counts: whether `gt` leaves out the day it names is nowhere said, and whose
    /// days they are neither.
    pub(super) fn day_before(&self, since: Timestamp) -> Date {
        let days = [TimeZone::UTC, self.zone.clone()].map(|zone| since.to_zoned(zone).date());
        let first = days.into_iter().min().unwrap_or_default();
        first.yesterday().unwrap_or(first)
    }
}

/// The latest stamp that a row may have.
fn granted(server_time: Timestamp) -> Timestamp {
    server_time.checked_add(SignedDuration::from_secs(1)).unwrap_or(server_time)
}

fn kept_back(stamp: Timestamp, latest: Option<Timestamp>, ahead: &mut u64) -> Timestamp {
    match latest {
        Some(latest) if stamp > latest => {
            *ahead += 1;
            latest
        }
        _ => stamp,
    }
}

/// What stands in for a version: the elements that neither a cut-down row nor a fresh attachment address changes.
fn stand_in(resource: &Json) -> String {
    let attachment = |content: &Json| {
        let of = |name: &str| content[name].clone();
        json!({ "contentType": of("contentType"), "size": of("size"), "hash": of("hash") })
    };
    let of = |name: &str| resource[name].clone();
    let lasting = json!({
        "resourceType": of("resourceType"), "id": of("id"), "lastUpdated": resource["meta"]["lastUpdated"],
        "status": of("status"), "docStatus": of("docStatus"), "category": of("category"), "type": of("type"),
        "modality": of("modality"), "subject": of("subject"), "context": of("context"), "encounter": of("encounter"),
        // EMA's lists of documents are without it.
        "content": if resource["resourceType"] == "Media" { attachment(&resource["content"]) } else { Json::Null },
    });
    content_version(&lasting)
}

fn encounter_status(status: &Json) -> EncounterStatus {
    match status.as_str().unwrap_or_default() {
        "planned" => EncounterStatus::Planned,
        "arrived" | "triaged" => EncounterStatus::Arrived,
        "in-progress" | "onleave" => EncounterStatus::InProgress,
        "finished" => EncounterStatus::Finished,
        "cancelled" => EncounterStatus::Cancelled,
        "entered-in-error" => EncounterStatus::EnteredInError,
        _ => EncounterStatus::Unknown,
    }
}

fn document_status(resource: &Json) -> DocumentStatus {
    let says = |name: &str, what: &str| resource[name] == what;
    if says("status", "entered-in-error") || says("docStatus", "entered-in-error") {
        DocumentStatus::EnteredInError
    } else if says("status", "superseded") {
        DocumentStatus::Superseded
    } else {
        DocumentStatus::Current
    }
}

fn coding(json: &Json) -> Option<Coding> {
    let code = json["code"].as_str()?;
    let system = json["system"].as_str().unwrap_or_default();
    Some(Coding { system: system.to_owned(), code: code.to_owned() })
}

/// Of an expansion, and of what is listed in the definition itself.
fn categories(value_set: &Json) -> Vec<Category> {
    let mut found = Vec::new();
    let mut open: Vec<(&Json, String)> = Vec::new();
    for concept in each(&value_set["expansion"]["contains"]) {
        open.push((concept, String::new()));
    }
    for include in each(&value_set["compose"]["include"]) {
        let system = include["system"].as_str().unwrap_or_default();
        open.extend(each(&include["concept"]).iter().map(|concept| (concept, system.to_owned())));
    }
    open.reverse();
    while let Some((concept, system)) = open.pop() {
        open.extend(each(&concept["contains"]).iter().map(|inner| (inner, system.clone())));
        let Some(mut coding) = coding(concept) else { continue };
        if coding.system.is_empty() {
            coding.system = system;
        }
        let display = concept["display"].as_str().map(str::to_owned);
        let category = Category { coding, display };
        if !found.contains(&category) {
            found.push(category);
        }
    }
    found
}

/// The items of a list, or the one value that is not a list.
fn each(json: &Json) -> &[Json] {
    match json {
        Json::Array(items) => items,
        Json::Null => &[],
        one => std::slice::from_ref(one),
    }
}

impl fmt::Debug for EhrClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EhrClient").field("client", &self.client).field("reach", &self.reach).finish_non_exhaustive()
    }
}
