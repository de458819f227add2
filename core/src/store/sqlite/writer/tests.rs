//! Crashes at every write of the outbox, and what is there at the next start.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use super::super::tests::Folder;
use super::super::{SqliteStore, connect, create_private, prepare};
use super::*;
use crate::store::{Row, Store};

/// Of the log.
const PAGE: usize = 4096;
const QUEUE: &str = "bot.example.com";

#[derive(Debug, Clone)]
enum Step {
    /// A call, by the lengths of what its recipients get.
    Put(Vec<usize>),
    /// All but so many messages are done.
    Done(u64),
    /// Time passes, and what is done is noted.
    Settle,
    /// Somebody reads everything.
    Gather,
    /// A stop in order, and a start.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![12 => 0..60_usize, 1 => 4000..9000_usize];
    let step = prop_oneof![
        6 => proptest::collection::vec(length, 1..4).prop_map(Step::Put),
        4 => (0..6_u64).prop_map(Step::Done),
        2 => Just(Step::Settle),
        1 => Just(Step::Gather),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..12)
}

/// The store's files at one moment.
#[derive(Clone, Default, PartialEq)]
struct Disk {
    log: Vec<u8>,
    tables: Vec<u8>,
    wal: Vec<u8>,
}

impl Disk {
    const SUFFIXES: [&str; 3] = ["-outbox", "", "-wal"];

