//! Every check and every test.

use crate::{
    emulators,
    machine::{self, Machine, Purpose},
    run::{answer, cargo, npm, npm_ci, program, root, tool, tools, works},
    stage::{Outcome, Stage, Work, clock},
    ui,
};
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, time::Duration};

const CARGO_DENY: &str = "0.20.2";

/// The same for every command that compiles, so that nothing is compiled twice.
fn whole(machine: Machine) -> [&'static str; 4] {
    ["--locked", "--workspace", "--features", if machine.desktop { "engine/fakes,desktop" } else { "engine/fakes" }]
}

pub(crate) fn test() -> bool {
    let mut machine = machine::prepare(Purpose::Tests);
    // Before everything that has the window in it.
    if machine.desktop && !ui::build() {
        println!("The window's pages could not be built: nothing of tray and window is checked.\n");
        machine = Machine { desktop: false, screen: false, bundles: false, ..machine };
    }
    let stages = [
        Stage { name: "formatting", work: formatting },
        Stage { name: "licences", work: licences },
        Stage { name: "pages", work: pages },
        Stage { name: "clippy", work: law },
        Stage { name: "docs", work: docs },
        Stage { name: "headless", work: headless },
        Stage { name: "tests", work: most_tests },
        Stage { name: "real parts", work: real_parts },
        Stage { name: "emulators", work: emulated },
        Stage { name: "desktop", work: desktop },
        Stage { name: "packages", work: packages },
        Stage { name: "simulation", work: simulation },
    ];
    let count = stages.len();
    let mut outcomes = Vec::new();
    for (number, stage) in stages.into_iter().enumerate() {
        println!("=== {}/{count} {} ===", number + 1, stage.name);
        let name = stage.name;
        let outcome = stage.run(machine);
        println!("=== {name}: {} ===\n", clock(outcome.took));
        outcomes.push((name, outcome));
    }

    for (_, outcome) in &outcomes {
        for figure in &outcome.figures {
            println!("{figure}");
        }
    }
    println!("\n{:<12}{:>8}{:>8}{:>9}{:>8}", "stage", "passed", "failed", "not run", "time");
    for (name, outcome) in &outcomes {
        let (passed, failed, not_run) = (outcome.passed, outcome.failed, outcome.not_run.len());
        println!("{name:<12}{passed:>8}{failed:>8}{not_run:>9}{:>8}", clock(outcome.took));
    }
    let all: Duration = outcomes.iter().map(|(_, outcome)| outcome.took).sum();
    println!("{:<37}{:>8}", "all", clock(all));

    let failures: Vec<_> =
        outcomes.iter().flat_map(|(name, outcome)| outcome.failures.iter().map(move |what| (name, what))).collect();
    if !failures.is_empty() {
        println!("\nFailed:");
        failures.iter().for_each(|(name, what)| println!("  {name}: {what}"));
    }
    let left_out = |(name, outcome): &(&str, Outcome)| -> Vec<String> {
        outcome.not_run.iter().map(|what| format!("{name}: {what}")).collect()
    };
    let mut not_run: Vec<String> = outcomes.iter().flat_map(left_out).collect();
    not_run.extend(elsewhere(machine));
    println!("\nNot run:");
    not_run.iter().for_each(|what| println!("  {what}"));

    let passed: u32 = outcomes.iter().map(|(_, outcome)| outcome.passed).sum();
    let failed: u32 = outcomes.iter().map(|(_, outcome)| outcome.failed).sum();
    println!("\n{passed} passed, {failed} failed, {} skipped", not_run.len());
    failed == 0
}

