//! The task that keeps one connection up.

mod account;
mod read;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::cause::Cause;
use super::connection::Event;
use super::cork::Cork;
use super::dial::{Ended, connect, never_up, role};
use super::inbound::Weight;
use super::outbound::Outbound;
use super::refusal::refused;
use super::request::no_answer;
use super::role::{Happened, Role};
use super::shared::{Link, Phase, Shared, State};
use super::socket::Socket;
use super::stats::{add, random};
use super::tls::Trust;
use crate::error::{Error, ErrorKind, Result};
use crate::service::Way;
use crate::service::gate::LOOK;
use crate::stanza::{Stanza, StanzaKind};
use crate::stream::Closed;
#[cfg(feature = "client")]
use crate::stream::Resumption;
use account::{Hashing, hashed};

/// What is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How long the last words of a stream that ended may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How soon is looked again whether another connection still has the stream.
const STANDBY: Duration = Duration::from_millis(500);
/// How far ahead the timer is set when nothing is due.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The stream errors (RFC 6120 §4.9.3) that a server gives for what it was sent.
const BLAMING: [&str; 12] = [
    "bad-format",
    "bad-namespace-prefix",
    "improper-addressing",
    "invalid-from",
    "invalid-namespace",
    "invalid-xml",
    "not-well-formed",
    "policy-violation",
    "restricted-xml",
    "undefined-condition",
    "unsupported-encoding",
    "unsupported-stanza-type",
];

/// Connects, again and again, until the connection is closed or refused for good.
pub(super) async fn run(shared: Arc<Shared>) {
    let _at_end = AtEnd(&shared);
    let mut backoff = Backoff::new(random());
    let mut trust = None;
    let mut refusals = 0;
    let (kind, reason) = loop {
        pass(&shared).await;
        let ended = attempt(&shared, &mut trust).await;
        refusals = if ended.refused.is_some() { refusals + 1 } else { 0 };
        if shared.lock().close_by.is_some() {
            break (ErrorKind::Closed, "the connection was closed".to_owned());
        }
        add(&shared.counters.disconnects, 1);
        if let Some(refused) = ended.refused.filter(|refused| refused.at_once || refusals >= 2) {
            disconnected(&shared, ended.reason, ended.cause, None);
            break (refused.kind, refused.text);
        }
        backoff.lost_after(ended.up);
        let delay = if stand_by(&shared, ended.conflict) {
            debug!(domain = %shared.config.domain, "still standing by");
            backoff.lost_after(Backoff::STABLE);
            STANDBY
        } else {
            let delay = if ended.conflict { STANDBY } else { backoff.delay() };
            disconnected(&shared, ended.reason, ended.cause, Some(delay));
            delay
        };
        if !pause(&shared, delay).await {
            break (ErrorKind::Closed, "the connection was closed".to_owned());
        }
    };
    end(&shared, kind, reason);
}

/// Waits until nothing is left of a process that is gone that this connection would go ahead of, and,
/// standing by, until no other process is known to have the stream.
async fn pass(shared: &Shared) {
    let Some(gate) = &shared.gate else { return };
    let standby = shared.lock().phase == Phase::Standby;
    if shared.lock().phase == Phase::TakingOver && !pause(shared, LOOK).await {
        return;
    }
    gate.begin();
    loop {
        let way = tokio::select! {
            way = gate.look(standby) => way,
            () = closing(shared) => return,
        };
        let phase = match way {
            Way::Clear => break,
            Way::Overdue => {
                warn!(
                    own = shared.config.own(),
                    "nobody has taken over what another process left; what comes now may come before it"
                );
                break;
            }
            Way::Taken => Phase::Standby,
            Way::Left => Phase::TakingOver,
        };
        shared.lock().phase = phase;
        if !pause(shared, LOOK).await {
            return;
        }
    }
    let mut state = shared.lock();
    if state.phase == Phase::TakingOver {
        state.phase = Phase::Connecting;
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        watchers.into_iter().for_each(std::task::Waker::wake);
    }
}

/// Notes whether another connection has the stream; `true` if it did at the last attempt too.
fn stand_by(shared: &Shared, conflict: bool) -> bool {
    let mut state = shared.lock();
    let stood_by = state.phase == Phase::Standby;
    state.phase = match (&state.phase, conflict) {
        (Phase::Connecting | Phase::Standby, true) => Phase::Standby,
        (Phase::Standby, false) => Phase::Connecting,
        _ => return false,
    };
    stood_by && conflict
}

