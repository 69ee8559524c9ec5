use std::time::Duration;

use engine::{
    audit::Found,
    connection::Side,
    key::{FirmId, StationId},
    link::Wrote,
    server_clock::{Server, WrongClock},
};

use super::stage::{about, at, but, context, input, names, zone};
use crate::{
    stations::{Last, Seen},
    view::{
        desk::{Desk, Role, Settings, State, Station},
        history,
        names::Context,
        picture::Picture,
        words,
    },
};

fn seen(name: &str, last: Last) -> Seen {
    Seen {
        station: StationId::new(name).unwrap(),
        id: "0123abcd".to_owned(),
        here: name == "desk-1",
        version: Some("0.1.0".to_owned()),
        last,
        said: Some(at("2026-03-02T15:30:00Z")),
        clock_ahead: None,
    }
}

fn desk(stations: &[Seen], clocks: Vec<WrongClock>) -> Desk {
    let (settings, zone, about, names) = (Settings { role: Role::It, ..Settings::default() }, zone(), about(), names());
    let snapshot = but(|snapshot| snapshot.clocks.clone_from(&clocks));
    let context = Context { stations, ..context(Role::It, &about, &names, &zone) };
    let station = Station::new(&settings, "desk-1".to_owned(), "maria".to_owned());
    Picture::default().desk(&input(&snapshot, &settings, &zone), station, &context, Duration::ZERO).unwrap()
}

#[test]
fn the_overview_says_when_each_station_was_last_seen() {
    let second = Duration::from_secs;
    let all = [
        seen("desk-1", Last::Ago(second(5))),
        seen("desk-2", Last::Ago(second(40))),
        Seen { clock_ahead: Some(-10_799), ..seen("desk-3", Last::NotFor(second(600))) },
        seen("server", Last::Left),
    ];
    let lines = desk(&all, vec![]).overview.stations;
    let told: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.good, line.sentence.as_str())).collect();
    assert_eq!(
        told,
        [
            ("This PC (desk-1)", true, "takes part"),
            ("desk-2", true, "seen 40 s ago"),
            (
                "desk-3",
                false,
                "no sign of life for 10 min, as long as this station looks (by its own clock at 10:30); its clock is 3 h behind"
            ),
            ("server", false, "ended (by its own clock at 10:30)"),
        ]
    );
    assert!(desk(&[], vec![]).overview.stations.is_empty(), "a station that works by itself names none");
}

#[test]
fn a_station_is_forgotten_only_when_it_is_known_to_be_gone() {
    let second = Duration::from_secs;
    let refused = |last, holds| words::not_forgotten(&seen("desk-2", last), holds);
    assert!(refused(Last::Ago(second(40)), 0).unwrap().contains("so it runs"));
    assert!(refused(Last::NotFor(second(40)), 0).unwrap().contains("not known yet"));
    assert!(refused(Last::Unwatched, 0).unwrap().contains("no relay runs here"));
    assert!(refused(Last::Left, 2).unwrap().contains("still holds 2 records"));
    assert_eq!(refused(Last::Left, 0), None);
    assert_eq!(refused(Last::Ago(second(180)), 0), None);
    assert_eq!(refused(Last::NotFor(second(180)), 0), None);
    assert!(words::not_forgotten(&seen("desk-1", Last::Left), 0).unwrap().contains("This is this station"));
}

#[test]
fn a_wrong_clock_of_this_pc_goes_first_and_one_of_a_server_is_a_remark() {
    let here = desk(&[], vec![WrongClock::Here { ahead: -10_800 }]);
    assert_eq!(here.card.state, State::NeedsAttention);
    assert_eq!(here.card.sentence, "The clock of this PC is 3 h behind. Nothing is lost; set it right.");
    assert_eq!((here.attention, here.card.causes.len()), (1, 1));
    let server = Server::Of(FirmId::new("north").unwrap(), Side::FileMaker);
    let there = desk(&[], vec![WrongClock::There { server: server.clone(), ahead: 90 }]);
    assert_eq!((there.card.state, there.attention), (State::UpToDate, 0));
    assert!(there.card.causes[0].sentence.starts_with("The clock of FileMaker is 90 s ahead of this PC's"));
    let either = desk(&[], vec![WrongClock::Either { server, ahead: -7_200 }]);
    assert!(either.card.sentence.starts_with("The clocks of this PC and of FileMaker differ by 2 h."));
    assert_eq!(desk(&[], vec![]).card.causes, vec![]);
}

#[test]
fn the_history_says_whose_it_is_and_who_wrote_a_record_last() {
    let (mut about, names, zone) = (about(), names(), zone());
    let found = Found { entries: Vec::new(), next: None };
    let wrote = Wrote { station: StationId::new("desk-2").unwrap(), at: at("2026-03-02T15:30:00Z") };
    let note = |about: &_, wrote| history::history(&found, wrote, &context(Role::It, about, &names, &zone)).note;
    assert_eq!(
        note(&about, None).unwrap(),
        "What was done at this PC (station desk-1). Each station keeps its own list."
    );
    let of_record = note(&about, Some(&wrote)).unwrap();
    assert!(
        of_record.ends_with("This record was last written by station desk-2, at 10:30 by its clock."),
        "{of_record}"
    );
    about.shared = false;
    assert_eq!(note(&about, None), None);
}
