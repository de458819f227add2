//! This side of an ordinary account's stream (RFC 6120, XEP-0198).

mod login;
mod resumption;
mod session;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::component::Stats;
use super::error::{Closed, StreamError};
use super::negotiation::{Features, RosterItem};
use super::outgoing::check_own;
use super::probe::{Barrier, Due, Keepalive, Prober, Question};
use super::sm::{Counters, Resumption};
use super::wire::{Incoming, Wire};
use crate::auth::Secret;
use crate::auth::sasl::{ChannelBindings, Exchange};
use crate::auth::scram::{Derivation, SaltedKey};
use crate::error::{Error, ErrorKind, Result};
use crate::jid::{Jid, WireJid};
use crate::ns;
use crate::stanza::{Stanza, StanzaBuilder};
use crate::xml::{Element, Limits, Scope, XmlError};

use login::read_failure;

/// How much may be sent that the server has not acknowledged.
const UNACKED_STANZAS: usize = 4096;
const UNACKED_BYTES: usize = 8 * 1024 * 1024;
/// How many stanzas may come between the binding of the resource and the session's beginning.
const EARLY_STANZAS: usize = 1024;

/// When the stream is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// By STARTTLS (RFC 6120 §5), which the server must offer.
    StartTls,
    /// From the first byte on (XEP-0368): the driver calls [`ClientStream::handle_tls`] before
    /// anything else.
    Direct,
    /// Never: only for a server on the same machine.
    None,
}

/// What an account's stream needs to know.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The account; a resourcepart is asked for, and the server decides.
    pub jid: Jid,
    /// Its password.
    pub password: Secret,
    /// When the stream is encrypted.
    pub encryption: Encryption,
    /// Whether the password itself may be sent (SASL PLAIN) to a server that has no SCRAM, on an
    /// encrypted stream.
    pub plain: bool,
    /// Whether stream management is used where the server offers it.
    pub stream_management: bool,
    /// Whether the server is told of a stanza only when [`ClientStream::confirm`] says that it is dealt
    /// with, rather than as soon as it is handed out.
    pub confirm: bool,
    /// What an earlier log-in had the password hashed to.
    pub salted: Option<SaltedKey>,
    /// What one stanza may hold.
    pub limits: Limits,
    /// How long the server may take until stanzas flow.
    pub login_timeout: Duration,
    /// What keeps a silent stream alive: with stream management a request for an acknowledgement,
    /// otherwise a ping to the server; the address of [`Question::Ping`] is not used.
    pub keepalive: Option<Keepalive>,
    /// How soon the server is asked what it has handled.
    pub barrier: Barrier,
    /// Whether it is asked, by pings, also without stream management.
    pub barrier_by_ping: bool,
    /// New, printable ASCII without a comma, for SCRAM. Nobody can guess it.
    pub nonce: String,
    /// How the ids of this stream's own iqs begin. Nobody else should be able to guess it.
    pub id_prefix: String,
}

impl ClientConfig {
    /// The usual settings: STARTTLS, no PLAIN, stream management with a question after 64 stanzas or
    /// one second, 15 s for the log-in, a question after 60 s of silence with 20 s for its answer.
    pub fn new(
        jid: Jid,
        password: Secret,
        nonce: impl Into<String>,
        id_prefix: impl Into<String>,
    ) -> Self {
        let keepalive = Keepalive {
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(20),
            question: Question::Ping(jid.domainpart().to_owned()),
        };
        Self {
            jid,
            password,
            encryption: Encryption::StartTls,
            plain: false,
            stream_management: true,
            confirm: false,
            salted: None,
            limits: Limits::default(),
            login_timeout: Duration::from_secs(15),
            keepalive: Some(keepalive),
            barrier: Barrier { stanzas: 64, within: Duration::from_secs(1) },
            barrier_by_ping: false,
            nonce: nonce.into(),
            id_prefix: id_prefix.into(),
        }
    }
}

