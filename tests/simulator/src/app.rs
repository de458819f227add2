//! One app: what `core/src/net/app/` does with the service, the outbox and the deliveries, one step
//! at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use appxmpp::service::outbox::Accepted;
use appxmpp::service::{
    Attempt, Delivery, Inbox, LaneLimits, Lanes, Outbox, OutboxLimits, Pace, Quotas, Resource,
    Retry, Service, ServiceConfig, Show, Ticket, Verdict,
};
use appxmpp::stanza::{Condition, Stanza, StanzaKind};
use appxmpp::store::{Change, Durability};
use bytes::Bytes;

use crate::contacts;
use crate::ctx::{Ctx, Ev, MS, NEVER, Rare, SEC, Time, duration, time};
use crate::disk::{Disk, Handle, Used};
use crate::link::{Event, Link, Submitted};
use crate::oracle;
use crate::roster::{Relation, Verb};
use crate::server::Server;

/// How long the server is kept waiting for room for a delivery.
const ROOM_TIMEOUT: Time = 5 * SEC;
/// How many events are taken at once.
const EVENTS: usize = 64;
const ROUND: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;

/// What the disk says when a change is on it, or is not.
#[derive(Debug)]
pub(crate) enum Told {
    Put(Accepted, Vec<usize>, bool),
    Kept(bool),
}

type Mailbox = Arc<Mutex<Vec<Told>>>;

enum Deliveries {
    /// As in an app: each is done after one attempt.
    Lanes(Lanes),
    /// With attempts, as behind HTTP.
    Inbox(Inbox),
}

/// A delivery that the app is handling.
struct Running {
    ticket: Ticket,
    delivery: Arc<Delivery>,
    until: Time,
    attempt: Attempt,
}

/// What the app's task waits for.
enum Task {
    Idle,
    /// The disk, which gets what came.
    Keeping {
        arrived: VecDeque<Delivery>,
        sends: Vec<Bytes>,
    },
    /// Room in the lanes.
    Room {
        waiting: VecDeque<Delivery>,
        sends: Vec<Bytes>,
        until: Time,
    },
}

pub(crate) struct App {
    pub(crate) number: usize,
    pub(crate) service: Service,
    pub(crate) outbox: Outbox,
    /// Where the last stream ended that the outbox knows of.
    cut: u64,
    deliveries: Deliveries,
    pub(crate) link: Link,
    task: Task,
    running: Vec<Running>,
    told: Mailbox,
    task_until: Time,
    writer_until: Time,
    expiry_at: Time,
    run: u32,
    pub(crate) used: Used,
    /// How often the checks themselves called the app.
    looks: Cell<u64>,
    /// The subscriptions with each contact, by the checks' own rules, and whether the store lags
    /// behind because it was at fault.
    relations: Vec<(Relation, bool)>,
    /// No more deliveries come in, until the app is closed.
    stopping: bool,
    /// The app does not answer before.
    pub(crate) down_until: Time,
    /// The outbox's numbers that the checks know already.
    seen: (u64, u64),
    /// What was restored, which passes whatever the bounds.
    surplus: (usize, usize),
}

/// Which stanza of a contact a delivery holds.
pub(crate) fn of_stanza(stanza: &Stanza) -> Option<(usize, usize, usize)> {
    stanza.id().and_then(contacts::of_id)
}

