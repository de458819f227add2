//! A server for one ordinary account: SASL PLAIN, resource binding and stream management (XEP-0198)
//! with sessions that can be resumed, in as few lines as that takes.

use std::collections::VecDeque;

use appxmpp::ns;
use appxmpp::xml::{Element, Frame, Framer, Limits, Scope};

use crate::account::Book;
use crate::ctx::{Ctx, SEC, Time};
use crate::network::Network;

/// What survives a connection.
#[derive(Debug, Default)]
struct Session {
    id: u32,
    /// Stanzas of the account's that were handled.
    handled: u32,
    /// Numbers of what was sent to the account, and was not acknowledged; `None` for what is not one
    /// of the numbered messages.
    unacked: VecDeque<Option<usize>>,
    acked: u32,
    /// Since when it has no connection.
    detached: Option<Time>,
}

/// One connection.
struct Stream {
    conn: u32,
    framer: Framer,
    /// Its header was read, the one after the log-in too.
    open: bool,
    scope: Scope,
    authenticated: bool,
    bound: bool,
    /// The session on it, once stream management is on.
    session: bool,
}

pub(crate) struct Host {
    pub(crate) network: Network,
    streams: Vec<Stream>,
    session: Option<Session>,
    sessions: u32,
    /// Messages for the account that no session has.
    offline: VecDeque<usize>,
    /// How long a session without a connection is kept.
    keeps: Time,
    /// A session that is gone is still remembered by its count.
    remembers: bool,
    forgotten: Option<(u32, u32)>,
    pub(crate) paused_until: Time,
    held: VecDeque<(u32, Vec<u8>)>,
}

impl Host {
    pub(crate) fn new(ctx: &mut Ctx) -> Self {
        Self {
            network: Network::default(),
            streams: Vec::new(),
            session: None,
            sessions: 0,
            offline: VecDeque::new(),
            keeps: ctx.rng.pick(&[SEC, 10 * SEC, 300 * SEC]),
            remembers: ctx.rng.permille(500),
            forgotten: None,
            paused_until: 0,
            held: VecDeque::new(),
        }
    }

    pub(crate) fn accept(&mut self) -> u32 {
        let conn = self.network.connect();
        self.streams.push(Stream {
            conn,
            framer: Framer::new(Limits::default()),
            open: false,
            scope: Scope::empty(),
            authenticated: false,
            bound: false,
            session: false,
        });
        conn
    }

