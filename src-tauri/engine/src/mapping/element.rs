//! One FHIR element -> one value, or the reason why not. Nothing is guessed and nothing is rounded: what cannot be carried over
//! with its whole meaning goes to a person.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use serde_json::{Map, Value as Json};

use super::{
    Codes, DayOnly, Kind, Refusal, Unit,
    canonical::{self, Form},
};
use crate::{
    key::{ResourceId, ResourceType},
    row::{FieldType, Value},
};

/// UCUM, in which FHIR codes units (R4 datatypes, Quantity).
pub(super) const UCUM: &str = "http://unitsofmeasure.org";

/// What an element says. `value` is absent where the element is there and says nothing.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) value: Option<Value>,
    /// The spellings under which a quantity names its unit; empty for any other element.
    pub(super) units: Vec<String>,
}

impl Said {
    fn new(value: Option<Value>) -> Self {
        Self { value, units: Vec::new() }
    }
}

pub(super) struct Reader<'a> {
    pub(super) kind: &'a Kind,
    pub(super) codes: Option<&'a Codes>,
    pub(super) form: Form,
    pub(super) zone: &'a TimeZone,
    pub(super) bases: &'a [String],
}

impl Reader<'_> {
    pub(super) fn read(&self, element: &Json) -> Result<Said, Refusal> {
        if let Some(codes) = self.codes
            && let Some(text) = translated(element, codes)?
        {
            return self.plain(&Json::String(text), true).map(Said::new);
        }
        match (self.kind, element) {
            (Kind::Number(unit), Json::Object(quantity)) => self.quantity(quantity, unit),
            _ => self.plain(element, false).map(Said::new),
        }
    }

    fn plain(&self, element: &Json, ours: bool) -> Result<Option<Value>, Refusal> {
        let value = match self.kind {
            Kind::Text => Value::Text(text(element)?.to_owned()),
            Kind::Number(unit) => {
                let digits = match element {
                    Json::Number(number) => number.as_str(),
                    Json::String(text) => text.trim(),
                    _ => return Err(Refusal::WrongType),
                };
                if !ours && matches!(unit, Unit::OneOf(units) if !units.iter().any(|unit| unit == Unit::NONE)) {
                    return Err(Refusal::UnitDiffers);
                }
                Value::Number(canonical::number(digits).ok_or(Refusal::NotANumber)?)
            }
            Kind::Date => Value::Date(match moment(string(element)?)? {
                Moment::Day(day) => day,
                Moment::Instant(instant) => instant.to_zoned(self.zone.clone()).date(),
            }),
            Kind::DateTime(day_only) => Value::DateTime(match (moment(string(element)?)?, day_only) {
                (Moment::Instant(instant), _) => instant.to_zoned(self.zone.clone()).datetime(),
                (Moment::Day(day), DayOnly::Midnight) => day.to_datetime(Time::midnight()),
                (Moment::Day(_), DayOnly::Refuse) => return Err(Refusal::PartialDate),
            }),
            Kind::Flag => match element {
                Json::Bool(flag) => Value::Flag(*flag),
                Json::String(text) if ours && matches!(text.as_str(), "1" | "0") => Value::Flag(text == "1"),
                _ => return Err(Refusal::WrongType),
            },
            Kind::Reference => match reference(element, self.bases)? {
                Some((_, id)) => Value::Text(id.to_string()),
                None => return Ok(None),
            },
            Kind::Attachment => match attachment(element)? {
                Some(text) => Value::Text(text),
                None => return Ok(None),
            },
        };
        Ok(match canonical::canonical(self.kind.field_type(), self.form, value) {
            Value::Blank => None,
            value => Some(value),
        })
    }

    fn quantity(&self, quantity: &Map<String, Json>, unit: &Unit) -> Result<Said, Refusal> {
        let value = match quantity.get("value") {
            Some(Json::Number(value)) => value,
            // A quantity may say why it has no value, or carry only its unit.
            None if !quantity.contains_key("coding") => return Ok(Said::default()),
            _ => return Err(Refusal::WrongType),
        };
        if quantity.contains_key("comparator") {
            return Err(Refusal::Comparator);
        }
        let member = |name: &str| quantity.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        let (system, code, name) = (member("system"), member("code"), member("unit"));
        let said: Vec<&str> = match (system, code, name) {
            // The code is exact; the name beside it is for people and may say anything.
            (Some(UCUM), Some(code), _) => vec![code],
            (_, None, None) => vec![Unit::NONE],
            (_, code, name) => code.into_iter().chain(name).collect(),
        };
        if let Unit::OneOf(units) = unit
            && !units.iter().any(|unit| said.contains(&unit.as_str()))
        {
            return Err(Refusal::UnitDiffers);
        }
        let digits = canonical::number(value.as_str()).ok_or(Refusal::NotANumber)?;
        let units =
            if said == [Unit::NONE] { Vec::new() } else { code.into_iter().chain(name).map(str::to_owned).collect() };
        Ok(Said { value: Some(Value::Number(digits)), units })
    }
}

