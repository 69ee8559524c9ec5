use std::time::Duration;

use engine::{
    action::AsideReason,
    audit::{Act, AuditId, Begun, Ended, Entry, Found, Outcome},
    error::Code,
    key::{BootId, RecordKey, StationId},
    ledger::{Owner, Record},
    snapshot::{Holding, Pause},
};

use super::stage::{about, at, but, context, dead, held, key, names, now, record, wanted, well, zone};
use crate::{
    control::Letter,
    view::{
        audit,
        desk::Role,
        history::{self, Direction, HistoryOutcome, HistoryQuery},
        locks::{self, LockGroup},
        queue::{self, QueueRow, QueueState, queue},
    },
};

const P1: &str = "north/link/Patient/p1";
const M1: &str = "north/link/Observation/m1";
const M2: &str = "north/link/Observation/m2";
const N9: &str = "north/link/DocumentReference/n9";

fn letter() -> Letter {
    Letter {
        id: "letter-1".to_owned(),
        code: Code::Malformed,
        reason: "the message holds no hint".to_owned(),
        first_seen: at("2026-03-02T15:00:00Z"),
        kept: false,
    }
}

fn tried(failed: u32, record: Record) -> Record {
    Record { attempts: failed, ..record }
}

fn listed() -> queue::Listed {
    queue::Listed {
        wanted: vec![
            wanted(P1, "2026-03-02T15:41:00Z", None),
            tried(2, wanted(M1, "2026-03-02T15:40:00Z", Some(Code::ServerError))),
            wanted(N9, "2026-03-02T15:30:00Z", Some(Code::RecordOpen)),
        ],
        dead: vec![
            dead(M2, "2026-03-02T15:35:00Z", Code::ValueRefused, false),
            dead("north/link/Patient/p2", "2026-03-02T10:00:00Z", Code::DuplicateRows, true),
        ],
        letters: vec![letter()],
        more: 7,
    }
}

#[test]
fn what_needs_attention_stands_first_then_age_and_each_state_has_its_word() {
    let (about, names, zone) = (about(), names(), zone());
    let queue = queue(&listed(), Some(&well()), &context(Role::FrontDesk, &about, &names, &zone));
    let lines: Vec<_> =
        queue.rows.iter().map(|row| (row.word.as_str(), row.what.as_str(), row.record.label.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("Needs attention", "Unreadable message", "Unreadable message"),
            ("Needs attention", "Measurement to FileMaker", "Measurement 9C1F2"),
            ("Waiting for record (open in FileMaker)", "Progress note to FileMaker", "Progress note"),
            ("Trying again (3 of 8)", "Measurement to FileMaker", "Patient 4F2K7"),
            ("Waiting", "Patient to FileMaker", "Patient 4F2K7"),
            ("Set aside", "Patient to FileMaker", "Patient"),
        ]
    );
    let counts: Vec<_> = queue.counts.iter().map(|count| (count.word.as_str(), count.count)).collect();
    assert_eq!(
        counts,
        [
            ("Needs attention", 2),
            ("Waiting for record", 1),
            ("Trying again", 1),
            ("In progress", 0),
            ("Waiting", 1),
            ("Set aside", 1)
        ]
    );
    assert_eq!(queue.more, 7);
    assert_eq!(
        queue.rows[1].reason.as_deref(),
        Some("FileMaker did not accept a value. Please correct it in the portal.")
    );
    assert_eq!(queue.rows[1].code.as_deref(), Some("value-refused"), "rows of one reason are grouped by it");
    assert_eq!(queue.rows[1].since, "2026-03-02T15:35:00.000Z");
    assert_eq!(queue.rows[1].record.firm, "Synthetic North");
}

