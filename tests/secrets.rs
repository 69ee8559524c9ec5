//! Secrets and the clinic key through their public doors: the sealed file, the recovery sheet, the commands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::Path, process::ExitCode, sync::Arc};

use chart_relay::{
    adapters::secrets::{Memory, SealedFile, passphrase_from_service},
    cli::{
        key::{self, KeyArgs, KeyEvent},
        person::Person,
        secret::{self, SecretArgs},
    },
    clinic_key::{self, ClinicKeyError, Restored},
    recovery_sheet::{self, SheetError},
    secrets::{Secret, SecretName, Secrets, SecretsError, Unavailable},
};
use clap::Parser;
use engine::keys::{ClinicKey, Seal};

const PASSPHRASE: &str = "SYNTHETIC passphrase of a test";

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn sealed(directory: &Path, passphrase: &str) -> SealedFile {
    SealedFile::new(directory.join("secrets.sealed"), Secret::new(passphrase))
}

// ---- names and the type ----

#[test]
fn a_name_is_plain_and_the_clinic_keys_is_taken() {
    for good in ["fhir", "north.filemaker", "a", "9-b_c", &"x".repeat(64)] {
        assert!(SecretName::parse(good).is_ok(), "{good}");
    }
    for bad in ["", ".a", "-a", "Fhir", "a b", "a/b", "\u{e4}", &"x".repeat(65), "clinic-key"] {
        assert!(SecretName::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn nothing_prints_a_secret() {
    let secret = Secret::new("SYNTHETIC-9931");
    let file = SealedFile::new("x", secret.clone());
    let printed = format!("{secret:?} {file:?} {:?}", Some(&secret));
    assert!(!printed.contains("9931"), "{printed}");
}

// ---- the sealed file ----

#[tokio::test]
async fn the_sealed_file_keeps_secrets_for_the_next_process_and_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = sealed(directory.path(), PASSPHRASE);
    assert_eq!(store.get(&name("fhir")).await.unwrap_err(), SecretsError::Missing(name("fhir")));
    assert!(!store.delete(&name("fhir")).await.unwrap());
    store.set(&name("fhir"), Secret::new("SYNTHETIC-1177")).await.unwrap();
    store.set(&name("filemaker"), Secret::new("SYNTHETIC-2288")).await.unwrap();
    store.set(&name("fhir"), Secret::new("SYNTHETIC-3399")).await.unwrap();

    let next = sealed(directory.path(), PASSPHRASE);
    assert_eq!(next.get(&name("fhir")).await.unwrap().reveal(), "SYNTHETIC-3399");
    assert_eq!(next.get(&name("filemaker")).await.unwrap().reveal(), "SYNTHETIC-2288");
    assert!(next.delete(&name("fhir")).await.unwrap());
    // The first process sees what the second did.
    assert!(!store.has(&name("fhir")).await.unwrap());

    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for hidden in ["SYNTHETIC", "2288", "filemaker", PASSPHRASE] {
            assert!(!text.contains(hidden), "{hidden} in {}", path.display());
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_wrong_passphrase_or_an_altered_file_opens_nothing_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.sealed");
    sealed(directory.path(), PASSPHRASE).set(&name("fhir"), Secret::new("SYNTHETIC")).await.unwrap();
    let good = fs::read_to_string(&path).unwrap();

    let wrong = sealed(directory.path(), "another passphrase, as long");
    assert_eq!(wrong.get(&name("fhir")).await.unwrap_err(), SecretsError::WrongPassphrase);
    assert_eq!(wrong.set(&name("x"), Secret::new("y")).await.unwrap_err(), SecretsError::WrongPassphrase);
    assert_eq!(wrong.delete(&name("fhir")).await.unwrap_err(), SecretsError::WrongPassphrase);

    let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let text = json["sealed"].as_str().unwrap().to_owned();
    let flipped = if &text[50..51] == "A" { "B" } else { "A" };
    let alterations: [(&str, serde_json::Value); 5] = [
        ("/sealed", format!("{}{flipped}{}", &text[..50], &text[51..]).into()),
        ("/sealed", "AAAA".into()),
        ("/argon2id/passes", 2.into()),
        ("/argon2id/memory_kib", 8.into()),
        ("/format", "chart-relay/sealed-secrets/2".into()),
    ];
    for (place, value) in alterations {
        let before = std::mem::replace(json.pointer_mut(place).unwrap(), value);
        let altered = json.to_string();
        *json.pointer_mut(place).unwrap() = before;
        fs::write(&path, &altered).unwrap();
        let store = sealed(directory.path(), PASSPHRASE);
        store.get(&name("fhir")).await.unwrap_err();
        store.set(&name("x"), Secret::new("y")).await.unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), altered, "{place}: a file that is not understood is left alone");
    }
    fs::write(&path, "not json").unwrap();
    assert!(matches!(
        sealed(directory.path(), PASSPHRASE).set(&name("x"), Secret::new("y")).await.unwrap_err(),
        SecretsError::Unavailable(Unavailable::Other(_))
    ));

    fs::write(&path, good).unwrap();
    let store = sealed(directory.path(), PASSPHRASE);
    assert_eq!(store.get(&name("fhir")).await.unwrap().reveal(), "SYNTHETIC");
}

#[tokio::test]
async fn a_short_passphrase_makes_no_file_and_a_long_secret_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    sealed(directory.path(), "short").set(&name("fhir"), Secret::new("x")).await.unwrap_err();
    assert!(!directory.path().join("secrets.sealed").exists());
    let long = Secret::new("x".repeat(2561));
    let error = sealed(directory.path(), PASSPHRASE).set(&name("fhir"), long).await.unwrap_err();
    assert_eq!(error, SecretsError::TooLong { name: name("fhir"), bytes: 2561 });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // Two stores on one file stand for two processes: each has its own lock handle.
    let stores = [Arc::new(sealed(directory.path(), PASSPHRASE)), Arc::new(sealed(directory.path(), PASSPHRASE))];
    let writes = (0..8).map(|n| {
        let store = stores[n % 2].clone();
        tokio::spawn(async move { store.set(&name(&format!("s{n}")), Secret::new(format!("{n}"))).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    for n in 0..8 {
        assert_eq!(stores[0].get(&name(&format!("s{n}"))).await.unwrap().reveal(), n.to_string());
    }
}

#[test]
fn the_passphrase_comes_from_the_service_manager() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("elsewhere");
    let credentials = directory.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let mut variables = BTreeMap::<&str, OsString>::new();
    let read = |variables: &BTreeMap<&str, OsString>| {
        let passphrase = passphrase_from_service(&|name| variables.get(name).cloned());
        passphrase.map(|found| found.map(|secret| secret.reveal().to_owned()))
    };

    assert_eq!(read(&variables), Ok(None));
    // systemd gives the directory to every service with any credential; ours need not be in it.
    variables.insert("CREDENTIALS_DIRECTORY", credentials.clone().into());
    assert_eq!(read(&variables), Ok(None));
    variables.insert("CHART_RELAY_PASSPHRASE_FILE", file.clone().into());
    assert!(matches!(read(&variables), Err(SecretsError::Unavailable(Unavailable::Other(_)))), "named and not there");
    fs::write(&file, "from a file\n").unwrap();
    assert_eq!(read(&variables), Ok(Some("from a file".into())));
    fs::write(credentials.join("chart-relay-passphrase"), "from systemd").unwrap();
    assert_eq!(read(&variables), Ok(Some("from systemd".into())));
    fs::write(credentials.join("chart-relay-passphrase"), "\n").unwrap();
    assert_eq!(read(&variables), Err(Unavailable::NoPassphrase.into()));
}

/// The sentence of docs/secrets.md: `/dev/fd/N` is an inherited descriptor.
#[cfg(unix)]
#[test]
fn the_passphrase_comes_through_an_inherited_descriptor() {
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"through a pipe\n").unwrap();
    drop(writer);
    let path = format!("/dev/fd/{}", reader.as_raw_fd());
    let found =
        passphrase_from_service(&|name| (name == "CHART_RELAY_PASSPHRASE_FILE").then(|| path.clone().into())).unwrap();
    assert_eq!(found.unwrap().reveal(), "through a pipe");
}

// ---- the recovery sheet ----

fn a_key() -> ClinicKey {
    ClinicKey::from_bytes(std::array::from_fn(|n| (n as u8).wrapping_mul(37).wrapping_add(11)))
}

/// The four numbered lines of a sheet, as (place in the text, line).
fn numbered(sheet: &str) -> Vec<&str> {
    sheet.lines().filter(|line| line.trim_start().starts_with(['1', '2', '3', '4'])).collect()
}

#[test]
fn a_sheet_reads_back_as_people_type_it() {
    let sheet = recovery_sheet::print(&a_key());
    let text = sheet.reveal();
    let same = |text: &str| assert_eq!(recovery_sheet::read(text).unwrap().expose(), a_key().expose(), "{text}");
    same(text);
    same(&text.to_lowercase());
    same(&text.replace('0', "O"));
    same(&text.replace('\n', "\r\n"));
    let lines = numbered(text);
    assert_eq!(lines.len(), 4);
    // Only the id and the lines, in any order, without gaps or with hyphens.
    let id = a_key().id();
    same(&format!("{}\n{}\nkey ID: {id}\n{}\n{}", lines[2], lines[0], lines[3].replace("  ", " "), lines[1]));
    let tight: String = lines
        .iter()
        .map(|line| {
            let (number, letters) = line.trim().split_once("  ").unwrap();
            format!("{number}) {}\n", letters.replace(' ', "-"))
        })
        .collect();
    same(&format!("Key id: {id}\n{tight}"));
}

#[test]
fn every_single_typing_error_is_found_and_its_line_named() {
    let sheet = recovery_sheet::print(&a_key());
    let text = sheet.reveal();
    let mut tried = 0;
    for (index, line) in numbered(text).into_iter().enumerate() {
        let letters_start = line.find(&format!("{}  ", index + 1)).unwrap() + 3;
        let places: Vec<usize> = (letters_start..line.len()).filter(|place| line.as_bytes()[*place] != b' ').collect();
        for place in &places {
            let was = line.as_bytes()[*place] as char;
            for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().filter(|other| *other != was) {
                let mut typed = line.to_owned();
                typed.replace_range(place..&(place + 1), &other.to_string());
                let found = recovery_sheet::read(&text.replace(line, &typed)).unwrap_err();
                // One in 65 536 passes its line's check; then the key's id finds it.
                assert!(
                    matches!(found, SheetError::Check(n) if n == index + 1) || found == SheetError::KeyId,
                    "{found}"
                );
                tried += 1;
            }
        }
        for pair in places.windows(2) {
            let mut typed: Vec<char> = line.chars().collect();
            typed.swap(pair[0], pair[1]);
            let typed: String = typed.into_iter().collect();
            if typed != line {
                assert_eq!(
                    recovery_sheet::read(&text.replace(line, &typed)).unwrap_err(),
                    SheetError::Check(index + 1)
                );
            }
        }
    }
    assert_eq!(tried, 4 * 16 * 31);
}

#[test]
fn what_is_wrong_with_a_sheet_is_said() {
    let sheet = recovery_sheet::print(&a_key());
    let text = sheet.reveal();
    let lines = numbered(text);
    let read = |text: String| recovery_sheet::read(&text).unwrap_err();
    let (one, two) = (lines[0].trim().split_once("  ").unwrap().1, lines[1].trim().split_once("  ").unwrap().1);
    assert_eq!(read(text.replace(one, two)), SheetError::Check(1), "a line in another's place");
    assert_eq!(read(text.replace(lines[1], "")), SheetError::Missing(2));
    assert_eq!(read(text.replace(lines[1], lines[0])), SheetError::Twice(1));
    assert_eq!(read(text.replace(one, &one[..18])), SheetError::Length(1));
    assert_eq!(read(text.replace(one, &format!("{one}0"))), SheetError::Length(1));
    assert_eq!(read(text.replace(one, &one.replacen(&one[2..3], "U", 1))), SheetError::Letter(1));
    assert_eq!(read(text.replace("Version: 1", "Version: 2")), SheetError::Version(2));
    assert_eq!(read(text.replace("Key id", "Id")), SheetError::NoKeyId);
    assert_eq!(read(text.replace(&a_key().id().to_string(), "00000000")), SheetError::KeyId);
    let other = recovery_sheet::print(&ClinicKey::from_bytes([9; 32]));
    assert_eq!(read(text.replace(lines[3], numbered(other.reveal())[3])), SheetError::KeyId, "a line of another sheet");
    assert_eq!(read(String::new()), SheetError::Missing(1));
}

// ---- the clinic key ----

#[tokio::test]
async fn a_lost_keychain_is_survived_with_the_sheet() {
    let data = tempfile::tempdir().unwrap();
    let old = Memory::new();
    let made = clinic_key::establish(&old, data.path()).await.unwrap();
    assert!(made.made_now);
    let letter = Seal::new(&made.key).seal("letter/1", b"SYNTHETIC");
    let sheet = recovery_sheet::print(&made.key);
    let again = clinic_key::establish(&old, data.path()).await.unwrap();
    assert!(!again.made_now);
    assert_eq!(again.key.expose(), made.key.expose());

    // The keychain is gone. The data directory knows, and no new key is made over what was sealed.
    let new = Memory::new();
    let lost = clinic_key::establish(&new, data.path()).await.unwrap_err();
    assert!(matches!(&lost, ClinicKeyError::Lost { id } if *id == made.key.id().to_string()), "{lost}");

    let key = recovery_sheet::read(sheet.reveal()).unwrap();
    assert_eq!(clinic_key::restore(&new, data.path(), &key, false).await.unwrap(), Restored::Stored);
    assert_eq!(clinic_key::restore(&new, data.path(), &key, false).await.unwrap(), Restored::AlreadyThere);
    let restored = clinic_key::establish(&new, data.path()).await.unwrap();
    assert!(!restored.made_now);
    assert_eq!(Seal::new(&restored.key).open("letter/1", &letter).unwrap(), b"SYNTHETIC");
    for purpose in [engine::keys::Purpose::Database, engine::keys::Purpose::AuditChain, engine::keys::Purpose::Hashes] {
        assert_eq!(restored.key.derive(purpose).bytes(), made.key.derive(purpose).bytes());
    }
}

#[tokio::test]
async fn another_key_is_replaced_only_when_that_is_said() {
    let data = tempfile::tempdir().unwrap();
    let secrets = Memory::new();
    let first = clinic_key::establish(&secrets, data.path()).await.unwrap().key;
    let other = a_key();
    assert!(matches!(
        clinic_key::restore(&secrets, data.path(), &other, false).await.unwrap_err(),
        ClinicKeyError::WouldReplace { .. }
    ));
    assert_eq!(clinic_key::read(&secrets, data.path()).await.unwrap().unwrap().expose(), first.expose());
    // An empty keychain does not make it right either: the data are of the first key.
    assert!(matches!(
        clinic_key::restore(&Memory::new(), data.path(), &other, false).await.unwrap_err(),
        ClinicKeyError::WouldReplace { .. }
    ));
    let replaced = clinic_key::restore(&secrets, data.path(), &other, true).await.unwrap();
    assert_eq!(replaced, Restored::Replaced { old: first.id().to_string() });
    assert_eq!(clinic_key::read(&secrets, data.path()).await.unwrap().unwrap().expose(), other.expose());
}

#[tokio::test]
async fn a_keychain_of_another_station_is_not_taken_for_ours() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    clinic_key::establish(&Memory::new(), ours.path()).await.unwrap();
    let secrets = Memory::new();
    clinic_key::establish(&secrets, theirs.path()).await.unwrap();
    assert!(matches!(clinic_key::establish(&secrets, ours.path()).await.unwrap_err(), ClinicKeyError::Another { .. }));
}

/// A keychain that says "no such entry" until something was written to it, as a closed KWallet does.
#[derive(Debug)]
struct Closed {
    inner: Memory,
    open: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Secrets for Closed {
    async fn get(&self, name: &SecretName) -> Result<Secret, SecretsError> {
        if !self.open.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(SecretsError::Missing(name.clone()));
        }
        self.inner.get(name).await
    }

    async fn set(&self, name: &SecretName, secret: Secret) -> Result<(), SecretsError> {
        self.open.store(true, std::sync::atomic::Ordering::SeqCst);
        self.inner.set(name, secret).await
    }

    async fn delete(&self, name: &SecretName) -> Result<bool, SecretsError> {
        self.inner.delete(name).await
    }
}

#[tokio::test]
async fn a_closed_keychain_that_looks_empty_does_not_lose_its_key() {
    let data = tempfile::tempdir().unwrap();
    let inner = Memory::new();
    let first = clinic_key::establish(&inner, data.path()).await.unwrap().key;
    let closed = Closed { inner, open: false.into() };
    // The data directory is new (a reinstalled PC), only the keychain is the old one.
    let fresh = tempfile::tempdir().unwrap();
    let found = clinic_key::establish(&closed, fresh.path()).await.unwrap();
    assert!(!found.made_now);
    assert_eq!(found.key.expose(), first.expose());
}

// ---- the commands ----

/// A person who answers from a list and remembers what was said.
#[derive(Default)]
struct Scripted {
    terminal: bool,
    alone: bool,
    answers: std::collections::VecDeque<String>,
    piped: String,
    said: String,
    complained: String,
}

impl Scripted {
    fn piping(text: &str) -> Self {
        Self { piped: text.into(), ..Self::default() }
    }

    fn typing(answers: &[&str]) -> Self {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        Self { terminal: true, alone: true, answers, ..Self::default() }
    }
}

impl Person for Scripted {
    fn can_answer(&self) -> bool {
        self.terminal
    }

    fn alone_reads(&self) -> bool {
        self.alone
    }

    fn hidden(&mut self, prompt: &str) -> io::Result<Secret> {
        self.ask(prompt).map(Secret::new)
    }

    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        self.answers.pop_front().ok_or_else(|| io::Error::other(format!("nobody answers {prompt}")))
    }

    fn handed_in(&mut self, limit: usize) -> io::Result<Secret> {
        if self.piped.len() > limit { Err(io::Error::other("too long")) } else { Ok(Secret::new(self.piped.clone())) }
    }

    fn say(&mut self, text: &str) {
        self.said += &format!("{text}\n");
    }

    fn complain(&mut self, text: &str) {
        self.complained += &format!("{text}\n");
    }
}

