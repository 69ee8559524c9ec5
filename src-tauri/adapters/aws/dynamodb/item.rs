//! Records as items. Times are microseconds since 1970, as numbers; what is absent is left out.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use engine::{
    error::{Class, Code, Fault},
    key::{BootId, FirmId, Kind, RecordKey, ResourceId, ResourceType, StationId},
    ledger::{Dead, Held, Owner, Record, Stamp, Wanted},
};
use jiff::Timestamp;

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(text: impl ToString) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

pub(super) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn yes(yes: bool) -> AttributeValue {
    AttributeValue::Bool(yes)
}

pub(super) fn time(time: Timestamp) -> AttributeValue {
    AttributeValue::N(time.as_microsecond().to_string())
}

pub(super) fn duration(duration: Duration) -> AttributeValue {
    AttributeValue::N(duration.as_micros().to_string())
}

/// `Type id`: no part can hold a space, and a space sorts before all that they can hold.
pub(super) fn sort_key(key: &RecordKey) -> String {
    format!("{} {}", key.resource, key.id)
}

pub(super) fn key(key: &RecordKey) -> [(&'static str, AttributeValue); 2] {
    [("firm", text(&key.firm)), ("id", text(sort_key(key)))]
}

/// An item that this program did not write, or wrote in another version.
pub(super) fn unreadable(what: &str) -> Fault {
    Fault::new(Class::Retry, Code::BadAnswer).on(format!("{what} of an item"))
}

pub(super) fn string<'a>(item: &'a Item, name: &str) -> Result<Option<&'a String>, Fault> {
    item.get(name).map(|value| value.as_s().map_err(|_| unreadable(name))).transpose()
}

pub(super) fn integer(item: &Item, name: &str) -> Result<Option<i64>, Fault> {
    let parse = |value: &AttributeValue| value.as_n().ok()?.parse().ok();
    item.get(name).map(|value| parse(value).ok_or_else(|| unreadable(name))).transpose()
}

pub(super) fn count(item: &Item, name: &str) -> Result<u64, Fault> {
    Ok(integer(item, name)?.unwrap_or(0).unsigned_abs())
}

pub(super) fn moment(item: &Item, name: &str) -> Result<Option<Timestamp>, Fault> {
    let parse = |micros| Timestamp::from_microsecond(micros).map_err(|_| unreadable(name));
    integer(item, name)?.map(parse).transpose()
}

pub(super) fn code(item: &Item, name: &str) -> Result<Option<Code>, Fault> {
    string(item, name)?.map(|text| Code::parse(text).ok_or_else(|| unreadable(name))).transpose()
}

pub(super) fn key_of(kind: Kind, item: &Item) -> Result<RecordKey, Fault> {
    let parse = || {
        let firm = FirmId::new(string(item, "firm").ok()??.clone()).ok()?;
        let (resource, id) = string(item, "id").ok()??.split_once(' ')?;
        Some(RecordKey { firm, kind, resource: ResourceType::new(resource).ok()?, id: ResourceId::new(id).ok()? })
    };
    parse().ok_or_else(|| unreadable("key"))
}

/// Which commit was the last.
pub(super) fn commit_of(item: &Item) -> Option<&String> {
    item.get("commit").and_then(|value| value.as_s().ok())
}

pub(super) fn record(kind: Kind, item: &Item) -> Result<Record, Fault> {
    let stamp = Stamp { epoch: count(item, "epoch")?, beat: count(item, "beat")? };
    let held = match (string(item, "station")?, string(item, "boot")?) {
        (Some(station), Some(boot)) => {
            let owner = Owner {
                station: StationId::new(station.clone()).map_err(|_| unreadable("station"))?,
                boot: BootId::new(boot.clone()).map_err(|_| unreadable("boot"))?,
            };
            Some(Held { owner, stamp, term: Duration::from_micros(count(item, "term")?) })
        }
        _ => None,
    };
    let wanted = match (moment(item, "first_seen")?, moment(item, "not_before")?) {
        (Some(first_seen), Some(not_before)) => {
            Some(Wanted { first_seen, not_before, waits_for: code(item, "waits_for")? })
        }
        _ => None,
    };
    let dead = match (code(item, "dead")?, moment(item, "dead_since")?) {
        (Some(code), Some(since)) => Some(Dead { code, since, set_aside: is(item, "set_aside") }),
        _ => None,
    };
    Ok(Record {
        key: key_of(kind, item)?,
        state: string(item, "state")?.cloned().unwrap_or_default(),
        stamp,
        held,
        generation: count(item, "generation")?,
        wanted,
        attempts: u32::try_from(count(item, "attempts")?).unwrap_or(u32::MAX),
        dead,
        notice: code(item, "notice")?,
        updated: moment(item, "updated")?.ok_or_else(|| unreadable("updated"))?,
    })
}

pub(super) fn is(item: &Item, name: &str) -> bool {
    item.get(name).and_then(|value| value.as_bool().ok()).copied().unwrap_or(false)
}
