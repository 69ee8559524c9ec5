//! The audit log: begun, resolved once, read back newest first.

use engine::{
    audit::{Act, AuditId, Begun, Entry, Outcome},
    error::Code,
    key::RecordKey,
};

use crate::{
    at, owner, suite,
    worlds::{Lasting, Memory, Sqlite, World},
};

suite!(sqlite: crate::audit::Sqlite =>
    entries_are_read_back_newest_first
    an_entry_is_resolved_once
    what_is_begun_and_not_resolved_is_open
    entries_begun_at_once_get_places_of_their_own
    nothing_begun_is_lost_in_a_crash
);
suite!(memory: crate::audit::Memory =>
    entries_are_read_back_newest_first
    an_entry_is_resolved_once
    what_is_begun_and_not_resolved_is_open
    entries_begun_at_once_get_places_of_their_own
);

fn begun(number: i64) -> Begun {
    Begun {
        at: at(number),
        by: owner("front-desk", "boot-1"),
        person: (number % 2 == 0).then(|| "SYNTHETIC".into()),
        act: if number % 2 == 0 { Act::Asked } else { Act::EditRow },
        key: RecordKey::parse(&format!("north/link/Patient/{number}")),
        epoch: 3,
        expected: Some("7".into()),
        fields: vec!["LastName".into(), "Straße \"1\"".into()],
    }
}

async fn entries_are_read_back_newest_first(world: impl World) {
    let audit = world.audit();
    let mut expected = Vec::new();
    let outcomes = [
        Outcome::Done { version: Some("8".into()) },
        Outcome::Refused { code: Code::RecordChanged },
        Outcome::Unknown { code: Code::TimedOut },
        Outcome::Interrupted,
    ];
    for (number, outcome) in (1..).zip(outcomes) {
        let id = audit.begin(begun(number)).await.unwrap();
        audit.complete(id, outcome.clone(), at(number + 1)).await.unwrap();
        expected.insert(0, Entry { id, begun: begun(number), outcome: Some(outcome) });
    }
    let id = audit.begin(begun(9)).await.unwrap();
    expected.insert(0, Entry { id, begun: begun(9), outcome: None });
    assert_eq!(audit.page(None, 100).await.unwrap(), expected);
    assert_eq!(audit.page(None, 2).await.unwrap(), expected[..2]);
    assert_eq!(audit.page(Some(expected[1].id), 2).await.unwrap(), expected[2..4]);
    assert!(audit.page(Some(expected[4].id), 2).await.unwrap().is_empty());
}

async fn an_entry_is_resolved_once(world: impl World) {
    let audit = world.audit();
    let id = audit.begin(begun(1)).await.unwrap();
    assert!(audit.complete(AuditId(id.0 + 1), Outcome::Interrupted, at(2)).await.is_err(), "never begun");
    let race: Vec<_> = (0..8)
        .map(|_| {
            let audit = audit.clone();
            tokio::spawn(async move { audit.complete(id, Outcome::Done { version: None }, at(2)).await.is_ok() })
        })
        .collect();
    let mut resolved = 0;
    for one in race {
        resolved += u32::from(one.await.unwrap());
    }
    assert_eq!(resolved, 1);
    assert!(audit.complete(id, Outcome::Interrupted, at(3)).await.is_err());
    assert_eq!(audit.page(None, 9).await.unwrap()[0].outcome, Some(Outcome::Done { version: None }));
    // The log goes on.
    let next = audit.begin(begun(2)).await.unwrap();
    audit.complete(next, Outcome::Interrupted, at(4)).await.unwrap();
}

async fn what_is_begun_and_not_resolved_is_open(world: impl World) {
    let audit = world.audit();
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(audit.begin(begun(number)).await.unwrap());
    }
    audit.complete(ids[1], Outcome::Interrupted, at(5)).await.unwrap();
    let open: Vec<_> = audit.open().await.unwrap().into_iter().map(|entry| (entry.id, entry.outcome)).collect();
    assert_eq!(open, [(ids[0], None), (ids[2], None)]);
}

async fn entries_begun_at_once_get_places_of_their_own(world: impl World) {
    let audit = world.audit();
    let writers: Vec<_> = (0..40)
        .map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move { (number, audit.begin(begun(number)).await.unwrap()) })
        })
        .collect();
    let mut places = std::collections::BTreeMap::new();
    for writer in writers {
        let (number, id) = writer.await.unwrap();
        assert!(id.0 >= 1);
        assert!(places.insert(id, number).is_none(), "two entries at {id:?}");
    }
    for entry in audit.page(None, 100).await.unwrap() {
        assert_eq!(entry.begun, begun(places[&entry.id]));
    }
}

async fn nothing_begun_is_lost_in_a_crash(world: impl Lasting) {
    let audit = world.audit();
    let first = audit.begin(begun(1)).await.unwrap();
    audit.complete(first, Outcome::Done { version: None }, at(1)).await.unwrap();
    let second = audit.begin(begun(2)).await.unwrap();
    let world = world.crash().await;
    let audit = world.audit();
    assert_eq!(audit.open().await.unwrap(), [Entry { id: second, begun: begun(2), outcome: None }]);
    audit.complete(second, Outcome::Interrupted, at(3)).await.unwrap();
    assert!(audit.complete(first, Outcome::Interrupted, at(3)).await.is_err());
    assert!(audit.begin(begun(3)).await.unwrap() > second);
}
