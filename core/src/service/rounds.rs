//! Rounds through all contacts: presence and probes after connecting, farewells before closing.
//! They go at the pace the outgoing queue and the settings allow, so that a large roster neither
//! fills the memory nor drowns the server.

use std::time::Duration;

use bytes::Bytes;

use super::Service;
use crate::store::{Change, Durability};

/// How fast contacts are asked after connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Probes a second. Each makes the server ask another one, so there is a bound; presence has
    /// none but the room in the outgoing queue.
    pub probes_per_second: u32,
    /// How long after the last probe contacts that were available before, and have not been heard
    /// since, count as gone: their server vanished.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { probes_per_second: 1000, patience: Duration::from_secs(30) }
    }
}

/// Probes that may go at once; also about twenty steps a second at any pace.
const BURST: Duration = Duration::from_millis(50);
/// How many stanzas one step makes at most.
const STEP: usize = 1024;
/// How many contacts one step looks at, at most: most need nothing.
const LOOK: usize = 16 * STEP;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    No,
    At(Duration),
    Walking(usize),
}

/// Where each round is.
#[derive(Debug)]
pub(super) struct Rounds {
    pace: Pace,
    announce: Option<usize>,
    probe: Option<usize>,
    /// When the next probe may go.
    probe_at: Duration,
    expiry: Expiry,
    farewell: Option<usize>,
}

impl Rounds {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            announce: None,
            probe: None,
            probe_at: Duration::ZERO,
            expiry: Expiry::No,
            farewell: None,
        }
    }

    fn stop(&mut self) {
        *self = Self::new(self.pace);
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.pace.probes_per_second.max(1)
    }

    /// How many probes may go now.
    fn allowance(&mut self, now: Duration) -> usize {
        // What was not used in time is not saved up.
        self.probe_at = self.probe_at.max(now.saturating_sub(BURST));
        let Some(since) = now.checked_sub(self.probe_at) else { return 0 };
        let due = since.as_nanos() / self.interval().as_nanos().max(1);
        usize::try_from(due).unwrap_or(usize::MAX).saturating_add(1)
    }

    fn next(&self) -> Option<Duration> {
        if self.farewell.is_some() || self.announce.is_some() {
            return Some(Duration::ZERO);
        }
        if self.probe.is_some() {
            return Some(self.probe_at + BURST.saturating_sub(self.interval()));
        }
        match self.expiry {
            Expiry::No => None,
            Expiry::At(time) => Some(time),
            Expiry::Walking(_) => Some(Duration::ZERO),
        }
    }
}

impl Service {
    /// The stream is up: contacts will be told the app's presence and asked for theirs.
    pub fn handle_ready(&self, now: Duration) {
        self.book().begin_epoch();
        let mut rounds = self.rounds();
        rounds.stop();
        rounds.announce = Some(0);
        rounds.probe = Some(0);
        rounds.probe_at = now.saturating_sub(BURST);
    }

    /// The stream is gone: nothing more is to be written. What was known of contacts stays.
    pub fn handle_disconnected(&self) {
        self.rounds().stop();
    }

    /// The stream will be closed: contacts will be told that the app is gone (RFC 6121 §4.5.2).
    pub fn handle_closing(&self) {
        let mut rounds = self.rounds();
        rounds.stop();
        rounds.farewell = Some(0);
    }

    /// When [`Service::handle_timeout`] has something to do: at once if the time is past, never if
    /// `None`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.rounds().next()
    }

    /// Goes on with what is under way, and returns up to `room` stanzas to be written.
    pub fn handle_timeout(&self, now: Duration, room: usize) -> Vec<Bytes> {
        let room = room.min(STEP);
        let mut sends = Vec::new();
        let mut rounds = self.rounds();
        if let Some(cursor) = rounds.farewell {
            rounds.farewell = self.farewell(cursor, room, &mut sends);
            return sends;
        }
        if let Some(cursor) = rounds.announce {
            rounds.announce = self.announce(cursor, room, &mut sends);
        }
        if let Some(cursor) = rounds.probe {
            let allowed = rounds.allowance(now).min(room - sends.len());
            let before = sends.len();
            rounds.probe = self.probe(cursor, allowed, &mut sends);
            let sent = u32::try_from(sends.len() - before).unwrap_or(u32::MAX);
            let taken = rounds.interval().saturating_mul(sent);
            rounds.probe_at += taken;
            if rounds.probe.is_none() {
                rounds.expiry = Expiry::At(now + rounds.pace.patience);
            }
        }
        rounds.expiry = match rounds.expiry {
            Expiry::At(time) if time <= now => self.expire(0),
            Expiry::Walking(cursor) => self.expire(cursor),
            other => other,
        };
        sends
    }

    fn announce(&self, cursor: usize, room: usize, sends: &mut Vec<Bytes>) -> Option<usize> {
        self.round(cursor, room, sends, |entry| {
            let told = || self.own_presence(entry.own, entry.contact, entry.told);
            entry.subscription.contact_is_subscribed().then(told)
        })
    }

    fn farewell(&self, cursor: usize, room: usize, sends: &mut Vec<Bytes>) -> Option<usize> {
        self.round(cursor, room, sends, |entry| {
            let knows = entry.told.is_some_and(|told| told.unavailable);
            let told = || self.gone(entry.own, entry.contact);
            (!knows && entry.subscription.contact_is_subscribed()).then(told)
        })
    }

    fn probe(&self, cursor: usize, room: usize, sends: &mut Vec<Bytes>) -> Option<usize> {
        self.round(cursor, room, sends, |entry| {
            let from = entry.own;
            let probe = || self.bare_presence(from, entry.contact, "probe");
            entry.subscription.app_is_subscribed().then(probe)
        })
    }

    /// Goes through contacts from `cursor` on until `room` stanzas are made. Returns where to go on.
    fn round(
        &self,
        mut cursor: usize,
        room: usize,
        sends: &mut Vec<Bytes>,
        stanza: impl Fn(&super::presence::Entry<'_>) -> Option<Bytes>,
    ) -> Option<usize> {
        let book = self.book();
        let end = sends.len() + room;
        for _ in 0..LOOK {
            if sends.len() >= end {
                return Some(cursor);
            }
            let (entry, next) = book.walk(cursor)?;
            sends.extend(stanza(&entry));
            cursor = next;
        }
        Some(cursor)
    }

    fn expire(&self, cursor: usize) -> Expiry {
        let mut changes = Vec::new();
        let next = self.book().expire(cursor, LOOK, |key, subscription| {
            if subscription.app_is_subscribed() {
                changes.push(Change::Presence(key, None));
            }
        });
        if !changes.is_empty() {
            // A fault is logged and counted; the book knows better than the store meanwhile.
            let _ = self.keep(changes, Durability::Soon);
        }
        next.map_or(Expiry::No, Expiry::Walking)
    }
}
