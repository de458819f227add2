//! The task that keeps one connection up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::config::ConnectionConfig;
use super::connection::Event;
use super::inbound::Weight;
use super::outbound::Outbound;
use super::request::no_answer;
use super::shared::{Link, Phase, Shared, State};
use super::socket::Socket;
use super::stats::{add, random};
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::{Stanza, StanzaKind};
use crate::stream::{self, Closed, ComponentStream};

/// What is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How long the last words of a stream that ended may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);
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

/// How one attempt ended.
struct Ended {
    reason: String,
    /// How long the stream was up.
    up: Duration,
    refused: Option<String>,
}

/// Connects, again and again, until the connection is closed or refused for good.
pub(super) async fn run(shared: Arc<Shared>) {
    let _at_end = AtEnd(&shared);
    let mut backoff = Backoff::new(random());
    let mut refusals = 0;
    let (kind, reason) = loop {
        let ended = attempt(&shared).await;
        refusals = if ended.refused.is_some() { refusals + 1 } else { 0 };
        if shared.lock().close_by.is_some() {
            break (ErrorKind::Closed, "the connection was closed".to_owned());
        }
        add(&shared.counters.disconnects, 1);
        if let Some(text) = ended.refused.filter(|_| refusals >= 2) {
            disconnected(&shared, ended.reason, None);
            break (ErrorKind::NotAuthorized, text);
        }
        backoff.lost_after(ended.up);
        let delay = backoff.delay();
        disconnected(&shared, ended.reason, Some(delay));
        if !pause(&shared, delay).await {
            break (ErrorKind::Closed, "the connection was closed".to_owned());
        }
    };
    end(&shared, kind, reason);
}

/// If the task ends in a way it does not know of (a panic, a runtime that is shut down), nobody is
/// left waiting.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        if matches!(self.0.lock().phase, Phase::Ended(..)) {
            return;
        }
        drop_link(self.0);
        let what = "the connection's background task ended early; open another connection";
        end(self.0, ErrorKind::Internal, what.to_owned());
    }
}

fn disconnected(shared: &Shared, reason: String, retry_in: Option<Duration>) {
    let domain = &shared.config.domain;
    match retry_in {
        Some(delay) => info!(%domain, %reason, ?delay, "not connected; trying again"),
        None => warn!(%domain, %reason, "not connected"),
    }
    shared.inbound.push_all(&mut vec![Event::Disconnected { reason, retry_in }]);
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
async fn attempt(shared: &Shared) -> Ended {
    let config = &shared.config;
    debug!(domain = %config.domain, endpoint = %config.endpoint, "connecting");
    let dial = Socket::dial(&config.endpoint, config.connect_timeout);
    let socket = tokio::select! {
        socket = dial => socket,
        () = closing(shared) => return never_up("the connection was closed".to_owned()),
    };
    let socket = match socket {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            return never_up(format!("cannot connect to {}: {error}", config.endpoint));
        }
    };
    let now = shared.now();
    let stream = ComponentStream::new(config.stream(format!("{:x}-", random())), now);
    let out = Outbound::new(config.outbound);
    let link = Link { stream, socket, out, sent: 0, broken: false };
    let socket = Arc::clone(&link.socket);
    shared.lock().link = Some(link);
    let mut serving = Serving { shared, socket, up_since: None, events: Vec::new() };
    let closed = serving.serve().await;
    let up = serving.up_since.map_or(Duration::ZERO, |since| shared.now().saturating_sub(since));
    drop_link(shared);
    if config.barrier.is_some() {
        let position = shared.lock().sent_before;
        let blamed = closed.condition().is_some_and(|it| BLAMING.contains(&it));
        shared.inbound.push_all(&mut vec![Event::Cut { position, blamed }]);
    }
    Ended { reason: closed.to_string(), up, refused: fatal(config, &closed) }
}

/// Why a stream that ended ends the connection too, if it does.
fn fatal(config: &ConnectionConfig, closed: &Closed) -> Option<String> {
    (closed.condition() == Some("not-authorized")).then(|| {
        format!(
            "the server at {} refused the component {} twice ({closed}): either the secret is not the one in the server's configuration, or the server has no component of this name (ejabberd gives the same answer to both); correct it and open the connection again",
            config.endpoint, config.domain
        )
    })
}

fn never_up(reason: String) -> Ended {
    Ended { reason, up: Duration::ZERO, refused: None }
}

/// Resolves when the connection is to be closed.
async fn closing(shared: &Shared) {
    while shared.lock().close_by.is_none() {
        shared.wake.notified().await;
    }
}

