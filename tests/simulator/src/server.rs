//! The XMPP server: one accepting stream for each connection, and the routing between apps and
//! contacts.

use std::collections::VecDeque;

use appxmpp::auth::Secret;
use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::stream::{AcceptConfig, AcceptEvent, AcceptStream, StreamError};
use appxmpp::xml::Limits;

use crate::contacts::{self, Contact};
use crate::ctx::{Ctx, Ev, NEVER, Rare, SEC, Time, duration, time};
use crate::network::Network;
use crate::oracle;

pub(crate) const SECRET: &str = "secret";

struct Session {
    conn: u32,
    stream: AcceptStream,
    /// Which app proved to be at the other end.
    app: Option<usize>,
}

pub(crate) struct Server {
    pub(crate) network: Network,
    sessions: Vec<Session>,
    pub(crate) contacts: Vec<Contact>,
    /// It does not run before.
    pub(crate) paused_until: Time,
    /// What arrived while it did not run.
    held: VecDeque<(u32, Vec<u8>)>,
    pub(crate) up: bool,
}

impl Server {
    pub(crate) fn new(ctx: &mut Ctx) -> Self {
        let (apps, contacts) = (ctx.profile.apps, ctx.profile.contacts);
        ctx.oracle.begin(apps, contacts, ctx.profile.is_shared());
        Self {
            network: Network::default(),
            sessions: Vec::new(),
            contacts: (0..contacts).map(|_| Contact::new(ctx, apps)).collect(),
            paused_until: 0,
            held: VecDeque::new(),
            up: true,
        }
    }

    /// Takes a connection.
    pub(crate) fn accept(&mut self, ctx: &Ctx) -> u32 {
        let conn = self.network.connect();
        let config = AcceptConfig {
            id: format!("s{conn}"),
            components: (0..ctx.profile.apps)
                .map(|app| (contacts::domain(app), Secret::new(SECRET)))
                .collect(),
            limits: Limits::default(),
            login_timeout: duration(15 * SEC),
        };
        let stream = AcceptStream::new(config, ctx.now());
        self.sessions.push(Session { conn, stream, app: None });
        conn
    }

    pub(crate) fn handle_bytes(&mut self, ctx: &mut Ctx, conn: u32, data: Vec<u8>) {
        if self.paused_until > ctx.now {
            return self.held.push_back((conn, data));
        }
        while let Some((conn, data)) = self.held.pop_front() {
            self.read(ctx, conn, &data);
        }
        self.read(ctx, conn, &data);
    }

    fn read(&mut self, ctx: &mut Ctx, conn: u32, data: &[u8]) {
        let Some(at) = self.sessions.iter().position(|session| session.conn == conn) else {
            return;
        };
        self.sessions[at].stream.handle_input(ctx.now(), data);
        self.pump(ctx, conn);
    }

