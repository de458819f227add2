//! The outbox, as `core/src/net/outbox.rs` has it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use appxmpp::service::outbox::Accepted;
use appxmpp::service::{Outbox, Outgoing, Sending};
use appxmpp::store::{Change, Durability};
use bytes::Bytes;

use super::{App, BATCH_BYTES, Gathering, Item, Outcome, Task, Told};
use crate::contacts;
use crate::ctx::{Ctx, Rare, SEC, time};
use crate::link::Submitted;
use crate::oracle;
use crate::server::Server;

impl App {
    /// Stores the messages of a call.
    pub(crate) fn keep(&mut self, ctx: &mut Ctx, sending: &Sending, messages: &[usize]) {
        let count = if self.sends_elsewhere() {
            0
        } else {
            self.gather(ctx, Outbox::accept, &sending.stanzas, |count| {
                messages[..count].iter().copied().map(Item::Message).collect()
            })
        };
        for refused in &messages[count..] {
            ctx.oracle.messages[*refused].denied = true;
        }
    }

    /// Sends presence of the app's own accord: by way of the outbox, if there is one.
    pub(crate) fn send_one(
        &mut self,
        ctx: &mut Ctx,
        server: &mut Server,
        contact: usize,
        stanza: Bytes,
    ) {
        let in_vain = if self.sends_elsewhere() {
            true
        } else if ctx.profile.durable {
            let presence = |_| vec![Item::Presence(contact)];
            self.gather(ctx, Outbox::accept, &[Outgoing::whole(stanza)], presence) == 0
        } else {
            // Without an outbox a call does not wait for room.
            matches!(self.link.submit(ctx, server, &[stanza], None), Submitted::Full)
        };
        ctx.oracle.pairs[self.number][contact].said_in_vain |= in_vain;
    }

    /// Stores what nobody asks for twice; says how much of it there was room for.
    pub(super) fn keep_lasting(&mut self, ctx: &mut Ctx, stanzas: &[Bytes]) -> usize {
        let outgoing: Vec<_> = stanzas.iter().cloned().map(Outgoing::whole).collect();
        self.gather(ctx, Outbox::accept_lasting, &outgoing, |_| vec![Item::Lasting])
    }

