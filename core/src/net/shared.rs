//! What the handles of a connection and its driver share.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::config::ConnectionConfig;
use super::connection::Event;
use super::continuity::Continuity;
use super::cork::{Cork, Next};
use super::gate::Gate;
use super::inbound::{Inbound, register};
use super::outbound::Outbound;
use super::role::Role;
use super::socket::Socket;
use super::stats::Counters;
use super::tls::Session;
use super::wait::bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::service::{Service, Way};
use crate::stanza::Stanza;
use crate::stream::{Batch, IqTracker, OwnAddress};

/// What a connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// No stream is up; the driver tries to change that.
    Connecting,
    /// Another connection of the same component has the stream; this one takes its place when it ends.
    Standby,
    /// What a process that is gone left is to be taken over before this one connects.
    TakingOver,
    Ready,
    /// Closing was asked for.
    Closing,
    /// Nothing will happen any more, for this reason.
    Ended(ErrorKind, String),
}

/// One stream on one socket.
pub(super) struct Link {
    pub(super) stream: Role,
    pub(super) socket: Arc<Socket>,
    /// Once the connection is encrypted, or begins to be.
    pub(super) tls: Option<Session>,
    pub(super) out: Outbound,
    pub(super) cork: Cork,
    /// How many stanzas the stream has taken.
    pub(super) sent: u64,
    /// Writing failed: nothing more will be written.
    pub(super) broken: bool,
}

impl Link {
    /// Writes what the socket takes. A failure ends the stream; `true` says that it just did.
    pub(super) fn flush(&mut self, now: Duration) -> bool {
        self.write(now, Next::Nothing)
    }

    /// [`Link::flush`], where something may follow that this can wait for.
    fn write(&mut self, now: Duration, next: Next) -> bool {
        if self.broken {
            return false;
        }
        let bytes = self.out.waiting();
        let hold = bytes > 0
            && self.tls.is_none()
            && self.socket.can_hold()
            && self.cork.hold(now, bytes, next);
        let flushed = match hold {
            true => self.out.flush_held(&self.socket),
            false => self.out.flush(&self.socket, self.tls.as_mut()),
        };
        if flushed.is_ok() {
            self.note_written(now, bytes, hold);
            return false;
        }
        self.broken = true;
        self.out.wake_all();
        self.stream.handle_input(now, &[]);
        true
    }

    /// All or some of `bytes` were written, as something to `hold` or not.
    fn note_written(&mut self, now: Duration, bytes: usize, hold: bool) {
        let full = !self.out.is_empty();
        if hold && !full {
            self.cork.held(now, bytes);
        } else if bytes > 0 {
            // What is not held takes along what was, but not into a socket that is full.
            if full && (hold || self.cork.is_holding()) {
                self.socket.push();
            }
            self.cork.let_go();
        }
    }

    /// What the kernel holds goes on its way.
    pub(super) fn push(&mut self) {
        if self.cork.is_holding() {
            self.cork.let_go();
            self.socket.push();
        }
    }

    /// Whether `bytes` more may be sent.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.out.has_room(bytes) && !self.stream.is_congested()
    }

    /// Whether something waits for the socket to take it.
    pub(super) fn wants_write(&self) -> bool {
        !self.broken
            && match &self.tls {
                None => !self.out.is_empty(),
                Some(tls) => tls.wants_write() || !(tls.is_handshaking() || self.out.is_empty()),
            }
    }
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) link: Option<Link>,
    /// Counts the links; the one before `epoch` wrote `last_written` bytes.
    pub(super) epoch: u64,
    pub(super) last_written: u64,
    /// How many stanzas the links before this one have taken.
    pub(super) sent_before: u64,
    /// The account's session, as far as it outlives a link.
    pub(super) session: Continuity,
    /// Each request with the time it was given.
    pub(super) iqs: IqTracker<(oneshot::Sender<Result<Stanza>>, Duration)>,
    pub(super) close_by: Option<Instant>,
    /// Until then a close waits for what the app is dealing with.
    pub(super) settle_by: Option<Instant>,
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
/// 2.5 back to back, 43 instead of 12 when each comes alone (`benches/connection.rs`). What a burst
/// costs beyond that, see `cork.rs`.
pub(super) struct Shared {
    pub(super) config: ConnectionConfig,
    pub(super) gate: Option<Gate>,
    pub(super) origin: Instant,
    pub(super) state: Mutex<State>,
    pub(super) inbound: Inbound<Event>,
    /// The kernel holds something of the link's back; changed under the lock only.
    pub(super) held: AtomicBool,
    pub(super) wake: Notify,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(config: ConnectionConfig) -> Self {
        let own = match &config.account {
            Some(account) => OwnAddress::client(account.jid.bare()),
            None => OwnAddress::component(&config.domain),
        };
        let state = State {
            phase: Phase::Connecting,
            link: None,
            epoch: 0,
            last_written: 0,
            sent_before: 0,
            session: Continuity::default(),
            iqs: IqTracker::new(own, config.requests),
            close_by: None,
            settle_by: None,
            armed: Duration::MAX,
            watchers: Vec::new(),
        };
        Self {
            inbound: Inbound::new(config.inbound),
            held: AtomicBool::new(false),
            config,
            gate: None,
            origin: Instant::now(),
            state: Mutex::new(state),
            wake: Notify::new(),
            counters: Counters::default(),
        }
    }