    pub(crate) fn next_timeout(&self) -> Time {
        let due = self.sessions.iter().filter_map(|session| session.stream.poll_timeout());
        due.map(time).min().map_or(NEVER, |due| due.max(self.paused_until))
    }

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Ctx) {
        if self.paused_until > ctx.now {
            return;
        }
        while let Some((conn, data)) = self.held.pop_front() {
            self.read(ctx, conn, &data);
        }
        let conns: Vec<u32> = self.sessions.iter().map(|session| session.conn).collect();
        for conn in conns {
            if let Some(session) = self.session(conn) {
                session.stream.handle_timeout(ctx.now());
            }
            self.pump(ctx, conn);
        }
    }

    fn session(&mut self, conn: u32) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.conn == conn)
    }

    /// Does what there is to do for one connection.
    fn pump(&mut self, ctx: &mut Ctx, conn: u32) {
        while let Some(event) = self.session(conn).and_then(|it| it.stream.poll_event()) {
            match event {
                AcceptEvent::Authenticated(domain) => self.authenticated(ctx, conn, &domain),
                AcceptEvent::Stanza(stanza) => self.route(ctx, conn, &stanza),
                AcceptEvent::Skipped(error) => {
                    ctx.violated(|| format!("the product wrote something unacceptable: {error}"));
                }
                AcceptEvent::Closed(reason) => {
                    ctx.say(|| format!("server: connection {conn} ended: {reason}"));
                    self.transmit(ctx, conn);
                    self.network.close(ctx, conn, false);
                    self.sessions.retain(|session| session.conn != conn);
                    return;
                }
                _ => {}
            }
        }
        self.transmit(ctx, conn);
    }

    fn transmit(&mut self, ctx: &mut Ctx, conn: u32) {
        let mut out = Vec::new();
        if self.session(conn).is_some_and(|session| session.stream.poll_transmit(&mut out)) {
            self.network.write(ctx, conn, false, out);
        }
    }

    fn active(&self, app: usize) -> Option<u32> {
        self.sessions.iter().find(|session| session.app == Some(app)).map(|session| session.conn)
    }

    fn authenticated(&mut self, ctx: &mut Ctx, conn: u32, domain: &str) {
        let Some(app) = (0..ctx.profile.apps).find(|app| contacts::domain(*app) == domain) else {
            return;
        };
        let deadline = ctx.now() + duration(2 * SEC);
        let refused = match self.active(app) {
            _ if ctx.profile.spreads => None,
            Some(old) if ctx.profile.replaces => Some(old),
            Some(_) => Some(conn),
            None => None,
        };
        ctx.saw(Rare::Conflict, u64::from(refused.is_some()));
        if refused == Some(conn) {
            ctx.say(|| {
                format!("server: app {app} has a stream already, connection {conn} is refused")
            });
        }
        if let Some(session) = refused.and_then(|refused| self.session(refused)) {
            session.app = None;
            let error = StreamError::new("conflict");
            session.stream.close(deadline, Some(error));
        }
        if refused != Some(conn)
            && let Some(session) = self.session(conn)
        {
            session.app = Some(app);
            session.stream.accept();
            ctx.note(2);
            ctx.say(|| format!("server: app {app} is on connection {conn}"));
        }
        if let Some(refused) = refused.filter(|refused| *refused != conn) {
            self.transmit(ctx, refused);
        }
    }

    /// The connection of an app that gets what `sender` says.
    fn serving(&self, ctx: &Ctx, app: usize, sender: usize) -> Option<u32> {
        if !ctx.profile.spreads {
            return self.active(app);
        }
        let of_app = self.sessions.iter().filter(|session| session.app == Some(app));
        let conns: Vec<u32> = of_app.map(|session| session.conn).collect();
        // The places are one for each process, and whoever comes first has the first.
        let places = if ctx.profile.keeps_places { ctx.profile.processes } else { conns.len() };
        conns.get(sender % places.max(1)).copied()
    }

    /// A stanza goes to an app, if it is connected; else its sender would be told, and knows.
    pub(crate) fn send_to(&mut self, ctx: &mut Ctx, app: usize, sender: usize, xml: &[u8]) {
        if let Some(conn) = self.serving(ctx, app, sender).filter(|_| self.up) {
            self.send_on(ctx, conn, xml);
        }
    }

    fn send_on(&mut self, ctx: &mut Ctx, conn: u32, xml: &[u8]) {
        let taken = self.session(conn).is_some_and(|it| it.stream.send(xml).is_ok());
        if taken {
            self.transmit(ctx, conn);
        }
    }

    /// The server has read a stanza of an app.
    fn route(&mut self, ctx: &mut Ctx, conn: u32, stanza: &Stanza) {
        ctx.say(|| format!("server: reads {}", String::from_utf8_lossy(stanza.raw())));
        let Some(app) = self.session(conn).and_then(|session| session.app) else { return };
        let text = |jid: Option<&appxmpp::WireJid>| jid.map_or("", |jid| jid.as_str()).to_owned();
        let (from, to) = (text(stanza.from()), text(stanza.to()));
        let own = contacts::domain(app);
        if stanza.from().is_none_or(|from| from.domainpart() != own) {
            return ctx.violated(|| format!("app {app} sent as {from:?}"));
        }
        if to == own && stanza.kind() == StanzaKind::Iq {
            return self.answer_ping(ctx, conn, app, stanza);
        }
        let Some(contact) = contacts::of_address(&to).filter(|it| *it < self.contacts.len()) else {
            return ctx.violated(|| format!("app {app} sent to {to:?}"));
        };
        let answers = stanza.id().and_then(contacts::of_id);
        match (stanza.kind(), answers) {
            (StanzaKind::Iq, Some((_, app, number))) => {
                oracle::answered(ctx, app, (contact, number));
            }
            (StanzaKind::Message, Some(_)) => {}
            (StanzaKind::Message, None) => self.read_message(ctx, conn, app, contact, stanza),
            _ => {
                let at = contacts::due(self, ctx, contact);
                ctx.at(at, Ev::Contact { contact, xml: stanza.raw().clone() });
            }
        }
    }

    fn read_message(&mut self, ctx: &mut Ctx, conn: u32, app: usize, to: usize, stanza: &Stanza) {
        let body = stanza.body().unwrap_or_default();
        let word = body.split(' ').next().unwrap_or_default();
        let Some(call) = word.strip_prefix('m').and_then(|call| call.parse().ok()) else {
            return ctx.violated(|| format!("a message came that the app did not send: {body:?}"));
        };
        if body.contains("POISON") {
            let deadline = ctx.now() + duration(2 * SEC);
            if let Some(session) = self.session(conn) {
                session.app = None;
                session.stream.close(deadline, Some(StreamError::new("policy-violation")));
            }
            return;
        }
        let sessions = self.sessions.iter().filter(|it| it.app == Some(app) && it.conn != conn);
        let conns = sessions.map(|session| session.conn);
        let standing: Vec<_> = conns.filter(|conn| !self.network.is_broken(*conn)).collect();
        oracle::read(ctx, (conn, &standing), app, to, call, stanza.raw());
    }

    /// Where there are other connections, what has no known type is all that comes back on this one.
    fn answer_ping(&mut self, ctx: &mut Ctx, conn: u32, app: usize, stanza: &Stanza) {
        let answer = if ctx.profile.echoes_pings && !ctx.profile.spreads {
            stanza.raw().clone()
        } else {
            let domain = contacts::domain(app);
            let id = stanza.id().unwrap_or_default();
            let xml = format!(
                "<iq type='error' from='{domain}' to='{domain}' id='{id}'><error type='cancel'>\
                 <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            );
            xml.into()
        };
        self.send_on(ctx, conn, &answer);
    }

    /// A stanza for nobody here goes to an app all the same.
    pub(crate) fn misroute(&mut self, ctx: &mut Ctx) {
        let app = ctx.rng.index(ctx.profile.apps);
        let to = ctx.rng.pick(&["bot@a7.example", "bot@sub.a0.example", "a7.example"]);
        let xml = format!(
            "<message from='c0@users.example/r0' to='{to}' id='k0-7-0'><body>lost</body></message>"
        );
        ctx.say(|| format!("server: misroutes {xml}"));
        self.send_to(ctx, app, 0, xml.as_bytes());
    }

    /// The server goes down, politely or not, and is up again after `down`.
    pub(crate) fn restart(&mut self, ctx: &mut Ctx, politely: bool, down: Time) {
        ctx.say(|| format!("server: stops, politely: {politely}"));
        ctx.saw(Rare::ServerRestart, 1);
        self.up = false;
        let conns: Vec<u32> = self.sessions.iter().map(|session| session.conn).collect();
        for conn in conns {
            if let Some(session) = self.session(conn).filter(|_| politely) {
                session.stream.close(ctx.now(), Some(StreamError::new("system-shutdown")));
                self.transmit(ctx, conn);
            }
            self.network.conn(conn).broken = true;
            self.network.close(ctx, conn, false);
        }
        self.sessions.clear();
        self.held.clear();
        ctx.after(down, Ev::ServerUp);
    }
}
