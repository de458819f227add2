//! The outbox between whoever sends and a connection.
//!
//! A sender waits until the store has its messages. One task writes them, all that a flush of the disk
//! has made ready with one write, and again after a cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, Event};
use super::gathering::{Came, Company, Gathering, Group, Next};
use super::inbound::register;
use crate::error::{Error, ErrorKind, Result};
use crate::service::outbox::Accepted;
use crate::service::{Bequest, Outbox, OutboxLimits, OutboxStats, Outgoing, Service, Suspense};
use crate::store::{Change, Durability, OutboxRow, Placed};
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
    origin: Instant,
}

struct State {
    outbox: Outbox,
    /// Where the last stream ended that the outbox knows of.
    cut: u64,
    /// Up to where the server has read.
    acked: u64,
    closed: bool,
    /// Who waits for the outbox to be empty.
    wakers: Vec<Waker>,
    /// Who waits for what is stored to be written.
    writing: Vec<Waker>,
    /// What has come since the store was last given something.
    gathering: Gathering,
    /// The store has not answered yet.
    storing: bool,
    company: Company,
    suspense: Suspense,
    bequest: Bequest,
}

/// Waits until the messages of a call are stored. It may be dropped: what is stored will be sent all
/// the same.
pub struct Keeping {
    group: Option<Arc<Group>>,
    count: usize,
    error: Option<Error>,
}

