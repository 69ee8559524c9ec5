//! Search parameters: what they mean and which resources they choose.
//!
//! Source: hl7.org/fhir/R4/search.html. Known are `_id`, `_lastUpdated`, `identifier`, `subject`, `patient`, `encounter`, the
//! tokens `status`, `code`, `type`, `category`, `_tag`, `birthdate`, `family`, `url` and the result parameters `_sort=[-]_lastUpdated`, `_count`,
//! `_elements`, `_summary=count`, `_total`. Anything else is ignored, as lenient servers do, or refused on
//! `Prefer: handling=strict`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds as _};
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::Value;

use super::store::{Id, Store, Version, each, encounters, identifiers, relative};

/// An instant's reach: from the first bound up to, not including, the second.
type Range = (Timestamp, Timestamp);

enum Criterion {
    Ids(BTreeSet<String>),
    /// One parameter; its values are alternatives.
    LastUpdated(Vec<(Prefix, Range)>),
    Identifier(Vec<Token>),
    Subject(Vec<String>),
    Encounter(Vec<String>),
    Token(&'static str, Vec<Token>),
    /// Whole days.
    Birthdate(Vec<String>),
    /// How a family name begins, in small letters.
    Family(Vec<String>),
    /// Where a subscription sends.
    Endpoint(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

struct Token {
    /// `None`: any system; `Some("")`: none.
    system: Option<String>,
    /// Empty: any value of the system.
    value: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sort {
    /// By id: an order that has nothing to do with time, since none was asked for.
    #[default]
    Unsorted,
    OldestFirst,
    NewestFirst,
}

/// A search, understood.
#[derive(Default)]
pub(crate) struct Query {
    criteria: Vec<Criterion>,
    sort: Sort,
    /// What `_count` asked for.
    pub(crate) count: Option<usize>,
    pub(crate) elements: Option<BTreeSet<String>>,
    pub(crate) count_only: bool,
    pub(crate) total: bool,
    /// Whether what the index is just taking in is shown as it was before.
    pub(crate) strong: bool,
    /// The parameters that were taken into account, for the `self` link.
    pub(crate) used: Vec<(String, String)>,
    /// The names of those that were not.
    pub(crate) ignored: Vec<String>,
}

/// What the server's settings say about reading a search.
pub(crate) struct Reading<'a> {
    pub(crate) now: Timestamp,
    /// Zone of a time that names none.
    pub(crate) offset: Offset,
    /// Parameters that this server does not know, although the standard does.
    pub(crate) unknown: &'a BTreeSet<String>,
}

impl Query {
    /// Reads parameters that have been decoded already.
    ///
    /// # Errors
    /// The name of the parameter whose value cannot be understood (never the value: it may be a patient's).
    pub(crate) fn read(pairs: &[(String, String)], reading: &Reading<'_>) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            if reading.unknown.contains(name) || !query.take(name, value, reading).ok_or_else(|| name.clone())? {
                query.ignored.push(name.clone());
            } else {
                query.used.push((name.clone(), value.clone()));
            }
        }
        Ok(query)
    }

    /// Whether anything chooses among the resources of the type.
    pub(crate) fn chooses(&self) -> bool {
        !self.criteria.is_empty()
    }

    /// `Some(false)` for a parameter that is not known, `None` for a value that cannot be read.
    fn take(&mut self, name: &str, value: &str, reading: &Reading<'_>) -> Option<bool> {
        match name {
            "_id" => self.criteria.push(Criterion::Ids(split(value, ',').into_iter().collect())),
            "_lastUpdated" => {
                let ranges: Option<Vec<_>> = value.split(',').map(|one| prefixed(one, reading)).collect();
                self.criteria.push(Criterion::LastUpdated(ranges?));
            }
            "identifier" => self.criteria.push(Criterion::Identifier(tokens(value))),
            "subject" | "patient" => self.criteria.push(Criterion::Subject(references(value, "Patient"))),
            "encounter" => self.criteria.push(Criterion::Encounter(references(value, "Encounter"))),
            "status" => self.criteria.push(Criterion::Token("status", tokens(value))),
            "code" => self.criteria.push(Criterion::Token("code", tokens(value))),
            "type" => self.criteria.push(Criterion::Token("type", tokens(value))),
            "category" => self.criteria.push(Criterion::Token("category", tokens(value))),
            "_tag" => self.criteria.push(Criterion::Token("_tag", tokens(value))),
            "url" => self.criteria.push(Criterion::Endpoint(unescape(value))),
            "birthdate" => self.criteria.push(Criterion::Birthdate(split(value, ','))),
            "family" => {
                let names = split(value, ',').into_iter().map(|name| name.to_lowercase());
                self.criteria.push(Criterion::Family(names.collect()));
            }
            "_sort" => {
                self.sort = match value {
                    "_lastUpdated" => Sort::OldestFirst,
                    "-_lastUpdated" => Sort::NewestFirst,
                    _ => return Some(false),
                }
            }
            "_count" => {
                let count = value.parse().ok()?;
                self.count = Some(count);
                self.count_only |= count == 0;
            }
            "_elements" => self.elements = Some(value.split(',').map(|one| one.trim().to_owned()).collect()),
            "_summary" if value == "count" => self.count_only = true,
            "_total" => self.total = value == "accurate",
            "_format" | "_pretty" => {}
            _ => return Some(false),
        }
        Some(true)
    }

    /// The ids it chooses, in the order asked for.
    pub(crate) fn find(&self, store: &Store, kind: &str) -> Vec<Id> {
        let mut found: Vec<Arc<Version>> = self
            .candidates(store, kind)
            .iter()
            .filter_map(|id| store.indexed(kind, id, self.strong))
            .filter(|version| self.criteria.iter().all(|criterion| criterion.matches(version)))
            .cloned()
            .collect();
        match self.sort {
            Sort::Unsorted => found.sort_by(|a, b| a.id.cmp(&b.id)),
            Sort::OldestFirst => found.sort_by_key(|version| (version.stamp, version.sequence)),
            Sort::NewestFirst => found.sort_by_key(|version| std::cmp::Reverse((version.stamp, version.sequence))),
        }
        found.dedup_by(|a, b| a.id == b.id);
        found.into_iter().map(|version| Arc::clone(&version.id)).collect()
    }

    /// The narrowest index that every match must be in.
    fn candidates(&self, store: &Store, kind: &str) -> Vec<Id> {
        let mut from = Bound::Unbounded;
        let mut to = Bound::Unbounded;
        for criterion in &self.criteria {
            match criterion {
                Criterion::Ids(ids) => {
                    return ids.iter().map(|id| Arc::from(id.as_str())).collect();
                }
                Criterion::Identifier(tokens) if tokens.iter().all(Token::is_exact) => {
                    let found = tokens.iter().flat_map(|token| {
                        store.by_identifier(kind, token.system.as_deref().unwrap_or_default(), &token.value)
                    });
                    return found.collect();
                }
                Criterion::Subject(references) | Criterion::Encounter(references) => {
                    return references.iter().flat_map(|one| store.by_reference(kind, one)).collect();
                }
                Criterion::LastUpdated(ranges) => {
                    if let [(prefix, range)] = ranges.as_slice() {
                        let (low, high) = prefix.bounds(*range);
                        from = later(from, low);
                        to = earlier(to, high);
                    }
                }
                Criterion::Identifier(_)
                | Criterion::Token(..)
                | Criterion::Birthdate(_)
                | Criterion::Family(_)
                | Criterion::Endpoint(_) => {}
            }
        }
        store.by_time(kind, from, to)
    }
}

impl Criterion {
    fn matches(&self, version: &Version) -> bool {
        let Some(content) = &version.content else {
            return false;
        };
        let resource = &content.value;
        match self {
            Self::Ids(ids) => ids.contains(&*version.id),
            Self::LastUpdated(ranges) => ranges.iter().any(|(prefix, range)| prefix.holds(version.stamp, *range)),
            Self::Identifier(tokens) => {
                let held = identifiers(resource);
                tokens.iter().any(|token| held.iter().any(|(system, value)| token.matches(system, value)))
            }
            Self::Subject(references) => ["subject", "patient"].iter().any(|element| {
                let held = resource[*element]["reference"].as_str().map(relative);
                held.is_some_and(|held| references.contains(&held))
            }),
            Self::Encounter(references) => encounters(resource).iter().any(|held| references.contains(held)),
            Self::Endpoint(endpoint) => resource["channel"]["endpoint"] == endpoint.as_str(),
            Self::Token("type", tokens) if resource["resourceType"] == "Subscription" => {
                any_coding(&resource["channel"]["type"], tokens)
            }
            Self::Token("_tag", tokens) => any_coding(&resource["meta"]["tag"], tokens),
            Self::Token(element, tokens) => any_coding(&resource[*element], tokens),
            Self::Birthdate(days) => {
                resource["birthDate"].as_str().is_some_and(|day| days.iter().any(|one| one == day))
            }
            Self::Family(names) => each(&resource["name"])
                .iter()
                .filter_map(|name| name["family"].as_str().map(str::to_lowercase))
                .any(|family| names.iter().any(|name| family.starts_with(name))),
        }
    }
}

impl Token {
    fn is_exact(&self) -> bool {
        self.system.is_some() && !self.value.is_empty()
    }

