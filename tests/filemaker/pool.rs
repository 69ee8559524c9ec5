//! Sessions: few, shared, replaced once, exchanged, signed out.

use engine::ports::ClinicDatabase as _;
use futures::future::join_all;
use simulators::filemaker::{Fault as Mishap, Route, When};

use super::*;

async fn finds(bench: &Bench, count: usize) -> Vec<Result<(), Fault>> {
    let relay = &bench.relay;
    join_all((0..count).map(|at| async move { relay.find(&patients(), &format!("p{at}")).await.map(drop) })).await
}

async fn with_sessions(sessions: usize) -> Bench {
    bench_with(Clinic::synthetic(ACCOUNT, PASSWORD), |config| config.sessions = sessions).await
}

#[tokio::test]
async fn there_are_never_more_sessions_or_calls_than_allowed() {
    let bench = with_sessions(3).await;
    bench.control.latency(Duration::from_millis(5));
    assert!(finds(&bench, 40).await.iter().all(Result::is_ok));
    let counts = bench.control.counts();
    assert_eq!(counts.max_open_sessions, 3, "and all that are allowed are used");
    assert_eq!(counts.logins, 3);
    assert!(counts.max_in_flight <= 3, "{}", counts.max_in_flight);
}

#[tokio::test]
async fn cold_callers_open_no_more_sessions_than_they_need() {
    let bench = with_sessions(32).await;
    bench.control.latency(Duration::from_millis(5));
    assert!(finds(&bench, 3).await.iter().all(Result::is_ok));
    assert!(bench.control.counts().logins <= 3);
    for at in 0..10 {
        bench.relay.find(&patients(), &format!("p{at}")).await.unwrap();
    }
    assert!(bench.control.counts().logins <= 3, "one caller at a time needs no more");
}

#[tokio::test]
async fn whoever_waits_for_a_sign_in_takes_a_session_that_came_free_meanwhile() {
    let bench = with_sessions(8).await;
    bench.control.inject(Mishap::Slow(Duration::from_millis(150)), When::always().route(Route::Login));
    assert!(finds(&bench, 8).await.iter().all(Result::is_ok));
    let logins = bench.control.counts().logins;
    assert!(logins <= 5, "{logins} where one a caller would be 8");
}

