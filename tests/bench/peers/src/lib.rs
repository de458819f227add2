//! What the tokio-xmpp peers share: the settings every benchmark program reads from its environment.

use std::env;
use std::io::{self, BufRead as _, Write as _};

use tokio_xmpp::connect::{DnsConfig, TcpServerConnector};
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Component, Error};

/// One setting of the run.
///
/// # Panics
/// When it is missing: the runner always sets it.
pub fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start this through `make bench`"))
}

/// Whether an optional setting has this value.
pub fn flag(name: &str, value: &str) -> bool {
    env::var(name).is_ok_and(|v| v == value)
}

/// Connects the component named by the environment.
pub async fn connect() -> Result<Component<TcpServerConnector>, Error> {
    Component::new_plaintext(
        &setting("BENCH_DOMAIN"),
        &setting("BENCH_SECRET"),
        DnsConfig::addr(&setting("BENCH_SERVER")),
        Timeouts::default(),
    )
    .await
}

/// Tells the runner something in one line.
pub fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().expect("the runner reads our output");
}

/// Waits for the runner's next line; false: there is none any more.
pub fn wait_for_runner() -> bool {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).expect("the runner holds our input") > 0
}
