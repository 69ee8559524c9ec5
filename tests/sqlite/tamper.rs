//! Whoever has the key and edits the audit log past the program is found out.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chart_relay::adapters::sqlite::verify::{Finding, Report, verify};
use engine::audit::{AuditId, Outcome};
use jiff::Timestamp;
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::{begun, execute, folder, key, open, raw};

const ROWS: u64 = 40;

/// Entries 1, 3, 5 .. are begun, 2, 4, 6 .. resolve them.
async fn write(path: &Path, from: usize, upto: usize) {
    let database = open(path).await.unwrap();
    let audit = database.audit();
    for number in from..upto {
        let id = audit.begin(begun(number)).await.unwrap();
        let now = Timestamp::from_second(1_800_000_001).unwrap();
        audit.complete(id, Outcome::Done { version: None }, now).await.unwrap();
    }
    database.close().await.unwrap();
}

async fn log() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    write(&path, 0, 20).await;
    (folder, path)
}

async fn report(path: &Path) -> Report {
    verify(path, &key()).await.unwrap()
}

/// What is found after somebody ran this on the closed database.
async fn after(sql: &'static str) -> Vec<Finding> {
    let (_folder, path) = log().await;
    tamper(&path, sql).await;
    report(&path).await.findings
}

async fn tamper(path: &Path, sql: &'static str) {
    let mut connection = raw(path, &key()).await;
    execute(&mut connection, "PRAGMA foreign_keys = OFF").await;
    execute(
        &mut connection,
        "DROP TRIGGER audit_not_changed; DROP TRIGGER audit_not_removed; DROP TRIGGER audit_only_appended;
         DROP INDEX audit_resolved_once",
    )
    .await;
    execute(&mut connection, sql).await;
    connection.close().await.unwrap();
}

#[tokio::test]
async fn an_untouched_log_is_intact() {
    let (_folder, path) = log().await;
    let found = report(&path).await;
    assert!(found.intact(), "{found:?}");
    assert_eq!((found.entries, found.anchored.unwrap().0), (ROWS, ROWS));
    // And grows on intact over a restart.
    write(&path, 20, 25).await;
    let found = report(&path).await;
    assert!(found.intact(), "{found:?}");
    assert_eq!((found.entries, found.anchored.unwrap().0), (ROWS + 10, ROWS + 10));
    let (_folder, empty) = folder();
    open(&empty).await.unwrap().close().await.unwrap();
    let found = report(&empty).await;
    assert_eq!((found.intact(), found.entries, found.anchored.unwrap().0), (true, 0, 0));
    fs::remove_file(empty.with_extension("db.anchor")).unwrap();
    assert!(report(&empty).await.intact(), "nothing is lost with the anchor of nothing");
}

#[tokio::test]
async fn altered_entries_are_found() {
    let broken = |id| Finding::Broken { id };
    assert_eq!(
        after("UPDATE audit SET entry = replace(entry, 'LastName', 'FirstName') WHERE id = 9").await,
        [broken(9)]
    );
    assert_eq!(after("UPDATE audit SET entry = entry || ' ' WHERE id = 1").await, [broken(1)]);
    assert_eq!(after("UPDATE audit SET resolves = 9 WHERE id = 8").await, [broken(8)]);
    assert_eq!(after("UPDATE audit SET resolves = NULL WHERE id = 8").await, [broken(8)]);
    assert_eq!(after("UPDATE audit SET mac = zeroblob(32) WHERE id = 9").await, [broken(9), broken(10)]);
    assert_eq!(after("UPDATE audit SET mac = x'00' WHERE id = 9").await, [broken(9), broken(10)]);
    assert_eq!(
        after("UPDATE audit SET mac = zeroblob(32) WHERE id = 40").await,
        [broken(40), Finding::Replaced { id: 40 }]
    );
}

#[tokio::test]
async fn removed_entries_are_found() {
    let missing = |from, to| Finding::Missing { from, to };
    assert_eq!(after("DELETE FROM audit WHERE id = 9").await, [missing(9, 9)]);
    assert_eq!(
        after("DELETE FROM audit WHERE id <= 4 OR id BETWEEN 20 AND 29").await,
        [missing(1, 4), missing(20, 29)]
    );
    // And closed up again.
    assert_eq!(
        after("DELETE FROM audit WHERE id = 9; UPDATE audit SET id = id - 1 WHERE id > 9").await.first(),
        Some(&Finding::Broken { id: 9 })
    );
}

#[tokio::test]
async fn reordered_entries_are_found() {
    let swap = "UPDATE audit SET id = -1 WHERE id = 9; UPDATE audit SET id = 9 WHERE id = 11;
                UPDATE audit SET id = 11 WHERE id = -1";
    let broken = |id| Finding::Broken { id };
    assert_eq!(after(swap).await, [broken(9), broken(10), broken(11), broken(12)]);
}

