//! Which of two processes heard a contact last.
//!
//! A server may give what one contact says to several processes, and nobody knows in which order they
//! read it. So that all books say the same, each goes by the order in which the store hands out what
//! the processes tell; and where that may not be the order in which the contact spoke, the contact is
//! asked: its answer is newer than both. So it is where a process tells something new that has no stream:
//! it heard that before, and the store got it late; and where all of a contact is said to be gone, since
//! its silence may be that of the other one's stream. A resource that was in doubt and does not answer is gone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::presence::MAX_RESOURCES;
use super::roster::Subscription;
use crate::store::{ContactKey, Heard};

/// For how many beats of the store what another process heard may be younger than what is read here.
const RECENT: u64 = 10;
/// For how many beats after a stream is up it is not known whether others have one.
const UNKNOWN: u64 = 3;
/// Of how many contacts that is remembered, and how many may be in doubt. Beyond, the next question
/// to all contacts puts it right.
const CONTACTS: usize = 50_000;
const DOUBTS: usize = 1_000;
/// The pause before a contact is asked again that goes on contradicting itself; each further one is
/// twice as long, up to the patience with an answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What this process and others heard of contacts a moment ago.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    /// The number of what was told last.
    last: u64,
    /// What this process told and has not got back: what others heard and comes meanwhile, the store
    /// had before.
    told: HashMap<ContactKey, Vec<(u64, Heard)>>,
    /// What others heard, with the beat at which it came.
    recent: HashMap<ContactKey, Vec<(u64, Heard)>>,
    beat: u64,
    /// There is a stream to ask through, since this beat. Whoever has none asks all contacts when it has
    /// one.
    up: Option<u64>,
    /// How many others have one.
    others: usize,
    doubts: BTreeMap<ContactKey, Doubt>,
    /// Who is to be told the app's presence.
    greet: Vec<ContactKey>,
    /// There was no room for one that the app is subscribed to.
    overflowed: bool,
}

#[derive(Debug, Default)]
struct Doubt {
    /// When it was asked last, and how often it was.
    asked: Option<Duration>,
    times: u32,
    /// Something contradicted since.
    again: bool,
    /// Something came since.
    answered: bool,
    /// Which have not answered.
    resources: Vec<Box<str>>,
}

impl Doubt {
    fn due(&self, patience: Duration) -> Duration {
        match self.asked {
            None => Duration::ZERO,
            Some(asked) if self.again => {
                asked + (PAUSE * (1 << (self.times - 1).min(8))).min(patience)
            }
            Some(asked) => asked + patience,
        }
    }
}

/// What is to be done about doubts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Contacts to be asked.
    pub(super) ask: Vec<ContactKey>,
    /// Resources that did not answer while others did; `None` for a contact that did not answer at all.
    pub(super) gone: Vec<(ContactKey, Option<Box<str>>)>,
}

/// The resource that is meant; `None` for all of a contact.
fn resource_of(heard: &Heard) -> Option<&str> {
    match heard {
        Heard::Available { resource, .. } => Some(resource),
        Heard::Unavailable(resource) => resource.as_deref(),
    }
}

/// Whether both say something of one resource.
fn meet(one: &Heard, other: &Heard) -> bool {
    let (one, other) = (resource_of(one), resource_of(other));
    one.is_none() || other.is_none() || one == other
}

fn contradict(one: &Heard, other: &Heard) -> bool {
    let both_gone = matches!((one, other), (Heard::Unavailable(_), Heard::Unavailable(_)));
    meet(one, other) && !both_gone && one != other
}

/// Puts `heard` in the place of what was heard of the same resource before.
fn replace(list: &mut Vec<(u64, Heard)>, number: u64, heard: Heard) {
    list.retain(|(_, old)| resource_of(old) != resource_of(&heard));
    if list.len() >= MAX_RESOURCES {
        list.remove(0);
    }
    list.push((number, heard));
}

impl Hearsay {
    /// This process heard a contact, and tells the others under the number that is returned.
    pub(super) fn tell(&mut self, key: &ContactKey, heard: &Heard) -> u64 {
        self.answered(key, heard);
        let earliest = self.beat.saturating_sub(RECENT);
        let recent = self.recent.get(key).into_iter().flatten();
        let against = recent.filter(|(beat, it)| *beat >= earliest && contradict(it, heard));
        for (_, other) in against.cloned().collect::<Vec<_>>() {
            self.doubt(key, heard, &other);
        }
        self.last += 1;
        replace(self.told.entry(key.clone()).or_default(), self.last, heard.clone());
        self.last
    }

    /// What was told under this number came back, or will not: the store has it, and whatever comes
    /// from now on is later. Says whether the contact is in doubt.
    pub(super) fn is_told(&mut self, key: &ContactKey, number: u64) -> bool {
        if let Some(told) = self.told.get_mut(key) {
            told.retain(|(last, _)| *last > number);
            if told.is_empty() {
                self.told.remove(key);
            }
        }
        self.doubts.contains_key(key)
    }

    /// Another process heard a contact. Returns what this one told of the same, which the store has
    /// after that: in this order both are to be applied. The flag says that the contact is in doubt now.
    pub(super) fn hear(&mut self, key: &ContactKey, heard: &Heard) -> (Vec<Heard>, bool) {
        let told = self.told.get(key).into_iter().flatten();
        let later: Vec<_> =
            told.filter(|(_, own)| meet(own, heard)).map(|(_, own)| own.clone()).collect();
        if later.is_empty() {
            self.answered(key, heard);
        }
        let mut doubted = false;
        for own in later.iter().filter(|own| contradict(own, heard)) {
            self.doubt(key, own, heard);
            doubted = true;
        }
        if self.recent.len() < CONTACTS || self.recent.contains_key(key) {
            let recent = self.recent.entry(key.clone()).or_default();
            replace(recent, self.beat, heard.clone());
        }
        (later, doubted)
    }

