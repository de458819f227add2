//! The handle of a live connection.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::config::ConnectionConfig;
use super::driver;
use super::inbound::{Inbound, Weight, register};
use super::outbound::Outbound;
use super::runtime::{self, Owned};
use super::socket::Socket;
use super::stats::{Counters, Stats};
use super::wait::{Waited, block_on, block_on_checked, bounded};
use crate::error::{Error, ErrorKind, Result};
use crate::jid::WireJid;
use crate::ns;
use crate::stanza::Stanza;
use crate::stream::{Batch, Closed, ComponentStream, IqKey, IqTracker, OwnAddress};
use crate::xml::{Element, Scope, XmlError};

/// How long a connection whose last handle was dropped may take to say goodbye.
const DROPPED_CLOSE: Duration = Duration::from_secs(5);

/// What happened on a connection.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The stream is up: for the first time, or again.
    Ready,
    /// A stanza arrived that is no answer to a [`Connection::request`].
    Stanza(Stanza),
    /// A stanza arrived that is unacceptable, and was left out.
    Skipped(XmlError),
    /// The server has read every stanza of this stream up to this position. Only with
    /// [`ConnectionConfig::barrier`].
    Acked(u64),
    /// The stream ended, or an attempt to connect failed; the next attempt comes after `retry_in`,
    /// or never.
    Disconnected {
        /// What happened, as a sentence.
        reason: String,
        /// The time until the next attempt.
        retry_in: Option<Duration>,
    },
}

impl Weight for Event {
    fn byte_len(&self) -> usize {
        match self {
            Self::Stanza(stanza) => stanza.raw().len(),
            _ => 0,
        }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// No stream is up; the driver tries to change that.
    Connecting,
    Ready,
    /// Closing was asked for.
    Closing,
    /// Nothing will happen any more, for this reason.
    Ended(ErrorKind, String),
}

/// One stream on one socket.
pub(super) struct Link {
    pub(super) stream: ComponentStream,
    pub(super) socket: Arc<Socket>,
    pub(super) out: Outbound,
    /// Writing failed: nothing more will be written.
    pub(super) broken: bool,
}

impl Link {
    /// Writes what the socket takes. A failure ends the stream; `true` says that it just did.
    pub(super) fn flush(&mut self, now: Duration) -> bool {
        if self.broken || self.out.flush(&self.socket).is_ok() {
            return false;
        }
        self.broken = true;
        self.stream.handle_input(now, &[]);
        true
    }
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) link: Option<Link>,
    /// Counts the links; the one before `epoch` wrote `last_written` bytes.
    pub(super) epoch: u64,
    pub(super) last_written: u64,
    /// Each request with the time it was given.
    pub(super) iqs: IqTracker<(oneshot::Sender<Result<Stanza>>, Duration)>,
    pub(super) close_by: Option<Instant>,
    /// When the driver means to look at the clock next.
    pub(super) armed: Duration,
    /// Who waits for another phase.
    pub(super) watchers: Vec<Waker>,
}

/// What the handles and the driver share.
///
/// Whoever sends takes the lock, hands the stanza to the stream, and writes to the socket right
/// there if nothing else waits to be written: on the caller's thread, without waking the driver.
/// Only what the socket does not take at once is left to the driver. Were every write left to it,
/// a send that waits until it is written would cost a wake-up each way: 6.4 µs of CPU instead of
/// 2.5 back to back, 43 instead of 12 when each comes alone (`benches/connection.rs`).
pub(super) struct Shared {
    pub(super) config: ConnectionConfig,
    pub(super) origin: Instant,
    pub(super) state: Mutex<State>,
    pub(super) inbound: Inbound<Event>,
    pub(super) wake: Notify,
    pub(super) counters: Counters,
}

