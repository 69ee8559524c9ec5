//! What goes wrong, and what it is taken for: above all, that a write whose outcome is not known is never taken for one that
//! was refused, or the other way round.

use engine::ports::ClinicDatabase as _;
use simulators::filemaker::{Fault as Mishap, Route, When};

use super::{
    raw::{Answering, Holding},
    *,
};

fn relay_at(url: &str) -> FileMaker {
    FileMaker::new(config(url), Secret::new(PASSWORD), FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap())).unwrap()
}

#[tokio::test]
async fn codes_decide_and_the_status_does_not() {
    let bench = bench().await;
    let (id, version) = bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    let soon = Class::Wait(Some(Duration::from_secs(5)));
    for (code, class, word) in [
        (9, Class::Stop, Code::AccessDenied),
        (16, Class::Retry, Code::ServerError),
        (102, Class::Stop, Code::FieldMissing),
        (105, Class::Stop, Code::LayoutMissing),
        (201, Class::Permanent, Code::FieldReadOnly),
        (212, Class::Stop, Code::SignInRefused),
        (301, Class::Wait(None), Code::RecordOpen),
        (303, Class::Away, Code::Maintenance),
        (306, Class::Stale, Code::RecordChanged),
        (500, Class::Permanent, Code::ValueRefused),
        (504, Class::Stale, Code::RecordChanged),
        (509, Class::Permanent, Code::ValueRefused),
        (512, Class::Stale, Code::RecordChanged),
        (802, Class::Stop, Code::FileClosed),
        (805, Class::Stop, Code::FileDamaged),
        (809, Class::Stop, Code::DiskFull),
        (812, soon, Code::HostFull),
        (821, Class::Away, Code::Maintenance),
        (951, Class::Unknown, Code::OutcomeUnknown),
        (953, Class::Stop, Code::LimitReached),
        (956, soon, Code::HostFull),
        (960, Class::Permanent, Code::Rejected),
        (1701, Class::Away, Code::Maintenance),
        (1711, Class::Stop, Code::LicenceExpired),
        (9999, Class::Retry, Code::ServerError),
    ] {
        for status in [200, 400, 401, 404, 500, 503] {
            bench.control.set_status(code, status);
            bench.control.inject(Mishap::Code(code), When::next().route(Route::Edit));
            let edit = bench.relay.edit(&patients(), &id, &version, &named("Nobody")).await;
            let fault = refused(edit, class, word);
            assert_eq!(fault.vendor, Some(format!("FileMaker {code}")), "HTTP {status}");
        }
    }
    let record = bench.control.record_with("Patient", "FhirId", "p1").unwrap();
    assert_eq!(record.fields["LastName"], "Testpatient");
}

#[tokio::test]
async fn a_write_without_a_whole_answer_is_unknown_done_or_not() {
    for (mishap, rows) in [
        (Mishap::Html502, 0),
        (Mishap::Empty503, 0),
        (Mishap::DropBefore, 0),
        (Mishap::DropAfter, 1),
        (Mishap::DoneButHtml502, 1),
        (Mishap::DoneButCode(951), 1),
        (Mishap::Truncated, 1),
    ] {
        let bench = bench().await;
        // Signed in before, so that the connection is there.
        bench.relay.probe().await.unwrap();
        let injected = bench.control.inject(mishap.clone(), When::next().route(Route::Create));
        let created = bench.relay.create(&patients(), "p1", &named("Testpatient")).await;
        let fault = refused(created, Class::Unknown, Code::OutcomeUnknown);
        assert_eq!(injected.fired(), 1, "{mishap:?} {fault}");
        assert_eq!(bench.control.count("Patient"), rows, "{mishap:?}");
        assert_eq!(bench.control.counts().of(Route::Create), 1, "{mishap:?}: never repeated by the client");
        let found = bench.relay.find(&patients(), "p1").await.unwrap();
        assert_eq!(found.is_some(), rows == 1, "{mishap:?}: looking settles it");
    }
}

#[tokio::test]
async fn an_edit_without_a_whole_answer_is_unknown_too() {
    let bench = bench().await;
    let (id, version) = bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    bench.control.inject(Mishap::DropAfter, When::next().route(Route::Edit));
    let edit = bench.relay.edit(&patients(), &id, &version, &named("Renamed")).await;
    refused(edit, Class::Unknown, Code::OutcomeUnknown);
    let row = bench.relay.find(&patients(), "p1").await.unwrap().unwrap();
    assert!(row.fields["LastName"] == text("Renamed") && row.mod_id != version);
}

#[tokio::test]
async fn a_read_without_a_whole_answer_means_that_the_side_is_away() {
    let bench = bench().await;
    bench.relay.probe().await.unwrap();
    for mishap in [Mishap::Html502, Mishap::Empty503, Mishap::DropBefore, Mishap::DropAfter, Mishap::Truncated] {
        bench.control.inject(mishap, When::next().route(Route::Find));
        refused(bench.relay.find(&patients(), "p1").await, Class::Away, Code::NotAnswering);
    }
    bench.relay.find(&patients(), "p1").await.unwrap();
    assert_eq!(bench.control.counts().logins, 1, "none of this is the session's fault");
}

