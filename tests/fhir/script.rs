//! A server that answers by a function and keeps what it was asked.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use serde_json::Value;
use simulators::listen::{Door, Outcome};
use url::form_urlencoded;

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// As it came, encoded.
    pub(crate) url: String,
    /// Of the query and of a form.
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.parameters.get(name)?.parse().ok()
    }
}

pub(crate) struct Script {
    door: Door,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (journal, answer) = (asked.clone(), Arc::new(answer));
        let door = Door::open(move |request: Request<Body>| {
            let (journal, answer) = (journal.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let query = parts.uri.query().unwrap_or_default();
                let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(&body));
                let owned = |(name, value): (Cow<str>, Cow<str>)| (name.into_owned(), value.into_owned());
                let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap_or_default().to_owned())
                };
                let call = Asked {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    url: parts.uri.to_string(),
                    parameters: pairs.map(owned).collect(),
                    headers: parts.headers.iter().map(header).collect(),
                    body: String::from_utf8_lossy(&body).into_owned(),
                };
                journal.lock().unwrap().push(call.clone());
                Outcome::Reply(answer(&call))
            }
        });
        Self { door: door.await.unwrap(), asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address()
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/fhir", self.door.address())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.door.abandon();
    }
}

pub(crate) fn reply(status: u16, kind: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

pub(crate) fn fhir(status: u16, body: &Value) -> Response<Body> {
    reply(status, "application/fhir+json", body.to_string())
}

pub(crate) fn with(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}
