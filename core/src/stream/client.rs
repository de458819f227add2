//! This side of an ordinary account's stream (RFC 6120, XEP-0198).

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::component::Stats;
use super::error::{Closed, StreamError};
use super::negotiation::{Features, RosterItem, roster_items};
use super::outgoing::check_own;
use super::probe::{Barrier, Due, Keepalive, Prober, Question};
use super::sm::{Counters, Resumption};
use super::wire::{Header, Incoming, Wire};
use crate::auth::Secret;
use crate::auth::sasl::{ChannelBindings, Exchange, Mechanism};
use crate::auth::scram::ScramError;
use crate::error::{Error, ErrorKind, Result};
use crate::jid::{Jid, WireJid};
use crate::ns;
use crate::stanza::{Stanza, StanzaBuilder, StanzaKind};
use crate::xml::{Element, Limits, Scope, StreamHeader, XmlError};

/// How much may be sent that the server has not acknowledged.
const UNACKED_STANZAS: usize = 4096;
const UNACKED_BYTES: usize = 8 * 1024 * 1024;

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
    /// What one stanza may hold.
    pub limits: Limits,
    /// How long the server may take until stanzas flow.
    pub login_timeout: Duration,
    /// What keeps a silent stream alive: with stream management a request for an acknowledgement,
    /// otherwise a ping to the server; the address of [`Question::Ping`] is not used.
    pub keepalive: Option<Keepalive>,
    /// How soon the server is asked what it has handled, with stream management.
    pub barrier: Barrier,
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
            limits: Limits::default(),
            login_timeout: Duration::from_secs(15),
            keepalive: Some(keepalive),
            barrier: Barrier { stanzas: 64, within: Duration::from_secs(1) },
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
        let full =
            |c: &Counters| c.unacked().len() >= UNACKED_STANZAS || c.bytes() >= UNACKED_BYTES;
        if self.counters.as_ref().is_some_and(full) {
            return Err(Error::new(
                ErrorKind::Backpressure,
                "the server has not acknowledged what was sent before; send again later",
            ));
        }
        Ok(())
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
                    self.handled();
                    self.violation(error);
                }
            }
        }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something.
    pub fn has_backlog(&self) -> bool {
        !self.pending.is_empty() || self.backlog
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

    /// Writes this side's header: the first, or the one that follows TLS or SASL.
    fn open(&mut self) {
        self.wire.restart();
        self.state = State::Header;
        let bare = self.config.jid.bare();
        let domain = ("to", self.config.jid.domainpart());
        let version = ("version", "1.0");
        // Who logs in is nobody's business on a connection that can be read (RFC 6120 §4.7.1).
        let named = [domain, ("from", bare), version];
        let attributes = if self.tls.is_some() { &named[..] } else { &[domain, version] };
        self.wire.open(&Header { default_ns: ns::CLIENT, attributes });
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Header(header) => self.header(&header),
            Incoming::Stanza(stanza) => self.stanza(stanza),
            Incoming::Other(element) => self.other(&element),
            Incoming::Error(error) => {
                if self.state == State::Resume {
                    self.give_up();
                }
                self.end(Closed::PeerError(error));
            }
            Incoming::Skipped(error) => {
                self.handled();
                self.stats.skipped += 1;
                self.pending.push_back(ClientEvent::Skipped(error));
            }
            Incoming::Closed => {
                let closing = self.state == State::Closing;
                // A server that closes politely has ended the session too.
                self.session_id = None;
                self.end(if closing { Closed::ByUs } else { Closed::ByPeer });
            }
        }
    }

    fn header(&mut self, header: &StreamHeader) {
        if self.state != State::Header {
            return;
        }
        if header.default_ns() != ns::CLIENT {
            let text = format!("stanzas are in {:?}, not {:?}", header.default_ns(), ns::CLIENT);
            return self.violation(StreamError::new("invalid-namespace").with_text(text));
        }
        if header.version.as_deref().is_none_or(|version| version.starts_with("0.")) {
            return self.violation(StreamError::new("unsupported-version"));
        }
        self.state = State::Features;
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

    fn features(&mut self, features: &Features) {
        if !self.authenticated {
            return match (&self.tls, self.config.encryption) {
                (None, Encryption::StartTls) if features.starttls => {
                    self.wire.write(format!("<starttls xmlns='{}'/>", ns::TLS).as_bytes());
                    self.state = State::Proceed;
                }
                (None, Encryption::StartTls) => self.unsupported(
                    "the server offers no STARTTLS, and nothing is sent over a connection that can be read",
                ),
                (None, _) if features.starttls_required => {
                    self.unsupported("the server requires STARTTLS, which the options turn off");
                }
                _ => self.authenticate(features),
            };
        }
        self.offers_sm = features.sm && self.config.stream_management;
        match &self.resumption {
            Some(resumption) if self.offers_sm => {
                let resume = Element::new("resume", ns::SM)
                    .with_attr("previd", &*resumption.id)
                    .with_attr("h", resumption.counters.h().to_string());
                self.wire.write(resume.to_xml().as_bytes());
                self.state = State::Resume;
            }
            _ => {
                self.give_up();
                self.bind(features.bind);
            }
        }
    }

    fn authenticate(&mut self, features: &Features) {
        let chosen = Mechanism::choose(&features.sasl, self.tls.as_ref(), self.config.plain);
        let Some(mechanism) = chosen else {
            let offered = features.sasl.mechanisms.join(", ");
            return self.unsupported(format!(
                "the server offers no way to log in that is both known and allowed (it offers: {offered}); SCRAM-SHA-256 or SCRAM-SHA-1 is needed, or PLAIN where TLS is used and the options allow it"
            ));
        };
        let name = mechanism.name();
        let username = self.config.jid.localpart().unwrap_or_default();
        let (password, nonce) = (&self.config.password, &self.config.nonce);
        match Exchange::begin(mechanism, username, password, nonce) {
            Err(error) => self.end(Closed::Refused(
                StreamError::new("not-authorized").with_text(error.to_string()),
            )),
            Ok((exchange, first)) => {
                self.exchange = Some(exchange);
                self.state = State::Sasl;
                let first = BASE64.encode(first.as_slice());
                let auth = format!("<auth xmlns='{}' mechanism='{name}'>{first}</auth>", ns::SASL);
                self.wire.write(auth.as_bytes());
            }
        }
    }

    fn proceed(&mut self) {
        if self.wire.unread() > 0 {
            return self.injected();
        }
        self.backlog = false;
        self.state = State::Tls;
        self.pending.push_back(ClientEvent::StartTls);
    }

    /// Bytes before the encryption that are meant to be read after it: nobody knows who wrote them.
    fn injected(&mut self) {
        let text = "something was written between the consent to STARTTLS and the encryption";
        self.violation(StreamError::new("policy-violation").with_text(text));
    }

    fn challenge(&mut self, text: &str) {
        let answer = match (&mut self.exchange, sasl_data(text)) {
            (Some(exchange), Some(data)) => exchange.challenge(&data),
            _ => Err(ScramError::Malformed("bad base64")),
        };
        match answer {
            Ok(answer) => {
                let answer = BASE64.encode(answer);
                let xml = format!("<response xmlns='{}'>{answer}</response>", ns::SASL);
                self.wire.write(xml.as_bytes());
            }
            Err(error) => self.distrust(&error),
        }
    }

    fn success(&mut self, text: &str) {
        let proved = match (&mut self.exchange, sasl_data(text)) {
            (Some(exchange), Some(data)) => exchange.success(&data),
            _ => Err(ScramError::Malformed("bad base64")),
        };
        match proved {
            Ok(()) => {
                self.exchange = None;
                self.authenticated = true;
                self.open();
            }
            Err(error) => self.distrust(&error),
        }
    }

    fn distrust(&mut self, error: &ScramError) {
        self.wire.write(format!("<abort xmlns='{}'/>", ns::SASL).as_bytes());
        self.violation(StreamError::new("undefined-condition").with_text(error.to_string()));
    }

    fn bind(&mut self, offered: bool) {
        if !offered {
            return self.unsupported("the server offers no resource binding");
        }
        let mut bind = Element::new("bind", ns::BIND);
        if let Some(resource) = self.config.jid.resourcepart() {
            bind.push(Element::new("resource", ns::BIND).with_text(resource));
        }
        let id = self.id("bind");
        let scope = Scope::stream(ns::CLIENT);
        let iq = StanzaBuilder::iq().id(&id).type_("set").element(&bind, &scope).finish();
        self.wire.write(iq.as_bytes());
        self.state = State::Bind;
    }

    fn bound(&mut self, stanza: &Stanza) {
        let element = stanza.element().ok();
        let bind = element.as_ref().and_then(|iq| iq.child("bind", ns::BIND));
        let jid = bind.and_then(|bind| bind.child("jid", ns::BIND)).map(Element::text);
        match jid.and_then(|jid| Jid::parse(&jid).ok()) {
            Some(jid) if stanza.type_() == Some("result") && jid.resourcepart().is_some() => {
                self.bare = WireJid::new(jid.bare());
                self.jid = jid;
                if !self.offers_sm {
                    return self.ready(false);
                }
                self.state = State::Enable;
                self.wire.write(format!("<enable xmlns='{}' resume='true'/>", ns::SM).as_bytes());
            }
            _ => {
                let children = element.as_ref().and_then(|iq| iq.child("error", ns::CLIENT));
                let condition = children.and_then(|error| {
                    error.children().find(|child| child.ns() == ns::STANZA_ERRORS)
                });
                let condition = condition.map_or("undefined-condition", Element::name).to_owned();
                let text = "the server bound no resource for the account";
                self.end(Closed::PeerError(StreamError::new(condition).with_text(text)));
            }
        }
    }

    fn enabled(&mut self, element: &Element) {
        let resumable = matches!(element.attr("resume"), Some("true" | "1"));
        self.session_id = element.attr("id").filter(|_| resumable).map(str::to_owned);
        self.counters = Some(Counters::default());
        self.ready(false);
    }

    fn resumed(&mut self, element: &Element) {
        let Some(Resumption { id, jid, mut counters }) = self.resumption.take() else { return };
        let acked = read_h(element).map(|h| counters.acknowledge(h));
        let Some(Ok(acked)) = acked else { return self.too_high() };
        self.bare = WireJid::new(jid.bare());
        (self.jid, self.session_id) = (jid, Some(id));
        for stanza in counters.unacked() {
            self.wire.write(stanza);
        }
        let again = counters.unacked().len();
        self.counters = Some(counters);
        self.ready(true);
        for _ in 0..again {
            self.prober.sent(self.now);
        }
        self.pending.extend(acked.map(ClientEvent::Acked));
    }

    fn not_resumed(&mut self, element: &Element) {
        if let (Some(h), Some(resumption)) = (read_h(element), &mut self.resumption)
            && resumption.counters.acknowledge(h).is_err()
        {
            self.stats.ignored += 1;
        }
        self.give_up();
        self.bind(true);
    }

    /// The session that was to be resumed is lost.
    fn give_up(&mut self) {
        if let Some(resumption) = self.resumption.take() {
            let unacked = resumption.counters.into_unacked();
            self.pending.push_back(ClientEvent::Unacked(unacked));
        }
    }

    fn ready(&mut self, resumed: bool) {
        self.state = State::Ready;
        let barrier = self.counters.is_some().then_some(self.config.barrier);
        self.prober = Prober::new(self.now, self.config.keepalive.clone(), barrier);
        self.pending.push_back(ClientEvent::Ready { jid: self.jid.clone(), resumed });
        if resumed {
            return;
        }
        let query = Element::new("query", ns::ROSTER);
        let scope = Scope::stream(ns::CLIENT);
        let id = self.id("roster");
        let roster = StanzaBuilder::iq().id(&id).type_("get").element(&query, &scope).finish();
        self.put(self.now, roster.as_bytes());
        self.put(self.now, b"<presence/>");
    }

    fn put(&mut self, now: Duration, stanza: &[u8]) -> u64 {
        self.wire.write(stanza);
        self.prober.sent(now);
        self.sent += 1;
        match &mut self.counters {
            Some(counters) => counters.sent(Bytes::copy_from_slice(stanza)),
            None => self.sent,
        }
    }

    fn stanza(&mut self, stanza: Stanza) {
        match self.state {
            State::Ready | State::Closing => {
                self.handled();
                if !self.own_iq(&stanza) {
                    self.pending.push_back(ClientEvent::Stanza(stanza));
                }
            }
            State::Bind if self.is_answer(&stanza, "bind") => self.bound(&stanza),
            _ => self.stats.ignored += 1,
        }
    }

    /// Takes the iqs that are this stream's own business.
    fn own_iq(&mut self, stanza: &Stanza) -> bool {
        if stanza.kind() != StanzaKind::Iq {
            return false;
        }
        if self.is_answer(stanza, "roster") {
            let items = roster_query(stanza).unwrap_or_default();
            self.pending.push_back(ClientEvent::Roster { items, complete: true });
            return true;
        }
        if self.is_answer(stanza, "ping") {
            self.prober.answered(self.asked);
            return true;
        }
        let push = (stanza.type_() == Some("set")).then(|| roster_query(stanza)).flatten();
        let Some(items) = push else { return false };
        if !self.is_own_server(stanza, false) {
            // Anybody can send one; only the server's counts (RFC 6121 §2.1.6).
            self.stats.ignored += 1;
            return true;
        }
        let id = stanza.id().unwrap_or_default();
        let result = StanzaBuilder::iq().id(id).type_("result").finish();
        self.put(self.now, result.as_bytes());
        self.pending.push_back(ClientEvent::Roster { items, complete: false });
        true
    }

    fn is_answer(&self, stanza: &Stanza, what: &str) -> bool {
        stanza.kind() == StanzaKind::Iq
            && matches!(stanza.type_(), Some("result" | "error"))
            && stanza.id().and_then(|id| id.strip_prefix(&self.config.id_prefix)) == Some(what)
            && self.is_own_server(stanza, true)
    }

    /// Whether the account's own server wrote it, in the account's name or, where that is enough, in
    /// its own.
    fn is_own_server(&self, stanza: &Stanza, domain: bool) -> bool {
        stanza.from().is_none_or(|from| {
            *from == self.bare || domain && *from == WireJid::new(self.config.jid.domainpart())
        })
    }

    fn id(&self, what: &str) -> String {
        format!("{}{what}", self.config.id_prefix)
    }

    fn handled(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.handled();
        }
    }

    fn answer_h(&mut self) {
        if let Some(counters) = &self.counters {
            self.wire.write(format!("<a xmlns='{}' h='{}'/>", ns::SM, counters.h()).as_bytes());
        }
    }

    fn acknowledged(&mut self, element: &Element) {
        let Some(counters) = &mut self.counters else { return self.stats.ignored += 1 };
        match read_h(element).map(|h| counters.acknowledge(h)) {
            Some(Ok(acked)) => {
                self.prober.answered(self.asked);
                self.pending.extend(acked.map(ClientEvent::Acked));
            }
            _ => self.too_high(),
        }
    }

    fn too_high(&mut self) {
        self.session_id = None;
        let text = "the server acknowledges stanzas that were never sent, or gives no number";
        self.violation(StreamError::new("undefined-condition").with_text(text));
    }

    fn probe(&mut self, now: Duration) {
        if self.backlog {
            self.prober.heard(now);
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

/// What is in a SASL element: `=` stands for nothing (RFC 6120 §6.4.2).
fn sasl_data(text: &str) -> Option<Vec<u8>> {
    match text.trim_ascii() {
        "=" => Some(Vec::new()),
        text => BASE64.decode(text).ok(),
    }
}

fn read_failure(element: &Element) -> StreamError {
    let condition = element.children().find(|c| c.ns() == ns::SASL && c.name() != "text");
    let text = element.child("text", ns::SASL).map(Element::text);
    let condition = condition.map_or("not-authorized", Element::name).to_owned();
    StreamError { condition: condition.into(), text: text.filter(|text| !text.is_empty()) }
}

fn read_h(element: &Element) -> Option<u32> {
    element.attr("h")?.parse().ok()
}

fn roster_query(stanza: &Stanza) -> Option<Vec<RosterItem>> {
    stanza.element().ok()?.child("query", ns::ROSTER).map(roster_items)
}

#[cfg(test)]
mod tests;
