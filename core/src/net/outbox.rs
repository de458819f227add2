//! The outbox between whoever sends and a connection.
//!
//! A sender waits until the store has its messages. One task writes them, all that a flush of the disk
//! has made ready with one write, and again after a cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, oneshot};

use super::connection::{Connection, Event};
use super::inbound::register;
use crate::error::{Error, ErrorKind, Result};
use crate::service::{Delivery, Outbox, OutboxLimits, OutboxStats, Outgoing, Service};
use crate::store::{Change, Durability};
use crate::stream::{Barrier, Batch};

/// What is written at once: what a call with many recipients sends can be much larger than the call.
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// How often is looked for what has expired.
const EXPIRY_CHECK: Duration = Duration::from_secs(30);

/// The messages of one app on their way out, stored before they count as sent and kept until the server
/// is known to have read them: an [`Outbox`] with a disk and a connection.
///
/// It is the driver's that takes the connection's events: [`LiveOutbox::handle_event`] must get each,
/// and [`LiveOutbox::run`] must be running.
pub struct LiveOutbox {
    connection: Connection,
    service: Arc<Service>,
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

/// What became of a call.
#[derive(Debug)]
pub struct Kept {
    /// So many of its messages, from the first on, are stored.
    pub stored: usize,
    /// Why the others are not: [`ErrorKind::Backpressure`] if there was no room, [`ErrorKind::Store`],
    /// or [`ErrorKind::Closed`].
    pub error: Option<Error>,
}

impl LiveOutbox {
    /// How soon the server is asked what it has read, where nothing else is said: the connection must
    /// have a [barrier](super::ConnectionConfig::barrier).
    pub const BARRIER: Barrier = Barrier { stanzas: 512, within: Duration::from_millis(200) };

