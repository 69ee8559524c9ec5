//! "Records being worked on now".

use engine::{
    error::Code,
    key::Kind,
    lease::ENDLESS,
    ledger::{Held, Record},
    snapshot::Snapshot,
};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Detail, RecordName},
    names::Context,
    words,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum LockGroup {
    /// Nobody renews it, or it has no end: a fault.
    Overdue,
    Active,
    /// Held by a person: the record is open in FileMaker.
    InFileMaker,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Lock {
    pub record: RecordName,
    pub group: LockGroup,
    /// "This PC", "Station desk-2", "Someone in FileMaker".
    pub holder: String,
    /// RFC 3339.
    pub since: Option<String>,
    /// Without renewal it is free after this many seconds.
    pub term_seconds: Option<u64>,
    /// "Patient to FileMaker", "Reads the chart system".
    pub what: String,
    /// "Another change waits behind it."
    pub behind: Option<String>,
    /// What happens next.
    pub sentence: String,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Locks {
    pub rows: Vec<Lock>,
    pub more: u64,
}

/// What the relay answered: records that are held, and records that wait because a person has them open.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    pub held: Vec<Record>,
    pub waiting: Vec<Record>,
    /// There are so many more than were asked for.
    pub more: u64,
}

/// Without a snapshot nobody knows which leases are overdue: then what is held is held.
pub fn locks(listed: &Listed, snapshot: Option<&Snapshot>, context: &Context<'_>) -> Locks {
    let overdue = snapshot.map_or(&[][..], |snapshot| &snapshot.overdue);
    let holdings = snapshot.map_or(&[][..], |snapshot| &snapshot.holdings);
    let held = listed.held.iter().filter_map(|record| {
        let held = record.held.as_ref()?;
        let group = match held.term {
            term if term >= ENDLESS => LockGroup::Overdue,
            _ if overdue.contains(&record.key) => LockGroup::Overdue,
            _ => LockGroup::Active,
        };
        let since = holdings.iter().find(|holding| holding.key == record.key).map(|holding| holding.since);
        Some(Lock { since: since.map(words::instant), ..lock(record, held, group, context) })
    });
    let open = listed.waiting.iter().filter(|record| {
        record.held.is_none() && record.wanted.is_some_and(|wanted| wanted.waits_for == Some(Code::RecordOpen))
    });
    let mut rows: Vec<_> = held.chain(open.map(|record| in_filemaker(record, context))).collect();
    rows.sort_by(|one, other| (one.group, &one.record.label).cmp(&(other.group, &other.record.label)));
    Locks { rows, more: listed.more }
}

fn lock(record: &Record, held: &Held, group: LockGroup, context: &Context<'_>) -> Lock {
    let endless = held.term >= ENDLESS;
    let resource = record.key.resource.as_str();
    Lock {
        record: context.record(&record.key),
        group,
        holder: words::holder(&held.owner.station, context.here(&held.owner.station)),
        since: None,
        term_seconds: (!endless).then_some(held.term.as_secs()),
        what: match record.key.kind {
            Kind::Link => words::to_filemaker(resource),
            Kind::Cursor => words::reads_chart(resource),
            Kind::Proof => words::tries_key(resource),
            Kind::Row => words::to_chart(resource),
            Kind::Encounter | Kind::Document => words::reads_chart(resource),
            Kind::Quota => words::SHARES_QUOTA.to_owned(),
            Kind::Token => words::SIGNS_IN.to_owned(),
            Kind::Definition => words::KEEPS_DEFINITION.to_owned(),
        },
        behind: (record.key.kind.is_run() && record.wanted.is_some()).then(|| words::BEHIND.to_owned()),
        sentence: match group {
            _ if endless => words::LOCK_ENDLESS.to_owned(),
            LockGroup::Overdue => words::LOCK_OVERDUE.to_owned(),
            LockGroup::Active | LockGroup::InFileMaker => words::lock_active(held.term),
        },
        details: context.details([
            ("Record", Some(record.key.to_string())),
            ("Station", Some(held.owner.station.to_string())),
            ("Start of the program", Some(held.owner.boot.to_string())),
            ("Epoch", Some(held.stamp.epoch.to_string())),
            ("Renewals", Some(held.stamp.beat.to_string())),
        ]),
    }
}

fn in_filemaker(record: &Record, context: &Context<'_>) -> Lock {
    let next = record.wanted.map(|wanted| wanted.not_before).filter(|next| *next > context.now);
    Lock {
        record: context.record(&record.key),
        group: LockGroup::InFileMaker,
        holder: words::SOMEONE.to_owned(),
        since: record.wanted.map(|wanted| words::instant(wanted.first_seen)),
        term_seconds: None,
        what: words::to_filemaker(record.key.resource.as_str()),
        behind: Some(words::BEHIND.to_owned()),
        sentence: words::lock_in_filemaker(next, context.zone),
        details: context
            .details([("Record", Some(record.key.to_string())), ("Code", Some(Code::RecordOpen.to_string()))]),
    }
}
