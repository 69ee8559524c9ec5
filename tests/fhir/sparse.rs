//! Change lists on servers that give no next links, or not always.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use chart_relay::adapters::fhir::Flavour;
use engine::{
    error::{Class, Code},
    ports::FhirServer as _,
};
use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    at, counts, open_client, patient,
    script::{Asked, Script, fhir},
    walk,
};

/// What a server without next links holds and how it answers.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Never more rows than this, whatever `_count` says.
    cap: Option<usize>,
    /// Whether the `self` link shows the page length that was used.
    owns_up: bool,
    total: bool,
    /// Next links up to so many rows, and then none.
    links_until: Option<usize>,
    ignores_sort: bool,
}

fn row((number, stamp): &(usize, Timestamp)) -> Value {
    let meta = json!({"versionId": "1", "lastUpdated": format!("{stamp:.3}")});
    json!({"search": {"mode": "match"}, "resource": {"resourceType": "Patient", "id": format!("p{number}"), "meta": meta}})
}

fn answer(rows: &[(usize, Timestamp)], habits: Habits, base: &str, asked: &Asked) -> Value {
    let since: Option<Timestamp> = asked.parameters.get("_lastUpdated").map(|value| value[2..].parse().unwrap());
    let mut found: Vec<_> = rows.iter().filter(|(_, stamp)| since.is_none_or(|since| *stamp >= since)).collect();
    if !habits.ignores_sort {
        found.sort_by_key(|(number, stamp)| (*stamp, *number));
    }
    let offset = asked.number("_offset").or(asked.number("skip")).unwrap_or(0);
    let count = asked.number("_count").unwrap().min(habits.cap.unwrap_or(usize::MAX));
    let page: Vec<_> = found.iter().skip(offset).take(count).map(|found| row(found)).collect();
    let mut bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": page});
    if habits.total {
        bundle["total"] = json!(found.len());
    }
    let mut links = Vec::new();
    if habits.owns_up {
        links.push(json!({"relation": "self", "url": format!("{base}/Patient?_count={count}&_sort=_lastUpdated&_lastUpdated=x")}));
    }
    let reached = offset + count;
    if habits.links_until.is_some_and(|limit| reached < limit) && reached < found.len() {
        let since = since.map(|since| format!("&_lastUpdated=ge{since:.3}")).unwrap_or_default();
        links.push(json!({"relation": "next", "url": format!("{base}/Patient?_count={count}&skip={reached}{since}")}));
    }
    bundle["link"] = json!(links);
    bundle
}

async fn sparse(rows: Vec<(usize, Timestamp)>, habits: Habits) -> Script {
    let base = Arc::new(Mutex::new(String::new()));
    let own = base.clone();
    let script = Script::start(move |asked| fhir(200, &answer(&rows, habits, &own.lock().unwrap(), asked))).await;
    *base.lock().unwrap() = script.base_url();
    script
}

/// Rows in clumps of up to so many that share a stamp.
fn clumps(seed: u64, rows: usize, largest: usize) -> Vec<(usize, Timestamp)> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut stamp = at("2026-03-01T10:00:00Z");
    let mut left = 0;
    (0..rows)
        .map(|number| {
            if left == 0 {
                stamp += SignedDuration::from_millis(chance.random_range(1..2000));
                left = chance.random_range(1..=largest);
            }
            left -= 1;
            (number, stamp)
        })
        .collect()
}

#[track_caller]
fn assert_each_once(rows: &[(usize, Timestamp)], changes: &[engine::ports::Change]) {
    let expected: Vec<_> = rows.iter().map(|(number, _)| (format!("p{number}"), 1)).collect();
    assert_eq!(counts(changes), expected.into_iter().collect());
}

#[tokio::test]
async fn nothing_is_missed_without_next_links() {
    for seed in 0..12 {
        for (rows, largest) in [(0, 1), (200, 1), (1000, 30), (1000, 200), (1500, 900)] {
            let rows = clumps(seed, rows, largest);
            let script = sparse(rows.clone(), Habits::default()).await;
            let changes = walk(&open_client(&script.base_url(), &Flavour::MEDPLUM), &patient(), None).await.unwrap();
            assert_each_once(&rows, &changes);
        }
    }
}

