//! What is used of the quotas survives the process: all of it an end in order, and all but the last
//! minute's a crash.

use appxmpp::service::Resource;

use super::App;
use crate::contacts;
use crate::ctx::{Ctx, SEC, Time};
use crate::disk::{Disk, Used};

/// As `core/src/net/app/task.rs` has it.
const USAGE_EVERY: Time = 60 * SEC;
/// A flush of the disk is never so late.
const FLUSHED: Time = SEC;

/// What the disk must say about an app.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// At least.
    kept: Used,
    /// At most: what was used when the last process ended.
    used: Used,
}

/// What the disk was given last.
#[derive(Debug)]
pub(super) struct Keeping {
    next: Time,
    given: Option<(Time, u64, Used)>,
}

impl Keeping {
    pub(super) fn new(now: Time) -> Self {
        Self { next: now + USAGE_EVERY, given: None }
    }

    pub(super) fn next(&self) -> Time {
        self.next
    }
}

impl App {
    pub(super) fn used_with_looks(&self) -> Used {
        let mut used = self.used;
        used.counts[Resource::ApiCalls as usize] += self.looks.get();
        used
    }

    pub(super) fn keep_usage_in_time(&mut self, ctx: &mut Ctx, disk: &dyn Disk) -> bool {
        let due = self.keeping.next <= ctx.now;
        if due {
            self.keep_usage(ctx, disk);
        }
        due
    }

    pub(super) fn keep_usage(&mut self, ctx: &mut Ctx, disk: &dyn Disk) {
        self.note_kept(ctx, disk, ctx.now);
        self.service.keep_usage();
        self.keeping.given = Some((ctx.now, disk.faults(), self.used_with_looks()));
        self.keeping.next = ctx.now + USAGE_EVERY;
    }

    /// What the disk was given is on it some time later, unless it was at fault.
    fn note_kept(&mut self, ctx: &mut Ctx, disk: &dyn Disk, now: Time) {
        let given = self.keeping.given.take();
        let given = given.filter(|(at, faults, _)| at + FLUSHED <= now && *faults == disk.faults());
        if let Some((.., used)) = given {
            ctx.oracle.usage[self.number].kept = used;
        }
    }

    /// The process ends; `flushed` says that the disk has what it was given.
    pub(super) fn note_used(&mut self, ctx: &mut Ctx, disk: &dyn Disk, flushed: bool) {
        let now = if flushed { Time::MAX } else { ctx.now };
        self.note_kept(ctx, disk, now);
        ctx.oracle.usage[self.number].used = self.used_with_looks();
    }

    pub(super) fn check_kept(ctx: &mut Ctx, disk: &dyn Disk, number: usize) {
        if disk.database().is_some() {
            return;
        }
        let counts = disk.counts(&contacts::domain(number));
        let Usage { kept, used } = ctx.oracle.usage[number];
        for resource in Resource::ALL {
            let (name, at) = (resource.as_str(), resource as usize);
            let count = counts.iter().find(|count| &*count.name == name);
            let (day, value) = count.map_or((0, 0), |count| (count.day, count.value));
            if (day, value) < (kept.day, kept.counts[at]) && kept.counts[at] > 0 {
                ctx.violated(|| {
                    format!("{name} was {} and is {value} after a restart", kept.counts[at])
                });
            }
            if (day, value) > (used.day, used.counts[at]) && value > 0 {
                ctx.violated(|| {
                    format!("{name} is {value} after a restart, of {} used", used.counts[at])
                });
            }
        }
    }
}
