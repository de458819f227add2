//! A server for development and tests, in the same process: one component, simulated users, no
//! network beyond loopback.
//!
//! It does for its users what an XMPP server does: routes, keeps subscriptions (RFC 6121 §3), answers
//! probes, bounces. It stores nothing and is not for production.

mod session;
#[cfg(test)]
mod tests;
mod world;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::backend::{Backend, Endpoint, component_domain};
use super::config::Bounds;
use super::inbound::{Inbound, Weight};
use super::runtime::{self, Owned};
use super::wait::block_on;
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::Stanza;

use world::World;
pub use world::{Presence, SubscriptionKind};

/// What a [`DevServer`] needs to know.
#[derive(Debug, Clone)]
pub struct DevConfig {
    /// The component's domain.
    pub domain: String,
    /// The secret it must know.
    pub secret: Secret,
    /// The loopback port to listen on; 0 for any that is free.
    pub port: u16,
}

impl DevConfig {
    /// Any free port, and a secret that was made up.
    pub fn new(domain: impl Into<String>) -> Self {
        let secret = format!("{:x}{:x}", super::stats::random(), super::stats::random());
        Self { domain: domain.into(), secret: Secret::new(secret), port: 0 }
    }
}

/// What the users see.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
pub enum DevEvent {
    /// The component connected.
    Connected,
    /// The component is gone.
    Disconnected,
    /// A user got this from the component. Presence is shown as it came; a request for subscription
    /// awaits [`DevServer::subscription`] with `Subscribed` or `Unsubscribed`, unless the user
    /// accepts everything.
    Stanza {
        /// The user's bare address.
        user: String,
        /// The stanza.
        stanza: Stanza,
    },
}

impl Weight for DevEvent {
    fn byte_len(&self) -> usize {
        match self {
            Self::Stanza { stanza, .. } => stanza.raw().len(),
            _ => 0,
        }
    }
}

struct State {
    world: World,
    /// Stanzas for the component.
    out: VecDeque<String>,
    connected: bool,
}

struct Inner {
    config: DevConfig,
    address: SocketAddr,
    state: Mutex<State>,
    events: Inbound<DevEvent>,
    /// Wakes the session: there is something for the component, or room for events.
    wake: Notify,
    /// Wakes everything: the server stops.
    stop: tokio::sync::watch::Sender<bool>,
}

/// The handle of a development server. Cloning it gives another handle; dropping the last one stops
/// the server.
#[derive(Clone)]
pub struct DevServer(Owned<Handle>);

struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop.send_replace(true);
    }
}

impl DevServer {
    /// Listens on a loopback port, on the [background runtime](runtime) of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `domain` is no domain or the port is taken,
    /// [`ErrorKind::Internal`] if the runtime cannot be started.
    pub fn start(config: DevConfig) -> Result<Self> {
        Self::start_on(&runtime::handle()?, config)
    }

