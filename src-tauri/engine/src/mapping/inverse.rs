//! One value -> one FHIR element: what `element` reads, the other way round. An element that is there keeps its kind, its style
//! and everything in it that the value does not say; where two would do, or none, a person decides.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use serde_json::{Map, Value as Json, json};

use super::{Codes, Kind, Refusal, Rule, Unit, canonical::canonical, element::UCUM};
use crate::row::Value;

/// Units of vital signs that UCUM writes as people do (R4 value set "Common UCUM codes for vital signs").
const VITAL_SIGNS: &[&str] =
    &["%", "/min", "Cel", "[degF]", "[in_i]", "[lb_av]", "cm", "g", "kg", "kg/m2", "m2", "mm[Hg]"];

/// Where a value goes.
pub(super) struct Target<'a> {
    /// What is there now; `None` for a place that was just made.
    pub(super) element: Option<&'a Json>,
    /// The element's name as JSON spells it, choice included.
    pub(super) name: &'a str,
    /// The unit that the field beside it says.
    pub(super) unit: Option<&'a str>,
    pub(super) zone: &'a TimeZone,
}

/// The type to put behind the stem of a choice that is to be made.
pub(super) fn choice(rule: &Rule, value: &Value) -> &'static str {
    match (&rule.kind, value) {
        (Kind::Text, _) => "String",
        (Kind::Number(unit), Value::Number(digits)) if *unit == Unit::none() => match is_whole(digits) {
            true => "Integer",
            false => "Decimal",
        },
        (Kind::Number(_), _) => "Quantity",
        (Kind::Date, _) => "Date",
        (Kind::DateTime(_), _) => "DateTime",
        (Kind::Flag, _) => "Boolean",
        (Kind::Reference, _) => "Reference",
        (Kind::Attachment, _) => "Attachment",
    }
}

/// The element for a value; `value` is not blank and differs from what the element says.
pub(super) fn element(rule: &Rule, value: &Value, target: &Target<'_>) -> Result<Json, Refusal> {
    if let Some(codes) = &rule.codes
        && let Some(coded) = coded(rule, codes, value, target)?
    {
        return Ok(coded);
    }
    match (&rule.kind, value) {
        (Kind::Text, Value::Text(text)) => match target.element {
            None | Some(Json::Null | Json::String(_)) => Ok(json!(text)),
            Some(Json::Number(_)) => digits(text),
            // A concept's text, or what its code is called: the code would still say the old.
            Some(Json::Object(_)) => Err(Refusal::Coded),
            Some(Json::Bool(_) | Json::Array(_)) => Err(Refusal::WrongType),
        },
        (Kind::Number(unit), Value::Number(digits)) => number(unit, digits, target),
        (Kind::Date, Value::Date(day)) => match target.element {
            Some(Json::String(text)) if text.contains('T') => Err(Refusal::MorePrecise),
            _ => Ok(json!(day.to_string())),
        },
        (Kind::DateTime(_), Value::DateTime(time)) => instant(*time, target),
        (Kind::Flag, Value::Flag(flag)) => match target.element {
            None | Some(Json::Null | Json::Bool(_)) => Ok(json!(flag)),
            Some(_) => Err(Refusal::Coded),
        },
        (Kind::Reference, Value::Text(id)) => reference(id, target.element),
        (Kind::Attachment, Value::Text(text)) => attachment(text, target.element),
        _ => Err(Refusal::NotThatType),
    }
}

/// What is left of an element when its value goes: of a quantity or an attachment, what does not say the value. `None`: nothing.
/// A concept goes only where it is the whole answer to something.
pub(super) fn without_value(rule: &Rule, element: &Json, is_answer: bool) -> Result<Option<Json>, Refusal> {
    let members: &[&str] = match (&rule.kind, element) {
        (Kind::Number(_), Json::Object(_)) => &["value", "unit", "system", "code"],
        (Kind::Attachment, Json::Object(_)) => &["data", "contentType", "size", "hash"],
        (Kind::Reference, Json::Object(_)) => &["reference", "type", "display"],
        (Kind::Text, Json::Object(_)) if !is_answer => return Err(Refusal::Coded),
        _ => return Ok(None),
    };
    let Json::Object(element) = element else { return Ok(None) };
    let rest: Map<String, Json> = element
        .iter()
        .filter(|(name, _)| !members.contains(&name.as_str()))
        .map(|(name, member)| (name.clone(), member.clone()))
        .collect();
    Ok((!rest.is_empty()).then_some(Json::Object(rest)))
}

fn is_whole(digits: &str) -> bool {
    !digits.contains('.')
}

