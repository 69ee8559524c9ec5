use std::time::Duration;

use engine::{
    connection::{Health, Side},
    error::Code,
    snapshot::{Pause, Phase, Snapshot},
};

use super::stage::{SECOND, at, away, but, input, now, stopped, well, zone};
use crate::view::{
    desk::{Settings, State},
    face::{Face, Input, SILENCE},
};

fn storage(snapshot: &mut Snapshot, code: Code) {
    let since = at("2026-03-02T15:14:00Z");
    snapshot.storage = vec![Health::Away { since, code, vendor: None, failed_probes: 0 }];
}

fn shown(input: &Input<'_>) -> (State, String) {
    let look = Face::default().look(input, Duration::ZERO);
    (look.state, look.sentence)
}

type Trouble = (State, &'static str, fn(&mut Snapshot));

/// Worst first.
const TROUBLES: [Trouble; 17] = [
    (State::NeedsAttention, "Syncing has stopped. The disk is full.", |s| s.fatal = Some(Code::DatabaseFull)),
    (State::NeedsAttention, "Syncing has stopped. Start Chart Relay again", |s| s.phase = Phase::Stopped),
    (State::NeedsAttention, "1 item needs attention", |s| s.dead += 1),
    (State::NeedsAttention, "1 item needs attention", |s| s.leases_overdue += 1),
    (State::NeedsAttention, "1 item needs attention", |s| s.leases_endless += 1),
    (State::NeedsAttention, "1 item needs attention", |s| stopped(s, Side::FileMaker, Code::SignInRefused)),
    (State::NeedsAttention, "1 item needs attention", |s| {
        let (since, subject) = (s.at, Some("sqs:ReceiveMessage on chart-relay".to_owned()));
        s.storage = vec![Health::Stopped { since, code: Code::AccessDenied, subject, vendor: None }];
    }),
    (State::CannotReach, "Can't reach FileMaker since 10:14. Changes are kept.", |s| away(s, Side::FileMaker)),
    (State::CannotReach, "Can't reach the chart system since 10:14. Changes are kept.", |s| away(s, Side::Fhir)),
    (State::CannotReach, "Can't reach the shared queue and ledger since 10:14.", |s| storage(s, Code::Unreachable)),
    (State::CannotReach, "AWS has asked us to slow down since 10:14.", |s| storage(s, Code::Throttled)),
    (State::NoNews, "No news from the sync for 4 min", |s| s.polls[0].polled = Some(Duration::from_secs(240))),
    (State::Paused, "Paused until 14:30 (maria)", |s| {
        s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: Some("maria".to_owned()) });
    }),
    (State::Working, "Syncing 3 changes", |s| s.wanted = 3),
    (State::Working, "Finishing what runs", |s| s.phase = Phase::Draining),
    (State::Starting, "Starting...", |s| s.connections[0].health = Health::Unproven),
    (State::Starting, "Starting...", |s| s.polls[0].swept = None),
];

#[test]
fn each_state_has_its_sentence_and_up_to_date_its_proof() {
    let (settings, zone) = (Settings::default(), zone());
    for (state, sentence, trouble) in TROUBLES {
        let snapshot = but(trouble);
        let (shown, said) = shown(&input(&snapshot, &settings, &zone));
        assert_eq!(shown, state, "{said}");
        assert!(said.starts_with(sentence), "{said} does not begin with {sentence}");
    }
    let well = well();
    let look = Face::default().look(&input(&well, &settings, &zone), Duration::ZERO);
    assert_eq!((look.state, look.at), (State::UpToDate, now()));
    assert_eq!(look.sentence, "Up to date, checked at 10:42");
}

/// Any trouble beats all that are less bad, and every one of them beats "up to date".
#[test]
fn the_worst_goes_first_whatever_comes_together() {
    let (settings, zone) = (Settings::default(), zone());
    for (place, (worse, sentence, trouble)) in TROUBLES.iter().enumerate() {
        for (milder, other_sentence, other) in TROUBLES.iter().skip(place + 1) {
            // While it is paused nothing is asked, so silence is no news.
            if (*worse, *milder) == (State::NoNews, State::Paused) {
                continue;
            }
            let snapshot = but(|s| {
                other(s);
                trouble(s);
            });
            let (shown, said) = shown(&input(&snapshot, &settings, &zone));
            assert_eq!(shown, *worse, "{sentence} with {other_sentence}: {said}");
        }
    }
}

