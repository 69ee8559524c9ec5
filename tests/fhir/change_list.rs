//! Change lists on a server that pages by next links, and what can go wrong on the way.

use std::collections::BTreeSet;

use chart_relay::adapters::fhir::Flavour;
use engine::{
    error::{Class, Code},
    ports::{FhirServer as _, PageToken, Read},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use simulators::fhir::{Behaviour, Fault, Interaction, Matching, Times, VersionIds};

use super::{
    assert_complete, at, client, clock, counts, fill, id, kind, open_client, patient, resource,
    script::{Script, fhir, with},
    server, walk,
};

#[tokio::test]
async fn everything_is_listed_once_in_order_with_its_version() {
    for flavour in Flavour::ALL {
        for version_ids in [VersionIds::Counter, VersionIds::Opaque] {
            let server = server(Behaviour { version_ids, ..Behaviour::default() }).await;
            fill(&server, 95);
            let client = client(&server, flavour, 20, &clock());
            let changes = walk(&client, &patient(), None).await.unwrap();
            assert_complete(&server, &changes);
            assert!(changes.is_sorted_by_key(|change| change.last_updated));
            for change in changes.iter().step_by(17) {
                let versions = server.control().versions("Patient", change.id.as_str());
                assert_eq!(Some(&change.version), versions.last());
                let Ok(Read::Found(found)) = client.read(&patient(), &change.id).await else { panic!("not read") };
                assert_eq!(found.version, change.version, "a sweep would never come to rest");
            }
            assert_eq!(server.control().tally().calls[&Interaction::Search], 1);
        }
    }
}

#[tokio::test]
async fn a_list_since_a_moment_includes_that_moment() {
    for fraction in [true, false] {
        let server = server(Behaviour { fraction, ..Behaviour::default() }).await;
        fill(&server, 30);
        let client = client(&server, &Flavour::GENERIC, 200, &clock());
        let all = walk(&client, &patient(), None).await.unwrap();
        let changes = walk(&client, &patient(), Some(all[20].last_updated)).await.unwrap();
        assert_eq!(changes, all[20..], "fraction {fraction}");
        // Finer than a millisecond is rounded down, never up.
        let finer = all[20].last_updated + SignedDuration::from_micros(300);
        assert_eq!(walk(&client, &patient(), Some(finer)).await.unwrap()[0], all[20]);
        let later = at("2026-03-01T11:00:00Z");
        assert_eq!(walk(&client, &patient(), Some(later)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn many_rows_of_one_instant_are_all_listed() {
    for fraction in [true, false] {
        let server = server(Behaviour { fraction, ..Behaviour::default() }).await;
        server.control().freeze(at("2026-03-01T10:00:00.250Z"));
        for number in 0..450 {
            server.control().put(resource(&format!("p{number}"))).unwrap();
        }
        let client = client(&server, &Flavour::GENERIC, 100, &clock());
        assert_complete(&server, &walk(&client, &patient(), None).await.unwrap());
    }
}

#[tokio::test]
async fn a_search_goes_the_way_of_the_flavour_and_names_no_patient() {
    for (flavour, method, path) in
        [(&Flavour::GENERIC, "GET", "/fhir/Patient"), (&Flavour::MEDPLUM, "POST", "/fhir/Patient/_search")]
    {
        let script = Script::start(|_| fhir(200, &json!({"resourceType": "Bundle", "type": "searchset"}))).await;
        let client = open_client(&script.base_url(), flavour);
        client.changes(&patient(), Some(at("2026-03-01T10:00:00.1239Z")), None).await.unwrap();
        let asked = script.asked().remove(0);
        assert_eq!((asked.method.as_str(), asked.path.as_str()), (method, path));
        let expected = [
            ("_count", "200"),
            ("_elements", "id,meta"),
            ("_lastUpdated", "ge2026-03-01T10:00:00.123Z"),
            ("_sort", "_lastUpdated"),
        ];
        let parameters: Vec<_> = asked.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(parameters, expected);
        assert_eq!(asked.url.contains('?'), method == "GET");
        assert_eq!(asked.headers.contains_key("prefer"), flavour.strict);
    }
}

#[tokio::test]
async fn a_cached_result_is_not_taken_for_today() {
    let behaviour = Behaviour { search_cache: Some(SignedDuration::from_secs(60)), ..Behaviour::default() };
    let server = server(behaviour).await;
    fill(&server, 3);
    let client = client(&server, &Flavour::HAPI, 200, &clock());
    walk(&client, &patient(), None).await.unwrap();
    server.control().put(resource("fresh")).unwrap();
    assert_complete(&server, &walk(&client, &patient(), None).await.unwrap());
}

#[tokio::test]
async fn a_next_link_to_another_server_is_not_followed() {
    let elsewhere = Script::start(|_| fhir(200, &json!({"resourceType": "Bundle", "type": "searchset"}))).await;
    let server = server(Behaviour::default()).await;
    fill(&server, 50);
    let port_only = format!("{}/R4", elsewhere.base_url());
    for base in [port_only, server.base_url().replace("http:", "https:"), "//other.example.org/fhir".into()] {
        let fault = Fault::NextElsewhere(base);
        let fault = server.control().inject(fault, Matching::only(Interaction::Search), Times::Always);
        let client = client(&server, &Flavour::GENERIC, 20, &clock());
        let refused = client.changes(&patient(), None, None).await.unwrap_err();
        assert_eq!((refused.class, refused.code), (Class::Stop, Code::ForeignPage));
        assert_eq!(refused.vendor.as_deref(), Some("the next page is on another server"));
        server.control().clear(fault);
    }
    assert!(elsewhere.asked().is_empty(), "a token went to another server");
}

#[tokio::test]
async fn a_walk_survives_sessions_that_end_tokens_that_end_and_pages_that_overlap() {
    for fault in [Fault::PageExpired, Fault::ExpireTokens, Fault::PageOverlap] {
        let server = server(Behaviour::default()).await;
        fill(&server, 95);
        // Half of them share a stamp, so that pages break inside it.
        server.control().freeze(at("2026-03-01T10:30:00Z"));
        for number in 0..95 {
            server.control().put(resource(&format!("q{number}"))).unwrap();
        }
        let client = client(&server, &Flavour::GENERIC, 20, &clock());
        let mut seen = Vec::new();
        let mut page: Option<PageToken> = None;
        for number in 0.. {
            if number % 3 == 1 {
                server.control().inject(fault.clone(), Matching::only(Interaction::NextPage), Times::Next(1));
            }
            let changes = client.changes(&patient(), None, page.as_ref()).await.unwrap();
            seen.extend(changes.changes);
            page = changes.next;
            if page.is_none() {
                break;
            }
        }
        let listed: BTreeSet<String> = counts(&seen).into_keys().collect();
        assert_eq!(listed, server.control().ids("Patient").into_iter().collect(), "{fault:?}");
        assert!(seen.len() < 300, "{fault:?}: {} rows for 190 records", seen.len());
    }
}

#[tokio::test]
async fn links_that_never_work_are_done_without_as_long_as_pages_can_grow() {
    for (crowd, complete) in [(900, true), (1100, false)] {
        let server = server(Behaviour::default()).await;
        fill(&server, 50);
        server.control().freeze(at("2026-03-01T10:30:00Z"));
        for number in 0..crowd {
            server.control().put(resource(&format!("q{number}"))).unwrap();
        }
        server.control().inject(Fault::PageExpired, Matching::only(Interaction::NextPage), Times::Always);
        let client = client(&server, &Flavour::GENERIC, 20, &clock());
        match walk(&client, &patient(), None).await {
            Ok(changes) => {
                assert!(complete);
                let listed: BTreeSet<String> = counts(&changes).into_keys().collect();
                assert_eq!(listed, server.control().ids("Patient").into_iter().collect());
            }
            Err(fault) => {
                assert!(!complete);
                assert_eq!((fault.class, fault.code), (Class::Retry, Code::EndlessPages));
            }
        }
    }
}

#[tokio::test]
async fn a_row_ahead_of_its_place_leaves_no_gap_when_a_session_ends() {
    // "raced" changed while the page was put together: its stamp is newer than those of the next page.
    let script = Script::start(|asked| {
        if asked.parameters.contains_key("session") {
            return fhir(410, &json!({"resourceType": "OperationOutcome"}));
        }
        let rows = [("first", "10:00"), ("raced", "12:00"), ("second", "10:01"), ("third", "10:02")];
        let rows = rows.map(|(id, time)| stamped(id, &format!("2026-03-01T{time}:00Z")));
        let since = asked.parameters.get("_lastUpdated").map(|since| since[2..].parse::<jiff::Timestamp>().unwrap());
        let count = if since.is_some() { 4 } else { 2 };
        let found = rows.into_iter().filter(|row| {
            let stamp: jiff::Timestamp = row["meta"]["lastUpdated"].as_str().unwrap().parse().unwrap();
            since.is_none_or(|since| stamp >= since)
        });
        let entry: Vec<_> = found.take(count).map(|row| json!({"resource": row})).collect();
        let mut bundle = json!({"resourceType": "Bundle", "entry": entry});
        if count == 2 {
            bundle["link"] = json!([{"relation": "next", "url": "Patient?session=1"}]);
        }
        fhir(200, &bundle)
    });
    let script = script.await;
    let changes = walk(&open_client(&script.base_url(), &Flavour::GENERIC), &patient(), None).await.unwrap();
    let listed: Vec<String> = counts(&changes).into_keys().collect();
    assert_eq!(listed, ["first", "raced", "second", "third"]);
}

#[tokio::test]
async fn a_circle_of_links_is_left() {
    let base = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let own = base.clone();
    let circle = Script::start(move |asked| {
        // The first three pages lead into a ring of five.
        let page = asked.number("page").map_or(0, |page| if page == 7 { 3 } else { page + 1 });
        let link = format!("{}/Patient?page={page}", own.lock().unwrap());
        let entry = json!({"resource": stamped(&format!("p{page}"), "2026-03-01T10:00:00Z")});
        fhir(200, &json!({"resourceType": "Bundle", "link": [{"relation": "next", "url": link}], "entry": [entry]}))
    });
    let circle = circle.await;
    *base.lock().unwrap() = circle.base_url();
    let fault = walk(&open_client(&circle.base_url(), &Flavour::GENERIC), &patient(), None).await;
    let fault = fault.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Retry, Code::EndlessPages));
    assert!(circle.asked().len() < 40);
}

fn stamped(id: &str, stamp: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "meta": {"versionId": "1", "lastUpdated": stamp}})
}

#[tokio::test]
async fn a_server_that_ignores_a_parameter_is_found_out() {
    for (parameter, flavour, vendor) in [
        ("_lastUpdated", &Flavour::MEDPLUM, "the server ignores _lastUpdated"),
        ("_sort", &Flavour::MEDPLUM, "the server ignores _sort"),
        ("_lastUpdated", &Flavour::GENERIC, "HTTP 400 not-supported"),
        ("_sort", &Flavour::GENERIC, "HTTP 400 not-supported"),
    ] {
        let unknown_parameters = BTreeSet::from([parameter.to_owned()]);
        let server = server(Behaviour { unknown_parameters, ..Behaviour::default() }).await;
        // Newest id first, so that order by id is not order by time.
        for number in 0..50 {
            let stamp = at("2026-03-01T10:00:00Z") - SignedDuration::from_mins(number);
            server.control().put_stamped(resource(&format!("p{number:03}")), stamp).unwrap();
        }
        let client = client(&server, flavour, 20, &clock());
        let fault = walk(&client, &patient(), Some(at("2026-03-01T09:20:00Z"))).await.unwrap_err();
        assert_eq!((fault.class, fault.code, fault.vendor.as_deref()), (Class::Stop, Code::Rejected, Some(vendor)));
    }
}

#[tokio::test]
async fn warnings_and_includes_are_no_records_and_rows_are_put_in_order() {
    let bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": [
        {"search": {"mode": "outcome"}, "resource": {"resourceType": "OperationOutcome", "id": "w"}},
        {"search": {"mode": "match"}, "resource": stamped("late", "2026-03-01T12:00:00+01:00")},
        {"search": {"mode": "include"}, "resource": stamped("included", "2026-03-01T10:00:00Z")},
        {"resource": stamped("early", "2026-03-01T10:30:00Z")},
    ]});
    let script = Script::start(move |_| fhir(200, &bundle)).await;
    let changes = walk(&open_client(&script.base_url(), &Flavour::GENERIC), &patient(), None).await.unwrap();
    let ids: Vec<_> = changes.iter().map(|change| change.id.as_str()).collect();
    assert_eq!(ids, ["early", "late"]);

    let server = server(Behaviour { search_warning: true, ..Behaviour::default() }).await;
    fill(&server, 5);
    assert_complete(&server, &walk(&client(&server, &Flavour::GENERIC, 20, &clock()), &patient(), None).await.unwrap());
}

