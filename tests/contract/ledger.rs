//! The ledger: one lease at a time, marks that need none, ends of runs that see what was marked meanwhile.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use engine::{
    error::Code,
    key::{FirmId, Kind, RecordKey, ResourceType},
    ledger::{
        Claim, Commit, Dead, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Owner, Record, Stamp, Survey, Take,
        Want, Wanted,
    },
    ports::Ledger,
};

use crate::{
    at, owner, suite,
    worlds::{Lasting, Memory, MiniStack, Moto, SharedMemory, Sqlite, World},
};

/// What every implementation promises; one that lasts promises more.
macro_rules! promises {
    ($implementation:ident: $world:path $(, and $more:ident)*) => {
        suite!($implementation: $world =>
            taking_creates_the_record_and_raises_the_epoch
            a_lease_of_another_station_is_busy_until_its_stamp_stands_still
            a_station_takes_back_its_own_lease
            one_of_many_takers_wins
            many_keys_are_taken_at_once
            renewing_raises_the_beat_of_our_own_leases_only
            saving_needs_the_lease_and_keeps_it
            a_lost_lease_changes_nothing_and_spoils_no_other
            a_run_that_is_done_is_no_longer_wanted
            a_run_that_ends_later_is_wanted_again
            a_mark_during_the_run_is_not_forgotten
            a_run_that_ends_dead_waits_for_a_new_mark
            marks_join_to_the_earliest
            what_is_due_comes_in_the_order_it_became_due
            firms_that_nobody_serves_are_those_that_are_wanted_and_not_ours
            what_is_watched_is_no_backlog
            pages_follow_the_order_of_keys
            the_survey_counts
            dead_records_are_put_aside_and_back
            letters_are_buried_once
            $($more)*
        );
    };
}
promises!(sqlite: crate::ledger::Sqlite,
    and everything_survives_a_crash
);
promises!(memory: crate::ledger::Memory);
promises!(shared_memory: crate::ledger::SharedMemory);
promises!(ministack: crate::ledger::MiniStack);
promises!(moto: crate::ledger::Moto);

const TERM: Duration = Duration::from_secs(60);
const HORIZON: Duration = Duration::from_secs(3600);

fn key(text: &str) -> RecordKey {
    RecordKey::parse(text).unwrap()
}

fn patient(id: &str) -> RecordKey {
    key(&format!("north/link/Patient/{id}"))
}

fn firm(name: &str) -> FirmId {
    FirmId::new(name).unwrap()
}

fn me() -> Owner {
    owner("front-desk", "boot-1")
}

fn other() -> Owner {
    owner("back-office", "boot-9")
}

fn claim(owner: Owner, overdue: Option<Stamp>) -> Claim {
    Claim { owner, term: TERM, overdue, now: at(0) }
}

async fn take(ledger: &Arc<dyn Ledger>, key: &RecordKey, owner: Owner) -> (Record, Lease) {
    match ledger.take(key, &claim(owner, None)).await.unwrap() {
        Take::Taken(record, lease) => (*record, lease),
        Take::Busy(held) => panic!("busy: {held:?}"),
    }
}

async fn read(ledger: &Arc<dyn Ledger>, key: &RecordKey) -> Record {
    ledger.read(key).await.unwrap().unwrap()
}

fn want(key: &RecordKey, first_seen: i64, not_before: i64, waits_for: Option<Code>) -> Want {
    Want { key: key.clone(), first_seen: at(first_seen), not_before: at(not_before), waits_for }
}

fn end(record: &Record, finish: Finish) -> Commit {
    Commit {
        state: "{\"ended\":true}".into(),
        finish,
        notice: None,
        generation: record.generation,
        first_seen: at(50),
        now: at(100),
    }
}

fn later(not_before: i64, attempt: bool) -> Finish {
    Finish::Later { not_before: at(not_before), waits_for: Some(Code::RecordOpen), attempt }
}

