//! What an answer that is not the one hoped for means: status, OperationOutcome and quota headers turned into a [`Fault`].
//!
//! Of an OperationOutcome only `issue.severity` and `issue.code` are looked at. `diagnostics` and `details` may quote the
//! patient and are never passed on; the one number taken out of `diagnostics` is Medplum's `msBeforeNext`.

use std::time::Duration;

use engine::{
    error::{Class, Code, Fault},
    ports::Said,
};
use jiff::Timestamp;
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, DATE, ETAG, HeaderMap, RETRY_AFTER},
};
use serde_json::Value as Json;

use super::flavour::Flavour;
use crate::adapters::transport::http_date;

/// The longest wait that a server may impose in one answer; after that it is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A whole answer. Patient data: it cannot be printed.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What was asked, since one status means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// One resource: what is wrong may be wrong with that one only.
    Read,
    /// A type: what is wrong is wrong with the connection.
    Search,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// `Away` / `WebPage` for a web page, which some box on the way has sent, and `Retry` / `BadAnswer` for anything else.
    pub(super) fn json(&self) -> Result<Json, Fault> {
        serde_json::from_slice(&self.body).map_err(|_| self.garbled())
    }

    fn garbled(&self) -> Fault {
        let (class, code, what) = match self.is_html() {
            true => (Class::Away, Code::WebPage, "a web page"),
            false => (Class::Retry, Code::BadAnswer, "not JSON, or not all of it"),
        };
        Fault::new(class, code).vendor(format!("HTTP {}, {what}", self.status.as_u16()))
    }

    pub(super) fn is_html(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.to_ascii_lowercase().contains("html") || self.body.trim_ascii_start().starts_with(b"<")
    }

    /// The server's clock when it answered, to the second.
    pub(super) fn date(&self) -> Option<Timestamp> {
        http_date(self.headers.get(DATE)?.to_str().ok()?)
    }

    /// The version inside `ETag: W/"3"` or `"3"`.
    pub(super) fn entity_tag(&self) -> Option<String> {
        let tag = self.headers.get(ETAG)?.to_str().ok()?;
        let inner = tag.trim().trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"')?;
        (!inner.is_empty()).then(|| inner.to_owned())
    }

    /// Whether the worst issue of its OperationOutcome has this code.
    pub(super) fn says(&self, code: &str) -> bool {
        worst_issue(&self.body).as_deref() == Some(code)
    }

    /// AWS's name of an error, without the namespace that its protocol may put around it.
    fn aws_error(&self) -> Option<&str> {
        let name = self.headers.get("x-amzn-errortype")?.to_str().ok()?;
        name.split(':').next()?.rsplit('#').next()
    }

    /// Whether AWS does not know who signed, or calls the signature wrong.
    pub(super) fn refuses_signature(&self) -> bool {
        let known = ["UnrecognizedClient", "InvalidSignature", "IncompleteSignature", "InvalidClientTokenId"];
        let expired = ["ExpiredToken", "MissingAuthenticationToken", "SignatureDoesNotMatch", "RequestExpired"];
        self.aws_error().is_some_and(|name| known.iter().chain(&expired).any(|word| name.starts_with(word)))
    }

    /// What an answer other than success means.
    pub(super) fn fault(&self, asked: Asked, now: Timestamp) -> Fault {
        let status = self.status.as_u16();
        let outcome = worst_issue(&self.body);
        let code = outcome.as_deref().unwrap_or_default();
        let blame = if asked == Asked::Read { Class::Permanent } else { Class::Stop };
        let (class, meaning) = match status {
            400 | 403 if self.refuses_signature() => (Class::Stop, Code::SignInRefused),
            400 if self.aws_error().is_some_and(|name| name.starts_with("Throttling")) => {
                (Class::Wait(self.wait(now)), Code::Throttled)
            }
            401 => (Class::Stop, Code::SignInRefused),
            408 => (Class::Retry, Code::TimedOut),
            423 | 425 | 429 => (Class::Wait(self.wait(now)), Code::Throttled),
            400..500 if self.is_html() => (Class::Away, Code::WebPage),
            400..500 if code == "throttled" => (Class::Wait(self.wait(now)), Code::Throttled),
            400..500 if is_transient(code) => (Class::Retry, Code::ServerError),
            403 => (blame, Code::AccessDenied),
            400..500 => (blame, Code::Rejected),
            501 | 505 => (Class::Stop, Code::Rejected),
            502..=504 => (Class::Away, Code::ServerError),
            500..600 => (Class::Retry, Code::ServerError),
            // A redirect: the address in the configuration is not the server's own.
            300..400 => (Class::Stop, Code::Rejected),
            _ => (Class::Retry, Code::BadAnswer),
        };
        let separator = if code.is_empty() { "" } else { " " };
        Fault::new(class, meaning).vendor(format!("HTTP {status}{separator}{code}"))
    }

    /// How long a throttled caller has to wait: `Retry-After`, else Medplum's `msBeforeNext`, else the end of the
    /// `RateLimit` window that is used up; `None` where the server does not say.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let said = self.retry_after(now).or_else(|| milliseconds_before_next(&self.body)).or_else(|| {
            let windows = rate_limits(&self.headers);
            let spent = windows.iter().filter(|window| window.left == 0).map(|window| window.reset).max();
            spent.or_else(|| windows.iter().map(|window| window.reset).max())
        })?;
        Some(said.clamp(Duration::from_secs(1), LONGEST_WAIT))
    }

    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        // Both times are the server's, so that a wrong clock on this machine does not matter.
        let left = http_date(text)?.duration_since(self.date().unwrap_or(now));
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }

    /// What it says of the quota.
    pub(super) fn said(&self, flavour: &Flavour, now: Timestamp) -> Said {
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            return Said::Refused { after: self.wait(now), server_time: self.date() };
        }
        let left = |window: &Window| (window.left / flavour.points(&window.name), window.reset);
        let scarcest = rate_limits(&self.headers).iter().map(left).min();
        scarcest.map_or(Said::Nothing, |(requests, reset)| Said::Left { requests, reset })
    }

    /// How long to hold back although this call went through: a quota has no search left in it.
    pub(super) fn hold_back(&self, flavour: &Flavour) -> Option<Duration> {
        let windows = rate_limits(&self.headers);
        let spent = windows.iter().filter(|window| flavour.spent(&window.name, window.left));
        spent.map(|window| window.reset.min(LONGEST_WAIT)).max()
    }
}

