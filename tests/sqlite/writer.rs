//! One writer for everybody: one caller's trouble is nobody else's.

use std::time::Duration;

use engine::{
    error::{Class, Code},
    key::FirmId,
    key::Kind,
    ledger::Want,
};
use sqlx::Connection as _;

use crate::{begun, execute, folder, key, message, open, patient, raw, want};

#[tokio::test]
async fn a_statement_that_fails_takes_nobody_with_it() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let mut other = raw(&path, &key()).await;
    execute(
        &mut other,
        "CREATE TRIGGER poison BEFORE INSERT ON message WHEN new.id = 'm-13' BEGIN SELECT raise(ABORT, 'no'); END",
    )
    .await;
    other.close().await.unwrap();
    // All are in the channel before the writer runs: one group.
    let sends: Vec<_> = (0..30)
        .map(|number| {
            let (queue, ledger, audit) = (database.queue(), database.ledger(), database.audit());
            tokio::spawn(async move {
                let wants = [want(number)];
                tokio::join!(
                    queue.send(vec![message(number), message(100 + number)]),
                    ledger.want(&wants),
                    audit.begin(begun(number))
                )
            })
        })
        .collect();
    for (number, send) in sends.into_iter().enumerate() {
        let (sent, wanted, begun) = send.await.unwrap();
        match sent {
            Err(fault) => assert_eq!((number, fault.class, fault.code), (13, Class::Permanent, Code::Unexpected)),
            Ok(()) => assert_ne!(number, 13),
        }
        wanted.unwrap();
        begun.unwrap();
    }
    // All or none: the message beside the refused one is not there either.
    let got = database.queue().receive(100, Duration::ZERO).await.unwrap();
    assert_eq!(got.len(), 58);
    assert!(got.iter().all(|delivery| delivery.id != "m-113"));
    assert_eq!(database.queue().depth().await.unwrap().in_flight, 58);
    assert_eq!(database.ledger().survey().await.unwrap().wanted, 30);
    assert!(database.verify_audit().await.unwrap().intact());
    assert_eq!(database.audit().open().await.unwrap().len(), 30);
    database.close().await.unwrap();
    assert_eq!(open(&path).await.unwrap().queue().depth().await.unwrap().waiting, 58);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_nothing_half_done() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let queue = database.queue();
    for round in 0..60_usize {
        let mut send = Box::pin(queue.send((0..10).map(|one| message(round * 10 + one)).collect()));
        for _ in 0..round % 4 {
            if futures::poll!(send.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(send);
    }
    // A call that is answered comes after all that were in the channel before it.
    queue.send(vec![message(9999)]).await.unwrap();
    let got = queue.receive(10_000, Duration::ZERO).await.unwrap();
    let mut whole = 0;
    for ten in got[..got.len() - 1].chunks(10) {
        let first: usize = ten[0].id[2..].parse().unwrap();
        assert_eq!(first % 10, 0);
        let expected: Vec<_> = (first..first + 10).map(|number| message(number).id).collect();
        assert_eq!(ten.iter().map(|delivery| delivery.id.clone()).collect::<Vec<_>>(), expected);
        whole += 1;
    }
    assert!((1..60).contains(&whole), "{whole} of 60 were polled, and the others never");
}

#[tokio::test]
async fn after_closing_everything_is_refused_and_the_log_is_folded_in() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let (queue, ledger) = (database.queue(), database.ledger());
    let sends: Vec<_> = (0..20)
        .map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.send(vec![message(number)]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    // Somebody who looks on keeps the log file in place, not what is in it.
    let mut onlooker = raw(&path, &key()).await;
    execute(&mut onlooker, "SELECT count(*) FROM message").await;
    database.close().await.unwrap();
    database.close().await.unwrap();
    assert_eq!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
    onlooker.close().await.unwrap();
    let mut sent = 0;
    for send in sends {
        sent += u64::from(send.await.unwrap().is_ok());
    }
    let fault = ledger.want(&[want(1)]).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Fatal, Code::DatabaseUnavailable));
    let fault = ledger.read(&patient(1)).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Fatal, Code::DatabaseUnavailable));
    assert!(!path.with_extension("db-wal").exists());
    assert_eq!(open(&path).await.unwrap().queue().depth().await.unwrap().waiting, sent);
}

/// A hundred times the records must not be a hundred times the work of the questions that are asked every second.
#[tokio::test]
async fn frequent_questions_stay_cheap_with_many_records() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let ledger = database.ledger();
    let north = FirmId::new("north").unwrap();
    let mut known = 0;
    let mut costs = Vec::new();
    for upto in [2_000, 200_000] {
        while known < upto {
            let wants: Vec<Want> = (known..known + 2_000).map(want).collect();
            known += wants.len();
            ledger.want(&wants).await.unwrap();
        }
        // As if each had been run, all at once; a few are left over.
        let mut other = raw(&path, &key()).await;
        execute(
            &mut other,
            "UPDATE record SET first_seen = NULL, not_before = NULL, waits_for = NULL WHERE seq % 1000 <> 0 OR seq > 2000",
        )
        .await;
        other.close().await.unwrap();
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let start = tokio::time::Instant::now();
            let survey = ledger.survey().await.unwrap();
            let due = ledger.due(&north, &Kind::RUN, want(0).not_before, Duration::from_secs(1), 10).await.unwrap();
            ledger.held().await.unwrap();
            best = best.min(start.elapsed());
            assert_eq!((survey.records, survey.wanted, due.len()), (known as u64, 2, 2));
        }
        costs.push(best);
    }
    println!("survey, due and held: {:?} with 2 000 records, {:?} with 200 000", costs[0], costs[1]);
    assert!(costs[1] < costs[0] * 10, "{costs:?}");
}
