//! A FileMaker Server as far as its Data API goes: real HTTP on loopback, an own find engine, FileMaker's rules, and a switch
//! for everything that is known to go wrong.
//!
//! It rests on the project's fact sheet on the Data API. Nobody here has compared it with a FileMaker Server, so each module says
//! which facts it rests on and of what kind the evidence is: `[DOC]` vendor documentation, `[LIVE]` asserted by a client suite
//! that was run against a live server, `[CAP]` captured response, `[SRC]` behaviour built into a client in production use, `[ISS]`
//! issue thread, `[GEN]` general knowledge or our choice, unverified. What is unsettled can be switched ([`Unsettled`],
//! [`Control::set_status`]). A public client (`@proofkit/fmdapi`) drives it in the tests.
//!
//! Not simulated: containers, portal rows, global fields (accepted and forgotten), OAuth, privileges below the account, OData.
//!
//! ```no_run
//! # async fn f() -> std::io::Result<()> {
//! use simulators::filemaker::{Clinic, Fault, FileMaker, Route, When};
//! let filemaker = FileMaker::start(Clinic::synthetic("relay", "secret")).await?;
//! let control = filemaker.control();
//! control.inject(Fault::DropAfter, When::next().route(Route::Create));
//! println!("{}", filemaker.base_url());
//! # Ok(()) }
//! ```
//!
//! A request that has arrived is carried out even if its client goes away meanwhile, as on the real server [GEN].

mod answer;
mod call;
mod control;
mod criterion;
mod desk;
mod fault;
mod host;
mod journal;
mod model;
mod query;
mod synthetic;
mod table;
mod value;
mod work;

pub use answer::Refused;
pub use call::Route;
pub use control::Control;
pub use desk::Desk;
pub use fault::{Fault, Injected, When};
pub use host::Unsettled;
pub use journal::{Counts, Entry};
pub use model::{Account, Calculation, Clinic, Clock, Field, File, Layout, ScriptEnd, Table, Test};
pub use table::{By, Record, Write};
pub use value::{DateOrder, ResultType};

use crate::listen::{Door, Outcome};
use answer::Reply;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use call::Call;
use control::Shared;
use host::World;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

/// Largest body that is read. The real limit is not known.
const LARGEST_BODY: usize = 16 << 20;

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct FileMaker {
    scheme: &'static str,
    control: Control,
}

impl FileMaker {
    /// Serves plain HTTP/1.1 on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(clinic: Clinic) -> io::Result<Self> {
        let (shared, file) = prepared(clinic);
        let door = Door::open(handler(&shared)).await?;
        Ok(Self { scheme: "http", control: Control { shared, file, door } })
    }

    /// Serves HTTPS (HTTP/1.1), for example with [`crate::tls::Certificate::server_config`].
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start_tls(clinic: Clinic, config: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        let (shared, file) = prepared(clinic);
        let door = Door::open_tls(handler(&shared), config).await?;
        Ok(Self { scheme: "https", control: Control { shared, file, door } })
    }

    /// For example `http://127.0.0.1:40123`, without a path.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.control.door.address()
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops as a crash would: what is on its way is cut, late writes never land.
    pub async fn stop(self) {
        self.control.shared.stopping.send_replace(true);
        self.control.door.close().await;
    }
}

impl Drop for FileMaker {
    fn drop(&mut self) {
        self.control.shared.stopping.send_replace(true);
        self.control.door.abandon();
    }
}

/// The shared state, and the file that [`Control`] looks at first.
fn prepared(clinic: Clinic) -> (Arc<Shared>, String) {
    let file = clinic.files.first().map(|file| file.name.clone()).unwrap_or_default();
    (Arc::new(Shared::new(World::new(clinic))), file)
}

fn handler(
    shared: &Arc<Shared>,
) -> impl Fn(Request<Body>) -> futures::future::BoxFuture<'static, Outcome> + Clone + Send + Sync + 'static {
    let shared = shared.clone();
    move |request| Box::pin(receive(shared.clone(), request))
}

async fn receive(shared: Arc<Shared>, request: Request<Body>) -> Outcome {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST_BODY).await.unwrap_or_else(|_| Bytes::new());
    let text = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let slashes = shared.world().unsettled.slashes_in_names;
    let call = Call::read(
        head.method.as_str(),
        head.uri.path(),
        head.uri.query(),
        text(header::AUTHORIZATION),
        text(header::CONTENT_TYPE),
        &body,
        slashes,
    );
    let reply = recorded(&shared, &call).await;
    let now = {
        let world = shared.world();
        world.dates.then(|| world.clock.now())
    };
    reply.map_or(Outcome::HangUp, |reply| Outcome::Reply(respond(reply, now)))
}

