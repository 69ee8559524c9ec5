//! Messages that others put into the queue, that SQS puts away, and rest-hooks that reach it through API Gateway.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chart_relay::adapters::{
    aws::{
        Account, apigateway,
        dynamodb::{self, DynamoLedger},
        provision::{State, Wish, provision},
        sqs::{self, SqsQueue},
    },
    doctor::Verdict,
};
use engine::{
    backstop::Backstop,
    body::Reader,
    chance::Chance,
    fakes::FakeClock,
    gate::Gatekeeper,
    hint::Hint,
    key::{FirmId, Kind, RecordKey, StationId},
    keys::{ClinicKey, Seal},
    ledger::Want,
    letters::Letters,
    ports::{Clock as _, Delivery, Ledger, Queue},
};
use serde_json::{Value as Json, json};

use crate::{
    at,
    aws::{account, wish},
    console,
    shared::on_both,
};

on_both!(
    whatever_others_send_is_read_and_no_id_is_taken_from_them
    what_sqs_put_away_is_emptied_into_the_ledger
    a_fifo_queue_that_compares_contents_is_found_and_mended
    it_is_known_which_clinics_nobody_serves
);

struct Rig {
    address: String,
    account: Account,
    wish: Wish,
    url: String,
    queue: SqsQueue,
    clock: Arc<FakeClock>,
}

async fn rig(address: &str, fifo: bool) -> Rig {
    let account = account(address).await;
    let wish = wish(fifo);
    provision(&account, &wish, true).await.unwrap();
    let clock = FakeClock::at(at(0));
    let url = sqs::find(&account, &wish.queue).await.unwrap();
    let options = sqs::Options { url: url.clone(), visibility: wish.visibility, figures_every: Duration::ZERO };
    let queue = SqsQueue::new(&account, options, clock.clone());
    Rig { address: address.to_owned(), account, wish, url, queue, clock }
}

impl Rig {
    async fn send(&self, body: &str, attributes: Json) {
        let message = json!({ "QueueUrl": self.url, "MessageBody": body, "MessageAttributes": attributes });
        console::ask(&self.address, "AmazonSQS.SendMessage", message).await;
    }

    async fn set(&self, attributes: Json) {
        let settings = json!({ "QueueUrl": self.url, "Attributes": attributes });
        console::ask(&self.address, "AmazonSQS.SetQueueAttributes", settings).await;
    }

    async fn receive(&self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            let some = self.queue.receive(10, Duration::from_secs(2)).await.unwrap();
            assert!(!some.is_empty(), "{} of {count}", all.len());
            all.extend(some);
        }
        all
    }

    fn ledger(&self) -> Arc<DynamoLedger> {
        let options = dynamodb::Options { prefix: self.wish.prefix.clone(), figures_every: Duration::ZERO };
        Arc::new(DynamoLedger::new(&self.account, options, self.clock.clone()))
    }
}

fn north() -> FirmId {
    FirmId::new("north").unwrap()
}

fn keys(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(|hint| hint.key().to_string()).collect()
}

/// Nearly as large as SQS takes it, with a name in it.
fn whole_patient() -> String {
    json!({
        "resourceType": "Patient", "id": "synthetic-1", "meta": { "versionId": "7" },
        "name": [{ "family": "SYNTHETIC-FAMILY", "given": ["SYNTHETIC-GIVEN"] }], "birthDate": "1970-01-01",
        "text": { "div": "x".repeat(1_000_000) }
    })
    .to_string()
}

