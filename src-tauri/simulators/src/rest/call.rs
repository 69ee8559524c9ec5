//! A request, taken apart.

use axum::body::Bytes;
use axum::http::HeaderMap;

use super::fault::Interaction;
use super::search::pairs;

/// A call. Which interaction it is, each server says by its own paths.
pub struct Call {
    pub(crate) interaction: Interaction,
    pub(crate) kind: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) version: Option<String>,
    /// Whose part of the server it is about, where it serves several firms.
    pub(crate) firm: Option<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The last part of the path where several documents share an interaction.
    pub(crate) document: Option<&'static str>,
    /// As it was sent, for what is signed.
    pub(crate) line: Line,
}

/// The first line of the request, as it was sent.
#[derive(Clone, Default)]
pub struct Line {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
}

impl Call {
    /// A call of which only the line is understood.
    pub(crate) fn new(line: Line, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            interaction: Interaction::Unknown,
            kind: None,
            id: None,
            version: None,
            firm: None,
            query: pairs(line.query.as_bytes()),
            headers,
            body,
            document: None,
            line,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a header that lists words, such as `Prefer`, has this one.
    pub(crate) fn prefers(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| value.split([',', ';']).any(|part| part.trim() == word))
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

/// Any name that looks like a resource type: the servers know no list of them.
pub(crate) fn is_type(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// hl7.org/fhir/R4/datatypes.html#id: letters, digits, `-` and `.`, 1 to 64 of them.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.'))
}