async fn due(ledger: &Arc<dyn Ledger>, now: i64) -> Vec<String> {
    let due = ledger.due(&firm("north"), &Kind::RUN, at(now), HORIZON, 100).await.unwrap();
    due.into_iter().map(|(key, _)| key.id.to_string()).collect()
}

async fn taking_creates_the_record_and_raises_the_epoch(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    assert_eq!(ledger.read(&key).await.unwrap(), None);
    let (record, lease) = take(&ledger, &key, me()).await;
    assert_eq!(lease, Lease { key: key.clone(), owner: me(), epoch: 1, term: TERM });
    let stamp = Stamp { epoch: 1, beat: 0 };
    let expected = Record {
        key: key.clone(),
        state: String::new(),
        stamp,
        held: Some(Held { owner: me(), stamp, term: TERM }),
        generation: 0,
        wanted: None,
        attempts: 0,
        dead: None,
        notice: None,
        updated: at(0),
    };
    assert_eq!(record, expected);
    assert_eq!(read(&ledger, &key).await, expected);
    assert_eq!(ledger.renew(std::slice::from_ref(&lease)).await.unwrap(), [true]);
    assert!(!ledger.commit(&lease, end(&record, Finish::Done)).await.unwrap());
    let (record, lease) = take(&ledger, &key, other()).await;
    assert_eq!((lease.epoch, record.stamp), (2, Stamp { epoch: 2, beat: 0 }));
    assert_eq!(record.state, "{\"ended\":true}");
}

async fn a_lease_of_another_station_is_busy_until_its_stamp_stands_still(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    let (_, lease) = take(&ledger, &key, other()).await;
    let seen = Stamp { epoch: 1, beat: 0 };
    let busy = Take::Busy(Held { owner: other(), stamp: seen, term: TERM });
    assert_eq!(ledger.take(&key, &claim(me(), None)).await.unwrap(), busy);
    assert_eq!(ledger.renew(std::slice::from_ref(&lease)).await.unwrap(), [true]);
    // It moved since it was watched.
    let moved = Take::Busy(Held { owner: other(), stamp: Stamp { epoch: 1, beat: 1 }, term: TERM });
    assert_eq!(ledger.take(&key, &claim(me(), Some(seen))).await.unwrap(), moved);
    assert_eq!(ledger.take(&key, &claim(me(), Some(Stamp { epoch: 0, beat: 1 }))).await.unwrap(), moved);
    match ledger.take(&key, &claim(me(), Some(Stamp { epoch: 1, beat: 1 }))).await.unwrap() {
        Take::Taken(record, mine) => assert_eq!((mine.epoch, record.stamp.beat), (2, 0)),
        Take::Busy(held) => panic!("{held:?}"),
    }
    assert_eq!(ledger.save(&lease, "late", at(1)).await, Err(LedgerError::Lost));
}

async fn a_station_takes_back_its_own_lease(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    let (_, first) = take(&ledger, &key, me()).await;
    // The same boot, whose answer was lost.
    let (_, second) = take(&ledger, &key, me()).await;
    assert_eq!(second.epoch, 2);
    assert_eq!(ledger.renew(std::slice::from_ref(&first)).await.unwrap(), [false]);
    // A later boot.
    let (record, third) = take(&ledger, &key, owner("front-desk", "boot-2")).await;
    assert_eq!(third.epoch, 3);
    assert_eq!(record.held.unwrap().owner, owner("front-desk", "boot-2"));
    assert_eq!(ledger.renew(&[second, third]).await.unwrap(), [false, true]);
}

