//! The path language: where in a resource a value stands.
//!
//! A path is a way that can be walked in both directions, so it has only what a writer could follow too: elements, fixed
//! selectors and an index. `name[use=official].family` is the family name of the official name. It computes nothing.
//!
//! ```text
//! path     = step *( "." step )
//! step     = element *( "[" selector "]" ) [ "[" index "]" ]
//! selector = element "=" [ text ]        ; without text: those that do not have the element
//! ```

use std::{fmt, str::FromStr};

use serde_json::{Map, Value as Json};

/// A parsed path; [`fmt::Display`] writes it so that it parses to the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// An element's name as JSON spells it, or the stem of a choice: `value` stands for `valueQuantity`, `valueString` and so on.
    pub element: String,
    /// Of several, those that pass all selectors.
    pub selectors: Vec<Selector>,
    /// Of those, the one at this place, counted from 0 within its parent.
    pub index: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub element: String,
    /// What the element says, see [`says`]; `None`: it is not there.
    pub is: Option<String>,
}

/// Why a text is not a path. Paths come from the configuration, so they may be quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: expected {expected}; {mend}")]
pub struct PathError {
    /// Counted in characters from 1.
    pub position: usize,
    pub expected: &'static str,
    /// What to do about it.
    pub mend: String,
}

/// No sensible path is longer; a longer one is a paste gone wrong.
const MAX_CHARS: usize = 1000;
/// Above any list in a resource.
const MAX_INDEX: usize = 9999;

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let characters: Vec<char> = text.chars().collect();
        if characters.len() > MAX_CHARS {
            return Err(PathError {
                position: MAX_CHARS + 1,
                expected: "a path of 1000 characters at most",
                mend: "shorten the path".into(),
            });
        }
        let mut parser = Parser { characters: &characters, at: 0 };
        let mut steps = vec![parser.step()?];
        while let Some(character) = parser.peek() {
            match character {
                '.' => {
                    parser.at += 1;
                    steps.push(parser.step()?);
                }
                ' ' => return Err(parser.error("`.`, `[` or the end", "remove the space")),
                '(' => {
                    return Err(parser.error(
                        "`.`, `[` or the end",
                        "functions are not part of a path; choose with a selector such as `[use=official]`",
                    ));
                }
                _ => return Err(parser.error("`.`, `[` or the end", "separate elements with a dot")),
            }
        }
        Ok(Self { steps })
    }
}

struct Parser<'a> {
    characters: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn error(&self, expected: &'static str, mend: impl Into<String>) -> PathError {
        PathError { position: self.at + 1, expected, mend: mend.into() }
    }

    fn name(&mut self) -> Result<String, PathError> {
        const EXPECTED: &str = "the name of an element, such as `family`";
        let start = self.at;
        match self.peek() {
            Some(first) if first.is_ascii_lowercase() => {}
            Some(first) if first.is_ascii_uppercase() && start == 0 => {
                return Err(
                    self.error(EXPECTED, "leave out the resource type: write `name.family`, not `Patient.name.family`")
                );
            }
            Some(_) => return Err(self.error(EXPECTED, "an element begins with a small letter")),
            None => return Err(self.error(EXPECTED, "name the element that holds the value")),
        }
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        Ok(self.characters[start..self.at].iter().collect())
    }

    fn step(&mut self) -> Result<Step, PathError> {
        let mut step = Step { element: self.name()?, selectors: Vec::new(), index: None };
        while self.peek() == Some('[') {
            if step.index.is_some() {
                return Err(self.error("`.` or the end", "put the index behind the selectors"));
            }
            self.at += 1;
            match self.peek() {
                Some(digit) if digit.is_ascii_digit() => step.index = Some(self.index()?),
                Some('x') if self.characters.get(self.at + 1) == Some(&']') => {
                    return Err(self.error("a selector or an index", format!("write `{}` without `[x]`", step.element)));
                }
                _ => {
                    let selector = self.selector()?;
                    step.selectors.push(selector);
                }
            }
            if self.peek() != Some(']') {
                return Err(self.error("`]`", "close the bracket"));
            }
            self.at += 1;
        }
        Ok(step)
    }

    fn index(&mut self) -> Result<usize, PathError> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.characters[start..self.at].iter().collect();
        digits.parse().ok().filter(|index| *index <= MAX_INDEX).ok_or_else(|| {
            self.at = start;
            self.error("an index from 0 to 9999", "the first is `[0]`")
        })
    }

    fn selector(&mut self) -> Result<Selector, PathError> {
        let element = self.name().map_err(|error| PathError {
            expected: "a selector such as `use=official`, or an index such as `0`",
            ..error
        })?;
        if self.peek() != Some('=') {
            return Err(self.error("`=` and what the element says", format!("write `[{element}=...]`")));
        }
        self.at += 1;
        let start = self.at;
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            return Err(self.error("the text itself", format!("leave out the {quote}; everything up to `]` counts")));
        }
        while self.peek().is_some_and(|c| c != ']') {
            self.at += 1;
        }
        let text: String = self.characters[start..self.at].iter().collect();
        if text.trim() != text {
            self.at = start;
            return Err(self.error("text without spaces at its ends", "remove them"));
        }
        Ok(Selector { element, is: (!text.is_empty()).then_some(text) })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.steps.iter().enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { "." }, step.element)?;
            for selector in &step.selectors {
                write!(f, "[{}={}]", selector.element, selector.is.as_deref().unwrap_or_default())?;
            }
            if let Some(index) = step.index {
                write!(f, "[{index}]")?;
            }
        }
        Ok(())
    }
}