    /// The outbox of `service`, with what its store has kept from before.
    pub fn new(connection: Connection, service: Arc<Service>, limits: OutboxLimits) -> Arc<Self> {
        let mut outbox = Outbox::new(limits);
        let (rows, done) = service.take_outbox();
        outbox.restore(rows, done);
        let state = State { outbox, cut: 0, closed: false, wakers: Vec::new() };
        Arc::new(Self { connection, service, state: Mutex::new(state), wake: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds and has done.
    pub fn stats(&self) -> OutboxStats {
        self.lock().outbox.stats()
    }

    /// Takes nothing more, and lets [`LiveOutbox::run`] end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_if_drained();
        drop(state);
        self.wake.notify_one();
    }

    /// Stores what is to be sent, and with it, all or none, `changes`. The stanzas must be ones that the
    /// stream takes: the service's, or checked by [`Connection::batch`]. The future may be dropped: what
    /// is stored will be sent all the same.
    pub fn keep(
        self: &Arc<Self>,
        stanzas: &[Outgoing],
        changes: Vec<Change>,
    ) -> impl Future<Output = Kept> + use<> {
        let begun = self.begin(stanzas, changes);
        async move {
            let (count, refused, answer) = match begun {
                Ok(begun) => begun,
                Err(error) => return Kept { stored: 0, error: Some(error) },
            };
            match answer.await {
                Ok(Ok(())) => Kept { stored: count, error: refused },
                Ok(Err(error)) => {
                    tracing::error!(%error, "messages could not be stored and are not sent");
                    Kept { stored: 0, error: Some(error) }
                }
                Err(_) => Kept { stored: 0, error: Some(closed()) },
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        stanzas: &[Outgoing],
        mut changes: Vec<Change>,
    ) -> Result<(usize, Option<Error>, oneshot::Receiver<Result<()>>)> {
        let now = utc();
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let accepted = state.outbox.accept(now, stanzas);
        let row = state.outbox.row(now, &accepted, stanzas);
        drop(state);
        let count = accepted.len();
        let refused = (count < stanzas.len()).then(|| full(stanzas.len() - count));
        if let Some(error) = refused.as_ref() {
            tracing::warn!("{error}");
        }
        if count == 0 {
            return Err(refused.unwrap_or_else(closed));
        }
        let (told, answer) = oneshot::channel();
        let this = Arc::clone(self);
        let done = move |stored: Result<()>| {
            let mut state = this.lock();
            match &stored {
                Ok(()) => state.outbox.stored(&accepted),
                Err(_) => state.outbox.not_stored(&accepted),
            }
            drop(state);
            this.wake.notify_one();
            let _ = told.send(stored);
        };
        changes.push(Change::OutboxPut(Arc::clone(self.service.queue()), row));
        self.service.submit(changes, Box::new(done));
        Ok((count, refused, answer))
    }

    /// Writes what is stored, as soon as it can be written, until [`LiveOutbox::close`].
    pub async fn run(self: Arc<Self>) {
        while !self.lock().closed {
            self.expire();
            self.write();
            let _ = tokio::time::timeout(EXPIRY_CHECK, self.wake.notified()).await;
        }
    }

    fn write(&self) {
        let mut state = self.lock();
        while state.outbox.has_next() {
            let mut batch = Batch::new();
            for (head, tail) in state.outbox.next_batch(BATCH_BYTES) {
                batch.push_pieces(head, tail);
            }
            match self.connection.try_send_after(&batch, state.cut) {
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

    fn expire(&self) {
        let mut state = self.lock();
        let up_to = state.outbox.handle_timeout(utc());
        state.wake_if_drained();
        drop(state);
        if up_to.is_some() {
            tracing::warn!("messages expired before they could be sent");
        }
        self.forget(up_to);
    }

    /// Messages up to this number need not be stored any more. That is written soon: until then a
    /// restart would send them again.
    fn forget(&self, up_to: Option<u64>) {
        if let Some(up_to) = up_to {
            let change = Change::OutboxDone(Arc::clone(self.service.queue()), up_to);
            // A fault is logged and counted; a later number says the same and more.
            let _ = self.service.keep(vec![change], Durability::Soon);
        }
    }

    /// What happened on the connection.
    pub fn handle_event(&self, event: &Event) {
        match *event {
            Event::Ready => self.wake.notify_one(),
            Event::Acked(position) => self.acked(position),
            Event::Cut { position, blamed } => self.cut(position, blamed),
            _ => {}
        }
    }

    /// The server has read everything up to `position`.
    fn acked(&self, position: u64) {
        let mut state = self.lock();
        let up_to = state.outbox.acked(position);
        state.wake_if_drained();
        drop(state);
        self.forget(up_to);
        self.wake.notify_one();
    }

    /// A stream has ended.
    fn cut(&self, position: u64, blamed: bool) {
        let mut state = self.lock();
        let up_to = state.outbox.lost(position, blamed);
        state.cut = position;
        state.wake_if_drained();
        drop(state);
        if up_to.is_some() {
            tracing::error!(
                "a message was given up: the server ends the stream whenever it gets it"
            );
        }
        self.forget(up_to);
        self.wake.notify_one();
    }

    /// Resolves when nothing waits to be sent, or when waiting for that is no use. What is left is
    /// sent when the app is opened again.
    pub async fn drained(&self) {
        if self.connection.is_ready() {
            Drained(self).await;
        }
    }
}

/// Stores what came for the app, before anybody can learn that it came.
///
/// # Errors
/// [`ErrorKind::Store`]: none of them is stored.
pub(super) async fn keep_deliveries(service: &Service, deliveries: &[Delivery]) -> Result<()> {
    let changes = deliveries.iter().map(|delivery| service.keep_delivery(delivery)).collect();
    let (told, answer) = oneshot::channel();
    let done = move |stored: Result<()>| {
        let _ = told.send(stored);
    };
    service.submit(changes, Box::new(done));
    answer.await.unwrap_or_else(|_| Err(closed()))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the outbox is closed: nothing more is sent")
}

fn full(refused: usize) -> Error {
    let text = format!(
        "the outbox is full and {refused} messages were refused; send again when the XMPP server takes what waits"
    );
    Error::new(ErrorKind::Backpressure, text)
}

/// The time since the Unix epoch.
pub(super) fn utc() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl State {
    fn wake_if_drained(&mut self) {
        if self.closed || self.outbox.is_empty() {
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }
}

struct Drained<'a>(&'a LiveOutbox);

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
