//! Which kind of thing a document is, by the categories that the firm has chosen. The outcome is a hint for whoever reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ports::Coding;

/// What a document is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Shows one lesion.
    Solitary,
    /// Shows a rash.
    Widespread,
    /// Text only.
    Note,
    /// Nobody is to read it.
    Ignored,
    /// Of no category that the firm has chosen: a person has to say.
    Unsorted,
}

/// A category as the firm names it: `code`, or `system|code`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chosen {
    system: Option<String>,
    code: String,
}

impl Chosen {
    /// None where there is no code.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // A system is a URI, and the last bar ends it.
        let (system, code) = match text.rsplit_once('|') {
            Some((system, code)) => (Some(system.trim().to_owned()), code.trim()),
            None => (None, text),
        };
        (!code.is_empty()).then(|| Self { system: system.filter(|system| !system.is_empty()), code: code.to_owned() })
    }

    fn is(&self, coding: &Coding) -> bool {
        self.code == coding.code && self.system.as_ref().is_none_or(|system| *system == coding.system)
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            Some(system) => write!(f, "{system}|{}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// What a firm has chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    pub solitary: Vec<Chosen>,
    pub widespread: Vec<Chosen>,
    pub note: Vec<Chosen>,
    pub ignore: Vec<Chosen>,
}

impl Classes {
    /// Where several fit, the first of [`Class`] counts: a document is read once too often rather than never.
    pub fn of(&self, categories: &[Coding]) -> Class {
        let fits = |chosen: &[Chosen]| chosen.iter().any(|chosen| categories.iter().any(|coding| chosen.is(coding)));
        [
            (Class::Solitary, &self.solitary),
            (Class::Widespread, &self.widespread),
            (Class::Note, &self.note),
            (Class::Ignored, &self.ignore),
        ]
        .into_iter()
        .find_map(|(class, chosen)| fits(chosen).then_some(class))
        .unwrap_or(Class::Unsorted)
    }
}

/// What an attachment is, by its MIME type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    Image,
    Text,
    Other,
    /// The list does not say.
    Unknown,
}

impl Content {
    pub fn of(mime: Option<&str>) -> Self {
        let Some(mime) = mime else { return Content::Unknown };
        let mime = mime.trim().to_ascii_lowercase();
        match mime.split('/').next() {
            Some("image") => Content::Image,
            Some("text") => Content::Text,
            _ => Content::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(system: &str, code: &str) -> Coding {
        Coding { system: system.into(), code: code.into() }
    }

    fn chosen(text: &str) -> Vec<Chosen> {
        Chosen::parse(text).into_iter().collect()
    }

    #[test]
    fn a_document_is_what_the_firm_says_its_category_is() {
        let classes = Classes {
            solitary: chosen("lesion"),
            widespread: chosen("urn:firm|rash"),
            note: chosen("http://loinc.org|11506-3"),
            ignore: chosen("Results"),
        };
        assert_eq!(classes.of(&[coding("urn:firm", "lesion")]), Class::Solitary, "a code alone is of any system");
        assert_eq!(classes.of(&[coding("urn:firm", "rash")]), Class::Widespread);
        assert_eq!(classes.of(&[coding("urn:other", "rash")]), Class::Unsorted, "of another system");
        assert_eq!(classes.of(&[coding("http://loinc.org", "11506-3")]), Class::Note);
        assert_eq!(classes.of(&[coding("", "Results")]), Class::Ignored);
        assert_eq!(
            classes.of(&[coding("", "Results"), coding("", "lesion")]),
            Class::Solitary,
            "what is to be read wins"
        );
        assert_eq!(classes.of(&[]), Class::Unsorted);
        assert_eq!(Classes::default().of(&[coding("", "lesion")]), Class::Unsorted);
    }

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for text in ["lesion", "urn:firm|rash"] {
            assert_eq!(Chosen::parse(text).map(|chosen| chosen.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Chosen::parse(" | "), None);
        assert_eq!(Chosen::parse("|lesion").map(|chosen| chosen.to_string()).as_deref(), Some("lesion"));
    }

    #[test]
    fn content_is_told_by_its_type() {
        assert_eq!(Content::of(Some("image/jpeg")), Content::Image);
        assert_eq!(Content::of(Some("TEXT/plain; charset=utf-8")), Content::Text);
        assert_eq!(Content::of(Some("application/pdf")), Content::Other);
        assert_eq!(Content::of(None), Content::Unknown);
    }
}
