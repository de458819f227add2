//! This side of a component's stream (XEP-0114).

use std::time::Duration;

use super::error::{Closed, StreamError};
use super::outgoing::check_sender;
use super::probe::{Barrier, Due, Keepalive, Prober, Question};
use super::wire::{Header, Incoming, Wire};
use crate::auth::{Secret, handshake};
use crate::error::{Error, ErrorKind, Result};
use crate::jid::WireJid;
use crate::ns;
use crate::stanza::{Stanza, StanzaKind};
use crate::xml::{Element, Limits, StreamHeader, XmlError};

/// A type of iq that there is none of.
const NO_TYPE: &str = "ask";

/// What a component's stream needs to know.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// The component's domain.
    pub domain: String,
    /// The secret it shares with the server.
    pub secret: Secret,
    /// What one stanza may hold.
    pub limits: Limits,
    /// How long the server may take for its header and its answer to the handshake, together.
    pub login_timeout: Duration,
    /// What keeps a silent stream alive; `None` for nothing.
    pub keepalive: Option<Keepalive>,
    /// How soon the server is asked what it has read; `None` for never. Without it there is no
    /// [`Event::Acked`].
    pub barrier: Option<Barrier>,
    /// Whether the server may have other connections of the same component. What the server routes to
    /// the component then comes on any of them, also the answer to a ping; instead of one, an iq of a
    /// type that there is none of is written, which the server refuses on the connection where it got
    /// it (RFC 6120 §8.2.3; ejabberd does), or sends back where there is no other (Prosody does).
    pub one_of_several: bool,
    /// How the ids of this stream's own pings begin. Nobody else should be able to guess it.
    pub id_prefix: String,
}

impl ComponentConfig {
    /// The usual settings: 15 s for the log-in, an iq ping to the own domain after 60 s of silence
    /// with 20 s for its answer, no barrier.
    pub fn new(domain: impl Into<String>, secret: Secret, id_prefix: impl Into<String>) -> Self {
        let domain = domain.into();
        let keepalive = Keepalive {
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(20),
            question: Question::Ping(domain.clone()),
        };
        Self {
            domain,
            secret,
            limits: Limits::default(),
            login_timeout: Duration::from_secs(15),
            keepalive: Some(keepalive),
            barrier: None,
            one_of_several: false,
            id_prefix: id_prefix.into(),
        }
    }
}

/// What happened on a stream.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The server accepted the handshake: stanzas may be sent.
    Ready,
    /// A stanza for the component.
    Stanza(Stanza),
    /// A stanza was unacceptable and was left out; the stream goes on.
    Skipped(XmlError),
    /// The server has read every stanza up to this position (see [`ComponentStream::send`]).
    Acked(u64),
    /// The stream has ended; it is the last event. What is left to transmit should be, then the
    /// connection can be dropped.
    Closed(Closed),
}

/// How much went wrong quietly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Stanzas left out because they were unacceptable.
    pub skipped: u64,
    /// Elements left out because they are not stanzas.
    pub ignored: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Our header is out, the server's is awaited.
    Header {
        deadline: Duration,
    },
    /// The handshake is out.
    Handshake {
        deadline: Duration,
    },
    Ready,
    /// Our half is closed, the server's end is awaited.
    Closing {
        deadline: Duration,
    },
    Closed,
}

/// The state machine of a component's stream; see the [module](super) for how to drive it.
pub struct ComponentStream {
    domain: String,
    address: WireJid,
    asked: Option<WireJid>,
    secret: Secret,
    id_prefix: String,
    /// What type of iq a ping is.
    ping_type: &'static str,
    wire: Wire,
    state: State,
    prober: Prober,
    pending: Option<Event>,
    /// Input may be waiting for `poll_event`: the server is not silent, we are.
    backlog: bool,
    now: Duration,
    stats: Stats,
}

