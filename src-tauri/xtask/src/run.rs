//! Where things are, and how another program is started.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Where tools are installed that only this project uses.
pub(crate) fn tools() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target)).join("tools")
}

/// A tool in there, by its bare name.
pub(crate) fn tool(name: &str) -> PathBuf {
    tools().join("bin").join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// A program in the project's root.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    // Cargo tells us about ourselves in these. Build scripts that read them would take that for a change.
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&variable);
        }
    }
    command
}

/// Cargo, as we were started by it.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// `npm ci` in a folder, unless what is installed there is what its lock file asks for.
pub(crate) fn npm_ci(folder: &Path) -> Option<Command> {
    let time = |path: &str| folder.join(path).metadata().and_then(|found| found.modified()).ok();
    // npm writes the first when it is done.
    if time("node_modules/.package-lock.json").is_some_and(|done| Some(done) >= time("package-lock.json")) {
        return None;
    }
    let mut npm = npm(folder);
    npm.args(["ci", "--no-audit", "--no-fund"]);
    Some(npm)
}

/// npm in a folder.
pub(crate) fn npm(folder: &Path) -> Command {
    let mut npm = program(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.current_dir(folder);
    npm
}

/// What a program prints, if it can be started and is content.
pub(crate) fn answer(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = self::program(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether it could be started and was content.
pub(crate) fn works(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("{} does not start: {error}", command.get_program().to_string_lossy());
            false
        }
    }
}