#[derive(Debug, Parser)]
enum Commands {
    Secret(SecretArgs),
    Key(KeyArgs),
}

async fn command(
    line: &str,
    secrets: &dyn Secrets,
    data: &Path,
    person: &mut Scripted,
) -> (ExitCode, Option<KeyEvent>) {
    let words = std::iter::once("chart-relay").chain(line.split_whitespace());
    match Commands::try_parse_from(words).unwrap() {
        Commands::Secret(args) => (secret::run(args, secrets, &[name("fhir"), name("filemaker")], person).await, None),
        Commands::Key(args) => key::run(args, secrets, data, person).await,
    }
}

#[tokio::test]
async fn secrets_are_set_listed_and_deleted_and_never_shown() {
    let secrets = Memory::new();
    let nowhere = Path::new("");
    let mut all = String::new();
    let mut run = async |line: &str, mut person: Scripted| {
        let (code, _) = command(line, &secrets, nowhere, &mut person).await;
        all += &person.said;
        all += &person.complained;
        (code == ExitCode::SUCCESS, person)
    };
    assert!(run("secret set fhir", Scripted::piping("SYNTHETIC-5511\r\n")).await.0);
    assert_eq!(secrets.get(&name("fhir")).await.unwrap().reveal(), "SYNTHETIC-5511");
    assert!(run("secret set filemaker", Scripted::typing(&["SYNTHETIC-6622"])).await.0);
    assert_eq!(secrets.get(&name("filemaker")).await.unwrap().reveal(), "SYNTHETIC-6622");
    // A key file keeps its lines.
    assert!(
        run("secret set other", Scripted::piping("SYNTHETIC-7733\nsecond\n")).await.1.complained.contains("no setting")
    );
    assert_eq!(secrets.get(&name("other")).await.unwrap().reveal(), "SYNTHETIC-7733\nsecond");

    for (person, why) in [
        (Scripted::piping(""), "empty"),
        (Scripted::piping("\n"), "a line end only"),
        (Scripted::typing(&[]), "the terminal went away"),
        (Scripted::piping(&"SYNTHETIC-8844".repeat(200)), "too long"),
    ] {
        assert!(!run("secret set fhir", person).await.0, "{why}");
        assert_eq!(secrets.get(&name("fhir")).await.unwrap().reveal(), "SYNTHETIC-5511", "{why}");
    }

    assert!(run("secret delete filemaker", Scripted::default()).await.0);
    assert!(run("secret delete filemaker", Scripted::default()).await.1.said.contains("was not set"));
    let listed = run("secret list", Scripted::default()).await.1.said;
    assert_eq!(listed, "set      fhir\nnot set  filemaker\n");
    for hidden in ["5511", "6622", "7733", "8844"] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    for forbidden in ["secret get fhir", "secret show fhir", "secret set fhir value", "secret set clinic-key"] {
        let words = std::iter::once("chart-relay").chain(forbidden.split_whitespace());
        assert!(Commands::try_parse_from(words).is_err(), "{forbidden}");
    }
}

