use std::time::Duration;

use engine::{
    connection::{Health, Side},
    error::Code,
    journal::{Journal, Since},
    manual::{Finished, Manual, Obstacle, Stage},
    snapshot::{Event, Pause, Phase, Snapshot, State as Lived, What},
};

use super::stage::{SECOND, about, at, away, but, context, input, key, names, now, stopped, well, zone};
use crate::view::{
    desk::{Desk, Go, Live, Role, Settings, State, Station},
    face::Input,
    picture::{Picture, day, summary},
};

fn desk(role: Role, snapshot: &Snapshot, age: Duration) -> Desk {
    let (about, names, zone) = (about(), names(), zone());
    let settings = Settings { role, ..Settings::default() };
    let input = Input { snapshot: Some((snapshot, age)), ..input(snapshot, &settings, &zone) };
    let station = Station::new(&settings, "desk-1".to_owned(), "maria".to_owned());
    Picture::default().desk(&input, station, &context(role, &about, &names, &zone), Duration::ZERO).unwrap()
}

#[test]
fn the_card_lists_every_cause_the_worst_first_each_with_its_way_on() {
    let bad = but(|s| {
        s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: Some("maria".to_owned()) });
        away(s, Side::Fhir);
        stopped(s, Side::FileMaker, Code::LayoutMissing);
        s.leases_overdue = 1;
        s.dead = 2;
    });
    let desk = desk(Role::It, &bad, Duration::ZERO);
    assert_eq!((desk.card.state, desk.card.sentence.as_str()), (State::NeedsAttention, "4 items need attention"));
    let causes: Vec<_> =
        desk.card.causes.iter().map(|cause| (cause.state, cause.sentence.as_str(), cause.go)).collect();
    assert_eq!(
        causes,
        [
            (State::NeedsAttention, "2 items need attention", Some(Go::QueueAttention)),
            (
                State::NeedsAttention,
                "1 record is held by a station that gives no sign of life. Nothing is lost.",
                Some(Go::LocksOverdue)
            ),
            (
                State::NeedsAttention,
                "FileMaker: A FileMaker layout that we use is missing. Only IT can fix this; changes wait here.",
                Some(Go::Summary)
            ),
            (State::CannotReach, "Can't reach the chart system since 10:14. Changes are kept.", Some(Go::QueueWaiting)),
            (State::Paused, "Paused until 14:30 (maria)", Some(Go::Resume)),
        ]
    );
    let details: Vec<_> = desk.card.causes[2].details.iter().map(|detail| detail.value.as_str()).collect();
    assert_eq!(details[..3], ["layout-missing", "API_Patient", "FileMaker 105"]);
    let front = super::picture::desk(Role::FrontDesk, &bad, Duration::ZERO);
    assert!(front.card.causes.iter().all(|cause| cause.details.is_empty()), "details are for IT");
    let looks = super::picture::desk(Role::Clinician, &bad, Duration::ZERO);
    assert_eq!(looks.card.causes.last().unwrap().go, None, "whoever may not resume is offered no button");
}

#[test]
fn when_all_is_well_there_is_no_cause_and_the_proof_has_its_time() {
    let desk = desk(Role::FrontDesk, &well(), Duration::ZERO);
    assert_eq!((desk.card.state, desk.card.at.as_str()), (State::UpToDate, "2026-03-02T15:42:00.000Z"));
    assert_eq!(desk.card.causes, []);
    assert_eq!((desk.live, desk.attention, desk.waiting), (Live::Live, 0, 0));
    let lines: Vec<_> =
        desk.overview.connections.iter().map(|line| (line.name.as_str(), line.good, line.sentence.as_str())).collect();
    assert_eq!(lines, [("Chart system", true, "answers"), ("FileMaker", true, "answers")]);
}

