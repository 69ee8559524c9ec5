//! One request as it came in: route, names from the path, parameters, body.
//!
//! Facts: sheet sections 1, 3-6. Routes and verbs [DOC]; `v1`, `v2`, `vLatest` [DOC]; unknown path 404 with HTML, known path with
//! another verb 1704 [DOC/LIVE]; `%2F` in a name never reaches the engine [LIVE], switchable; `+` is not a space [DOC].
//! Container routes are not simulated.

use serde_json::Value as Json;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    ProductInfo,
    Databases,
    Login,
    Logout,
    ValidateSession,
    Layouts,
    LayoutMetadata,
    Scripts,
    RunScript,
    Globals,
    Create,
    Get,
    Range,
    Edit,
    Duplicate,
    Delete,
    Find,
    /// A known path with a verb it does not take.
    WrongVerb,
    Unknown,
}

impl Route {
    /// Changes records.
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Edit | Self::Duplicate | Self::Delete)
    }

    pub(super) fn needs_token(self) -> bool {
        !matches!(
            self,
            Self::ProductInfo | Self::Databases | Self::Login | Self::Logout | Self::WrongVerb | Self::Unknown
        )
    }
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Nothing,
    Json(Json),
    /// Bytes that are no JSON.
    Broken,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) route: Route,
    pub(super) verb: String,
    pub(super) file: String,
    pub(super) layout: String,
    /// As it stands in the path; a number or not.
    pub(super) record: Option<String>,
    /// Token of a logout, or name of a script.
    pub(super) tail: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) authorization: Option<String>,
    pub(super) json_type: bool,
    pub(super) body: Body,
}

impl Call {
    pub(super) fn read(
        verb: &str,
        path: &str,
        query: Option<&str>,
        authorization: Option<&str>,
        content_type: Option<&str>,
        body: &[u8],
        slashes_in_names: bool,
    ) -> Self {
        let names: Option<Vec<String>> = path.split('/').skip(1).map(decoded).collect();
        let mut call = Self {
            route: Route::Unknown,
            verb: verb.to_owned(),
            file: String::new(),
            layout: String::new(),
            record: None,
            tail: String::new(),
            query: query
                .unwrap_or_default()
                .split('&')
                .filter(|pair| !pair.is_empty())
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decoded(name)?, decoded(value)?))
                })
                .collect(),
            authorization: authorization.map(str::to_owned),
            json_type: content_type
                .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json")),
            body: match body {
                [] => Body::Nothing,
                bytes => serde_json::from_slice(bytes).map_or(Body::Broken, Body::Json),
            },
        };
        let names = match names {
            Some(names) if slashes_in_names || !names.iter().any(|name| name.contains('/')) => names,
            _ => return call,
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let ["fmi", "data", "v1" | "v2" | "vLatest", rest @ ..] = names.as_slice() {
            call.follow(rest);
        }
        call
    }

    fn follow(&mut self, rest: &[&str]) {
        let by_verb = |verbs: &[(&str, Route)]| {
            verbs.iter().find(|(verb, _)| *verb == self.verb).map_or(Route::WrongVerb, |(_, route)| *route)
        };
        self.route = match rest {
            ["productInfo"] => by_verb(&[("GET", Route::ProductInfo)]),
            ["validateSession"] => by_verb(&[("GET", Route::ValidateSession)]),
            ["databases"] => by_verb(&[("GET", Route::Databases)]),
            ["databases", _, "sessions"] => by_verb(&[("POST", Route::Login)]),
            ["databases", _, "sessions", _] => by_verb(&[("DELETE", Route::Logout)]),
            ["databases", _, "globals"] => by_verb(&[("PATCH", Route::Globals)]),
            ["databases", _, "scripts"] => by_verb(&[("GET", Route::Scripts)]),
            ["databases", _, "layouts"] => by_verb(&[("GET", Route::Layouts)]),
            ["databases", _, "layouts", _] => by_verb(&[("GET", Route::LayoutMetadata)]),
            ["databases", _, "layouts", _, "_find"] => by_verb(&[("POST", Route::Find)]),
            ["databases", _, "layouts", _, "script", _] => by_verb(&[("GET", Route::RunScript)]),
            ["databases", _, "layouts", _, "records"] => by_verb(&[("GET", Route::Range), ("POST", Route::Create)]),
            ["databases", _, "layouts", _, "records", _] => by_verb(&[
                ("GET", Route::Get),
                ("PATCH", Route::Edit),
                ("POST", Route::Duplicate),
                ("DELETE", Route::Delete),
            ]),
            _ => Route::Unknown,
        };
        let name = |at: usize| rest.get(at).map(|name| (*name).to_owned());
        self.file = name(1).unwrap_or_default();
        match rest.get(2) {
            Some(&"layouts") => {
                self.layout = name(3).unwrap_or_default();
                match rest.get(4) {
                    Some(&"records") => self.record = name(5),
                    Some(&"script") => self.tail = name(5).unwrap_or_default(),
                    _ => {}
                }
            }
            Some(&"sessions") => self.tail = name(3).unwrap_or_default(),
            _ => {}
        }
    }

    /// The record number of the path. `None` if there is none or it is no number.
    pub(super) fn record_id(&self) -> Option<u64> {
        self.record.as_ref().and_then(|id| id.parse().ok())
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization.as_deref().and_then(|header| header.strip_prefix("Bearer ")).map(str::trim)
    }
}

/// Percent-decoding; `None` for what is no UTF-8 afterwards.
fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}