    /// Listens on a loopback port, on a tokio runtime of the caller's.
    ///
    /// # Errors
    /// As [`DevServer::start`].
    pub fn start_on(runtime: &tokio::runtime::Handle, mut config: DevConfig) -> Result<Self> {
        config.domain = component_domain(&config.domain)?;
        let listener = listen(config.port)?;
        let address = listener.local_addr().map_err(|error| no_port(config.port, error))?;
        let inner = Arc::new(Inner {
            address,
            state: Mutex::new(State {
                world: World::new(config.domain.clone()),
                out: VecDeque::new(),
                connected: false,
            }),
            config,
            events: Inbound::new(Bounds { stanzas: 100_000, bytes: 64 * 1024 * 1024 }),
            wake: Notify::new(),
            stop: tokio::sync::watch::Sender::new(false),
        });
        let _context = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| no_port(inner.config.port, error))?;
        runtime.spawn(session::serve(Arc::clone(&inner), listener));
        Ok(Self(Owned::new(Arc::new(Handle(inner)))))
    }

    fn inner(&self) -> Result<&Arc<Inner>> {
        Ok(&self.0.get()?.0)
    }

    /// Where and as whom the component connects.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] in a process that was forked after the server was started; this goes
    /// for all methods.
    pub fn backend(&self) -> Result<Backend> {
        let inner = self.inner()?;
        Ok(Backend::Component {
            domain: inner.config.domain.clone(),
            secret: Some(inner.config.secret.clone()),
            endpoint: Endpoint::Tcp {
                host: inner.address.ip().to_string(),
                port: inner.address.port(),
            },
            tls: None,
        })
    }

    /// The port it listens on.
    ///
    /// # Errors
    /// As [`DevServer::backend`].
    pub fn port(&self) -> Result<u16> {
        Ok(self.inner()?.address.port())
    }

    /// Adds a user, available with no show; `jid` has a resourcepart or gets one. `accepts` says
    /// whether the user accepts every request for subscription at once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `jid` is not the address of an account.
    pub fn add_user(&self, jid: &str, accepts: bool) -> Result<()> {
        self.act(|world| world.add_user(jid, accepts).map(|()| Vec::new()))
    }

    /// The full address of a user that was added; `None` if there is none at this one.
    ///
    /// # Errors
    /// As [`DevServer::backend`].
    pub fn user(&self, jid: &str) -> Result<Option<String>> {
        Ok(self.inner()?.state().world.full(jid))
    }

    /// A user sends a message; `to` is an address of the component's. An empty type is none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] for an unknown user or a recipient that is no address,
    /// [`ErrorKind::InvalidXml`] for a text that XML cannot carry, [`ErrorKind::NotConnected`] while
    /// the component is not connected. This goes for the other actions too.
    pub fn send_message(&self, user: &str, to: &str, body: &str, type_: &str) -> Result<()> {
        self.act(|world| world.message(user, to, body, type_))
    }

    /// A user's client writes a stanza as it is, in the component's namespace. The server puts the
    /// user's address into `from`.
    ///
    /// # Errors
    /// As [`DevServer::send_message`]; [`ErrorKind::InvalidXml`] if it is not one stanza.
    pub fn send_raw(&self, user: &str, xml: &str) -> Result<()> {
        self.act(|world| world.raw(user, xml))
    }

    /// A user changes presence; whoever is subscribed hears of it.
    ///
    /// # Errors
    /// As [`DevServer::send_message`], but it may be done while the component is not connected.
    pub fn set_presence(&self, user: &str, presence: Presence) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.state();
        let stanzas = state.world.set_presence(user, presence)?;
        if state.connected {
            state.out.extend(stanzas);
            inner.wake.notify_one();
        }
        Ok(())
    }

    /// A user's client sends presence to one address of the component, subscribed or not.
    ///
    /// # Errors
    /// As [`DevServer::send_message`].
    pub fn send_presence(&self, user: &str, to: &str, presence: Presence) -> Result<()> {
        self.act(|world| world.directed(user, to, &presence))
    }

    /// A user's server asks for the presence of an address of the component.
    ///
    /// # Errors
    /// As [`DevServer::send_message`].
    pub fn probe(&self, user: &str, to: &str) -> Result<()> {
        self.act(|world| world.probe(user, to))
    }

    /// A user asks for a subscription, accepts or refuses one, or cancels one.
    ///
    /// # Errors
    /// As [`DevServer::send_message`].
    pub fn subscription(&self, user: &str, to: &str, kind: SubscriptionKind) -> Result<()> {
        self.act(|world| world.subscription(user, to, kind))
    }

    /// Whether the component is connected.
    pub fn is_connected(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.state().connected)
    }

    /// Takes up to `max` events, as soon as there is one; none at all when the server has stopped.
    ///
    /// # Errors
    /// As [`DevServer::backend`].
    pub async fn next_events(&self, max: usize) -> Result<Vec<DevEvent>> {
        let inner = self.inner()?;
        let (events, room) = inner.events.take(max).await;
        if room {
            inner.wake.notify_one();
        }
        Ok(events)
    }

    /// [`DevServer::next_events`] on this thread; `None` if `timeout` passes without an event.
    ///
    /// # Errors
    /// As [`DevServer::backend`].
    pub fn next_events_blocking(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Option<Vec<DevEvent>>> {
        block_on(self.next_events(max), Some(timeout)).transpose()
    }

    /// Stops the server for all handles; the component's stream ends with `system-shutdown`.
    pub fn stop(&self) {
        if let Ok(inner) = self.inner() {
            inner.stop.send_replace(true);
        }
    }

    fn act(&self, action: impl FnOnce(&mut World) -> Result<Vec<String>>) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.state();
        let stanzas = action(&mut state.world)?;
        if stanzas.is_empty() {
            return Ok(());
        }
        if !state.connected {
            return Err(Error::new(
                ErrorKind::NotConnected,
                format!("{} is not connected, so nobody gets this", inner.config.domain),
            ));
        }
        state.out.extend(stanzas);
        inner.wake.notify_one();
        Ok(())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(port: u16) -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| no_port(port, error))?;
    listener.set_nonblocking(true).map_err(|error| no_port(port, error))?;
    Ok(listener)
}

fn no_port(port: u16, error: std::io::Error) -> Error {
    let text =
        format!("cannot listen on 127.0.0.1:{port}: {error}; take another port, or 0 for any");
    Error::new(ErrorKind::Config, text).with_source(error)
}
