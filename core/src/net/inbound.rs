//! Events that wait to be taken, by any number of threads or tasks.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::config::Bounds;
use super::connection::Event;

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    wakers: Vec<Waker>,
    ended: bool,
}

/// A queue that is never over its bounds because whoever fills it asks for room first.
pub(super) struct Inbound {
    bounds: Bounds,
    state: Mutex<State>,
}

impl Inbound {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default() }
    }

    /// How many more events fit; a stanza that does is let in whatever its size.
    pub(super) fn room(&self) -> usize {
        let state = self.lock();
        if state.bytes >= self.bounds.bytes {
            return 0;
        }
        self.bounds.stanzas.saturating_sub(state.events.len())
    }

    pub(super) fn push_all(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.bytes += events.iter().map(Event::byte_len).sum::<usize>();
        state.events.extend(events.drain(..));
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// No more events will come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Up to `max` events, as soon as there is one; none at all when no more will come. The flag
    /// says that there was no room and is now.
    pub(super) fn take(&self, max: usize) -> Take<'_> {
        Take { inbound: self, max: max.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Take<'a> {
    inbound: &'a Inbound,
    max: usize,
}

impl Future for Take<'_> {
    type Output = (Vec<Event>, bool);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let bounds = self.inbound.bounds;
        let mut state = self.inbound.lock();
        if state.events.is_empty() && !state.ended {
            register(&mut state.wakers, context.waker());
            return Poll::Pending;
        }
        let was_full = state.events.len() >= bounds.stanzas || state.bytes >= bounds.bytes;
        let count = self.max.min(state.events.len());
        let events: Vec<_> = state.events.drain(..count).collect();
        state.bytes -= events.iter().map(Event::byte_len).sum::<usize>();
        let is_full = state.events.len() >= bounds.stanzas || state.bytes >= bounds.bytes;
        Poll::Ready((events, was_full && !is_full))
    }
}

/// Adds `waker` unless it is there.
pub(super) fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