/// What no stage runs on this machine.
fn elsewhere(machine: Machine) -> Vec<String> {
    let mut not_run = Vec::new();
    if cfg!(target_os = "linux") {
        if !machine.keychain {
            not_run.push("the keychain of Linux: D-Bus or GNOME Keyring is missing".to_owned());
        }
        not_run.push("the keychains of Windows and macOS, their sockets and clocks: this is Linux".to_owned());
    } else {
        not_run.push("the keychain: it is tested on Linux only, against GNOME Keyring".to_owned());
    }
    if cfg!(target_os = "linux") {
        not_run
            .push("tray and window of Windows and macOS, their packages (.msi, NSIS, .dmg): this is Linux".to_owned());
    }
    not_run.push(
        "known vulnerabilities of dependencies (`cargo deny check advisories`): needs a database from the network"
            .into(),
    );
    not_run.push("Helios hfs: building it takes the better part of an hour (`cargo xtask conformance`)".to_owned());
    not_run
}

fn cannot_build() -> Work {
    Work::Impossible("nothing can be built here: the first lines say what is missing".to_owned())
}

fn formatting(_: Machine) -> Work {
    if !machine::component("rustfmt") {
        return Work::NotRun("rustfmt is missing and cannot be installed".to_owned());
    }
    Work::Check(cargo(["fmt", "--all", "--check"]))
}

fn licences(_: Machine) -> Work {
    let ours = tool("cargo-deny");
    let deny: PathBuf = if answer(&ours, &["--version"]).is_some() {
        ours
    } else if answer("cargo-deny", &["--version"]).is_some() {
        "cargo-deny".into()
    } else {
        println!("Installing cargo-deny {CARGO_DENY} into {} (once; some minutes) ...", tools().display());
        let version = format!("cargo-deny@{CARGO_DENY}");
        let mut install = cargo(["install", "--quiet", "--locked", "--no-default-features", &version, "--root"]);
        if !works(install.arg(tools())) {
            return Work::NotRun("cargo-deny is missing and cannot be installed".to_owned());
        }
        ours
    };
    let deny = |options: &[&str], checks: &[&str]| {
        let mut check = program(&deny);
        check.args(["--workspace", "--locked"]).args(options).arg("check").arg("--hide-inclusion-graph").args(checks);
        check
    };
    Work::Checks(vec![
        deny(&["--all-features"], &["licenses", "bans", "sources"]),
        // Nothing that needs a display is in the headless program.
        deny(&["--config", "deny.headless.toml"], &["bans"]),
    ])
}

/// The window's pages alone: types, every view in Chromium, what assistive technology finds.
fn pages(machine: Machine) -> Work {
    if !machine.node {
        return Work::NotRun("the window's pages: Node.js is missing".to_owned());
    }
    if !machine.chromium {
        return Work::NotRun("the window's pages in Chromium: it is missing (CHROMIUM may name one)".to_owned());
    }
    let folder = root().join("ui");
    let run = |script: &str| {
        let mut npm = npm(&folder);
        npm.args(["run", "--silent", script]);
        npm
    };
    let first = npm_ci(&folder).into_iter().chain([run("check")]).collect();
    Work::Tests { first, tests: vec![run("test")] }
}

fn law(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if !machine::component("clippy") {
        return Work::NotRun("it is missing and cannot be installed".to_owned());
    }
    Work::Check(cargo(["clippy"].into_iter().chain(whole(machine)).chain(["--all-targets", "--", "-D", "warnings"])))
}

fn docs(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    let mut doc = cargo(["doc"].into_iter().chain(whole(machine)).chain(["--no-deps", "--document-private-items"]));
    // This is the documentation of a program: it may lead to what is private.
    doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    Work::Check(doc)
}

/// The program as a server gets it, which the other stages have only with the feature `desktop` on.
fn headless(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if !machine.desktop {
        return Work::NotRun(
            "the headless program for itself: everything was checked without tray and window".to_owned(),
        );
    }
    Work::Check(cargo(["check", "--locked", "--package", "chart-relay", "--bins"]))
}

/// Names of all integration tests, whether Cargo.toml knows of them or not: cargo complains of those that it does not know.
fn integration_tests() -> BTreeSet<String> {
    let folders = ["tests", "src-tauri/engine/tests", "src-tauri/simulators/tests"];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(root().join(folder)).ok()).flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").is_file())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