    fn matches(&self, system: &str, value: &str) -> bool {
        self.system.as_deref().is_none_or(|wanted| wanted == system) && (self.value.is_empty() || self.value == value)
    }
}

/// Whether a code, Coding or CodeableConcept (or one of a list of them) is among the tokens.
fn any_coding(element: &Value, tokens: &[Token]) -> bool {
    each(element).iter().any(|one| match one {
        Value::String(code) => tokens.iter().any(|token| token.matches("", code)),
        Value::Object(fields) if fields.contains_key("coding") => any_coding(&one["coding"], tokens),
        Value::Object(_) => {
            let (system, code) = (one["system"].as_str(), one["code"].as_str());
            tokens.iter().any(|token| token.matches(system.unwrap_or_default(), code.unwrap_or_default()))
        }
        _ => false,
    })
}

impl Prefix {
    /// Whether a stamp, taken as a point, stands so to the range.
    fn holds(self, stamp: Timestamp, range: Range) -> bool {
        match self {
            Self::Ne => !Self::Eq.holds(stamp, range),
            _ => self.bounds(range).contains(&stamp),
        }
    }

    /// The stretch of time that it admits; for [`Prefix::Ne`], which admits two, everything.
    fn bounds(self, (low, high): Range) -> (Bound<Timestamp>, Bound<Timestamp>) {
        match self {
            Self::Eq | Self::Ap => (Bound::Included(low), Bound::Excluded(high)),
            Self::Ne => (Bound::Unbounded, Bound::Unbounded),
            Self::Gt | Self::Sa => (Bound::Included(high), Bound::Unbounded),
            Self::Lt | Self::Eb => (Bound::Unbounded, Bound::Excluded(low)),
            Self::Ge => (Bound::Included(low), Bound::Unbounded),
            Self::Le => (Bound::Unbounded, Bound::Excluded(high)),
        }
    }
}

fn later(a: Bound<Timestamp>, b: Bound<Timestamp>) -> Bound<Timestamp> {
    match (a, b) {
        (Bound::Included(x), Bound::Included(y)) => Bound::Included(x.max(y)),
        (Bound::Unbounded, other) | (other, _) => other,
    }
}

fn earlier(a: Bound<Timestamp>, b: Bound<Timestamp>) -> Bound<Timestamp> {
    match (a, b) {
        (Bound::Excluded(x), Bound::Excluded(y)) => Bound::Excluded(x.min(y)),
        (Bound::Unbounded, other) | (other, _) => other,
    }
}

fn prefixed(value: &str, reading: &Reading<'_>) -> Option<(Prefix, Range)> {
    let (prefix, date) = match value.get(..2)? {
        "eq" => (Prefix::Eq, &value[2..]),
        "ne" => (Prefix::Ne, &value[2..]),
        "gt" => (Prefix::Gt, &value[2..]),
        "lt" => (Prefix::Lt, &value[2..]),
        "ge" => (Prefix::Ge, &value[2..]),
        "le" => (Prefix::Le, &value[2..]),
        "sa" => (Prefix::Sa, &value[2..]),
        "eb" => (Prefix::Eb, &value[2..]),
        "ap" => (Prefix::Ap, &value[2..]),
        _ => (Prefix::Eq, value),
    };
    let range = range(date, reading.offset)?;
    if prefix != Prefix::Ap {
        return Some((prefix, range));
    }
    // "Approximately" is a tenth of the distance from now to either side.
    let slack: SignedDuration = reading.now.duration_since(range.0).abs() / 10;
    Some((prefix, (range.0.checked_sub(slack).ok()?, range.1.checked_add(slack).ok()?)))
}

/// The reach of a date or time at its own precision: `2026-03` is the whole month, `12:00:00Z` the whole second.
pub(crate) fn range(value: &str, offset: Offset) -> Option<Range> {
    let civil = |date: Date| offset.to_timestamp(date.at(0, 0, 0, 0)).ok();
    let Some((day, time)) = value.split_once('T') else {
        let parts: Option<Vec<i16>> = value.split('-').map(|part| part.parse().ok()).collect();
        let (first, step) = match parts?.as_slice() {
            [year] => (Date::new(*year, 1, 1).ok()?, Span::new().years(1)),
            [year, month] => (Date::new(*year, i8::try_from(*month).ok()?, 1).ok()?, Span::new().months(1)),
            [year, month, day] => {
                let date = Date::new(*year, i8::try_from(*month).ok()?, i8::try_from(*day).ok()?).ok()?;
                (date, Span::new().days(1))
            }
            _ => return None,
        };
        return Some((civil(first)?, civil(first.checked_add(step).ok()?)?));
    };
    let zone_at = time.find(['Z', '+', '-']);
    let (clock, zone) = zone_at.map_or((time, None), |at| (&time[..at], Some(&time[at..])));
    let date: Date = day.parse().ok()?;
    let whole = if clock.len() == 5 { format!("{clock}:00") } else { clock.to_owned() };
    let local: DateTime = format!("{date}T{whole}").parse().ok()?;
    let offset = match zone {
        None => offset,
        Some("Z") => Offset::UTC,
        Some(zone) => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
            Offset::from_seconds(if zone.starts_with('-') { -seconds } else { seconds }).ok()?
        }
    };
    let digits = clock.split_once('.').map(|(_, fraction)| fraction.len());
    let reach = match digits {
        None if clock.len() == 5 => SignedDuration::from_secs(60),
        None => SignedDuration::from_secs(1),
        Some(digits) => SignedDuration::from_nanos(10_i64.pow(9_u32.checked_sub(u32::try_from(digits).ok()?)?)),
    };
    let low = offset.to_timestamp(local).ok()?;
    Some((low, low.checked_add(reach).ok()?))
}

