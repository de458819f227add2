//! What survives a restart, behind one small trait.
//!
//! A store keeps rows and knows no rule: what a subscription or a presence means is decided in
//! [`crate::service`]. The service reads everything once at the start and writes changes after
//! that, so no call of an app ever waits for a read.

#[cfg(test)]
pub(crate) mod contract;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;

use crate::error::Result;
use crate::service::presence::Show;
use crate::service::roster::Subscription;

pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// One of the app's addresses and one contact, both bare and prepared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactKey {
    /// The app's address.
    pub own: Box<str>,
    /// The other party's.
    pub contact: Box<str>,
}

/// What is kept of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContactState {
    /// The subscriptions between the two.
    pub subscription: Subscription,
    /// The contact's last known presence: available with this show, or not.
    pub available: Option<Show>,
}

/// One change. Applying it a second time changes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The subscriptions with a contact are now these. Of a contact with none nothing is kept.
    Subscription(ContactKey, Subscription),
    /// The presence of a contact is now this. It is kept for contacts with a subscription only.
    Presence(ContactKey, Option<Show>),
}

/// When a change counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Soon: the call does not wait, and a fault shows at the next [`Store::sync`].
    Soon,
    /// Before the call returns: it survives a crash of the process and of the machine.
    Now,
}

/// Keeps contacts. Changes are applied in the order of the calls.
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

    /// Waits until all changes applied so far are written.
    ///
    /// # Errors
    /// The first fault since the last call that no caller has been told of.
    fn sync(&self) -> Result<()>;
}