    /// Answers a delivery: the disk gets, all or none, the answer and that the delivery is done.
    pub(super) fn answer(
        &mut self,
        ctx: &mut Ctx,
        (contact, app, number): (usize, usize, usize),
        delivery: u64,
    ) {
        let (call, utc) = (ctx.oracle.next_call(), ctx.utc());
        let (from, to) = (contacts::own(app), contacts::address(contact));
        let xml = format!(
            "<message from='{from}' to='{to}' id='r{call}'><body>m{call} answers</body></message>"
        );
        let (flags, of_run) = ((true, false), (self.run, ctx.now));
        let message =
            ctx.oracle.made((app, contact), call, xml.as_bytes(), time(utc), flags, of_run);
        let stanzas = [Outgoing::whole(xml.into())];
        if self.service.is_shared() {
            self.outbox.leave_room();
        }
        let accepted = self.outbox.accept(utc, &stanzas);
        if accepted.is_empty() {
            ctx.saw(Rare::OutboxFull, 1);
            ctx.oracle.messages[message].denied = true;
            return self.service.forget_delivery(delivery);
        }
        ctx.oracle.pairs[app][contact].inbound[number].answer = Some(message);
        let row = self.outbox.row(utc, &accepted, &stanzas);
        let put = Change::OutboxPut(Arc::clone(self.service.queue()), row);
        let told = Arc::clone(&self.told);
        let done = move |stored| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(Told::Answered(accepted, message, delivery, Outcome::of(stored)));
        };
        let changes = vec![self.service.delivery_done(delivery), put];
        self.service.submit_placed(changes, Box::new(done));
    }

    /// The disk has an answer, or has not: then the delivery is done without.
    pub(super) fn answered(
        &mut self,
        ctx: &mut Ctx,
        accepted: &Accepted,
        message: usize,
        delivery: u64,
        stored: &Outcome,
    ) {
        stored.note(&mut ctx.oracle.messages[message]);
        self.suspect(ctx, std::slice::from_ref(accepted), stored);
        if stored.is_stored() {
            self.outbox.stored(accepted);
        } else {
            self.outbox.not_stored(accepted);
            self.service.forget_delivery(delivery);
        }
    }

    /// Takes what a call sends, or as much as there is room for.
    fn gather(
        &mut self,
        ctx: &mut Ctx,
        accept: fn(&mut Outbox, Duration, &[Outgoing]) -> Accepted,
        stanzas: &[Outgoing],
        items: impl Fn(usize) -> Vec<Item>,
    ) -> usize {
        let utc = ctx.utc();
        let before = self.outbox.stats();
        if self.service.is_shared() && self.gathering.rows.is_empty() {
            self.outbox.leave_room();
        }
        let accepted = accept(&mut self.outbox, utc, stanzas);
        let count = accepted.len();
        let bound = match items(count)[..] {
            [Item::Lasting] => ctx.profile.outbox_room(),
            _ => ctx.profile.outbox_stanzas,
        };
        let room = bound.saturating_sub(before.waiting);
        if count > room.min(stanzas.len()) {
            ctx.violated(|| format!("the outbox took {count} where there was room for {room}"));
        }
        ctx.saw(Rare::OutboxFull, (stanzas.len() - count) as u64);
        if count == 0 {
            return 0;
        }
        let gathering = &mut self.gathering;
        gathering.items.extend(items(count));
        let joined = gathering.rows.last_mut();
        if !joined.is_some_and(|row| self.outbox.join(row, utc, &accepted, stanzas)) {
            gathering.rows.push(self.outbox.row(utc, &accepted, stanzas));
        }
        // Else the writer comes after others who are about to send.
        if ctx.rng.permille(500) {
            self.go_on_storing();
        }
        count
    }

    /// Gives the store what has gathered, unless it still has something to do.
    fn go_on_storing(&mut self) -> bool {
        if self.storing || self.gathering.rows.is_empty() {
            return false;
        }
        self.storing = true;
        let Gathering { rows, items } = std::mem::take(&mut self.gathering);
        let (told, calls) = (Arc::clone(&self.told), Accepted::calls(&rows));
        let done = move |stored| {
            let news = Told::Put(calls, items, Outcome::of(stored));
            told.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        };
        let put = |row| Change::OutboxPut(Arc::clone(self.service.queue()), row);
        let changes = rows.into_iter().map(put).collect();
        self.service.submit_placed(changes, Box::new(done));
        true
    }

    /// The store has what it was given, or has not.
    pub(super) fn put(
        &mut self,
        ctx: &mut Ctx,
        calls: &[Accepted],
        items: &[Item],
        stored: &Outcome,
    ) {
        self.storing = false;
        self.suspect(ctx, calls, stored);
        for accepted in calls {
            if stored.is_stored() {
                self.outbox.stored(accepted);
            } else {
                self.outbox.not_stored(accepted);
            }
        }
        self.tell_put(ctx, items, stored);
    }

    /// Whoever waits for the store learns whether it has what he sends.
    fn tell_put(&mut self, ctx: &mut Ctx, items: &[Item], kept: &Outcome) {
        for item in items {
            match (item, &mut self.task) {
                (Item::Message(number), _) => {
                    kept.note(&mut ctx.oracle.messages[*number]);
                }
                (Item::Presence(contact), _) => {
                    ctx.oracle.pairs[self.number][*contact].said_in_vain |= !kept.is_stored();
                }
                (Item::Lasting, Task::Saying { stored, .. }) => *stored = Some(kept.is_stored()),
                _ => {}
            }
        }
    }

    /// What nobody will give to the store any more is refused.
    pub(super) fn give_up_gathered(&mut self, ctx: &mut Ctx) {
        let Gathering { rows, items } = std::mem::take(&mut self.gathering);
        for accepted in Accepted::calls(&rows) {
            self.outbox.not_stored(&accepted);
        }
        self.tell_put(ctx, &items, &Outcome::NotStored);
    }

    pub(super) fn step_writer(&mut self, ctx: &mut Ctx, server: &mut Server) -> bool {
        if self.writer_until > ctx.now {
            return false;
        }
        if let Some(until) = Self::lags(ctx) {
            self.writer_until = until;
            return false;
        }
        if self.expiry_at <= ctx.now {
            self.expiry_at = ctx.now + 5 * SEC;
            let up_to = self.outbox.handle_timeout(ctx.utc());
            self.give_up(up_to);
        }
        let mut moved = self.go_on_storing();
        self.hand_over(ctx);
        if self.look(ctx) {
            return moved;
        }
        while self.outbox.has_next() && self.service.holds() {
            let batch: Vec<Bytes> = self
                .outbox
                .next_batch(BATCH_BYTES)
                .map(|(head, tail)| [&head[..], &tail[..]].concat().into())
                .collect();
            match self.link.submit(ctx, server, &batch, Some(self.cut)) {
                Submitted::Taken(position, _) => {
                    oracle::acts(ctx, self.run, self.number, "send");
                    self.outbox.written(batch.len(), position);
                }
                Submitted::Full | Submitted::NotReady => break,
            }
            moved = true;
        }
        moved
    }

    /// Has the disk forget what is given up; [`Told::Forgotten`] says that it has, or has not.
    pub(super) fn give_up(&mut self, up_to: Option<u64>) {
        let Some(up_to) = up_to else { return };
        self.giving_up = true;
        let told = Arc::clone(&self.told);
        let done = move |stored: appxmpp::Result<()>| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(Told::Forgotten(stored.is_ok()));
        };
        let change = Change::OutboxDone(Arc::clone(self.service.queue()), up_to);
        self.service.submit(vec![change], Box::new(done));
    }

    pub(super) fn given_up(&mut self, forgotten: bool) {
        self.giving_up = false;
        self.outbox.given_up(forgotten);
    }

    pub(super) fn forget(&mut self, up_to: Option<u64>) {
        if let Some(up_to) = up_to {
            let change = Change::OutboxDone(Arc::clone(self.service.queue()), up_to);
            let _ = self.service.keep(vec![change], Durability::Soon);
        }
    }
}
