//! The disk: a store of which only what was committed outlives a crash.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use appxmpp::error::{Error, ErrorKind, Result};
use appxmpp::service::Resource;
use appxmpp::service::roster::Subscription;
use appxmpp::store::{
    Change, ContactKey, ContactState, Count, DeadLetter, Done, Durability, MemoryStore, Row, Store,
};

use crate::database::Database;

/// What an app used of its quotas, as the checks count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) day: u64,
    pub(crate) counts: [u64; 4],
}

impl Used {
    /// It is this time: another day begins with nothing, an earlier one does not come back.
    pub(crate) fn at(&mut self, utc: Duration) {
        let day = utc.as_secs() / 86_400;
        if day > self.day {
            *self = Self { day, counts: [0; 4] };
        }
    }
}

/// What a process keeps its state on, as the checks and the glue see it.
pub(crate) trait Disk: Send + Sync {
    /// The store for one app.
    fn open(self: Arc<Self>) -> Box<dyn Store>;

    /// The database, if several processes share one.
    fn database(&self) -> Option<&Database> {
        None
    }

    /// How many changes were not taken because of a fault.
    fn faults(&self) -> u64;

    /// The process died in the middle of a write.
    fn has_crashed(&self) -> bool;

    fn has_pending(&self) -> bool;

    /// The process will die at its `writes`th write from now on.
    fn crash_after(&self, writes: u64, committed: bool);

    /// No more faults.
    fn calm(&self);

    fn subscription(&self, own: &str, contact: &str) -> Subscription;

    /// What waits is committed, in order, and whoever waits for that is told.
    fn flush(&self);

    /// The quotas' counts that are on the disk.
    fn counts(&self, queue: &str) -> Vec<Count>;

    fn dead_ids(&self, queue: &str) -> Vec<u64>;

    /// What of the quotas is known to have been used, at this time.
    fn used(&self, queue: &str, utc: Duration) -> Used {
        let counts = self.counts(queue);
        let mut used = Used { day: utc.as_secs() / 86_400, counts: [0; 4] };
        used.day = counts.iter().map(|count| count.day).fold(used.day, u64::max);
        for (resource, total) in Resource::ALL.into_iter().zip(&mut used.counts) {
            let today = |count: &&Count| &*count.name == resource.as_str() && count.day == used.day;
            *total = counts.iter().find(today).map_or(0, |count| count.value);
        }
        used
    }
}

/// Changes that were handed in and are not on the disk.
struct Pending {
    changes: Vec<Change>,
    done: Option<Done>,
}

#[derive(Default)]
struct Inner {
    pending: VecDeque<Pending>,
    /// The subscriptions that are on the disk, for the checks.
    subscriptions: BTreeMap<(Box<str>, Box<str>), Subscription>,
    /// Only handles of this run of the process may write.
    run: u64,
    /// The process dies at its write with this number, before it (`false`) or right after it.
    crash_at: Option<(u64, bool)>,
    crashed: bool,
    writes: u64,
    faulty: bool,
    faults: u64,
}

/// What all runs of the process share.
#[derive(Default)]
pub(crate) struct Local {
    committed: MemoryStore,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Local")
    }
}

fn fault() -> Error {
    Error::new(ErrorKind::Store, "the simulated disk is full")
}

impl Local {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts: what earlier ones do from now on does not count.
    pub(crate) fn begin_run(&self) -> u64 {
        let mut inner = self.lock();
        inner.run += 1;
        inner.crashed = false;
        inner.run
    }

