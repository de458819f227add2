//! Messages that must not get lost: kept until the server is known to have read them.
//!
//! An [`Outbox`] has no clock, no disk and no socket. One message's way through it:
//!
//! | state | it gets there by | until |
//! |---|---|---|
//! | accepted | [`Outbox::accept`] | the store has it, or does not |
//! | stored | [`Outbox::stored`] | it is written |
//! | in flight | [`Outbox::next_batch`] and [`Outbox::written`] | the server has read it, or the stream ends |
//! | done | [`Outbox::acked`] | |
//! | to be given up | [`Outbox::handle_timeout`] or [`Outbox::lost`] | [`Outbox::given_up`]: the store has forgotten it, or has not |
//! | to be another process's | [`Outbox::hand_over`] | [`Outbox::given_up`]: the store has put it where others find it, or has not |
//!
//! When a stream ends, [`Outbox::lost`] takes all that was in flight back to stored: it is written
//! again on the next stream, first and in the same order, with the same ids. Messages leave in the
//! order in which they were accepted, so the order for each recipient is kept, and so one number says
//! which are done.
//!
//! Where several processes share a store, messages may have to wait until those of another one that is
//! gone have been taken over, which go before them: [`Outbox::hold`]. So that these get numbers in
//! between, [`Outbox::leave_room`] leaves some out.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::send::Outgoing;
use crate::store::OutboxRow;

/// What an [`Outbox`] takes and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// So many messages may wait or be in flight.
    pub stanzas: usize,
    /// So many bytes, what the recipients of one call share being counted once.
    pub bytes: usize,
    /// How long a message is worth sending.
    pub expiry: Duration,
}

