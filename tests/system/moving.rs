//! From the embedded queue and ledger to the shared ones, as a clinic's consultant would do it, on a bad day.

use std::{fs, sync::Arc, time::Duration};

use chart_relay::{
    adapters::{clock::SystemClock, sqlite::Database},
    wiring::{DATABASE, command_owner},
};
use engine::{key::StationId, ledger::Filter, ports::Depth};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    emulator::ministack,
    installation::{Installation, assert_said, said},
    post::shared,
    proxy::{Proxy, Weather},
    rig::until,
};

mod ministack {
    #[tokio::test(flavor = "multi_thread")]
    async fn an_embedded_backlog_is_moved_over_and_nothing_is_lost_though_it_is_killed_in_the_middle() {
        super::moved().await;
    }
}

/// How many records wait, by the status; none while it does not say.
async fn waiting(installation: &Installation) -> Option<usize> {
    let status = said(&installation.run(&["status"]).await);
    status.split(" waiting").next()?.rsplit(' ').next()?.parse().ok()
}

async fn moved() {
    const KILLS: u32 = 6;
    let proxy = Proxy::start(ministack()).await;
    let mut installation = Installation::ready(40, 51, "").await;
    // It has run for a while, and then FileMaker is away: a backlog.
    let relay = installation.start();
    installation.all_arrived().await;
    installation.filemaker().pause(Duration::from_secs(3_600));
    let ids = installation.chart.control().ids("Patient");
    for id in &ids {
        installation.chart.change("Patient", id);
    }
    let backlog =
        until("a backlog", async || waiting(&installation).await.filter(|waiting| *waiting >= ids.len())).await;
    installation.stop(relay).await;

    // `[shared]` is put into the configuration, and AWS gets its queue and tables.
    let file = installation.folder.path().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}\n{}", shared(&proxy.address, "moved"))).unwrap();
    installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await;
    assert_said(&installation.run(&["provision"]).await, "made");

    // It is killed again and again before it is done.
    proxy.weather(Weather::Slow(250));
    let mut chance = StdRng::seed_from_u64(51);
    let mut in_the_middle = 0;
    for _ in 0..KILLS {
        let mut relay = installation.start();
        until("it moves, or is done", async || {
            let status = said(&installation.run(&["status"]).await);
            (status.contains("to the shared ledger") || status.contains("Syncing")).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..700))).await;
        in_the_middle += u32::from(said(&installation.run(&["status"]).await).contains("to the shared ledger"));
        relay.kill().await.unwrap();
    }
    assert!(in_the_middle > 0, "it was never killed in the middle");
    proxy.weather(Weather::Fair);
    let relay = installation.start();
    until("all of it is moved", async || waiting(&installation).await.filter(|waiting| *waiting >= backlog)).await;
    installation.filemaker().resume();
    let compared = installation.all_arrived().await;
    assert_said(&installation.run(&["dead"]).await, "Nothing.");
    assert_said(&installation.run(&["remarks"]).await, "Nothing.");
    println!(
        "checks: moved over with {backlog} waiting, killed {in_the_middle} times in the middle, {} records: lost 0, doubled 0",
        compared.expected
    );
    installation.stop(relay).await;

    // Nothing is left behind for a way back to trust.
    let owner = command_owner(&StationId::new("system-test").unwrap());
    let path = installation.data().join(DATABASE);
    let clock = Arc::new(SystemClock::new());
    let database = Database::open(&path, &installation.key().await, owner, clock).await.unwrap();
    assert_eq!(database.ledger().count(Filter::All).await.unwrap(), 0);
    assert_eq!(database.queue().depth().await.unwrap(), Depth::default());
    database.close().await.unwrap();
}
