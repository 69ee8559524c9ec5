//! Having the server tell of changes by itself: rest-hooks that are made and mended, and a WebSocket that is listened to.

use std::{sync::Arc, time::Duration};

use chart_relay::adapters::{
    doctor::Verdict,
    fhir::{
        FhirClient, Flavour,
        listen::listen,
        subscription::{Hook, Standing},
    },
    secret::Secret,
};
use engine::chance::Chance;
use serde_json::{Value, json};
use simulators::fhir::{Behaviour, FhirServer, Interaction};
use tokio::sync::mpsc;

use super::{
    client, clock, kind, open_client, resource,
    script::{Script, fhir, with},
    server,
};

fn hook(key: &str) -> Hook {
    Hook { endpoint: "https://hooks.example/v1/hook/north".parse().unwrap(), key: Secret::new(key) }
}

fn types() -> Vec<engine::key::ResourceType> {
    vec![kind("Patient"), kind("Observation")]
}

/// Every subscription that the server has.
fn all(server: &FhirServer) -> Vec<Value> {
    let ids = server.control().ids("Subscription");
    ids.iter().map(|id| server.control().get("Subscription", id).unwrap()).collect()
}

async fn standings(client: &FhirClient, key: &str) -> Vec<Standing> {
    client.hooks(&types(), &hook(key)).await.unwrap().into_iter().map(|(_, standing)| standing).collect()
}

#[tokio::test]
async fn rest_hooks_are_made_for_each_type_and_mended_when_they_are_switched_off() {
    for (flavour, asked, attempts) in [(&Flavour::MEDPLUM, "active", true), (&Flavour::GENERIC, "requested", false)] {
        let server = server(Behaviour::default()).await;
        let client = client(&server, flavour, 20, &clock());
        // Somebody else's stays as it is.
        let other = json!({"resourceType": "Subscription", "id": "other", "status": "off", "criteria": "Patient", "channel": {"type": "rest-hook", "endpoint": "https://elsewhere.example/"}});
        server.control().put(other).unwrap();
        assert_eq!(standings(&client, "SYNTHETIC-key").await, [Standing::Missing, Standing::Missing]);
        client.hook_up(&types(), &hook("SYNTHETIC-key")).await.unwrap();
        let made: Vec<Value> = all(&server).into_iter().filter(|one| one["id"] != "other").collect();
        assert_eq!(made.len(), 2);
        for one in &made {
            assert_eq!(one["status"], asked);
            assert_eq!(
                one["channel"],
                json!({
                    "type": "rest-hook", "endpoint": "https://hooks.example/v1/hook/north",
                    "payload": "application/fhir+json", "header": ["x-api-key: SYNTHETIC-key"]
                })
            );
            assert_eq!(one["extension"][0]["valueInteger"] == 18, attempts);
        }
        // Asked for again, nothing is made twice.
        client.hook_up(&types(), &hook("SYNTHETIC-key")).await.unwrap();
        assert_eq!(all(&server).len(), 3);

        for mut one in made {
            one["status"] = json!("active");
            server.control().put(one).unwrap();
        }
        assert_eq!(standings(&client, "SYNTHETIC-key").await, [Standing::Active, Standing::Active]);
        assert_eq!(standings(&client, "SYNTHETIC-new").await, [Standing::Differs, Standing::Differs]);
        // The server gives up on one, and says why.
        let mut patients =
            all(&server).into_iter().find(|one| one["id"] != "other" && one["criteria"] == "Patient").unwrap();
        patients["status"] = json!("off");
        patients["error"] = json!("SYNTHETIC: 5 failures\nin 60 s");
        server.control().put(patients).unwrap();
        let reason = Standing::Off(Some("SYNTHETIC: 5 failuresin 60 s".into()));
        assert_eq!(standings(&client, "SYNTHETIC-key").await, [reason.clone(), Standing::Active]);
        let steps = client.diagnose_hooks(&types(), &hook("SYNTHETIC-key")).await;
        assert!(
            matches!(&steps[0].verdict, Verdict::Warned(note) if note.contains("5 failures") && note.contains("--create"))
        );
        assert!(matches!(&steps[1].verdict, Verdict::Passed(_)));
        assert!(!format!("{steps:?} {:?}", hook("SYNTHETIC-key")).contains("SYNTHETIC-key"));

        let before = client.hook_up(&types(), &hook("SYNTHETIC-key")).await.unwrap();
        assert_eq!(before, [(kind("Patient"), reason), (kind("Observation"), Standing::Active)]);
        let mended = all(&server).into_iter().find(|one| one["id"] != "other" && one["criteria"] == "Patient").unwrap();
        assert_eq!((&mended["status"], &mended["error"]), (&json!(asked), &json!(null)));
        assert_eq!(all(&server).len(), 3);
        // A new key goes into those that are there.
        client.hook_up(&types(), &hook("SYNTHETIC-new")).await.unwrap();
        let keys: Vec<_> = all(&server).into_iter().map(|one| one["channel"]["header"][0].clone()).collect();
        assert_eq!(keys.iter().filter(|key| **key == "x-api-key: SYNTHETIC-new").count(), 2);
    }
}

