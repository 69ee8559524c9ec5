//! Searching and paging.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::json;
use simulators::fhir::{Fault, Interaction, Matching, PageSize, Times};

use crate::caller::{Caller, observation, patient};

/// Patients stamped at 07:59:59.999, 08:00:00.000, 08:00:00.500 and 08:00:01.000.
async fn stamped() -> Caller {
    let caller = Caller::new().await;
    for (id, at) in [("c", "07:59:59.999"), ("b", "08:00:00.000"), ("d", "08:00:00.500"), ("a", "08:00:01.000")] {
        let at: Timestamp = format!("2026-03-01T{at}Z").parse().unwrap();
        caller.control.put_stamped(patient(id), at).unwrap();
    }
    caller
}

#[tokio::test]
async fn last_updated_takes_every_prefix_at_the_values_own_precision() {
    let caller = stamped().await;
    let second = "2026-03-01T08:00:00Z";
    let cases = [
        (second.to_owned(), "bd"),
        (format!("eq{second}"), "bd"),
        (format!("ne{second}"), "ca"),
        (format!("gt{second}"), "a"),
        (format!("sa{second}"), "a"),
        (format!("lt{second}"), "c"),
        (format!("eb{second}"), "c"),
        (format!("ge{second}"), "bda"),
        (format!("le{second}"), "cbd"),
        ("gt2026-03-01T08:00:00.000Z".into(), "da"),
        ("ge2026-03-01T08:00:00.500Z".into(), "da"),
        ("le2026-03-01T08:00:00.500Z".into(), "cbd"),
        ("2026-03-01T08:00Z".into(), "bda"),
        ("2026-03-01".into(), "cbda"),
        ("2026-03".into(), "cbda"),
        ("2027".into(), ""),
        ("lt2027".into(), "cbda"),
        ("ge2026-03-01T10:00:00%2B02:00".into(), "bda"),
        ("2026-03-01T08:00:01Z,2026-03-01T07:59:59Z".into(), "ca"),
        ("gt2026-03-01T08:00:00Z,lt2026-03-01T08:00:00Z".into(), "ca"),
        (format!("ge{second}&_lastUpdated=lt2026-03-01T08:00:01Z"), "bd"),
    ];
    for (value, expected) in cases {
        let found = caller.get(&format!("Patient?_lastUpdated={value}&_sort=_lastUpdated")).await;
        assert_eq!(found.ids().concat(), expected, "{value}");
    }
    let approximately = caller.get("Patient?_lastUpdated=ap2026-03-01T08:00:00Z").await;
    assert_eq!(approximately.status, 200);
    assert_eq!(caller.get("Patient?_lastUpdated=ge2026-03-01T10:00:00+02:00").await.status, 400, "a raw + is a space");
    assert_eq!(caller.get("Patient?_lastUpdated=gelast%20week").await.issue(), "value");
}

#[tokio::test]
async fn a_time_without_a_zone_is_read_in_the_servers() {
    let caller = stamped().await;
    let path = "Patient?_lastUpdated=ge2026-03-01T08:00:00&_sort=_lastUpdated";
    assert_eq!(caller.get(path).await.ids().concat(), "bda");
    caller.control.configure(|behaviour| behaviour.local_offset_hours = -5);
    assert_eq!(caller.get(path).await.ids().concat(), "", "08:00 there is 13:00Z");
}

#[tokio::test]
async fn sorts_by_time_either_way_and_otherwise_not_at_all() {
    let caller = stamped().await;
    assert_eq!(caller.get("Patient?_sort=_lastUpdated").await.ids().concat(), "cbda");
    assert_eq!(caller.get("Patient?_sort=-_lastUpdated").await.ids().concat(), "adbc");
    assert_eq!(caller.get("Patient").await.ids().concat(), "abcd");
}

