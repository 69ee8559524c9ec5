//! Stands between the adapters and an emulator and does to requests what networks and services do: the answer is lost on its way,
//! the service refuses, a part of a batch fails, all of it is away, or asks to slow down.

#![allow(dead_code, reason = "tests of different kinds use different parts")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What becomes of one request.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "each test does its part")]
pub(crate) enum Act {
    /// It is carried out, and its answer is not delivered.
    LoseAnswer,
    /// Whoever asked sees the connection end; it is carried out once so many later requests of this operation were answered.
    Late(u32),
    /// It is not carried out, and answered with this status and this JSON.
    Answer(u16, String),
    /// It is carried out, and answered so all the same.
    AnswerInstead(u16, String),
}

/// What becomes of all requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    #[default]
    Fair,
    /// Nobody answers.
    Away,
    /// Each is refused, because there are too many.
    Throttling,
    /// Each takes so many milliseconds longer.
    Slow(u64),
}

/// What is done with every request, or with those of one operation.
type Always = (Option<&'static str>, Act);

#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    /// Operation and what becomes of its next request.
    acts: Arc<Mutex<VecDeque<(&'static str, Act)>>>,
    /// What becomes of every request, or of those of one operation, until further notice.
    always: Arc<Mutex<Option<Always>>>,
    /// How many requests of each operation were answered.
    answered: Arc<Mutex<std::collections::BTreeMap<String, u32>>>,
    late: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
    weather: Arc<Mutex<Weather>>,
}

#[allow(dead_code, reason = "each test uses its part")]
impl Proxy {
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Self {
            address,
            acts: Arc::default(),
            always: Arc::default(),
            answered: Arc::default(),
            late: Arc::default(),
            weather: Arc::default(),
        };
        let (this, upstream) = (proxy.clone(), upstream.to_owned());
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (this, client, upstream) = (this.clone(), client.clone(), upstream.clone());
                tokio::spawn(async move { this.serve(stream, &client, &upstream).await });
            }
        });
        proxy
    }

    /// The next request of this operation fares so; asked several times, the next ones.
    pub(crate) fn next(&self, operation: &'static str, act: Act) {
        self.acts.lock().unwrap().push_back((operation, act));
    }

    /// Every request, or every one of an operation, fares so from now on; `None`: as usual again.
    pub(crate) fn always(&self, act: Option<(Option<&'static str>, Act)>) {
        *self.always.lock().unwrap() = act;
    }

    pub(crate) fn weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// All that was ordered has happened.
    pub(crate) fn is_done(&self) -> bool {
        self.acts.lock().unwrap().is_empty()
    }

    /// Waits for what was held back.
    pub(crate) async fn late_ones_arrived(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for one in late {
            one.await.unwrap();
        }
    }

    /// Counts from now on.
    pub(crate) fn reset(&self) {
        self.answered.lock().unwrap().clear();
    }

    /// How many requests of each operation were answered.
    pub(crate) fn requests(&self) -> std::collections::BTreeMap<String, u32> {
        self.answered.lock().unwrap().clone()
    }

    fn count(&self, operation: &str) -> u32 {
        self.answered.lock().unwrap().get(operation).copied().unwrap_or(0)
    }

    fn act(&self, operation: &str) -> Option<Act> {
        if let Some((which, act)) = &*self.always.lock().unwrap()
            && which.is_none_or(|which| which == operation)
        {
            return Some(act.clone());
        }
        let mut acts = self.acts.lock().unwrap();
        let at = acts.iter().position(|(name, _)| *name == operation)?;
        acts.remove(at).map(|(_, act)| act)
    }

    async fn serve(&self, stream: TcpStream, client: &reqwest::Client, upstream: &str) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).ok()?;
            let headers: Vec<(&str, &str)> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
            let header =
                |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
            let mut body = vec![0; header("content-length")?.parse().ok()?];
            stream.read_exact(&mut body).await.ok()?;
            // IAM and STS name it in the body.
            let operation = header("x-amz-target").unwrap_or_default().rsplit('.').next()?.to_owned();
            let weather = *self.weather.lock().unwrap();
            let act = match weather {
                Weather::Away => return None,
                Weather::Throttling => {
                    let refusal =
                        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"SYNTHETIC"}"#;
                    Some(Act::Answer(400, refusal.to_owned()))
                }
                Weather::Slow(millis) => {
                    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                    self.act(&operation)
                }
                Weather::Fair => self.act(&operation),
            };
            let answer = match act {
                Some(Act::Answer(status, json)) => (status, json.into_bytes()),
                act => {
                    let mut request = client.post(upstream).body(body);
                    for (name, value) in &headers {
                        if !["content-length", "host", "connection"].contains(&name.to_lowercase().as_str()) {
                            request = request.header(*name, *value);
                        }
                    }
                    if let Some(Act::Late(after)) = act {
                        let until = self.count(&operation) + after;
                        let this = self.clone();
                        let late = async move {
                            while this.count(&operation) < until {
                                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                            }
                            request.send().await.unwrap();
                        };
                        self.late.lock().unwrap().push(tokio::spawn(late));
                        return None;
                    }
                    let answer = request.send().await.ok()?;
                    let answer = (answer.status().as_u16(), answer.bytes().await.ok()?.to_vec());
                    match act {
                        // Whoever asked sees the connection end.
                        Some(Act::LoseAnswer) => return None,
                        Some(Act::AnswerInstead(status, json)) => (status, json.into_bytes()),
                        _ => answer,
                    }
                }
            };
            let (status, json) = answer;
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
                json.len()
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&json).await.ok()?;
            *self.answered.lock().unwrap().entry(operation).or_default() += 1;
        }
    }
}