    fn path(folder: &Folder, suffix: &str) -> PathBuf {
        let mut name = folder.file().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn of(folder: &Folder) -> Self {
        let [log, tables, wal] = Self::SUFFIXES
            .map(|suffix| std::fs::read(Self::path(folder, suffix)).unwrap_or_default());
        Self { log, tables, wal }
    }

    fn write(&self, folder: &Folder) {
        let _ = std::fs::remove_file(Self::path(folder, "-shm"));
        for (suffix, bytes) in Self::SUFFIXES.iter().zip([&self.log, &self.tables, &self.wal]) {
            std::fs::write(Self::path(folder, suffix), bytes).unwrap();
        }
    }
}

/// Every state of a log that a crash can leave while `before` becomes `after`, front to back: what is
/// behind the break is as it was, or was not there yet. Of the inside of a large message every 97th byte
/// will do.
fn torn(before: &[u8], after: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let old = |at: usize| before.get(at).copied();
    let changed = (0..after.len()).filter(|&at| old(at) != Some(after[at]));
    let changed = changed.filter(|at| at % PAGE < 300 || at % PAGE > PAGE - 30 || at % 97 == 0);
    let mut states = Vec::new();
    for at in changed {
        let rest = before.get(at..).unwrap_or_default();
        states.push((at, [&after[..at], rest].concat()));
        if at > before.len() && after[at] != 0 {
            // The file has its size already, and what is missing reads as zeros.
            let mut sparse = after[..at].to_vec();
            sparse.resize(after.len(), 0);
            states.push((at, sparse));
        }
    }
    states
}

/// What was acknowledged, and what may be found of it.
#[derive(Debug, Clone, Default)]
struct Kept {
    messages: BTreeMap<u64, Bytes>,
    /// Up to which number the store was told that they are done, and up to which it has noted it.
    told: u64,
    noted: u64,
}

impl Kept {
    /// `under_way` is a call that nobody was told of yet.
    fn check(
        &self,
        found: &BTreeMap<u64, Bytes>,
        under_way: &BTreeMap<u64, Bytes>,
    ) -> TestCaseResult {
        for (number, message) in self.messages.range(self.told + 1..) {
            prop_assert_eq!(found.get(number), Some(message), "{} is lost", number);
        }
        for (number, message) in found {
            let known = self.messages.get(number).or_else(|| under_way.get(number));
            prop_assert_eq!(known, Some(message), "nobody sent {}", number);
            prop_assert!(*number > self.noted, "{} was done and is back", number);
        }
        let there = under_way.keys().filter(|number| found.contains_key(number)).count();
        prop_assert!(there == 0 || there == under_way.len(), "{} of a call", there);
        Ok(())
    }
}

/// What the outbox is given: a call is kept until its last message is done.
fn collect(found: &mut BTreeMap<u64, Bytes>) -> impl FnMut(Row) {
    |row| match row {
        Row::Outbox(row) => {
            let bodies = row.heads.iter().map(|head| [head, &row.tail[..]].concat().into());
            found.extend((row.first..).zip(bodies));
        }
        Row::OutboxDone(up_to) => found.retain(|number, _| *number > up_to),
        _ => {}
    }
}

/// A writer without its thread, and the disk it writes to.
struct Bench {
    folder: Folder,
    copy: Folder,
    writer: Option<Writer>,
    last: u64,
    kept: Kept,
    refused: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            folder: Folder::new("crash"),
            copy: Folder::new("crash-copy"),
            writer: None,
            last: 0,
            kept: Kept::default(),
            refused: Arc::default(),
        };
        bench.start();
        bench
    }

    fn start(&mut self) {
        create_private(&self.folder.file()).unwrap();
        let mut connection = connect(&self.folder.file()).unwrap();
        prepare(&self.folder.file(), &mut connection).unwrap();
        let mut writer = Writer::new(self.folder.file(), connection, Unreported::default());
        writer.open_log().unwrap();
        self.writer = Some(writer);
    }

    fn call(&mut self, changes: Vec<Change>, waits: bool, gather: bool) {
        let refused = Arc::clone(&self.refused);
        let done = move |written: Result<()>| {
            refused.fetch_add(usize::from(written.is_err()), Ordering::Relaxed);
        };
        let done = waits.then(|| Box::new(done) as Done);
        if let Some(writer) = &mut self.writer {
            writer.work(vec![Call { changes, done, gather }]);
        }
    }

    fn take(&mut self, step: &Step) -> TestCaseResult {
        let before = Disk::of(&self.folder);
        let earlier = self.kept.clone();
        let mut under_way = BTreeMap::new();
        match step {
            Step::Put(lengths) => {
                let first = self.last + 1;
                let heads: Vec<Bytes> = (first..)
                    .zip(lengths)
                    .map(|(number, length)| format!("{number}:{}", "x".repeat(*length)).into())
                    .collect();
                under_way = (first..).zip(heads.iter().cloned()).collect();
                self.last += heads.len() as u64;
                let row = OutboxRow { first, expires: Duration::MAX, heads, tail: Bytes::new() };
                self.call(vec![Change::OutboxPut(QUEUE.into(), row)], true, false);
                self.kept.messages.extend(under_way.clone());
                self.kept.noted = self.kept.told;
            }
            Step::Done(lag) => {
                self.kept.told = self.kept.told.max(self.last.saturating_sub(*lag));
                self.call(vec![Change::OutboxDone(QUEUE.into(), self.kept.told)], false, false);
            }
            Step::Settle => {
                if let Some(writer) = self.writer.as_mut().filter(|writer| !writer.done.is_empty())
                {
                    writer.settle_done();
                }
                self.kept.noted = self.kept.told;
            }
            Step::Gather => {
                self.call(Vec::new(), true, true);
                self.kept.noted = self.kept.told;
            }
            Step::Restart => {
                if let Some(mut writer) = self.writer.take() {
                    writer.finish().unwrap();
                }
                self.kept.noted = self.kept.told;
                self.start();
            }
        }
        prop_assert_eq!(self.refused.load(Ordering::Relaxed), 0);
        let after = Disk::of(&self.folder);
        self.kept.check(&self.found_after(&after, true, 0)?, &BTreeMap::new())?;
        self.crash_within(&before, &after, &earlier, &under_way)
    }

    /// Crashes at every byte of what was written to the log; the tables were written before that.
    fn crash_within(
        &self,
        before: &Disk,
        after: &Disk,
        earlier: &Kept,
        under_way: &BTreeMap<u64, Bytes>,
    ) -> TestCaseResult {
        let mut states = torn(&before.log, &after.log);
        if after.log.len() >= before.log.len() {
            states.push((0, before.log.clone()));
        }
        // A whole start takes its time.
        let whole = states.len().div_ceil(2).max(1);
        for (index, (at, log)) in states.into_iter().enumerate() {
            let disk = Disk { log, ..after.clone() };
            earlier.check(&self.found_after(&disk, index % whole == 0, at)?, under_way)?;
        }
        Ok(())
    }

    /// What the next start finds: as `Store::load_queue` reads it, or, `whole`, with all that a start does.
    fn found_after(
        &self,
        disk: &Disk,
        whole: bool,
        at: usize,
    ) -> Result<BTreeMap<u64, Bytes>, TestCaseError> {
        let mut found = BTreeMap::new();
        if whole {
            disk.write(&self.copy);
            for _ in 0..2 {
                found.clear();
                let store = SqliteStore::open(self.copy.file()).unwrap();
                store.load_queue(QUEUE, &mut collect(&mut found)).unwrap();
            }
            return Ok(found);
        }
        let path = Log::path_of(&self.copy.file());
        std::fs::write(&path, &disk.log).unwrap();
        let log = Log::peek(&path).unwrap();
        // In the middle of a record's number, where no disk breaks off, it cannot be told from damage; that
        // costs a line in the log.
        let in_number = (8..16).contains(&(at % PAGE));
        prop_assert!(log.damaged == 0 || in_number, "a write torn at {} is no damage", at);
        let Some(writer) = &self.writer else { return Ok(found) };
        queue::read(&writer.connection, QUEUE, log, &mut collect(&mut found)).unwrap();
        Ok(found)
    }
}

#[test]
fn a_crash_at_any_byte_loses_nothing_that_was_acknowledged() {
    let config =
        Config { cases: 16, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let mut bench = Bench::new();
            steps.iter().try_for_each(|step| bench.take(step))
        })
        .unwrap();
}
