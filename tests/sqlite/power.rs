//! A power cut at any moment: the files are copied while the load runs, and the copy is opened. All that was acknowledged
//! before the copy began is in it. (What the copy cannot show is whether the disk itself had it: that is `synchronous=FULL`.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use chart_relay::adapters::sqlite::{Database, verify::verify};
use engine::{
    audit::{AuditId, Outcome, Search},
    key::RecordKey,
    ledger::{Claim, Commit, Finish, Take},
};
use tempfile::TempDir;

use crate::{begun, folder, key, message, open, owner, patient, want};

const WORKERS: usize = 6;
const IMAGES: usize = 12;

/// What the load was told.
#[derive(Debug, Clone, Default)]
struct Told {
    sent: BTreeSet<String>,
    /// Asked to be deleted; from then on either is right.
    deleting: BTreeSet<String>,
    deleted: BTreeSet<String>,
    states: BTreeMap<RecordKey, u64>,
    begun: BTreeSet<AuditId>,
}

async fn load(database: Database, told: Arc<Mutex<Told>>, worker: usize) {
    let (queue, ledger, audit) = (database.queue(), database.ledger(), database.audit());
    let now = want(0).first_seen;
    for round in 0.. {
        let messages: Vec<_> = (0..20).map(|one| message((worker * 1_000_000) + round * 20 + one)).collect();
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        queue.send(messages).await.unwrap();
        told.lock().unwrap().sent.extend(ids);

        let got = queue.receive(15, Duration::ZERO).await.unwrap();
        let ids: Vec<_> = got.iter().map(|delivery| delivery.id.clone()).collect();
        told.lock().unwrap().deleting.extend(ids.clone());
        let receipts: Vec<_> = got.into_iter().map(|delivery| delivery.receipt).collect();
        assert!(queue.acknowledge(&receipts).await.unwrap().is_empty());
        told.lock().unwrap().deleted.extend(ids);

        let key = patient(worker * 50 + round % 50);
        let claim = Claim { owner: owner(), term: Duration::from_secs(60), overdue: None, now };
        let Take::Taken(record, lease) = ledger.take(&key, &claim).await.unwrap() else { panic!("busy") };
        let id = audit.begin(begun(round)).await.unwrap();
        told.lock().unwrap().begun.insert(id);
        let state = round as u64;
        let padded = format!("{{\"round\":{state},\"synthetic\":\"{}\"}}", "x".repeat(300));
        let commit = Commit {
            state: padded,
            finish: Finish::Done,
            notice: None,
            generation: record.generation,
            first_seen: now,
            now,
        };
        ledger.commit(&lease, commit).await.unwrap();
        told.lock().unwrap().states.insert(key, state);
        audit.complete(id, Outcome::Done { version: None }, now).await.unwrap();
    }
}

/// Which main file and which run of the log these are; a copy is one moment only if neither changed while it was made.
fn mark(path: &Path) -> io::Result<(SystemTime, Vec<u8>)> {
    let log = fs::read(path.with_extension("db-wal"))?;
    Ok((fs::metadata(path)?.modified()?, log.get(..32).unwrap_or_default().to_vec()))
}

/// Like a power cut, it may catch a frame half written.
fn image(path: &Path) -> TempDir {
    loop {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("relay.db");
        let before = mark(path).unwrap();
        let anchor = path.with_extension("db.anchor");
        if anchor.exists() {
            fs::copy(anchor, to.with_extension("db.anchor")).unwrap();
        }
        fs::copy(path, &to).unwrap();
        fs::copy(path.with_extension("db-wal"), to.with_extension("db-wal")).unwrap();
        if mark(path).unwrap() == before {
            return folder;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_acknowledged_before_a_power_cut_is_there_after_it() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let workers: Vec<_> =
        (0..WORKERS).map(|worker| tokio::spawn(load(database.clone(), told.clone(), worker))).collect();
    let (mut sent, mut begun_count, mut runs_of_the_log) = (0, 0, BTreeSet::new());
    for number in 0..IMAGES {
        // Moments of no particular phase.
        tokio::time::sleep(Duration::from_millis(40 + (number as u64 * 37) % 90)).await;
        let before = told.lock().unwrap().clone();
        let source = path.clone();
        let image = tokio::task::spawn_blocking(move || image(&source)).await.unwrap();
        let after = told.lock().unwrap().clone();
        runs_of_the_log.insert(mark(&image.path().join("relay.db")).unwrap().1);
        check(&image.path().join("relay.db"), &before, &after).await;
        sent = before.sent.len();
        begun_count = before.begun.len();
    }
    assert!(sent > 200 && begun_count > 20, "too little was going on: {sent} sent, {begun_count} begun");
    println!("{IMAGES} images, {} runs of the log, {sent} messages, {begun_count} entries", runs_of_the_log.len());
    for worker in workers {
        assert!(!worker.is_finished(), "the load ended early");
        worker.abort();
    }
}

async fn check(path: &Path, before: &Told, after: &Told) {
    let report = verify(path, &key()).await.unwrap();
    assert!(report.intact(), "{report:?}");
    let database = open(path).await.unwrap();
    let there: BTreeSet<_> = database
        .queue()
        .receive(usize::MAX, Duration::ZERO)
        .await
        .unwrap()
        .into_iter()
        .map(|delivery| delivery.id)
        .collect();
    let lost: Vec<_> = before.sent.difference(&after.deleting).filter(|id| !there.contains(*id)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let back: Vec<_> = before.deleted.intersection(&there).collect();
    assert!(back.is_empty(), "deleted and back: {back:?}");
    for (key, round) in &before.states {
        let record = database.ledger().read(key).await.unwrap().unwrap();
        let state: serde_json::Value = serde_json::from_str(&record.state).unwrap();
        assert!(state["round"].as_u64().unwrap() >= *round, "{key} went back");
    }
    let entries: BTreeSet<_> = database
        .audit()
        .search(&Search::newest(usize::MAX))
        .await
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    assert!(before.begun.is_subset(&entries));
    database.close().await.unwrap();
}