#[tokio::test]
async fn one_bad_row_does_not_stop_the_others() {
    let bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": [
        {"resource": stamped("good", "2026-03-01T10:00:00Z")},
        {"resource": {"resourceType": "Patient", "id": "undated", "meta": {"versionId": "3"}}},
        {"resource": stamped("garbled", "yesterday")},
        {"resource": {"resourceType": "Patient", "meta": {"versionId": "3"}}},
        {"resource": stamped("not an id", "2026-03-01T10:00:00Z")},
        {"resource": {"resourceType": "Observation", "id": "o1"}},
        {},
    ]});
    let script = Script::start(move |_| with(fhir(200, &bundle), "date", "Mon, 02 Mar 2026 07:59:58 GMT")).await;
    let page = open_client(&script.base_url(), &Flavour::GENERIC).changes(&patient(), None, None).await.unwrap();
    let server_time = at("2026-03-02T07:59:58Z");
    assert_eq!(page.server_time, Some(server_time));
    let rows: Vec<_> =
        page.changes.iter().map(|row| (row.id.as_str(), row.version.as_str(), row.last_updated)).collect();
    let expected =
        [("good", "1", at("2026-03-01T10:00:00Z")), ("garbled", "1", server_time), ("undated", "3", server_time)];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn the_time_is_the_server_s_own() {
    let server = server(Behaviour::default()).await;
    fill(&server, 1);
    for skew in [-120, 120] {
        server.control().skew(SignedDuration::from_secs(skew));
        let page = client(&server, &Flavour::GENERIC, 20, &clock()).changes(&patient(), None, None).await.unwrap();
        let off = server.control().now().duration_since(page.server_time.unwrap());
        assert!(off >= SignedDuration::ZERO && off < SignedDuration::from_secs(5), "{off}");
    }
    let bundle = json!({"resourceType": "Bundle", "meta": {"lastUpdated": "2026-03-02T07:00:00.5Z"}});
    let script = Script::start(move |_| with(fhir(200, &bundle), "date", "sometime")).await;
    let page = open_client(&script.base_url(), &Flavour::GENERIC).changes(&patient(), None, None).await.unwrap();
    assert_eq!(page.server_time, Some(at("2026-03-02T07:00:00.5Z")));
}

