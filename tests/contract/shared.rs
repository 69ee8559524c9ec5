//! What the AWS adapters do beyond the contract: lost answers, partial failures, refusals, FIFO, cost, provisioning.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chart_relay::adapters::aws::{
    Account,
    dynamodb::{self, DynamoLedger},
    provision::{State, Wish, provision},
    sqs::{self, SqsQueue},
};
use engine::{
    error::{Class, Code},
    fakes::FakeClock,
    key::{RecordKey, StationId},
    keys::ClinicKey,
    ledger::{Claim, Commit, Dead, DeadLetter, Finish, Record, Stamp, Take, Want, Wanted},
    ports::{Ledger as _, Message, Queue as _, Receipt},
};
use serde_json::json;

use crate::{
    at,
    aws::{account, wish},
    owner,
    proxy::{Act, Proxy},
};

macro_rules! on_both {
    ($($test:ident)*) => {
        mod ministack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::aws::ministack()).await;
            })*
        }
        mod moto {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::aws::moto()).await;
            })*
        }
    };
}
pub(crate) use on_both;

on_both!(
    a_commit_whose_answer_is_lost_is_known_as_our_own
    a_take_whose_answer_is_lost_is_taken_once_more
    a_commit_after_somebody_else_took_over_is_lost
    a_save_whose_answer_is_lost_is_known_and_none_lands_after_a_later_one
    throttling_waits_and_a_refusal_names_the_permission
    what_was_deleted_is_named_and_found_again
    entries_of_a_batch_that_fail_are_sent_again
    entries_of_a_batch_that_cannot_be_deleted_come_again
    a_fifo_queue_keeps_the_order_of_a_group_and_every_event
    a_run_costs_two_writes_or_three_and_an_event_a_third_of_a_request
    provisioning_again_changes_nothing
    a_letter_may_be_larger_than_an_item
    a_lease_that_nobody_renewed_is_found_by_whoever_met_it
    stations_have_names_of_their_own_and_one_clinic_key
    figures_that_are_repeated_tell_their_age_and_miss_no_work_of_our_own
    a_record_is_brought_as_it_is_and_only_once
);

struct Rig {
    account: Account,
    proxy: Proxy,
    wish: Wish,
    queue: SqsQueue,
    ledger: Arc<DynamoLedger>,
}

async fn rig(address: &str, fifo: bool) -> Rig {
    let proxy = Proxy::start(address).await;
    let account = account(&proxy.address).await;
    let wish = wish(fifo);
    provision(&account, &wish, true).await.unwrap();
    let clock = FakeClock::at(at(0));
    // An emulator names its own address; requests for it go through the proxy all the same.
    let url = sqs::find(&account, &wish.queue).await.unwrap();
    let queue = sqs::Options { url, visibility: wish.visibility, figures_every: Duration::ZERO };
    let ledger = dynamodb::Options { prefix: wish.prefix.clone(), figures_every: Duration::ZERO };
    Rig {
        queue: SqsQueue::new(&account, queue, clock.clone()),
        ledger: Arc::new(DynamoLedger::new(&account, ledger, clock)),
        proxy,
        account,
        wish,
    }
}

pub(crate) fn patient(id: &str) -> RecordKey {
    RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap()
}

pub(crate) fn claim(station: &str) -> Claim {
    Claim { owner: owner(station, "boot-1"), term: Duration::from_secs(60), overdue: None, now: at(0) }
}

pub(crate) fn done(generation: u64) -> Commit {
    Commit { state: "{}".into(), finish: Finish::Done, notice: None, generation, first_seen: at(0), now: at(1) }
}

async fn take(rig: &Rig, id: &str, station: &str) -> engine::ledger::Lease {
    match rig.ledger.take(&patient(id), &claim(station)).await.unwrap() {
        Take::Taken(_, lease) => lease,
        Take::Busy(held) => panic!("{held:?}"),
    }
}

async fn a_commit_whose_answer_is_lost_is_known_as_our_own(address: &str) {
    let rig = rig(address, false).await;
    let lease = take(&rig, "1", "front-desk").await;
    rig.proxy.next("UpdateItem", Act::LoseAnswer);
    assert!(!rig.ledger.commit(&lease, done(0)).await.unwrap(), "committed, and not wanted");
    assert!(rig.proxy.is_done());
    // Asked for once more it is not ours any longer.
    assert!(rig.ledger.commit(&lease, done(0)).await.is_err());
    // The same where somebody wanted the record in between.
    let lease = take(&rig, "2", "front-desk").await;
    rig.proxy.next("UpdateItem", Act::LoseAnswer);
    let want = Want { key: patient("2"), first_seen: at(5), not_before: at(5), waits_for: None };
    let (committed, wanted) =
        tokio::join!(rig.ledger.commit(&lease, done(0)), rig.ledger.want(std::slice::from_ref(&want)));
    wanted.unwrap();
    committed.unwrap();
    assert!(rig.ledger.read(&patient("2")).await.unwrap().unwrap().wanted.is_some());
}

