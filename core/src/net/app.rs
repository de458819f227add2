//! One app on one connection: the [connection](Connection), App Engine's [service](crate::service)
//! and the app's deliveries, put together.

mod claim;
mod config;
mod delivery;
mod several;
mod stats;
mod task;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Connection;
use super::cork::Next;
use super::farewell::farewell_time;
use super::inbound::register;
use super::outbox::{Kept, LiveOutbox, utc};
use super::runtime::{self, Owned};
use super::sending::{Sent, message_batch};
use super::wait::{Waited, block_on, block_on_checked, bounded};
use crate::error::{Error, ErrorKind, Result};
use crate::service::{
    Delivery, Lanes, MessageCall, Outgoing, PresenceAnswer, PresenceCall, Sending, Service, Status,
};
use crate::stream::Batch;

use claim::Claim;
pub use config::AppConfig;
pub use delivery::{Claimed, Outcome};
pub use stats::AppStats;

struct Queue {
    lanes: Lanes,
    /// Who waits for a delivery: one of them is woken for each.
    pullers: Vec<Waker>,
    /// Who waits for room, or for the lanes to be empty.
    others: Vec<Waker>,
    /// How many deliveries are being handled.
    claimed: usize,
    over: bool,
}

pub(super) struct Inner {
    connection: Connection,
    service: Arc<Service>,
    /// If the app is durable.
    outbox: Option<Arc<LiveOutbox>>,
    config: config::Own,
    origin: Instant,
    queue: Mutex<Queue>,
    /// A delivery is being handled and the next one waits: answers to it are to come.
    more: AtomicBool,
    /// Wakes the task: there is room in the lanes, or the app is closing.
    wake: Notify,
    closing: AtomicBool,
    /// The store has news for the service.
    news: AtomicBool,
    /// The task has ended.
    ended: Mutex<Ended>,
    counters: Counters,
}

#[derive(Default)]
struct Ended {
    ended: bool,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct Counters {
    handled: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

/// One app, connected: what a face translates to and from.
///
/// Cloning it gives another handle of the same app; dropping the last one closes it, without
/// waiting for anything. All handles may be used from any thread at the same time.
#[derive(Clone)]
pub struct App(Owned<Handle>);

pub(super) struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.begin_close();
    }
}

impl App {
    /// Starts to connect, on the [background runtime](runtime) of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the store cannot be read, [`ErrorKind::Config`] for contradictory
    /// settings, [`ErrorKind::Internal`] if the runtime cannot be started.
    pub fn open(config: AppConfig) -> Result<Self> {
        Self::open_on(&runtime::handle()?, config)
    }