/// If the task ends in a way it does not know of (a panic, a runtime that is shut down), nobody is
/// left waiting.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        if matches!(self.0.lock().phase, Phase::Ended(..)) {
            return;
        }
        drop_link(self.0, &Closed::Lost);
        let what = "the connection's background task ended early; open another connection";
        end(self.0, ErrorKind::Internal, what.to_owned());
    }
}

fn disconnected(shared: &Shared, reason: String, cause: Cause, retry_in: Option<Duration>) {
    let own = shared.config.own();
    match retry_in {
        Some(delay) => info!(own, %reason, ?delay, "not connected; trying again"),
        None => warn!(own, %reason, "not connected"),
    }
    shared.inbound.push_all(&mut vec![Event::Disconnected { reason, cause, retry_in }]);
}

/// Sleeps for `delay`; `false` as soon as the connection is to be closed.
async fn pause(shared: &Shared, delay: Duration) -> bool {
    let until = Instant::now() + delay;
    loop {
        if shared.lock().close_by.is_some() {
            return false;
        }
        if timeout_at(until, shared.wake.notified()).await.is_err() {
            return true;
        }
    }
}

fn end(shared: &Shared, kind: ErrorKind, reason: String) {
    let mut state = shared.lock();
    state.phase = Phase::Ended(kind, reason);
    let watchers = std::mem::take(&mut state.watchers);
    drop(state);
    shared.inbound.end();
    watchers.into_iter().for_each(std::task::Waker::wake);
}

/// One connection, from dialling to its end.
async fn attempt(shared: &Shared, trust: &mut Option<Trust>) -> Ended {
    let config = &shared.config;
    debug!(own = config.own(), endpoint = %config.endpoint, "connecting");
    let connected = tokio::select! {
        connected = connect(shared, trust) => connected,
        () = closing(shared) => {
            return never_up(Cause::Other, "the connection was closed".to_owned());
        }
    };
    let (socket, tls) = match connected {
        Ok(connected) => connected,
        Err(ended) => return ended,
    };
    let socket = Arc::new(socket);
    let out = Outbound::new(config.outbound);
    {
        let mut state = shared.lock();
        let stream = role(shared, &mut state);
        let (socket, cork) = (Arc::clone(&socket), Cork::default());
        state.link = Some(Link { stream, socket, tls, out, cork, sent: 0, broken: false });
    }
    let mut serving = Serving::new(shared, socket, trust.as_ref());
    let closed = serving.serve().await;
    let up = serving.up_since.map_or(Duration::ZERO, |since| shared.now().saturating_sub(since));
    if matches!(closed, Closed::Insecure(_)) {
        // Whoever mends the certificates need not open another connection.
        *trust = None;
    }
    drop_link(shared, &closed);
    // Of an account's session the newest counts: taking it back would go to and fro for ever.
    let conflict = config.account.is_none() && closed.condition() == Some("conflict");
    let (reason, cause) = (closed.to_string(), Cause::of_end(&closed));
    Ended { reason, cause, up, refused: refused(shared, &closed), conflict }
}

/// Resolves when the connection is to be closed.
async fn closing(shared: &Shared) {
    while shared.lock().close_by.is_none() {
        shared.wake.notified().await;
    }
}

/// Everybody who waited for the link learns that it is gone. What it carried is lost too, unless it
/// was a session that the next link may go on with.
fn drop_link(shared: &Shared, closed: &Closed) {
    let blamed = closed.condition().is_some_and(|it| BLAMING.contains(&it));
    let mut state = shared.lock();
    let link = state.link.take();
    state.epoch += 1;
    if state.phase == Phase::Ready {
        state.phase = Phase::Connecting;
    }
    let requests = state.iqs.drain();
    let mut cut = None;
    if let Some(mut link) = link {
        state.last_written = link.out.written();
        let stats = link.stream.stats();
        add(&shared.counters.ignored, stats.ignored);
        link.out.wake_all();
        let sent = link.sent.max(state.session.sent);
        if !keep_session(&mut state, link.stream) {
            state.session.sent = sent;
            cut = Some(lose_session(&mut state, blamed));
        }
    }
    drop(state);
    if let Some(cut) = cut.filter(|_| shared.config.barrier.is_some()) {
        shared.inbound.push_all(&mut vec![cut]);
    }
    for (request, _) in requests {
        let what = "the stream broke before the answer came; ask again later";
        let _ = request.send(Err(Error::new(ErrorKind::NotConnected, what)));
    }
}

