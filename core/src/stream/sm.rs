//! Stream management (XEP-0198): what each side has handled, and what has to be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::jid::Jid;

/// The server says that it handled more than it was sent (XEP-0198 §5).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooHigh;

/// The counters of one session, and the stanzas that the server has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Stanzas of the server's that were taken; wraps (XEP-0198 §4).
    received: u32,
    /// How many of them the server may be told of.
    confirmed: u32,
    /// Stanzas of ours that the server has handled.
    acked: u64,
    unacked: VecDeque<Bytes>,
    bytes: usize,
}

impl Counters {
    /// A stanza was sent; returns its position in the session, counted from 1.
    pub(super) fn sent(&mut self, stanza: Bytes) -> u64 {
        self.bytes += stanza.len();
        self.unacked.push_back(stanza);
        self.sent_so_far()
    }

    /// A stanza was received, whatever became of it. Returns its position.
    pub(super) fn received(&mut self) -> u32 {
        self.received = self.received.wrapping_add(1);
        self.received
    }

    /// Whatever was received is dealt with.
    pub(super) fn confirm_all(&mut self) {
        self.confirmed = self.received;
    }

    /// Whatever was received up to `position` is dealt with. A position that was confirmed before, or
    /// is none, changes nothing.
    pub(super) fn confirm(&mut self, position: u32) {
        let news = position.wrapping_sub(self.confirmed);
        if news <= self.received.wrapping_sub(self.confirmed) {
            self.confirmed = position;
        }
    }

    /// The position of the last stanza received.
    pub(super) fn position(&self) -> u32 {
        self.received
    }

    /// The server sends again what it was not told of.
    pub(super) fn rewind(&mut self) {
        self.received = self.confirmed;
    }

    /// The `h` to tell the server.
    pub(super) fn h(&self) -> u32 {
        self.confirmed
    }

    /// How many stanzas were sent in the session.
    pub(super) fn sent_so_far(&self) -> u64 {
        self.acked + self.unacked.len() as u64
    }

    /// The server has handled `h` stanzas; gives the position up to which, if that is news.
    pub(super) fn acknowledge(&mut self, h: u32) -> Result<Option<u64>, TooHigh> {
        #[expect(clippy::cast_possible_truncation, reason = "the counter wraps at 2^32")]
        let news = h.wrapping_sub(self.acked as u32) as usize;
        if news > self.unacked.len() {
            return Err(TooHigh);
        }
        self.bytes -= self.unacked.drain(..news).map(|stanza| stanza.len()).sum::<usize>();
        self.acked += news as u64;
        Ok((news > 0).then_some(self.acked))
    }

    pub(super) fn unacked(&self) -> &VecDeque<Bytes> {
        &self.unacked
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the stanzas up that were not acknowledged.
    pub(super) fn into_unacked(self) -> Vec<Bytes> {
        self.unacked.into()
    }
}

/// What is needed to resume a session on another connection: give it to the next
/// [`ClientStream`](super::ClientStream). It holds what the server may not have read.
#[derive(Debug)]
pub struct Resumption {
    pub(super) id: String,
    pub(super) jid: Jid,
    pub(super) counters: Counters,
}

impl Resumption {
    /// The stanzas that the server has not acknowledged, in the order they were sent.
    pub fn unacked(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.counters.unacked().iter()
    }

    /// As [`ClientStream::confirm`](super::ClientStream::confirm), while no stream is there.
    pub fn confirm(&mut self, position: u32) {
        self.counters.confirm(position);
    }

    /// How many stanzas were sent in the session.
    pub fn sent(&self) -> u64 {
        self.counters.sent_so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let mut counters = Counters::default();
        let positions: Vec<_> = ["a", "bb", "ccc"]
            .map(|text| counters.sent(Bytes::from_static(text.as_bytes())))
            .into();
        assert_eq!((positions, counters.bytes()), (vec![1, 2, 3], 6));
        assert_eq!(counters.acknowledge(2), Ok(Some(2)));
        assert_eq!(counters.acknowledge(2), Ok(None), "no news");
        assert_eq!(counters.acknowledge(4), Err(TooHigh));
        assert_eq!(counters.acknowledge(1), Err(TooHigh), "it cannot go back");
        assert_eq!(counters.bytes(), 3);
        assert_eq!(counters.sent(Bytes::new()), 4);
        assert_eq!(counters.into_unacked(), [&b"ccc"[..], b""]);
    }

    #[test]
    fn the_server_is_told_of_what_was_confirmed() {
        let mut counters = Counters::default();
        let positions: Vec<_> = (0..3).map(|_| counters.received()).collect();
        assert_eq!((positions, counters.h()), (vec![1, 2, 3], 0));
        for (position, h) in [(2, 2), (1, 2), (4, 2), (3, 3)] {
            counters.confirm(position);
            assert_eq!(counters.h(), h, "{position}");
        }
        counters.received();
        counters.rewind();
        assert_eq!((counters.position(), counters.h()), (3, 3));
        counters.received();
        counters.confirm_all();
        assert_eq!(counters.h(), 4);
    }

    #[test]
    fn both_counters_wrap() {
        let start = u64::from(u32::MAX);
        let last = u32::MAX;
        let mut counters =
            Counters { acked: start, received: last, confirmed: last, ..Counters::default() };
        counters.received();
        assert_eq!(counters.h(), last, "not confirmed");
        counters.confirm(0);
        assert_eq!(counters.h(), 0);
        assert_eq!(counters.sent(Bytes::new()), start + 1);
        assert_eq!(counters.acknowledge(0), Ok(Some(start + 1)));
    }
}
