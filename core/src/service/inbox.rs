//! Deliveries that must not get lost: tried again until the app takes them or time is up.
//!
//! An [`Inbox`] is [`Lanes`] with patience: while a delivery waits for its next attempt, the same
//! sender's others wait behind it, and other senders' do not. What a store has to keep is said by
//! [`Service::keep_delivery`] and its siblings.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::lanes::{LaneLimits, Lanes, Ticket};
use super::route::{self, Delivery, PresenceDetails, Routed, Rules};
use super::{Service, Waiting};
use crate::error::Result;
use crate::ns;
use crate::stanza::Stanza;
use crate::store::{Change, Count, DeadLetter, Durability, InboxRow, Place, Row};
use crate::xml::{Limits, Scope};

/// When a delivery is tried again, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The pause after the first attempt; each further one is twice as long.
    pub first: Duration,
    /// The longest pause, also where the app asks for a longer one.
    pub longest: Duration,
    /// How long after a delivery came in an attempt may still be followed by another. Whatever the
    /// time, there is one attempt.
    pub deadline: Duration,
}

impl Default for Retry {
    /// One second, one minute, ten minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            deadline: Duration::from_secs(600),
        }
    }
}

/// How an attempt to deliver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The app answered with this HTTP status (RFC 9110 §15).
    Answered {
        /// The status.
        status: u16,
        /// How long the app asks to wait (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// There was no answer: the connection was refused or broke off, or the time was up.
    Unanswered,
}

impl Attempt {
    /// Whether another attempt can help: after no answer, 502, 503 and 504. Every other answer is
    /// the app's own, and final.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unanswered | Self::Answered { status: 502..=504, .. })
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: the store can forget it.
    Done,
    /// It is tried again at this time.
    RetryAt(Duration),
    /// It is given up: it goes to the dead letters, and its sender is told
    /// ([`Service::refuse`], recipient-unavailable).
    Dead,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    since: Duration,
    /// How long ago it had come by then.
    age: Duration,
    attempts: u32,
}

/// The deliveries of one app, with their attempts. All times are the driver's `now`.
#[derive(Debug, Default)]
pub struct Inbox {
    retry: Retry,
    lanes: Lanes,
    tries: HashMap<u64, Tries>,
    pausing: BTreeMap<(Duration, u64), (Ticket, Arc<Delivery>)>,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(limits: LaneLimits, retry: Retry) -> Self {
        Self { retry, lanes: Lanes::new(limits), ..Self::default() }
    }

    /// Goes by another `retry` from the next attempt on.
    pub fn set_retry(&mut self, retry: Retry) {
        self.retry = retry;
    }

    /// Puts a delivery, which the store has, behind those of the same sender.
    ///
    /// # Errors
    /// There is no room: the delivery is given back.
    pub fn push(&mut self, now: Duration, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let id = delivery.id;
        self.lanes.push(delivery)?;
        self.tries.insert(id, Tries { since: now, age: Duration::ZERO, attempts: 0 });
        Ok(())
    }

    /// [`Inbox::push`] for what the store had kept from before, whatever the bounds. `utc` is the time
    /// since the Unix epoch: a restart does not give a delivery more time.
    pub fn restore(&mut self, now: Duration, utc: Duration, delivery: Delivery) {
        let known = !delivery.came.is_zero();
        let age = if known { utc.saturating_sub(delivery.came) } else { Duration::ZERO };
        self.tries.insert(delivery.id, Tries { since: now, age, attempts: 0 });
        self.lanes.restore(delivery);
    }

    /// Hands out up to `max` deliveries to be attempted, each of a different sender: first those
    /// whose pause is over.
    pub fn claim(&mut self, now: Duration, max: usize) -> Vec<(Ticket, Arc<Delivery>)> {
        std::iter::from_fn(|| self.claim_one(now)).take(max).collect()
    }

    /// Hands out one delivery to be attempted.
    pub fn claim_one(&mut self, now: Duration) -> Option<(Ticket, Arc<Delivery>)> {
        match self.pausing.first_entry() {
            Some(next) if next.key().0 <= now => Some(next.remove()),
            _ => self.lanes.claim_one(),
        }
    }

    /// What [`Inbox::finish`] will make of this `attempt`, for what has to be done before the sender's
    /// next delivery may go.
    pub fn judge(&self, now: Duration, id: u64, attempt: Attempt) -> Verdict {
        if !attempt.is_retryable() {
            return Verdict::Done;
        }
        match self.tries.get(&id) {
            Some(tries) if now + tries.age < tries.since + self.retry.deadline => {
                Verdict::RetryAt(now + self.retry.pause(tries.attempts + 1, attempt))
            }
            _ => Verdict::Dead,
        }
    }

