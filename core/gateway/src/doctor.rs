//! `appxmpp doctor`: each thing that can be wrong, in the order in which it would be.

use std::iter;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use appxmpp::net::{Backend, Connection, ConnectionConfig, Endpoint};
use appxmpp::xml::Element;
use appxmpp::{Error, ErrorKind, Result, ns};

use crate::config::{App, Config};
use crate::deliver::trust::Trust;
use crate::terminal;

const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at everything, and prints a line for each.
///
/// # Errors
/// If something is wrong; the lines say what.
pub fn run(config: Config) -> Result<()> {
    terminal::line("ok       the configuration is valid");
    let mut wrong = 0;
    for app in &config.apps {
        terminal::line(&format!("app {}", app.name));
        let findings = examine(app);
        wrong += findings.iter().filter(|finding| finding.is_err()).count();
        for finding in findings {
            match finding {
                Ok(text) => terminal::line(&format!("  ok     {text}")),
                Err(text) => terminal::line(&format!("  WRONG  {text}")),
            }
        }
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(Error::new(ErrorKind::Internal, format!("{wrong} things are wrong"))),
    }
}

type Finding = std::result::Result<String, String>;

fn examine(app: &App) -> Vec<Finding> {
    let mut findings = Vec::new();
    if app.development {
        let text = "the XMPP server is the one for development, inside the gateway";
        return iter::once(Ok(text.to_owned())).chain(webhooks(app)).collect();
    }
    let backend = match Backend::parse(&app.backend) {
        Ok(Backend::Component { endpoint, .. } | Backend::Client { srv: false, endpoint, .. }) => {
            Some(endpoint)
        }
        // Where it is, the DNS says.
        Ok(Backend::Client { .. }) => None,
        Ok(_) => return vec![Err("the backend is no XMPP server".to_owned())],
        Err(error) => return vec![Err(error.to_string())],
    };
    let reachable = backend.as_ref().map(reach);
    let reached = reachable.as_ref().is_none_or(Result::is_ok);
    findings.extend(reachable);
    if reached {
        findings.extend(log_in(app));
    }
    findings.extend(webhooks(app));
    findings
}

fn webhooks(app: &App) -> impl Iterator<Item = Finding> + '_ {
    let urls = [("url", &app.url), ("callback_url", &app.callback_url)];
    urls.into_iter()
        .filter_map(|(key, url)| url.as_ref().map(|url| webhook(key, url, &app.callback_trust)))
}

fn reach(endpoint: &Endpoint) -> Finding {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path)
            .map(|_| format!("{endpoint} accepts connections"))
            .map_err(|error| format!("{endpoint}: {error}; is the XMPP server running?")),
        Endpoint::Tcp { host, port } => {
            let addresses: Vec<_> = (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(|error| format!("the name {host} has no address: {error}"))?
                .collect();
            let mut last = None;
            for address in &addresses {
                match TcpStream::connect_timeout(address, PATIENCE) {
                    Ok(_) => return Ok(format!("{endpoint} accepts connections")),
                    Err(error) => last = Some(error),
                }
            }
            let why = last.map(|error| error.to_string()).unwrap_or_default();
            Err(format!(
                "{endpoint} does not accept connections ({why}); start the XMPP server, and let it \
                 listen for components there (Prosody: component_ports; ejabberd: a listener with \
                 module ejabberd_service)"
            ))
        }
    }
}

/// Logs in, and asks oneself for an answer through the server.
fn log_in(app: &App) -> Vec<Finding> {
    let opened = Backend::parse(&app.backend)
        .and_then(|backend| {
            let secret = appxmpp::net::Secret::new(app.secret.expose());
            ConnectionConfig::for_backend(&backend, Some(secret))
        })
        .and_then(Connection::open);
    let connection = match opened {
        Ok(connection) => connection,
        Err(error) => return vec![Err(error.to_string())],
    };
    let domain = &app.domain;
    let findings = match connection.wait_ready(PATIENCE) {
        Ok(true) => vec![
            Ok(format!("the server accepts {domain}")),
            match domain.split_once('@') {
                Some((_, server)) => ping(&connection, server),
                None => echo(&connection, domain),
            },
        ],
        Ok(false) => vec![Err(format!(
            "the server did not accept {domain} in {PATIENCE:?}; its log says why. Is \
             a gateway connected already? The server lets only one in"
        ))],
        Err(error) => vec![Err(error.to_string())],
    };
    connection.close_blocking(Duration::from_secs(2));
    findings
}

/// Asks an account's server for an answer.
fn ping(connection: &Connection, server: &str) -> Finding {
    let iq = Element::new("iq", ns::CLIENT)
        .with_attr("type", "get")
        .with_attr("to", server)
        .with_child(Element::new("ping", ns::PING));
    match connection.request_blocking(iq, PATIENCE) {
        Ok(_) => Ok(format!("{server} answers")),
        Err(error) => Err(format!("{server} does not answer: {error}")),
    }
}

fn echo(connection: &Connection, domain: &str) -> Finding {
    let message =
        format!("<message to=\"{domain}\" from=\"{domain}\" id=\"doctor\" type=\"headline\"/>");
    let lost = |why: &dyn std::fmt::Display| {
        format!("a stanza to {domain} does not come back: {why}; the server does not route to it")
    };
    connection.send_blocking(&message, PATIENCE).map_err(|error| lost(&error))?;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(lost(&"no answer in time"));
        }
        let events = connection.next_events_blocking(16, left).map_err(|error| lost(&error))?;
        for event in events.unwrap_or_default() {
            if let appxmpp::net::Event::Stanza(stanza) = event
                && stanza.id() == Some("doctor")
            {
                return Ok(format!("a stanza to {domain} comes back through the server"));
            }
        }
    }
}

fn webhook(key: &str, url: &str, trust: &Trust) -> Finding {
    let plain: String = url.split('{').next().unwrap_or(url).to_owned();
    let uri: http::Uri = plain.parse().map_err(|_| format!("{key} {url} is no URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let addresses = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("{key}: the name {host} has no address: {error}"))?;
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) if !is_secure => return Ok(format!("{key} {url} accepts connections")),
            Ok(mut stream) => {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let proved = trust.try_connect(&host, &mut stream);
                return proved
                    .map(|()| {
                        format!("{key} {url} accepts connections, and its certificate is good")
                    })
                    .map_err(|why| format!("{key} {url}: {why}"));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("{key} {url} does not accept connections ({last}); start the web app"))
}
