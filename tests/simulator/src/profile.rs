//! What one scenario is like: a small random part of all faults, so that each has a chance to matter.

use crate::ctx::{MS, SEC, Time};
use crate::rng::Rng;

#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) apps: usize,
    pub(crate) contacts: usize,
    /// Calls, deeds and faults.
    pub(crate) acts: u64,
    pub(crate) act_every: Time,
    /// How many processes serve the apps.
    pub(crate) processes: usize,
    /// The server takes several connections of a component, and spreads over them what comes.
    pub(crate) spreads: bool,
    /// It keeps the share of a process that is gone for a new connection, and drops what comes meanwhile.
    pub(crate) keeps_places: bool,
    /// With an outbox, and deliveries on the disk.
    pub(crate) durable: bool,
    pub(crate) outbox_stanzas: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) expiry: Time,
    pub(crate) lane_deliveries: usize,
    pub(crate) lane_per_sender: usize,
    /// How many events of the stream may wait for the app's task.
    pub(crate) inbound: usize,
    /// How many stanzas may wait to be written.
    pub(crate) outbound: usize,
    pub(crate) barrier_stanzas: u64,
    pub(crate) barrier_within: Time,
    pub(crate) keepalive_idle: Time,
    pub(crate) keepalive_answer: Time,
    pub(crate) quota_recipients: Option<u64>,
    pub(crate) quota_invitations: Option<u64>,
    /// The second stream of a component replaces the first instead of being refused.
    pub(crate) replaces: bool,
    /// A ping to the own domain comes back as it went out, instead of as an error.
    pub(crate) echoes_pings: bool,
    pub(crate) workers: usize,
    pub(crate) flush: Time,
    pub(crate) latency: Time,
    // Chances in a thousand, of each occasion.
    pub(crate) splits: u64,
    pub(crate) cut_in_write: u64,
    pub(crate) lag: u64,
    pub(crate) app_fails: u64,
    pub(crate) app_slow: u64,
    // Weights of what happens next.
    pub(crate) faults: Vec<(u64, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    HalfOpen,
    ServerRestart,
    ServerPause,
    ProcessPause,
    Blocked,
    Crash,
    CrashAtWrite,
    Stop,
    DiskFull,
    ClockForth,
    ClockBack,
    ContactVanishes,
    Poison,
    Misrouted,
    AppDown,
    /// One process is out of the database's reach.
    DatabaseCut,
    DatabaseRestart,
}

const FAULTS: [Fault; 16] = [
    Fault::Cut,
    Fault::HalfOpen,
    Fault::ServerRestart,
    Fault::ServerPause,
    Fault::ProcessPause,
    Fault::Blocked,
    Fault::Crash,
    Fault::CrashAtWrite,
    Fault::Stop,
    Fault::DiskFull,
    Fault::ClockForth,
    Fault::ClockBack,
    Fault::ContactVanishes,
    Fault::Poison,
    Fault::Misrouted,
    Fault::AppDown,
];

/// Of processes that share a database.
const SHARED_FAULTS: [Fault; 2] = [Fault::DatabaseCut, Fault::DatabaseRestart];

impl Profile {
    /// How many stanzas may wait with those that nobody asks for twice, for which an eighth more is kept.
    pub(crate) fn outbox_room(&self) -> usize {
        self.outbox_stanzas + self.outbox_stanzas.div_ceil(8)
    }

    /// One of two processes that share a database.
    pub(crate) fn draw_shared(rng: &mut Rng, spreads: bool) -> Self {
        let mut it = Self::draw(rng);
        let calm = it.faults.is_empty();
        for fault in SHARED_FAULTS {
            if !calm && rng.permille(400) {
                it.faults.push((rng.range(10, 60), fault));
            }
        }
        it.processes = 2;
        (it.spreads, it.keeps_places) = (spreads, rng.permille(500));
        (it.durable, it.replaces) = (true, false);
        (it.quota_recipients, it.quota_invitations) = (None, None);
        it
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.processes > 1
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut faults = Vec::new();
        // Every eighth scenario is calm.
        if !rng.permille(125) {
            for fault in FAULTS {
                if rng.permille(250) {
                    faults.push((rng.range(10, 60), fault));
                }
            }
        }
        let calm = faults.is_empty();
        let small = rng.permille(300);
        let mut chance = |odds: u64, low: u64, high: u64| {
            if !calm && rng.permille(odds) { rng.range(low, high) } else { 0 }
        };
        let (splits, cut_in_write) = (chance(600, 50, 700), chance(250, 5, 60));
        let (lag, app_fails, app_slow) =
            (chance(400, 20, 300), chance(400, 50, 500), chance(400, 50, 400));
        Self {
            apps: if rng.permille(250) { 2 } else { 1 },
            contacts: rng.range(2, 4) as usize,
            acts: rng.range(10, 45),
            act_every: rng.pick(&[20 * MS, 100 * MS, 400 * MS, 2 * SEC]),
            processes: 1,
            spreads: false,
            keeps_places: false,
            durable: rng.permille(750),
            outbox_stanzas: if small { rng.range(1, 8) as usize } else { 1000 },
            outbox_bytes: if rng.permille(150) { 2000 } else { 1 << 20 },
            expiry: if rng.permille(150) { rng.range(2, 20) * SEC } else { 86_400 * SEC },
            lane_deliveries: if small { rng.range(1, 6) as usize } else { 1000 },
            lane_per_sender: if rng.permille(150) { rng.range(1, 3) as usize } else { 100 },
            inbound: if rng.permille(200) { rng.range(1, 4) as usize } else { 256 },
            outbound: if rng.permille(200) { rng.range(1, 4) as usize } else { 1000 },
            barrier_stanzas: rng.pick(&[1, 3, 512]),
            barrier_within: rng.pick(&[10 * MS, 200 * MS, SEC]),
            keepalive_idle: rng.pick(&[3 * SEC, 10 * SEC]),
            keepalive_answer: rng.pick(&[2 * SEC, 5 * SEC]),
            quota_recipients: rng.permille(150).then(|| rng.range(1, 20)),
            quota_invitations: rng.permille(150).then(|| rng.range(0, 3)),
            replaces: rng.permille(300),
            echoes_pings: rng.permille(500),
            workers: rng.range(1, 4) as usize,
            flush: rng.pick(&[50, MS, 20 * MS]),
            latency: rng.pick(&[20, MS, 30 * MS]),
            splits,
            cut_in_write,
            lag,
            app_fails,
            app_slow,
            faults,
        }
    }
}
