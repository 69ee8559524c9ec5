//! What a merge makes of two sides: every case of one field, and what must hold of all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    connection::Side,
    key::{RecordKey, ResourceType, RowUuid},
    keys::{ClinicKey, Hasher},
    link::{Circling, LinkState, Sight, hashes},
    mapping::{Direction, Extracted, Kind, Owner, ResourceMapping, Rule, Standing, Unit},
    merge::Base,
    reconcile::plan::{Decision, Plan, Sides, newer, plan},
    row::{ChangeFields, Fields, ModId, Row, RowId, Value},
};
use proptest::prelude::*;

fn key() -> RecordKey {
    RecordKey::parse("north/link/Patient/p1").unwrap()
}

fn hasher() -> Hasher {
    Hasher::new(&ClinicKey::from_bytes([1; 32]))
}

fn text(content: &str) -> Value {
    if content.is_empty() { Value::Blank } else { Value::Text(content.into()) }
}

/// One field in its situation. An empty text is a blank; no text at all is silence.
#[derive(Debug, Clone)]
struct Case {
    direction: Direction,
    owner: Owner,
    base: Option<&'static str>,
    left: Option<&'static str>,
    right: &'static str,
    newer: Option<Side>,
}

const BOTH: Case =
    Case { direction: Direction::Both, owner: Owner::Fhir, base: Some("a"), left: Some("a"), right: "a", newer: None };

fn rule(field: &str, direction: Direction, owner: Owner) -> Rule {
    Rule { direction, owner, ..Rule::new(field, vec![format!("x{field}").parse().unwrap()], Kind::Text) }
}

fn watched(rules: Vec<Rule>) -> ResourceMapping {
    let mut mapping =
        ResourceMapping::new(ResourceType::new("Patient").unwrap(), "API_Test", "FhirId", rules, None, None);
    mapping.table.changes = Some(ChangeFields { uuid: "UUID".into(), modified: "ModifiedAt".into() });
    mapping
}

fn row(fields: Fields) -> Row {
    Row {
        id: RowId("1".into()),
        mod_id: ModId("4".into()),
        key: Some("p1".into()),
        uuid: Some(RowUuid::new("U1").unwrap()),
        modified: None,
        fields,
        unreadable: Vec::new(),
    }
}

fn extracted(fields: BTreeMap<String, Option<Value>>) -> Extracted {
    Extracted { standing: Standing::Carry, fields, refused: BTreeMap::new(), parent: None, notice: None }
}

fn state_with(bases: &[(&str, &str)]) -> LinkState {
    let mut state = LinkState::parse("", &hasher());
    for (field, base) in bases {
        state.base.insert((*field).to_owned(), Base::both(hasher().hash(&key(), field, &text(base))));
    }
    state
}

/// Merges these fields, and gives the plan.
fn merged(
    mapping: &ResourceMapping,
    said: &[(&str, Option<&str>)],
    has: &[(&str, &str)],
    state: &LinkState,
    newer: Option<Side>,
    settled: Option<(&str, &Decision)>,
) -> Plan {
    let extracted = extracted(said.iter().map(|(field, said)| ((*field).to_owned(), said.map(text))).collect());
    let row = row(has.iter().map(|(field, has)| ((*field).to_owned(), text(has))).collect());
    let chart: Fields =
        extracted.fields.iter().map(|(field, said)| (field.clone(), said.clone().unwrap_or(Value::Blank))).collect();
    let sides = Sides {
        mapping,
        extracted: &extracted,
        row: &row,
        chart_hashes: &hashes(&hasher(), &key(), &chart),
        row_hashes: &hashes(&hasher(), &key(), &row.fields),
        one_way: false,
        chart_closed: false,
        newer,
        settled,
    };
    plan(&sides, state)
}