impl Shared {
    fn new(config: ConnectionConfig) -> Self {
        let own = OwnAddress::component(&config.domain);
        let state = State {
            phase: Phase::Connecting,
            link: None,
            epoch: 0,
            last_written: 0,
            iqs: IqTracker::new(own, config.requests),
            close_by: None,
            armed: Duration::MAX,
            watchers: Vec::new(),
        };
        Self {
            inbound: Inbound::new(config.inbound),
            config,
            origin: Instant::now(),
            state: Mutex::new(state),
            wake: Notify::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn submit(&self, batch: &Batch) -> Result<Submitted> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let epoch = state.epoch;
        let link = match (&state.phase, &mut state.link) {
            (Phase::Ready, Some(link)) => link,
            (phase, _) => return Err(self.not_ready(phase)),
        };
        if !link.out.has_room(batch.byte_len()) {
            return Ok(Submitted::Full);
        }
        let now = self.now();
        batch.iter().try_for_each(|stanza| link.stream.check(stanza))?;
        for stanza in batch.iter() {
            link.stream.send(now, stanza)?;
        }
        let direct = link.out.is_empty();
        link.stream.poll_transmit(link.out.buffer());
        link.out.count(batch.len());
        let end = link.out.end();
        if direct {
            link.flush(now);
        }
        // The driver has work if something is left to write, if the link broke, or if something
        // (a barrier) is due sooner than it means to look.
        let unfinished = direct && (!link.out.is_empty() || link.broken);
        let sooner = link.stream.poll_timeout().is_some_and(|due| due < state.armed);
        let written = link.out.written() >= end;
        drop(guard);
        self.counters.sent(batch.len(), batch.byte_len());
        if unfinished || sooner {
            self.wake.notify_one();
        }
        Ok(Submitted::Taken { epoch, end, written })
    }

    fn not_ready(&self, phase: &Phase) -> Error {
        match phase {
            Phase::Ended(kind, reason) => Error::new(*kind, reason.clone()),
            Phase::Closing => Error::new(ErrorKind::Closed, "the connection is being closed"),
            Phase::Connecting | Phase::Ready => Error::new(
                ErrorKind::NotConnected,
                format!(
                    "no stream to {} is up as {}; it is being tried again, so send again later",
                    self.config.endpoint, self.config.domain
                ),
            ),
        }
    }
}

enum Submitted {
    Full,
    Taken { epoch: u64, end: u64, written: bool },
}

/// A connection to a server that is kept up: when it breaks it is made anew, for ever, unless the
/// server refuses the credentials.
///
/// Cloning it gives another handle of the same connection; dropping the last one closes it politely.
/// All handles may be used from any thread and task at the same time.
#[derive(Clone)]
pub struct Connection(Owned<Handle>);

pub(super) struct Handle(pub(super) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        begin_close(&self.0, DROPPED_CLOSE);
    }
}

fn begin_close(shared: &Shared, deadline: Duration) {
    let mut state = shared.lock();
    if state.close_by.is_none() {
        state.close_by = Some(Instant::now() + bounded(deadline));
    }
    drop(state);
    shared.wake.notify_one();
}

impl Connection {
    /// Starts to connect, on the [background runtime](runtime) of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the runtime cannot be started.
    pub fn open(config: ConnectionConfig) -> Result<Self> {
        Ok(Self::open_on(&runtime::handle()?, config))
    }

    /// Starts to connect, on a tokio runtime of the caller's.
    pub fn open_on(runtime: &tokio::runtime::Handle, config: ConnectionConfig) -> Self {
        let shared = Arc::new(Shared::new(config));
        runtime.spawn(driver::run(Arc::clone(&shared)));
        Self(Owned::new(Arc::new(Handle(shared))))
    }

    fn shared(&self) -> Result<&Arc<Shared>> {
        Ok(&self.0.get()?.0)
    }

    /// The component's domain.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] in a process that was forked after the connection was opened; this
    /// goes for all methods.
    pub fn domain(&self) -> Result<&str> {
        Ok(&self.shared()?.config.domain)
    }

    /// Waits until a stream is up.
    ///
    /// # Errors
    /// [`ErrorKind::NotAuthorized`] if the server refused the credentials for good, and
    /// [`ErrorKind::Closed`] if the connection was closed.
    pub async fn ready(&self) -> Result<()> {
        let shared = self.shared()?;
        PhaseIs { shared, wanted: Phase::is_ready_or_over }.await;
        match &shared.lock().phase {
            Phase::Ready => Ok(()),
            phase => Err(shared.not_ready(phase)),
        }
    }

    /// Waits on this thread until a stream is up; `false` if that took longer than `timeout`.
    ///
    /// # Errors
    /// As [`Connection::ready`].
    pub fn wait_ready(&self, timeout: Duration) -> Result<bool> {
        block_on(self.ready(), Some(timeout)).map_or(Ok(false), |ready| ready.map(|()| true))
    }