impl App {
    pub(crate) fn open(
        ctx: &mut Ctx,
        disk: &Arc<Disk>,
        disk_run: u64,
        number: usize,
        run: u32,
    ) -> Option<Self> {
        let mut config = ServiceConfig::new("bot", &contacts::domain(number)).ok()?;
        config.id_prefix = format!("i{run}-");
        config.pace = Pace {
            probes_per_second: 100,
            patience: duration(2 * SEC),
            refresh: Some(duration(10 * SEC)),
        };
        let mut quotas = Quotas::default();
        if let Some(limit) = ctx.profile.quota_recipients {
            quotas = quotas.with(Resource::RecipientsMessaged, limit);
        }
        if let Some(limit) = ctx.profile.quota_invitations {
            quotas = quotas.with(Resource::InvitationsSent, limit);
        }
        config.quotas = quotas;
        let service = match Service::new(config, Box::new(Handle::new(disk, disk_run))) {
            Ok(service) => service,
            Err(error) => {
                ctx.violated(|| format!("the store cannot be opened: {error}"));
                return None;
            }
        };
        let used = disk.used(&contacts::domain(number), ctx.utc());
        service.set_utc(ctx.utc());
        let profile = ctx.profile.clone();
        let limits = LaneLimits {
            deliveries: profile.lane_deliveries,
            per_sender: profile.lane_per_sender,
            ..LaneLimits::default()
        };
        let retry = Retry {
            first: duration(200 * MS),
            longest: duration(5 * SEC),
            deadline: duration(20 * SEC),
        };
        let mut deliveries = if profile.durable {
            Deliveries::Inbox(Inbox::new(limits, retry))
        } else {
            Deliveries::Lanes(Lanes::new(limits))
        };
        if let Deliveries::Inbox(inbox) = &mut deliveries {
            // A store that does not take the number of the run ends the start.
            let restored = service.restore_deliveries().ok()?;
            restored.into_iter().for_each(|delivery| inbox.restore(ctx.now(), delivery));
        }
        let mut outbox = Outbox::new(OutboxLimits {
            stanzas: profile.outbox_stanzas,
            bytes: profile.outbox_bytes,
            expiry: duration(profile.expiry),
        });
        let (rows, done) = service.take_outbox();
        outbox.restore(rows, done);
        let (own, contacts) = (contacts::own(number), ctx.profile.contacts);
        let kept = |contact| disk.subscription(&own, &contacts::address(contact));
        let relations = (0..contacts).map(|it| (Relation::of(kept(it)), false)).collect();
        let waiting = match &deliveries {
            Deliveries::Inbox(inbox) => inbox.len(),
            Deliveries::Lanes(_) => 0,
        };
        let stats = outbox.stats();
        ctx.saw(Rare::RestoredMessage, stats.waiting as u64);
        ctx.saw(Rare::RestoredDelivery, waiting as u64);
        ctx.say(|| format!("app {number} opens: {} to send, {waiting} to deliver", stats.waiting));
        Some(Self {
            number,
            surplus: (stats.waiting, waiting),
            service,
            outbox,
            cut: 0,
            deliveries,
            link: Link::new(number, ctx.now + ctx.rng.below(50 * MS)),
            task: Task::Idle,
            running: Vec::new(),
            told: Mailbox::default(),
            task_until: 0,
            writer_until: 0,
            expiry_at: ctx.now,
            run,
            used,
            looks: Cell::new(0),
            relations,
            stopping: false,
            down_until: 0,
            seen: (0, 0),
        })
    }

    /// Runs each part of the app once, in any order; says whether anything moved.
    pub(crate) fn step(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk) -> bool {
        let mut moved = self.hear_disk(ctx);
        let first = ctx.rng.index(3);
        for part in 0..3 {
            if disk.has_crashed() {
                return false;
            }
            moved |= match (first + part) % 3 {
                0 => self.link.drive(ctx, server, self.run),
                1 => self.step_task(ctx, server, disk),
                _ => self.step_writer(ctx, server),
            };
        }
        moved |= self.step_handlers(ctx, server, disk);
        self.check_bounds(ctx);
        moved
    }