/// The field's text for a code; `None` where the code is to be kept as it is.
fn translated(element: &Json, codes: &Codes) -> Result<Option<String>, Refusal> {
    let mut found: Vec<&String> = match element {
        Json::String(code) => codes.map.get(code.trim()).into_iter().collect(),
        Json::Bool(flag) => codes.map.get(&flag.to_string()).into_iter().collect(),
        Json::Number(number) => codes.map.get(number.as_str()).into_iter().collect(),
        Json::Object(object) => match object.get("coding") {
            Some(Json::Array(codings)) => {
                codings.iter().filter_map(Json::as_object).filter_map(|coding| coded(coding, codes)).collect()
            }
            _ => coded(object, codes).into_iter().collect(),
        },
        Json::Null | Json::Array(_) => return Err(Refusal::WrongType),
    };
    found.sort();
    found.dedup();
    match (found.as_slice(), codes.keep_others) {
        ([one], _) => Ok(Some((*one).clone())),
        ([], true) => Ok(None),
        ([], false) => Err(Refusal::CodeUnknown),
        _ => Err(Refusal::Several),
    }
}

/// `system|code` in the list goes before the code alone.
fn coded<'a>(coding: &Map<String, Json>, codes: &'a Codes) -> Option<&'a String> {
    let code = coding.get("code")?.as_str()?;
    let system = coding.get("system").and_then(Json::as_str).unwrap_or_default();
    codes.map.get(&format!("{system}|{code}")).or_else(|| codes.map.get(code))
}

fn string(element: &Json) -> Result<&str, Refusal> {
    element.as_str().map(str::trim).ok_or(Refusal::WrongType)
}

/// Text as a person reads it: a concept's own text before its codings, a coding's display before its code.
fn text(element: &Json) -> Result<&str, Refusal> {
    match element {
        Json::String(text) => Ok(text),
        Json::Number(number) => Ok(number.as_str()),
        Json::Object(object) => {
            let member = |name: &str| object.get(name).and_then(Json::as_str).filter(|text| !text.trim().is_empty());
            let coding = || match object.get("coding") {
                Some(Json::Array(codings)) => {
                    let chosen = |coding: &&Json| coding.get("userSelected") == Some(&Json::Bool(true));
                    codings.iter().find(chosen).or(codings.first()).and_then(|coding| text(coding).ok())
                }
                _ => None,
            };
            // A quantity has a code too, but its code is only the unit.
            let code = || member("code").filter(|_| !object.contains_key("value"));
            member("text").or_else(coding).or_else(|| member("display")).or_else(code).ok_or(Refusal::WrongType)
        }
        Json::Null | Json::Bool(_) | Json::Array(_) => Err(Refusal::WrongType),
    }
}

enum Moment {
    Day(Date),
    Instant(Timestamp),
}

/// A FHIR `date`, `dateTime` or `instant` (R4 datatypes): `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, or with a time and then a zone.
fn moment(text: &str) -> Result<Moment, Refusal> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let (day, time) = text.split_once('T').map_or((text, None), |(day, time)| (day, Some(time)));
    let parts: Vec<&str> = day.split('-').collect();
    match (parts.as_slice(), time) {
        ([year], None) if digits(year, 4) => return Err(Refusal::PartialDate),
        ([year, month], None) if digits(year, 4) && digits(month, 2) => return Err(Refusal::PartialDate),
        ([year, month, day], _) if digits(year, 4) && digits(month, 2) && digits(day, 2) && *year != "0000" => {}
        _ => return Err(Refusal::NotADate),
    }
    let Some(time) = time else { return day.parse().map(Moment::Day).map_err(|_| Refusal::NotADate) };
    if !time.ends_with('Z') && !time.contains(['+', '-']) {
        return Err(Refusal::NoZone);
    }
    text.parse().map(Moment::Instant).map_err(|_| Refusal::NotADate)
}