#[test]
fn the_last_truth_stays_with_its_time_when_the_sync_falls_silent() {
    let busy = but(|s| {
        s.wanted = 3;
        s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: None });
    });
    let silent = desk(Role::FrontDesk, &busy, 11 * SECOND);
    assert_eq!((silent.card.state, silent.waiting), (State::NoNews, 3));
    let since = "2026-03-02T15:42:00.000Z".to_owned();
    assert_eq!(silent.live, Live::Silent { since, sentence: "Not live: the sync does not answer.".to_owned() });
    assert!(!silent.sync.can);
    let resume = silent.card.causes.iter().find(|cause| cause.state == State::Paused).unwrap();
    assert_eq!(resume.go, None, "nothing can be asked of it");
    let ended = desk(Role::FrontDesk, &but(|s| s.phase = Phase::Stopped), Duration::ZERO);
    assert_eq!((ended.card.state, ended.card.causes.len(), ended.attention), (State::NeedsAttention, 1, 1));
}

#[test]
fn what_is_not_heard_from_yet_is_named() {
    let starting = desk(Role::FrontDesk, &but(|s| s.connections[1].health = Health::Unproven), Duration::ZERO);
    let causes: Vec<_> = starting.card.causes.iter().map(|cause| (cause.state, cause.sentence.as_str())).collect();
    assert_eq!(causes, [(State::Starting, "FileMaker has not answered since the start. It is being asked.")]);
}

#[test]
fn sync_now_says_what_it_does_and_how_it_ended() {
    let manual = |stage| but(|s| s.manual = Some(Manual { began: now(), by: None, stage }));
    let running = desk(Role::FrontDesk, &manual(Stage::Checking { side: Side::Fhir }), Duration::ZERO);
    assert_eq!((running.sync.can, running.sync.running.as_deref()), (false, Some("Checking the chart system...")));
    let firm = key("north/link/Patient/p1").firm;
    let finished = |sent, failed, waiting, complete, code: Option<Code>| {
        let left = code.filter(|code| *code == Code::Throttled).map(|_| 22 * SECOND);
        let obstacles =
            code.map(|code| Obstacle { firm: firm.clone(), side: Side::Fhir, code, left }).into_iter().collect();
        manual(Stage::Finished(Finished { at: now(), sent, failed, waiting, complete, obstacles, ehrs: vec![] }))
    };
    for (ended, said) in [
        (finished(3, 0, 0, true, None), "Manual sync 10:42: 3 sent, 0 failed."),
        (finished(0, 0, 0, true, None), "Manual sync 10:42: 0 sent, 0 failed."),
        (finished(1, 2, 4, true, None), "Manual sync 10:42: 1 sent, 2 failed, 4 waiting."),
        (
            finished(0, 0, 0, true, Some(Code::Throttled)),
            "Manual sync 10:42: 0 sent, 0 failed. The chart system asks us to wait 22 s.",
        ),
        (
            finished(0, 0, 2, true, Some(Code::Unreachable)),
            "Manual sync 10:42: 0 sent, 0 failed, 2 waiting. The chart system could not be reached; nothing is lost.",
        ),
        (
            finished(5, 0, 9, false, None),
            "Manual sync 10:42: 5 sent, 0 failed, 9 waiting. It did not come to its end; the rest goes on by itself.",
        ),
    ] {
        let desk = desk(Role::FrontDesk, &ended, Duration::ZERO);
        assert_eq!((desk.sync.can, desk.sync.running, desk.sync.last.as_deref()), (true, None, Some(said)));
    }
}

#[test]
fn the_revision_rises_when_a_list_may_have_changed_and_rests_otherwise() {
    let (about, names, zone, settings) = (about(), names(), zone(), Settings::default());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let mut picture = Picture::default();
    let mut revision = |snapshot: &Snapshot| {
        let station = Station::new(&settings, "desk-1".to_owned(), "maria".to_owned());
        picture.desk(&input(snapshot, &settings, &zone), station, &context, Duration::ZERO).unwrap().revision
    };
    assert_eq!(revision(&well()), 1);
    let next = but(|s| {
        s.revision += 1;
        s.at += SECOND;
        s.connections[0].silent_for = Some(2 * SECOND);
        s.received_empty = Some(Duration::ZERO);
    });
    assert_eq!(revision(&next), 1, "a second later, nothing happened");
    assert_eq!(revision(&but(|s| s.wanted = 1)), 2);
    assert_eq!(revision(&but(|s| s.running = vec![key("north/link/Patient/p1")])), 3);
    assert_eq!(revision(&but(|s| s.dead = 1)), 4);
}