#[tokio::test]
async fn finds_by_id_identifier_subject_and_tokens() {
    let caller = Caller::new().await;
    caller.fill(3);
    for (id, owner) in [("o0", "p0"), ("o1", "p1"), ("o2", "p0")] {
        caller.control.put(observation(id, owner)).unwrap();
    }
    let response = json!({"resourceType": "QuestionnaireResponse", "id": "q", "status": "in-progress",
        "identifier": {"system": "urn:test", "value": "a,b|c"}, "subject": {"reference": "Patient/p2"}});
    caller.control.put(response).unwrap();
    let absolute = format!("Observation?subject={}/Patient/p1", caller.server.base_url());
    let cases = [
        ("Patient?_id=p2,p0", "p0p2"),
        ("Patient?identifier=urn:test:mrn|mrn-p1", "p1"),
        ("Patient?identifier=mrn-p1", "p1"),
        ("Patient?identifier=|mrn-p1", ""),
        ("Patient?identifier=urn:test:mrn|", "p0p1p2"),
        ("Patient?identifier=urn:test:mrn|mrn-p1,urn:test:mrn|mrn-p2", "p1p2"),
        ("QuestionnaireResponse?identifier=urn:test|a%5C,b%5C|c", "q"),
        ("QuestionnaireResponse?status=in-progress", "q"),
        ("QuestionnaireResponse?status=completed", ""),
        ("Observation?subject=Patient/p0", "o0o2"),
        ("Observation?patient=p0", "o0o2"),
        (absolute.as_str(), "o1"),
        ("Observation?patient=p0&code=http://loinc.org|8867-4", "o0o2"),
        ("Observation?code=29463-7", ""),
    ];
    for (path, expected) in cases {
        assert_eq!(caller.get(path).await.ids().concat(), expected, "{path}");
    }
    let form = [("identifier", "urn:test:mrn|mrn-p2")];
    let posted = Caller::send(caller.request(Method::POST, "Patient/_search").form(&form)).await;
    assert_eq!(posted.ids(), ["p2"]);
    assert_eq!(caller.control.tally().of(Interaction::Search), 15);
}

#[tokio::test]
async fn finds_what_belongs_to_some_encounters() {
    let caller = Caller::new().await;
    for (id, encounter) in [("m0", "e0"), ("m1", "e1"), ("m2", "e2")] {
        let photograph = json!({"resourceType": "Media", "id": id, "status": "completed",
            "subject": {"reference": "Patient/p0"}, "encounter": {"reference": format!("Encounter/{encounter}")}});
        caller.control.put(photograph).unwrap();
    }
    let both = json!([{"reference": "Encounter/e0"}, {"reference": "Encounter/e2"}]);
    let document = json!({"resourceType": "DocumentReference", "id": "d0", "status": "current",
        "subject": {"reference": "Patient/p0"}, "context": {"encounter": both}});
    caller.control.put(document).unwrap();
    let cases = [
        ("Media?encounter=e0,e2", "m0m2"),
        ("Media?encounter=Encounter/e1", "m1"),
        ("Media?encounter=e0,e1&patient=p0&_lastUpdated=ge2026-01-01", "m0m1"),
        ("Media?encounter=e0&patient=p1", ""),
        ("DocumentReference?encounter=e2,e3", "d0"),
        ("DocumentReference?encounter=e1", ""),
        ("DocumentReference?patient=p0&_lastUpdated=lt2026-01-01", ""),
    ];
    for (path, expected) in cases {
        assert_eq!(caller.get(path).await.ids().concat(), expected, "{path}");
    }
}

#[tokio::test]
async fn an_index_follows_its_resource() {
    let caller = Caller::new().await;
    caller.control.put(observation("o0", "p0")).unwrap();
    caller.control.put(observation("o0", "p1")).unwrap();
    assert_eq!(caller.get("Observation?patient=p0").await.ids(), [""; 0]);
    assert_eq!(caller.get("Observation?patient=p1").await.ids(), ["o0"]);
    assert_eq!(caller.get("Observation?_sort=_lastUpdated").await.ids(), ["o0"]);
    assert_eq!(caller.control.ids("Observation"), ["o0"], "one entry in the index of times");
    caller.control.delete("Observation", "o0").unwrap();
    assert_eq!(caller.get("Observation?patient=p1").await.ids(), [""; 0]);
}