impl Path {
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every element that the path leads to and that says something: not null, not empty, not white space only.
    pub fn read<'a>(&self, resource: &'a Json) -> Vec<&'a Json> {
        self.places(resource).into_iter().map(|(_, element)| element).collect()
    }

    /// The same, each with its place: a JSON pointer (RFC 6901; element names need no escapes).
    pub(super) fn places<'a>(&self, resource: &'a Json) -> Vec<(String, &'a Json)> {
        let mut nodes = vec![(String::new(), resource)];
        for step in &self.steps {
            nodes = nodes.iter().flat_map(|(place, node)| step.places(place, node)).collect();
        }
        nodes.retain(|(_, node)| !is_silent(node));
        nodes
    }
}

impl Step {
    /// What the step leads to from a node, whether or not it says anything.
    pub(super) fn places<'a>(&self, place: &str, node: &'a Json) -> Vec<(String, &'a Json)> {
        let Json::Object(node) = node else { return Vec::new() };
        let mut found = Vec::new();
        if self.element == "item" && self.selectors.iter().any(|selector| selector.element == "linkId") {
            self.form_items(place, node, &mut found);
        } else {
            for (name, element) in elements(node, &self.element) {
                match element {
                    Json::Array(items) => {
                        let items = items.iter().enumerate().filter(|(_, item)| self.selects(item));
                        found.extend(items.map(|(number, item)| (format!("{place}/{name}/{number}"), item)));
                    }
                    element if self.selects(element) => found.push((format!("{place}/{name}"), element)),
                    _ => {}
                }
            }
        }
        match self.index {
            Some(index) if index < found.len() => vec![found.swap_remove(index)],
            Some(_) => Vec::new(),
            None => found,
        }
    }

    fn selects(&self, node: &Json) -> bool {
        self.selectors.iter().all(|selector| match (node, &selector.is) {
            (Json::Object(node), Some(text)) => {
                elements(node, &selector.element).any(|(_, element)| says(element, text))
            }
            (Json::Object(node), None) => elements(node, &selector.element).all(|(_, element)| is_silent(element)),
            _ => false,
        })
    }

    /// A `linkId` is unique in its form, and whether a question stands in a group is the form's business: items are found at
    /// any depth, in groups and below answers, but not inside an item already found.
    fn form_items<'a>(&self, place: &str, node: &'a Map<String, Json>, found: &mut Vec<(String, &'a Json)>) {
        for (number, item) in list(node.get("item")).iter().enumerate() {
            let place = format!("{place}/item/{number}");
            if self.selects(item) {
                found.push((place, item));
            } else if let Json::Object(item) = item {
                self.form_items(&place, item, found);
                for (number, answer) in list(item.get("answer")).iter().enumerate() {
                    if let Json::Object(answer) = answer {
                        self.form_items(&format!("{place}/answer/{number}"), answer, found);
                    }
                }
            }
        }
    }
}

