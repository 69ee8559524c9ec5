//! Pictures of the engine to look at, all of them made up.

use std::time::Duration;

use engine::{
    connection::{Health, Side},
    error::Code,
    key::{BootId, FirmId, RecordKey, ResourceType, StationId},
    ledger::{Dead, Held, Owner, Record, Stamp, Wanted},
    snapshot::{ConnectionView, Limits, PollView, Snapshot},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    control::{About, FirmName, Tag},
    view::{
        desk::{Role, Settings},
        face::Input,
        names::{Context, Names},
    },
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// 10:42 on a Monday in New York; the clinic is open until 18:00.
pub(super) fn now() -> Timestamp {
    at("2026-03-02T15:42:00Z")
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn zone() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
}

pub(super) fn key(text: &str) -> RecordKey {
    RecordKey::parse(text).unwrap()
}

/// Everything is well and proven.
pub(super) fn well() -> Snapshot {
    let mut well = Snapshot::empty(now());
    let second = Some(SECOND);
    let firm = FirmId::new("north").unwrap();
    well.connections = Side::BOTH
        .map(|side| ConnectionView {
            firm: firm.clone(),
            side,
            health: Health::Up,
            silent_for: second,
            probe_every: Duration::from_secs(20),
        })
        .to_vec();
    well.polls = vec![PollView {
        firm,
        side: Side::Fhir,
        resource: ResourceType::new("Patient").unwrap(),
        every: Duration::from_secs(10),
        sweep_every: Duration::from_secs(3600),
        polled: second,
        swept: second,
        watermark: None,
        under_way: None,
        remark: None,
        missing: None,
    }];
    (well.received, well.received_empty, well.counted) = (second, second, Some(Duration::ZERO));
    judged(well)
}

/// Well but for this.
pub(super) fn but(change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut snapshot = well();
    change(&mut snapshot);
    judged(snapshot)
}

fn judged(mut snapshot: Snapshot) -> Snapshot {
    snapshot.verdict = snapshot.judge(&Limits::default());
    snapshot
}

pub(super) fn away(snapshot: &mut Snapshot, side: Side) {
    let connection = snapshot.connections.iter_mut().find(|connection| connection.side == side).unwrap();
    connection.health =
        Health::Away { since: at("2026-03-02T15:14:00Z"), code: Code::Unreachable, vendor: None, failed_probes: 3 };
    connection.silent_for = Some(Duration::from_secs(28 * 60));
}

pub(super) fn stopped(snapshot: &mut Snapshot, side: Side, code: Code) {
    let connection = snapshot.connections.iter_mut().find(|connection| connection.side == side).unwrap();
    let (subject, vendor) = (Some("API_Patient".to_owned()), Some("FileMaker 105".to_owned()));
    connection.health = Health::Stopped { since: at("2026-03-02T15:14:00Z"), code, subject, vendor };
}

/// What the faces are asked with; fields that do not matter are as at a front desk.
pub(super) fn input<'a>(snapshot: &'a Snapshot, settings: &'a Settings, zone: &'a TimeZone) -> Input<'a> {
    Input {
        snapshot: Some((snapshot, Duration::ZERO)),
        trouble: None,
        settings,
        privacy: true,
        attached: false,
        now: now(),
        zone,
    }
}

pub(super) fn about() -> About {
    let name = |id: &str, name: &str| FirmName { id: FirmId::new(id).unwrap(), name: name.to_owned() };
    About {
        station: StationId::new("desk-1").unwrap(),
        version: "0.0.0".to_owned(),
        demo: false,
        firms: vec![name("north", "Synthetic North")],
        shared: true,
        attempts: 8,
    }
}

pub(super) fn names() -> Names {
    let tag = |of: &str, pseudonym: &str, patient| Tag { key: key(of), pseudonym: pseudonym.to_owned(), patient };
    let mut names = Names::default();
    names.learn(vec![
        tag("north/link/Patient/p1", "4F2K7", true),
        tag("north/link/Observation/m1", "4F2K7", true),
        tag("north/link/Observation/m2", "9C1F2", false),
    ]);
    names
}

pub(super) fn context<'a>(role: Role, about: &'a About, names: &'a Names, zone: &'a TimeZone) -> Context<'a> {
    Context { about, names, stations: &[], role, now: now(), zone }
}

pub(super) fn record(of: &str) -> Record {
    Record {
        key: key(of),
        state: String::new(),
        stamp: Stamp { epoch: 7, beat: 2 },
        held: None,
        generation: 3,
        wanted: None,
        attempts: 0,
        dead: None,
        notice: None,
        updated: now(),
    }
}

pub(super) fn wanted(of: &str, first_seen: &str, waits_for: Option<Code>) -> Record {
    let wanted = Wanted { first_seen: at(first_seen), not_before: at(first_seen), waits_for };
    Record { wanted: Some(wanted), ..record(of) }
}

pub(super) fn dead(of: &str, since: &str, code: Code, set_aside: bool) -> Record {
    Record { dead: Some(Dead { code, since: at(since), set_aside }), ..record(of) }
}

pub(super) fn held(of: &str, station: &str, term: Duration) -> Record {
    let owner = Owner { station: StationId::new(station).unwrap(), boot: BootId::new("boot-1").unwrap() };
    Record { held: Some(Held { owner, stamp: Stamp { epoch: 7, beat: 2 }, term }), ..record(of) }
}