#[test]
fn silence_beats_whatever_was_said_last_but_not_that_it_ended() {
    let (settings, zone) = (Settings::default(), zone());
    for (state, sentence, trouble) in TROUBLES {
        let snapshot = but(trouble);
        let ended = snapshot.fatal.is_some() || snapshot.phase == Phase::Stopped;
        let just = Input { snapshot: Some((&snapshot, SILENCE)), ..input(&snapshot, &settings, &zone) };
        assert_eq!(shown(&just).0, state, "{sentence}");
        let silent = Input { snapshot: Some((&snapshot, SILENCE + SECOND)), ..just };
        let expected = if ended { State::NeedsAttention } else { State::NoNews };
        assert_eq!(shown(&silent).0, expected, "{sentence}");
        if !ended {
            assert_eq!(shown(&silent).1, "No news from the sync for 11 s");
        }
    }
}

#[test]
fn nothing_heard_yet_is_starting_and_then_no_news() {
    let (settings, zone, nothing) = (Settings::default(), zone(), well());
    let none = Input { snapshot: None, ..input(&nothing, &settings, &zone) };
    let mut face = Face::default();
    assert_eq!(face.look(&none, 5 * SECOND).state, State::Starting);
    assert_eq!(face.look(&none, 15 * SECOND).state, State::Starting);
    assert_eq!(face.look(&none, 16 * SECOND).state, State::NoNews);
}

#[test]
fn a_relay_that_cannot_start_says_why_whatever_it_said_before() {
    let (settings, zone, well) = (Settings::default(), zone(), well());
    let why = "The keychain is locked. Unlock it and start again.";
    for snapshot in [None, Some((&well, Duration::ZERO)), Some((&well, 60 * SECOND))] {
        let input = Input { snapshot, trouble: Some(why), ..input(&well, &settings, &zone) };
        assert_eq!(shown(&input), (State::NeedsAttention, why.to_owned()));
        assert_eq!(input.attention(), 1);
        assert!(input.live().is_none());
    }
}

/// What was shown at each half second, one letter each.
fn film(pictures: &[Snapshot]) -> String {
    let (settings, zone) = (Settings::default(), zone());
    let mut face = Face::default();
    let mut film = String::new();
    for (frame, snapshot) in pictures.iter().enumerate() {
        let look = face.look(&input(snapshot, &settings, &zone), SECOND / 2 * frame as u32);
        film.push(match look.state {
            State::NeedsAttention => 'A',
            State::CannotReach => 'C',
            State::NoNews => 'N',
            State::Paused => 'P',
            State::Working => 'W',
            State::Starting => 'S',
            State::UpToDate => 'u',
        });
        // Whatever is shown late still has its own sentence, not another state's.
        assert_eq!(look.sentence.starts_with("Up to date"), look.state == State::UpToDate, "{look:?}");
        assert_eq!(look.sentence.starts_with("Syncing"), look.state == State::Working, "{look:?}");
    }
    film
}

#[test]
fn work_shows_only_when_it_lasts_and_then_long_enough_to_be_read() {
    let of = |truth: &str| {
        let pictures: Vec<_> = truth
            .chars()
            .map(|letter| {
                but(|s| match letter {
                    'A' => s.dead = 1,
                    'C' => away(s, Side::FileMaker),
                    'N' => s.counted = Some(60 * SECOND),
                    'P' => s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: None }),
                    'W' => s.wanted = 1,
                    'S' => s.polls[0].swept = None,
                    _ => {}
                })
            })
            .collect();
        film(&pictures)
    };
    // A frame is half a second: work shows with its fourth, and stays for five.
    assert_eq!(of("uWWuu"), "uuuuu", "a second of work is not shown");
    assert_eq!(of("uWWWWWWWW"), "uuuuWWWWW");
    assert_eq!(of("uWWWWuuuuu"), "uuuuWWWWuu", "two seconds, then the truth");
    assert_eq!(of("uWWuWWuWWu"), "uuuuuuuuuu", "each time anew");
    assert_eq!(of("SWWWWW"), "SSSSWW");
    // Nothing worse waits.
    for worse in ["A", "C", "N", "P"] {
        assert_eq!(of(&format!("uWWWW{worse}{worse}")), format!("uuuuW{worse}{worse}"));
        assert_eq!(of(&format!("u{worse}")), format!("u{worse}"));
        // And nothing that is over stays.
        assert_eq!(of(&format!("u{worse}WWu")), format!("u{worse}WWW"), "what was bad is not shown any longer");
        assert_eq!(of(&format!("u{worse}u")), format!("u{worse}u"));
    }
}