    /// The process will die at its `writes`th write from now on.
    pub(crate) fn crash_after(&self, writes: u64, committed: bool) {
        let mut inner = self.lock();
        inner.crash_at = Some((inner.writes + writes, committed));
    }

    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.lock().faulty = faulty;
    }

    pub(crate) fn calm(&self) {
        let mut inner = self.lock();
        (inner.faulty, inner.crash_at) = (false, None);
    }

    /// How many changes were not taken because of a fault.
    pub(crate) fn faults(&self) -> u64 {
        self.lock().faults
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    pub(crate) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    pub(crate) fn subscription(&self, own: &str, contact: &str) -> Subscription {
        let key = (own.into(), contact.into());
        self.lock().subscriptions.get(&key).copied().unwrap_or_default()
    }

    /// One flush: what waits is committed, in order, and whoever waits for that is told.
    pub(crate) fn flush(&self) {
        let mut inner = self.lock();
        let pending = std::mem::take(&mut inner.pending);
        let mut told = Vec::new();
        for batch in pending {
            let result = self.commit(&mut inner, batch.changes);
            told.extend(batch.done.map(|done| (done, result)));
        }
        drop(inner);
        told.into_iter().for_each(|(done, result)| done(result));
    }

    /// The process is gone: of what waits the first `kept` calls were committed, and nobody was told.
    pub(crate) fn end_run(&self, kept: usize) {
        let mut inner = self.lock();
        (inner.crash_at, inner.crashed) = (None, false);
        inner.run += 1;
        let pending = std::mem::take(&mut inner.pending);
        for batch in pending.into_iter().take(kept) {
            let _ = self.commit(&mut inner, batch.changes);
        }
    }

    /// All or none.
    fn commit(&self, inner: &mut Inner, changes: Vec<Change>) -> Result<()> {
        if inner.faulty {
            inner.faults += 1;
            return Err(fault());
        }
        for change in &changes {
            if let Change::Subscription(key, subscription) = change {
                inner.subscriptions.insert((key.own.clone(), key.contact.clone()), *subscription);
            }
        }
        self.committed.apply(changes, Durability::Now)
    }

    /// The quotas' counts that are on the disk.
    pub(crate) fn counts(&self, queue: &str) -> Vec<Count> {
        let mut counts = Vec::new();
        let _ = self.committed.load_queue(queue, &mut |row| match row {
            Row::Count(count) if &*count.name != "runs" => counts.push(count),
            _ => {}
        });
        counts
    }

    pub(crate) fn dead_ids(&self, queue: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        let _ = self.committed.dead_letters(queue, &mut |letter| ids.push(letter.row.id));
        ids
    }
}

/// The disk as one run of the process sees it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    disk: Arc<Local>,
    run: u64,
}

impl Handle {
    pub(crate) fn new(disk: &Arc<Local>, run: u64) -> Self {
        Self { disk: Arc::clone(disk), run }
    }

    /// Whether this write is done; the error ends a process that has crashed.
    fn write(&self, inner: &mut Inner) -> Result<bool> {
        if inner.crashed || inner.run != self.run {
            return Err(fault());
        }
        inner.writes += 1;
        let Some((at, committed)) = inner.crash_at else { return Ok(true) };
        if inner.writes < at {
            return Ok(true);
        }
        inner.crash_at = None;
        inner.crashed = true;
        Ok(committed)
    }
}

impl Disk for Handle {
    fn open(self: Arc<Self>) -> Box<dyn Store> {
        Box::new(Self::clone(&self))
    }

    fn faults(&self) -> u64 {
        self.disk.faults()
    }

    fn has_crashed(&self) -> bool {
        self.disk.has_crashed()
    }

    fn has_pending(&self) -> bool {
        self.disk.has_pending()
    }

    fn crash_after(&self, writes: u64, committed: bool) {
        self.disk.crash_after(writes, committed);
    }

    fn calm(&self) {
        self.disk.calm();
    }

    fn subscription(&self, own: &str, contact: &str) -> Subscription {
        self.disk.subscription(own, contact)
    }

    fn flush(&self) {
        self.disk.flush();
    }

    fn counts(&self, queue: &str) -> Vec<Count> {
        self.disk.counts(queue)
    }

    fn dead_ids(&self, queue: &str) -> Vec<u64> {
        self.disk.dead_ids(queue)
    }
}

impl Store for Handle {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        self.disk.flush();
        self.disk.committed.load(contact)
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        let mut inner = self.disk.lock();
        if !self.write(&mut inner)? {
            return Err(fault());
        }
        if durability == Durability::Soon {
            inner.pending.push_back(Pending { changes, done: None });
            return Ok(());
        }
        drop(inner);
        self.disk.flush();
        self.disk.commit(&mut self.disk.lock(), changes)
    }

    fn submit(&self, changes: Vec<Change>, done: Done) {
        let mut inner = self.disk.lock();
        match self.write(&mut inner) {
            // A process that died is told nothing, though the change may be on the disk.
            Ok(true) => inner.pending.push_back(Pending { changes, done: Some(done) }),
            Ok(false) | Err(_) => drop(done),
        }
    }

    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        self.disk.flush();
        self.disk.committed.load_queue(queue, row)
    }

    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        self.disk.flush();
        self.disk.committed.dead_letters(queue, letter)
    }

    fn sync(&self) -> Result<()> {
        self.disk.flush();
        Ok(())
    }
}
