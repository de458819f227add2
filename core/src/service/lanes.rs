//! In which order deliveries reach the app: one after the other for each sender, side by side for
//! different ones.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::route::Delivery;
use crate::store::Place;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Deliveries in all, those being handled included.
    pub deliveries: usize,
    /// Bytes in all, those being handled included.
    pub bytes: usize,
    /// Deliveries of one sender, so that one does not take everybody's room.
    pub per_sender: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { deliveries: 10_000, bytes: 64 * 1024 * 1024, per_sender: 1_000 }
    }
}

/// A delivery handed out by [`Lanes::claim`]. Its lane waits until [`Lanes::done`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    lane: Arc<str>,
    delivery: u64,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Arc<Delivery>>,
    handled: Option<Arc<Delivery>>,
    /// It is among those that are ready.
    ready: bool,
}

impl Lane {
    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.handled.is_some())
    }
}

/// Schedules deliveries. Every operation takes constant time; lanes that have work are served in
/// turn, so a sender with many messages does not keep others waiting.
#[derive(Debug, Default)]
pub struct Lanes {
    limits: LaneLimits,
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes with something waiting and nothing being handled, each once.
    ready: VecDeque<Arc<str>>,
    /// Deliveries whose turn has not come, the oldest first, with their lanes.
    held: BTreeMap<u64, Arc<str>>,
    deliveries: usize,
    bytes: usize,
}

impl Lanes {
    /// Empty lanes.
    pub fn new(limits: LaneLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Puts a delivery behind those of the same sender.
    ///
    /// # Errors
    /// There is no room: the delivery is given back, to be refused or spilled.
    pub fn push(&mut self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let size = delivery.size();
        let of_sender = self.lanes.get(&*delivery.sender).map_or(0, Lane::len);
        let full = self.deliveries >= self.limits.deliveries
            || of_sender >= self.limits.per_sender
            // One that is larger than the bound by itself still passes alone.
            || (self.deliveries > 0 && self.bytes + size > self.limits.bytes);
        if full {
            return Err(Box::new(delivery));
        }
        self.restore(delivery);
        Ok(())
    }

    /// [`Lanes::push`] for what was here before, whatever the bounds; what has an earlier turn than others
    /// of its sender goes before them.
    pub fn restore(&mut self, delivery: Delivery) {
        self.deliveries += 1;
        self.bytes += delivery.size();
        let key = match self.lanes.get_key_value(&*delivery.sender) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(&*delivery.sender),
        };
        if delivery.place.behind {
            self.held.insert(delivery.id, Arc::clone(&key));
        }
        let lane = self.lanes.entry(Arc::clone(&key)).or_default();
        let turn = delivery.place.turn;
        // What could not be stored has no turn, and others do not wait for it.
        let is_earlier = |place: Place| (1..=turn).contains(&place.turn);
        let before = lane.waiting.iter().rposition(|it| turn == 0 || is_earlier(it.place));
        lane.waiting.insert(before.map_or(0, |before| before + 1), Arc::new(delivery));
        self.offer(&key);
    }

    /// Makes a lane ready whose next delivery may go.
    fn offer(&mut self, key: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Some(next) = lane.waiting.front() else { return };
        if !lane.ready && lane.handled.is_none() && !self.held.contains_key(&next.id) {
            lane.ready = true;
            self.ready.push_back(Arc::clone(key));
        }
    }

    /// Deliveries that would be handed out if it were their turn.
    pub fn waiting(&self) -> Vec<Arc<Delivery>> {
        let next = |(id, key): (&u64, &Arc<str>)| {
            let lane = self.lanes.get(key).filter(|lane| lane.handled.is_none())?;
            lane.waiting.front().filter(|next| next.id == *id).cloned()
        };
        self.held.iter().filter_map(next).collect()
    }

    /// Whether there are deliveries whose turn has not come.
    pub fn has_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// The turns of these deliveries have come.
    pub fn release(&mut self, ids: &[u64]) {
        for id in ids {
            if let Some(key) = self.held.remove(id) {
                self.offer(&key);
            }
        }
    }

    /// Hands out up to `max` deliveries, each of a different sender.
    pub fn claim(&mut self, max: usize) -> Vec<(Ticket, Arc<Delivery>)> {
        std::iter::from_fn(|| self.claim_one()).take(max).collect()
    }

    /// Hands out one delivery.
    pub fn claim_one(&mut self) -> Option<(Ticket, Arc<Delivery>)> {
        loop {
            let key = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.ready = false;
            // Something may have come before what was ready.
            if lane.waiting.front().is_none_or(|next| self.held.contains_key(&next.id)) {
                continue;
            }
            let Some(delivery) = lane.waiting.pop_front() else { continue };
            lane.handled = Some(Arc::clone(&delivery));
            return Some((Ticket { lane: key, delivery: delivery.id }, delivery));
        }
    }

    /// The delivery of `ticket` has been handled, well or badly: its sender's next one may go. A
    /// ticket that is used up does nothing.
    pub fn done(&mut self, ticket: &Ticket) {
        let Some(lane) = self.lanes.get_mut(&ticket.lane) else { return };
        let Some(delivery) = lane.handled.take_if(|it| it.id == ticket.delivery) else { return };
        self.deliveries -= 1;
        self.bytes -= delivery.size();
        if lane.waiting.is_empty() {
            self.lanes.remove(&ticket.lane);
        } else {
            self.offer(&ticket.lane);
        }
    }

    /// Takes back everything that waits, in order for each sender: nobody will handle it any more.
    /// What is being handled stays until it is done.
    pub fn drain(&mut self) -> Vec<Arc<Delivery>> {
        let mut drained = Vec::with_capacity(self.deliveries);
        self.lanes.retain(|_, lane| {
            drained.extend(lane.waiting.drain(..));
            lane.ready = false;
            lane.handled.is_some()
        });
        self.ready.clear();
        self.held.clear();
        self.deliveries -= drained.len();
        self.bytes -= drained.iter().map(|delivery| delivery.size()).sum::<usize>();
        drained
    }

    /// How many deliveries are here, those being handled included.
    pub fn len(&self) -> usize {
        self.deliveries
    }

    /// Whether nothing waits and nothing is being handled.
    pub fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether [`Lanes::claim`] would hand something out.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests;
