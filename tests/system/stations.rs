//! Stations beside each other, each a process of its own: coming to the others, being seen, going, and serving what each can.

use std::{fs, process::Stdio, time::Duration};

use chart_relay::{adapters::secrets::SealedFile, clinic_key, pairing::PairingCode, secrets::Secret};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{
    console,
    gateway::Gateway,
    installation::{Installation, PASSPHRASE, assert_refused, assert_said, said},
    post::{Post, shared, sharing},
    rig::{PATIENCE, SECRET, until},
};

mod ministack {
    use crate::emulator::ministack;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_station_that_waits_for_aws_says_so_and_goes_on_by_itself() {
        super::waits(ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_station_takes_the_clinic_key_by_a_code_once() {
        super::pairs(ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_part_is_listed_and_a_name_is_freed_when_its_station_is_gone() {
        super::listed(ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_station_without_a_firms_secret_leaves_that_firm_to_the_others() {
        super::unserved(ministack()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_station_switched_off_in_mid_run_is_taken_over_in_time_and_one_that_stops_frees_at_once() {
        super::switched_off(ministack()).await;
    }
}

async fn waits(address: &str) {
    let mut gateway = Gateway::before(address).await;
    let installation = sharing("waits", 3, 71, &gateway.address()).await;
    gateway.cut().await;
    let relay = installation.start();
    installation.status("Waiting for AWS since").await;
    let status = installation.run(&["status"]).await;
    assert_said(&status, "it cannot be reached. Changes are kept.");
    // What needs nothing of AWS works.
    assert_said(&installation.run(&["audit", "verify"]).await, "unaltered");
    assert_refused(&installation.run(&["queue"]).await, "Waiting for AWS since");
    assert_refused(&installation.run(&["sync-now"]).await, "begins nothing");
    // Told to stop meanwhile, it ends well.
    installation.stop(relay).await;
    let relay = installation.start();
    installation.status("Waiting for AWS since").await;
    gateway.mend().await;
    installation.all_arrived().await;
    installation.stop(relay).await;
}

/// `station pair` at work.
struct Pairing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    code: String,
}

impl Pairing {
    async fn at(installation: &Installation, arguments: &[&str]) -> Self {
        let mut command = installation.command(&[&["station", "pair"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a code is shown").unwrap();
            if let Some(code) = line.expect("it stays").strip_prefix("The code: ") {
                return Self { child, lines, code: code.to_owned() };
            }
        }
    }

    /// How it ended, and everything it said since the code.
    async fn ended(mut self) -> (bool, String) {
        let mut said = String::new();
        while let Some(line) = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").unwrap() {
            said.push_str(&line);
        }
        let output = self.child.wait_with_output().await.unwrap();
        (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
    }
}

async fn join(post: &Post, code: &str) -> std::process::Output {
    post.run_with_input(&["station", "join"], &format!("{code}\n")).await
}

async fn pairs(address: &str) {
    let installation = sharing("pairs", 3, 72, address).await;
    let second = Post::new(&installation, "desk-2");
    assert_said(&second.run_with_input(&["secret", "set", "aws"], "synthetic\n").await, "is set");
    // It makes no key of its own beside the others'.
    assert_said(&second.run_with_input(&["secret", "set", "north-fhir"], SECRET).await, "is set");
    assert_said(&second.run_with_input(&["secret", "set", "north-filemaker"], SECRET).await, "is set");
    let first = installation.start();
    installation.all_arrived().await;
    assert_refused(&second.run(&["run"]).await, "take it over with `chart-relay station join`");
    assert_refused(&second.run(&["station", "pair"]).await, "no clinic key that it could hand over");

    let pairing = Pairing::at(&installation, &[]).await;
    let code = pairing.code.clone();
    assert_nothing_to_read(address, &installation, &code).await;
    let mut mistyped = code.clone();
    mistyped.replace_range(5..6, if code.as_bytes()[5] == b'7' { "8" } else { "7" });
    // One check in 32 fits by chance, and then the code leads nowhere.
    let refused = said(&join(&second, &mistyped).await);
    assert!(refused.contains("Group 2 of the code has a typing error") || refused.contains("no pairing"), "{refused}");
    assert_refused(&join(&second, "ABCD-EFGH").await, "7 groups of 4");
    assert_refused(&join(&second, PairingCode::make().text().reveal()).await, "There is no pairing with this code");
    let id = installation.key().await.id();
    let joined = join(&second, &code).await;
    assert_said(&joined, &format!("Station desk-2 has the clinic key {id} now."));
    assert!(!said(&joined).contains("secret set"), "all secrets are set: {}", said(&joined));
    let (well, words) = pairing.ended().await;
    assert!(well && words.contains(&format!("Station desk-2 has the clinic key {id} now.")), "{words}");
    assert_said(&installation.run(&["audit", "list", "--limit", "5"]).await, "HandedOver");

    assert_refused(&join(&second, &code).await, "already; there is nothing to take over");
    let third = Post::new(&installation, "desk-3");
    assert_said(&third.run_with_input(&["secret", "set", "aws"], "synthetic\n").await, "is set");
    assert_refused(&join(&third, &code).await, "This code was used already");
    // Its time is over; it was given up; its command died.
    let over = Pairing::at(&installation, &["--for", "3s"]).await;
    let code = over.code.clone();
    let (well, words) = over.ended().await;
    assert!(!well && words.contains("nobody has used it"), "{words}");
    assert_refused(&join(&third, &code).await, "This code has expired");
    let given_up = Pairing::at(&installation, &[]).await;
    let (code, id) = (given_up.code.clone(), given_up.child.id().unwrap().to_string());
    let interrupted = tokio::process::Command::new("kill").args(["-INT", &id]).status().await.unwrap();
    assert!(interrupted.success());
    let (well, words) = given_up.ended().await;
    assert!(!well && words.contains("nobody has used it"), "{words}");
    assert_refused(&join(&third, &code).await, "This code has expired");
    let mut killed = Pairing::at(&installation, &[]).await;
    killed.child.kill().await.unwrap();
    assert_refused(&join(&third, &killed.code).await, "This code has expired");
    // A name that another computer has.
    let double = Post::new(&installation, "desk-2");
    assert_said(&double.run_with_input(&["secret", "set", "aws"], "synthetic\n").await, "is set");
    let pairing = Pairing::at(&installation, &[]).await;
    assert_refused(&join(&double, &pairing.code).await, "Another computer has this station's name");
    // Another clinic's key stays.
    let other = SealedFile::new(third.folder.path().join("data/secrets.sealed"), Secret::new(PASSPHRASE));
    clinic_key::establish(&other, &third.folder.path().join("data")).await.unwrap();
    assert_refused(&join(&third, &pairing.code).await, "has another clinic key");
    drop(pairing);

    let desk = second.start();
    let new = installation.chart.control().ids("Patient").len();
    assert!(new > 0);
    until("the second one takes part", async || {
        said(&second.run(&["status"]).await).contains("Up to date").then_some(())
    })
    .await;
    assert_said(&second.run(&["stop"]).await, "Done.");
    assert!(desk.wait_with_output().await.unwrap().status.success(), "{}", second.said());
    installation.stop(first).await;
}

/// All that rests in a table, as DynamoDB tells it.
async fn rests(address: &str, table: &str) -> String {
    console::ask(address, "DynamoDB_20120810.Scan", json!({ "TableName": table })).await.to_string()
}

/// What rests in AWS tells nothing of code or key.
async fn assert_nothing_to_read(address: &str, installation: &Installation, code: &str) {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let rests = rests(address, "pairs-station").await;
    assert!(rests.contains("pairing ") && rests.contains("sealed"), "{rests}");
    let key = installation.key().await;
    let key = STANDARD_NO_PAD.encode(key.expose());
    for secret in [code, &code.replace('-', ""), &key[..20]] {
        assert!(!rests.contains(secret), "{secret} is in {rests}");
    }
}

async fn listed(address: &str) {
    let installation = sharing("listed", 3, 73, address).await;
    let first = installation.start();
    installation.all_arrived().await;
    let second = Post::beside(&installation, "desk-2");
    let desk = second.start();
    until("both are listed", async || {
        let list = said(&installation.run(&["station", "list"]).await);
        (list.contains("this station") && list.contains("desk-2")).then_some(())
    })
    .await;
    let list = said(&installation.run(&["station", "list"]).await);
    assert!(list.contains(&format!("version {}", env!("CARGO_PKG_VERSION"))), "{list}");
    // Whether it was seen to move already is chance; that it runs is known either way, or not yet.
    assert_refused(&installation.run(&["station", "forget", "desk-2"]).await, "tation desk-2");
    assert_refused(&installation.run(&["station", "forget", "system-test"]).await, "This is this station");
    assert_refused(&installation.run(&["station", "forget", "nobody"]).await, "There is no station nobody");
    assert_said(&second.run(&["stop"]).await, "Done.");
    assert!(desk.wait_with_output().await.unwrap().status.success());
    until("its end is seen", async || {
        said(&installation.run(&["station", "list"]).await).contains("ended").then_some(())
    })
    .await;
    // Another computer may have the name only then.
    let double = Post::new(&installation, "desk-2");
    for entry in fs::read_dir(installation.data()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "secrets.sealed" || name == "clinic-key.id" {
            fs::copy(installation.data().join(&name), double.folder.path().join("data").join(&name)).unwrap();
        }
    }
    assert_refused(&double.run(&["run"]).await, "Another computer has this station's name");
    assert_said(&installation.run(&["station", "forget", "desk-2"]).await, "is forgotten");
    let new = double.start();
    until("the new computer takes part", async || {
        said(&double.run(&["status"]).await).contains("Up to date").then_some(())
    })
    .await;
    assert_refused(&second.run(&["run"]).await, "Another computer has this station's name");
    assert_said(&double.run(&["stop"]).await, "Done.");
    assert!(new.wait_with_output().await.unwrap().status.success());
    installation.stop(first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_that_works_by_itself_has_nothing_to_share() {
    let installation = Installation::with(1, 74, "").await;
    let output = installation.run(&["station", "pair"]).await;
    assert_refused(&output, "works by itself");
    assert_refused(&output, "chart-relay key sheet");
    for arguments in [&["station", "join"][..], &["station", "list"], &["station", "forget", "desk-2"]] {
        assert_refused(&installation.run(arguments).await, "works by itself");
    }
}

/// The sections of one firm, under another name.
fn firm_of(other: &Installation) -> String {
    let config = fs::read_to_string(other.folder.path().join("config.toml")).unwrap();
    let firm = &config[config.find("[[firm]]").unwrap()..];
    firm.replace("synthetic-north", "synthetic-south").replace("north-", "south-")
}

async fn unserved(address: &str) {
    let installation = Installation::with(3, 75, &shared(address, "unserved")).await;
    let mut south = Installation::with(3, 76, "").await;
    let file = installation.folder.path().join("config.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &firm_of(&south)).unwrap();
    installation.set_secrets().await;
    for name in ["south-fhir", "south-filemaker"] {
        installation.run_with_input(&["secret", "set", name], SECRET).await;
    }
    installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await;
    assert_said(&installation.run(&["provision"]).await, "made");
    assert_said(&installation.run(&["doctor", "--write-probe", "--yes"]).await, "Everything works.");
    let without = Post::beside(&installation, "north-only");
    assert_said(&without.run(&["secret", "delete", "south-filemaker"]).await, "is deleted");
    let alone = without.start();
    until("it says which clinic it does not serve", async || {
        let status = said(&without.run(&["status"]).await);
        let of_south =
            "synthetic-south: stopped at south-filemaker: A secret is missing, so this station does not serve";
        status.contains(of_south).then_some(())
    })
    .await;
    assert!(without.said().contains("synthetic-south"), "{}", without.said());
    // The other clinic is served; of this one nothing is done, and nothing lost.
    until("the north is in step", async || {
        let status = said(&without.run(&["queue"]).await);
        (installation.filemaker().count("Patient") == 3 && !status.contains("synthetic-north")).then_some(())
    })
    .await;
    assert_eq!(south.filemaker().count("Patient"), 0);
    let polled = rests(address, "unserved-cursor").await;
    assert!(polled.contains("synthetic-north") && !polled.contains("synthetic-south"), "a lease was taken: {polled}");
    assert!(!said(&without.run(&["locks"]).await).contains("synthetic-south"));
    let both = installation.start();
    until("the one that can serves the south", async || (south.filemaker().count("Patient") == 3).then_some(())).await;
    for _ in 0..5 {
        let patient = south.chart.generator.patient();
        south.chart.control().put(patient).unwrap();
    }
    until("what came later too", async || (south.filemaker().count("Patient") == 8).then_some(())).await;
    let done = said(&without.run(&["audit", "list", "--limit", "500"]).await);
    assert!(done.contains("synthetic-north") && !done.contains("synthetic-south/link"), "{done}");
    assert_said(&without.run(&["stop"]).await, "Done.");
    assert!(alone.wait_with_output().await.unwrap().status.success());
    installation.stop(both).await;
}

fn at_ease(installation: &Installation) {
    installation.chart.control().configure(|chart| chart.latency = Duration::ZERO);
    installation.filemaker().latency(Duration::ZERO);
}

/// The lease term and the visibility of the configuration that these tests run with.
const TERM: Duration = Duration::from_secs(10);
const VISIBILITY: Duration = Duration::from_secs(10);
/// A look at what is held, a look for due records, and the run itself on a busy machine.
const LOOKS: Duration = Duration::from_secs(8);

async fn switched_off(address: &str) {
    let mut installation = sharing("takeover", 12, 77, address).await;
    let first = installation.start();
    installation.all_arrived().await;
    let second = Post::beside(&installation, "desk-2");
    let mut desk = second.start();
    until("the second one takes part", async || {
        said(&second.run(&["status"]).await).contains("Up to date").then_some(())
    })
    .await;
    let patients = installation.chart.control().ids("Patient");
    // A run takes so long that its lease is renewed, and listed.
    installation.chart.control().configure(|chart| chart.latency = Duration::from_millis(2_500));
    installation.filemaker().latency(Duration::from_millis(1_200));
    let mut changes = patients.iter().cycle();
    let killed = until("the second one is in the middle of a run", async || {
        let locks = said(&installation.run(&["locks"]).await);
        if locks.lines().any(|line| line.contains("link/Patient/") && line.contains("held by desk-2")) {
            desk.kill().await.unwrap();
            return Some(std::time::Instant::now());
        }
        installation.chart.change("Patient", changes.next()?);
        None
    })
    .await;
    at_ease(&installation);
    installation.all_arrived().await;
    let took = killed.elapsed();
    println!("checks: taken over {:.1} s after the station was switched off", took.as_secs_f64());
    assert!(took <= VISIBILITY + TERM + LOOKS, "{took:?}");

    // Stopped in the middle of a run, it finishes that and holds nothing.
    let desk = second.start();
    until("the second one is back", async || said(&second.run(&["status"]).await).contains("Up to date").then_some(()))
        .await;
    installation.filemaker().latency(Duration::from_millis(500));
    for id in &patients {
        installation.chart.change("Patient", id);
    }
    until("it is at work", async || (installation.filemaker().counts().in_flight > 0).then_some(())).await;
    assert_said(&second.run(&["stop"]).await, "Done.");
    assert!(desk.wait_with_output().await.unwrap().status.success(), "{}", second.said());
    let held = said(&installation.run(&["locks"]).await);
    assert!(!held.contains("desk-2"), "{held}");
    installation.filemaker().latency(Duration::ZERO);
    installation.all_arrived().await;
    installation.stop(first).await;
}
