//! One app: what `core/src/net/` does with the service, the outbox and the deliveries, one step at a
//! time.

mod checks;
mod handlers;
mod outbox;
mod task;
mod usage;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use appxmpp::service::outbox::Accepted;
use appxmpp::service::{
    Attempt, Delivery, Inbox, LaneLimits, Lanes, Outbox, OutboxLimits, Pace, Quotas, Resource,
    Retry, Service, ServiceConfig, Ticket,
};
use appxmpp::stanza::{Condition, Stanza};
use appxmpp::store::OutboxRow;
use bytes::Bytes;

use crate::contacts;
use crate::ctx::{Ctx, Ev, MS, NEVER, Rare, SEC, Time, duration, time};
use crate::disk::{Disk, Handle, Used};
use crate::link::Link;
use crate::roster::Relation;
use crate::server::Server;

pub(crate) use usage::Usage;

/// How long the server is kept waiting for room for a delivery.
const ROOM_TIMEOUT: Time = 5 * SEC;
/// How long an answer waits for room in the outgoing queue.
const ANSWER_TIMEOUT: Time = 10 * SEC;
/// How many events are taken at once.
const EVENTS: usize = 64;
const ROUND: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;

/// What the disk says when a change is on it, or is not.
#[derive(Debug)]
pub(crate) enum Told {
    Put(Vec<Accepted>, Vec<Item>, bool),
    Kept(bool),
    Forgotten(bool),
    /// The answer to this delivery, and that the delivery is done.
    Answered(Accepted, usize, u64, bool),
}

/// What is in the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Message(usize),
    /// Presence of the app's own accord, or an invitation, for this contact.
    Presence(usize),
    /// What the app's task says about subscriptions, all at once.
    Lasting,
}

/// Calls that the store gets at once, and what they send.
#[derive(Default)]
struct Gathering {
    rows: Vec<OutboxRow>,
    items: Vec<Item>,
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
    /// The disk, which gets what is to be said of subscriptions: `accepted` of it, and whether it did.
    Saying {
        arrived: VecDeque<Delivery>,
        sends: Vec<Bytes>,
        lasting: Vec<Bytes>,
        accepted: usize,
        stored: Option<bool>,
    },
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
    gathering: Gathering,
    /// The store has not answered yet.
    storing: bool,
    /// The disk has not said yet whether it has forgotten what is given up.
    giving_up: bool,
    /// Where the last stream ended that the outbox knows of.
    cut: u64,
    deliveries: Deliveries,
    pub(crate) link: Link,
    task: Task,
    /// Answers that wait for room, and so does the task.
    backlog: Vec<Bytes>,
    backlog_until: Time,
    running: Vec<Running>,
    told: Mailbox,
    task_until: Time,
    writer_until: Time,
    expiry_at: Time,
    run: u32,
    pub(crate) used: Used,
    keeping: usage::Keeping,
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
        Self::check_kept(ctx, disk, number);
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
            gathering: Gathering::default(),
            storing: false,
            giving_up: false,
            cut: 0,
            deliveries,
            link: Link::new(number, ctx.now + ctx.rng.below(50 * MS)),
            task: Task::Idle,
            backlog: Vec::new(),
            backlog_until: 0,
            running: Vec::new(),
            told: Mailbox::default(),
            task_until: 0,
            writer_until: 0,
            expiry_at: ctx.now,
            run,
            used,
            keeping: usage::Keeping::new(ctx.now),
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
        let mut due = self.link.next_timeout().min(self.task_due(ctx).max(self.task_until));
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

    fn task_due(&self, ctx: &Ctx) -> Time {
        match &self.task {
            _ if !self.backlog.is_empty() => self.backlog_until,
            Task::Idle if self.link.is_ready() && self.link.has_room(ctx) => {
                let rounds = self.service.poll_timeout().map_or(NEVER, time);
                rounds.min(self.keeping.next())
            }
            Task::Idle => self.keeping.next(),
            Task::Room { until, .. } => *until,
            Task::Saying { .. } | Task::Keeping { .. } => NEVER,
        }
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
                Told::Put(calls, items, stored) => self.put(ctx, &calls, &items, stored),
                Told::Kept(stored) => self.kept(ctx, stored),
                Told::Forgotten(stored) => self.given_up(stored),
                Told::Answered(accepted, message, delivery, stored) => {
                    self.answered(ctx, &accepted, message, delivery, stored);
                }
            }
        }
        moved
    }

    /// The app is to be closed: no more deliveries come in.
    pub(crate) fn stop(&mut self, ctx: &mut Ctx) {
        self.stopping = true;
        ctx.at(ctx.now, Ev::Tick);
    }

    pub(crate) fn is_idle(&self) -> bool {
        let is_idle = matches!(self.task, Task::Idle) && self.backlog.is_empty();
        is_idle && self.waiting() == 0 && self.outbox.is_empty()
    }

    /// Says goodbye and closes the stream.
    pub(crate) fn say_goodbye(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &Disk) {
        if !self.storing {
            self.give_up_gathered(ctx);
        }
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
        self.keep_usage(ctx, disk);
        self.link.begin_close(ctx);
    }
}