async fn one_of_many_takers_wins(world: impl World) {
    let ledger = world.ledger();
    for round in 0..10 {
        let key = patient(&round.to_string());
        let takers: Vec<_> = (0..16)
            .map(|number| {
                let (ledger, key) = (ledger.clone(), key.clone());
                let claim = claim(owner(&format!("station-{number}"), "boot"), None);
                tokio::spawn(async move { ledger.take(&key, &claim).await.unwrap() })
            })
            .collect();
        let mut won = Vec::new();
        let mut seen = BTreeSet::new();
        for taker in takers {
            match taker.await.unwrap() {
                Take::Taken(_, lease) => won.push(lease),
                Take::Busy(held) => {
                    seen.insert((held.owner.station, held.stamp.epoch));
                }
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(won[0].epoch, 1);
        assert_eq!(seen, BTreeSet::from([(won[0].owner.station.clone(), 1)]));
    }
}

async fn many_keys_are_taken_at_once(world: impl World) {
    let ledger = world.ledger();
    let takers: Vec<_> = (0..60)
        .map(|number| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let key = patient(&number.to_string());
                let (record, lease) = take(&ledger, &key, me()).await;
                assert_eq!((&record.key, &lease.key), (&key, &key), "somebody else's answer");
                let state = format!("state of {number}");
                ledger.save(&lease, &state, at(1)).await.unwrap();
                let commit = Commit { state, ..end(&record, Finish::Done) };
                assert!(!ledger.commit(&lease, commit).await.unwrap());
            })
        })
        .collect();
    for taker in takers {
        taker.await.unwrap();
    }
    for number in 0..60 {
        assert_eq!(read(&ledger, &patient(&number.to_string())).await.state, format!("state of {number}"));
    }
}

async fn renewing_raises_the_beat_of_our_own_leases_only(world: impl World) {
    let ledger = world.ledger();
    let (_, a) = take(&ledger, &patient("a"), me()).await;
    let (record, b) = take(&ledger, &patient("b"), me()).await;
    ledger.commit(&b, end(&record, Finish::Done)).await.unwrap();
    let (_, c) = take(&ledger, &patient("c"), me()).await;
    let absent = Lease { key: patient("absent"), ..a.clone() };
    let wrong_boot = Lease { owner: owner("front-desk", "boot-0"), ..c.clone() };
    let renewed = ledger.renew(&[a.clone(), b, absent, wrong_boot, c]).await.unwrap();
    assert_eq!(renewed, [true, false, false, false, true]);
    assert!(ledger.renew(&[]).await.unwrap().is_empty());
    assert_eq!(ledger.renew(&[a]).await.unwrap(), [true]);
    let held: Vec<_> =
        ledger.held().await.unwrap().into_iter().map(|(key, held)| (key.id.to_string(), held.stamp.beat)).collect();
    assert_eq!(held, [("a".to_owned(), 2), ("c".to_owned(), 1)]);
}

async fn saving_needs_the_lease_and_keeps_it(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    let (_, lease) = take(&ledger, &key, me()).await;
    let state = "{\"text\":\"quote \\\" ü 漢 \\u0000 back\\\\slash\"} \0 end";
    ledger.save(&lease, state, at(7)).await.unwrap();
    let record = read(&ledger, &key).await;
    assert_eq!((record.state.as_str(), record.updated), (state, at(7)));
    assert_eq!(record.held.unwrap().owner, me());
    for wrong in [
        Lease { epoch: 2, ..lease.clone() },
        Lease { owner: owner("front-desk", "boot-0"), ..lease.clone() },
        Lease { owner: other(), ..lease.clone() },
        Lease { key: patient("2"), ..lease.clone() },
    ] {
        assert_eq!(ledger.save(&wrong, "wrong", at(8)).await, Err(LedgerError::Lost));
        assert_eq!(ledger.commit(&wrong, end(&record_of(&lease), Finish::Done)).await, Err(LedgerError::Lost));
    }
    assert_eq!(read(&ledger, &key).await.state, state);
    assert_eq!(ledger.renew(&[lease]).await.unwrap(), [true]);
}

fn record_of(lease: &Lease) -> Record {
    Record {
        key: lease.key.clone(),
        state: String::new(),
        stamp: Stamp { epoch: lease.epoch, beat: 0 },
        held: None,
        generation: 0,
        wanted: None,
        attempts: 0,
        dead: None,
        notice: None,
        updated: at(0),
    }
}