async fn whatever_others_send_is_read_and_no_id_is_taken_from_them(address: &str) {
    let rig = rig(address, false).await;
    let attribute = json!({ "id": { "DataType": "String", "StringValue": "SYNTHETIC-FAMILY, SYNTHETIC-GIVEN" } });
    rig.send(r#"{"patientId":"synthetic-1","intakeFormId":"synthetic-2"}"#, json!({})).await;
    rig.send(&whole_patient(), attribute).await;
    rig.send("no hint", json!({})).await;
    let reader = Reader { firm: Some(north()) };
    let mut read = BTreeMap::new();
    for delivery in rig.receive(3).await {
        assert!(!delivery.id.is_empty() && !delivery.id.contains("SYNTHETIC"), "{}", delivery.id);
        let hints = reader.read(&delivery.body, delivery.first_sent);
        let age = hints.as_ref().ok().map(|hints| hints[0].at == delivery.first_sent);
        assert_ne!(age, Some(false));
        read.insert(delivery.body.len(), hints.map(|hints| keys(&hints)).ok());
        assert!(rig.queue.acknowledge(&[delivery.receipt]).await.unwrap().is_empty());
    }
    let patient = || "north/link/Patient/synthetic-1".to_owned();
    let form = "north/link/QuestionnaireResponse/synthetic-2".to_owned();
    let read: Vec<_> = read.into_values().collect();
    assert_eq!(read, [None, Some(vec![patient(), form]), Some(vec![patient()])]);
}

async fn what_sqs_put_away_is_emptied_into_the_ledger(address: &str) {
    let rig = rig(address, false).await;
    let settings = json!({ "QueueUrl": rig.url, "AttributeNames": ["RedrivePolicy"] });
    let policy = console::ask(address, "AmazonSQS.GetQueueAttributes", settings).await;
    let policy: Json = serde_json::from_str(policy["Attributes"]["RedrivePolicy"].as_str().unwrap()).unwrap();
    let soon = json!({ "deadLetterTargetArn": policy["deadLetterTargetArn"], "maxReceiveCount": "2" });
    rig.set(json!({ "RedrivePolicy": soon.to_string() })).await;
    rig.send(&whole_patient(), json!({})).await;
    rig.send(r#"{"name":"SYNTHETIC-FAMILY"}"#, json!({})).await;
    for _ in 0..2 {
        let receipts: Vec<_> = rig.receive(2).await.into_iter().map(|delivery| delivery.receipt).collect();
        rig.queue.release(&receipts).await.unwrap();
    }
    assert!(rig.queue.receive(10, Duration::from_secs(1)).await.unwrap().is_empty(), "SQS has put them away");
    let steps = rig.account.diagnose(&rig.wish).await;
    let dead = rig.wish.dead_letter_queue();
    let told = steps.iter().find(|step| step.name == format!("messages in {dead}"));
    assert!(format!("{told:?}").contains('2'), "{steps:#?}");

    let url = sqs::find(&rig.account, &dead).await.unwrap();
    let options = sqs::Options { url, visibility: rig.wish.visibility, figures_every: Duration::ZERO };
    let queue = Arc::new(SqsQueue::new(&rig.account, options, rig.clock.clone()));
    let ledger = rig.ledger();
    let letters = Letters {
        reader: Reader { firm: Some(north()) },
        seal: Seal::new(&ClinicKey::from_bytes([1; 32])),
        ledger: ledger.clone(),
        clock: rig.clock.clone(),
    };
    let gate = Gatekeeper::open();
    let backstop = Backstop { queue: queue.clone(), letters, chance: Arc::new(Chance::from_seed(1)) };
    let working = tokio::spawn({
        let gate = gate.watch();
        async move { backstop.work(gate).await }
    });
    let emptied = async {
        while queue.depth().await.unwrap() != engine::ports::Depth::default() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), emptied).await.unwrap();
    gate.close();
    working.await.unwrap().unwrap();
    let due = ledger.due(&north(), &Kind::RUN, rig.clock.now(), Duration::from_secs(60), 9).await.unwrap();
    let due: Vec<_> = due.into_iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(due, ["north/link/Patient/synthetic-1"]);
    let letters = ledger.dead_letters(9).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.starts_with("moved by SQS") && letters[0].sealed_body.is_empty(), "{letters:?}");
}

async fn a_fifo_queue_that_compares_contents_is_found_and_mended(address: &str) {
    let rig = rig(address, true).await;
    let contents = |steps: Vec<chart_relay::adapters::doctor::Step>| {
        let told = steps.into_iter().find(|step| format!("{step:?}").contains("ContentBasedDeduplication"));
        told.map(|step| step.verdict)
    };
    assert!(contents(rig.account.diagnose(&rig.wish).await).is_none());
    rig.set(json!({ "ContentBasedDeduplication": "true" })).await;
    assert!(matches!(contents(rig.account.diagnose(&rig.wish).await), Some(Verdict::Failed { .. })));
    let found = provision(&rig.account, &rig.wish, true).await.unwrap();
    assert!(found.iter().any(|found| matches!(found.state, State::Differs { mended: true, .. })), "{found:?}");
    assert!(contents(rig.account.diagnose(&rig.wish).await).is_none());
}

