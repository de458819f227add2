//! What has to be true of one app at every step.

use appxmpp::service::{Delivery, Show};

use super::{App, Task};
use crate::contacts;
use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::roster::Relation;

impl App {
    /// The subscriptions with a contact should be `after`, also in the store.
    pub(crate) fn changed(
        &mut self,
        ctx: &mut Ctx,
        disk: &dyn Disk,
        contact: usize,
        (before, after): (Relation, Relation),
        not_stored: bool,
    ) {
        let changed = before.name() != after.name();
        let lags = if changed { not_stored } else { self.relations[contact].1 };
        self.relations[contact] = (after, lags);
        let kept = disk.subscription(&contacts::own(self.number), &contacts::address(contact));
        ctx.note(kept as u64);
        if !lags && kept != after.name() {
            let (before, after) = (before.name(), after.name());
            ctx.violated(|| {
                format!(
                    "contact {contact} was in {before:?}; the store has {kept:?}, not {after:?}"
                )
            });
        }
    }

    /// The subscriptions with a contact, as they should be.
    pub(crate) fn relation(&self, disk: &dyn Disk, contact: usize) -> Relation {
        if disk.database().is_none() {
            return self.relations[contact].0;
        }
        // Another process may have changed them.
        let (own, contact) = (contacts::own(self.number), contacts::address(contact));
        Relation::of(disk.subscription(&own, &contact))
    }

    /// What the app shows of a contact.
    pub(crate) fn shows(&self, address: &str) -> Option<Show> {
        self.looks.set(self.looks.get() + 1);
        self.service.get_presence(&[address], None).ok()?.first()?.show
    }

    pub(super) fn check_address(&self, ctx: &mut Ctx, delivery: &Delivery) {
        let own = contacts::domain(self.number);
        if delivery.stanza.to().is_none_or(|to| to.domainpart() != own) {
            let to = delivery.field("to").unwrap_or_default();
            ctx.violated(|| format!("what is addressed to {to} was taken by {own}"));
        }
    }

    /// The outbox's own counts of what it gave up.
    fn note_given_up(&mut self, ctx: &mut Ctx) {
        let stats = self.outbox.stats();
        ctx.oracle.expired += stats.expired - self.seen.0;
        ctx.oracle.poisonous += stats.poisonous - self.seen.1;
        self.seen = (stats.expired, stats.poisonous);
    }

    /// The process ends, which may be before it learned that the disk forgot what it gave up.
    pub(crate) fn note_end(&mut self, ctx: &mut Ctx, disk: &dyn Disk, flushed: bool) {
        self.note_given_up(ctx);
        self.note_used(ctx, disk, flushed);
        if self.giving_up {
            ctx.oracle.perhaps_given_up += self.outbox.stats().waiting as u64;
        }
    }

    pub(super) fn check_bounds(&mut self, ctx: &mut Ctx) {
        self.note_given_up(ctx);
        let stats = self.outbox.stats();
        let most = ctx.profile.outbox_room().max(self.surplus.0);
        if stats.waiting > most {
            ctx.violated(|| format!("{} messages wait where {most} may", stats.waiting));
        }
        let waiting = self.waiting();
        let most = ctx.profile.lane_deliveries + self.surplus.1;
        if waiting > most {
            ctx.violated(|| format!("{waiting} deliveries wait where {most} may"));
        }
        if self.service.is_shared() {
            return;
        }
        let usage = self.service.usage();
        for (usage, counted) in usage.iter().zip(self.used_with_looks().counts) {
            if usage.used != counted {
                let (name, used) = (usage.resource.as_str(), usage.used);
                ctx.violated(|| format!("{name} is {used} and should be {counted}"));
            }
        }
    }

    /// At rest with a stream nothing waits; standing by, what was accepted before waits for the stream.
    pub(crate) fn is_at_rest(&self) -> bool {
        let at_rest = self.link.events.is_empty() && self.running.is_empty();
        match self.link.is_standby() {
            true => at_rest && self.has_no_work(),
            false => at_rest && self.link.is_ready() && self.is_idle(),
        }
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn describe(&self) -> String {
        let stats = self.outbox.stats();
        let task = match &self.task {
            Task::Idle => "idle",
            Task::Saying { .. } | Task::Keeping { .. } => "waiting for the disk",
            Task::Asking { .. } => "waiting for its turn",
            Task::Adopting(_) => "taking over",
            Task::Room { .. } => "waiting for room",
        };
        format!(
            "app {} of run {}: ready {}, standby {}, {} to send ({} in flight), {} to deliver, {} running, task {task}",
            self.number,
            self.run,
            self.link.is_ready(),
            self.link.is_standby(),
            stats.waiting,
            stats.in_flight,
            self.waiting(),
            self.running.len(),
        )
    }
}
