//! What the chart system tells by itself: how its rest-hooks are set up, and how much sooner a change arrives in FileMaker.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use simulators::fhir::{FhirServer, Options};

use crate::{
    installation::{Installation, assert_refused, assert_said, said},
    rig::{Chart, PATIENCE, Station},
};

const EDITS: usize = 25;

/// From each of so many edits in the chart to its arrival in FileMaker, sorted.
#[allow(clippy::disallowed_methods, reason = "it measures")]
async fn arrivals(websocket: bool) -> Vec<Duration> {
    let server = FhirServer::start(Options::default()).await.unwrap();
    let mut station = Station::for_chart(&Chart::of(&server)).await;
    let firm = &mut station.config.firms[0];
    firm.fhir.websocket = websocket;
    if websocket {
        // What arrives in time has been told.
        firm.plan.every = Duration::from_secs(3600);
    }
    // Each edit is another patient's: one that is written twenty times in ten minutes waits.
    let patient = |number: usize, family: &str| json!({"resourceType": "Patient", "id": format!("p-{number}"), "name": [{"use": "official", "family": family}]});
    for number in 0..EDITS {
        server.control().put(patient(number, "Testpatient")).unwrap();
    }
    let running = station.start_proven().await;
    let filemaker = station.filemaker();
    let arrived = async |count: usize, family: &str| {
        let there =
            || filemaker.records("Patient").iter().filter(|row| row.fields["LastName"] == family).count() == count;
        let arrival = async {
            while !there() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrival).await.unwrap_or_else(|_| panic!("{family} does not arrive"));
    };
    arrived(EDITS, "Testpatient").await;
    if websocket {
        let types = station.config.firms[0].mapping.resources.len();
        let control = server.control();
        let bound = control.until(move |tally| tally.bound == types);
        tokio::time::timeout(PATIENCE, bound).await.expect("the relay listens");
    }
    let mut took = Vec::new();
    for number in 0..EDITS {
        let family = format!("Testpatient {number}");
        let begun = Instant::now();
        server.control().put(patient(number, &family)).unwrap();
        arrived(1, &family).await;
        took.push(begun.elapsed());
    }
    running.stop().await;
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_arrives_sooner_than_what_is_looked_for() {
    let (looked_for, told) = (Box::pin(arrivals(false)).await, Box::pin(arrivals(true)).await);
    for (way, took) in [("polling every second", &looked_for), ("a WebSocket", &told)] {
        println!(
            "from an edit in the chart to FileMaker by {way}: median {:?}, slowest {:?} of {EDITS}",
            took[EDITS / 2],
            took[EDITS - 1]
        );
    }
    assert!(told[EDITS / 2] < looked_for[EDITS / 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_hooks_are_shown_made_and_mended_by_a_command() {
    let installation = Installation::with(1, 22, "").await;
    installation.set_secrets().await;
    assert_refused(&installation.run(&["subscription"]).await, "No clinic has a [firm.fhir.hook]");
    let file = installation.folder.path().join("config.toml");
    let hook = "[firm.fhir.hook]\nendpoint = \"https://hooks.example/v1/hook/north\"\nsecret = \"north-hook\"\n[firm.filemaker]";
    let text = fs::read_to_string(&file).unwrap().replace("[firm.filemaker]", hook);
    fs::write(&file, text).unwrap();
    assert_refused(&installation.run(&["subscription"]).await, "north-hook");
    let key = "SYNTHETIC-hook-key";
    let set = installation.run_with_input(&["secret", "set", "north-hook"], &format!("{key}\n")).await;
    assert_said(&set, "\"north-hook\" is set.");

    let missing = installation.run(&["subscription"]).await;
    assert_refused(&missing, "Patient: not there");
    assert_refused(&missing, "--create makes this right");
    assert_said(&installation.run(&["subscription", "--create"]).await, "Patient: not there; made right");
    let shown = installation.run(&["subscription"]).await;
    assert_said(&shown, "Patient: asked for; the server has not begun yet");
    // The server switches one off; the check-up names it and its reason, and says what to do.
    let control = installation.chart.server.control();
    let id = control.ids("Subscription").into_iter().next().unwrap();
    let mut one = control.get("Subscription", &id).unwrap();
    (one["status"], one["error"]) = (json!("off"), json!("SYNTHETIC reason"));
    control.put(one).unwrap();
    let checked = installation.run(&["doctor"]).await;
    assert_said(&checked, "switched off by the server: SYNTHETIC reason; chart-relay subscription --create mends it");
    assert_said(&checked, "Patient: every field both ways");
    assert_said(&installation.run(&["subscription", "--create"]).await, "SYNTHETIC reason; made right");
    assert!(!said(&installation.run(&["subscription"]).await).contains("SYNTHETIC reason"));
    assert_eq!(control.ids("Subscription").len(), 4);
    for output in [missing, shown, checked] {
        assert!(!said(&output).contains(key), "the key is printed");
    }
}
