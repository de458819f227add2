//! One app: what `core/src/net/` does with the service, the outbox and the deliveries, one step at a
//! time.

mod checks;
mod handlers;
mod opening;
mod outbox;
mod task;
mod together;
mod usage;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use appxmpp::service::outbox::Accepted;
use appxmpp::service::{Attempt, Delivery, Inbox, Lanes, Outbox, Service, Ticket};
use appxmpp::stanza::{Condition, Stanza};
use appxmpp::store::{Behind, OutboxRow, Placed, Turn};
use bytes::Bytes;

use crate::contacts;
use crate::ctx::{Ctx, Ev, MS, NEVER, SEC, Time, time};
use crate::database::UNKNOWN;
use crate::disk::{Disk, Used};
use crate::link::Link;
use crate::oracle::Message;
use crate::roster::Relation;
use crate::server::Server;

use together::{Adoption, Together};
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
    Put(Vec<Accepted>, Vec<Item>, Outcome),
    Kept(Outcome),
    Forgotten(bool),
    /// The answer to this delivery, and that the delivery is done.
    Answered(Accepted, usize, u64, Outcome),
    /// What another process left.
    Adopted(Vec<Accepted>, Outcome),
}

/// What became of changes.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored(Placed),
    NotStored,
    /// They may be there or not.
    Unknown,
}

impl Outcome {
    fn of(stored: appxmpp::Result<Placed>) -> Self {
        match stored {
            Ok(placed) => Self::Stored(placed),
            Err(error) if error.to_string().contains(UNKNOWN) => Self::Unknown,
            Err(_) => Self::NotStored,
        }
    }

    fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// Notes what whoever sent a message is told.
    fn note(&self, message: &mut Message) {
        message.promised = self.is_stored();
        message.denied = matches!(self, Self::NotStored);
    }
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
    /// The database, which is asked whose turn it is, until then.
    Asking {
        until: Time,
        waiting: Vec<Turn>,
        behind: appxmpp::Result<Vec<Behind>>,
    },
    /// What a process left that is gone is taken over.
    Adopting(Adoption),
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
    /// What only processes have that share a database.
    together: Together,
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
    /// Runs each part of the app once, in any order; says whether anything moved.
    pub(crate) fn step(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &dyn Disk) -> bool {
        let mut moved = self.hear_disk(ctx);
        let first = ctx.rng.index(3);
        for part in 0..3 {
            if disk.has_crashed() {
                return false;
            }
            moved |= match (first + part) % 3 {
                0 => self.link.drive(ctx, server, &self.service, self.run),
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
            && self.service.holds()
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
        due.min(self.together_due().max(self.writer_until))
    }

    fn task_due(&self, ctx: &Ctx) -> Time {
        match &self.task {
            _ if !self.backlog.is_empty() => self.backlog_until,
            Task::Idle if self.service.is_evicted() => NEVER,
            Task::Idle if self.link.is_ready() && self.link.has_room(ctx) => {
                let rounds = self.service.poll_timeout().map_or(NEVER, time);
                rounds.min(self.keeping.next()).min(self.turn_due())
            }
            Task::Idle => self.keeping.next().min(self.turn_due()),
            Task::Asking { until, .. } => *until,
            Task::Adopting(adoption) => adoption.due(),
            Task::Room { until, .. } => self.turn_due().min(*until),
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
                Told::Put(calls, items, stored) => self.put(ctx, &calls, &items, &stored),
                Told::Kept(stored) => self.kept(ctx, &stored),
                Told::Adopted(calls, stored) => self.adopted(ctx, &calls, &stored),
                Told::Forgotten(stored) => self.given_up(stored),
                Told::Answered(accepted, message, delivery, stored) => {
                    self.answered(ctx, &accepted, message, delivery, &stored);
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

    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    fn has_no_work(&self) -> bool {
        let is_idle = matches!(self.task, Task::Idle) && self.backlog.is_empty();
        is_idle && self.waiting() == 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.has_no_work() && self.outbox.is_empty()
    }

    /// Says goodbye and closes the stream.
    pub(crate) fn say_goodbye(&mut self, ctx: &mut Ctx, server: &mut Server, disk: &dyn Disk) {
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