    /// Starts to connect, on a tokio runtime of the caller's.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_on(runtime: &tokio::runtime::Handle, config: AppConfig) -> Result<Self> {
        let AppConfig { mut connection, mut service, store, lanes, room_timeout, durable, outbox } =
            config;
        if service.id_prefix.is_empty() {
            service.id_prefix = format!("{:x}-", super::stats::random());
        }
        let service = Arc::new(Service::new(service, store)?);
        connection.one_of_several |= service.is_shared();
        let mut waiting = Lanes::new(lanes);
        if durable {
            service.restore_deliveries()?.into_iter().for_each(|it| waiting.restore(it));
        }
        if durable {
            connection.barrier.get_or_insert(LiveOutbox::BARRIER);
            connection.confirm = true;
        }
        let connection = Connection::open_for(runtime, connection, &service, durable);
        let outbox =
            durable.then(|| LiveOutbox::new(connection.clone(), Arc::clone(&service), outbox));
        let inner = Arc::new(Inner {
            service,
            outbox,
            connection,
            origin: Instant::now(),
            queue: Mutex::new(Queue {
                lanes: waiting,
                pullers: Vec::new(),
                others: Vec::new(),
                claimed: 0,
                over: false,
            }),
            more: AtomicBool::new(false),
            config: config::Own { lanes, room_timeout },
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            news: AtomicBool::new(false),
            ended: Mutex::default(),
            counters: Counters::default(),
        });
        let waking = Arc::downgrade(&inner);
        inner.service.on_news(move || {
            if let Some(inner) = waking.upgrade() {
                inner.news.store(true, Ordering::Release);
                inner.wake.notify_one();
            }
        });
        runtime.spawn(task::run(Arc::clone(&inner)));
        if let Some(outbox) = &inner.outbox {
            runtime.spawn(Arc::clone(outbox).run());
        }
        Ok(Self(Owned::new(Arc::new(Handle(inner)))))
    }

    fn inner(&self) -> Result<&Arc<Inner>> {
        Ok(&self.0.get()?.0)
    }

    /// The connection under the app, for what the service has no call for.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] in a process that was forked after the app was opened; this goes for
    /// all methods.
    pub fn connection(&self) -> Result<&Connection> {
        Ok(&self.inner()?.connection)
    }

    /// The service under the app.
    ///
    /// # Errors
    /// As [`App::connection`].
    pub fn service(&self) -> Result<&Service> {
        Ok(&self.inner()?.service)
    }

    /// Waits on this thread until a stream is up; `false` if that took longer than `timeout`.
    ///
    /// # Errors
    /// As [`Connection::ready`].
    pub fn wait_ready(&self, timeout: Duration) -> Result<bool> {
        self.inner()?.connection.wait_ready(timeout)
    }

    /// App Engine's `send_message`: [`Status::NoError`] for every recipient whose stanza is written
    /// to a live stream or, if the app is [durable](AppConfig::durable), stored.
    ///
    /// # Errors
    /// As [`Service::send_message`]. That no stream is up is no error but [`Status::OtherError`].
    pub async fn send_message(&self, call: &MessageCall<'_>) -> Result<Vec<Status>> {
        let inner = self.inner()?;
        let mut sending = inner.service().send_message(call)?;
        if let Some(outbox) = &inner.outbox {
            let kept = outbox.keep(&sending.stanzas, Vec::new()).await;
            fail_from(&mut sending, kept.stored);
            return Ok(sending.statuses);
        }
        let mut next = 0;
        while let Some((batch, range)) = message_batch(&sending, next) {
            next = range.end;
            let sent = inner.connection.send_many(batch).followed_by(inner.next()).await;
            if settle(&mut sending, range, &sent) {
                break;
            }
        }
        Ok(sending.statuses)
    }

    /// [`App::send_message`] on this thread, at most for `timeout`: what was not written by then
    /// has [`Status::OtherError`].
    ///
    /// # Errors
    /// As [`App::send_message`].
    pub fn send_message_blocking(
        &self,
        call: &MessageCall<'_>,
        timeout: Duration,
    ) -> Result<Vec<Status>> {
        let never = |_: Duration| ControlFlow::<()>::Continue(());
        self.send_message_checked(call, timeout, Duration::MAX, never)
    }

    /// [`App::send_message_blocking`] with a `check` about every `slice` that can end the wait (see
    /// [`block_on_checked`]).
    ///
    /// # Errors
    /// As [`App::send_message`].
    pub fn send_message_checked<B>(
        &self,
        call: &MessageCall<'_>,
        timeout: Duration,
        slice: Duration,
        mut check: impl FnMut(Duration) -> ControlFlow<B>,
    ) -> Result<Vec<Status>> {
        let inner = self.inner()?;
        let mut sending = inner.service().send_message(call)?;
        if let Some(outbox) = &inner.outbox {
            let keep = outbox.keep(&sending.stanzas, Vec::new());
            let stored = match block_on_checked(keep, Some(timeout), slice, check) {
                Waited::Done(Kept { stored, .. }) => stored,
                Waited::TimedOut | Waited::Interrupted(_) => 0,
            };
            fail_from(&mut sending, stored);
            return Ok(sending.statuses);
        }
        let mut next = 0;
        let mut until = None;
        while let Some((batch, range)) = message_batch(&sending, next) {
            next = range.end;
            let left = match until {
                // The usual call is over before a clock would have been read.
                None if range.end == sending.stanzas.len() => timeout,
                _ => until
                    .get_or_insert_with(|| std::time::Instant::now() + bounded(timeout))
                    .saturating_duration_since(std::time::Instant::now()),
            };
            let follows = inner.next();
            let sent = inner.connection.send_followed(batch, follows, left, slice, &mut check);
            if settle(&mut sending, range, &sent) {
                break;
            }
        }
        Ok(sending.statuses)
    }

    /// App Engine's `send_presence`: [`Status::NoError`] if it is written to a live stream or, if the
    /// app is [durable](AppConfig::durable), stored. Presence that is neither is told when the stream
    /// is up again.
    ///
    /// # Errors
    /// As [`Service::send_presence`].
    pub async fn send_presence(&self, call: &PresenceCall<'_>) -> Result<Status> {
        let inner = self.inner()?;
        let stanza = inner.service().send_presence(call)?;
        Ok(inner.send_one(stanza).await)
    }

    /// [`App::send_presence`] on this thread, at most for `timeout`.
    ///
    /// # Errors
    /// As [`App::send_presence`].
    pub fn send_presence_blocking(
        &self,
        call: &PresenceCall<'_>,
        timeout: Duration,
    ) -> Result<Status> {
        block_on(self.send_presence(call), Some(timeout)).unwrap_or(Ok(Status::OtherError))
    }

    /// App Engine's `send_invite`; the status as with [`App::send_presence`].
    ///
    /// # Errors
    /// As [`Service::send_invite`].
    pub async fn send_invite(&self, jid: &str, from: Option<&str>) -> Result<Status> {
        let inner = self.inner()?;
        let stanza = inner.service().send_invite(jid, from)?;
        Ok(inner.send_one(stanza).await)
    }

    /// [`App::send_invite`] on this thread, at most for `timeout`.
    ///
    /// # Errors
    /// As [`App::send_invite`].
    pub fn send_invite_blocking(
        &self,
        jid: &str,
        from: Option<&str>,
        timeout: Duration,
    ) -> Result<Status> {
        block_on(self.send_invite(jid, from), Some(timeout)).unwrap_or(Ok(Status::OtherError))
    }

    /// App Engine's `get_presence`, from what is known: no contact is asked.
    ///
    /// # Errors
    /// As [`Service::get_presence`].
    pub fn get_presence(&self, jids: &[&str], from: Option<&str>) -> Result<Vec<PresenceAnswer>> {
        self.inner()?.service().get_presence(jids, from)
    }

    /// Takes up to `max` deliveries, each of a different sender, as soon as there is one. A sender's
    /// next one comes when this one is [done](Claimed::done). Any number of threads may wait.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the app was closed and no delivery is left. [`ErrorKind::Store`] when
    /// other processes took over from this one, which was out of a shared store's reach too long: open
    /// the app again.
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Claimed>> {
        let inner = self.inner()?;
        match Claim::new(inner, max).await {
            Some(claimed) => Ok(claimed),
            None if inner.service.is_evicted() => Err(evicted()),
            None => Err(Error::new(ErrorKind::Closed, "the app is closed: no delivery will come")),
        }
    }

    /// [`App::next_batch`] on this thread; none at all if `timeout` passes first.
    ///
    /// # Errors
    /// As [`App::next_batch`].
    pub fn next_batch_blocking(&self, max: usize, timeout: Duration) -> Result<Vec<Claimed>> {
        block_on(self.next_batch(max), Some(timeout)).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Closes the app, all of it at most for `deadline`: takes no more deliveries, waits until those
    /// it has are done, sends those that nobody took in time back to their senders, tells contacts
    /// that the app is gone, and closes the stream.
    pub async fn close(&self, deadline: Duration) {
        let Ok(inner) = self.inner() else { return };
        let until = Instant::now() + bounded(deadline);
        inner.stop_intake();
        let idle = Idle { inner };
        let patience = until - farewell_time(deadline);
        let _ = tokio::time::timeout_at(patience, idle).await;
        let _ = tokio::time::timeout_at(patience, inner.drained()).await;
        inner.begin_close();
        let _ = tokio::time::timeout_at(until, HasEnded { inner }).await;
        inner.connection.close(until.saturating_duration_since(Instant::now())).await;
    }

    /// [`App::close`] on this thread.
    pub fn close_blocking(&self, deadline: Duration) {
        let never = |_: Duration| ControlFlow::<()>::Continue(());
        self.close_checked(deadline, Duration::MAX, never);
    }

    /// [`App::close_blocking`] with a `check` about every `slice` that can end the wait for
    /// deliveries under way; the stream is then closed at once.
    pub fn close_checked<B>(
        &self,
        deadline: Duration,
        slice: Duration,
        check: impl FnMut(Duration) -> ControlFlow<B>,
    ) {
        let Ok(inner) = self.inner() else { return };
        let until = Instant::now() + bounded(deadline);
        let left = || until.saturating_duration_since(Instant::now());
        inner.stop_intake();
        let patience = left().saturating_sub(farewell_time(deadline));
        let over = async {
            Idle { inner }.await;
            inner.drained().await;
        };
        let _ = block_on_checked(over, Some(patience), slice, check);
        inner.begin_close();
        let _ = block_on(HasEnded { inner }, Some(left()));
        inner.connection.close_blocking(left());
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Whether what is sent now is followed by more.
    fn next(&self) -> Next {
        if self.more.load(Ordering::Relaxed) { Next::More } else { Next::Unknown }
    }

    /// To be called when the queue has changed.
    fn note(&self, queue: &Queue) {
        self.more.store(queue.claimed > 0 && queue.lanes.has_ready(), Ordering::Relaxed);
    }

    /// The service, which knows what day it is.
    fn service(&self) -> &Service {
        self.service.set_utc(utc());
        &self.service
    }

    /// Sends a stanza of the service's: by way of the outbox, if there is one.
    async fn send_one(&self, stanza: Bytes) -> Status {
        if let Some(outbox) = &self.outbox {
            let kept = outbox.keep(&[Outgoing::whole(stanza)], Vec::new()).await;
            return if kept.stored == 1 { Status::NoError } else { Status::OtherError };
        }
        let mut batch = Batch::new();
        batch.push_written(&stanza);
        match self.connection.try_send_many(&batch) {
            Ok(()) => Status::NoError,
            Err(_) => Status::OtherError,
        }
    }

    async fn drained(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.drained().await;
        }
    }

    /// No more deliveries come in.
    fn stop_intake(&self) {
        let mut queue = self.queue();
        queue.over = true;
        queue.wake_all();
        drop(queue);
        self.wake.notify_one();
    }

    fn begin_close(&self) {
        self.stop_intake();
        self.closing.store(true, Ordering::Release);
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
        self.wake.notify_one();
    }
}