impl Default for OutboxLimits {
    /// 100,000 messages or 256 MiB; one day.
    fn default() -> Self {
        Self {
            stanzas: 100_000,
            bytes: 256 * 1024 * 1024,
            expiry: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What an [`Outbox`] has done since it was made, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutboxStats {
    /// Messages that wait to be stored, to be written, or for the server to have read them.
    pub waiting: usize,
    /// Those of them that are written.
    pub in_flight: usize,
    /// The bytes of those that wait.
    pub bytes: usize,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages the server has read.
    pub done: u64,
    /// Messages that were written again because a stream ended.
    pub repeated: u64,
    /// Messages that could not be sent before they expired.
    pub expired: u64,
    /// Messages for which there was no room.
    pub refused: u64,
    /// Messages that the store did not take.
    pub not_stored: u64,
    /// Messages given up because the server ended stream after stream when it got them.
    pub poisonous: u64,
    /// Messages handed over to a process that has a stream.
    pub handed_over: u64,
}

impl OutboxStats {
    /// Every number with its name, for metrics.
    pub fn each(&self) -> [(&'static str, u64); 11] {
        [
            ("outbox_waiting", self.waiting as u64),
            ("outbox_in_flight", self.in_flight as u64),
            ("outbox_bytes", self.bytes as u64),
            ("outbox_accepted", self.accepted),
            ("outbox_done", self.done),
            ("outbox_repeated", self.repeated),
            ("outbox_expired", self.expired),
            ("outbox_refused", self.refused),
            ("outbox_not_stored", self.not_stored),
            ("outbox_poisonous", self.poisonous),
            ("outbox_handed_over", self.handed_over),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Accepted,
    Stored,
    InFlight(u64),
}

#[derive(Debug)]
struct Entry {
    number: u64,
    expires: Duration,
    head: Bytes,
    tail: Bytes,
    /// What goes back to the bound when it leaves.
    charge: usize,
    state: State,
    /// On how many streams it was in flight when the server ended them with an error.
    suspicion: u8,
}

/// Messages at the front that the store is to forget.
#[derive(Debug, Clone, Copy)]
struct GivingUp {
    up_to: u64,
    why: Why,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Expired,
    /// It is one, and the server does not bear it.
    Poisonous,
    /// Another process is to send them. The store has been asked to see to that.
    HandedOver {
        asked: bool,
    },
}

/// After so many streams that the server ended with an error while a message was in flight, it is
/// written alone: the next such end is then its doing.
const SUSPICIOUS: u8 = 3;

/// How many numbers are left out for what may have to go before.
const ROOM: u64 = 1 << 20;

/// How many messages a row gets before another one is begun.
const ROW: usize = 1024;

/// Messages of one call that wait to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    first: u64,
    count: usize,
}

impl Accepted {
    /// The messages of these rows, those that follow each other together.
    pub fn calls(rows: &[OutboxRow]) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        for row in rows {
            match calls.last_mut() {
                Some(last) if last.first + last.count as u64 == row.first => {
                    last.count += row.heads.len();
                }
                _ => calls.push(Self { first: row.first, count: row.heads.len() }),
            }
        }
        calls
    }

    /// The number of the first.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many messages of the call, from the first on, there was room for.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there was room for none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The messages of one app on their way out.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    entries: VecDeque<Entry>,
    /// How many of the entries, from the front on, are in flight.
    in_flight: usize,
    /// While there is something to be given up nothing is in flight.
    giving_up: Option<GivingUp>,
    /// The number of the last entry that was accepted.
    last: u64,
    /// From this number on nothing is written.
    held: u64,
    bytes: usize,
    stats: OutboxStats,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            in_flight: 0,
            giving_up: None,
            last: 0,
            held: u64::MAX,
            bytes: 0,
            stats: OutboxStats::default(),
        }
    }

    /// Takes what the store has kept, before anything is accepted: rows in the order of their
    /// numbers, whatever the bounds, and `done`, up to which they are done.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = OutboxRow>, done: u64) {
        self.last = self.last.max(done);
        for row in rows {
            let (first, last) = (row.first, row.last());
            let mut charge = row.tail.len();
            for (number, head) in (first..).zip(row.heads).filter(|(number, _)| *number > done) {
                charge += head.len();
                let charge = std::mem::take(&mut charge);
                self.push(number, row.expires, head, row.tail.clone(), charge, State::Stored);
            }
            self.last = self.last.max(last);
        }
    }

    /// Takes the messages of one call, or as many from the first on as there is room for: they are
    /// to be stored. `utc` is the time since the Unix epoch.
    pub fn accept(&mut self, utc: Duration, stanzas: &[Outgoing]) -> Accepted {
        self.accept_within(self.limits, utc, stanzas)
    }

    /// [`Outbox::accept`] for what nobody asks for twice. An eighth more than the bounds is kept for it,
    /// so that messages of the app which fill the outbox do not push it out.
    pub fn accept_lasting(&mut self, utc: Duration, stanzas: &[Outgoing]) -> Accepted {
        let OutboxLimits { stanzas: count, bytes, .. } = self.limits;
        let (count, bytes) = (count + count.div_ceil(8), bytes + bytes.div_ceil(8));
        let limits = OutboxLimits { stanzas: count, bytes, ..self.limits };
        self.accept_within(limits, utc, stanzas)
    }

    fn accept_within(
        &mut self,
        limits: OutboxLimits,
        utc: Duration,
        stanzas: &[Outgoing],
    ) -> Accepted {
        let expires = utc + self.limits.expiry;
        let first = self.last + 1;
        let mut charge = stanzas.first().map_or(0, |stanza| stanza.tail.len());
        let mut count = 0;
        for stanza in stanzas {
            charge += stanza.head.len();
            let full = self.entries.len() >= limits.stanzas
                // One call that is larger than the bound by itself still passes alone.
                || (!self.entries.is_empty() && self.bytes + charge > limits.bytes);
            if full {
                break;
            }
            self.last += 1;
            let charge = std::mem::take(&mut charge);
            let (head, tail) = (stanza.head.clone(), stanza.tail.clone());
            self.push(self.last, expires, head, tail, charge, State::Accepted);
            count += 1;
        }
        self.stats.accepted += count as u64;
        self.stats.refused += (stanzas.len() - count) as u64;
        Accepted { first, count }
    }

    fn push(
        &mut self,
        number: u64,
        expires: Duration,
        head: Bytes,
        tail: Bytes,
        charge: usize,
        state: State,
    ) {
        self.bytes += charge;
        self.entries.push_back(Entry { number, expires, head, tail, charge, state, suspicion: 0 });
    }

    /// Leaves out numbers before the next message: should that be held, others may get them.
    pub fn leave_room(&mut self) {
        self.last = (self.last / ROOM + 2) * ROOM - 1;
    }

    /// Writes nothing from this number on.
    pub fn hold(&mut self, from: u64) {
        self.held = from;
    }

    /// Writes everything.
    pub fn release(&mut self) {
        self.held = u64::MAX;
    }

    /// Takes over what another process kept, in the order of its rows and whatever the bounds: before
    /// what is held, or not yet stored. Returns the rows under numbers of this outbox, which are to be stored.
    pub fn adopt(&mut self, rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        let stored = self.entries.iter().rposition(|entry| entry.state != State::Accepted);
        let later = self.index_of(self.held).min(stored.map_or(0, |last| last + 1));
        let held = self.entries.split_off(later);
        let count: u64 = rows.iter().map(|row| row.heads.len() as u64).sum();
        let room = match held.front() {
            Some(first) => {
                let before = self.entries.back().map_or(0, |entry| entry.number);
                let start = (first.number / ROOM).saturating_sub(1) * ROOM;
                Some(start.max(before + 1)).filter(|next| next + count <= first.number)
            }
            None => None,
        };
        let Some(next) = room else {
            self.entries.extend(held);
            let (rows, last) = self.adopt_from(self.last + 1, rows);
            self.last = last;
            return rows;
        };
        let (rows, _) = self.adopt_from(next, rows);
        self.entries.extend(held);
        rows
    }

    fn adopt_from(&mut self, mut next: u64, rows: Vec<OutboxRow>) -> (Vec<OutboxRow>, u64) {
        let adopt = |mut row: OutboxRow| {
            row.first = next;
            next = row.last() + 1;
            let mut charge = row.tail.len();
            for (number, head) in (row.first..).zip(&row.heads) {
                let charge = std::mem::take(&mut charge) + head.len();
                let (head, tail) = (head.clone(), row.tail.clone());
                self.push(number, row.expires, head, tail, charge, State::Accepted);
            }
            row
        };
        let rows: Vec<_> = rows.into_iter().map(adopt).collect();
        self.stats.accepted += rows.iter().map(|row| row.heads.len() as u64).sum::<u64>();
        (rows, next - 1)
    }

    /// The row that is to be stored for `accepted`; `stanzas` are those that [`Outbox::accept`] had.
    pub fn row(&self, utc: Duration, accepted: &Accepted, stanzas: &[Outgoing]) -> OutboxRow {
        let stanzas = &stanzas[..accepted.count.min(stanzas.len())];
        OutboxRow {
            first: accepted.first,
            expires: utc + self.limits.expiry,
            heads: stanzas.iter().map(|stanza| stanza.head.clone()).collect(),
            tail: stanzas.first().map(|stanza| stanza.tail.clone()).unwrap_or_default(),
        }
    }

    /// Puts `accepted` into the row of what was accepted before it, if they follow each other and share
    /// nothing within their calls. Says whether it did.
    pub fn join(
        &self,
        row: &mut OutboxRow,
        utc: Duration,
        accepted: &Accepted,
        stanzas: &[Outgoing],
    ) -> bool {
        let whole = |stanza: &Outgoing| stanza.tail.is_empty();
        let stanzas = &stanzas[..accepted.count.min(stanzas.len())];
        let joins = row.last() + 1 == accepted.first
            && row.heads.len() < ROW
            && row.tail.is_empty()
            && stanzas.iter().all(whole);
        if joins {
            row.expires = row.expires.max(utc + self.limits.expiry);
            row.heads.extend(stanzas.iter().map(|stanza| stanza.head.clone()));
        }
        joins
    }

    /// The store has kept them: they may be written, as soon as everything before them may.
    pub fn stored(&mut self, accepted: &Accepted) {
        let start = self.index_of(accepted.first);
        for entry in self.entries.iter_mut().skip(start).take(accepted.count) {
            entry.state = State::Stored;
        }
    }

    /// The store has not kept them: whoever sent them is told, and they are forgotten.
    pub fn not_stored(&mut self, accepted: &Accepted) {
        let start = self.index_of(accepted.first);
        let end = self.index_of(accepted.first + accepted.count as u64);
        for entry in self.entries.drain(start..end) {
            self.bytes -= entry.charge;
        }
        self.stats.not_stored += accepted.count as u64;
    }

    /// Where the entry `number` is; numbers grow, but some are left out.
    fn index_of(&self, number: u64) -> usize {
        self.entries.partition_point(|entry| entry.number < number)
    }

    /// Whether there is something to be written.
    pub fn has_next(&self) -> bool {
        let next = self.entries.get(self.in_flight).filter(|_| self.giving_up.is_none());
        next.is_some_and(|next| self.is_free(next) && self.may_follow(next))
    }

    /// Whether it is stored and not held.
    fn is_free(&self, entry: &Entry) -> bool {
        entry.state == State::Stored && entry.number < self.held
    }

    /// A suspicious message is written alone, and nothing before it is read.
    fn may_follow(&self, next: &Entry) -> bool {
        if self.in_flight == 0 {
            return true;
        }
        let alone = |entry: &Entry| entry.suspicion >= SUSPICIOUS;
        !alone(next) && !self.entries.get(self.in_flight - 1).is_some_and(alone)
    }

    /// What is to be written next, in this order, with one write: about `max_bytes`, at least one
    /// message if there is any. Each is `head` followed by `tail`. Nothing changes until
    /// [`Outbox::written`].
    pub fn next_batch(&self, max_bytes: usize) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let mut bytes = 0;
        let mut over = !self.has_next();
        let waiting = self.entries.iter().skip(self.in_flight);
        waiting.map_while(move |entry| {
            let is_first = bytes == 0;
            let alone = entry.suspicion >= SUSPICIOUS;
            if over || !self.is_free(entry) || (alone && !is_first) {
                return None;
            }
            bytes += entry.head.len() + entry.tail.len();
            over = alone || bytes >= max_bytes;
            Some((&entry.head, &entry.tail))
        })
    }