#[tokio::test]
async fn the_sheet_goes_only_where_it_was_asked_to_go() {
    let data = tempfile::tempdir().unwrap();
    let secrets = Memory::new();
    let person = &mut Scripted::typing(&["yes"]);
    assert_eq!(command("key sheet", &secrets, data.path(), person).await, (ExitCode::FAILURE, None), "no key yet");
    let key = clinic_key::establish(&secrets, data.path()).await.unwrap().key;

    let person = &mut Scripted::typing(&["no"]);
    assert_eq!(command("key sheet", &secrets, data.path(), person).await, (ExitCode::SUCCESS, None));
    assert!(!person.said.contains("RECOVERY"));

    // Into a pipe or a log: not without a file being named, not even with consent.
    let person = &mut Scripted { terminal: true, alone: false, ..Scripted::typing(&["yes"]) };
    assert_eq!(command("key sheet --yes", &secrets, data.path(), person).await, (ExitCode::FAILURE, None));
    assert!(!person.said.contains("RECOVERY"));

    let person = &mut Scripted::typing(&["yes"]);
    let shown = command("key sheet", &secrets, data.path(), person).await;
    assert_eq!(shown, (ExitCode::SUCCESS, Some(KeyEvent::SheetShown)));
    assert_eq!(recovery_sheet::read(&person.said).unwrap().expose(), key.expose());

    let file = data.path().join("sheet.txt");
    let to = format!("key sheet --to {} --yes", file.display());
    let person = &mut Scripted::default();
    let written = command(&to, &secrets, data.path(), person).await;
    assert_eq!(written, (ExitCode::SUCCESS, Some(KeyEvent::SheetWritten)));
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(recovery_sheet::read(&text).unwrap().expose(), key.expose());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let person = &mut Scripted::default();
    assert_eq!(command(&to, &secrets, data.path(), person).await, (ExitCode::FAILURE, None), "never over a file");
    let without_consent = format!("key sheet --to {}", data.path().join("b").display());
    assert_eq!(
        command(&without_consent, &secrets, data.path(), &mut Scripted::default()).await,
        (ExitCode::FAILURE, None)
    );
}