/// The resource that an element refers to: a `Reference`, or the text of one. `None` where it names nothing. The type is known
/// from the text or, beside a `urn:`, from `Reference.type`.
pub(super) fn reference(
    element: &Json,
    bases: &[String],
) -> Result<Option<(Option<ResourceType>, ResourceId)>, Refusal> {
    let (text, r#type) = match element {
        Json::String(text) => (text.as_str(), None),
        Json::Object(object) => match object.get("reference") {
            Some(Json::String(text)) => (text.as_str(), object.get("type").and_then(Json::as_str)),
            Some(_) => return Err(Refusal::WrongType),
            // Only an identifier or a display: it names somebody, but no resource.
            None if object.contains_key("identifier") || object.contains_key("display") => {
                return Err(Refusal::NoResource);
            }
            None => return Ok(None),
        },
        _ => return Err(Refusal::WrongType),
    };
    let id = |text: &str| ResourceId::new(text).map_err(|_| Refusal::NoResource);
    if let Some(text) = text.strip_prefix("urn:uuid:").or_else(|| text.strip_prefix("urn:oid:")) {
        return Ok(Some((r#type.and_then(|r#type| ResourceType::new(r#type).ok()), id(text)?)));
    }
    let mut segments: Vec<&str> = if text.contains("://") {
        match bases.iter().find_map(|base| text.strip_prefix(base.trim_end_matches('/'))?.strip_prefix('/')) {
            Some(relative) => relative.split('/').collect(),
            // Somebody else's Patient/1 is not our Patient/1.
            None if !bases.is_empty() => return Err(Refusal::Elsewhere),
            None => text.rsplit('/').take(4).collect::<Vec<_>>().into_iter().rev().collect(),
        }
    } else {
        text.split('/').collect()
    };
    if let [.., "_history", _version] = segments.as_slice() {
        segments.truncate(segments.len() - 2);
    }
    match segments.as_slice() {
        [r#type, resource] => {
            Ok(Some((Some(ResourceType::new(*r#type).map_err(|_| Refusal::NoResource)?), id(resource)?)))
        }
        [.., r#type, resource] if text.contains("://") && bases.is_empty() => {
            Ok(Some((Some(ResourceType::new(*r#type).map_err(|_| Refusal::NoResource)?), id(resource)?)))
        }
        _ => Err(Refusal::NoResource),
    }
}

/// Whether an attachment says that it is text, or does not say what it is.
pub(super) fn is_text(attachment: &Json) -> bool {
    match attachment.get("contentType").and_then(Json::as_str) {
        Some(r#type) => matches!(media_type(r#type).as_str(), "text/plain" | "text/markdown"),
        None => true,
    }
}

fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// FHIR allows white space inside base64 and some servers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The text inside an attachment, or inside base64 alone.
fn attachment(element: &Json) -> Result<Option<String>, Refusal> {
    let (data, charset) = match element {
        Json::String(data) => (data, None),
        Json::Object(attachment) => {
            if !is_text(element) {
                return Err(Refusal::NotText);
            }
            let data = match attachment.get("data") {
                Some(Json::String(data)) => data,
                Some(_) => return Err(Refusal::WrongType),
                None if attachment.contains_key("url") => return Err(Refusal::Elsewhere),
                None => return Ok(None),
            };
            let parameters =
                attachment.get("contentType").and_then(Json::as_str).unwrap_or_default().split(';').skip(1);
            let charset = parameters
                .filter_map(|parameter| parameter.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
                .map(|(_, charset)| charset.trim().trim_matches('"').to_ascii_lowercase());
            (data, charset)
        }
        _ => return Err(Refusal::WrongType),
    };
    let packed: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(packed).map_err(|_| Refusal::NotText)?;
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => {
            let text = String::from_utf8(bytes).map_err(|_| Refusal::NotText)?;
            Ok(Some(text.trim_start_matches('\u{feff}').to_owned()))
        }
        // What calls itself Latin-1 is Windows-1252 in practice (WHATWG Encoding Standard, section 4.2).
        Some("iso-8859-1" | "latin1" | "windows-1252" | "cp1252") => {
            Ok(Some(bytes.into_iter().map(windows_1252).collect()))
        }
        Some(_) => Err(Refusal::NotText),
    }
}

fn windows_1252(byte: u8) -> char {
    /// 0x80 to 0x9F (WHATWG Encoding Standard, index windows-1252); the rest is Latin-1.
    const UPPER: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => UPPER[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// The field text that a configured code becomes is checked once, when the configuration is read.
pub fn is_of_type(text: &str, r#type: FieldType) -> bool {
    match r#type {
        FieldType::Text => true,
        FieldType::Number => canonical::number(text).is_some(),
        FieldType::Flag => matches!(text, "1" | "0"),
        FieldType::Date | FieldType::DateTime => false,
    }
}
