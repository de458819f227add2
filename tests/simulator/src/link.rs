//! One app's connection: what `core/src/net/driver.rs` and `shared.rs` do with a stream and a socket,
//! with the simulated network in the place of the socket.

use std::collections::VecDeque;

use appxmpp::auth::Secret;
use appxmpp::stanza::Stanza;
use appxmpp::stream::{self, Barrier, ComponentConfig, ComponentStream, Keepalive, Question};
use bytes::Bytes;

use crate::contacts;
use crate::ctx::{Ctx, Ev, MS, NEVER, SEC, Time, duration, time};
use crate::server::{SECRET, Server};

/// What the app's task is told, in this order.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
pub(crate) enum Event {
    Ready,
    Stanza { conn: u32, stanza: Stanza },
    Acked(u64),
    Cut { position: u64, blamed: bool },
    Disconnected,
}

/// The stream errors that a server gives for what it was sent.
const BLAMING: [&str; 4] = ["invalid-from", "not-well-formed", "policy-violation", "invalid-xml"];

struct Live {
    conn: u32,
    stream: ComponentStream,
    /// Written by the stream, and not taken by the socket.
    out: Vec<u8>,
    /// How many stanzas `out` holds at most.
    stanzas: usize,
    /// Received, and not given to the stream because nobody takes its events.
    unread: VecDeque<Vec<u8>>,
    sent: u64,
    ready: bool,
}

/// What became of stanzas that were handed in.
pub(crate) enum Submitted {
    NotReady,
    Full,
    /// The position of the last, over all streams, and the connection.
    Taken(u64, u32),
}

pub(crate) struct Link {
    app: usize,
    live: Option<Live>,
    dial_at: Time,
    tries: u32,
    sent_before: u64,
    closing: bool,
    streams: u32,
    pub(crate) events: VecDeque<Event>,
}

