//! Drafts: a Composition may be posted, and that is all that may be done to it.

use serde_json::Value;

use super::world::{World, error};
use crate::rest::call::Call;
use crate::rest::reply::Reply;
use crate::rest::store::{each, relative};

/// A draft that was posted.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// The id it got.
    pub id: String,
    /// As it was sent.
    pub resource: Value,
    /// Where people find it.
    pub place: Place,
}

/// Where a draft lands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// With the visit that is still open: "Additional Visit Notes".
    Visit,
    /// As a new chart note: there is no visit, or it is finished.
    ChartNote,
}

impl World {
    pub(super) fn compose(&mut self, call: &Call, firm: &str) -> Result<Reply, Reply> {
        let body: Value = serde_json::from_slice(&call.body).map_err(|_| error(400, "Bad Request", call))?;
        if !acceptable(&body) {
            return Err(error(422, "Unprocessable Entity", call));
        }
        let id = self.front.uuid();
        let Some(branch) = self.firms.get_mut(firm) else { return Err(error(404, "Not Found", call)) };
        let encounter = body["encounter"]["reference"].as_str().map(relative);
        let encounter = encounter.as_deref().and_then(|reference| reference.strip_prefix("Encounter/"));
        let open = encounter.and_then(|id| branch.store.readable("Encounter", id)).is_some_and(|version| {
            let status = version.content.as_ref().map(|content| &content.value["status"]);
            status.is_some_and(|status| status != "finished" && status != "cancelled")
        });
        let place = if open { Place::Visit } else { Place::ChartNote };
        branch.drafts.push(Draft { id: id.clone(), resource: body.clone(), place });
        let mut kept = body;
        kept["id"] = id.clone().into();
        let mut reply = Reply::fhir(201, kept.to_string());
        reply.header("location", format!("{}/Composition/{id}", self.base(firm)));
        Ok(reply)
    }
}

/// Status preliminary, the one type and category there are, and two sections whose text stands in `code.text`.
fn acceptable(body: &Value) -> bool {
    let coded = |element: &Value, wanted: &str| {
        each(element).iter().any(|concept| each(&concept["coding"]).iter().any(|coding| coding["code"] == wanted))
    };
    let sections = each(&body["section"]);
    let section = |wanted: &str| {
        sections.iter().any(|section| {
            coded(&section["code"], wanted) && section["code"]["text"].as_str().is_some_and(|text| !text.is_empty())
        })
    };
    body["resourceType"] == "Composition"
        && body["status"] == "preliminary"
        && coded(&body["type"], "11488-4")
        && coded(&body["category"], "LP173421-1")
        && body["subject"]["reference"].is_string()
        && body["date"].is_string()
        && !each(&body["author"]).is_empty()
        && body["title"].is_string()
        && section("18776-5")
        && section("69730-0")
}
