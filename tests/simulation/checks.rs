//! Each check of the oracle can fail: it is shown a short history in which its invariant is broken.

use std::{sync::Arc, time::Duration};

use engine::{
    audit::AuditId,
    fakes::{MemoryLedger, MemoryQueue},
    key::{BootId, RecordKey, StationId},
    ledger::{Lease, Owner},
    ports::{Delivery, Message, Receipt},
    row::{Fields, Value},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    oracle::Oracle,
    world::{PATIENT, firm_id, id, resource},
};

fn key() -> RecordKey {
    RecordKey::link(firm_id(), resource("Patient"), id("1"))
}

fn lease(station: &str, epoch: u64) -> Lease {
    let owner = Owner { station: StationId::new(station).unwrap(), boot: BootId::new("boot-1").unwrap() };
    Lease { key: key(), owner, epoch, term: Duration::from_secs(30) }
}

fn message(body: &str) -> Message {
    Message { id: "m".into(), group: "g".into(), body: body.into() }
}

fn fields(value: &str) -> Fields {
    [("City".to_owned(), Value::Text(value.to_owned()))].into()
}

fn delivered(oracle: &Oracle, body: &str) -> [Receipt; 1] {
    let receipt = Receipt("r".into());
    oracle.sent(&[message(body)]);
    let first_sent = Timestamp::UNIX_EPOCH;
    let delivery = Delivery { id: "m".into(), body: body.into(), receipt: receipt.clone(), first_sent, receives: 1 };
    oracle.received(&[delivery]);
    [receipt]
}

fn queue() -> Arc<MemoryQueue> {
    MemoryQueue::new(engine::fakes::FakeClock::at(Timestamp::UNIX_EPOCH), Duration::from_secs(30))
}

fn audited(oracle: &Oracle) {
    oracle.audit_begun(0, AuditId(1), Some(key()));
}

#[tokio::test(start_paused = true)]
async fn each_check_can_fail() {
    let hint = json!({"v": 1, "hints": [{
        "firm": "north", "resource": "Patient", "id": "1", "origin": "push", "at": "2026-03-02T08:00:00Z",
    }]})
    .to_string();
    type Broken<'a> = (&'a str, Box<dyn Fn(&Oracle) + 'a>);
    let histories: Vec<Broken<'_>> = vec![
        ("I1", Box::new(|oracle| oracle.acknowledged(&delivered(oracle, &hint), &[], &MemoryLedger::new()))),
        ("I1", Box::new(|oracle| oracle.acknowledged(&delivered(oracle, "unreadable"), &[], &MemoryLedger::new()))),
        (
            "I2",
            Box::new(|oracle| {
                oracle.sent(&[message(&hint)]);
                oracle.conserve(&queue(), true);
            }),
        ),
        ("I3", Box::new(|oracle| oracle.count_rows(PATIENT, ["1".to_owned(), "1".to_owned()].into_iter()))),
        (
            "I4",
            Box::new(|oracle| {
                audited(oracle);
                oracle.written(PATIENT, "1", &fields("s5"), None);
                oracle.written(PATIENT, "1", &fields("s4"), Some(&fields("s5")));
            }),
        ),
        (
            "I5",
            Box::new(|oracle| {
                oracle.taken(&lease("desk-1", 2));
                oracle.taken(&lease("desk-1", 2));
            }),
        ),
        (
            "I6",
            Box::new(|oracle| {
                oracle.taken(&lease("desk-1", 1));
                oracle.used(&lease("desk-2", 1));
            }),
        ),
        (
            "I6",
            Box::new(|oracle| {
                oracle.taken(&lease("desk-1", 1));
                oracle.leases(&MemoryLedger::new());
            }),
        ),
        ("I7", Box::new(|oracle| oracle.guarded(PATIENT, false))),
        (
            "I8",
            Box::new(|oracle| {
                audited(oracle);
                oracle.edited_by_hand(PATIENT, "1", "City", &Value::Text("h1".into()));
                oracle.written(PATIENT, "1", &fields("s5"), Some(&fields("h1")));
            }),
        ),
        (
            "I9",
            Box::new(|oracle| {
                audited(oracle);
                oracle.written(PATIENT, "1", &fields("s5"), Some(&fields("s5")));
            }),
        ),
        (
            "I16",
            Box::new(|oracle| {
                oracle.taken(&lease("desk-1", 1));
                oracle.taken(&lease("desk-2", 2));
            }),
        ),
        ("I17", Box::new(|oracle| oracle.written(PATIENT, "1", &fields("s5"), None))),
        ("I17", Box::new(|oracle| oracle.audit_at_rest(1))),
        (
            "I21",
            Box::new(|oracle| {
                oracle.sent(&[message("unreadable")]);
                oracle.poison_at_rest(&[]);
            }),
        ),
    ];
    for (invariant, history) in histories {
        let oracle = Oracle::new();
        history(&oracle);
        let said = oracle.violation().unwrap_or_default();
        assert!(said.starts_with(&format!("{invariant}:")), "{invariant} was broken, and this was found: \"{said}\"");
    }
}
