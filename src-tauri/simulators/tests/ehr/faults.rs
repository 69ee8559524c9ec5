//! Faults: those of the FHIR simulator, on this one's pages and firms.

use jiff::SignedDuration;
use reqwest::Method;
use simulators::ehr::{Fault, Interaction, Matching, RetryAfter, Times, Wrong};

use crate::caller::{Caller, encounter};

async fn with_encounters(count: usize) -> Caller {
    let caller = Caller::new().await;
    for number in 0..count {
        caller.north().put(encounter(&number.to_string(), "arrived")).unwrap();
    }
    caller
}

#[tokio::test]
async fn pages_may_repeat_skip_expire_circle_and_lead_elsewhere() {
    let caller = with_encounters(4).await;
    let further = Matching::only(Interaction::NextPage);
    let overlap = caller.control.inject(Fault::PageOverlap, further.clone(), Times::Always);
    assert_eq!(caller.walk("Encounter?_count=2").await, [vec!["0", "1"], vec!["1", "2"], vec!["3"]]);
    caller.control.clear(overlap);
    caller.control.inject(Fault::PageSkip, further.clone(), Times::Next(1));
    assert_eq!(caller.walk("Encounter?_count=2").await, [vec!["0", "1"], vec!["3"]]);
    caller.control.inject(Fault::PageExpired, further, Times::Next(1));
    let next = caller.get("Encounter?_count=2").await.link("next").unwrap();
    assert_eq!(caller.get(&next).await.status, 410);
    assert_eq!(caller.get(&next).await.status, 200);
    caller.control.inject(Fault::NextInCircle, Matching::any(), Times::Next(1));
    let circle = caller.get("Encounter?_count=2&page=2").await.link("next").unwrap();
    assert_eq!(caller.get(&circle).await.ids(), ["0", "1"]);
    caller.control.inject(Fault::NextElsewhere("http://elsewhere.example.org".into()), Matching::any(), Times::Next(1));
    let elsewhere = caller.get("Encounter").await.link("next").unwrap();
    assert!(elsewhere.starts_with("http://elsewhere.example.org/Encounter?"), "{elsewhere}");
}

#[tokio::test]
async fn a_fault_may_strike_one_firm_only() {
    let caller = with_encounters(1).await;
    let north = Matching::any().firm("north");
    caller.control.inject(Fault::unavailable(RetryAfter::Absent), north, Times::Always);
    assert_eq!(caller.get("Encounter").await.status, 503);
    let south = Caller::send(caller.request(Method::GET, "south", "Encounter")).await;
    assert_eq!(south.status, 200);
}

#[tokio::test]
async fn answers_may_be_pages_of_a_proxy_halves_bulky_or_wrong() {
    let caller = with_encounters(2).await;
    let strike = |fault: Fault| caller.control.inject(fault, Matching::any(), Times::Next(1));
    strike(Fault::html_bad_gateway());
    assert_eq!(caller.get("Encounter").await.header("content-type"), "text/html");
    strike(Fault::Truncate);
    assert!(serde_json::from_str::<serde_json::Value>(&caller.get("Encounter").await.text).is_err());
    strike(Fault::Bulk(50 << 20));
    assert!(caller.get("Encounter").await.text.len() > 50 << 20);
    strike(Fault::Wrong(Wrong::Stamp));
    assert!(caller.get("Encounter").await.json()["entry"][0]["resource"]["meta"]["lastUpdated"].is_number());
    strike(Fault::throttled(RetryAfter::HttpDate(30)));
    assert_eq!(caller.get("Encounter").await.status, 429);
    strike(Fault::ExpireTokens);
    assert_eq!(caller.get("Encounter").await.status, 401);
}

#[tokio::test]
async fn clocks_differ_bursts_tie_and_servers_go_away() {
    let caller = with_encounters(0).await;
    let before = caller.control.now();
    caller.control.skew(SignedDuration::from_secs(120));
    assert!(caller.control.now() >= before + SignedDuration::from_secs(119));
    let told = caller.get("Encounter").await.header("date").to_owned();
    let told = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&told).unwrap();
    assert!(told >= before + SignedDuration::from_secs(118), "the answer is dated by its clock");
    caller.control.freeze("2026-03-01T08:00:00.4Z".parse().unwrap());
    let stamps: Vec<_> =
        (0..5).map(|id| caller.north().put(encounter(&id.to_string(), "arrived")).unwrap().last_updated).collect();
    assert!(stamps.iter().all(|stamp| *stamp == "2026-03-01T08:00:00Z".parse().unwrap()));
    let future = caller.north().put_stamped(encounter("9", "arrived"), "2036-01-01T00:00:00Z".parse().unwrap());
    assert!(future.unwrap().last_updated > caller.control.now());
    caller.control.go_away().await;
    assert!(caller.request(Method::GET, "north", "Encounter").send().await.unwrap_err().is_connect());
    caller.control.come_back().await;
    assert_eq!(caller.get("nonsense").await.status, 404, "it is back");
}
