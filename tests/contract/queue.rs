//! The queue: at least once, durable on return, acknowledged by the receipt of the last receive only.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use engine::ports::{Delivery, Depth, Message, Queue, Receipt};

use crate::{
    suite,
    worlds::{Lasting, Memory, MiniStack, Moto, SharedMemory, Sqlite, World},
};

/// What every implementation promises; one that lasts promises more.
macro_rules! promises {
    ($implementation:ident: $world:path $(, and $more:ident)*) => {
        suite!($implementation: $world =>
            what_is_sent_is_received_in_order_with_its_particulars
            a_received_message_is_hidden_and_comes_again_after_its_time
            acknowledging_deletes_for_good_and_tells_what_it_could_not_delete
            a_receipt_is_worth_nothing_once_the_message_was_received_again
            an_extended_delivery_stays_hidden
            a_released_delivery_is_visible_at_once
            a_waiting_receiver_gets_what_is_sent_meanwhile
            a_waiting_receiver_gets_what_is_released_meanwhile
            a_receiver_waits_no_longer_than_asked
            no_message_is_handed_to_two_of_many_receivers
            bodies_are_kept_byte_for_byte
            depth_counts_waiting_and_in_flight
            $($more)*
        );
    };
}
promises!(sqlite: crate::queue::Sqlite,
    and a_receiver_that_gave_up_keeps_nothing_hidden,
    and what_was_acknowledged_stays_so_over_a_crash_and_the_rest_is_visible_at_once
);
promises!(memory: crate::queue::Memory);
promises!(shared_memory: crate::queue::SharedMemory);
promises!(ministack: crate::queue::MiniStack);
promises!(moto: crate::queue::Moto);

fn message(number: u32) -> Message {
    Message { id: format!("id-{number}"), group: format!("group-{}", number % 3), body: format!("body {number}") }
}

async fn send(queue: &Arc<dyn Queue>, numbers: std::ops::Range<u32>) {
    queue.send(numbers.map(message).collect()).await.unwrap();
}

async fn now(queue: &Arc<dyn Queue>, max: usize) -> Vec<Delivery> {
    queue.receive(max, Duration::ZERO).await.unwrap()
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.id.as_str()).collect()
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

async fn what_is_sent_is_received_in_order_with_its_particulars(world: impl World) {
    let queue = world.queue();
    send(&queue, 0..2).await;
    send(&queue, 2..5).await;
    send(&queue, 5..5).await;
    let first = now(&queue, 2).await;
    assert_eq!(ids(&first), ["id-0", "id-1"]);
    assert_eq!(first[0].body, "body 0");
    assert_eq!(first[0].receives, 1);
    let age = first[0].first_sent.duration_since(world.now()).as_secs();
    assert!((-10..10).contains(&age), "sent {age} s after the start");
    assert_eq!(ids(&now(&queue, 10).await), ["id-2", "id-3", "id-4"]);
    assert!(now(&queue, 10).await.is_empty());
    assert!(now(&queue, 0).await.is_empty());
}

async fn a_received_message_is_hidden_and_comes_again_after_its_time(world: impl World) {
    let queue = world.queue();
    assert_eq!(queue.visibility(), world.visibility());
    send(&queue, 0..1).await;
    let first = now(&queue, 1).await;
    world.pass(world.visibility() * 2 / 3).await;
    assert!(now(&queue, 1).await.is_empty());
    // A wall clock that jumps hides and shows nothing.
    world.clock().jump(jiff::SignedDuration::from_hours(48));
    assert!(now(&queue, 1).await.is_empty());
    world.pass(world.visibility() / 3).await;
    let again = now(&queue, 1).await;
    assert_eq!(ids(&again), ["id-0"]);
    assert_eq!(again[0].receives, 2);
    assert_eq!(again[0].first_sent, first[0].first_sent);
    assert_ne!(again[0].receipt, first[0].receipt);
}

