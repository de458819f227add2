//! Events that wait to be taken, by any number of threads or tasks.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::config::Bounds;
/// What a queued thing weighs.
pub(super) trait Weight {
    /// In bytes.
    fn byte_len(&self) -> usize;
}

struct State<T> {
    events: VecDeque<T>,
    bytes: usize,
    wakers: Vec<Waker>,
    ended: bool,
}

/// A queue that is never over its bounds because whoever fills it asks for room first.
pub(super) struct Inbound<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
}

impl<T: Weight> Inbound<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State { events: VecDeque::new(), bytes: 0, wakers: Vec::new(), ended: false };
        Self { bounds, state: Mutex::new(state) }
    }

    /// How many more events fit; a stanza that does is let in whatever its size.
    pub(super) fn room(&self) -> usize {
        let state = self.lock();
        if state.bytes >= self.bounds.bytes {
            return 0;
        }
        self.bounds.stanzas.saturating_sub(state.events.len())
    }

    pub(super) fn push_all(&self, events: &mut Vec<T>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.bytes += events.iter().map(T::byte_len).sum::<usize>();
        state.events.extend(events.drain(..));
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes those events back that `is_one` picks, if all `count` of them still wait to be taken.
    #[cfg_attr(
        not(feature = "client"),
        allow(dead_code, reason = "an account's server gives them again")
    )]
    pub(super) fn withdraw(&self, count: usize, is_one: impl Fn(&T) -> bool) -> bool {
        let mut state = self.lock();
        let waiting = state.events.iter().filter(|event| is_one(event)).count();
        if waiting < count {
            return false;
        }
        state.events.retain(|event| !is_one(event));
        state.bytes = state.events.iter().map(T::byte_len).sum();
        true
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
    pub(super) fn take(&self, max: usize) -> Take<'_, T> {
        Take { inbound: self, max: max.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Take<'a, T> {
    inbound: &'a Inbound<T>,
    max: usize,
}

impl<T: Weight> Future for Take<'_, T> {
    type Output = (Vec<T>, bool);

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
        state.bytes -= events.iter().map(T::byte_len).sum::<usize>();
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