    fn stream(&mut self, conn: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.conn == conn)
    }

    fn write(&mut self, ctx: &mut Ctx, conn: u32, xml: String) {
        self.network.write(ctx, conn, false, xml.into_bytes());
    }

    /// The server restarts: no session outlives that.
    pub(crate) fn restart(&mut self, ctx: &mut Ctx) {
        ctx.say(|| "host: restarts".to_owned());
        self.held.clear();
        for conn in self.streams.iter().map(|stream| stream.conn).collect::<Vec<_>>() {
            self.network.conn(conn).broken = true;
            self.network.close(ctx, conn, false);
        }
        self.streams.clear();
        self.end_session();
        self.forgotten = None;
    }

    /// What a session that is over did not deliver waits for the next one.
    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.forgotten = self.remembers.then_some((session.id, session.handled));
            for number in session.unacked.into_iter().flatten().rev() {
                self.offline.push_front(number);
            }
        }
    }

    pub(crate) fn tick(&mut self, ctx: &mut Ctx, book: &mut Book) {
        if self.paused_until > ctx.now {
            return;
        }
        while let Some((conn, data)) = self.held.pop_front() {
            self.read(ctx, book, conn, &data);
        }
        let (now, keeps) = (ctx.now, self.keeps);
        let over = |session: &Session| session.detached.is_some_and(|at| at + keeps <= now);
        if self.session.as_ref().is_some_and(over) {
            ctx.say(|| "host: the session is over".to_owned());
            self.end_session();
        }
    }

    pub(crate) fn handle_bytes(
        &mut self,
        ctx: &mut Ctx,
        book: &mut Book,
        conn: u32,
        data: Vec<u8>,
    ) {
        if self.paused_until > ctx.now {
            return self.held.push_back((conn, data));
        }
        self.tick(ctx, book);
        self.read(ctx, book, conn, &data);
    }

    fn read(&mut self, ctx: &mut Ctx, book: &mut Book, conn: u32, data: &[u8]) {
        if data.is_empty() {
            return self.detach(ctx, conn);
        }
        if let Some(stream) = self.stream(conn) {
            stream.framer.push(data);
        }
        while let Some(stream) = self.stream(conn) {
            match stream.framer.next() {
                Ok(None) => return,
                Ok(Some(Frame::Open(header))) => {
                    (stream.open, stream.scope) = (true, header.scope.clone());
                    self.open(ctx, conn);
                }
                Ok(Some(Frame::Stanza(bytes))) => {
                    let parsed = Element::parse(&bytes, &stream.scope, &Limits::default());
                    match parsed {
                        Ok(element) => self.element(ctx, book, conn, &element),
                        Err(error) => ctx.violated(|| format!("the account wrote {error}")),
                    }
                }
                Ok(Some(Frame::Close)) => {
                    // A polite end, or one with an error, ends the session too.
                    self.end_session();
                    return self.detach(ctx, conn);
                }
                // The account gave up before it knew that it was logged in.
                Err(_) if !stream.open => return self.detach(ctx, conn),
                Ok(Some(Frame::Skipped(error))) | Err(error) => {
                    return ctx.violated(|| format!("the account wrote {error}"));
                }
            }
        }
    }

    fn detach(&mut self, ctx: &mut Ctx, conn: u32) {
        let Some(at) = self.streams.iter().position(|stream| stream.conn == conn) else { return };
        let stream = self.streams.remove(at);
        self.network.close(ctx, conn, false);
        if stream.session
            && let Some(session) = &mut self.session
        {
            session.detached = Some(ctx.now);
        }
    }

    fn open(&mut self, ctx: &mut Ctx, conn: u32) {
        let Some(stream) = self.stream(conn) else { return };
        let features = if stream.authenticated {
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/>"
        } else {
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
        };
        let xml = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{}' id='h{conn}' \
             from='users.example' version='1.0'><stream:features>{features}</stream:features>",
            ns::STREAM
        );
        self.write(ctx, conn, xml);
    }

    fn element(&mut self, ctx: &mut Ctx, book: &mut Book, conn: u32, element: &Element) {
        ctx.say(|| format!("host: reads {}", element.to_xml()));
        let number = |name| element.attr(name).and_then(|value| value.parse::<u32>().ok());
        match (element.ns(), element.name()) {
            (ns::SASL, "auth") => {
                if let Some(stream) = self.stream(conn) {
                    stream.authenticated = true;
                    stream.framer.reset();
                    stream.open = false;
                }
                self.write(ctx, conn, format!("<success xmlns='{}'/>", ns::SASL));
            }
            (ns::SM, "enable") => self.enable(ctx, conn),
            (ns::SM, "resume") => {
                self.resume(ctx, book, conn, (element.attr("previd"), number("h")));
            }
            (ns::SM, "r") => {
                let handled = self.session.as_ref().map_or(0, |session| session.handled);
                self.write(ctx, conn, format!("<a xmlns='{}' h='{handled}'/>", ns::SM));
            }
            (ns::SM, "a") => self.acknowledged(ctx, book, number("h")),
            (ns::CLIENT, "iq" | "message" | "presence") => self.stanza(ctx, book, conn, element),
            _ => ctx.violated(|| format!("the account wrote {}", element.to_xml())),
        }
    }

    /// The connection that the session had is of no use to anybody any more.
    fn detach_session(&mut self, ctx: &mut Ctx) {
        let before = self.streams.iter().find(|stream| stream.session).map(|stream| stream.conn);
        if let Some(before) = before {
            self.detach(ctx, before);
        }
    }

    fn enable(&mut self, ctx: &mut Ctx, conn: u32) {
        self.detach_session(ctx);
        self.end_session();
        self.sessions += 1;
        let id = self.sessions;
        self.session = Some(Session { id, ..Session::default() });
        if let Some(stream) = self.stream(conn) {
            stream.session = true;
        }
        self.write(ctx, conn, format!("<enabled xmlns='{}' id='{id}' resume='true'/>", ns::SM));
        for number in std::mem::take(&mut self.offline) {
            self.send(ctx, number);
        }
    }

    fn resume(
        &mut self,
        ctx: &mut Ctx,
        book: &mut Book,
        conn: u32,
        (id, h): (Option<&str>, Option<u32>),
    ) {
        let id: Option<u32> = id.and_then(|id| id.parse().ok());
        let known = self.session.as_ref().is_some_and(|session| Some(session.id) == id);
        if !known {
            let forgotten = self.forgotten.filter(|(forgotten, _)| Some(*forgotten) == id);
            let h = forgotten.map_or(String::new(), |(_, handled)| format!(" h='{handled}'"));
            return self.write(ctx, conn, format!("<failed xmlns='{}'{h}/>", ns::SM));
        }
        self.detach_session(ctx);
        self.acknowledged(ctx, book, h);
        let Some(session) = &mut self.session else { return };
        session.detached = None;
        let (handled, again) = (session.handled, session.unacked.clone());
        if let Some(stream) = self.stream(conn) {
            (stream.session, stream.bound) = (true, true);
        }
        let id = id.unwrap_or_default();
        self.write(ctx, conn, format!("<resumed xmlns='{}' previd='{id}' h='{handled}'/>", ns::SM));
        for number in again {
            self.write(ctx, conn, stanza(number));
        }
    }

    fn acknowledged(&mut self, ctx: &mut Ctx, book: &mut Book, h: Option<u32>) {
        let Some((session, h)) = self.session.as_mut().zip(h) else { return };
        let news = h.wrapping_sub(session.acked) as usize;
        if news > session.unacked.len() {
            return ctx.violated(|| format!("the account acknowledges {h}, more than it was sent"));
        }
        for number in session.unacked.drain(..news).flatten() {
            book.confirmed(ctx, number);
        }
        session.acked = h;
    }

    fn stanza(&mut self, ctx: &mut Ctx, book: &mut Book, conn: u32, element: &Element) {
        let Some(stream) = self.stream(conn) else { return };
        if !stream.bound {
            stream.bound = true;
            let id = element.attr("id").unwrap_or_default();
            let xml = format!(
                "<iq type='result' id='{id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <jid>me@users.example/r</jid></bind></iq>"
            );
            return self.write(ctx, conn, xml);
        }
        if !stream.session {
            return ctx.violated(|| "a stanza came before stream management was on".to_owned());
        }
        let Some(session) = &mut self.session else { return };
        session.handled += 1;
        let session = session.id;
        let id = element.attr("id").unwrap_or_default();
        if let Some(number) = id.strip_prefix('m').and_then(|number| number.parse().ok()) {
            book.read(ctx, session, number);
        } else if element.child("query", ns::ROSTER).is_some() {
            let xml = format!("<iq type='result' id='{id}'><query xmlns='{}'/></iq>", ns::ROSTER);
            self.numbered(ctx, None, xml);
        }
    }

    /// A message for the account, with this number.
    pub(crate) fn send(&mut self, ctx: &mut Ctx, number: usize) {
        if self.session.is_none() {
            return self.offline.push_back(number);
        }
        self.numbered(ctx, Some(number), stanza(Some(number)));
    }

    fn numbered(&mut self, ctx: &mut Ctx, number: Option<usize>, xml: String) {
        if let Some(session) = &mut self.session {
            session.unacked.push_back(number);
        }
        let conn = self.streams.iter().find(|stream| stream.session).map(|stream| stream.conn);
        if let Some(conn) = conn {
            let asks = ctx.rng.permille(400);
            self.write(ctx, conn, xml);
            if asks {
                self.write(ctx, conn, format!("<r xmlns='{}'/>", ns::SM));
            }
        }
    }
}

/// A numbered message; of anything else a resumption only needs that there is something.
fn stanza(number: Option<usize>) -> String {
    match number {
        Some(number) => format!(
            "<message from='c0@users.example/r' to='me@users.example/r' id='d{number}'><body>hello</body></message>"
        ),
        None => "<message from='users.example'><x xmlns='urn:again'/></message>".to_owned(),
    }
}
