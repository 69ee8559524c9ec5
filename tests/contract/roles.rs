//! What each role may do, who is asked for it, and how credentials come and go.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chart_relay::adapters::{
    aws::{
        AccessKey, Account, Keys, Options,
        dynamodb::{self, DynamoLedger},
        provision::{State, Wish, policies, provision},
        roles::{self, Role, policy_name},
        sqs::{self, SqsQueue},
        template,
    },
    secret::Secret,
};
use engine::{
    error::{Class, Code, Fault},
    fakes::FakeClock,
    key::Kind,
    key::StationId,
    keys::ClinicKey,
    ledger::{DeadLetter, Filter, Take, Want},
    ports::{Ledger as _, Queue as _, Receipt},
};
use serde_json::json;

use crate::{
    at,
    aws::{account, wish},
    shared::{claim, done, message, on_both, patient},
};

on_both!(
    a_station_needs_no_more_than_its_policy_grants
    policies_are_made_once_and_mended
    a_key_of_the_clinics_own_encrypts_everything
);

/// All that a station does, in the rights of this account.
async fn work(station: &Account, wish: &Wish) -> Result<(), Fault> {
    let clock = FakeClock::at(at(0));
    let url = sqs::find(station, &wish.queue).await?;
    let queue = sqs::Options { url, visibility: wish.visibility, figures_every: Duration::ZERO };
    let queue = SqsQueue::new(station, queue, clock.clone());
    let url = sqs::find(station, &wish.dead_letter_queue()).await?;
    let dead = sqs::Options { url, visibility: wish.visibility, figures_every: Duration::ZERO };
    let dead = SqsQueue::new(station, dead, clock.clone());
    dead.receive(1, Duration::ZERO).await?;
    // Nothing is there to be deleted: what counts is that it is asked.
    let _ = dead.acknowledge(&[Receipt("synthetic".into())]).await;
    let ledger = dynamodb::Options { prefix: wish.prefix.clone(), figures_every: Duration::ZERO };
    let ledger = DynamoLedger::new(station, ledger, clock);
    queue.send((0..3).map(message).collect()).await?;
    let receipts: Vec<_> = queue.receive(3, Duration::from_secs(1)).await?;
    let receipts: Vec<_> = receipts.into_iter().map(|delivery| delivery.receipt).collect();
    queue.extend(&receipts).await?;
    queue.release(&receipts[..1]).await?;
    queue.acknowledge(&receipts[1..]).await?;
    queue.depth().await?;
    let key = ClinicKey::from_bytes([1; 32]).id();
    ledger.join(&StationId::new("front-desk").unwrap(), "computer-1", &key).await?;
    ledger.clinic_key().await?;
    for station in ledger.stations().await? {
        assert!(ledger.forget(&station).await?);
    }
    let records =
        ["link/Patient/1", "cursor/Patient/poll", "proof/Patient/key", "row/Patient/7", "encounter/Encounter/1"];
    let watched = ["document/Media/1", "quota/Quota/budget", "definition/Definition/ehr", "token/Token/ehr"];
    for kind in records.into_iter().chain(watched) {
        let key = engine::key::RecordKey::parse(&format!("north/{kind}")).unwrap();
        let Take::Taken(_, lease) = ledger.take(&key, &claim("front-desk")).await? else { panic!("busy") };
        ledger.renew(std::slice::from_ref(&lease)).await?;
        ledger.held().await?;
        ledger.save(&lease, "{}", at(1)).await.unwrap();
        let want = Want { key: key.clone(), first_seen: at(5), not_before: at(5), waits_for: None };
        ledger.want(&[want]).await?;
        assert!(ledger.commit(&lease, done(0)).await.unwrap());
        ledger.read(&key).await?;
    }
    let cursor = engine::key::RecordKey::parse("north/cursor/Patient/poll").unwrap();
    for length in [500_000, 3] {
        let Take::Taken(_, lease) = ledger.take(&cursor, &claim("front-desk")).await? else { panic!("busy") };
        let commit = engine::ledger::Commit { state: "x".repeat(length), ..done(1) };
        ledger.commit(&lease, commit).await.unwrap();
    }
    ledger.due(&patient("1").firm, &Kind::RUN, at(9), Duration::from_secs(60), 9).await?;
    ledger.survey().await?;
    for filter in [Filter::All, Filter::Wanted, Filter::Held, Filter::Dead, Filter::Noticed] {
        ledger.page(filter, None, 9).await?;
        ledger.count(filter).await?;
    }
    ledger.set_aside(&[patient("1")], true).await?;
    let letter = DeadLetter {
        id: "m-1".into(),
        code: Code::Malformed,
        reason: "synthetic".into(),
        sealed_body: vec![1],
        first_seen: at(0),
    };
    ledger.bury(letter).await?;
    ledger.dead_letters(9).await?;
    ledger.unbury(&["m-1".into()]).await?;
    provision(station, wish, false).await?;
    Ok(())
}