async fn acknowledging_deletes_for_good_and_tells_what_it_could_not_delete<W: World>(world: W) {
    let queue = world.queue();
    send(&queue, 0..3).await;
    let taken = now(&queue, 3).await;
    let foreign = Receipt("nobody's".into());
    let some = [taken[0].receipt.clone(), foreign.clone(), taken[2].receipt.clone()];
    assert_eq!(queue.acknowledge(&some).await.unwrap(), [foreign]);
    let twice = queue.acknowledge(&some[..1]).await.unwrap();
    assert!(twice == some[..1] || !W::KNOWS_STALE, "twice");
    assert!(queue.acknowledge(&[]).await.unwrap().is_empty());
    world.pass(world.visibility()).await;
    assert_eq!(ids(&now(&queue, 3).await), ["id-1"]);
}

async fn a_receipt_is_worth_nothing_once_the_message_was_received_again<W: World>(world: W) {
    let queue = world.queue();
    send(&queue, 0..1).await;
    let old = receipts(&now(&queue, 1).await);
    world.pass(world.visibility()).await;
    let new = receipts(&now(&queue, 1).await);
    let refused = (queue.acknowledge(&old).await.unwrap(), queue.extend(&old).await.unwrap());
    assert!(refused == (old.clone(), old.clone()) || !W::KNOWS_STALE, "{refused:?}");
    queue.release(&old).await.unwrap();
    assert!(now(&queue, 1).await.is_empty(), "the old receipt released the new delivery");
    assert!(queue.acknowledge(&new).await.unwrap().is_empty());
    world.pass(world.visibility()).await;
    assert!(now(&queue, 1).await.is_empty());
}

async fn an_extended_delivery_stays_hidden(world: impl World) {
    let queue = world.queue();
    send(&queue, 0..2).await;
    let taken = receipts(&now(&queue, 2).await);
    world.pass(world.visibility() / 2).await;
    assert!(queue.extend(&taken[..1]).await.unwrap().is_empty());
    world.pass(world.visibility() / 2).await;
    assert_eq!(ids(&now(&queue, 2).await), ["id-1"]);
    world.pass(world.visibility() / 2).await;
    assert_eq!(ids(&now(&queue, 2).await), ["id-0"]);
}

async fn a_released_delivery_is_visible_at_once(world: impl World) {
    let queue = world.queue();
    send(&queue, 0..2).await;
    let taken = receipts(&now(&queue, 2).await);
    queue.release(&taken[1..]).await.unwrap();
    let again = now(&queue, 2).await;
    assert_eq!(ids(&again), ["id-1"]);
    assert_eq!(again[0].receives, 2);
}

/// Long beside what waking takes, short beside the test's patience.
const LONG: Duration = Duration::from_secs(20);

async fn a_waiting_receiver_gets_what_is_sent_meanwhile(world: impl World) {
    let queue = world.queue();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(5, LONG).await.unwrap() }
    });
    // Whether it waits already or not yet, it gets it.
    tokio::task::yield_now().await;
    send(&queue, 0..1).await;
    let got = tokio::time::timeout(LONG / 2, waiting).await.expect("woken by the message").unwrap();
    assert_eq!(ids(&got), ["id-0"]);
}

async fn a_waiting_receiver_gets_what_is_released_meanwhile(world: impl World) {
    let queue = world.queue();
    send(&queue, 0..1).await;
    let taken = receipts(&now(&queue, 1).await);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(5, LONG).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    queue.release(&taken).await.unwrap();
    let got = tokio::time::timeout(LONG / 2, waiting).await.expect("woken by the release").unwrap();
    assert_eq!(ids(&got), ["id-0"]);
}

async fn a_receiver_waits_no_longer_than_asked(world: impl World) {
    let queue = world.queue();
    let wait = Duration::from_secs(1);
    let start = tokio::time::Instant::now();
    assert!(queue.receive(1, wait).await.unwrap().is_empty());
    assert!(start.elapsed() >= wait);
    assert!(start.elapsed() < LONG);
}

