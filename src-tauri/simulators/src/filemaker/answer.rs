//! Codes, their texts and their HTTP status, and the envelope every answer comes in.
//!
//! Facts: sheet sections 2, 8. Envelope with string codes [CAP/DOC]; texts from the vendor's code page by way of a public
//! client's table [SRC]; HTTP status: blanket rule 500 = FileMaker error, 401 and 400 as listed [DOC], which code goes
//! with which status was never captured, so the table can be overridden per code ([`Statuses`]) [GEN].

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// A refusal by its FileMaker code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: u32,
    /// Replaces the code's usual text where the server says more (code 960).
    pub detail: Option<String>,
}

impl Refused {
    pub(super) fn with(code: u32, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    pub(super) fn message(&self) -> &str {
        self.detail.as_deref().unwrap_or_else(|| text(self.code))
    }
}

impl From<u32> for Refused {
    fn from(code: u32) -> Self {
        Self { code, detail: None }
    }
}

/// HTTP status per FileMaker code: the default rule, with overrides.
#[derive(Debug, Clone, Default)]
pub(super) struct Statuses(BTreeMap<u32, u16>);

impl Statuses {
    pub(super) fn set(&mut self, code: u32, status: u16) {
        self.0.insert(code, status);
    }

    pub(super) fn of(&self, code: u32) -> u16 {
        if let Some(status) = self.0.get(&code) {
            return *status;
        }
        match code {
            0 => 200,
            10 | 212 | 214 | 952 | 1702 | 1705 => 401,
            955 | 957 | 958 | 960 | 1706..=1708 | 1710 => 400,
            1700 => 404,
            1704 => 405,
            _ => 500,
        }
    }
}

/// What goes back on the line.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) code: Option<u32>,
    pub(super) content_type: &'static str,
    pub(super) token: Option<String>,
    pub(super) body: Vec<u8>,
}

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html";

impl Reply {
    fn envelope(status: u16, code: u32, message: &str, response: &Json) -> Self {
        let body = json!({"response": response, "messages": [{"code": code.to_string(), "message": message}]});
        Self { status, code: Some(code), content_type: JSON, token: None, body: body.to_string().into_bytes() }
    }

    pub(super) fn of(result: Result<Json, Refused>, statuses: &Statuses) -> Self {
        match result {
            Ok(response) => Self::envelope(200, 0, "OK", &response),
            Err(refused) => Self::envelope(statuses.of(refused.code), refused.code, refused.message(), &json!({})),
        }
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn html(status: u16, title: &str) -> Self {
        let body = format!("<html><head><title>{status} {title}</title></head><body><h1>{title}</h1></body></html>");
        Self { status, code: None, content_type: HTML, token: None, body: body.into_bytes() }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, code: None, content_type: HTML, token: None, body: Vec::new() }
    }

    /// Half of a good answer, as when a proxy gives up in the middle of it.
    pub(super) fn truncated(mut self) -> Self {
        self.body.truncate(self.body.len() / 2);
        self
    }
}

/// The usual English text of a code.
pub(super) fn text(code: u32) -> &'static str {
    match code {
        0 => "OK",
        3 => "Command is unavailable",
        8 => "Empty result",
        9 => "Insufficient privileges",
        10 => "HTTP Authorization header or OAuth headers are missing.",
        16 => "Operation failed; request retry",
        100 => "File is missing",
        101 => "Record is missing",
        102 => "Field is missing",
        103 => "Relationship is missing",
        104 => "Script is missing",
        105 => "Layout is missing",
        106 => "Table is missing",
        110 => "Related tables are missing",
        111 => "Field repetition is invalid",
        112 => "Window is missing",
        200 => "Record access is denied",
        201 => "Field cannot be modified",
        202 => "Field access is denied",
        204 => "No access to field(s) in sort order",
        210 => "User account is inactive",
        211 => "Password has expired",
        212 => "Invalid user account and/or password; please try again",
        214 => "Too many login attempts, account locked out",
        300 => "File is locked or in use",
        301 => "Record is in use by another user",
        302 => "Table is in use by another user",
        303 => "Database schema is in use by another user",
        304 => "Layout is in use by another user",
        306 => "Record modification ID does not match",
        307 => "Transaction could not be locked because of a communication error with the host",
        400 => "Find criteria are empty",
        401 => "No records match the request",
        404 => "Sort order is invalid",
        500 => "Date value does not meet validation entry options",
        501 => "Time value does not meet validation entry options",
        502 => "Number value does not meet validation entry options",
        503 => "Value in field is not within the range specified in validation entry options",
        504 => "Value in field is not unique, as required in validation entry options",
        505 => "Value in field is not an existing value in the file, as required in validation entry options",
        506 => "Value in field is not listed in the value list specified in validation entry option",
        507 => "Value in field failed calculation test of validation entry option",
        508 => "Invalid value entered in Find mode",
        509 => "Field requires a valid value",
        510 => "Related value is empty or unavailable",
        511 => "Value in field exceeds maximum field size",
        512 => "Record was already modified by another user",
        513 => "No validation was specified but data cannot fit into the field",
        802 => "Unable to open the file",
        803 => "File is single user, or host cannot be found",
        804 => "File cannot be opened as read-only in its current state",
        805 => "File is damaged; use Recover command",
        809 => "Disk is full",
        812 => "Exceeded host's capacity",
        813 => "Record synchronization error on network",
        820 => "File is in the process of being closed",
        821 => "Host forced a disconnect",
        825 => "File is not authorized to reference the protected file",
        870 => "File is being modified by another user",
        951 => "Unexpected error",
        952 => "Invalid FileMaker Data API token (*)",
        953 => "Exceeded limit on data the FileMaker Data API and OData can transmit",
        955 => "Database name is missing",
        956 => "Maximum number of database or Admin API sessions exceeded",
        957 => "Conflicting commands",
        958 => "Parameter missing",
        959 => "Custom Web Publishing technology is disabled",
        960 => "Parameter is invalid",
        1700 => "Resource doesn't exist",
        1701 => "Host is currently unable to receive requests",
        1702 => "Authentication information wasn't provided in the correct format",
        1704 => "Resource doesn't support the specified HTTP verb",
        1705 => "Required HTTP header wasn't specified",
        1706 => "Parameter isn't supported",
        1707 => "Required parameter wasn't specified in the request",
        1708 => "Parameter value is invalid",
        1710 => "JSON data is invalid",
        1711 => "License has expired",
        _ => "Unknown error",
    }
}
