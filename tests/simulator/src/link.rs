//! One app's connection: what `core/src/net/driver.rs` and `shared.rs` do with a stream and a socket,
//! with the simulated network in the place of the socket.

use std::collections::VecDeque;

use appxmpp::auth::Secret;
use appxmpp::service::Service;
use appxmpp::service::gate::{self, Gate, Way};
use appxmpp::stanza::Stanza;
use appxmpp::store::Fellows;
use appxmpp::stream::{self, Barrier, ComponentConfig, ComponentStream, Keepalive, Question};
use bytes::Bytes;

use crate::contacts;
use crate::ctx::{Ctx, Ev, MS, NEVER, Rare, SEC, Time, duration, time};
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

/// What a connection is doing that is not up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// Another process has the stream.
    Standby,
    /// What a process that is gone left is to be taken over first.
    TakingOver,
}

/// Whether to connect, where several processes may.
struct Pass {
    gate: Gate,
    /// An attempt is being considered.
    begun: bool,
    asked: Option<(Time, appxmpp::Result<Fellows>)>,
}

/// How soon is looked again whether another connection still has the stream.
const STANDBY: Time = 500 * MS;

pub(crate) struct Link {
    app: usize,
    phase: Phase,
    pass: Option<Pass>,
    live: Option<Live>,
    dial_at: Time,
    tries: u32,
    sent_before: u64,
    closing: bool,
    streams: u32,
    pub(crate) events: VecDeque<Event>,
}

impl Link {
    pub(crate) fn new(app: usize, now: Time, service: &Service) -> Self {
        let mut phase = Phase::Connecting;
        let mut gate = Gate::new(true);
        let shared = service.is_shared();
        if shared && gate.judge(duration(now), service.fellows(), false) == Way::Left {
            phase = Phase::TakingOver;
        }
        let waits = if phase == Phase::TakingOver { time(gate::LOOK) } else { 0 };
        Self {
            app,
            phase,
            pass: shared.then_some(Pass { gate, begun: false, asked: None }),
            live: None,
            dial_at: now + waits,
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

    /// Another process has the stream.
    pub(crate) fn is_standby(&self) -> bool {
        self.phase == Phase::Standby && !self.is_ready()
    }

    pub(crate) fn is_taking_over(&self) -> bool {
        self.phase == Phase::TakingOver
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
        config.one_of_several = self.pass.is_some();
        config.barrier = ctx.profile.durable.then_some(Barrier {
            stanzas: ctx.profile.barrier_stanzas,
            within: duration(ctx.profile.barrier_within),
        });
        ctx.say(|| format!("app {} dials: connection {conn} of run {run}", self.app));
        ctx.oracle.dialled(conn, run);
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
        let asked = self.pass.as_ref().and_then(|pass| pass.asked.as_ref());
        let Some(live) = &self.live else { return asked.map_or(self.dial_at, |(at, _)| *at) };
        live.stream.poll_timeout().map_or(NEVER, time)
    }

    pub(crate) fn begin_close(&mut self, ctx: &Ctx) {
        self.closing = true;
        self.dial_at = NEVER;
        if let Some(pass) = &mut self.pass {
            pass.asked = None;
        }
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

    /// Looks at the others before an attempt, as `core/src/net/driver.rs` does: `Some` if it is not made
    /// yet, with whether anything moved.
    fn put_off(&mut self, ctx: &mut Ctx, service: &Service) -> Option<bool> {
        let pass = self.pass.as_mut()?;
        if !std::mem::replace(&mut pass.begun, true) {
            pass.gate.begin();
        }
        let Some((at, asked)) = pass.asked.take() else {
            let answer_at = ctx.now + 1 + ctx.rng.below(ctx.profile.latency);
            pass.asked = Some((answer_at, service.fellows()));
            return Some(true);
        };
        if at > ctx.now {
            pass.asked = Some((at, asked));
            return Some(false);
        }
        let standby = self.phase == Phase::Standby;
        let way = pass.gate.judge(ctx.now(), asked, standby);
        ctx.note(way as u64);
        self.phase = match way {
            Way::Clear | Way::Overdue => {
                pass.begun = false;
                if self.phase == Phase::TakingOver {
                    self.phase = Phase::Connecting;
                }
                return None;
            }
            Way::Taken => Phase::Standby,
            Way::Left => Phase::TakingOver,
        };
        self.dial_at = ctx.now + time(gate::LOOK);
        Some(true)
    }

    /// Does what there is to do now; says whether there was anything.
    pub(crate) fn drive(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        service: &Service,
        run: u32,
    ) -> bool {
        if self.live.is_none() {
            if self.dial_at > ctx.now {
                return false;
            }
            if let Some(moved) = self.put_off(ctx, service) {
                return moved;
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
                    self.phase = Phase::Connecting;
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

    /// Notes whether another connection has the stream; `true` if it did at the last attempt too.
    fn stand_by(&mut self, ctx: &mut Ctx, conflict: bool) -> bool {
        if self.pass.is_none() {
            return false;
        }
        let stood_by = self.phase == Phase::Standby;
        self.phase = if conflict { Phase::Standby } else { Phase::Connecting };
        ctx.saw(Rare::StoodBy, u64::from(conflict && !stood_by));
        stood_by && conflict
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
        let conflict = reason.condition() == Some("conflict");
        if !self.stand_by(ctx, conflict) {
            self.events.push_back(Event::Disconnected);
        }
        self.try_again(ctx);
        if self.pass.is_some() && conflict && self.dial_at != NEVER {
            self.dial_at = ctx.now + STANDBY;
        }
        if self.dial_at != NEVER {
            ctx.at(self.dial_at, Ev::Tick);
        }
    }
}