    /// When something is due without anything happening before.
    pub(crate) fn next_timeout(&self, ctx: &Ctx) -> Time {
        let mut due = self.link.next_timeout();
        if self.link.is_ready() && self.link.has_room(ctx) && matches!(self.task, Task::Idle) {
            let rounds = self.service.poll_timeout().map_or(NEVER, time);
            due = due.min(rounds.max(self.task_until));
        }
        if let Task::Room { until, .. } = &self.task {
            due = due.min((*until).max(self.task_until));
        }
        for running in &self.running {
            due = due.min(running.until);
        }
        if let Deliveries::Inbox(inbox) = &self.deliveries
            && self.running.len() < ctx.profile.workers
        {
            due = due.min(inbox.poll_timeout().map_or(NEVER, time));
        }
        for until in [self.task_until, self.writer_until] {
            if until > ctx.now {
                due = due.min(until);
            }
        }
        if !self.outbox.is_empty() {
            due = due.min(self.expiry_at.max(self.writer_until));
        }
        due
    }

    /// The service learns what time it is; with a new day its quotas begin anew.
    pub(crate) fn tell_time(&mut self, ctx: &mut Ctx) -> std::time::Duration {
        let utc = ctx.utc();
        self.service.set_utc(utc);
        self.used.at(utc);
        utc
    }

    fn lags(ctx: &mut Ctx) -> Option<Time> {
        ctx.strikes(ctx.profile.lag).then(|| ctx.now + ctx.rng.below(300 * MS))
    }

    fn hear_disk(&mut self, ctx: &mut Ctx) -> bool {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let moved = !told.is_empty();
        for told in told {
            match told {
                Told::Put(accepted, messages, stored) => {
                    if stored {
                        self.outbox.stored(&accepted);
                    } else {
                        self.outbox.not_stored(&accepted);
                    }
                    for message in messages {
                        let message = &mut ctx.oracle.messages[message];
                        (message.promised, message.denied) = (stored, !stored);
                    }
                }
                Told::Kept(stored) => self.kept(ctx, stored),
            }
        }
        moved
    }

    // ---- The outbox (net/app/durable.rs)

    /// Stores what a call sends.
    pub(crate) fn keep(
        &mut self,
        ctx: &mut Ctx,
        sending: &appxmpp::service::Sending,
        messages: &[usize],
    ) {
        let utc = ctx.utc();
        let before = self.outbox.stats();
        let accepted = self.outbox.accept(utc, &sending.stanzas);
        let row = self.outbox.row(utc, &accepted, &sending.stanzas);
        let count = accepted.len();
        let room = ctx.profile.outbox_stanzas.saturating_sub(before.waiting);
        if count > room.min(sending.stanzas.len()) {
            ctx.violated(|| format!("the outbox took {count} where there was room for {room}"));
        }
        ctx.saw(Rare::OutboxFull, (messages.len() - count) as u64);
        for refused in &messages[count..] {
            ctx.oracle.messages[*refused].denied = true;
        }
        if count == 0 {
            return;
        }
        let (told, messages) = (Arc::clone(&self.told), messages[..count].to_vec());
        let done = move |stored: appxmpp::Result<()>| {
            let news = Told::Put(accepted, messages, stored.is_ok());
            told.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        };
        let change = Change::OutboxPut(Arc::clone(self.service.queue()), row);
        self.service.submit(vec![change], Box::new(done));
    }

