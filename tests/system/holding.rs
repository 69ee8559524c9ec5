//! What holds across processes: a pause that was answered survives a kill, and a data directory has one relay.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chart_relay::{
    control::{Answer, Request},
    relay_lock::RelayLock,
    socket,
    wiring::DATABASE,
};
use engine::{
    action::Action,
    audit::{Act, Search},
    key::Kind,
    ledger::Filter,
    snapshot::Snapshot,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    installation::{Installation, said},
    rig::{until, writes},
};

async fn ask(installation: &Installation, request: &Request) -> Answer {
    socket::call(&installation.data(), request, Duration::from_secs(20)).await.unwrap()
}

async fn snapshot(installation: &Installation) -> Snapshot {
    match ask(installation, &Request::Snapshot).await {
        Answer::Snapshot(snapshot) => *snapshot,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_was_answered_survives_a_kill_and_one_whose_time_is_over_does_not() {
    let mut installation = Installation::ready(2, 31, "").await;
    let mut relay = installation.start();
    installation.all_arrived().await;
    let until_then = Timestamp::now() + SignedDuration::from_mins(15);
    let pause = |until| Request::Act { action: Action::Pause { until }, person: Some("maria".to_owned()) };
    assert!(matches!(ask(&installation, &pause(until_then)).await, Answer::Done));
    relay.kill().await.unwrap();

    let before = writes(&installation.server.control());
    let id = installation.chart.control().ids("Patient").remove(0);
    installation.chart.change("Patient", &id);
    let mut relay = installation.start();
    installation.status("(maria)").await;
    let shown = snapshot(&installation).await.pause.unwrap();
    assert_eq!((shown.until, shown.by.as_deref()), (until_then, Some("maria")));
    // One full pass in the pause, with its result, and the pause stays.
    let press = Request::Act { action: Action::SyncNow, person: None };
    let pressed = std::time::Instant::now();
    assert!(matches!(ask(&installation, &press).await, Answer::Done));
    let shown = snapshot(&installation).await;
    println!(
        "Sync now is shown after {:?}; a snapshot has {} bytes",
        pressed.elapsed(),
        serde_json::to_string(&shown).unwrap().len()
    );
    until("the pass is over", async || snapshot(&installation).await.manual.filter(|manual| !manual.is_running()))
        .await;
    assert_eq!(writes(&installation.server.control()), before + 1);
    assert!(snapshot(&installation).await.pause.is_some());
    installation.status("Manual sync ").await;
    installation.status(": 1 sent, 0 failed.").await;

    let soon = Timestamp::now() + SignedDuration::from_secs(2);
    assert!(matches!(ask(&installation, &pause(soon)).await, Answer::Done));
    relay.kill().await.unwrap();
    until("its time is over", async || (Timestamp::now() > soon).then_some(())).await;
    let relay = installation.start();
    installation.status("Up to date").await;
    assert_eq!(snapshot(&installation).await.pause, None);
    assert!(snapshot(&installation).await.manual.is_some(), "the result of the pass is kept");

    // Whoever watches has the present at once, and what was asked can be found.
    let mut watch = socket::watch::<_, Answer>(&installation.data(), &Request::Watch).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(Ok(Answer::Snapshot(_)))));
    }
    let search = Search { person: Some("maria".to_owned()), ..Search::newest(10) };
    let Answer::Found(found) = ask(&installation, &Request::Search(search)).await else { panic!("no answer") };
    assert_eq!(found.entries.len(), 2);
    assert!(found.entries.iter().all(|entry| entry.resolved.is_some()));
    installation.stop(relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_relay_whoever_starts_it() {
    let installation = Installation::ready(1, 32, "").await;
    let database = || std::fs::read(installation.data().join(DATABASE)).unwrap();
    let before = database();
    // Another account's relay, whose socket this one cannot see.
    let other = RelayLock::take(&installation.data(), Some("night-shift")).unwrap();
    let refused = installation.run(&["run"]).await;
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("already, started by the account night-shift"), "{words}");
    assert!(database() == before, "it touched the database all the same");
    drop(other);

    let relay = installation.start();
    installation.status("Up to date").await;
    assert!(RelayLock::take(&installation.data(), None).is_err(), "held as long as the relay lives");
    let Answer::About(about) = ask(&installation, &Request::About).await else { panic!("no answer") };
    assert!(!about.demo && about.firms.iter().any(|firm| firm.name == "Synthetic North Clinic"), "{about:?}");
    installation.stop(relay).await;
    assert!(RelayLock::take(&installation.data(), None).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revealed_name_goes_to_whoever_asked_and_stays_nowhere() {
    let installation = Installation::ready(2, 33, "").await;
    let relay = installation.start();
    installation.all_arrived().await;
    let Answer::Records { records, total } =
        ask(&installation, &Request::Records { filter: Filter::All, after: None, limit: 100 }).await
    else {
        panic!("no answer")
    };
    assert_eq!(total, records.len() as u64);
    assert!(records.iter().all(|record| record.state.is_empty()), "hashes are nobody's business");
    let links: Vec<_> = records.into_iter().map(|record| record.key).filter(|key| key.kind == Kind::Link).collect();
    let resources = installation.chart.resources();
    let Answer::Revealed(revealed) =
        ask(&installation, &Request::Reveal { keys: links.clone(), person: Some("maria".to_owned()) }).await
    else {
        panic!("no answer")
    };
    assert_eq!(revealed.len(), links.len());
    let mut names = Vec::new();
    for (key, revealed) in links.iter().zip(&revealed) {
        assert_eq!(*key, revealed.key);
        let name = revealed.name.as_ref().unwrap_or_else(|| panic!("{key}: {:?}", revealed.why)).expose();
        if key.resource.as_str() == "Patient" {
            let patient = resources.iter().find(|resource| resource["id"] == key.id.as_str()).unwrap();
            assert!(name.contains(patient["name"][0]["family"].as_str().unwrap()), "{key}");
        }
        names.push(name.to_owned());
    }
    assert!(names.len() > 2, "forms and measurements have their patient's name: {}", names.len());
    let search = Search { acts: vec![Act::Revealed], ..Search::newest(100) };
    let Answer::Found(found) = ask(&installation, &Request::Search(search)).await else { panic!("no answer") };
    assert_eq!(found.entries.len(), links.len());
    installation.stop(relay).await;
    for file in files(&installation.data()) {
        let bytes = std::fs::read(&file).unwrap();
        for name in &names {
            let found = bytes.windows(name.len()).any(|window| window == name.as_bytes());
            assert!(!found, "a name is in {}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path))
        } else if path.is_file() {
            files.push(path)
        }
    }
    files
}
