//! A server of a few lines that gives everybody the same answer, for answers that no simulator should give.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};

pub(super) struct Answering {
    pub(super) url: String,
    heard: Arc<AtomicUsize>,
}

impl Answering {
    pub(super) async fn with(head: String, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(AtomicUsize::new(0));
        let count = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                request(&mut stream).await;
                let answer =
                    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, heard }
    }

    pub(super) fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// A FileMaker of one session that answers its first write when it is told to, and tells whether anybody was still there.
pub(super) struct Holding {
    pub(super) url: String,
    pub(super) arrived: Arc<Notify>,
    pub(super) answer: Arc<Notify>,
    pub(super) cut_off: oneshot::Receiver<bool>,
}

impl Holding {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (arrived, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, cut_off) = oneshot::channel();
        let (here, go) = (arrived.clone(), answer.clone());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            reply(&mut stream, r#"{"response":{"token":"synthetic"},"messages":[{"code":"0"}]}"#).await;
            drop(stream);
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            here.notify_one();
            let cut = tokio::select! {
                _ = stream.read_u8() => true,
                () = go.notified() => false,
            };
            reply(&mut stream, r#"{"response":{"recordId":"1","modId":"0"},"messages":[{"code":"0"}]}"#).await;
            let _ = tell.send(cut);
        });
        Self { url, arrived, answer, cut_off }
    }
}

/// Reads a whole request, so that closing the connection afterwards resets nothing.
async fn request(stream: &mut TcpStream) {
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return;
            }
        }
    }
}

async fn reply(stream: &mut TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + body).as_bytes()).await;
}
