//! Conflicts, both sides of a record and what was before a change.

use engine::{
    action::{Action, Choice, Seen},
    audit::{Act, AuditId, Begun, Entry, Outcome},
    connection::Side,
    difference::{Difference, FieldDifference, Is, KeptValue, Origin, Policy, Way},
    key::{BootId, StationId},
    keys::{ClinicKey, Hasher},
    ledger::Owner,
    row::{Shown, Value},
};

use super::stage::{about, at, but, context, input, key, names, now, zone};
use crate::{
    control::{OpenConflict, OpenField},
    view::{
        conflicts::{Chosen, Take, conflicts},
        desk::{Go, Problem, Role, Settings, State, Station},
        picture::Picture,
        sides::{resyncing, sides, values, versions},
        words,
    },
};

fn seen() -> Seen {
    let hash = Hasher::new(&ClinicKey::from_bytes([1; 32])).hash(&key("north/link/Patient/p1"), "City", &Value::Blank);
    Seen { chart: hash, row: hash }
}

fn field(name: &str, is: Is, chart: &str, row: &str) -> FieldDifference {
    FieldDifference {
        field: name.to_owned(),
        direction: Way::Both,
        policy: Policy::Person,
        is,
        conflict: (is == Is::Conflict).then(|| at("2026-03-02T14:00:00Z")),
        chart: Some(Shown::new(chart)),
        row: Some(Shown::new(row)),
        seen: Some(seen()),
    }
}

fn difference() -> Difference {
    let origin = |version: &str| Origin {
        there: true,
        version: Some(version.to_owned()),
        at: Some(at("2026-03-02T15:00:00Z")),
        ..Origin::default()
    };
    Difference {
        key: key("north/link/Patient/p1"),
        fields: vec![
            field("City", Is::ToChart, "SYNTHETIC old", "SYNTHETIC new"),
            field("Street", Is::Conflict, "SYNTHETIC left", "SYNTHETIC right"),
            field("Zip", Is::ToFilemaker, "SYNTHETIC 1", "SYNTHETIC 2"),
        ],
        chart: Origin { by: Some(Shown::new("SYNTHETIC author")), ..origin("7") },
        row: Origin { ours: true, ..origin("31") },
        kept: vec![KeptValue {
            field: "Zip".to_owned(),
            side: Side::FileMaker,
            at: at("2026-03-02T15:29:59Z"),
            value: Some(Shown::new("SYNTHETIC before")),
        }],
        past: ["5", "6"]
            .map(|version| {
                let city = ("City".to_owned(), Shown::new(format!("SYNTHETIC in {version}")));
                (version.to_owned(), [city].into())
            })
            .into(),
    }
}

fn entry(act: Act, fields: &[&str], version: &str) -> Entry {
    let by = Owner { station: StationId::new("desk-1").unwrap(), boot: BootId::new("boot-1").unwrap() };
    Entry {
        id: AuditId(5),
        begun: Begun {
            at: at("2026-03-02T15:30:00Z"),
            by,
            person: None,
            act,
            key: Some(key("north/link/Patient/p1")),
            epoch: 1,
            expected: None,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        },
        outcome: Some(Outcome::Done { version: Some(version.to_owned()) }),
        resolved: Some(now()),
    }
}

#[test]
fn open_conflicts_need_a_person_and_say_so() {
    let (settings, zone, about, names) = (Settings::default(), zone(), about(), names());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let show = |snapshot: &engine::snapshot::Snapshot| {
        let station = Station::new(&settings, String::new(), String::new());
        Picture::default().desk(&input(snapshot, &settings, &zone), station, &context, super::stage::SECOND).unwrap()
    };
    let one = show(&but(|snapshot| snapshot.conflicts = 1));
    assert_eq!(one.card.state, State::NeedsAttention);
    assert_eq!(one.card.sentence, "Both sides changed 1 record. Please choose.");
    assert_eq!(one.card.causes[0].go, Some(Go::Conflicts));
    assert_eq!((one.attention, one.conflicts), (1, 1));
    // Beside something else it is one of several things.
    let more = show(&but(|snapshot| (snapshot.conflicts, snapshot.dead) = (2, 1)));
    assert_eq!(more.card.sentence, "3 items need attention");
    let sentences: Vec<_> = more.card.causes.iter().map(|cause| &*cause.sentence).collect();
    assert_eq!(sentences, ["1 item needs attention", "Both sides changed 2 records. Please choose."]);
}

