//! A running emulator of AWS. `cargo xtask test` installs them from `requirements.txt`.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// It ends with its input, which ends with this process.
struct Emulator {
    address: String,
    _process: Child,
}

fn start(name: &str) -> Emulator {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools/aws");
    let python = tools.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/aws/start.py");
    let mut process = Command::new(&python)
        .arg(script)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` installs it", python.display()));
    let mut port = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
    assert!(!port.is_empty(), "{name} did not start");
    Emulator { address: format!("http://127.0.0.1:{}", port.trim()), _process: process }
}

/// Its address; one for all tests of this process.
pub(crate) fn ministack() -> &'static str {
    static RUNNING: OnceLock<Emulator> = OnceLock::new();
    &RUNNING.get_or_init(|| start("ministack")).address
}

/// moto that holds every caller to the policies of its user or role, but the one with the key `synthetic`.
#[allow(dead_code, reason = "most tests need no permissions")]
pub(crate) fn guarded() -> &'static str {
    static RUNNING: OnceLock<Emulator> = OnceLock::new();
    &RUNNING.get_or_init(|| start("guarded")).address
}

/// As [`ministack`].
#[allow(dead_code, reason = "some tests make do with one emulator")]
pub(crate) fn moto() -> &'static str {
    static RUNNING: OnceLock<Emulator> = OnceLock::new();
    &RUNNING.get_or_init(|| start("moto")).address
}