/// Everybody who waited for the link learns that it is gone.
fn drop_link(shared: &Shared) {
    let mut state = shared.lock();
    let link = state.link.take();
    state.epoch += 1;
    if state.phase == Phase::Ready {
        state.phase = Phase::Connecting;
    }
    let requests = state.iqs.drain();
    if let Some(mut link) = link {
        state.last_written = link.out.written();
        state.sent_before += link.sent;
        let stats = link.stream.stats();
        add(&shared.counters.ignored, stats.ignored);
        link.out.wake_all();
    }
    drop(state);
    for (request, _) in requests {
        let what = "the stream broke before the answer came; ask again later";
        let _ = request.send(Err(Error::new(ErrorKind::NotConnected, what)));
    }
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
    up_since: Option<Duration>,
    events: Vec<Event>,
}

impl Serving<'_> {
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
                    return closed;
                }
            };
            // A timer that is early does no harm; moving it for every stanza would.
            if wanted.deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(wanted.deadline);
            }
            tokio::select! {
                ready = socket.readable(), if wanted.read => self.read(ready, &mut buffer),
                ready = socket.writable(), if wanted.write => self.flush(ready),
                () = timer.as_mut() => self.handle_timeout(),
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Hands on what happened, writes what is to be written, and says what to wait for; the error is
    /// how the stream ended.
    fn pump(&mut self) -> Result<Wanted, Closed> {
        let mut room = self.shared.inbound.room();
        let mut closed = None;
        while room > 0 && closed.is_none() {
            let mut state = self.shared.lock();
            let Some(event) = state.link.as_mut().and_then(|link| link.stream.poll_event()) else {
                break;
            };
            if let Some(event) = self.event(&mut state, event, &mut closed) {
                room = room.saturating_sub(1 + event.byte_len() / READ_BYTES);
                self.events.push(event);
            }
        }
        let wanted = self.settle(room > 0);
        self.shared.inbound.push_all(&mut self.events);
        // Whoever takes events out of a full queue wakes the driver. This one may not have been full
        // in the meantime, although the room that was found has been used up.
        if room == 0 && self.shared.inbound.room() > 0 {
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
        event: stream::Event,
        closed: &mut Option<Closed>,
    ) -> Option<Event> {
        let counters = &self.shared.counters;
        match event {
            stream::Event::Ready => {
                self.up_since = Some(self.shared.now());
                add(&counters.connects, 1);
                info!(domain = %self.shared.config.domain, "connected");
                if state.close_by.is_none() {
                    self.set_phase(state, Phase::Ready);
                }
                Some(Event::Ready)
            }
            stream::Event::Stanza(stanza) => {
                add(&counters.stanzas_in, 1);
                match answered(state, &stanza) {
                    Some(request) => {
                        let _ = request.send(Ok(stanza));
                        None
                    }
                    None => Some(Event::Stanza(stanza)),
                }
            }
            stream::Event::Skipped(error) => {
                add(&counters.stanzas_in, 1);
                add(&counters.skipped, 1);
                debug!(%error, "a stanza was left out");
                Some(Event::Skipped(error))
            }
            stream::Event::Acked(position) => Some(Event::Acked(state.sent_before + position)),
            stream::Event::Closed(reason) => {
                *closed = Some(reason);
                None
            }
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
        let Some(link) = &mut state.link else { return Err(Closed::Lost) };
        if let Some(by) = close_by
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
        let write = !link.out.is_empty() && !link.broken;
        let close_by = close_by.map(|by| by.saturating_duration_since(self.shared.origin));
        if close_by.is_some_and(|by| by <= now) {
            return Err(Closed::ByUs);
        }
        let due = [link.stream.poll_timeout(), state.iqs.poll_timeout(), close_by];
        let due = due.into_iter().flatten().min().unwrap_or(now + FAR);
        state.armed = due;
        Ok(Wanted { read, write, deadline: self.shared.origin + due })
    }

    fn read(&self, ready: io::Result<()>, buffer: &mut [u8]) {
        let result = ready.and_then(|()| self.socket.try_read(buffer));
        let count = match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => {
                debug!(%error, "reading failed");
                0
            }
        };
        self.shared.counters.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        let now = self.shared.now();
        if let Some(link) = &mut self.shared.lock().link {
            link.stream.handle_input(now, &buffer[..count]);
        }
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
        loop {
            {
                let mut state = self.shared.lock();
                let Some(link) = &mut state.link else { return };
                link.stream.poll_transmit(link.out.buffer());
                link.flush(self.shared.now());
                if link.broken || link.out.is_empty() {
                    return;
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
