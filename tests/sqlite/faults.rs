//! Locked, full, read-only, foreign, damaged, or under another key: each is said at the door or at the first write, and from
//! then on nothing is written.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chart_relay::adapters::{
    clock::SystemClock,
    sqlite::{Database, Options},
};
use engine::{
    error::{Class, Code, Fault},
    key::Kind,
    keys::ClinicKey,
    ledger::Filter,
};
use sqlx::Connection as _;

use crate::{begun, execute, folder, key, message, open, open_with, owner, patient, raw, want};

fn fatal(code: Code) -> impl Fn(&Fault) -> bool {
    move |fault| fault.class == Class::Fatal && fault.code == code
}

#[track_caller]
fn refused<T>(result: Result<T, Fault>, code: Code) {
    match result {
        Ok(_) => panic!("expected {code}"),
        Err(fault) => assert!(fatal(code)(&fault), "expected {code}, got {fault:?}"),
    }
}

async fn refuses_all_writes(database: &Database, code: Code) {
    refused(database.queue().send(vec![message(1)]).await, code);
    refused(database.ledger().want(&[want(1)]).await, code);
    refused(database.audit().begin(begun(1)).await, code);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let (_folder, path) = folder();
    let first = open(&path).await.unwrap();
    refused(open(&path).await, Code::DatabaseBusy);
    first.queue().send(vec![message(1)]).await.unwrap();
    first.close().await.unwrap();
    let second = open(&path).await.unwrap();
    assert_eq!(second.queue().depth().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn a_file_that_another_program_locks_stops_all_writing() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    database.ledger().want(&[want(0)]).await.unwrap();
    let mut other = raw(&path, &key()).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    refused(database.ledger().want(&[want(1)]).await, Code::DatabaseBusy);
    // Even when the other one has gone: what was asked for in between is lost, and only a new start is sure of it.
    execute(&mut other, "ROLLBACK").await;
    refuses_all_writes(&database, Code::DatabaseBusy).await;
    assert!(database.ledger().read(&patient(0)).await.unwrap().is_some());
    assert_eq!(database.ledger().read(&patient(1)).await.unwrap(), None);
    refused(database.close().await, Code::DatabaseBusy);
    open(&path).await.unwrap().ledger().want(&[want(1)]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_all_writing_and_takes_nothing_back() {
    let (_folder, path) = folder();
    let options = Options { max_pages: Some(60), ..Options::default() };
    let database = open_with(&path, options).await.unwrap();
    let queue = database.queue();
    let mut acknowledged = 0;
    let fault = loop {
        match queue.send((0..10).map(|one| message(acknowledged + one)).collect()).await {
            Ok(()) => acknowledged += 10,
            Err(fault) => break fault,
        }
        assert!(acknowledged < 100_000);
    };
    assert!(fatal(Code::DatabaseFull)(&fault), "{fault:?}");
    assert!(acknowledged > 0);
    refuses_all_writes(&database, Code::DatabaseFull).await;
    assert!(queue.receive(10, Duration::ZERO).await.is_err(), "a receive is a write, too");
    refused(database.close().await, Code::DatabaseFull);

    // With room again, all that was acknowledged is there, and nothing else.
    let database = open(&path).await.unwrap();
    let got = database.queue().receive(usize::MAX, Duration::ZERO).await.unwrap();
    let expected: Vec<_> = (0..acknowledged).map(|number| message(number).id).collect();
    assert_eq!(got.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>(), expected);
}

/// Run as a user who may not write the file. The superuser may write anything, so the test runs itself again as nobody.
#[cfg(unix)]
#[test]
fn a_read_only_file_is_said_at_the_door() {
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};

    const AS_NOBODY: &str = "RELAY_TEST_AS_NOBODY";
    const NOBODY: u32 = 65_534;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_folder, path) = if let Some(path) = std::env::var_os(AS_NOBODY) {
        (None, path.into())
    } else {
        let (folder, path) = folder();
        runtime.block_on(async { open(&path).await.unwrap().close().await.unwrap() });
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        // Only the superuser may give it away, and only he has to.
        let _ = std::os::unix::fs::chown(&path, Some(NOBODY), None);
        fs::remove_file(path.with_extension("db.lock")).unwrap();
        fs::remove_file(path.with_extension("db.anchor")).unwrap();
        (Some(folder), path)
    };
    if fs::OpenOptions::new().write(true).open(&path).is_err() {
        let fault = runtime.block_on(open(&path)).unwrap_err();
        assert!(fatal(Code::DatabaseReadOnly)(&fault) && fault.vendor.as_deref() == Some("SQLite 8"), "{fault:?}");
        return;
    }
    assert!(std::env::var_os(AS_NOBODY).is_none(), "nobody may write the file");
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new(me)
        .args(["--exact", "faults::a_read_only_file_is_said_at_the_door"])
        .env(AS_NOBODY, &path)
        .uid(NOBODY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn databases_of_others_are_left_alone() {
    // In the clear.
    let (_folder, path) = folder();
    let mut plain = sqlx::SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    execute(&mut plain, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").await;
    plain.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    refused(open(&path).await, Code::DatabaseForeign);
    assert_eq!(fs::read(&path).unwrap(), before);

    // Under our key, with their tables.
    let (_folder, path) = folder();
    let mut theirs = raw(&path, &key()).await;
    execute(&mut theirs, "CREATE TABLE theirs (a)").await;
    theirs.close().await.unwrap();
    refused(open(&path).await, Code::DatabaseForeign);

    // Under our key, with their mark.
    let (_folder, path) = folder();
    let mut theirs = raw(&path, &key()).await;
    execute(&mut theirs, "PRAGMA application_id = 42").await;
    theirs.close().await.unwrap();
    refused(open(&path).await, Code::DatabaseForeign);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let (_folder, path) = folder();
    open(&path).await.unwrap().close().await.unwrap();
    let mut newer = raw(&path, &key()).await;
    execute(&mut newer, "PRAGMA user_version = 99").await;
    refused(open(&path).await, Code::DatabaseForeign);
    // Also if only the list of migrations knows.
    execute(
        &mut newer,
        "PRAGMA user_version = 1;
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'from the future', TRUE, x'00', 1)",
    )
    .await;
    newer.close().await.unwrap();
    refused(open(&path).await, Code::DatabaseForeign);
}

#[tokio::test]
async fn a_database_of_an_older_version_is_brought_up_to_date_and_keeps_what_it_has() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    database.ledger().want(&[want(1)]).await.unwrap();
    database.audit().begin(begun(1)).await.unwrap();
    database.close().await.unwrap();
    // As the first version left it.
    let mut older = raw(&path, &key()).await;
    execute(&mut older, "DROP TABLE note; DELETE FROM _sqlx_migrations WHERE version > 1; PRAGMA user_version = 1")
        .await;
    older.close().await.unwrap();
    let database = open(&path).await.unwrap();
    database.notes().write("pause", Some("synthetic")).await.unwrap();
    assert_eq!(database.notes().read("pause").await.unwrap().as_deref(), Some("synthetic"));
    assert!(database.ledger().read(&patient(1)).await.unwrap().is_some_and(|record| record.wanted.is_some()));
    assert!(database.verify_audit().await.unwrap().intact());
    database.close().await.unwrap();
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let (_folder, path) = folder();
    open(&path).await.unwrap().close().await.unwrap();
    let other = ClinicKey::from_bytes([8; 32]);
    let result = Database::open(&path, &other, owner(), Arc::new(SystemClock::new())).await;
    refused(result, Code::DatabaseKey);
    open(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_is_not_opened() {
    let (_folder, path) = folder();
    fs::write(&path, [b'x'; 8192]).unwrap();
    refused(open(&path).await, Code::DatabaseKey);
    assert_eq!(fs::read(&path).unwrap(), [b'x'; 8192]);
    let (folder, _) = folder();
    refused(open(&folder.path().join("missing/relay.db")).await, Code::DatabaseUnavailable);
}

fn damage(path: &Path, page: u64) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = page * 4096 + 100;
    file.seek(SeekFrom::Start(at)).unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

/// One bit anywhere: what touches that page says so, and nothing is written any more.
#[tokio::test]
async fn one_flipped_bit_is_found() {
    let (_folder, path) = folder();
    let database = open(&path).await.unwrap();
    let wants: Vec<_> = (0..3000).map(want).collect();
    database.ledger().want(&wants).await.unwrap();
    database.close().await.unwrap();
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    assert!(pages > 60, "{pages}");
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    for page in (1..pages).step_by(7) {
        fs::write(&path, &whole).unwrap();
        damage(&path, page);
        let faults = async {
            let database = open(&path).await?;
            let ledger = database.ledger();
            let read = async {
                ledger.page(Filter::All, None, usize::MAX).await?;
                ledger.survey().await?;
                ledger.due(&patient(1).firm, &Kind::RUN, wants[0].first_seen, Duration::from_secs(1), usize::MAX).await
            };
            let read = read.await.map(|_| ());
            let write = ledger.want(&wants).await;
            let result = read.and(write.clone());
            if let Err(fault) = write {
                refuses_all_writes(&database, fault.code).await;
            }
            let _ = database.close().await;
            result
        };
        if let Err(fault) = faults.await {
            assert!(fatal(Code::DatabaseCorrupt)(&fault), "page {page}: {fault:?}");
            found += 1;
        }
    }
    // Pages of tables that nothing here reads stay unread.
    assert!(found * 7 > pages / 2, "{found} of {}", pages / 7);
}

#[tokio::test]
async fn nothing_rests_in_the_clear_or_open_to_others() {
    const CANARY: &str = "SYNTHETIC-CANARY-Testpatient";
    let (folder, path) = folder();
    let database = open(&path).await.unwrap();
    database.ledger().want(&[want(1)]).await.unwrap();
    let mut secret = message(1);
    secret.body = CANARY.repeat(100);
    database.queue().send(vec![secret]).await.unwrap();
    let mut entry = begun(1);
    entry.fields = vec![CANARY.into()];
    database.audit().begin(entry).await.unwrap();
    let look = |when: &str| {
        let mut names = Vec::new();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let bytes = fs::read(file.path()).unwrap();
            assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{:?} {when}", file.path());
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{:?} {when}", file.path());
            }
            names.push(file.file_name().into_string().unwrap());
        }
        names.sort();
        names
    };
    assert_eq!(look("open"), ["relay.db", "relay.db-shm", "relay.db-wal", "relay.db.anchor", "relay.db.lock"]);
    database.close().await.unwrap();
    assert_eq!(look("closed"), ["relay.db", "relay.db.anchor", "relay.db.lock"]);
    let printed = format!("{database:?} {:?} {:?} {:?}", database.queue(), database.ledger(), database.audit());
    assert!(!printed.contains("07070707"), "{printed}");
}
