//! The embedded development server.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use appxmpp::net::dev::{self, DevConfig, Presence, SubscriptionKind};
use appxmpp::net::{Secret, runtime};
use appxmpp::stanza::Stanza;
use appxmpp::{Error, ErrorKind};
use appxmpp_gateway::console;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{guarded, raised};
use crate::wait::{seconds, wait};

/// An XMPP server for development, with simulated people; see `_native.pyi`.
#[pyclass(frozen, module = "appxmpp._native")]
pub(crate) struct DevServer {
    server: dev::DevServer,
    domain: String,
    port: u16,
    console: Mutex<Option<console::Running>>,
}

#[pymethods]
impl DevServer {
    #[new]
    #[pyo3(signature = (domain, *, secret, port=0))]
    fn new(py: Python<'_>, domain: String, secret: String, port: u16) -> PyResult<Self> {
        guarded(|| {
            let config = DevConfig { domain: domain.clone(), secret: Secret::new(secret), port };
            py.detach(|| {
                let server = dev::DevServer::start(config)?;
                let port = server.port()?;
                Ok(Self { server, domain, port, console: Mutex::default() })
            })
            .map_err(|error: Error| raised(&error))
        })
    }

    #[getter]
    fn backend(&self) -> String {
        format!("component://{}@127.0.0.1:{}", self.domain, self.port)
    }

    #[getter]
    fn is_connected(&self) -> bool {
        self.server.is_connected()
    }

    fn add_user(&self, jid: &str, accepts: bool) -> PyResult<()> {
        done(|| self.server.add_user(jid, accepts))
    }

    #[pyo3(signature = (user, to, body, r#type="chat"))]
    fn message(&self, user: &str, to: &str, body: &str, r#type: &str) -> PyResult<()> {
        done(|| self.server.send_message(user, to, body, r#type))
    }

    fn raw(&self, user: &str, xml: &str) -> PyResult<()> {
        done(|| self.server.send_raw(user, xml))
    }

    #[pyo3(signature = (user, available, show="", status="", *, to=None))]
    fn presence(
        &self,
        user: &str,
        available: bool,
        show: &str,
        status: &str,
        to: Option<&str>,
    ) -> PyResult<()> {
        let presence = Presence { available, show: show.to_owned(), status: status.to_owned() };
        done(|| match to {
            Some(to) => self.server.send_presence(user, to, presence),
            None => self.server.set_presence(user, presence),
        })
    }

    fn probe(&self, user: &str, to: &str) -> PyResult<()> {
        done(|| self.server.probe(user, to))
    }

    fn subscription(&self, user: &str, to: &str, kind: &str) -> PyResult<()> {
        let kind = match kind {
            "subscribe" => SubscriptionKind::Subscribe,
            "subscribed" => SubscriptionKind::Subscribed,
            "unsubscribe" => SubscriptionKind::Unsubscribe,
            "unsubscribed" => SubscriptionKind::Unsubscribed,
            _ => {
                let text =
                    format!("{kind:?} is none of subscribe, subscribed, unsubscribe, unsubscribed");
                return Err(PyValueError::new_err(text));
            }
        };
        done(|| self.server.subscription(user, to, kind))
    }

    fn next_events(&self, py: Python<'_>, max: usize, timeout: f64) -> PyResult<Vec<DevEvent>> {
        guarded(|| {
            let timeout = seconds(timeout)?;
            let events = wait(py, self.server.next_events(max), timeout)?;
            let events =
                events.unwrap_or_else(|| Ok(Vec::new())).map_err(|error| raised(&error))?;
            Ok(events.into_iter().map(DevEvent::new).collect())
        })
    }

    fn console(&self, py: Python<'_>, listen: &str, bot: String) -> PyResult<String> {
        guarded(|| {
            let listen = loopback(listen).map_err(|error| raised(&error))?;
            let stage =
                console::Stage { domain: self.domain.clone(), bot, server: self.server.clone() };
            let started =
                py.detach(|| runtime::handle()?.block_on(console::start(listen, vec![stage])));
            let running = started.map_err(|error| raised(&error))?;
            let url = running.url.clone();
            *self.console.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
            Ok(url)
        })
    }

    fn stop(&self) {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.server.stop();
    }
}

fn loopback(listen: &str) -> appxmpp::Result<SocketAddr> {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => {
            let text = format!(
                "the console listens on this machine alone, at 127.0.0.1:PORT, not at {listen:?}"
            );
            Err(Error::new(ErrorKind::Config, text))
        }
    }
}

fn done(action: impl FnOnce() -> appxmpp::Result<()>) -> PyResult<()> {
    guarded(|| action().map_err(|error| raised(&error)))
}

/// What a simulated person sees; see `_native.pyi`.
#[pyclass(frozen, module = "appxmpp._native")]
pub(crate) struct DevEvent {
    kind: &'static str,
    user: String,
    stanza: Option<Stanza>,
}

impl DevEvent {
    fn new(event: dev::DevEvent) -> Self {
        match event {
            dev::DevEvent::Connected => Self::bare("connected"),
            dev::DevEvent::Disconnected => Self::bare("disconnected"),
            dev::DevEvent::Stanza { user, stanza } => {
                Self { kind: "stanza", user, stanza: Some(stanza) }
            }
            _ => Self::bare("other"),
        }
    }

    fn bare(kind: &'static str) -> Self {
        Self { kind, user: String::new(), stanza: None }
    }

    fn child(&self, name: &str) -> Option<String> {
        self.stanza.as_ref().and_then(|stanza| stanza.child_text(name))
    }
}

#[pymethods]
impl DevEvent {
    #[getter]
    fn kind(&self) -> &str {
        self.stanza.as_ref().map_or(self.kind, Stanza::name)
    }

    #[getter]
    fn user(&self) -> &str {
        &self.user
    }

    #[getter]
    fn sender(&self) -> &str {
        self.stanza.as_ref().and_then(Stanza::from).map_or("", |jid| jid.as_str())
    }

    #[getter]
    fn to(&self) -> &str {
        self.stanza.as_ref().and_then(Stanza::to).map_or("", |jid| jid.as_str())
    }

    #[getter]
    fn r#type(&self) -> &str {
        self.stanza.as_ref().and_then(Stanza::type_).unwrap_or("")
    }

    #[getter]
    fn body(&self) -> Option<String> {
        self.child("body")
    }

    #[getter]
    fn show(&self) -> Option<String> {
        self.child("show")
    }

    #[getter]
    fn status(&self) -> Option<String> {
        self.child("status")
    }

    #[getter]
    fn raw(&self) -> String {
        let bytes = self.stanza.as_ref().map(|stanza| stanza.raw().to_vec()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}
