//! Who is available, with which show: the presence book.
//!
//! Made for a million contacts. A contact is one slot of forty bytes, its address, and sixteen bytes
//! for each available resource; of a resource's name only a keyed hash is kept, since all that is
//! ever asked of it is whether it is the same one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::roster::Subscription;
use crate::store::{ContactKey, ContactState};

/// What an available contact is up to (RFC 6121 §4.7.2.1), numbered as App Engine's
/// `PresenceResponse.SHOW`. The numbers are also what a store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Show {
    /// Available and nothing more; there is no `<show/>`.
    #[default]
    Normal = 0,
    /// `away`
    Away = 1,
    /// `dnd`
    DoNotDisturb = 2,
    /// `chat`
    Chat = 3,
    /// `xa`
    ExtendedAway = 4,
}

impl Show {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Normal, Self::Away, Self::DoNotDisturb, Self::Chat, Self::ExtendedAway];

    /// The element's text; empty where there is no element.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Away => "away",
            Self::DoNotDisturb => "dnd",
            Self::Chat => "chat",
            Self::ExtendedAway => "xa",
        }
    }

    /// The show that `text` names; the empty text names [`Show::Normal`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|show| show.as_str() == text)
    }

    /// The show with this number.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// What the app last told one contact about itself, where that is not simply "available".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnPresence {
    /// Gone.
    pub unavailable: bool,
    /// With this show.
    pub show: Show,
    /// With this status; empty if none.
    pub status: Box<str>,
}

/// How much of one resource is remembered.
#[derive(Debug, Clone, Copy)]
struct Resource {
    name: u64,
    priority: i8,
    show: Show,
}

/// How many resources of one contact are remembered; of more, those that count least are not.
pub(super) const MAX_RESOURCES: usize = 16;

#[derive(Debug)]
struct Slot {
    contact: Box<str>,
    /// Available resources; of equals the later one counts.
    resources: Box<[Resource]>,
    own: u32,
    subscription: Subscription,
    /// Read from the store and not yet confirmed by the contact.
    restored: Option<Show>,
    /// The connection on which the contact was last heard.
    heard: u8,
    /// The contact was asked for its presence and has not answered.
    asked: bool,
}

const VACANT: u32 = u32::MAX;

impl Slot {
    fn best(&self) -> Option<Show> {
        let best = self.resources.iter().max_by_key(|resource| resource.priority);
        best.map(|resource| resource.show).or(self.restored)
    }

    fn is_idle(&self) -> bool {
        self.subscription == Subscription::None && self.best().is_none()
    }
}

/// The app's own addresses, each kept once.
#[derive(Debug, Default)]
struct Owns {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<(Box<str>, u32)>,
    free: Vec<u32>,
}

impl Owns {
    fn number(&self, own: &str) -> Option<u32> {
        self.numbers.get(own).copied()
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |(name, _)| name)
    }

    fn take(&mut self, own: &str) -> u32 {
        let number = self.number(own).unwrap_or_else(|| {
            let number = self.free.pop().unwrap_or_else(|| {
                self.names.push(Default::default());
                self.names.len() as u32 - 1
            });
            self.names[number as usize] = (own.into(), 0);
            self.numbers.insert(own.into(), number);
            number
        });
        self.names[number as usize].1 += 1;
        number
    }

    fn give_back(&mut self, number: u32) {
        let (name, uses) = &mut self.names[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(name);
            *name = Box::default();
            self.free.push(number);
        }
    }
}

/// One contact of a walk through the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'b> {
    /// The app's bare address.
    pub own: &'b str,
    /// The contact's.
    pub contact: &'b str,
    /// The subscriptions between the two.
    pub subscription: Subscription,
    /// The contact's presence.
    pub available: Option<Show>,
    /// What the app last told the contact; `None` is "available".
    pub told: Option<&'b OwnPresence>,
}

/// What a store knew better.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Contacts with another presence.
    pub changed: Vec<ContactKey>,
    /// Contacts with other subscriptions: those that were known, and those that there are.
    pub learned: Vec<(ContactKey, Subscription, Subscription)>,
}

/// The presence and subscription of every contact, for each of the app's addresses. All addresses
/// are bare and prepared.
#[derive(Debug)]
pub struct PresenceBook {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    owns: Owns,
    told: HashMap<u32, OwnPresence>,
    hasher: RandomState,
    strangers: usize,
    max_strangers: usize,
    epoch: u8,
}

