//! The paths of the RESTful interactions.

use axum::body::Bytes;
use axum::http::HeaderMap;

use super::world::World;
use crate::rest::call::{Call, Line, is_id, is_type};
use crate::rest::fault::Interaction;
use crate::rest::search::pairs;

impl World {
    /// A call on an absolute path, over HTTP or as an entry of a batch.
    pub(super) fn call(&self, line: Line, headers: HeaderMap, body: Bytes) -> Call {
        let (method, path) = (line.method.clone(), line.path.clone());
        let (method, path) = (method.as_str(), path.as_str());
        let mut call = Call::new(line, headers, body);
        if path == "/oauth2/token" {
            if method == "POST" {
                call.interaction = Interaction::Token;
            }
            return call;
        }
        let Some(rest) = path.strip_prefix(self.path.as_str()) else {
            return call;
        };
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        if let Some(kind) = segments.first().filter(|kind| is_type(kind)) {
            call.kind = Some((*kind).to_owned());
        }
        if let Some(id) = segments.get(1).filter(|id| call.kind.is_some() && is_id(id)) {
            call.id = Some((*id).to_owned());
        }
        let kind = call.kind.is_some();
        let id = call.id.is_some();
        call.interaction = match (method, segments.as_slice()) {
            ("GET", ["metadata"]) => Interaction::Capabilities,
            ("GET", [".well-known", "smart-configuration"]) => {
                call.document = Some("smart-configuration");
                Interaction::Capabilities
            }
            ("GET", []) if call.query.iter().any(|(name, _)| name == "_getpages") => Interaction::NextPage,
            ("POST", []) => Interaction::Batch,
            ("GET", [_]) if kind => Interaction::Search,
            ("POST", [_, "_search"]) if kind => {
                call.query.extend(pairs(&call.body));
                Interaction::Search
            }
            ("GET", [_, "_history"]) if kind => Interaction::TypeHistory,
            ("GET", [_, _]) if id => Interaction::Read,
            ("GET", [_, _, "_history"]) if id => Interaction::InstanceHistory,
            ("GET", ["Subscription", _, "$get-ws-binding-token"]) if id => Interaction::BindingToken,
            ("GET", [_, _, "_history", version]) if id => {
                call.version = Some((*version).to_owned());
                Interaction::VRead
            }
            ("POST", [_]) if kind => Interaction::Create,
            ("PUT", [_]) if kind => Interaction::Update,
            ("PUT", [_, _]) if id => Interaction::Update,
            ("DELETE", [_, _]) if id => Interaction::Delete,
            _ => Interaction::Unknown,
        };
        call
    }
}
