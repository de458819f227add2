//! A store for the life of the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{
    Change, ContactKey, ContactState, Count, DeadLetter, Done, Durability, InboxRow, OutboxRow,
    QueueName, Row, Store,
};
use crate::error::Result;
use crate::service::roster::Subscription;

/// Keeps contacts as long as it lives. Shared between two services one after the other, it plays
/// the part of a disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    contacts: BTreeMap<ContactKey, ContactState>,
    queues: BTreeMap<QueueName, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    outbox: BTreeMap<u64, OutboxRow>,
    done: u64,
    inbox: BTreeMap<u64, InboxRow>,
    dead: BTreeMap<u64, DeadLetter>,
    counts: BTreeMap<Box<str>, Count>,
}

impl Rows {
    fn apply(&mut self, change: Change) {
        let contacts = &mut self.contacts;
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
            Change::Told(key, told) => {
                if let Some(state) = contacts.get_mut(&key) {
                    state.told = told;
                }
            }
            Change::OutboxPut(queue, row) => {
                self.queue(queue).outbox.insert(row.first, row);
            }
            Change::OutboxDone(queue, up_to) => {
                let queue = self.queue(queue);
                queue.outbox.retain(|_, row| row.last() > up_to);
                queue.done = queue.done.max(up_to);
            }
            Change::InboxPut(queue, row) => {
                self.queue(queue).inbox.insert(row.id, row);
            }
            Change::InboxDone(queue, id) => {
                self.queue(queue).inbox.remove(&id);
            }
            Change::Bury(queue, id, at, reason) => {
                let queue = self.queue(queue);
                if let Some(row) = queue.inbox.remove(&id) {
                    let row = InboxRow { came: Duration::ZERO, ..row };
                    queue.dead.insert(id, DeadLetter { row, at, reason });
                }
            }
            Change::Replay(queue, id) => {
                let queue = self.queue(queue);
                if let Some(letter) = queue.dead.remove(&id) {
                    queue.inbox.insert(id, letter.row);
                }
            }
            Change::Purge(queue, id) => {
                self.queue(queue).dead.remove(&id);
            }
            Change::Inherit(queue, from) => {
                let left = std::mem::take(&mut self.queue(from).inbox);
                self.queue(queue).inbox.extend(left);
            }
            Change::Bequeath(..) => {}
            Change::Count(queue, count) => {
                self.queue(queue).counts.insert(count.name.clone(), count);
            }
        }
    }

    fn queue(&mut self, name: QueueName) -> &mut Queue {
        self.queues.entry(name).or_default()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Every change is one map operation or two that cannot fail between, so a panic elsewhere
        // leaves the maps whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        for (key, state) in self.rows().contacts.iter() {
            contact(key.clone(), state.clone());
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>, _: Durability) -> Result<()> {
        let mut rows = self.rows();
        changes.into_iter().for_each(|change| rows.apply(change));
        Ok(())
    }

    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        let rows = self.rows();
        let Some(queue) = rows.queues.get(queue) else { return Ok(()) };
        queue.outbox.values().cloned().for_each(|it| row(Row::Outbox(it)));
        if queue.done > 0 {
            row(Row::OutboxDone(queue.done));
        }
        queue.inbox.values().cloned().for_each(|it| row(Row::Inbox(it)));
        queue.counts.values().cloned().for_each(|it| row(Row::Count(it)));
        Ok(())
    }

    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        if let Some(queue) = self.rows().queues.get(queue) {
            queue.dead.values().cloned().for_each(letter);
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

    fn submit(&self, changes: Vec<Change>, done: Done) {
        (**self).submit(changes, done);
    }

    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        (**self).load_queue(queue, row)
    }

    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        (**self).dead_letters(queue, letter)
    }

    fn sync(&self) -> Result<()> {
        (**self).sync()
    }

    fn shared(&self) -> Option<&dyn super::Shared> {
        (**self).shared()
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
