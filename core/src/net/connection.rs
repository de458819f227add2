//! The handle of a live connection.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Cause;
use super::config::ConnectionConfig;
use super::cork::Next;
use super::driver;
use super::gate::Gate;
use super::inbound::Weight;
use super::request::{Request, no_answer};
use super::runtime::{self, Owned};
use super::sending::{Sending, Sent};
use super::shared::{Phase, PhaseIs, Shared, Submitted};
use super::stats::Stats;
use super::wait::{Waited, block_on, block_on_checked};
use crate::error::{Error, ErrorKind, Result};
use crate::service::Service;
use crate::stanza::Stanza;
use crate::stream::{Batch, check_sender};
use crate::xml::{Element, XmlError};
#[cfg(feature = "client")]
use crate::{jid::Jid, service::roster::Subscription};

/// How long a connection whose last handle was dropped may take to say goodbye.
const DROPPED_CLOSE: Duration = Duration::from_secs(5);

/// What happened on a connection.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a stanza")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The stream is up: for the first time, or again.
    Ready,
    /// An account has logged in; [`Event::Ready`] comes next.
    #[cfg(feature = "client")]
    Bound {
        /// The full address that the server gave.
        jid: Jid,
        /// Whether it is the session that was before: nothing was lost in between.
        resumed: bool,
    },
    /// The roster that an account's server keeps: all of it after a log-in, then what changes.
    #[cfg(feature = "client")]
    Roster {
        /// The contacts' bare addresses, prepared, and the subscriptions with each.
        contacts: Vec<(String, Subscription)>,
        /// Whether these are all.
        complete: bool,
    },
    /// A stanza arrived that is no answer to a [`Connection::request`].
    Stanza(Stanza),
    /// A stanza arrived that is unacceptable, and was left out.
    Skipped(XmlError),
    /// The server has read every stanza up to this position, counted over all streams of this
    /// connection. Only with [`ConnectionConfig::barrier`].
    Acked(u64),
    /// A stream has ended, and with it went what it carried and what was not [acked](Event::Acked).
    /// Only with [`ConnectionConfig::barrier`].
    Cut {
        /// The position of the last stanza it carried.
        position: u64,
        /// Whether the server ended it with an error that it gives for a stanza it does not like.
        blamed: bool,
    },
    /// The stream ended, or an attempt to connect failed; the next attempt comes after `retry_in`,
    /// or never.
    Disconnected {
        /// What happened, as a sentence.
        reason: String,
        /// The same, in one of a few words.
        cause: Cause,
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
        self.0.begin_close(DROPPED_CLOSE);
    }
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
        Self::start(runtime, Shared::new(config))
    }

    /// [`Connection::open_on`] for the app of `service`, whose store may be shared: nothing connects
    /// before what a process that is gone left has been taken over (see [`take_over`](super::take_over)),
    /// by this process or another one. `durable` says whether this process takes over messages.
    pub fn open_for(
        runtime: &tokio::runtime::Handle,
        config: ConnectionConfig,
        service: &Arc<Service>,
        durable: bool,
    ) -> Self {
        let mut shared = Shared::new(config);
        if service.is_shared() {
            shared.set_gate(Gate::new(Arc::downgrade(service), durable), service);
        }
        Self::start(runtime, shared)
    }

    fn start(runtime: &tokio::runtime::Handle, shared: Shared) -> Self {
        let shared = Arc::new(shared);
        runtime.spawn(driver::run(Arc::clone(&shared)));
        Self(Owned::new(Arc::new(Handle(shared))))
    }

    fn shared(&self) -> Result<&Arc<Shared>> {
        Ok(&self.0.get()?.0)
    }

    /// The component's domain, or the account's.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] in a process that was forked after the connection was opened; this
    /// goes for all methods.
    pub fn domain(&self) -> Result<&str> {
        Ok(&self.shared()?.config.domain)
    }

    /// The namespace of the stanzas that are sent and arrive here: `jabber:component:accept`, or
    /// `jabber:client` for an account.
    ///
    /// # Errors
    /// See [`Connection::domain`].
    pub fn namespace(&self) -> Result<&'static str> {
        Ok(self.shared()?.config.namespace())
    }

    /// The next `count` stanzas that were taken as events are dealt with: should this process fail now,
    /// an account's server need not send them again. Does nothing unless
    /// [`ConnectionConfig::confirm`] is set.
    ///
    /// # Errors
    /// See [`Connection::domain`].
    pub fn confirm(&self, count: usize) -> Result<()> {
        let shared = self.shared()?;
        if shared.config.confirm && count > 0 {
            shared.confirm(count);
        }
        Ok(())
    }

    /// Waits until a stream is up.
    ///
    /// # Errors
    /// [`ErrorKind::NotAuthorized`] if the server refused the credentials for good,
    /// [`ErrorKind::Config`] if the connection cannot be made as it is configured (the server's
    /// certificate is not trusted, the server lacks what is needed), and [`ErrorKind::Closed`] if the
    /// connection was closed.
    pub async fn ready(&self) -> Result<()> {
        let shared = self.shared()?;
        match (PhaseIs { shared, wanted: Phase::is_ready_or_over }).await {
            Phase::Ready => Ok(()),
            phase => Err(shared.not_ready(&phase)),
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

    /// Whether the server has another connection of the same component, which it does not give up for
    /// this one: this one tries again every second, and takes over when that one has ended.
    pub fn is_standby(&self) -> bool {
        self.shared().is_ok_and(|shared| shared.lock().phase == Phase::Standby)
    }

    /// Whether this process waits, for some seconds, until what another one left has been taken over.
    pub fn is_taking_over(&self) -> bool {
        self.shared().is_ok_and(|shared| shared.lock().phase == Phase::TakingOver)
    }

    /// Waits until [`Connection::is_taking_over`] is false.
    pub(super) async fn taken_over(&self) {
        let Ok(shared) = self.shared() else { return };
        PhaseIs { shared, wanted: |phase| *phase != Phase::TakingOver }.await;
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

    /// Whether [`Connection::send_many`] could ever send these stanzas.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSender`] for the first one that it could not.
    pub fn check_senders(&self, batch: &Batch) -> Result<()> {
        let domain = &self.shared()?.config.domain;
        batch.iter().try_for_each(|stanza| check_sender(stanza, domain))
    }

    /// A batch of this one stanza.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn batch(&self, stanza: &str) -> Result<Batch> {
        let shared = self.shared()?;
        let mut batch = Batch::new();
        batch.push(stanza.as_bytes(), shared.config.namespace(), &shared.config.limits)?;
        Ok(batch)
    }

    /// [`Connection::batch`] without reading the stanza again: for one that this crate's
    /// [writers](crate::xml::writer) made, around what a check of this crate
    /// ([`strict::check`](crate::xml::strict::check), [`fragment::check`](crate::xml::fragment::check))
    /// has let through, with elements nested `depth` deep.
    ///
    /// # Errors
    /// As [`Connection::batch`], for what is too long or too deep for a stanza.
    pub fn batch_checked(&self, stanza: String, depth: usize) -> Result<Batch> {
        let limits = self.shared()?.config.limits;
        if stanza.len() > limits.stanza_bytes || depth > limits.depth {
            // Which of them is said there.
            return self.batch(&stanza);
        }
        Ok(Batch::of_written(stanza))
    }

    /// Sends several stanzas, in order and with one write; returns when they are written. Waits
    /// while too much waits already.
    ///
    /// Of many small sends that follow each other closely, while nothing comes in, the kernel may
    /// hold some back for some milliseconds, to put them into one segment.
    pub fn send_many(&self, batch: Batch) -> Sending<'_> {
        Sending::new(self.shared(), batch)
    }

    /// [`Connection::send_many`] on this thread, at most for `timeout`.
    pub fn send_many_blocking(&self, batch: Batch, timeout: Duration) -> Sent {
        self.send_blocking_followed(batch, Next::Unknown, timeout)
    }

    /// [`Connection::send_many_blocking`] by who knows what follows.
    pub(super) fn send_blocking_followed(
        &self,
        batch: Batch,
        next: Next,
        timeout: Duration,
    ) -> Sent {
        let never = |_: Duration| ControlFlow::<()>::Continue(());
        self.send_followed(batch, next, timeout, Duration::MAX, never)
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
        self.send_followed(batch, Next::Unknown, timeout, slice, check)
    }

    /// [`Connection::send_many_checked`] by who knows what follows.
    pub(super) fn send_followed<B>(
        &self,
        batch: Batch,
        next: Next,
        timeout: Duration,
        slice: Duration,
        check: impl FnMut(Duration) -> ControlFlow<B>,
    ) -> Sent {
        let sending = self.send_many(batch).followed_by(next);
        match block_on_checked(sending, Some(timeout), slice, check) {
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

    /// Whether the kernel holds something back.
    #[cfg(test)]
    pub(super) fn is_holding(&self) -> bool {
        let shared = self.shared().unwrap();
        shared.lock().link.as_ref().is_some_and(|link| link.cork.is_holding())
    }

    /// Nothing is about to be sent: what the kernel holds back for that goes on its way.
    pub(super) fn push(&self) {
        if let Ok(shared) = self.shared() {
            shared.push();
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

    /// Takes several stanzas, all or none, if the last stream that ended did so at the position `cut`
    /// (see [`Event::Cut`]): whoever has not heard of a cut yet must not go on as if there was none.
    /// Returns the position of the last stanza, or nothing if there is no room or another cut.
    pub(super) fn try_send_after(&self, batch: &Batch, cut: u64) -> Result<Option<u64>> {
        Ok(match self.shared()?.submit_after(batch, Some(cut), Next::Nothing)? {
            Submitted::Taken { position, .. } => Some(position),
            Submitted::Full => None,
        })
    }

    /// Whether [`Connection::try_send_after`] is worth making a batch for.
    pub(super) fn has_room_after(&self, cut: u64) -> bool {
        self.shared().is_ok_and(|shared| shared.has_room_after(cut))
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
        Request::new(self.shared(), iq, timeout)
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
        shared.begin_close(deadline);
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
        stats.standby = state.phase == Phase::Standby;
        stats.taking_over = state.phase == Phase::TakingOver;
        stats.requests = state.iqs.len();
        if let Some(link) = &state.link {
            stats.outbound_queue = link.out.stanzas();
        }
        Ok(stats)
    }
}