impl PresenceBook {
    /// An empty book. Of contacts without any subscription at most `max_strangers` are kept: anybody
    /// on the network can send presence, and nobody may fill the memory with it.
    pub fn new(max_strangers: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            owns: Owns::default(),
            told: HashMap::new(),
            hasher: RandomState::new(),
            strangers: 0,
            max_strangers,
            epoch: 0,
        }
    }

    /// How many contacts are in the book.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the book is empty.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What is known of a contact.
    pub fn get(&self, own: &str, contact: &str) -> Option<Entry<'_>> {
        self.find(own, contact).map(|number| self.entry(number))
    }

    /// The contact's presence: available with the show of the resource of highest priority, or not.
    pub fn available(&self, own: &str, contact: &str) -> Option<Show> {
        self.slots[self.find(own, contact)? as usize].best()
    }

    /// The subscriptions between the two.
    pub fn subscription(&self, own: &str, contact: &str) -> Subscription {
        let found = self.find(own, contact);
        found.map(|number| self.slots[number as usize].subscription).unwrap_or_default()
    }

    /// Puts in what a store kept. It counts until the contact is heard, or found silent by
    /// [`PresenceBook::expire`].
    pub fn restore(&mut self, key: &ContactKey, state: ContactState) {
        let number = self.find_or_insert(&key.own, &key.contact);
        self.change(number, |slot| {
            slot.subscription = state.subscription;
            slot.restored = state.available;
        });
        if let Some(told) = state.told {
            self.set_told(&key.own, &key.contact, *told);
        }
    }

    /// Takes over what a store has of all contacts, where that differs from what is known.
    pub fn reconcile(
        &mut self,
        contacts: impl Iterator<Item = (ContactKey, ContactState)>,
    ) -> Reconciled {
        let (mut changed, mut learned, epoch) = (Vec::new(), Vec::new(), self.epoch);
        let mut kept = vec![false; self.slots.len()];
        for (key, state) in contacts {
            let number = self.find_or_insert(&key.own, &key.contact);
            if let Some(kept) = kept.get_mut(number as usize) {
                *kept = true;
            }
            self.change(number, |slot| {
                let before = std::mem::replace(&mut slot.subscription, state.subscription);
                if before != state.subscription {
                    learned.push((key.clone(), before, state.subscription));
                }
                // Who was asked may have answered meanwhile.
                (slot.heard, slot.asked) = (epoch, false);
                if slot.best() != state.available {
                    changed.push(key.clone());
                    slot.resources = Box::default();
                    slot.restored = state.available;
                }
            });
            let told = state.told.map(|told| *told).unwrap_or_default();
            self.set_told(&key.own, &key.contact, told);
        }
        for (number, _) in kept.iter().enumerate().filter(|(_, kept)| !**kept) {
            let slot = &self.slots[number];
            if slot.own != VACANT && slot.subscription != Subscription::None {
                self.change(number as u32, |slot| slot.subscription = Subscription::None);
            }
        }
        Reconciled { changed, learned }
    }

    /// The resource `resource` of the contact is available. Returns whether that changed the
    /// contact's presence as a whole; a stranger beyond the bound is not remembered.
    pub fn set_available(
        &mut self,
        own: &str,
        contact: &str,
        resource: &str,
        priority: i8,
        show: Show,
    ) -> bool {
        let found = self.find(own, contact);
        if found.is_none() && self.strangers >= self.max_strangers {
            return false;
        }
        let name = self.hasher.hash_one(resource);
        let epoch = self.epoch;
        let number = found.unwrap_or_else(|| self.find_or_insert(own, contact));
        self.change(number, |slot| {
            // To a question each resource that is still there answers for itself: what was known
            // before is void.
            let kept = !slot.asked;
            let mut resources: Vec<Resource> = Vec::with_capacity(slot.resources.len() + 1);
            resources.extend(slot.resources.iter().filter(|old| kept && old.name != name));
            if resources.len() >= MAX_RESOURCES {
                let least = (0..resources.len()).min_by_key(|&i| resources[i].priority);
                least.map(|least| resources.remove(least));
            }
            resources.push(Resource { name, priority, show });
            slot.resources = resources.into();
            slot.restored = None;
            slot.heard = epoch;
            slot.asked = false;
        })
    }

    /// The resource `resource` of the contact is gone; all of them if the bare address said so.
    /// Returns whether that changed the contact's presence as a whole.
    pub fn set_unavailable(&mut self, own: &str, contact: &str, resource: Option<&str>) -> bool {
        let Some(number) = self.find(own, contact) else {
            return false;
        };
        let name = resource.map(|resource| self.hasher.hash_one(resource));
        let epoch = self.epoch;
        self.change(number, |slot| {
            let kept = !slot.asked && name.is_some();
            slot.resources = slot
                .resources
                .iter()
                .filter(|old| kept && Some(old.name) != name)
                .copied()
                .collect();
            slot.restored = slot.restored.filter(|_| kept);
            slot.heard = epoch;
            slot.asked = false;
        })
    }

    /// Sets the subscriptions between the two.
    pub fn set_subscription(&mut self, own: &str, contact: &str, subscription: Subscription) {
        if subscription == Subscription::None && self.find(own, contact).is_none() {
            return;
        }
        let number = self.find_or_insert(own, contact);
        self.change(number, |slot| slot.subscription = subscription);
    }

    /// Remembers what the app told a contact of itself; returns whether that is news. Of somebody who
    /// is not in the book nothing is remembered.
    pub fn set_told(&mut self, own: &str, contact: &str, told: OwnPresence) -> bool {
        let Some(number) = self.find(own, contact) else {
            return false;
        };
        if told == OwnPresence::default() {
            return self.told.remove(&number).is_some();
        }
        let before = self.told.get(&number);
        let changed = before != Some(&told);
        if changed {
            self.told.insert(number, told);
        }
        changed
    }

    /// A new connection: what was known stays known until its contact answers, or is found silent
    /// by [`PresenceBook::expire`].
    pub fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// A contact is asked for its presence: what it says next counts alone, and if it says nothing,
    /// [`PresenceBook::expire`] takes it as gone.
    pub fn ask(&mut self, own: &str, contact: &str) {
        if let Some(number) = self.find(own, contact) {
            self.slots[number as usize].asked = true;
        }
    }

    /// The contact at `cursor` of a walk through the book, and where the next one is; `None` at the
    /// end. A walk sees every contact that is in the book all the while exactly once, whatever else
    /// changes meanwhile.
    pub fn walk(&self, cursor: usize) -> Option<(Entry<'_>, usize)> {
        let rest = self.slots.get(cursor..)?;
        let offset = rest.iter().position(|slot| slot.own != VACANT)?;
        Some((self.entry((cursor + offset) as u32), cursor + offset + 1))
    }

    /// Looks at up to `budget` slots from `cursor` on: contacts that did not answer, or were not
    /// heard on this connection at all, become unavailable and are handed over. Returns where to go on; `None` at the end.
    pub fn expire(
        &mut self,
        cursor: usize,
        budget: usize,
        mut expired: impl FnMut(ContactKey, Subscription),
    ) -> Option<usize> {
        let end = self.slots.len().min(cursor.saturating_add(budget));
        for number in cursor..end {
            let slot = &self.slots[number];
            let silent = slot.asked || slot.heard != self.epoch;
            let unconfirmed = slot.restored.is_some() && slot.resources.is_empty();
            if slot.own == VACANT || slot.best().is_none() || !(silent || unconfirmed) {
                continue;
            }
            let key =
                ContactKey { own: self.owns.name(slot.own).into(), contact: slot.contact.clone() };
            let subscription = slot.subscription;
            self.change(number as u32, |slot| {
                slot.resources = Box::default();
                slot.restored = None;
                slot.asked = false;
            });
            expired(key, subscription);
        }
        (end < self.slots.len()).then_some(end)
    }

    fn hash(&self, own: u32, contact: &str) -> u64 {
        self.hasher.hash_one((own, contact))
    }

    fn find(&self, own: &str, contact: &str) -> Option<u32> {
        let own = self.owns.number(own)?;
        let is_it = |&number: &u32| {
            let slot = &self.slots[number as usize];
            slot.own == own && *slot.contact == *contact
        };
        self.index.find(self.hash(own, contact), is_it).copied()
    }

    fn entry(&self, number: u32) -> Entry<'_> {
        let slot = &self.slots[number as usize];
        Entry {
            own: self.owns.name(slot.own),
            contact: &slot.contact,
            subscription: slot.subscription,
            available: slot.best(),
            told: self.told.get(&number),
        }
    }

    fn find_or_insert(&mut self, own: &str, contact: &str) -> u32 {
        if let Some(number) = self.find(own, contact) {
            return number;
        }
        let slot = Slot {
            contact: contact.into(),
            resources: Box::default(),
            own: self.owns.take(own),
            subscription: Subscription::None,
            restored: None,
            heard: self.epoch.wrapping_sub(1),
            asked: false,
        };
        let hash = self.hash(slot.own, contact);
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        let Self { slots, index, hasher, .. } = self;
        index.insert_unique(hash, number, |&other| {
            let slot = &slots[other as usize];
            hasher.hash_one((slot.own, &*slot.contact))
        });
        self.strangers += 1;
        number
    }

    /// Changes a contact, keeps the count of strangers, and forgets one of whom nothing is left to
    /// know. Returns whether the contact's presence as a whole changed.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Slot)) -> bool {
        let slot = &mut self.slots[number as usize];
        let stranger = slot.subscription == Subscription::None;
        let before = slot.best();
        change(slot);
        let changed = slot.best() != before;
        let still_stranger = slot.subscription == Subscription::None;
        let idle = slot.is_idle();
        match (stranger, still_stranger) {
            (true, false) => self.strangers -= 1,
            (false, true) => self.strangers += 1,
            _ => {}
        }
        if idle {
            self.forget(number);
        }
        changed
    }

    fn forget(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let own = std::mem::replace(&mut slot.own, VACANT);
        let contact = std::mem::take(&mut slot.contact);
        let hash = self.hash(own, &contact);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == number) {
            found.remove();
        }
        self.owns.give_back(own);
        self.told.remove(&number);
        self.free.push(number);
        self.strangers -= 1;
    }
}

#[cfg(test)]
mod tests;
