//! What survives a restart, behind one small trait.
//!
//! A store keeps rows and knows no rule: what a subscription or a presence means is decided in
//! [`crate::service`]. The service reads everything once at the start and writes changes after
//! that, so no call of an app ever waits for a read.

#[cfg(test)]
pub(crate) mod contract;
mod memory;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod packed;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;
use std::time::Duration;

use crate::error::Result;
use crate::service::presence::{OwnPresence, Show};
use crate::service::roster::Subscription;

pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(all(test, feature = "postgres"))]
pub(crate) use postgres::tests as postgres_tests;
pub use rows::{Count, DeadLetter, InboxRow, OutboxRow, QueueName, Row};
pub use shared::{
    BEAT, Behind, Fellow, Fellows, Heard, Listener, Member, News, Place, Placed, Placing, Shared,
    Turn, may_act, takes_over,
};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// Opens the store at `place`: a `postgresql://` URL or, whatever else it is, the path of an SQLite file.
///
/// # Errors
/// [`ErrorKind::Store`](crate::ErrorKind::Store) and [`ErrorKind::Config`](crate::ErrorKind::Config) as the stores themselves; the latter also for a
/// store that this program was built without.
pub fn open(place: &str) -> Result<Box<dyn Store>> {
    if place.starts_with("postgresql://") || place.starts_with("postgres://") {
        #[cfg(feature = "postgres")]
        return Ok(Box::new(PostgresStore::open(place)?));
        #[cfg(not(feature = "postgres"))]
        return Err(left_out("a PostgreSQL database", "postgres"));
    }
    #[cfg(feature = "sqlite")]
    return Ok(Box::new(SqliteStore::open(place)?));
    #[cfg(not(feature = "sqlite"))]
    return Err(left_out(&format!("the file {place}"), "sqlite"));
}

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
fn left_out(what: &str, feature: &str) -> crate::Error {
    let text = format!(
        "{what} cannot be used as the state store: this program was built without the feature {feature}; build it with that, or keep the state elsewhere"
    );
    crate::Error::new(crate::ErrorKind::Config, text)
}

/// One of the app's addresses and one contact, both bare and prepared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactKey {
    /// The app's address.
    pub own: Box<str>,
    /// The other party's.
    pub contact: Box<str>,
}

/// What is kept of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContactState {
    /// The subscriptions between the two.
    pub subscription: Subscription,
    /// The contact's last known presence: available with this show, or not.
    pub available: Option<Show>,
    /// What the app last told the contact of itself; `None` is "available".
    pub told: Option<Box<OwnPresence>>,
}

/// One change. Applying it a second time changes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The subscriptions with a contact are now these. Of a contact with none nothing is kept.
    Subscription(ContactKey, Subscription),
    /// The presence of a contact is now this. It is kept for contacts with a subscription only.
    Presence(ContactKey, Option<Show>),
    /// The app told a contact this of itself. It is kept for contacts with a subscription only.
    Told(ContactKey, Option<Box<OwnPresence>>),
    /// These stanzas wait to be sent.
    OutboxPut(QueueName, OutboxRow),
    /// Every stanza up to this number has been sent, or is given up.
    OutboxDone(QueueName, u64),
    /// This stanza waits to be delivered.
    InboxPut(QueueName, InboxRow),
    /// The delivery with this id is done.
    InboxDone(QueueName, u64),
    /// The delivery with this id is given up, at this time since the Unix epoch, for this reason.
    Bury(QueueName, u64, Duration, Box<str>),
    /// The dead letter with this id waits to be delivered again.
    Replay(QueueName, u64),
    /// The dead letter with this id is forgotten.
    Purge(QueueName, u64),
    /// The process of the second queue is gone: its deliveries wait in the first, and nothing waits in
    /// the second. Its messages must be put into the first, and be done in the second, with the same
    /// call.
    Inherit(QueueName, QueueName),
    /// The messages with these numbers wait as those of a process that is gone: another one is to take them
    /// over. Only a [shared](Store::shared) store has others; twice is the same as once.
    Bequeath(QueueName, u64, u64),
    /// This number is now so large.
    Count(QueueName, Count),
}

/// What is called when changes are written, or are known not to be. It must not block: other calls
/// wait behind it.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// When a change counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Soon: the call does not wait, and a fault shows at the next [`Store::sync`].
    Soon,
    /// Before the call returns: it survives a crash of the process and of the machine.
    Now,
}

/// Keeps contacts, and what waits to be sent or delivered. Changes are applied in the order of the
/// calls.
///
/// Every fault is an [`ErrorKind::Store`](crate::ErrorKind::Store) whose text names the store and
/// what to do. After a fault a store goes on trying: what fails is the change, not the store.
pub trait Store: Send + Sync + Debug {
    /// Hands over every contact, in no order, with all changes applied so far.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()>;

    /// Applies `changes`, all or none.
    ///
    /// # Errors
    /// They were not applied; with [`Durability::Soon`], only if that is already known.
    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()>;

    /// Applies `changes`, all or none, and calls `done` when they are written as with
    /// [`Durability::Now`], on any thread. Many such calls share one flush of the disk.
    fn submit(&self, changes: Vec<Change>, done: Done) {
        done(self.apply(changes, Durability::Now));
    }

    /// Hands over the rows of a queue, with all changes applied so far: those of the outbox and those
    /// of the inbox each in the order of their numbers. Messages that follow each other may come as
    /// one row, those of which some are done with the others of their row.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()>;

    /// Hands over the dead letters of a queue, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()>;

    /// Waits until all changes applied so far are written.
    ///
    /// # Errors
    /// The first fault since the last call that no caller has been told of.
    fn sync(&self) -> Result<()>;

    /// What several processes with this store need; `None` if it is one process's.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
}