#[tokio::test]
async fn without_versions_the_whole_content_tells_them_apart() {
    let whole = |active: bool| json!({"resourceType": "Patient", "id": "p1", "meta": {"lastUpdated": "2026-03-01T10:00:00Z"}, "active": active});
    let changed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let state = changed.clone();
    let script = Script::start(move |asked| {
        let mut resource = whole(state.load(std::sync::atomic::Ordering::Relaxed));
        if asked.path.ends_with("/p1") {
            return fhir(200, &resource);
        }
        if asked.parameters.contains_key("_elements") {
            resource.as_object_mut().unwrap().remove("active");
        }
        fhir(200, &json!({"resourceType": "Bundle", "entry": [{"resource": resource}]}))
    });
    let script = script.await;
    let client = open_client(&script.base_url(), &Flavour::GENERIC);
    let first = walk(&client, &patient(), None).await.unwrap();
    let Ok(Read::Found(found)) = client.read(&patient(), &id("p1")).await else { panic!("not read") };
    assert_eq!(first[0].version, found.version);
    // Changed within the same second.
    changed.store(true, std::sync::atomic::Ordering::Relaxed);
    let second = walk(&client, &patient(), None).await.unwrap();
    assert_ne!(first[0].version, second[0].version);
    let searches = script.asked().iter().filter(|asked| asked.path.ends_with("Patient")).count();
    assert_eq!(searches, 3, "the lesson is learnt once");
}

#[tokio::test]
async fn a_token_of_nobody_s_making_is_refused_and_a_probe_needs_a_sign_in() {
    let server = server(Behaviour::default()).await;
    let client = client(&server, &Flavour::GENERIC, 20, &clock());
    let fault = client.changes(&patient(), None, Some(&PageToken("x".into()))).await.unwrap_err();
    assert_eq!(fault.code, Code::Unexpected);
    client.probe().await.unwrap();
    // The capability statement is open to all; the probe is not fooled by it.
    let nobody = open_client(server.base_url(), &Flavour::GENERIC).probe().await.unwrap_err();
    assert_eq!((nobody.class, nobody.code), (Class::Stop, Code::SignInRefused));
    assert_eq!(nobody.subject.as_deref(), Some("Patient"));
    let none_yet = walk(&client, &kind("Observation"), None).await.unwrap();
    assert!(none_yet.is_empty());
}