#[test]
fn today_begins_at_midnight_by_the_clock_on_the_wall() {
    let mut journal = Journal::default();
    let note = |journal: &mut Journal, text, sent| {
        journal.note(at(text), Lived::UpToDate, &Since { passed: SECOND, sent, ..Since::default() });
    };
    // 23:50 and 00:05 in New York.
    note(&mut journal, "2026-03-02T04:50:00Z", 5);
    note(&mut journal, "2026-03-02T05:05:00Z", 2);
    note(&mut journal, "2026-03-02T15:40:00Z", 1);
    let sent = desk(Role::FrontDesk, &but(|s| s.journal = journal.clone().into()), Duration::ZERO);
    assert_eq!(sent.overview.sent_today, 3);
    let day = day(&journal, now(), &zone());
    assert_eq!((day.bins.len(), day.from.as_str()), (96, "2026-03-01T15:45:00.000Z"));
    assert_eq!(day.bins.last().unwrap().from, "2026-03-02T15:30:00.000Z");
    let lived: Vec<_> =
        day.bins.iter().filter(|bin| bin.state.is_some()).map(|bin| (bin.from.as_str(), bin.sent)).collect();
    assert_eq!(
        lived,
        [("2026-03-02T04:45:00.000Z", 5), ("2026-03-02T05:00:00.000Z", 2), ("2026-03-02T15:30:00.000Z", 1)]
    );
    assert_eq!(day.last_sent, None, "something was sent today");
    let tomorrow = super::picture::day(&journal, at("2026-03-03T15:42:00Z"), &zone());
    assert_eq!(tomorrow.last_sent.as_deref(), Some("2026-03-02T15:40:00.000Z"));
}

#[test]
fn what_happened_last_is_told_with_its_direction() {
    let event = |what| Event { at: now(), key: key("north/link/Observation/m1"), what };
    let snapshot = but(|s| {
        s.recent = [What::Created { fields: 14 }, What::Edited { fields: 1 }, What::Waits { code: Code::RecordOpen }]
            .map(event)
            .into();
    });
    let lines: Vec<_> = desk(Role::FrontDesk, &snapshot, Duration::ZERO).overview.recent;
    let said: Vec<_> = lines.iter().map(|line| line.sentence.as_str()).collect();
    let waits = "Waits: Someone has this record open in FileMaker. We keep trying by ourselves.";
    assert_eq!(said, ["Sent to FileMaker: new record with 14 fields", "Sent to FileMaker: 1 field", waits]);
    assert_eq!(lines[0].record.label, "Patient 4F2K7");
}

#[test]
fn the_summary_for_it_names_no_patient_record_person_or_clinic() {
    let snapshot = but(|s| {
        s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: Some("maria".to_owned()) });
        stopped(s, Side::FileMaker, Code::LayoutMissing);
        s.running = vec![key("north/link/Patient/p1")];
        s.recent = [Event { at: now(), key: key("north/link/Patient/p1"), what: What::Created { fields: 1 } }].into();
        (s.dead, s.wanted) = (2, 3);
    });
    let (settings, zone) = (Settings::default(), zone());
    let text = summary(&input(&snapshot, &settings, &zone), "1.2.3");
    for told in [
        "Chart Relay 1.2.3",
        "NeedsAttention",
        "layout-missing at API_Patient, FileMaker 105",
        "Needs attention: 2",
        "Waiting: 3",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    for secret in ["north", "North", "p1", "maria", "4F2K7"] {
        assert!(!text.contains(secret), "{secret} stands in\n{text}");
    }
}
