//! The state of the server, and what happens to a call between its arrival and its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

use super::auth::{Auth, Standing, Terms};
use super::behaviour::Behaviour;
use super::pages::Pages;
use super::sockets::{self, Announced};
use crate::listen::Outcome;
use crate::rest::call::{Call, Line};
use crate::rest::fault::{Interaction, Struck};
use crate::rest::front::Front;
use crate::rest::quota::RateLimit;
use crate::rest::reply::Reply;
use crate::rest::sigv4::AwsKey;
use crate::rest::store::Store;
use crate::rest::{Inside, Server};

/// Changes a resource as it is stored: a server that does not keep what it was sent.
pub(super) type Rewrite = Box<dyn Fn(&mut Value) + Send>;

/// Who is let in.
pub(super) enum Admission {
    Anybody,
    /// Whoever has a token.
    Token,
    /// Whoever signs with this key.
    Signed(AwsKey),
}

#[allow(missing_debug_implementations, reason = "sealed: it cannot be named outside")]
pub struct World {
    pub(super) front: Front,
    /// Path of the FHIR base.
    pub(super) path: String,
    pub(super) base: String,
    pub(super) admission: Admission,
    pub(super) behaviour: Behaviour,
    pub(super) store: Store,
    pub(super) auth: Auth,
    pub(super) pages: Pages,
    /// From a binding token to its subscription.
    pub(super) binding_tokens: BTreeMap<String, String>,
    pub(super) announcements: broadcast::Sender<Announced>,
    pub(super) rewrite: Option<Rewrite>,
}

impl World {
    pub(super) fn new(front: Front, path: String, admission: Admission, auth: Auth, behaviour: Behaviour) -> Self {
        Self {
            front,
            path,
            base: String::new(),
            admission,
            behaviour,
            store: Store::default(),
            auth,
            pages: Pages::default(),
            binding_tokens: BTreeMap::new(),
            announcements: broadcast::Sender::new(1024),
            rewrite: None,
        }
    }
}

impl Server for World {
    fn front(&mut self) -> &mut Front {
        &mut self.front
    }

    fn understand(&self, line: Line, headers: HeaderMap, body: Bytes) -> Call {
        self.call(line, headers, body)
    }

    fn latency(&self) -> Duration {
        self.behaviour.latency
    }

    /// The API key where one is sent, else the one client that there is.
    fn quota(&self, call: &Call) -> Option<(String, Option<RateLimit>)> {
        let key = call.header("x-api-key").unwrap_or(self.auth.client_id());
        Some((key.to_owned(), self.behaviour.rate_limit.clone()))
    }

    fn settle(&mut self, now: Timestamp) {
        self.store.settle(now);
    }

    fn expire_tokens(&mut self) {
        self.auth.expire_all();
    }

    fn cut_sockets(&mut self) {
        // Whether anybody listens does not matter.
        let _ = self.announcements.send(Announced::Cut);
    }

    fn carry_out(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply {
        if let Admission::Signed(key) = &self.admission
            && let Err(refusal) = key.check(call, now)
        {
            return refusal;
        }
        match call.interaction {
            Interaction::Token => {
                let (life, refresh) = (self.behaviour.token_life, self.behaviour.refresh);
                let terms = Terms { url: self.token_url(), life, refresh, now };
                let kind = call.header("content-type").unwrap_or_default();
                self.auth.token(kind, call.header("authorization"), &call.body, &terms, &mut self.front.chance)
            }
            Interaction::Capabilities => self.capabilities(call, now),
            _ => {
                let standing = match self.admission {
                    Admission::Token => self.auth.standing(call.header("authorization"), now),
                    Admission::Anybody | Admission::Signed(_) => Standing::Valid,
                };
                match standing {
                    Standing::Valid => self.interact(call, struck, now),
                    Standing::Missing => Reply::unauthorized(false),
                    Standing::Expired => Reply::unauthorized(true),
                }
            }
        }
    }

    fn is_socket(request: &Request<Body>) -> bool {
        sockets::is_one(request)
    }

    fn socket(inside: Arc<Inside<Self>>, request: Request<Body>) -> Outcome {
        sockets::open(inside, request)
    }
}
