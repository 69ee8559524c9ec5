//! Several stations as they are installed, each a process of its own, on one queue and one ledger.

use std::{
    fs,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use simulators::filemaker::{self, Route, When};
use tokio::process::Child;

use crate::{
    console,
    installation::{Installation, assert_refused, assert_said, said},
    post::{Post, shared, sharing},
    rig::{FIRM, until},
};

mod ministack {
    use crate::emulator;

    #[tokio::test(flavor = "multi_thread")]
    async fn stations_that_are_killed_again_and_again_lose_and_double_nothing() {
        super::killed_again_and_again(emulator::ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_purged_queue_loses_nothing_that_was_received() {
        super::purged(emulator::ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_hook_puts_into_the_queue_arrives_without_a_poll() {
        super::hooked(emulator::ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_missing_is_named_and_made() {
        super::missing(emulator::ministack()).await;
    }
}

async fn killed_again_and_again(address: &str) {
    const KILLS: u32 = 12;
    let mut installation = sharing("killed", 8, 31, address).await;
    let first = installation.start();
    let posts = ["station-2", "station-3", "station-4", "station-5"].map(|id| Post::beside(&installation, id));
    let mut running: Vec<Child> = posts.iter().map(Post::start).collect();
    installation.filemaker().latency(Duration::from_millis(20));
    let mut chance = StdRng::seed_from_u64(31);
    let (mut changes, mut in_mid_call) = (0, 0);
    for _ in 0..KILLS {
        for _ in 0..10 {
            let ids = installation.chart.control().ids("Patient");
            installation.chart.change("Patient", &ids[chance.random_range(0..ids.len())]);
            changes += 1;
            tokio::time::sleep(Duration::from_millis(chance.random_range(20..150))).await;
        }
        let new = installation.chart.generator.patient();
        let form = installation.chart.generator.form(&new, jiff::Timestamp::now());
        installation.chart.control().put(form).unwrap();
        installation.chart.control().put(new).unwrap();
        changes += 2;
        let one = chance.random_range(0..posts.len());
        in_mid_call += u32::from(installation.filemaker().counts().in_flight > 0);
        running[one].kill().await.unwrap();
        running[one] = posts[one].start();
    }
    installation.filemaker().latency(Duration::ZERO);
    let compared = installation.all_arrived().await;
    println!(
        "checks: 5 stations, {KILLS} killed ({in_mid_call} while FileMaker was at work), {changes} changes, {} records: \
         lost 0, doubled 0, stale 0",
        compared.expected
    );
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    // Each did some of the work.
    assert!(posts.iter().all(|post| !post.said().contains("station's name")), "a name was refused");
    for one in &mut running {
        one.kill().await.unwrap();
    }
    installation.stop(first).await;
}

async fn purged(address: &str) {
    let mut installation = sharing("purged", 3, 33, address).await;
    let relay = installation.start();
    installation.all_arrived().await;
    // FileMaker is away, and the relay takes in what it can.
    let filemaker = installation.filemaker();
    let away = filemaker.inject(filemaker::Fault::Html502, When::always());
    installation.status("Can't reach FileMaker").await;
    let ids = installation.chart.control().ids("Patient");
    for id in &ids {
        installation.chart.change("Patient", id);
    }
    let new = installation.chart.generator.patient();
    installation.chart.control().put(new).unwrap();
    // The poll hints each version once. From here on only the ledger knows of these.
    let wanted =
        async || said(&installation.run(&["queue"]).await).lines().filter(|line| line.contains("/Patient/")).count();
    until("all four are wanted", async || (wanted().await == 4).then_some(())).await;
    let url = format!("{address}/000000000000/purged");
    console::ask(address, "AmazonSQS.PurgeQueue", json!({ "QueueUrl": url })).await;
    filemaker.clear(&away);
    installation.all_arrived().await;
    // A plain message about nobody in particular: the record is named, and needs a person.
    let plain = json!({ "QueueUrl": url, "MessageBody": r#"{"patientId":"synthetic-nobody"}"# });
    console::ask(address, "AmazonSQS.SendMessage", plain).await;
    let whole = r#"{"resourceType":"Patient","name":[{"family":"SYNTHETIC-CANARY"}]}"#;
    console::ask(address, "AmazonSQS.SendMessage", json!({ "QueueUrl": url, "MessageBody": whole })).await;
    until("the plain one is known", async || {
        said(&installation.run(&["queue"]).await).contains("Patient/synthetic-nobody").then_some(())
    })
    .await;
    until("the other is a dead letter", async || {
        let dead = said(&installation.run(&["dead"]).await);
        assert!(!dead.contains("CANARY"), "{dead}");
        dead.contains("a FHIR resource").then_some(())
    })
    .await;
    assert_said(&installation.run(&["redrive"]).await, "1 message cannot be read again");
    installation.stop(relay).await;
}

/// The message is the one that the API Gateway makes of a rest-hook (`tests/contract/messages.rs`).
async fn hooked(address: &str) {
    let mut installation = sharing("hooked", 25, 35, address).await;
    // What arrives in time has been told.
    let file = installation.folder.path().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let seldom = config
        .replace("poll-every = \"1s\"", "poll-every = \"4min\"")
        .replace("overlap = \"10s\"", "overlap = \"5min\"");
    fs::write(&file, seldom).unwrap();
    let relay = installation.start();
    installation.all_arrived().await;
    let url = format!("{address}/000000000000/hooked");
    let mut took = Vec::new();
    for id in installation.chart.control().ids("Patient") {
        let edits = || installation.server.control().counts().of(Route::Edit);
        let before = edits();
        let begun = Instant::now();
        installation.chart.change("Patient", &id);
        let body = json!({ "v": 1, "hints": [{ "firm": FIRM, "resource": "Patient", "id": id }] }).to_string();
        console::ask(address, "AmazonSQS.SendMessage", json!({ "QueueUrl": url, "MessageBody": body })).await;
        until("it arrives", async || (edits() > before).then_some(())).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "from an edit in the chart to FileMaker by a rest-hook through the queue: median {:?}, slowest {:?} of {}",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
    installation.all_arrived().await;
    installation.stop(relay).await;
}

async fn missing(address: &str) {
    let installation = Installation::with(2, 32, &shared(address, "missing")).await;
    installation.set_secrets().await;
    assert_refused(&installation.run(&["doctor"]).await, "aws");
    installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await;
    assert_refused(&installation.run(&["doctor"]).await, "`chart-relay provision` creates it");
    let output = installation.run(&["provision", "--dry-run"]).await;
    assert_refused(&output, "table missing-link");
    assert_refused(&output, "missing; it would be made");
    assert_refused(&installation.run(&["run"]).await, "A table of the shared ledger is not there");
    assert_said(&installation.run(&["provision"]).await, "made");
    assert_said(&installation.run(&["provision"]).await, "there and right");
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    let hooks = said(&installation.run(&["provision", "--print", "apigateway"]).await);
    assert!(hooks.contains("sqs:path/${AWS::AccountId}/missing") && hooks.contains("\"synthetic-north\""), "{hooks}");
    for what in ["cloudformation", "policy"] {
        let printed = installation.run(&["provision", "--print", what]).await;
        let printed: serde_json::Value = serde_json::from_str(&said(&printed)).unwrap();
        assert!(printed.to_string().contains("missing-link"), "{printed}");
    }
    // Another computer under the same name is turned away.
    let relay = installation.start();
    installation.all_arrived().await;
    let double = Post::beside(&installation, "system-test");
    let ended = double.start().wait().await.unwrap();
    assert!(!ended.success());
    assert!(double.said().contains("Another computer has this station's name"), "{}", double.said());
    installation.stop(relay).await;
}
