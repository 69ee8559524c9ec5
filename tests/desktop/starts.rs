//! First start, second start, the end.

use std::fs;

use crate::{
    desk::Desk,
    installation::Installation,
    rig::{PATIENCE, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn on_a_new_pc_the_window_says_what_to_do() {
    let desk = Desk::bare().await;
    let mut tray = desk.tray().await;
    tray.item.shows("needs-attention").await;
    let window = desk.window().await;
    window.sees("Welcome to Chart Relay").await;
    // The file that is to be written, and the demo.
    window.sees("config.toml").await;
    assert!(window.offers("See the demo").await);
    assert_eq!(window.axe().await, Vec::<String>::new());
    window.picture("welcome").await;
    assert!(tray.quit().await.success());
    assert!(!desk.home.path().join(".config/autostart").exists(), "nothing starts by itself before it is set up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_shows_the_window_of_the_first_and_ends_well() {
    let installation = Installation::ready(2, 51, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    // It starts when somebody signs in.
    let autostart = until("the start at sign-in is entered", async || {
        let entry = fs::read_dir(desk.home.path().join(".config/autostart")).ok()?.flatten().next()?;
        fs::read_to_string(entry.path()).ok()
    })
    .await;
    assert!(autostart.contains("chart-relay") && autostart.contains("config.toml"), "{autostart}");
    assert!(tray.windows().is_empty(), "a tray that has an icon opens no window by itself");

    for _ in 0..2 {
        let second = tokio::time::timeout(PATIENCE, desk.command(&[]).status()).await.expect("it ends");
        assert!(second.unwrap().success(), "{}", desk.said());
        until("there is one window", async || (tray.windows().len() == 1).then_some(())).await;
    }
    desk.window().await.sees("Up to date").await;
    assert_eq!((desk.panel.items(), tray.windows().len()), (1, 1));
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tray_that_dies_leaves_a_window_that_says_so() {
    let installation = Installation::ready(2, 52, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    window.sees("Up to date").await;
    tray.child.kill().await.unwrap();
    // The last truth stays, with its time.
    window.sees("Not live").await;
    window.sees("Overview").await;
    window.picture("not-live").await;
    // Started again, it is live again.
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    window.sees_no_longer("Not live").await;
    assert!(tray.quit().await.success());
    desk.close_window().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_the_program() {
    let installation = Installation::ready(2, 53, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("1 hour").await;
    let before = tray.item.shows("paused").await;
    assert!(tray.quit().await.success());
    let tray = desk.tray().await;
    assert_eq!(tray.item.shows("paused").await, before);
}
