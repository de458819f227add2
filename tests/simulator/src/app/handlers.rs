//! The app's handlers, which take some time and sometimes fail.

use std::sync::Arc;

use appxmpp::service::{Attempt, Delivery, Ticket, Verdict};
use appxmpp::stanza::Condition;

use super::{App, Deliveries, Running, of_stanza};
use crate::contacts;
use crate::ctx::{Ctx, MS, Rare, SEC, duration};
use crate::disk::Disk;
use crate::oracle;
use crate::server::Server;

impl App {
    pub(super) fn step_handlers(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        disk: &dyn Disk,
    ) -> bool {
        let mut moved = false;
        while let Some(at) = self.running.iter().position(|it| it.until <= ctx.now) {
            if disk.has_crashed() {
                return false;
            }
            let running = self.running.remove(at);
            self.finish(ctx, server, disk, running);
            moved = true;
        }
        while self.running.len() < ctx.profile.workers && self.service.holds() {
            let claimed = match &mut self.deliveries {
                Deliveries::Lanes(lanes) => lanes.claim(1),
                Deliveries::Inbox(inbox) => inbox.claim(ctx.now(), 1),
            };
            let Some((ticket, delivery)) = claimed.into_iter().next() else { break };
            self.begin(ctx, ticket, delivery);
            moved = true;
        }
        moved
    }

    pub(super) fn begin(&mut self, ctx: &mut Ctx, ticket: Ticket, delivery: Arc<Delivery>) {
        let again = match &self.deliveries {
            Deliveries::Inbox(inbox) => inbox.attempts(delivery.id) > 0,
            Deliveries::Lanes(_) => false,
        };
        ctx.note(delivery.id ^ 6);
        if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
            ctx.say(|| {
                format!(
                    "app {}: gets k{contact}-{app}-{number} as delivery {}, turn {}",
                    self.number, delivery.id, delivery.place.turn
                )
            });
            let apps = (self.number, app);
            oracle::acts(ctx, self.run, self.number, "deliver");
            let place = (delivery.id, delivery.place.turn);
            oracle::delivered(ctx, apps, (contact, number), place, self.run, again);
        }
        let down = self.down_until > ctx.now;
        let attempt = if down {
            Attempt::Unanswered
        } else if ctx.strikes(ctx.profile.app_fails) {
            let asked = ctx.rng.permille(300).then(|| duration(ctx.rng.below(3 * SEC)));
            match ctx.rng.pick(&[0, 500, 502, 503, 503, 504]) {
                0 => Attempt::Unanswered,
                status => Attempt::Answered { status, retry_after: asked },
            }
        } else {
            Attempt::Answered { status: 200, retry_after: None }
        };
        let slow = ctx.strikes(ctx.profile.app_slow);
        let takes = if slow { ctx.rng.below(4 * SEC) } else { ctx.rng.below(5 * MS) };
        self.running.push(Running { ticket, delivery, until: ctx.now + takes, attempt });
    }

    pub(super) fn finish(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        disk: &dyn Disk,
        it: Running,
    ) {
        let Running { ticket, delivery, attempt, .. } = it;
        let verdict = match &mut self.deliveries {
            Deliveries::Lanes(lanes) => {
                lanes.done(&ticket);
                Verdict::Done
            }
            Deliveries::Inbox(inbox) => {
                inbox.finish(ctx.now(), ticket, Arc::clone(&delivery), attempt)
            }
        };
        let at = of_stanza(&delivery.stanza);
        if let Some((contact, app, number)) = at {
            oracle::finished(ctx, app, (contact, number), self.run, verdict == Verdict::Done);
        }
        match verdict {
            Verdict::Done if ctx.profile.durable => match at {
                Some(at) if !self.stopping && ctx.rng.permille(300) => {
                    self.answer(ctx, at, delivery.id);
                }
                _ => self.service.forget_delivery(delivery.id),
            },
            Verdict::Done => {}
            Verdict::RetryAt(_) => ctx.saw(Rare::Retried, 1),
            Verdict::Dead => {
                ctx.saw(Rare::DeadLetter, 1);
                let (utc, faults) = (ctx.utc(), disk.faults());
                let dead = self.service.delivery_dead(delivery.id, utc, "no answer");
                self.service.settle_delivery(dead);
                disk.flush();
                if disk.has_crashed() {
                    return;
                }
                if let Some((contact, app, number)) = at {
                    let inbound = &mut ctx.oracle.pairs[app][contact].inbound[number];
                    inbound.dead = true;
                    // Another process that refused it, not knowing that it was stored, may have had it
                    // forgotten after this one took it over.
                    let stored = inbound.stored && inbound.refused == 0;
                    let queue = contacts::domain(app);
                    if disk.faults() == faults
                        && stored
                        && !disk.dead_ids(&queue).contains(&delivery.id)
                    {
                        ctx.violated(|| format!("dead letter k{contact}-{app}-{number} is gone"));
                    }
                }
                self.note_refused(ctx, &delivery);
                let answer = self.service.refuse(&delivery, Condition::RecipientUnavailable);
                self.write(ctx, server, &answer.into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// The oldest dead letter is to be delivered again; says whether there was one and it is.
    pub(crate) fn replay(&mut self, ctx: &mut Ctx, disk: &dyn Disk) -> bool {
        let Deliveries::Inbox(inbox) = &mut self.deliveries else { return false };
        let dead = disk.dead_ids(&contacts::domain(self.number));
        let Some(id) = dead.first().copied() else { return false };
        ctx.say(|| format!("app {}: delivery {id} is replayed", self.number));
        oracle::replaying(ctx, self.number, id);
        let replayed = self.service.replay_dead_letters(&[id].into());
        if disk.has_crashed() {
            return false;
        }
        let delivery = replayed.ok().and_then(|replayed| replayed.into_iter().next());
        let Some(delivery) = delivery else { return false };
        if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
            ctx.saw(Rare::Replayed, 1);
            oracle::replayed(ctx, app, (contact, number));
        }
        self.surplus.1 += 1;
        inbox.restore(ctx.now(), ctx.utc(), delivery);
        true
    }
}
