//! What people do at the desk: look, sync now, mend, close and open again.

use serde_json::json;
use simulators::filemaker::{self, Route, When};

use crate::{
    canary_kit::{PATIENT, Scan},
    desk::Desk,
    installation::Installation,
    rig::until,
};

const VIEWS: [&str; 6] = ["overview", "queue", "conflicts", "locks", "history", "audit"];

#[tokio::test(flavor = "multi_thread")]
async fn opened_closed_and_opened_again() {
    let installation = Installation::ready(3, 61, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    for round in 0..2 {
        tray.item.choose("Open").await;
        let window = desk.window().await;
        window.sees("Up to date").await;
        assert_eq!(window.title().await, "Chart Relay", "round {round}");
        assert_eq!(tray.windows().len(), 1);
        desk.close_window().await;
        desk.no_window(&tray).await;
    }
    tray.item.shows("up-to-date").await;
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_is_shown_and_axe_finds_nothing() {
    let mut installation = Installation::ready(4, 62, "").await;
    let desk = Desk::at(&installation).await;
    let tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    let refused = installation.filemaker().inject(filemaker::Fault::Code(507), When::always().route(Route::Create));
    let new = installation.chart.generator.patient();
    installation.chart.control().put(new).unwrap();
    tray.item.shows("needs-attention").await;
    assert!(refused.fired() > 0);
    tray.item.choose("Open").await;
    let window = desk.window().await;
    for view in VIEWS {
        window.go(view).await;
        window.picture(view).await;
        assert_eq!(window.axe().await, Vec::<String>::new(), "{view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_now_ends_in_a_sentence_while_up_to_date_while_paused_and_while_filemaker_is_away() {
    let mut installation = Installation::ready(3, 63, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    window.press("Sync now").await;
    window.sees("Manual sync").await;
    window.sees("0 sent, 0 failed").await;

    // Paused: one whole pass, and it stays paused.
    tray.item.choose("15 minutes").await;
    tray.item.shows("paused").await;
    let new = installation.chart.generator.patient();
    installation.chart.control().put(new.clone()).unwrap();
    let before = installation.filemaker().count("Patient");
    window.press("Sync now").await;
    until("the one pass has carried it over", async || {
        (installation.filemaker().count("Patient") > before).then_some(())
    })
    .await;
    window.sees("1 sent, 0 failed").await;
    tray.item.shows("paused").await;
    window.sees("Resume").await;
    tray.item.choose("Resume").await;
    tray.item.shows("up-to-date").await;

    // Away: it says so, and loses nothing.
    installation.filemaker().unplug().await;
    tray.item.shows("cannot-reach").await;
    window.sees("Can't reach FileMaker").await;
    tray.item.choose("Sync now").await;
    window.sees("FileMaker could not be reached; nothing is lost.").await;
    tray.item.shows("cannot-reach").await;
    installation.filemaker().plug_in().await;
    tray.item.shows("up-to-date").await;
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_on_is_tried_again_from_the_window() {
    let mut installation = Installation::ready(2, 64, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    let refused = installation.filemaker().inject(filemaker::Fault::Code(507), When::always().route(Route::Create));
    let new = installation.chart.generator.patient();
    installation.chart.control().put(new).unwrap();
    tray.item.shows("needs-attention").await;
    let before = installation.filemaker().count("Patient");
    tray.item.choose("Needs attention").await;
    let window = desk.window().await;
    // The menu leads to what needs attention.
    until("the queue is shown", async || {
        let hash = window.run("return location.hash", &[]).await;
        hash.as_str()?.starts_with("#/queue").then_some(())
    })
    .await;
    window.sees("Needs attention").await;
    window.picture("queue-attention").await;
    installation.filemaker().clear(&refused);
    window.press_at("tbody tr[data-key] td:last-child").await;
    window.press("Try now").await;
    tray.item.shows("up-to-date").await;
    assert_eq!(installation.filemaker().count("Patient"), before + 1);
    window.go("queue").await;
    window.sees("Nothing waiting").await;
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_patient_is_in_tray_menu_title_notifications_or_what_the_window_stores() {
    let mut installation = Installation::ready(1, 65, "log-level = \"debug\"").await;
    let mut patient = installation.chart.generator.patient();
    patient["name"][0]["family"] = json!(PATIENT.family);
    patient["name"][0]["given"] = json!([PATIENT.given]);
    patient["birthDate"] = json!(PATIENT.birth_date);
    patient["identifier"][0]["value"] = json!(PATIENT.mrn);
    patient["telecom"][0]["value"] = json!(PATIENT.phone);
    patient["address"][0]["line"] = json!([PATIENT.street]);
    patient["address"][0]["city"] = json!(PATIENT.city);
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    let mut scan = Scan::default();
    installation.filemaker().inject(filemaker::Fault::Code(507), When::next().route(Route::Create));
    installation.chart.control().put(patient).unwrap();
    tray.item.shows("needs-attention").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    for view in VIEWS {
        window.go(view).await;
        let text = window.text().await;
        scan.bytes(&format!("the view {view} as long as nobody asked for names"), text.as_bytes());
        scan.bytes("title", window.title().await.as_bytes());
    }
    // A person asks for the name; only the page has it, and only for now.
    window.go("queue").await;
    window.press("Show the name of").await;
    window.sees(PATIENT.family).await;
    scan.bytes("title with a name on the screen", window.title().await.as_bytes());
    for (_, title) in desk.titles().await {
        scan.bytes("title bar", title.as_bytes());
    }
    let stored = window
        .run("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])", &[])
        .await;
    scan.bytes("what the page stores", stored.to_string().as_bytes());
    window.press_at("tbody tr[data-key] td:last-child").await;
    window.press("Try now").await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("Copy").await;
    scan.bytes("tray", tray.item.words().await.as_bytes());
    for entry in tray.item.menu().await {
        scan.bytes("menu", entry.label.as_bytes());
    }
    desk.close_window().await;
    desk.no_window(&tray).await;
    assert!(tray.quit().await.success());
    for told in desk.panel.told() {
        scan.bytes("notification", told.as_bytes());
    }
    scan.bytes("terminal", desk.said().as_bytes());
    // Everything on the disk: the web view's folders, logs, the tray's pictures, the database.
    scan.directory(desk.home.path());
    scan.directory(installation.folder.path());
    scan.assert_silent(100_000);
}
