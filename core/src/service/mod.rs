//! App Engine's chat service: the rules of `google.appengine.api.xmpp`, on any XMPP server.
//!
//! A [`Service`] has no clock and no socket. A driver asks it for stanzas to write when the app
//! calls, gives it the stanzas that arrive, and tells it the time:
//!
//! | when | call | then |
//! |---|---|---|
//! | the app sends | [`Service::send_message`], [`Service::send_presence`], [`Service::send_invite`] | write what it returns |
//! | the app asks | [`Service::get_presence`] | hand it on |
//! | a stanza arrives | [`Service::handle_stanza`] | write `sends`, then deliver `delivery` |
//! | the stream is up | [`Service::handle_ready`]; for an account [`Service::handle_session`] | call [`Service::handle_timeout`] at once |
//! | an account's server tells of its roster | [`Service::handle_roster`] | |
//! | [`Service::poll_timeout`] has come, and the outgoing queue has room | [`Service::handle_timeout`] | write what it returns |
//! | the stream is about to be closed politely | [`Service::handle_closing`] | call [`Service::handle_timeout`] until [`Service::poll_timeout`] is `None` |

mod account;
pub mod address;
mod answer;
mod bequest;
pub mod gate;
mod hearsay;
mod inbound;
pub mod inbox;
pub mod lanes;
pub mod limits;
pub mod outbox;
pub mod presence;
pub mod quota;
pub mod roster;
mod rounds;
pub mod route;
pub mod send;
mod sharing;
mod suspense;
pub mod turns;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::stanza::Form;
use crate::store::{
    Change, ContactKey, Count, Done, Durability, InboxRow, OutboxRow, QueueName, Row, Store,
};

use address::Addresses;
use limits::Counters;
use presence::PresenceBook;
use quota::Meters;
use roster::Subscription;
use rounds::Rounds;
use sharing::{Sharing, domain_of};

pub use bequest::Bequest;
pub use gate::{Gate, Way};
pub use inbound::Inbound;
pub use inbox::{Attempt, Inbox, Retry, Verdict};
pub use lanes::{LaneLimits, Lanes, Ticket};
pub use limits::{ServiceLimits, Stats};
pub use outbox::{Outbox, OutboxLimits, OutboxStats};
pub use presence::Show;
pub use quota::{Charge, Quotas, Resource, Usage};
pub use rounds::Pace;
pub use route::{Delivery, DropReason, InboundService, InboundServices};
pub use send::{MessageCall, Outgoing, PresenceCall, Sending, Status};
pub use sharing::Legacy;
pub use suspense::Suspense;
pub use turns::Turns;

/// The settings of a [`Service`].
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The app's addresses.
    pub addresses: Addresses,
    /// Which kinds of stanza the app wants to see (`inbound_services` of `app.yaml`).
    pub inbound: InboundServices,
    /// Sizes.
    pub limits: ServiceLimits,
    /// How the `stanza` field is written.
    pub form: Form,
    /// Whether messages without a body (chat states, receipts) are delivered, without a `body`
    /// field. App Engine's apps never saw any.
    pub bodiless_messages: bool,
    /// What ids of stanzas begin with; to be chosen at random by the driver, so that ids of two
    /// runs differ.
    pub id_prefix: String,
    /// How fast presence and probes are sent after connecting.
    pub pace: Pace,
    /// What the app may use in a day.
    pub quotas: Quotas,
}

impl ServiceConfig {
    /// The defaults, for the app `app_id` at the component's `domain`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as in [`Addresses::new`].
    pub fn new(app_id: &str, domain: &str) -> Result<Self> {
        Ok(Self::at(Addresses::new(app_id, domain)?))
    }

    /// The defaults, for the app at these addresses.
    pub fn at(addresses: Addresses) -> Self {
        Self {
            addresses,
            inbound: InboundServices::ALL,
            limits: ServiceLimits::default(),
            form: Form::default(),
            bodiless_messages: false,
            id_prefix: String::new(),
            pace: Pace::default(),
            quotas: Quotas::default(),
        }
    }
}

/// A contact's presence as `get_presence` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceAnswer {
    /// Whether the contact is available.
    pub available: bool,
    /// With which show; `None` where nothing is known.
    pub show: Option<Show>,
    /// Whether what was asked for is an address at all.
    pub valid: bool,
}

