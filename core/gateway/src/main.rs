//! The `appxmpp` command.

use std::process::ExitCode;

use appxmpp_gateway::cli::{Cli, run};
use clap::Parser as _;

fn main() -> ExitCode {
    run(Cli::parse())
}
