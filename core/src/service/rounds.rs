//! Rounds through all contacts: presence and probes after connecting, farewells before closing.
//! They go at the pace the outgoing queue and the settings allow, so that a large roster neither
//! fills the memory nor drowns the server.

use std::time::Duration;

use bytes::Bytes;

use super::Service;
use crate::store::{Change, ContactKey, Durability, Heard};

/// How fast contacts are asked after connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Probes a second. Each makes the server ask another one, so there is a bound; presence has
    /// none but the room in the outgoing queue.
    pub probes_per_second: u32,
    /// How long after the last probe contacts that were available before, and have not been heard
    /// since, count as gone: their server vanished.
    pub patience: Duration,
    /// How long after that available contacts are asked again: nobody tells when somebody's server
    /// vanishes. Never, if `None`.
    pub refresh: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            probes_per_second: 1000,
            patience: Duration::from_secs(10),
            refresh: Some(Duration::from_secs(6 * 60 * 60)),
        }
    }
}

/// Probes that may go at once; also about twenty steps a second at any pace.
const BURST: Duration = Duration::from_millis(50);
/// How many stanzas one step makes at most.
const STEP: usize = 1024;
/// How many contacts one step looks at, at most: most need nothing.
const LOOK: usize = 16 * STEP;

/// After so many beats, about one a second, it is known who else has a stream, also where the store was
/// away, and that one knows of ours.
const CERTAIN: u64 = 8;

/// What follows the questions: silent contacts expire, and some time later all are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Nothing,
    ExpireAt(Duration),
    Expire(usize),
    RefreshAt(Duration),
}

/// Where each round is.
#[derive(Debug)]
pub(super) struct Rounds {
    pace: Pace,
    announce: Option<usize>,
    /// Another process has told contacts, it is thought, until so many beats of the store say so too: it
    /// may be the one that just told them goodbye.
    presumed: Option<u64>,
    probe: Option<usize>,
    /// When the next probe may go.
    probe_at: Duration,
    /// Only contacts that are available are asked.
    refreshing: bool,
    afterwards: Afterwards,
    farewell: Option<usize>,
}

impl Rounds {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            announce: None,
            presumed: None,
            probe: None,
            probe_at: Duration::ZERO,
            refreshing: false,
            afterwards: Afterwards::Nothing,
            farewell: None,
        }
    }

    fn stop(&mut self) {
        *self = Self::new(self.pace);
    }

    /// An account has logged in: whoever was told something by the app itself is told again, in another
    /// session, and who is silent expires.
    pub(super) fn begin_session(&mut self, now: Duration, resumed: bool) {
        self.stop();
        self.announce = (!resumed).then_some(0);
        self.afterwards = Afterwards::ExpireAt(now + self.pace.patience);
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.pace.probes_per_second.max(1)
    }

    fn next_probe(&self) -> Duration {
        self.probe_at + BURST.saturating_sub(self.interval())
    }

    fn took(&mut self, probes: usize) {
        let probes = u32::try_from(probes).unwrap_or(u32::MAX);
        self.probe_at += self.interval().saturating_mul(probes);
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
            return Some(self.next_probe());
        }
        match self.afterwards {
            Afterwards::Nothing => None,
            Afterwards::ExpireAt(time) | Afterwards::RefreshAt(time) => Some(time),
            Afterwards::Expire(_) => Some(Duration::ZERO),
        }
    }
}

impl Service {
    /// The stream is up: contacts will be told the app's presence and asked for theirs.
    pub fn handle_ready(&self, now: Duration) {
        self.set_up(true);
        self.book().begin_epoch();
        let mut rounds = self.rounds();
        rounds.stop();
        // Where another process serves the app, contacts have been told.
        rounds.announce = (self.others() == 0).then_some(0);
        rounds.presumed = (self.others() > 0).then(|| self.beats() + CERTAIN);
        rounds.probe_at = now.saturating_sub(BURST);
        self.begin_probes(&mut rounds);
    }

    /// The stream is gone: nothing more is to be written. What was known of contacts stays.
    pub fn handle_disconnected(&self) {
        self.set_up(false);
        self.rounds().stop();
    }

    /// The stream will be closed: contacts will be told that the app is gone (RFC 6121 §4.5.2).
    pub fn handle_closing(&self) {
        self.set_up(false);
        let mut rounds = self.rounds();
        rounds.stop();
        // An account's server tells all who are to know; where another process goes on, the app is
        // not gone.
        let alone = !self.addresses.is_account() && self.is_last();
        rounds.farewell = alone.then_some(0);
    }