/// Asked for at one moment, so that they travel together.
async fn a_lost_lease_changes_nothing_and_spoils_no_other(world: impl World) {
    let ledger = world.ledger();
    let mut ends = Vec::new();
    for number in 0..40 {
        let key = patient(&number.to_string());
        let (record, lease) = take(&ledger, &key, me()).await;
        if number % 2 == 0 {
            take(&ledger, &key, owner("front-desk", "boot-2")).await;
        }
        let ledger = ledger.clone();
        ends.push(async move { (number, ledger.commit(&lease, end(&record, Finish::Done)).await) });
    }
    let ends: Vec<_> = ends.into_iter().map(tokio::spawn).collect();
    for end in ends {
        let (number, result) = end.await.unwrap();
        let record = read(&ledger, &patient(&number.to_string())).await;
        if number % 2 == 0 {
            assert_eq!(result, Err(LedgerError::Lost));
            assert_eq!((record.state.as_str(), record.held.unwrap().stamp.epoch), ("", 2));
        } else {
            assert_eq!(result, Ok(false));
            assert_eq!((record.state.as_str(), record.held), ("{\"ended\":true}", None));
        }
    }
}

async fn a_run_that_is_done_is_no_longer_wanted(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    ledger.want(&[want(&key, 1, 2, None)]).await.unwrap();
    let (record, lease) = take(&ledger, &key, me()).await;
    ledger.commit(&lease, end(&record, later(3, true))).await.unwrap();
    let (record, lease) = take(&ledger, &key, me()).await;
    assert_eq!(record.attempts, 1);
    let commit = Commit { notice: Some(Code::Differs), ..end(&record, Finish::Done) };
    assert!(!ledger.commit(&lease, commit).await.unwrap());
    let record = read(&ledger, &key).await;
    assert_eq!(record.wanted, None);
    assert_eq!((record.attempts, record.notice, record.held, record.updated), (0, Some(Code::Differs), None, at(100)));
    assert_eq!(record.stamp.epoch, 2, "the stamp stays");
    assert!(due(&ledger, 1000).await.is_empty());
    // The remark lasts no longer than a run says.
    let (record, lease) = take(&ledger, &key, me()).await;
    ledger.commit(&lease, end(&record, Finish::Done)).await.unwrap();
    assert_eq!(read(&ledger, &key).await.notice, None);
    assert_eq!(ledger.commit(&lease, end(&record, Finish::Done)).await, Err(LedgerError::Lost), "freed already");
}

async fn a_run_that_ends_later_is_wanted_again(world: impl World) {
    let ledger = world.ledger();
    // Never marked: it becomes wanted, since when the run says.
    let (record, lease) = take(&ledger, &patient("1"), me()).await;
    assert!(ledger.commit(&lease, end(&record, later(200, false))).await.unwrap());
    let record = read(&ledger, &patient("1")).await;
    let wanted = Wanted { first_seen: at(50), not_before: at(200), waits_for: Some(Code::RecordOpen) };
    assert_eq!((record.wanted, record.attempts, record.held), (Some(wanted), 0, None));
    // Marked before: it stays so, since the earlier of both, and not before the run's end says.
    ledger.want(&[want(&patient("2"), 10, 20, None)]).await.unwrap();
    for attempts in 1..=2 {
        let (record, lease) = take(&ledger, &patient("2"), me()).await;
        assert!(ledger.commit(&lease, end(&record, later(300, true))).await.unwrap());
        let record = read(&ledger, &patient("2")).await;
        let wanted = Wanted { first_seen: at(10), not_before: at(300), waits_for: Some(Code::RecordOpen) };
        assert_eq!((record.wanted, record.attempts), (Some(wanted), attempts));
    }
    assert!(due(&ledger, 199).await.is_empty());
    assert_eq!(due(&ledger, 300).await, ["1", "2"]);
}

