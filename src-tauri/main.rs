//! The program; everything it does is in the library beside it.

use std::process::ExitCode;

use chart_relay::cli::Cli;
use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
