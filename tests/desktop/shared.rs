//! The tray and the window of a station that shares the work with others.

use std::time::Duration;

use crate::{
    desk::Desk,
    emulator,
    gateway::Gateway,
    post::{Post, sharing},
    rig::until,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_tray_says_what_it_waits_for_and_the_window_who_else_is_there() {
    let mut gateway = Gateway::before(emulator::ministack()).await;
    let mut installation = sharing("desktop", 3, 81, &gateway.address()).await;
    gateway.cut().await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    let line = tray.item.shows("cannot-reach").await;
    assert!(line.contains("Waiting for AWS since") && line.contains("it cannot be reached"), "{line}");
    assert!(!tray.item.entry("Sync now").await.unwrap().enabled, "nothing has begun");
    tray.item.choose("Open").await;
    let window = desk.window().await;
    window.sees("Waiting for AWS since").await;
    window.picture("waiting-for-aws").await;
    assert_eq!(window.axe().await, Vec::<String>::new());
    gateway.mend().await;
    tray.item.shows("up-to-date").await;
    window.sees("Up to date").await;

    let other = Post::beside(&installation, "exam-room-2");
    let process = other.start();
    window.sees("exam-room-2").await;
    window.sees("takes part").await;
    window.picture("stations").await;
    assert_eq!(window.axe().await, Vec::<String>::new());

    // Who works on what: a run takes so long that its lease is listed.
    installation.chart.control().configure(|chart| chart.latency = Duration::from_secs(4));
    installation.filemaker().latency(Duration::from_secs(1));
    window.go("locks").await;
    let ids = installation.chart.control().ids("Patient");
    until("a lock says who holds it", async || {
        for id in &ids {
            installation.chart.change("Patient", id);
        }
        for _ in 0..40 {
            let text = window.text().await;
            if text.contains("Station exam-room-2") || text.contains("This PC") {
                return Some(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    })
    .await;
    window.picture("shared-locks").await;
    installation.chart.control().configure(|chart| chart.latency = Duration::ZERO);
    installation.filemaker().latency(Duration::ZERO);
    tray.item.shows("up-to-date").await;
    window.go("history").await;
    window.sees("Each station keeps its own list").await;
    window.picture("shared-history").await;

    // Gone properly, it is said to have ended.
    assert!(other.run(&["stop"]).await.status.success());
    assert!(process.wait_with_output().await.unwrap().status.success());
    window.go("overview").await;
    window.sees("ended").await;
    assert!(tray.quit().await.success(), "{}", desk.said());
}