async fn no_message_is_handed_to_two_of_many_receivers<W: World>(world: W) {
    let queue = world.queue();
    send(&queue, 0..200).await;
    let receivers: Vec<_> = (0..16)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let got = now(&queue, 7).await;
                    if got.is_empty() {
                        return mine;
                    }
                    assert!(got.len() <= 7);
                    let refused = queue.acknowledge(&receipts(&got)).await.unwrap();
                    assert!(refused.is_empty() || !W::HANDS_OUT_ONCE, "{refused:?}");
                    mine.extend(got.into_iter().map(|delivery| delivery.id));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for receiver in receivers {
        all.extend(receiver.await.unwrap());
    }
    assert!(all.len() == 200 || !W::HANDS_OUT_ONCE, "{} handed out", all.len());
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 200);
}

async fn bodies_are_kept_byte_for_byte(world: impl World) {
    let queue = world.queue();
    let bodies =
        ["", "{\"v\":1}", "line\r\nline\ttab \"quoted\" \\u0041 \\", "ä 漢字 🦀 \u{7f}\u{1}", "before\0after", "12.50"];
    for body in bodies {
        // Each in a send of its own, then all in one.
        queue.send(vec![Message { id: "x".into(), group: "g".into(), body: body.into() }]).await.unwrap();
    }
    let all = bodies.map(|body| Message { id: "x".into(), group: "g".into(), body: body.into() });
    queue.send(all.to_vec()).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 2 * bodies.len() {
        let some = now(&queue, 100).await;
        assert!(!some.is_empty(), "{got:?}");
        got.extend(some.into_iter().map(|delivery| delivery.body));
    }
    assert_eq!(got, [bodies, bodies].concat());
}

async fn depth_counts_waiting_and_in_flight(world: impl World) {
    let queue = world.queue();
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
    send(&queue, 0..5).await;
    let taken = now(&queue, 2).await;
    assert_eq!(queue.depth().await.unwrap(), Depth { waiting: 3, in_flight: 2 });
    queue.acknowledge(&receipts(&taken[..1])).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), Depth { waiting: 3, in_flight: 1 });
    world.pass(world.visibility()).await;
    assert_eq!(queue.depth().await.unwrap(), Depth { waiting: 4, in_flight: 0 });
}

async fn a_receiver_that_gave_up_keeps_nothing_hidden(world: impl World) {
    let queue = world.queue();
    send(&queue, 0..50).await;
    let mut given_up = 0;
    while given_up < 200 {
        // Polled once and dropped: the call may be waiting, under way or answered.
        let mut receive = Box::pin(queue.receive(50, Duration::ZERO));
        let polled = futures::poll!(receive.as_mut());
        if given_up % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(receive);
        if let std::task::Poll::Ready(got) = polled {
            queue.release(&receipts(&got.unwrap())).await.unwrap();
        }
        given_up += 1;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        let got = tokio::time::timeout(LONG / 2, queue.receive(50, LONG)).await.expect("nothing stays hidden").unwrap();
        seen.extend(got.into_iter().map(|delivery| delivery.id));
    }
}

async fn what_was_acknowledged_stays_so_over_a_crash_and_the_rest_is_visible_at_once(world: impl Lasting) {
    let queue = world.queue();
    send(&queue, 0..4).await;
    let taken = now(&queue, 3).await;
    assert!(queue.acknowledge(&receipts(&taken[..1])).await.unwrap().is_empty());
    let world = world.crash().await;
    let queue = world.queue();
    assert_eq!(queue.depth().await.unwrap(), Depth { waiting: 3, in_flight: 0 });
    let again = now(&queue, 10).await;
    assert_eq!(ids(&again), ["id-1", "id-2", "id-3"]);
    assert_eq!(
        again.iter().map(|delivery| delivery.receives).collect::<Vec<_>>(),
        [2, 2, 1],
        "receives are counted on"
    );
    let old = receipts(&taken[1..]);
    assert_eq!(queue.acknowledge(&old).await.unwrap(), old, "a receipt of an earlier boot");
}
