//! WebSocket subscriptions as on Medplum (FHIR fact sheet 2.12): a binding token for each subscription, one socket for all of them,
//! a Bundle for each change, and nothing kept for whoever is not there.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::world::World;
use crate::listen::Outcome;
use crate::rest::Inside;
use crate::rest::reply::Reply;
use crate::rest::store::instant;

/// Path of the socket.
const PATH: &str = "/ws/subscriptions-r4";

/// What goes out to the sockets.
#[derive(Clone)]
pub(super) enum Announced {
    /// A resource was written.
    Written(Value),
    /// These words, whatever they are.
    Words(String),
    /// Every socket breaks off.
    Cut,
}

pub(super) fn is_one(request: &Request<Body>) -> bool {
    request.uri().path() == PATH
}

impl World {
    /// A token by which a socket is bound to a subscription.
    pub(super) fn binding_token(&mut self, id: &str, life: SignedDuration, now: Timestamp) -> Result<Reply, Reply> {
        let subscription = self.store.latest("Subscription", id).and_then(|version| version.content.as_ref());
        let kind = subscription.map(|content| content.value["channel"]["type"].clone());
        if kind != Some(json!("websocket")) {
            return Err(Reply::not_found());
        }
        let token = self.front.uuid();
        self.binding_tokens.insert(token.clone(), id.to_owned());
        let origin = self.origin().replacen("http", "ws", 1);
        let ends = now.checked_add(life).unwrap_or(now);
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "token", "valueString": token},
            {"name": "expiration", "valueDateTime": instant(ends, true)},
            {"name": "subscription", "valueString": id},
            {"name": "websocket-url", "valueUrl": format!("{origin}{PATH}")},
        ]});
        Ok(Reply::fhir(200, parameters.to_string()))
    }

    /// The type that a token's subscription is for.
    fn bound_to(&self, token: &str) -> Option<(String, String)> {
        let id = self.binding_tokens.get(token)?;
        let subscription = &self.store.latest("Subscription", id)?.content.as_ref()?.value;
        let criteria = subscription["criteria"].as_str()?;
        Some((id.clone(), criteria.split('?').next().unwrap_or(criteria).to_owned()))
    }
}

/// Answers the opening of a socket (RFC 6455 section 4.2.2) and serves it.
pub(super) fn open(inside: Arc<Inside<World>>, mut request: Request<Body>) -> Outcome {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return Outcome::HangUp;
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            serve(&inside, WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await).await;
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty());
    answer.map_or(Outcome::HangUp, Outcome::Reply)
}

async fn serve(inside: &Inside<World>, mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    let mut announced = inside.act(|world| world.announcements.subscribe());
    let mut bound: Vec<(String, String)> = Vec::new();
    loop {
        let answers = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => answer(inside, &text, &mut bound),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                _ => break,
            },
            announced = announced.recv() => match announced {
                Ok(Announced::Written(resource)) => bound
                    .iter()
                    .filter(|(_, kind)| resource["resourceType"] == kind.as_str())
                    .map(|(id, _)| bundle("event-notification", id, Some(&resource)).to_string())
                    .collect(),
                Ok(Announced::Words(words)) => vec![words],
                Err(RecvError::Lagged(_)) => Vec::new(),
                Ok(Announced::Cut) | Err(RecvError::Closed) => break,
            },
        };
        for answer in answers {
            if socket.send(Message::Text(Utf8Bytes::from(answer))).await.is_err() {
                break;
            }
        }
    }
    inside.count(|world| world.front.tally.bound -= bound.len());
}

fn answer(inside: &Inside<World>, text: &str, bound: &mut Vec<(String, String)>) -> Vec<String> {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    match message["type"].as_str() {
        Some("ping") => vec![json!({"type": "pong"}).to_string()],
        Some("bind-with-token") => {
            let token = message["payload"]["token"].as_str().unwrap_or_default();
            match inside.act(|world| world.bound_to(token)) {
                Some(binding) => {
                    let handshake = bundle("handshake", &binding.0, None).to_string();
                    if !bound.contains(&binding) {
                        bound.push(binding);
                        inside.count(|world| world.front.tally.bound += 1);
                    }
                    vec![handshake]
                }
                None => vec![
                    json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]})
                        .to_string(),
                ],
            }
        }
        _ => Vec::new(),
    }
}

fn bundle(kind: &str, subscription: &str, resource: Option<&Value>) -> Value {
    let status = json!({"resource": {
        "resourceType": "SubscriptionStatus",
        "status": "active",
        "type": kind,
        "subscription": {"reference": format!("Subscription/{subscription}")},
        "notificationEvent": resource.map(|resource| json!([{
            "eventNumber": "0",
            "focus": {"reference": format!("{}/{}", resource["resourceType"].as_str().unwrap_or_default(), resource["id"].as_str().unwrap_or_default())}
        }])),
    }});
    let changed = resource.map(|resource| json!({"resource": resource}));
    let entries: Vec<Value> = [status].into_iter().chain(changed).collect();
    json!({"resourceType": "Bundle", "type": "history", "entry": entries})
}
