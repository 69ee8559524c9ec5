//! The local socket with real sockets: who is heard, who is refused, and what is left after a crash.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that panics has failed; how long an answer takes is measured from outside"
)]

use std::{path::Path, time::Duration};

use chart_relay::socket::{self, MAX_ANSWER, MAX_REQUEST, Reply, Server, SocketError};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Double(u64),
    Echo(String),
    Answer { bytes: usize },
    CountTo(u64),
    CountForever,
    Never,
    Stop,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Number(u64),
    Text(String),
    Done,
}

/// A running server; stopped with its test.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Streams that are being read: one permit each, given back when the stream is dropped.
    streams: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

struct Counted(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn start(data: &Path) -> Result<Running, SocketError> {
    let server = Server::bind(data)?;
    let stop = CancellationToken::new();
    let streams = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let (stopping, counting) = (stop.clone(), streams.clone());
    let handle = move |request: Request| {
        let (stop, streams) = (stopping.clone(), counting.clone());
        async move {
            match request {
                Request::Double(number) => Reply::One(Answer::Number(2 * number)),
                Request::Echo(text) => Reply::One(Answer::Text(text)),
                Request::Answer { bytes } => Reply::One(Answer::Text("x".repeat(bytes))),
                Request::CountTo(end) => Reply::Many(futures::stream::iter((1..=end).map(Answer::Number)).boxed()),
                Request::CountForever => {
                    streams.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let counted = Counted(streams);
                    // One answer, then silence, as a queue that stands still.
                    let first = futures::stream::iter([Answer::Number(1)]);
                    Reply::Many(first.chain(futures::stream::pending()).inspect(move |_| _ = &counted).boxed())
                }
                Request::Never => std::future::pending().await,
                Request::Stop => {
                    stop.cancel();
                    Reply::One(Answer::Done)
                }
            }
        }
    };
    let task = tokio::spawn(server.serve(stop.clone(), handle));
    Ok(Running { stop, task, streams })
}

async fn ask(data: &Path, request: &Request) -> Result<Answer, SocketError> {
    socket::call(data, request, PATIENCE).await
}

async fn until(mut condition: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_question_is_answered() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    assert_eq!(ask(data.path(), &Request::Double(21)).await, Ok(Answer::Number(42)));
    let text = "zwei\nLines \u{1f511} \"quoted\"".to_owned();
    assert_eq!(ask(data.path(), &Request::Echo(text.clone())).await, Ok(Answer::Text(text)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_at_once_each_get_their_own_answer() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    let asks = (0..20).map(|number| {
        let data = data.path().to_owned();
        tokio::spawn(async move { (number, ask(&data, &Request::Double(number)).await) })
    });
    for asked in asks.collect::<Vec<_>>() {
        let (number, answer) = asked.await.unwrap();
        assert_eq!(answer, Ok(Answer::Number(2 * number)));
    }
}

#[tokio::test]
async fn one_slow_answer_holds_up_nobody_else_and_only_its_asker_gives_up() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    let patience = Duration::from_millis(100);
    let (slow, quick) = tokio::join!(
        socket::call::<_, Answer>(data.path(), &Request::Never, patience),
        ask(data.path(), &Request::Double(1))
    );
    assert_eq!(slow, Err(SocketError::NoAnswer(patience)));
    assert_eq!(quick, Ok(Answer::Number(2)));
}

#[tokio::test]
async fn answers_come_until_the_last_or_until_the_asker_goes() {
    let data = tempfile::tempdir().unwrap();
    let running = start(data.path()).unwrap();
    let mut watch = socket::watch::<_, Answer>(data.path(), &Request::CountTo(3)).await.unwrap();
    for number in 1..=3 {
        assert_eq!(watch.next().await, Some(Ok(Answer::Number(number))));
    }
    assert_eq!(watch.next().await, None);

    let mut watch = socket::watch::<_, Answer>(data.path(), &Request::CountForever).await.unwrap();
    assert_eq!(watch.next().await, Some(Ok(Answer::Number(1))));
    assert_eq!(running.streams.load(std::sync::atomic::Ordering::SeqCst), 1);
    // Giving up waiting loses nothing; going away ends the stream although it has nothing to say.
    assert!(tokio::time::timeout(Duration::from_millis(20), watch.next()).await.is_err());
    drop(watch);
    until(|| running.streams.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn stopping_answers_who_asked_for_it_ends_the_streams_and_frees_the_place() {
    let data = tempfile::tempdir().unwrap();
    let running = start(data.path()).unwrap();
    let mut watch = socket::watch::<_, Answer>(data.path(), &Request::CountForever).await.unwrap();
    assert_eq!(watch.next().await, Some(Ok(Answer::Number(1))));
    assert_eq!(ask(data.path(), &Request::Stop).await, Ok(Answer::Done));
    assert_eq!(watch.next().await, None);
    running.task.await.unwrap();
    assert_eq!(ask(data.path(), &Request::Double(1)).await, Err(SocketError::NobodyListens));
    let again = start(data.path()).unwrap();
    assert_eq!(ask(data.path(), &Request::Double(1)).await, Ok(Answer::Number(2)));
    again.stop.cancel();
    again.task.await.unwrap();
}

#[tokio::test]
async fn nobody_listens_is_said_in_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let error = ask(data.path(), &Request::Double(1)).await.unwrap_err();
    assert_eq!(error, SocketError::NobodyListens);
    assert_eq!(error.to_string(), "no relay is running on this data directory");
    let missing = data.path().join("never-made");
    assert_eq!(ask(&missing, &Request::Double(1)).await, Err(SocketError::NobodyListens));
}

#[tokio::test]
async fn a_second_relay_is_refused_and_does_not_disturb_the_first() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    assert_eq!(start(data.path()).err(), Some(SocketError::AlreadyRunning));
    assert_eq!(ask(data.path(), &Request::Double(3)).await, Ok(Answer::Number(6)));
    let elsewhere = tempfile::tempdir().unwrap();
    let _other = start(elsewhere.path()).unwrap();
    assert_eq!(ask(elsewhere.path(), &Request::Double(4)).await, Ok(Answer::Number(8)));
}

const CRASHES: &str = "CHART_RELAY_TEST_SOCKET_CRASHES";

/// Not a test of its own: a relay that is killed.
#[tokio::test]
#[ignore = "started by the next test"]
async fn a_relay_that_is_killed() {
    let Some(data) = std::env::var_os(CRASHES) else { return };
    let _running = start(Path::new(&data)).unwrap();
    println!("listening");
    std::future::pending().await
}

#[tokio::test]
async fn what_a_killed_relay_leaves_behind_is_replaced() {
    use std::{io::BufRead, process};
    let data = tempfile::tempdir().unwrap();
    let mut child = process::Command::new(std::env::current_exe().unwrap())
        .args(["a_relay_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(CRASHES, data.path())
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "listening"));
    assert_eq!(ask(data.path(), &Request::Double(1)).await, Ok(Answer::Number(2)), "another process answers");
    assert_eq!(start(data.path()).err(), Some(SocketError::AlreadyRunning));

    child.kill().unwrap();
    child.wait().unwrap();
    #[cfg(unix)]
    assert!(data.path().join("control/socket").exists(), "a killed process cannot tidy up");
    assert_eq!(ask(data.path(), &Request::Double(1)).await, Err(SocketError::NobodyListens));
    let _running = start(data.path()).unwrap();
    assert_eq!(ask(data.path(), &Request::Double(5)).await, Ok(Answer::Number(10)));
}

#[tokio::test]
async fn lines_have_a_limit_on_both_sides() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    let fits = "x".repeat(MAX_REQUEST - 100);
    assert_eq!(ask(data.path(), &Request::Echo(fits.clone())).await, Ok(Answer::Text(fits)));
    let too_long = Request::Echo("x".repeat(MAX_REQUEST));
    assert_eq!(ask(data.path(), &too_long).await, Err(SocketError::TooLong { limit: MAX_REQUEST }));
    let refused = ask(data.path(), &Request::Answer { bytes: MAX_ANSWER }).await;
    assert!(matches!(refused, Err(SocketError::Refused(_))), "{refused:?}");
    let large = ask(data.path(), &Request::Answer { bytes: MAX_ANSWER / 2 }).await;
    assert_eq!(large, Ok(Answer::Text("x".repeat(MAX_ANSWER / 2))));
}

#[derive(Serialize)]
enum Newer {
    Tomorrow,
}

#[tokio::test]
async fn an_unknown_request_is_refused_with_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let _running = start(data.path()).unwrap();
    let refused = socket::call::<_, Answer>(data.path(), &Newer::Tomorrow, PATIENCE).await;
    let Err(SocketError::Refused(sentence)) = refused else { panic!("{refused:?}") };
    assert!(sentence.contains("does not know"), "{sentence}");
    assert!(!sentence.contains("Tomorrow"), "{sentence}");
    // An answer of another form is no panic either.
    let wrong = socket::call::<_, u64>(data.path(), &Request::Double(1), PATIENCE).await;
    assert_eq!(wrong, Err(SocketError::NotUnderstood));
}

