//! Scenarios of an ordinary account: the product's client stream, its log-in, its acknowledgements and
//! its resumption, through cuts at any byte and sessions that the server forgets.

use std::collections::VecDeque;

use appxmpp::Jid;
use appxmpp::auth::Secret;
use appxmpp::auth::sasl::ChannelBindings;
use appxmpp::stream::{
    Barrier, ClientConfig, ClientEvent, ClientStream, Encryption, Keepalive, Question, Resumption,
};

use crate::c2s::Host;
use crate::ctx::{Ctx, Ev, Kind, MS, NEVER, Rare, SEC, Time, duration, time};
use crate::oracle::attribute;
use crate::rng::Rng;

const REST: Time = 400 * SEC;

/// One message of the account.
#[derive(Debug, Default, Clone)]
struct Sent {
    /// How often the server read it, and in which session first.
    read: u32,
    /// The stream gave it up, so that it may be read again.
    given_back: bool,
    acked: bool,
    /// The process that was to send it died; this side keeps nothing.
    forgotten: bool,
}

/// What has to be true.
#[derive(Debug, Default)]
pub(crate) struct Book {
    sent: Vec<Sent>,
    last_read: Option<usize>,
    /// Which messages for the account it got, and in which session last.
    got: Vec<u32>,
    /// Which of them are on the account's disk.
    stored: Vec<bool>,
    last_got: Option<usize>,
}

impl Book {
    /// The server was told that the account is done with the message `number`.
    pub(crate) fn confirmed(&self, ctx: &mut Ctx, number: usize) {
        if self.stored.get(number) != Some(&true) {
            ctx.violated(|| format!("d{number} was acknowledged and is not stored"));
        }
    }

    /// The server has handled the account's message `number`.
    pub(crate) fn read(&mut self, ctx: &mut Ctx, session: u32, number: usize) {
        ctx.note(number as u64 ^ u64::from(session) << 32);
        let last = self.last_read;
        let Some(sent) = self.sent.get_mut(number) else {
            return ctx.violated(|| format!("m{number} was read, which nobody sent"));
        };
        sent.read += 1;
        let again = sent.read > 1;
        if again && !sent.given_back {
            return ctx
                .violated(|| format!("m{number} was read again in a session that was resumed"));
        }
        if !again {
            self.last_read = Some(number);
        }
        if !again && last.is_some_and(|last| last > number) {
            ctx.violated(|| format!("m{number} was read out of order"));
        }
    }

    /// The account got the message `number`.
    fn get(&mut self, ctx: &mut Ctx, session: u32, number: usize) {
        if self.got.len() <= number {
            self.got.resize(number + 1, 0);
            self.stored.resize(number + 1, false);
        }
        let before = std::mem::replace(&mut self.got[number], session);
        if before == session && self.stored[number] {
            ctx.violated(|| format!("d{number} came twice in one session"));
        }
        if before == 0 {
            if self.last_got.is_some_and(|last| last > number) {
                ctx.violated(|| format!("d{number} came out of order"));
            }
            self.last_got = Some(number);
        }
    }
}

pub(crate) struct World {
    pub(crate) ctx: Ctx,
    host: Host,
    book: Book,
    stream: Option<ClientStream>,
    conn: u32,
    session: u32,
    resumption: Option<Resumption>,
    dial_at: Time,
    streams: u32,
    /// Sent in this session and not acknowledged, with their positions.
    in_flight: VecDeque<(u64, usize)>,
    to_send: VecDeque<usize>,
    /// What was handed out and is not on the disk: until when, which session and position, and which
    /// message.
    storing: VecDeque<(Time, (u32, u32), usize)>,
    /// Messages for the account so far.
    for_account: usize,
    paused_until: Time,
    acts_left: u64,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut ctx = Ctx::new(Rng::new(seed), traced, Kind::Alone);
        let profile = format!("{:?}", ctx.profile);
        ctx.say(|| format!("an account; {profile}"));
        let host = Host::new(&mut ctx);
        ctx.after(100 * MS, Ev::Act);
        Self {
            acts_left: ctx.profile.acts,
            dial_at: ctx.now,
            ctx,
            host,
            book: Book::default(),
            stream: None,
            conn: 0,
            session: 0,
            resumption: None,
            streams: 0,
            in_flight: VecDeque::new(),
            to_send: VecDeque::new(),
            storing: VecDeque::new(),
            for_account: 0,
            paused_until: 0,
            steps: 0,
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.book.sent.len()
    }

