//! The paths of the API, of sign-in and of files.

use axum::body::Bytes;
use axum::http::HeaderMap;

use super::world::World;
use crate::rest::call::{Call, Line, is_id, is_type};
use crate::rest::fault::Interaction;
use crate::rest::search::pairs;

/// Where client credentials are exchanged for a token.
pub(super) const SINGLE_SIGN_ON: &str = "/auth/realms/ema-fhir/protocol/openid-connect/token";
/// Where files are fetched.
pub(super) const FILES: &str = "/synthetic-attachments/";
const FIRMS: &str = "/ema-prod/firm/";
const FHIR: &str = "ema/fhir/v2";
const GRANT: &str = "ema/ws/oauth2/grant";

/// Path of a firm's FHIR base.
pub(super) fn base(firm: &str) -> String {
    format!("{FIRMS}{firm}/{FHIR}")
}

/// Path of a firm's older sign-in.
pub(super) fn grant(firm: &str) -> String {
    format!("{FIRMS}{firm}/{GRANT}")
}

impl World {
    pub(super) fn call(&self, line: Line, headers: HeaderMap, body: Bytes) -> Call {
        let (method, path) = (line.method.clone(), line.path.clone());
        let (method, path) = (method.as_str(), path.as_str());
        let mut call = Call::new(line, headers, body);
        if path == SINGLE_SIGN_ON {
            call.interaction = if method == "POST" { Interaction::Token } else { Interaction::Unknown };
            call.firm = self.client(&call).and_then(|(id, _)| self.firm_of(&id));
            return call;
        }
        if let Some(file) = path.strip_prefix(FILES) {
            call.interaction = if method == "GET" { Interaction::Download } else { Interaction::Unknown };
            call.firm = file.split('/').next().map(str::to_owned);
            return call;
        }
        let Some((firm, rest)) = path.strip_prefix(FIRMS).and_then(|rest| rest.split_once('/')) else {
            return call;
        };
        call.firm = Some(firm.to_owned());
        if rest == GRANT {
            if method == "POST" {
                call.interaction = Interaction::Token;
                call.document = Some(GRANT);
            }
            return call;
        }
        let Some(rest) = rest.strip_prefix(FHIR) else { return call };
        let segments: Vec<String> = rest.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        call.kind = segments.first().filter(|kind| is_type(kind)).cloned();
        call.id = segments.get(1).filter(|id| call.kind.is_some() && is_own_id(id)).cloned();
        let (kind, id) = (call.kind.is_some(), call.id.is_some());
        call.interaction = match (method, segments.len()) {
            ("GET", 1) if segments[0] == "metadata" => Interaction::Capabilities,
            ("GET", 1) if kind && page(&call) > 1 => Interaction::NextPage,
            ("GET", 1) if kind => Interaction::Search,
            ("GET", 2) if id => Interaction::Read,
            ("POST", 1) if kind => Interaction::Create,
            ("PUT", 2) if id => Interaction::Update,
            ("DELETE", 2) if id => Interaction::Delete,
            _ => Interaction::Unknown,
        };
        call
    }
}

/// The page that a search asks for; the first is 1.
pub(super) fn page(call: &Call) -> usize {
    call.value("page").and_then(|page| page.parse().ok()).unwrap_or(1)
}

/// The API's own ids may be of two parts: `file|139977`.
pub(super) fn is_own_id(id: &str) -> bool {
    id.split_once('|').map_or_else(|| is_id(id), |(kind, number)| is_id(kind) && is_id(number))
}

/// An id as it stands in an address.
pub(super) fn escaped(id: &str) -> String {
    id.replace('|', "%7C")
}

/// What percent signs stand for in a segment of a path, where a `+` is a plus.
fn decoded(segment: &str) -> String {
    let text = segment.replace('+', "%2B");
    pairs(text.as_bytes()).into_iter().next().map(|(name, _)| name).unwrap_or_default()
}
