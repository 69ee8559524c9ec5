//! Places in a resource: made where a path leads to nothing yet, and taken away again, with as little else as possible.

use serde_json::{Map, Value as Json, json};

use super::{
    path::{Path, Selector, Step},
    shape,
};

/// Elements that hold a plain text wherever a selector names them.
const PLAIN: &[&str] = &["language", "linkId", "system", "url", "use"];

impl Path {
    /// A place for a value where the path leads to none, with everything above it: what is there is gone into (the first that
    /// the selectors choose), what is not is made as the selectors say, behind all others. `choice` is the type to be put
    /// behind the stem of a choice. `None`, with nothing changed that counts, where the path does not say enough.
    pub(super) fn make(&self, resource: &mut Json, r#type: &str, choice: &str) -> Option<String> {
        let mut place = String::new();
        let steps = self.steps();
        for (number, step) in steps.iter().enumerate() {
            let way = &steps[..=number];
            let is_last = number + 1 == steps.len();
            let node = resource.pointer(&place)?;
            if let Some((there, _)) = step.places(&place, node).into_iter().next() {
                place = there;
                continue;
            }
            let name = match is_last && shape::is_choice(way) {
                true => format!("{}{choice}", step.element),
                false => step.element.clone(),
            };
            let entry = if is_last && step.selectors.is_empty() { Json::Null } else { step.entry()? };
            let list = match node.get(&name) {
                Some(there) => there.is_array(),
                None => shape::is_list(r#type, way)?,
            };
            let chosen = step.unindexed().places(&place, node).len();
            let node = resource.pointer_mut(&place)?.as_object_mut()?;
            if list {
                if step.index.is_some_and(|index| index != chosen) {
                    return None;
                }
                let items = node.entry(name.clone()).or_insert_with(|| json!([])).as_array_mut()?;
                items.push(entry);
                place = format!("{place}/{name}/{}", items.len() - 1);
            } else {
                // One that is there and is not the one selected is not ours to replace.
                if node.contains_key(&name) || step.index.is_some_and(|index| index > 0) {
                    return None;
                }
                node.insert(name.clone(), entry);
                place = format!("{place}/{name}");
            }
        }
        Some(place)
    }

    /// Takes away what is at a place. With `prune`, what held nothing else goes too: entries that say no more than the path's own
    /// selectors.
    pub(super) fn remove(&self, resource: &mut Json, place: &str, prune: bool) {
        let mut place = place.to_owned();
        loop {
            let Some((above, name)) = place.rsplit_once('/') else { return };
            match resource.pointer_mut(above) {
                Some(Json::Object(members)) => drop(members.shift_remove(name)),
                Some(Json::Array(_)) => take_out(resource, above, name),
                _ => return,
            }
            place = above.to_owned();
            let is_empty = match resource.pointer(&place) {
                Some(Json::Array(items)) => items.is_empty(),
                Some(node @ Json::Object(members)) => {
                    let is_bare = || self.steps().iter().any(|step| step.entry().as_ref() == Some(node));
                    members.is_empty() || (prune && is_bare())
                }
                _ => false,
            };
            if place.is_empty() || !is_empty {
                return;
            }
        }
    }
}

/// Takes an item out of a list. A primitive that has an id or extensions of its own leaves them, and null in its place.
fn take_out(resource: &mut Json, list: &str, number: &str) {
    let Ok(number) = number.parse::<usize>() else { return };
    let keeps = twins(resource, list).is_some_and(|twins| twins.get(number).is_some_and(|twin| !twin.is_null()));
    let Some(items) = resource.pointer_mut(list).and_then(Json::as_array_mut) else { return };
    if keeps {
        items[number] = Json::Null;
    } else if number < items.len() {
        items.remove(number);
        if let Some(twins) = twins(resource, list).filter(|twins| number < twins.len()) {
            twins.remove(number);
        }
    }
}

/// Puts a primitive into a list.
pub(super) fn put_in(resource: &mut Json, list: &str, number: usize, item: Json) {
    let Some(items) = resource.pointer_mut(list).and_then(Json::as_array_mut) else { return };
    items.insert(number.min(items.len()), item);
    if let Some(twins) = twins(resource, list).filter(|twins| number < twins.len()) {
        twins.insert(number, Json::Null);
    }
}

/// The list beside a list of primitives that holds their ids and extensions, item by item (R4 json, "Primitive elements").
fn twins<'a>(resource: &'a mut Json, list: &str) -> Option<&'a mut Vec<Json>> {
    let (above, name) = list.rsplit_once('/')?;
    resource.pointer_mut(above)?.get_mut(format!("_{name}"))?.as_array_mut()
}

impl Step {
    /// What a new entry must have so that the selectors choose it; `None` where they do not say enough to make one.
    fn entry(&self) -> Option<Json> {
        let mut entry = Map::new();
        for Selector { element, is } in &self.selectors {
            let Some(text) = is else { continue };
            let made = match text.rsplit_once('|') {
                _ if PLAIN.contains(&element.as_str()) => json!(text),
                None if matches!((self.element.as_str(), element.as_str()), ("coding", "code") | ("link", "type")) => {
                    json!(text)
                }
                Some((system, code)) => json!({"coding": [{"system": system, "code": code}]}),
                None => return None,
            };
            entry.insert(element.clone(), made);
        }
        Some(Json::Object(entry))
    }

    fn unindexed(&self) -> Step {
        Step { index: None, ..self.clone() }
    }
}
