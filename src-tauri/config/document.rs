//! A TOML text as a tree in which every part knows its place in the text.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Map, Number, Value as Json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The way from the root to a part: keys, and places in arrays from 0.
pub(super) type Way = Vec<String>;

#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) tree: Json,
    places: BTreeMap<Way, Place>,
}

#[derive(Debug, Clone)]
struct Place {
    /// Where its key stands, if it has one.
    key: Option<Range<usize>>,
    value: Range<usize>,
}

/// What is not TOML.
#[derive(Debug)]
pub(super) struct NotToml {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl Document {
    pub(super) fn read(text: &str) -> (Self, Vec<NotToml>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self::default();
        document.tree = document.table(root.get_ref(), &mut Vec::new());
        let errors = errors
            .iter()
            .map(|error| NotToml {
                offset: error.span().map_or(0, |span| span.start),
                message: error.message().replace('\n', ", "),
            })
            .collect();
        (document, errors)
    }

    fn table(&mut self, table: &DeTable<'_>, way: &mut Way) -> Json {
        let mut members = Map::new();
        for (key, value) in table {
            way.push(key.get_ref().to_string());
            let json = self.value(value, way);
            self.places.insert(way.clone(), Place { key: Some(key.span()), value: value.span() });
            way.pop();
            members.insert(key.get_ref().to_string(), json);
        }
        Json::Object(members)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, way: &mut Way) -> Json {
        match value.get_ref() {
            DeValue::String(text) => Json::String(text.to_string()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(Json::Null, Json::from)
            }
            DeValue::Float(number) => {
                number.as_str().parse().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number)
            }
            DeValue::Boolean(flag) => Json::Bool(*flag),
            // No setting is a date; as null it is refused with what is expected instead.
            DeValue::Datetime(_) => Json::Null,
            DeValue::Array(items) => {
                let mut array = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    way.push(index.to_string());
                    array.push(self.value(item, way));
                    self.places.insert(way.clone(), Place { key: None, value: item.span() });
                    way.pop();
                }
                Json::Array(array)
            }
            DeValue::Table(table) => self.table(table, way),
        }
    }

    /// A tree that no text is known of.
    pub(super) fn of(tree: Json) -> Self {
        Self { tree, places: BTreeMap::new() }
    }

    pub(super) fn has(&self, way: &[String]) -> bool {
        self.places.contains_key(way)
    }

    /// Where the value of a part begins; of a part that is not there, the nearest part around it.
    pub(super) fn offset(&self, way: &[String]) -> usize {
        self.nearest(way).map_or(0, |place| place.value.start)
    }

    /// Where the key of a part begins.
    pub(super) fn key_offset(&self, way: &[String]) -> usize {
        self.nearest(way).map_or(0, |place| place.key.as_ref().unwrap_or(&place.value).start)
    }

    fn nearest(&self, way: &[String]) -> Option<&Place> {
        (0..=way.len()).rev().find_map(|length| self.places.get(&way[..length]))
    }

    /// Takes out the innermost member of a table on the way, so that the rest can be read.
    pub(super) fn take_out(&mut self, way: &[String]) {
        let is_index = |key: &String| key.bytes().all(|b| b.is_ascii_digit());
        let Some(last) = (0..way.len()).rev().find(|at| !is_index(&way[*at]) || !self.is_array(&way[..*at])) else {
            return;
        };
        if let Some(Json::Object(members)) = self.part_mut(&way[..last]) {
            members.shift_remove(&way[last]);
        }
    }

    fn is_array(&mut self, way: &[String]) -> bool {
        matches!(self.part_mut(way), Some(Json::Array(_)))
    }

    fn part_mut(&mut self, way: &[String]) -> Option<&mut Json> {
        way.iter().try_fold(&mut self.tree, |part, key| match part {
            Json::Object(members) => members.get_mut(key),
            Json::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        })
    }
}

/// Line and column, both from 1 and the column in characters, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
