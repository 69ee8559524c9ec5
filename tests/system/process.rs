//! The program as it is installed: its commands, a process that is killed again and again, an audit log that was tampered with.

use std::{fs, path::Path, process::Stdio, time::Duration};

use chart_relay::wiring::DATABASE;
use engine::keys::Purpose;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use simulators::filemaker::{self, Route, When};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::process::Command;

use crate::{
    installation::{Installation, PASSPHRASE, assert_refused, assert_said, said},
    rig::{until, writes},
};

fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(listing(&path));
        }
        names.push(path.display().to_string());
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_whole_and_starts_nothing() {
    let installation = Installation::with(1, 20, "").await;
    let file = installation.folder.path().join("config.toml");
    let right = fs::read_to_string(&file).unwrap();
    let wrong = right
        .replace("sessions = 4", "sessions = 4000")
        .replace("lease-term = \"10s\"", "lease-term = \"ten\"")
        .replace("use = \"progress-note\"", "use = \"progess-note\"")
        .replace("America/New_York", "America/Nowhere");
    fs::write(&file, wrong).unwrap();
    let before = listing(installation.folder.path());
    for command in [&["run"][..], &["status"], &["doctor"], &["secret", "list"], &["audit", "verify"], &["config"]] {
        let output = installation.run(command).await;
        assert_refused(&output, "There are 4 things to put right");
        for setting in ["firm.filemaker.sessions", "engine.lease-term", "firm.mapping.use", "firm.time-zone"] {
            assert!(said(&output).contains(setting), "{setting}: {}", said(&output));
        }
    }
    fs::remove_file(&file).unwrap();
    assert_refused(&installation.run(&["run"]).await, "There is no configuration at");
    let after = listing(installation.folder.path());
    assert_eq!(after, before.into_iter().filter(|name| !name.ends_with("config.toml")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_what_they_say() {
    let mut installation = Installation::with(4, 21, "").await;
    let filemaker = installation.filemaker();

    // Before anything is set up.
    assert_refused(&installation.run(&["status"]).await, "no relay is running");
    assert_refused(&installation.run(&["run"]).await, "north-fhir");
    assert!(!installation.data().join(DATABASE).exists(), "a relay without secrets has begun");
    assert_refused(&installation.run_with_input(&["secret", "set", "north-fhir"], "").await, "was empty");
    installation.set_secrets().await;
    let sealed = fs::read(installation.data().join("secrets.sealed")).unwrap();
    assert_said(&installation.run(&["secret", "list"]).await, "set      north-filemaker");

    // A wrong passphrase opens nothing and spoils nothing.
    let passphrase = installation.folder.path().join("passphrase");
    fs::write(&passphrase, "another synthetic passphrase").unwrap();
    for command in [&["run"][..], &["secret", "list"], &["doctor"], &["secret", "delete", "north-fhir"]] {
        assert_refused(&installation.run(command).await, "passphrase");
    }
    fs::write(&passphrase, PASSPHRASE).unwrap();
    assert_eq!(fs::read(installation.data().join("secrets.sealed")).unwrap(), sealed);
    assert!(!installation.data().join(DATABASE).exists());

    // Looking writes nothing; trying writes by consent and leaves nothing behind.
    assert_said(&installation.run(&["doctor"]).await, "Everything works.");
    assert_eq!(writes(&filemaker), 0);
    assert_refused(&installation.run(&["doctor", "--write-probe"]).await, "consent");
    assert_eq!(writes(&filemaker), 0);
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    assert!(writes(&filemaker) > 0);
    assert!(crate::rig::TABLES.iter().all(|table| filemaker.count(table) == 0), "a probe was left behind");

    let relay = installation.start();
    installation.all_arrived().await;
    for command in ["queue", "dead", "remarks"] {
        assert_said(&installation.run(&[command]).await, "Nothing.");
    }
    // The change lists are walked under a lease now and then.
    assert_said(&installation.run(&["locks"]).await, "");
    assert_refused(&installation.run(&["run"]).await, "a relay is running on this data directory already");
    installation.status("Up to date").await;

    // Keys that nobody knows are not made known by asking for them.
    for key in ["synthetic-north/link/Patient/nobody", "elsewhere/link/Patient/synthetic-patient-0001"] {
        assert_refused(&installation.run(&["retry", key]).await, key);
        assert_refused(&installation.run(&["set-aside", key]).await, key);
    }
    assert_refused(&installation.run(&["retry", "nonsense"]).await, "north/link/Patient/123");
    assert_refused(&installation.run(&["drop-letters", "nothing"]).await, "nothing");
    assert_said(&installation.run(&["retry", "synthetic-north/link/Patient/synthetic-patient-0001"]).await, "Done.");
    assert_said(&installation.run(&["dead"]).await, "Nothing.");

    // A pause holds everything back but what a person asks for.
    assert_said(&installation.run(&["pause", "15min"]).await, "Done.");
    installation.status("Paused until").await;
    filemaker.reset_counts();
    let id = installation.chart.control().ids("Patient").remove(0);
    installation.chart.change("Patient", &id);
    installation.status("Paused until").await;
    assert_eq!(writes(&filemaker), 0, "a paused relay wrote");
    assert_said(&installation.run(&["sync-now"]).await, "Done.");
    until("one pass was made", async || (writes(&filemaker) == 1).then_some(())).await;
    installation.status("Paused until").await;
    installation.chart.change("Patient", &id);
    assert_said(&installation.run(&["resume"]).await, "Done.");
    installation.all_arrived().await;

    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
    let audit = said(&installation.run(&["audit", "list", "--limit", "500"]).await);
    for asked in ["[pause]", "[sync-now]", "[resume]", "[retry]", "CreateRow", "EditRow"] {
        assert!(audit.contains(asked), "{asked} is not in:\n{audit}");
    }
    installation.stop(relay).await;
    assert_refused(&installation.run(&["status"]).await, "no relay is running");
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_shows_what_it_would_be_and_does_it() {
    let installation = Installation::ready(4, 24, "").await;
    let filemaker = installation.filemaker();
    // A rule of the file that no patient meets; what belongs to them waits in vain.
    let refused = filemaker.inject(filemaker::Fault::Code(507), When::always().route(Route::Create));
    let relay = installation.start();
    let preview = async || said(&installation.run(&["redrive"]).await);
    until("all four died", async || preview().await.contains(" 4  value-refused: FileMaker did not").then_some(()))
        .await;
    let dead = async || {
        said(&installation.run(&["dead"]).await).lines().filter(|line| line.contains("did not accept")).count()
    };
    for time in 0..2 {
        let shown = preview().await;
        assert!(shown.contains("would be tried again:") && shown.contains("The oldest is dead since "), "{shown}");
        assert!(
            shown.contains("synthetic-north/link/") && shown.contains("Nothing was done. `--yes` does it."),
            "{shown}"
        );
        assert_eq!(dead().await, 4, "{time}: only shown");
    }
    assert_said(&installation.run(&["redrive", "--reason", "duplicate-rows", "--yes"]).await, "Nothing is dead");
    assert_refused(&installation.run(&["redrive", "--reason", "nonsense"]).await, "value-refused");
    let listed = said(&installation.run(&["dead"]).await);
    let set_aside = listed.lines().find(|line| line.contains("did not accept")).unwrap();
    let set_aside = set_aside.split_whitespace().next().unwrap();
    assert_said(&installation.run(&["set-aside", set_aside]).await, "Done.");
    filemaker.clear(&refused);
    assert_said(&installation.run(&["redrive", "--reason", "value-refused", "--yes"]).await, "Done: 3 items will be");
    until("three are there", async || (filemaker.count("Patient") == 3).then_some(())).await;
    // What was set aside is a person's decision, and stays.
    assert_said(&installation.run(&["redrive", "--reason", "value-refused", "--yes"]).await, "Nothing is dead");
    assert_said(&installation.run(&["put-back", set_aside]).await, "Done.");
    assert_said(&installation.run(&["redrive", "--reason", "value-refused", "--yes"]).await, "Done: 1 item will be");
    until("all four are there", async || (filemaker.count("Patient") == 4).then_some(())).await;
    assert_said(&installation.run(&["redrive", "--yes"]).await, "");
    installation.all_arrived().await;
    assert_said(&installation.run(&["redrive", "--yes"]).await, "Nothing is dead");
    let audit = said(&installation.run(&["audit", "list", "--limit", "500"]).await);
    let retried = audit.lines().filter(|line| line.contains("[retry]") && line.contains("/Patient/")).count();
    assert_eq!(retried, 4, "one entry for each:\n{audit}");
    installation.stop(relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_audit_entry_is_named() {
    let installation = Installation::ready(2, 22, "").await;
    let relay = installation.start();
    installation.all_arrived().await;
    installation.stop(relay).await;
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");

    let database = installation.data().join(DATABASE);
    let key = installation.key().await.derive(Purpose::Database);
    let hex: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let options = SqliteConnectOptions::new().filename(&database).pragma("key", format!("\"x'{hex}'\""));
    let mut connection = options.connect().await.unwrap();
    let id: i64 = sqlx::query_scalar("SELECT min(id) FROM audit WHERE entry LIKE '%create-row%' AND id > 2")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql("DROP TRIGGER audit_not_changed").execute(&mut connection).await.unwrap();
    let altered = sqlx::query("UPDATE audit SET entry = replace(entry, 'create-row', 'edit-row') WHERE id = ?1");
    assert_eq!(altered.bind(id).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();

    let output = installation.run(&["audit", "verify"]).await;
    assert_refused(&output, &format!("entry {id} does not follow from the one before it"));
    assert_refused(&output, "The audit log is NOT intact");
    assert_eq!(output.status.code(), Some(1));
    // The running relay finds it too.
    let relay = installation.start();
    installation.status("Up to date").await;
    assert_refused(&installation.run(&["audit", "verify"]).await, &format!("entry {id} does not follow"));
    installation.stop(relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const KILLS: u64 = 15;
    let mut installation = Installation::ready(6, 23, "").await;
    let filemaker = installation.filemaker();
    // Writes take long enough to be interrupted.
    filemaker.latency(Duration::from_millis(40));
    let mut chance = StdRng::seed_from_u64(23);
    let (mut killed_in_mid_write, mut begun) = (0, 0);
    for kill in 0..KILLS {
        let before = writes(&filemaker);
        let mut relay = installation.start();
        for _ in 0..3 {
            let ids = installation.chart.control().ids("Patient");
            installation.chart.change("Patient", &ids[chance.random_range(0..ids.len())]);
        }
        let new = installation.chart.generator.patient();
        let form = installation.chart.generator.form(&new, jiff::Timestamp::now());
        installation.chart.control().put(form).unwrap();
        installation.chart.control().put(new).unwrap();
        // Every third one dies at any moment of its start, the others once they have begun to write.
        let moment = Duration::from_millis(if kill % 3 == 0 {
            chance.random_range(0..1_500)
        } else {
            until("it writes again", async || (writes(&filemaker) > before).then_some(())).await;
            begun += 1;
            chance.random_range(0..150)
        });
        tokio::time::sleep(moment).await;
        killed_in_mid_write += u32::from(filemaker.counts().in_flight > 0);
        relay.kill().await.unwrap();
    }
    filemaker.latency(Duration::ZERO);
    let relay = installation.start();
    installation.all_arrived().await;
    let audit = said(&installation.run(&["audit", "list", "--limit", "10000"]).await);
    let interrupted = audit.lines().filter(|line| line.ends_with("Interrupted")).count();
    let open = audit.lines().filter(|line| line.ends_with("open")).count();
    println!(
        "{KILLS} kills, {begun} while it wrote, {killed_in_mid_write} in mid call, {interrupted} entries interrupted"
    );
    assert!(interrupted > 0, "no write was interrupted: the test proves little");
    assert_eq!(open, 0, "{audit}");
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    installation.stop(relay).await;
    assert_said(&installation.run(&["audit", "verify"]).await, "The audit log is unaltered");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chart-relay"));
    command.args(["demo", "--for", "20s", "--patients", "6"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(160), command.output()).await.expect("it ends").unwrap();
    assert_said(&output, "records arrived as entered, 0 doubled, 0 need a person");
    assert_said(&output, "audit log: unaltered, verified");
}
