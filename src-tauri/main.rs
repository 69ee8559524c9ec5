//! The program; everything it does is in the library beside it. No runtime is started here: under the feature `desktop` the main thread
//! belongs to the event loop of the tray or of the window.

use std::process::ExitCode;

use chart_relay::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    Cli::parse().run()
}
