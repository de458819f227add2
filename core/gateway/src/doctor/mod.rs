//! `appxmpp doctor`: each thing that can be wrong, in the order in which it would be.

mod running;
mod server;
mod web;

use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use appxmpp::{Error, ErrorKind, Result};

use crate::config::{App, Config};
use crate::terminal;

const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at everything, and prints a line for each.
///
/// # Errors
/// If something is wrong; the lines say what.
pub fn run(config: Config) -> Result<()> {
    terminal::line("ok       the configuration is valid");
    config.warnings.iter().for_each(|warning| terminal::line(&format!("warning  {warning}")));
    let running = running::find(&config);
    match &running {
        Some(running) => terminal::line(&format!("ok       a gateway runs ({})", running.place)),
        None => terminal::line("--       no gateway with this configuration answers"),
    }
    let mut report = Report::default();
    for app in &config.apps {
        terminal::line(&format!("app {}", app.name));
        examine(app, running.as_ref().and_then(|running| running.state_of(app)), &mut report);
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(wrong("one thing is wrong; its line says what to do")),
        several => Err(wrong(format!("{several} things are wrong; their lines say what to do"))),
    }
}

fn wrong(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, text)
}

/// What was found, or what is wrong and what to do about it.
type Finding = std::result::Result<String, String>;

/// The lines about an app, each printed as soon as it is known.
#[derive(Default)]
struct Report {
    wrong: usize,
}

impl Report {
    fn say(&mut self, finding: &Finding) {
        match finding {
            Ok(text) => terminal::line(&format!("  ok     {text}")),
            Err(text) => terminal::line(&format!("  WRONG  {text}")),
        }
        self.wrong += usize::from(finding.is_err());
    }

    /// What is neither good nor bad.
    fn note(&self, text: impl Display) {
        terminal::line(&format!("  --     {text}"));
    }
}

/// `state` is what the gateway that runs says of the app.
fn examine(app: &App, state: Option<&str>, report: &mut Report) {
    if app.development {
        let text = "the XMPP server is the one for development, inside the gateway";
        report.say(&Ok(text.to_owned()));
    } else {
        if let Some(state) = state {
            report.say(&running::finding(state));
        }
        if server::examine(app, report) && state.is_none() {
            server::log_in(app, report);
        }
    }
    web::examine(app, report);
}

/// The addresses of a name, with a line of its own; an address is its own. `key` is where the name
/// stands.
fn resolve(key: &str, host: &str, port: u16, report: &mut Report) -> Option<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    match found {
        Ok(addresses) if !addresses.is_empty() => {
            if is_name {
                let list: Vec<_> = addresses.iter().map(|it| it.ip().to_string()).collect();
                report.say(&Ok(format!("the name {host} is {}", list.join(", "))));
            }
            Some(addresses)
        }
        found => {
            let why = found.err().map(|error| format!(": {error}")).unwrap_or_default();
            report.say(&Err(format!(
                "the name {host} has no address{why}; correct {key}, or give the name one in the DNS \
                 or in /etc/hosts"
            )));
            None
        }
    }
}

/// The first address of some that accepts a connection, or why the last does not.
fn connect(addresses: &[SocketAddr]) -> std::result::Result<std::net::TcpStream, String> {
    let mut last = String::new();
    for address in addresses {
        match std::net::TcpStream::connect_timeout(address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}