/// What becomes of a case, in a word.
fn word(case: &Case) -> String {
    let mapping = watched(vec![rule("F", case.direction, case.owner)]);
    let bases: Vec<_> = case.base.iter().map(|base| ("F", *base)).collect();
    let plan = merged(&mapping, &[("F", case.left)], &[("F", case.right)], &state_with(&bases), case.newer, None);
    let Plan { to_row, to_chart, agreed, reshaped, differs, conflicts, lost } = plan;
    let lost: Vec<_> =
        lost.iter().map(|(_, side, value)| format!(" over {} {}", side.as_str(), value.canonical())).collect();
    let words: Vec<String> = [
        to_row.get("F").map(|value| format!("row={}", value.canonical())),
        to_chart.get("F").map(|value| format!("chart={}", value.canonical())),
        (!agreed.is_empty()).then(|| "agreed".to_owned()),
        (!reshaped.is_empty()).then(|| "reshaped".to_owned()),
        (!differs.is_empty()).then(|| "differs".to_owned()),
        (!conflicts.is_empty()).then(|| "conflict".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(words.len() <= 1, "one thing at a time: {words:?}");
    format!("{}{}", words.first().map_or("left", String::as_str), lost.concat())
}

#[test]
fn one_side_changed_both_the_same_or_both_differently() {
    use Direction::{ToFhir, ToFileMaker};
    let newest = |newer| Case { owner: Owner::Newest, newer, left: Some("b"), right: "c", ..BOTH };
    for (case, expected) in [
        (BOTH, "agreed"),
        (Case { left: Some("b"), ..BOTH }, "row=b"),
        (Case { right: "b", ..BOTH }, "chart=b"),
        (Case { left: Some("b"), right: "b", ..BOTH }, "agreed"),
        // Both differently: the policy, and the loser is not lost.
        (Case { left: Some("b"), right: "c", ..BOTH }, "row=b over filemaker c"),
        (Case { left: Some("b"), right: "c", owner: Owner::FileMaker, ..BOTH }, "chart=c over fhir b"),
        (Case { left: Some("b"), right: "c", owner: Owner::Person, ..BOTH }, "conflict"),
        (newest(Some(Side::Fhir)), "row=b over filemaker c"),
        (newest(Some(Side::FileMaker)), "chart=c over fhir b"),
        (newest(None), "conflict"),
        // A person emptied it.
        (Case { right: "", ..BOTH }, "chart="),
        (Case { left: Some("b"), right: "", ..BOTH }, "row=b over filemaker "),
        // The chart no longer says anything: nothing is emptied, and an edit goes there again.
        (Case { left: None, ..BOTH }, "left"),
        (Case { left: None, right: "c", ..BOTH }, "chart=c"),
        (Case { left: None, right: "", ..BOTH }, "agreed"),
        // Said to be blank by the mapping.
        (Case { left: Some(""), ..BOTH }, "row="),
        // Nothing is known of what both agreed on.
        (Case { base: None, left: Some("b"), right: "", ..BOTH }, "row=b"),
        (Case { base: None, left: None, right: "c", ..BOTH }, "chart=c"),
        (Case { base: None, left: Some(""), right: "c", ..BOTH }, "chart=c"),
        (Case { base: None, left: Some("b"), right: "c", ..BOTH }, "conflict"),
        (Case { base: None, left: Some("b"), right: "b", ..BOTH }, "agreed"),
        // One way, as before.
        (Case { direction: ToFileMaker, left: Some("b"), ..BOTH }, "row=b"),
        (Case { direction: ToFileMaker, right: "b", ..BOTH }, "differs"),
        (Case { direction: ToFileMaker, left: Some("b"), right: "c", ..BOTH }, "differs"),
        (Case { direction: ToFileMaker, left: None, right: "c", ..BOTH }, "left"),
        (Case { direction: ToFileMaker, base: None, left: Some("b"), right: "", ..BOTH }, "row=b"),
        (Case { direction: ToFileMaker, base: None, left: Some("b"), right: "c", ..BOTH }, "differs"),
        // The other way.
        (Case { direction: ToFhir, right: "b", ..BOTH }, "chart=b"),
        (Case { direction: ToFhir, left: Some("b"), ..BOTH }, "differs"),
        (Case { direction: ToFhir, base: None, left: None, right: "c", ..BOTH }, "chart=c"),
    ] {
        assert_eq!(word(&case), expected, "{case:?}");
    }
}

#[test]
fn which_side_is_the_newer_is_said_only_where_it_can_be_told() {
    let at = |text: &str| Some(text.parse().unwrap());
    let eight = at("2026-03-02T08:00:00Z");
    assert_eq!(newer(eight, at("2026-03-02T08:00:03Z")), Some(Side::FileMaker));
    assert_eq!(newer(at("2026-03-02T08:00:03Z"), eight), Some(Side::Fhir));
    assert_eq!(newer(eight, at("2026-03-02T08:00:02Z")), None);
    assert_eq!(newer(eight, None), None);
    assert_eq!(newer(None, eight), None);
}

#[test]
fn what_cannot_be_kept_is_not_written_over() {
    let mapping = watched(vec![rule("F", Direction::Both, Owner::Fhir), rule("G", Direction::Both, Owner::Fhir)]);
    let long: String = "x".repeat(60_000);
    let plan = merged(
        &mapping,
        &[("F", Some("b")), ("G", Some("b"))],
        &[("F", &long), ("G", &long)],
        &state_with(&[("F", "a"), ("G", "a")]),
        None,
        None,
    );
    assert_eq!(plan.to_row.keys().collect::<Vec<_>>(), ["F"]);
    assert_eq!(plan.conflicts.into_iter().collect::<Vec<_>>(), ["G"], "a person decides about the second one");
}

#[test]
fn a_number_and_its_unit_go_the_same_way_or_nowhere() {
    let number = Rule {
        owner: Owner::Fhir,
        ..Rule::new("Number", vec!["value.value".parse().unwrap()], Kind::Number(Unit::Beside("Unit".into())))
    };
    let unit = Rule::new("Unit", vec!["value.unit".parse().unwrap()], Kind::Text);
    let mapping = watched(vec![number, unit]);
    let state = state_with(&[("Number", "1"), ("Unit", "mg")]);
    let plan = merged(
        &mapping,
        &[("Number", Some("2")), ("Unit", Some("mg"))],
        &[("Number", "1"), ("Unit", "g")],
        &state,
        None,
        None,
    );
    assert!(plan.writes_nothing(), "2 g is neither's");
    assert_eq!(plan.conflicts.len(), 2);
    let plan = merged(
        &mapping,
        &[("Number", Some("2")), ("Unit", Some("g"))],
        &[("Number", "1"), ("Unit", "mg")],
        &state,
        None,
        None,
    );
    assert_eq!(plan.to_row.len(), 2);
}

#[test]
fn a_persons_decision_goes_before_the_policy() {
    let mapping = watched(vec![rule("F", Direction::Both, Owner::Person), rule("G", Direction::Both, Owner::Fhir)]);
    let state = state_with(&[("F", "a"), ("G", "a")]);
    let decide = |decision: Decision| {
        let said = [("F", Some("b")), ("G", Some("new"))];
        merged(&mapping, &said, &[("F", "c"), ("G", "a")], &state, None, Some(("F", &decision)))
    };
    let written = |fields: &Fields| fields.get("F").map(Value::canonical);
    for (decision, row, chart) in [
        (Decision::Take(Side::Fhir), Some("b"), None),
        (Decision::Take(Side::FileMaker), None, Some("c")),
        (Decision::Set(text("d")), Some("d"), Some("d")),
        (Decision::Set(text("b")), Some("b"), None),
    ] {
        let plan = decide(decision);
        assert_eq!(written(&plan.to_row).as_deref(), row);
        assert_eq!(written(&plan.to_chart).as_deref(), chart);
        assert!(plan.conflicts.is_empty() && plan.to_row.contains_key("G"), "the other fields go on");
    }
}

#[test]
fn a_state_of_an_earlier_version_is_read() {
    let hash = serde_json::to_string(&hasher().hash(&key(), "F", &text("a"))).unwrap();
    let now = LinkState::parse("", &hasher()).text();
    let head = now.strip_suffix('}').unwrap();
    let old = format!(
        r#"{head},"version":"3","row":["7","4"],"base":{{"F":{hash}}},"intents":[{{"fields":{{}},"expected":"4","epoch":2}}],"differs":["G"]}}"#
    );
    let state = LinkState::parse(&old, &hasher());
    assert_eq!(state.base["F"], Base::both(hasher().hash(&key(), "F", &text("a"))));
    assert_eq!(state.intents[0].side, Side::FileMaker);
    assert_eq!(state.row, Some((RowId("7".into()), ModId("4".into()))));
    assert_eq!(LinkState::parse(&state.text(), &hasher()), state);
}

#[test]
fn what_a_server_made_of_our_write_is_nobodys_edit() {
    let mapping = watched(vec![rule("F", Direction::Both, Owner::Person)]);
    let mut state = state_with(&[("F", "a")]);
    let now = "2026-03-02T08:00:00Z".parse().unwrap();
    let hash = |content: &str| hasher().hash(&key(), "F", &text(content));
    state.written(Side::Fhir, &[("F".to_owned(), Base::both(hash("b")))].into(), "7", now);
    let see = |state: &mut LinkState, version: &str, left: &str| {
        let (chart, row) = ([("F".to_owned(), hash(left))].into(), [("F".to_owned(), hash("b"))].into());
        state.absorb(Sight { version: Some(version), hashes: &chart }, Sight { version: Some("4"), hashes: &row });
    };
    see(&mut state, "7", "B");
    let plan = merged(&mapping, &[("F", Some("B"))], &[("F", "b")], &state, None, None);
    assert!(plan.writes_nothing() && plan.reshaped.contains("F"), "version 7 is ours, whatever it says");
    // A later version is an edit, even back to what we wrote.
    see(&mut state, "8", "c");
    let plan = merged(&mapping, &[("F", Some("c"))], &[("F", "b")], &state, None, None);
    assert_eq!(plan.to_row.len(), 1);
}

#[test]
fn what_became_of_our_write_cannot_be_told_once_its_version_is_over() {
    let hash = |value: &str| hasher().hash(&key(), "F", &text(value));
    for (version, unclear) in [("7", false), ("8", true)] {
        let mut state = state_with(&[("F", "a")]);
        let sight = |hashes| Sight { version: Some("6"), hashes };
        let (chart, row) = ([("F".to_owned(), hash("a"))].into(), [("F".to_owned(), hash("a"))].into());
        state.absorb(sight(&chart), sight(&row));
        // Another field is written, and the server keeps the whole resource in its own form.
        state.written(Side::Fhir, &[("G".to_owned(), Base::both(hash("b")))].into(), "7", jiff::Timestamp::UNIX_EPOCH);
        let chart = [("F".to_owned(), hash("A"))].into();
        state.absorb(Sight { version: Some(version), hashes: &chart }, sight(&row));
        assert_eq!(state.unclear.contains("F"), unclear);
        assert_eq!(state.base["F"].left == hash("A"), !unclear);
    }
}

#[test]
fn a_field_written_again_and_again_is_written_seldom_and_then_no_more() {
    let mut state = state_with(&[]);
    let field = "F".to_owned();
    let begun: jiff::Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
    let second = |second: i64| begun + jiff::SignedDuration::from_secs(second);
    let ask = |state: &mut LinkState, field: &str, at: i64| state.circling([&field.to_owned()].into_iter(), second(at));
    let write = |state: &mut LinkState, at: i64| {
        let hash = hasher().hash(&key(), "F", &text("a"));
        state.written(Side::Fhir, &[(field.clone(), Base::both(hash))].into(), "1", second(at));
    };
    for at in 0..20 {
        assert_eq!(ask(&mut state, "F", at), None, "{at}");
        write(&mut state, at);
    }
    assert_eq!(ask(&mut state, "F", 100), Some(Circling::Pause(std::time::Duration::from_secs(500))));
    assert_eq!(ask(&mut state, "G", 100), None, "another field");
    assert_eq!(ask(&mut state.clone(), "F", 601), None, "the first is long ago");
    assert_eq!(ask(&mut state.clone(), "F", 24 * 60 * 60), None, "calm for a day");
    let mut at = 100;
    let stopped = loop {
        match ask(&mut state, "F", at) {
            None => write(&mut state, at),
            Some(Circling::Pause(_)) => {}
            Some(Circling::Stop) => break at,
        }
        at += 1;
    };
    assert_eq!(stopped, 30 * 60, "half an hour of it");
    assert_eq!(ask(&mut state, "F", 24 * 60 * 60), Some(Circling::Stop), "time alone sets nothing going again");
    state.begin_anew();
    assert_eq!(ask(&mut state, "F", 24 * 60 * 60), None, "a person has looked");
}

#[test]
fn a_version_that_is_over_is_known() {
    let mut state = state_with(&[]);
    for version in ["1", "2", "2", "3"] {
        state.saw_version(version.to_owned());
    }
    assert!(state.is_past("1") && state.is_past("2"));
    assert!(!state.is_past("3") && !state.is_past("4"));
    state.saw_version("1".to_owned());
    assert!(!state.is_past("1"), "accepted");
    for version in 10..30 {
        state.saw_version(version.to_string());
    }
    assert!(!state.is_past("10") && state.is_past("28"), "the last few");
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "c"])
}