fn list(element: Option<&Json>) -> &[Json] {
    element.and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The element of this name or, if there is none, every choice of this stem; each with its own name.
fn elements<'a>(node: &'a Map<String, Json>, name: &str) -> impl Iterator<Item = (&'a String, &'a Json)> {
    let exact = node.get_key_value(name);
    let choices = node.iter().filter(move |(key, _)| {
        exact.is_none() && key.strip_prefix(name).is_some_and(|r#type| CHOICES.binary_search(&r#type).is_ok())
    });
    exact.into_iter().chain(choices)
}

/// The types that a choice element can have (FHIR R4, "Open Type Element" and the choices in resources), sorted.
const CHOICES: &[&str] = &[
    "Address",
    "Age",
    "Annotation",
    "Attachment",
    "Base64Binary",
    "Boolean",
    "Canonical",
    "Code",
    "CodeableConcept",
    "Coding",
    "ContactPoint",
    "Count",
    "Date",
    "DateTime",
    "Decimal",
    "Distance",
    "Duration",
    "HumanName",
    "Id",
    "Identifier",
    "Instant",
    "Integer",
    "Markdown",
    "Money",
    "Oid",
    "Period",
    "PositiveInt",
    "Quantity",
    "Range",
    "Ratio",
    "Reference",
    "SampledData",
    "Signature",
    "String",
    "Time",
    "Timing",
    "UnsignedInt",
    "Uri",
    "Url",
    "Uuid",
];

pub(super) fn is_silent(node: &Json) -> bool {
    match node {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Whether an element says this: a plain value is the text; a coding has the code, or is `system|code`; a concept has such a
/// coding; of a list, one says so.
pub(super) fn says(element: &Json, text: &str) -> bool {
    match element {
        Json::String(value) => value == text,
        Json::Bool(value) => value.to_string() == text,
        Json::Number(value) => value.as_str() == text,
        Json::Array(items) => items.iter().any(|item| says(item, text)),
        Json::Object(members) => match members.get("coding") {
            Some(codings) => says(codings, text),
            None => match (members.get("code").and_then(Json::as_str), text.rsplit_once('|')) {
                (Some(code), Some((system, wanted))) => {
                    code == wanted && members.get("system").and_then(Json::as_str) == Some(system)
                }
                (Some(code), None) => code == text,
                (None, _) => false,
            },
        },
        Json::Null => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_place_and_the_mend() {
        for (text, position, part) in [
            ("", 1, "name the element"),
            ("Patient.name", 1, "leave out the resource type"),
            ("name.Family", 6, "small letter"),
            ("name..family", 6, "small letter"),
            ("name.", 6, "name the element"),
            ("name[use]", 9, "write `[use=...]`"),
            ("name[use=official", 18, "close the bracket"),
            ("name[use='official']", 10, "leave out the '"),
            ("name[use= official]", 10, "remove them"),
            ("name[0][use=official]", 8, "behind the selectors"),
            ("name[99999]", 6, "the first is `[0]`"),
            ("name[]", 6, "small letter"),
            ("value[x]", 7, "write `value` without `[x]`"),
            ("name.first()", 11, "functions are not part"),
            ("name family", 5, "remove the space"),
            ("name-family", 5, "dot"),
        ] {
            let error = text.parse::<Path>().expect_err(text);
            assert_eq!(error.position, position, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        assert!("a".repeat(MAX_CHARS + 1).parse::<Path>().is_err());
    }

    #[test]
    fn a_path_reads_as_it_is_written() {
        for text in [
            "birthDate",
            "name[use=official].given[0]",
            "telecom[system=phone][use=].value",
            "component[code=http://loinc.org|8480-6].value",
            "extension[url=http://hl7.org/fhir/us/core/StructureDefinition/us-core-race].extension[url=text].value",
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn choices_are_sorted_for_the_search() {
        assert!(CHOICES.is_sorted());
    }

    #[test]
    fn a_path_leads_to_what_says_something() {
        let resource = json!({
            "name": [
                {"use": "old", "family": "Was-Testpatient", "given": ["Old"]},
                {"use": "official", "family": "Testpatient", "given": ["Ada", null, " "]},
                {"family": "Plain"}
            ],
            "identifier": [{"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}],
            "component": [
                {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": 120}},
                {"code": {"coding": [{"system": "urn:other", "code": "8462-4"}]}, "valueQuantity": {"value": 80}}
            ],
            "extension": [{"url": "urn:x", "valueString": "found"}, {"url": "urn:y", "valueBoolean": true}],
            "item": [
                {"linkId": "group", "item": [
                    {"linkId": "deep", "answer": [{"valueInteger": 3, "item": [{"linkId": "deeper", "answer": [{"valueDate": "2024"}]}]}]}
                ]},
                {"linkId": "unanswered"}
            ],
            "pair": {"value": "exact", "valueCode": "choice"},
            "valueCode": "x", "valueSet": "not a choice", "active": false
        });
        for (path, expected) in [
            ("name.family", json!(["Was-Testpatient", "Testpatient", "Plain"])),
            ("name[use=official].family", json!(["Testpatient"])),
            ("name[use=].family", json!(["Plain"])),
            ("name[use=official].given", json!(["Ada"])),
            ("name[use=official].given[1]", json!([])),
            ("name[1].family", json!(["Testpatient"])),
            ("name[7].family", json!([])),
            ("identifier[system=urn:b].value", json!(["2"])),
            ("component[code=8480-6].value.value", json!([120])),
            ("component[code=http://loinc.org|8480-6].value.value", json!([120])),
            ("component[code=http://loinc.org|8462-4].value.value", json!([])),
            ("extension[url=urn:x].value", json!(["found"])),
            ("extension[value=true].url", json!(["urn:y"])),
            ("item[linkId=deep].answer.value", json!([3])),
            ("item[linkId=deeper].answer.value", json!(["2024"])),
            ("item[linkId=unanswered].answer.value", json!([])),
            ("value", json!(["x"])),
            ("pair.value", json!(["exact"])),
            ("active", json!([false])),
            ("absent.further", json!([])),
        ] {
            let found: Vec<Json> = path.parse::<Path>().unwrap().read(&resource).into_iter().cloned().collect();
            assert_eq!(Json::Array(found), expected, "{path}");
        }
    }
}
