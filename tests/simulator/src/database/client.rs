//! One process's connections to the database, as `core/src/store/postgres/worker.rs` has them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use appxmpp::error::{Error, ErrorKind, Result};
use appxmpp::service::roster::Subscription;
use appxmpp::store::{Change, ContactKey, Count, Done, Placed, Placing, Store};

use super::heart::{Heart, UNNOTICED};
use super::shared::Handle;
use super::{Database, Notice, PAUSE, Tables};
use crate::ctx::{NEVER, SEC, Time};
use crate::disk::Disk;

/// What a caller is told whose changes may be there or not.
pub(crate) const UNKNOWN: &str = "the simulated database did not answer";
/// How long a caller waits for a database that cannot be reached.
const PATIENCE: Time = 4 * SEC;

/// Who is told what became of a call.
pub(super) enum Finish {
    Done(Done),
    Placed(Placing, String, u64),
}

/// Changes to be applied together.
pub(super) struct Call {
    pub(super) changes: Vec<Change>,
    pub(super) news: Option<Notice>,
    pub(super) done: Option<Finish>,
}

/// A transaction under way, of the first so many calls.
struct Flight {
    count: usize,
    commit_at: Time,
    reply_at: Time,
    committed: Option<Vec<Placed>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) hearts: Vec<Heart>,
    pending: VecDeque<Call>,
    flight: Option<Flight>,
    writer_at: Time,
    /// Since when the writer cannot reach it.
    down: Option<Time>,
    /// The process cannot reach the database before.
    cut_until: Time,
    over: bool,
    crash_at: Option<(u64, bool)>,
    crashed: bool,
    writes: u64,
}

pub(crate) struct Client {
    pub(crate) database: Arc<Database>,
    inner: Mutex<Inner>,
}

fn fault(text: &str) -> Error {
    Error::new(ErrorKind::Store, text.to_owned())
}

pub(super) fn full() -> Error {
    fault("the simulated database takes nothing")
}

pub(super) fn unknown() -> Error {
    fault(UNKNOWN)
}

impl Call {
    fn report(self, written: Result<Placed>) {
        match self.done {
            Some(Finish::Done(done)) => done(written.map(drop)),
            Some(Finish::Placed(done, ..)) => done(written),
            None => {}
        }
    }

    fn apply(&mut self, tables: &mut Tables) -> Placed {
        let places = self.changes.iter().cloned().filter_map(|change| tables.apply(change));
        let placed = Placed { deliveries: places.collect(), elsewhere: false };
        if let Some(notice) = &self.news {
            tables.notify(notice);
        }
        placed
    }

    /// What is asked for it once its changes are stored.
    fn elsewhere(&self, tables: &Tables) -> bool {
        let puts = self.changes.iter().any(|change| matches!(change, Change::OutboxPut(..)));
        match &self.done {
            Some(Finish::Placed(_, app, member)) if puts => tables.elsewhere(app, *member),
            _ => false,
        }
    }
}

impl Inner {
    pub(super) fn reaches(&self, tables: &Tables) -> bool {
        !self.over && tables.down_until.max(self.cut_until) <= tables.now
    }

    /// Whether this write is done; the error ends a process that has crashed.
    pub(super) fn write(&mut self) -> Result<bool> {
        if self.crashed || self.over {
            return Err(unknown());
        }
        self.writes += 1;
        let Some((_, committed)) = self.crash_at.filter(|(at, _)| self.writes >= *at) else {
            return Ok(true);
        };
        self.crash_at = None;
        self.crashed = true;
        Ok(committed)
    }

    pub(super) fn submit(&mut self, call: Call) {
        if matches!(self.write(), Ok(true)) {
            self.pending.push_back(call);
        }
    }

    /// Nothing, if another process took over from a member of this one for which something is put.
    fn commit(&mut self, tables: &mut Tables, count: usize) -> Option<Vec<Placed>> {
        let mut changes = self.pending.iter().take(count).flat_map(|call| &call.changes);
        if changes.any(|change| !tables.is_mine(change)) {
            return None;
        }
        let group = self.pending.iter_mut().take(count);
        let mut placed: Vec<_> = group.map(|call| call.apply(tables)).collect();
        for (call, placed) in self.pending.iter().zip(&mut placed) {
            placed.elsewhere = call.elsewhere(tables);
        }
        Some(placed)
    }