    /// Whether a stream is up now.
    pub fn is_ready(&self) -> bool {
        self.shared().is_ok_and(|shared| shared.lock().phase == Phase::Ready)
    }

    /// Sends one stanza; returns when it is written to a live stream. Waits while too much waits
    /// already.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidXml`], [`ErrorKind::TooLarge`] or [`ErrorKind::InvalidSender`] if the
    /// server would close the stream for it; [`ErrorKind::NotConnected`] if no stream is up or it
    /// broke before the stanza was written; otherwise as [`Connection::ready`].
    pub async fn send(&self, stanza: &str) -> Result<()> {
        let batch = self.batch(stanza)?;
        self.send_many(batch).await.error.map_or(Ok(()), Err)
    }

    /// [`Connection::send`] on this thread, at most for `timeout`.
    ///
    /// # Errors
    /// As [`Connection::send`], and [`ErrorKind::Timeout`]: the stanza may be written later.
    pub fn send_blocking(&self, stanza: &str, timeout: Duration) -> Result<()> {
        let batch = self.batch(stanza)?;
        self.send_many_blocking(batch, timeout).error.map_or(Ok(()), Err)
    }

    /// Takes one stanza to be written as soon as the socket takes it.
    ///
    /// # Errors
    /// As [`Connection::send`], and [`ErrorKind::Backpressure`] if too much waits already.
    pub fn try_send(&self, stanza: &str) -> Result<()> {
        self.try_send_many(&self.batch(stanza)?)
    }

    /// A batch of this one stanza.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn batch(&self, stanza: &str) -> Result<Batch> {
        let shared = self.shared()?;
        let mut batch = Batch::new();
        batch.push(stanza.as_bytes(), ns::COMPONENT, &shared.config.limits)?;
        Ok(batch)
    }

    /// Sends several stanzas, in order and with one write; returns when they are written. Waits
    /// while too much waits already.
    pub fn send_many(&self, batch: Batch) -> Sending<'_> {
        Sending { shared: self.shared(), batch, at: None }
    }

    /// [`Connection::send_many`] on this thread, at most for `timeout`.
    pub fn send_many_blocking(&self, batch: Batch, timeout: Duration) -> Sent {
        let never = |_: Duration| ControlFlow::<()>::Continue(());
        self.send_many_checked(batch, timeout, Duration::MAX, never)
    }

    /// [`Connection::send_many`] on this thread, at most for `timeout`, with a `check` every
    /// `slice` that can end the wait (see [`block_on_checked`]).
    pub fn send_many_checked<B>(
        &self,
        batch: Batch,
        timeout: Duration,
        slice: Duration,
        check: impl FnMut(Duration) -> ControlFlow<B>,
    ) -> Sent {
        match block_on_checked(self.send_many(batch), Some(timeout), slice, check) {
            Waited::Done(sent) => sent,
            Waited::TimedOut | Waited::Interrupted(_) => Sent {
                written: 0,
                error: Some(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "the socket did not take the stanza within {timeout:?}; it may still be sent"
                    ),
                )),
            },
        }
    }

    /// Takes several stanzas, all or none, to be written as soon as the socket takes them.
    ///
    /// # Errors
    /// As [`Connection::try_send`].
    pub fn try_send_many(&self, batch: &Batch) -> Result<()> {
        match self.shared()?.submit(batch)? {
            Submitted::Taken { .. } => Ok(()),
            Submitted::Full => Err(Error::new(
                ErrorKind::Backpressure,
                "too many stanzas wait to be written; send again later",
            )),
        }
    }

    /// Sends an iq of type `get` or `set` and waits for its answer, at most for `timeout`. An `id`
    /// is set if there is none, and `from` is the component itself unless it is set. Dropping the
    /// future forgets the request.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if no answer came, [`ErrorKind::NotConnected`] if the stream broke
    /// first, [`ErrorKind::Backpressure`] if too many requests wait; otherwise as
    /// [`Connection::send`]. An answer of type `error` is no failure: it is the answer.
    pub fn request(&self, iq: Element, timeout: Duration) -> Request<'_> {
        let state = match self.shared().and_then(|shared| start_request(shared, iq, timeout)) {
            Ok((key, answer)) => RequestState::Waiting(key, answer),
            Err(error) => RequestState::Failed(Some(error)),
        };
        Request { connection: self, state }
    }

    /// [`Connection::request`] on this thread.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub fn request_blocking(&self, iq: Element, timeout: Duration) -> Result<Stanza> {
        let late = || Err(no_answer(timeout));
        // The driver's own timer comes first; this bound is for the case that it is stuck.
        let bound = timeout.saturating_add(Duration::from_secs(1));
        block_on(self.request(iq, timeout), Some(bound)).unwrap_or_else(late)
    }

    /// Takes up to `max` events, as soon as there is one. None at all means that the connection has
    /// ended and every event was taken. Each event goes to one taker only.
    ///
    /// While too many events wait the socket is not read: nothing is dropped, the server waits.
    ///
    /// # Errors
    /// See [`Connection::domain`].
    pub async fn next_events(&self, max: usize) -> Result<Vec<Event>> {
        let shared = self.shared()?;
        let (events, room) = shared.inbound.take(max).await;
        if room {
            shared.wake.notify_one();
        }
        Ok(events)
    }

    /// [`Connection::next_events`] on this thread; `None` if `timeout` passes without an event.
    ///
    /// # Errors
    /// See [`Connection::domain`].
    pub fn next_events_blocking(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Option<Vec<Event>>> {
        block_on(self.next_events(max), Some(timeout)).transpose()
    }

    /// Closes the connection for all handles: writes what waits, closes the stream, and waits for
    /// the server to do the same, all of it at most for `deadline`.
    pub async fn close(&self, deadline: Duration) {
        let Ok(shared) = self.shared() else { return };
        begin_close(shared, deadline);
        PhaseIs { shared, wanted: |phase| matches!(phase, Phase::Ended(..)) }.await;
    }

    /// [`Connection::close`] on this thread.
    pub fn close_blocking(&self, deadline: Duration) {
        let bound = deadline.saturating_add(Duration::from_secs(1));
        let _ = block_on(self.close(deadline), Some(bound));
    }

    /// Numbers about this connection.
    ///
    /// # Errors
    /// See [`Connection::domain`].
    pub fn stats(&self) -> Result<Stats> {
        let shared = self.shared()?;
        let mut stats = shared.counters.snapshot();
        stats.inbound_queue = shared.inbound.len();
        let state = shared.lock();
        stats.ready = state.phase == Phase::Ready;
        stats.requests = state.iqs.len();
        if let Some(link) = &state.link {
            stats.outbound_queue = link.out.stanzas();
        }
        Ok(stats)
    }
}