/// What a station asks is granted, and what is granted is asked.
async fn a_station_needs_no_more_than_its_policy_grants(address: &str) {
    let (administrator, wish) = (account(address).await, wish(false));
    provision(&administrator, &wish, true).await.unwrap();
    let station = account(address).await;
    work(&station, &wish).await.unwrap();
    let mut used = BTreeSet::new();
    for (action, name) in station.requests().touched() {
        let on = roles::resource(&wish, &name).unwrap_or_else(|| panic!("{name} is nobody's"));
        assert!(Role::Sync.may(&action, on), "{action} on {name} is not granted");
        used.insert((action, on));
    }
    let unused: Vec<_> = Role::Sync
        .permissions()
        .into_iter()
        .filter(|(action, on)| !used.contains(&((*action).to_owned(), *on)))
        .collect();
    assert!(unused.is_empty(), "granted, and never asked: {unused:?}");
}

async fn policies_are_made_once_and_mended(address: &str) {
    let (account, wish) = (account(address).await, wish(false));
    let states = async |wish: &Wish, change| -> Vec<State> {
        policies(&account, wish, change).await.unwrap().into_iter().map(|found| found.state).collect()
    };
    assert_eq!(states(&wish, false).await, vec![State::Missing; 6]);
    assert_eq!(states(&wish, true).await, vec![State::Created; 6]);
    assert_eq!(states(&wish, false).await, vec![State::Right; 6]);
    // Another queue under the same names: each gets a new version, more often than IAM keeps versions.
    for number in 0..7 {
        let other = Wish { queue: format!("{}-{number}", wish.queue), ..wish.clone() };
        let differs = |mended| State::Differs { settings: vec!["PolicyDocument".to_owned()], mended };
        assert_eq!(states(&other, false).await, vec![differs(false); 6]);
        assert_eq!(states(&other, true).await, vec![differs(true); 6]);
        assert_eq!(states(&other, true).await, vec![State::Right; 6]);
    }
}

/// Asks an emulator something in its administrator's name.
async fn ask(address: &str, service: &str, version: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    let known = [("Action", action), ("Version", version)];
    let key = format!("Credential=synthetic/20260101/us-east-1/{service}/aws4_request");
    let request = reqwest::Client::new().post(address).form(&known.iter().chain(parameters).collect::<Vec<_>>());
    let request = request.header("authorization", format!("AWS4-HMAC-SHA256 {key}, SignedHeaders=host, Signature=0"));
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{action}: {status} {text}");
    text
}

fn property(template: &str, table: &str, name: &str) -> serde_json::Value {
    let template: serde_json::Value = serde_json::from_str(template).unwrap();
    let mut resources = template["Resources"].as_object().unwrap().values().map(|one| &one["Properties"]);
    resources.find(|one| one["TableName"] == table).unwrap()[name].clone()
}