/// What a foreign program can do on the socket.
#[cfg(unix)]
mod raw {
    use std::os::unix::fs::PermissionsExt;

    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{UnixListener, UnixStream},
    };

    use super::*;

    async fn connect(data: &Path) -> UnixStream {
        UnixStream::connect(data.join("control/socket")).await.unwrap()
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_and_the_relay_lives() {
        let data = tempfile::tempdir().unwrap();
        let _running = start(data.path()).unwrap();
        let mut stream = connect(data.path()).await;
        // More may be written than is read: the refusal comes before the end.
        let _ = stream.write_all(&vec![b'x'; MAX_REQUEST + 1]).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("refused") && answer.contains("65536"), "{answer}");
        assert_eq!(ask(data.path(), &Request::Double(1)).await, Ok(Answer::Number(2)));
    }

    #[tokio::test]
    async fn nonsense_and_other_versions_are_refused_with_our_version() {
        let data = tempfile::tempdir().unwrap();
        let _running = start(data.path()).unwrap();
        let mut stream = BufReader::new(connect(data.path()).await);
        for (line, expected) in [
            ("hello", "not a line of JSON"),
            ("", "not a line of JSON"),
            (r#"{"request":{"Double":1}}"#, "not a line of JSON with a version"),
            (r#"{"version":2,"request":{"Double":1}}"#, "speaks version 1"),
            (r#"{"version":1,"request":{"Double":-1}}"#, "does not know"),
            (r#"{"version":1,"request":{"Double":8}}"#, r#"{"Number":16}"#),
        ] {
            stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_line(&mut answer).await.unwrap();
            assert!(answer.starts_with(r#"{"version":1,"#) && answer.contains(expected), "{line}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_relay_of_another_version_is_named() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("control")).unwrap();
        let listener = UnixListener::bind(data.path().join("control/socket")).unwrap();
        let answering = tokio::spawn(async move {
            for answer in ["{\"version\":7,\"who\":\"knows\"}\n", "what?\n", "", "{\"version\":1,\"sa"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = String::new();
                BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let asked = Request::Double(1);
        assert_eq!(ask(data.path(), &asked).await, Err(SocketError::Version { theirs: 7 }));
        assert_eq!(ask(data.path(), &asked).await, Err(SocketError::NotUnderstood));
        assert_eq!(ask(data.path(), &asked).await, Err(SocketError::Closed));
        assert_eq!(ask(data.path(), &asked).await, Err(SocketError::Closed));
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn silent_connections_keep_nobody_out_for_long() {
        let data = tempfile::tempdir().unwrap();
        let _running = start(data.path()).unwrap();
        let mut silent = Vec::new();
        for _ in 0..32 {
            silent.push(connect(data.path()).await);
        }
        let refused = ask(data.path(), &Request::Double(1)).await;
        assert!(
            matches!(&refused, Err(SocketError::Refused(sentence)) if sentence.contains("too many")),
            "{refused:?}"
        );
        drop(silent.pop());
        let began = std::time::Instant::now();
        while ask(data.path(), &Request::Double(1)).await != Ok(Answer::Number(2)) {
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        tokio::time::pause();
        // After half a minute of silence they are let go of.
        tokio::time::sleep(Duration::from_secs(31)).await;
        tokio::time::resume();
        let mut end = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, silent[0].read_to_end(&mut end)).await;
        assert_eq!(closed.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn only_the_account_itself_can_open_directory_and_socket() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("control");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let _running = start(data.path()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("socket")), 0o600);
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_named() {
        let data = tempfile::tempdir().unwrap();
        let deep = data.path().join("d".repeat(120));
        assert_eq!(start(&deep).err(), Some(SocketError::PathTooLong));
        assert_eq!(ask(&deep, &Request::Double(1)).await, Err(SocketError::PathTooLong));
    }

    const STRANGER: &str = "CHART_RELAY_TEST_SOCKET_STRANGER";

    /// Not a test of its own: a command under another account.
    #[tokio::test]
    #[ignore = "started by the next test"]
    async fn a_stranger() {
        let Some(data) = std::env::var_os(STRANGER) else { return };
        println!("answer {:?}", ask(Path::new(&data), &Request::Double(1)).await);
    }

    /// With the modes opened by hand, so that only the check of the account is left. Needs root to become somebody else.
    #[tokio::test]
    async fn another_account_is_refused_even_with_the_modes_open() {
        use std::os::unix::process::CommandExt;
        if !rustix::process::geteuid().is_root() {
            println!("not run: only root can start a command under another account");
            return;
        }
        let data = tempfile::tempdir_in("/tmp").unwrap();
        let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let _running = start(data.path()).unwrap();
        for path in ["", "control", "control/socket"] {
            open(&data.path().join(path));
        }
        // This program may lie where the other account cannot go.
        let program = data.path().join("stranger");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let output = tokio::task::spawn_blocking({
            let data = data.path().to_owned();
            move || {
                std::process::Command::new(program)
                    .args(["raw::a_stranger", "--exact", "--ignored", "--nocapture"])
                    .env(STRANGER, data)
                    .current_dir("/")
                    .uid(65534)
                    .gid(65534)
                    .output()
                    .unwrap()
            }
        })
        .await
        .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("answer Err(Refused(\"the relay runs under another account"), "{said}");
        assert_eq!(ask(data.path(), &Request::Double(1)).await, Ok(Answer::Number(2)));
    }
}
