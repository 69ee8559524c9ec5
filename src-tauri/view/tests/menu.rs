use std::time::Duration;

use engine::{
    connection::Side,
    manual::{Manual, Stage},
    snapshot::{Pause, Phase, Snapshot},
};

use super::stage::{SECOND, at, away, but, input, now, well, zone};
use crate::view::{
    desk::{PauseFor, Role, Settings},
    tray::{Entry, Face, Id, Input, Kind, Tray},
};

fn tray(input: &Input<'_>) -> Tray {
    Face::default().next(input, Duration::ZERO)
}

fn entry(tray: &Tray, id: Id) -> Entry {
    tray.entries().find(|entry| entry.id == id).cloned().unwrap()
}

fn paused(snapshot: &mut Snapshot) {
    snapshot.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: None });
}

fn syncing(snapshot: &mut Snapshot) {
    let stage = Stage::Checking { side: Side::FileMaker };
    snapshot.manual = Some(Manual { began: now(), by: None, stage });
}

/// Pictures of every kind, with everything that a menu could depend on.
fn pictures() -> Vec<Snapshot> {
    let changes: [fn(&mut Snapshot); 9] = [
        |_| {},
        |s| s.dead = 3,
        |s| away(s, Side::Fhir),
        |s| s.counted = Some(60 * SECOND),
        paused,
        |s| s.wanted = 2,
        |s| s.polls[0].swept = None,
        syncing,
        |s| s.phase = Phase::Stopped,
    ];
    changes.into_iter().map(but).collect()
}

#[test]
fn the_menu_has_one_shape_whatever_happens() {
    fn shape(entries: &[Entry]) -> Vec<(Id, &'static str, Vec<Id>)> {
        entries
            .iter()
            .map(|entry| match &entry.kind {
                Kind::Plain => (entry.id, "plain", Vec::new()),
                Kind::Check { .. } => (entry.id, "check", Vec::new()),
                Kind::Submenu(inside) => (entry.id, "submenu", inside.iter().map(|entry| entry.id).collect()),
            })
            .collect()
    }
    let lengths = [PauseFor::QuarterHour, PauseFor::Hour, PauseFor::Closing].map(Id::PauseFor);
    let expected = vec![
        (Id::Status, "plain", Vec::new()),
        (Id::Open, "plain", Vec::new()),
        (Id::SyncNow, "plain", Vec::new()),
        (Id::Attention, "plain", Vec::new()),
        (Id::Pause, "submenu", [&lengths[..], &[Id::Resume]].concat()),
        (Id::HideNames, "check", Vec::new()),
        (Id::Help, "submenu", vec![Id::CopySummary, Id::OpenLogs]),
        (Id::Quit, "plain", Vec::new()),
    ];
    let zone = zone();
    let pictures = pictures();
    let ages = pictures.iter().flat_map(|one| [None, Some((one, Duration::ZERO)), Some((one, 60 * SECOND))]);
    for (place, snapshot) in ages.enumerate() {
        for role in Role::ALL {
            for (trouble, other) in [(None, false), (None, true), (Some("It cannot start."), false)] {
                let settings = Settings { role, ..Settings::default() };
                let (privacy, attached) = (other, other);
                let tray =
                    tray(&Input { snapshot, trouble, settings: &settings, privacy, attached, now: now(), zone: &zone });
                assert_eq!(shape(&tray.menu), expected, "picture {place}, {role:?}");
                assert!(tray.entries().all(|entry| !entry.text.is_empty()));
                assert_eq!(tray.menu[0].text, tray.title);
            }
        }
    }
}

#[test]
fn every_entry_is_known_by_one_id() {
    let well = well();
    let tray = tray(&input(&well, &Settings::default(), &zone()));
    assert_eq!(tray.entries().map(|entry| entry.id).collect::<Vec<_>>(), Id::ALL);
    for id in Id::ALL {
        assert_eq!(Id::parse(id.as_str()), Some(id));
    }
    assert_eq!(Id::parse("review-drafts"), None);
}

#[test]
fn the_first_line_says_the_state_and_is_not_to_be_chosen() {
    for snapshot in pictures() {
        let tray = tray(&input(&snapshot, &Settings::default(), &zone()));
        assert!(!tray.menu[0].enabled);
        assert!(entry(&tray, Id::Open).enabled, "the window opens in every state");
        assert!(
            entry(&tray, Id::CopySummary).enabled
                && entry(&tray, Id::OpenLogs).enabled
                && entry(&tray, Id::Quit).enabled
        );
    }
}