async fn what_the_template_makes_is_what_provision_makes(address: &str) {
    for fifo in [false, true] {
        let (account, wish) = (account(address).await, wish(fifo));
        let body = template::cloudformation(&wish).to_string();
        let stack = wish.prefix.as_str();
        let parameters =
            [("StackName", stack), ("TemplateBody", &body), ("Capabilities.member.1", "CAPABILITY_NAMED_IAM")];
        let cloudformation =
            async |action, parameters: &[_]| ask(address, "cloudformation", "2010-05-15", action, parameters).await;
        cloudformation("CreateStack", &parameters).await;
        loop {
            let said = cloudformation("DescribeStacks", &[("StackName", stack)]).await;
            if said.contains("<StackStatus>CREATE_COMPLETE<") {
                break;
            }
            assert!(said.contains("_IN_PROGRESS<"), "{said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let found = provision(&account, &wish, false).await.unwrap();
        let policies = policies(&account, &wish, false).await.unwrap();
        for one in found.iter().chain(&policies) {
            // MiniStack leaves these out, so they are read in the template.
            if let Some(table) = one.what.strip_prefix("point-in-time recovery of table ") {
                let recovery = property(&body, table, "PointInTimeRecoverySpecification");
                assert_eq!(recovery, json!({ "PointInTimeRecoveryEnabled": true }));
            } else if let Some(table) = one.what.strip_prefix("TTL of table ") {
                let ttl = property(&body, table, "TimeToLiveSpecification");
                assert_eq!(ttl, json!({ "AttributeName": "expires", "Enabled": true }));
            } else {
                assert_eq!(one.state, State::Right, "{}", one.what);
            }
        }
        // And it makes nothing else.
        let made = template::cloudformation(&wish)["Resources"].as_object().unwrap().len();
        let settings = found.iter().filter(|one| one.what.contains("TTL") || one.what.contains("recovery")).count();
        assert_eq!(made, found.len() - settings + policies.len());
    }
}

async fn a_key_of_the_clinics_own_encrypts_everything(address: &str) {
    let (account, wish) = (account(address).await, wish(false));
    let key = "1234abcd-12ab-34cd-56ef-1234567890ab";
    let own = Wish { kms_key: Some(key.to_owned()), ..wish };
    provision(&account, &own, true).await.unwrap();
    for one in provision(&account, &own, false).await.unwrap() {
        assert_eq!(one.state, State::Right, "{}", one.what);
    }
    let said = roles::policy(&own, Role::Sync).to_string();
    assert!(said.contains("kms:Decrypt") && said.contains(key), "{said}");
}

/// A key that is asked for later.
async fn what_was_made_with_awss_keys_is_changed_to_the_clinics(address: &str) {
    let (account, plain) = (account(address).await, wish(false));
    provision(&account, &plain, true).await.unwrap();
    let own = Wish { kms_key: Some("1234abcd-12ab-34cd-56ef-1234567890ab".to_owned()), ..plain };
    let mended = provision(&account, &own, true).await.unwrap();
    let mended: Vec<_> = mended.iter().filter(|one| matches!(one.state, State::Differs { mended: true, .. })).collect();
    assert_eq!(mended.len(), 14, "two queues and twelve tables: {mended:#?}");
    for one in provision(&account, &own, false).await.unwrap() {
        assert_eq!(one.state, State::Right, "{}", one.what);
    }
}

/// What only one of the emulators does as AWS documents it.
mod alone {
    /// moto's CloudFormation leaves the queues' policies out, and its tables keep the key that they were made with.
    mod ministack {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_the_template_makes_is_what_provision_makes() {
            Box::pin(crate::roles::what_the_template_makes_is_what_provision_makes(crate::aws::ministack())).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_was_made_with_awss_keys_is_changed_to_the_clinics() {
            Box::pin(crate::roles::what_was_made_with_awss_keys_is_changed_to_the_clinics(crate::aws::ministack()))
                .await;
        }
    }

    /// As AWS is: nobody may do what no policy grants.
    mod moto {
        use crate::emulator::guarded;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn each_role_does_its_own_work_and_nothing_else() {
            Box::pin(crate::roles::each_role_does_its_own_work_and_nothing_else(guarded())).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_key_that_is_revoked_and_renewed_is_taken_on_without_a_restart() {
            Box::pin(crate::roles::a_key_that_is_revoked_and_renewed_is_taken_on_without_a_restart(guarded())).await;
        }
    }
}

async fn iam(address: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    ask(address, "iam", "2010-05-08", action, parameters).await
}

fn between<'t>(text: &'t str, tag: &str) -> &'t str {
    text.split(&format!("<{tag}>")).nth(1).unwrap().split('<').next().unwrap()
}

/// A user who may do nothing but take on the roles, and its key.
async fn user(address: &str, name: &str) -> AccessKey {
    iam(address, "CreateUser", &[("UserName", name)]).await;
    let may = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/*" }]
    });
    let parameters = [("UserName", name), ("PolicyName", "roles"), ("PolicyDocument", &may.to_string())];
    iam(address, "PutUserPolicy", &parameters).await;
    key_of(address, name).await
}

async fn key_of(address: &str, user: &str) -> AccessKey {
    let made = iam(address, "CreateAccessKey", &[("UserName", user)]).await;
    AccessKey { id: between(&made, "AccessKeyId").to_owned(), secret: Secret::new(between(&made, "SecretAccessKey")) }
}

/// A role with the policy that `provision` made for it.
async fn role(address: &str, wish: &Wish, role: Role) -> String {
    let trust = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "sts:AssumeRole" }]
    });
    let name = policy_name(wish, role);
    let parameters = [("RoleName", name.as_str()), ("AssumeRolePolicyDocument", &trust.to_string())];
    let made = iam(address, "CreateRole", &parameters).await;
    let policy = format!("arn:aws:iam::123456789012:policy/chart-relay/{name}");
    iam(address, "AttachRolePolicy", &[("RoleName", &name), ("PolicyArn", &policy)]).await;
    between(&made, "Arn").to_owned()
}

async fn signed_in(address: &str, key: Arc<dyn Keys>) -> Account {
    let (region, endpoint) = (Some("us-east-1".to_owned()), Some(address.to_owned()));
    Account::new(Options { region, endpoint, access_key: Some(key) }).await
}

async fn each_role_does_its_own_work_and_nothing_else(address: &str) {
    let (administrator, wish) = (account(address).await, wish(false));
    provision(&administrator, &wish, true).await.unwrap();
    policies(&administrator, &wish, true).await.unwrap();
    let user = signed_in(address, Arc::new(user(address, &wish.prefix).await)).await;
    let denied = |fault: Fault, permission: &str| {
        assert_eq!((fault.class, fault.code), (Class::Stop, Code::AccessDenied), "{fault}");
        assert_eq!(fault.subject.as_deref(), Some(permission));
    };
    // The key by itself may do nothing.
    denied(sqs::find(&user, &wish.queue).await.unwrap_err(), &format!("sqs:GetQueueUrl on {}", wish.queue));
    let sync = user.in_role(Some(&role(address, &wish, Role::Sync).await));
    work(&sync, &wish).await.unwrap();
    let stranger = Wish { queue: "of-somebody-else".into(), prefix: "of-somebody-else".into(), ..wish.clone() };
    provision(&administrator, &stranger, true).await.unwrap();
    denied(sqs::find(&sync, &stranger.queue).await.unwrap_err(), "sqs:GetQueueUrl on of-somebody-else");

    for one in [Role::EncounterPoller, Role::DocumentPoller, Role::Inference, Role::Delivery, Role::Viewer] {
        let account = user.in_role(Some(&role(address, &wish, one).await));
        let clock = FakeClock::at(at(0));
        let ledger = dynamodb::Options { prefix: wish.prefix.clone(), figures_every: Duration::ZERO };
        let ledger = DynamoLedger::new(&account, ledger, clock.clone());
        let took = ledger.take(&patient("1"), &claim("front-desk")).await;
        let refused = if one == Role::Viewer { "firm" } else { "link" };
        denied(took.unwrap_err(), &format!("dynamodb:UpdateItem on {}-{refused}", wish.prefix));
        let url = sqs::find(&account, &wish.queue).await.unwrap();
        let queue = sqs::Options { url, visibility: wish.visibility, figures_every: Duration::ZERO };
        let queue = SqsQueue::new(&account, queue, clock);
        let received = queue.receive(1, Duration::ZERO).await;
        match one {
            Role::Delivery => drop(received.unwrap()),
            _ => denied(received.unwrap_err(), &format!("sqs:ReceiveMessage on {}", wish.queue)),
        }
        if one == Role::Viewer {
            ledger.survey().await.unwrap();
            ledger.page(Filter::All, None, 9).await.unwrap();
            queue.depth().await.unwrap();
            provision(&account, &wish, false).await.unwrap();
        } else {
            queue.send(vec![message(1)]).await.map_or_else(
                |fault| assert_eq!((one, fault.code), (Role::Delivery, Code::AccessDenied)),
                |()| assert_ne!(one, Role::Delivery),
            );
        }
    }
}

/// A store of secrets in which somebody changes the key.
#[derive(Debug)]
struct Store {
    key: Mutex<AccessKey>,
    asked: AtomicU32,
}

#[async_trait]
impl Keys for Store {
    async fn key(&self) -> Option<AccessKey> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Some(self.key.lock().unwrap().clone())
    }
}

async fn a_key_that_is_revoked_and_renewed_is_taken_on_without_a_restart(address: &str) {
    let (administrator, wish) = (account(address).await, wish(false));
    provision(&administrator, &wish, true).await.unwrap();
    policies(&administrator, &wish, true).await.unwrap();
    let first = user(address, &wish.prefix).await;
    let arn = role(address, &wish, Role::Sync).await;
    let policy = arn.replace(":role/", ":policy/chart-relay/");
    iam(address, "AttachUserPolicy", &[("UserName", &wish.prefix), ("PolicyArn", &policy)]).await;
    let store = Arc::new(Store { key: Mutex::new(first.clone()), asked: AtomicU32::default() });
    let account = signed_in(address, store.clone()).await;
    for _ in 0..5 {
        sqs::find(&account, &wish.queue).await.unwrap();
    }
    assert_eq!(store.asked.load(Ordering::Relaxed), 1, "kept as long as it is good");
    iam(address, "DeleteAccessKey", &[("UserName", &wish.prefix), ("AccessKeyId", &first.id)]).await;
    let fault = sqs::find(&account, &wish.queue).await.unwrap_err();
    assert_eq!(fault.class, Class::Stop, "{fault}");
    let renewed = key_of(address, &wish.prefix).await;
    *store.key.lock().unwrap() = renewed;
    // It is not looked for at each call.
    let patience = tokio::time::timeout(Duration::from_secs(60), async {
        while sqs::find(&account, &wish.queue).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    patience.await.expect("the renewed key is taken on");
    assert!(store.asked.load(Ordering::Relaxed) <= 4);
}
