//! The window's commands as the page reaches them: through tauri's own gate, with the real capability and permissions, on a runtime that
//! draws nothing. The relay is a stand-in that speaks on the real socket.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    action::{Action, Choice, Seen},
    error::Code,
    fakes::FakeClock,
    key::RecordKey,
    keys::{ClinicKey, Hasher},
    ledger::{Dead, Record, Stamp},
    row::Value,
    snapshot::Snapshot,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tauri::{
    App, WebviewWindow, WebviewWindowBuilder,
    async_runtime::block_on,
    ipc::{CallbackFn, InvokeBody},
    test::{INVOKE_KEY, MockRuntime, get_ipc_response, mock_builder},
    webview::InvokeRequest,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{client::Client, commands, context, pin, whereabouts::Whereabouts, window};
use crate::{
    adapters::secrets::Memory,
    config::Config,
    control::{About, Answer, Letter, Request, Tag},
    socket::{Reply, Server},
    view::desk::Opening,
};

/// Which commands answer although the window is locked: without any of them it could not be opened again.
const WHILE_LOCKED: [&str; 4] = ["active", "lock", "opening", "unlock"];

/// A desk with a configuration, a window, and whatever was asked of its relay.
struct Desk {
    _folder: TempDir,
    client: Arc<Client>,
    clock: Arc<FakeClock>,
    app: App<MockRuntime>,
    window: WebviewWindow<MockRuntime>,
    config: Config,
    done: Arc<Mutex<Vec<Action>>>,
}

impl Desk {
    fn new(role: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let example = include_str!("../../docs/example.toml");
        let text = example.replacen("role = \"front-desk\"", &format!("role = \"{role}\""), 1).replacen(
            "[station]\n",
            &format!("[station]\ndata-directory = {}\n", serde_json::to_string(&data).unwrap()),
            1,
        );
        let file = folder.path().join("config.toml");
        fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let clock = FakeClock::at(Timestamp::UNIX_EPOCH);
        let client = Arc::new(Client::with(Some(file), None, clock.clone()));
        client.lock_at_first();
        let app = window::build(mock_builder(), client.clone(), context()).unwrap();
        let window = WebviewWindowBuilder::new(&app, window::MAIN, tauri::WebviewUrl::default()).build().unwrap();
        Self { _folder: folder, client, clock, app, window, config, done: Arc::default() }
    }

    /// A relay that answers and does nothing.
    fn relay(&self) -> Relay {
        let stop = CancellationToken::new();
        let (done, about, ends) = (self.done.clone(), About::of(&self.config, false), stop.clone());
        let data = self.config.station.data_directory.clone().unwrap();
        let server = block_on(async { Server::bind(&data) }).unwrap();
        let shown = Snapshot::empty(Timestamp::UNIX_EPOCH);
        let serving = tauri::async_runtime::spawn(server.serve(ends, move |request: Request| {
            let (done, about, shown) = (done.clone(), about.clone(), Box::new(shown.clone()));
            async move {
                Reply::One(match request {
                    Request::Watch => {
                        let first = futures::stream::iter([Answer::Snapshot(shown)]);
                        return Reply::Many(first.chain(futures::stream::pending()).boxed());
                    }
                    Request::About => Answer::About(about),
                    Request::Names { keys } => {
                        let tag = |key: RecordKey| Tag { pseudonym: key.id.to_string(), patient: true, key };
                        Answer::Names(keys.into_iter().map(tag).collect())
                    }
                    Request::Records { after, limit, .. } => {
                        let rest =
                            dead().into_iter().filter(|record| after.as_ref().is_none_or(|after| record.key > *after));
                        Answer::Records { records: rest.take(limit.min(5)).collect(), total: 12 }
                    }
                    Request::DeadLetters { .. } => Answer::DeadLetters { letters: letters(), more: false },
                    Request::Act { action, .. } => {
                        done.lock().unwrap().push(action);
                        Answer::Done
                    }
                    _ => Answer::Done,
                })
            }
        }));
        Relay { stop, serving }
    }

    fn ask(&self, command: &str, body: Json) -> Result<Json, Json> {
        ask(&self.window, command, body)
    }

    /// Follows the relay, and has its first picture.
    fn pictured(&self) -> tauri::async_runtime::JoinHandle<()> {
        let following = self.client.clone();
        let following = tauri::async_runtime::spawn(async move { following.follow().await });
        let first = async {
            while self.client.desk().is_none() {
                let _ = tokio::time::timeout(Duration::from_millis(200), self.client.changed()).await;
            }
        };
        block_on(async { tokio::time::timeout(Duration::from_secs(20), first).await }).unwrap();
        following
    }
}

/// Twelve records that died, of which one was set aside.
fn dead() -> Vec<Record> {
    (10..22)
        .map(|id| {
            let code = if id < 13 { Code::DuplicateRows } else { Code::ValueRefused };
            let since = Timestamp::from_second(id).unwrap();
            Record {
                key: RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap(),
                state: String::new(),
                stamp: Stamp { epoch: 1, beat: 0 },
                held: None,
                generation: 1,
                wanted: None,
                attempts: 0,
                dead: Some(Dead { code, since, set_aside: id == 21 }),
                notice: None,
                updated: since,
            }
        })
        .collect()
}

fn letters() -> Vec<Letter> {
    let letter = |id: &str, kept| Letter {
        id: id.to_owned(),
        code: Code::Malformed,
        reason: "synthetic".to_owned(),
        first_seen: Timestamp::from_second(20).unwrap(),
        kept,
    };
    vec![letter("m-1", true), letter("m-2", false)]
}

struct Relay {
    stop: CancellationToken,
    serving: tauri::async_runtime::JoinHandle<()>,
}

impl Relay {
    /// Waits until it is gone, so that another one can come.
    fn goes_away(self) {
        self.stop.cancel();
        block_on(self.serving).unwrap();
    }
}

fn ask(window: &WebviewWindow<MockRuntime>, command: &str, body: Json) -> Result<Json, Json> {
    let request = InvokeRequest {
        cmd: command.to_owned(),
        callback: CallbackFn(0),
        error: CallbackFn(1),
        url: "tauri://localhost".parse().unwrap(),
        body: InvokeBody::Json(body),
        headers: tauri::http::HeaderMap::new(),
        invoke_key: INVOKE_KEY.to_owned(),
    };
    get_ipc_response(window, request).map(|body| body.deserialize().unwrap())
}

/// Everything that any command takes, under its name.
fn everything() -> Json {
    let key = "north/link/Patient/1";
    json!({
        "query": { "before": null, "direction": null, "outcome": null, "record": null, "since": null, "until": null,
                   "person": null, "act": null },
        "length": "hour", "keys": [key], "token": "one", "reason": "not-needed", "on": true, "pin": "0000",
        "key": key, "entry": 1, "whole": false,
        "chosen": [{ "field": "City", "seen": seen(), "take": "typed", "typed": "SYNTHETIC" }],
    })
}

/// What a person saw of a field, as the page hands it back.
fn seen() -> String {
    let hash = Hasher::new(&ClinicKey::from_bytes([1; 32])).hash(
        &RecordKey::parse("north/link/Patient/1").unwrap(),
        "City",
        &Value::Blank,
    );
    serde_json::to_string(&Seen { chart: hash, row: hash }).unwrap()
}

fn sentence(refused: &Json) -> &str {
    refused["sentence"].as_str().unwrap_or_else(|| panic!("a problem has a sentence: {refused}"))
}

#[test]
fn the_permission_lists_every_command_and_nothing_else() {
    let file = include_str!("../permissions/desk.toml");
    let file: toml::Value = toml::from_str(file).unwrap();
    let permissions = file["permission"].as_array().unwrap();
    assert_eq!(permissions.len(), 1);
    let allowed = permissions[0]["commands"]["allow"].as_array().unwrap();
    let mut allowed: Vec<_> = allowed.iter().map(|name| name.as_str().unwrap()).collect();
    let mut known = commands::NAMES.to_vec();
    allowed.sort_unstable();
    known.sort_unstable();
    assert_eq!(allowed, known);
}

#[test]
fn nothing_but_our_commands_is_answered_and_only_in_our_window() {
    let desk = Desk::new("it");
    assert_eq!(desk.ask("desk", json!({})), Ok(Json::Null), "no relay, no picture");
    let foreign = [
        "nonsense",
        "plugin:window|close",
        "plugin:webview|create_webview_window",
        "plugin:path|resolve_directory",
        "plugin:app|version",
        "plugin:event|emit",
        "plugin:notification|notify",
        "plugin:autostart|enable",
        "plugin:shell|open",
        "plugin:fs|read_file",
    ];
    for command in foreign {
        let refused = desk.ask(command, json!({})).unwrap_err().to_string();
        assert!(refused.contains("not allowed") || refused.contains("not found"), "{command}: {refused}");
    }
    let other = WebviewWindowBuilder::new(&desk.app, "other", tauri::WebviewUrl::default()).build().unwrap();
    for command in commands::NAMES {
        let refused = ask(&other, command, everything()).unwrap_err().to_string();
        assert!(refused.contains("not allowed"), "{command}: {refused}");
    }
}

#[test]
fn a_locked_window_answers_nothing_until_it_is_opened() {
    let desk = Desk::new("it");
    let _relay = desk.relay();
    desk.ask("lock", json!({})).unwrap();
    for command in commands::NAMES.iter().filter(|name| !WHILE_LOCKED.contains(name)) {
        let refused = desk.ask(command, everything()).unwrap_err();
        assert!(sentence(&refused).contains("locked"), "{command}: {refused}");
    }
    assert!(desk.done.lock().unwrap().is_empty());
    desk.ask("active", json!({})).unwrap();
    assert_eq!(desk.ask("opening", json!({})), Ok(json!({ "is": "locked", "pin": false })));
    assert_eq!(desk.ask("unlock", json!({ "pin": "" })), Ok(json!(true)), "no PIN is set");
    assert_eq!(desk.ask("sync_now", json!({})), Ok(Json::Null));
}

#[test]
fn it_locks_when_nobody_was_there_for_so_long() {
    let desk = Desk::new("it");
    desk.clock.suspend(Duration::from_secs(299));
    desk.ask("active", json!({})).unwrap();
    desk.clock.suspend(Duration::from_secs(299));
    assert!(!desk.client.lock_if_idle());
    desk.clock.suspend(Duration::from_secs(1));
    assert!(desk.client.lock_if_idle());
    assert!(sentence(&desk.ask("desk", json!({})).unwrap_err()).contains("locked"));
}

#[test]
fn with_a_pin_the_window_opens_locked() {
    let desk = Desk::new("it");
    let data = desk.config.station.data_directory.clone().unwrap();
    block_on(pin::set(&Memory::new(), &data, "8421")).unwrap();
    desk.client.lock_at_first();
    assert_eq!(desk.ask("opening", json!({})), Ok(json!({ "is": "locked", "pin": true })));
    assert!(desk.ask("desk", json!({})).is_err());
}

#[test]
fn each_role_may_what_is_its_own() {
    let refused = |desk: &Desk, command: &str| {
        let mut given = everything();
        // Each is a click of its own.
        given["token"] = json!(command);
        desk.ask(command, given).is_err()
    };
    let many: Vec<_> = (0..11).map(|id| format!("north/link/Patient/{id}")).collect();
    for (role, may_not) in [
        ("front-desk", &["drop_letters", "verify_audit"][..]),
        ("manager", &["drop_letters", "verify_audit"]),
        (
            "clinician",
            &["drop_letters", "pause", "put_back", "resume", "resync", "retry", "set_aside", "settle", "verify_audit"],
        ),
        ("it", &[]),
    ] {
        let desk = Desk::new(role);
        let _relay = desk.relay();
        for command in
            ["drop_letters", "pause", "put_back", "resume", "resync", "retry", "set_aside", "settle", "sync_now"]
        {
            let before = desk.done.lock().unwrap().len();
            assert_eq!(refused(&desk, command), may_not.contains(&command), "{role}: {command}");
            let asked = desk.done.lock().unwrap().len() - before;
            assert_eq!(asked, usize::from(!may_not.contains(&command)), "{role}: {command}: before it is asked for");
        }
        assert_eq!(
            desk.ask("verify_audit", json!({})).unwrap_err().to_string().contains("is for IT"),
            may_not.contains(&"verify_audit"),
            "{role}"
        );
        let many = desk.ask("set_aside", json!({ "keys": many, "reason": "not-needed" }));
        assert_eq!(many.is_ok(), ["manager", "it"].contains(&role), "{role}");
    }
}

#[test]
fn a_click_is_one_retry_however_often_it_arrives() {
    let desk = Desk::new("it");
    let _relay = desk.relay();
    let retry = |token: &str| desk.ask("retry", json!({ "keys": ["north/link/Patient/1"], "token": token }));
    for token in ["one", "one", "two", "one"] {
        assert_eq!(retry(token), Ok(Json::Null));
    }
    assert_eq!(desk.done.lock().unwrap().len(), 2);
    for keys in [json!([]), json!(["Patient/1"]), json!(["north/link/Patient/1", "x"])] {
        let refused = desk.ask("retry", json!({ "keys": keys, "token": "three" })).unwrap_err();
        assert!(sentence(&refused).ends_with("Nothing was done."), "{refused}");
    }
}

#[test]
fn what_was_shown_is_tried_again_once_and_nothing_else_is() {
    let desk = Desk::new("manager");
    let _relay = desk.relay();
    let plan = |reason: Option<&str>| desk.ask("redrive_plan", json!({ "reason": reason })).unwrap();
    let following = desk.pictured();
    assert_eq!(desk.ask("redrive", json!({})), Ok(Json::Null), "nothing was shown yet");
    let all = plan(None);
    assert_eq!((&all["items"], &all["messages"], &all["stay"]), (&json!(12), &json!(1), &json!(1)));
    let reasons: Vec<_> = all["reasons"].as_array().unwrap().iter().map(|one| (&one["code"], &one["count"])).collect();
    assert_eq!(
        format!("{reasons:?}"),
        r#"[(String("value-refused"), Number(8)), (String("duplicate-rows"), Number(3)), (String("malformed"), Number(1))]"#
    );
    assert_eq!(all["oldest"], "1970-01-01T00:00:10.000Z");
    assert_eq!(all["records"].as_array().unwrap().len(), 5);
    // What is shown last is what is done.
    assert_eq!(plan(Some("duplicate-rows"))["items"], 3);
    assert!(desk.done.lock().unwrap().is_empty());
    for _ in 0..2 {
        assert_eq!(desk.ask("redrive", json!({})), Ok(Json::Null));
    }
    let key = |id: u32| RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap();
    let first = Action::Retry { keys: (10..13).map(key).collect() };
    assert_eq!(*desk.done.lock().unwrap(), std::slice::from_ref(&first));
    plan(None);
    desk.ask("redrive", json!({})).unwrap();
    let rest =
        [first, Action::Retry { keys: (10..21).map(key).collect() }, Action::RetryLetters { ids: vec!["m-1".into()] }];
    assert_eq!(*desk.done.lock().unwrap(), rest);
    following.abort();

    // Eleven are too many for the front desk, and three are not.
    let desk = Desk::new("front-desk");
    let _relay = desk.relay();
    let following = desk.pictured();
    assert_eq!(desk.ask("redrive_plan", json!({ "reason": null })).unwrap()["too_many"], true);
    assert!(sentence(&desk.ask("redrive", json!({})).unwrap_err()).contains("Nothing was done"));
    assert_eq!(desk.ask("redrive_plan", json!({ "reason": "duplicate-rows" })).unwrap()["too_many"], false);
    desk.ask("redrive", json!({})).unwrap();
    assert_eq!(desk.done.lock().unwrap().len(), 1);
    following.abort();
}

#[test]
fn a_choice_is_made_once_and_is_bound_to_what_was_seen() {
    let desk = Desk::new("front-desk");
    let _relay = desk.relay();
    let settle = |chosen: Json, token: &str| {
        desk.ask("settle", json!({ "key": "north/link/Patient/1", "chosen": chosen, "token": token }))
    };
    let one = |take: &str, typed: Json| json!([{ "field": "City", "seen": seen(), "take": take, "typed": typed }]);
    let settled = json!([{ "field": "City", "problem": null, "moved": false }]);
    assert_eq!(settle(one("chart", Json::Null), "one"), Ok(settled));
    assert_eq!(settle(one("chart", Json::Null), "one"), Ok(json!([])), "the same click");
    {
        let done = desk.done.lock().unwrap();
        let [Action::Settle { field, seen: bound, choice: Choice::Chart, .. }] = &done[..] else { panic!("{done:?}") };
        assert_eq!(field, "City");
        assert_eq!(serde_json::to_string(bound).unwrap(), seen());
    }
    // What is not complete is not begun, and none of it.
    for unclear in [one("typed", Json::Null), one("file-maker", json!("SYNTHETIC"))] {
        let refused = settle(unclear, "two").unwrap_err();
        assert!(sentence(&refused).contains("Nothing was done"), "{refused}");
        assert!(!refused.to_string().contains("SYNTHETIC"));
    }
    assert_eq!(desk.done.lock().unwrap().len(), 1);
}

#[test]
fn a_relay_that_goes_away_leaves_its_last_picture_with_its_time_and_comes_back() {
    let desk = Desk::new("front-desk");
    let relay = desk.relay();
    let following = desk.client.clone();
    let following = tauri::async_runtime::spawn(async move { following.follow().await });
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let waiting = async {
            while !holds() {
                let _ = tokio::time::timeout(Duration::from_millis(200), desk.client.changed()).await;
            }
        };
        let bounded = async { tokio::time::timeout(Duration::from_secs(20), waiting).await };
        assert!(block_on(bounded).is_ok(), "{what}");
    };
    until("a picture", &|| desk.client.desk().is_some());
    let shown = desk.ask("desk", json!({})).unwrap();
    assert_eq!(shown["live"]["is"], "live");
    assert_eq!(shown["station"]["role"], "front-desk");
    assert_eq!(shown["station"]["privacy"], true);
    assert_eq!(shown["station"]["tray"], false);
    assert_eq!(desk.ask("opening", json!({})), Ok(json!({ "is": "ready" })));
    relay.goes_away();
    desk.clock.suspend(Duration::from_secs(60));
    let shown = desk.ask("desk", json!({})).unwrap();
    assert_eq!(shown["live"]["is"], "silent", "{shown}");
    assert_eq!(shown["card"]["state"], "no-news");
    until("nobody listens", &|| desk.ask("sync_now", json!({})).is_err());
    let _relay = desk.relay();
    until("it is live again", &|| desk.ask("desk", json!({})).unwrap()["live"]["is"] == "live");
    following.abort();
}

#[test]
fn a_list_of_any_length_gets_its_names() {
    let desk = Desk::new("it");
    let _relay = desk.relay();
    // Ids as long as they may be: all at once would be more than the socket takes.
    let keys: Vec<_> =
        (0..1_000).map(|id| RecordKey::parse(&format!("north/link/QuestionnaireResponse/{id:064}")).unwrap()).collect();
    block_on(desk.client.learn(&keys));
    assert_eq!(desk.client.unknown(&keys), 0);
}

#[test]
fn without_a_configuration_it_says_where_one_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let opening = || Whereabouts::find(Some(&file)).unwrap().place.unwrap_err();
    assert_eq!(opening(), Opening::Welcome { file: file.display().to_string() });
    fs::write(&file, "[station]\nid = \"Front Desk\"\n").unwrap();
    let Opening::Mistakes { mistakes, .. } = opening() else { panic!("{:?}", opening()) };
    assert!(mistakes.len() >= 2, "all of them: {mistakes:?}");
}
