//! The real window, driven through WebKitWebDriver: what a person sees in it and does with it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::{
    desk::screens,
    rig::{PATIENCE, until},
};

/// How an element is named on the wire.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What can be pressed and is named so, if it is there, can be seen and is not disabled.
const FIND: &str = "
    const [name] = arguments;
    const said = (element) => (element.getAttribute('aria-label') ?? element.innerText ?? '').replace(/\\s+/g, ' ').trim();
    const can = 'button, a[href], summary, input, select, label, [role=button], [role=menuitem], [role=tab], [tabindex]';
    const all = [...document.querySelectorAll(can)].filter((one) =>
        one.checkVisibility() && !one.disabled);
    return all.find((one) => said(one) === name) ?? all.find((one) => said(one).startsWith(name)) ?? null;";

pub(crate) struct Window {
    http: reqwest::Client,
    session: String,
    _driver: Child,
}

impl Window {
    /// Waits for a window that listens there, and for its page.
    pub(crate) async fn attach(inspector: u16) -> Self {
        until("the window's process listens for its driver", async || {
            TcpStream::connect(("127.0.0.1", inspector)).await.ok().map(drop)
        })
        .await;
        let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
        let driver = Command::new("WebKitWebDriver")
            .args(["--host=127.0.0.1", &format!("--port={port}"), &format!("--target=127.0.0.1:{inspector}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        until("the driver answers", async || http.get(format!("{base}/status")).send().await.ok().map(drop)).await;
        let asked = json!({"capabilities": {"alwaysMatch": {}}});
        let answer: Json =
            http.post(format!("{base}/session")).json(&asked).send().await.unwrap().json().await.unwrap();
        let id =
            answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session with the window: {answer}"));
        let window = Self { http, session: format!("{base}/session/{id}"), _driver: driver };
        window.sees("").await;
        window
    }

    async fn ask(&self, command: &str, body: Option<Json>) -> Result<Json, String> {
        let url = format!("{}/{command}", self.session);
        let request = match body {
            Some(body) => self.http.post(url).json(&body),
            None => self.http.get(url),
        };
        let answer: Json =
            request.send().await.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        match &answer["value"]["error"] {
            Json::String(_) => Err(answer["value"].to_string()),
            _ => Ok(answer["value"].clone()),
        }
    }

    pub(crate) async fn run(&self, script: &str, arguments: &[Json]) -> Json {
        self.try_run(script, arguments).await.unwrap()
    }

    async fn try_run(&self, script: &str, arguments: &[Json]) -> Result<Json, String> {
        self.ask("execute/sync", Some(json!({"script": script, "args": arguments}))).await
    }

    pub(crate) async fn run_async(&self, script: &str, arguments: &[Json]) -> Json {
        self.ask("execute/async", Some(json!({"script": script, "args": arguments}))).await.unwrap()
    }

    /// All that can be read in it.
    pub(crate) async fn text(&self) -> String {
        let text = self.try_run("return document.body.innerText", &[]).await;
        text.ok().and_then(|text| Some(text.as_str()?.to_owned())).unwrap_or_default()
    }

    /// Waits until these words can be read; "" waits for any.
    pub(crate) async fn sees(&self, words: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = self.text().await;
            if text.contains(words) && !text.trim().is_empty() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "\"{words}\" is not in the window, but:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn sees_no_longer(&self, words: &str) {
        until(&format!("\"{words}\" is gone from the window"), async || {
            let text = self.text().await;
            (!text.is_empty() && !text.contains(words)).then_some(())
        })
        .await;
    }

    async fn find(&self, script: &str, what: &str) -> Option<String> {
        let found = self.try_run(script, &[json!(what)]).await.ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    /// Whether something that can be pressed is named so.
    pub(crate) async fn offers(&self, name: &str) -> bool {
        self.find(FIND, name).await.is_some()
    }

    /// Presses what is named so, once that can be done.
    pub(crate) async fn press(&self, name: &str) {
        self.press_found(FIND, name).await;
    }

    /// Presses what this selector finds first.
    pub(crate) async fn press_at(&self, selector: &str) {
        self.press_found("return document.querySelector(arguments[0])", selector).await;
    }

    async fn press_found(&self, script: &str, what: &str) {
        let pressed = async {
            loop {
                // Between finding and pressing, the page may have drawn it anew.
                if let Some(element) = self.find(script, what).await
                    && self.ask(&format!("element/{element}/click"), Some(json!({}))).await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, pressed).await.is_err() {
            panic!("\"{what}\" cannot be pressed in:\n{}", self.text().await);
        }
    }

    pub(crate) async fn title(&self) -> String {
        self.ask("title", None).await.unwrap().as_str().unwrap().to_owned()
    }

    /// Opens a view as its link does.
    pub(crate) async fn go(&self, view: &str) {
        self.run("location.hash = '#/' + arguments[0]", &[json!(view)]).await;
        let title = format!("{}{}", view[..1].to_uppercase(), view[1..].split('?').next().unwrap());
        until(&format!("the view {view} is shown"), async || {
            let heading = self.try_run("return document.querySelector('h1')?.innerText ?? ''", &[]).await.ok()?;
            (heading == json!(title)).then_some(())
        })
        .await;
    }

    /// Keeps a picture of what is shown, once it has been painted.
    pub(crate) async fn picture(&self, name: &str) -> PathBuf {
        let painted =
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(true)));";
        self.run_async(painted, &[]).await;
        let picture = self.ask("screenshot", None).await.unwrap();
        let path = screens().join(format!("{name}.png"));
        std::fs::write(&path, STANDARD.decode(picture.as_str().unwrap()).unwrap()).unwrap();
        path
    }

    /// What axe-core finds wrong with the page as it is.
    pub(crate) async fn axe(&self) -> Vec<String> {
        let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/ui/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(axe).expect("`npm ci` in ui/ brings axe-core");
        // The driver's own scripts run past the page's policy.
        let script = format!(
            "{axe};
            const done = arguments[0];
            axe.run(document, {{ resultTypes: ['violations'] }}).then(
                ({{ violations }}) => done(violations.map(({{ id, nodes }}) => id + ': ' + nodes.map(({{ html }}) => html).join(' '))),
                (error) => done([String(error)]));"
        );
        let found = self.run_async(&script, &[]).await;
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }
}