/// What happened on an account's stream.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The connection is to be encrypted now, before anything else is read or written; then comes
    /// [`ClientStream::handle_tls`]. What was to be transmitted must be first.
    StartTls,
    /// The password is to be hashed, away from where connections are served; then comes
    /// [`ClientStream::handle_derived`].
    Derive(Derivation),
    /// Stanzas may be sent.
    Ready {
        /// The full address that the server gave.
        jid: Jid,
        /// Whether it is the session that was before: nothing was lost in between.
        resumed: bool,
    },
    /// The roster that the server keeps: all of it after a log-in, then what changes.
    Roster {
        /// The contacts.
        items: Vec<RosterItem>,
        /// Whether these are all.
        complete: bool,
    },
    /// A stanza for the account.
    Stanza(Stanza),
    /// A stanza was unacceptable and was left out; the stream goes on.
    Skipped(XmlError),
    /// The server has handled every stanza of the session up to this position.
    Acked(u64),
    /// The session could not be resumed, and the server did not acknowledge these stanzas of it: it
    /// may have read them or not.
    Unacked(Vec<Bytes>),
    /// The stream has ended; it is the last event. What is left to transmit should be, then the
    /// connection can be dropped.
    Closed(Closed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Features,
    Proceed,
    Tls,
    Sasl,
    Resume,
    Bind,
    Enable,
    Ready,
    Closing,
    Closed,
}

/// The state machine of an account's stream; see the [module](super) for how to drive it.
pub struct ClientStream {
    config: ClientConfig,
    bare: WireJid,
    jid: Jid,
    wire: Wire,
    state: State,
    /// For the log-in, or for the close.
    deadline: Duration,
    tls: Option<ChannelBindings>,
    authenticated: bool,
    exchange: Option<Exchange>,
    offers_sm: bool,
    resumption: Option<Resumption>,
    /// With stream management.
    counters: Option<Counters>,
    session_id: Option<String>,
    /// What came for the bound address before the session began.
    early: Vec<Stanza>,
    sent: u64,
    prober: Prober,
    asked: u64,
    pending: VecDeque<ClientEvent>,
    backlog: bool,
    now: Duration,
    stats: Stats,
}

impl ClientStream {
    /// A stream on a connection that was made at `now`; `resumption` is what an earlier one left.
    pub fn new(config: ClientConfig, resumption: Option<Resumption>, now: Duration) -> Self {
        let mut stream = Self {
            bare: WireJid::new(config.jid.bare()),
            jid: config.jid.clone(),
            wire: Wire::new(config.limits),
            state: State::Tls,
            deadline: now + config.login_timeout,
            tls: None,
            authenticated: false,
            exchange: None,
            offers_sm: false,
            resumption,
            counters: None,
            session_id: None,
            early: Vec::new(),
            sent: 0,
            prober: Prober::new(now, None, None),
            asked: 0,
            pending: VecDeque::new(),
            backlog: false,
            now,
            stats: Stats::default(),
            config,
        };
        if stream.config.encryption != Encryption::Direct {
            stream.open();
        }
        stream
    }

    /// The connection is encrypted, and the server's certificate was found to be good for the
    /// account's domain.
    pub fn handle_tls(&mut self, now: Duration, bindings: ChannelBindings) {
        self.now = now;
        if self.state == State::Tls {
            self.tls = Some(bindings);
            self.open();
        }
    }

    /// What [`ClientEvent::Derive`] asked for.
    pub fn handle_derived(&mut self, now: Duration, key: &SaltedKey) {
        self.now = now;
        if self.state == State::Sasl {
            self.derived(key);
        }
    }