    pub(crate) fn run(&mut self) {
        let mut rest_by = NEVER;
        while self.ctx.violation.is_none() {
            if self.acts_left == 0 && self.ctx.turbulent {
                self.ctx.turbulent = false;
                self.ctx.say(|| "no more faults from here on".to_owned());
                rest_by = self.ctx.now + REST;
            }
            if !self.ctx.turbulent && self.is_at_rest() {
                return;
            }
            let next = self.next_at();
            if self.ctx.now > rest_by || next == NEVER {
                let (in_flight, to_send) = (self.in_flight.len(), self.to_send.len());
                let got = self.book.stored.iter().filter(|stored| **stored).count();
                let (wanted, up) = (self.for_account, self.is_ready());
                return self.ctx.violated(|| {
                    format!("no rest: up {up}, {in_flight} in flight, {to_send} to send, {got} of {wanted} came")
                });
            }
            self.ctx.now = self.ctx.now.max(next);
            self.steps += 1;
            self.host.tick(&mut self.ctx, &mut self.book);
            while self.ctx.next_at() <= self.ctx.now && self.ctx.violation.is_none() {
                let Some(what) = self.ctx.pop() else { break };
                self.steps += 1;
                self.handle(what);
            }
            self.drive();
        }
    }

    fn next_at(&self) -> Time {
        let own = match &self.stream {
            Some(stream) => stream.poll_timeout().map_or(NEVER, time),
            None => self.dial_at,
        };
        let own = own.min(self.storing.front().map_or(NEVER, |(at, ..)| *at));
        self.ctx.next_at().min(own.max(self.paused_until))
    }

    fn is_ready(&self) -> bool {
        self.stream.as_ref().is_some_and(ClientStream::is_ready)
    }

    fn is_at_rest(&self) -> bool {
        let stored = &self.book.stored;
        let all = stored.len() == self.for_account && stored.iter().all(|stored| *stored);
        let read = self.book.sent.iter().all(|it| it.forgotten || it.read > 0 && it.acked);
        self.is_ready() && self.in_flight.is_empty() && self.to_send.is_empty() && all && read
    }

    fn handle(&mut self, what: Ev) {
        match what {
            Ev::Bytes { conn, to_server, data } => {
                if !data.is_empty() && !self.host.network.arrives(conn, to_server) {
                    return;
                }
                if to_server {
                    self.host.handle_bytes(&mut self.ctx, &mut self.book, conn, data);
                } else if conn == self.conn
                    && let Some(stream) = &mut self.stream
                {
                    stream.handle_input(self.ctx.now(), &data);
                }
            }
            Ev::Act => self.act(),
            _ => {}
        }
    }

    fn act(&mut self) {
        self.acts_left -= 1;
        if self.acts_left > 0 {
            let pause = self.ctx.rng.below(self.ctx.profile.act_every);
            self.ctx.after(pause, Ev::Act);
        }
        let a_while = self.ctx.rng.range(100 * MS, 12 * SEC);
        let calm = self.ctx.profile.faults.is_empty();
        match self.ctx.rng.below(if calm { 16 } else { 21 }) {
            0..=9 => {
                for _ in 0..self.ctx.rng.range(1, 4) {
                    self.to_send.push_back(self.book.sent.len());
                    self.book.sent.push(Sent::default());
                }
            }
            10..=15 => {
                for _ in 0..self.ctx.rng.range(1, 3) {
                    self.host.send(&mut self.ctx, self.for_account);
                    self.for_account += 1;
                }
            }
            16 | 17 => {
                let silent = self.ctx.rng.permille(400);
                if self.stream.is_some() {
                    self.host.network.cut(&mut self.ctx, self.conn, silent, None);
                }
            }
            18 => {
                let until = self.ctx.now + a_while;
                self.host.paused_until = self.host.paused_until.max(until);
                self.ctx.at(until, Ev::Tick);
            }
            19 => self.crash(),
            _ => {
                self.ctx.saw(Rare::ServerRestart, 1);
                self.host.restart(&mut self.ctx);
            }
        }
    }