#[test]
fn each_state_allows_what_helps_and_each_role_what_it_may() {
    let (about, names, zone) = (about(), names(), zone());
    let can = |row: &QueueRow| {
        let mut can = String::new();
        for (allowed, letter) in
            [(row.can_retry, 'r'), (row.can_set_aside, 'a'), (row.can_put_back, 'b'), (row.can_drop, 'd')]
        {
            if allowed {
                can.push(letter);
            }
        }
        can
    };
    let of = |role, live: bool| {
        let well = well();
        let queue = queue(&listed(), live.then_some(&well), &context(role, &about, &names, &zone));
        queue.rows.iter().map(can).collect::<Vec<_>>()
    };
    // Letter, dead, open in FileMaker, trying again, waiting, set aside.
    assert_eq!(of(Role::FrontDesk, true), ["", "ra", "r", "r", "r", "b"]);
    assert_eq!(of(Role::It, true), ["d", "ra", "r", "r", "r", "b"]);
    assert_eq!(of(Role::Clinician, true), [""; 6]);
    assert_eq!(of(Role::It, false), [""; 6], "nothing can be asked of a sync that does not answer");
}

#[test]
fn details_are_for_it_and_a_next_try_has_its_time() {
    let (about, names, zone) = (about(), names(), zone());
    let mut later = wanted(P1, "2026-03-02T15:41:00Z", Some(Code::Throttled));
    later.wanted.as_mut().unwrap().not_before = at("2026-03-02T15:47:00Z");
    let listed = queue::Listed { wanted: vec![later], ..queue::Listed::default() };
    let of = |role| queue(&listed, Some(&well()), &context(role, &about, &names, &zone));
    let row = &of(Role::It).rows[0];
    assert_eq!(row.next.as_deref(), Some("2026-03-02T15:47:00.000Z"));
    assert!(row.details.iter().any(|detail| (detail.name.as_str(), detail.value.as_str()) == ("Code", "throttled")));
    assert!(of(Role::FrontDesk).rows[0].details.is_empty());
    assert_eq!(of(Role::It).banner.as_deref(), Some("The chart system asked us to slow down. Continues at 10:47."));
}

#[test]
fn what_is_being_worked_on_is_in_progress_and_what_holds_everything_up_is_said() {
    let (about, names, zone) = (about(), names(), zone());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let running = but(|s| {
        s.running = vec![key(M1)];
        s.pause = Some(Pause { until: at("2026-03-02T19:30:00Z"), by: Some("maria".to_owned()) });
    });
    let queue = queue(&listed(), Some(&running), &context);
    let row = queue.rows.iter().find(|row| row.record.key == M1).unwrap();
    assert_eq!((row.state, row.can_retry, row.reason.as_deref()), (QueueState::InProgress, false, None));
    assert_eq!(queue.banner.as_deref(), Some("Paused until 14:30 (maria). What waits is kept."));
}

#[test]
fn a_record_that_came_to_its_end_between_two_questions_is_listed_once() {
    let (about, names, zone) = (about(), names(), zone());
    let listed = queue::Listed {
        wanted: vec![wanted(P1, "2026-03-02T15:41:00Z", None)],
        dead: vec![dead(P1, "2026-03-02T15:41:30Z", Code::ValueRefused, false)],
        ..queue::Listed::default()
    };
    let queue = queue(&listed, Some(&well()), &context(Role::FrontDesk, &about, &names, &zone));
    assert_eq!(queue.rows.iter().map(|row| row.state).collect::<Vec<_>>(), [QueueState::NeedsAttention]);
}