impl ComponentStream {
    /// A stream on a connection that was made at `now`. Our header is there to be transmitted.
    pub fn new(config: ComponentConfig, now: Duration) -> Self {
        let mut wire = Wire::new(config.limits);
        wire.open(&Header { default_ns: ns::COMPONENT, attributes: &[("to", &config.domain)] });
        let asked = match config.keepalive.as_ref().map(|keepalive| &keepalive.question) {
            Some(Question::Ping(address)) => Some(WireJid::new(address.clone())),
            Some(Question::Whitespace) | None => None,
        };
        Self {
            address: WireJid::new(config.domain.clone()),
            asked: asked.or_else(|| config.barrier.map(|_| WireJid::new(config.domain.clone()))),
            domain: config.domain,
            secret: config.secret,
            id_prefix: config.id_prefix,
            ping_type: if config.one_of_several { NO_TYPE } else { "get" },
            wire,
            state: State::Header { deadline: now + config.login_timeout },
            prober: Prober::new(now, config.keepalive, config.barrier),
            pending: None,
            backlog: false,
            now,
            stats: Stats::default(),
        }
    }

    /// Takes what was received; no bytes mean that the connection is at its end.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        self.now = now;
        if bytes.is_empty() {
            let reason = match self.state {
                State::Closing { .. } => Closed::ByUs,
                _ => Closed::Lost,
            };
            return self.end(reason);
        }
        if self.state != State::Closed {
            self.backlog = true;
            self.prober.heard(now);
            self.wire.push(bytes);
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        match self.state {
            State::Header { deadline } if deadline <= now => self.silence("its stream header"),
            State::Handshake { deadline } if deadline <= now => self.silence("the handshake"),
            State::Closing { deadline } if deadline <= now => self.end(Closed::ByUs),
            State::Ready => self.probe(now),
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Header { deadline }
            | State::Handshake { deadline }
            | State::Closing { deadline } => Some(deadline),
            State::Ready => self.prober.poll_timeout(),
            State::Closed => None,
        }
    }

    /// Sends one stanza, well-formed in the namespace `jabber:component:accept`; returns its
    /// position on this stream, counted from 1.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] unless the stream is ready, and [`ErrorKind::InvalidSender`] if
    /// `from` is missing or foreign.
    pub fn send(&mut self, now: Duration, stanza: &[u8]) -> Result<u64> {
        self.check(stanza)?;
        Ok(self.send_checked(now, stanza))
    }

    /// Sends one stanza that has passed [`ComponentStream::check`] since the last input.
    pub(crate) fn send_checked(&mut self, now: Duration, stanza: &[u8]) -> u64 {
        self.wire.write(stanza);
        self.prober.sent(now)
    }