impl Phase {
    fn is_ready_or_over(&self) -> bool {
        *self != Self::Connecting
    }
}

struct PhaseIs<'a> {
    shared: &'a Shared,
    wanted: fn(&Phase) -> bool,
}

impl Future for PhaseIs<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if (self.wanted)(&state.phase) {
            return Poll::Ready(());
        }
        register(&mut state.watchers, context.waker());
        Poll::Pending
    }
}

/// What became of a batch.
#[derive(Debug)]
pub struct Sent {
    /// How many stanzas, from the first on, are written to a live stream.
    pub written: usize,
    /// Why the others are not.
    pub error: Option<Error>,
}

/// A batch on its way; see [`Connection::send_many`].
pub struct Sending<'a> {
    shared: Result<&'a Arc<Shared>>,
    batch: Batch,
    at: Option<(u64, u64)>,
}

impl Future for Sending<'_> {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Sent> {
        let this = &mut *self;
        let shared: &Shared = match &this.shared {
            Ok(shared) => shared,
            Err(error) => return failed(0, Error::new(error.kind(), error.to_string())),
        };
        if this.batch.is_empty() {
            return Poll::Ready(Sent { written: 0, error: None });
        }
        if this.at.is_none() {
            match shared.submit(&this.batch) {
                Ok(Submitted::Taken { written: true, .. }) => {
                    return Poll::Ready(Sent { written: this.batch.len(), error: None });
                }
                Ok(Submitted::Taken { epoch, end, .. }) => this.at = Some((epoch, end)),
                Ok(Submitted::Full) => {}
                Err(error) => return failed(0, error),
            }
        }
        let mut state = shared.lock();
        match this.at {
            Some((epoch, end)) => this.await_written(shared, &mut state, epoch, end, context),
            None => {
                match &mut state.link {
                    // Between the two locks the queue may have emptied.
                    Some(link) if link.out.has_room(this.batch.byte_len()) => {
                        context.waker().wake_by_ref();
                    }
                    Some(link) => link.out.wake_when_room(context.waker()),
                    None => context.waker().wake_by_ref(),
                }
                Poll::Pending
            }
        }
    }
}

