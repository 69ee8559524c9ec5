//! A signed-in caller, and the few resources that the tests need.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use simulators::fhir::{Control, FhirServer, Options};

pub(crate) struct Caller {
    pub(crate) server: FhirServer,
    pub(crate) control: Control,
    http: reqwest::Client,
    token: String,
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

    /// Code of the first issue of an OperationOutcome.
    pub(crate) fn issue(&self) -> String {
        assert_eq!(self.json()["resourceType"], "OperationOutcome");
        self.json()["issue"][0]["code"].as_str().unwrap().to_owned()
    }

    /// The ids of a bundle's resources, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let bundle = self.json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap_or("-").to_owned()).collect()
    }

    pub(crate) fn link(&self, relation: &str) -> Option<String> {
        let bundle = self.json();
        let links = bundle["link"].as_array()?;
        let link = links.iter().find(|link| link["relation"] == relation)?;
        Some(link["url"].as_str().unwrap().to_owned())
    }
}

impl Caller {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let form = [
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", options.client_id.clone()),
            ("client_secret", options.client_secret.clone()),
        ];
        let server = FhirServer::start(options).await.unwrap();
        // Whatever hangs fails instead.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let answer = Answer::of(http.post(server.token_url()).form(&form).send().await.unwrap()).await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let control = server.control();
        control.reset_tally();
        Self { server, control, http, token }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let address =
            if path.starts_with("http") { path.to_owned() } else { format!("{}/{path}", self.server.base_url()) };
        self.http.request(method, address).bearer_auth(&self.token)
    }

    pub(crate) async fn send(request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn put_if(&self, path: &str, etag: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::PUT, path).header("If-Match", etag).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path)).await
    }

    /// Walks every page; the ids of each.
    pub(crate) async fn walk(&self, path: &str) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(address) = next {
            let answer = self.get(&address).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            pages.push(answer.ids());
            next = answer.link("next");
        }
        pages
    }

    /// Puts synthetic patients p0, p1, ... without HTTP.
    pub(crate) fn fill(&self, count: usize) {
        for number in 0..count {
            self.control.put(patient(&format!("p{number}"))).unwrap();
        }
    }
}

pub(crate) fn patient(id: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"system": "urn:test:mrn", "value": format!("mrn-{id}")}],
        "name": [{"family": "Testpatient", "given": ["Synthetic"]}],
    })
}

pub(crate) fn nameless(family: &str, mrn: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{"system": "urn:test:mrn", "value": mrn}],
        "name": [{"family": family}],
    })
}

pub(crate) fn observation(id: &str, patient: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "valueQuantity": {"value": 71, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    })
}