#[tokio::test]
async fn pages_follow_opaque_links() {
    let caller = Caller::new().await;
    caller.fill(5);
    assert_eq!(
        caller.walk("Patient?_sort=_lastUpdated&_count=2").await,
        [vec!["p0", "p1"], vec!["p2", "p3"], vec!["p4"]]
    );
    let first = caller.get("Patient?_count=2").await;
    assert!(first.link("next").unwrap().starts_with(&format!("{}?_getpages=", caller.server.base_url())));
    assert_eq!(first.json()["total"], json!(null));
    let whole = caller.get("Patient?_count=5&_total=accurate").await;
    assert_eq!((whole.link("next"), whole.json()["total"].as_u64()), (None, Some(5)));
    caller.control.configure(|behaviour| behaviour.page_size = PageSize { usual: 3, most: 4 });
    assert_eq!(caller.get("Patient").await.ids().len(), 3);
    assert_eq!(caller.get("Patient?_count=1000").await.ids().len(), 4);
}

#[tokio::test]
async fn page_sessions_end() {
    let caller = Caller::new().await;
    caller.fill(3);
    caller.control.configure(|behaviour| behaviour.page_life = SignedDuration::from_mins(10));
    let next = caller.get("Patient?_count=1").await.link("next").unwrap();
    assert_eq!(caller.get(&next).await.status, 200);
    caller.control.advance(SignedDuration::from_mins(11));
    assert_eq!(caller.get(&next).await.status, 410);
    let next = caller.get("Patient?_count=1").await.link("next").unwrap();
    caller.control.inject(Fault::PageExpired, Matching::any(), Times::Next(1));
    assert_eq!(caller.get(&next).await.status, 410);
    assert_eq!(caller.get(&next).await.status, 200);
    caller.control.forget_pages();
    assert_eq!(caller.get(&next).await.status, 410);
}

#[tokio::test]
async fn a_page_may_repeat_or_leave_out_an_entry() {
    let caller = Caller::new().await;
    caller.fill(4);
    let pages = Matching::only(Interaction::NextPage);
    caller.control.inject(Fault::PageOverlap, pages.clone(), Times::Next(1));
    assert_eq!(caller.walk("Patient?_count=2").await, [vec!["p0", "p1"], vec!["p1", "p2"], vec!["p3"]]);
    caller.control.inject(Fault::PageSkip, pages, Times::Next(1));
    assert_eq!(caller.walk("Patient?_count=2").await, [vec!["p0", "p1"], vec!["p3"]]);
}

#[tokio::test]
async fn the_next_link_may_point_elsewhere() {
    let caller = Caller::new().await;
    caller.fill(2);
    let elsewhere = Fault::NextElsewhere("http://elsewhere.example.org/fhir".into());
    caller.control.inject(elsewhere, Matching::only(Interaction::Search), Times::Next(1));
    let link = async || caller.get("Patient?_count=1").await.link("next").unwrap();
    assert!(link().await.starts_with("http://elsewhere.example.org/fhir?_getpages="));
    assert!(link().await.starts_with(caller.server.base_url()));
    caller.control.configure(|behaviour| behaviour.next_base = Some("http://inside.example.org".into()));
    assert!(link().await.starts_with("http://inside.example.org?"));
}

#[tokio::test]
async fn changes_and_deletions_show_in_later_pages() {
    let caller = Caller::new().await;
    caller.fill(3);
    let first = caller.get("Patient?_sort=_lastUpdated&_count=1").await;
    caller.control.delete("Patient", "p1").unwrap();
    let second = caller.get(&first.link("next").unwrap()).await;
    assert_eq!(second.ids(), [""; 0], "an empty page is not the last one");
    assert_eq!(caller.get(&second.link("next").unwrap()).await.ids(), ["p2"]);
}

