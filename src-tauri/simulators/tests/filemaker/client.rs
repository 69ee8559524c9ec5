//! A plain HTTP client without any cleverness, so that the tests see what is on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use simulators::filemaker::{Clinic, Clock, FileMaker};
use std::time::Duration;

pub(crate) const ACCOUNT: &str = "relay";
pub(crate) const PASSWORD: &str = "synthetic-secret";

pub(crate) struct Api {
    pub(crate) filemaker: FileMaker,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

/// An answer: HTTP status, FileMaker code (empty if there is no envelope), `response`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) response: Value,
}

impl Answer {
    pub(crate) fn failed(&self, status: u16, code: &str) -> bool {
        self.status == status && self.code == code && self.response == json!({})
    }

    pub(crate) fn good(self) -> Value {
        assert_eq!((self.status, self.code.as_str(), self.message.as_str()), (200, "0", "OK"));
        self.response
    }
}

pub(crate) fn clinic() -> Clinic {
    let start = "2024-03-05T09:30:00Z".parse().expect("a time stamp");
    Clinic::synthetic(ACCOUNT, PASSWORD).clock(Clock::standing(start))
}

pub(crate) fn basic(account: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{account}:{password}")))
}

impl Api {
    pub(crate) async fn signed_in() -> Self {
        Self::with(clinic()).await
    }

    pub(crate) async fn with(clinic: Clinic) -> Self {
        let filemaker = FileMaker::start(clinic).await.expect("a free port");
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut api = Self { filemaker, http, token: String::new() };
        api.token = api.sign_in().await;
        api
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/fmi/data/v2{path}", self.filemaker.base_url())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) async fn sign_in(&self) -> String {
        let answer = self.try_sign_in(ACCOUNT, PASSWORD).await.good();
        answer["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn try_sign_in(&self, account: &str, password: &str) -> Answer {
        let request = self.request(Method::POST, "/databases/Clinic/sessions");
        sent(request.header("Authorization", basic(account, password)).json(&json!({}))).await.expect("an answer")
    }

    fn layout_call(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/databases/Clinic/layouts{path}")).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        sent(self.layout_call(Method::GET, path)).await.expect("an answer")
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        sent(self.layout_call(Method::DELETE, path)).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_post(path, body).await.expect("an answer")
    }

    pub(crate) async fn try_post(&self, path: &str, body: Value) -> Result<Answer, reqwest::Error> {
        sent(self.layout_call(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.try_patch(path, body).await.expect("an answer")
    }

    pub(crate) async fn try_patch(&self, path: &str, body: Value) -> Result<Answer, reqwest::Error> {
        sent(self.layout_call(Method::PATCH, path).json(&body)).await
    }

    /// Makes a patient with this key. Gives its recordId.
    pub(crate) async fn patient(&self, key: &str) -> String {
        let made =
            self.post("/API_Patient/records", json!({"fieldData": {"FhirId": key, "LastName": "Testpatient"}})).await;
        made.good()["recordId"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn find(&self, layout: &str, query: Value) -> Answer {
        self.post(&format!("/{layout}/_find"), json!({"query": query})).await
    }
}

pub(crate) async fn sent(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    let text = |name: &str| body["messages"][0][name].as_str().unwrap_or_default().to_owned();
    Ok(Answer { status, code: text("code"), message: text("message"), response: body["response"].clone() })
}
