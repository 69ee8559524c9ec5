//! One key for all firms: 1 250 calls in a minute of the server's clock, and no header that tells of it.

use jiff::SignedDuration;
use reqwest::Method;
use simulators::ehr::{Counting, RateLimit};

use crate::caller::{Caller, KEY};

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

#[tokio::test]
async fn the_firms_of_a_key_share_its_minute() {
    let caller = Caller::new().await;
    caller.control.freeze(caller.control.now());
    caller.control.configure(|behaviour| {
        let limit = behaviour.rate_limit.as_mut().unwrap();
        assert_eq!((limit.requests, limit.window, limit.counting), (1250, MINUTE, Counting::Calendar));
        limit.requests = 3;
    });
    let of = async |firm: &str| Caller::send(caller.request(Method::GET, firm, "Encounter")).await;
    assert_eq!((of("north").await.status, of("south").await.status, of("north").await.status), (200, 200, 200));
    let refused = of("south").await;
    assert_eq!((refused.status, refused.text.as_str()), (429, r#"{"message":"Too Many Requests"}"#));
    let told: Vec<_> = refused.headers.keys().map(reqwest::header::HeaderName::as_str).collect();
    assert!(!told.iter().any(|name| name.contains("ratelimit") || *name == "retry-after"), "{told:?}");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "relay-north"),
        ("client_secret", "synthetic-secret-north"),
    ];
    let sign_on = caller.http.post(caller.server.token_url()).header("x-api-key", KEY).form(&form);
    assert_eq!(Caller::send(sign_on).await.status, 200, "sign-on is elsewhere, even with the key");
    caller.control.advance(MINUTE);
    assert_eq!(of("south").await.status, 200);
    assert_eq!((caller.control.asked(KEY).len(), caller.control.refused(KEY)), (5, 1));
    assert_eq!(caller.control.most_asked(KEY, MINUTE, Counting::Calendar), 4);
}

#[tokio::test]
async fn it_may_slide_or_be_none() {
    let caller = Caller::new().await;
    caller.control.freeze("2026-03-01T08:00:50Z".parse().unwrap());
    caller.control.configure(|behaviour| behaviour.token_life = SignedDuration::from_hours(1_000_000));
    let server = &caller.server;
    let granted = caller.token("relay-north", "synthetic-secret-north").await.json();
    let address = format!("{}/Encounter", server.base_url("north"));
    let ask = async || {
        let request = caller.http.get(&address).bearer_auth(granted["access_token"].as_str().unwrap());
        Caller::send(request.header("x-api-key", KEY)).await.status
    };
    caller.control.configure(|behaviour| behaviour.rate_limit = Some(RateLimit::sliding(1, MINUTE)));
    assert_eq!((ask().await, ask().await), (200, 429));
    caller.control.advance(SignedDuration::from_secs(15));
    assert_eq!(ask().await, 429, "another minute on the clock, and no minute since");
    caller.control.advance(SignedDuration::from_secs(45));
    assert_eq!(ask().await, 200);
    caller.control.configure(|behaviour| behaviour.rate_limit = None);
    assert_eq!((ask().await, ask().await), (200, 200));
    assert_eq!(caller.control.asked(KEY).len(), 6);
}
