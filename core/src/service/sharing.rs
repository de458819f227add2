//! One app in several processes, on a store that they share.
//!
//! What one process hears of a contact, the others take as if they had heard it: all books say the
//! same, and none is asked for another's. What waits is one process's, and another's when that one is
//! gone.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::address::Addresses;
use super::hearsay::Hearsay;
use super::presence::{PresenceBook, Reconciled};
use super::quota::Meters;
use super::roster::Subscription;
use super::route::Delivery;
use super::{Service, Waiting};
use crate::error::Result;
use crate::store::{
    Change, ContactKey, Count, Fellows, Heard, InboxRow, Listener, Member, News, OutboxRow,
    QueueName, Shared, Store,
};

/// This process among those that serve the app.
#[derive(Debug)]
pub(super) struct Sharing {
    pub(super) member: Member,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whose rows are to be taken over.
    left: Mutex<Vec<QueueName>>,
    /// How many other processes have a stream.
    others: AtomicUsize,
    /// How often the store said so.
    beats: AtomicU64,
    evicted: AtomicBool,
    /// What the store did not forget of deliveries, though others wait for it.
    unsettled: Mutex<Vec<Change>>,
    /// Locked before the book, where both are.
    hearsay: Mutex<Hearsay>,
    /// Wakes the driver.
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("left", &self.left).field("others", &self.others).finish()
    }
}

impl State {
    fn left(&self) -> MutexGuard<'_, Vec<QueueName>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<Change>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hearsay(&self) -> MutexGuard<'_, Hearsay> {
        self.hearsay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, key: &ContactKey, before: Subscription, after: Subscription) {
        if self.hearsay().learn(key, before, after) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }
}

impl Sharing {
    /// Joins those who serve the app; from now on the book and the meters follow the others'.
    pub(super) fn join(
        shared: &dyn Shared,
        addresses: &Addresses,
        book: &Arc<Mutex<PresenceBook>>,
        meters: &Arc<Meters>,
    ) -> Result<Self> {
        let state = Arc::new(State::default());
        let ear = Ear {
            addresses: addresses.clone(),
            book: Arc::clone(book),
            meters: Arc::clone(meters),
            state: Arc::clone(&state),
        };
        let member = shared.join(addresses.store_key(), Box::new(ear))?;
        Ok(Self { member, state })
    }

    pub(super) fn others(&self) -> usize {
        self.state.others.load(Ordering::Relaxed)
    }

    pub(super) fn hearsay(&self) -> MutexGuard<'_, Hearsay> {
        self.state.hearsay()
    }

    /// Another process changed the subscriptions with a contact, as this one learns now. One that is
    /// subscribed is told the app's presence, and one that the app is subscribed to is asked for its: what
    /// the other process said and heard may be past, and this one did not tell or ask it when its stream
    /// came up.
    pub(super) fn learn(&self, key: &ContactKey, before: Subscription, after: Subscription) {
        self.state.learn(key, before, after);
    }

    /// Applies a change, soon, that others wait for: after a fault again.
    pub(super) fn settle(&self, store: &dyn Store, change: Change) {
        let (state, again) = (Arc::clone(&self.state), change.clone());
        let done = move |stored: Result<()>| {
            if let Err(error) = stored {
                tracing::error!("a delivery is settled later: {error}");
                state.unsettled().push(again);
            }
        };
        store.submit(vec![change], Box::new(done));
    }

    fn settle_again(&self, store: &dyn Store) {
        let unsettled = std::mem::take(&mut *self.state.unsettled());
        unsettled.into_iter().for_each(|change| self.settle(store, change));
    }
}

/// What the store tells this process.
struct Ear {
    addresses: Addresses,
    book: Arc<Mutex<PresenceBook>>,
    meters: Arc<Meters>,
    state: Arc<State>,
}

impl Ear {
    fn book(&self) -> MutexGuard<'_, PresenceBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, key: &ContactKey, heard: &Heard) {
        let mut hearsay = self.state.hearsay();
        let (later, mut doubted) = hearsay.hear(key, heard);
        let mut book = self.book();
        let changed = set(&mut book, &key.own, &key.contact, heard);
        for own in &later {
            set(&mut book, &key.own, &key.contact, own);
        }
        let is_subscribed = book.subscription(&key.own, &key.contact).app_is_subscribed();
        drop(book);
        if changed && later.is_empty() && is_subscribed {
            doubted |= hearsay.is_changed(key, *heard == Heard::Unavailable(None));
        }
        drop(hearsay);
        if doubted {
            self.state.wake();
        }
    }

    /// One store may serve several apps.
    fn is_ours(&self, key: &ContactKey) -> bool {
        !self.addresses.is_account() && self.addresses.is_own_domain(domain_of(&key.own))
    }
}

