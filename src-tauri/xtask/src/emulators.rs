//! Emulators of AWS, which are Python programs: installed from PyPI into a folder of their own beside what cargo builds.

use crate::{
    machine,
    run::{answer, program, root, tools, works},
};
use std::fs;

/// The modules of tests that run against one of them.
pub(crate) const NAMES: [&str; 2] = ["ministack::", "moto::"];

/// Installs them, unless what is there is what `requirements.txt` asks for. The reason, if that is not possible.
pub(crate) fn install() -> Result<(), String> {
    let folder = tools().join("aws");
    let wanted = root().join("tests/real/aws/requirements.txt");
    let done = folder.join("requirements.txt");
    let same = |wanted: String| fs::read_to_string(&done).is_ok_and(|done| done == wanted);
    if fs::read_to_string(&wanted).is_ok_and(same) {
        return Ok(());
    }
    let python = python().ok_or("Python 3 with venv and pip is missing (Debian: python3-venv)")?;
    println!("Installing {} into {} (once) ...", wanted.display(), folder.display());
    if !works(program(python).args(["-m", "venv"]).arg(&folder)) {
        return Err("Python cannot make an environment of its own".to_owned());
    }
    let inside = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let mut pip = program(inside);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    if !works(&mut pip) {
        return Err("they cannot be installed from PyPI".to_owned());
    }
    fs::copy(&wanted, &done).map(|_| ()).map_err(|error| format!("{}: {error}", done.display()))
}

/// A Python that can make environments; Debian keeps that in a package of its own.
fn python() -> Option<&'static str> {
    let complete = || {
        let able = |python: &&str| answer(python, &["-c", "import ensurepip, venv"]).is_some();
        ["python3", "python"].into_iter().find(able)
    };
    complete().or_else(|| machine::install("python3-venv").then(complete).flatten())
}
