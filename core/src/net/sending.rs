//! Batches on their way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::cork::Next;
use super::outbox::BATCH_BYTES;
use super::shared::{Phase, Shared, State, Submitted};
use crate::error::{Error, Result};
use crate::service;
use crate::stream::Batch;

/// What became of a batch.
#[derive(Debug)]
pub struct Sent {
    /// How many stanzas, from the first on, are written to a live stream.
    pub written: usize,
    /// Why the others are not.
    pub error: Option<Error>,
}

/// A batch on its way; see [`Connection::send_many`](crate::net::Connection::send_many).
pub struct Sending<'a> {
    shared: Result<&'a Arc<Shared>>,
    batch: Batch,
    next: Next,
    /// The link it went to, and where it ends there.
    at: Option<(u64, u64)>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(shared: Result<&'a Arc<Shared>>, batch: Batch) -> Self {
        Self { shared, batch, next: Next::Unknown, at: None }
    }

    /// What the sender knows of what follows.
    pub(super) fn followed_by(mut self, next: Next) -> Self {
        self.next = next;
        self
    }
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
            match shared.submit_after(&this.batch, None, this.next) {
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
                    Some(link) if link.has_room(this.batch.byte_len()) => {
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
                if link.out.written() < end && !link.broken {
                    link.out.wake_when_written(end, context.waker());
                    return Poll::Pending;
                }
                link.out.written().min(end)
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

/// The next stanzas of a call from `start` on, as one batch, and which they are: what a call sends can
/// be a thousand times what it was given, so it is not written at once.
pub fn message_batch(
    sending: &service::Sending,
    start: usize,
) -> Option<(Batch, std::ops::Range<usize>)> {
    let mut batch = Batch::new();
    let mut end = start;
    for stanza in sending.stanzas.get(start..)? {
        batch.push_pieces(&stanza.head, &stanza.tail);
        end += 1;
        if batch.byte_len() >= BATCH_BYTES {
            break;
        }
    }
    (!batch.is_empty()).then_some((batch, start..end))
}