#[test]
fn a_lock_says_who_holds_it_and_what_happens_next() {
    let (about, names, zone) = (about(), names(), zone());
    let term = Duration::from_secs(30);
    let listed = locks::Listed {
        held: vec![
            held(P1, "desk-1", term),
            held(M2, "desk-2", term),
            held("north/link/Patient/p3", "desk-3", Duration::from_secs(48 * 3600)),
            held("north/cursor/Patient/changes", "desk-1", term),
        ],
        waiting: vec![
            wanted(N9, "2026-03-02T15:30:00Z", Some(Code::RecordOpen)),
            wanted(M1, "2026-03-02T15:30:00Z", None),
        ],
        more: 0,
    };
    let snapshot = but(|s| {
        s.overdue = vec![key(M2)];
        s.holdings = vec![Holding { key: key(P1), since: at("2026-03-02T15:41:50Z") }];
    });
    let locks = locks::locks(&listed, Some(&snapshot), &context(Role::It, &about, &names, &zone));
    let lines: Vec<_> = locks
        .rows
        .iter()
        .map(|lock| (lock.group, lock.holder.as_str(), lock.what.as_str(), lock.sentence.as_str()))
        .collect();
    let active = "Is being worked on. Without a sign of life it is free after 30 s.";
    assert_eq!(
        lines,
        [
            (
                LockGroup::Overdue,
                "Station desk-2",
                "Measurement to FileMaker",
                "Nobody has renewed it for its whole term. It is taken over by itself; if it stays here, tell IT."
            ),
            (
                LockGroup::Overdue,
                "Station desk-3",
                "Patient to FileMaker",
                "It has no end, which is a fault. Nothing is lost; only IT can free it."
            ),
            (LockGroup::Active, "This PC", "Reads the chart system (Patient)", active),
            (LockGroup::Active, "This PC", "Patient to FileMaker", active),
            (
                LockGroup::InFileMaker,
                "Someone in FileMaker",
                "Progress note to FileMaker",
                "Someone has this record open in FileMaker. We try again now."
            ),
        ]
    );
    assert_eq!(locks.rows[3].since.as_deref(), Some("2026-03-02T15:41:50.000Z"));
    assert_eq!((locks.rows[1].term_seconds, locks.rows[3].term_seconds), (None, Some(30)));
}

fn entry(
    id: u64,
    act: Act,
    of: Option<&str>,
    fields: &[&str],
    person: Option<&str>,
    outcome: Option<Outcome>,
) -> Entry {
    let by = Owner { station: StationId::new("desk-1").unwrap(), boot: BootId::new("boot-1").unwrap() };
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    let (key, person) = (of.map(key), person.map(ToOwned::to_owned));
    let begun = Begun { at: now(), by, person, act, key, epoch: 3, expected: None, fields };
    Entry { id: AuditId(id), begun, outcome, resolved: Some(now()) }
}

fn found() -> Found {
    let done = || Some(Outcome::Done { version: Some("4".to_owned()) });
    let aside = AsideReason::EnteredByHand.as_str();
    Found {
        entries: vec![
            entry(9, Act::EditRow, Some(P1), &["Birthday"], None, done()),
            entry(
                8,
                Act::CreateRow,
                Some(M1),
                &["Value", "Unit"],
                None,
                Some(Outcome::Unknown { code: Code::OutcomeUnknown }),
            ),
            entry(
                7,
                Act::EditRow,
                Some(P1),
                &["Phone", "City"],
                None,
                Some(Outcome::Refused { code: Code::ValueRefused }),
            ),
            entry(6, Act::Asked, Some(M2), &["set-aside", aside], Some("maria"), done()),
            entry(5, Act::Asked, None, &["sync-now"], Some("maria"), None),
            entry(4, Act::Revealed, Some(P1), &[], Some("maria"), done()),
            entry(3, Act::EditRow, Some(P1), &["Phone"], None, Some(Outcome::Interrupted)),
        ],
        next: Some(AuditId(3)),
    }
}

#[test]
fn history_says_the_direction_and_never_that_something_was_synchronized() {
    let (about, names, zone) = (about(), names(), zone());
    let history = history::history(&found(), None, &context(Role::FrontDesk, &about, &names, &zone));
    let lines: Vec<_> =
        history.rows.iter().map(|row| (row.direction, row.sentence.as_str(), row.outcome_word.as_str())).collect();
    let (sent, here) = (Direction::ToFileMaker, Direction::Here);
    assert_eq!(
        lines,
        [
            (sent, "Sent to FileMaker: 1 field", "Done"),
            (
                sent,
                "Perhaps sent to FileMaker: new record with 2 fields",
                "A write got no answer. We look whether it happened before doing anything else."
            ),
            (
                sent,
                "Not sent to FileMaker: 2 fields",
                "Refused: FileMaker did not accept a value. Please correct it in the portal."
            ),
            (here, "Set aside", "Done"),
            (here, "Sync now", "Not finished yet"),
            (here, "Name revealed", "Done"),
            (sent, "Perhaps sent to FileMaker: 1 field", "The program ended in between; the next look settles it."),
        ]
    );
    assert!(history.rows.iter().all(|row| !format!("{row:?}").to_lowercase().contains("synchron")));
    assert_eq!((history.rows[0].what.as_str(), history.rows[1].what.as_str()), ("Patient", "Measurement"));
    assert_eq!(history.rows[0].fields, ["Birthday"]);
    assert_eq!(history.next, Some(3));
}

