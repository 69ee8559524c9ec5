//! Answers before they become HTTP: status, headers, body; OperationOutcomes; HTTP dates.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::fault::{Canned, RetryAfter};

const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

#[derive(Clone)]
pub struct Reply {
    pub(crate) status: u16,
    headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub(crate) fn fhir(status: u16, body: String) -> Self {
        Self::raw(status, FHIR_JSON, body)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An OperationOutcome whose id is Medplum's for that status (FHIR fact sheet 2.4).
    pub(crate) fn outcome(status: u16, code: &str, text: &str, diagnostics: Option<&str>) -> Self {
        let id = match status {
            200 => "ok",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not-found",
            409 => "conflict",
            410 => "gone",
            412 if code == "multiple-matches" => "multiple-matches",
            412 => "precondition-failed",
            429 => "too-many-requests",
            _ => "simulated",
        };
        let severity = if status < 400 { "information" } else { "error" };
        let mut issue = json!({"severity": severity, "code": code, "details": {"text": text}});
        if let Some(diagnostics) = diagnostics {
            issue["diagnostics"] = json!(diagnostics);
        }
        let body = json!({"resourceType": "OperationOutcome", "id": id, "issue": [issue]});
        Self::fhir(status, body.to_string())
    }

    pub(crate) fn bad_request(code: &str, text: &str) -> Self {
        Self::outcome(400, code, text, None)
    }

    pub(crate) fn not_found() -> Self {
        Self::outcome(404, "not-found", "Not found", None)
    }

    pub(crate) fn unauthorized(expired: bool) -> Self {
        let mut issues = vec![json!({"severity": "error", "code": "login", "details": {"text": "Unauthorized"}})];
        if expired {
            issues.push(json!({"severity": "error", "code": "expired", "details": {"text": "Token expired"}}));
        }
        let body = json!({"resourceType": "OperationOutcome", "id": "unauthorized", "issue": issues});
        let mut reply = Self::fhir(401, body.to_string());
        reply.header("www-authenticate", "Bearer");
        reply
    }

    pub(crate) fn canned(canned: &Canned, now: Timestamp) -> Self {
        match canned {
            Canned::Raw { status, content_type, body } => Self::raw(*status, content_type, body.clone()),
            Canned::Outcome { status: 401, .. } => Self::unauthorized(false),
            Canned::Outcome { status, code, retry_after } => {
                let mut reply = Self::outcome(*status, code, "Injected by the simulator", None);
                reply.retry_after(*retry_after, now);
                reply
            }
        }
    }

    pub(crate) fn header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    pub(crate) fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| *held == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn retry_after(&mut self, retry_after: RetryAfter, now: Timestamp) {
        match retry_after {
            RetryAfter::Absent => {}
            RetryAfter::Seconds(seconds) => self.header("retry-after", seconds.to_string()),
            RetryAfter::HttpDate(seconds) => {
                let at = now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(now);
                self.header("retry-after", http_date(at));
            }
        }
    }

    /// Half of the body, cut where the text allows it.
    pub(crate) fn truncate(&mut self) {
        let mut at = self.body.len() / 2;
        while self.body.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
            at -= 1;
        }
        self.body.truncate(at);
    }

    /// Puts so much white space into the body, behind its first bracket.
    pub(crate) fn swell(&mut self, bytes: usize) {
        let at = self.body.len().min(1);
        self.body.splice(at..at, std::iter::repeat_n(b' ', bytes));
    }

    /// As HTTP. With `cut`, only half of the body comes before the connection fails.
    pub(crate) fn into_response(mut self, cut: bool) -> Response<Body> {
        let length = self.body.len();
        let headers = std::mem::take(&mut self.headers);
        let body = if cut {
            self.truncate();
            let half = axum::body::Bytes::from(self.body);
            let failure = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
            Body::from_stream(futures::stream::iter([Ok(half), Err(failure)]))
        } else {
            Body::from(self.body)
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let held = response.headers_mut();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                held.append(HeaderName::from_static(name), value);
            }
        }
        if cut {
            held.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if length == 0 {
            held.remove(CONTENT_TYPE);
        }
        response
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(at: Timestamp) -> String {
    // Fails only for years that four digits cannot hold.
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}