#[tokio::test]
async fn a_crowd_at_one_instant_is_walked_by_offset_or_refused() {
    let crowd: Vec<_> = (0..3000).map(|number| (number, at("2026-03-01T10:00:00Z"))).collect();
    let mut rows = clumps(1, 300, 3);
    rows.retain(|(_, stamp)| *stamp < at("2026-03-01T10:00:00Z") || *stamp > at("2026-03-01T10:01:00Z"));
    rows.iter_mut().for_each(|(number, _)| *number += 10_000);
    rows.extend(crowd);
    let script = sparse(rows.clone(), Habits::default()).await;
    let changes = walk(&open_client(&script.base_url(), &Flavour::MEDPLUM), &patient(), None).await.unwrap();
    assert_each_once(&rows, &changes);
    assert!(script.asked().len() < 20, "{} searches", script.asked().len());

    let fault = walk(&open_client(&script.base_url(), &Flavour::GENERIC), &patient(), None).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Stop, Code::Rejected));
    assert!(fault.vendor.unwrap().contains("share one lastUpdated"));
}

#[tokio::test]
async fn a_server_that_gives_shorter_pages_than_asked_is_believed_when_it_says_so() {
    for habits in [
        Habits { cap: Some(50), owns_up: true, ..Habits::default() },
        Habits { cap: Some(50), total: true, ..Habits::default() },
        Habits { cap: Some(50), owns_up: true, total: true, ..Habits::default() },
    ] {
        for seed in 0..5 {
            let rows = clumps(seed, 777, 40);
            let script = sparse(rows.clone(), habits).await;
            let changes = walk(&open_client(&script.base_url(), &Flavour::GENERIC), &patient(), None).await.unwrap();
            assert_each_once(&rows, &changes);
        }
    }
}

#[tokio::test]
async fn an_end_costs_at_most_one_more_search() {
    for (rows, habits, searches) in [
        (100, Habits::default(), 1),
        // Full: there could be more.
        (200, Habits::default(), 2),
        (200, Habits { total: true, ..Habits::default() }, 1),
        (400, Habits { links_until: Some(usize::MAX), total: true, ..Habits::default() }, 2),
    ] {
        let script = sparse(clumps(3, rows, 5), habits).await;
        walk(&open_client(&script.base_url(), &Flavour::GENERIC), &patient(), None).await.unwrap();
        assert_eq!(script.asked().len(), searches, "{rows} rows");
    }
}

#[tokio::test]
async fn a_server_that_stops_giving_links_at_its_limit_is_walked_to_the_end() {
    // HAPI's 10 000, to the row.
    let rows = clumps(7, 10_450, 30);
    let script = sparse(rows.clone(), Habits { links_until: Some(10_000), ..Habits::default() }).await;
    let changes = walk(&open_client(&script.base_url(), &Flavour::HAPI), &patient(), None).await.unwrap();
    assert_each_once(&rows, &changes);
}

#[tokio::test]
async fn without_links_and_without_order_the_walk_stops() {
    let mut rows = clumps(5, 500, 3);
    rows.reverse();
    let script = sparse(rows, Habits { ignores_sort: true, ..Habits::default() }).await;
    let fault = walk(&open_client(&script.base_url(), &Flavour::MEDPLUM), &patient(), None).await.unwrap_err();
    assert_eq!((fault.class, fault.vendor.as_deref()), (Class::Stop, Some("the server ignores _sort")));
}

#[tokio::test]
async fn a_walk_goes_on_from_its_token_in_a_new_client() {
    let rows = clumps(9, 900, 60);
    let script = sparse(rows.clone(), Habits::default()).await;
    let (mut page, mut ids) = (None, BTreeSet::new());
    loop {
        let client = open_client(&script.base_url(), &Flavour::MEDPLUM);
        let changes = client.changes(&patient(), None, page.as_ref()).await.unwrap();
        for change in changes.changes {
            assert!(ids.insert(change.id.to_string()), "listed twice");
        }
        page = changes.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), rows.len());
}
