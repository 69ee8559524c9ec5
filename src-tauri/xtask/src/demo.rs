//! The demo: everything is built as for a clinic, but for optimisation.

use crate::{machine, run::cargo};

pub(crate) fn demo(arguments: &[&str]) -> bool {
    if !machine::prepare(false).builds {
        println!("Without these the program cannot be built.");
        return false;
    }
    println!("Building Chart Relay (the first time takes some minutes) ...");
    let run = ["run", "--locked", "--package", "chart-relay", "--bin", "chart-relay", "--", "demo"];
    let mut run = cargo(run.into_iter().chain(arguments.iter().copied()));
    // The program takes our place, so that Ctrl-C reaches it and nobody else.
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let error = run.exec();
        eprintln!("cargo does not start: {error}");
        false
    }
    #[cfg(not(unix))]
    {
        crate::run::works(&mut run)
    }
}