/// Issue codes that pass by themselves (hl7.org/fhir/R4/valueset-issue-type.html, "transient" and its children).
fn is_transient(code: &str) -> bool {
    matches!(code, "transient" | "lock-error" | "no-store" | "exception" | "timeout" | "incomplete")
}

/// The code of the worst issue of an OperationOutcome.
fn worst_issue(body: &[u8]) -> Option<String> {
    let outcome: Json = serde_json::from_slice(body).ok()?;
    if outcome["resourceType"] != "OperationOutcome" {
        return None;
    }
    let weight = |issue: &Json| match issue["severity"].as_str() {
        Some("fatal") => 0,
        Some("error") => 1,
        Some("warning") => 2,
        _ => 3,
    };
    let issue = outcome["issue"].as_array()?.iter().min_by_key(|issue| weight(issue))?;
    plain_code(issue["code"].as_str()?)
}

/// A code as it may be shown: what a server sends here could be any text.
pub(super) fn plain_code(text: &str) -> Option<String> {
    let plain =
        (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_');
    plain.then(|| text.to_owned())
}

fn milliseconds_before_next(body: &[u8]) -> Option<Duration> {
    let outcome: Json = serde_json::from_slice(body).ok()?;
    let issues = outcome["issue"].as_array()?;
    issues.iter().find_map(|issue| {
        let details: Json = serde_json::from_str(issue["diagnostics"].as_str()?).ok()?;
        let wait = details["msBeforeNext"].as_f64()?;
        Duration::try_from_secs_f64(wait / 1000.0).ok()
    })
}

/// One quota of a `RateLimit` header.
struct Window {
    name: String,
    left: u64,
    reset: Duration,
}

/// `RateLimit: "requests";r=59999;t=60, "fhirInteractions";r=49894;t=60`, as one header or several (draft of the IETF's
/// httpapi group; Medplum's ratelimit.ts). What cannot be read is left out.
fn rate_limits(headers: &HeaderMap) -> Vec<Window> {
    let lines = headers.get_all("ratelimit").iter().filter_map(|line| line.to_str().ok());
    let windows = lines.flat_map(|line| line.split(',')).filter_map(|window| {
        let mut parts = window.split(';').map(str::trim);
        let name = parts.next()?.trim_matches('"').to_owned();
        let (mut left, mut reset) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("r", number)) => left = number.parse().ok(),
                Some(("t", number)) => reset = number.parse().ok(),
                _ => {}
            }
        }
        Some(Window { name, left: left?, reset: Duration::from_secs(reset?) })
    });
    windows.collect()
}
