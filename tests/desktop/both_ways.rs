//! What people change in FileMaker, with the real window open: it is in the chart, and nothing answers it; and a field that two
//! people change at once, one on each side, is settled there.

use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::{
    desk::Desk,
    installation::Installation,
    rig::{until, writes},
};

const LEFT: &str = "SYNTHETIC Leftville";
const RIGHT: &str = "SYNTHETIC Rightville";

#[tokio::test(flavor = "multi_thread")]
async fn a_field_changed_on_both_servers_is_settled_in_the_window_and_both_hold_the_choice() {
    let installation = Installation::ready(2, 66, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    let (chart, filemaker) = (installation.chart.control(), installation.filemaker());
    let id = chart.ids("Patient")[0].clone();
    let row = filemaker.record_with("Patient", "FhirId", &id).unwrap();

    // Nothing is carried over in between.
    tray.item.choose("15 minutes").await;
    tray.item.shows("paused").await;
    let mut patient = chart.get("Patient", &id).unwrap();
    patient["address"] = json!([{ "use": "home", "line": ["SYNTHETIC 1"], "city": LEFT }]);
    chart.put(patient).unwrap();
    filemaker.desk_edit("Patient", row.record_id, &[("City", RIGHT)]).unwrap();
    tray.item.choose("Resume").await;
    let line = tray.item.shows("needs-attention").await;
    assert_eq!(line, "Both sides changed 1 record. Please choose.");

    // The menu leads to it; names are hidden, so nothing is shown before somebody asks.
    tray.item.choose("Needs attention").await;
    let window = desk.window().await;
    window.sees("Changed on both sides").await;
    window.picture("conflicts").await;
    window.press_at("tbody tr[data-key] td:last-child").await;
    window.sees("Show both sides").await;
    assert!(!window.text().await.contains("SYNTHETIC"));
    window.press("Show both sides").await;
    for value in [LEFT, RIGHT] {
        window.sees(value).await;
    }
    window.picture("conflict").await;
    assert_eq!(window.axe().await, Vec::<String>::new());
    let before = chart.versions("Patient", &id).len();
    window.press(&format!("FileMaker {RIGHT}")).await;
    window.press("Save").await;

    tray.item.shows("up-to-date").await;
    // What is decided stays in its place as long as the list is looked at.
    window.go("overview").await;
    window.go("conflicts").await;
    window.sees("Nothing to decide").await;
    assert!(!window.text().await.contains("SYNTHETIC"), "nothing of it is left in the window");
    let city = |patient: &Json| patient["address"][0]["city"].clone();
    until("both servers hold the choice", async || {
        let row = filemaker.record("Patient", row.record_id)?;
        (city(&chart.get("Patient", &id)?) == json!(RIGHT) && row.fields["City"] == RIGHT).then_some(())
    })
    .await;
    assert_eq!(chart.versions("Patient", &id).len(), before + 1, "the chart was written once");
    assert_eq!(
        chart.get("Patient", &id).unwrap()["address"][0]["line"],
        json!(["SYNTHETIC 1"]),
        "and nothing else of it"
    );

    // What was done has its place in the history, in both directions.
    window.go("history").await;
    window.sees("Conflict decided").await;
    window.sees("Sent to the chart: 1 field").await;
    window.picture("history-both-ways").await;
    assert!(tray.quit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_filemaker_is_seen_in_the_chart_and_nothing_answers_it() {
    let installation = Installation::ready(2, 67, "").await;
    let desk = Desk::at(&installation).await;
    let mut tray = desk.tray().await;
    tray.item.shows("up-to-date").await;
    tray.item.choose("Open").await;
    let window = desk.window().await;
    let (chart, filemaker) = (installation.chart.control(), installation.filemaker());
    let id = chart.ids("Patient")[0].clone();
    let row = filemaker.record_with("Patient", "FhirId", &id).unwrap();
    let city = || chart.get("Patient", &id).unwrap()["address"][0]["city"].as_str().map(str::to_owned);
    let before = city().unwrap();

    let begun = Instant::now();
    filemaker.desk_edit("Patient", row.record_id, &[("City", RIGHT)]).unwrap();
    until("the edit is in the chart", async || (city().as_deref() == Some(RIGHT)).then_some(())).await;
    println!("from an edit in FileMaker to the chart by polling every second: {:?}", begun.elapsed());

    // A whole pass looks at everything on both sides, our own write among it, and writes nothing.
    tray.item.shows("up-to-date").await;
    let written = || (chart.versions("Patient", &id).len(), writes(&filemaker));
    let once = written();
    window.press("Sync now").await;
    window.sees("0 sent, 0 failed").await;
    assert_eq!(written(), once, "nothing answers");

    window.go("history?direction=to-chart").await;
    window.sees("Sent to the chart: 1 field").await;
    window.press_at("tbody tr[data-key] td:last-child").await;
    window.press("Show before and after").await;
    for value in [&before[..], RIGHT] {
        window.sees(value).await;
    }
    window.picture("before-and-after").await;
    assert_eq!(window.axe().await, Vec::<String>::new());
    assert!(tray.quit().await.success());
}