#[tokio::test]
async fn a_sheet_is_typed_in_line_by_line_or_handed_in() {
    let data = tempfile::tempdir().unwrap();
    let sheet = recovery_sheet::print(&a_key());
    let lines = numbered(sheet.reveal());
    let id = a_key().id().to_string();

    let secrets = Memory::new();
    // The second line is wrong at first and asked for again; the third is typed with its number.
    let bare = |index: usize| lines[index].trim().split_once("  ").unwrap().1;
    let wrong = bare(1).replacen(&bare(1)[..1], if bare(1).starts_with('7') { "8" } else { "7" }, 1);
    let person = &mut Scripted::typing(&[&id, bare(0), &wrong, bare(1), lines[2], bare(3)]);
    let done = command("key restore", &secrets, data.path(), person).await;
    assert_eq!(done, (ExitCode::SUCCESS, Some(KeyEvent::Restored)), "{}", person.complained);
    assert!(person.complained.contains("line 2"), "{}", person.complained);
    assert!(!person.complained.contains(wrong.as_str()));
    assert_eq!(clinic_key::read(&secrets, data.path()).await.unwrap().unwrap().expose(), a_key().expose());

    let person = &mut Scripted::piping(sheet.reveal());
    assert_eq!(command("key restore", &secrets, data.path(), person).await, (ExitCode::SUCCESS, None), "same key");
    let other = ClinicKey::from_bytes([9; 32]);
    let other_sheet = recovery_sheet::print(&other);
    let person = &mut Scripted::piping(other_sheet.reveal());
    assert_eq!(command("key restore", &secrets, data.path(), person).await, (ExitCode::FAILURE, None));
    assert!(person.complained.contains("--replace"));
    let person = &mut Scripted::piping(other_sheet.reveal());
    let replaced = command("key restore --replace", &secrets, data.path(), person).await;
    assert_eq!(replaced, (ExitCode::SUCCESS, Some(KeyEvent::Replaced)));

    let person = &mut Scripted::piping(&sheet.reveal().replace(bare(1), &wrong));
    assert_eq!(command("key restore --replace", &secrets, data.path(), person).await, (ExitCode::FAILURE, None));
    assert_eq!(clinic_key::read(&secrets, data.path()).await.unwrap().unwrap().expose(), other.expose());
}