    /// Another process took over. What it did not get was refused, and what was applied before the
    /// answer was lost it got.
    fn refuse(&mut self, tables: &mut Tables, count: usize) {
        tables.faults += 1;
        let group: Vec<_> = self.pending.drain(..count).collect();
        group.into_iter().for_each(|call| call.report(Err(unknown())));
    }

    fn answer(&mut self, written: Vec<Placed>) {
        self.down = None;
        let group: Vec<_> = self.pending.drain(..written.len()).collect();
        group.into_iter().zip(written).for_each(|(call, placed)| call.report(Ok(placed)));
    }

    /// Writes all that waits, while the caller does.
    pub(super) fn flush(&mut self, tables: &mut Tables) -> Result<()> {
        if !self.reaches(tables) {
            tables.faults += 1;
            return Err(unknown());
        }
        if tables.faulty {
            tables.faults += 1;
            return Err(full());
        }
        if let Some(written) = self.flight.take().and_then(|flight| flight.committed) {
            self.answer(written);
        }
        match self.commit(tables, self.pending.len()) {
            Some(written) => self.answer(written),
            None => self.refuse(tables, self.pending.len()),
        }
        Ok(())
    }

    /// Goes on with the transaction under way, or begins one; says whether there was anything.
    fn drive_writer(&mut self, tables: &mut Tables) -> bool {
        let now = tables.now;
        if let Some(mut flight) = self.flight.take() {
            if flight.committed.is_none() && flight.commit_at <= now {
                if tables.faulty {
                    tables.faults += 1;
                    // What is tried again may have been applied before.
                    let why = if self.down.is_some() { unknown } else { full };
                    let group: Vec<_> = self.pending.drain(..flight.count).collect();
                    group.into_iter().for_each(|call| call.report(Err(why())));
                    return true;
                }
                flight.committed = self.commit(tables, flight.count);
                if flight.committed.is_none() {
                    self.refuse(tables, flight.count);
                    return true;
                }
            }
            if flight.reply_at <= now
                && let Some(written) = flight.committed
            {
                self.answer(written);
                return true;
            }
            self.flight = Some(flight);
            return false;
        }
        if self.pending.is_empty() || self.writer_at > now {
            return false;
        }
        if !self.reaches(tables) {
            self.lost(tables);
            return true;
        }
        let commit_at = now + tables.delay();
        let reply_at = commit_at + tables.delay();
        let count = self.pending.len();
        self.flight = Some(Flight { count, commit_at, reply_at, committed: None });
        true
    }

    /// Who has waited long enough is told; the others' changes are applied again.
    fn lost(&mut self, tables: &mut Tables) {
        let now = tables.now;
        self.writer_at = now + PAUSE * 5;
        let since = *self.down.get_or_insert(now);
        if since + PATIENCE > now {
            return;
        }
        for call in std::mem::take(&mut self.pending) {
            if call.done.is_some() {
                tables.faults += 1;
                call.report(Err(unknown()));
            } else {
                self.pending.push_back(call);
            }
        }
    }

    /// The connections break. What is under way is done, or not; nobody knows.
    fn cut(&mut self, tables: &mut Tables, held_until: Time) {
        if let Some(flight) = self.flight.take()
            && flight.committed.is_none()
            && tables.rng.permille(500)
            && !tables.faulty
        {
            self.commit(tables, flight.count);
        }
        self.down.get_or_insert(tables.now);
        self.writer_at = tables.now + PAUSE;
        self.hearts.iter_mut().for_each(|heart| heart.cut(tables, held_until));
    }
}