async fn it_is_known_which_clinics_nobody_serves(address: &str) {
    let rig = rig(address, false).await;
    let ledger = rig.ledger();
    let station = |name: &str| StationId::new(name).unwrap();
    let firm = |name: &str| FirmId::new(name).unwrap();
    let unserved = async |ours: &[FirmId]| {
        let mut firms: Vec<_> = ledger.unserved(ours).await.unwrap().iter().map(ToString::to_string).collect();
        firms.sort();
        firms
    };
    let [desk, office] = [station("front-desk"), station("back-office")];
    assert!(ledger.serve(&desk, &[firm("north")]).await.unwrap().is_empty());
    assert_eq!(ledger.serve(&office, &[firm("south")]).await.unwrap(), [firm("north")]);
    for of in ["north", "south", "west"] {
        let key = RecordKey::parse(&format!("{of}/link/Patient/1")).unwrap();
        ledger.want(&[Want { key, first_seen: at(0), not_before: at(0), waits_for: None }]).await.unwrap();
    }
    assert_eq!(unserved(&[firm("north")]).await, ["west"]);
    // The south is taken out of the configuration.
    assert_eq!(ledger.serve(&office, &[firm("north")]).await.unwrap(), []);
    assert_eq!(unserved(&[firm("north")]).await, ["south", "west"]);
    assert_eq!(unserved(&[firm("north"), firm("west")]).await, ["south"]);
    // A station that is forgotten serves nobody.
    let (third, key) = (station("third"), ClinicKey::from_bytes([1; 32]).id());
    ledger.join(&third, "computer-3", &key).await.unwrap();
    ledger.serve(&third, &[firm("south")]).await.unwrap();
    assert_eq!(unserved(&[]).await, Vec::<String>::new());
    let seen = ledger.stations().await.unwrap().into_iter().find(|entry| entry.station == third).unwrap();
    assert!(ledger.forget(&seen).await.unwrap());
    assert_eq!(ledger.serve(&desk, &[firm("north")]).await.unwrap(), [firm("west")]);
    assert_eq!(unserved(&[firm("north")]).await, ["south"]);
}

/// API Gateway, IAM and CloudFormation are MiniStack's alone: moto carries out no mapping template.
mod hooks {
    use super::*;