async fn a_mark_during_the_run_is_not_forgotten(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    for finish in [Finish::Done, Finish::Dead { code: Code::ValueRefused }, later(500, false)] {
        ledger.want(&[want(&key, 1, 2, None)]).await.unwrap();
        let (record, lease) = take(&ledger, &key, me()).await;
        ledger.want(&[want(&key, 60, 70, None)]).await.unwrap();
        assert!(ledger.commit(&lease, end(&record, finish.clone())).await.unwrap(), "{finish:?}");
        let record = read(&ledger, &key).await;
        assert!(record.wanted.is_some_and(|wanted| wanted.not_before <= at(70)), "{finish:?}: {record:?}");
        assert_eq!(record.dead, None);
        assert_eq!(due(&ledger, 70).await, ["1"]);
        // The next run sees the newer generation, and ends it.
        let (record, lease) = take(&ledger, &key, me()).await;
        assert!(!ledger.commit(&lease, end(&record, Finish::Done)).await.unwrap());
    }
    assert_eq!(read(&ledger, &key).await.generation, 6);
}

async fn a_run_that_ends_dead_waits_for_a_new_mark(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    ledger.want(&[want(&key, 1, 2, None)]).await.unwrap();
    let (record, lease) = take(&ledger, &key, me()).await;
    assert!(!ledger.commit(&lease, end(&record, Finish::Dead { code: Code::ValueRefused })).await.unwrap());
    let record = read(&ledger, &key).await;
    let dead = Dead { code: Code::ValueRefused, since: at(100), set_aside: false };
    assert_eq!((record.dead, record.wanted, record.held), (Some(dead), None, None));
    assert!(due(&ledger, 1000).await.is_empty());
    ledger.want(&[want(&key, 200, 200, None)]).await.unwrap();
    let record = read(&ledger, &key).await;
    assert_eq!(record.dead, None);
    assert_eq!(record.wanted.unwrap().first_seen, at(200));
    assert_eq!(due(&ledger, 1000).await, ["1"]);
    // Done clears what is left of it, too.
    let (record, lease) = take(&ledger, &key, me()).await;
    ledger.commit(&lease, end(&record, Finish::Dead { code: Code::Gone })).await.unwrap();
    let (record, lease) = take(&ledger, &key, me()).await;
    ledger.commit(&lease, end(&record, Finish::Done)).await.unwrap();
    assert_eq!(read(&ledger, &key).await.dead, None);
}

async fn marks_join_to_the_earliest(world: impl World) {
    let ledger = world.ledger();
    let key = patient("1");
    let wanted = async |ledger: &Arc<dyn Ledger>| {
        let record = read(ledger, &key).await;
        let wanted = record.wanted.unwrap();
        (record.generation, wanted.first_seen, wanted.not_before, wanted.waits_for)
    };
    ledger.want(&[want(&key, 10, 90, Some(Code::Throttled))]).await.unwrap();
    assert_eq!(wanted(&ledger).await, (1, at(10), at(90), Some(Code::Throttled)));
    ledger.want(&[want(&key, 20, 80, None)]).await.unwrap();
    assert_eq!(wanted(&ledger).await, (2, at(10), at(80), None));
    // Twice in one call, and with another in between.
    ledger.want(&[want(&key, 5, 99, None), want(&patient("2"), 1, 1, None), want(&key, 30, 70, None)]).await.unwrap();
    assert_eq!(wanted(&ledger).await, (4, at(5), at(70), None));
    assert_eq!(read(&ledger, &patient("2")).await.generation, 1);
    ledger.want(&[]).await.unwrap();
    // A later mark puts nothing off.
    ledger.want(&[want(&key, 50, 200, None)]).await.unwrap();
    assert_eq!(wanted(&ledger).await, (5, at(5), at(70), None));
    // No lease is needed, and a lease keeps nobody from marking.
    let (_, lease) = take(&ledger, &key, other()).await;
    let marks: Vec<_> = (0..20)
        .map(|_| {
            let (ledger, key) = (ledger.clone(), key.clone());
            tokio::spawn(async move { ledger.want(&[want(&key, 40, 60, None)]).await.unwrap() })
        })
        .collect();
    for mark in marks {
        mark.await.unwrap();
    }
    assert_eq!(wanted(&ledger).await, (25, at(5), at(60), None));
    assert_eq!(ledger.renew(&[lease]).await.unwrap(), [true]);
}

