//! From a FHIR server that this project did not write, with the official R4 examples, into FileMaker.

use std::collections::BTreeMap;

use engine::{error::Code, snapshot::Verdict};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::{
    medplum_rig::Medplum,
    rig::{Chart, Running, Station, writes},
};

const TYPES: [&str; 4] = ["Patient", "QuestionnaireResponse", "Observation", "DocumentReference"];

/// Somebody at work in the chart system, without any code of ours.
struct Portal {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Portal {
    async fn of(server: &Medplum) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &server.client_id),
            ("client_secret", &server.client_secret),
        ];
        let granted: Json = http.post(&server.token_url).form(&form).send().await.unwrap().json().await.unwrap();
        let token = granted["access_token"].as_str().unwrap().to_owned();
        Self { http, base: server.base_url.clone(), token }
    }

    async fn call(&self, method: Method, path: &str, if_match: Option<&str>, body: Option<&Json>) -> Json {
        let mut request = self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token);
        if let Some(version) = if_match {
            request = request.header("if-match", format!("W/\"{version}\""));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Everything of the mapped types: without `_count` this server gives all of it.
    async fn all(&self) -> Vec<Json> {
        let mut all = Vec::new();
        for of in TYPES {
            let bundle = self.call(Method::GET, of, None, None).await;
            let rows = bundle["entry"].as_array().cloned().unwrap_or_default();
            all.extend(rows.into_iter().map(|mut row| row["resource"].take()));
        }
        all
    }

    async fn update(&self, resource: &Json) {
        let path = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        self.call(Method::PUT, &path, resource["meta"]["versionId"].as_str(), Some(resource)).await;
    }
}

fn of_type<'a>(resources: &'a [Json], of: &'static str) -> impl Iterator<Item = &'a Json> {
    resources.iter().filter(move |resource| resource["resourceType"] == of)
}

/// All have arrived, and each field that could not be carried is told of.
async fn assert_arrived(running: &Running, all: &[Json]) -> (usize, usize) {
    let compared = running.all_arrived(|| all.to_vec()).await;
    let told: BTreeMap<_, _> = running.remarks().await.into_iter().collect();
    for (resource, fields) in &compared.refused {
        assert_eq!(told.get(resource), Some(&Code::ValueUnmappable), "{resource}: {fields:?} lost in silence");
    }
    let refused = told.values().filter(|code| **code == Code::ValueUnmappable).count();
    assert_eq!(refused, compared.refused.len(), "remarks on records that were carried whole: {told:?}");
    println!("{} of {} resources arrived, {refused} with refused fields", compared.expected, all.len());
    (compared.expected, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_examples_arrive_and_so_do_their_updates() {
    let server = Medplum::start(&["--examples", "1000"]).await;
    let portal = Portal::of(&server).await;
    let patient = of_type(&portal.all().await, "Patient").next().unwrap().clone();
    // None of the examples is a progress note in plain text.
    let note = json!({
        "resourceType": "DocumentReference",
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "subject": {"reference": format!("Patient/{}", patient["id"].as_str().unwrap())},
        "date": "2026-03-02T08:00:00Z",
        "description": "SYNTHETIC note",
        "content": [{"attachment": {"contentType": "text/plain", "data": "U1lOVEhFVElDIHRleHQ="}}],
    });
    portal.call(Method::POST, "DocumentReference", None, Some(&note)).await;

    let chart = Chart {
        base_url: server.base_url.clone(),
        token_url: server.token_url.clone(),
        client_id: server.client_id.clone(),
        secret: server.client_secret.clone(),
        flavour: "medplum",
        both_ways: false,
    };
    let station = Station::for_chart(&chart).await;
    let running = station.start_proven().await;
    let all = portal.all().await;
    let (expected, refused_before) = assert_arrived(&running, &all).await;
    assert!(expected >= 30, "only {expected} examples were to be carried");
    let rows = |table: &str| station.filemaker().count(table);
    assert_eq!(rows("Patient"), of_type(&all, "Patient").count());
    assert!(rows("Measurement") >= 5 && rows("IntakeForm") >= 1, "{} {}", rows("Measurement"), rows("IntakeForm"));
    assert_eq!(rows("ProgressNote"), 1);
    assert_eq!(running.snapshot().dead, 0);

    // The chart goes on, each version guarded by the one before.
    let mut updated = 0;
    for mut resource in all {
        let (change, field) = match resource["resourceType"].as_str().unwrap() {
            "Patient" => (json!([{"use": "official", "family": "Testpatient", "given": ["Synthetic"]}]), "name"),
            "Observation" => (json!("amended"), "status"),
            "QuestionnaireResponse" => (json!("amended"), "status"),
            _ => (json!("SYNTHETIC correction"), "description"),
        };
        resource[field] = change;
        if resource["id"] == patient["id"] {
            // A part of a date is not carried, and a person is told.
            resource["birthDate"] = json!("1950-03");
        }
        portal.update(&resource).await;
        updated += 1;
    }
    let all = portal.all().await;
    assert_eq!(assert_arrived(&running, &all).await.1, refused_before + 1);
    let renamed = station.filemaker().records("Patient");
    assert!(
        renamed.iter().all(|row| row.fields["LastName"] == "Testpatient"),
        "of {updated} updates some did not arrive"
    );
    running.stop().await;

    // What has arrived is not written again.
    station.filemaker().reset_counts();
    let running = station.start().await;
    running.shows("everything is proven", |snapshot| matches!(snapshot.verdict, Verdict::UpToDate { .. })).await;
    assert_arrived(&running, &all).await;
    assert_eq!(writes(&station.filemaker()), 0);
    running.stop().await;
}
