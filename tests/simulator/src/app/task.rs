//! The task that takes what happened on the stream, as `core/src/net/app/task.rs` has it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use appxmpp::service::{Delivery, Inbound, turns};
use appxmpp::stanza::{Condition, Stanza, StanzaKind};
use bytes::Bytes;

use super::{
    ANSWER_TIMEOUT, App, Deliveries, EVENTS, Outcome, ROOM_TIMEOUT, ROUND, Task, Told, of_stanza,
};
use crate::contacts;
use crate::ctx::{Ctx, Rare, Time};
use crate::disk::Disk;
use crate::link::{Event, Submitted};
use crate::oracle::{self, Oracle, attribute};
use crate::roster::Verb;
use crate::server::Server;

impl App {
    pub(super) fn step_task(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        disk: &dyn Disk,
    ) -> bool {
        if self.task_until > ctx.now || self.write_backlog(ctx, server) {
            return false;
        }
        match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Idle => {}
            Task::Saying { arrived, mut sends, mut lasting, accepted, stored: Some(stored) } => {
                if stored {
                    lasting.drain(..accepted);
                }
                self.note_unheard(ctx, &lasting);
                sends.extend(lasting);
                self.keep_arrived(ctx, server, arrived, sends);
                return true;
            }
            Task::Asking { until, waiting, behind } if until <= ctx.now => {
                self.release(ctx, &waiting, behind);
                return true;
            }
            Task::Adopting(adoption) => return self.adopt(ctx, adoption),
            Task::Room { waiting, sends, until } => {
                self.deliver(ctx, server, waiting, sends, until);
                // Those that take the room may wait for their turn.
                return matches!(self.task, Task::Idle) || self.release_now(ctx);
            }
            waiting @ (Task::Saying { .. } | Task::Keeping { .. } | Task::Asking { .. }) => {
                self.task = waiting;
                return false;
            }
        }
        if let Some(until) = Self::lags(ctx) {
            self.task_until = until;
            return false;
        }
        let kept = self.keep_usage_in_time(ctx, disk);
        if self.hear_news(ctx) {
            return true;
        }
        if self.service.is_evicted() {
            return false;
        }
        // What is due at once comes in any order.
        if (self.link.events.is_empty() || ctx.rng.permille(500)) && self.ask_turns(ctx) {
            return true;
        }
        if !self.link.events.is_empty() {
            self.take(ctx, server, disk);
            return true;
        }
        let due = self.link.is_ready()
            && self.link.has_room(ctx)
            && self.service.poll_timeout().is_some_and(|due| due <= ctx.now());
        if due {
            let sends = self.service.handle_timeout(ctx.now(), ROUND);
            self.write(ctx, server, &sends);
        }
        due || kept
    }

    pub(super) fn take(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &dyn Disk) {
        let utc = self.tell_time(ctx);
        let count = self.link.events.len().min(EVENTS);
        let events: Vec<Event> = self.link.events.drain(..count).collect();
        let (mut sends, mut lasting) = (Vec::new(), Vec::new());
        let mut arrived = VecDeque::new();
        for event in events {
            match event {
                Event::Stanza { conn, stanza } => {
                    let at = of_stanza(&stanza).filter(|(_, app, _)| *app == self.number);
                    if let Some((contact, app, number)) = at {
                        oracle::received(ctx, app, (contact, number), self.run, conn);
                    }
                    let inbound = self.handle_stanza(ctx, disk, utc, stanza);
                    let into = if inbound.lasting { &mut lasting } else { &mut sends };
                    into.extend(inbound.sends);
                    if let Some(delivery) = inbound.delivery {
                        self.check_address(ctx, &delivery);
                        arrived.push_back(delivery);
                    }
                }
                Event::Ready => {
                    ctx.note(4);
                    self.service.handle_ready(ctx.now());
                }
                Event::Disconnected => self.service.handle_disconnected(),
                Event::Acked(position) => {
                    let up_to = self.outbox.acked(position);
                    self.forget(up_to);
                }
                Event::Cut { position, blamed } => {
                    let up_to = self.outbox.lost(position, blamed);
                    self.cut = position;
                    self.give_up(up_to);
                }
            }
        }
        if disk.has_crashed() {
            return;
        }
        if ctx.profile.durable && !lasting.is_empty() {
            let accepted = self.keep_lasting(ctx, &lasting);
            let stored = (accepted == 0).then_some(false);
            self.task = Task::Saying { arrived, sends, lasting, accepted, stored };
        } else {
            sends.extend(lasting);
            self.keep_arrived(ctx, server, arrived, sends);
        }
    }

    /// What there was no room for is sent as everything else is.
    fn note_unheard(&self, ctx: &mut Ctx, stanzas: &[Bytes]) {
        if self.link.is_ready() {
            return;
        }
        for stanza in stanzas {
            let text = String::from_utf8_lossy(stanza);
            let contact = attribute(&text, "to").and_then(contacts::of_address);
            if let Some(contact) = contact {
                ctx.oracle.pairs[self.number][contact].unheard = true;
            }
        }
    }

    /// Stores what came for the app, and delivers it.
    fn keep_arrived(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        arrived: VecDeque<Delivery>,
        sends: Vec<Bytes>,
    ) {
        if ctx.profile.durable && !arrived.is_empty() {
            let changes = arrived.iter().map(|it| self.service.keep_delivery(it)).collect();
            let told = Arc::clone(&self.told);
            let done = move |stored| {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(Told::Kept(Outcome::of(stored)));
            };
            self.service.submit_placed(changes, Box::new(done));
            self.task = Task::Keeping { arrived, sends };
        } else {
            self.deliver(ctx, server, arrived, sends, ctx.now + ROOM_TIMEOUT);
        }
    }

    /// The service gets a stanza; what it does with a subscription is compared with RFC 6121.
    pub(super) fn handle_stanza(
        &mut self,
        ctx: &mut Ctx,
        disk: &dyn Disk,
        utc: std::time::Duration,
        stanza: Stanza,
    ) -> Inbound {
        let verb = stanza.type_().and_then(Verb::parse);
        let contact = of_stanza(&stanza).map(|(contact, ..)| contact);
        let (verb, contact) = match (stanza.kind(), verb, contact) {
            (StanzaKind::Presence, Some(verb), Some(contact)) => (verb, contact),
            _ => return self.service.handle_stanza(utc, stanza),
        };
        let before = self.relation(disk, contact);
        let mut after = before;
        let mut says = after.app_hears(verb);
        let faults = disk.faults();
        let inbound = self.service.handle_stanza(utc, stanza);
        if disk.has_crashed() {
            return inbound;
        }
        if disk.faults() > faults && disk.database().is_some() {
            ctx.oracle.pairs[self.number][contact].disputed = true;
            return inbound;
        }
        let not_stored = disk.faults() > faults && before.name() != after.name();
        if not_stored && verb == Verb::Subscribe {
            (says, after) = (&[], before);
        }
        self.changed(ctx, disk, contact, (before, after), not_stored);
        let before = before.name();
        let said: Vec<Verb> = inbound
            .sends
            .iter()
            .filter_map(|xml| {
                let xml = String::from_utf8_lossy(xml);
                oracle::attribute(&xml, "type").and_then(Verb::parse)
            })
            .collect();
        if said != says {
            ctx.violated(|| {
                format!("to {verb:?} from contact {contact} in {before:?} the app says {said:?}, not {says:?}")
            });
        }
        inbound
    }

    /// The disk has what came, or has not.
    pub(super) fn kept(&mut self, ctx: &mut Ctx, stored: &Outcome) {
        if let Task::Keeping { arrived, .. } = &self.task {
            for delivery in arrived.iter().filter(|_| stored.is_stored()) {
                if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
                    ctx.oracle.pairs[app][contact].inbound[number].stored = true;
                }
            }
        }
        let task = std::mem::replace(&mut self.task, Task::Idle);
        let Task::Keeping { mut arrived, mut sends } = task else { return };
        match stored {
            Outcome::Stored(placed) => turns::place(arrived.make_contiguous(), placed),
            _ => {
                self.service.not_kept(arrived.make_contiguous());
                self.refuse_unstored(ctx, &mut arrived, &mut sends);
            }
        }
        self.task = Task::Room { waiting: arrived, sends, until: ctx.now + ROOM_TIMEOUT };
    }

    /// What a crash would lose is not taken: its sender is told, where one tells senders.
    pub(super) fn refuse_unstored(
        &self,
        ctx: &mut Ctx,
        arrived: &mut VecDeque<Delivery>,
        sends: &mut Vec<Bytes>,
    ) {
        arrived.retain(|delivery| {
            let answer = self.service.refuse(delivery, Condition::ResourceConstraint);
            let is_taken = answer.is_none();
            if !is_taken {
                self.note_refused(ctx, delivery);
            }
            sends.extend(answer);
            is_taken
        });
    }

    pub(super) fn push(&mut self, ctx: &Ctx, delivery: Delivery) -> Result<(), Box<Delivery>> {
        if self.stopping {
            return Err(Box::new(delivery));
        }
        match &mut self.deliveries {
            Deliveries::Lanes(lanes) => lanes.push(delivery),
            Deliveries::Inbox(inbox) => inbox.push(ctx.now(), delivery),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        match &self.deliveries {
            Deliveries::Lanes(lanes) => lanes.len(),
            Deliveries::Inbox(inbox) => inbox.len(),
        }
    }

    pub(super) fn deliver(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        mut waiting: VecDeque<Delivery>,
        mut sends: Vec<Bytes>,
        mut until: Time,
    ) {
        while let Some(delivery) = waiting.pop_front() {
            if let Err(delivery) = self.push(ctx, delivery) {
                let full = self.waiting() >= ctx.profile.lane_deliveries;
                if !self.stopping && full && until > ctx.now {
                    self.write(ctx, server, &std::mem::take(&mut sends));
                    waiting.push_front(*delivery);
                    self.task = Task::Room { waiting, sends, until };
                    return;
                }
                self.refuse(ctx, &delivery, &mut sends);
            }
            until = ctx.now + ROOM_TIMEOUT;
        }
        self.write(ctx, server, &sends);
    }

    /// There is no room: the sender is told.
    pub(super) fn refuse(&mut self, ctx: &mut Ctx, delivery: &Delivery, sends: &mut Vec<Bytes>) {
        ctx.note(5);
        ctx.saw(Rare::NoRoom, 1);
        self.note_refused(ctx, delivery);
        sends.extend(self.service.refuse(delivery, Condition::ResourceConstraint));
        if ctx.profile.durable {
            self.service.forget_delivery(delivery.id);
        }
    }

    pub(super) fn note_refused(&self, ctx: &mut Ctx, delivery: &Delivery) {
        if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
            ctx.say(|| format!("app {app}: k{contact}-{app}-{number} is refused"));
            ctx.oracle.pairs[app][contact].inbound[number].refused = self.run;
        }
    }

    /// Writes answers, as soon as there is room for them.
    pub(crate) fn write(&mut self, ctx: &mut Ctx, server: &mut Server, sends: &[Bytes]) {
        if sends.is_empty() {
            return;
        }
        if self.backlog.is_empty() {
            self.backlog_until = ctx.now + ANSWER_TIMEOUT;
        }
        self.backlog.extend_from_slice(sends);
        self.write_backlog(ctx, server);
    }

    /// Writes what waits for room; says whether anything still does. Those that the server does not take
    /// in time are counted by the product.
    fn write_backlog(&mut self, ctx: &mut Ctx, server: &mut Server) -> bool {
        if self.backlog.is_empty() {
            return false;
        }
        let submitted = self.link.submit(ctx, server, &self.backlog, None);
        let late = self.backlog_until <= ctx.now;
        if matches!(submitted, Submitted::Full) && !late {
            return true;
        }
        let sends = std::mem::take(&mut self.backlog);
        if matches!(submitted, Submitted::Taken(..)) {
            return false;
        }
        for xml in sends {
            let xml = String::from_utf8_lossy(&xml);
            let at = oracle::attribute(&xml, "id").and_then(contacts::of_id);
            if let Some((contact, app, number)) = at {
                ctx.oracle.pairs[app][contact].inbound[number].excused = true;
            }
            // Only a new stream tells a contact again.
            let to = oracle::attribute(&xml, "to").and_then(contacts::of_address);
            if let Some(contact) = to.filter(|_| matches!(submitted, Submitted::Full)) {
                Oracle::presence(ctx, self.number, contact, true);
            }
        }
        false
    }
}
