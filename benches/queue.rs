//! Benchmark 1: durable cycles (send, receive, acknowledge) per second through the queue's port, encrypted, each answer on disk,
//! beside the same rows with one transaction per row and step, and beside a bare commit.
//!
//! `cargo bench --bench queue`; exit code 1 if a target is missed.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark that fails has nothing to print, and time is what it measures"
)]

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use chart_relay::adapters::{clock::SystemClock, sqlite::Database};
use engine::{
    hint::{Hint, Origin, Subject, encode},
    key::{BootId, FirmId, ResourceId, ResourceType, StationId},
    keys::ClinicKey,
    ledger::Owner,
    ports::{Message, Queue, Receipt},
};
use jiff::Timestamp;
use sqlx::{
    ConnectOptions as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::Instant;

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const FOR: Duration = Duration::from_secs(4);
const TARGET_AT_1000: f64 = 40_000.0;
/// Of a call at batch 1, against a bare commit.
const TARGET_P99: f64 = 2.0;

/// Sorted latencies.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn row(&self, what: &str) {
        println!("  {what:<44} p50 {:>9.1?}  p99 {:>9.1?}", self.percentile(50), self.percentile(99));
    }
}

struct Cycles {
    batch: usize,
    per_second: f64,
    send: Latencies,
    receive: Latencies,
    acknowledge: Latencies,
}

fn message(number: usize) -> Message {
    let hint = Hint {
        firm: FirmId::new("north").unwrap(),
        resource: ResourceType::new("Observation").unwrap(),
        subject: Subject::Resource(ResourceId::new(format!("synthetic-{number:08}")).unwrap()),
        origin: Origin::Poll,
        at: Timestamp::from_second(1_800_000_000).unwrap(),
    };
    Message { id: format!("m-{number:08}"), group: hint.key().to_string(), body: encode(vec![hint]) }
}

async fn timed<T>(times: &mut Vec<Duration>, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = work.await;
    times.push(start.elapsed());
    result
}

async fn queue_cycles(queue: &Arc<dyn Queue>, batch: usize) -> Cycles {
    let mut number = 0;
    let (mut send, mut receive, mut acknowledge) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < FOR {
        let messages = (number..number + batch).map(message).collect();
        number += batch;
        timed(&mut send, queue.send(messages)).await.unwrap();
        let got = timed(&mut receive, queue.receive(batch, Duration::ZERO)).await.unwrap();
        assert_eq!(got.len(), batch);
        let receipts: Vec<Receipt> = got.into_iter().map(|delivery| delivery.receipt).collect();
        assert!(timed(&mut acknowledge, queue.acknowledge(&receipts)).await.unwrap().is_empty());
    }
    Cycles {
        batch,
        per_second: number as f64 / start.elapsed().as_secs_f64(),
        send: Latencies::new(send),
        receive: Latencies::new(receive),
        acknowledge: Latencies::new(acknowledge),
    }
}

/// Many callers of batch 1 at once share their commits.
async fn shared(queue: &Arc<dyn Queue>, callers: usize) -> f64 {
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue_cycles_of_one(&queue).await })
        })
        .collect();
    let start = Instant::now();
    let mut cycles = 0;
    for task in tasks {
        cycles += task.await.unwrap();
    }
    cycles as f64 / start.elapsed().as_secs_f64()
}

async fn queue_cycles_of_one(queue: &Arc<dyn Queue>) -> usize {
    let start = Instant::now();
    let mut cycles = 0;
    while start.elapsed() < FOR {
        queue.send(vec![message(cycles)]).await.unwrap();
        // Any one will do: as many are sent as are received.
        let got = queue.receive(1, Duration::from_secs(5)).await.unwrap();
        assert!(queue.acknowledge(&[got[0].receipt.clone()]).await.unwrap().is_empty());
        cycles += 1;
    }
    cycles
}

/// A database like ours without anything of ours around it.
async fn bare(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .pragma("key", format!("\"x'{}'\"", "07".repeat(32)))
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("fullfsync", "ON")
        .disable_statement_logging()
        .connect()
        .await
        .unwrap();
    sqlx::query(
        "CREATE TABLE message (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body TEXT NOT NULL,
            receives INTEGER NOT NULL DEFAULT 0, hidden_until INTEGER)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection
}

async fn commit(connection: &mut SqliteConnection, statement: &'static str, message: &Message) {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.unwrap();
    sqlx::query(statement).bind(&message.id).bind(&message.body).execute(&mut *connection).await.unwrap();
    sqlx::query("COMMIT").execute(&mut *connection).await.unwrap();
}