#[tokio::test]
async fn entries_put_in_are_found() {
    let copy = "INSERT INTO audit (id, resolves, entry, mac) SELECT 41, NULL, entry, mac FROM audit WHERE id = 1";
    assert_eq!(after(copy).await, [Finding::Broken { id: 41 }]);
}

#[tokio::test]
async fn a_cut_at_the_end_is_found() {
    let cut = |from| Finding::CutOff { from, to: ROWS };
    assert_eq!(after("DELETE FROM audit WHERE id = 40").await, [cut(40)]);
    assert_eq!(after("DELETE FROM audit WHERE id > 3").await, [cut(4)]);
    assert_eq!(after("DELETE FROM audit").await, [cut(1)]);
}

/// A cut that the program itself came across: it goes on, and what it saw is not forgotten when the log has grown again.
#[tokio::test]
async fn a_cut_stays_found_after_the_program_ran_again() {
    let (_folder, path) = log().await;
    tamper(&path, "DELETE FROM audit WHERE id > 30; DELETE FROM audit_open").await;
    write(&path, 20, 22).await;
    assert_eq!(report(&path).await.findings, [Finding::CutOff { from: 35, to: ROWS }]);
    write(&path, 22, 30).await;
    let found = report(&path).await;
    assert_eq!(found.findings, [Finding::Replaced { id: ROWS }]);
    assert_eq!(found.anchored.unwrap().0, 50);
}

#[tokio::test]
async fn an_older_copy_of_the_file_is_found() {
    let (_folder, path) = log().await;
    let old = fs::read(&path).unwrap();
    write(&path, 20, 25).await;
    fs::write(&path, old).unwrap();
    assert_eq!(report(&path).await.findings, [Finding::CutOff { from: ROWS + 1, to: ROWS + 10 }]);
}

#[tokio::test]
async fn an_anchor_is_missed_and_cannot_be_made_up() {
    let (_folder, path) = log().await;
    let anchor = path.with_extension("db.anchor");
    let text = fs::read_to_string(&anchor).unwrap();
    assert!(text.contains("\"last\":40"), "{text}");
    for forged in [text.replace("\"last\":40", "\"last\":39"), String::new(), "{}".into()] {
        fs::write(&anchor, forged).unwrap();
        assert_eq!(report(&path).await.findings, [Finding::AnchorAltered]);
    }
    fs::remove_file(&anchor).unwrap();
    assert_eq!(report(&path).await.findings, [Finding::AnchorMissing]);
    // It is written anew as soon as the program runs.
    write(&path, 20, 21).await;
    assert!(report(&path).await.intact());
}

#[tokio::test]
async fn the_table_itself_refuses_changes() {
    let (_folder, path) = log().await;
    let mut connection = raw(&path, &key()).await;
    for statement in [
        "UPDATE audit SET entry = '' WHERE id = 9",
        "DELETE FROM audit WHERE id = 9",
        "DELETE FROM audit WHERE id = 40",
        "INSERT OR REPLACE INTO audit (id, entry, mac) VALUES (9, '', x'00')",
        "INSERT INTO audit (id, entry, mac) VALUES (99, '', x'00')",
        "INSERT INTO audit (id, resolves, entry, mac) VALUES (41, 1, '', x'00')",
    ] {
        assert!(sqlx::query(statement).execute(&mut connection).await.is_err(), "{statement}");
    }
    connection.close().await.unwrap();
    assert!(report(&path).await.intact());
}

/// Waits for what happens soon on another thread.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} has not happened");
}

fn anchored(path: &Path) -> u64 {
    let text = fs::read_to_string(path.with_extension("db.anchor")).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|anchor| anchor["last"].as_u64()).unwrap_or(0)
}

#[tokio::test]
async fn an_anchor_is_written_every_hundred_entries() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    for number in 0..99 {
        database.audit().begin(begun(number)).await.unwrap();
    }
    assert_eq!(anchored(&path), 0);
    database.audit().begin(begun(99)).await.unwrap();
    eventually("the anchor at 100", || anchored(&path) == 100).await;
}

#[tokio::test]
async fn an_anchor_is_written_after_ten_seconds() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    database.audit().begin(begun(0)).await.unwrap();
    database.audit().complete(AuditId(1), Outcome::Interrupted, begun(0).at).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    tokio::time::resume();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(anchored(&path), 0);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    eventually("the anchor after 10 s", || anchored(&path) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_use_is_intact() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let writing = tokio::spawn({
        let audit = database.audit();
        async move {
            for number in 0..400 {
                let id = audit.begin(begun(number)).await.unwrap();
                audit.complete(id, Outcome::Interrupted, begun(0).at).await.unwrap();
            }
        }
    });
    let mut looks = 0;
    while !writing.is_finished() {
        for found in [database.verify_audit().await.unwrap(), report(&path).await] {
            assert!(found.intact(), "{found:?}");
            looks += 1;
        }
    }
    writing.await.unwrap();
    assert!(looks >= 2);
    let found = database.verify_audit().await.unwrap();
    assert_eq!((found.intact(), found.entries), (true, 800));
}