#[test]
fn sync_now_is_there_unless_it_runs_or_nobody_would_hear_it() {
    let settings = Settings::default();
    let zone = zone();
    let of = |snapshot: &Snapshot, age: Duration| {
        let input = Input { snapshot: Some((snapshot, age)), ..input(snapshot, &settings, &zone) };
        let entry = entry(&tray(&input), Id::SyncNow);
        (entry.text, entry.enabled)
    };
    let says = |text: &str, enabled| (text.to_owned(), enabled);
    assert_eq!(of(&well(), Duration::ZERO), says("Sync now", true));
    assert_eq!(of(&but(paused), Duration::ZERO), says("Sync now (once; it stays paused)", true));
    assert_eq!(of(&but(|s| away(s, Side::FileMaker)), Duration::ZERO), says("Sync now", true));
    assert_eq!(of(&but(syncing), Duration::ZERO), says("Sync now: Checking FileMaker...", false));
    let both = but(|s| {
        paused(s);
        syncing(s);
    });
    assert_eq!(of(&both, Duration::ZERO), says("Sync now: Checking FileMaker...", false));
    let deaf = says("Sync now (not possible: the sync does not answer)", false);
    assert_eq!(of(&well(), 11 * SECOND), deaf);
    assert_eq!(of(&but(|s| s.phase = Phase::Stopped), Duration::ZERO), deaf);
}

#[test]
fn the_pauses_are_those_of_the_role_and_of_the_hour() {
    let zone = zone();
    let enabled = |role, snapshot: &Snapshot, now: &str| {
        let settings = Settings { role, ..Settings::default() };
        let tray = tray(&Input { now: at(now), ..input(snapshot, &settings, &zone) });
        let Kind::Submenu(inside) = entry(&tray, Id::Pause).kind else { panic!("Pause is a submenu") };
        inside.iter().filter(|entry| entry.enabled).map(|entry| entry.text.clone()).collect::<Vec<_>>()
    };
    let (day, night) = ("2026-03-02T15:42:00Z", "2026-03-03T01:00:00Z");
    let closing = "Until closing time (18:00)";
    let paused = but(paused);
    for (role, snapshot, when, expected) in [
        (Role::FrontDesk, &well(), day, vec!["15 minutes", "1 hour"]),
        (Role::Manager, &well(), day, vec!["15 minutes", "1 hour", closing]),
        (Role::Manager, &well(), night, vec!["15 minutes", "1 hour"]),
        (Role::It, &well(), day, vec!["15 minutes", "1 hour", closing]),
        (Role::Clinician, &well(), day, vec![]),
        (Role::Clinician, &paused, day, vec![]),
        (Role::FrontDesk, &paused, day, vec!["15 minutes", "1 hour", "Resume"]),
        (Role::FrontDesk, &but(|s| s.phase = Phase::Stopped), day, vec![]),
    ] {
        assert_eq!(enabled(role, snapshot, when), expected, "{role:?} at {when}");
    }
}

#[test]
fn attention_is_counted_and_leads_on_while_there_is_some() {
    let (settings, zone) = (Settings::default(), zone());
    let of = |snapshot: &Snapshot, trouble| {
        let entry = entry(&tray(&Input { trouble, ..input(snapshot, &settings, &zone) }), Id::Attention);
        (entry.text, entry.enabled)
    };
    assert_eq!(of(&well(), None), ("Needs attention (0)".to_owned(), false));
    assert_eq!(of(&but(|s| s.dead = 2), None), ("Needs attention (2)".to_owned(), true));
    assert_eq!(of(&well(), Some("It cannot start.")), ("Needs attention (1)".to_owned(), true));
    assert_eq!(of(&but(|s| s.phase = Phase::Stopped), None), ("Needs attention (1)".to_owned(), true));
}

#[test]
fn names_are_hidden_or_not() {
    let (settings, zone, well) = (Settings::default(), zone(), well());
    for privacy in [true, false] {
        let tray = tray(&Input { privacy, ..input(&well, &settings, &zone) });
        assert_eq!(entry(&tray, Id::HideNames).kind, Kind::Check { checked: privacy });
    }
}

#[test]
fn quitting_says_what_stops_and_what_waits() {
    let (settings, zone) = (Settings::default(), zone());
    let of = |snapshot: &Snapshot, attached, age| {
        let input = Input { attached, snapshot: Some((snapshot, age)), ..input(snapshot, &settings, &zone) };
        let tray = tray(&input);
        (entry(&tray, Id::Quit).text, tray.quit)
    };
    let busy = but(|s| s.wanted = 3);
    let (now, late) = (Duration::ZERO, 60 * SECOND);
    let stops = "Quit and stop syncing";
    for (snapshot, attached, age, text, said) in [
        (
            &busy,
            false,
            now,
            "Quit and stop syncing (3 changes wait)",
            "Syncing stops until you start the app again. 3 changes wait.",
        ),
        (
            &but(|s| s.wanted = 1),
            false,
            now,
            "Quit and stop syncing (1 change waits)",
            "Syncing stops until you start the app again. 1 change waits.",
        ),
        (&well(), false, now, stops, "Syncing stops until you start the app again. Nothing waits."),
        (&busy, true, now, "Quit (the sync goes on)", "The sync goes on without this icon."),
        (
            &but(|s| s.phase = Phase::Stopped),
            false,
            now,
            "Quit",
            "Syncing does not run. It goes on when the app is started again.",
        ),
        (
            &busy,
            true,
            late,
            "Quit (the sync goes on)",
            "This icon goes. It does not start or stop the sync, which does not answer just now.",
        ),
    ] {
        assert_eq!(of(snapshot, attached, age), (text.to_owned(), said.to_owned()));
    }
}