/// Calls of batch 1 in turn with bare commits of one row, so that both meet the same disk in the same state. Answers with how many times the
/// p99 of a bare commit the slowest kind of call takes.
async fn against_bare_commits(queue: &Arc<dyn Queue>, connection: &mut SqliteConnection) -> f64 {
    let mut times: [Vec<Duration>; 4] = Default::default();
    let [bare, send, receive, acknowledge] = &mut times;
    let start = Instant::now();
    let mut number = 0;
    const INSERT: &str = "INSERT INTO message (id, body) VALUES (?1, ?2)";
    while start.elapsed() < 3 * FOR {
        let message = message(number);
        number += 1;
        timed(send, queue.send(vec![message.clone()])).await.unwrap();
        timed(bare, commit(connection, INSERT, &message)).await;
        let got = timed(receive, queue.receive(1, Duration::ZERO)).await.unwrap();
        timed(bare, commit(connection, INSERT, &message)).await;
        let receipts = [got[0].receipt.clone()];
        assert!(timed(acknowledge, queue.acknowledge(&receipts)).await.unwrap().is_empty());
        timed(bare, commit(connection, INSERT, &message)).await;
    }
    sqlx::query("DELETE FROM message").execute(connection).await.unwrap();
    println!("  in turn with bare commits");
    let [bare, send, receive, acknowledge] = times.map(Latencies::new);
    bare.row("    bare commit of one row");
    send.row("    send");
    receive.row("    receive");
    acknowledge.row("    acknowledge");
    let worst = [&send, &receive, &acknowledge].map(|latencies| latencies.percentile(99)).into_iter().max();
    worst.unwrap_or_default().as_secs_f64() / bare.percentile(99).as_secs_f64()
}

/// As a queue is first written: each row and each step a transaction of its own.
async fn row_by_row(connection: &mut SqliteConnection) -> f64 {
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < FOR {
        let message = message(number);
        number += 1;
        commit(connection, "INSERT INTO message (id, body) VALUES (?1, ?2)", &message).await;
        commit(
            connection,
            "UPDATE message SET receives = receives + 1, hidden_until = 1
             WHERE seq = (SELECT min(seq) FROM message) AND ?1 <> ?2",
            &message,
        )
        .await;
        commit(connection, "DELETE FROM message WHERE seq = (SELECT min(seq) FROM message) AND ?1 <> ?2", &message)
            .await;
    }
    number as f64 / start.elapsed().as_secs_f64()
}

async fn run() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = bare(&folder.path().join("bare.db")).await;
    println!("durable queue cycles, encrypted, synchronous=FULL, {} s each", FOR.as_secs());
    let baseline = row_by_row(&mut connection).await;
    println!("  one transaction per row and step             {baseline:>10.0}/s");

    let owner = Owner { station: StationId::new("bench").unwrap(), boot: BootId::new("bench-1").unwrap() };
    let key = ClinicKey::from_bytes([7; 32]);
    let database =
        Database::open(&folder.path().join("relay.db"), &key, owner, Arc::new(SystemClock::new())).await.unwrap();
    let queue = database.queue();
    let ratio = against_bare_commits(&queue, &mut connection).await;
    let mut met = verdict("p99 of a call at batch 1, in bare commits", ratio, ratio <= TARGET_P99, TARGET_P99);
    for batch in BATCHES {
        let cycles = queue_cycles(&queue, batch).await;
        println!(
            "  batch {:<5} {:>42.0}/s  {:>6.1} x the baseline",
            cycles.batch,
            cycles.per_second,
            cycles.per_second / baseline
        );
        cycles.send.row("    send");
        cycles.receive.row("    receive");
        cycles.acknowledge.row("    acknowledge");
        if batch == 1000 {
            met &= verdict(
                "cycles per second at batch 1000",
                cycles.per_second,
                cycles.per_second >= TARGET_AT_1000,
                TARGET_AT_1000,
            );
        }
    }
    for callers in [16, 128] {
        println!("  {callers:>3} callers of batch 1 {:>33.0}/s", shared(&queue, callers).await);
    }
    drop(queue);
    database.close().await.unwrap();
    met
}

fn verdict(what: &str, value: f64, met: bool, target: f64) -> bool {
    println!("  {} {what}: {value:.1} (target {target})", if met { "met:   " } else { "MISSED:" });
    met
}

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    if runtime.block_on(run()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
