//! What stations share is away, throttled, deleted or emptied, while a relay runs: as it is installed, on an emulator, with a proxy in
//! between. Hours and days of it are simulated (`simulation/scenarios/stores.rs`).

use serde_json::{Value as Json, json};

use crate::{
    console,
    emulator::ministack,
    installation::{Installation, assert_said},
    post::sharing,
    proxy::{Proxy, Weather},
};

const NAME: &str = "faults";

async fn queue_url() -> Json {
    let found = console::ask(ministack(), "AmazonSQS.GetQueueUrl", json!({ "QueueName": NAME })).await;
    json!({ "QueueUrl": found["QueueUrl"] })
}

/// Something changes in the chart for every patient.
fn changes(installation: &mut Installation) -> usize {
    let ids = installation.chart.control().ids("Patient");
    for id in &ids {
        installation.chart.change("Patient", id);
    }
    ids.len()
}

mod ministack {
    #[tokio::test(flavor = "multi_thread")]
    async fn whatever_becomes_of_queue_and_ledger_is_said_and_made_up_for_without_a_restart() {
        super::faults().await;
    }
}

async fn faults() {
    let proxy = Proxy::start(ministack()).await;
    let mut installation = sharing(NAME, 9, 41, &proxy.address).await;
    let relay = installation.start();
    installation.all_arrived().await;
    let mut changed = 0;

    // Away.
    proxy.weather(Weather::Away);
    changed += changes(&mut installation);
    installation.status("Can't reach the shared queue and ledger since").await;
    // What does not need them is well, and is said to be.
    installation.status("the chart system of synthetic-north: answers").await;
    installation.status("FileMaker of synthetic-north: answers").await;
    proxy.weather(Weather::Fair);
    installation.all_arrived().await;

    // Too much asked.
    proxy.weather(Weather::Throttling);
    changed += changes(&mut installation);
    installation.status("asked us to slow down since").await;
    proxy.weather(Weather::Fair);
    installation.all_arrived().await;

    // The queue is deleted: what polls find goes on all the same.
    console::ask(ministack(), "AmazonSQS.DeleteQueue", queue_url().await).await;
    changed += changes(&mut installation);
    installation.both_sides_equal().await;
    installation.status("The shared queue is not there").await;
    assert_said(&installation.run(&["provision"]).await, "made");
    installation.all_arrived().await;

    // Somebody empties it, again and again, while changes come.
    for _ in 0..5 {
        changed += changes(&mut installation);
        for _ in 0..10 {
            console::ask(ministack(), "AmazonSQS.PurgeQueue", queue_url().await).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    installation.all_arrived().await;

    // Each table is deleted under it.
    for table in ["cursor", "firm", "link"] {
        let name = format!("{NAME}-{table}");
        // They are protected against a slip of the hand.
        let unprotected = json!({ "TableName": name, "DeletionProtectionEnabled": false });
        console::ask(ministack(), "DynamoDB_20120810.UpdateTable", unprotected).await;
        console::ask(ministack(), "DynamoDB_20120810.DeleteTable", json!({ "TableName": name })).await;
        // Without its links the ledger cannot tell what the portal changes from what the clinic entered, until a sweep made them anew.
        if table != "link" {
            changed += changes(&mut installation);
        }
        installation.status("A table of the shared ledger is not there").await;
        assert_said(&installation.run(&["provision"]).await, "made");
        installation.all_arrived().await;
        assert_said(&installation.run(&["remarks"]).await, "Nothing.");
    }
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    println!(
        "checks: queue and ledger away, throttled, deleted and emptied, {changed} changes meanwhile: lost 0, doubled 0"
    );
    installation.stop(relay).await;
}
