//! The thread that writes. All calls that wait while one group is written share the next one, so the
//! disk is flushed once for all of them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::log::{Contents, Log};
use super::{explain, explain_shared, queue};
use crate::error::{Error, Result};
use crate::store::{Change, Done, OutboxRow, QueueName};

/// How many calls one group may take in.
const GROUP: usize = 1024;
/// How long it is only known here which messages are done: after a crash those are sent again.
const DONE_WITHIN: Duration = Duration::from_millis(100);

/// The first fault of a change that nobody waits for, until somebody is told.
pub(super) type Unreported = Arc<Mutex<Option<Error>>>;

/// What a group can fail of.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum Fault {
    Table(#[from] rusqlite::Error),
    Log(#[from] io::Error),
}

pub(super) struct Call {
    pub(super) changes: Vec<Change>,
    pub(super) done: Option<Done>,
    /// Everything in the log is to be in the tables.
    pub(super) gather: bool,
}

impl Call {
    /// Whether it is the log's: messages to be kept, or news about such that nobody waits for.
    fn is_for_log(&self) -> bool {
        let of_log = |change: &Change| match change {
            Change::OutboxPut(..) => true,
            Change::OutboxDone(..) => self.done.is_none(),
            _ => false,
        };
        !self.changes.is_empty() && self.changes.iter().all(of_log)
    }
}

enum Logs {
    /// Nothing has been put yet.
    Unused,
    Open(Log),
    /// Another process has it: everything goes to the tables.
    Elsewhere,
}

pub(super) struct Writer {
    path: PathBuf,
    pub(super) connection: Connection,
    pub(super) unreported: Unreported,
    log: Logs,
    /// The last number of each queue's messages in the tables.
    in_tables: BTreeMap<QueueName, u64>,
    /// What is done and not yet written anywhere.
    done: BTreeMap<QueueName, u64>,
}

type Puts<'a> = Vec<(&'a QueueName, &'a OutboxRow)>;

impl Writer {
    pub(super) fn new(path: PathBuf, connection: Connection, unreported: Unreported) -> Self {
        let (in_tables, done) = (BTreeMap::new(), BTreeMap::new());
        Self { path, connection, unreported, log: Logs::Unused, in_tables, done }
    }

    /// Finds what waits from before, in the tables and in the log of a process that was ended.
    pub(super) fn open_log(&mut self) -> Result<()> {
        let path = self.path.clone();
        self.in_tables =
            queue::last_numbers(&self.connection).map_err(|error| explain(&path, error))?;
        if Log::path_of(&path).exists() {
            self.begin_log().map_err(|fault| explain(&path, fault))?;
        }
        Ok(())
    }

    fn begin_log(&mut self) -> Result<(), Fault> {
        let Some((mut log, left)) = Log::open(Log::path_of(&self.path))? else {
            self.log = Logs::Elsewhere;
            return Ok(());
        };
        if left.damaged > 0 {
            let path = self.path.display();
            tracing::error!(
                "the outbox log of the state store {path} is damaged: {} groups of messages cannot be read \
                 and may be lost; check the disk",
                left.damaged
            );
        }
        self.take_over(&left)?;
        log.restart()?;
        self.log = Logs::Open(log);
        Ok(())
    }

    pub(super) fn run(mut self, queue: &Receiver<Call>) {
        loop {
            let first = if self.done.is_empty() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(DONE_WITHIN)
            };
            match first {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(queue.try_iter().take(GROUP - 1));
                    self.work(group);
                }
                Err(RecvTimeoutError::Timeout) => self.settle_done(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(fault) = self.finish() {
            self.keep(&Arc::new(fault));
        }
    }

    /// Writes a group and tells its callers.
    pub(super) fn work(&mut self, group: Vec<Call>) {
        let (gather, group): (Vec<_>, Vec<_>) = group.into_iter().partition(|call| call.gather);
        let (for_log, for_tables): (Vec<_>, Vec<_>) = group.into_iter().partition(Call::is_for_log);
        if !for_tables.is_empty() {
            let written = self.write_tables(&for_tables, Vec::new()).map_err(Arc::new);
            self.report(for_tables, &written);
        }
        if !for_log.is_empty() {
            let written = self.write_log(&for_log).map_err(Arc::new);
            self.report(for_log, &written);
        }
        if !gather.is_empty() {
            let moved = self.move_to_tables().and_then(|()| self.write_tables(&[], Vec::new()));
            self.report(gather, &moved.map_err(Arc::new));
        }
    }

    fn write_log(&mut self, group: &[Call]) -> Result<(), Fault> {
        let changes = || group.iter().flat_map(|call| &call.changes);
        let puts: Puts<'_> = changes().filter_map(put).collect();
        if !puts.is_empty() {
            self.put(puts)?;
        }
        for change in changes() {
            if let Change::OutboxDone(queue, up_to) = change {
                self.note_done(queue, *up_to);
            }
        }
        Ok(())
    }

    fn put(&mut self, puts: Puts<'_>) -> Result<(), Fault> {
        if matches!(self.log, Logs::Unused) {
            self.begin_log()?;
        }
        if let Logs::Open(log) = &mut self.log {
            if log.put(&puts)? {
                return Ok(());
            }
            // The server has been slow to read, or is not there.
            self.move_to_tables()?;
        }
        if let Logs::Open(log) = &mut self.log
            && log.put(&puts)?
        {
            return Ok(());
        }
        self.write_tables(&[], puts)
    }

    fn note_done(&mut self, queue: &QueueName, up_to: u64) {
        if let Logs::Open(log) = &mut self.log {
            log.set_done(queue, up_to);
        }
        let done = self.done.entry(queue.clone()).or_default();
        *done = up_to.max(*done);
    }

    /// Writes down what is done, where that need be known: nobody waits for it.
    fn settle_done(&mut self) {
        let in_tables = self.done.keys().any(|queue| self.in_tables.contains_key(queue));
        let written = match &mut self.log {
            Logs::Open(log) if !in_tables => {
                self.done.clear();
                log.note_done().map_err(Fault::from)
            }
            _ => self.write_tables(&[], Vec::new()),
        };
        if let Err(fault) = written {
            self.keep(&Arc::new(fault));
            // The next number says the same and more.
            self.done.clear();
        }
    }

    /// Writes the changes of `group`, `puts`, and what is done, in one transaction.
    pub(super) fn write_tables<'a>(
        &mut self,
        group: &'a [Call],
        mut puts: Puts<'a>,
    ) -> Result<(), Fault> {
        let changes = || group.iter().flat_map(|call| &call.changes);
        if changes().next().is_none() && puts.is_empty() && self.done.is_empty() {
            return Ok(());
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes() {
            super::write(&transaction, change)?;
        }
        puts.extend(changes().filter_map(put));
        queue::put_all(&transaction, &puts)?;
        let mut in_tables = self.in_tables.clone();
        for (queue, row) in puts {
            let last = in_tables.entry(queue.clone()).or_default();
            *last = row.last().max(*last);
        }
        for (queue, up_to) in &self.done {
            queue::set_done(&transaction, queue, *up_to)?;
            if in_tables.get(queue).is_some_and(|last| last <= up_to) {
                in_tables.remove(queue);
            }
        }
        transaction.commit()?;
        self.in_tables = in_tables;
        self.done.clear();
        for change in changes() {
            if let (Change::OutboxDone(queue, up_to), Logs::Open(log)) = (change, &mut self.log) {
                log.set_done(queue, *up_to);
            }
        }
        Ok(())
    }

    /// Moves what is in the log to the tables.
    fn move_to_tables(&mut self) -> Result<(), Fault> {
        let Logs::Open(log) = &mut self.log else { return Ok(()) };
        if log.is_empty() {
            return Ok(());
        }
        let contents = log.contents()?;
        self.take_over(&contents)?;
        if let Logs::Open(log) = &mut self.log {
            log.restart()?;
        }
        Ok(())
    }

    fn take_over(&mut self, contents: &Contents) -> Result<(), Fault> {
        for (queue, up_to) in &contents.done {
            let done = self.done.entry(queue.clone()).or_default();
            *done = (*up_to).max(*done);
        }
        let is_done = |queue, last| contents.done.get(queue).is_some_and(|up_to| last <= *up_to);
        let rows = contents.rows.iter().filter(|(queue, row)| !is_done(queue, row.last()));
        self.write_tables(&[], rows.map(|(queue, row)| (queue, row)).collect())
    }

    /// Leaves everything in the tables alone.
    fn finish(&mut self) -> Result<(), Fault> {
        self.move_to_tables()?;
        self.write_tables(&[], Vec::new())?;
        if let Logs::Open(log) = &mut self.log {
            log.clear()?;
        }
        Ok(())
    }

    pub(super) fn report(&self, group: Vec<Call>, written: &Result<(), Arc<Fault>>) {
        for call in group {
            match (call.done, written) {
                (Some(done), written) => {
                    done(written.clone().map_err(|fault| explain_shared(&self.path, fault)));
                }
                (None, Err(fault)) => self.keep(fault),
                (None, Ok(())) => {}
            }
        }
    }

    fn keep(&self, fault: &Arc<Fault>) {
        let error = explain_shared(&self.path, Arc::clone(fault));
        tracing::error!("{error}");
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

fn put(change: &Change) -> Option<(&QueueName, &OutboxRow)> {
    match change {
        Change::OutboxPut(queue, row) => Some((queue, row)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