impl Future for Keeping {
    type Output = Kept;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Kept> {
        let this = &mut *self;
        let Some(group) = &this.group else {
            return Poll::Ready(Kept { stored: 0, error: this.error.take() });
        };
        let mut progress = group.lock();
        match &progress.stored {
            Some(Ok(())) => Poll::Ready(Kept { stored: this.count, error: this.error.take() }),
            Some(Err(error)) => {
                let error = Error::new(error.kind(), error.to_string());
                Poll::Ready(Kept { stored: 0, error: Some(error) })
            }
            None => {
                // A call is polled once before its end; a second waker would do no harm.
                if !progress.wakers.last().is_some_and(|last| last.will_wake(context.waker())) {
                    progress.wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
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
        if service.is_shared() {
            outbox.leave_room();
        }
        let state = State {
            outbox,
            cut: 0,
            acked: 0,
            closed: false,
            wakers: Vec::new(),
            writing: Vec::new(),
            gathering: Gathering::default(),
            storing: false,
            company: Company::default(),
            suspense: Suspense::default(),
            bequest: Bequest::default(),
        };
        let (state, wake) = (Mutex::new(state), Notify::new());
        Arc::new(Self { connection, service, state, wake, origin: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds and has done.
    pub fn stats(&self) -> OutboxStats {
        self.lock().outbox.stats()
    }

    /// Whether messages are stored that are not written yet: what does not go through here would
    /// overtake them.
    pub fn has_stored(&self) -> bool {
        self.lock().outbox.has_stored()
    }

    /// Takes nothing more, and lets [`LiveOutbox::run`] end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let too_late = state.give_up_gathered();
        state.wake_if_drained();
        state.wake_if_written();
        drop(state);
        self.wake.notify_one();
        too_late.group.settle(Err(closed()));
    }

    /// Whether this process is the one to send through now: not while another one has the stream, and
    /// not before what another one left.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`]: it is not.
    pub fn check(&self) -> Result<()> {
        match self.service.is_shared() {
            true if self.connection.is_standby() => Err(standing_by()),
            true if self.connection.is_taking_over() => Err(taking_over()),
            _ => Ok(()),
        }
    }

    /// [`LiveOutbox::keep_reply`] for what an app sends of its own accord, if [`LiveOutbox::check`] lets
    /// it.
    pub fn keep(self: &Arc<Self>, stanzas: &[Outgoing], changes: Vec<Change>) -> Keeping {
        match self.check() {
            Ok(()) => self.keep_reply(stanzas, changes),
            Err(error) => Keeping { group: None, count: 0, error: Some(error) },
        }
    }

    /// Stores what is to be sent, together with what other calls bring meanwhile; and with it, all or
    /// none, `changes`. The stanzas must be ones that the stream takes: the service's, or checked by
    /// [`Connection::batch`].
    pub fn keep_reply(self: &Arc<Self>, stanzas: &[Outgoing], changes: Vec<Change>) -> Keeping {
        self.keep_by(Outbox::accept, stanzas, changes)
    }

    fn keep_by(
        self: &Arc<Self>,
        accept: fn(&mut Outbox, Duration, &[Outgoing]) -> Accepted,
        stanzas: &[Outgoing],
        changes: Vec<Change>,
    ) -> Keeping {
        let now = utc();
        let mut state = self.lock();
        if state.closed {
            return Keeping { group: None, count: 0, error: Some(closed()) };
        }
        if self.service.is_shared() && (state.gathering.rows.is_empty() || !changes.is_empty()) {
            state.outbox.leave_room();
        }
        let accepted = accept(&mut state.outbox, now, stanzas);
        let count = accepted.len();
        let error = (count < stanzas.len()).then(|| full(stanzas.len() - count));
        if let Some(error) = &error {
            tracing::warn!("{error}");
        }
        if count == 0 {
            return Keeping { group: None, count, error: error.or_else(|| Some(closed())) };
        }
        let group = if changes.is_empty() {
            let State { outbox, gathering, .. } = &mut *state;
            let group = Arc::clone(&gathering.group);
            let joined = gathering.rows.last_mut();
            if !joined.is_some_and(|row| outbox.join(row, now, &accepted, stanzas)) {
                gathering.rows.push(outbox.row(now, &accepted, stanzas));
            }
            gathering.calls += 1;
            self.gather(state);
            group
        } else {
            let rows = vec![state.outbox.row(now, &accepted, stanzas)];
            drop(state);
            let alone = Gathering { rows, ..Gathering::default() };
            let group = Arc::clone(&alone.group);
            self.store(alone, changes, false);
            group
        };
        Keeping { group: Some(group), count, error }
    }

    /// Takes over messages that another process kept, and stores, all or none, `changes` with them.
    pub(super) fn adopt(self: &Arc<Self>, rows: Vec<OutboxRow>, changes: Vec<Change>) -> Keeping {
        let rows = self.lock().outbox.adopt(rows);
        let count = rows.iter().map(|row| row.heads.len()).sum();
        let alone = Gathering { rows, is_legacy: true, ..Gathering::default() };
        let group = Arc::clone(&alone.group);
        self.store(alone, changes, false);
        Keeping { group: Some(group), count, error: None }
    }

    /// [`LiveOutbox::keep`] for the service's own stanzas that [must not get
    /// lost](crate::service::Inbound::lasting), for which there is room where there is none for
    /// messages. Gives back what could not be stored: that is to be sent as everything else is.
    pub async fn keep_lasting(self: &Arc<Self>, mut stanzas: Vec<Bytes>) -> Vec<Bytes> {
        if !stanzas.is_empty() {
            let outgoing: Vec<_> = stanzas.iter().cloned().map(Outgoing::whole).collect();
            let kept = self.keep_by(Outbox::accept_lasting, &outgoing, Vec::new()).await;
            stanzas.drain(..kept.stored);
        }
        stanzas
    }

    fn gather(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let gathered = state.gathering.calls;
        let came = state.company.came(gathered);
        if state.storing {
            // The task goes on when the store has answered.
            return;
        }
        match came {
            Came::Enough => {
                let next = state.begin_to_store();
                drop(state);
                self.store(next, Vec::new(), true);
            }
            // Others are about to send again: the task comes after them.
            Came::First => self.wake.notify_one(),
            Came::OneOfMany => {}
        }
    }

    /// Gives the store what has gathered, unless it still has something to do or more is on its way:
    /// then says when to look again.
    fn go_on_storing(self: &Arc<Self>) -> Option<Instant> {
        let mut state = self.lock();
        if state.storing {
            return None;
        }
        let gathered = state.gathering.calls;
        match state.company.look(Instant::now(), gathered) {
            Next::Rest => None,
            Next::LookAt(at) => Some(at),
            Next::Store => {
                let next = state.begin_to_store();
                drop(state);
                self.store(next, Vec::new(), true);
                None
            }
        }
    }

    fn store(self: &Arc<Self>, next: Gathering, mut changes: Vec<Change>, gathered: bool) {
        let Gathering { rows, calls, group, is_legacy } = next;
        let accepted = Accepted::calls(&rows);
        let this = Arc::clone(self);
        let done = move |placed: Result<Placed>| {
            let elsewhere = placed.as_ref().is_ok_and(|placed| placed.elsewhere && !is_legacy);
            let stored = placed.map(drop);
            if let Err(error) = &stored {
                tracing::error!(%error, "messages could not be stored and are not sent");
            }
            let mut state = this.lock();
            if gathered {
                state.storing = false;
                let gathered = state.gathering.calls;
                state.company.told(calls, gathered);
            }
            if is_legacy && stored.is_ok() {
                state.suspense.taken_over();
            }
            if elsewhere && let Some(first) = accepted.first() {
                state.suspense.begin(first.first(), this.origin.elapsed());
                state.hold();
            }
            for accepted in &accepted {
                match &stored {
                    Ok(()) => state.outbox.stored(accepted),
                    Err(_) => state.outbox.not_stored(accepted),
                }
            }
            let too_late = state.give_up_gathered();
            state.wake_if_drained();
            drop(state);
            this.wake.notify_one();
            group.settle(stored);
            too_late.group.settle(Err(closed()));
        };
        let put = |row| Change::OutboxPut(Arc::clone(self.service.queue()), row);
        changes.extend(rows.into_iter().map(put));
        self.service.submit_placed(changes, Box::new(done));
    }

    /// Writes what is stored, as soon as it can be written, until [`LiveOutbox::close`].
    pub async fn run(self: Arc<Self>) {
        while !self.lock().closed {
            let look = self.go_on_storing();
            self.expire();
            self.look().await;
            let hand_over = self.hand_over().await;
            self.write();
            let due = self.lock().suspense.due().map(|due| self.origin + due);
            let until = look.into_iter().chain(hand_over).chain(due).min();
            let until = until.unwrap_or_else(|| Instant::now() + EXPIRY_CHECK);
            let _ = timeout_at(until, self.wake.notified()).await;
        }
    }

    /// Whether what is held may go: no other process that is gone left messages.
    async fn look(&self) {
        let now = self.origin.elapsed();
        if self.lock().suspense.due().is_none_or(|due| due > now) {
            return;
        }
        let service = Arc::clone(&self.service);
        let asked = tokio::task::spawn_blocking(move || service.fellows()).await;
        let mut state = self.lock();
        state.suspense.looked(now, &asked.unwrap_or_else(|_| Err(closed())));
        state.hold();
    }

    fn write(&self) {
        let mut batch = Batch::new();
        loop {
            let state = self.lock();
            // Out of the store's reach, others may write them in our place.
            let may_write = state.outbox.has_next()
                && self.service.holds()
                && self.connection.has_room_after(state.cut);
            if !may_write {
                // There will be room, or a stream, when the next acknowledgement or stream is there.
                return;
            }
            batch.clear();
            for (head, tail) in state.outbox.next_batch(BATCH_BYTES) {
                batch.push_pieces(head, tail);
            }
            let cut = state.cut;
            // Who sends meanwhile need not wait for the socket.
            drop(state);
            match self.connection.try_send_after(&batch, cut) {
                Ok(Some(position)) => self.written(batch.len(), position, cut),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "stored messages wait");
                    return;
                }
            }
        }
    }

    /// The messages of a batch were written on the stream after `cut`.
    fn written(&self, count: usize, position: u64, cut: u64) {
        let mut state = self.lock();
        if state.cut != cut {
            // That stream has ended meanwhile: they are still to be written.
            return;
        }
        state.outbox.written(count, position);
        state.wake_if_written();
        let acked = state.acked;
        let up_to = if acked >= position { state.outbox.acked(acked) } else { None };
        state.wake_if_drained();
        drop(state);
        self.forget(up_to);
    }

    fn expire(self: &Arc<Self>) {
        let up_to = self.lock().outbox.handle_timeout(utc());
        if let Some(up_to) = up_to {
            tracing::warn!("messages expired before they could be sent");
            self.give_up(up_to);
        }
    }

    /// Has the store forget messages up to this number, and goes on when it has. After a fault that is
    /// tried again with the next look: what follows waits.
    fn give_up(self: &Arc<Self>, up_to: u64) {
        let this = Arc::clone(self);
        let done = move |stored: Result<()>| {
            let mut state = this.lock();
            state.outbox.given_up(stored.is_ok());
            state.wake_if_drained();
            drop(state);
            match stored {
                Ok(()) => this.wake.notify_one(),
                Err(error) => tracing::error!(%error, "what is given up is not forgotten yet"),
            }
        };
        let change = Change::OutboxDone(Arc::clone(self.service.queue()), up_to);
        self.service.submit(vec![change], Box::new(done));
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
    pub fn handle_event(self: &Arc<Self>, event: &Event) {
        match *event {
            Event::Ready => self.wake.notify_one(),
            Event::Acked(position) => self.acked(position),
            Event::Cut { position, blamed } => self.cut(position, blamed),
            _ => {}
        }
    }

    /// Looks for what can be written.
    pub(super) fn wake_up(&self) {
        self.wake.notify_one();
    }

    /// The server has read everything up to `position`.
    fn acked(&self, position: u64) {
        let mut state = self.lock();
        state.acked = position;
        let up_to = state.outbox.acked(position);
        state.wake_if_drained();
        drop(state);
        self.forget(up_to);
        self.wake.notify_one();
    }

    /// A stream has ended.
    fn cut(self: &Arc<Self>, position: u64, blamed: bool) {
        let mut state = self.lock();
        let up_to = state.outbox.lost(position, blamed);
        state.cut = position;
        drop(state);
        if let Some(up_to) = up_to {
            tracing::error!(
                "a message is given up: the server ends the stream whenever it gets it"
            );
            self.give_up(up_to);
        }
        self.wake.notify_one();
    }

    /// Resolves when what is stored and may go now is written to the stream: what is sent then comes
    /// behind it.
    pub async fn written_out(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.closed || !state.outbox.has_next() {
                return Poll::Ready(());
            }
            state.writing.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves when nothing waits to be sent, or when waiting for that is no use. What is left is
    /// sent when the app is opened again.
    pub async fn drained(&self) {
        if self.connection.is_ready() {
            Drained(self).await;
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the outbox is closed: nothing more is sent")
}

/// What would be stored here would wait for the end of the process that has the stream.
fn standing_by() -> Error {
    let text = "this process stands by while another one has the stream to the server; send through that one";
    Error::new(ErrorKind::NotConnected, text)
}

fn taking_over() -> Error {
    let text =
        "what another process left is being taken over, for some seconds; send again after that";
    Error::new(ErrorKind::NotConnected, text)
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
    fn hold(&mut self) {
        match self.suspense.from() {
            Some(from) => self.outbox.hold(from),
            None => self.outbox.release(),
        }
    }

    fn begin_to_store(&mut self) -> Gathering {
        self.storing = true;
        std::mem::take(&mut self.gathering)
    }

    /// What nobody will give to the store any more.
    fn give_up_gathered(&mut self) -> Gathering {
        if !self.closed || self.storing {
            return Gathering::default();
        }
        let gathered = std::mem::take(&mut self.gathering);
        for accepted in Accepted::calls(&gathered.rows) {
            self.outbox.not_stored(&accepted);
        }
        gathered
    }

    fn wake_if_written(&mut self) {
        if self.closed || !self.outbox.has_next() {
            self.writing.drain(..).for_each(Waker::wake);
        }
    }

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

mod handover;
#[cfg(test)]
mod tests;
