//! The `appxmpp` command.

use std::process::ExitCode;

// A request and its delivery ask for memory some eighty times; a tenth of their time is the
// allocator's, with glibc's twice as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(appxmpp_gateway::cli::main(std::env::args_os()))
}
