//! The local socket: how a command reaches the relay that is running on the same data directory. One process has the database
//! (docs/architecture.md), so `status`, `pause` and the like are asked of that process.
//!
//! A Unix domain socket or a Windows named pipe, for the same OS account only. On it, lines of JSON, each with the version of this
//! protocol: a request, then one answer, or answers until somebody stops. What requests and answers are is the caller's affair
//! (see [`crate::control`]); they must hold no secrets.
//!
//! ```text
//! -> {"version":1,"request":...}
//! <- {"version":1,"said":{"answer":...}}     or {"version":1,"said":{"refused":"a sentence"}}
//! <- {"version":1,"said":"end"}              after the last of several answers
//! ```

mod place;

use std::{future::Future, io, marker::PhantomData, path::Path, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use interprocess::local_socket::{
    tokio::{Listener, Stream},
    traits::tokio::{Listener as _, Stream as _},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Of the lines, not of what is in them.
pub const VERSION: u32 = 1;
/// Bytes of one request line.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Bytes of one answer line; a client does not read on past it.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// At once; the next one is told to come again.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may be silent before its request, and how long it may leave an answer unread.
const IDLE: Duration = Duration::from_secs(30);
/// How long connections may finish what they are doing when the relay stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// After the system refused to accept a connection (it is out of descriptors, say).
const BREATHER: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    #[error("no relay is running on this data directory")]
    NobodyListens,
    #[error("a relay is running on this data directory already")]
    AlreadyRunning,
    #[error(
        "the running relay speaks version {theirs} of this command's language, this command version {VERSION}; use the program of the same version"
    )]
    Version { theirs: u32 },
    /// In the relay's own words.
    #[error("{0}")]
    Refused(String),
    #[error("more than {limit} bytes in one line")]
    TooLong { limit: usize },
    #[error("the running relay's answer is not understood")]
    NotUnderstood,
    #[error("the relay closed the connection before it had answered")]
    Closed,
    #[error("the running relay has not answered within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the data directory's path is too long for a socket in it (some 90 bytes): choose a shorter one")]
    PathTooLong,
    #[error(
        "this data directory belongs to another account of this computer. Sign in as that account, or name a data-directory of your own in the configuration"
    )]
    OtherAccount,
    #[error("the relay's socket cannot be used: {0}")]
    System(io::ErrorKind),
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            kind => Self::System(kind),
        }
    }
}

/// What a request is answered with.
pub enum Reply<A> {
    One(A),
    /// Until it ends, the client goes, or the relay stops.
    Many(BoxStream<'static, A>),
}

impl<A> std::fmt::Debug for Reply<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "Reply::One",
            Self::Many(_) => "Reply::Many",
        })
    }
}

/// Read before anything else of a line: the rest may look different in another version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Asked<Q> {
    version: u32,
    request: Q,
}

#[derive(Serialize, Deserialize)]
struct Line<S> {
    version: u32,
    said: S,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said<A> {
    Answer(A),
    Refused(String),
    End,
}

/// The listening side. While it lives, nobody else can listen on the data directory; a crash frees it.
#[derive(Debug)]
pub struct Server {
    // In this order: the name goes before the lock that guards it.
    listener: Listener,
    place: place::Place,
}

impl Server {
    /// Must be called inside a tokio runtime. What a crashed process left behind is replaced.
    pub fn bind(data: &Path) -> Result<Self, SocketError> {
        let (place, listener) = place::Place::take(data)?;
        Ok(Self { listener, place })
    }

    /// Answers until `stop`; then finishes what it is answering and ends.
    pub async fn serve<Q, A, F, Fut>(self, stop: CancellationToken, handle: F)
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + Send + 'static,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply<A>> + Send + 'static,
    {
        let Self { listener, place } = self;
        let handle = Arc::new(handle);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                // Ended ones are let go of here, so that the set does not grow.
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::warn!(kind = %error.kind(), "the local socket could not accept a connection");
                        tokio::time::sleep(BREATHER).await;
                        continue;
                    }
                },
            };
            let mut connection = Connection::new(stream);
            let refusal = match places.clone().try_acquire_owned() {
                Ok(permit) if place::same_account(connection.stream()) => {
                    let (handle, stop) = (handle.clone(), stop.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        // A client that went away or talks nonsense concerns nobody else.
                        let _ = answer_all(&mut connection, &stop, handle.as_ref()).await;
                    });
                    continue;
                }
                Ok(_) => "the relay runs under another account; run this command as that account",
                Err(_) => "too many commands talk to the relay at once; try again in a moment",
            };
            connections.spawn(async move {
                let _ = connection.say(Said::<()>::Refused(refusal.to_owned())).await;
            });
        }
        drop(listener);
        let finish = async { while connections.join_next().await.is_some() {} };
        // Those that are still not through are ended with the set.
        let _ = timeout(FAREWELL, finish).await;
        drop(place);
    }
}

async fn answer_all<Q, A, F, Fut>(
    connection: &mut Connection,
    stop: &CancellationToken,
    handle: &F,
) -> Result<(), SocketError>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Fn(Q) -> Fut,
    Fut: Future<Output = Reply<A>>,
{
    loop {
        let line = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            line = timeout(IDLE, connection.line(MAX_REQUEST)) => match line {
                Ok(Ok(line)) => line,
                Ok(Err(error @ SocketError::TooLong { .. })) => {
                    let refusal = format!("the request was refused: {error}");
                    return connection.say(Said::<A>::Refused(refusal)).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            },
        };
        let request = match understand(&line) {
            Ok(request) => request,
            Err(refusal) => {
                connection.say(Said::<A>::Refused(refusal)).await?;
                continue;
            }
        };
        match handle(request).await {
            Reply::One(answer) => connection.say(Said::Answer(answer)).await?,
            Reply::Many(mut answers) => {
                loop {
                    let answer = tokio::select! {
                        () = stop.cancelled() => None,
                        answer = answers.next() => answer,
                        // It has nothing to say now: this is its going away.
                        _ = connection.line(MAX_REQUEST) => return Ok(()),
                    };
                    let Some(answer) = answer else { break };
                    connection.say(Said::Answer(answer)).await?;
                }
                connection.say(Said::<A>::End).await?;
            }
        }
    }
}