/// Decimal digits as a JSON number, each of them kept.
fn digits(text: &str) -> Result<Json, Refusal> {
    let number = super::canonical::number(text.trim()).ok_or(Refusal::WrongType)?;
    serde_json::from_str(&number).map_err(|_| Refusal::WrongType)
}

fn number(unit: &Unit, text: &str, target: &Target<'_>) -> Result<Json, Refusal> {
    let integral = ["Integer", "PositiveInt", "UnsignedInt"].iter().any(|r#type| target.name.ends_with(r#type));
    match target.element {
        Some(Json::Object(quantity)) => {
            let mut quantity = quantity.clone();
            let is_new = !quantity.contains_key("value");
            quantity.insert("value".into(), digits(text)?);
            if is_new && !["code", "unit"].iter().any(|name| quantity.contains_key(*name)) {
                quantity.extend(units(unit, target.unit));
            }
            Ok(Json::Object(quantity))
        }
        Some(Json::String(_)) => Ok(json!(text)),
        Some(Json::Number(_)) if integral && !is_whole(text) => Err(Refusal::WrongType),
        Some(Json::Number(_)) => digits(text),
        None | Some(Json::Null) if integral && !is_whole(text) => Err(Refusal::WrongType),
        None | Some(Json::Null) if target.name.ends_with("Quantity") || *unit != Unit::none() => {
            let mut quantity = Map::from_iter([("value".to_owned(), digits(text)?)]);
            quantity.extend(units(unit, target.unit));
            Ok(Json::Object(quantity))
        }
        None | Some(Json::Null) => digits(text),
        Some(Json::Bool(_) | Json::Array(_)) => Err(Refusal::WrongType),
    }
}

/// How a new quantity says its unit.
fn units(unit: &Unit, beside: Option<&str>) -> Vec<(String, Json)> {
    let said = |name: Option<&str>, code: Option<&str>| {
        let name = name.map(|name| ("unit".to_owned(), json!(name)));
        let code = code.map(|code| [("system".to_owned(), json!(UCUM)), ("code".to_owned(), json!(code))]);
        name.into_iter().chain(code.into_iter().flatten()).collect()
    };
    match (unit, beside) {
        // The first is the code; the next, if any, is how people write it.
        (Unit::OneOf(units), _) => match units.as_slice() {
            [] => Vec::new(),
            [code] if code == Unit::NONE => said(None, Some(code)),
            [code] => said(Some(code), Some(code)),
            [code, name, ..] => said(Some(name), Some(code)),
        },
        (Unit::Beside(_), Some(text)) => said(Some(text), VITAL_SIGNS.contains(&text).then_some(text)),
        // In the chart, none is made up.
        (Unit::Beside(_), None) => Vec::new(),
    }
}

/// The clinic's wall clock as an instant, in the style of the one that was there: UTC or the clinic's offset, or a day alone.
fn instant(time: DateTime, target: &Target<'_>) -> Result<Json, Refusal> {
    let was = target.element.and_then(Json::as_str).unwrap_or_default();
    let is_midnight = time.time() == jiff::civil::Time::midnight();
    if is_midnight && !was.is_empty() && !was.contains('T') {
        return Ok(json!(time.date().to_string()));
    }
    let ambiguous = target.zone.to_ambiguous_timestamp(time);
    let AmbiguousOffset::Unambiguous { offset } = ambiguous.offset() else { return Err(Refusal::NoSuchTime) };
    if was.ends_with('Z') {
        let at = offset.to_timestamp(time).map_err(|_| Refusal::NotADate)?;
        return Ok(json!(format!("{at:.0}")));
    }
    let minutes = offset.seconds() / 60;
    if offset.seconds() % 60 != 0 {
        // Some zones had odd seconds long ago, which FHIR cannot write.
        let at = offset.to_timestamp(time).map_err(|_| Refusal::NotADate)?;
        return Ok(json!(format!("{at:.0}")));
    }
    let (sign, minutes) = if minutes < 0 { ('-', -minutes) } else { ('+', minutes) };
    Ok(json!(format!("{}{sign}{:02}:{:02}", time.strftime("%Y-%m-%dT%H:%M:%S"), minutes / 60, minutes % 60)))
}

/// Another resource of the type that was referred to. What stood beside the old reference was the old one's.
fn reference(id: &str, was: Option<&Json>) -> Result<Json, Refusal> {
    let put = |text: &str| match text.split('/').collect::<Vec<_>>().as_slice() {
        [r#type, _] if !text.contains(':') && !text.starts_with('#') => Ok(json!(format!("{type}/{id}"))),
        _ => Err(Refusal::NoPlace),
    };
    match was {
        Some(Json::String(text)) => put(text),
        Some(Json::Object(was)) if !was.contains_key("identifier") => {
            let mut new = was.clone();
            new.insert("reference".into(), put(was.get("reference").and_then(Json::as_str).unwrap_or_default())?);
            new.shift_remove("display");
            Ok(Json::Object(new))
        }
        _ => Err(Refusal::NoPlace),
    }
}

fn attachment(text: &str, was: Option<&Json>) -> Result<Json, Refusal> {
    let data = json!(STANDARD.encode(text));
    match was {
        Some(Json::String(_)) => Ok(data),
        Some(Json::Object(was)) => {
            let mut new = was.clone();
            let r#type = was.get("contentType").and_then(Json::as_str).unwrap_or("text/plain");
            let r#type = r#type.split(';').next().unwrap_or_default().trim();
            new.insert("contentType".into(), json!(format!("{type}; charset=utf-8")));
            new.insert("data".into(), data);
            // They were the old text's.
            new.shift_remove("size");
            new.shift_remove("hash");
            Ok(Json::Object(new))
        }
        None | Some(Json::Null) => Ok(json!({"contentType": "text/plain; charset=utf-8", "data": data})),
        Some(_) => Err(Refusal::WrongType),
    }
}

/// The code that stands for a value, as the element there writes its codes; `Ok(None)`: the value is to be written as it is.
fn coded(rule: &Rule, codes: &Codes, value: &Value, target: &Target<'_>) -> Result<Option<Json>, Refusal> {
    let means = |text: &String| canonical(rule.r#type(), rule.form, Value::Text(text.clone())) == *value;
    let found: Vec<&str> = codes.map.iter().filter(|(_, text)| means(text)).map(|(code, _)| code.as_str()).collect();
    let one =
        |wanted: &dyn Fn(&str) -> bool| match found.iter().filter(|code| wanted(code)).collect::<Vec<_>>().as_slice() {
            [one] => Ok(Some((**one).to_owned())),
            [] => Ok(None),
            _ => Err(Refusal::Several),
        };
    let boolean = |code: &str| matches!(code, "true" | "false");
    let bare = |code: &str| !code.contains('|') && !boolean(code);
    let none = || if codes.keep_others && found.is_empty() { Ok(None) } else { Err(Refusal::CodeUnknown) };
    match target.element {
        Some(Json::Bool(_)) => Ok(Some(json!(one(&boolean)?.ok_or(Refusal::CodeUnknown)? == "true"))),
        Some(Json::String(_)) => one(&bare)?.map_or_else(none, |code| Ok(Some(json!(code)))),
        Some(Json::Number(_)) => one(&bare)?.map_or_else(none, |code| digits(&code).map(Some)),
        Some(Json::Object(object)) => {
            let mut object = object.clone();
            let coding = match object.get_mut("coding") {
                // Several codings say the same in several systems, and a text says it in words: one alone cannot be changed.
                Some(Json::Array(codings)) if codings.len() == 1 && object_has_no_text(target.element) => {
                    codings[0].as_object_mut().ok_or(Refusal::WrongType)?
                }
                Some(_) => return Err(Refusal::Coded),
                None => &mut object,
            };
            let system = coding.get("system").and_then(Json::as_str).unwrap_or_default().to_owned();
            let of_system = |code: &str| code.rsplit_once('|').is_some_and(|(of, _)| of == system);
            let code = match one(&of_system)? {
                Some(code) => code.rsplit_once('|').map(|(_, code)| code.to_owned()),
                None => one(&bare)?,
            };
            coding.insert("code".into(), json!(code.ok_or(Refusal::CodeUnknown)?));
            coding.shift_remove("display");
            Ok(Some(Json::Object(object)))
        }
        None | Some(Json::Null) if target.name.ends_with("Boolean") => match one(&boolean)? {
            Some(code) => Ok(Some(json!(code == "true"))),
            None => Ok(None),
        },
        None | Some(Json::Null) => one(&bare)?.map_or_else(none, |code| Ok(Some(json!(code)))),
        Some(Json::Array(_)) => Err(Refusal::WrongType),
    }
}

fn object_has_no_text(element: Option<&Json>) -> bool {
    element.is_none_or(|element| element.get("text").is_none())
}

impl Codes {
    /// Whether each text leads back to one code, in each way in which a chart may write codes: as true and false, by one system, or
    /// by the code alone.
    pub(super) fn lead_back(&self) -> bool {
        let way = |code: &str| match code.rsplit_once('|') {
            Some((system, _)) => system.to_owned(),
            None if matches!(code, "true" | "false") => "bool".to_owned(),
            None => String::new(),
        };
        let ways: Vec<(String, &String)> = self.map.iter().map(|(code, text)| (way(code), text)).collect();
        ways.iter().enumerate().all(|(place, one)| !ways[place + 1..].contains(one))
    }
}
