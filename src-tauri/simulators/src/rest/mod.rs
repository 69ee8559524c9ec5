//! What the FHIR servers here are made of: the way of a call from its arrival to its answer, with faults, quotas, a clock and a record of
//! what was asked; resources and their versions; searches. What differs between the servers is theirs ([`Server`]).

pub(crate) mod call;
mod control;
pub(crate) mod fault;
pub(crate) mod front;
pub(crate) mod quota;
pub(crate) mod reply;
pub(crate) mod search;
pub(crate) mod sigv4;
pub(crate) mod store;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

pub use self::control::{Control, NotAResource, Written};

use self::call::{Call, Line};
use self::fault::{Delay, Fault, RetryAfter, Struck};
use self::front::Front;
use self::quota::{Charge, RateLimit, Refusal};
use self::reply::{Reply, http_date};
use crate::listen::{Door, Outcome};

/// The longest body it takes, in bytes.
const LONGEST_BODY: usize = 64 << 20;

/// One kind of server, behind its front.
pub trait Server: Send + Sized + 'static {
    /// What it has in common with the others.
    #[doc(hidden)]
    fn front(&mut self) -> &mut Front;
    /// Says what a request asks, by the server's own paths.
    #[doc(hidden)]
    fn understand(&self, line: Line, headers: HeaderMap, body: axum::body::Bytes) -> Call;
    /// Added to every call, in real time, before it is carried out.
    #[doc(hidden)]
    fn latency(&self) -> Duration;
    /// Whose quota the call counts against, and that quota; `None` where it counts against none.
    #[doc(hidden)]
    fn quota(&self, call: &Call) -> Option<(String, Option<RateLimit>)>;
    /// Publishes what has come due.
    #[doc(hidden)]
    fn settle(&mut self, now: Timestamp);
    /// Every token is at its end.
    #[doc(hidden)]
    fn expire_tokens(&mut self);
    /// Breaks off what is open for long.
    #[doc(hidden)]
    fn cut_sockets(&mut self) {}
    #[doc(hidden)]
    fn carry_out(&mut self, call: &Call, struck: &Struck, now: Timestamp) -> Reply;

    /// A 429 in the server's words, without headers.
    #[doc(hidden)]
    fn refuse(&self, refusal: &Refusal) -> Reply {
        let detail = json!({
            "remainingPoints": 0,
            "msBeforeNext": i64::try_from(refusal.left.as_millis()).unwrap_or(i64::MAX),
            "consumedPoints": refusal.consumed,
            "limit": refusal.limit,
        });
        Reply::outcome(429, "throttled", "Too Many Requests", Some(&detail.to_string()))
    }

    /// Whether this opens a socket, which is no call.
    #[doc(hidden)]
    fn is_socket(_request: &Request<Body>) -> bool {
        false
    }
    #[doc(hidden)]
    fn socket(_inside: Arc<Inside<Self>>, _request: Request<Body>) -> Outcome {
        Outcome::HangUp
    }
}

/// What connections and handles share.
pub struct Inside<S> {
    server: Mutex<S>,
    /// Grows with every call that comes or goes.
    changes: watch::Sender<u64>,
    /// Grows with every [`Control::release`].
    releases: watch::Sender<u64>,
}

impl<S: Server> Inside<S> {
    pub(crate) fn new(server: S) -> Self {
        Self { server: Mutex::new(server), changes: watch::Sender::new(0), releases: watch::Sender::new(0) }
    }