    /// The process dies; another starts. What was only in its memory is gone.
    fn crash(&mut self) {
        self.ctx.saw(Rare::Crash, 1);
        self.ctx.say(|| "the account's process dies".to_owned());
        let silent = self.ctx.rng.permille(200);
        if self.stream.take().is_some() {
            self.host.network.cut(&mut self.ctx, self.conn, silent, Some(true));
        }
        self.resumption = None;
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().map(|(_, number)| number);
        for number in in_flight.chain(std::mem::take(&mut self.to_send)) {
            self.book.sent[number].forgotten = true;
        }
        for (.., number) in std::mem::take(&mut self.storing) {
            if !self.book.stored[number] {
                self.book.got[number] = 0;
            }
        }
        self.book.last_got = None;
        self.dial_at = self.ctx.now + self.ctx.rng.range(50 * MS, 2 * SEC);
    }

    /// What the disk has is confirmed: to the stream, or while there is none to what it left.
    fn store(&mut self) {
        while let Some((at, (session, position), number)) = self.storing.front().copied()
            && at <= self.ctx.now
        {
            self.storing.pop_front();
            self.book.stored[number] = true;
            if session != self.session {
                continue;
            }
            match (&mut self.stream, &mut self.resumption) {
                (Some(stream), _) => stream.confirm(position),
                (None, Some(resumption)) => resumption.confirm(position),
                (None, None) => {}
            }
        }
        if self.storing.is_empty()
            && let Some(stream) = &mut self.stream
        {
            stream.confirm(stream.received());
        }
    }

    /// The driver of the stream.
    fn drive(&mut self) {
        if self.stream.is_none() && self.dial_at <= self.ctx.now {
            self.dial();
        }
        let now = self.ctx.now();
        if self.stream.is_none() {
            self.store();
        }
        let Some(stream) = &mut self.stream else { return };
        if stream.poll_timeout().is_some_and(|due| due <= now) {
            stream.handle_timeout(now);
        }
        self.poll();
        self.store();
        self.send();
        self.flush();
    }

    fn dial(&mut self) {
        self.conn = self.host.accept();
        self.streams += 1;
        let Ok(jid) = Jid::parse("me@users.example/r") else { return };
        let (nonce, prefix) = (format!("n{}", self.streams), format!("p{}-", self.streams));
        let mut config = ClientConfig::new(jid, Secret::new("secret"), nonce, prefix);
        config.encryption = Encryption::Direct;
        config.plain = true;
        config.confirm = true;
        config.keepalive = Some(Keepalive {
            idle: duration(self.ctx.profile.keepalive_idle),
            answer: duration(self.ctx.profile.keepalive_answer),
            question: Question::Ping("users.example".to_owned()),
        });
        config.barrier = Barrier {
            stanzas: self.ctx.profile.barrier_stanzas,
            within: duration(self.ctx.profile.barrier_within),
        };
        let resumption = self.resumption.take();
        let (conn, resumes) = (self.conn, resumption.is_some());
        self.ctx.say(|| format!("the account dials: connection {conn}, to resume: {resumes}"));
        let mut stream = ClientStream::new(config, resumption, self.ctx.now());
        stream.handle_tls(self.ctx.now(), ChannelBindings::default());
        self.stream = Some(stream);
    }