async fn a_take_whose_answer_is_lost_is_taken_once_more(address: &str) {
    let rig = rig(address, false).await;
    take(&rig, "warm-up", "front-desk").await;
    rig.proxy.next("UpdateItem", Act::LoseAnswer);
    let lease = take(&rig, "1", "front-desk").await;
    assert_eq!(lease.epoch, 2, "the first is fenced off");
    rig.ledger.save(&lease, "{}", at(1)).await.unwrap();
    assert!(matches!(rig.ledger.take(&patient("1"), &claim("back-office")).await.unwrap(), Take::Busy(_)));
}

async fn a_save_whose_answer_is_lost_is_known_and_none_lands_after_a_later_one(address: &str) {
    let rig = rig(address, false).await;
    let lease = take(&rig, "1", "front-desk").await;
    rig.proxy.next("UpdateItem", Act::LoseAnswer);
    rig.ledger.save(&lease, "first", at(1)).await.unwrap();
    assert!(rig.proxy.is_done());
    // The network holds a request back, and it arrives when the next one has long been answered.
    rig.proxy.next("UpdateItem", Act::Late(2));
    rig.ledger.save(&lease, "second", at(2)).await.unwrap();
    rig.ledger.save(&lease, "third", at(3)).await.unwrap();
    rig.proxy.late_ones_arrived().await;
    assert_eq!(rig.ledger.read(&patient("1")).await.unwrap().unwrap().state, "third");
    // The next holder begins anew.
    rig.ledger.commit(&lease, done(0)).await.unwrap();
    let lease = take(&rig, "1", "back-office").await;
    rig.ledger.save(&lease, "fourth", at(4)).await.unwrap();
}

async fn a_commit_after_somebody_else_took_over_is_lost(address: &str) {
    let rig = rig(address, false).await;
    let lease = take(&rig, "1", "front-desk").await;
    let held = rig.ledger.read(&patient("1")).await.unwrap().unwrap().stamp;
    let overdue = Claim { overdue: Some(held), ..claim("back-office") };
    assert!(matches!(rig.ledger.take(&patient("1"), &overdue).await.unwrap(), Take::Taken(..)));
    assert!(rig.ledger.commit(&lease, done(0)).await.is_err());
    assert_eq!(
        rig.ledger.read(&patient("1")).await.unwrap().unwrap().held.unwrap().owner.station.as_str(),
        "back-office"
    );
}

fn refusal(name: &str) -> String {
    json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "SYNTHETIC" }).to_string()
}

async fn throttling_waits_and_a_refusal_names_the_permission(address: &str) {
    let rig = rig(address, false).await;
    // Twice is not felt: the SDK tries three times.
    for _ in 0..2 {
        rig.proxy.next("GetItem", Act::Answer(400, refusal("ProvisionedThroughputExceededException")));
    }
    rig.ledger.read(&patient("1")).await.unwrap();
    for _ in 0..3 {
        rig.proxy.next("GetItem", Act::Answer(400, refusal("ProvisionedThroughputExceededException")));
    }
    let fault = rig.ledger.read(&patient("1")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Wait(None), Code::Throttled));
    assert!(rig.proxy.is_done());

    rig.proxy.next("UpdateItem", Act::Answer(400, refusal("AccessDeniedException")));
    let fault = rig.ledger.take(&patient("1"), &claim("front-desk")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::AccessDenied));
    let said = fault.to_string();
    assert!(said.contains("dynamodb:UpdateItem on") && !said.contains("SYNTHETIC"), "{said}");

    rig.proxy.next("ReceiveMessage", Act::Answer(403, refusal("ExpiredTokenException")));
    let fault = rig.queue.receive(1, Duration::ZERO).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::SignInRefused));
    // Nothing has to be restarted.
    assert!(rig.queue.receive(1, Duration::ZERO).await.unwrap().is_empty());
}