    pub(crate) fn act<T>(&self, action: impl FnOnce(&mut S) -> T) -> T {
        // A test that panicked while it held the lock has failed already; the others may go on.
        action(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count<T>(&self, action: impl FnOnce(&mut S) -> T) -> T {
        let done = self.act(action);
        self.changes.send_modify(|count| *count += 1);
        done
    }

    async fn wait(&self, delay: Delay) {
        match delay {
            Delay::For(time) => tokio::time::sleep(time).await,
            Delay::UntilReleased => {
                // Listening begins before the count goes up, so that whoever saw the count may release.
                let mut releases = self.releases.subscribe();
                self.count(|server| server.front().tally.held += 1);
                // The sender lives in `self`.
                let _ = releases.changed().await;
                self.count(|server| server.front().tally.held -= 1);
            }
        }
    }
}

/// Opens the server's door.
pub(crate) async fn open<S: Server>(
    inside: &Arc<Inside<S>>,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> io::Result<Door> {
    let for_calls = Arc::clone(inside);
    let handler = move |request| handle(Arc::clone(&for_calls), request);
    match tls {
        None => Door::open(handler).await,
        Some(config) => Door::open_tls(handler, config).await,
    }
}

async fn handle<S: Server>(inside: Arc<Inside<S>>, request: Request<Body>) -> Outcome {
    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    let began = Instant::now();
    if S::is_socket(&request) {
        return S::socket(inside, request);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else {
        return Outcome::HangUp;
    };
    let line = Line {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
    };
    let (call, struck, charge, latency) = inside.count(|server| {
        let call = server.understand(line, parts.headers, body);
        let struck = server.front().arrive(&call);
        let now = server.front().clock.now();
        let charge = match server.quota(&call) {
            Some((key, limit)) => server.front().meter.charge(&key, limit.as_ref(), call.interaction, now),
            None => Charge::default(),
        };
        (call, struck, charge, server.latency())
    });
    let reply = respond(&inside, &call, &struck, charge, latency).await;
    let status = reply.as_ref().map(|reply| reply.status);
    inside.count(|server| server.front().leave(&call, status, struck.names(), began.elapsed()));
    match reply {
        Some(reply) => Outcome::Reply(reply.into_response(struck.has(&Fault::CutBody))),
        None => Outcome::HangUp,
    }
}

/// `None` closes the connection.
async fn respond<S: Server>(
    inside: &Inside<S>,
    call: &Call,
    struck: &Struck,
    charge: Charge,
    latency: Duration,
) -> Option<Reply> {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let before = struck.first(|fault| match fault {
        Fault::DelayBefore(delay) => Some(*delay),
        _ => None,
    });
    if let Some(delay) = before {
        inside.wait(delay).await;
    }
    if struck.has(&Fault::HangUpBefore) {
        return None;
    }
    let mut reply = inside.act(|server| answer(server, call, struck, charge));
    let after = struck.first(|fault| match fault {
        Fault::DelayAfter(delay) => Some(*delay),
        _ => None,
    });
    if let Some(delay) = after {
        inside.wait(delay).await;
    }
    if struck.has(&Fault::HangUpAfter) {
        return None;
    }
    let lost = struck.first(|fault| match fault {
        Fault::AnswerAfter(canned) => Some(canned.clone()),
        _ => None,
    });
    if let Some(canned) = lost {
        let now = inside.act(|server| server.front().clock.now());
        reply = Reply::canned(&canned, now);
    }
    struck.spoil(&mut reply);
    Some(reply)
}

/// Carries the call out, unless a fault or a quota answers for it.
fn answer<S: Server>(server: &mut S, call: &Call, struck: &Struck, charge: Charge) -> Reply {
    let now = server.front().clock.now();
    server.settle(now);
    if struck.has(&Fault::ExpireTokens) {
        server.expire_tokens();
    }
    let canned = struck.first(|fault| match fault {
        Fault::Answer(canned) => Some(Reply::canned(canned, now)),
        _ => None,
    });
    let mut reply = match (charge.refusal, canned) {
        (Some(refusal), _) => {
            let mut reply = server.refuse(&refusal);
            let wait = refusal.seconds();
            let form = match refusal.retry_after {
                RetryAfter::Absent => RetryAfter::Absent,
                RetryAfter::Seconds(_) => RetryAfter::Seconds(wait),
                RetryAfter::HttpDate(_) => RetryAfter::HttpDate(wait),
            };
            reply.retry_after(form, now);
            reply
        }
        (None, Some(reply)) => reply,
        (None, None) => server.carry_out(call, struck, now),
    };
    for headers in charge.headers {
        reply.header("ratelimit", headers);
    }
    reply.header("date", http_date(now));
    reply
}