fn understand<Q: DeserializeOwned>(line: &[u8]) -> Result<Q, String> {
    match serde_json::from_slice(line) {
        Ok(Versioned { version: VERSION }) => {}
        Ok(Versioned { version }) => {
            return Err(format!(
                "this relay speaks version {VERSION} of this command's language, the command version {version}; use the \
                 program of the same version"
            ));
        }
        Err(_) => return Err("the request is not a line of JSON with a version".to_owned()),
    }
    // Where, never what: the text is the sender's.
    serde_json::from_slice(line)
        .map(|Asked { request, .. }: Asked<Q>| request)
        .map_err(|error| format!("this relay does not know such a request (column {})", error.column()))
}

/// Asks one thing of the relay on this data directory, waiting at most `patience` for everything.
pub async fn call<Q: Serialize, A: DeserializeOwned>(
    data: &Path,
    request: &Q,
    patience: Duration,
) -> Result<A, SocketError> {
    let asking = async {
        let mut watch = watch(data, request).await?;
        watch.next().await.unwrap_or(Err(SocketError::Closed))
    };
    timeout(patience, asking).await.unwrap_or(Err(SocketError::NoAnswer(patience)))
}

/// Asks for answers that go on coming.
pub async fn watch<Q: Serialize, A: DeserializeOwned>(data: &Path, request: &Q) -> Result<Watch<A>, SocketError> {
    let line = to_line(&Asked { version: VERSION, request })?;
    if line.len() > MAX_REQUEST {
        return Err(SocketError::TooLong { limit: MAX_REQUEST });
    }
    let name = place::find(data)?;
    let mut connection = Connection::new(Stream::connect(name).await.map_err(place::connecting)?);
    match connection.write(&line).await {
        // Refused before it was heard out: the refusal is there to be read.
        Ok(()) | Err(SocketError::Closed) => Ok(Watch { connection, answers: PhantomData }),
        Err(error) => Err(error),
    }
}

/// The answers to one request.
#[derive(Debug)]
pub struct Watch<A> {
    connection: Connection,
    answers: PhantomData<fn() -> A>,
}

impl<A: DeserializeOwned> Watch<A> {
    /// The next answer; `None` after the last. May be dropped while waiting without losing anything.
    pub async fn next(&mut self) -> Option<Result<A, SocketError>> {
        let line = match self.connection.line(MAX_ANSWER).await {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        match serde_json::from_slice(&line) {
            Ok(Versioned { version: VERSION }) => {}
            Ok(Versioned { version }) => return Some(Err(SocketError::Version { theirs: version })),
            Err(_) => return Some(Err(SocketError::NotUnderstood)),
        }
        match serde_json::from_slice(&line).map(|Line { said, .. }| said) {
            Ok(Said::Answer(answer)) => Some(Ok(answer)),
            Ok(Said::Refused(sentence)) => Some(Err(SocketError::Refused(sentence))),
            Ok(Said::End) => None,
            Err(_) => Some(Err(SocketError::NotUnderstood)),
        }
    }
}

fn to_line(value: &impl Serialize) -> Result<Vec<u8>, SocketError> {
    let mut line = serde_json::to_vec(value).map_err(|_| SocketError::NotUnderstood)?;
    line.push(b'\n');
    Ok(line)
}

/// A stream of lines, both ways.
#[derive(Debug)]
struct Connection {
    stream: BufReader<Stream>,
    /// What of the next line has come; kept here so that waiting for a line can be given up and taken up again.
    begun: Vec<u8>,
}

impl Connection {
    fn new(stream: Stream) -> Self {
        Self { stream: BufReader::new(stream), begun: Vec::new() }
    }

    fn stream(&self) -> &Stream {
        self.stream.get_ref()
    }

    /// The next line, without its end.
    async fn line(&mut self, limit: usize) -> Result<Vec<u8>, SocketError> {
        let rest = (limit + 1).saturating_sub(self.begun.len());
        (&mut self.stream).take(rest as u64).read_until(b'\n', &mut self.begun).await?;
        match self.begun.last() {
            Some(b'\n') => {
                let mut line = std::mem::take(&mut self.begun);
                line.pop();
                Ok(line)
            }
            _ if self.begun.len() > limit => Err(SocketError::TooLong { limit }),
            _ => Err(SocketError::Closed),
        }
    }

    async fn write(&mut self, line: &[u8]) -> Result<(), SocketError> {
        timeout(IDLE, self.stream.get_mut().write_all(line)).await.map_err(|_| SocketError::Closed)??;
        Ok(())
    }

    async fn say<A: Serialize>(&mut self, said: Said<A>) -> Result<(), SocketError> {
        let line = to_line(&Line { version: VERSION, said })?;
        if line.len() > MAX_ANSWER {
            let refusal = format!("the answer would be longer than {MAX_ANSWER} bytes; ask for less");
            return self.write(&to_line(&Line { version: VERSION, said: Said::<A>::Refused(refusal) })?).await;
        }
        self.write(&line).await
    }
}