    fn step_writer(&mut self, ctx: &mut Ctx, server: &mut Server) -> bool {
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
            self.forget(up_to);
        }
        let mut moved = false;
        while self.outbox.has_next() {
            let batch: Vec<Bytes> = self
                .outbox
                .next_batch(BATCH_BYTES)
                .map(|(head, tail)| [&head[..], &tail[..]].concat().into())
                .collect();
            match self.link.submit(ctx, server, &batch, Some(self.cut)) {
                Submitted::Taken(position, _) => self.outbox.written(batch.len(), position),
                Submitted::Full | Submitted::NotReady => break,
            }
            moved = true;
        }
        moved
    }

    fn forget(&mut self, up_to: Option<u64>) {
        if let Some(up_to) = up_to {
            let change = Change::OutboxDone(Arc::clone(self.service.queue()), up_to);
            let _ = self.service.keep(vec![change], Durability::Soon);
        }
    }

    // ---- The task (net/app/task.rs)

    fn step_task(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk) -> bool {
        if self.task_until > ctx.now {
            return false;
        }
        match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Idle => {}
            Task::Room { waiting, sends, until } => {
                self.deliver(ctx, server, waiting, sends, until);
                return matches!(self.task, Task::Idle);
            }
            keeping @ Task::Keeping { .. } => {
                self.task = keeping;
                return false;
            }
        }
        if let Some(until) = Self::lags(ctx) {
            self.task_until = until;
            return false;
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
        due
    }

    fn take(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk) {
        let utc = self.tell_time(ctx);
        let count = self.link.events.len().min(EVENTS);
        let events: Vec<Event> = self.link.events.drain(..count).collect();
        let mut sends = Vec::new();
        let mut arrived = VecDeque::new();
        for event in events {
            match event {
                Event::Stanza { conn, stanza } => {
                    let at = of_stanza(&stanza).filter(|(_, app, _)| *app == self.number);
                    if let Some((contact, app, number)) = at {
                        oracle::received(ctx, app, (contact, number), self.run, conn);
                    }
                    let inbound = self.handle_stanza(ctx, disk, utc, stanza);
                    sends.extend(inbound.sends);
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
                    self.forget(up_to);
                }
            }
        }
        if disk.has_crashed() {
            return;
        }
        if ctx.profile.durable && !arrived.is_empty() {
            let changes = arrived.iter().map(|it| self.service.keep_delivery(it)).collect();
            let told = Arc::clone(&self.told);
            let done = move |stored: appxmpp::Result<()>| {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(Told::Kept(stored.is_ok()));
            };
            self.service.submit(changes, Box::new(done));
            self.task = Task::Keeping { arrived, sends };
        } else {
            self.deliver(ctx, server, arrived, sends, ctx.now + ROOM_TIMEOUT);
        }
    }

    /// The service gets a stanza; what it does with a subscription is compared with RFC 6121.
    fn handle_stanza(
        &mut self,
        ctx: &mut Ctx,
        disk: &Disk,
        utc: std::time::Duration,
        stanza: Stanza,
    ) -> appxmpp::service::Inbound {
        let verb = stanza.type_().and_then(Verb::parse);
        let contact = of_stanza(&stanza).map(|(contact, ..)| contact);
        let (verb, contact) = match (stanza.kind(), verb, contact) {
            (StanzaKind::Presence, Some(verb), Some(contact)) => (verb, contact),
            _ => return self.service.handle_stanza(utc, stanza),
        };
        let before = self.relations[contact].0;
        let mut after = before;
        let mut says = after.app_hears(verb);
        let faults = disk.faults();
        let inbound = self.service.handle_stanza(utc, stanza);
        if disk.has_crashed() {
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

    /// The subscriptions with a contact should be `after`, also in the store.
    pub(crate) fn changed(
        &mut self,
        ctx: &mut Ctx,
        disk: &Disk,
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
    pub(crate) fn relation(&self, contact: usize) -> Relation {
        self.relations[contact].0
    }

    /// The disk has what came, or has not.
    fn kept(&mut self, ctx: &mut Ctx, stored: bool) {
        if let Task::Keeping { arrived, .. } = &self.task {
            for delivery in arrived.iter().filter(|_| stored) {
                if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
                    ctx.oracle.pairs[app][contact].inbound[number].stored = true;
                }
            }
        }
        let task = std::mem::replace(&mut self.task, Task::Idle);
        let Task::Keeping { mut arrived, mut sends } = task else { return };
        if !stored {
            self.refuse_unstored(ctx, &mut arrived, &mut sends);
        }
        self.task = Task::Room { waiting: arrived, sends, until: ctx.now + ROOM_TIMEOUT };
    }

    /// What a crash would lose is not taken: its sender is told, where one tells senders.
    fn refuse_unstored(
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

    fn push(&mut self, ctx: &Ctx, delivery: Delivery) -> Result<(), Box<Delivery>> {
        if self.stopping {
            return Err(Box::new(delivery));
        }
        match &mut self.deliveries {
            Deliveries::Lanes(lanes) => lanes.push(delivery),
            Deliveries::Inbox(inbox) => inbox.push(ctx.now(), delivery),
        }
    }

    fn waiting(&self) -> usize {
        match &self.deliveries {
            Deliveries::Lanes(lanes) => lanes.len(),
            Deliveries::Inbox(inbox) => inbox.len(),
        }
    }

    fn deliver(
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
    fn refuse(&mut self, ctx: &mut Ctx, delivery: &Delivery, sends: &mut Vec<Bytes>) {
        ctx.note(5);
        ctx.saw(Rare::NoRoom, 1);
        self.note_refused(ctx, delivery);
        sends.extend(self.service.refuse(delivery, Condition::ResourceConstraint));
        if ctx.profile.durable {
            self.service.forget_delivery(delivery.id);
        }
    }

    fn note_refused(&self, ctx: &mut Ctx, delivery: &Delivery) {
        if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
            ctx.say(|| format!("app {app}: k{contact}-{app}-{number} is refused"));
            ctx.oracle.pairs[app][contact].inbound[number].refused = self.run;
        }
    }

    /// Writes answers. Those that the server does not take in time are counted by the product.
    pub(crate) fn write(&mut self, ctx: &mut Ctx, server: &mut Server, sends: &[Bytes]) {
        if sends.is_empty() {
            return;
        }
        if matches!(self.link.submit(ctx, server, sends, None), Submitted::Taken(..)) {
            return;
        }
        for xml in sends {
            let xml = String::from_utf8_lossy(xml);
            let at = oracle::attribute(&xml, "id").and_then(contacts::of_id);
            if let Some((contact, app, number)) = at {
                ctx.oracle.pairs[app][contact].inbound[number].excused = true;
            }
        }
    }

    // ---- The app's handlers

    fn step_handlers(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk) -> bool {
        let mut moved = false;
        while let Some(at) = self.running.iter().position(|it| it.until <= ctx.now) {
            if disk.has_crashed() {
                return false;
            }
            let running = self.running.remove(at);
            self.finish(ctx, server, disk, running);
            moved = true;
        }
        while self.running.len() < ctx.profile.workers {
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

    fn begin(&mut self, ctx: &mut Ctx, ticket: Ticket, delivery: Arc<Delivery>) {
        let again = match &self.deliveries {
            Deliveries::Inbox(inbox) => inbox.attempts(delivery.id) > 0,
            Deliveries::Lanes(_) => false,
        };
        ctx.note(delivery.id ^ 6);
        if let Some((contact, app, number)) = of_stanza(&delivery.stanza) {
            ctx.say(|| {
                format!(
                    "app {}: gets k{contact}-{app}-{number} as delivery {}",
                    self.number, delivery.id
                )
            });
            let apps = (self.number, app);
            oracle::delivered(ctx, apps, (contact, number), delivery.id, self.run, again);
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

    fn finish(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk, it: Running) {
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
            oracle::finished(ctx, app, (contact, number), verdict == Verdict::Done);
        }
        match verdict {
            Verdict::Done if ctx.profile.durable => self.service.forget_delivery(delivery.id),
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
                    let stored = inbound.stored;
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
    pub(crate) fn replay(&mut self, ctx: &mut Ctx, disk: &Disk) -> bool {
        let Deliveries::Inbox(inbox) = &mut self.deliveries else { return false };
        let dead = disk.dead_ids(&contacts::domain(self.number));
        let Some(id) = dead.first().copied() else { return false };
        ctx.say(|| format!("app {}: delivery {id} is replayed", self.number));
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
        inbox.restore(ctx.now(), delivery);
        true
    }

    // ---- Closing

    /// The app is to be closed: no more deliveries come in.
    pub(crate) fn stop(&mut self, ctx: &mut Ctx) {
        self.stopping = true;
        ctx.at(ctx.now, Ev::Tick);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.outbox.is_empty() && matches!(self.task, Task::Idle)
    }

    /// Says goodbye and closes the stream.
    pub(crate) fn say_goodbye(&mut self, ctx: &mut Ctx, server: &mut Server) {
        if let Deliveries::Lanes(lanes) = &mut self.deliveries {
            let mut left = lanes.drain();
            left.sort_by_key(|delivery| delivery.id);
            let mut sends = Vec::new();
            for delivery in left {
                self.note_refused(ctx, &delivery);
                sends.extend(self.service.refuse(&delivery, Condition::RecipientUnavailable));
            }
            self.write(ctx, server, &sends);
        }
        for pair in &mut ctx.oracle.pairs[self.number] {
            for inbound in pair.inbound.iter_mut().filter(|it| it.received == self.run) {
                // What was not taken from the stream's queue, or not stored, ends with the process.
                inbound.excused |= !inbound.stored;
            }
        }
        if self.link.is_ready() {
            self.service.handle_closing();
            while self.service.poll_timeout().is_some() && self.link.is_ready() {
                let sends = self.service.handle_timeout(ctx.now(), ROUND);
                self.write(ctx, server, &sends);
            }
        }
        self.service.keep_usage();
        self.link.begin_close(ctx);
    }

    // ---- Checks

    /// What the app shows of a contact.
    pub(crate) fn shows(&self, address: &str) -> Option<Show> {
        self.looks.set(self.looks.get() + 1);
        self.service.get_presence(&[address], None).ok()?.first()?.show
    }

    fn check_address(&self, ctx: &mut Ctx, delivery: &Delivery) {
        let own = contacts::domain(self.number);
        if delivery.stanza.to().is_none_or(|to| to.domainpart() != own) {
            let to = delivery.field("to").unwrap_or_default();
            ctx.violated(|| format!("what is addressed to {to} was taken by {own}"));
        }
    }

    /// The outbox's own counts of what it gave up.
    pub(crate) fn note_given_up(&mut self, ctx: &mut Ctx) {
        let stats = self.outbox.stats();
        ctx.oracle.expired += stats.expired - self.seen.0;
        ctx.oracle.poisonous += stats.poisonous - self.seen.1;
        self.seen = (stats.expired, stats.poisonous);
    }

    fn check_bounds(&mut self, ctx: &mut Ctx) {
        self.note_given_up(ctx);
        let stats = self.outbox.stats();
        let most = ctx.profile.outbox_stanzas.max(self.surplus.0);
        if stats.waiting > most {
            ctx.violated(|| format!("{} messages wait where {most} may", stats.waiting));
        }
        let waiting = self.waiting();
        let most = ctx.profile.lane_deliveries + self.surplus.1;
        if waiting > most {
            ctx.violated(|| format!("{waiting} deliveries wait where {most} may"));
        }
        let usage = self.service.usage();
        let mut used = self.used.counts;
        used[Resource::ApiCalls as usize] += self.looks.get();
        for (usage, counted) in usage.iter().zip(used) {
            if usage.used != counted {
                let (name, used) = (usage.resource.as_str(), usage.used);
                ctx.violated(|| format!("{name} is {used} and should be {counted}"));
            }
        }
    }

    /// At rest with a stream nothing waits.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.link.is_ready()
            && self.link.events.is_empty()
            && self.is_idle()
            && self.running.is_empty()
    }

    pub(crate) fn describe(&self) -> String {
        let stats = self.outbox.stats();
        let task = match &self.task {
            Task::Idle => "idle",
            Task::Keeping { .. } => "waiting for the disk",
            Task::Room { .. } => "waiting for room",
        };
        format!(
            "app {}: ready {}, {} to send ({} in flight), {} to deliver, {} running, task {task}",
            self.number,
            self.link.is_ready(),
            stats.waiting,
            stats.in_flight,
            self.waiting(),
            self.running.len(),
        )
    }
}