    /// Whether a message is stored and not yet written: what went another way would overtake it.
    pub fn has_stored(&self) -> bool {
        self.entries.iter().skip(self.in_flight).any(|entry| entry.state == State::Stored)
    }

    /// The first `count` messages of [`Outbox::next_batch`] were written one after the other; the last
    /// of them has this `position`. Positions grow over all streams of a connection.
    pub fn written(&mut self, count: usize, position: u64) {
        let first = position + 1 - count as u64;
        for (position, entry) in
            (first..).zip(self.entries.iter_mut().skip(self.in_flight).take(count))
        {
            entry.state = State::InFlight(position);
        }
        self.in_flight += count;
    }

    /// The server has read everything up to `position`. Returns the number up to which the store can
    /// forget, if that is news.
    pub fn acked(&mut self, position: u64) -> Option<u64> {
        let read = self.entries.iter().take(self.in_flight);
        let read =
            read.take_while(|entry| matches!(entry.state, State::InFlight(at) if at <= position));
        let count = read.count();
        self.in_flight -= count;
        self.stats.done += count as u64;
        self.remove_front(count)
    }

    /// A stream has ended on which positions up to `position` were: what is in flight there must be
    /// written again. `by_server` says that the server ended it with a stream error, as it does for a
    /// stanza that it does not like. Returns the number up to which the store is to forget, if a message
    /// is to be given up for that; then [`Outbox::given_up`] must be called.
    pub fn lost(&mut self, position: u64, by_server: bool) -> Option<u64> {
        let lost = self.entries.iter_mut().take(self.in_flight);
        let is_lost =
            |entry: &&mut Entry| matches!(entry.state, State::InFlight(at) if at <= position);
        let mut count = 0;
        for entry in lost.take_while(is_lost) {
            entry.state = State::Stored;
            entry.suspicion = entry.suspicion.saturating_add(u8::from(by_server));
            count += 1;
        }
        debug_assert!(count == 0 || count == self.in_flight, "a stream was written to early");
        self.in_flight -= count;
        self.stats.repeated += count as u64;
        let alone = by_server && count == 1;
        let poison = self.entries.front().filter(|it| alone && it.suspicion > SUSPICIOUS);
        let up_to = poison?.number;
        self.giving_up = Some(GivingUp { up_to, why: Why::Poisonous });
        Some(up_to)
    }

