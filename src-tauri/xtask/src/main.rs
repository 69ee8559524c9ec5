//! The project's own commands. Each sets up what is missing, says what it cannot set up, shows its progress and ends with
//! a plain summary. `docs/development.md` tells how to run parts of them by hand.

#![allow(clippy::disallowed_methods, reason = "nothing in here is replayed: the machine's clock is what is measured")]

mod bench;
mod conformance;
mod demo;
mod emulators;
mod machine;
mod run;
mod stage;
mod test;
mod ui;

use std::process::ExitCode;

const HELP: &str = "\
The project's own commands.

cargo xtask demo [--for 60s]    a synthetic clinic at work, with mishaps to watch: in tray and window, without a display in the terminal
cargo xtask test                every check and every test, with the time of each stage
cargo xtask bench [--only NAME] the benchmarks, each beside its baseline
cargo xtask conformance         optional: the FHIR client against Helios hfs; building that takes the better part of an hour

Each sets up what is missing and says what it installs. They need Rust 1.94.1, Node.js 20.19 (for window and tests), Perl, make and a C
compiler, or newer.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let good = match words.as_slice() {
        ["demo", rest @ ..] => demo::demo(rest),
        ["test"] => test::test(),
        ["bench"] => bench::bench(None),
        ["bench", "--only", name] => bench::bench(Some(name)),
        ["conformance"] => conformance::conformance(),
        [] | ["help" | "--help" | "-h", ..] | [_, "--help" | "-h"] => {
            println!("{HELP}");
            true
        }
        _ => {
            eprintln!("There is no command `cargo xtask {}`.\n\n{HELP}", words.join(" "));
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
