//! Writing. No write goes out without a guard: an update has the version that it was made from (`If-Match`), a creation an
//! identifier that must be on no other resource (`If-None-Exist`).
//!
//! * **The version moved.** 412 in R4, 409 in the text before it and on HAPI; a resource that is no longer there (404, 410)
//!   moved too. All are `Stale`: read again, merge again.
//! * **The answer is lost**, or came from a box on the way (408, 5xx). `Unknown`: an update is looked at by whoever reads next; a
//!   creation is looked for at once by its identifier, and where it is not found it may still come: the same call again finds it.
//! * **A server that ignores `If-None-Exist`**, or whose index lags, would make a second one. So a creation looks first; it is
//!   rare enough for that. What lies between the look and the write stays the server's to guard.
//!
//! Updates are whole resources by PUT, not patches: with `If-Match` both are as safe, and PUT is what every server that takes
//! updates has.

use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    ports::{Created, Identifier, Matching, Resource},
};
use reqwest::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue, IF_MATCH, LOCATION},
};
use serde_json::Value as Json;
use url::form_urlencoded;

use super::{
    Asking, Call, FhirClient, STAND_IN, Write, content_version,
    outcome::{Answer, Asked},
    search, version,
};

/// As many as a person would look through.
const MOST_MATCHES: &str = "50";

/// What marks a resource of which the server gave only a part (R4 search, `_elements` and `_summary`).
const SUBSETTED: &str = "SUBSETTED";

/// A write of which nobody knows whether it was carried out.
pub(super) fn unknown(vendor: impl Into<String>) -> Fault {
    Fault::new(Class::Unknown, Code::OutcomeUnknown).vendor(vendor)
}

impl FhirClient {
    pub(super) async fn put(
        &self,
        resource: &ResourceType,
        id: &ResourceId,
        expected: &str,
        json: &Json,
    ) -> Result<String, Fault> {
        let unguarded = || Fault::new(Class::Permanent, Code::Unguarded);
        if expected.starts_with(STAND_IN) {
            return Err(unguarded());
        }
        let tags = json["meta"]["tag"].as_array().map_or(&[][..], Vec::as_slice);
        if tags.iter().any(|tag| tag["code"] == SUBSETTED) {
            // What is missing in it would be deleted.
            return Err(Fault::new(Class::Permanent, Code::Rejected).vendor("the server gives only a part of it"));
        }
        let guard = HeaderValue::try_from(format!("W/\"{expected}\"")).map_err(|_| unguarded())?;
        let write = Write {
            method: Method::PUT,
            url: self.url(&format!("{resource}/{id}"))?,
            guard: Some((IF_MATCH, guard)),
            body: json.to_string(),
        };
        let answer = self.call(&Call::Write(write), Asking::WORK).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                // It was carried out; which version it made, a read must tell.
                answer.written().ok_or_else(|| unknown(format!("HTTP {}, no version", answer.status.as_u16())))
            }
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED | StatusCode::GONE => Err(stale(&answer)),
            StatusCode::NOT_FOUND if !answer.is_html() && !answer.says("not-supported") => Err(stale(&answer)),
            _ => Err(self.refusal(&answer)),
        }
    }

    pub(super) async fn post(
        &self,
        resource: &ResourceType,
        json: &Json,
        identifier: &Identifier,
    ) -> Result<Created, Fault> {
        if let Some(found) = self.carrying(resource, identifier).await? {
            return Ok(found);
        }
        let condition =
            form_urlencoded::Serializer::new(String::new()).append_pair("identifier", &token(identifier)).finish();
        let guard = HeaderValue::try_from(condition).map_err(|_| Fault::new(Class::Permanent, Code::Unguarded))?;
        let write = Write {
            method: Method::POST,
            url: self.url(resource.as_str())?,
            guard: Some((HeaderName::from_static("if-none-exist"), guard)),
            body: json.to_string(),
        };
        let fault = match self.call(&Call::Write(write), Asking::WORK).await {
            Ok(answer) => {
                if matches!(answer.status, StatusCode::OK | StatusCode::CREATED)
                    && let Some((id, version)) = answer.location(resource)
                {
                    return Ok(Created { id, version, existed: answer.status == StatusCode::OK });
                }
                match answer.status {
                    StatusCode::OK | StatusCode::CREATED => unknown("created, and not told where"),
                    // More than one matches, says R4; a server without conditional creation says the same.
                    StatusCode::PRECONDITION_FAILED => {
                        Fault::new(Class::Permanent, Code::Rejected).vendor("HTTP 412 to If-None-Exist")
                    }
                    _ => self.refusal(&answer),
                }
            }
            Err(fault) => fault,
        };
        if fault.class != Class::Unknown && fault.code != Code::Rejected {
            return Err(fault);
        }
        match self.carrying(resource, identifier).await {
            Ok(Some(found)) => Ok(found),
            Err(several) if several.code == Code::SeveralMatches => Err(several),
            Ok(None) | Err(_) => Err(fault),
        }
    }

    /// The one resource that carries the identifier.
    async fn carrying(&self, resource: &ResourceType, identifier: &Identifier) -> Result<Option<Created>, Fault> {
        let found = self.look_for(resource, &Matching::Identifier(identifier.clone())).await?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(Created { id: one.id.clone(), version: one.version.clone(), existed: true })),
            _ => Err(Fault::new(Class::Permanent, Code::SeveralMatches)),
        }
    }

    /// A search by what may be a patient's: by POST, so that it stands in no log on the way.
    pub(super) async fn look_for(&self, resource: &ResourceType, by: &Matching) -> Result<Vec<Resource>, Fault> {
        let mut parameters = match by {
            Matching::Identifier(identifier) => vec![("identifier", token(identifier))],
            Matching::Birth { day, family } => {
                vec![("birthdate", day.to_string()), ("family", escaped(family))]
            }
        };
        parameters.push(("_count", MOST_MATCHES.to_owned()));
        let answer =
            self.call(&Call::Form(self.url(&format!("{resource}/_search"))?, parameters), Asking::WORK).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.fault(Asked::Search, self.clock.now()));
        }
        let bundle = answer.json()?;
        if bundle["resourceType"] != "Bundle" {
            return Err(Fault::new(Class::Retry, Code::BadAnswer).vendor("HTTP 200, no Bundle"));
        }
        let mut found = Vec::new();
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            if entry["search"]["mode"].as_str().is_some_and(|mode| mode != "match") {
                continue;
            }
            let json = &entry["resource"];
            if !resembles(by, json) {
                // The server ignores the parameter and gives whatever it has: nothing is known of what was asked.
                let what = "the server ignores a search parameter";
                return Err(Fault::new(Class::Stop, Code::Rejected).vendor(what));
            }
            let id = json["id"].as_str().and_then(|id| ResourceId::new(id).ok());
            let (Some(id), true) = (id, by.fits(json)) else { continue };
            found.push(Resource {
                resource: resource.clone(),
                id,
                version: version(json).unwrap_or_else(|| content_version(json)),
                last_updated: search::instant(&json["meta"]["lastUpdated"]),
                json: json.clone(),
            });
        }
        Ok(found)
    }

    /// What an answer to a write means that is neither success nor a moved version.
    fn refusal(&self, answer: &Answer) -> Fault {
        let status = answer.status.as_u16();
        match status {
            501 | 505 => answer.fault(Asked::Read, self.clock.now()),
            202 | 408 | 500..600 => unknown(format!("HTTP {status}")),
            _ => answer.fault(Asked::Read, self.clock.now()),
        }
    }
}