    /// Connects no sooner than `gate` lets it.
    pub(super) fn set_gate(&mut self, gate: Gate, service: &Service) {
        if gate.first_look(service) == Way::Left {
            self.lock().phase = Phase::TakingOver;
        }
        self.gate = Some(gate);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The driver is to close the connection, by `deadline` from now.
    pub(super) fn begin_close(&self, deadline: Duration) {
        let mut state = self.lock();
        if state.close_by.is_none() {
            let (now, deadline) = (Instant::now(), bounded(deadline));
            (state.close_by, state.settle_by) = (Some(now + deadline), Some(now + deadline / 2));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Nothing follows what was sent so far, or nobody knows of it: what is held goes on its way.
    pub(super) fn push(&self) {
        if self.held.load(Ordering::Acquire)
            && let Some(link) = &mut self.lock().link
        {
            link.push();
            self.held.store(false, Ordering::Release);
        }
    }

    /// Takes a batch, to be written at once.
    pub(super) fn submit(&self, batch: &Batch) -> Result<Submitted> {
        self.submit_after(batch, None, Next::Nothing)
    }

    /// Submits, with `cut` only if the last stream that ended did so at that position.
    pub(super) fn submit_after(
        &self,
        batch: &Batch,
        cut: Option<u64>,
        next: Next,
    ) -> Result<Submitted> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let epoch = state.epoch;
        let link = match (&state.phase, &mut state.link) {
            (Phase::Ready, Some(link)) => link,
            (phase, _) => return Err(self.not_ready(phase)),
        };
        let stale = cut.is_some_and(|cut| cut != state.sent_before);
        if stale || !link.has_room(batch.byte_len()) {
            return Ok(Submitted::Full);
        }
        let now = self.now();
        batch.iter().try_for_each(|stanza| link.stream.check(stanza))?;
        for stanza in batch.iter() {
            link.sent = link.stream.send_checked(now, stanza);
        }
        let position = state.sent_before + link.sent;
        let first = link.out.is_empty();
        let direct = first && !self.config.gather;
        link.stream.poll_transmit(link.out.buffer());
        link.out.count(batch.len());
        let end = link.out.end();
        if direct {
            link.write(now, next);
            self.held.store(link.cork.is_holding(), Ordering::Release);
        }
        // The driver has work if something is left to write, if the link broke, or if something
        // (a barrier, what is held) is due sooner than it means to look.
        let unfinished = first && (link.wants_write() || link.broken);
        let due = [link.stream.poll_timeout(), link.cork.poll_timeout(now)];
        let due = due.into_iter().flatten().min().filter(|due| *due < state.armed);
        let sooner = due.is_some();
        state.armed = due.unwrap_or(state.armed);
        let written = link.out.written() >= end;
        drop(guard);
        self.counters.sent(batch.len(), batch.byte_len());
        if unfinished || sooner {
            self.wake.notify_one();
        }
        Ok(Submitted::Taken { epoch, end, written, position })
    }

    /// Whether [`Shared::submit_after`] takes something now.
    pub(super) fn has_room_after(&self, cut: u64) -> bool {
        let state = self.lock();
        let link = state.link.as_ref().filter(|_| state.phase == Phase::Ready);
        link.is_some_and(|link| cut == state.sent_before && link.has_room(0))
    }

    /// The next `count` stanzas that were handed out are dealt with.
    pub(super) fn confirm(&self, count: usize) {
        let mut state = self.lock();
        let position = state.session.confirm(count);
        #[cfg(feature = "client")]
        if let Some(position) = position {
            match &mut state.link {
                Some(Link { stream: Role::Client(account), .. }) => {
                    account.stream.confirm(position)
                }
                _ => {
                    if let Some(resumption) = &mut state.session.resumption {
                        resumption.confirm(position);
                    }
                }
            }
        }
        #[cfg(not(feature = "client"))]
        let _ = position;
        // A close may have waited for it.
        let news = state.session.is_settled() || state.close_by.is_some();
        drop(state);
        if news {
            self.wake.notify_one();
        }
    }

    pub(super) fn not_ready(&self, phase: &Phase) -> Error {
        match phase {
            Phase::Ended(kind, reason) => Error::new(*kind, reason.clone()),
            Phase::Closing => Error::new(ErrorKind::Closed, "the connection is being closed"),
            Phase::Standby => Error::new(
                ErrorKind::NotConnected,
                format!(
                    "another connection of {} has the stream to {}, and this one stands by; send through that one",
                    self.config.domain, self.config.endpoint
                ),
            ),
            Phase::TakingOver => Error::new(
                ErrorKind::NotConnected,
                format!(
                    "what another process of {} left is being taken over, for some seconds; send again after that",
                    self.config.domain
                ),
            ),
            Phase::Connecting | Phase::Ready => Error::new(
                ErrorKind::NotConnected,
                format!(
                    "no stream to {} is up as {}; it is being tried again, so send again later",
                    self.config.endpoint,
                    self.config.own()
                ),
            ),
        }
    }
}

/// What became of a batch that was handed in.
pub(super) enum Submitted {
    Full,
    Taken { epoch: u64, end: u64, written: bool, position: u64 },
}

impl Phase {
    pub(super) fn is_ready_or_over(&self) -> bool {
        !matches!(self, Self::Connecting | Self::Standby | Self::TakingOver)
    }
}

/// The connection is in a phase that is waited for: this one, whatever has become of it since.
pub(super) struct PhaseIs<'a> {
    pub(super) shared: &'a Shared,
    pub(super) wanted: fn(&Phase) -> bool,
}

impl Future for PhaseIs<'_> {
    type Output = Phase;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Phase> {
        let mut state = self.shared.lock();
        if (self.wanted)(&state.phase) {
            return Poll::Ready(state.phase.clone());
        }
        register(&mut state.watchers, context.waker());
        Poll::Pending
    }
}
