use std::time::Duration;

use engine::{connection::Side, error::Code, snapshot::Snapshot};

use super::stage::{at, away, but, input, stopped, well, zone};
use crate::view::{
    desk::{Role, Settings},
    face::Input,
    notices::{Class, Notices},
};

const MINUTE: u64 = 60;

/// A day at the desk: at each moment (in seconds) a picture comes and stays until the next one. What was told, and when; looked
/// at every ten seconds.
fn told(role: Role, begins: &str, day: &[(u64, Snapshot)], until: u64) -> Vec<(u64, Class, String)> {
    let settings = Settings { role, ..Settings::default() };
    let zone = zone();
    let mut notices = Notices::default();
    let mut told = Vec::new();
    for second in (0..=until).step_by(10) {
        let (_, snapshot) = day.iter().rev().find(|(from, _)| *from <= second).unwrap();
        let elapsed = Duration::from_secs(second);
        let input = Input { now: at(begins) + elapsed, ..input(snapshot, &settings, &zone) };
        for notice in notices.next(&input, elapsed) {
            assert_eq!(notice.silent, notice.class == Class::Recovered);
            told.push((second, notice.class, notice.text));
        }
    }
    told
}

/// 10:00 in New York, and 20:00.
const MORNING: &str = "2026-03-02T15:00:00Z";
const EVENING: &str = "2026-03-03T01:00:00Z";

fn dead(items: u64) -> Snapshot {
    but(|s| s.dead = items)
}

#[test]
fn what_needs_attention_is_told_once_and_together() {
    let day = [(0, well()), (100, dead(1)), (150, dead(2)), (4000, well()), (5000, dead(1))];
    let told = told(Role::FrontDesk, MORNING, &day, 6000);
    let two = "2 items need attention. Open the app to see them.".to_owned();
    let one = "1 item needs attention. Open the app to see it.".to_owned();
    assert_eq!(told, [(220, Class::Attention, two), (5120, Class::Attention, one)]);
}

#[test]
fn what_was_mended_in_time_is_not_told_and_more_of_it_only_after_a_while() {
    assert_eq!(told(Role::FrontDesk, MORNING, &[(0, dead(1)), (110, well())], 900), []);
    let day = [(0, dead(1)), (300, dead(2)), (310, dead(3))];
    let at: Vec<_> = told(Role::FrontDesk, MORNING, &day, 7200).into_iter().map(|(at, ..)| at).collect();
    assert_eq!(at, [120, 120 + 30 * MINUTE]);
}

#[test]
fn a_short_outage_is_not_told_and_a_long_one_with_its_end() {
    let gone = || but(|s| away(s, Side::FileMaker));
    assert_eq!(told(Role::FrontDesk, MORNING, &[(0, gone()), (9 * MINUTE, well())], 3600), []);
    let catching_up = |wanted, edited| but(|s| (s.wanted, s.totals.rows_edited) = (wanted, edited));
    let day =
        [(0, well()), (10, gone()), (1200, catching_up(14, 0)), (1230, catching_up(3, 11)), (1260, catching_up(0, 14))];
    let lost = "Can't reach FileMaker. Nothing is lost; changes wait here.".to_owned();
    let back = "Back online. 14 waiting changes were sent.".to_owned();
    assert_eq!(
        told(Role::FrontDesk, MORNING, &day, 3600),
        [(620, Class::Outage, lost), (1260, Class::Recovered, back)]
    );
}

#[test]
fn an_outage_of_the_night_is_told_in_the_morning() {
    let gone = || but(|s| away(s, Side::Fhir));
    let lost = "Can't reach the chart system. Nothing is lost; changes wait there.".to_owned();
    // It opens at 08:00, twelve hours later.
    let told_at = told(Role::FrontDesk, EVENING, &[(0, gone())], 13 * 3600);
    assert_eq!(told_at, [(12 * 3600, Class::Outage, lost)]);
    assert_eq!(told(Role::FrontDesk, EVENING, &[(0, gone()), (3600, well())], 13 * 3600), []);
}

#[test]
fn a_pc_that_wakes_up_without_a_network_is_no_outage_yet() {
    let (settings, zone, gone) = (Settings::default(), zone(), but(|s| away(s, Side::FileMaker)));
    let mut notices = Notices::default();
    let mut ask = |second| {
        let elapsed = Duration::from_secs(second);
        notices.next(&Input { now: at(MORNING) + elapsed, ..input(&gone, &settings, &zone) }, elapsed).len()
    };
    // It falls asleep after ten seconds, for an hour.
    assert_eq!((ask(0), ask(10)), (0, 0));
    let told: Vec<_> = (3610..=4300).step_by(10).filter(|second| ask(*second) > 0).collect();
    assert_eq!(told, [3610 + 610]);
}

#[test]
fn an_outage_that_comes_back_at_once_is_the_same_one() {
    let gone = || but(|s| away(s, Side::FileMaker));
    let busy = || but(|s| s.wanted = 5);
    let day = [(0, gone()), (1000, busy()), (1060, gone()), (3000, busy()), (3030, well())];
    let classes: Vec<_> =
        told(Role::FrontDesk, MORNING, &day, 3600).into_iter().map(|(at, class, _)| (at, class)).collect();
    assert_eq!(classes, [(610, Class::Outage), (3030, Class::Recovered)]);
}

#[test]
fn silence_of_the_sync_is_an_outage() {
    let (settings, zone, well) = (Settings::default(), zone(), well());
    let mut notices = Notices::default();
    let mut told = Vec::new();
    for second in (0..1200).step_by(10) {
        let age = Duration::from_secs(second);
        let input = Input { snapshot: Some((&well, age)), ..input(&well, &settings, &zone) };
        told.extend(notices.next(&input, age).into_iter().map(|notice| (second, notice.text)));
    }
    assert_eq!(told, [(630, "No news from the sync. Open the app to see since when.".to_owned())]);
}

#[test]
fn a_refused_sign_in_is_told_to_those_who_can_renew_it_and_the_rest_are_told_that_something_is_wrong() {
    let refused = || but(|s| stopped(s, Side::FileMaker, Code::SignInRefused));
    let day = [(0, well()), (60, refused()), (600, well()), (900, refused())];
    let sign_in = |at| (at, Class::Credential, "A sign-in for syncing needs renewing.".to_owned());
    for role in [Role::It, Role::Manager] {
        assert_eq!(told(role, MORNING, &day, 1800), [sign_in(60), sign_in(900)], "{role:?}");
    }
    let at: Vec<_> = told(Role::FrontDesk, MORNING, &day, 1800).into_iter().map(|(at, class, _)| (at, class)).collect();
    assert_eq!(at, [(180, Class::Attention), (1020, Class::Attention)]);
    // What is not a matter of signing in is one for everybody.
    let missing = [(0, but(|s| stopped(s, Side::FileMaker, Code::LayoutMissing)))];
    assert_eq!(told(Role::It, MORNING, &missing, 600).len(), 1);
}

#[test]
fn a_clinician_is_told_nothing_and_nobody_a_start_a_success_or_a_retry() {
    let day = [(0, dead(3)), (600, but(|s| away(s, Side::FileMaker))), (3000, well())];
    assert_eq!(told(Role::Clinician, MORNING, &day, 7200), []);
    let day = [(0, but(|s| s.polls[0].swept = None)), (60, well()), (600, but(|s| s.wanted = 9)), (900, well())];
    for role in Role::ALL {
        assert_eq!(told(role, MORNING, &day, 7200), []);
    }
}