    /// Takes what was received; no bytes mean that the connection is at its end.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        self.now = now;
        if bytes.is_empty() {
            let closing = self.state == State::Closing;
            return self.end(if closing { Closed::ByUs } else { Closed::Lost });
        }
        match self.state {
            State::Closed => {}
            State::Tls => self.injected(),
            _ => {
                self.backlog = true;
                self.prober.heard(now);
                self.wire.push(bytes);
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        match self.state {
            State::Closed => {}
            State::Ready => self.probe(now),
            _ if self.deadline > now => {}
            State::Closing => self.end(Closed::ByUs),
            State::Header => self.end(Closed::Silence("its stream header")),
            State::Tls | State::Proceed => self.end(Closed::Silence("the encryption")),
            State::Features | State::Sasl => self.end(Closed::Silence("the log-in")),
            State::Resume | State::Bind | State::Enable => {
                self.end(Closed::Silence("the session"));
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Ready => self.prober.poll_timeout(),
            _ => Some(self.deadline),
        }
    }

    /// Sends one stanza, well-formed in the namespace `jabber:client`; returns its position in the
    /// session, counted from 1.
    ///
    /// # Errors
    /// As [`ClientStream::check`].
    pub fn send(&mut self, now: Duration, stanza: &[u8]) -> Result<u64> {
        self.check(stanza)?;
        Ok(self.put(now, stanza))
    }

    /// Sends one stanza that has passed [`ClientStream::check`] since the last input.
    #[cfg(feature = "net")]
    pub(crate) fn send_checked(&mut self, now: Duration, stanza: &[u8]) -> u64 {
        self.put(now, stanza)
    }

    /// How many stanzas were sent in the session, those of the stream's own included.
    pub fn sent(&self) -> u64 {
        self.counters.as_ref().map_or(self.sent, Counters::sent_so_far)
    }

    /// Whether the server counts what it sends (XEP-0198), and gives again what is not confirmed.
    pub fn is_counted(&self) -> bool {
        self.counters.is_some()
    }

    /// The position, in the session, of the last stanza received; for [`ClientStream::confirm`].
    pub fn received(&self) -> u32 {
        self.counters.as_ref().map_or(0, Counters::position)
    }

    /// Every stanza up to this position is dealt with: should this side fail now, the server need not
    /// send it again. Only with [`ClientConfig::confirm`].
    pub fn confirm(&mut self, position: u32) {
        if let Some(counters) = &mut self.counters {
            counters.confirm(position);
        }
    }

    /// Whether [`ClientStream::send`] would take the stanza.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] unless the stream is ready, [`ErrorKind::InvalidSender`] if `from`
    /// is there and is not the account, and [`ErrorKind::Backpressure`] if the server has
    /// acknowledged too little.
    pub fn check(&self, stanza: &[u8]) -> Result<()> {
        if self.state != State::Ready {
            return Err(Error::new(
                ErrorKind::NotConnected,
                "the stream to the server is not up, so nothing can be sent; try again when it is",
            ));
        }
        check_own(stanza, &self.bare, &self.jid)?;
        if self.is_congested() {
            return Err(Error::new(
                ErrorKind::Backpressure,
                "the server has not acknowledged what was sent before; send again later",
            ));
        }
        Ok(())
    }

    /// Whether the server has acknowledged too little for more to be sent.
    pub fn is_congested(&self) -> bool {
        let full =
            |c: &Counters| c.unacked().len() >= UNACKED_STANZAS || c.bytes() >= UNACKED_BYTES;
        self.counters.as_ref().is_some_and(full)
    }

    /// Closes the stream: the server is told, and has until `deadline` to close its half.
    pub fn close(&mut self, now: Duration, deadline: Duration) {
        self.now = now;
        match self.state {
            State::Ready => {
                self.answer_h();
                self.wire.close();
                (self.state, self.deadline) = (State::Closing, deadline);
            }
            State::Closing | State::Closed => {}
            _ => self.end(Closed::ByUs),
        }
    }

    /// Moves what is to be transmitted to the end of `buffer`; says whether there was anything.
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.wire.poll_transmit(buffer)
    }

    /// What happened next. Stanzas are parsed here, one with each call.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if matches!(self.state, State::Closed | State::Tls) || !self.backlog {
                return None;
            }
            match self.wire.next() {
                Ok(None) => self.backlog = false,
                Ok(Some(incoming)) => self.incoming(incoming),
                Err(error) => {
                    // The server would send the stanza that broke the stream again with each
                    // resumption: what it holds is lost either way.
                    self.took_poison();
                    self.violation(error);
                }
            }
        }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something.
    pub fn has_backlog(&self) -> bool {
        !self.pending.is_empty() || self.backlog
    }

    /// Whether there is no session yet. Until then there are few events, whatever the server sends, and
    /// none of what the log-in takes is done unless [`poll_event`](Self::poll_event) is called.
    pub fn is_logging_in(&self) -> bool {
        !matches!(self.state, State::Ready | State::Closing | State::Closed)
    }

    /// Whether stanzas may be sent.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// How much was left out so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The stanzas that the server has not acknowledged, with stream management.
    pub fn unacked(&self) -> impl Iterator<Item = &Bytes> {
        let resuming = self.resumption.as_ref().map(|resumption| &resumption.counters);
        self.counters.as_ref().or(resuming).into_iter().flat_map(|counters| counters.unacked())
    }

    /// What the next stream needs to go on where this one broke; `None` if the session cannot be
    /// resumed.
    pub fn into_resumption(self) -> Option<Resumption> {
        match (self.session_id, self.counters) {
            (Some(id), Some(counters)) => Some(Resumption { id, jid: self.jid, counters }),
            _ => self.resumption,
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Header(header) => self.header(&header),
            Incoming::Stanza(stanza) => self.stanza(stanza),
            Incoming::Other(element) => self.other(&element),
            Incoming::Error(error) => {
                // It is for something in the session, or the session is the server's no longer
                // (RFC 6120 §4.9.1.1): sending the same again would end in the same way.
                self.session_id = None;
                if self.state == State::Resume {
                    self.give_up();
                }
                self.end(Closed::PeerError(error));
            }
            Incoming::Skipped(error) => {
                self.took();
                self.stats.skipped += 1;
                if !self.is_logging_in() {
                    self.pending.push_back(ClientEvent::Skipped(error));
                }
            }
            Incoming::Closed => {
                let closing = self.state == State::Closing;
                // A server that closes politely has ended the session too.
                self.session_id = None;
                self.end(if closing { Closed::ByUs } else { Closed::ByPeer });
            }
        }
    }

    fn other(&mut self, element: &Element) {
        match (self.state, element.ns(), element.name()) {
            (State::Features, ns::STREAM, "features") => self.features(&Features::read(element)),
            (State::Proceed, ns::TLS, "proceed") => self.proceed(),
            (State::Proceed, ns::TLS, "failure") => {
                self.unsupported("the server offered STARTTLS and then refused it");
            }
            (State::Sasl, ns::SASL, "challenge") => self.challenge(&element.text()),
            (State::Sasl, ns::SASL, "success") => self.success(&element.text()),
            (State::Sasl, ns::SASL, "failure") => self.end(Closed::Refused(read_failure(element))),
            (State::Resume, ns::SM, "resumed") => self.resumed(element),
            (State::Resume, ns::SM, "failed") => self.not_resumed(element),
            (State::Enable, ns::SM, "enabled") => self.enabled(element),
            (State::Enable, ns::SM, "failed") => self.ready(false),
            (State::Ready, ns::SM, "r") => self.answer_h(),
            (State::Ready | State::Closing, ns::SM, "a") => self.acknowledged(element),
            _ => self.stats.ignored += 1,
        }
    }

    fn probe(&mut self, now: Duration) {
        if self.backlog {
            self.prober.unread(now);
        }
        match self.prober.handle_timeout(now) {
            Due::Nothing => {}
            Due::Whitespace => self.wire.write(b" "),
            Due::Dead => self.end(Closed::Silence("a ping")),
            Due::Ping if self.counters.is_some() => {
                self.asked = self.prober.ask(now);
                self.wire.write(format!("<r xmlns='{}'/>", ns::SM).as_bytes());
            }
            Due::Ping => {
                self.asked = self.prober.ask(now);
                let ping = Element::new("ping", ns::PING);
                let (id, scope) = (self.id("ping"), Scope::stream(ns::CLIENT));
                let to = self.config.jid.domainpart();
                let iq = StanzaBuilder::iq().id(&id).type_("get").to(to).element(&ping, &scope);
                self.wire.write(iq.finish().as_bytes());
            }
        }
    }

    fn unsupported(&mut self, text: impl Into<String>) {
        self.end(Closed::Unsupported(text.into()));
    }

    fn violation(&mut self, error: StreamError) {
        self.wire.fail(&error);
        self.end(Closed::Violation(error));
    }

    fn end(&mut self, reason: Closed) {
        if self.state != State::Closed {
            if reason == Closed::ByUs {
                self.session_id = None;
            }
            // Closing politely would end a session that is to be resumed.
            let resumable = self.session_id.is_some() || self.resumption.is_some();
            if !resumable || !matches!(reason, Closed::Silence(_) | Closed::Lost) {
                self.wire.close();
            }
            self.state = State::Closed;
            self.pending.push_back(ClientEvent::Closed(reason));
        }
    }
}

#[cfg(test)]
mod tests;