    fn poll(&mut self) {
        while let Some(event) = self.stream.as_mut().and_then(ClientStream::poll_event) {
            match event {
                ClientEvent::Ready { resumed, .. } => {
                    self.ctx.note(10 + u64::from(resumed));
                    self.ctx.say(|| format!("the account is up, resumed: {resumed}"));
                    self.ready(resumed);
                }
                ClientEvent::Stanza(stanza) => {
                    let number = stanza.id().and_then(|id| id.strip_prefix('d')?.parse().ok());
                    if let Some(number) = number {
                        self.got(number);
                    }
                }
                ClientEvent::Acked(position) => self.acked(position),
                ClientEvent::Unacked(stanzas) => self.unacked(&stanzas),
                ClientEvent::Skipped(error) => {
                    self.ctx.violated(|| format!("a good stanza was left out: {error}"));
                }
                ClientEvent::Closed(reason) => {
                    self.ctx.say(|| format!("the account's stream ended: {reason}"));
                    self.flush();
                    let conn = self.conn;
                    self.host.network.close(&mut self.ctx, conn, true);
                    self.resumption = self.stream.take().and_then(ClientStream::into_resumption);
                    if self.resumption.is_none() {
                        self.give_back();
                    }
                    self.dial_at = self.ctx.now + self.ctx.rng.range(100 * MS, 2 * SEC);
                }
                _ => {}
            }
        }
    }

    /// A message is handed out: the disk gets it, after those before it.
    fn got(&mut self, number: usize) {
        self.book.get(&mut self.ctx, self.session, number);
        let position = self.stream.as_ref().map_or(0, ClientStream::received);
        let last = self.storing.back().map_or(0, |(at, ..)| *at);
        let at = last.max(self.ctx.now + self.ctx.rng.below(self.ctx.profile.flush));
        self.storing.push_back((at, (self.session, position), number));
    }

    fn ready(&mut self, resumed: bool) {
        if !resumed && !self.in_flight.is_empty() {
            self.ctx.violated(|| {
                "a new session began, and what was unacknowledged was not given back".to_owned()
            });
        }
        self.session += u32::from(!resumed);
        self.ctx.saw(Rare::Resumed, u64::from(resumed));
    }

    fn acked(&mut self, position: u64) {
        while let Some((at, number)) = self.in_flight.front().copied()
            && at <= position
        {
            self.in_flight.pop_front();
            let sent = &mut self.book.sent[number];
            sent.acked = true;
            if sent.read == 0 {
                self.ctx
                    .violated(|| format!("m{number} counts as handled, and nobody has read it"));
            }
        }
    }

    /// The session is lost: what the server did not acknowledge is given back, and is sent again.
    fn unacked(&mut self, stanzas: &[bytes::Bytes]) {
        let numbers = stanzas.iter().filter_map(|stanza| {
            let text = String::from_utf8_lossy(stanza);
            attribute(&text, "id")?.strip_prefix('m')?.parse::<usize>().ok()
        });
        let given: Vec<usize> = numbers.collect();
        // The server may have said how far it got: then the first of them are done.
        while self.in_flight.len() > given.len() {
            let Some((_, number)) = self.in_flight.pop_front() else { break };
            let sent = &mut self.book.sent[number];
            sent.acked = true;
            if sent.read == 0 {
                self.ctx
                    .violated(|| format!("m{number} was not given back, and nobody has read it"));
            }
        }
        if !self.in_flight.iter().map(|(_, number)| *number).eq(given.iter().copied()) {
            let in_flight = self.in_flight.clone();
            self.ctx.violated(|| format!("{given:?} were given back of {in_flight:?}"));
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        self.ctx.saw(Rare::Repeated, self.in_flight.len() as u64);
        for (_, number) in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.book.sent[number].given_back = true;
            self.to_send.push_front(number);
        }
    }

    fn send(&mut self) {
        if !self.is_ready() {
            return;
        }
        while let (Some(number), Some(stream)) = (self.to_send.pop_front(), &mut self.stream) {
            let xml = format!(
                "<message to='c0@users.example' id='m{number}'><body>hello</body></message>"
            );
            match stream.send(self.ctx.now(), xml.as_bytes()) {
                Ok(position) => self.in_flight.push_back((position, number)),
                Err(error) => {
                    self.ctx.violated(|| format!("the stream refuses a message: {error}"))
                }
            }
        }
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        if self.stream.as_mut().is_some_and(|stream| stream.poll_transmit(&mut out)) {
            self.host.network.write(&mut self.ctx, self.conn, true, out);
        }
    }
}
