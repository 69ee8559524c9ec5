//! Pictures of the engine to look at, all of them made up.

use std::time::Duration;

use engine::{
    connection::{Health, Side},
    error::Code,
    key::{FirmId, ResourceType},
    snapshot::{ConnectionView, Limits, PollView, Snapshot},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::view::{desk::Settings, face::Input};

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
        resource: ResourceType::new("Patient").unwrap(),
        every: Duration::from_secs(10),
        sweep_every: Duration::from_secs(3600),
        polled: second,
        swept: second,
        watermark: None,
    }];
    (well.received, well.received_empty, well.counted) = (second, second, second);
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
