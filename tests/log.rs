//! Logs: what is written, what never is, and how much.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod canary;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use chart_relay::log::{self, LogError, Options};
use engine::ports::{Clock, Resource};
use jiff::{Timestamp, ToSpan};

use canary::{PATIENT, Scan};

#[derive(Debug)]
struct SetClock(Mutex<Timestamp>);

impl SetClock {
    fn new(at: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(at.parse().unwrap())))
    }

    fn forward(&self, hours: i64) {
        let mut now = self.0.lock().unwrap();
        *now += hours.hours();
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn into(directory: &Path, level: &str) -> Options {
    Options { directory: Some(directory.to_owned()), level: level.to_owned(), ..Options::default() }
}

/// Names and texts, in order of name.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs with these options and gives back what was written.
fn written(level: &str, speak: impl FnOnce()) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (dispatch, guard) =
        log::build(&into(directory.path(), level), SetClock::new("2026-05-03T10:00:00.5Z")).unwrap();
    tracing::dispatcher::with_default(&dispatch, speak);
    drop(guard);
    files(directory.path()).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn a_line_is_json_with_time_level_and_fields() {
    let text = written("info", || {
        tracing::info!(target: "chart_relay::wiring", firm = "north", waiting = 3, "started");
        tracing::debug!(target: "chart_relay::wiring", "not at this level");
    });
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["timestamp"], "2026-05-03T10:00:00.500Z");
    assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"started".into()));
    assert_eq!((&line["firm"], &line["target"]), (&"north".into(), &"chart_relay::wiring".into()));
    assert_eq!(line["waiting"].to_string(), "3");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn other_libraries_are_not_heard_below_warn_whatever_is_asked() {
    let text = written("trace,engine::poll=warn", || {
        tracing::trace!(target: "engine::merge", "ours");
        tracing::info!(target: "engine::poll", "ours, made quieter");
        // What they really do at these levels.
        tracing::trace!(target: "hyper::proto::h1", "GET /Patient?family={}", PATIENT.family);
        tracing::debug!(target: "reqwest::connect", "GET /Patient?family={}", PATIENT.family);
        tracing::debug!(target: "engine_io", "no part of ours, family={}", PATIENT.family);
        tracing::warn!(target: "hyper::server", "theirs, and worth knowing");
    });
    let messages: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let targets: Vec<&str> = messages.iter().map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["engine::merge", "hyper::server"]);
    Scan::default().bytes("log", text.as_bytes()).assert_silent(50);
}

#[test]
fn a_level_that_would_open_other_libraries_or_is_none_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |level: &str| {
        let error = log::build(&into(directory.path(), level), SetClock::new("2026-05-03T10:00:00Z")).unwrap_err();
        (matches!(error, LogError::Level(_)), error.to_string())
    };
    assert!(refused("loud").0);
    assert!(refused("info,chart_relay=loud").0);
    let (is_level, sentence) = refused("info,hyper=trace");
    assert!(!is_level && sentence.contains("\"hyper\"") && sentence.contains("chart_relay"), "{sentence}");
    assert!(!refused("info,engine_io=debug").0);
    fs::write(directory.path().join("file"), "").unwrap();
    let missing = into(&directory.path().join("file/below"), "info");
    assert!(matches!(log::build(&missing, SetClock::new("2026-05-03T10:00:00Z")), Err(LogError::Directory(_))));
}

#[test]
fn what_carries_patient_data_says_nothing_when_it_is_logged() {
    let resource = Resource {
        resource: engine::key::ResourceType::new("Patient").unwrap(),
        id: engine::key::ResourceId::new("7f3").unwrap(),
        version: "4".to_owned(),
        last_updated: None,
        json: serde_json::json!({"name": [{"family": PATIENT.family}], "birthDate": PATIENT.birth_date}),
    };
    let secret = chart_relay::secrets::Secret::new(PATIENT.mrn);
    let text =
        written("trace", || tracing::error!(target: "engine::merge", ?resource, ?secret, "as careless as can be"));
    assert!(text.contains("7f3"), "{text}");
    Scan::default().bytes("log", text.as_bytes()).assert_silent(100);
}