impl Sending<'_> {
    fn await_written(
        &self,
        shared: &Shared,
        state: &mut State,
        epoch: u64,
        end: u64,
        context: &Context<'_>,
    ) -> Poll<Sent> {
        let written = match &mut state.link {
            Some(link) if state.epoch == epoch => {
                if link.out.written() < end {
                    link.out.wake_when_written(end, context.waker());
                    return Poll::Pending;
                }
                end
            }
            _ if state.epoch == epoch + 1 => state.last_written.min(end),
            _ => 0,
        };
        let start = end - self.batch.byte_len() as u64;
        let count = self.batch.within(written.saturating_sub(start));
        if count == self.batch.len() {
            return Poll::Ready(Sent { written: count, error: None });
        }
        failed(count, shared.not_ready(&Phase::Connecting))
    }
}

fn failed(written: usize, error: Error) -> Poll<Sent> {
    Poll::Ready(Sent { written, error: Some(error) })
}

type Answer = oneshot::Receiver<Result<Stanza>>;

fn start_request(shared: &Shared, mut iq: Element, timeout: Duration) -> Result<(IqKey, Answer)> {
    if iq.attr("from").is_none() {
        iq.set_attr("from", shared.config.domain.clone());
    }
    if iq.attr("id").is_none() {
        iq.set_attr("id", shared.counters.next_id());
    }
    let id = iq.attr("id").unwrap_or_default().to_owned();
    let to = iq.attr("to").map(WireJid::new);
    let mut xml = String::new();
    iq.write_to(&mut xml, &Scope::stream(ns::COMPONENT));
    let mut batch = Batch::new();
    batch.push(xml.as_bytes(), ns::COMPONENT, &shared.config.limits)?;
    if !iq.is("iq", ns::COMPONENT)
        || !matches!(iq.attr("type"), Some("get" | "set"))
        || to.is_none()
    {
        return Err(Error::new(
            ErrorKind::InvalidXml,
            "a request is an <iq/> with a to address and the type get or set",
        ));
    }
    let (sender, receiver) = oneshot::channel();
    let deadline = shared.now() + bounded(timeout);
    let key = shared.lock().iqs.insert(to.as_ref(), &id, deadline, (sender, timeout))?;
    // Submitting without the lock held: the answer cannot come before the request is out.
    match shared.submit(&batch) {
        Ok(Submitted::Taken { .. }) => {
            if shared.lock().armed > deadline {
                shared.wake.notify_one();
            }
            Ok((key, receiver))
        }
        Ok(Submitted::Full) => {
            shared.lock().iqs.cancel(&key);
            Err(Error::new(
                ErrorKind::Backpressure,
                "too many stanzas wait to be written; ask again later",
            ))
        }
        Err(error) => {
            shared.lock().iqs.cancel(&key);
            Err(error)
        }
    }
}

pub(super) fn no_answer(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer came within {timeout:?}"))
}

enum RequestState {
    Failed(Option<Error>),
    Waiting(IqKey, Answer),
}

/// A request that waits for its answer; see [`Connection::request`].
pub struct Request<'a> {
    connection: &'a Connection,
    state: RequestState,
}

impl Future for Request<'_> {
    type Output = Result<Stanza>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            RequestState::Failed(error) => Poll::Ready(Err(error
                .take()
                .unwrap_or_else(|| Error::new(ErrorKind::Closed, "the request is over")))),
            RequestState::Waiting(_, answer) => {
                let answer = std::task::ready!(Pin::new(answer).poll(context));
                self.state = RequestState::Failed(None);
                Poll::Ready(answer.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Closed, "the connection was closed"))
                }))
            }
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let RequestState::Waiting(key, _) = &self.state
            && let Ok(shared) = self.connection.shared()
        {
            shared.lock().iqs.cancel(key);
        }
    }
}

/// Why a stream that ended ends the connection too, if it does.
pub(super) fn fatal(config: &ConnectionConfig, closed: &Closed) -> Option<String> {
    (closed.condition() == Some("not-authorized")).then(|| {
        format!(
            "the server at {} refused the component {} twice ({closed}): either the secret is not the one in the server's configuration, or the server has no component of this name (ejabberd gives the same answer to both); correct it and open the connection again",
            config.endpoint, config.domain
        )
    })
}