    /// Looks for what has expired and is not in flight. Returns the number up to which the store is to
    /// forget, if anything has; then [`Outbox::given_up`] must be called.
    pub fn handle_timeout(&mut self, utc: Duration) -> Option<u64> {
        if self.in_flight > 0 || self.giving_up.is_some() {
            return None;
        }
        // What is held may get others before it, under numbers that would be forgotten with it.
        let expired = |entry: &&Entry| self.is_free(entry) && entry.expires <= utc;
        let up_to = self.entries.iter().take_while(expired).last()?.number;
        self.giving_up = Some(GivingUp { up_to, why: Why::Expired });
        Some(up_to)
    }

    /// Whether [`Outbox::hand_over`] gives something now. What is stored together goes together, what
    /// others have to be taken over before waits, and so does what may be poisonous: nobody else knows that
    /// it is suspicious, and it would end one process's streams after the other's.
    pub fn can_hand_over(&self) -> bool {
        let idle = self.in_flight == 0 && self.giving_up.is_none() && !self.entries.is_empty();
        idle && self.entries.iter().all(|entry| self.is_free(entry) && entry.suspicion == 0)
    }

    /// Whether messages are being handed over and the store has not said that they are: others may have them
    /// or not, so it is to be asked again.
    pub fn is_undecided(&self) -> bool {
        matches!(&self.giving_up, Some(GivingUp { why: Why::HandedOver { asked: false }, .. }))
    }