async fn what_is_due_comes_in_the_order_it_became_due(world: impl World) {
    let ledger = world.ledger();
    let cursor = RecordKey::cursor(firm("north"), ResourceType::new("Patient").unwrap(), "changes");
    ledger
        .want(&[
            want(&patient("third"), 30, 40, None),
            want(&patient("first"), 10, 50, None),
            want(&patient("second"), 20, 20, None),
            want(&patient("not-yet"), 5, 60, None),
            want(&patient("wrong-clock"), 1, 50 + 3601, None),
            want(&patient("on-the-horizon"), 1, 50 + 3600, None),
            want(&key("south/link/Patient/elsewhere"), 1, 1, None),
            want(&key("north-west/link/Patient/elsewhere"), 1, 1, None),
            want(&cursor, 1, 1, None),
        ])
        .await
        .unwrap();
    take(&ledger, &patient("first"), other()).await;
    assert_eq!(due(&ledger, 50).await, ["wrong-clock", "second", "third", "first"]);
    let two = ledger.due(&firm("north"), &Kind::RUN, at(50), HORIZON, 2).await.unwrap();
    assert_eq!(two, [(patient("wrong-clock"), at(1)), (patient("second"), at(20))]);
    assert!(ledger.due(&firm("east"), &Kind::RUN, at(50), HORIZON, 2).await.unwrap().is_empty());
}

