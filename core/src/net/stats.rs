use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers about a connection since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Whether a stream is up.
    pub ready: bool,
    /// Whether another connection of the same component has the stream, and this one waits for its end.
    pub standby: bool,
    /// Whether what a process that is gone left is to be taken over before this one connects.
    pub taking_over: bool,
    /// How often a stream came up.
    pub connects: u64,
    /// How often a stream ended or an attempt to connect failed.
    pub disconnects: u64,
    /// Stanzas received, those left out included.
    pub stanzas_in: u64,
    /// Stanzas given to the stream.
    pub stanzas_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes of the stanzas given to the stream.
    pub bytes_out: u64,
    /// Stanzas received that were unacceptable and left out.
    pub skipped: u64,
    /// Elements received that are no stanzas and were left out.
    pub ignored: u64,
    /// Events that wait to be taken.
    pub inbound_queue: usize,
    /// Stanzas that wait to be written.
    pub outbound_queue: usize,
    /// Requests that wait for their answers.
    pub requests: usize,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) connects: AtomicU64,
    pub(super) disconnects: AtomicU64,
    pub(super) stanzas_in: AtomicU64,
    stanzas_out: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) ignored: AtomicU64,
    ids: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn sent(&self, stanzas: usize, bytes: usize) {
        add(&self.stanzas_out, stanzas as u64);
        add(&self.bytes_out, bytes as u64);
    }

    /// An id for a request that has none.
    pub(super) fn next_id(&self) -> String {
        format!("{:x}-{:08x}", self.ids.fetch_add(1, Ordering::Relaxed), random() as u32)
    }

    pub(super) fn snapshot(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connects: get(&self.connects),
            disconnects: get(&self.disconnects),
            stanzas_in: get(&self.stanzas_in),
            stanzas_out: get(&self.stanzas_out),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            skipped: get(&self.skipped),
            ignored: get(&self.ignored),
            ..Stats::default()
        }
    }
}

/// A number that other processes cannot guess (std seeds each `RandomState` from the operating
/// system); the process id keeps a forked child from drawing its parent's numbers.
pub(super) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