fn stale(answer: &Answer) -> Fault {
    Fault::new(Class::Stale, Code::RecordChanged).vendor(format!("HTTP {}", answer.status.as_u16()))
}

impl Answer {
    /// The version that a write made.
    fn written(&self) -> Option<String> {
        let located = || Some(self.headers.get(LOCATION)?.to_str().ok()?.rsplit_once("/_history/")?.1.to_owned());
        let body = || serde_json::from_slice::<Json>(&self.body).ok().as_ref().and_then(version);
        self.entity_tag().or_else(located).or_else(body)
    }

    /// The id and version of what a creation made or found.
    fn location(&self, resource: &ResourceType) -> Option<(ResourceId, String)> {
        Some((self.created(resource)?, self.written()?))
    }

    /// The id of what a creation made or found: `[base]/Type/id/_history/version`, or the body's own.
    pub(super) fn created(&self, resource: &ResourceType) -> Option<ResourceId> {
        let located = || {
            let path = self.headers.get(LOCATION)?.to_str().ok()?;
            let path = path.split_once("/_history/").map_or(path, |(path, _)| path);
            let (before, id) = path.rsplit_once('/')?;
            before.rsplit('/').next().filter(|name| *name == resource.as_str())?;
            ResourceId::new(id).ok()
        };
        let body = || {
            let json = serde_json::from_slice::<Json>(&self.body).ok()?;
            (json["resourceType"] == resource.as_str()).then_some(())?;
            ResourceId::new(json["id"].as_str()?).ok()
        };
        located().or_else(body)
    }
}

/// `system|value` as a search token.
fn token(identifier: &Identifier) -> String {
    format!("{}|{}", escaped(&identifier.system), escaped(&identifier.value))
}

/// With the characters guarded that mean something in a search (R4 search, "Escaping Search Parameters").
fn escaped(text: &str) -> String {
    let guarded = text.chars().flat_map(|c| matches!(c, '\\' | ',' | '$' | '|').then_some('\\').into_iter().chain([c]));
    guarded.collect()
}

/// Whether a server that knows the parameter could have given this row.
fn resembles(by: &Matching, json: &Json) -> bool {
    match by {
        Matching::Identifier(identifier) => {
            let wanted = identifier.value.to_lowercase();
            ["identifier", "masterIdentifier"].iter().any(|element| {
                let held = &json[*element];
                let held = held.as_array().map_or_else(|| std::slice::from_ref(held), Vec::as_slice);
                let same = |value: &Json| value["value"].as_str().is_some_and(|value| value.to_lowercase() == wanted);
                held.iter().any(same)
            })
        }
        Matching::Birth { day, .. } => {
            json["birthDate"].as_str().is_some_and(|known| day.to_string().starts_with(known))
        }
    }
}