proptest! {
    /// Of any two sides: who carries out the plan and looks again finds nothing to do, what one side alone changed arrives, and
    /// what is written over is named.
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(
        owner in prop::sample::select(vec![Owner::Fhir, Owner::FileMaker, Owner::Newest, Owner::Person]),
        newer in prop::sample::select(vec![None, Some(Side::Fhir), Some(Side::FileMaker)]),
        base in prop::option::of(value()),
        left in prop::option::of(value()),
        right in value(),
    ) {
        let mapping = watched(vec![rule("F", Direction::Both, owner)]);
        let bases: Vec<_> = base.iter().map(|base| ("F", *base)).collect();
        let mut state = state_with(&bases);
        let plan = merged(&mapping, &[("F", left)], &[("F", right)], &state, newer, None);
        prop_assert!(plan.to_row.is_empty() || plan.to_chart.is_empty(), "one direction");
        let says = left.unwrap_or("");
        let (chart, row) = match (plan.to_chart.get("F"), plan.to_row.get("F")) {
            (Some(value), _) => (value.clone(), text(right)),
            (_, Some(value)) => (text(says), value.clone()),
            _ => (text(says), text(right)),
        };
        // An edit of one side alone arrives, but for an element that the chart just left out.
        if let Some(base) = base {
            if says == base {
                prop_assert_eq!(&chart, &text(right));
                prop_assert_eq!(&row, &text(right));
            } else if right == base && left.is_some() {
                prop_assert_eq!(&chart, &text(says));
                prop_assert_eq!(&row, &text(says));
            }
        }
        // An edit that is gone from its side is named as lost.
        let gone: BTreeSet<&str> = [
            (row != text(right) && base != Some(right) && !right.is_empty()).then_some(right),
            (chart != text(says) && base != Some(says) && !says.is_empty()).then_some(says),
        ].into_iter().flatten().collect();
        for gone in gone {
            prop_assert!(plan.lost.iter().any(|(_, _, value)| *value == text(gone)), "{} is lost", gone);
        }
        for (field, value) in plan.to_row.iter().chain(&plan.to_chart) {
            state.base.insert(field.clone(), Base::both(hasher().hash(&key(), field, value)));
        }
        state.base.extend(plan.agreed);
        let (chart, row) = (chart.canonical(), row.canonical());
        let said = (left.is_some() || !chart.is_empty()).then_some(chart.as_str());
        let again = merged(&mapping, &[("F", said)], &[("F", &row)], &state, newer, None);
        prop_assert!(again.writes_nothing());
    }
}
