//! The keychain adapter against a real Secret Service: gnome-keyring on a D-Bus of its own, with nothing of this machine's
//! session in reach. The adapter runs in a child process, because the bus's address is a matter of the environment.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that panics has failed; how long an answer takes is measured from outside"
)]

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        io::{BufRead, BufReader, Lines, Write},
        path::Path,
        process::{Child, ChildStdin, ChildStdout, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use chart_relay::{
        adapters::secrets::Keychain,
        secrets::{Secret, SecretName, Secrets},
    };
    use tempfile::TempDir;

    /// How long the child waits for the keychain. An answer within it plus the margin is "within the time-out".
    const PATIENCE: Duration = Duration::from_secs(5);
    /// Less than libdbus itself waits (2 s), so that it is our time-out that ends the wait.
    const IMPATIENCE: Duration = Duration::from_millis(600);
    const MARGIN: Duration = Duration::from_millis(1300);
    /// Set for the child process: its patience in milliseconds.
    const CHILD: &str = "CHART_RELAY_TEST_KEYCHAIN_CHILD";

    /// Not a test of its own: the process in which the adapter runs. Obeys one line at a time.
    #[tokio::test]
    #[ignore = "started by the other tests"]
    async fn keychain_child() {
        let Ok(patience) = std::env::var(CHILD) else { return };
        let keychain = Keychain::new(Some("test"), Duration::from_millis(patience.parse().unwrap()));
        println!("ready");
        for line in std::io::stdin().lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let name = SecretName::parse(words[1]).unwrap();
            let said = match words[0] {
                "get" => keychain.get(&name).await.map(|secret| secret.reveal().to_owned()),
                "set" => keychain.set(&name, Secret::new(words[2])).await.map(|()| "done".to_owned()),
                "delete" => keychain.delete(&name).await.map(|was| was.to_string()),
                other => panic!("{other}?"),
            };
            match said {
                Ok(text) => println!("ok {text}"),
                Err(error) => println!("error {error:?}"),
            }
        }
    }

    /// Ended with its test. (Only ever a process that the test started.)
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(program: &str, arguments: &[&str], home: &Path, input: Option<&str>) -> Process {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("DBUS_SESSION_BUS_ADDRESS", address(home))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{program} does not start ({error}). This test needs a real Secret Service: \
                 `sudo apt-get install gnome-keyring dbus` (or your system's packages of these names)"
            )
        });
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input.as_bytes()).unwrap();
        }
        Process(child)
    }

    fn address(home: &Path) -> String {
        format!("unix:path={}", home.join("bus").display())
    }

    /// A session bus that can start nothing by itself, so that a test decides what is on it.
    struct Desk {
        home: TempDir,
        keyring: Option<Process>,
        _bus: Option<Process>,
    }

    impl Desk {
        fn without_bus() -> Self {
            Self { home: tempfile::tempdir().unwrap(), keyring: None, _bus: None }
        }

        fn with_bus() -> Self {
            let home = tempfile::tempdir().unwrap();
            let config = home.path().join("bus.conf");
            fs::write(
                &config,
                format!(
                    r#"<busconfig><type>session</type><listen>{}</listen><auth>EXTERNAL</auth>
                    <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
                    </busconfig>"#,
                    address(home.path())
                ),
            )
            .unwrap();
            let config = format!("--config-file={}", config.display());
            let bus = start("dbus-daemon", &[&config, "--nofork", "--nopidfile"], home.path(), None);
            until("the bus listens", || home.path().join("bus").exists());
            Self { home, keyring: None, _bus: Some(bus) }
        }

        /// Some characters open the login keyring, making it the first time; none leave things as they are.
        fn start_keyring(&mut self, password: Option<&str>) {
            self.keyring = None;
            let mut arguments = vec!["--foreground", "--components=secrets"];
            arguments.extend(password.map(|_| "--unlock"));
            self.keyring = Some(start("gnome-keyring-daemon", &arguments, self.home.path(), password));
        }

        fn signal_keyring(&self, signal: &str) {
            let id = self.keyring.as_ref().unwrap().0.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        }

        fn relay(&self) -> Relay {
            self.relay_with(PATIENCE)
        }

        fn relay_with(&self, patience: Duration) -> Relay {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["linux::keychain_child", "--exact", "--ignored", "--nocapture"])
                .env(CHILD, patience.as_millis().to_string())
                .env("HOME", self.home.path())
                .env("XDG_RUNTIME_DIR", self.home.path())
                .env("DBUS_SESSION_BUS_ADDRESS", address(self.home.path()))
                .env_remove("DISPLAY")
                .env_remove("WAYLAND_DISPLAY")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut relay = Relay { stdin, lines, patience, _child: Process(child) };
            while relay.line() != "ready" {}
            relay
        }
    }

    struct Relay {
        stdin: ChildStdin,
        lines: Lines<BufReader<ChildStdout>>,
        patience: Duration,
        _child: Process,
    }

    impl Relay {
        fn line(&mut self) -> String {
            self.lines.next().expect("the child ended").unwrap()
        }

        fn ask(&mut self, line: &str) -> String {
            let began = Instant::now();
            writeln!(self.stdin, "{line}").unwrap();
            let answer = loop {
                let line = self.line();
                if line.starts_with("ok ") || line.starts_with("error ") {
                    break line;
                }
            };
            assert!(began.elapsed() < self.patience + MARGIN, "{line}: {answer} came after {:?}", began.elapsed());
            answer
        }

        /// The service takes a moment to appear on the bus.
        fn ask_until_there(&mut self, line: &str) -> String {
            let mut answer = String::new();
            until("the keyring is on the bus", || {
                answer = self.ask(line);
                !answer.contains("NoService")
            });
            answer
        }
    }

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited too long until {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_secret_goes_in_comes_back_is_replaced_and_goes() {
        let mut desk = Desk::with_bus();
        desk.start_keyring(Some("test"));
        let mut relay = desk.relay();
        assert_eq!(relay.ask_until_there("get fhir"), r#"error Missing(SecretName("fhir"))"#);
        assert_eq!(relay.ask("set fhir SYNTHETIC one"), "ok done");
        assert_eq!(relay.ask("set fhir SYNTHETIC zwei \u{e4}\u{1f511}"), "ok done");
        assert_eq!(relay.ask("get fhir"), "ok SYNTHETIC zwei \u{e4}\u{1f511}");
        assert_eq!(relay.ask("get filemaker"), r#"error Missing(SecretName("filemaker"))"#);
        // Another process of the same account finds it.
        assert_eq!(desk.relay().ask("get fhir"), "ok SYNTHETIC zwei \u{e4}\u{1f511}");
        // The keychain is restarted: the first call finds the new one.
        desk.start_keyring(Some("test"));
        let mut other = desk.relay();
        until("the keyring is open", || other.ask("get fhir").starts_with("ok"));
        assert_eq!(relay.ask("get fhir"), "ok SYNTHETIC zwei \u{e4}\u{1f511}");
        assert_eq!(relay.ask("delete fhir"), "ok true");
        assert_eq!(relay.ask("delete fhir"), "ok false");
        assert_eq!(relay.ask("get fhir"), r#"error Missing(SecretName("fhir"))"#);
    }

    #[test]
    fn as_long_as_windows_allows_and_not_a_byte_more() {
        let mut desk = Desk::with_bus();
        desk.start_keyring(Some("test"));
        let mut relay = desk.relay();
        relay.ask_until_there("get long");
        assert_eq!(relay.ask(&format!("set long {}", "x".repeat(2560))), "ok done");
        assert_eq!(relay.ask("get long"), format!("ok {}", "x".repeat(2560)));
        let refused = r#"error TooLong { name: SecretName("long"), bytes: 2561 }"#;
        assert_eq!(relay.ask(&format!("set long {}", "x".repeat(2561))), refused);
        assert_eq!(relay.ask("get long"), format!("ok {}", "x".repeat(2560)));
    }

    #[test]
    fn a_locked_keychain_is_said_to_be_locked_and_found_open_when_it_is() {
        let mut desk = Desk::with_bus();
        desk.start_keyring(Some("test"));
        let mut relay = desk.relay();
        relay.ask_until_there("get fhir");
        assert_eq!(relay.ask("set fhir SYNTHETIC"), "ok done");

        // Signed in automatically: the keyring is there and nobody has opened it. The same relay goes on running.
        desk.start_keyring(None);
        assert_eq!(desk.relay().ask_until_there("get fhir"), "error Locked");
        assert_eq!(relay.ask("get fhir"), "error Locked");
        assert_eq!(relay.ask("set fhir OTHER"), "error Locked");

        desk.start_keyring(Some("test"));
        let mut answer = String::new();
        until("the keyring is open", || {
            answer = relay.ask("get fhir");
            answer.starts_with("ok")
        });
        assert_eq!(answer, "ok SYNTHETIC", "what was refused must not be written later");
    }

    #[test]
    fn a_keychain_that_does_not_answer_costs_the_time_out_and_no_more() {
        let mut desk = Desk::with_bus();
        desk.start_keyring(Some("test"));
        let mut patient = desk.relay();
        patient.ask_until_there("get fhir");
        assert_eq!(patient.ask("set fhir SYNTHETIC"), "ok done");
        let mut relay = desk.relay_with(IMPATIENCE);
        until("it answers the impatient too", || relay.ask("get fhir") == "ok SYNTHETIC");

        // As with a window that nobody answers: the call blocks, and what queues behind it must not be done later.
        desk.signal_keyring("-STOP");
        assert_eq!(relay.ask("get fhir"), "error Locked");
        assert_eq!(relay.ask("set fhir OTHER"), "error Locked");
        assert_eq!(patient.ask("get fhir"), "error Locked");
        desk.signal_keyring("-CONT");
        let mut answer = String::new();
        until("the keyring answers again", || {
            answer = relay.ask("get fhir");
            answer != "error Locked"
        });
        assert_eq!(answer, "ok SYNTHETIC");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Desk::without_bus().relay().ask("get fhir"), "error Unavailable(NoBus)");

        let mut desk = Desk::with_bus();
        let mut relay = desk.relay();
        assert_eq!(relay.ask("get fhir"), "error Unavailable(NoService)");
        assert_eq!(relay.ask("set fhir SYNTHETIC"), "error Unavailable(NoService)");

        // A service that comes later is found without a restart; it has no keyring to put anything in.
        desk.start_keyring(None);
        assert_eq!(relay.ask_until_there("get fhir"), r#"error Missing(SecretName("fhir"))"#);
        assert_eq!(relay.ask("set fhir SYNTHETIC"), "error Unavailable(NoKeyring)");
    }
}

#[cfg(not(target_os = "linux"))]
#[test]
#[ignore = "not run: needs a Secret Service, which this platform does not have; its own keychain is tried by hand"]
fn secret_service() {}
