//! What the core says in `tracing`, kept until a Python thread takes it to `logging`.
//!
//! Nothing attaches to the interpreter where something is said: that may be the thread that
//! reads the socket, or one that holds a lock.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use appxmpp::net::runtime::generation;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Records that wait; the oldest go first.
const CAPACITY: usize = 1024;

/// One thing said: a level of Python's `logging`, who said it, and the text.
pub(crate) type Said = (u8, String, String);

/// The records of one process. A forked child has one of its own: another thread of its parent may
/// have held the lock.
struct Ring {
    records: Mutex<VecDeque<Said>>,
    more: Condvar,
    lost: AtomicU64,
    next: OnceLock<Box<Ring>>,
}

static FIRST: Ring = Ring::new();
static LEVEL: AtomicU8 = AtomicU8::new(OFF);

/// A level that nothing reaches.
const OFF: u8 = u8::MAX;

impl Ring {
    const fn new() -> Self {
        Self {
            records: Mutex::new(VecDeque::new()),
            more: Condvar::new(),
            lost: AtomicU64::new(0),
            next: OnceLock::new(),
        }
    }

    fn of_this_process() -> &'static Self {
        let mut ring = &FIRST;
        for _ in 0..generation() {
            ring = ring.next.get_or_init(|| Box::new(Self::new()));
        }
        ring
    }

    fn push(&self, said: Said) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == CAPACITY {
            records.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        records.push_back(said);
        drop(records);
        self.more.notify_one();
    }

    fn wake(&self) {
        // Under the lock: whoever is about to wait has looked at the level already.
        let _records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        self.more.notify_all();
    }

    fn take(&self, timeout: Duration) -> Vec<Said> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut records, _) = self
            .more
            .wait_timeout_while(records, timeout, |records| {
                records.is_empty() && LEVEL.load(Ordering::Relaxed) != OFF
            })
            .unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<Said> = records.drain(..).collect();
        drop(records);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            taken.push((30, "log".to_owned(), format!("{lost} older records were dropped")));
        }
        taken
    }
}

/// Keeps what is said at `level` (of Python's `logging`) and above, from now on; `None` keeps
/// nothing, and ends the wait of who waits.
pub(crate) fn listen(level: Option<u8>) {
    LEVEL.store(level.unwrap_or(OFF), Ordering::Relaxed);
    Ring::of_this_process().wake();
    // Where another library of the process listens already, it keeps what it has.
    let _ = tracing::subscriber::set_global_default(Listener);
    tracing::callsite::rebuild_interest_cache();
}

/// What was said since the last time, waiting for the first of it.
pub(crate) fn take(timeout: Duration) -> Vec<Said> {
    Ring::of_this_process().take(timeout)
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && python_level(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=50 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let target = metadata.target().trim_start_matches("appxmpp::").replace("::", ".");
        let said = (python_level(*metadata.level()), target, text.message + &text.fields);
        Ring::of_this_process().push(said);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {field}={value:?}")
        };
    }
}
