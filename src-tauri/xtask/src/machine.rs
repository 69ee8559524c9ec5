//! What this machine has, and what is installed on it when it is missing.

use crate::run::{answer, program, works};
use std::{env, ffi::OsStr, path::Path, process::Stdio};

/// Versions that the project needs (Rust: `rust-version` in Cargo.toml).
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
const NODE: &str = "20.19.0";

/// One thing that must be there.
struct Need {
    name: &'static str,
    place: Place,
    /// Debian's package.
    package: &'static str,
    why: &'static str,
}

/// Where to look for it.
enum Place {
    Program(&'static str),
    /// What a library is built against, by pkg-config's name.
    Headers(&'static str),
    /// What is loaded at run time, by the loader's name.
    Loaded(&'static str),
}
use Place::{Headers, Loaded, Program};

/// What builds the encrypted database.
const TO_BUILD: &[Need] = &[
    Need {
        name: "a C compiler",
        place: Program("cc"),
        package: "build-essential",
        why: "SQLCipher and OpenSSL are built from C",
    },
    Need { name: "make", place: Program("make"), package: "build-essential", why: "OpenSSL is built with it" },
    Need { name: "Perl", place: Program("perl"), package: "perl", why: "OpenSSL is configured with it" },
];

/// What the tests of the keychain run against.
const KEYCHAIN: &[Need] = &[
    Need { name: "D-Bus", place: Program("dbus-daemon"), package: "dbus", why: "the keychain is tested over it" },
    Need {
        name: "GNOME Keyring",
        place: Program("gnome-keyring-daemon"),
        package: "gnome-keyring",
        why: "the keychain is tested against it",
    },
];

/// What tray and window are made of on Linux. Windows and macOS bring their own.
const DESKTOP: &[Need] = &[
    Need {
        name: "WebKitGTK 4.1",
        place: Headers("webkit2gtk-4.1"),
        package: "libwebkit2gtk-4.1-dev",
        why: "it draws the window",
    },
    Need {
        name: "Ayatana AppIndicator",
        place: Loaded("libayatana-appindicator3.so.1"),
        package: "libayatana-appindicator3-1",
        why: "it shows the tray icon",
    },
];

/// What the tests of tray and window run in: displays and session buses of their own.
const SCREEN: &[Need] = &[
    Need { name: "Xvfb", place: Program("Xvfb"), package: "xvfb", why: "each test has a display of its own" },
    Need {
        name: "D-Bus",
        place: Program("dbus-daemon"),
        package: "dbus",
        why: "each test has a session bus of its own",
    },
    Need {
        name: "WebKitWebDriver",
        place: Program("WebKitWebDriver"),
        package: "webkit2gtk-driver",
        why: "it drives the real window",
    },
    Need { name: "xprop", place: Program("xprop"), package: "x11-utils", why: "the window's title is read with it" },
];

const CHROMIUM: &[Need] = &[Need {
    name: "Chromium",
    place: Program("chromium"),
    package: "chromium",
    why: "every view is tried in it, in light, dark and forced colours",
}];

/// What packages are made with.
const BUNDLES: &[Need] = &[
    Need { name: "rpm", place: Program("rpm"), package: "rpm", why: "the .rpm is installed with it" },
    Need { name: "dpkg", place: Program("dpkg"), package: "dpkg", why: "the .deb is installed with it" },
    Need {
        name: "Ayatana AppIndicator's headers",
        place: Headers("ayatana-appindicator3-0.1"),
        package: "libayatana-appindicator3-dev",
        why: "the package's dependencies are found through it",
    },
];

/// What the machine is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The headless program.
    Program,
    /// Tray and window as well.
    Desktop,
    Benchmarks,
    Tests,
}

/// What turned out to be there. The rest was said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) builds: bool,
    pub(crate) node: bool,
    pub(crate) keychain: bool,
    /// Tray and window can be built, and run where there is a display.
    pub(crate) desktop: bool,
    /// They can be tested: on Linux only.
    pub(crate) screen: bool,
    pub(crate) chromium: bool,
    /// `.deb` and `.rpm` can be made and installed.
    pub(crate) bundles: bool,
}

/// Looks, installs what can be installed without a person, and says the rest in one sentence each.
pub(crate) fn prepare(purpose: Purpose) -> Machine {
    println!("This machine:");
    let (linux, tests) = (cfg!(target_os = "linux"), purpose == Purpose::Tests);
    let mut builds = rust();
    let node = node(purpose);
    let needs = if cfg!(windows) {
        // The compiler and nmake come with the linker that Rust already used for this very program.
        &TO_BUILD[2..]
    } else {
        TO_BUILD
    };
    builds &= have(needs);
    let keychain = tests && linux && have(KEYCHAIN);
    // Without Node.js there are no pages to show.
    let desktop = builds && node && purpose != Purpose::Program && (!linux || have(DESKTOP));
    let screen = desktop && linux && purpose >= Purpose::Benchmarks && have(SCREEN);
    let chromium = node && tests && if linux { have(CHROMIUM) } else { env::var_os("CHROMIUM").is_some() };
    let bundles = desktop && linux && tests && answer("dpkg", &["--version"]).is_some() && have(BUNDLES);
    println!();
    Machine { builds, node, keychain, desktop, screen, chromium, bundles }
}

/// Whether somebody could see a window.
pub(crate) fn display() -> bool {
    let named = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || named("DISPLAY") || named("WAYLAND_DISPLAY")
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

fn node(purpose: Purpose) -> bool {
    let found = answer("node", &["--version"]);
    let good = found.as_deref().is_some_and(|found| at_least(found, NODE));
    let found = found.unwrap_or_else(|| "none".to_owned());
    match (good, purpose) {
        (true, _) => println!("  Node.js {found}"),
        (false, Purpose::Program) => {
            println!("  Node.js {NODE} is missing (found: {found}); only tray, window and tests need it.")
        }
        (false, _) => println!("  Node.js {NODE} or newer is missing (found: {found}): https://nodejs.org has it."),
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
    let found = match need.place {
        // A build may have been told of another one.
        Program("cc") => on_path(&env::var_os("CC").unwrap_or_else(|| "cc".into())),
        Program(program) => on_path(program.as_ref()),
        Headers(library) => answer("pkg-config", &["--exists", library]).is_some(),
        // The loader's list stands where ordinary accounts do not look for programs.
        Loaded(library) => ["ldconfig", "/sbin/ldconfig"]
            .iter()
            .any(|ldconfig| answer(ldconfig, &["-p"]).is_some_and(|list| list.contains(library))),
    };
    if found {
        println!("  {}", need.name);
    }
    found
}

fn on_path(program: &OsStr) -> bool {
    Path::new(program).is_file()
        || env::var_os("PATH").is_some_and(|path| {
            env::split_paths(&path)
                .any(|folder| folder.join(program).is_file() || folder.join(program).with_extension("exe").is_file())
        })
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
pub(crate) fn install(packages: &str) -> bool {
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