/// The references of a parameter, in which this type may be left out.
fn references(value: &str, kind: &str) -> Vec<String> {
    let whole = |one: String| if one.contains('/') { relative(&one) } else { format!("{kind}/{one}") };
    split(value, ',').into_iter().map(whole).collect()
}

fn tokens(value: &str) -> Vec<Token> {
    let token = |one: String| {
        let parts = split_raw(&one, '|');
        match parts.as_slice() {
            [value] => Token { system: None, value: unescape(value) },
            [system, rest @ ..] => Token { system: Some(unescape(system)), value: unescape(&rest.join("|")) },
            [] => Token { system: None, value: String::new() },
        }
    };
    split_raw(value, ',').into_iter().map(token).collect()
}

/// Splits at a separator that no backslash guards, and takes the guards away.
fn split(value: &str, separator: char) -> Vec<String> {
    split_raw(value, separator).iter().map(|part| unescape(part)).collect()
}

fn split_raw(value: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut guarded = false;
    for letter in value.chars() {
        if letter == separator && !guarded {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
        guarded = letter == '\\' && !guarded;
    }
    parts
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

/// The resource cut down to the elements asked for, marked as such so that nobody puts it back.
pub(crate) fn subset(resource: &Value, elements: &BTreeSet<String>) -> Value {
    let mut cut = serde_json::Map::new();
    for (name, value) in resource.as_object().into_iter().flatten() {
        // Mandatory and modifier elements come all the same; `status` stands for them.
        if matches!(name.as_str(), "resourceType" | "id" | "meta" | "status") || elements.contains(name) {
            cut.insert(name.clone(), value.clone());
        }
    }
    let mark = serde_json::json!({
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"
    });
    if let Some(meta) = cut.get_mut("meta").and_then(Value::as_object_mut) {
        match meta.get_mut("tag").and_then(Value::as_array_mut) {
            Some(tags) => tags.push(mark),
            None => {
                meta.insert("tag".into(), Value::Array(vec![mark]));
            }
        }
    }
    Value::Object(cut)
}

/// Pairs of a query string or of a form's body.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// A query string of pairs.
pub(crate) fn encoded(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Parameters of a type's or an instance's history.
pub(crate) struct HistoryQuery {
    pub(crate) since: Timestamp,
    pub(crate) count: Option<usize>,
}

impl HistoryQuery {
    /// # Errors
    /// The name of the parameter that cannot be read.
    pub(crate) fn read(pairs: &[(String, String)]) -> Result<Self, String> {
        let given: BTreeMap<_, _> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let since = match given.get("_since") {
            None => Timestamp::MIN,
            Some(value) => value.parse().map_err(|_| "_since".to_owned())?,
        };
        let count = match given.get("_count") {
            None => None,
            Some(value) => Some(value.parse().map_err(|_| "_count".to_owned())?),
        };
        Ok(Self { since, count })
    }
}