/// Keeps what the next link needs to go on with the session of `stream`, if it may.
#[cfg(feature = "client")]
fn keep_session(state: &mut State, stream: Role) -> bool {
    state.session.resumption = stream.into_resumption();
    state.session.sent = state.session.resumption.as_ref().map_or(0, Resumption::sent);
    state.session.resumption.is_some()
}

#[cfg(not(feature = "client"))]
fn keep_session(_: &mut State, _: Role) -> bool {
    false
}

/// What a session has taken that is over: the position of its last stanza.
fn lose_session(state: &mut State, blamed: bool) -> Event {
    state.sent_before += std::mem::take(&mut state.session.sent);
    Event::Cut { position: state.sent_before, blamed }
}

/// What the driver is to wait for.
struct Wanted {
    read: bool,
    write: bool,
    deadline: Instant,
}

struct Serving<'a> {
    shared: &'a Shared,
    socket: Arc<Socket>,
    #[cfg_attr(
        not(feature = "client"),
        expect(dead_code, reason = "for STARTTLS, which is an account's")
    )]
    trust: Option<&'a Trust>,
    up_since: Option<Duration>,
    events: Vec<Event>,
    /// What an encrypted connection was last found to hold.
    plain: Vec<u8>,
    /// Why the connection cannot be trusted.
    insecure: Option<String>,
    /// The password is being hashed, on another thread.
    hashing: Hashing,
}

impl<'a> Serving<'a> {
    fn new(shared: &'a Shared, socket: Arc<Socket>, trust: Option<&'a Trust>) -> Self {
        Self {
            shared,
            socket,
            trust,
            up_since: None,
            events: Vec::new(),
            plain: Vec::new(),
            insecure: None,
            hashing: Hashing::default(),
        }
    }

