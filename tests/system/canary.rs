//! A patient whose values occur nowhere else goes through the whole program while it works and while it fails; then everything
//! that it left behind or said is searched for them.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chart_relay::{
    adapters::{clock::SystemClock, sqlite::Database},
    control::{Answer, Request},
    socket,
    wiring::{DATABASE, command_owner},
};
use engine::{key::StationId, ports::Message};
use serde_json::{Value as Json, json};
use simulators::{
    fhir::{self, Canned, Interaction, Matching, Times},
    filemaker::{self, Route, When},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    canary_kit::{PATIENT, Scan},
    console,
    installation::{Installation, said},
    post::sharing,
    rig::until,
};

/// A listener in front of a server: where it is, and what its clients have sent.
async fn overhear(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else { continue };
            let ear = ear.clone();
            tokio::spawn(async move {
                let ((mut asks, mut gets), (mut answers, mut takes)) = (client.into_split(), server.into_split());
                let there = async {
                    let mut piece = vec![0; 16 * 1024];
                    while let Ok(read @ 1..) = asks.read(&mut piece).await {
                        ear.lock().unwrap().extend_from_slice(&piece[..read]);
                        if takes.write_all(&piece[..read]).await.is_err() {
                            break;
                        }
                    }
                };
                // Whichever side ends, the connection does.
                tokio::select! {
                    () = there => {}
                    _ = tokio::io::copy(&mut answers, &mut gets) => {}
                }
            });
        }
    });
    (address, heard)
}

/// The paths, with their queries, among what was heard. What stands before the verb may be the end of a body.
fn paths(heard: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(heard);
    let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
    lines.filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect()
}

/// Everything of the patient in one text, as a server might quote it.
fn quoted() -> String {
    let p = &PATIENT;
    format!(
        "{} {} born {} ({}), {}, {}, {} {} {}: {} - {} - {}",
        p.given,
        p.family,
        p.birth_date,
        p.mrn,
        p.phone,
        p.email,
        p.street,
        p.postal_code,
        p.city,
        p.number,
        p.note,
        p.answer
    )
}

fn outcome(status: u16) -> fhir::Fault {
    let issue = json!({"severity": "error", "code": "invalid", "diagnostics": quoted(), "details": {"text": quoted()}});
    let body = json!({"resourceType": "OperationOutcome", "issue": [issue]}).to_string();
    fhir::Fault::Answer(Canned::Raw { status, content_type: "application/fhir+json", body })
}

