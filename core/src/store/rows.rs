//! What waits: messages on their way out, deliveries on their way in, and what was counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Whose rows they are, so that one store can serve several apps: the component's domain.
pub type QueueName = Arc<str>;

/// The stanzas of one call that the server is not yet known to have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The number of the first; the others follow.
    pub first: u64,
    /// When they are no longer worth sending, since the Unix epoch.
    pub expires: Duration,
    /// The first bytes of each stanza.
    pub heads: Vec<Bytes>,
    /// The rest of each, which they share; empty where each is in one piece.
    pub tail: Bytes,
}

impl OutboxRow {
    /// The number of the last stanza.
    pub fn last(&self) -> u64 {
        self.first + (self.heads.len() as u64).saturating_sub(1)
    }

    /// Those of the stanzas that come after the number `done`, if any do.
    pub fn after(mut self, done: u64) -> Option<Self> {
        let over = usize::try_from((done + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        if over >= self.heads.len() {
            return None;
        }
        self.heads.drain(..over);
        self.first += over as u64;
        Some(self)
    }
}

/// A stanza that the app has not yet handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// The delivery's id.
    pub id: u64,
    /// Where in the app it goes.
    pub path: Box<str>,
    /// The stanza, which can be parsed alone in the namespace `jabber:component:accept`.
    pub stanza: Bytes,
    /// Whose turn it takes, as a number; a store that is one process's does not keep it.
    pub lane: u64,
    /// When it came, since the Unix epoch; zero if that does not count: an older version stored it, or it
    /// is delivered once more. A dead letter does not keep it.
    pub came: Duration,
}

/// A stanza that the app did not handle in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What was to be delivered.
    pub row: InboxRow,
    /// When it was given up, since the Unix epoch.
    pub at: Duration,
    /// Why.
    pub reason: Box<str>,
}

/// A number that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// What is counted.
    pub name: Box<str>,
    /// On which day it was, counted from the Unix epoch; 0 for what is not counted by the day.
    pub day: u64,
    /// How many.
    pub value: u64,
}

/// One of the rows of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Stanzas to be sent. Those up to [`Row::OutboxDone`] have been.
    Outbox(OutboxRow),
    /// Every stanza up to this number is done.
    OutboxDone(u64),
    /// A stanza to be delivered.
    Inbox(InboxRow),
    /// The turn of the delivery with this id, after its row; see [`Place`](super::Place).
    Turn(u64, u64),
    /// A number.
    Count(Count),
}