impl Link {
    pub(crate) fn new(app: usize, now: Time) -> Self {
        Self {
            app,
            live: None,
            dial_at: now,
            tries: 0,
            sent_before: 0,
            closing: false,
            streams: 0,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn conn(&self) -> Option<u32> {
        self.live.as_ref().map(|live| live.conn)
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.closing && self.live.as_ref().is_some_and(|live| live.ready)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.live.is_none()
    }

    pub(crate) fn has_room(&self, ctx: &Ctx) -> bool {
        self.live.as_ref().is_some_and(|live| live.stanzas < ctx.profile.outbound)
    }

    fn dial(&mut self, ctx: &mut Ctx, server: &mut Server, run: u32) {
        self.dial_at = NEVER;
        if !server.up {
            return self.try_again(ctx);
        }
        let conn = server.accept(ctx);
        self.streams += 1;
        let domain = contacts::domain(self.app);
        let keepalive = Keepalive {
            idle: duration(ctx.profile.keepalive_idle),
            answer: duration(ctx.profile.keepalive_answer),
            question: Question::Ping(domain.clone()),
        };
        let mut config = ComponentConfig::new(
            domain,
            Secret::new(SECRET),
            format!("p{run}-{}-{}-", self.app, self.streams),
        );
        config.keepalive = Some(keepalive);
        config.barrier = ctx.profile.durable.then_some(Barrier {
            stanzas: ctx.profile.barrier_stanzas,
            within: duration(ctx.profile.barrier_within),
        });
        ctx.say(|| format!("app {} dials: connection {conn}", self.app));
        self.live = Some(Live {
            conn,
            stream: ComponentStream::new(config, ctx.now()),
            out: Vec::new(),
            stanzas: 0,
            unread: VecDeque::new(),
            sent: 0,
            ready: false,
        });
    }

    fn try_again(&mut self, ctx: &mut Ctx) {
        self.tries += 1;
        let most = ((500 * MS) << self.tries.min(4)).min(5 * SEC);
        self.dial_at = if self.closing { NEVER } else { ctx.now + ctx.rng.range(most / 2, most) };
    }

    pub(crate) fn receive(&mut self, conn: u32, data: Vec<u8>) {
        if let Some(live) = self.live.as_mut().filter(|live| live.conn == conn) {
            live.unread.push_back(data);
        }
    }

    pub(crate) fn next_timeout(&self) -> Time {
        let Some(live) = &self.live else { return self.dial_at };
        live.stream.poll_timeout().map_or(NEVER, time)
    }

    pub(crate) fn begin_close(&mut self, ctx: &Ctx) {
        self.closing = true;
        self.dial_at = NEVER;
        if let Some(live) = &mut self.live {
            live.stream.close(ctx.now(), ctx.now() + duration(SEC));
        }
    }

    /// Hands stanzas to the stream; with `cut` only if the last stream that ended did so there.
    pub(crate) fn submit(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        stanzas: &[Bytes],
        cut: Option<u64>,
    ) -> Submitted {
        if !self.is_ready() {
            return Submitted::NotReady;
        }
        let Some(live) = &mut self.live else { return Submitted::NotReady };
        let stale = cut.is_some_and(|cut| cut != self.sent_before);
        if stale || (live.stanzas >= ctx.profile.outbound && !live.out.is_empty()) {
            return Submitted::Full;
        }
        // It may have ended, and nobody has taken that event yet.
        if !live.stream.is_ready() {
            return Submitted::NotReady;
        }
        for stanza in stanzas {
            match live.stream.send(ctx.now(), stanza) {
                Ok(position) => live.sent = position,
                Err(error) => ctx.violated(|| format!("the stream refuses what was made: {error}")),
            }
        }
        live.stanzas += stanzas.len();
        let taken = Submitted::Taken(self.sent_before + live.sent, live.conn);
        self.flush(ctx, server);
        taken
    }

    fn flush(&mut self, ctx: &mut Ctx, server: &mut Server) {
        let Some(live) = &mut self.live else { return };
        live.stream.poll_transmit(&mut live.out);
        let blocked_until = server.network.conn(live.conn).blocked_until;
        if live.out.is_empty() || blocked_until > ctx.now {
            return;
        }
        live.stanzas = 0;
        let out = std::mem::take(&mut live.out);
        server.network.write(ctx, live.conn, true, out);
    }

    /// Does what there is to do now; says whether there was anything.
    pub(crate) fn drive(&mut self, ctx: &mut Ctx, server: &mut Server, run: u32) -> bool {
        if self.live.is_none() {
            if self.dial_at > ctx.now {
                return false;
            }
            self.dial(ctx, server, run);
            return true;
        }
        let mut moved = false;
        if let Some(live) = &mut self.live
            && live.stream.poll_timeout().is_some_and(|due| due <= ctx.now())
        {
            live.stream.handle_timeout(ctx.now());
            moved = true;
        }
        loop {
            moved |= self.poll(ctx, server);
            let full = self.events.len() >= ctx.profile.inbound;
            let Some(live) = &mut self.live else { return true };
            // As long as nobody takes its events the stream gets no input.
            if full && live.stream.has_backlog() {
                break;
            }
            let Some(data) = live.unread.pop_front() else { break };
            live.stream.handle_input(ctx.now(), &data);
            moved = true;
        }
        self.flush(ctx, server);
        moved
    }

    fn poll(&mut self, ctx: &mut Ctx, server: &mut Server) -> bool {
        let mut moved = false;
        while let Some(live) = &mut self.live {
            if self.events.len() >= ctx.profile.inbound && !live.stream.is_logging_in() {
                break;
            }
            let Some(event) = live.stream.poll_event() else { break };
            moved = true;
            match event {
                stream::Event::Ready => {
                    live.ready = true;
                    self.tries = 0;
                    self.events.push_back(Event::Ready);
                }
                stream::Event::Stanza(stanza) => {
                    self.events.push_back(Event::Stanza { conn: live.conn, stanza });
                }
                stream::Event::Acked(position) => {
                    self.events.push_back(Event::Acked(self.sent_before + position));
                }
                stream::Event::Skipped(error) => {
                    ctx.violated(|| format!("a good stanza was left out: {error}"));
                }
                stream::Event::Closed(reason) => self.ended(ctx, server, &reason),
                _ => {}
            }
        }
        moved
    }

    fn ended(&mut self, ctx: &mut Ctx, server: &mut Server, reason: &stream::Closed) {
        self.flush(ctx, server);
        let Some(live) = self.live.take() else { return };
        ctx.say(|| format!("app {}: connection {} ended: {reason}", self.app, live.conn));
        ctx.note(3);
        let silent = matches!(reason, stream::Closed::Silence(_));
        if silent && !ctx.stalled && !server.network.is_broken(live.conn) {
            ctx.violated(|| format!("a live server was taken for dead: {reason}"));
        }
        server.network.close(ctx, live.conn, true);
        server.network.conn(live.conn).broken = true;
        self.sent_before += live.sent;
        if ctx.profile.durable {
            let blamed = reason.condition().is_some_and(|it| BLAMING.contains(&it));
            self.events.push_back(Event::Cut { position: self.sent_before, blamed });
        }
        self.events.push_back(Event::Disconnected);
        self.try_again(ctx);
        if self.dial_at != NEVER {
            ctx.at(self.dial_at, Ev::Tick);
        }
    }
}
