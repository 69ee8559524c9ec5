//! Tokens, keys and rights.

use jiff::SignedDuration;
use reqwest::Method;
use simulators::ehr::{Interaction, Refresh};

use crate::caller::{Answer, Caller, KEY, encounter};

#[tokio::test]
async fn client_credentials_give_a_firm_a_token_of_fifteen_minutes() {
    let caller = Caller::new().await;
    let granted = caller.token("relay-north", "synthetic-secret-north").await.json();
    assert_eq!(granted["expires_in"], 900);
    assert!(granted["refresh_token"].is_null());
    assert_eq!(granted["access_token"].as_str().unwrap().split('.').count(), 3);
    let refused = caller.token("relay-north", "synthetic-secret-south").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("unauthorized_client")));
    assert_eq!(caller.token("nobody", "guess").await.status, 401);
    assert_eq!(caller.control.keys(), [""; 0], "single sign-on knows no keys");
    assert_eq!(caller.get("Encounter").await.status, 200);
    caller.control.advance(SignedDuration::from_secs(901));
    assert_eq!(caller.get("Encounter").await.status, 401);
}

#[tokio::test]
async fn the_older_grant_takes_a_password_and_a_refresh_token() {
    let caller = Caller::new().await;
    let ask = async |firm: &str, form: &[(&str, &str)], key: &str| {
        let request = caller.http.post(caller.server.grant_url(firm)).header("x-api-key", key).form(form);
        Answer::of(request.send().await.unwrap()).await
    };
    let password = [("grant_type", "password"), ("username", "fhir_north"), ("password", "synthetic-password-north")];
    assert_eq!(ask("north", &password, "guess").await.status, 403);
    assert_eq!(ask("south", &password, KEY).await.status, 401);
    let granted = ask("north", &password, KEY).await.json();
    assert_eq!(granted["scope"], "north");
    let first = granted["refresh_token"].as_str().unwrap().to_owned();
    let refresh =
        async |token: &str| ask("north", &[("grant_type", "refresh_token"), ("refresh_token", token)], KEY).await;
    let second = refresh(&first).await.json();
    assert_eq!(second["refresh_token"], first, "it is used again");
    let token = second["access_token"].as_str().unwrap();
    let address = format!("{}/Encounter", caller.server.base_url("north"));
    let read = caller.http.get(address).bearer_auth(token).header("x-api-key", KEY);
    assert_eq!(Caller::send(read).await.status, 200);
    caller.control.configure(|behaviour| behaviour.refresh = Refresh::Rotates);
    let third = refresh(&first).await.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(third, first);
    assert_eq!(caller.north().refresh_token(), Some(third.clone()));
    assert_eq!(refresh(&first).await.status, 401);
    assert_eq!(refresh(&third).await.status, 200);
    assert_eq!(caller.control.asked(KEY).len(), 7, "this one is counted by the gateway");
    assert_eq!(caller.control.tally().of(Interaction::Token), 7);
}

#[tokio::test]
async fn who_is_refused_and_how() {
    let caller = Caller::new().await;
    caller.north().put(encounter("1", "arrived")).unwrap();
    let address = format!("{}/Encounter/1", caller.server.base_url("north"));
    let granted = caller.token("relay-north", "synthetic-secret-north").await.json();
    let token = granted["access_token"].as_str().unwrap();
    let ask = async |key: Option<&str>, token: Option<&str>, address: &str| {
        let mut request = caller.http.request(Method::GET, address);
        request = key.into_iter().fold(request, |request, key| request.header("x-api-key", key));
        request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        Caller::send(request).await
    };
    assert_eq!(ask(Some(KEY), Some(token), &address).await.status, 200);
    let without_key = ask(None, Some(token), &address).await;
    assert_eq!((without_key.status, without_key.text.as_str()), (403, r#"{"message":"Forbidden"}"#));
    assert_eq!(ask(Some("guess"), Some(token), &address).await.status, 403);
    assert_eq!(ask(Some(KEY), None, &address).await.status, 401);
    assert_eq!(ask(Some(KEY), Some(token), &address.replace("north", "south")).await.status, 401, "another firm's");
    assert_eq!(ask(Some(KEY), Some(token), &address.replace("north", "nobody")).await.status, 404);
    assert_eq!(caller.get("Encounter/2").await.status, 404);
    assert_eq!(caller.get("Appointment").await.status, 404);
    assert_eq!(caller.get("nonsense").await.status, 404);
    caller.control.configure(|behaviour| behaviour.denied = ["Encounter".into()].into());
    assert_eq!(ask(Some(KEY), Some(token), &address).await.status, 403);
    assert_eq!(caller.get("metadata").await.json()["fhirVersion"], "4.0.1");
    caller.control.configure(|behaviour| behaviour.metadata = false);
    assert_eq!(caller.get("metadata").await.status, 404);
}
