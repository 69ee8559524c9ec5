//! Listening at a WebSocket for what a server tells by itself (Medplum, docs/subscriptions/websockets): one socket, one
//! subscription for each mapped type, made for the occasion.
//!
//! What is heard is a type and an id; whoever forges or repeats a message causes a read. Nothing is queued while nobody listens and
//! gaps cannot be seen, so the poll stays the truth: a socket makes a change arrive sooner, and is never what it depends on.

use std::{future::Future, sync::Arc, time::Duration};

use engine::{
    chance::Chance,
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
    retry::Backoff,
};
use futures::{SinkExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use reqwest::{
    StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};
use url::Url;

use super::{Asking, Call, FhirClient, outcome::Asked};
use crate::adapters::transport::{self, NoAnswer};

/// Between two signs of life that we ask for.
const PING: Duration = Duration::from_secs(30);
/// Without any sign of life for so long, the socket is taken for dead. Some networks drop one without telling.
const SILENCE: Duration = Duration::from_secs(75);
/// How long a connection may take to come about, with everything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens are exchanged so long before their end.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// How long a subscription may outlive us on a server that keeps it.
const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// After a socket that held so long, the next attempt is a first one again.
const HELD: Duration = Duration::from_secs(60);

const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), most: Duration::from_secs(300) };

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// These may have changed.
    Changed(Vec<(ResourceType, ResourceId)>),
    /// Nothing, but the server is there.
    Alive,
    /// A token was refused.
    Refused,
}

/// A subscription of ours, while the socket holds.
struct Bound {
    token: String,
    ends: Option<Timestamp>,
}

/// Listens until the future is dropped; whatever ends a socket, another is tried after a while, with full jitter so that not all
/// stations come back at once. `heard` is called for each change of one of the types.
pub async fn listen<F: Future<Output = ()>>(
    client: Arc<FhirClient>,
    types: Vec<ResourceType>,
    chance: Arc<Chance>,
    heard: impl Fn(ResourceType, ResourceId) -> F,
) {
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let mut subscriptions = Vec::new();
        let fault = client.converse(&types, &mut subscriptions, &heard).await;
        for id in &subscriptions {
            client.unsubscribe(id).await;
        }
        if begun.elapsed() >= HELD {
            attempts = 0;
        }
        // What a person must mend is tried at the longest interval only.
        if fault.class == Class::Stop {
            attempts = u32::MAX;
        }
        let wait = BACKOFF.after(attempts, &chance);
        tracing::info!(code = %fault.code, vendor = fault.vendor, ?wait, "the server's own announcements are not heard; polling goes on");
        attempts = attempts.saturating_add(1);
        sleep(wait).await;
    }
}

impl FhirClient {
    /// One socket, from its making to its end. `subscriptions` gets what was made for it.
    async fn converse<F: Future<Output = ()>>(
        &self,
        types: &[ResourceType],
        subscriptions: &mut Vec<ResourceId>,
        heard: &impl Fn(ResourceType, ResourceId) -> F,
    ) -> Fault {
        match self.try_converse(types, subscriptions, heard).await {
            Ok(()) => Fault::new(Class::Retry, Code::NotAnswering).vendor("the socket was closed"),
            Err(fault) => fault,
        }
    }

    async fn try_converse<F: Future<Output = ()>>(
        &self,
        types: &[ResourceType],
        subscriptions: &mut Vec<ResourceId>,
        heard: &impl Fn(ResourceType, ResourceId) -> F,
    ) -> Result<(), Fault> {
        for r#type in types {
            let end = self.clock.now().saturating_add(LIFE).unwrap_or(Timestamp::MAX);
            subscriptions.push(
                self.subscribe(&json!({
                    "resourceType": "Subscription",
                    "status": "active",
                    "reason": "Chart Relay",
                    "criteria": r#type.as_str(),
                    "end": format!("{end:.0}"),
                    "channel": {"type": "websocket", "payload": "application/fhir+json"},
                }))
                .await?,
            );
        }
        let mut place = None;
        let mut bound = Vec::new();
        for id in subscriptions.iter() {
            let (token, at) = self.bind(id).await?;
            bound.push(token);
            place = Some(at);
        }
        let Some(place) = place else { return Err(Fault::new(Class::Stop, Code::NotMapped)) };
        let mut socket = timeout(PATIENCE, self.open(place)).await.map_err(|_| silent())??;
        let binding = |token: &str| text(&json!({"type": "bind-with-token", "payload": {"token": token}}));
        for token in &bound {
            socket.send(binding(&token.token)).await.map_err(|_| closed())?;
        }
        let (mut ping, mut last) = (interval(PING), Instant::now());
        loop {
            tokio::select! {
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return Err(closed()) };
                    last = Instant::now();
                    match message {
                        Message::Text(text) => match said(&text, types) {
                            Said::Changed(all) => for (r#type, id) in all { heard(r#type, id).await },
                            Said::Alive => {}
                            Said::Refused => return Err(Fault::new(Class::Retry, Code::SignInRefused).vendor("a token was refused")),
                        },
                        Message::Close(_) => return Ok(()),
                        _ => {}
                    }
                }
                _ = ping.tick() => {
                    if last.elapsed() > SILENCE {
                        return Err(silent());
                    }
                    let now = self.clock.now();
                    for (place, id) in subscriptions.iter().enumerate() {
                        if bound[place].ends.is_some_and(|ends| ends.duration_since(now) < MARGIN) {
                            bound[place] = self.bind(id).await?.0;
                            socket.send(binding(&bound[place].token)).await.map_err(|_| closed())?;
                        }
                    }
                    socket.send(text(&json!({"type": "ping"}))).await.map_err(|_| closed())?;
                }
            }
        }
    }

    /// A token for a subscription, and where it is to be shown.
    async fn bind(&self, id: &ResourceId) -> Result<(Bound, Url), Fault> {
        let url = self.url(&format!("Subscription/{id}/$get-ws-binding-token"))?;
        let answer = self.call(&Call::Get(url), Asking::WORK).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.fault(Asked::Search, self.clock.now()));
        }
        let parameters = answer.json()?;
        let value = |name: &str| {
            let all = parameters["parameter"].as_array()?;
            let one = all.iter().find(|one| one["name"] == name)?.as_object()?;
            one.iter().find(|(member, _)| member.starts_with("value"))?.1.as_str().map(str::to_owned)
        };
        let bad = || Fault::new(Class::Stop, Code::BadAnswer).vendor("no token or address for a WebSocket");
        let (token, place) = value("token").zip(value("websocket-url")).ok_or_else(bad)?;
        // The token goes to the configured server and nowhere else, and in the open only on this machine.
        let mut place = Url::parse(&place).map_err(|_| bad())?;
        let scheme = match place.scheme() {
            "wss" | "https" => "https",
            _ => "http",
        };
        place.set_scheme(scheme).map_err(|()| bad())?;
        if place.origin() != self.base.origin() {
            return Err(Fault::new(Class::Stop, Code::Rejected).vendor("the WebSocket is on another server"));
        }
        Ok((Bound { token, ends: value("expiration").and_then(|text| text.parse().ok()) }, place))
    }

    /// Opens the socket (RFC 6455 section 4.1) with the trust of every other call.
    async fn open(&self, place: Url) -> Result<WebSocketStream<reqwest::Upgraded>, Fault> {
        let http = transport::build(transport::client(&self.base, &self.trust)?.http1_only())?;
        let key = generate_key();
        let request = http
            .get(place)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(|error| NoAnswer::of(&error).fault())?;
        let status = response.status().as_u16();
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|accept| accept.as_bytes().to_vec());
        if status != 101 || accepted != Some(derive_accept_key(key.as_bytes()).into_bytes()) {
            return Err(Fault::new(Class::Stop, Code::Rejected).vendor(format!("HTTP {status} to a WebSocket")));
        }
        let upgraded = response.upgrade().await.map_err(|_| closed())?;
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
    }
}