async fn what_was_deleted_is_named_and_found_again(address: &str) {
    let wish = wish(false);
    let account = account(address).await;
    let clock = FakeClock::at(at(0));
    let ledger = dynamodb::Options { prefix: wish.prefix.clone(), figures_every: Duration::ZERO };
    let ledger = DynamoLedger::new(&account, ledger, clock);
    let fault = ledger.take(&patient("1"), &claim("front-desk")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::TableMissing));
    let fault = sqs::find(&account, &wish.queue).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::QueueMissing));
    provision(&account, &wish, true).await.unwrap();
    assert!(matches!(ledger.take(&patient("1"), &claim("front-desk")).await.unwrap(), Take::Taken(..)));

    let away = crate::aws::account("http://127.0.0.1:9").await;
    let fault = sqs::find(&away, &wish.queue).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Away, Code::Unreachable));
}

pub(crate) fn message(number: usize) -> Message {
    Message { id: format!("id-{number}"), group: format!("group-{}", number % 2), body: format!("body {number}") }
}

async fn receive_all(rig: &Rig, count: usize) -> Vec<engine::ports::Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = rig.queue.receive(10, Duration::from_secs(1)).await.unwrap();
        assert!(!some.is_empty(), "{} of {count}", all.len());
        all.extend(some);
    }
    all
}

/// The batch was taken in part: what is not mentioned as sent is sent again.
async fn entries_of_a_batch_that_fail_are_sent_again(address: &str) {
    let rig = rig(address, false).await;
    let failed = |fault: bool, code: &str| {
        let md5 = "0";
        let sent: Vec<_> =
            [0, 2].map(|id| json!({ "Id": id.to_string(), "MessageId": "m", "MD5OfMessageBody": md5 })).to_vec();
        json!({ "Successful": sent, "Failed": [{ "Id": "1", "SenderFault": fault, "Code": code, "Message": "SYNTHETIC" }] })
    };
    rig.proxy.next("SendMessageBatch", Act::Answer(200, failed(false, "InternalError").to_string()));
    rig.queue.send((0..3).map(message).collect()).await.unwrap();
    let got = receive_all(&rig, 1).await;
    assert_eq!(got.iter().map(|delivery| delivery.id.as_str()).collect::<Vec<_>>(), ["id-1"]);
    // What is refused for good is told at once.
    rig.proxy.next("SendMessageBatch", Act::Answer(200, failed(true, "InvalidMessageContents").to_string()));
    let fault = rig.queue.send((0..3).map(message).collect()).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Permanent, Code::Rejected));
    assert!(rig.proxy.is_done());
}

async fn entries_of_a_batch_that_cannot_be_deleted_come_again(address: &str) {
    let rig = rig(address, false).await;
    rig.queue.send((0..3).map(message).collect()).await.unwrap();
    let receipts: Vec<Receipt> = receive_all(&rig, 3).await.into_iter().map(|delivery| delivery.receipt).collect();
    let answer = |code: &str, fault: bool| {
        let done: Vec<_> = [0, 2].map(|id| json!({ "Id": id.to_string() })).to_vec();
        json!({ "Successful": done, "Failed": [{ "Id": "1", "SenderFault": fault, "Code": code, "Message": "x" }] })
            .to_string()
    };
    // For good.
    rig.proxy.next("ChangeMessageVisibilityBatch", Act::Answer(200, answer("ReceiptHandleIsInvalid", true)));
    assert_eq!(rig.queue.extend(&receipts).await.unwrap(), receipts[1..2]);
    // In passing: asked once more it is deleted. What counts is that nothing is left: SQS documents that deleting what is
    // deleted is answered as done, and MiniStack refuses the receipt then.
    rig.proxy.next("DeleteMessageBatch", Act::AnswerInstead(200, answer("InternalError", false)));
    let left = rig.queue.acknowledge(&receipts).await.unwrap();
    assert!(left.is_empty() || left == receipts[1..2], "{left:?}");
    assert!(rig.proxy.is_done());
    // An answer that is lost is asked for again by the SDK.
    rig.queue.send(vec![message(9)]).await.unwrap();
    let receipts: Vec<Receipt> = receive_all(&rig, 1).await.into_iter().map(|delivery| delivery.receipt).collect();
    rig.proxy.next("DeleteMessageBatch", Act::LoseAnswer);
    rig.queue.acknowledge(&receipts).await.unwrap();
    assert!(rig.proxy.is_done());
    assert_eq!(rig.queue.depth().await.unwrap(), engine::ports::Depth::default());
}

