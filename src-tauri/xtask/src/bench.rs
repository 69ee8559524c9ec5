//! The benchmarks. Each prints its own figures beside its baseline and fails if it misses a target.

use crate::{
    emulators,
    machine::{self, Purpose},
    run::{cargo, root, works},
    ui,
};
use std::fs;

/// The one that needs an emulator of AWS.
const SHARED: &str = "shared";
/// The one that drives the engine alone, on simulated time.
const EHR: &str = "ehr";
/// The one that needs the feature `desktop`, and a display, which it makes itself.
const DESKTOP: &str = "desktop";

pub(crate) fn bench(only: Option<&str>) -> bool {
    let found = fs::read_dir(root().join("benches")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<String> = found
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if let Some(only) = only
        && !names.iter().any(|name| name == only)
    {
        eprintln!("There is no benchmark \"{only}\". There are: {}.", names.join(", "));
        return false;
    }
    names.retain(|name| only.is_none_or(|only| name == only));
    let asks_desktop = names.iter().any(|name| name == DESKTOP);
    let machine = machine::prepare(if asks_desktop { Purpose::Benchmarks } else { Purpose::Program });
    if !machine.builds {
        println!("Without these the benchmarks cannot be built.");
        return false;
    }
    let desktop = asks_desktop && machine.screen && ui::build();
    if asks_desktop && !desktop {
        println!("Tray and window are not measured: what they need on Linux is missing, or this is not Linux.");
        names.retain(|name| name != DESKTOP);
    }
    if names.iter().any(|name| name == SHARED)
        && let Err(reason) = emulators::install()
    {
        println!("Stations that share the work are not measured: {reason}.");
        names.retain(|name| name != SHARED);
    }
    let mut missed = Vec::new();
    for name in &names {
        println!("=== {name} ===");
        let package = if name == EHR { "engine" } else { "chart-relay" };
        let bench = ["bench", "--locked", "--package", package, "--bench", name];
        let features: &[&str] = match name.as_str() {
            DESKTOP => &["--features", "desktop"],
            EHR => &["--features", "fakes"],
            _ => &[],
        };
        if !works(&mut cargo(bench.into_iter().chain(features.iter().copied()))) {
            missed.push(name.as_str());
        }
        println!();
    }
    match missed.as_slice() {
        [] => println!("{} benchmarks ran, every target was met", names.len()),
        missed => {
            println!("{} benchmarks ran, of which these failed or missed a target: {}", names.len(), missed.join(", "))
        }
    }
    missed.is_empty()
}
