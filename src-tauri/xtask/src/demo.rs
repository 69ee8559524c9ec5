//! The demo: everything is built as for a clinic, but for optimisation. With a display it shows tray and window.

use crate::{
    machine::{self, Purpose},
    run::cargo,
    ui,
};

pub(crate) fn demo(arguments: &[&str]) -> bool {
    let display = machine::display();
    let machine = machine::prepare(if display { Purpose::Desktop } else { Purpose::Program });
    if !machine.builds {
        println!("Without these the program cannot be built.");
        return false;
    }
    let desktop = if !display {
        println!(
            "There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set): the demo stays in the terminal."
        );
        false
    } else if !machine.desktop {
        println!("Tray and window cannot be built without what is missing above: the demo stays in the terminal.");
        false
    } else if !ui::build() {
        println!("The window's pages could not be built: the demo stays in the terminal.");
        false
    } else {
        true
    };
    println!("Building Chart Relay (the first time takes some minutes) ...");
    let run = ["run", "--locked", "--package", "chart-relay", "--bin", "chart-relay"];
    let features: &[&str] = if desktop { &["--features", "desktop"] } else { &[] };
    let arguments = ["--", "demo"].into_iter().chain(arguments.iter().copied());
    let mut run = cargo(run.into_iter().chain(features.iter().copied()).chain(arguments));
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