#[test]
fn the_oldest_conflict_comes_first_with_names_of_fields_alone() {
    let (zone, about, names) = (zone(), about(), names());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let open = |of: &str, fields: &[(&str, &str)]| OpenConflict {
        key: key(of),
        parent: None,
        fields: fields.iter().map(|(name, since)| OpenField { field: (*name).into(), since: at(since) }).collect(),
    };
    let listed = [
        open("north/link/Observation/m1", &[("Value", "2026-03-02T15:00:00Z")]),
        open("north/link/Patient/p1", &[("City", "2026-03-02T15:10:00Z"), ("Zip", "2026-03-01T15:00:00Z")]),
    ];
    let shown = conflicts(&listed, true, &context);
    let rows: Vec<_> = shown.rows.iter().map(|row| (&*row.record.label, &*row.what, row.fields.join(" "))).collect();
    assert_eq!(
        rows,
        [("Patient 4F2K7", "Patient", "City Zip".to_owned()), ("Patient 4F2K7", "Measurement", "Value".to_owned())]
    );
    assert_eq!(shown.rows[0].since, "2026-03-01T15:00:00.000Z");
    assert!(shown.more);
}

#[test]
fn both_sides_stand_beside_each_other_and_cannot_be_printed() {
    let (zone, about, names) = (zone(), about(), names());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let shown = sides(&difference(), &context);
    assert_eq!(shown.fields.iter().map(|field| &*field.field).collect::<Vec<_>>(), ["Street", "City", "Zip"]);
    assert!(shown.fields[0].open && !shown.fields[1].open);
    assert_eq!(shown.fields[0].chart.as_deref(), Some("SYNTHETIC left"));
    assert_eq!(shown.chart.by.as_deref(), Some("SYNTHETIC author"));
    assert_eq!(shown.filemaker.sentence, words::BY_US);
    let chosen = Chosen {
        field: "Street".into(),
        seen: shown.fields[0].seen.clone().unwrap(),
        take: Take::Typed,
        typed: Some("SYNTHETIC third".into()),
    };
    let printed = format!("{shown:?} {:?} {chosen:?} {:?}", shown.fields, difference());
    assert!(!printed.contains("SYNTHETIC"), "{printed}");
    let action = chosen.action(key("north/link/Patient/p1")).unwrap();
    assert!(!format!("{action:?}").contains("SYNTHETIC"));
    let typed = Choice::Value(Shown::new("SYNTHETIC third"));
    let key = key("north/link/Patient/p1");
    assert_eq!(action, Action::Settle { key, field: "Street".into(), seen: seen(), choice: typed });
}

#[test]
fn before_and_after_are_told_only_where_they_are_known() {
    let told = |entry: &Entry| -> Vec<(String, Option<String>, Option<String>)> {
        let all = values(entry, &difference()).into_iter();
        all.map(|one| (one.field, one.before, one.after)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    // What a policy wrote over is kept, and nothing was written since.
    let stands = entry(Act::EditRow, &["City", "Zip"], "31");
    assert_eq!(
        told(&stands),
        [("City".into(), None, some("SYNTHETIC new")), ("Zip".into(), some("SYNTHETIC before"), some("SYNTHETIC 2"))]
    );
    // Somebody wrote since: what is there now proves nothing.
    assert_eq!(told(&entry(Act::EditRow, &["City"], "30")), [("City".into(), None, None)]);
    // The other side's value is not this side's.
    assert_eq!(told(&entry(Act::UpdateResource, &["Zip"], "7")), [("Zip".into(), None, some("SYNTHETIC 1"))]);
    // The chart has a history of its own.
    let mut update = entry(Act::UpdateResource, &["City", "Zip"], "6");
    update.begun.expected = Some("5".to_owned());
    assert_eq!(versions(&update), ["5", "6"]);
    assert_eq!(
        told(&update),
        [("City".into(), some("SYNTHETIC in 5"), some("SYNTHETIC in 6")), ("Zip".into(), None, None)]
    );
    assert_eq!(versions(&stands), Vec::<String>::new());
    // Before a new record there was nothing.
    assert_eq!(told(&entry(Act::CreateRow, &["City"], "31")), [("City".into(), some(""), some("SYNTHETIC new"))]);
    assert_eq!(told(&entry(Act::Asked, &["retry"], "31")), []);
}

#[test]
fn syncing_again_names_what_would_go_where_and_no_value() {
    let (zone, about, names) = (zone(), about(), names());
    let context = context(Role::FrontDesk, &about, &names, &zone);
    let difference = difference();
    let line = resyncing(&difference.key, Ok(&difference), &context);
    assert_eq!((&line.to_filemaker[..], &line.to_chart[..]), (&["Zip".to_owned()][..], &["City".to_owned()][..]));
    assert_eq!((&line.open[..], line.sentence.clone()), (&["Street".to_owned()][..], None));
    assert!(!serde_json::to_string(&line).unwrap().contains("SYNTHETIC"));
    let gone = Difference { row: Origin::default(), ..difference.clone() };
    assert_eq!(resyncing(&gone.key, Ok(&gone), &context).sentence.as_deref(), Some(words::NOT_IN_FILEMAKER));
    let away = Problem::new("It is away.");
    assert_eq!(resyncing(&gone.key, Err(&away), &context).sentence.as_deref(), Some("It is away."));
    let same = Difference { fields: Vec::new(), ..difference };
    assert_eq!(resyncing(&same.key, Ok(&same), &context).sentence.as_deref(), Some(words::NOTHING_DIFFERS));
}