/// App Engine's chat service for one app.
#[derive(Debug)]
pub struct Service {
    addresses: Addresses,
    inbound: InboundServices,
    limits: ServiceLimits,
    form: Form,
    bodiless_messages: bool,
    ids: Ids,
    deliveries: AtomicU64,
    counters: Counters,
    meters: Arc<Meters>,
    book: Arc<Mutex<PresenceBook>>,
    /// Held while a subscription is read, changed and written; never taken for a message.
    changing: Mutex<()>,
    /// Held while dead letters are read and taken back.
    replaying: Mutex<()>,
    rounds: Mutex<Rounds>,
    queue: QueueName,
    waiting: Mutex<Waiting>,
    /// With a store that several processes share.
    sharing: Option<Sharing>,
    store: Box<dyn Store>,
}

/// What the store kept for this app from the time before.
#[derive(Debug, Default)]
struct Waiting {
    outbox: Vec<OutboxRow>,
    outbox_done: u64,
    inbox: Vec<InboxRow>,
    turns: HashMap<u64, u64>,
    counts: Vec<Count>,
}

impl Waiting {
    fn load(store: &dyn Store, queue: &str) -> Result<Self> {
        let mut waiting = Self::default();
        store.load_queue(queue, &mut |row| match row {
            Row::Outbox(row) => waiting.outbox.push(row),
            Row::OutboxDone(up_to) => waiting.outbox_done = up_to,
            Row::Inbox(row) => waiting.inbox.push(row),
            Row::Turn(id, turn) => drop(waiting.turns.insert(id, turn)),
            Row::Count(count) => waiting.counts.push(count),
        })?;
        Ok(waiting)
    }
}

impl Service {
    /// The service of one app, with the contacts that `store` kept.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if they cannot be read; [`ErrorKind::Config`] for an `id_prefix` that
    /// is not of letters, digits and hyphens.
    pub fn new(config: ServiceConfig, store: Box<dyn Store>) -> Result<Self> {
        if !config.id_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let text = format!(
                "the id prefix {:?} may hold letters, digits and hyphens only",
                config.id_prefix
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let book = Arc::new(Mutex::new(PresenceBook::new(config.limits.strangers)));
        let meters = Arc::new(Meters::new(config.quotas));
        let addresses = &config.addresses;
        // Before anything is read, so that no change is missed.
        let joined = store.shared().map(|it| Sharing::join(it, addresses, &book, &meters));
        let sharing = joined.transpose()?;
        store.load(&mut |key, state| {
            // One store may serve several apps, and of an account's contacts its server knows.
            if !addresses.is_account() && addresses.is_own_domain(domain_of(&key.own)) {
                book.lock().unwrap_or_else(PoisonError::into_inner).restore(&key, state);
            }
        })?;
        let queue = match &sharing {
            Some(sharing) => sharing.member.queue.clone(),
            None => QueueName::from(addresses.store_key()),
        };
        let waiting = Waiting::load(&*store, &queue)?;
        meters.restore(&waiting.counts);
        Ok(Self {
            addresses: config.addresses,
            inbound: config.inbound,
            limits: config.limits,
            form: config.form,
            bodiless_messages: config.bodiless_messages,
            ids: Ids { prefix: config.id_prefix, next: AtomicU64::new(0) },
            deliveries: AtomicU64::new(0),
            counters: Counters::default(),
            meters,
            book,
            changing: Mutex::new(()),
            replaying: Mutex::new(()),
            rounds: Mutex::new(Rounds::new(config.pace)),
            queue,
            waiting: Mutex::new(waiting),
            sharing,
            store,
        })
    }

    /// The app's addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the service has done so far.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// How many contacts are known.
    pub fn contacts(&self) -> usize {
        self.book().len()
    }

    /// The presence of contacts as the address `from` sees it, in the order asked. Of an address
    /// with a resourcepart the contact as a whole is meant: that is whom a message would reach.
    ///
    /// # Errors
    /// The sender, as in [`Service::send_message`]; [`ErrorKind::InvalidJid`] if nobody is asked for;
    /// [`ErrorKind::OverQuota`].
    pub fn get_presence(&self, jids: &[&str], from: Option<&str>) -> Result<Vec<PresenceAnswer>> {
        self.counters.api_calls.add(1);
        if jids.is_empty() {
            let text = "nobody's presence is asked for; give addresses like user@example.com";
            return Err(Error::new(ErrorKind::InvalidJid, text));
        }
        let from = self.addresses.sender(from)?;
        self.meters.take(&[(Resource::ApiCalls, 1)])?;
        let contacts: Vec<_> = jids.iter().map(|jid| self.addresses.recipient(jid).ok()).collect();
        let book = self.book();
        let answer = |contact: &Option<crate::Jid>| {
            let show = contact.as_ref().and_then(|jid| book.available(from.bare(), jid.bare()));
            PresenceAnswer { available: show.is_some(), show, valid: contact.is_some() }
        };
        Ok(contacts.iter().map(answer).collect())
    }

    /// Waits until all that the service has changed is in the store; for a polite end.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if something was not written.
    pub fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    fn book(&self) -> MutexGuard<'_, PresenceBook> {
        // Each change of the book is whole or not begun, so a panic elsewhere leaves it usable.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the subscriptions with a contact to what `change` makes of them, in the store first.
    /// Returns what `change` returned. Where it `must_survive`, because the contact is told, nothing
    /// changes if the store does not take it.
    fn change_subscription<T>(
        &self,
        own: &str,
        contact: &str,
        must_survive: bool,
        change: impl Fn(Subscription) -> (Subscription, T),
    ) -> Result<T> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let key = ContactKey { own: own.into(), contact: contact.into() };
        let mut before = self.book().subscription(own, contact);
        loop {
            let (after, said) = change(before);
            // What a stranger was told is not in the store yet.
            let told = (before == Subscription::None && before != after)
                .then(|| self.book().get(own, contact).and_then(|entry| entry.told.cloned()))
                .flatten()
                .map(|told| Change::Told(key.clone(), Some(Box::new(told))));
            let had = match self.store.shared() {
                // Another process may have changed it at this moment.
                Some(shared) => match self.noted(shared.exchange(&key, before, after)) {
                    Err(error) if must_survive => return Err(error),
                    had => had.unwrap_or(before),
                },
                None => before,
            };
            if had != before {
                if let Some(sharing) = &self.sharing {
                    sharing.learn(&key, before, had);
                }
                before = had;
                continue;
            }
            let changed = self.sharing.is_none() && before != after;
            let changes = changed.then(|| Change::Subscription(key, after));
            let changes: Vec<_> = changes.into_iter().chain(told).collect();
            if !changes.is_empty() {
                let kept = self.keep(changes, Durability::Now);
                if must_survive {
                    kept?;
                }
            }
            if before != after {
                self.book().set_subscription(own, contact, after);
            }
            return Ok(said);
        }
    }