    /// Everything is to be another process's, with [`Service::bequeath`](super::Service::bequeath) of
    /// these numbers; then [`Outbox::given_up`] must be called. `None` while something is in flight, held,
    /// suspicious, or not yet stored.
    pub fn hand_over(&mut self) -> Option<RangeInclusive<u64>> {
        let last = match &self.giving_up {
            Some(undecided) if self.is_undecided() => undecided.up_to,
            _ if self.can_hand_over() => self.entries.back()?.number,
            _ => return None,
        };
        self.giving_up = Some(GivingUp { up_to: last, why: Why::HandedOver { asked: true } });
        Some(self.entries.front()?.number..=last)
    }

    /// The store has forgotten what was to be given up, or has not: then it waits as before. Until it
    /// has, nothing that follows is written: after a restart it would come back and be sent, behind its
    /// turn, by a clock that was set back, or to a server that bears it now.
    pub fn given_up(&mut self, forgotten: bool) {
        if let Some(GivingUp { why: Why::HandedOver { asked }, .. }) = &mut self.giving_up
            && !forgotten
        {
            *asked = false;
            return;
        }
        let Some(given_up) = self.giving_up.take().filter(|_| forgotten) else { return };
        let count = self.index_of(given_up.up_to + 1);
        match given_up.why {
            Why::Poisonous => {
                self.stats.poisonous += 1;
                self.stats.repeated -= 1;
            }
            Why::Expired => self.stats.expired += count as u64,
            Why::HandedOver { .. } => self.stats.handed_over += count as u64,
        }
        self.remove_front(count);
    }

    /// When [`Outbox::handle_timeout`] may have something to do, since the Unix epoch.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let next = self.entries.front().filter(|_| self.giving_up.is_none());
        next.filter(|entry| self.is_free(entry)).map(|it| it.expires)
    }

    fn remove_front(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for entry in self.entries.drain(..count) {
            self.bytes -= entry.charge;
            last = Some(entry.number);
        }
        last
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it holds and has done.
    pub fn stats(&self) -> OutboxStats {
        OutboxStats {
            waiting: self.entries.len(),
            in_flight: self.in_flight,
            bytes: self.bytes,
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests;
