//! The outbox between an app's calls and its connection.
//!
//! A call waits until the store has its messages. One task writes them, all that a flush of the disk
//! has made ready with one write, and again after a cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::task::utc;
use super::{BATCH_BYTES, Inner, fail_from};
use crate::error::Result;
use crate::net::inbound::register;
use crate::service::{Delivery, Outbox, OutboxLimits, OutboxStats, Sending, Service};
use crate::store::{Change, Durability};
use crate::stream::{Barrier, Batch};

/// How soon the server is asked what it has read, where nothing else is said.
pub(super) const BARRIER: Barrier = Barrier { stanzas: 512, within: Duration::from_millis(200) };
/// How often is looked for what has expired.
const EXPIRY_CHECK: Duration = Duration::from_secs(30);

pub(super) struct Durable {
    state: Mutex<State>,
    /// Wakes the task: something is ready to be written, or the app closes.
    wake: Notify,
}

struct State {
    outbox: Outbox,
    /// Where the last stream ended that the outbox knows of.
    cut: u64,
    closed: bool,
    /// Who waits for the outbox to be empty.
    wakers: Vec<Waker>,
}

/// What became of a call: so many of its messages, from the first on, are stored.
pub(super) struct Kept {
    stored: usize,
}

impl Kept {
    pub(super) fn settle(self, sending: &mut Sending) {
        fail_from(sending, self.stored);
    }
}

impl Durable {
    pub(super) fn new(limits: OutboxLimits, service: &Service) -> Self {
        let mut outbox = Outbox::new(limits);
        let (rows, done) = service.take_outbox();
        outbox.restore(rows, done);
        let state = State { outbox, cut: 0, closed: false, wakers: Vec::new() };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> OutboxStats {
        self.lock().outbox.stats()
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_if_drained();
        drop(state);
        self.wake.notify_one();
    }

    /// Stores what is to be sent. The future may be dropped: what is stored will be sent all the same.
    pub(super) fn keep(
        self: &Arc<Self>,
        service: &Service,
        sending: &Sending,
    ) -> impl Future<Output = Kept> + use<> {
        let answer = self.begin(service, sending);
        async move {
            let Some((count, answer)) = answer else { return Kept { stored: 0 } };
            match answer.await {
                Ok(Ok(())) => Kept { stored: count },
                Ok(Err(error)) => {
                    tracing::error!(%error, "messages could not be stored and are not sent");
                    Kept { stored: 0 }
                }
                Err(_) => Kept { stored: 0 },
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        service: &Service,
        sending: &Sending,
    ) -> Option<(usize, oneshot::Receiver<Result<()>>)> {
        let now = utc();
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let accepted = state.outbox.accept(now, &sending.stanzas);
        let row = state.outbox.row(now, &accepted, &sending.stanzas);
        drop(state);
        let count = accepted.len();
        if count < sending.stanzas.len() {
            let refused = sending.stanzas.len() - count;
            tracing::warn!(refused, "the outbox is full; messages were refused");
        }
        if count == 0 {
            return None;
        }
        let (told, answer) = oneshot::channel();
        let durable = Arc::clone(self);
        let done = move |stored: Result<()>| {
            let mut state = durable.lock();
            match &stored {
                Ok(()) => state.outbox.stored(&accepted),
                Err(_) => state.outbox.not_stored(&accepted),
            }
            drop(state);
            durable.wake.notify_one();
            let _ = told.send(stored);
        };
        let change = Change::OutboxPut(Arc::clone(service.queue()), row);
        service.submit(vec![change], Box::new(done));
        Some((count, answer))
    }
}

/// Stores what came for the app, before anybody can learn that it came.
pub(super) async fn keep_deliveries(service: &Service, deliveries: &[Delivery]) {
    let changes = deliveries.iter().map(|delivery| service.keep_delivery(delivery)).collect();
    let (told, answer) = oneshot::channel();
    let done = move |stored: Result<()>| {
        let _ = told.send(stored);
    };
    service.submit(changes, Box::new(done));
    if let Ok(Err(error)) = answer.await {
        tracing::error!(%error, "deliveries could not be stored; a restart would lose them");
    }
}

impl State {
    fn wake_if_drained(&mut self) {
        if self.closed || self.outbox.is_empty() {
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }
}

/// The task that writes what is stored.
pub(super) async fn run(inner: Arc<Inner>, durable: Arc<Durable>) {
    while !inner.closing.load(Ordering::Acquire) {
        expire(&inner, &durable);
        write(&inner, &durable);
        let _ = tokio::time::timeout(EXPIRY_CHECK, durable.wake.notified()).await;
    }
}

fn write(inner: &Inner, durable: &Durable) {
    let mut state = durable.lock();
    while state.outbox.has_next() {
        let mut batch = Batch::new();
        for (head, tail) in state.outbox.next_batch(BATCH_BYTES) {
            batch.push_pieces(head, tail);
        }
        match inner.connection.try_send_after(&batch, state.cut) {
            Ok(Some(position)) => state.outbox.written(batch.len(), position),
            // There will be room, or a stream, when the next acknowledgement or stream is there.
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "stored messages wait");
                return;
            }
        }
    }
}

fn expire(inner: &Inner, durable: &Durable) {
    let mut state = durable.lock();
    let up_to = state.outbox.handle_timeout(utc());
    state.wake_if_drained();
    drop(state);
    if up_to.is_some() {
        tracing::warn!("messages expired before they could be sent");
    }
    forget(inner, up_to);
}

/// Messages up to this number need not be stored any more. That is written soon: until then a restart
/// would send them again.
fn forget(inner: &Inner, up_to: Option<u64>) {
    if let Some(up_to) = up_to {
        let change = Change::OutboxDone(Arc::clone(inner.service.queue()), up_to);
        // A fault is logged and counted; a later number says the same and more.
        let _ = inner.service.keep(vec![change], Durability::Soon);
    }
}

/// The server has read everything up to `position`.
pub(super) fn acked(inner: &Inner, position: u64) {
    let Some(durable) = &inner.durable else { return };
    let mut state = durable.lock();
    let up_to = state.outbox.acked(position);
    state.wake_if_drained();
    drop(state);
    forget(inner, up_to);
    durable.wake.notify_one();
}

/// A stream has ended.
pub(super) fn cut(inner: &Inner, position: u64, blamed: bool) {
    let Some(durable) = &inner.durable else { return };
    let mut state = durable.lock();
    let up_to = state.outbox.lost(position, blamed);
    state.cut = position;
    state.wake_if_drained();
    drop(state);
    if up_to.is_some() {
        tracing::error!("a message was given up: the server ends the stream whenever it gets it");
    }
    forget(inner, up_to);
    durable.wake.notify_one();
}

/// A stream is up.
pub(super) fn ready(inner: &Inner) {
    if let Some(durable) = &inner.durable {
        durable.wake.notify_one();
    }
}

/// Resolves when nothing waits to be sent, or when waiting for that is no use. What is left is sent
/// when the app is opened again.
pub(super) async fn drained(inner: &Inner) {
    if let Some(durable) = &inner.durable
        && inner.connection.is_ready()
    {
        Drained(durable).await;
    }
}

struct Drained<'a>(&'a Durable);

impl Future for Drained<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.closed || state.outbox.is_empty() {
            return Poll::Ready(());
        }
        register(&mut state.wakers, context.waker());
        Poll::Pending
    }
}
