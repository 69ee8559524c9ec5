//! One request to the Data API and its answer, without any judgement: where it goes, how it is signed, what came back.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{error::Fault, ports::Clock, server_clock::ServerClock};
use jiff::Timestamp;
use reqwest::{
    Method, RequestBuilder, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue},
};
use serde_json::{Value as Json, json};
use url::Url;

use super::{
    FileMakerConfig,
    errors::{self, Kind},
};
use crate::adapters::{
    secret::Secret,
    transport::{self, NoAnswer},
};

/// More than any answer of ours can be: a page of rows, or a layout's description.
const LARGEST_ANSWER: usize = 16 << 20;

/// How long an unused connection is kept: less than the 5 s after which an Apache httpd closes it (its default
/// `KeepAliveTimeout`), so that no write runs into a connection that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Signing out is a courtesy; nobody waits long for it.
const SIGN_OUT: Duration = Duration::from_secs(5);

/// What FileMaker's engine said. The HTTP status is not in it: it decides nothing.
pub(super) struct Answer {
    /// FileMaker's code; 0 is success.
    pub(super) code: i64,
    /// Patient data.
    pub(super) response: Json,
    /// The host's own clock, as its web server gives it in the `Date` header (RFC 9110, 6.6.1).
    pub(super) host_time: Option<Timestamp>,
}

/// Why FileMaker's engine said nothing that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    NoAnswer(NoAnswer),
    /// An answer with this HTTP status that is no Data API envelope.
    NotJson(u16),
}

/// A call within a session. Holds patient data.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) layout: Option<String>,
    /// Parts of the path behind the base; each is escaped on its own.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Json>,
}

pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    pub(super) database: String,
    /// The whole `Authorization` header of a sign-in.
    credentials: HeaderValue,
    pub(super) clock: ServerClock,
}

impl Client {
    pub(super) fn new(config: &FileMakerConfig, password: &Secret, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let mut base = transport::base("url", &config.url)?;
        if base.path() == "/" {
            base.set_path("/fmi/data/v2/");
        }
        let mut builder = transport::client(&base, &config.trust)?
            .connect_timeout(config.connect_timeout)
            .timeout(config.read_timeout)
            .pool_max_idle_per_host(config.sessions)
            .pool_idle_timeout(KEEP_ALIVE);
        if config.http1_only {
            builder = builder.http1_only();
        }
        let pair = Secret::new(format!("{}:{}", config.account, password.reveal()));
        let header = Secret::new(format!("Basic {}", STANDARD.encode(pair.reveal())));
        Ok(Self {
            http: transport::build(builder)?,
            base,
            database: config.database.clone(),
            credentials: sensitive(&header)?,
            clock: ServerClock::new(clock),
        })
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Opens a session and gives its token.
    pub(super) async fn sign_in(&self) -> Result<Secret, Fault> {
        let url = self.url(["databases", &self.database, "sessions"]);
        let request = self.http.post(url).header(AUTHORIZATION, self.credentials.clone());
        let sent = request.header(CONTENT_TYPE, "application/json").body("{}").send().await;
        let sent = match sent {
            Ok(response) => {
                // Documented in both places; which one a server fills is its choice.
                let token = response.headers().get("X-FM-Data-Access-Token").and_then(|value| value.to_str().ok());
                let token = token.map(Secret::new);
                read(response).await.map(|answer| (token, answer))
            }
            Err(error) => Err(Failure::NoAnswer(NoAnswer::of(&error))),
        };
        let (token, sent) = match sent {
            Ok((token, answer)) => (token, Ok(answer)),
            Err(failure) => (None, Err(failure)),
        };
        let answer = errors::judge(Kind::SignIn, sent, &self.database, None)?;
        token
            .or_else(|| answer.response.get("token").and_then(Json::as_str).map(Secret::new))
            .filter(|token| !token.reveal().is_empty())
            .ok_or_else(|| errors::bad_answer(Kind::SignIn))
    }

    /// Ends a session. Whether it worked is not asked: one that stays dies of idleness.
    pub(super) async fn sign_out(&self, token: Secret) {
        let url = self.url(["databases", &self.database, "sessions", token.reveal()]);
        let _ = self.http.delete(url).timeout(SIGN_OUT).send().await;
    }

    pub(super) async fn send(&self, token: &Secret, call: &Call) -> Result<Answer, Failure> {
        let mut url = self.url(call.path.iter().map(String::as_str));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.http.request(call.method.clone(), url);
        // A token that is no header value was not FileMaker's: without the header, it answers 10.
        if let Ok(bearer) = sensitive(&Secret::new(format!("Bearer {}", token.reveal()))) {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        self.ask(request).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let asked = self.clock.asked();
        match request.send().await {
            Ok(response) => {
                if let Some(date) = dated(&response) {
                    self.clock.answered(asked, date);
                }
                read(response).await
            }
            Err(error) => Err(Failure::NoAnswer(NoAnswer::of(&error))),
        }
    }

    /// What the server says about itself, to anybody.
    pub(super) async fn product(&self) -> Result<Answer, Failure> {
        self.ask(self.http.get(self.url(["productInfo"]))).await
    }

    fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

fn sensitive(text: &Secret) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text.reveal()).map_err(|_| errors::setting("account", "no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn dated(response: &Response) -> Option<Timestamp> {
    transport::http_date(response.headers().get(DATE)?.to_str().ok()?)
}

/// `{"response":{..},"messages":[{"code":"0",..}]}`, whatever the status.
async fn read(mut response: Response) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let host_time = dated(&response);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::NoAnswer(NoAnswer::of(&error)))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Failure::NotJson(status));
        }
        body.extend_from_slice(&chunk);
    }
    let mut envelope: Json = serde_json::from_slice(&body).map_err(|_| Failure::NotJson(status))?;
    let code = envelope.pointer("/messages/0/code").and_then(|code| match code {
        Json::String(text) => text.parse().ok(),
        Json::Number(number) => number.as_i64(),
        _ => None,
    });
    let response = envelope.get_mut("response").map_or_else(|| json!({}), Json::take);
    code.map(|code| Answer { code, response, host_time }).ok_or(Failure::NotJson(status))
}