/// `now` is the web server's clock, which is the host's; `None`: it does not say.
fn respond(reply: Reply, now: Option<Timestamp>) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    // An empty one, or the HTTP library would give the time of this machine.
    let date = now.and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()).unwrap_or_default();
    headers.insert(header::DATE, HeaderValue::try_from(date).unwrap_or(HeaderValue::from_static("")));
    if let Some(token) = reply.token.and_then(|token| HeaderValue::try_from(token).ok()) {
        headers.insert("X-FM-Data-Access-Token", token);
    }
    response
}

/// `None`: hang up.
async fn recorded(shared: &Shared, call: &Call) -> Option<Reply> {
    #[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    let began = Instant::now();
    shared.world().journal.began(call.route);
    let mut note = Note::default();
    let outcome = carry_out(shared, call, &mut note).await;
    let mut world = shared.world();
    let entry = Entry {
        at: world.clock.now(),
        route: call.route,
        verb: call.verb.clone(),
        file: call.file.clone(),
        layout: call.layout.clone(),
        record_id: call.record_id(),
        session: note.session,
        status: outcome.as_ref().map(|reply| reply.status),
        code: outcome.as_ref().and_then(|reply| reply.code).or(note.code),
        fault: note.fault,
        bytes_out: outcome.as_ref().map_or(0, |reply| reply.body.len()),
        took: began.elapsed(),
    };
    world.journal.ended(entry);
    outcome
}

/// What the journal is to know besides the answer.
#[derive(Default)]
struct Note {
    session: Option<u64>,
    fault: Option<&'static str>,
    /// The code of work whose answer was not sent.
    code: Option<u32>,
}

async fn carry_out(shared: &Shared, call: &Call, note: &mut Note) -> Option<Reply> {
    if !unpaused(shared).await {
        return None;
    }
    let at_gate = shared.world().fault(call, true);
    note.fault = at_gate.as_ref().map(Fault::name);
    match at_gate {
        Some(Fault::DropBefore) => return None,
        Some(Fault::Html502) => return Some(Reply::html(502, "Bad Gateway")),
        Some(Fault::Empty503) => return Some(Reply::empty(503)),
        _ => {}
    }
    let turn = shared.world().turn(call);
    let held = match turn {
        Some(turn) => Some(turn.lock_owned().await),
        None => None,
    };
    let (fault, delay) = {
        let mut world = shared.world();
        match world.admit(call) {
            Ok(session) => note.session = session,
            Err(refused) => return Some(Reply::of(Err(refused), &world.statuses)),
        }
        (world.fault(call, false), world.delay(call))
    };
    note.fault = fault.as_ref().map(Fault::name);
    let delay = if let Some(Fault::Slow(more)) = fault { delay + more } else { delay };
    if !delay.is_zero() {
        tokio::time::sleep(delay / 2).await;
    }
    // A backup may have begun while this call waited its turn.
    if !unpaused(shared).await {
        return None;
    }
    let perform = |by: By| shared.world().perform(call, by);
    let outcome = match fault {
        Some(Fault::Code(code)) => Some(Reply::of(Err(code.into()), &shared.world().statuses)),
        Some(Fault::Late(after)) => {
            drop(held);
            shared.world().journal.counts.late += 1;
            let landed = landing(shared, after).await;
            shared.world().journal.counts.late -= 1;
            if landed {
                note.code = perform(By::LateApi).code;
            }
            return None;
        }
        Some(Fault::DropAfter) => {
            note.code = perform(By::Api).code;
            None
        }
        Some(Fault::DoneButCode(code)) => {
            perform(By::Api);
            Some(Reply::of(Err(code.into()), &shared.world().statuses))
        }
        Some(Fault::DoneButHtml502) => {
            note.code = perform(By::Api).code;
            Some(Reply::html(502, "Bad Gateway"))
        }
        Some(Fault::Truncated) => Some(perform(By::Api).truncated()),
        _ => Some(perform(By::Api)),
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay / 2).await;
    }
    outcome
}

/// Waits while the host is paused. `false`: it stops instead.
async fn unpaused(shared: &Shared) -> bool {
    let mut paused = shared.paused.subscribe();
    let mut stopping = shared.stopping.subscribe();
    loop {
        let until = *paused.borrow_and_update();
        let Some(until) = until.filter(|until| tokio::time::Instant::now() < *until) else {
            return !*stopping.borrow();
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            _ = paused.changed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return false,
        }
    }
}

/// Waits until a late write lands. `false`: the host stops before.
async fn landing(shared: &Shared, after: Option<Duration>) -> bool {
    let mut landing = shared.landing.subscribe();
    let mut stopping = shared.stopping.subscribe();
    let in_time = async {
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = in_time => true,
        _ = landing.changed() => true,
        _ = stopping.wait_for(|stopping| *stopping) => false,
    }
}