    async fn cloudformation(address: &str, form: &[(&str, &str)]) -> String {
        let credential = "Credential=synthetic/20260302/us-east-1/cloudformation/aws4_request";
        let answer = reqwest::Client::new()
            .post(address)
            .header("authorization", format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"))
            .form(&[form, &[("Version", "2010-05-15")]].concat())
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        text
    }

    /// What stands between two tags after a name.
    fn value_of<'a>(text: &'a str, name: &str, tag: &str) -> &'a str {
        let after = text.split(name).nth(1).unwrap_or_else(|| panic!("{name} in {text}"));
        after.split(&format!("<{tag}>")).nth(1).unwrap().split(&format!("</{tag}>")).next().unwrap()
    }

    /// The address of the hooks, and the key.
    async fn made(rig: &Rig) -> (String, String) {
        let firms = [north(), FirmId::new("south").unwrap()];
        let template = apigateway::template(&rig.wish, &firms).to_string();
        // MiniStack does not know what API Gateway calls a request: a header stands for it.
        let template = template.replace("$context.requestId", "$input.params('x-synthetic-request')");
        let name = format!("hooks-{}", rig.wish.prefix);
        let create = [
            ("Action", "CreateStack"),
            ("StackName", &name),
            ("TemplateBody", &template),
            ("Capabilities.member.1", "CAPABILITY_IAM"),
        ];
        cloudformation(&rig.address, &create).await;
        let told = loop {
            let told = cloudformation(&rig.address, &[("Action", "DescribeStacks"), ("StackName", &name)]).await;
            assert!(!told.contains("ROLLBACK") && !told.contains("FAILED"), "{told}");
            if told.contains("CREATE_COMPLETE") {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let address = value_of(&told, "<OutputKey>Address</OutputKey>", "OutputValue");
        let api = address.trim_start_matches("https://").split('.').next().unwrap();
        let key = value_of(&told, "<OutputKey>KeyId</OutputKey>", "OutputValue");
        let key = gateway(rig, reqwest::Method::GET, &format!("/apikeys/{key}?includeValue=true"), None).await;
        validate_bodies(rig, api).await;
        // Its own form of the address.
        let address = format!("{}/restapis/{api}/v1/_user_request_/hook", rig.address);
        (address, key["value"].as_str().unwrap().to_owned())
    }

    async fn gateway(rig: &Rig, method: reqwest::Method, path: &str, body: Option<Json>) -> Json {
        let credential = "Credential=synthetic/20260302/us-east-1/apigateway/aws4_request";
        let call = reqwest::Client::new()
            .request(method, format!("{}{path}", rig.address))
            .header("authorization", format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"));
        let call = match body {
            Some(body) => call.header("content-type", "application/json").body(body.to_string()),
            None => call,
        };
        let answer = call.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// MiniStack's CloudFormation leaves request validators out, which its API Gateway has: the one of the template is put in.
    async fn validate_bodies(rig: &Rig, api: &str) {
        use reqwest::Method;
        let template = apigateway::template(&rig.wish, &[north()]);
        assert_eq!(template["Resources"]["Validator"]["Properties"]["ValidateRequestBody"], true);
        assert_eq!(template["Resources"]["Post0"]["Properties"]["RequestValidatorId"]["Ref"], "Validator");
        let validators = format!("/restapis/{api}/requestvalidators");
        let validator = json!({ "name": "bodies", "validateRequestBody": true });
        let validator = gateway(rig, Method::POST, &validators, Some(validator)).await;
        let resources = gateway(rig, Method::GET, &format!("/restapis/{api}/resources?embed=methods"), None).await;
        let resources = resources["item"].as_array().or_else(|| resources["_embedded"]["item"].as_array()).unwrap();
        for resource in resources.iter().filter(|resource| !resource["resourceMethods"]["POST"].is_null()) {
            let method = format!("/restapis/{api}/resources/{}/methods/POST", resource["id"].as_str().unwrap());
            let change = json!({ "op": "replace", "path": "/requestValidatorId", "value": validator["id"] });
            gateway(rig, Method::PATCH, &method, Some(json!({ "patchOperations": [change] }))).await;
        }
    }

    async fn post(address: &str, key: Option<&str>, kind: &str, body: String) -> (u16, String) {
        let mut call = reqwest::Client::new().post(address).header("content-type", kind);
        if let Some(key) = key {
            call = call.header("x-api-key", key);
        }
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // As Medplum sends it.
        let call = call.header("x-synthetic-request", format!("synthetic-{number}"));
        let call = call.header("x-medplum-interaction", "update").header("x-medplum-subscription", "synthetic");
        let answer = call.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn become_hints(fifo: bool) {
        const FHIR: &str = "application/fhir+json";
        let rig = rig(crate::aws::ministack(), fifo).await;
        let (address, key) = made(&rig).await;
        let key = Some(key.as_str());
        let patient = |id: &str| {
            json!({
                "resourceType": "Patient", "id": id, "meta": { "versionId": "7" },
                "name": [{ "family": "SYNTHETIC-FAMILY", "given": ["SYNTHETIC-GIVEN"] }], "birthDate": "1970-01-01"
            })
            .to_string()
        };
        let north = format!("{address}/north");
        // The same one twice: two messages, of one entity.
        for (clinic, kind) in [("north", FHIR), ("north", FHIR), ("south", "application/json; charset=utf-8")] {
            let (status, said) = post(&format!("{address}/{clinic}"), key, kind, patient("synthetic-1")).await;
            assert_eq!((status, said.as_str()), (200, ""));
        }
        let mut bodies = Vec::new();
        while bodies.len() < 3 {
            let got = rig.receive(1).await;
            let receipts: Vec<_> = got.iter().map(|delivery| delivery.receipt.clone()).collect();
            bodies.extend(got.into_iter().map(|delivery| delivery.body));
            assert!(rig.queue.acknowledge(&receipts).await.unwrap().is_empty());
        }
        bodies.sort();
        let hint = |firm: &str| {
            json!({ "v": 1, "hints": [{ "firm": firm, "resource": "Patient", "id": "synthetic-1" }] }).to_string()
        };
        assert_eq!(bodies, [hint("north"), hint("north"), hint("south")], "the hint, and nothing else");
        for body in &bodies {
            Reader::default().read(body, at(0)).unwrap();
        }
        // Refused, without a word about what was in it.
        let nowhere = format!("{address}/west");
        let long = patient(&"x".repeat(65));
        for (what, address, key, kind, body, expected) in [
            ("no key", &north, None, FHIR, patient("synthetic-1"), 403),
            ("a wrong key", &north, Some("synthetic"), FHIR, patient("synthetic-1"), 403),
            ("no such clinic", &nowhere, key, FHIR, patient("synthetic-1"), 403),
            ("a deletion", &north, key, FHIR, "{}".to_owned(), 400),
            ("no id", &north, key, FHIR, r#"{"resourceType":"Patient","name":"SYNTHETIC-FAMILY"}"#.to_owned(), 400),
            ("an id that breaks out", &north, key, FHIR, patient("a\"},{\"SYNTHETIC-FAMILY"), 400),
            ("too long an id", &north, key, FHIR, long, 400),
            ("another content type", &north, key, "text/plain", patient("synthetic-1"), 415),
        ] {
            let (status, said) = post(address, key, kind, body).await;
            assert_eq!(status, expected, "{what}: {said}");
            assert!(!said.contains("SYNTHETIC"), "{what}: {said}");
        }
        assert!(rig.queue.receive(10, Duration::ZERO).await.unwrap().is_empty());
    }

    mod ministack {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_rest_hook_becomes_a_hint_and_nothing_else() {
            super::become_hints(false).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_rest_hook_becomes_a_hint_of_a_fifo_queue() {
            super::become_hints(true).await;
        }
    }
}

/// What the template grants and switches off, as it stands in it.
#[test]
fn the_api_may_send_to_its_queue_alone_wants_a_key_and_logs_nothing() {
    let wish = Wish { queue: "relay-queue".into(), ..wish(false) };
    let template = apigateway::template(&wish, &[north()]);
    let resources = template["Resources"].as_object().unwrap();
    let policies = &resources["Role"]["Properties"]["Policies"];
    assert_eq!(policies.as_array().unwrap().len(), 1);
    let statement = &policies[0]["PolicyDocument"]["Statement"];
    assert_eq!(statement.as_array().unwrap().len(), 1);
    assert_eq!(statement[0]["Action"], "sqs:SendMessage");
    assert!(statement[0]["Resource"]["Fn::Sub"].as_str().unwrap().ends_with(":relay-queue"));
    let keyed = Wish { kms_key: Some("alias/clinic".into()), ..wish };
    let keyed = apigateway::template(&keyed, &[north()]);
    let statement = &keyed["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"];
    assert_eq!(statement[1]["Action"], json!(["kms:Decrypt", "kms:GenerateDataKey"]));
    assert_eq!(statement[1]["Condition"]["StringLike"]["kms:ViaService"], json!(["sqs.*.amazonaws.com"]));
    for resource in resources.values().filter(|resource| resource["Type"] == "AWS::ApiGateway::Method") {
        let method = &resource["Properties"];
        assert_eq!(method["ApiKeyRequired"], true);
        assert_eq!(method["Integration"]["PassthroughBehavior"], "NEVER");
        for template in method["Integration"]["RequestTemplates"].as_object().unwrap().values() {
            let text = template.as_str().unwrap();
            assert!(!text.contains("$input.body") && !text.contains("$input.json"), "{text}");
            let taken: Vec<_> = text.match_indices("$input.").map(|(at, _)| &text[at..]).collect();
            let named = |text: &&&str| {
                text.starts_with("$input.path('$.resourceType')") || text.starts_with("$input.path('$.id')")
            };
            assert!(taken.len() == 2 && taken.iter().all(|text| named(&text)), "{text}");
        }
    }
    let settings = &resources["Stage"]["Properties"];
    assert!(settings.get("AccessLogSetting").is_none());
    assert_eq!(settings["MethodSettings"][0]["DataTraceEnabled"], false);
    assert_eq!(settings["MethodSettings"][0]["LoggingLevel"], "OFF");
}