    /// An attempt to deliver what [`Inbox::claim`] handed out has ended. Each claim is finished once.
    pub fn finish(
        &mut self,
        now: Duration,
        ticket: Ticket,
        delivery: Arc<Delivery>,
        attempt: Attempt,
    ) -> Verdict {
        let verdict = self.judge(now, delivery.id, attempt);
        if let Verdict::RetryAt(at) = verdict {
            if let Some(tries) = self.tries.get_mut(&delivery.id) {
                tries.attempts += 1;
            }
            self.pausing.insert((at, delivery.id), (ticket, delivery));
            return verdict;
        }
        self.tries.remove(&delivery.id);
        self.lanes.done(&ticket);
        verdict
    }

    /// Takes back everything that waits, in order for each sender: nobody will attempt it any more.
    /// What is being attempted stays until it is finished.
    pub fn drain(&mut self) -> Vec<Arc<Delivery>> {
        let mut drained = Vec::new();
        for (_, (ticket, delivery)) in std::mem::take(&mut self.pausing) {
            self.lanes.done(&ticket);
            drained.push(delivery);
        }
        drained.append(&mut self.lanes.drain());
        for delivery in &drained {
            self.tries.remove(&delivery.id);
        }
        drained
    }

    /// When the delivery `id` came here.
    pub fn since(&self, id: u64) -> Option<Duration> {
        self.tries.get(&id).map(|tries| tries.since)
    }

    /// How often the delivery `id` was attempted.
    pub fn attempts(&self, id: u64) -> u32 {
        self.tries.get(&id).map_or(0, |tries| tries.attempts)
    }

    /// When the next pause is over.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.pausing.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many deliveries are here, those being attempted included.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Deliveries that would be handed out if it were their turn.
    pub fn waiting(&self) -> Vec<Arc<Delivery>> {
        self.lanes.waiting()
    }

    /// Whether there are deliveries whose turn has not come.
    pub fn has_waiting(&self) -> bool {
        self.lanes.has_waiting()
    }

    /// The turns of these deliveries have come.
    pub fn release(&mut self, ids: &[u64]) {
        self.lanes.release(ids);
    }

    /// Whether [`Inbox::claim`] would hand something out.
    pub fn has_ready(&self, now: Duration) -> bool {
        self.lanes.has_ready() || self.poll_timeout().is_some_and(|at| at <= now)
    }
}

impl Retry {
    fn pause(&self, attempts: u32, attempt: Attempt) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        let asked = match attempt {
            Attempt::Answered { retry_after, .. } => retry_after,
            Attempt::Unanswered => None,
        };
        asked.unwrap_or(doubled).min(self.longest)
    }
}

impl Service {
    /// Makes the ids of deliveries differ from those of every earlier run on the same store, and
    /// hands over what that run left undelivered, in order, each with the id it had. Once, before
    /// anything is delivered.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if the store does not take the number of this
    /// run.
    pub fn restore_deliveries(&self) -> Result<Vec<Delivery>> {
        let rows = std::mem::take(&mut self.waiting().inbox);
        self.number_run()?;
        let places: Vec<_> = rows.iter().map(|row| self.waiting().place(row.id)).collect();
        Ok(rows.into_iter().zip(places).filter_map(|(row, it)| self.restored(row, it)).collect())
    }

    /// An id for a delivery that is not the service's own.
    pub fn new_delivery_id(&self) -> u64 {
        self.deliveries.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// What a store has to keep of a delivery, before anybody is told that it came.
    pub fn keep_delivery(&self, delivery: &Delivery) -> Change {
        let row = InboxRow {
            id: delivery.id,
            path: delivery.path.into(),
            stanza: standing_alone(&delivery.stanza),
            lane: self.lane(&delivery.sender),
            came: delivery.came,
        };
        Change::InboxPut(self.queue().clone(), row)
    }

    /// What has a store forget a delivery that is done: until then a restart would deliver it again.
    pub fn delivery_done(&self, id: u64) -> Change {
        Change::InboxDone(self.queue().clone(), id)
    }

    /// What moves a delivery to the dead letters. `utc` is the time since the Unix epoch.
    pub fn delivery_dead(&self, id: u64, utc: Duration, reason: &str) -> Change {
        Change::Bury(self.queue().clone(), id, utc, reason.into())
    }

    /// Applies [`Service::delivery_done`] or [`Service::delivery_dead`], soon.
    pub fn settle_delivery(&self, change: Change) {
        match &self.sharing {
            Some(sharing) => sharing.settle(&*self.store, change),
            // A fault is logged and counted; the delivery comes again after a restart.
            None => drop(self.keep(vec![change], Durability::Soon)),
        }
    }

    /// Has the store forget a delivery, soon.
    pub fn forget_delivery(&self, id: u64) {
        self.settle_delivery(self.delivery_done(id));
    }

    /// The deliveries that were given up.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if they cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        self.store.dead_letters(self.queue(), &mut |letter| letters.push(letter))?;
        Ok(letters)
    }