#[test]
fn the_audit_log_names_who_what_and_why() {
    let (about, names, zone) = (about(), names(), zone());
    let audit = audit::audit(&found(), None, &context(Role::FrontDesk, &about, &names, &zone));
    let lines: Vec<_> =
        audit.rows.iter().map(|row| (row.who.as_str(), row.word.as_str(), row.about.join(", "))).collect();
    let says = |who, word, about: &str| (who, word, about.to_owned());
    assert_eq!(
        lines,
        [
            says("Chart Relay", "Row changed", "Birthday"),
            says("Chart Relay", "Row created", "Value, Unit"),
            says("Chart Relay", "Row changed", "Phone, City"),
            says("maria", "Set aside", "Entered by hand"),
            says("maria", "Sync now", ""),
            says("maria", "Name revealed", ""),
            says("Chart Relay", "Row changed", "Phone"),
        ]
    );
    // Whatever stands in a row can be asked for.
    for row in &audit.rows {
        assert!(audit.acts.iter().any(|known| known.act == row.act));
        let query = audit::AuditQuery { act: Some(row.act.clone()), ..audit::AuditQuery::default() };
        assert_eq!(audit::search(&query).unwrap().acts.len(), 1);
    }
    let verified = |entries, findings| audit::chain(entries, findings, now(), &zone).sentence;
    assert_eq!(verified(18_204, vec![]), "Verified at 10:42: 18\u{202f}204 entries, each in its place.");
    assert_eq!(
        verified(9, vec!["entry 3".to_owned()]),
        "Verified at 10:42: 9 entries, and 1 is not as it was written. Tell IT."
    );
}

#[test]
fn a_question_of_the_page_is_one_to_the_log_or_is_refused_in_a_sentence() {
    let query = HistoryQuery {
        before: Some(40),
        direction: Some(Direction::ToFileMaker),
        outcome: Some(HistoryOutcome::Refused),
        record: Some(P1.to_owned()),
        since: Some("2026-03-02T05:00:00Z".to_owned()),
        until: None,
    };
    let search = history::search(&query).unwrap();
    assert_eq!(search.acts, [Act::CreateRow, Act::EditRow]);
    assert_eq!((search.before, search.outcome), (Some(AuditId(40)), Some(Ended::Refused)));
    assert_eq!((search.record, search.since), (RecordKey::parse(P1), Some(at("2026-03-02T05:00:00Z"))));
    let odd = |query: HistoryQuery| history::search(&query).unwrap_err().sentence;
    assert!(odd(HistoryQuery { since: Some("yesterday".to_owned()), ..HistoryQuery::default() }).ends_with('.'));
    assert!(odd(HistoryQuery { record: Some("p1".to_owned()), ..HistoryQuery::default() }).ends_with('.'));
    let query = audit::AuditQuery { act: Some("anything".to_owned()), ..audit::AuditQuery::default() };
    assert!(audit::search(&query).is_err());
}

#[test]
fn a_pseudonym_is_asked_for_until_it_is_the_patients() {
    let names = names();
    let keys = [key(P1), key(M1), key(M2), key(N9)];
    assert_eq!(names.missing(&keys), [key(N9), key(M2)], "one unknown, one whose patient was not known");
    assert_eq!(record(P1).key, key(P1));
}