#[test]
fn a_new_file_begins_each_day_and_when_one_is_full_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let clock = SetClock::new("2026-05-03T22:00:00Z");
    let options = Options { files: 4, file_bytes: 1000, ..into(directory.path(), "info") };
    let run = |lines: usize| {
        let (dispatch, guard) = log::build(&options, clock.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            for line in 0..lines {
                tracing::info!(target: "engine", line, "{}", "x".repeat(150));
            }
        });
        assert_eq!(guard.dropped_lines(), 0);
        drop(guard);
    };
    let names = || files(directory.path()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

    run(2);
    // Started again: goes on in the same file.
    run(1);
    assert_eq!(names(), ["chart-relay.2026-05-03.0000.jsonl"]);
    assert_eq!(files(directory.path())[0].1.lines().count(), 3);
    clock.forward(3);
    run(1);
    assert_eq!(names(), ["chart-relay.2026-05-03.0000.jsonl", "chart-relay.2026-05-04.0000.jsonl"]);
    run(40);
    let left = files(directory.path());
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|(name, text)| name.starts_with("chart-relay.2026-05-04.") && text.len() <= 1000));
    // No line is torn, and the newest are there.
    let lines: Vec<serde_json::Value> =
        left.iter().flat_map(|(_, text)| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["line"].to_string(), "39");
    // Started again, it goes on behind the newest, not where the oldest were.
    run(1);
    let last = files(directory.path()).pop().unwrap().1;
    assert!(last.lines().last().unwrap().contains("\"line\":0"), "{last}");
    // Another program's file is none of ours.
    fs::write(directory.path().join("notes.txt"), "keep").unwrap();
    clock.forward(24);
    run(40);
    assert!(names().contains(&"notes.txt".to_owned()));
    assert_eq!(names().len(), 5);
    // A clock set back does not delete what is being written.
    clock.forward(-72);
    run(1);
    assert!(names().contains(&"chart-relay.2026-05-02.0000.jsonl".to_owned()), "{:?}", names());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(&names()[0]);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

const CHILD: &str = "CHART_RELAY_TEST_LOG_CHILD";

/// Not a test of its own: a process that fails with patient data in the panic's message.
#[test]
#[ignore = "started by the next test"]
fn a_process_that_panics() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let options = Options { stderr: true, ..into(Path::new(&directory), "info") };
    let _guard = log::start(&options, SetClock::new("2026-05-03T10:00:00Z")).unwrap();
    assert!(matches!(log::start(&options, SetClock::new("2026-05-03T10:00:00Z")), Err(LogError::Twice)));
    tracing::info!(target: "chart_relay", "before");
    let failed = std::thread::Builder::new()
        .name("worker".into())
        .spawn(|| panic!("{} born {}", PATIENT.family, PATIENT.birth_date))
        .unwrap()
        .join();
    assert!(failed.is_err());
    tracing::info!(target: "chart_relay", "after");
}

#[test]
fn a_panic_is_logged_with_its_place_and_without_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["a_process_that_panics", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let logged = files(directory.path());
    assert_eq!(logged.len(), 1);
    let lines: Vec<serde_json::Value> = logged[0].1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{}", logged[0].1);
    assert_eq!((&lines[0]["message"], &lines[2]["message"]), (&"before".into(), &"after".into()));
    let place = lines[1]["place"].as_str().unwrap();
    assert!(place.contains("log.rs:"), "{place}");
    assert_eq!(lines[1]["thread"], "worker");
    // To a person as well, with the way to the log; and plain lines were asked for.
    assert!(stderr.contains("Chart Relay: a part of the program failed at") && stderr.contains(place), "{stderr}");
    assert!(
        stderr.contains(&*directory.path().to_string_lossy()) && stderr.contains("INFO chart_relay: before"),
        "{stderr}"
    );
    let mut scan = Scan::default();
    scan.bytes("standard error", stderr.as_bytes())
        .bytes("standard output", &output.stdout)
        .directory(directory.path());
    scan.assert_silent(500);
}
