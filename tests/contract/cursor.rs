//! The state of a cursor, which may be large.

use std::time::Duration;

use engine::{
    key::RecordKey,
    ledger::{Claim, Commit, Filter, Finish, Lease, LedgerError, Owner, Record, Stamp, Take},
    ports::Ledger,
};

use crate::{
    at, owner, suite,
    worlds::{Memory, MiniStack, Moto, Sqlite, World},
};

suite!(sqlite: crate::cursor::Sqlite => a_cursor_may_grow_beyond_any_item_and_shrink_again);
suite!(memory: crate::cursor::Memory => a_cursor_may_grow_beyond_any_item_and_shrink_again);
suite!(ministack: crate::cursor::MiniStack => a_cursor_may_grow_beyond_any_item_and_shrink_again);
suite!(moto: crate::cursor::Moto => a_cursor_may_grow_beyond_any_item_and_shrink_again);

async fn take(ledger: &dyn Ledger, key: &RecordKey, owner: Owner, overdue: Option<Stamp>) -> (Record, Lease) {
    let claim = Claim { owner, term: Duration::from_secs(60), overdue, now: at(0) };
    match ledger.take(key, &claim).await.unwrap() {
        Take::Taken(record, lease) => (*record, lease),
        Take::Busy(held) => panic!("busy: {held:?}"),
    }
}

fn commit(state: String) -> Commit {
    Commit { state, finish: Finish::Done, notice: None, generation: 0, first_seen: at(0), now: at(1) }
}

/// Thousands of changes within one overlap: the poll that finds them must not fail for ever.
async fn a_cursor_may_grow_beyond_any_item_and_shrink_again(world: impl World) {
    let ledger = world.ledger();
    let cursor = RecordKey::parse("north/cursor/Patient/poll").unwrap();
    let (me, other) = (owner("front-desk", "boot-1"), owner("back-office", "boot-9"));
    let seen = |count: usize| (0..count).map(|id| format!("synthetic-{id}-\u{e4} 1")).collect::<Vec<_>>().join(",");
    let mut before = String::new();
    for state in [seen(50_000), seen(60_000), seen(3), seen(40_000)] {
        let (found, lease) = take(&*ledger, &cursor, me.clone(), None).await;
        assert_eq!(found.state, before);
        assert!(!ledger.commit(&lease, commit(state.clone())).await.unwrap());
        assert_eq!(ledger.read(&cursor).await.unwrap().unwrap().state, state);
        before = state;
    }
    // A station whose lease was taken over changes nothing, however large what it has to say.
    let (found, late) = take(&*ledger, &cursor, me, None).await;
    let (found_by_other, lease) = take(&*ledger, &cursor, other, Some(found.stamp)).await;
    assert_eq!(found_by_other.state, seen(40_000));
    assert!(matches!(ledger.commit(&late, commit(seen(55_000))).await, Err(LedgerError::Lost)));
    ledger.commit(&lease, commit(seen(30_000))).await.unwrap();
    assert_eq!(ledger.read(&cursor).await.unwrap().unwrap().state, seen(30_000));
    // Nothing of it shows up among the records.
    assert_eq!(ledger.count(Filter::All).await.unwrap(), 1);
}
