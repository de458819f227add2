//! What everybody in a scenario shares: the time, chance, what will happen, and the record of it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::oracle::Oracle;
use crate::profile::Profile;
use crate::rng::Rng;

/// Virtual time in microseconds.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1000;
pub(crate) const SEC: Time = 1000 * MS;
/// Never.
pub(crate) const NEVER: Time = Time::MAX;

pub(crate) fn duration(time: Time) -> Duration {
    Duration::from_micros(time)
}

pub(crate) fn time(duration: Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(NEVER)
}

/// Who serves the apps of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Alone,
    /// Two processes, one of which stands by.
    Standby,
    /// Two processes with a stream each.
    Spread,
}

/// What will happen.
#[derive(Debug)]
pub(crate) enum Ev {
    /// Bytes arrive at one end of a connection; none mean its end.
    Bytes { conn: u32, to_server: bool, data: Vec<u8> },
    /// The process with this place starts.
    Start(usize),
    /// The disk commits what waits.
    Flush,
    /// The next call of the app, deed of a contact, or fault.
    Act,
    /// A stanza reaches a contact.
    Contact { contact: usize, xml: bytes::Bytes },
    /// The server restarts.
    ServerUp,
    /// Only to look again.
    Tick,
}

struct Due {
    at: Time,
    number: u64,
    what: Ev,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

pub(crate) struct Ctx {
    pub(crate) now: Time,
    /// How far the wall clock is from the monotonic one.
    pub(crate) utc_offset: i64,
    pub(crate) max_utc: Time,
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) oracle: Oracle,
    /// Faults may still be injected.
    pub(crate) turbulent: bool,
    /// Something stood still for longer than a stream may be silent.
    pub(crate) stalled: bool,
    queue: BinaryHeap<Due>,
    numbers: u64,
    pub(crate) hash: u64,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) violation: Option<String>,
    /// How often what is rare happened.
    pub(crate) seen: Seen,
}

/// What a scenario met, so that somebody can see that faults do happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(crate) enum Rare {
    Cut,
    HalfOpen,
    Conflict,
    ServerRestart,
    Crash,
    PoliteEnd,
    DiskFault,
    RestoredMessage,
    RestoredDelivery,
    Repeated,
    Expired,
    Poisonous,
    OutboxFull,
    NoRoom,
    Retried,
    DeadLetter,
    Replayed,
    OverQuota,
    Resumed,
    StoodBy,
    TakenOver,
    HandedOver,
    Evicted,
    TurnAwaited,
}

/// How often each of [`Rare`] happened.
pub(crate) type Seen = [u64; NAMES.len()];

/// The names of what [`Seen`] counts.
pub(crate) const NAMES: [&str; 24] = [
    "cuts",
    "half-open connections",
    "conflicts",
    "server restarts",
    "crashes",
    "polite ends",
    "disk faults",
    "messages restored",
    "deliveries restored",
    "messages repeated",
    "messages expired",
    "poisonous messages",
    "messages refused by a full outbox",
    "deliveries refused",
    "deliveries tried again",
    "dead letters",
    "dead letters replayed",
    "calls over quota",
    "sessions resumed",
    "processes that stood by",
    "take-overs",
    "messages handed over",
    "processes evicted",
    "deliveries that waited for their turn",
];

impl Ctx {
    pub(crate) fn new(mut rng: Rng, traced: bool, kind: Kind) -> Self {
        let profile = match kind {
            Kind::Alone => Profile::draw(&mut rng),
            Kind::Standby => Profile::draw_shared(&mut rng, false),
            Kind::Spread => Profile::draw_shared(&mut rng, true),
        };
        Self {
            now: SEC,
            utc_offset: 0,
            max_utc: 0,
            rng,
            profile,
            oracle: Oracle::default(),
            turbulent: true,
            stalled: false,
            queue: BinaryHeap::with_capacity(64),
            numbers: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
            violation: None,
            seen: [0; NAMES.len()],
        }
    }

    pub(crate) fn now(&self) -> Duration {
        duration(self.now)
    }

    /// The wall clock, since the Unix epoch; it can be set back and forth.
    pub(crate) fn utc(&mut self) -> Duration {
        let utc = (20_000 * 86_400 * SEC + self.now).saturating_add_signed(self.utc_offset);
        self.max_utc = self.max_utc.max(utc);
        duration(utc)
    }

    pub(crate) fn at(&mut self, at: Time, what: Ev) {
        self.numbers += 1;
        self.queue.push(Due { at, number: self.numbers, what });
    }

    pub(crate) fn after(&mut self, delay: Time, what: Ev) {
        self.at(self.now + delay, what);
    }

    pub(crate) fn next_at(&self) -> Time {
        self.queue.peek().map_or(NEVER, |due| due.at)
    }

    pub(crate) fn pop(&mut self) -> Option<Ev> {
        self.queue.pop().map(|due| due.what)
    }

    /// Makes `code` part of the record by which two runs are compared.
    pub(crate) fn note(&mut self, code: u64) {
        self.hash =
            (self.hash.rotate_left(5) ^ code ^ self.now).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(crate) fn note_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let last = rest.iter().fold(bytes.len() as u64, |sum, byte| sum << 8 | u64::from(*byte));
        let mut hash = self.hash ^ last;
        for word in words {
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.hash = hash;
        self.note(1);
    }

    /// Something rare happened.
    pub(crate) fn saw(&mut self, what: Rare, times: u64) {
        self.seen[what as usize] += times;
    }

    /// Writes a line of the trace, if one is written.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let seconds = self.now as f64 / SEC as f64;
            trace.push(format!("{seconds:10.6}  {}", line()));
        }
    }

    /// An invariant does not hold. The first time counts.
    pub(crate) fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.say(|| format!("VIOLATION: {what}"));
            self.violation = Some(what);
        }
    }

    /// Whether a fault of this many in a thousand strikes now.
    pub(crate) fn strikes(&mut self, permille: u64) -> bool {
        self.turbulent && permille > 0 && self.rng.permille(permille)
    }
}
