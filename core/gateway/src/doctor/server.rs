//! The XMPP server: its name, its port, the log-in, and a stanza that comes back through it.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use appxmpp::net::{Backend, Connection, ConnectionConfig, Endpoint, Event, Secret, endpoints};
use appxmpp::xml::Element;
use appxmpp::{ErrorKind, Result, ns};

use super::{Finding, PATIENCE, Report, connect, resolve};
use crate::config::App;
use crate::id;

/// Looks where the server is and whether it can be reached; whether a log-in is worth a try.
pub(super) fn examine(app: &App, report: &mut Report) -> bool {
    let places = match places(app, report) {
        Ok(places) => places,
        Err(error) => {
            report.say(&Err(error.to_string()));
            return false;
        }
    };
    let mut wrong = Vec::new();
    for place in places {
        match reach(&place, app, report) {
            Some(Ok(text)) => {
                report.say(&Ok(text));
                return true;
            }
            finding => wrong.extend(finding),
        }
    }
    wrong.iter().for_each(|finding| report.say(finding));
    false
}

fn wire(app: &App) -> Result<(Backend, ConnectionConfig)> {
    let backend = Backend::parse(&app.backend)?;
    let wire = ConnectionConfig::for_backend(&backend, Some(Secret::new(app.secret.expose())))?;
    Ok((backend, wire))
}

/// Where the server listens, in the order to try it.
fn places(app: &App, report: &mut Report) -> Result<Vec<Endpoint>> {
    let (backend, wire) = wire(app)?;
    if !matches!(backend, Backend::Client { srv: true, .. }) {
        return Ok(vec![wire.endpoint]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        appxmpp::Error::new(ErrorKind::Internal, format!("cannot ask the DNS: {error}"))
    })?;
    let found = runtime.block_on(endpoints(&wire));
    let list: Vec<_> = found.iter().map(ToString::to_string).collect();
    let (domain, list) = (&wire.domain, list.join(", "));
    if found == [wire.endpoint] {
        report.note(format!(
            "the DNS names no server for accounts of {domain} (SRV _xmpp-client._tcp.{domain}), so {list} \
             is tried; if that is wrong, name the server in backend: ?host=HOST"
        ));
    } else {
        report.say(&Ok(format!("the DNS names {list} for accounts of {domain}")));
    }
    Ok(found)
}

/// Whether a server accepts connections; nothing where its name has no address.
fn reach(endpoint: &Endpoint, app: &App, report: &mut Report) -> Option<Finding> {
    let accepts = || format!("{endpoint} accepts connections");
    Some(match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).map(|_| accepts()).map_err(|error| {
            format!("{endpoint}: {error}; start the XMPP server, or correct the path in backend")
        }),
        Endpoint::Tcp { host, port } => {
            let addresses = resolve("backend", host, *port, report)?;
            connect(&addresses).map(|_| accepts()).map_err(|why| {
                let listeners = match app.domain.contains('@') {
                    true => "clients",
                    false => {
                        "components there (Prosody: component_ports; ejabberd: a listener with module \
                         ejabberd_service)"
                    }
                };
                format!(
                    "{endpoint} does not accept connections ({why}); start the XMPP server, and let it \
                     listen for {listeners}"
                )
            })
        }
    })
}

/// Logs in, and asks oneself for an answer through the server.
pub(super) fn log_in(app: &App, report: &mut Report) {
    let domain = &app.domain;
    report.note(format!(
        "now logs in as {domain} and sends itself a message. If another process is connected as {domain}, \
         on this machine or elsewhere, what comes in this moment may come here and be lost to it"
    ));
    let connection = match wire(app).and_then(|(_, wire)| Connection::open(wire)) {
        Ok(connection) => connection,
        Err(error) => return report.say(&Err(error.to_string())),
    };
    match connection.wait_ready(PATIENCE) {
        Ok(true) => {
            report.say(&Ok(format!("the server accepts {domain}")));
            report.say(&match domain.split_once('@') {
                Some((_, server)) => ping(&connection, server),
                None => echo(&connection, domain),
            });
        }
        Ok(false) => report.say(&Err(format!(
            "the server did not accept {domain} in {PATIENCE:?}; its log says why. If another process is \
             connected as {domain}, stop it or ask it: most servers let only one in"
        ))),
        Err(error) => report.say(&Err(error.to_string())),
    }
    connection.close_blocking(Duration::from_secs(2));
}

/// Asks an account's server for an answer.
fn ping(connection: &Connection, server: &str) -> Finding {
    let iq = Element::new("iq", ns::CLIENT)
        .with_attr("type", "get")
        .with_attr("to", server)
        .with_child(Element::new("ping", ns::PING));
    match connection.request_blocking(iq, PATIENCE) {
        Ok(_) => Ok(format!("{server} answers")),
        Err(error) => Err(format!("{server} does not answer: {error}; the server's log says why")),
    }
}

fn echo(connection: &Connection, domain: &str) -> Finding {
    let id = id::stanza();
    let message =
        format!("<message to=\"{domain}\" from=\"{domain}\" id=\"{id}\" type=\"headline\"/>");
    let lost = |why: &dyn std::fmt::Display| {
        format!(
            "a stanza to {domain} does not come back: {why}; see in the server's configuration that nothing \
             else has this domain (a host, a module, another component)"
        )
    };
    connection.send_blocking(&message, PATIENCE).map_err(|error| lost(&error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(lost(&"no answer in time"));
        }
        let events = connection.next_events_blocking(16, left).map_err(|error| lost(&error))?;
        let is_own = |event: &Event| matches!(event, Event::Stanza(it) if it.id() == Some(&id));
        if events.unwrap_or_default().iter().any(is_own) {
            return Ok(format!("a stanza to {domain} comes back through the server"));
        }
    }
}
