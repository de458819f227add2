//! The `appxmpp` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(appxmpp_gateway::cli::main(std::env::args_os()))
}