fn is_real(name: &str) -> bool {
    name.starts_with("real")
}

/// Tests that start the program with its tray and its window: they have stages of their own.
const DESKTOP: &str = "desktop";
const PACKAGES: &str = "packages";

fn tests_named(machine: Machine, names: &[&str], more: &[&str]) -> Command {
    let mut command = cargo(["test"].into_iter().chain(whole(machine)).chain(["--no-fail-fast"]));
    for name in names {
        command.args(["--test", name]);
    }
    command.args(more);
    command
}

fn most_tests(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    let names = integration_tests();
    let elsewhere = ["simulation", DESKTOP, PACKAGES];
    let here = |name: &&str| !is_real(name) && !elsewhere.contains(name) && (machine.keychain || *name != "keychain");
    let names: Vec<&str> = names.iter().map(String::as_str).filter(here).collect();
    let skip = NEED_NODE.iter().chain(&emulators::NAMES).flat_map(|module| ["--skip", module]);
    let more: Vec<&str> = ["--lib", "--bins", "--"].into_iter().chain(skip).collect();
    let tests = tests_named(machine, &names, &more);
    let examples = cargo(["test"].into_iter().chain(whole(machine)).chain(["--doc"]));
    Work::Tests { first: Vec::new(), tests: vec![tests, examples] }
}

/// Modules among the other tests that need Node.js, and the tests that they are in.
const NEED_NODE: [&str; 2] = ["public_client::", "medplum::"];
const NEED_NODE_IN: [&str; 2] = ["filemaker", "system"];

fn real_parts(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if !machine.node {
        return Work::NotRun("servers and clients that we did not write: Node.js is missing".to_owned());
    }
    let names = integration_tests();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_real(name)).collect();
    let folders = fs::read_dir(root().join("tests/real")).into_iter().flatten().flatten().map(|entry| entry.path());
    let first =
        folders.filter(|folder| folder.join("package-lock.json").is_file()).filter_map(|folder| npm_ci(&folder));
    let tests = vec![
        tests_named(machine, &names, &[]),
        tests_named(machine, &NEED_NODE_IN, &["--", NEED_NODE[0], NEED_NODE[1]]),
    ];
    Work::Tests { first: first.collect(), tests }
}

/// The shared queue and ledger, against two emulators of AWS.
fn emulated(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if let Err(reason) = emulators::install() {
        return Work::NotRun(format!("the shared queue and ledger, on emulators of AWS: {reason}"));
    }
    let more: Vec<&str> = ["--", "--nocapture"].into_iter().chain(emulators::NAMES).collect();
    Work::Tests { first: Vec::new(), tests: vec![tests_named(machine, &["contract", "system"], &more)] }
}

/// The real tray and the real window, one test at a time: each has a display and a session bus of its own.
fn desktop(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if !machine.screen {
        return Work::NotRun("tray and window: what they need is missing, or this is not Linux".to_owned());
    }
    let tests = tests_named(machine, &[DESKTOP], &["--", "--test-threads=1"]);
    Work::Tests { first: Vec::new(), tests: vec![tests] }
}

/// `.deb` and `.rpm` of what was tested, made and installed.
fn packages(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    if !machine.bundles {
        return Work::NotRun(
            ".deb and .rpm: what makes and installs them is missing, or this is not Debian".to_owned(),
        );
    }
    Work::Tests { first: Vec::new(), tests: vec![tests_named(machine, &[PACKAGES], &["--", "--test-threads=1"])] }
}

fn simulation(machine: Machine) -> Work {
    if !machine.builds {
        return cannot_build();
    }
    let simulation = ["--locked", "--profile", "simulation", "--package", "engine", "--features", "fakes"];
    let tests = cargo(["test"].into_iter().chain(simulation).chain(["--test", "simulation", "--", "--nocapture"]));
    Work::Tests { first: Vec::new(), tests: vec![tests] }
}