async fn a_fifo_queue_keeps_the_order_of_a_group_and_every_event(address: &str) {
    let rig = rig(address, true).await;
    // Equal bodies are two events all the same.
    let mut messages: Vec<_> = (0..24).map(message).collect();
    messages.extend((24..26).map(|number| Message { body: "the same".into(), ..message(number) }));
    rig.queue.send(messages.clone()).await.unwrap();
    // A message that the SDK sends once more, because its answer was lost, is one event.
    rig.proxy.next("SendMessageBatch", Act::LoseAnswer);
    rig.queue.send(vec![message(26)]).await.unwrap();
    let mut seen: Vec<usize> = Vec::new();
    while seen.len() < 27 {
        let got = rig.queue.receive(10, Duration::from_secs(1)).await.unwrap();
        assert!(!got.is_empty(), "{seen:?}");
        seen.extend(got.iter().map(|delivery| delivery.id.strip_prefix("id-").unwrap().parse::<usize>().unwrap()));
        let receipts: Vec<_> = got.into_iter().map(|delivery| delivery.receipt).collect();
        assert!(rig.queue.acknowledge(&receipts).await.unwrap().is_empty());
    }
    for group in 0..2 {
        let of_group: Vec<_> = seen.iter().filter(|number| *number % 2 == group).collect();
        assert!(of_group.is_sorted(), "{seen:?}");
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 27);
    assert!(rig.queue.receive(10, Duration::ZERO).await.unwrap().is_empty());
}

async fn a_run_costs_two_writes_or_three_and_an_event_a_third_of_a_request(address: &str) {
    let rig = rig(address, false).await;
    let requests = rig.account.requests();
    for id in ["1", "2"] {
        let lease = take(&rig, id, "front-desk").await;
        rig.ledger.commit(&lease, done(0)).await.unwrap();
    }
    let before = requests.of("dynamodb");
    let lease = take(&rig, "1", "front-desk").await;
    rig.ledger.commit(&lease, done(0)).await.unwrap();
    assert_eq!(requests.of("dynamodb") - before, 2, "where nothing differs");
    let before = requests.of("dynamodb");
    let lease = take(&rig, "2", "front-desk").await;
    rig.ledger.save(&lease, "{\"intent\":1}", at(1)).await.unwrap();
    rig.ledger.commit(&lease, done(0)).await.unwrap();
    assert_eq!(requests.of("dynamodb") - before, 3, "where something is written");

    let before = requests.of("sqs");
    rig.queue.send((0..100).map(message).collect()).await.unwrap();
    for _ in 0..10 {
        let got = rig.queue.receive(10, Duration::from_secs(1)).await.unwrap();
        assert_eq!(got.len(), 10);
        let receipts: Vec<_> = got.into_iter().map(|delivery| delivery.receipt).collect();
        assert!(rig.queue.acknowledge(&receipts).await.unwrap().is_empty());
    }
    assert_eq!(requests.of("sqs") - before, 30, "0.3 for each event");
}

async fn provisioning_again_changes_nothing(address: &str) {
    for fifo in [false, true] {
        let account = account(address).await;
        let wish = wish(fifo);
        let missing = provision(&account, &wish, false).await.unwrap();
        assert!(missing.iter().all(|found| found.state == State::Missing), "{missing:#?}");
        let made = provision(&account, &wish, true).await.unwrap();
        assert!(made.iter().all(|found| found.state == State::Created), "{made:#?}");
        for change in [false, true] {
            let again = provision(&account, &wish, change).await.unwrap();
            assert!(again.iter().all(|found| found.state == State::Right), "{again:#?}");
            assert_eq!(again.len(), made.len());
        }
    }
}