    async fn serve(&mut self) -> Closed {
        let mut buffer = vec![0; READ_BYTES];
        let timer = sleep_until(Instant::now() + FAR);
        tokio::pin!(timer);
        let socket = Arc::clone(&self.socket);
        loop {
            let wanted = match self.pump() {
                Ok(wanted) => wanted,
                Err(closed) => {
                    self.last_words().await;
                    return match self.insecure.take() {
                        Some(why) => Closed::Insecure(why),
                        None => closed,
                    };
                }
            };
            // A timer that is early does no harm; moving it for every stanza would.
            if wanted.deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(wanted.deadline);
            }
            tokio::select! {
                ready = socket.readable(), if wanted.read => {
                    let count = ready.and_then(|()| socket.try_read(&mut buffer));
                    self.read(count, &buffer);
                }
                ready = socket.writable(), if wanted.write => self.flush(ready),
                () = timer.as_mut() => {
                    // What has come in time counts, even if this process slept and is told of the
                    // time first.
                    if wanted.read {
                        self.read(socket.read_now(&mut buffer), &buffer);
                    }
                    self.handle_timeout();
                }
                key = hashed(&mut self.hashing) => self.handle_hashed(key),
                () = self.shared.wake.notified() => if self.shared.config.gather {
                    // Whoever is ready sends first.
                    tokio::task::yield_now().await;
                },
            }
        }
    }

    /// Hands on what happened, writes what is to be written, and says what to wait for; the error is
    /// how the stream ended.
    fn pump(&mut self) -> Result<Wanted, Closed> {
        let leaving = self.shared.config.confirm && self.is_leaving(&self.shared.lock());
        let mut room = if leaving { 0 } else { self.shared.inbound.room() };
        let mut closed = None;
        while closed.is_none() {
            let mut state = self.shared.lock();
            let Some(link) = &mut state.link else { break };
            if room == 0 && !link.stream.is_logging_in() {
                break;
            }
            let Some(event) = link.stream.poll_event() else { break };
            if let Some(event) = self.event(&mut state, event, &mut closed) {
                room = room.saturating_sub(1 + event.byte_len() / READ_BYTES);
                self.events.push(event);
            }
        }
        let wanted = self.settle(room > 0);
        self.shared.inbound.push_all(&mut self.events);
        // Whoever takes events out of a full queue wakes the driver. This one may not have been full
        // in the meantime, although the room that was found has been used up.
        if room == 0 && !leaving && self.shared.inbound.room() > 0 {
            self.shared.wake.notify_one();
        }
        match closed {
            Some(closed) => Err(closed),
            None => wanted,
        }
    }

    fn event(
        &mut self,
        state: &mut State,
        event: Happened,
        closed: &mut Option<Closed>,
    ) -> Option<Event> {
        let counters = &self.shared.counters;
        match event {
            Happened::Ready => {
                self.up_since = Some(self.shared.now());
                add(&counters.connects, 1);
                info!(own = self.shared.config.own(), "connected");
                if state.close_by.is_none() {
                    self.set_phase(state, Phase::Ready);
                }
                Some(Event::Ready)
            }
            Happened::Stanza(stanza) => {
                add(&counters.stanzas_in, 1);
                match answered(state, &stanza) {
                    Some(request) => {
                        let _ = request.send(Ok(stanza));
                        None
                    }
                    None => {
                        self.handed_out(state);
                        Some(Event::Stanza(stanza))
                    }
                }
            }
            Happened::Skipped(error) => {
                add(&counters.stanzas_in, 1);
                add(&counters.skipped, 1);
                debug!(%error, "a stanza was left out");
                Some(Event::Skipped(error))
            }
            Happened::Acked(position) => {
                if let Some(link) = &mut state.link {
                    link.out.wake_room();
                }
                Some(Event::Acked(state.sent_before + position))
            }
            Happened::Closed(reason) => {
                *closed = Some(reason);
                None
            }
            #[cfg(feature = "client")]
            other => self.account_event(state, other),
        }
    }

    fn set_phase(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        state.watchers.drain(..).for_each(std::task::Waker::wake);
    }

    /// Writes what there is to write, and begins to close if that was asked for.
    fn settle(&self, read: bool) -> Result<Wanted, Closed> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let close_by = state.close_by;
        self.confirm_rest(state);
        let settles_by = self.settles_by(state);
        let Some(link) = &mut state.link else { return Err(Closed::Lost) };
        if let Some(by) = close_by
            && settles_by.is_none()
            && !matches!(state.phase, Phase::Closing)
        {
            state.phase = Phase::Closing;
            let now = self.shared.now();
            let left = by.saturating_duration_since(Instant::now());
            link.stream.close(now, now + left);
            // Whoever waits for room in the queue waits in vain from now on.
            link.out.wake_room();
            self.shared.wake.notify_one();
        }
        let now = self.shared.now();
        link.stream.poll_transmit(link.out.buffer());
        if link.flush(now) {
            self.shared.wake.notify_one();
        }
        let read = read || !link.stream.has_backlog();
        let write = link.wants_write();
        let since = |by: Instant| by.saturating_duration_since(self.shared.origin);
        let (close_by, settles_by) = (close_by.map(since), settles_by.map(since));
        if close_by.is_some_and(|by| by <= now) {
            return Err(Closed::ByUs);
        }
        if link.cork.is_overdue(now) {
            link.push();
        }
        self.shared.held.store(link.cork.is_holding(), Ordering::Release);
        let corked = link.cork.poll_timeout(now);
        let due =
            [link.stream.poll_timeout(), state.iqs.poll_timeout(), close_by, settles_by, corked];
        let due = due.into_iter().flatten().min().unwrap_or(now + FAR);
        state.armed = due;
        Ok(Wanted { read, write, deadline: self.shared.origin + due })
    }

    fn flush(&self, ready: io::Result<()>) {
        if let Err(error) = ready {
            debug!(%error, "waiting to write failed");
        }
        let now = self.shared.now();
        if let Some(link) = &mut self.shared.lock().link {
            link.flush(now);
        }
    }

    fn handle_timeout(&self) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let late = state.iqs.handle_timeout(now);
        if let Some(link) = &mut state.link {
            link.stream.handle_timeout(now);
        }
        drop(state);
        for (request, waited) in late {
            let _ = request.send(Err(no_answer(waited)));
        }
    }

    /// Writes what the stream still has to say, without waiting long for a socket that is stuck.
    async fn last_words(&self) {
        let until = Instant::now() + LAST_WORDS;
        let mut farewell = false;
        loop {
            {
                let mut state = self.shared.lock();
                let Some(link) = &mut state.link else { return };
                link.stream.poll_transmit(link.out.buffer());
                link.flush(self.shared.now());
                if !link.wants_write() {
                    let Some(tls) = link.tls.as_mut().filter(|_| !link.broken && !farewell) else {
                        return;
                    };
                    tls.close();
                    farewell = true;
                    continue;
                }
            }
            if !matches!(timeout_at(until, self.socket.writable()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

type Request = oneshot::Sender<Result<Stanza>>;

/// The request that `stanza` answers, if it answers one.
fn answered(state: &mut State, stanza: &Stanza) -> Option<Request> {
    if stanza.kind() != StanzaKind::Iq {
        return None;
    }
    state.iqs.answer(stanza.type_(), stanza.from(), stanza.id()?).map(|(request, _)| request)
}
