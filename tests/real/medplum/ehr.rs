//! Watching this server as an EHR: encounters and documents in each way in which they can be asked for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chart_relay::adapters::{
    fhir::{Credentials, EhrClient, EhrConfig, FhirConfig, Flavour, SecretIn, SignIn},
    secret::Secret,
    transport::Trust,
};
use engine::{
    fakes::FakeClock,
    key::ResourceId,
    ports::{Document, Ehr as _, EncounterStatus, Purpose, Reach, Unlimited, Wish},
};
use jiff::tz::TimeZone;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Hand, kind, rig::Medplum};

fn ehr(server: &Medplum, flavour: &'static Flavour, reach: Reach) -> EhrClient {
    let config = EhrConfig {
        fhir: FhirConfig {
            base_url: server.base_url.clone(),
            flavour,
            sign_in: SignIn::ClientCredentials {
                token_url: server.token_url.clone(),
                client_id: server.client_id.clone(),
                secret_in: SecretIn::Basic,
                scope: None,
            },
            trust: Trust::System,
            timeout: Duration::from_secs(30),
            page: Some(7),
            probe: kind("Encounter"),
        },
        reach: Some(reach),
        categories: None,
        api_key: None,
        zone: TimeZone::UTC,
    };
    let credentials = Credentials::ClientSecret(Secret::new(&server.client_secret));
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    EhrClient::new(config, credentials, Arc::new(Unlimited), None, clock).unwrap()
}

async fn made(hand: &Hand, resource: Value) -> String {
    let path = resource["resourceType"].as_str().unwrap();
    let (status, made) = hand.call(Method::POST, path, None, Some(&resource)).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

async fn documents(client: &EhrClient, name: &str, wish: &Wish) -> Vec<Document> {
    let (mut all, mut page) = (Vec::new(), None);
    loop {
        let list = client.documents(&kind(name), wish, page.as_ref(), Purpose::Poll).await.unwrap();
        assert_eq!(list.unusable + list.ahead, 0);
        all.extend(list.rows);
        page = list.next;
        if page.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn encounters_and_their_documents_are_found_once_in_every_way_of_asking() {
    let server = Medplum::start(&["--examples", "0"]).await;
    let hand = Hand::on(&server).await;
    let (mut patients, mut encounters) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let name = json!([{"family": "Testpatient", "given": [format!("Synthetic {number}")]}]);
        let patient = made(&hand, json!({"resourceType": "Patient", "name": name})).await;
        let encounter = json!({
            "resourceType": "Encounter", "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": format!("Patient/{patient}")},
        });
        encounters.push(made(&hand, encounter).await);
        patients.push(patient);
    }
    let (mut references, mut media) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..24 {
        let (patient, encounter) = (&patients[number % 3], &encounters[number % 3]);
        let subject = json!({"reference": format!("Patient/{patient}")});
        let encounter = json!({"reference": format!("Encounter/{encounter}")});
        let content = json!({"contentType": "image/png", "url": format!("https://files.example/{number}.png")});
        let reference = json!({
            "resourceType": "DocumentReference", "status": "current", "subject": subject,
            "category": [{"coding": [{"system": "http://example.org/synthetic", "code": "lesion"}]}],
            "context": {"encounter": [encounter]}, "content": [{"attachment": content}],
        });
        references.insert(made(&hand, reference).await);
        let picture = json!({
            "resourceType": "Media", "status": "completed", "subject": subject, "encounter": encounter, "content": content,
        });
        media.insert(made(&hand, picture).await);
    }
    let id = |text: &String| ResourceId::new(text).unwrap();
    for flavour in [&Flavour::MEDPLUM, &Flavour::GENERIC] {
        let client = ehr(&server, flavour, Reach::Firm);
        let list = client.encounters(None, None, Purpose::Poll).await.unwrap();
        let listed: BTreeSet<_> = list.rows.iter().map(|row| row.id.to_string()).collect();
        assert_eq!(listed, encounters.iter().cloned().collect());
        assert!(list.rows.iter().all(|row| row.status == EncounterStatus::InProgress && row.patient.is_some()));
        let all = Wish::Since(None);
        let of_encounters = Wish::OfEncounters(encounters.iter().map(id).collect());
        let of_patients: Vec<_> = patients.iter().map(|patient| Wish::OfPatient(id(patient))).collect();
        for wishes in [vec![all], vec![of_encounters], of_patients] {
            for (name, expected) in [("DocumentReference", &references), ("Media", &media)] {
                let mut found = Vec::new();
                for wish in &wishes {
                    found.extend(documents(&client, name, wish).await);
                }
                let listed: BTreeSet<_> = found.iter().map(|row| row.id.to_string()).collect();
                assert_eq!((&listed, found.len()), (expected, expected.len()), "{name} by {wishes:?}");
                assert!(found.iter().all(|row| row.encounters.len() == 1 && row.patient.is_some()));
            }
        }
        let first = id(references.first().unwrap());
        let read = client.document(&kind("DocumentReference"), &first, Purpose::Work).await.unwrap().unwrap();
        assert_eq!(read.content_type.as_deref(), Some("image/png"));
        let steps = client.diagnose().await;
        assert!(!steps.iter().any(|step| step.has_failed()), "{steps:#?}");
    }
}