impl Client {
    pub(crate) fn new(database: &Arc<Database>) -> Arc<Self> {
        Arc::new(Self { database: Arc::clone(database), inner: Mutex::default() })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Inner, &mut Tables) -> T) -> T {
        work(&mut self.inner(), &mut self.database.lock())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due now; says whether there was anything.
    pub(crate) fn drive(&self) -> bool {
        self.with(|inner, tables| {
            let reachable = inner.reaches(tables);
            let mut moved = inner.drive_writer(tables);
            for heart in &mut inner.hearts {
                moved |= heart.drive(tables, reachable);
            }
            moved
        })
    }

    pub(crate) fn next_timeout(&self) -> Time {
        self.with(|inner, tables| {
            let writer = match &inner.flight {
                Some(flight) if flight.committed.is_none() => flight.commit_at,
                Some(flight) => flight.reply_at,
                None if inner.pending.is_empty() => NEVER,
                None => inner.writer_at,
            };
            let hearts = inner.hearts.iter().map(|heart| heart.next_timeout(tables));
            hearts.min().unwrap_or(NEVER).min(writer)
        })
    }

    /// Nothing of it reaches the database until then; the database may take a while to notice.
    pub(crate) fn cut(&self, until: Time, silent: bool) {
        self.with(|inner, tables| {
            let unnoticed = if silent { tables.rng.below(UNNOTICED) } else { 0 };
            inner.cut_until = inner.cut_until.max(until);
            inner.cut(tables, tables.now + unnoticed);
        });
    }

    /// The process dies; if the machine does too, the database takes a while to notice.
    pub(crate) fn die(&self, with_machine: bool) {
        self.with(|inner, tables| {
            let unnoticed = if with_machine { tables.rng.below(UNNOTICED) } else { 0 };
            if inner.flight.is_none() && inner.reaches(tables) && !inner.pending.is_empty() {
                let (count, at) = (inner.pending.len(), tables.now);
                inner.flight = Some(Flight { count, commit_at: at, reply_at: at, committed: None });
            }
            inner.cut(tables, tables.now + unnoticed);
            inner.over = true;
            inner.pending.clear();
        });
    }

    /// The process ends in order.
    pub(crate) fn leave(&self) {
        self.with(|inner, tables| {
            if inner.flush(tables).is_ok() {
                inner.hearts.iter().for_each(|heart| heart.leave(tables));
            }
            inner.cut(tables, tables.now);
            inner.over = true;
            inner.pending.clear();
        });
    }

    /// Whether the database has not noticed yet that the process is gone.
    pub(crate) fn is_missed(&self) -> bool {
        self.with(|inner, tables| {
            let is_held = |heart: &Heart| {
                let row = tables.members.get(&heart.member.number);
                row.is_some_and(|row| row.held_until > tables.now)
            };
            inner.hearts.iter().any(is_held)
        })
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.with(|inner, tables| inner.reaches(tables))
    }
}

impl Disk for Client {
    fn open(self: Arc<Self>) -> Box<dyn Store> {
        Box::new(Handle(self))
    }

    fn database(&self) -> Option<&Database> {
        Some(&self.database)
    }

    fn faults(&self) -> u64 {
        self.database.lock().faults
    }

    fn has_crashed(&self) -> bool {
        self.inner().crashed
    }

    fn has_pending(&self) -> bool {
        !self.inner().pending.is_empty()
    }

    fn crash_after(&self, writes: u64, committed: bool) {
        let mut inner = self.inner();
        inner.crash_at = Some((inner.writes + writes, committed));
    }

    fn calm(&self) {
        let mut inner = self.inner();
        (inner.crash_at, inner.cut_until) = (None, 0);
    }

    fn subscription(&self, own: &str, contact: &str) -> Subscription {
        let key = ContactKey { own: own.into(), contact: contact.into() };
        self.database.lock().contacts.get(&key).map_or(Subscription::None, |it| it.subscription)
    }

    fn flush(&self) {
        // Whoever waited for it in vain is told by the store.
        let _ = self.with(Inner::flush);
    }

    fn counts(&self, queue: &str) -> Vec<Count> {
        let tables = self.database.lock();
        tables.counts.get(queue).into_iter().flat_map(|it| it.values().cloned()).collect()
    }

    fn dead_ids(&self, queue: &str) -> Vec<u64> {
        let tables = self.database.lock();
        tables.dead.get(queue).into_iter().flat_map(|it| it.keys().copied()).collect()
    }
}
