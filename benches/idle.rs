//! Benchmark 3: memory and CPU of the headless program at rest, with 10 000 and with 1 000 000 links known. The program is the real
//! one in a process of its own, connected to the simulators and polling every 10 s; nothing changes.
//!
//! `cargo bench --bench idle`; exit code 1 if the target is missed. Reads `/proc`, so it runs on Linux only.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails has nothing to print")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("Benchmark 3: not run, it reads /proc");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fmt::Write as _,
        fs,
        path::Path,
        process::{Child, Command, ExitCode},
        sync::Arc,
        time::{Duration, Instant},
    };

    use chart_relay::{
        adapters::{clock::SystemClock, secrets::SealedFile, sqlite::Database},
        clinic_key,
        control::{Answer, Request},
        secrets::{Secret, SecretName, Secrets as _},
        socket,
        wiring::{DATABASE, boot},
    };
    use engine::{key::StationId, keys::Purpose, ledger::Owner, snapshot::Verdict};
    use simulators::{
        fhir::{self, FhirServer},
        filemaker::{Clinic, FileMaker},
    };
    use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

    const LINKS: [u64; 2] = [10_000, 1_000_000];
    const TARGET_MIB: f64 = 20.0;
    const MEASURED: Duration = Duration::from_secs(20);
    const PASSPHRASE: &str = "synthetic passphrase of a benchmark";

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::main]
    pub(super) async fn main() -> ExitCode {
        println!("Benchmark 3: the headless program at rest, polling 4 resource types every 10 s");
        let mut missed = false;
        for links in LINKS {
            let (resident, peak, cpu) = measure(links).await;
            missed |= resident >= TARGET_MIB;
            println!(
                "{links:>9} links known   {resident:>6.1} MiB resident   {peak:>6.1} MiB at most   {cpu:>5.2} % of one CPU"
            );
        }
        println!("target: below {TARGET_MIB} MiB resident: {}", if missed { "MISSED" } else { "met" });
        if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    async fn measure(links: u64) -> (f64, f64, f64) {
        let options = fhir::Options { client_secret: "synthetic".into(), ..fhir::Options::default() };
        let fhir = FhirServer::start(options).await.unwrap();
        let filemaker = FileMaker::start(Clinic::synthetic("relay", "synthetic")).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let (file, passphrase) = (directory.path().join("config.toml"), directory.path().join("passphrase"));
        fs::write(&passphrase, PASSPHRASE).unwrap();
        fs::write(&file, config(&fhir, &filemaker, &data)).unwrap();
        prepare(&data, links).await;
        let child = Command::new(env!("CARGO_BIN_EXE_chart-relay"))
            .args(["--config".as_ref(), file.as_os_str(), "run".as_ref()])
            .env("CHART_RELAY_PASSPHRASE_FILE", &passphrase)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let child = Killed(child);
        wait_until_up_to_date(&data).await;
        // What the start needed is given back within some polls.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = cpu_time(child.0.id());
        let begun = Instant::now();
        tokio::time::sleep(MEASURED).await;
        let used = cpu_time(child.0.id()) - before;
        let cpu = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
        (memory(child.0.id(), "VmRSS:"), memory(child.0.id(), "VmHWM:"), cpu)
    }

    fn config(fhir: &FhirServer, filemaker: &FileMaker, data: &Path) -> String {
        let mut text = format!(
            r#"
            [station]
            id = "bench"
            data-directory = "{}"
            [[firm]]
            id = "bench"
            name = "Synthetic benchmark"
            time-zone = "UTC"
            [firm.fhir]
            base-url = "{}"
            token-url = "{}"
            client-id = "chart-relay"
            secret = "bench"
            [firm.filemaker]
            url = "{}"
            database = "Clinic"
            account = "relay"
            password = "bench"
            "#,
            data.display(),
            fhir.base_url(),
            fhir.token_url(),
            filemaker.base_url()
        );
        for mapping in ["patient", "intake-form", "measurement", "progress-note"] {
            write!(text, "\n[[firm.mapping]]\nuse = \"{mapping}\"\n").unwrap();
        }
        text
    }

    /// Secrets, clinic key, and a database that knows so many links, each with the state of a patient's row of twelve fields.
    async fn prepare(data: &Path, links: u64) {
        let secrets = SealedFile::new(data.join("secrets.sealed"), Secret::new(PASSPHRASE));
        secrets.set(&SecretName::parse("bench").unwrap(), Secret::new("synthetic")).await.unwrap();
        let key = clinic_key::establish(&secrets, data).await.unwrap().key;
        let owner = Owner { station: StationId::new("bench").unwrap(), boot: boot() };
        let file = data.join(DATABASE);
        Database::open(&file, &key, owner, Arc::new(SystemClock::new())).await.unwrap().close().await.unwrap();
        let hex: String = key.derive(Purpose::Database).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut connection = SqliteConnectOptions::new()
            .filename(&file)
            .pragma("key", format!("\"x'{hex}'\""))
            .pragma("synchronous", "OFF")
            .connect()
            .await
            .unwrap();
        let hashes: Vec<_> = (0..12).map(|field| format!("\"Field{field}\":\"AAAAAAAAAAAAAAAAAAAAAA\"")).collect();
        let state = format!("{{\"form\":1,\"version\":\"1\",\"row\":[\"1\",\"1\"],\"base\":{{{}}}}}", hashes.join(","));
        // Kind 0 is a link; see the comment in the first migration.
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO record (key, state, epoch, updated) SELECT 'bench 0 Patient p' || i, ?2, 1, 0 FROM n",
        )
        .bind(i64::try_from(links).unwrap())
        .bind(state)
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
    }

    async fn wait_until_up_to_date(data: &Path) {
        let begun = Instant::now();
        loop {
            let answer = socket::call::<_, Answer>(data, &Request::Snapshot, Duration::from_secs(5)).await;
            if let Ok(Answer::Snapshot(snapshot)) = answer
                && matches!(snapshot.verdict, Verdict::UpToDate { .. })
            {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the program does not become up to date");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory(process: u32, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let kib = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// User and system time, fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms (`getconf CLK_TCK` is 100 on Linux).
    fn cpu_time(process: u32) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}