    /// The messages that waited when the service was made, and up to which number they are done: once,
    /// for [`Outbox::restore`].
    pub fn take_outbox(&self) -> (Vec<OutboxRow>, u64) {
        let mut waiting = self.waiting();
        (std::mem::take(&mut waiting.outbox), waiting.outbox_done)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose rows in the store are this app's.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Applies changes and has `done` called when they are on disk.
    pub fn submit(&self, changes: Vec<Change>, done: Done) {
        self.store.submit(changes, done);
    }

    /// Applies changes; a fault is logged and counted as well.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: they were not applied.
    pub fn keep(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        self.noted(self.store.apply(changes, durability))
    }

    /// Counts and logs a fault of the store.
    fn noted<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| {
            self.counters.store_errors.add(1);
            tracing::error!("{error}");
        })
    }
}

/// Unique ids for stanzas.
#[derive(Debug)]
struct Ids {
    prefix: String,
    next: AtomicU64,
}

impl Ids {
    fn write_next(&self, out: &mut String) {
        out.push_str(&self.prefix);
        // Writing into a string does not fail.
        let _ = write!(out, "{:x}", self.next.fetch_add(1, Ordering::Relaxed));
    }

    fn next(&self) -> String {
        let mut id = String::with_capacity(self.prefix.len() + 16);
        self.write_next(&mut id);
        id
    }
}

/// App Engine's `XmppServiceError`: what a face that speaks its protocol answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // The names are App Engine's.
pub enum ServiceError {
    UnspecifiedError = 1,
    InvalidJid = 2,
    NoBody = 3,
    InvalidXml = 4,
    InvalidType = 5,
    InvalidShow = 6,
    ExceededMaxSize = 7,
    AppidAliasRequired = 8,
    NondefaultModule = 9,
}

impl From<ErrorKind> for ServiceError {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidJid | ErrorKind::InvalidSender => Self::InvalidJid,
            ErrorKind::NoBody => Self::NoBody,
            ErrorKind::InvalidXml => Self::InvalidXml,
            ErrorKind::InvalidType => Self::InvalidType,
            ErrorKind::InvalidShow => Self::InvalidShow,
            ErrorKind::TooLarge => Self::ExceededMaxSize,
            _ => Self::UnspecifiedError,
        }
    }
}

#[cfg(test)]
mod tests;