/// A client that listens, and what it hears.
fn listening(server: &FhirServer) -> (tokio::task::JoinHandle<()>, mpsc::UnboundedReceiver<String>) {
    let client = Arc::new(client(server, &Flavour::MEDPLUM, 20, &clock()));
    let (heard, hears) = mpsc::unbounded_channel();
    let tell = move |r#type, id| {
        heard.send(format!("{type}/{id}")).unwrap();
        std::future::ready(())
    };
    let task = tokio::spawn(listen(client, types(), Arc::new(Chance::from_seed(1)), tell));
    (task, hears)
}

async fn next(hears: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(20), hears.recv()).await.expect("something is heard").unwrap()
}

async fn bound(server: &FhirServer, count: usize) {
    let control = server.control();
    let bound = control.until(move |tally| tally.bound == count);
    tokio::time::timeout(Duration::from_secs(20), bound).await.expect("the socket is bound");
}

#[tokio::test]
async fn what_the_server_tells_is_heard_and_nothing_but_type_and_id() {
    let server = server(Behaviour::default()).await;
    let (task, mut hears) = listening(&server);
    bound(&server, 2).await;
    server.control().put(resource("p1")).unwrap();
    assert_eq!(next(&mut hears).await, "Patient/p1");
    server.control().put(json!({"resourceType": "Practitioner", "id": "x"})).unwrap();
    server.control().put(json!({"resourceType": "Observation", "id": "o1"})).unwrap();
    assert_eq!(next(&mut hears).await, "Observation/o1", "other types are not asked for");
    // Forged and repeated words are at worst a reason to look; no others are understood.
    let forged = json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "p1", "active": false}}]});
    for words in ["no JSON", "{}", "{\"type\":\"pong\"}", &forged.to_string(), &forged.to_string()] {
        server.control().announce(words);
    }
    assert_eq!(next(&mut hears).await, "Patient/p1");
    assert_eq!(next(&mut hears).await, "Patient/p1");
    let calls = server.control().tally();
    assert_eq!(
        (calls.of(Interaction::Read), calls.of(Interaction::Update)),
        (0, 0),
        "listening itself reads and writes nothing"
    );
    task.abort();
}

#[tokio::test]
async fn a_socket_that_breaks_off_is_opened_again_and_its_subscriptions_do_not_pile_up() {
    let server = server(Behaviour::default()).await;
    let (task, mut hears) = listening(&server);
    bound(&server, 2).await;
    for number in 0..2 {
        server.control().cut_sockets();
        bound(&server, 0).await;
        bound(&server, 2).await;
        server.control().put(resource(&format!("p{number}"))).unwrap();
        assert_eq!(next(&mut hears).await, format!("Patient/p{number}"));
        assert_eq!(all(&server).len(), 2);
    }
    server.control().go_away().await;
    bound(&server, 0).await;
    server.control().come_back().await;
    bound(&server, 2).await;
    // A refused token ends the socket too.
    server.control().announce(&json!({"resourceType": "OperationOutcome"}).to_string());
    bound(&server, 0).await;
    bound(&server, 2).await;
    task.abort();
}

#[tokio::test]
async fn the_token_goes_to_no_other_server() {
    let script = Script::start(|asked| match asked.path.as_str() {
        "/fhir/Subscription" => with(fhir(201, &json!({})), "location", "Subscription/s1/_history/1"),
        _ => fhir(
            200,
            &json!({"resourceType": "Parameters", "parameter": [
                {"name": "token", "valueString": "SYNTHETIC-token"},
                {"name": "websocket-url", "valueUrl": "wss://elsewhere.example/ws"}
            ]}),
        ),
    });
    let script = script.await;
    let client = Arc::new(open_client(&script.base_url(), &Flavour::MEDPLUM));
    let task = tokio::spawn(listen(client, vec![kind("Patient")], Arc::new(Chance::from_seed(1)), |_, _| {
        std::future::ready(())
    }));
    // It gives up on the socket, and takes its subscription back.
    let patience = async {
        while !script.asked().iter().any(|asked| asked.method == "DELETE") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patience).await.expect("it gives up");
    assert!(!script.asked().iter().any(|asked| asked.headers.contains_key("upgrade")));
    assert!(!task.is_finished());
    task.abort();
}