    /// What comes after a question is the answer, unless it is contradicted.
    fn answered(&mut self, key: &ContactKey, heard: &Heard) {
        if let Some(doubt) = self.doubts.get_mut(key).filter(|doubt| doubt.asked.is_some()) {
            let about = resource_of(heard);
            doubt.answered = true;
            doubt.resources.retain(|resource| about.is_some_and(|about| about != &**resource));
        }
    }

    fn has_room(&self, key: &ContactKey) -> bool {
        self.doubts.len() < DOUBTS || self.doubts.contains_key(key)
    }

    fn doubt(&mut self, key: &ContactKey, one: &Heard, other: &Heard) {
        if self.up.is_none() || !self.has_room(key) {
            return;
        }
        let doubt = self.doubts.entry(key.clone()).or_default();
        doubt.again = true;
        for resource in [one, other].into_iter().filter_map(resource_of) {
            let is_new = !doubt.resources.iter().any(|known| **known == *resource);
            if is_new && doubt.resources.len() < MAX_RESOURCES {
                doubt.resources.push(resource.into());
            }
        }
    }

    /// When [`Hearsay::take_due`] has something.
    pub(super) fn poll_timeout(&self, patience: Duration) -> Option<Duration> {
        // The store would have the answer before what is still on its way there.
        let due = self.doubts.iter().filter(|(key, _)| !self.told.contains_key(key));
        due.map(|(_, doubt)| doubt.due(patience)).min()
    }

    /// Up to `room` contacts that are to be asked now, of those that `may_be_asked`, and whoever did not
    /// answer for `patience`.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        room: usize,
        patience: Duration,
        may_be_asked: impl Fn(&ContactKey) -> bool,
    ) -> Due {
        let mut due = Due::default();
        self.doubts.retain(|key, doubt| {
            if doubt.due(patience) > now || self.told.contains_key(key) {
                return true;
            }
            if doubt.again {
                if !may_be_asked(key) {
                    return false;
                }
                if due.ask.len() < room {
                    due.ask.push(key.clone());
                    (doubt.asked, doubt.again, doubt.answered) = (Some(now), false, false);
                    doubt.times += 1;
                }
                return true;
            }
            let is_silent = !doubt.answered && !doubt.resources.is_empty();
            due.gone.extend(is_silent.then(|| (key.clone(), None)));
            let silent = doubt.resources.drain(..).filter(|_| !is_silent);
            due.gone.extend(silent.map(|resource| (key.clone(), Some(resource))));
            false
        });
        due
    }

    /// Whether there is a stream. Without one, and with a new one, nothing is in doubt more than
    /// everything is.
    pub(super) fn set_up(&mut self, up: bool) {
        self.up = up.then_some(self.beat);
        self.doubts.clear();
        self.greet.clear();
        self.overflowed = false;
    }

    /// Another process changed the subscriptions with a contact. Says whether there is something to be told
    /// or asked: not without a stream, since all are told and asked when there is one.
    pub(super) fn learn(
        &mut self,
        key: &ContactKey,
        before: Subscription,
        after: Subscription,
    ) -> bool {
        if self.up.is_none() {
            return false;
        }
        let greets = after.contact_is_subscribed() && !before.contact_is_subscribed();
        if greets {
            self.greet.push(key.clone());
        }
        let asks = after.app_is_subscribed() && !before.app_is_subscribed();
        asks && self.is_changed(key, true) || greets
    }

    /// Up to `room` contacts that are to be told.
    pub(super) fn take_greeted(&mut self, room: usize) -> Vec<ContactKey> {
        let count = room.min(self.greet.len());
        self.greet.drain(..count).collect()
    }

    /// Whether somebody is to be told.
    pub(super) fn greets(&self) -> bool {
        !self.greet.is_empty()
    }

    /// More contacts are in doubt than are remembered: all are to be asked.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// All contacts will be asked.
    pub(super) fn all_asked(&mut self) {
        self.overflowed = false;
    }

    /// What another process heard changed what was known of a contact to which the app is subscribed. Says
    /// whether that is in doubt now: it is if the other one has no stream, or took the contact as gone.
    pub(super) fn is_changed(&mut self, key: &ContactKey, is_gone: bool) -> bool {
        let Some(since) = self.up else { return false };
        let doubted = is_gone || self.others == 0 || self.beat < since + UNKNOWN;
        if doubted {
            self.overflowed |= !self.has_room(key);
            // A contact that does not answer is what the other one says.
            self.doubt(key, &Heard::Unavailable(None), &Heard::Unavailable(None));
        }
        doubted
    }

    /// The store beats, and says how many others have a stream: what they heard grows old.
    pub(super) fn beat(&mut self, others: usize) {
        self.others = others;
        self.beat += 1;
        let earliest = self.beat.saturating_sub(RECENT);
        self.recent.retain(|_, heard| {
            heard.retain(|(beat, _)| *beat >= earliest);
            !heard.is_empty()
        });
    }

    /// What was told, and what others told, may have been missed.
    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests;
