//! The icon in each of its seven states, and the menu beside it, as a panel reads them over D-Bus.

use std::time::Duration;

use simulators::filemaker::{self, Route, When};

use crate::{
    desk::{Desk, Tray},
    installation::Installation,
    panel::Entry,
    rig::until,
};

/// The menu's shape, which never changes: what begins so, how deep, and whether it is a check mark.
const MENU: [(&str, usize, bool); 14] = [
    ("", 0, false),
    ("Open Chart Relay", 0, false),
    ("Sync now", 0, false),
    ("", 0, false),
    ("Pause", 0, false),
    ("15 minutes", 1, false),
    ("1 hour", 1, false),
    ("Until closing time", 1, false),
    ("Resume", 1, false),
    ("Hide patient names", 0, true),
    ("Help", 0, false),
    ("Copy diagnostic summary", 1, false),
    ("Open log folder", 1, false),
    ("Quit", 0, false),
];

fn shape(menu: &[Entry]) -> Vec<(usize, bool)> {
    menu.iter().map(|entry| (entry.depth, entry.checked.is_some())).collect()
}

/// The icon shows this state, and the menu says it in these words.
async fn shows(tray: &Tray, state: &str, words: &str) {
    let line = tray.item.shows(state).await;
    assert!(line.contains(words), "{state}: {line}");
    assert_eq!(tray.item.status().await, "Active");
    let menu = tray.item.menu().await;
    let expected: Vec<_> = MENU.iter().map(|(_, depth, check)| (*depth, *check)).collect();
    assert_eq!(shape(&menu), expected, "{menu:#?}");
    assert!(!menu[0].enabled, "the line that says the state does nothing: {menu:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_then_up_to_date_then_paused_then_working() {
    let mut installation = Installation::ready(3, 41, "").await;
    let desk = Desk::at(&installation).await;
    // Until FileMaker has answered, nothing is proven.
    installation.filemaker().pause(Duration::from_secs(600));
    let mut tray = desk.tray().await;
    shows(&tray, "starting", "Starting").await;
    installation.filemaker().resume();
    shows(&tray, "up-to-date", "Up to date").await;
    let menu = tray.item.menu().await;
    for (entry, (words, ..)) in menu.iter().zip(MENU) {
        assert!(entry.label.starts_with(words), "{entry:?} instead of {words}");
    }
    assert!(!menu[3].enabled, "nothing needs attention: {menu:#?}");

    tray.item.choose("15 minutes").await;
    shows(&tray, "paused", "Paused until").await;
    tray.item.choose("Resume").await;
    shows(&tray, "up-to-date", "Up to date").await;

    installation.filemaker().latency(Duration::from_secs(1));
    for _ in 0..20 {
        let new = installation.chart.generator.patient();
        installation.chart.control().put(new).unwrap();
    }
    shows(&tray, "working", "Syncing").await;
    installation.filemaker().latency(Duration::ZERO);
    shows(&tray, "up-to-date", "Up to date").await;
    assert_eq!(desk.panel.told(), Vec::<String>::new(), "nothing of this is worth an interruption");
    assert!(tray.quit().await.success(), "{}", desk.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn filemaker_away_is_said_with_its_time() {
    let installation = Installation::ready(2, 42, "").await;
    let desk = Desk::at(&installation).await;
    installation.filemaker().unplug().await;
    let mut tray = desk.tray().await;
    shows(&tray, "cannot-reach", "Can't reach FileMaker").await;
    installation.filemaker().plug_in().await;
    shows(&tray, "up-to-date", "Up to date").await;
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_person_is_counted() {
    let mut installation = Installation::ready(2, 43, "").await;
    let desk = Desk::at(&installation).await;
    let refused = installation.filemaker().inject(filemaker::Fault::Code(507), When::always().route(Route::Create));
    let new = installation.chart.generator.patient();
    installation.chart.control().put(new).unwrap();
    let tray = desk.tray().await;
    shows(&tray, "needs-attention", "need").await;
    let entry =
        until("the menu counts it", async || tray.item.entry("Needs attention").await.filter(|entry| entry.enabled))
            .await;
    assert!(entry.label.contains('('), "{entry:?}");
    assert!(refused.fired() > 0);
}

/// A tray beside a relay that runs without one shows what that relay says, and says so when it falls silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_falls_silent_is_no_news() {
    let installation = Installation::ready(2, 44, "").await;
    let desk = Desk::at(&installation).await;
    let relay = installation.start();
    installation.status("Up to date").await;
    let mut tray = desk.tray().await;
    shows(&tray, "up-to-date", "Up to date").await;
    signal(relay.id().unwrap(), "STOP").await;
    shows(&tray, "no-news", "No news").await;
    assert!(!tray.item.entry("Sync now").await.unwrap().enabled, "nobody would hear it");
    signal(relay.id().unwrap(), "CONT").await;
    shows(&tray, "up-to-date", "Up to date").await;
    // It goes on without its tray.
    assert!(tray.quit().await.success());
    installation.status("Up to date").await;
    installation.stop(relay).await;
}

/// Both servers say that it is three hours later: to the program that is a PC that is three hours behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_this_pc_is_named() {
    let installation = Installation::ready(2, 45, "").await;
    let desk = Desk::at(&installation).await;
    installation.chart.control().skew(jiff::SignedDuration::from_hours(3));
    installation.filemaker().clock().advance(Duration::from_secs(3 * 3600));
    let mut tray = desk.tray().await;
    shows(&tray, "needs-attention", "The clock of this PC is 3 h behind.").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    window.sees("The clock of this PC is 3 h behind.").await;
    window.picture("wrong-clock").await;
    assert!(tray.quit().await.success());
}

async fn signal(process: u32, name: &str) {
    let sent = tokio::process::Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().await;
    assert!(sent.unwrap().success());
}
