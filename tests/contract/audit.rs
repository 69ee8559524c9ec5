//! The audit log: begun, resolved once, read back newest first.

use engine::{
    audit::{Act, AuditId, Begun, Ended, Entry, Outcome, Search},
    error::Code,
    key::RecordKey,
};

use crate::{
    at, owner, suite,
    worlds::{Lasting, Memory, Sqlite, World},
};

suite!(sqlite: crate::audit::Sqlite =>
    entries_are_read_back_newest_first
    a_search_finds_what_fits_and_says_where_to_go_on
    an_entry_is_resolved_once
    what_is_begun_and_not_resolved_is_open
    entries_begun_at_once_get_places_of_their_own
    nothing_begun_is_lost_in_a_crash
);
suite!(memory: crate::audit::Memory =>
    entries_are_read_back_newest_first
    a_search_finds_what_fits_and_says_where_to_go_on
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
        expected.insert(0, Entry { id, begun: begun(number), outcome: Some(outcome), resolved: Some(at(number + 1)) });
    }
    let id = audit.begin(begun(9)).await.unwrap();
    expected.insert(0, Entry { id, begun: begun(9), outcome: None, resolved: None });
    assert_eq!(audit.search(&Search::newest(100)).await.unwrap().entries, expected);
    assert_eq!(audit.search(&Search::newest(2)).await.unwrap().entries, expected[..2]);
    assert_eq!(
        audit.search(&Search { before: Some(expected[1].id), ..Search::newest(2) }).await.unwrap().entries,
        expected[2..4]
    );
    assert!(
        audit.search(&Search { before: Some(expected[4].id), ..Search::newest(2) }).await.unwrap().entries.is_empty()
    );
}

async fn a_search_finds_what_fits_and_says_where_to_go_on(world: impl World) {
    let audit = world.audit();
    let key = RecordKey::parse("north/link/Patient/p1");
    let plain = |number: i64| Begun { person: None, act: Act::EditRow, key: key.clone(), ..begun(number) };
    let mine = |number: i64| Begun { person: Some("maria \"m\"".into()), act: Act::Asked, ..plain(number) };
    for number in 0..30 {
        let id = audit.begin(if number % 3 == 0 { mine(number) } else { plain(number) }).await.unwrap();
        if number % 2 == 0 {
            audit.complete(id, Outcome::Done { version: None }, at(number)).await.unwrap();
        }
    }
    let found = async |search: Search| {
        let mut numbers = Vec::new();
        let mut next = Some(search);
        while let Some(search) = next.take() {
            let found = audit.search(&search).await.unwrap();
            assert!(found.entries.len() <= search.limit);
            numbers.extend(found.entries.iter().map(|entry| entry.begun.at.as_second() - at(0).as_second()));
            next = found.next.map(|before| Search { before: Some(before), ..search });
        }
        numbers
    };
    let all = || Search::newest(4);
    assert_eq!(found(all()).await, (0..30).rev().collect::<Vec<_>>());
    let asked = Search { acts: vec![Act::Asked, Act::Revealed], ..all() };
    assert_eq!(found(asked.clone()).await, [27, 24, 21, 18, 15, 12, 9, 6, 3, 0]);
    assert_eq!(found(Search { outcome: Some(Ended::Open), ..asked.clone() }).await, [27, 21, 15, 9, 3]);
    assert_eq!(found(Search { person: mine(0).person, ..all() }).await, found(asked).await);
    assert_eq!(found(Search { person: Some("maria".into()), ..all() }).await, [0; 0]);
    let between = Search { since: Some(at(10)), until: Some(at(13)), ..all() };
    assert_eq!(found(between).await, [12, 11, 10]);
    assert_eq!(found(Search { record: key.clone(), ..all() }).await.len(), 30);
    let other = RecordKey::parse("north/link/Patient/p");
    assert_eq!(found(Search { record: other, ..all() }).await, [0; 0]);
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
    assert_eq!(
        audit.search(&Search::newest(9)).await.unwrap().entries[0].outcome,
        Some(Outcome::Done { version: None })
    );
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
    for entry in audit.search(&Search::newest(100)).await.unwrap().entries {
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
    assert_eq!(audit.open().await.unwrap(), [Entry { id: second, begun: begun(2), outcome: None, resolved: None }]);
    audit.complete(second, Outcome::Interrupted, at(3)).await.unwrap();
    assert!(audit.complete(first, Outcome::Interrupted, at(3)).await.is_err());
    assert!(audit.begin(begun(3)).await.unwrap() > second);
}