impl Queue {
    /// Puts a delivery into its lane, unless there is no room or the app is closing. Nobody is woken
    /// for it yet: see [`Queue::wake_for_ready`].
    fn push(&mut self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        if self.over {
            return Err(Box::new(delivery));
        }
        self.lanes.push(delivery)?;
        Ok(())
    }

    /// Wakes a puller if there is something for it; who takes a delivery wakes the next one.
    fn wake_for_ready(&mut self) {
        if self.lanes.has_ready() {
            self.wake_puller();
        }
    }

    fn wake_puller(&mut self) {
        if let Some(waker) = self.pullers.pop() {
            waker.wake();
        }
    }

    fn wake_others(&mut self) {
        self.others.drain(..).for_each(Waker::wake);
    }

    fn wake_all(&mut self) {
        self.pullers.drain(..).for_each(Waker::wake);
        self.wake_others();
    }
}

fn evicted() -> Error {
    let text = "another process took over from this one, which was out of the state store's reach too long; start it again";
    Error::new(ErrorKind::Store, text)
}

/// Notes what became of the stanzas in `range`; `true` if the rest of the call has failed with them.
fn settle(sending: &mut Sending, range: std::ops::Range<usize>, sent: &Sent) -> bool {
    let Some(error) = &sent.error else { return false };
    tracing::debug!(%error, "a message was not written");
    fail_from(sending, range.start + sent.written);
    true
}

/// Notes that the stanzas from `start` on were not sent.
fn fail_from(sending: &mut Sending, start: usize) {
    for index in start..sending.stanzas.len() {
        sending.fail(index);
    }
}

/// No delivery waits or is being handled.
struct Idle<'a> {
    inner: &'a Inner,
}

impl Future for Idle<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.inner.queue();
        if queue.lanes.is_empty() {
            return Poll::Ready(());
        }
        register(&mut queue.others, context.waker());
        Poll::Pending
    }
}

struct HasEnded<'a> {
    inner: &'a Inner,
}

impl Future for HasEnded<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut ended = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.ended {
            return Poll::Ready(());
        }
        register(&mut ended.wakers, context.waker());
        Poll::Pending
    }
}