    /// Whether [`ComponentStream::send`] would take the stanza.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, stanza: &[u8]) -> Result<()> {
        if self.state != State::Ready {
            return Err(not_ready());
        }
        check_sender(stanza, &self.domain)
    }

    /// Closes the stream: the server is told, and has until `deadline` to close its half.
    pub fn close(&mut self, now: Duration, deadline: Duration) {
        self.now = now;
        match self.state {
            State::Ready => {
                self.wire.close();
                self.state = State::Closing { deadline };
            }
            State::Header { .. } | State::Handshake { .. } => self.end(Closed::ByUs),
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// Moves what is to be transmitted to the end of `buffer`; says whether there was anything.
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.wire.poll_transmit(buffer)
    }

    /// What happened next. Stanzas are parsed here, one with each call.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.take() {
                return Some(event);
            }
            if self.state == State::Closed || !self.backlog {
                return None;
            }
            match self.wire.next() {
                Ok(None) => self.backlog = false,
                Ok(Some(incoming)) => self.pending = self.incoming(incoming),
                Err(error) => self.violation(error),
            }
        }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something.
    pub fn has_backlog(&self) -> bool {
        self.pending.is_some() || self.backlog
    }

    /// Whether the server has not accepted the handshake yet. Until then there is no event but
    /// [`Event::Ready`] or [`Event::Closed`], and none of what the log-in takes is done unless
    /// [`poll_event`](Self::poll_event) is called.
    pub fn is_logging_in(&self) -> bool {
        matches!(self.state, State::Header { .. } | State::Handshake { .. })
    }

    /// Whether stanzas may be sent.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// How much was left out so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn incoming(&mut self, incoming: Incoming) -> Option<Event> {
        match incoming {
            Incoming::Header(header) => self.header(&header),
            Incoming::Stanza(stanza) => return self.stanza(stanza),
            Incoming::Other(element) => return self.other(&element),
            Incoming::Error(error) => self.end(Closed::PeerError(error)),
            Incoming::Skipped(error) => {
                self.stats.skipped += 1;
                return (!self.is_logging_in()).then_some(Event::Skipped(error));
            }
            Incoming::Closed => self.end(match self.state {
                State::Closing { .. } => Closed::ByUs,
                _ => Closed::ByPeer,
            }),
        }
        self.pending.take()
    }

    fn header(&mut self, header: &StreamHeader) {
        let State::Header { deadline } = self.state else { return };
        if header.default_ns() != ns::COMPONENT {
            let text = format!("stanzas are in {:?}, not {:?}", header.default_ns(), ns::COMPONENT);
            return self.violation(StreamError::new("invalid-namespace").with_text(text));
        }
        let Some(id) = &header.id else {
            let text = "the stream header has no id to compute the handshake from";
            return self.violation(StreamError::new("bad-format").with_text(text));
        };
        let digest = handshake::digest(id, &self.secret);
        self.wire.write(format!("<handshake>{digest}</handshake>").as_bytes());
        self.state = State::Handshake { deadline };
    }

    fn other(&mut self, element: &Element) -> Option<Event> {
        let awaited = matches!(self.state, State::Handshake { .. });
        if awaited && element.is("handshake", ns::COMPONENT) {
            self.state = State::Ready;
            return Some(Event::Ready);
        }
        self.stats.ignored += 1;
        None
    }

    fn stanza(&mut self, stanza: Stanza) -> Option<Event> {
        match self.state {
            State::Ready | State::Closing { .. } => {}
            _ => {
                self.stats.ignored += 1;
                return None;
            }
        }
        match self.ping_answered(&stanza) {
            Some(serial) => self.prober.answered(serial).map(Event::Acked),
            None => Some(Event::Stanza(stanza)),
        }
    }

    /// The serial number of the ping of ours that `stanza` answers. A ping to the own domain comes
    /// back as it went out, because the server routes it to where the domain is: to us.
    fn ping_answered(&self, stanza: &Stanza) -> Option<u64> {
        if stanza.kind() != StanzaKind::Iq {
            return None;
        }
        let serial = stanza.id()?.strip_prefix(&self.id_prefix)?.parse().ok()?;
        let (asked, from) = (self.asked.as_ref()?, stanza.from()?);
        let expected = match stanza.type_() {
            Some("result" | "error") => asked,
            Some("get" | NO_TYPE) => &self.address,
            _ => return None,
        };
        (from == expected).then_some(serial)
    }

    fn probe(&mut self, now: Duration) {
        if self.backlog {
            self.prober.unread(now);
        }
        match self.prober.handle_timeout(now) {
            Due::Nothing => {}
            Due::Ping => self.ping(now),
            Due::Whitespace => self.wire.write(b" "),
            Due::Dead => self.silence("a ping"),
        }
    }

    fn ping(&mut self, now: Duration) {
        let to = self.asked.as_ref().unwrap_or(&self.address);
        let iq = format!(
            "<iq type='{}' id='{}{}' from='{}' to='{to}'><ping xmlns='{}'/></iq>",
            self.ping_type,
            self.id_prefix,
            self.prober.ask(now),
            self.domain,
            ns::PING,
        );
        self.wire.write(iq.as_bytes());
    }

    fn silence(&mut self, awaited: &'static str) {
        self.end(Closed::Silence(awaited));
    }

    fn violation(&mut self, error: StreamError) {
        self.wire.fail(&error);
        self.end(Closed::Violation(error));
    }

    fn end(&mut self, reason: Closed) {
        if self.state != State::Closed {
            self.wire.close();
            self.state = State::Closed;
            self.pending = Some(Event::Closed(reason));
        }
    }
}

fn not_ready() -> Error {
    Error::new(
        ErrorKind::NotConnected,
        "the stream to the server is not up, so nothing can be sent; try again when it is",
    )
}