fn set(book: &mut PresenceBook, own: &str, contact: &str, heard: &Heard) -> bool {
    match heard {
        Heard::Available { resource, priority, show } => {
            book.set_available(own, contact, resource, *priority, *show)
        }
        Heard::Unavailable(resource) => book.set_unavailable(own, contact, resource.as_deref()),
    }
}

pub(super) fn domain_of(own: &str) -> &str {
    own.split_once('@').map_or(own, |(_, domain)| domain)
}

impl Listener for Ear {
    fn take(&self, news: News) {
        match news {
            News::Heard(key, heard) if self.is_ours(&key) => self.hear(&key, &heard),
            News::Told(key, number) => {
                if self.state.hearsay().is_told(&key, number) {
                    self.state.wake();
                }
            }
            News::Contact(key, state) if self.is_ours(&key) => {
                let mut book = self.book();
                let before = book.subscription(&key.own, &key.contact);
                book.set_subscription(&key.own, &key.contact, state.subscription);
                let told = state.told.map(|told| *told).unwrap_or_default();
                book.set_told(&key.own, &key.contact, told);
                drop(book);
                self.state.learn(&key, before, state.subscription);
            }
            News::Heard(..) | News::Contact(..) => {}
            News::Contacts(contacts) => {
                let ours = contacts.into_iter().filter(|(key, _)| self.is_ours(key));
                let mut hearsay = self.state.hearsay();
                hearsay.forget();
                let Reconciled { changed, learned } = self.book().reconcile(ours);
                // What is kept may be older than what was heard here.
                for key in changed {
                    hearsay.is_changed(&key, false);
                }
                drop(hearsay);
                for (key, before, after) in learned {
                    self.state.learn(&key, before, after);
                }
            }
            News::Others(others) => {
                let before = self.state.others.swap(others, Ordering::Relaxed);
                self.state.beats.fetch_add(1, Ordering::Relaxed);
                self.state.hearsay().beat(others);
                if before != others || !self.state.unsettled().is_empty() {
                    self.state.wake();
                }
            }
            News::Left(queue) => {
                let mut left = self.state.left();
                if !left.contains(&queue) {
                    left.push(queue);
                }
                drop(left);
                self.state.wake();
            }
            News::Counts(counts) => self.meters.settle(&counts),
            News::Holds(_) => self.state.wake(),
            News::Evicted => {
                self.state.evicted.store(true, Ordering::Release);
                self.state.wake();
            }
        }
    }

    fn counts(&self) -> Vec<Count> {
        self.meters.unreported()
    }
}

/// What a process that is gone left to be done.
#[derive(Debug)]
pub struct Legacy {
    /// Messages, to be sent under numbers of this process's own.
    pub messages: Vec<OutboxRow>,
    /// Deliveries, with the ids they had.
    pub deliveries: Vec<Delivery>,
    /// What makes all of it this process's; to be stored with the messages.
    pub changes: Vec<Change>,
}

impl Service {
    /// Has `wake` called, on any thread, when [`Service::next_legacy`], [`Service::holds`],
    /// [`Service::poll_timeout`] or [`Service::is_evicted`] may have news.
    pub fn on_news(&self, wake: impl Fn() + Send + Sync + 'static) {
        if let Some(sharing) = &self.sharing {
            let mut place = sharing.state.wake.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(Box::new(wake));
            drop(place);
            // What was told before anybody asked.
            sharing.state.wake();
        }
    }

    /// What a process that is gone left; `None` if there is no such process. What is not stored as ours
    /// comes again. Deliveries of our own that the store did not forget are settled first.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if it cannot be read; it comes again.
    pub fn next_legacy(&self) -> Result<Option<Legacy>> {
        let Some(sharing) = &self.sharing else { return Ok(None) };
        sharing.settle_again(&*self.store);
        // Who came later took over from who came before.
        let queue = {
            let mut left = sharing.state.left();
            if left.is_empty() {
                return Ok(None);
            }
            left.remove(0)
        };
        let mut waiting = Waiting::load(&*self.store, &queue)?;
        let (outbox, inbox) =
            (std::mem::take(&mut waiting.outbox), std::mem::take(&mut waiting.inbox));
        let outbox_done = waiting.outbox_done;
        let messages =
            outbox.into_iter().filter_map(|row| row.after(outbox_done)).collect::<Vec<_>>();
        let last = messages.iter().map(OutboxRow::last).chain([outbox_done]).max();
        let done =
            last.filter(|last| *last > 0).map(|last| Change::OutboxDone(queue.clone(), last));
        let inherit = Change::Inherit(self.queue.clone(), queue);
        let changes = done.into_iter().chain([inherit]).collect();
        let restored = |row: InboxRow| {
            let place = waiting.place(row.id);
            self.restored(row, place)
        };
        let deliveries: Vec<_> = inbox.into_iter().filter_map(restored).collect();
        Ok(Some(Legacy { messages, deliveries, changes }))
    }