fn closed() -> Fault {
    Fault::new(Class::Retry, Code::NotAnswering).vendor("the socket broke off")
}

fn silent() -> Fault {
    Fault::new(Class::Retry, Code::TimedOut).vendor("the socket fell silent")
}

fn text(json: &Json) -> Message {
    Message::Text(Utf8Bytes::from(json.to_string()))
}

/// Reads a message: a Bundle whose first entry is a SubscriptionStatus, and then what changed. Only types and ids are taken
/// out of it, and of the types only those that were asked for.
fn said(text: &str, types: &[ResourceType]) -> Said {
    let Ok(message) = serde_json::from_str::<Json>(text) else { return Said::Alive };
    match message["resourceType"].as_str() {
        Some("OperationOutcome") => return Said::Refused,
        Some("Bundle") => {}
        _ => return Said::Alive,
    }
    let known = |r#type: &str, id: &str| {
        let r#type = types.iter().find(|known| known.as_str() == r#type)?;
        Some((r#type.clone(), ResourceId::new(id).ok()?))
    };
    let mut changed = Vec::new();
    for resource in message["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]) {
        let events = resource["notificationEvent"].as_array().into_iter().flatten();
        for reference in events.filter_map(|event| event["focus"]["reference"].as_str()) {
            changed.extend(reference.rsplit_once('/').and_then(|(before, id)| known(before.rsplit('/').next()?, id)));
        }
        let (r#type, id) = (resource["resourceType"].as_str(), resource["id"].as_str());
        changed.extend(r#type.zip(id).and_then(|(r#type, id)| known(r#type, id)));
    }
    changed.sort();
    changed.dedup();
    if changed.is_empty() { Said::Alive } else { Said::Changed(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_message_only_types_and_ids_are_taken() {
        let types = ["Patient", "Observation"].map(|name| ResourceType::new(name).unwrap());
        let status = |kind: &str| json!({"resource": {"resourceType": "SubscriptionStatus", "id": "s-1", "type": kind, "notificationEvent": [{"eventNumber": "0", "focus": {"reference": "Patient/p-2"}}]}});
        let bundle = |entries: Json| json!({"resourceType": "Bundle", "type": "history", "entry": entries}).to_string();
        let patient =
            json!({"resource": {"resourceType": "Patient", "id": "p-1", "name": [{"family": "Testpatient"}]}});
        let key = |name: &str, id: &str| (ResourceType::new(name).unwrap(), ResourceId::new(id).unwrap());
        for (message, expected) in [
            (
                bundle(json!([status("event-notification"), patient])),
                Said::Changed(vec![key("Patient", "p-1"), key("Patient", "p-2")]),
            ),
            (bundle(json!([{"resource": {"resourceType": "SubscriptionStatus", "type": "heartbeat"}}])), Said::Alive),
            // Not asked for, and no id.
            (bundle(json!([{"resource": {"resourceType": "Practitioner", "id": "x"}}])), Said::Alive),
            (bundle(json!([{"resource": {"resourceType": "Patient", "id": "../../metadata"}}])), Said::Alive),
            (bundle(json!({"resource": 1})), Said::Alive),
            (json!({"type": "pong"}).to_string(), Said::Alive),
            (json!({"resourceType": "OperationOutcome"}).to_string(), Said::Refused),
            ("no JSON".into(), Said::Alive),
            ("[]".into(), Said::Alive),
        ] {
            assert_eq!(said(&message, &types), expected, "{message}");
        }
    }
}