/// An encounter is wanted at its next check, and a document until it is read: that holds no clinic's changes up.
async fn what_is_watched_is_no_backlog(world: impl World) {
    let ledger = world.ledger();
    let (encounter, document) = (key("north/encounter/Encounter/1"), key("north/document/Media/1"));
    ledger.want(&[want(&encounter, 1, 2, Some(Code::Throttled)), want(&document, 1, 1, None)]).await.unwrap();
    let due = async |kinds: &[Kind]| {
        let due = ledger.due(&firm("north"), kinds, at(5), HORIZON, 9).await.unwrap();
        due.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(due(&Kind::RUN).await, []);
    assert_eq!(due(&[Kind::Encounter]).await, std::slice::from_ref(&encounter));
    assert_eq!(due(&[Kind::Encounter, Kind::Document]).await, [document, encounter]);
    assert!(ledger.page(Filter::Wanted, None, 9).await.unwrap().is_empty());
    assert_eq!(ledger.count(Filter::Wanted).await.unwrap(), 0);
    let survey = ledger.survey().await.unwrap();
    assert_eq!((survey.wanted, survey.oldest_wanted), (0, None));
}

async fn pages_follow_the_order_of_keys(world: impl World) {
    let ledger = world.ledger();
    let mut keys: Vec<_> = [
        "a-b/link/Patient/1",
        "a/link/Patient/1",
        "a/link/Patient/1.2",
        "a/link/Patient/1-2",
        "a/link/Patient/10",
        "a/link/Patient/A",
        "a/link/Observation/z",
        "a/cursor/Patient/changes",
        "a/proof/Patient/unique-key",
        "a1/link/Patient/1",
        "b/link/Patient/1",
        "b/token/Token/never-listed",
    ]
    .map(key)
    .to_vec();
    for key in &keys {
        ledger.want(&[want(key, 1, 1, None)]).await.unwrap();
    }
    keys.pop();
    keys.sort();
    let mut all = Vec::new();
    loop {
        let page = ledger.page(Filter::All, all.last(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        all.extend(page.into_iter().map(|record| record.key));
    }
    assert_eq!(all, keys);

    let one = async |filter: Filter, after: Option<&RecordKey>| {
        let page = ledger.page(filter, after, 100).await.unwrap();
        if after.is_none() {
            assert_eq!(ledger.count(filter).await.unwrap(), page.len() as u64, "{filter:?}");
        }
        page.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    // What is listed of those is what is run.
    keys.retain(|key| key.kind.is_run());
    assert_eq!(one(Filter::Wanted, None).await, keys);
    let (first, second, third) = (&keys[0], &keys[1], &keys[2]);
    let (record, lease) = take(&ledger, first, me()).await;
    ledger.commit(&lease, end(&record, Finish::Dead { code: Code::Gone })).await.unwrap();
    let (record, lease) = take(&ledger, second, me()).await;
    let noticed = Commit { notice: Some(Code::Differs), ..end(&record, Finish::Done) };
    ledger.commit(&lease, noticed).await.unwrap();
    let (_, lease) = take(&ledger, third, other()).await;
    // One that was never renewed may be missing from lists.
    assert_eq!(ledger.renew(&[lease]).await.unwrap(), [true]);
    assert_eq!(one(Filter::Wanted, None).await, keys[2..]);
    assert_eq!(one(Filter::Wanted, Some(&keys[4])).await, keys[5..]);
    assert_eq!(one(Filter::Dead, None).await, keys[..1]);
    assert_eq!(one(Filter::Dead, Some(first)).await, []);
    assert_eq!(one(Filter::Noticed, None).await, keys[1..2]);
    assert_eq!(one(Filter::Held, None).await, keys[2..3]);
    assert_eq!(one(Filter::Held, Some(second)).await, keys[2..3]);
    assert_eq!(one(Filter::Held, Some(third)).await, []);
}

async fn the_survey_counts(world: impl World) {
    let ledger = world.ledger();
    assert_eq!(ledger.survey().await.unwrap(), Survey::default());
    let wants: Vec<_> = (0..6).map(|number| want(&patient(&number.to_string()), 10 + number, 20, None)).collect();
    ledger.want(&wants).await.unwrap();
    ledger.want(&wants[..2]).await.unwrap();
    for (number, finish) in [(0, Finish::Dead { code: Code::Gone }), (1, Finish::Dead { code: Code::Gone })] {
        let (record, lease) = take(&ledger, &patient(&number.to_string()), me()).await;
        ledger.commit(&lease, end(&record, finish)).await.unwrap();
    }
    let (record, lease) = take(&ledger, &patient("2"), me()).await;
    let commit = Commit { notice: Some(Code::Differs), ..end(&record, Finish::Done) };
    ledger.commit(&lease, commit).await.unwrap();
    let (record, lease) = take(&ledger, &patient("torn"), me()).await;
    let commit = Commit { notice: Some(Code::Conflict), ..end(&record, Finish::Done) };
    ledger.commit(&lease, commit).await.unwrap();
    let (_, third) = take(&ledger, &patient("3"), me()).await;
    let (_, new) = take(&ledger, &patient("new"), other()).await;
    assert_eq!(ledger.renew(&[third, new]).await.unwrap(), [true, true]);
    ledger.set_aside(&[patient("0"), patient("4")], true).await.unwrap();
    ledger.bury(letter("m-1")).await.unwrap();
    // Records of the relay's own housekeeping are not what a person counts.
    let cursor = RecordKey::cursor(firm("north"), ResourceType::new("Patient").unwrap(), "changes");
    ledger.want(&[want(&cursor, 1, 1, None)]).await.unwrap();
    assert_eq!(
        ledger.survey().await.unwrap(),
        Survey {
            records: 8,
            wanted: 3,
            oldest_wanted: Some(at(13)),
            held: 2,
            dead: 2,
            noticed: 2,
            conflicts: 1,
            age: Duration::ZERO
        }
    );
}

async fn dead_records_are_put_aside_and_back(world: impl World) {
    let ledger = world.ledger();
    let (record, lease) = take(&ledger, &patient("dead"), me()).await;
    ledger.commit(&lease, end(&record, Finish::Dead { code: Code::Gone })).await.unwrap();
    take(&ledger, &patient("alive"), me()).await;
    let both = [patient("dead"), patient("alive"), patient("absent")];
    for aside in [true, false, true] {
        ledger.set_aside(&both, aside).await.unwrap();
        assert_eq!(read(&ledger, &patient("dead")).await.dead.unwrap().set_aside, aside);
        assert_eq!(read(&ledger, &patient("alive")).await.dead, None);
        assert_eq!(ledger.read(&patient("absent")).await.unwrap(), None);
    }
    // Who dies again needs attention again.
    ledger.want(&[want(&patient("dead"), 1, 1, None)]).await.unwrap();
    let (record, lease) = take(&ledger, &patient("dead"), me()).await;
    ledger.commit(&lease, end(&record, Finish::Dead { code: Code::Gone })).await.unwrap();
    assert!(!read(&ledger, &patient("dead")).await.dead.unwrap().set_aside);
}

fn letter(id: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        code: Code::Malformed,
        reason: format!("the message is not a hint ({id})"),
        sealed_body: vec![0, 1, 2, 255],
        first_seen: at(3),
    }
}

async fn firms_that_nobody_serves_are_those_that_are_wanted_and_not_ours(world: impl World) {
    let ledger = world.ledger();
    let ours = [firm("north")];
    assert_eq!(ledger.unserved(&ours).await.unwrap(), []);
    for of in ["north", "south"] {
        ledger.want(&[want(&key(&format!("{of}/link/Patient/1")), 5, 5, None)]).await.unwrap();
    }
    assert_eq!(ledger.unserved(&ours).await.unwrap(), [firm("south")]);
    assert_eq!(ledger.unserved(&[firm("north"), firm("south")]).await.unwrap(), []);
}

async fn letters_are_buried_once(world: impl World) {
    let ledger = world.ledger();
    ledger.bury(letter("m-1")).await.unwrap();
    let again = DeadLetter { code: Code::UnknownFirm, reason: "another".into(), ..letter("m-1") };
    ledger.bury(again).await.unwrap();
    ledger.bury(letter("m-2")).await.unwrap();
    ledger.bury(letter("m-3")).await.unwrap();
    assert_eq!(ledger.dead_letters(9).await.unwrap(), [letter("m-1"), letter("m-2"), letter("m-3")]);
    assert_eq!(ledger.dead_letters(2).await.unwrap().len(), 2);
    ledger.unbury(&["m-2".into(), "m-9".into()]).await.unwrap();
    ledger.unbury(&[]).await.unwrap();
    assert_eq!(ledger.dead_letters(9).await.unwrap(), [letter("m-1"), letter("m-3")]);
}

async fn everything_survives_a_crash(world: impl Lasting) {
    let ledger = world.ledger();
    ledger.want(&[want(&patient("wanted"), 1, 2, Some(Code::Throttled))]).await.unwrap();
    let (_, held) = take(&ledger, &patient("held"), me()).await;
    ledger.save(&held, "{\"intent\":1}", at(4)).await.unwrap();
    take(&ledger, &patient("foreign"), other()).await;
    let (record, lease) = take(&ledger, &patient("dead"), me()).await;
    ledger.commit(&lease, end(&record, Finish::Dead { code: Code::Gone })).await.unwrap();
    ledger.set_aside(&[patient("dead")], true).await.unwrap();
    ledger.bury(letter("m-1")).await.unwrap();
    let before = ledger.page(Filter::All, None, 100).await.unwrap();
    let survey = ledger.survey().await.unwrap();

    let world = world.crash().await;
    let ledger = world.ledger();
    assert_eq!(ledger.page(Filter::All, None, 100).await.unwrap(), before);
    assert_eq!(ledger.survey().await.unwrap(), survey);
    assert_eq!(ledger.dead_letters(9).await.unwrap(), [letter("m-1")]);
    // The station takes its own back at once, and nobody else's.
    let next = owner("front-desk", "boot-2");
    let (record, lease) = take(&ledger, &patient("held"), next.clone()).await;
    assert_eq!((record.state.as_str(), lease.epoch), ("{\"intent\":1}", 2));
    assert_eq!(ledger.save(&held, "late", at(9)).await, Err(LedgerError::Lost));
    assert!(matches!(ledger.take(&patient("foreign"), &claim(next, None)).await.unwrap(), Take::Busy(_)));
}
