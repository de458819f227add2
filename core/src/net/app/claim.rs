//! Taking deliveries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Claimed, Inner};
use crate::net::inbound::register;

/// Up to `max` deliveries, as soon as there is one; none when no more will come.
pub(super) struct Claim<'a> {
    inner: &'a Arc<Inner>,
    max: usize,
    waker: Option<Waker>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, max: usize) -> Self {
        Self { inner, max: max.max(1), waker: None }
    }
}

impl Drop for Claim<'_> {
    /// A wake-up that came while the wait was given up goes to somebody else.
    fn drop(&mut self) {
        let Some(waker) = self.waker.take() else { return };
        let mut queue = self.inner.queue();
        queue.pullers.retain(|known| !known.will_wake(&waker));
        if queue.lanes.has_ready() {
            queue.wake_puller();
        }
    }
}

impl Future for Claim<'_> {
    type Output = Option<Vec<Claimed>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner;
        // Out of a shared store's reach, others may deliver in our place.
        let max = if inner.service.holds() { self.max } else { 0 };
        let mut queue = inner.queue();
        let claimed = queue.lanes.claim(max);
        if claimed.is_empty() {
            if queue.over && queue.lanes.is_empty() {
                return Poll::Ready(None);
            }
            // Each of them is woken for one delivery: a waker that nobody looks at would swallow it.
            if let Some(old) = self.waker.take() {
                queue.pullers.retain(|known| !known.will_wake(&old));
            }
            register(&mut queue.pullers, context.waker());
            self.waker = Some(context.waker().clone());
            drop(queue);
            // The answers to what came before are all.
            inner.connection.push();
            return Poll::Pending;
        }
        queue.claimed += claimed.len();
        inner.note(&queue);
        if queue.lanes.has_ready() {
            queue.wake_puller();
        }
        drop(queue);
        let claimed = claimed.into_iter().map(|one| Claimed::new(inner, one)).collect();
        Poll::Ready(Some(claimed))
    }
}