#[tokio::test]
async fn a_write_that_takes_too_long_is_unknown_and_may_land_later() {
    let bench = bench_with(Clinic::synthetic(ACCOUNT, PASSWORD), |config| {
        config.read_timeout = Duration::from_millis(300);
    })
    .await;
    bench.relay.probe().await.unwrap();
    bench.control.inject(Mishap::Late(None), When::next().route(Route::Create));
    let created = bench.relay.create(&patients(), "p1", &named("Testpatient")).await;
    refused(created, Class::Unknown, Code::OutcomeUnknown);
    assert_eq!(bench.control.count("Patient"), 0);
    bench.control.land_late();
    until("the write has landed", || bench.control.count("Patient") == 1).await;
    assert!(bench.relay.find(&patients(), "p1").await.unwrap().is_some());

    bench.control.inject(Mishap::Slow(Duration::from_millis(600)), When::next().route(Route::Find));
    refused(bench.relay.find(&patients(), "p1").await, Class::Away, Code::TimedOut);
    assert!(bench.relay.write_horizon() > Duration::from_millis(300));
}

#[tokio::test]
async fn a_write_is_not_cut_off_when_its_caller_leaves() {
    let server = Holding::start().await;
    let relay = relay_at(&server.url);
    {
        let (table, fields) = (patients(), named("Testpatient"));
        tokio::select! {
            _ = relay.create(&table, "p1", &fields) => panic!("too fast"),
            () = server.arrived.notified() => {}
        }
    }
    // Time for the other end to see a connection that was closed, if it was.
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.answer.notify_one();
    assert!(!server.cut_off.await.unwrap());
}

#[tokio::test]
async fn a_connection_that_was_never_there_leaves_no_doubt() {
    let bench = bench().await;
    bench.relay.probe().await.unwrap();
    bench.control.unplug().await;
    let created = bench.relay.create(&patients(), "p1", &named("Testpatient")).await;
    refused(created, Class::Away, Code::Unreachable);
    bench.control.plug_in().await;
    bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
}

#[tokio::test]
async fn a_host_that_pauses_is_waited_for() {
    let bench = bench().await;
    bench.control.pause(Duration::from_millis(200));
    bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
}

#[tokio::test]
async fn what_stops_a_connection_says_so_and_goes_on_when_it_is_mended() {
    let bench = bench().await;
    bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    bench.control.close_file("Clinic");
    let fault = refused(bench.relay.find(&patients(), "p1").await, Class::Stop, Code::FileClosed);
    assert_eq!(fault.subject.as_deref(), Some("Clinic"));
    bench.control.open_file("Clinic");
    bench.relay.find(&patients(), "p1").await.unwrap();

    bench.control.limit_transmission(Some(0));
    refused(bench.relay.find(&patients(), "p1").await, Class::Stop, Code::LimitReached);
    bench.control.limit_transmission(None);

    bench.control.fill_disk(true);
    let created = bench.relay.create(&patients(), "p2", &named("Testpatient")).await;
    refused(created, Class::Stop, Code::DiskFull);
    bench.control.fill_disk(false);

    let nowhere = table("API_Nowhere", &[]);
    let fault = refused(bench.relay.find(&nowhere, "p1").await, Class::Stop, Code::LayoutMissing);
    assert_eq!(fault.subject.as_deref(), Some("API_Nowhere"));

    bench.control.set_password(ACCOUNT, "another");
    bench.control.expire_tokens();
    let created = bench.relay.create(&patients(), "p3", &named("Testpatient")).await;
    refused(created, Class::Stop, Code::SignInRefused);
    assert_eq!(bench.control.count("Patient"), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Answering::with("200 OK".into(), "{}").await;
    let here = Answering::with(format!("307 Temporary Redirect\r\nlocation: {}/", elsewhere.url), "").await;
    let fault = refused(relay_at(&here.url).probe().await, Class::Stop, Code::BadAnswer);
    assert_eq!(fault.vendor.as_deref(), Some("HTTP 307"));
    assert_eq!((here.heard(), elsewhere.heard()), (1, 0));
}

#[tokio::test]
async fn somebody_before_filemaker_is_told_apart_from_it() {
    for (head, class, code) in [
        ("401 Unauthorized", Class::Stop, Code::SignInRefused),
        ("403 Forbidden", Class::Stop, Code::AccessDenied),
        ("404 Not Found", Class::Away, Code::NotAnswering),
        ("502 Bad Gateway", Class::Away, Code::NotAnswering),
        ("200 OK", Class::Away, Code::NotAnswering),
    ] {
        let server = Answering::with(format!("{head}\r\ncontent-type: text/html"), "<html>SYNTHETIC</html>").await;
        refused(relay_at(&server.url).probe().await, class, code);
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    type Change = fn(&mut FileMakerConfig);
    let changes: [(&str, Change); 9] = [
        ("url", |config| config.url = "http://fm.example".into()),
        ("url", |config| config.url = "fm.example".into()),
        ("url", |config| config.url = "https://user:word@fm.example".into()),
        ("database", |config| config.database = String::new()),
        ("account", |config| config.account = "a:b".into()),
        ("sessions", |config| config.sessions = 0),
        ("sessions", |config| config.sessions = 33),
        ("read_timeout", |config| config.read_timeout = Duration::ZERO),
        ("exchange_after_writes", |config| config.exchange_after_writes = 0),
    ];
    for (setting, change) in changes {
        let mut config = config("http://127.0.0.1:1");
        change(&mut config);
        let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
        let fault =
            refused(FileMaker::new(config, Secret::new(PASSWORD), clock).map(drop), Class::Stop, Code::Rejected);
        assert_eq!(fault.subject.as_deref(), Some(setting));
    }
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let bench = bench().await;
    bench.relay.create(&patients(), "p1", &named("Testpatient")).await.unwrap();
    let printed =
        format!("{:?} {:?} {:?}", bench.relay, config("http://127.0.0.1:1"), bench.relay.find(&patients(), "p1").await);
    for secret in [PASSWORD, ACCOUNT, "Testpatient"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