async fn a_letter_may_be_larger_than_an_item(address: &str) {
    let rig = rig(address, false).await;
    let letter = DeadLetter {
        id: "m-1".into(),
        code: Code::Malformed,
        reason: "synthetic".into(),
        sealed_body: (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect(),
        first_seen: at(0),
    };
    rig.ledger.bury(letter.clone()).await.unwrap();
    assert_eq!(rig.ledger.dead_letters(9).await.unwrap(), [letter]);
    assert_eq!(rig.ledger.survey().await.unwrap().dead, 1);
    rig.ledger.unbury(&["m-1".into()]).await.unwrap();
    assert!(rig.ledger.dead_letters(9).await.unwrap().is_empty());
}

async fn a_lease_that_nobody_renewed_is_found_by_whoever_met_it(address: &str) {
    let rig = rig(address, false).await;
    take(&rig, "1", "front-desk").await;
    assert!(rig.ledger.held().await.unwrap().is_empty(), "{} costs no third write", rig.wish.prefix);
    assert!(matches!(rig.ledger.take(&patient("1"), &claim("back-office")).await.unwrap(), Take::Busy(_)));
    let held = rig.ledger.held().await.unwrap();
    assert_eq!(held.len(), 1);
    let overdue = Claim { overdue: Some(held[0].1.stamp), ..claim("back-office") };
    assert!(matches!(rig.ledger.take(&patient("1"), &overdue).await.unwrap(), Take::Taken(..)));
    assert!(rig.ledger.held().await.unwrap().is_empty());
}

async fn stations_have_names_of_their_own_and_one_clinic_key(address: &str) {
    let rig = rig(address, false).await;
    let station = |name: &str| StationId::new(name).unwrap();
    let (key, other) = (ClinicKey::from_bytes([1; 32]).id(), ClinicKey::from_bytes([2; 32]).id());
    // Whenever it starts.
    for _ in 0..2 {
        rig.ledger.join(&station("front-desk"), "computer-1", &key).await.unwrap();
    }
    rig.ledger.join(&station("back-office"), "computer-2", &key).await.unwrap();
    let taken = rig.ledger.join(&station("front-desk"), "computer-3", &key).await.unwrap_err();
    assert_eq!((taken.class, taken.code), (Class::Stop, Code::StationTaken));
    let differs = rig.ledger.join(&station("third"), "computer-3", &other).await.unwrap_err();
    assert_eq!((differs.class, differs.code), (Class::Stop, Code::DatabaseKey));
}

async fn a_record_is_brought_as_it_is_and_only_once(address: &str) {
    let rig = rig(address, false).await;
    let dead = Record {
        key: patient("1"),
        state: "{\"base\":1}".into(),
        stamp: Stamp { epoch: 17, beat: 3 },
        held: None,
        generation: 5,
        wanted: None,
        attempts: 2,
        dead: Some(Dead { code: Code::ValueRefused, since: at(3), set_aside: true }),
        notice: Some(Code::Differs),
        updated: at(4),
    };
    let wanted = Wanted { first_seen: at(1), not_before: at(2), waits_for: Some(Code::RecordOpen) };
    let waits = Record { key: patient("2"), dead: None, notice: None, wanted: Some(wanted), ..dead.clone() };
    for record in [&dead, &waits] {
        assert!(rig.ledger.bring(record).await.unwrap());
        assert_eq!(rig.ledger.read(&record.key).await.unwrap().as_ref(), Some(record));
    }
    let survey = rig.ledger.survey().await.unwrap();
    assert_eq!((survey.records, survey.wanted, survey.dead, survey.noticed), (2, 1, 0, 1));
    // What is there already stays as it is, also where it is our own and its answer was lost.
    let other = Record { state: "{}".into(), ..dead.clone() };
    assert!(!rig.ledger.bring(&other).await.unwrap());
    assert_eq!(rig.ledger.read(&dead.key).await.unwrap(), Some(dead));
    rig.proxy.next("UpdateItem", Act::LoseAnswer);
    let third = Record { key: patient("3"), ..waits };
    assert!(!rig.ledger.bring(&third).await.unwrap());
    assert_eq!(rig.ledger.read(&third.key).await.unwrap().as_ref(), Some(&third));
    // Fencing goes on where it was.
    assert_eq!(take(&rig, "2", "front-desk").await.epoch, 18);
}

async fn figures_that_are_repeated_tell_their_age_and_miss_no_work_of_our_own(address: &str) {
    let rig = rig(address, false).await;
    let clock = FakeClock::at(at(0));
    let figures_every = Duration::from_secs(10);
    let options = dynamodb::Options { prefix: rig.wish.prefix.clone(), figures_every };
    let ledger = DynamoLedger::new(&rig.account, options, clock.clone());
    let want = |id: &str| [Want { key: patient(id), first_seen: at(5), not_before: at(5), waits_for: None }];
    let survey = async || {
        let survey = ledger.survey().await.unwrap();
        (survey.wanted, survey.age.as_secs())
    };
    assert_eq!(survey().await, (0, 0));
    let asked = rig.account.requests().of("dynamodb");
    clock.suspend(Duration::from_secs(4));
    assert_eq!(survey().await, (0, 4));
    assert_eq!(rig.account.requests().of("dynamodb"), asked, "repeated");
    // What somebody else leaves is not seen before the next count, and the age says so. What we leave ourselves is.
    rig.ledger.want(&want("1")).await.unwrap();
    assert_eq!(survey().await.0, 0);
    ledger.want(&want("2")).await.unwrap();
    assert_eq!(survey().await, (1, 4));
    clock.suspend(Duration::from_secs(7));
    assert_eq!(survey().await, (2, 0));
}