/// The patient's resources, with the ids that the generator gave.
fn resources(installation: &mut Installation) -> Vec<Json> {
    let now = jiff::Timestamp::now();
    let generator = &mut installation.chart.generator;
    let mut patient = generator.patient();
    patient["name"][0]["family"] = json!(PATIENT.family);
    patient["name"][0]["given"] = json!([PATIENT.given]);
    patient["birthDate"] = json!(PATIENT.birth_date);
    patient["identifier"][0]["value"] = json!(PATIENT.mrn);
    patient["telecom"][0]["value"] = json!(PATIENT.phone);
    patient["telecom"][1]["value"] = json!(PATIENT.email);
    patient["address"][0]["line"] = json!([PATIENT.street]);
    patient["address"][0]["city"] = json!(PATIENT.city);
    patient["address"][0]["postalCode"] = json!(PATIENT.postal_code);
    let mut form = generator.form(&patient, now);
    form["status"] = json!("completed");
    form["item"][0]["answer"] = json!([{"valueString": PATIENT.answer}]);
    let mut measurement = generator.measurement(&patient, now);
    measurement.as_object_mut().unwrap().remove("component");
    let number: Json = serde_json::from_str(PATIENT.number).unwrap();
    measurement["valueQuantity"] =
        json!({"value": number, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"});
    let mut note = generator.note(&patient, now);
    note["description"] = json!(PATIENT.note);
    note["content"][0]["attachment"]["data"] = json!(STANDARD.encode(quoted()));
    // Refused by the mapping: the value must not be told with the reason.
    let mut refused = generator.patient();
    refused["birthDate"] = json!("1931-07");
    refused["gender"] = json!(PATIENT.given);
    refused["name"][0]["family"] = json!(PATIENT.family);
    vec![patient, form, measurement, note, refused]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_patient_is_left_in_the_open() {
    let mut installation = Installation::ready(1, 30, "log-level = \"debug\"").await;
    let (chart, filemaker) = (installation.chart.control(), installation.server.control());

    // Both servers are overheard.
    let chart_address = installation.chart.server.base_url().split('/').nth(2).unwrap().parse().unwrap();
    let (chart_ear, chart_heard) = overhear(chart_address).await;
    let (filemaker_ear, filemaker_heard) = overhear(installation.server.address()).await;
    let file = installation.folder.path().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(&chart_address.to_string(), &chart_ear.to_string());
    fs::write(&file, text.replace(&installation.server.address().to_string(), &filemaker_ear.to_string())).unwrap();

    // A message that nobody can read waits in the queue, with everything in it.
    let key = installation.key().await;
    let owner = command_owner(&StationId::new("system-test").unwrap());
    let path = installation.data().join(DATABASE);
    let database = Database::open(&path, &key, owner, Arc::new(SystemClock::new())).await.unwrap();
    let body = json!({"v": 1, "hints": [quoted()], "name": PATIENT.family}).to_string();
    let poison = Message { id: "synthetic-poison".into(), group: "synthetic".into(), body };
    database.queue().send(vec![poison]).await.unwrap();
    database.close().await.unwrap();

    // Everything fails in every way that quotes.
    let planted = resources(&mut installation);
    let id = |which: usize| planted[which]["id"].as_str().unwrap();
    for resource in &planted {
        chart.put(resource.clone()).unwrap();
    }
    for (fault, which) in [(outcome(500), 0), (outcome(503), 1), (outcome(400), 3)] {
        chart.inject(fault, Matching::only(Interaction::Read).id(id(which)), Times::Next(1));
    }
    let html = Canned::Raw { status: 502, content_type: "text/html", body: format!("<html>{}</html>", quoted()) };
    let garbage =
        Canned::Raw { status: 200, content_type: "application/fhir+json", body: format!("{{{:?}: nonsense", quoted()) };
    let another = Canned::Raw {
        status: 200,
        content_type: "application/json",
        body: json!({"resourceType": quoted()}).to_string(),
    };
    chart.inject(fhir::Fault::Answer(html), Matching::only(Interaction::Search), Times::Next(1));
    chart.inject(fhir::Fault::Answer(garbage), Matching::only(Interaction::Read).id(id(0)), Times::Next(1));
    chart.inject(fhir::Fault::Answer(another), Matching::only(Interaction::Search), Times::Next(1));
    chart.inject(fhir::Fault::Truncate, Matching::only(Interaction::Read).id(id(0)), Times::Next(1));
    chart.inject(fhir::Fault::CutBody, Matching::only(Interaction::Read).id(id(1)), Times::Next(1));
    filemaker.inject(filemaker::Fault::Code(511), When::next().route(Route::Create).key(id(2)));
    filemaker.inject(filemaker::Fault::DropAfter, When::next().layout("API_Patient").route(Route::Create).key(id(0)));
    filemaker.inject(filemaker::Fault::Truncated, When::next().layout("API_IntakeForm").route(Route::Create));

    let relay = installation.start();
    let mut scan = Scan::default();
    until("the patient has arrived", async || {
        filemaker.record_with("Patient", "FhirId", id(0)).filter(|row| row.fields["LastName"] == PATIENT.family)
    })
    .await;
    until("the form has arrived", async || filemaker.record_with("IntakeForm", "FhirId", id(1))).await;
    let dead = until("what was refused needs a person", async || {
        let dead = said(&installation.run(&["dead"]).await);
        (dead.contains("synthetic-poison") && dead.contains(id(2))).then_some(dead)
    })
    .await;
    scan.bytes("what needs a person", dead.as_bytes());
    // The clinic's own values are as much the patient's.
    let row = filemaker.record_with("Patient", "FhirId", id(0)).unwrap();
    filemaker.desk_edit("Patient", row.record_id, &[("City", PATIENT.note)]).unwrap();
    let mut changed = chart.get("Patient", id(0)).unwrap();
    changed["address"][0]["city"] = json!(PATIENT.answer);
    chart.put(changed).unwrap();
    until("what was kept and what was refused is shown", async || {
        let remarks = said(&installation.run(&["remarks"]).await);
        (remarks.contains(id(0)) && remarks.contains(id(4))).then_some(())
    })
    .await;
    let measurement = format!("synthetic-north/link/Observation/{}", id(2));
    for command in [
        &["status"][..],
        &["queue"],
        &["locks"],
        &["remarks"],
        &["audit", "list", "--limit", "1000"],
        &["audit", "verify"],
        &["retry", &measurement],
        &["run"],
        &["secret", "list"],
    ] {
        scan.bytes(&command.join(" "), said(&installation.run(command).await).as_bytes());
    }
    until("the measurement has arrived after all", async || filemaker.record_with("Measurement", "FhirId", id(2)))
        .await;
    for request in
        [Request::Snapshot, Request::Search(engine::audit::Search::newest(1_000)), Request::DeadLetters { limit: 100 }]
    {
        let place = format!("the answer to {request:?}");
        let answer: Answer = socket::call(&installation.data(), &request, Duration::from_secs(20)).await.unwrap();
        scan.bytes(&place, serde_json::to_string(&answer).unwrap().as_bytes());
    }
    installation.stop(relay).await;
    scan.bytes("doctor", said(&installation.run(&["doctor"]).await).as_bytes());

    // It was all there to be told.
    let number = filemaker.record_with("Measurement", "FhirId", id(2)).unwrap();
    assert_eq!(number.fields["Value"], PATIENT.number);
    let heard = filemaker_heard.lock().unwrap().clone();
    let mut bodies = Scan::default();
    assert!(!bodies.bytes("FileMaker's bodies", &heard).sightings.is_empty(), "nothing was overheard");
    let lines = paths(&heard);
    assert!(lines.len() > 20 && lines.iter().any(|line| line.contains("/_find")), "{lines:?}");
    scan.lines("FileMaker's URLs", lines.iter().map(String::as_str));
    // Nothing but questions goes to the chart system, so all of it is searched.
    let heard = chart_heard.lock().unwrap().clone();
    assert!(paths(&heard).len() > 20);
    scan.bytes("what the chart system heard", &heard);
    scan.bytes("what the relay said", &fs::read(installation.folder.path().join("said")).unwrap());
    scan.directory(&installation.data());
    let log = log(&installation);
    for expected in ["\"level\":\"WARN\"", "\"level\":\"INFO\"", "could not be read", "synthetic-poison", id(2)] {
        assert!(log.contains(expected), "{expected} is not in the log");
    }
    scan.assert_silent(100_000);

    // Whoever logs a value is found.
    let planted = installation.data().join("log").join("planted.jsonl");
    fs::write(&planted, format!("{{\"message\":\"carried\",\"name\":\"{}\"}}\n", PATIENT.family)).unwrap();
    let mut scan = Scan::default();
    scan.directory(&installation.data());
    assert_eq!(scan.sightings.len(), 1, "{:?}", scan.sightings);
}

mod ministack {
    #[tokio::test(flavor = "multi_thread")]
    async fn what_rests_in_aws_tells_nothing_of_a_patient() {
        super::what_rests_in_aws_tells_nothing_of_a_patient(crate::emulator::ministack()).await;
    }
}

/// All that a station ever sent to AWS, and all that rests there in the end: every table, both queues.
async fn what_rests_in_aws_tells_nothing_of_a_patient(address: &str) {
    let name = "canary";
    let (ear, heard) = overhear(address.strip_prefix("http://").unwrap().parse().unwrap()).await;
    let mut installation = sharing(name, 1, 34, &format!("http://{ear}")).await;
    // Another producer puts the whole patient into a message, past the ear.
    let queue = console::ask(address, "AmazonSQS.GetQueueUrl", json!({ "QueueName": name })).await["QueueUrl"].clone();
    let poison = json!({ "QueueUrl": queue, "MessageBody": json!({ "v": 1, "hints": [quoted()] }).to_string() });
    console::ask(address, "AmazonSQS.SendMessage", poison).await;
    let planted = resources(&mut installation);
    let id = |which: usize| planted[which]["id"].as_str().unwrap();
    let (chart, filemaker) = (installation.chart.control(), installation.server.control());
    planted.iter().for_each(|resource| drop(chart.put(resource.clone()).unwrap()));
    // One fails in FileMaker's words, and one gets no answer.
    filemaker.inject(filemaker::Fault::Code(511), When::next().route(Route::Create).key(id(2)));
    filemaker.inject(filemaker::Fault::DropAfter, When::next().layout("API_Patient").route(Route::Create).key(id(0)));
    let relay = installation.start();
    until("the patient, the form and the letter have arrived", async || {
        filemaker.record_with("Patient", "FhirId", id(0)).filter(|row| row.fields["LastName"] == PATIENT.family)?;
        filemaker.record_with("IntakeForm", "FhirId", id(1))?;
        let dead = said(&installation.run(&["dead"]).await);
        (dead.contains(id(2)) && dead.contains("the message is hints")).then_some(())
    })
    .await;
    // A difference is kept, and remarked.
    let row = filemaker.record_with("Patient", "FhirId", id(0)).unwrap();
    filemaker.desk_edit("Patient", row.record_id, &[("City", PATIENT.note)]).unwrap();
    let mut changed = chart.get("Patient", id(0)).unwrap();
    changed["address"][0]["city"] = json!(PATIENT.answer);
    chart.put(changed).unwrap();
    until("the difference is remarked", async || {
        said(&installation.run(&["remarks"]).await).contains(id(0)).then_some(())
    })
    .await;
    installation.stop(relay).await;

    let mut scan = Scan::default();
    let mut items = 0;
    for table in
        console::ask(address, "DynamoDB_20120810.ListTables", json!({})).await["TableNames"].as_array().unwrap()
    {
        if !table.as_str().unwrap().starts_with("canary-") {
            continue;
        }
        let all = console::ask(address, "DynamoDB_20120810.Scan", json!({ "TableName": table })).await;
        assert!(all["LastEvaluatedKey"].is_null());
        items += all["Items"].as_array().unwrap().len();
        // What is written in base64 is looked at as it is.
        for body in all["Items"].as_array().unwrap().iter().filter_map(|item| item["body"]["B"].as_str()) {
            scan.bytes("a sealed body", &STANDARD.decode(body).unwrap());
        }
        scan.bytes(&format!("table {table}"), all.to_string().as_bytes());
    }
    assert!(items > 10, "{items}");
    for name in [name, "canary-dead"] {
        let url =
            console::ask(address, "AmazonSQS.GetQueueUrl", json!({ "QueueName": name })).await["QueueUrl"].clone();
        let left =
            console::ask(address, "AmazonSQS.ReceiveMessage", json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 }))
                .await;
        scan.bytes(&format!("queue {name}"), left.to_string().as_bytes());
    }
    let heard = heard.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&heard).contains("SendMessageBatch"), "nothing was overheard");
    scan.bytes("what was ever sent to AWS", &heard);
    scan.assert_silent(50_000);
}

fn log(installation: &Installation) -> String {
    let files = fs::read_dir(installation.data().join("log")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}
