//! A caller that is signed in to each firm, and the few resources that the tests need.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use simulators::ehr::{Control, EhrServer, Firm, FirmControl, Options};

pub(crate) const KEY: &str = "synthetic-key";

pub(crate) struct Caller {
    pub(crate) server: EhrServer,
    pub(crate) control: Control,
    pub(crate) http: Client,
    tokens: BTreeMap<String, String>,
}

/// Status, headers and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The ids of a bundle's resources, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let bundle = self.json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap_or("-").to_owned()).collect()
    }

    pub(crate) fn total(&self) -> u64 {
        self.json()["total"].as_u64().unwrap()
    }

    pub(crate) fn link(&self, relation: &str) -> Option<String> {
        let bundle = self.json();
        let links = bundle["link"].as_array()?;
        let link = links.iter().find(|link| link["relation"] == relation)?;
        Some(link["url"].as_str().unwrap().to_owned())
    }
}

impl Caller {
    /// With the firms north and south.
    pub(crate) async fn new() -> Self {
        let firms = vec![Firm::synthetic("north", 0), Firm::synthetic("south", 1)];
        let server = EhrServer::start(Options { firms: firms.clone(), ..Options::default() }).await.unwrap();
        // Whatever hangs fails instead.
        let http = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let mut caller = Self { control: server.control(), server, http, tokens: BTreeMap::new() };
        for firm in firms {
            let token = caller.token(&firm.client_id, &firm.client_secret).await.json()["access_token"].clone();
            caller.tokens.insert(firm.name, token.as_str().unwrap().to_owned());
        }
        caller.control.reset_tally();
        caller
    }

    pub(crate) async fn token(&self, id: &str, secret: &str) -> Answer {
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        Answer::of(self.http.post(self.server.token_url()).form(&form).send().await.unwrap()).await
    }

    pub(crate) fn north(&self) -> FirmControl {
        self.control.firm("north")
    }

    /// With the key and a firm's token.
    pub(crate) fn request(&self, method: Method, firm: &str, path: &str) -> RequestBuilder {
        let address =
            if path.starts_with("http") { path.to_owned() } else { format!("{}/{path}", self.server.base_url(firm)) };
        self.http.request(method, address).bearer_auth(&self.tokens[firm]).header("x-api-key", KEY)
    }

    pub(crate) async fn send(request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, "north", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::POST, "north", path).json(body)).await
    }

    /// Follows `next` until a page is empty; the ids of each page before it.
    pub(crate) async fn walk(&self, path: &str) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut address = path.to_owned();
        loop {
            let answer = self.get(&address).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.total(), answer.ids().len() as u64, "the total is the page's");
            if answer.total() == 0 {
                return pages;
            }
            pages.push(answer.ids());
            address = answer.link("next").unwrap();
        }
    }
}

pub(crate) fn encounter(id: &str, status: &str) -> Value {
    json!({
        "resourceType": "Encounter", "id": id, "status": status,
        "subject": {"reference": "Patient/1"}, "period": {"start": "2026-03-01T08:00:00Z"},
    })
}

pub(crate) fn document(id: &str, patient: &str, encounter: &str) -> Value {
    json!({
        "resourceType": "DocumentReference", "id": id, "status": "current",
        "category": [{"coding": [{"system": "urn:test", "code": "100"}]}],
        "subject": {"reference": format!("Patient/{patient}")}, "date": "2026-03-01T08:00:00Z",
        "identifier": [{"system": "filename", "value": format!("{id}.png")}],
        "content": [{"attachment": {"contentType": "image/png", "data": "U1lOVEhFVElD"}}],
        "context": {"encounter": [{"reference": format!("Encounter/{encounter}")}]},
    })
}
