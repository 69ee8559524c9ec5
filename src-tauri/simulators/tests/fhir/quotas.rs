//! Quotas of a key, and what was asked under it.

use jiff::SignedDuration;
use reqwest::Method;
use simulators::fhir::{Counting, Fault, Interaction, Matching, RateLimit, RateLimitHeader, RetryAfter, Times};

use crate::caller::{Caller, patient};

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

async fn limited(limit: RateLimit) -> Caller {
    let caller = Caller::new().await;
    caller.fill(1);
    caller.control.freeze("2026-03-01T08:00:50Z".parse().unwrap());
    caller.control.configure(|behaviour| behaviour.rate_limit = Some(limit));
    caller
}

async fn statuses(caller: &Caller, calls: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        statuses.push(caller.get("Patient/p0").await.status);
    }
    statuses
}

#[tokio::test]
async fn a_calendar_window_begins_with_the_minute_of_the_server() {
    let caller = limited(RateLimit::calendar(2, MINUTE)).await;
    assert_eq!(statuses(&caller, 3).await, [200, 200, 429]);
    let refused = caller.get("Patient/p0").await;
    assert_eq!((refused.header("ratelimit"), refused.header("retry-after")), ("", ""), "it tells nothing");
    caller.control.advance(SignedDuration::from_secs(10));
    assert_eq!(statuses(&caller, 3).await, [200, 200, 429], "a new minute, ten seconds later");
    let key = "chart-relay";
    assert_eq!(caller.control.keys(), [key]);
    assert_eq!(caller.control.refused(key), 3);
    assert_eq!(caller.control.asked(key).len(), 7);
    assert_eq!(caller.control.most_asked(key, MINUTE, Counting::Calendar), 4);
    assert_eq!(caller.control.most_asked(key, MINUTE, Counting::Sliding), 7);
    assert_eq!(caller.control.most_asked(key, SignedDuration::from_secs(10), Counting::Sliding), 4);
}

#[tokio::test]
async fn a_sliding_window_lies_everywhere() {
    let mut limit = RateLimit::sliding(2, MINUTE);
    limit.header = RateLimitHeader::One;
    limit.retry_after = RetryAfter::Seconds(0);
    let caller = limited(limit).await;
    assert_eq!(caller.get("Patient/p0").await.header("ratelimit"), r#""requests";r=1;t=60"#);
    caller.control.advance(SignedDuration::from_secs(30));
    assert_eq!(statuses(&caller, 1).await, [200]);
    caller.control.advance(SignedDuration::from_secs(20));
    let refused = caller.get("Patient/p0").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "10"));
    caller.control.advance(SignedDuration::from_secs(10));
    assert_eq!(statuses(&caller, 2).await, [200, 429], "one left the window");
    caller.control.configure(|behaviour| {
        behaviour.rate_limit.as_mut().unwrap().retry_after = RetryAfter::HttpDate(0);
    });
    assert_eq!(caller.get("Patient/p0").await.header("retry-after"), "Sun, 01 Mar 2026 08:02:20 GMT");
}

#[tokio::test]
async fn each_key_has_its_own() {
    let caller = limited(RateLimit::calendar(1, MINUTE)).await;
    let with = async |key: &str| {
        let request = caller.request(Method::GET, "Patient/p0").header("x-api-key", key);
        Caller::send(request).await.status
    };
    assert_eq!((with("one").await, with("one").await, with("two").await), (200, 429, 200));
    assert_eq!(caller.control.keys(), ["chart-relay", "one", "two"], "the first for signing in");
    caller.control.reset_tally();
    assert_eq!(caller.control.asked("one").len(), 0);
    assert_eq!(with("one").await, 429, "the quota is not forgotten");
}

#[tokio::test]
async fn an_answer_may_be_bulky_or_of_the_wrong_shape() {
    use simulators::fhir::Wrong;
    let caller = Caller::new().await;
    caller.fill(2);
    caller.control.inject(Fault::Bulk(50 << 20), Matching::only(Interaction::Search), Times::Next(1));
    let bulky = caller.get("Patient").await;
    assert!(bulky.text.len() > 50 << 20);
    assert_eq!(bulky.ids().len(), 2);
    let wrong = async |wrong: Wrong| {
        caller.control.inject(Fault::Wrong(wrong), Matching::any(), Times::Next(1));
        caller.get("Patient").await.json()
    };
    assert_eq!(wrong(Wrong::Resource).await["resourceType"], "Basic");
    assert!(wrong(Wrong::Entry).await["entry"].is_object());
    assert!(wrong(Wrong::Id).await["entry"][1]["resource"]["id"].is_number());
    assert!(wrong(Wrong::Stamp).await["entry"][0]["resource"]["meta"]["lastUpdated"].is_number());
    assert_eq!(wrong(Wrong::StampWord).await["entry"][0]["resource"]["meta"]["lastUpdated"], "yesterday");
    assert!(wrong(Wrong::Status).await["entry"][0]["resource"]["status"].is_array());
    assert!(wrong(Wrong::References).await["entry"][0]["resource"]["subject"].is_number());
    caller.control.inject(Fault::Wrong(Wrong::Id), Matching::any(), Times::Next(1));
    assert!(caller.get("Patient/p0").await.json()["id"].is_number());
}

#[tokio::test]
async fn next_links_may_go_in_a_circle() {
    let caller = Caller::new().await;
    caller.control.put(patient("a")).unwrap();
    caller.control.put(patient("b")).unwrap();
    caller.control.inject(Fault::NextInCircle, Matching::only(Interaction::NextPage), Times::Always);
    let first = caller.get("Patient?_count=1").await;
    let second = caller.get(&first.link("next").unwrap()).await;
    assert_eq!(second.ids(), ["b"]);
    let third = caller.get(&second.link("next").unwrap()).await;
    assert_eq!(third.ids(), ["a"], "the first once more");
    assert_eq!(third.link("next"), second.link("next"));
}