    /// Takes those dead letters of `ids` that there are back among what is to be delivered, in the
    /// order in which they came, each with the id it had. What the app has no use for any more stays, and
    /// what another call or process replays at the same moment is that one's.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): all of them still are dead letters, or, on a shared
    /// store that was lost just then, wait for the next start.
    pub fn replay_dead_letters(&self, ids: &HashSet<u64>) -> Result<Vec<Delivery>> {
        let _one_at_a_time = self.replaying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        self.store.dead_letters(self.queue(), &mut |letter| {
            rows.extend(ids.contains(&letter.row.id).then_some(letter.row));
        })?;
        let mut replayed: Vec<_> =
            rows.into_iter().filter_map(|row| self.restored(row, Place::default())).collect();
        let replay = |delivery: &Delivery| Change::Replay(self.queue().clone(), delivery.id);
        self.keep(replayed.iter().map(replay).collect(), Durability::Now)?;
        if self.is_shared() && !replayed.is_empty() {
            let ours = self.inbox_ids()?;
            replayed.retain(|delivery| ours.contains(&delivery.id));
        }
        Ok(replayed)
    }

    /// The ids of the deliveries that the store keeps for this process.
    fn inbox_ids(&self) -> Result<HashSet<u64>> {
        let mut ids = HashSet::new();
        self.store.load_queue(self.queue(), &mut |row| {
            if let Row::Inbox(row) = row {
                ids.insert(row.id);
            }
        })?;
        Ok(ids)
    }

    /// Forgets those dead letters of `ids` that there are, and says which these were.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): all of them are still there.
    pub fn purge_dead_letters(&self, ids: &HashSet<u64>) -> Result<Vec<u64>> {
        let mut purged = Vec::new();
        self.store.dead_letters(self.queue(), &mut |letter| {
            purged.extend(Some(letter.row.id).filter(|id| ids.contains(id)));
        })?;
        let purge = |id: &u64| Change::Purge(self.queue().clone(), *id);
        self.keep(purged.iter().map(purge).collect(), Durability::Now)?;
        Ok(purged)
    }

    fn number_run(&self) -> Result<()> {
        if let Some(sharing) = &self.sharing {
            let first = sharing.member.number << RUN_BITS;
            self.deliveries.store(first, std::sync::atomic::Ordering::Relaxed);
            return Ok(());
        }
        let runs = |waiting: &Waiting| {
            waiting.counts.iter().find(|count| &*count.name == RUNS).map_or(0, |count| count.value)
        };
        let run = runs(&self.waiting()) + 1;
        let count = Count { name: RUNS.into(), day: 0, value: run };
        self.keep(vec![Change::Count(self.queue().clone(), count)], Durability::Now)?;
        self.deliveries.store(run << RUN_BITS, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// The delivery of a row, made anew: what the app asks for may have changed.
    pub(super) fn restored(&self, row: InboxRow, place: Place) -> Option<Delivery> {
        let (id, came) = (row.id, row.came);
        let parsed = Stanza::parse(row.stanza, &Scope::stream(ns::COMPONENT), &Limits::default());
        let stanza = parsed
            .inspect_err(|error| tracing::error!(id, %error, "a stored stanza cannot be read"))
            .ok()?;
        let sender = stanza.from().map(|from| from.bare_key()).unwrap_or_default();
        if row.path.is_empty() {
            let service = route::InboundService::Message;
            let fields = Vec::new();
            return Some(Delivery { id, path: "", fields, service, sender, stanza, place, came });
        }
        let rules = Rules {
            addresses: &self.addresses,
            inbound: self.inbound,
            limits: self.limits,
            form: self.form,
            bodiless_messages: self.bodiless_messages,
            utc: Duration::ZERO,
        };
        match route::route(&stanza, &PresenceDetails::of(&stanza), &rules) {
            Routed::Deliver { path, fields, service } => {
                Some(Delivery { id, path, fields, service, sender, stanza, place, came })
            }
            Routed::Answer(_) | Routed::Drop(_) => {
                tracing::warn!(id, "a stored stanza is nothing that the app asks for any more");
                self.forget_delivery(id);
                None
            }
        }
    }
}

/// The name of the number that counts runs.
const RUNS: &str = "runs";
/// How many bits of an id count the deliveries of one run.
const RUN_BITS: u32 = 40;

/// The stanza in a form that can be read without the stream it came on.
fn standing_alone(stanza: &Stanza) -> Bytes {
    let alone =
        Stanza::parse(stanza.raw().clone(), &Scope::stream(ns::COMPONENT), &Limits::default());
    if alone.is_ok_and(|alone| alone.ns() == stanza.ns()) {
        return Bytes::copy_from_slice(stanza.raw());
    }
    match stanza.element() {
        Ok(element) => element.to_xml().into(),
        Err(_) => Bytes::copy_from_slice(stanza.raw()),
    }
}

#[cfg(test)]
mod tests;
