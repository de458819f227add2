//! A store for the life of the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, ContactKey, ContactState, Durability, Store};
use crate::error::Result;
use crate::service::roster::Subscription;

/// Keeps contacts as long as it lives. Shared between two services one after the other, it plays
/// the part of a disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    contacts: Mutex<BTreeMap<ContactKey, ContactState>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contacts(&self) -> MutexGuard<'_, BTreeMap<ContactKey, ContactState>> {
        // Every change is one map operation, so a panic elsewhere leaves the map whole.
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        for (key, state) in self.contacts().iter() {
            contact(key.clone(), *state);
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>, _: Durability) -> Result<()> {
        let mut contacts = self.contacts();
        for change in changes {
            match change {
                Change::Subscription(key, Subscription::None) => {
                    contacts.remove(&key);
                }
                Change::Subscription(key, subscription) => {
                    contacts.entry(key).or_default().subscription = subscription;
                }
                Change::Presence(key, available) => {
                    if let Some(state) = contacts.get_mut(&key) {
                        state.available = available;
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        (**self).load(contact)
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        (**self).apply(changes, durability)
    }

    fn sync(&self) -> Result<()> {
        (**self).sync()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keeps_the_contract() {
        crate::store::contract::check(|| {
            let disk = Arc::new(MemoryStore::new());
            Box::new(move || Box::new(Arc::clone(&disk)))
        });
    }
}
