//! Several messages with one write.

use std::time::Duration;

use super::{App, Inner, fail_from};
use crate::error::Result;
use crate::net::outbox::BATCH_BYTES;
use crate::net::wait::{block_on, bounded};
use crate::service::{MessageCall, Sending, Status};
use crate::stream::Batch;

impl App {
    /// Several calls of [`App::send_message_blocking`], in order, whose stanzas are written together:
    /// much cheaper than one call after the other. A call that is refused stops no other.
    ///
    /// # Errors
    /// As [`App::connection`]; of each call as [`App::send_message`].
    pub fn send_messages_blocking(
        &self,
        calls: &[MessageCall<'_>],
        timeout: Duration,
    ) -> Result<Vec<Result<Vec<Status>>>> {
        let inner = self.inner()?;
        let service = inner.service();
        let mut sendings: Vec<_> = calls.iter().map(|call| service.send_message(call)).collect();
        let until = std::time::Instant::now() + bounded(timeout);
        let left = || until.saturating_duration_since(std::time::Instant::now());
        if let Some(outbox) = &inner.outbox {
            // All are handed to the store before the first is waited for.
            let keep = |sending: &Result<Sending>| {
                sending.as_ref().ok().map(|sending| outbox.keep(&sending.stanzas, Vec::new()))
            };
            let kept: Vec<_> = sendings.iter().map(keep).collect();
            for (sending, keep) in sendings.iter_mut().zip(kept) {
                let (Ok(sending), Some(keep)) = (sending, keep) else { continue };
                let kept = block_on(keep, Some(left()));
                fail_from(sending, kept.map_or(0, |kept| kept.stored));
            }
        } else {
            write(inner, &mut sendings, left);
        }
        Ok(sendings.into_iter().map(|sending| sending.map(|sending| sending.statuses)).collect())
    }
}

/// Writes the stanzas of all calls, and notes those that could not be written.
fn write(inner: &Inner, sendings: &mut [Result<Sending>], left: impl Fn() -> Duration) {
    let places: Vec<(usize, usize)> = sendings
        .iter()
        .enumerate()
        .flat_map(|(call, sending)| {
            let stanzas = sending.as_ref().map_or(0, |sending| sending.stanzas.len());
            (0..stanzas).map(move |stanza| (call, stanza))
        })
        .collect();
    let mut written = 0;
    while written < places.len() {
        let mut batch = Batch::new();
        for &(call, stanza) in &places[written..] {
            if let Ok(sending) = &sendings[call] {
                batch.push_pieces(&sending.stanzas[stanza].head, &sending.stanzas[stanza].tail);
            }
            if batch.byte_len() >= BATCH_BYTES {
                break;
            }
        }
        let sent = inner.connection.send_blocking_followed(batch, inner.next(), left());
        written += sent.written;
        if let Some(error) = sent.error {
            tracing::debug!(%error, "messages were not written");
            break;
        }
    }
    for &(call, stanza) in &places[written..] {
        if let Ok(sending) = &mut sendings[call] {
            sending.fail(stanza);
        }
    }
}