    /// What makes messages that [are handed over](super::Outbox::hand_over) another process's. What was
    /// before them is done, even where the store did not take that.
    pub fn bequeath(&self, numbers: &RangeInclusive<u64>) -> Vec<Change> {
        let (first, last) = (*numbers.start(), *numbers.end());
        let bequeath = Change::Bequeath(self.queue.clone(), first, last);
        vec![bequeath, Change::OutboxDone(self.queue.clone(), last)]
    }

    /// The other processes that serve this app, and those that did so and were not taken over from.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if they cannot be read.
    pub fn fellows(&self) -> Result<Fellows> {
        match (&self.sharing, self.store.shared()) {
            (Some(sharing), Some(shared)) => {
                shared.fellows(self.addresses.store_key(), &sharing.member)
            }
            _ => Ok(Fellows::new()),
        }
    }

    /// Whether this process may deliver and send now: not while it is so long out of reach of a shared
    /// store that others may do it in its place.
    pub fn holds(&self) -> bool {
        match (&self.sharing, self.store.shared()) {
            (Some(sharing), Some(shared)) => shared.holds(&sharing.member),
            _ => true,
        }
    }

    /// Whether others have taken over what waited for this process: it has nothing left to do, and has
    /// to be opened again.
    pub fn is_evicted(&self) -> bool {
        self.sharing.as_ref().is_some_and(|it| it.state.evicted.load(Ordering::Acquire))
    }

    /// Whether several processes may serve this app.
    pub fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// Puts what was heard of a contact into the book, and tells the other processes. Returns whether
    /// that changed the contact's presence as a whole.
    pub(super) fn hear(&self, own: &str, contact: &str, heard: Heard) -> bool {
        let shared = self.sharing.as_ref().zip(self.store.shared());
        let Some((sharing, shared)) = shared else {
            return set(&mut self.book(), own, contact, &heard);
        };
        let key = ContactKey { own: own.into(), contact: contact.into() };
        let number = sharing.hearsay().tell(&key, &heard);
        let changed = set(&mut self.book(), own, contact, &heard);
        if !shared.tell(&sharing.member, &key, &heard, number) {
            sharing.hearsay().is_told(&key, number);
        }
        changed
    }

    /// Asks contacts of whom processes heard different things at once; up to `room` of them.
    pub(super) fn ask_again(&self, now: Duration, room: usize, patience: Duration) -> Vec<Bytes> {
        let Some(sharing) = &self.sharing else { return Vec::new() };
        let is_subscribed =
            |key: &ContactKey| self.book().subscription(&key.own, &key.contact).app_is_subscribed();
        let due = sharing.hearsay().take_due(now, room, patience, is_subscribed);
        for (ContactKey { own, contact }, resource) in due.gone {
            if self.hear(&own, &contact, Heard::Unavailable(resource)) {
                self.keep_presence(&own, &contact);
            }
        }
        let probe = |key: ContactKey| self.bare_presence(&key.own, &key.contact, "probe");
        due.ask.into_iter().map(probe).collect()
    }

    /// Tells contacts that another process granted a subscription what the app's presence is.
    pub(super) fn greet(&self, room: usize) -> Vec<Bytes> {
        let Some(sharing) = &self.sharing else { return Vec::new() };
        let greeted = sharing.hearsay().take_greeted(room);
        let book = self.book();
        let greeting = |ContactKey { own, contact }: ContactKey| {
            let entry = book.get(&own, &contact)?;
            let is_subscribed = entry.subscription.contact_is_subscribed();
            is_subscribed.then(|| self.own_presence(&own, &contact, entry.told))
        };
        greeted.into_iter().filter_map(greeting).collect()
    }

    pub(super) fn set_up(&self, up: bool) {
        if let (Some(sharing), Some(shared)) = (&self.sharing, self.store.shared()) {
            shared.set_up(&sharing.member, up);
            sharing.hearsay().set_up(up);
        }
    }

    /// How many other processes have a stream for this app.
    pub fn others(&self) -> usize {
        self.sharing.as_ref().map_or(0, Sharing::others)
    }

    pub(super) fn beats(&self) -> u64 {
        self.sharing.as_ref().map_or(0, |sharing| sharing.state.beats.load(Ordering::Relaxed))
    }
}