#[tokio::test]
async fn elements_and_counts() {
    let caller = Caller::new().await;
    caller.fill(2);
    let cut = caller.get("Patient?_elements=id,meta").await.json();
    let resource = &cut["entry"][0]["resource"];
    assert_eq!(resource["name"], json!(null));
    assert_eq!(resource["meta"]["tag"][0]["code"], "SUBSETTED");
    assert_eq!(caller.get("Patient/p0").await.json()["meta"]["tag"], json!(null));
    for path in ["Patient?_summary=count", "Patient?_count=0"] {
        let count = caller.get(path).await.json();
        assert_eq!((count["total"].as_u64(), &count["entry"]), (Some(2), &json!(null)));
    }
}

#[tokio::test]
async fn what_it_does_not_know_it_ignores_unless_told_to_be_strict() {
    let caller = Caller::new().await;
    caller.fill(2);
    let lenient = caller.get("Patient?_id=p0&eye-colour=green").await;
    assert_eq!(lenient.ids(), ["p0"]);
    assert!(lenient.link("self").unwrap().ends_with("Patient?_id=p0"));
    let strict = caller.request(Method::GET, "Patient?eye-colour=green").header("Prefer", "handling=strict");
    let strict = Caller::send(strict).await;
    assert_eq!((strict.status, strict.issue()), (400, "not-supported".into()));
    assert!(!strict.text.contains("green"), "names of parameters, never their values");
    caller.control.configure(|behaviour| {
        behaviour.unknown_parameters.insert("_id".into());
    });
    let everything = caller.get("Patient?_id=p0").await;
    assert_eq!(everything.ids(), ["p0", "p1"]);
    assert!(!everything.link("self").unwrap().contains("_id"));
}

#[tokio::test]
async fn an_identical_search_may_be_answered_from_a_cache() {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.configure(|behaviour| behaviour.search_cache = Some(SignedDuration::from_secs(60)));
    assert_eq!(caller.get("Patient").await.ids().len(), 1);
    caller.control.put(patient("p1")).unwrap();
    caller.control.advance(SignedDuration::from_secs(40));
    assert_eq!(caller.get("Patient").await.ids().len(), 1, "stale");
    assert_eq!(caller.get("Patient?_count=7").await.ids().len(), 2, "another search");
    let fresh = caller.request(Method::GET, "Patient").header("Cache-Control", "no-cache");
    assert_eq!(Caller::send(fresh).await.ids().len(), 2);
    caller.control.put(patient("p2")).unwrap();
    caller.control.advance(SignedDuration::from_secs(61));
    assert_eq!(caller.get("Patient").await.ids().len(), 3);
}

#[tokio::test]
async fn a_warning_among_the_entries_is_not_a_record() {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.configure(|behaviour| behaviour.search_warning = true);
    let bundle = caller.get("Patient").await.json();
    assert_eq!(bundle["entry"][0]["search"]["mode"], "outcome");
    assert_eq!(bundle["entry"][1]["search"]["mode"], "match");
}

/// A search in a narrow window costs no more for ten thousand resources around it.
#[tokio::test]
async fn ten_thousand_resources_do_not_slow_a_narrow_search() {
    let caller = Caller::new().await;
    let begin: Timestamp = "2026-03-01T08:00:00Z".parse().unwrap();
    for number in 0..10_000 {
        let at = begin + SignedDuration::from_secs(number);
        caller.control.put_stamped(patient(&format!("p{number}")), at).unwrap();
    }
    let from = begin + SignedDuration::from_secs(9_990);
    let path = format!("Patient?_lastUpdated=ge{from}&_sort=_lastUpdated&_count=200");
    assert_eq!(caller.get(&path).await.ids().len(), 10);
    let began = Instant::now();
    for _ in 0..100 {
        caller.get(&path).await;
    }
    let narrow = began.elapsed();
    let began = Instant::now();
    for _ in 0..100 {
        caller.get("Patient/p0").await;
    }
    let read = began.elapsed();
    eprintln!("100 narrow searches among 10 000: {narrow:?}; 100 reads: {read:?}");
    let began = Instant::now();
    let pages = caller.walk("Patient?_sort=_lastUpdated&_count=1000").await;
    eprintln!("10 000 in 10 pages: {:?}", began.elapsed());
    assert_eq!(pages.concat().len(), 10_000);
    assert!(narrow < read * 40, "a search that scans everything takes hundreds of times a read");
}