#[tokio::test]
async fn tokens_that_die_in_mid_batch_are_replaced_once_each() {
    let bench = with_sessions(4).await;
    bench.control.latency(Duration::from_millis(2));
    bench.control.expire_tokens_after(20);
    let relay = &bench.relay;
    let made =
        join_all((0..40).map(|at| async move {
            relay.create(&patients(), &format!("p{at}"), &named("Testpatient")).await.map(drop)
        }))
        .await;
    assert!(made.iter().all(Result::is_ok));
    let counts = bench.control.counts();
    assert_eq!(bench.control.count("Patient"), 40, "952 is said before any work, so it may be repeated");
    assert!(counts.with_code(952) >= 1);
    assert!(counts.logins <= 8, "4 and their 4 successors: {}", counts.logins);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_however_many_wait() {
    let bench = with_sessions(2).await;
    bench.control.refuse_accounts(true);
    bench.control.latency(Duration::from_millis(20));
    for result in finds(&bench, 20).await {
        let fault = refused(result, Class::Stop, Code::SignInRefused);
        assert_eq!(fault.vendor.as_deref(), Some("FileMaker 212"));
    }
    assert_eq!(bench.control.counts().of(Route::Login), 1, "more would lock the account");
    bench.control.refuse_accounts(false);
    bench.relay.find(&patients(), "p1").await.unwrap();
}

#[tokio::test]
async fn a_session_lost_in_a_read_is_replaced_and_in_a_write_the_outcome_is_unknown() {
    let bench = with_sessions(1).await;
    bench.control.inject(Mishap::Code(112), When::next().route(Route::Find));
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_none());
    assert_eq!(bench.control.counts().logins, 2);

    bench.control.inject(Mishap::DoneButCode(112), When::next().route(Route::Create));
    let created = bench.relay.create(&patients(), "p1", &named("Testpatient")).await;
    refused(created, Class::Unknown, Code::OutcomeUnknown);
    assert_eq!(bench.control.counts().of(Route::Create), 1, "not sent again");
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_away() {
    let bench = with_sessions(1).await;
    bench.control.inject(Mishap::Code(952), When::always().route(Route::Find));
    refused(bench.relay.find(&patients(), "p1").await, Class::Away, Code::NotAnswering);
    assert_eq!(bench.control.counts().of(Route::Find), 2, "once more and no more");
}

#[tokio::test]
async fn sessions_are_exchanged_after_so_many_writes() {
    let bench = bench_with(Clinic::synthetic(ACCOUNT, PASSWORD), |config| {
        config.sessions = 1;
        config.exchange_after_writes = 3;
    })
    .await;
    for at in 0..10 {
        bench.relay.create(&patients(), &format!("p{at}"), &named("Testpatient")).await.unwrap();
        bench.relay.find(&patients(), &format!("p{at}")).await.unwrap();
    }
    let counts = bench.control.counts();
    assert_eq!((counts.logins, counts.logouts), (4, 3));
    assert_eq!((counts.open_sessions, counts.max_open_sessions), (1, 1));
}

#[tokio::test]
async fn sessions_are_exchanged_after_some_time() {
    let bench = bench_with(Clinic::synthetic(ACCOUNT, PASSWORD), |config| {
        config.exchange_after = Duration::from_secs(20 * 60);
    })
    .await;
    for _ in 0..5 {
        bench.relay.find(&patients(), "p1").await.unwrap();
        bench.clock.suspend(Duration::from_secs(6 * 60));
    }
    let counts = bench.control.counts();
    assert_eq!((counts.logins, counts.logouts), (1, 1), "after 24 minutes");
    bench.relay.find(&patients(), "p1").await.unwrap();
    assert_eq!(bench.control.counts().logins, 2);
}

#[tokio::test]
async fn a_session_that_slows_down_is_exchanged() {
    let bench = with_sessions(1).await;
    bench.control.age_sessions(Duration::from_micros(1500));
    for at in 0..120 {
        bench.relay.create(&patients(), &format!("p{at}"), &named("Testpatient")).await.unwrap();
        if bench.control.counts().logouts > 0 {
            assert!(at >= 63, "judged too early: {at}");
            return;
        }
    }
    panic!("120 writes, each slower than the one before, on one session");
}

#[tokio::test]
async fn an_idle_session_is_not_trusted() {
    let bench = bench().await;
    bench.relay.find(&patients(), "p1").await.unwrap();
    bench.clock.suspend(Duration::from_secs(13 * 60));
    bench.relay.find(&patients(), "p1").await.unwrap();
    assert_eq!(bench.control.counts().logins, 1);
    bench.clock.suspend(Duration::from_secs(14 * 60));
    bench.relay.find(&patients(), "p1").await.unwrap();
    assert_eq!(bench.control.counts().logins, 2);
    assert_eq!(bench.control.counts().with_code(952), 0, "not even tried");
}

#[tokio::test]
async fn closing_waits_signs_everything_out_and_refuses_more() {
    let bench = with_sessions(3).await;
    bench.control.latency(Duration::from_millis(30));
    assert!(finds(&bench, 6).await.iter().all(Result::is_ok));
    let last = tokio::spawn({
        let relay = bench.relay.clone();
        async move { relay.create(&patients(), "last", &named("Testpatient")).await }
    });
    until("the write is on its way", || bench.control.counts().in_flight > 0).await;
    bench.relay.close().await;
    assert!(last.await.unwrap().is_ok(), "a write that was sent is awaited");
    let counts = bench.control.counts();
    assert_eq!((counts.open_sessions, counts.logouts), (0, counts.logins));
    let requests = counts.requests;
    refused(bench.relay.find(&patients(), "p1").await, Class::Away, Code::NotAnswering);
    assert_eq!(bench.control.counts().requests, requests);
}

#[tokio::test]
async fn a_host_with_less_room_is_used_with_fewer_sessions_for_a_while() {
    let bench = with_sessions(4).await;
    bench.control.cap_sessions(Some(1));
    bench.control.latency(Duration::from_millis(5));
    assert!(finds(&bench, 12).await.iter().all(Result::is_ok), "they wait for the one that there is");
    let counts = bench.control.counts();
    assert_eq!(counts.max_open_sessions, 1);
    assert!((1..=3).contains(&counts.with_code(812)), "asked once for each place: {}", counts.with_code(812));
    bench.control.cap_sessions(None);
    finds(&bench, 12).await;
    assert_eq!(bench.control.counts().max_open_sessions, 1, "not yet");
    bench.clock.suspend(Duration::from_secs(61));
    finds(&bench, 12).await;
    assert_eq!(bench.control.counts().max_open_sessions, 4);
}

#[tokio::test]
async fn a_host_without_room_is_waited_for() {
    let bench = bench().await;
    bench.control.cap_sessions(Some(0));
    let fault = bench.relay.find(&patients(), "p1").await.err().unwrap();
    assert!(matches!(fault.class, Class::Wait(Some(time)) if time >= Duration::from_secs(1)), "{fault:?}");
    assert_eq!(fault.code, Code::HostFull);
    bench.control.cap_sessions(None);
    bench.relay.find(&patients(), "p1").await.unwrap();
}

#[tokio::test]
async fn a_caller_who_leaves_neither_cuts_off_the_write_nor_loses_the_session() {
    let bench = with_sessions(1).await;
    bench.relay.find(&patients(), "p1").await.unwrap();
    bench.control.latency(Duration::from_millis(100));
    {
        let table = patients();
        let fields = named("Testpatient");
        let write = bench.relay.create(&table, "p1", &fields);
        let left = until("the write is on its way", || bench.control.counts().in_flight > 0);
        tokio::select! {
            _ = write => panic!("too fast"),
            () = left => {}
        }
    }
    // The next call waits its turn behind the write.
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_some());
    let counts = bench.control.counts();
    assert_eq!((counts.logins, counts.cut), (1, 0));
}