    /// When [`Service::handle_timeout`] has something to do: at once if the time is past, never if
    /// `None`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let rounds = self.rounds();
        let greets = || self.sharing.as_ref().is_some_and(|sharing| sharing.hearsay().greets());
        if self.presumes_wrongly(&rounds) || self.doubts_all(&rounds) || greets() {
            return Some(Duration::ZERO);
        }
        let doubts = self.sharing.as_ref().and_then(|sharing| {
            let due = sharing.hearsay().poll_timeout(rounds.pace.patience)?;
            Some(due.max(rounds.next_probe()))
        });
        [rounds.next(), doubts].into_iter().flatten().min()
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
        if self.presumes_wrongly(&rounds) {
            (rounds.announce, rounds.presumed) = (Some(0), None);
        }
        if self.doubts_all(&rounds) {
            self.begin_probes(&mut rounds);
        }
        if let Some(cursor) = rounds.announce {
            rounds.announce = self.announce(cursor, room, &mut sends);
        }
        sends.extend(self.greet(room - sends.len()));
        if self.is_shared() && sends.len() < room {
            let allowed = rounds.allowance(now).min(room - sends.len());
            let asked = self.ask_again(now, allowed, rounds.pace.patience);
            rounds.took(asked.len());
            sends.extend(asked);
        }
        // All are told before the first is asked: the answers would take their share of the server.
        if let Some(cursor) = rounds.probe
            && rounds.announce.is_none()
        {
            let allowed = rounds.allowance(now).min(room - sends.len());
            let before = sends.len();
            rounds.probe = self.probe(cursor, allowed, rounds.refreshing, &mut sends);
            rounds.took(sends.len() - before);
            if rounds.probe.is_none() {
                rounds.afterwards = Afterwards::ExpireAt(now + rounds.pace.patience);
            }
        }
        self.go_on_afterwards(&mut rounds, now);
        sends
    }

    /// Whether no other process has a stream: what the last beat said may be a second old, and nobody would
    /// tell contacts that the app is there after all.
    fn is_last(&self) -> bool {
        match self.fellows() {
            Ok(fellows) if self.is_shared() => !fellows.iter().any(|other| other.up && other.held),
            _ => self.others() == 0,
        }
    }

    /// Whether more contacts are in doubt than can be asked one by one, and all are not being asked.
    fn doubts_all(&self, rounds: &Rounds) -> bool {
        let doubts_all = || self.sharing.as_ref().is_some_and(|it| it.hearsay().overflowed());
        (rounds.probe.is_none() || rounds.refreshing) && doubts_all()
    }

    /// All contacts will be asked.
    fn begin_probes(&self, rounds: &mut Rounds) {
        (rounds.probe, rounds.refreshing) = (Some(0), false);
        rounds.afterwards = Afterwards::Nothing;
        if let Some(sharing) = &self.sharing {
            sharing.hearsay().all_asked();
        }
    }

    fn presumes_wrongly(&self, rounds: &Rounds) -> bool {
        self.others() == 0 && rounds.presumed.is_some_and(|last| self.beats() <= last)
    }

    fn go_on_afterwards(&self, rounds: &mut Rounds, now: Duration) {
        let expire_from = match rounds.afterwards {
            Afterwards::ExpireAt(time) if time <= now => 0,
            Afterwards::Expire(cursor) => cursor,
            Afterwards::RefreshAt(time) if time <= now => {
                rounds.afterwards = Afterwards::Nothing;
                rounds.refreshing = true;
                rounds.probe = Some(0);
                rounds.probe_at = now;
                return;
            }
            _ => return,
        };
        // An account's server asks contacts itself.
        let refresh = rounds.pace.refresh.filter(|_| !self.addresses.is_account());
        rounds.afterwards = match (self.expire(expire_from), refresh) {
            (Some(next), _) => Afterwards::Expire(next),
            (None, Some(refresh)) => Afterwards::RefreshAt(now + refresh),
            (None, None) => Afterwards::Nothing,
        };
    }

    fn announce(&self, cursor: usize, room: usize, sends: &mut Vec<Bytes>) -> Option<usize> {
        self.round(cursor, room, sends, |entry| {
            let told = || self.own_presence(entry.own, entry.contact, entry.told);
            // An account's server tells the others.
            let tells = match self.addresses.is_account() {
                true => entry.told.is_some(),
                false => entry.subscription.contact_is_subscribed(),
            };
            tells.then(told)
        })
    }

    fn farewell(&self, cursor: usize, room: usize, sends: &mut Vec<Bytes>) -> Option<usize> {
        self.round(cursor, room, sends, |entry| {
            let knows = entry.told.is_some_and(|told| told.unavailable);
            let told = || self.gone(entry.own, entry.contact);
            (!knows && entry.subscription.contact_is_subscribed()).then(told)
        })
    }

    /// Asks contacts for their presence, and those that never answered a request for their
    /// subscription once more (RFC 6121 §3.1.2).
    fn probe(
        &self,
        cursor: usize,
        room: usize,
        refreshing: bool,
        sends: &mut Vec<Bytes>,
    ) -> Option<usize> {
        let mut asked: Vec<(Box<str>, Box<str>)> = Vec::new();
        let next = self.round(cursor, room, sends, |entry| {
            let state = entry.subscription;
            if state.app_is_subscribed() && (!refreshing || entry.available.is_some()) {
                asked.push((entry.own.into(), entry.contact.into()));
                return Some(self.bare_presence(entry.own, entry.contact, "probe"));
            }
            let repeat = state.app_asked() && !refreshing;
            repeat.then(|| self.bare_presence(entry.own, entry.contact, "subscribe"))
        });
        let mut book = self.book();
        for (own, contact) in asked {
            book.ask(&own, &contact);
        }
        next
    }

    /// Goes through contacts from `cursor` on until `room` stanzas are made. Returns where to go on.
    fn round(
        &self,
        mut cursor: usize,
        room: usize,
        sends: &mut Vec<Bytes>,
        mut stanza: impl FnMut(&super::presence::Entry<'_>) -> Option<Bytes>,
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

    /// Takes silent contacts as gone. Returns where to go on.
    fn expire(&self, cursor: usize) -> Option<usize> {
        let mut silent = Vec::new();
        let next = self.book().expire(cursor, LOOK, |key, subscription| {
            if subscription.app_is_subscribed() && !self.addresses.is_account() {
                silent.push(key);
            }
        });
        if self.is_shared() {
            for ContactKey { own, contact } in &silent {
                self.hear(own, contact, Heard::Unavailable(None));
            }
        }
        let changes: Vec<_> = silent.into_iter().map(|key| Change::Presence(key, None)).collect();
        if !changes.is_empty() {
            // A fault is logged and counted; the book knows better than the store meanwhile.
            let _ = self.keep(changes, Durability::Soon);
        }
        next
    }
}
