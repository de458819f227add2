//! The server's side of a component's stream: for a development server, and as the peer in tests.

use std::time::Duration;

use super::component::Stats;
use super::error::{Closed, StreamError};
use super::wire::{Header, Incoming, Wire};
use crate::auth::{Secret, handshake};
use crate::error::{Error, ErrorKind, Result};
use crate::ns;
use crate::stanza::Stanza;
use crate::xml::{Element, Limits, StreamHeader, XmlError};

/// What the server's side of a component's stream needs to know.
#[derive(Debug, Clone)]
pub struct AcceptConfig {
    /// The stream's id. Each stream has its own, and nobody can guess it.
    pub id: String,
    /// The components that may connect: domain and secret.
    pub components: Vec<(String, Secret)>,
    /// What one stanza may hold.
    pub limits: Limits,
    /// How long the component may take to log in.
    pub login_timeout: Duration,
}

/// What happened on a component's stream, seen from the server.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptEvent {
    /// The component with this domain proved that it knows the secret, and awaits
    /// [`AcceptStream::accept`] or [`AcceptStream::close`].
    Authenticated(String),
    /// A stanza from the component.
    Stanza(Stanza),
    /// A stanza was unacceptable and was left out; the stream goes on.
    Skipped(XmlError),
    /// The stream has ended; it is the last event.
    Closed(Closed),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Header { deadline: Duration },
    Handshake { deadline: Duration, component: usize },
    Authenticated { domain: String },
    Ready,
    Closing { deadline: Duration },
    Closed,
}

/// The server's end of a component's stream, driven like a
/// [`ComponentStream`](super::ComponentStream).
pub struct AcceptStream {
    config: AcceptConfig,
    wire: Wire,
    state: State,
    pending: Option<AcceptEvent>,
    stats: Stats,
}

impl AcceptStream {
    /// A stream on a connection that was accepted at `now`.
    pub fn new(config: AcceptConfig, now: Duration) -> Self {
        let wire = Wire::new(config.limits);
        let state = State::Header { deadline: now + config.login_timeout };
        Self { config, wire, state, pending: None, stats: Stats::default() }
    }

    /// Takes what was received; no bytes mean that the connection is at its end.
    pub fn handle_input(&mut self, _now: Duration, bytes: &[u8]) {
        if bytes.is_empty() {
            return self.end(match self.state {
                State::Closing { .. } => Closed::ByUs,
                _ => Closed::Lost,
            });
        }
        if self.state != State::Closed {
            self.wire.push(bytes);
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        match self.state {
            State::Header { deadline } | State::Handshake { deadline, .. } if deadline <= now => {
                self.fail(StreamError::new("connection-timeout"));
            }
            State::Closing { deadline } if deadline <= now => self.end(Closed::ByUs),
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Header { deadline }
            | State::Handshake { deadline, .. }
            | State::Closing { deadline } => Some(deadline),
            _ => None,
        }
    }

    /// Accepts the component after [`AcceptEvent::Authenticated`].
    pub fn accept(&mut self) {
        if let State::Authenticated { .. } = self.state {
            self.wire.write(b"<handshake/>");
            self.state = State::Ready;
        }
    }

    /// Sends one stanza, well-formed in the namespace `jabber:component:accept`.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] unless the component was accepted.
    pub fn send(&mut self, stanza: &[u8]) -> Result<()> {
        if self.state != State::Ready {
            return Err(Error::new(ErrorKind::NotConnected, "no component is connected"));
        }
        self.wire.write(stanza);
        Ok(())
    }

    /// Closes the stream, with an error or politely; the component has until `deadline` to close
    /// its half.
    pub fn close(&mut self, deadline: Duration, error: Option<StreamError>) {
        if matches!(self.state, State::Closing { .. } | State::Closed) {
            return;
        }
        match error {
            Some(error) => {
                self.open(None);
                self.wire.fail(&error);
            }
            None => self.wire.close(),
        }
        self.state = State::Closing { deadline };
    }

    /// Moves what is to be transmitted to the end of `buffer`; says whether there was anything.
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.wire.poll_transmit(buffer)
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<AcceptEvent> {
        loop {
            if let Some(event) = self.pending.take() {
                return Some(event);
            }
            if matches!(self.state, State::Closed | State::Authenticated { .. }) {
                return None;
            }
            match self.wire.next() {
                Ok(None) => return None,
                Ok(Some(incoming)) => self.incoming(incoming),
                Err(error) => self.fail(error),
            }
        }
    }

    /// How much was left out so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Header(header) => self.header(&header),
            Incoming::Other(element) => self.other(&element),
            Incoming::Stanza(stanza) if self.state == State::Ready => {
                self.pending = Some(AcceptEvent::Stanza(stanza));
            }
            Incoming::Stanza(_) if matches!(self.state, State::Closing { .. }) => {}
            Incoming::Stanza(_) => self.fail(StreamError::new("not-authorized")),
            Incoming::Error(error) => self.end(Closed::PeerError(error)),
            Incoming::Skipped(error) => {
                self.stats.skipped += 1;
                self.pending = Some(AcceptEvent::Skipped(error));
            }
            Incoming::Closed => self.end(match self.state {
                State::Closing { .. } => Closed::ByUs,
                _ => Closed::ByPeer,
            }),
        }
    }

    fn header(&mut self, header: &StreamHeader) {
        let State::Header { deadline } = self.state else { return };
        let to = header.to.as_deref();
        self.open(to);
        if header.default_ns() != ns::COMPONENT {
            return self.fail(StreamError::new("invalid-namespace"));
        }
        let components = &self.config.components;
        match components.iter().position(|(domain, _)| Some(domain.as_str()) == to) {
            Some(component) => self.state = State::Handshake { deadline, component },
            None => self.fail(
                StreamError::new("host-unknown")
                    .with_text(format!("no component {:?} is configured", to.unwrap_or_default())),
            ),
        }
    }

    fn other(&mut self, element: &Element) {
        let State::Handshake { component, .. } = self.state else {
            self.stats.ignored += 1;
            return;
        };
        let (domain, secret) = &self.config.components[component];
        let given = element.is("handshake", ns::COMPONENT).then(|| element.text());
        if given.is_some_and(|given| handshake::verify(&self.config.id, secret, &given)) {
            let domain = domain.clone();
            self.pending = Some(AcceptEvent::Authenticated(domain.clone()));
            self.state = State::Authenticated { domain };
        } else {
            let text = "the handshake is not that of the secret";
            self.fail(StreamError::new("not-authorized").with_text(text));
        }
    }

    /// Writes this side's header unless it is out already.
    fn open(&mut self, domain: Option<&str>) {
        if self.wire.was_opened() {
            return;
        }
        let mut attributes = vec![("id", self.config.id.as_str())];
        attributes.extend(domain.map(|domain| ("from", domain)));
        self.wire.open(&Header { default_ns: ns::COMPONENT, attributes: &attributes });
    }

    fn fail(&mut self, error: StreamError) {
        self.open(None);
        self.wire.fail(&error);
        self.end(Closed::Violation(error));
    }

    fn end(&mut self, reason: Closed) {
        if self.state != State::Closed {
            self.wire.close();
            self.state = State::Closed;
            self.pending = Some(AcceptEvent::Closed(reason));
        }
    }
}
