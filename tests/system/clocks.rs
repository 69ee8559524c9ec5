//! What is said when clocks do not agree.

use std::time::Duration;

use jiff::SignedDuration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    installation::{Installation, assert_refused, assert_said},
    post::shared,
};

/// Both servers say that it is three hours later than this machine says: it is this machine's clock that is wrong. (To the program that is the same as
/// a PC that is three hours behind; the clock of the machine that tests run on is left alone.)
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named_and_so_is_a_server_that_differs() {
    let installation = Installation::ready(2, 78, "").await;
    installation.chart.control().skew(SignedDuration::from_hours(3));
    installation.filemaker().clock().advance(Duration::from_secs(3 * 3600));
    assert_said(&installation.run(&["doctor"]).await, "The clock of this PC is 3 h behind.");
    let relay = installation.start();
    installation.status("The clock of this PC is 3 h behind. Nothing is lost; set it right.").await;
    // One that agrees with this machine: then it is the other one.
    installation.chart.control().skew(SignedDuration::ZERO);
    installation.status("The clock of FileMaker").await;
    let status = installation.run(&["status"]).await;
    assert_said(&status, "is 3 h ahead of this PC's");
    assert_said(&status, "Up to date");
    installation.stop(relay).await;
}

/// Something that refuses every signature as AWS does where the time in it is off, and dates its answers three hours ahead.
async fn an_aws_that_refuses() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 16 * 1024];
                let _ = stream.read(&mut asked).await;
                let later = jiff::Timestamp::now() + SignedDuration::from_hours(3);
                let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&later).unwrap();
                let body =
                    r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}"#;
                let head = format!(
                    "HTTP/1.1 400 Bad Request\r\ndate: {date}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + body).as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_that_refuses_the_sign_in_because_of_the_clock_is_told_so() {
    let installation = Installation::ready(1, 79, "").await;
    let file = installation.folder.path().join("config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let with = format!("{}\n[engine]", shared(&an_aws_that_refuses().await, "refuses"));
    std::fs::write(&file, config.replacen("[engine]", &with, 1)).unwrap();
    installation.run_with_input(&["secret", "set", "aws"], "synthetic\n").await;
    let output = installation.run(&["run"]).await;
    assert_refused(&output, "The clock of this PC is 3 h behind, and AWS refuses what it signs.");
}
