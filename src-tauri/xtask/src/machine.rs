//! What this machine has, and what is installed on it when it is missing.

use crate::run::{answer, program, works};
use std::{env, path::Path, process::Stdio};

/// Versions that the project needs (Rust: `rust-version` in Cargo.toml).
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
const NODE: &str = "20.19.0";

/// One thing that must be there.
struct Need {
    name: &'static str,
    program: &'static str,
    /// Debian's package.
    package: &'static str,
    why: &'static str,
}

/// What builds the encrypted database.
const TO_BUILD: &[Need] = &[
    Need {
        name: "a C compiler",
        program: "cc",
        package: "build-essential",
        why: "SQLCipher and OpenSSL are built from C",
    },
    Need { name: "make", program: "make", package: "build-essential", why: "OpenSSL is built with it" },
    Need { name: "Perl", program: "perl", package: "perl", why: "OpenSSL is configured with it" },
];

/// What the tests of the keychain run against.
const KEYCHAIN: &[Need] = &[
    Need { name: "D-Bus", program: "dbus-daemon", package: "dbus", why: "the keychain is tested over it" },
    Need {
        name: "GNOME Keyring",
        program: "gnome-keyring-daemon",
        package: "gnome-keyring",
        why: "the keychain is tested against it",
    },
];

/// What turned out to be there. The rest was said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) builds: bool,
    pub(crate) node: bool,
    pub(crate) keychain: bool,
}

/// Looks, installs what can be installed without a person, and says the rest in one sentence each.
pub(crate) fn prepare(for_tests: bool) -> Machine {
    println!("This machine:");
    let mut builds = rust();
    let node = node(for_tests);
    let needs = if cfg!(windows) {
        // The compiler and nmake come with the linker that Rust already used for this very program.
        &TO_BUILD[2..]
    } else {
        TO_BUILD
    };
    builds &= have(needs);
    let keychain = for_tests && cfg!(target_os = "linux") && have(KEYCHAIN);
    println!();
    Machine { builds, node, keychain }
}

fn rust() -> bool {
    let found = answer("rustc", &["--version"]).unwrap_or_default();
    let good = at_least(&found, RUST);
    if good {
        println!("  {found}");
    } else {
        println!("  Rust {RUST} or newer is missing (found: {found}): `rustup update stable` gets it.");
    }
    good
}

fn node(for_tests: bool) -> bool {
    let found = answer("node", &["--version"]);
    let good = found.as_deref().is_some_and(|found| at_least(found, NODE));
    let found = found.unwrap_or_else(|| "none".to_owned());
    match (good, for_tests) {
        (true, _) => println!("  Node.js {found}"),
        (false, true) => println!("  Node.js {NODE} or newer is missing (found: {found}): https://nodejs.org has it."),
        (false, false) => println!("  Node.js {NODE} is missing (found: {found}); only the tests need it."),
    }
    good
}

fn at_least(found: &str, wanted: &str) -> bool {
    version(found) >= version(wanted)
}

/// The first three numbers of "rustc 1.95.0-beta.1 (..)" or "v20.20.2".
fn version(text: &str) -> Vec<u32> {
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    text[start..].split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok()).take(3).collect()
}

fn is_there(need: &Need) -> bool {
    // A build may have been told of another one.
    let program =
        if need.program == "cc" { env::var_os("CC").unwrap_or_else(|| "cc".into()) } else { need.program.into() };
    let found = Path::new(&program).is_file()
        || env::var_os("PATH").is_some_and(|path| {
            env::split_paths(&path)
                .any(|folder| folder.join(&program).is_file() || folder.join(&program).with_extension("exe").is_file())
        });
    if found {
        println!("  {}", need.name);
    }
    found
}

fn have(needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_there(need)).collect();
    if missing.is_empty() {
        return true;
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let packages = packages.join(" ");
    if install(&packages) {
        return true;
    }
    for need in missing {
        println!("  {} is missing: {}.", need.name, need.why);
    }
    if cfg!(target_os = "macos") {
        println!("  To get it: xcode-select --install");
    } else if cfg!(windows) {
        println!("  To get it: winget install StrawberryPerl.StrawberryPerl");
    } else {
        println!("  To get it: sudo apt-get install {packages}   (or your system's packages of these names)");
    }
    false
}

/// Only where it asks nobody: on Debian and its kin, as root.
fn install(packages: &str) -> bool {
    let root = cfg!(target_os = "linux") && answer("id", &["-u"]).as_deref() == Some("0");
    if !root || answer("apt-get", &["--version"]).is_none() {
        return false;
    }
    println!("  Installing {packages} ...");
    let apt = |arguments: &[&str]| {
        let mut command = program("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        works(&mut command)
    };
    let list: Vec<&str> = ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.split(' ')).collect();
    // The lists of a fresh machine are old or empty.
    apt(&["update"]) && apt(&list)
}

/// A part of the toolchain, which a minimal installation of Rust leaves out.
pub(crate) fn component(name: &str) -> bool {
    let there = || crate::run::cargo([if name == "rustfmt" { "fmt" } else { name }, "--version"]).output();
    if there().is_ok_and(|output| output.status.success()) {
        return true;
    }
    println!("Installing {name} ...");
    works(program("rustup").args(["component", "add", name]))
}

#[cfg(test)]
mod tests {
    use super::{at_least, version};

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("rustc 1.95.0-nightly (59807616e 2026-04-14)"), [1, 95, 0]);
        assert!(at_least("rustc 1.94.1 (x)", "1.94.1"));
        assert!(at_least("v22.1.0", "20.19.0"));
        assert!(!at_least("v20.9.1", "20.19.0"));
        assert!(!at_least("", "20.19.0"));
        assert!(!at_least("no version", "1.94.1"));
    }
}
