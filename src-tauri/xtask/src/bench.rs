//! The benchmarks. Each prints its own figures beside its baseline and fails if it misses a target.

use crate::{
    machine,
    run::{cargo, root, works},
};
use std::fs;

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
    if !machine::prepare(false).builds {
        println!("Without these the benchmarks cannot be built.");
        return false;
    }
    let mut missed = Vec::new();
    for name in &names {
        println!("=== {name} ===");
        if !works(&mut cargo(["bench", "--locked", "--package", "chart-relay", "--bench", name])) {
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
