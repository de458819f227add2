//! Our own library in the benchmark: `appxmpp-bench WHAT`, told the rest by `BENCH_*` variables.

mod app;
mod connection;
mod contacts;
mod outbox;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    let done = match what.as_str() {
        "echo-connection" => connection::echo(),
        "send-connection" => connection::send(),
        "echo-app" => app::echo(),
        "send-app" => app::send(),
        "come-online" => app::come_online(),
        "contacts" => contacts::run(),
        "send-many" => outbox::send(),
        _ => Err("usage: appxmpp-bench WHAT; what there is stands in main.rs".into()),
    };
    if let Err(error) = done {
        eprintln!("appxmpp-bench {what}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