#[tokio::test]
async fn a_caller_who_leaves_before_its_turn_sends_nothing() {
    let bench = with_sessions(1).await;
    bench.control.latency(Duration::from_millis(50));
    let table = patients();
    let (fields, other) = (named("Testpatient"), named("Nobody"));
    let first = bench.relay.create(&table, "p1", &fields);
    let second = bench.relay.create(&table, "p2", &other);
    let both = async {
        let mut second = Box::pin(second);
        tokio::select! {
            biased;
            result = first => result.map(drop),
            _ = &mut second => panic!("out of turn"),
        }
    };
    both.await.unwrap();
    bench.relay.find(&table, "p2").await.unwrap();
    assert_eq!(bench.control.counts().of(Route::Create), 1);
}

#[tokio::test]
async fn a_probe_costs_a_sign_in_once_and_a_word_later() {
    let bench = bench().await;
    bench.relay.probe().await.unwrap();
    assert_eq!(bench.control.counts().requests, 1, "a new session is proof enough");
    bench.relay.probe().await.unwrap();
    assert_eq!(bench.control.counts().of(Route::ValidateSession), 1);
    bench.control.expire_tokens();
    bench.relay.probe().await.unwrap();
    assert_eq!(bench.control.counts().logins, 2);
    bench.control.close_file("Clinic");
    refused(bench.relay.probe().await, Class::Stop, Code::FileClosed);
    bench.control.open_file("Clinic");
    bench.relay.probe().await.unwrap();
}
